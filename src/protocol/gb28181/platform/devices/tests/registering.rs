//! Who is let in, for how long, and from where.

use super::*;

#[test]
fn a_device_that_knows_the_password_is_online_and_asked_what_it_has() {
    let mut world = World::new();
    let hop = udp("192.0.2.10:5060");
    let response = world.register(hop, NVR);
    assert_eq!(response.headers.get("Date"), Some("2026-01-02T15:04:05.123"), "the time in Beijing");
    assert_eq!((response.headers.get("Expires"), response.headers.get("X-GB-Ver")), (Some("3600"), Some("3.0")));
    assert!(response.headers.get("Via").unwrap().contains(";rport=5060;"), "{response:?}");
    let (online, detail) = world.detail(NVR);
    assert!(online && detail == "online; its catalog has not come", "{detail}");
    assert_eq!(world.devices.hop(NVR), Ok(hop));
    let requests = world.requests();
    let head = &requests[0].1;
    assert_eq!(head.uri, "sip:34020000001110000001@192.0.2.10:5060", "where it is, and not its Contact");
    assert!(head.headers.get("From").unwrap().starts_with("<sip:34020000002000000001@3402000000>;tag="));
    assert_eq!(head.headers.get("Contact"), Some("<sip:34020000002000000001@198.51.100.1:5060>"));
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|(to, request)| *to == hop && request.method == Method::Message));
    world.register(hop, NVR);
    assert!(world.requests().is_empty(), "a refresh asks nothing");
}

#[test]
fn without_a_password_nobody_registers_and_the_log_says_what_to_set() {
    let own = DevicePassword { id: NVR.to_owned(), password: PASSWORD.to_owned() };
    let mut world = World::with(Gb28181 { devices: vec![own], ..Gb28181::default() });
    let hop = udp("192.0.2.10:5060");
    for _ in 0..3 {
        let response = world.register_once(hop, "34020000001110000002", "", None, "3600");
        assert_eq!((response.status, response.headers.get("X-GB-Ver")), (403, Some("3.0")));
    }
    let loud = world.out.iter().filter(|output| {
        matches!(output, Output::Note { level: log::Level::Warn, message, .. } if message.contains("set gb28181.password"))
    });
    assert_eq!(loud.count(), 1, "said once, however often it happens");
    assert_eq!(world.reasons(), ["gb28181_no_password"]);
    world.register(hop, NVR);
}

#[test]
fn wrong_passwords_are_refused_and_then_not_even_looked_at() {
    let mut world = World::new();
    let hop = udp("192.0.2.10:5060");
    for _ in 0..registration::WRONG_PASSWORDS_PER_MINUTE_MAX {
        let challenge = world.challenge(hop, NVR);
        assert_eq!(world.register_once(hop, NVR, "wrong", Some(&challenge), "3600").status, 403);
    }
    assert_eq!(world.reasons(), ["sip_wrong_password"]);
    assert_eq!(world.register_once(hop, NVR, PASSWORD, None, "3600").status, 403);
    assert_eq!(world.reasons(), ["gb28181_throttled"]);
    world.register(udp("192.0.2.11:5060"), NVR);
    world.register(hop, "34020000001110000002");
    world.pass(60_000);
    world.register(hop, NVR);
    world.pass(60_000);
    for number in 0..registration::WRONG_PASSWORDS_PER_ADDRESS_MAX {
        let id = format!("9{}", number / 15);
        let challenge = world.challenge(hop, &id);
        assert_eq!(world.register_once(hop, &id, "wrong", Some(&challenge), "3600").status, 403);
    }
    assert_eq!(world.register_once(hop, NVR, PASSWORD, None, "3600").status, 403);
}

#[test]
fn a_device_of_2022_may_answer_with_sm3_and_no_other_is_offered_it() {
    let mut world = World::new();
    let hop = udp("192.0.2.10:5060");
    let response = world.register_once(hop, NVR, "", None, "3600");
    let challenges: Vec<&str> = response.headers.all("WWW-Authenticate").collect();
    assert!(challenges[0].ends_with(",algorithm=MD5") && challenges[1].ends_with(",algorithm=SM3"), "{challenges:?}");
    let sm3 = challenges[1].to_owned();
    assert_eq!(world.register_once(hop, NVR, "wrong", Some(&sm3), "3600").status, 403);
    assert_eq!(world.register_once(hop, NVR, PASSWORD, Some(&sm3), "3600").status, 200);
    for version in [None, Some("2.0"), Some("x")] {
        let fill = |request: &mut Request| {
            if let Some(version) = version {
                request.headers.push("X-GB-Ver", version);
            }
        };
        let response = world.request(hop, NVR, Method::Register, fill).expect("an answer");
        assert_eq!(response.headers.all("WWW-Authenticate").count(), 1, "{version:?}");
    }
}

