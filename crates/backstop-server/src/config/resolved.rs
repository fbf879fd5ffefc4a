//! A config that is ready to be used: values only. How they come about is in [`super::resolve`].

use super::alerts::Alerts;
use super::approvals::Approvals;
use super::file;
use super::policy::Gate;
use super::secret::Header;
use super::sections::{
    Breaker, Delegation, Keys, Limits, LogLevel, LogTarget, Numbers, Otlp, Redact, Retention, Retry, Serve,
    Timeouts, Workers,
};
use super::value::SecretRef;
use crate::jobs::Job;
use backstop_allowance::Budget;
use backstop_call::{AgentName, Dialect, JobName, ModelName, Money, Price, ProviderName, Role};
use backstop_journal::event::{OnFailure, RunLimits};
use backstop_label::RightsText;
use backstop_tools::command::CommandGrant;
use backstop_tools::mcp::McpGrant;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// A config that was found right: every name in it leads somewhere, every file it names was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The config file, when there is one.
    pub file: Option<PathBuf>,
    /// The directory that everything is kept in.
    pub data_dir: PathBuf,
    /// The database file.
    pub journal: PathBuf,
    /// What is asked when nothing else is named.
    pub model: Option<ModelName>,
    /// Where models are called.
    pub providers: BTreeMap<ProviderName, Provider>,
    /// The models.
    pub models: BTreeMap<ModelName, Model>,
    /// Models that stand in for one another, the first choice first.
    pub chains: BTreeMap<ModelName, Vec<ModelName>>,
    /// What may be spent, but for the limits of single runs.
    pub budgets: Vec<Budget>,
    /// What a run may cost when nothing else is said.
    pub run_cost: Option<Money>,
    /// The agents.
    pub agents: BTreeMap<AgentName, Agent>,
    /// The rights of the roles.
    pub roles: BTreeMap<String, RightsText>,
    /// How far agents may give parts of a task to others.
    pub delegation: Delegation,
    /// The gates.
    pub gates: Vec<Gate>,
    /// The tools that reach beyond the files of a run.
    pub tools: file::Tools,
    /// Commands that are tools, by their names.
    pub commands: BTreeMap<String, CommandGrant>,
    /// MCP servers, by their names.
    pub mcp: BTreeMap<String, McpGrant>,
    /// Who is told of questions.
    pub approvals: Approvals,
    /// What is looked at, and who is told when something is wrong.
    pub alerts: Alerts,
    /// Retries.
    pub retry: Retry,
    /// Breakers.
    pub breaker: Breaker,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Waits under limits.
    pub limits: Limits,
    /// Redaction.
    pub redact: Redact,
    /// The gateway.
    pub serve: Serve,
    /// The workers.
    pub workers: Workers,
    /// How many runs of a role are worked on at a time.
    pub concurrency: BTreeMap<Role, u32>,
    /// What is done at the times of a schedule.
    pub jobs: BTreeMap<JobName, Job>,
    /// Names and patterns that a client may ask for, the longest first, with the model or chain each stands for.
    pub asked: Vec<(String, ModelName)>,
    /// The keys of the gateway.
    pub keys: Keys,
    /// How long is kept what runs said.
    pub retention: Retention,
    /// What is counted.
    pub numbers: Numbers,
    /// The collector of spans.
    pub otlp: Otlp,
    /// Log lines.
    pub logs: Logs,
}

/// Where models are called.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    /// The wire format it speaks.
    pub dialect: Dialect,
    /// Its address.
    pub base_url: String,
    /// Where its key is.
    pub key: Option<SecretRef>,
    /// Whether it runs on a machine of the owner's.
    pub local: bool,
    /// Headers that are sent with every request.
    pub headers: Vec<(String, Header)>,
    /// What may be sent to it.
    pub limits: file::ProviderLimits,
    /// Whether it keeps message threads.
    pub threads: bool,
}

/// A model at a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// The provider.
    pub provider: ProviderName,
    /// The provider's id of it.
    pub id: String,
    /// What config says it costs; `None` leaves it to the price list.
    pub price: Option<Price>,
    /// Tokens that fit in its context window.
    pub context_window: Option<u64>,
    /// The most tokens it writes in one answer.
    pub max_output: Option<u64>,
    /// Whether it may see what is private.
    pub local: bool,
}

/// An agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// What it is for, in a line.
    pub description: Option<String>,
    /// Its instructions; `None` takes the standard ones.
    pub prompt: Option<String>,
    /// The model or chain it asks.
    pub model: Option<ModelName>,
    /// The tools it may call; `None` is all file tools.
    pub tools: Option<Vec<String>>,
    /// The role it acts in.
    pub role: Role,
    /// The directory it works in when a task names none.
    pub workspace: Option<PathBuf>,
    /// The most tokens one answer may have.
    pub max_tokens: Option<u64>,
    /// JSON Schema of the result it must give.
    pub result_schema: Option<Value>,
    /// What one run of it may use.
    pub limits: RunLimits,
    /// What becomes of what a run did when it fails.
    pub on_failure: OnFailure,
    /// How often a task is tried in all.
    pub tries: u32,
    /// The wait after the first try that failed.
    pub backoff: Duration,
}

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    /// Where.
    pub to: LogTarget,
    /// The directory of the daily files.
    pub dir: PathBuf,
    /// Days that a daily file is kept.
    pub retention_days: u32,
    /// The least urgent lines that are written.
    pub level: LogLevel,
}
