//! One RTSP session of a client: responses in, requests out, until media flows. Spec: RFC 2326 §10, §12.37, §12.39.
//!
//! A player sends OPTIONS, DESCRIBE, a SETUP per track, PLAY; a publisher OPTIONS, ANNOUNCE, a SETUP per track, RECORD. Each waits for
//! the answer to the one before. Later a request goes out now and then to keep the session alive. Not here: sockets, media, time.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::message::{Response, write_request};
use super::sdp::{self, Media};

/// Unless the server says otherwise (RFC 2326 §12.37).
const TIMEOUT_SECONDS: u64 = 60;

/// An RTP and an RTCP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortPair {
    pub rtp: u16,
    pub rtcp: u16,
}

/// How media travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carriage {
    /// On the connection.
    Interleaved,
    /// As datagrams, to and from these ports of ours, one pair per track.
    Datagrams([PortPair; 2]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Play,
    Publish,
}

/// What has been asked and is not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Options,
    /// DESCRIBE or ANNOUNCE.
    Description,
    /// SETUP of the track with this index.
    Setup(usize),
    /// PLAY or RECORD.
    Start,
    /// Nothing: media flows.
    Running,
}

/// Where a track's packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Channels of the connection.
    Channels { rtp: u8, rtcp: u8 },
    /// Addresses of the server.
    Addresses { rtp: SocketAddr, rtcp: SocketAddr },
}

pub struct RtspClient {
    purpose: Purpose,
    carriage: Carriage,
    /// Of the stream.
    url: String,
    /// What is announced.
    description: String,
    server: IpAddr,
    step: Step,
    sequence: u32,
    session: Option<String>,
    timeout_seconds: u64,
    /// The server knows GET_PARAMETER.
    knows_get_parameter: bool,
    tracks: Vec<Media>,
    paths: Vec<Path>,
}

impl RtspClient {
    /// `server`: whom the connection is with.
    pub fn play(url: String, server: IpAddr, carriage: Carriage, out: &mut Vec<u8>) -> RtspClient {
        RtspClient::start(Purpose::Play, url, String::new(), server, carriage, out)
    }

    pub fn publish(url: String, description: String, server: IpAddr, carriage: Carriage, out: &mut Vec<u8>) -> RtspClient {
        RtspClient::start(Purpose::Publish, url, description, server, carriage, out)
    }

    fn start(
        purpose: Purpose,
        url: String,
        description: String,
        server: IpAddr,
        carriage: Carriage,
        out: &mut Vec<u8>,
    ) -> RtspClient {
        let mut client = RtspClient {
            purpose,
            carriage,
            url,
            description,
            server,
            step: Step::Options,
            sequence: 0,
            session: None,
            timeout_seconds: TIMEOUT_SECONDS,
            knows_get_parameter: false,
            tracks: Vec::new(),
            paths: Vec::new(),
        };
        client.request("OPTIONS", None, &[], "", out);
        client
    }

    /// The last request before media has been sent: all tracks are set up.
    pub fn has_asked(&self) -> bool {
        matches!(self.step, Step::Start | Step::Running)
    }

    pub fn is_running(&self) -> bool {
        self.step == Step::Running
    }

    /// The tracks that are set up, and where they go.
    pub fn tracks(&self) -> impl Iterator<Item = (&Media, &Path)> {
        self.tracks.iter().zip(&self.paths)
    }

    /// How long the session lives without a word, in seconds.
    pub fn timeout_seconds(&self) -> u64 {
        self.timeout_seconds
    }

    /// `url`: `None` is that of the stream.
    fn request(&mut self, method: &str, url: Option<&str>, headers: &[(&str, &str)], body: &str, out: &mut Vec<u8>) {
        self.sequence += 1;
        let session = self.session.as_deref().map(|session| ("Session", session));
        let headers: Vec<(&str, &str)> = session.into_iter().chain(headers.iter().copied()).collect();
        write_request(method, url.unwrap_or(&self.url), self.sequence, &headers, body, out);
    }

    /// Keeps the session alive.
    pub fn keep_alive(&mut self, out: &mut Vec<u8>) {
        let method = if self.knows_get_parameter { "GET_PARAMETER" } else { "OPTIONS" };
        self.request(method, None, &[], "", out);
    }

    /// Takes an answer, asks the next question.
    pub fn handle(&mut self, response: &Response, out: &mut Vec<u8>) -> io::Result<()> {
        if response.status != 200 {
            let text = format!("the server says {} {}", response.status, response.reason);
            // Alive is who gets an answer, except that the session is gone.
            return if self.step == Step::Running && response.status != 454 { Ok(()) } else { Err(io::Error::other(text)) };
        }
        if response.header("CSeq").and_then(|sequence| sequence.parse().ok()) != Some(self.sequence) {
            return Ok(());
        }
        if let Some(session) = response.header("Session") {
            self.take_session(session);
        }
        match self.step {
            Step::Options => {
                self.knows_get_parameter = response.header("Public").is_some_and(|methods| methods.contains("GET_PARAMETER"));
                self.describe(out);
            }
            Step::Description => {
                self.take_description(response)?;
                self.set_up(0, out);
            }
            Step::Setup(track) => {
                self.paths.push(self.path(response.header("Transport").unwrap_or_default(), track)?);
                self.set_up(track + 1, out);
            }
            Step::Start => self.step = Step::Running,
            Step::Running => {}
        }
        Ok(())
    }

