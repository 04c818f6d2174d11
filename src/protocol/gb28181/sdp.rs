//! Session descriptions as GB/T 28181-2016 has them (§9, Annex F, K, L) ⇄ values: SDP (RFC 8866) with `y=` (SSRC) and `f=` (format).
//!
//! Read leniently: either line end, blanks around lines, an address at one level only, `y=` with its leading zeros lost, unknown lines.
//! [`Offer`] and [`Description::answer`] make what is sent. Limits: [`TEXT_BYTES_MAX`], [`MEDIA_MAX`], [`PAYLOADS_MAX`]. Not here: what of an
//! offer is taken (`platform`), and descriptions of other protocols (`protocol/common/sdp`).

mod format;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::net::IpAddr;

use crate::config::MediaTransport;

pub use format::{AudioFormat, Format, VideoFormat};
pub use read::parse;

/// A longer text is not read.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;
/// The most `m=` sections.
pub const MEDIA_MAX: usize = 8;
/// Payload types of a section after so many are passed over.
pub const PAYLOADS_MAX: usize = 32;

pub const PS_PAYLOAD_TYPE: u8 = 96;
pub const PCMA_PAYLOAD_TYPE: u8 = 8;
const VIDEO_CLOCK_RATE: u32 = 90_000;
/// Where nothing listens: the port of who will connect.
const DISCARD_PORT: u16 = 9;

/// What the media of a call is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Live.
    #[default]
    Play,
    /// Recorded, at its own speed or another.
    Playback,
    /// Recorded, as a file.
    Download,
    /// Sound both ways.
    Talk,
}

/// A session. Times are seconds since 1970; both 0: live.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Description {
    /// The id of who wrote it.
    pub owner: String,
    /// `None`: of a name that is none of the four.
    pub kind: Option<Kind>,
    /// For recordings: what, and of which type (`id:0`).
    pub uri: String,
    pub span: (u64, u64),
    pub media: Vec<Media>,
    pub ssrc: Option<u32>,
    pub format: Option<Format>,
}

/// One `m=` section.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Media {
    pub sort: Sort,
    /// Of the section, else of the session.
    pub address: Option<IpAddr>,
    pub port: u16,
    pub tcp: bool,
    pub payloads: Vec<Payload>,
    pub direction: Option<Direction>,
    pub setup: Option<Setup>,
    /// A multiple of the natural speed.
    pub download_speed: Option<u8>,
    /// Bytes.
    pub file_size: Option<u64>,
    /// 0: main, 1: sub.
    pub stream_number: Option<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Alone or with sound.
    #[default]
    Video,
    Audio,
    Other,
}

/// A payload type with its encoding; the name is empty where nothing says it.
#[derive(Clone, Debug, PartialEq)]
pub struct Payload {
    pub payload_type: u8,
    pub encoding: String,
    pub clock_rate: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    SendOnly,
    ReceiveOnly,
    Both,
    Inactive,
}

/// Who connects (RFC 4145).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    Active,
    Passive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    #[error("a session description may have {TEXT_BYTES_MAX} bytes at most")]
    TooLong,
    #[error("the session description has no media section")]
    NoMedia,
    #[error("the session description has more than {MEDIA_MAX} media sections")]
    TooManyMedia,
}

/// What a platform asks of a channel.
#[derive(Clone, Debug)]
pub struct Offer<'a> {
    /// The id of the platform.
    pub owner: &'a str,
    pub channel: &'a str,
    pub kind: Kind,
    pub transport: MediaTransport,
    /// Where media is received; of no use if the platform connects.
    pub address: IpAddr,
    pub port: u16,
    pub ssrc: u32,
    /// Of recordings: seconds since 1970.
    pub span: (u64, u64),
    /// Of downloads.
    pub download_speed: Option<u8>,
    /// `None`: whatever the device takes for the main one.
    pub stream_number: Option<u8>,
}

/// What an answer says of its writer.
#[derive(Clone, Debug)]
pub struct Answer<'a> {
    pub owner: &'a str,
    pub address: IpAddr,
    pub port: u16,
    /// Of the offer's; else [`PS_PAYLOAD_TYPE`].
    pub payload_type: u8,
    /// `None`: the offer's.
    pub ssrc: Option<u32>,
    pub file_size: Option<u64>,
}

