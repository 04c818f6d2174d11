//! Moments ⇄ text such as `2026-01-02T15:04:05`: as the API takes them (or as seconds since 1970, or with a zone of their own: `Z`, `+08:00`),
//! and as they stand in messages, in the time zone of the configuration.
//!
//! ISO 8601 as far as GB/T 28181 uses it. Years 1970 to 9999. Not here: which zone (`gb28181.utc_offset_minutes`).

use serde::Deserialize;

const DAY_S: i64 = 86_400;
const UTC_OFFSET_HOURS_MAX: i64 = 14;

/// A moment that is not yet understood.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Moment {
    Seconds(u64),
    Text(String),
}

impl Moment {
    /// In seconds since 1970, UTC.
    pub fn unix_s(&self, utc_offset_minutes: i32) -> Option<u64> {
        match self {
            Moment::Seconds(seconds) => Some(*seconds),
            Moment::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            Moment::Text(text) => parse(text, i64::from(utc_offset_minutes)),
        }
    }
}

fn parse(text: &str, offset_minutes: i64) -> Option<u64> {
    let (date, zone) = text.split_at_checked(19)?;
    let bytes = date.as_bytes();
    let punctuation = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if punctuation.iter().any(|(at, byte)| bytes[*at] != *byte && !(*at == 10 && bytes[10] == b' ')) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| digits(date.get(range)?);
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let is_time = hour < 24 && minute < 60 && second < 60;
    if year < 1970 || !(1..=12).contains(&month) || !(1..=days_of(year, month)).contains(&day) || !is_time {
        return None;
    }
    let offset_minutes = if zone.is_empty() { offset_minutes } else { offset_of(zone)? };
    let seconds = days_since_1970(year, month, day) * DAY_S + (hour * 60 + minute - offset_minutes) * 60 + second;
    u64::try_from(seconds).ok()
}

/// `2026-01-02T15:04:05`, in that time zone.
pub fn text(unix_s: u64, utc_offset_minutes: i32) -> String {
    // Holds for as long as there are years of four digits.
    let local = (unix_s as i64 + i64::from(utc_offset_minutes) * 60).max(0);
    let (days, second) = (local / DAY_S, local % DAY_S);
    let mut year = 1970 + days / 366;
    while days_since_1970(year + 1, 1, 1) <= days {
        year += 1;
    }
    let mut month = 1;
    while month < 12 && days_since_1970(year, month + 1, 1) <= days {
        month += 1;
    }
    let day = days - days_since_1970(year, month, 1) + 1;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60)
}

/// For the header Date (GB/T 28181-2016 §9.10): `2026-01-02T15:04:05.123`.
pub fn text_millis(unix_ms: u64, utc_offset_minutes: i32) -> String {
    format!("{}.{:03}", text(unix_ms / 1_000, utc_offset_minutes), unix_ms % 1_000)
}

fn digits(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// `Z` or `+08:00`, in minutes.
fn offset_of(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let sign = match zone.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    (hours <= UTC_OFFSET_HOURS_MAX && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let leaps_before = |year: i64| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    let of_years = (year - 1970) * 365 + leaps_before(year) - leaps_before(1970);
    let of_months: i64 = (1..month).map(|month| days_of(year, month)).sum();
    of_years + of_months + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_every_form() {
        let cases = [
            ("0", Some(0)),
            ("1767312245", Some(1_767_312_245)),
            ("1970-01-01T08:00:00", Some(0)),
            ("2026-01-02T08:04:05", Some(1_767_312_245)),
            ("2026-01-02 08:04:05", Some(1_767_312_245)),
            ("2026-01-02T00:04:05Z", Some(1_767_312_245)),
            ("2026-01-01T19:34:05-04:30", Some(1_767_312_245)),
            ("2024-02-29T23:59:59+00:00", Some(1_709_251_199)),
            ("2000-03-01T00:00:00Z", Some(951_868_800)),
            ("2100-03-01T00:00:00Z", Some(4_107_542_400)),
            ("1970-01-01T00:00:00", None),
            ("2023-02-29T00:00:00", None),
            ("2026-13-01T00:00:00", None),
            ("2026-01-02T24:00:00", None),
            ("2026-01-02", None),
            ("2026-01-02T08:04:05+8", None),
            ("2026-01-02T08:04:05+99:00", None),
            ("2026-01-0２T08:04:05", None),
            ("-026-01-02T08:04:05", None),
            ("", None),
            ("yesterday", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Moment::Text(text.to_owned()).unix_s(480), expected, "{text:?}");
        }
        assert_eq!(serde_json::from_str::<Moment>("7").unwrap().unix_s(480), Some(7));
    }

    #[test]
    fn moments_are_written_as_they_are_read() {
        assert_eq!(text_millis(0, 0), "1970-01-01T00:00:00.000");
        assert_eq!(text_millis(951_782_400_123, 0), "2000-02-29T00:00:00.123");
        assert_eq!(text(1_772_323_199, 480), "2026-03-01T07:59:59");
        assert_eq!(text(4_107_542_400, 0), "2100-03-01T00:00:00");
        // Each day of a century and more, at a time of day that moves.
        for day in 1..50_000u64 {
            let unix_s = day * 86_400 + day * 7 % 86_400;
            for offset in [-210, 0, 480] {
                assert_eq!(Moment::Text(text(unix_s, offset)).unix_s(offset), Some(unix_s), "{unix_s} {offset}");
            }
        }
    }
}
