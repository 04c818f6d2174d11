//! The RTP packets of one access unit, written one behind the other into one buffer.

use std::num::NonZeroU16;

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

const RTP_HEADER_BYTES: usize = 12;
const MARKER: u8 = 0x80;

/// What stands before each packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lead {
    /// Nothing: a datagram.
    None,
    /// `$`, the channel and the length (RFC 2326 §10.12).
    Channel(u8),
    /// The length (RFC 4571 §2).
    Length,
}

impl Lead {
    const fn bytes(self) -> usize {
        match self {
            Lead::None => 0,
            Lead::Channel(_) => 4,
            Lead::Length => 2,
        }
    }
}

/// Each packet is begun, filled, and ended by the next one's begin or the end of all.
pub struct Writer {
    buffer: BytesMut,
    payload_type: u8,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    lead: Lead,
    payload_bytes_max: usize,
    /// Where each packet starts, with what stands before it.
    starts: SmallVec<[u32; 32]>,
}

impl Writer {
    pub fn new(
        payload_type: u8,
        ssrc: u32,
        sequence: u16,
        timestamp: u32,
        lead: Lead,
        packet_bytes_max: usize,
        unit_bytes: usize,
    ) -> Self {
        let payload_bytes_max = packet_bytes_max - RTP_HEADER_BYTES;
        // Headers of packet and payload; parameter sets may still make it grow once.
        let packets = unit_bytes / payload_bytes_max + 2;
        let buffer = BytesMut::with_capacity(unit_bytes + packets * 32);
        Writer { buffer, payload_type, ssrc, sequence, timestamp, lead, payload_bytes_max, starts: SmallVec::new() }
    }

    /// What one packet's payload may have.
    pub fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max
    }

    /// Begins the next packet; what is put goes there.
    pub fn begin(&mut self) {
        self.end_packet();
        self.starts.push(self.buffer.len() as u32);
        match self.lead {
            Lead::None => {}
            Lead::Channel(channel) => self.buffer.put_slice(&[b'$', channel, 0, 0]),
            Lead::Length => self.buffer.put_u16(0),
        }
        self.buffer.put_u8(0x80);
        self.buffer.put_u8(self.payload_type);
        self.buffer.put_u16(self.sequence);
        self.buffer.put_u32(self.timestamp);
        self.buffer.put_u32(self.ssrc);
        self.sequence = self.sequence.wrapping_add(1);
    }

    pub fn put(&mut self, bytes: &[u8]) {
        self.buffer.put_slice(bytes);
    }

    /// Puts bytes into packets that are full but for the last, beginning them where they are needed.
    pub fn pour(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let begun =
                self.starts.last().map(|start| self.buffer.len() - *start as usize - self.lead.bytes() - RTP_HEADER_BYTES);
            let room = begun.map_or(0, |begun| self.payload_bytes_max - begun);
            if room == 0 {
                self.begin();
                continue;
            }
            let (piece, rest) = bytes.split_at(room.min(bytes.len()));
            self.buffer.put_slice(piece);
            bytes = rest;
        }
    }

    /// Marks the packet that was begun last.
    pub fn mark(&mut self) {
        if let Some(start) = self.starts.last() {
            let at = *start as usize + self.lead.bytes() + 1;
            self.buffer[at] |= MARKER;
        }
    }

    /// Packets begun from now on are for a moment so many ticks later.
    pub fn advance(&mut self, ticks: u32) {
        self.timestamp = self.timestamp.wrapping_add(ticks);
    }

    /// Packets, and bytes of payload in them.
    pub fn counts(&self) -> (u32, u32) {
        let packets = self.starts.len();
        let header = RTP_HEADER_BYTES + self.lead.bytes();
        (packets as u32, (self.buffer.len() - packets * header) as u32)
    }

    /// Fills in the length of the packet that was begun last.
    fn end_packet(&mut self) {
        if let (Some(start), true) = (self.starts.last(), self.lead != Lead::None) {
            let packet = *start as usize + self.lead.bytes();
            let length = (self.buffer.len() - packet) as u16;
            self.buffer[packet - 2..packet].copy_from_slice(&length.to_be_bytes());
        }
    }

    /// All packets as a piece of a byte stream; `None`: there are none.
    pub fn into_stream(mut self) -> Option<Bytes> {
        self.end_packet();
        (!self.starts.is_empty()).then(|| self.buffer.freeze())
    }

    /// All packets as trains of datagrams of equal size, the last of each perhaps shorter, with that size.
    pub fn into_trains(self, datagrams_max: usize, bytes_max: usize) -> impl Iterator<Item = (Bytes, NonZeroU16)> {
        let Writer { buffer, starts, .. } = self;
        let mut rest = buffer.freeze();
        let end = rest.len();
        let size = move |at: usize| {
            let behind = starts.get(at + 1).map_or(end, |next| *next as usize);
            starts.get(at).map(|start| behind - *start as usize)
        };
        let mut at = 0;
        std::iter::from_fn(move || {
            let first = size(at)?;
            let (mut bytes, mut count) = (first, 1);
            at += 1;
            while let Some(next) = size(at).filter(|next| *next <= first) {
                if count == datagrams_max || bytes + next > bytes_max {
                    break;
                }
                bytes += next;
                count += 1;
                at += 1;
                if next < first {
                    break;
                }
            }
            // A packet has its header at least and `packet_bytes_max` at most.
            let datagram_bytes = NonZeroU16::new(first as u16)?;
            Some((rest.split_to(bytes), datagram_bytes))
        })
    }
}
