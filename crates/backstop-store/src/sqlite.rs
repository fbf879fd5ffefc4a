//! The store in SQLite: one file, written by one thread of each process, read by a few. Several processes may use the
//! same file at once, on one machine.
//!
//! What survives what: an append of [`Durability::Synced`] survives the loss of power, one of [`Durability::Written`]
//! a kill -9 of the process.

mod ahead;
mod bell;
mod checkpoint;
mod fault;
mod intents;
mod ledger;
mod list;
mod money;
mod numbers;
mod owner;
mod query;
mod queue;
mod read;
mod schema;
mod scrub;
mod tasks;
mod tx;
mod writer;

pub use ledger::{LedgerMode, Recovered, SqliteLedger};
pub use owner::Turn;
pub use query::{QueryError, QueryLimits, QueryValue, Rows, query};

use crate::observer::{Observer, Observers};
use crate::record::Record;
use ahead::Ahead;
use backstop_call::{ApprovalId, BoxFuture, RunId, Timestamp};
use backstop_journal::event::RunErased;
use backstop_journal::projections::history::RunSummary;
use backstop_journal::{
    Append, Backlog, BlobHash, Durability, Epoch, Erase, Event, EventBody, Head, Journal, JournalError,
    ListedRun, Position, Queue, RunFilter, Seq, StreamId, Take, Taken, TaskFilter, TaskSummary,
};
use bell::Bell;
use checkpoint::Log;
use fault::Fail;
use ledger::Purse;
use owner::Owners;
use read::Readers;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;
use tx::Entry;
use writer::{About, Counters, Sender, Writer};

/// A commit costs as much by itself as a dozen events in it, and takes the core from calls while it lasts. What is
/// appended so that nobody waits is in no hurry; whoever waits ends the wait of all.
const LINGER: Duration = Duration::from_millis(50);

/// How a store is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// How long an append that nobody waits for waits for company.
    pub linger: Duration,
    /// Connections that read.
    pub readers: usize,
    /// Appends that may wait to be written; what comes on top is refused with [`JournalError::Busy`].
    pub waiting_max: usize,
    /// Bytes that may wait to be written.
    pub waiting_bytes_max: usize,
    /// The most bytes the database may grow to; beyond it appends fail with [`JournalError::DiskFull`].
    pub bytes_max: Option<u64>,
}

impl Default for StoreOptions {
    /// 50 ms of linger, 2 readers, 16,384 appends of 256 MiB together, a file of any size.
    fn default() -> Self {
        Self {
            linger: LINGER,
            readers: 2,
            waiting_max: 16_384,
            waiting_bytes_max: 256 * 1024 * 1024,
            bytes_max: None,
        }
    }
}

/// What the writer has done since the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreStats {
    /// Commits.
    pub commits: u64,
    /// Those of them that were synced: one sync each; the others have none.
    pub synced: u64,
    /// Logical transactions in them.
    pub transactions: u64,
    /// Times that the log was copied back into the database.
    pub checkpoints: u64,
}

/// A journal in a file. Clones share it; dropping the last one writes what is queued and ends the threads.
#[derive(Clone)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

struct Inner {
    sender: Sender,
    readers: Readers,
    counters: Arc<Counters>,
    log: Arc<Log>,
    path: PathBuf,
    purses: Mutex<Vec<Weak<Purse>>>,
    /// Who counts holds it for as long as that takes.
    counting: tokio::sync::Mutex<()>,
    ahead: Arc<Ahead>,
    observers: Observers,
    owners: Owners,
    bell: Arc<Bell>,
    threads: Vec<JoinHandle<()>>,
}

impl SqliteStore {
    /// Takes what one process does at a time for all that have this database open, by a name; `None` while another one does it.
    ///
    /// # Errors
    /// What ails the directory beside the database.
    pub fn take_turn(&self, what: &str) -> io::Result<Option<Turn>> {
        self.inner.owners.turn(what)
    }

