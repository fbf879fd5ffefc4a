//! Writing streams of Responses. Its clients hold each event against the state that those before it made, so every item is
//! begun, filled and ended by the events that the provider sends for it, numbered without a gap.

use super::reply::{Head, item_id, message, render_item, render_response, text_part};
use crate::sse;
use crate::stream::{StreamOptions, arguments_text};
use crate::{Lost, failure, foreign};
use backstop_call::{Block, Chunk, ContentDelta, Dialect, Failure, StopReason, Usage};
use serde_json::{Map, Value, json};

#[derive(Debug)]
pub(crate) struct StreamRenderer {
    options: StreamOptions,
    id: String,
    model: String,
    sequence: u64,
    usage: Option<Usage>,
    /// The items that are whole.
    output: Vec<Value>,
    open: Option<Open>,
}

/// The item that is told at the moment.
#[derive(Debug)]
struct Open {
    /// As it grows; a call's arguments are the text beside it.
    block: Block,
    arguments: String,
    id: String,
    /// Whether the summary of a thought began.
    has_summary: bool,
    annotations: Vec<Value>,
}

/// What of the open item grew, by which a piece is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grown {
    Text,
    /// The summary of a thought, which may begin with it.
    Summary {
        begins: bool,
    },
    Arguments,
    /// Nothing that is told piece by piece.
    Silently,
}

impl StreamRenderer {
    pub(crate) fn new(options: StreamOptions) -> Self {
        Self {
            options,
            id: String::new(),
            model: String::new(),
            sequence: 0,
            usage: None,
            output: Vec::new(),
            open: None,
        }
    }

    pub(crate) fn chunk(&mut self, chunk: &Chunk) -> Vec<u8> {
        let mut out = Vec::new();
        match chunk {
            Chunk::Start { id, model } => {
                self.id.clone_from(id);
                self.model.clone_from(model);
                for name in ["response.created", "response.in_progress"] {
                    let response = self.response(None);
                    self.event(name, json!({ "response": response }), &mut out);
                }
            }
            Chunk::BlockStart { block, .. } => {
                let blocks =
                    foreign::translated(Dialect::Responses, std::slice::from_ref(block), &mut Lost::new());
                if let Some(block) = blocks.first() {
                    self.begin(block, &mut out);
                }
            }
            Chunk::Delta { delta, .. } => self.grow(delta, &mut out),
            Chunk::BlockStop { .. } => self.close(&mut out),
            Chunk::Usage(usage) => self.usage = Some(*usage),
            Chunk::Stop { reason } => self.stop(reason, &mut out),
            Chunk::Other { event: Some(name), data } if name.starts_with("response.") => {
                self.other(name, data, &mut out);
            }
            // The dialect has no such event, and no other dialect's has a meaning here.
            Chunk::Head(_) | Chunk::Frame(_) | Chunk::Ping | Chunk::Other { .. } => {}
        }
        out
    }

    /// Takes note of a chunk that goes out as it came. Every event repeats what came before, so all of it must be known, and
    /// how many events there were.
    pub(crate) fn note(&mut self, chunk: &Chunk) {
        let Chunk::Delta { delta, .. } = chunk else { return drop(self.chunk(chunk)) };
        self.sequence += match self.take(delta) {
            Grown::Silently => 0,
            Grown::Summary { begins: true } => 2,
            Grown::Summary { begins: false } | Grown::Text | Grown::Arguments => 1,
        };
    }

