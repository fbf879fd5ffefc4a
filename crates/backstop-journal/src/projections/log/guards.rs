//! What the log says of money, keys, alerts and jobs.

use super::LogLine;
use crate::EventBody;
use crate::event::JobSkipped;
use backstop_call::Money;

pub(super) fn describe_money(line: &mut LogLine, body: &EventBody) {
    match body {
        EventBody::LeaseGranted(event) => line.message = format!("lease of {}", event.owner),
        EventBody::LeaseClosed(event) => line.message = format!("lease of {}", event.owner),
        EventBody::MoneyReserved(event) => line.cost(event.amount),
        EventBody::MoneySettled(event) => {
            line.cost(event.cost);
            if event.overrun > Money::ZERO {
                line.message = format!("{} over the worst case", event.overrun);
            }
        }
        EventBody::MoneyMoved(event) => {
            line.cost(event.cost());
            line.message = format!("{} attempts ended", event.attempts());
        }
        EventBody::MoneySuspended(event) => {
            line.cost(event.amount);
            line.message.clone_from(&event.reason);
        }
        EventBody::MoneyCorrected(event) => line.cost(event.cost),
        EventBody::BudgetWarned(event) => {
            line.run = event.run.clone().or(line.run.take());
            line.provider.clone_from(&event.provider);
            line.cost(event.spent);
            line.message = format!("{} passed {} % of {}", event.account, event.percent, event.limit);
        }
        _ => {}
    }
}

pub(super) fn describe_key(line: &mut LogLine, body: &EventBody) {
    match body {
        EventBody::KeyCreated(event) => {
            line.key = Some(event.key.clone());
            line.role.clone_from(&event.scope.role);
            line.message = format!("{} created by {}: {}", event.prefix, event.by, event.scope);
        }
        EventBody::KeyRotated(event) => {
            line.key = Some(event.key.clone());
            line.message =
                format!("{} made by {}, the old secret until {}", event.prefix, event.by, event.old_until);
        }
        EventBody::KeyRevoked(event) => {
            line.key = Some(event.key.clone());
            line.message = format!("revoked by {}", event.by);
        }
        EventBody::KeyFirstUsedFrom(event) => {
            line.key = Some(event.key.clone());
            line.message = format!("first used from {}", event.address);
        }
        _ => {}
    }
}

pub(super) fn describe_alert(line: &mut LogLine, body: &EventBody) {
    let (status, message) = match body {
        EventBody::AlertFired(event) => {
            (event.severity.as_str(), format!("{} {}: {}", event.alert, event.rule, event.summary))
        }
        EventBody::AlertResolved(event) => ("resolved", event.alert.clone()),
        EventBody::AlertQueued(event) => {
            ("queued", format!("{} of {} to {}", event.notice, event.group, event.receiver))
        }
        EventBody::AlertDelivered(event) => {
            ("delivered", format!("{} at attempt {}", event.notice, event.attempts))
        }
        EventBody::AlertLost(event) => {
            ("lost", format!("{} after {} attempts: {}", event.notice, event.attempts, event.reason))
        }
        EventBody::AlertSilenced(event) => {
            ("silenced", format!("{} by {} until {}", event.silence, event.by, event.until))
        }
        EventBody::AlertUnsilenced(event) => ("unsilenced", format!("{} by {}", event.silence, event.by)),
        EventBody::AlertAcknowledged(event) => ("acknowledged", format!("{} by {}", event.alert, event.by)),
        _ => return,
    };
    line.status = Some(status.into());
    line.message = message;
}

pub(super) fn describe_job(line: &mut LogLine, body: &EventBody) {
    let (status, message) = match body {
        EventBody::JobDefined(event) => {
            ("defined", format!("{}: {}, {}", event.job, event.schedule, event.timezone))
        }
        EventBody::JobDropped(event) => ("dropped", event.job.to_string()),
        EventBody::JobStarted(event) => {
            let by = event.by.as_ref().map_or_else(String::new, |by| format!(", by {by}"));
            ("started", format!("{}, task {}, run {}{by}", event.job, event.task, event.run))
        }
        EventBody::JobSkipped(event) => {
            let JobSkipped { job, first, last, times, why } = event;
            ("skipped", format!("{job}, {times} times from {first} to {last}: {}", why.as_str()))
        }
        EventBody::JobPaused(event) => ("paused", format!("{} by {}", event.job, event.by)),
        EventBody::JobResumed(event) => ("resumed", format!("{} by {}", event.job, event.by)),
        _ => return,
    };
    line.status = Some(status.into());
    line.message = message;
}
