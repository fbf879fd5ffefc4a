//! A whole run, told from its timeline: what `backstop show` prints.

#![expect(clippy::format_push_string, reason = "a few short lines, once per command")]

use crate::narrate::{attempt_text, body_text, object_of};
use crate::ui::{Look, Mark, Tone, count, moment, one_line, shortened, span, tokens};
use backstop_agent::{DELEGATE, child_of};
use backstop_allowance::{account_in_words, message_in_words};
use backstop_journal::RunStatus;
use backstop_journal::event::{ApprovalDecision, ParkReason, RunErased, ToolDecision};
use backstop_journal::projections::history::RunSummary;
use backstop_journal::projections::timeline::{
    CallOutcome, CallRow, Moment, Question, Timeline, ToolOutcome, ToolRow,
};
use std::fmt::Write;
use std::time::Duration;

/// How many characters of a text stand on a line when not all of it is wanted.
const TEXT_CHARS_MAX: usize = 100;

/// The story of a run. `full` shows arguments and results as they stand.
pub(crate) fn story(timeline: &Timeline, full: bool, look: Look) -> String {
    let mut text = head(timeline, look);
    let mut told = Vec::new();
    for row in &timeline.rows {
        told.push(format!("{:>7}  {}", span(row.after), happened(&row.moment, full, look)));
    }
    text += &told.join("\n");
    if !told.is_empty() {
        text.push('\n');
    }
    for part in timeline.tools().filter(|tool| tool.tool == DELEGATE && tool.dispatches > 0) {
        let run = child_of(&timeline.summary.run, &part.id);
        let agent =
            part.args.value().and_then(object_of).map_or_else(String::new, |agent| format!(" of {agent}"));
        text += &look.paint(Tone::Dim, format_args!("the part{agent} is run {run}\n"));
    }
    text += &foot(timeline, look);
    text
}

fn head(timeline: &Timeline, look: Look) -> String {
    let summary = &timeline.summary;
    let created = &timeline.created;
    let mut text = format!(
        "{} {}  {}\n",
        look.paint(Tone::Strong, &summary.run),
        look.paint(tone_of(summary.status), summary.status.as_str()),
        look.paint(Tone::Dim, format_args!("{} UTC", moment(summary.created))),
    );
    let erased = timeline.rows.iter().find_map(|row| match &row.moment {
        Moment::Erased(erased) => Some(erased),
        _ => None,
    });
    let mut field = |name: &str, value: &str| {
        let name = look.paint(Tone::Dim, format_args!("{name:<10}"));
        text.push_str(&format!("  {name} {value}\n"));
    };
    field(
        "task",
        &format!(
            "{}: {}",
            summary.task,
            shortened(
                &body_text(&created.message),
                look.room(13 + summary.task.as_str().len() + 2, TEXT_CHARS_MAX)
            )
        ),
    );
    field("agent", &format!("{} (role {}, model {})", summary.agent, summary.role, summary.model));
    field("workspace", &one_line(&created.workspace));
    if let Some(parent) = &created.parent {
        field("part of", parent.as_str());
    }
    if let (Some(at), Some(RunErased { by, reason, .. })) = (summary.erased, erased) {
        field("erased", &format!("{} UTC, by {by}: {}", moment(at), one_line(reason)));
    }
    text.push('\n');
    text
}

/// How a run stands, and why.
fn foot(timeline: &Timeline, look: Look) -> String {
    let summary = &timeline.summary;
    let mut text = format!("\n{}\n", totals(summary));
    let suspense = timeline.suspense();
    if suspense > backstop_call::Money::ZERO {
        writeln!(text, "{suspense} of that is suspense: it may have been billed, and counts as spent")
            .expect("a string takes all");
    }
    if let Some(result) = &timeline.result {
        writeln!(text, "{} {}", look.paint(Tone::Dim, "result"), body_text(result))
            .expect("a string takes all");
    }
    if let Some(code) = summary.code {
        let why = one_line(&message_in_words(&summary.message));
        writeln!(text, "{} {why}", look.paint(Tone::Bad, code)).expect("a string takes all");
        writeln!(text, "hint: {}", code.hint()).expect("a string takes all");
    }
    for tool in timeline.in_doubt().filter(|_| summary.erased.is_none()) {
        let run = &summary.run;
        writeln!(text, "in doubt: `backstop resolve {run} {} --happened | --run-it | --unknown`", tool.id)
            .expect("a string takes all");
    }
    text
}

