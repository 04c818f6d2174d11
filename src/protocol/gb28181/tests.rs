//! The receiver from its start to each of its ends, step by step.

use std::net::SocketAddr;

use super::receiver::*;
use crate::config::Config;
use crate::format::ps::ps_writer::{self, Lengths, PLAIN, VIDEO_ID, annex_b, pes};
use crate::format::rtp::demux::Received;
use crate::media::h265::HevcConfig;
use crate::media::{Codec, Discard, MediaEvent, Stamp};
use crate::protocol::common::source::RELOCK_SILENCE_MS;
use crate::session::{
    CloseReason, ExpectedSource, Input, Output, Reception, ReceptionEnd, ReceptionState, Refusal, Session, SessionError,
    StreamKey,
};

const SPS: &[u8] = include_bytes!("../../../tests/corpus/h264/sps_318x182");
const HVCC: &[u8] = include_bytes!("../../../tests/corpus/h265/hvcc");
const PPS: &[u8] = &[0x68, 0xCE, 0x3C, 0x80];
const TIMEOUT_MS: u64 = TIMEOUT_MS_DEFAULT;

struct Run {
    receiver: Receiver,
    now: Stamp,
    sequence: u16,
}

fn at(port: u16) -> SocketAddr {
    ([192, 0, 2, 1], port).into()
}

/// A packet of program stream.
fn rtp(sequence: u16, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 0xE0, (sequence >> 8) as u8, sequence as u8, 0, 0, 0, 0];
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

fn picture(number: u64) -> Vec<u8> {
    let slice = [&[0, 0, 0, 6, 0x65, 0x88, 0x80][..], &[number as u8 + 1; 3]].concat();
    PLAIN.picture(true, 3_600 * number, 3_600 * number, &annex_b(&[SPS.to_vec(), PPS.to_vec()], &slice))
}

impl Run {
    fn new(transport: Transport, ssrc: Option<u32>) -> Run {
        let source = ExpectedSource { ssrc, strict: true, ip: None };
        Run::asked(Request { source, ..Request::new(StreamKey::parse("live/cam").unwrap(), transport) })
    }

    fn asked(request: Request) -> Run {
        let receiver = Receiver::new(request, &Config::default());
        Run { receiver, now: Stamp::from_millis(1_000), sequence: 0 }
    }

    /// Open, and its port known.
    fn open(transport: Transport, ssrc: Option<u32>) -> Run {
        Run::new(transport, ssrc).begun(transport)
    }

    fn begun(mut self, transport: Transport) -> Run {
        let run = &mut self;
        assert_eq!(run.input(Input::Timeout), [Output::Publish(StreamKey::parse("live/cam").unwrap())]);
        let (asked, answer) = match transport {
            Transport::Udp => (Output::OpenPair(0), Input::PairOpened { pair: 0, port: Some(20_000) }),
            Transport::TcpPassive => (Output::OpenPort, Input::PortOpened(Some(20_000))),
            Transport::TcpActive { .. } => {
                assert_eq!(run.input(Input::Publishing), []);
                return self;
            }
        };
        assert_eq!(run.input(Input::Publishing), [asked]);
        assert_eq!(run.input(answer), []);
        self
    }

    #[track_caller]
    fn input(&mut self, input: Input<'_>) -> Vec<Output> {
        self.try_input(input).unwrap()
    }

    fn try_input(&mut self, input: Input<'_>) -> Result<Vec<Output>, SessionError> {
        let mut out = Vec::new();
        self.receiver.handle(self.now, input, &mut out)?;
        Ok(out)
    }

    fn datagram(&mut self, from: u16, ssrc: u32, payload: &[u8]) -> Vec<Output> {
        self.sequence += 1;
        let bytes = rtp(self.sequence, ssrc, payload);
        self.input(Input::Datagram { pair: 0, rtcp: false, from: at(from), bytes: &bytes })
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.after_millis(ms);
    }

    fn says(&self) -> Reception {
        self.receiver.reception().unwrap()
    }
}

/// The same behind its length, of source 7.
fn framed(sequence: u16, payload: &[u8]) -> Vec<u8> {
    let packet = rtp(sequence, 7, payload);
    [&(packet.len() as u16).to_be_bytes()[..], &packet].concat()
}

fn frames(out: &[Output]) -> usize {
    out.iter().filter(|output| matches!(output, Output::Media(MediaEvent::Frame(_)))).count()
}

