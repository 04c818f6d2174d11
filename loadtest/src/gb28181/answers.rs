//! What a device answers to queries, and tells on its own: MANSCDP bodies (GB/T 28181 Annex A), the long ones in several messages.

use super::date;
use super::xml::{Charset, element};

/// A preset and the length of a recording, which are as good as any.
const PRESETS: [(&str, &str); 3] = [("1", "大门"), ("2", "停车场"), ("3", "走廊")];
const RECORD_SECONDS: i64 = 600;
/// Steps of a device that moves, in millionths of a degree.
const STEP: u64 = 100;

/// What one device has.
#[derive(Clone, Debug)]
pub struct Inventory {
    pub device: String,
    pub channels: Vec<Channel>,
    /// A loudspeaker.
    pub speaker: Option<String>,
    pub charset: Charset,
    /// Recordings in any span of time.
    pub records: u32,
    /// Items per message.
    pub items: usize,
    pub expires: u64,
    pub keepalive_ms: u64,
}

#[derive(Clone, Debug)]
pub struct Channel {
    pub id: String,
    pub online: bool,
}

impl Inventory {
    /// Whether that is one of its numbers.
    pub fn has(&self, id: &str) -> bool {
        self.device == id || self.speaker.as_deref() == Some(id) || self.channels.iter().any(|channel| channel.id == id)
    }

    /// Bodies that answer a query, one per message. `None`: it is none that this device knows.
    pub fn answer(&self, query: &str) -> Option<Vec<String>> {
        let command = element(query, "CmdType")?;
        let sn = element(query, "SN").unwrap_or("0");
        let id = element(query, "DeviceID").unwrap_or(&self.device);
        let one = |fields: String| Some(vec![self.document("Response", command, sn, id, &fields)]);
        match command {
            "Catalog" => Some(self.lists("Catalog", sn, id, "", "DeviceList", &self.catalog())),
            "RecordInfo" => {
                let items = self.record_items(query, id);
                Some(self.lists("RecordInfo", sn, id, "<Name>录像</Name>\r\n", "RecordList", &items))
            }
            "DeviceInfo" => one(format!(
                "<DeviceName>{}</DeviceName>\r\n<Result>OK</Result>\r\n<Manufacturer>Simulator</Manufacturer>\r\n<Model>S1</Model>\r\n<Firmware>V1.0</Firmware>\r\n<Channel>{}</Channel>\r\n",
                self.name("设备", 1),
                self.channels.len()
            )),
            "DeviceStatus" => one(format!(
                "<Result>OK</Result>\r\n<Online>ONLINE</Online>\r\n<Status>OK</Status>\r\n<Encode>ON</Encode>\r\n<Record>OFF</Record>\r\n<DeviceTime>{}</DeviceTime>\r\n<Alarmstatus Num=\"0\"></Alarmstatus>\r\n",
                date::format(date::now())
            )),
            "ConfigDownload" => one(format!(
                "<Result>OK</Result>\r\n<BasicParam>\r\n<Name>{}</Name>\r\n<Expiration>{}</Expiration>\r\n<HeartBeatInterval>{}</HeartBeatInterval>\r\n<HeartBeatCount>3</HeartBeatCount>\r\n</BasicParam>\r\n",
                self.name("设备", 1),
                self.expires,
                self.keepalive_ms.div_ceil(1000)
            )),
            "PresetQuery" => {
                let item = |(id, name): &(&str, &str)| {
                    format!("<Item><PresetID>{id}</PresetID><PresetName>{name}</PresetName></Item>\r\n")
                };
                let list: String = PRESETS.iter().map(item).collect();
                one(format!("<PresetList Num=\"{}\">\r\n{list}</PresetList>\r\n", PRESETS.len()))
            }
            // What the standard of 2022 adds (A.2.6.13 to A.2.6.15).
            "CruiseTrackListQuery" => one(format!(
                "<SumNum>1</SumNum>\r\n<CruiseTrackList Num=\"1\">\r\n<CruiseTrack><Number>1</Number><Name>{}</Name></CruiseTrack>\r\n</CruiseTrackList>\r\n",
                self.name("夜间", 1)
            )),
            "CruiseTrackQuery" => one(format!(
                "<Number>{}</Number>\r\n<Name>{}</Name>\r\n<SumNum>2</SumNum>\r\n<CruisePointList Num=\"2\">\r\n<CruisePoint><PresetIndex>3</PresetIndex><StayTime>10</StayTime><Speed>5</Speed></CruisePoint>\r\n<CruisePoint><PresetIndex>7</PresetIndex><StayTime>20</StayTime><Speed>8</Speed></CruisePoint>\r\n</CruisePointList>\r\n",
                element(query, "Number").unwrap_or("0"),
                self.name("夜间", 1)
            )),
            "PTZPosition" => one("<Pan>120.50</Pan>\r\n<Tilt>-3.00</Tilt>\r\n<Zoom>2.00</Zoom>\r\n".to_owned()),
            _ => None,
        }
    }

