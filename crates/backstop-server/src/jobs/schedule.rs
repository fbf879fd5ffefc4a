//! Schedules: cron expressions in a time zone. The expressions are read by `croner`, the zones come with `jiff`, so that a
//! machine without a database of time zones has them, too.

use backstop_call::Timestamp;
use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use std::fmt;

/// A time from which every schedule that ever comes must come again: 2026-01-01.
const SOME_TIME: Timestamp = Timestamp::from_secs(1_767_225_600);

/// When something is due, again and again: five fields of cron (minute, hour, day of the month, month, day of the week), or
/// `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`, read in a time zone.
///
/// Where both days are restricted, either will do, as in Vixie's cron; where one begins with `*`, both must fit. When clocks go
/// forward, a time that there is not is kept right after the gap. When they go back, a time that there is twice is kept
/// the first time; what is due every so many minutes or hours is due in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    cron: Cron,
    timezone: String,
    zone: TimeZone,
}

/// A text that is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSchedule {
    /// It is no cron expression.
    #[error("`{text}` is no schedule: {why}")]
    Cron {
        /// What was written.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// It names a time that never comes.
    #[error("`{0}` never comes")]
    Never(String),
    /// There is no such time zone.
    #[error("there is no time zone `{0}`")]
    TimeZone(String),
}

impl Schedule {
    /// Reads a cron expression and the name of a time zone of the IANA, like `Europe/Berlin`.
    pub fn parse(text: &str, timezone: &str) -> Result<Self, BadSchedule> {
        let zone = TimeZone::get(timezone).map_err(|_| BadSchedule::TimeZone(timezone.to_owned()))?;
        let fields: Vec<&str> = text.split_whitespace().collect();
        if fields.len() != 5 && !text.starts_with('@') {
            let why = format!("it has {} fields, and a schedule has 5", fields.len());
            return Err(BadSchedule::Cron { text: text.to_owned(), why });
        }
        // The rule is that of Vixie's cron, to the letter: an expression that begins with `*` counts as no restriction.
        let both = [2, 4].iter().any(|&day| fields.get(day).is_some_and(|field| field.starts_with('*')));
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed);
        let bad = |error: &CronError| BadSchedule::Cron { text: text.to_owned(), why: reason(error) };
        let cron = parser.dom_and_dow(both).build().parse(text).map_err(|error| bad(&error))?;
        let schedule = Self { text: text.to_owned(), cron, timezone: timezone.to_owned(), zone };
        if schedule.after(SOME_TIME).is_none() {
            return Err(BadSchedule::Never(text.to_owned()));
        }
        Ok(schedule)
    }

    /// The first time after a moment; `None` where none comes any more.
    pub fn after(&self, moment: Timestamp) -> Option<Timestamp> {
        let nanos = i128::from(moment.nanos());
        let moment = jiff::Timestamp::from_nanosecond(nanos).ok()?.to_zoned(self.zone.clone());
        let next = self.cron.find_next_occurrence(&moment, false).ok()?;
        u64::try_from(next.timestamp().as_nanosecond()).ok().map(Timestamp::from_nanos)
    }

    /// Every time after a moment, in order.
    pub fn times_after(&self, moment: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
        std::iter::successors(self.after(moment), |time| self.after(*time))
    }

    /// A moment as clocks of the time zone show it: `2026-11-28 07:00 CET`.
    pub fn local(&self, moment: Timestamp) -> String {
        let local = jiff::Timestamp::from_nanosecond(i128::from(moment.nanos()));
        local.map_or_else(
            |_| moment.rfc3339(),
            |local| local.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M %Z").to_string(),
        )
    }

    /// The cron expression, as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The name of the time zone.
    pub fn timezone(&self) -> &str {
        &self.timezone
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.text, self.timezone)
    }
}

