//! What rules look at: facts of everything together, of each model, tool, budget, run, as they are at one moment. Gathered
//! from what is counted and from what is so at present; no event is read for it, but for the runs that are listed.

use super::rule::{Each, Rule};
use crate::jobs::{Books, Lately, lately};
use crate::numbers::Numbers;
use backstop_call::{Code, Money, Timestamp};
use backstop_journal::event::JobSkip;
use backstop_journal::projections::history::RunSummary;
use backstop_journal::projections::jobs::{JobRecord, Jobs};
use backstop_journal::projections::metrics::QueueState;
use backstop_journal::projections::numbers::{By, Cell, Family, Figures, Grain, Spread};
use backstop_journal::{Journal, JournalError, Queue, RunFilter, RunStatus};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The names that a condition may use.
pub const NAMES: &[&str] = &[
    "name",
    "runs",
    "calls",
    "attempts",
    "tokens",
    "tools",
    "cost",
    "approvals",
    "keys",
    "baseline",
    "health",
    "queue",
    "budget",
    "breaker",
    "tool",
    "run",
    "job",
];

/// Whole days before today that make up what is usual.
const BASELINE_DAYS: u64 = 14;
/// Runs that are looked at, of each state.
const RUNS_MAX: usize = 200;

/// What is known of one thing, under each of the [`NAMES`].
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    /// Which: a model, a budget; empty for everything together.
    pub name: String,
    facts: Map<String, Value>,
}

/// What is so at present, and is in no journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outside {
    /// How the gateway is: `healthy`, `degraded` or `unhealthy`.
    pub health: String,
    /// The queue, where there is one.
    pub queue: Option<QueueState>,
}

impl Subject {
    fn of(name: String, mut facts: Map<String, Value>) -> Self {
        facts.insert("name".to_owned(), Value::from(name.as_str()));
        Self { name, facts }
    }

    /// Each name with its value.
    pub fn facts(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.facts.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// A text with what stands in braces filled in: `{tools.failed}`. What there is not stays as it is.
    pub fn fill(&self, text: &str) -> String {
        let mut parts = text.split('{');
        let mut filled = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let known = part.split_once('}').and_then(|(path, rest)| Some((self.shown(path)?, rest)));
            if let Some((value, rest)) = known {
                filled.push_str(&value);
                filled.push_str(rest);
            } else {
                filled.push('{');
                filled.push_str(part);
            }
        }
        filled
    }

