//! What a publisher says over RTSP: the requests, then RTP of both tracks, sender reports, and now and then a sign of life.
//!
//! Packets go on the connection behind `$`, channel and length, or as datagrams, those of an access unit in one call. Parameter sets
//! stand in front of every keyframe. Receiver reports of the server are read for what was lost.

use std::io;
use std::net::TcpStream;
use std::os::fd::RawFd;
use std::rc::Rc;

use super::Picture;
use crate::args::{LoadArgs, Publish};
use crate::clip::{AAC_SAMPLES, Clip};
use crate::poll::NANOS_PER_SECOND;
use crate::rtsp::client::{Path, RtspClient};
use crate::rtsp::datagrams::{self, Receiver};
use crate::rtsp::link::Link;
use crate::rtsp::message::Item;
use crate::rtsp::packetizer::{Packetizer, Packets};
use crate::rtsp::{VIDEO_CLOCK, rtcp, sdp};

/// Spreads the numbers that a sender chooses at random.
const SPREAD: u32 = 0x9E37_79B9;

pub struct RtspPublisher {
    link: Link,
    clip: Rc<Clip>,
    /// Video, then audio.
    tracks: [Track; 2],
    next_report: u64,
    /// Kept for their capacity: an access unit, and its packets.
    unit: Vec<u8>,
    packets: Packets,
    /// Datagrams that the kernel did not take.
    pub unsent: u64,
}

/// One track on its way out.
struct Track {
    packetizer: Packetizer,
    /// Ticks per second, and the timestamp of the beginning.
    clock: u32,
    timestamp: u32,
    /// Packets that the server says it has not got.
    lost: Option<i64>,
}

impl Track {
    fn new(number: u16, kind: u32, payload_type: u8, clock: u32) -> Track {
        let ssrc = (u32::from(number) * 2 + kind + 1).wrapping_mul(SPREAD);
        let packetizer = Packetizer { payload_type, ssrc, sequence: (ssrc >> 16) as u16, packets: 0, octets: 0 };
        Track { packetizer, clock, timestamp: ssrc.rotate_left(7), lost: None }
    }

    fn timestamp(&self, ticks: u64) -> u32 {
        self.timestamp.wrapping_add(ticks as u32)
    }
}

impl RtspPublisher {
    pub fn new(
        number: u16,
        args: &LoadArgs,
        socket: &TcpStream,
        clip: &Rc<Clip>,
        out: &mut Vec<u8>,
    ) -> io::Result<RtspPublisher> {
        let joined = (args.publish == Publish::RtspUdp).then_some(false);
        let link = Link::open(socket, joined, None, |server, carriage| {
            RtspClient::publish(args.rtsp_url(number.into()), sdp::write(&clip.codecs), server, carriage, out)
        })?;
        let video = Track::new(number, 0, sdp::VIDEO_PAYLOAD_TYPE, VIDEO_CLOCK);
        let audio = Track::new(number, 1, sdp::AUDIO_PAYLOAD_TYPE, clip.codecs.sample_rate);
        Ok(RtspPublisher {
            link,
            clip: clip.clone(),
            tracks: [video, audio],
            next_report: 0,
            unit: Vec::new(),
            packets: Packets::default(),
            unsent: 0,
        })
    }

    pub fn sockets(&self) -> Vec<RawFd> {
        self.link.sockets()
    }

    pub fn reported_lost(&self) -> Option<i64> {
        let lost: Vec<i64> = self.tracks.iter().filter_map(|track| track.lost).collect();
        (!lost.is_empty()).then(|| lost.iter().sum())
    }

