//! `backstop undo`: takes back what a run did.

use crate::args::Global;
use crate::card::preview;
use crate::complaint::Stop;
use crate::engine::open_idle;
use crate::home::{Home, find_run};
use crate::outcome::refused;
use crate::toolset::{Lacking, tools_of};
use crate::ui::{Look, Mark, out, tell};
use backstop_agent::run::{UndoOutcome, Undone};
use backstop_call::Code;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Take back what a run did, newest first
///
/// Each step is put back as it was before it, to the byte, and read back. It stops where somebody else has changed what the
/// run left, and shows what was changed. What was sent cannot be taken back, and is told.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  backstop undo 01k4\n  backstop undo 01k4 --dry-run\n  backstop undo 01k4 --step call_3"
)]
pub(crate) struct Args {
    /// The run, or the beginning of its id
    run: String,
    /// Only this tool call; the beginning of its id is enough
    #[arg(long, value_name = "CALL")]
    step: Option<String>,
    /// Show what would be taken back, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn main(args: Args, global: &Global) -> Result<ExitCode, Stop> {
    let home = Home::find(global)?;
    let run = find_run(home.journal()?.as_ref(), &args.run).await?;
    let tools = tools_of(&home, &run, Lacking::IsTold).await?;
    let opened = open_idle(&home, tools).await?;
    opened.remember(&run).await?;
    let step = args.step.as_deref();
    let undone = if args.dry_run {
        let shown = opened.backstop.rehearse_undo(&run, step).await;
        shown.map(|shown| shown.into_iter().map(|(one, preview)| tell_preview(one, &preview)).collect())
    } else {
        opened.backstop.undo(&run, step).await
    };
    opened.close().await;
    let undone: Vec<_> = undone.map_err(|error| refused(Some(&run), &error))?;
    if args.json {
        let rows: Vec<_> = undone.iter().map(as_json).collect();
        out(format_args!("{:#}\n", Value::from(rows)))?;
    } else {
        undone.iter().for_each(told);
    }
    match undone.last().map(|one| &one.outcome) {
        None => tell("the run changed nothing that could be taken back"),
        Some(UndoOutcome::Conflict(why)) => {
            return Err(Stop::new(Code::UndoConflict, first_line(why).to_owned()));
        }
        Some(UndoOutcome::InDoubt(why)) => return Err(Stop::new(Code::InDoubt, why.clone())),
        Some(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows what the undo of a step would do.
fn tell_preview(one: Undone, shown: &str) -> Undone {
    if !shown.is_empty() {
        tell(preview(shown, false, Look::of_stderr()).trim_end());
    }
    one
}

fn told(one: &Undone) {
    let look = Look::of_stderr();
    let Undone { call, tool, outcome } = one;
    match outcome {
        UndoOutcome::Done(said) => tell(format_args!("{} {tool} ({call}): {said}", look.mark(Mark::Good))),
        UndoOutcome::Already => {
            tell(format_args!("{} {tool} ({call}): was taken back before", look.mark(Mark::Step)));
        }
        UndoOutcome::Irreversible => {
            tell(format_args!("{} {tool} ({call}): cannot be taken back", look.mark(Mark::Warn)));
        }
        UndoOutcome::Conflict(why) => tell(format_args!("{} {tool} ({call}): {why}", look.mark(Mark::Bad))),
        UndoOutcome::InDoubt(why) => {
            tell(format_args!("{} {tool} ({call}): in doubt: {why}", look.mark(Mark::Bad)));
        }
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn as_json(one: &Undone) -> Value {
    let (outcome, said) = match &one.outcome {
        UndoOutcome::Done(said) => ("done", said.as_str()),
        UndoOutcome::Already => ("already", ""),
        UndoOutcome::Irreversible => ("irreversible", ""),
        UndoOutcome::Conflict(why) => ("conflict", why.as_str()),
        UndoOutcome::InDoubt(why) => ("in-doubt", why.as_str()),
    };
    json!({"call": one.call, "tool": one.tool, "outcome": outcome, "message": said})
}
