//! The sections of `backstop.toml` that have a default for every key: how the stack, the journal and the logs behave.
//! The numbers are argued for in the documentation of the layers; here they only get names and units.

use super::value::{SecretRef, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

const fn millis(ms: u64) -> Span {
    Span(Duration::from_millis(ms))
}

const fn secs(secs: u64) -> Span {
    Span(Duration::from_secs(secs))
}

const fn days(days: u64) -> Span {
    secs(days * 86_400)
}

/// How often and after what wait a failed attempt is followed by another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Retry {
    /// Attempts of a call in all, over every model of its chain. Since 0.1.
    #[schemars(range(min = 1, max = 20))]
    pub attempts: u32,
    /// Longest first wait after a request that did not leave this machine. Since 0.1.
    pub base_not_sent: Span,
    /// Longest first wait after a failure of the provider or the way to it. Since 0.1.
    pub base_transient: Span,
    /// Longest first wait after a provider that is overloaded. Since 0.1.
    pub base_overloaded: Span,
    /// Longest first wait after a rate limit. Since 0.1.
    pub base_throttled: Span,
    /// What a wait doubles up to; each wait is drawn evenly from zero to it. Since 0.1.
    pub cap: Span,
    /// The longest wait a provider may ask for while a person waits; a longer one means the next model. Since 0.1.
    pub server_wait_interactive: Span,
    /// The longest wait a provider may ask for as a rule. Since 0.1.
    pub server_wait_standard: Span,
    /// The longest wait a provider may ask for while nobody waits. Since 0.1.
    pub server_wait_batch: Span,
    /// How long a key that the provider refuses is left alone. Since 0.1.
    pub quarantine: Span,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 3,
            base_not_sent: millis(50),
            base_transient: millis(500),
            base_overloaded: secs(1),
            base_throttled: secs(1),
            cap: secs(20),
            server_wait_interactive: secs(10),
            server_wait_standard: secs(30),
            server_wait_batch: secs(120),
            quarantine: secs(300),
        }
    }
}

/// When a provider that fails is left alone for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Breaker {
    /// Calls in the last minute before a share of failures opens it. Since 0.1.
    #[schemars(range(min = 1, max = 100_000))]
    pub calls_min: u32,
    /// The share of failures that opens it, in percent. Since 0.1.
    #[schemars(range(min = 1, max = 100))]
    pub failure_percent: u32,
    /// Failures in a row that open it, however few the calls. Since 0.1.
    #[schemars(range(min = 1, max = 1_000))]
    pub failures_in_a_row: u32,
    /// A first token that took longer than this is slow. Since 0.1.
    pub slow_first_token: Span,
    /// The share of slow first tokens that opens it, in percent. Since 0.1.
    #[schemars(range(min = 1, max = 100))]
    pub slow_percent: u32,
    /// How long it stays open the first time; each time after that twice as long. Since 0.1.
    pub open: Span,
    /// How long it stays open at most. Since 0.1.
    pub open_max: Span,
    /// Probes in a row that must succeed before it closes. Since 0.1.
    #[schemars(range(min = 1, max = 100))]
    pub probes: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            calls_min: 10,
            failure_percent: 50,
            failures_in_a_row: 5,
            slow_first_token: secs(30),
            slow_percent: 80,
            open: secs(10),
            open_max: secs(300),
            probes: 3,
        }
    }
}

/// How far agents may give parts of a task to others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Delegation {
    /// How many levels of runs there may be below the one that a person started. Since 0.1.
    #[schemars(range(min = 0, max = 16))]
    pub depth: u32,
    /// How many parts one run may give out. Since 0.1.
    #[schemars(range(min = 1, max = 1_000))]
    pub children: u32,
}

impl Default for Delegation {
    fn default() -> Self {
        Self { depth: 3, children: 8 }
    }
}

/// How long a call may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Timeouts {
    /// To reach the provider. Since 0.1.
    pub connect: Span,
    /// From the request to the first byte of the answer. Since 0.1.
    pub first_byte: Span,
    /// Between two pieces of an answer. Since 0.1.
    pub idle: Span,
    /// One attempt as a whole. Since 0.1.
    pub attempt: Span,
    /// A call with all its attempts and waits. Since 0.1.
    pub call: Span,
    /// One tool call: longer than what the tools may take by their own limits, which say more when they are reached.
    /// Since 0.1.
    pub tool: Span,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: secs(5),
            first_byte: secs(60),
            idle: secs(60),
            attempt: secs(600),
            call: secs(600),
            tool: secs(150),
        }
    }
}

/// How long a call waits for its turn under the limits of its provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Limits {
    /// While a person waits. Since 0.1.
    pub wait_interactive: Span,
    /// Usually. Since 0.1.
    pub wait_standard: Span,
    /// While nobody waits. Since 0.1.
    pub wait_batch: Span,
}

impl Default for Limits {
    fn default() -> Self {
        Self { wait_interactive: secs(2), wait_standard: secs(10), wait_batch: secs(300) }
    }
}

/// What is taken out of everything that is sent, logged or kept. Every secret the config refers to always is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Redact {
    /// Whether texts that look like a well-known kind of credential are taken out as well. Since 0.1.
    pub well_known: bool,
}

impl Default for Redact {
    fn default() -> Self {
        Self { well_known: true }
    }
}