#[test]
fn from_the_first_packet_to_the_end() {
    let mut run = Run::open(Transport::Udp, None);
    assert_eq!(
        (run.says().state, run.says().detail.as_str(), run.says().port),
        (ReceptionState::Waiting, "waiting for media", Some(20_000))
    );
    // A camera that is joined in the middle: no parameter sets yet.
    let out = run.datagram(5_000, 7, &PLAIN.picture(false, 0, 0, &[0, 0, 0, 1, 0x41, 0x9A, 1]));
    assert_eq!(out[0], Output::Peer(at(5_000)));
    assert_eq!(frames(&out), 0);
    assert_eq!(run.says().detail, "media seen, from 192.0.2.1:5000 (SSRC 7)");
    let out = run.datagram(5_000, 7, &picture(1));
    assert_eq!(frames(&out), 1, "at its marker: {out:?}");
    assert_eq!((run.says().state, run.says().tracks.clone()), (ReceptionState::Playing, vec!["H264"]));
    assert_eq!(run.says().detail, "playing H264, from 192.0.2.1:5000 (SSRC 7)");
    run.pass(1_000);
    let counts = Received { received: 2, ..Received::default() };
    assert_eq!(run.input(Input::Timeout), [Output::Received(counts)]);
    assert_eq!(run.says().end, None);
    assert_eq!(run.input(Input::Closing(CloseReason::Kicked)), [Output::Unpublish]);
    assert_eq!(run.says().end, Some(ReceptionEnd::AsWished));
    assert_eq!((run.says().state, run.says().detail.as_str()), (ReceptionState::Ended, "closed by the operator"));
    assert_eq!((run.says().received, run.receiver.next_timeout()), (counts, None));
}

#[test]
fn who_is_listened_to() {
    let mut run = Run::open(Transport::Udp, Some(7));
    assert_eq!(run.datagram(5_000, 8, &picture(0)), [], "another source");
    assert_eq!(run.says().detail, "waiting for media; RTP seen with SSRC 8, 7 expected: ignored");
    assert_eq!(frames(&run.datagram(6_000, 7, &picture(1))), 1);
    assert_eq!(run.datagram(5_000, 7, &picture(2)), [], "from elsewhere");
    run.sequence -= 1;
    run.pass(2_000);
    let out = run.datagram(5_000, 7, &picture(2));
    assert_eq!((&out[0], frames(&out)), (&Output::Peer(at(5_000)), 1), "the address is followed after a silence");
    run.pass(RELOCK_SILENCE_MS);
    assert_eq!(run.datagram(5_000, 8, &picture(3)), [], "the source was given");
    // Where none was given, another one is followed.
    let mut run = Run::open(Transport::Udp, None);
    run.datagram(5_000, 7, &picture(0));
    run.pass(RELOCK_SILENCE_MS - 1);
    assert_eq!(run.datagram(5_000, 8, &picture(1)), []);
    run.pass(1);
    assert_eq!(frames(&run.datagram(5_000, 8, &picture(2))), 1);
    assert_eq!(run.says().ssrc, Some(8));
}

#[test]
fn without_media_it_is_over() {
    let mut run = Run::open(Transport::Udp, None);
    run.pass(TIMEOUT_MS - 1);
    assert_eq!(run.input(Input::Timeout), []);
    run.pass(1);
    let error = run.try_input(Input::Timeout).unwrap_err();
    assert_eq!((error.reason, error.message.as_str()), ("no_media", "live/cam: waiting for media, over after 15000 ms"));
    assert_eq!(run.says().detail, "waiting for media, over after 15000 ms");
    assert_eq!(run.says().end, Some(ReceptionEnd::Failed));
    // Neither reports nor what cannot be understood count as media.
    let mut run = Run::open(Transport::Udp, None);
    run.datagram(5_000, 7, &picture(0));
    run.pass(TIMEOUT_MS);
    let mut odd = rtp(9, 7, &[1, 2, 3]);
    odd[1] = 35;
    for bytes in [&[0x80, 200, 0, 1, 0, 0, 0, 7][..], &[1, 2, 3]] {
        assert_eq!(run.input(Input::Datagram { pair: 0, rtcp: false, from: at(5_000), bytes }), []);
    }
    assert_eq!(run.try_input(Input::Timeout).unwrap_err().reason, "no_media");
    assert_eq!(run.says().detail, "no media for 15000 ms, over after 15000 ms");
    let mut run = Run::open(Transport::Udp, None);
    run.input(Input::Datagram { pair: 0, rtcp: false, from: at(5_000), bytes: &odd });
    assert_eq!(run.says().detail, "waiting for media; payload type 35 is not known: ignored");
    assert_eq!(frames(&run.datagram(6_000, 8, &picture(0))), 1, "nobody is kept out by that");
}

