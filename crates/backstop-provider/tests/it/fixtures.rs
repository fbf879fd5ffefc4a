//! Calls, clocks, sinks and answers that the tests share.

use crate::raw::Then;
use backstop_call::{
    Call, Chunk, Clock, Closed, ContentDelta, Context, Dialect, Message, Request, Secret, Sink, Speaker,
    Timestamp,
};
use backstop_provider::{Auth, BaseUrl, Endpoint, HttpClient, HttpModel, Timeouts};
use std::fmt::Write as _;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

pub(crate) const KEY: &str = "sk-canary-4711";
pub(crate) const MODEL: &str = "model-1";
/// 2026-11-22T12:00:00Z.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_795_348_800);

/// Each is short in one thing, so that a busy machine cannot run into another.
pub(crate) const SHORT_FIRST_BYTE: Timeouts = Timeouts { first_byte_ms: 80, ..LONG };
pub(crate) const SHORT_IDLE: Timeouts = Timeouts { idle_ms: 80, ..LONG };
pub(crate) const LONG: Timeouts = Timeouts { connect_ms: 20_000, first_byte_ms: 20_000, idle_ms: 20_000 };

pub(crate) const DIALECTS: [Dialect; 3] = Dialect::ALL;

pub(crate) struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        NOW
    }
}

pub(crate) fn endpoint(dialect: Dialect, base_url: &str) -> Endpoint {
    Endpoint {
        name: "p1".into(),
        dialect,
        base_url: BaseUrl::parse(base_url).unwrap(),
        auth: if dialect == Dialect::Messages { Auth::XApiKey } else { Auth::Bearer },
        key: Some(Secret::new(KEY)),
        headers: http::HeaderMap::new(),
        local: false,
        quirks: Vec::new(),
        prices: None,
        threads: false,
    }
}

pub(crate) fn model(dialect: Dialect, base_url: &str, timeouts: Timeouts) -> HttpModel {
    let endpoint = endpoint(dialect, base_url);
    HttpModel::new(&HttpClient::new(), endpoint, MODEL.into(), timeouts, Arc::new(Fixed))
}

pub(crate) fn request(stream: bool) -> Request {
    Request {
        model: "a-chain".into(),
        messages: vec![Message::text(Speaker::User, "Say hello.")],
        max_tokens: Some(100),
        stream,
        ..Request::default()
    }
}

pub(crate) fn call(stream: bool) -> Call {
    call_of("c1", request(stream))
}

pub(crate) fn call_of(id: &str, request: Request) -> Call {
    Call::new(id.into(), Arc::new(request), Arc::new(Context::default()), Timestamp::FAR)
}

/// Keeps every chunk; is closed after a number of them.
#[derive(Debug, Default)]
pub(crate) struct Keep {
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) closed_after: Option<usize>,
}

impl Keep {
    pub(crate) fn text(&self) -> String {
        let text = |chunk: &Chunk| match chunk {
            Chunk::Delta { delta: ContentDelta::Text(text), .. } => Some(text.clone()),
            Chunk::BlockStart { block, .. } => block.as_text().map(str::to_owned),
            _ => None,
        };
        self.chunks.iter().filter_map(text).collect()
    }
}

impl Sink for Keep {
    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Closed>> {
        let closed = self.closed_after.is_some_and(|limit| self.chunks.len() >= limit);
        Poll::Ready(if closed { Err(Closed) } else { Ok(()) })
    }

    fn send(&mut self, chunk: Chunk) {
        self.chunks.push(chunk);
    }
}

/// An answer with its length told.
pub(crate) fn http(status: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    write!(text, "\r\n{body}").unwrap();
    text.into_bytes()
}

/// The head of a chunked answer.
pub(crate) const CHUNKED: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nrequest-id: req_1\r\ntransfer-encoding: chunked\r\n\r\n";

/// A chunked answer of these pieces, without its end.
pub(crate) fn chunked(pieces: &[&str]) -> Vec<u8> {
    let mut text = CHUNKED.to_owned();
    for piece in pieces {
        write!(text, "{:x}\r\n{piece}\r\n", piece.len()).unwrap();
    }
    text.into_bytes()
}

