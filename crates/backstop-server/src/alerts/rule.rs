//! Rules: what is looked at, when it is wrong, how bad that is, and in what words it is told. The ones that are built in are
//! a table here; a config changes any of them, or adds its own.

use super::scene::{NAMES, Subject};
use backstop_journal::event::Severity;
use backstop_label::{BadCondition, Expression, Undecided};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a rule looks at, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Each {
    /// Everything together.
    All,
    /// The models that were asked for.
    Model,
    /// The providers that were called.
    Provider,
    /// The roles.
    Role,
    /// The agents.
    Agent,
    /// The keys of the gateway.
    Key,
    /// The tools.
    Tool,
    /// The tools of each role.
    RoleTool,
    /// The budgets.
    Budget,
    /// The breakers.
    Breaker,
    /// The runs that are not over, or that stopped lately.
    Run,
    /// The jobs.
    Job,
}

impl Each {
    /// The name of the label that says which.
    pub fn label(self) -> Option<&'static str> {
        match self {
            Self::All => None,
            Self::Model => Some("model"),
            Self::Provider => Some("provider"),
            Self::Role => Some("role"),
            Self::Agent => Some("agent"),
            Self::Key => Some("key"),
            Self::Tool => Some("tool"),
            Self::RoleTool => Some("role-tool"),
            Self::Budget => Some("budget"),
            Self::Breaker => Some("breaker"),
            Self::Run => Some("run"),
            Self::Job => Some("job"),
        }
    }
}

/// A rule, ready to be looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// What it looks at.
    pub each: Each,
    /// The last stretch of time that figures are of.
    pub over: Duration,
    /// When something is wrong.
    pub when: Expression,
    /// How bad that is.
    pub severity: Severity,
    /// In what words it is told; `{name}` and other facts in braces are filled in.
    pub summary: String,
}

/// Something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule that says so.
    pub rule: String,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub labels: BTreeMap<String, String>,
    /// In words.
    pub summary: String,
}

impl Finding {
    /// What the alert is called: the same for the same rule and labels.
    pub fn alert(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut add = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        add(&self.rule);
        for (name, value) in &self.labels {
            add(name);
            add(value);
        }
        hasher.finalize().to_hex()[..16].to_owned()
    }
}

impl Rule {
    /// A rule from its texts.
    pub fn new(
        (name, each, over): (&str, Each, Duration),
        when: &str,
        severity: Severity,
        summary: &str,
    ) -> Result<Self, BadCondition> {
        let when = Expression::parse(when, NAMES)?;
        Ok(Self { name: name.to_owned(), each, over, when, severity, summary: summary.to_owned() })
    }

    /// What it finds in what it looks at. The first subject that cannot be worked out leaves all as it was.
    pub fn look(&self, subjects: &[Subject]) -> Result<Vec<Finding>, Undecided> {
        let mut findings = Vec::new();
        for subject in subjects {
            if self.when.holds(subject.facts())? {
                let label = self.each.label().map(|label| (label.to_owned(), subject.name.clone()));
                findings.push(Finding {
                    rule: self.name.clone(),
                    severity: self.severity,
                    labels: label.into_iter().collect(),
                    summary: subject.fill(&self.summary),
                });
            }
        }
        Ok(findings)
    }
}

