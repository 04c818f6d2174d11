//! Microseconds since 1970 ↔ a moment as RFC 3339 writes it.
//!
//! UTC, proleptic Gregorian calendar. Days are counted from 0000-03-01, so that a leap day is the last of its year. Written with milliseconds;
//! read with any offset and fraction. Not here: leap seconds, clocks.

const DAY_MILLIS: i64 = 86_400_000;
/// From 0000-03-01 to 1970-01-01.
const DAYS_BEFORE_1970: i64 = 719_468;
const DAYS_IN_400_YEARS: i64 = 146_097;

/// A moment as calendars show it.
pub struct Moment {
    pub year: i64,
    pub month: i64,
    day: i64,
    /// Of the day.
    millis: i64,
}

impl Moment {
    pub fn from_micros(micros: i64) -> Self {
        let millis = micros.div_euclid(1000);
        let (year, month, day) = civil(millis.div_euclid(DAY_MILLIS));
        Moment { year, month, day, millis: millis.rem_euclid(DAY_MILLIS) }
    }

    /// `2026-01-31`.
    pub fn date(&self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    /// `12:34:56.789`.
    pub fn time(&self) -> String {
        let (seconds, millis) = (self.millis / 1000, self.millis % 1000);
        format!("{:02}:{:02}:{:02}.{millis:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }
}

/// `2026-01-31T12:34:56.789Z`.
pub fn rfc3339(micros: i64) -> String {
    let moment = Moment::from_micros(micros);
    format!("{}T{}Z", moment.date(), moment.time())
}

/// `2026-01-31T23:59:59.999Z`, or with an offset such as `+08:00`, in microseconds since 1970.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = rest.split_at(zone_at);
    let mut date = date.split('-');
    let (year, month, day) = (number(date.next()?, 4, 9999)?, number(date.next()?, 2, 12)?, number(date.next()?, 2, 31)?);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut time = time.split(':');
    let (hour, minute, second) = (number(time.next()?, 2, 23)?, number(time.next()?, 2, 59)?, number(time.next()?, 2, 60)?);
    if month == 0 || date.next().is_some() || time.next().is_some() {
        return None;
    }
    let days = days_of(year, month, day);
    if civil(days) != (year, month, day) {
        return None;
    }
    let fraction: String = fraction.chars().chain("000000".chars()).take(6).collect();
    let micros = number(&fraction, 6, 999_999)?;
    let offset = match zone.as_bytes().first()? {
        b'+' | b'-' => {
            let (hours, minutes) = zone[1..].split_once(':')?;
            let minutes = 60 * number(hours, 2, 23)? + number(minutes, 2, 59)?;
            if zone.starts_with('-') { -minutes } else { minutes }
        }
        _ if zone.len() == 1 => 0,
        _ => return None,
    };
    Some(((days * 24 + hour) * 60 + minute - offset) * 60_000_000 + second * 1_000_000 + micros)
}

fn number(text: &str, digits: usize, max: i64) -> Option<i64> {
    let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse::<i64>().ok()).flatten().filter(|number| *number <= max)
}

/// Year, month and day of a day since 1970.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_BEFORE_1970;
    let (era, of_era) = (days.div_euclid(DAYS_IN_400_YEARS), days.rem_euclid(DAYS_IN_400_YEARS));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March on: 153 days are five of them.
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (400 * era + year_of_era + i64::from(month <= 2), month, day)
}

/// The day since 1970 that a calendar shows so.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - DAYS_BEFORE_1970
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_and_read() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_709_210_096_007, "2024-02-29T12:34:56.007Z"),
            (1_735_689_599_000, "2024-12-31T23:59:59.000Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ];
        for (millis, text) in cases {
            assert_eq!(rfc3339(millis * 1_000), text);
            assert_eq!(parse_rfc3339(text), Some(millis * 1_000), "{text}");
        }
    }
}
