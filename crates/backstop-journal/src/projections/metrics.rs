//! Counters, gauges and histograms folded from events, and their text for a scraper (OpenMetrics 1.0).
//!
//! Everything is whole numbers: nanoseconds and nano-dollars, written out as exact decimals. Names of models, roles and
//! tools become label values, and some of them are written by models; so a family keeps at most [`SERIES_MAX`] series
//! and counts the rest together under `overflow`.

mod family;
mod text;

pub use family::SERIES_MAX;

use crate::event::Asked;
use crate::{Event, EventBody, RunStatus, StreamId};
use backstop_call::{AttemptRecord, CallId, Failure, Money, Role, RunId, Usage};
use family::{Counter, Gauge, Histogram};
use std::collections::{BTreeMap, BTreeSet};

/// How many calls that began and did not end are remembered; the oldest is forgotten first.
const OPEN_CALLS_MAX: usize = 10_000;

/// The fold from events to metrics. Feed it every event in the order of the journal.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    calls: Counter<3>,
    attempts: Counter<3>,
    tokens: Counter<3>,
    cost: Counter<2>,
    call_duration: Histogram<2>,
    first_token: Histogram<2>,
    tool_calls: Counter<2>,
    tool_duration: Histogram<1>,
    runs_finished: Counter<3>,
    run_duration: Histogram<2>,
    breakers: Gauge<2>,
    budget_warnings: Counter<2>,
    suspended: Money,
    overrun: Money,
    events: Counter<1>,
    open_runs: BTreeMap<RunId, OpenRun>,
    open_calls: BTreeMap<CallId, OpenCall>,
}

/// What the later events of a run do not repeat.
#[derive(Debug, Clone)]
struct OpenRun {
    agent: String,
    role: Role,
    created: backstop_call::Timestamp,
    status: RunStatus,
    tools: BTreeMap<String, String>,
}

/// What the later events of a call do not repeat.
#[derive(Debug, Clone, Default)]
struct OpenCall {
    model: String,
    role: String,
    /// The attempts that `call.attempt-failed` has told of: the call's last event tells of them again.
    counted: BTreeSet<u32>,
}

impl OpenCall {
    /// The model and the role, as the call's last event tells them or as its first one did.
    fn asked<'a>(&'a self, asked: Option<&'a Asked>) -> (&'a str, &'a str) {
        let Some(asked) = asked else { return (&self.model, &self.role) };
        (asked.model.as_str(), asked.role.as_ref().map_or("", Role::as_str))
    }
}

impl Metrics {
    /// Folds the next event in.
    pub fn apply(&mut self, event: &Event) {
        self.events.add([event.body.kind()], 1);
        match &event.body {
            EventBody::CallStarted(started) => {
                let role = started.role.as_ref().or_else(|| self.role_of(&event.stream));
                let role = role.map_or(String::new(), ToString::to_string);
                let open = self.open_call(&started.call);
                (open.model, open.role) = (started.model.to_string(), role);
            }
            EventBody::AttemptFailed(failed) => {
                self.count_attempt(&failed.attempt);
                self.open_call(&failed.call).counted.insert(failed.attempt.attempt);
            }
            EventBody::CallFinished(finished) => {
                let open = self.close_call(&finished.call, &finished.attempts);
                let (model, role) = open.asked(finished.asked.as_ref());
                self.calls.add([model, role, "ok"], 1);
                self.count_tokens(model, role, &finished.usage);
                self.cost.add([model, role], units(finished.cost));
                self.call_duration.observe([model, "ok"], finished.duration);
                if let Some(first_token) = finished.first_token {
                    self.first_token.observe([model, finished.provider.as_str()], first_token);
                }
            }
            EventBody::CallFailed(failed) => {
                let Failure { kind, detail, .. } = &failed.failure;
                let open = self.close_call(&failed.call, &detail.attempts);
                let (model, role) = open.asked(failed.asked.as_ref());
                self.calls.add([model, role, kind.as_str()], 1);
                self.cost.add([model, role], units(failed.cost));
                self.call_duration.observe([model, kind.as_str()], failed.duration);
            }
            EventBody::BreakerChanged(changed) => {
                let state = match changed.to.as_str() {
                    "closed" => 0,
                    "half-open" => 1,
                    _ => 2,
                };
                self.breakers.set([changed.provider.as_str(), &changed.model], state);
            }
            _ => self.apply_rest(event),
        }
    }