    /// A name that the charset can carry, and only GB18030 where that is the quirk.
    fn name(&self, name: &str, number: usize) -> String {
        let rare = if self.charset == Charset::Gb18030 { "镕𠀀" } else { "" };
        format!("{name}{rare}{number}")
    }

    fn catalog(&self) -> Vec<String> {
        let channels = self.channels.iter().zip(1..).map(|(channel, number)| {
            self.item(&channel.id, &self.name("摄像机", number), if channel.online { "ON" } else { "OFF" })
        });
        channels.chain(self.speaker.iter().map(|id| self.item(id, &self.name("扬声器", 1), "ON"))).collect()
    }

    fn item(&self, id: &str, name: &str, status: &str) -> String {
        format!(
            "<Item>\r\n<DeviceID>{id}</DeviceID>\r\n<Name>{name}</Name>\r\n<Manufacturer>Simulator</Manufacturer>\r\n<Model>S1</Model>\r\n<Owner>Owner</Owner>\r\n<CivilCode>{}</CivilCode>\r\n<Address>Address</Address>\r\n<Parental>0</Parental>\r\n<ParentID>{}</ParentID>\r\n<SafetyWay>0</SafetyWay>\r\n<RegisterWay>1</RegisterWay>\r\n<Secrecy>0</Secrecy>\r\n<Status>{status}</Status>\r\n<Longitude>117.2</Longitude>\r\n<Latitude>31.8</Latitude>\r\n<Info>\r\n<PTZType>1</PTZType>\r\n</Info>\r\n</Item>\r\n",
            id.get(..6).unwrap_or("340200"),
            self.device,
        )
    }

    /// Recordings of ten minutes, one behind the other from the beginning of the span that is asked for.
    fn record_items(&self, query: &str, id: &str) -> Vec<String> {
        let start = element(query, "StartTime").and_then(date::parse).unwrap_or_else(date::now);
        let end = element(query, "EndTime").and_then(date::parse).unwrap_or(i64::MAX);
        let begins = (0..i64::from(self.records)).map(|number| start + number * RECORD_SECONDS).take_while(|begin| *begin < end);
        let item = |begin: i64| {
            let (from, to) = (date::format(begin), date::format((begin + RECORD_SECONDS).min(end)));
            format!(
                "<Item>\r\n<DeviceID>{id}</DeviceID>\r\n<Name>录像</Name>\r\n<FilePath>/record/{begin}.mp4</FilePath>\r\n<Address>Address</Address>\r\n<StartTime>{from}</StartTime>\r\n<EndTime>{to}</EndTime>\r\n<Secrecy>0</Secrecy>\r\n<Type>time</Type>\r\n<RecorderID>{id}</RecorderID>\r\n<FileSize>1048576</FileSize>\r\n</Item>\r\n"
            )
        };
        begins.map(item).collect()
    }

    /// Items over as many messages as they take (Annex N).
    fn lists(&self, command: &str, sn: &str, id: &str, fields: &str, list: &str, items: &[String]) -> Vec<String> {
        if items.is_empty() {
            return vec![self.document("Response", command, sn, id, &format!("{fields}<SumNum>0</SumNum>\r\n"))];
        }
        let message = |part: &[String]| {
            let (sum, count) = (items.len(), part.len());
            let all = format!("{fields}<SumNum>{sum}</SumNum>\r\n<{list} Num=\"{count}\">\r\n{}</{list}>\r\n", part.concat());
            self.document("Response", command, sn, id, &all)
        };
        items.chunks(self.items.max(1)).map(message).collect()
    }

