//! The ring: the packets of one stream in one format, at once GOP cache, send queue and slow-viewer buffer.
//!
//! Every packet has a number that only grows; a viewer is a [`Cursor`], the number of the packet that it needs next. The ring keeps
//! everything from the newest keyframe on, and older packets for `lag_ms_max`, so that a viewer a little behind can go on in order.
//! Limit: `ring_bytes_max`; over it the oldest packets go, and viewers that needed them skip. Packets are shared, never copied.

use std::collections::VecDeque;

use crate::format::{Packet, PacketKind};
use crate::media::Stamp;
use crate::session::Start;

/// Where a viewer is in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// The packet with this number is next.
    At(u64),
    /// The next packet is the first place to begin with this number or a later one.
    NextKey(u64),
}

#[derive(Debug)]
pub struct Ring {
    packets: VecDeque<Packet>,
    /// Number of the first packet in `packets`.
    base: u64,
    bytes: usize,
    /// What of that is shared with other rings.
    shared: usize,
    bytes_max: usize,
    keep_ms: u64,
    /// Number of the newest packet at which a viewer can begin.
    newest_key: Option<u64>,
    /// The newest config, and its number.
    config: Option<(u64, Packet)>,
    /// The config that is in force at `newest_key`.
    key_config: Option<(u64, Packet)>,
    has_video: bool,
}

impl Ring {
    pub fn new(bytes_max: usize, keep_ms: u64) -> Self {
        Ring {
            packets: VecDeque::new(),
            base: 0,
            bytes: 0,
            shared: 0,
            bytes_max,
            keep_ms,
            newest_key: None,
            config: None,
            key_config: None,
            has_video: false,
        }
    }

    /// Whether the stream has video: without, every audio packet is a place to begin.
    pub fn set_has_video(&mut self, has_video: bool) {
        self.has_video = has_video;
    }

    pub fn push(&mut self, packet: Packet) {
        let number = self.end();
        let begins = match packet.kind {
            PacketKind::Config => {
                self.config = Some((number, packet.clone()));
                false
            }
            PacketKind::Key => true,
            PacketKind::Delta => false,
            PacketKind::Audio => !self.has_video,
        };
        if begins {
            self.newest_key = Some(number);
            self.key_config = self.config.clone();
        }
        let now = packet.arrival;
        self.bytes += packet.len;
        self.shared += packet.shared;
        self.packets.push_back(packet);
        self.evict(now);
    }

    fn evict(&mut self, now: Stamp) {
        while let Some(front) = self.packets.front() {
            let old = now.millis_since(front.arrival) > self.keep_ms;
            let needless = self.newest_key.is_some_and(|key| self.base < key) && old;
            if !needless && self.bytes <= self.bytes_max {
                break;
            }
            self.bytes -= front.len;
            self.shared -= front.shared;
            self.packets.pop_front();
            self.base += 1;
        }
        if self.newest_key.is_some_and(|key| key < self.base) {
            self.newest_key = None;
        }
    }

    /// The number that the next packet will have.
    pub fn end(&self) -> u64 {
        self.base + self.packets.len() as u64
    }

