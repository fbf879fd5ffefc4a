//! Events of jobs: the schedule that holds, what was put into the queue for which time and what was not, and what people said
//! about it. All of them stand in the stream `jobs`. What came of a task is told by its run.

use backstop_call::{JobName, RunId, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

/// A schedule holds from here on. Times before it are nobody's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobDefined {
    /// The job.
    pub job: JobName,
    /// When it is due: a cron expression.
    pub schedule: String,
    /// The time zone that the schedule is read in.
    pub timezone: String,
}

/// The config has the job no more, or has it off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobDropped {
    /// The job.
    pub job: JobName,
}

/// A task was made of the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStarted {
    /// The job.
    pub job: JobName,
    /// The task. Its id is made of the job's name and the time, so that each time has one.
    pub task: TaskId,
    /// The task's first run.
    pub run: RunId,
    /// The time of its schedule that it is for; `None` where a person wanted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// The person who wanted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Why there was no task for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobSkip {
    /// Nobody was there at its time, and it is not made up for.
    Missed,
    /// What was begun before is still under way.
    Overlap,
}

impl JobSkip {
    /// The name as it stands in events, tables and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missed => "missed",
            Self::Overlap => "overlap",
        }
    }
}

/// There is no task for one time, or for several that follow one another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSkipped {
    /// The job.
    pub job: JobName,
    /// The first of the times.
    pub first: Timestamp,
    /// The last of them.
    pub last: Timestamp,
    /// How many they are.
    pub times: u64,
    /// Why.
    pub why: JobSkip,
}

/// The schedule does not count for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobPaused {
    /// The job.
    pub job: JobName,
    /// Who said so.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// The schedule counts again. What it named meanwhile is not made up for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobResumed {
    /// The job.
    pub job: JobName,
    /// Who said so.
    pub by: String,
}
