//! Every failure over real HTTP, streaming or not: its kind, how far it got, whether it is billed, how long to wait.

use crate::fixtures::{
    DIALECTS, Fixed, JSON, KEY, Keep, LONG, SHORT_FIRST_BYTE, SHORT_IDLE, answer, call, chunked, endpoint,
    http, model, stream_parts,
};
use crate::probes::gone;
use crate::raw::{Answer, Server, Then};
use backstop_call::{
    Call, Code, Dialect, Discard, Failure, FailureKind, Model, Progress, Secret, StopReason,
};
use backstop_provider::{HttpClient, HttpModel, Timeouts};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;

async fn fail(dialect: Dialect, url: &str, timeouts: Timeouts, call: Call) -> Failure {
    let failure = model(dialect, url, timeouts).call(call, &mut Discard).await.unwrap_err();
    let shown = format!("{failure} {failure:?}");
    assert!(!shown.contains(KEY), "{shown}");
    assert!(!shown.contains(url.trim_start_matches("http://").trim_end_matches("/v1")), "{shown}");
    assert_eq!(failure.detail.provider.as_ref().unwrap().as_str(), "p1", "{shown}");
    failure
}

/// A row of semantics: status, headers, body → kind, code, wait in milliseconds.
type Row =
    (&'static str, &'static [(&'static str, &'static str)], &'static str, FailureKind, Code, Option<u64>);

/// An error body of Messages.
macro_rules! anthropic {
    ($kind:literal, $message:literal) => {
        concat!(
            r#"{"type":"error","error":{"type":""#,
            $kind,
            r#"","message":""#,
            $message,
            r#""},"request_id":"req_9"}"#
        )
    };
}

/// An error body of Chat.
macro_rules! openai {
    ($kind:literal, $code:literal) => {
        concat!(
            r#"{"error":{"message":"because","type":""#,
            $kind,
            r#"","param":null,"code":""#,
            $code,
            r#""}}"#
        )
    };
}

use Code as C;
use FailureKind as K;

const MESSAGES: &[Row] = &[
    ("400 Bad Request", &[], anthropic!("invalid_request_error", "no"), K::Invalid, C::RequestInvalid, None),
    (
        "400 Bad Request",
        &[],
        anthropic!("invalid_request_error", "prompt is too long: 208310 tokens > 200000 maximum"),
        K::ContextLength,
        C::ContextTooLong,
        None,
    ),
    (
        "400 Bad Request",
        &[],
        anthropic!("invalid_request_error", "You have reached your specified API usage limits."),
        K::Quota,
        C::QuotaExhausted,
        None,
    ),
    ("401 Unauthorized", &[], anthropic!("authentication_error", "no"), K::Auth, C::KeyRefused, None),
    ("402 Payment Required", &[], anthropic!("billing_error", "no"), K::Quota, C::QuotaExhausted, None),
    ("403 Forbidden", &[], anthropic!("permission_error", "no"), K::Auth, C::KeyRefused, None),
    ("404 Not Found", &[], anthropic!("not_found_error", "model: x"), K::Invalid, C::ModelNotFound, None),
    ("409 Conflict", &[], anthropic!("conflict_error", "no"), K::Transient, C::ProviderFailed, None),
    ("413 Too Large", &[], anthropic!("request_too_large", "no"), K::Invalid, C::RequestTooLarge, None),
    (
        "429 Too Many",
        &[("retry-after", "7")],
        anthropic!("rate_limit_error", "no"),
        K::Throttled,
        C::RateLimited,
        Some(7_000),
    ),
    (
        "429 Too Many",
        &[],
        r#"{"type":"error","error":{"type":"rate_limit_error","message":"no","details":{"error_code":"enforced_spend_limit_reached"}}}"#,
        K::Quota,
        C::QuotaExhausted,
        None,
    ),
    ("500 Error", &[], anthropic!("api_error", "no"), K::Transient, C::ProviderFailed, None),
    ("504 Timeout", &[], anthropic!("timeout_error", "no"), K::Transient, C::ProviderFailed, None),
    ("529 Overloaded", &[], anthropic!("overloaded_error", "no"), K::Overloaded, C::ProviderOverloaded, None),
];

const CHAT: &[Row] = &[
    (
        "400 Bad Request",
        &[],
        openai!("invalid_request_error", "context_length_exceeded"),
        K::ContextLength,
        C::ContextTooLong,
        None,
    ),
    (
        "401 Unauthorized",
        &[],
        openai!("invalid_request_error", "invalid_api_key"),
        K::Auth,
        C::KeyRefused,
        None,
    ),
    (
        "403 Forbidden",
        &[],
        openai!("invalid_request_error", "unsupported_country"),
        K::Auth,
        C::KeyRefused,
        None,
    ),
    (
        "404 Not Found",
        &[],
        openai!("invalid_request_error", "model_not_found"),
        K::Invalid,
        C::ModelNotFound,
        None,
    ),
    ("408 Timeout", &[], "", K::Transient, C::ProviderFailed, None),
    (
        "429 Too Many",
        &[("retry-after-ms", "250"), ("retry-after", "9")],
        openai!("requests", "rate_limit_exceeded"),
        K::Throttled,
        C::RateLimited,
        Some(250),
    ),
    (
        "429 Too Many",
        // Thirty seconds from the clock of these tests.
        &[("retry-after", "Sun, 22 Nov 2026 12:00:30 GMT")],
        openai!("rate_limit_error", "slow_down"),
        K::Throttled,
        C::RateLimited,
        Some(30_000),
    ),
    (
        "429 Too Many",
        &[("retry-after", "-1")],
        openai!("insufficient_quota", "credit_balance_exhausted"),
        K::Quota,
        C::QuotaExhausted,
        None,
    ),
    (
        "429 Too Many",
        &[],
        openai!("insufficient_quota", "project_spend_limit_exceeded"),
        K::Quota,
        C::QuotaExhausted,
        None,
    ),
    ("500 Error", &[], openai!("server_error", ""), K::Transient, C::ProviderFailed, None),
    ("502 Bad Gateway", &[("content-type", "text/html")], "<html>", K::Transient, C::ProviderFailed, None),
    (
        "503 Unavailable",
        &[("retry-after", "1.5")],
        openai!("service_unavailable_error", "server_is_overloaded"),
        K::Overloaded,
        C::ProviderOverloaded,
        Some(1_500),
    ),
    ("302 Found", &[("location", "http://127.0.0.1:1/")], "", K::Invalid, C::RequestInvalid, None),
];

#[tokio::test]
async fn every_error_answer_streamed_or_not() {
    for (dialect, rows) in [(Dialect::Messages, MESSAGES), (Dialect::Chat, CHAT)] {
        for (status, headers, body, kind, code, wait_ms) in rows {
            for stream in [false, true] {
                let server = Server::always(Answer::new(http(status, headers, body), Then::Next)).await;
                let failure = fail(dialect, &server.url(), LONG, call(stream)).await;
                let place = format!("{dialect:?} {status} {body} stream: {stream}: {failure:?}");
                assert_eq!((failure.kind, failure.code()), (*kind, *code), "{place}");
                assert_eq!(failure.progress, Progress::ResponseStarted, "{place}");
                assert_eq!(failure.retry_after, wait_ms.map(Duration::from_millis), "{place}");
                assert_eq!(failure.detail.status, status[..3].parse().ok(), "{place}");
                let billed_perhaps = status.starts_with("504") || status.starts_with("408");
                assert_eq!(failure.detail.unbilled, !billed_perhaps, "{place}");
                assert_eq!(server.seen().requests.len(), 1, "{place}");
            }
        }
    }
}

/// An error event inside a stream.
fn event(dialect: Dialect, overloaded: bool) -> &'static str {
    match (dialect, overloaded) {
        (Dialect::Messages, true) => {
            concat!("event: error\ndata: ", anthropic!("overloaded_error", "no"), "\n\n")
        }
        (Dialect::Messages, false) => concat!("event: error\ndata: ", anthropic!("api_error", "no"), "\n\n"),
        (Dialect::Chat, true) => {
            concat!("data: ", openai!("service_unavailable_error", "server_is_overloaded"), "\n\n")
        }
        (Dialect::Chat, false) => concat!("data: ", openai!("server_error", "server_error"), "\n\n"),
        (Dialect::Responses, true) => {
            "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"server_is_overloaded\",\"message\":\"no\"}}}\n\n"
        }
        (Dialect::Responses, false) => {
            "event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"no\",\"param\":null}\n\n"
        }
    }
}

