//! Replies of Responses, their usage and how they end.

use super::{
    Side, check_kind, is_held_item, is_part, item_kind, kind_of, read_call, read_part, read_reasoning,
    render_call, render_summary,
};
use crate::read::{self, Object, Path, WireError, merge};
use crate::{Lost, foreign, sealed};
use backstop_call::{Block, Dialect, LimitHint, Reply, StopReason, Timestamp, Usage};
use serde_json::{Map, Value, json};

pub(crate) fn parse_reply(body: &[u8]) -> Result<(Reply, Option<Usage>), WireError> {
    let mut body = read::body(body)?;
    let status = body.text("status")?.unwrap_or_else(|| "completed".to_owned());
    if status == "failed" || body.peek("error").is_some_and(|error| !error.is_null()) {
        return Err(body.wrong("status", "is failed"));
    }
    let mut said = Said::default();
    let items = body.each("output", read_item)?.ok_or_else(|| body.missing("output"))?;
    for (blocks, is_refusal) in items {
        said.take(&blocks, is_refusal);
        said.content.extend(blocks);
    }
    let incomplete = body.nested("incomplete_details", |details| details.text("reason"))?.flatten();
    let usage = body.nested("usage", read_usage)?.flatten();
    let stop = read_stop(&status, incomplete, &said);
    let (id, model) = (body.text("id")?.unwrap_or_default(), body.text("model")?.unwrap_or_default());
    body.value("created_at");
    let mut other = body.rest();
    // What every reply has says nothing.
    let usual = skeleton();
    other.retain(|key, value| usual.get(key) != Some(value));
    let reply = Reply {
        id,
        model,
        content: said.content,
        stop,
        usage: usage.unwrap_or_default(),
        first_token: None,
        request_id: None,
        limits: LimitHint::default(),
        attempts: Vec::new(),
        told: None,
        lost: Vec::new(),
        other,
    };
    Ok((reply, usage))
}

/// What a reply said, as far as its end depends on it.
#[derive(Debug, Default)]
pub(super) struct Said {
    content: Vec<Block>,
    calls: bool,
    is_refusal: bool,
}

impl Said {
    pub(super) fn take(&mut self, blocks: &[Block], is_refusal: bool) {
        self.calls |= blocks.iter().any(is_call);
        self.is_refusal |= is_refusal;
    }
}

/// Whether the client must answer it: a call of a function, or one that only this dialect has and the client carries out.
fn is_call(block: &Block) -> bool {
    const OWN: [&str; 6] = [
        "function_call",
        "custom_tool_call",
        "local_shell_call",
        "shell_call",
        "apply_patch_call",
        "computer_call",
    ];
    match block {
        Block::ToolUse { .. } => true,
        Block::Other { value, .. } => OWN.contains(&kind_of(value)),
        Block::Text { .. }
        | Block::Image { .. }
        | Block::Document { .. }
        | Block::Thinking { .. }
        | Block::RedactedThinking { .. }
        | Block::ToolResult { .. } => false,
    }
}

/// The blocks of an item, and whether it refuses.
pub(super) fn read_item(value: Value, path: Path<'_>) -> Result<(Vec<Block>, bool), WireError> {
    let kind = item_kind(&value).to_owned();
    let own = |value| Block::Other { dialect: Dialect::Responses, value };
    match kind.as_str() {
        "message" => {
            let parts = value.get("content").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            if !parts.iter().all(is_part) {
                return Ok((vec![own(value)], false));
            }
            let is_refusal = parts.iter().any(|part| kind_of(part) == "refusal");
            let mut item = Object::of(value, path)?;
            let content = item.content("content", read_part)?.ok_or_else(|| item.missing("content"))?;
            Ok((content, is_refusal))
        }
        "function_call" if is_held_item(&value, "function_call") => {
            Ok((vec![read_call(&mut Object::of(value, path)?)?], false))
        }
        "reasoning" => Ok((vec![read_reasoning(&mut Object::of(value, path)?, Side::Reply)?], false)),
        _ => {
            check_kind(&value, path)?;
            Ok((vec![own(value)], false))
        }
    }
}

