//! Calls of a platform above, in virtual time: made, refused, acknowledged, controlled, forgotten, and ended by either side.

use super::*;

/// A call that runs: its number.
fn running(rig: &mut Rig) -> CallId {
    rig.input(Input::Streams(vec![key("live/a")]));
    let id = rig.stream_id("live/a");
    rig.offer(&id, "m=video 30000 RTP/AVP 96\r\n");
    let (call, _) = rig.open_senders().remove(0);
    rig.input(Input::SenderOpened { call, port: Ok(20_000) });
    call
}

#[test]
fn either_side_hangs_up() {
    let mut rig = Rig::registered(&["live/*"]);
    let call = running(&mut rig);
    let bye = rig.dialog.as_mut().unwrap().request(Method::Bye);
    assert_eq!(rig.send_above(bye.clone()).status, 200);
    assert_eq!(rig.closed_senders(), [call]);
    assert_eq!(rig.send_above(rig.dialog.clone().unwrap().request(Method::Bye)).status, 481);
    assert_eq!(
        rig.send_above(rig.dialog.clone().unwrap().request(Method::Options)).status,
        481,
        "there is no such call any more"
    );
    assert_eq!(rig.cascade.views(rig.now)[0].calls[0].detail, "ended by the platform above");

    let mut rig = Rig::registered(&["live/*"]);
    let call = running(&mut rig);
    rig.input(Input::Sending { call, sending: sending(SendingState::Ended, "the stream has ended") });
    let bye = rig.requests.iter().filter(|request| request.method == Method::Bye).count();
    assert_eq!((bye, rig.closed_senders().len()), (1, 0), "the sender is over already");
    assert_eq!(rig.cascade.views(rig.now)[0].calls[0].detail, "the stream has ended");

    let mut rig = Rig::registered(&["live/*"]);
    let call = running(&mut rig);
    rig.input(Input::Finishing);
    assert_eq!(rig.requests.iter().filter(|request| request.method == Method::Bye).count(), 1);
    assert_eq!(rig.closed_senders(), [call]);
}

#[test]
fn what_cannot_be_called_has_a_status() {
    let udp = "m=video 30000 TCP/RTP/AVP 96\r\n";
    let mut rig = Rig::of(Upstream { calls_max: 1, ..upstream(&["live/*", "other/a"]) });
    rig.input(Input::Timeout);
    rig.input(Input::Streams(vec![key("live/a")]));
    let (a, gone) = (rig.stream_id("live/a"), rig.stream_id("other/a"));
    assert_eq!(rig.offer("34020000001310000099", udp).status, 404);
    assert_eq!(rig.offer(&gone, udp).status, 480);
    assert_eq!(rig.offer(&a, "m=video 30000 RTP/AVP 98\r\na=x\r\n".replace("a=x", "a=y").as_str()).status, 488);
    assert_eq!(rig.ask_above(Method::Invite, &a, &[], None).status, 488);
    assert_eq!(rig.offer(&a, udp).status, 100);
    assert_eq!(rig.offer(&a, udp).status, 486);
    let (call, _) = rig.open_senders().remove(0);
    rig.input(Input::SenderOpened { call, port: Err("no port is left".to_owned()) });
    assert_eq!(rig.responses.last().unwrap().status, 486);
    assert_eq!(rig.offer(&a, udp).status, 100, "there is room again");
    rig.pass(31_000);
    assert_eq!(rig.responses.last().unwrap().status, 408, "no shard has answered");
    // A stranger at another address.
    let mut stranger = Request::new(Method::Message, "sip:x@y");
    stranger.headers.push("From", &format!("<sip:{ABOVE}@x>;tag=1"));
    let hop = Hop { peer: ([203, 0, 113, 1], 5060).into(), ..rig.hop };
    assert!(!rig.cascade.is_for(hop, &stranger.to_bytes()));
    let elsewhere = Hop { peer: ([198, 51, 100, 1], 6_000).into(), ..rig.hop };
    assert!(rig.cascade.is_for(elsewhere, &stranger.to_bytes()));
    stranger.headers.set("From", "<sip:34020000001110000001@x>;tag=1");
    assert!(!rig.cascade.is_for(elsewhere, &stranger.to_bytes()), "a device behind the same router");
}

