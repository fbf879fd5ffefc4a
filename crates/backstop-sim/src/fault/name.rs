//! The names of faults: `NAME` or `NAME:ARG`, and `NAME-ARG` where the argument is a number.

use super::{Fault, Hint, Row};
use std::fmt;
use std::str::FromStr;

/// A text that names no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// There is no fault of this name.
    #[error("`{name}` is no fault; there are: {}", Fault::names().join(", "))]
    Unknown {
        /// What was given.
        name: String,
    },
    /// The argument is not one that this fault takes.
    #[error("`{arg}` is no argument of the fault `{name}`; it takes {takes}")]
    Argument {
        /// The fault.
        name: String,
        /// What was given.
        arg: String,
        /// What it takes.
        takes: &'static str,
    },
}

/// The faults that are no error rows, as they are when they have no argument.
const PLAIN: &[(&str, Fault)] = &[
    ("html-error", Fault::HtmlError),
    ("hang-before-headers", Fault::HangBeforeHeaders),
    ("hang-after-headers", Fault::HangAfterHeaders),
    ("cut-before-body", Fault::CutBeforeBody),
    ("cut-at", Fault::CutAt { byte: 200 }),
    ("end-early", Fault::EndEarly),
    ("malformed-json", Fault::MalformedJson),
    ("malformed-stream", Fault::MalformedStream { after: 2 }),
    ("in-stream", Fault::InStreamError { row: Row::Overloaded, committed: false }),
    ("in-stream-late", Fault::InStreamError { row: Row::Overloaded, committed: true }),
    ("wrong-tool-arguments", Fault::WrongToolArguments),
    ("broken-tool-arguments", Fault::BrokenToolArguments),
    ("unknown-tool", Fault::UnknownTool),
    ("missing-usage", Fault::MissingUsage),
    ("wrong-usage", Fault::WrongUsage { times: 10 }),
    ("slow-first-token", Fault::SlowFirstToken { ms: 2_000 }),
    ("slow-chunks", Fault::SlowChunks { ms: 100 }),
    ("empty-answer", Fault::EmptyAnswer),
    ("truncated", Fault::Truncated),
    ("context-window", Fault::ContextWindow),
    ("refusal", Fault::Refusal),
    ("pause", Fault::Pause),
    ("huge-body", Fault::HugeBody { mib: 64 }),
    ("garbage-text", Fault::GarbageText),
];

const NUMBER: &str = "a whole number";
const NOTHING: &str = "none";
const HINT: &str = "ms=N, s=N, fraction=MS, date=N, long, zero, negative, nan, garbage, both, none or do-not";

impl Fault {
    /// The names of all faults, the error rows first.
    pub fn names() -> Vec<&'static str> {
        let rows = Row::ALL.iter().map(|row| row.as_str());
        rows.chain(PLAIN.iter().map(|(name, _)| *name)).collect()
    }

    /// The fault with its argument, by its name.
    fn with(self, name: &str, arg: &str) -> Result<Self, FaultError> {
        let wrong = |takes| FaultError::Argument { name: name.into(), arg: arg.into(), takes };
        let number = || arg.parse::<u64>().map_err(|_| wrong(NUMBER));
        let size = || arg.parse::<usize>().map_err(|_| wrong(NUMBER));
        match self {
            Self::Error { row, .. } => {
                Hint::parse(arg).map(|hint| Self::Error { row, hint }).ok_or_else(|| wrong(HINT))
            }
            Self::InStreamError { committed, .. } => {
                let row = Row::named(arg).ok_or_else(|| wrong("the name of an error row"))?;
                Ok(Self::InStreamError { row, committed })
            }
            Self::CutAt { .. } => Ok(Self::CutAt { byte: size()? }),
            Self::MalformedStream { .. } => Ok(Self::MalformedStream { after: size()? }),
            Self::WrongUsage { .. } => Ok(Self::WrongUsage { times: number()? }),
            Self::SlowFirstToken { .. } => Ok(Self::SlowFirstToken { ms: number()? }),
            Self::SlowChunks { .. } => Ok(Self::SlowChunks { ms: number()? }),
            Self::HugeBody { .. } => Ok(Self::HugeBody { mib: size()? }),
            Self::HtmlError
            | Self::HangBeforeHeaders
            | Self::HangAfterHeaders
            | Self::CutBeforeBody
            | Self::EndEarly
            | Self::MalformedJson
            | Self::WrongToolArguments
            | Self::BrokenToolArguments
            | Self::UnknownTool
            | Self::MissingUsage
            | Self::EmptyAnswer
            | Self::Truncated
            | Self::ContextWindow
            | Self::Refusal
            | Self::Pause
            | Self::GarbageText => Err(wrong(NOTHING)),
        }
    }

    /// The argument, as [`Fault::from_str`] reads it.
    fn argument(&self) -> Option<String> {
        match self {
            Self::Error { hint, .. } => hint.text(),
            Self::InStreamError { row, .. } => Some(row.as_str().to_owned()),
            Self::CutAt { byte: number }
            | Self::MalformedStream { after: number }
            | Self::HugeBody { mib: number } => Some(number.to_string()),
            Self::WrongUsage { times: number }
            | Self::SlowFirstToken { ms: number }
            | Self::SlowChunks { ms: number } => Some(number.to_string()),
            Self::HtmlError
            | Self::HangBeforeHeaders
            | Self::HangAfterHeaders
            | Self::CutBeforeBody
            | Self::EndEarly
            | Self::MalformedJson
            | Self::WrongToolArguments
            | Self::BrokenToolArguments
            | Self::UnknownTool
            | Self::MissingUsage
            | Self::EmptyAnswer
            | Self::Truncated
            | Self::ContextWindow
            | Self::Refusal
            | Self::Pause
            | Self::GarbageText => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Error { row, .. } => row.as_str(),
            Self::InStreamError { committed: true, .. } => "in-stream-late",
            other => {
                let same = |(_, plain): &&(&str, Self)| {
                    std::mem::discriminant(plain) == std::mem::discriminant(other)
                };
                PLAIN.iter().find(same).map_or("", |(name, _)| *name)
            }
        }
    }
}

fn bare(name: &str) -> Option<Fault> {
    let plain = PLAIN.iter().find(|(have, _)| *have == name).map(|(_, fault)| fault.clone());
    plain.or_else(|| Row::named(name).map(|row| Fault::Error { row, hint: Hint::Usual }))
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let text = text.trim();
        if let Some(fault) = bare(text) {
            return Ok(fault);
        }
        let by_colon = text.split_once(':');
        let by_hyphen = text.rsplit_once('-').filter(|(_, arg)| arg.parse::<u64>().is_ok());
        let unknown = || FaultError::Unknown { name: text.to_owned() };
        let (name, arg) = by_colon.or(by_hyphen).ok_or_else(unknown)?;
        bare(name).ok_or_else(unknown)?.with(name, arg)
    }
}

/// As [`Fault::from_str`] reads it.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        self.argument().map_or(Ok(()), |arg| write!(f, ":{arg}"))
    }
}
