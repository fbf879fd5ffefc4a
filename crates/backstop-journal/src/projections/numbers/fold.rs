//! From events to cells.
//!
//! What a later event of a run does not repeat (its role, the name of a tool, the model of a call) is remembered of the runs
//! that events came of lately, and of no others: of a run that is unknown, the fold asks for the events it had before
//! ([`Fold::lacks`], [`Fold::recall`]). So nothing is kept beside the cells that could disagree with the journal.

use super::{Cell, Family, Grain, SERIES_MAX, Series, Sums};
use crate::event::{ApprovalDecision, Asked, CallFailed, CallFinished, EXPIRY};
use crate::{Event, EventBody, RunStatus, StreamId};
use backstop_call::{
    AgentName, ApprovalId, AttemptRecord, CallId, KeyName, ModelName, Role, RunId, Timestamp,
};
use std::collections::{BTreeMap, HashMap};

/// Runs that are remembered at once. The one that was created first is forgotten first, and read again if it goes on.
pub const RUNS_MAX: usize = 1_024;

/// What was counted since it was last taken, of each series in the order in which the series came up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    order: Vec<Series>,
    places: HashMap<Series, usize>,
    cells: BTreeMap<(usize, Grain, Timestamp), Sums>,
}

impl Batch {
    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The cells, so that a series that came up first comes first: which ones still fit into a family is the same
    /// however the events were cut into batches.
    pub fn cells(&self) -> impl Iterator<Item = Cell> {
        self.cells.iter().map(|((place, grain, start), sums)| Cell {
            series: self.order[*place].clone(),
            grain: *grain,
            start: *start,
            sums: sums.clone(),
        })
    }

    fn add(&mut self, series: Series, at: Timestamp, sums: &Sums) {
        let grains: &[Grain] = match series.family {
            Family::Standing => &[Grain::Whole],
            _ => &Grain::ALL,
        };
        let place = *self.places.entry(series).or_insert_with_key(|series| {
            self.order.push(series.clone());
            self.order.len() - 1
        });
        for grain in grains {
            self.cells.entry((place, *grain, grain.start(at))).or_default().merge(sums);
        }
    }
}

/// Cells by what they are of: what a store keeps in a table, in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    cells: BTreeMap<(Grain, Timestamp, Series), Sums>,
    known: BTreeMap<Family, std::collections::BTreeSet<Series>>,
}

impl Table {
    /// Adds what was counted. A series that its family has no room for is counted under `overflow`.
    pub fn add(&mut self, batch: &Batch) {
        for Cell { series, grain, start, sums } in batch.cells() {
            let known = self.known.entry(series.family).or_default();
            let fits = known.contains(&series) || (known.len() < SERIES_MAX && known.insert(series.clone()));
            let series = if fits { series } else { series.overflow() };
            self.cells.entry((grain, start, series)).or_default().merge(&sums);
        }
    }

    /// The cells of a grain from one moment to another.
    pub fn range(&self, grain: Grain, since: Timestamp, until: Timestamp) -> impl Iterator<Item = Cell> {
        let all = self.cells.iter();
        let wanted =
            all.filter(move |((kept, start, _), _)| *kept == grain && since <= *start && *start < until);
        wanted.map(|((grain, start, series), sums)| Cell {
            series: series.clone(),
            grain: *grain,
            start: *start,
            sums: sums.clone(),
        })
    }

    /// Forgets the cells of a grain that begin before a moment.
    pub fn forget(&mut self, grain: Grain, before: Timestamp) {
        self.cells.retain(|(kept, start, _), _| *kept != grain || *start >= before);
    }
}

/// What the later events of a run do not repeat.
#[derive(Debug, Clone)]
struct Memory {
    agent: AgentName,
    role: Role,
    created: Timestamp,
    status: RunStatus,
    tools: BTreeMap<String, String>,
    calls: BTreeMap<CallId, (ModelName, Option<KeyName>)>,
    asked: BTreeMap<ApprovalId, (Timestamp, String)>,
}

