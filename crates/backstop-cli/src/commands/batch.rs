//! `backstop batch`: does every task of a file, and tells what came of each.

use super::submit::submit;
use super::worker::crew;
use crate::args::Global;
use crate::complaint::Stop;
use crate::engine::{Opened, open_for_all};
use crate::home::Home;
use crate::outcome::refused;
use crate::progress::Screen;
use crate::signals::asked_to_end;
use crate::ui::{Look, Mark, count, out, span, tell};
use backstop::Workers;
use backstop_call::{Code, Money};
use backstop_journal::projections::queue::TaskState;
use backstop_journal::{TaskFilter, TaskSummary};
use backstop_server::config::SIM;
use backstop_server::tasks::{Asked, retry as retry_task};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often it is looked how far it is, at most.
const LOOK: Duration = Duration::from_millis(500);
/// Wrong lines that are told; there may be many, for one reason.
const WRONG_TOLD_MAX: usize = 10;

/// Do every task of a file, so many at a time
///
/// Each line is a task: a text, or an object with `task` and whatever else it has of id, agent, model, workspace, priority, key, tries.
/// One that fails stops none of the others. Results come as JSON lines, in the order of the file. Whatever stops it, the same
/// command goes on: what is done stays done.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  backstop batch tasks.jsonl --agent writer
  backstop batch tasks.jsonl --agent writer --slots 8 --output results.jsonl
  backstop batch tasks.jsonl --agent writer --output results.jsonl --retry-failed")]
pub(crate) struct Args {
    /// The file of tasks, one per line
    file: PathBuf,
    /// The agent of tasks that name none
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// The model or chain of tasks that name none; `sim` is always there
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The name of the batch, which begins the ids of its tasks; the file's when left out
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Tasks at a time, instead of what the config says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    slots: Option<u32>,
    /// Write the results to this file; to standard output when left out
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Try those of its tasks again that have failed
    #[arg(long)]
    retry_failed: bool,
    /// Show nothing while it runs
    #[arg(long, short)]
    quiet: bool,
}

/// A line of the file.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Item {
    Text(String),
    Whole(Box<Asked>),
}

pub(crate) async fn main(args: Args, global: &Global) -> Result<ExitCode, Stop> {
    let home = Home::find(global)?;
    let prefix = prefix(&args);
    let items = items(&args, &prefix)?;
    let sim = items.iter().any(|item| item.model.as_deref() == Some(SIM));
    let (opened, models) = open_for_all(&home, sim).await?;
    let batch = match put_in(&opened, &home, (prefix, items), args.retry_failed).await {
        Ok(batch) => batch,
        Err(stop) => {
            opened.close().await;
            return Err(stop);
        }
    };
    let slots = args.slots.unwrap_or(home.config.workers.slots.max(1));
    let workers = Workers::start(opened.backstop.clone(), crew(&home.config, slots, models));
    let screen = Screen::new(args.quiet);
    let over = tokio::select! {
        tasks = watch(&opened, &batch, &screen) => Some(tasks),
        () = asked_to_end() => None,
    };
    screen.finish();
    workers.drain(home.config.workers.drain.0).await;
    let told = match over {
        Some(Ok(tasks)) => tell_results(&opened, &batch, &tasks, args.output.as_deref()).await,
        Some(Err(stop)) => Err(stop),
        None => {
            tell("stopped; the same command goes on where it was");
            Ok(ExitCode::from(Code::Cancelled.exit_code()))
        }
    };
    opened.close().await;
    told
}

/// What is in the queue of the file.
struct Batch {
    /// What the ids of its tasks begin with.
    prefix: String,
    /// Their ids, in the order of the file.
    ids: Vec<String>,
}

/// What the ids of the tasks begin with.
fn prefix(args: &Args) -> String {
    let stem = args.file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    format!("{}/", args.name.as_ref().unwrap_or(&stem))
}

/// The tasks of the file, or everything that is wrong with it.
fn items(args: &Args, prefix: &str) -> Result<Vec<Asked>, Stop> {
    let path = args.file.display();
    let unreadable = |why: String| {
        Stop::new(Code::Usage, format!("{path} {why}")).with_hint("give a file with a task on each line")
    };
    let text = std::fs::read_to_string(&args.file)
        .map_err(|error| unreadable(format!("cannot be read: {error}")))?;
    let (mut items, mut wrong, mut ids) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (at, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let item: Result<Item, _> = serde_json::from_str(line);
        let mut asked = match item {
            Ok(Item::Text(task)) => Asked { task, ..Asked::default() },
            Ok(Item::Whole(asked)) => *asked,
            Err(_) => {
                let why = serde_json::from_str::<Asked>(line).err().map(|error| error.to_string());
                wrong.push(format!("line {at}: {}", why.unwrap_or_default()));
                continue;
            }
        };
        let id = format!("{prefix}{}", asked.id.unwrap_or_else(|| at.to_string()));
        if !ids.insert(id.clone()) {
            wrong.push(format!("line {at}: the id `{id}` is that of another line"));
        }
        asked.id = Some(id);
        asked.agent = asked.agent.or_else(|| args.agent.clone());
        asked.model = asked.model.or_else(|| args.model.clone());
        items.push(asked);
    }
    if !wrong.is_empty() {
        let more = wrong.len().saturating_sub(WRONG_TOLD_MAX);
        wrong.truncate(WRONG_TOLD_MAX);
        let more = if more == 0 { String::new() } else { format!("; and {more} more") };
        return Err(unreadable(format!("is not a list of tasks: {}{more}", wrong.join("; "))));
    }
    if items.is_empty() { Err(unreadable("has no tasks".to_owned())) } else { Ok(items) }
}

