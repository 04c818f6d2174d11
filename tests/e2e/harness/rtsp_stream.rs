//! One stream over RTSP (RFC 2326), as publisher or viewer: requests and answers one after the other, and the interleaved frames behind them. For what no
//! player or encoder lets a test decide: which datagrams are sent, and when the last byte of a frame came.

use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;

use super::api::Response;
use super::{SOON, Server};

pub struct RtspStream {
    connection: BufReader<TcpStream>,
    url: String,
    cseq: u32,
    session: Option<String>,
}

impl RtspStream {
    #[track_caller]
    pub fn connect(server: &Server, key: &str) -> Self {
        let socket = TcpStream::connect(server.rtsp).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        RtspStream { connection: BufReader::new(socket), url: server.rtsp_url(key), cseq: 0, session: None }
    }

    pub fn socket(&self) -> &TcpStream {
        self.connection.get_ref()
    }

    /// Asks for the stream or, with `control`, for a part of it; the answer must be 200.
    #[track_caller]
    pub fn request(&mut self, method: &str, control: &str, headers: &[&str], body: &str) -> Response {
        self.cseq += 1;
        let separator = if control.is_empty() { "" } else { "/" };
        let mut request = format!("{method} {}{separator}{control} RTSP/1.0\r\nCSeq: {}\r\n", self.url, self.cseq);
        let session = self.session.iter().map(|session| format!("Session: {session}"));
        for header in headers.iter().map(|header| (*header).to_owned()).chain(session) {
            request.push_str(&format!("{header}\r\n"));
        }
        if !body.is_empty() {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        self.connection.get_mut().write_all(format!("{request}\r\n{body}").as_bytes()).unwrap();
        let response = self.read_response().unwrap_or_else(|error| panic!("{method}: {error}"));
        assert_eq!(response.status, 200, "{method}: {}", response.head);
        assert_eq!(response.header("CSeq"), Some(self.cseq.to_string().as_str()), "{method}");
        if let Some(session) = response.header("Session") {
            self.session = session.split(';').next().map(str::to_owned);
        }
        response
    }

    fn read_response(&mut self) -> io::Result<Response> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.connection.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let mut response = Response { status, head, body: Vec::new() };
        let length = response.header("Content-Length").map_or(0, |length| length.parse().unwrap());
        response.body.resize(length, 0);
        self.connection.read_exact(&mut response.body)?;
        Ok(response)
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
