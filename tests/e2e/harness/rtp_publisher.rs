//! A publisher of our own over RTSP and UDP: sends a clip in real time through a [`BadNetwork`], and tells what became of each datagram
//! and each frame. Packets are made by the server's own muxer, one datagram each.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shardcast::format::rtp::mux::RtpMuxer;
use shardcast::format::rtp::{Flow, RtpCarriage};
use shardcast::format::{Muxer, MuxerContext, Packet};
use shardcast::media::{MediaEvent, Stamp, TrackKind, Tracks};
use shardcast::protocol::common::sdp;

use super::Server;
use super::bad_network::{BadNetwork, Counts, Sent};
use super::flv::{self, AUDIO, Tag, VIDEO};
use super::rtsp_client::RtspClient;

const MARKER: u8 = 0x80;
/// Nothing is lost or late before: viewers begin here, and so does the sequence.
const GOOD_UNTIL: Duration = Duration::from_millis(1_200);

/// One datagram of RTP or, where it belongs to no frame, of RTCP.
#[derive(Clone, Debug)]
struct Datagram {
    due: Duration,
    flow: usize,
    /// Its frame's place among all.
    frame: Option<usize>,
    bytes: Vec<u8>,
}

/// A frame and what became of it.
#[derive(Clone, Debug)]
pub struct SentFrame {
    pub kind: u8,
    pub key: bool,
    pub data: Vec<u8>,
    /// When the last of its datagrams went; `None`: not all that matter did.
    pub whole_at: Option<Instant>,
    /// One of its datagrams was lost.
    pub lost: bool,
    /// The datagram in front of its first one was lost, so that it is the first to wait.
    pub waits: bool,
}

/// What is sent: one video and one audio track.
pub struct Clip {
    tracks: Tracks,
    frames: Vec<SentFrame>,
    datagrams: Vec<Datagram>,
}

/// What was sent.
pub struct Report {
    pub frames: Vec<SentFrame>,
    pub counts: Counts,
    /// How long the server had to wait for a datagram that was overtaken, at most.
    pub wait_max: Duration,
}

impl Clip {
    /// `markers`: the last packet of a picture says so.
    pub fn new(tags: &[Tag], markers: bool) -> Clip {
        let (tracks, media) = flv::demux(tags);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let context = MuxerContext { epoch_nanos: now.as_nanos() as u64, seed: 1 };
        let mut muxer = RtpMuxer::new(RtpCarriage::Datagrams, context);
        let (mut out, mut frames, mut datagrams) = (Vec::new(), Vec::new(), Vec::new());
        muxer.push(&MediaEvent::Tracks(tracks.clone()), &mut out);
        let begin = media.iter().map(|frame| frame.dts.as_micros()).min().unwrap();
        for mut frame in media {
            let due = Duration::from_micros((frame.dts.as_micros() - begin) as u64);
            frame.arrival = Stamp::ZERO.after(due);
            muxer.push(&MediaEvent::Frame(frame.clone()), &mut out);
            for packet in out.drain(..) {
                put_datagrams(&packet, due, frames.len(), &mut datagrams);
            }
            if !markers && let Some(last) = datagrams.last_mut().filter(|last| last.flow == 0) {
                last.bytes[1] &= !MARKER;
            }
            let kind = if tracks.get(frame.track).unwrap().codec.kind() == TrackKind::Video { VIDEO } else { AUDIO };
            frames.push(SentFrame { kind, key: frame.key, data: frame.data.to_vec(), whole_at: None, lost: false, waits: false });
        }
        Clip { tracks, frames, datagrams }
    }

