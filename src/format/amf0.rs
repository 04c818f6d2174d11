//! AMF0 values: bytes to [`Value`] and back, as in RTMP commands and FLV script data.
//!
//! Spec: Action Message Format AMF 0 (2008). Marker 17 switches one value to AMF3, see [`super::amf3`]; it comes out as the same
//! [`Value`] and is never written. Limits: nesting, number of values and text bytes of one call, see the constants; memory is taken
//! only for bytes that are there. Values own their memory. Not here: what a command or a metadata key means.

use super::amf3;

/// Nesting of objects and arrays.
pub const DEPTH_MAX: usize = 16;
/// Values in one [`decode`] or [`decode_all`], nested ones included.
pub const VALUES_MAX: usize = 8192;
/// Bytes of all keys and strings in one [`decode`] or [`decode_all`].
pub const TEXT_BYTES_MAX: usize = 1 << 20;

const NUMBER: u8 = 0;
const BOOLEAN: u8 = 1;
const STRING: u8 = 2;
const OBJECT: u8 = 3;
const NULL: u8 = 5;
const UNDEFINED: u8 = 6;
const REFERENCE: u8 = 7;
const ECMA_ARRAY: u8 = 8;
const OBJECT_END: u8 = 9;
const STRICT_ARRAY: u8 = 10;
const DATE: u8 = 11;
const LONG_STRING: u8 = 12;
const UNSUPPORTED: u8 = 13;
const XML: u8 = 15;
const TYPED: u8 = 16;
/// Switches one value to AMF3.
pub(super) const MARKER_AMF3: u8 = 17;

/// One AMF0 value (§2). Text that is not UTF-8 is decoded with replacement characters.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Number(f64),
    Boolean(bool),
    /// Short or long; the length decides when written.
    String(String),
    Object(Vec<(String, Value)>),
    Null,
    Undefined,
    /// Index of an earlier object or array; not resolved.
    Reference(u16),
    EcmaArray(Vec<(String, Value)>),
    StrictArray(Vec<Value>),
    /// Milliseconds since 1970 and a time zone that writers leave at zero.
    Date {
        millis: f64,
        zone: i16,
    },
    Unsupported,
    Xml(String),
    Typed {
        class: String,
        fields: Vec<(String, Value)>,
    },
}

impl Value {
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) | Value::Xml(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_number(&self) -> Option<f64> {
        match self {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Boolean(boolean) => Some(*boolean),
            _ => None,
        }
    }

    /// The keys and values of an object, typed object or ECMA array, in their order.
    pub fn properties(&self) -> Option<&[(String, Value)]> {
        match self {
            Value::Object(fields) | Value::EcmaArray(fields) | Value::Typed { fields, .. } => Some(fields),
            _ => None,
        }
    }

    /// The first property called `key`.
    pub fn property(&self, key: &str) -> Option<&Value> {
        self.properties()?.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }
}

/// The peer's AMF is broken, or larger than anyone needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Amf0Error {
    #[error("an AMF value is cut off")]
    Truncated,
    #[error("AMF type marker {0} is unknown")]
    UnknownMarker(u8),
    #[error("AMF values are nested deeper than {DEPTH_MAX}")]
    TooDeep,
    #[error("an AMF message has more than {VALUES_MAX} values")]
    TooManyValues,
    #[error("an AMF message has more than {TEXT_BYTES_MAX} bytes of text")]
    TooMuchText,
    #[error("an AMF3 reference points at nothing")]
    BadReference,
}

impl Amf0Error {
    /// The label under which the error is counted.
    pub const fn label(&self) -> &'static str {
        match self {
            Amf0Error::Truncated => "amf_truncated",
            Amf0Error::UnknownMarker(_) => "amf_unknown_marker",
            Amf0Error::TooDeep => "amf_too_deep",
            Amf0Error::TooManyValues => "amf_too_many_values",
            Amf0Error::TooMuchText => "amf_too_much_text",
            Amf0Error::BadReference => "amf_bad_reference",
        }
    }
}

/// Decodes the value at the start of `input` and moves `input` behind it. After an error, `input` stands anywhere.
pub fn decode(input: &mut &[u8]) -> Result<Value, Amf0Error> {
    Decoder::new(input).value_at(DEPTH_MAX)
}

/// Decodes all values of a message.
pub fn decode_all(mut input: &[u8]) -> Result<Vec<Value>, Amf0Error> {
    let mut decoder = Decoder::new(&mut input);
    let mut values = Vec::new();
    while !decoder.input.is_empty() {
        values.push(decoder.value_at(DEPTH_MAX)?);
    }
    Ok(values)
}

