//! The scheduler: sleeps until something is due, has it decided, and does it: puts tasks into the queue, and writes down what
//! became of each time. All that it must not forget is in the journal. It may be killed between any two steps, and run in
//! several processes: a task's id is made of its time, so it is put in once, and what is written twice is folded as one.

use super::book::catch_up;
use super::due::{Overlap, Standing, Verdict, due};
use super::view::{Books, under_way};
use super::{Job, task_at};
use crate::config::{Config, Span};
use crate::tasks::Asked;
use backstop::Backstop;
use backstop_agent::RunError;
use backstop_agent::run::Submitted;
use backstop_call::{JobName, RunId, TaskId, Timestamp};
use backstop_journal::event::{JobDefined, JobDropped, JobSkipped, JobStarted};
use backstop_journal::projections::jobs::{JobRecord, Jobs};
use backstop_journal::{Append, Durability, EventBody, Journal, JournalError, StreamId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Tells the time as the clock on the wall does. That one may be set, and goes on while the machine is suspended; everything
/// else in Backstop goes by a [`backstop_call::Clock`], which does neither.
pub type Wall = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The longest sleep. That the clock was set, or the machine suspended, is not seen by a sleep.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// Puts the jobs of a config into the queue when they are due.
pub struct Scheduler {
    backstop: Backstop,
    config: Config,
    wall: Wall,
    jobs: Arc<Jobs>,
    /// Whether the journal has the schedules of this config.
    is_told: bool,
    /// When was looked last.
    looked: Option<Timestamp>,
}

/// What came of a look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Looked {
    /// When something is due next; in the past where there is more to be decided now.
    pub next: Option<Timestamp>,
    /// What could not be done, by job. It is tried again at the next look.
    pub troubles: BTreeMap<JobName, String>,
}

impl Scheduler {
    /// A scheduler that has not looked yet.
    pub fn new(backstop: Backstop, config: Config, wall: Wall) -> Self {
        Self { backstop, config, wall, jobs: Arc::default(), is_told: false, looked: None }
    }

    /// Goes by another config from here on.
    pub fn change(&mut self, config: Config) {
        (self.config, self.is_told) = (config, false);
    }

