//! Who did what, and when.
//!
//! One row per event, in the order of its stream. The rows say which object was acted on, never what was in it: bodies
//! may be erased, rows stay the same.

use crate::event::{
    ApprovalDecided, ApprovalDecision, Asked, EXPIRY, GrantScope, ParkReason, RETENTION, ToolDecision,
};
use crate::{Event, EventBody, Seq, StreamId};
use backstop_call::{Role, Timestamp};
use serde::Serialize;

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "name")]
pub enum Actor {
    /// An agent, acting in a role.
    Agent(Role),
    /// A person, by the name they decided under.
    Person(String),
    /// A process of Backstop's.
    Process(String),
    /// Backstop itself.
    Backstop,
}

/// One act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditRow {
    /// When.
    pub at: Timestamp,
    /// The stream it stands in.
    pub stream: StreamId,
    /// Its number there.
    pub seq: Seq,
    /// Who.
    pub who: Actor,
    /// What: the event's kind.
    pub what: &'static str,
    /// What it was done to or with: a call, a tool call, an account.
    pub object: String,
    /// How: the words that tell this act from others of its kind.
    pub detail: String,
    /// Its link in the chain, in hex.
    pub hash: String,
}

/// The rows of one stream, from its first event on. Whether its chain is whole, [`crate::verify`] says.
pub fn rows<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<AuditRow> {
    rows_in_role(events, None)
}

/// The rows of some events of one stream, whose run acts in a role that is known already.
pub fn rows_in_role<'a>(
    events: impl IntoIterator<Item = &'a Event>,
    mut role: Option<Role>,
) -> Vec<AuditRow> {
    let row = |event: &Event| {
        if let EventBody::RunCreated(created) = &event.body {
            role = Some(created.role.clone());
        }
        let (object, detail) = object_and_detail(&event.body);
        AuditRow {
            at: event.at,
            stream: event.stream.clone(),
            seq: event.seq,
            who: actor(&event.body, role.as_ref()),
            what: event.body.kind(),
            object,
            detail,
            hash: event.hash.to_string(),
        }
    };
    events.into_iter().map(row).collect()
}

fn actor(body: &EventBody, role: Option<&Role>) -> Actor {
    let agent = |own: Option<&Role>| own.or(role).cloned().map_or(Actor::Backstop, Actor::Agent);
    match body {
        EventBody::RunClaimed(event) => Actor::Process(event.owner.clone()),
        EventBody::LeaseGranted(event) => Actor::Process(event.owner.clone()),
        EventBody::LeaseClosed(event) => Actor::Process(event.owner.clone()),
        EventBody::MoneyReserved(event) => Actor::Process(event.owner.clone()),
        EventBody::MoneyMoved(event) => Actor::Process(event.owner.clone()),
        EventBody::ToolResolved(event) => Actor::Person(event.by.clone()),
        EventBody::ApprovalDecided(event) => decider(event),
        EventBody::GrantCreated(event) => Actor::Person(event.by.clone()),
        EventBody::GrantRevoked(event) => Actor::Person(event.by.clone()),
        EventBody::AlertSilenced(event) => Actor::Person(event.by.clone()),
        EventBody::AlertUnsilenced(event) => Actor::Person(event.by.clone()),
        EventBody::AlertAcknowledged(event) => Actor::Person(event.by.clone()),
        EventBody::RunErased(event) if event.by == RETENTION => Actor::Backstop,
        EventBody::RunErased(event) => Actor::Person(event.by.clone()),
        EventBody::JobPaused(event) => Actor::Person(event.by.clone()),
        EventBody::JobResumed(event) => Actor::Person(event.by.clone()),
        EventBody::JobStarted(event) => event.by.clone().map_or(Actor::Backstop, Actor::Person),
        EventBody::KeyCreated(event) => Actor::Person(event.by.clone()),
        EventBody::KeyRotated(event) => Actor::Person(event.by.clone()),
        EventBody::KeyRevoked(event) => Actor::Person(event.by.clone()),
        EventBody::CallStarted(event) => agent(event.role.as_ref()),
        EventBody::CallFinished(event) => agent(role_in(event.asked.as_ref())),
        EventBody::CallFailed(event) => agent(role_in(event.asked.as_ref())),
        EventBody::RunCreated(_)
        | EventBody::AttemptFailed(_)
        | EventBody::ToolPlanned(_)
        | EventBody::ToolStarted(_)
        | EventBody::ToolFinished(_) => agent(None),
        EventBody::RunParked(_)
        | EventBody::RunQueued(_)
        | EventBody::RunResumed(_)
        | EventBody::RunFinished(_)
        | EventBody::BreakerChanged(_)
        | EventBody::ToolUnknown(_)
        | EventBody::ApprovalRequested(_)
        | EventBody::GrantUsed(_)
        | EventBody::MoneySettled(_)
        | EventBody::MoneyVoided(_)
        | EventBody::MoneySuspended(_)
        | EventBody::MoneyCorrected(_)
        | EventBody::BudgetWarned(_)
        | EventBody::KeyFirstUsedFrom(_)
        | EventBody::AlertFired(_)
        | EventBody::AlertResolved(_)
        | EventBody::AlertQueued(_)
        | EventBody::AlertDelivered(_)
        | EventBody::AlertLost(_)
        | EventBody::JobDefined(_)
        | EventBody::JobDropped(_)
        | EventBody::JobSkipped(_) => Actor::Backstop,
    }
}

