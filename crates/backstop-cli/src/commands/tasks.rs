//! `backstop tasks`: what is in the queue, and a word on single tasks.

use crate::args::Global;
use crate::complaint::Stop;
use crate::engine::open_idle;
use crate::home::{Home, open_store, person};

use crate::outcome::refused;
use crate::ui::{Align, Look, Mark, Table, Tone, count, moment, out, shortened, span, tell};
use backstop_allowance::message_in_words;
use backstop_call::{Clock, Code, ERASED, Timestamp};
use backstop_journal::projections::queue::TaskState;
use backstop_journal::{Backlog, Queue, TaskFilter, TaskSummary};
use backstop_server::tasks::{self, backlog_json, task_json};
use backstop_stack::SystemClock;
use clap::{Subcommand, ValueEnum};
use serde_json::json;
use std::process::ExitCode;

/// List what is in the queue, newest first; try tasks again, or end them
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_long_help = "Examples:
  backstop tasks
  backstop tasks --state dead
  backstop tasks retry newsletter-2026-11-28
  backstop tasks retry --dead
  backstop tasks cancel newsletter-2026-11-28"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Only tasks that stand so; may be given several times
    #[arg(long, value_name = "STATE", value_enum)]
    state: Vec<State>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Have tasks that failed tried again
    Retry {
        /// The tasks
        #[arg(required_unless_present = "dead")]
        tasks: Vec<String>,
        /// All that failed and are not tried again by themselves
        #[arg(long, conflicts_with = "tasks")]
        dead: bool,
    },
    /// End a task for good
    Cancel {
        /// The task
        task: String,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    /// Waits for a worker, or has one
    Waiting,
    /// Waits for a person
    Parked,
    /// Done
    Done,
    /// Failed, and not tried again by itself
    Dead,
    /// Ended by a person
    Cancelled,
}

impl From<State> for TaskState {
    fn from(state: State) -> Self {
        match state {
            State::Waiting => Self::Waiting,
            State::Parked => Self::Parked,
            State::Done => Self::Done,
            State::Dead => Self::Dead,
            State::Cancelled => Self::Cancelled,
        }
    }
}

pub(crate) async fn main(args: Args, global: &Global) -> Result<ExitCode, Stop> {
    let home = Home::find(global)?;
    match args.what {
        Some(What::Retry { tasks, dead }) => retry(&home, tasks, dead).await,
        Some(What::Cancel { task, reason }) => cancel(&home, &task, reason).await,
        None => list(&home, args).await,
    }
}

