//! Bytes → hex digits. RFC 4648 §8; lower case unless the name says otherwise. Not here: reading them (each reader has its own leniency).

pub fn lower(bytes: &[u8]) -> String {
    digits(bytes, b"0123456789abcdef")
}

pub fn upper(bytes: &[u8]) -> String {
    digits(bytes, b"0123456789ABCDEF")
}

fn digits(bytes: &[u8], alphabet: &[u8; 16]) -> String {
    let digit = |value: u8| char::from(alphabet[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_two_digits() {
        assert_eq!((lower(&[0x00, 0x0F, 0xA0, 0xFF]), upper(&[0x00, 0x0F, 0xA0, 0xFF])), ("000fa0ff".into(), "000FA0FF".into()));
        assert_eq!(lower(&[]), "");
    }
}
