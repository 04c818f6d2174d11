//! Talks: announced by us, called by the device, answered with a sender.

use super::*;
use crate::protocol::gb28181::platform::ask::RefusedKind;
use crate::protocol::gb28181::platform::tests::LOUDSPEAKER;
use crate::session::{Sending, SendingState};

const OFFER: &str = "v=0\r\no=34020000001370000001 0 0 IN IP4 192.168.1.64\r\ns=Play\r\nc=IN IP4 192.168.1.64\r\nt=0 0\r\n\
    m=audio 9000 RTP/AVP 8\r\na=recvonly\r\na=rtpmap:8 PCMA/8000\r\ny=0200000777\r\nf=v/////a/1/8/1\r\n";

fn talk() -> Ask {
    let of = Channel { device: NVR.to_owned(), channel: LOUDSPEAKER.to_owned() };
    Ask::Talk { of, stream: key("live/mic") }
}

/// Announced, and agreed to.
fn announced(world: &mut World) -> Ticket {
    world.sent.clear();
    let ticket = world.ask(talk());
    let message = world.sent_request(Method::Message);
    let body = String::from_utf8(message.body.to_vec()).unwrap();
    assert!(body.contains("<CmdType>Broadcast</CmdType>"), "{body}");
    assert!(body.contains(&format!("<TargetID>{LOUDSPEAKER}</TargetID>")), "{body}");
    world.receive(&message.response(200).to_bytes());
    let sn = body.split("<SN>").nth(1).and_then(|rest| rest.split('<').next()).unwrap();
    agree(world, sn, "OK");
    world.sent.clear();
    ticket
}

fn agree(world: &mut World, sn: &str, result: &str) {
    world.message(&format!(
        "<Response><CmdType>Broadcast</CmdType><SN>{sn}</SN><DeviceID>{LOUDSPEAKER}</DeviceID><Result>{result}</Result></Response>"
    ));
}

/// The device calls.
fn called(world: &mut World, sdp: &str) -> Request {
    let invite = world.request_of(LOUDSPEAKER, Method::Invite, |request| request.set_body("APPLICATION/SDP", sdp.to_owned()));
    world.receive(&invite.to_bytes());
    invite
}

fn sending(world: &mut World, state: SendingState, detail: &str) {
    let sending = Sending {
        key: key("live/mic"),
        transport: "udp",
        payload: "g711a",
        port: Some(30_000),
        to: Some("192.168.1.64:9000".parse().unwrap()),
        ssrc: 200_000_777,
        state,
        detail: detail.to_owned(),
        tracks: vec!["G711A"],
        left_out: Vec::new(),
        bytes: 0,
        refusal: None,
    };
    world.tell(Input::Sending { call: CallId(1), sending });
}

/// The OPTIONS that was sent.
fn probed(world: &mut World) -> Request {
    world.sent_request(Method::Options)
}

/// Answered by us: the INVITE and our answer.
fn accepted(world: &mut World) -> (Request, Response) {
    announced(world);
    let invite = called(world, OFFER);
    world.sent.clear();
    world.tell(Input::SenderOpened { call: CallId(1), port: Ok(30_000) });
    let answer = world.sent_response();
    world.media();
    (invite, answer)
}

/// A request of the device in that call.
fn in_talk(world: &mut World, invite: &Request, answer: &Response, method: Method) {
    let number = if method == Method::Ack { 1 } else { 2 };
    let request = world.request_of(LOUDSPEAKER, method, |request| {
        for name in ["From", "Call-ID"] {
            request.headers.set(name, invite.headers.get(name).unwrap());
        }
        request.headers.set("To", answer.headers.get("To").unwrap());
        let first = invite.identity().unwrap().cseq.number;
        let cseq = format!("{} {}", first + number - 1, request.method);
        request.headers.set("CSeq", &cseq);
    });
    world.receive(&request.to_bytes());
}

