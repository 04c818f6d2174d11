//! What an impaired link is like, and when what is sent over it arrives. Sans-IO: times and sizes go in, times come out; the same seed
//! gives the same losses.
//!
//! A lane is one direction of a user's network, shared by all connections that go over it: bytes leave at the rate of the link, one after
//! the other, and arrive after its delay. Not here: sockets.

use std::str::FromStr;

use fastrand::Rng;

use crate::poll::NANOS_PER_SECOND;
use crate::units::Rate;

const MILLIS: u64 = 1_000_000;
/// A datagram that would wait longer than this for its turn is dropped, as by a router whose queue is full.
const QUEUE_NANOS_MAX: u64 = 200 * MILLIS;
/// How much longer a datagram takes that others overtake.
const REORDER_NANOS: u64 = 5 * MILLIS;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// Bits per second in each direction.
    pub rate: u64,
    /// To the server and back, in nanoseconds.
    pub ping: u64,
    /// What each datagram or piece of a stream may take longer, at most, in nanoseconds.
    pub jitter: u64,
    /// Shares of the datagrams.
    pub loss: f64,
    pub reorder: f64,
    pub seed: u64,
}

impl Profile {
    /// 100 Mbit/s, 10 ms.
    pub const HOME: &str = "rate=100M,ping=10ms";
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Profile, String> {
        let mut profile = Profile { rate: 100_000_000, ping: 10 * MILLIS, jitter: 0, loss: 0.0, reorder: 0.0, seed: 1 };
        for part in text.split(',') {
            let (key, value) = part.split_once('=').ok_or_else(|| format!("{part}: KEY=VALUE"))?;
            match key {
                "rate" => profile.rate = value.parse::<Rate>()?.0,
                "ping" => profile.ping = millis(value)?,
                "jitter" => profile.jitter = millis(value)?,
                "loss" => profile.loss = percent(value)?,
                "reorder" => profile.reorder = percent(value)?,
                "seed" => profile.seed = value.parse().map_err(|_| format!("{value}: a number"))?,
                _ => return Err(format!("{key}: one of rate, ping, jitter, loss, reorder, seed")),
            }
        }
        Ok(profile)
    }
}

fn millis(text: &str) -> Result<u64, String> {
    let value = text.strip_suffix("ms").and_then(|value| value.parse::<f64>().ok());
    let value = value.filter(|value| (0.0..=10_000.0).contains(value)).ok_or_else(|| format!("{text}: 0ms to 10000ms"))?;
    Ok((value * MILLIS as f64) as u64)
}

fn percent(text: &str) -> Result<f64, String> {
    let value = text.strip_suffix('%').and_then(|value| value.parse::<f64>().ok());
    value.filter(|value| (0.0..=100.0).contains(value)).map(|value| value / 100.0).ok_or_else(|| format!("{text}: 0% to 100%"))
}

/// One direction.
pub struct Lane {
    profile: Profile,
    random: Rng,
    /// When the link has sent all that it was given.
    free: u64,
    /// When the last datagram arrives that is not overtaken.
    last: u64,
}

impl Lane {
    /// `number`: lanes of one profile have different luck.
    pub fn new(profile: Profile, number: u64) -> Lane {
        Lane { profile, random: Rng::with_seed(profile.seed.wrapping_mul(2).wrapping_add(number)), free: 0, last: 0 }
    }

    /// When the last of so many bytes has left.
    fn leave(&mut self, now: u64, bytes: usize) -> u64 {
        let nanos = bytes as u128 * 8 * u128::from(NANOS_PER_SECOND) / u128::from(self.profile.rate);
        self.free = self.free.max(now) + nanos as u64;
        self.free
    }

    fn travel(&mut self) -> u64 {
        self.profile.ping / 2 + self.random.u64(0..=self.profile.jitter)
    }

    /// When a datagram arrives; `None`: it is lost.
    pub fn datagram(&mut self, now: u64, bytes: usize) -> Option<u64> {
        let (lost, overtaken) = (self.random.f64() < self.profile.loss, self.random.f64() < self.profile.reorder);
        if lost || self.free > now + QUEUE_NANOS_MAX {
            return None;
        }
        let due = self.leave(now, bytes) + self.travel();
        if overtaken {
            return Some(due + REORDER_NANOS);
        }
        self.last = self.last.max(due);
        Some(self.last)
    }

    /// When a piece of a stream arrives whose piece before arrives at `last`.
    pub fn piece(&mut self, now: u64, bytes: usize, last: u64) -> u64 {
        (self.leave(now, bytes) + self.travel()).max(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(text: &str) -> Profile {
        text.parse().unwrap()
    }

    #[test]
    fn profiles_are_written_as_keys_and_values() {
        let home = profile(Profile::HOME);
        assert_eq!((home.rate, home.ping, home.jitter, home.loss), (100_000_000, 10 * MILLIS, 0, 0.0));
        let bad = profile("rate=2M,ping=40ms,jitter=2.5ms,loss=1%,reorder=0.5%,seed=9");
        assert_eq!((bad.rate, bad.ping, bad.jitter), (2_000_000, 40 * MILLIS, 2_500_000));
        assert_eq!((bad.loss, bad.reorder, bad.seed), (0.01, 0.005, 9));
        for text in ["", "rate", "rate=fast", "ping=10", "loss=2", "loss=101%", "speed=1M"] {
            assert!(text.parse::<Profile>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_sent_at_once_arrives_at_the_rate_of_the_link() {
        let mut lane = Lane::new(profile("rate=8M,ping=20ms"), 0);
        // A thousand bytes take a millisecond.
        let dues: Vec<u64> = (0..4).filter_map(|_| lane.datagram(0, 1_000)).collect();
        assert_eq!(dues, [11, 12, 13, 14].map(|millis| millis * MILLIS));
        assert_eq!(lane.datagram(100 * MILLIS, 1_000), Some(111 * MILLIS));
        assert_eq!(lane.piece(200 * MILLIS, 2_000, 0), 212 * MILLIS);
        assert_eq!(lane.piece(300 * MILLIS, 1_000, 400 * MILLIS), 400 * MILLIS, "streams stay in order");
        assert_eq!((0..400).filter_map(|_| lane.datagram(500 * MILLIS, 1_000)).count(), 201, "then the queue is full");
    }

    #[test]
    fn the_same_seed_loses_and_reorders_the_same_datagrams() {
        let run = |text: &str| {
            let mut lane = Lane::new(profile(text), 0);
            (0..10_000).map(|at| lane.datagram(at * MILLIS, 100)).collect::<Vec<_>>()
        };
        let dues = run("rate=100M,ping=10ms,jitter=3ms,loss=2%,reorder=1%,seed=7");
        assert_eq!(dues, run("rate=100M,ping=10ms,jitter=3ms,loss=2%,reorder=1%,seed=7"));
        assert_ne!(dues, run("rate=100M,ping=10ms,jitter=3ms,loss=2%,reorder=1%,seed=8"));
        let lost = dues.iter().filter(|due| due.is_none()).count();
        assert!((150..=250).contains(&lost), "{lost} lost");
        let came: Vec<u64> = dues.into_iter().flatten().collect();
        let overtaken = came.windows(2).filter(|pair| pair[0] > pair[1]).count();
        assert!((50..=150).contains(&overtaken), "{overtaken} overtaken");
        let calm: Vec<u64> = run("rate=100M,ping=10ms,jitter=3ms").into_iter().flatten().collect();
        assert!(calm.len() == 10_000 && calm.is_sorted(), "jitter alone reorders nothing");
    }
}
