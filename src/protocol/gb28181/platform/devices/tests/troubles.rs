//! What goes wrong without anybody's fault, or by a stranger's: late refreshes, lost connections, forged and repeated messages.

use super::*;

const HOP: &str = "192.0.2.10:5060";

fn subscribing() -> Gb28181 {
    Gb28181 { password: PASSWORD.to_owned(), subscribe: vec![Subscription::Catalog], ..Gb28181::default() }
}

/// The SUBSCRIBE requests that were sent; whatever else was asked is forgotten.
fn subscribes(world: &mut World) -> Vec<(Hop, Request)> {
    world.requests().into_iter().filter(|(_, request)| request.method == Method::Subscribe).collect()
}

fn accept(world: &mut World, (hop, request): &(Hop, Request), expires: &str) {
    let mut response = request.response(200);
    response.headers.set("To", &format!("{};tag=s1", request.headers.get("To").unwrap()));
    response.headers.push("Expires", expires);
    response.headers.push("Contact", "<sip:34020000001110000001@192.168.1.64:5060>");
    world.receive(*hop, &response.to_bytes());
}

fn state(world: &mut World) -> (&'static str, String) {
    match world.now(Ask::Subscriptions(NVR.into())) {
        Answer::Subscriptions(mut all) => all.pop().map(|view| (view.state, view.detail)).expect("a subscription"),
        other => panic!("{other:?}"),
    }
}

/// The connection ends, for the transactions as well.
fn close(world: &mut World, connection: u64) {
    let mut events = Vec::new();
    world.transactions.closed(ConnectionId(connection), &mut events);
    world.run(|devices, context| devices.closed(context, ConnectionId(connection)));
    world.route(events);
}

/// Registers with another Call-ID than before, as after a reboot.
fn register_as(world: &mut World, hop: Hop, call_id: &str) {
    let challenge = world.challenge(hop, NVR);
    let answer = Challenge::parse(&challenge).unwrap().answer(NVR, PASSWORD, "REGISTER", "sip:192.0.2.1:5060", "n");
    let fill = |request: &mut Request| {
        request.headers.set("Call-ID", call_id);
        request.headers.push("Authorization", &answer);
    };
    assert_eq!(world.request(hop, NVR, Method::Register, fill).unwrap().status, 200);
}

#[test]
fn a_registration_may_be_refreshed_a_moment_late() {
    let hop = udp(HOP);
    for (late_ms, is_there) in [(0, true), (300, true), (presence::GRACE_MS - 1, true), (presence::GRACE_MS, false)] {
        let mut world = World::new();
        world.register_for(hop, NVR, "120");
        world.pass(60_000);
        world.keepalive(hop, NVR);
        world.pass(60_000 + late_ms);
        assert_eq!(world.detail(NVR).0, is_there, "{late_ms} ms late");
        assert_eq!(world.keepalive(hop, NVR), if is_there { 200 } else { 403 }, "{late_ms} ms late");
        world.devices.take_news();
        world.register_for(hop, NVR, "120");
        assert_eq!(world.devices.take_news().is_empty(), is_there, "{late_ms} ms late");
    }
}

#[test]
fn media_is_a_sign_of_life_of_those_who_are_there() {
    let mut world = World::with_camera(udp(HOP));
    let life = |world: &mut World| world.run(|devices, context| devices.sign_of_life(context.clock, NVR));
    for _ in 0..10 {
        world.pass(60_000);
        life(&mut world);
    }
    assert!(world.detail(NVR).0, "no keepalive, but pictures");
    world.pass(181_000);
    assert!(!world.detail(NVR).0);
    life(&mut world);
    world.pass(1);
    assert!(!world.detail(NVR).0, "what is still under way brings nobody back");
}

