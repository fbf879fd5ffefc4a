//! Requests that are only a part: the rest is held by the provider that was talked to before. Sent to any other, the part
//! would pass for the whole. Owns which fields and blocks say so.

use backstop_call::{Block, Dialect, Request};
use serde_json::Value;

/// What a request refers to and does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldElsewhere {
    /// The dialect of the provider that holds it: one that speaks another cannot even be asked.
    pub dialect: Dialect,
    /// What it is, in words for people.
    pub what: &'static str,
    /// The provider's word for an error about it, on which the official clients send the whole; `None` where they do not.
    pub code: Option<&'static str>,
}

/// What makes a request answerable only by the provider that holds the rest of it; `None` for one that is whole.
pub fn depends_on_provider(request: &Request) -> Option<HeldElsewhere> {
    let content = request.messages.iter().flat_map(|message| &message.content);
    in_fields(request).or_else(|| request.system.iter().chain(content).find_map(in_block))
}

fn held(dialect: Dialect, what: &'static str) -> HeldElsewhere {
    HeldElsewhere { dialect, what, code: None }
}

fn in_fields(request: &Request) -> Option<HeldElsewhere> {
    let is_set = |key: &str| request.other.get(key).is_some_and(|value| !value.is_null());
    let thread = request.other.get("thread").and_then(|thread| thread.get("type"));
    if thread.is_some_and(|kind| kind == "continue") {
        let code = Some("thread_unsupported_request");
        return Some(HeldElsewhere { code, ..held(Dialect::Messages, "a message thread") });
    }
    if is_set("container") {
        return Some(held(Dialect::Messages, "a container"));
    }
    if is_set("previous_response_id") {
        let code = Some("previous_response_not_found");
        return Some(HeldElsewhere { code, ..held(Dialect::Responses, "a previous response") });
    }
    let rows = [("conversation", "a conversation"), ("prompt", "a stored prompt")];
    rows.into_iter().find(|(key, _)| is_set(key)).map(|(_, what)| held(Dialect::Responses, what))
}

fn in_block(block: &Block) -> Option<HeldElsewhere> {
    match block {
        Block::Other { dialect, value } => in_value(*dialect, value),
        Block::ToolResult { content, .. } => content.iter().find_map(in_block),
        Block::Text { .. }
        | Block::Image { .. }
        | Block::Document { .. }
        | Block::Thinking { .. }
        | Block::RedactedThinking { .. }
        | Block::ToolUse { .. } => None,
    }
}

fn in_value(dialect: Dialect, value: &Value) -> Option<HeldElsewhere> {
    let kind = value.get("type").and_then(Value::as_str);
    let has_text = |path: &str| value.pointer(path).is_some_and(Value::is_string);
    let has_file = match dialect {
        Dialect::Messages => {
            value.pointer("/source/type").is_some_and(|kind| kind == "file")
                || kind == Some("container_upload")
        }
        Dialect::Chat => has_text("/file/file_id"),
        Dialect::Responses => has_text("/file_id"),
    };
    if has_file {
        return Some(held(dialect, "a file by its id"));
    }
    let is_reference = match kind {
        Some(kind) => kind == "item_reference",
        // The short form.
        None => value.get("id").is_some() && value.get("role").is_none(),
    };
    if dialect == Dialect::Responses && is_reference {
        return Some(held(dialect, "an item by its id"));
    }
    // What was said before stands in it, and only its provider can read it. The one of Messages is text.
    let is_sealed = matches!(kind, Some("compaction" | "compaction_summary" | "context_compaction"));
    if dialect == Dialect::Responses && is_sealed {
        return Some(held(dialect, "a compacted conversation"));
    }
    // Kept whole for a part of it, or for a field.
    let mut parts = ["content", "output"].into_iter().filter_map(|key| value.get(key)?.as_array()).flatten();
    parts.find_map(|part| in_value(dialect, part))
}
