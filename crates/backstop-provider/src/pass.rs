//! What a client sent and a provider answered goes through as it is, where both speak the same dialect: the few bytes that
//! change on the way, the headers that go along, the answer's events. Pure.

use crate::{Endpoint, Quirk};
use backstop_call::{
    Call, Edit, Failure, FailureKind, Progress, Purpose, Request, Source, Told, Whole, apply, headers_kept,
};
use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use http::response::Parts;
use std::sync::Arc;

/// What the client sent, when this endpoint takes it as it is.
pub(crate) fn passing<'a>(endpoint: &Endpoint, call: &'a Call) -> Option<&'a Arc<Source>> {
    call.source.as_ref().filter(|source| source.dialect == endpoint.dialect)
}

/// The body for this provider: with its own name of the model (as JSON has it), and the provider's name of the output limit where it has
/// another; a stream is asked for its usage.
pub(crate) fn body(source: &Source, model: &str, quirks: &[Quirk], is_stream: bool) -> Bytes {
    let places = &source.places;
    let mut edits = Vec::new();
    if source.body[places.model.clone()] != *model.as_bytes() {
        edits.push(Edit { range: places.model.clone(), with: model.to_owned() });
    }
    edits.extend(limit_name(source, quirks));
    if source.dialect == backstop_call::Dialect::Chat && is_stream {
        edits.extend(ask_for_usage(source, quirks));
    }
    edits.sort_by_key(|edit| edit.range.start);
    apply(&source.body, &edits)
}

fn limit_name(source: &Source, quirks: &[Quirk]) -> Option<Edit> {
    let place = source.places.output_limit_name.clone()?;
    let name = quirks.iter().find_map(|quirk| match quirk {
        Quirk::MaxTokens => Some("\"max_tokens\""),
        Quirk::MaxCompletionTokens => Some("\"max_completion_tokens\""),
        Quirk::NoStreamOptions => None,
    })?;
    (source.body[place.clone()] != *name.as_bytes()).then(|| Edit { range: place, with: name.to_owned() })
}

/// Without it a stream of Chat tells no usage.
fn ask_for_usage(source: &Source, quirks: &[Quirk]) -> Option<Edit> {
    const FIELD: &str = "\"include_usage\":true";
    if quirks.contains(&Quirk::NoStreamOptions) {
        return None;
    }
    match source.places.stream_options.clone() {
        None => {
            let range = source.places.front..source.places.front;
            Some(Edit { range, with: format!("\"stream_options\":{{{FIELD}}},") })
        }
        Some(range) => {
            let told: serde_json::Value = serde_json::from_slice(&source.body[range.clone()]).ok()?;
            if told["include_usage"] == true {
                return None;
            }
            let mut options = told.as_object().cloned().unwrap_or_default();
            options.insert("include_usage".to_owned(), true.into());
            Some(Edit { range, with: serde_json::Value::from(options).to_string() })
        }
    }
}

/// Adds the client's headers to the endpoint's: a key of ours or a header from config is never replaced, but the versions and
/// betas of the dialect are the client's.
pub(crate) fn add_headers(headers: &mut HeaderMap, source: &Source) {
    let is_clients = |name: &str| name.starts_with("anthropic-") || name.starts_with("openai-");
    for name in source.headers.keys() {
        if headers.contains_key(name) {
            if !is_clients(name.as_str()) {
                continue;
            }
            headers.remove(name);
        }
        for value in source.headers.get_all(name) {
            headers.append(name.clone(), value.clone());
        }
    }
}

/// The headers of an answer that are the client's business: none of one connection, of its encoding, or of the machine that
/// answered. None of them tells our key or where the provider is.
pub(crate) fn answer_headers(endpoint: &Endpoint, headers: HeaderMap) -> HeaderMap {
    let mut headers = headers_kept(headers, |name| !is_own(name.as_str()));
    for value in headers.values_mut() {
        if let Ok(text) = value.to_str()
            && endpoint.is_told_by(text)
        {
            // What is put in place is made of letters that a header takes.
            *value = HeaderValue::from_str(&endpoint.scrub(text)).unwrap_or(HeaderValue::from_static(""));
        }
    }
    headers
}

fn is_own(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "transfer-encoding"
            | "te"
            | "trailer"
            | "upgrade"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "content-length"
            | "content-encoding"
            | "set-cookie"
            | "alt-svc"
            | "strict-transport-security"
            | "server"
            | "date"
            | "via"
            | "location"
    )
}

/// An answer as it came.
pub(crate) fn told(endpoint: &Endpoint, head: Parts, body: Bytes) -> Box<Told> {
    Box::new(Told { status: head.status, headers: answer_headers(endpoint, head.headers), body })
}

/// Whether only the tokens are to be counted.
pub(crate) fn is_count(call: &Call) -> bool {
    call.source.as_ref().is_some_and(|source| source.purpose == Purpose::Count)
}

/// The whole request of a call in our words, for a provider that takes another dialect than the client speaks; and what the
/// reader left out. It is read once for all attempts.
pub(crate) fn whole(call: &Call, source: &Source) -> Result<(Request, Vec<String>), Failure> {
    let read = || {
        let read = backstop_wire::parse_request_telling(source.dialect, &source.body);
        let whole = |(request, left_out)| Whole { request: Arc::new(request), left_out };
        read.map(whole).map_err(|error| error.to_string())
    };
    let invalid = |why: &String| Failure::new(FailureKind::Invalid, Progress::NotSent, why.clone());
    let whole = source.canonical.get_or_init(read).as_ref().map_err(invalid)?;
    let mut request = Request::clone(&whole.request);
    request.max_tokens = call.request.max_tokens.or(request.max_tokens);
    Ok((request, whole.left_out.clone()))
}
