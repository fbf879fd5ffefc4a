//! How jobs stand, for whoever shows them: the config, the stream `jobs` and what became of the tasks, put together. Reads,
//! and changes nothing.

use super::{Job, Overlap, Schedule};
use backstop_allowance::message_in_words;
use backstop_call::{AgentName, Code, ERASED, JobName, Money, RunId, TaskId, Timestamp};
use backstop_journal::event::{JobPaused, JobSkip, JobStarted};
use backstop_journal::projections::history::RunSummary;
use backstop_journal::projections::jobs::{JobRecord, Jobs, REMEMBERED_MAX};
use backstop_journal::projections::metrics::JobSummary;
use backstop_journal::projections::queue::TaskState;
use backstop_journal::{
    Body, EventBody, Journal, JournalError, Queue, RunFilter, RunStatus, StreamId, TaskFilter, TaskSummary,
};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

/// Events at the end of a run among which its result is looked for first.
const ENDING: u64 = 16;
/// Characters of what a run says about itself.
const SUMMARY_CHARS_MAX: usize = 500;

/// What came of a job's task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobOutcome {
    /// Nothing yet: it waits for a worker.
    Waiting,
    /// Nothing yet: somebody works on it.
    Working,
    /// Nothing yet: it waits for a person.
    Parked,
    /// It is done.
    Done,
    /// It failed or was stopped, and is not tried again by itself.
    Failed,
    /// Somebody ended it.
    Cancelled,
}

impl JobOutcome {
    /// The name as it stands in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Working => "working",
            Self::Parked => "parked",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing came of it yet.
    pub fn is_under_way(self) -> bool {
        matches!(self, Self::Waiting | Self::Working | Self::Parked)
    }
}

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// The config has it off.
    Off,
    /// A person paused it.
    Paused,
    /// Its last task is under way.
    UnderWay,
    /// It waits for its next time.
    Scheduled,
}

impl JobState {
    /// The name as it stands in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Paused => "paused",
            Self::UnderWay => "under-way",
            Self::Scheduled => "scheduled",
        }
    }
}

/// One task of a job.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobRun {
    /// The time of the schedule that it is for; `None` where a person wanted it.
    #[serde(serialize_with = "maybe_rfc3339")]
    pub time: Option<Timestamp>,
    /// When it was put into the queue, or begun.
    #[serde(serialize_with = "rfc3339")]
    pub began: Timestamp,
    /// The person who wanted it.
    pub by: Option<String>,
    /// The task.
    pub task: TaskId,
    /// Its newest run.
    pub run: RunId,
    /// What came of it.
    pub outcome: JobOutcome,
    /// What that run cost, suspense included.
    pub cost: Money,
    /// When that run ended, or stopped.
    #[serde(serialize_with = "maybe_rfc3339")]
    pub ended: Option<Timestamp>,
    /// How long it took from its creation on; up to its last event as long as it has no end. In milliseconds.
    pub took_ms: u64,
    /// Why it is not done.
    pub code: Option<Code>,
    /// What it says about itself: the beginning of its result, or why it is not done. Filled in where a job's story is told.
    pub summary: String,
}

/// A job, and how it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobView {
    /// Its name.
    pub name: JobName,
    /// The cron expression.
    pub schedule: String,
    /// The time zone that it is read in.
    pub timezone: String,
    /// The agent that does it.
    pub agent: Option<AgentName>,
    /// What becomes of a time that comes while an earlier one is under way: `skip`, `queue` or `replace`.
    pub overlap: &'static str,
    /// How it stands.
    pub state: JobState,
    /// Since when, by whom and why it is paused.
    pub paused: Option<Paused>,
    /// Its next time; `None` while its schedule does not count.
    #[serde(serialize_with = "maybe_rfc3339")]
    pub next: Option<Timestamp>,
    /// The same as clocks of its time zone show it.
    pub next_local: Option<String>,
    /// Its last task.
    pub last: Option<JobRun>,
    /// How many of its last tasks failed one after the other.
    pub failures_in_a_row: u32,
}

/// Who paused a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Paused {
    /// When.
    #[serde(serialize_with = "rfc3339")]
    pub since: Timestamp,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// One line of the story of a job.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum JobRow {
    /// A task.
    Run(JobRun),
    /// Times for which there was none.
    Skipped {
        /// The first of them.
        #[serde(serialize_with = "rfc3339")]
        first: Timestamp,
        /// The last of them.
        #[serde(serialize_with = "rfc3339")]
        last: Timestamp,
        /// How many they are.
        times: u64,
        /// Why.
        why: JobSkip,
    },
}

impl JobRow {
    /// The time that it is about.
    pub fn time(&self) -> Timestamp {
        match self {
            Self::Run(run) => run.time.unwrap_or(run.began),
            Self::Skipped { last, .. } => *last,
        }
    }
}

/// Where what became of jobs is looked up.
#[derive(Clone, Copy)]
pub(crate) struct Books<'a> {
    /// The stream `jobs`, folded.
    pub(crate) jobs: &'a Jobs,
    /// The journal.
    pub(crate) journal: &'a dyn Journal,
    /// The queue.
    pub(crate) queue: &'a dyn Queue,
}

