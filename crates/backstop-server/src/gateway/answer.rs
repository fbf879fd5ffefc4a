//! Answers: the type of every response's body, and the headers that each has. What a failure looks like in a dialect is
//! known to `backstop-wire`.

use super::stream::Flow;
use crate::dashboard::Notices;
use crate::keys::KeyRefusal;
use backstop_call::{AttemptRecord, CallId, Code, Dialect, Failure, FailureKind, Money, Progress, Told};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use serde_json::Value;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A response's body.
pub(crate) enum Answer {
    /// There already.
    Whole(Option<Bytes>),
    /// As it comes.
    Stream(Box<Flow>),
    /// What happens, for a page that is open.
    Notices(Notices),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(flow) => flow.poll_next(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes)))),
            Self::Notices(notices) => {
                notices.poll_next(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(_) | Self::Notices(_) => SizeHint::default(),
        }
    }
}

/// A response.
pub(crate) type Reply = Response<Answer>;

/// A response with a status, headers and a whole body.
pub(crate) fn whole(status: StatusCode, headers: HeaderMap, body: impl Into<Bytes>) -> Reply {
    let mut response = Response::new(Answer::Whole(Some(body.into())));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// JSON of ours.
pub(crate) fn json(status: StatusCode, body: &Value) -> Reply {
    let headers =
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    whole(status, headers, body.to_string())
}

/// A failure in a dialect. What the provider said of the client's own request is told as the provider said it.
pub(crate) fn failed(dialect: Dialect, mut failure: Failure, call: Option<&CallId>) -> Reply {
    if failure.code() == Code::DatabaseUnusable {
        // Where our files are and what ails them is for the log and for `/api/health`.
        failure.detail.message = "the gateway cannot write its books; nothing was sent".into();
    }
    let told = failure.detail.told.take();
    let mut response = match told {
        Some(told) if !told.body.is_empty() => {
            let Told { status, headers, body } = *told;
            whole(status, headers, body)
        }
        told => {
            let (status, rendered, body) = backstop_wire::render_error(dialect, &failure);
            let mut headers = told.map(|told| shares_of(told.headers)).unwrap_or_default();
            for (name, value) in rendered {
                headers.insert(name, value);
            }
            whole(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), headers, body)
        }
    };
    let headers = response.headers_mut();
    put(headers, CODE, failure.code().to_string());
    note_attempts(headers, &failure.detail.attempts);
    note_call(dialect, headers, call);
    response
}

/// The headers of ours.
pub(crate) const MODEL: HeaderName = HeaderName::from_static("x-backstop-model");
pub(crate) const ATTEMPTS: HeaderName = HeaderName::from_static("x-backstop-attempts");
pub(crate) const ESTIMATED: HeaderName = HeaderName::from_static("x-backstop-estimated");
pub(crate) const CODE: HeaderName = HeaderName::from_static("x-backstop-code");
const COST: HeaderName = HeaderName::from_static("x-backstop-cost");
const BUDGET_LEFT: HeaderName = HeaderName::from_static("x-backstop-budget-left");
const LOST: HeaderName = HeaderName::from_static("x-backstop-lost");
const CALL: HeaderName = HeaderName::from_static("x-backstop-call");

/// The dialects' own ids of a request.
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Of a provider's headers those that tell what is left of a share: clients slow down by them.
fn shares_of(headers: HeaderMap) -> HeaderMap {
    let is_share = |name: &HeaderName| name.as_str().contains("ratelimit");
    headers
        .into_iter()
        .filter_map(|(name, value)| Some((name?, value)))
        .filter(|(name, _)| is_share(name))
        .collect()
}

/// A key that does not open.
pub(crate) fn refused(refusal: &KeyRefusal) -> Failure {
    let kind = if refusal.status() == 429 { FailureKind::Throttled } else { FailureKind::Auth };
    let message = format!("{refusal}; {}", refusal.hint());
    let mut failure = Failure::new(kind, Progress::NotSent, message)
        .with_code(refusal.code())
        .with_retry_after(refusal.retry_after());
    failure.detail.status = Some(refusal.status());
    // The key is good, and this is not what it is for.
    failure.detail.provider_code = (refusal.status() == 403).then(|| "permission_denied".to_owned());
    failure
}

/// Who answered, after how many attempts, at what cost.
pub(crate) fn note_attempts(headers: &mut HeaderMap, attempts: &[AttemptRecord]) {
    let Some(last) = attempts.last() else { return };
    put(headers, MODEL, [last.provider.as_str(), "/", &last.model].concat());
    put(headers, ATTEMPTS, attempts.len().to_string());
    let cost: Money = attempts.iter().map(|attempt| attempt.cost).sum();
    put(headers, COST, cost.to_string());
}

/// What is left of the budget that has the least left, where it is known.
pub(crate) fn note_left(headers: &mut HeaderMap, left: Option<Money>) {
    if let Some(left) = left {
        put(headers, BUDGET_LEFT, left.to_string());
    }
}

/// What could not be carried over.
pub(crate) fn note_lost(headers: &mut HeaderMap, lost: &[String]) {
    if !lost.is_empty() {
        put(headers, LOST, lost.join(", "));
    }
}

/// The id of the call: also as the dialect's own header where the provider gave none.
pub(crate) fn note_call(dialect: Dialect, headers: &mut HeaderMap, call: Option<&CallId>) {
    let Some(call) = call else { return };
    let Ok(id) = HeaderValue::from_str(call.as_str()) else { return };
    let own = match dialect {
        Dialect::Messages => REQUEST_ID,
        Dialect::Chat | Dialect::Responses => X_REQUEST_ID,
    };
    headers.entry(own).or_insert_with(|| id.clone());
    headers.insert(CALL, id);
}

/// Adds a header of ours; what cannot stand in one is left out.
pub(crate) fn put(headers: &mut HeaderMap, name: HeaderName, mut value: String) {
    if value.bytes().any(|byte| byte.is_ascii_control()) {
        value.retain(|c| !c.is_control());
    }
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}
