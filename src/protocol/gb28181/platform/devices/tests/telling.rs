//! What devices tell by themselves: notifications, alarms, positions, and what is no message at all.

use super::*;
use crate::protocol::gb28181::platform::view::SubscriptionView;

const HOP: &str = "192.0.2.10:5060";

/// A device that is subscribed to, with its SUBSCRIBE requests.
fn subscribed(subscribe: Vec<Subscription>) -> (World, Vec<Request>) {
    let settings = Gb28181 { password: PASSWORD.to_owned(), subscribe, ..Gb28181::default() };
    let mut world = World::with(settings);
    let hop = udp(HOP);
    world.register(hop, NVR);
    let requests = world.requests();
    let (subscribes, others): (Vec<_>, Vec<_>) =
        requests.into_iter().map(|(_, request)| request).partition(|request| request.method == Method::Subscribe);
    for request in &others {
        world.answer(hop, request, 200, &[]);
    }
    for request in &others {
        let sn = manscdp::decode(&request.body).unwrap().0.sn;
        world.message(hop, NVR, &catalog_part(sn, 1, &[item(CAMERA, "Gate")]));
    }
    world.reasons();
    (world, subscribes)
}

fn accept(world: &mut World, request: &Request, expires: &str) {
    let to = format!("{};tag=s1", request.headers.get("To").unwrap());
    let mut response = request.response(200);
    response.headers.set("To", &to);
    response.headers.push("Expires", expires);
    response.headers.push("Contact", "<sip:34020000001110000001@192.168.1.64:5060>");
    world.receive(udp(HOP), &response.to_bytes());
}

fn notify(world: &mut World, call_id: &str, state: &str, inside: &str) -> u16 {
    let fill = |request: &mut Request| {
        request.headers.set("Call-ID", call_id);
        request.headers.push("Event", "Catalog;id=1");
        request.headers.push("Subscription-State", state);
        if !inside.is_empty() {
            request.set_body("Application/MANSCDP+xml", format!("<Notify>{inside}</Notify>"));
        }
    };
    world.request(udp(HOP), NVR, Method::Notify, fill).expect("an answer").status
}

fn subscription(world: &mut World) -> SubscriptionView {
    match world.now(Ask::Subscriptions(NVR.into())) {
        Answer::Subscriptions(mut all) => all.pop().expect("a subscription"),
        other => panic!("{other:?}"),
    }
}

fn changes(items: &str) -> String {
    format!(
        "<CmdType>Catalog</CmdType><SN>7</SN><DeviceID>{NVR}</DeviceID><SumNum>1</SumNum><DeviceList Num=\"1\">{items}</DeviceList>"
    )
}

#[test]
fn a_subscription_is_refreshed_before_it_ends_and_begun_anew_when_the_device_ends_it() {
    let (mut world, subscribes) = subscribed(vec![Subscription::Catalog]);
    let [first] = &subscribes[..] else { panic!("{subscribes:?}") };
    assert!(first.headers.get("Event").unwrap().starts_with("Catalog;id="));
    assert_eq!((subscription(&mut world).state, first.headers.get("Expires")), ("asked", Some("3600")));
    accept(&mut world, first, "600");
    let view = subscription(&mut world);
    assert_eq!((view.event, view.state, view.expires_ms), ("catalog", "active", Some(600_000)));
    for _ in 0..7 {
        world.pass(60_000);
        world.keepalive(udp(HOP), NVR);
    }
    assert!(world.requests().is_empty());
    world.pass(31_000);
    let requests = world.requests();
    let refresh = &requests[0].1;
    assert_eq!((refresh.method.clone(), refresh.headers.get("Call-ID")), (Method::Subscribe, first.headers.get("Call-ID")));
    assert_eq!(refresh.uri, "sip:34020000001110000001@192.168.1.64:5060", "in its dialog");
    assert!(refresh.headers.get("To").unwrap().ends_with(";tag=s1"));
    assert_eq!((refresh.headers.get("CSeq"), refresh.headers.get("Event")), (Some("2 SUBSCRIBE"), first.headers.get("Event")));
    assert_eq!(requests[0].0, udp(HOP), "the way that the device was heard of");
    accept(&mut world, refresh, "600");
    let call_id = first.headers.get("Call-ID").unwrap();
    assert_eq!(notify(&mut world, call_id, "terminated;reason=timeout", ""), 200);
    assert_eq!((subscription(&mut world).state, subscription(&mut world).detail.as_str()), ("ended", "the device has ended it"));
    world.pass(60_001);
    let requests = world.requests();
    assert_ne!(requests[0].1.headers.get("Call-ID"), Some(call_id), "begun anew");
}

