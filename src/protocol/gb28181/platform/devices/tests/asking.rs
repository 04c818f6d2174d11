//! Questions and commands, and what devices make of them.

use encoding_rs::GB18030;

use super::*;
use crate::protocol::gb28181::manscdp::{Command, Control};
use crate::protocol::gb28181::platform::ask::{self, RecordKind};
use crate::protocol::gb28181::ptz;

const HOP: &str = "192.0.2.10:5060";

fn ids(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| item(&format!("3402000000131{number:07}"), &format!("门{number}"))).collect()
}

#[test]
fn a_catalog_comes_in_parts_of_any_order_and_charset() {
    let hop = udp(HOP);
    let mut world = World::new();
    world.register(hop, NVR);
    let asked = world.take();
    let sn = World::sn_of(&asked, "Catalog");
    let ticket = world.ask(Ask::Refresh(NVR.into()));
    assert_eq!(world.take().len(), 2, "joins the question for the catalog: only information and status are asked for");
    for part in [4..6, 0..2, 2..4] {
        assert_eq!(world.answered(ticket), None);
        let xml = catalog_part(sn, 6, &ids(part));
        assert_eq!(world.message_of(hop, NVR, &GB18030.encode(&xml).0), 200);
    }
    let channels = names(world.answered(ticket));
    assert_eq!(channels.len(), 6);
    assert_eq!(channels[5], ("34020000001310000005".to_owned(), "门5".to_owned()));
    assert_eq!(world.detail(NVR).1, "online");
    assert!(world.out.iter().any(|output| matches!(output, Output::Save)));
    let Answer::Channels(channels) = world.now(Ask::Channels(NVR.into())) else { panic!() };
    assert_eq!(channels[0].stream.as_deref(), Some("gb/34020000001110000001/34020000001310000000"));
    assert_eq!((channels[0].kind, channels[0].online), ("camera", Some(true)));
    // What is asked from now on is in the device's charset.
    assert_eq!(world.devices.charset(NVR), Charset::Gb18030);
}

#[test]
fn what_has_come_of_a_catalog_is_kept_when_the_rest_does_not() {
    let hop = udp(HOP);
    let mut world = World::new();
    world.register(hop, NVR);
    let sn = World::sn_of(&world.take(), "Catalog");
    let ticket = world.ask(Ask::Refresh(NVR.into()));
    world.take();
    world.message(hop, NVR, &catalog_part(sn, 5, &ids(0..2)));
    world.pass(9_000);
    assert_eq!(world.answered(ticket), None);
    world.pass(2_000);
    assert_eq!(names(world.answered(ticket)).len(), 2);
    assert_eq!(world.detail(NVR).1, "online; its catalog is not complete: 2 items have come");
    assert!(world.reasons().contains(&"gb28181_catalog_cut"));
    // It is asked for again with the next keepalives, though not for ever.
    let mut asked = 0;
    for _ in 0..5 {
        world.keepalive(hop, NVR);
        asked += world.take().len();
        world.pass(30_000);
    }
    assert_eq!(asked, 2);
    let none = world.ask(Ask::Refresh(NVR.into()));
    let sn = World::sn_of(&world.take(), "Catalog");
    let empty =
        format!("<Response><CmdType>Catalog</CmdType><SN>{sn}</SN><DeviceID>{NVR}</DeviceID><SumNum>0</SumNum></Response>");
    world.message(hop, NVR, &empty);
    assert_eq!(names(world.answered(none)), [], "a catalog may be empty");
    assert_eq!(world.devices.bytes.used(), 0);
}

