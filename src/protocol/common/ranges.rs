//! Parts of a resource, and whether it is known already: `Range` and the lists of entity tags (RFC 9110 §13.1.2, §14).
//!
//! One range of bytes; what is none, and several of them, are ignored, as a server may. Not here: multipart answers, dates.

/// Which bytes of a content of `len` are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    All,
    /// From the first to below the second.
    Some(u64, u64),
    /// None that are there.
    Nothing,
}

/// RFC 9110 §14.1.2. What is no range of bytes, and several of them, are ignored.
pub fn parse_range(range: &str, len: u64) -> Wanted {
    let Some((unit, range)) = range.split_once('=') else { return Wanted::All };
    let Some((first, last)) = range.trim().split_once('-') else { return Wanted::All };
    if !unit.trim().eq_ignore_ascii_case("bytes") || range.contains(',') {
        return Wanted::All;
    }
    let number = |text: &str| -> Option<u64> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // More than fits is more than there is.
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (first.is_empty(), number(first), last.is_empty(), number(last)) {
        (true, _, false, Some(0)) => Wanted::Nothing,
        (true, _, false, Some(_)) if len == 0 => Wanted::Nothing,
        (true, _, false, Some(count)) => Wanted::Some(len.saturating_sub(count), len),
        (false, Some(first), true, _) if first < len => Wanted::Some(first, len),
        (false, Some(first), false, Some(last)) if first <= last && first < len => {
            Wanted::Some(first, last.saturating_add(1).min(len))
        }
        (false, Some(first), false, Some(last)) if first > last => Wanted::All,
        (false, Some(_), true, _) | (false, Some(_), false, Some(_)) => Wanted::Nothing,
        _ => Wanted::All,
    }
}

/// RFC 9110 §13.1.2: weak comparison.
pub fn lists(list: &str, tag: &str) -> bool {
    let mut tags = list.split(',').map(str::trim);
    tags.any(|listed| listed == "*" || listed.strip_prefix("W/").unwrap_or(listed) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_what_the_standard_says() {
        let cases = [
            ("bytes=0-0", Wanted::Some(0, 1)),
            ("bytes=0-99", Wanted::Some(0, 100)),
            ("bytes=0-1000", Wanted::Some(0, 100)),
            ("bytes=99-", Wanted::Some(99, 100)),
            ("bytes=100-", Wanted::Nothing),
            ("bytes=100-200", Wanted::Nothing),
            ("bytes=-1", Wanted::Some(99, 100)),
            ("bytes=-1000", Wanted::Some(0, 100)),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=0-99999999999999999999999", Wanted::Some(0, 100)),
            ("bytes=99999999999999999999999-", Wanted::Nothing),
            ("Bytes=1-2", Wanted::Some(1, 3)),
            ("bytes=2-1", Wanted::All),
            ("bytes=0-1,5-6", Wanted::All),
            ("bytes=-", Wanted::All),
            ("bytes=a-b", Wanted::All),
            ("bytes=+1-2", Wanted::All),
            ("seconds=1-2", Wanted::All),
            ("bytes", Wanted::All),
            ("", Wanted::All),
        ];
        for (text, wanted) in cases {
            assert_eq!(parse_range(text, 100), wanted, "{text}");
        }
        assert_eq!(parse_range("bytes=0-", 0), Wanted::Nothing);
        assert_eq!(parse_range("bytes=-5", 0), Wanted::Nothing);
    }
    #[test]
    fn lists_name_a_tag_or_everything() {
        for (list, is_listed) in [
            ("\"a\"", true),
            ("*", true),
            ("\"b\", W/\"a\"", true),
            ("\"b\"", false),
            ("W/W/\"a\"", false),
            ("", false),
            ("a", false),
        ] {
            assert_eq!(lists(list, "\"a\""), is_listed, "{list}");
        }
    }
}
