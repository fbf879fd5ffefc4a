//! Runs that do parts for other runs, or that other runs put into the queue: which agents there are for it, what such a run is
//! made from, what it may use, and what is told of it. Pure; they are created and driven in [`crate::run`].

use crate::preview::visible;
use crate::state::{RunState, Stage, ToolCall, key_of};
use backstop_call::{AgentName, Code, Money, RunId, Timestamp};
use backstop_journal::event::{Origin, QueueTerms, RunCreated, RunLimits};
use backstop_journal::{Body, Event, EventBody, RunStatus};
use backstop_label::Labels;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// The tool by which a run has another agent do a part. Where its call is carried out is the run's own business.
pub const DELEGATE: &str = "delegate";

/// The tool by which a run puts a task of another agent into the queue, and goes on.
pub const SUBMIT: &str = "submit_task";

/// So much of the key of its parent's call is in the id of a run, in hexadecimal digits.
const KEY_DIGITS: usize = 12;

/// The agents that may do parts for others, and how far that may go.
#[derive(Debug, Clone, PartialEq)]
pub struct Delegation {
    /// The agents, by their names.
    pub agents: BTreeMap<AgentName, Template>,
    /// How many levels of runs there may be below one that does a part for nobody.
    pub depth_max: u32,
    /// To how many others one run may give parts.
    pub children_max: u32,
}

/// An agent that parts can be given to.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// What it is for: those who may give it parts are told.
    pub about: String,
    /// What a run of it is made from. Its task, its message, its workspace and what it belongs to come from the parent.
    pub run: RunCreated,
}

impl Default for Delegation {
    /// Nobody; 3 levels, 8 parts a run.
    fn default() -> Self {
        Self { agents: BTreeMap::new(), depth_max: 3, children_max: 8 }
    }
}

impl Delegation {
    /// The agents by their names, each with what it is for.
    pub fn told(&self) -> impl Iterator<Item = (&str, &str)> {
        self.agents.iter().map(|(name, template)| (name.as_str(), template.about.as_str()))
    }
}

/// The run that does the part which a call gives out: the same however often it is asked for.
pub fn child_of(run: &RunId, call: &str) -> RunId {
    RunId::from(format!("{run}-{}", &key_of(run, call)[..KEY_DIGITS]))
}

/// A part that a call gives out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Who does it.
    pub(crate) agent: AgentName,
    /// What is to be done.
    task: String,
    /// The labels of what that was made from.
    labels: Labels,
}

impl Part {
    /// The part by the arguments of a call.
    pub(crate) fn of(args: &Value, labels: &Labels) -> Self {
        let text = |name: &str| args.get(name).and_then(Value::as_str).unwrap_or_default();
        Self { agent: text("agent").into(), task: text("task").to_owned(), labels: labels.clone() }
    }
}

impl RunState {
    /// The call whose part is being done by another run. There is one at most: such a call is made alone.
    pub(crate) fn given_out(&self) -> Option<&ToolCall> {
        let is_open = |call: &&ToolCall| call.tool == DELEGATE && matches!(call.stage, Stage::Started { .. });
        self.turn_calls().iter().find(is_open)
    }

    /// What is left of this run's limits for another one, which may not use more than `most`. `worked` is how long that one
    /// has worked: its time has passed for this run as well.
    pub(crate) fn left_for(&self, most: &RunLimits, worked: Duration, now: Timestamp) -> RunLimits {
        let cost = self.limits.cost.map(|limit| limit.saturating_sub(self.spent().cost).max(Money::ZERO));
        RunLimits {
            time: most.time.min(self.limits.time.saturating_sub(self.worked(now)).saturating_add(worked)),
            turns: most.turns,
            tokens: most.tokens.min(self.limits.tokens.saturating_sub(self.tokens())),
            cost: most.cost.into_iter().chain(cost).min(),
        }
    }
}

