//! Streams of Chat Completions: flat deltas, which are given the blocks that our chunks have; a usage; `[DONE]`.

use super::reply::{Told, read_stop, render_stop, render_usage};
use crate::raw::{Json, Raw};
use crate::read::{Path, WireError};
use crate::sse::{self, SseEvent};
use crate::stream::{StreamOptions, arguments_text};
use crate::{Lost, StreamError, failure, foreign};
use backstop_call::{Block, Chunk, ContentDelta, Dialect, Failure, StopReason, Usage};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

const DONE: &str = "[DONE]";

/// What the open block is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
    /// A call, by its index on the wire and its id.
    Call(u64, String),
}

#[derive(Debug, Default)]
pub(crate) struct StreamParser {
    started: bool,
    finished: bool,
    open: Option<Open>,
    /// How many blocks began; the open one is the last of them.
    begun: usize,
    calls: usize,
    is_refusal: bool,
    stop: Option<StopReason>,
}

/// A piece of a call.
struct CallDelta<'a> {
    index: Option<u64>,
    id: Option<Cow<'a, str>>,
    name: Option<Cow<'a, str>>,
    arguments: Cow<'a, str>,
}

impl StreamParser {
    pub(crate) fn push(&mut self, event: &SseEvent<'_>) -> Result<Vec<Chunk>, StreamError> {
        if event.data.trim() == DONE {
            return Ok(self.done()?);
        }
        let json = Json::read(&event.data)?;
        let body = json.root();
        let [id, model, error, usage, choices] = body.fields(["id", "model", "error", "usage", "choices"])?;
        if !error.is_absent() {
            return Err(StreamError::Failed(failure::in_stream(&body.value()?.unwrap_or_default())));
        }
        if self.finished {
            return Err(body.wrong("comes after [DONE]").into());
        }
        let usage = Told::of(&usage)?.usage();
        if choices.is_absent() {
            // Not a chunk of an answer: an event of a future version, or of a proxy.
            return Ok(vec![event.other()]);
        }
        let mut chunks = Vec::with_capacity(1);
        if !self.started {
            self.started = true;
            chunks.push(Chunk::Start { id: id.owned_text()?, model: model.owned_text()? });
        }
        choices.each(|choice| {
            let choice = read_choice(choice)?;
            if choice.index != 0 || choice.has_own_calls {
                chunks.push(event.other());
            }
            if choice.index == 0 { self.choice(choice, &mut chunks) } else { Ok(()) }
        })?;
        chunks.extend(usage.map(Chunk::Usage));
        Ok(chunks)
    }

    fn choice(&mut self, choice: Choice<'_>, chunks: &mut Vec<Chunk>) -> Result<(), WireError> {
        let says = choice.thought.is_some() || choice.text.is_some() || !choice.calls.is_empty();
        if self.stop.is_some() && says {
            return Err(Path::Root.wrong("content comes after finish_reason"));
        }
        self.is_refusal |= choice.is_refusal;
        if let Some(thought) = choice.thought {
            self.become_open(&Open::Thinking, chunks);
            chunks.push(self.delta(ContentDelta::Thinking(thought.into_owned())));
        }
        if let Some(text) = choice.text {
            self.become_open(&Open::Text, chunks);
            chunks.push(self.delta(ContentDelta::Text(text.into_owned())));
        }
        for call in choice.calls {
            self.call(call, chunks)?;
        }
        if let Some(reason) = choice.finish_reason {
            self.close(chunks);
            self.stop = Some(read_stop(&reason, self.calls > 0, self.is_refusal));
        }
        Ok(())
    }

    /// Goes on with the open text or thought, or begins one.
    fn become_open(&mut self, kind: &Open, chunks: &mut Vec<Chunk>) {
        if self.open.as_ref() == Some(kind) {
            return;
        }
        let block = match kind {
            Open::Thinking => Block::Thinking { text: String::new(), signature: None },
            Open::Text | Open::Call(..) => Block::text(""),
        };
        self.begin(kind.clone(), block, chunks);
    }

