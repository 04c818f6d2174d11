//! A viewer of our own over RTSP with interleaved media: every access unit of H.264 and AAC, and when its last byte came. It undoes RTP
//! by itself (RFC 6184: single units, STAP-A, FU-A; RFC 3640: AAC-hbr), so that the server's reader does not judge the server's writer.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::thread::JoinHandle;
use std::time::Instant;

use super::flv::{AUDIO, VIDEO};
use super::rtsp_client::RtspClient;
use super::{SOON, Server, wait_for};

const VIDEO_CHANNEL: u8 = 0;
const AUDIO_CHANNEL: u8 = 2;

/// An access unit that a viewer got: of H.264 its NAL units, each behind its length in four bytes.
#[derive(Clone, Debug)]
pub struct Unit {
    pub kind: u8,
    pub data: Vec<u8>,
    pub at: Instant,
}

pub struct RtspViewer {
    socket: TcpStream,
    thread: Option<JoinHandle<Vec<Unit>>>,
}

impl RtspViewer {
    /// Asks for a stream with one video and one audio track, which may be still to come.
    pub fn open(server: &Server, key: &str) -> Self {
        let mut client = RtspClient::connect(server.rtsp);
        let (socket, key) = (client.socket().try_clone().unwrap(), key.to_owned());
        let thread = std::thread::spawn(move || {
            client.demand("DESCRIBE", &key, &["Accept: application/sdp"], "");
            for (track, channel) in [VIDEO_CHANNEL, AUDIO_CHANNEL].into_iter().enumerate() {
                let transport = format!("Transport: RTP/AVP/TCP;unicast;interleaved={channel}-{}", channel + 1);
                client.demand("SETUP", &format!("{key}/trackID={track}"), &[&transport], "");
            }
            client.demand("PLAY", &key, &[], "");
            read(&mut client)
        });
        RtspViewer { socket, thread: Some(thread) }
    }

    /// Waits for the end of the stream; what came until then.
    #[track_caller]
    pub fn finish(mut self) -> Vec<Unit> {
        let thread = self.thread.take().unwrap();
        wait_for("the end of the RTSP stream", SOON, || thread.is_finished().then_some(()));
        thread.join().expect("the stream is understood")
    }
}

impl Drop for RtspViewer {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

fn read(client: &mut RtspClient) -> Vec<Unit> {
    let (mut units, mut video, mut next) = (Vec::new(), NalUnits::default(), [None, None]);
    loop {
        let (channel, packet) = match client.read_frame() {
            Ok(frame) => frame,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return units,
            Err(error) => panic!("{error}"),
        };
        let at = Instant::now();
        if channel != VIDEO_CHANNEL && channel != AUDIO_CHANNEL {
            continue;
        }
        assert_eq!(packet[0], 0x80, "version 2 and nothing else in the first byte");
        let marker = packet[1] & 0x80 != 0;
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        let expected = next[usize::from(channel / 2)].replace(sequence.wrapping_add(1));
        assert!(expected.is_none_or(|expected| expected == sequence), "a connection loses nothing: {expected:?}, {sequence}");
        let payload = &packet[12..];
        if channel == VIDEO_CHANNEL {
            video.push(payload);
            if marker {
                units.push(Unit { kind: VIDEO, data: std::mem::take(&mut video.unit), at });
            }
        } else {
            units.extend(aac(payload).into_iter().map(|data| Unit { kind: AUDIO, data, at }));
        }
    }
}

/// H.264 payloads of one access unit, put together.
#[derive(Default)]
struct NalUnits {
    unit: Vec<u8>,
    fragment: Vec<u8>,
}

impl NalUnits {
    fn push(&mut self, payload: &[u8]) {
        match payload[0] & 0x1F {
            24 => {
                let mut rest = &payload[1..];
                while let Some((size, behind)) = rest.split_first_chunk::<2>() {
                    let (nal, behind) = behind.split_at(usize::from(u16::from_be_bytes(*size)));
                    self.nal(nal);
                    rest = behind;
                }
            }
            28 => {
                let (start, end) = (payload[1] & 0x80 != 0, payload[1] & 0x40 != 0);
                assert_eq!(start, self.fragment.is_empty(), "a fragment begins where none is open");
                if start {
                    self.fragment.push((payload[0] & 0xE0) | (payload[1] & 0x1F));
                }
                self.fragment.extend_from_slice(&payload[2..]);
                if end {
                    let nal = std::mem::take(&mut self.fragment);
                    self.nal(&nal);
                }
            }
            1..=23 => self.nal(payload),
            other => panic!("a packet of type {other}"),
        }
    }

    /// Parameter sets do not stand in the units of FLV.
    fn nal(&mut self, nal: &[u8]) {
        if !matches!(nal[0] & 0x1F, 7 | 8) {
            self.unit.extend_from_slice(&(nal.len() as u32).to_be_bytes());
            self.unit.extend_from_slice(nal);
        }
    }
}

/// The frames of an AAC-hbr packet: 13 bits of size and 3 of index for each, in front of them all.
fn aac(payload: &[u8]) -> Vec<Vec<u8>> {
    let header_bytes = usize::from(u16::from_be_bytes([payload[0], payload[1]])) / 8;
    let (headers, mut rest) = payload[2..].split_at(header_bytes);
    let mut frames = Vec::new();
    for header in headers.chunks(2) {
        let size = usize::from(u16::from_be_bytes([header[0], header[1]]) >> 3);
        let (frame, behind) = rest.split_at(size);
        frames.push(frame.to_vec());
        rest = behind;
    }
    assert!(rest.is_empty(), "whole frames only");
    frames
}
