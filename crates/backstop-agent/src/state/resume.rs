//! What becomes of the state when a run goes on.

use super::RunState;
use backstop_journal::RunStatus;
use backstop_journal::event::RunResumed;

impl RunState {
    pub(super) fn go_on(&mut self, resumed: &RunResumed) {
        self.status = RunStatus::Running;
        self.limits = resumed.limits;
        self.parked = None;
        if self.finished.take().is_some() {
            // It had stopped, and somebody let it go on: what stopped it is mended, or its waits begin anew.
            self.failures_in_a_row = 0;
        }
        self.failure = None;
        self.guard.clear();
    }
}