#[tokio::test]
async fn an_error_inside_a_stream_before_and_after_content() {
    for dialect in DIALECTS {
        let [begin, content, _] = stream_parts(dialect);
        for (overloaded, kind) in [(true, FailureKind::Overloaded), (false, FailureKind::Transient)] {
            let error = event(dialect, overloaded);
            for pieces in [vec![error], vec![begin, error], vec![begin, content, error]] {
                let server = Server::always(Answer::new(chunked(&pieces), Then::Close)).await;
                let failure = fail(dialect, &server.url(), LONG, call(true)).await;
                let place = format!("{dialect:?} {pieces:?} {failure:?}");
                assert_eq!((failure.kind, failure.progress), (kind, Progress::ResponseStarted), "{place}");
                assert_eq!(failure.detail.produced_chars, if pieces.len() == 3 { 5 } else { 0 }, "{place}");
                assert_eq!(failure.detail.request_id.as_deref(), Some("req_1"), "{place}");
                assert_eq!(failure.detail.status, Some(200), "{place}");
                assert!(!failure.detail.unbilled, "{place}");
                let usage_told = dialect == Dialect::Messages && pieces.len() > 1;
                assert_eq!(
                    failure.detail.usage.map(|usage| usage.input_tokens),
                    usage_told.then_some(10),
                    "{place}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_says_nothing() {
    for dialect in DIALECTS {
        for stream in [false, true] {
            // Before the head; in the middle of it; after it; in the middle of the content.
            let [begin, content, _] = stream_parts(dialect);
            let whole = chunked(&[begin, content]);
            let cases = [
                (Vec::new(), Progress::Sent),
                (whole[..20].to_vec(), Progress::Sent),
                (chunked(&[]), Progress::ResponseStarted),
                (whole, Progress::ResponseStarted),
            ];
            for (bytes, progress) in cases {
                let server = Server::always(Answer::new(bytes, Then::Hang)).await;
                let timeouts = if progress == Progress::Sent { SHORT_FIRST_BYTE } else { SHORT_IDLE };
                let failure = fail(dialect, &server.url(), timeouts, call(stream)).await;
                let got = (failure.kind, failure.progress, failure.code(), failure.detail.unbilled);
                assert_eq!(
                    got,
                    (K::UnknownOutcome, progress, C::OutcomeUnknown, false),
                    "{dialect:?} {failure:?}"
                );
                server.wait(|seen| seen.hung_up == 1).await;
            }
        }
    }
}

#[tokio::test]
async fn pings_keep_a_stream_alive() {
    // Each pause is shorter than the idle timeout and all together are longer.
    let [begin, content, end] = stream_parts(Dialect::Messages);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let timeouts = Timeouts { idle_ms: 400, ..LONG };
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 100];
        stream.read_exact(&mut request).await.unwrap();
        stream.write_all(&chunked(&[begin])).await.unwrap();
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        for _ in 0..12 {
            ticks.tick().await;
            let ping = "event: ping\ndata: {\"type\":\"ping\"}\n\n";
            stream.write_all(format!("{:x}\r\n{ping}\r\n", ping.len()).as_bytes()).await.unwrap();
        }
        let rest = format!("{content}{end}");
        stream.write_all(format!("{:x}\r\n{rest}\r\n0\r\n\r\n", rest.len()).as_bytes()).await.unwrap();
        stream.read_to_end(&mut request).await.unwrap();
    });
    let mut sink = Keep::default();
    model(Dialect::Messages, &url, timeouts).call(call(true), &mut sink).await.unwrap();
    assert_eq!(sink.text(), "Hello");
}

#[tokio::test]
async fn a_stream_that_is_whole_and_not_closed_is_whole() {
    for dialect in DIALECTS {
        let server = Server::always(Answer::new(chunked(&stream_parts(dialect)), Then::Hang)).await;
        let reply = model(dialect, &server.url(), LONG).call(call(true), &mut Discard).await.unwrap();
        assert_eq!((reply.text().as_str(), reply.usage.output_tokens), ("Hello", 5), "{dialect:?}");
        server.wait(|seen| seen.hung_up == 1).await;
    }
}

#[tokio::test]
async fn nothing_listens() {
    for dialect in DIALECTS {
        for stream in [false, true] {
            let failure = fail(dialect, &gone().await, LONG, call(stream)).await;
            let got = (failure.kind, failure.progress, failure.code(), failure.detail.unbilled);
            assert_eq!(got, (K::Transient, Progress::NotSent, C::Unreachable, true), "{failure:?}");
            assert_eq!(failure.detail.message, "the connection was refused");
        }
    }
}

#[tokio::test]
async fn no_connection_in_time() {
    // A queue of one that is full: the kernel lets the next connection wait.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) =
        tokio::time::timeout(Duration::from_millis(300), tokio::net::TcpStream::connect(addr)).await
    {
        queued.push(stream.unwrap());
    }
    let timeouts = Timeouts { connect_ms: 60, ..LONG };
    let failure = fail(Dialect::Chat, &format!("http://{addr}/v1"), timeouts, call(false)).await;
    let got = (failure.kind, failure.progress, failure.code(), failure.detail.unbilled);
    assert_eq!(got, (K::Transient, Progress::NotSent, C::Unreachable, true), "{failure:?}");
}

#[tokio::test]
async fn tls_where_none_is_spoken() {
    let server = Server::always(Answer::new("", Then::Hang)).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = listener.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    });
    let failure = fail(Dialect::Chat, &format!("https://{plain}"), LONG, call(false)).await;
    assert_eq!((failure.kind, failure.progress), (K::Transient, Progress::NotSent), "{failure:?}");
    assert_eq!(
        (failure.code(), failure.detail.message.as_str()),
        (C::Unreachable, "the TLS handshake failed")
    );
    // A handshake that never ends is no connection either.
    let timeouts = Timeouts { connect_ms: 60, ..LONG };
    let failure = fail(Dialect::Chat, &format!("https://{}", server.addr), timeouts, call(false)).await;
    assert_eq!(
        (failure.progress, failure.detail.message.as_str()),
        (Progress::NotSent, "no connection in time")
    );
}

