//! The numbers as a scraper reads them: OpenMetrics 1.0, which Prometheus takes. Names, labels and units are an interface:
//! dashboards and alert rules hang on them.
//!
//! Everything is whole numbers: nanoseconds and nano-dollars, written out as exact decimals.

mod text;

use super::numbers::{Cell, Family, Sums, folded};
use crate::{Backlog, BudgetUse, RunStatus};
use backstop_call::{JobName, Timestamp};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use text::{Metric, Text};

/// How long the queue is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueState {
    /// Tasks that are not over, by state.
    pub tasks: BTreeMap<String, u64>,
    /// How long the task waits that waits longest.
    pub oldest: Option<Duration>,
}

impl QueueState {
    /// How long it is by what the queue says.
    pub fn of(backlog: &Backlog) -> Self {
        let tasks = [
            ("due", backlog.due),
            ("later", backlog.later),
            ("working", backlog.working),
            ("parked", backlog.parked),
        ];
        let tasks = tasks.map(|(state, count)| (state.to_owned(), count)).into();
        Self { tasks, oldest: (backlog.due > 0).then_some(backlog.oldest) }
    }
}

/// What is told of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSummary {
    /// The job.
    pub job: JobName,
    /// Its next time; `None` while its schedule does not count.
    pub next: Option<Timestamp>,
    /// When its last task that is done was.
    pub done: Option<Timestamp>,
    /// How many of its last tasks failed one after the other.
    pub failures: u32,
}

/// What is so at present, and is no sum of events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Present {
    /// What budgets hold.
    pub budgets: Vec<BudgetUse>,
    /// The queue, where there is one.
    pub queue: Option<QueueState>,
    /// The jobs.
    pub jobs: Vec<JobSummary>,
}

/// The text for a scraper, ending in `# EOF`, of all that was counted over the whole. Its type is
/// `application/openmetrics-text; version=1.0.0; charset=utf-8`.
pub fn openmetrics(whole: &[Cell], present: &Present) -> String {
    let mut text = Text::default();
    write(whole, present, &mut text).expect("writing to a string cannot fail");
    text.end()
}

fn write(whole: &[Cell], present: &Present, out: &mut Text) -> fmt::Result {
    let page = Page { whole };
    page.calls(out)?;
    page.who(out)?;
    page.tools_and_approvals(out)?;
    page.runs(out)?;
    page.guards(out)?;
    write_present(present, out)?;
    write_jobs(&present.jobs, out)?;
    page.counter(
        out,
        Metric::counter("backstop_events", "Events in the journal."),
        (Family::Events, &["kind"]),
        count,
    )
}

struct Page<'a> {
    whole: &'a [Cell],
}

/// What a metric is folded from: a family, and those of its labels that are told.
type From = (Family, &'static [&'static str]);

