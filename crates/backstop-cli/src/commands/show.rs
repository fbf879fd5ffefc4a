//! `backstop show`: the whole story of one run.

use crate::args::Global;
use crate::complaint::Stop;
use crate::home::Home;
use crate::story::story;
use crate::ui::{Look, out};
use backstop_journal::StreamId;
use backstop_journal::projections::timeline::Timeline;
use std::process::ExitCode;

/// Tell the whole story of a run
///
/// Each call with its attempts, each tool call, what it cost and how long it took, in the order in which things began.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  backstop show 01k4\n  backstop show 01k4 --full\n  backstop show 01k4 --json | jq .summary.cost"
)]
pub(crate) struct Args {
    /// The run, or the beginning of its id
    run: String,
    /// Show arguments, results and answers as they stand
    #[arg(long)]
    full: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn main(args: Args, global: &Global) -> Result<ExitCode, Stop> {
    let journal = Home::find(global)?.journal()?;
    let run = crate::home::find_run(journal.as_ref(), &args.run).await?;
    let events = journal.read(&StreamId::Run(run.clone()), 0).await?;
    let Some(timeline) = Timeline::fold(&events) else {
        return Err(backstop_journal::JournalError::NotFound(run).into());
    };
    if args.json {
        out(format_args!("{}\n", serde_json::to_string_pretty(&timeline).map_err(std::io::Error::from)?))?;
    } else {
        out(story(&timeline, args.full, Look::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}
