//! What an error answer means, and how a failure of ours is told to a client. Every decision is a row of a table below;
//! the text of a message decides only where a provider gives no other sign.

mod table;

use backstop_call::{Code, Dialect, Failure, FailureKind, LimitHint, Progress, Timestamp};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};
use std::time::{Duration, UNIX_EPOCH};

const MESSAGE_CHARS_MAX: usize = 500;

/// What an error body says, whichever way its server says it.
#[derive(Debug, Default)]
struct Told {
    /// `error.details.error_code`, the most exact there is.
    detail_code: Option<String>,
    /// `error.code` as a word.
    code: Option<String>,
    /// `error.code` as a number: a status in the body.
    number: Option<u16>,
    /// `error.type`.
    error_type: Option<String>,
    /// `error.message`.
    message: Option<String>,
}

impl Told {
    /// Reads `{"error": {…}}`, and what local servers send instead: `{"error": "text"}`, or the error's fields at the top.
    fn read(body: &Value) -> Self {
        let error = body.get("error").filter(|error| !error.is_null()).unwrap_or(body);
        let text = |value: Option<&Value>| {
            value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        if error.is_string() {
            return Self { message: text(Some(error)), ..Self::default() };
        }
        let code = error.get("code");
        let number = code.and_then(|code| code.as_u64().or_else(|| code.as_str()?.parse().ok()));
        Self {
            detail_code: text(error.pointer("/details/error_code")),
            code: text(code).filter(|_| number.is_none()),
            number: number.and_then(|number| u16::try_from(number).ok()),
            error_type: text(error.get("type")),
            message: text(error.get("message")),
        }
    }

    /// The status of an error inside a stream, which has none of its own: some servers write one into the body.
    fn status_in_body(&self) -> u16 {
        match (self.number, self.error_type.as_deref()) {
            (Some(number), _) if (400..600).contains(&number) => number,
            (_, Some("invalid_request_error")) => 400,
            (_, _) => 500,
        }
    }

    fn is_empty(&self) -> bool {
        self.code.is_none() && self.error_type.is_none() && self.message.is_none() && self.number.is_none()
    }
}

/// See [`crate::classify`].
pub(crate) fn classify(
    dialect: Dialect,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Failure {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut failure = judged(status, &body);
    failure.retry_after = retry_after(headers, now);
    failure.detail.status = Some(status);
    failure.detail.limits = rate_limits(dialect, headers);
    failure.detail.request_id = ["request-id", "x-request-id"]
        .iter()
        .find_map(|name| headers.get(*name)?.to_str().ok())
        .map(|id| cut(id, 200))
        .or_else(|| body.get("request_id")?.as_str().map(|id| cut(id, 200)));
    failure
}

/// An error event inside a stream that began with 200. It may be billed: content may have been made.
pub(crate) fn in_stream(body: &Value) -> Failure {
    let mut failure = judged(200, body);
    failure.detail.unbilled = false;
    failure.detail.status = Some(200);
    failure
}

/// See [`crate::failure_within`].
pub(crate) fn within(body: &[u8]) -> Option<Failure> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let error = body.get("error").filter(|error| error.is_object() || error.is_string());
    let failed = body.get("status").is_some_and(|status| status == "failed");
    (error.is_some() || failed).then(|| in_stream(&body))
}

fn judged(status: u16, body: &Value) -> Failure {
    let told = Told::read(body);
    let verdict =
        table::judge(&told, if (200..300).contains(&status) { told.status_in_body() } else { status });
    let message = match &told.message {
        Some(message) => without_keys(message),
        None => format!("http status {status} without a readable message"),
    };
    let mut failure = Failure::new(verdict.kind, Progress::ResponseStarted, message).with_code(verdict.code);
    failure.detail.unbilled = status >= 300 && verdict.unbilled;
    failure.detail.provider_code =
        told.detail_code.or(told.code).or(told.error_type).map(|code| cut(&code, 100));
    failure
}

/// How long the provider asks to wait: `retry-after-ms`, else `retry-after` in seconds or as a date. Nothing, when it is
/// not positive or cannot be read.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let seconds = |text: &str| {
        let seconds = text.parse::<f64>().ok()?;
        Duration::try_from_secs_f64(seconds).ok().filter(|wait| !wait.is_zero())
    };
    let millis = |text: &str| seconds(text).map(|thousandfold| thousandfold / 1000);
    text("retry-after-ms").and_then(millis).or_else(|| {
        let value = text("retry-after")?;
        if value.parse::<f64>().is_ok() {
            return seconds(value);
        }
        let date = httpdate::parse_http_date(value).ok()?.duration_since(UNIX_EPOCH).ok()?;
        let wait = date.checked_sub(Duration::from_nanos(now.nanos()))?;
        Some(wait).filter(|wait| !wait.is_zero())
    })
}

