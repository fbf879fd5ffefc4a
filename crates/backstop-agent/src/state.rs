//! What is known about a run: the fold of its events. Pure, and defined for any prefix of a journal, so that a run can
//! go on from wherever a crash left it. Nothing here decides what comes next; see [`mod@crate::decide`].

mod guard;
mod lookup;
mod question;
mod resume;
mod tool_call;
mod work;

pub use guard::{LoopGuard, Repeat};
pub use question::{Answered, Question};
pub use tool_call::{Stage, ToolCall};
pub(crate) use tool_call::{hash_of, key_of};

use backstop_call::{
    Block, Code, FailureKind, Labels, Message, Money, Speaker, StopReason, Timestamp, Usage,
};
use backstop_journal::event::{
    CallFailed, CallFinished, RunCreated, RunFinished, RunLimits, RunParked, Spent, ToolDecision,
    ToolFinished, ToolPlanned, ToolResolved,
};
use backstop_journal::projections::queue::Queued;
use backstop_journal::{Body, Event, EventBody, RunStatus};
use backstop_label::Class;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use work::WorkingTime;

/// So many truncated answers in a row end the run.
const CUT_MAX: u32 = 3;
/// So many pauses in a row end the run.
const PAUSES_MAX: u32 = 10;

const ASK_FOR_FINISH: &str = "You ended your turn without calling `finish`. If the task is done, call `finish` with the \
    result now; if not, go on with it and call `finish` at the end.";
const GO_ON: &str = "Your answer was cut off at the output limit. Go on where it stopped, in smaller pieces.";
const UNKNOWN: &str = "Outcome UNKNOWN: nobody knows whether this call took effect. Verify before you rely on it, and \
    do not say that it was done before you have.";

/// A run, folded from its events.
#[derive(Debug, Clone, PartialEq)]
pub struct RunState {
    /// What defines it; `None` before its first event.
    pub created: Option<RunCreated>,
    /// How it stands.
    pub status: RunStatus,
    /// How it stands in the queue, where workers have to do with it.
    pub queue: Option<Queued>,
    /// Why it waits.
    pub parked: Option<RunParked>,
    /// How it ended, or what stopped it.
    pub finished: Option<RunFinished>,
    /// What it may use, as last raised.
    pub limits: RunLimits,
    /// The conversation: whole turns, each call with its result.
    pub messages: Vec<Message>,
    /// Every tool call, oldest first.
    pub calls: Vec<ToolCall>,
    /// The calls that take others back, oldest first.
    pub undos: Vec<ToolCall>,
    /// Where in `calls` those of the latest turn begin.
    pub turn_begin: usize,
    /// Model calls that were answered.
    pub turns: u32,
    /// Tokens, by kind.
    pub usage: Usage,
    /// What it cost, suspense included.
    pub cost: Money,
    /// What the runs used that did parts for it.
    pub given_out: Spent,
    /// The failure of the latest model call, until the run goes on.
    pub failure: Option<CallFailure>,
    /// Model calls that failed since the last that was answered, or since it was last stopped.
    pub failures_in_a_row: u32,
    /// How the model ended its latest turn, when that ends the run.
    pub ending: Option<Ending>,
    /// The arguments of a `finish` that was accepted.
    pub conclusion: Option<Value>,
    /// What is repeated.
    pub guard: LoopGuard,
    /// A body that the run needs was erased: it can be shown, and not be driven.
    pub erased: bool,
    asked_for_finish: bool,
    cut: u32,
    pauses: u32,
    ids: BTreeSet<String>,
    work: WorkingTime,
}

/// A model call that failed for good.
#[derive(Debug, Clone, PartialEq)]
pub struct CallFailure {
    /// What went wrong.
    pub kind: FailureKind,
    /// The code a user can look up.
    pub code: Code,
    /// In words.
    pub message: String,
    /// How long the provider asks to wait.
    pub retry_after: Option<Duration>,
    /// When.
    pub at: Timestamp,
}

/// An end of a turn that ends the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// A text is the result.
    Answer(String),
    /// There is no result, also after the model was asked again.
    NoResult,
    /// The model declined.
    Refused(String),
    /// Answer after answer was cut at the output limit.
    Truncated,
    /// The context window was full.
    WindowFull,
    /// The provider paused again and again.
    Paused,
}

