//! RTP and RTCP of a publisher's tracks → media events on one timeline.
//!
//! RFC 3550. Per track: header → source → order ([`reorder`]) → access units ([`super::depacketize`]) → time ([`clock`],
//! [`decoding_time`]). A source that changes is followed once two packets in a row, or any behind half a second of silence or a goodbye,
//! come from the new one: a stray packet kills nothing. What came before a change is given out first. Tracks are announced when their decoder configuration is known, each without waiting for the
//! others. Not here: sockets, addresses, when reports are sent.

mod clock;
mod decoding_time;
mod reorder;
mod statistics;
#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};

use self::clock::Clocks;
use self::decoding_time::DecodingTimes;
pub use self::reorder::{HELD_BYTES_MAX, Ordered, Place, Sequence};
pub use self::statistics::Statistics;

use super::depacketize::{AccessUnit, Depacketized, Depacketizer, Piece};
use super::rtcp::{self, Report};
use super::{RtpHeader, RtpPayload};
use crate::media::aac::AacConfig;
use crate::media::h264::{self, AvcConfig};
use crate::media::h265::{self, HevcConfig};
use crate::media::opus::OpusHead;
use crate::media::{Codec, Discard, Frame, MediaEvent, MediaTime, Stamp, Track, TrackId, TrackKind, TrackShape, Tracks, mp3};

/// A source silent for so long may be replaced by any other.
const SOURCE_SILENT_MS: u64 = 500;

/// What becomes of video behind a loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLoss {
    /// Every complete frame goes on, though it may refer to one that is missing.
    #[default]
    Pass,
    /// Nothing goes on until the next keyframe.
    DropGop,
}

#[derive(Clone, Copy, Debug)]
pub struct DemuxOptions {
    /// How long a gap in the sequence is waited for; `None`: the transport keeps the order.
    pub reorder_ms: Option<u64>,
    pub on_loss: OnLoss,
    /// Our own SSRC in receiver reports.
    pub ssrc: u32,
}

/// Counts since the last time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Received {
    pub received: u64,
    /// Given up after the reorder window.
    pub lost: u64,
    /// Came after a later one, but in time.
    pub reordered: u64,
    /// Came twice, or too late.
    pub useless: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Demuxed {
    Event(MediaEvent),
    Discarded(Discard),
}

pub struct RtpDemuxer {
    tracks: Vec<TrackState>,
    clocks: Clocks,
    options: DemuxOptions,
    received: Received,
    announced: Tracks,
    units: Vec<Depacketized>,
}

/// Where a packet comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Known,
    Another,
    Stray,
}

/// One track.
struct TrackState {
    payload: RtpPayload,
    depacketizer: Depacketizer,
    sequence: Sequence,
    statistics: Statistics,
    decoding: DecodingTimes,
    config: Bytes,
    shape: TrackShape,
    ssrc: Option<u32>,
    /// A source that would take over with its next packet.
    other_ssrc: Option<u32>,
    /// The source has said goodbye: any other may take over.
    is_over: bool,
    last_packet: Stamp,
    /// Something is missing; with `on_loss: drop_gop` nothing goes on until a key.
    after_loss: bool,
}

impl RtpDemuxer {
    /// A track's index here is its [`TrackId`].
    pub fn new(tracks: Vec<RtpPayload>, options: DemuxOptions) -> Self {
        let picture = tracks.iter().position(|payload| payload.codec.kind() == TrackKind::Video);
        let clocks = Clocks::new(tracks.iter().map(|payload| payload.clock_rate), picture.unwrap_or(0));
        let tracks = tracks.into_iter().map(|payload| TrackState::new(payload, options.reorder_ms)).collect();
        RtpDemuxer { tracks, clocks, options, received: Received::default(), announced: Tracks::default(), units: Vec::new() }
    }