/// What the provider itself says about another attempt (`x-should-retry`); `None` when it says nothing.
pub fn should_retry(headers: &HeaderMap) -> Option<bool> {
    match headers.get("x-should-retry")?.to_str().ok()? {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// The header of a limit, and of what remains of it.
type Limit = (HeaderName, HeaderName);

const fn limit(limit: &'static str, remaining: &'static str) -> Limit {
    (HeaderName::from_static(limit), HeaderName::from_static(remaining))
}

static MESSAGES_REQUESTS: Limit =
    limit("anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-remaining");
static MESSAGES_TOKENS: [Limit; 3] = [
    limit("anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-remaining"),
    limit("anthropic-ratelimit-input-tokens-limit", "anthropic-ratelimit-input-tokens-remaining"),
    limit("anthropic-ratelimit-output-tokens-limit", "anthropic-ratelimit-output-tokens-remaining"),
];
static OPENAI_REQUESTS: Limit = limit("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests");
static OPENAI_TOKENS: [Limit; 1] = [limit("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens")];

/// What the headers say is left of our share. A limit that is not positive is garbage, and what it limits is not told.
pub fn rate_limits(dialect: Dialect, headers: &HeaderMap) -> LimitHint {
    let number = |name: &HeaderName| headers.get(name)?.to_str().ok()?.trim().parse::<i64>().ok();
    let remaining = |(limit, remaining): &Limit| {
        if number(limit).is_some_and(|limit| limit <= 0) {
            return None;
        }
        u64::try_from(number(remaining)?).ok()
    };
    let (requests, tokens) = match dialect {
        Dialect::Messages => (&MESSAGES_REQUESTS, &MESSAGES_TOKENS[..]),
        Dialect::Chat | Dialect::Responses => (&OPENAI_REQUESTS, &OPENAI_TOKENS[..]),
    };
    LimitHint {
        requests_remaining: remaining(requests),
        tokens_remaining: tokens.iter().filter_map(remaining).min(),
    }
}

/// The status of [`render_error`].
pub fn status_of(dialect: Dialect, failure: &Failure) -> u16 {
    table::told_as(dialect, failure).0
}

/// Tells a failure to a client in its dialect: status, headers and body such that the official SDK makes the class of it
/// that its kind asks for, waits as long as it should, and does not retry what was retried already.
pub fn render_error(dialect: Dialect, failure: &Failure) -> (u16, Vec<(HeaderName, HeaderValue)>, Vec<u8>) {
    let (status, error_type) = table::told_as(dialect, failure);
    let id_name = match dialect {
        Dialect::Messages => "request-id",
        Dialect::Chat | Dialect::Responses => "x-request-id",
    };
    let mut headers = vec![(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    if let Some(wait) = failure.retry_after {
        let millis = wait.as_nanos().div_ceil(1_000_000);
        let seconds = millis.div_ceil(1000);
        headers.extend(header("retry-after", &seconds.to_string()));
        headers.extend(header("retry-after-ms", &millis.to_string()));
    }
    if let Some(should) = table::client_should_retry(failure) {
        headers.extend(header("x-should-retry", if should { "true" } else { "false" }));
    }
    headers.extend(failure.detail.request_id.as_ref().and_then(|id| header(id_name, id)));
    (status, headers, error_body(dialect, failure, error_type).to_string().into_bytes())
}

fn header(name: &'static str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((HeaderName::from_static(name), HeaderValue::from_str(value).ok()?))
}

/// The body of an error in the dialect's shape: of an answer, or of an event inside a stream.
pub(crate) fn stream_error_body(dialect: Dialect, failure: &Failure) -> Value {
    error_body(dialect, failure, table::told_as(dialect, failure).1)
}

fn error_body(dialect: Dialect, failure: &Failure, error_type: &str) -> Value {
    let detail = &failure.detail;
    let code = detail.provider_code.as_deref().filter(|code| !table::is_error_type(code));
    let message = table::told_message(dialect, failure);
    match dialect {
        Dialect::Messages => {
            let mut error = Map::new();
            error.insert("type".into(), error_type.into());
            error.insert("message".into(), message.into());
            // The dialect has no type for a refusal, so the code must say it.
            let refused = || table::chat_code(failure).filter(|_| failure.kind == FailureKind::Policy);
            if let Some(code) = code.or_else(refused) {
                error.insert("details".into(), json!({ "error_code": code }));
            }
            let mut body = json!({ "type": "error", "error": error });
            if let Some(id) = &detail.request_id {
                body["request_id"] = id.as_str().into();
            }
            body
        }
        Dialect::Chat | Dialect::Responses => {
            let code = code.or_else(|| table::chat_code(failure));
            json!({ "error": { "message": message, "type": error_type, "param": null, "code": code } })
        }
    }
}

/// A provider's message as it may be shown: one line, not too long, and without what looks like a key (some providers
/// quote the wrong key back).
fn without_keys(message: &str) -> String {
    const PREFIXES: [&str; 5] = ["sk-", "sk_", "gsk_", "xai-", "AIza"];
    let word = |word: &str| {
        let bare = word.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_key = bare.len() > 8 && PREFIXES.iter().any(|prefix| bare.starts_with(prefix));
        if is_key { "[key]".to_owned() } else { word.to_owned() }
    };
    let words: Vec<String> = message.split_whitespace().map(word).collect();
    cut(&words.join(" "), MESSAGE_CHARS_MAX)
}

/// At most so many characters. The word in which the cut falls goes as a whole: it may be a key, and nobody would know the
/// beginning of one for what it is.
fn cut(text: &str, chars_max: usize) -> String {
    let Some((at, _)) = text.char_indices().nth(chars_max) else { return text.to_owned() };
    let kept = &text[..at];
    let apart = |c: char| !c.is_alphanumeric() && !"-_+/=.%~".contains(c);
    // Texts without blanks, as packed JSON, are cut at their marks.
    let blank = kept.rfind(char::is_whitespace).filter(|end| *end > at / 2);
    let end = blank.or_else(|| kept.rfind(apart)).unwrap_or(0);
    format!("{}…", kept[..end].trim_end())
}

/// A row's verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdict {
    kind: FailureKind,
    code: Code,
    unbilled: bool,
}
