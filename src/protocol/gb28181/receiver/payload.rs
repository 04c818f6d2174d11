//! The payload of RTP packets of one source → media events, whatever it turns out to be.
//!
//! GB/T 28181 Annex C: a program stream (payload type 96, or whatever begins as one), or H.264, H.265, G.711 or (2022) AAC by themselves,
//! by payload type. Packets of a program stream are put in order first; it is told where frames end. Limits: those of `format::rtp` and
//! `format::ps`. Not here: whose packets are taken.

use bytes::Bytes;

use crate::format::ps::{Map, PsDemuxer};
use crate::format::rtp::demux::{DemuxOptions, Demuxed, OnLoss, Ordered, Place, Received, RtpDemuxer, Sequence};
use crate::format::rtp::payload::VIDEO_CLOCK_RATE;
use crate::format::rtp::{PayloadForm, RtpHeader, RtpPayload};
use crate::media::{Codec, Stamp, TrackKind};

const PS_PAYLOAD_TYPE: u8 = 96;
/// Of AAC by itself (2022): AAC-hbr of RFC 3640, `AAC/8000/1`. No SDP reaches the media, so all of it is AAC-LC, 8 kHz, mono.
const AAC_PAYLOAD_TYPE: u8 = 102;
const AAC_CONFIG: [u8; 2] = [0x15, 0x88];
const AAC_HBR: PayloadForm = PayloadForm::AacHbr { size_bits: 13, index_bits: 3, index_delta_bits: 3 };

/// What the payloads are.
enum Kind {
    Unknown,
    Ps(Box<PsDemuxer>),
    Elementary(Codec, Box<RtpDemuxer>),
}

pub struct Payloads {
    reorder_ms: Option<u64>,
    on_loss: OnLoss,
    kind: Kind,
    sequence: Sequence,
    /// The last packet was the end of a frame.
    at_end: bool,
    arrival: Stamp,
    /// Since this was asked for last.
    counts: Received,
}

impl Payloads {
    /// `reorder_ms`: how long a gap is waited for; `None`: packets come in order.
    pub fn new(reorder_ms: Option<u64>, on_loss: OnLoss) -> Self {
        Payloads {
            reorder_ms,
            on_loss,
            kind: Kind::Unknown,
            sequence: Sequence::new(reorder_ms),
            at_end: false,
            arrival: Stamp::ZERO,
            counts: Received::default(),
        }
    }

    pub fn is_unknown(&self) -> bool {
        matches!(self.kind, Kind::Unknown)
    }

    pub fn program_stream(&mut self) -> Option<&mut PsDemuxer> {
        match &mut self.kind {
            Kind::Ps(ps) => Some(ps),
            Kind::Unknown | Kind::Elementary(..) => None,
        }
    }

    pub fn map(&self) -> Option<Map> {
        match &self.kind {
            Kind::Ps(ps) => ps.map(),
            Kind::Unknown | Kind::Elementary(..) => None,
        }
    }

    /// Whether there are pictures, or signs of them.
    pub fn has_video(&self) -> bool {
        match &self.kind {
            Kind::Unknown => false,
            Kind::Ps(ps) => ps.has_video(),
            Kind::Elementary(codec, _) => codec.kind() == TrackKind::Video,
        }
    }

    /// Ticks of the timestamps in a second.
    pub fn clock_rate(&self) -> u32 {
        match &self.kind {
            Kind::Elementary(codec, _) if codec.kind() == TrackKind::Audio => 8_000,
            _ => VIDEO_CLOCK_RATE,
        }
    }

    /// Decides what the payloads are. `false`: nothing that is known.
    pub fn recognise(&mut self, payload_type: u8, payload: &[u8]) -> bool {
        let is_ps = payload.starts_with(&[0, 0, 1, 0xBA]);
        let (codec, form, clock_rate) = match payload_type {
            PS_PAYLOAD_TYPE => return self.set_ps(),
            _ if is_ps => return self.set_ps(),
            98 => (Codec::H264, PayloadForm::H264, VIDEO_CLOCK_RATE),
            // 100 by the standard of 2022, 99 by those who came before it.
            99 | 100 => (Codec::H265, PayloadForm::H265 { donl: false }, VIDEO_CLOCK_RATE),
            8 => (Codec::G711A, PayloadForm::G711, 8_000),
            0 => (Codec::G711U, PayloadForm::G711, 8_000),
            AAC_PAYLOAD_TYPE => (Codec::Aac, AAC_HBR, 8_000),
            _ => return false,
        };
        let config = if codec == Codec::Aac { Bytes::from_static(&AAC_CONFIG) } else { Bytes::new() };
        let payload = RtpPayload { payload_type, clock_rate, codec, form, channels: 1, config };
        let options = DemuxOptions { reorder_ms: self.reorder_ms, on_loss: self.on_loss, ssrc: 0 };
        self.kind = Kind::Elementary(codec, Box::new(RtpDemuxer::new(vec![payload], options)));
        true
    }

