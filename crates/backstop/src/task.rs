//! What is asked of Backstop, and what comes back.

use backstop_agent::InDoubt;
use backstop_agent::run::OpenQuestion;
use backstop_call::{
    AgentName, Code, Labels, ModelName, Money, Priority, Role, RunId, TaskId, Timestamp, Usage,
};
use backstop_journal::RunStatus;
use backstop_journal::event::{OnFailure, ParkReason, RunLimits};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// The most tokens that one answer has by default: enough for a long file, and at usual prices a worst case of cents.
const ANSWER_TOKENS_MAX: u64 = 8_192;

/// A task for an agent. Only [`Task::message`] has no sensible default.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Your own id of it; it stands in every log line and event.
    pub id: TaskId,
    /// The role it is done in: budgets hang on it.
    pub role: Role,
    /// The agent's name, for the history.
    pub agent: AgentName,
    /// Instructions.
    pub system: String,
    /// What is to be done.
    pub message: String,
    /// The model or chain that is asked.
    pub model: ModelName,
    /// The most tokens one answer may have; `None` takes the model's own limit. The worst case of every call is reserved
    /// before it is sent, so a high limit makes a budget stop early; an answer that was cut off is continued.
    pub max_tokens: Option<u64>,
    /// The directory the tools work in. Nothing outside it can be read or written.
    pub workspace: PathBuf,
    /// The tools it may call, by name; `finish` is always there.
    pub tools: Vec<String>,
    /// What the run may use.
    pub limits: RunLimits,
    /// JSON Schema of the result; `None` takes a text.
    pub result_schema: Option<Value>,
    /// How urgent it is.
    pub priority: Priority,
    /// What is known about where the task came from and who may see it.
    pub labels: Labels,
    /// What becomes of what the run did when it fails.
    pub on_failure: OnFailure,
    /// Whether the run only plans: it works on a copy, and [`crate::Backstop::apply`] carries its plan out.
    pub dry_run: bool,
}

impl Task {
    /// A task with all file tools, in the current directory, within the default limits (3 minutes, 50 turns), with answers
    /// of at most 8,192 tokens.
    pub fn new(model: impl Into<ModelName>, message: impl Into<String>) -> Self {
        Self {
            id: "task".into(),
            role: "default".into(),
            agent: "default".into(),
            system: crate::DEFAULT_SYSTEM.to_owned(),
            message: message.into(),
            model: model.into(),
            max_tokens: Some(ANSWER_TOKENS_MAX),
            workspace: PathBuf::from("."),
            tools: backstop_agent::tools::FILE_TOOLS.iter().map(|&name| name.to_owned()).collect(),
            limits: RunLimits::default(),
            result_schema: None,
            priority: Priority::default(),
            labels: Labels::default(),
            on_failure: OnFailure::default(),
            dry_run: false,
        }
    }
}

/// How a run stands when Backstop lets go of it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunResult {
    /// The run: what `resume` and `backstop show` take.
    pub run: RunId,
    /// How it stands.
    pub status: RunStatus,
    /// What the model said it did, or the text it ended with.
    pub content: String,
    /// The structured result, when a schema asked for one.
    pub result: Option<Value>,
    /// Tokens read, cached ones included.
    pub input_tokens: u64,
    /// Tokens written, reasoning included.
    pub output_tokens: u64,
    /// The same by kind.
    pub usage: Usage,
    /// What it cost, suspense included.
    pub cost: Money,
    /// Working time.
    pub duration: Duration,
    /// Model calls that were answered.
    pub turns: u32,
    /// Why it is not done.
    pub code: Option<Code>,
    /// In words.
    pub message: String,
    /// Why it waits.
    pub parked: Option<ParkReason>,
    /// When it may go on by itself.
    pub until: Option<Timestamp>,
    /// The tool calls whose outcome a person must decide.
    pub in_doubt: Vec<InDoubt>,
    /// What a person is asked.
    pub questions: Vec<OpenQuestion>,
}
