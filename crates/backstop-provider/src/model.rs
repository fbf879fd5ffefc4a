//! The leaf: one attempt of one call over HTTP. Owns the order of its steps and the context of its failures. It retries
//! nothing, waits for nothing and prices nothing; the stack does.

use crate::body::{Body, BodyError};
use crate::client::Outgoing;
use crate::{Endpoint, HttpClient, Timeouts, estimate, quirk};
use backstop_call::{
    Assembly, BoxFuture, Call, Clock, Code, Failure, FailureKind, LimitHint, Model, Progress, Reply, Request,
    Sink, Timestamp, deliver,
};
use backstop_wire::sse::SseParser;
use backstop_wire::{StreamError, StreamParser};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::response::Parts;
use http::{HeaderMap, Method};
use std::fmt;
use std::sync::Arc;

/// Carries the id of the reservation, so that a provider's bill can be held against ours. OpenAI logs it.
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-client-request-id");
/// The most of one event of a stream: a tool call or an opaque thought may be large, a line without an end is no event.
const EVENT_BYTES_MAX: usize = 8 << 20;
/// The most of a provider's id of a request that is kept.
const REQUEST_ID_BYTES_MAX: usize = 200;

/// One model of one provider, called over HTTP.
///
/// A [`Failure`] tells how far the request got: `NotSent` when nothing left this machine, `Sent` when something may
/// have, `ResponseStarted` from the first byte of an answer on. It never says `Committed`: whether content reached the
/// caller is known to who holds the caller's sink. A call that failed after it was sent is `unbilled` only when the
/// provider answered with an error before any content.
pub struct HttpModel {
    client: HttpClient,
    endpoint: Endpoint,
    model: String,
    timeouts: Timeouts,
    clock: Arc<dyn Clock>,
}

impl HttpModel {
    /// A model by the provider's id of it.
    pub fn new(
        client: HttpClient,
        endpoint: Endpoint,
        model: String,
        timeouts: Timeouts,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { client, endpoint, model, timeouts, clock }
    }

    async fn attempt(&self, call: Call, sink: &mut dyn Sink) -> Result<Reply, Failure> {
        let outgoing = self.outgoing(&call)?;
        let started = self.clock.now();
        let response = self.client.send(&outgoing, &self.timeouts).await?;
        drop(outgoing);
        let (head, incoming) = response.into_parts();
        let body = Body::new(incoming, self.timeouts.idle());
        if !head.status.is_success() {
            return Err(refusal(&self.endpoint, &head, body, &*self.clock).await);
        }
        let answer = if call.request.stream && is_event_stream(&head.headers) {
            let attempt = Stream { model: self, request: &call.request, started };
            attempt.read(body, sink).await
        } else {
            self.whole(body, &call.request, started, sink).await
        };
        let limits = backstop_wire::rate_limits(self.endpoint.dialect, &head.headers);
        match answer {
            Ok(reply) => Ok(Reply { request_id: request_id(&head.headers), limits, ..reply }),
            Err(failure) => Err(with_head(failure, &head, limits)),
        }
    }

    fn outgoing(&self, call: &Call) -> Result<Outgoing, Failure> {
        if let Some(held) = backstop_wire::depends_on_provider(&call.request)
            && held.dialect != self.endpoint.dialect
        {
            return Err(held_elsewhere(held));
        }
        let bad_key = |_| {
            let message = "the key holds characters that cannot be sent in a header";
            Failure::new(FailureKind::Auth, Progress::NotSent, message)
        };
        let mut headers = self.endpoint.request_headers().map_err(bad_key)?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let accept = if call.request.stream { "text/event-stream" } else { "application/json" };
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        headers.insert(USER_AGENT, HeaderValue::from_static(crate::AGENT));
        if let Ok(id) = HeaderValue::from_str(call.reservation().as_str()) {
            headers.insert(CLIENT_REQUEST_ID, id);
        }
        let body = self.body(&call.request);
        Ok(Outgoing { method: Method::POST, uri: self.endpoint.call_uri(), headers, body })
    }

    fn body(&self, request: &Request) -> Bytes {
        let dialect = self.endpoint.dialect;
        let rendered = if request.model == self.model {
            backstop_wire::render_request(dialect, request)
        } else {
            let request = Request { model: self.model.clone(), ..request.clone() };
            backstop_wire::render_request(dialect, &request)
        };
        quirk::apply(&self.endpoint.quirks, rendered).into()
    }

    /// A reply that comes in one piece. When a stream was asked for, the provider does not stream: its pieces are made here.
    async fn whole(
        &self,
        body: Body,
        request: &Request,
        started: Timestamp,
        sink: &mut dyn Sink,
    ) -> Result<Reply, Failure> {
        let bytes = body.whole().await.map_err(body_failure)?;
        let first_token = Some(self.clock.now().since(started));
        let malformed = |error: backstop_wire::WireError| {
            let told = backstop_wire::failure_within(&bytes);
            let unread =
                || Failure::new(FailureKind::Malformed, Progress::ResponseStarted, error.to_string());
            told.unwrap_or_else(unread)
        };
        let (reply, told) = backstop_wire::parse_reply(self.endpoint.dialect, &bytes).map_err(malformed)?;
        let usage = estimate::usage_of(told, request, estimate::content_bytes(&reply.content));
        let reply = Reply { usage, first_token, ..reply };
        if request.stream {
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

    /// What every failure here carries; and no text from outside keeps the key or the address.
    fn label(&self, mut failure: Failure) -> Failure {
        let detail = &mut failure.detail;
        detail.provider = Some(self.endpoint.name.clone());
        detail.message = self.endpoint.scrub(&detail.message);
        detail.provider_code = detail.provider_code.take().map(|code| self.endpoint.scrub(&code));
        detail.request_id = detail.request_id.take().map(|id| self.endpoint.scrub(&id));
        failure
    }
}

impl Model for HttpModel {
    fn call<'a>(&'a self, call: Call, sink: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        Box::pin(async move { self.attempt(call, sink).await.map_err(|failure| self.label(failure)) })
    }
}

impl fmt::Debug for HttpModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpModel")
            .field("endpoint", &self.endpoint)
            .field("model", &self.model)
            .field("timeouts", &self.timeouts)
            .finish_non_exhaustive()
    }
}