pub(super) fn read_stop(status: &str, incomplete: Option<String>, said: &Said) -> StopReason {
    match (status, incomplete) {
        ("completed", _) if said.calls => StopReason::ToolUse,
        ("completed", _) if said.is_refusal => StopReason::Refusal,
        ("completed", _) => StopReason::End,
        ("incomplete", Some(reason)) => match reason.as_str() {
            "max_output_tokens" => StopReason::MaxTokens,
            "content_filter" => StopReason::Refusal,
            _ => StopReason::Other(reason),
        },
        (status, _) => StopReason::Other(status.to_owned()),
    }
}

/// `status`, and the reason when it is incomplete.
pub(super) fn render_stop(stop: &StopReason) -> (&str, Option<&str>) {
    match stop {
        StopReason::End | StopReason::ToolUse | StopReason::StopSequence(_) | StopReason::Pause => {
            ("completed", None)
        }
        StopReason::MaxTokens | StopReason::ContextWindow => ("incomplete", Some("max_output_tokens")),
        StopReason::Refusal => ("incomplete", Some("content_filter")),
        StopReason::Other(status) if matches!(status.as_str(), "in_progress" | "queued" | "cancelled") => {
            (status, None)
        }
        StopReason::Other(reason) if reason == "incomplete" => ("incomplete", None),
        StopReason::Other(reason) => ("incomplete", Some(reason)),
    }
}

/// What was read from the cache, or written to it, is part of `input_tokens` here and apart in our words. Only zeros are
/// no usage: nothing is answered from nothing.
pub(super) fn read_usage(usage: &mut Object<'_>) -> Result<Option<Usage>, WireError> {
    let input = usage.count("input_tokens")?.unwrap_or(0);
    let output_tokens = usage.count("output_tokens")?.unwrap_or(0);
    usage.count("total_tokens")?;
    let read = |details: &mut Object<'_>| {
        Ok((details.count("cached_tokens")?, details.count("cache_write_tokens")?))
    };
    let (cached, written) = usage.nested("input_tokens_details", read)?.unwrap_or_default();
    let reasoning = usage.nested("output_tokens_details", |details| details.count("reasoning_tokens"))?;
    let cache_read_tokens = cached.unwrap_or(0).min(input);
    let cache_write_tokens = written.unwrap_or(0).min(input - cache_read_tokens);
    let usage = Usage {
        input_tokens: input - cache_read_tokens - cache_write_tokens,
        output_tokens,
        cache_read_tokens,
        cache_write_tokens,
        reasoning_tokens: reasoning.flatten().unwrap_or(0),
        estimated: false,
    };
    Ok(Some(usage).filter(|usage| *usage != Usage::default()))
}

fn render_usage(usage: &Usage) -> Value {
    let input = usage.total_input_tokens();
    let mut details = json!({ "cached_tokens": usage.cache_read_tokens });
    if usage.cache_write_tokens > 0 {
        details["cache_write_tokens"] = usage.cache_write_tokens.into();
    }
    json!({
        "input_tokens": input,
        "input_tokens_details": details,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": { "reasoning_tokens": usage.reasoning_tokens },
        "total_tokens": input + usage.output_tokens,
    })
}

/// What every reply has, and its clients look for, though it says nothing: mostly what was asked, told again.
fn skeleton() -> Map<String, Value> {
    let Value::Object(fields) = json!({
        "object": "response",
        "error": null,
        "incomplete_details": null,
        "instructions": null,
        "max_output_tokens": null,
        "metadata": {},
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "reasoning": {"effort": null, "summary": null},
        "store": false,
        "temperature": null,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": null,
        "truncation": "disabled",
        "usage": null,
        "user": null,
    }) else {
        return Map::new();
    };
    fields
}

/// Whether a reply's field tells only what was asked, in this dialect's words; clients of others have no use for it.
pub(crate) fn is_echo(key: &str) -> bool {
    const MORE: [&str; 11] = [
        "background",
        "billing",
        "completed_at",
        "conversation",
        "frequency_penalty",
        "max_tool_calls",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "top_logprobs",
    ];
    MORE.contains(&key) || (key != "usage" && skeleton().contains_key(key))
}

/// The parts of a reply that a stream tells at its beginning and at its end.
pub(super) struct Head<'a> {
    pub(super) id: &'a str,
    pub(super) model: &'a str,
    pub(super) created: Timestamp,
    pub(super) other: &'a Map<String, Value>,
}