#[test]
fn over_udp_nothing_is_sent_before_the_answer_is_acknowledged() {
    let mut rig = Rig::registered(&["live/*"]);
    rig.input(Input::Streams(vec![key("live/a")]));
    let id = rig.stream_id("live/a");
    rig.acknowledges = false;
    assert_eq!(rig.offer(&id, "m=video 30000 RTP/AVP 96\r\n").status, 200);
    assert_eq!(rig.open_senders().len(), 0);
    rig.pass(33_000);
    assert_eq!((rig.open_senders().len(), rig.closed_senders().len()), (0, 0), "nobody has acknowledged");
    assert_eq!(rig.cascade.views(rig.now)[0].calls[0].state, "ended");
    rig.acknowledges = true;
    for port in [Ok(20_000), Err("no port is left".to_owned())] {
        rig.wishes.clear();
        let is_ended = port.is_err();
        assert_eq!(rig.offer(&id, "m=video 30000 RTP/AVP 96\r\n").status, 200);
        let (call, _) = rig.open_senders().remove(0);
        let byes = rig.requests.iter().filter(|request| request.method == Method::Bye).count();
        rig.input(Input::SenderOpened { call, port });
        let more = rig.requests.iter().filter(|request| request.method == Method::Bye).count() - byes;
        assert_eq!(more, usize::from(is_ended));
    }
    rig.wishes.clear();
    rig.offer(&id, "m=video 30000 RTP/AVP 96\r\n");
    assert_eq!(rig.open_senders().len(), 1);
    rig.pass(31_000);
    assert_eq!(rig.closed_senders().len(), 1, "no shard has answered");
}

#[test]
fn a_call_that_is_cancelled_closes_what_it_has_opened() {
    let mut rig = Rig::registered(&["live/*"]);
    rig.input(Input::Streams(vec![key("live/a")]));
    let id = rig.stream_id("live/a");
    let mut invite = Request::new(Method::Invite, &format!("sip:{id}@192.0.2.1:5060"));
    invite.headers.push("From", &format!("<sip:{ABOVE}@3401000000>;tag=z"));
    invite.headers.push("To", &format!("<sip:{id}@3402000000>"));
    invite.headers.push("Call-ID", "cancelled");
    invite.headers.push("CSeq", "1 INVITE");
    invite.set_body("APPLICATION/SDP", "v=0\r\nc=IN IP4 198.51.100.9\r\nm=video 30000 TCP/RTP/AVP 96\r\n");
    let sent = rig.above.invite(rig.now, rig.back, invite).unwrap();
    rig.carry(Vec::new());
    let (call, _) = rig.open_senders().remove(0);
    rig.above.cancel(rig.now, sent);
    rig.carry(Vec::new());
    assert_eq!(rig.closed_senders(), [call]);
    assert_eq!(rig.responses.last().unwrap().status, 487);
    rig.input(Input::SenderOpened { call, port: Ok(20_000) });
    assert_eq!(rig.closed_senders(), [call, call], "it was on its way");
}

fn call_view(id: u64, stream: &str) -> Answer {
    Answer::Call(Box::new(CallView {
        id: CallId(id),
        kind: CallKind::Playback,
        device: NVR.to_owned(),
        channel: DOOR.to_owned(),
        stream: stream.to_owned(),
        state: CallState::Playing,
        detail: String::new(),
        transport: "udp",
        port: None,
        ssrc: None,
        source: None,
        tracks: vec![],
        packets: Default::default(),
        age_ms: 0,
        lasted_ms: None,
        answered_ms: None,
        media_ms: None,
    }))
}

#[test]
fn a_device_is_called_first_and_its_refusal_is_the_answer() {
    let udp = "m=video 30000 RTP/AVP 96\r\n";
    let mut rig = Rig::registered(&["gb/*"]);
    rig.look_at_door(true);
    assert_eq!(rig.offer(DOOR, udp).status, 100);
    let (ticket, ask) = rig.asked().unwrap();
    assert!(matches!(ask, Ask::Play { of: Channel { ref device, .. }, .. } if device == NVR));
    rig.input(Input::Answered { ticket, answer: Answer::refused(RefusedKind::Full, "too many calls") });
    assert_eq!(rig.responses.last().unwrap().status, 486);
    assert_eq!(rig.cascade.views(rig.now)[0].calls[0].detail, "answered 486: too many calls");
    rig.offer(DOOR, udp);
    let (ticket, _) = rig.asked().unwrap();
    rig.input(Input::Answered { ticket, answer: call_view(4, &format!("gb/{NVR}/{DOOR}")) });
    rig.acknowledge();
    assert_eq!(rig.open_senders()[0].1.key, key(&format!("gb/{NVR}/{DOOR}")));
    rig.look_at_door(false);
    assert_eq!(rig.offer(DOOR, udp).status, 480);
}