#[test]
fn what_cannot_begin_says_why() {
    let mut run = Run::new(Transport::TcpPassive, None);
    run.input(Input::Timeout);
    assert_eq!(run.input(Input::Refused(Refusal::NameInUse)), [Output::Close]);
    assert_eq!((run.says().refusal, run.says().detail.as_str()), (Some(Refusal::NameInUse), "the name is in use"));
    for (transport, answer) in
        [(Transport::TcpPassive, Input::PortOpened(None)), (Transport::Udp, Input::PairOpened { pair: 0, port: None })]
    {
        let mut run = Run::new(transport, None);
        run.input(Input::Timeout);
        run.input(Input::Publishing);
        assert_eq!(run.input(answer), [Output::Unpublish, Output::Close]);
        assert_eq!((run.says().refusal, run.says().detail.as_str()), (Some(Refusal::LimitReached), "no port is left"));
    }
}

#[test]
fn a_connection_may_break_and_come_again() {
    let mut run = Run::open(Transport::TcpPassive, None);
    assert_eq!(run.input(Input::Connected(at(5_000))), [Output::Peer(at(5_000))]);
    let bytes = [framed(1, &picture(0)), framed(2, &picture(1))].concat();
    let seen: usize = bytes.chunks(1).map(|byte| frames(&run.input(Input::Bytes(byte)))).sum();
    assert_eq!(seen, 2);
    run.input(Input::Bytes(&framed(3, &picture(2))[..30]));
    run.input(Input::Disconnected);
    run.input(Input::Connected(at(6_000)));
    // The rest of the picture that was cut does not come; the next one does.
    assert_eq!(frames(&run.input(Input::Bytes(&framed(900, &picture(3))))), 1);
    assert_eq!(run.says().received.lost, 0);
    // A picture of which a packet is missing is left out, though the connection keeps the order.
    let halves = picture(4);
    run.input(Input::Bytes(&framed(901, &halves[..60])));
    assert_eq!(frames(&run.input(Input::Bytes(&framed(903, &picture(5))))), 1);
    assert_eq!(run.says().received.lost, 1);
}

/// One packet of several NAL units (RFC 6184 §5.7.1, RFC 7798 §4.4.2).
fn aggregate(header: &[u8], nals: &[&[u8]]) -> Vec<u8> {
    let mut out = header.to_vec();
    for nal in nals {
        out.extend_from_slice(&(nal.len() as u16).to_be_bytes());
        out.extend_from_slice(nal);
    }
    out
}

#[test]
fn payloads_without_a_program_stream() {
    let config = HevcConfig::parse(&bytes::Bytes::from_static(HVCC)).unwrap();
    let sets = [config.vps, config.sps, config.pps].concat();
    let h265: Vec<&[u8]> = sets.iter().map(|set| &set[..]).chain([&[0x26, 0x01, 0xAF, 1][..]]).collect();
    let cases: [(&str, u8, &[u8], &str); 8] = [
        ("H.264, its slice alone", 98, &[0x65, 0x88, 0x80, 1], "media seen, from 192.0.2.1:5000 (SSRC 7)"),
        (
            "H.264, whole",
            98,
            &aggregate(&[24], &[SPS, PPS, &[0x65, 0x88, 0x80, 1]]),
            "playing H264, from 192.0.2.1:5000 (SSRC 7)",
        ),
        ("H.265 of 2022", 100, &aggregate(&[48 << 1, 1], &h265), "playing H265, from 192.0.2.1:5000 (SSRC 7)"),
        ("H.265 as before", 99, &aggregate(&[48 << 1, 1], &h265), "playing H265, from 192.0.2.1:5000 (SSRC 7)"),
        ("G.711 A-law", 8, &[0xD5; 160], "playing G711A, from 192.0.2.1:5000 (SSRC 7)"),
        ("G.711 µ-law", 0, &[0xD5; 160], "playing G711U, from 192.0.2.1:5000 (SSRC 7)"),
        // One AU of four bytes (RFC 3640 §3.3.6).
        ("AAC of 2022", 102, &[0, 16, 0, 4 << 3, 0x21, 1, 2, 3], "playing AAC, from 192.0.2.1:5000 (SSRC 7)"),
        ("a program stream all the same", 98, &picture(0), "playing H264, from 192.0.2.1:5000 (SSRC 7)"),
    ];
    for (name, payload_type, payload, detail) in cases {
        let mut run = Run::open(Transport::Udp, None);
        let mut bytes = rtp(1, 7, payload);
        bytes[1] = 0x80 | payload_type;
        run.input(Input::Datagram { pair: 0, rtcp: false, from: at(5_000), bytes: &bytes });
        assert_eq!(run.says().detail, detail, "{name}");
    }
}

