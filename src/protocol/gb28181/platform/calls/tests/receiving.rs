//! Calls that receive live media, up to the media and their usual ends.

use super::*;
use crate::protocol::gb28181::platform::ask::RefusedKind;
use crate::protocol::gb28181::platform::calls::ON_DEMAND_PER_DEVICE_MAX;
use crate::protocol::gb28181::platform::tests::{LOUDSPEAKER, here};
use crate::session::ReceptionState;

fn text(body: &[u8]) -> String {
    String::from_utf8(body.to_vec()).unwrap()
}

#[test]
fn a_viewer_begins_a_call_and_the_last_one_ends_it() {
    let mut world = World::new();
    world.tell(Input::Wanted(key(KEY)));
    assert_eq!(world.media(), [format!("open 1 {KEY} TcpPassive")]);
    assert_eq!(world.state(), (CallState::Opening, "a port is asked for".to_owned()));
    world.tell(Input::Wanted(key(KEY)));
    world.tell(Input::ReceiverOpened { call: CallId(1), port: Ok(30_000) });
    let invite = world.sent_request(Method::Invite);
    let call = world.call();
    let ssrc = call.ssrc.unwrap();
    assert_eq!((ssrc / 10_000, call.port), (20_000, Some(30_000)));
    assert_eq!(invite.uri, format!("sip:{CAMERA}@192.0.2.10:6000"));
    assert_eq!(invite.headers.get("Subject"), Some(&*format!("{CAMERA}:{ssrc:010},34020000002000000001:0")));
    assert_eq!(invite.headers.get("Contact"), Some("<sip:34020000002000000001@198.51.100.1:5060>"));
    let body = text(&invite.body);
    for line in ["s=Play", "c=IN IP4 198.51.100.1", "m=video 30000 TCP/RTP/AVP 96", "a=setup:passive", "a=recvonly"] {
        assert!(body.contains(line), "{line}: {body}");
    }
    assert!(body.contains(&format!("y={ssrc:010}")), "{body}");
    assert_eq!(world.state(), (CallState::Invited, "INVITE sent".to_owned()));
    world.pass(100);
    world.receive(&invite.response(100).to_bytes());
    assert_eq!(world.state(), (CallState::Invited, "INVITE sent, the device is at it".to_owned()));
    world.pass(100);
    world.receive(&answer_of(&invite, 200, ANSWER).to_bytes());
    let ack = world.sent_request(Method::Ack);
    assert_eq!(ack.uri, format!("sip:{CAMERA}@192.168.1.64:5060"), "its Contact, on the way to where it is");
    assert_eq!(world.state(), (CallState::Answered, "answered, waiting for media".to_owned()));
    world.pass(300);
    let states = [
        (ReceptionState::Waiting, "waiting for media", CallState::Answered, "answered, waiting for media"),
        (
            ReceptionState::MediaSeen,
            "media seen, from 192.0.2.10:15060",
            CallState::MediaSeen,
            "media seen, from 192.0.2.10:15060",
        ),
        (ReceptionState::TracksFound, "H264", CallState::TracksFound, "H264"),
        (ReceptionState::Playing, "playing H264", CallState::Playing, "playing H264"),
    ];
    for (packets, (of_receiver, says, state, detail)) in states.into_iter().enumerate() {
        world.reception(1, of_receiver, says, packets as u64);
        assert_eq!(world.state(), (state, detail.to_owned()));
    }
    let call = world.call();
    assert_eq!((call.answered_ms, call.media_ms, call.packets.received), (Some(200), Some(500), 3));
    assert_eq!((call.source.as_deref(), &call.tracks[..]), (Some("192.0.2.10:15060"), &["H264"][..]));
    world.tell(Input::Wanted(key(KEY)));
    assert_eq!((world.media(), world.words()), (vec![], vec![]), "the same call serves all");
    world.reception(1, ReceptionState::Ended, "nobody watched for 15000 ms", 9);
    let bye = world.sent_request(Method::Bye);
    assert_eq!((bye.headers.get("CSeq"), world.media()), (Some("2 BYE"), vec![]), "the receiver is closed by itself");
    assert_eq!(world.state(), (CallState::Ended, "nobody watched for 15000 ms".to_owned()));
    assert_eq!(world.reason(), None);
    world.tell(Input::Wanted(key(KEY)));
    assert_eq!(world.media(), [format!("open 2 {KEY} TcpPassive")], "a wish is no failure");
}

