//! `backstop resolve`: a person says what is true about a tool call in doubt.

use crate::args::Global;
use crate::complaint::Stop;
use crate::engine::open_idle;
use crate::home::{Home, find_run, person};
use crate::outcome::refused;
use crate::ui::{Look, Mark, tell};
use backstop_agent::run::Verdict;
use backstop_journal::event::ToolDecision;
use std::process::ExitCode;

/// Say what is true about a tool call in doubt
///
/// A crash can hide whether a call took effect. Look at what it would have changed, then say so; the run stays parked
/// until it is resumed.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  backstop resolve 01k4 call_3 --happened \"the mail was sent\"\n  backstop resolve 01k4 call_3 --run-it\n  backstop resolve 01k4 call_3 --unknown"
)]
pub(crate) struct Args {
    /// The run, or the beginning of its id
    run: String,
    /// The tool call, or the beginning of its id
    call: String,
    #[command(flatten)]
    truth: Truth,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Truth {
    /// It happened, with this result
    #[arg(long, value_name = "TEXT", num_args = 0..=1, default_missing_value = "It was done.")]
    happened: Option<String>,
    /// It did not happen; run it
    #[arg(long)]
    run_it: bool,
    /// Nobody knows; tell the model so
    #[arg(long)]
    unknown: bool,
}

pub(crate) async fn main(args: Args, global: &Global) -> Result<ExitCode, Stop> {
    let home = Home::find(global)?;
    let run = find_run(home.journal()?.as_ref(), &args.run).await?;
    let decision = match &args.truth {
        Truth { happened: Some(_), .. } => ToolDecision::Happened,
        Truth { run_it: true, .. } => ToolDecision::RunIt,
        Truth { .. } => ToolDecision::Unknown,
    };
    let by = person();
    let opened = open_idle(&home, Vec::new()).await?;
    opened.remember(&run).await?;
    let verdict = Verdict { call: &args.call, decision, result: args.truth.happened.as_deref(), by: &by };
    let resolved = opened.backstop.resolve(&run, verdict).await;
    opened.close().await;
    let result = resolved.map_err(|error| refused(Some(&run), &error))?;
    let look = Look::of_stderr();
    match result.in_doubt.len() {
        0 => tell(format_args!("{} `backstop resume {run}` goes on", look.mark(Mark::Good))),
        left => tell(format_args!("{} {left} calls of run {run} are still in doubt", look.mark(Mark::Wait))),
    }
    Ok(ExitCode::SUCCESS)
}
