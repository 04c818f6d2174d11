//! What a publisher sends, on its way to media events: audio, video, data and aggregate messages → the FLV demuxer.
//!
//! Adobe RTMP 1.0 §7.1.2 to §7.1.6. Limits: those of `format::flv`. Bodies are passed on as slices, not copied. Not here: commands.

use bytes::{Buf, Bytes};

use super::error::RtmpError;
use crate::format::flv::{Demuxed, FlvDemuxer, TagType};
use crate::format::rtmp_chunk::{Message, message_type};
use crate::media::{MediaEvent, Stamp};
use crate::session::Output;

/// Type (1), size (3), time stamp (3 + 1), message stream (3): the header of a message inside an aggregate (§7.1.6).
const SUB_HEADER_BYTES: usize = 11;
/// What follows each of them: the length of header and body.
const BACK_POINTER_BYTES: usize = 4;

#[derive(Debug)]
pub struct Publication {
    pub message_stream: u32,
    demuxer: FlvDemuxer,
    /// Kept for its capacity.
    demuxed: Vec<Demuxed>,
    granted: bool,
    /// Events came before the grant.
    left_out: bool,
}

impl Publication {
    pub fn new(message_stream: u32) -> Self {
        Publication { message_stream, demuxer: FlvDemuxer::new(), demuxed: Vec::new(), granted: false, left_out: false }
    }

    /// The name is this publisher's. Some clients send before they are told so: what was learnt of the tracks is not lost.
    pub fn grant(&mut self, out: &mut Vec<Output>) {
        self.granted = true;
        if self.left_out && !self.demuxer.tracks().is_empty() {
            out.push(Output::Media(MediaEvent::Tracks(self.demuxer.tracks().clone())));
        }
    }

    pub fn is_granted(&self) -> bool {
        self.granted
    }

    /// Takes a message of any type; those that are no media are ignored.
    pub fn push(&mut self, message: Message, arrival: Stamp, out: &mut Vec<Output>) -> Result<(), RtmpError> {
        if message.message_type == message_type::AGGREGATE {
            return self.aggregate(&message, arrival, out);
        }
        self.media(message.message_type, message.timestamp, message.body, arrival, out)
    }

    /// Sub-messages keep their distances; the first stands at the aggregate's own time.
    fn aggregate(&mut self, aggregate: &Message, arrival: Stamp, out: &mut Vec<Output>) -> Result<(), RtmpError> {
        let mut rest = aggregate.body.clone();
        let mut first = None;
        while !rest.is_empty() {
            if rest.len() < SUB_HEADER_BYTES {
                return Err(RtmpError::AggregateTruncated);
            }
            let header = rest.split_to(SUB_HEADER_BYTES);
            let size = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
            let timestamp = u32::from_be_bytes([header[7], header[4], header[5], header[6]]);
            if rest.len() < size {
                return Err(RtmpError::AggregateTruncated);
            }
            let body = rest.split_to(size);
            rest.advance(rest.len().min(BACK_POINTER_BYTES));
            let offset = timestamp.wrapping_sub(*first.get_or_insert(timestamp));
            self.media(header[0], aggregate.timestamp.wrapping_add(offset), body, arrival, out)?;
        }
        Ok(())
    }

    fn media(
        &mut self,
        message_type: u8,
        timestamp: u32,
        mut body: Bytes,
        arrival: Stamp,
        out: &mut Vec<Output>,
    ) -> Result<(), RtmpError> {
        let tag = match message_type {
            message_type::AUDIO => TagType::Audio,
            message_type::VIDEO => TagType::Video,
            message_type::DATA_AMF0 | message_type::DATA_AMF3 => TagType::Script,
            _ => return Ok(()),
        };
        // One byte says the format and is zero; then come AMF0 values, which may switch to AMF3 themselves.
        if message_type == message_type::DATA_AMF3 && body.first() == Some(&0) {
            body.advance(1);
        }
        self.demuxer.push(tag, timestamp, body, arrival, &mut self.demuxed)?;
        if !self.granted {
            self.left_out |= !self.demuxed.is_empty();
            self.demuxed.clear();
        }
        out.extend(self.demuxed.drain(..).map(|demuxed| match demuxed {
            Demuxed::Event(event) => Output::Media(event),
            Demuxed::Discarded(reason) => Output::Discarded(reason),
        }));
        Ok(())
    }
}
