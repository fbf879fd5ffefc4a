//! An answer as it comes. The call is polled by whoever reads the answer: a reader that goes away drops the call with it,
//! and a slow one slows the provider down. No task and no channel is between them.

use super::answer::Answer;
use backstop_call::{BoxFuture, Chunk, Closed, Dialect, Failure, Head, Reply, Sink, Timestamp};
use backstop_wire::{StreamOptions, StreamRenderer};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

/// Chunks that may wait for the reader.
const WAITING_MAX: usize = 64;

/// A call under way.
pub(crate) type Calling = BoxFuture<'static, Result<Reply, Failure>>;

/// What is done with the outcome when a call is over. Dropped uncalled when the client goes away before.
pub(crate) type Done = Box<dyn FnOnce(&Result<Reply, Failure>) + Send>;

/// What the call has told and the reader has not taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pipe(Arc<Mutex<VecDeque<Chunk>>>);

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Chunk>> {
        // Nothing panics while it is held; if it did, the chunks would still be chunks.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

impl Sink for Pipe {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        // No waker is kept: the reader polls the call again whenever it has taken what was there.
        if self.lock().len() < WAITING_MAX { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn send(&mut self, chunk: Chunk) {
        self.lock().push_back(chunk);
    }
}

/// How a stream is written for its client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// What the client speaks.
    pub(crate) dialect: Dialect,
    /// Whether the usage was asked for, where the dialect tells it only then.
    pub(crate) include_usage: bool,
    /// When the call began.
    pub(crate) now: Timestamp,
}

/// How an answer begins.
pub(crate) enum Begun {
    /// It comes, from here if somebody said who it is.
    Comes(Option<Box<Head>>),
    /// It failed before anything was told.
    Failed(Failure),
}

/// An answer under way.
pub(crate) struct Flow {
    calling: Option<Calling>,
    done: Option<Done>,
    pipe: Pipe,
    manner: Manner,
    renderer: StreamRenderer,
    /// Whether what was written last came as it was: then its end came so too.
    is_passed: bool,
    /// What is written when the call is over and everything it told is.
    end: Bytes,
}

impl Flow {
    /// A stream of this call, which tells its chunks through the pipe.
    pub(crate) fn new(calling: Calling, pipe: Pipe, manner: Manner, done: Done) -> Self {
        let options = StreamOptions { include_usage: manner.include_usage, created: manner.now };
        let renderer = StreamRenderer::new(manner.dialect, options);
        let (calling, done) = (Some(calling), Some(done));
        Self { calling, done, pipe, manner, renderer, is_passed: false, end: Bytes::new() }
    }

    /// Waits until the answer begins: what fails before can still be told with a status.
    pub(crate) async fn begin(&mut self) -> Begun {
        let outcome = poll_fn(|cx| match self.poll_call(cx) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending if self.pipe.is_empty() => Poll::Pending,
            Poll::Pending => Poll::Ready(None),
        });
        let outcome = match outcome.await {
            Some(Err(failure)) if self.pipe.is_empty() => return Begun::Failed(failure),
            outcome => outcome,
        };
        // Before anything is written: it is for the response's own head.
        let head = self.take_head();
        if let Some(outcome) = outcome {
            self.over(outcome);
        }
        Begun::Comes(head)
    }

    fn take_head(&self) -> Option<Box<Head>> {
        let mut waiting = self.pipe.lock();
        match waiting.pop_front()? {
            Chunk::Head(head) => Some(head),
            other => {
                waiting.push_front(other);
                None
            }
        }
    }

    /// The next bytes for the client; `None` at the end.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let bytes = self.write();
            if !bytes.is_empty() {
                return Poll::Ready(Some(bytes));
            }
            if self.calling.is_none() {
                let end = std::mem::take(&mut self.end);
                return Poll::Ready(Some(end).filter(|end| !end.is_empty()));
            }
            match self.poll_call(cx) {
                Poll::Ready(outcome) => self.over(outcome),
                Poll::Pending if self.pipe.is_empty() => return Poll::Pending,
                Poll::Pending => {}
            }
        }
    }

    fn poll_call(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reply, Failure>> {
        let Some(calling) = &mut self.calling else { return Poll::Pending };
        let outcome = std::task::ready!(calling.as_mut().poll(cx));
        self.calling = None;
        if let Some(done) = self.done.take() {
            done(&outcome);
        }
        Poll::Ready(outcome)
    }

    /// The call is over. A stream that failed ends in the dialect's error: it must not look finished.
    fn over(&mut self, outcome: Result<Reply, Failure>) {
        // What the call told before it ended goes out first, and decides how it ends.
        let before = self.write();
        let end = match outcome {
            Ok(_) if self.is_passed => Vec::new(),
            Ok(_) => self.renderer.end(),
            Err(failure) => self.renderer.error(&failure),
        };
        self.end = if before.is_empty() { end.into() } else { [before, end.into()].concat().into() };
    }

    /// What was told and not written yet.
    fn write(&mut self) -> Bytes {
        // As a rule there is one frame, and it goes out in the memory it came in.
        let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
        let mut waiting = self.pipe.lock();
        for chunk in waiting.drain(..) {
            self.is_passed = matches!(chunk, Chunk::Frame(_));
            let bytes = match chunk {
                Chunk::Frame(frame) => {
                    self.renderer.pass(&frame);
                    if self.manner.is_unasked(&frame) { Bytes::new() } else { frame.bytes }
                }
                chunk => self.renderer.chunk(&chunk).into(),
            };
            if first.is_empty() {
                first = bytes;
                continue;
            }
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&bytes);
        }
        if rest.is_empty() { first } else { rest.freeze() }
    }
}

impl Manner {
    /// Whether a frame holds only a usage that we asked for and the client did not.
    fn is_unasked(self, frame: &backstop_call::Frame) -> bool {
        let only_usage = matches!(frame.says.as_slice(), [Chunk::Usage(_)]);
        only_usage && self.dialect == Dialect::Chat && !self.include_usage
    }
}

impl From<Flow> for Answer {
    fn from(flow: Flow) -> Self {
        Self::Stream(Box::new(flow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_call::Frame;

    /// A provider that is near has told its whole answer before anybody looks.
    #[tokio::test]
    async fn an_answer_that_is_there_at_once_keeps_its_headers() {
        let pipe = Pipe::default();
        let mut headers = http::HeaderMap::new();
        headers.insert("request-id", http::HeaderValue::from_static("req_1"));
        let head =
            Head { provider: "p".into(), model: "m".to_owned(), attempt: 1, headers, lost: Vec::new() };
        let frame = Frame { bytes: Bytes::from_static(b"data: {}\n\n"), says: Vec::new() };
        let mut sink = pipe.clone();
        let calling = Box::pin(async move {
            sink.send(Chunk::Head(Box::new(head)));
            sink.send(Chunk::Frame(frame));
            Ok(Reply::new("m", Vec::new(), backstop_call::StopReason::End, backstop_call::Usage::default()))
        });
        let manner = Manner { dialect: Dialect::Messages, include_usage: false, now: Timestamp::EPOCH };
        let mut flow = Flow::new(calling, pipe, manner, Box::new(|_| {}));
        let Begun::Comes(Some(head)) = flow.begin().await else { panic!("it comes, with its head") };
        assert_eq!(head.headers["request-id"], "req_1");
        let told = poll_fn(|cx| flow.poll_next(cx)).await;
        assert_eq!(told.as_deref(), Some(b"data: {}\n\n".as_slice()));
        assert_eq!(poll_fn(|cx| flow.poll_next(cx)).await, None);
    }
}
