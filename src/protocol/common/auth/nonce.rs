//! Nonces that need no memory: the time, and a keyed hash of the time and the peer's address.
//!
//! RFC 7616 §3.3 suggests such a form. As text: 16 hex digits of nanoseconds (the clock that all shards share) and 32 of the hash. A nonce
//! holds for one address, and ends with the process.

use std::net::IpAddr;

use subtle::ConstantTimeEq as _;

use super::Keyed;
use crate::media::Stamp;
use crate::protocol::common::hex;

const TIME_DIGITS: usize = 16;
const HASH_BYTES: usize = 16;

pub(super) struct Nonces<'a> {
    pub keyed: &'a Keyed,
}

impl Nonces<'_> {
    pub fn make(&self, now: Stamp, peer: IpAddr) -> String {
        let nanos = now.as_nanos();
        hex::lower(&nanos.to_be_bytes()) + &hex::lower(&self.hash(nanos, peer))
    }

    /// Whether `nonce` was made here for that address, not longer than `nonce_ms` ago.
    pub fn holds(&self, now: Stamp, peer: IpAddr, nonce: &str, nonce_ms: u64) -> bool {
        let time = nonce.get(..TIME_DIGITS).and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let Some(time) = time.map(Stamp::from_nanos) else { return false };
        // One shard may see a moment that is still to come on another: that is no age.
        let is_ours = nonce.as_bytes().ct_eq(self.make(time, peer).as_bytes());
        bool::from(is_ours) && now.millis_since(time) <= nonce_ms
    }

    fn hash(&self, time_nanos: u64, peer: IpAddr) -> [u8; HASH_BYTES] {
        let address = match peer.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let hash = self.keyed.hash("nonce", &[&time_nanos.to_be_bytes(), &address.octets()]);
        std::array::from_fn(|index| hash[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonces_belong_to_a_time_an_address_and_a_process() {
        let keyed = Keyed::new(&[1; 32]);
        let nonces = Nonces { keyed: &keyed };
        let peer: IpAddr = [192, 0, 2, 1].into();
        let at = Stamp::from_millis(5_000);
        let nonce = nonces.make(at, peer);
        assert_eq!(nonce.len(), TIME_DIGITS + 2 * HASH_BYTES);
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        let cases = [
            ("at once", at, peer, &*nonce, true),
            ("another shard is behind", Stamp::from_millis(4_990), peer, &nonce, true),
            ("in the end", Stamp::from_millis(6_000), peer, &nonce, true),
            ("too late", Stamp::from_millis(6_001), peer, &nonce, false),
            ("the same address in IPv6", at, mapped, &nonce, true),
            ("another address", at, [192, 0, 2, 2].into(), &nonce, false),
            ("cut off", at, peer, &nonce[..40], false),
            ("too long", at, peer, &format!("{nonce}0"), false),
            ("another time", at, peer, &nonce.replacen('0', "1", 1), false),
            ("not hex", at, peer, "zz", false),
            ("a sign", at, peer, "+00000000000000000", false),
            ("no ASCII", at, peer, "摄摄摄摄摄摄摄摄", false),
            ("none", at, peer, "", false),
        ];
        for (name, now, peer, nonce, expected) in cases {
            assert_eq!(nonces.holds(now, peer, nonce, 1_000), expected, "{name}");
        }
        let other = Keyed::new(&[2; 32]);
        assert!(!Nonces { keyed: &other }.holds(at, peer, &nonce, 1_000));
    }
}
