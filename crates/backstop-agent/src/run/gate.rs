//! The gates of a run: whether a planned call goes, waits for a person, or is refused. The policy decides; what was asked
//! and answered stands in the run's journal.

use super::drive::Drive;
use super::tools::Dispatch;
use crate::state::{Answered, Stage, ToolCall, hash_of};
use crate::tool::Plan;
use backstop_call::{ApprovalId, Money, Timestamp};
use backstop_journal::event::{ApprovalDecided, ApprovalDecision, ApprovalRequested, EXPIRY};
use backstop_label::{Decision, Facts};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// Who answers where nobody does.
const NOBODY: &str = "backstop";

/// What becomes of a planned call.
pub(super) enum Pass {
    /// It is dispatched, and uses up this yes.
    Go(Option<ApprovalId>),
    /// A person is asked first.
    Ask {
        /// Why.
        why: String,
        /// How long the question stands.
        expires: Duration,
    },
    /// It is not made: what the model is told.
    Refuse(String),
}

/// BLAKE3 of a preview, in hex.
pub(crate) fn hash_of_preview(preview: &str) -> String {
    blake3::hash(preview.as_bytes()).to_hex().to_string()
}

impl Drive<'_> {
    /// Whether the rights of the run allow this call, before it is known what it would do. The error is for the model.
    pub(super) fn permit(&self, call: &ToolCall, ready: &Dispatch) -> Result<(), String> {
        let facts = self.facts(call, ready, None);
        let permitted = self.agent.policy.permit(&facts, &self.bounds);
        permitted.map_err(|lacking| forbidden(&call.tool, &lacking.to_string()))
    }

    /// What becomes of a call, now that it is known what it would do. An earlier yes holds only for the same arguments, the
    /// same preview, as long as it stands, and as long as the rules do not forbid the call.
    pub(super) fn pass(&self, call: &ToolCall, ready: &Dispatch, plan: &Plan) -> Pass {
        let facts = self.facts(call, ready, Some(plan));
        let decision = self.agent.policy.decide(&facts, &self.bounds);
        let answered = match &call.stage {
            Stage::Answered(answered) => Some(answered),
            _ => None,
        };
        match (decision, answered) {
            (Decision::Deny { why }, _) => Pass::Refuse(forbidden(&call.tool, &why)),
            (Decision::Run, answered) => {
                Pass::Go(answered.map(|answered| answered.question.approval.clone()))
            }
            (Decision::Ask { why, expires }, None) => Pass::Ask { why, expires },
            (Decision::Ask { why, expires }, Some(answered)) => {
                match void(answered, &call.args, plan, self.now()) {
                    None => Pass::Go(Some(answered.question.approval.clone())),
                    Some(reason) => Pass::Ask { why: format!("{reason}; {why}"), expires },
                }
            }
        }
    }

    /// What a call would do, by itself: nothing of it is noted. The error is for whoever wants to make it.
    pub(super) async fn plan_alone(&self, call: &ToolCall) -> Result<Plan, String> {
        let ready = self.ready(call)?;
        self.permit(call, &ready)?;
        let plan = self.plan(&ready, &mut BTreeSet::new()).await;
        let plan = plan.unwrap_or_else(|| Err("it cannot be worked out now".to_owned()))?;
        match self.pass(call, &ready, &plan) {
            Pass::Refuse(reason) => Err(reason),
            Pass::Go(_) | Pass::Ask { .. } => Ok(plan),
        }
    }

    /// Asks a person about a planned call.
    pub(super) fn put_question(&mut self, call: &ToolCall, plan: &Plan, why: String, expires: Duration) {
        let now = self.now();
        self.note(ApprovalRequested {
            approval: ApprovalId::new(now, self.agent.seed.next_u64()),
            id: call.id.clone(),
            args_hash: hash_of(&call.args),
            preview_hash: hash_of_preview(&plan.preview),
            why: why.into(),
            expires: now + expires,
        });
    }

    /// What a call is told to the model when a person, or the time, has said no. `None` when nobody has.
    pub(super) fn denial(&mut self, call: &ToolCall) -> Option<String> {
        match &call.stage {
            Stage::Asking(question) => {
                self.note(ApprovalDecided {
                    approval: question.approval.clone(),
                    id: call.id.clone(),
                    decision: ApprovalDecision::Deny { reason: "nobody answered in time".into() },
                    by: NOBODY.to_owned(),
                    channel: EXPIRY.to_owned(),
                    grant: None,
                });
                Some(denied(&call.tool, "nobody answered in time"))
            }
            Stage::Answered(Answered { decision: ApprovalDecision::Deny { reason }, .. }) => {
                Some(denied(&call.tool, reason))
            }
            _ => None,
        }
    }

    pub(super) fn facts<'a>(
        &'a self,
        call: &'a ToolCall,
        ready: &'a Dispatch,
        plan: Option<&Plan>,
    ) -> Facts<'a> {
        let declared = ready.tool.declaration().effect;
        let created = self.state.created.as_ref();
        Facts {
            tool: &call.tool,
            args: &call.args,
            class: ready.class,
            effect: plan.and_then(|plan| plan.effect).map_or(declared, |effect| effect.max(declared)),
            reversible: plan.is_none_or(|plan| plan.undo.is_some()),
            labels: &call.labels,
            role: created.map_or("", |created| created.role.as_str()),
            agent: created.map_or("", |created| created.agent.as_str()),
            cost_nanos: self.state.spent().cost.nanos(),
            call_cost_nanos: self.call_cost(call).map(Money::nanos),
        }
    }
}

/// Why a yes does not hold for what would happen now.
fn void(answered: &Answered, args: &Value, plan: &Plan, now: Timestamp) -> Option<&'static str> {
    let question = &answered.question;
    if question.args_hash != hash_of(args) {
        Some("the arguments are not those of the yes")
    } else if question.preview_hash != hash_of_preview(&plan.preview) {
        Some("what it would do has changed since the yes")
    } else if question.is_over(now) {
        Some("the yes has expired")
    } else {
        None
    }
}

fn forbidden(tool: &str, why: &str) -> String {
    format!(
        "Refused: {tool} may not be called like this: {why}. Do not try it again; do the task without it, or call finish \
         and say what is missing."
    )
}

fn denied(tool: &str, reason: &str) -> String {
    let reason = if reason.trim().is_empty() { "no reason was given" } else { reason.trim() };
    format!(
        "Refused by a person: {reason}. {tool} was not called. Do not try the same again; do the task another way, or \
         call finish and say what is missing."
    )
}