/// Another source: what its sound is like is not known before it comes, and those who play know another.
#[test]
fn sound_that_is_only_promised_is_told_once() {
    let codecs = |out: &[Output]| -> Vec<Vec<Codec>> {
        let tracks = |output: &Output| match output {
            Output::Media(MediaEvent::Tracks(tracks)) => Some(tracks.iter().map(|track| track.codec).collect()),
            _ => None,
        };
        out.iter().filter_map(tracks).collect()
    };
    let style = ps_writer::Style { map: Some((ps_writer::H264, ps_writer::AAC)), ..PLAIN };
    let slice = [0, 0, 0, 6, 0x65, 0x88, 0x80, 1, 1, 1];
    let picture = style.picture(true, 0, 0, &annex_b(&[SPS.to_vec(), PPS.to_vec()], &slice));
    let sound = style.sound(0, &ps_writer::adts(4, 1, &[0x21, 1, 2, 3]));
    let mut run = Run::open(Transport::Udp, None);
    assert_eq!(codecs(&run.datagram(5_000, 7, &picture)), [[Codec::H264, Codec::Aac]]);
    assert_eq!(run.says().tracks, ["H264"], "none has come");
    assert_eq!(codecs(&run.datagram(5_000, 7, &sound)), [[Codec::H264, Codec::Aac]]);
    assert_eq!(run.says().tracks, ["H264", "AAC"]);
    run.pass(RELOCK_SILENCE_MS);
    assert_eq!(codecs(&run.datagram(5_000, 8, &picture)), [vec![Codec::H264]]);
    assert_eq!(codecs(&run.datagram(5_000, 8, &sound)), [[Codec::H264, Codec::Aac]]);
}

#[test]
fn codecs_that_are_not_carried_are_named() {
    let mut run = Run::open(Transport::Udp, None);
    let svac = ps_writer::Style { map: Some((0x80, 0)), ..PLAIN }.picture(true, 0, 0, &[1, 2, 3]);
    let out = run.datagram(5_000, 7, &svac);
    let note = Output::Note { reason: Some("unknown_codec"), message: "live/cam: left out: SVAC video".to_owned() };
    assert!(out.contains(&note) && out.contains(&Output::Discarded(Discard::UnknownCodec)), "{out:?}");
    let again = run.datagram(5_000, 7, &pes(VIDEO_ID, None, &[1], Lengths::Right));
    assert!(!again.contains(&note));
    assert!(run.says().detail.contains("; left out: SVAC video"), "{}", run.says().detail);
    // Who sends nothing else is refused by name, however long it goes on.
    run.pass(TIMEOUT_MS - 1);
    run.datagram(5_000, 7, &svac);
    assert_eq!(run.try_input(Input::Timeout).map(|_| ()), Ok(()));
    run.pass(1);
    let error = run.try_input(Input::Timeout).unwrap_err();
    assert_eq!((error.reason, run.says().state), ("unknown_codec", ReceptionState::Ended));
    assert_eq!(run.says().detail, "nothing came that is carried, but SVAC video");
    // Who has something that is carried goes on without the rest.
    let mut run = Run::open(Transport::Udp, None);
    run.datagram(5_000, 7, &ps_writer::Style { map: Some((ps_writer::H264, 0x9B)), ..PLAIN }.sound(0, &[1, 2, 3]));
    run.datagram(5_000, 7, &picture(0));
    run.pass(TIMEOUT_MS - 1);
    run.datagram(5_000, 7, &picture(1));
    run.pass(1);
    assert_eq!(run.try_input(Input::Timeout).map(|_| ()), Ok(()));
}

