//! Anthropic Messages. Owns what its JSON looks like: blocks here, whole requests, replies and streams below.

mod reply;
mod request;
mod stream;

pub(crate) use reply::{Told, parse_reply, read_stop, render_reply};
pub(crate) use request::{parse_request, render_request};
pub(crate) use stream::{StreamParser, StreamRenderer};

use crate::read::{Object, Path, WireError};
use crate::{Lost, responses, sealed};
use backstop_call::{Block, Dialect, DocumentSource, ImageSource};
use serde_json::{Map, Value, json};

/// The fields of each block that our words hold. A block with more than these is kept as it stands, so that nothing of
/// it is lost on the way to a provider of this dialect.
const HELD: &[(&str, &[&str])] = &[
    ("text", &["text", "cache_control"]),
    ("image", &["source", "cache_control"]),
    ("document", &["source", "title", "cache_control"]),
    ("thinking", &["thinking", "signature"]),
    ("redacted_thinking", &["data"]),
    ("tool_use", &["id", "name", "input", "cache_control"]),
    ("tool_result", &["tool_use_id", "content", "is_error", "cache_control"]),
];

/// Which way a block goes. A request must be what the provider accepts; a reply is told as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Request,
    Reply,
}

fn read_block(value: Value, path: Path<'_>) -> Result<Block, WireError> {
    if is_held(&value) { read_held(value, path) } else { other(value, path) }
}

/// A block that only this dialect has; it must at least be one.
fn other(value: Value, path: Path<'_>) -> Result<Block, WireError> {
    let mut object = Object::of(value.clone(), path)?;
    object.required_text("type")?;
    Ok(Block::Other { dialect: Dialect::Messages, value })
}

/// Whether our words hold all of a block. What is null or empty says nothing.
fn is_held(value: &Value) -> bool {
    let Some(fields) = value.as_object() else { return false };
    let Some((_, held)) = HELD.iter().find(|(name, _)| fields.get("type").is_some_and(|told| told == name))
    else {
        return false;
    };
    let says_nothing = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    // The model's own call, as against one from within its code execution, is what a call is anyway.
    let is_plain = |key: &str, value: &Value| key == "caller" && *value == json!({"type": "direct"});
    let source = value.pointer("/source/type");
    let is_text = value["type"] == "document" && source.is_some_and(|kind| kind == "text");
    let by_reference = source.is_some_and(|kind| kind != "base64" && kind != "url") && !is_text;
    let is_known = |(key, value): (&String, &Value)| {
        key == "type" || held.contains(&key.as_str()) || says_nothing(value) || is_plain(key, value)
    };
    !by_reference && fields.iter().all(is_known)
}

fn read_held(value: Value, path: Path<'_>) -> Result<Block, WireError> {
    let mut block = Object::of(value, path)?;
    let cache = block.value("cache_control");
    match block.required_text("type")?.as_str() {
        "text" => Ok(Block::Text { text: block.required_text("text")?, cache }),
        "image" => {
            let source = block.nested("source", read_source)?.ok_or_else(|| block.missing("source"))?;
            Ok(Block::Image { source, cache })
        }
        "document" => {
            let source = block.nested("source", read_document)?.ok_or_else(|| block.missing("source"))?;
            Ok(Block::Document { source, name: block.text("title")?, cache })
        }
        "thinking" => Ok(Block::Thinking {
            text: block.required_text("thinking")?,
            signature: block.text("signature")?.filter(|signature| !signature.is_empty()),
        }),
        "redacted_thinking" => Ok(Block::RedactedThinking { data: block.required_text("data")? }),
        "tool_use" => Ok(Block::ToolUse {
            id: block.required_text("id")?,
            name: block.required_text("name")?,
            input: block.value("input").unwrap_or_else(|| Value::Object(Map::new())),
            cache,
        }),
        "tool_result" => Ok(Block::ToolResult {
            id: block.required_text("tool_use_id")?,
            content: block.content("content", read_block)?.unwrap_or_default(),
            is_error: block.flag("is_error")?.unwrap_or(false),
            cache,
        }),
        unknown => Err(block.wrong("type", format!("`{unknown}` is not known"))),
    }
}

fn read_source(source: &mut Object<'_>) -> Result<ImageSource, WireError> {
    match source.required_text("type")?.as_str() {
        "base64" => Ok(ImageSource::Base64 {
            media_type: source.required_text("media_type")?,
            data: source.required_text("data")?,
        }),
        "url" => Ok(ImageSource::Url(source.required_text("url")?)),
        unknown => Err(source.wrong("type", format!("`{unknown}` is not known"))),
    }
}

