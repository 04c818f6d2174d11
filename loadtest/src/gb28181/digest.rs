//! The answer to a digest challenge: MD5, with and without qop. Spec: RFC 2617 §3.2; RFC 3261 §22.4.

use md5::{Digest, Md5};

/// What a 401 asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    realm: String,
    nonce: String,
    opaque: Option<String>,
    /// The server offers `qop=auth`.
    auth: bool,
    /// Requests that this nonce was used for.
    count: u32,
}

impl Challenge {
    /// The value of WWW-Authenticate. `None`: another scheme, or another algorithm than MD5.
    pub fn parse(value: &str) -> Option<Challenge> {
        let rest = value.strip_prefix("Digest")?;
        let mut challenge = Challenge { realm: String::new(), nonce: String::new(), opaque: None, auth: false, count: 0 };
        for (name, value) in split_list(rest) {
            match name.to_ascii_lowercase().as_str() {
                "realm" => challenge.realm = value,
                "nonce" => challenge.nonce = value,
                "opaque" => challenge.opaque = Some(value),
                "qop" => challenge.auth = value.split(',').any(|qop| qop.trim() == "auth"),
                "algorithm" if !value.eq_ignore_ascii_case("MD5") => return None,
                _ => {}
            }
        }
        (!challenge.nonce.is_empty()).then_some(challenge)
    }

    /// The value of Authorization for the next request.
    pub fn answer(&mut self, user: &str, password: &str, method: &str, uri: &str, client_nonce: &str) -> String {
        self.count += 1;
        let Challenge { realm, nonce, opaque, auth, count } = self;
        let secret = hex(&format!("{user}:{realm}:{password}"));
        let request = hex(&format!("{method}:{uri}"));
        let (response, qop) = if *auth {
            let response = hex(&format!("{secret}:{nonce}:{count:08x}:{client_nonce}:auth:{request}"));
            (response, format!(",qop=auth,nc={count:08x},cnonce=\"{client_nonce}\""))
        } else {
            (hex(&format!("{secret}:{nonce}:{request}")), String::new())
        };
        let opaque = opaque.as_ref().map_or(String::new(), |opaque| format!(",opaque=\"{opaque}\""));
        format!(
            "Digest username=\"{user}\",realm=\"{realm}\",nonce=\"{nonce}\",uri=\"{uri}\",response=\"{response}\",algorithm=MD5{qop}{opaque}"
        )
    }
}

fn hex(text: &str) -> String {
    hex_of(&Md5::digest(text.as_bytes()))
}

pub fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `name=value, name="value, with a comma"`.
fn split_list(mut rest: &str) -> Vec<(String, String)> {
    let mut list = Vec::new();
    while let Some((name, behind)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',', '\t']).to_owned();
        let (value, behind) = match behind.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => behind.split_at(behind.find(',').unwrap_or(behind.len())),
        };
        list.push((name, value.trim().to_owned()));
        rest = behind;
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_answered_as_the_standards_examples_are() {
        // RFC 2617 §3.5.
        let mut challenge = Challenge::parse(
            r#"Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41""#,
        )
        .unwrap();
        let answer = challenge.answer("Mufasa", "Circle Of Life", "GET", "/dir/index.html", "0a4f113b");
        assert!(answer.contains(r#"response="6629fae49393a05397450978507c4ef1""#), "{answer}");
        assert!(answer.contains("nc=00000001") && answer.contains("opaque=\"5ccc"), "{answer}");
        // The same without qop: MD5(HA1:nonce:HA2), by md5sum.
        let mut challenge =
            Challenge::parse(r#"Digest realm="testrealm@host.com",nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",algorithm=MD5"#)
                .unwrap();
        let answer = challenge.answer("Mufasa", "Circle Of Life", "GET", "/dir/index.html", "");
        assert!(answer.contains(r#"response="670fd8c2df070c60b045671b8b24ff02""#), "{answer}");
        assert_eq!(Challenge::parse("Digest realm=\"a\",nonce=\"b\",algorithm=SM3"), None);
        assert_eq!(Challenge::parse("Basic realm=\"a\""), None);
    }
}
