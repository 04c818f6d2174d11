//! FLV: a byte stream is cut into tags, demuxed, and muxed again in both forms of H.265.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use shardcast::format::flv::{Demuxed, FlvDemuxer, TagReader};
use shardcast::format::flv_mux::FlvMuxer;
use shardcast::format::{Envelope, HevcForm, Muxer};
use shardcast::media::{MediaEvent, Stamp};

const TAG_BYTES_MAX: usize = 1 << 16;

fn demux(stream: &[u8]) -> Vec<MediaEvent> {
    let mut reader = TagReader::new(TAG_BYTES_MAX);
    let mut demuxer = FlvDemuxer::new();
    let mut results = Vec::new();
    for piece in stream.chunks(61) {
        reader.push(piece);
        while let Ok(Some((tag, millis, body))) = reader.next_tag() {
            // A session would end here; going on reaches more states.
            let _ = demuxer.push(tag, millis, body, Stamp::ZERO, &mut results);
        }
    }
    let event = |result| if let Demuxed::Event(event) = result { Some(event) } else { None };
    results.into_iter().filter_map(event).collect()
}

fn payloads(events: &[MediaEvent]) -> Vec<Bytes> {
    let payload = |event: &MediaEvent| if let MediaEvent::Frame(frame) = event { Some(frame.data.clone()) } else { None };
    events.iter().filter_map(payload).collect()
}

fuzz_target!(|data: &[u8]| {
    let events = demux(data);
    for hevc in [HevcForm::Enhanced, HevcForm::Legacy] {
        let mut muxer = FlvMuxer::new(hevc, Envelope::None);
        let mut packets = Vec::new();
        events.iter().for_each(|event| muxer.push(event, &mut packets));
        let mut stream = muxer.head().unwrap_or_default().to_vec();
        for packet in &packets {
            packet.parts.iter().for_each(|part| stream.extend_from_slice(part));
        }
        let largest = packets.iter().map(|packet| packet.len).max().unwrap_or(0);
        if largest < TAG_BYTES_MAX {
            assert!(payloads(&demux(&stream)) == payloads(&events), "frames come back as they were");
        }
    }
});
