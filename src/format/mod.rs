//! Bytes to media events and back: containers and wire framings, without sockets and sessions.
//!
//! A [`Muxer`] turns the events of a stream into [`Packet`]s once; every viewer of that format on the shard sends the same packets.

pub mod amf0;
mod amf3;
pub mod audio_mux;
pub mod envelope;
pub mod flv;
pub mod flv_mux;
pub mod mp4;
pub mod pes;
pub mod ps;
pub mod rtmp_chunk;
pub mod rtp;
pub mod ts;
pub mod websocket;

use bytes::Bytes;
use smallvec::SmallVec;

pub use audio_mux::AudioForm;
pub use envelope::Envelope;

use crate::media::{MediaEvent, MediaTime, Stamp, Tracks};

/// What a packet is for a viewer that wants to begin, skip or catch up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    /// Everything a decoder needs before the frames that follow; replaces all earlier configs.
    Config,
    /// A video frame at which decoding may begin.
    Key,
    /// A video frame that needs earlier ones.
    Delta,
    /// Audio or data: of use by itself, but no place to begin while the stream has video.
    Audio,
}

/// One serialised unit that is sent whole or not at all. Cloning shares the bytes.
#[derive(Clone, Debug)]
pub struct Packet {
    pub parts: SmallVec<[Bytes; 3]>,
    /// Sum of the lengths of `parts`.
    pub len: usize,
    /// What of that is the frame's own memory, which the packets of other formats share.
    pub shared: usize,
    /// Of the frame inside; [`Stamp::ZERO`] for what is none and so never late: configs and goodbyes.
    pub arrival: Stamp,
    pub dts: MediaTime,
    pub kind: PacketKind,
    /// `None`: part of a byte stream.
    pub train: Option<rtp::Train>,
}

impl Packet {
    pub fn new(parts: SmallVec<[Bytes; 3]>, kind: PacketKind, arrival: Stamp, dts: MediaTime) -> Self {
        let len = parts.iter().map(Bytes::len).sum();
        Packet { parts, len, shared: 0, arrival, dts, kind, train: None }
    }

    /// With the parts that are slices of `body`, a frame's memory, told from those that are copies.
    pub fn sharing(mut self, body: &Bytes) -> Self {
        let memory = body.as_ptr_range();
        self.shared = self.parts.iter().filter(|part| memory.contains(&part.as_ptr())).map(Bytes::len).sum();
        self
    }
}

/// Turns the events of one stream into packets of one format. Serves any number of viewers.
pub trait Muxer {
    /// Appends the packets that `event` makes. A change of tracks makes one packet of kind `Config`.
    fn push(&mut self, event: &MediaEvent, out: &mut Vec<Packet>);

    /// What stands before the first config for each viewer that begins now (a file header); `None` if the format has no such thing.
    fn head(&self) -> Option<Bytes>;

    /// Bytes of frames that it keeps until a packet is complete.
    fn held_bytes(&self) -> usize {
        0
    }

    /// Lets go of them.
    fn forget(&mut self) {}
}

/// How H.265 is written in FLV-like formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HevcForm {
    /// Enhanced RTMP, FourCC `hvc1`.
    #[default]
    Enhanced,
    /// The older private codec id 12.
    Legacy,
}

/// Names one way of serialising a stream. Viewers with equal formats share one muxer and one ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// FLV tags behind an FLV header.
    Flv { hevc: HevcForm, envelope: Envelope },
    /// Fragmented MP4.
    Fmp4 { fragments: mp4::FragmentMode, envelope: Envelope },
    /// RTMP messages on the given message stream, cut into chunks of [`rtmp_chunk::OUT_CHUNK_SIZE`].
    Rtmp { hevc: HevcForm, message_stream: u32 },
    /// RTP packets and RTCP reports.
    Rtp(rtp::RtpCarriage),
    /// RTP packets of one source with all of the stream in them.
    Single(rtp::RtpSource),
    /// Packets of an MPEG-2 transport stream.
    Ts { envelope: Envelope },
    /// The sound alone, as it is or behind ADTS.
    Audio { form: AudioForm, envelope: Envelope },
}

/// What a muxer needs to know of the world, which it cannot see.
#[derive(Clone, Copy, Debug, Default)]
pub struct MuxerContext {
    /// Wall-clock time of [`Stamp::ZERO`], in nanoseconds since 1970.
    pub epoch_nanos: u64,
    /// Different for every muxer: for numbers that are to begin anywhere.
    pub seed: u64,
}

impl Format {
    /// Whether it is one of very many, with numbers that a client has made up: a stream serves few of those at a time.
    pub fn is_made_up(self) -> bool {
        matches!(self, Format::Rtp(carriage) if carriage.is_made_up())
    }

    /// What of a stream's sound and picture a viewer may get in this format. Without picture every packet is a place to begin; without both the
    /// stream is not to be had so.
    pub fn carried(self, tracks: &Tracks) -> Tracks {
        match self {
            Format::Flv { .. } | Format::Rtmp { .. } | Format::Rtp(_) | Format::Single(_) => tracks.clone(),
            Format::Fmp4 { .. } => {
                let writer = mp4::FragmentWriter::new(tracks);
                tracks.only(|track| writer.as_ref().is_some_and(|writer| writer.carries(track.id)))
            }
            Format::Ts { .. } => tracks.only(ts::write::carries),
            Format::Audio { form, .. } => tracks.only(|track| form.carries(track)),
        }
    }

    pub fn muxer(self, context: MuxerContext) -> Box<dyn Muxer> {
        match self {
            Format::Flv { hevc, envelope } => Box::new(flv_mux::FlvMuxer::new(hevc, envelope)),
            Format::Fmp4 { fragments, envelope } => Box::new(mp4::Fmp4Muxer::new(fragments, envelope)),
            Format::Rtmp { hevc, message_stream } => Box::new(rtmp_chunk::RtmpMuxer::new(hevc, message_stream)),
            Format::Rtp(carriage) => Box::new(rtp::mux::RtpMuxer::new(carriage, context)),
            Format::Single(source) => Box::new(rtp::mux::SingleMuxer::new(source, context)),
            Format::Ts { envelope } => Box::new(ts::mux::TsMuxer::new(envelope)),
            Format::Audio { form, envelope } => Box::new(audio_mux::AudioMuxer::new(form, envelope)),
        }
    }

    /// Where the media of a viewer begins that gets `config` and then `packets` of this format; `None`: viewers need not be told.
    pub fn start<'a>(
        self,
        tracks: &Tracks,
        config: Option<&Packet>,
        packets: impl Iterator<Item = &'a Packet>,
    ) -> Option<rtp::RtpStart> {
        match self {
            Format::Flv { .. } | Format::Fmp4 { .. } | Format::Rtmp { .. } | Format::Single(_) => None,
            Format::Ts { .. } | Format::Audio { .. } => None,
            Format::Rtp(carriage) => Some(rtp::start::start_of(config, packets, carriage, rtp::start::clock_rates(tracks))),
        }
    }
}