/// Who answered: nobody, where a grant, the time or a change of the rules did.
fn decider(event: &ApprovalDecided) -> Actor {
    let nobody = event.grant.is_some() || matches!(event.decision, ApprovalDecision::Withdraw { .. });
    if nobody || event.channel == EXPIRY { Actor::Backstop } else { Actor::Person(event.by.clone()) }
}

fn role_in(asked: Option<&Asked>) -> Option<&Role> {
    asked.and_then(|asked| asked.role.as_ref())
}

fn object_and_detail(body: &EventBody) -> (String, String) {
    match body {
        EventBody::RunCreated(event) => (
            event.task.to_string(),
            format!("agent {} ({}) in {}", event.agent, event.agent_hash, event.workspace),
        ),
        EventBody::RunClaimed(_) => (String::new(), String::new()),
        EventBody::RunParked(event) => (String::new(), parked_for(event.reason).to_owned()),
        EventBody::RunQueued(event) => (String::new(), format!("{} tries", event.terms.tries)),
        EventBody::RunResumed(event) => (String::new(), format!("{} turns", event.limits.turns)),
        EventBody::RunFinished(event) => (String::new(), event.status.as_str().to_owned()),
        EventBody::RunErased(event) => {
            (String::new(), format!("{} bodies, {} bytes: {}", event.bodies, event.bytes, event.reason))
        }
        EventBody::CallStarted(_)
        | EventBody::AttemptFailed(_)
        | EventBody::CallFinished(_)
        | EventBody::CallFailed(_) => call_object_and_detail(body),
        EventBody::BreakerChanged(event) => {
            (format!("{} {}", event.provider, event.model), format!("{} to {}", event.from, event.to))
        }
        EventBody::ToolPlanned(event) => {
            // Of arguments that were erased there is no hash, either.
            (event.id.clone(), format!("{} {}", event.tool, event.args_hash()).trim_end().to_owned())
        }
        EventBody::ToolStarted(event) => (event.id.clone(), format!("dispatch {}", event.attempt)),
        EventBody::ToolFinished(event) => {
            (event.id.clone(), if event.is_error { "error" } else { "ok" }.to_owned())
        }
        EventBody::ToolUnknown(event) => (event.id.clone(), event.reason.to_string()),
        EventBody::ToolResolved(event) => (event.id.clone(), decided(event.decision).to_owned()),
        EventBody::ApprovalRequested(event) => {
            (event.id.clone(), format!("{}: {}, until {}", event.approval, event.why, event.expires))
        }
        EventBody::ApprovalDecided(event) => (event.id.clone(), answered(event)),
        EventBody::GrantCreated(_) | EventBody::GrantUsed(_) | EventBody::GrantRevoked(_) => {
            grant_object_and_detail(body)
        }
        EventBody::KeyCreated(event) => (event.key.to_string(), format!("{}: {}", event.prefix, event.scope)),
        EventBody::KeyRotated(event) => {
            (event.key.to_string(), format!("{}, the old secret until {}", event.prefix, event.old_until))
        }
        EventBody::KeyRevoked(event) => (event.key.to_string(), String::new()),
        EventBody::KeyFirstUsedFrom(event) => (event.key.to_string(), event.address.to_string()),
        EventBody::AlertFired(_)
        | EventBody::AlertResolved(_)
        | EventBody::AlertQueued(_)
        | EventBody::AlertDelivered(_)
        | EventBody::AlertLost(_)
        | EventBody::AlertSilenced(_)
        | EventBody::AlertUnsilenced(_)
        | EventBody::AlertAcknowledged(_) => alert_object_and_detail(body),
        EventBody::JobDefined(_)
        | EventBody::JobDropped(_)
        | EventBody::JobStarted(_)
        | EventBody::JobSkipped(_)
        | EventBody::JobPaused(_)
        | EventBody::JobResumed(_) => job_object_and_detail(body),
        EventBody::LeaseGranted(_)
        | EventBody::LeaseClosed(_)
        | EventBody::MoneyReserved(_)
        | EventBody::MoneySettled(_)
        | EventBody::MoneyMoved(_)
        | EventBody::MoneyVoided(_)
        | EventBody::MoneySuspended(_)
        | EventBody::MoneyCorrected(_)
        | EventBody::BudgetWarned(_) => money_object_and_detail(body),
    }
}

