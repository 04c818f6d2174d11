//! Playback and download: their span, how they go on, and their end.

use super::*;
use crate::protocol::gb28181::platform::ask::{PlayingControl, Refused, RefusedKind};
use crate::session::ReceptionState;

const FROM: u64 = 1_767_300_000;

fn playback(span: (u64, u64)) -> Ask {
    Ask::Playback { of: camera(), from_unix_s: span.0, to_unix_s: span.1, options: CallOptions::default() }
}

fn download(speed: u32) -> Ask {
    Ask::Download { of: camera(), from_unix_s: FROM, to_unix_s: FROM + 60, speed, options: CallOptions::default() }
}

/// Up to media: the INVITE.
fn begun(world: &mut World, ask: Ask) -> Request {
    world.sent.clear();
    world.ask(ask);
    let call = world.call().id;
    world.tell(Input::ReceiverOpened { call, port: Ok(30_000) });
    let invite = world.sent_request(Method::Invite);
    world.receive(&answer_of(&invite, 200, &ANSWER.replace("Play", "Playback")).to_bytes());
    world.words();
    world.media();
    world.reception(call.0, ReceptionState::Playing, "playing H264", 10);
    invite
}

fn media_status(of: &str) -> String {
    format!("<Notify><CmdType>MediaStatus</CmdType><SN>8</SN><DeviceID>{of}</DeviceID><NotifyType>121</NotifyType></Notify>")
}

#[test]
fn spans_and_speeds_are_in_the_description() {
    let cases = [
        (playback((FROM, FROM + 3_600)), "Playback", "playback-1", "t=1767300000 1767303600", None),
        (download(4), "Download", "download-1", "t=1767300000 1767300060", Some("a=downloadspeed:4")),
    ];
    for (ask, kind, name, span, speed) in cases {
        let mut world = World::new();
        let invite = begun(&mut world, ask);
        let body = String::from_utf8(invite.body.to_vec()).unwrap();
        for line in [format!("s={kind}"), format!("u={CAMERA}:0"), span.to_owned(), "y=12".to_owned()] {
            assert!(body.contains(&line), "{line}: {body}");
        }
        assert!(speed.is_none_or(|speed| body.contains(speed)), "{body}");
        assert!(invite.headers.get("Subject").unwrap().starts_with(&format!("{CAMERA}:12")));
        assert_eq!(world.call().stream, format!("{KEY}/{name}"));
    }
    let mut world = World::new();
    for ask in [playback((FROM, FROM)), playback((FROM, FROM - 1)), download(0), download(65)] {
        assert_eq!(world.refusal(ask).kind, RefusedKind::Bad);
    }
    // Two of the same span are two calls, and the live one is a third.
    for _ in 0..2 {
        world.ask(playback((FROM, FROM + 60)));
    }
    world.tell(Input::Wanted(key(KEY)));
    assert_eq!(world.calls().len(), 3);
}

#[test]
fn how_it_goes_on_is_said_in_the_call() {
    let cases = [
        (PlayingControl::Pause, "PAUSE RTSP/1.0\r\nCSeq: 1\r\nPauseTime: now\r\n", true),
        (PlayingControl::Resume, "PLAY RTSP/1.0\r\nCSeq: 2\r\nRange: npt=now-\r\n", false),
        (PlayingControl::Scale(2.0), "PLAY RTSP/1.0\r\nCSeq: 3\r\nScale: 2.0\r\n", false),
        (PlayingControl::Scale(-0.5), "PLAY RTSP/1.0\r\nCSeq: 4\r\nScale: -0.5\r\n", false),
        (PlayingControl::Seek(100), "PLAY RTSP/1.0\r\nCSeq: 5\r\nRange: npt=100-\r\n", false),
    ];
    let mut world = World::new();
    let invite = begun(&mut world, playback((FROM, FROM + 3_600)));
    for (number, (control, body, is_paused)) in cases.into_iter().enumerate() {
        let ticket = world.ask(Ask::Playing { call: CallId(1), control });
        let info = world.sent_request(Method::Info);
        assert_eq!((&info.body[..], info.headers.get("Content-Type")), (body.as_bytes(), Some("Application/MANSRTSP")));
        assert_eq!(info.headers.get("Call-ID"), invite.headers.get("Call-ID"));
        assert_eq!(info.headers.get("CSeq"), Some(&*format!("{} INFO", number + 2)));
        assert_eq!(world.answer_to(ticket), None);
        let mut answer = info.response(200);
        answer.set_body("Application/MANSRTSP", format!("RTSP/1.0 200 OK\r\nCSeq: {}\r\n", number + 1));
        world.receive(&answer.to_bytes());
        assert_eq!(world.answer_to(ticket), Some(Answer::Done));
        assert_eq!(world.call().detail.ends_with("; paused"), is_paused);
    }
}

