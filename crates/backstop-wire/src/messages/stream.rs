//! Streams of Anthropic Messages: `message_start`, blocks, `message_delta`, `message_stop`, with `ping` and `error`
//! anywhere.

use super::reply::{Told, read_stop, render_stop, render_usage};
use super::{Side, read_block, render_block};
use crate::raw::{Json, Raw};
use crate::read::{Path, WireError};
use crate::sse::{self, SseEvent};
use crate::{Lost, StreamError, failure, foreign};
use backstop_call::{Block, Chunk, ContentDelta, Dialect, Failure, StopReason, Usage};
use serde_json::{Value, json};
use std::borrow::Cow;

/// The events of this dialect that we have words for.
const KNOWN: [&str; 7] = [
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "ping",
];

/// What grows in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grows {
    Text,
    Thinking,
    Input,
    Anything,
}

#[derive(Debug, Default)]
pub(crate) struct StreamParser {
    started: bool,
    finished: bool,
    /// How many blocks began, and what the last of them is while it did not stop.
    begun: usize,
    open: Option<Grows>,
    told: Told,
    stop: Option<StopReason>,
}

impl StreamParser {
    pub(crate) fn push(&mut self, event: &SseEvent<'_>) -> Result<Vec<Chunk>, StreamError> {
        let is_known = |name: &str| name == "error" || KNOWN.contains(&name);
        let json = match Json::read(&event.data) {
            Ok(json) => json,
            Err(_) if !event.event.is_none_or(is_known) => return Ok(vec![event.other()]),
            Err(error) => return Err(error.into()),
        };
        let root = json.root().if_object();
        let [kind, index, message, content_block, delta, usage] =
            root.fields(["type", "index", "message", "content_block", "delta", "usage"])?;
        let body = Event { kind, index, message, content_block, delta, usage };
        let name = if body.kind.is_text() { body.kind.text()? } else { event.event.map(Cow::Borrowed) };
        let chunks = match &*name.unwrap_or_default() {
            "error" => {
                let error = json.root().value()?.unwrap_or_default();
                return Err(StreamError::Failed(failure::in_stream(&error)));
            }
            "ping" => return Ok(vec![Chunk::Ping]),
            unknown if !is_known(unknown) => return Ok(vec![event.other()]),
            name => {
                self.check_order(name)?;
                match name {
                    "message_start" => self.start(&body),
                    "content_block_start" => self.block_start(&body),
                    "content_block_delta" => self.delta(&body, event),
                    "content_block_stop" => self.block_stop(&body),
                    "message_delta" => self.message_delta(&body),
                    _ => self.stop(),
                }
            }
        }?;
        Ok(chunks)
    }

    /// Nothing comes before the start, twice, or after the end.
    fn check_order(&self, name: &str) -> Result<(), WireError> {
        let problem = match (name, self.started, self.finished) {
            (_, _, true) => "comes after message_stop",
            ("message_start", true, false) => "comes a second time",
            ("message_start", false, false) | (_, true, false) => return Ok(()),
            (_, false, false) => "comes before message_start",
        };
        Err(field("type").wrong(format!("{name} {problem}")))
    }

    fn start(&mut self, body: &Event<'_, '_>) -> Result<Vec<Chunk>, WireError> {
        let message = body.message.required()?;
        let [id, model, usage] = message.fields(["id", "model", "usage"])?;
        let told = Told::of(&usage)?;
        let (id, model) = (id.required_text()?, model.required_text()?);
        self.started = true;
        self.told = told;
        let mut chunks = vec![Chunk::Start { id: id.into_owned(), model: model.into_owned() }];
        // The output of this first usage is a placeholder, so it must not pass for what was used.
        chunks.extend(told.usage().map(|usage| Chunk::Usage(Usage { estimated: true, ..usage })));
        Ok(chunks)
    }

    fn block_start(&mut self, body: &Event<'_, '_>) -> Result<Vec<Chunk>, WireError> {
        let index = body.index()?;
        let block = body.content_block.required()?.value()?.unwrap_or_default();
        let block = read_block(block, field("content_block"))?;
        let problem = if index != self.begun {
            format!("{index} begins, but {} is next", self.begun)
        } else if self.open.is_some() {
            format!("{index} begins before {} stopped", self.begun - 1)
        } else {
            self.begun += 1;
            self.open = Some(grows(&block));
            return Ok(vec![Chunk::BlockStart { index, block }]);
        };
        Err(body.index.wrong(problem))
    }