impl Default for RunState {
    fn default() -> Self {
        Self {
            created: None,
            status: RunStatus::Running,
            queue: None,
            parked: None,
            finished: None,
            limits: RunLimits::default(),
            messages: Vec::new(),
            calls: Vec::new(),
            undos: Vec::new(),
            turn_begin: 0,
            turns: 0,
            usage: Usage::default(),
            cost: Money::ZERO,
            given_out: Spent::default(),
            failure: None,
            failures_in_a_row: 0,
            ending: None,
            conclusion: None,
            guard: LoopGuard::default(),
            erased: false,
            asked_for_finish: false,
            cut: 0,
            pauses: 0,
            ids: BTreeSet::new(),
            work: WorkingTime::default(),
        }
    }
}

impl RunState {
    /// Folds events, oldest first.
    pub fn fold<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut state = Self::default();
        for event in events {
            state.apply(event);
        }
        state
    }

    /// Folds the next event in.
    pub fn apply(&mut self, event: &Event) {
        self.take(event.at, &event.body);
    }

    /// Folds in what happens now, before it has its place in the journal.
    pub fn take(&mut self, at: Timestamp, body: &EventBody) {
        self.work.take(at, body);
        Queued::fold(&mut self.queue, self.status, at, body);
        match body {
            EventBody::RunCreated(created) => self.create(created),
            EventBody::RunParked(parked) => {
                (self.status, self.parked) = (RunStatus::Parked, Some(parked.clone()));
            }
            EventBody::RunErased(_) => self.erased = true,
            EventBody::RunResumed(resumed) => self.go_on(resumed),
            EventBody::RunFinished(finished) => {
                self.status = finished.status;
                self.parked = None;
                self.finished = Some(finished.clone());
            }
            EventBody::CallFinished(finished) => self.answer(finished),
            EventBody::CallFailed(failed) => self.fail(at, failed),
            EventBody::ToolPlanned(planned) => self.plan(planned),
            EventBody::ToolStarted(started) => {
                self.stage(&started.id, |_| Stage::Started { attempt: started.attempt });
                self.mark_dispatched(&started.id);
            }
            EventBody::ToolFinished(finished) => self.finish(finished),
            EventBody::ToolUnknown(unknown) => {
                let reason = unknown.reason.to_string();
                self.stage(&unknown.id, |call| Stage::Unknown { attempt: call.attempts(), reason });
            }
            EventBody::ToolResolved(resolved) => self.resolve(resolved),
            EventBody::ApprovalRequested(requested) => {
                self.stage(&requested.id, |_| Stage::Asking(requested.into()));
            }
            EventBody::ApprovalDecided(decided) => self.answer_question(decided),
            EventBody::RunClaimed(_)
            | EventBody::RunQueued(_)
            | EventBody::GrantCreated(_)
            | EventBody::GrantUsed(_)
            | EventBody::GrantRevoked(_)
            | EventBody::CallStarted(_)
            | EventBody::AttemptFailed(_)
            | EventBody::BreakerChanged(_)
            | EventBody::LeaseGranted(_)
            | EventBody::LeaseClosed(_)
            | EventBody::MoneyReserved(_)
            | EventBody::MoneySettled(_)
            | EventBody::MoneyMoved(_)
            | EventBody::MoneyVoided(_)
            | EventBody::MoneySuspended(_)
            | EventBody::MoneyCorrected(_)
            | EventBody::BudgetWarned(_)
            | EventBody::KeyCreated(_)
            | EventBody::KeyRotated(_)
            | EventBody::KeyRevoked(_)
            | EventBody::KeyFirstUsedFrom(_)
            | EventBody::AlertFired(_)
            | EventBody::AlertResolved(_)
            | EventBody::AlertQueued(_)
            | EventBody::AlertDelivered(_)
            | EventBody::AlertLost(_)
            | EventBody::JobDefined(_)
            | EventBody::JobDropped(_)
            | EventBody::JobStarted(_)
            | EventBody::JobSkipped(_)
            | EventBody::JobPaused(_)
            | EventBody::JobResumed(_)
            | EventBody::AlertSilenced(_)
            | EventBody::AlertUnsilenced(_)
            | EventBody::AlertAcknowledged(_) => {}
        }
    }

    /// The calls of the latest turn, in the order the model gave them.
    pub fn turn_calls(&self) -> &[ToolCall] {
        &self.calls[self.turn_begin..]
    }

    /// A call of the latest turn.
    pub fn call(&self, id: &str) -> Option<&ToolCall> {
        self.turn_calls().iter().find(|call| call.id == id)
    }

    /// The labels of everything in the conversation.
    pub fn labels(&self) -> Labels {
        self.messages.iter().fold(Labels::default(), |all, message| all.joined(&message.labels))
    }

    fn create(&mut self, created: &RunCreated) {
        if self.created.is_some() {
            return;
        }
        let message = self.text_of(&created.message);
        self.text_of(&created.system);
        self.limits = created.limits;
        self.messages
            .push(Message { labels: created.labels.clone(), ..Message::text(Speaker::User, message) });
        self.created = Some(created.clone());
    }

    fn text_of(&mut self, body: &Body) -> String {
        let text = body.read::<String>();
        self.erased |= text.is_none();
        text.unwrap_or_default()
    }

    fn fail(&mut self, at: Timestamp, failed: &CallFailed) {
        self.cost += failed.cost;
        self.failures_in_a_row += 1;
        self.failure = Some(CallFailure {
            kind: failed.failure.kind,
            code: failed.failure.code(),
            message: failed.failure.to_string(),
            retry_after: failed.failure.retry_after,
            at,
        });
    }

    /// The model's turn: its words go into the conversation, its tool calls begin.
    fn answer(&mut self, finished: &CallFinished) {
        // The model is never asked before all calls of its turn came back: an answer here would tear them apart.
        if self.created.is_none() || !self.turn_calls().is_empty() {
            return;
        }
        self.turns += 1;
        self.usage.add(&finished.usage);
        self.cost += finished.cost;
        self.failure = None;
        self.failures_in_a_row = 0;
        self.turn_begin = self.calls.len();
        let Some(mut content) = finished.content.read::<Vec<Block>>() else {
            self.erased = true;
            return;
        };
        let truncated = finished.stop == StopReason::MaxTokens;
        for (index, block) in content.iter_mut().enumerate() {
            if let Block::ToolUse { id, name, input, .. } = block {
                *id = self.unique_id(id, index);
                let args = input.clone();
                // Providers take back objects only; the text is kept where the model can see what it wrote.
                if !input.is_object() {
                    *input = json!({ "invalid_json": input.take() });
                }
                self.calls.push(ToolCall {
                    id: id.clone(),
                    tool: name.clone(),
                    args,
                    labels: finished.labels.clone(),
                    edited: None,
                    truncated,
                    planned: None,
                    dispatched: false,
                    repeat: Repeat::Fine,
                    stage: Stage::Asked,
                });
            }
        }
        let text: String = content.iter().filter_map(Block::as_text).collect();
        if !content.is_empty() {
            self.messages.push(Message {
                speaker: Speaker::Assistant,
                content: content.into(),
                labels: finished.labels.clone(),
            });
        }
        self.end_turn(&finished.stop, text);
    }

    fn unique_id(&mut self, id: &str, index: usize) -> String {
        let mut unique = if id.is_empty() { "call".to_owned() } else { id.to_owned() };
        if id.is_empty() || self.ids.contains(&unique) {
            unique = format!("{unique}-{}-{index}", self.turns);
        }
        while !self.ids.insert(unique.clone()) {
            unique.push('x');
        }
        unique
    }

    /// Reads why the model stopped, and says to the model what it needs to hear.
    fn end_turn(&mut self, stop: &StopReason, text: String) {
        let has_calls = self.turn_begin < self.calls.len();
        let truncated = *stop == StopReason::MaxTokens;
        self.cut = if truncated { self.cut + 1 } else { 0 };
        self.pauses = if *stop == StopReason::Pause { self.pauses + 1 } else { 0 };
        match stop {
            StopReason::Refusal => self.ending = Some(Ending::Refused(text)),
            StopReason::ContextWindow => self.ending = Some(Ending::WindowFull),
            StopReason::MaxTokens if self.cut >= CUT_MAX => self.ending = Some(Ending::Truncated),
            StopReason::Pause if self.pauses >= PAUSES_MAX => self.ending = Some(Ending::Paused),
            _ if has_calls => self.asked_for_finish = false,
            StopReason::MaxTokens => self.say(GO_ON),
            StopReason::Pause => {}
            StopReason::End | StopReason::ToolUse | StopReason::StopSequence(_) | StopReason::Other(_) => {
                self.end_in_words(text);
            }
        }
    }

    /// The model ended without a tool call: its text is the result, unless a schema is asked for.
    fn end_in_words(&mut self, text: String) {
        let wants_schema = self.created.as_ref().is_some_and(|created| created.result_schema.is_some());
        if !wants_schema && !text.trim().is_empty() {
            self.ending = Some(Ending::Answer(text));
        } else if self.asked_for_finish {
            self.ending = Some(Ending::NoResult);
        } else {
            self.asked_for_finish = true;
            self.say(ASK_FOR_FINISH);
        }
    }

    fn say(&mut self, text: &str) {
        self.messages.push(Message::text(Speaker::User, text));
    }

    fn stage(&mut self, id: &str, next: impl FnOnce(&ToolCall) -> Stage) {
        let begin = self.turn_begin;
        let mut calls = self.calls[begin..].iter_mut().chain(&mut self.undos);
        if let Some(call) = calls.find(|call| call.id == id) {
            call.stage = next(call);
        }
    }

    fn mark_dispatched(&mut self, id: &str) {
        let begin = self.turn_begin;
        if let Some(call) = self.calls[begin..].iter_mut().chain(&mut self.undos).find(|call| call.id == id) {
            call.dispatched = true;
        }
    }

    fn plan(&mut self, planned: &ToolPlanned) {
        if planned.undoes.is_some() {
            self.undos.push(ToolCall::undoing(planned));
            return;
        }
        let begin = self.turn_begin;
        if let Some(call) = self.calls[begin..].iter_mut().find(|call| call.id == planned.id) {
            // It is planned anew after a crash or a yes; it was asked for once.
            if call.planned.is_none() {
                call.repeat = self.guard.record(&call.fingerprint(), planned.class == Class::Read);
            }
            call.planned = Some(planned.clone());
            call.stage = Stage::Planned;
        }
    }

    fn finish(&mut self, finished: &ToolFinished) {
        if let Some(undo) = self.undos.iter_mut().find(|undo| undo.id == finished.id) {
            undo.stage = Stage::Finished {
                is_error: finished.is_error,
                content: blocks(&finished.result).unwrap_or_default(),
                labels: finished.labels.clone(),
            };
            return;
        }
        let Some(call) = self.call(&finished.id) else { return };
        let is_effect = call.planned.as_ref().is_some_and(|planned| planned.class != Class::Read);
        let concludes = call.tool == crate::tools::FINISH && !finished.is_error;
        if concludes {
            self.conclusion = Some(call.args.clone());
        }
        if is_effect && !finished.is_error {
            self.guard.changed();
        }
        if let Some(spent) = &finished.spent {
            self.given_out.add(spent);
        }
        let content = blocks(&finished.result);
        self.erased |= content.is_none();
        self.stage(&finished.id, |_| Stage::Finished {
            is_error: finished.is_error,
            content: content.unwrap_or_default(),
            labels: finished.labels.clone(),
        });
        self.close_turn();
    }

    fn resolve(&mut self, resolved: &ToolResolved) {
        self.stage(&resolved.id, |call| match resolved.decision {
            ToolDecision::RunIt => Stage::Again { attempt: call.attempts() },
            ToolDecision::Happened => Stage::Finished {
                is_error: false,
                content: resolved.result.as_ref().and_then(blocks).unwrap_or_default(),
                labels: call.labels.clone(),
            },
            ToolDecision::Unknown => Stage::Finished {
                is_error: true,
                content: vec![Block::text(UNKNOWN)],
                labels: call.labels.clone(),
            },
        });
        if resolved.decision == ToolDecision::Happened {
            self.guard.changed();
        }
        self.close_turn();
    }

    /// Once every call of the turn came back, their results go into the conversation: one message, in the order of the
    /// calls.
    fn close_turn(&mut self) {
        let begin = self.turn_begin;
        if self.calls[begin..].iter().any(|call| !matches!(call.stage, Stage::Finished { .. })) {
            return;
        }
        let (mut results, mut labels_of_all) = (Vec::new(), Labels::default());
        for call in &mut self.calls[begin..] {
            if let Stage::Finished { is_error, content, labels } = &mut call.stage {
                labels_of_all.join(labels);
                results.push(Block::ToolResult {
                    id: call.id.clone(),
                    content: std::mem::take(content),
                    is_error: *is_error,
                    cache: None,
                });
            }
        }
        if !results.is_empty() {
            let content = results.into();
            self.messages.push(Message { speaker: Speaker::User, content, labels: labels_of_all });
        }
        self.turn_begin = self.calls.len();
    }
}

fn blocks(body: &Body) -> Option<Vec<Block>> {
    match body.value()? {
        Value::String(text) => Some(vec![Block::text(text.clone())]),
        _ => body.read(),
    }
}

#[cfg(test)]
mod tests;
