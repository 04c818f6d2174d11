//! Moments ⇄ the texts of GB/T 28181: local time without a zone, `2026-01-02T15:04:05`. The Gregorian calendar, forwards and backwards from
//! 1970. Not here: which zone (`gb28181.utc_offset_minutes`).

const DAY_S: i64 = 86_400;
/// Days of 400 years.
const ERA_DAYS: i64 = 146_097;
/// Days from the first of March of the year 0 to 1970.
const EPOCH_DAYS: i64 = 719_468;

/// Date and time of a moment, in seconds since 1970 where it is.
fn text_of(local_s: i64) -> String {
    let (days, second) = (local_s.div_euclid(DAY_S), local_s.rem_euclid(DAY_S));
    let (year, month, day) = date(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60)
}

/// A date of days since 1970. Years are counted from March on, so that the day that may be missing is the last.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH_DAYS;
    let (era, day_of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // March, April, May, June and July have 153 days, and so have the next five months.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// For bodies: `2026-01-02T15:04:05`.
pub fn local_seconds(unix_s: u64, utc_offset_minutes: i32) -> String {
    text_of(unix_s.cast_signed().saturating_add(i64::from(utc_offset_minutes) * 60))
}

/// For the header Date (§9.10): `2026-01-02T15:04:05.123`.
pub fn local_millis(unix_ms: u64, utc_offset_minutes: i32) -> String {
    format!("{}.{:03}", local_seconds(unix_ms / 1_000, utc_offset_minutes), unix_ms % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_dates() {
        let cases = [
            (0, 0, "1970-01-01T00:00:00.000"),
            (0, 480, "1970-01-01T08:00:00.000"),
            (0, -60, "1969-12-31T23:00:00.000"),
            (951_782_400_123, 0, "2000-02-29T00:00:00.123"),
            (951_868_799_999, 0, "2000-02-29T23:59:59.999"),
            (1_767_225_600_000, 0, "2026-01-01T00:00:00.000"),
            (1_772_323_199_000, 480, "2026-03-01T07:59:59.000"),
            (4_107_542_399_000, 0, "2100-02-28T23:59:59.000"),
            (4_107_542_400_000, 0, "2100-03-01T00:00:00.000"),
        ];
        for (unix_ms, offset, text) in cases {
            assert_eq!(local_millis(unix_ms, offset), text);
            assert_eq!(local_seconds(unix_ms / 1_000, offset), text[..19]);
        }
    }

    #[test]
    fn a_century_of_days_follow_each_other() {
        let mut last = date(-1);
        for days in 0..50_000 {
            let (year, month, day) = date(days);
            let follows = (year, month, day) == (last.0, last.1, last.2 + 1)
                || day == 1 && last.2 >= 28 && (year, month) == (last.0, last.1 + 1)
                || (year, month, day) == (last.0 + 1, 1, 1) && (last.1, last.2) == (12, 31);
            assert!(follows, "{last:?} {year}-{month}-{day}");
            last = (year, month, day);
        }
    }
}