#[test]
fn over_udp() {
    let mut world = World::new();
    let ticket = world.ask(Ask::Play { of: camera(), options: over(MediaTransport::Udp) });
    assert_eq!(world.media(), [format!("open 1 {KEY} Udp")]);
    world.tell(Input::ReceiverOpened { call: CallId(1), port: Ok(30_002) });
    let invite = world.sent_request(Method::Invite);
    assert!(text(&invite.body).contains("m=video 30002 RTP/AVP 96"));
    let sdp = ANSWER.replace("TCP/RTP", "RTP").replace("a=setup:active\r\na=connection:new\r\n", "");
    world.receive(&answer_of(&invite, 200, &sdp).to_bytes());
    let call = call_of(world.answer_to(ticket));
    assert_eq!((call.state, call.transport), (CallState::Answered, "udp"));
}

#[test]
fn where_the_server_connects() {
    let cases = [
        ("c=IN IP4 192.168.1.64", "192.168.1.64:15060", "a device of the same network"),
        ("c=IN IP4 127.0.0.1", "192.0.2.10:15060", "nobody else's services are looked for"),
        ("c=IN IP4 0.0.0.0", "192.0.2.10:15060", "no address"),
    ];
    for (line, to, name) in cases {
        let mut world = World::new();
        let ticket = world.ask(Ask::Play { of: camera(), options: over(MediaTransport::TcpActive) });
        assert_eq!(world.media(), [""; 0]);
        let invite = world.sent_request(Method::Invite);
        let body = text(&invite.body);
        assert!(body.contains("m=video 9 TCP/RTP/AVP") && body.contains("a=setup:active"), "{body}");
        let sdp = ANSWER.replace("c=IN IP4 192.168.1.64", line).replace("setup:active", "setup:passive");
        world.receive(&answer_of(&invite, 200, &sdp).to_bytes());
        assert_eq!(world.words(), ["ACK"]);
        assert_eq!(world.media(), [format!("open 1 {KEY} TcpActive {{ to: {to} }}")], "{name}");
        assert_eq!(world.state(), (CallState::Answered, "answered, connecting to the device".to_owned()));
        assert_eq!(world.answer_to(ticket), None);
        world.tell(Input::ReceiverOpened { call: CallId(1), port: Ok(0) });
        assert_eq!(call_of(world.answer_to(ticket)).port, None);
    }
    let mut world = World::new();
    world.ask(Ask::Play { of: camera(), options: over(MediaTransport::TcpActive) });
    let invite = world.sent_request(Method::Invite);
    world.receive(&answer_of(&invite, 200, ANSWER).to_bytes());
    world.media();
    world.tell(Input::ReceiverOpened { call: CallId(1), port: Err("cannot connect to 192.168.1.64:15060".to_owned()) });
    assert_eq!(world.state(), (CallState::Failed, "cannot connect to 192.168.1.64:15060".to_owned()));
    assert_eq!((world.words(), world.media()), (vec!["ACK".to_owned(), "BYE".to_owned()], vec![]));
}

#[test]
fn an_answer_that_says_something_else_is_accepted_and_remarked() {
    let mut world = World::new();
    let (_, invite) = world.invited();
    let asked = world.call().ssrc.unwrap();
    world.receive(&answer_of(&invite, 200, &format!("{ANSWER}y=0200009999\r\n")).to_bytes());
    assert_eq!(world.media(), ["expect 1 Some(200009999)"]);
    let detail = format!("answered, waiting for media; its answer says SSRC 200009999, {asked} was asked for");
    assert_eq!(world.state(), (CallState::Answered, detail));
    // The same number with a zero lost, as the standard's own examples have it, is no other.
    let mut world = World::new();
    let (_, invite) = world.invited();
    let sdp = format!("{ANSWER}y={}\r\n", world.call().ssrc.unwrap());
    world.receive(&answer_of(&invite, 200, &sdp).to_bytes());
    assert_eq!((world.media(), world.call().detail), (vec![], "answered, waiting for media".to_owned()));
    let mut world = World::new();
    let (_, invite) = world.invited();
    world.receive(&answer_of(&invite, 200, &ANSWER.replace("TCP/RTP", "RTP")).to_bytes());
    assert_eq!(world.call().detail, "answered, waiting for media; its answer says UDP, TCP was asked for");
    // Where the device connects, it need not say anything.
    let mut world = World::new();
    let (_, invite) = world.invited();
    world.receive(&answer_of(&invite, 200, "").to_bytes());
    assert_eq!(world.state().0, CallState::Answered);
}

