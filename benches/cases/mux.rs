//! Frames → packets of each format: once per stream and shard, for all viewers.

use std::hint::black_box;

use shardcast::format::mp4::FragmentMode;
use shardcast::format::rtp::{Channels, RtpCarriage, RtpSource, SourceContent};
use shardcast::format::{Envelope, Format, HevcForm, MuxerContext, Packet};
use shardcast::media::Codec;

use super::media::Feed;
use super::{CALLS_PREPARED, Case, GROUP, Work};

pub const FLV: Format = Format::Flv { hevc: HevcForm::Enhanced, envelope: Envelope::HttpChunk };
pub const RTMP: Format = Format::Rtmp { hevc: HevcForm::Enhanced, message_stream: 1 };
pub const FMP4: Format = Format::Fmp4 { fragments: FragmentMode::PerFrame, envelope: Envelope::None };
const FMP4_GOP: Format = Format::Fmp4 { fragments: FragmentMode::PerGop, envelope: Envelope::None };
pub const TS: Format = Format::Ts { envelope: Envelope::None };
pub const RTP: Format = Format::Rtp(RtpCarriage::Datagrams);
const RTP_INTERLEAVED: Format = Format::Rtp(RtpCarriage::Interleaved {
    video: Some(Channels { rtp: 0, rtcp: 1 }),
    audio: Some(Channels { rtp: 2, rtcp: 3 }),
});
pub const PS: Format = Format::Single(RtpSource { content: SourceContent::Ps, ssrc: 1, payload_type: 96, framed: false });

pub fn cases() -> Vec<Case> {
    use Codec::{Aac, H264, H265, Opus};
    let table: [(&str, Format, &[Codec]); 8] = [
        ("flv", FLV, &[H264, H265, Aac, Opus]),
        ("rtmp", RTMP, &[H264, H265, Aac, Opus]),
        ("rtp", RTP, &[H264, H265, Aac, Opus]),
        ("rtp_interleaved", RTP_INTERLEAVED, &[H264, Aac]),
        ("ps", PS, &[H264, H265, Aac]),
        ("ts", TS, &[H264, H265, Aac, Opus]),
        ("fmp4", FMP4, &[H264, Aac]),
        ("fmp4_gop", FMP4_GOP, &[H264, Aac]),
    ];
    let of_format = |(name, format, codecs): (&str, Format, &[Codec])| {
        let case = |codec: &Codec| {
            let codec = *codec;
            Case::new(format!("mux_{name}/{}", codec.name().to_lowercase()), "frame", move || mux(format, codec))
        };
        codecs.iter().map(case).collect::<Vec<Case>>()
    };
    table.into_iter().flat_map(of_format).collect()
}

fn mux(format: Format, codec: Codec) -> Work {
    let (mut muxer, mut feed, mut packets) = (format.muxer(MuxerContext::default()), Feed::new(codec), Vec::new());
    muxer.push(&feed.announcement(), &mut packets);
    Work::group(move || {
        for _ in 0..GROUP {
            packets.clear();
            muxer.push(feed.next(), &mut packets);
            black_box(&packets);
        }
    })
}

/// What a viewer of the format gets for [`CALLS_PREPARED`] calls, with all that stands in front in the first.
pub fn packets(format: Format, codec: Codec) -> Vec<Vec<Packet>> {
    let (mut muxer, mut feed) = (format.muxer(MuxerContext::default()), Feed::new(codec));
    let mut begin = Vec::new();
    muxer.push(&feed.announcement(), &mut begin);
    let mut groups = vec![begin];
    for _ in 0..CALLS_PREPARED {
        let mut group = Vec::new();
        (0..GROUP).for_each(|_| muxer.push(feed.next(), &mut group));
        groups.push(group);
    }
    groups
}
