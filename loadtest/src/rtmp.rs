//! What publisher and viewer have in common over RTMP: the library's client says its part until the server has agreed.

use std::io;

use shardcast::media::Stamp;
use shardcast::protocol::rtmp::client::{ClientEvent, ClientOutput, RtmpClient};

use crate::poll::now;

/// Lets the client answer; the message stream, if the server has agreed just now.
pub fn talk(client: &mut RtmpClient, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<Option<u32>> {
    let mut outputs = Vec::new();
    client.handle(Stamp::from_nanos(now()), bytes, &mut outputs).map_err(|error| io::Error::other(error.to_string()))?;
    let mut agreed = None;
    for output in outputs {
        match output {
            ClientOutput::Send(bytes) => out.extend_from_slice(&bytes),
            ClientOutput::Event(ClientEvent::Ready { message_stream }) => agreed = Some(message_stream),
            ClientOutput::Event(ClientEvent::Status { error: true, code, description }) => {
                return Err(io::Error::other(format!("the server says {code}: {description}")));
            }
            ClientOutput::Event(_) => {}
        }
    }
    Ok(agreed)
}