#[test]
fn a_device_that_does_not_take_subscriptions_is_asked_again_later() {
    let all = vec![Subscription::Catalog, Subscription::Alarm, Subscription::MobilePosition];
    let (mut world, subscribes) = subscribed(all);
    assert_eq!(subscribes.len(), 3);
    assert_eq!(subscribes[1].headers.get("Event"), Some("presence"));
    for request in &subscribes {
        world.answer(udp(HOP), request, 489, &[]);
    }
    assert_eq!(world.reasons(), ["gb28181_not_subscribed"]);
    assert_eq!((subscription(&mut world).state, subscription(&mut world).detail.as_str()), ("ended", "489 Bad Event"));
    for _ in 0..4 {
        world.pass(60_000);
        world.keepalive(udp(HOP), NVR);
    }
    assert!(world.requests().is_empty());
    world.pass(60_001);
    assert_eq!(world.requests().len(), 3);
    world.register_for(udp(HOP), NVR, "0");
    assert_eq!(world.now(Ask::Subscriptions(NVR.into())), Answer::Subscriptions(vec![]));
    assert!(world.devices.dialogs.is_empty());
}

#[test]
fn notifications_change_the_catalog() {
    let (mut world, subscribes) = subscribed(vec![Subscription::Catalog]);
    accept(&mut world, &subscribes[0], "3600");
    let call_id = subscribes[0].headers.get("Call-ID").unwrap().to_owned();
    let event = |id: &str, event: &str| format!("<Item><DeviceID>{id}</DeviceID><Event>{event}</Event></Item>");
    let full = |id: &str, event: &str, name: &str| {
        format!("<Item><DeviceID>{id}</DeviceID><Event>{event}</Event><Name>{name}</Name></Item>")
    };
    let second = "34020000001310000002";
    let cases = [
        (event(CAMERA, "OFF"), vec![(CAMERA, "Gate", Some(false), Some("OFF"))]),
        (event(CAMERA, "vlost"), vec![(CAMERA, "Gate", Some(false), Some("VLOST"))]),
        (event(CAMERA, "ON"), vec![(CAMERA, "Gate", Some(true), Some("ON"))]),
        (full(second, "ADD", "Yard"), vec![(CAMERA, "Gate", Some(true), Some("ON")), (second, "Yard", None, Some("ADD"))]),
        (full(CAMERA, "UPDATE", "Door"), vec![(CAMERA, "Door", Some(true), Some("UPDATE")), (second, "Yard", None, Some("ADD"))]),
        (event(second, "DEL"), vec![(CAMERA, "Door", Some(true), Some("UPDATE"))]),
    ];
    for (items, expected) in cases {
        world.out.clear();
        assert_eq!(notify(&mut world, &call_id, "active;expires=3000", &changes(&items)), 200);
        let Answer::Channels(channels) = world.now(Ask::Channels(NVR.into())) else { panic!() };
        let found: Vec<_> = channels
            .iter()
            .map(|channel| (channel.id.as_str(), channel.name.as_deref().unwrap_or(""), channel.online, channel.event.as_deref()))
            .collect();
        assert_eq!(found, expected, "{items}");
        assert!(world.out.iter().any(|output| matches!(output, Output::Save)));
    }
    assert_eq!(world.devices.bytes.used(), world.devices.by_id[NVR].channels.bytes());
    // Of what is not known the whole catalog is asked for.
    assert!(world.requests().is_empty());
    notify(&mut world, &call_id, "active;expires=3000", &changes(&event("34020000001310000009", "OFF")));
    assert_eq!(World::sn_of(&world.take(), "Catalog"), world.devices.last_sn);
}

#[test]
fn notifications_that_nobody_has_asked_for_are_refused() {
    let (mut world, subscribes) = subscribed(vec![Subscription::Catalog]);
    accept(&mut world, &subscribes[0], "3600");
    let off = changes(&format!("<Item><DeviceID>{CAMERA}</DeviceID><Event>OFF</Event></Item>"));
    assert_eq!(notify(&mut world, "from-before", "active", &off), 481);
    assert_eq!(world.reasons(), ["gb28181_not_subscribed_to"]);
    assert_eq!(world.devices.item(NVR, CAMERA).unwrap().status, Some(manscdp::ItemStatus::On));
    let call_id = subscribes[0].headers.get("Call-ID").unwrap().to_owned();
    assert_eq!(notify(&mut world, &call_id, "active", "<CmdType>"), 400);
    assert_eq!(world.reasons(), ["xml_syntax"]);
}

