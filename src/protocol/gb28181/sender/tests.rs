//! The sender from its start to each of its ends, step by step.

use bytes::Bytes;

use super::*;
use crate::media::{Track, TrackId, TrackShape};

const WAIT_MS: u64 = 10_000;

fn at(port: u16) -> SocketAddr {
    ([192, 0, 2, 1], port).into()
}

fn key() -> StreamKey {
    StreamKey::parse("live/cam").unwrap()
}

fn tracks(codecs: &[Codec]) -> Tracks {
    let track = |(id, codec): (u8, &Codec)| {
        let shape = match codec.kind() {
            TrackKind::Video => TrackShape::Video { width: 0, height: 0, frames_per_second: 0.0 },
            _ => TrackShape::Audio { sample_rate: 8_000, channels: 1 },
        };
        Track { id: TrackId(id), codec: *codec, config: Bytes::new(), shape }
    };
    Tracks::new((0..).zip(codecs).map(track).collect(), Bytes::new())
}

struct Run {
    sender: Sender,
    now: Stamp,
}

impl Run {
    fn new(transport: Transport, content: SourceContent) -> Run {
        let request = Request { key: key(), transport, content, ssrc: 7, payload_type: 96, wait_ms: WAIT_MS };
        Run { sender: Sender::new(request), now: Stamp::from_millis(1_000) }
    }

    /// Waits for the stream.
    fn asking(transport: Transport, content: SourceContent) -> Run {
        let mut run = Run::new(transport, content);
        let first = run.input(Input::Timeout);
        let asked = match transport {
            Transport::Udp { .. } => {
                assert_eq!(first, [Output::OpenPair(PAIR)]);
                run.input(Input::PairOpened { pair: PAIR, port: Some(20_000) })
            }
            Transport::TcpPassive => {
                assert_eq!(first, [Output::AwaitPeer]);
                assert_eq!(run.input(Input::PortOpened(Some(20_000))), []);
                assert_eq!(run.said().detail, "waiting for a connection");
                run.input(Input::Connected(at(5_000)))
            }
            Transport::TcpActive { .. } => first,
        };
        assert_eq!(asked, [Output::Describe(key())]);
        assert_eq!((run.said().state, run.said().detail.as_str()), (SendingState::Waiting, "waiting for the stream"));
        run
    }

    fn input(&mut self, input: Input<'_>) -> Vec<Output> {
        let mut out = Vec::new();
        self.sender.handle(self.now, input, &mut out).unwrap();
        // What is for the log is not compared.
        out.retain(|output| !matches!(output, Output::Note { .. }));
        out
    }

    fn said(&self) -> Sending {
        self.sender.sending().unwrap()
    }
}

fn asks_to_play(outputs: &[Output]) -> (RtpSource, Delivery, &'static str) {
    let [Output::Play(PlayRequest { format: Format::Single(source), delivery, protocol, .. })] = outputs else {
        panic!("{outputs:?}")
    };
    (*source, *delivery, protocol)
}

#[test]
fn a_stream_is_waited_for_and_played() {
    let target = Some(PairTarget { pair: PAIR, rtp: at(6_000), rtcp: at(6_000) });
    let datagrams = Delivery::Datagrams { video: target, audio: None };
    let cases = [
        (Transport::Udp { to: at(6_000) }, false, datagrams, "rtp-udp", at(6_000)),
        (Transport::TcpActive { to: at(6_000) }, true, Delivery::Connection, "rtp-tcp", at(6_000)),
        (Transport::TcpPassive, true, Delivery::Connection, "rtp-tcp", at(5_000)),
    ];
    for (transport, framed, delivery, protocol, to) in cases {
        let mut run = Run::asking(transport, SourceContent::Ps);
        let played = run.input(Input::Described(&tracks(&[Codec::H264, Codec::Opus])));
        let source = RtpSource { content: SourceContent::Ps, ssrc: 7, payload_type: 96, framed };
        assert_eq!(asks_to_play(&played), (source, delivery, protocol));
        assert_eq!(run.input(Input::Playing(None)), []);
        let said = run.said();
        assert_eq!((said.state, said.to), (SendingState::Sending, Some(to)));
        assert_eq!(said.detail, format!("sending H264 to {to}; left out: Opus"));
        // It looks again, because tracks come and go.
        run.now = run.sender.next_timeout().unwrap();
        assert_eq!(run.input(Input::Timeout), [Output::Describe(key())]);
        assert_eq!(run.input(Input::Described(&tracks(&[Codec::H265, Codec::G711A]))), []);
        assert_eq!((run.said().tracks, run.said().left_out), (vec!["H265", "G711A"], vec![]));
        assert_eq!(run.input(Input::Refused(Refusal::NotFound)), [], "the question, not the stream");
        assert_eq!(run.input(Input::Ended), [Output::Close]);
        assert_eq!((run.said().state, run.said().detail.as_str()), (SendingState::Ended, "the stream has ended"));
        assert_eq!(run.sender.next_timeout(), None);
    }
}