/// Every job, and how it stands.
pub(super) async fn view(
    jobs: &BTreeMap<JobName, Job>,
    books: Books<'_>,
    now: Timestamp,
) -> Result<Vec<JobView>, JournalError> {
    let nothing = JobRecord::default();
    let mut views = Vec::with_capacity(jobs.len());
    for (name, job) in jobs {
        views.push(one(name, job, books.jobs.get(name).unwrap_or(&nothing), books, now).await?);
    }
    Ok(views)
}

/// What came of the times of a job, the newest first; at most so many lines.
pub(super) async fn history(
    name: &JobName,
    books: Books<'_>,
    limit: usize,
) -> Result<Vec<JobRow>, JournalError> {
    let Some(record) = books.jobs.get(name) else { return Ok(Vec::new()) };
    let mut rows = Vec::new();
    for (_, skipped) in record.skipped.iter().rev().take(limit) {
        let (first, last, times, why) = (skipped.first, skipped.last, skipped.times, skipped.why);
        rows.push(JobRow::Skipped { first, last, times, why });
    }
    for JobTask { mut run, .. } in tasks_of(record, 0..limit, books).await? {
        run.summary = summary(&run, books.journal).await?;
        rows.push(JobRow::Run(run));
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.time()));
    rows.truncate(limit);
    Ok(rows)
}

/// What a scraper is told of each job that has a schedule.
pub(super) async fn summaries(books: Books<'_>, now: Timestamp) -> Result<Vec<JobSummary>, JournalError> {
    let mut summaries = Vec::new();
    for (name, record) in books.jobs.iter() {
        let Some(defined) = &record.defined else { continue };
        let schedule = Schedule::parse(&defined.schedule, &defined.timezone).ok();
        let next = schedule.filter(|_| record.paused.is_none()).and_then(|schedule| schedule.after(now));
        let Lately { failures_in_a_row, done, .. } = lately(record, books).await?;
        summaries.push(JobSummary { job: name.clone(), next, done, failures: failures_in_a_row });
    }
    Ok(summaries)
}

/// What came of the last tasks of a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lately {
    /// How many of them failed one after the other.
    pub(crate) failures_in_a_row: u32,
    /// Why the last of those did.
    pub(crate) code: Option<Code>,
    /// When the last one that is done was.
    pub(crate) done: Option<Timestamp>,
}

/// What came of the last tasks of a job, as far back as is remembered.
pub(crate) async fn lately(record: &JobRecord, books: Books<'_>) -> Result<Lately, JournalError> {
    let mut lately = Lately::default();
    // Of most jobs the last task says it.
    for which in [0..1, 1..REMEMBERED_MAX] {
        for JobTask { run, .. } in tasks_of(record, which, books).await? {
            match run.outcome {
                JobOutcome::Done => {
                    lately.done = run.ended;
                    return Ok(lately);
                }
                JobOutcome::Failed => {
                    lately.code = lately.code.or(run.code);
                    lately.failures_in_a_row += 1;
                }
                // What is not over, or was ended by somebody, says nothing about the job.
                JobOutcome::Waiting | JobOutcome::Working | JobOutcome::Parked | JobOutcome::Cancelled => {}
            }
        }
    }
    Ok(lately)
}

/// The runs of a job's tasks that wait or are worked on. What a person does by hand in a terminal is not in the queue, and
/// holds nothing up.
pub(super) async fn under_way(record: &JobRecord, books: Books<'_>) -> Result<Vec<RunId>, JournalError> {
    let mut tasks = tasks_of(record, 0..REMEMBERED_MAX, books).await?;
    tasks.retain(|task| task.is_queued && task.run.outcome.is_under_way());
    Ok(tasks.into_iter().rev().map(|task| task.run.run).collect())
}

async fn one(
    name: &JobName,
    job: &Job,
    record: &JobRecord,
    books: Books<'_>,
    now: Timestamp,
) -> Result<JobView, JournalError> {
    let last = tasks_of(record, 0..1, books).await?.pop().map(|task| task.run);
    let state = match &last {
        _ if job.off => JobState::Off,
        _ if record.paused.is_some() => JobState::Paused,
        Some(run) if run.outcome.is_under_way() => JobState::UnderWay,
        Some(_) | None => JobState::Scheduled,
    };
    let counts = !matches!(state, JobState::Off | JobState::Paused);
    let schedule = &job.terms.schedule;
    let next = if counts { schedule.after(now) } else { None };
    let paused = |(since, paused): &(Timestamp, JobPaused)| Paused {
        since: *since,
        by: paused.by.clone(),
        reason: paused.reason.clone(),
    };
    Ok(JobView {
        name: name.clone(),
        schedule: schedule.text().to_owned(),
        timezone: schedule.timezone().to_owned(),
        agent: job.asked.agent.as_deref().map(AgentName::from),
        overlap: match job.terms.overlap {
            Overlap::Skip => "skip",
            Overlap::Queue => "queue",
            Overlap::Replace => "replace",
        },
        state,
        paused: record.paused.as_ref().map(paused),
        next,
        next_local: next.map(|next| schedule.local(next)),
        last,
        failures_in_a_row: lately(record, books).await?.failures_in_a_row,
    })
}

