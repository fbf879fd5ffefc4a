//! `backstop cancel`: ends a run for good.

use crate::args::Global;
use crate::complaint::Stop;
use crate::engine::open_idle;
use crate::home::{Home, find_run, person};
use crate::outcome::refused;
use crate::ui::{Look, Mark, tell};
use std::process::ExitCode;

/// End a run for good
///
/// What it did stays done; `backstop undo` takes it back.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  backstop cancel 01k4\n  backstop cancel 01k4 --reason \"not needed any more\""
)]
pub(crate) struct Args {
    /// The run, or the beginning of its id
    run: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(crate) async fn main(args: Args, global: &Global) -> Result<ExitCode, Stop> {
    let home = Home::find(global)?;
    let run = find_run(home.journal()?.as_ref(), &args.run).await?;
    let opened = open_idle(&home, Vec::new()).await?;
    opened.remember(&run).await?;
    let by = format!("ended by {}", person());
    let reason = args.reason.map_or_else(|| by.clone(), |reason| format!("{by}: {reason}"));
    let cancelled = opened.backstop.cancel(&run, &reason).await;
    opened.close().await;
    cancelled.map_err(|error| refused(Some(&run), &error))?;
    tell(format_args!("{} run {run} is cancelled", Look::of_stderr().mark(Mark::Good)));
    Ok(ExitCode::SUCCESS)
}
