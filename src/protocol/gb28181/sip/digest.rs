//! Who may register: challenges and whether they are answered; and the answer to a challenge of another platform.
//!
//! RFC 3261 §22, RFC 2617 (MD5 with and without `qop`), RFC 7616 (SHA-256). A nonce is the time and a keyed hash of that, of the device's id
//! and of the address that it was given to, so that nothing is kept of strangers. Of an answer to any other nonce, or to one that is too old,
//! nothing is said but that: whoever forges the address of a device learns nothing, and fails in nobody's name. Of a device that has registered, the last nonce is kept, and how often it was used: none older is
//! taken again, and itself only with a higher `nc`. A device that comes again with an answer of before is challenged anew (`stale`), which
//! costs it one more request.
//!
//! Not here: the hashes (`common::auth`), and who has which password.

use std::fmt;
use std::net::IpAddr;

use subtle::ConstantTimeEq as _;

use super::message::Request;
use crate::media::Stamp;
use crate::protocol::common::auth::Keyed;
use crate::protocol::common::auth::digest::{Algorithm, Answer, each_field, response};
use crate::protocol::common::auth::guard::network;
use crate::protocol::common::hex;

/// How long a challenge can be answered.
pub const NONCE_MS: u64 = 60_000;
const TIME_DIGITS: usize = 16;
const HASH_BYTES: usize = 16;

/// What became of credentials. Everything but `Right` is answered 401 with a challenge, or 403.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Right,
    /// There are none: the usual first request.
    Missing,
    /// They cannot be understood, or are of a kind that was not offered.
    Broken,
    /// Of a challenge that is too old, of another process, or was given to another address; right or not.
    Stale,
    /// Of a challenge that was answered before.
    Replayed,
    /// To a challenge that was given to this address.
    Wrong,
}

impl Verdict {
    /// The label under which it is counted. `None`: nothing is wrong.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Verdict::Right | Verdict::Missing => None,
            Verdict::Broken => Some("sip_broken_credentials"),
            Verdict::Stale => Some("sip_stale_nonce"),
            Verdict::Replayed => Some("sip_replayed_nonce"),
            Verdict::Wrong => Some("sip_wrong_password"),
        }
    }

    /// In words, for the log.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Right => "the password is right",
            Verdict::Missing => "no password",
            Verdict::Broken => "credentials that cannot be understood",
            Verdict::Stale => "the nonce is too old",
            Verdict::Replayed => "the nonce was used before",
            Verdict::Wrong => "wrong password",
        }
    }

    /// The nonce is not good, or not any more: the device may try again by itself.
    pub fn is_stale(self) -> bool {
        matches!(self, Verdict::Stale | Verdict::Replayed)
    }
}

/// The last nonce that a device has registered with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastNonce {
    made_nanos: u64,
    /// 0: without `qop`, which allows one use.
    count: u32,
}

/// Makes challenges and checks what is answered.
pub struct Challenges {
    keyed: Keyed,
    realm: String,
    /// Of the nonce that was made last: no two are of the same time.
    last_nanos: u64,
}

/// No secrets in a log.
impl fmt::Debug for Challenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenges").field("realm", &self.realm).finish_non_exhaustive()
    }
}

impl Challenges {
    /// `secret`: random, of this process alone.
    pub fn new(secret: &[u8; 32], realm: &str) -> Self {
        Challenges { keyed: Keyed::new(secret), realm: realm.to_owned(), last_nanos: 0 }
    }

    /// A value of `WWW-Authenticate`, for `device` at the address `from`. [`with_sm3`] makes one of it that asks for SM3.
    pub fn challenge(&mut self, now: Stamp, (device, from): (&str, IpAddr), is_stale: bool) -> String {
        self.last_nanos = now.as_nanos().max(self.last_nanos + 1);
        let nonce = self.nonce(self.last_nanos, device, from);
        let stale = if is_stale { ",stale=true" } else { "" };
        format!("Digest realm=\"{}\",nonce=\"{nonce}\",algorithm=MD5{stale}", self.realm)
    }

