//! What comes next. One pure function over the folded state; the whole policy of a run stands here.

use crate::RunState;
use crate::delegation::DELEGATE;
use crate::request::next_request;
use crate::state::{CallFailure, Ending, Repeat, Stage, ToolCall};
use crate::tools::FINISH;
use backstop_call::{Code, FailureKind, Request, Shared, Timestamp, ToolSpec};
use backstop_journal::event::{ParkReason, RunFinished, RunParked};
use backstop_journal::projections::queue::Queued;
use backstop_journal::{Body, RunStatus};
use backstop_label::Class;
use serde_json::Value;
use std::time::Duration;

/// A call is dispatched at most so often.
const DISPATCHES_MAX: u32 = 3;
/// The first wait after an outage that the stack could not ride out. Doubles with each.
const OUTAGE_WAIT: Duration = Duration::from_secs(15);
/// The longest wait after an outage.
const OUTAGE_WAIT_MAX: Duration = Duration::from_mins(5);
/// What is left for the answer at least when a request is said to fit.
const ANSWER_TOKENS_MIN: u64 = 256;

/// What of a run does not stand in its journal.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The tools as the model is told of them, `finish` among them.
    pub tools: Shared<ToolSpec>,
    /// The window of the smallest model that may be asked, in tokens; `None` when it is not known.
    pub context_window_tokens: Option<u64>,
    /// After so many failed calls in a row the run stops instead of waiting once more.
    pub outages_max: u32,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Ask the model.
    CallModel {
        /// What is asked.
        request: Box<Request>,
        /// Its input in tokens, estimated.
        input_tokens: u64,
    },
    /// Plan and dispatch these calls, in this order as far as they change something.
    Dispatch(Vec<String>),
    /// All other calls of the turn came back: hear this `finish`.
    Conclude(String),
    /// This call was started, and nobody knows what became of it.
    Recover {
        /// The call.
        id: String,
        /// What to do about it.
        how: Recovery,
    },
    /// Let go of the run.
    Park(RunParked),
    /// The wait is over: go on.
    Resume,
    /// End the run, or stop it where somebody can help.
    Finish(RunFinished),
    /// There is nothing to do: it is over, or it waits for somebody.
    Rest,
}

/// What a crash allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// Run it again, with the same key.
    RunAgain,
    /// Ask the tool whether it took effect.
    Probe,
    /// Take up the run that does this part.
    TakeUp,
    /// Ask a person.
    InDoubt(String),
    /// Tell the model that it does not come back.
    GiveUp(String),
}

/// What comes next for this run.
pub fn decide(state: &RunState, rules: &Rules, now: Timestamp) -> Step {
    if state.created.is_none() || state.finished.is_some() {
        return Step::Rest;
    }
    if let Some(parked) = &state.parked {
        let over = match parked.reason {
            ParkReason::Wait => parked.until.is_some_and(|until| until <= now),
            // Answered, or too late to be; but not if one before it in the model's order still waits.
            ParkReason::Approval => !matches!(dispatch(state, now), Step::Park(_)),
            // What it waits for is looked at by who takes it up; see [`crate::run`].
            ParkReason::Child => parked.until.is_some_and(|until| until <= now),
            ParkReason::InDoubt => false,
        };
        return if over { Step::Resume } else { Step::Rest };
    }
    if state.queue.as_ref().is_some_and(Queued::is_deadly) {
        return Step::Finish(stopped(Code::WorkersDied, "its workers died one after the other"));
    }
    if let Some(step) = state.turn_calls().iter().find_map(recover) {
        return step;
    }
    if state.in_doubt().next().is_some() {
        return Step::Park(RunParked { reason: ParkReason::InDoubt, until: None });
    }
    if let Some(finished) = ended(state) {
        return Step::Finish(finished);
    }
    if let Some(failure) = &state.failure {
        return after_failure(state, failure, rules, now);
    }
    let step = if state.turn_calls().is_empty() { call_model(state, rules) } else { dispatch(state, now) };
    match (&step, over_time(state, now)) {
        (Step::CallModel { .. } | Step::Dispatch(_), Some(stopped)) => Step::Finish(stopped),
        _ => step,
    }
}

