//! Requests to answers: paths, keys, refusals, faults.

use super::body::{ScriptBody, Severed};
use super::script::{HANG_MS, Script, Terms, script};
use super::validate::{Refusal, check};
use super::{DEFAULT_PROVIDER, Desk, FAULT_HEADER, ModelSpec};
use crate::bill::Meter;
use crate::scenario::Asked;
use crate::{Billing, Charge, ErrorAnswer, Fault, Hint, Row, Seen, draw, tokens};
use backstop_call::{Dialect, Money, Request};
use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio::time::sleep;

type Answer = Response<ScriptBody>;

/// The largest request that is taken: 32 MiB, as Anthropic's.
const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What the rate-limit headers say may be sent in a minute. Nothing is held to it: scenarios do the limiting.
const REQUESTS_PER_MINUTE: u64 = 100_000;
const TOKENS_PER_MINUTE: u64 = 100_000_000;

/// Answers one request. An error closes the connection without a byte.
pub(super) async fn answer(desk: &Desk, request: http::Request<Incoming>) -> Result<Answer, Severed> {
    let (head, body) = request.into_parts();
    let (provider, path) = provider_of(head.uri.path());
    let (provider, path) = (provider.to_owned(), path.to_owned());
    let found = match (&head.method, path.as_str()) {
        (&Method::HEAD | &Method::GET, "/") => {
            json(200, &json!({"name": "backstop-sim", "provider": provider}))
        }
        (&Method::GET, "/sim/bill") => json(200, &json!(desk.books.bill())),
        (&Method::GET, "/sim/requests") => json(200, &json!(desk.books.seen())),
        (&Method::POST, "/sim/reset") => {
            desk.reset();
            json(200, &json!({"reset": true}))
        }
        (&Method::GET, "/v1/models") => models(desk, &head.headers),
        (
            &Method::POST,
            "/v1/messages" | "/v1/messages/count_tokens" | "/v1/chat/completions" | "/v1/responses",
        ) => {
            let dialect = match path.as_str() {
                "/v1/chat/completions" => Dialect::Chat,
                "/v1/responses" => Dialect::Responses,
                _ => Dialect::Messages,
            };
            let inlet = Inlet { dialect, provider, path, headers: head.headers };
            return inlet.answer(desk, body).await;
        }
        (_, "/v1/messages" | "/v1/chat/completions" | "/v1/responses" | "/v1/models") => {
            json(405, &json!({"error": {"type": "invalid_request_error", "message": "method not allowed"}}))
        }
        _ => {
            json(404, &Row::NotFound.body(dialect_of(&head.headers), Some(&format!("no such path: {path}"))))
        }
    };
    Ok(found)
}

/// `/p/NAME/rest` is the provider `NAME`; anything else is the default one.
fn provider_of(path: &str) -> (&str, &str) {
    let rest = path.strip_prefix("/p/").unwrap_or_default();
    let (name, tail) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match (name, tail) {
        ("", _) => (DEFAULT_PROVIDER, path),
        (name, "") => (name, "/"),
        (name, tail) => (name, tail),
    }
}

/// The dialect a client speaks, where the path does not tell.
fn dialect_of(headers: &HeaderMap) -> Dialect {
    if headers.contains_key("anthropic-version") { Dialect::Messages } else { Dialect::Chat }
}

fn json(status: u16, body: &Value) -> Answer {
    finish(status, &[], ScriptBody::whole(body.to_string()), "application/json")
}

fn finish(status: u16, headers: &[(&str, String)], body: ScriptBody, content_type: &str) -> Answer {
    let mut builder = Response::builder().status(status).header("content-type", content_type);
    for (name, value) in headers {
        builder = builder.header(*name, value);
    }
    builder.body(body).expect("names and values are of our own making")
}