    fn delta(&mut self, body: &Event<'_, '_>, event: &SseEvent<'_>) -> Result<Vec<Chunk>, WireError> {
        let index = body.index()?;
        let delta = body.delta.required()?;
        let [kind, text, thinking, signature, json] =
            delta.fields(["type", "text", "thinking", "signature", "partial_json"])?;
        // By what the block grows.
        let told = |grows, wrap: fn(String) -> ContentDelta, piece: &Raw<'_, '_>| {
            Ok::<_, WireError>(Some((grows, wrap(piece.required_text()?.into_owned()))))
        };
        let told = match &*kind.required_text()? {
            "text_delta" => told(Grows::Text, ContentDelta::Text, &text),
            "thinking_delta" => told(Grows::Thinking, ContentDelta::Thinking, &thinking),
            "signature_delta" => told(Grows::Thinking, ContentDelta::Signature, &signature),
            "input_json_delta" => told(Grows::Input, ContentDelta::ToolInput, &json),
            _ => Ok(None),
        }?;
        let open = self.open_at(index)?;
        match told {
            // We have no word for it.
            None => Ok(vec![event.other()]),
            Some((grows, delta)) if open == grows || open == Grows::Anything => {
                Ok(vec![Chunk::Delta { index, delta }])
            }
            Some(_) => Err(kind.wrong(format!("does not fit block {index}"))),
        }
    }

    fn block_stop(&mut self, body: &Event<'_, '_>) -> Result<Vec<Chunk>, WireError> {
        let index = body.index()?;
        self.open_at(index)?;
        self.open = None;
        Ok(vec![Chunk::BlockStop { index }])
    }

    /// What the open block is, if it is this one.
    fn open_at(&self, index: usize) -> Result<Grows, WireError> {
        let open = self.open.filter(|_| index + 1 == self.begun);
        open.ok_or_else(|| field("index").wrong(format!("block {index} is not open")))
    }

    fn message_delta(&mut self, body: &Event<'_, '_>) -> Result<Vec<Chunk>, WireError> {
        let [reason, sequence] = body.delta.fields(["stop_reason", "stop_sequence"])?;
        let (reason, sequence) = (reason.text()?, sequence.text()?);
        let stop = reason.map(|reason| read_stop(reason.into_owned(), sequence.map(Cow::into_owned)));
        self.stop = stop.or(self.stop.take());
        if body.usage.is_absent() {
            return Ok(Vec::new());
        }
        // What is told here is the whole, not what is added.
        let told = Told::of(&body.usage)?;
        self.told = told.after(self.told);
        let usage = self.told.usage().map(|usage| Usage { estimated: !told.tells_output(), ..usage });
        Ok(usage.map(Chunk::Usage).into_iter().collect())
    }

    fn stop(&mut self) -> Result<Vec<Chunk>, WireError> {
        let chunks = self.eof();
        if self.finished {
            return Ok(chunks);
        }
        let problem = if self.open.is_none() { "without a stop_reason" } else { "while a block is open" };
        Err(field("type").wrong(format!("message_stop comes {problem}")))
    }

    pub(crate) fn eof(&mut self) -> Vec<Chunk> {
        match self.stop.take() {
            Some(reason) if self.open.is_none() && !self.finished => {
                self.finished = true;
                vec![Chunk::Stop { reason }]
            }
            _ => Vec::new(),
        }
    }

    pub(crate) fn finished(&self) -> bool {
        self.finished
    }
}

/// The fields of an event, each of which only some events have.
struct Event<'p, 'a> {
    kind: Raw<'p, 'a>,
    index: Raw<'p, 'a>,
    message: Raw<'p, 'a>,
    content_block: Raw<'p, 'a>,
    delta: Raw<'p, 'a>,
    usage: Raw<'p, 'a>,
}

impl Event<'_, '_> {
    fn index(&self) -> Result<usize, WireError> {
        let index = self.index.count()?.ok_or_else(|| self.index.missing())?;
        usize::try_from(index).map_err(|_| self.index.wrong("is too large"))
    }
}

/// Where a field of an event stands.
fn field(name: &str) -> Path<'_> {
    Path::Field(&Path::Root, name)
}

fn grows(block: &Block) -> Grows {
    match block {
        Block::Text { .. } => Grows::Text,
        Block::Thinking { .. } => Grows::Thinking,
        Block::ToolUse { .. } => Grows::Input,
        Block::Image { .. }
        | Block::Document { .. }
        | Block::RedactedThinking { .. }
        | Block::ToolResult { .. }
        | Block::Other { .. } => Grows::Anything,
    }
}

#[derive(Debug, Default)]
pub(crate) struct StreamRenderer {
    /// `message_start` until the chunk after it, which may tell its usage.
    held_start: Option<(String, String)>,
    usage: Usage,
    /// How many blocks are told whole: one that the dialect has no word for is none, and leaves no gap.
    told: usize,
    /// Whether a block is open, as told.
    open: bool,
    /// The signature over the open thought. Clients keep only the last piece that they are told, so it is told whole.
    signature: String,
}