    /// A call goes on, or a new one begins: by a new index, or by a new id (some servers count every call as 0).
    fn call(&mut self, call: CallDelta<'_>, chunks: &mut Vec<Chunk>) -> Result<(), WireError> {
        let goes_on = match &self.open {
            Some(Open::Call(index, id)) => {
                call.index.is_none_or(|new| new == *index) && call.id.as_ref().is_none_or(|new| new == id)
            }
            _ => false,
        };
        if !goes_on {
            let Some(name) = call.name else {
                let calls = Path::Field(&Path::Root, "choices[0].delta.tool_calls");
                return Err(calls.wrong("goes on with a call that is not open"));
            };
            let id = call.id.map_or_else(|| format!("call_{}", self.calls), Cow::into_owned);
            let index = call.index.unwrap_or(self.calls as u64);
            self.calls += 1;
            let input = Value::Object(Map::new());
            let block = Block::ToolUse { id: id.clone(), name: name.into_owned(), input, cache: None };
            self.begin(Open::Call(index, id), block, chunks);
        }
        if !call.arguments.is_empty() {
            chunks.push(self.delta(ContentDelta::ToolInput(call.arguments.into_owned())));
        }
        Ok(())
    }

    fn begin(&mut self, open: Open, block: Block, chunks: &mut Vec<Chunk>) {
        self.close(chunks);
        chunks.push(Chunk::BlockStart { index: self.begun, block });
        self.begun += 1;
        self.open = Some(open);
    }

    fn close(&mut self, chunks: &mut Vec<Chunk>) {
        if self.open.take().is_some() {
            chunks.push(Chunk::BlockStop { index: self.begun - 1 });
        }
    }

    fn delta(&self, delta: ContentDelta) -> Chunk {
        Chunk::Delta { index: self.begun - 1, delta }
    }

    fn done(&mut self) -> Result<Vec<Chunk>, WireError> {
        let chunks = self.eof();
        if self.finished { Ok(chunks) } else { Err(Path::Root.wrong("[DONE] comes without a finish_reason")) }
    }

    pub(crate) fn eof(&mut self) -> Vec<Chunk> {
        match self.stop.take() {
            Some(reason) => {
                self.finished = true;
                vec![Chunk::Stop { reason }]
            }
            None => Vec::new(),
        }
    }

    pub(crate) fn finished(&self) -> bool {
        self.finished
    }
}

/// What one choice adds.
#[derive(Default)]
struct Choice<'a> {
    index: u64,
    thought: Option<Cow<'a, str>>,
    text: Option<Cow<'a, str>>,
    is_refusal: bool,
    calls: Vec<CallDelta<'a>>,
    /// Whether there are calls that our words do not hold (`custom`).
    has_own_calls: bool,
    finish_reason: Option<Cow<'a, str>>,
}

fn read_choice<'a>(choice: Raw<'_, 'a>) -> Result<Choice<'a>, WireError> {
    let [index, delta, finish_reason] = choice.fields(["index", "delta", "finish_reason"])?;
    let [content, refusal, thought, reasoning, tool_calls] =
        delta.fields(["content", "refusal", "reasoning_content", "reasoning", "tool_calls"])?;
    let said = |text: &Raw<'_, 'a>| Ok::<_, WireError>(text.text()?.filter(|text| !text.is_empty()));
    let refusal = said(&refusal)?;
    let mut read = Choice {
        index: index.count()?.unwrap_or(0),
        thought: said(&thought)?.or(said(&reasoning)?),
        is_refusal: refusal.is_some(),
        text: said(&content)?.or(refusal),
        finish_reason: said(&finish_reason)?,
        ..Choice::default()
    };
    tool_calls.each(|call| {
        let [custom, index, id, function] = call.fields(["custom", "index", "id", "function"])?;
        if !custom.is_absent() {
            read.has_own_calls = true;
            return Ok(());
        }
        let [name, arguments] = function.fields(["name", "arguments"])?;
        let arguments = arguments.text()?.unwrap_or_default();
        read.calls.push(CallDelta { index: index.count()?, id: said(&id)?, name: said(&name)?, arguments });
        Ok(())
    })?;
    Ok(read)
}

#[derive(Debug)]
pub(crate) struct StreamRenderer {
    options: StreamOptions,
    id: String,
    model: String,
    usage: Option<Usage>,
    /// Which call each block is.
    calls: Vec<usize>,
    failed: bool,
}

impl StreamRenderer {
    pub(crate) fn new(options: StreamOptions) -> Self {
        Self {
            options,
            id: String::new(),
            model: String::new(),
            usage: None,
            calls: Vec::new(),
            failed: false,
        }
    }