/// A streamed answer.
struct Stream<'a> {
    model: &'a HttpModel,
    request: &'a Request,
    started: Timestamp,
}

impl Stream<'_> {
    async fn read(&self, body: Body, sink: &mut dyn Sink) -> Result<Reply, Failure> {
        let mut state = Reading {
            parser: StreamParser::new(self.model.endpoint.dialect),
            assembly: Assembly::default(),
            first_token: None,
        };
        let outcome = self.pump(body, &mut state, sink).await;
        let produced = state.assembly.content_chars();
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
        let usage = estimate::usage_of(told, self.request, produced);
        Ok(Reply { usage, first_token, ..reply })
    }

    /// Brings the pieces to the sink until the body ends. What goes wrong after the reply is whole does not matter.
    async fn pump(&self, mut body: Body, state: &mut Reading, sink: &mut dyn Sink) -> Result<(), Failure> {
        let mut events = SseParser::new(EVENT_BYTES_MAX);
        loop {
            let data = match body.next().await {
                Ok(Some(data)) => data,
                // Whether a stream that ends is whole is for its parser to say, however it ends.
                Ok(None) | Err(BodyError::Cut) => break,
                Err(_) if state.parser.finished() => break,
                Err(error) => return Err(body_failure(error)),
            };
            let malformed = |error: backstop_wire::sse::SseError| {
                Failure::new(FailureKind::Malformed, Progress::ResponseStarted, error.to_string())
            };
            for event in events.push(&data).map_err(malformed)? {
                let chunks = state.parser.push(&event).map_err(stream_failure)?;
                self.forward(chunks, state, sink).await?;
            }
            if state.parser.finished() {
                body.hurry();
            }
        }
        let rest = state.parser.eof();
        self.forward(rest, state, sink).await?;
        if state.parser.finished() { Ok(()) } else { Err(cut()) }
    }

    async fn forward(
        &self,
        chunks: Vec<backstop_call::Chunk>,
        state: &mut Reading,
        sink: &mut dyn Sink,
    ) -> Result<(), Failure> {
        for chunk in chunks {
            if chunk.is_content() && state.first_token.is_none() {
                state.first_token = Some(self.model.clock.now().since(self.started));
            }
            state.assembly.push(&chunk);
            deliver(sink, chunk).await.map_err(|_| cancelled())?;
        }
        Ok(())
    }
}

/// A part of a conversation is never sent as if it were the whole.
fn held_elsewhere(held: backstop_wire::HeldElsewhere) -> Failure {
    let message =
        format!("the request refers to {} that another provider holds; send the whole instead", held.what);
    let mut failure = Failure::new(FailureKind::Invalid, Progress::NotSent, message);
    failure.detail.provider_code = held.code.map(str::to_owned);
    failure
}

/// How far a stream has been read.
struct Reading {
    parser: StreamParser,
    assembly: Assembly,
    first_token: Option<std::time::Duration>,
}

/// What an answer that is no success means. A redirect is not followed: the key would go to an address that nobody gave.
pub(crate) async fn refusal(endpoint: &Endpoint, head: &Parts, body: Body, clock: &dyn Clock) -> Failure {
    if head.status.is_redirection() {
        let message = "the provider redirects to another address; the base-url is wrong";
        let mut failure = Failure::new(FailureKind::Invalid, Progress::ResponseStarted, message);
        failure.detail.unbilled = true;
        return with_head(failure, head, LimitHint::default());
    }
    let bytes = body.error().await;
    backstop_wire::classify(endpoint.dialect, head.status.as_u16(), &head.headers, &bytes, clock.now())
}

fn cut() -> Failure {
    Failure::new(FailureKind::Transient, Progress::ResponseStarted, "the answer ended before it was whole")
        .with_code(Code::StreamCut)
}

fn cancelled() -> Failure {
    Failure::new(FailureKind::Cancelled, Progress::ResponseStarted, "the reader of the answer went away")
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

fn stream_failure(error: StreamError) -> Failure {
    match error {
        StreamError::Failed(failure) => failure,
        StreamError::Malformed(error) => {
            Failure::new(FailureKind::Malformed, Progress::ResponseStarted, error.to_string())
        }
    }
}

fn with_head(mut failure: Failure, head: &Parts, limits: LimitHint) -> Failure {
    failure.detail.status = Some(head.status.as_u16());
    failure.detail.request_id = request_id(&head.headers);
    failure.detail.limits = limits;
    failure
}

/// The provider's id of a request: `request-id` is Anthropic's, `x-request-id` OpenAI's and most others'.
fn request_id(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("request-id").or_else(|| headers.get("x-request-id"))?.to_str().ok()?;
    (value.len() <= REQUEST_ID_BYTES_MAX).then(|| value.to_owned())
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    // Some servers that speak the dialect leave the type out; only what says that it is JSON is read as JSON.
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    !kind.trim_start().to_ascii_lowercase().starts_with("application/json")
}