impl Page<'_> {
    fn calls(&self, out: &mut Text) -> fmt::Result {
        let metric = Metric::counter("backstop_calls", "Model calls that ended, by outcome.");
        self.counter(out, metric, (Family::Calls, &["model", "role", "outcome"]), count)?;
        let metric = Metric::counter("backstop_attempts", "Attempts of calls at a provider, by outcome.");
        self.counter(out, metric, (Family::Attempts, &["provider", "model", "outcome"]), count)?;
        let metric = Metric::counter("backstop_retries", "Attempts after the first.");
        self.counter(out, metric, (Family::Calls, &["model", "role"]), |sums| sums.retries.into())?;
        self.tokens(out)?;
        let metric = Metric::counter("backstop_cost_usd", "Dollars that calls cost, suspense included.");
        self.counter(out, metric, (Family::Calls, &["model", "role"]), cost)?;
        let help = "Time from the start of a call to its end, waits and retries included.";
        let metric = Metric::histogram("backstop_call_duration_seconds", help);
        self.histogram(out, metric, (Family::Calls, &["model", "outcome"]))?;
        let help = "Time from sending the request that was answered to its first content.";
        let metric = Metric::histogram("backstop_first_token_seconds", help);
        out.head(&metric)?;
        let from: From = (Family::Calls, &["model", "provider"]);
        for (labels, sums) in self.fold(from).iter().filter(|(_, sums)| !sums.first_token.is_empty()) {
            out.histogram(&metric, (from.1, labels), &sums.first_token)?;
        }
        Ok(())
    }

    fn tokens(&self, out: &mut Text) -> fmt::Result {
        let metric = Metric::counter("backstop_tokens", "Tokens by kind; the kinds do not overlap.");
        out.head(&metric)?;
        for (labels, sums) in self.fold((Family::Calls, &["model", "role"])) {
            let tokens = sums.tokens;
            let kinds = [
                ("cache-read", tokens.cache_read),
                ("cache-write", tokens.cache_write),
                ("input", tokens.input),
                ("output", tokens.output),
            ];
            for (kind, tokens) in kinds {
                let labels = [&labels[..], &[kind]].concat();
                out.number(&metric, (&["model", "role", "kind"], &labels), tokens.into())?;
            }
        }
        Ok(())
    }

    /// What the gateway's keys and the agents use.
    fn who(&self, out: &mut Text) -> fmt::Result {
        let metric = Metric::counter("backstop_key_calls", "Model calls that came with a key, by outcome.");
        self.named(out, metric, (Family::Calls, &["key", "outcome"]), count)?;
        let metric = Metric::counter("backstop_key_cost_usd", "Dollars that calls with a key cost.");
        self.named(out, metric, (Family::Calls, &["key"]), cost)?;
        let metric = Metric::counter("backstop_agent_cost_usd", "Dollars that calls of an agent cost.");
        self.named(out, metric, (Family::Calls, &["agent"]), cost)?;
        let help = "Addresses from which a key was used for the first time.";
        let metric = Metric::counter("backstop_key_addresses", help);
        self.counter(out, metric, (Family::Addresses, &["key"]), count)
    }

    fn tools_and_approvals(&self, out: &mut Text) -> fmt::Result {
        let metric = Metric::counter("backstop_tool_calls", "Tool calls, by outcome.");
        self.counter(out, metric, (Family::Tools, &["tool", "outcome"]), count)?;
        let metric = Metric::histogram("backstop_tool_duration_seconds", "Time that tool calls took.");
        self.histogram(out, metric, (Family::Tools, &["tool"]))?;
        let help = "Questions to people, when they were asked and when they were answered.";
        let metric = Metric::counter("backstop_approvals", help);
        self.counter(out, metric, (Family::Approvals, &["tool", "answer"]), count)?;
        let metric = Metric::gauge("backstop_approvals_waiting", "Questions that nobody has answered yet.");
        out.head(&metric)?;
        out.number(&metric, (&[], &[]), self.standing("approval", "waiting"))
    }

    fn runs(&self, out: &mut Text) -> fmt::Result {
        let runs = self.fold((Family::Runs, &["agent", "role", "status"]));
        let (created, ended): (Vec<_>, Vec<_>) =
            runs.iter().partition(|(labels, _)| labels.last() == Some(&"created"));
        let metric = Metric::counter("backstop_runs_created", "Runs that were created.");
        out.head(&metric)?;
        for (labels, sums) in created {
            out.number(&metric, (&["agent", "role"], &labels[..2]), count(sums))?;
        }
        let help = "Runs that ended or stopped at a limit, by status.";
        let metric = Metric::counter("backstop_runs_finished", help);
        out.head(&metric)?;
        for (labels, sums) in ended {
            out.number(&metric, (&["agent", "role", "status"], labels), count(sums))?;
        }
        let help = "Time from a run's creation to its end, parked time included.";
        let metric = Metric::histogram("backstop_run_duration_seconds", help);
        self.histogram(out, metric, (Family::Runs, &["agent", "status"]))?;
        let metric = Metric::gauge("backstop_runs", "Runs that are not over, by status.");
        out.head(&metric)?;
        for status in [RunStatus::Running, RunStatus::Parked, RunStatus::Stopped] {
            let labels = [status.as_str()];
            out.number(&metric, (&["status"], &labels), self.standing("run", status.as_str()))?;
        }
        Ok(())
    }

    fn guards(&self, out: &mut Text) -> fmt::Result {
        let from: From = (Family::Breakers, &["provider", "model"]);
        let help = "State of a breaker as it was told last: 0 closed, 1 half open, 2 open.";
        let metric = Metric::gauge("backstop_breaker_state", help);
        self.counter(out, metric, from, |sums| sums.level.unwrap_or(0).into())?;
        let metric = Metric::counter("backstop_breaker_opened", "Times that a breaker opened.");
        self.counter(out, metric, from, count)?;
        let metric = Metric::counter("backstop_budget_warnings", "Thresholds that budgets passed.");
        self.counter(out, metric, (Family::Budgets, &["account", "percent"]), count)?;
        let suspended = "Dollars counted as spent because the outcome of an attempt was unknown; corrections not deducted.";
        let overrun = "Dollars billed above the worst case that was held.";
        let amounts = self.fold((Family::Money, &["what"]));
        for (name, help, what) in
            [("backstop_suspended_usd", suspended, "suspended"), ("backstop_overrun_usd", overrun, "overrun")]
        {
            let metric = Metric::counter(name, help);
            out.head(&metric)?;
            out.number(&metric, (&[], &[]), amounts.get(&vec![what]).map_or(0, cost))?;
        }
        Ok(())
    }

    fn fold(&self, (family, labels): From) -> BTreeMap<Vec<&str>, Sums> {
        folded(self.whole, family, labels)
    }

    fn counter(&self, out: &mut Text, metric: Metric, from: From, value: fn(&Sums) -> u128) -> fmt::Result {
        out.head(&metric)?;
        for (labels, sums) in self.fold(from) {
            out.number(&metric, (from.1, &labels), value(&sums))?;
        }
        Ok(())
    }

    /// The same without what has no name in its first label: calls without a key, or outside runs.
    fn named(&self, out: &mut Text, metric: Metric, from: From, value: fn(&Sums) -> u128) -> fmt::Result {
        out.head(&metric)?;
        for (labels, sums) in self.fold(from).iter().filter(|(labels, _)| !labels[0].is_empty()) {
            out.number(&metric, (from.1, labels), value(sums))?;
        }
        Ok(())
    }

    fn histogram(&self, out: &mut Text, metric: Metric, from: From) -> fmt::Result {
        out.head(&metric)?;
        for (labels, sums) in self.fold(from).iter().filter(|(_, sums)| !sums.took.is_empty()) {
            out.histogram(&metric, (from.1, labels), &sums.took)?;
        }
        Ok(())
    }

    fn standing(&self, what: &str, state: &str) -> u128 {
        let found = self
            .whole
            .iter()
            .filter(|cell| cell.series.family == Family::Standing && cell.series.labels == [what, state]);
        u128::try_from(found.map(|cell| cell.sums.count).sum::<i64>()).unwrap_or(0)
    }
}

