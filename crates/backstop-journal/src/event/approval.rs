//! Events of approvals and grants: who was asked what, who decided, and what was allowed beforehand. The questions of a run
//! stand in its own stream, so that asking, deciding and acting have one order; grants have a stream of their own.

use crate::{Body, FreeText};
use backstop_call::{AgentName, ApprovalId, GrantId, RunId, Timestamp};
use backstop_label::ConstraintText;
use serde::{Deserialize, Serialize};

/// The channel of an answer that nobody gave in time.
pub const EXPIRY: &str = "expiry";

/// A person is asked whether a tool call may be made. The call's `tool.planned` before it says what would happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalRequested {
    /// The question.
    pub approval: ApprovalId,
    /// The tool call.
    pub id: String,
    /// BLAKE3 of the arguments' JSON, in hex: the yes holds for these and no others.
    pub args_hash: String,
    /// BLAKE3 of the preview, in hex: the yes holds for what was shown and nothing else.
    pub preview_hash: String,
    /// Why it is asked, in words.
    pub why: FreeText,
    /// Until when it can be answered. After that the answer is no.
    pub expires: Timestamp,
}

/// A question was answered, once and for good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApprovalDecided {
    /// The question.
    pub approval: ApprovalId,
    /// The tool call.
    pub id: String,
    /// The answer.
    pub decision: ApprovalDecision,
    /// Who said so: a person's name, or `backstop` where nobody did.
    pub by: String,
    /// By which way: `terminal`, `api`, `page`; `grant` or `expiry` where nobody was asked or nobody answered.
    pub channel: String,
    /// The grant that answered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantId>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum ApprovalDecision {
    /// Yes, to exactly what was asked.
    Approve,
    /// No.
    Deny {
        /// Why: the model is told.
        reason: FreeText,
    },
    /// Yes, with other arguments.
    Edit {
        /// The arguments.
        args: Body,
        /// BLAKE3 of their JSON, in hex.
        args_hash: String,
        /// BLAKE3 of the preview that was shown with them, in hex.
        preview_hash: String,
        /// Why: the model is told.
        reason: FreeText,
    },
    /// The question no longer stands: what would happen has changed, or the rules have.
    Withdraw {
        /// Why.
        reason: FreeText,
    },
}

/// Calls of one kind need no further yes for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantCreated {
    /// The grant.
    pub grant: GrantId,
    /// For whom it holds.
    pub scope: GrantScope,
    /// The tool.
    pub tool: String,
    /// What its arguments may be.
    pub constraint: ConstraintText,
    /// How many calls.
    pub uses: u32,
    /// Until when.
    pub until: Timestamp,
    /// Who said so.
    pub by: String,
    /// By which way.
    pub channel: String,
}

/// For whom a grant holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GrantScope {
    /// One run.
    Run(RunId),
    /// Every run of an agent.
    Agent(AgentName),
}

/// A call asks for a use of a grant. It has it if it is among the first [`GrantCreated::uses`] that asked before the grant
/// ended: the order of the journal decides, so that no two processes can have the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantUsed {
    /// The grant.
    pub grant: GrantId,
    /// The run.
    pub run: RunId,
    /// The question that it is to answer.
    pub approval: ApprovalId,
}

/// A grant holds no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRevoked {
    /// The grant.
    pub grant: GrantId,
    /// Who said so.
    pub by: String,
    /// By which way.
    pub channel: String,
}