/// One line of totals.
pub(crate) fn totals(summary: &RunSummary) -> String {
    let calls = usize::try_from(summary.calls).unwrap_or(usize::MAX);
    let failed = usize::try_from(summary.failed_attempts).unwrap_or(usize::MAX);
    let tools = usize::try_from(summary.tool_calls).unwrap_or(usize::MAX);
    format!(
        "{}, {}, {}, {} in + {} out tokens, {}, {}",
        count(calls, "call"),
        count(failed, "failed attempt"),
        count(tools, "tool call"),
        tokens(summary.usage.total_input_tokens()),
        tokens(summary.usage.output_tokens),
        summary.cost,
        span(summary.duration()),
    )
}

/// The tone of a status.
pub(crate) fn tone_of(status: RunStatus) -> Tone {
    match status {
        RunStatus::Done => Tone::Good,
        RunStatus::Running => Tone::Strong,
        RunStatus::Parked | RunStatus::Stopped | RunStatus::Cancelled => Tone::Warn,
        RunStatus::Failed => Tone::Bad,
    }
}

fn happened(moment: &Moment, full: bool, look: Look) -> String {
    let marked = |mark: Mark, text: String| format!("{} {text}", look.mark(mark));
    match moment {
        Moment::Claimed { epoch: 1, .. } => marked(Mark::Step, "begins".to_owned()),
        Moment::Claimed { epoch, .. } => marked(Mark::Step, format!("goes on (claim {epoch})")),
        Moment::Parked { reason: ParkReason::InDoubt, .. } => {
            marked(Mark::Wait, "waits: a person must say what happened".to_owned())
        }
        Moment::Parked { reason: ParkReason::Approval, .. } => {
            marked(Mark::Wait, "waits for a person's yes or no".to_owned())
        }
        Moment::Parked { reason: ParkReason::Child, .. } => {
            marked(Mark::Wait, "waits for a run that does a part for it".to_owned())
        }
        Moment::Parked { reason: ParkReason::Wait, until } => {
            let until = until.map_or_else(String::new, |until| format!(" until {until}"));
            marked(Mark::Wait, format!("waits{until}"))
        }
        Moment::Queued { due } => marked(Mark::Wait, format!("waits for a worker, due {due}")),
        Moment::Resumed { limits } => {
            let cost = limits.cost.map_or_else(String::new, |cost| format!(", {cost}"));
            let text = format!("resumed with {}, {} turns{cost}", span(limits.time), limits.turns);
            marked(Mark::Step, text)
        }
        Moment::Erased(erased) => {
            let RunErased { by, reason, bodies, .. } = erased;
            let texts = count(usize::try_from(*bodies).unwrap_or(usize::MAX), "text");
            marked(Mark::Step, format!("{texts} erased by {by}: {}", one_line(reason)))
        }
        Moment::Finished { status, code, .. } => {
            let mark = if *status == RunStatus::Done { Mark::Good } else { Mark::Bad };
            let code = code.map_or_else(String::new, |code| format!(" ({code})"));
            marked(mark, format!("{}{code}", status.as_str()))
        }
        Moment::BudgetWarned { account, percent, spent, limit } => {
            let account = account_in_words(account);
            marked(Mark::Warn, format!("{account} is spent to {percent} %: {spent} of {limit}"))
        }
        Moment::Call(call) => call_text(call, full, look),
        Moment::Tool(tool) => tool_text(tool, full, look),
    }
}