#[test]
fn a_subscription_survives_that_its_refresh_finds_no_connection() {
    let mut world = World::with(subscribing());
    let (first, second) = (tcp(HOP, 1), tcp("192.0.2.10:40001", 2));
    world.register(first, NVR);
    let asked = subscribes(&mut world);
    accept(&mut world, &asked[0], "100");
    close(&mut world, 1);
    world.pass(76_000);
    assert!(subscribes(&mut world).is_empty());
    assert_eq!(state(&mut world).0, "ended");
    assert!(state(&mut world).1.contains("connection"), "{:?}", state(&mut world));
    world.keepalive(second, NVR);
    let asked = subscribes(&mut world);
    assert_eq!((asked.len(), asked[0].0), (1, second), "at once when it can be reached again");
    // The same where the connection ends while the answer is waited for, and the device registers.
    close(&mut world, 2);
    assert_eq!(state(&mut world).0, "ended");
    let third = tcp("192.0.2.10:40002", 3);
    world.register(third, NVR);
    let asked = subscribes(&mut world);
    accept(&mut world, &asked[0], "3600");
    assert_eq!((asked.len(), asked[0].0, state(&mut world).0), (1, third, "active"));
    world.keepalive(third, NVR);
    assert!(subscribes(&mut world).is_empty());
}

#[test]
fn a_catalog_is_asked_for_again_as_long_as_it_is_not_whole() {
    let hop = udp(HOP);
    let mut world = World::with_camera(hop);
    let unknown = |world: &mut World| {
        let xml = "<Notify><CmdType>Catalog</CmdType><SN>1</SN><DeviceList><Item><DeviceID>34020000001310000009</DeviceID>\
            <Event>OFF</Event></Item></DeviceList></Notify>";
        world.message(hop, NVR, xml);
        world.take()
    };
    // Each time the catalog comes whole, and the device goes on to speak of what is not in it.
    for round in 0..6 {
        let asked = unknown(&mut world);
        let sn = World::sn_of(&asked, "Catalog");
        world.message(hop, NVR, &catalog_part(sn, 1, &[item(CAMERA, "Gate")]));
        assert!(unknown(&mut world).is_empty(), "not at once, in round {round}");
        world.pass(channels::PAUSE_MS / 2);
        world.keepalive(hop, NVR);
        assert!(world.take().is_empty(), "not yet, in round {round}");
        world.pass(channels::PAUSE_MS / 2);
    }
    // One that never comes is asked for rarely, but for ever.
    let mut asked = 0;
    for _ in 0..120 {
        world.keepalive(hop, NVR);
        asked += world.take().len();
        world.pass(30_000);
    }
    assert!((5..=9).contains(&asked), "{asked} times in an hour");
}

#[test]
fn forged_answers_to_no_challenge_do_not_shut_a_device_out() {
    let mut world = World::new();
    let (hop, thief) = (udp(HOP), udp("203.0.113.9:5060"));
    let of_thief = world.challenge(thief, NVR);
    let old = world.challenge(hop, NVR);
    world.pass(61_000);
    let of_thief_now = world.challenge(thief, NVR);
    let made_up = of_thief.replace("nonce=\"0", "nonce=\"f");
    for (name, challenge) in [("old", old), ("of another address", of_thief_now), ("made up", made_up)] {
        for _ in 0..=registration::WRONG_PASSWORDS_PER_MINUTE_MAX {
            for password in ["wrong", PASSWORD] {
                let response = world.register_once(hop, NVR, password, Some(&challenge), "3600");
                let again = response.headers.get("WWW-Authenticate").unwrap_or_default();
                assert_eq!((response.status, again.contains("stale=true")), (401, true), "{name}: says nothing of the password");
            }
        }
        assert_eq!(world.reasons(), ["sip_stale_nonce"], "{name}");
    }
    world.register(hop, NVR);
}

#[test]
fn a_device_is_not_moved_by_what_it_may_not_have_sent() {
    let other_port = udp("192.0.2.10:40000");
    let keepalive =
        |id: &str| format!("<Notify><CmdType>Keepalive</CmdType><SN>1</SN><DeviceID>{id}</DeviceID><Status>OK</Status></Notify>");
    let cases = [
        ("nothing", udp(HOP), String::new(), 400, false),
        ("half a message", udp(HOP), "<Notify><CmdType>Keepalive".to_owned(), 400, false),
        ("a keepalive", udp(HOP), keepalive(NVR), 200, true),
        ("of a device with a connection", tcp(HOP, 1), keepalive(NVR), 200, false),
    ];
    for (name, known, body, status, moves) in cases {
        let mut world = World::with_camera(known);
        world.pass(10);
        assert_eq!(world.message(other_port, NVR, &body), status, "{name}");
        assert_eq!(world.devices.hop(NVR), Ok(if moves { other_port } else { known }), "{name}");
    }
    let mut world = World::with_camera(tcp(HOP, 1));
    world.request(other_port, NVR, Method::Notify, |_| ());
    assert_eq!(world.devices.hop(NVR), Ok(tcp(HOP, 1)), "a notification of nothing");
    world.register(other_port, NVR);
    assert_eq!(world.devices.hop(NVR), Ok(other_port), "a password may");
}

