//! What is wrong with an answer. A JSON schema is held to in outline only (the answer parses, has the top-level type and the
//! required keys): whoever needs more validates against the whole schema, as the agent does with its `finish` tool.

use backstop_call::{Block, OutputFormat, Reply, Request, StopReason};
use serde_json::Value;

/// Says what is wrong with an answer to this request. A truncated, declined or paused answer is what it says it is.
pub fn check_reply(request: &Request, reply: &Reply) -> Result<(), String> {
    let done = match &reply.stop {
        StopReason::End | StopReason::ToolUse | StopReason::StopSequence(_) => true,
        StopReason::MaxTokens
        | StopReason::ContextWindow
        | StopReason::Refusal
        | StopReason::Pause
        | StopReason::Other(_) => false,
    };
    if !done {
        return Ok(());
    }
    if reply.content.iter().all(is_empty) {
        return Err("the answer is empty".to_owned());
    }
    let mut calls = 0;
    for block in &reply.content {
        if let Block::ToolUse { name, input, .. } = block {
            calls += 1;
            check_call(request, name, input)?;
        }
    }
    if reply.stop == StopReason::ToolUse && calls == 0 {
        return Err("the model stopped to use a tool and named none".to_owned());
    }
    match &request.output {
        Some(format) if calls == 0 => check_format(format, &reply.text()),
        Some(_) | None => Ok(()),
    }
}

fn is_empty(block: &Block) -> bool {
    match block {
        Block::Text { text, .. } => text.trim().is_empty(),
        Block::Thinking { .. } | Block::RedactedThinking { .. } => true,
        Block::Image { .. }
        | Block::Document { .. }
        | Block::ToolUse { .. }
        | Block::ToolResult { .. }
        | Block::Other { .. } => false,
    }
}

fn check_call(request: &Request, name: &str, input: &Value) -> Result<(), String> {
    if !request.tools.iter().any(|tool| tool.name == name) {
        return Err(format!("the model called the tool `{name}`, which it was not offered"));
    }
    if !input.is_object() {
        return Err(format!("the model called the tool `{name}` with arguments that are no JSON object"));
    }
    Ok(())
}

fn check_format(format: &OutputFormat, text: &str) -> Result<(), String> {
    let value: Value = serde_json::from_str(text.trim())
        .map_err(|error| format!("the answer is not the JSON asked for: {error}"))?;
    match format {
        OutputFormat::Json if !value.is_object() => Err("the answer is JSON but no object".to_owned()),
        OutputFormat::Json => Ok(()),
        OutputFormat::Schema { schema, .. } => check_outline(schema, &value),
    }
}

fn check_outline(schema: &Value, value: &Value) -> Result<(), String> {
    let fits = match schema.get("type").and_then(Value::as_str) {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("number" | "integer") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        Some(_) | None => true,
    };
    if !fits {
        return Err("the answer is JSON of another type than the schema's".to_owned());
    }
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    for key in required.filter_map(Value::as_str) {
        if value.is_object() && value.get(key).is_none() {
            return Err(format!("the answer lacks the required key `{key}`"));
        }
    }
    Ok(())
}