#[tokio::test]
async fn a_connection_that_breaks_while_the_request_is_written() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut some = [0; 100];
            stream.read_exact(&mut some).await.unwrap();
            // Dropped with bytes unread: the kernel resets the connection.
        }
    });
    let mut request = crate::fixtures::request(false);
    request.messages[0].content = [backstop_call::Block::text("x".repeat(8 << 20))].into();
    let failure = fail(Dialect::Chat, &url, LONG, crate::fixtures::call_of("c1", request)).await;
    let got = (failure.kind, failure.progress, failure.detail.unbilled);
    assert_eq!(got, (K::UnknownOutcome, Progress::Sent, false), "{failure:?}");
}

#[tokio::test]
async fn an_answer_that_is_none() {
    let [_, content, _] = stream_parts(Dialect::Messages);
    let odd: [(Dialect, bool, Vec<u8>); 8] = [
        (Dialect::Messages, false, b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()),
        (Dialect::Messages, true, vec![0xff; 64]),
        (Dialect::Messages, false, http("200 OK", &[("content-type", "text/html")], "<html>sign in</html>")),
        (Dialect::Chat, false, http("200 OK", &[JSON], "{\"choices\":")),
        (Dialect::Chat, false, http("200 OK", &[JSON], "{}")),
        (Dialect::Chat, true, chunked(&["data: {no json\n\n"])),
        // A delta for a block that never began.
        (
            Dialect::Messages,
            true,
            chunked(&[&content[content.find("event: content_block_delta").unwrap()..]]),
        ),
        (Dialect::Chat, true, {
            let mut bytes = chunked(&[]);
            bytes.extend_from_slice(b"c\r\ndata: \"\xff\xff\"\n\n\r\n");
            bytes
        }),
    ];
    for (dialect, stream, bytes) in odd {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let server = Server::always(Answer::new(bytes, Then::Close)).await;
        let failure = fail(dialect, &server.url(), LONG, call(stream)).await;
        let got = (failure.kind, failure.progress, failure.code(), failure.detail.unbilled);
        assert_eq!(
            got,
            (K::Malformed, Progress::ResponseStarted, C::AnswerMalformed, false),
            "{text} {failure:?}"
        );
    }
}