#[test]
fn a_connection_that_was_made_for_it_is_its_only_one() {
    let active = Transport::TcpActive { to: at(5_000) };
    let mut run = Run::new(active, None).begun(active);
    assert_eq!((run.says().port, run.says().source, run.says().transport), (None, Some(at(5_000)), "tcp_active"));
    let bytes = [framed(1, &picture(0)), framed(2, &picture(1))].concat();
    let seen: usize = bytes.chunks(7).map(|bytes| frames(&run.input(Input::Bytes(bytes)))).sum();
    assert_eq!(seen, 2);
    assert_eq!(run.says().detail, "playing H264, from 192.0.2.1:5000 (SSRC 7)");
    let counts = Received { received: 2, ..Received::default() };
    assert_eq!(run.input(Input::Disconnected), [Output::Received(counts), Output::Close]);
    assert_eq!(run.says().end, Some(ReceptionEnd::SenderLeft));
    assert_eq!((run.says().state, run.says().detail.as_str()), (ReceptionState::Ended, "the sender has closed the connection"));
    assert_eq!(run.receiver.next_timeout(), None);
}

#[test]
fn it_is_over_when_nobody_watches() {
    let key = StreamKey::parse("live/cam").unwrap();
    let mut run = Run::asked(Request { idle_ms: Some(3_000), ..Request::new(key, Transport::Udp) });
    run.input(Input::Timeout);
    run.input(Input::Publishing);
    assert_eq!(run.input(Input::PairOpened { pair: 0, port: Some(20_000) }), [Output::AskUnwatched(3_000)]);
    assert_eq!(run.input(Input::Unwatched), [Output::Unpublish, Output::Close]);
    assert_eq!((run.says().state, run.says().detail.as_str()), (ReceptionState::Ended, "nobody watched for 3000 ms"));
}

#[test]
fn a_source_that_is_not_the_agreed_one() {
    let key = StreamKey::parse("live/cam").unwrap();
    let source = ExpectedSource { ssrc: Some(7), ..ExpectedSource::default() };
    let mut run = Run::asked(Request { source, ..Request::new(key, Transport::Udp) }).begun(Transport::Udp);
    assert_eq!(frames(&run.datagram(5_000, 8, &picture(0))), 1);
    assert_eq!(run.says().detail, "playing H264, from 192.0.2.1:5000 (SSRC 8); RTP seen with SSRC 8, SDP says 7: accepted");
    // The agreed one shows, from another port: the stranger keeps nobody out.
    let out = run.datagram(6_000, 7, &picture(1));
    assert_eq!((frames(&out), run.says().ssrc), (1, Some(7)));
    assert!(out.contains(&Output::Peer(at(6_000))));
    // What is agreed may change while media comes; then only that is taken.
    let strict = ExpectedSource { ssrc: Some(9), strict: true, ip: None };
    run.input(Input::Expect(strict));
    assert_eq!(run.datagram(6_000, 7, &picture(2)), []);
    assert_eq!(frames(&run.datagram(7_000, 9, &picture(3))), 1);
}

#[test]
fn the_sender_is_told_what_came() {
    let key = StreamKey::parse("live/cam").unwrap();
    let request = Request { receiver_reports: true, ..Request::new(key, Transport::Udp) };
    let mut run = Run::asked(request).begun(Transport::Udp);
    run.datagram(5_000, 7, &picture(0));
    run.sequence += 1;
    run.datagram(5_000, 7, &picture(1));
    run.pass(5_000);
    let report = |out: Vec<Output>| {
        let sent = out.into_iter().find_map(|output| match output {
            Output::SendDatagram { pair: 0, rtcp: true, to, bytes } => Some((to, bytes)),
            _ => None,
        });
        sent.map(|(to, bytes)| (to, bytes.chunks(4).take(8).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect()))
    };
    let (to, words): (SocketAddr, Vec<u32>) = report(run.input(Input::Timeout)).unwrap();
    assert_eq!(to, at(5_001), "behind the port of the media");
    // RFC 3550 §6.4.2: of source 7, one of three is lost, the highest number is 3.
    assert_eq!((words[0], words[2], words[3], words[4]), (0x81C9_0007, 7, (256 / 3) << 24 | 1, 3));
    run.pass(5_000);
    assert_eq!(report(run.input(Input::Timeout)), None, "nothing has come since");
    // From where the sender's own reports come, the answers go there.
    let sender_report = [0x80C8_0006, 7, 0x1111_2222, 0x3333_4444, 0, 9, 900u32].map(u32::to_be_bytes).concat();
    run.input(Input::Datagram { pair: 0, rtcp: true, from: at(7_777), bytes: &sender_report });
    let elsewhere: SocketAddr = ([192, 0, 2, 66], 7_778).into();
    run.input(Input::Datagram { pair: 0, rtcp: true, from: elsewhere, bytes: &sender_report });
    run.datagram(5_000, 7, &picture(2));
    run.pass(5_000);
    let (to, words) = report(run.input(Input::Timeout)).unwrap();
    assert_eq!((to, words[6], words[7]), (at(7_777), 0x2222_3333, 5 * 65_536), "last report, and how long ago");
    // Nobody is told who has not asked, nor over TCP.
    let active = Transport::TcpActive { to: at(5_000) };
    let key = StreamKey::parse("live/cam").unwrap();
    let mut run = Run::asked(Request { receiver_reports: true, ..Request::new(key, active) }).begun(active);
    run.input(Input::Bytes(&framed(1, &picture(0))));
    run.pass(5_000);
    assert_eq!(report(run.input(Input::Timeout)), None);
}