#[test]
fn repeated_parts_do_not_make_an_answer_whole() {
    let hop = udp(HOP);
    let mut world = World::with_camera(hop);
    let second = "34020000001310000002";
    let both = [item(CAMERA, "Gate"), item(second, "Yard")];
    let refresh = |world: &mut World| {
        let ticket = world.ask(Ask::Refresh(NVR.into()));
        (ticket, World::sn_of(&world.take(), "Catalog"))
    };
    let (ticket, sn) = refresh(&mut world);
    world.message(hop, NVR, &catalog_part(sn, 2, &both));
    assert_eq!(names(world.answered(ticket)).len(), 2);
    // The first part twice, the second never.
    let (ticket, sn) = refresh(&mut world);
    for _ in 0..2 {
        world.message(hop, NVR, &catalog_part(sn, 2, &both[..1]));
    }
    assert_eq!(world.answered(ticket), None);
    world.pass(10_001);
    assert_eq!(names(world.answered(ticket)).len(), 2, "nothing is deleted");
    assert!(world.detail(NVR).1.contains("1 items have come"), "{}", world.detail(NVR).1);
    // The first part twice, and then the second.
    let (ticket, sn) = refresh(&mut world);
    for part in [&both[..1], &both[..1], &both[1..]] {
        world.message(hop, NVR, &catalog_part(sn, 2, part));
    }
    assert_eq!((names(world.answered(ticket)).len(), world.detail(NVR).1.as_str()), (2, "online"));
    assert_eq!(world.devices.bytes.used(), world.devices.by_id[NVR].channels.bytes());
    // One channel in two groups is two items.
    let (ticket, sn) = refresh(&mut world);
    let grouped = both[0].replace(&format!("<ParentID>{NVR}"), "<ParentID>34020000002150000001");
    world.message(hop, NVR, &catalog_part(sn, 2, &[both[0].clone(), grouped]));
    assert_eq!(names(world.answered(ticket)).len(), 1);
    // Records.
    let ticket = world.ask(Ask::Records {
        of: channel(CAMERA),
        from_unix_s: 0,
        to_unix_s: 1,
        kind: crate::protocol::gb28181::platform::ask::RecordKind::All,
    });
    let sn = World::sn_of(&world.take(), "RecordInfo");
    let record = |start: &str| {
        format!(
            "<Response><CmdType>RecordInfo</CmdType><SN>{sn}</SN><SumNum>2</SumNum><RecordList><Item><DeviceID>{CAMERA}</DeviceID>\
            <Name>r</Name><StartTime>{start}</StartTime></Item></RecordList></Response>"
        )
    };
    world.message(hop, NVR, &record("1"));
    world.message(hop, NVR, &record("1"));
    assert_eq!(world.answered(ticket), None);
    world.message(hop, NVR, &record("2"));
    let Some(Answer::Records(records)) = world.answered(ticket) else { panic!() };
    assert_eq!((records.complete, records.records.len()), (true, 2));
}

#[test]
fn an_answer_to_a_subscription_of_before_is_not_for_the_new_one() {
    let mut world = World::with(subscribing());
    let hop = udp(HOP);
    world.register(hop, NVR);
    let old = subscribes(&mut world);
    world.register_for(hop, NVR, "0");
    world.register(hop, NVR);
    let new = subscribes(&mut world);
    accept(&mut world, &new[0], "3600");
    // In time, and not at all.
    world.answer(hop, &old[0].1, 489, &[]);
    assert_eq!(state(&mut world).0, "active");
    let mut world = World::with(subscribing());
    world.register(hop, NVR);
    world.register_for(hop, NVR, "0");
    world.register(hop, NVR);
    let new = subscribes(&mut world);
    accept(&mut world, new.last().unwrap(), "3600");
    world.pass(10_000);
    assert_eq!(state(&mut world).0, "active");
}