    fn begin(&mut self, block: &Block, out: &mut Vec<u8>) {
        let id = item_id(block, &self.id, self.output.len());
        let mut open = Open {
            block: block.clone(),
            arguments: String::new(),
            id,
            has_summary: false,
            annotations: Vec::new(),
        };
        let (item, first) = match &mut open.block {
            Block::Text { text, .. } => {
                let item = json!({"id": open.id, "type": "message", "status": "in_progress", "role": "assistant", "content": []});
                (Some(item), Some(ContentDelta::Text(std::mem::take(text))))
            }
            Block::Thinking { text, .. } => {
                let item = json!({"id": open.id, "type": "reasoning", "summary": []});
                (Some(item), Some(ContentDelta::Thinking(std::mem::take(text))))
            }
            Block::ToolUse { id, name, input, .. } => {
                let item = json!({"id": open.id, "type": "function_call", "status": "in_progress", "call_id": id, "name": name, "arguments": ""});
                let is_empty = input.is_null() || input.as_object().is_some_and(Map::is_empty);
                let text = if is_empty { String::new() } else { arguments_text(input) };
                (Some(item), Some(ContentDelta::ToolInput(text)))
            }
            whole => (render_item(whole, &open.id), None),
        };
        let Some(item) = item else { return };
        let at = self.output.len();
        let is_text = matches!(open.block, Block::Text { .. });
        let place = json!({"item_id": open.id, "output_index": at, "content_index": 0});
        self.open = Some(open);
        self.event("response.output_item.added", json!({"output_index": at, "item": item}), out);
        if is_text {
            self.event("response.content_part.added", with(place, "part", text_part("", &[])), out);
        }
        if let Some(first) = first {
            self.grow(&first, out);
        }
    }

    fn grow(&mut self, delta: &ContentDelta, out: &mut Vec<u8>) {
        let (at, grown) = (self.output.len(), self.take(delta));
        let Some(open) = &self.open else { return };
        let place = json!({"item_id": open.id, "output_index": at});
        match (grown, delta) {
            (Grown::Text, ContentDelta::Text(piece)) => {
                let place = with(with(place, "content_index", 0.into()), "logprobs", json!([]));
                self.event("response.output_text.delta", with(place, "delta", piece.as_str().into()), out);
            }
            (Grown::Summary { begins }, ContentDelta::Thinking(piece)) => {
                let place = with(place, "summary_index", 0.into());
                if begins {
                    let part = with(place.clone(), "part", json!({"type": "summary_text", "text": ""}));
                    self.event("response.reasoning_summary_part.added", part, out);
                }
                let delta = with(place, "delta", piece.as_str().into());
                self.event("response.reasoning_summary_text.delta", delta, out);
            }
            (Grown::Arguments, ContentDelta::ToolInput(piece)) => {
                let delta = with(place, "delta", piece.as_str().into());
                self.event("response.function_call_arguments.delta", delta, out);
            }
            (_, _) => {}
        }
    }