    /// Looks after the jobs until it is dropped. Who is told of trouble is told of each once.
    pub async fn look_after(mut self, mut configs: watch::Receiver<Config>, trouble: impl Fn(&str)) {
        let mut told = BTreeMap::new();
        loop {
            let looked = match self.look().await {
                Ok(looked) => looked,
                Err(error) => {
                    trouble(&format!("jobs cannot be looked after now: {error}"));
                    Looked::default()
                }
            };
            for (job, why) in looked.troubles.iter().filter(|(job, why)| told.get(*job) != Some(*why)) {
                trouble(&format!("the job {job} cannot be started now: {why}"));
            }
            told = looked.troubles;
            let now = (self.wall)();
            let sleep = looked.next.map_or(SLEEP_MAX, |next| next.since(now).min(SLEEP_MAX));
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                Ok(()) = configs.changed() => {
                    let config = configs.borrow_and_update().clone();
                    self.change(config);
                }
            }
        }
    }

    /// Looks once: does what is due, and writes it down.
    ///
    /// # Errors
    /// The journal refused; what was done until then is done, and found at the next look.
    pub async fn look(&mut self) -> Result<Looked, JournalError> {
        // What other processes did, and what people said, meanwhile.
        self.refresh().await?;
        let now = (self.wall)();
        if !self.is_told {
            self.write(self.changes(), now).await?;
            self.is_told = true;
        }
        let mut looked = Looked::default();
        let nothing = JobRecord::default();
        for (name, job) in self.config.jobs.clone() {
            let jobs = Arc::clone(&self.jobs);
            let record = jobs.get(&name).unwrap_or(&nothing);
            if job.off || record.paused.is_some() {
                continue;
            }
            let decided = self.decided(record, now);
            let (events, trouble) = self.decide(&name, &job, (record, decided), now).await?;
            let reached = events.iter().filter_map(time_of).fold(decided, Timestamp::max);
            self.write(events, now).await?;
            match trouble {
                Some(why) => drop(looked.troubles.insert(name, why)),
                None => looked.next = looked.next.into_iter().chain(job.terms.schedule.after(reached)).min(),
            }
        }
        self.looked = Some(now);
        Ok(looked)
    }

    /// Up to which time all is decided. Where the journal says a time that is still to come, the clock was set back: then it
    /// is what this process has seen go by, and times come again that have their tasks already.
    fn decided(&self, record: &JobRecord, now: Timestamp) -> Timestamp {
        let seen = self.looked.filter(|looked| *looked <= now).unwrap_or(now);
        if record.decided <= now { record.decided } else { seen }
    }

    /// What is different in the config from what the journal has.
    fn changes(&self) -> Vec<EventBody> {
        let counts = |name: &JobName| self.config.jobs.get(name).is_some_and(|job| !job.off);
        let known = self.jobs.iter().filter(|(_, record)| record.defined.is_some());
        let gone = known.filter(|(name, _)| !counts(name));
        let mut events: Vec<EventBody> =
            gone.map(|(name, _)| JobDropped { job: name.clone() }.into()).collect();
        for (name, job) in self.config.jobs.iter().filter(|(_, job)| !job.off) {
            let (schedule, timezone) = (job.terms.schedule.text(), job.terms.schedule.timezone());
            let defined =
                JobDefined { job: name.clone(), schedule: schedule.into(), timezone: timezone.into() };
            if self.jobs.get(name).and_then(|record| record.defined.as_ref()) != Some(&defined) {
                events.push(defined.into());
            }
        }
        events
    }

    /// Does what is due of a job. What happened, and why not all of it could.
    async fn decide(
        &self,
        name: &JobName,
        job: &Job,
        (record, decided): (&JobRecord, Timestamp),
        now: Timestamp,
    ) -> Result<(Vec<EventBody>, Option<String>), JournalError> {
        if job.terms.schedule.after(decided).is_none_or(|next| next > now) {
            return Ok((Vec::new(), None));
        }
        let (journal, queue) = (self.backstop.journal().as_ref(), self.backstop.queue().as_ref());
        let books = Books { jobs: &self.jobs, journal, queue };
        let running = under_way(record, books).await?;
        let standing = Standing { record, decided, under_way: running.len() };
        let mut events = Vec::new();
        for verdict in due(&job.terms, standing, now) {
            match verdict {
                Verdict::Skip { times, why } => {
                    let (Some(first), Some(last)) = (times.first(), times.last()) else { continue };
                    let (first, last, times) = (*first, *last, times.len() as u64);
                    events.push(JobSkipped { job: name.clone(), first, last, times, why }.into());
                }
                Verdict::Start(time) => match self.start(name, job, (time, now), &running).await {
                    Ok(submitted) => events.push(started(name, submitted, Some(time), None)),
                    Err(why) => return Ok((events, Some(why))),
                },
            }
        }
        Ok((events, None))
    }

    async fn start(
        &self,
        name: &JobName,
        job: &Job,
        (time, now): (Timestamp, Timestamp),
        running: &[RunId],
    ) -> Result<Submitted, String> {
        let task = task_at(name, time);
        if job.terms.overlap == Overlap::Replace {
            for run in running {
                let cancelled = self.backstop.cancel(run, &format!("replaced by the task {task}")).await;
                match cancelled {
                    Ok(_) | Err(RunError::Over { .. }) => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
        }
        let begins = time + jitter(&task, job.terms.jitter);
        submit(&self.backstop, &self.config, (name, job), (task, begins.since(now))).await
    }

    async fn refresh(&mut self) -> Result<(), JournalError> {
        catch_up(&mut self.jobs, self.backstop.journal().as_ref()).await.map(drop)
    }

    async fn write(&mut self, events: Vec<EventBody>, at: Timestamp) -> Result<(), JournalError> {
        if events.is_empty() {
            return Ok(());
        }
        note(self.backstop.journal().as_ref(), events, at).await?;
        self.refresh().await
    }
}

/// Puts a task of a job into the queue, to be begun after a delay.
///
/// # Errors
/// Why it cannot be, in words.
pub async fn submit(
    backstop: &Backstop,
    config: &Config,
    (name, job): (&JobName, &Job),
    (id, delay): (TaskId, Duration),
) -> Result<Submitted, String> {
    let asked = Asked { delay: Some(Span(delay)), ..job.asked.clone() };
    let asked = asked.by(config, backstop.clock().now(), id.as_str());
    let (task, mut terms) = asked.map_err(|problem| problem.message)?;
    if job.terms.overlap == Overlap::Queue {
        // One after the other: that is what a key does.
        terms.key.get_or_insert_with(|| format!("job/{name}"));
    }
    backstop.submit(task, terms).await.map_err(|error| error.to_string())
}

/// What is written down of a task that was made of a job: for a time of its schedule, or because a person wanted it.
pub fn started(
    name: &JobName,
    submitted: Submitted,
    time: Option<Timestamp>,
    by: Option<String>,
) -> EventBody {
    let Submitted { task, run, .. } = submitted;
    JobStarted { job: name.clone(), task, run, time, by }.into()
}

/// Writes down what happened to jobs.
pub async fn note(journal: &dyn Journal, events: Vec<EventBody>, at: Timestamp) -> Result<(), JournalError> {
    let append = Append { stream: StreamId::Jobs, epoch: None, events, at, durability: Durability::Synced };
    journal.append(append).await.map(drop)
}

/// The last time that an event decides.
fn time_of(event: &EventBody) -> Option<Timestamp> {
    match event {
        EventBody::JobStarted(started) => started.time,
        EventBody::JobSkipped(skipped) => Some(skipped.last),
        _ => None,
    }
}

/// By how much later a task begins: the same for the same task, spread evenly over all tasks.
fn jitter(task: &TaskId, most: Duration) -> Duration {
    let hash = blake3::hash(task.as_str().as_bytes());
    let random = u32::from_le_bytes(std::array::from_fn(|byte| hash.as_bytes()[byte]));
    most.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_late_by_the_same_each_time_and_tasks_by_all_there_is() {
        let most = Duration::from_mins(10);
        let late = |number: u64| jitter(&task_at(&"j".into(), Timestamp::from_secs(number * 60)), most);
        assert_eq!(late(7), late(7));
        let tenths = (0..1_000).map(|number| late(number).as_secs() / 60);
        let mut counts = [0; 11];
        tenths.for_each(|tenth| counts[usize::try_from(tenth).unwrap()] += 1);
        assert!(counts[..10].iter().all(|count| (60..140).contains(count)), "{counts:?}");
        assert_eq!(jitter(&"t".into(), Duration::ZERO), Duration::ZERO);
    }
}
