//! One JSON line per event: what `backstop logs` prints and what the daily log files hold. The line of an event names the
//! task, role and model it belongs to, also where the event itself does not: the fold remembers them from the events
//! before.
//!
//! It chooses fields and levels. It writes no file, filters nothing and never carries a body: prompts, answers, arguments
//! and results stay in the journal.

mod guards;
mod line;

use guards::{describe_alert, describe_job, describe_key, describe_money};
pub use line::{Level, LogLine, UnknownLevel};

use super::history::RunSummary;
use crate::event::{ApprovalDecision, Asked, ParkReason, Severity};
use crate::{Event, EventBody, RunStatus, StreamId};
use backstop_call::{
    AttemptRecord, Block, CallId, FailureKind, KeyName, ModelName, Money, Role, RunId, TaskId,
};
use std::collections::{BTreeMap, BTreeSet};

/// How many calls that began and did not end are remembered. A call that a crash cut off never ends; beyond this number
/// the oldest is forgotten, and its late events are logged without their task and role.
const OPEN_CALLS_MAX: usize = 10_000;

/// The fold from events to lines. Feed it every event in the order of the journal.
#[derive(Debug, Clone, Default)]
pub struct Log {
    runs: BTreeMap<RunId, RunFacts>,
    calls: BTreeMap<CallId, CallFacts>,
}

/// What the events of a run do not repeat.
#[derive(Debug, Clone)]
struct RunFacts {
    summary: RunSummary,
    /// The tool of each tool call that is not over, by the call's id.
    open_tools: BTreeMap<String, String>,
    /// Every tool that was dispatched.
    tools: BTreeSet<String>,
}

/// What the events of a call do not repeat.
#[derive(Debug, Clone)]
struct CallFacts {
    task: Option<TaskId>,
    role: Option<Role>,
    key: Option<KeyName>,
    model: ModelName,
}

impl Log {
    /// Folds the next event in and gives its line.
    pub fn push(&mut self, event: &Event) -> LogLine {
        self.remember(event);
        let mut line = LogLine::new(event.at, level(&event.body), event.body.kind());
        self.place(&mut line, event);
        describe(&mut line, &event.body);
        self.describe_by_memory(&mut line, event);
        self.forget(event);
        line
    }

    fn remember(&mut self, event: &Event) {
        if let EventBody::CallStarted(started) = &event.body {
            let run = self.run_of(event);
            let facts = CallFacts {
                task: started.task.clone().or_else(|| run.map(|run| run.summary.task.clone())),
                role: started.role.clone().or_else(|| run.map(|run| run.summary.role.clone())),
                key: started.key.clone(),
                model: started.model.clone(),
            };
            self.calls.insert(started.call.clone(), facts);
            if self.calls.len() > OPEN_CALLS_MAX {
                self.calls.pop_first();
            }
        }
        let StreamId::Run(run) = &event.stream else { return };
        if let Some(summary) = RunSummary::start(run, event) {
            let facts = RunFacts { summary, open_tools: BTreeMap::new(), tools: BTreeSet::new() };
            self.runs.insert(run.clone(), facts);
            return;
        }
        let Some(facts) = self.runs.get_mut(run) else { return };
        facts.summary.apply(event);
        match &event.body {
            EventBody::ToolPlanned(planned) => {
                facts.open_tools.insert(planned.id.clone(), planned.tool.clone());
            }
            EventBody::ToolStarted(started) => {
                facts.tools.extend(facts.open_tools.get(&started.id).cloned());
            }
            _ => {}
        }
    }

