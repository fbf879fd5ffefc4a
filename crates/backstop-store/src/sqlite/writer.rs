//! The thread that owns the connection that writes. What has queued up while the last commit was on its way to the disk
//! goes into the next one. One that fails fails alone: it is refused before it has written anything, as appends are, or has
//! a savepoint of its own.
//!
//! A commit is synced when one of its transactions wants that, and only written otherwise: never more than one sync.

use super::bell::Bell;
use super::checkpoint::Log;
use super::fault::Fail;
use super::owner::{Owners, Seat};
use super::queue::{Queue, Refused};
use super::tx::{Cache, INSERT, Tx};
use crate::observer::Observers;
use backstop_journal::Event;
use backstop_journal::{Durability, JournalError, StreamId};
use rusqlite::Connection;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// Logical transactions that go into one commit at most: bounds what a failed commit takes with it.
const BATCH_MAX: usize = 512;

/// A logical transaction.
pub(crate) trait Work: Send {
    /// The stream it appends to, if one: when an append to a stream fails, those behind it must not go through.
    fn stream(&self) -> Option<&StreamId>;
    /// Whether it may be refused after it has written something. Savepoints are dear: each copies the pages it touches.
    fn is_refused_late(&self) -> bool;
    /// Does it, once.
    fn apply(&mut self, tx: &mut Tx<'_, '_>) -> Result<(), Fail>;
    /// Hears what became of it, when it is as durable as it was to be.
    fn finish(self: Box<Self>, outcome: Result<(), JournalError>);
}

/// A logical transaction on its way.
pub(crate) struct Job {
    durability: Durability,
    work: Box<dyn Work>,
}

/// What the writer has done since it was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Commits.
    pub(crate) commits: AtomicU64,
    /// Those of them that were synced.
    pub(crate) synced: AtomicU64,
    /// Logical transactions in them.
    pub(crate) transactions: AtomicU64,
}

/// The way to the writer.
#[derive(Clone)]
pub(crate) struct Sender {
    queue: Arc<Queue<Job>>,
}

impl Sender {
    /// A way to a writer that has not started.
    pub(crate) fn new(items_max: usize, bytes_max: usize) -> Self {
        Self { queue: Arc::new(Queue::new(items_max, bytes_max)) }
    }

    /// Puts a logical transaction of about `bytes` into the queue. What is refused hears so at once.
    pub(crate) fn send(
        &self,
        durability: Durability,
        bytes: usize,
        work: Box<dyn Work>,
    ) -> Result<(), JournalError> {
        let urgent = durability > Durability::Queued;
        self.queue.put(Job { durability, work }, bytes, urgent).map_err(|refused| match refused {
            Refused::Full => JournalError::Busy("too much waits to be written".to_owned()),
            Refused::Closed => JournalError::Unusable("the store is closed".to_owned()),
        })
    }

    /// Puts a closure into the queue; the future ends when it is as durable as was asked.
    pub(crate) fn submit<T, F>(
        &self,
        durability: Durability,
        about: About,
        work: F,
    ) -> impl Future<Output = Result<T, JournalError>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&mut Tx<'_, '_>) -> Result<T, Fail> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let bytes = about.bytes;
        let once = Once { about, work: Some(work), value: None, reply };
        let sent = self.send(durability, bytes, Box::new(once));
        async move {
            sent?;
            let gone = |_| Err(JournalError::Unusable("the writer of the store ended".to_owned()));
            answer.await.unwrap_or_else(gone)
        }
    }

    /// Takes nothing in any more; the writer ends when it has written what is in.
    pub(crate) fn close(&self) {
        self.queue.close();
    }
}

/// What is to be known of a logical transaction before it is done.
#[derive(Debug)]
pub(crate) struct About {
    stream: Option<StreamId>,
    bytes: usize,
    is_refused_late: bool,
}

impl About {
    /// It appends so many bytes to a stream and does nothing else.
    pub(crate) fn append(stream: StreamId, bytes: usize) -> Self {
        Self { stream: Some(stream), bytes, is_refused_late: false }
    }

    /// It does other things in a stream.
    pub(crate) fn within(stream: StreamId) -> Self {
        Self { stream: Some(stream), bytes: 0, is_refused_late: true }
    }

    /// It is about no stream.
    pub(crate) fn nothing() -> Self {
        Self { stream: None, bytes: 0, is_refused_late: true }
    }
}

struct Once<T, F> {
    about: About,
    work: Option<F>,
    value: Option<T>,
    reply: oneshot::Sender<Result<T, JournalError>>,
}

impl<T, F> Work for Once<T, F>
where
    T: Send,
    F: FnOnce(&mut Tx<'_, '_>) -> Result<T, Fail> + Send,
{
    fn stream(&self) -> Option<&StreamId> {
        self.about.stream.as_ref()
    }

    fn is_refused_late(&self) -> bool {
        self.about.is_refused_late
    }

    fn apply(&mut self, tx: &mut Tx<'_, '_>) -> Result<(), Fail> {
        let work = self.work.take().expect("a transaction is applied once");
        self.value = Some(work(tx)?);
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), JournalError>) {
        let Self { value, reply, .. } = *self;
        let result = outcome.map(|()| value.expect("what was committed has a value"));
        // Whoever asked may have gone; it is done all the same.
        drop(reply.send(result));
    }
}

/// The state of the thread.
pub(crate) struct Writer {
    /// The connection that writes.
    pub(crate) db: Connection,
    /// Where the file lies.
    pub(crate) path: PathBuf,
    /// Who lives.
    pub(crate) owners: Owners,
    /// Who is told.
    pub(crate) observers: Observers,
    /// How long a commit that nobody waits for waits for company.
    pub(crate) linger: Duration,
    /// What was done.
    pub(crate) counters: Arc<Counters>,
    /// What is copied back into the database beside it.
    pub(crate) log: Arc<Log>,
    /// Who waits for work.
    pub(crate) bell: Arc<Bell>,
}

