//! Who may publish and play: passwords in clear, Basic and Digest against the users of the configuration.
//!
//! RFC 7617 (Basic), RFC 7616 (Digest with MD5 and SHA-256) and its older forms without `qop` (RFC 2617 §3.2.2.1), which most RTSP clients
//! send. Nonces are not remembered but signed: the time and a keyed hash of it and the peer's address. A request may therefore be
//! repeated, by the same address for the same method and stream, while its nonce lives.
//!
//! | file | holds |
//! |---|---|
//! | `digest` | the `Authorization` header, read; the hashes of RFC 7616 §3.4 |
//! | `nonce` | nonces |
//! | `guard` | wrong passwords, counted by address |
//!
//! Names, passwords and answers are compared in constant time, and an unknown user costs what a wrong password does. A wrong password is
//! counted; a request without credentials, or with credentials of an unknown kind, is not.
//!
//! An [`Authority`] owns the users with their hashes and 32 KiB of counters; checking takes no lock. Not here: 401 and its relatives, which
//! each protocol says in its own words.

pub(crate) mod digest;
pub(crate) mod guard;
mod nonce;

use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use self::digest::{Algorithm, Answer, Ha1};
use self::guard::Guard;
use self::nonce::Nonces;
use crate::config::{Auth, DigestAlgorithms};
use crate::media::Stamp;
use crate::protocol::common::hex;
use crate::protocol::common::url::{Query, percent_decode, split_query};
use crate::session::{Output, StreamKey};

/// What of a hash stands in a token.
const MARK_BYTES: usize = 16;

/// What somebody wants to do with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    Publish,
    Play,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Granted,
    /// No credentials, or wrong ones. `stale`: only the nonce is too old.
    Denied {
        stale: bool,
    },
    /// The user is known and may not do that.
    Forbidden,
    /// Too many wrong passwords have come from that address.
    Throttled,
}

impl Verdict {
    /// A refusal, for the log. `None`: it is none, the client is only asked for a newer nonce, or its address is refused unseen and was told
    /// of before. `named`: it said who it is.
    pub fn note(self, named: bool, right: Right, key: &StreamKey) -> Option<Output> {
        let (reason, why) = match self {
            Verdict::Granted | Verdict::Throttled | Verdict::Denied { stale: true } => return None,
            Verdict::Denied { .. } if named => ("wrong_password", "wrong name or password"),
            Verdict::Denied { .. } => ("no_password", "no name and password"),
            Verdict::Forbidden => ("not_allowed", "this user has no right to"),
        };
        let what = match right {
            Right::Publish => "publish",
            Right::Play => "play",
        };
        Some(Output::Note { reason: Some(reason), message: format!("may not {what} {key}: {why}") })
    }
}

/// The users and what they may do. One for the whole process, shared by the shards.
pub struct Authority {
    config: Auth,
    /// In the order of `config.users`.
    accounts: Vec<Account>,
    /// Stands in for the user that is not found.
    nobody: Account,
    keyed: Keyed,
    guard: Guard,
}

/// No secrets in a log.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A user in the form in which credentials are compared.
struct Account {
    name: [u8; 32],
    password: [u8; 32],
    md5: Ha1,
    sha256: Ha1,
}

/// HMAC-SHA256 with the secret of the process.
#[derive(Clone)]
pub(crate) struct Keyed(Hmac<Sha256>);

impl Keyed {
    pub fn new(secret: &[u8]) -> Self {
        Keyed(Hmac::new_from_slice(secret).expect("HMAC takes keys of any length"))
    }

    /// `purpose` keeps apart what must never be mistaken for each other. Only the last of `parts` may vary in length.
    pub fn hash(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut hmac = self.0.clone();
        hmac.update(purpose.as_bytes());
        hmac.update(&[0]);
        for part in parts {
            hmac.update(part);
        }
        hmac.finalize().into_bytes().into()
    }
}

impl Account {
    fn new(keyed: &Keyed, name: &str, realm: &str, password: &str) -> Self {
        Account {
            name: keyed.hash("name", &[name.as_bytes()]),
            password: keyed.hash("password", &[password.as_bytes()]),
            md5: Algorithm::Md5.ha1(name, realm, password),
            sha256: Algorithm::Sha256.ha1(name, realm, password),
        }
    }

