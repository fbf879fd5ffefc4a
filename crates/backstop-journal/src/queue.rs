//! What a queue does: it hands runs that wait to workers, each to one. What waits, since when and how often it was tried is
//! a fold of the journal ([`crate::projections::queue`]); to put a run in is to append its first event, with queue terms.

use crate::projections::history::RunSummary;
use crate::projections::queue::{Queued, TaskState};
use crate::{Epoch, JournalError};
use backstop_call::{AgentName, BoxFuture, KeyName, ModelName, Role, RunId, TaskId, Timestamp};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What a process that has workers wants.
#[derive(Debug, Clone, Default)]
pub struct Take {
    /// The time.
    pub at: Timestamp,
    /// At most so many.
    pub most: usize,
    /// Only runs that ask one of these models or chains; `None` takes any.
    pub models: Option<BTreeSet<ModelName>>,
    /// How many runs of a role may be worked on at a time, over all processes. A role that is not named has no limit.
    pub roles: BTreeMap<Role, u32>,
}

/// A run that was taken: it is this process's until it is released, or this process dies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The run.
    pub run: RunId,
    /// The epoch of the claim.
    pub epoch: Epoch,
}

/// Which tasks are wanted, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// Only these states; empty means all.
    pub states: Vec<TaskState>,
    /// Only these tasks; empty means all.
    pub tasks: Vec<TaskId>,
    /// Only tasks whose id begins so.
    pub prefix: Option<String>,
    /// Only tasks whose newest run is one of this agent.
    pub agent: Option<AgentName>,
    /// Only tasks that were asked for with this key of the gateway.
    pub asked_by: Option<KeyName>,
    /// Only tasks that are found by this, as runs are ([`crate::RunFilter::search`]).
    pub search: Option<String>,
    /// Only older ones than this: its place in the list, for the next page.
    pub before: Option<i64>,
    /// At most so many; `None` means all.
    pub limit: Option<usize>,
}

/// A task as the queue has it.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskSummary {
    /// Its id: what its owner called it, or the run's where nobody did.
    pub task: TaskId,
    /// Its place in the list of all tasks. Grows with each.
    pub place: i64,
    /// Its newest run, with how it stands in the queue.
    pub run: RunSummary,
    /// Whether a living process works on it.
    pub worked_on: bool,
    /// The beginning of what it says; empty where that was erased.
    pub text: String,
}

impl TaskSummary {
    /// How it stands in the queue.
    pub fn queued(&self) -> Option<&Queued> {
        self.run.queue.as_ref()
    }
}

/// How much is in the queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Backlog {
    /// Due, and not worked on.
    pub due: u64,
    /// Not due yet.
    pub later: u64,
    /// Worked on.
    pub working: u64,
    /// Waiting for a person.
    pub parked: u64,
    /// Done.
    pub done: u64,
    /// Failed, and not tried again by themselves.
    pub dead: u64,
    /// Ended by somebody.
    pub cancelled: u64,
    /// How long the one that is due for longest waits.
    pub oldest: Duration,
}

/// The runs that wait. One conformance suite (in the store) runs over every implementation.
pub trait Queue: Send + Sync {
    /// Claims runs that are due, the most urgent first, and makes the next run of a task whose last one failed. Within the
    /// limits of their roles, and of tasks with the same key one at a time. The runs of a process that died are due at once.
    fn take(&self, take: Take) -> BoxFuture<'_, Result<Vec<Taken>, JournalError>>;

    /// When a run that nobody works on is due next; `None` where nothing waits for a time.
    fn next_due(&self, after: Timestamp) -> BoxFuture<'_, Result<Option<Timestamp>, JournalError>>;

    /// A number that changes whenever there may be something to take, whichever process it is that made it so.
    fn version(&self) -> u64;

    /// Waits until [`Queue::version`] is another one than `seen`, and gives it.
    fn changed(&self, seen: u64) -> BoxFuture<'_, u64>;

    /// Tasks, newest first.
    fn tasks(&self, filter: TaskFilter) -> BoxFuture<'_, Result<Vec<TaskSummary>, JournalError>>;

    /// How much is in it.
    fn backlog(&self, at: Timestamp) -> BoxFuture<'_, Result<Backlog, JournalError>>;
}
