//! Conversations as tables. What is said: the lines of a request without version, `CSeq` and the length of its body; `raw …`; or, behind
//! an exclamation mark, what the shard or the clock says. What comes back: responses in short form, and outputs in brackets.
//!
//! `flows.rs` holds what real clients send, `methods.rs` a row for each answer, `media.rs` what is carried between the requests.

mod flows;
mod media;
mod methods;

use std::net::SocketAddr;

use bytes::Bytes;

use super::requests::scramble;
use super::session::RtspSession;
use crate::config::{Auth, Config, Rights, User};
use crate::format::Format;
use crate::format::rtp::{RtpCarriage, RtpPoint, RtpStart};
use crate::media::{Codec, MediaEvent, Stamp, Track, TrackId, TrackShape, Tracks};
use crate::protocol::SessionContext;
use crate::session::{CloseReason, Delivery, Group, Input, Output, Refusal, Session, StreamKey};

const START: Stamp = Stamp::from_millis(1_000_000);
const PEER: &str = "10.0.0.9:40000";
const AVCC: &[u8] = include_bytes!("../../../tests/corpus/h264/avcc");

/// What was said, and what came back.
type Step = (&'static str, &'static str);

fn tracks(kinds: &str) -> Tracks {
    let mut tracks = Vec::new();
    for (kind, at) in kinds.chars().zip(0..) {
        let (codec, config, shape) = match kind {
            'v' => (Codec::H264, AVCC, TrackShape::Video { width: 640, height: 360, frames_per_second: 25.0 }),
            'a' => (Codec::Aac, &[0x12, 0x10][..], TrackShape::Audio { sample_rate: 44_100, channels: 2 }),
            _ => (Codec::Script, &[][..], TrackShape::Data),
        };
        tracks.push(Track { id: TrackId(at), codec, config: Bytes::from_static(config), shape });
    }
    Tracks::new(tracks, Bytes::new())
}

fn with_users() -> Config {
    let user = |name: &str, publish: &[&str], play: &[&str]| User {
        name: name.to_owned(),
        password: "secret".to_owned(),
        publish: publish.iter().map(|text| (*text).to_owned()).collect(),
        play: play.iter().map(|text| (*text).to_owned()).collect(),
    };
    let users = vec![user("ann", &["live/*"], &["live/*"]), user("bob", &[], &["live/*"])];
    let auth = Auth { users, anonymous: Rights { publish: vec![], play: vec!["open/*".to_owned()] }, ..Auth::default() };
    Config { auth, ..Config::default() }
}

/// A client and the shard.
struct Peer {
    session: RtspSession,
    now: Stamp,
    sequence: u32,
    outputs: Vec<Output>,
    failed: bool,
}

impl Peer {
    fn new(config: Config) -> Self {
        let context = SessionContext::lone(config, PEER.parse().unwrap());
        let session = RtspSession::new(&context, START);
        Peer { session, now: START, sequence: 0, outputs: Vec::new(), failed: false }
    }

    fn id(number: u64) -> String {
        format!("{:016X}", scramble(1 ^ number))
    }

    fn input(&mut self, input: Input<'_>) -> String {
        if self.failed {
            return "[gone]".to_owned();
        }
        let mut out = Vec::new();
        let result = self.session.handle(self.now, input, &mut out);
        let mut shown = show(&out);
        self.outputs = out;
        if let Err(error) = result {
            self.failed = true;
            shown.push_str(&format!("[error {}]", error.reason));
        }
        shown
    }

    /// The bytes of a request in short form.
    fn request(&mut self, text: &str) -> Vec<u8> {
        let text = text
            .replace("Session: ID2", &format!("Session: {}", Peer::id(2)))
            .replace("Session: ID", &format!("Session: {}", Peer::id(1)));
        if let Some(raw) = text.strip_prefix("raw ") {
            return raw.as_bytes().to_vec();
        }
        self.sequence += 1;
        let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
        let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
        let mut request = format!("{line} RTSP/1.0\nCSeq: {}\n", self.sequence);
        request.extend(headers.lines().flat_map(|header| [header, "\n"]));
        if !body.is_empty() {
            request.push_str(&format!("Content-Length: {}\n", body.len()));
        }
        format!("{request}\n{body}").into_bytes()
    }

    fn say(&mut self, text: &str) -> String {
        match text.strip_prefix('!') {
            Some(shard) => self.shard(shard),
            None => {
                let request = self.request(text);
                self.input(Input::Bytes(&request))
            }
        }
    }

