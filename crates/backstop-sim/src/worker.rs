//! The simulated model: a pure function from a request and a seed to a reply. It does small real jobs on the real files of
//! a task, through whatever file tools the request offers, and makes the tool calls that a task words to the letter; without
//! tools it answers in text. It must not read a clock, draw
//! from a shared source of randomness or do IO: the same request and seed give the same reply, byte for byte.

mod desk;
mod jobs;
mod offer;
mod parse;
mod schema;
mod task;
mod team;
mod text;

#[cfg(test)]
mod tests;

use crate::{draw, tokens};
use backstop_call::{
    Block, LimitHint, OutputFormat, Reply, Request, Seed, Speaker, StopReason, Thinking, ToolChoice, Usage,
};
use desk::{Ask, Desk, Stop};
use offer::Offer;
use serde_json::{Map, Value};
use task::Job;

/// How a job ended.
#[derive(Debug, Clone, PartialEq)]
struct Report {
    done: bool,
    summary: String,
    data: Map<String, Value>,
    files: Vec<String>,
}

/// What the model does next.
enum Turn {
    Call(Vec<Ask>),
    Say(String),
}

/// The next turn of the conversation.
///
/// The usage is [`tokens::input`] of the request and [`tokens::output`] of the answer, which is cut where `max_tokens`
/// ends it. The seed decides the ids, the wording, and whether files are read one by one or all at once.
pub fn answer(request: &Request, seed: u64) -> Reply {
    // Not the whole request: whether it streams and where it is cut must not change what is said.
    let text = serde_json::to_vec(&(&request.model, &request.messages)).unwrap_or_default();
    let ids = draw::about(seed, &text);
    let style = draw::about(seed, asked(request).1.as_bytes());
    let turn = decide(request, &style);
    let mut content = Vec::new();
    if thinks(request) {
        let thought = "I look at what is asked, at what I know so far, and take the next step.";
        let signature = format!("sim-{:016x}", ids.next_u64());
        content.push(Block::Thinking { text: thought.into(), signature: Some(signature) });
    }
    let stop = match turn {
        Turn::Say(text) => {
            content.push(Block::text(text));
            StopReason::End
        }
        Turn::Call(asks) => {
            content.extend(remark(&asks, &ids));
            content.extend(asks.into_iter().map(|ask| Block::ToolUse {
                id: format!("call_sim{:016x}", ids.next_u64()),
                name: ask.name,
                input: ask.input,
                cache: None,
            }));
            StopReason::ToolUse
        }
    };
    let (content, stop) = bounded(content, stop, request);
    Reply {
        id: format!("msg_sim{:016x}", ids.next_u64()),
        model: request.model.clone(),
        usage: usage(request, &content),
        content,
        stop,
        first_token: None,
        request_id: None,
        limits: LimitHint::default(),
        attempts: Vec::new(),
        other: Map::new(),
        told: None,
        lost: Vec::new(),
    }
}

/// The usage of an answer: see [`tokens`].
pub(crate) fn usage(request: &Request, content: &[Block]) -> Usage {
    Usage {
        input_tokens: tokens::input(request),
        output_tokens: tokens::output(content),
        reasoning_tokens: tokens::reasoning(content),
        ..Usage::default()
    }
}

/// Where the task begins, and its text: the newest message of the person's that asks for a known job, else their first.
fn asked(request: &Request) -> (usize, String) {
    let said = |index: usize| {
        let message = request.messages.get(index)?;
        let texts: Vec<&str> = message.content.iter().filter_map(Block::as_text).collect();
        (message.speaker == Speaker::User && !texts.is_empty()).then(|| (index, texts.join("\n\n")))
    };
    let count = request.messages.len();
    let known = (0..count).rev().filter_map(said).find(|(_, text)| task::recognise(text).is_some());
    known.or_else(|| (0..count).find_map(said)).unwrap_or((0, String::new()))
}

/// The person's newest words.
fn newest(request: &Request) -> String {
    let said = request.messages.iter().rev().filter(|message| message.speaker == Speaker::User);
    let texts = said.map(|message| message.content.iter().filter_map(Block::as_text).collect::<String>());
    texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
}

fn thinks(request: &Request) -> bool {
    !matches!(request.thinking, None | Some(Thinking::Off))
}

fn decide(request: &Request, style: &Seed) -> Turn {
    if request.tool_choice == Some(ToolChoice::None) {
        return Turn::Say(said(request, style));
    }
    let offer = Offer::of(&request.tools);
    let is_worded = || matches!(task::recognise(&asked(request).1), Some(Job::Calls(_)));
    let turn = if offer.has_file_tools() || !request.tools.is_empty() && is_worded() {
        work(request, style)
    } else {
        Turn::Say(said(request, style))
    };
    forced(request, turn)
}

