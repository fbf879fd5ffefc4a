//! `backstop.toml` as it is typed: every section and key, with its default. The JSON schema, the reader and the default
//! file are held to these types by tests. Nothing here looks at the environment or at another file.

use super::alerts::Alerts;
use super::approvals::Approvals;
use super::jobs::Job;
use super::policy::{Gate, Role};
use super::sections::{
    Breaker, Delegation, Journal, Keys, Limits, Logs, Numbers, Otlp, Redact, Retention, Retry, Serve,
    Timeouts, Workers,
};
use super::value::{Dollars, SecretRef, Span};
use backstop_call::Dialect;
use backstop_tools::command::CommandGrant;
use backstop_tools::git::GitGrant;
use backstop_tools::http::HttpGrant;
use backstop_tools::mail::MailGrant;
use backstop_tools::mcp::McpGrant;
use backstop_tools::shell::ShellGrant;
use backstop_tools::sqlite::SqliteGrant;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The config of Backstop. Every section may be left out; with no file at all Backstop uses what it finds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct File {
    /// The model or chain that is asked when neither the command line nor the agent names one. Since 0.1.
    pub model: Option<String>,
    /// Where models are called, by a name of your own. Since 0.1.
    pub providers: BTreeMap<String, Provider>,
    /// Models, by a name of your own. Since 0.1.
    pub models: BTreeMap<String, Model>,
    /// Models that stand in for one another, by a name of your own. Since 0.1.
    pub chains: BTreeMap<String, Chain>,
    /// What may be spent. Since 0.1.
    pub budgets: Budgets,
    /// Agents, by a name of your own. Since 0.1.
    pub agents: BTreeMap<String, Agent>,
    /// What the agents of a role may do, by the name of the role. Since 0.1.
    pub roles: BTreeMap<String, Role>,
    /// How far agents may give parts of a task to others, by the tools `delegate` and `submit_task`. Since 0.1.
    pub delegation: Delegation,
    /// Whether calls of tools run, ask a person, or are refused. The first that fits decides. Since 0.1.
    pub gates: Vec<Gate>,
    /// The tools that reach beyond the files of a run: each is there when its section is. Since 0.1.
    pub tools: Tools,
    /// Commands of your own that are tools, by the name that a model calls each by. Since 0.1.
    pub commands: BTreeMap<String, CommandGrant>,
    /// MCP servers, by a name of your own: it begins the names of their tools, as in `NAME__tool`. Since 0.1.
    pub mcp: BTreeMap<String, McpGrant>,
    /// Who is told of what the gates ask, and where they answer. Since 0.1.
    pub approvals: Approvals,
    /// What is looked at, and who is told when something is wrong. Since 0.1.
    pub alerts: Alerts,
    /// How often and after what wait a failed attempt is followed by another. Since 0.1.
    pub retry: Retry,
    /// When a provider that fails is left alone for a while. Since 0.1.
    pub breaker: Breaker,
    /// How long a call may take. Since 0.1.
    pub timeouts: Timeouts,
    /// How long a call waits for its turn under the limits of its provider. Since 0.1.
    pub limits: Limits,
    /// What is taken out of everything that is sent, logged or kept. Since 0.1.
    pub redact: Redact,
    /// The keys of the gateway. Since 0.1.
    pub keys: Keys,
    /// The gateway: `backstop serve`. Since 0.1.
    pub serve: Serve,
    /// Those who work on what is in the queue. Since 0.1.
    pub workers: Workers,
    /// What is done again and again, at the times of a schedule, by a name of your own. Since 0.1.
    pub jobs: BTreeMap<String, Job>,
    /// Where everything that happens is kept. Since 0.1.
    pub journal: Journal,
    /// How long is kept what runs said. Since 0.1.
    pub retention: Retention,
    /// How long is kept what is counted of it. Since 0.1.
    pub numbers: Numbers,
    /// The collector of OpenTelemetry that spans and metrics are sent to. Since 0.1.
    pub otlp: Otlp,
    /// The log lines. Since 0.1.
    pub logs: Logs,
}

/// The tools that reach beyond the files of a run. A tool that nothing is granted to is not there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Tools {
    /// Commands in the sandbox: `run_command` and `read_command`. Since 0.1.
    pub shell: Option<ShellGrant>,
    /// The repository of the workspace: `git_status`, `git_diff`, `git_log`, `git_commit`, `git_push`. Since 0.1.
    pub git: Option<GitGrant>,
    /// Requests: `http_get`, `http_request`, `http_request_keyed`. Since 0.1.
    pub http: Option<HttpGrant>,
    /// Mail: `send_email`. Since 0.1.
    pub email: Option<MailGrant>,
    /// SQLite databases of the workspace: `sqlite_query`, `sqlite_execute`. Since 0.1.
    pub sqlite: Option<SqliteGrant>,
}

/// Where models are called.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Provider {
    /// The wire format it speaks. Known for a provider that Backstop knows by name. Since 0.1.
    #[schemars(with = "Option<DialectWord>")]
    pub dialect: Option<Dialect>,
    /// Its address, without the path of the endpoint. Known for a provider that Backstop knows by name. Since 0.1.
    pub base_url: Option<String>,
    /// Where its key is: "env:NAME" or "file:PATH". Left out for a provider that wants none. Since 0.1.
    pub key: Option<SecretRef>,
    /// Whether it runs on a machine of yours: only then it may see what is private. Since 0.1.
    pub local: Option<bool>,
    /// Headers that are sent with every request; a value may be "env:NAME" or "file:PATH". Since 0.1.
    pub headers: BTreeMap<String, String>,
    /// What may be sent to it. Since 0.1.
    pub limits: ProviderLimits,
    /// Whether it keeps message threads, a beta of Messages; known for Anthropic. Since 0.1.
    pub threads: Option<bool>,
}