    fn shard(&mut self, text: &str) -> String {
        let words: Vec<&str> = text.split(' ').collect();
        let pair = |word: &str| word.parse().unwrap();
        match words[..] {
            ["publishing"] => self.input(Input::Publishing),
            ["described", kinds] => self.input(Input::Described(&tracks(kinds))),
            ["port", at, port] => self.input(Input::PairOpened { pair: pair(at), port: port.parse().ok() }),
            ["joined"] => {
                let address = [239, 0, 0, 1].into();
                self.input(Input::GroupJoined(Group { address, ttl: 16, video_port: 5004, audio_port: 5006 }))
            }
            ["playing"] => self.input(Input::Playing(None)),
            ["playing", "at"] => self.input(Input::Playing(Some(start()))),
            ["refused", why] => self.input(Input::Refused(match why {
                "not-found" => Refusal::NotFound,
                "in-use" => Refusal::NameInUse,
                "limit" => Refusal::LimitReached,
                _ => Refusal::ShuttingDown,
            })),
            ["ended"] => self.input(Input::Ended),
            ["closing"] => self.input(Input::Closing(CloseReason::Kicked)),
            ["after", millis] => {
                self.now = self.now.after_millis(millis.parse().unwrap());
                self.input(Input::Timeout)
            }
            // When the session wants to be woken, from now.
            ["due"] => match self.session.next_timeout() {
                Some(at) => format!("{}", at.millis_since(self.now)),
                None => "never".to_owned(),
            },
            // The last word: who has sent it, by its SSRC.
            ["rtp" | "rtcp", at, from, ref ssrc @ ..] => {
                let (from, rtcp) = (from.parse().unwrap(), words[0] == "rtcp");
                let ssrc = ssrc.first().map_or(1, |ssrc| ssrc.parse().unwrap());
                self.input(Input::Datagram { pair: pair(at), rtcp, from, bytes: &[0x80, 201, 0, 1, 0, 0, 0, ssrc] })
            }
            _ => panic!("{text}"),
        }
    }

    #[track_caller]
    fn converse(name: &str, config: Config, steps: &[Step]) -> Peer {
        let mut peer = Peer::new(config);
        for (at, (said, expected)) in steps.iter().enumerate() {
            assert_eq!(peer.say(said), *expected, "{name}, step {at}: {said}");
        }
        peer
    }
}

fn start() -> RtpStart {
    let point = |sequence, timestamp| Some(RtpPoint { sequence, timestamp });
    RtpStart { video: point(11, 1111), audio: point(22, 2222) }
}

/// Responses and outputs in short form. Checks what all responses have.
fn show(out: &[Output]) -> String {
    out.iter().map(show_one).collect()
}

fn show_one(output: &Output) -> String {
    match output {
        Output::Send(bytes) if bytes.starts_with(b"$") => format!("[frame {} {}B]", bytes[1], bytes.len() - 4),
        Output::Send(bytes) => show_response(std::str::from_utf8(bytes).unwrap()),
        Output::Publish(key) => format!("[publish {key}]"),
        Output::Unpublish => "[unpublish]".to_owned(),
        Output::Describe(key) => format!("[describe {key}]"),
        Output::OpenPair(pair) => format!("[open {pair}]"),
        Output::ClosePair(pair) => format!("[close {pair}]"),
        Output::Redirect(target) => format!("[redirect {} {} {}]", target.pair, target.rtp, target.rtcp),
        Output::Play(play) => show_play(play),
        Output::Pause(paused) => format!("[{}]", if *paused { "pause" } else { "go on" }),
        Output::Stop => "[stop]".to_owned(),
        Output::Agent(agent) => format!("[agent {agent}]"),
        Output::Close => "[close]".to_owned(),
        Output::JoinGroup { key, protocol, .. } => format!("[join {key} {protocol}]"),
        Output::LeaveGroup => "[leave group]".to_owned(),
        Output::OpenTunnel(name) => format!("[tunnel {name}]"),
        Output::Tunnel { name, bytes } => format!("[to {name} {}]", String::from_utf8_lossy(bytes)),
        Output::Note { reason, message } => format!("[note {}: {message}]", reason.unwrap_or("-")),
        Output::Discarded(discard) => format!("[{}]", discard.label()),
        Output::Received(received) => format!("[received {}+{}]", received.received, received.useless),
        Output::SendDatagram { pair, rtcp, to, .. } => format!("[to {to} from {pair} {}]", if *rtcp { "rtcp" } else { "rtp" }),
        Output::Media(MediaEvent::Tracks(tracks)) => {
            format!("[tracks{}]", tracks.iter().map(|track| format!(" {}", track.codec.name())).collect::<String>())
        }
        Output::Media(MediaEvent::Frame(frame)) => format!("[media {} {}B]", frame.track.0, frame.data.len()),
        Output::Media(MediaEvent::End) => "[end]".to_owned(),
        other => format!("[{other:?}]"),
    }
}

