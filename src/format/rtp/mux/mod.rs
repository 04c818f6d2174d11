//! Media events → RTP packets and RTCP reports: one muxer for all viewers of a carriage on a shard.
//!
//! RFC 3550 §5.1 (RTP), §6 (RTCP), RFC 2326 §10.12 (interleaving). One [`Packet`] is one access unit as interleaved frames, or one
//! *train* of datagrams of equal size (the last may be shorter) for one `sendmsg`; a unit of unequal datagrams makes several trains.
//! Only the first packet of a key unit is a place to begin. Each unit is copied once, headers and all, into one buffer: a gathered write of many
//! small pieces costs more than the copy, and a train has to lie in one piece.
//!
//! Sender reports stand in the ring as its config, so every viewer gets them before its first packet; they are renewed with keyframes and
//! at least every [`REPORT_MS`]. All tracks share one map from media time to wall clock, taken from the first frame: that is what keeps
//! sound and picture together. When it is off, the picture makes it anew, or the sound where there is no picture: tracks may come
//! seconds apart. Reports are for a moment a little ahead, because GStreamer heeds none for a moment before the first packet
//! that it got of a track. At the end of the stream every track says goodbye.
//!
//! Limits: [`DATAGRAM_BYTES_MAX`], [`INTERLEAVED_BYTES_MAX`], [`TRAIN_DATAGRAMS_MAX`], [`TRAIN_BYTES_MAX`]. One video and one audio track are
//! sent, the first of each. Not here: who gets which track, and where.

mod audio;
mod nal;
mod single;
#[cfg(test)]
pub(in crate::format) mod tests;
mod video;
mod writer;

use bytes::{Bytes, BytesMut};
use smallvec::smallvec;

pub use self::single::{SingleMuxer, g711a};

use self::writer::{Lead, Writer};
use super::payload::{self, ticks_of_micros};
use super::rtcp::{SenderReport, ntp_of_nanos, write_bye, write_cname, write_sender_report};
use super::{Channels, Flow, PayloadForm, RtpCarriage, RtpPayload, Train};
use crate::format::{Muxer, MuxerContext, Packet, PacketKind};
use crate::media::{Frame, MediaEvent, MediaTime, Stamp, Track, TrackId, TrackKind, Tracks};

/// An RTP packet in a datagram: fits an Ethernet frame behind IPv6, a tunnel or two, and the headers of SRTP.
const DATAGRAM_BYTES_MAX: usize = 1_400;
/// An interleaved RTP packet. The length field would take 65,535, but widespread clients have buffers of 20,000 bytes.
const INTERLEAVED_BYTES_MAX: usize = 16_000;
/// What the kernel takes as one train (`UDP_MAX_SEGMENTS` of old kernels).
const TRAIN_DATAGRAMS_MAX: usize = 64;
const TRAIN_BYTES_MAX: usize = 65_000;
/// Between sender reports at most, on the clock of the arrivals.
const REPORT_MS: u64 = 5_000;
/// Between sender reports at least; and how far ahead of the frame behind it the moment of a report is.
const REPORT_MS_MIN: u64 = 500;
/// The map from media time to wall clock is made anew when media comes later than it says by more.
const LATE_NANOS_MAX: u64 = 1_000_000_000;
/// And when it comes earlier by more. Who publishes what was there before, as a relay does, sends some seconds at once: its clock is right.
const EARLY_NANOS_MAX: u64 = 30_000_000_000;

pub struct RtpMuxer {
    carriage: RtpCarriage,
    epoch_nanos: u64,
    video: Option<Sender>,
    audio: Option<Sender>,
    /// Of tracks that are still to come.
    random: fastrand::Rng,
    /// The audio packets are places to begin, although the stream has video: this carriage has none of it.
    audio_begins: bool,
    map: Option<WallMap>,
    reported: Stamp,
    report_due: bool,
}

/// One track on its way out.
struct Sender {
    track: TrackId,
    payload: RtpPayload,
    /// In front of every key unit.
    parameter_sets: Vec<Bytes>,
    ssrc: u32,
    sequence: u16,
    /// Of the timestamp of media time zero.
    timestamp_offset: u32,
    packets: u32,
    octets: u32,
}

/// Media time `media` was at the wall-clock time `wall_nanos`.
#[derive(Clone, Copy)]
struct WallMap {
    media: MediaTime,
    wall_nanos: u64,
}

impl WallMap {
    fn wall_nanos(&self, media: MediaTime) -> u64 {
        self.wall_nanos.saturating_add_signed(media.micros_since(self.media).saturating_mul(1000))
    }
}

