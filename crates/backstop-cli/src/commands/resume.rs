//! `backstop resume`: takes a run up where it was left.

use super::run::{Limits, drive};
use crate::args::Global;
use crate::complaint::Stop;
use crate::engine::open;
use crate::home::{Home, find_run};
use crate::outcome::Manner;
use crate::toolset::{Lacking, tools_of};
use backstop_journal::{JournalError, RunFilter};
use std::process::ExitCode;

/// Take a run up where it was left
///
/// After Ctrl-C, a crash, a limit, or a wait. Nothing that was done is done again; what a crash hid is found out, or asked.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  backstop resume 01k4\n  backstop resume 01k4 --max-cost 1.00 --time 10m"
)]
pub(crate) struct Args {
    /// The run, or the beginning of its id
    run: String,
    #[command(flatten)]
    limits: Limits,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show nothing while it runs
    #[arg(long, short)]
    quiet: bool,
}

pub(crate) async fn main(args: Args, global: &Global) -> Result<ExitCode, Stop> {
    let home = Home::find(global)?;
    let (run, model, limits) = {
        let journal = home.journal()?;
        let run = find_run(journal.as_ref(), &args.run).await?;
        let filter = RunFilter { id_prefix: Some(run.to_string()), limit: Some(1), ..RunFilter::default() };
        let summary = journal.runs(filter).await?.into_iter().next();
        let summary = summary.ok_or_else(|| JournalError::NotFound(run.clone()))?;
        (run, summary.model, summary.limits)
    };
    let tools = tools_of(&home, &run, Lacking::Stops).await?;
    let opened = open(&home, &model, tools).await?;
    opened.remember(&run).await?;
    let limits = args.limits.any().then(|| args.limits.over(limits));
    drive(opened, &run, limits, Manner { json: args.json, quiet: args.quiet }).await
}