fn show_play(play: &crate::session::PlayRequest) -> String {
    let StreamText { format, delivery } = StreamText::new(play.format, play.delivery);
    format!("[play {} {format}{delivery} {:?} {}]", play.key, play.start, play.protocol)
}

struct StreamText {
    format: String,
    delivery: String,
}

impl StreamText {
    fn new(format: Format, delivery: Delivery) -> Self {
        let format = match format {
            Format::Rtp(RtpCarriage::Interleaved { video, audio }) => {
                let show = |channels: Option<crate::format::rtp::Channels>| {
                    channels.map_or("-".to_owned(), |channels| format!("{}/{}", channels.rtp, channels.rtcp))
                };
                format!("channels {} {}", show(video), show(audio))
            }
            Format::Rtp(RtpCarriage::Datagrams) => "datagrams".to_owned(),
            other => format!("{other:?}"),
        };
        let delivery = match delivery {
            Delivery::Connection => String::new(),
            Delivery::Datagrams { video, audio } => [video, audio]
                .into_iter()
                .map(|target| {
                    target.map_or(" -".to_owned(), |target| format!(" {}>{}+{}", target.pair, target.rtp, target.rtcp.port()))
                })
                .collect(),
        };
        StreamText { format, delivery }
    }
}

/// `200 Header: value | Header: value`, without what all responses have; SDP as the number of its sections.
fn show_response(text: &str) -> String {
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap();
    if status.starts_with("HTTP/") {
        return format!("<{status}>");
    }
    let code = status.strip_prefix("RTSP/1.0 ").and_then(|rest| rest.split(' ').next()).unwrap();
    let mut shown = format!("<{code}");
    let mut server = false;
    for line in lines {
        match line.split_once(": ").unwrap() {
            ("Server", value) => server = value == concat!("shardcast/", env!("CARGO_PKG_VERSION")),
            ("Content-Length", value) => assert_eq!(value, body.len().to_string()),
            ("Content-Type", value) => assert_eq!(value, "application/sdp"),
            ("WWW-Authenticate", value) => shown.push_str(&format!(" | {}", value.split(' ').next().unwrap())),
            ("Session", value) => {
                let known = value.replace(&Peer::id(1), "ID").replace(&Peer::id(2), "ID2");
                shown.push_str(&format!(" {}", known.strip_suffix(";timeout=60").unwrap()));
            }
            ("CSeq", value) => shown.push_str(&format!(" #{value}")),
            (name, value) => shown.push_str(&format!(" | {name}: {value}")),
        }
    }
    assert!(server, "{text}");
    if !body.is_empty() {
        shown.push_str(&format!(" | {} sections", body.matches("\r\nm=").count()));
    }
    shown + ">"
}

/// Says everything at once, cut at `cuts`, to a session whose shard answers as soon as it is asked; what comes back, in one piece.
fn pipeline(config: Config, bytes: &[u8], cuts: &[usize]) -> String {
    let mut peer = Peer::new(config);
    let mut shown = String::new();
    let mut at = 0;
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        shown.push_str(&peer.input(Input::Bytes(&bytes[at..cut])));
        at = cut;
        while let Some(answer) = asked(&peer.outputs) {
            peer.outputs.clear();
            shown.push_str(&peer.shard(&answer));
        }
    }
    shown
}

/// What the shard answers to the last question.
fn asked(out: &[Output]) -> Option<String> {
    out.iter().rev().find_map(|output| match output {
        Output::Publish(_) => Some("publishing".to_owned()),
        Output::Describe(_) => Some("described va".to_owned()),
        Output::OpenPair(pair) => Some(format!("port {pair} {}", 20_000 + 2 * u16::from(*pair))),
        Output::Play(_) => Some("playing at".to_owned()),
        _ => None,
    })
}

fn key(text: &str) -> StreamKey {
    StreamKey::parse(text).unwrap()
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}
