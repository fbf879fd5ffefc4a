//! `backstop run`: does a task.

use crate::args::Global;
use crate::ask::{Said, ask};
use crate::complaint::Stop;
use crate::engine::{Opened, choose, open};
use crate::home::{Home, person};
use crate::outcome::{Manner, refused, tell_outcome};
use crate::plan::{Plan, told};
use crate::progress::{Screen, Told, tell_run};
use crate::prompt;
use crate::signals::asked_to_end;
use crate::toolset::{self, Lacking};
use crate::ui::{Look, out, tell};
use backstop::{RunResult, Task};
use backstop_agent::RunError;
use backstop_agent::run::{Answer, Reply};
use backstop_call::{Code, Priority, RunId};
use backstop_journal::StreamId;
use backstop_journal::event::RunLimits;
use backstop_server::config::{Dollars, Span};
use backstop_server::settings::dress;
use backstop_server::tasks::{TASK_BYTES_MAX, agent};
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Do a task with a model and tools on the files of a directory
///
/// The result goes to standard output, what happens on the way to standard error. Whatever stops it (Ctrl-C, a limit, a
/// budget, a crash) leaves a run that `backstop resume` takes up where it was.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  backstop run \"Write the sum of the column amount of expenses.csv to total.txt\"
  backstop run --agent writer --workspace docs/ \"Shorten intro.md\"
  backstop run --file task.md --max-cost 0.50 --time 10m --json
  echo \"Count the words in notes.md\" | backstop run --model sim")]
pub(crate) struct Args {
    /// What is to be done; read from standard input when left out
    task: Option<String>,
    /// Read the task from this file
    #[arg(long, value_name = "FILE", conflicts_with = "task")]
    file: Option<PathBuf>,
    /// Run it as this agent of the config
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Ask this model or chain; `sim` is always there and needs no key
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Work in this directory; nothing outside it is read or written
    #[arg(long, value_name = "DIR", default_value = ".")]
    workspace: PathBuf,
    /// Plan only: work on a copy of the directory, note what reaches beyond it, and print the plan
    #[arg(long)]
    dry_run: bool,
    /// Your own id for it, for logs and lists
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    #[command(flatten)]
    limits: Limits,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show nothing while it runs
    #[arg(long, short)]
    quiet: bool,
}

/// What a run may use; what is not named stays as it is.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Limits {
    /// Spend at most so many dollars
    #[arg(long, value_name = "DOLLARS")]
    max_cost: Option<Dollars>,
    /// Work at most so long [default: 3m]
    #[arg(long, value_name = "SPAN")]
    time: Option<Span>,
    /// Ask the model at most so often [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    turns: Option<u32>,
    /// Use at most so many tokens [default: 1000000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    tokens: Option<u64>,
}

impl Limits {
    /// These limits over others.
    pub(crate) fn over(self, other: RunLimits) -> RunLimits {
        RunLimits {
            time: self.time.map_or(other.time, |span| span.0),
            turns: self.turns.unwrap_or(other.turns),
            tokens: self.tokens.unwrap_or(other.tokens),
            cost: self.max_cost.map(|dollars| dollars.0).or(other.cost),
        }
    }

    /// Whether any is named.
    pub(crate) fn any(self) -> bool {
        self.max_cost.is_some() || self.time.is_some() || self.turns.is_some() || self.tokens.is_some()
    }
}

pub(crate) async fn main(args: Args, global: &Global) -> Result<ExitCode, Stop> {
    let home = Home::find(global)?;
    let agent = args.agent.as_deref().map(|name| agent(&home.config, name)).transpose()?;
    let model = choose(&home, args.model.as_deref(), agent.and_then(|agent| agent.model.as_ref()))?;
    let mut task = Task::new(model, message(args.task.as_deref(), args.file.as_deref())?);
    task.workspace = workspace(&args.workspace)?;
    task.id = args.id.as_deref().unwrap_or("task").into();
    task.priority = Priority::Interactive;
    task.limits = RunLimits { cost: home.config.run_cost, ..task.limits };
    if let Some(agent) = agent {
        dress(&mut task, agent, &args.agent.as_deref().unwrap_or_default().into());
    }
    task.limits = args.limits.over(task.limits);
    task.dry_run = args.dry_run;

    let limited = agent.is_some_and(|agent| agent.max_tokens.is_some());
    let (opened, run) = prepare(&home, task, limited).await?;
    conclude(&home, opened, &run, args.dry_run, Manner { json: args.json, quiet: args.quiet }).await
}

/// Opens an engine that can do a task, and creates its run. An answer whose length nobody `limited` leaves room for what is
/// asked.
pub(crate) async fn prepare(home: &Home, mut task: Task, limited: bool) -> Result<(Opened, RunId), Stop> {
    let tools = toolset::tools(home, &task.tools, Lacking::Stops).await?;
    let opened = open(home, &task.model, tools).await?;
    if !limited {
        task.max_tokens = task.max_tokens.map(|most| opened.answer_tokens_max(most));
    }
    match opened.backstop.create(task).await {
        Ok(run) => Ok((opened, run)),
        Err(error) => {
            opened.close().await;
            Err(refused(None, &error))
        }
    }
}