    /// `None`: of a kind that is never offered here.
    fn ha1(&self, algorithm: Algorithm) -> Option<&Ha1> {
        match algorithm {
            Algorithm::Md5 => Some(&self.md5),
            Algorithm::Sha256 => Some(&self.sha256),
            Algorithm::Sm3 => None,
        }
    }
}

impl Authority {
    /// `secret`: random, of this process alone; nonces are made with it.
    pub fn new(config: &Auth, secret: [u8; 32]) -> Self {
        let keyed = Keyed::new(&secret);
        let account = |name: &str, password: &str| Account::new(&keyed, name, &config.realm, password);
        let accounts = config.users.iter().map(|user| account(&user.name, &user.password)).collect();
        // No configured name has a colon, so nobody has this one; the password cannot be known.
        let nobody = account(":", &format!("{:x?}", keyed.hash("nobody", &[])));
        Authority { config: config.clone(), accounts, nobody, keyed, guard: Guard::default() }
    }

    /// A name and a password in clear, from a query; `None`: none were given.
    pub fn check_password(
        &self,
        now: Stamp,
        peer: IpAddr,
        credentials: Option<(&str, &str)>,
        right: Right,
        key: &StreamKey,
    ) -> Verdict {
        let Some((name, password)) = credentials else { return self.check_anonymous(right, key) };
        self.before_a_look(now, peer).unwrap_or_else(|| self.look_at_password(now, peer, (name, password), right, key))
    }

    fn look_at_password(
        &self,
        now: Stamp,
        peer: IpAddr,
        (name, password): (&str, &str),
        right: Right,
        key: &StreamKey,
    ) -> Verdict {
        if !self.config.basic {
            return Verdict::Denied { stale: false };
        }
        let (_, user, _) = self.find(name);
        if self.knows(name, password) {
            return self.check_right(user, right, key);
        }
        self.wrong(now, peer)
    }

    /// The parameters `user` and `pass` of a query.
    pub fn check_query(&self, now: Stamp, peer: IpAddr, query: &Query, right: Right, key: &StreamKey) -> Verdict {
        let Some(user) = query.get("user") else { return self.check_anonymous(right, key) };
        let password = query.get("pass").unwrap_or_default();
        // Browsers write a space as a plus (`URLSearchParams`), people write a plus as it is.
        let form = (query.get_as_form("user").unwrap_or_default(), query.get_as_form("pass").unwrap_or_default());
        let credentials = if self.knows(form.0, form.1) { form } else { (user, password) };
        self.check_password(now, peer, Some(credentials), right, key)
    }

    fn knows(&self, name: &str, password: &str) -> bool {
        let (account, _, is_known) = self.find(name);
        (is_known & self.keyed.hash("password", &[password.as_bytes()]).ct_eq(&account.password)).into()
    }

    /// The value of an `Authorization` header (Basic or Digest) of a request with `method`; `None`: there is none.
    pub fn check_header(
        &self,
        now: Stamp,
        peer: IpAddr,
        authorization: Option<&str>,
        method: &str,
        right: Right,
        key: &StreamKey,
    ) -> Verdict {
        let Some(authorization) = authorization else { return self.check_anonymous(right, key) };
        if let Some(verdict) = self.before_a_look(now, peer) {
            return verdict;
        }
        if is_basic(authorization) {
            return self.look_at_basic(now, peer, authorization, right, key);
        }
        match parameters(authorization, "Digest").and_then(Answer::parse) {
            Some(answer) => self.look_at_answer(now, peer, &answer, method, right, key),
            None => Verdict::Denied { stale: false },
        }
    }

    /// The value of an `Authorization` header of the scheme Basic, see [`is_basic`].
    pub fn check_basic(&self, now: Stamp, peer: IpAddr, authorization: &str, right: Right, key: &StreamKey) -> Verdict {
        self.before_a_look(now, peer).unwrap_or_else(|| self.look_at_basic(now, peer, authorization, right, key))
    }

    fn look_at_basic(&self, now: Stamp, peer: IpAddr, authorization: &str, right: Right, key: &StreamKey) -> Verdict {
        let decoded = parameters(authorization, "Basic").and_then(|text| BASE64.decode(text.trim()).ok());
        let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        match text.as_deref().and_then(|text| text.split_once(':')) {
            Some(credentials) => self.look_at_password(now, peer, credentials, right, key),
            None => Verdict::Denied { stale: false },
        }
    }