    /// Bytes of access units that are not complete, and of packets behind a gap.
    pub fn held_bytes(&self) -> usize {
        self.tracks.iter().map(|track| track.sequence.held_bytes() + track.depacketizer.held_bytes()).sum()
    }

    /// Takes one RTP packet of a track; RTCP too, told by its type.
    pub fn rtp(&mut self, now: Stamp, track: usize, packet: &[u8], out: &mut Vec<Demuxed>) {
        if rtcp::is_rtcp(packet) {
            return self.rtcp(now, track, packet);
        }
        let Some(state) = self.tracks.get_mut(track) else { return };
        let header = match RtpHeader::parse(packet) {
            Ok(header) if header.payload_type == state.payload.payload_type => header,
            _ => {
                self.received.useless += 1;
                return;
            }
        };
        match state.source(now, header.ssrc) {
            Source::Known => {}
            Source::Another => self.restart(track, out),
            Source::Stray => {
                self.received.useless += 1;
                return;
            }
        }
        let payload = &packet[header.payload.clone()];
        let mut place = self.order(now, track, &header, payload);
        if place == Place::Anew {
            self.restart(track, out);
            place = self.order(now, track, &header, payload);
        }
        let state = &mut self.tracks[track];
        state.last_packet = now;
        if place == Place::Inside {
            state.statistics.packet(now, header.sequence, header.timestamp, state.payload.clock_rate);
        }
        self.settle(track, out);
    }

    fn order(&mut self, now: Stamp, track: usize, header: &RtpHeader, payload: &[u8]) -> Place {
        let TrackState { depacketizer, sequence, .. } = &mut self.tracks[track];
        let (clock, units) = (&mut self.clocks.tracks[track], &mut self.units);
        sequence.push(now, header, payload, &mut self.received, &mut |ordered| deliver(ordered, depacketizer, clock, units))
    }

    /// Another source, or one whose numbers begin anew: what follows has nothing to do with what came before, which is given out.
    fn restart(&mut self, track: usize, out: &mut Vec<Demuxed>) {
        let TrackState { depacketizer, sequence, .. } = &mut self.tracks[track];
        let (clock, units) = (&mut self.clocks.tracks[track], &mut self.units);
        sequence.release(&mut self.received, &mut |ordered| deliver(ordered, depacketizer, clock, units));
        self.settle(track, out);
        self.clocks.tracks[track].restart();
        self.tracks[track].restart();
    }

    /// Takes one compound RTCP packet of a track.
    pub fn rtcp(&mut self, now: Stamp, track: usize, compound: &[u8]) {
        let (Some(state), clocks) = (self.tracks.get_mut(track), &mut self.clocks) else { return };
        let result = rtcp::parse(compound, |report| match report {
            Report::Sender(report) if state.ssrc.is_none_or(|ssrc| ssrc == report.ssrc) => {
                state.statistics.sender_report(now, &report);
                clocks.report(track, &report);
            }
            // Its source may go on under another number; when a stream ends, the session says.
            Report::Bye { ssrc } => state.is_over |= state.ssrc == Some(ssrc),
            _ => {}
        });
        if result.is_err() {
            self.received.useless += 1;
        }
    }

    /// Gives up gaps whose time has passed.
    pub fn timeout(&mut self, now: Stamp, out: &mut Vec<Demuxed>) {
        for track in 0..self.tracks.len() {
            let state = &mut self.tracks[track];
            let TrackState { depacketizer, sequence, .. } = state;
            let (clock, units) = (&mut self.clocks.tracks[track], &mut self.units);
            sequence.timeout(now, &mut self.received, &mut |ordered| deliver(ordered, depacketizer, clock, units));
            self.settle(track, out);
        }
    }

    /// When [`RtpDemuxer::timeout`] is needed next.
    pub fn next_timeout(&self) -> Option<Stamp> {
        self.tracks.iter().filter_map(|track| track.sequence.deadline()).min()
    }