fn call_text(call: &CallRow, full: bool, look: Look) -> String {
    let (mark, how) = match &call.outcome {
        CallOutcome::Open => (Mark::Wait, "under way".to_owned()),
        CallOutcome::Interrupted => (Mark::Bad, "cut off by a crash".to_owned()),
        CallOutcome::Failed { code, message, .. } => (
            Mark::Bad,
            format!(
                "failed: {} ({code})",
                shortened(&message_in_words(message), look.room(32, TEXT_CHARS_MAX))
            ),
        ),
        CallOutcome::Answered { usage, first_token, .. } => {
            let first =
                first_token.map_or_else(String::new, |first| format!(", first token {}", span(first)));
            let by = call.answered_by.as_deref().unwrap_or("?");
            let provider = call.provider.as_ref().map_or("?", |provider| provider.as_str());
            let used =
                format!("{} in + {} out", tokens(usage.total_input_tokens()), tokens(usage.output_tokens));
            (Mark::Good, format!("answered by {provider}/{by}, {used}{first}"))
        }
    };
    let took =
        if call.duration == Duration::ZERO { String::new() } else { format!(", {}", span(call.duration)) };
    let mut text = format!("{} turn {}: {how}, {}{took}", look.mark(mark), call.turn, call.cost);
    for attempt in call.attempts.iter().filter(|attempt| attempt.failure.is_some()) {
        let line = format!("{} ({}, {})", attempt_text(attempt), span(attempt.duration), attempt.cost);
        text += &format!(
            "\n           {} {}",
            look.mark(Mark::Warn),
            look.paint(Tone::Warn, shortened(&line, look.room(14, 240)))
        );
    }
    if let (true, CallOutcome::Answered { content, .. }) = (full, &call.outcome) {
        text += &indented("answer", &content.value().map_or_else(|| "(erased)".to_owned(), pretty));
    }
    text
}

fn tool_text(tool: &ToolRow, full: bool, look: Look) -> String {
    let (mark, how) = match &tool.outcome {
        ToolOutcome::Planned => (Mark::Wait, "planned".to_owned()),
        ToolOutcome::Running => (Mark::Wait, "under way".to_owned()),
        ToolOutcome::Finished { is_error: true, result, .. } => {
            (Mark::Warn, shortened(&body_text(result), look.room(44, TEXT_CHARS_MAX)))
        }
        ToolOutcome::Finished { probed: true, .. } => (Mark::Good, "found done after a crash".to_owned()),
        ToolOutcome::Finished { .. } => (Mark::Good, span(tool.duration)),
        ToolOutcome::InDoubt { reason } => (Mark::Bad, format!("in doubt: {reason}")),
        ToolOutcome::Resolved { decision, by, .. } => {
            let what = match decision {
                ToolDecision::Happened => "it happened",
                ToolDecision::RunIt => "it did not happen, run it",
                ToolDecision::Unknown => "nobody knows",
            };
            (Mark::Step, format!("{by} said: {what}"))
        }
    };
    let object =
        tool.args.value().and_then(object_of).map_or_else(String::new, |object| format!(" {object}"));
    let again = if tool.dispatches > 1 { format!(" (dispatch {})", tool.dispatches) } else { String::new() };
    let undo = tool.undoes.as_ref().map_or_else(String::new, |of| format!("undo of {of}, by "));
    let mut text = format!("{} {undo}{}{object}{again}: {how}", look.mark(mark), tool.tool);
    for question in &tool.asked {
        text += &format!("\n           {}", question_text(question, look));
    }
    if full {
        text += &indented("args", &tool.args.value().map_or_else(|| "(erased)".to_owned(), pretty));
        if !tool.preview.is_nothing() {
            text += &indented("would do", &body_text(&tool.preview));
        }
        if let ToolOutcome::Finished { result, .. } = &tool.outcome {
            text += &indented("result", &body_text(result));
        }
    }
    text
}

/// What was asked about a call, and what was answered.
fn question_text(question: &Question, look: Look) -> String {
    let asked = format!("asked, because {}", one_line(&question.why));
    let Some(answer) = &question.answer else {
        return format!("{} {asked}; open until {}", look.mark(Mark::Wait), moment(question.expires));
    };
    let (mark, said) = match &answer.decision {
        ApprovalDecision::Approve => (Mark::Good, "yes".to_owned()),
        ApprovalDecision::Deny { reason } => (Mark::Bad, format!("no: {}", one_line(reason))),
        ApprovalDecision::Edit { .. } => (Mark::Good, "yes, with other arguments".to_owned()),
        ApprovalDecision::Withdraw { reason } => (Mark::Step, format!("withdrawn: {}", one_line(reason))),
    };
    format!("{} {asked}; {} said {said} ({})", look.mark(mark), answer.by, answer.channel)
}

fn pretty(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// A text below a line, under a name; control characters cannot steer the terminal.
fn indented(name: &str, text: &str) -> String {
    let clean = |c: char| if c.is_control() && c != '\t' { '\u{fffd}' } else { c };
    let lines =
        text.lines().map(|line| format!("\n             {}", line.chars().map(clean).collect::<String>()));
    format!("\n           {name}:{}", lines.collect::<String>())
}
