//! Offers of a platform → what is wanted and where to; answers of a device, and its offer for a broadcast (GB/T 28181 §9.2, Annex F, K).

use std::net::{IpAddr, SocketAddr};

use super::args::Quirks;
use super::media::{AudioCodec, Media, VideoCodec};

/// How media goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    /// This side connects.
    Connect,
    /// This side listens.
    Listen,
}

impl Transport {
    /// As the platform calls it.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Connect => "tcp-passive",
            Transport::Listen => "tcp-active",
        }
    }

    /// The lines behind `m=`.
    fn setup(self) -> &'static str {
        match self {
            Transport::Udp => "",
            Transport::Connect => "a=setup:active\r\na=connection:new\r\n",
            Transport::Listen => "a=setup:passive\r\na=connection:new\r\n",
        }
    }

    fn profile(self) -> &'static str {
        if self == Transport::Udp { "RTP/AVP" } else { "TCP/RTP/AVP" }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Play,
    Playback,
    Download,
    Talk,
}

impl Purpose {
    pub fn name(self) -> &'static str {
        match self {
            Purpose::Play => "Play",
            Purpose::Playback => "Playback",
            Purpose::Download => "Download",
            Purpose::Talk => "Talk",
        }
    }

    fn parse(name: &str) -> Option<Purpose> {
        let all = [Purpose::Play, Purpose::Playback, Purpose::Download, Purpose::Talk];
        all.into_iter().find(|purpose| purpose.name().eq_ignore_ascii_case(name.trim()))
    }

    /// Of a recording.
    pub fn is_recorded(self) -> bool {
        matches!(self, Purpose::Playback | Purpose::Download)
    }
}

/// The other side's description.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    pub purpose: Purpose,
    /// Where the other side receives, or listens.
    pub address: SocketAddr,
    /// What this side does.
    pub transport: Transport,
    /// `y=`, as it stands there.
    pub ssrc: Option<String>,
    /// `t=`: seconds since 1970.
    pub times: (u64, u64),
    pub speed: Option<f64>,
    pub payload_types: Vec<u8>,
}

impl Description {
    /// `None`: something that has to be there is not.
    pub fn parse(body: &[u8]) -> Option<Description> {
        let text = String::from_utf8_lossy(body);
        let line = |name: char| text.lines().filter_map(move |line| line.trim_end().strip_prefix(name)?.strip_prefix('='));
        let attribute = |name: &str| line('a').find_map(|value| value.strip_prefix(name)?.strip_prefix(':'));
        let mut media = line('m').next()?.split(' ').skip(1);
        let port: u16 = media.next()?.parse().ok()?;
        let is_tcp = media.next()?.starts_with("TCP");
        // The connection line of the media, else that of the session: the last one.
        let ip: IpAddr = line('c').next_back()?.split(' ').nth(2)?.trim().parse().ok()?;
        let transport = match (is_tcp, attribute("setup")) {
            (false, _) => Transport::Udp,
            (true, Some("active")) => Transport::Listen,
            (true, _) => Transport::Connect,
        };
        let mut times = line('t').next().unwrap_or("0 0").split(' ').map(|time| time.parse().unwrap_or(0));
        Some(Description {
            purpose: Purpose::parse(line('s').next().unwrap_or("Play"))?,
            address: SocketAddr::new(ip, port),
            transport,
            ssrc: line('y').next().map(|ssrc| ssrc.trim().to_owned()),
            times: (times.next().unwrap_or(0), times.next().unwrap_or(0)),
            speed: attribute("downloadspeed").and_then(|speed| speed.trim().parse().ok()),
            payload_types: media.filter_map(|payload_type| payload_type.parse().ok()).collect(),
        })
    }

    /// As the number in RTP packets.
    pub fn ssrc_number(&self) -> u32 {
        self.ssrc.as_ref().and_then(|ssrc| ssrc.parse().ok()).unwrap_or(0)
    }
}

/// What a device answers to an invitation to send. `local`: where it sends from, or listens.
pub fn answer(offer: &Description, channel: &str, local: SocketAddr, media: &Media, quirks: &Quirks) -> Vec<u8> {
    let (purpose, transport) = (offer.purpose, offer.transport);
    let (start, end) = offer.times;
    let (payload_type, encoding) = if quirks.raw_h264 { (98, "H264") } else { (96, "PS") };
    let mut text = format!(
        "v=0\r\no={channel} 0 0 IN IP4 {ip}\r\ns={}\r\nc=IN IP4 {ip}\r\nt={start} {end}\r\nm=video {} {} {payload_type}\r\n",
        purpose.name(),
        local.port(),
        transport.profile(),
        ip = local.ip(),
    );
    text += &format!("a=sendonly\r\na=rtpmap:{payload_type} {encoding}/90000\r\n{}", transport.setup());
    if purpose == Purpose::Download {
        text += &format!("a=filesize:{}\r\n", media.bytes());
    }
    if let Some(ssrc) = offer.ssrc.as_ref().filter(|_| !quirks.no_y) {
        let ssrc = if quirks.nine_digits { ssrc.trim_start_matches('0') } else { ssrc };
        text += &format!("y={ssrc}\r\n");
    }
    text += &format!("f={}\r\n", format_line(media));
    if quirks.lf_only { text.replace("\r\n", "\n").into_bytes() } else { text.into_bytes() }
}

