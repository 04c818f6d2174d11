//! Calls that fail: each in a named state, counted, with its port closed and the other side told.

use super::*;
use crate::protocol::gb28181::platform::calls::ENDED_MAX;
use crate::protocol::gb28181::platform::calls::demand::{RETRY_MS, RETRY_MS_MAX};
use crate::protocol::gb28181::platform::tests::{here, udp};
use crate::session::ReceptionState;

/// What is expected when a call is over.
struct Over {
    words: &'static str,
    reason: &'static str,
    /// To the device.
    sent: &'static [&'static str],
    /// Whether we close the receiver.
    closed: bool,
}

#[track_caller]
fn check(world: &mut World, name: &str, over: &Over) {
    assert_eq!(world.state(), (CallState::Failed, over.words.to_owned()), "{name}");
    assert_eq!(world.reason(), Some(over.reason), "{name}");
    assert_eq!(world.words(), over.sent, "{name}");
    let closed: &[&str] = if over.closed { &["close 1"] } else { &[] };
    assert_eq!(world.media(), closed, "{name}");
    let seen = world.notes.last().map(|(level, _, message)| (*level, message.clone())).unwrap();
    assert_eq!(seen.0, log::Level::Warn, "{name}");
    assert!(seen.1.ends_with(over.words), "{name}: {}", seen.1);
}

#[test]
fn before_the_answer() {
    type Act = fn(&mut World, &Request);
    let cases: [(&str, Act, Over); 7] = [
        (
            "silence",
            |world, _| {
                world.pass(14_999);
                world.words();
                world.pass(1);
            },
            Over { words: "no SIP answer in 15 s", reason: "call_silence", sent: &[], closed: true },
        ),
        (
            "a device that is at it and no more",
            |world, invite| {
                world.receive(&invite.response(100).to_bytes());
                world.pass(15_000);
            },
            Over {
                words: "no final SIP answer in 15 s, though the device was at it",
                reason: "call_silence",
                sent: &["CANCEL"],
                closed: true,
            },
        ),
        (
            "busy",
            |world, invite| world.receive(&answer_of(invite, 486, "").to_bytes()),
            Over {
                words: "the device has refused: 486 Busy Here: it serves as many as it can",
                reason: "call_refused",
                sent: &["ACK"],
                closed: true,
            },
        ),
        (
            "no such channel, in its own words",
            |world, invite| {
                let mut answer = answer_of(invite, 404, "");
                answer.reason = "Channel Not Exist".to_owned();
                world.receive(&answer.to_bytes());
            },
            Over {
                words: "the device has refused: 404 Channel Not Exist: it knows no such channel",
                reason: "call_refused",
                sent: &["ACK"],
                closed: true,
            },
        ),
        (
            "no description but something",
            |world, invite| world.receive(&answer_of(invite, 200, "v=0\r\ns=Play\r\n").to_bytes()),
            Over {
                words: "the device's answer cannot be understood: the session description has no media section",
                reason: "call_bad_answer",
                sent: &["ACK", "BYE"],
                closed: true,
            },
        ),
        (
            "the device unregisters",
            |world, _| {
                world.register_for(0);
                world.words();
            },
            Over {
                words: "device 34020000001110000001 is offline: it has unregistered",
                reason: "call_device_gone",
                sent: &[],
                closed: true,
            },
        ),
        (
            "the receiver is taken away",
            |world, _| world.reception(1, ReceptionState::Ended, "another publisher has taken the name", 0),
            Over { words: "another publisher has taken the name", reason: "call_no_media", sent: &[], closed: false },
        ),
    ];
    for (name, act, over) in cases {
        let mut world = World::new();
        let (ticket, invite) = world.invited();
        act(&mut world, &invite);
        check(&mut world, name, &over);
        let Some(Answer::Refused(refused)) = world.answer_to(ticket) else { panic!("{name}: somebody waits") };
        assert_eq!(refused.why, over.words, "{name}");
        world.pass(100_000);
        assert_eq!(world.calls().len(), 1, "{name}: nothing comes after");
    }
}

#[test]
fn without_a_port() {
    let mut world = World::new();
    let ticket = world.ask(Ask::Play { of: camera(), options: CallOptions::default() });
    world.media();
    world.tell(Input::ReceiverOpened { call: CallId(1), port: Err("no port is left".to_owned()) });
    let over = Over { words: "no port is left", reason: "call_no_receiver", sent: &[], closed: false };
    check(&mut world, "none is left", &over);
    assert!(matches!(world.answer_to(ticket), Some(Answer::Refused(_))));
    let mut world = World::new();
    world.ask(Ask::Play { of: camera(), options: CallOptions::default() });
    world.media();
    world.pass(10_000);
    let over = Over { words: "no port was opened in 10 s", reason: "call_no_receiver", sent: &[], closed: true };
    world.sent.clear();
    check(&mut world, "nobody answers", &over);
    world.tell(Input::ReceiverOpened { call: CallId(1), port: Ok(30_000) });
    assert_eq!(world.words(), [""; 0], "much too late");
}

