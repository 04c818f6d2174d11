//! A secret → texts that are all different and that nobody can guess: branches, tags, the names of calls.

use std::fmt;

use crate::protocol::common::auth::Keyed;
use crate::protocol::common::hex;

const TOKEN_BYTES: usize = 8;

pub struct Tokens {
    keyed: Keyed,
    made: u64,
}

/// No secrets in a log.
impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("made", &self.made).finish_non_exhaustive()
    }
}

impl Tokens {
    /// `secret`: random, of this process alone.
    pub fn new(secret: &[u8; 32]) -> Self {
        Tokens { keyed: Keyed::new(secret), made: 0 }
    }

    /// 16 hex digits that are the same for the same parts.
    pub fn of(&self, parts: &[&str]) -> String {
        let mut whole = Vec::new();
        for part in parts {
            whole.extend_from_slice(&(part.len() as u64).to_be_bytes());
            whole.extend_from_slice(part.as_bytes());
        }
        hex::lower(&self.keyed.hash("sip answer", &[&whole])[..TOKEN_BYTES])
    }

    /// 16 hex digits.
    pub fn make(&mut self) -> String {
        self.made += 1;
        hex::lower(&self.keyed.hash("sip token", &[&self.made.to_be_bytes()])[..TOKEN_BYTES])
    }
}
