//! OpenAI Chat Completions, as OpenAI and the many servers that speak it after OpenAI have it. Owns what its JSON looks
//! like: content parts here, whole requests, replies and streams below.

mod reply;
mod request;
mod stream;

pub(crate) use reply::{Told, parse_reply, read_stop, render_reply};
pub(crate) use request::{parse_request, render_request};
pub(crate) use stream::{StreamParser, StreamRenderer};

use crate::read::{self, Object, Path, WireError};
use crate::stream::arguments;
use backstop_call::{Block, Dialect, DocumentSource, ImageSource};
use serde_json::{Value, json};

/// The fields of each part that our words hold. A part with more than these is kept as it stands.
const HELD: &[(&str, &[&str])] = &[
    ("text", &["text", "cache_control"]),
    ("image_url", &["image_url", "cache_control"]),
    ("refusal", &["refusal"]),
    ("file", &["file", "cache_control"]),
];

/// The fields of a file that our words hold.
const HELD_FILE: [&str; 2] = ["file_data", "filename"];

fn read_part(value: Value, path: Path<'_>) -> Result<Block, WireError> {
    if is_held(&value) {
        return read_held(value, path);
    }
    let mut part = Object::of(value.clone(), path)?;
    part.required_text("type")?;
    Ok(Block::Other { dialect: Dialect::Chat, value })
}

/// Whether our words hold all of a part.
fn is_held(value: &Value) -> bool {
    let Some(fields) = value.as_object() else { return false };
    let Some((_, held)) = HELD.iter().find(|(name, _)| fields.get("type").is_some_and(|told| told == name))
    else {
        return false;
    };
    let has_detail = value.pointer("/image_url/detail").is_some_and(|detail| detail != "auto");
    let is_known =
        |(key, value): (&String, &Value)| key == "type" || held.contains(&key.as_str()) || value.is_null();
    let is_file_here = || {
        let file = value.get("file").and_then(Value::as_object);
        file.is_some_and(|file| {
            let data = file.get("file_data").and_then(Value::as_str);
            data.is_some_and(|data| read::data_url(data).is_some())
                && file.iter().all(|(key, value)| HELD_FILE.contains(&key.as_str()) || value.is_null())
        })
    };
    !has_detail && (value["type"] != "file" || is_file_here()) && fields.iter().all(is_known)
}

fn read_held(value: Value, path: Path<'_>) -> Result<Block, WireError> {
    let mut part = Object::of(value, path)?;
    // OpenAI has no cache marks; servers that stand before Messages take them.
    let cache = part.value("cache_control");
    match part.required_text("type")?.as_str() {
        "text" => Ok(Block::Text { text: part.required_text("text")?, cache }),
        "refusal" => Ok(Block::text(part.required_text("refusal")?)),
        "image_url" => {
            let url = part.nested("image_url", |image| image.required_text("url"))?;
            let url = url.ok_or_else(|| part.missing("image_url"))?;
            Ok(Block::Image { source: read::image_source(url), cache })
        }
        "file" => {
            let read = |file: &mut Object<'_>| Ok((file.required_text("file_data")?, file.text("filename")?));
            let (data, name) = part.nested("file", read)?.ok_or_else(|| part.missing("file"))?;
            let (media_type, data) =
                read::data_url(&data).ok_or_else(|| part.wrong("file.file_data", "must be a data: URL"))?;
            Ok(Block::Document { source: DocumentSource::Base64 { media_type, data }, name, cache })
        }
        unknown => Err(part.wrong("type", format!("`{unknown}` is not known"))),
    }
}

/// As much of a foreign part as our words hold: a picture without its level of detail.
pub(crate) fn understood(value: &Value) -> Option<Block> {
    let kind = value.get("type")?.as_str()?;
    let (_, held) = HELD.iter().find(|(name, _)| *name == kind)?;
    let mut fields = value.as_object()?.clone();
    fields.retain(|key, _| key == "type" || held.contains(&key.as_str()));
    read_held(Value::Object(fields), Path::Root).ok()
}

fn render_image(source: &ImageSource) -> Value {
    json!({"type": "image_url", "image_url": {"url": read::image_url(source)}})
}

/// What an assistant's message says, in a request or a reply: its thoughts, its text, its calls.
fn read_assistant(message: &mut Object<'_>) -> Result<Vec<Block>, WireError> {
    if message.value("function_call").is_some() {
        return Err(message.wrong("function_call", "is out of use; send tool_calls"));
    }
    let thought = match message.text("reasoning_content")? {
        Some(thought) => Some(thought),
        None => message.text("reasoning")?,
    };
    let thought = thought.filter(|thought| !thought.is_empty());
    let mut blocks: Vec<Block> =
        thought.map(|text| Block::Thinking { text, signature: None }).into_iter().collect();
    blocks.extend(message.content("content", read_part)?.unwrap_or_default());
    blocks.extend(message.text("refusal")?.map(Block::text));
    blocks.extend(message.each("tool_calls", read_call)?.unwrap_or_default());
    Ok(blocks)
}

fn read_call(value: Value, path: Path<'_>) -> Result<Block, WireError> {
    if value.get("type").is_some_and(|kind| !kind.is_null() && kind != "function") {
        return Ok(Block::Other { dialect: Dialect::Chat, value });
    }
    let mut call = Object::of(value, path)?;
    let read = |function: &mut Object<'_>| {
        // Some local servers send the arguments as an object instead of its text.
        let arguments = match function.value("arguments") {
            Some(Value::String(text)) => arguments(text),
            Some(value @ Value::Object(_)) => value,
            None => arguments(String::new()),
            Some(_) => return Err(function.wrong("arguments", "must be a string")),
        };
        Ok((function.required_text("name")?, arguments))
    };
    let (name, input) = call.nested("function", read)?.ok_or_else(|| call.missing("function"))?;
    Ok(Block::ToolUse { id: call.required_text("id")?, name, input, cache: None })
}

/// A call that only this dialect has (`custom`), as against a content part.
fn is_call(value: &Value) -> bool {
    value.get("id").is_some()
}