impl StreamRenderer {
    pub(crate) fn chunk(&mut self, chunk: &Chunk) -> Vec<u8> {
        if let Chunk::Usage(usage) = chunk {
            self.usage = *usage;
        }
        let mut out = self.flush_start();
        match chunk {
            Chunk::Start { id, model } => self.held_start = Some((id.clone(), model.clone())),
            Chunk::BlockStart { block, .. } => self.block_start(block, &mut out),
            Chunk::Delta { delta: ContentDelta::Signature(more), .. } => self.signature.push_str(more),
            Chunk::Delta { delta, .. } => self.delta(delta, &mut out),
            Chunk::BlockStop { .. } => self.block_stop(&mut out),
            Chunk::Stop { reason } => {
                let (reason, sequence) = render_stop(reason);
                let delta = json!({"stop_reason": reason, "stop_sequence": sequence});
                let usage = render_usage(&self.usage);
                out.extend(rendered(&json!({"type": "message_delta", "delta": delta, "usage": usage})));
                out.extend(rendered(&json!({"type": "message_stop"})));
            }
            Chunk::Ping => out.extend(rendered(&json!({"type": "ping"}))),
            // Every event here has a name; Responses' have the same beginning.
            Chunk::Other { event: Some(name), data } if !name.starts_with("response.") => {
                out.extend(sse::render(Some(name), data));
            }
            // The usage is told with the next event.
            Chunk::Usage(_) | Chunk::Other { .. } | Chunk::Head(_) | Chunk::Frame(_) => {}
        }
        out
    }

    pub(crate) fn note(&mut self, chunk: &Chunk) {
        match chunk {
            Chunk::Usage(usage) => self.usage = *usage,
            Chunk::BlockStart { .. } => self.open = true,
            Chunk::BlockStop { .. } => {
                self.open = false;
                self.told += 1;
            }
            _ => {}
        }
    }

    fn block_start(&mut self, block: &Block, out: &mut Vec<u8>) {
        let lost = &mut Lost::new();
        let blocks = foreign::translated(Dialect::Messages, std::slice::from_ref(block), lost);
        let mut block = blocks.first().cloned();
        if let Some(Block::Thinking { signature, .. }) = &mut block {
            self.signature = signature.take().unwrap_or_default();
        }
        let Some(block) = block.and_then(|block| render_block(&block, Side::Reply, lost)) else { return };
        self.open = true;
        let event = json!({"type": "content_block_start", "index": self.told, "content_block": block});
        out.extend(rendered(&event));
    }

    fn delta(&mut self, delta: &ContentDelta, out: &mut Vec<u8>) {
        if self.open {
            let delta = render_delta(delta);
            let event = json!({"type": "content_block_delta", "index": self.told, "delta": delta});
            out.extend(rendered(&event));
        }
    }

    fn block_stop(&mut self, out: &mut Vec<u8>) {
        let signature = std::mem::take(&mut self.signature);
        if !signature.is_empty() {
            self.delta(&ContentDelta::Signature(signature), out);
        }
        if std::mem::take(&mut self.open) {
            out.extend(rendered(&json!({"type": "content_block_stop", "index": self.told})));
            self.told += 1;
        }
    }

    pub(crate) fn error(&mut self, failure: &Failure) -> Vec<u8> {
        let mut out = self.flush_start();
        out.extend(rendered(&failure::stream_error_body(Dialect::Messages, failure)));
        out
    }

    pub(crate) fn end(&mut self) -> Vec<u8> {
        self.flush_start()
    }

    fn flush_start(&mut self) -> Vec<u8> {
        let Some((id, model)) = self.held_start.take() else { return Vec::new() };
        rendered(&json!({"type": "message_start", "message": {
            "id": id, "type": "message", "role": "assistant", "model": model, "content": [],
            "stop_reason": null, "stop_sequence": null, "usage": render_usage(&self.usage),
        }}))
    }
}

fn render_delta(delta: &ContentDelta) -> Value {
    match delta {
        ContentDelta::Text(text) => json!({"type": "text_delta", "text": text}),
        ContentDelta::Thinking(text) => json!({"type": "thinking_delta", "thinking": text}),
        ContentDelta::Signature(signature) => json!({"type": "signature_delta", "signature": signature}),
        ContentDelta::ToolInput(json) => json!({"type": "input_json_delta", "partial_json": json}),
    }
}

/// One event under the name of its type, which this dialect's clients demand.
fn rendered(event: &Value) -> Vec<u8> {
    sse::render(event["type"].as_str(), &event.to_string()).to_vec()
}