#[test]
fn after_the_answer() {
    type Act = fn(&mut World);
    let cases: [(&str, Act, Over); 4] = [
        (
            "it never sends",
            |world| world.pass(10_000),
            Over {
                words: "the device has answered and not connected in 10 s, waiting for media",
                reason: "call_no_media",
                sent: &["BYE"],
                closed: true,
            },
        ),
        (
            "it sends what is not taken",
            |world| {
                world.reception(1, ReceptionState::Waiting, "waiting for media; RTP seen with SSRC 8, 7 expected: ignored", 0);
                world.pass(10_000);
            },
            Over {
                words: "the device has answered, connected and sent nothing in 10 s, waiting for media; RTP seen with SSRC 8, 7 expected: ignored",
                reason: "call_no_media",
                sent: &["BYE"],
                closed: true,
            },
        ),
        (
            "it vanishes without BYE",
            |world| {
                for second in 0..5 {
                    world.reception(1, ReceptionState::Playing, "playing H264", 100 * (second + 1));
                    world.pass(if second < 4 { 1_000 } else { 9_999 });
                }
                assert_eq!(world.state().0, CallState::Playing);
                world.sent.clear();
                world.pass(1);
            },
            Over { words: "no media for 10 s, before that: playing H264", reason: "call_no_media", sent: &["BYE"], closed: true },
        ),
        (
            "the device unregisters",
            |world| {
                world.register_for(0);
                world.sent.retain(|(_, message)| matches!(message, Message::Request(_)));
            },
            Over {
                words: "device 34020000001110000001 is offline: it has unregistered",
                reason: "call_device_gone",
                sent: &["BYE"],
                closed: true,
            },
        ),
    ];
    for (name, act, over) in cases {
        let mut world = World::new();
        world.answered();
        act(&mut world);
        check(&mut world, name, &over);
    }
}

#[test]
fn a_late_answer_is_acknowledged_and_ended() {
    let mut world = World::new();
    let (_, invite) = world.invited();
    world.pass(15_000);
    assert_eq!(world.state().1, "no SIP answer in 15 s");
    world.words();
    world.pass(3_000);
    assert_eq!(world.words(), [""; 0], "the INVITE is not repeated");
    world.receive(&answer_of(&invite, 200, ANSWER).to_bytes());
    assert_eq!(world.words(), ["ACK", "BYE"]);
    world.receive(&answer_of(&invite, 200, ANSWER).to_bytes());
    assert_eq!(world.words(), ["ACK"]);
    assert_eq!((world.calls().len(), world.media()), (1, vec!["close 1".to_owned()]));
}

#[test]
fn a_recorder_may_wake_its_camera_first() {
    for (answer_ms, waited_ms, words) in [
        (5_000, 15_000, "no SIP answer in 15 s"),
        (100, 300, "no SIP answer in 300 ms"),
        (60_000, 32_000, "no SIP answer in 32 s"),
    ] {
        let mut world = World::with(|settings| settings.answer_ms = answer_ms);
        let (ticket, invite) = world.invited();
        world.pass(waited_ms - 1);
        world.receive(&answer_of(&invite, 200, ANSWER).to_bytes());
        assert!(matches!(world.answer_to(ticket), Some(Answer::Call(_))), "{answer_ms}");
        let mut world = World::with(|settings| settings.answer_ms = answer_ms);
        world.invited();
        world.pass(waited_ms);
        assert_eq!(world.state(), (CallState::Failed, words.to_owned()), "{answer_ms}");
    }
}

#[test]
fn the_operator_stops_before_the_answer() {
    let mut world = World::new();
    let (ticket, invite) = world.invited();
    world.receive(&invite.response(180).to_bytes());
    assert_eq!(stop(&mut world, 1), Answer::Done);
    let Some(Answer::Refused(refused)) = world.answer_to(ticket) else { panic!() };
    assert_eq!(refused.why, "stopped by the operator");
    let cancel = world.sent_request(Method::Cancel);
    world.receive(&cancel.response(200).to_bytes());
    world.receive(&answer_of(&invite, 487, "").to_bytes());
    assert_eq!(world.words(), ["ACK"]);
    assert_eq!(world.state().0, CallState::Ended);
}