/// A run that does a part for another, by its agent's template. What it may do is another question.
pub(crate) fn child(
    (parent, of): (&RunCreated, &RunId),
    template: &Template,
    part: &Part,
    limits: RunLimits,
) -> RunCreated {
    RunCreated {
        task: parent.task.clone(),
        message: Body::from(part.task.as_str()),
        workspace: parent.workspace.clone(),
        limits,
        priority: parent.priority,
        labels: part.labels.clone(),
        dry_run: parent.dry_run,
        parent: Some(of.clone()),
        // Whoever pays for the parent pays for its parts.
        origin: Box::new(Origin {
            key: parent.origin.key.clone(),
            key_limits: parent.origin.key_limits,
            ..Origin::default()
        }),
        ..template.run.clone()
    }
}

/// The same run where it is put into the queue instead: it is nobody's part, waits for a worker, and is paid for by `payers`, of
/// which there are so many runs above it.
pub(crate) fn task(
    part: RunCreated,
    run: &RunId,
    (payers, depth): (Vec<(RunId, Money)>, u32),
    now: Timestamp,
) -> RunCreated {
    let origin = Box::new(Origin { submitter: part.parent, payers, depth, ..*part.origin });
    RunCreated { task: run.as_str().into(), parent: None, origin, queue: Some(QueueTerms::once(now)), ..part }
}

/// Whether something came of a run that waits for a worker: then it is not taken back by ending it.
pub(crate) fn has_begun(events: &[Event]) -> bool {
    events.iter().any(|event| {
        !matches!(event.body, EventBody::RunCreated(_) | EventBody::RunClaimed(_) | EventBody::RunQueued(_))
    })
}

/// What a person is shown before a part is given out.
pub(crate) fn preview(child: &RunCreated, most: &RunLimits) -> String {
    let mut shown = format!("agent: {}\n", child.agent);
    let tools = if child.tools.is_empty() { "none".to_owned() } else { child.tools.join(", ") };
    let cost = most.cost.map_or_else(String::new, |cost| format!("{cost}, "));
    // A text is as long as it is.
    let _ = writeln!(shown, "tools: {tools}");
    let _ = writeln!(shown, "at most: {cost}{} turns, {} tokens", most.turns, most.tokens);
    let task: String = child.message.read().unwrap_or_default();
    let _ = write!(shown, "task:\n{}", visible(&task));
    shown
}

/// What a run that did a part came to, for its parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Came {
    /// Its model is told this; the error is one.
    Back(Result<String, String>),
    /// It waits.
    Waits,
    /// What stopped it would stop the parent too: both go on when that is mended.
    Stopped(Code, String),
}

/// What becomes of the parent's call, by how the run stands that does the part.
pub(crate) fn came_of(agent: &AgentName, child: &RunState) -> Came {
    let finished = child.finished.as_ref();
    let message = finished.map(|finished| finished.message.as_str()).unwrap_or_default();
    let not_done = |how: &str| {
        Err(format!(
            "`{agent}` {how}: {message}. What it had changed is as it left it; look at it, then do the rest another way."
        ))
    };
    match child.status {
        RunStatus::Done => {
            let result = finished.and_then(|finished| finished.result.as_ref()?.value().cloned());
            Came::Back(Ok(match result {
                Some(Value::String(text)) => text,
                Some(value) => value.to_string(),
                None => message.to_owned(),
            }))
        }
        RunStatus::Failed => Came::Back(not_done("did not do it")),
        RunStatus::Cancelled => Came::Back(not_done("was ended")),
        RunStatus::Running | RunStatus::Parked => Came::Waits,
        RunStatus::Stopped => match finished.and_then(|finished| finished.code) {
            Some(code) if !is_its_own(code) => {
                Came::Stopped(code, format!("`{agent}`, which does a part of it, stopped: {message}"))
            }
            Some(_) | None => Came::Back(not_done("stopped before it was done")),
        },
    }
}

/// Whether what stopped a run says nothing of its parent: its limits, what it repeats, what its model says.
fn is_its_own(code: Code) -> bool {
    matches!(
        code,
        Code::TimeLimit
            | Code::TurnLimit
            | Code::TokenLimit
            | Code::BudgetExceeded
            | Code::LoopGuard
            | Code::ContextTooLong
            | Code::AnswerMalformed
    )
}

#[cfg(test)]
mod tests;
