//! Streams of Anthropic Messages: `message_start`, blocks, `message_delta`, `message_stop`, with `ping` and `error`
//! anywhere.

use super::reply::{Told, read_stop, render_stop, render_usage};
use super::{Side, read_block, render_block};
use crate::event::{Fields, Json};
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
        let value = match Json::read(&event.data) {
            Ok(value) => value,
            Err(_) if !is_known => return Ok(vec![event.other()]),
            Err(error) => return Err(error.into()),
        };
        let name = value.text("type").cloned().or(event.event.map(Cow::Borrowed)).unwrap_or_default();
        match &*name {
            "error" => return Err(StreamError::Failed(failure::in_stream(&value.into()))),
            "ping" => return Ok(vec![Chunk::Ping]),
            known if !KNOWN.contains(&known) => return Ok(vec![event.other()]),
            _ => {}
        }
        let body = Fields::of(value, Path::Root)?;
        self.check_order(&name, &body)?;
        let chunks = match &*name {
            "message_start" => self.start(body),
            "content_block_start" => self.block_start(body),
            "content_block_delta" => self.delta(body, event),
            "content_block_stop" => self.block_stop(body),
            "message_delta" => self.message_delta(body),
            _ => self.stop(&body),
        }?;
        Ok(chunks)
    }

    /// Nothing comes before the start, twice, or after the end.
    fn check_order(&self, name: &str, body: &Fields<'_, '_>) -> Result<(), WireError> {
        let problem = match (name, self.started, self.finished) {
            (_, _, true) => "comes after message_stop",
            ("message_start", true, false) => "comes a second time",
            ("message_start", false, false) | (_, true, false) => return Ok(()),
            (_, false, false) => "comes before message_start",
        };
        Err(body.wrong("type", format!("{name} {problem}")))
    }

    fn start(&mut self, mut body: Fields<'_, '_>) -> Result<Vec<Chunk>, WireError> {
        let told = self.told;
        let read = |message: &mut Fields<'_, '_>| {
            let told = message.whole("usage", |usage| told.updated(usage))?.unwrap_or(told);
            Ok((
                message.required_text("id")?.into_owned(),
                message.required_text("model")?.into_owned(),
                told,
            ))
        };
        let (id, model, told) = body.nested("message", read)?.ok_or_else(|| body.missing("message"))?;
        self.started = true;
        self.told = told;
        let mut chunks = vec![Chunk::Start { id, model }];
        // The output of this first usage is a placeholder, so it must not pass for what was used.
        chunks.extend(told.usage().map(|usage| Chunk::Usage(Usage { estimated: true, ..usage })));
        Ok(chunks)
    }

    fn block_start(&mut self, mut body: Fields<'_, '_>) -> Result<Vec<Chunk>, WireError> {
        let index = read_index(&mut body)?;
        let block = body.value("content_block").ok_or_else(|| body.missing("content_block"))?;
        let block = read_block(block, body.path("content_block"))?;
        if index != self.begun {
            return Err(body.wrong("index", format!("{index} begins, but {} is next", self.begun)));
        }
        if self.open.is_some() {
            return Err(body.wrong("index", format!("{index} begins before {} stopped", self.begun - 1)));
        }
        self.begun += 1;
        self.open = Some(grows(&block));
        Ok(vec![Chunk::BlockStart { index, block }])
    }

    fn delta(&mut self, mut body: Fields<'_, '_>, event: &SseEvent<'_>) -> Result<Vec<Chunk>, WireError> {
        let index = read_index(&mut body)?;
        let read = |delta: &mut Fields<'_, '_>| {
            let kind = delta.required_text("type")?;
            let mut grown = |key: &str| delta.required_text(key).map(Cow::into_owned);
            Ok(match &*kind {
                "text_delta" => Some((Grows::Text, ContentDelta::Text(grown("text")?))),
                "thinking_delta" => Some((Grows::Thinking, ContentDelta::Thinking(grown("thinking")?))),
                "signature_delta" => Some((Grows::Thinking, ContentDelta::Signature(grown("signature")?))),
                "input_json_delta" => Some((Grows::Input, ContentDelta::ToolInput(grown("partial_json")?))),
                _ => None,
            })
        };
        let delta = body.nested("delta", read)?.ok_or_else(|| body.missing("delta"))?;
        let open = self.open_at(index, &body)?;
        match delta {
            None => Ok(vec![event.other()]),
            Some((grows, delta)) if open == grows || open == Grows::Anything => {
                Ok(vec![Chunk::Delta { index, delta }])
            }
            Some(_) => Err(body.wrong("delta.type", format!("does not fit block {index}"))),
        }
    }

    fn block_stop(&mut self, mut body: Fields<'_, '_>) -> Result<Vec<Chunk>, WireError> {
        let index = read_index(&mut body)?;
        self.open_at(index, &body)?;
        self.open = None;
        Ok(vec![Chunk::BlockStop { index }])
    }

    /// What the open block is, if it is this one.
    fn open_at(&self, index: usize, body: &Fields<'_, '_>) -> Result<Grows, WireError> {
        let open = self.open.filter(|_| index + 1 == self.begun);
        open.ok_or_else(|| body.wrong("index", format!("block {index} is not open")))
    }

    fn message_delta(&mut self, mut body: Fields<'_, '_>) -> Result<Vec<Chunk>, WireError> {
        let read = |delta: &mut Fields<'_, '_>| {
            let sequence = delta.text("stop_sequence")?.map(Cow::into_owned);
            Ok(delta.text("stop_reason")?.map(|reason| read_stop(reason.into_owned(), sequence)))
        };
        let stop = body.nested("delta", read)?.flatten();
        self.stop = stop.or(self.stop.take());
        let before = self.told;
        // What is told here is the whole, not what is added.
        let told = body.whole("usage", |usage| {
            let tells_output = Told::default().updated(&mut usage.clone())?.tells_output();
            Ok((before.updated(usage)?, tells_output))
        })?;
        let Some((told, tells_output)) = told else { return Ok(Vec::new()) };
        self.told = told;
        let usage = told.usage().map(|usage| Usage { estimated: !tells_output, ..usage });
        Ok(usage.map(Chunk::Usage).into_iter().collect())
    }

    fn stop(&mut self, body: &Fields<'_, '_>) -> Result<Vec<Chunk>, WireError> {
        let chunks = self.eof();
        if self.finished {
            return Ok(chunks);
        }
        let problem = if self.open.is_none() { "without a stop_reason" } else { "while a block is open" };
        Err(body.wrong("type", format!("message_stop comes {problem}")))
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

fn read_index(body: &mut Fields<'_, '_>) -> Result<usize, WireError> {
    let index = body.count("index")?.ok_or_else(|| body.missing("index"))?;
    usize::try_from(index).map_err(|_| body.wrong("index", "is too large"))
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
