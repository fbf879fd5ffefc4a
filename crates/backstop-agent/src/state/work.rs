//! Counts the time in which somebody worked on a run.

use super::RunState;
use backstop_call::Timestamp;
use backstop_journal::EventBody;
use std::time::Duration;

/// Time in which somebody worked on the run. Parked time and the time after a crash do not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct WorkingTime {
    total: Duration,
    last: Timestamp,
    working: bool,
}

impl RunState {
    /// Time in which somebody worked on the run, until `now`.
    pub fn worked(&self, now: Timestamp) -> Duration {
        self.work.until(now)
    }

    /// When its task is not wanted any more.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.queue.as_ref()?.terms.deadline
    }

    /// How long somebody may work on it yet.
    pub fn time_left(&self, now: Timestamp) -> Duration {
        let left = self.limits.time.saturating_sub(self.worked(now));
        self.deadline().map_or(left, |deadline| left.min(deadline.since(now)))
    }
}

impl WorkingTime {
    pub(super) fn take(&mut self, at: Timestamp, body: &EventBody) {
        let claimed = matches!(body, EventBody::RunClaimed(_));
        if self.working && !claimed {
            self.total += at.since(self.last);
        }
        self.last = self.last.max(at);
        self.working = match body {
            EventBody::RunClaimed(_) | EventBody::RunResumed(_) => true,
            EventBody::RunCreated(_)
            | EventBody::RunParked(_)
            | EventBody::RunQueued(_)
            | EventBody::RunFinished(_) => false,
            _ => self.working,
        };
    }

    pub(super) fn until(&self, now: Timestamp) -> Duration {
        if self.working { self.total + now.since(self.last) } else { self.total }
    }
}