/// The fold from events to cells. Feed it every event in the order of the journal.
#[derive(Debug, Clone, Default)]
pub struct Fold {
    runs: BTreeMap<RunId, Memory>,
}

impl Fold {
    /// The run whose earlier events must be recalled before this event can be counted.
    pub fn lacks<'a>(&self, event: &'a Event) -> Option<&'a RunId> {
        let StreamId::Run(run) = &event.stream else { return None };
        let begins = matches!(event.body, EventBody::RunCreated(_));
        (!begins && !self.runs.contains_key(run)).then_some(run)
    }

    /// Remembers what the earlier events of a run said, without counting them again. They are all events of its stream
    /// before the one that is counted next.
    pub fn recall(&mut self, run: &RunId, earlier: &[Event]) {
        self.runs.remove(run);
        // One that is over is remembered too: what comes after its end, an undo, belongs to it.
        let mut counted = Batch::default();
        for event in earlier {
            self.apply_run(run, event, &mut counted);
        }
    }

    /// Counts an event.
    pub fn apply(&mut self, event: &Event, batch: &mut Batch) {
        batch.add(Series::new(Family::Events, [event.body.kind()]), event.at, &Sums::count(1));
        let StreamId::Run(run) = &event.stream else { return apply_shared(event, batch) };
        self.apply_run(run, event, batch);
        if matches!(&event.body, EventBody::RunFinished(finished) if finished.status.is_final()) {
            self.runs.remove(run);
        }
    }

    fn apply_run(&mut self, run: &RunId, event: &Event, batch: &mut Batch) {
        if let EventBody::RunCreated(created) = &event.body {
            if self.runs.len() >= RUNS_MAX {
                self.runs.pop_first();
            }
            let memory = Memory {
                agent: created.agent.clone(),
                role: created.role.clone(),
                created: event.at,
                status: RunStatus::Running,
                tools: BTreeMap::new(),
                calls: BTreeMap::new(),
                asked: BTreeMap::new(),
            };
            let labels = [memory.agent.as_str(), memory.role.as_str(), "created"];
            batch.add(Series::new(Family::Runs, labels), event.at, &Sums::count(1));
            stand(batch, event.at, ["run", RunStatus::Running.as_str()], 1);
            self.runs.insert(run.clone(), memory);
            return;
        }
        // A stream that does not begin as runs do tells of no run.
        let Some(memory) = self.runs.get_mut(run) else { return apply_shared(event, batch) };
        memory.apply(event, batch);
    }
}

impl Memory {
    fn apply(&mut self, event: &Event, batch: &mut Batch) {
        let at = event.at;
        match &event.body {
            EventBody::RunParked(_) => self.turn(RunStatus::Parked, at, batch),
            EventBody::RunResumed(_) => self.turn(RunStatus::Running, at, batch),
            EventBody::RunFinished(finished) => {
                let labels = [self.agent.as_str(), self.role.as_str(), finished.status.as_str()];
                let sums = Sums::took(at.since(self.created));
                batch.add(Series::new(Family::Runs, labels), at, &sums);
                self.turn(finished.status, at, batch);
                if finished.status.is_final() {
                    // Nobody can answer any more.
                    let open = i64::try_from(std::mem::take(&mut self.asked).len()).unwrap_or(i64::MAX);
                    stand(batch, at, ["approval", "waiting"], -open);
                }
            }
            EventBody::CallStarted(started) => {
                let call = (started.model.clone(), started.key.clone());
                self.calls.insert(started.call.clone(), call);
            }
            EventBody::CallFinished(finished) => {
                let call = self.calls.remove(&finished.call);
                self.who(call.as_ref(), finished.asked.as_ref()).finished(finished, at, batch);
            }
            EventBody::CallFailed(failed) => {
                let call = self.calls.remove(&failed.call);
                self.who(call.as_ref(), failed.asked.as_ref()).failed(failed, at, batch);
            }
            _ => self.apply_tool(event, batch),
        }
    }

