//! The leaf: one attempt of one call over HTTP. Owns the order of its steps and the context of its failures. It retries
//! nothing, waits for nothing and prices nothing; the stack does.

use crate::body::Body;
use crate::client::Outgoing;
use crate::reading::{Reading, cancelled};
use crate::{Endpoint, HttpClient, Timeouts, estimate, pass, quirk};
use backstop_call::{
    BoxFuture, Call, Chunk, Clock, Dialect, Failure, FailureKind, Head, LimitHint, Model, Progress, Reply,
    Request, Sink, Source, StopReason, Usage, deliver,
};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::response::Parts;
use http::{HeaderMap, Method, Uri};
use std::fmt;
use std::sync::Arc;

/// Carries the id of the reservation, so that a provider's bill can be held against ours. OpenAI logs it.
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-client-request-id");
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
    pub(crate) endpoint: Endpoint,
    model: String,
    timeouts: Timeouts,
    pub(crate) clock: Arc<dyn Clock>,
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
        let Some(uri) = self.uri(&call) else { return Ok(self.counted(&call)) };
        let passing = pass::passing(&self.endpoint, &call).cloned();
        let (body, lost) = self.body(&call, passing.as_deref())?;
        let headers = self.headers(&call, passing.as_deref())?;
        let outgoing = Outgoing { method: Method::POST, uri, headers, body };
        let started = self.clock.now();
        let response = self.client.send(&outgoing, &self.timeouts).await?;
        drop(outgoing);
        let (head, incoming) = response.into_parts();
        let body = Body::new(incoming, self.timeouts.idle());
        if !head.status.is_success() {
            let failure = refusal(&self.endpoint, &head, body, &*self.clock).await;
            return Err(if passing.is_some() { failure } else { untold(failure) });
        }
        let reading = Reading { model: self, call: &call, passing: passing.is_some(), started };
        let is_stream = call.request.stream && is_event_stream(&head.headers);
        if call.source.is_some() && call.request.stream {
            let told = self.head(&call, &head, passing.is_some() && is_stream, lost.clone());
            deliver(sink, told).await.map_err(|_| cancelled())?;
        }
        let answer =
            if is_stream { reading.stream(body, sink).await } else { reading.whole(&head, body, sink).await };
        let limits = backstop_wire::rate_limits(self.endpoint.dialect, &head.headers);
        match answer {
            Ok(reply) => Ok(Reply { request_id: request_id(&head.headers), limits, lost, ..reply }),
            Err(failure) => Err(with_head(failure, &head, limits)),
        }
    }

    /// Where the call goes; nowhere, when its tokens are to be counted and this provider cannot.
    fn uri(&self, call: &Call) -> Option<Uri> {
        if !pass::is_count(call) {
            return Some(self.endpoint.call_uri());
        }
        pass::passing(&self.endpoint, call).and_then(|_| self.endpoint.count_uri())
    }

    /// The answer to a count that the provider cannot make.
    fn counted(&self, call: &Call) -> Reply {
        let usage = Usage { output_tokens: 0, ..estimate::usage_of(None, call, 0) };
        Reply::new(self.model.clone(), Vec::new(), StopReason::End, usage)
    }

    fn headers(&self, call: &Call, passing: Option<&Source>) -> Result<HeaderMap, Failure> {
        let bad_key = |_| {
            let message = "the key holds characters that cannot be sent in a header";
            Failure::new(FailureKind::Auth, Progress::NotSent, message)
        };
        let own = self.endpoint.request_headers().map_err(bad_key)?;
        let mut headers = match passing {
            Some(source) => pass::request_headers(own, source),
            None => own,
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let accept = if call.request.stream { "text/event-stream" } else { "application/json" };
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(crate::AGENT));
        if let Ok(id) = HeaderValue::from_str(call.reservation().as_str()) {
            headers.insert(CLIENT_REQUEST_ID, id);
        }
        Ok(headers)
    }

    /// The body as this provider takes it, and what of the request it does not hold.
    fn body(&self, call: &Call, passing: Option<&Source>) -> Result<(Bytes, Vec<String>), Failure> {
        let (dialect, quirks) = (self.endpoint.dialect, &self.endpoint.quirks);
        if let Some(source) = passing {
            return Ok((pass::body(source, &self.model, quirks, call.request.stream), Vec::new()));
        }
        let (mut request, mut lost) = match &call.source {
            Some(source) => pass::whole(call, source)?,
            None => (Request::clone(&call.request), Vec::new()),
        };
        if let Some(held) = backstop_wire::depends_on_provider(&request)
            && held.dialect != dialect
        {
            return Err(held_elsewhere(held));
        }
        request.model.clone_from(&self.model);
        let (rendered, not_carried) = backstop_wire::render_request_telling(dialect, &request);
        lost.extend(not_carried.into_iter().map(str::to_owned));
        Ok((quirk::apply(quirks, rendered).into(), lost))
    }

    /// Who answers, for a client that reads as it comes.
    fn head(&self, call: &Call, head: &Parts, is_passed: bool, lost: Vec<String>) -> Chunk {
        let headers = if is_passed { pass::answer_headers(&self.endpoint, head) } else { HeaderMap::new() };
        let (provider, model) = (self.endpoint.name.clone(), self.model.clone());
        Chunk::Head(Box::new(Head { provider, model, attempt: call.attempt, headers, lost }))
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

/// A part of a conversation is never sent as if it were the whole.
fn held_elsewhere(held: backstop_wire::HeldElsewhere) -> Failure {
    // Clients of Responses refer to what was stored, unless they are told to store nothing.
    let how = if held.dialect == Dialect::Responses { ", with `store` set to false" } else { "" };
    let what = held.what;
    let message =
        format!("the request refers to {what} that another provider holds; send the whole instead{how}");
    let mut failure = Failure::new(FailureKind::Invalid, Progress::NotSent, message);
    failure.detail.provider_code = held.code.map(str::to_owned);
    failure
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
    let mut failure =
        backstop_wire::classify(endpoint.dialect, head.status.as_u16(), &head.headers, &bytes, clock.now());
    // What is about the client's request is the client's to read; what is about our key or share is not.
    let is_clients =
        matches!(failure.kind, FailureKind::Invalid | FailureKind::ContextLength | FailureKind::Policy);
    let text = std::str::from_utf8(&bytes).ok().filter(|_| is_clients).unwrap_or_default();
    failure.detail.told = Some(pass::told(endpoint, head, Bytes::from(endpoint.scrub(text))));
    failure
}

/// Without the answer as it came: the client would not understand it.
fn untold(mut failure: Failure) -> Failure {
    failure.detail.told = None;
    failure
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