fn call_object_and_detail(body: &EventBody) -> (String, String) {
    match body {
        EventBody::CallStarted(event) => (event.call.to_string(), event.model.to_string()),
        EventBody::AttemptFailed(event) => {
            let kind = event.attempt.failure.map_or("ok", backstop_call::FailureKind::as_str);
            (event.call.to_string(), format!("{} {}: {kind}", event.attempt.provider, event.attempt.model))
        }
        EventBody::CallFinished(event) => {
            (event.call.to_string(), format!("{} {}, {}", event.provider, event.model, event.cost))
        }
        EventBody::CallFailed(event) => {
            (event.call.to_string(), format!("{}, {}", event.failure.kind.as_str(), event.cost))
        }
        _ => (String::new(), String::new()),
    }
}

fn grant_object_and_detail(body: &EventBody) -> (String, String) {
    match body {
        EventBody::GrantCreated(event) => {
            let scope = match &event.scope {
                GrantScope::Run(run) => format!("run {run}"),
                GrantScope::Agent(agent) => format!("agent {agent}"),
            };
            let detail = format!(
                "{} calls of {} for {scope} until {}, by {}",
                event.uses, event.tool, event.until, event.channel
            );
            (event.grant.to_string(), detail)
        }
        EventBody::GrantUsed(event) => {
            (event.grant.to_string(), format!("run {} for {}", event.run, event.approval))
        }
        EventBody::GrantRevoked(event) => (event.grant.to_string(), format!("by {}", event.channel)),
        _ => (String::new(), String::new()),
    }
}

fn alert_object_and_detail(body: &EventBody) -> (String, String) {
    match body {
        EventBody::AlertFired(event) => {
            (event.alert.clone(), format!("{} {}: {}", event.severity.as_str(), event.rule, event.summary))
        }
        EventBody::AlertResolved(event) => (event.alert.clone(), String::new()),
        EventBody::AlertAcknowledged(event) => (event.alert.clone(), String::new()),
        EventBody::AlertQueued(event) => {
            let (firing, resolved) = (event.firing.len(), event.resolved.len());
            let detail = format!("{} to {}: {firing} fire, {resolved} are over", event.group, event.receiver);
            (event.notice.clone(), detail)
        }
        EventBody::AlertDelivered(event) => (event.notice.clone(), format!("attempt {}", event.attempts)),
        EventBody::AlertLost(event) => {
            (event.notice.clone(), format!("after {} attempts: {}", event.attempts, event.reason))
        }
        EventBody::AlertSilenced(event) => {
            let fits: Vec<_> = event.matchers.iter().map(|(name, value)| format!("{name}={value}")).collect();
            (event.silence.clone(), format!("{} until {}: {}", fits.join(" "), event.until, event.reason))
        }
        EventBody::AlertUnsilenced(event) => (event.silence.clone(), String::new()),
        _ => (String::new(), String::new()),
    }
}

