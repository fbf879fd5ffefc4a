//! Dialects: bytes to the words of `backstop-call` and back. Requests, replies, streams and errors of Anthropic Messages,
//! OpenAI Chat Completions and OpenAI Responses, and the server-sent events that all stream by.
//!
//! Pure: nothing here opens a connection, reads a clock or keeps a key. The dialects are told apart in this file and in
//! `stream.rs`; what a provider's JSON field is called is known in this crate alone.

mod chat;
mod failure;
mod foreign;
mod held;
mod messages;
mod raw;
mod read;
mod responses;
mod scan;
mod sealed;
mod skim;
pub mod sse;
mod stream;

pub use failure::{rate_limits, render_error, retry_after, should_retry, status_of};
pub use held::{HeldElsewhere, depends_on_provider};
pub use read::WireError;
pub use sealed::reasoning_signature;
pub use skim::{LeansOn, Skim, read_count, skim, skim_reply};
pub use stream::{StreamError, StreamOptions, StreamParser, StreamRenderer, chunks_of};

use backstop_call::{Dialect, Failure, Reply, Request, Timestamp, Usage};
use http::HeaderMap;
use std::collections::BTreeSet;

/// What a renderer left out, in words for people.
pub(crate) type Lost = BTreeSet<&'static str>;

/// What a reader left out, by the names of the fields.
pub(crate) type LeftOut = BTreeSet<String>;

/// Reads a request that a client sent. What of its messages has no place among our types is left out:
/// [`parse_request_telling`] names it.
pub fn parse_request(dialect: Dialect, body: &[u8]) -> Result<Request, WireError> {
    parse_request_telling(dialect, body).map(|(request, _)| request)
}

/// Reads a request that a client sent, and names the fields of its messages that were left out, such as `messages.name` or
/// `input.id`: sorted, each once, however many messages have it. Unknown fields of the request itself and of its tools are kept in
/// `other`, and unknown blocks as [`backstop_call::Block::Other`], so none of those is ever named.
pub fn parse_request_telling(dialect: Dialect, body: &[u8]) -> Result<(Request, Vec<String>), WireError> {
    let mut left_out = LeftOut::new();
    let request = match dialect {
        Dialect::Messages => messages::parse_request(body, &mut left_out),
        Dialect::Chat => chat::parse_request(body, &mut left_out),
        Dialect::Responses => responses::parse_request(body, &mut left_out),
    }?;
    Ok((request, left_out.into_iter().collect()))
}

/// Writes a request as the provider takes it. What the dialect cannot carry is left out: [`losses`] names it.
pub fn render_request(dialect: Dialect, request: &Request) -> Vec<u8> {
    render_request_telling(dialect, request).0
}

/// Writes a request as the provider takes it, and tells what the dialect could not carry, as [`losses`] does.
pub fn render_request_telling(dialect: Dialect, request: &Request) -> (Vec<u8>, Vec<&'static str>) {
    let (body, lost) = match dialect {
        Dialect::Messages => messages::render_request(request),
        Dialect::Chat => chat::render_request(request),
        Dialect::Responses => responses::render_request(request),
    };
    (body, lost.into_iter().collect())
}

/// What of this request the dialect cannot carry, in words for people; empty when it is carried whole. It is what the
/// renderer left out, told by the renderer itself.
pub fn losses(dialect: Dialect, request: &Request) -> Vec<&'static str> {
    render_request_telling(dialect, request).1
}

/// Reads a whole reply. The usage is `None` in the second place when the provider told none (or only zeros), and the
/// caller must estimate it.
pub fn parse_reply(dialect: Dialect, body: &[u8]) -> Result<(Reply, Option<Usage>), WireError> {
    match dialect {
        Dialect::Messages => messages::parse_reply(body),
        Dialect::Chat => chat::parse_reply(body),
        Dialect::Responses => responses::parse_reply(body),
    }
}

/// Writes a whole reply as a provider sends it. `created` is a field of Chat's and of Responses'.
pub fn render_reply(dialect: Dialect, reply: &Reply, created: Timestamp) -> Vec<u8> {
    match dialect {
        Dialect::Messages => messages::render_reply(reply),
        Dialect::Chat => chat::render_reply(reply, created),
        Dialect::Responses => responses::render_reply(reply, created),
    }
}

/// Says what an error answer means: the one place where a failure at a provider gets its kind. `now` is for a
/// `retry-after` that is a date.
pub fn classify(dialect: Dialect, status: u16, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Failure {
    failure::classify(dialect, status, headers, body, now)
}

/// The failure that a whole answer with a good status tells instead of a reply: a response that failed, or the error that
/// some servers answer with 200. `None` when it tells none.
pub fn failure_within(body: &[u8]) -> Option<Failure> {
    failure::within(body)
}
