//! Time as an argument.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment: nanoseconds since 1970-01-01T00:00:00Z. Within one process it never goes backwards (see [`Clock`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);
    /// Later than anything: the deadline of what has none.
    pub const FAR: Self = Self(u64::MAX);

    /// A moment in nanoseconds since the epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// A moment in whole seconds since the epoch.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the epoch.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch.
    pub const fn secs(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// Days since the epoch, UTC: the window of a daily budget.
    pub const fn day(self) -> u64 {
        self.secs() / 86_400
    }

    /// The UTC date, `2026-11-22`: the name of a day's log file.
    pub fn date(self) -> String {
        let (year, month, day) = civil_from_days(self.day());
        format!("{year:04}-{month:02}-{day:02}")
    }

    /// Where a UTC date begins; reads what [`Timestamp::date`] writes. `None` for a text that is no date, and for one
    /// before 1970 or after what a [`Timestamp`] can hold (the year 2554).
    pub fn of_date(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
        let digits = |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
        if parts.next().is_some() || !digits(year, 4) || !digits(month, 2) || !digits(day, 2) {
            return None;
        }
        let date = (year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
        let days = days_from_civil(date)?;
        let nanos = days.checked_mul(86_400_000_000_000)?;
        // A day that the month does not have is another day's date.
        (civil_from_days(days) == date).then_some(Self(nanos))
    }

    /// Reads a date, as [`Timestamp::of_date`] does, or a time of RFC 3339: `2026-11-22T12:33:52.123Z`, `2026-11-22 13:33:52+01:00`.
    /// `None` for what is neither, and for what a [`Timestamp`] cannot hold.
    pub fn of_text(text: &str) -> Option<Self> {
        if let Some(begins) = Self::of_date(text) {
            return Some(begins);
        }
        let (date, time) = (Self::of_date(text.get(..10)?)?, text.get(10..)?);
        let time = time.strip_prefix(['T', 't', ' '])?;
        let (clock, east) = if let Some(clock) = time.strip_suffix(['Z', 'z']) {
            (clock, 0)
        } else {
            let (clock, zone) = time.split_at_checked(time.len().checked_sub(6)?)?;
            let minutes = minutes_of(zone.get(1..)?)?;
            match zone.as_bytes() {
                [b'+', ..] => (clock, minutes),
                [b'-', ..] => (clock, -minutes),
                _ => return None,
            }
        };
        let (minutes, seconds) = (minutes_of(clock.get(..5)?)?, clock.get(5..)?.strip_prefix(':')?);
        let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // A leap second is the first of the next minute.
        let seconds: u64 =
            seconds.parse().ok().filter(|it| *it <= 60 && seconds.len() == 2 && is_number(seconds))?;
        let fraction = format!("{fraction:0<9.9}").parse::<u64>().ok().filter(|_| is_number(fraction))?;
        let minutes = i64::try_from(date.secs() / 60).ok()? + minutes - east;
        let seconds = u64::try_from(minutes).ok()?.checked_mul(60)?.checked_add(seconds)?;
        Some(Self(seconds.checked_mul(1_000_000_000)?.checked_add(fraction)?))
    }

    /// RFC 3339 in UTC with milliseconds, `2026-11-22T12:33:52.123Z`. What is finer than a millisecond is cut off.
    pub fn rfc3339(self) -> String {
        self.to_string()
    }

    /// How long from `earlier` to here; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// RFC 3339 in UTC with milliseconds: the same text as [`Timestamp::rfc3339`].
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_from_days(self.day());
        let second = self.secs() % 86_400;
        let mut text = *b"0000-00-00T00:00:00.000Z";
        for (digits, number) in [
            (0..4, year),
            (5..7, month),
            (8..10, day),
            (11..13, second / 3_600),
            (14..16, second / 60 % 60),
            (17..19, second % 60),
            (20..23, self.0 / 1_000_000 % 1_000),
        ] {
            put_digits(&mut text[digits], number);
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// Writes the last digits of a number, as many as there is room for.
fn put_digits(room: &mut [u8], mut number: u64) {
    for digit in room.iter_mut().rev() {
        *digit = b"0123456789"[usize::try_from(number % 10).unwrap_or(0)];
        number /= 10;
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Where time comes from. An implementation must not go backwards.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// Year, month and day of a number of days since 1970-01-01, in the proleptic Gregorian calendar: `civil_from_days` of
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms". The year there begins in March, so that the leap day is
/// the last one; an era is 400 years of 146,097 days. Days before 1970 cannot come: a [`Timestamp`] is unsigned.
const fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + (month <= 2) as u64;
    (year, month, day)
}

/// The inverse of [`civil_from_days`]: `days_from_civil` of the same source. `None` before 1970 and for a month that
/// there is not.
fn days_from_civil((year, month, day): (u64, u64, u64)) -> Option<u64> {
    if !(1..=12).contains(&month) {
        return None;
    }
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day.checked_sub(1)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

/// The minutes of `HH:MM`.
fn minutes_of(text: &str) -> Option<i64> {
    let (hours, minutes) = text.split_once(':')?;
    let part = |text: &str, below| {
        let is_number = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|number: &i64| is_number && *number < below)
    };
    Some(part(hours, 24)? * 60 + part(minutes, 60)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_or_refused() {
        for days in 0..193_600 {
            let begins = Timestamp::from_secs(days * 86_400);
            assert_eq!(Timestamp::of_date(&begins.date()), Some(begins), "day {days}");
        }
        let bad = ["", "2026-02-29", "2026-13-01", "2026-00-10", "2026-01-00", "1969-12-31", "0000-01-01"];
        for bad in bad.into_iter().chain([
            "2026-1-01",
            "2026-01-01-",
            "26-01-01",
            "+026-01-01",
            "2026-04-31",
            "2999-01-31",
        ]) {
            assert_eq!(Timestamp::of_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_are_read_or_refused() {
        let noon = 1_795_780_800;
        let rows = [
            ("2026-11-27", Some((noon - 43_200, 0))),
            ("2026-11-27T12:00:00Z", Some((noon, 0))),
            ("2026-11-27t12:00:00.5z", Some((noon, 500_000_000))),
            ("2026-11-27 12:00:00.1234567891Z", Some((noon, 123_456_789))),
            ("2026-11-27T13:30:00+01:30", Some((noon, 0))),
            ("2026-11-26T23:00:00-13:00", Some((noon, 0))),
            ("2026-11-27T11:59:60Z", Some((noon, 0))),
            ("1970-01-01T00:30:00+01:00", None),
            ("2026-11-27T12:00Z", None),
            ("2026-11-27T24:00:00Z", None),
            ("2026-11-27T12:60:00Z", None),
            ("2026-11-27T12:00:61Z", None),
            ("2026-11-27T12:00:00", None),
            ("2026-11-27T12:00:00.Z", None),
            ("2026-11-27T12:00:00.-1Z", None),
            ("2026-11-27T12:00:+5Z", None),
            ("2026-11-27T12:00:00*01:00", None),
            ("2026-11-27T12:00:00+0100", None),
            ("2026-11-31T12:00:00Z", None),
            ("2026-11-27é12:00:00Z", None),
            ("24h", None),
            ("", None),
        ];
        for (text, want) in rows {
            let want = want.map(|(secs, nanos)| Timestamp::from_secs(secs) + Duration::from_nanos(nanos));
            assert_eq!(Timestamp::of_text(text), want, "{text}");
        }
        let now = Timestamp::from_nanos(1_795_780_800_123_000_000);
        assert_eq!(Timestamp::of_text(&now.rfc3339()), Some(now));
    }

    #[test]
    fn shows_rfc3339() {
        // The seconds are `date -u -d DATE +%s`.
        let rows = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000Z"),
            (1_767_225_599, "2025-12-31T23:59:59.000Z"),
            (1_795_350_832, "2026-11-22T12:33:52.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ];
        for (secs, shown) in rows {
            assert_eq!(Timestamp::from_secs(secs).rfc3339(), shown);
        }
        let millis = Timestamp::from_secs(1) + Duration::from_nanos(42_999_999);
        assert_eq!(millis.to_string(), "1970-01-01T00:00:01.042Z");
        assert_eq!(Timestamp::from_secs(951_782_400).date(), "2000-02-29");
    }

    /// Every day from 1970 to 2500 follows on the one before by the rules of the calendar.
    #[test]
    fn no_day_is_skipped() {
        let leap =
            |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..193_600 {
            assert_eq!(civil_from_days(days), (year, month, day), "day {days}");
            let last = match month {
                2 if leap(year) => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > last {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }
}
