//! `backstop submit`: puts a task into the queue.

use super::run::{message, workspace};
use crate::args::Global;
use crate::complaint::Stop;
use crate::engine::open_idle;
use crate::home::Home;
use crate::outcome::refused;
use crate::ui::{Look, Mark, out, tell};
use backstop_call::{Clock, Priority, RunId};
use backstop_server::config::Span;
use backstop_server::tasks::Asked;
use backstop_stack::SystemClock;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Put a task into the queue, for a worker
///
/// It is kept, and done once: by `backstop serve`, or by a `backstop worker`, of this machine. An id of your own makes it safe to
/// submit again.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  backstop submit --agent writer \"Shorten intro.md\"
  backstop submit --agent mailer --id newsletter-2026-11-28 --file letter.md
  backstop submit --agent cleaner --key shop --delay 1h --tries 3 \"Tidy up\"")]
pub(crate) struct Args {
    /// What is to be done; read from standard input when left out
    task: Option<String>,
    /// Read the task from this file
    #[arg(long, value_name = "FILE", conflicts_with = "task")]
    file: Option<PathBuf>,
    /// Have it done by this agent of the config
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Ask this model or chain
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Work in this directory, instead of the agent's
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    /// Your own id for it: a task with an id that is there already is not done again
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// How urgent it is
    #[arg(long, value_enum, default_value = "standard")]
    priority: Urgency,
    /// Of tasks with the same key one is worked on at a time
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Begin no sooner than after this time
    #[arg(long, value_name = "SPAN")]
    delay: Option<Span>,
    /// It is to be done within this time, or not at all
    #[arg(long, value_name = "SPAN")]
    within: Option<Span>,
    /// Try it so often in all, instead of what the agent says
    #[arg(long, value_name = "N")]
    tries: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Urgency {
    /// Before all others
    Interactive,
    /// As usual
    Standard,
    /// When nothing else is to be done
    Batch,
}

impl From<Urgency> for Priority {
    fn from(urgency: Urgency) -> Self {
        match urgency {
            Urgency::Interactive => Self::Interactive,
            Urgency::Standard => Self::Standard,
            Urgency::Batch => Self::Batch,
        }
    }
}

pub(crate) async fn main(args: Args, global: &Global) -> Result<ExitCode, Stop> {
    let home = Home::find(global)?;
    let asked = Asked {
        id: args.id,
        task: message(args.task.as_deref(), args.file.as_deref())?,
        agent: args.agent,
        model: args.model,
        workspace: args.workspace.as_deref().map(workspace).transpose()?,
        priority: Some(args.priority.into()),
        delay: args.delay,
        within: args.within,
        key: args.key,
        tries: args.tries,
    };
    let opened = open_idle(&home, Vec::new()).await?;
    let submitted = submit(&opened.backstop, &home, asked).await;
    opened.close().await;
    let submitted = submitted?;
    if args.json {
        let line = json!({ "task": submitted.task, "run": submitted.run, "new": submitted.new });
        out(format_args!("{line}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let look = Look::of_stderr();
    let (task, run) = (&submitted.task, &submitted.run);
    tell(if submitted.new {
        format!("{} task {task} waits for a worker, as run {run}", look.mark(Mark::Good))
    } else {
        format!("{} task {task} is there already, as run {run}; nothing was done", look.mark(Mark::Warn))
    });
    Ok(ExitCode::SUCCESS)
}

/// Puts a task in. Where it names no directory, it is done in this one.
pub(super) async fn submit(
    backstop: &backstop::Backstop,
    home: &Home,
    asked: Asked,
) -> Result<backstop_agent::run::Submitted, Stop> {
    let now = SystemClock::new().now();
    let id = RunId::from(backstop.call_id().as_str());
    let (mut task, terms) = asked.by(&home.config, now, id.as_str())?;
    if task.workspace.as_os_str().is_empty() {
        task.workspace = workspace(std::path::Path::new("."))?;
    }
    backstop.submit(task, terms).await.map_err(|error| refused(None, &error))
}