    /// Announces the stream and sends all of it in real time. The session stays: the caller ends it.
    #[track_caller]
    pub fn publish(mut self, server: &Server, key: &str, network: BadNetwork) -> (Publishing, Report) {
        let sockets = [0; 4].map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let mut client = RtspClient::connect(server.rtsp);
        let description = sdp::write(&self.tracks, "clip", IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        client.demand("ANNOUNCE", key, &["Content-Type: application/sdp"], &description);
        for (track, pair) in sockets.chunks(2).enumerate() {
            set_up(&mut client, server, &format!("{key}/trackID={track}"), pair);
        }
        client.demand("RECORD", key, &["Range: npt=0.000-"], "");
        let flows = self.send(&sockets, network);
        let total = |flow: usize| self.datagrams.iter().filter(|d| d.flow == flow && d.frame.is_some()).count();
        let counts = flows.iter().enumerate().map(|(flow, sent)| sent.counts(total(flow)));
        let counts = counts.fold(Counts::default(), std::ops::Add::add);
        let wait_max = flows.iter().map(Sent::wait_max).max().unwrap();
        self.judge(&flows);
        (Publishing { client, key: key.to_owned(), _sockets: sockets }, Report { frames: self.frames, counts, wait_max })
    }

    fn send(&self, sockets: &[UdpSocket; 4], network: BadNetwork) -> [Sent; 2] {
        let mut fates = [0, 1].map(|flow| BadNetwork { seed: network.seed ^ flow, ..network }.fates());
        let last = [0, 1].map(|flow| self.datagrams.iter().rposition(|d| d.flow == flow && d.frame.is_some()));
        let mut copies: Vec<(Duration, usize)> = Vec::new();
        for (at, datagram) in self.datagrams.iter().enumerate() {
            let fate = fates[datagram.flow]();
            // A loss shows when something comes behind it: the last one does.
            let is_spared = datagram.due < GOOD_UNTIL || datagram.frame.is_none() || last.contains(&Some(at));
            let delays = if is_spared { vec![Duration::ZERO] } else { fate };
            copies.extend(delays.into_iter().map(|delay| (datagram.due + delay, at)));
        }
        copies.sort();
        let (began, mut flows) = (Instant::now(), [Sent::default(), Sent::default()]);
        for (due, at) in copies {
            std::thread::sleep((began + due).saturating_duration_since(Instant::now()));
            let Datagram { flow, frame, bytes, .. } = &self.datagrams[at];
            sockets[flow * 2 + usize::from(frame.is_none())].send(bytes).unwrap();
            if frame.is_some() {
                flows[*flow].datagrams.push((at, Instant::now()));
            }
        }
        flows
    }

    /// Notes at each frame what became of it.
    fn judge(&mut self, flows: &[Sent; 2]) {
        let mut went: BTreeMap<usize, Instant> = BTreeMap::new();
        for (at, sent) in flows.iter().flat_map(|sent| &sent.datagrams) {
            went.entry(*at).or_insert(*sent);
        }
        let mut whole: Vec<Option<Instant>> = vec![Some(Instant::now()); self.frames.len()];
        let mut last: Vec<Option<Instant>> = vec![None; self.frames.len()];
        let mut is_lost = [false; 2];
        for (at, datagram) in self.datagrams.iter().enumerate() {
            let Some(frame) = datagram.frame else { continue };
            let was_lost = std::mem::replace(&mut is_lost[datagram.flow], !went.contains_key(&at));
            self.frames[frame].waits |= was_lost && last[frame].is_none() && !self.frames[frame].lost;
            match went.get(&at) {
                Some(sent) => last[frame] = last[frame].max(Some(*sent)),
                None => {
                    self.frames[frame].lost = true;
                    // Parameter sets alone are known already.
                    if !is_parameter_sets(datagram) {
                        whole[frame] = None;
                    }
                }
            }
        }
        for ((frame, whole), last) in self.frames.iter_mut().zip(whole).zip(last) {
            frame.whole_at = whole.and(last);
        }
    }
}

/// A session that still stands.
pub struct Publishing {
    client: RtspClient,
    key: String,
    _sockets: [UdpSocket; 4],
}

impl Publishing {
    #[track_caller]
    pub fn finish(mut self) {
        self.client.demand("TEARDOWN", &self.key, &[], "");
    }
}

fn put_datagrams(packet: &Packet, due: Duration, frame: usize, datagrams: &mut Vec<Datagram>) {
    let train = packet.train.unwrap();
    match train.flow {
        Flow::Media(kind) => {
            let flow = usize::from(kind != TrackKind::Video);
            let pieces = packet.parts[0].chunks(usize::from(train.datagram_bytes.get()));
            datagrams.extend(pieces.map(|piece| Datagram { due, flow, frame: Some(frame), bytes: piece.to_vec() }));
        }
        Flow::Reports => {
            let reports = packet.parts.iter().enumerate();
            datagrams.extend(reports.map(|(flow, report)| Datagram { due, flow, frame: None, bytes: report.to_vec() }));
        }
    }
}

/// An aggregate of nothing but H.264 parameter sets: STAP-A of the types 7 and 8.
fn is_parameter_sets(datagram: &Datagram) -> bool {
    let payload = &datagram.bytes[12..];
    if datagram.flow != 0 || payload[0] & 0x1F != 24 {
        return false;
    }
    let mut rest = &payload[1..];
    while let [high, low, header, ..] = rest {
        if !matches!(header & 0x1F, 7 | 8) {
            return false;
        }
        rest = &rest[2 + usize::from(u16::from_be_bytes([*high, *low]))..];
    }
    true
}

/// `pair`: for RTP and for RTCP, then connected to the server's.
#[track_caller]
fn set_up(client: &mut RtspClient, server: &Server, path: &str, pair: &[UdpSocket]) {
    let [rtp, rtcp] = [0, 1].map(|at: usize| pair[at].local_addr().unwrap().port());
    let transport = format!("Transport: RTP/AVP;unicast;client_port={rtp}-{rtcp};mode=record");
    let answer = client.demand("SETUP", path, &[&transport], "");
    let transport = answer.header("Transport").unwrap();
    let (_, ports) = transport.split_once("server_port=").expect("the server's ports");
    let (rtp, rest) = ports.split_once('-').unwrap();
    let rtcp = rest.split(';').next().unwrap();
    for (socket, port) in pair.iter().zip([rtp, rtcp]) {
        socket.connect(SocketAddr::new(server.rtsp.ip(), port.parse().unwrap())).unwrap();
    }
}
