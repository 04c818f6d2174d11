//! An RTSP client of our own, for what no player does: odd requests, broken ones, thousands of short sessions.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::SOON;

/// What a request was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

pub struct RtspClient {
    pub socket: TcpStream,
    address: SocketAddr,
    received: Vec<u8>,
    sequence: u32,
    session: Option<String>,
}

impl RtspClient {
    pub fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        RtspClient { socket, address, received: Vec::new(), sequence: 0, session: None }
    }

    /// `path`: `app/name`, with what stands behind it.
    #[track_caller]
    pub fn request(&mut self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        self.send(method, path, headers, body);
        let answer = self.answer();
        if let Some(session) = answer.header("Session") {
            self.session = Some(session.split(';').next().unwrap().to_owned());
        }
        answer
    }

    pub fn send(&mut self, method: &str, path: &str, headers: &[&str], body: &str) {
        self.sequence += 1;
        let mut text = format!("{method} rtsp://{}/{path} RTSP/1.0\r\nCSeq: {}\r\n", self.address, self.sequence);
        if let Some(session) = &self.session {
            text.push_str(&format!("Session: {session}\r\n"));
        }
        headers.iter().for_each(|header| text.push_str(&format!("{header}\r\n")));
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        // The server may have closed already; then there is no answer either.
        let _ = self.socket.write_all(format!("{text}\r\n{body}").as_bytes());
    }

    /// The next response; interleaved frames before it are passed over.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        loop {
            if self.received.first() == Some(&b'$') {
                if let Some([_, _, high, low]) = self.received.first_chunk() {
                    let end = 4 + usize::from(u16::from_be_bytes([*high, *low]));
                    if self.received.len() >= end {
                        self.received.drain(..end);
                        continue;
                    }
                }
            } else if let Some(answer) = self.take_answer() {
                return answer;
            }
            let mut buffer = [0; 65_536];
            let count = self.socket.read(&mut buffer).unwrap();
            assert!(count > 0, "closed without an answer: {}", String::from_utf8_lossy(&self.received));
            self.received.extend_from_slice(&buffer[..count]);
        }
    }

    fn take_answer(&mut self) -> Option<Answer> {
        let end = self.received.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8(self.received[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: String::new() };
        let body_bytes: usize = answer.header("Content-Length").map_or(0, |length| length.parse().unwrap());
        let body = self.received.get(end + 4..end + 4 + body_bytes)?;
        answer.body = String::from_utf8(body.to_vec()).unwrap();
        self.received.drain(..end + 4 + body_bytes);
        Some(answer)
    }

    /// Waits until the server closes.
    #[track_caller]
    pub fn wait_closed(&mut self, what: &str) {
        let mut buffer = [0; 4096];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
                Err(error) => panic!("{what} is not closed: {error}"),
            }
        }
    }
}

/// The description of a stream of H.264 and G.711.
pub const SDP: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:streamid=0\r\n\
    m=audio 0 RTP/AVP 8\r\na=control:streamid=1\r\n";
