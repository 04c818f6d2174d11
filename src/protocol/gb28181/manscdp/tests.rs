//! Bodies of devices, of those who mean harm, and of our own.

use encoding_rs::GB18030;

use super::field::{Elements, Field};
use super::*;
use crate::protocol::common::random::SplitMix64;
use crate::protocol::gb28181::ptz;

/// Random values for round trips.
pub struct Random(SplitMix64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0.next() % limit
    }

    pub fn choose<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }

    /// As it is read: without blanks at its ends.
    pub fn text(&mut self) -> String {
        let alphabet =
            ["a", "Z", "0", " ", "&", "&amp;", "<", ">", "\"", "'", "]]>", "大", "门", "é", "㐀", "𠀀", "\u{E5E5}", "😀", "/"];
        let text: String = (0..self.below(8)).map(|_| *self.choose(&alphabet)).collect();
        text.trim().to_owned()
    }
}

fn text_of(message: &Message, charset: Charset) -> String {
    charset::decode(&encode(message, charset)).0.into_owned()
}

fn message(device: &str, body: Body) -> Message {
    Message { sn: 17, device: device.to_owned(), body }
}

const NVR: &str = "34020000001110000001";
const CAMERA: &str = "34020000001310000001";

#[test]
fn a_catalog_is_read() {
    let text = "<?xml version=\"1.0\" encoding=\"GB2312\"?>\r\n<Response>\r\n<CmdType>Catalog</CmdType>\r\n<SN>17</SN>\r\n\
        <DeviceID>34020000001110000001</DeviceID>\r\n<SumNum>2</SumNum>\r\n<DeviceList Num=\"2\">\r\n<Item>\r\n\
        <DeviceID>34020000001310000001</DeviceID>\r\n<Name>南门 & 车库</Name>\r\n<Manufacturer>X</Manufacturer>\r\n<Model/>\r\n\
        <CivilCode>340200</CivilCode>\r\n<Parental>0</Parental>\r\n<ParentID>34020000001110000001</ParentID>\r\n\
        <RegisterWay>1</RegisterWay>\r\n<Secrecy>0</Secrecy>\r\n<Password>secret</Password><Status>ON</Status>\r\n\
        <Longitude>118.35</Longitude><Latitude>x</Latitude><Info><PTZType>1</PTZType><DownloadSpeed>1/2/4</DownloadSpeed></Info>\
        </Item>\r\n<Item><DeviceID>340200</DeviceID><Status>off</Status><PTZType>3</PTZType></Item></DeviceList>\r\n</Response>\r\n\0";
    let bytes = GB18030.encode(text).0;
    let (read, charset) = decode(&bytes).unwrap();
    assert_eq!((read.sn, read.device.as_str(), charset), (17, NVR, Charset::Gb18030));
    let Body::Response(Response::Catalog(Catalog { sum: Some(2), items })) = read.body else { panic!("{:?}", read.body) };
    let [first, second] = &items[..] else { panic!("{items:?}") };
    assert_eq!((first.device_id.as_str(), first.name.as_str()), (CAMERA, "南门 & 车库"));
    assert_eq!((first.status, first.info.ptz_type), (Some(ItemStatus::On), Some(1)));
    assert_eq!((first.longitude, first.latitude), (Some(118.35), None));
    assert_eq!((second.device_id.as_str(), second.status, second.info.ptz_type), ("340200", Some(ItemStatus::Off), Some(3)));
    assert!(!format!("{items:?}").contains("secret"));
}