    /// Names the run, the task, the role and the model the event belongs to.
    fn place(&self, line: &mut LogLine, event: &Event) {
        if let Some(run) = self.run_of(event) {
            line.run = Some(run.summary.run.clone());
            line.task = Some(run.summary.task.clone());
            line.role = Some(run.summary.role.clone());
            line.model = Some(run.summary.model.to_string());
        } else if let StreamId::Run(run) = &event.stream {
            line.run = Some(run.clone());
        }
        line.call = call_of(&event.body);
        if let Some(call) = line.call.as_ref().and_then(|call| self.calls.get(call)) {
            line.task = call.task.clone().or(line.task.take());
            line.role = call.role.clone().or(line.role.take());
            line.key.clone_from(&call.key);
            line.model = Some(call.model.to_string());
        }
        if let Some(asked) = asked_of(&event.body) {
            line.task.clone_from(&asked.task);
            line.role.clone_from(&asked.role);
            line.key.clone_from(&asked.key);
            line.model = Some(asked.model.to_string());
            line.input_tokens = Some(asked.input_tokens);
        }
    }

    /// Fills in what only the fold knows: the name of a tool call's tool, the totals of a run.
    fn describe_by_memory(&self, line: &mut LogLine, event: &Event) {
        let Some(run) = self.run_of(event) else { return };
        if let Some(id) = tool_call_of(&event.body) {
            line.tool = run.open_tools.get(id).cloned();
        }
        if let EventBody::RunFinished(_) = &event.body {
            line.usage(&run.summary.usage);
            line.cost(run.summary.cost);
            line.duration(run.summary.duration());
            line.tools = run.tools.iter().cloned().collect();
        }
    }

    fn forget(&mut self, event: &Event) {
        match (&event.body, &event.stream) {
            (EventBody::CallFinished(ended), _) => drop(self.calls.remove(&ended.call)),
            (EventBody::CallFailed(ended), _) => drop(self.calls.remove(&ended.call)),
            (EventBody::RunFinished(ended), StreamId::Run(run)) if ended.status.is_final() => {
                self.runs.remove(run);
            }
            (EventBody::ToolFinished(ended), StreamId::Run(run)) => {
                if let Some(facts) = self.runs.get_mut(run) {
                    facts.open_tools.remove(&ended.id);
                }
            }
            _ => {}
        }
    }

    fn run_of(&self, event: &Event) -> Option<&RunFacts> {
        if let StreamId::Run(run) = &event.stream { self.runs.get(run) } else { None }
    }
}

