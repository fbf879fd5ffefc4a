//! Streams: events to chunks and back. Picks the dialect; what an event looks like is known there.

use crate::sse::SseEvent;
use crate::{WireError, chat, messages, responses, sealed};
use backstop_call::{Block, Chunk, ContentDelta, Dialect, Failure, Frame, Reply, Timestamp};
use serde_json::{Map, Value};

/// Why a stream cannot be read on.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StreamError {
    /// The provider reported an error inside the stream. Its kind is classified by the inner type; its progress is
    /// `ResponseStarted`, for the caller to raise.
    #[error(transparent)]
    Failed(Failure),
    /// An event is not what the dialect says: no JSON, a delta for a block that never began.
    #[error(transparent)]
    Malformed(WireError),
}

impl SseEvent<'_> {
    /// The event for who knows its dialect: we have no word for it.
    pub(crate) fn other(&self) -> Chunk {
        Chunk::Other { event: self.event.map(str::to_owned), data: self.data.clone().into_owned() }
    }
}

impl From<WireError> for StreamError {
    fn from(error: WireError) -> Self {
        Self::Malformed(error)
    }
}

/// Reads the events of one streamed reply. The chunks it gives keep to the order that [`Chunk`] promises.
#[derive(Debug)]
pub struct StreamParser(Parser);

#[derive(Debug)]
enum Parser {
    Messages(messages::StreamParser),
    Chat(chat::StreamParser),
    Responses(responses::StreamParser),
}

impl StreamParser {
    /// A parser at the beginning of a stream.
    pub fn new(dialect: Dialect) -> Self {
        Self(match dialect {
            Dialect::Messages => Parser::Messages(messages::StreamParser::default()),
            Dialect::Chat => Parser::Chat(chat::StreamParser::default()),
            Dialect::Responses => Parser::Responses(responses::StreamParser::default()),
        })
    }

    /// Takes one event and gives the chunks it makes.
    ///
    /// Messages tells a usage at the start whose output is only a placeholder: that [`Chunk::Usage`] is marked
    /// `estimated`, until the final one replaces it.
    pub fn push(&mut self, event: &SseEvent<'_>) -> Result<Vec<Chunk>, StreamError> {
        match &mut self.0 {
            Parser::Messages(parser) => parser.push(event),
            Parser::Chat(parser) => parser.push(event),
            Parser::Responses(parser) => parser.push(event),
        }
    }

    /// The connection ended. A reply whose stop reason had come is whole even when the closing event
    /// (`message_stop`, `[DONE]`) had not: its last chunks are given here. Afterwards [`StreamParser::finished`] says
    /// whether the reply is whole or was cut.
    pub fn eof(&mut self) -> Vec<Chunk> {
        match &mut self.0 {
            Parser::Messages(parser) => parser.eof(),
            Parser::Chat(parser) => parser.eof(),
            // Its end is told whole or not at all.
            Parser::Responses(_) => Vec::new(),
        }
    }

    /// Whether the reply is whole.
    pub fn finished(&self) -> bool {
        match &self.0 {
            Parser::Messages(parser) => parser.finished(),
            Parser::Chat(parser) => parser.finished(),
            Parser::Responses(parser) => parser.finished(),
        }
    }
}

/// What a rendered stream looks like beyond its chunks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamOptions {
    /// Chat: whether the client asked for the usage (`stream_options.include_usage`). The others always tell it.
    pub include_usage: bool,
    /// Chat: the `created` of each event; Responses: when the response was created.
    pub created: Timestamp,
}

/// Writes the events of one streamed reply.
#[derive(Debug)]
pub struct StreamRenderer(Renderer);

#[derive(Debug)]
enum Renderer {
    Messages(messages::StreamRenderer),
    Chat(chat::StreamRenderer),
    Responses(Box<responses::StreamRenderer>),
}

impl StreamRenderer {
    /// A renderer at the beginning of a stream.
    pub fn new(dialect: Dialect, options: StreamOptions) -> Self {
        Self(match dialect {
            Dialect::Messages => Renderer::Messages(messages::StreamRenderer::default()),
            Dialect::Chat => Renderer::Chat(chat::StreamRenderer::new(options)),
            Dialect::Responses => Renderer::Responses(Box::new(responses::StreamRenderer::new(options))),
        })
    }

    /// The whole events that this chunk makes; none when the dialect has no word for it, or when it is told later.
    /// Messages holds its first event until the next chunk, because it tells the usage that comes with it. A frame is
    /// written as it came.
    pub fn chunk(&mut self, chunk: &Chunk) -> Vec<u8> {
        if let Chunk::Frame(frame) = chunk {
            self.pass(frame);
            return frame.bytes.to_vec();
        }
        match &mut self.0 {
            Renderer::Messages(renderer) => renderer.chunk(chunk),
            Renderer::Chat(renderer) => renderer.chunk(chunk),
            Renderer::Responses(renderer) => renderer.chunk(chunk),
        }
    }

