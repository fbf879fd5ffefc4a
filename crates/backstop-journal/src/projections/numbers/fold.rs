//! From events to cells.
//!
//! What a later event of a run does not repeat (its role, the name of a tool, the model of a call) is remembered of the runs
//! that events came of lately, and of no others: of a run that is unknown, the fold asks for the events it had before
//! ([`Fold::lacks`], [`Fold::recall`]). So nothing is kept beside the cells that could disagree with the journal.

use super::{Cell, Family, Grain, LABEL_CHARS_MAX, SERIES_MAX, Series, Sums};
use crate::event::{ApprovalDecision, Asked, CallFailed, CallFinished, EXPIRY};
use crate::{Event, EventBody, RunStatus, StreamId};
use backstop_call::{
    AgentName, ApprovalId, AttemptRecord, CallId, KeyName, ModelName, Role, RunId, Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Runs that are remembered at once. The one that was created first is forgotten first, and read again if it goes on.
pub const RUNS_MAX: usize = 1_024;

/// What was counted since it was last taken, of each series in the order in which the series came up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    order: Vec<Arc<Series>>,
    /// Places in `order`, of each family by its labels. A series is looked up for every event and made once, so that its
    /// labels are compared as they are, without a copy.
    places: BTreeMap<Family, Vec<usize>>,
    /// By the minute: longer stretches are made of them when they are taken.
    minutes: BTreeMap<(usize, Timestamp), Sums>,
}

impl Batch {
    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.minutes.is_empty()
    }

    /// The cells, so that a series that came up first comes first: which ones still fit into a family is the same
    /// however the events were cut into batches.
    pub fn cells(&self) -> impl Iterator<Item = Cell> {
        let mut cells: BTreeMap<(usize, Grain, Timestamp), Sums> = BTreeMap::new();
        for ((place, minute), sums) in &self.minutes {
            let grains: &[Grain] = match self.order[*place].family {
                Family::Standing => &[Grain::Whole],
                _ => &Grain::ALL,
            };
            for grain in grains {
                cells.entry((*place, *grain, grain.start(*minute))).or_default().merge(sums);
            }
        }
        cells.into_iter().map(|((place, grain, start), sums)| Cell {
            series: Arc::clone(&self.order[place]),
            grain,
            start,
            sums,
        })
    }

    /// The sums of a series in the minute of a moment.
    fn sums<const N: usize>(&mut self, family: Family, labels: [&str; N], at: Timestamp) -> &mut Sums {
        let labels = labels.map(cut);
        let (order, places) = (&mut self.order, self.places.entry(family).or_default());
        let found =
            places.binary_search_by(|place| order[*place].labels.iter().map(String::as_str).cmp(labels));
        let place = match found {
            Ok(found) => places[found],
            Err(new) => {
                order.push(Arc::new(Series::new(family, labels)));
                places.insert(new, order.len() - 1);
                order.len() - 1
            }
        };
        self.minutes.entry((place, Grain::Minute.start(at))).or_default()
    }

    /// Counts one.
    fn one<const N: usize>(&mut self, family: Family, labels: [&str; N], at: Timestamp) -> &mut Sums {
        let sums = self.sums(family, labels, at);
        sums.count += 1;
        sums
    }
}

/// Cells by what they are of: what a store keeps in a table, in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    cells: BTreeMap<(Grain, Timestamp, Arc<Series>), Sums>,
    known: BTreeMap<Family, BTreeSet<Arc<Series>>>,
}

impl Table {
    /// Adds what was counted. A series that its family has no room for is counted under `overflow`.
    pub fn add(&mut self, batch: &Batch) {
        for Cell { series, grain, start, sums } in batch.cells() {
            let known = self.known.entry(series.family).or_default();
            let fits =
                known.contains(&series) || (known.len() < SERIES_MAX && known.insert(Arc::clone(&series)));
            let series = if fits { series } else { Arc::new(series.overflow()) };
            self.cells.entry((grain, start, series)).or_default().merge(&sums);
        }
    }

