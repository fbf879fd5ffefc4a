//! The rows of a run's story.

use crate::event::{
    ApprovalDecision, CallStarted, ParkReason, RunErased, RunLimits, ToolDecision, ToolPlanned,
};
use crate::{Body, Epoch, RunStatus, Seq};
use backstop_call::{
    ApprovalId, AttemptRecord, CallId, Code, FailureKind, ModelName, Money, ProviderName, StopReason,
    Timestamp, Usage,
};
use backstop_label::{Class, Effect};
use serde::Serialize;
use std::time::Duration;

/// One thing that happened, placed where it began.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// When it began.
    pub at: Timestamp,
    /// How long after the run's creation.
    pub after: Duration,
    /// The event it began with.
    pub seq: Seq,
    /// What it is.
    pub moment: Moment,
}

/// What a row is about.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Moment {
    /// A process took the run over.
    Claimed {
        /// The process.
        owner: String,
        /// How often the run has been claimed.
        epoch: Epoch,
    },
    /// The run began to wait.
    Parked {
        /// Why.
        reason: ParkReason,
        /// When it may go on by itself.
        until: Option<Timestamp>,
    },
    /// The run waits for a worker.
    Queued {
        /// Since when it may have one.
        due: Timestamp,
    },
    /// The run went on.
    Resumed {
        /// The limits from here on.
        limits: RunLimits,
    },
    /// What the run said at length was erased.
    Erased(RunErased),
    /// The run ended, or stopped at a limit.
    Finished {
        /// How.
        status: RunStatus,
        /// Why, when it is not done.
        code: Option<Code>,
        /// In words.
        message: String,
    },
    /// A budget passed a threshold.
    BudgetWarned {
        /// The account.
        account: String,
        /// The threshold.
        percent: u32,
        /// What is spent.
        spent: Money,
        /// The limit.
        limit: Money,
    },
    /// A model call.
    Call(CallRow),
    /// A tool call.
    Tool(ToolRow),
}

/// A model call with its attempts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CallRow {
    /// The call.
    pub call: CallId,
    /// The turn of the run, from 1.
    pub turn: u32,
    /// The model or chain that was asked. `None` when the journal does not tell how the call began.
    pub model: Option<ModelName>,
    /// The size of the input, estimated.
    pub input_tokens: u64,
    /// When it began.
    pub started: Timestamp,
    /// The provider that answered, or that failed last.
    pub provider: Option<ProviderName>,
    /// The model that answered, as the provider names it.
    pub answered_by: Option<String>,
    /// Every attempt that is known of, in order.
    pub attempts: Vec<AttemptRecord>,
    /// How it ended.
    pub outcome: CallOutcome,
    /// What all attempts cost together, suspense included.
    pub cost: Money,
    /// From its start to its end, waits included; zero while it is open.
    pub duration: Duration,
}

/// How a model call ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum CallOutcome {
    /// Not yet.
    Open,
    /// The process that made it died. What it may have cost is in suspense.
    Interrupted,
    /// It was answered.
    Answered {
        /// Why the model stopped.
        stop: StopReason,
        /// What it used.
        usage: Usage,
        /// From sending the request that was answered to its first content.
        first_token: Option<Duration>,
        /// The answer.
        content: Body,
    },
    /// It failed for good.
    Failed {
        /// What went wrong.
        kind: FailureKind,
        /// The code a user can look up.
        code: Code,
        /// In words.
        message: String,
    },
}

/// A tool call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ToolRow {
    /// The id of the model's tool call.
    pub id: String,
    /// The tool.
    pub tool: String,
    /// What a crash allows.
    pub class: Class,
    /// The arguments.
    pub args: Body,
    /// When it was dispatched last.
    pub started: Option<Timestamp>,
    /// How often it was dispatched.
    pub dispatches: u32,
    /// What a person is shown of it: a text, or nothing.
    pub preview: Body,
    /// How far it reaches, where a tool said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// Whether it can be taken back.
    pub reversible: bool,
    /// Why a person is asked before it, or would be in a run that is not dry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asks: Option<String>,
    /// The tool call that it takes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undoes: Option<String>,
    /// What was asked about it, and what was answered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<Question>,
    /// How it ended.
    pub outcome: ToolOutcome,
    /// How long it took; zero until it came back.
    pub duration: Duration,
}

/// A question to a person.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Question {
    /// The question.
    pub approval: ApprovalId,
    /// Why it was asked.
    pub why: String,
    /// Until when it could be answered.
    pub expires: Timestamp,
    /// What was answered; `None` as long as nothing was.
    pub answer: Option<Answer>,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// When.
    pub at: Timestamp,
    /// What.
    pub decision: ApprovalDecision,
    /// By whom.
    pub by: String,
    /// By which way.
    pub channel: String,
}

/// How a tool call ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum ToolOutcome {
    /// It was not dispatched yet.
    Planned,
    /// It was dispatched and has not come back.
    Running,
    /// It came back.
    Finished {
        /// Whether with an error.
        is_error: bool,
        /// Whether a probe found this out after a crash.
        probed: bool,
        /// What the model is told.
        result: Body,
    },
    /// Whether it happened is not known, and a person must say.
    InDoubt {
        /// Why.
        reason: String,
    },
    /// A person said it.
    Resolved {
        /// What is true.
        decision: ToolDecision,
        /// Who said so.
        by: String,
        /// The result, when it happened.
        result: Option<Body>,
    },
}

impl CallRow {
    pub(super) fn start(started: &CallStarted, at: Timestamp) -> Self {
        Self {
            turn: started.turn,
            model: Some(started.model.clone()),
            input_tokens: started.input_tokens,
            ..Self::unheralded(&started.call, at)
        }
    }

    /// A call of which no beginning is told.
    pub(super) fn unheralded(call: &CallId, at: Timestamp) -> Self {
        Self {
            call: call.clone(),
            turn: 0,
            model: None,
            input_tokens: 0,
            started: at,
            provider: None,
            answered_by: None,
            attempts: Vec::new(),
            outcome: CallOutcome::Open,
            cost: Money::ZERO,
            duration: Duration::ZERO,
        }
    }

    /// Takes an attempt in. The call's last event tells of every attempt again: the later word counts.
    pub(super) fn attempt(&mut self, attempt: &AttemptRecord) {
        match self.attempts.iter_mut().find(|known| known.attempt == attempt.attempt) {
            Some(known) => known.clone_from(attempt),
            None => self.attempts.push(attempt.clone()),
        }
        self.attempts.sort_by_key(|attempt| attempt.attempt);
    }
}

impl ToolRow {
    pub(super) fn plan(planned: &ToolPlanned) -> Self {
        Self {
            id: planned.id.clone(),
            tool: planned.tool.clone(),
            class: planned.class,
            args: planned.args.clone(),
            preview: planned.preview.clone(),
            effect: planned.effect,
            asks: planned.asks.as_ref().map(ToString::to_string),
            reversible: !planned.undo.is_nothing(),
            undoes: planned.undoes.clone(),
            asked: Vec::new(),
            started: None,
            dispatches: 0,
            outcome: ToolOutcome::Planned,
            duration: Duration::ZERO,
        }
    }
}
