//! An answer as a list of things to do to a connection: bytes to send, moments to wait, where to break it. Made from the
//! reply and the fault before anything is sent; pure.

use crate::cache::Cached;
use crate::worker;
use crate::{Fault, Row, spoil, tokens};
use backstop_call::{Block, Chunk, ContentDelta, Dialect, Reply, Request, Timestamp};
use backstop_wire::{StreamOptions, StreamRenderer, chunks_of, reasoning_signature, render_reply};
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::VecDeque;

/// How long a hang lasts when nobody ends it, in milliseconds.
pub(super) const HANG_MS: u64 = 15 * 60 * 1_000;

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    /// Send these bytes, which carry so many bytes of content.
    Send { bytes: Bytes, content_bytes: usize },
    /// Send these bytes so many times.
    Repeat { bytes: Bytes, times: usize },
    /// Let what was sent go out.
    Flush,
    /// Wait, in milliseconds.
    Wait(u64),
    /// Break the connection.
    Cut,
}

/// An answer, ready to be carried out.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Script {
    pub(super) content_type: &'static str,
    /// The length to announce; `None` streams.
    pub(super) length: Option<usize>,
    /// How long to wait before the status line, in milliseconds.
    pub(super) before_ms: u64,
    pub(super) pieces: VecDeque<Piece>,
    /// What the whole answer uses, for the bill.
    pub(super) reply: Reply,
}

/// What a script is made for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) dialect: Dialect,
    pub(super) include_usage: bool,
    pub(super) now: Timestamp,
    pub(super) seed: u64,
    /// Between frames, in milliseconds.
    pub(super) frame_ms: u64,
    /// What of the input goes through the cache.
    pub(super) cached: Cached,
}

/// The frames of a stream carry at most so many characters of content.
const PIECE_CHARS: usize = 24;

struct Frame {
    bytes: Vec<u8>,
    content_bytes: usize,
    is_content: bool,
}

/// The answer to a request under a fault.
pub(super) fn script(request: &Request, fault: Option<&Fault>, terms: Terms) -> Script {
    let reply = worker::answer(request, terms.seed);
    let mut reply = match fault {
        Some(fault) => spoil::spoiled(reply, fault, request),
        None => reply,
    };
    reply.usage = terms.cached.of(reply.usage);
    if terms.dialect == Dialect::Responses {
        seal(&mut reply, request);
    }
    if request.stream { streamed(reply, fault, terms) } else { whole(reply, fault, terms) }
}

/// Thoughts as the provider of Responses seals them: each has an id, and its encrypted content when that is asked for.
fn seal(reply: &mut Reply, request: &Request) {
    let asked = request.other.get("include").and_then(Value::as_array);
    let is_included =
        asked.is_some_and(|asked| asked.iter().any(|what| what == "reasoning.encrypted_content"));
    for block in &mut reply.content {
        if let Block::Thinking { signature: Some(signature), .. } = block {
            let encrypted = if is_included { signature.as_str() } else { "" };
            *signature = reasoning_signature(&format!("rs_{}", reply.id), encrypted);
        }
    }
}

fn whole(reply: Reply, fault: Option<&Fault>, terms: Terms) -> Script {
    let mut body = render_reply(terms.dialect, &reply, terms.now);
    let content_bytes = content_bytes(&reply);
    let mut before_ms = 0;
    let mut pieces = VecDeque::new();
    let send = |bytes: &[u8]| Piece::Send { bytes: Bytes::copy_from_slice(bytes), content_bytes };
    let mut length = body.len();
    match fault {
        Some(Fault::CutAt { byte }) => {
            // Nothing at all but the headers is a cut as well.
            let end = (*byte).min(body.len().saturating_sub(1));
            pieces.extend([send(&body[..end]), Piece::Flush, Piece::Cut]);
        }
        Some(Fault::EndEarly) => pieces.extend([send(&body[..body.len() / 2]), Piece::Flush, Piece::Cut]),
        Some(Fault::MalformedJson | Fault::MalformedStream { .. }) => {
            length = body.len() / 2;
            pieces.push_back(send(&body[..length]));
        }
        Some(Fault::HangAfterHeaders) => pieces.extend([Piece::Flush, Piece::Wait(HANG_MS), Piece::Cut]),
        Some(Fault::HugeBody { mib }) => return huge(reply, *mib, terms),
        Some(Fault::MissingUsage) => {
            body = without_usage(&body);
            length = body.len();
            pieces.push_back(send(&body));
        }
        Some(Fault::GarbageText) => {
            body = with_garbage(&body);
            length = body.len();
            pieces.push_back(send(&body));
        }
        Some(Fault::SlowFirstToken { ms } | Fault::SlowChunks { ms }) => {
            before_ms = *ms;
            pieces.push_back(send(&body));
        }
        _ => pieces.push_back(send(&body)),
    }
    Script { content_type: "application/json", length: Some(length), before_ms, pieces, reply }
}