/// The models in the shape of the dialect that the client speaks.
fn models(desk: &Desk, headers: &HeaderMap) -> Answer {
    let list = &desk.config.models;
    let body = match dialect_of(headers) {
        Dialect::Messages => {
            let data: Vec<Value> = list
                .iter()
                .map(|model| {
                    json!({"type": "model", "id": model.id, "display_name": model.id, "created_at": "2026-01-01T00:00:00Z"})
                })
                .collect();
            let id = |model: Option<&ModelSpec>| model.map(|model| model.id.clone());
            json!({"data": data, "has_more": false, "first_id": id(list.first()), "last_id": id(list.last())})
        }
        Dialect::Chat | Dialect::Responses => {
            let data: Vec<Value> = list
                .iter()
                .map(|model| json!({"id": model.id, "object": "model", "created": 1_767_225_600, "owned_by": "backstop-sim"}))
                .collect();
            json!({"object": "list", "data": data})
        }
    };
    json(200, &body)
}

/// The id of the request; the same for as long as it lasts.
fn identify(desk: &Desk, seen: &mut Seen) -> String {
    if seen.request_id.is_empty() {
        let number = desk.books.next_number();
        let mark = draw::about(desk.config.seed, &number.to_le_bytes()).next_u64();
        seen.request_id = format!("req_sim{mark:016x}");
    }
    seen.request_id.clone()
}

fn note(desk: &Desk, seen: &mut Seen, status: Option<u16>) {
    identify(desk, seen);
    desk.books.note(Seen { status, ..seen.clone() });
}

/// One call of a model on its way in.
struct Inlet {
    dialect: Dialect,
    provider: String,
    path: String,
    headers: HeaderMap,
}

/// A call that passed all checks.
struct Admitted {
    request: Request,
    model: ModelSpec,
    fault: Option<Fault>,
    include_usage: bool,
    /// The whole conversation, where it is to be kept.
    thread: Option<Map<String, Value>>,
}