    /// The values of the `WWW-Authenticate` headers of a refusal, in the order in which they are to stand.
    ///
    /// SHA-256 before MD5: ffmpeg and live555 take the last digest and know MD5 alone; GStreamer answers with MD5 to the last nonce, hence
    /// one nonce for all. The fields stand in the order in which live555 expects them, and no `qop` is offered, which old clients do not
    /// know.
    pub fn challenges(&self, now: Stamp, peer: IpAddr, stale: bool) -> Vec<String> {
        let realm = &self.config.realm;
        let nonce = self.nonces().make(now, peer);
        let stale = if stale { ", stale=true" } else { "" };
        let digest = format!("Digest realm=\"{realm}\", nonce=\"{nonce}\"{stale}");
        let mut challenges = vec![format!("{digest}, algorithm=SHA-256")];
        if self.config.digest == DigestAlgorithms::Sha256AndMd5 {
            challenges.push(digest);
        }
        challenges.extend(self.basic_challenge());
        challenges
    }

    /// The challenge for passwords in clear; `None`: they are not taken.
    pub fn basic_challenge(&self) -> Option<String> {
        self.config.basic.then(|| format!("Basic realm=\"{}\"", self.config.realm))
    }

    /// Whether everybody has that right, without a name.
    pub fn is_open(&self, right: Right, key: &StreamKey) -> bool {
        self.check_anonymous(right, key) == Verdict::Granted
    }

    /// Names a viewer who may play a stream, and says since when: 16 hex digits of each, and 32 of a hash. It holds instead of credentials.
    pub fn session_token(&self, key: &StreamKey, viewer: u64, at: Stamp) -> String {
        let (viewer, nanos) = (viewer.to_be_bytes(), at.as_nanos().to_be_bytes());
        hex::lower(&viewer) + &hex::lower(&nanos) + &self.mark("hls session", &[&viewer, &nanos, key.as_str().as_bytes()])
    }

    /// How old a viewer's token is, in milliseconds; `None`: it was not made here, or for something else.
    pub fn session_token_age_ms(&self, now: Stamp, key: &StreamKey, viewer: u64, token: &str) -> Option<u64> {
        let at = token.get(16..32).and_then(|digits| u64::from_str_radix(digits, 16).ok()).map(Stamp::from_nanos)?;
        let is_ours = self.session_token(key, viewer, at).as_bytes().ct_eq(token.as_bytes());
        bool::from(is_ours).then(|| now.millis_since(at))
    }

    /// Opens the segments of a stream to whoever has been given its playlist, for the period of `period_ms` in which `now` is and the next
    /// one. It is the same for all viewers.
    pub fn segment_token(&self, now: Stamp, key: &StreamKey, period_ms: u64) -> String {
        self.token_of_period(key, now.millis_since(Stamp::ZERO) / period_ms.max(1))
    }

    pub fn is_segment_token(&self, now: Stamp, key: &StreamKey, period_ms: u64, token: &str) -> bool {
        let period = now.millis_since(Stamp::ZERO) / period_ms.max(1);
        let is_of = |period: u64| self.token_of_period(key, period).as_bytes().ct_eq(token.as_bytes());
        (is_of(period) | is_of(period.saturating_sub(1))).into()
    }

    fn token_of_period(&self, key: &StreamKey, period: u64) -> String {
        self.mark("hls segments", &[&period.to_be_bytes(), key.as_str().as_bytes()])
    }

    fn mark(&self, purpose: &str, parts: &[&[u8]]) -> String {
        hex::lower(&self.keyed.hash(purpose, parts)[..MARK_BYTES])
    }

    /// What can be said without looking at the credentials.
    fn before_a_look(&self, now: Stamp, peer: IpAddr) -> Option<Verdict> {
        if self.config.users.is_empty() {
            return Some(Verdict::Granted);
        }
        let is_throttled = self.guard.failures(now, self.peer_hash(peer)) >= self.config.failures_per_minute_max;
        is_throttled.then_some(Verdict::Throttled)
    }

    fn look_at_answer(
        &self,
        now: Stamp,
        peer: IpAddr,
        answer: &Answer<'_>,
        method: &str,
        right: Right,
        key: &StreamKey,
    ) -> Verdict {
        if answer.algorithm == Algorithm::Md5 && self.config.digest == DigestAlgorithms::Sha256 {
            return Verdict::Denied { stale: false };
        }
        let (account, user, is_known) = self.find(&answer.username);
        let Some(ha1) = account.ha1(answer.algorithm) else { return Verdict::Denied { stale: false } };
        let is_right = answer.is_right(ha1, method);
        if !bool::from(is_known & is_right) {
            return self.wrong(now, peer);
        }
        if !names_stream(answer.uri, key) {
            return Verdict::Denied { stale: false };
        }
        // A nonce of an earlier process too: the password is right, so the client only has to begin anew.
        if !self.nonces().holds(now, peer, answer.nonce, self.config.nonce_ms) {
            return Verdict::Denied { stale: true };
        }
        self.check_right(user, right, key)
    }

