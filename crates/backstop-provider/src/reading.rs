//! Reading an answer: whole or as it comes, in our words or as it is. Owns how far it was read when it fails; it opens no
//! connection and decides nothing about the next attempt.

use crate::body::{Body, BodyError};
use crate::model::HttpModel;
use crate::{estimate, pass};
use backstop_call::{
    Assembly, Call, Chunk, Code, Failure, FailureKind, Frame, Progress, Reply, Sink, Timestamp, deliver,
};
use backstop_wire::sse::{RawEvent, SseError, SseParser};
use backstop_wire::{StreamError, StreamParser};
use bytes::Bytes;
use http::response::Parts;
use std::time::Duration;

/// The most of one event of a stream: a tool call or an opaque thought may be large, a line without an end is no event.
const EVENT_BYTES_MAX: usize = 8 << 20;

/// An answer that began.
pub(crate) struct Reading<'a> {
    pub(crate) model: &'a HttpModel,
    pub(crate) call: &'a Call,
    /// Whether the client gets it as it is.
    pub(crate) passing: bool,
    pub(crate) started: Timestamp,
}

/// How far a stream has been read.
struct Progressed {
    parser: StreamParser,
    assembly: Assembly,
    /// Bytes of content, where the content itself is not kept.
    passed_bytes: usize,
    first_token: Option<Duration>,
}

impl Progressed {
    fn produced(&self) -> usize {
        self.assembly.content_chars() + self.passed_bytes
    }
}

impl Reading<'_> {
    /// A reply that comes in one piece. When a stream was asked for, the provider does not stream: its pieces are made
    /// here.
    pub(crate) async fn whole(&self, head: Parts, body: Body, sink: &mut dyn Sink) -> Result<Reply, Failure> {
        let bytes: Bytes = body.whole().await.map_err(body_failure)?.into();
        let first_token = Some(self.model.clock.now().since(self.started));
        let dialect = self.model.endpoint.dialect;
        if pass::is_count(self.call) {
            return count(&self.model.endpoint, head, bytes);
        }
        // Some servers say with 200 that they failed.
        let unread = |error| backstop_wire::failure_within(&bytes).unwrap_or_else(|| malformed(error));
        if self.passing && !self.call.request.stream {
            let (reply, told) = backstop_wire::skim_reply(dialect, &bytes).map_err(unread)?;
            let usage = estimate::usage_of(told, self.call, bytes.len());
            return Ok(Reply {
                usage,
                first_token,
                told: Some(pass::told(&self.model.endpoint, head, bytes)),
                ..reply
            });
        }
        let (reply, told) = backstop_wire::parse_reply(dialect, &bytes).map_err(unread)?;
        let usage = estimate::usage_of(told, self.call, estimate::content_bytes(&reply.content));
        let reply = Reply { usage, first_token, ..reply };
        if self.call.request.stream {
            for chunk in backstop_wire::chunks_of(&reply, usize::MAX) {
                if deliver(sink, chunk).await.is_err() {
                    let mut failure = cancelled();
                    failure.detail.usage = Some(reply.usage);
                    failure.detail.produced_chars = estimate::content_bytes(&reply.content);
                    return Err(failure);
                }
            }
        }
        Ok(reply)
    }

    /// A reply that comes as a stream.
    pub(crate) async fn stream(&self, body: Body, sink: &mut dyn Sink) -> Result<Reply, Failure> {
        let mut state = Progressed {
            parser: StreamParser::new(self.model.endpoint.dialect),
            assembly: Assembly::default(),
            passed_bytes: 0,
            first_token: None,
        };
        let outcome = self.pump(body, &mut state, sink).await;
        let produced = state.produced();
        let told = state.assembly.usage();
        let failed = |mut failure: Failure| {
            failure.detail.usage = failure.detail.usage.or(told);
            failure.detail.produced_chars = produced;
            failure.detail.unbilled &= produced == 0;
            failure
        };
        outcome.map_err(failed)?;
        let first_token = state.first_token;
        // A stop that came with no end of the stream behind it is a whole reply; an end without a stop is a cut.
        let (reply, told) = state.assembly.finish().ok_or_else(cut).map_err(failed)?;
        let usage = estimate::usage_of(told, self.call, produced);
        Ok(Reply { usage, first_token, ..reply })
    }

    /// Brings the pieces to the sink until the body ends. What goes wrong after the reply is whole does not matter.
    async fn pump(&self, mut body: Body, state: &mut Progressed, sink: &mut dyn Sink) -> Result<(), Failure> {
        let mut events = SseParser::new(EVENT_BYTES_MAX);
        loop {
            let mut data = match body.next().await {
                Ok(Some(data)) => data,
                // Whether a stream that ends is whole is for its parser to say, however it ends.
                Ok(None) | Err(BodyError::Cut) => break,
                Err(_) if state.parser.finished() => break,
                Err(error) => return Err(body_failure(error)),
            };
            while let Some(event) = events.take(&mut data).map_err(no_event)? {
                self.event(event, state, sink).await?;
            }
            if state.parser.finished() {
                body.hurry();
            }
        }
        for chunk in state.parser.eof() {
            self.forward(chunk, state, sink).await?;
        }
        if state.parser.finished() { Ok(()) } else { Err(cut()) }
    }

    /// One event: as it is, or in our words.
    async fn event(&self, raw: RawEvent, state: &mut Progressed, sink: &mut dyn Sink) -> Result<(), Failure> {
        let says = match raw.event().map_err(no_event)? {
            Some(event) => state.parser.push(&event).map_err(stream_failure)?,
            None => vec![Chunk::Ping],
        };
        if self.passing {
            let frame = Chunk::Frame(Frame { bytes: raw.bytes, says });
            return self.forward(frame, state, sink).await;
        }
        for chunk in says {
            self.forward(chunk, state, sink).await?;
        }
        Ok(())
    }

    async fn forward(
        &self,
        chunk: Chunk,
        state: &mut Progressed,
        sink: &mut dyn Sink,
    ) -> Result<(), Failure> {
        let is_content = chunk.is_content();
        if is_content && state.first_token.is_none() {
            state.first_token = Some(self.model.clock.now().since(self.started));
        }
        if let Chunk::Frame(frame) = &chunk {
            state.passed_bytes += if is_content { frame.bytes.len() } else { 0 };
            for told in frame.says.iter().filter(|told| !told.is_content()) {
                state.assembly.push(told);
            }
        } else {
            state.assembly.push(&chunk);
        }
        deliver(sink, chunk).await.map_err(|_| cancelled())
    }
}