    /// Adds a piece to the open item.
    fn take(&mut self, delta: &ContentDelta) -> Grown {
        let Some(open) = &mut self.open else { return Grown::Silently };
        let (ContentDelta::Text(piece)
        | ContentDelta::Thinking(piece)
        | ContentDelta::Signature(piece)
        | ContentDelta::ToolInput(piece)) = delta;
        if piece.is_empty() {
            return Grown::Silently;
        }
        match (&mut open.block, delta) {
            (Block::Text { text, .. }, ContentDelta::Text(piece)) => {
                text.push_str(piece);
                Grown::Text
            }
            (Block::Thinking { text, .. }, ContentDelta::Thinking(piece)) => {
                text.push_str(piece);
                Grown::Summary { begins: !std::mem::replace(&mut open.has_summary, true) }
            }
            (Block::Thinking { signature, .. }, ContentDelta::Signature(piece)) => {
                signature.get_or_insert_default().push_str(piece);
                Grown::Silently
            }
            (Block::ToolUse { .. }, ContentDelta::ToolInput(piece)) => {
                open.arguments.push_str(piece);
                Grown::Arguments
            }
            (_, _) => Grown::Silently,
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        // A call without arguments is told as one with an empty object, which every client can read.
        if let Some(Open { block: Block::ToolUse { .. }, arguments, .. }) = &self.open
            && arguments.is_empty()
        {
            self.grow(&ContentDelta::ToolInput("{}".to_owned()), out);
        }
        let Some(mut open) = self.open.take() else { return };
        let at = self.output.len();
        let place = json!({"item_id": open.id, "output_index": at});
        let item = match &mut open.block {
            Block::Text { text, .. } => {
                let place = with(place, "content_index", 0.into());
                let done = with(with(place.clone(), "text", text.as_str().into()), "logprobs", json!([]));
                self.event("response.output_text.done", done, out);
                let part = text_part(text, &open.annotations);
                self.event("response.content_part.done", with(place, "part", part.clone()), out);
                Some(message(&open.id, &part))
            }
            Block::Thinking { text, .. } if open.has_summary => {
                let place = with(place, "summary_index", 0.into());
                let done = with(place.clone(), "text", text.as_str().into());
                self.event("response.reasoning_summary_text.done", done, out);
                let part = json!({"type": "summary_text", "text": text});
                self.event("response.reasoning_summary_part.done", with(place, "part", part), out);
                render_item(&open.block, &open.id)
            }
            Block::ToolUse { name, input, .. } => {
                *input = Value::String(open.arguments);
                let done = with(place, "arguments", input.clone());
                self.event(
                    "response.function_call_arguments.done",
                    with(done, "name", name.as_str().into()),
                    out,
                );
                render_item(&open.block, &open.id)
            }
            whole => render_item(whole, &open.id),
        };
        let Some(item) = item else { return };
        self.event("response.output_item.done", json!({"output_index": at, "item": item}), out);
        self.output.push(item);
    }

    fn stop(&mut self, reason: &StopReason, out: &mut Vec<u8>) {
        let response = self.response(Some(reason));
        let name = match response["status"].as_str() {
            Some("incomplete") => "response.incomplete",
            _ => "response.completed",
        };
        self.event(name, json!({ "response": response }), out);
    }

    /// An event that we have no words for. What it says of an item is told with the item, whose place may be another here;
    /// a mark in a text goes to the text that is open.
    fn other(&mut self, name: &str, data: &str, out: &mut Vec<u8>) {
        let Ok(Value::Object(mut fields)) = serde_json::from_str(data) else {
            out.extend(sse::render(Some(name), data));
            return;
        };
        if name == "response.output_text.annotation.added" {
            let Some(open) = &mut self.open else { return };
            open.annotations.extend(fields.get("annotation").cloned());
            fields.insert("item_id".into(), open.id.as_str().into());
            fields.insert("output_index".into(), self.output.len().into());
            fields.insert("content_index".into(), 0.into());
        } else if fields.contains_key("output_index") {
            return;
        }
        self.event(name, Value::Object(fields), out);
    }

    /// A response that failed, and the error as an event of its own: some clients look for the one, some for the other.
    pub(crate) fn error(&mut self, failure: &Failure) -> Vec<u8> {
        let mut out = Vec::new();
        let body = failure::stream_error_body(Dialect::Responses, failure);
        let error = &body["error"];
        let code = error["code"].as_str().unwrap_or("server_error");
        let mut response = self.response(None);
        response["status"] = "failed".into();
        response["error"] = json!({"code": code, "message": error["message"]});
        self.event("response.failed", json!({ "response": response }), &mut out);
        let told = json!({"code": error["code"], "message": error["message"], "param": null, "error": error});
        self.event("error", told, &mut out);
        out
    }

    fn response(&self, stop: Option<&StopReason>) -> Value {
        let (created, other) = (self.options.created, &Map::new());
        let head = Head { id: &self.id, model: &self.model, created, other };
        let usage = self.usage.as_ref().filter(|_| stop.is_some());
        render_response(&head, &self.output, stop, usage)
    }

    /// One event under the name of its type, with its number.
    fn event(&mut self, name: &str, fields: Value, out: &mut Vec<u8>) {
        let mut event = json!({"type": name, "sequence_number": self.sequence});
        if let (Some(event), Value::Object(fields)) = (event.as_object_mut(), fields) {
            event.extend(fields.into_iter().filter(|(key, _)| key != "type" && key != "sequence_number"));
        }
        self.sequence += 1;
        out.extend(sse::render(Some(name), &event.to_string()));
    }
}

fn with(mut fields: Value, key: &str, value: Value) -> Value {
    fields[key] = value;
    fields
}