/// `f=`: codecs by their numbers, with the rest left open.
fn format_line(media: &Media) -> String {
    let video = media.video.map_or("", |codec| match codec {
        VideoCodec::H264 => "2",
        VideoCodec::H265 => "5",
    });
    let audio = media.audio.map_or("//", |codec| match codec {
        AudioCodec::Alaw | AudioCodec::Ulaw => "1/8/1",
        AudioCodec::Aac => "6//",
    });
    format!("v/{video}////a/{audio}")
}

/// What a device asks for that has been called to a broadcast: sound, which it only receives.
pub fn broadcast_offer(device: &str, local: SocketAddr, transport: Transport) -> Vec<u8> {
    // Who listens says so; who connects names the port that means none.
    let port = if transport == Transport::Connect { 9 } else { local.port() };
    let text = format!(
        "v=0\r\no={device} 0 0 IN IP4 {ip}\r\ns=Play\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} {} 8 96\r\na=recvonly\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:96 PS/90000\r\n{}y=0200000999\r\nf=v/////a/1/8/1\r\n",
        transport.profile(),
        transport.setup(),
        ip = local.ip(),
    );
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\no=34020000002000000001 0 0 IN IP4 198.51.100.1\r\ns=Play\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n\
        m=video 30000 TCP/RTP/AVP 96 98 99 100\r\na=recvonly\r\na=rtpmap:96 PS/90000\r\na=setup:passive\r\na=connection:new\r\ny=0200000001\r\n";

    fn media() -> Media {
        Media { video: Some(VideoCodec::H265), audio: Some(AudioCodec::Alaw), units: Vec::new(), duration: 1 }
    }

    #[test]
    fn offers_say_what_is_wanted() {
        let offer = Description::parse(OFFER.as_bytes()).unwrap();
        assert_eq!(offer.address, "198.51.100.1:30000".parse().unwrap());
        assert_eq!((offer.purpose, offer.transport, offer.ssrc_number()), (Purpose::Play, Transport::Connect, 200_000_001));
        assert_eq!((&offer.payload_types[..], offer.times), (&[96, 98, 99, 100][..], (0, 0)));
        for (from, to, transport) in
            [("TCP/RTP/AVP", "RTP/AVP", Transport::Udp), ("setup:passive", "setup:active", Transport::Listen)]
        {
            assert_eq!(Description::parse(OFFER.replace(from, to).as_bytes()).unwrap().transport, transport);
        }
        let download = OFFER.replace("s=Play", "s=Download\na=downloadspeed:4").replace("t=0 0", "t=100 200");
        let download = Description::parse(download.as_bytes()).unwrap();
        assert_eq!((download.purpose, download.speed, download.times), (Purpose::Download, Some(4.0), (100, 200)));
        for broken in
            ["", "s=Play", &OFFER.replace("s=Play", "s=Sing"), &OFFER.replace("c=", "x="), &OFFER.replace("30000", "port")]
        {
            assert_eq!(Description::parse(broken.as_bytes()), None);
        }
    }

    #[test]
    fn answers_mirror_the_offer() {
        let offer = Description::parse(OFFER.as_bytes()).unwrap();
        let local = "192.0.2.10:15060".parse().unwrap();
        let write = |quirks: &Quirks| String::from_utf8(answer(&offer, "34020000001310000001", local, &media(), quirks)).unwrap();
        let plain = write(&Quirks::default());
        assert_eq!(
            plain,
            "v=0\r\no=34020000001310000001 0 0 IN IP4 192.0.2.10\r\ns=Play\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\nm=video 15060 TCP/RTP/AVP 96\r\n\
             a=sendonly\r\na=rtpmap:96 PS/90000\r\na=setup:active\r\na=connection:new\r\ny=0200000001\r\nf=v/5////a/1/8/1\r\n"
        );
        assert!(write(&Quirks { nine_digits: true, ..Quirks::default() }).contains("y=200000001\r\n"));
        assert!(!write(&Quirks { no_y: true, ..Quirks::default() }).contains("y="));
        assert!(!write(&Quirks { lf_only: true, ..Quirks::default() }).contains('\r'));
        assert!(write(&Quirks { raw_h264: true, ..Quirks::default() }).contains("98 H264/90000"));
    }

    #[test]
    fn a_broadcast_is_asked_for_by_whoever_receives() {
        for (transport, expected) in
            [(Transport::Udp, "m=audio 4000 RTP/AVP 8 96\r\n"), (Transport::Connect, "m=audio 9 TCP/RTP/AVP 8 96\r\n")]
        {
            let offer = broadcast_offer("34020000001370000001", "192.0.2.10:4000".parse().unwrap(), transport);
            assert!(String::from_utf8(offer).unwrap().contains(expected));
        }
    }
}
