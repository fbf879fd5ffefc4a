//! The rows of a run's story, as a page shows them.

use crate::dashboard::text;
use backstop_agent::{visible, visible_line};
use backstop_allowance::{account_in_words, message_in_words};
use backstop_call::{ApprovalId, AttemptRecord, FailureKind};
use backstop_journal::Body;
use backstop_journal::RunStatus;
use backstop_journal::event::{ApprovalDecision, ParkReason, ToolDecision};
use backstop_journal::projections::timeline::{
    CallOutcome, CallRow, Moment, Question, Row, Timeline, ToolOutcome, ToolRow,
};
use maud::{Markup, html};
use serde_json::Value;
use std::time::Duration;

/// How something went: told by a mark and a word, and by a colour for those who see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Good,
    Bad,
    Warn,
    Wait,
    Step,
}

impl Mark {
    fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Warn => "warn",
            Self::Wait => "wait",
            Self::Step => "step",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Bad => "failed",
            Self::Warn => "attention",
            Self::Wait => "waits",
            Self::Step => "step",
        }
    }
}

/// A row.
pub(super) fn item(row: &Row, window: Option<u64>) -> Markup {
    let (mark, kind, what) = match &row.moment {
        Moment::Call(call) => (call_mark(call), "call", call_row(call, window)),
        Moment::Tool(tool) => (tool_mark(tool), "tool", tool_row(tool)),
        other => {
            let (mark, what) = life(other);
            (mark, "life", what)
        }
    };
    html! {
        li #{ "s" (row.seq) } class={ (kind) " " (mark.class()) } {
            span.after title={ (row.at.rfc3339()) } { (text::span(row.after)) }
            span.dot { span.hidden { (mark.word()) } }
            div.what { (what) }
        }
    }
}

fn life(moment: &Moment) -> (Mark, Markup) {
    let line = |mark, text: String| (mark, html! { p.line { (text) } });
    match moment {
        Moment::Claimed { epoch: 1, .. } => line(Mark::Step, "Begins".to_owned()),
        Moment::Claimed { epoch, owner } => {
            line(Mark::Step, format!("Goes on (claim {epoch}, process {})", visible_line(owner)))
        }
        Moment::Parked { reason: ParkReason::InDoubt, .. } => {
            line(Mark::Wait, "Waits: a person must say what happened".to_owned())
        }
        Moment::Parked { reason: ParkReason::Approval, .. } => {
            line(Mark::Wait, "Waits for a person's yes or no".to_owned())
        }
        Moment::Parked { reason: ParkReason::Child, .. } => {
            line(Mark::Wait, "Waits for a run that does a part of it".to_owned())
        }
        Moment::Queued { due } => line(Mark::Wait, format!("Waits for a worker, due {}", text::moment(*due))),
        Moment::Parked { reason: ParkReason::Wait, until } => {
            let until = until.map_or_else(String::new, |until| format!(" until {}", text::moment(until)));
            line(Mark::Wait, format!("Waits for the provider{until}"))
        }
        Moment::Resumed { limits } => {
            let cost = limits.cost.map_or_else(String::new, |cost| format!(", {cost}"));
            line(
                Mark::Step,
                format!("Resumed with {}, {} turns{cost}", text::span(limits.time), limits.turns),
            )
        }
        Moment::Erased(erased) => line(
            Mark::Step,
            format!(
                "{} texts erased by {}: {}",
                erased.bodies,
                visible_line(&erased.by),
                text::line(&erased.reason, 300)
            ),
        ),
        Moment::Finished { status, code, message } => {
            let mark = if *status == RunStatus::Done { Mark::Good } else { Mark::Bad };
            let code = code.map_or_else(String::new, |code| format!(" ({code})"));
            let why = if message.is_empty() {
                String::new()
            } else {
                format!(": {}", text::line(&message_in_words(message), 300))
            };
            line(mark, format!("{}{code}{why}", text::capitalised(status.as_str())))
        }
        Moment::BudgetWarned { account, percent, spent, limit } => line(
            Mark::Warn,
            format!(
                "{} is spent to {percent} %: {spent} of {limit}",
                text::capitalised(&account_in_words(&visible_line(account)))
            ),
        ),
        Moment::Call(_) | Moment::Tool(_) => line(Mark::Step, String::new()),
    }
}