#[test]
fn credentials_that_were_used_are_not_taken_again() {
    let mut world = World::new();
    let (hop, thief) = (udp("192.0.2.10:5060"), udp("203.0.113.9:5060"));
    let challenge = world.challenge(hop, NVR);
    assert_eq!(world.register_once(hop, NVR, PASSWORD, Some(&challenge), "3600").status, 200);
    world.reasons();
    let response = world.register_once(thief, NVR, PASSWORD, Some(&challenge), "3600");
    assert_eq!(response.status, 401);
    assert!(response.headers.get("WWW-Authenticate").unwrap().contains("stale=true"));
    assert_eq!((world.reasons(), world.devices.hop(NVR)), (vec!["sip_stale_nonce"], Ok(hop)));
    let neighbour = udp("192.0.2.10:40000");
    assert_eq!(world.register_once(neighbour, NVR, PASSWORD, Some(&challenge), "3600").status, 401);
    assert_eq!((world.reasons(), world.devices.hop(NVR)), (vec!["sip_replayed_nonce"], Ok(hop)));
    // A stale answer of the device itself costs one more round.
    let stale = response.headers.get("WWW-Authenticate").unwrap().to_owned();
    world.pass(61_000);
    assert_eq!(world.register_once(hop, NVR, PASSWORD, Some(&stale), "3600").status, 401);
    world.register(hop, NVR);
}

#[test]
fn a_device_cannot_be_taken_over_without_its_password() {
    let hop = udp("192.0.2.10:5060");
    let mut world = World::with_camera(hop);
    let thief = udp("203.0.113.9:5060");
    world.challenge(thief, NVR);
    assert_eq!(world.keepalive(thief, NVR), 403);
    assert_eq!(world.reasons(), ["gb28181_foreign_address"]);
    assert_eq!(world.keepalive(thief, "34020000001110000009"), 403);
    assert_eq!(world.reasons(), ["gb28181_unregistered"]);
    assert_eq!(world.devices.hop(NVR), Ok(hop));
    for id in ["34020000002000000001", "a b", "", "../x", &"1".repeat(ID_BYTES_MAX + 1)] {
        let response = world.register_once(thief, id, PASSWORD, None, "3600");
        assert_eq!(response.status, 403, "{id}");
    }
    assert_eq!(world.reasons(), ["gb28181_bad_id"]);
}

#[test]
fn a_device_is_followed_to_another_port_but_not_to_another_address() {
    let mut world = World::with_camera(udp("192.0.2.10:5060"));
    let moved = udp("192.0.2.10:40000");
    assert_eq!(world.keepalive(moved, NVR), 200);
    assert_eq!(world.devices.hop(NVR), Ok(moved));
    let elsewhere = udp("192.0.2.11:5060");
    assert_eq!(world.keepalive(elsewhere, NVR), 403);
    world.register(elsewhere, NVR);
    assert_eq!(world.devices.hop(NVR), Ok(elsewhere));
    assert_eq!(world.keepalive(moved, NVR), 403);
    // In the name of a channel, known by the address.
    assert_eq!(world.keepalive(elsewhere, CAMERA), 200);
}

#[test]
fn keepalives_that_do_not_come_end_what_a_device_was_asked() {
    let hop = udp("192.0.2.10:5060");
    let mut world = World::with_camera(hop);
    world.pass(100_000);
    assert_eq!(world.keepalive(hop, NVR), 200);
    world.pass(179_000);
    assert!(world.detail(NVR).0);
    let ticket = world.ask(Ask::Presets(channel(CAMERA)));
    world.take();
    world.pass(2_000);
    assert_eq!(world.detail(NVR), (false, "its keepalives have not come".to_owned()));
    assert_eq!(world.refusal(ticket).0, RefusedKind::Conflict);
    assert_eq!(world.reasons().last(), Some(&"gb28181_keepalives_missed"));
    assert_eq!(world.devices.hop(NVR).unwrap_err().kind, RefusedKind::Conflict);
    let id: Id = NVR.into();
    assert_eq!(world.devices.take_news().last(), Some(&News::Offline(id.clone())));
    // It comes again by itself, and is asked anew.
    assert_eq!(world.keepalive(hop, NVR), 200);
    assert!(world.detail(NVR).0);
    assert_eq!(world.devices.take_news(), [News::Online(id)]);
    assert_eq!(world.take().len(), 2);
}

