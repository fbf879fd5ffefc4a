//! What a drive of a run came to.

use crate::RunState;
use crate::state::{Question, Stage, ToolCall};
use backstop_call::{ApprovalId, Code, ERASED, Labels, Money, RunId, Timestamp, Usage};
use backstop_journal::RunStatus;
use backstop_journal::event::ParkReason;
use backstop_label::{Class, Effect};
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
    /// Tokens, by kind, with those of the runs that did parts for it.
    pub usage: Usage,
    /// What it cost, suspense included, with what the runs cost that did parts for it.
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
    /// What a person is asked.
    pub questions: Vec<OpenQuestion>,
}

/// A call that waits for a person's yes, with all that they need to decide.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenQuestion {
    /// The run that asks: the one that is looked at, or one that does a part for it.
    pub run: RunId,
    /// The question.
    pub approval: ApprovalId,
    /// The tool call.
    pub call: String,
    /// The tool.
    pub tool: String,
    /// Its exact arguments.
    pub args: Value,
    /// What would happen, as the tool works it out; empty where the arguments say all.
    pub preview: String,
    /// Why it is asked.
    pub why: String,
    /// How far it reaches.
    pub effect: Option<Effect>,
    /// Whether it can be taken back.
    pub reversible: bool,
    /// The labels of what it was decided from.
    pub labels: Labels,
    /// Until when it can be answered; then the answer is no.
    pub expires: Timestamp,
}

/// A call of which nobody knows whether it took effect.
#[derive(Debug, Clone, PartialEq)]
pub struct InDoubt {
    /// The run that made it: the one that is looked at, or one that does a part for it.
    pub run: RunId,
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
        let in_doubt: Vec<_> = state.in_doubt().filter_map(|call| in_doubt(run, call)).collect();
        let waits = parked.is_some_and(|parked| parked.reason == ParkReason::InDoubt);
        let questions: Vec<_> = state.questions().map(|(call, question)| open(run, call, question)).collect();
        let asks = parked.is_some_and(|parked| parked.reason == ParkReason::Approval);
        let spent = state.spent();
        let code = finished
            .and_then(|finished| finished.code)
            .or(failure.map(|failure| failure.code))
            .or(waits.then_some(Code::InDoubt))
            .or(asks.then_some(Code::ApprovalNeeded));
        let message = finished
            .map(|finished| finished.message.to_string())
            .or_else(|| failure.map(|failure| failure.message.clone()))
            .or_else(|| waits.then(|| doubts(&in_doubt)))
            .or_else(|| asks.then(|| asked(&questions)))
            .filter(|message| !state.erased || !message.is_empty())
            .unwrap_or_else(|| if state.erased { ERASED.to_owned() } else { String::new() });
        Self {
            run: run.clone(),
            status: state.status,
            result: finished.and_then(|finished| finished.result.as_ref()?.value().cloned()),
            usage: spent.usage,
            cost: spent.cost,
            duration: state.worked(now),
            turns: state.turns,
            code,
            message,
            parked: parked.map(|parked| parked.reason),
            until: parked.and_then(|parked| parked.until),
            in_doubt,
            questions,
        }
    }
}

fn open(run: &RunId, call: &ToolCall, question: &Question) -> OpenQuestion {
    let planned = call.planned.as_ref();
    OpenQuestion {
        run: run.clone(),
        approval: question.approval.clone(),
        call: call.id.clone(),
        tool: call.tool.clone(),
        args: call.args.clone(),
        preview: planned.and_then(|planned| planned.preview.read()).unwrap_or_default(),
        why: question.why.clone(),
        effect: planned.and_then(|planned| planned.effect),
        reversible: planned.is_some_and(|planned| !planned.undo.is_nothing()),
        labels: call.labels.clone(),
        expires: question.expires,
    }
}

fn asked(questions: &[OpenQuestion]) -> String {
    if questions.is_empty() {
        return "every question is answered; the run can be resumed".to_owned();
    }
    let calls: Vec<_> = questions.iter().map(|open| format!("{} ({})", open.tool, open.approval)).collect();
    format!("a person must say whether this may be done: {}", calls.join(", "))
}

fn doubts(in_doubt: &[InDoubt]) -> String {
    if in_doubt.is_empty() {
        return "every call in doubt is resolved; the run can be resumed".to_owned();
    }
    let calls: Vec<_> = in_doubt.iter().map(|doubt| format!("{} ({})", doubt.tool, doubt.call)).collect();
    format!("nobody knows whether this took effect: {}", calls.join(", "))
}

fn in_doubt(run: &RunId, call: &ToolCall) -> Option<InDoubt> {
    let Stage::Unknown { attempt, reason } = &call.stage else { return None };
    let planned = call.planned.as_ref();
    Some(InDoubt {
        run: run.clone(),
        call: call.id.clone(),
        tool: call.tool.clone(),
        args: call.args.clone(),
        class: planned.map_or(Class::Irreversible, |planned| planned.class),
        key: call.key(run),
        attempts: *attempt,
        reason: reason.clone(),
    })
}