impl RtpMuxer {
    pub fn new(carriage: RtpCarriage, context: MuxerContext) -> Self {
        RtpMuxer {
            carriage,
            epoch_nanos: context.epoch_nanos,
            video: None,
            audio: None,
            random: fastrand::Rng::with_seed(context.seed),
            audio_begins: false,
            map: None,
            reported: Stamp::ZERO,
            report_due: false,
        }
    }

    fn set_tracks(&mut self, tracks: &Tracks) {
        let (video, audio) = match self.carriage {
            RtpCarriage::Interleaved { video, audio } => (video.is_some(), audio.is_some()),
            RtpCarriage::Datagrams => (true, true),
        };
        let first = |kind, wanted: bool| tracks.first(kind).filter(|_| wanted);
        self.video = sender(first(TrackKind::Video, video), self.video.take(), &mut self.random);
        self.audio = sender(first(TrackKind::Audio, audio), self.audio.take(), &mut self.random);
        self.audio_begins = !video && tracks.has(TrackKind::Video);
        self.report_due = true;
    }

    fn frame(&mut self, frame: &Frame, out: &mut Vec<Packet>) {
        let kind = match (&self.video, &self.audio) {
            (Some(video), _) if video.track == frame.track => TrackKind::Video,
            (_, Some(audio)) if audio.track == frame.track => TrackKind::Audio,
            _ => return,
        };
        self.report_if_due(frame, out);
        let packet_kind = match kind {
            TrackKind::Video if frame.key => PacketKind::Key,
            TrackKind::Video => PacketKind::Delta,
            _ if self.audio_begins => PacketKind::Key,
            _ => PacketKind::Audio,
        };
        let (channel, bytes_max) = match self.carriage {
            RtpCarriage::Interleaved { video, audio } => {
                let channels = if kind == TrackKind::Video { video } else { audio };
                (channels.map(|channels| channels.rtp), INTERLEAVED_BYTES_MAX)
            }
            RtpCarriage::Datagrams => (None, DATAGRAM_BYTES_MAX),
        };
        let sender = if kind == TrackKind::Video { &mut self.video } else { &mut self.audio };
        let Some(sender) = sender else { return };
        let writer = sender.packetize(frame, channel, bytes_max);
        if channel.is_some() {
            if let Some(bytes) = writer.into_stream() {
                out.push(Packet::new(smallvec![bytes], packet_kind, frame.arrival, frame.dts));
            }
            return;
        }
        let mut packet_kind = packet_kind;
        for (bytes, datagram_bytes) in writer.into_trains(TRAIN_DATAGRAMS_MAX, TRAIN_BYTES_MAX) {
            let mut packet = Packet::new(smallvec![bytes], packet_kind, frame.arrival, frame.dts);
            packet.train = Some(Train { flow: Flow::Media(kind), datagram_bytes });
            out.push(packet);
            if packet_kind == PacketKind::Key {
                packet_kind = if kind == TrackKind::Video { PacketKind::Delta } else { PacketKind::Audio };
            }
        }
    }

    fn report_if_due(&mut self, frame: &Frame, out: &mut Vec<Packet>) {
        let wall_nanos = self.epoch_nanos.saturating_add(frame.arrival.as_nanos());
        let is_off = |map: &WallMap| {
            let due = map.wall_nanos(frame.dts);
            wall_nanos.saturating_sub(due) > LATE_NANOS_MAX || due.saturating_sub(wall_nanos) > EARLY_NANOS_MAX
        };
        let is_video = self.video.as_ref().is_some_and(|video| video.track == frame.track);
        let leads = is_video || self.video.is_none();
        let age_ms = frame.arrival.millis_since(self.reported);
        if self.map.as_ref().is_none_or(|map| leads && age_ms >= REPORT_MS_MIN && is_off(map)) {
            self.map = Some(WallMap { media: frame.dts, wall_nanos });
            self.report_due = true;
        }
        let begins = frame.key && is_video;
        if self.report_due || age_ms >= REPORT_MS || (begins && age_ms >= REPORT_MS_MIN) {
            self.report_due = false;
            self.reported = frame.arrival;
            let moment = frame.dts.offset(i64::from(frame.cts) + REPORT_MS_MIN as i64 * 1000);
            out.push(self.reports(moment, false, PacketKind::Config));
        }
    }