/// A position in the input and what may still be taken from it. Shared with AMF3, so that one limit holds for a message.
pub(super) struct Decoder<'i, 'b> {
    input: &'i mut &'b [u8],
    values_left: usize,
    text_bytes_left: usize,
}

impl<'i, 'b> Decoder<'i, 'b> {
    fn new(input: &'i mut &'b [u8]) -> Self {
        Decoder { input, values_left: VALUES_MAX, text_bytes_left: TEXT_BYTES_MAX }
    }

    fn value_at(&mut self, depth_left: usize) -> Result<Value, Amf0Error> {
        self.count_value()?;
        let marker = self.byte()?;
        if matches!(marker, OBJECT | ECMA_ARRAY | STRICT_ARRAY | TYPED) && depth_left == 0 {
            return Err(Amf0Error::TooDeep);
        }
        Ok(match marker {
            NUMBER => Value::Number(self.double()?),
            BOOLEAN => Value::Boolean(self.byte()? != 0),
            STRING => Value::String(self.short_text()?),
            OBJECT => Value::Object(self.fields(depth_left - 1)?),
            NULL => Value::Null,
            UNDEFINED => Value::Undefined,
            REFERENCE => Value::Reference(u16::from_be_bytes(self.array()?)),
            ECMA_ARRAY => {
                // The count is a hint that writers get wrong; the end marker decides.
                self.array::<4>()?;
                Value::EcmaArray(self.fields(depth_left - 1)?)
            }
            STRICT_ARRAY => {
                let count = u32::from_be_bytes(self.array()?);
                let mut items = Vec::new();
                for _ in 0..count {
                    items.push(self.value_at(depth_left - 1)?);
                }
                Value::StrictArray(items)
            }
            DATE => Value::Date { millis: self.double()?, zone: i16::from_be_bytes(self.array()?) },
            LONG_STRING => Value::String(self.long_text()?),
            UNSUPPORTED => Value::Unsupported,
            XML => Value::Xml(self.long_text()?),
            TYPED => Value::Typed { class: self.short_text()?, fields: self.fields(depth_left - 1)? },
            MARKER_AMF3 => amf3::decode(self, depth_left)?,
            other => return Err(Amf0Error::UnknownMarker(other)),
        })
    }

    /// Keys and values up to an empty key with the end marker.
    fn fields(&mut self, depth_left: usize) -> Result<Vec<(String, Value)>, Amf0Error> {
        let mut fields = Vec::new();
        loop {
            let key = self.short_text()?;
            if key.is_empty() && self.input.first() == Some(&OBJECT_END) {
                self.byte()?;
                return Ok(fields);
            }
            fields.push((key, self.value_at(depth_left)?));
        }
    }

    fn short_text(&mut self) -> Result<String, Amf0Error> {
        let len = u16::from_be_bytes(self.array()?);
        self.text(usize::from(len))
    }

    fn long_text(&mut self) -> Result<String, Amf0Error> {
        let len = u32::from_be_bytes(self.array()?);
        self.text(usize::try_from(len).unwrap_or(usize::MAX))
    }

    /// The next `len` bytes as text.
    pub(super) fn text(&mut self, len: usize) -> Result<String, Amf0Error> {
        self.count_text(len)?;
        Ok(String::from_utf8_lossy(self.take(len)?).into_owned())
    }

    pub(super) fn double(&mut self) -> Result<f64, Amf0Error> {
        Ok(f64::from_be_bytes(self.array()?))
    }

    pub(super) fn byte(&mut self) -> Result<u8, Amf0Error> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'b [u8], Amf0Error> {
        let (taken, rest) = self.input.split_at_checked(len).ok_or(Amf0Error::Truncated)?;
        *self.input = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Amf0Error> {
        let (taken, rest) = self.input.split_first_chunk::<N>().ok_or(Amf0Error::Truncated)?;
        *self.input = rest;
        Ok(*taken)
    }

    pub(super) fn count_value(&mut self) -> Result<(), Amf0Error> {
        self.values_left = self.values_left.checked_sub(1).ok_or(Amf0Error::TooManyValues)?;
        Ok(())
    }

    pub(super) fn count_text(&mut self, bytes: usize) -> Result<(), Amf0Error> {
        self.text_bytes_left = self.text_bytes_left.checked_sub(bytes).ok_or(Amf0Error::TooMuchText)?;
        Ok(())
    }
}