/// A call that was started and did not come back.
fn recover(call: &ToolCall) -> Option<Step> {
    let attempt = match call.stage {
        Stage::Started { attempt } => attempt,
        Stage::Again { .. } => return Some(Step::Recover { id: call.id.clone(), how: Recovery::RunAgain }),
        Stage::Asked
        | Stage::Planned
        | Stage::Asking(_)
        | Stage::Answered(_)
        | Stage::Unknown { .. }
        | Stage::Finished { .. } => return None,
    };
    if call.tool == DELEGATE {
        return Some(Step::Recover { id: call.id.clone(), how: Recovery::TakeUp });
    }
    let class = call.planned.as_ref().map_or(Class::Irreversible, |planned| planned.class);
    let exhausted = format!("it was dispatched {attempt} times and never came back");
    let how = match class {
        Class::Read | Class::Idempotent if attempt < DISPATCHES_MAX => Recovery::RunAgain,
        Class::Read => Recovery::GiveUp(exhausted),
        Class::Idempotent => Recovery::InDoubt(exhausted),
        Class::Write => Recovery::Probe,
        Class::Irreversible => Recovery::InDoubt("it was under way when the process ended".to_owned()),
    };
    Some(Step::Recover { id: call.id.clone(), how })
}

/// The model's own end of the run.
fn ended(state: &RunState) -> Option<RunFinished> {
    if let Some(arguments) = &state.conclusion {
        return Some(concluded(state, arguments));
    }
    Some(match state.ending.as_ref()? {
        Ending::Answer(text) => RunFinished {
            status: RunStatus::Done,
            result: Some(Body::from(text.as_str())),
            code: None,
            message: "".into(),
        },
        Ending::NoResult => failed(Code::NoResult, "the model ended its turn twice without calling finish"),
        Ending::Refused(text) if text.trim().is_empty() => failed(Code::PolicyRefused, "the model declined"),
        Ending::Refused(text) => failed(Code::PolicyRefused, &format!("the model declined: {text}")),
        Ending::Truncated => {
            failed(Code::AnswerMalformed, "the answer was cut off at the output limit again and again")
        }
        Ending::Paused => failed(Code::AnswerMalformed, "the provider paused its answer again and again"),
        Ending::WindowFull => {
            stopped(Code::ContextTooLong, "the context window was full before the answer was complete")
        }
    })
}

/// What an accepted `finish` means: the result when one is given, else the summary.
fn concluded(state: &RunState, arguments: &Value) -> RunFinished {
    let summary = arguments.get("summary").and_then(Value::as_str).unwrap_or_default().to_owned();
    if arguments.get("failed").and_then(Value::as_bool).unwrap_or(false) {
        return failed(Code::TaskFailed, &summary);
    }
    let wants_schema = state.created.as_ref().is_some_and(|created| created.result_schema.is_some());
    let given = arguments.get("result").filter(|value| wants_schema || !value.is_null());
    let result = given.cloned().unwrap_or_else(|| Value::from(summary.clone()));
    RunFinished {
        status: RunStatus::Done,
        result: Some(Body::Inline(result)),
        code: None,
        message: summary.into(),
    }
}

/// Waits where waiting helps; stops where a person can help, so that nothing is lost; fails where nobody can.
fn after_failure(state: &RunState, failure: &CallFailure, rules: &Rules, now: Timestamp) -> Step {
    let ends = |status| {
        Step::Finish(RunFinished {
            status,
            result: None,
            code: Some(failure.code),
            message: failure.message.clone().into(),
        })
    };
    match remedy(failure) {
        Remedy::None => return ends(RunStatus::Failed),
        Remedy::Cancelled => return ends(RunStatus::Cancelled),
        Remedy::Person => return ends(RunStatus::Stopped),
        Remedy::Time if state.failures_in_a_row > rules.outages_max => return ends(RunStatus::Stopped),
        Remedy::Time => {}
    }
    if let Some(stopped) = over_time(state, now) {
        return Step::Finish(stopped);
    }
    let doublings = state.failures_in_a_row.saturating_sub(1).min(16);
    let backoff = OUTAGE_WAIT.saturating_mul(1 << doublings).min(OUTAGE_WAIT_MAX);
    let wait = failure.retry_after.unwrap_or(backoff);
    Step::Park(RunParked { reason: ParkReason::Wait, until: Some(failure.at + wait) })
}

/// What makes a failed call work the next time.
enum Remedy {
    /// Waiting; and when that was not enough, whoever can mend the provider, the network or the chain.
    Time,
    /// A change outside the run: a key, credit, a budget, a model.
    Person,
    /// Nothing: it is the run's own conversation that is refused.
    None,
    /// Nobody wants it any more.
    Cancelled,
}

