//! How many lines peers may cause in the log: [`NOTES_PER_SECOND_MAX`], then one that says how many were left out.

use std::time::Duration;

use log::Level;
use tokio::time::Instant;

const NOTES_PER_SECOND_MAX: u32 = 50;
const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Notes {
    since: Instant,
    written: u32,
    left_out: u64,
}

impl Notes {
    pub fn new(now: Instant) -> Self {
        Notes { since: now, written: 0, left_out: 0 }
    }

    /// Whether a line may be written now. What only those see who look for it may always.
    pub fn may(&mut self, now: Instant, level: Level) -> bool {
        if level >= Level::Debug {
            return true;
        }
        if now.duration_since(self.since) >= SECOND {
            (self.since, self.written) = (now, 0);
        }
        self.written += 1;
        let may = self.written <= NOTES_PER_SECOND_MAX;
        self.left_out += u64::from(!may);
        may
    }

    /// When [`Notes::left_out`] is to be called.
    pub fn due(&self) -> Option<Instant> {
        (self.left_out > 0).then_some(self.since + SECOND)
    }

    /// The line for those that were left out, once it is quiet again.
    pub fn left_out(&mut self, now: Instant) -> Option<String> {
        if self.left_out == 0 || now.duration_since(self.since) < SECOND {
            return None;
        }
        Some(format!("gb28181: {} more lines were left out of the log", std::mem::take(&mut self.left_out)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_of_once() {
        let start = Instant::now();
        let mut notes = Notes::new(start);
        let written = (0..1_000).filter(|_| notes.may(start, Level::Warn)).count();
        assert_eq!(written, 50);
        assert!(notes.may(start, Level::Debug));
        assert_eq!((notes.left_out(start), notes.due()), (None, Some(start + SECOND)));
        let later = start + SECOND;
        assert!(notes.may(later, Level::Info));
        let line = notes.left_out(later + SECOND).unwrap();
        assert_eq!(line, "gb28181: 950 more lines were left out of the log");
        assert_eq!(notes.left_out(later + SECOND), None);
    }
}
