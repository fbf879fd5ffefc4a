//! The model in this process under faults.

use super::*;
use backstop_call::{CallId, Context, Discard, Message, Speaker};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

fn call(stream: bool) -> Call {
    let messages = vec![Message::text(Speaker::User, "How many roads must a man walk down?")];
    let request = Request { model: "sim".into(), messages, stream, ..Request::default() };
    Call::new(CallId::from("c"), Arc::new(request), Arc::new(Context::default()), Timestamp::FAR)
}

/// Keeps what comes; closed after so many chunks.
struct Keep {
    chunks: Vec<Chunk>,
    most: usize,
}

impl Sink for Keep {
    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Closed>> {
        Poll::Ready(if self.chunks.len() < self.most { Ok(()) } else { Err(Closed) })
    }

    fn send(&mut self, chunk: Chunk) {
        self.chunks.push(chunk);
    }
}

async fn under(fault: &str, stream: bool) -> (Result<Reply, Failure>, Vec<Chunk>) {
    let model = SimModel::new("sim".into(), 1);
    model.enqueue(fault.parse().unwrap());
    let mut sink = Keep { chunks: Vec::new(), most: usize::MAX };
    let reply = model.call(call(stream), &mut sink).await;
    (reply, sink.chunks)
}

#[tokio::test]
async fn the_chunks_make_the_reply() {
    let model = SimModel::new("sim".into(), 1);
    let mut sink = Keep { chunks: Vec::new(), most: usize::MAX };
    let reply = model.call(call(true), &mut sink).await.unwrap();
    let mut assembly = Assembly::default();
    sink.chunks.iter().for_each(|chunk| assembly.push(chunk));
    let (assembled, usage) = assembly.finish().unwrap();
    assert_eq!((assembled.content, usage), (reply.content.clone(), Some(reply.usage)));
    let whole = model.call(call(false), &mut Discard).await.unwrap();
    assert_eq!(whole.content, reply.content, "streamed or not, it says the same");
}

/// Fault, streamed or not, kind, progress.
#[tokio::test]
async fn faults_become_failures() {
    use FailureKind::{Malformed, Overloaded, Quota, Throttled, Transient, UnknownOutcome};
    use Progress::{Committed, ResponseStarted, Sent};
    let rows = [
        ("cut-before-body", true, UnknownOutcome, Sent),
        ("cut-before-body", false, UnknownOutcome, Sent),
        ("cut-at:30", true, Transient, Committed),
        ("cut-at:30", false, Transient, ResponseStarted),
        ("malformed-json", true, Malformed, ResponseStarted),
        ("malformed-stream:4", true, Malformed, Committed),
        ("malformed-json", false, Malformed, ResponseStarted),
        ("in-stream:overloaded", true, Overloaded, ResponseStarted),
        ("in-stream-late:server", true, Transient, Committed),
        ("garbage-text", true, Malformed, Committed),
    ];
    for (fault, stream, kind, progress) in rows {
        let (reply, chunks) = under(fault, stream).await;
        let failure = reply.unwrap_err();
        assert_eq!((failure.kind, failure.progress), (kind, progress), "{fault} {stream}");
        assert_eq!(chunks.iter().any(Chunk::is_content), progress == Committed, "{fault} {stream}");
        assert_eq!(failure.detail.provider, Some("sim".into()));
    }
    for (fault, kind) in
        [("rate-limit:ms=1500", Throttled), ("overloaded", Overloaded), ("credit-exhausted", Quota)]
    {
        let failure = under(fault, true).await.0.unwrap_err();
        assert_eq!(failure.kind, kind, "{fault}");
        assert!(failure.detail.unbilled, "{fault}");
    }
    let hinted = under("rate-limit:ms=1500", false).await.0.unwrap_err();
    assert_eq!(hinted.retry_after, Some(Duration::from_millis(1_500)));
}

#[tokio::test]
async fn a_reader_that_goes_away_cancels() {
    let model = SimModel::new("sim".into(), 1);
    let mut sink = Keep { chunks: Vec::new(), most: 4 };
    let failure = model.call(call(true), &mut sink).await.unwrap_err();
    assert_eq!((failure.kind, failure.progress), (FailureKind::Cancelled, Progress::Committed));
    assert!(failure.detail.produced_chars > 0);
}

#[tokio::test(start_paused = true)]
async fn a_hang_lasts_until_it_is_dropped_and_a_slow_token_is_late() {
    let model = SimModel::new("sim".into(), 1);
    model.enqueue(Fault::HangAfterHeaders);
    let hour = Duration::from_hours(1);
    assert!(tokio::time::timeout(hour, model.call(call(true), &mut Discard)).await.is_err());
    model.enqueue(Fault::SlowFirstToken { ms: 700 });
    let reply = model.call(call(true), &mut Discard).await.unwrap();
    assert_eq!(reply.first_token, Some(Duration::from_millis(700)));
    let (reply, chunks) = under("missing-usage", true).await;
    assert!(reply.unwrap().usage.estimated);
    assert!(!chunks.iter().any(|chunk| matches!(chunk, Chunk::Usage(_))));
}