    /// Opens a database, or makes one with the directories above it. Waits for the disk: not for async code.
    ///
    /// # Errors
    /// `Damaged` when the file is damaged or none of ours, `Newer` when a newer version wrote it, both without writing
    /// to it; `Unusable` when it cannot be read or written; `DiskFull`, `Busy`.
    #[expect(clippy::needless_pass_by_value, reason = "options are written where they are used")]
    pub fn open(path: impl AsRef<Path>, options: StoreOptions) -> Result<Self, JournalError> {
        let path = path.as_ref();
        let (mut db, owners) = schema::open(path)?;
        let log = Arc::new(Log::new());
        let hook = Arc::clone(&log);
        let set_up = || -> Result<(), Fail> {
            if let Some(bytes) = options.bytes_max {
                let page: i64 = db.query_row("PRAGMA page_size", [], |row| row.get(0))?;
                let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page.max(1);
                db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
            }
            db.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: i32| {
                hook.grew_to(u64::try_from(pages).unwrap_or(0));
                Ok(())
            }))?;
            Ok(())
        };
        set_up().map_err(|fail| fail.at(path))?;
        let mut beside = schema::open_beside(path)?;
        let readers = Readers::open(path, options.readers)?;
        let sender = Sender::new(options.waiting_max, options.waiting_bytes_max);
        let counters = Arc::new(Counters::default());
        let observers = Observers::default();
        let bell = Arc::new(Bell::beside(path));
        let writer = Writer {
            db,
            observers: observers.clone(),
            path: path.to_owned(),
            owners: owners.clone(),
            bell: Arc::clone(&bell),
            linger: options.linger,
            counters: Arc::clone(&counters),
            log: Arc::clone(&log),
        };
        let queue = sender.clone();
        let write = spawn("store-write", move || writer.run(&queue))?;
        let copied = Arc::clone(&log);
        let copy = spawn("store-checkpoint", move || copied.run(&mut beside))?;
        let threads = vec![write, copy];
        Ok(Self {
            inner: Arc::new(Inner {
                sender,
                readers,
                counters,
                log,
                path: path.to_owned(),
                purses: Mutex::default(),
                counting: tokio::sync::Mutex::default(),
                ahead: Arc::default(),
                observers,
                owners,
                bell,
                threads,
            }),
        })
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Tells `observer` of every event that this process commits from here on.
    pub fn observe(&self, observer: Observer) {
        self.inner.observers.add(observer);
    }

    /// What the writer has done.
    pub fn stats(&self) -> StoreStats {
        let counters = &self.inner.counters;
        StoreStats {
            commits: counters.commits.load(Ordering::Relaxed),
            synced: counters.synced.load(Ordering::Relaxed),
            transactions: counters.transactions.load(Ordering::Relaxed),
            checkpoints: self.inner.log.checkpoints(),
        }
    }

    /// Waits until everything that was appended before is synced.
    pub async fn flush(&self) -> Result<(), JournalError> {
        let touch = |tx: &mut tx::Tx<'_, '_>| tx.touch();
        self.inner.sender.submit(Durability::Synced, About::nothing(), touch).await
    }

    /// The ledger in the same file. Calls that dead processes left under way are suspended first, see [`Recovered`].
    pub async fn ledger(
        &self,
        mode: LedgerMode,
        now: Timestamp,
    ) -> Result<(SqliteLedger, Recovered), JournalError> {
        let (ledger, recovered) = SqliteLedger::open(self.clone(), mode, now).await?;
        let mut purses = self.inner.purses.lock().unwrap_or_else(PoisonError::into_inner);
        purses.retain(|purse| purse.strong_count() > 0);
        purses.push(ledger.purse());
        Ok((ledger, recovered))
    }

    /// Erases a large body for good. The events that refer to it stay, and the chain still verifies. Whether it was
    /// there. Its bytes are gone from the files a moment later, as those of a run that is erased.
    pub async fn erase_blob(&self, blob: BlobHash) -> Result<bool, JournalError> {
        self.inner.sender.submit(Durability::Synced, About::nothing(), move |tx| tx.erase_blob(&blob)).await
    }

    /// Checks the whole file: SQLite's own check of its structure. Reads all of it.
    pub async fn check(&self) -> Result<(), JournalError> {
        let path = self.inner.path.clone();
        self.inner.readers.read(move |db| schema::whole(db, "PRAGMA integrity_check(1)", &path)).await
    }
}