fn call_mark(call: &CallRow) -> Mark {
    match &call.outcome {
        CallOutcome::Open => Mark::Wait,
        CallOutcome::Interrupted | CallOutcome::Failed { .. } => Mark::Bad,
        CallOutcome::Answered { .. } if call.attempts.iter().any(|attempt| attempt.failure.is_some()) => {
            Mark::Warn
        }
        CallOutcome::Answered { .. } => Mark::Good,
    }
}

fn call_row(call: &CallRow, window: Option<u64>) -> Markup {
    let by = call.answered_by.as_deref().unwrap_or("?");
    let provider = call.provider.as_ref().map_or("?", |provider| provider.as_str());
    html! {
        p.line {
            strong { "Turn " (call.turn) } " "
            @match &call.outcome {
                CallOutcome::Open => { "asks " (asked(call)) },
                CallOutcome::Interrupted => { "was cut off by a crash" },
                CallOutcome::Failed { code, message, .. } => { "failed: " (text::line(&message_in_words(message), 300)) " (" (code) ")" },
                CallOutcome::Answered { .. } => { "answered by " (visible_line(provider)) "/" (visible_line(by)) },
            }
        }
        p.figures {
            @if let CallOutcome::Answered { usage, first_token, .. } = &call.outcome {
                span { (text::tokens(usage.total_input_tokens())) " in" }
                span { (text::tokens(usage.output_tokens)) " out" }
                @if let Some(window) = window { (context(usage.total_input_tokens(), window)) }
                @if let Some(first) = first_token { span { "first token " (text::span(*first)) } }
            }
            @if call.outcome != CallOutcome::Open { span { (call.cost) } }
            @if call.duration > Duration::ZERO { span { (text::span(call.duration)) } }
        }
        @let failed: Vec<_> = call.attempts.iter().filter(|attempt| attempt.failure.is_some()).collect();
        @if !failed.is_empty() { ul.attempts { @for attempt in failed { li { (attempt_line(attempt)) } } } }
        @if let CallOutcome::Answered { content, .. } = &call.outcome { (said(content)) }
    }
}

fn asked(call: &CallRow) -> String {
    call.model.as_ref().map_or_else(|| "?".to_owned(), |model| visible_line(model.as_str()))
}

fn attempt_line(attempt: &AttemptRecord) -> Markup {
    let kind = attempt.failure.map_or("failed", FailureKind::as_str);
    html! {
        "Attempt " (attempt.attempt) " at " (visible_line(attempt.provider.as_str())) ": " strong { (kind) }
        @if !attempt.message.is_empty() { ", " (text::line(&attempt.message, 300)) }
        span.dim {
            " · " (text::span(attempt.duration)) " · " (attempt.cost)
            @if attempt.suspense { ", counted at its worst case" }
            @if attempt.waited > Duration::ZERO { " · after a wait of " (text::span(attempt.waited)) }
        }
    }
}

/// What the model said beside the tools it called.
fn said(content: &Body) -> Markup {
    let blocks = match content.value() {
        Some(Value::Array(blocks)) => blocks.iter().filter_map(|block| block["text"].as_str()).collect(),
        Some(_) => Vec::new(),
        None => vec!["(erased)"],
    };
    let said = blocks.join("\n");
    html! { @if !said.trim().is_empty() { details { summary { "What it said" } pre { (text::bounded(&said)) } } } }
}

/// How much of a context is used.
pub(super) fn context(tokens: u64, window: u64) -> Markup {
    let percent = tokens.saturating_mul(100).div_ceil(window.max(1)).min(100);
    html! {
        span.context {
            svg.bar viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" {
                rect.all width="100" height="8" {}
                rect class=(if percent >= 80 { "part high" } else { "part" }) width=(percent) height="8" {}
            }
            (percent) " % context"
        }
    }
}

fn tool_mark(tool: &ToolRow) -> Mark {
    match &tool.outcome {
        ToolOutcome::Planned | ToolOutcome::Running => Mark::Wait,
        ToolOutcome::Finished { is_error: true, .. } => Mark::Warn,
        ToolOutcome::Finished { .. } => Mark::Good,
        ToolOutcome::InDoubt { .. } => Mark::Bad,
        ToolOutcome::Resolved { .. } => Mark::Step,
    }
}

