//! A run as it happens, in lines for people: one per tool call, one per attempt that failed, and what is going on now.
//! Made from events alone, so that a live run and a story from the journal are told in the same words.

use crate::ui::{Mark, Tone, one_line, shortened, span, tokens};
use backstop_allowance::{account_in_words, message_in_words};
use backstop_call::{AttemptRecord, Money};
use backstop_journal::event::{ParkReason, ToolPlanned};
use backstop_journal::{Body, Event, EventBody};
use serde_json::Value;
use std::collections::BTreeMap;

/// How many characters of a message or a result a line shows.
const TEXT_CHARS_MAX: usize = 100;

/// A line about something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) mark: Mark,
    pub(crate) tone: Tone,
    pub(crate) text: String,
}

/// Tells one run. Feed it every event of the run, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Narrator {
    tools: BTreeMap<String, String>,
    turn: u32,
    doing: String,
    used_tokens: u64,
    cost: Money,
}

impl Narrator {
    /// Takes the next event in; gives a line when there is something to tell.
    pub(crate) fn push(&mut self, event: &Event) -> Option<Line> {
        match &event.body {
            EventBody::CallStarted(started) => {
                self.turn = started.turn;
                self.doing = format!("asks {}", started.model);
                None
            }
            EventBody::AttemptFailed(failed) => {
                let attempt = &failed.attempt;
                "tries again".clone_into(&mut self.doing);
                Some(line(Mark::Warn, Tone::Warn, attempt_text(attempt)))
            }
            EventBody::CallFinished(finished) => {
                self.turn = finished.turn;
                self.cost += finished.cost;
                self.used_tokens += finished.usage.total_input_tokens() + finished.usage.output_tokens;
                "works".clone_into(&mut self.doing);
                let attempts = finished.attempts().len();
                let text = format!("answered by {} on attempt {attempts}", finished.provider);
                (attempts > 1).then(|| line(Mark::Good, Tone::Plain, text))
            }
            EventBody::CallFailed(failed) => {
                self.cost += failed.cost;
                let text = shortened(&message_in_words(&failed.failure.to_string()), TEXT_CHARS_MAX);
                Some(line(Mark::Bad, Tone::Bad, format!("{} ({})", text, failed.failure.code())))
            }
            EventBody::BudgetWarned(warned) => {
                let (spent, limit) = (warned.spent, warned.limit);
                let account = account_in_words(&warned.account);
                let text = format!("{account} is spent to {} %: {spent} of {limit}", warned.percent);
                Some(line(Mark::Warn, Tone::Warn, text))
            }
            _ => self.tool_or_life(event),
        }
    }

    fn tool_or_life(&mut self, event: &Event) -> Option<Line> {
        match &event.body {
            EventBody::ToolPlanned(planned) => {
                self.tools.insert(planned.id.clone(), tool_text(planned));
                None
            }
            EventBody::ToolStarted(started) => {
                self.doing = self.tool(&started.id);
                None
            }
            EventBody::ToolFinished(finished) => {
                let tool = self.tool(&finished.id);
                if finished.is_error {
                    let why = shortened(&body_text(&finished.result), TEXT_CHARS_MAX);
                    return Some(line(Mark::Warn, Tone::Warn, format!("{tool}: {why}")));
                }
                let found = if finished.probed { ", found done after a crash" } else { "" };
                Some(line(Mark::Step, Tone::Plain, format!("{tool} ({}{found})", span(finished.duration))))
            }
            EventBody::ToolUnknown(unknown) => {
                let text = format!("{}: in doubt: {}", self.tool(&unknown.id), unknown.reason);
                Some(line(Mark::Bad, Tone::Bad, text))
            }
            EventBody::RunParked(parked) => {
                let text = match (parked.reason, parked.until) {
                    (ParkReason::InDoubt, _) => "waits: a person must say what happened".to_owned(),
                    (ParkReason::Approval, _) => "waits for a person's yes or no".to_owned(),
                    (ParkReason::Wait, Some(until)) => format!("waits until {until}"),
                    (ParkReason::Wait, None) => "waits".to_owned(),
                    (ParkReason::Child, _) => "waits for a run that does a part for it".to_owned(),
                };
                Some(line(Mark::Wait, Tone::Warn, text))
            }
            EventBody::RunClaimed(_) if event.epoch > 1 => {
                Some(line(Mark::Step, Tone::Plain, "goes on where it was left".to_owned()))
            }
            _ => None,
        }
    }

    /// What is going on, in a line that is drawn over and over: the turn, the step, tokens and cost so far.
    pub(crate) fn now(&self) -> String {
        let doing = if self.doing.is_empty() { "begins" } else { &self.doing };
        format!("turn {}  {doing}  {} tokens  {}", self.turn.max(1), tokens(self.used_tokens), self.cost)
    }

    fn tool(&self, id: &str) -> String {
        self.tools.get(id).cloned().unwrap_or_else(|| format!("tool call {id}"))
    }
}

fn line(mark: Mark, tone: Tone, text: String) -> Line {
    Line { mark, tone, text }
}

/// An attempt that failed: where, how, why.
pub(crate) fn attempt_text(attempt: &AttemptRecord) -> String {
    let kind = attempt.failure.map_or("failed", backstop_call::FailureKind::as_str);
    let why = match shortened(&attempt.message, TEXT_CHARS_MAX) {
        empty if empty.is_empty() => String::new(),
        message => format!(": {message}"),
    };
    let suspense = if attempt.suspense { ", counted at its worst case" } else { "" };
    format!("{} attempt {}: {kind}{why}{suspense}", attempt.provider, attempt.attempt)
}

/// A tool call in a few words: the tool and what it acts on.
fn tool_text(planned: &ToolPlanned) -> String {
    match planned.args.value().and_then(object_of) {
        Some(object) => format!("{} {object}", planned.tool),
        None => planned.tool.clone(),
    }
}

/// What a tool acts on, by the names that arguments have.
pub(crate) fn object_of(args: &Value) -> Option<String> {
    let named = ["path", "pattern", "summary", "dir", "agent"].iter().find_map(|key| args[*key].as_str());
    named.map(|text| shortened(text, 60))
}

/// A body as one text: a string as it stands, blocks by their texts, anything else as JSON.
pub(crate) fn body_text(body: &Body) -> String {
    let Some(value) = body.value() else { return "(erased)".to_owned() };
    match value {
        Value::String(text) => text.clone(),
        Value::Array(blocks) if blocks.iter().all(|block| block["text"].is_string()) => {
            one_line(&blocks.iter().filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