#[test]
fn messages_of_devices_are_read() {
    let plain = |command: &str, result| Body::Response(Response::Plain { command: command.to_owned(), result });
    let keepalive = |status: &str, faulty: &[&str]| {
        Body::Notify(Notify::Keepalive(Keepalive {
            status: status.to_owned(),
            faulty: faulty.iter().map(|id| (*id).to_owned()).collect(),
        }))
    };
    let cases = [
        (
            "<Notify><CmdType>Keepalive</CmdType><SN>43</SN><DeviceID>1</DeviceID><Status>OK</Status></Notify>",
            keepalive("OK", &[]),
        ),
        (
            "<notify><cmdtype>KeepAlive</cmdtype><Status>OK</Status><Info><DeviceID>5</DeviceID><DeviceID>6</DeviceID></Info></notify>",
            keepalive("OK", &["5", "6"]),
        ),
        (
            "<Response><CmdType>DeviceControl</CmdType><SN>1</SN><DeviceID>1</DeviceID><Result>OK</Result></Response>",
            plain("DeviceControl", Some(Outcome::Ok)),
        ),
        ("<Response><CmdType>Broadcast</CmdType><Result>Error</Result></Response>", plain("Broadcast", Some(Outcome::Error))),
        ("<Response><CmdType>PTZPosition</CmdType><Result>ERROR</Result></Response>", plain("PTZPosition", Some(Outcome::Error))),
        ("<Response><CmdType>SDCardStatus</CmdType><List/></Response>", plain("SDCardStatus", None)),
        (
            "<Notify><CmdType>MediaStatus</CmdType><NotifyType>121</NotifyType></Notify>",
            Body::Notify(Notify::MediaStatus(END_OF_MEDIA)),
        ),
        (
            "<Notify><CmdType>Broadcast</CmdType><SN>20</SN><SourceID>a</SourceID><TargetID>b</TargetID></Notify>",
            Body::Notify(Notify::Broadcast { source: "a".into(), target: "b".into() }),
        ),
        ("<Notify><CmdType>Snapshot</CmdType></Notify>", Body::Notify(Notify::Other("Snapshot".into()))),
        ("<Query><CmdType>CATALOG</CmdType></Query>", Body::Query(Query::CATALOG)),
        ("<Query><CmdType>PTZPosition</CmdType></Query>", Body::Query(Query::PtzPosition)),
        ("<Query><CmdType>CruiseTrackQuery</CmdType><Number>2</Number></Query>", Body::Query(Query::CruiseTrack(2))),
        ("<Query><CmdType>HomePositionQuery</CmdType></Query>", Body::Query(Query::Other("HomePositionQuery".into()))),
        ("<Control><CmdType>DeviceConfig</CmdType></Control>", Body::Control(Control::Other("DeviceConfig".into()))),
    ];
    for (text, body) in cases {
        assert_eq!(decode(text.as_bytes()).map(|(message, _)| message.body), Ok(body), "{text}");
    }
}

#[test]
fn alarms_and_positions_are_read() {
    let text = "<Notify><CmdType>Alarm</CmdType><SN>1</SN><DeviceID>1</DeviceID><AlarmPriority>4</AlarmPriority><AlarmMethod>5</AlarmMethod>\
        <AlarmTime>2026-01-02T03:04:05</AlarmTime><Info><AlarmType>6</AlarmType><AlarmTypeParam><EventType>1</EventType></AlarmTypeParam>\
        </Info></Notify>";
    let Body::Notify(Notify::Alarm(alarm)) = decode(text.as_bytes()).unwrap().0.body else { panic!() };
    assert_eq!((alarm.fields.method, alarm.fields.alarm_type, alarm.event_type.as_str()), (Some(5), Some(6), "1"));
    let text = "<Notify><CmdType>MobilePosition</CmdType><Time>t</Time><Longitude>120.5</Longitude><Latitude>-30</Latitude>\
        <Speed> 36.5 </Speed><Direction>nan</Direction></Notify>";
    let Body::Notify(Notify::MobilePosition(position)) = decode(text.as_bytes()).unwrap().0.body else { panic!() };
    let expected = Position {
        time: "t".into(),
        longitude: Some(120.5),
        latitude: Some(-30.0),
        speed: Some(36.5),
        direction: None,
        altitude: None,
    };
    assert_eq!(position, expected);
}

