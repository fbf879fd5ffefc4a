//! The mock over real connections, held against its own bill.

use super::*;
use crate::load::{Load, Pace, Until};
use crate::prompt::{self, Answer};
use std::net::SocketAddr;
use tokio::task::LocalSet;

#[test]
fn a_stream_is_asked_for_by_its_key() {
    let rows = [
        (r#"{"stream":true}"#, true),
        (r#"{"model":"m", "stream" : true}"#, true),
        (r#"{"stream":false}"#, false),
        (r#"{"stream_options":{"include_usage":true}}"#, false),
        (r#"{"content":"\"stream\":true"}"#, false),
        ("{}", false),
    ];
    for (body, want) in rows {
        assert_eq!(is_streamed(body.as_bytes()), want, "{body}");
    }
}

#[test]
fn behaviour_is_set_by_its_own_target() {
    let calm = Behaviour { latency_ms: 0, chunks: 20, chunk_delay_ms: 0 };
    let other = Behaviour { latency_ms: 5, chunks: 100, chunk_delay_ms: 1 };
    let target = other.target();
    let (path, query) = target.split_once('?').unwrap();
    assert_eq!((path, calm.with(query)), (BEHAVE, Ok(other)));
    assert_eq!(calm.with("chunks=3"), Ok(Behaviour { chunks: 3, ..calm }));
    assert!(calm.with("chunks=many").is_err());
    assert!(calm.with("colour=red").is_err());
}

/// Sends `requests` over 4 connections: what the client saw, and the bill of its key.
async fn exchange(port: u16, dialect: Dialect, answer: Answer) -> (crate::load::Outcome, Bill) {
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let key = format!("{dialect:?}-{answer:?}");
    let body = prompt::request(dialect, "mock-1", answer, 2_048);
    let headers = [("authorization".to_owned(), key.clone())];
    let load = Load {
        at,
        request: crate::load::post(at, dialect.path(), &headers, &body),
        answer,
        pace: Pace::Closed { connections: 4 },
        until: Until::Count(10),
    };
    let outcome = load.run().await.unwrap();
    let (status, bills) = crate::load::ask(at, BILLS).await.unwrap();
    assert_eq!(status, 200);
    let bills: Bills = serde_json::from_slice(&bills).unwrap();
    (outcome, bills.of(&key))
}

#[tokio::test]
async fn what_the_client_counts_is_what_the_mock_bills() {
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let behaviour = Behaviour { latency_ms: 0, chunks: 7, chunk_delay_ms: 1 };
    let local = LocalSet::new();
    local
        .run_until(async {
            let mock = tokio::task::spawn_local(async move { serve(&Options { port, behaviour }).await });
            crate::load::until_ready(SocketAddr::from(([127, 0, 0, 1], port)), BILLS).await;
            for dialect in [Dialect::Chat, Dialect::Messages] {
                let (seen, bill) = exchange(port, dialect, Answer::Whole).await;
                assert_eq!((seen.ok, seen.errors), (10, 0), "{:?}", seen.first_error);
                let output = u64::try_from(prompt::ANSWERED.len() / 4).unwrap();
                assert_eq!(bill, Bill { requests: 10, input_tokens: 5_120, output_tokens: 10 * output });

                let (seen, bill) = exchange(port, dialect, Answer::Stream { chunks: 7 }).await;
                assert_eq!((seen.ok, seen.errors, seen.chunks), (10, 0, 70), "{:?}", seen.first_error);
                assert_eq!(bill, Bill { requests: 10, input_tokens: 5_120, output_tokens: 70 });
                assert!(seen.first_token.is_some() && seen.chunk_delay.is_some());

                // Chunks that are missing are an error, though the stream ends as it should.
                let (seen, _) = exchange(port, dialect, Answer::Stream { chunks: 8 }).await;
                assert_eq!((seen.ok, seen.errors), (0, 10));
                assert_eq!(seen.first_error.as_deref(), Some("7 chunks of 8"));
            }
            mock.abort();
        })
        .await;
}
