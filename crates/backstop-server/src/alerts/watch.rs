//! The watch: looks at the rules again and again, writes down what follows, and tells those who are to be told. All that it
//! must not forget is in the journal; a restart goes on where it was.

use super::decide::{Found, Routing, decide};
use super::message::Message;
use super::receiver::{Receiver, Refused};
use super::rule::Rule;
use super::scene::{Outside, Scene, Sources};
use crate::jobs::catch_up;
use crate::numbers::Numbers;
use backstop_call::{Clock, Timestamp};
use backstop_journal::event::{AlertDelivered, AlertLost};
use backstop_journal::projections::alerts::{Alerts, Notice};
use backstop_journal::projections::jobs::Jobs;
use backstop_journal::{Append, Durability, EventBody, Journal, JournalError, Queue, StreamId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Attempts of a notice before it is given up: over some hours.
const ATTEMPTS_MAX: u32 = 24;
/// The wait after the first attempt; it doubles each time.
const WAIT: Duration = Duration::from_secs(5);
const WAIT_MAX: Duration = Duration::from_mins(15);

/// What a watch is made from.
pub struct WatchParts {
    /// What is looked at.
    pub rules: Vec<Rule>,
    /// Who is told when.
    pub routing: Routing,
    /// How they are told.
    pub receivers: Vec<Arc<Receiver>>,
    /// What is counted.
    pub numbers: Numbers,
    /// Where it is written down.
    pub journal: Arc<dyn Journal>,
    /// What came of tasks.
    pub queue: Arc<dyn Queue>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Looks after the rules of an installation.
pub struct Watch {
    parts: WatchParts,
    alerts: Alerts,
    jobs: Arc<Jobs>,
    /// How often a notice was tried, and when it is tried next.
    tries: BTreeMap<String, (u32, Timestamp)>,
    /// Why rules cannot be worked out.
    undecided: BTreeMap<String, String>,
}

impl Watch {
    /// A watch that knows what the journal says.
    pub async fn open(parts: WatchParts) -> Result<Self, JournalError> {
        let alerts = Alerts::fold(&parts.journal.read(&StreamId::Alerts, 0).await?);
        Ok(Self { parts, alerts, jobs: Arc::default(), tries: BTreeMap::new(), undecided: BTreeMap::new() })
    }

    /// Goes on by what another config says. What waits to be told is told by the receivers that there are then.
    pub fn change(&mut self, rules: Vec<Rule>, routing: Routing, receivers: Vec<Arc<Receiver>>) {
        let parts = &mut self.parts;
        (parts.rules, parts.routing, parts.receivers) = (rules, routing, receivers);
    }

    /// How alerts stand.
    pub fn alerts(&self) -> &Alerts {
        &self.alerts
    }

    /// Why rules cannot be worked out, by rule.
    pub fn undecided(&self) -> &BTreeMap<String, String> {
        &self.undecided
    }

    /// Looks once, and writes down what follows.
    pub async fn look(&mut self, outside: &Outside) -> Result<(), JournalError> {
        // What people said meanwhile, in other processes as well.
        self.refresh().await?;
        let now = self.parts.clock.now();
        let WatchParts { rules, numbers, journal, queue, .. } = &self.parts;
        let sources = Sources { numbers, journal: journal.as_ref(), queue: queue.as_ref(), jobs: &self.jobs };
        let scene = Scene::gather(rules, sources, outside, now).await?;
        let mut found = Found::default();
        self.undecided.clear();
        for rule in rules {
            match rule.look(scene.subjects(rule)) {
                Ok(findings) => found.findings.extend(findings),
                Err(why) => {
                    found.undecided.insert(rule.name.clone());
                    self.undecided.insert(rule.name.clone(), why.to_string());
                }
            }
        }
        let events = decide(&self.alerts, &found, &self.parts.routing, now);
        self.write(events, now).await
    }

    /// Tells what is due to be told. What is not taken is tried again later, and at last given up.
    pub async fn tell(&mut self) -> Result<(), JournalError> {
        // What another process told meanwhile is not told again.
        self.refresh().await?;
        while self.tell_round().await? {}
        Ok(())
    }

    /// Tells each receiver what it is to hear first, all at once: one that does not answer holds up no other, and none
    /// hears of an end before it heard of the beginning. Whether anything was taken, so that more may be due.
    async fn tell_round(&mut self) -> Result<bool, JournalError> {
        let now = self.parts.clock.now();
        let waiting: BTreeSet<&String> =
            self.alerts.outbox.values().map(|notice| &notice.queued.notice).collect();
        self.tries.retain(|notice, _| waiting.contains(notice));
        let mut first: BTreeMap<String, Notice> = BTreeMap::new();
        for notice in self.alerts.outbox.values() {
            first.entry(notice.queued.receiver.clone()).or_insert_with(|| notice.clone());
        }
        let is_due =
            |notice: &Notice| self.tries.get(&notice.queued.notice).is_none_or(|(_, next)| *next <= now);
        let mut telling = JoinSet::new();
        for notice in first.into_values().filter(is_due) {
            let receivers = &self.parts.receivers;
            let receiver = receivers.iter().find(|receiver| receiver.name == notice.queued.receiver).cloned();
            let message = Message::of(&notice, &self.alerts);
            telling.spawn(async move {
                let outcome = match receiver {
                    Some(receiver) => receiver.tell(&message, now).await,
                    None => {
                        Err(Refused { reason: "the config has no such receiver".to_owned(), for_good: true })
                    }
                };
                (notice, outcome)
            });
        }
        let mut events = Vec::new();
        for (notice, outcome) in telling.join_all().await {
            events.extend(self.judge(&notice, outcome, now));
        }
        let taken = !events.is_empty();
        self.write(events, now).await?;
        Ok(taken)
    }

    /// What is written down of one attempt.
    fn judge(&mut self, notice: &Notice, outcome: Result<(), Refused>, now: Timestamp) -> Option<EventBody> {
        let name = notice.queued.notice.clone();
        let attempts = self.tries.get(&name).map_or(0, |(attempts, _)| *attempts) + 1;
        match outcome {
            Ok(()) => Some(AlertDelivered { notice: name, attempts }.into()),
            Err(refused) if refused.for_good || attempts >= ATTEMPTS_MAX => {
                Some(AlertLost { notice: name, attempts, reason: refused.reason }.into())
            }
            Err(_) => {
                let wait = WAIT.saturating_mul(1 << (attempts - 1).min(16)).min(WAIT_MAX);
                self.tries.insert(name, (attempts, now + wait));
                None
            }
        }
    }

    async fn refresh(&mut self) -> Result<(), JournalError> {
        for event in self.parts.journal.read(&StreamId::Alerts, self.alerts.seq).await? {
            self.alerts.apply(&event);
        }
        catch_up(&mut self.jobs, self.parts.journal.as_ref()).await.map(drop)
    }

    async fn write(&mut self, events: Vec<EventBody>, at: Timestamp) -> Result<(), JournalError> {
        if events.is_empty() {
            return Ok(());
        }
        let append =
            Append { stream: StreamId::Alerts, epoch: None, events, at, durability: Durability::Synced };
        self.parts.journal.append(append).await?;
        self.refresh().await
    }
}