    fn nonce(&self, nanos: u64, device: &str, from: IpAddr) -> String {
        let hash = self.keyed.hash("sip nonce", &[&nanos.to_be_bytes(), &network(from), device.as_bytes()]);
        hex::lower(&nanos.to_be_bytes()) + &hex::lower(&hash[..HASH_BYTES])
    }

    /// Whether `request` of `device` at `from` was made by who knows `password`. `last`: of this device; changes if it is.
    pub fn check(
        &self,
        now: Stamp,
        request: &Request,
        (device, from): (&str, IpAddr),
        password: &str,
        last: &mut Option<LastNonce>,
    ) -> Verdict {
        let Some(header) = request.headers.get("Authorization") else { return Verdict::Missing };
        let Some(answer) = digest_fields(header).and_then(Answer::parse) else { return Verdict::Broken };
        let Some(made) = self.made(device, from, answer.nonce) else { return Verdict::Stale };
        if now.millis_since(Stamp::from_nanos(made)) > NONCE_MS && last.is_none_or(|last| last.made_nanos != made) {
            return Verdict::Stale;
        }
        let ha1 = answer.algorithm.ha1(&answer.username, &self.realm, password);
        if !bool::from(answer.is_right(&ha1, request.method.as_str())) {
            return Verdict::Wrong;
        }
        let this = LastNonce { made_nanos: made, count: answer.count().unwrap_or(0) };
        let is_new = last.is_none_or(|last| (this.made_nanos, this.count) > (last.made_nanos, last.count));
        let may_count = last.is_none_or(|last| last.made_nanos != made || last.count > 0);
        if !(is_new && may_count) {
            return Verdict::Replayed;
        }
        *last = Some(this);
        Verdict::Right
    }

    /// When a nonce was made, if it was here for that device at that address.
    fn made(&self, device: &str, from: IpAddr, nonce: &str) -> Option<u64> {
        let nanos = u64::from_str_radix(nonce.get(..TIME_DIGITS)?, 16).ok()?;
        let is_ours = nonce.as_bytes().ct_eq(self.nonce(nanos, device, from).as_bytes());
        bool::from(is_ours).then_some(nanos)
    }
}

/// The same challenge with the hash of the standard of 2022.
pub fn with_sm3(challenge: &str) -> String {
    challenge.replace(",algorithm=MD5", ",algorithm=SM3")
}

/// What stands behind `Digest`.
fn digest_fields(header: &str) -> Option<&str> {
    let (scheme, fields) = header.trim_start().split_once([' ', '\t'])?;
    scheme.eq_ignore_ascii_case("Digest").then_some(fields)
}

/// What another platform challenges us with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    realm: String,
    nonce: String,
    opaque: Option<String>,
    algorithm: Algorithm,
    has_qop: bool,
    pub is_stale: bool,
}

