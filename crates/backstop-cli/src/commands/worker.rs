//! `backstop worker`: works on what is in the queue.

use crate::args::Global;
use crate::complaint::Stop;
use crate::engine::open_for_all;
use crate::home::Home;
use crate::signals::asked_to_end;
use crate::ui::{Look, Mark, count, tell};
use backstop::{Crew, Workers};
use backstop_call::{ModelName, RunId};
use backstop_server::config::Config;
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

/// Work on what is in the queue
///
/// `backstop serve` does that, too; this is for more hands on the same machine. Several share the queue, and what one leaves that
/// dies, another takes up at once. Ctrl-C or SIGTERM lets every run come to the end of its step.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  backstop worker\n  backstop worker --slots 16")]
pub(crate) struct Args {
    /// Runs at a time, instead of what the config says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    slots: Option<u32>,
    /// Have the simulated model, too
    #[arg(long)]
    sim: bool,
}

pub(crate) async fn main(args: Args, global: &Global) -> Result<ExitCode, Stop> {
    let home = Home::find(global)?;
    let (opened, models) = open_for_all(&home, args.sim).await?;
    let slots = args.slots.unwrap_or(home.config.workers.slots.max(1));
    let workers = Workers::start(opened.backstop.clone(), crew(&home.config, slots, models));
    let runs = count(usize::try_from(slots).unwrap_or(usize::MAX), "run");
    tell(format_args!(
        "{} works on up to {runs} at a time; Ctrl-C ends it",
        Look::of_stderr().mark(Mark::Good)
    ));
    asked_to_end().await;
    tell("ending: every run comes to the end of its step; nothing more is taken");
    let_go(workers, &home.config).await;
    opened.close().await;
    Ok(ExitCode::SUCCESS)
}

/// Has every run come to the end of its step, for as long as the config allows.
pub(super) async fn let_go(workers: Workers, config: &Config) {
    let cut = workers.drain(config.workers.drain.0).await;
    if cut > 0 {
        let runs = count(cut, "run");
        tell(format_args!(
            "{runs} did not come to the end of their step in time, and go on elsewhere, or later"
        ));
    }
}

/// Who works here, by the config.
pub(super) fn crew(config: &Config, slots: u32, models: BTreeSet<ModelName>) -> Crew {
    Crew {
        slots: usize::try_from(slots).unwrap_or(usize::MAX),
        models: Some(models),
        roles: config.concurrency.clone(),
        trouble: Arc::new(|run: Option<&RunId>, why: &str| {
            let run = run.map_or_else(String::new, |run| format!("run {run}: "));
            tell(format_args!("warning: {run}{why}"));
        }),
    }
}