#[test]
fn a_repeated_answer_is_acknowledged_again() {
    let mut world = World::new();
    let invite = world.answered();
    for _ in 0..3 {
        world.receive(&answer_of(&invite, 200, ANSWER).to_bytes());
        assert_eq!(world.words(), ["ACK"]);
    }
    assert_eq!(world.calls().len(), 1);
}

#[test]
fn streams_of_a_camera_are_calls_of_their_own() {
    let mut world = World::new();
    for name in [KEY, &format!("{KEY}/sub"), &format!("{KEY}/sub2"), &format!("{KEY}/sub255")] {
        world.tell(Input::Wanted(key(name)));
    }
    assert_eq!(world.media().len(), 2, "viewers begin two calls of a camera and no more");
    world.ask(Ask::Play { of: camera(), options: CallOptions { stream_number: Some(2), ..CallOptions::default() } });
    world.media();
    world.tell(Input::ReceiverOpened { call: CallId(2), port: Ok(30_000) });
    let invite = world.sent_request(Method::Invite);
    assert!(text(&invite.body).contains("a=streamnumber:1"));
    let streams: Vec<String> = world.calls().into_iter().map(|call| call.stream).collect();
    assert_eq!(streams, [format!("{KEY}/sub2"), format!("{KEY}/sub"), KEY.to_owned()]);
}

#[test]
fn viewers_cannot_make_a_device_be_asked_for_anything() {
    let names = [
        "gb/34020000001110000009/34020000001310000001".to_owned(),
        "gb/34020000001110000001/34020000001310000009".to_owned(),
        format!("gb/{NVR}/{LOUDSPEAKER}"),
        format!("{KEY}/playback-1"),
        format!("gb/{NVR}"),
        "live/a".to_owned(),
    ];
    let mut world = World::new();
    for name in &names {
        world.tell(Input::Wanted(key(name)));
        assert_eq!((world.media(), world.calls().len()), (vec![], 0), "{name}");
    }
    assert!(world.notes.iter().all(|(level, ..)| *level == log::Level::Debug), "{:?}", world.notes);
    // A device that is its own camera.
    world.tell(Input::Wanted(key(&format!("gb/{NVR}/{NVR}"))));
    assert_eq!(world.media().len(), 1);
    // The operator may, as far as a device has it.
    let of = Channel { channel: LOUDSPEAKER.to_owned(), ..camera() };
    world.ask(Ask::Play { of, options: CallOptions::default() });
    assert_eq!(world.media().len(), 1);
    let of = Channel { device: "1".to_owned(), channel: "2".to_owned() };
    assert_eq!(world.refusal(Ask::Play { of, options: CallOptions::default() }).kind, RefusedKind::NotFound);
    let of = Channel { channel: "a b/../c".to_owned(), ..camera() };
    assert_eq!(world.refusal(Ask::Play { of, options: CallOptions::default() }).kind, RefusedKind::Bad);
}

#[test]
fn of_a_device_without_a_catalog_one_channel_at_a_time_is_tried() {
    let mut world = World::empty(|_| ());
    world.register_for(3_600);
    world.sent.clear();
    let name = |number: u32| format!("gb/{NVR}/3402000000131000{number:04}");
    for number in 1..100 {
        world.tell(Input::Wanted(key(&name(number))));
    }
    assert_eq!(world.media(), [format!("open 1 {} TcpPassive", name(1))]);
    assert_eq!(world.reason(), Some("call_unlisted_channel"));
    world.tell(Input::Wanted(key(&format!("{}/sub", name(1)))));
    assert_eq!(world.media().len(), 1, "both streams of it");
    assert_eq!(stop(&mut world, 1), Answer::Done);
    assert_eq!(stop(&mut world, 2), Answer::Done);
    world.media();
    world.tell(Input::Wanted(key(&name(2))));
    assert_eq!(world.media().len(), 1, "then the next one");
}

