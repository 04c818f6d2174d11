//! The lines of a description → a [`Description`].

use std::net::IpAddr;

use super::{
    Description, Direction, Format, Kind, MEDIA_MAX, Media, PAYLOADS_MAX, Payload, SdpError, Setup, Sort, TEXT_BYTES_MAX,
};

/// Reads a body; bytes that are not UTF-8 become U+FFFD.
pub fn parse(body: &[u8]) -> Result<Description, SdpError> {
    if body.len() > TEXT_BYTES_MAX {
        return Err(SdpError::TooLong);
    }
    let text = String::from_utf8_lossy(body);
    let mut reading = Reading::default();
    for line in text.split(['\n', '\r']) {
        let line: String = line.chars().map(|c| if c == '\t' { ' ' } else { c }).filter(|c| !c.is_control()).collect();
        if let Some((name, value)) = line.split_once('=') {
            reading.line(name.trim(), value.trim())?;
        }
    }
    reading.finish()
}

#[derive(Default)]
struct Reading {
    description: Description,
    /// Of the session: what `c=` says, or else `o=`.
    address: Option<IpAddr>,
    origin: Option<IpAddr>,
    direction: Option<Direction>,
    setup: Option<Setup>,
}

impl Reading {
    fn line(&mut self, name: &str, value: &str) -> Result<(), SdpError> {
        match name {
            "o" => self.origin(value),
            "s" => self.description.kind = kind(value),
            "u" => self.description.uri = value.split_whitespace().next().unwrap_or_default().to_owned(),
            "c" => match self.description.media.last_mut() {
                Some(media) => media.address = address(value).or(media.address),
                None => self.address = address(value),
            },
            "t" => self.description.span = span(value),
            "m" => {
                if self.description.media.len() == MEDIA_MAX {
                    return Err(SdpError::TooManyMedia);
                }
                self.description.media.push(media(value));
            }
            "a" => self.attribute(value),
            "y" => self.description.ssrc = ssrc(value).or(self.description.ssrc),
            "f" => self.description.format = Format::parse(value),
            _ => {}
        }
        Ok(())
    }

    fn origin(&mut self, value: &str) {
        let mut words = value.split_whitespace();
        self.description.owner = words.next().unwrap_or_default().to_owned();
        self.origin = words.last().and_then(|address| address.parse().ok());
    }

    fn attribute(&mut self, value: &str) {
        let (name, value) = value.split_once(':').unwrap_or((value, ""));
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        let direction = match name.as_str() {
            "sendonly" => Some(Direction::SendOnly),
            "recvonly" => Some(Direction::ReceiveOnly),
            "sendrecv" => Some(Direction::Both),
            "inactive" => Some(Direction::Inactive),
            _ => None,
        };
        let setup = match (name.as_str(), value.to_ascii_lowercase().as_str()) {
            ("setup", "active") => Some(Setup::Active),
            ("setup", "passive") => Some(Setup::Passive),
            _ => None,
        };
        let Some(media) = self.description.media.last_mut() else {
            self.direction = direction.or(self.direction);
            self.setup = setup.or(self.setup);
            return;
        };
        media.direction = direction.or(media.direction);
        media.setup = setup.or(media.setup);
        match name.as_str() {
            "rtpmap" => rtpmap(media, value),
            "downloadspeed" => media.download_speed = value.parse().ok(),
            "filesize" => media.file_size = value.parse().ok(),
            "streamnumber" | "streamprofile" | "stream" | "streammode" => media.stream_number = stream_number(value),
            _ => {}
        }
    }

    fn finish(mut self) -> Result<Description, SdpError> {
        if self.description.media.is_empty() {
            return Err(SdpError::NoMedia);
        }
        for media in &mut self.description.media {
            media.address = media.address.or(self.address).or(self.origin);
            media.direction = media.direction.or(self.direction);
            media.setup = media.setup.or(self.setup);
        }
        Ok(self.description)
    }
}

fn kind(value: &str) -> Option<Kind> {
    Some(match value.to_ascii_lowercase().as_str() {
        "play" => Kind::Play,
        "playback" => Kind::Playback,
        "download" => Kind::Download,
        "talk" => Kind::Talk,
        _ => return None,
    })
}

/// `IN IP4 192.0.2.1`, with or without its first words.
fn address(value: &str) -> Option<IpAddr> {
    value.split_whitespace().last()?.split('/').next()?.parse().ok()
}

fn span(value: &str) -> (u64, u64) {
    let mut times = value.split_whitespace().map(|time| time.parse().unwrap_or(0));
    (times.next().unwrap_or(0), times.next().unwrap_or(0))
}

/// `video 30000 TCP/RTP/AVP 96 98`.
fn media(value: &str) -> Media {
    let mut words = value.split_whitespace();
    let sort = match words.next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "video" => Sort::Video,
        "audio" => Sort::Audio,
        _ => Sort::Other,
    };
    let port = words.next().and_then(|port| port.split('/').next()?.parse().ok()).unwrap_or(0);
    let tcp = words.next().is_some_and(|transport| transport.to_ascii_uppercase().contains("TCP"));
    let types = words.filter_map(|word| word.parse().ok()).filter(|payload_type: &u8| *payload_type < 128);
    let mut payloads: Vec<Payload> = Vec::new();
    for payload_type in types.take(PAYLOADS_MAX) {
        if !payloads.iter().any(|payload| payload.payload_type == payload_type) {
            payloads.push(Payload::known(payload_type));
        }
    }
    Media { sort, port, tcp, payloads, ..Media::default() }
}

/// `96 PS/90000`.
fn rtpmap(media: &mut Media, value: &str) {
    let Some((payload_type, encoding)) = value.split_once(char::is_whitespace) else { return };
    let Ok(payload_type) = payload_type.parse::<u8>() else { return };
    let Some(payload) = media.payloads.iter_mut().find(|payload| payload.payload_type == payload_type) else { return };
    let mut parts = encoding.trim().split('/').map(str::trim);
    payload.encoding = parts.next().unwrap_or_default().split_whitespace().collect();
    if let Some(clock_rate) = parts.next().and_then(|rate| rate.parse().ok()) {
        payload.clock_rate = clock_rate;
    }
}

/// Digits of any number up to ten: leading zeros get lost.
fn ssrc(value: &str) -> Option<u32> {
    let digits = value.split_whitespace().next()?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

fn stream_number(value: &str) -> Option<u8> {
    match value.to_ascii_lowercase().as_str() {
        "main" => Some(0),
        "sub" => Some(1),
        number => number.parse().ok(),
    }
}
