//! Erases what runs said when they are old enough, as `[retention]` says: looks for them once an hour, so many at a time. Which may
//! go is decided in [`backstop::agent::erasing`], of each with all that belongs to it. Two that do it at once do no harm: what the
//! other one erased is found erased.

use crate::config::Config;
use crate::config::sections::Retention;
use backstop::agent::erasing::may_go;
use backstop::store::Turn;
use backstop::{Backstop, Erased, Erasing};
use backstop_agent::RunError;
use backstop_call::Clock;
use backstop_journal::event::RETENTION;
use backstop_journal::{JournalError, ListedRun, RunFilter};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often is looked.
const EVERY: Duration = Duration::from_hours(1);
/// So many runs are erased at a time, so that the writer stays free for those that are at work.
const RUNS_MAX: usize = 100;
/// The wait after a round that found more.
const SOON: Duration = Duration::from_secs(10);
/// Runs of a page of the list.
const PAGE_RUNS: usize = 200;

/// What a round came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Round {
    /// What was erased.
    pub erased: Vec<Erased>,
    /// Whether there is more to be erased at once.
    pub more: bool,
}

/// Erases what is old enough.
pub struct Sweep {
    backstop: Backstop,
    clock: Arc<dyn Clock>,
    retention: Retention,
    /// Of the processes over one database, one does it.
    turn: Option<Turn>,
}

impl Sweep {
    /// A sweep that has not looked yet.
    pub fn new(backstop: Backstop, clock: Arc<dyn Clock>, retention: Retention) -> Self {
        Self { backstop, clock, retention, turn: None }
    }

    /// Looks at once, and then again and again, until it is dropped. `trouble` hears of what could not be done.
    pub async fn look_after(mut self, mut configs: watch::Receiver<Config>, trouble: impl Fn(&str)) {
        loop {
            let round = if self.is_ours(&trouble) { self.round().await } else { Ok(Round::default()) };
            let sleep = match round {
                Ok(Round { more: true, .. }) => SOON,
                Ok(_) => EVERY,
                Err(error) => {
                    trouble(&format!("what is older than `retention.bodies` cannot be erased now: {error}"));
                    EVERY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                Ok(()) = configs.changed() => self.retention = configs.borrow_and_update().retention,
            }
        }
    }

    /// Whether this process is the one that does it; where nothing is to be erased none is.
    fn is_ours(&mut self, trouble: &impl Fn(&str)) -> bool {
        let Some((store, _)) = self.backstop.files().filter(|_| self.retention.bodies.is_some()) else {
            self.turn = None;
            return self.retention.bodies.is_some();
        };
        if self.turn.is_none() {
            match store.take_turn(RETENTION) {
                Ok(turn) => self.turn = turn,
                Err(error) => trouble(&format!("who erases what is old cannot be found out: {error}")),
            }
        }
        self.turn.is_some()
    }

    /// Erases what is old enough, up to so many runs with what belongs to them.
    ///
    /// # Errors
    /// The journal refused; what was erased until then is, and the rest is found in the next round.
    pub async fn round(&self) -> Result<Round, RunError> {
        let Some(bodies) = self.retention.bodies else { return Ok(Round::default()) };
        let now = self.clock.now();
        let reason = format!("older than {bodies}");
        let wanted = Erasing { by: RETENTION, reason: &reason, at: now, age: bodies.0 };
        let mut round = Round::default();
        let mut filter =
            RunFilter { until: Some(now - bodies.0), limit: Some(PAGE_RUNS), ..RunFilter::default() };
        loop {
            let page = self.backstop.journal().list(filter.clone()).await?;
            let old = |one: &&ListedRun| may_go(&one.summary, &[], (None, bodies.0), now).is_ok();
            for one in page.iter().filter(old) {
                if round.erased.len() >= RUNS_MAX {
                    round.more = true;
                    return Ok(round);
                }
                match self.backstop.erase(&one.summary.run, &wanted).await {
                    Ok(erased) => round.erased.extend(erased),
                    // It belongs to another one, waits for its next try, or somebody is at it in this moment.
                    Err(
                        RunError::Kept(_)
                        | RunError::Journal(JournalError::Moved(_) | JournalError::Owned { .. }),
                    ) => {}
                    Err(error) => return Err(error),
                }
            }
            let Some(last) = page.last().filter(|_| page.len() == PAGE_RUNS) else { return Ok(round) };
            filter.before = Some(last.cursor());
        }
    }
}
