//! AMF3 values inside AMF0 (marker 17), decoded into AMF0's [`Value`]: what the command envelopes of AMF3 clients need.
//!
//! Spec: Action Message Format AMF 3 (2013), §3. Limits are those of the enclosing AMF0 message. Strings and traits that are sent
//! by reference are resolved; a reference to an earlier object, an externalizable object, a byte array, a vector and a dictionary are not
//! needed by any command and come out as [`Value::Unsupported`] (the first) or as an error. Nothing is ever written as AMF3.

use super::amf0::{Amf0Error, Decoder, Value};

const UNDEFINED: u8 = 0;
const NULL: u8 = 1;
const FALSE: u8 = 2;
const TRUE: u8 = 3;
const INTEGER: u8 = 4;
const DOUBLE: u8 = 5;
const STRING: u8 = 6;
const XML_DOCUMENT: u8 = 7;
const DATE: u8 = 8;
const ARRAY: u8 = 9;
const OBJECT: u8 = 10;
const XML: u8 = 11;

/// Decodes one AMF3 value with fresh reference tables, as each marker 17 asks for.
pub(super) fn decode(input: &mut Decoder<'_, '_>, depth_left: usize) -> Result<Value, Amf0Error> {
    Amf3 { input, strings: Vec::new(), traits: Vec::new() }.value(depth_left)
}

/// What an object's class says about its fields (§3.12).
#[derive(Clone)]
struct Traits {
    class: String,
    keys: Vec<String>,
    dynamic: bool,
}

struct Amf3<'d, 'i, 'b> {
    input: &'d mut Decoder<'i, 'b>,
    strings: Vec<String>,
    traits: Vec<Traits>,
}

/// The low bit of a length says whether the thing follows or was sent before.
enum Header {
    Inline(usize),
    Reference(usize),
}