#[test]
fn a_registration_ends_unless_it_is_refreshed() {
    let hop = udp("192.0.2.10:5060");
    let mut world = World::new();
    world.register_for(hop, NVR, "120");
    world.pass(100_000);
    world.register_for(hop, NVR, "120");
    world.pass(100_000);
    assert!(world.detail(NVR).0);
    world.pass(21_000 + presence::GRACE_MS);
    let (online, detail) = world.detail(NVR);
    assert!(!online && detail.starts_with("its registration has ended"), "{detail}");
    assert_eq!(world.keepalive(hop, NVR), 403, "so that it registers again");
    world.register(hop, NVR);
    assert!(world.detail(NVR).0);
}

#[test]
fn a_device_may_unregister() {
    let hop = udp("192.0.2.10:5060");
    let mut world = World::with_camera(hop);
    let response = world.register_for(hop, NVR, "0");
    assert_eq!(response.headers.get("Expires"), Some("0"));
    assert_eq!(world.detail(NVR), (false, "it has unregistered".to_owned()));
    assert_eq!(world.keepalive(hop, NVR), 403);
    assert_eq!(names(Some(world.now(Ask::Channels(NVR.into())))).len(), 1, "what it had is still known");
    world.pass(4_000_000);
    assert_eq!(world.detail(NVR).1, "it has unregistered");
    assert_eq!(world.now(Ask::Forget(NVR.into())), Answer::Done);
    assert!(matches!(world.now(Ask::Device(NVR.into())), Answer::Refused(_)));
    world.register_for(hop, NVR, "0");
    assert!(world.devices.by_id.is_empty() && world.devices.timers.is_empty() && world.devices.by_peer.is_empty());
}

#[test]
fn offline_devices_give_way_when_there_are_too_many() {
    let settings = Gb28181 { password: PASSWORD.to_owned(), devices_max: 2, ..Gb28181::default() };
    let mut world = World::with(settings);
    let ids = ["1001", "1002", "1003"];
    world.register(udp("192.0.2.1:5060"), ids[0]);
    world.pass(10_000);
    world.register(udp("192.0.2.2:5060"), ids[1]);
    world.reasons();
    let third = udp("192.0.2.3:5060");
    let challenge = world.challenge(third, ids[2]);
    assert_eq!(world.register_once(third, ids[2], PASSWORD, Some(&challenge), "3600").status, 503);
    assert_eq!(world.reasons(), ["gb28181_devices_max"]);
    world.pass(185_000);
    world.register(third, ids[2]);
    let known: Vec<_> = world.devices.ids().map(|id| id.to_string()).collect();
    assert_eq!(known, ids[1..], "the one that was heard of least recently is gone");
}

#[test]
fn a_connection_that_is_closed_leads_nowhere() {
    let mut world = World::with_camera(tcp("192.0.2.10:40000", 7));
    world.run(|devices, context| devices.closed(context, ConnectionId(8)));
    assert!(world.devices.hop(NVR).is_ok());
    world.run(|devices, context| devices.closed(context, ConnectionId(7)));
    let (online, detail) = world.detail(NVR);
    assert!(online && detail.contains("connection is closed"), "{detail}");
    assert_eq!(world.devices.hop(NVR).unwrap_err().kind, RefusedKind::Conflict);
    let again = tcp("192.0.2.10:40001", 9);
    assert_eq!(world.keepalive(again, NVR), 200);
    assert_eq!(world.devices.hop(NVR), Ok(again));
}

