//! Tasks that a run puts into the queue: each once, known by the call that put it in, never with more than the run has itself, and
//! paid for by it and by all that are above it. What becomes of one is no business of its submitter's, but for its undo: it is
//! ended as long as nothing came of it.

use super::RunError;
use super::drive::Drive;
use super::tools::{Returned, planned_without_tool};
use super::undo::UndoOutcome;
use crate::delegation::{Part, child_of, has_begun, preview, task};
use crate::state::ToolCall;
use crate::tool::{Plan, ToolOutput};
use backstop_call::{Code, RunId};
use backstop_journal::event::{RunCreated, RunFinished, ToolPlanned};
use backstop_journal::{Event, JournalError, RunStatus, StreamId};
use backstop_label::Class;
use serde_json::json;
use std::time::Duration;

impl Drive<'_> {
    /// What putting a task in would do. The error is for the model.
    pub(super) fn plan_task(&self, id: &str, part: &Part) -> Result<Plan, String> {
        let template = self.template(part)?;
        let created = self.task_of(id, part)?;
        let refused = |error: RunError| format!("This task cannot be submitted: {error}.");
        self.agent.check(&created).map_err(refused)?;
        let undo = Some(json!({ "run": child_of(&self.run, id) }));
        Ok(Plan { preview: preview(&created, &template.run.limits), undo, ..Plan::default() })
    }

    /// Puts the task in that a call asks for. The call's start is durable, and the run's id is made from it: the journal takes it
    /// once, however often it is put in.
    pub(super) async fn put_in(&self, call: &ToolCall) -> Returned {
        let run = child_of(&self.run, &call.id);
        let said = |output| Returned::Said { output, duration: Duration::ZERO };
        let created = match self.task_of(&call.id, &Part::of(&call.args, &call.labels)) {
            Ok(created) => created,
            Err(reason) => return said(Err(reason)),
        };
        match self.agent.journal.append(self.agent.happened(&run, None, created)).await {
            Ok(_) | Err(JournalError::TaskExists { .. }) => {
                said(Ok(ToolOutput::text(format!("Task {run} waits for a worker."))))
            }
            Err(error) => Returned::Lost { reason: error.to_string() },
        }
    }

    /// The run of a task, with what this run has left. Its time is its own: nobody waits for it.
    fn task_of(&self, id: &str, part: &Part) -> Result<RunCreated, String> {
        let mut created = self.of_template(part)?;
        created.limits.time = self.template(part)?.run.limits.time;
        let kin = self.kin_of_part();
        Ok(task(created, &child_of(&self.run, id), (kin.payers, kin.depth), self.now()))
    }

    /// Ends the task that a call put in, unless something came of it.
    pub(super) async fn undo_task(&mut self, call: &ToolCall) -> Result<UndoOutcome, RunError> {
        let run = child_of(&self.run, &call.id);
        let outcome = match self.withdraw(&run).await {
            Err(RunError::Journal(JournalError::Owned { .. })) => has_run(&run),
            outcome => outcome?,
        };
        if let UndoOutcome::Done(said) = &outcome {
            let id = format!("undo:{}", call.id);
            let planned = planned_without_tool(call, Class::Idempotent);
            self.note(ToolPlanned { id: id.clone(), undoes: Some(call.id.clone()), ..planned });
            self.undone(&id, Ok(said.clone()), Duration::ZERO, false);
        }
        Ok(outcome)
    }

    async fn withdraw(&self, run: &RunId) -> Result<UndoOutcome, RunError> {
        if let Some(settled) = standing(run, &self.events_of(run).await?) {
            return Ok(settled);
        }
        let agent = self.agent;
        agent
            .with_claim(run, async |mut claimed| {
                // A worker may have been quicker.
                if let Some(settled) = standing(run, &self.events_of(run).await?) {
                    return Ok(settled);
                }
                let finished = RunFinished {
                    status: RunStatus::Cancelled,
                    result: None,
                    code: Some(Code::Cancelled),
                    message: format!("run {}, which had submitted it, was taken back", self.run).into(),
                };
                agent.append_one(run, &mut claimed, finished.into()).await?;
                Ok(withdrawn(run))
            })
            .await
    }

    /// What the undo of a call would do that put a task in.
    pub(super) async fn rehearse_undo_of_task(&self, call: &ToolCall) -> Result<UndoOutcome, RunError> {
        let run = child_of(&self.run, &call.id);
        let would = || UndoOutcome::Done(format!("task {run} would be ended"));
        Ok(standing(&run, &self.events_of(&run).await?).unwrap_or_else(would))
    }

    async fn events_of(&self, run: &RunId) -> Result<Vec<Event>, RunError> {
        Ok(self.agent.journal.read(&StreamId::Run(run.clone()), 0).await?)
    }
}

/// What there is to say of a task that is to be taken back; `None` where it is to be ended.
fn standing(run: &RunId, events: &[Event]) -> Option<UndoOutcome> {
    let is_cancelled = |event: &Event| match &event.body {
        backstop_journal::EventBody::RunFinished(finished) => finished.status == RunStatus::Cancelled,
        _ => false,
    };
    if events.is_empty() || events.last().is_some_and(is_cancelled) {
        return Some(withdrawn(run));
    }
    has_begun(events).then(|| has_run(run))
}

fn withdrawn(run: &RunId) -> UndoOutcome {
    UndoOutcome::Done(format!("task {run} was ended before it began"))
}

fn has_run(run: &RunId) -> UndoOutcome {
    UndoOutcome::Conflict(format!(
        "task {run} has begun; end it with `backstop cancel`, and undo what it did"
    ))
}