    fn shown(&self, path: &str) -> Option<String> {
        let mut keys = path.split('.');
        let mut value = self.facts.get(keys.next()?)?;
        for key in keys {
            value = value.get(key)?;
        }
        match value {
            Value::String(text) => Some(backstop_agent::visible_line(text)),
            Value::Number(number) => number.as_f64().map(decimal),
            Value::Bool(flag) => Some(flag.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

/// With at most four decimals, and none that says nothing.
fn decimal(number: f64) -> String {
    let text = format!("{number:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Where what is looked at is read.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// What is counted.
    pub numbers: &'a Numbers,
    /// The journal.
    pub journal: &'a dyn Journal,
    /// The queue.
    pub queue: &'a dyn Queue,
    /// The jobs.
    pub jobs: &'a Jobs,
}

/// The subjects of every rule, by what it looks at and over how long.
pub struct Scene {
    subjects: BTreeMap<(Each, Duration), Vec<Subject>>,
}

impl Scene {
    /// Looks at everything that these rules want to know.
    pub async fn gather(
        rules: &[Rule],
        sources: Sources<'_>,
        outside: &Outside,
        now: Timestamp,
    ) -> Result<Self, JournalError> {
        let wanted: BTreeSet<(Each, Duration)> = rules.iter().map(|rule| (rule.each, rule.over)).collect();
        let whole = sources.numbers.whole().await?;
        let gathering = Gathering { sources, outside, whole: &whole, now };
        let mut subjects = BTreeMap::new();
        for (each, over) in wanted {
            subjects.insert((each, over), gathering.subjects(each, over).await?);
        }
        Ok(Self { subjects })
    }

    /// What a rule looks at.
    pub fn subjects(&self, rule: &Rule) -> &[Subject] {
        self.subjects.get(&(rule.each, rule.over)).map_or(&[], Vec::as_slice)
    }
}

struct Gathering<'a> {
    sources: Sources<'a>,
    outside: &'a Outside,
    whole: &'a [Cell],
    now: Timestamp,
}

impl Gathering<'_> {
    async fn subjects(&self, each: Each, over: Duration) -> Result<Vec<Subject>, JournalError> {
        let by = match each {
            Each::All => By::All,
            Each::Model => By::Model,
            Each::Provider => By::Provider,
            Each::Role => By::Role,
            Each::Agent => By::Agent,
            Each::Key => By::Key,
            Each::Tool => By::Tool,
            Each::RoleTool => return self.role_tools(over).await,
            Each::Budget => return self.budgets().await,
            Each::Breaker => return Ok(self.breakers()),
            Each::Run => return self.runs(over).await,
            Each::Job => return self.jobs(over).await,
        };
        let window = self.sources.numbers.window(self.now - over, self.now, by).await?;
        let (days, usual) = self.usual(by).await?;
        let none = Figures::default();
        let subject = |row: backstop_journal::projections::numbers::Row| {
            let usual = usual.get(&row.name).unwrap_or(&none);
            let mut facts = self.everything();
            facts.extend(figures(&row.figures));
            facts.insert("baseline".to_owned(), baseline(usual, days, over));
            Subject::of(row.name, facts)
        };
        Ok(window.rows.into_iter().map(subject).collect())
    }

    /// What was in the whole days before today, and in how many of them there was anything.
    async fn usual(&self, by: By) -> Result<(u64, BTreeMap<String, Figures>), JournalError> {
        let today = Grain::Day.start(self.now);
        let since = today - Duration::from_hours(24 * BASELINE_DAYS);
        let days = self.sources.numbers.window(since, today, By::Day).await?.rows.len() as u64;
        let rows = self.sources.numbers.window(since, today, by).await?.rows;
        Ok((days, rows.into_iter().map(|row| (row.name, row.figures)).collect()))
    }

    /// The facts that are the same whatever is looked at, and nothing of the others.
    fn everything(&self) -> Map<String, Value> {
        let waiting: i64 = self
            .whole
            .iter()
            .filter(|cell| {
                cell.series.family == Family::Standing && cell.series.labels == ["approval", "waiting"]
            })
            .map(|cell| cell.sums.count)
            .sum();
        let queue = self.outside.queue.clone().unwrap_or_default();
        // What is worked on, waits for a person, or is not due yet, does not wait for a worker.
        let depth = queue.tasks.get("due").copied().unwrap_or(0);
        let mut facts: Map<String, Value> = figures(&Figures::default()).into_iter().collect();
        facts.insert("baseline".into(), baseline(&Figures::default(), 0, Duration::ZERO));
        facts.insert("health".into(), json!(self.outside.health));
        facts.insert(
            "queue".into(),
            json!({"depth": float(depth), "age": queue.oldest.unwrap_or_default().as_secs_f64()}),
        );
        facts.insert("approvals".into(), json!({"waiting": float(u64::try_from(waiting).unwrap_or(0))}));
        facts.insert("budget".into(), json!({"percent": 0.0, "spent": 0.0, "limit": 0.0}));
        facts.insert("breaker".into(), json!({"state": "closed"}));
        facts.insert("tool".into(), json!({"name": "", "role": "", "is_new": false}));
        let run = json!({"agent": "", "status": "", "idle": 0.0, "looped": false, "code": "", "what": ""});
        facts.insert("run".into(), run);
        facts.insert("job".into(), json!({"failures": 0.0, "code": "", "since_done": 0.0, "missed": 0.0, "overlapped": 0.0, "paused": false}));
        facts
    }

    async fn budgets(&self) -> Result<Vec<Subject>, JournalError> {
        let present = self.sources.numbers.present(None, Vec::new()).await?;
        let subject = |budget: backstop_journal::BudgetUse| {
            let (spent, limit) = (dollars(budget.spent), dollars(budget.limit));
            let mut facts = self.everything();
            let percent = if limit > 0.0 { spent / limit * 100.0 } else { 0.0 };
            facts.insert("budget".into(), json!({"percent": percent, "spent": spent, "limit": limit}));
            Subject::of(budget.account, facts)
        };
        Ok(present.budgets.into_iter().map(subject).collect())
    }

    fn breakers(&self) -> Vec<Subject> {
        let breakers = self.whole.iter().filter(|cell| cell.series.family == Family::Breakers);
        let subject = |cell: &Cell| {
            let state = match cell.sums.level {
                None | Some(0) => "closed",
                Some(1) => "half-open",
                Some(_) => "open",
            };
            let mut facts = self.everything();
            facts.insert("breaker".into(), json!({"state": state}));
            Subject::of(cell.series.labels.join("/"), facts)
        };
        breakers.map(subject).collect()
    }

    /// A tool is new to a role when all its calls are in the window, and the role has called others before.
    async fn role_tools(&self, over: Duration) -> Result<Vec<Subject>, JournalError> {
        let lately = self.sources.numbers.cells(self.now - over, self.now, &[Family::Tools]).await?;
        let (ever, lately) = (by_role_and_tool(self.whole), by_role_and_tool(&lately));
        let of_role = |counts: &BTreeMap<(String, String), i64>, role: &str| -> i64 {
            counts.iter().filter(|((found, _), _)| found == role).map(|(_, count)| count).sum()
        };
        let mut subjects = Vec::new();
        for ((role, tool), count) in &lately {
            let is_known = of_role(&ever, role) > of_role(&lately, role);
            let is_new = is_known && ever.get(&(role.clone(), tool.clone())) == Some(count);
            let mut facts = self.everything();
            facts.insert("tool".into(), json!({"name": tool, "role": role, "is_new": is_new}));
            subjects.push(Subject::of(format!("{role}: {tool}"), facts));
        }
        Ok(subjects)
    }

    async fn runs(&self, over: Duration) -> Result<Vec<Subject>, JournalError> {
        let list = |status| RunFilter { status: vec![status], limit: Some(RUNS_MAX), ..RunFilter::default() };
        let mut runs = self.sources.journal.runs(list(RunStatus::Running)).await?;
        let stopped = self.sources.journal.runs(list(RunStatus::Stopped)).await?;
        runs.extend(stopped.into_iter().filter(|run| run.updated + over >= self.now));
        Ok(runs.iter().map(|run| self.run(run)).collect())
    }

    fn run(&self, run: &RunSummary) -> Subject {
        let idle = self.now.since(run.updated).as_secs();
        let looped = run.code == Some(Code::LoopGuard);
        let what = if looped {
            "it went in circles and was stopped".to_owned()
        } else {
            format!("nothing has happened for {} minutes", idle / 60)
        };
        let mut facts = self.everything();
        facts.insert(
            "run".into(),
            json!({
                "agent": run.agent, "status": run.status.as_str(), "idle": float(idle), "looped": looped,
                "code": run.code.map(|code| code.to_string()).unwrap_or_default(), "what": what,
            }),
        );
        Subject::of(run.run.to_string(), facts)
    }

    /// The jobs that the config has.
    async fn jobs(&self, over: Duration) -> Result<Vec<Subject>, JournalError> {
        let mut subjects = Vec::new();
        let Sources { journal, queue, jobs, .. } = self.sources;
        for (name, record) in jobs.iter().filter(|(_, record)| record.defined.is_some()) {
            let lately = lately(record, Books { jobs, journal, queue }).await?;
            let mut facts = self.everything();
            facts.insert("job".into(), self.job(record, lately, over));
            subjects.push(Subject::of(name.to_string(), facts));
        }
        Ok(subjects)
    }

    fn job(&self, record: &JobRecord, lately: Lately, over: Duration) -> Value {
        let left_out = |why: JobSkip| -> u64 {
            let skips = record.skipped.iter().map(|(_, skip)| skip);
            skips.filter(|skip| skip.why == why && skip.last + over >= self.now).map(|skip| skip.times).sum()
        };
        json!({
            "failures": float(u64::from(lately.failures_in_a_row)),
            "code": lately.code.map(|code| code.to_string()).unwrap_or_default(),
            "since_done": lately.done.map_or(0.0, |done| self.now.since(done).as_secs_f64()),
            "missed": float(left_out(JobSkip::Missed)),
            "overlapped": float(left_out(JobSkip::Overlap)),
            "paused": record.paused.is_some(),
        })
    }
}

fn by_role_and_tool(cells: &[Cell]) -> BTreeMap<(String, String), i64> {
    let mut counts = BTreeMap::new();
    for cell in cells.iter().filter(|cell| cell.series.family == Family::Tools) {
        let label = |name| cell.series.label(name).unwrap_or_default().to_owned();
        *counts.entry((label("role"), label("tool"))).or_default() += cell.sums.count;
    }
    counts
}

/// All as numbers with a point, so that they can be multiplied with one another.
fn figures(figures: &Figures) -> [(String, Value); 7] {
    let of = |counts: &BTreeMap<String, u64>, name: &str| float(counts.get(name).copied().unwrap_or(0));
    let ended: u64 = figures.runs_ended.values().sum();
    let success = figures.success_permille().map_or(1.0, |permille| float(permille) / 1_000.0);
    let failed = figures.calls_failed.values().sum();
    let runs = json!({
        "created": float(figures.runs_created), "ended": float(ended), "success": success,
        "done": of(&figures.runs_ended, "done"), "failed": of(&figures.runs_ended, "failed"),
        "stopped": of(&figures.runs_ended, "stopped"), "cancelled": of(&figures.runs_ended, "cancelled"),
        "p50": seconds(&figures.run_took, 50), "p95": seconds(&figures.run_took, 95),
    });
    let calls = json!({
        "ok": float(figures.calls_ok), "failed": float(failed), "retries": float(figures.retries),
        "p50": seconds(&figures.call_took, 50), "p95": seconds(&figures.call_took, 95),
        "first_token_p95": seconds(&figures.first_token, 95),
    });
    let kinds =
        figures.attempts_failed.iter().map(|(kind, count)| (kind.replace('-', "_"), json!(float(*count))));
    let mut attempts: Map<String, Value> = kinds.collect();
    let known = ["auth", "throttled", "overloaded", "quota", "transient"];
    for kind in known {
        attempts.entry(kind).or_insert_with(|| json!(0.0));
    }
    attempts.insert("ok".to_owned(), json!(float(figures.attempts_ok)));
    let tokens = json!({
        "total": float(figures.tokens.total()), "input": float(figures.tokens.input),
        "output": float(figures.tokens.output),
    });
    let tools = json!({
        "ok": float(figures.tools_ok), "failed": float(figures.tools_failed),
        "in_doubt": float(figures.tools_in_doubt),
    });
    [
        ("runs".to_owned(), runs),
        ("calls".to_owned(), calls),
        ("attempts".to_owned(), Value::Object(attempts)),
        ("tokens".to_owned(), tokens),
        ("tools".to_owned(), tools),
        ("cost".to_owned(), json!(dollars(figures.cost))),
        ("keys".to_owned(), json!({"new_addresses": float(figures.new_addresses)})),
    ]
}

/// What a stretch of that length has as a rule.
fn baseline(usual: &Figures, days: u64, over: Duration) -> Value {
    let share = if days == 0 { 0.0 } else { over.as_secs_f64() / (float(days) * 86_400.0) };
    json!({
        "days": float(days),
        "cost": dollars(usual.cost) * share,
        "tokens": float(usual.tokens.total()) * share,
        "calls": float(usual.calls()) * share,
        "p95": seconds(&usual.call_took, 95),
    })
}

fn seconds(spread: &Spread, percent: u32) -> f64 {
    spread.percentile(percent).map_or(0.0, |time| time.as_secs_f64())
}

/// For comparing only.
#[expect(clippy::cast_precision_loss, reason = "exact up to nine thousand million millions")]
fn float(number: u64) -> f64 {
    number as f64
}

/// For comparing only: no amount is ever made of it.
#[expect(clippy::cast_precision_loss, reason = "exact to a nano-dollar up to nine million dollars")]
fn dollars(amount: Money) -> f64 {
    amount.nanos() as f64 / 1e9
}