/// Appends `value`. Keys and class names longer than 65,535 bytes are cut; lists longer than 2^32 cannot be.
pub fn encode(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Number(number) => {
            out.push(NUMBER);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::Boolean(boolean) => out.extend_from_slice(&[BOOLEAN, u8::from(*boolean)]),
        Value::String(text) => encode_string(text, out),
        Value::Object(fields) => {
            out.push(OBJECT);
            encode_fields(fields, out);
        }
        Value::Null => out.push(NULL),
        Value::Undefined => out.push(UNDEFINED),
        Value::Reference(index) => {
            out.push(REFERENCE);
            out.extend_from_slice(&index.to_be_bytes());
        }
        Value::EcmaArray(fields) => {
            out.push(ECMA_ARRAY);
            out.extend_from_slice(&(fields.len() as u32).to_be_bytes());
            encode_fields(fields, out);
        }
        Value::StrictArray(items) => {
            out.push(STRICT_ARRAY);
            out.extend_from_slice(&(items.len() as u32).to_be_bytes());
            items.iter().for_each(|item| encode(item, out));
        }
        Value::Date { millis, zone } => {
            out.push(DATE);
            out.extend_from_slice(&millis.to_be_bytes());
            out.extend_from_slice(&zone.to_be_bytes());
        }
        Value::Unsupported => out.push(UNSUPPORTED),
        Value::Xml(text) => {
            out.push(XML);
            encode_long_text(text, out);
        }
        Value::Typed { class, fields } => {
            out.push(TYPED);
            encode_short_text(class, out);
            encode_fields(fields, out);
        }
    }
}

fn encode_string(text: &str, out: &mut Vec<u8>) {
    if text.len() <= usize::from(u16::MAX) {
        out.push(STRING);
        encode_short_text(text, out);
    } else {
        out.push(LONG_STRING);
        encode_long_text(text, out);
    }
}

fn encode_fields(fields: &[(String, Value)], out: &mut Vec<u8>) {
    for (key, value) in fields {
        encode_short_text(key, out);
        encode(value, out);
    }
    out.extend_from_slice(&[0, 0, OBJECT_END]);
}

fn encode_short_text(text: &str, out: &mut Vec<u8>) {
    let mut len = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    out.extend_from_slice(&(len as u16).to_be_bytes());
    out.extend_from_slice(&text.as_bytes()[..len]);
}