/// The keys of the gateway. What each may do is said when it is made: `backstop keys create --help`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Keys {
    /// The environment of this installation, a word like "prod": a key that was made for another one is refused.
    /// Since 0.1.
    pub environment: Option<String>,
    /// The age of a secret from which on there is a warning. Since 0.1.
    pub warn_age: Span,
    /// How long before a key expires there is a warning. Since 0.1.
    pub warn_expiry: Span,
}

impl Default for Keys {
    fn default() -> Self {
        Self { environment: None, warn_age: days(90), warn_expiry: days(14) }
    }
}

/// The gateway: where it listens, and how much it takes at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Serve {
    /// The address it listens on. Other machines reach it only on another address than 127.0.0.1, which needs keys. Since 0.1.
    pub listen: SocketAddr,
    /// What a client may ask for besides the names of models and chains: a name, or a pattern with `*`, and the model or
    /// chain that it stands for. Since 0.1.
    pub models: BTreeMap<String, String>,
    /// Whether models that no config names may be asked for, as `provider/id` or by an id in a provider's price list. Since 0.1.
    pub unnamed_models: bool,
    /// The largest request, in MiB. Since 0.1.
    #[schemars(range(min = 1, max = 1_024))]
    pub body: u32,
    /// All requests above 64 KiB together, in MiB. Since 0.1.
    #[schemars(range(min = 1, max = 65_536))]
    pub bodies: u32,
    /// Calls at once; who comes beyond is told to come again. Since 0.1.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub calls: u32,
    /// Connections at once; who comes beyond waits. Since 0.1.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections: u32,
    /// How long a client may take for the head of a request, between two pieces of its body, and to take a piece of its
    /// answer. Since 0.1.
    pub idle: Span,
    /// How long calls under way may take when the gateway is asked to end. Since 0.1.
    pub drain: Span,
}

impl Default for Serve {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4141)),
            models: BTreeMap::new(),
            unnamed_models: true,
            body: 32,
            bodies: 256,
            calls: 2_048,
            connections: 16_384,
            idle: secs(30),
            drain: secs(30),
        }
    }
}

/// Those who work on what is in the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Workers {
    /// Runs that `backstop serve`, or a `backstop worker`, works on at a time; 0 leaves the queue to others. Since 0.1.
    #[schemars(range(max = 1_000))]
    pub slots: u32,
    /// How long runs may take to come to the end of their step when the process is asked to end. Since 0.1.
    pub drain: Span,
}

impl Default for Workers {
    fn default() -> Self {
        Self { slots: 4, drain: secs(30) }
    }
}

/// Where everything that happens is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Journal {
    /// The database file, beside the config file; `.backstop/backstop.db` when left out. Since 0.1.
    pub path: Option<PathBuf>,
}

/// The shortest time that what a run said can be kept for.
pub(super) const BODIES_MIN: Duration = Duration::from_hours(1);

/// How long is kept what runs said. Who did what, when and for how much is kept for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Retention {
    /// How long prompts, answers, arguments and results of a run are kept after its end, at least "1h"; for good when left out.
    /// What was erased can no longer be undone. Since 0.1.
    pub bodies: Option<Span>,
}

/// How long is kept what is counted of everything that happens. Days are kept for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Numbers {
    /// How long by the minute. Since 0.1.
    pub minutes: Span,
    /// How long by the hour. Since 0.1.
    pub hours: Span,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { minutes: days(3), hours: days(90) }
    }
}

/// The collector of OpenTelemetry that spans and metrics are sent to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Otlp {
    /// Where it listens for OTLP over HTTP, as `http://127.0.0.1:4318`; nothing is sent when left out. Since 0.1.
    pub endpoint: Option<String>,
    /// Headers that it wants, each with where its value is kept. Since 0.1.
    pub headers: BTreeMap<String, SecretRef>,
    /// What this installation is called there: `service.name`. Since 0.1.
    pub service: String,
}

impl Default for Otlp {
    fn default() -> Self {
        Self { endpoint: None, headers: BTreeMap::new(), service: "backstop".to_owned() }
    }
}

/// The log lines: JSON, one per event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Logs {
    /// Where they go. Since 0.1.
    pub to: LogTarget,
    /// The directory of the daily files, beside the config file; `.backstop/logs` when left out. Since 0.1.
    pub dir: Option<PathBuf>,
    /// Days that a daily file is kept. Since 0.1.
    #[schemars(range(min = 1, max = 36_500))]
    pub retention_days: u32,
    /// The least urgent lines that are written; `BACKSTOP_LOG` in the environment goes before it. Since 0.1.
    pub level: LogLevel,
}

impl Default for Logs {
    fn default() -> Self {
        Self { to: LogTarget::File, dir: None, retention_days: 30, level: LogLevel::Info }
    }
}

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogTarget {
    /// To a file per day, `YYYY-MM-DD.log`.
    File,
    /// To standard output, for a container whose output is collected.
    Stdout,
    /// Nowhere. The journal keeps everything all the same, and `backstop logs` shows it.
    Off,
}

/// How urgent a log line is, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Somebody must act.
    Error,
    /// Something failed and was dealt with.
    Warn,
    /// What was done.
    Info,
    /// Everything else.
    Debug,
}
