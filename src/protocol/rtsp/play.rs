//! Playing: `DESCRIBE`, `SETUP`, `PLAY`, `PAUSE` and `TEARDOWN` of a viewer, and what comes back from it.
//!
//! RFC 2326 §10.2, §10.4 to §10.7, §12.29 (`Range`), §12.33 (`RTP-Info`), appendix C.1. The video track has the control `trackID=0`,
//! the audio track `trackID=1`. All tracks travel alike: between the messages of the connection, or as datagrams. What a viewer is
//! sent is made by `format::rtp`; the stream may be absent when it is asked for, and the shard waits for it.
//!
//! Limits: a stream and two tracks per connection. Not here: seeking, which a live stream has no use for.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::message::{Request, Response, Status};
use super::path::{self, Pair, Path};
use super::requests::Answer;
use super::session::{Role, RtspSession, Wait, Whose};
use super::transport::{self, Kind, Lower, Offer, PortPair};
use super::url::Url;
use crate::format::Format;
use crate::format::rtp::{Channels, RtpCarriage, RtpPoint, RtpStart, payload};
use crate::media::{Stamp, TrackKind, Tracks};
use crate::protocol::common::auth::Right;
use crate::protocol::common::sdp;
use crate::protocol::common::source::Sender;
use crate::session::{Delivery, Group, Output, PairId, PlayRequest, StreamKey};

/// What a stream was made of when it was described.
pub(super) struct Offered {
    key: StreamKey,
    video: bool,
    audio: bool,
}

impl Offered {
    fn has(&self, kind: TrackKind) -> bool {
        match kind {
            TrackKind::Video => self.video,
            TrackKind::Audio => self.audio,
            TrackKind::Data => false,
        }
    }