    /// Forgets everything: viewers that needed it go on at the next key.
    pub fn clear(&mut self) {
        self.base = self.end();
        self.packets.clear();
        (self.bytes, self.shared) = (0, 0);
        self.newest_key = None;
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of frames that the rings of other formats keep too.
    pub fn shared_bytes(&self) -> usize {
        self.shared
    }

    pub fn get(&self, number: u64) -> Option<&Packet> {
        let index = number.checked_sub(self.base)?;
        self.packets.get(usize::try_from(index).ok()?)
    }

    /// Where a newcomer begins.
    pub fn begin(&self, start: Start) -> Cursor {
        match (start, self.newest_key) {
            (Start::Gop, Some(key)) => Cursor::At(key),
            _ => Cursor::NextKey(self.end()),
        }
    }

    /// The place to begin that a viewer waiting at `NextKey(from)` may take now.
    pub fn key_from(&self, from: u64) -> Option<u64> {
        self.newest_key.filter(|key| *key >= from)
    }

    /// The config that a viewer needs which begins at the newest key and has everything before `seen`. `None`: it has it already.
    pub fn config_since(&self, seen: u64) -> Option<&Packet> {
        self.key_config.as_ref().filter(|(number, _)| *number >= seen).map(|(_, packet)| packet)
    }

    /// The config in force at the newest key.
    pub fn key_config(&self) -> Option<&Packet> {
        self.key_config.as_ref().map(|(_, packet)| packet)
    }

    /// Where a viewer goes on that lags: the newest key if it is ahead of the viewer and itself no older than `lag_ms_max`, else the
    /// next one.
    pub fn skip_from(&self, at: u64, now: Stamp, lag_ms_max: u64) -> Cursor {
        let fresh = |key: &u64| self.get(*key).is_some_and(|packet| now.millis_since(packet.arrival) <= lag_ms_max);
        match self.newest_key.filter(|key| *key > at).filter(fresh) {
            Some(key) => Cursor::At(key),
            None => Cursor::NextKey(self.end()),
        }
    }

    /// Number of the oldest packet that is kept.
    pub fn base(&self) -> u64 {
        self.base
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use smallvec::smallvec;

    use super::*;
    use crate::media::MediaTime;

    fn packet(kind: PacketKind, ms: u64, len: usize) -> Packet {
        Packet::new(smallvec![Bytes::from(vec![0; len])], kind, Stamp::from_millis(ms), MediaTime::from_millis(ms as i64))
    }

    fn video_ring(bytes_max: usize, keep_ms: u64) -> Ring {
        let mut ring = Ring::new(bytes_max, keep_ms);
        ring.set_has_video(true);
        ring
    }

    #[test]
    fn newcomers_begin_at_the_newest_key_with_its_config() {
        let mut ring = video_ring(10_000, 100);
        ring.push(packet(PacketKind::Config, 0, 7));
        ring.push(packet(PacketKind::Audio, 0, 1));
        assert_eq!(ring.begin(Start::Gop), Cursor::NextKey(2), "audio is no place to begin beside video");
        ring.push(packet(PacketKind::Key, 0, 1));
        ring.push(packet(PacketKind::Delta, 40, 1));
        assert_eq!(ring.begin(Start::Gop), Cursor::At(2));
        assert_eq!(ring.begin(Start::Live), Cursor::NextKey(4));
        ring.push(packet(PacketKind::Config, 60, 9));
        assert_eq!(ring.key_config().unwrap().len, 7, "the new config belongs to the next key");
        ring.push(packet(PacketKind::Key, 80, 1));
        assert_eq!(ring.key_config().unwrap().len, 9);
        assert_eq!(ring.key_from(4), Some(5));
        assert!(ring.config_since(4).is_some(), "a viewer that skips from 3 to 5 missed the config");
        assert!(ring.config_since(5).is_none());
    }

    #[test]
    fn keeps_the_gop_and_what_is_young() {
        let mut ring = video_ring(10_000, 100);
        for (kind, ms) in [(PacketKind::Key, 1000), (PacketKind::Delta, 1040), (PacketKind::Delta, 1200)] {
            ring.push(packet(kind, ms, 10));
        }
        assert_eq!(ring.base(), 0, "all of the newest GOP, however old");
        ring.push(packet(PacketKind::Key, 1240, 10));
        assert_eq!(ring.base(), 2, "of the GOP before, only what is younger than 100 ms");
        ring.push(packet(PacketKind::Delta, 1400, 10));
        assert_eq!(ring.base(), 3);
    }

    #[test]
    fn over_the_limit_the_oldest_go_and_newcomers_wait() {
        let mut ring = video_ring(35, 100);
        ring.push(packet(PacketKind::Key, 0, 10));
        for ms in [10, 20, 30] {
            ring.push(packet(PacketKind::Delta, ms, 10));
        }
        assert!(ring.bytes() <= 35);
        assert_eq!(ring.begin(Start::Gop), Cursor::NextKey(4));
        assert!(ring.get(0).is_none());
    }

    #[test]
    fn a_lagging_viewer_goes_to_a_fresh_key_or_waits_for_the_next() {
        let mut ring = video_ring(10_000, 500);
        ring.push(packet(PacketKind::Key, 0, 1));
        ring.push(packet(PacketKind::Delta, 40, 1));
        ring.push(packet(PacketKind::Key, 600, 1));
        assert_eq!(ring.skip_from(1, Stamp::from_millis(700), 500), Cursor::At(2));
        assert_eq!(ring.skip_from(2, Stamp::from_millis(700), 500), Cursor::NextKey(3), "never backwards");
        assert_eq!(ring.skip_from(1, Stamp::from_millis(1200), 500), Cursor::NextKey(3), "that key is too old itself");
    }

    #[test]
    fn without_video_every_audio_packet_is_a_place_to_begin() {
        let mut ring = Ring::new(10_000, 100);
        ring.push(packet(PacketKind::Config, 0, 1));
        for ms in [0, 20, 40] {
            ring.push(packet(PacketKind::Audio, ms, 1));
        }
        assert_eq!(ring.begin(Start::Gop), Cursor::At(3));
    }
}
