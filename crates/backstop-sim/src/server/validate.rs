//! What the real APIs refuse before they answer: pure checks over a parsed request. The simulator stands in for the official
//! API in tests, so a request that the real one would refuse must not pass here.

use crate::{Row, tokens};
use backstop_call::{Block, Dialect, Message, Request, Speaker};
use serde_json::Value;
use std::collections::BTreeSet;

use super::ModelSpec;

/// A refusal: the row of the error table, and the exact words.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    pub(super) row: Row,
    pub(super) message: String,
    /// `error.details.error_code` in Messages, `error.code` in Responses.
    pub(super) detail: Option<&'static str>,
}

pub(super) fn refusal(row: Row, message: impl Into<String>) -> Refusal {
    Refusal { row, message: message.into(), detail: None }
}

fn invalid<T>(message: impl Into<String>) -> Result<T, Refusal> {
    Err(refusal(Row::Invalid, message))
}

/// Looks at a request as the API of this dialect would. `version` is the header `anthropic-version`.
pub(super) fn check(
    dialect: Dialect,
    raw: &Value,
    request: &Request,
    model: &ModelSpec,
    version: Option<&str>,
) -> Result<(), Refusal> {
    if let Some(held) = backstop_wire::depends_on_provider(request) {
        // Nothing is stored here, so nothing that a request refers to is found.
        let message = format!("the request refers to {}, which is not found", held.what);
        return Err(Refusal { detail: held.code, ..refusal(Row::Invalid, message) });
    }
    if request.messages.is_empty() {
        return invalid("messages: at least one message is required");
    }
    match dialect {
        Dialect::Messages => messages(raw, version)?,
        Dialect::Chat => chat(raw)?,
        Dialect::Responses => responses(raw)?,
    }
    tool_results(dialect, &request.messages)?;
    sampling(dialect, request)?;
    window(dialect, request, model)
}

fn messages(raw: &Value, version: Option<&str>) -> Result<(), Refusal> {
    let Some(version) = version else { return invalid("anthropic-version: header is required") };
    if raw.get("max_tokens").and_then(Value::as_u64).is_none_or(|most| most == 0) {
        return invalid("max_tokens: Field required");
    }
    // Since this version the sampling parameters are refused, at their default values too.
    if version >= "2026-10-21"
        && let Some(key) = ["temperature", "top_p", "top_k"].into_iter().find(|key| raw.get(key).is_some())
    {
        return invalid(format!("{key}: Extra inputs are not permitted"));
    }
    if raw.get("thread").is_some() {
        let message = "thread: message threads are not supported here";
        return Err(Refusal { detail: Some("thread_unsupported_request"), ..refusal(Row::Invalid, message) });
    }
    Ok(())
}

fn chat(raw: &Value) -> Result<(), Refusal> {
    if raw.get("max_tokens").is_some() && raw.get("max_completion_tokens").is_some() {
        return invalid(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
        );
    }
    if raw.get("stream_options").is_some_and(|options| !options.is_null())
        && raw.get("stream") != Some(&Value::Bool(true))
    {
        return invalid("The 'stream_options' parameter is only allowed when 'stream' is enabled.");
    }
    Ok(())
}

fn responses(raw: &Value) -> Result<(), Refusal> {
    // What other dialects have, and this one refuses.
    const UNKNOWN: [&str; 12] = [
        "frequency_penalty",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "n",
        "presence_penalty",
        "response_format",
        "seed",
        "stop",
        "stream_options.include_usage",
        "top_k",
    ];
    let pointer = |key: &str| format!("/{}", key.replace('.', "/"));
    if let Some(key) = UNKNOWN.iter().find(|key| raw.pointer(&pointer(key)).is_some()) {
        return invalid(format!("Unknown parameter: '{key}'."));
    }
    if raw.get("background") == Some(&Value::Bool(true)) {
        return invalid("background: responses in the background are not supported here");
    }
    if raw.get("max_output_tokens").and_then(Value::as_u64).is_some_and(|most| most < 16) {
        return invalid("Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16.");
    }
    // A thought of another provider's cannot be opened.
    let items = raw.get("input").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut sealed = items.iter().filter_map(|item| item.get("encrypted_content")?.as_str());
    if sealed.any(|content| !content.starts_with("sim-")) {
        let refusal = refusal(Row::Invalid, "The encrypted content could not be verified.");
        return Err(Refusal { detail: Some("invalid_encrypted_content"), ..refusal });
    }
    Ok(())
}

