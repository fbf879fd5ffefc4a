//! `backstop erase`: what a run said goes for good.

use crate::args::Global;
use crate::complaint::Stop;
use crate::engine::open_idle;
use crate::home::{Home, find_run, person};
use crate::outcome::refused;
use crate::prompt;
use crate::ui::{Look, Mark, count, moment, out, tell};
use backstop::agent::erasing::{Kept, Lost};
use backstop::{Backstop, Erased, Erasing, ToErase};
use backstop_agent::RunError;
use backstop_call::{Code, RunId};
use backstop_server::config::Config;
use backstop_server::config::sections::LogTarget;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;

/// Erase what a run said, for good
///
/// Its prompts, answers, arguments and results go, and those of the runs that did parts for it. Who did what, when and for how
/// much stays, and `backstop audit verify` proves it as before. Nothing of it can be undone or tried again afterwards. A run
/// that may still go on is kept: end it first with `backstop cancel`.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  backstop erase 01k4 --dry-run\n  backstop erase 01k4 --reason \"a customer asked for it\"\n  backstop erase 01k4 --reason \"a test\" --yes --json"
)]
pub(crate) struct Args {
    /// The run, or the beginning of its id
    run: String,
    /// Why: it is kept with the run
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Show what would go, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Say yes beforehand
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn main(args: Args, global: &Global) -> Result<ExitCode, Stop> {
    let home = Home::find(global)?;
    let run = find_run(home.journal()?.as_ref(), &args.run).await?;
    let opened = open_idle(&home, Vec::new()).await?;
    opened.remember(&run).await?;
    let done = erase(&args, &run, &opened.backstop, &home.config).await;
    opened.close().await;
    done
}

async fn erase(args: &Args, run: &RunId, backstop: &Backstop, config: &Config) -> Result<ExitCode, Stop> {
    let stop = |error: RunError| refused(Some(run), &error);
    let to_erase = match backstop.rehearse_erasing(run).await {
        Err(RunError::Kept(Kept::Gone { at, .. })) => {
            if args.json {
                out(format_args!("{:#}\n", as_json(&[], None)))?;
            }
            tell(format_args!("run {run} was erased before, on {} UTC", moment(at)));
            return Ok(ExitCode::SUCCESS);
        }
        rehearsed => rehearsed.map_err(stop)?,
    };
    if args.dry_run {
        shown(&to_erase, args.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !args.yes {
        shown(&to_erase, false)?;
        if !prompt::yes("erase it for good?") {
            tell("nothing was erased");
            return Ok(ExitCode::from(Code::Cancelled.exit_code()));
        }
    }
    let (by, reason) = (person(), args.reason.as_deref().unwrap_or_default());
    let erased = backstop
        .erase(run, &Erasing { by: &by, reason, at: backstop.clock().now(), age: Duration::ZERO })
        .await
        .map_err(stop)?;
    if args.json {
        out(format_args!("{:#}\n", as_json(&erased, Some(to_erase.lost))))?;
    }
    tell(format_args!("{} {} of run {run}", Look::of_stderr().mark(Mark::Good), told(&erased, "erased")));
    if config.logs.to == LogTarget::File {
        let days = count(config.logs.retention_days.try_into().unwrap_or(usize::MAX), "day");
        tell(format_args!(
            "  log files may quote it, and are kept for {days}: {}",
            config.logs.dir.display()
        ));
    }
    tell("  copies of the database and what was sent elsewhere are yours to erase");
    Ok(ExitCode::SUCCESS)
}

/// What would go, and what is lost with it.
fn shown(to_erase: &ToErase, json: bool) -> Result<(), Stop> {
    if json {
        out(format_args!("{:#}\n", as_json(&to_erase.runs, Some(to_erase.lost))))?;
        return Ok(());
    }
    for one in &to_erase.runs {
        tell(format_args!("run {}: {}", one.run, told(std::slice::from_ref(one), "would go")));
    }
    for what in to_erase.lost.in_words() {
        tell(format_args!("{} {what}", Look::of_stderr().mark(Mark::Warn)));
    }
    Ok(())
}

fn told(runs: &[Erased], went: &str) -> String {
    let bodies: u64 = runs.iter().map(|one| one.bodies).sum();
    let bytes: u64 = runs.iter().map(|one| one.bytes).sum();
    let texts = count(bodies.try_into().unwrap_or(usize::MAX), "text");
    format!("{texts}, {bytes} bytes {went}")
}

fn as_json(runs: &[Erased], lost: Option<Lost>) -> Value {
    let rows: Vec<_> =
        runs.iter().map(|one| json!({"run": one.run, "texts": one.bodies, "bytes": one.bytes})).collect();
    let lost = lost.unwrap_or_default();
    json!({"runs": rows, "lost": {"undo": lost.undo, "plan": lost.plan, "retry": lost.retry}})
}