#[test]
fn from_the_announcement_to_the_end() {
    let mut world = World::new();
    let ticket = announced(&mut world);
    assert_eq!(world.state(), (CallState::Invited, "the device is asked to call".to_owned()));
    assert_eq!(world.refusal(talk()).why, "call 1 talks to it");
    let invite = called(&mut world, OFFER);
    assert_eq!(world.words(), ["100"]);
    assert_eq!(world.media(), ["send 1 live/mic Udp { to: 192.168.1.64:9000 } G711A"]);
    world.tell(Input::SenderOpened { call: CallId(1), port: Ok(30_000) });
    let answer = world.sent_response();
    assert_eq!((answer.status, answer.headers.get("Contact")), (200, Some("<sip:34020000002000000001@198.51.100.1:5060>")));
    let body = String::from_utf8(answer.body.to_vec()).unwrap();
    for line in ["c=IN IP4 198.51.100.1", "m=audio 30000 RTP/AVP 8", "a=sendonly", "y=0200000777"] {
        assert!(body.contains(line), "{line}: {body}");
    }
    let call = call_of(world.answer_to(ticket));
    assert_eq!((call.state, call.ssrc, call.stream.as_str()), (CallState::Answered, Some(200_000_777), "live/mic"));
    in_talk(&mut world, &invite, &answer, Method::Ack);
    assert_eq!(world.state(), (CallState::Answered, "answered, the stream is about to be sent".to_owned()));
    world.pass(40_000);
    assert_eq!(world.state().0, CallState::Answered, "nothing is missed");
    sending(&mut world, SendingState::Sending, "sending G711A to 192.168.1.64:9000");
    assert_eq!(world.state(), (CallState::Playing, "sending G711A to 192.168.1.64:9000".to_owned()));
    world.sent.clear();
    in_talk(&mut world, &invite, &answer, Method::Bye);
    assert_eq!((world.words(), world.media()), (vec!["200".to_owned()], vec!["close sender 1".to_owned()]));
    assert_eq!(world.state().1, "the device has hung up");
}

#[test]
fn how_a_device_wants_to_hear() {
    let ps = OFFER.replace("AVP 8", "AVP 96").replace("8 PCMA/8000", "96 PS/90000");
    let tcp =
        |setup: &str| OFFER.replace("RTP/AVP", "TCP/RTP/AVP").replace("a=recvonly", &format!("a=recvonly\r\na=setup:{setup}"));
    let cases = [
        ("as a program stream", ps, Some("Udp { to: 192.168.1.64:9000 } Ps")),
        ("it connects", tcp("active"), Some("TcpPassive G711A")),
        ("we connect", tcp("passive"), Some("TcpActive { to: 192.168.1.64:9000 } G711A")),
        ("without a number", OFFER.replace("y=0200000777\r\n", ""), Some("Udp { to: 192.168.1.64:9000 } G711A")),
        ("in a codec that is not carried", OFFER.replace("AVP 8", "AVP 4").replace("8 PCMA", "4 G723"), None),
        ("not at all", OFFER.replace("recvonly", "sendonly"), None),
        ("nowhere", OFFER.replace("audio 9000", "audio 0"), None),
        ("no description", "v=0\r\n".to_owned(), None),
    ];
    for (name, offer, expected) in cases {
        let mut world = World::new();
        announced(&mut world);
        called(&mut world, &offer);
        match expected {
            Some(how) => {
                assert_eq!(world.media(), [format!("send 1 live/mic {how}")], "{name}");
                let (port, said) = if how.starts_with("TcpActive") { (0, 9) } else { (30_000, 30_000) };
                world.tell(Input::SenderOpened { call: CallId(1), port: Ok(port) });
                let body = String::from_utf8(world.sent_response().body.to_vec()).unwrap();
                assert!(body.contains(&format!("m=audio {said} ")), "{name}: {body}");
            }
            None => {
                assert_eq!(world.words(), ["488"], "{name}");
                assert_eq!((world.state().0, world.reason()), (CallState::Failed, Some("call_bad_answer")), "{name}");
            }
        }
    }
}

