//! The bytes of a body ⇄ text. GB/T 28181 §6.10 says GB2312, its text of 2022 GB18030 (which contains it); devices say anything, and send
//! UTF-8 as well.
//!
//! What the bytes are counts for more than what they are declared to be: [`decode`] says where that is decided. Not here: the XML.

use std::borrow::Cow;

use encoding_rs::GB18030;

/// In which the other side writes, and is written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Charset {
    /// Declared as GB2312, which every device knows.
    #[default]
    Gb18030,
    Utf8,
}

impl Charset {
    /// As it stands in the declaration of a body that is sent.
    pub const fn declared(self) -> &'static str {
        match self {
            Charset::Gb18030 => "GB2312",
            Charset::Utf8 => "UTF-8",
        }
    }
}

/// Where a declaration ends at the latest, in bytes.
const DECLARATION_BYTES_MAX: usize = 200;

/// Text of any bytes; what cannot be read becomes U+FFFD. Bytes without any beyond ASCII are what they are declared to be.
pub fn decode(bytes: &[u8]) -> (Cow<'_, str>, Charset) {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let declared = declared(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) if is_utf8(text, declared) => (Cow::Borrowed(text), Charset::Utf8),
        Ok(text) if text.is_ascii() => (Cow::Borrowed(text), Charset::Gb18030),
        _ => (GB18030.decode_without_bom_handling(bytes).0, Charset::Gb18030),
    }
}

/// Whether valid UTF-8 is meant as such. Words in GB2312 can be valid UTF-8 by accident, as sequences of two bytes each; Chinese in UTF-8
/// has sequences of three.
fn is_utf8(text: &str, declared: Option<Charset>) -> bool {
    match declared {
        Some(Charset::Utf8) => true,
        Some(Charset::Gb18030) => text.chars().any(|c| c.len_utf8() > 2),
        None => !text.is_ascii(),
    }
}

fn declared(bytes: &[u8]) -> Option<Charset> {
    let head = &bytes[..bytes.len().min(DECLARATION_BYTES_MAX)];
    let head = head.trim_ascii_start().strip_prefix(b"<?xml")?;
    let head = head.split(|byte| *byte == b'>').next()?.to_ascii_lowercase();
    let head = String::from_utf8_lossy(&head).into_owned();
    let (_, value) = head.split_once("encoding")?;
    let value = value.trim_start_matches([' ', '=', '"', '\'', '\t']);
    match value {
        value if value.starts_with("utf") => Some(Charset::Utf8),
        value if value.starts_with("gb") => Some(Charset::Gb18030),
        _ => None,
    }
}

/// Characters that the charset lacks become references, as `&#58853;`.
pub fn encode(text: &str, charset: Charset) -> Cow<'_, [u8]> {
    match charset {
        Charset::Utf8 => Cow::Borrowed(text.as_bytes()),
        Charset::Gb18030 => GB18030.encode(text).0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_count_for_more_than_what_is_declared() {
        let gb = |text: &str| GB18030.encode(text).0.into_owned();
        let cases: [(&str, Vec<u8>, &str, Charset); 12] = [
            ("GB2312 as declared", gb("<?xml encoding=\"GB2312\"?>大门"), "大门", Charset::Gb18030),
            ("GB18030 as declared", gb("<?xml encoding='GB18030' ?>大门㐀"), "大门㐀", Charset::Gb18030),
            ("GB without a declaration", gb("大门"), "大门", Charset::Gb18030),
            ("GB declared as UTF-8", gb("<?xml encoding=\"UTF-8\"?>大门"), "大门", Charset::Gb18030),
            ("UTF-8 as declared", "<?xml encoding=\"UTF-8\"?>大门".into(), "大门", Charset::Utf8),
            ("UTF-8 in small letters", "<?xml version='1.0' encoding='utf-8'?>a".into(), "a", Charset::Utf8),
            ("UTF-8 declared as GB2312", "<?xml encoding=\"GB2312\"?>大门".into(), "大门", Charset::Utf8),
            ("UTF-8 without a declaration", "é".into(), "é", Charset::Utf8),
            ("GB2312 that is valid UTF-8 by accident", gb("<?xml encoding=\"gb2312\"?>小小"), "小小", Charset::Gb18030),
            ("a byte order mark", "\u{FEFF}<a/>大".into(), "<a/>大", Charset::Utf8),
            ("ASCII", b"<a/>".to_vec(), "<a/>", Charset::Gb18030),
            ("neither", b"<?xml encoding=\"x\"?>\xFF\xFF".to_vec(), "\u{FFFD}", Charset::Gb18030),
        ];
        for (name, bytes, end, charset) in cases {
            let (text, found) = decode(&bytes);
            assert!(text.ends_with(end), "{name}: {text}");
            assert_eq!(found, charset, "{name}");
        }
    }

    #[test]
    fn what_a_charset_lacks_is_a_reference() {
        assert_eq!(encode("a\u{E5E5}", Charset::Gb18030).as_ref(), b"a&#58853;");
        assert_eq!(encode("大", Charset::Gb18030).as_ref(), b"\xB4\xF3");
        assert_eq!(encode("大", Charset::Utf8).as_ref(), "大".as_bytes());
    }
}