#[test]
fn answers_belong_to_questions_by_number_and_device() {
    let hop = udp(HOP);
    let mut world = World::with_camera(hop);
    world.register(udp("192.0.2.20:5060"), "2001");
    world.take();
    world.reasons();
    let ticket = world.ask(Ask::Records {
        of: channel(CAMERA),
        from_unix_s: 1_767_312_000,
        to_unix_s: 1_767_315_600,
        kind: RecordKind::All,
    });
    let asked = world.take();
    let Body::Query(manscdp::Query::RecordInfo(query)) = &asked[0].body else { panic!("{asked:?}") };
    assert_eq!((query.start_time.as_str(), query.end_time.as_str()), ("2026-01-02T08:00:00", "2026-01-02T09:00:00"));
    assert_eq!(asked[0].device, CAMERA);
    let sn = asked[0].sn;
    let part = |sn: u64, from: usize, to: usize| {
        let records = (from..to).map(|n| format!("<Item><DeviceID>{CAMERA}</DeviceID><Name>r{n}</Name><Type>time</Type></Item>"));
        let records: String = records.collect();
        format!(
            "<Response><CmdType>RecordInfo</CmdType><SN>{sn}</SN><SumNum>3</SumNum><RecordList>{records}</RecordList></Response>"
        )
    };
    assert_eq!(world.message(hop, NVR, &part(sn + 1, 0, 3)), 200);
    assert_eq!(world.message(udp("192.0.2.20:5060"), "2001", &part(sn, 0, 3)), 200);
    assert_eq!(world.reasons(), ["gb28181_unasked"]);
    assert_eq!(world.answered(ticket), None);
    world.message(hop, NVR, &part(sn, 2, 3));
    world.message(hop, NVR, &part(sn, 0, 2));
    let Some(Answer::Records(records)) = world.answered(ticket) else { panic!() };
    assert_eq!((records.announced, records.complete, records.records.len()), (3, true, 3));
    assert_eq!(records.records[0].kind.as_deref(), Some("time"));
    // Only a part: it is given, and said to be one.
    let ticket = world.ask(Ask::Records { of: channel(CAMERA), from_unix_s: 0, to_unix_s: 1, kind: RecordKind::Alarm });
    let sn = World::sn_of(&world.take(), "RecordInfo");
    world.message(hop, NVR, &part(sn, 0, 2));
    world.pass(10_001);
    let Some(Answer::Records(records)) = world.answered(ticket) else { panic!() };
    assert_eq!((records.announced, records.complete, records.records.len()), (3, false, 2));
    assert_eq!(world.devices.bytes.used(), world.devices.by_id[NVR].channels.bytes());
}

#[test]
fn other_questions_are_answered_in_the_operators_form() {
    let hop = udp(HOP);
    let mut world = World::with_camera(hop);
    let ticket = world.ask(Ask::Presets(channel(CAMERA)));
    let sn = World::sn_of(&world.take(), "PresetQuery");
    let xml = format!(
        "<Response><CmdType>PresetQuery</CmdType><SN>{sn}</SN><PresetList Num=\"2\"><Item><PresetID>1</PresetID>\
        <PresetName>Gate</PresetName></Item><Item><PresetID>x</PresetID></Item></PresetList></Response>"
    );
    world.message(hop, NVR, &xml);
    let Some(Answer::Presets(presets)) = world.answered(ticket) else { panic!() };
    assert_eq!((presets.len(), presets[0].number, presets[0].name.as_deref()), (1, 1, Some("Gate")));

    let ticket = world.ask(Ask::Cruise { of: channel(CAMERA), number: 2 });
    let sn = World::sn_of(&world.take(), "CruiseTrackQuery");
    for point in [3, 4] {
        assert_eq!(world.answered(ticket), None);
        let xml = format!(
            "<Response><CmdType>CruiseTrackQuery</CmdType><SN>{sn}</SN><Name>Night</Name><SumNum>2</SumNum><CruisePointList Num=\"1\">\
            <CruisePoint><PresetIndex>{point}</PresetIndex><StayTime>10</StayTime></CruisePoint></CruisePointList></Response>"
        );
        world.message(hop, NVR, &xml);
    }
    let Some(Answer::Cruise(cruise)) = world.answered(ticket) else { panic!() };
    assert_eq!((cruise.track.number, cruise.track.name.as_deref(), cruise.points.len()), (2, Some("Night"), 2));
    assert_eq!((cruise.points[1].preset, cruise.points[1].stay_s, cruise.points[1].speed), (4, Some(10), None));

    let ticket = world.ask(Ask::PtzPosition(channel(CAMERA)));
    let sn = World::sn_of(&world.take(), "PTZPosition");
    let xml = format!("<Response><CmdType>PTZPosition</CmdType><SN>{sn}</SN><Pan>90.5</Pan><Tilt>-3</Tilt></Response>");
    world.message(hop, NVR, &xml);
    let Some(Answer::PtzPosition(position)) = world.answered(ticket) else { panic!() };
    assert_eq!((position.pan, position.tilt, position.zoom), (Some(90.5), Some(-3.0), None));

    let kinds = vec!["BasicParam".to_owned(), "VideoParamOpt".to_owned()];
    let ticket = world.ask(Ask::Config { of: channel(NVR), kinds });
    let sn = World::sn_of(&world.take(), "ConfigDownload");
    for section in [
        "<BasicParam><HeartBeatCount>3</HeartBeatCount></BasicParam>",
        "<VideoParamOpt><Resolution>5/6</Resolution></VideoParamOpt>",
    ] {
        assert_eq!(world.answered(ticket), None);
        world.message(
            hop,
            NVR,
            &format!("<Response><CmdType>ConfigDownload</CmdType><SN>{sn}</SN><Result>OK</Result>{section}</Response>"),
        );
    }
    let Some(Answer::Config(config)) = world.answered(ticket) else { panic!() };
    assert_eq!(config.sections["BasicParam"]["HeartBeatCount"], "3");
    assert_eq!(config.sections["VideoParamOpt"]["Resolution"], "5/6");

    world.ask(Ask::Refresh(NVR.into()));
    let sn = World::sn_of(&world.take(), "DeviceStatus");
    let xml = format!(
        "<Response><CmdType>DeviceStatus</CmdType><SN>{sn}</SN><Result>OK</Result><Online>ONLINE</Online><Status>ERROR</Status>\
        <Record>ON</Record><Alarmstatus Num=\"1\"><Item><DeviceID>7</DeviceID><DutyStatus>ALARM</DutyStatus></Item></Alarmstatus></Response>"
    );
    world.message(hop, NVR, &xml);
    let Answer::Device(device) = world.now(Ask::Device(NVR.into())) else { panic!() };
    let status = device.status.unwrap();
    assert_eq!((status.online, status.ok, status.recording, status.encoding), (Some(true), Some(false), Some(true), None));
    assert_eq!((status.alarms["7"].as_str(), device.name.as_deref()), ("alarm", Some("N1")));
}

