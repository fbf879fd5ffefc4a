//! How a run ended, told: the result on standard output, the rest on standard error, and the exit code.

use crate::complaint::{Stop, render};
use crate::ui::{Look, Mark, Tone, count, out, span, tell, tokens};
use backstop::RunResult;
use backstop::agent::erasing::Kept;
use backstop_agent::RunError;
use backstop_allowance::message_in_words;
use backstop_call::{Code, RunId};
use backstop_journal::RunStatus;
use backstop_server::config::Problem;
use serde_json::{Value, json};
use std::process::ExitCode;

/// How an outcome is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// As JSON.
    pub(crate) json: bool,
    /// Without the line of totals.
    pub(crate) quiet: bool,
}

/// Tells how a run stands and gives the exit code.
pub(crate) fn tell_outcome(result: &RunResult, manner: Manner) -> Result<ExitCode, Stop> {
    let look = Look::of_stderr();
    if manner.json {
        out(format_args!("{:#}\n", as_json(result)))?;
    } else if result.status == RunStatus::Done {
        out(format_args!("{}\n", answer(result)))?;
    }
    if result.status == RunStatus::Done {
        if !manner.quiet {
            tell(format_args!("{} {}", look.mark(Mark::Good), look.paint(Tone::Dim, totals(result))));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let code = result.code.unwrap_or(Code::Internal);
    tell(render(&Problem::new(code, message(result)).with_hint(hint(result, code)), look));
    if !manner.quiet {
        tell(look.paint(Tone::Dim, totals(result)));
    }
    Ok(ExitCode::from(code.exit_code()))
}

/// What a run gave: its structured result, or what it said.
fn answer(result: &RunResult) -> String {
    match &result.result {
        Some(value) if !value.is_string() => format!("{value:#}"),
        _ => result.content.clone(),
    }
}

fn message(result: &RunResult) -> String {
    let run = &result.run;
    let why = match message_in_words(&result.message) {
        empty if empty.is_empty() => "no reason is known".to_owned(),
        message => message,
    };
    format!("run {run} is {}: {why}", result.status.as_str())
}

fn hint(result: &RunResult, code: Code) -> String {
    let run = &result.run;
    match (result.status, code) {
        (_, Code::InDoubt) => {
            let calls: Vec<_> = result
                .in_doubt
                .iter()
                .map(|doubt| {
                    format!("`backstop resolve {run} {} --happened | --run-it | --unknown`", doubt.call)
                })
                .collect();
            format!("look at what the effect would have changed, then {}", calls.join(", "))
        }
        (_, Code::ApprovalNeeded) => {
            let ids: Vec<_> = result.questions.iter().map(|open| open.approval.as_str()).collect();
            match ids[..] {
                [] => format!("`backstop resume {run}` goes on"),
                [first, ..] => format!(
                    "`backstop approvals show {first}` shows what would happen; then `backstop approvals approve | deny | edit \
                     {first}` and `backstop resume {run}`"
                ),
            }
        }
        (RunStatus::Stopped, Code::BudgetExceeded) => {
            format!("{}; then `backstop resume {run} --max-cost …`", code.hint())
        }
        (RunStatus::Stopped, Code::TimeLimit) => {
            format!("`backstop resume {run} --time 10m` goes on with more time")
        }
        (RunStatus::Stopped, Code::TurnLimit) => {
            format!("`backstop resume {run} --turns 100` goes on with more turns")
        }
        (RunStatus::Stopped, Code::TokenLimit) => {
            format!("`backstop resume {run} --tokens 2000000` goes on with more tokens")
        }
        (RunStatus::Parked, _) => format!("{}; `backstop resume {run}` goes on", code.hint()),
        _ => format!("{}; `backstop show {run}` tells the story", code.hint()),
    }
}

/// One line of totals.
pub(crate) fn totals(result: &RunResult) -> String {
    let turns = count(usize::try_from(result.turns).unwrap_or(usize::MAX), "turn");
    format!(
        "run {}: {turns}, {} in + {} out tokens, {}, {}",
        result.run,
        tokens(result.input_tokens),
        tokens(result.output_tokens),
        result.cost,
        span(result.duration),
    )
}

fn as_json(result: &RunResult) -> Value {
    let in_doubt: Vec<_> = result
        .in_doubt
        .iter()
        .map(|doubt| {
            json!({"call": doubt.call, "tool": doubt.tool, "args": doubt.args, "key": doubt.key, "reason": doubt.reason})
        })
        .collect();
    let questions: Vec<_> = result
        .questions
        .iter()
        .map(|open| json!({"approval": open.approval, "call": open.call, "tool": open.tool, "args": open.args, "preview": open.preview, "why": open.why, "expires": open.expires}))
        .collect();
    json!({
        "run": result.run,
        "status": result.status,
        "content": result.content,
        "result": result.result,
        "input_tokens": result.input_tokens,
        "output_tokens": result.output_tokens,
        "cost_usd": result.cost.decimal(),
        "duration_ms": u64::try_from(result.duration.as_millis()).unwrap_or(u64::MAX),
        "turns": result.turns,
        "code": result.code,
        "message": result.message,
        "in_doubt": in_doubt,
        "questions": questions,
    })
}

/// A run that could not be worked on.
pub(crate) fn refused(run: Option<&RunId>, error: &RunError) -> Stop {
    let why = std::error::Error::source(error)
        .filter(|_| !matches!(error, RunError::Journal(_)))
        .map_or_else(String::new, |source| format!(": {source}"));
    let named = error.to_string();
    let run = run.map(ToString::to_string).filter(|run| !named.contains(run.as_str()));
    let run = run.map_or_else(String::new, |run| format!("run {run}: "));
    let stop = Stop::new(error.code(), format!("{run}{named}{why}"));
    match error {
        RunError::NotOver { run, .. } => {
            stop.with_hint(format!("let it end, or end it with `backstop cancel {run}`; then undo it"))
        }
        RunError::Kept(Kept::GoesOn { run, .. } | Kept::TriedAgain { run, .. }) => {
            stop.with_hint(format!("let it end, or end it with `backstop cancel {run}`; then erase it"))
        }
        RunError::Kept(Kept::PartOf { whole, .. }) => {
            stop.with_hint(format!("`backstop erase {whole}` erases both"))
        }
        _ => stop,
    }
}
