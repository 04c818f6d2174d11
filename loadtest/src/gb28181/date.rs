//! Dates as they stand in MANSCDP: `2026-01-02T15:04:05`, local time of the device, which is Beijing's. No zone, no leap seconds.

const DAY: i64 = 86_400;
const BEIJING: i64 = 8 * 3600;

/// Seconds since 1970 on the device's clock.
pub fn parse(text: &str) -> Option<i64> {
    let (date, time) = text.trim().split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.splitn(3, ':').map(|part| part.get(..2).unwrap_or(part).parse::<i64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    ((1..=12).contains(&month) && (1970..=9999).contains(&year))
        .then(|| days(year, month, day) * DAY + hour * 3600 + minute * 60 + second)
}

pub fn format(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    // The year begins in March, so that the day that is not always there is the last.
    let era_days = days + 719_468;
    let day_of_era = era_days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era_days.div_euclid(146_097) * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Days from 1970-01-01.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let from_march = (month + 9) % 12;
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

/// The device's clock.
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_secs() as i64 + BEIJING
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_there_and_back() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00", 0),
            ("2000-02-29T23:59:59", 951_868_799),
            ("2026-01-02T15:04:05", 1_767_366_245),
            ("2026-12-31T00:00:00", 1_798_675_200),
        ] {
            assert_eq!((parse(text), format(seconds).as_str()), (Some(seconds), text));
        }
        assert_eq!((parse("2026-13-01T00:00:00"), parse("yesterday"), parse("2026-01-02T03")), (None, None, None));
    }
}
