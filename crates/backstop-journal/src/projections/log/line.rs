//! The shape of a log line: which fields there are, how they are named and written.

use crate::json;
use backstop_call::{CallId, Code, KeyName, Money, ProviderName, Role, RunId, TaskId, Timestamp, Usage};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How loud a line is. Ordered: a louder level is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Every step.
    Debug,
    /// What a day is told in.
    Info,
    /// Something failed and was dealt with.
    Warn,
    /// A person must act.
    Error,
}

impl Level {
    /// The name as it stands in lines and in `BACKSTOP_LOG`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no level (debug, info, warn or error)")]
pub struct UnknownLevel(String);

impl FromStr for Level {
    type Err = UnknownLevel;
    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        [Self::Debug, Self::Info, Self::Warn, Self::Error]
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or_else(|| UnknownLevel(text.to_owned()))
    }
}

/// One line of the log. A field that has nothing to say is left out of the JSON. Amounts are exact decimal dollars as a
/// string, because a float could not hold them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogLine {
    /// When, in RFC 3339.
    #[serde(serialize_with = "as_text")]
    pub ts: Timestamp,
    /// How loud.
    pub level: Level,
    /// The kind of the event.
    pub event: &'static str,
    /// The task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// The role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The key of the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyName>,
    /// The run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// The model call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<CallId>,
    /// The number of the attempt or dispatch, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// How many attempts there were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<usize>,
    /// The model that answered, as the provider names it; before that the model or chain that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderName>,
    /// Input, cached or not; estimated in `call.started` and `call.failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// Output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// Whether the tokens were counted by us, because the provider did not say.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
    /// Dollars: what it cost, or what is held for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<String>,
    /// How long it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// From sending the request to the first content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<u64>,
    /// The tool of this tool call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The tools that an answer calls, in order; at a run's end, every tool that was called, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// How it stands or ended, by a word of the event's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The code a user can look up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// In words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl LogLine {
    pub(super) fn new(ts: Timestamp, level: Level, event: &'static str) -> Self {
        Self {
            ts,
            level,
            event,
            task: None,
            role: None,
            key: None,
            run: None,
            call: None,
            attempt: None,
            attempts: None,
            model: None,
            provider: None,
            input_tokens: None,
            output_tokens: None,
            estimated: false,
            cost_usd: None,
            duration_ms: None,
            first_token_ms: None,
            tool: None,
            tools: Vec::new(),
            status: None,
            code: None,
            message: String::new(),
        }
    }

    /// Writes the JSON of the line behind a text, without a line break.
    pub fn write_to(&self, text: &mut String) {
        // Its fields are strings, numbers and lists of them: there is nothing in them to refuse.
        drop(json::write(text, self));
    }

    pub(super) fn usage(&mut self, usage: &Usage) {
        self.input_tokens = Some(usage.total_input_tokens());
        self.output_tokens = Some(usage.output_tokens);
        self.estimated = usage.estimated;
    }

    pub(super) fn cost(&mut self, cost: Money) {
        self.cost_usd = Some(cost.decimal());
    }

    pub(super) fn duration(&mut self, duration: Duration) {
        self.duration_ms = Some(whole_millis(duration));
    }

    pub(super) fn first_token(&mut self, first_token: Option<Duration>) {
        self.first_token_ms = first_token.map(whole_millis);
    }
}

/// The JSON of the line, without a line break.
impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.write_to(&mut text);
        f.write_str(&text)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn as_text<S: serde::Serializer>(ts: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(ts)
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
