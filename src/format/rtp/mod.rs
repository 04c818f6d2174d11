//! RTP (RFC 3550) and its payload formats, both ways, and RTCP.
//!
//! In: `header` reads one packet, [`demux`] orders packets and maps clocks, [`depacketize`] makes access units. Out: [`mux`], see
//! [`RtpCarriage`] and [`RtpSource`]. [`RtpPayload`] says how a track's media stands in the payloads; it comes from a session description, or is our
//! choice ([`payload::outgoing`]). Not here: SDP, sockets, who sends to whom.

pub mod demux;
pub mod depacketize;
pub mod framing;
mod header;
pub mod mux;
mod nal_packets;
mod obu;
pub mod payload;
pub mod rtcp;
pub mod start;

use std::num::NonZeroU16;

use bytes::Bytes;

pub use header::{RtpHeader, RtpHeaderError};

use crate::media::{Codec, TrackKind};

/// How one track's media stands in RTP packets.
#[derive(Clone, Debug, PartialEq)]
pub struct RtpPayload {
    /// 0 to 127.
    pub payload_type: u8,
    /// Ticks of the timestamp per second.
    pub clock_rate: u32,
    pub codec: Codec,
    pub form: PayloadForm,
    /// Of audio; 0: not said.
    pub channels: u8,
    /// `Track::config` as far as it is known from outside the packets, in its canonical form; else empty.
    pub config: Bytes,
}

/// The payload format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadForm {
    /// RFC 6184, packetization mode 0 or 1.
    H264,
    /// RFC 7798. With `donl` each NAL unit has a decoding order number (`sprop-max-don-diff` > 0).
    H265 { donl: bool },
    /// RFC 3640, mode AAC-hbr or like it: the widths of the fields of an AU header, in bits.
    AacHbr { size_bits: u8, index_bits: u8, index_delta_bits: u8 },
    /// RFC 6416. With `config_in_band` (`cpresent=1`, the default of the RFC) each unit may carry its `StreamMuxConfig`.
    Latm { config_in_band: bool },
    /// RFC 7587.
    Opus,
    /// RFC 2250 §3.5: MPEG audio behind a 4-byte header.
    Mpa,
    /// RFC 3551 §4.5.14.
    G711,
    /// AOMedia "RTP Payload Format For AV1".
    Av1,
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
}

/// How RTP packets travel to a viewer. Viewers with equal carriages share one muxer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RtpCarriage {
    /// Behind `$`, channel and length on the RTSP connection (RFC 2326 §10.12). `None`: that track is not wanted.
    Interleaved { video: Option<Channels>, audio: Option<Channels> },
    /// As datagrams; who gets which flow is the viewer's business.
    Datagrams,
}

/// The interleaved channels of one track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Channels {
    pub rtp: u8,
    pub rtcp: u8,
}

impl RtpCarriage {
    /// Whether the channels are numbers that a client has made up: not those that nearly all ask for.
    pub fn is_made_up(self) -> bool {
        const USUAL: [Channels; 2] = [Channels { rtp: 0, rtcp: 1 }, Channels { rtp: 2, rtcp: 3 }];
        match self {
            RtpCarriage::Interleaved { video, audio } => {
                [video, audio].iter().flatten().any(|channels| !USUAL.contains(channels))
            }
            RtpCarriage::Datagrams => false,
        }
    }
}

/// All of a stream in the packets of one source, without reports. Viewers with equal sources share one muxer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RtpSource {
    pub content: SourceContent,
    pub ssrc: u32,
    pub payload_type: u8,
    /// On a connection, each packet behind its length (RFC 4571); else as datagrams.
    pub framed: bool,
}

/// What the packets of an [`RtpSource`] hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceContent {
    /// A program stream (GB/T 28181 Annex C, RFC 2250 §2). All datagrams are of the flow of video.
    Ps,
    /// The sound alone, which has to be G.711 A-law (RFC 3551 §4.5.14). All datagrams are of the flow of audio.
    G711A,
}

/// What a packet that travels as datagrams holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flow {
    /// RTP of the track of this kind: all parts together are one train.
    Media(TrackKind),
    /// RTCP: the first part belongs to the video track, the second to the audio track, each one datagram. An empty part is not sent.
    Reports,
}

/// Set on a packet that travels as datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Train {
    pub flow: Flow,
    /// Bytes of each datagram of a media train, for one `sendmsg` with `UDP_SEGMENT`; the last one may be shorter.
    pub datagram_bytes: NonZeroU16,
}

/// Where a viewer's RTP begins, per track: for `RTP-Info`, see [`start`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RtpStart {
    pub video: Option<RtpPoint>,
    pub audio: Option<RtpPoint>,
}

/// Where one track begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPoint {
    /// Of the first packet.
    pub sequence: u16,
    /// Of the moment at which all tracks together begin.
    pub timestamp: u32,
}