fn job_object_and_detail(body: &EventBody) -> (String, String) {
    match body {
        EventBody::JobDefined(event) => {
            (event.job.to_string(), format!("{}, {}", event.schedule, event.timezone))
        }
        EventBody::JobDropped(event) => (event.job.to_string(), String::new()),
        EventBody::JobStarted(event) => (event.job.to_string(), format!("{}, run {}", event.task, event.run)),
        EventBody::JobSkipped(event) => {
            let times = format!("{} to {}, {} in all", event.first, event.last, event.times);
            (event.job.to_string(), format!("{}: {times}", event.why.as_str()))
        }
        EventBody::JobPaused(event) => (event.job.to_string(), event.reason.clone()),
        EventBody::JobResumed(event) => (event.job.to_string(), String::new()),
        _ => (String::new(), String::new()),
    }
}

fn money_object_and_detail(body: &EventBody) -> (String, String) {
    let shares = |shares: &[(String, backstop_call::Money)]| {
        shares.iter().map(|(account, amount)| format!("{account} {amount}")).collect::<Vec<_>>().join(", ")
    };
    match body {
        EventBody::LeaseGranted(event) => (event.owner.clone(), shares(&event.shares)),
        EventBody::LeaseClosed(event) => (event.owner.clone(), shares(&event.shares)),
        EventBody::MoneyReserved(event) => (event.reservation.to_string(), event.amount.to_string()),
        EventBody::MoneySettled(event) => (event.reservation.to_string(), event.cost.to_string()),
        EventBody::MoneyMoved(event) => {
            (event.owner.clone(), format!("{} attempts, {}", event.attempts(), event.cost()))
        }
        EventBody::MoneyVoided(event) => (event.reservation.to_string(), String::new()),
        EventBody::MoneySuspended(event) => {
            (event.reservation.to_string(), format!("{}, {}", event.amount, event.reason))
        }
        EventBody::MoneyCorrected(event) => (event.reservation.to_string(), event.cost.to_string()),
        EventBody::BudgetWarned(event) => {
            (event.account.clone(), format!("{} % of {}", event.percent, event.limit))
        }
        _ => (String::new(), String::new()),
    }
}

/// The words of an answer: what was said, by which way, and to what.
fn answered(event: &ApprovalDecided) -> String {
    let said = match &event.decision {
        ApprovalDecision::Approve => "yes".to_owned(),
        ApprovalDecision::Deny { reason } => format!("no: {reason}"),
        ApprovalDecision::Edit { args_hash, .. } => format!("yes, with arguments {args_hash}"),
        ApprovalDecision::Withdraw { reason } => format!("withdrawn: {reason}"),
    };
    let grant = event.grant.as_ref().map_or_else(String::new, |grant| format!(" {grant}"));
    format!("{}: {said}, by {}{grant}", event.approval, event.channel)
}

fn parked_for(reason: ParkReason) -> &'static str {
    match reason {
        ParkReason::InDoubt => "in doubt",
        ParkReason::Approval => "until a person says yes or no",
        ParkReason::Wait => "until the provider is ready",
        ParkReason::Child => "until a run that does a part for it goes on",
    }
}

fn decided(decision: ToolDecision) -> &'static str {
    match decision {
        ToolDecision::Happened => "it happened",
        ToolDecision::RunIt => "it did not, run it",
        ToolDecision::Unknown => "nobody knows",
    }
}
