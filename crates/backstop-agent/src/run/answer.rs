//! A person answers a question of a parked run. The answer is durable before anything follows from it, and the run goes on
//! when it is resumed.

use super::drive::Drive;
use super::gate::hash_of_preview;
use super::{Agent, Claimed, RunError, RunOutcome};
use crate::state::{Question, ToolCall, hash_of};
use backstop_call::{ApprovalId, RunId};
use backstop_journal::Body;
use backstop_journal::event::{ApprovalDecided, ApprovalDecision};
use serde_json::Value;

/// What a person says to a question.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    /// The question's id, or a beginning of it that no other open question of the run has.
    pub approval: &'a str,
    /// What they say.
    pub answer: Answer<'a>,
    /// Who says so.
    pub by: &'a str,
    /// By which way: `terminal`, `api`, `page`.
    pub channel: &'a str,
}

/// An answer.
#[derive(Debug, Clone, Copy)]
pub enum Answer<'a> {
    /// Yes, to exactly what was asked.
    Approve,
    /// No, and why: the model is told.
    Deny(&'a str),
    /// Yes, with these arguments instead, and why.
    Edit {
        /// The arguments. They must fit the tool's schema and be within the rights of the run.
        args: &'a Value,
        /// The hash of the preview that was shown with them, in hex; see [`Agent::preview`].
        preview_hash: &'a str,
        /// Why: the model is told.
        reason: &'a str,
    },
}

/// What a call with other arguments would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// What a person is shown; empty where the arguments say all.
    pub text: String,
    /// Its hash, in hex: what a yes is bound to.
    pub hash: String,
    /// Whether it can be taken back.
    pub reversible: bool,
}

impl Agent {
    /// Answers an open question of a parked run. The first answer counts; the run goes on when it is resumed.
    ///
    /// # Errors
    /// `NoSuchQuestion` (there is none that is open, or it was answered), `Expired`, `Args` and `Forbidden` for an edit,
    /// `PreviewChanged`; `Owned` while another process works on the run.
    pub async fn answer(&self, run: &RunId, reply: Reply<'_>) -> Result<RunOutcome, RunError> {
        self.with_claim(run, async |mut claimed| {
            let (call, question) = open_question(run, &claimed, reply.approval)?;
            if question.is_over(self.clock.now()) {
                return Err(RunError::Expired { approval: question.approval, at: question.expires });
            }
            let decision = match reply.answer {
                Answer::Approve => ApprovalDecision::Approve,
                Answer::Deny(reason) => ApprovalDecision::Deny { reason: reason.into() },
                Answer::Edit { args, preview_hash, reason } => {
                    let preview = self.preview_of(run, &claimed, &call, args).await?;
                    if preview.hash != preview_hash {
                        return Err(RunError::PreviewChanged(Box::new(preview)));
                    }
                    ApprovalDecision::Edit {
                        args: Body::Inline(args.clone()),
                        args_hash: hash_of(args),
                        preview_hash: preview.hash,
                        reason: reason.into(),
                    }
                }
            };
            let decided = ApprovalDecided {
                approval: question.approval,
                id: call.id,
                decision,
                by: reply.by.to_owned(),
                channel: reply.channel.to_owned(),
                grant: None,
            };
            self.append_one(run, &mut claimed, decided.into()).await?;
            self.wake(run).await?;
            Ok(RunOutcome::of(run, &claimed.state, self.clock.now()))
        })
        .await
    }

    /// What the call of an open question would do with other arguments. Changes nothing.
    pub async fn preview(&self, run: &RunId, approval: &str, args: &Value) -> Result<Preview, RunError> {
        self.with_claim(run, async |claimed| {
            let (call, _) = open_question(run, &claimed, approval)?;
            self.preview_of(run, &claimed, &call, args).await
        })
        .await
    }

    async fn preview_of(
        &self,
        run: &RunId,
        claimed: &Claimed,
        call: &ToolCall,
        args: &Value,
    ) -> Result<Preview, RunError> {
        let drive: Drive<'_> =
            self.prepare(run, Claimed { epoch: claimed.epoch, state: claimed.state.clone() }).await?;
        let edited = ToolCall { args: args.clone(), ..call.clone() };
        let plan = drive.plan_alone(&edited).await.map_err(RunError::Edit)?;
        let hash = hash_of_preview(&plan.preview);
        Ok(Preview { text: plan.preview, hash, reversible: plan.undo.is_some() })
    }
}

pub(super) fn open_question(
    run: &RunId,
    claimed: &Claimed,
    prefix: &str,
) -> Result<(ToolCall, Question), RunError> {
    if claimed.state.status.is_final() {
        return Err(RunError::NoSuchQuestion { run: run.clone(), prefix: prefix.to_owned(), found: 0 });
    }
    let begins = |question: &ApprovalId| question.as_str().starts_with(prefix);
    let open: Vec<_> = claimed.state.questions().filter(|(_, question)| begins(&question.approval)).collect();
    match open[..] {
        [(call, question)] => Ok((call.clone(), question.clone())),
        _ => Err(RunError::NoSuchQuestion { run: run.clone(), prefix: prefix.to_owned(), found: open.len() }),
    }
}
