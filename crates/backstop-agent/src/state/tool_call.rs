//! A tool call as the fold knows it: what was asked, and how far it is.

use super::{Answered, Question, Repeat};
use crate::delegation::DELEGATE;
use backstop_call::{Block, Labels, RunId};
use backstop_journal::event::ToolPlanned;
use backstop_label::Class;
use serde_json::Value;

/// A tool call.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// Its id, unique in the run.
    pub id: String,
    /// The tool.
    pub tool: String,
    /// The arguments, as the model gave them.
    pub args: Value,
    /// What its arguments were made from.
    pub labels: Labels,
    /// Who changed its arguments, and why.
    pub edited: Option<(String, String)>,
    /// Whether it stands in a truncated answer: its arguments may be cut.
    pub truncated: bool,
    /// What was worked out before it was dispatched.
    pub planned: Option<ToolPlanned>,
    /// Whether it was dispatched.
    pub dispatched: bool,
    /// What the loop guard said.
    pub repeat: Repeat,
    /// How far it is.
    pub stage: Stage,
}

/// How far a tool call is.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    /// The model asked for it.
    Asked,
    /// It was worked out, and not dispatched.
    Planned,
    /// A person is asked whether it may be made.
    Asking(Question),
    /// They answered.
    Answered(Answered),
    /// It was dispatched, this often. Whether it took effect is not known until it is finished.
    Started {
        /// 1 for the first dispatch.
        attempt: u32,
    },
    /// It is in doubt.
    Unknown {
        /// The dispatches so far.
        attempt: u32,
        /// Why.
        reason: String,
    },
    /// A person said that it did not happen and is to be run.
    Again {
        /// The dispatches so far.
        attempt: u32,
    },
    /// It came back. What it said has gone into the conversation when `content` is empty.
    Finished {
        /// Whether it failed.
        is_error: bool,
        /// What the model is told.
        content: Vec<Block>,
        /// The labels of that.
        labels: Labels,
    },
}

impl ToolCall {
    /// The call that takes another one back, as it was planned.
    pub(super) fn undoing(planned: &ToolPlanned) -> Self {
        Self {
            id: planned.id.clone(),
            tool: planned.tool.clone(),
            args: Value::Null,
            labels: planned.labels.clone(),
            edited: None,
            truncated: false,
            planned: Some(planned.clone()),
            dispatched: false,
            repeat: Repeat::Fine,
            stage: Stage::Planned,
        }
    }

    /// Whether this is a call that takes that one back.
    pub fn undoes(&self, id: &str) -> bool {
        self.planned.as_ref().is_some_and(|planned| planned.undoes.as_deref() == Some(id))
    }

    /// Whether it changed something. A run that did a part may have changed something before it failed.
    pub fn took_effect(&self) -> bool {
        let Stage::Finished { is_error, .. } = self.stage else { return false };
        (!is_error || self.tool == DELEGATE) && self.can_take_effect()
    }

    /// Whether it may have changed something, and nobody knows.
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Started { .. } | Stage::Unknown { .. }) && self.can_take_effect()
    }

    fn can_take_effect(&self) -> bool {
        self.dispatched && self.planned.as_ref().is_some_and(|planned| planned.class != Class::Read)
    }

    /// The tool with the hash of its arguments: what makes two calls the same.
    pub fn fingerprint(&self) -> String {
        format!("{} {}", self.tool, hash_of(&self.args))
    }

    /// Its idempotency key: the same at every attempt, and in no other run.
    pub fn key(&self, run: &RunId) -> String {
        let written = self.planned.as_ref().and_then(|planned| planned.key.clone());
        written.unwrap_or_else(|| key_of(run, &self.id))
    }

    /// How often it was dispatched.
    pub fn attempts(&self) -> u32 {
        match &self.stage {
            Stage::Started { attempt } | Stage::Unknown { attempt, .. } | Stage::Again { attempt } => {
                *attempt
            }
            Stage::Asked
            | Stage::Planned
            | Stage::Asking(_)
            | Stage::Answered(_)
            | Stage::Finished { .. } => 0,
        }
    }
}

/// The idempotency key of a call. Where it is made otherwise one day, `tool.planned` must say it: a call that was planned
/// before has this one.
pub(crate) fn key_of(run: &RunId, id: &str) -> String {
    let name = format!("{run} {id}");
    blake3::hash(name.as_bytes()).to_hex()[..32].to_owned()
}

/// BLAKE3 of a value's JSON, in hex.
pub(crate) fn hash_of(value: &Value) -> String {
    blake3::hash(value.to_string().as_bytes()).to_hex().to_string()
}
