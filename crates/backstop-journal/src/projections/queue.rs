//! How a run stands in the queue: whether it waits for a worker, and since when it may have one. Folded from the events of
//! the run alone, so that no process has to remember to put it back: a run whose wait is over, whose last question was
//! answered, or whose worker died waits again by itself.

use crate::event::{ParkReason, QueueTerms, RunFinished};
use crate::{EventBody, RunStatus};
use backstop_call::{Code, Priority, Timestamp};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How much longer a task of one priority waits before it is as urgent as one of the next higher priority that comes then.
/// So the urgent goes first, and nothing waits for ever.
const AGE: Duration = Duration::from_mins(10);
/// Workers of a run may die so often in a row, without anything coming of it.
const DEATHS_MAX: u32 = 5;

/// What a run in the queue waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// For a worker; or it has one.
    Waiting,
    /// For a person.
    Parked,
    /// For nothing: it is done.
    Done,
    /// For somebody who looks into it: it failed, and is not tried again by itself.
    Dead,
    /// For nothing: somebody ended it.
    Cancelled,
}

impl TaskState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Waiting, Self::Parked, Self::Done, Self::Dead, Self::Cancelled];

    /// The name as it stands in events, tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Parked => "parked",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How a run stands in the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// What holds for it.
    pub terms: QueueTerms,
    /// How urgent it is.
    pub priority: Priority,
    /// What it waits for.
    pub state: TaskState,
    /// When it may have a worker; `None` where it waits for a person first, or for nothing.
    pub due: Option<Timestamp>,
    /// Tries of its task that failed, those of earlier runs included.
    pub tried: u32,
    /// Whether the next try is a run of its own: this one is over.
    pub anew: bool,
    /// Workers that took it since something last came of it.
    pub taken: u32,
    /// Whether it was begun without the queue, and handed over later: its task's id may be that of other runs, too.
    pub handed_over: bool,
}

impl Queued {
    /// A run that waits under these terms.
    pub fn new(terms: QueueTerms, priority: Priority) -> Self {
        let (due, tried) = (Some(terms.due), terms.tried);
        Self {
            terms,
            priority,
            state: TaskState::Waiting,
            due,
            tried,
            anew: false,
            taken: 0,
            handed_over: false,
        }
    }

    /// Where it stands in the queue: the smallest is next. Nanoseconds of the time at which it would have been due if all
    /// were equally urgent. `None` where it is not to be taken at all.
    pub fn rank(&self) -> Option<u64> {
        let ages = match self.priority {
            Priority::Interactive => 0,
            Priority::Standard => 1,
            Priority::Batch => 2,
        };
        self.due.map(|due| (due + AGE * ages).nanos())
    }

    /// The rank below which everything is that is due at `now`.
    pub fn last_rank(now: Timestamp) -> u64 {
        (now + AGE * 2).nanos()
    }

    /// Whether its workers died too often.
    pub fn is_deadly(&self) -> bool {
        self.taken > DEATHS_MAX
    }

    /// Folds in what happened to a run that stood like this before, and had this status.
    pub fn fold(queue: &mut Option<Self>, status: RunStatus, at: Timestamp, body: &EventBody) {
        if let EventBody::RunCreated(created) = body {
            *queue = created.queue.clone().map(|terms| Self::new(terms, created.priority));
        }
        let EventBody::RunQueued(queued) = body else {
            if let Some(queue) = queue {
                queue.apply(at, body);
            }
            return;
        };
        if matches!(status, RunStatus::Done | RunStatus::Cancelled) {
            return;
        }
        let before = queue.as_ref();
        let priority = before.map(|queue| queue.priority).unwrap_or_default();
        let handed_over = before.is_none_or(|queue| queue.handed_over);
        // A run that failed is over; its task is tried by another one.
        let anew = status == RunStatus::Failed;
        *queue = Some(Self { anew, handed_over, ..Self::new(queued.terms.clone(), priority) });
    }

    fn apply(&mut self, at: Timestamp, body: &EventBody) {
        match body {
            EventBody::RunClaimed(_) => self.taken += 1,
            EventBody::RunParked(parked) => {
                let waits = parked.reason == ParkReason::Wait;
                self.state = if waits { TaskState::Waiting } else { TaskState::Parked };
                (self.due, self.taken) = (parked.until, 0);
            }
            // A person spoke: whoever takes the run sees whether that was all it waits for.
            EventBody::ApprovalDecided(_) | EventBody::ToolResolved(_) | EventBody::RunResumed(_) => {
                (self.state, self.due, self.taken, self.anew) = (TaskState::Waiting, Some(at), 0, false);
            }
            EventBody::CallFinished(_) | EventBody::CallFailed(_) | EventBody::ToolFinished(_) => {
                self.taken = 0;
            }
            EventBody::RunFinished(finished) => {
                self.taken = 0;
                match finished.status {
                    RunStatus::Done => self.end(TaskState::Done),
                    RunStatus::Cancelled => self.end(TaskState::Cancelled),
                    RunStatus::Failed | RunStatus::Stopped => self.failed(finished, at),
                    RunStatus::Running | RunStatus::Parked => {}
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, state: TaskState) {
        (self.state, self.due) = (state, None);
    }

    fn failed(&mut self, finished: &RunFinished, at: Timestamp) {
        self.tried += 1;
        self.anew = finished.status == RunStatus::Failed;
        let due = at + self.terms.wait_after(self.tried);
        let in_time = self.terms.deadline.is_none_or(|deadline| due < deadline);
        if self.tried < self.terms.tries && in_time && helps_to_try_again(finished) {
            (self.state, self.due) = (TaskState::Waiting, Some(due));
        } else {
            self.end(TaskState::Dead);
        }
    }
}

/// Whether time alone can mend it. A limit of the run, or a person's no, is the same at the next try.
fn helps_to_try_again(finished: &RunFinished) -> bool {
    !matches!(
        finished.code,
        Some(
            Code::TimeLimit
                | Code::TurnLimit
                | Code::TokenLimit
                | Code::LoopGuard
                | Code::DeadlineExceeded
                | Code::RequestInvalid
                | Code::RequestTooLarge
                | Code::NoLocalModel
                | Code::PriceUnknown
                | Code::PlanChanged
                | Code::WorkersDied
                | Code::Internal
        )
    )
}

#[cfg(test)]
mod tests;