#[tokio::test]
async fn a_body_without_end_is_bounded() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999999999\r\n\r\n";
    let mut pieces = vec![head.as_bytes().to_vec()];
    pieces.extend(std::iter::repeat_n(vec![b' '; 1 << 20], 34));
    let server = Server::always(Answer { pieces, then: Then::Hang }).await;
    let failure = fail(Dialect::Chat, &server.url(), LONG, call(false)).await;
    assert_eq!((failure.kind, failure.progress), (K::Malformed, Progress::ResponseStarted), "{failure:?}");
    server.wait(|seen| seen.hung_up == 1).await;
    // A stream: one event without end, and comments without end.
    for piece in [vec![b'x'; 1 << 20], format!(":{}\n", "x".repeat(1 << 20)).into_bytes()] {
        let mut pieces = vec![b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: \n".to_vec()];
        pieces.extend(std::iter::repeat_n(piece, 34));
        let server = Server::always(Answer { pieces, then: Then::Hang }).await;
        let failure = fail(Dialect::Chat, &server.url(), LONG, call(true)).await;
        assert_eq!(
            (failure.kind, failure.progress),
            (K::Malformed, Progress::ResponseStarted),
            "{failure:?}"
        );
        assert!(failure.detail.message.contains("larger than"), "{failure:?}");
        server.wait(|seen| seen.hung_up == 1).await;
    }
    // An error's body is read as far as it is of use; its status says what it means.
    let head = "HTTP/1.1 529 Overloaded\r\ncontent-length: 999999999\r\n\r\n";
    let pieces = vec![head.as_bytes().to_vec(), vec![b'x'; 100 << 10]];
    let server = Server::always(Answer { pieces, then: Then::Hang }).await;
    assert_eq!(fail(Dialect::Messages, &server.url(), LONG, call(false)).await.kind, K::Overloaded);
    // An error's body that stands still does not hide the error.
    let server =
        Server::always(Answer::new("HTTP/1.1 401 No\r\ncontent-length: 9\r\n\r\n", Then::Hang)).await;
    assert_eq!(fail(Dialect::Messages, &server.url(), SHORT_IDLE, call(true)).await.kind, K::Auth);
}