    fn apply_tool(&mut self, event: &Event, batch: &mut Batch) {
        let at = event.at;
        match &event.body {
            EventBody::ToolPlanned(planned) => {
                self.tools.insert(planned.id.clone(), planned.tool.clone());
            }
            EventBody::ToolFinished(finished) => {
                let tool = self.tools.remove(&finished.id).unwrap_or_default();
                let outcome = if finished.is_error { "error" } else { "ok" };
                let series = self.series(Family::Tools, &tool, outcome);
                batch.add(series, at, &Sums::took(finished.duration));
            }
            EventBody::ToolUnknown(unknown) => {
                let tool = self.tools.get(&unknown.id).map_or("", String::as_str);
                batch.add(self.series(Family::Tools, tool, "in-doubt"), at, &Sums::count(1));
            }
            EventBody::ApprovalRequested(requested) => {
                let tool = self.tools.get(&requested.id).cloned().unwrap_or_default();
                batch.add(self.series(Family::Approvals, &tool, "asked"), at, &Sums::count(1));
                stand(batch, at, ["approval", "waiting"], 1);
                self.asked.insert(requested.approval.clone(), (at, tool));
            }
            EventBody::ApprovalDecided(decided) => {
                let Some((asked, tool)) = self.asked.remove(&decided.approval) else { return };
                let answer = match &decided.decision {
                    _ if decided.channel == EXPIRY => "expired",
                    ApprovalDecision::Approve => "approved",
                    ApprovalDecision::Deny { .. } => "denied",
                    ApprovalDecision::Edit { .. } => "edited",
                    ApprovalDecision::Withdraw { .. } => "withdrawn",
                };
                let series = self.series(Family::Approvals, &tool, answer);
                batch.add(series, at, &Sums::took(at.since(asked)));
                stand(batch, at, ["approval", "waiting"], -1);
            }
            _ => apply_shared(event, batch),
        }
    }

    /// Who asked: as the call's last event says it, or its first one.
    fn who<'a>(
        &'a self,
        call: Option<&'a (ModelName, Option<KeyName>)>,
        asked: Option<&'a Asked>,
    ) -> Who<'a> {
        if asked.is_some() {
            return Who { agent: self.agent.as_str(), ..Who::of(asked) };
        }
        let key = call.and_then(|(_, key)| key.as_ref());
        Who {
            agent: self.agent.as_str(),
            role: self.role.as_str(),
            model: call.map_or("", |(model, _)| model.as_str()),
            key: key.map_or("", KeyName::as_str),
        }
    }

    fn series(&self, family: Family, tool: &str, last: &str) -> Series {
        Series::new(family, [self.agent.as_str(), self.role.as_str(), tool, last])
    }

    /// How many stand so changes, but for those that are over.
    fn turn(&mut self, to: RunStatus, at: Timestamp, batch: &mut Batch) {
        let from = std::mem::replace(&mut self.status, to);
        if from == to {
            return;
        }
        for (status, change) in [(from, -1), (to, 1)] {
            if !status.is_final() {
                stand(batch, at, ["run", status.as_str()], change);
            }
        }
    }
}

