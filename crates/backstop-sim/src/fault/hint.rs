//! `retry-after` in all its forms, sensible and not.

use backstop_call::Timestamp;
use std::time::{Duration, UNIX_EPOCH};

/// What an error answer says about waiting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Hint {
    /// What the row usually says: a second for a rate limit, else nothing.
    Usual,
    /// Nothing.
    None,
    /// `retry-after-ms`, in milliseconds.
    Millis(u64),
    /// `retry-after` in whole seconds.
    Seconds(u64),
    /// `retry-after` with a fraction, in milliseconds.
    Fraction(u64),
    /// `retry-after` as an HTTP date, so many seconds from now.
    Date(u64),
    /// `retry-after` of a day.
    Long,
    /// `retry-after: 0`.
    Zero,
    /// `retry-after: -5`.
    Negative,
    /// `retry-after: NaN`.
    NotANumber,
    /// `retry-after: soon`.
    Garbage,
    /// `retry-after-ms` and `retry-after` that disagree: 1,500 ms and 60 s. The first is the exact one.
    Both,
    /// `x-should-retry: false`.
    DoNot,
}

impl Hint {
    /// The headers that say it. `usual_secs` is what the row says by itself.
    pub fn headers(self, now: Timestamp, usual_secs: Option<u64>) -> Vec<(&'static str, String)> {
        let after = |text: String| vec![("retry-after", text)];
        match self {
            Self::Usual => usual_secs.map(|secs| after(secs.to_string())).unwrap_or_default(),
            Self::None => Vec::new(),
            Self::Millis(ms) => vec![("retry-after-ms", ms.to_string())],
            Self::Seconds(secs) => after(secs.to_string()),
            Self::Fraction(ms) => after(format!("{}.{:03}", ms / 1_000, ms % 1_000)),
            Self::Date(secs) => {
                after(httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now.secs() + secs)))
            }
            Self::Long => after("86400".to_owned()),
            Self::Zero => after("0".to_owned()),
            Self::Negative => after("-5".to_owned()),
            Self::NotANumber => after("NaN".to_owned()),
            Self::Garbage => after("soon".to_owned()),
            Self::Both => vec![("retry-after-ms", "1500".to_owned()), ("retry-after", "60".to_owned())],
            Self::DoNot => vec![("x-should-retry", "false".to_owned())],
        }
    }

    /// The wait a careful client reads out of it: a floor for its next attempt.
    pub fn wait(self, usual_secs: Option<u64>) -> Option<Duration> {
        match self {
            Self::Usual => usual_secs.map(Duration::from_secs),
            Self::Millis(ms) | Self::Fraction(ms) => (ms > 0).then(|| Duration::from_millis(ms)),
            Self::Seconds(secs) | Self::Date(secs) => (secs > 0).then(|| Duration::from_secs(secs)),
            Self::Long => Some(Duration::from_hours(24)),
            Self::Both => Some(Duration::from_millis(1_500)),
            Self::None | Self::Zero | Self::Negative | Self::NotANumber | Self::Garbage | Self::DoNot => None,
        }
    }

    /// Reads `ms=1500`, `s=2` or `2`, `fraction=1500`, `date=3`, `long`, `zero`, `negative`, `nan`, `garbage`, `both`, `none`,
    /// `do-not`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some((form, number)) = text.split_once('=') {
            let number = number.parse().ok()?;
            return match form {
                "ms" => Some(Self::Millis(number)),
                "s" => Some(Self::Seconds(number)),
                "fraction" => Some(Self::Fraction(number)),
                "date" => Some(Self::Date(number)),
                _ => None,
            };
        }
        match text {
            "none" => Some(Self::None),
            "long" => Some(Self::Long),
            "zero" => Some(Self::Zero),
            "negative" => Some(Self::Negative),
            "nan" => Some(Self::NotANumber),
            "garbage" => Some(Self::Garbage),
            "both" => Some(Self::Both),
            "do-not" => Some(Self::DoNot),
            secs => secs.parse().ok().map(Self::Seconds),
        }
    }

    /// The text that [`Hint::parse`] reads; `None` is the usual.
    pub(super) fn text(self) -> Option<String> {
        let fixed = |text: &str| Some(text.to_owned());
        match self {
            Self::Usual => None,
            Self::None => fixed("none"),
            Self::Millis(ms) => Some(format!("ms={ms}")),
            Self::Seconds(secs) => Some(format!("s={secs}")),
            Self::Fraction(ms) => Some(format!("fraction={ms}")),
            Self::Date(secs) => Some(format!("date={secs}")),
            Self::Long => fixed("long"),
            Self::Zero => fixed("zero"),
            Self::Negative => fixed("negative"),
            Self::NotANumber => fixed("nan"),
            Self::Garbage => fixed("garbage"),
            Self::Both => fixed("both"),
            Self::DoNot => fixed("do-not"),
        }
    }
}