    /// The account of a name, its number, and whether there is one. Looks at all of them.
    fn find(&self, name: &str) -> (&Account, usize, Choice) {
        let hash = self.keyed.hash("name", &[name.as_bytes()]);
        let mut found = self.accounts.len() as u64;
        for (number, account) in self.accounts.iter().enumerate() {
            found.conditional_assign(&(number as u64), hash.ct_eq(&account.name));
        }
        let number = found as usize;
        (self.accounts.get(number).unwrap_or(&self.nobody), number, !found.ct_eq(&(self.accounts.len() as u64)))
    }

    fn check_right(&self, user: usize, right: Right, key: &StreamKey) -> Verdict {
        let Some(user) = self.config.users.get(user) else { return Verdict::Denied { stale: false } };
        let patterns = match right {
            Right::Publish => &user.publish,
            Right::Play => &user.play,
        };
        if any_matches(patterns, key) { Verdict::Granted } else { Verdict::Forbidden }
    }

    fn check_anonymous(&self, right: Right, key: &StreamKey) -> Verdict {
        let patterns = match right {
            Right::Publish => &self.config.anonymous.publish,
            Right::Play => &self.config.anonymous.play,
        };
        if self.config.users.is_empty() || any_matches(patterns, key) {
            Verdict::Granted
        } else {
            Verdict::Denied { stale: false }
        }
    }

    fn wrong(&self, now: Stamp, peer: IpAddr) -> Verdict {
        self.guard.add_failure(now, self.peer_hash(peer));
        Verdict::Denied { stale: false }
    }

    fn nonces(&self) -> Nonces<'_> {
        Nonces { keyed: &self.keyed }
    }

    fn peer_hash(&self, peer: IpAddr) -> u32 {
        let hash = self.keyed.hash("peer", &[&guard::network(peer)]);
        u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
    }
}

/// Whether an `Authorization` header is of the scheme Basic.
pub fn is_basic(authorization: &str) -> bool {
    parameters(authorization, "Basic").is_some()
}

/// What stands behind the scheme of an `Authorization` header, if it is `scheme`.
fn parameters<'a>(authorization: &'a str, scheme: &str) -> Option<&'a str> {
    let authorization = authorization.trim();
    let (found, rest) = authorization.split_once(' ').unwrap_or((authorization, ""));
    found.eq_ignore_ascii_case(scheme).then_some(rest)
}

fn any_matches(patterns: &[String], key: &StreamKey) -> bool {
    patterns.iter().any(|pattern| matches(pattern, key.as_str()))
}

/// Whether `text` fits a pattern in which `*` stands for any text. At most one step back per byte of text.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut in_pattern, mut in_text) = (0, 0);
    // Behind the last star, and where the text that it stands for ends.
    let mut star: Option<(usize, usize)> = None;
    while in_text < text.len() {
        match pattern.get(in_pattern) {
            Some(b'*') => {
                in_pattern += 1;
                star = Some((in_pattern, in_text));
            }
            Some(byte) if *byte == text[in_text] => (in_pattern, in_text) = (in_pattern + 1, in_text + 1),
            _ => {
                let Some((behind, end)) = star else { return false };
                star = Some((behind, end + 1));
                (in_pattern, in_text) = (behind, end + 1);
            }
        }
    }
    pattern[in_pattern..].iter().all(|byte| *byte == b'*')
}

/// Whether a digest's `uri` (absolute, or only a path; of the stream or of one of its tracks) belongs to the stream `key`. Else an answer
/// for one stream could be used for another.
fn names_stream(uri: &str, key: &StreamKey) -> bool {
    let path = match uri.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        None => uri,
    };
    let Some(path) = percent_decode(split_query(path).0) else { return false };
    let behind = path.trim_start_matches('/').strip_prefix(key.as_str());
    behind.is_some_and(|behind| behind.is_empty() || behind.starts_with('/'))
}

#[cfg(test)]
mod tests;