    fn take_session(&mut self, header: &str) {
        let mut parts = header.split(';').map(str::trim);
        self.session = parts.next().map(str::to_owned);
        // A server may say it once only.
        let timeout = parts.find_map(|part| part.strip_prefix("timeout=")?.trim().parse().ok());
        self.timeout_seconds = timeout.unwrap_or(self.timeout_seconds).max(1);
    }

    fn describe(&mut self, out: &mut Vec<u8>) {
        self.step = Step::Description;
        match self.purpose {
            Purpose::Play => self.request("DESCRIBE", None, &[("Accept", "application/sdp")], "", out),
            Purpose::Publish => {
                let description = std::mem::take(&mut self.description);
                self.request("ANNOUNCE", None, &[("Content-Type", "application/sdp")], &description, out);
                self.description = description;
            }
        }
    }

    fn take_description(&mut self, response: &Response) -> io::Result<()> {
        let (text, base) = match self.purpose {
            Purpose::Play => {
                let base = response.header("Content-Base").or(response.header("Content-Location"));
                (&response.body, base.unwrap_or(&self.url))
            }
            Purpose::Publish => (&self.description, self.url.as_str()),
        };
        self.tracks = sdp::parse(text, base)?;
        Ok(())
    }

    /// Asks for a track, or for media when all are set up.
    fn set_up(&mut self, track: usize, out: &mut Vec<u8>) {
        let Some(media) = self.tracks.get(track) else {
            self.step = Step::Start;
            let method = if self.purpose == Purpose::Play { "PLAY" } else { "RECORD" };
            return self.request(method, None, &[("Range", "npt=0.000-")], "", out);
        };
        let mode = if self.purpose == Purpose::Play { "" } else { ";mode=record" };
        let transport = match self.carriage {
            Carriage::Interleaved => format!("RTP/AVP/TCP;unicast;interleaved={}-{}{mode}", 2 * track, 2 * track + 1),
            Carriage::Datagrams(pairs) => {
                let PortPair { rtp, rtcp } = pairs[track];
                format!("RTP/AVP;unicast;client_port={rtp}-{rtcp}{mode}")
            }
        };
        let url = media.url.clone();
        self.step = Step::Setup(track);
        self.request("SETUP", Some(&url), &[("Transport", &transport)], "", out);
    }