impl Journal for SqliteStore {
    fn append(&self, append: Append) -> BoxFuture<'static, Result<Head, JournalError>> {
        let texts = append.events.iter().map(EventBody::encode).collect();
        self.append_encoded(append, texts)
    }

    fn append_encoded(
        &self,
        append: Append,
        texts: Vec<String>,
    ) -> BoxFuture<'static, Result<Head, JournalError>> {
        let Append { stream, epoch, events, at, durability } = append;
        let encoded = events.into_iter().zip(texts);
        let records: Vec<_> = encoded.map(|(event, text)| Record::encoded(&stream, event, text)).collect();
        let size = |record: &Record| {
            record.json.len() + record.blobs.iter().map(|blob| blob.bytes.len()).sum::<usize>()
        };
        let bytes = records.iter().map(size).sum();
        let of = About::append(stream.clone(), bytes);
        let entry = Entry { stream, epoch, at, records };
        Box::pin(self.inner.sender.submit(durability, of, move |tx| tx.append(entry)))
    }

    fn read(&self, stream: &StreamId, after: Seq) -> BoxFuture<'_, Result<Vec<Event>, JournalError>> {
        let stream = stream.clone();
        Box::pin(self.inner.readers.read(move |db| read::events(db, &stream, after)))
    }

    fn tail(&self, after: Position, limit: usize) -> BoxFuture<'_, Result<Vec<Event>, JournalError>> {
        Box::pin(self.inner.readers.read(move |db| read::tail(db, after, limit)))
    }

    fn part(
        &self,
        stream: &StreamId,
        after: Seq,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Event>, JournalError>> {
        let stream = stream.clone();
        Box::pin(self.inner.readers.read(move |db| read::part(db, &stream, after, limit)))
    }

    fn end(&self) -> BoxFuture<'_, Result<Position, JournalError>> {
        Box::pin(self.inner.readers.read(read::end))
    }

    fn asked_by(&self, approval: &ApprovalId) -> BoxFuture<'_, Result<Option<RunId>, JournalError>> {
        let approval = approval.clone();
        Box::pin(self.inner.readers.read(move |db| list::asked_by(db, &approval)))
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<ListedRun>, JournalError>> {
        Box::pin(self.inner.readers.read(move |db| list::list(db, &filter)))
    }

    fn runs(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunSummary>, JournalError>> {
        Box::pin(self.inner.readers.read(move |db| list::runs(db, &filter)))
    }

    fn claim(&self, run: &RunId, at: Timestamp) -> BoxFuture<'_, Result<Epoch, JournalError>> {
        let run = run.clone();
        let of = About::within(StreamId::Run(run.clone()));
        Box::pin(self.inner.sender.submit(Durability::Written, of, move |tx| tx.claim(&run, at)))
    }

    fn release(&self, run: &RunId, epoch: Epoch) -> BoxFuture<'_, Result<(), JournalError>> {
        let run = run.clone();
        // Whoever goes on with the run needs its money.
        let purses = self.inner.purses.lock().unwrap_or_else(PoisonError::into_inner).clone();
        purses.iter().filter_map(Weak::upgrade).for_each(|purse| purse.give_back_run(&run));
        Box::pin(
            self.inner
                .sender
                .submit(Durability::Written, About::nothing(), move |tx| tx.release(&run, epoch)),
        )
    }

    fn erase(&self, erase: Erase) -> BoxFuture<'_, Result<RunErased, JournalError>> {
        let stream = StreamId::Run(erase.run.clone());
        let of = About::within(stream.clone());
        let plan = self.inner.readers.read(move |db| tx::plan(db, &stream));
        Box::pin(async move {
            let plan = plan.await?;
            let erase = move |tx: &mut tx::Tx<'_, '_>| tx.erase(erase, plan);
            self.inner.sender.submit(Durability::Synced, of, erase).await
        })
    }

    fn verify(&self, stream: &StreamId) -> BoxFuture<'_, Result<Head, JournalError>> {
        let stream = stream.clone();
        Box::pin(self.inner.readers.read(move |db| read::check(db, &stream)))
    }
}

impl Queue for SqliteStore {
    fn take(&self, take: Take) -> BoxFuture<'_, Result<Vec<Taken>, JournalError>> {
        // Not synced: a run that was taken, and nothing more, can be taken again.
        let take = move |tx: &mut tx::Tx<'_, '_>| tx.take(&take);
        Box::pin(self.inner.sender.submit(Durability::Written, About::nothing(), take))
    }

    fn next_due(&self, after: Timestamp) -> BoxFuture<'_, Result<Option<Timestamp>, JournalError>> {
        Box::pin(self.inner.readers.read(move |db| tasks::next_due(db, after)))
    }

    fn version(&self) -> u64 {
        self.inner.bell.version()
    }

    fn changed(&self, seen: u64) -> BoxFuture<'_, u64> {
        Box::pin(self.inner.bell.changed(seen))
    }

    fn tasks(&self, filter: TaskFilter) -> BoxFuture<'_, Result<Vec<TaskSummary>, JournalError>> {
        let owners = self.inner.owners.clone();
        Box::pin(self.inner.readers.read(move |db| tasks::list(db, &owners, &filter)))
    }

    fn backlog(&self, at: Timestamp) -> BoxFuture<'_, Result<Backlog, JournalError>> {
        Box::pin(self.inner.readers.read(move |db| tasks::backlog(db, at)))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.sender.close();
        let mut threads = self.threads.drain(..);
        for thread in threads.by_ref().take(1) {
            // A writer that panicked has failed everything that was queued.
            drop(thread.join());
        }
        self.log.close();
        threads.for_each(|thread| drop(thread.join()));
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, JournalError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map_err(|error| JournalError::Unusable(format!("no thread for the store: {error}")))
}
