//! Streams cut and split: at every byte, over real connections.

use crate::fixtures::{CHUNKED, DIALECTS, Keep, LONG, call, chunked, model, stream_of, stream_parts};
use crate::raw::{Answer, Server, Then};
use backstop_call::{Block, Code, Dialect, Failure, FailureKind, Model, Progress, Reply, Usage};

/// The same answer cut after each of its bytes, one connection for each.
async fn cut_everywhere(dialect: Dialect, whole: &[u8]) -> Vec<(Result<Reply, Failure>, String)> {
    let bytes = whole.to_vec();
    let mut cut_at = 0;
    let server = Server::start(move |_| {
        cut_at += 1;
        Answer::new(&bytes[..cut_at - 1], Then::Close)
    })
    .await;
    let model = model(dialect, &server.url(), LONG);
    let mut results = Vec::new();
    for _ in 0..=whole.len() {
        let mut sink = Keep::default();
        let result = model.call(call(true), &mut sink).await;
        results.push((result, sink.text()));
    }
    let seen = server.seen();
    assert_eq!(seen.requests.len(), whole.len() + 1, "each call was sent once");
    results
}

#[tokio::test]
async fn a_stream_cut_at_every_byte() {
    for dialect in DIALECTS {
        let whole = stream_of(&stream_parts(dialect));
        let mut got_whole = 0;
        let mut last_text = 0;
        for (at, (result, text)) in cut_everywhere(dialect, &whole).await.into_iter().enumerate() {
            let place = format!("{dialect:?} cut at {at} of {}", whole.len());
            assert!("Hello".starts_with(&text) && text.len() >= last_text, "{place}: {text}");
            last_text = text.len();
            let failure = match result {
                Ok(reply) => {
                    got_whole += 1;
                    assert_eq!(reply.content, [Block::text("Hello")], "{place}");
                    assert!(reply.usage.output_tokens > 0 && reply.usage.input_tokens > 0, "{place}");
                    continue;
                }
                Err(failure) => failure,
            };
            assert_eq!(got_whole, 0, "{place}: whole before, cut after");
            assert!(!failure.detail.unbilled, "{place}");
            assert_eq!(failure.detail.provider.as_ref().unwrap().as_str(), "p1");
            if at < CHUNKED.len() {
                let got = (failure.kind, failure.progress, failure.detail.status);
                assert_eq!(got, (FailureKind::UnknownOutcome, Progress::Sent, None), "{place}");
                continue;
            }
            let got = (failure.kind, failure.progress, failure.code(), failure.detail.status);
            let want = (FailureKind::Transient, Progress::ResponseStarted, Code::StreamCut, Some(200));
            assert_eq!(got, want, "{place}");
            assert_eq!(failure.detail.produced_chars, text.len(), "{place}");
            assert_eq!(failure.detail.request_id.as_deref(), Some("req_1"), "{place}");
            let told = dialect == Dialect::Messages && !text.is_empty();
            assert!(failure.detail.usage.is_some() || !told, "{place}: the input was told at the start");
        }
        // The reply is whole as soon as the event with its stop reason is; what comes behind it adds nothing.
        let reason = match dialect {
            Dialect::Messages => "\"end_turn\"",
            Dialect::Chat => "\"stop\"",
            Dialect::Responses => "response.completed",
        };
        let text = String::from_utf8(whole.clone()).unwrap();
        let event = text.find(reason).unwrap();
        let end = event + text[event..].find("\n\n").unwrap() + 2;
        assert_eq!(got_whole, whole.len() + 1 - end, "{dialect:?}");
    }
}

#[tokio::test]
async fn a_stream_split_at_every_byte() {
    for dialect in DIALECTS {
        let text = stream_parts(dialect).concat();
        let bytes = text.clone();
        let mut at = 0;
        let server = Server::start(move |_| {
            at += 1;
            // Two chunks of the coding, which come as two pieces however the network joins them.
            Answer::new(stream_of(&[&bytes[..at], &bytes[at..]]), Then::Next)
        })
        .await;
        let model = model(dialect, &server.url(), LONG);
        for at in 1..text.len() {
            let mut sink = Keep::default();
            let reply = model.call(call(true), &mut sink).await.unwrap();
            assert_eq!(reply.content, [Block::text("Hello")], "{dialect:?} split at {at}");
            let usage = Usage { input_tokens: 10, output_tokens: 5, ..Usage::default() };
            assert_eq!((reply.usage, sink.text().as_str()), (usage, "Hello"), "{dialect:?} split at {at}");
        }
    }
}

#[tokio::test]
async fn every_byte_as_a_piece_of_its_own() {
    for dialect in DIALECTS {
        let pieces = stream_of(&stream_parts(dialect)).into_iter().map(|byte| vec![byte]).collect();
        let server = Server::always(Answer { pieces, then: Then::Next }).await;
        let mut sink = Keep::default();
        let reply = model(dialect, &server.url(), LONG).call(call(true), &mut sink).await.unwrap();
        assert_eq!(
            (reply.content, sink.text().as_str()),
            (vec![Block::text("Hello")], "Hello"),
            "{dialect:?}"
        );
    }
}

#[tokio::test]
async fn a_whole_reply_that_is_cut_is_cut() {
    for dialect in DIALECTS {
        let bytes = crate::fixtures::reply(dialect);
        let server = Server::always(Answer::new(&bytes[..bytes.len() - 1], Then::Close)).await;
        let failure =
            model(dialect, &server.url(), LONG).call(call(false), &mut Keep::default()).await.unwrap_err();
        let got = (failure.kind, failure.progress, failure.code(), failure.detail.unbilled);
        assert_eq!(
            got,
            (FailureKind::Transient, Progress::ResponseStarted, Code::StreamCut, false),
            "{dialect:?}"
        );
    }
}

#[tokio::test]
async fn a_stream_without_its_end_on_a_connection_that_ends_properly_is_cut() {
    for dialect in DIALECTS {
        let [begin, content, _] = stream_parts(dialect);
        for pieces in [vec![], vec![begin], vec![begin, content]] {
            let mut bytes = chunked(&pieces);
            bytes.extend_from_slice(b"0\r\n\r\n");
            let server = Server::always(Answer::new(bytes, Then::Next)).await;
            let failure =
                model(dialect, &server.url(), LONG).call(call(true), &mut Keep::default()).await.unwrap_err();
            assert_eq!(
                (failure.kind, failure.code()),
                (FailureKind::Transient, Code::StreamCut),
                "{dialect:?} {pieces:?}"
            );
        }
    }
}