#[test]
fn what_devices_say_of_themselves_is_read() {
    let text = "<Response><CmdType>DeviceStatus</CmdType><Result>OK</Result><Online>ONLINE</Online><Status>OK</Status><Record>OFF</Record>\
        <Alarmstatus Num=\"1\"><Item><DeviceID>7</DeviceID><DutyStatus>ONDUTY</DutyStatus></Item></Alarmstatus></Response>";
    let Body::Response(Response::DeviceStatus(status)) = decode(text.as_bytes()).unwrap().0.body else { panic!() };
    assert_eq!((status.fields.online, status.fields.record), (Some(device::Online::Online), Some(device::OnOff::Off)));
    assert_eq!(status.alarm_inputs[0].duty_status, Some(device::DutyStatus::OnDuty));
    let text = "<Response><CmdType>ConfigDownload</CmdType><Result>OK</Result><BasicParam><Name>n</Name><HeartBeatCount>3</HeartBeatCount>\
        <Other/></BasicParam><Empty/></Response>";
    let Body::Response(Response::ConfigDownload(config)) = decode(text.as_bytes()).unwrap().0.body else { panic!() };
    let fields = vec![("Name".to_owned(), "n".to_owned()), ("HeartBeatCount".to_owned(), "3".to_owned())];
    assert_eq!(config.sections, [Section { name: "BasicParam".into(), fields }]);
    let text = "<Response><CmdType>PresetQuery</CmdType><PresetList Num=\"1\"><Item><PresetID>1</PresetID><PresetName>门</PresetName></Item>\
        </PresetList></Response>";
    let Body::Response(Response::PresetQuery(presets)) = decode(text.as_bytes()).unwrap().0.body else { panic!() };
    assert_eq!(presets.presets, [Preset { id: "1".into(), name: "门".into() }]);
    let text = "<Response><CmdType>CruiseTrackQuery</CmdType><SN>2</SN><Number>1</Number><Name>夜间</Name><SumNum>1</SumNum>\
        <CruisePointList Num=\"1\"><CruisePoint><PresetIndex>3</PresetIndex><StayTime>10</StayTime><Speed>5</Speed></CruisePoint>\
        </CruisePointList></Response>";
    let Body::Response(Response::CruiseTrack(track)) = decode(text.as_bytes()).unwrap().0.body else { panic!() };
    assert_eq!((track.track.number, track.track.name.as_str(), track.sum), (Some(1), "夜间", Some(1)));
    assert_eq!(track.points, [CruisePoint { preset: Some(3), stay_time: Some(10), speed: Some(5) }]);
    for (before, behind) in [("", ""), ("<PTZPosition>", "</PTZPosition>")] {
        let text = format!(
            "<Response><CmdType>PTZPosition</CmdType>{before}<Pan>180.25</Pan><Tilt>12.5</Tilt><zoom>3</zoom>\
             <HorizontalFieldAngle>31.2</HorizontalFieldAngle>{behind}</Response>"
        );
        let Body::Response(Response::PtzPosition(position)) = decode(text.as_bytes()).unwrap().0.body else { panic!() };
        assert_eq!((position.pan, position.zoom, position.horizontal_angle), (Some(180.25), Some(3.0), Some(31.2)));
    }
    let text = "<Response><CmdType>RecordInfo</CmdType><SN>2</SN><Name>n</Name><SumNum>1</SumNum><RecordList Num=\"1\"><Item>\
        <DeviceID>1</DeviceID><StartTime>a</StartTime><Type>TIME</Type><FileSize>99999999999</FileSize></Item></RecordList></Response>";
    let Body::Response(Response::RecordInfo(records)) = decode(text.as_bytes()).unwrap().0.body else { panic!() };
    assert_eq!((records.sum, records.records[0].kind), (Some(1), Some(RecordType::Time)));
    assert_eq!(records.records[0].file_size, Some(99_999_999_999));
}

/// The inside of a control to the camera.
fn control(command: Command) -> String {
    let body = Body::Control(Control::Device(DeviceControl { command, priority: None }));
    let text = text_of(&message(CAMERA, body), Charset::Gb18030);
    let (_, inside) = text.split_once("</DeviceID>").unwrap();
    inside.trim_end().strip_suffix("</Control>").unwrap().to_owned()
}