#[test]
fn commands_are_done_when_the_device_has_taken_them_or_has_said_so() {
    let hop = udp(HOP);
    let mut world = World::with_camera(hop);
    let control = |world: &mut World, control| {
        let ticket = world.ask(Ask::Control { of: channel(CAMERA), control });
        (ticket, world.requests())
    };
    // Movements have no answer but that of SIP.
    let (ticket, requests) = control(&mut world, ask::DeviceControl::Move { pan: 64, tilt: 0, zoom: 0 });
    let (message, _) = manscdp::decode(&requests[0].1.body).unwrap();
    let Body::Control(Control::Device(device_control)) = message.body else { panic!() };
    assert_eq!(
        (message.device.as_str(), device_control.command),
        (CAMERA, Command::Ptz(ptz::parse_hex("A50F0101400000F6").unwrap()))
    );
    assert_eq!(world.answered(ticket), None);
    world.answer(hop, &requests[0].1, 200, &[]);
    assert_eq!(world.answered(ticket), Some(Answer::Done));
    // Guards say what has become of them.
    for (result, expected) in [("OK", None), ("ERROR", Some(RefusedKind::Device))] {
        let (ticket, requests) = control(&mut world, ask::DeviceControl::Guard { on: true });
        world.answer(hop, &requests[0].1, 200, &[]);
        assert_eq!(world.answered(ticket), None);
        let sn = manscdp::decode(&requests[0].1.body).unwrap().0.sn;
        let xml = format!(
            "<Response><CmdType>DeviceControl</CmdType><SN>{sn}</SN><DeviceID>{CAMERA}</DeviceID><Result>{result}</Result></Response>"
        );
        world.message(hop, NVR, &xml);
        match expected {
            None => assert_eq!(world.answered(ticket), Some(Answer::Done)),
            Some(kind) => assert_eq!(world.refusal(ticket).0, kind),
        }
    }
    // Refused, silent, or silent after a yes.
    let (ticket, requests) = control(&mut world, ask::DeviceControl::Reboot);
    world.answer(hop, &requests[0].1, 404, &[]);
    assert!(matches!(world.refusal(ticket), (RefusedKind::Device, why) if why.ends_with("404 Not Found")));
    let (ticket, _) = control(&mut world, ask::DeviceControl::Reboot);
    world.pass(5_001);
    assert!(matches!(world.refusal(ticket), (RefusedKind::Silent, why) if why.contains("no SIP answer in 5000 ms")));
    world.requests();
    let (ticket, requests) = control(&mut world, ask::DeviceControl::Record { on: true });
    world.answer(hop, &requests[0].1, 200, &[]);
    world.pass(5_001);
    assert_eq!(world.refusal(ticket).0, RefusedKind::Silent);
    let (ticket, _) = control(&mut world, ask::DeviceControl::Move { pan: 999, tilt: 0, zoom: 0 });
    assert_eq!(world.refusal(ticket).0, RefusedKind::Bad);
}

