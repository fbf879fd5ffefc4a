//! Jobs: tasks that come again and again, at the times of a schedule. What is due is one pure decision over the config, the
//! stream `jobs` of the journal and the time; the scheduler carries it out by putting tasks into the queue. A task's id is
//! made of its job and its time, so that it is there once, however many processes see the time come.

mod book;
mod due;
mod schedule;
mod scheduler;
mod view;

pub use book::JobBook;
pub(crate) use book::catch_up;
pub use due::{CatchUp, Overlap, Standing, Terms, Verdict, due};
pub use schedule::{BadSchedule, Schedule};
pub use scheduler::{Looked, Scheduler, Wall, note, started, submit};
pub(crate) use view::{Books, Lately, lately};
pub use view::{JobOutcome, JobRow, JobRun, JobState, JobView, Paused};

use crate::config::{Config, Problem, allowed};
use crate::tasks::Asked;
use backstop_call::{Code, JobName, TaskId, Timestamp};

/// A job of the config.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// When it is due, and what becomes of times that cannot be kept.
    pub terms: Terms,
    /// Whether its schedule does not count.
    pub off: bool,
    /// What is done.
    pub asked: Asked,
}

/// A job of the config, by its name.
///
/// # Errors
/// `JobNotFound`.
pub fn job<'a>(config: &'a Config, name: &JobName) -> Result<&'a Job, Problem> {
    config.jobs.get(name).ok_or_else(|| {
        let problem = Problem::new(Code::JobNotFound, format!("there is no job `{name}`"));
        problem.with_hint(allowed("jobs", name.as_str(), config.jobs.keys().map(JobName::as_str)))
    })
}

/// The task of a job for a time of its schedule: `letter@2026-11-28T07:00:00Z`.
pub fn task_at(job: &JobName, time: Timestamp) -> TaskId {
    // Schedules go by the minute.
    let text = time.rfc3339();
    format!("{job}@{}Z", text.get(..19).unwrap_or(&text)).into()
}

/// The task of a job that a person wanted now: `letter@2026-11-28T07:00:03.123Z-by-hand`, which no schedule makes.
pub fn task_by_hand(job: &JobName, now: Timestamp) -> TaskId {
    format!("{job}@{now}-by-hand").into()
}