fn read_document(source: &mut Object<'_>) -> Result<DocumentSource, WireError> {
    if source.peek("type").is_some_and(|kind| kind == "text") {
        source.value("media_type");
        return Ok(DocumentSource::Text(source.required_text("data")?));
    }
    Ok(match read_source(source)? {
        ImageSource::Base64 { media_type, data } => DocumentSource::Base64 { media_type, data },
        ImageSource::Url(url) => DocumentSource::Url(url),
    })
}

/// As much of a foreign block as our words hold: a text without its citations.
pub(crate) fn understood(value: &Value) -> Option<Block> {
    let kind = value.get("type")?.as_str()?;
    let (_, held) = HELD.iter().find(|(name, _)| *name == kind)?;
    let mut fields = value.as_object()?.clone();
    fields.retain(|key, _| key == "type" || held.contains(&key.as_str()));
    read_held(Value::Object(fields), Path::Root).ok()
}

/// A block as it stands on the wire; `None` when it is left out.
fn render_block(block: &Block, side: Side, lost: &mut Lost) -> Option<Value> {
    let (mut value, cache) = match block {
        // Empty texts are refused.
        Block::Text { text, .. } if text.is_empty() && side == Side::Request => return None,
        Block::Text { text, cache } => (json!({"type": "text", "text": text}), cache),
        Block::Image { source, cache } => (json!({"type": "image", "source": render_source(source)}), cache),
        Block::Document { source, name, cache } => {
            let mut document = json!({"type": "document", "source": render_document(source)});
            if let Some(name) = name {
                document["title"] = name.as_str().into();
            }
            (document, cache)
        }
        Block::Thinking { signature: Some(signature), .. }
            if side == Side::Request && sealed::reasoning(signature).is_some() =>
        {
            lost.insert(responses::ENCRYPTED);
            return None;
        }
        Block::Thinking { signature: None, .. } if side == Side::Request => {
            lost.insert("thinking without a signature");
            return None;
        }
        Block::Thinking { text, signature } => (
            json!({"type": "thinking", "thinking": text, "signature": signature.as_deref().unwrap_or("")}),
            &None,
        ),
        Block::RedactedThinking { data } => (json!({"type": "redacted_thinking", "data": data}), &None),
        Block::ToolUse { id, name, input, cache } => {
            let input = if side == Side::Request { object_of(input) } else { input.clone() };
            (json!({"type": "tool_use", "id": id_of(id, side), "name": name, "input": input}), cache)
        }
        Block::ToolResult { id, content, is_error, cache } => {
            let content: Vec<Value> =
                content.iter().filter_map(|block| render_block(block, side, lost)).collect();
            let mut result =
                json!({"type": "tool_result", "tool_use_id": id_of(id, side), "content": content});
            if *is_error {
                result["is_error"] = true.into();
            }
            (result, cache)
        }
        Block::Other { dialect: Dialect::Messages, value } => (value.clone(), &None),
        // Those of other dialects were translated.
        Block::Other { dialect: Dialect::Chat | Dialect::Responses, .. } => return None,
    };
    if let Some(cache) = cache {
        value["cache_control"] = cache.clone();
    }
    Some(value)
}

fn render_source(source: &ImageSource) -> Value {
    match source {
        ImageSource::Base64 { media_type, data } => {
            json!({"type": "base64", "media_type": media_type, "data": data})
        }
        ImageSource::Url(url) => json!({"type": "url", "url": url}),
    }
}

fn render_document(source: &DocumentSource) -> Value {
    match source {
        DocumentSource::Base64 { media_type, data } => {
            json!({"type": "base64", "media_type": media_type, "data": data})
        }
        DocumentSource::Url(url) => json!({"type": "url", "url": url}),
        DocumentSource::Text(text) => json!({"type": "text", "media_type": "text/plain", "data": text}),
    }
}

/// The provider refuses arguments that are no object, but the model should see again what it wrote.
fn object_of(input: &Value) -> Value {
    match input {
        Value::Object(_) => input.clone(),
        Value::Null => json!({}),
        other => json!({ "malformed_arguments": other }),
    }
}

/// The provider takes ids of letters, digits, `_` and `-` only; other providers' ids have dots and colons. A call and its
/// result change alike.
fn id_of(id: &str, side: Side) -> String {
    let fits = |c: char| side == Side::Reply || c.is_ascii_alphanumeric() || c == '_' || c == '-';
    id.chars().map(|c| if fits(c) { c } else { '_' }).collect()
}