/// How loud an event is. Error: a person must act. Warn: something failed and was dealt with. Info: what a day is told
/// in. Debug: every step.
fn level(body: &EventBody) -> Level {
    match body {
        EventBody::RunFinished(ended) => match ended.status {
            RunStatus::Failed => Level::Error,
            RunStatus::Stopped => Level::Warn,
            RunStatus::Running | RunStatus::Parked | RunStatus::Done | RunStatus::Cancelled => Level::Info,
        },
        // Of a run that waits for another, that one tells what a person must do.
        EventBody::RunParked(parked) if !matches!(parked.reason, ParkReason::Wait | ParkReason::Child) => {
            Level::Error
        }
        EventBody::CallFailed(failed) if failed.failure.kind != FailureKind::Cancelled => Level::Error,
        EventBody::BudgetWarned(warned) if warned.percent >= 100 => Level::Error,
        EventBody::ToolUnknown(_) | EventBody::AlertLost(_) => Level::Error,
        EventBody::AlertFired(fired) => match fired.severity {
            Severity::Critical => Level::Error,
            Severity::Warning => Level::Warn,
            Severity::Info => Level::Info,
        },
        EventBody::AttemptFailed(_) | EventBody::MoneySuspended(_) | EventBody::BudgetWarned(_) => {
            Level::Warn
        }
        // Most addresses are a new machine of the owner's. One of them may be the first sign of a stolen key.
        EventBody::KeyFirstUsedFrom(_) | EventBody::JobSkipped(_) => Level::Warn,
        EventBody::BreakerChanged(changed) if changed.to == "open" => Level::Warn,
        EventBody::ToolFinished(finished) if finished.is_error => Level::Warn,
        EventBody::LeaseClosed(closed) if closed.recovered => Level::Warn,
        EventBody::MoneySettled(settled) if settled.overrun > Money::ZERO => Level::Warn,
        EventBody::RunCreated(_)
        | EventBody::RunParked(_)
        | EventBody::RunQueued(_)
        | EventBody::RunResumed(_)
        | EventBody::RunErased(_)
        | EventBody::CallFinished(_)
        | EventBody::CallFailed(_)
        | EventBody::BreakerChanged(_)
        | EventBody::ToolFinished(_)
        | EventBody::ToolResolved(_)
        | EventBody::ApprovalRequested(_)
        | EventBody::ApprovalDecided(_)
        | EventBody::GrantCreated(_)
        | EventBody::GrantUsed(_)
        | EventBody::GrantRevoked(_)
        | EventBody::MoneyCorrected(_)
        | EventBody::KeyCreated(_)
        | EventBody::KeyRotated(_)
        | EventBody::KeyRevoked(_)
        | EventBody::AlertResolved(_)
        | EventBody::AlertSilenced(_)
        | EventBody::AlertUnsilenced(_)
        | EventBody::AlertAcknowledged(_)
        | EventBody::JobDefined(_)
        | EventBody::JobDropped(_)
        | EventBody::JobStarted(_)
        | EventBody::JobPaused(_)
        | EventBody::JobResumed(_) => Level::Info,
        EventBody::RunClaimed(_)
        | EventBody::CallStarted(_)
        | EventBody::ToolPlanned(_)
        | EventBody::ToolStarted(_)
        | EventBody::LeaseGranted(_)
        | EventBody::LeaseClosed(_)
        | EventBody::MoneyReserved(_)
        | EventBody::MoneySettled(_)
        | EventBody::MoneyMoved(_)
        | EventBody::MoneyVoided(_)
        | EventBody::AlertQueued(_)
        | EventBody::AlertDelivered(_) => Level::Debug,
    }
}

/// The call an event is about; a reservation's name begins with its call's.
fn call_of(body: &EventBody) -> Option<CallId> {
    let reservation = match body {
        EventBody::CallStarted(event) => return Some(event.call.clone()),
        EventBody::AttemptFailed(event) => return Some(event.call.clone()),
        EventBody::CallFinished(event) => return Some(event.call.clone()),
        EventBody::CallFailed(event) => return Some(event.call.clone()),
        EventBody::BudgetWarned(event) => return event.call.clone(),
        EventBody::MoneyReserved(event) => &event.reservation,
        EventBody::MoneySettled(event) => &event.reservation,
        EventBody::MoneyVoided(event) => &event.reservation,
        EventBody::MoneySuspended(event) => &event.reservation,
        EventBody::MoneyCorrected(event) => &event.reservation,
        _ => return None,
    };
    reservation.as_str().rsplit_once('.').map(|(call, _)| call.into())
}

/// What the last event of a call outside runs says of its beginning.
fn asked_of(body: &EventBody) -> Option<&Asked> {
    match body {
        EventBody::CallFinished(event) => event.asked.as_ref(),
        EventBody::CallFailed(event) => event.asked.as_ref(),
        _ => None,
    }
}

fn tool_call_of(body: &EventBody) -> Option<&str> {
    match body {
        EventBody::ToolPlanned(event) => Some(&event.id),
        EventBody::ToolStarted(event) => Some(&event.id),
        EventBody::ToolFinished(event) => Some(&event.id),
        EventBody::ToolUnknown(event) => Some(&event.id),
        EventBody::ToolResolved(event) => Some(&event.id),
        EventBody::ApprovalRequested(event) => Some(&event.id),
        EventBody::ApprovalDecided(event) => Some(&event.id),
        _ => None,
    }
}