    pub(crate) fn chunk(&mut self, chunk: &Chunk) -> Vec<u8> {
        match chunk {
            Chunk::Start { id, model } => {
                self.id.clone_from(id);
                self.model.clone_from(model);
                self.render_delta(&json!({"role": "assistant", "content": ""}), None)
            }
            Chunk::BlockStart { index, block } => {
                let block = std::slice::from_ref(block);
                let blocks = foreign::translated(Dialect::Chat, block, &mut Lost::new());
                blocks.first().map_or_else(Vec::new, |block| self.block_start(*index, block))
            }
            Chunk::Delta { index, delta } => match delta {
                ContentDelta::Text(text) => self.render_delta(&json!({ "content": text }), None),
                ContentDelta::Thinking(text) => {
                    self.render_delta(&json!({ "reasoning_content": text }), None)
                }
                ContentDelta::ToolInput(json) => match self.calls.iter().position(|block| block == index) {
                    Some(call) => {
                        let call = json!({"index": call, "function": {"arguments": json}});
                        self.render_delta(&json!({ "tool_calls": [call] }), None)
                    }
                    None => Vec::new(),
                },
                ContentDelta::Signature(_) => Vec::new(),
            },
            Chunk::Usage(usage) => {
                self.usage = Some(*usage);
                Vec::new()
            }
            Chunk::Stop { reason } => self.render_delta(&json!({}), Some(render_stop(reason))),
            Chunk::Other { event: None, data } => sse::render(None, data).to_vec(),
            // Events with a name are of another dialect.
            Chunk::Head(_)
            | Chunk::Frame(_)
            | Chunk::BlockStop { .. }
            | Chunk::Ping
            | Chunk::Other { .. } => Vec::new(),
        }
    }

    pub(crate) fn note(&mut self, chunk: &Chunk) {
        match chunk {
            Chunk::Start { id, model } => {
                self.id.clone_from(id);
                self.model.clone_from(model);
            }
            Chunk::BlockStart { index, block: Block::ToolUse { .. } } => self.calls.push(*index),
            Chunk::Usage(usage) => self.usage = Some(*usage),
            _ => {}
        }
    }

    fn block_start(&mut self, index: usize, block: &Block) -> Vec<u8> {
        match block {
            Block::Text { text, .. } if !text.is_empty() => {
                self.render_delta(&json!({ "content": text }), None)
            }
            Block::Thinking { text, .. } if !text.is_empty() => {
                self.render_delta(&json!({ "reasoning_content": text }), None)
            }
            Block::ToolUse { id, name, input, .. } => {
                let has_input = input.as_object().is_none_or(|fields| !fields.is_empty()) && !input.is_null();
                let arguments = if has_input { arguments_text(input) } else { String::new() };
                let function = json!({"name": name, "arguments": arguments});
                let call =
                    json!({"index": self.calls.len(), "id": id, "type": "function", "function": function});
                self.calls.push(index);
                self.render_delta(&json!({ "tool_calls": [call] }), None)
            }
            Block::Text { .. }
            | Block::Thinking { .. }
            | Block::Image { .. }
            | Block::RedactedThinking { .. }
            | Block::ToolResult { .. }
            | Block::Document { .. }
            | Block::Other { .. } => Vec::new(),
        }
    }

    pub(crate) fn error(&mut self, failure: &Failure) -> Vec<u8> {
        self.failed = true;
        sse::render(None, &failure::stream_error_body(Dialect::Chat, failure).to_string()).to_vec()
    }

    pub(crate) fn end(&mut self) -> Vec<u8> {
        if self.failed {
            return Vec::new();
        }
        let mut out = Vec::new();
        if let Some(usage) = self.usage.filter(|_| self.options.include_usage) {
            let mut event = self.event(&json!([]));
            event["usage"] = render_usage(&usage);
            out.extend(sse::render(None, &event.to_string()));
        }
        out.extend(sse::render(None, DONE));
        out
    }

    fn render_delta(&self, delta: &Value, finish_reason: Option<&str>) -> Vec<u8> {
        let choices = json!([{"index": 0, "delta": delta, "finish_reason": finish_reason}]);
        sse::render(None, &self.event(&choices).to_string()).to_vec()
    }

    fn event(&self, choices: &Value) -> Value {
        json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.options.created.secs(),
            "model": self.model,
            "choices": choices,
        })
    }
}
