//! What a journal does. One conformance suite (in the store) runs over every implementation.

use crate::event::RunErased;
use crate::projections::history::RunSummary;
use crate::{Event, EventBody, Hash, RunStatus, StreamId};
use backstop_call::{AgentName, ApprovalId, BoxFuture, Code, ModelName, Role, RunId, TaskId, Timestamp};
use std::fmt;
use std::str::FromStr;

/// The number of an event in its stream, from 1.
pub type Seq = u64;
/// The number of an event over all streams, in the order they were committed. Gaps are possible.
pub type Position = u64;
/// How often a run has been claimed: a fencing token. An append with an older one is refused.
pub type Epoch = u64;

/// When an append counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// In the queue of the writer. Lost at kill -9 if the writer has not come to it; it goes into the next commit, and
    /// waits for company no longer than the writer's linger.
    Queued,
    /// Written, not synced: survives kill -9 of the process, not the loss of power.
    Written,
    /// Synced to the disk: survives the loss of power.
    Synced,
}

/// Events to be appended to one stream, together or not at all.
#[derive(Debug, Clone)]
pub struct Append {
    /// The stream.
    pub stream: StreamId,
    /// The epoch of the run's claim; `None` for streams that nobody owns.
    pub epoch: Option<Epoch>,
    /// What happened, in order.
    pub events: Vec<EventBody>,
    /// When.
    pub at: Timestamp,
    /// When it counts as done.
    pub durability: Durability,
}

/// The end of a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Head {
    /// The last event's number in the stream.
    pub seq: Seq,
    /// Its hash.
    pub hash: Hash,
    /// Its number over all streams.
    pub position: Position,
}

/// A process that works on runs. It is alive as long as the store says so: a dead owner's claim is free at once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner(pub String);

/// Which runs are wanted, newest first.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Only these states; empty means all.
    pub status: Vec<RunStatus>,
    /// Only runs of this agent.
    pub agent: Option<AgentName>,
    /// Only runs in this role.
    pub role: Option<Role>,
    /// Only runs that ask this model or chain.
    pub model: Option<ModelName>,
    /// Only runs created then or later.
    pub from: Option<Timestamp>,
    /// Only runs created before.
    pub until: Option<Timestamp>,
    /// Only runs whose id begins so (four characters at least); where there is none, only those whose task has every one of
    /// these words, in its id or at the beginning of its text. The last letters of a word may be missing.
    pub search: Option<String>,
    /// Only runs behind this one: the next page.
    pub before: Option<RunCursor>,
    /// Only runs whose id begins so.
    pub id_prefix: Option<String>,
    /// At most so many; `None` means all.
    pub limit: Option<usize>,
}

/// A place in the list of runs: behind this run. Its text is what stands in links: `1800000000000000000-1m8ewy`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunCursor {
    /// When the run was created.
    pub created: Timestamp,
    /// The run.
    pub run: RunId,
}

impl fmt::Display for RunCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.created.nanos(), self.run)
    }
}

/// A text that names no place in the list of runs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no place in the list of runs")]
pub struct BadCursor(String);

impl FromStr for RunCursor {
    type Err = BadCursor;
    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let bad = || BadCursor(text.chars().take(100).collect());
        let (created, run) = text.split_once('-').ok_or_else(bad)?;
        let created = Timestamp::from_nanos(created.parse().map_err(|_| bad())?);
        if run.is_empty() { Err(bad()) } else { Ok(Self { created, run: run.into() }) }
    }
}

/// A run as it stands in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedRun {
    /// How it stands.
    pub summary: RunSummary,
    /// The beginning of what its task says; empty where that was erased.
    pub text: String,
    /// Its last event.
    pub head: Head,
}

impl ListedRun {
    /// Where the list goes on behind it.
    pub fn cursor(&self) -> RunCursor {
        RunCursor { created: self.summary.created, run: self.summary.run.clone() }
    }
}

/// What a run said at length is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erase {
    /// The run. Whoever asks has decided that it is over for good.
    pub run: RunId,
    /// Its last event when that was decided.
    pub head: Seq,
    /// When.
    pub at: Timestamp,
    /// Who wants it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// Why the journal did not do it. Nothing of the append was kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// A newer claim exists, or a living process holds the run.
    #[error("run {run} belongs to {owner}")]
    Owned {
        /// The run.
        run: RunId,
        /// Who holds it.
        owner: String,
    },
    /// The disk is full.
    #[error("the disk is full: {0}")]
    DiskFull(String),
    /// The database is damaged, or is none.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// The database was written by a newer version.
    #[error("the database has format {found}, this version reads up to {known}")]
    Newer {
        /// Its format.
        found: u32,
        /// The newest format this version knows.
        known: u32,
    },
    /// Another process held the database for too long.
    #[error("the database is busy: {0}")]
    Busy(String),
    /// It cannot be opened, read or written.
    #[error("the database cannot be used: {0}")]
    Unusable(String),
    /// There is no such run.
    #[error("there is no run {0}")]
    NotFound(RunId),
    /// A task with this id is in the queue already, or was. It is the same task, and nothing was done.
    #[error("task {task} is there already, as run {run}")]
    TaskExists {
        /// The task.
        task: TaskId,
        /// Its newest run.
        run: RunId,
    },
    /// The run has gone on since it was looked at.
    #[error("run {0} has gone on since it was looked at")]
    Moved(RunId),
    /// The hash chain does not verify.
    #[error(transparent)]
    Chain(#[from] crate::ChainError),
}