    fn document(&self, root: &str, command: &str, sn: &str, id: &str, fields: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"GB2312\"?>\r\n<{root}>\r\n<CmdType>{command}</CmdType>\r\n<SN>{sn}</SN>\r\n<DeviceID>{id}</DeviceID>\r\n{fields}</{root}>\r\n"
        )
    }

    /// `OK` to a command, or to a broadcast.
    pub fn result(&self, command: &str, sn: &str, id: &str) -> String {
        self.document("Response", command, sn, id, "<Result>OK</Result>\r\n")
    }

    pub fn keepalive(&self, sn: u32) -> String {
        self.document("Notify", "Keepalive", &sn.to_string(), &self.device, "<Status>OK</Status>\r\n")
    }

    pub fn media_status(&self, sn: u32, channel: &str) -> String {
        self.document("Notify", "MediaStatus", &sn.to_string(), channel, "<NotifyType>121</NotifyType>\r\n")
    }

    /// Motion that was seen.
    pub fn alarm(&self, sn: u32) -> String {
        let fields = format!(
            "<AlarmPriority>1</AlarmPriority>\r\n<AlarmMethod>5</AlarmMethod>\r\n<AlarmTime>{}</AlarmTime>\r\n<AlarmDescription>移动</AlarmDescription>\r\n<Longitude>117.2</Longitude>\r\n<Latitude>31.8</Latitude>\r\n<Info>\r\n<AlarmType>2</AlarmType>\r\n</Info>\r\n",
            date::format(date::now())
        );
        let id = self.channels.first().map_or(&self.device, |channel| &channel.id);
        self.document("Notify", "Alarm", &sn.to_string(), id, &fields)
    }

    /// A little further east each time.
    pub fn position(&self, sn: u32) -> String {
        let fields = format!(
            "<Time>{}</Time>\r\n<Longitude>117.{:06}</Longitude>\r\n<Latitude>31.8</Latitude>\r\n<Speed>36.0</Speed>\r\n<Direction>90</Direction>\r\n<Altitude>20</Altitude>\r\n",
            date::format(date::now()),
            u64::from(sn) * STEP % 1_000_000
        );
        self.document("Notify", "MobilePosition", &sn.to_string(), &self.device, &fields)
    }

    /// The state of a channel has changed.
    pub fn catalog_event(&self, sn: u32, channel: &Channel) -> String {
        let event = if channel.online { "ON" } else { "OFF" };
        let item = format!("<Item>\r\n<DeviceID>{}</DeviceID>\r\n<Event>{event}</Event>\r\n</Item>\r\n", channel.id);
        let fields = format!("<SumNum>1</SumNum>\r\n<DeviceList Num=\"1\">\r\n{item}</DeviceList>\r\n");
        self.document("Notify", "Catalog", &sn.to_string(), &self.device, &fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory() -> Inventory {
        let channel = |number| Channel { id: format!("3402000000131000000{number}"), online: number != 2 };
        Inventory {
            device: "34020000001110000001".to_owned(),
            channels: (1..=4).map(channel).collect(),
            speaker: Some("34020000001370000001".to_owned()),
            charset: Charset::Gb2312,
            records: 5,
            items: 2,
            expires: 3600,
            keepalive_ms: 60_000,
        }
    }

    fn query(command: &str, fields: &str) -> String {
        format!("<Query><CmdType>{command}</CmdType><SN>17</SN><DeviceID>34020000001110000001</DeviceID>{fields}</Query>")
    }

    #[test]
    fn long_answers_come_in_parts_that_say_the_sum() {
        for (command, items) in [("Catalog", 5), ("RecordInfo", 5)] {
            let answers = inventory().answer(&query(command, "<StartTime>2026-01-02T00:00:00</StartTime>")).unwrap();
            assert_eq!(answers.len(), 3);
            for answer in &answers {
                assert_eq!((element(answer, "SN"), element(answer, "SumNum")), (Some("17"), Some("5")));
            }
            let found: usize = answers.iter().map(|answer| answer.matches("<Item>").count()).sum();
            assert_eq!(found, items);
        }
        let none = inventory().answer(&query("RecordInfo", "<EndTime>1990-01-02T00:00:00</EndTime>")).unwrap();
        assert_eq!((none.len(), element(&none[0], "SumNum"), none[0].contains("RecordList")), (1, Some("0"), false));
    }

    #[test]
    fn recordings_lie_in_the_span_that_was_asked_for() {
        let span = "<StartTime>2026-01-02T00:00:00</StartTime><EndTime>2026-01-02T00:15:00</EndTime>";
        let answers = inventory().answer(&query("RecordInfo", span)).unwrap().concat();
        assert_eq!(answers.matches("<Item>").count(), 2);
        assert!(
            answers.contains("<StartTime>2026-01-02T00:10:00</StartTime>\r\n<EndTime>2026-01-02T00:15:00</EndTime>"),
            "{answers}"
        );
    }

    #[test]
    fn each_query_has_its_answer() {
        for (command, expected) in [
            ("DeviceInfo", "<Channel>4</Channel>"),
            ("DeviceStatus", "<Online>ONLINE</Online>"),
            ("ConfigDownload", "<HeartBeatInterval>60</HeartBeatInterval>"),
            ("PresetQuery", "<PresetList Num=\"3\">"),
            ("Catalog", "<Status>OFF</Status>"),
        ] {
            let answer = inventory().answer(&query(command, "")).unwrap().concat();
            assert!(answer.contains(expected), "{answer}");
        }
        assert_eq!(inventory().answer(&query("CruiseTrackQuery", "")), None);
    }
}