/// A task of a job.
struct JobTask {
    run: JobRun,
    /// Whether the queue has it.
    is_queued: bool,
}

/// Some of the tasks of a job, counted from the newest, in that order. Those of which there is nothing are left out: their
/// process died before they were durable.
async fn tasks_of(
    record: &JobRecord,
    which: Range<usize>,
    books: Books<'_>,
) -> Result<Vec<JobTask>, JournalError> {
    let wanted: Vec<_> = record.started.iter().rev().skip(which.start).take(which.len()).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let tasks = wanted.iter().map(|(_, started)| started.task.clone()).collect();
    let queued = books.queue.tasks(TaskFilter { tasks, ..TaskFilter::default() }).await?;
    let queued: BTreeMap<_, _> = queued.iter().map(|task| (&task.task, task)).collect();
    let mut found = Vec::with_capacity(wanted.len());
    for (began, started) in wanted {
        let run = match queued.get(&started.task) {
            Some(task) => Some(job_run(started, *began, &task.run, outcome_of(task))),
            None => by_hand(started, *began, books.journal).await?,
        };
        let is_queued = queued.contains_key(&started.task);
        found.extend(run.map(|run| JobTask { run, is_queued }));
    }
    Ok(found)
}

fn outcome_of(task: &TaskSummary) -> JobOutcome {
    match task.queued().map(|queue| queue.state) {
        Some(TaskState::Waiting) | None if task.worked_on => JobOutcome::Working,
        Some(TaskState::Waiting) | None => JobOutcome::Waiting,
        Some(TaskState::Parked) => JobOutcome::Parked,
        Some(TaskState::Done) => JobOutcome::Done,
        Some(TaskState::Dead) => JobOutcome::Failed,
        Some(TaskState::Cancelled) => JobOutcome::Cancelled,
    }
}

/// What a person did of a job in a terminal: the queue knows nothing of it.
async fn by_hand(
    started: &JobStarted,
    began: Timestamp,
    journal: &dyn Journal,
) -> Result<Option<JobRun>, JournalError> {
    let filter = RunFilter { id_prefix: Some(started.run.as_str().to_owned()), ..RunFilter::default() };
    let runs = journal.runs(filter).await?;
    let Some(run) = runs.iter().find(|summary| summary.run == started.run) else { return Ok(None) };
    let outcome = match run.status {
        RunStatus::Running => JobOutcome::Working,
        RunStatus::Parked => JobOutcome::Parked,
        RunStatus::Done => JobOutcome::Done,
        RunStatus::Failed | RunStatus::Stopped => JobOutcome::Failed,
        RunStatus::Cancelled => JobOutcome::Cancelled,
    };
    Ok(Some(job_run(started, began, run, outcome)))
}

fn job_run(started: &JobStarted, began: Timestamp, run: &RunSummary, outcome: JobOutcome) -> JobRun {
    JobRun {
        time: started.time,
        began,
        by: started.by.clone(),
        task: started.task.clone(),
        run: run.run.clone(),
        outcome,
        cost: run.cost,
        ended: run.ended,
        took_ms: millis(run.duration()),
        code: run.code,
        summary: message_in_words(&run.message),
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// What a run says about itself. Its end is among its last events, unless much was done to it afterwards.
async fn summary(run: &JobRun, journal: &dyn Journal) -> Result<String, JournalError> {
    if run.outcome != JobOutcome::Done {
        return Ok(run.summary.clone());
    }
    let stream = StreamId::Run(run.run.clone());
    let filter = RunFilter { id_prefix: Some(run.run.as_str().to_owned()), ..RunFilter::default() };
    let listed = journal.list(filter).await?.into_iter().find(|listed| listed.summary.run == run.run);
    let end = listed.map_or(0, |listed| listed.head.seq);
    for after in [end.saturating_sub(ENDING), 0] {
        let events = journal.read(&stream, after).await?;
        let result = events.iter().rev().find_map(|event| match &event.body {
            EventBody::RunFinished(finished) => Some(finished.result.as_ref()),
            _ => None,
        });
        if let Some(result) = result {
            return Ok(result.map(text_of).unwrap_or_default());
        }
    }
    Ok(String::new())
}

fn text_of(result: &Body) -> String {
    let whole = match result {
        Body::Inline(value) => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
        Body::Blob { .. } | Body::Erased { .. } => ERASED.to_owned(),
    };
    whole.chars().take(SUMMARY_CHARS_MAX).collect()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives it by reference")]
fn rfc3339<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.rfc3339())
}

#[expect(clippy::ref_option, reason = "serde gives it by reference")]
fn maybe_rfc3339<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serializer.serialize_str(&at.rfc3339()),
        None => serializer.serialize_none(),
    }
}