impl Inlet {
    async fn answer(self, desk: &Desk, body: Incoming) -> Result<Answer, Severed> {
        let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
            let row = Row::TooLarge.answer(self.dialect, Hint::None, desk.config.clock.now());
            return Ok(self.refused(desk, &mut Seen::default(), row));
        };
        let body = body.to_bytes();
        let mut seen = self.seen(&body);
        let admitted = match self.admit(desk, &body, &mut seen) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                let mut body = refusal.row.body(self.dialect, Some(&refusal.message));
                if let Some(code) = refusal.detail {
                    match self.dialect {
                        Dialect::Messages => body["error"]["details"] = json!({"error_code": code}),
                        Dialect::Chat | Dialect::Responses => body["error"]["code"] = json!(code),
                    }
                }
                let answer =
                    ErrorAnswer { status: refusal.row.status(self.dialect), body, headers: Vec::new() };
                return Ok(self.refused(desk, &mut seen, answer));
            }
        };
        if self.path.ends_with("count_tokens") {
            let count = json!({"input_tokens": tokens::input(&admitted.request)});
            return Ok(self.noted(desk, &mut seen, json(200, &count)));
        }
        seen.fault = admitted.fault.as_ref().map(ToString::to_string);
        self.act(desk, admitted, seen).await
    }

    fn seen(&self, body: &Bytes) -> Seen {
        let client_request_id = self.header("x-client-request-id").map(str::to_owned);
        let text = String::from_utf8_lossy(body).into_owned();
        Seen {
            client_request_id,
            provider: self.provider.clone(),
            path: self.path.clone(),
            body: text,
            ..Seen::default()
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Checks everything that can be wrong with a call, and asks which fault hits it.
    fn admit(&self, desk: &Desk, body: &Bytes, seen: &mut Seen) -> Result<Admitted, Refusal> {
        let refuse = |row, message: String| Refusal { row, message, detail: None };
        self.key(desk)?;
        let raw: Value = serde_json::from_slice(body)
            .map_err(|error| refuse(Row::Invalid, format!("the body is no JSON: {error}")))?;
        let thread = self.thread(desk, &raw)?;
        let whole = thread.clone().map(Value::Object);
        let read = match &whole {
            Some(whole) => backstop_wire::parse_request(self.dialect, whole.to_string().as_bytes()),
            None => backstop_wire::parse_request(self.dialect, body),
        };
        let raw = whole.unwrap_or(raw);
        let mut request = read.map_err(|error| refuse(Row::Invalid, error.to_string()))?;
        let (id, suffix) = match request.model.split_once('!') {
            Some((id, suffix)) => (id.to_owned(), Some(suffix.to_owned())),
            None => (request.model.clone(), None),
        };
        seen.model.clone_from(&id);
        seen.stream = request.stream;
        request.model.clone_from(&id);
        let model = desk.config.models.iter().find(|model| model.id == id).cloned();
        let model = model.ok_or_else(|| match self.dialect {
            Dialect::Messages => refuse(Row::NotFound, format!("model: {id}")),
            Dialect::Chat | Dialect::Responses => refuse(
                Row::NotFound,
                format!("The model `{id}` does not exist or you do not have access to it."),
            ),
        })?;
        if !self.path.ends_with("count_tokens") {
            check(self.dialect, &raw, &request, &model, self.header("anthropic-version"))?;
        }
        let explicit = self.header(FAULT_HEADER).or(suffix.as_deref());
        let fault = match explicit {
            Some(name) => Some(
                name.parse().map_err(|error: crate::FaultError| refuse(Row::Invalid, error.to_string()))?,
            ),
            None => self.scheduled(desk, &request),
        };
        request.max_tokens.get_or_insert(model.output_tokens_max);
        let include_usage = raw.pointer("/stream_options/include_usage") == Some(&Value::Bool(true));
        Ok(Admitted { request, model, fault, include_usage, thread })
    }

    /// The whole conversation of a request in a thread.
    fn thread(&self, desk: &Desk, raw: &Value) -> Result<Option<Map<String, Value>>, Refusal> {
        if !desk.config.threads || self.dialect != Dialect::Messages || self.path.ends_with("count_tokens") {
            return Ok(None);
        }
        desk.threads.whole(&self.provider, raw, self.header("anthropic-beta").unwrap_or_default())
    }

    fn key(&self, desk: &Desk) -> Result<(), Refusal> {
        let bearer = self.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let given = self.header("x-api-key").or(bearer);
        let keys = &desk.config.keys;
        if keys.is_empty() || given.is_some_and(|given| keys.iter().any(|key| key.expose() == given)) {
            return Ok(());
        }
        let message = match self.dialect {
            Dialect::Messages => "invalid x-api-key",
            Dialect::Chat | Dialect::Responses => "Incorrect API key provided.",
        };
        Err(Refusal { row: Row::Authentication, message: message.to_owned(), detail: None })
    }

    fn scheduled(&self, desk: &Desk, request: &Request) -> Option<Fault> {
        let content = serde_json::to_vec(&request.messages).unwrap_or_default();
        let asked = Asked {
            provider: &self.provider,
            model: &request.model,
            stream: request.stream,
            content: &content,
            elapsed: desk.config.clock.now().since(desk.started),
        };
        desk.schedule().next(&asked)
    }

    /// Carries the call out under its fault.
    async fn act(self, desk: &Desk, admitted: Admitted, mut seen: Seen) -> Result<Answer, Severed> {
        let now = desk.config.clock.now();
        let Admitted { request, model, fault, include_usage, thread } = admitted;
        match &fault {
            Some(Fault::Error { row, hint }) => {
                return Ok(self.refused(desk, &mut seen, row.answer(self.dialect, *hint, now)));
            }
            Some(Fault::InStreamError { row, .. }) if !request.stream => {
                return Ok(self.refused(desk, &mut seen, row.answer(self.dialect, Hint::Usual, now)));
            }
            Some(Fault::HtmlError) => {
                let page = "<html>\n<head><title>502 Bad Gateway</title></head>\n<body>502 Bad Gateway</body>\n</html>\n";
                let answer = finish(502, &[], ScriptBody::whole(page), "text/html");
                return Ok(self.noted(desk, &mut seen, answer));
            }
            Some(Fault::HangBeforeHeaders) => {
                note(desk, &mut seen, None);
                sleep(Duration::from_millis(HANG_MS)).await;
                return Err(Severed);
            }
            _ => {}
        }
        let terms = Terms {
            dialect: self.dialect,
            include_usage,
            now,
            seed: desk.config.seed,
            frame_ms: desk.config.frame_ms,
            cached: desk.cache.pass(&self.provider, &request),
        };
        let script = script(&request, fault.as_ref(), terms);
        if let Some(thread) = thread {
            desk.threads.keep(&self.provider, thread, &script.reply, now);
        }
        let id = identify(desk, &mut seen);
        let meter = self.meter(desk, &script, &model, (&id, fault.as_ref(), &seen));
        if matches!(fault, Some(Fault::CutBeforeBody)) {
            note(desk, &mut seen, None);
            return Err(Severed);
        }
        sleep(Duration::from_millis(script.before_ms)).await;
        let mut headers = self.limits(desk);
        if let Some(length) = script.length {
            headers.push(("content-length", length.to_string()));
        }
        let answer = finish(200, &headers, ScriptBody::new(script.pieces, Some(meter)), script.content_type);
        Ok(self.noted(desk, &mut seen, answer))
    }

    fn meter(
        &self,
        desk: &Desk,
        script: &Script,
        model: &ModelSpec,
        of: (&str, Option<&Fault>, &Seen),
    ) -> Meter {
        let (id, fault, seen) = of;
        let usage = script.reply.usage;
        let charge = Charge {
            request_id: id.to_owned(),
            client_request_id: seen.client_request_id.clone(),
            provider: self.provider.clone(),
            model: model.id.clone(),
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cache_read_tokens: usage.cache_read_tokens,
            cache_write_tokens: usage.cache_write_tokens,
            cost: Money::ZERO,
            complete: false,
            fault: seen.fault.clone(),
        };
        let billing = fault.map_or(Billing::Produced, Fault::billing);
        Meter::new(&desk.books, charge, model.price, billing)
    }

    /// Notes an answer, and gives it its request id.
    fn noted(&self, desk: &Desk, seen: &mut Seen, mut answer: Answer) -> Answer {
        note(desk, seen, Some(answer.status().as_u16()));
        let name = match self.dialect {
            Dialect::Messages => "request-id",
            Dialect::Chat | Dialect::Responses => "x-request-id",
        };
        let value = seen.request_id.parse().expect("letters and digits are a header's value");
        answer.headers_mut().insert(name, value);
        answer
    }

    fn refused(&self, desk: &Desk, seen: &mut Seen, error: ErrorAnswer) -> Answer {
        let mut body = error.body;
        if self.dialect == Dialect::Messages {
            body["request_id"] = json!(identify(desk, seen));
        }
        let body = ScriptBody::whole(body.to_string());
        let answer = finish(error.status, &error.headers, body, "application/json");
        self.noted(desk, seen, answer)
    }

    /// The rate-limit headers of the dialect.
    fn limits(&self, desk: &Desk) -> Vec<(&'static str, String)> {
        let now = desk.config.clock.now();
        let into_minute = now.secs() % 60;
        let (requests, tokens) = (REQUESTS_PER_MINUTE, TOKENS_PER_MINUTE);
        match self.dialect {
            Dialect::Messages => {
                let reset = (now + Duration::from_secs(60 - into_minute)).rfc3339();
                vec![
                    ("anthropic-ratelimit-requests-limit", requests.to_string()),
                    ("anthropic-ratelimit-requests-remaining", (requests - 1).to_string()),
                    ("anthropic-ratelimit-requests-reset", reset.clone()),
                    ("anthropic-ratelimit-tokens-limit", tokens.to_string()),
                    ("anthropic-ratelimit-tokens-remaining", tokens.to_string()),
                    ("anthropic-ratelimit-tokens-reset", reset),
                ]
            }
            Dialect::Chat | Dialect::Responses => {
                let reset = format!("{}s", 60 - into_minute);
                vec![
                    ("x-ratelimit-limit-requests", requests.to_string()),
                    ("x-ratelimit-remaining-requests", (requests - 1).to_string()),
                    ("x-ratelimit-reset-requests", reset.clone()),
                    ("x-ratelimit-limit-tokens", tokens.to_string()),
                    ("x-ratelimit-remaining-tokens", tokens.to_string()),
                    ("x-ratelimit-reset-tokens", reset),
                ]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_name_providers() {
        let rows = [
            ("/v1/messages", ("sim", "/v1/messages")),
            ("/p/a/v1/messages", ("a", "/v1/messages")),
            ("/p/a/", ("a", "/")),
            ("/p/a", ("a", "/")),
            ("/p//v1/messages", ("sim", "/p//v1/messages")),
            ("/", ("sim", "/")),
        ];
        for (path, want) in rows {
            assert_eq!(provider_of(path), want, "{path}");
        }
    }
}