fn write_present(present: &Present, out: &mut Text) -> fmt::Result {
    let spent = Metric::gauge("backstop_budget_spent_usd", "Dollars spent of a budget, suspense included.");
    let limit = Metric::gauge("backstop_budget_limit_usd", "The limit of a budget.");
    let day = |account: &str| account.split('@').next().unwrap_or_default().to_owned();
    for (metric, amount) in [
        (spent, (|budget| budget.spent) as fn(&BudgetUse) -> backstop_call::Money),
        (limit, |budget| budget.limit),
    ] {
        out.head(&metric)?;
        for budget in &present.budgets {
            let per = if budget.account.contains('@') { "day" } else { "ever" };
            let account = day(&budget.account);
            out.number(&metric, (&["account", "per"], &[&account, per]), nanos(amount(budget)))?;
        }
    }
    let Some(queue) = &present.queue else { return Ok(()) };
    let metric = Metric::gauge("backstop_queue_tasks", "Tasks that are not over, by state.");
    out.head(&metric)?;
    for (state, tasks) in &queue.tasks {
        out.number(&metric, (&["state"], &[state]), (*tasks).into())?;
    }
    let metric = Metric::gauge("backstop_queue_age_seconds", "How long the task waits that waits longest.");
    out.head(&metric)?;
    out.number(&metric, (&[], &[]), queue.oldest.unwrap_or_default().as_nanos())
}

fn write_jobs(jobs: &[JobSummary], out: &mut Text) -> fmt::Result {
    let next = Metric::gauge(
        "backstop_job_next_timestamp_seconds",
        "The next time of a job's schedule, since 1970; none while it is paused.",
    );
    let done = Metric::gauge(
        "backstop_job_done_timestamp_seconds",
        "When the last task of a job that is done was, since 1970.",
    );
    for (metric, time) in
        [(next, (|job| job.next) as fn(&JobSummary) -> Option<Timestamp>), (done, |job| job.done)]
    {
        out.head(&metric)?;
        for (job, time) in jobs.iter().filter_map(|job| Some((job, time(job)?))) {
            out.number(&metric, (&["job"], &[job.job.as_str()]), time.nanos().into())?;
        }
    }
    let metric = Metric::gauge("backstop_job_failures", "How many of a job's last tasks failed in a row.");
    out.head(&metric)?;
    for job in jobs {
        out.number(&metric, (&["job"], &[job.job.as_str()]), job.failures.into())?;
    }
    Ok(())
}

fn count(sums: &Sums) -> u128 {
    u128::try_from(sums.count).unwrap_or(0)
}

fn cost(sums: &Sums) -> u128 {
    nanos(sums.cost)
}

/// Nano-dollars of an amount that was spent; spending is never negative.
fn nanos(money: backstop_call::Money) -> u128 {
    u128::try_from(money.nanos()).unwrap_or(0)
}
