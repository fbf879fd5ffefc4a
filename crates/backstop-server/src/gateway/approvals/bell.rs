//! The bell: rings when a question is asked, and tells everybody who is to be told. The engine is never held up: what finds the queue
//! full is found again by the sweep, which also finds what other processes asked.

use super::desk::Standing;
use super::hook::Hook;
use super::message::Told;
use crate::gateway::Gateway;
use backstop::Observer;
use backstop_call::{ApprovalId, RunId};
use backstop_journal::{EventBody, StreamId};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

/// Questions of which is remembered that a hook was given them.
const REMEMBERED_MAX: usize = 10_000;
/// The longest wait between two attempts.
const WAIT_MAX: Duration = Duration::from_mins(5);

/// How much waits, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BellLimits {
    /// Questions that wait to be told, and for each hook again.
    pub queue: usize,
    /// How often one question is told to a hook that does not take it.
    pub attempts: u32,
    /// The wait after the first attempt; it doubles each time, up to five minutes.
    pub wait: Duration,
    /// How often is looked for questions that were not told yet.
    pub sweep: Duration,
}

impl Default for BellLimits {
    fn default() -> Self {
        Self { queue: 256, attempts: 10, wait: Duration::from_secs(1), sweep: Duration::from_secs(5) }
    }
}

/// A question of a run.
type Asked = (RunId, ApprovalId);

/// Rings when something is asked.
pub struct Bell {
    limits: BellLimits,
    asked: Sender<Asked>,
    waiting: Mutex<Option<Receiver<Asked>>>,
    /// How often a queue was full.
    overflowed: Arc<AtomicU64>,
}

impl Bell {
    /// A bell within these limits.
    pub fn new(limits: BellLimits) -> Self {
        let (asked, waiting) = mpsc::channel(limits.queue);
        Self { limits, asked, waiting: Mutex::new(Some(waiting)), overflowed: Arc::default() }
    }

    /// What is to be told of every event, when the engine is opened. It waits for nothing.
    pub fn observer(&self) -> Observer {
        let (asked, overflowed) = (self.asked.clone(), Arc::clone(&self.overflowed));
        Arc::new(move |events| {
            for event in events.iter() {
                let EventBody::ApprovalRequested(requested) = &event.body else { continue };
                let StreamId::Run(run) = &event.stream else { continue };
                let question = (run.clone(), requested.approval.clone());
                if let Err(mpsc::error::TrySendError::Full(_)) = asked.try_send(question) {
                    overflowed.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    }

    /// What there is to say about it.
    pub(super) fn worry(&self) -> Option<String> {
        let times = self.overflowed.load(Ordering::Relaxed);
        (times > 0).then(|| format!("{times} questions found a queue full and were told later"))
    }
}

/// Those who are told, each with its own queue: one that does not answer holds up no other.
struct Line {
    hook: Hook,
    queue: Sender<Asked>,
    /// Given to it already.
    given: BTreeSet<ApprovalId>,
}

/// Tells every question to every hook, until it is dropped. `listening` is where people find the page when the config names no
/// other address.
pub(super) async fn ring(gateway: Arc<Gateway>, listening: String) {
    let approvals = &gateway.approvals;
    let bell = &approvals.bell;
    let Some(mut waiting) = bell.waiting.lock().unwrap_or_else(PoisonError::into_inner).take() else {
        return;
    };
    let listening: Arc<str> = listening.into();
    let mut workers = JoinSet::new();
    let mut lines = Vec::new();
    let mut sweep = interval(bell.limits.sweep);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        while workers.try_join_next().is_some() {}
        let (old, hooks) = (std::mem::take(&mut lines), approvals.notices().hooks.clone());
        lines = hooks_up(old, hooks, bell.limits.queue, |hook, questions| {
            let worker = Worker { gateway: Arc::clone(&gateway), listening: Arc::clone(&listening), hook };
            workers.spawn(worker.work(questions));
        });
        tokio::select! {
            Some(asked) = waiting.recv() => give(&mut lines, &asked, &bell.overflowed),
            () = approvals.renewed.notified() => {}
            _ = sweep.tick(), if !lines.is_empty() => {
                // A journal that cannot be read now is told by its own health, and looked at again.
                for card in approvals.desk.open().await.unwrap_or_default() {
                    give(&mut lines, &(card.run, card.asked.approval), &bell.overflowed);
                }
            }
        }
    }
}

/// The lines of these hooks: those that are there already, and new ones. Who is told no more has a line no more.
fn hooks_up(
    old: Vec<Line>,
    hooks: Vec<Hook>,
    queue: usize,
    mut begin: impl FnMut(Hook, Receiver<Asked>),
) -> Vec<Line> {
    let mut old = old;
    let mut line = |hook: Hook| {
        if let Some(place) = old.iter().position(|line| line.hook.is_same(&hook)) {
            return old.swap_remove(place);
        }
        let (queue, questions) = mpsc::channel(queue);
        begin(hook.clone(), questions);
        Line { hook, queue, given: BTreeSet::new() }
    };
    hooks.into_iter().map(&mut line).collect()
}

fn give(lines: &mut [Line], asked: &Asked, overflowed: &AtomicU64) {
    for line in lines {
        if line.given.contains(&asked.1) {
            continue;
        }
        if line.queue.try_send(asked.clone()).is_err() {
            overflowed.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        line.given.insert(asked.1.clone());
        if line.given.len() > REMEMBERED_MAX {
            // Ids begin with the time, so the first is the oldest.
            line.given.pop_first();
        }
    }
}

/// Tells questions to one hook, one after the other.
struct Worker {
    gateway: Arc<Gateway>,
    listening: Arc<str>,
    hook: Hook,
}

impl Worker {
    async fn work(self, mut questions: Receiver<Asked>) {
        while let Some((run, approval)) = questions.recv().await {
            self.tell(&run, &approval).await;
        }
    }

    /// Tells one question, as long as it is open.
    async fn tell(&self, run: &RunId, approval: &ApprovalId) {
        let approvals = &self.gateway.approvals;
        let mut wait = approvals.bell.limits.wait;
        for attempt in 1..=approvals.bell.limits.attempts {
            let Ok(Some(card)) = approvals.desk.card(run, approval).await else { return };
            if card.standing != Standing::Open {
                return;
            }
            let notices = approvals.notices();
            if !notices.hooks.iter().any(|hook| hook.is_same(&self.hook)) {
                return;
            }
            let base = notices.public_url.as_deref().unwrap_or(&self.listening);
            let link = format!("{base}{}", approvals.link.path(approval, card.asked.expires));
            let told = Told { card: &card, link: &link };
            match self.hook.send(&told, self.gateway.clock.now()).await {
                Ok(()) => return self.hook.note(None),
                Err(why) => self.hook.note(Some(format!("attempt {attempt} for {approval} failed: {why}"))),
            }
            sleep(wait).await;
            wait = (wait * 2).min(WAIT_MAX);
        }
    }
}
