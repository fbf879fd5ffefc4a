//! How values are written in config: spans of time, dollars and references to secrets. Each is parsed here, once,
//! and says what is allowed when it is not; no value of a secret is ever repeated in an error.

use backstop_call::Money;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A text that is not what its key takes: what is allowed, as a fragment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadValue(pub String);

/// A span of time: `500ms`, `20s`, `3m`, `1h30m`, `2d`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

/// An amount of dollars, exact to the nano-dollar: `5`, `0.25`, `"$5.00"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Dollars(pub Money);

/// Where a secret is: never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SecretRef {
    /// In an environment variable.
    Env(String),
    /// In a file, without the line end after it.
    File(PathBuf),
}

/// The formats that [`check`] knows, as they stand in the schema.
const FORMATS: [(&str, Checker); 3] = [
    ("span", |text| text.parse::<Span>().map(drop)),
    ("dollars", |text| text.parse::<Dollars>().map(drop)),
    ("secret-reference", |text| text.parse::<SecretRef>().map(drop)),
];

type Checker = fn(&str) -> Result<(), BadValue>;

/// Whether a text is what a format of the schema allows. A format that is not ours allows everything.
pub(super) fn check(format: &str, text: &str) -> Result<(), BadValue> {
    FORMATS.iter().find(|(name, _)| *name == format).map_or(Ok(()), |(_, checker)| checker(text))
}

/// Whether the schema's format is one of ours: its values are texts even when they are written as numbers.
pub(super) fn is_ours(format: &str) -> bool {
    FORMATS.iter().any(|(name, _)| *name == format)
}

impl FromStr for Span {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad =
            || BadValue("a span of time is written like \"500ms\", \"20s\", \"3m\" or \"1h30m\"".into());
        let mut rest = text.trim();
        let mut total_ms: u64 = 0;
        if rest.is_empty() {
            return Err(bad());
        }
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let amount: u64 = rest[..digits].parse().map_err(|_| bad())?;
            rest = &rest[digits..];
            let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let unit_ms = match &rest[..letters] {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(bad()),
            };
            rest = rest[letters..].trim_start();
            total_ms = amount.checked_mul(unit_ms).and_then(|ms| total_ms.checked_add(ms)).ok_or_else(bad)?;
        }
        Ok(Self(Duration::from_millis(total_ms)))
    }
}

/// The largest unit that needs no fraction: `90s`, `3m`, `500ms`.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
            if ms >= unit && ms.is_multiple_of(unit) {
                return write!(f, "{}{name}", ms / unit);
            }
        }
        write!(f, "{ms}ms")
    }
}

impl FromStr for Dollars {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad =
            |_| BadValue("dollars are written like 5, 0.25 or \"$5.00\", with at most nine decimals".into());
        text.replace('_', "").parse().map(Self).map_err(bad)
    }
}

/// Exact, unlike [`Money`]'s own display, which rounds to cents.
impl fmt::Display for Dollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.nanos().unsigned_abs();
        let fraction = format!("{:09}", nanos % 1_000_000_000);
        let kept = fraction.trim_end_matches('0').len().max(2);
        let sign = if self.0 < Money::ZERO { "-" } else { "" };
        write!(f, "{sign}${}.{}", nanos / 1_000_000_000, &fraction[..kept])
    }
}

impl FromStr for SecretRef {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let variable = |name: &str| {
            !name.is_empty()
                && !name.starts_with(|c: char| c.is_ascii_digit())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        match text.split_once(':') {
            Some(("env", name)) if variable(name) => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.trim().is_empty() => Ok(Self::File(path.into())),
            _ => Err(BadValue(
                "a secret is named by where it is, \"env:NAME\" or \"file:PATH\"; its value must not stand in the \
                 config"
                    .into(),
            )),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

macro_rules! written_as_text {
    ($name:ident, $format:literal, $types:tt, $description:literal) => {
        impl TryFrom<String> for $name {
            type Error = BadValue;
            fn try_from(text: String) -> Result<Self, BadValue> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": $types, "format": $format, "description": $description })
            }
        }
    };
}

written_as_text!(Span, "span", "string", "A span of time: \"500ms\", \"20s\", \"3m\", \"1h30m\".");
written_as_text!(Dollars, "dollars", ["string", "number"], "Dollars: 5, 0.25 or \"$5.00\".");
written_as_text!(
    SecretRef,
    "secret-reference",
    "string",
    "Where a secret is: \"env:NAME\" or \"file:PATH\"."
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time() {
        let rows = [
            ("500ms", 500, "500ms"),
            ("3m", 180_000, "3m"),
            ("1h30m", 5_400_000, "90m"),
            ("90s", 90_000, "90s"),
        ];
        for (text, ms, shown) in rows {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.0, Duration::from_millis(ms), "{text}");
            assert_eq!(span.to_string(), shown);
        }
        for bad in ["", "3", "m", "3 min", "1.5s", "-1s", "99999999999999999999d"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn dollars_are_exact_both_ways() {
        for (text, shown) in
            [("5.00", "$5.00"), ("$12.345", "$12.345"), ("0.1", "$0.10"), ("1_000", "$1000.00")]
        {
            assert_eq!(text.parse::<Dollars>().unwrap().to_string(), shown);
        }
        assert!("1e3".parse::<Dollars>().is_err());
    }

    #[test]
    fn a_secret_is_a_reference_and_its_value_is_never_repeated() {
        assert_eq!("env:KEY_1".parse::<SecretRef>().unwrap(), SecretRef::Env("KEY_1".into()));
        assert_eq!("file:/run/key".parse::<SecretRef>().unwrap(), SecretRef::File("/run/key".into()));
        for bad in ["sk-ant-api03-canary", "env:", "file:", "env:1A", "vault:x", "env:sk-canary"] {
            let error = bad.parse::<SecretRef>().unwrap_err().to_string();
            assert!(!error.contains("canary"), "{error}");
        }
    }
}