#[test]
fn viewers_begin_so_many_calls_of_a_device_and_no_more() {
    let mut world = World::empty(|_| ());
    world.register_for(3_600);
    let name = |number: usize| format!("3402000000131000{number:04}");
    let items: String =
        (0..=ON_DEMAND_PER_DEVICE_MAX).map(|number| format!("<Item><DeviceID>{}</DeviceID></Item>", name(number))).collect();
    let sent = std::mem::take(&mut world.sent);
    let question = sent.into_iter().find_map(|(_, message)| match message {
        Message::Request(request) if request.body.windows(7).any(|part| part == b"Catalog") => Some(request),
        _ => None,
    });
    let sn = text(&question.unwrap().body).split("<SN>").nth(1).and_then(|rest| rest.split('<').next()).unwrap().to_owned();
    let sum = ON_DEMAND_PER_DEVICE_MAX + 1;
    world.message(&format!(
        "<Response><CmdType>Catalog</CmdType><SN>{sn}</SN><DeviceID>{NVR}</DeviceID><SumNum>{sum}</SumNum>\
        <DeviceList Num=\"{sum}\">{items}</DeviceList></Response>"
    ));
    for number in 0..=ON_DEMAND_PER_DEVICE_MAX {
        world.tell(Input::Wanted(key(&format!("gb/{NVR}/{}", name(number)))));
    }
    assert_eq!((world.media().len(), world.reason()), (ON_DEMAND_PER_DEVICE_MAX, Some("call_device_limit")));
    // The operator may.
    let of = Channel { channel: name(ON_DEMAND_PER_DEVICE_MAX), ..camera() };
    world.ask(Ask::Play { of, options: CallOptions::default() });
    assert_eq!(world.media().len(), 1);
}

#[test]
fn who_plays_what_runs_joins() {
    let mut world = World::new();
    let (first, invite) = world.invited();
    let second = world.ask(Ask::Play { of: camera(), options: CallOptions::default() });
    assert_eq!((world.answer_to(first), world.answer_to(second)), (None, None));
    world.receive(&answer_of(&invite, 200, ANSWER).to_bytes());
    assert_eq!(call_of(world.answer_to(first)).id, call_of(world.answer_to(second)).id);
    let Answer::Call(third) = world.answer(Ask::Play { of: camera(), options: CallOptions::default() }) else { panic!() };
    assert_eq!((third.id, world.calls().len()), (CallId(1), 1));
    assert!(matches!(world.answer(Ask::Call(CallId(1))), Answer::Call(_)));
    assert_eq!(world.refusal(Ask::Call(CallId(2))).why, "no call 2");
}

#[test]
fn what_a_device_wants_in_a_call() {
    let mut world = World::new();
    let invite = world.answered();
    let cases = [
        (Method::Invite, 2, 488),
        (Method::Other("UPDATE".into()), 3, 488),
        (Method::Info, 4, 200),
        (Method::Info, 4, 500),
        (Method::Subscribe, 5, 405),
    ];
    for (method, number, status) in cases {
        assert_eq!(world.in_call(&invite, method.clone(), number).status, status, "{method} {number}");
    }
    assert_eq!(world.calls()[0].state, CallState::Answered);
    assert_eq!(world.in_call(&invite, Method::Bye, 1).status, 200, "whatever its number");
    assert_eq!(world.in_call(&invite, Method::Bye, 7).status, 481);
    assert_eq!(world.in_call(&invite, Method::Options, 8).status, 481);
    assert_eq!(world.state(), (CallState::Failed, "the device has hung up".to_owned()));
    assert_eq!(world.media(), [""; 0], "what is on its way is still taken");
    world.pass(500);
    assert_eq!(world.media(), ["close 1"]);
    assert!(!world.words().contains(&"BYE".to_owned()));
}

#[test]
fn a_device_is_followed_to_where_it_is() {
    let mut world = World::new();
    world.answered();
    let elsewhere = crate::protocol::gb28181::platform::tests::udp("192.0.2.10:7000");
    let keepalive =
        format!("<Notify><CmdType>Keepalive</CmdType><SN>1</SN><DeviceID>{NVR}</DeviceID><Status>OK</Status></Notify>");
    let message = world.request_of(NVR, Method::Message, |request| request.set_body("Application/MANSCDP+xml", keepalive));
    world.receive_from(elsewhere, &message.to_bytes());
    world.sent.clear();
    assert_eq!(stop(&mut world, 1), Answer::Done);
    assert_ne!(here(), elsewhere);
    assert!(matches!(&world.sent[..], [(hop, _)] if *hop == elsewhere));
    assert_eq!((world.words(), world.media()), (vec!["BYE".to_owned()], vec!["close 1".to_owned()]));
    assert_eq!(world.state(), (CallState::Ended, "stopped by the operator".to_owned()));
    assert_eq!(world.refusal(Ask::Stop(CallId(1))).why, "call 1 is over");
    assert_eq!(world.refusal(Ask::Stop(CallId(2))).kind, RefusedKind::NotFound);
}