#[test]
fn commands_are_written_and_read() {
    let scope = AlarmScope { method: "2".into(), alarm_type: String::new() };
    let cases = [
        (Command::Ptz(ptz::Instruction::STOP.code(1)), "<PTZCmd>A50F0100000000B5</PTZCmd>"),
        (
            Command::PrecisePtz(PrecisePtz { pan: Some(120.5), tilt: Some(-3.0), zoom: None }),
            "<PTZPreciseCtrl><Pan>120.5</Pan><Tilt>-3</Tilt></PTZPreciseCtrl>",
        ),
        (Command::TeleBoot, "<TeleBoot>Boot</TeleBoot>"),
        (Command::Record(RecordAction::Start), "<RecordCmd>Record</RecordCmd>"),
        (Command::Record(RecordAction::Stop), "<RecordCmd>StopRecord</RecordCmd>"),
        (Command::Guard(GuardAction::Set), "<GuardCmd>SetGuard</GuardCmd>"),
        (Command::Guard(GuardAction::Reset), "<GuardCmd>ResetGuard</GuardCmd>"),
        (Command::ResetAlarm(AlarmScope::default()), "<AlarmCmd>ResetAlarm</AlarmCmd>"),
        (Command::ResetAlarm(scope), "<AlarmCmd>ResetAlarm</AlarmCmd><Info><AlarmMethod>2</AlarmMethod></Info>"),
        (Command::IFrame, "<IFameCmd>Send</IFameCmd><IFrameCmd>Send</IFrameCmd>"),
        (
            Command::DragZoom(DragZoom::Out, ZoomRectangle { length: Some(640), width: Some(480), ..Default::default() }),
            "<DragZoomOut><Length>640</Length><Width>480</Width></DragZoomOut>",
        ),
        (
            Command::HomePosition(HomePosition { enabled: Some(1), reset_time: Some(30), preset_index: Some(2) }),
            "<HomePosition><Enabled>1</Enabled><ResetTime>30</ResetTime><PresetIndex>2</PresetIndex></HomePosition>",
        ),
    ];
    for (command, inside) in cases {
        assert_eq!(control(command.clone()), inside);
        let text = format!("<Control><CmdType>DeviceControl</CmdType><SN>19</SN><DeviceID>1</DeviceID>{inside}</Control>");
        let expected = Body::Control(Control::Device(command.into()));
        assert_eq!(decode(text.as_bytes()).unwrap().0.body, expected, "{text}");
    }
    let others = [("<PTZCmd>none</PTZCmd>", "PTZCmd"), ("<IFrameCmdX/>", "IFrameCmdX"), ("", ""), ("<Info/>", "")];
    for (inside, name) in others {
        let text = format!("<Control><CmdType>DeviceControl</CmdType><SN>19</SN><DeviceID>1</DeviceID>{inside}</Control>");
        let expected = Body::Control(Control::Device(Command::Other(name.into()).into()));
        assert_eq!(decode(text.as_bytes()).unwrap().0.body, expected, "{text}");
    }
    let spelt = "<Control><CmdType>DeviceControl</CmdType><IFrameCmd>Send</IFrameCmd><Info><ControlPriority>5</ControlPriority></Info></Control>";
    let expected = DeviceControl { command: Command::IFrame, priority: Some(5) };
    assert_eq!(decode(spelt.as_bytes()).unwrap().0.body, Body::Control(Control::Device(expected)));
}

#[test]
fn queries_are_written_as_the_standard_has_them() {
    let text = text_of(&message(NVR, Body::Query(Query::CATALOG)), Charset::Gb18030);
    let expected = "<?xml version=\"1.0\" encoding=\"GB2312\"?>\r\n<Query><CmdType>Catalog</CmdType><SN>17</SN>\
        <DeviceID>34020000001110000001</DeviceID></Query>\r\n";
    assert_eq!(text, expected);
    let query = RecordQuery {
        start_time: "2026-01-02T00:00:00".into(),
        end_time: "2026-01-02T23:59:59".into(),
        secrecy: Some(0),
        kind: Some(RecordType::All),
        ..RecordQuery::default()
    };
    let text = text_of(&message(CAMERA, Body::Query(Query::RecordInfo(query))), Charset::Utf8);
    let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<Query><CmdType>RecordInfo</CmdType><SN>17</SN>\
        <DeviceID>34020000001310000001</DeviceID><StartTime>2026-01-02T00:00:00</StartTime><EndTime>2026-01-02T23:59:59</EndTime>\
        <Secrecy>0</Secrecy><Type>all</Type></Query>\r\n";
    assert_eq!(text, expected);
}