/// The response object. Without a stop it is in progress.
pub(super) fn render_response(
    head: &Head<'_>,
    output: &[Value],
    stop: Option<&StopReason>,
    usage: Option<&Usage>,
) -> Value {
    let (status, reason) = stop.map_or(("in_progress", None), render_stop);
    let mut body = Map::new();
    body.insert("id".into(), head.id.into());
    body.insert("object".into(), "response".into());
    body.insert("created_at".into(), head.created.secs().into());
    body.insert("status".into(), status.into());
    body.insert("model".into(), head.model.into());
    body.insert("output".into(), output.into());
    body.extend(reason.map(|reason| ("incomplete_details".to_owned(), json!({ "reason": reason }))));
    body.extend(usage.map(|usage| ("usage".to_owned(), render_usage(usage))));
    merge(&mut body, head.other);
    for (key, value) in skeleton() {
        body.entry(key).or_insert(value);
    }
    Value::Object(body)
}

pub(crate) fn render_reply(reply: &Reply, created: Timestamp) -> Vec<u8> {
    let mut output: Vec<Value> = Vec::new();
    for block in foreign::translated(Dialect::Responses, &reply.content, &mut Lost::new()).iter() {
        output.extend(render_item(block, &item_id(block, &reply.id, output.len())));
    }
    let head = Head { id: &reply.id, model: &reply.model, created, other: &reply.other };
    render_response(&head, &output, Some(&reply.stop), Some(&reply.usage)).to_string().into_bytes()
}

/// The id of an item: the provider's where it has one of its own, else made of the response's.
pub(super) fn item_id(block: &Block, response: &str, index: usize) -> String {
    let made = |prefix: &str| format!("{prefix}_{response}_{index}");
    match block {
        Block::Thinking { signature, .. } => {
            let own = signature.as_deref().and_then(sealed::reasoning).map(|(id, _)| id);
            own.filter(|id| !id.is_empty()).map_or_else(|| made("rs"), str::to_owned)
        }
        Block::RedactedThinking { .. } => made("rs"),
        Block::ToolUse { .. } => made("fc"),
        Block::Text { .. }
        | Block::Image { .. }
        | Block::Document { .. }
        | Block::ToolResult { .. }
        | Block::Other { .. } => made("msg"),
    }
}

/// A block of a reply as an item; `None` for what no model says.
pub(super) fn render_item(block: &Block, id: &str) -> Option<Value> {
    match block {
        Block::Text { text, .. } => Some(message(id, &text_part(text, &[]))),
        Block::Thinking { text, signature } => {
            let encrypted = signature.as_deref().map(|signature| match sealed::reasoning(signature) {
                Some((_, encrypted)) => encrypted.to_owned(),
                None => sealed::of_signature(signature),
            });
            Some(reasoning(id, text, encrypted))
        }
        Block::RedactedThinking { data } => Some(reasoning(id, "", Some(sealed::of_opaque(data)))),
        Block::ToolUse { id: call, name, input, .. } => {
            let mut item = render_call(call, name, input);
            item["id"] = id.into();
            item["status"] = "completed".into();
            Some(item)
        }
        Block::Other { value, .. } if is_part(value) => Some(message(id, value)),
        Block::Other { value, .. } => Some(value.clone()),
        Block::Image { .. } | Block::Document { .. } | Block::ToolResult { .. } => None,
    }
}

/// The part that a text is.
pub(super) fn text_part(text: &str, annotations: &[Value]) -> Value {
    json!({"type": "output_text", "text": text, "annotations": annotations, "logprobs": []})
}

/// A message of one part.
pub(super) fn message(id: &str, part: &Value) -> Value {
    json!({"id": id, "type": "message", "status": "completed", "role": "assistant", "content": [part]})
}

fn reasoning(id: &str, text: &str, encrypted: Option<String>) -> Value {
    let mut item = json!({"id": id, "type": "reasoning", "summary": render_summary(text)});
    if let Some(encrypted) = encrypted.filter(|encrypted| !encrypted.is_empty()) {
        item["encrypted_content"] = encrypted.into();
    }
    item
}

/// The error of a response that failed, or of an error event, in the form that an error answer has.
pub(crate) fn told_error(value: &Value) -> Value {
    let inner = value.pointer("/response/error").or_else(|| value.get("error"));
    match inner.filter(|error| !error.is_null()) {
        Some(error) => json!({ "error": error }),
        None => json!({"error": {"code": value.get("code"), "message": value.get("message")}}),
    }
}
