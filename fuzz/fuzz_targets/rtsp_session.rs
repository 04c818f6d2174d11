//! Any client, any shard and any network → `RtspSession`: no panic; it asks only for what it may (`Shard` keeps count); what it sends is
//! whole; outputs stay in proportion to inputs; no timeout is due again at once; and all of it does not depend on how the client's bytes
//! were cut.
//!
//! Input: a byte for the size of the pieces, one for the configuration, then the client's bytes. Among them 0xFE and a letter stand for
//! what else happens, see `steps`; 0xFE twice for itself.
#![no_main]

use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use shardcast::config::{Auth, Config, Rights, User};
use shardcast::format::rtp::{RtpPoint, RtpStart};
use shardcast::media::aac::AacConfig;
use shardcast::media::{Codec, MediaEvent, Stamp, Track, TrackId, TrackShape, Tracks};
use shardcast::protocol::SessionContext;
use shardcast::protocol::rtsp::session::RtspSession;
use shardcast::session::{CloseReason, Delivery, Group, Input, Output, PairId, PlayRequest, Refusal, Session, SessionError};
use shardcast_fuzz::{AVCC, Choices};

const ESCAPE: u8 = 0xFE;
/// Pairs of ports that a session can need: one per section of a description.
const PAIRS_MAX: usize = 16;

/// What happens next.
#[derive(Debug)]
enum Step<'a> {
    Say(&'a [u8]),
    /// The answer to the next question is no.
    Refuse(Refusal),
    /// The next question is not answered at once, and whatever was not answered is.
    Hold,
    /// What the next described stream consists of.
    Describe(u8),
    Wait(u64),
    /// Time passes until the session wants to be woken.
    WaitForTimeout,
    Datagram {
        pair: PairId,
        rtcp: bool,
        from: SocketAddr,
        bytes: &'a [u8],
    },
    Ended,
    Close,
}

fn steps(input: &[u8]) -> Vec<Step<'_>> {
    let mut choices = Choices::new(input);
    let mut steps = Vec::new();
    while !choices.is_over() {
        let rest = choices.clone().rest();
        let plain = rest.iter().position(|byte| *byte == ESCAPE).unwrap_or(rest.len());
        if plain > 0 {
            steps.push(Step::Say(choices.bytes(plain)));
            continue;
        }
        let escape = choices.bytes(1);
        steps.push(match choices.byte() {
            b'r' => Step::Refuse(refusal(choices.byte())),
            b'h' => Step::Hold,
            b'k' => Step::Describe(choices.byte()),
            b't' => Step::Wait(u64::from(choices.byte()) * 100),
            b'T' => Step::WaitForTimeout,
            b'd' => datagram(&mut choices),
            b'e' => Step::Ended,
            b'c' => Step::Close,
            _ => Step::Say(escape),
        });
    }
    steps
}

fn refusal(choice: u8) -> Refusal {
    [Refusal::NotFound, Refusal::NameInUse, Refusal::LimitReached, Refusal::ShuttingDown][usize::from(choice & 3)]
}

/// A byte for pair, port and sender, then a sized payload.
fn datagram<'a>(choices: &mut Choices<'a>) -> Step<'a> {
    let what = choices.byte();
    let hosts: [[u8; 4]; 2] = [[10, 0, 0, 9], [10, 0, 0, 8]];
    let ports = [5_000, 5_001, 5_002, 5_003, 6_000, 6_001, 6_002, 6_003];
    let from = (hosts[usize::from(what >> 3 & 1)], ports[usize::from(what >> 4 & 7)]).into();
    Step::Datagram { pair: what & 3, rtcp: what & 4 != 0, from, bytes: choices.sized() }
}

