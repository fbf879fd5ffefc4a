//! `backstop apply`: carries out the plan of a dry run.

use super::run::drive;
use crate::args::Global;
use crate::complaint::Stop;
use crate::engine::open_idle;
use crate::home::{Home, find_run};
use crate::outcome::{Manner, refused};
use crate::plan::{Plan, as_json, told};
use crate::toolset::{Lacking, tools_of};
use crate::ui::{Look, out};
use backstop_agent::RunError;
use backstop_call::Code;
use std::process::ExitCode;

/// Carry out the plan of a dry run: exactly it, and once
///
/// No model is asked. Each step must be what the plan says, and stops the run where it is not; what its gates ask is asked.
/// After Ctrl-C or a crash the same command goes on where it was.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(
    after_long_help = "Examples:\n  backstop run --dry-run \"Sort notes.md\"\n  backstop apply 01k4 --dry-run\n  backstop apply 01k4"
)]
pub(crate) struct Args {
    /// The dry run, or the beginning of its id
    run: String,
    /// Print the plan, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// With all of each preview
    #[arg(long, requires = "dry_run")]
    full: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show nothing while it runs
    #[arg(long, short)]
    quiet: bool,
}

pub(crate) async fn main(args: Args, global: &Global) -> Result<ExitCode, Stop> {
    let home = Home::find(global)?;
    let run = {
        let journal = home.journal()?;
        let run = find_run(journal.as_ref(), &args.run).await?;
        if args.dry_run {
            let plan = Plan::read(journal.as_ref(), &run).await?;
            let plan = plan.ok_or_else(|| Stop::new(Code::Usage, format!("run {run} is no dry run")))?;
            if plan.is_erased() {
                return Err(refused(Some(&run), &RunError::Erased(run.clone())));
            }
            if args.json {
                out(format_args!("{:#}\n", as_json(&plan)))?;
            } else {
                out(told(&plan, args.full, Look::of_stdout()))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        run
    };
    let tools = tools_of(&home, &run, Lacking::Stops).await?;
    let opened = open_idle(&home, tools).await?;
    let applying = match opened.backstop.apply(&run).await {
        Ok(applying) => applying,
        Err(error) => {
            opened.close().await;
            return Err(refused(Some(&run), &error));
        }
    };
    opened.remember(&applying).await?;
    let before = opened.backstop.inspect(&applying).await.map_err(|error| refused(Some(&run), &error))?;
    if before.status.is_final() {
        opened.close().await;
        let status = before.status.as_str();
        let stop =
            Stop::new(Code::RunOver, format!("this plan was carried out before: run {applying} is {status}"));
        return Err(stop.with_hint(format!(
            "see `backstop show {applying}`; make a new plan with `backstop run --dry-run`"
        )));
    }
    drive(opened, &applying, None, Manner { json: args.json, quiet: args.quiet }).await
}
