//! What workers do: put runs into the queue, and work on those that they took.

use super::{Agent, RunError, RunOutcome, check_schema, there};
use backstop_call::{Role, RunId, TaskId};
use backstop_journal::event::{QueueTerms, RunCreated, RunFinished, RunQueued};
use backstop_journal::{JournalError, RunStatus, Taken};
use std::sync::atomic::Ordering;

/// What became of a task that was put into the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// The task.
    pub task: TaskId,
    /// Its run.
    pub run: RunId,
    /// Whether it is new: a task that is there already is left as it is.
    pub new: bool,
}

impl Agent {
    /// Puts a run into the queue, durably; once for each id of a task, whoever asks. Whether the tools it names are there is
    /// for the worker that takes it to see.
    pub async fn submit(&self, created: RunCreated) -> Result<Submitted, RunError> {
        self.submit_as(None, created, None).await
    }

    /// The same with an id for its run, of which a second task cannot be made, and in another role than its own: then the rights
    /// of both bound it.
    pub async fn submit_as(
        &self,
        run: Option<RunId>,
        mut created: RunCreated,
        role: Option<Role>,
    ) -> Result<Submitted, RunError> {
        let now = self.clock.now();
        created.queue.get_or_insert_with(|| QueueTerms::once(now));
        check_schema(&created)?;
        self.bound(&mut created);
        if let Some(role) = role.filter(|role| *role != created.role) {
            created.role = role;
            self.bound(&mut created);
        }
        let run = run.unwrap_or_else(|| RunId::new(now, self.seed.next_u64()));
        let task = created.task.clone();
        match self.journal.append(self.happened(&run, None, created)).await {
            Ok(_) => Ok(Submitted { task, run, new: true }),
            Err(JournalError::TaskExists { task, run }) => Ok(Submitted { task, run, new: false }),
            Err(error) => Err(error.into()),
        }
    }

    /// Has workers go on with a run that rests, or try the task of one that failed anew. A run that does a part for another
    /// goes on with that one.
    pub async fn queue(&self, run: &RunId, terms: QueueTerms) -> Result<(), RunError> {
        let top = self.top_of(run).await?;
        let state = self.state_of(&top).await?;
        let status = state.status;
        if state.created.is_none() {
            return Err(JournalError::NotFound(top).into());
        }
        there(&top, &state)?;
        if matches!(status, RunStatus::Done | RunStatus::Cancelled) {
            return Err(RunError::Over { run: top, status });
        }
        self.journal.append(self.happened(&top, None, RunQueued { terms })).await?;
        Ok(())
    }

    /// A person has spoken to a run: what it does a part for waits for a worker again, if that is who works on it.
    pub(super) async fn wake(&self, run: &RunId) -> Result<(), RunError> {
        let top = self.top_of(run).await?;
        let queue = if top == *run { None } else { self.state_of(&top).await?.queue };
        let Some(queue) = queue else { return Ok(()) };
        let terms = QueueTerms { due: self.clock.now(), tried: queue.tried, ..queue.terms };
        self.journal.append(self.happened(&top, None, RunQueued { terms })).await?;
        Ok(())
    }

    /// Works on a run that was taken from the queue until it is over, parked or stopped, and lets go of it. A run that
    /// cannot be worked on here is stopped, and says why, so that it is not taken again and again.
    pub async fn work(&self, taken: &Taken) -> Result<RunOutcome, RunError> {
        let run = &taken.run;
        self.holding(run, taken.epoch, async |claimed| {
            let epoch = claimed.epoch;
            let error = match self.go_on(run, claimed, None).await {
                Err(error) if !matches!(error, RunError::Journal(_)) => error,
                done => return done,
            };
            let finished = RunFinished {
                status: RunStatus::Stopped,
                result: None,
                code: Some(error.code()),
                message: error.to_string().into(),
            };
            self.journal.append(self.happened(run, Some(epoch), finished)).await?;
            self.inspect(run).await
        })
        .await
    }

    /// Whether runs are to be let go of.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}