    fn set_ps(&mut self) -> bool {
        self.kind = Kind::Ps(Box::new(PsDemuxer::new(self.on_loss)));
        true
    }

    /// A packet of what was recognised. [`Place::Anew`]: its numbers have nothing to do with those before; it has not been taken.
    pub fn packet(&mut self, now: Stamp, header: &RtpHeader, packet: &[u8], out: &mut Vec<Demuxed>) -> Place {
        let Payloads { kind, sequence, at_end, arrival, counts, .. } = self;
        match kind {
            Kind::Unknown => Place::Outside,
            Kind::Elementary(_, demuxer) => {
                demuxer.rtp(now, 0, packet, out);
                Place::Outside
            }
            Kind::Ps(ps) => {
                let payload = &packet[header.payload.clone()];
                sequence.push(now, header, payload, counts, &mut |ordered| deliver(ordered, ps, at_end, arrival, out))
            }
        }
    }

    /// Gives out what waits behind gaps whose time has come.
    pub fn give_up_gaps(&mut self, now: Stamp, out: &mut Vec<Demuxed>) {
        let Payloads { kind, sequence, at_end, arrival, counts, .. } = self;
        match kind {
            Kind::Unknown => {}
            Kind::Ps(ps) => sequence.timeout(now, counts, &mut |ordered| deliver(ordered, ps, at_end, arrival, out)),
            Kind::Elementary(_, demuxer) => demuxer.timeout(now, out),
        }
    }

    /// Bytes are missing before the next packet.
    pub fn lost(&mut self, out: &mut Vec<Demuxed>) {
        if let Kind::Ps(ps) = &mut self.kind {
            ps.lost(out);
        }
    }

    /// What comes next follows nothing.
    pub fn reset_sequence(&mut self) {
        self.sequence.reset();
    }

    /// What comes next may be anything.
    pub fn restart(&mut self, out: &mut Vec<Demuxed>) {
        self.give_up_gaps(Stamp::MAX, out);
        self.counts = self.take_counts();
        self.sequence.reset();
        (self.kind, self.at_end) = (Kind::Unknown, false);
    }

    pub fn take_counts(&mut self) -> Received {
        let mut counts = std::mem::take(&mut self.counts);
        if let Kind::Elementary(_, demuxer) = &mut self.kind {
            add(&mut counts, demuxer.take_received());
        }
        counts
    }

    /// When [`Payloads::give_up_gaps`] is due.
    pub fn deadline(&self) -> Option<Stamp> {
        match &self.kind {
            Kind::Unknown => None,
            Kind::Ps(_) => self.sequence.deadline(),
            Kind::Elementary(_, demuxer) => demuxer.next_timeout(),
        }
    }

    pub fn held_bytes(&self) -> usize {
        let media = match &self.kind {
            Kind::Unknown => 0,
            Kind::Ps(ps) => ps.held_bytes(),
            Kind::Elementary(_, demuxer) => demuxer.held_bytes(),
        };
        self.sequence.held_bytes() + media
    }
}

fn deliver(ordered: Ordered<'_>, ps: &mut PsDemuxer, at_end: &mut bool, arrival: &mut Stamp, out: &mut Vec<Demuxed>) {
    match ordered {
        Ordered::Packet(header, payload, came) => {
            // Packets that came early have waited for the one that came late.
            *arrival = (*arrival).max(came);
            if std::mem::replace(at_end, header.marker) {
                ps.frame_begins(*arrival, payload, out);
            }
            ps.timestamp(header.timestamp);
            ps.push(*arrival, payload, out);
            if header.marker {
                ps.frame_end(*arrival, out);
            }
        }
        Ordered::Lost => ps.lost(out),
    }
}

pub fn add(sum: &mut Received, new: Received) {
    sum.received += new.received;
    sum.lost += new.lost;
    sum.reordered += new.reordered;
    sum.useless += new.useless;
}