#[test]
fn alarms_are_acknowledged_and_the_last_are_kept() {
    let hop = udp(HOP);
    let mut world = World::with_camera(hop);
    for number in 0..events::ALARMS_PER_DEVICE_MAX + 5 {
        let xml = format!(
            "<Notify><CmdType>Alarm</CmdType><SN>{number}</SN><DeviceID>{CAMERA}</DeviceID><AlarmPriority>4</AlarmPriority>\
            <AlarmMethod>5</AlarmMethod><AlarmTime>t{number}</AlarmTime><Info><AlarmType>2</AlarmType></Info></Notify>"
        );
        assert_eq!(world.message(hop, NVR, &xml), 200);
        let acknowledged = world.take();
        let [manscdp::Message { sn, device, body: Body::Response(manscdp::Response::Plain { command, .. }) }] = &acknowledged[..]
        else {
            panic!("{acknowledged:?}")
        };
        assert_eq!((*sn, device.as_str(), command.as_str()), (number as u64, CAMERA, "Alarm"));
        world.pass(10);
    }
    for of in [Some(NVR.to_owned()), None] {
        let Answer::Alarms(alarms) = world.now(Ask::Alarms(of)) else { panic!() };
        assert_eq!((alarms.len(), alarms[0].time.as_deref(), alarms[99].time.as_deref()), (100, Some("t104"), Some("t5")));
        assert_eq!((alarms[0].detail.as_str(), alarms[0].age_ms), ("in the picture: motion", 10));
    }
    assert!(matches!(world.now(Ask::Alarms(Some("9".into()))), Answer::Refused(_)));
}

#[test]
fn the_last_position_of_each_channel_is_kept() {
    let hop = udp(HOP);
    let mut world = World::with_camera(hop);
    for (channel, longitude) in [(CAMERA, 120.5), (NVR, 1.0), (CAMERA, 121.5)] {
        let xml = format!(
            "<Notify><CmdType>MobilePosition</CmdType><SN>1</SN><DeviceID>{channel}</DeviceID><Time>t</Time>\
            <Longitude>{longitude}</Longitude><Latitude>30</Latitude><Speed>36</Speed></Notify>"
        );
        assert_eq!(world.message(hop, NVR, &xml), 200);
    }
    let Answer::Positions(positions) = world.now(Ask::Positions(Some(NVR.into()))) else { panic!() };
    let found: Vec<_> = positions.iter().map(|position| (position.channel.as_str(), position.longitude)).collect();
    assert_eq!(found, [(NVR, Some(1.0)), (CAMERA, Some(121.5))]);
    for number in 0..events::POSITIONS_PER_DEVICE_MAX {
        let xml = format!("<Notify><CmdType>MobilePosition</CmdType><DeviceID>{number}</DeviceID></Notify>");
        world.message(hop, NVR, &xml);
    }
    let Answer::Positions(positions) = world.now(Ask::Positions(None)) else { panic!() };
    assert_eq!(positions.len(), events::POSITIONS_PER_DEVICE_MAX);
    assert!(world.reasons().contains(&"gb28181_positions_full"));
}

#[test]
fn news_for_calls_are_passed_on() {
    let hop = udp(HOP);
    let mut world = World::with_camera(hop);
    world.devices.take_news();
    let end = format!(
        "<Notify><CmdType>MediaStatus</CmdType><SN>1</SN><DeviceID>{CAMERA}</DeviceID><NotifyType>121</NotifyType></Notify>"
    );
    let agreed =
        format!("<Response><CmdType>Broadcast</CmdType><SN>5</SN><DeviceID>{CAMERA}</DeviceID><Result>OK</Result></Response>");
    for xml in [&end, &agreed, &agreed.replace("OK", "ERROR")] {
        assert_eq!(world.message(hop, NVR, xml), 200);
    }
    let device: Id = NVR.into();
    let expected = [
        News::EndOfMedia { device: device.clone(), channel: CAMERA.into(), call_id: "c1".into() },
        News::Broadcast { device: device.clone(), sn: 5, agreed: true },
        News::Broadcast { device, sn: 5, agreed: false },
    ];
    assert_eq!(world.devices.take_news(), expected);
}

#[test]
fn bodies_that_mean_harm_or_nothing_have_a_name() {
    let hop = udp(HOP);
    let mut world = World::with_camera(hop);
    let bomb =
        "<?xml version=\"1.0\"?><!DOCTYPE a [<!ENTITY b \"ha\"><!ENTITY c \"&b;&b;\">]><Notify><CmdType>&c;</CmdType></Notify>";
    let cases = [
        ("a bomb", bomb.to_owned(), 400, "xml_document_type"),
        ("nothing", String::new(), 400, "xml_incomplete"),
        ("depth", "<a>".repeat(1_000), 400, "xml_too_deep"),
        ("a body of 1 MB", " ".repeat(1 << 20), 413, "sip_body_too_long"),
        ("a question", "<Query><CmdType>Catalog</CmdType><SN>1</SN></Query>".to_owned(), 200, "gb28181_unexpected_message"),
    ];
    for (name, body, status, reason) in cases {
        assert_eq!(world.message(hop, NVR, &body), status, "{name}");
        assert_eq!(world.reasons(), [reason], "{name}");
    }
    assert_eq!(world.keepalive(hop, NVR), 200, "and it goes on");
}