#[test]
fn questions_are_bounded() {
    let hop = udp(HOP);
    let mut world = World::with_camera(hop);
    let tickets: Vec<_> = (0..=queries::QUERIES_PER_DEVICE_MAX).map(|_| world.ask(Ask::Presets(channel(CAMERA)))).collect();
    assert_eq!(world.refusal(*tickets.last().unwrap()).0, RefusedKind::Full);
    let unknown = Channel { device: "9".into(), channel: "9".into() };
    let ticket = world.ask(Ask::Presets(unknown));
    assert_eq!(world.refusal(ticket).0, RefusedKind::NotFound);
    world.pass(30_000);
    assert!(tickets[1..].iter().all(|ticket| world.answered(*ticket).is_some() || *ticket == *tickets.last().unwrap()));
    assert!(world.devices.queries.is_empty() && world.devices.sent.is_empty());
    assert!(world.devices.by_id[NVR].queries.is_empty());
}

#[test]
fn a_device_that_never_stops_answering_is_cut_off() {
    let hop = udp(HOP);
    let mut world = World::with_camera(hop);
    let ticket = world.ask(Ask::Presets(channel(CAMERA)));
    let sn = World::sn_of(&world.take(), "PresetQuery");
    let xml = format!(
        "<Response><CmdType>PresetQuery</CmdType><SN>{sn}</SN><SumNum>100000</SumNum><PresetList><Item><PresetID>1</PresetID></Item></PresetList></Response>"
    );
    for _ in 0..30 {
        world.message(hop, NVR, &xml);
        world.pass(5_000);
    }
    let Some(Answer::Presets(presets)) = world.answered(ticket) else { panic!() };
    assert_eq!(presets.len(), 24, "those of 120 s");
}

#[test]
fn channels_over_the_limit_are_not_kept() {
    let hop = udp(HOP);
    let mut world = World::new();
    world.register(hop, NVR);
    let sn = World::sn_of(&world.take(), "Catalog");
    let sum = channels::CHANNELS_MAX + 500;
    for begin in (0..sum).step_by(500) {
        let items: Vec<String> =
            (begin..begin + 500).map(|number| format!("<Item><DeviceID>1{number}</DeviceID></Item>")).collect();
        assert_eq!(world.message(hop, NVR, &catalog_part(sn, sum, &items)), 200);
    }
    assert_eq!(world.devices.items(NVR).count(), channels::CHANNELS_MAX);
    assert!(world.reasons().contains(&"gb28181_catalog_over_limit"));
    assert_eq!(world.devices.bytes.used(), world.devices.by_id[NVR].channels.bytes());
    world.register_for(hop, NVR, "0");
    world.now(Ask::Forget(NVR.into()));
    assert_eq!(world.devices.bytes.used(), 0);
}

#[test]
fn kinds_of_channels_are_in_their_ids() {
    let cases = [
        ("34020000001310000001", "camera"),
        ("34020000001320000001", "ip_camera"),
        ("34020000001180000001", "network_recorder"),
        ("34020000001370000001", "audio_output"),
        ("34020000002150000001", "group"),
        ("34020000002000000001", "platform"),
        ("340200", "region"),
        ("34", "region"),
        ("340200000013100001", "other"),
        ("camera-1", "other"),
    ];
    for (id, kind) in cases {
        assert_eq!(shown::kind_of(id), kind, "{id}");
    }
}
