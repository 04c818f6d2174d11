//! Frames → `SingleMuxer`, as datagrams and behind lengths → `PsDemuxer`: the same bytes, keys and times; and packets of frames that hold
//! anything are well-formed.
//!
//! Input: three bytes for the picture's codec, the sound's, and the options; then frames, see `elementary::Source`.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use shardcast::format::ps::PsDemuxer;
use shardcast::format::rtp::demux::OnLoss;
use shardcast::format::rtp::framing::Framing;
use shardcast::format::rtp::mux::SingleMuxer;
use shardcast::format::rtp::{RtpHeader, RtpSource, SourceContent};
use shardcast::format::{Muxer, MuxerContext};
use shardcast::media::{Codec, Frame, MediaEvent, Stamp, Tracks};
use shardcast_fuzz::Choices;
use shardcast_fuzz::elementary::{Source, collect};

const SSRC: u32 = 200_000_001;
const DATAGRAM_BYTES_MAX: usize = 1_400;
const SOUND: [Codec; 3] = [Codec::Aac, Codec::G711A, Codec::G711U];

/// The RTP packets of all frames.
fn send(framed: bool, source: &Source, frames: &[Frame]) -> Vec<Vec<u8>> {
    let form = RtpSource { content: SourceContent::Ps, ssrc: SSRC, payload_type: 96, framed };
    let mut muxer = SingleMuxer::new(form, MuxerContext { epoch_nanos: 0, seed: 1 });
    let (mut out, mut packets) = (Vec::new(), Vec::new());
    let mut framing = Framing::new(Some(SSRC));
    muxer.push(&MediaEvent::Tracks(Tracks::new(source.tracks.clone(), Bytes::new())), &mut out);
    for frame in frames {
        muxer.push(&MediaEvent::Frame(frame.clone()), &mut out);
        for packet in out.drain(..) {
            match packet.train {
                None => framing.push(&packet.parts.concat(), |follows, packet| {
                    assert!(framed && follows);
                    packets.push(packet.to_vec());
                }),
                Some(train) => {
                    let size = usize::from(train.datagram_bytes.get());
                    assert!(!framed && size <= DATAGRAM_BYTES_MAX && packet.parts.len() == 1 && packet.len.div_ceil(size) <= 64);
                    packets.extend(packet.parts[0].chunks(size).map(<[u8]>::to_vec));
                }
            }
        }
    }
    assert!(framing.take_passed_over() == 0 && framing.held_bytes() == 0);
    packets
}

fn receive(packets: &[Vec<u8>]) -> (Tracks, Vec<Frame>) {
    let (mut demuxer, mut out, mut next) = (PsDemuxer::new(OnLoss::Pass), Vec::new(), None);
    for packet in packets {
        let header = RtpHeader::parse(packet).expect("our own packet");
        assert!(header.ssrc == SSRC && header.payload_type == 96 && !header.payload.is_empty());
        assert!(next.is_none_or(|next: u16| next == header.sequence));
        next = Some(header.sequence.wrapping_add(1));
        demuxer.push(Stamp::ZERO, &packet[header.payload.clone()], &mut out);
        if header.marker {
            demuxer.frame_end(Stamp::ZERO, &mut out);
        }
    }
    collect(out)
}

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices::new(input);
    let mut source = Source::new(&SOUND, &mut choices);
    let frames = source.frames(choices);
    for framed in [false, true] {
        let received = receive(&send(framed, &source, &frames));
        if !source.anything {
            source.compare(&frames, &received);
        }
    }
});
