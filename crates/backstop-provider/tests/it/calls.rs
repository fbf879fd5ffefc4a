//! What is sent, and what comes back when nothing fails.

use crate::fixtures::{
    DIALECTS, JSON, KEY, Keep, LONG, NOW, answer, call, call_of, chunked, endpoint, http, model, reply,
    reply_body, request, stream_of, stream_parts,
};
use crate::raw::{Answer, Server, Then};
use backstop_call::{
    Assembly, Block, Clock, Dialect, Discard, FailureKind, LimitHint, Model, Progress, StopReason, Timestamp,
    Usage,
};
use backstop_provider::{HttpClient, HttpModel, Quirk};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const USAGE: Usage = Usage {
    input_tokens: 10,
    output_tokens: 5,
    cache_read_tokens: 0,
    cache_write_tokens: 0,
    reasoning_tokens: 0,
    estimated: false,
};

#[tokio::test]
async fn a_reply_streamed_or_not() {
    for dialect in DIALECTS {
        for stream in [false, true] {
            let server = Server::always(answer(dialect, stream)).await;
            let mut sink = Keep::default();
            let reply = model(dialect, &server.url(), LONG).call(call(stream), &mut sink).await.unwrap();
            assert_eq!(reply.content, [Block::text("Hello")], "{dialect:?} {stream}");
            assert_eq!((reply.usage, reply.stop), (USAGE, StopReason::End), "{dialect:?} {stream}");
            assert_eq!((reply.id.as_str(), reply.model.as_str()), ("m1", "model-1-0601"));
            assert_eq!(reply.request_id.as_deref(), Some("req_1"));
            assert_eq!(sink.text(), if stream { "Hello" } else { "" });
            let mut assembly = Assembly::default();
            sink.chunks.iter().for_each(|chunk| assembly.push(chunk));
            assert_eq!(assembly.finish().is_some(), stream, "the sink gets the whole stream");
        }
    }
}

#[tokio::test]
async fn what_is_sent() {
    for dialect in DIALECTS {
        let server = Server::always(answer(dialect, true)).await;
        let mut endpoint = endpoint(dialect, &server.url());
        endpoint.insert_header("x-team", "blue").unwrap();
        endpoint.quirks = vec![Quirk::NoStreamOptions, Quirk::MaxCompletionTokens];
        let model = HttpModel::new(
            &HttpClient::new(),
            endpoint,
            "model-1".into(),
            LONG,
            Arc::new(crate::fixtures::Fixed),
        );
        model.call(call_of("c7", request(true)), &mut Discard).await.unwrap();
        let seen = server.seen().requests.remove(0);
        let (head, body) = seen.split_once("\r\n\r\n").unwrap();
        let (line, auth) = match dialect {
            Dialect::Messages => ("POST /v1/v1/messages HTTP/1.1", format!("x-api-key: {KEY}")),
            Dialect::Chat => ("POST /v1/chat/completions HTTP/1.1", format!("authorization: Bearer {KEY}")),
            Dialect::Responses => ("POST /v1/responses HTTP/1.1", format!("authorization: Bearer {KEY}")),
        };
        let head: Vec<&str> = head.lines().collect();
        assert_eq!(head[0], line);
        let host = format!("host: {}", server.addr);
        for want in [
            auth.as_str(),
            &host,
            "x-client-request-id: c7.1",
            "x-team: blue",
            "content-type: application/json",
        ] {
            assert!(head.contains(&want), "{want} is not in {head:?}");
        }
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["model"], "model-1", "the provider's id stands in place of the chain's");
        assert_eq!(body["stream"], true);
        let limit = if dialect == Dialect::Responses { "max_output_tokens" } else { "max_completion_tokens" };
        assert_eq!(body[limit], 100);
        assert!(body.get("stream_options").is_none() && body.get("max_tokens").is_none(), "{body}");
    }
}

#[tokio::test]
async fn a_chat_stream_is_asked_for_its_usage() {
    let server = Server::always(answer(Dialect::Chat, true)).await;
    model(Dialect::Chat, &server.url(), LONG).call(call(true), &mut Discard).await.unwrap();
    let seen = server.seen().requests.remove(0);
    let body: serde_json::Value = serde_json::from_str(seen.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["stream_options"]["include_usage"], true);
}

#[tokio::test]
async fn a_missing_usage_is_estimated() {
    let whole = reply_body(Dialect::Chat)
        .replace(r#","usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}"#, "");
    let [begin, content, _] = stream_parts(Dialect::Chat);
    let end = "data: {\"id\":\"m1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    for (stream, bytes) in
        [(false, http("200 OK", &[JSON], &whole)), (true, stream_of(&[begin, content, end]))]
    {
        let server = Server::always(Answer::new(bytes, Then::Next)).await;
        let reply = model(Dialect::Chat, &server.url(), LONG).call(call(stream), &mut Discard).await.unwrap();
        // "Hello" is 5 bytes; "Say hello." 10 bytes in one block of one turn: 4 + 2 * 4 tokens.
        let want = Usage { input_tokens: 12, output_tokens: 2, estimated: true, ..Usage::default() };
        assert_eq!(reply.usage, want, "stream: {stream}");
    }
}

#[tokio::test]
async fn limits_are_read_from_the_headers() {
    let headers = [JSON, ("x-ratelimit-remaining-requests", "7"), ("x-ratelimit-remaining-tokens", "900")];
    let bytes = http("200 OK", &headers, reply_body(Dialect::Chat));
    let server = Server::always(Answer::new(bytes, Then::Next)).await;
    let reply = model(Dialect::Chat, &server.url(), LONG).call(call(false), &mut Discard).await.unwrap();
    assert_eq!(reply.limits, LimitHint { requests_remaining: Some(7), tokens_remaining: Some(900) });
}

#[tokio::test]
async fn a_provider_that_does_not_stream_is_streamed_for() {
    for dialect in DIALECTS {
        let server = Server::always(Answer::new(reply(dialect), Then::Next)).await;
        let mut sink = Keep::default();
        let got = model(dialect, &server.url(), LONG).call(call(true), &mut sink).await.unwrap();
        assert_eq!((got.usage, sink.text().as_str()), (USAGE, "Hello"), "{dialect:?}");
    }
}

/// Moves on by a second at each look.
struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        NOW + Duration::from_secs(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

#[tokio::test]
async fn the_first_token_is_timed() {
    for stream in [false, true] {
        let server = Server::always(answer(Dialect::Messages, stream)).await;
        let clock = Arc::new(Ticking(AtomicU64::new(0)));
        let endpoint = endpoint(Dialect::Messages, &server.url());
        let model = HttpModel::new(&HttpClient::new(), endpoint, "m".into(), LONG, clock);
        let reply = model.call(call(stream), &mut Discard).await.unwrap();
        assert_eq!(reply.first_token, Some(Duration::from_secs(1)), "stream: {stream}");
    }
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_the_answer() {
    for dialect in DIALECTS {
        let [begin, content, _] = stream_parts(dialect);
        let server = Server::always(Answer::new(chunked(&[begin, content]), Then::Hang)).await;
        let mut sink = Keep { closed_after: Some(3), ..Keep::default() };
        let failure = model(dialect, &server.url(), LONG).call(call(true), &mut sink).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Cancelled, "{dialect:?} {failure:?}");
        assert_eq!(failure.progress, Progress::ResponseStarted);
        assert!(!failure.detail.unbilled, "what was produced is billed");
        assert!(failure.detail.produced_chars > 0, "{dialect:?} {failure:?}");
        server.wait(|seen| seen.hung_up == 1).await;
    }
}
