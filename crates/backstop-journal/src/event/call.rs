//! Events of model calls.

use crate::Body;
use backstop_call::{
    AttemptRecord, CallId, Dialect, Failure, KeyName, Labels, ModelName, Money, ProviderName, Role,
    StopReason, TaskId, Usage,
};
use serde::{Deserialize, Serialize};
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
    pub turn: u32,
    /// The provider that answered.
    pub provider: ProviderName,
    /// The model that answered, as the provider names it.
    pub model: String,
    /// The answer: the blocks of a [`backstop_call::Reply`]. `null` where content is not kept.
    pub content: Body,
    /// Why the model stopped.
    pub stop: StopReason,
    /// What it used.
    pub usage: Usage,
    /// What all attempts cost together, suspense included.
    pub cost: Money,
    /// From the start of the call to its end, waits included.
    pub duration: Duration,
    /// From sending the request that was answered to its first content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token: Option<Duration>,
    /// The provider's id of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Every attempt, the one that answered last.
    pub attempts: Vec<AttemptRecord>,
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

/// The call failed for good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallFailed {
    /// The call.
    pub call: CallId,
    /// The turn of the run, from 1; 0 outside runs.
    pub turn: u32,
    /// How, with every attempt.
    pub failure: Failure,
    /// What all attempts cost together, suspense included.
    pub cost: Money,
    /// From the start of the call to its end.
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
