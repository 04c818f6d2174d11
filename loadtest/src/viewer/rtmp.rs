//! What a viewer says and hears over RTMP.
//!
//! The library's client speaks until the server agrees to play; from then on only the scanner sees the bytes, and what a player still has
//! to say (acknowledgements, pongs) is said here.

use std::io;

use shardcast::format::rtmp_chunk::{CHUNK_SIZE_DEFAULT, MessageHeader, chunk_stream, message_type, write_message};
use shardcast::protocol::rtmp::client::RtmpClient;

use crate::args::LoadArgs;
use crate::rtmp::talk;
use crate::scan::Found;
use crate::scan::chunk::ChunkScanner;

/// S0, S1 and S2 (RTMP §5.2).
const HANDSHAKE_BYTES: usize = 1 + 2 * 1536;
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Acknowledge after so many bytes, unless the server says otherwise.
const WINDOW_BYTES: u32 = 2_500_000;
const PING_REQUEST: [u8; 2] = [0, 6];
const PING_RESPONSE: [u8; 2] = [0, 7];

pub struct RtmpViewer {
    /// Until the server agrees to play.
    client: Option<RtmpClient>,
    handshake_left: usize,
    scanner: ChunkScanner,
    window: u32,
    received: u32,
    acknowledged: u32,
}

impl RtmpViewer {
    pub fn new(args: &LoadArgs, publisher: u16, hello: &mut Vec<u8>) -> io::Result<RtmpViewer> {
        let (app, name) = args.stream(publisher.into());
        let mut client = RtmpClient::play(&app, &name, &args.tc_url(publisher.into()), MESSAGE_BYTES_MAX);
        talk(&mut client, &[], hello)?;
        Ok(RtmpViewer {
            client: Some(client),
            handshake_left: HANDSHAKE_BYTES,
            scanner: ChunkScanner::default(),
            window: WINDOW_BYTES,
            received: 0,
            acknowledged: 0,
        })
    }

    /// The server has agreed to play.
    pub fn has_asked(&self) -> bool {
        self.client.is_none()
    }

    pub fn feed(&mut self, bytes: &[u8], found: &mut impl FnMut(Found<'_>), reply: &mut Vec<u8>) -> io::Result<()> {
        self.received = self.received.wrapping_add(bytes.len() as u32);
        if let Some(client) = &mut self.client
            && talk(client, bytes, reply)?.is_some()
        {
            self.client = None;
        }
        let speaks = self.client.is_none();
        let handshake = self.handshake_left.min(bytes.len());
        self.handshake_left -= handshake;
        let mut window = self.window;
        let mut control = |item: Found<'_>| match item {
            Found::Other { kind: message_type::WINDOW_ACKNOWLEDGEMENT_SIZE, prefix } => {
                window = prefix.first_chunk().map_or(window, |bytes| u32::from_be_bytes(*bytes)).max(1);
            }
            Found::Other { kind: message_type::USER_CONTROL, prefix } if speaks && prefix.starts_with(&PING_REQUEST) => {
                write_control(message_type::USER_CONTROL, &[&PING_RESPONSE, &prefix[2..]], reply);
            }
            other => found(other),
        };
        self.scanner.feed(&bytes[handshake..], &mut control)?;
        self.window = window;
        if speaks && self.received.wrapping_sub(self.acknowledged) >= self.window {
            self.acknowledged = self.received;
            write_control(message_type::ACKNOWLEDGEMENT, &[&self.received.to_be_bytes()], reply);
        }
        Ok(())
    }
}

fn write_control(message_type: u8, payload: &[&[u8]], out: &mut Vec<u8>) {
    let header = MessageHeader { chunk_stream: chunk_stream::CONTROL, timestamp: 0, message_type, message_stream: 0 };
    // No control message is longer than the smallest chunk.
    write_message(&header, payload, CHUNK_SIZE_DEFAULT, out);
}