#[test]
fn bombs_and_broken_bodies_have_a_name() {
    let query = |inside: &str| format!("<Query><CmdType>Catalog</CmdType>{inside}</Query>");
    let bomb = "<?xml version=\"1.0\"?><!DOCTYPE lolz [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;\">]><Query>&b;</Query>";
    let external = "<!DOCTYPE q SYSTEM \"file:///etc/passwd\"><Query><CmdType>Catalog</CmdType></Query>";
    let cases = [
        ("entities", bomb.to_owned(), "xml_document_type"),
        ("an external entity", external.to_owned(), "xml_document_type"),
        ("depth", query(&"<a>".repeat(DEPTH_MAX)), "xml_too_deep"),
        ("elements", query(&"<a/>".repeat(ELEMENTS_MAX)), "xml_too_many_elements"),
        ("text", query(&format!("<DeviceID>{}</DeviceID>", "1".repeat(TEXT_BYTES_MAX + 1))), "xml_text_too_long"),
        ("a body of 1 MB", " ".repeat(1 << 20), "xml_too_long"),
        ("nothing", String::new(), "xml_incomplete"),
        ("no XML", "OK".to_owned(), "xml_incomplete"),
        ("a body cut off", "<Query><CmdType>Cat".to_owned(), "xml_incomplete"),
        ("an end that ends another", "<Query><CmdType>Catalog</Query>".to_owned(), "xml_syntax"),
        ("another root", "<html><CmdType>Catalog</CmdType></html>".to_owned(), "xml_unknown_root"),
        ("no command", "<Query><SN>1</SN></Query>".to_owned(), "xml_no_command"),
    ];
    for (name, text, reason) in cases {
        let error = decode(text.as_bytes()).expect_err(name);
        assert_eq!(error.reason(), reason, "{name}: {error}");
    }
}

#[test]
fn references_are_resolved_and_unknown_ones_kept() {
    let text = "<Notify><CmdType>Keepalive</CmdType><Status>&lt;&#79;K&#x21; &amp; &nbsp; A&B;C & <![CDATA[<x>]]><!-- --></Status></Notify>";
    let Body::Notify(Notify::Keepalive(keepalive)) = decode(text.as_bytes()).unwrap().0.body else { panic!() };
    assert_eq!(keepalive.status, "<OK! & &nbsp; A&B;C & <x>");
}