    /// The SSRC that a track's packets come from; `None`: none has come.
    pub fn ssrc(&self, track: usize) -> Option<u32> {
        self.tracks.get(track)?.ssrc
    }

    /// A compound receiver report for a track, for now; `None`: nothing has come yet.
    pub fn receiver_report(&mut self, now: Stamp, track: usize) -> Option<Bytes> {
        let state = self.tracks.get_mut(track)?;
        let block = state.statistics.block(now, state.ssrc?)?;
        let mut out = BytesMut::with_capacity(64);
        rtcp::write_receiver_report(&mut out, self.options.ssrc, &block);
        rtcp::write_cname(&mut out, self.options.ssrc);
        Some(out.freeze())
    }

    pub fn take_received(&mut self) -> Received {
        std::mem::take(&mut self.received)
    }

    /// Turns what the depacketizer gave into events.
    fn settle(&mut self, track: usize, out: &mut Vec<Demuxed>) {
        let mut units = std::mem::take(&mut self.units);
        for unit in units.drain(..) {
            match unit {
                Depacketized::Config(config) => self.tracks[track].set_config(config),
                Depacketized::Discarded(discard) => {
                    self.tracks[track].after_loss |= discard == Discard::Incomplete;
                    out.push(Demuxed::Discarded(discard));
                }
                Depacketized::Lost => self.tracks[track].after_loss = true,
                Depacketized::Unit(unit) => self.unit(track, unit, out),
            }
        }
        self.units = units;
    }

    fn unit(&mut self, track: usize, unit: AccessUnit, out: &mut Vec<Demuxed>) {
        let state = &mut self.tracks[track];
        let is_video = state.payload.codec.kind() == TrackKind::Video;
        if state.payload.codec.needs_config() && state.config.is_empty() {
            return out.push(Demuxed::Discarded(Discard::NoConfig));
        }
        state.after_loss &= !unit.key;
        if is_video && state.after_loss && self.options.on_loss == OnLoss::DropGop {
            return out.push(Demuxed::Discarded(Discard::AfterLoss));
        }
        if state.payload.codec == Codec::Mp3 && state.shape == UNKNOWN_SOUND {
            state.shape = mp3::shape(&unit.data).unwrap_or(UNKNOWN_SOUND);
        }
        self.announce(out);
        let decoding_times = &mut self.tracks[track].decoding;
        let presentation = self.clocks.place(track, unit.timestamp, unit.arrival, decoding_times.reordering_micros_max());
        let decoding = if is_video { decoding_times.next(presentation) } else { presentation };
        out.push(Demuxed::Event(MediaEvent::Frame(Frame {
            data: unit.data,
            arrival: unit.arrival,
            dts: MediaTime::from_micros(decoding),
            cts: i32::try_from(presentation - decoding).unwrap_or(0),
            segment: 0,
            track: TrackId(track as u8),
            key: unit.key,
        })));
    }

    fn announce(&mut self, out: &mut Vec<Demuxed>) {
        let known = |(_, state): &(usize, &TrackState)| !state.payload.codec.needs_config() || !state.config.is_empty();
        let track = |(at, state): (usize, &TrackState)| Track {
            id: TrackId(at as u8),
            codec: state.payload.codec,
            config: state.config.clone(),
            shape: state.shape,
        };
        let is_same = |(known, state): (&Track, (usize, &TrackState))| {
            usize::from(known.id.0) == state.0 && known.config == state.1.config && known.shape == state.1.shape
        };
        let present = || self.tracks.iter().enumerate().filter(known);
        if present().count() == self.announced.len() && self.announced.iter().zip(present()).all(is_same) {
            return;
        }
        self.announced = Tracks::new(present().map(track).collect(), Bytes::new());
        out.push(Demuxed::Event(MediaEvent::Tracks(self.announced.clone())));
    }
}

const UNKNOWN_SOUND: TrackShape = TrackShape::Audio { sample_rate: 0, channels: 0 };

