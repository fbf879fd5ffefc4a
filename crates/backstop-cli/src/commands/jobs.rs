//! `backstop jobs`: what is done at its times, what came of it, and a word on single jobs.

use super::run::{conclude, prepare};
use crate::args::Global;
use crate::complaint::Stop;
use crate::engine::open_idle;
use crate::home::{Home, open_store, person};
use crate::outcome::Manner;
use crate::ui::{Align, Look, Mark, Table, Tone, moment, out, shortened, span, tell};
use backstop_agent::run::Submitted;
use backstop_agent::visible_line;
use backstop_call::{Clock, Code, JobName, Priority, Timestamp};
use backstop_journal::event::{JobPaused, JobResumed};
use backstop_journal::projections::jobs::Jobs;
use backstop_journal::{EventBody, Journal, Queue, StreamId};
use backstop_server::jobs::{
    JobBook, JobOutcome, JobRow, JobRun, JobState, JobView, job, note, started, submit, task_by_hand,
};
use backstop_stack::SystemClock;
use backstop_store::MemoryStore;
use clap::Subcommand;
use serde_json::json;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Times to come that `jobs show` names.
const NEXT_TIMES: usize = 3;

/// List jobs: what is done when, and what came of it; run, pause and resume them
///
/// Jobs are sections `[jobs.NAME]` of the config, with a schedule in cron's words. `backstop serve` puts each into the queue at
/// its times; docs/jobs.md has all of it.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_long_help = "Examples:
  backstop jobs
  backstop jobs show letter
  backstop jobs run letter                        Do it now, in this terminal
  backstop jobs run letter --dry-run              Plan only
  backstop jobs pause letter --reason \"nobody reads it in summer\"
  backstop jobs resume letter"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show a job, and what came of its times
    Show {
        /// The job
        #[arg(value_name = "JOB")]
        job: String,
        /// At most so many lines
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: usize,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Do a job now, whatever its schedule says
    Run(Now),
    /// Have its schedule not count for a while; nothing is made up for afterwards
    Pause {
        /// The job
        #[arg(value_name = "JOB")]
        job: String,
        /// Why
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Have its schedule count again
    Resume {
        /// The job
        #[arg(value_name = "JOB")]
        job: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
struct Now {
    /// The job
    #[arg(value_name = "JOB")]
    job: String,
    /// Plan only: work on a copy of the directory, note what reaches beyond it, and print the plan
    #[arg(long, conflicts_with = "queue")]
    dry_run: bool,
    /// Put it into the queue, for a worker
    #[arg(long)]
    queue: bool,
    /// Ask this model or chain; `sim` is always there and needs no key
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show nothing while it runs
    #[arg(long, short)]
    quiet: bool,
}

pub(crate) async fn main(args: Args, global: &Global) -> Result<ExitCode, Stop> {
    let home = Home::find(global)?;
    match args.what {
        None => list(&home, args.json).await,
        Some(What::Show { job, limit, json }) => show(&home, &job.into(), limit, json).await,
        Some(What::Run(now)) => run(&home, now).await,
        Some(What::Pause { job, reason, json }) => pause(&home, &job.into(), reason, json).await,
        Some(What::Resume { job, json }) => resume(&home, &job.into(), json).await,
    }
}

/// What is read of jobs. Where nothing was run yet there is nothing, and no file is made.
struct Read {
    journal: Arc<dyn Journal>,
    queue: Arc<dyn Queue>,
}

impl Read {
    fn open(home: &Home) -> Result<Self, Stop> {
        if home.config.journal.exists() {
            let store = Arc::new(open_store(&home.config.journal)?);
            return Ok(Self { journal: store.clone(), queue: store });
        }
        let store = Arc::new(MemoryStore::new());
        Ok(Self { journal: store.clone(), queue: store })
    }

    fn kept(&self) -> (&dyn Journal, &dyn Queue) {
        (self.journal.as_ref(), self.queue.as_ref())
    }
}

async fn list(home: &Home, json: bool) -> Result<ExitCode, Stop> {
    let read = Read::open(home)?;
    let jobs = JobBook::of(&home.config).view(read.kept(), SystemClock::new().now()).await?;
    if json {
        out(format_args!("{:#}\n", json!({ "jobs": jobs })))?;
    } else if jobs.is_empty() {
        tell("the config has no jobs; add one under `[jobs.NAME]`");
    } else {
        out(table(&jobs).render(Look::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(jobs: &[JobView]) -> Table {
    let mut table = Table::new(&[
        ("job", Align::Left),
        ("schedule", Align::Left),
        ("zone", Align::Left),
        ("state", Align::Left),
        ("next", Align::Left),
        ("last (utc)", Align::Left),
        ("outcome", Align::Left),
        ("time", Align::Right),
        ("cost", Align::Right),
        ("why", Align::Left),
    ])
    .spare(&["zone", "schedule", "cost"]);
    for job in jobs {
        let last = job.last.as_ref();
        let of_last = |shown: fn(&JobRun) -> String| last.map_or_else(String::new, shown);
        table.row(vec![
            (Tone::Strong, job.name.to_string()),
            (Tone::Plain, shortened(&job.schedule, 24)),
            (Tone::Dim, job.timezone.clone()),
            (tone_of_state(job.state), job.state.as_str().to_owned()),
            (Tone::Plain, job.next_local.clone().unwrap_or_default()),
            (Tone::Dim, of_last(|run| minute(run.time.unwrap_or(run.began)))),
            (
                last.map_or(Tone::Plain, |run| tone_of(run.outcome)),
                of_last(|run| run.outcome.as_str().to_owned()),
            ),
            (Tone::Plain, of_last(|run| span(Duration::from_millis(run.took_ms)))),
            (Tone::Plain, of_last(|run| run.cost.to_string())),
            (Tone::Dim, why(job)),
        ]);
    }
    table
}

fn why(job: &JobView) -> String {
    if let Some(paused) = &job.paused {
        let reason = if paused.reason.is_empty() { String::new() } else { format!(": {}", paused.reason) };
        return shortened(&visible_line(&format!("paused by {}{reason}", paused.by)), 60);
    }
    match (&job.last, job.failures_in_a_row) {
        (Some(run), _) if run.outcome == JobOutcome::Failed => {
            let code = run.code.map_or_else(String::new, |code| format!("{code} "));
            shortened(&visible_line(&format!("{code}{}", run.summary)), 60)
        }
        _ => String::new(),
    }
}

fn minute(at: Timestamp) -> String {
    moment(at).chars().take(16).collect()
}

fn tone_of(outcome: JobOutcome) -> Tone {
    match outcome {
        JobOutcome::Waiting => Tone::Plain,
        JobOutcome::Working => Tone::Strong,
        JobOutcome::Parked => Tone::Warn,
        JobOutcome::Done => Tone::Good,
        JobOutcome::Failed => Tone::Bad,
        JobOutcome::Cancelled => Tone::Dim,
    }
}

fn tone_of_state(state: JobState) -> Tone {
    match state {
        JobState::Off => Tone::Dim,
        JobState::Paused => Tone::Warn,
        JobState::UnderWay => Tone::Strong,
        JobState::Scheduled => Tone::Plain,
    }
}

async fn show(home: &Home, name: &JobName, limit: usize, json: bool) -> Result<ExitCode, Stop> {
    let schedule = &job(&home.config, name)?.terms.schedule;
    let (read, now) = (Read::open(home)?, SystemClock::new().now());
    let book = JobBook::of(&home.config);
    let jobs = book.view(read.kept(), now).await?;
    let rows = book.history(name, read.kept(), limit).await?;
    let Some(shown) = jobs.into_iter().find(|job| job.name == *name) else {
        return Err(Stop::new(Code::JobNotFound, format!("there is no job `{name}`")));
    };
    let times = || schedule.times_after(now).take(if shown.next.is_some() { NEXT_TIMES } else { 0 });
    if json {
        let times: Vec<_> = times().map(Timestamp::rfc3339).collect();
        out(format_args!("{:#}\n", json!({ "job": shown, "next_times": times, "history": rows })))?;
        return Ok(ExitCode::SUCCESS);
    }
    let agent = shown.agent.as_ref().map_or_else(String::new, |agent| format!(", by {agent}"));
    let state = shown.state.as_str();
    out(format_args!("{name}: {} in {}{agent}; {state}\n", shown.schedule, shown.timezone))?;
    let times: Vec<_> = times().map(|time| schedule.local(time)).collect();
    if !times.is_empty() {
        out(format_args!("next: {}\n", times.join(", ")))?;
    }
    let said = why(&shown);
    if shown.paused.is_some() {
        out(format_args!("{said}\n"))?;
    }
    if rows.is_empty() {
        tell("nothing came of it yet");
    } else {
        out(format_args!("\n{}", story(&rows).render(Look::of_stdout())))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn story(rows: &[JobRow]) -> Table {
    let mut table = Table::new(&[
        ("time (utc)", Align::Left),
        ("outcome", Align::Left),
        ("run", Align::Left),
        ("time", Align::Right),
        ("cost", Align::Right),
        ("what", Align::Left),
    ])
    .spare(&["cost", "time"]);
    for row in rows {
        table.row(match row {
            JobRow::Run(run) => {
                let by = run.by.as_ref().map_or_else(String::new, |by| format!("by {by}: "));
                let code = run.code.map_or_else(String::new, |code| format!("{code} "));
                vec![
                    (Tone::Dim, minute(run.time.unwrap_or(run.began))),
                    (tone_of(run.outcome), run.outcome.as_str().to_owned()),
                    (Tone::Strong, run.run.to_string()),
                    (Tone::Plain, span(Duration::from_millis(run.took_ms))),
                    (Tone::Plain, run.cost.to_string()),
                    (Tone::Plain, shortened(&visible_line(&format!("{by}{code}{}", run.summary)), 80)),
                ]
            }
            JobRow::Skipped { first, last, times, why } => {
                let what = if times == &1 {
                    String::new()
                } else {
                    format!("{times} times, since {}", minute(*first))
                };
                vec![
                    (Tone::Dim, minute(*last)),
                    (Tone::Warn, why.as_str().to_owned()),
                    (Tone::Plain, String::new()),
                    (Tone::Plain, String::new()),
                    (Tone::Plain, String::new()),
                    (Tone::Dim, what),
                ]
            }
        });
    }
    table
}

async fn run(home: &Home, args: Now) -> Result<ExitCode, Stop> {
    let name = JobName::from(args.job);
    let mut wanted = job(&home.config, &name)?.clone();
    if args.model.is_some() {
        wanted.asked.model = args.model;
    }
    let now = SystemClock::new().now();
    let id = task_by_hand(&name, now);
    if args.queue {
        let opened = open_idle(home, Vec::new()).await?;
        let submitted = submit(&opened.backstop, &home.config, (&name, &wanted), (id, Duration::ZERO)).await;
        let noted = match &submitted {
            Ok(submitted) => {
                let events = vec![started(&name, submitted.clone(), None, Some(person()))];
                note(opened.backstop.journal().as_ref(), events, now).await
            }
            Err(_) => Ok(()),
        };
        opened.close().await;
        let submitted = submitted.map_err(|why| Stop::new(Code::Usage, why))?;
        noted?;
        let Submitted { task, run, .. } = submitted;
        if args.json {
            out(format_args!("{}\n", json!({ "job": name, "task": task, "run": run })))?;
        } else {
            tell(format_args!(
                "{} task {task} waits for a worker, as run {run}",
                Look::of_stderr().mark(Mark::Good)
            ));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let (mut task, _) = wanted.asked.by(&home.config, now, id.as_str())?;
    (task.priority, task.dry_run) = (Priority::Interactive, args.dry_run);
    let limited =
        wanted.asked.agent.as_ref().and_then(|agent| home.config.agents.get(&agent.as_str().into()));
    let limited = limited.is_some_and(|agent| agent.max_tokens.is_some());
    let (opened, run) = prepare(home, task, limited).await?;
    if !args.dry_run {
        let submitted = Submitted { task: id, run: run.clone(), new: true };
        let events = vec![started(&name, submitted, None, Some(person()))];
        if let Err(error) = note(opened.backstop.journal().as_ref(), events, now).await {
            opened.close().await;
            return Err(error.into());
        }
    }
    conclude(home, opened, &run, args.dry_run, Manner { json: args.json, quiet: args.quiet }).await
}

async fn pause(home: &Home, name: &JobName, reason: String, json: bool) -> Result<ExitCode, Stop> {
    let event = JobPaused { job: name.clone(), by: person(), reason };
    let changed = said(home, name, event.into(), true).await?;
    let told = if changed {
        "is paused; `backstop jobs resume` has its schedule count again"
    } else {
        "is paused already"
    };
    tell_set(name, (true, changed), told, json)
}

async fn resume(home: &Home, name: &JobName, json: bool) -> Result<ExitCode, Stop> {
    let event = JobResumed { job: name.clone(), by: person() };
    let changed = said(home, name, event.into(), false).await?;
    tell_set(name, (false, changed), if changed { "is scheduled again" } else { "is not paused" }, json)
}

/// Writes down that a job is paused from here on, or not, unless it stands so already. Whether that changed.
async fn said(home: &Home, name: &JobName, event: EventBody, pauses: bool) -> Result<bool, Stop> {
    job(&home.config, name)?;
    let read = Read::open(home)?;
    let jobs = Jobs::fold(&read.journal.read(&StreamId::Jobs, 0).await?);
    let changed = jobs.get(name).is_some_and(|record| record.paused.is_some()) != pauses;
    if changed {
        note(&open_store(&home.config.journal)?, vec![event], SystemClock::new().now()).await?;
    }
    Ok(changed)
}

fn tell_set(
    name: &JobName,
    (paused, changed): (bool, bool),
    told: &str,
    json: bool,
) -> Result<ExitCode, Stop> {
    if json {
        out(format_args!("{}\n", json!({ "job": name, "paused": paused, "changed": changed })))?;
    } else {
        let mark = Look::of_stderr().mark(if changed { Mark::Good } else { Mark::Warn });
        tell(format_args!("{mark} job {name} {told}"));
    }
    Ok(ExitCode::SUCCESS)
}
