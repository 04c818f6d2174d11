//! HTTP requests by hand, and what the control plane says of streams and sessions.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::chunked::Chunked;
use super::{SOON, Server, wait_for};

#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    /// A response of HTTP or RTSP whose body, if it has one, says its length.
    pub fn read(stream: &mut impl Read) -> io::Result<Response> {
        let mut response = Response::of(read_head(stream)?);
        let length = response.header("Content-Length").map_or(0, |length| length.parse().unwrap());
        response.body.resize(length, 0);
        stream.read_exact(&mut response.body)?;
        Ok(response)
    }

    /// Still without a body.
    fn of(head: String) -> Response {
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("the answer has a status");
        Response { status, head, body: Vec::new() }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// One request; reads until the server closes.
#[track_caller]
pub fn request(address: SocketAddr, method: &str, path: &str, headers: &[&str]) -> Response {
    request_with(address, method, path, headers, "")
}

/// As [`request`], with a body.
#[track_caller]
pub fn request_with(address: SocketAddr, method: &str, path: &str, headers: &[&str], body: &str) -> Response {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    if !body.is_empty() {
        headers += &format!("Content-Length: {}\r\n", body.len());
    }
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n{body}").unwrap();
    let mut stream = BufReader::new(stream);
    let mut response = Response::of(read_head(&mut stream).expect("the answer has a head"));
    stream.read_to_end(&mut response.body).unwrap();
    if response.head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        response.body = Chunked::default().push(&response.body);
    }
    response
}

/// The head of an answer, with the empty line behind it.
pub fn read_head(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Waits until the server closes, in order or by a reset.
#[track_caller]
pub fn wait_closed(mut stream: &TcpStream, what: &str) {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
            Err(error) => panic!("{what} is not closed: {error}"),
        }
    }
}

impl Server {
    #[track_caller]
    pub fn api(&self, path: &str) -> Value {
        let response = request(self.control, "GET", &format!("/api/v1/{path}"), &[]);
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        response.json()
    }

    /// `None`: there is no such stream.
    pub fn stream(&self, key: &str) -> Option<Value> {
        let response = request(self.control, "GET", &format!("/api/v1/streams/{key}"), &[]);
        (response.status == 200).then(|| response.json())
    }

    /// Waits until the stream has a publisher and its tracks are known.
    #[track_caller]
    pub fn wait_live(&self, key: &str) -> Value {
        wait_for(&format!("{key} is live"), SOON, || {
            self.stream(key).filter(|stream| stream["state"] == "live" && !stream["tracks"].as_array().unwrap().is_empty())
        })
    }

    pub fn sessions(&self, role: &str) -> Vec<Value> {
        self.api(&format!("sessions?limit=1000&role={role}"))["sessions"].as_array().unwrap().clone()
    }

    #[track_caller]
    pub fn wait_sessions(&self, role: &str, count: usize) -> Vec<Value> {
        wait_for(&format!("there are {count} sessions with the role {role}"), SOON, || {
            Some(self.sessions(role)).filter(|sessions| sessions.len() == count)
        })
    }

    pub fn metrics(&self) -> String {
        request(self.control, "GET", "/metrics", &[]).text()
    }

    /// The sum of all samples of one metric whose labels contain `label`.
    pub fn metric(&self, name: &str, label: &str) -> f64 {
        let text = self.metrics();
        let samples = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{'])) && line.contains(label)
        });
        samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }
}