/// A message of any kind.
fn sample(random: &mut Random) -> Message {
    let text = |random: &mut Random| random.text();
    let named = |random: &mut Random| format!("x{}", random.text()).trim().to_owned();
    let catalog = |random: &mut Random| Catalog { sum: Field::sample(random), items: samples(random) };
    let body = match random.below(32) {
        0 => Body::Query(Query::Catalog { start_time: text(random), end_time: text(random) }),
        1 => Body::Query(Query::DeviceInfo),
        2 => Body::Query(Query::DeviceStatus),
        3 => Body::Query(Query::RecordInfo(RecordQuery::sample(random))),
        4 => Body::Query(Query::ConfigDownload(text(random))),
        5 => Body::Query(Query::PresetQuery),
        6 => Body::Query(Query::MobilePosition { interval_s: Field::sample(random) }),
        7 => Body::Query(Query::Alarm(AlarmQuery::sample(random))),
        8 => Body::Query(Query::Other(named(random))),
        9 => Body::Notify(Notify::Keepalive(Keepalive { status: text(random), faulty: vec!["1".into(), named(random)] })),
        10 => Body::Notify(Notify::Catalog(catalog(random))),
        11 => Body::Notify(Notify::MobilePosition(Position::sample(random))),
        12 => Body::Notify(Notify::Alarm(Alarm { fields: AlarmFields::sample(random), event_type: text(random) })),
        13 => Body::Notify(Notify::MediaStatus(END_OF_MEDIA)),
        14 => Body::Notify(Notify::Broadcast { source: text(random), target: text(random) }),
        15 => Body::Response(Response::Catalog(catalog(random))),
        16 => Body::Response(Response::DeviceInfo(DeviceInfo::sample(random))),
        17 => Body::Response(Response::DeviceStatus(DeviceStatus {
            fields: StatusFields::sample(random),
            alarm_inputs: samples(random),
        })),
        18 => Body::Response(Response::RecordInfo(Records {
            name: text(random),
            sum: Field::sample(random),
            records: samples(random),
        })),
        19 => Body::Response(Response::ConfigDownload(DeviceConfig {
            result: Field::sample(random),
            sections: vec![Section { name: "BasicParam".into(), fields: vec![("Name".into(), named(random))] }],
        })),
        20 => Body::Response(Response::PresetQuery(Presets { sum: Field::sample(random), presets: samples(random) })),
        21 => Body::Response(Response::Plain { command: named(random), result: Field::sample(random) }),
        22 => Body::Control(Control::Other(named(random))),
        23 => Body::Response(Response::CruiseTracks(CruiseList { sum: Field::sample(random), tracks: samples(random) })),
        24 => Body::Response(Response::CruiseTrack(CruiseTrack {
            track: CruiseName::sample(random),
            sum: Field::sample(random),
            points: samples(random),
        })),
        25 => Body::Response(Response::PtzPosition(PtzPosition::sample(random))),
        26 => Body::Query(random.choose(&[Query::CruiseTracks, Query::CruiseTrack(7), Query::PtzPosition]).clone()),
        _ => {
            let command = match random.below(6) {
                0 => Command::ResetAlarm(AlarmScope::sample(random)),
                1 => Command::DragZoom(DragZoom::In, ZoomRectangle::sample(random)),
                2 => Command::HomePosition(HomePosition::sample(random)),
                4 => Command::PrecisePtz(PrecisePtz::sample(random)),
                3 => Command::Ptz(random.below(u64::MAX).to_be_bytes()),
                _ => Command::IFrame,
            };
            Body::Control(Control::Device(DeviceControl { command, priority: Field::sample(random) }))
        }
    };
    let device = if matches!(body, Body::Notify(Notify::Broadcast { .. })) { String::new() } else { text(random) };
    Message { sn: random.below(1 << 32), device, body }
}

fn samples<T: Elements>(random: &mut Random) -> Vec<T> {
    (0..random.below(3)).map(|_| T::sample(random)).collect()
}

#[test]
fn what_is_written_is_read_as_the_same() {
    let mut random = Random(SplitMix64::new(28_181));
    for round in 0..5_000 {
        let message = sample(&mut random);
        for charset in [Charset::Utf8, Charset::Gb18030] {
            let bytes = encode(&message, charset);
            let (read, _) = decode(&bytes).unwrap_or_else(|error| panic!("round {round}: {message:?}: {error}"));
            assert_eq!(read, message, "round {round}, {charset:?}: {}", String::from_utf8_lossy(&bytes));
        }
    }
}

/// Cut anywhere, or with a byte of it changed, a body is read or refused.
#[test]
fn damaged_bodies_never_panic() {
    let mut random = Random(SplitMix64::new(1));
    for _ in 0..300 {
        let message = sample(&mut random);
        let bytes = encode(&message, Charset::Gb18030);
        for _ in 0..40 {
            let mut bytes = bytes[..random.below(bytes.len() as u64) as usize].to_vec();
            let _ = decode(&bytes);
            if let Some(at) = (random.below(bytes.len() as u64 + 1) as usize).checked_sub(1) {
                bytes[at] = random.below(256) as u8;
                let _ = decode(&bytes);
            }
        }
    }
}