fn tracks(choice: u8) -> Tracks {
    let picture = |codec, config| {
        let shape = TrackShape::Video { width: 640, height: 360, frames_per_second: 25.0 };
        Some(Track { id: TrackId(0), codec, config: Bytes::from_static(config), shape })
    };
    let sound = |codec, config| {
        let shape = TrackShape::Audio { sample_rate: 44_100, channels: 2 };
        Some(Track { id: TrackId(1), codec, config, shape })
    };
    let video = [picture(Codec::H264, AVCC), None, picture(Codec::Vp8, &[]), None];
    let audio = [sound(Codec::Aac, AacConfig::build_lc(44_100, 2)), sound(Codec::Opus, Bytes::new()), None, None];
    let (video, audio) = (video[usize::from(choice & 3)].clone(), audio[usize::from(choice >> 2 & 3)].clone());
    Tracks::new(video.into_iter().chain(audio).collect(), Bytes::new())
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Question {
    Publish,
    Play,
    Describe,
    Pair(PairId),
    Group,
}

/// What the session has of the shard, and what it waits for.
#[derive(Default)]
struct Shard {
    question: Option<Question>,
    publishes: bool,
    /// Ended by the shard: the session may not know it yet.
    ended: bool,
    plays: bool,
    is_member: bool,
    pairs: BTreeSet<PairId>,
    agent: bool,
    closed: bool,
}

impl Shard {
    /// Carries an output out, as far as that can be wrong.
    fn take(&mut self, output: &Output) {
        assert!(!self.closed, "{output:?} behind a close");
        match output {
            Output::Send(bytes) => check_sent(bytes),
            Output::Publish(_) => {
                assert!(!self.publishes && !self.plays && !self.is_member);
                self.ask(Question::Publish);
            }
            Output::Media(event) => assert!(self.publishes && !matches!(event, MediaEvent::End), "{event:?}"),
            Output::Discarded(_) | Output::Received(_) => assert!(self.publishes, "{output:?}"),
            Output::Unpublish => assert!(std::mem::take(&mut self.publishes)),
            Output::Describe(_) => self.ask(Question::Describe),
            Output::OpenPair(pair) => {
                assert!(!self.pairs.contains(pair) && self.pairs.len() < PAIRS_MAX);
                self.ask(Question::Pair(*pair));
            }
            Output::ClosePair(pair) => assert!(self.pairs.remove(pair)),
            Output::Redirect(target) => assert!(self.pairs.contains(&target.pair) && (self.plays || self.ended)),
            Output::SendDatagram { pair, .. } => assert!(self.pairs.contains(pair)),
            Output::Play(request) => self.play(request),
            Output::Pause(_) => assert!(self.plays || self.ended),
            Output::Stop => assert!(std::mem::take(&mut self.plays) || self.ended),
            Output::JoinGroup { .. } => {
                assert!(self.pairs.is_empty() && !self.is_member && !self.plays && !self.publishes);
                self.ask(Question::Group);
            }
            Output::LeaveGroup => assert!(std::mem::take(&mut self.is_member) || self.ended),
            Output::OpenTunnel(name) => assert!(!name.is_empty()),
            Output::Tunnel { name, bytes } => assert!(!name.is_empty() && !bytes.is_empty()),
            Output::OpenPort | Output::OpenShared { .. } | Output::AwaitPeer | Output::Peer(_) => panic!("RTSP has a connection"),
            Output::AskUnwatched(_) => panic!("RTSP publishers stay, whoever watches"),
            Output::Become { .. } => panic!("RTSP stays RTSP"),
            Output::Body(_) | Output::Fetch(_) => panic!("RTSP knows no segments"),
            Output::Note { message, .. } => assert!(message.len() < 8_192 && !message.contains(char::is_control), "{message:?}"),
            Output::Agent(_) => assert!(!std::mem::replace(&mut self.agent, true)),
            Output::Close => self.closed = true,
        }
    }

    fn ask(&mut self, question: Question) {
        assert_eq!(self.question.replace(question), None, "one question at a time");
    }

    fn play(&mut self, request: &PlayRequest) {
        assert!(!self.publishes && !self.is_member, "{request:?}");
        let targets = match request.delivery {
            Delivery::Connection => [None, None],
            Delivery::Datagrams { video, audio } => [video, audio],
        };
        let used: BTreeSet<PairId> = targets.into_iter().flatten().map(|target| target.pair).collect();
        assert_eq!(used, self.pairs, "every pair of ports is used");
        self.ask(Question::Play);
    }
}

/// One response, whole, or one interleaved frame.
fn check_sent(bytes: &[u8]) {
    if let [b'$', _, high, low, content @ ..] = bytes {
        assert_eq!(usize::from(u16::from_be_bytes([*high, *low])), content.len());
        return;
    }
    let text = std::str::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
    let mut lines = head.split("\r\n");
    assert!(lines.next().is_some_and(|line| line.starts_with("RTSP/1.0 ") || line.starts_with("HTTP/1.")));
    let mut body_bytes = 0;
    for line in lines {
        assert!(!line.chars().any(char::is_control), "{line:?}");
        let (name, value) = line.split_once(": ").expect("a header");
        if name == "Content-Length" {
            body_bytes = value.parse().expect("a number");
        }
    }
    assert_eq!(body.len(), body_bytes);
}

struct Run {
    session: RtspSession,
    shard: Shard,
    now: Stamp,
    out: Vec<Output>,
    error: Option<SessionError>,
    refusal: Option<Refusal>,
    hold: bool,
    tracks: u8,
    inputs: usize,
    /// A tunnel was refused: how much had been said by then is up to the network.
    tunnel_refused: bool,
}

impl Run {
    fn new(options: u8) -> Self {
        let mut config = Config::default();
        if options & 1 != 0 {
            let streams = vec!["live/*".to_owned()];
            let user = User { name: "ann".to_owned(), password: "secret".to_owned(), publish: streams.clone(), play: streams };
            let anonymous = Rights { publish: vec![], play: vec!["open/*".to_owned()] };
            config.auth = Auth { users: vec![user], anonymous, ..Auth::default() };
        }
        let now = Stamp::from_millis(1_000_000);
        let context = SessionContext::lone(config, ([10, 0, 0, 9], 40_000).into());
        Run {
            session: RtspSession::new(&context, now),
            shard: Shard::default(),
            now,
            out: Vec::new(),
            error: None,
            refusal: None,
            hold: false,
            tracks: 0,
            inputs: 0,
            tunnel_refused: false,
        }
    }

    fn is_over(&self) -> bool {
        self.error.is_some() || self.shard.closed
    }

    fn step(&mut self, step: &Step<'_>, piece: usize) {
        match *step {
            Step::Say(bytes) => bytes.chunks(piece).for_each(|piece| self.give(Input::Bytes(piece), piece.len())),
            Step::Refuse(refusal) => self.refusal = Some(refusal),
            Step::Hold => {
                self.answer();
                self.hold = true;
            }
            Step::Describe(tracks) => self.tracks = tracks,
            Step::Wait(millis) => self.pass(self.now.after_millis(millis)),
            Step::WaitForTimeout => {
                if let Some(at) = self.session.next_timeout() {
                    self.pass(at.max(self.now));
                }
            }
            Step::Datagram { pair, rtcp, from, bytes } => {
                if self.shard.pairs.contains(&pair) {
                    self.give(Input::Datagram { pair, rtcp, from, bytes }, bytes.len());
                }
            }
            Step::Ended => {
                if self.shard.plays || self.shard.is_member {
                    (self.shard.plays, self.shard.is_member, self.shard.ended) = (false, false, true);
                    self.give(Input::Ended, 0);
                }
            }
            Step::Close => {
                self.give(Input::Closing(CloseReason::Kicked), 0);
                self.shard.closed = true;
            }
        }
    }

    /// Time passes, and the session is woken when it wants to be.
    fn pass(&mut self, until: Stamp) {
        while let Some(at) = self.session.next_timeout().filter(|at| *at <= until && !self.is_over()) {
            self.now = self.now.max(at);
            self.give(Input::Timeout, 0);
            let again = self.session.next_timeout();
            assert!(self.is_over() || again.is_none_or(|again| again > self.now), "due again at once");
        }
        self.now = until;
    }

    /// One input, and the answers to what it makes the session ask.
    fn give(&mut self, input: Input<'_>, bytes: usize) {
        self.inputs += bytes + 1;
        self.handle(input);
        if !self.hold {
            self.answer();
        }
    }

    fn handle(&mut self, input: Input<'_>) {
        if self.error.is_some() {
            // The shard would have dropped it.
            return;
        }
        let before = self.out.len();
        self.error = self.session.handle(self.now, input, &mut self.out).err();
        self.out[before..].iter().for_each(|output| self.shard.take(output));
        let asks_tunnel = self.out[before..].iter().any(|output| matches!(output, Output::OpenTunnel(_) | Output::Tunnel { .. }));
        if asks_tunnel && let Some(refusal) = self.refusal.take() {
            // A client that asks something at the same moment takes it for the answer to that.
            (self.tunnel_refused, self.shard.question) = (true, None);
            self.handle(Input::Refused(refusal));
        }
    }

    fn answer(&mut self) {
        self.hold = false;
        while let Some(question) = self.shard.question.take().filter(|_| !self.is_over()) {
            if let Some(refusal) = self.refusal.take() {
                self.handle(Input::Refused(refusal));
                continue;
            }
            match question {
                Question::Publish => {
                    self.shard.publishes = true;
                    self.handle(Input::Publishing);
                }
                Question::Play => {
                    self.shard.plays = true;
                    self.handle(Input::Playing(start(self.tracks)));
                }
                Question::Describe => self.handle(Input::Described(&tracks(self.tracks))),
                Question::Pair(pair) => {
                    self.shard.pairs.insert(pair);
                    self.handle(Input::PairOpened { pair, port: Some(20_000 + 2 * u16::from(pair)) });
                }
                Question::Group => {
                    self.shard.is_member = true;
                    let address = [239, 0, 0, 1].into();
                    self.handle(Input::GroupJoined(Group { address, ttl: 16, video_port: 5_004, audio_port: 5_006 }));
                }
            }
        }
    }
}

fn start(choice: u8) -> Option<RtpStart> {
    let point = |sequence, timestamp| Some(RtpPoint { sequence, timestamp });
    (choice & 0x80 == 0).then_some(RtpStart { video: point(11, 1_111), audio: point(22, 2_222) })
}

/// What came out, the bytes of a tunnel in one piece; `None`: a tunnel was refused.
fn run(options: u8, steps: &[Step<'_>], piece: usize) -> Option<(Vec<Output>, Option<SessionError>)> {
    let mut run = Run::new(options);
    for step in steps {
        run.step(step, piece);
    }
    run.step(&Step::Close, piece);
    let sent: usize = run.out.iter().map(|output| if let Output::Send(bytes) = output { bytes.len() } else { 0 }).sum();
    assert!(sent <= 4_096 + 64 * run.inputs, "{sent} bytes sent for {} bytes", run.inputs);
    assert!(run.out.len() <= 64 + 4 * run.inputs, "{} outputs for {} bytes", run.out.len(), run.inputs);
    let mut out: Vec<Output> = Vec::new();
    for output in run.out.drain(..) {
        match (out.last_mut(), output) {
            (Some(Output::Tunnel { name, bytes }), Output::Tunnel { name: same, bytes: more }) if *name == same => {
                *bytes = [&bytes[..], &more].concat().into();
            }
            (_, output) => out.push(output),
        }
    }
    (!run.tunnel_refused).then_some((out, run.error))
}

fuzz_target!(|input: &[u8]| {
    let [piece, options, bytes @ ..] = input else { return };
    let steps = steps(bytes);
    let whole = run(*options, &steps, usize::MAX);
    let cut = run(*options, &steps, usize::from(*piece).max(1));
    assert_eq!(whole, cut);
});