/// Works on a run that was prepared, and tells what came of it; of a dry run its plan.
pub(crate) async fn conclude(
    home: &Home,
    opened: Opened,
    run: &RunId,
    dry_run: bool,
    manner: Manner,
) -> Result<ExitCode, Stop> {
    let code = drive(opened, run, None, manner).await?;
    if dry_run
        && !manner.json
        && code == ExitCode::SUCCESS
        && let Some(plan) = Plan::read(home.journal()?.as_ref(), run).await?
    {
        out(format_args!("\n{}", told(&plan, false, Look::of_stdout())))?;
    }
    Ok(code)
}

/// Works on a run until it is over or Ctrl-C, and tells how it ended.
pub(crate) async fn drive(
    opened: Opened,
    run: &RunId,
    limits: Option<RunLimits>,
    manner: Manner,
) -> Result<ExitCode, Stop> {
    let screen = Screen::new(manner.quiet);
    screen.now(format!("run {run}"));
    let journal = Arc::clone(opened.backstop.journal());
    let after = journal.read(&StreamId::Run(run.clone()), 0).await?.last().map_or(0, |event| event.seq);
    let (over, is_over) = oneshot::channel();
    let warnings = opened.warnings.clone();
    let told = Told { run: run.clone(), after, warnings: warnings.clone() };
    let teller = tokio::spawn(tell_run(journal, told, screen.clone(), is_over));
    let done = tokio::select! {
        done = work(&opened, run, limits, &screen) => Some(done),
        () = asked_to_end() => None,
    };
    // A teller that is gone has told its own panic.
    let _ = over.send(());
    drop(teller.await);
    opened.close().await;
    warnings.tell(&screen);
    screen.finish();
    match done {
        Some(Ok(result)) => tell_outcome(&result, manner),
        Some(Err(error)) => Err(refused(Some(run), &error)),
        None => {
            tell(format_args!("stopped; `backstop resume {run}` goes on where it was"));
            Ok(ExitCode::from(Code::Cancelled.exit_code()))
        }
    }
}

/// Works on a run, and asks the person at the terminal, if there is one, what it waits for.
async fn work(
    opened: &Opened,
    run: &RunId,
    mut limits: Option<RunLimits>,
    screen: &Screen,
) -> Result<RunResult, RunError> {
    loop {
        let result = opened.backstop.resume(run, limits.take()).await?;
        if result.questions.is_empty() || screen.is_quiet() || !prompt::is_possible() {
            return Ok(result);
        }
        for open in &result.questions {
            let said = ask(&result, open, screen).await;
            let answer = match &said {
                Said::Yes => Answer::Approve,
                Said::No(reason) => Answer::Deny(reason),
                Said::Later => return Ok(result),
            };
            let (by, approval) = (person(), open.approval.as_str());
            let reply = Reply { approval, answer, by: &by, channel: "terminal" };
            opened.backstop.answer(&open.run, reply).await?;
        }
    }
}

/// The task: as it was given, from a file, or from standard input.
pub(crate) fn message(task: Option<&str>, file: Option<&Path>) -> Result<String, Stop> {
    let missing = |message: String| {
        Stop::new(Code::Usage, message)
            .with_hint("give the task as an argument, with --file, or on standard input")
    };
    let text = match (task, file) {
        (Some(task), _) if task != "-" => task.to_owned(),
        (_, Some(file)) => std::fs::File::open(file)
            .and_then(read)
            .map_err(|error| missing(format!("{} cannot be read: {error}", file.display())))?,
        _ if std::io::stdin().is_terminal() => return Err(missing("there is no task".into())),
        _ => read(std::io::stdin().lock())
            .map_err(|error| missing(format!("standard input cannot be read: {error}")))?,
    };
    if text.trim().is_empty() { Err(missing("the task is empty".into())) } else { Ok(text) }
}

fn read(from: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    let mut limited = from.take(TASK_BYTES_MAX as u64 + 1);
    limited.read_to_string(&mut text)?;
    if limited.limit() == 0 {
        return Err(std::io::Error::other("it is longer than 1 MiB"));
    }
    Ok(text)
}

/// The workspace as an absolute path: it is kept in the run, which may be resumed from elsewhere.
pub(crate) fn workspace(dir: &Path) -> Result<PathBuf, Stop> {
    let unusable =
        |why: String| Stop::new(Code::WorkspaceUnusable, format!("the workspace {} {why}", dir.display()));
    let path = dir.canonicalize().map_err(|error| unusable(format!("cannot be used: {error}")))?;
    if !path.is_dir() {
        return Err(unusable("is no directory".into()));
    }
    std::fs::read_dir(&path).map_err(|error| unusable(format!("cannot be read: {error}")))?;
    Ok(path)
}