/// The answer to a count of tokens.
fn count(endpoint: &crate::Endpoint, head: Parts, bytes: Bytes) -> Result<Reply, Failure> {
    let input_tokens = backstop_wire::read_count(&bytes).map_err(malformed)?;
    let usage = backstop_call::Usage { input_tokens, ..backstop_call::Usage::default() };
    let mut reply = Reply::new("", Vec::new(), backstop_call::StopReason::End, usage);
    reply.told = Some(pass::told(endpoint, head, bytes));
    Ok(reply)
}

pub(crate) fn cut() -> Failure {
    Failure::new(FailureKind::Transient, Progress::ResponseStarted, "the answer ended before it was whole")
        .with_code(Code::StreamCut)
}

pub(crate) fn cancelled() -> Failure {
    Failure::new(FailureKind::Cancelled, Progress::ResponseStarted, "the reader of the answer went away")
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn malformed(error: backstop_wire::WireError) -> Failure {
    Failure::new(FailureKind::Malformed, Progress::ResponseStarted, error.to_string())
}

fn body_failure(error: BodyError) -> Failure {
    match error {
        BodyError::Cut => cut(),
        BodyError::Idle => Failure::new(
            FailureKind::UnknownOutcome,
            Progress::ResponseStarted,
            "the answer stood still for too long",
        ),
        BodyError::TooLarge => {
            let message = format!("the answer is larger than {} bytes", crate::body::REPLY_BYTES_MAX);
            Failure::new(FailureKind::Malformed, Progress::ResponseStarted, message)
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn no_event(error: SseError) -> Failure {
    Failure::new(FailureKind::Malformed, Progress::ResponseStarted, error.to_string())
}

fn stream_failure(error: StreamError) -> Failure {
    match error {
        StreamError::Failed(failure) => failure,
        StreamError::Malformed(error) => malformed(error),
    }
}
