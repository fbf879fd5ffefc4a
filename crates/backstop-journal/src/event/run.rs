//! Events of a run's life.

use crate::{Body, FreeText, Hash};
use backstop_call::{
    AgentName, Code, KeyLimits, KeyName, Labels, ModelName, Money, Priority, Role, RunId, TaskId, Timestamp,
};
use backstop_label::RightsText;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunStatus {
    /// Somebody works on it, or would if they had not died.
    Running,
    /// It waits: see its [`ParkReason`].
    Parked,
    /// The model finished the task.
    Done,
    /// It ended without, and resuming it would not change that: the model gave up or declined, or the conversation
    /// itself is refused. See its code.
    Failed,
    /// It can be resumed, once somebody changed what stopped it: a limit of the run (time, turns, tokens, dollars, the
    /// loop guard), a budget, a key, credit at the provider, a model that is not there, an outage that was longer than it
    /// waits for. See its code.
    Stopped,
    /// Somebody ended it.
    Cancelled,
}

impl RunStatus {
    /// The name as it stands in events, logs and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Parked => "parked",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more can come: `Stopped` is not the end, `backstop resume` goes on.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// What one run may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RunLimits {
    /// Working time, parked time not counted.
    pub time: Duration,
    /// Model calls.
    pub turns: u32,
    /// Tokens, input and output together.
    pub tokens: u64,
    /// Dollars; `None` leaves it to the budgets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
}

impl Default for RunLimits {
    /// 3 minutes, 50 turns, 1,000,000 tokens, no limit in dollars of its own.
    fn default() -> Self {
        Self { time: Duration::from_mins(3), turns: 50, tokens: 1_000_000, cost: None }
    }
}

/// A run exists. Everything that defines it is here, so that it can go on without the config it came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunCreated {
    /// The id its owner gave the task.
    pub task: TaskId,
    /// The role it acts in.
    pub role: Role,
    /// The agent.
    pub agent: AgentName,
    /// BLAKE3 of the agent's definition (prompt, model, tools, limits), in hex.
    pub agent_hash: String,
    /// The model or chain it asks.
    pub model: ModelName,
    /// Instructions: a text.
    pub system: Body,
    /// The task: a text.
    pub message: Body,
    /// The most tokens an answer may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// The tools it may call.
    pub tools: Vec<String>,
    /// The directory it works in.
    pub workspace: String,
    /// What it may use.
    pub limits: RunLimits,
    /// JSON Schema of the result it must give; `None` takes a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_schema: Option<Value>,
    /// How urgent it is.
    pub priority: Priority,
    /// The labels of the task.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Whether it only plans. Fixed here for good, so that nothing can switch it off half way.
    #[serde(default)]
    pub dry_run: bool,
    /// The dry run whose plan it carries out: its answers are that run's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applies: Option<RunId>,
    /// The run that it does a part for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<RunId>,
    /// Rights that bound it beside those that its role has when a call is made: what its role had when it was created,
    /// and the same of every run above it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bounds: Vec<RightsText>,
    /// What becomes of what it did when it fails.
    #[serde(default, skip_serializing_if = "OnFailure::is_keep")]
    pub on_failure: OnFailure,
    /// What holds for it in the queue; `None` where somebody works on it without being asked to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueTerms>,
    /// Who asked for it, where that was no person at this machine. In a box: of most runs there is nobody.
    #[serde(default, skip_serializing_if = "Origin::is_nobody")]
    pub origin: Box<Origin>,
}

/// Who asked for a run, where that was no person at this machine: a program with a key of the gateway, or another run. Whoever
/// it was pays for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The key that it was asked for with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyName>,
    /// What that key may spend: each call of the run is paid from it, too.
    #[serde(default)]
    pub key_limits: KeyLimits,
    /// BLAKE3 of the request by which it was asked for, in hex: the same request asks for nothing new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The run that put it into the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitter: Option<RunId>,
    /// The submitter and the runs above it whose dollars are limited, with what each may cost: each call is paid from those, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub payers: Vec<(RunId, Money)>,
    /// How many runs are above it, one behind the other.
    #[serde(default)]
    pub depth: u32,
}

impl Origin {
    fn is_nobody(&self) -> bool {
        *self == Self::default()
    }
}

/// What holds for a run that waits for a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueTerms {
    /// It is not begun before.
    pub due: Timestamp,
    /// It is not worked on after: whatever is not done by then is not wanted any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// How often its task was tried before.
    #[serde(default)]
    pub tried: u32,
    /// How often its task is tried in all; at least 1.
    pub tries: u32,
    /// The wait after the first try that failed. Doubles with each, to [`QueueTerms::BACKOFF_MAX`].
    pub backoff: Duration,
    /// Of tasks with the same key one is worked on at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl QueueTerms {
    /// The longest wait between two tries.
    pub const BACKOFF_MAX: Duration = Duration::from_hours(1);

    /// At once, once, and for ever.
    pub fn once(due: Timestamp) -> Self {
        Self { due, deadline: None, tried: 0, tries: 1, backoff: Duration::ZERO, key: None }
    }

    /// What holds when a person wants it tried again: all its tries, and no deadline, since what was too late is wanted now.
    #[must_use]
    pub fn again(&self, due: Timestamp) -> Self {
        Self { due, deadline: None, tried: 0, ..self.clone() }
    }

    /// How long to wait after so many tries that failed.
    pub fn wait_after(&self, tried: u32) -> Duration {
        let doubled = self.backoff.saturating_mul(1 << tried.saturating_sub(1).min(20));
        doubled.min(Self::BACKOFF_MAX)
    }
}

/// What becomes of what a run did when it fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// It stays.
    #[default]
    Keep,
    /// It is taken back, newest first, as far as it can be.
    Rollback,
}

impl OnFailure {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
    fn is_keep(&self) -> bool {
        *self == Self::Keep
    }
}

/// A process took the run over. From here on older epochs cannot write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunClaimed {
    /// The process, as the store knows it.
    pub owner: String,
}

/// Why a run waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParkReason {
    /// A person must say whether an effect happened.
    InDoubt,
    /// A person must say whether a call may be made.
    Approval,
    /// The provider asked for a wait that is longer than a call may take.
    Wait,
    /// A run that does a part for it waits.
    Child,
}

/// The run waits and holds nothing: no process, no lease, no memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunParked {
    /// Why.
    pub reason: ParkReason,
    /// When it may go on by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// The run waits for a worker: it was handed over, or a person wants it tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunQueued {
    /// What holds for it from here on.
    pub terms: QueueTerms,
}

/// The run goes on, possibly with other limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunResumed {
    /// The limits from here on.
    pub limits: RunLimits,
}

/// The run is over, or stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunFinished {
    /// How: `done`, `failed`, `stopped` or `cancelled`.
    pub status: RunStatus,
    /// The result, when it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Body>,
    /// Why, when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// In words.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub message: FreeText,
}

/// Who erases what is old enough.
pub const RETENTION: &str = "retention";

/// What the run said was erased: bodies and free text gave way to their digests, and nothing can go on from here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunErased {
    /// Who wanted it: a person's name, or [`RETENTION`].
    pub by: String,
    /// Why.
    pub reason: String,
    /// How many bodies and texts went.
    pub bodies: u64,
    /// Their length, in bytes of JSON.
    pub bytes: u64,
    /// What vouches for the events from before format 3, whose links nobody can work out any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rechained: Option<Rechained>,
}

/// A chain whose links go over whole texts, at the moment when those were erased.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rechained {
    /// The last of those links. It was right.
    pub was: Hash,
    /// What would be the last one if each went over what remains.
    pub now: Hash,
}