impl TrackState {
    fn new(payload: RtpPayload, reorder_ms: Option<u64>) -> Self {
        let mut state = TrackState {
            depacketizer: Depacketizer::new(&payload),
            sequence: Sequence::new(reorder_ms),
            statistics: Statistics::default(),
            decoding: DecodingTimes::new(reorder_depth(payload.codec, &Bytes::new()), 0.0),
            config: Bytes::new(),
            shape: UNKNOWN_SOUND,
            ssrc: None,
            other_ssrc: None,
            is_over: false,
            last_packet: Stamp::ZERO,
            after_loss: false,
            payload,
        };
        state.set_config(state.payload.config.clone());
        state
    }

    fn set_config(&mut self, config: Bytes) {
        let unknown_picture = TrackShape::Video { width: 0, height: 0, frames_per_second: 0.0 };
        let RtpPayload { codec, clock_rate, channels, .. } = self.payload;
        self.shape = match codec {
            Codec::H264 => AvcConfig::parse(&config).map_or(unknown_picture, |config| config.shape()),
            Codec::H265 => HevcConfig::parse(&config).map_or(unknown_picture, |config| config.shape()),
            Codec::Aac => AacConfig::parse(&config).map_or(UNKNOWN_SOUND, |config| config.shape()),
            Codec::Opus => OpusHead::parse(&config).map_or(UNKNOWN_SOUND, |head| head.shape()),
            Codec::G711A | Codec::G711U => TrackShape::Audio { sample_rate: clock_rate, channels: channels.max(1) },
            Codec::Mp3 | Codec::Script => UNKNOWN_SOUND,
            Codec::Av1 | Codec::Vp8 | Codec::Vp9 => unknown_picture,
        };
        let frames_per_second = match self.shape {
            TrackShape::Video { frames_per_second, .. } => frames_per_second,
            _ => 0.0,
        };
        if config != self.config {
            self.decoding.configure(reorder_depth(codec, &config), frames_per_second);
        }
        self.config = config;
    }

    /// What a packet's source is; another one that takes over is the known one from here on.
    fn source(&mut self, now: Stamp, ssrc: u32) -> Source {
        let Some(known) = self.ssrc else {
            self.ssrc = Some(ssrc);
            return Source::Known;
        };
        if known == ssrc {
            (self.other_ssrc, self.is_over) = (None, false);
            return Source::Known;
        }
        let is_silent = self.is_over || now.millis_since(self.last_packet) > SOURCE_SILENT_MS;
        if !is_silent && self.other_ssrc != Some(ssrc) {
            self.other_ssrc = Some(ssrc);
            return Source::Stray;
        }
        (self.ssrc, self.other_ssrc, self.is_over) = (Some(ssrc), None, false);
        Source::Another
    }

    fn restart(&mut self) {
        self.sequence.reset();
        self.statistics = Statistics::default();
        self.depacketizer.restart();
        self.decoding.restart();
        self.after_loss = true;
    }
}

/// Pictures of reordering, as far as the sequence parameter set says.
fn reorder_depth(codec: Codec, config: &Bytes) -> Option<u8> {
    match codec {
        Codec::H264 => h264::Sps::parse(AvcConfig::parse(config).ok()?.sps.first()?)?.reorder_frames,
        Codec::H265 => h265::Sps::parse(HevcConfig::parse(config).ok()?.sps.first()?)?.reorder_pictures,
        _ => Some(0),
    }
}

fn deliver(ordered: Ordered<'_>, depacketizer: &mut Depacketizer, clock: &mut clock::TrackClock, units: &mut Vec<Depacketized>) {
    match ordered {
        Ordered::Packet(header, payload, arrival) => {
            let timestamp = clock.unwrap(header.timestamp);
            depacketizer.push(Piece { payload, timestamp, marker: header.marker, arrival }, units);
        }
        Ordered::Lost => depacketizer.lost(units),
    }
}