/// A whole answer with a text of so many mebibytes, made as it goes out.
fn huge(reply: Reply, mib: usize, terms: Terms) -> Script {
    const MARK: &str = "sim-huge-body";
    const BLOCK: usize = 64 * 1024;
    let big = Reply { content: vec![Block::text(MARK)], ..reply.clone() };
    let body = render_reply(terms.dialect, &big, terms.now);
    let text = String::from_utf8_lossy(&body);
    let (head, tail) = text.split_once(MARK).unwrap_or((&text, ""));
    let times = mib * 1024 * 1024 / BLOCK;
    let send = |text: &str, content_bytes| Piece::Send {
        bytes: Bytes::copy_from_slice(text.as_bytes()),
        content_bytes,
    };
    let filler = Piece::Repeat { bytes: Bytes::from(vec![b'x'; BLOCK]), times };
    let pieces = VecDeque::from([send(head, content_bytes(&reply)), filler, send(tail, 0)]);
    let length = Some(head.len() + times * BLOCK + tail.len());
    Script { content_type: "application/json", length, before_ms: 0, pieces, reply }
}

fn streamed(reply: Reply, fault: Option<&Fault>, terms: Terms) -> Script {
    let mut frames = frames(&reply, terms);
    match fault {
        Some(Fault::MissingUsage) => frames.iter_mut().for_each(|frame| frame.bytes = stripped(&frame.bytes)),
        Some(Fault::MalformedJson) => broken(&mut frames, 0),
        Some(Fault::MalformedStream { after }) => broken(&mut frames, *after),
        Some(Fault::GarbageText) => {
            if let Some(frame) = frames.iter_mut().find(|frame| frame.content_bytes > 0) {
                frame.bytes = with_garbage(&frame.bytes);
            }
        }
        Some(Fault::EndEarly) => frames.truncate(frames.len() / 2),
        Some(Fault::InStreamError { row, committed }) => {
            failing(&mut frames, *row, *committed, terms.dialect);
        }
        _ => {}
    }
    let pieces = match fault {
        Some(Fault::HangAfterHeaders) => VecDeque::from([Piece::Flush, Piece::Wait(HANG_MS), Piece::Cut]),
        Some(Fault::CutAt { byte }) => cut(&frames, *byte),
        Some(Fault::HugeBody { mib }) => flood(&frames, *mib),
        _ => paced(frames, fault, terms.frame_ms),
    };
    Script { content_type: "text/event-stream; charset=utf-8", length: None, before_ms: 0, pieces, reply }
}

/// The frames of a whole stream.
fn frames(reply: &Reply, terms: Terms) -> Vec<Frame> {
    let options = StreamOptions { include_usage: terms.include_usage, created: terms.now };
    let mut renderer = StreamRenderer::new(terms.dialect, options);
    let mut frames: Vec<Frame> = Vec::new();
    let mut carried = 0;
    for chunk in with_final_usage(reply) {
        let bytes = renderer.chunk(&chunk);
        carried += chunk_bytes(&chunk);
        if !bytes.is_empty() {
            frames.push(Frame { bytes, content_bytes: carried, is_content: chunk.is_content() });
            carried = 0;
        }
    }
    let bytes = renderer.end();
    if !bytes.is_empty() {
        frames.push(Frame { bytes, content_bytes: carried, is_content: false });
    }
    frames
}

/// The chunks of a reply, with the usage told at the start (the input) and again before the stop.
fn with_final_usage(reply: &Reply) -> Vec<Chunk> {
    let mut chunks = chunks_of(reply, PIECE_CHARS);
    for chunk in &mut chunks {
        if let Chunk::Usage(usage) = chunk {
            usage.output_tokens = 1;
            usage.reasoning_tokens = 0;
        }
    }
    let last = chunks.len().saturating_sub(1);
    chunks.insert(last, Chunk::Usage(reply.usage));
    chunks
}

/// The bytes of content in a chunk, counted as [`tokens`] counts them.
fn chunk_bytes(chunk: &Chunk) -> usize {
    match chunk {
        Chunk::BlockStart { block: Block::ToolUse { name, .. }, .. } => name.len(),
        Chunk::BlockStart { block: Block::Text { text, .. } | Block::Thinking { text, .. }, .. } => {
            text.len()
        }
        Chunk::Delta {
            delta: ContentDelta::Text(text) | ContentDelta::Thinking(text) | ContentDelta::ToolInput(text),
            ..
        } => text.len(),
        _ => 0,
    }
}

fn content_bytes(reply: &Reply) -> usize {
    let count = |block: &Block| match block {
        Block::Text { text, .. } | Block::Thinking { text, .. } => text.len(),
        Block::ToolUse { name, input, .. } => name.len() + tokens::written(input).len(),
        _ => 0,
    };
    reply.content.iter().map(count).sum()
}

/// Puts half of its JSON in the place of one frame.
fn broken(frames: &mut [Frame], at: usize) {
    let at = at.min(frames.len().saturating_sub(2));
    if let Some(frame) = frames.get_mut(at) {
        let text = String::from_utf8_lossy(&frame.bytes).into_owned();
        let event = text.split("\n\n").next().unwrap_or_default();
        let half = event.floor_char_boundary(event.len() - event.len() / 3);
        frame.bytes = format!("{}\n\n", &event[..half]).into_bytes();
    }
}