    /// The cells of a grain from one moment to another.
    pub fn range(&self, grain: Grain, since: Timestamp, until: Timestamp) -> impl Iterator<Item = Cell> {
        let all = self.cells.iter();
        let wanted =
            all.filter(move |((kept, start, _), _)| *kept == grain && since <= *start && *start < until);
        wanted.map(|((grain, start, series), sums)| Cell {
            series: Arc::clone(series),
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
        batch.one(Family::Events, [event.body.kind()], event.at);
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
            batch.one(Family::Runs, labels, event.at);
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
                batch.one(Family::Runs, labels, at).took.add(at.since(self.created));
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
                batch.one(Family::Tools, self.labels(&tool, outcome), at).took.add(finished.duration);
            }
            EventBody::ToolUnknown(unknown) => {
                let tool = self.tools.get(&unknown.id).map_or("", String::as_str);
                batch.one(Family::Tools, self.labels(tool, "in-doubt"), at);
            }
            EventBody::ApprovalRequested(requested) => {
                let tool = self.tools.get(&requested.id).cloned().unwrap_or_default();
                batch.one(Family::Approvals, self.labels(&tool, "asked"), at);
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
                batch.one(Family::Approvals, self.labels(&tool, answer), at).took.add(at.since(asked));
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

    fn labels<'a>(&'a self, tool: &'a str, last: &'a str) -> [&'a str; 4] {
        [self.agent.as_str(), self.role.as_str(), tool, last]
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
            let sums = batch.sums(Family::Breakers, [changed.provider.as_str(), &changed.model], at);
            sums.count += i64::from(level == 2);
            sums.level = Some(level);
        }
        EventBody::BudgetWarned(warned) => {
            let percent = warned.percent.to_string();
            batch.one(Family::Budgets, [scope_of(&warned.account), &percent], at);
        }
        EventBody::MoneySuspended(suspended) => {
            batch.one(Family::Money, ["suspended"], at).cost += suspended.amount;
        }
        EventBody::MoneySettled(settled) if settled.overrun > backstop_call::Money::ZERO => {
            batch.one(Family::Money, ["overrun"], at).cost += settled.overrun;
        }
        EventBody::KeyFirstUsedFrom(first) => {
            batch.one(Family::Addresses, [first.key.as_str()], at);
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
        batch.sums(Family::Standing, labels, at).count += change;
    }
}

fn attempt(record: &AttemptRecord, at: Timestamp, batch: &mut Batch) {
    let outcome = record.failure.map_or("ok", backstop_call::FailureKind::as_str);
    let labels = [record.provider.as_str(), &record.model, outcome];
    batch.one(Family::Attempts, labels, at).took.add(record.duration);
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

    fn labels(&self, provider: &'a str, outcome: &'a str) -> [&'a str; 6] {
        [self.agent, self.role, self.model, provider, self.key, outcome]
    }

    fn finished(&self, finished: &'a CallFinished, at: Timestamp, batch: &mut Batch) {
        let sums = batch.one(Family::Calls, self.labels(finished.provider.as_str(), "ok"), at);
        let attempts = finished.attempts();
        sums.retries += retries(&attempts);
        sums.tokens.add(&(&finished.usage).into());
        sums.cost += finished.cost;
        sums.took.add(finished.duration);
        if let Some(first_token) = finished.first_token {
            sums.first_token.add(first_token);
        }
        if let Some(last) = attempts.last().filter(|last| last.failure.is_none()) {
            attempt(last, at, batch);
        }
    }

    fn failed(&self, failed: &'a CallFailed, at: Timestamp, batch: &mut Batch) {
        let detail = &failed.failure.detail;
        let last = detail.attempts.last().map(|attempt| &attempt.provider);
        let provider = detail.provider.as_ref().or(last).map_or("", |provider| provider.as_str());
        let labels = self.labels(provider, failed.failure.kind.as_str());
        let sums = batch.one(Family::Calls, labels, at);
        sums.retries += retries(&detail.attempts);
        sums.cost += failed.cost;
        sums.took.add(failed.duration);
    }
}

/// A model can write a name of any length.
fn cut(label: &str) -> &str {
    // Most are shorter in bytes already.
    if label.len() <= LABEL_CHARS_MAX {
        return label;
    }
    label.char_indices().nth(LABEL_CHARS_MAX).map_or(label, |(end, _)| &label[..end])
}

fn retries(attempts: &[AttemptRecord]) -> u64 {
    (attempts.len() as u64).saturating_sub(1)
}
