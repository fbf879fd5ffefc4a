//! Tasks that are there: found, told to programs, tried again, ended.

use backstop::Backstop;
use backstop_agent::RunError;
use backstop_journal::{Backlog, JournalError, Queue, TaskFilter, TaskSummary};
use serde_json::{Value, json};

/// The one task of this id.
///
/// # Errors
/// What ails the journal.
pub async fn find(queue: &dyn Queue, id: &str) -> Result<Option<TaskSummary>, JournalError> {
    let filter = TaskFilter { tasks: vec![id.into()], limit: Some(1), ..TaskFilter::default() };
    Ok(queue.tasks(filter).await?.pop())
}

/// Has a task tried again: all its tries, at once.
///
/// # Errors
/// `Over` where it is done or was ended; what ails the journal.
pub async fn retry(backstop: &Backstop, task: &TaskSummary) -> Result<(), RunError> {
    let Some(queue) = task.queued() else { return Ok(()) };
    backstop.hand_over(&task.run.run, queue.terms.again(backstop.clock().now())).await
}

/// Ends a task for good.
///
/// # Errors
/// `Over` where it is; what ails the journal.
pub async fn cancel(
    backstop: &Backstop,
    task: &TaskSummary,
    by: &str,
    reason: Option<&str>,
) -> Result<(), RunError> {
    let why = reason.map_or_else(|| format!("ended by {by}"), |reason| format!("ended by {by}: {reason}"));
    backstop.cancel(&task.run.run, &why).await.map(drop)
}

/// A task, for programs.
pub fn task_json(task: &TaskSummary) -> Value {
    let queue = task.queued();
    json!({
        "task": task.task,
        "state": queue.map(|queue| queue.state),
        "working": task.worked_on,
        "due": queue.and_then(|queue| queue.due),
        "tried": queue.map(|queue| queue.tried),
        "tries": queue.map(|queue| queue.terms.tries),
        "key": queue.and_then(|queue| queue.terms.key.clone()),
        "run": task.run,
    })
}

/// How much is in the queue, for programs.
pub fn backlog_json(backlog: &Backlog) -> Value {
    json!({
        "due": backlog.due,
        "later": backlog.later,
        "working": backlog.working,
        "parked": backlog.parked,
        "done": backlog.done,
        "dead": backlog.dead,
        "cancelled": backlog.cancelled,
        "oldest_ms": u64::try_from(backlog.oldest.as_millis()).unwrap_or(u64::MAX),
    })
}