fn encode_long_text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u32).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(value: &str) -> Value {
        Value::String(value.to_owned())
    }

    #[test]
    fn decodes_each_marker() {
        let cases: [(&str, &[u8], Value); 16] = [
            ("number", &[0, 0x3F, 0xF0, 0, 0, 0, 0, 0, 0], Value::Number(1.0)),
            ("boolean", &[1, 2], Value::Boolean(true)),
            ("string", b"\x02\x00\x03abc", text("abc")),
            ("not utf-8", b"\x02\x00\x02a\xFF", text("a\u{FFFD}")),
            ("object", b"\x03\x00\x01a\x05\x00\x00\x09", Value::Object(vec![("a".to_owned(), Value::Null)])),
            ("empty key", b"\x03\x00\x00\x06\x00\x00\x09", Value::Object(vec![(String::new(), Value::Undefined)])),
            ("null", &[5], Value::Null),
            ("undefined", &[6], Value::Undefined),
            ("reference", &[7, 1, 2], Value::Reference(258)),
            (
                "array, wrong count",
                b"\x08\x00\x00\x00\x09\x00\x01a\x01\x00\x00\x00\x09",
                Value::EcmaArray(vec![("a".to_owned(), Value::Boolean(false))]),
            ),
            ("strict array", &[10, 0, 0, 0, 2, 5, 6], Value::StrictArray(vec![Value::Null, Value::Undefined])),
            ("date", &[11, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], Value::Date { millis: 0.0, zone: -1 }),
            ("long string", b"\x0C\x00\x00\x00\x01z", text("z")),
            ("xml", b"\x0F\x00\x00\x00\x01<", Value::Xml("<".to_owned())),
            ("typed", b"\x10\x00\x01C\x00\x00\x09", Value::Typed { class: "C".to_owned(), fields: vec![] }),
            ("amf3", &[17, 4, 0x7F], Value::Number(127.0)),
        ];
        for (name, bytes, expected) in cases {
            let mut input = bytes;
            assert_eq!(decode(&mut input), Ok(expected), "{name}");
            assert!(input.is_empty(), "{name}: all is read");
            for cut in 0..bytes.len() {
                assert_eq!(decode(&mut &bytes[..cut]), Err(Amf0Error::Truncated), "{name} cut at {cut}");
            }
        }
    }

    #[test]
    fn refuses_what_is_unknown_or_too_large() {
        let deep = [10, 0, 0, 0, 1].repeat(DEPTH_MAX + 1);
        let many = [&[10, 0xFF, 0xFF, 0xFF, 0xFF][..], &[5; VALUES_MAX]].concat();
        let long = [&[12, 0, 0x10, 0, 1][..], &vec![b'a'; TEXT_BYTES_MAX + 1]].concat();
        let cases: [(&str, &[u8], Amf0Error); 7] = [
            ("movie clip", &[4], Amf0Error::UnknownMarker(4)),
            ("record set", &[14], Amf0Error::UnknownMarker(14)),
            ("end marker alone", &[9], Amf0Error::UnknownMarker(9)),
            ("deep", &deep, Amf0Error::TooDeep),
            ("many", &many, Amf0Error::TooManyValues),
            ("long", &long, Amf0Error::TooMuchText),
            ("long, but not there", &[12, 0, 0, 0xFF, 0xFF, 0], Amf0Error::Truncated),
        ];
        for (name, bytes, error) in cases {
            assert_eq!(decode_all(bytes), Err(error), "{name}");
        }
    }

    #[test]
    fn properties_are_found_in_all_three_forms() {
        let fields = vec![("a".to_owned(), Value::Number(1.0)), ("a".to_owned(), Value::Number(2.0))];
        let typed = Value::Typed { class: "C".to_owned(), fields: fields.clone() };
        for value in [Value::Object(fields.clone()), Value::EcmaArray(fields), typed] {
            assert_eq!(value.property("a").and_then(Value::as_number), Some(1.0), "the first of equal keys");
            assert_eq!(value.property("b"), None);
        }
        assert_eq!(Value::Null.property("a"), None);
        assert_eq!((Value::Boolean(true).as_bool(), text("x").as_str()), (Some(true), Some("x")));
    }

    #[test]
    fn long_text_is_written_long_and_long_keys_are_cut() {
        let long = "é".repeat(40_000);
        let mut bytes = Vec::new();
        encode(&Value::String(long.clone()), &mut bytes);
        assert_eq!(decode(&mut &bytes[..]), Ok(Value::String(long.clone())));
        bytes.clear();
        encode(&Value::Object(vec![(long.clone(), Value::Null)]), &mut bytes);
        assert_eq!(decode(&mut &bytes[..]), Ok(Value::Object(vec![(long[..65_534].to_owned(), Value::Null)])));
    }

    #[test]
    fn corpus_decodes_or_fails_at_every_cut() {
        let seeds: [&[u8]; 3] = [
            include_bytes!("../../tests/corpus/amf0/connect_ffmpeg"),
            include_bytes!("../../tests/corpus/amf0/metadata_ffmpeg"),
            include_bytes!("../../tests/corpus/amf0/amf3_envelope"),
        ];
        for seed in seeds {
            let values = decode_all(seed).unwrap();
            let mut bytes = Vec::new();
            values.iter().for_each(|value| encode(value, &mut bytes));
            assert_eq!(decode_all(&bytes), Ok(values));
            for cut in 0..seed.len() {
                let _ = decode_all(&seed[..cut]);
            }
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let number = prop::num::f64::NORMAL | prop::num::f64::ZERO | prop::num::f64::INFINITE | prop::num::f64::SUBNORMAL;
        let leaf = prop_oneof![
            number.prop_map(Value::Number),
            any::<bool>().prop_map(Value::Boolean),
            ".{0,20}".prop_map(Value::String),
            ".{0,20}".prop_map(Value::Xml),
            Just(Value::Null),
            Just(Value::Undefined),
            Just(Value::Unsupported),
            any::<u16>().prop_map(Value::Reference),
            (number, any::<i16>()).prop_map(|(millis, zone)| Value::Date { millis, zone }),
        ];
        leaf.prop_recursive(4, 64, 6, |inner| {
            let fields = prop::collection::vec((".{0,8}", inner.clone()), 0..6);
            prop_oneof![
                fields.clone().prop_map(Value::Object),
                fields.clone().prop_map(Value::EcmaArray),
                (".{0,8}", fields).prop_map(|(class, fields)| Value::Typed { class, fields }),
                prop::collection::vec(inner, 0..6).prop_map(Value::StrictArray),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(values in prop::collection::vec(any_value(), 0..4)) {
            let mut bytes = Vec::new();
            values.iter().for_each(|value| encode(value, &mut bytes));
            prop_assert_eq!(decode_all(&bytes), Ok(values));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(prop_oneof![0u8..18, any::<u8>()], 0..200)) {
            let _ = decode_all(&bytes);
        }
    }
}
