//! Query strings and percent-encoding: text as it stands in a URL → decoded names and values.
//!
//! RFC 3986 §2.1 (percent-encoding) and the `key=value&key=value` convention for §3.4 (query). A `+` stays a plus: stream names and
//! tokens contain them. Where it may be a space, as browsers write it in forms, there is [`Query::get_as_form`].
//!
//! Limits: [`QUERY_BYTES_MAX`] and [`PARAMETERS_MAX`]; what lies beyond is left out. A [`Query`] owns its decoded text.
//!
//! Not here: schemes, hosts, ports and paths; each protocol cuts those off in its own way.

use crate::session::Start;

/// A query longer than this, in bytes, is taken as empty.
pub const QUERY_BYTES_MAX: usize = 4096;

/// Parameters after this many are ignored.
pub const PARAMETERS_MAX: usize = 32;

/// Undoes percent-encoding. `None` for an incomplete escape, for bytes that are not UTF-8, and for NUL, encoded or not.
pub fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' { hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)? } else { byte };
        if byte == 0 {
            return None;
        }
        decoded.push(byte);
    }
    String::from_utf8(decoded).ok()
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// Cuts `text` at its first `?`: what stands before, and the query behind it (empty if there is none).
pub fn split_query(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

/// The decoded parameters of a query string.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    parameters: Vec<Parameter>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parameter {
    name: String,
    value: String,
    /// The value with spaces for pluses, if there were any.
    form: Option<String>,
}

impl Query {
    /// Takes the text behind the `?`. A parameter that cannot be decoded is left out; one without `=` has an empty value.
    pub fn parse(text: &str) -> Self {
        let mut query = Query::default();
        query.extend(text);
        query
    }

    /// Adds the parameters of another query string behind those that are there.
    pub fn extend(&mut self, text: &str) {
        if text.len() > QUERY_BYTES_MAX {
            return;
        }
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            if self.parameters.len() == PARAMETERS_MAX {
                return;
            }
            let (name, raw) = pair.split_once('=').unwrap_or((pair, ""));
            if let (Some(name), Some(value)) = (percent_decode(name), percent_decode(raw)) {
                let form = raw.contains('+').then(|| percent_decode(&raw.replace('+', " "))).flatten();
                self.parameters.push(Parameter { name, value, form });
            }
        }
    }

    /// The decoded value of `key`; the first one if the key is repeated.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.find(key).map(|parameter| parameter.value.as_str())
    }

    /// The same as the form encoding of browsers (`URLSearchParams`) has it: `+` is a space, `%2B` a plus.
    pub fn get_as_form(&self, key: &str) -> Option<&str> {
        self.find(key).map(|parameter| parameter.form.as_deref().unwrap_or(&parameter.value))
    }

    fn find(&self, key: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == key)
    }

    /// `start=live|gop`: where a viewer wishes to begin; other values count as absent.
    pub fn start(&self) -> Start {
        if self.get("start") == Some("live") { Start::Live } else { Start::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.parameters.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_decoding() {
        let cases = [
            ("plain", "", Some("")),
            ("nothing to do", "live/a+b", Some("live/a+b")),
            ("space", "a%20b", Some("a b")),
            ("both cases of hex", "%2f%2F", Some("//")),
            ("UTF-8", "%E6%91%84", Some("摄")),
            ("raw UTF-8 stays", "摄", Some("摄")),
            ("decoded once only", "%2525", Some("%25")),
            ("escape cut off", "a%2", None),
            ("lone percent", "%", None),
            ("not hex", "%zz", None),
            ("sign is not hex", "%+1", None),
            ("half of a character", "%E6%91", None),
            ("NUL, encoded", "a%00", None),
            ("NUL, raw", "a\0", None),
            ("a multi-byte character in an escape", "%a摄", None),
        ];
        for (name, text, expected) in cases {
            assert_eq!(percent_decode(text).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn queries_are_split_at_the_first_question_mark() {
        for (text, expected) in
            [("a?b=c", ("a", "b=c")), ("a", ("a", "")), ("a?", ("a", "")), ("a?b?c", ("a", "b?c")), ("?x", ("", "x"))]
        {
            assert_eq!(split_query(text), expected, "{text}");
        }
    }

    #[test]
    fn query_parameters() {
        let query = Query::parse("&hevc=legacy&hevc=enhanced&flag&empty=&t%6Fken=a%3Db&bad=%zz&x=1=2");
        for (key, expected) in [
            ("hevc", Some("legacy")),
            ("flag", Some("")),
            ("empty", Some("")),
            ("token", Some("a=b")),
            ("bad", None),
            ("x", Some("1=2")),
            ("absent", None),
        ] {
            assert_eq!(query.get(key), expected, "{key}");
        }
        let form = Query::parse("a=x+y%2Bz&b=x%20y&c=%zz+");
        assert_eq!((form.get("a"), form.get_as_form("a")), (Some("x+y+z"), Some("x y+z")));
        assert_eq!((form.get_as_form("b"), form.get_as_form("c")), (Some("x y"), None));
        assert!(Query::parse("").is_empty());
        for (text, start) in [("start=live", Start::Live), ("start=gop", Start::Gop), ("start=x", Start::Gop), ("", Start::Gop)] {
            assert_eq!(Query::parse(text).start(), start, "{text}");
        }
    }

    #[test]
    fn queries_are_bounded() {
        assert!(Query::parse(&format!("a={}", "x".repeat(QUERY_BYTES_MAX))).is_empty());
        let many: String = (0..100).map(|n| format!("k{n}=v&")).collect();
        let query = Query::parse(&many);
        assert_eq!((query.get("k31"), query.get("k32")), (Some("v"), None));
    }
}
