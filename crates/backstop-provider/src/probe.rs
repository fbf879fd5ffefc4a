//! Asks a provider for its list of models: whether it can be reached, takes the key, and has the models that config
//! names. Costs no tokens.

use crate::body::Body;
use crate::connection::Outgoing;
use crate::model::refusal;
use crate::{Endpoint, HttpClient, Timeouts};
use backstop_call::{Clock, Failure, FailureKind, Progress};
use http::header::{ACCEPT, HeaderValue, USER_AGENT};
use http::{HeaderMap, StatusCode};
use http_body_util::Full;
use serde::Deserialize;
use std::time::Duration;
use tokio::time::timeout;

/// How long a probe may take in all.
const PROBE: Duration = Duration::from_secs(5);

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeReport {
    /// The ids of its models, in its order; `None` when it has no list of them, so that the key is not proven either.
    pub models: Option<Vec<String>>,
    /// How long the answer took.
    pub took: Duration,
}

/// The list as every dialect writes it: `{"data": [{"id": …}]}`. llama.cpp and Ollama add fields, which do not matter.
#[derive(Deserialize)]
struct List {
    data: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
}

/// Asks for the list of models; at most five seconds. A failure is classified as that of a call.
pub async fn probe(
    client: &HttpClient,
    endpoint: &Endpoint,
    clock: &dyn Clock,
) -> Result<ProbeReport, Failure> {
    let timeouts = Timeouts { connect_ms: 5_000, first_byte_ms: 5_000, idle_ms: 5_000 };
    let asked = timeout(PROBE, ask(client, endpoint, clock, &timeouts)).await;
    let late = |_| Failure::new(FailureKind::Transient, Progress::Sent, "no answer in five seconds");
    asked.map_err(late).flatten().map_err(|failure| labelled(failure, endpoint))
}

/// The same with other limits and without a limit over all.
pub(crate) async fn ask(
    client: &HttpClient,
    endpoint: &Endpoint,
    clock: &dyn Clock,
    timeouts: &Timeouts,
) -> Result<ProbeReport, Failure> {
    let started = clock.now();
    let bad_key = |_| {
        let message = "the key holds characters that cannot be sent in a header";
        Failure::new(FailureKind::Auth, Progress::NotSent, message)
    };
    let mut headers: HeaderMap = endpoint.request_headers().map_err(bad_key)?;
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(crate::AGENT));
    let mut request = Outgoing::new(Full::default());
    *request.uri_mut() = endpoint.models_path();
    *request.headers_mut() = headers;
    let (head, arriving) = client.origin(&endpoint.base_url).send(request, timeouts).await?;
    let body = Body::new(arriving, timeouts.idle());
    let took = clock.now().since(started);
    if matches!(head.status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) {
        return Ok(ProbeReport { models: None, took });
    }
    if !head.status.is_success() {
        return Err(refusal(endpoint, head, body, clock).await);
    }
    let unreadable = || {
        Failure::new(FailureKind::Malformed, Progress::ResponseStarted, "the list of models cannot be read")
    };
    let bytes = body.whole().await.map_err(|_| unreadable())?;
    let list: List = serde_json::from_slice(&bytes).map_err(|_| unreadable())?;
    Ok(ProbeReport { models: Some(list.data.into_iter().map(|entry| entry.id).collect()), took })
}

fn labelled(mut failure: Failure, endpoint: &Endpoint) -> Failure {
    failure.detail.provider = Some(endpoint.name.clone());
    failure.detail.message = endpoint.scrub(&failure.detail.message).into();
    failure
}
