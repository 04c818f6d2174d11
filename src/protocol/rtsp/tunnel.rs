//! RTSP in HTTP, as QuickTime began it: a GET whose answer never ends carries what the server says, a POST whose body never ends carries
//! what the client says, in base64; a cookie tells which belong together.
//!
//! The connection of the GET is the RTSP session; that of the POST only hands on what it decodes, after having moved to the shard of the
//! other half. Pieces of base64 may end anywhere, and each message of the client may be padded. Limits: [`COOKIE_BYTES_MAX`].

use std::sync::Arc;

use bytes::Bytes;

use super::message::Request;
use crate::protocol::common::TUNNEL_COOKIE;

const COOKIE_BYTES_MAX: usize = 256;

/// What a connection is to a tunnel.
#[derive(Debug)]
pub(super) enum Half {
    /// It carries what the server says, and is the session.
    Get { name: Arc<str> },
    /// It carries what the client says. `pieces`: how often something was handed on; the other half has taken all but the last, for a
    /// refusal ends the connection.
    Post { name: Arc<str>, decoder: Base64, pieces: u64 },
}

/// The half that a request in HTTP opens; `None`: it is for no tunnel.
pub(super) fn half(request: &Request) -> Option<Half> {
    let cookie = request.header(TUNNEL_COOKIE).map(str::trim).filter(|cookie| (1..=COOKIE_BYTES_MAX).contains(&cookie.len()))?;
    let name = Arc::from(cookie);
    match request.method.as_str() {
        "GET" => Some(Half::Get { name }),
        "POST" => Some(Half::Post { name, decoder: Base64::default(), pieces: 0 }),
        _ => None,
    }
}

/// What the GET is answered, before everything that the session says.
pub(super) const ANSWER: &str = "HTTP/1.0 200 OK\r\nConnection: close\r\nCache-Control: no-store\r\nPragma: no-cache\r\n\
                                 Content-Type: application/x-rtsp-tunnelled\r\n\r\n";

/// Base64 (RFC 4648 §4) in pieces. Line breaks are passed over.
#[derive(Debug, Default)]
pub(super) struct Base64 {
    /// Bits of the group that is begun, and how many characters it has.
    bits: u32,
    characters: u8,
}

impl Base64 {
    /// The bytes that `text` completes, up to what is no base64; and whether all of it is.
    pub fn decode(&mut self, text: &[u8]) -> (Bytes, bool) {
        let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
        for character in text {
            let value = match character {
                b'A'..=b'Z' => character - b'A',
                b'a'..=b'z' => character - b'a' + 26,
                b'0'..=b'9' => character - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' if self.end_group(&mut bytes).is_some() => continue,
                b'\r' | b'\n' => continue,
                _ => return (bytes.into(), false),
            };
            self.bits = self.bits << 6 | u32::from(value);
            self.characters += 1;
            if self.characters == 4 {
                let [_, group @ ..] = self.bits.to_be_bytes();
                bytes.extend_from_slice(&group);
                (self.bits, self.characters) = (0, 0);
            }
        }
        (bytes.into(), true)
    }

    /// A padding character: the group has one or two bytes. The second one of two finds nothing to end.
    fn end_group(&mut self, bytes: &mut Vec<u8>) -> Option<()> {
        match self.characters {
            0 => {}
            2 => bytes.push((self.bits >> 4) as u8),
            3 => bytes.extend_from_slice(&((self.bits >> 2) as u16).to_be_bytes()),
            _ => return None,
        }
        (self.bits, self.characters) = (0, 0);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_in_any_pieces() {
        let text = b"T1BUSU9OUyAq\r\nRFM=UA==QQ==";
        for cut in 0..text.len() {
            let mut decoder = Base64::default();
            let (front, back) = (decoder.decode(&text[..cut]), decoder.decode(&text[cut..]));
            assert_eq!([front.0, back.0].concat(), b"OPTIONS *DSPA", "cut at {cut}");
            assert!(front.1 && back.1, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for (text, good) in [("T1 B", ""), ("T===", ""), ("{}", ""), ("T1BUSU9O?T1BUSU9O", "OPTION")] {
            assert_eq!(Base64::default().decode(text.as_bytes()), (good.into(), false), "{text}");
        }
    }
}
