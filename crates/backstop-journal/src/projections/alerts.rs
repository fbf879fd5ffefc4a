//! How alerts stand, folded from the stream `alerts`: what fires, what was told to whom, what waits in the outbox, what is
//! silenced. Who decides what comes next is elsewhere; here is all that they need to remember, so that a restart forgets
//! nothing.

use crate::event::{AlertFired, AlertQueued, AlertSilenced};
use crate::{Event, EventBody, Seq};
use backstop_call::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Alerts that are over and dead letters that are remembered, each.
pub const PAST_MAX: usize = 1_000;

/// An alert that fires, or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// What is wrong.
    pub fired: AlertFired,
    /// Since when.
    pub since: Timestamp,
    /// When it was over.
    pub resolved: Option<Timestamp>,
    /// Who looks after it.
    pub acknowledged: Option<String>,
}

/// What a receiver was told last of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldLast {
    /// When it was put in the outbox.
    pub at: Timestamp,
    /// What it believes to fire.
    pub firing: BTreeSet<String>,
}

/// A notice in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What is to be told, and to whom.
    pub queued: AlertQueued,
    /// When it was put there.
    pub at: Timestamp,
    /// What went wrong, of one that was given up.
    pub lost: Option<String>,
}

/// How alerts stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alerts {
    /// Those that fire.
    pub firing: BTreeMap<String, Alert>,
    /// Those that are over and do not fire again.
    pub past: BTreeMap<String, Alert>,
    /// By silence; also those whose time is over.
    pub silences: BTreeMap<String, AlertSilenced>,
    /// By receiver and group.
    pub told: BTreeMap<(String, String), ToldLast>,
    /// What waits to be delivered, by when it was put there.
    pub outbox: BTreeMap<(Timestamp, String), Notice>,
    /// What was given up, by when it was put in the outbox.
    pub lost: BTreeMap<(Timestamp, String), Notice>,
    /// The last event that was folded in.
    pub seq: Seq,
}

impl Alerts {
    /// Folds a stream from its first event on.
    pub fn fold<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut alerts = Self::default();
        events.into_iter().for_each(|event| alerts.apply(event));
        alerts
    }

    /// Folds the next event in.
    pub fn apply(&mut self, event: &Event) {
        self.seq = event.seq;
        self.take(&event.body, event.at);
    }

    /// Folds in what happened at a moment, also what is not in the journal yet.
    pub fn take(&mut self, body: &EventBody, at: Timestamp) {
        match body {
            EventBody::AlertFired(fired) => {
                self.past.remove(&fired.alert);
                let alert = Alert { fired: fired.clone(), since: at, resolved: None, acknowledged: None };
                self.firing.insert(fired.alert.clone(), alert);
            }
            EventBody::AlertResolved(resolved) => {
                let Some(alert) = self.firing.remove(&resolved.alert) else { return };
                self.past.insert(resolved.alert.clone(), Alert { resolved: Some(at), ..alert });
                self.forget();
            }
            EventBody::AlertAcknowledged(acknowledged) => {
                if let Some(alert) = self.firing.get_mut(&acknowledged.alert) {
                    alert.acknowledged = Some(acknowledged.by.clone());
                }
            }
            EventBody::AlertSilenced(silenced) => {
                self.silences.retain(|_, silence| silence.until > at);
                self.silences.insert(silenced.silence.clone(), silenced.clone());
            }
            EventBody::AlertUnsilenced(unsilenced) => drop(self.silences.remove(&unsilenced.silence)),
            EventBody::AlertQueued(queued) => self.queue(queued, at),
            EventBody::AlertDelivered(delivered) => drop(self.unqueue(&delivered.notice)),
            EventBody::AlertLost(lost) => {
                let Some((key, notice)) = self.unqueue(&lost.notice) else { return };
                self.lost.insert(key, Notice { lost: Some(lost.reason.clone()), ..notice });
                if self.lost.len() > PAST_MAX {
                    self.lost.pop_first();
                }
            }
            _ => {}
        }
    }

    /// An alert by what it is called, whether it fires or did.
    pub fn alert(&self, alert: &str) -> Option<&Alert> {
        self.firing.get(alert).or_else(|| self.past.get(alert))
    }

    /// The silence that an alert fits, if one holds.
    pub fn silenced(&self, fired: &AlertFired, now: Timestamp) -> Option<&AlertSilenced> {
        let fits = |silence: &&AlertSilenced| {
            silence.until > now
                && silence.matchers.iter().all(|(name, value)| said(fired, name) == Some(value.as_str()))
        };
        self.silences.values().find(fits)
    }

    fn queue(&mut self, queued: &AlertQueued, at: Timestamp) {
        let key = (queued.receiver.clone(), queued.group.clone());
        let mut firing: BTreeSet<String> = queued.firing.iter().cloned().collect();
        // What is not told because it is silenced is believed to fire still, so that its end is told.
        if let Some(before) = self.told.get(&key) {
            let still = before.firing.iter().filter(|alert| self.firing.contains_key(*alert));
            firing.extend(still.cloned());
        }
        if firing.is_empty() {
            self.told.remove(&key);
        } else {
            self.told.insert(key, ToldLast { at, firing });
        }
        let notice = Notice { queued: queued.clone(), at, lost: None };
        self.outbox.insert((at, queued.notice.clone()), notice);
    }

    fn unqueue(&mut self, notice: &str) -> Option<((Timestamp, String), Notice)> {
        let key = self.outbox.keys().find(|(_, name)| name == notice)?.clone();
        self.outbox.remove(&key).map(|found| (key, found))
    }

    /// Forgets what was over first, but for what somebody is still to be told of.
    fn forget(&mut self) {
        while self.past.len() > PAST_MAX {
            let awaited: BTreeSet<&String> = self
                .told
                .values()
                .flat_map(|told| &told.firing)
                .chain(self.outbox.values().flat_map(|notice| &notice.queued.resolved))
                .collect();
            let free = self.past.iter().filter(|(name, _)| !awaited.contains(name));
            let Some(first) = free.min_by_key(|(_, alert)| alert.resolved).map(|(name, _)| name.clone())
            else {
                return;
            };
            self.past.remove(&first);
        }
    }
}

/// What an alert says under a name.
fn said<'a>(fired: &'a AlertFired, name: &str) -> Option<&'a str> {
    match name {
        "rule" => Some(&fired.rule),
        "severity" => Some(fired.severity.as_str()),
        label => fired.labels.get(label).map(String::as_str),
    }
}