impl JournalError {
    /// The code a user can look up.
    pub fn code(&self) -> Code {
        match self {
            Self::Owned { .. } => Code::OwnedElsewhere,
            Self::DiskFull(_) => Code::DiskFull,
            Self::Damaged(_) => Code::DatabaseDamaged,
            Self::Newer { .. } => Code::DatabaseNewer,
            Self::Busy(_) => Code::JournalBusy,
            Self::Unusable(_) => Code::DatabaseUnusable,
            Self::NotFound(_) => Code::RunNotFound,
            Self::TaskExists { .. } => Code::TaskExists,
            Self::Moved(_) => Code::RunMoved,
            Self::Chain(_) => Code::ChainBroken,
        }
    }
}

/// Keeps events. All appends of one process are committed in the order they were made, whatever their durability.
pub trait Journal: Send + Sync {
    /// Puts the append into the writer's queue at once, also if the future is never polled; the future ends when the
    /// append is as durable as was asked. A failed append of a stream fails those that came after it in the same commit.
    fn append(&self, append: Append) -> BoxFuture<'static, Result<Head, JournalError>>;

    /// As [`Journal::append`], for whoever has encoded the events already: `texts` are what [`EventBody::encode`] gives for
    /// each of them, in order.
    fn append_encoded(
        &self,
        append: Append,
        texts: Vec<String>,
    ) -> BoxFuture<'static, Result<Head, JournalError>> {
        drop(texts);
        self.append(append)
    }

    /// The events of a stream after `after` (0 for all), bodies inline unless erased.
    fn read(&self, stream: &StreamId, after: Seq) -> BoxFuture<'_, Result<Vec<Event>, JournalError>>;

    /// Up to `limit` events of all streams after `after`, in the order they were committed.
    fn tail(&self, after: Position, limit: usize) -> BoxFuture<'_, Result<Vec<Event>, JournalError>>;

    /// The first `limit` events of a stream after `after`.
    fn part(
        &self,
        stream: &StreamId,
        after: Seq,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Event>, JournalError>>;

    /// The number of the last event over all streams.
    fn end(&self) -> BoxFuture<'_, Result<Position, JournalError>>;

    /// The run that asked a question, whatever became of both.
    fn asked_by(&self, approval: &ApprovalId) -> BoxFuture<'_, Result<Option<RunId>, JournalError>>;

    /// Runs with what a list says of them, newest first. Costs what is listed, whatever the journal holds.
    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<ListedRun>, JournalError>>;

    /// Runs, newest first.
    fn runs(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunSummary>, JournalError>>;

    /// Claims a run for this process and gives its new epoch; appends `run.claimed`. Refused while another living
    /// process holds it.
    fn claim(&self, run: &RunId, at: Timestamp) -> BoxFuture<'_, Result<Epoch, JournalError>>;

    /// Lets go of a claim. A stale epoch changes nothing.
    fn release(&self, run: &RunId, epoch: Epoch) -> BoxFuture<'_, Result<(), JournalError>>;

    /// Erases what a run said, and appends `run.erased`, in one commit: every body and free text gives way to its digest, with
    /// which the chain verifies as before. Gives what was erased; nothing to erase is no error. Refused while a living process
    /// holds the run, when it has gone on since it was looked at, and where links of an older version are broken: afterwards
    /// nobody could tell. A store in a file overwrites what copies it has left a moment later, at the latest when it is closed.
    fn erase(&self, erase: Erase) -> BoxFuture<'_, Result<RunErased, JournalError>>;

    /// Checks the hash chain of a stream.
    fn verify(&self, stream: &StreamId) -> BoxFuture<'_, Result<Head, JournalError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        let cursor = RunCursor { created: Timestamp::from_secs(1_800_000_000), run: "1m8-x".into() };
        assert_eq!(cursor.to_string(), "1800000000000000000-1m8-x");
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for bad in ["", "-", "5", "5-", "x-1m8", "-1-1m8"] {
            assert_eq!(bad.parse::<RunCursor>(), Err(BadCursor(bad.to_owned())));
        }
    }
}