#[test]
fn what_comes_of_nothing() {
    // The device does not take the message.
    let mut world = World::new();
    world.sent.clear();
    let ticket = world.ask(talk());
    let message = world.sent_request(Method::Message);
    world.receive(&message.response(403).to_bytes());
    assert!(matches!(world.answer_to(ticket), Some(Answer::Refused(refused)) if refused.kind == RefusedKind::Device));
    // It does not want to hear.
    let mut world = World::new();
    world.sent.clear();
    world.ask(talk());
    let body = String::from_utf8(world.sent_request(Method::Message).body.to_vec()).unwrap();
    agree(&mut world, "0", "ERROR");
    assert_eq!(world.state().0, CallState::Invited, "that is about something else");
    let sn = body.split("<SN>").nth(1).and_then(|rest| rest.split('<').next()).unwrap().to_owned();
    agree(&mut world, &sn, "ERROR");
    assert_eq!(world.state(), (CallState::Failed, "the device does not want to hear it".to_owned()));
    // It agrees and does not call.
    let mut world = World::new();
    announced(&mut world);
    world.pass(15_000);
    assert_eq!(world.state(), (CallState::Failed, "the device has not called in 15 s".to_owned()));
    called(&mut world, OFFER);
    assert_eq!((world.sent_response().status, world.reason()), (403, Some("call_not_expected")));
}

#[test]
fn a_device_that_has_called_need_not_take_the_announcement() {
    for status in [Some(403), None] {
        let mut world = World::new();
        world.sent.clear();
        world.ask(talk());
        let message = world.sent_request(Method::Message);
        let invite = called(&mut world, OFFER);
        world.tell(Input::SenderOpened { call: CallId(1), port: Ok(30_000) });
        let answer = world.sent_response();
        in_talk(&mut world, &invite, &answer, Method::Ack);
        match status {
            Some(status) => world.receive(&message.response(status).to_bytes()),
            None => world.pass(6_000),
        }
        assert_eq!(world.state().0, CallState::Answered, "{status:?}");
    }
}

#[test]
fn a_device_is_asked_whether_it_still_knows_the_talk() {
    type Answered = fn(&mut World, &Request);
    let cases: [(&str, Answered, Option<&str>); 5] = [
        ("it does", |world, probe| world.receive(&probe.response(200).to_bytes()), None),
        ("it knows no OPTIONS", |world, probe| world.receive(&probe.response(405).to_bytes()), None),
        (
            "it does not",
            |world, probe| world.receive(&probe.response(481).to_bytes()),
            Some("the device does not know the call any more: 481 Call/Transaction Does Not Exist"),
        ),
        (
            "it cannot",
            |world, probe| world.receive(&probe.response(408).to_bytes()),
            Some("the device does not know the call any more: 408 Request Timeout"),
        ),
        ("it never answers", |_, _| (), None),
    ];
    for (name, act, over) in cases {
        let mut world = World::new();
        let (invite, answer) = accepted(&mut world);
        in_talk(&mut world, &invite, &answer, Method::Ack);
        for _ in 0..if over.is_none() { 2 } else { 1 } {
            world.pass(59_000);
            world.sent.clear();
            world.pass(1_000);
            let probe = probed(&mut world);
            assert_eq!(probe.headers.get("Call-ID"), invite.headers.get("Call-ID"), "{name}");
            act(&mut world, &probe);
        }
        match over {
            None => assert_eq!(world.state().0, CallState::Answered, "{name}"),
            Some(words) => {
                assert_eq!(world.state(), (CallState::Failed, words.to_owned()), "{name}");
                assert_eq!(world.media(), ["close sender 1"], "{name}");
            }
        }
    }
}

#[test]
fn a_device_that_answers_no_more_has_no_talk() {
    let mut world = World::new();
    let (invite, answer) = accepted(&mut world);
    in_talk(&mut world, &invite, &answer, Method::Ack);
    world.pass(59_000);
    world.sent.clear();
    world.pass(1_000);
    let probe = probed(&mut world);
    world.receive(&probe.response(200).to_bytes());
    world.pass(65_000);
    let words = "the device was asked whether it still knows the call: no SIP answer in 5 s";
    assert_eq!(world.state(), (CallState::Failed, words.to_owned()));
    assert_eq!(world.media(), ["close sender 1"]);
}

