//! Events of model calls.

use crate::Body;
use backstop_call::{
    AttemptRecord, CallId, Dialect, Failure, FreeText, KeyName, Labels, ModelName, Money, Progress,
    ProviderName, Role, StopReason, TaskId, Timestamp, Usage, span,
};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;
use std::time::Duration;

/// A model call begins. Only in runs: outside them the call's last event tells of its beginning too, see [`Asked`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallStarted {
    /// The call.
    pub call: CallId,
    /// The model or chain that was asked.
    pub model: ModelName,
    /// The turn of the run, from 1; 0 outside runs.
    pub turn: u32,
    /// The size of the input, estimated.
    pub input_tokens: u64,
    /// The task, outside runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// The role, outside runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The key of the gateway it came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyName>,
    /// The labels of what is sent.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// What was asked, and by whom: outside runs, where the event that ends a call is the whole record of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The model or chain that was asked.
    pub model: ModelName,
    /// The size of the input, estimated.
    pub input_tokens: u64,
    /// The task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskId>,
    /// The role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The key of the gateway it came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyName>,
    /// The dialect the client speaks, as config names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<Dialect>,
}

/// An attempt failed. The attempt that ends the call stands in `call.finished` or `call.failed` as well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptFailed {
    /// The call.
    pub call: CallId,
    /// The attempt.
    pub attempt: AttemptRecord,
}

/// The call was answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallFinished {
    /// The call.
    pub call: CallId,
    /// The turn of the run, from 1; 0 outside runs.
    #[serde(default, skip_serializing_if = "is_outside")]
    pub turn: u32,
    /// The provider that answered.
    pub provider: ProviderName,
    /// The model that answered, as the provider names it.
    pub model: String,
    /// The answer: the blocks of a [`backstop_call::Reply`]. Nothing where content is not kept.
    #[serde(default, skip_serializing_if = "Body::is_nothing")]
    pub content: Body,
    /// Why the model stopped.
    pub stop: StopReason,
    /// What it used.
    #[serde(serialize_with = "what_was_used")]
    pub usage: Usage,
    /// What all attempts cost together, suspense included.
    pub cost: Money,
    /// From the start of the call to its end, waits included.
    #[serde(with = "span")]
    pub duration: Duration,
    /// From sending the request that was answered to its first content.
    #[serde(default, with = "span::option", skip_serializing_if = "Option::is_none")]
    pub first_token: Option<Duration>,
    /// The provider's id of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// What was tried, as it is written. [`CallFinished::attempts`] has it in full.
    pub attempts: Attempts,
    /// The labels of the answer: those of everything it was made from.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// What was asked, outside runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// The HTTP status that the client was told, where the call came through the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

impl CallFinished {
    /// Every attempt, the one that answered last.
    pub fn attempts(&self) -> Cow<'_, [AttemptRecord]> {
        match &self.attempts {
            Attempts::One(only) => Cow::Owned(vec![self.whole(only)]),
            Attempts::All(attempts) => Cow::Borrowed(attempts),
        }
    }

    /// The same with nothing told twice: an only attempt says no more than what the call does not say of it.
    #[must_use]
    pub fn brief(self) -> Self {
        let Attempts::All(attempts) = &self.attempts else { return self };
        let [attempt] = &attempts[..] else { return self };
        let only = OnlyAttempt {
            started: attempt.started,
            duration: attempt.duration,
            model: (attempt.model != self.model).then(|| attempt.model.clone()),
            progress: attempt.progress,
        };
        // Left out is only what can be had back.
        if self.whole(&only) == *attempt { Self { attempts: Attempts::One(only), ..self } } else { self }
    }

    fn whole(&self, only: &OnlyAttempt) -> AttemptRecord {
        AttemptRecord {
            attempt: 1,
            provider: self.provider.clone(),
            model: only.model.as_ref().unwrap_or(&self.model).clone(),
            started: only.started,
            duration: only.duration,
            waited: Duration::ZERO,
            failure: None,
            progress: only.progress,
            code: None,
            message: FreeText::default(),
            cost: self.cost,
            suspense: false,
        }
    }
}

/// The attempts of a call that was answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Attempts {
    /// There was one, and it answered.
    One(OnlyAttempt),
    /// Every one, the one that answered last.
    All(Vec<AttemptRecord>),
}

impl From<Vec<AttemptRecord>> for Attempts {
    fn from(attempts: Vec<AttemptRecord>) -> Self {
        Self::All(attempts)
    }
}

/// What the only attempt of a call says that the call does not: who answered and what it cost stands there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnlyAttempt {
    /// When it began.
    pub started: Timestamp,
    /// How long it took.
    #[serde(with = "span")]
    pub duration: Duration,
    /// The provider's id of the model, where the answer came by another name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How far it got.
    #[serde(default = "mostly", skip_serializing_if = "is_mostly")]
    pub progress: Progress,
}

/// How far an attempt got that nobody watched.
fn mostly() -> Progress {
    Progress::ResponseStarted
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_mostly(progress: &Progress) -> bool {
    *progress == mostly()
}

/// The call failed for good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallFailed {
    /// The call.
    pub call: CallId,
    /// The turn of the run, from 1; 0 outside runs.
    #[serde(default, skip_serializing_if = "is_outside")]
    pub turn: u32,
    /// How, with every attempt.
    pub failure: Failure,
    /// What all attempts cost together, suspense included.
    pub cost: Money,
    /// From the start of the call to its end.
    #[serde(with = "span")]
    pub duration: Duration,
    /// The labels of what was sent, outside runs.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// What was asked, outside runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// The HTTP status that the client was told, where the call came through the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_outside(turn: &u32) -> bool {
    *turn == 0
}

/// A usage without what is zero, as most of it is for most calls. A gateway writes one for every call.
fn what_was_used<S: Serializer>(usage: &Usage, serializer: S) -> Result<S::Ok, S::Error> {
    let rare = [
        ("cache_read_tokens", usage.cache_read_tokens),
        ("cache_write_tokens", usage.cache_write_tokens),
        ("reasoning_tokens", usage.reasoning_tokens),
    ];
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("input_tokens", &usage.input_tokens)?;
    map.serialize_entry("output_tokens", &usage.output_tokens)?;
    for (kind, tokens) in rare.iter().filter(|(_, tokens)| *tokens > 0) {
        map.serialize_entry(kind, tokens)?;
    }
    if usage.estimated {
        map.serialize_entry("estimated", &true)?;
    }
    map.end()
}

/// A breaker changed its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakerChanged {
    /// The provider.
    pub provider: ProviderName,
    /// The model it watches.
    pub model: String,
    /// The state before: `closed`, `open`, `half-open`.
    pub from: String,
    /// The state after.
    pub to: String,
    /// Why, with the numbers that caused it.
    pub reason: String,
}