    /// The track that a URL names; without a number the only one.
    fn track(&self, number: Option<Option<u8>>) -> Result<TrackKind, Status> {
        let kind = match number {
            Some(Some(0)) => TrackKind::Video,
            Some(Some(1)) => TrackKind::Audio,
            Some(_) => return Err(Status::NotFound),
            None if self.video && self.audio => return Err(Status::AggregateNotAllowed),
            None if self.video => TrackKind::Video,
            None => TrackKind::Audio,
        };
        if self.has(kind) { Ok(kind) } else { Err(Status::NotFound) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Playing,
    Paused,
}

/// A viewer, from its first `SETUP` on.
pub(super) struct Player {
    key: StreamKey,
    state: State,
    video: Option<Path>,
    audio: Option<Path>,
}

impl Player {
    fn path_mut(&mut self, kind: TrackKind) -> &mut Option<Path> {
        if kind == TrackKind::Video { &mut self.video } else { &mut self.audio }
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        self.video.iter().chain(&self.audio)
    }

    fn pairs_mut(&mut self) -> impl Iterator<Item = &mut Pair> {
        self.video.iter_mut().chain(&mut self.audio).filter_map(Path::pair_mut)
    }

    fn path(&self, kind: TrackKind) -> Option<&Path> {
        if kind == TrackKind::Video { self.video.as_ref() } else { self.audio.as_ref() }
    }

    /// Whether the connection itself shows that the viewer lives. Of a group's member it shows nothing, and what members report is said
    /// to the group.
    pub fn takes_stream(&self) -> bool {
        self.state == State::Playing && self.paths().any(|path| path.kind() == Kind::Tcp)
    }

    fn group(&self) -> Option<Group> {
        self.paths().find_map(|path| if let Path::Group(group) = path { Some(*group) } else { None })
    }

    pub fn has_channel(&self, channel: u8) -> bool {
        self.paths().filter_map(Path::channels).any(|channels| channels.rtp == channel || channels.rtcp == channel)
    }

    pub fn set_pair(&mut self, kind: TrackKind, pair: PairId, address: IpAddr, client: PortPair) {
        *self.path_mut(kind) = Some(Path::Pair(Pair::new(pair, address, client)));
    }

    /// Gives up how a track travels. The last track of a group leaves it.
    fn free_path(&mut self, kind: TrackKind, out: &mut Vec<Output>) {
        let path = self.path_mut(kind).take();
        if matches!(path, Some(Path::Group(_))) && self.group().is_none() {
            out.push(Output::LeaveGroup);
        }
        path::close(path, out);
    }

    /// A datagram from the viewer's IP address: a report, or a small one that opens the way. `false`: not of this session.
    pub fn datagram(
        &mut self,
        now: Stamp,
        pair: PairId,
        rtcp: bool,
        from: SocketAddr,
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) -> bool {
        let is_ready = self.state == State::Ready;
        let Some(own) = self.pairs_mut().find(|own| own.id == pair) else { return false };
        // Others may share the viewer's address, behind a NAT. A report says whose it is; what opens the way for RTP does not.
        let ssrc = if rtcp { path::ssrc(bytes, rtcp) } else { None };
        let trusted = ssrc.is_some() && ssrc == own.reporter;
        if own.datagram(now, rtcp, from, trusted) == Sender::Stranger {
            return false;
        }
        own.reporter = ssrc.or(own.reporter);
        if !is_ready {
            redirect(own, out);
        }
        true
    }

    /// The channels of a track: those that the client wishes if they are two and free, else the first free ones.
    fn free_channels(&self, kind: TrackKind, wish: Option<Channels>) -> Option<Channels> {
        let other = if kind == TrackKind::Video { &self.audio } else { &self.video };
        let taken: Vec<Channels> = other.iter().filter_map(Path::channels).collect();
        let is_good = |wish: &Channels| wish.rtp != wish.rtcp && path::are_free(&taken, *wish);
        wish.filter(is_good).or_else(|| path::free_channels(&taken))
    }

    /// How the shard is to send; the name under which the viewer is counted.
    fn carriage(&self) -> (RtpCarriage, Delivery, &'static str) {
        let channels = |path: &Option<Path>| path.as_ref().and_then(Path::channels);
        let target = |path: &Option<Path>| path.as_ref().and_then(Path::pair).map(Pair::target);
        if self.paths().any(|path| path.kind() == Kind::Tcp) {
            let carriage = RtpCarriage::Interleaved { video: channels(&self.video), audio: channels(&self.audio) };
            (carriage, Delivery::Connection, "rtsp-tcp")
        } else {
            let delivery = Delivery::Datagrams { video: target(&self.video), audio: target(&self.audio) };
            (RtpCarriage::Datagrams, delivery, "rtsp-udp")
        }
    }
}

fn redirect(pair: &mut Pair, out: &mut Vec<Output>) {
    if std::mem::take(&mut pair.moved) {
        out.push(Output::Redirect(pair.target()));
    }
}

impl RtspSession {
    pub(super) fn describe(&mut self, now: Stamp, request: &Request, out: &mut Vec<Output>) -> Result<Answer, Response> {
        let key = Url::parse(&request.url)?.key()?;
        self.authorize(now, request, Right::Play, &key, out)?;
        let takes_sdp = |accept: &str| ["application/sdp", "application/*", "*/*"].iter().any(|kind| accept.contains(kind));
        if request.header("Accept").is_some_and(|accept| !takes_sdp(&accept.to_ascii_lowercase())) {
            return Err(Status::NotAcceptable.into());
        }
        Ok(ask(key, request, out))
    }

    /// The shard has said what the stream consists of.
    pub(super) fn described(
        &mut self,
        now: Stamp,
        key: StreamKey,
        tracks: &Tracks,
        request: &Request,
        out: &mut Vec<Output>,
    ) -> Result<Answer, Response> {
        let has = |kind| tracks.first(kind).is_some_and(|track| payload::outgoing(track).is_some());
        let name = key.name().to_owned();
        self.offered = Some(Offered { key, video: has(TrackKind::Video), audio: has(TrackKind::Audio) });
        if request.method == "SETUP" {
            return self.setup_track(now, request, out);
        }
        let url = Url::parse(&request.url)?;
        // The address at which the client has reached us, if it says so.
        let origin = url.host().parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let text = sdp::write(tracks, &name, origin).ok_or(Status::UnsupportedMediaType)?;
        let base = format!("{}/", url.text());
        Ok(Answer::Reply(Response::ok().header("Content-Base", &base).body("application/sdp", text)))
    }

    pub(super) fn setup_track(&mut self, now: Stamp, request: &Request, out: &mut Vec<Output>) -> Result<Answer, Response> {
        let mut url = Url::parse(&request.url)?;
        let number = url.cut_track();
        let key = url.key()?;
        self.authorize(now, request, Right::Play, &key, out)?;
        if transport::parse(request.header("Transport").unwrap_or_default()).next().is_some_and(|offer| offer.record) {
            return Err(Status::NotValidInThisState.into());
        }
        if let Role::Play(player) = &self.role
            && player.key != key
            && request.header("Session").is_some()
        {
            // A session has one stream (RFC 2326 §10.4).
            return Err(Status::AggregateNotAllowed.into());
        }
        let kind = match &self.offered {
            Some(offered) if offered.key == key => offered.track(number)?,
            _ => return Ok(ask(key, request, out)),
        };
        let offer = self.join(request, &key, kind, out)?;
        let Role::Play(player) = &mut self.role else { return Err(Status::NotValidInThisState.into()) };
        match offer.lower {
            Lower::Interleaved(wish) => {
                let channels = player.free_channels(kind, wish).ok_or(Status::UnsupportedTransport)?;
                player.free_path(kind, out);
                *player.path_mut(kind) = Some(Path::Channels(channels));
                Ok(Answer::Reply(self.set_up(&offer.write_interleaved(channels))))
            }
            Lower::Unicast(client) => {
                player.free_path(kind, out);
                let used: Vec<PairId> = player.paths().filter_map(Path::pair).map(|pair| pair.id).collect();
                let pair = self.open_pair(&used, out);
                Ok(Answer::Wait(Wait::Pair { pair, offer, client, whose: Whose::Track(kind) }))
            }
            Lower::Multicast => match player.group() {
                Some(group) => Ok(self.group_joined(group, &offer, kind)),
                None => {
                    player.free_path(kind, out);
                    let (format, protocol) = (Format::Rtp(RtpCarriage::Datagrams), "rtsp-multicast");
                    out.push(Output::JoinGroup { key, format, protocol });
                    Ok(Answer::Wait(Wait::Group { offer, kind }))
                }
            },
        }
    }

    /// The stream goes to this group: the answer to a `SETUP`.
    pub(super) fn group_joined(&mut self, group: Group, offer: &Offer, kind: TrackKind) -> Answer {
        if let Role::Play(player) = &mut self.role {
            *player.path_mut(kind) = Some(Path::Group(group));
        }
        let port = if kind == TrackKind::Video { group.video_port } else { group.audio_port };
        Answer::Reply(self.set_up(&offer.write_multicast(group.address, PortPair { rtp: port, rtcp: port + 1 }, group.ttl)))
    }

    /// Chooses the transport of a track, and makes the session or finds that there is one. Clients that fall back from UDP to TCP
    /// forget their session and set the same tracks up anew: then the old session ends.
    fn join(&mut self, request: &Request, key: &StreamKey, kind: TrackKind, out: &mut Vec<Output>) -> Result<Offer, Response> {
        let only = self.only_transport();
        if let Role::Play(player) = &mut self.role {
            if player.state == State::Playing {
                return Err(Status::NotValidInThisState.into());
            }
            let others = [TrackKind::Video, TrackKind::Audio].into_iter().filter(|other| *other != kind);
            let transport = others.filter_map(|other| player.path(other)).map(Path::kind).next();
            let offer = Self::choose(request, transport.or(only));
            let knows_session = request.header("Session").is_some();
            match offer {
                Some(offer) if knows_session || (player.path(kind).is_none() && player.key == *key) => {
                    if std::mem::replace(&mut player.state, State::Ready) == State::Paused && player.group().is_none() {
                        // The tracks of a subscription do not change; the next PLAY makes another one.
                        out.push(Output::Stop);
                    }
                    return Ok(offer);
                }
                None if knows_session => return Err(Status::UnsupportedTransport.into()),
                _ => {}
            }
        }
        let offer = Self::choose(request, only).ok_or(Status::UnsupportedTransport)?;
        self.end_player(out);
        let player = Player { key: key.clone(), state: State::Ready, video: None, audio: None };
        self.role = Role::Play(Box::new(player));
        Ok(offer)
    }

    fn end_player(&mut self, out: &mut Vec<Output>) {
        let Role::Play(player) = std::mem::replace(&mut self.role, Role::None) else { return };
        self.id = None;
        // What had ended was that session's stream.
        self.close_at = None;
        if player.group().is_some() {
            out.push(Output::LeaveGroup);
        } else if player.state != State::Ready {
            out.push(Output::Stop);
        }
        path::close(player.video, out);
        path::close(player.audio, out);
    }

    /// The viewer that a request is for, and the track if it names one.
    fn viewer(&mut self, url: &mut Url) -> Result<(&mut Player, Option<TrackKind>), Response> {
        let Role::Play(player) = &mut self.role else { return Err(Status::NotValidInThisState.into()) };
        let number = url.cut_track();
        if url.key()? != player.key {
            return Err(Status::NotFound.into());
        }
        let kind = match number {
            None => return Ok((player, None)),
            Some(Some(0)) => TrackKind::Video,
            Some(Some(1)) => TrackKind::Audio,
            Some(_) => return Err(Status::NotFound.into()),
        };
        if player.path(kind).is_none() {
            return Err(Status::NotFound.into());
        }
        Ok((player, Some(kind)))
    }

    /// As [`Self::viewer`], for what can only be done with all tracks together.
    fn whole_viewer(&mut self, url: &mut Url) -> Result<&mut Player, Response> {
        let (player, track) = self.viewer(url)?;
        if track.is_some() && player.paths().count() > 1 {
            return Err(Status::OnlyAggregateAllowed.into());
        }
        Ok(player)
    }

    pub(super) fn play(&mut self, now: Stamp, request: &Request, out: &mut Vec<Output>) -> Result<Answer, Response> {
        let mut url = Url::parse(&request.url)?;
        let key = self.whole_viewer(&mut url)?.key.clone();
        self.authorize(now, request, Right::Play, &key, out)?;
        let Role::Play(player) = &mut self.role else { return Err(Status::NotValidInThisState.into()) };
        let response = play_response(request);
        match player.state {
            State::Ready if player.paths().next().is_none() => Err(Status::NotValidInThisState.into()),
            // The group has been sent the stream since it was joined.
            State::Ready | State::Paused if player.group().is_some() => {
                player.state = State::Playing;
                Ok(Answer::Reply(response))
            }
            State::Ready => {
                let (carriage, delivery, protocol) = player.carriage();
                let start = url.query().start();
                out.push(Output::Play(PlayRequest { key, format: Format::Rtp(carriage), start, delivery, protocol }));
                // The addresses that go with the wish are the newest.
                player.pairs_mut().for_each(|pair| pair.moved = false);
                Ok(Answer::Wait(Wait::Playing { response, base: url.text() }))
            }
            State::Paused => {
                player.state = State::Playing;
                out.push(Output::Pause(false));
                Ok(Answer::Reply(response))
            }
            State::Playing => Ok(Answer::Reply(response)),
        }
    }

    /// The shard sends the stream behind this answer.
    pub(super) fn playing(&mut self, start: Option<RtpStart>, response: Response, base: &str, out: &mut Vec<Output>) -> Response {
        let Role::Play(player) = &mut self.role else { return response };
        player.state = State::Playing;
        player.pairs_mut().for_each(|pair| redirect(pair, out));
        let Some(start) = start else { return response };
        let info = |path: &Option<Path>, point: Option<RtpPoint>, number: u8| {
            let RtpPoint { sequence, timestamp } = path.as_ref().and(point)?;
            Some(format!("url={base}/trackID={number};seq={sequence};rtptime={timestamp}"))
        };
        let tracks = [info(&player.video, start.video, 0), info(&player.audio, start.audio, 1)];
        let tracks: Vec<String> = tracks.into_iter().flatten().collect();
        if tracks.is_empty() { response } else { response.header("RTP-Info", &tracks.join(",")) }
    }

    /// Not here: the pause of a publisher.
    pub(super) fn pause_viewer(&mut self, request: &Request, out: &mut Vec<Output>) -> Result<Answer, Response> {
        let player = self.whole_viewer(&mut Url::parse(&request.url)?)?;
        match player.state {
            State::Ready => return Err(Status::NotValidInThisState.into()),
            State::Playing => {
                player.state = State::Paused;
                // The others of a group go on.
                if player.group().is_none() {
                    out.push(Output::Pause(true));
                }
            }
            State::Paused => {}
        }
        Ok(Answer::Reply(Response::ok()))
    }

    /// `TEARDOWN` of the session or of one track; whether nothing is left.
    pub(super) fn leave(&mut self, request: &Request, out: &mut Vec<Output>) -> Result<bool, Response> {
        let mut url = Url::parse(&request.url)?;
        let (player, track) = self.viewer(&mut url)?;
        if let Some(kind) = track
            && player.paths().count() > 1
        {
            if player.state != State::Ready {
                return Err(Status::OnlyAggregateAllowed.into());
            }
            player.free_path(kind, out);
            return Ok(false);
        }
        self.end_player(out);
        Ok(true)
    }
}

/// Asks the shard what a stream consists of.
fn ask(key: StreamKey, request: &Request, out: &mut Vec<Output>) -> Answer {
    out.push(Output::Describe(key.clone()));
    let mut request = request.clone();
    // It says nothing, and would be kept while the stream is waited for.
    request.body = Vec::new();
    Answer::Wait(Wait::Described { key, request })
}

/// A live stream is played now and at its own speed, whatever was asked for. Who begins at zero is told its own words.
fn play_response(request: &Request) -> Response {
    let from_zero = request.header("Range").and_then(|range| range.trim().strip_prefix("npt=0"));
    let mut response = Response::ok().header("Range", if from_zero.is_some() { "npt=0.000-" } else { "npt=now-" });
    for name in ["Scale", "Speed"] {
        if request.header(name).is_some() {
            response = response.header(name, "1.0");
        }
    }
    response
}