#[test]
fn what_a_device_will_not_do_is_said() {
    let mut world = World::new();
    begun(&mut world, playback((FROM, FROM + 3_600)));
    let cases = [
        (200, "RTSP/1.0 457 Invalid Range\r\nCSeq: 1\r\n", Some("the device has refused: MANSRTSP 457")),
        (488, "", Some("the device has refused: 488 Not Acceptable Here")),
        (200, "", None),
        (200, "what?", None),
    ];
    for (status, body, why) in cases {
        let ticket = world.ask(Ask::Playing { call: CallId(1), control: PlayingControl::Seek(9_999) });
        let mut answer = world.sent_request(Method::Info).response(status);
        answer.set_body("Application/MANSRTSP", body);
        world.receive(&answer.to_bytes());
        let expected = why.map_or(Answer::Done, |why| Answer::refused(RefusedKind::Device, why));
        assert_eq!(world.answer_to(ticket), Some(expected));
    }
    let ticket = world.ask(Ask::Playing { call: CallId(1), control: PlayingControl::Pause });
    world.pass(5_000);
    assert_eq!(world.answer_to(ticket), Some(Answer::refused(RefusedKind::Silent, "no SIP answer in 5 s")));
    let bad = [f64::NAN, f64::INFINITY, 0.0, 65.0];
    for scale in bad {
        assert_eq!(world.refusal(Ask::Playing { call: CallId(1), control: PlayingControl::Scale(scale) }).kind, RefusedKind::Bad);
    }
    let pause = |call| Ask::Playing { call: CallId(call), control: PlayingControl::Pause };
    assert_eq!(world.refusal(pause(9)), Refused { kind: RefusedKind::NotFound, why: "no call 9".to_owned() });
    world.ask(playback((FROM, FROM + 60)));
    assert_eq!(world.refusal(pause(2)).why, "call 2 is not answered yet");
    stop(&mut world, 1);
    assert_eq!(world.refusal(pause(1)).why, "call 1 is over");
    let mut world = World::new();
    world.answered();
    assert_eq!(world.refusal(pause(1)).why, "call 1 is none of a recording");
}

#[test]
fn a_pause_is_no_loss_of_media() {
    let mut world = World::new();
    begun(&mut world, playback((FROM, FROM + 3_600)));
    let control = |world: &mut World, control| {
        world.ask(Ask::Playing { call: CallId(1), control });
        let info = world.sent_request(Method::Info);
        world.receive(&info.response(200).to_bytes());
    };
    control(&mut world, PlayingControl::Pause);
    world.pass(100_000);
    assert_eq!(world.state().0, CallState::Playing);
    control(&mut world, PlayingControl::Resume);
    world.pass(9_000);
    assert_eq!(world.state().0, CallState::Playing);
    world.pass(11_000);
    assert_eq!(world.state(), (CallState::Failed, "no media for 10 s, before that: playing H264".to_owned()));
}

#[test]
fn the_end_of_a_recording_ends_the_call_when_all_has_come() {
    // By the channel, by the device, and as a message in the call.
    for of in [CAMERA, NVR] {
        let mut world = World::new();
        begun(&mut world, download(4));
        world.message(&media_status(of));
        assert_eq!(world.words(), ["200", "BYE"]);
        assert_eq!(world.state(), (CallState::Ended, "all that was recorded has been sent".to_owned()));
        assert_eq!(world.media(), [""; 0]);
        world.reception(1, ReceptionState::Playing, "playing H264", 20);
        world.pass(500);
        assert_eq!(world.media(), ["close 1"]);
        assert_eq!((world.call().packets.received, world.reason()), (20, None));
    }
    // Which of two is meant is not known, unless the message is one of the call.
    let mut world = World::new();
    begun(&mut world, playback((FROM, FROM + 60)));
    let second = begun(&mut world, playback((FROM, FROM + 90)));
    world.message(&media_status(CAMERA));
    assert_eq!(world.words(), ["200"]);
    let call_id = second.headers.get("Call-ID").unwrap().to_owned();
    world.request(CAMERA, Method::Message, |request| {
        request.headers.set("Call-ID", &call_id);
        request.set_body("Application/MANSCDP+xml", media_status(CAMERA));
    });
    world.pass(500);
    let states: Vec<CallState> = world.calls().into_iter().map(|call| call.state).collect();
    assert_eq!(states, [CallState::Playing, CallState::Ended]);
    // The other one has been told of as well: it has only to fall silent.
    world.pass(20_000);
    let states: Vec<CallState> = world.calls().into_iter().map(|call| call.state).collect();
    assert_eq!(states, [CallState::Ended, CallState::Ended]);
    // Of a live call it means nothing.
    let mut world = World::new();
    world.answered();
    world.message(&media_status(CAMERA));
    assert_eq!(world.words(), ["200"]);
    assert_eq!(world.state().0, CallState::Answered);
}

#[test]
fn a_device_may_hang_up_at_the_end() {
    let mut world = World::new();
    let invite = begun(&mut world, download(1));
    assert_eq!(world.in_call(&invite, Method::Bye, 1).status, 200);
    world.pass(500);
    assert_eq!(world.state(), (CallState::Ended, "the device has hung up".to_owned()));
    assert_eq!((world.media(), world.words()), (vec!["close 1".to_owned()], vec![]));
}
