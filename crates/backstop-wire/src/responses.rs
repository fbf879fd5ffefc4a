//! OpenAI Responses. Owns what its JSON looks like: content parts and items here, whole requests, replies and streams below.
//!
//! The conversation is a flat list of items here. What our words hold of an item becomes blocks of a message; an item that
//! has more than they hold is kept as it stands.

mod event;
mod render;
mod reply;
mod request;
mod stream;

pub(crate) use render::StreamRenderer;
pub(crate) use reply::{is_echo, parse_reply, render_reply, told_error};
pub(crate) use request::{parse_request, render_request};
pub(crate) use stream::StreamParser;

use crate::read::{self, Object, Path, WireError};
use crate::sealed::{self, Encrypted};
use crate::stream::{arguments, arguments_text};
use backstop_call::{Block, Dialect, DocumentSource, ImageSource};
use serde_json::{Value, json};

/// The fields of each part that our words hold. A part with more than these is kept as it stands.
const HELD_PARTS: &[(&str, &[&str])] = &[
    ("input_text", &["text"]),
    ("output_text", &["text"]),
    ("text", &["text"]),
    ("refusal", &["refusal"]),
    ("input_image", &["image_url", "detail"]),
    ("input_file", &["file_data", "file_url", "filename"]),
];

/// The fields of each item that our words hold, beside those that are named when they are left out.
const HELD_ITEMS: &[(&str, &[&str])] = &[
    ("message", &["role", "content"]),
    ("function_call", &["call_id", "name", "arguments"]),
    ("function_call_output", &["call_id", "output"]),
    ("reasoning", &["summary", "encrypted_content"]),
];

/// Of an item: its place at the provider that made it.
const PLACE: [&str; 2] = ["id", "status"];