#[test]
fn a_talk_that_its_device_does_not_answer_for_gives_way() {
    let mut world = World::new();
    let (invite, answer) = accepted(&mut world);
    in_talk(&mut world, &invite, &answer, Method::Ack);
    world.sent.clear();
    assert_eq!(world.refusal(talk()).why, "call 1 talks to it");
    let probe = probed(&mut world);
    world.receive(&probe.response(200).to_bytes());
    world.pass(3_000);
    assert_eq!(world.refusal(talk()).why, "call 1 talks to it", "it lives");
    world.pass(2_000);
    world.ask(talk());
    let states: Vec<CallState> = world.calls().into_iter().map(|call| call.state).collect();
    assert_eq!(states, [CallState::Invited, CallState::Failed]);
    assert_eq!(world.media(), ["close sender 1"]);
}

#[test]
fn a_talk_is_ended_by_who_knows_its_tag() {
    let mut world = World::new();
    let (invite, answer) = accepted(&mut world);
    in_talk(&mut world, &invite, &answer, Method::Ack);
    world.sent.clear();
    let mut without = answer.clone();
    without.headers.set("To", invite.headers.get("To").unwrap());
    in_talk(&mut world, &invite, &without, Method::Bye);
    assert_eq!(world.words(), ["481"]);
    let mut other = answer.clone();
    other.headers.set("To", &format!("{};tag=0123456789abcdef", invite.headers.get("To").unwrap()));
    in_talk(&mut world, &invite, &other, Method::Bye);
    assert_eq!((world.words(), world.state().0), (vec!["481".to_owned()], CallState::Answered));
    // Another process would have given another tag.
    assert_ne!(invite.response(200).headers.get("To"), answer.headers.get("To"));
}

#[test]
fn a_call_of_the_device_that_comes_to_nothing() {
    // No sender.
    let mut world = World::new();
    announced(&mut world);
    called(&mut world, OFFER);
    world.media();
    world.tell(Input::SenderOpened { call: CallId(1), port: Err("no port is left".to_owned()) });
    assert_eq!(world.sent_response().status, 480);
    assert_eq!((world.state(), world.media()), ((CallState::Failed, "no port is left".to_owned()), vec![]));
    // The device calls off.
    let mut world = World::new();
    announced(&mut world);
    let mut cancel = called(&mut world, OFFER);
    cancel.method = Method::Cancel;
    let cseq = cancel.headers.get("CSeq").unwrap().replace("INVITE", "CANCEL");
    cancel.headers.set("CSeq", &cseq);
    world.media();
    world.sent.clear();
    world.receive(&cancel.to_bytes());
    assert_eq!((world.words(), world.media()), (vec!["200".to_owned(), "487".to_owned()], vec!["close sender 1".to_owned()]));
    assert_eq!(world.state().1, "the device has called off");
    // It does not acknowledge.
    let mut world = World::new();
    accepted(&mut world);
    world.pass(32_000);
    assert_eq!(world.state(), (CallState::Failed, "the device has not acknowledged the answer to its call".to_owned()));
    assert_eq!(world.media(), ["close sender 1"]);
    // The stream ends.
    let mut world = World::new();
    let (invite, answer) = accepted(&mut world);
    in_talk(&mut world, &invite, &answer, Method::Ack);
    sending(&mut world, SendingState::Sending, "sending");
    world.sent.clear();
    sending(&mut world, SendingState::Ended, "the stream has ended");
    assert_eq!((world.words(), world.media()), (vec!["BYE".to_owned()], vec![]));
    assert_eq!(world.state(), (CallState::Ended, "the stream has ended".to_owned()));
    // The operator stops it.
    let mut world = World::new();
    let (invite, answer) = accepted(&mut world);
    in_talk(&mut world, &invite, &answer, Method::Ack);
    stop(&mut world, 1);
    assert_eq!((world.words(), world.media()), (vec!["BYE".to_owned()], vec!["close sender 1".to_owned()]));
}