struct State {
    cache: Cache,
    seat: Option<Seat>,
    synced: bool,
    /// What the transaction under way has appended.
    fresh: Vec<Event>,
    /// Whether it changed the queue.
    rings: bool,
}

/// Empties the queue when the thread ends, also by a panic, so that nobody waits for ever.
struct Abandon(Arc<Queue<Job>>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl Writer {
    /// Writes until the queue is closed and empty.
    pub(crate) fn run(self, sender: &Sender) {
        let _abandon = Abandon(Arc::clone(&sender.queue));
        let mut state =
            State { cache: Cache::default(), seat: None, synced: true, fresh: Vec::new(), rings: false };
        while let Some(batch) = sender.queue.take(self.linger, BATCH_MAX) {
            self.write(&mut state, batch);
            if self.log.is_long() {
                self.log.copy_back(&self.db);
            }
        }
        if let Some(seat) = &state.seat {
            let end = "UPDATE owners SET ended = 'clean' WHERE id = ?1";
            // If it cannot be written, recovery finds the lock gone and does the same.
            drop(self.db.execute(end, [seat.id]));
        }
    }

    fn write(&self, state: &mut State, mut batch: Vec<Job>) {
        let synced = batch.iter().any(|job| job.durability == Durability::Synced);
        let seated = state.seat.is_some();
        let outcomes = self.begin(state, synced).and_then(|()| {
            let outcomes = self.apply(state, &mut batch)?;
            if outcomes.iter().any(Result::is_ok) {
                self.db.prepare_cached("COMMIT")?.execute([])?;
            } else {
                self.roll_back();
            }
            Ok(outcomes)
        });
        match outcomes {
            Ok(outcomes) => {
                self.count(synced, &outcomes);
                self.observers.tell(std::mem::take(&mut state.fresh));
                if state.rings {
                    self.bell.ring();
                }
                for (job, outcome) in batch.into_iter().zip(outcomes) {
                    job.work.finish(outcome);
                }
            }
            Err(fail) => {
                self.roll_back();
                state.cache.clear();
                if !seated {
                    state.seat = None;
                }
                let error = fail.at(&self.path);
                for job in batch {
                    job.work.finish(Err(error.clone()));
                }
            }
        }
    }

    fn begin(&self, state: &mut State, synced: bool) -> Result<(), Fail> {
        if synced != state.synced {
            // Allowed only between transactions. NORMAL writes the log without a sync, FULL syncs it once per commit.
            let level = if synced { "FULL" } else { "NORMAL" };
            self.db.pragma_update(None, "synchronous", level)?;
            state.synced = synced;
        }
        self.db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        state.cache.refresh(&self.db)?;
        state.fresh.clear();
        state.rings = false;
        Ok(())
    }

    /// The outcome of each, or the failure that ends them all.
    fn apply(&self, state: &mut State, batch: &mut [Job]) -> Result<Vec<Result<(), JournalError>>, Fail> {
        let several = batch.len() > 1;
        let mut insert = self.db.prepare_cached(INSERT)?;
        let mut broken: HashMap<StreamId, JournalError> = HashMap::new();
        let mut outcomes = Vec::with_capacity(batch.len());
        for job in batch {
            if let Some(error) = job.work.stream().and_then(|stream| broken.get(stream)) {
                outcomes.push(Err(error.clone()));
                continue;
            }
            let guarded = several && job.work.is_refused_late();
            if guarded {
                self.db.prepare_cached("SAVEPOINT one")?.execute([])?;
            }
            let changes = self.db.total_changes();
            let seated = state.seat.is_some();
            let before = state.fresh.len();
            let State { cache, seat, fresh, rings, .. } = state;
            let insert = &mut insert;
            let mut tx = Tx {
                db: &self.db,
                insert,
                cache,
                owners: &self.owners,
                seat,
                path: &self.path,
                fresh,
                rings,
            };
            let Err(fail) = job.work.apply(&mut tx) else {
                if guarded {
                    self.db.prepare_cached("RELEASE one")?.execute([])?;
                }
                outcomes.push(Ok(()));
                continue;
            };
            let error = fail.at(&self.path);
            let half_done = several && !guarded && self.db.total_changes() != changes;
            let lost = self.db.is_autocommit() || half_done;
            if lost || matches!(error, JournalError::DiskFull(_) | JournalError::Damaged(_)) {
                return Err(error.into());
            }
            if guarded {
                self.db.prepare_cached("ROLLBACK TO one")?.execute([])?;
                self.db.prepare_cached("RELEASE one")?.execute([])?;
            }
            state.cache.clear();
            state.fresh.truncate(before);
            if !seated {
                state.seat = None;
            }
            if let Some(stream) = job.work.stream() {
                broken.insert(stream.clone(), error.clone());
            }
            outcomes.push(Err(error));
        }
        Ok(outcomes)
    }

    fn roll_back(&self) {
        if !self.db.is_autocommit() {
            // A rollback that fails leaves a transaction behind; the next BEGIN fails then, and rolls back again.
            drop(self.db.execute_batch("ROLLBACK"));
        }
    }

    fn count(&self, synced: bool, outcomes: &[Result<(), JournalError>]) {
        let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count() as u64;
        if done > 0 {
            self.counters.commits.fetch_add(1, Ordering::Relaxed);
            self.counters.synced.fetch_add(u64::from(synced), Ordering::Relaxed);
            self.counters.transactions.fetch_add(done, Ordering::Relaxed);
        }
    }
}
