//! The `Authorization: Digest` header → [`Answer`], and whether it is the right one.
//!
//! RFC 7616 §3.4 (fields), §3.4.1 to §3.4.3 (hashes) without `userhash`, `auth-int` and the `-sess` algorithms, none of which is offered;
//! RFC 2617 §3.2.2.1 (no `qop`); SM3 (GB/T 32905) as GB/T 28181-2022 has it in SIP. An [`Answer`] borrows the header, whose length its reader bounds. Fields after [`FIELDS_MAX`] are an error.
//!
//! Not here: whether the nonce is ours, and whether `nc` grows: nothing is remembered.

use std::borrow::Cow;

use md5::Md5;
use sha2::{Digest, Sha256};
use sm3::Sm3;
use subtle::{Choice, ConstantTimeEq as _};

use crate::protocol::common::hex;

const FIELDS_MAX: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Md5,
    Sha256,
    /// In SIP alone.
    Sm3,
}

/// H(user:realm:password), in lower-case hex: 32 or 64 digits.
pub(crate) struct Ha1(String);

impl Algorithm {
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            _ if name.eq_ignore_ascii_case("MD5") => Some(Algorithm::Md5),
            _ if name.eq_ignore_ascii_case("SHA-256") => Some(Algorithm::Sha256),
            _ if name.eq_ignore_ascii_case("SM3") => Some(Algorithm::Sm3),
            _ => None,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Sm3 => "SM3",
        }
    }

    /// H of `parts` with colons in between, in lower-case hex.
    fn hash(self, parts: &[&str]) -> String {
        let text = parts.join(":");
        match self {
            Algorithm::Md5 => hex::lower(&Md5::digest(text.as_bytes())),
            Algorithm::Sha256 => hex::lower(&Sha256::digest(text.as_bytes())),
            Algorithm::Sm3 => hex::lower(&Sm3::digest(text.as_bytes())),
        }
    }

    pub fn ha1(self, name: &str, realm: &str, password: &str) -> Ha1 {
        Ha1(self.hash(&[name, realm, password]))
    }
}

/// What a client answers to a challenge.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    pub username: Cow<'a, str>,
    pub nonce: &'a str,
    pub uri: &'a str,
    pub algorithm: Algorithm,
    response: &'a str,
    /// With `qop=auth`: `nc` and `cnonce`.
    counted: Option<(&'a str, &'a str)>,
}

impl<'a> Answer<'a> {
    /// Takes what stands behind `Digest`. `None`: it is broken, or of a kind that was not offered.
    pub fn parse(text: &'a str) -> Option<Answer<'a>> {
        let mut fields = Fields::default();
        each_field(text, |name, value| fields.set(name, value))?;
        fields.answer()
    }

    /// Which use of the nonce it is, of a client that counts them. Text that is no number counts as none.
    pub fn count(&self) -> Option<u32> {
        self.counted.map(|(nc, _)| u32::from_str_radix(nc, 16).unwrap_or(0))
    }

    /// Whether the response is that of who knows the password behind `ha1`.
    pub fn is_right(&self, ha1: &Ha1, method: &str) -> Choice {
        let expected = response(self.algorithm, ha1, self.nonce, self.counted, method, self.uri);
        expected.as_bytes().ct_eq(self.response.to_ascii_lowercase().as_bytes())
    }
}

/// RFC 7616 §3.4.1. `counted`: `nc` and `cnonce`, with `qop=auth`.
pub(crate) fn response(
    algorithm: Algorithm,
    ha1: &Ha1,
    nonce: &str,
    counted: Option<(&str, &str)>,
    method: &str,
    uri: &str,
) -> String {
    let ha2 = algorithm.hash(&[method, uri]);
    match counted {
        Some((nc, cnonce)) => algorithm.hash(&[&ha1.0, nonce, nc, cnonce, "auth", &ha2]),
        None => algorithm.hash(&[&ha1.0, nonce, &ha2]),
    }
}

/// Hands out the fields of a header, without quotes, until `take` says `None`. `None`: that, or the header is broken.
pub(crate) fn each_field<'a>(text: &'a str, mut take: impl FnMut(&str, &'a str) -> Option<()>) -> Option<()> {
    let mut rest = text.trim_matches([' ', '\t', ',']);
    for _ in 0..FIELDS_MAX {
        if rest.is_empty() {
            return Some(());
        }
        let (name, behind) = rest.split_once('=')?;
        let (value, behind) = value(behind.trim_start())?;
        take(name.trim(), value)?;
        rest = behind.trim_start_matches([' ', '\t', ',']);
    }
    None
}

/// The fields as they come; quoted ones without their quotes.
#[derive(Default)]
struct Fields<'a> {
    username: Option<&'a str>,
    nonce: Option<&'a str>,
    uri: Option<&'a str>,
    algorithm: Option<&'a str>,
    response: Option<&'a str>,
    qop: Option<&'a str>,
    nc: Option<&'a str>,
    cnonce: Option<&'a str>,
}