    /// Takes what the server says on the connection; whether it lets us send.
    pub fn handle(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<bool> {
        let RtspPublisher { link: Link { reader, client, .. }, tracks, .. } = self;
        let was_running = client.is_running();
        reader.feed(bytes, &mut |item| match item {
            Item::Response(response) => client.handle(&response, out),
            Item::Frame { channel, payload } => {
                let is_reports = |path: &Path| matches!(path, Path::Channels { rtcp, .. } if *rtcp == channel);
                if let Some(at) = client.tracks().position(|(_, path)| is_reports(path)) {
                    take_reports(&mut tracks[at], payload);
                }
                Ok(())
            }
        })?;
        let agreed = self.link.client.is_running() && !was_running;
        if agreed {
            for (pair, (_, path)) in self.link.pairs.iter().zip(self.link.client.tracks()) {
                if let Path::Addresses { rtp, rtcp } = path {
                    pair.rtp.connect(rtp)?;
                    pair.rtcp.connect(rtcp)?;
                }
            }
        }
        Ok(agreed)
    }

    /// Takes what has come on a socket for datagrams, an index into [`RtspPublisher::sockets`].
    pub fn datagrams(&mut self, socket: usize, receiver: &mut Receiver) -> io::Result<()> {
        let fd = self.link.socket(socket);
        let track = &mut self.tracks[socket / 2];
        receiver.receive(fd, |bytes| {
            if socket % 2 == 1 {
                take_reports(track, bytes);
            }
        })
    }

    /// Says how many bytes that made, as does [`RtspPublisher::audio`].
    pub fn video(&mut self, picture: &Picture<'_>, out: &mut Vec<u8>) -> io::Result<usize> {
        if picture.now >= self.next_report {
            self.next_report = picture.now + rtcp::INTERVAL_NANOS;
            self.report(picture.elapsed, out)?;
        }
        self.link.keep_alive(picture.now, out);
        let (_, presentation) = picture.times(VIDEO_CLOCK.into());
        let timestamp = self.tracks[0].timestamp(presentation);
        self.begin(0);
        self.unit.clear();
        self.unit.extend_from_slice(&picture.mark);
        self.unit.extend_from_slice(picture.planned.data);
        picture.planned.filler.iter().for_each(|part| self.unit.extend_from_slice(part));
        let sets: &[_] = if picture.planned.key { &self.clip.codecs.parameter_sets } else { &[] };
        let nals: Vec<&[u8]> = sets.iter().map(|set| &set[..]).chain(nal_units(&self.unit)).collect();
        self.tracks[0].packetizer.h264(timestamp, &nals, &mut self.packets);
        self.send(0, out)
    }

    pub fn audio(&mut self, frame: &[u8], number: u64, out: &mut Vec<u8>) -> io::Result<usize> {
        self.begin(1);
        let timestamp = self.tracks[1].timestamp(number * AAC_SAMPLES);
        self.tracks[1].packetizer.aac(timestamp, frame, &mut self.packets);
        self.send(1, out)
    }

    fn begin(&mut self, track: usize) {
        let channel = match self.link.client.tracks().nth(track) {
            Some((_, Path::Channels { rtp, .. })) => Some(*rtp),
            Some((_, Path::Addresses { .. })) | None => None,
        };
        self.packets.clear(channel);
    }

    fn send(&mut self, track: usize, out: &mut Vec<u8>) -> io::Result<usize> {
        match self.link.pairs.get(track) {
            None => out.extend_from_slice(self.packets.bytes()),
            Some(pair) => {
                let sent = datagrams::send(&pair.rtp, self.packets.iter())?;
                self.unsent += (self.packets.iter().count() - sent) as u64;
            }
        }
        Ok(self.packets.bytes().len())
    }

    /// Tells for both tracks what time it is on their clocks. `elapsed`: since the beginning, in nanoseconds.
    fn report(&mut self, elapsed: u64, out: &mut Vec<u8>) -> io::Result<()> {
        let ntp = rtcp::ntp_now();
        for (at, track) in self.tracks.iter().enumerate() {
            let Packetizer { ssrc, packets, octets, .. } = track.packetizer;
            let timestamp =
                track.timestamp((u128::from(elapsed) * u128::from(track.clock) / u128::from(NANOS_PER_SECOND)) as u64);
            let mut report = Vec::new();
            rtcp::write_sender_report(ssrc, ntp, timestamp, packets, octets, &mut report);
            if let Some((_, path)) = self.link.client.tracks().nth(at) {
                self.link.report(at, *path, &report, out)?;
            }
        }
        Ok(())
    }
}

fn take_reports(track: &mut Track, compound: &[u8]) {
    track.lost = rtcp::reported_lost(compound).or(track.lost);
}

/// The NAL units of an access unit, each behind its 4-byte length.
fn nal_units(mut unit: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = unit.split_first_chunk()?;
        let (nal, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize).filter(|(nal, _)| !nal.is_empty())?;
        unit = rest;
        Some(nal)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::Shape;
    use crate::mark::Mark;
    use crate::rtsp::Kind;
    use crate::scan::order::Arrival;
    use crate::scan::rtp::RtpScanner;
    use crate::scan::testing::{Seen, seen};

    #[test]
    fn every_access_unit_of_the_clip_is_found_again() {
        let clip = Clip::new(Shape { frames_per_second: 30, gop_ms: 2000, bits_per_second: 2_000_000 });
        let mut track = Track::new(0, 0, sdp::VIDEO_PAYLOAD_TYPE, VIDEO_CLOCK);
        let mut scanner = RtpScanner::new(Kind::Video, sdp::VIDEO_PAYLOAD_TYPE);
        let mut packets = Packets::default();
        for number in 0..300u32 {
            let planned = clip.video(number.into());
            let mark = Mark { sent: 5, sequence: number, publisher: 0 }.encode();
            let unit = [&mark[..], planned.data, &planned.filler.concat()].concat();
            let nals: Vec<&[u8]> = nal_units(&unit).collect();
            assert_eq!(nals.iter().map(|nal| nal.len() + 4).sum::<usize>(), unit.len());
            packets.clear(None);
            track.packetizer.h264(number * 3000, &nals, &mut packets);
            let mut all = Vec::new();
            packets.iter().for_each(|packet| scanner.feed(packet, &mut |found| all.push(seen(&found))));
            all.retain(|seen| *seen != Seen::Packet(Arrival::Ahead { missing: 0 }));
            assert_eq!(all[0], Seen::First(number));
            assert!(matches!(all[1], Seen::Last(last, key) if last == number && (key || !planned.key)), "{all:?}");
        }
        assert!(scanner.order().totals().unwrap().received > 300 * 5);
    }
}