#[test]
fn sound_by_itself_is_of_the_other_flow() {
    let mut run = Run::asking(Transport::Udp { to: at(6_000) }, SourceContent::G711A);
    let played = run.input(Input::Described(&tracks(&[Codec::H264, Codec::G711A])));
    let (source, delivery, _) = asks_to_play(&played);
    assert_eq!(source.content, SourceContent::G711A);
    assert!(matches!(delivery, Delivery::Datagrams { video: None, audio: Some(_) }));
    assert_eq!(run.said().tracks, ["G711A"]);
}

#[test]
fn a_stream_without_anything_that_can_be_sent_is_refused_with_its_codecs() {
    let cases: [(SourceContent, &[Codec], &str); 4] = [
        (SourceContent::Ps, &[Codec::Av1, Codec::Opus], "a program stream carries nothing of the stream, which is AV1, Opus"),
        (SourceContent::G711A, &[Codec::H264, Codec::G711U], "G711A is wanted, and the stream's sound is G711U"),
        (SourceContent::G711A, &[Codec::H264], "G711A is wanted, and the stream's sound is absent"),
        (SourceContent::Ps, &[Codec::Script], "the stream has neither picture nor sound"),
    ];
    for (content, codecs, detail) in cases {
        let mut run = Run::asking(Transport::Udp { to: at(6_000) }, content);
        assert_eq!(run.input(Input::Described(&tracks(codecs))), [Output::Close], "{detail}");
        assert_eq!(run.said().detail, detail);
    }
}

#[test]
fn a_stream_that_is_not_there_is_waited_for_as_long_as_was_asked() {
    let mut run = Run::asking(Transport::TcpActive { to: at(6_000) }, SourceContent::Ps);
    run.now = run.now.after_millis(WAIT_MS - 1);
    assert_eq!(run.input(Input::Refused(Refusal::NotFound)), [Output::Describe(key())]);
    assert_eq!(run.input(Input::Timeout), [], "too early");
    run.now = run.sender.next_timeout().unwrap();
    assert_eq!(run.input(Input::Timeout), [Output::Close]);
    assert_eq!(run.said().detail, "there was no such stream for 10000 ms");
}

#[test]
fn every_end_has_words() {
    type Step = fn(&mut Run) -> Vec<Output>;
    let cases: [(Transport, Step, Option<Refusal>, &str); 5] = [
        (Transport::TcpPassive, |run| run.input(Input::PortOpened(None)), Some(Refusal::LimitReached), "no port is left"),
        (
            Transport::TcpPassive,
            |run| {
                run.input(Input::PortOpened(Some(20_000)));
                run.now = run.sender.next_timeout().unwrap();
                run.input(Input::Timeout)
            },
            None,
            "nobody has connected for 10000 ms",
        ),
        (
            Transport::TcpActive { to: at(1) },
            |run| run.input(Input::Refused(Refusal::ShuttingDown)),
            Some(Refusal::ShuttingDown),
            "the server is shutting down",
        ),
        (
            Transport::TcpActive { to: at(1) },
            |run| run.input(Input::Closing(CloseReason::Kicked)),
            None,
            "closed by the operator",
        ),
        (
            Transport::TcpActive { to: at(1) },
            |run| run.input(Input::Disconnected),
            None,
            "the receiver has closed the connection",
        ),
    ];
    for (transport, step, refusal, detail) in cases {
        let mut run = Run::new(transport, SourceContent::Ps);
        run.input(Input::Timeout);
        assert_eq!(step(&mut run), [Output::Close], "{detail}");
        assert_eq!((run.said().state, run.said().refusal, run.said().detail.as_str()), (SendingState::Ended, refusal, detail));
    }
}
