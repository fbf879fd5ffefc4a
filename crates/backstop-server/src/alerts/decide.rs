//! What comes next, decided from how alerts stand and what was found just now: what fires, what is over, who is told. Pure;
//! the semantics are those of Prometheus' Alertmanager.
//!
//! Alerts of one rule are told together. A first notice waits a moment for others of the group; what changes in a group is told
//! no more often than its interval; what stays is told again after the repeat. What was over before anybody was told is
//! not told. What is silenced or inhibited is not told, but its end is, to whoever believes that it fires.

use super::rule::Finding;
use backstop_call::Timestamp;
use backstop_journal::EventBody;
use backstop_journal::event::{AlertFired, AlertQueued, AlertResolved, Severity};
use backstop_journal::projections::alerts::{Alert, Alerts};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// When who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routing {
    /// How long the first notice of a group waits for others.
    pub group_wait: Duration,
    /// The least time between two notices of a group in which something changed.
    pub group_interval: Duration,
    /// After how long is told again what still fires.
    pub repeat: Duration,
    /// Who is told.
    pub routes: Vec<Route>,
    /// What is not told while something worse fires.
    pub inhibitions: Vec<Inhibition>,
}

/// What one receiver is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The receiver.
    pub receiver: String,
    /// The least severity.
    pub severity: Severity,
    /// These rules, whatever their severity; with none, all.
    pub rules: BTreeSet<String>,
    /// Another repeat than that of the others.
    pub repeat: Option<Duration>,
}

/// While an alert of one rule fires, those of another are not told that agree in these labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inhibition {
    /// The rule that counts.
    pub by: String,
    /// The rule that is not told.
    pub of: String,
    /// The labels.
    pub same: Vec<String>,
}

impl Route {
    fn takes(&self, fired: &AlertFired) -> bool {
        if self.rules.is_empty() { fired.severity >= self.severity } else { self.rules.contains(&fired.rule) }
    }
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// The rules that could not be worked out: what they found before stands.
    pub undecided: BTreeSet<String>,
}

/// The events that follow.
pub fn decide(alerts: &Alerts, found: &Found, routing: &Routing, now: Timestamp) -> Vec<EventBody> {
    let mut next = alerts.clone();
    let mut events = changes(alerts, found);
    for event in &events {
        next.take(event, now);
    }
    for route in &routing.routes {
        for group in groups(&next, route) {
            if let Some(queued) = notice(&next, route, &group, (routing, now)) {
                let event = EventBody::from(queued);
                next.take(&event, now);
                events.push(event);
            }
        }
    }
    events
}

/// What begins to fire, and what is over.
fn changes(alerts: &Alerts, found: &Found) -> Vec<EventBody> {
    let wrong: BTreeMap<String, &Finding> =
        found.findings.iter().map(|finding| (finding.alert(), finding)).collect();
    let new = wrong.iter().filter(|(alert, _)| !alerts.firing.contains_key(*alert));
    let fired = new.map(|(alert, finding)| {
        EventBody::from(AlertFired {
            alert: alert.clone(),
            rule: finding.rule.clone(),
            severity: finding.severity,
            labels: finding.labels.clone(),
            summary: finding.summary.clone(),
        })
    });
    let over = alerts
        .firing
        .iter()
        .filter(|(name, alert)| !wrong.contains_key(*name) && !found.undecided.contains(&alert.fired.rule));
    let resolved = over.map(|(alert, _)| EventBody::from(AlertResolved { alert: alert.clone() }));
    fired.chain(resolved).collect()
}

/// The groups of which a receiver may be told something: what fires and what it was told.
fn groups(alerts: &Alerts, route: &Route) -> BTreeSet<String> {
    let firing = alerts.firing.values().filter(|alert| route.takes(&alert.fired));
    let told = alerts.told.keys().filter(|(receiver, _)| *receiver == route.receiver);
    firing.map(|alert| alert.fired.rule.clone()).chain(told.map(|(_, group)| group.clone())).collect()
}

/// What a receiver is told of a group now.
fn notice(
    alerts: &Alerts,
    route: &Route,
    group: &str,
    (routing, now): (&Routing, Timestamp),
) -> Option<AlertQueued> {
    let in_group = alerts.firing.iter().filter(|(_, alert)| alert.fired.rule == group);
    let told_of = |alert: &Alert| {
        route.takes(&alert.fired)
            && alerts.silenced(&alert.fired, now).is_none()
            && !is_inhibited(alerts, &alert.fired, routing)
    };
    let firing: BTreeMap<&String, &Alert> = in_group.filter(|(_, alert)| told_of(alert)).collect();
    let last = alerts.told.get(&(route.receiver.clone(), group.to_owned()));
    let over: BTreeSet<String> = last
        .into_iter()
        .flat_map(|last| &last.firing)
        .filter(|alert| !alerts.firing.contains_key(*alert))
        .cloned()
        .collect();
    let due = match last {
        None => firing
            .values()
            .map(|alert| alert.since)
            .min()
            .is_some_and(|since| since + routing.group_wait <= now),
        Some(last) => {
            let is_new = firing.keys().any(|alert| !last.firing.contains(*alert));
            let changed = is_new || !over.is_empty();
            let stays = firing.values().any(|alert| alert.acknowledged.is_none());
            let repeat = route.repeat.unwrap_or(routing.repeat);
            (changed && last.at + routing.group_interval <= now) || (stays && last.at + repeat <= now)
        }
    };
    due.then(|| {
        let firing: Vec<String> = firing.into_keys().cloned().collect();
        let resolved: Vec<String> = over.into_iter().collect();
        let notice = notice_id(route, group, now);
        AlertQueued { notice, receiver: route.receiver.clone(), group: group.to_owned(), firing, resolved }
    })
}

fn is_inhibited(alerts: &Alerts, fired: &AlertFired, routing: &Routing) -> bool {
    routing.inhibitions.iter().filter(|inhibition| inhibition.of == fired.rule).any(|inhibition| {
        alerts.firing.values().any(|other| {
            let agrees = |label: &String| other.fired.labels.get(label) == fired.labels.get(label);
            other.fired.rule == inhibition.by && inhibition.same.iter().all(agrees)
        })
    })
}

/// One receiver is told of one group at most once at a moment.
fn notice_id(route: &Route, group: &str, now: Timestamp) -> String {
    let text = format!("{}\n{group}\n{}", route.receiver, now.nanos());
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests;