#[test]
fn a_subscription_for_no_time_is_a_refusal() {
    let mut world = World::with(subscribing());
    world.register(udp(HOP), NVR);
    let asked = subscribes(&mut world);
    accept(&mut world, &asked[0], "0");
    assert_eq!(state(&mut world).0, "ended");
    world.pass(60_000);
    assert!(subscribes(&mut world).is_empty());
    assert!(world.reasons().contains(&"gb28181_not_subscribed"));
}

#[test]
fn another_call_id_of_a_registration_is_not_taken_for_a_reboot_each_time() {
    let mut world = World::with(subscribing());
    let hop = udp(HOP);
    world.register(hop, NVR);
    let requests = world.requests();
    let subscribe = requests.iter().find(|(_, request)| request.method == Method::Subscribe).unwrap().clone();
    accept(&mut world, &subscribe, "86400");
    for _ in 0..2 {
        world.pass(120_000);
        world.keepalive(hop, NVR);
        world.pass(120_000);
        world.register(hop, NVR);
        world.take();
        world.pass(1);
        let call_id = format!("another{}", world.now_ms);
        register_as(&mut world, hop, &call_id);
        let requests = world.requests();
        let (of_dialog, others): (Vec<_>, Vec<_>) =
            requests.into_iter().partition(|(_, request)| request.method == Method::Subscribe);
        assert_eq!((others.len(), of_dialog.len()), (0, 1), "at {} ms", world.now_ms);
        assert_eq!(of_dialog[0].1.headers.get("Call-ID"), subscribe.1.headers.get("Call-ID"), "in its dialog");
        accept(&mut world, &of_dialog[0], "86400");
        register_as(&mut world, hop, "c1");
        assert!(world.requests().is_empty(), "not twice at once");
    }
    // What it has is asked when that was long ago.
    world.pass(120_000);
    world.keepalive(hop, NVR);
    assert_eq!(world.take().len(), 2);
    world.keepalive(hop, NVR);
    assert!(world.requests().is_empty());
    // A device that has forgotten the dialog is subscribed to anew.
    world.pass(100_000);
    register_as(&mut world, hop, "rebooted");
    let refresh = subscribes(&mut world);
    world.answer(hop, &refresh[0].1, 481, &[]);
    let anew = subscribes(&mut world);
    assert_ne!(anew[0].1.headers.get("Call-ID"), subscribe.1.headers.get("Call-ID"));
    world.answer(hop, &anew[0].1, 481, &[]);
    assert_eq!((subscribes(&mut world).len(), state(&mut world).0), (0, "ended"));
}

#[test]
fn notifications_count_whatever_their_number() {
    let mut world = World::with(subscribing());
    let hop = udp(HOP);
    world.register(hop, NVR);
    let requests = world.requests();
    for (_, request) in &requests {
        if request.method == Method::Subscribe {
            accept(&mut world, &(hop, request.clone()), "3600");
        } else if let Ok((manscdp::Message { sn, .. }, _)) = manscdp::decode(&request.body) {
            world.answer(hop, request, 200, &[]);
            world.message(hop, NVR, &catalog_part(sn, 1, &[item(CAMERA, "Gate")]));
        }
    }
    let subscribe = requests.iter().find(|(_, request)| request.method == Method::Subscribe).unwrap();
    let call_id = subscribe.1.headers.get("Call-ID").unwrap();
    world.reasons();
    for (number, event, is_on, reasons) in [
        (7, "OFF", false, vec![]),
        (7, "ON", true, vec!["gb28181_notify_order"]),
        (1, "OFF", false, vec!["gb28181_notify_order"]),
    ] {
        let fill = |request: &mut Request| {
            request.headers.set("Call-ID", call_id);
            request.headers.set("CSeq", &format!("{number} NOTIFY"));
            request.headers.push("Subscription-State", "active");
            let xml = format!(
                "<Notify><CmdType>Catalog</CmdType><SN>1</SN><DeviceID>{NVR}</DeviceID><DeviceList><Item><DeviceID>{CAMERA}</DeviceID>\
                <Event>{event}</Event></Item></DeviceList></Notify>"
            );
            request.set_body("Application/MANSCDP+xml", xml);
        };
        assert_eq!(world.request(hop, NVR, Method::Notify, fill).unwrap().status, 200);
        let status = world.devices.item(NVR, CAMERA).unwrap().status;
        assert_eq!(status == Some(manscdp::ItemStatus::On), is_on, "{event} with number {number}");
        assert_eq!(world.reasons(), reasons);
    }
}