async fn list(home: &Home, args: Args) -> Result<ExitCode, Stop> {
    let none = "the queue is empty; `backstop submit` puts a task in";
    if !home.config.journal.exists() {
        tell(none);
        return Ok(ExitCode::SUCCESS);
    }
    let store = open_store(&home.config.journal)?;
    let states = args.state.into_iter().map(TaskState::from).collect();
    let filter = TaskFilter { states, limit: Some(args.limit), ..TaskFilter::default() };
    let tasks = store.tasks(filter).await?;
    let now = SystemClock::new().now();
    let backlog = store.backlog(now).await?;
    if args.json {
        let rows: Vec<_> = tasks.iter().map(task_json).collect();
        let all = json!({ "backlog": backlog_json(&backlog), "tasks": rows });
        out(format_args!("{}\n", serde_json::to_string_pretty(&all).map_err(std::io::Error::from)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    if tasks.is_empty() {
        tell(none);
        return Ok(ExitCode::SUCCESS);
    }
    out(table(&tasks, now).render(Look::of_stdout()))?;
    tell(summed(&backlog));
    Ok(ExitCode::SUCCESS)
}

fn summed(backlog: &Backlog) -> String {
    let parts = [
        (backlog.working, "worked on"),
        (backlog.due, "waiting"),
        (backlog.later, "due later"),
        (backlog.parked, "waiting for a person"),
        (backlog.done, "done"),
        (backlog.dead, "dead"),
        (backlog.cancelled, "cancelled"),
    ];
    let parts: Vec<_> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    parts.join(", ")
}

fn table(tasks: &[TaskSummary], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        ("task", Align::Left),
        ("state", Align::Left),
        ("agent", Align::Left),
        ("run", Align::Left),
        ("tries", Align::Right),
        ("cost", Align::Right),
        ("created (utc)", Align::Left),
        ("why", Align::Left),
    ])
    .spare(&["created (utc)", "agent"]);
    for task in tasks {
        let done = task.queued().is_some_and(|queue| queue.state == TaskState::Done);
        let tried = task.queued().map_or(0, |queue| queue.tried) + u32::from(done);
        let tries = task.queued().map_or(1, |queue| queue.terms.tries);
        let (tone, state) = state(task);
        table.row(vec![
            (Tone::Strong, shortened(task.task.as_str(), 32)),
            (tone, state.to_owned()),
            (Tone::Plain, shortened(task.run.agent.as_str(), 16)),
            (Tone::Plain, task.run.run.to_string()),
            (Tone::Plain, format!("{tried}/{tries}")),
            (Tone::Plain, task.run.cost.to_string()),
            (Tone::Dim, moment(task.run.created).chars().take(16).collect()),
            (Tone::Dim, why(task, now)),
        ]);
    }
    table
}

fn state(task: &TaskSummary) -> (Tone, &'static str) {
    match task.queued().map(|queue| queue.state) {
        Some(TaskState::Waiting) | None if task.worked_on => (Tone::Strong, "working"),
        Some(state @ TaskState::Waiting) => (Tone::Plain, state.as_str()),
        Some(state @ TaskState::Parked) => (Tone::Warn, state.as_str()),
        Some(state @ TaskState::Done) => (Tone::Good, state.as_str()),
        Some(state @ TaskState::Dead) => (Tone::Bad, state.as_str()),
        Some(state @ TaskState::Cancelled) => (Tone::Dim, state.as_str()),
        None => (Tone::Dim, ""),
    }
}

fn why(task: &TaskSummary, now: Timestamp) -> String {
    let code = task.run.code.map_or_else(String::new, |code| format!("{code} "));
    let erased = if task.run.erased.is_some() && task.run.message.is_empty() { ERASED } else { "" };
    let message = shortened(&format!("{code}{}{erased}", message_in_words(&task.run.message)), 60);
    let due = task.queued().and_then(|queue| queue.due).filter(|due| *due > now && !task.worked_on);
    match (due, message.is_empty()) {
        (Some(due), true) => format!("due in {}", span(due.since(now))),
        (Some(due), false) => format!("again in {}: {message}", span(due.since(now))),
        (None, _) => message,
    }
}

/// The one task of this id.
async fn find(home: &Home, id: &str) -> Result<TaskSummary, Stop> {
    let gone = || Stop::new(Code::TaskNotFound, format!("there is no task {id}"));
    if !home.config.journal.exists() {
        return Err(gone());
    }
    tasks::find(&open_store(&home.config.journal)?, id).await?.ok_or_else(gone)
}

async fn retry(home: &Home, ids: Vec<String>, dead: bool) -> Result<ExitCode, Stop> {
    let mut tasks = Vec::new();
    if dead && home.config.journal.exists() {
        let filter = TaskFilter { states: vec![TaskState::Dead], ..TaskFilter::default() };
        tasks = open_store(&home.config.journal)?.tasks(filter).await?;
        // Of one that was erased nothing is left to try.
        tasks.retain(|task| task.run.erased.is_none());
    }
    for id in &ids {
        tasks.push(find(home, id).await?);
    }
    let opened = open_idle(home, Vec::new()).await?;
    let mut queued = 0;
    for task in &tasks {
        if let Err(error) = tasks::retry(&opened.backstop, task).await {
            opened.close().await;
            return Err(refused(Some(&task.run.run), &error));
        }
        queued += 1;
    }
    opened.close().await;
    let (look, tasks) = (Look::of_stderr(), count(queued, "task"));
    tell(format_args!(
        "{} {tasks} wait{} for a worker",
        look.mark(Mark::Good),
        if queued == 1 { "s" } else { "" }
    ));
    Ok(ExitCode::SUCCESS)
}

async fn cancel(home: &Home, id: &str, reason: Option<String>) -> Result<ExitCode, Stop> {
    let task = find(home, id).await?;
    let opened = open_idle(home, Vec::new()).await?;
    let cancelled = tasks::cancel(&opened.backstop, &task, &person(), reason.as_deref()).await;
    opened.close().await;
    cancelled.map_err(|error| refused(Some(&task.run.run), &error))?;
    tell(format_args!("{} task {id} is cancelled", Look::of_stderr().mark(Mark::Good)));
    Ok(ExitCode::SUCCESS)
}