/// Goes on with the job.
fn work(request: &Request, style: &Seed) -> Turn {
    let (from, text) = asked(request);
    let job: Job = task::recognise(&text).unwrap_or_else(|| task::fallback(&text));
    let mut desk = Desk::new(request, from, style.below(2) == 1);
    let report = match jobs::run(&job, &mut desk) {
        Err(Stop::Call(asks)) => return Turn::Call(asks),
        Ok(report) => report,
        Err(Stop::GiveUp(why)) => {
            Report { done: false, summary: why, data: Map::new(), files: desk.written().to_vec() }
        }
    };
    let lead =
        if report.done { draw::pick(style, &["Done: ", "I have ", "Finished: I "]) } else { "Not done: " };
    match desk.offer().finish(&report) {
        Some(ask) => Turn::Call(vec![ask]),
        None if request.output.is_some() => Turn::Say(structured(request, &report.summary)),
        None => Turn::Say(format!("{lead}{}.", report.summary)),
    }
}

/// A tool that must be called is called, with the smallest arguments that fit where the job does not want it.
fn forced(request: &Request, turn: Turn) -> Turn {
    let wanted = match &request.tool_choice {
        Some(ToolChoice::Tool(name)) => request.tools.iter().find(|tool| tool.name == *name),
        Some(ToolChoice::Required) => request.tools.first(),
        Some(ToolChoice::Auto | ToolChoice::None) | None => None,
    };
    let Some(tool) = wanted else { return turn };
    match turn {
        Turn::Call(asks) if request.tool_choice == Some(ToolChoice::Required) => Turn::Call(asks),
        Turn::Call(asks) if asks.iter().all(|ask| ask.name == tool.name) => Turn::Call(asks),
        Turn::Call(_) | Turn::Say(_) => {
            let input = schema::instance(&tool.schema, &newest(request));
            Turn::Call(vec![Ask { name: tool.name.clone(), input }])
        }
    }
}

/// An answer in text: JSON where that is asked for, else an echo of the question.
fn said(request: &Request, style: &Seed) -> String {
    let question = newest(request);
    if request.output.is_some() {
        return structured(request, &question);
    }
    let lead = draw::pick(style, &["You asked: ", "To your words: ", "About this: "]);
    let short: String = question.chars().take(200).collect();
    let words = text::words(&question);
    format!("{lead}{} I count {words} words in it. This is a simulated answer.", short.trim())
}

fn structured(request: &Request, text: &str) -> String {
    match &request.output {
        Some(OutputFormat::Schema { schema, .. }) => schema::instance(schema, text).to_string(),
        Some(OutputFormat::Json) | None => serde_json::json!({ "answer": text }).to_string(),
    }
}

/// A sentence before tool calls, sometimes.
fn remark(asks: &[Ask], ids: &Seed) -> Option<Block> {
    let first = asks.first()?;
    let subject = first.input.get("path").and_then(Value::as_str).unwrap_or("what is there");
    let text = match ids.below(3) {
        0 => format!("Next: {} on {subject}.", first.name),
        1 => format!("I use {} now.", first.name),
        _ => return None,
    };
    Some(Block::text(text))
}

/// Cuts an answer at a stop text and at `max_tokens`. A tool call that does not fit is left out whole.
fn bounded(mut content: Vec<Block>, stop: StopReason, request: &Request) -> (Vec<Block>, StopReason) {
    let mut stop = stop;
    for at in 0..content.len() {
        if let Block::Text { text, .. } = &mut content[at]
            && let Some((end, word)) =
                request.stop.iter().filter_map(|word| Some((text.find(word.as_str())?, word))).min()
        {
            text.truncate(end);
            stop = StopReason::StopSequence(Some(word.clone()));
            content.truncate(at + 1);
            break;
        }
    }
    let Some(tokens_max) = request.max_tokens else { return (content, stop) };
    if tokens::output(&content) <= tokens_max {
        return (content, stop);
    }
    (truncated(content, tokens_max), StopReason::MaxTokens)
}

/// The beginning of an answer that is worth at most so many tokens.
pub(crate) fn truncated(content: Vec<Block>, tokens_max: u64) -> Vec<Block> {
    let mut room = usize::try_from(tokens_max.saturating_mul(4)).unwrap_or(usize::MAX);
    let mut kept = Vec::new();
    for mut block in content {
        let whole = matches!(block, Block::ToolUse { .. });
        if let Block::Text { text, .. } | Block::Thinking { text, .. } = &mut block {
            text.truncate(text.floor_char_boundary(room));
            room -= text.len();
            if text.is_empty() {
                break;
            }
        } else if whole {
            let mut both = kept.clone();
            both.push(block.clone());
            if tokens::output(&both) > tokens_max {
                break;
            }
        }
        kept.push(block);
    }
    kept
}