/// The schema's word for a dialect, beside the type that the vocabulary has.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
#[expect(dead_code, reason = "only its schema is used")]
enum DialectWord {
    /// Anthropic Messages.
    Messages,
    /// OpenAI Chat Completions.
    Chat,
    /// OpenAI Responses.
    Responses,
}

/// What may be sent to a provider.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ProviderLimits {
    /// Requests per minute. Since 0.1.
    #[schemars(range(min = 1))]
    pub requests_per_minute: Option<u64>,
    /// Tokens per minute, input and output together. Since 0.1.
    #[schemars(range(min = 1))]
    pub tokens_per_minute: Option<u64>,
    /// Requests at the same time. Since 0.1.
    #[schemars(range(min = 1, max = 10_000))]
    pub concurrent: Option<u32>,
}

/// A model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Model {
    /// The provider it is called at. Since 0.1.
    pub provider: String,
    /// The provider's id of it. Since 0.1.
    pub id: String,
    /// What it costs, when the price list does not know it or you pay another price. Since 0.1.
    #[serde(default)]
    pub price: Option<Price>,
    /// Tokens that fit in its context window. Since 0.1.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub context_window: Option<u64>,
    /// The most tokens it can write in one answer. Since 0.1.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_output: Option<u64>,
    /// Whether it runs on a machine of yours, when that differs from its provider. Since 0.1.
    #[serde(default)]
    pub local: Option<bool>,
}

/// What a model costs, in dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Price {
    /// Input that was not cached, per million tokens. Since 0.1.
    pub input: Dollars,
    /// Output, reasoning included, per million tokens. Since 0.1.
    pub output: Dollars,
    /// Input read from the provider's cache, per million tokens; as `input` when left out. Since 0.1.
    #[serde(default)]
    pub cache_read: Option<Dollars>,
    /// Input written to the provider's cache, per million tokens; as `input` when left out. Since 0.1.
    #[serde(default)]
    pub cache_write: Option<Dollars>,
    /// Each request, whatever its size. Since 0.1.
    #[serde(default)]
    pub request: Option<Dollars>,
}

/// Models that stand in for one another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Chain {
    /// Names from `models`, the first choice first: the primary, its fallback, a local one. Since 0.1.
    pub models: Vec<String>,
}

/// What may be spent. A call is made only if its worst case fits in every budget it belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Budgets {
    /// Dollars per day (UTC), everything together. Since 0.1.
    pub day: Option<Dollars>,
    /// Dollars one run may cost, unless its agent or the command line says otherwise. Since 0.1.
    pub run: Option<Dollars>,
    /// Dollars per day by role. Since 0.1.
    pub roles: BTreeMap<String, Dollars>,
    /// Dollars per day by provider. Since 0.1.
    pub providers: BTreeMap<String, Dollars>,
}

/// An agent: instructions, a model, tools and limits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Agent {
    /// What it is for, in a line: agents that may give it parts of a task are told. Since 0.1.
    pub description: Option<String>,
    /// The file with its instructions, beside the config file. Since 0.1.
    pub prompt: Option<PathBuf>,
    /// The model or chain it asks; the config's `model` when left out. Since 0.1.
    pub model: Option<String>,
    /// The tools it may call, also those of `tools`, `commands` and `mcp`, `delegate` and `submit_task`; all file tools when left out. Since 0.1.
    pub tools: Option<Vec<String>>,
    /// The role it acts in: budgets hang on it. Its own name when left out. Since 0.1.
    pub role: Option<String>,
    /// The directory it works in when a task names none, beside the config file. Since 0.1.
    pub workspace: Option<PathBuf>,
    /// The most tokens one answer may have. Since 0.1.
    #[schemars(range(min = 1))]
    pub max_tokens: Option<u64>,
    /// The file with the JSON Schema of the result it must give, beside the config file. Since 0.1.
    pub result_schema: Option<PathBuf>,
    /// What one run of it may use. Since 0.1.
    pub limits: AgentLimits,
    /// What becomes of what a run did when it fails: "keep", or "rollback" to take it back as far as it can be. Since 0.1.
    pub on_failure: OnFailureWord,
    /// How often a task from the queue is tried in all, when a run of it fails. Each try is a run that begins anew, and knows
    /// nothing of what the one before has done. 1 when left out. Since 0.1.
    #[schemars(range(min = 1, max = 100))]
    pub tries: Option<u32>,
    /// The wait after the first try that failed; doubles with each, up to an hour. 30s when left out. Since 0.1.
    pub backoff: Option<Span>,
}

/// What becomes of what a run did when it fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailureWord {
    /// It stays.
    #[default]
    Keep,
    /// It is taken back, newest first.
    Rollback,
}

/// What one run of an agent may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AgentLimits {
    /// Working time; 3m when left out. Since 0.1.
    pub time: Option<Span>,
    /// Model calls; 50 when left out. Since 0.1.
    #[schemars(range(min = 1, max = 10_000))]
    pub turns: Option<u32>,
    /// Tokens, input and output together; 1000000 when left out. Since 0.1.
    #[schemars(range(min = 1))]
    pub tokens: Option<u64>,
    /// Dollars; the config's `budgets.run` when left out. Since 0.1.
    pub cost: Option<Dollars>,
}
