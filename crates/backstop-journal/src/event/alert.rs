//! Events of alerts: what is wrong and since when, who was to be told and whether they were, and what people said about it.
//! All of them stand in the stream `alerts`.

use backstop_call::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How bad it is, the least bad first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Nothing is wrong: a sign of life.
    Info,
    /// Somebody should look at it.
    Warning,
    /// Somebody must act.
    Critical,
}

impl Severity {
    /// The name as it stands in events, messages and config.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// Something is wrong, and was not a moment ago.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertFired {
    /// What it is called: a hash of the rule and the labels, the same each time the same thing is wrong.
    pub alert: String,
    /// The rule that found it.
    pub rule: String,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: a model, a budget, a run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// In words, with the figures that made it so.
    pub summary: String,
}

/// It is wrong no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertResolved {
    /// The alert.
    pub alert: String,
}

/// Somebody is to be told. It stands in the outbox until it is delivered or given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertQueued {
    /// The notice.
    pub notice: String,
    /// Who is to be told.
    pub receiver: String,
    /// What alerts are told together: the rule.
    pub group: String,
    /// Those that fire.
    pub firing: Vec<String>,
    /// Those that were told before and are resolved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolved: Vec<String>,
}

/// A notice was taken by its receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertDelivered {
    /// The notice.
    pub notice: String,
    /// How often it was tried.
    pub attempts: u32,
}

/// A notice was given up: the dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertLost {
    /// The notice.
    pub notice: String,
    /// How often it was tried.
    pub attempts: u32,
    /// What went wrong last.
    pub reason: String,
}

/// Nobody is told of alerts that fit, for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertSilenced {
    /// The silence.
    pub silence: String,
    /// What an alert must say to fit: `rule`, `severity`, or a label.
    pub matchers: BTreeMap<String, String>,
    /// Until when.
    pub until: Timestamp,
    /// Who said so.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// A silence holds no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertUnsilenced {
    /// The silence.
    pub silence: String,
    /// Who said so.
    pub by: String,
}

/// Somebody looks after an alert: it is not repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertAcknowledged {
    /// The alert.
    pub alert: String,
    /// Who.
    pub by: String,
}
