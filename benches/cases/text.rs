//! What is read beside media: session descriptions, RTCP, RTSP requests, WebSocket frames, AMF.

use std::hint::black_box;

use shardcast::format::rtp::rtcp;
use shardcast::format::websocket::FrameReader;
use shardcast::format::{amf0, rtp::RtpHeader};
use shardcast::protocol::common::sdp;
use shardcast::protocol::rtsp::message::Reader;

use super::{Case, GROUP, Work};

const SDP: &str = include_str!("../../tests/corpus/sdp/ffmpeg");
const SENDER_REPORT: &[u8] = include_bytes!("../../tests/corpus/rtcp/sender_ffmpeg_h264");
const METADATA: &[u8] = include_bytes!("../../tests/corpus/amf0/metadata_ffmpeg");
/// ffmpeg's.
const OPTIONS: &[u8] = b"OPTIONS rtsp://127.0.0.1:554/live/a RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: Lavf59.27.100\r\n\r\n";
/// A masked ping with four bytes.
const PING: &[u8] = &[0x89, 0x84, 1, 2, 3, 4, 0x71, 0x6B, 0x6D, 0x63];
/// H.264 of ffmpeg, marked.
const RTP_PACKET: &[u8] = &[0x80, 0xE0, 0x12, 0x34, 0, 1, 2, 3, 0x5C, 0x1A, 0x33, 0x07, 0x41, 0x9A, 0x24, 0x6C];

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("parse/sdp", "description", || repeat(|| _ = black_box(sdp::parse(black_box(SDP))))),
        Case::new("parse/rtcp", "report", || {
            repeat(|| {
                rtcp::parse(black_box(SENDER_REPORT), |report| _ = black_box(report)).expect("a captured report is valid");
            })
        }),
        Case::new("parse/rtp_header", "packet", || repeat(|| _ = black_box(RtpHeader::parse(black_box(RTP_PACKET))))),
        Case::new("parse/rtsp_request", "request", || {
            let mut reader = Reader::default();
            repeat(move || _ = black_box(reader.next(&mut black_box(OPTIONS)).expect("the request is valid")))
        }),
        Case::new("parse/websocket_ping", "frame", || {
            let mut reader = FrameReader::new();
            repeat(move || _ = black_box(reader.read(&mut black_box(PING)).expect("the frame is valid")))
        }),
        Case::new("parse/amf0_metadata", "message", || repeat(|| _ = black_box(amf0::decode_all(black_box(METADATA))))),
    ]
}

fn repeat(mut once: impl FnMut() + 'static) -> Work {
    Work::group(move || (0..GROUP).for_each(|_| once()))
}
