//! The bytes of the answers, as the two providers write them.

pub(crate) mod stamps;

use crate::clock::now_ns;
use crate::prompt::{ANSWERED, Dialect};
use std::io::Write;

/// To a body in chunks: its length is part of what is measured.
pub(super) const LENGTH_REQUIRED: &[u8] = b"HTTP/1.1 411 Length Required\r\ncontent-length: 0\r\n\r\n";

const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";
const STREAM_END: &[u8] = b"0\r\n\r\n";

/// What an answer says about its request.
pub(super) struct Asked {
    pub(super) dialect: Dialect,
    /// Makes its id.
    pub(super) number: u64,
    pub(super) input_tokens: u64,
}

/// An answer in one piece.
pub(super) fn document(out: &mut Vec<u8>, status: u16, body: &str) {
    let length = body.len();
    put(
        out,
        format_args!(
            "HTTP/1.1 {status} \r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        ),
    );
}

/// An answer to a prompt in one piece, and how many tokens it has.
pub(super) fn whole(out: &mut Vec<u8>, asked: &Asked) -> u64 {
    let Asked { number, input_tokens, .. } = asked;
    let output_tokens = u64::try_from(ANSWERED.len() / 4).unwrap_or(u64::MAX);
    let body = match asked.dialect {
        Dialect::Chat => format!(
            r#"{{"id":"chatcmpl-{number:012}","object":"chat.completion","created":1700000000,"model":"mock-1","choices":[{{"index":0,"message":{{"role":"assistant","content":"{ANSWERED}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":{input_tokens},"completion_tokens":{output_tokens},"total_tokens":{}}}}}"#,
            input_tokens + output_tokens
        ),
        Dialect::Messages => format!(
            r#"{{"id":"msg_{number:012}","type":"message","role":"assistant","model":"mock-1","content":[{{"type":"text","text":"{ANSWERED}"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":{input_tokens},"output_tokens":{output_tokens}}}}}"#
        ),
    };
    document(out, 200, &body);
    output_tokens
}

/// The head of a stream and what comes before its text.
pub(super) fn stream_begin(out: &mut Vec<u8>, asked: &Asked) {
    out.extend_from_slice(STREAM_HEAD);
    let Asked { number, input_tokens, .. } = asked;
    let events = match asked.dialect {
        Dialect::Chat => delta(*number, r#"{"role":"assistant","content":""}"#, "null"),
        Dialect::Messages => format!(
            r#"event: message_start
data: {{"type":"message_start","message":{{"id":"msg_{number:012}","type":"message","role":"assistant","model":"mock-1","content":[],"stop_reason":null,"stop_sequence":null,"usage":{{"input_tokens":{input_tokens},"output_tokens":1}}}}}}

event: content_block_start
data: {{"type":"content_block_start","index":0,"content_block":{{"type":"text","text":""}}}}

"#
        ),
    };
    chunk(out, &events);
}

/// One chunk of text. It carries the clock, so that the client can tell how long it was on its way.
pub(super) fn stream_chunk(out: &mut Vec<u8>, asked: &Asked) {
    let now = now_ns();
    let events = match asked.dialect {
        Dialect::Chat => delta(asked.number, &format!(r#"{{"content":" token @{now}@"}}"#), "null"),
        Dialect::Messages => format!(
            r#"event: content_block_delta
data: {{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":" token @{now}@"}}}}

"#
        ),
    };
    chunk(out, &events);
}

/// What comes after the text, and the end of the body.
pub(super) fn stream_end(out: &mut Vec<u8>, asked: &Asked, output_tokens: u64) {
    let Asked { number, input_tokens, .. } = asked;
    let events = match asked.dialect {
        Dialect::Chat => format!(
            r#"{}data: {{"id":"chatcmpl-{number:012}","object":"chat.completion.chunk","created":1700000000,"model":"mock-1","choices":[],"usage":{{"prompt_tokens":{input_tokens},"completion_tokens":{output_tokens},"total_tokens":{}}}}}

data: [DONE]

"#,
            delta(*number, "{}", "\"stop\""),
            input_tokens + output_tokens
        ),
        Dialect::Messages => format!(
            r#"event: content_block_stop
data: {{"type":"content_block_stop","index":0}}

event: message_delta
data: {{"type":"message_delta","delta":{{"stop_reason":"end_turn","stop_sequence":null}},"usage":{{"output_tokens":{output_tokens}}}}}

event: message_stop
data: {{"type":"message_stop"}}

"#
        ),
    };
    chunk(out, &events);
    out.extend_from_slice(STREAM_END);
}

fn delta(number: u64, delta: &str, finish: &str) -> String {
    format!(
        r#"data: {{"id":"chatcmpl-{number:012}","object":"chat.completion.chunk","created":1700000000,"model":"mock-1","choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]}}

"#
    )
}

fn chunk(out: &mut Vec<u8>, text: &str) {
    put(out, format_args!("{:x}\r\n{text}\r\n", text.len()));
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes everything");
}