    /// The reports of all tracks for the moment `media`, as one packet.
    fn reports(&self, media: MediaTime, bye: bool, kind: PacketKind) -> Packet {
        let ntp = ntp_of_nanos(self.map.map_or(0, |map| map.wall_nanos(media)));
        let (video_channels, audio_channels) = match self.carriage {
            RtpCarriage::Interleaved { video, audio } => (video, audio),
            RtpCarriage::Datagrams => (None, None),
        };
        let compound = |sender: Option<&Sender>, channels: Option<Channels>| {
            sender.map_or_else(Bytes::new, |sender| sender.compound(ntp, media, channels, bye))
        };
        let video = compound(self.video.as_ref(), video_channels);
        let audio = compound(self.audio.as_ref(), audio_channels);
        let mut packet = Packet::new(smallvec![video, audio], kind, Stamp::ZERO, media);
        if self.carriage == RtpCarriage::Datagrams {
            packet.train = Some(Train { flow: Flow::Reports, datagram_bytes: std::num::NonZeroU16::MAX });
        }
        packet
    }
}

/// The sender for a track; one that is there goes on, with its numbers.
fn sender(track: Option<&Track>, old: Option<Sender>, random: &mut fastrand::Rng) -> Option<Sender> {
    let track = track?;
    let payload = payload::outgoing(track)?;
    let parameter_sets = track.parameter_sets();
    let track = track.id;
    Some(match old {
        Some(old) if old.payload.clock_rate == payload.clock_rate => Sender { track, payload, parameter_sets, ..old },
        _ => Sender {
            track,
            payload,
            parameter_sets,
            ssrc: random.u32(..),
            sequence: random.u16(..),
            timestamp_offset: random.u32(..),
            packets: 0,
            octets: 0,
        },
    })
}

impl Sender {
    fn timestamp(&self, media: MediaTime) -> u32 {
        // The timestamp wraps, so the lower bits are all there is.
        self.timestamp_offset.wrapping_add(ticks_of_micros(media.as_micros(), self.payload.clock_rate) as u32)
    }

    fn packetize(&mut self, frame: &Frame, channel: Option<u8>, bytes_max: usize) -> Writer {
        let timestamp = self.timestamp(frame.dts.offset(frame.cts.into()));
        let (payload_type, ssrc, sequence) = (self.payload.payload_type, self.ssrc, self.sequence);
        let lead = channel.map_or(Lead::None, Lead::Channel);
        let mut writer = Writer::new(payload_type, ssrc, sequence, timestamp, lead, bytes_max, frame.data.len());
        let sets: &[Bytes] = if frame.key { &self.parameter_sets } else { &[] };
        match self.payload.form {
            PayloadForm::H264 => nal::h264(sets, &frame.data, &mut writer),
            PayloadForm::H265 { .. } => nal::h265(sets, &frame.data, &mut writer),
            PayloadForm::AacHbr { .. } | PayloadForm::Latm { .. } => audio::aac_hbr(&frame.data, &mut writer),
            PayloadForm::Opus => audio::whole(&frame.data, &mut writer),
            PayloadForm::Mpa => audio::mpa(&frame.data, &mut writer),
            PayloadForm::G711 => audio::g711(&frame.data, self.payload.channels, &mut writer),
            PayloadForm::Av1 => video::av1(&frame.data, frame.key, &mut writer),
            PayloadForm::Vp8 => video::vp8(&frame.data, &mut writer),
            PayloadForm::Vp9 => video::vp9(&frame.data, frame.key, &mut writer),
        }
        let (packets, octets) = writer.counts();
        self.sequence = self.sequence.wrapping_add(packets as u16);
        self.packets = self.packets.wrapping_add(packets);
        self.octets = self.octets.wrapping_add(octets);
        writer
    }

    fn compound(&self, ntp: u64, media: MediaTime, channels: Option<Channels>, bye: bool) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        if let Some(channels) = channels {
            out.extend_from_slice(&[b'$', channels.rtcp, 0, 0]);
        }
        let report = SenderReport {
            ssrc: self.ssrc,
            ntp,
            rtp_timestamp: self.timestamp(media),
            packets: self.packets,
            octets: self.octets,
        };
        write_sender_report(&mut out, &report);
        write_cname(&mut out, self.ssrc);
        if bye {
            write_bye(&mut out, self.ssrc);
        }
        if channels.is_some() {
            let length = (out.len() - 4) as u16;
            out[2..4].copy_from_slice(&length.to_be_bytes());
        }
        out.freeze()
    }
}

impl Muxer for RtpMuxer {
    fn push(&mut self, event: &MediaEvent, out: &mut Vec<Packet>) {
        match event {
            MediaEvent::Tracks(tracks) => self.set_tracks(tracks),
            MediaEvent::Frame(frame) => self.frame(frame, out),
            MediaEvent::End => {
                if let Some(map) = self.map {
                    // Who is told of the end needs no clock any more: any moment will do. Not a config, which is for newcomers.
                    out.push(self.reports(map.media, true, PacketKind::Delta));
                }
            }
        }
    }

    fn head(&self) -> Option<Bytes> {
        None
    }
}