/// Fills in what the event itself says.
fn describe(line: &mut LogLine, body: &EventBody) {
    match body {
        EventBody::RunCreated(_)
        | EventBody::RunClaimed(_)
        | EventBody::RunParked(_)
        | EventBody::RunQueued(_)
        | EventBody::RunResumed(_)
        | EventBody::RunErased(_)
        | EventBody::RunFinished(_) => describe_run(line, body),
        EventBody::CallStarted(_)
        | EventBody::AttemptFailed(_)
        | EventBody::CallFinished(_)
        | EventBody::CallFailed(_)
        | EventBody::BreakerChanged(_) => describe_call(line, body),
        EventBody::ToolPlanned(_)
        | EventBody::ToolStarted(_)
        | EventBody::ToolFinished(_)
        | EventBody::ToolUnknown(_)
        | EventBody::ToolResolved(_) => describe_tool(line, body),
        EventBody::ApprovalRequested(_)
        | EventBody::ApprovalDecided(_)
        | EventBody::GrantCreated(_)
        | EventBody::GrantUsed(_)
        | EventBody::GrantRevoked(_) => describe_approval(line, body),
        EventBody::LeaseGranted(_)
        | EventBody::LeaseClosed(_)
        | EventBody::MoneyReserved(_)
        | EventBody::MoneySettled(_)
        | EventBody::MoneyMoved(_)
        | EventBody::MoneyVoided(_)
        | EventBody::MoneySuspended(_)
        | EventBody::MoneyCorrected(_)
        | EventBody::BudgetWarned(_) => describe_money(line, body),
        EventBody::KeyCreated(_)
        | EventBody::KeyRotated(_)
        | EventBody::KeyRevoked(_)
        | EventBody::KeyFirstUsedFrom(_) => describe_key(line, body),
        EventBody::AlertFired(_)
        | EventBody::AlertResolved(_)
        | EventBody::AlertQueued(_)
        | EventBody::AlertDelivered(_)
        | EventBody::AlertLost(_)
        | EventBody::AlertSilenced(_)
        | EventBody::AlertUnsilenced(_)
        | EventBody::AlertAcknowledged(_) => describe_alert(line, body),
        EventBody::JobDefined(_)
        | EventBody::JobDropped(_)
        | EventBody::JobStarted(_)
        | EventBody::JobSkipped(_)
        | EventBody::JobPaused(_)
        | EventBody::JobResumed(_) => describe_job(line, body),
    }
}

fn describe_run(line: &mut LogLine, body: &EventBody) {
    match body {
        EventBody::RunCreated(event) => {
            line.status = Some("created".into());
            line.message = format!("agent {} in {}", event.agent, event.workspace);
        }
        EventBody::RunClaimed(event) => line.message = format!("claimed by {}", event.owner),
        EventBody::RunParked(event) => {
            line.status = Some("parked".into());
            line.message = match (event.reason, event.until) {
                (ParkReason::InDoubt, _) => "a person must say whether an effect happened".into(),
                (ParkReason::Approval, _) => "a person must say whether a call may be made".into(),
                (ParkReason::Wait, Some(until)) => format!("waits until {until}"),
                (ParkReason::Wait, None) => "waits".into(),
                (ParkReason::Child, _) => "waits for a run that does a part for it".into(),
            };
        }
        EventBody::RunQueued(event) => {
            line.status = Some("queued".into());
            line.message = format!("due {}", event.terms.due);
        }
        EventBody::RunResumed(_) => line.status = Some("running".into()),
        EventBody::RunFinished(event) => {
            line.status = Some(event.status.as_str().into());
            line.code = event.code;
            event.message.as_str().clone_into(&mut line.message);
        }
        EventBody::RunErased(event) => {
            line.status = Some("erased".into());
            line.message = format!("{} bodies, by {}: {}", event.bodies, event.by, event.reason);
        }
        _ => {}
    }
}