#[tokio::test]
async fn a_stop_that_is_no_failure() {
    let rows = [
        (Dialect::Messages, "end_turn", "max_tokens", StopReason::MaxTokens),
        (Dialect::Messages, "end_turn", "refusal", StopReason::Refusal),
        (Dialect::Messages, "end_turn", "pause_turn", StopReason::Pause),
        (Dialect::Messages, "end_turn", "model_context_window_exceeded", StopReason::ContextWindow),
        (Dialect::Chat, "\"stop\"", "\"length\"", StopReason::MaxTokens),
        (Dialect::Chat, "\"stop\"", "\"content_filter\"", StopReason::Refusal),
        (
            Dialect::Responses,
            "\"completed\",\"incomplete_details\":null",
            "\"incomplete\",\"incomplete_details\":{\"reason\":\"content_filter\"}",
            StopReason::Refusal,
        ),
    ];
    for (dialect, from, to, stop) in rows {
        for stream in [false, true] {
            let parts = stream_parts(dialect).map(|part| part.replace(from, to));
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let bytes = if stream {
                crate::fixtures::stream_of(&parts)
            } else {
                http("200 OK", &[JSON], &crate::fixtures::reply_body(dialect).replace(from, to))
            };
            let server = Server::always(Answer::new(bytes, Then::Next)).await;
            let reply = model(dialect, &server.url(), LONG).call(call(stream), &mut Discard).await.unwrap();
            assert_eq!(reply.stop, stop, "{dialect:?} {to} stream: {stream}");
        }
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_sent_is_not_sent() {
    let server = Server::always(answer(Dialect::Chat, false)).await;
    let mut endpoint = endpoint(Dialect::Chat, &server.url());
    endpoint.key = Some(Secret::new("sk-canary\n4711"));
    let model = HttpModel::new(&HttpClient::new(), endpoint, "m".into(), LONG, Arc::new(Fixed));
    let failure = model.call(call(false), &mut Discard).await.unwrap_err();
    assert_eq!((failure.kind, failure.progress), (K::Auth, Progress::NotSent));
    assert!(!format!("{failure:?} {model:?}").contains("canary"));
    assert_eq!(server.seen().connections, 0);
}

#[tokio::test]
async fn a_key_that_the_provider_quotes_back_is_not_shown() {
    let body = r#"{"error":{"message":"Incorrect key (sk-canary-4711): ask 127.0.0.1","type":"x","code":"sk-canary-4711"}}"#;
    for stream in [false, true] {
        let headers = [JSON, ("x-request-id", "req-sk-canary-4711")];
        let server = Server::always(Answer::new(http("401 No", &headers, body), Then::Next)).await;
        let failure = fail(Dialect::Chat, &server.url(), LONG, call(stream)).await;
        assert!(failure.detail.message.contains("ask 127.0.0.1"), "{failure:?}");
    }
}

/// The rest is held by another provider, so this one is not asked at all.
#[tokio::test]
async fn a_part_of_a_conversation_is_never_sent_as_if_it_were_the_whole() {
    let rows = [
        (Dialect::Responses, "previous_response_id", json!("resp_1"), Some("previous_response_not_found")),
        (Dialect::Responses, "conversation", json!("conv_1"), None),
        (Dialect::Messages, "thread", json!({"type": "continue"}), Some("thread_unsupported_request")),
        (Dialect::Messages, "container", json!("c_1"), None),
    ];
    for (home, field, value, code) in rows {
        for dialect in DIALECTS {
            let server = Server::always(answer(dialect, false)).await;
            let mut request = crate::fixtures::request(false);
            request.other.insert(field.to_owned(), value.clone());
            let call = crate::fixtures::call_of("c1", request);
            let result = model(dialect, &server.url(), LONG).call(call, &mut Discard).await;
            assert_eq!(server.seen().requests.len(), usize::from(dialect == home), "{dialect:?} {field}");
            if dialect == home {
                result.unwrap();
                continue;
            }
            let failure = result.unwrap_err();
            let got = (failure.kind, failure.progress, failure.detail.provider_code.as_deref());
            assert_eq!(got, (FailureKind::Invalid, Progress::NotSent, code), "{dialect:?} {field}");
        }
    }
}

#[tokio::test]
async fn a_failure_that_comes_with_200_has_its_kind() {
    let rows = [
        (
            Dialect::Responses,
            r#"{"id":"r","status":"failed","error":{"code":"rate_limit_exceeded","message":"no"},"output":[]}"#,
            FailureKind::Throttled,
        ),
        (
            Dialect::Responses,
            r#"{"id":"r","status":"failed","error":null,"output":[]}"#,
            FailureKind::Transient,
        ),
        (Dialect::Chat, r#"{"error":{"code":502,"message":"no"}}"#, FailureKind::Transient),
    ];
    for (dialect, body, kind) in rows {
        let server = Server::always(Answer::new(http("200 OK", &[JSON], body), Then::Next)).await;
        let failure = fail(dialect, &server.url(), LONG, call(false)).await;
        assert_eq!((failure.kind, failure.progress), (kind, Progress::ResponseStarted), "{body}");
        assert!(!failure.detail.unbilled, "{body}: it may have been made");
    }
}