#[test]
fn devices_are_known_after_a_restart() {
    let hop = udp("192.0.2.10:5060");
    let mut world = World::with_camera(hop);
    world.register(tcp("192.0.2.20:40000", 1), "2001");
    world.register_for(udp("192.0.2.30:5060"), "3001", "600");
    world.register_for(udp("192.0.2.30:5060"), "3001", "0");
    let saved = world.run(|devices, context| devices.saved(context.clock));
    let text = serde_json::to_string(&saved).unwrap();
    let restart = |seconds: u64| {
        let mut world = World::new();
        world.now_ms += seconds * 1_000;
        world.run(|devices, context| devices.restore(context, serde_json::from_str(&text).unwrap()));
        world
    };
    let mut world = restart(30);
    assert_eq!(world.devices.ids().map(|id| id.to_string()).collect::<Vec<_>>(), ["2001", NVR]);
    assert_eq!(world.detail(NVR), (false, "not heard of since the start".to_owned()));
    assert_eq!(world.devices.hop(NVR), Ok(hop), "a call may try");
    assert_eq!(world.devices.hop("2001").unwrap_err().kind, RefusedKind::Conflict, "only it can connect");
    assert_eq!(names(Some(world.now(Ask::Channels(NVR.into())))), [(CAMERA.to_owned(), "Gate".to_owned())]);
    assert!(world.take().is_empty());
    assert_eq!(world.keepalive(udp("192.0.2.99:5060"), NVR), 403);
    assert_eq!(world.keepalive(hop, NVR), 200);
    assert_eq!(world.detail(NVR), (true, "online".to_owned()));
    assert_eq!(world.take().len(), 2, "asked anew");
    let again = tcp("192.0.2.20:41000", 2);
    assert_eq!(world.keepalive(again, "2001"), 200);
    assert_eq!(world.devices.hop("2001"), Ok(again));
    let mut world = restart(30);
    world.pass(180_000);
    assert_eq!(world.detail(NVR).1, "its keepalives have not come");
    assert_eq!(restart(3_601 + presence::GRACE_MS / 1_000).devices.ids().count(), 0, "ended meanwhile");
    let mut world = World::new();
    world.run(|devices, context| devices.restore(context, Saved { version: 2, ..saved.clone() }));
    assert_eq!(world.devices.ids().count(), 0);
}

#[test]
fn a_refresh_is_saved_in_no_hurry_and_a_snapshot_costs_no_catalog() {
    let (hop, moved) = (udp("192.0.2.10:5060"), udp("192.0.2.10:40000"));
    let mut world = World::with_camera(hop);
    let saves = |world: &mut World| {
        let out = std::mem::take(&mut world.out);
        let count = |wanted: fn(&Output) -> bool| out.iter().filter(|output| wanted(output)).count();
        (count(|output| matches!(output, Output::Save)), count(|output| matches!(output, Output::SaveLater)))
    };
    saves(&mut world);
    let snapshot = world.run(|devices, context| devices.saved(context.clock));
    let cases = [
        ("refreshed", hop, "3600", (0, 1)),
        ("another time", hop, "600", (0, 1)),
        ("moved", moved, "3600", (1, 0)),
        ("gone", moved, "0", (1, 0)),
        ("back", moved, "3600", (1, 0)),
    ];
    for (name, from, expires, expected) in cases {
        world.register_for(from, NVR, expires);
        assert_eq!(saves(&mut world), expected, "{name}");
        world.pass(1);
    }
    let again = world.run(|devices, context| devices.saved(context.clock));
    assert!(snapshot.devices[0].channels.is_same(&again.devices[0].channels), "shared");
    // What is being written keeps what it has.
    let off = format!(
        "<Notify><CmdType>Catalog</CmdType><SN>1</SN><DeviceList><Item><DeviceID>{CAMERA}</DeviceID><Event>OFF</Event></Item>\
        </DeviceList></Notify>"
    );
    assert_eq!(world.message(moved, NVR, &off), 200);
    let statuses = |saved: &Saved| saved.devices[0].channels.items().map(|item| item.status).collect::<Vec<_>>();
    assert_eq!(statuses(&snapshot), [Some(manscdp::ItemStatus::On)]);
    assert_eq!(statuses(&world.run(|devices, context| devices.saved(context.clock))), [Some(manscdp::ItemStatus::Off)]);
    assert_eq!(world.devices.bytes.used(), world.devices.by_id[NVR].channels.bytes());
}

#[test]
fn a_file_of_devices_stays_readable() {
    let saved: Saved = serde_json::from_value(json!({
        "version": 1,
        "devices": [{
            "id": NVR, "peer": "192.0.2.10:5060", "local": "198.51.100.1:5060", "udp": true, "expires_unix_ms": 1,
            "charset": "utf8", "info": { "device_name": "N" },
            "channels": [{ "device_id": CAMERA, "name": "大门", "status": "on", "info": { "ptz_type": 1 } }]
        }, { "id": "1", "peer": "[::1]:1", "local": "[::1]:2", "udp": false, "expires_unix_ms": 2 }]
    }))
    .unwrap();
    assert_eq!((saved.devices[0].charset, saved.devices[0].info.device_name.as_str()), (Charset::Utf8, "N"));
    let items: Vec<_> = saved.devices[0].channels.items().map(|item| (item.name.as_str(), item.info.ptz_type)).collect();
    assert_eq!(items, [("大门", Some(1))]);
    let text = serde_json::to_string(&saved).unwrap();
    assert!(!text.contains("manufacturer"), "what is not known is left out: {text}");
    assert_eq!(serde_json::from_str::<Saved>(&text).unwrap(), saved);
}
