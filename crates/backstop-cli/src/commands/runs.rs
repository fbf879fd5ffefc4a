//! `backstop runs`: what was run, newest first.

use crate::args::Global;
use crate::complaint::Stop;
use crate::home::Home;
use crate::story::tone_of;
use crate::ui::{Align, Look, Table, Tone, count, moment, out, shortened, span, tell, tokens};
use backstop_allowance::message_in_words;
use backstop_journal::event::ParkReason;
use backstop_journal::projections::history::RunSummary;
use backstop_journal::{RunFilter, RunStatus};
use clap::ValueEnum;
use std::process::ExitCode;

/// List runs, newest first
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  backstop runs\n  backstop runs --status failed --status stopped\n  backstop runs --agent writer --limit 5 --json"
)]
pub(crate) struct Args {
    /// Only runs that stand so; may be given several times
    #[arg(long, value_name = "STATUS", value_enum)]
    status: Vec<Status>,
    /// Only runs of this agent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Status {
    Running,
    Parked,
    Done,
    Failed,
    Stopped,
    Cancelled,
}

impl From<Status> for RunStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Running => Self::Running,
            Status::Parked => Self::Parked,
            Status::Done => Self::Done,
            Status::Failed => Self::Failed,
            Status::Stopped => Self::Stopped,
            Status::Cancelled => Self::Cancelled,
        }
    }
}

pub(crate) async fn main(args: Args, global: &Global) -> Result<ExitCode, Stop> {
    let journal = Home::find(global)?.journal()?;
    let filter = RunFilter {
        status: args.status.into_iter().map(RunStatus::from).collect(),
        agent: args.agent.map(Into::into),
        id_prefix: None,
        limit: Some(args.limit),
        ..RunFilter::default()
    };
    let runs = journal.runs(filter).await?;
    if args.json {
        out(format_args!("{}\n", serde_json::to_string_pretty(&runs).map_err(std::io::Error::from)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    if runs.is_empty() {
        tell("there are no such runs; `backstop run \"…\"` makes one");
        return Ok(ExitCode::SUCCESS);
    }
    out(table(&runs).render(Look::of_stdout()))?;
    if runs.len() == args.limit {
        tell(format_args!("the newest {}; see --limit", count(runs.len(), "run")));
    }
    Ok(ExitCode::SUCCESS)
}

fn table(runs: &[RunSummary]) -> Table {
    let mut table = Table::new(&[
        ("run", Align::Left),
        ("created (utc)", Align::Left),
        ("task", Align::Left),
        ("status", Align::Left),
        ("turns", Align::Right),
        ("tokens", Align::Right),
        ("cost", Align::Right),
        ("time", Align::Right),
        ("why", Align::Left),
    ])
    .spare(&["tokens", "created (utc)", "turns"]);
    for run in runs {
        let used = run.usage.total_input_tokens() + run.usage.output_tokens;
        table.row(vec![
            (Tone::Strong, run.run.to_string()),
            (Tone::Dim, moment(run.created).chars().take(16).collect()),
            (Tone::Plain, shortened(run.task.as_str(), 24)),
            (tone_of(run.status), status(run)),
            (Tone::Plain, run.calls.to_string()),
            (Tone::Plain, tokens(used)),
            (Tone::Plain, run.cost.to_string()),
            (Tone::Plain, span(run.duration())),
            (Tone::Dim, why(run)),
        ]);
    }
    table
}

fn status(run: &RunSummary) -> String {
    let dry = if run.dry_run { " (plan)" } else { "" };
    let erased = if run.erased.is_some() { " (erased)" } else { "" };
    format!("{}{dry}{erased}", run.status.as_str())
}

fn why(run: &RunSummary) -> String {
    match run.parked {
        Some(ParkReason::Approval) => return "waits for a yes or no: `backstop approvals`".to_owned(),
        Some(ParkReason::InDoubt) => return "waits for a word on what happened: `backstop show`".to_owned(),
        Some(ParkReason::Child) => return "waits for a run that does a part for it".to_owned(),
        Some(ParkReason::Wait) | None => {}
    }
    let code = run.code.map_or_else(String::new, |code| format!("{code} "));
    shortened(&format!("{code}{}", message_in_words(&run.message)), 60)
}