    fn apply_rest(&mut self, event: &Event) {
        match &event.body {
            EventBody::MoneySuspended(suspended) => self.suspended += suspended.amount,
            EventBody::MoneySettled(settled) => self.overrun += settled.overrun,
            EventBody::BudgetWarned(warned) => {
                // The account's day would make a new series every day.
                let account = warned.account.split('@').next().unwrap_or_default();
                self.budget_warnings.add([account, &warned.percent.to_string()], 1);
            }
            _ => {
                if let StreamId::Run(run) = &event.stream {
                    self.apply_run(run, event);
                }
            }
        }
    }

    fn apply_run(&mut self, run: &RunId, event: &Event) {
        if let EventBody::RunCreated(created) = &event.body {
            let open = OpenRun {
                agent: created.agent.to_string(),
                role: created.role.clone(),
                created: event.at,
                status: RunStatus::Running,
                tools: BTreeMap::new(),
            };
            self.open_runs.insert(run.clone(), open);
            return;
        }
        let Some(open) = self.open_runs.get_mut(run) else { return };
        match &event.body {
            EventBody::RunParked(_) => open.status = RunStatus::Parked,
            EventBody::RunResumed(_) => open.status = RunStatus::Running,
            EventBody::RunFinished(finished) => {
                let status = finished.status.as_str();
                open.status = finished.status;
                self.runs_finished.add([&open.agent, open.role.as_str(), status], 1);
                self.run_duration.observe([&open.agent, status], event.at.since(open.created));
                if finished.status.is_final() {
                    self.open_runs.remove(run);
                }
            }
            EventBody::ToolPlanned(planned) => {
                open.tools.insert(planned.id.clone(), planned.tool.clone());
            }
            EventBody::ToolFinished(finished) => {
                let tool = open.tools.remove(&finished.id).unwrap_or_default();
                let outcome = if finished.is_error { "error" } else { "ok" };
                self.tool_calls.add([&tool, outcome], 1);
                self.tool_duration.observe([&tool], finished.duration);
            }
            EventBody::ToolUnknown(unknown) => {
                let tool = open.tools.get(&unknown.id).map_or("", String::as_str);
                self.tool_calls.add([tool, "in-doubt"], 1);
            }
            _ => {}
        }
    }

    fn role_of(&self, stream: &StreamId) -> Option<&Role> {
        let StreamId::Run(run) = stream else { return None };
        self.open_runs.get(run).map(|run| &run.role)
    }

    /// What is remembered of a call; outside runs a failed attempt is the first that is heard of it.
    fn open_call(&mut self, call: &CallId) -> &mut OpenCall {
        if self.open_calls.len() >= OPEN_CALLS_MAX && !self.open_calls.contains_key(call) {
            self.open_calls.pop_first();
        }
        self.open_calls.entry(call.clone()).or_default()
    }

    /// Forgets the call and counts its attempts that were not told of before. Gives what was remembered.
    fn close_call(&mut self, call: &CallId, attempts: &[AttemptRecord]) -> OpenCall {
        let open = self.open_calls.remove(call).unwrap_or_default();
        for attempt in attempts {
            if !open.counted.contains(&attempt.attempt) {
                self.count_attempt(attempt);
            }
        }
        open
    }

    fn count_attempt(&mut self, attempt: &AttemptRecord) {
        let outcome = attempt.failure.map_or("ok", backstop_call::FailureKind::as_str);
        self.attempts.add([attempt.provider.as_str(), &attempt.model, outcome], 1);
    }

    fn count_tokens(&mut self, model: &str, role: &str, usage: &Usage) {
        let kinds = [
            ("input", usage.input_tokens),
            ("output", usage.output_tokens),
            ("cache-read", usage.cache_read_tokens),
            ("cache-write", usage.cache_write_tokens),
        ];
        for (kind, tokens) in kinds {
            self.tokens.add([model, role, kind], u128::from(tokens));
        }
    }
}

/// Nano-dollars of an amount that was spent; spending is never negative.
fn units(money: Money) -> u128 {
    u128::try_from(money.nanos()).unwrap_or(0)
}