fn tool_row(tool: &ToolRow) -> Markup {
    html! {
        p.line {
            @if let Some(of) = &tool.undoes { "Undo of " code { (visible_line(of)) } " by " }
            strong { (visible_line(&tool.tool)) }
            @if let Some(object) = tool.args.value().and_then(text::object_of) { " " span.object { (object) } }
            @if tool.dispatches > 1 { span.dim { " (dispatch " (tool.dispatches) ")" } }
            @match &tool.outcome {
                ToolOutcome::Planned => span.dim { " · planned" },
                ToolOutcome::Running => span.dim { " · under way" },
                ToolOutcome::Finished { probed: true, .. } => span.dim { " · found done after a crash" },
                ToolOutcome::Finished { is_error, result, .. } => {
                    span.dim { " · " (text::span(tool.duration)) }
                    @if *is_error { br; span.bad { (text::line(&text::body(result), 300)) } }
                },
                ToolOutcome::InDoubt { reason } => { br; span.bad { "in doubt: " (text::line(reason, 300)) } },
                ToolOutcome::Resolved { decision, by, .. } => span.dim { " · " (visible_line(by)) " said: " (resolved(*decision)) },
            }
        }
        @for question in &tool.asked { (asked_about(question)) }
        (inside(tool))
    }
}

fn resolved(decision: ToolDecision) -> &'static str {
    match decision {
        ToolDecision::Happened => "it happened",
        ToolDecision::RunIt => "it did not happen, run it",
        ToolDecision::Unknown => "nobody knows",
    }
}

fn asked_about(question: &Question) -> Markup {
    html! {
        p.asked {
            a href={ "/approvals/" (question.approval) } { "Asked" } ", because " (text::line(&question.why, 200))
            @match &question.answer {
                None => { "; open until " (text::moment(question.expires)) },
                Some(answer) => {
                    "; " strong { (visible_line(&answer.by)) } " said "
                    @match &answer.decision {
                        ApprovalDecision::Approve => "yes",
                        ApprovalDecision::Deny { reason } => { "no" @if !reason.is_empty() { ": " (text::line(reason, 300)) } },
                        ApprovalDecision::Edit { .. } => "yes, with other arguments",
                        ApprovalDecision::Withdraw { reason } => { "that it no longer stands: " (text::line(reason, 300)) },
                    }
                    " (" (visible_line(&answer.channel)) ")"
                },
            }
        }
    }
}

/// Arguments, what would change, and what came back.
fn inside(tool: &ToolRow) -> Markup {
    let preview = if tool.preview.is_nothing() { String::new() } else { text::body(&tool.preview) };
    let result = match &tool.outcome {
        ToolOutcome::Finished { result, .. } => Some(result),
        ToolOutcome::Resolved { result, .. } => result.as_ref(),
        ToolOutcome::Planned | ToolOutcome::Running | ToolOutcome::InDoubt { .. } => None,
    };
    html! {
        @if !preview.is_empty() { details { summary { "What it changed" } (text::preview(&preview)) } }
        details {
            summary { "Arguments and result" }
            h3 { "Arguments" }
            pre { (tool.args.value().map_or_else(|| "(erased)".to_owned(), |args| text::bounded(&text::json(args)))) }
            @if let Some(result) = result { h3 { "Result" } pre { (text::body(result)) } }
            p.dim {
                "Call " code { (visible_line(&tool.id)) }
                @if tool.reversible { " · can be taken back" }
            }
        }
    }
}

/// What is going on, where it is this.
pub(super) fn under_way(moment: &Moment) -> Option<String> {
    match moment {
        Moment::Call(call) if call.outcome == CallOutcome::Open => {
            Some(format!("turn {}: asks {}", call.turn, asked(call)))
        }
        Moment::Tool(tool) if matches!(tool.outcome, ToolOutcome::Running) => Some(visible(&tool.tool)),
        _ => None,
    }
}

/// The questions that wait for an answer.
pub(super) fn open_questions(timeline: &Timeline) -> impl Iterator<Item = &ApprovalId> {
    let is_parked = timeline.summary.parked == Some(ParkReason::Approval);
    let asked = timeline.tools().filter(move |_| is_parked).flat_map(|tool| &tool.asked);
    asked.filter(|question| question.answer.is_none()).map(|question| &question.approval)
}
