//! An RTMP chunk stream from the server, behind the handshake. Spec: Adobe RTMP 1.0 §5.3, §5.4.1.
//!
//! Chunk streams may be interleaved; each has a unit of its own. Set Chunk Size is carried out here, other control is returned.

use super::{Broken, Found, Header, Unit};

const CHUNK_SIZE_DEFAULT: usize = 128;
const EXTENDED: u32 = 0xFF_FFFF;
const SET_CHUNK_SIZE: u8 = 1;
/// Basic header, message header, extended time stamp.
const HEADER_BYTES_MAX: usize = 18;

pub struct ChunkScanner {
    chunk_size: usize,
    streams: Vec<ChunkStream>,
    header: Header<HEADER_BYTES_MAX>,
    /// The chunk whose payload is being read: index into `streams`, bytes left.
    payload: Option<(usize, usize)>,
}

struct ChunkStream {
    id: u32,
    kind: u8,
    length: usize,
    extended: bool,
    unit: Unit,
}

impl Default for ChunkScanner {
    fn default() -> Self {
        let (streams, header) = (Vec::with_capacity(8), Header::default());
        ChunkScanner { chunk_size: CHUNK_SIZE_DEFAULT, streams, header, payload: None }
    }
}

impl ChunkScanner {
    pub fn feed(&mut self, mut input: &[u8], found: &mut impl FnMut(Found<'_>)) -> Result<(), Broken> {
        while !input.is_empty() {
            let Some((stream, left)) = self.payload else {
                if self.header_bytes(&mut input)? {
                    self.begin_chunk()?;
                }
                continue;
            };
            let (bytes, rest) = input.split_at(left.min(input.len()));
            input = rest;
            let mut chunk_size = None;
            self.streams[stream].unit.feed(bytes, &mut |item| match item {
                Found::Other { kind: SET_CHUNK_SIZE, prefix } => chunk_size = prefix.first_chunk().copied(),
                other => found(other),
            });
            if let Some(size) = chunk_size {
                self.chunk_size = (u32::from_be_bytes(size) as usize).max(1);
            }
            self.payload = Some((stream, left - bytes.len())).filter(|(_, left)| *left > 0);
        }
        Ok(())
    }

    /// Collects a chunk header; false: more bytes are needed.
    fn header_bytes(&mut self, input: &mut &[u8]) -> Result<bool, Broken> {
        if !self.header.collect(1, input) {
            return Ok(false);
        }
        let first = self.header.bytes[0];
        let basic = match first & 0x3F {
            0 => 2,
            1 => 3,
            _ => 1,
        };
        let message = basic + [11, 7, 3, 0][usize::from(first >> 6)];
        if !self.header.collect(message, input) {
            return Ok(false);
        }
        let extended = if first >> 6 < 3 {
            u24(&self.header.bytes[basic..]) == EXTENDED
        } else {
            self.stream().ok_or(Broken("a chunk without an earlier header"))?.extended
        };
        Ok(self.header.collect(message + if extended { 4 } else { 0 }, input))
    }

    fn id(&self) -> u32 {
        let [first, a, b, ..] = self.header.bytes;
        match first & 0x3F {
            0 => 64 + u32::from(a),
            1 => 64 + u32::from(a) + 256 * u32::from(b),
            id => id.into(),
        }
    }

    fn stream(&mut self) -> Option<&mut ChunkStream> {
        let id = self.id();
        self.streams.iter_mut().find(|stream| stream.id == id)
    }

    fn begin_chunk(&mut self) -> Result<(), Broken> {
        let header = self.header.bytes;
        let fmt = header[0] >> 6;
        let id = self.id();
        let fields = &header[[2, 3, 1][usize::from(header[0] & 0x3F).min(2)]..];
        let chunk_size = self.chunk_size;
        let at = self.streams.iter().position(|stream| stream.id == id).unwrap_or_else(|| {
            self.streams.push(ChunkStream { id, kind: 0, length: 0, extended: false, unit: Unit::default() });
            self.streams.len() - 1
        });
        let stream = &mut self.streams[at];
        if fmt < 3 {
            stream.extended = u24(fields) == EXTENDED;
        }
        if fmt < 2 {
            stream.length = u24(&fields[3..]) as usize;
            stream.kind = fields[6];
        }
        if stream.unit.left() == 0 {
            stream.unit.begin(stream.kind, stream.length);
        } else if fmt < 3 {
            return Err(Broken("a message inside another"));
        }
        self.header.len = 0;
        self.payload = Some((at, stream.unit.left().min(chunk_size))).filter(|(_, left)| *left > 0);
        Ok(())
    }
}

fn u24(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]])
}

#[cfg(test)]
mod tests {
    use shardcast::format::rtmp_chunk::{MessageHeader, write_message};

    use super::super::testing::{Seen, scan_in_pieces, video};
    use super::super::{AUDIO, VIDEO};
    use super::*;

    #[test]
    fn messages_are_found_in_any_pieces() {
        let mut stream = Vec::new();
        let mut write = |chunk_stream, message_type, timestamp, payload: &[u8], chunk_size| {
            let header = MessageHeader { chunk_stream, timestamp, message_type, message_stream: 1 };
            write_message(&header, &[payload], chunk_size, &mut stream);
        };
        write(6, VIDEO, 0, &video(1, true, 1000), 128);
        write(2, SET_CHUNK_SIZE, 0, &4096u32.to_be_bytes(), 128);
        write(4, AUDIO, 20, &[0xAF, 1, 2], 4096);
        write(6, VIDEO, 0x0100_0000, &video(2, false, 9000), 4096);
        write(3, 20, 0, &[2; 300], 4096);
        let seen = scan_in_pieces(&stream, ChunkScanner::default, |s, bytes, mut found| s.feed(bytes, &mut found).unwrap());
        let expected = [
            Seen::First(1),
            Seen::Last(1, true),
            Seen::Audio,
            Seen::First(2),
            Seen::Last(2, false),
            Seen::Other(20, super::super::PREFIX_BYTES),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn interleaved_messages_and_short_headers() {
        let mut stream = vec![6, 0, 0, 0, 0, 0, 200, VIDEO, 1, 0, 0, 0];
        let body = video(7, true, 200);
        stream.extend_from_slice(&body[..128]);
        stream.extend([4, 0, 0, 0, 0, 0, 3, AUDIO, 1, 0, 0, 0, 0xAF, 1, 2]);
        stream.push(0xC6);
        stream.extend_from_slice(&body[128..]);
        stream.extend([0x84, 0, 0, 23, 0xAF, 1, 2, 0xC4, 0xAF, 1, 2]);
        let seen = scan_in_pieces(&stream, ChunkScanner::default, |s, bytes, mut found| s.feed(bytes, &mut found).unwrap());
        assert_eq!(seen, [Seen::First(7), Seen::Audio, Seen::Last(7, true), Seen::Audio, Seen::Audio]);
    }
}