#[test]
fn a_stranger_ends_no_call() {
    let mut world = World::new();
    let invite = world.answered();
    let mut forged = invite.response(200);
    forged.headers.set("Call-ID", "c7@192.0.2.10");
    let bye = world.request_of(CAMERA, Method::Bye, |_| ());
    world.receive_from(udp("203.0.113.9:5060"), &bye.to_bytes());
    assert_eq!(world.words(), ["481"]);
    // Who has read the names of the call, from elsewhere: in vain, and answered once.
    for method in [Method::Bye, Method::Info, Method::Invite] {
        let request = world.request_of(CAMERA, method.clone(), |request| {
            request.headers.set("From", answer_of(&invite, 200, "").headers.get("To").unwrap());
            request.headers.set("To", invite.headers.get("From").unwrap());
            request.headers.set("Call-ID", invite.headers.get("Call-ID").unwrap());
        });
        world.receive_from(udp("203.0.113.9:5060"), &request.to_bytes());
        assert_eq!(world.words(), ["481"], "{method}");
        world.pass(1_000);
        assert_eq!(world.words(), [""; 0], "{method}");
    }
    let unregister = world.request_of(NVR, Method::Register, |request| request.headers.push("Expires", "0"));
    world.receive_from(udp("203.0.113.9:5060"), &unregister.to_bytes());
    assert_eq!(world.words(), ["401"]);
    world.receive_from(here(), &forged.to_bytes());
    assert_eq!(world.state().0, CallState::Answered);
}

#[test]
fn the_calls_of_strangers_are_refused_once() {
    let mut world = World::new();
    world.sent.clear();
    let stranger = "34020000001110000009";
    for round in 0..3 {
        let invite = world.request_of(stranger, Method::Invite, |_| ());
        world.receive_from(udp("203.0.113.9:5060"), &invite.to_bytes());
        assert_eq!(world.words(), ["403"], "{round}");
        world.receive_from(udp("203.0.113.9:5060"), &invite.to_bytes());
        assert_eq!(world.words(), ["403"], "one answer for each message");
    }
    // A device that is known, to which nothing was announced.
    let invite = world.request_of(NVR, Method::Invite, |_| ());
    world.receive(&invite.to_bytes());
    assert_eq!(world.words(), ["403"]);
    world.pass(32_000);
    assert_eq!(world.words(), [""; 0]);
}

#[test]
fn a_camera_that_fails_is_asked_less_and_less_often() {
    let mut world = World::new();
    let mut asked = Vec::new();
    let begin = world.now_ms;
    // A viewer that waits for two and a half minutes.
    for _ in 0..300 {
        world.tell(Input::Wanted(key(KEY)));
        if world.media().iter().any(|word| word.starts_with("open")) {
            asked.push(world.now_ms - begin);
            let call = world.call().id;
            world.tell(Input::ReceiverOpened { call, port: Ok(30_000) });
            let invite = world.sent_request(Method::Invite);
            world.receive(&answer_of(&invite, 480, "").to_bytes());
            world.media();
        }
        world.pass(500);
        world.answer_questions();
    }
    let pauses: Vec<u64> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(pauses, [RETRY_MS, 2 * RETRY_MS, 4 * RETRY_MS, 8 * RETRY_MS, RETRY_MS_MAX]);
    let calls = world.calls();
    assert_eq!(calls.len(), asked.len(), "each attempt is named");
    // Once it plays, all is forgotten.
    world.register_for(3_600);
    world.pass(RETRY_MS_MAX);
    world.answered();
    let id = world.call().id.0;
    world.reception(id, ReceptionState::Playing, "playing H264", 1);
    world.reception(id, ReceptionState::Ended, "the sender has closed the connection", 1);
    world.pass(RETRY_MS);
    world.media();
    world.tell(Input::Wanted(key(KEY)));
    assert_eq!(world.media().len(), 1);
}

#[test]
fn a_device_that_cannot_be_reached_is_named_now_and_then() {
    let mut world = World::new();
    world.register_for(0);
    world.notes.clear();
    for _ in 0..20 {
        world.tell(Input::Wanted(key(KEY)));
        world.pass(500);
    }
    let said: Vec<_> = world.notes.iter().filter(|(_, reason, _)| *reason == Some("call_not_begun")).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].2.ends_with("is offline: it has unregistered"), "{said:?}");
}

#[test]
fn what_is_over_is_kept_for_a_while() {
    let mut world = World::new();
    for _ in 0..ENDED_MAX + 10 {
        world.ask(Ask::Play { of: camera(), options: CallOptions::default() });
        let call = world.calls()[0].id;
        world.tell(Input::ReceiverOpened { call, port: Err("no port is left".to_owned()) });
    }
    let calls = world.calls();
    assert_eq!((calls.len(), calls[0].id, calls[ENDED_MAX - 1].id), (ENDED_MAX, CallId(266), CallId(11)));
    assert!(matches!(world.answer(Ask::Call(CallId(11))), Answer::Call(_)));
}

#[test]
fn at_the_end_of_the_process_all_is_told() {
    let mut world = World::new();
    world.answered();
    world.tell(Input::Finishing);
    assert_eq!((world.words(), world.media()), (vec!["BYE".to_owned()], vec!["close 1".to_owned()]));
    assert_eq!(world.state(), (CallState::Ended, "the server is shutting down".to_owned()));
}
