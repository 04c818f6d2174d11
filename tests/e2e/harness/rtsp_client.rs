//! An RTSP client of our own (RFC 2326), for what no player or encoder does or tells: odd requests, thousands of short sessions, which
//! datagrams are sent, and when the last byte of a frame came.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::SOON;
use super::api::Response;

/// The description of a stream of H.264 and G.711.
pub const SDP: &str = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:streamid=0\r\n\
    m=audio 0 RTP/AVP 8\r\na=control:streamid=1\r\n";

pub struct RtspClient {
    connection: BufReader<TcpStream>,
    address: SocketAddr,
    sequence: u32,
    session: Option<String>,
}

impl RtspClient {
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        RtspClient { connection: BufReader::new(socket), address, sequence: 0, session: None }
    }

    pub fn socket(&self) -> &TcpStream {
        self.connection.get_ref()
    }

    /// `path`: `app/name`, with what stands behind it. Interleaved frames in front of the answer are passed over.
    #[track_caller]
    pub fn request(&mut self, method: &str, path: &str, headers: &[&str], body: &str) -> Response {
        self.send(method, path, headers, body);
        let response = self.answer().unwrap_or_else(|error| panic!("{method} is not answered: {error}"));
        assert_eq!(response.header("CSeq"), Some(self.sequence.to_string().as_str()), "{method}: {}", response.head);
        if let Some(session) = response.header("Session") {
            self.session = session.split(';').next().map(str::to_owned);
        }
        response
    }

    /// As [`RtspClient::request`]; the answer must be 200.
    #[track_caller]
    pub fn demand(&mut self, method: &str, path: &str, headers: &[&str], body: &str) -> Response {
        let response = self.request(method, path, headers, body);
        assert_eq!(response.status, 200, "{method} {path}: {}", response.head);
        response
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
        self.send_bytes(format!("{text}\r\n{body}").as_bytes());
    }

    /// The server may have closed already; then there is no answer either.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.connection.get_mut().write_all(bytes);
    }

    fn answer(&mut self) -> io::Result<Response> {
        while self.connection.fill_buf()?.first() == Some(&b'$') {
            self.read_frame()?;
        }
        Response::read(&mut self.connection)
    }

    /// The next interleaved frame: its channel and its content (§10.12). An error at the end of the connection.
    pub fn read_frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut header = [0; 4];
        self.connection.read_exact(&mut header)?;
        let [dollar, channel, high, low] = header;
        assert_eq!(dollar, b'$', "an interleaved frame");
        let mut content = vec![0; usize::from(u16::from_be_bytes([high, low]))];
        self.connection.read_exact(&mut content)?;
        Ok((channel, content))
    }
}
