//! What a drive of a run came to.

use crate::RunState;
use crate::state::Stage;
use backstop_call::{Code, Money, RunId, Timestamp, Usage};
use backstop_journal::RunStatus;
use backstop_journal::event::ParkReason;
use backstop_label::Class;
use serde_json::Value;
use std::time::Duration;

/// How a run stands after somebody worked on it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunOutcome {
    /// The run.
    pub run: RunId,
    /// How it stands.
    pub status: RunStatus,
    /// Its result, when it is done.
    pub result: Option<Value>,
    /// Tokens, by kind.
    pub usage: Usage,
    /// What it cost, suspense included.
    pub cost: Money,
    /// Time in which somebody worked on it.
    pub duration: Duration,
    /// Model calls that were answered.
    pub turns: u32,
    /// Why it is not done.
    pub code: Option<Code>,
    /// In words: the summary of a run that is done, else why it is not.
    pub message: String,
    /// Why it waits.
    pub parked: Option<ParkReason>,
    /// When it may go on by itself.
    pub until: Option<Timestamp>,
    /// What a person must decide.
    pub in_doubt: Vec<InDoubt>,
}

/// A call of which nobody knows whether it took effect.
#[derive(Debug, Clone, PartialEq)]
pub struct InDoubt {
    /// Its id.
    pub call: String,
    /// The tool.
    pub tool: String,
    /// Its arguments.
    pub args: Value,
    /// What a crash allows.
    pub class: Class,
    /// The idempotency key it was made with, to look it up by.
    pub key: String,
    /// How often it was dispatched.
    pub attempts: u32,
    /// Why nobody knows.
    pub reason: String,
}

impl RunOutcome {
    /// The outcome that a state stands for.
    pub fn of(run: &RunId, state: &RunState, now: Timestamp) -> Self {
        let finished = state.finished.as_ref();
        let parked = state.parked.as_ref();
        let failure = state.failure.as_ref().filter(|_| parked.is_some());
        let in_doubt: Vec<_> = state.in_doubt().filter_map(in_doubt).collect();
        let waits = parked.is_some_and(|parked| parked.reason == ParkReason::InDoubt);
        let code = finished
            .and_then(|finished| finished.code)
            .or(failure.map(|failure| failure.code))
            .or(waits.then_some(Code::InDoubt));
        let message = finished
            .map(|finished| finished.message.clone())
            .or_else(|| failure.map(|failure| failure.message.clone()))
            .or_else(|| waits.then(|| doubts(&in_doubt)))
            .unwrap_or_default();
        Self {
            run: run.clone(),
            status: state.status,
            result: finished.and_then(|finished| finished.result.as_ref()?.value().cloned()),
            usage: state.usage,
            cost: state.cost,
            duration: state.worked(now),
            turns: state.turns,
            code,
            message,
            parked: parked.map(|parked| parked.reason),
            until: parked.and_then(|parked| parked.until),
            in_doubt,
        }
    }
}

fn doubts(in_doubt: &[InDoubt]) -> String {
    if in_doubt.is_empty() {
        return "every call in doubt is resolved; the run can be resumed".to_owned();
    }
    let calls: Vec<_> = in_doubt.iter().map(|doubt| format!("{} ({})", doubt.tool, doubt.call)).collect();
    format!("nobody knows whether this took effect: {}", calls.join(", "))
}

fn in_doubt(call: &crate::state::ToolCall) -> Option<InDoubt> {
    let Stage::Unknown { attempt, reason } = &call.stage else { return None };
    let planned = call.planned.as_ref();
    Some(InDoubt {
        call: call.id.clone(),
        tool: call.tool.clone(),
        args: call.args.clone(),
        class: planned.map_or(Class::Irreversible, |planned| planned.class),
        key: planned.map(|planned| planned.key.clone()).unwrap_or_default(),
        attempts: *attempt,
        reason: reason.clone(),
    })
}
