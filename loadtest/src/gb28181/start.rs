//! Asks the server's control plane to let devices send, one after the other, on a thread of its own: the devices answer meanwhile.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::args::{CHANNEL_ID, DEVICE_ID, count_up};

const PATIENCE: Duration = Duration::from_secs(10);

/// `POST /api/v1/gb28181/play` for each of so many devices. `control`: HOST:PORT.
pub fn start(control: String, devices: u16) -> JoinHandle<io::Result<()>> {
    thread::spawn(move || {
        (0..u64::from(devices)).try_for_each(|number| {
            let (device, channel) = (count_up(DEVICE_ID, number), count_up(CHANNEL_ID, number));
            let answer = post(&control, &format!("{{\"device\":\"{device}\",\"channel\":\"{channel}\"}}"))?;
            let is_good = answer.split(' ').nth(1).is_some_and(|status| status.starts_with('2'));
            if is_good { Ok(()) } else { Err(io::Error::other(format!("the server does not play {device}: {answer}"))) }
        })
    })
}

fn post(control: &str, body: &str) -> io::Result<String> {
    let told = |error: io::Error| io::Error::new(error.kind(), format!("{control}: {error}"));
    let mut stream = TcpStream::connect(control).map_err(told)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    let head =
        format!("POST /api/v1/gb28181/play HTTP/1.1\r\nHost: {control}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all((head + body).as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(told)?;
    Ok(answer)
}