fn describe_call(line: &mut LogLine, body: &EventBody) {
    match body {
        EventBody::CallStarted(event) => line.input_tokens = Some(event.input_tokens),
        EventBody::AttemptFailed(event) => describe_attempt(line, &event.attempt),
        EventBody::CallFinished(event) => {
            line.provider = Some(event.provider.clone());
            line.model = Some(event.model.clone());
            line.attempts = Some(event.attempts().len());
            line.status = Some("ok".into());
            line.usage(&event.usage);
            line.cost(event.cost);
            line.duration(event.duration);
            line.first_token(event.first_token);
            line.tools =
                event.content.read::<Vec<Block>>().map(|blocks| tools_in(&blocks)).unwrap_or_default();
        }
        EventBody::CallFailed(event) => {
            let detail = &event.failure.detail;
            line.provider.clone_from(&detail.provider);
            line.attempts = Some(detail.attempts.len());
            line.status = Some(event.failure.kind.as_str().into());
            line.code = Some(detail.code);
            line.cost(event.cost);
            line.duration(event.duration);
            detail.message.as_str().clone_into(&mut line.message);
        }
        EventBody::BreakerChanged(event) => {
            line.provider = Some(event.provider.clone());
            line.model = Some(event.model.clone());
            line.status = Some(event.to.clone());
            line.message.clone_from(&event.reason);
        }
        _ => {}
    }
}

fn describe_attempt(line: &mut LogLine, attempt: &AttemptRecord) {
    line.provider = Some(attempt.provider.clone());
    line.model = Some(attempt.model.clone());
    line.attempt = Some(attempt.attempt);
    line.status = attempt.failure.map(|kind| kind.as_str().into());
    line.code = attempt.code;
    line.cost(attempt.cost);
    line.duration(attempt.duration);
    attempt.message.as_str().clone_into(&mut line.message);
}

fn describe_tool(line: &mut LogLine, body: &EventBody) {
    match body {
        EventBody::ToolPlanned(_) => line.status = Some("planned".into()),
        EventBody::ToolStarted(event) => {
            line.status = Some("started".into());
            line.attempt = Some(event.attempt);
        }
        EventBody::ToolFinished(event) => {
            line.status = Some(if event.is_error { "error" } else { "ok" }.into());
            line.duration(event.duration);
            if event.probed {
                line.message = "found out by a probe".into();
            }
        }
        EventBody::ToolUnknown(event) => {
            line.status = Some("in-doubt".into());
            event.reason.as_str().clone_into(&mut line.message);
        }
        EventBody::ToolResolved(event) => {
            line.status = Some("resolved".into());
            line.message = format!("decided by {}", event.by);
        }
        _ => {}
    }
}

fn describe_approval(line: &mut LogLine, body: &EventBody) {
    match body {
        EventBody::ApprovalRequested(event) => {
            line.status = Some("asked".into());
            line.message = format!("{}: {}, until {}", event.approval, event.why, event.expires);
        }
        EventBody::ApprovalDecided(event) => {
            let status = match &event.decision {
                ApprovalDecision::Approve => "approved",
                ApprovalDecision::Deny { .. } => "denied",
                ApprovalDecision::Edit { .. } => "edited",
                ApprovalDecision::Withdraw { .. } => "withdrawn",
            };
            line.status = Some(status.into());
            line.message = format!("{}: by {} ({})", event.approval, event.by, event.channel);
        }
        EventBody::GrantCreated(event) => {
            line.message = format!(
                "grant {} of {} calls of {} until {}",
                event.grant, event.uses, event.tool, event.until
            );
        }
        EventBody::GrantUsed(event) => {
            line.message = format!("grant {} asked by run {}", event.grant, event.run);
        }
        EventBody::GrantRevoked(event) => {
            line.message = format!("grant {} revoked by {}", event.grant, event.by);
        }
        _ => {}
    }
}

/// The tools that an answer calls, in order.
fn tools_in(blocks: &[Block]) -> Vec<String> {
    let name = |block: &Block| match block {
        Block::ToolUse { name, .. } => Some(name.clone()),
        _ => None,
    };
    blocks.iter().filter_map(name).collect()
}
