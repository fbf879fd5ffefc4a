//! `backstop resume`: takes a run up where it was left.

use super::run::{Limits, drive};
use crate::args::Global;
use crate::complaint::Stop;
use crate::engine::open;
use crate::home::{Home, find_run};
use crate::outcome::Manner;
use crate::toolset::{Lacking, tools_of};
use backstop_agent::{RunState, top_of};
use backstop_journal::{JournalError, StreamId};
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
    let (run, top, model, limits) = {
        let journal = home.journal()?;
        let run = find_run(journal.as_ref(), &args.run).await?;
        // It goes on with the run that it does a part for.
        let top = top_of(journal.as_ref(), &run).await?;
        let state = RunState::fold(&journal.read(&StreamId::Run(top.clone()), 0).await?);
        let created = state.created.ok_or_else(|| JournalError::NotFound(run.clone()))?;
        (run, top, created.model, state.limits)
    };
    let tools = tools_of(&home, &top, Lacking::Stops).await?;
    let opened = open(&home, &model, tools).await?;
    opened.remember(&run).await?;
    let limits = args.limits.any().then(|| args.limits.over(limits));
    drive(opened, &run, limits, Manner { json: args.json, quiet: args.quiet }).await
}
