//! What a publisher says over RTMP: the library's client until the server agrees, then FLV bodies in messages.

use std::io;

use bytes::Bytes;
use shardcast::format::rtmp_chunk::{MessageHeader, OUT_CHUNK_SIZE, chunk_stream, message_type, write_message};
use shardcast::protocol::rtmp::client::RtmpClient;

use super::Picture;
use crate::args::LoadArgs;
use crate::clip::Clip;
use crate::rtmp::talk;

const MESSAGE_BYTES_MAX: usize = 64 * 1024;

pub struct RtmpPublisher {
    client: RtmpClient,
    message_stream: u32,
}

impl RtmpPublisher {
    pub fn new(number: u16, args: &LoadArgs, out: &mut Vec<u8>) -> io::Result<RtmpPublisher> {
        let (app, name) = args.stream(number.into());
        let client = RtmpClient::publish(&app, &name, &args.tc_url(number.into()), MESSAGE_BYTES_MAX);
        let mut publisher = RtmpPublisher { client, message_stream: 0 };
        talk(&mut publisher.client, &[], out)?;
        Ok(publisher)
    }

    /// Takes what the server says; whether it has agreed just now.
    pub fn handle(&mut self, bytes: &[u8], clip: &Clip, out: &mut Vec<u8>) -> io::Result<bool> {
        let agreed = talk(&mut self.client, bytes, out)?;
        if let Some(message_stream) = agreed {
            self.message_stream = message_stream;
            for tag in &clip.config {
                for part in self.client.write_tag(tag) {
                    out.extend_from_slice(&part);
                }
            }
        }
        Ok(agreed.is_some())
    }

    /// Says how many bytes that made, as do the others.
    pub fn video(&self, picture: &Picture<'_>, out: &mut Vec<u8>) -> usize {
        let (decoding, presentation) = picture.times(1000);
        let [_, c2, c1, c0] = ((presentation - decoding) as u32).to_be_bytes();
        let head = [if picture.planned.key { 0x17 } else { 0x27 }, 1, c2, c1, c0];
        let [filler_head, filler, filler_end] = picture.planned.filler;
        let payload = [&head[..], &picture.mark, picture.planned.data, filler_head, filler, filler_end];
        self.message(chunk_stream::VIDEO, message_type::VIDEO, decoding, &payload, out)
    }

    /// `offset`: since the beginning, in nanoseconds.
    pub fn audio(&self, frame: &Bytes, offset: u64, out: &mut Vec<u8>) -> usize {
        const AAC_RAW: [u8; 2] = [0xAF, 1];
        self.message(chunk_stream::AUDIO, message_type::AUDIO, offset / 1_000_000, &[&AAC_RAW, frame], out)
    }

    fn message(&self, chunk_stream: u8, message_type: u8, timestamp: u64, payload: &[&[u8]], out: &mut Vec<u8>) -> usize {
        let before = out.len();
        let message_stream = self.message_stream;
        let header = MessageHeader { chunk_stream, timestamp: timestamp as u32, message_type, message_stream };
        write_message(&header, payload, OUT_CHUNK_SIZE, out);
        out.len() - before
    }
}
