//! The leaf: one attempt of one call over HTTP. Owns the order of its steps and the context of its failures. It retries
//! nothing, waits for nothing and prices nothing; the stack does.

use crate::body::Body;
use crate::client::Origin;
use crate::connection::Outgoing;
use crate::reading::{Reading, cancelled};
use crate::{Endpoint, HttpClient, Timeouts, estimate, pass, quirk};
use backstop_call::{
    BoxFuture, Call, Chunk, Clock, Dialect, Failure, FailureKind, Head, LimitHint, Model, Progress, Reply,
    Request, Sink, Source, StopReason, Usage, deliver,
};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue, InvalidHeaderValue, USER_AGENT};
use http::response::Parts;
use http::{HeaderMap, Method, Uri};
use http_body_util::Full;
use std::fmt;
use std::mem;
use std::sync::Arc;

/// Carries the id of the reservation, so that a provider's bill can be held against ours. OpenAI logs it.
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-client-request-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The most of a provider's id of a request that is kept.
const REQUEST_ID_BYTES_MAX: usize = 200;

/// One model of one provider, called over HTTP.
///
/// A [`Failure`] tells how far the request got: `NotSent` when nothing left this machine, `Sent` when something may
/// have, `ResponseStarted` from the first byte of an answer on. It never says `Committed`: whether content reached the
/// caller is known to who holds the caller's sink. A call that failed after it was sent is `unbilled` only when the
/// provider answered with an error before any content.
pub struct HttpModel {
    origin: Arc<Origin>,
    pub(crate) endpoint: Endpoint,
    model: String,
    own: Own,
    timeouts: Timeouts,
    pub(crate) clock: Arc<dyn Clock>,
}

/// What is the same in every request to a model.
struct Own {
    /// The path where calls are posted to.
    call: Uri,
    /// The path where tokens are counted, where there is one.
    count: Option<Uri>,
    /// The endpoint's headers; an error when its key cannot stand in one.
    headers: Result<HeaderMap, InvalidHeaderValue>,
    /// The model, as JSON has it.
    model: String,
}

impl Own {
    fn of(endpoint: &Endpoint, model: &str) -> Self {
        let headers = endpoint.request_headers().map(|mut headers| {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers
        });
        let model = serde_json::Value::from(model).to_string();
        Self { call: endpoint.call_path(), count: endpoint.count_path(), headers, model }
    }
}

impl HttpModel {
    /// A model by the provider's id of it.
    pub fn new(
        client: &HttpClient,
        endpoint: Endpoint,
        model: String,
        timeouts: Timeouts,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let own = Own::of(&endpoint, &model);
        Self { origin: client.origin(&endpoint.base_url), endpoint, model, own, timeouts, clock }
    }

    async fn attempt(&self, call: Call, sink: &mut dyn Sink) -> Result<Reply, Failure> {
        let Some(path) = self.path(&call) else { return Ok(self.counted(&call)) };
        let passing = pass::passing(&self.endpoint, &call).map(|source| &**source);
        let (body, lost) = self.body(&call, passing)?;
        let mut request = Outgoing::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path.clone();
        *request.headers_mut() = self.headers(&call, passing)?;
        let is_passed = passing.is_some();
        let started = self.clock.now();
        let (mut head, arriving) = self.origin.send(request, &self.timeouts).await?;
        let body = Body::new(arriving, self.timeouts.idle());
        if !head.status.is_success() {
            // In a box, as all that few calls need: the others are the smaller for it.
            let failure = Box::pin(refusal(&self.endpoint, head, body, &*self.clock)).await;
            return Err(if is_passed { failure } else { untold(failure) });
        }
        let top = Top::of(&head, self.endpoint.dialect);
        let reading = Reading { model: self, call: &call, passing: is_passed, started };
        let is_stream = call.request.stream && is_event_stream(&head.headers);
        if call.source.is_some() && call.request.stream {
            let headers =
                if is_passed && is_stream { mem::take(&mut head.headers) } else { HeaderMap::new() };
            deliver(sink, self.head(&call, headers, lost.clone())).await.map_err(|_| cancelled())?;
        }
        let answer = if is_stream {
            Box::pin(reading.stream(body, sink)).await
        } else {
            reading.whole(head, body, sink).await
        };
        match answer {
            Ok(reply) => Ok(Reply { request_id: top.request_id, limits: top.limits, lost, ..reply }),
            Err(failure) => Err(top.with(failure)),
        }
    }

    /// Where the call goes; nowhere, when its tokens are to be counted and this provider cannot.
    fn path(&self, call: &Call) -> Option<&Uri> {
        if !pass::is_count(call) {
            return Some(&self.own.call);
        }
        pass::passing(&self.endpoint, call).and(self.own.count.as_ref())
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
        let mut headers = self.own.headers.as_ref().map_err(bad_key)?.clone();
        if let Some(source) = passing {
            pass::add_headers(&mut headers, source);
        }
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
            return Ok((pass::body(source, &self.own.model, quirks, call.request.stream), Vec::new()));
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
    fn head(&self, call: &Call, headers: HeaderMap, lost: Vec<String>) -> Chunk {
        let headers = pass::answer_headers(&self.endpoint, headers);
        let (provider, model) = (self.endpoint.name.clone(), self.model.clone());
        Chunk::Head(Box::new(Head { provider, model, attempt: call.attempt, headers, lost }))
    }

    /// What every failure here carries; and no text from outside keeps the key or the address.
    fn label(&self, mut failure: Failure) -> Failure {
        let detail = &mut failure.detail;
        detail.provider = Some(self.endpoint.name.clone());
        detail.message = self.endpoint.scrub(&detail.message).into();
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

/// What the head of an answer tells, whatever becomes of its body.
struct Top {
    status: u16,
    request_id: Option<String>,
    limits: LimitHint,
}

impl Top {
    fn of(head: &Parts, dialect: Dialect) -> Self {
        Self {
            status: head.status.as_u16(),
            request_id: request_id(&head.headers),
            limits: backstop_wire::rate_limits(dialect, &head.headers),
        }
    }

    fn with(self, mut failure: Failure) -> Failure {
        failure.detail.status = Some(self.status);
        failure.detail.request_id = self.request_id;
        failure.detail.limits = self.limits;
        failure
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
pub(crate) async fn refusal(endpoint: &Endpoint, head: Parts, body: Body, clock: &dyn Clock) -> Failure {
    if head.status.is_redirection() {
        let message = "the provider redirects to another address; the base-url is wrong";
        let mut failure = Failure::new(FailureKind::Invalid, Progress::ResponseStarted, message);
        failure.detail.unbilled = true;
        failure.detail.status = Some(head.status.as_u16());
        failure.detail.request_id = request_id(&head.headers);
        return failure;
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

/// The provider's id of a request: `request-id` is Anthropic's, `x-request-id` OpenAI's and most others'.
fn request_id(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(REQUEST_ID).or_else(|| headers.get(X_REQUEST_ID))?.to_str().ok()?;
    (value.len() <= REQUEST_ID_BYTES_MAX).then(|| value.to_owned())
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    // Some servers that speak the dialect leave the type out; only what says that it is JSON is read as JSON.
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    !kind.trim_start().to_ascii_lowercase().starts_with("application/json")
}