/// Puts all tasks into the queue that are not in it; gives their ids.
async fn put_in(
    opened: &Opened,
    home: &Home,
    (prefix, items): (String, Vec<Asked>),
    retry: bool,
) -> Result<Batch, Stop> {
    let mut batch = Batch { prefix, ids: Vec::with_capacity(items.len()) };
    let mut known = BTreeSet::new();
    for item in items {
        let submitted = submit(&opened.backstop, home, item).await?;
        if !submitted.new {
            known.insert(submitted.task.clone());
        }
        batch.ids.push(submitted.task.to_string());
    }
    if retry && !known.is_empty() {
        for task in tasks_of(opened, &batch).await?.into_iter().filter(|task| known.contains(&task.task)) {
            // Of one that was erased nothing is left to try.
            let is_dead = task.queued().is_some_and(|queue| queue.state == TaskState::Dead);
            if !is_dead || task.run.erased.is_some() {
                continue;
            }
            let queued = retry_task(&opened.backstop, &task).await;
            queued.map_err(|error| refused(Some(&task.run.run), &error))?;
        }
    }
    Ok(batch)
}

/// How the tasks of the batch stand, in any order.
async fn tasks_of(opened: &Opened, batch: &Batch) -> Result<Vec<TaskSummary>, Stop> {
    let filter = TaskFilter { prefix: Some(batch.prefix.clone()), ..TaskFilter::default() };
    let wanted: BTreeSet<&str> = batch.ids.iter().map(String::as_str).collect();
    let mut tasks = opened.backstop.queue().tasks(filter).await?;
    tasks.retain(|task| wanted.contains(task.task.as_str()));
    Ok(tasks)
}

/// Waits until nothing of it waits for a worker any more, and shows how far it is.
async fn watch(opened: &Opened, batch: &Batch, screen: &Screen) -> Result<Vec<TaskSummary>, Stop> {
    let queue = opened.backstop.queue();
    let begun = Instant::now();
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut first = None;
    loop {
        ticks.tick().await;
        let seen = queue.version();
        let tasks = tasks_of(opened, batch).await?;
        let progress = Progress::of(&tasks);
        let before = *first.get_or_insert(progress.over());
        screen.now(progress.line(batch.ids.len(), before, begun.elapsed()));
        if progress.waiting == 0 {
            return Ok(tasks);
        }
        queue.changed(seen).await;
    }
}

/// How far it is.
#[derive(Debug, Default, PartialEq)]
struct Progress {
    waiting: usize,
    parked: usize,
    done: usize,
    failed: usize,
    cost: Money,
}

impl Progress {
    fn of(tasks: &[TaskSummary]) -> Self {
        let mut progress = Self::default();
        for task in tasks {
            progress.cost += task.run.cost;
            match task.queued().map(|queue| queue.state) {
                Some(TaskState::Waiting) => progress.waiting += 1,
                Some(TaskState::Parked) => progress.parked += 1,
                Some(TaskState::Done) => progress.done += 1,
                Some(TaskState::Dead | TaskState::Cancelled) | None => progress.failed += 1,
            }
        }
        progress
    }

    fn over(&self) -> usize {
        self.done + self.failed
    }

    /// `before` were over when it began.
    fn line(&self, all: usize, before: usize, took: Duration) -> String {
        let fresh = u32::try_from(self.over().saturating_sub(before)).unwrap_or(u32::MAX);
        let left = u32::try_from(self.waiting).unwrap_or(u32::MAX);
        let pace = (fresh > 0).then(|| took / fresh);
        let rate = pace.filter(|pace| !pace.is_zero()).map_or_else(String::new, |pace| {
            format!(", {:.1}/min, {} left", 60.0 / pace.as_secs_f64(), span(pace * left))
        });
        format!("{} of {all}, {}{rate}", self.over(), self.words())
    }

    fn words(&self) -> String {
        let parts = [(self.done, "done"), (self.failed, "failed"), (self.parked, "waiting for a person")];
        let mut words: Vec<_> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        words.push(self.cost.to_string());
        words.join(", ")
    }
}

/// Writes a line per task, in the order of the file.
async fn tell_results(
    opened: &Opened,
    batch: &Batch,
    tasks: &[TaskSummary],
    output: Option<&Path>,
) -> Result<ExitCode, Stop> {
    let mut lines = String::new();
    for id in &batch.ids {
        let Some(task) = tasks.iter().find(|task| task.task.as_str() == id) else { continue };
        let result = opened.backstop.inspect(&task.run.run).await;
        let result = result.map_err(|error| refused(Some(&task.run.run), &error))?;
        let own = id.strip_prefix(&batch.prefix).unwrap_or(id);
        lines += &line(own, task, &result).to_string();
        lines.push('\n');
    }
    match output {
        Some(path) => std::fs::File::create(path).and_then(|mut file| file.write_all(lines.as_bytes()))?,
        None => out(&lines)?,
    }
    let progress = Progress::of(tasks);
    let well = progress.failed == 0 && progress.parked == 0;
    let mark = Look::of_stderr().mark(if well { Mark::Good } else { Mark::Bad });
    tell(format_args!("{mark} {}: {}", count(batch.ids.len(), "task"), progress.words()));
    if progress.failed > 0 {
        tell("hint: `backstop tasks --state dead` shows why; --retry-failed tries those again");
    }
    if progress.parked > 0 {
        tell("hint: `backstop approvals` shows what a person is asked; then the same command goes on");
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn line(id: &str, task: &TaskSummary, result: &backstop::RunResult) -> Value {
    json!({
        "id": id,
        "task": task.task,
        "run": result.run,
        "state": task.queued().map(|queue| queue.state),
        "content": result.content,
        "result": result.result,
        "cost_usd": result.cost.decimal(),
        "code": result.code,
        "message": result.message,
    })
}