    /// Takes note of a frame that goes out as it came, so that what is written after it fits. Nothing is written.
    pub fn pass(&mut self, frame: &Frame) {
        for chunk in &frame.says {
            match &mut self.0 {
                Renderer::Messages(renderer) => renderer.note(chunk),
                Renderer::Chat(renderer) => renderer.note(chunk),
                Renderer::Responses(renderer) => renderer.note(chunk),
            }
        }
    }

    /// The error event of the dialect. The stream is over with it.
    pub fn error(&mut self, failure: &Failure) -> Vec<u8> {
        match &mut self.0 {
            Renderer::Messages(renderer) => renderer.error(failure),
            Renderer::Chat(renderer) => renderer.error(failure),
            Renderer::Responses(renderer) => renderer.error(failure),
        }
    }

    /// What closes a stream that went well: for Chat the usage if it was asked for, and `[DONE]`.
    pub fn end(&mut self) -> Vec<u8> {
        match &mut self.0 {
            Renderer::Messages(renderer) => renderer.end(),
            Renderer::Chat(renderer) => renderer.end(),
            // The response that it ends with is the end.
            Renderer::Responses(_) => Vec::new(),
        }
    }
}

/// The chunks that a whole reply is told by, with texts and arguments in pieces of at most `piece_chars` characters:
/// what a renderer is fed when the reply is there already.
pub fn chunks_of(reply: &Reply, piece_chars: usize) -> Vec<Chunk> {
    let mut chunks = vec![Chunk::Start { id: reply.id.clone(), model: reply.model.clone() }];
    if reply.usage != backstop_call::Usage::default() {
        chunks.push(Chunk::Usage(reply.usage));
    }
    for (index, block) in reply.content.iter().enumerate() {
        let (start, deltas) = taken_apart(block, piece_chars.max(1));
        chunks.push(Chunk::BlockStart { index, block: start });
        chunks.extend(deltas.into_iter().map(|delta| Chunk::Delta { index, delta }));
        chunks.push(Chunk::BlockStop { index });
    }
    chunks.push(Chunk::Stop { reason: reply.stop.clone() });
    chunks
}

/// A block as it begins, and what it grows by.
fn taken_apart(block: &Block, piece_chars: usize) -> (Block, Vec<ContentDelta>) {
    match block {
        Block::Text { text, cache } => {
            let start = Block::Text { text: String::new(), cache: cache.clone() };
            (start, pieces(text, piece_chars).map(ContentDelta::Text).collect())
        }
        Block::Thinking { text, signature } => {
            let (first, rest) = signature.as_deref().map_or((None, ""), sealed::in_two);
            let start = Block::Thinking { text: String::new(), signature: first.map(str::to_owned) };
            let thought = pieces(text, piece_chars).map(ContentDelta::Thinking);
            let rest = Some(rest).filter(|rest| !rest.is_empty());
            let seal = rest.map(|rest| ContentDelta::Signature(rest.to_owned()));
            (start, thought.chain(seal).collect())
        }
        Block::ToolUse { id, name, input, cache } => {
            let start = Block::ToolUse {
                id: id.clone(),
                name: name.clone(),
                input: Value::Object(Map::new()),
                cache: cache.clone(),
            };
            let arguments = arguments_text(input);
            (start, pieces(&arguments, piece_chars).map(ContentDelta::ToolInput).collect())
        }
        Block::Image { .. }
        | Block::Document { .. }
        | Block::RedactedThinking { .. }
        | Block::ToolResult { .. }
        | Block::Other { .. } => (block.clone(), Vec::new()),
    }
}

fn pieces(text: &str, piece_chars: usize) -> impl Iterator<Item = String> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = rest.char_indices().nth(piece_chars).map_or(rest.len(), |(at, _)| at);
        let (piece, more) = rest.split_at(end);
        rest = more;
        Some(piece.to_owned()).filter(|piece| !piece.is_empty())
    })
}

/// A tool call's arguments as JSON text; what was kept as text because it is no object goes out as it came.
pub(crate) fn arguments_text(input: &Value) -> String {
    match input {
        Value::String(text) => text.clone(),
        _ => input.to_string(),
    }
}

/// The reverse: an object, or the text as it is. No text at all is a call without arguments.
pub(crate) fn arguments(text: String) -> Value {
    if text.is_empty() {
        return Value::Object(Map::new());
    }
    match serde_json::from_str(&text) {
        Ok(Value::Object(map)) => Value::Object(map),
        _ => Value::String(text),
    }
}
