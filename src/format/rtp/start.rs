//! Where a viewer's RTP begins, for `RTP-Info` (RFC 2326 §12.33): the sequence number of each track's first packet, and the timestamp of
//! one moment in each track's clock. The moment is that of the earliest first packet: players take the timestamps of all tracks as the
//! same point of the presentation.

use super::payload::{self, micros_of_ticks, ticks_of_micros};
use super::rtcp::{self, Report};
use super::{Flow, RtpCarriage, RtpHeader, RtpPoint, RtpStart};
use crate::format::Packet;
use crate::media::{TrackKind, Tracks};

/// Reads the first RTP header of each track out of packets that a [`super::mux::RtpMuxer`] of this carriage has made. `reports`: its sender
/// reports that go out before them; `clock_rates`: those of video and audio.
pub fn start_of<'a>(
    reports: Option<&Packet>,
    packets: impl Iterator<Item = &'a Packet>,
    carriage: RtpCarriage,
    clock_rates: [u32; 2],
) -> RtpStart {
    let mut start = RtpStart::default();
    let wanted = match carriage {
        RtpCarriage::Interleaved { video, audio } => [video.is_some(), audio.is_some()],
        RtpCarriage::Datagrams => [true, true],
    };
    for packet in packets {
        if let Some((kind, point)) = first_point(packet, carriage) {
            let place = if kind == TrackKind::Video { &mut start.video } else { &mut start.audio };
            place.get_or_insert(point);
        }
        if [start.video.is_some(), start.audio.is_some()] == wanted {
            break;
        }
    }
    if let Some(reports) = reports {
        to_one_moment(&mut start, reports, carriage, clock_rates);
    }
    start
}

/// Those with which a muxer sends video and audio; 0: there is none of that.
pub fn clock_rates(tracks: &Tracks) -> [u32; 2] {
    [TrackKind::Video, TrackKind::Audio].map(|kind| {
        let payload = tracks.first(kind).and_then(payload::outgoing);
        payload.map_or(0, |payload| payload.clock_rate)
    })
}

/// The reports of all tracks are for one moment: that is what the tracks' clocks are compared by.
fn to_one_moment(start: &mut RtpStart, reports: &Packet, carriage: RtpCarriage, clock_rates: [u32; 2]) {
    let reported = [0, 1].map(|at| reported_timestamp(reports.parts.get(at)?, carriage));
    let mut tracks = Vec::new();
    for ((point, reported), clock_rate) in [&mut start.video, &mut start.audio].into_iter().zip(reported).zip(clock_rates) {
        if let (Some(point), Some(reported)) = (point, reported) {
            tracks.push((point, reported, clock_rate));
        }
    }
    let micros = |(point, reported, clock_rate): &(&mut RtpPoint, u32, u32)| {
        let ticks = point.timestamp.wrapping_sub(*reported).cast_signed();
        micros_of_ticks(ticks.into(), *clock_rate)
    };
    let Some(earliest) = tracks.iter().map(micros).min() else { return };
    for (point, reported, clock_rate) in tracks {
        // Of the ticks only the lower bits are sent.
        point.timestamp = reported.wrapping_add(ticks_of_micros(earliest, clock_rate) as u32);
    }
}

fn reported_timestamp(compound: &[u8], carriage: RtpCarriage) -> Option<u32> {
    let compound = if carriage == RtpCarriage::Datagrams { compound } else { compound.get(4..)? };
    let mut timestamp = None;
    // They are our own and can be read.
    rtcp::parse(compound, |report| {
        if let Report::Sender(report) = report {
            timestamp = Some(report.rtp_timestamp);
        }
    })
    .ok()?;
    timestamp
}

fn first_point(packet: &Packet, carriage: RtpCarriage) -> Option<(TrackKind, RtpPoint)> {
    let bytes = packet.parts.first()?;
    let (kind, rtp) = match (carriage, packet.train) {
        (RtpCarriage::Datagrams, Some(train)) => match train.flow {
            Flow::Media(kind) => (kind, &bytes[..]),
            Flow::Reports => return None,
        },
        (RtpCarriage::Interleaved { video, audio }, None) => {
            let is_on = |channels: Option<super::Channels>| channels.is_some_and(|channels| bytes.get(1) == Some(&channels.rtp));
            let kind = if is_on(video) {
                TrackKind::Video
            } else if is_on(audio) {
                TrackKind::Audio
            } else {
                return None;
            };
            (kind, bytes.get(4..)?)
        }
        _ => return None,
    };
    let header = RtpHeader::parse(rtp).ok()?;
    Some((kind, RtpPoint { sequence: header.sequence, timestamp: header.timestamp }))
}
