//! MANSCDP bodies (GB/T 28181 Annex A), as far as a device has to read them: which root, and the text of elements. Decoded as GB18030
//! unless the bytes are UTF-8.

use encoding_rs::GB18030;

/// How this device writes its bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    /// Declared as GB2312 and such.
    Gb2312,
    /// Declared as GB2312, with characters that only GB18030 has.
    Gb18030,
    /// Declared as GB2312, and UTF-8.
    Utf8,
}

impl Charset {
    pub fn encode(self, text: &str) -> Vec<u8> {
        match self {
            Charset::Gb2312 | Charset::Gb18030 => GB18030.encode(text).0.into_owned(),
            Charset::Utf8 => text.as_bytes().to_vec(),
        }
    }
}

pub fn decode(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => GB18030.decode(bytes).0.into_owned(),
    }
}

/// The name of the outermost element.
pub fn root(text: &str) -> Option<&str> {
    let mut elements = text.split('<').skip(1).filter(|rest| !rest.starts_with(['?', '!', '/']));
    elements.next()?.split(|c: char| c.is_whitespace() || matches!(c, '>' | '/')).next()
}

/// The text of the first element of that name.
pub fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = text;
    loop {
        rest = &rest[rest.find(&format!("<{name}"))? + name.len() + 1..];
        let (attributes, behind) = rest.split_once('>')?;
        // Another element whose name only begins so.
        if attributes.starts_with(|c: char| !c.is_whitespace() && c != '/') {
            continue;
        }
        return match attributes.ends_with('/') {
            true => Some(""),
            false => Some(behind.split_once(&format!("</{name}"))?.0.trim()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_by_their_names() {
        let text = "<?xml version=\"1.0\"?>\r\n<!-- a --><Query>\r\n<CmdType>Catalog</CmdType>\n<SN> 17 </SN><SNX>1</SNX><Empty/></Query>";
        assert_eq!((root(text), element(text, "SN"), element(text, "SNX")), (Some("Query"), Some("17"), Some("1")));
        assert_eq!((element(text, "Empty"), element(text, "Cmd"), root("")), (Some(""), None, None));
    }

    #[test]
    fn names_are_read_in_either_charset() {
        for (charset, text) in [(Charset::Gb2312, "大门"), (Charset::Gb18030, "𠀀镕门"), (Charset::Utf8, "大门")] {
            assert_eq!(decode(&charset.encode(text)), text, "{charset:?}");
        }
        assert_eq!(Charset::Gb2312.encode("大门"), [0xB4, 0xF3, 0xC3, 0xC5]);
    }
}