/// Ends the stream with an error event, before or after its first content.
fn failing(frames: &mut Vec<Frame>, row: Row, committed: bool, dialect: Dialect) {
    let first = frames.iter().position(|frame| frame.is_content).unwrap_or(frames.len());
    // The frame that begins a block carries no text yet; the next does.
    frames.truncate(if committed { (first + 2).min(frames.len()) } else { first });
    let body = row.body(dialect, None);
    let text = match dialect {
        Dialect::Messages => format!("event: error\ndata: {body}\n\n"),
        Dialect::Chat => format!("data: {body}\n\n"),
        Dialect::Responses => {
            let error = &body["error"];
            let failed = json!({"id": "resp_sim", "object": "response", "status": "failed", "error": error, "output": []});
            let event =
                json!({"type": "response.failed", "sequence_number": frames.len(), "response": failed});
            let told = json!({"type": "error", "sequence_number": frames.len() + 1, "code": error["code"], "message": error["message"], "param": null, "error": error});
            format!("event: response.failed\ndata: {event}\n\nevent: error\ndata: {told}\n\n")
        }
    };
    frames.push(Frame { bytes: text.into_bytes(), content_bytes: 0, is_content: false });
}

/// The frames up to a byte, and then nothing.
fn cut(frames: &[Frame], byte: usize) -> VecDeque<Piece> {
    let total: usize = frames.iter().map(|frame| frame.bytes.len()).sum();
    let mut room = byte.min(total.saturating_sub(1));
    let mut pieces = VecDeque::new();
    for frame in frames {
        let end = room.min(frame.bytes.len());
        if end > 0 {
            let bytes = Bytes::copy_from_slice(&frame.bytes[..end]);
            pieces.extend([Piece::Send { bytes, content_bytes: frame.content_bytes }, Piece::Flush]);
        }
        room -= end;
        if room == 0 {
            break;
        }
    }
    pieces.extend([Piece::Flush, Piece::Cut]);
    pieces
}

/// The frames, with one of them again and again.
fn flood(frames: &[Frame], mib: usize) -> VecDeque<Piece> {
    let mut pieces = VecDeque::new();
    let middle = frames.iter().position(|frame| frame.content_bytes > 0).unwrap_or(0);
    for (at, frame) in frames.iter().enumerate() {
        let bytes = Bytes::copy_from_slice(&frame.bytes);
        if at == middle {
            let times = (mib * 1024 * 1024).div_ceil(bytes.len().max(1));
            pieces.push_back(Piece::Repeat { bytes: bytes.clone(), times });
        }
        pieces.push_back(Piece::Send { bytes, content_bytes: frame.content_bytes });
    }
    pieces
}

/// The frames one by one, each flushed, with the waits of a fault.
fn paced(frames: Vec<Frame>, fault: Option<&Fault>, frame_ms: u64) -> VecDeque<Piece> {
    let mut pieces = VecDeque::new();
    let mut first = true;
    for frame in frames {
        match fault {
            Some(Fault::SlowFirstToken { ms }) if frame.is_content && first => {
                pieces.push_back(Piece::Wait(*ms));
            }
            Some(Fault::SlowChunks { ms }) => pieces.push_back(Piece::Wait(*ms)),
            _ if frame_ms > 0 => pieces.push_back(Piece::Wait(frame_ms)),
            _ => {}
        }
        first &= !frame.is_content;
        pieces.push_back(Piece::Send { bytes: frame.bytes.into(), content_bytes: frame.content_bytes });
        pieces.push_back(Piece::Flush);
    }
    pieces
}

/// A body without its usage.
fn without_usage(body: &[u8]) -> Vec<u8> {
    let Ok(mut value) = serde_json::from_slice::<Value>(body) else { return body.to_vec() };
    drop_usage(&mut value);
    value.to_string().into_bytes()
}

/// The events of a frame without their usage. An event that is nothing but usage is gone.
fn stripped(frame: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(frame);
    let lines = text.split_inclusive('\n').map(|line| {
        let data = line.strip_prefix("data: ").map(str::trim_end);
        let value = data.and_then(|data| serde_json::from_str::<Value>(data).ok());
        value.map_or_else(
            || line.to_owned(),
            |mut value| {
                drop_usage(&mut value);
                format!("data: {value}\n")
            },
        )
    });
    lines.collect::<String>().into_bytes()
}

fn drop_usage(value: &mut Value) {
    if let Some(fields) = value.as_object_mut() {
        fields.remove("usage");
        for inner in ["message", "response"] {
            fields.get_mut(inner).map(drop_usage);
        }
    }
}

/// Puts two bytes that are no UTF-8 before the last quote.
fn with_garbage(text: &[u8]) -> Vec<u8> {
    let at = text.iter().rposition(|byte| *byte == b'"').unwrap_or(text.len());
    [&text[..at], &[0xff, 0xfe], &text[at..]].concat()
}