/// What is counted of any stream.
fn apply_shared(event: &Event, batch: &mut Batch) {
    let at = event.at;
    match &event.body {
        EventBody::CallFinished(finished) => Who::of(finished.asked.as_ref()).finished(finished, at, batch),
        EventBody::CallFailed(failed) => Who::of(failed.asked.as_ref()).failed(failed, at, batch),
        EventBody::AttemptFailed(failed) => attempt(&failed.attempt, at, batch),
        EventBody::BreakerChanged(changed) => {
            let level = match changed.to.as_str() {
                "closed" => 0,
                "half-open" => 1,
                _ => 2,
            };
            let opened = i64::from(level == 2);
            let sums = Sums { level: Some(level), ..Sums::count(opened) };
            let labels = [changed.provider.as_str(), &changed.model];
            batch.add(Series::new(Family::Breakers, labels), at, &sums);
        }
        EventBody::BudgetWarned(warned) => {
            let percent = warned.percent.to_string();
            let labels = [scope_of(&warned.account), &percent];
            batch.add(Series::new(Family::Budgets, labels), at, &Sums::count(1));
        }
        EventBody::MoneySuspended(suspended) => {
            let sums = Sums { cost: suspended.amount, ..Sums::count(1) };
            batch.add(Series::new(Family::Money, ["suspended"]), at, &sums);
        }
        EventBody::MoneySettled(settled) if settled.overrun > backstop_call::Money::ZERO => {
            let sums = Sums { cost: settled.overrun, ..Sums::count(1) };
            batch.add(Series::new(Family::Money, ["overrun"]), at, &sums);
        }
        EventBody::KeyFirstUsedFrom(first) => {
            batch.add(Series::new(Family::Addresses, [first.key.as_str()]), at, &Sums::count(1));
        }
        _ => {}
    }
}

/// A budget's account without its day, and a run's without the run: they would make a new series every day and run.
fn scope_of(account: &str) -> &str {
    let scope = account.split('@').next().unwrap_or_default();
    if scope.starts_with("run/") { "run" } else { scope }
}

fn stand(batch: &mut Batch, at: Timestamp, labels: [&str; 2], change: i64) {
    if change != 0 {
        batch.add(Series::new(Family::Standing, labels), at, &Sums::count(change));
    }
}

fn attempt(record: &AttemptRecord, at: Timestamp, batch: &mut Batch) {
    let outcome = record.failure.map_or("ok", backstop_call::FailureKind::as_str);
    let labels = [record.provider.as_str(), &record.model, outcome];
    batch.add(Series::new(Family::Attempts, labels), at, &Sums::took(record.duration));
}

/// Who asked for a call, and for what.
struct Who<'a> {
    agent: &'a str,
    role: &'a str,
    model: &'a str,
    key: &'a str,
}

impl<'a> Who<'a> {
    /// Outside runs the call's last event says it.
    fn of(asked: Option<&'a Asked>) -> Self {
        Self {
            agent: "",
            role: asked.and_then(|asked| asked.role.as_ref()).map_or("", Role::as_str),
            model: asked.map_or("", |asked| asked.model.as_str()),
            key: asked.and_then(|asked| asked.key.as_ref()).map_or("", KeyName::as_str),
        }
    }

    fn series(&self, provider: &str, outcome: &str) -> Series {
        Series::new(Family::Calls, [self.agent, self.role, self.model, provider, self.key, outcome])
    }

    fn finished(&self, finished: &CallFinished, at: Timestamp, batch: &mut Batch) {
        let mut sums = Sums {
            retries: retries(&finished.attempts),
            tokens: (&finished.usage).into(),
            cost: finished.cost,
            ..Sums::took(finished.duration)
        };
        if let Some(first_token) = finished.first_token {
            sums.first_token.add(first_token);
        }
        batch.add(self.series(finished.provider.as_str(), "ok"), at, &sums);
        if let Some(last) = finished.attempts.last().filter(|last| last.failure.is_none()) {
            attempt(last, at, batch);
        }
    }

    fn failed(&self, failed: &CallFailed, at: Timestamp, batch: &mut Batch) {
        let detail = &failed.failure.detail;
        let last = detail.attempts.last().map(|attempt| &attempt.provider);
        let provider = detail.provider.as_ref().or(last).map_or("", |provider| provider.as_str());
        let sums =
            Sums { retries: retries(&detail.attempts), cost: failed.cost, ..Sums::took(failed.duration) };
        batch.add(self.series(provider, failed.failure.kind.as_str()), at, &sums);
    }
}

fn retries(attempts: &[AttemptRecord]) -> u64 {
    (attempts.len() as u64).saturating_sub(1)
}