impl Payload {
    fn new(payload_type: u8, encoding: &str, clock_rate: u32) -> Self {
        Payload { payload_type, encoding: encoding.to_owned(), clock_rate }
    }

    /// As it is without an `rtpmap`: types that are fixed, or that everyone means the same with.
    pub fn known(payload_type: u8) -> Self {
        match payload_type {
            0 => Payload::new(0, "PCMU", 8_000),
            4 => Payload::new(4, "G723", 8_000),
            8 => Payload::new(8, "PCMA", 8_000),
            9 => Payload::new(9, "G722", 8_000),
            18 => Payload::new(18, "G729", 8_000),
            20 => Payload::new(20, "SVACA", 8_000),
            96 => Payload::new(96, "PS", VIDEO_CLOCK_RATE),
            97 => Payload::new(97, "MPEG4", VIDEO_CLOCK_RATE),
            98 => Payload::new(98, "H264", VIDEO_CLOCK_RATE),
            _ => Payload::new(payload_type, "", VIDEO_CLOCK_RATE),
        }
    }
}

impl Media {
    pub fn payload(&self, payload_type: u8) -> Option<&Payload> {
        self.payloads.iter().find(|payload| payload.payload_type == payload_type)
    }
}

impl Offer<'_> {
    pub fn describe(&self) -> Description {
        let is_talk = self.kind == Kind::Talk;
        let is_recorded = matches!(self.kind, Kind::Playback | Kind::Download);
        let (tcp, setup, port) = match self.transport {
            MediaTransport::Udp => (false, None, self.port),
            MediaTransport::TcpPassive => (true, Some(Setup::Passive), self.port),
            MediaTransport::TcpActive => (true, Some(Setup::Active), DISCARD_PORT),
        };
        let payloads = match is_talk {
            true => vec![Payload::known(PCMA_PAYLOAD_TYPE)],
            false => vec![
                Payload::known(PS_PAYLOAD_TYPE),
                Payload::known(98),
                Payload::new(99, "H265", VIDEO_CLOCK_RATE),
                Payload::new(100, "H265", VIDEO_CLOCK_RATE),
            ],
        };
        let media = Media {
            sort: if is_talk { Sort::Audio } else { Sort::Video },
            address: Some(self.address),
            port,
            tcp,
            payloads,
            direction: Some(if is_talk { Direction::Both } else { Direction::ReceiveOnly }),
            setup,
            download_speed: self.download_speed,
            file_size: None,
            stream_number: self.stream_number,
        };
        Description {
            owner: self.owner.to_owned(),
            kind: Some(self.kind),
            uri: if is_recorded { format!("{}:0", self.channel) } else { String::new() },
            span: if is_recorded { self.span } else { (0, 0) },
            media: vec![media],
            ssrc: Some(self.ssrc),
            format: is_talk.then(Format::g711a),
        }
    }
}

impl Description {
    /// What will be sent to who offered this: its first section, the other way round. An offer without a direction wants to receive.
    pub fn answer(&self, answer: &Answer<'_>) -> Description {
        let offered = self.media.first().cloned().unwrap_or_default();
        let payload = offered.payload(answer.payload_type).cloned();
        let setup = match offered.setup {
            Some(Setup::Active) => Some(Setup::Passive),
            Some(Setup::Passive) | None => Some(Setup::Active),
        };
        let media = Media {
            address: Some(answer.address),
            port: answer.port,
            payloads: vec![payload.unwrap_or_else(|| Payload::known(answer.payload_type))],
            direction: Some(match offered.direction {
                Some(Direction::Both) => Direction::Both,
                Some(Direction::SendOnly) => Direction::ReceiveOnly,
                Some(Direction::Inactive) => Direction::Inactive,
                Some(Direction::ReceiveOnly) | None => Direction::SendOnly,
            }),
            setup: setup.filter(|_| offered.tcp),
            file_size: answer.file_size,
            ..offered
        };
        Description { owner: answer.owner.to_owned(), ssrc: answer.ssrc.or(self.ssrc), media: vec![media], ..self.clone() }
    }
}
