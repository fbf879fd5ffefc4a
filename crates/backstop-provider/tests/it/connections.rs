//! Connections: used again, never used twice for one request, closed at once when nobody waits.

use crate::fixtures::{
    DIALECTS, JSON, Keep, LONG, answer, call, call_of, chunked, http, model, request, stream_parts,
};
use crate::raw::{Answer, Server, Then};
use backstop_call::{Dialect, Discard, FailureKind, Model, Progress};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use tokio::task::JoinSet;

#[tokio::test]
async fn one_connection_serves_one_call_after_the_other() {
    for dialect in DIALECTS {
        let mut count = 0;
        let server = Server::start(move |request| {
            count += 1;
            let stream = request.contains("\"stream\":true");
            if count % 3 == 0 {
                return Answer::new(http("429 Too Many Requests", &[JSON], "{}"), Then::Next);
            }
            answer(dialect, stream)
        })
        .await;
        let model = model(dialect, &server.url(), LONG);
        for turn in 0..12 {
            let result = model.call(call(turn % 2 == 0), &mut Discard).await;
            assert_eq!(result.is_ok(), (turn + 1) % 3 != 0, "{turn}: {result:?}");
        }
        let seen = server.seen();
        assert_eq!((seen.connections, seen.requests.len()), (1, 12), "{dialect:?}");
    }
}

/// The server closes each connection after its answer without saying so, which is how a pooled connection goes stale. At
/// every moment that the close may come, a request is either answered, or fails and says truly whether it was sent; and
/// none is ever sent twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_connection_loses_nothing_and_sends_nothing_twice() {
    let server =
        Server::start(|_| Answer::new(answer(Dialect::Chat, false).pieces[0].clone(), Then::Close)).await;
    let model = model(Dialect::Chat, &server.url(), LONG);
    let mut failures = Vec::new();
    for turn in 0..300 {
        let id = format!("c{turn}");
        for _ in 0..turn % 7 {
            tokio::task::yield_now().await;
        }
        if let Err(failure) = model.call(call_of(&id, request(false)), &mut Discard).await {
            failures.push((id, failure));
        }
    }
    let mut sent: BTreeMap<String, usize> = BTreeMap::new();
    for request in server.seen().requests {
        let line = request.lines().find(|line| line.starts_with("x-client-request-id")).unwrap().to_owned();
        *sent.entry(line).or_default() += 1;
    }
    assert!(sent.values().all(|times| *times == 1), "{sent:?}");
    assert!(sent.len() + failures.len() >= 300, "{} answered", sent.len());
    for (id, failure) in failures {
        let arrived = sent.contains_key(&format!("x-client-request-id: {id}.1"));
        match failure.progress {
            Progress::NotSent => assert!(!arrived && failure.detail.unbilled, "{id} {failure:?}"),
            _ => assert_eq!(
                (failure.kind, failure.progress, failure.detail.unbilled),
                (FailureKind::UnknownOutcome, Progress::Sent, false),
                "{id}"
            ),
        }
    }
}

/// Reads a request and answers it.
fn serve(stream: &mut std::net::TcpStream) {
    use std::io::{Read, Write};
    let mut request = Vec::new();
    while !request.ends_with(b"}") {
        let mut some = [0; 4096];
        let read = stream.read(&mut some).unwrap();
        request.extend_from_slice(&some[..read]);
    }
    stream.write_all(&answer(Dialect::Chat, false).pieces[0]).unwrap();
}

/// The provider closes all connections while they wait in the pool, more of them than a request is handed to. Nothing is
/// sent on any of them, so the same call takes another connection.
#[tokio::test]
async fn a_request_that_was_never_begun_takes_another_connection() {
    const POOLED: usize = 6;
    use std::io::Write;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (mut far, near) = std::os::unix::net::UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let near = tokio::net::UnixStream::from_std(near).unwrap();
    let (close, closing) = std::sync::mpsc::channel::<()>();
    let (closed, close_done) = std::sync::mpsc::channel::<()>();
    let server = std::thread::spawn(move || {
        // All are there before the first is answered, so that none serves two calls.
        let mut pooled: Vec<_> = (0..POOLED).map(|_| listener.accept().unwrap().0).collect();
        pooled.iter_mut().for_each(serve);
        closing.recv().unwrap();
        drop(pooled);
        far.write_all(b"x").unwrap();
        closed.send(()).unwrap();
        serve(&mut listener.accept().unwrap().0);
    });
    let model = Arc::new(model(Dialect::Chat, &url, LONG));
    let mut calls = JoinSet::new();
    for _ in 0..POOLED {
        let model = Arc::clone(&model);
        calls.spawn(async move { model.call(call(false), &mut Discard).await.unwrap() });
    }
    calls.join_all().await;
    // The runtime stands still until all events are there, so that it sees them in one turn.
    close.send(()).unwrap();
    close_done.recv().unwrap();
    near.readable().await.unwrap();
    model.call(call_of("c2", request(false)), &mut Discard).await.unwrap();
    server.join().unwrap();
}

/// Polls a call until the server has seen enough, then drops it.
async fn drop_when(call: impl Future, server: &Server, seen_enough: impl Fn(usize) -> bool) {
    let mut call = pin!(call);
    let mut seen = pin!(server.wait(|seen| seen_enough(seen.requests.len())));
    std::future::poll_fn(|cx| {
        assert!(call.as_mut().poll(cx).is_pending(), "the call ended before it was dropped");
        seen.as_mut().poll(cx).map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn dropping_a_call_that_waits_for_its_answer_closes_the_connection() {
    let server = Server::always(Answer::new("", Then::Hang)).await;
    let model = model(Dialect::Messages, &server.url(), LONG);
    drop_when(model.call(call(false), &mut Discard), &server, |requests| requests == 1).await;
    server.wait(|seen| seen.hung_up == 1).await;
}

#[tokio::test]
async fn dropping_a_call_in_the_middle_of_its_stream_closes_the_connection() {
    for dialect in DIALECTS {
        let [begin, content, _] = stream_parts(dialect);
        let server = Server::always(Answer::new(chunked(&[begin, content]), Then::Hang)).await;
        let model = model(dialect, &server.url(), LONG);
        let mut sink = Keep::default();
        {
            let mut call = model.call(call(true), &mut sink);
            for _ in 0..200 {
                let polled =
                    std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending())).await;
                assert!(polled, "the call ended before it was dropped");
                tokio::task::yield_now().await;
            }
        }
        server.wait(|seen| seen.hung_up == 1).await;
        assert_eq!(sink.text(), "Hello", "{dialect:?}: it was in the middle");
    }
}

/// A reader that is never ready.
struct Stuck;

impl backstop_call::Sink for Stuck {
    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), backstop_call::Closed>> {
        Poll::Pending
    }

    fn send(&mut self, _: backstop_call::Chunk) {}
}

#[tokio::test]
async fn a_slow_reader_slows_the_provider_down_and_can_be_dropped() {
    // More than all the buffers between the two hold: the server is stuck in writing it.
    let [begin, content, _] = stream_parts(Dialect::Chat);
    let filler = content.repeat(40_000);
    let server = Server::always(Answer::new(chunked(&[begin, &filler]), Then::Hang)).await;
    let model = model(Dialect::Chat, &server.url(), LONG);
    drop_when(model.call(call(true), &mut Stuck), &server, |requests| requests == 1).await;
    server.wait(|seen| seen.hung_up == 1).await;
}