#[test]
fn a_recording_is_played_controlled_and_ends() {
    let mut rig = Rig::registered(&["gb/*"]);
    rig.look_at_door(true);
    let text = format!(
        "v=0\r\no={ABOVE} 0 0 IN IP4 198.51.100.9\r\ns=Playback\r\nu={DOOR}:0\r\nc=IN IP4 198.51.100.9\r\nt=1767283200 1767286800\r\n\
         m=video 30000 RTP/AVP 96\r\na=recvonly\r\na=rtpmap:96 PS/90000\r\ny=1200000001\r\n"
    );
    rig.ask_above(Method::Invite, DOOR, &[], Some(("APPLICATION/SDP", text.into_bytes())));
    let (ticket, ask) = rig.asked().unwrap();
    assert!(matches!(ask, Ask::Playback { from_unix_s: 1_767_283_200, to_unix_s: 1_767_286_800, .. }), "{ask:?}");
    rig.input(Input::Answered { ticket, answer: call_view(4, "gb/playback/4") });
    rig.acknowledge();
    let (call, request) = rig.open_senders().remove(0);
    assert_eq!((request.key, request.ssrc), (key("gb/playback/4"), 1_200_000_001));
    rig.input(Input::SenderOpened { call, port: Ok(20_000) });
    let mut dialog = rig.dialog.clone().unwrap();
    let mut info = dialog.request(Method::Info);
    info.set_body("Application/MANSRTSP", mansrtsp::Request::Pause.write(4));
    rig.send_above(info);
    let (ticket, ask) = rig.asked().unwrap();
    assert!(matches!(
        ask,
        Ask::Playing { call: CallId(4), control: crate::protocol::gb28181::platform::ask::PlayingControl::Pause }
    ));
    rig.input(Input::Answered { ticket, answer: Answer::Done });
    let said = rig.responses.last().unwrap();
    assert_eq!((said.status, said.body.as_ref()), (200, &b"RTSP/1.0 200 OK\r\nCSeq: 4\r\n"[..]));
    rig.told.clear();
    rig.input(Input::Sending { call, sending: sending(SendingState::Ended, "the stream has ended") });
    assert_eq!(rig.told[0].body, Body::Notify(Notify::MediaStatus(manscdp::END_OF_MEDIA)));
    rig.send_above(dialog.request(Method::Bye));
    assert_eq!(rig.asked().unwrap().1, Ask::Stop(CallId(4)));
}

#[test]
fn a_call_that_the_platform_above_has_forgotten_is_over() {
    let probes = |rig: &Rig| rig.requests.iter().filter(|request| request.method == Method::Options).count();
    // It answers, so it knows the call, and then does not know it.
    for (mood, is_over) in [(Mood::Good, false), (Mood::Probes(Some(481)), true), (Mood::Probes(Some(408)), true)] {
        let mut rig = Rig::registered(&["live/*"]);
        let call = running(&mut rig);
        rig.pass(59_000);
        assert_eq!(probes(&rig), 0);
        rig.mood = mood;
        rig.pass(2_000);
        assert_eq!((probes(&rig), rig.closed_senders().contains(&call)), (1, is_over));
    }
    // Silence means something where OPTIONS were answered before.
    for has_answered in [false, true] {
        let mut rig = Rig::registered(&["live/*"]);
        let call = running(&mut rig);
        rig.mood = if has_answered { Mood::Good } else { Mood::Probes(None) };
        rig.pass(61_000);
        rig.mood = Mood::Probes(None);
        rig.pass(66_000);
        assert_eq!(rig.closed_senders().contains(&call), has_answered);
        // Whoever hangs up may count its requests anew.
        if !has_answered {
            let mut bye = rig.dialog.clone().unwrap().request(Method::Bye);
            bye.headers.set("CSeq", "1 BYE");
            assert_eq!((rig.send_above(bye).status, rig.closed_senders()), (200, vec![call]));
        }
    }
    // Registered anew: silence is enough.
    for (mood, is_over) in [(Mood::Probes(None), true), (Mood::Good, false)] {
        let mut rig = Rig::of(Upstream { transport: SipTransport::Tcp, ..upstream(&["live/*"]) });
        rig.input(Input::Timeout);
        running(&mut rig);
        rig.input(Input::Closed(ConnectionId(7)));
        rig.mood = mood;
        rig.pass(10_000);
        assert_eq!((rig.state(), rig.closed_senders().len()), ("online", usize::from(is_over)));
    }
}

#[test]
fn a_connection_that_is_lost_is_made_anew_and_calls_go_on() {
    let mut rig = Rig::of(Upstream { transport: SipTransport::Tcp, ..upstream(&["live/*"]) });
    rig.input(Input::Timeout);
    running(&mut rig);
    rig.input(Input::Closed(ConnectionId(7)));
    assert_eq!((rig.state(), rig.closed_senders().len()), ("waiting", 0));
    assert!(rig.detail().starts_with("the connection was closed"), "{}", rig.detail());
    rig.pass(1_100);
    assert_eq!(rig.state(), "online");
    let bye = rig.dialog.as_mut().unwrap().request(Method::Bye);
    assert_eq!(rig.send_above(bye).status, 200);
}
