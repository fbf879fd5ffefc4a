//! Grants: a person allows the rest of a kind beforehand, for a run or an agent, so often and so long. A call that a grant
//! answers has its question and its answer in the journal like any other.

use super::drive::Drive;
use super::tools::Dispatch;
use super::{Agent, RunError};
use crate::state::{Question, ToolCall, hash_of};
use crate::tool::Plan;
use backstop_call::{ApprovalId, GrantId, RunId};
use backstop_journal::event::{
    ApprovalDecided, ApprovalDecision, ApprovalRequested, GrantCreated, GrantRevoked, GrantScope, GrantUsed,
};
use backstop_journal::projections::grants::Grants;
use backstop_journal::{Append, Durability, EventBody, JournalError, StreamId};
use backstop_label::{ArgRole, Constraint, ConstraintText, Declaration, Pattern};
use serde_json::Value;
use std::time::Duration;

/// What a person allows beside the call they were asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rest {
    /// How many calls of the same kind.
    pub uses: u32,
    /// For how long.
    pub span: Duration,
    /// For every run of the agent, and not only for this one.
    pub agent: bool,
}

impl Agent {
    /// Allows the rest of the kind of call that a question is about: the same tool, to the same recipients and places, up to
    /// the same amounts. The question itself stays open.
    pub async fn grant(
        &self,
        run: &RunId,
        approval: &str,
        rest: &Rest,
        (by, channel): (&str, &str),
    ) -> Result<GrantCreated, RunError> {
        self.with_claim(run, async |claimed| {
            let (call, _): (ToolCall, Question) = super::answer::open_question(run, &claimed, approval)?;
            let registered = self.tools.find(&call.tool);
            let unknown = || RunError::UnknownTool { tool: call.tool.clone(), known: String::new() };
            let registered = registered.ok_or_else(unknown)?;
            let created =
                claimed.state.created.as_ref().ok_or_else(|| JournalError::NotFound(run.clone()))?;
            let now = self.clock.now();
            let granted = GrantCreated {
                grant: GrantId::new(now, self.seed.next_u64()),
                scope: if rest.agent {
                    GrantScope::Agent(created.agent.clone())
                } else {
                    GrantScope::Run(run.clone())
                },
                tool: call.tool.clone(),
                constraint: same_kind(registered.tool.declaration(), &registered.spec.schema, &call.args),
                uses: rest.uses,
                until: now + rest.span,
                by: by.to_owned(),
                channel: channel.to_owned(),
            };
            self.append_grant(granted.clone().into()).await?;
            Ok(granted)
        })
        .await
    }

    /// Every grant there ever was.
    pub async fn grants(&self) -> Result<Grants, RunError> {
        Ok(Grants::fold(&self.journal.read(&StreamId::Grants, 0).await?))
    }

    /// Ends a grant. What it answered before stays answered.
    pub async fn revoke(&self, grant: &GrantId, (by, channel): (&str, &str)) -> Result<(), RunError> {
        let revoked = GrantRevoked { grant: grant.clone(), by: by.to_owned(), channel: channel.to_owned() };
        self.append_grant(revoked.into()).await
    }

    async fn append_grant(&self, event: EventBody) -> Result<(), RunError> {
        let (events, at) = (vec![event], self.clock.now());
        let durability = Durability::Synced;
        let append = Append { stream: StreamId::Grants, epoch: None, events, at, durability };
        self.journal.append(append).await?;
        Ok(())
    }
}

impl Drive<'_> {
    /// Answers a question by a grant, if there is one for such a call. The use is durable before the answer is: a crash in
    /// between costs a use and allows nothing.
    pub(super) async fn answer_by_grant(
        &mut self,
        call: &ToolCall,
        ready: &Dispatch,
        plan: &Plan,
        why: &str,
    ) -> Result<Option<ApprovalId>, RunError> {
        let Some((grant, by, until)) = self.grant_for(call, ready, plan).await? else { return Ok(None) };
        let approval = ApprovalId::new(self.now(), self.agent.seed.next_u64());
        let used = GrantUsed { grant: grant.clone(), run: self.run.clone(), approval: approval.clone() };
        self.agent.append_grant(used.into()).await?;
        if !self.agent.grants().await?.answered(&grant, &approval) {
            return Ok(None);
        }
        self.note(ApprovalRequested {
            approval: approval.clone(),
            id: call.id.clone(),
            args_hash: hash_of(&call.args),
            preview_hash: super::gate::hash_of_preview(&plan.preview),
            why: why.into(),
            expires: until,
        });
        self.note(ApprovalDecided {
            approval: approval.clone(),
            id: call.id.clone(),
            decision: ApprovalDecision::Approve,
            by,
            channel: "grant".to_owned(),
            grant: Some(grant),
        });
        Ok(Some(approval))
    }

    async fn grant_for(
        &self,
        call: &ToolCall,
        ready: &Dispatch,
        plan: &Plan,
    ) -> Result<Option<(GrantId, String, backstop_call::Timestamp)>, RunError> {
        let grants = self.agent.grants().await?;
        let Some(created) = &self.state.created else { return Ok(None) };
        let facts = self.facts(call, ready, Some(plan));
        let permits = |text: &ConstraintText| {
            // A constraint that cannot be read allows nothing.
            Constraint::parse(text).is_ok_and(|constraint| constraint.permit(&facts).is_ok())
        };
        let mut good = grants.good_for((&self.run, &created.agent), &call.tool, self.now());
        let found = good.find(|grant| permits(&grant.created.constraint)).map(|grant| &grant.created);
        Ok(found.map(|grant| (grant.grant.clone(), grant.by.clone(), grant.until)))
    }
}

/// What makes another call one of the same kind: every recipient and place is one of those that this call names, and every
/// amount at most its own. What it leaves out stays left out.
fn same_kind(declaration: &Declaration, schema: &Value, args: &Value) -> ConstraintText {
    let mut constraint = ConstraintText::default();
    let mut conditions = Vec::new();
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    for (arg, _) in properties {
        let value = args.get(arg);
        match declaration.role_of(arg) {
            ArgRole::Sink => {
                constraint.args.insert(arg.clone(), value.map(exactly).unwrap_or_default());
            }
            ArgRole::Amount => {
                let name = Value::from(arg.as_str());
                let most = value.filter(|value| value.is_number());
                let within =
                    most.map_or_else(|| "false".to_owned(), |most| format!("args[{name}] <= {most}"));
                conditions.push(format!("(!({name} in args) || {within})"));
            }
            ArgRole::Object
            | ArgRole::Value
            | ArgRole::Content
            | ArgRole::Time
            | ArgRole::Flag
            | ArgRole::Query => {}
        }
    }
    constraint.when = (!conditions.is_empty()).then(|| conditions.join(" && "));
    constraint
}

/// The patterns that fit the values of an argument and no others.
fn exactly(value: &Value) -> Vec<String> {
    match value {
        Value::Array(elements) => elements.iter().flat_map(exactly).collect(),
        Value::Null => Vec::new(),
        Value::String(text) => vec![Pattern::exactly(text)],
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => vec![Pattern::exactly(&value.to_string())],
    }
}
