//! Streams of Anthropic Messages: `message_start`, blocks, `message_delta`, `message_stop`, with `ping` and `error`
//! anywhere.

use super::reply::{Told, read_stop, render_stop, render_usage};
use super::{Side, read_block, render_block};
use crate::event::{self, Fields, Json, Should};
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
        let is_known = event.event.is_none_or(|name| name == "error" || KNOWN.contains(&name));
        let mut body = match event::read::<Should<Event<'_>>>(&event.data) {
            Ok(body) => body,
            Err(_) if !is_known => return Ok(vec![event.other()]),
            Err(error) => return Err(error.into()),
        };
        let name = match &mut body {
            Should::Is(Event { kind: Json::Text(name), .. }) => std::mem::take(name),
            _ => Cow::Borrowed(event.event.unwrap_or_default()),
        };
        match &*name {
            "error" => return Err(StreamError::Failed(failure::in_stream(&event::read(&event.data)?))),
            "ping" => return Ok(vec![Chunk::Ping]),
            known if !KNOWN.contains(&known) => return Ok(vec![event.other()]),
            _ => {}
        }
        let body = body.required(Path::Root)?;
        self.check_order(&name)?;
        let chunks = match &*name {
            "message_start" => self.start(body),
            "content_block_start" => self.block_start(body),
            "content_block_delta" => self.delta(body, event),
            "content_block_stop" => self.block_stop(body),
            "message_delta" => self.message_delta(body),
            _ => self.stop(),
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

    fn start(&mut self, body: Event<'_>) -> Result<Vec<Chunk>, WireError> {
        let mut message = Fields::of(body.message.some(field("message"))?, field("message"))?;
        let told = self.told;
        let usage = message.take("usage");
        let told = usage.whole(message.path("usage"), |usage| told.updated(usage))?.unwrap_or(told);
        let (id, model) = (message.required_text("id")?, message.required_text("model")?);
        self.started = true;
        self.told = told;
        let mut chunks = vec![Chunk::Start { id: id.into_owned(), model: model.into_owned() }];
        // The output of this first usage is a placeholder, so it must not pass for what was used.
        chunks.extend(told.usage().map(|usage| Chunk::Usage(Usage { estimated: true, ..usage })));
        Ok(chunks)
    }

    fn block_start(&mut self, body: Event<'_>) -> Result<Vec<Chunk>, WireError> {
        let index = read_index(body.index)?;
        let path = field("content_block");
        let block = read_block(body.content_block.some(path)?.into(), path)?;
        let problem = if index != self.begun {
            format!("{index} begins, but {} is next", self.begun)
        } else if self.open.is_some() {
            format!("{index} begins before {} stopped", self.begun - 1)
        } else {
            self.begun += 1;
            self.open = Some(grows(&block));
            return Ok(vec![Chunk::BlockStart { index, block }]);
        };
        Err(field("index").wrong(problem))
    }

    fn delta(&mut self, body: Event<'_>, event: &SseEvent<'_>) -> Result<Vec<Chunk>, WireError> {
        let index = read_index(body.index)?;
        let delta = body.delta.object(field("delta"))?.ok_or_else(|| field("delta").wrong("is missing"))?;
        let delta = read_delta(delta, field("delta"))?;
        let open = self.open_at(index)?;
        match delta {
            None => Ok(vec![event.other()]),
            Some((grows, delta)) if open == grows || open == Grows::Anything => {
                Ok(vec![Chunk::Delta { index, delta }])
            }
            Some(_) => {
                let kind = Path::Field(&Path::Field(&Path::Root, "delta"), "type");
                Err(kind.wrong(format!("does not fit block {index}")))
            }
        }
    }

    fn block_stop(&mut self, body: Event<'_>) -> Result<Vec<Chunk>, WireError> {
        let index = read_index(body.index)?;
        self.open_at(index)?;
        self.open = None;
        Ok(vec![Chunk::BlockStop { index }])
    }

    /// What the open block is, if it is this one.
    fn open_at(&self, index: usize) -> Result<Grows, WireError> {
        let open = self.open.filter(|_| index + 1 == self.begun);
        open.ok_or_else(|| field("index").wrong(format!("block {index} is not open")))
    }

    fn message_delta(&mut self, body: Event<'_>) -> Result<Vec<Chunk>, WireError> {
        let path = field("delta");
        let stop = body.delta.object(path)?.unwrap_or_default();
        let sequence = stop.stop_sequence.into_text(Path::Field(&path, "stop_sequence"))?;
        let reason = stop.stop_reason.into_text(Path::Field(&path, "stop_reason"))?;
        let stop = reason.map(|reason| read_stop(reason.into_owned(), sequence.map(Cow::into_owned)));
        self.stop = stop.or(self.stop.take());
        let before = self.told;
        // What is told here is the whole, not what is added.
        let told = body.usage.whole(field("usage"), |usage| {
            let tells_output = Told::default().updated(&mut usage.clone())?.tells_output();
            Ok((before.updated(usage)?, tells_output))
        })?;
        let Some((told, tells_output)) = told else { return Ok(Vec::new()) };
        self.told = told;
        let usage = told.usage().map(|usage| Usage { estimated: !tells_output, ..usage });
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

event::object!(Event {
    kind = "type": Json<'a>,
    index = "index": Json<'a>,
    message = "message": Json<'a>,
    content_block = "content_block": Json<'a>,
    delta = "delta": Should<Delta<'a>>,
    usage = "usage": Json<'a>,
});

event::object!(Delta {
    kind = "type": Json<'a>,
    text = "text": Json<'a>,
    thinking = "thinking": Json<'a>,
    signature = "signature": Json<'a>,
    partial_json = "partial_json": Json<'a>,
    stop_reason = "stop_reason": Json<'a>,
    stop_sequence = "stop_sequence": Json<'a>,
});

/// Where a field of an event stands.
fn field(name: &str) -> Path<'_> {
    Path::Field(&Path::Root, name)
}

fn read_index(index: Json<'_>) -> Result<usize, WireError> {
    let path = field("index");
    let index = index.into_count(path)?.ok_or_else(|| path.wrong("is missing"))?;
    usize::try_from(index).map_err(|_| path.wrong("is too large"))
}

/// By what a block grows; `None` where we have no word for it.
fn read_delta(delta: Delta<'_>, path: Path<'_>) -> Result<Option<(Grows, ContentDelta)>, WireError> {
    let text = |value: Json<'_>, name| {
        let path = Path::Field(&path, name);
        let text = value.into_text(path)?.ok_or_else(|| path.wrong("is missing"))?;
        Ok::<_, WireError>(text.into_owned())
    };
    Ok(Some(match text(delta.kind, "type")?.as_str() {
        "text_delta" => (Grows::Text, ContentDelta::Text(text(delta.text, "text")?)),
        "thinking_delta" => (Grows::Thinking, ContentDelta::Thinking(text(delta.thinking, "thinking")?)),
        "signature_delta" => (Grows::Thinking, ContentDelta::Signature(text(delta.signature, "signature")?)),
        "input_json_delta" => {
            (Grows::Input, ContentDelta::ToolInput(text(delta.partial_json, "partial_json")?))
        }
        _ => return Ok(None),
    }))
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