/// A rule that is built in: name, what it looks at, over how long, when, how bad, in what words.
type BuiltIn = (&'static str, Each, Duration, &'static str, Severity, &'static str);

const fn mins(mins: u64) -> Duration {
    Duration::from_secs(mins * 60)
}

const DAY: Duration = mins(24 * 60);

/// The rules that are there without a config. Numbers of a condition are written with a point where something is done to them.
pub const BUILT_IN: &[BuiltIn] = &[
    (
        "success-rate",
        Each::All,
        mins(15),
        "runs.ended > 0.0 && runs.success < 0.9",
        Severity::Critical,
        "of {runs.ended} runs that ended in the last 15 minutes, {runs.done} are done",
    ),
    (
        "cost",
        Each::All,
        DAY,
        "baseline.days > 0.0 && cost > 3.0 * baseline.cost",
        Severity::Critical,
        "${cost} were spent in the last day; the days before had ${baseline.cost} each",
    ),
    ("health", Each::All, mins(1), "health == 'unhealthy'", Severity::Critical, "the gateway is {health}"),
    ("queue", Each::All, mins(1), "queue.depth > 50.0", Severity::Warning, "{queue.depth} tasks wait"),
    (
        "slow-runs",
        Each::All,
        mins(60),
        "runs.p95 > 300.0",
        Severity::Warning,
        "of the runs that ended in the last hour, 5 % took longer than {runs.p95} s",
    ),
    (
        "auth",
        Each::Provider,
        mins(5),
        "attempts.auth > 0.0",
        Severity::Warning,
        "{name} refused its key {attempts.auth} times in 5 minutes (401 or 403)",
    ),
    (
        "tool-failing",
        Each::Tool,
        mins(15),
        "tools.failed >= 3.0 && tools.failed > tools.ok",
        Severity::Warning,
        "{name} failed {tools.failed} times in 15 minutes, and {tools.ok} times it did not",
    ),
    (
        "token-spike",
        Each::Role,
        mins(15),
        "baseline.days > 0.0 && tokens.total > 10000.0 && tokens.total > 5.0 * baseline.tokens",
        Severity::Warning,
        "{name} used {tokens.total} tokens in 15 minutes; as a rule it is {baseline.tokens}",
    ),
    (
        "latency",
        Each::Model,
        mins(15),
        "baseline.days > 0.0 && calls.ok >= 20.0 && calls.p95 > 2.0 * baseline.p95",
        Severity::Warning,
        "5 % of the calls to {name} took longer than {calls.p95} s; as a rule it is {baseline.p95} s",
    ),
    (
        "new-tool",
        Each::RoleTool,
        mins(60),
        "tool.is_new",
        Severity::Warning,
        "{tool.role} called {tool.name}, which it never did before",
    ),
    (
        "budget-80",
        Each::Budget,
        mins(1),
        "budget.percent >= 80.0",
        Severity::Warning,
        "{name} is at {budget.percent} % of ${budget.limit}",
    ),
    (
        "budget-100",
        Each::Budget,
        mins(1),
        "budget.percent >= 100.0",
        Severity::Critical,
        "{name} is used up: ${budget.spent} of ${budget.limit}",
    ),
    (
        "breaker",
        Each::Breaker,
        mins(1),
        "breaker.state == 'open'",
        Severity::Warning,
        "{name} fails, and is left alone for a while",
    ),
    (
        "approval-waiting",
        Each::All,
        mins(1),
        "approvals.waiting > 0.0",
        Severity::Warning,
        "{approvals.waiting} questions wait for an answer",
    ),
    (
        "new-address",
        Each::Key,
        mins(60),
        "keys.new_addresses > 0.0",
        Severity::Warning,
        "the key {name} was used from {keys.new_addresses} addresses for the first time",
    ),
    (
        "stuck-run",
        Each::Run,
        mins(60),
        "(run.status == 'running' && run.idle > 900.0) || run.looped",
        Severity::Warning,
        "{run.agent}, run {name}: {run.what}",
    ),
    (
        "job-failing",
        Each::Job,
        mins(1),
        "job.failures >= 2.0",
        Severity::Warning,
        "{name} failed {job.failures} times in a row",
    ),
    ("watchdog", Each::All, mins(1), "true", Severity::Info, "alerts are looked after"),
];

/// The rule whose alert fires as long as rules are looked at: the dead man's switch.
pub const WATCHDOG: &str = "watchdog";

/// The rules that are built in.
///
/// # Panics
/// Never: each is tested.
pub fn built_in() -> Vec<Rule> {
    let rule = |(name, each, over, when, severity, summary): &BuiltIn| {
        Rule::new((name, *each, *over), when, *severity, summary).expect("what is built in is right")
    };
    BUILT_IN.iter().map(rule).collect()
}