/// Each tool call must be answered in the next turn, and nothing else may be answered.
fn tool_results(dialect: Dialect, messages: &[Message]) -> Result<(), Refusal> {
    let mut open: BTreeSet<&str> = BTreeSet::new();
    for (index, message) in messages.iter().enumerate() {
        if message.speaker == Speaker::Assistant {
            if let Some(id) = open.first() {
                return invalid(unanswered(dialect, index, id));
            }
            open.extend(message.content.iter().filter_map(|block| match block {
                Block::ToolUse { id, .. } => Some(id.as_str()),
                _ => None,
            }));
            continue;
        }
        let had = !open.is_empty();
        for block in &message.content {
            if let Block::ToolResult { id, .. } = block
                && !open.remove(id.as_str())
            {
                return invalid(unasked(dialect, index, id));
            }
        }
        // In the others each result is a message of its own, so only the next turn of the model shows that one is missing.
        let all_here = dialect == Dialect::Messages && message.speaker == Speaker::User;
        if had
            && all_here
            && let Some(id) = open.first()
        {
            return invalid(unanswered(dialect, index, id));
        }
    }
    open.first().map_or(Ok(()), |id| invalid(unanswered(dialect, messages.len(), id)))
}

fn unanswered(dialect: Dialect, index: usize, id: &str) -> String {
    match dialect {
        Dialect::Messages => format!(
            "messages.{}: `tool_use` ids were found without `tool_result` blocks immediately after: {id}",
            index.saturating_sub(1)
        ),
        Dialect::Responses => format!("No tool output found for function call {id}."),
        Dialect::Chat => format!(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. \
             The following tool_call_ids did not have response messages: {id}"
        ),
    }
}

fn unasked(dialect: Dialect, index: usize, id: &str) -> String {
    match dialect {
        Dialect::Messages => {
            format!("messages.{index}: unexpected `tool_use_id` found in `tool_result` blocks: {id}")
        }
        Dialect::Responses => format!("No tool call found for function call output with call_id {id}."),
        Dialect::Chat => format!(
            "messages.[{index}].role: messages with role 'tool' must be a response to a preceding message with \
             'tool_calls' ({id})"
        ),
    }
}

fn sampling(dialect: Dialect, request: &Request) -> Result<(), Refusal> {
    let most = if dialect == Dialect::Messages { 1.0 } else { 2.0 };
    if request.temperature.is_some_and(|value| !(0.0..=most).contains(&value)) {
        return invalid(format!("temperature: must be from 0 to {most}"));
    }
    if request.top_p.is_some_and(|value| !(0.0..=1.0).contains(&value)) {
        return invalid("top_p: must be from 0 to 1");
    }
    let mut names = BTreeSet::new();
    match request.tools.iter().find(|tool| !names.insert(tool.name.as_str())) {
        Some(tool) => invalid(format!("tools: tool names must be unique: {}", tool.name)),
        None => Ok(()),
    }
}

fn window(dialect: Dialect, request: &Request, model: &ModelSpec) -> Result<(), Refusal> {
    let wanted = request.max_tokens.unwrap_or(0);
    if wanted > model.output_tokens_max {
        return invalid(format!(
            "max_tokens: {wanted} > {}, which is the maximum allowed number of output tokens for {}",
            model.output_tokens_max, model.id
        ));
    }
    let (input, window) = (tokens::input(request), model.context_tokens);
    let message = match dialect {
        Dialect::Messages if input > window => {
            format!("prompt is too long: {input} tokens > {window} maximum")
        }
        Dialect::Messages if input + wanted > window => format!(
            "input length and `max_tokens` exceed context limit: {input} + {wanted} > {window}, decrease input length or \
             `max_tokens` and try again"
        ),
        Dialect::Chat if input + wanted > window => format!(
            "This model's maximum context length is {window} tokens. However, you requested {} tokens ({input} in the \
             messages, {wanted} in the completion). Please reduce the length of the messages or completion.",
            input + wanted
        ),
        Dialect::Responses if input + wanted > window => {
            "Your input exceeds the context window of this model. Please adjust your input and try again."
                .to_owned()
        }
        Dialect::Messages | Dialect::Chat | Dialect::Responses => return Ok(()),
    };
    Err(refusal(Row::ContextLength, message))
}