#[test]
fn what_is_wrong_with_a_stream_is_said() {
    let notes = |out: &[Output]| -> Vec<String> {
        let note = |output: &Output| match output {
            Output::Note { reason, message } => Some(format!("{}: {message}", reason.unwrap_or("-"))),
            _ => None,
        };
        out.iter().filter_map(note).collect()
    };
    let says = |run: &Run| run.says().detail.split("; ").skip(1).map(str::to_owned).collect::<Vec<_>>();
    let mut run = Run::open(Transport::Udp, None);
    let no_map = ps_writer::Style { map: None, ..PLAIN };
    let slice = [&[0, 0, 0, 6, 0x65, 0x88, 0x80][..], &[1; 3]].concat();
    let key = |number: u64| no_map.picture(true, 3_600 * number, 3_600 * number, &annex_b(&[SPS.to_vec(), PPS.to_vec()], &slice));
    let inter = |number: u64| no_map.picture(false, 3_600 * number, 3_600 * number, &[0, 0, 0, 1, 0x41, 0x9A, 1]);
    run.datagram(5_000, 7, &key(0));
    run.pass(1_000);
    assert_eq!(notes(&run.input(Input::Timeout)), ["-: live/cam: PS has no PSM: codec guessed H.264"]);
    assert_eq!(says(&run), ["PS has no PSM: codec guessed H.264"]);
    for number in 1..=12 {
        run.datagram(5_000, 7, &inter(number));
        run.pass(1_000);
        let out = run.input(Input::Timeout);
        assert_eq!(!notes(&out).is_empty(), number == 9, "{number}: {out:?}");
    }
    assert_eq!(says(&run), ["no keyframe for 10 s", "PS has no PSM: codec guessed H.264"]);
    run.datagram(5_000, 7, &key(13));
    assert_eq!(says(&run), ["PS has no PSM: codec guessed H.264"]);
    run.pass(7_000);
    run.input(Input::Timeout);
    assert_eq!(says(&run), ["no RTP for 5 s", "PS has no PSM: codec guessed H.264"]);
    // With a map that tells the truth there is nothing to say but that it is not what it was.
    run.datagram(5_000, 7, &picture(14));
    assert_eq!(says(&run), [""; 0]);
}

#[test]
fn a_codec_that_changes_is_named() {
    let mut run = Run::open(Transport::Udp, None);
    let sound = |run: &mut Run, payload_type: u8, ssrc: u32| {
        run.sequence += 1;
        let mut bytes = rtp(run.sequence, ssrc, &[0xD5; 160]);
        bytes[1] = 0x80 | payload_type;
        run.input(Input::Datagram { pair: 0, rtcp: false, from: at(5_000), bytes: &bytes })
    };
    sound(&mut run, 8, 7);
    run.pass(5_000);
    let out = sound(&mut run, 0, 8);
    let message = "live/cam: codec changed from G.711 A-law to G.711 µ-law".to_owned();
    assert!(out.contains(&Output::Note { reason: Some("codec_changed"), message }), "{out:?}");
    assert!(run.says().detail.ends_with("(SSRC 8); codec changed from G.711 A-law to G.711 µ-law"), "{}", run.says().detail);
}