fn kind_of(value: &Value) -> &str {
    value.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// A part or an item that only this dialect has must at least be one.
fn check_kind(value: &Value, path: Path<'_>) -> Result<(), WireError> {
    if !value.is_object() {
        return Err(path.wrong("must be an object"));
    }
    if kind_of(value).is_empty() {
        return Err(Path::Field(&path, "type").wrong("is missing"));
    }
    Ok(())
}

fn held_fields(table: &'static [(&str, &[&str])], kind: &str) -> Option<&'static [&'static str]> {
    table.iter().find(|(name, _)| *name == kind).map(|(_, held)| *held)
}

/// What is null or empty says nothing.
fn says_nothing(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

/// Whether a part of a message is one, as against an item: it is known by its name.
fn is_part(value: &Value) -> bool {
    let kind = kind_of(value);
    kind.starts_with("input_") || kind.starts_with("output_") || held_fields(HELD_PARTS, kind).is_some()
}

/// Whether our words hold all of a part.
fn is_held_part(value: &Value) -> bool {
    let (Some(fields), Some(held)) = (value.as_object(), held_fields(HELD_PARTS, kind_of(value))) else {
        return false;
    };
    let is_text = |key: &str| value.get(key).is_some_and(Value::is_string);
    let has_detail = value.get("detail").is_some_and(|detail| !detail.is_null() && detail != "auto");
    let is_here = match kind_of(value) {
        "input_image" => is_text("image_url"),
        "input_file" => match value.get("file_data").and_then(Value::as_str) {
            Some(data) => read::data_url(data).is_some() && !is_text("file_url"),
            None => is_text("file_url"),
        },
        _ => true,
    };
    let is_known = |(key, value): (&String, &Value)| {
        key == "type" || held.contains(&key.as_str()) || says_nothing(value)
    };
    is_here && !has_detail && fields.iter().all(is_known)
}

fn read_part(value: Value, path: Path<'_>) -> Result<Block, WireError> {
    if is_held_part(&value) {
        return read_held_part(value, path);
    }
    check_kind(&value, path)?;
    Ok(Block::Other { dialect: Dialect::Responses, value })
}

fn read_held_part(value: Value, path: Path<'_>) -> Result<Block, WireError> {
    let mut part = Object::of(value, path)?;
    match part.required_text("type")?.as_str() {
        "refusal" => Ok(Block::text(part.required_text("refusal")?)),
        "input_image" => {
            let source = read::image_source(part.required_text("image_url")?);
            Ok(Block::Image { source, cache: None })
        }
        "input_file" => {
            let source = match part.text("file_data")?.as_deref().and_then(read::data_url) {
                Some((media_type, data)) => DocumentSource::Base64 { media_type, data },
                None => DocumentSource::Url(part.required_text("file_url")?),
            };
            Ok(Block::Document { source, name: part.text("filename")?, cache: None })
        }
        _ => Ok(Block::text(part.required_text("text")?)),
    }
}

/// Whether our words hold all of an item. A call and its result have the same id, so a call that is kept as it stands
/// keeps its result with it: see `request`.
fn is_held_item(value: &Value, kind: &str) -> bool {
    let (Some(fields), Some(held)) = (value.as_object(), held_fields(HELD_ITEMS, kind)) else { return false };
    let is_known = |(key, value): (&String, &Value)| {
        let key = key.as_str();
        key == "type" || held.contains(&key) || PLACE.contains(&key) || says_nothing(value)
    };
    let parts_of = |key: &str| value.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let is_whole = match kind {
        "message" => parts_of("content")
            .iter()
            .all(|part| is_part(part) || !part.get("type").is_some_and(Value::is_string)),
        "function_call_output" => parts_of("output").iter().all(is_part),
        "reasoning" => {
            let summary = parts_of("summary");
            let is_summary = |part: &Value| kind_of(part) == "summary_text";
            value.get("encrypted_content").is_some_and(Value::is_string)
                && summary.len() <= 1
                && summary.iter().all(is_summary)
        }
        _ => true,
    };
    is_whole && fields.iter().all(is_known)
}

/// An item's kind. The short form of a message has none, nor has that of a reference.
fn item_kind(value: &Value) -> &str {
    match value.get("type").and_then(Value::as_str) {
        Some(kind) => kind,
        None if value.get("role").is_some() => "message",
        None if value.get("id").is_some() => "item_reference",
        None => "",
    }
}

/// A call of a function, with what is left of its item.
fn read_call(item: &mut Object<'_>) -> Result<Block, WireError> {
    let text = item.text("arguments")?.unwrap_or_default();
    Ok(Block::ToolUse {
        id: item.required_text("call_id")?,
        name: item.required_text("name")?,
        input: arguments(text),
        cache: None,
    })
}

fn read_result(item: &mut Object<'_>) -> Result<Block, WireError> {
    Ok(Block::ToolResult {
        id: item.required_text("call_id")?,
        content: item.content("output", read_part)?.unwrap_or_default(),
        is_error: false,
        cache: None,
    })
}

/// Whose word it is. What a client sends may hold thoughts of another dialect's provider; what a provider says is its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Request,
    Reply,
}

/// A thought: its summary, or its text where the provider shows it, and what it is sealed with.
fn read_reasoning(item: &mut Object<'_>, side: Side) -> Result<Block, WireError> {
    let read = |value: Value, path: Path<'_>| Object::of(value, path)?.required_text("text");
    let mut texts = item.each("summary", read)?.unwrap_or_default();
    texts.extend(item.each("content", read)?.unwrap_or_default());
    let text = texts.join(PARAGRAPH);
    let id = item.text("id")?.unwrap_or_default();
    let encrypted = item.text("encrypted_content")?.unwrap_or_default();
    let opened = match side {
        Side::Request => sealed::encrypted(&encrypted),
        Side::Reply => Encrypted::Own(&encrypted),
    };
    Ok(match opened {
        Encrypted::Opaque(data) => Block::RedactedThinking { data: data.to_owned() },
        Encrypted::Signature(signature) => Block::Thinking { text, signature: Some(signature.to_owned()) },
        Encrypted::Own("") if id.is_empty() => Block::Thinking { text, signature: None },
        Encrypted::Own(encrypted) => {
            Block::Thinking { text, signature: Some(sealed::reasoning_signature(&id, encrypted)) }
        }
    })
}

/// Between the parts of a summary.
const PARAGRAPH: &str = "\n\n";

/// As much of a foreign part or item as our words hold.
pub(crate) fn understood(value: &Value) -> Vec<Block> {
    let read = || -> Result<Vec<Block>, WireError> {
        let mut item = Object::of(value.clone(), Path::Root)?;
        Ok(match item_kind(value) {
            "message" => {
                let parts = item.content("content", read_part)?.unwrap_or_default();
                // A part that has more than our words hold is one of this dialect's again: taken apart, once.
                parts
                    .into_iter()
                    .flat_map(|part| match part {
                        Block::Other { value, .. } => understood_part(&value).into_iter().collect(),
                        held => vec![held],
                    })
                    .collect()
            }
            "function_call" => vec![read_call(&mut item)?],
            "function_call_output" => vec![read_result(&mut item)?],
            "reasoning" => match read_reasoning(&mut item, Side::Request)? {
                Block::Thinking { text, .. } => vec![Block::Thinking { text, signature: None }],
                opaque => vec![opaque],
            },
            _ => understood_part(value).into_iter().collect(),
        })
    };
    read().unwrap_or_default()
}

fn understood_part(value: &Value) -> Option<Block> {
    let held = held_fields(HELD_PARTS, kind_of(value))?;
    let mut fields = value.as_object()?.clone();
    fields.retain(|key, _| key == "type" || held.contains(&key.as_str()));
    fields.shift_remove("detail");
    let value = Value::Object(fields);
    if is_held_part(&value) { read_held_part(value, Path::Root).ok() } else { None }
}

/// How a foreign part or item is called among what is lost.
pub(crate) fn name_of(value: &Value) -> &'static str {
    match item_kind(value) {
        "reasoning" => ENCRYPTED,
        "message" => "fields of messages that only Responses has",
        _ if is_part(value) => "content parts that only Responses has",
        _ => "items that only Responses has",
    }
}

/// What only the provider that made it can read.
pub(crate) const ENCRYPTED: &str = "encrypted reasoning";

/// A call of a function as it stands here.
fn render_call(id: &str, name: &str, input: &Value) -> Value {
    json!({"type": "function_call", "call_id": id, "name": name, "arguments": arguments_text(input)})
}

fn render_image(source: &ImageSource) -> Value {
    json!({"type": "input_image", "image_url": read::image_url(source), "detail": "auto"})
}

/// A document; plain text has no place here but as text.
fn render_document(source: &DocumentSource, name: Option<&str>) -> Value {
    match source {
        DocumentSource::Base64 { media_type, data } => json!({
            "type": "input_file",
            "filename": name.unwrap_or(read::file_name(media_type)),
            "file_data": format!("data:{media_type};base64,{data}"),
        }),
        DocumentSource::Url(url) => json!({"type": "input_file", "file_url": url}),
        DocumentSource::Text(text) => json!({"type": "input_text", "text": text}),
    }
}

/// The summary of a thought.
fn render_summary(text: &str) -> Value {
    if text.is_empty() { json!([]) } else { json!([{"type": "summary_text", "text": text}]) }
}