impl Amf3<'_, '_, '_> {
    fn value(&mut self, depth_left: usize) -> Result<Value, Amf0Error> {
        self.input.count_value()?;
        let marker = self.input.byte()?;
        if matches!(marker, ARRAY | OBJECT) && depth_left == 0 {
            return Err(Amf0Error::TooDeep);
        }
        Ok(match marker {
            UNDEFINED => Value::Undefined,
            NULL => Value::Null,
            FALSE => Value::Boolean(false),
            TRUE => Value::Boolean(true),
            INTEGER => {
                let integer = self.u29()?;
                // 29 bits, signed.
                Value::Number(f64::from((integer << 3) as i32 >> 3))
            }
            DOUBLE => Value::Number(self.input.double()?),
            STRING => Value::String(self.string()?),
            XML_DOCUMENT | XML => match self.header()? {
                Header::Inline(len) => Value::Xml(self.input.text(len)?),
                Header::Reference(_) => Value::Unsupported,
            },
            DATE => match self.header()? {
                Header::Inline(_) => Value::Date { millis: self.input.double()?, zone: 0 },
                Header::Reference(_) => Value::Unsupported,
            },
            ARRAY => self.array(depth_left - 1)?,
            OBJECT => self.object(depth_left - 1)?,
            other => return Err(Amf0Error::UnknownMarker(other)),
        })
    }

    /// Named elements up to an empty name, then the numbered ones (§3.11).
    fn array(&mut self, depth_left: usize) -> Result<Value, Amf0Error> {
        let count = match self.header()? {
            Header::Inline(count) => count,
            Header::Reference(_) => return Ok(Value::Unsupported),
        };
        let mut fields = self.dynamic_fields(depth_left)?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(self.value(depth_left)?);
        }
        if fields.is_empty() {
            return Ok(Value::StrictArray(items));
        }
        fields.extend(items.into_iter().enumerate().map(|(index, item)| (index.to_string(), item)));
        Ok(Value::EcmaArray(fields))
    }

    fn object(&mut self, depth_left: usize) -> Result<Value, Amf0Error> {
        let flags = match self.header()? {
            Header::Inline(flags) => flags,
            Header::Reference(_) => return Ok(Value::Unsupported),
        };
        let traits = self.object_traits(flags)?;
        let mut fields = Vec::new();
        for key in traits.keys {
            self.input.count_text(key.len())?;
            fields.push((key, self.value(depth_left)?));
        }
        if traits.dynamic {
            fields.extend(self.dynamic_fields(depth_left)?);
        }
        Ok(if traits.class.is_empty() { Value::Object(fields) } else { Value::Typed { class: traits.class, fields } })
    }

    /// `flags`: bit 0 traits follow, bit 1 externalizable, bit 2 dynamic, then the number of sealed fields; or an index.
    fn object_traits(&mut self, flags: usize) -> Result<Traits, Amf0Error> {
        if flags & 1 == 0 {
            let known = self.traits.get(flags >> 1).ok_or(Amf0Error::BadReference)?;
            // A copy per object: counted, or a few bytes could ask for much memory.
            self.input.count_text(known.class.len() + known.keys.len())?;
            return Ok(known.clone());
        }
        if flags & 2 != 0 {
            return Err(Amf0Error::UnknownMarker(OBJECT));
        }
        let class = self.string()?;
        let mut keys = Vec::new();
        for _ in 0..flags >> 3 {
            self.input.count_value()?;
            keys.push(self.string()?);
        }
        let traits = Traits { class, keys, dynamic: flags & 4 != 0 };
        self.traits.push(traits.clone());
        Ok(traits)
    }

    fn dynamic_fields(&mut self, depth_left: usize) -> Result<Vec<(String, Value)>, Amf0Error> {
        let mut fields = Vec::new();
        loop {
            let key = self.string()?;
            if key.is_empty() {
                return Ok(fields);
            }
            fields.push((key, self.value(depth_left)?));
        }
    }

    /// §3.8: the empty string is never sent by reference.
    fn string(&mut self) -> Result<String, Amf0Error> {
        match self.header()? {
            Header::Inline(0) => Ok(String::new()),
            Header::Inline(len) => {
                let text = self.input.text(len)?;
                self.strings.push(text.clone());
                Ok(text)
            }
            Header::Reference(index) => {
                let text = self.strings.get(index).ok_or(Amf0Error::BadReference)?;
                self.input.count_text(text.len())?;
                Ok(text.clone())
            }
        }
    }

    fn header(&mut self) -> Result<Header, Amf0Error> {
        let header = self.u29()?;
        let rest = (header >> 1) as usize;
        Ok(if header & 1 == 1 { Header::Inline(rest) } else { Header::Reference(rest) })
    }

    /// Up to three bytes of 7 bits with a continuation bit, then one of 8 bits (§1.3.1).
    fn u29(&mut self) -> Result<u32, Amf0Error> {
        let mut value = 0;
        for _ in 0..3 {
            let byte = self.input.byte()?;
            value = value << 7 | u32::from(byte & 0x7F);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Ok(value << 8 | u32::from(self.input.byte()?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::amf0::{self, Amf0Error, Value};

    fn text(value: &str) -> Value {
        Value::String(value.to_owned())
    }

    #[test]
    fn decodes_each_marker() {
        let cases: [(&str, &[u8], Value); 13] = [
            ("undefined", &[0], Value::Undefined),
            ("null", &[1], Value::Null),
            ("false", &[2], Value::Boolean(false)),
            ("true", &[3], Value::Boolean(true)),
            ("small integer", &[4, 5], Value::Number(5.0)),
            ("integer of four bytes", &[4, 0x80, 0xC0, 0x80, 0x01], Value::Number(2_097_153.0)),
            ("negative integer", &[4, 0xFF, 0xFF, 0xFF, 0xFF], Value::Number(-1.0)),
            ("double", &[5, 0x3F, 0xF0, 0, 0, 0, 0, 0, 0], Value::Number(1.0)),
            ("string", b"\x06\x07abc", text("abc")),
            ("date", &[8, 1, 0, 0, 0, 0, 0, 0, 0, 0], Value::Date { millis: 0.0, zone: 0 }),
            ("array with a string reference", b"\x09\x05\x01\x06\x03x\x06\x00", Value::StrictArray(vec![text("x"), text("x")])),
            (
                "mixed array",
                b"\x09\x03\x03k\x03\x01\x02",
                Value::EcmaArray(vec![("k".to_owned(), Value::Boolean(true)), ("0".to_owned(), Value::Boolean(false))]),
            ),
            (
                "sealed and dynamic fields",
                b"\x0A\x1B\x01\x03a\x04\x01\x03b\x04\x02\x01",
                Value::Object(vec![("a".to_owned(), Value::Number(1.0)), ("b".to_owned(), Value::Number(2.0))]),
            ),
        ];
        for (name, bytes, expected) in cases {
            let message = [&[17], bytes].concat();
            assert_eq!(amf0::decode_all(&message), Ok(vec![expected]), "{name}");
            for cut in 1..message.len() {
                assert_eq!(amf0::decode_all(&message[..cut]), Err(Amf0Error::Truncated), "{name} cut at {cut}");
            }
        }
    }

    #[test]
    fn traits_are_reused_within_one_value_only() {
        // An array of two objects of class C with the sealed field a; the second uses the first one's traits.
        let array = b"\x11\x09\x05\x01\x0A\x13\x03C\x03a\x03\x0A\x01\x02";
        let object = |flag| Value::Typed { class: "C".to_owned(), fields: vec![("a".to_owned(), Value::Boolean(flag))] };
        assert_eq!(amf0::decode_all(array), Ok(vec![Value::StrictArray(vec![object(true), object(false)])]));
        let next_value = [&array[..], b"\x11\x06\x00"].concat();
        assert_eq!(amf0::decode_all(&next_value), Err(Amf0Error::BadReference));
    }

    #[test]
    fn refuses_what_commands_do_not_need_and_what_grows() {
        let deep = [&[17][..], &[9, 3, 1].repeat(amf0::DEPTH_MAX + 1)].concat();
        // One string of 8 KiB, then references to it: 2 bytes each that would copy it each.
        let bomb = [&b"\x11\x09\x87\x7F\x01\x06\x81\x80\x01"[..], &[b'a'; 8192], &[6, 0].repeat(500)].concat();
        let cases: [(&str, &[u8], Amf0Error); 5] = [
            ("byte array", &[17, 12, 1], Amf0Error::UnknownMarker(12)),
            ("externalizable", &[17, 10, 7, 3, b'C'], Amf0Error::UnknownMarker(10)),
            ("unknown traits", &[17, 10, 1], Amf0Error::BadReference),
            ("deep", &deep, Amf0Error::TooDeep),
            ("copies", &bomb, Amf0Error::TooMuchText),
        ];
        for (name, bytes, error) in cases {
            assert_eq!(amf0::decode_all(bytes), Err(error), "{name}");
        }
        assert_eq!(amf0::decode_all(&[17, 10, 0]), Ok(vec![Value::Unsupported]), "a reference to an object");
    }
}