impl<'a> Fields<'a> {
    /// `None`: the field was there already. Unknown ones are skipped: `realm` and `opaque` say nothing new.
    fn set(&mut self, name: &str, value: &'a str) -> Option<()> {
        let field = match name.to_ascii_lowercase().as_str() {
            "username" => &mut self.username,
            "nonce" => &mut self.nonce,
            "uri" => &mut self.uri,
            "algorithm" => &mut self.algorithm,
            "response" => &mut self.response,
            "qop" => &mut self.qop,
            "nc" => &mut self.nc,
            "cnonce" => &mut self.cnonce,
            _ => return Some(()),
        };
        field.replace(value).is_none().then_some(())
    }

    fn answer(self) -> Option<Answer<'a>> {
        let counted = match self.qop.filter(|qop| !qop.is_empty()) {
            None => None,
            Some(qop) if qop.eq_ignore_ascii_case("auth") => Some((self.nc?, self.cnonce?)),
            Some(_) => return None,
        };
        Some(Answer {
            username: unescape(self.username?),
            nonce: self.nonce?,
            uri: self.uri?,
            algorithm: self.algorithm.map_or(Some(Algorithm::Md5), Algorithm::parse)?,
            response: self.response?,
            counted,
        })
    }
}

/// A quoted string or a token at the front of `text`, and what stands behind it. Quoted strings keep their backslashes: hashes are made
/// of the text as it is sent.
fn value(text: &str) -> Option<(&str, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some(text.split_at(end));
    };
    let mut is_escaped = false;
    for (at, byte) in quoted.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return Some((&quoted[..at], &quoted[at + 1..])),
            _ => {}
        }
    }
    None
}