fn remedy(failure: &CallFailure) -> Remedy {
    match failure.kind {
        FailureKind::Transient
        | FailureKind::Overloaded
        | FailureKind::Throttled
        | FailureKind::UnknownOutcome
        | FailureKind::Deadline => Remedy::Time,
        // The stack has asked again already; an answer that stays broken is mended by another model or address.
        FailureKind::Budget
        | FailureKind::Quota
        | FailureKind::Auth
        | FailureKind::Private
        | FailureKind::ContextLength
        | FailureKind::Malformed => Remedy::Person,
        FailureKind::Invalid => match failure.code {
            Code::UnknownModel | Code::ModelNotFound | Code::RequestTooLarge => Remedy::Person,
            _ => Remedy::None,
        },
        FailureKind::Policy | FailureKind::Downstream => Remedy::None,
        FailureKind::Cancelled => Remedy::Cancelled,
    }
}

pub(crate) fn over_time(state: &RunState, now: Timestamp) -> Option<RunFinished> {
    if let Some(deadline) = state.deadline().filter(|deadline| *deadline <= now) {
        return Some(stopped(Code::DeadlineExceeded, &format!("it was to be done by {deadline}")));
    }
    let limit = state.limits.time;
    (state.worked(now) >= limit).then(|| {
        stopped(Code::TimeLimit, &format!("the run has worked for its {} seconds", limit.as_secs_f64()))
    })
}

/// The calls of the turn that are not under way, up to the first about which a person is asked: what comes after it in the
/// model's order is not done before it. `finish` after all others.
fn dispatch(state: &RunState, now: Timestamp) -> Step {
    let mut guard = state.guard.clone();
    let mut waiting = Vec::new();
    let mut conclusion = None;
    for call in state.turn_calls() {
        match &call.stage {
            Stage::Asking(question) if !question.is_over(now) => break,
            Stage::Asked | Stage::Planned | Stage::Asking(_) | Stage::Answered(_) => {}
            Stage::Started { .. } | Stage::Unknown { .. } | Stage::Again { .. } | Stage::Finished { .. } => {
                continue;
            }
        }
        if call.stage == Stage::Asked && guard.record(&call.fingerprint(), true) == Repeat::Stop {
            let message = format!("{} was called again and again with the same arguments", call.tool);
            return Step::Finish(stopped(Code::LoopGuard, &message));
        }
        if call.tool == FINISH && conclusion.is_none() {
            conclusion = Some(call.id.clone());
        } else {
            waiting.push(call.id.clone());
        }
    }
    let open = state.questions().map(|(_, question)| question.expires).filter(|expires| *expires > now).min();
    match conclusion {
        _ if waiting.is_empty() && open.is_some() => {
            Step::Park(RunParked { reason: ParkReason::Approval, until: open })
        }
        Some(id) if waiting.is_empty() => Step::Conclude(id),
        Some(_) | None => Step::Dispatch(waiting),
    }
}

fn call_model(state: &RunState, rules: &Rules) -> Step {
    let limits = &state.limits;
    if state.turns >= limits.turns {
        let message = format!("the run has used its {} turns", limits.turns);
        return Step::Finish(stopped(Code::TurnLimit, &message));
    }
    let cost = state.spent().cost;
    if let Some(limit) = limits.cost
        && cost >= limit
    {
        let message = format!("the run has cost {cost} of {limit}");
        return Step::Finish(stopped(Code::BudgetExceeded, &message));
    }
    let (request, input_tokens) = next_request(state, rules);
    if state.tokens().saturating_add(input_tokens) >= limits.tokens {
        let message = format!(
            "the run has used {} of {} tokens, and the next call would send about {input_tokens}",
            state.tokens(),
            limits.tokens
        );
        return Step::Finish(stopped(Code::TokenLimit, &message));
    }
    let answer = request.max_tokens.unwrap_or(ANSWER_TOKENS_MIN);
    if let Some(window) = rules.context_window_tokens
        && input_tokens.saturating_add(answer) > window
    {
        let message = format!(
            "the next call would send about {input_tokens} tokens and leave room for {answer} in the answer; the \
             window has {window}"
        );
        return Step::Finish(stopped(Code::ContextTooLong, &message));
    }
    Step::CallModel { request: Box::new(request), input_tokens }
}

fn failed(code: Code, message: &str) -> RunFinished {
    RunFinished { status: RunStatus::Failed, result: None, code: Some(code), message: message.into() }
}

fn stopped(code: Code, message: &str) -> RunFinished {
    RunFinished { status: RunStatus::Stopped, ..failed(code, message) }
}

#[cfg(test)]
mod tests;
