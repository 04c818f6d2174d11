//! What comes to the port of a `Receiver`, datagrams or a connection's bytes, and time → its outputs: no panic, media only while it publishes,
//! an end that is due is never put off, and what it keeps is bounded.
//!
//! Input: a byte of options (TCP, who connects, an expected source, reports), then steps: what happens, a byte for where from, sized bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shardcast::config::Config;
use shardcast::format::ps;
use shardcast::format::rtp::{demux, framing};
use shardcast::media::{MediaEvent, Stamp};
use shardcast::protocol::gb28181::receiver::{Receiver, Request, Transport};
use shardcast::session::{CloseReason, ExpectedSource, Input, Output, ReceptionState, Session, StreamKey};
use shardcast_fuzz::Choices;

const HELD_BYTES_MAX: usize = ps::HELD_BYTES_MAX + demux::HELD_BYTES_MAX + framing::HELD_BYTES_MAX;

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices::new(input);
    let options = choices.byte();
    let transport = match (options & 1, options & 8) {
        (0, _) => Transport::Udp,
        (_, 0) => Transport::TcpPassive,
        _ => Transport::TcpActive { to: ([10, 0, 0, 9], 5_000).into() },
    };
    let key = StreamKey::parse("live/a").expect("a name");
    let source = ExpectedSource { ssrc: (options & 2 != 0).then_some(7), strict: options & 4 != 0, ip: None };
    let (idle_ms, receiver_reports) = ((options & 16 != 0).then_some(1_000), options & 32 != 0);
    let request = Request { source, idle_ms, receiver_reports, ..Request::new(key, transport) };
    let (mut receiver, mut now) = (Receiver::new(request, &Config::default()), Stamp::from_millis(1_000_000));
    let mut out = Vec::new();
    let opened = match transport {
        Transport::Udp => Input::PairOpened { pair: 0, port: Some(20_000) },
        Transport::TcpPassive | Transport::TcpActive { .. } => Input::PortOpened(Some(20_000)),
    };
    for input in [Input::Timeout, Input::Publishing, opened] {
        receiver.handle(now, input, &mut out).expect("it begins");
    }
    out.clear();
    while !choices.is_over() {
        let (what, port) = (choices.byte(), 5_000 + u16::from(choices.byte() & 3));
        let from = ([10, 0, 0, 9], port).into();
        let expected = ExpectedSource { ssrc: Some(port.into()), strict: what & 8 != 0, ip: Some([10, 0, 0, 9].into()) };
        let input = match (what & 7, transport) {
            (0, _) => {
                now = now.after_millis(u64::from(what) * 50);
                Input::Timeout
            }
            (1, _) => Input::Connected(from),
            (2, _) => Input::Disconnected,
            (3, _) if what == 0xF3 => Input::Unwatched,
            (3, _) if what == 0xFB => Input::Closing(CloseReason::Kicked),
            (3, _) if what & 0x30 == 0 => Input::Expect(expected),
            (_, Transport::Udp) => Input::Datagram { pair: 0, rtcp: what & 8 != 0, from, bytes: choices.sized() },
            (_, _) => Input::Bytes(choices.sized()),
        };
        let is_timeout = matches!(input, Input::Timeout);
        let result = receiver.handle(now, input, &mut out);
        assert!(receiver.held_bytes() <= HELD_BYTES_MAX);
        let reception = receiver.reception().expect("it always says something");
        assert!(reception.detail.len() < 400);
        for output in out.drain(..) {
            let is_known = matches!(
                output,
                Output::Media(MediaEvent::Tracks(_) | MediaEvent::Frame(_))
                    | Output::Discarded(_)
                    | Output::Received(_)
                    | Output::Note { .. }
                    | Output::Peer(_)
                    | Output::Unpublish
                    | Output::SendDatagram { .. }
                    | Output::Close
            );
            assert!(is_known, "{output:?}");
        }
        if result.is_err() || reception.state == ReceptionState::Ended {
            assert_eq!(receiver.next_timeout(), None);
            return;
        }
        let due = receiver.next_timeout().expect("it is over some time");
        assert!(!is_timeout || due > now, "due again at once");
    }
});
