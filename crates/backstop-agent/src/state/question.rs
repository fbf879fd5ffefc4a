//! What a person was asked about a tool call, and what they said.

use super::{RunState, Stage};
use backstop_call::{ApprovalId, Timestamp};
use backstop_journal::event::{ApprovalDecided, ApprovalDecision, ApprovalRequested};

/// A question that stands, or stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its id.
    pub approval: ApprovalId,
    /// BLAKE3 of the arguments it is about, in hex.
    pub args_hash: String,
    /// BLAKE3 of the preview it is about, in hex.
    pub preview_hash: String,
    /// Why it is asked.
    pub why: String,
    /// Until when it can be answered.
    pub expires: Timestamp,
}

/// A question with its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// The question.
    pub question: Question,
    /// The answer.
    pub decision: ApprovalDecision,
    /// Who gave it.
    pub by: String,
}

impl From<&ApprovalRequested> for Question {
    fn from(requested: &ApprovalRequested) -> Self {
        Self {
            approval: requested.approval.clone(),
            args_hash: requested.args_hash.clone(),
            preview_hash: requested.preview_hash.clone(),
            why: requested.why.to_string(),
            expires: requested.expires,
        }
    }
}

impl Question {
    /// Whether it can no longer be answered.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires <= now
    }

    /// The question with its answer. An answer with other arguments is a yes to those.
    pub(super) fn answered(&self, decided: &ApprovalDecided) -> Answered {
        let mut question = self.clone();
        if let ApprovalDecision::Edit { args_hash, preview_hash, .. } = &decided.decision {
            question.args_hash.clone_from(args_hash);
            question.preview_hash.clone_from(preview_hash);
        }
        Answered { question, decision: decided.decision.clone(), by: decided.by.clone() }
    }
}

impl RunState {
    /// A question is answered once, as long as it stands: what comes later finds the call at another stage.
    pub(super) fn answer_question(&mut self, decided: &ApprovalDecided) {
        let begin = self.turn_begin;
        let Some(call) = self.calls[begin..].iter_mut().find(|call| call.id == decided.id) else { return };
        let Stage::Asking(question) = &call.stage else { return };
        if question.approval != decided.approval {
            return;
        }
        match &decided.decision {
            ApprovalDecision::Withdraw { .. } => {
                call.stage = Stage::Planned;
                return;
            }
            ApprovalDecision::Edit { args, reason, .. } => {
                let Some(args) = args.value() else {
                    self.erased = true;
                    return;
                };
                call.args = args.clone();
                call.edited = Some((decided.by.clone(), reason.to_string()));
            }
            ApprovalDecision::Approve | ApprovalDecision::Deny { .. } => {}
        }
        call.stage = Stage::Answered(question.answered(decided));
    }
}