/// RFC 9110 §5.6.4.
fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut chars = text.chars();
    let mut plain = String::with_capacity(text.len());
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7616 §3.9.1, as a client sends it.
    const COUNTED: &str = "username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", algorithm=MD5, \
        nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", \
        qop=auth, response=\"8ca523f5e9506fed4657c9700eebdbec\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";
    const COUNTED_SHA256: &str = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";

    fn check(text: &str, (name, realm, password): (&str, &str, &str), method: &str) -> Option<bool> {
        let answer = Answer::parse(text)?;
        let ha1 = answer.algorithm.ha1(name, realm, password);
        Some(answer.username == name && answer.is_right(&ha1, method).into())
    }

    #[test]
    fn vectors_of_the_rfcs() {
        let mufasa = ("Mufasa", "http-auth@example.org", "Circle of Life");
        let sha256 = COUNTED.replace("=MD5", "=SHA-256").replace("8ca523f5e9506fed4657c9700eebdbec", COUNTED_SHA256);
        // RFC 2617 §3.5.
        let older = "username=\"Mufasa\", realm=\"testrealm@host.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", \
            uri=\"/dir/index.html\", qop=auth, nc=00000001, cnonce=\"0a4f113b\", response=\"6629fae49393a05397450978507c4ef1\", \
            opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"";
        // The same without qop: H(HA1:nonce:HA2), made with md5sum and sha256sum.
        let oldest = "username=\"Mufasa\",realm=\"testrealm@host.com\",nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\",\
            uri=\"/dir/index.html\",response=\"670fd8c2df070c60b045671b8b24ff02\"";
        // Made with openssl dgst -sm3.
        let sm3 = "username=\"34020000001110000001\",realm=\"3402000000\",nonce=\"0a1b\",\
            uri=\"sip:34020000002000000001@3402000000\",response=\"b09d155897729bb7cfc6fed8525602a918f09178dc474c8fe09a88ab182e9362\",algorithm=SM3";
        let rtsp = "username=\"camera\", realm=\"shardcast\", nonce=\"0a1b\", uri=\"rtsp://h/live/a\", algorithm=SHA-256, \
            response=\"2e62b98260b231ead486bad121c0abb43a9adad772151125c166d79a6bcb1cf0\"";
        let cases = [
            ("RFC 7616, MD5", COUNTED, mufasa, "GET", Some(true)),
            ("RFC 7616, SHA-256", &sha256, mufasa, "GET", Some(true)),
            ("another method", COUNTED, mufasa, "HEAD", Some(false)),
            ("another password", COUNTED, ("Mufasa", mufasa.1, "Circle of life"), "GET", Some(false)),
            ("another name", COUNTED, ("mufasa", mufasa.1, mufasa.2), "GET", Some(false)),
            ("RFC 2617", older, ("Mufasa", "testrealm@host.com", "Circle Of Life"), "GET", Some(true)),
            ("no qop", oldest, ("Mufasa", "testrealm@host.com", "Circle Of Life"), "GET", Some(true)),
            ("SIP, SM3, no qop", sm3, ("34020000001110000001", "3402000000", "12345678"), "REGISTER", Some(true)),
            ("RTSP, SHA-256, no qop", rtsp, ("camera", "shardcast", "secret"), "DESCRIBE", Some(true)),
        ];
        for (name, text, user, method, expected) in cases {
            assert_eq!(check(text, user, method), expected, "{name}");
        }
    }

    #[test]
    fn odd_and_broken_headers() {
        let mufasa = ("Mufasa", "http-auth@example.org", "Circle of Life");
        let without = |field: &str| COUNTED.replace(field, "x");
        let cases = [
            ("no spaces", COUNTED.replace(", ", ","), Some(true)),
            ("many commas", format!(", {} ,", COUNTED.replace(", ", " ,, ")), Some(true)),
            ("spaces around =", COUNTED.replace("=", " = "), Some(true)),
            ("quoted algorithm and qop", COUNTED.replace("MD5", "\"md5\"").replace("=auth", "=\"auth\""), Some(true)),
            ("upper-case response", COUNTED.replace("8ca523f5e9506fed", "8CA523F5E9506FED"), Some(true)),
            ("no algorithm", COUNTED.replace("algorithm=MD5, ", ""), Some(true)),
            ("escaped name", COUNTED.replace("Mufasa", "Muf\\asa"), Some(true)),
            ("cut response", COUNTED.replace("8ca523f5", ""), Some(false)),
            ("response of SHA-256", COUNTED.replace("8ca523f5e9506fed4657c9700eebdbec", COUNTED_SHA256), Some(false)),
            ("auth-int", COUNTED.replace("=auth,", "=auth-int,"), None),
            ("-sess", COUNTED.replace("=MD5", "=MD5-sess"), None),
            ("no username", without("username"), None),
            ("no nonce", COUNTED.replace(" nonce=", " x="), None),
            ("no uri", without("uri"), None),
            ("no response", without("response"), None),
            ("no nc", without("nc="), None),
            ("no cnonce", without("cnonce"), None),
            ("a field twice", format!("{COUNTED}, uri=\"/\""), None),
            ("no value", "username".to_owned(), None),
            ("open quotes", COUNTED.trim_end_matches('"').to_owned(), None),
            ("too many fields", "a=b,".repeat(FIELDS_MAX) + COUNTED, None),
            ("empty", String::new(), None),
        ];
        for (name, text, expected) in cases {
            assert_eq!(check(&text, mufasa, "GET"), expected, "{name}");
        }
        let complete = COUNTED.find(", opaque").unwrap();
        for cut in 0..COUNTED.len() {
            let is_right = check(&COUNTED[..cut], mufasa, "GET") == Some(true);
            assert!(!is_right || cut >= complete, "cut at {cut}");
        }
    }
}