impl Challenge {
    /// A value of `WWW-Authenticate` or `Proxy-Authenticate`. `None`: it is broken or of a kind that is not known.
    pub fn parse(header: &str) -> Option<Self> {
        let (mut realm, mut nonce, mut opaque, mut algorithm) = (None, None, None, Some(Algorithm::Md5));
        let (mut has_qop, mut offers_auth, mut is_stale) = (false, false, false);
        each_field(digest_fields(header)?, |name, value| {
            match name.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value.to_owned()),
                "nonce" => nonce = Some(value.to_owned()),
                "opaque" => opaque = Some(value.to_owned()),
                "algorithm" => algorithm = Algorithm::parse(value),
                "qop" => {
                    has_qop = true;
                    offers_auth = value.split(',').any(|qop| qop.trim().eq_ignore_ascii_case("auth"));
                }
                "stale" => is_stale = value.eq_ignore_ascii_case("true"),
                _ => {}
            }
            Some(())
        })?;
        if has_qop && !offers_auth {
            return None;
        }
        Some(Challenge { realm: realm?, nonce: nonce?, opaque, algorithm: algorithm?, has_qop, is_stale })
    }

    /// The value of `Authorization`. `client_nonce`: one that was never used with this challenge before.
    pub fn answer(&self, username: &str, password: &str, method: &str, uri: &str, client_nonce: &str) -> String {
        const FIRST_USE: &str = "00000001";
        let ha1 = self.algorithm.ha1(username, &self.realm, password);
        let counted = self.has_qop.then_some((FIRST_USE, client_nonce));
        let response = response(self.algorithm, &ha1, &self.nonce, counted, method, uri);
        let mut text = format!(
            "Digest username=\"{username}\",realm=\"{}\",nonce=\"{}\",uri=\"{uri}\",response=\"{response}\",algorithm={}",
            self.realm,
            self.nonce,
            self.algorithm.name(),
        );
        if let Some((count, client_nonce)) = counted {
            text += &format!(",qop=auth,nc={count},cnonce=\"{client_nonce}\"");
        }
        if let Some(opaque) = &self.opaque {
            text += &format!(",opaque=\"{opaque}\"");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::protocol::gb28181::sip::message::Method;

    const DEVICE: &str = "34020000001110000001";
    const PEER: (&str, IpAddr) = (DEVICE, IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)));
    const URI: &str = "sip:34020000002000000001@3402000000";

    fn request(authorization: Option<&str>) -> Request {
        let mut request = Request::new(Method::Register, URI);
        if let Some(value) = authorization {
            request.headers.push("Authorization", value);
        }
        request
    }

    fn answer(challenge: &str, password: &str) -> String {
        // Of a device that hashes another address than that of the request, as sipp does.
        Challenge::parse(challenge).unwrap().answer(DEVICE, password, "REGISTER", "sip:127.0.0.1:5062", "c")
    }

    #[test]
    fn answers_to_challenges() {
        let mut ours = Challenges::new(&[1; 32], "3402000000");
        let mut other = Challenges::new(&[2; 32], "3402000000");
        let at = Stamp::from_millis(5_000);
        let challenge = ours.challenge(at, PEER, false);
        let right = answer(&challenge, "12345678");
        let foreign = answer(&other.challenge(at, PEER, false), "12345678");
        let of_another = answer(&ours.challenge(at, ("34020000001110000002", PEER.1), false), "12345678");
        let elsewhere = answer(&ours.challenge(at, (DEVICE, Ipv4Addr::new(192, 0, 2, 11).into()), false), "12345678");
        let cases = [
            ("right", Some(right.clone()), 5_000, Verdict::Right),
            ("right, with SM3", Some(answer(&with_sm3(&challenge), "12345678")), 5_000, Verdict::Right),
            ("another password, with SM3", Some(answer(&with_sm3(&challenge), "12345679")), 5_000, Verdict::Wrong),
            ("at the last moment", Some(right.clone()), 5_000 + NONCE_MS, Verdict::Right),
            ("too late", Some(right.clone()), 5_001 + NONCE_MS, Verdict::Stale),
            ("none", None, 5_000, Verdict::Missing),
            ("another password", Some(answer(&challenge, "12345679")), 5_000, Verdict::Wrong),
            ("a nonce of another process", Some(foreign), 5_000, Verdict::Stale),
            ("a nonce of another device", Some(of_another), 5_000, Verdict::Stale),
            ("a nonce given to another address", Some(elsewhere), 5_000, Verdict::Stale),
            ("another password, too late", Some(answer(&challenge, "12345679")), 5_001 + NONCE_MS, Verdict::Stale),
            ("another scheme", Some("Basic YTpi".to_owned()), 5_000, Verdict::Broken),
            ("GB 35114", Some("Capability algorithm=\"A:SM2\"".to_owned()), 5_000, Verdict::Broken),
            ("no response", Some(right.replace("response", "x")), 5_000, Verdict::Broken),
            ("no nonce of ours, and wrong", Some(right.replace("nonce=\"0", "nonce=\"1")), 5_000, Verdict::Stale),
        ];
        for (name, authorization, at, expected) in cases {
            let request = request(authorization.as_deref());
            let verdict = ours.check(Stamp::from_millis(at), &request, PEER, "12345678", &mut None);
            assert_eq!(verdict, expected, "{name}");
        }
    }

    #[test]
    fn an_answer_is_good_once() {
        let mut ours = Challenges::new(&[1; 32], "3402000000");
        let (at, mut last) = (Stamp::from_millis(5_000), None);
        let first = answer(&ours.challenge(at, PEER, false), "p");
        let second = answer(&ours.challenge(at, PEER, true), "p");
        let mut check = |text: &str, at| ours.check(at, &request(Some(text)), PEER, "p", &mut last);
        assert_eq!(check(&second, at), Verdict::Right);
        assert_eq!(check(&second, at), Verdict::Replayed);
        assert_eq!(check(&first, at), Verdict::Replayed, "older than one that was used");
        assert_eq!(check(&second, Stamp::from_millis(100_000)), Verdict::Replayed, "a device that refreshes with what it had");
        // With qop the count must grow.
        let challenge = ours.challenge(at, PEER, false) + ",qop=\"auth,auth-int\",opaque=\"o\"";
        let counted = |count: &str| {
            let challenge = Challenge::parse(&challenge).unwrap();
            let ha1 = Algorithm::Md5.ha1(DEVICE, "3402000000", "p");
            let response = response(Algorithm::Md5, &ha1, &challenge.nonce, Some((count, "c")), "REGISTER", URI);
            format!(
                "Digest username=\"{DEVICE}\",realm=\"3402000000\",nonce=\"{}\",uri=\"{URI}\",response=\"{response}\",\
                qop=auth,nc={count},cnonce=\"c\"",
                challenge.nonce
            )
        };
        let mut check = |text: &str, at| ours.check(at, &request(Some(text)), PEER, "p", &mut last);
        assert_eq!(check(&counted("00000001"), at), Verdict::Right);
        assert_eq!(check(&counted("00000001"), at), Verdict::Replayed);
        let much_later = Stamp::from_millis(3_600_000);
        assert_eq!(check(&counted("00000003"), much_later), Verdict::Right, "the nonce that it has registered with lives on");
        assert_eq!(check(&counted("00000002"), much_later), Verdict::Replayed);
        assert_eq!(check(&counted("mm"), much_later), Verdict::Replayed);
    }

    #[test]
    fn challenges_of_other_platforms() {
        // RFC 7616 §3.9.1.
        let header = "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm=SHA-256, \
            nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";
        let challenge = Challenge::parse(header).unwrap();
        let client_nonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        let text = challenge.answer("Mufasa", "Circle of Life", "GET", "/dir/index.html", client_nonce);
        assert!(text.contains("response=\"753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1\""), "{text}");
        assert!(text.contains("qop=auth,nc=00000001,cnonce=\"f2/") && text.contains("opaque=\"FQhe"), "{text}");
        let cases = [
            ("Digest realm=\"r\",nonce=\"n\"", true),
            ("digest realm=\"r\", nonce=\"n\", stale=TRUE", true),
            ("Digest realm=\"r\",nonce=\"n\",algorithm=SM3", true),
            ("Digest realm=\"r\",nonce=\"n\",algorithm=SM4", false),
            ("Digest realm=\"r\",nonce=\"n\",qop=\"auth-int\"", false),
            ("Digest realm=\"r\"", false),
            ("Asymmetric random1=\"r\"", false),
            ("Digest", false),
        ];
        for (text, is_known) in cases {
            assert_eq!(Challenge::parse(text).is_some(), is_known, "{text}");
        }
        assert!(Challenge::parse(cases[1].0).unwrap().is_stale);
    }
}
