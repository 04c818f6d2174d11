//! A [`Description`] → its lines, in the standard's order.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;

use super::{Description, Direction, Kind, Media, Setup, Sort};

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Play => "Play",
            Kind::Playback => "Playback",
            Kind::Download => "Download",
            Kind::Talk => "Talk",
        }
    }
}

/// The text of a body.
impl Display for Description {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let address = self.media.iter().find_map(|media| media.address).unwrap_or([0, 0, 0, 0].into());
        let owner = if self.owner.is_empty() { "-" } else { &self.owner };
        let (version, address_text) = (version(address), address.to_string());
        write!(f, "v=0\r\no={} 0 0 IN {version} {address_text}\r\n", one_word(owner))?;
        write!(f, "s={}\r\n", self.kind.map_or("-", Kind::name))?;
        if !self.uri.is_empty() {
            write!(f, "u={}\r\n", one_word(&self.uri))?;
        }
        write!(f, "c=IN {version} {address_text}\r\nt={} {}\r\n", self.span.0, self.span.1)?;
        for media in &self.media {
            media.write(f, address)?;
        }
        if let Some(ssrc) = self.ssrc {
            write!(f, "y={ssrc:010}\r\n")?;
        }
        match &self.format {
            Some(format) => write!(f, "f={format}\r\n"),
            None => Ok(()),
        }
    }
}

impl Media {
    fn write(&self, f: &mut Formatter<'_>, session: IpAddr) -> fmt::Result {
        let sort = match self.sort {
            Sort::Video => "video",
            Sort::Audio => "audio",
            Sort::Other => "application",
        };
        write!(f, "m={sort} {} {}", self.port, if self.tcp { "TCP/RTP/AVP" } else { "RTP/AVP" })?;
        for payload in &self.payloads {
            write!(f, " {}", payload.payload_type)?;
        }
        f.write_str("\r\n")?;
        if let Some(address) = self.address.filter(|address| *address != session) {
            write!(f, "c=IN {} {address}\r\n", version(address))?;
        }
        if let Some(direction) = self.direction {
            write!(f, "a={}\r\n", direction.name())?;
        }
        for payload in self.payloads.iter().filter(|payload| !payload.encoding.is_empty()) {
            let encoding = one_word(&payload.encoding);
            write!(f, "a=rtpmap:{} {encoding}/{}\r\n", payload.payload_type, payload.clock_rate)?;
        }
        if let Some(setup) = self.setup {
            let setup = if setup == Setup::Active { "active" } else { "passive" };
            write!(f, "a=setup:{setup}\r\na=connection:new\r\n")?;
        }
        let numbers = [
            ("downloadspeed", self.download_speed.map(u64::from)),
            ("filesize", self.file_size),
            ("streamnumber", self.stream_number.map(u64::from)),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                write!(f, "a={name}:{number}\r\n")?;
            }
        }
        Ok(())
    }
}

impl Direction {
    const fn name(self) -> &'static str {
        match self {
            Direction::SendOnly => "sendonly",
            Direction::ReceiveOnly => "recvonly",
            Direction::Both => "sendrecv",
            Direction::Inactive => "inactive",
        }
    }
}

const fn version(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IP4",
        IpAddr::V6(_) => "IP6",
    }
}

/// Nothing that would end the line or the word.
fn one_word(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect()
}