/// A whole chunked answer of these pieces.
pub(crate) fn stream_of(pieces: &[&str]) -> Vec<u8> {
    let mut bytes = chunked(pieces);
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");

/// A whole reply that says "Hello" and has used 10 and 5 tokens.
pub(crate) fn reply(dialect: Dialect) -> Vec<u8> {
    http("200 OK", &[JSON, ("request-id", "req_1")], reply_body(dialect))
}

pub(crate) fn reply_body(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Messages => {
            r#"{"id":"m1","type":"message","role":"assistant","model":"model-1-0601","content":[{"type":"text","text":"Hello"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":10,"output_tokens":5}}"#
        }
        Dialect::Responses => {
            r#"{"id":"m1","object":"response","created_at":1,"status":"completed","incomplete_details":null,"model":"model-1-0601","output":[{"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"Hello","annotations":[]}]}],"usage":{"input_tokens":10,"output_tokens":5,"total_tokens":15}}"#
        }
        Dialect::Chat => {
            r#"{"id":"m1","object":"chat.completion","created":1,"model":"model-1-0601","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}"#
        }
    }
}

/// The same as a stream, split where its content ends: what comes before the first content, the content, the end.
pub(crate) fn stream_parts(dialect: Dialect) -> [&'static str; 3] {
    match dialect {
        Dialect::Messages => [
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"model-1-0601\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":10,\"output_tokens\":1}}}\n\n",
            "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
             event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hel\"}}\n\n\
             event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"lo\"}}\n\n",
            "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
             event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":5}}\n\n\
             event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        ],
        Dialect::Responses => [
            "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"m1\",\"model\":\"model-1-0601\",\"status\":\"in_progress\",\"output\":[]}}\n\n",
            "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":{\"id\":\"msg_1\",\"type\":\"message\",\"content\":[]}}\n\n\
             event: response.content_part.added\ndata: {\"type\":\"response.content_part.added\",\"output_index\":0,\"content_index\":0,\"part\":{\"type\":\"output_text\",\"text\":\"\"}}\n\n\
             event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"content_index\":0,\"delta\":\"Hel\"}\n\n\
             event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"content_index\":0,\"delta\":\"lo\"}\n\n",
            "event: response.output_text.done\ndata: {\"type\":\"response.output_text.done\",\"output_index\":0,\"content_index\":0,\"text\":\"Hello\"}\n\n\
             event: response.content_part.done\ndata: {\"type\":\"response.content_part.done\",\"output_index\":0,\"content_index\":0,\"part\":{\"type\":\"output_text\",\"text\":\"Hello\"}}\n\n\
             event: response.output_item.done\ndata: {\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":{\"id\":\"msg_1\",\"type\":\"message\",\"content\":[{\"type\":\"output_text\",\"text\":\"Hello\"}]}}\n\n\
             event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"m1\",\"model\":\"model-1-0601\",\"status\":\"completed\",\"incomplete_details\":null,\"usage\":{\"input_tokens\":10,\"output_tokens\":5,\"total_tokens\":15}}}\n\n",
        ],
        Dialect::Chat => [
            "data: {\"id\":\"m1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"model-1-0601\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n",
            "data: {\"id\":\"m1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"model-1-0601\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"},\"finish_reason\":null}]}\n\n\
             data: {\"id\":\"m1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"model-1-0601\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lo\"},\"finish_reason\":null}]}\n\n",
            "data: {\"id\":\"m1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"model-1-0601\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
             data: {\"id\":\"m1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"model-1-0601\",\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5,\"total_tokens\":15}}\n\n\
             data: [DONE]\n\n",
        ],
    }
}

/// The whole answer, streamed or not, after which the connection stays.
pub(crate) fn answer(dialect: Dialect, stream: bool) -> crate::raw::Answer {
    let bytes = if stream { stream_of(&stream_parts(dialect)) } else { reply(dialect) };
    crate::raw::Answer::new(bytes, Then::Next)
}