/// What the reader says, as a fragment.
fn reason(error: &CronError) -> String {
    let text = match error {
        CronError::InvalidPattern(text)
        | CronError::IllegalCharacters(text)
        | CronError::ComponentError(text) => text.clone(),
        other => other.to_string(),
    };
    let mut letters = text.trim_end_matches('.').chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next times after a moment.
    fn next(text: &str, timezone: &str, from: &str, count: usize) -> Vec<String> {
        let schedule = Schedule::parse(text, timezone).unwrap();
        let from = Timestamp::of_text(from).unwrap();
        let shown = |time: Timestamp| time.rfc3339().replace(":00.000Z", "Z");
        schedule.times_after(from).take(count).map(shown).collect()
    }

    #[test]
    fn the_times_of_a_schedule() {
        let rows: &[(&str, &str, &str, &[&str])] = &[
            ("0 7 * * mon-fri", "UTC", "2026-11-27T07:00:00Z", &["2026-11-30T07:00Z", "2026-12-01T07:00Z"]),
            (
                "0 7 * * 1-5",
                "Europe/Berlin",
                "2026-11-27T05:59:59Z",
                &["2026-11-27T06:00Z", "2026-11-30T06:00Z"],
            ),
            ("*/20 9-10 * * *", "UTC", "2026-01-01T09:30:00Z", &["2026-01-01T09:40Z", "2026-01-01T10:00Z"]),
            ("@daily", "Asia/Kolkata", "2026-01-01T00:00:00Z", &["2026-01-01T18:30Z"]),
            ("@hourly", "UTC", "2026-01-01T00:00:00.5Z", &["2026-01-01T01:00Z"]),
            ("@weekly", "UTC", "2026-01-01T00:00:00Z", &["2026-01-04T00:00Z"]),
            ("@monthly", "UTC", "2026-01-01T00:00:00Z", &["2026-02-01T00:00Z"]),
            ("@yearly", "UTC", "2026-01-01T00:00:00Z", &["2027-01-01T00:00Z"]),
            ("0 0 29 feb *", "UTC", "2026-01-01T00:00:00Z", &["2028-02-29T00:00Z"]),
            ("0 0 * * sun", "UTC", "2026-01-01T00:00:00Z", &["2026-01-04T00:00Z"]),
            ("0 0 * * 7", "UTC", "2026-01-01T00:00:00Z", &["2026-01-04T00:00Z"]),
            // The 13th, and every Friday.
            ("0 0 13 * fri", "UTC", "2026-01-08T00:00:00Z", &["2026-01-09T00:00Z", "2026-01-13T00:00Z"]),
            // A day that begins with `*` must fit, too: Fridays that are odd.
            ("0 0 */2 * fri", "UTC", "2026-01-01T00:00:00Z", &["2026-01-09T00:00Z", "2026-01-23T00:00Z"]),
            ("0 0 L * *", "UTC", "2026-02-01T00:00:00Z", &["2026-02-28T00:00Z"]),
        ];
        for (text, timezone, from, want) in rows {
            assert_eq!(next(text, timezone, from, want.len()), *want, "{text} {timezone}");
        }
    }

    /// Berlin: on 29 March 2026 it is 03:00 after 01:59, on 25 October 02:00 comes twice. Lord Howe moves by half an hour.
    #[test]
    fn when_clocks_are_changed() {
        let rows: &[(&str, &str, &str, &[&str])] = &[
            // There is no 02:30: it is kept right after the gap, and once.
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-03-28T12:00:00Z",
                &["2026-03-29T01:00Z", "2026-03-30T00:30Z"],
            ),
            (
                "0 2 * * *",
                "Europe/Berlin",
                "2026-03-28T12:00:00Z",
                &["2026-03-29T01:00Z", "2026-03-30T00:00Z"],
            ),
            // 02:30 comes twice, and is kept once.
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-10-24T12:00:00Z",
                &["2026-10-25T00:30Z", "2026-10-26T01:30Z"],
            ),
            (
                "0 3 * * *",
                "Europe/Berlin",
                "2026-10-24T12:00:00Z",
                &["2026-10-25T02:00Z", "2026-10-26T02:00Z"],
            ),
            // What comes every so often does not stop and does not hurry.
            (
                "0 * * * *",
                "Europe/Berlin",
                "2026-03-29T00:00:00Z",
                &["2026-03-29T01:00Z", "2026-03-29T02:00Z"],
            ),
            (
                "0 * * * *",
                "Europe/Berlin",
                "2026-10-24T23:30:00Z",
                &["2026-10-25T00:00Z", "2026-10-25T01:00Z", "2026-10-25T02:00Z"],
            ),
            (
                "*/30 * * * *",
                "Europe/Berlin",
                "2026-10-25T00:00:00Z",
                &["2026-10-25T00:30Z", "2026-10-25T01:00Z", "2026-10-25T01:30Z"],
            ),
            (
                "15 2 * * *",
                "Australia/Lord_Howe",
                "2026-10-02T20:00:00Z",
                &["2026-10-03T15:30Z", "2026-10-04T15:15Z"],
            ),
            // The clock of the machine is UTC there all the year.
            ("30 2 * * *", "UTC", "2026-03-28T12:00:00Z", &["2026-03-29T02:30Z", "2026-03-30T02:30Z"]),
        ];
        for (text, timezone, from, want) in rows {
            assert_eq!(next(text, timezone, from, want.len()), *want, "{text} {timezone} from {from}");
        }
    }

    #[test]
    fn what_is_no_schedule() {
        let bad = |text: &str, timezone: &str| Schedule::parse(text, timezone).unwrap_err().to_string();
        for text in [
            "",
            "7",
            "0 7 * *",
            "0 0 7 * * *",
            "0 25 * * *",
            "60 7 * * *",
            "0 7 * * funday",
            "@reboot",
            "0 7 32 * *",
        ] {
            let told = bad(text, "UTC");
            assert!(
                told.starts_with(&format!("`{text}` is no schedule: ")) && !told.ends_with('.'),
                "{told}"
            );
        }
        assert_eq!(bad("0 0 31 feb *", "UTC"), "`0 0 31 feb *` never comes");
        assert_eq!(bad("@daily", "Europe/Berln"), "there is no time zone `Europe/Berln`");
    }

    #[test]
    fn times_are_shown_as_the_clocks_there_have_them() {
        let schedule = Schedule::parse("0 7 * * *", "Europe/Berlin").unwrap();
        let shown = |text: &str| schedule.local(Timestamp::of_text(text).unwrap());
        assert_eq!(shown("2026-11-28T06:00:00Z"), "2026-11-28 07:00 CET");
        assert_eq!(shown("2026-07-28T05:00:00Z"), "2026-07-28 07:00 CEST");
    }
}