    /// What the server's `Transport` header says of a track.
    fn path(&self, header: &str, track: usize) -> io::Result<Path> {
        let value = |name: &str| header.split(';').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
        let range = |name: &str| {
            let (first, second) = value(name)?.split_once('-')?;
            Some((first.trim().parse::<u16>().ok()?, second.trim().parse::<u16>().ok()?))
        };
        let path = match self.carriage {
            Carriage::Interleaved => {
                // Who says nothing takes our numbers.
                let (rtp, rtcp) = range("interleaved").unwrap_or((2 * track as u16, 2 * track as u16 + 1));
                Some(Path::Channels { rtp: rtp as u8, rtcp: rtcp as u8 })
            }
            Carriage::Datagrams(_) => range("server_port").map(|(rtp, rtcp)| {
                let source = value("source").and_then(|source| source.parse().ok()).unwrap_or(self.server);
                Path::Addresses { rtp: (source, rtp).into(), rtcp: (source, rtcp).into() }
            }),
        };
        path.ok_or_else(|| io::Error::other(format!("the server's Transport has no ports: {header}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:trackID=0\r\n\
        m=audio 0 RTP/AVP 97\r\na=control:trackID=1\r\n";
    const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const PORTS: [PortPair; 2] = [PortPair { rtp: 5000, rtcp: 5001 }, PortPair { rtp: 5002, rtcp: 5003 }];

    /// Answers each request with what stands beside it; what the requests must begin with, and one header that they must have.
    fn talk(client: &mut RtspClient, out: &mut Vec<u8>, script: &[(&str, &str, &str, &str)]) {
        for (at, (line, header, answer, body)) in script.iter().enumerate() {
            let request = String::from_utf8(std::mem::take(out)).unwrap();
            assert!(request.starts_with(&format!("{line} RTSP/1.0\r\nCSeq: {}\r\n", at + 1)), "{line}: {request}");
            assert!(request.contains(header), "{header}: {request}");
            let mut response = Response::parse(&format!("RTSP/1.0 200 OK\r\nCSeq: {}\r\n{answer}\r\n\r\n", at + 1)).unwrap();
            response.body = (*body).to_owned();
            client.handle(&response, out).unwrap();
        }
    }

    #[test]
    fn a_player_asks_for_all_tracks() {
        let mut out = Vec::new();
        let mut client = RtspClient::play("rtsp://h/a/b".to_owned(), SERVER, Carriage::Interleaved, &mut out);
        let script = [
            ("OPTIONS rtsp://h/a/b", "User-Agent", "Public: OPTIONS, GET_PARAMETER", ""),
            ("DESCRIBE rtsp://h/a/b", "Accept: application/sdp\r\n", "Content-Base: rtsp://h/a/b/", SDP),
            ("SETUP rtsp://h/a/b/trackID=0", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n", "Session: X;timeout=20", ""),
            (
                "SETUP rtsp://h/a/b/trackID=1",
                "Session: X\r\nTransport: RTP/AVP/TCP;unicast;interleaved=2-3\r\n",
                "Transport: RTP/AVP/TCP;unicast;interleaved=8-9",
                "",
            ),
        ];
        talk(&mut client, &mut out, &script);
        assert!(client.has_asked() && !client.is_running());
        let paths: Vec<Path> = client.tracks().map(|(_, path)| *path).collect();
        assert_eq!(paths, [Path::Channels { rtp: 0, rtcp: 1 }, Path::Channels { rtp: 8, rtcp: 9 }]);
        assert!(
            String::from_utf8(std::mem::take(&mut out)).unwrap().starts_with("PLAY rtsp://h/a/b RTSP/1.0\r\nCSeq: 5\r\nUser")
        );
        client.handle(&Response::parse("RTSP/1.0 200 OK\r\nCSeq: 5\r\n").unwrap(), &mut out).unwrap();
        assert!(client.is_running() && out.is_empty() && client.timeout_seconds() == 20);
        client.keep_alive(&mut out);
        let request = String::from_utf8(out).unwrap();
        assert!(request.starts_with("GET_PARAMETER ") && request.contains("Session: X\r\n"), "{request}");
    }

    #[test]
    fn a_publisher_announces_and_names_its_ports() {
        let mut out = Vec::new();
        let carriage = Carriage::Datagrams(PORTS);
        let mut client = RtspClient::publish("rtsp://h/a/b".to_owned(), SDP.to_owned(), SERVER, carriage, &mut out);
        let script = [
            ("OPTIONS rtsp://h/a/b", "CSeq: 1\r\n", "Public: ANNOUNCE", ""),
            ("ANNOUNCE rtsp://h/a/b", &format!("Content-Length: {}\r\n\r\n{SDP}", SDP.len()), "", ""),
            (
                "SETUP rtsp://h/a/b/trackID=0",
                "Transport: RTP/AVP;unicast;client_port=5000-5001;mode=record\r\n",
                "Session: Y\r\nTransport: RTP/AVP;unicast;client_port=5000-5001; server_port=6000-6001",
                "",
            ),
            (
                "SETUP rtsp://h/a/b/trackID=1",
                "client_port=5002-5003;mode=record\r\n",
                "Transport: RTP/AVP;unicast;server_port=6002-6003;source=10.0.0.2",
                "",
            ),
            ("RECORD rtsp://h/a/b", "Session: Y\r\n", "", ""),
        ];
        talk(&mut client, &mut out, &script);
        assert!(client.is_running());
        let addresses = |host: u8, rtp: u16| {
            let at = |port| SocketAddr::from(([10, 0, 0, host], port));
            Path::Addresses { rtp: at(rtp), rtcp: at(rtp + 1) }
        };
        assert_eq!(client.tracks().map(|(_, path)| *path).collect::<Vec<_>>(), [addresses(1, 6000), addresses(2, 6002)]);
        client.keep_alive(&mut out);
        assert!(out.starts_with(b"OPTIONS "));
    }

    #[test]
    fn refusals_and_answers_without_ports_are_errors() {
        let cases = [
            ("not found", 2, "RTSP/1.0 404 Not Found\r\nCSeq: 2\r\n", "the server says 404 Not Found"),
            (
                "no ports",
                3,
                "RTSP/1.0 200 OK\r\nCSeq: 3\r\nTransport: RTP/AVP\r\n",
                "the server's Transport has no ports: RTP/AVP",
            ),
        ];
        for (name, requests, answer, expected) in cases {
            let mut out = Vec::new();
            let mut client = RtspClient::play("rtsp://h/a/b".to_owned(), SERVER, Carriage::Datagrams(PORTS), &mut out);
            let script = [("OPTIONS rtsp://h/a/b", "", "", ""), ("DESCRIBE rtsp://h/a/b", "", "", SDP)];
            talk(&mut client, &mut out, &script[..requests - 1]);
            let error = client.handle(&Response::parse(answer).unwrap(), &mut out).unwrap_err();
            assert_eq!(error.to_string(), expected, "{name}");
        }
    }
}
