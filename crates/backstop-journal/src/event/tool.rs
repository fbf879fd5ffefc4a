//! Events of tool calls: the effect protocol. `planned` may ride on the next commit; `started` is durable before the
//! tool is dispatched; `finished` or `unknown` follows.

use crate::{Body, FreeText};
use backstop_call::{ApprovalId, Labels, Money, Usage, span};
use backstop_label::{Class, Effect};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::time::Duration;

/// The model asked for a tool call, and what it would do was worked out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolPlanned {
    /// The id of the model's tool call. Unique in the run.
    pub id: String,
    /// The tool.
    pub tool: String,
    /// The arguments.
    pub args: Body,
    /// Their hash, where they do not stand here as they were: a secret was taken out. See [`ToolPlanned::args_hash`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args_hash: Option<String>,
    /// What a crash allows.
    pub class: Class,
    /// The idempotency key, the same at every attempt, where it does not follow from the run and the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What the tool needs to probe it, in a shape of its own: the state before, the state it means to leave.
    #[serde(default, skip_serializing_if = "Body::is_nothing")]
    pub plan: Body,
    /// How far the call reaches. `None` where no tool said so: in the first version, and of calls that are not made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// What a person is shown of it: a text. Nothing where the arguments say all.
    #[serde(default, skip_serializing_if = "Body::is_nothing")]
    pub preview: Body,
    /// What takes it back, in a shape of the tool's own: the state before. Nothing when it cannot be taken back.
    #[serde(default, skip_serializing_if = "Body::is_nothing")]
    pub undo: Body,
    /// Why a person is asked before it, or would be in a run that is not dry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks: Option<FreeText>,
    /// The tool call that this one takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<String>,
    /// The labels of what the arguments were made from.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

impl ToolPlanned {
    /// BLAKE3 of the arguments' JSON, in hex: what an approval is bound to.
    pub fn args_hash(&self) -> Cow<'_, str> {
        match &self.args_hash {
            Some(hash) => Cow::Borrowed(hash),
            None => self.args.hash(),
        }
    }
}

/// The tool is about to be dispatched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolStarted {
    /// The tool call.
    pub id: String,
    /// 1 for the first dispatch.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub attempt: u32,
    /// The yes that it was waiting for. It is used up by this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalId>,
}

fn first() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_first(attempt: &u32) -> bool {
    *attempt == first()
}

/// The tool came back, with a result or an error that the model is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolFinished {
    /// The tool call.
    pub id: String,
    /// Whether it failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_error: bool,
    /// What the model is told: a text or blocks.
    pub result: Body,
    /// All that came back, as blocks, where the model is told a part of it.
    #[serde(default, skip_serializing_if = "Body::is_nothing")]
    pub whole: Body,
    /// The labels of the result.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// How long it took.
    #[serde(with = "span")]
    pub duration: Duration,
    /// Whether this was found out by a probe after a crash, and not seen to happen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub probed: bool,
    /// What the run used that did it; `None` where no other run did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent: Option<Spent>,
}

/// What a run used, with the runs that did parts for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Dollars, suspense included.
    pub cost: Money,
    /// Tokens, by kind.
    pub usage: Usage,
}

impl Spent {
    /// Adds what another one used.
    pub fn add(&mut self, other: &Self) {
        self.cost += other.cost;
        self.usage.add(&other.usage);
    }
}

/// Whether the tool did it is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolUnknown {
    /// The tool call.
    pub id: String,
    /// Why: a crash, a timeout, a probe that could not tell.
    pub reason: FreeText,
}

/// What a person says about a call in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToolDecision {
    /// It happened; the result says with what outcome.
    Happened,
    /// It did not; run it.
    RunIt,
    /// Nobody knows; tell the model so.
    Unknown,
}

/// A person decided what is true about a call in doubt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolResolved {
    /// The tool call.
    pub id: String,
    /// What is true.
    pub decision: ToolDecision,
    /// Who said so.
    pub by: String,
    /// The result, when it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Body>,
}
