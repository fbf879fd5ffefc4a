//! Every row of the providers' error tables, and what stands in none of them.

use backstop_call::{
    AttemptRecord, Code, Dialect, Failure, FailureKind, LimitHint, Money, Progress, Timestamp,
};
use backstop_wire::{classify, rate_limits, render_error, retry_after, should_retry};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use std::time::Duration;

use Dialect::{Chat, Messages};
use FailureKind::{Auth, ContextLength, Invalid, Overloaded, Policy, Quota, Throttled, Transient};

/// 2026-11-22T00:00:00Z.
const NOW: Timestamp = Timestamp::from_secs(1_795_305_600);

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
    };
    pairs.iter().map(pair).collect()
}

struct Row {
    dialect: Dialect,
    status: u16,
    body: &'static str,
    kind: FailureKind,
    code: Code,
    provider_code: Option<&'static str>,
    unbilled: bool,
}

const fn row(dialect: Dialect, status: u16, body: &'static str, kind: FailureKind, code: Code) -> Row {
    Row { dialect, status, body, kind, code, provider_code: None, unbilled: true }
}

impl Row {
    const fn told(mut self, provider_code: &'static str) -> Self {
        self.provider_code = Some(provider_code);
        self
    }

    const fn may_be_billed(mut self) -> Self {
        self.unbilled = false;
        self
    }
}

/// semantics: Anthropic.
const MESSAGES: &[Row] = &[
    row(Messages, 400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: Field required"},"request_id":"req_1"}"#, Invalid, Code::RequestInvalid).told("invalid_request_error"),
    row(Messages, 400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 208310 tokens > 200000 maximum"}}"#, ContextLength, Code::ContextTooLong).told("invalid_request_error"),
    row(Messages, 400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000"}}"#, ContextLength, Code::ContextTooLong).told("invalid_request_error"),
    row(Messages, 400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."}}"#, Quota, Code::QuotaExhausted).told("invalid_request_error"),
    row(Messages, 400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"You have reached your specified workspace API usage limits."}}"#, Quota, Code::QuotaExhausted).told("invalid_request_error"),
    row(Messages, 429, r#"{"type":"error","error":{"type":"rate_limit_error","message":"You have reached your specified workspace API usage limits."}}"#, Quota, Code::QuotaExhausted).told("rate_limit_error"),
    row(Messages, 400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#, Quota, Code::QuotaExhausted).told("invalid_request_error"),
    row(Messages, 401, r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#, Auth, Code::KeyRefused).told("authentication_error"),
    row(Messages, 402, r#"{"type":"error","error":{"type":"billing_error","message":"payment required"}}"#, Quota, Code::QuotaExhausted).told("billing_error"),
    row(Messages, 403, r#"{"type":"error","error":{"type":"permission_error","message":"not allowed"}}"#, Auth, Code::KeyRefused).told("permission_error"),
    row(Messages, 404, r#"{"type":"error","error":{"type":"not_found_error","message":"model: claude-0"}}"#, Invalid, Code::ModelNotFound).told("not_found_error"),
    row(Messages, 404, r#"{"type":"error","error":{"type":"not_found_error","message":"gone","details":{"error_code":"thread_not_found"}}}"#, Invalid, Code::RequestInvalid).told("thread_not_found"),
    row(Messages, 409, r#"{"type":"error","error":{"type":"conflict_error","message":"busy"}}"#, Transient, Code::ProviderFailed).told("conflict_error"),
    row(Messages, 413, r#"{"type":"error","error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}"#, Invalid, Code::RequestTooLarge).told("request_too_large"),
    row(Messages, 413, "<html>413 Request Entity Too Large</html>", Invalid, Code::RequestTooLarge),
    row(Messages, 429, r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}"#, Throttled, Code::RateLimited).told("rate_limit_error"),
    row(Messages, 429, r#"{"type":"error","error":{"type":"rate_limit_error","message":"limit","details":{"error_code":"enforced_spend_limit_reached"}}}"#, Quota, Code::QuotaExhausted).told("enforced_spend_limit_reached"),
    row(Messages, 500, r#"{"type":"error","error":{"type":"api_error","message":"Internal server error"}}"#, Transient, Code::ProviderFailed).told("api_error"),
    row(Messages, 504, r#"{"type":"error","error":{"type":"timeout_error","message":"timed out"}}"#, Transient, Code::ProviderFailed).told("timeout_error").may_be_billed(),
    row(Messages, 529, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, Overloaded, Code::ProviderOverloaded).told("overloaded_error"),
    // A gateway that flattens the status keeps the type; one that flattens the type keeps the status.
    row(Messages, 500, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, Overloaded, Code::ProviderOverloaded).told("overloaded_error"),
    row(Messages, 529, r#"{"type":"error","error":{"type":"api_error","message":"Overloaded"}}"#, Overloaded, Code::ProviderOverloaded).told("api_error"),
];

/// semantics: OpenAI.
const CHAT: &[Row] = &[
    row(Chat, 400, r#"{"error":{"message":"bad","type":"invalid_request_error","param":"messages","code":null}}"#, Invalid, Code::RequestInvalid).told("invalid_request_error"),
    row(Chat, 400, r#"{"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#, ContextLength, Code::ContextTooLong).told("context_length_exceeded"),
    row(Chat, 401, r#"{"error":{"message":"Incorrect API key provided: sk-abcdefghijk.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#, Auth, Code::KeyRefused).told("invalid_api_key"),
    row(Chat, 401, r#"{"error":{"message":"You must be a member of an organization","type":"invalid_request_error","param":null,"code":null}}"#, Auth, Code::KeyRefused).told("invalid_request_error"),
    row(Chat, 403, r#"{"error":{"message":"country","type":"request_forbidden","param":null,"code":"unsupported_country_region_territory"}}"#, Auth, Code::KeyRefused).told("unsupported_country_region_territory"),
    row(Chat, 404, r#"{"error":{"message":"The model `x` does not exist","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#, Invalid, Code::ModelNotFound).told("model_not_found"),
    row(Chat, 404, r#"{"error":{"message":"Unknown request URL","type":"invalid_request_error","param":null,"code":"unknown_url"}}"#, Invalid, Code::RequestInvalid).told("unknown_url"),
    row(Chat, 408, r#"{"error":{"message":"timeout","type":"server_error","param":null,"code":null}}"#, Transient, Code::ProviderFailed).told("server_error").may_be_billed(),
    row(Chat, 409, "", Transient, Code::ProviderFailed),
    row(Chat, 429, r#"{"error":{"message":"Rate limit reached","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#, Throttled, Code::RateLimited).told("rate_limit_exceeded"),
    row(Chat, 429, r#"{"error":{"message":"ramp","type":"rate_limit_error","param":null,"code":"slow_down"}}"#, Throttled, Code::RateLimited).told("slow_down"),
    row(Chat, 503, r#"{"error":{"message":"ramp","type":"rate_limit_error","param":null,"code":"slow_down"}}"#, Throttled, Code::RateLimited).told("slow_down"),
    row(Chat, 429, r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#, Quota, Code::QuotaExhausted).told("insufficient_quota"),
    row(Chat, 429, r#"{"error":{"message":"m","type":"insufficient_quota","code":"credit_balance_exhausted"}}"#, Quota, Code::QuotaExhausted).told("credit_balance_exhausted"),
    row(Chat, 429, r#"{"error":{"message":"m","type":"insufficient_quota","code":"organization_spend_limit_exceeded"}}"#, Quota, Code::QuotaExhausted).told("organization_spend_limit_exceeded"),
    row(Chat, 429, r#"{"error":{"message":"m","type":"rate_limit_error","code":"project_spend_limit_exceeded"}}"#, Quota, Code::QuotaExhausted).told("project_spend_limit_exceeded"),
    row(Chat, 429, r#"{"error":{"message":"m","type":"insufficient_quota","code":"organization_usage_limit_exceeded"}}"#, Quota, Code::QuotaExhausted).told("organization_usage_limit_exceeded"),
    row(Chat, 500, r#"{"error":{"message":"m","type":"server_error","param":null,"code":null}}"#, Transient, Code::ProviderFailed).told("server_error"),
    row(Chat, 503, r#"{"error":{"message":"m","type":"service_unavailable_error","code":"server_is_overloaded"}}"#, Overloaded, Code::ProviderOverloaded).told("server_is_overloaded"),
    row(Chat, 503, r#"{"error":{"message":"m","type":"service_unavailable_error","code":null}}"#, Transient, Code::ProviderFailed).told("service_unavailable_error"),
    row(Chat, 400, r#"{"error":{"message":"m","type":"invalid_request_error","code":"content_policy_violation"}}"#, Policy, Code::PolicyRefused).told("content_policy_violation"),
    row(Chat, 400, r#"{"error":{"message":"m","type":null,"code":"content_filter"}}"#, Policy, Code::PolicyRefused).told("content_filter"),
    // llama.cpp, vLLM (new and old), Ollama (new and old).
    row(Chat, 400, r#"{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error","n_prompt_tokens":9000,"n_ctx":4096}}"#, ContextLength, Code::ContextTooLong).told("exceed_context_size_error"),
    row(Chat, 503, r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#, Transient, Code::ProviderFailed).told("unavailable_error"),
    row(Chat, 400, r#"{"error":{"message":"This model's maximum context length is 4096 tokens.","type":"BadRequestError","param":null,"code":400}}"#, ContextLength, Code::ContextTooLong).told("BadRequestError"),
    row(Chat, 404, r#"{"object":"error","message":"The model `x` does not exist.","type":"NotFoundError","param":null,"code":404}"#, Invalid, Code::ModelNotFound).told("NotFoundError"),
    row(Chat, 404, r#"{"error":"model \"x\" not found, try pulling it first"}"#, Invalid, Code::ModelNotFound),
    row(Chat, 400, r#"{"error":"invalid options"}"#, Invalid, Code::RequestInvalid),
];

/// What stands in no table: proxies, empty bodies, statuses nobody expects.
const ODD: &[Row] = &[
    row(Messages, 502, "<html><h1>502 Bad Gateway</h1></html>", Transient, Code::ProviderFailed),
    row(Chat, 500, "", Transient, Code::ProviderFailed),
    row(Chat, 503, "upstream connect error", Transient, Code::ProviderFailed),
    row(Messages, 520, "error code: 520", Transient, Code::ProviderFailed),
    row(Messages, 524, "error code: 524", Transient, Code::ProviderFailed).may_be_billed(),
    row(Chat, 504, "<html></html>", Transient, Code::ProviderFailed).may_be_billed(),
    row(Chat, 408, "", Transient, Code::ProviderFailed).may_be_billed(),
    row(Chat, 425, "", Transient, Code::ProviderFailed),
    row(Chat, 429, "Too Many Requests", Throttled, Code::RateLimited),
    row(Messages, 401, "no", Auth, Code::KeyRefused),
    row(Messages, 407, "", Auth, Code::KeyRefused),
    row(Messages, 402, "null", Quota, Code::QuotaExhausted),
    row(Messages, 404, "404 page not found", Invalid, Code::RequestInvalid),
    row(Messages, 405, "{}", Invalid, Code::RequestInvalid),
    row(Messages, 418, "[1]", Invalid, Code::RequestInvalid),
    row(Chat, 422, r#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#, Invalid, Code::RequestInvalid),
    row(Chat, 431, "", Invalid, Code::RequestTooLarge),
    row(Chat, 451, "", Policy, Code::PolicyRefused),
    row(Chat, 301, "", Invalid, Code::RequestInvalid),
    row(Chat, 307, r#"{"error":{"type":"server_error"}}"#, Invalid, Code::RequestInvalid)
        .told("server_error"),
    row(Messages, 302, r#"{"error":{"type":"overloaded_error"}}"#, Invalid, Code::RequestInvalid)
        .told("overloaded_error"),
    row(Chat, 501, "", Invalid, Code::RequestInvalid),
    row(Chat, 599, "\u{0}\u{1}", Transient, Code::ProviderFailed),
    row(Messages, 529, "", Overloaded, Code::ProviderOverloaded),
    row(Messages, 500, r#"{"error":{"type":7,"code":{},"message":[]}}"#, Transient, Code::ProviderFailed),
    row(Messages, 500, r#"{"error":null}"#, Transient, Code::ProviderFailed),
];

#[test]
fn every_row_of_the_tables() {
    for row in MESSAGES.iter().chain(CHAT).chain(ODD) {
        let failure = classify(row.dialect, row.status, &HeaderMap::new(), row.body.as_bytes(), NOW);
        let detail = &failure.detail;
        let got = (failure.kind, detail.code, detail.provider_code.as_deref(), detail.unbilled);
        assert_eq!(got, (row.kind, row.code, row.provider_code, row.unbilled), "{} {}", row.status, row.body);
        assert_eq!((failure.progress, detail.status), (Progress::ResponseStarted, Some(row.status)));
        assert!(!detail.message.is_empty() && !detail.message.contains('<'), "{}", detail.message);
    }
}

type Headers<'a> = &'a [(&'a str, &'a str)];

#[test]
fn retry_after_in_all_its_forms() {
    let millis = |millis| Some(Duration::from_millis(millis));
    let rows: &[(Headers<'_>, Option<Duration>)] = &[
        (&[], None),
        (&[("retry-after", "7")], millis(7000)),
        (&[("retry-after", " 0.25 ")], millis(250)),
        (&[("retry-after-ms", "1500"), ("retry-after", "9")], millis(1500)),
        (&[("retry-after-ms", "0.5")], Some(Duration::from_micros(500))),
        (&[("retry-after-ms", "soon"), ("retry-after", "9")], millis(9000)),
        (&[("retry-after-ms", "-5"), ("retry-after", "9")], millis(9000)),
        (&[("retry-after", "Sun, 22 Nov 2026 00:02:00 GMT")], millis(120_000)),
        (&[("retry-after", "Sunday, 22-Nov-26 00:00:30 GMT")], millis(30_000)),
        (&[("retry-after", "Sun, 22 Nov 2026 00:00:00 GMT")], None),
        (&[("retry-after", "Sat, 21 Nov 2026 23:59:00 GMT")], None),
        (&[("retry-after", "0")], None),
        (&[("retry-after", "-1")], None),
        (&[("retry-after", "NaN")], None),
        (&[("retry-after", "inf")], None),
        (&[("retry-after", "1e300")], None),
        (&[("retry-after", "later")], None),
        (&[("retry-after", "")], None),
    ];
    for (pairs, want) in rows {
        let headers = headers(pairs);
        assert_eq!(retry_after(&headers, NOW), *want, "{pairs:?}");
        assert_eq!(classify(Chat, 429, &headers, b"", NOW).retry_after, *want, "{pairs:?}");
    }
}

#[test]
fn headers_say_the_request_the_limits_and_whether_to_retry() {
    let messages = headers(&[
        ("request-id", "req_7"),
        ("x-should-retry", "false"),
        ("anthropic-ratelimit-requests-remaining", "0"),
        ("anthropic-ratelimit-tokens-remaining", "9000"),
        ("anthropic-ratelimit-input-tokens-remaining", "4000"),
        ("anthropic-ratelimit-output-tokens-limit", "0"),
        ("anthropic-ratelimit-output-tokens-remaining", "0"),
    ]);
    let failure = classify(Messages, 429, &messages, b"", NOW);
    assert_eq!(failure.detail.request_id.as_deref(), Some("req_7"));
    let limits = LimitHint { requests_remaining: Some(0), tokens_remaining: Some(4000) };
    assert_eq!(failure.detail.limits, limits, "a limit of nothing is garbage");
    assert_eq!(should_retry(&messages), Some(false));

    let chat = headers(&[
        ("x-request-id", "r"),
        ("x-ratelimit-limit-requests", "-1"),
        ("x-ratelimit-remaining-requests", "-1"),
        ("x-ratelimit-remaining-tokens", "12"),
    ]);
    let limits = LimitHint { requests_remaining: None, tokens_remaining: Some(12) };
    assert_eq!(rate_limits(Chat, &chat), limits);
    assert_eq!(rate_limits(Messages, &chat), LimitHint::default());
    assert_eq!(should_retry(&chat), None);
    let body = br#"{"type":"error","error":{"type":"api_error","message":"m"},"request_id":"req_body"}"#;
    assert_eq!(classify(Messages, 500, &chat, body, NOW).detail.request_id.as_deref(), Some("r"));
    let failure = classify(Messages, 500, &HeaderMap::new(), body, NOW);
    assert_eq!(failure.detail.request_id.as_deref(), Some("req_body"));
}

#[test]
fn a_message_is_short_one_line_and_without_keys() {
    let long = "word ".repeat(1000);
    let body = json!({"error": {"message": format!("Incorrect\nAPI key: (sk-proj-abcdef123), {long}")}});
    let failure = classify(Chat, 401, &HeaderMap::new(), body.to_string().as_bytes(), NOW);
    let message = &failure.detail.message;
    assert_eq!(message.chars().count(), 500);
    assert!(message.starts_with("Incorrect API key: [key] word"), "{message}");
    let page = classify(Chat, 502, &HeaderMap::new(), b"<html>token=secret</html>", NOW);
    assert_eq!(page.detail.message, "http status 502 without a readable message");
}

fn attempts(count: u32) -> Vec<AttemptRecord> {
    let attempt = |attempt| AttemptRecord {
        attempt,
        provider: "p".into(),
        model: "m".into(),
        started: NOW,
        duration: Duration::ZERO,
        waited: Duration::ZERO,
        failure: Some(Transient),
        progress: Progress::Sent,
        code: None,
        message: "".into(),
        cost: Money::ZERO,
        suspense: false,
    };
    (1..=count).map(attempt).collect()
}

/// The classes that the official SDKs make: by status alone (`_make_status_error` of both).
fn sdk_class(dialect: Dialect, status: u16) -> &'static str {
    match (dialect, status) {
        (_, 400) => "BadRequestError",
        (_, 401) => "AuthenticationError",
        (_, 403) => "PermissionDeniedError",
        (_, 404) => "NotFoundError",
        (_, 409) => "ConflictError",
        (Messages, 413) => "RequestTooLargeError",
        (_, 422) => "UnprocessableEntityError",
        (_, 429) => "RateLimitError",
        (Messages, 503) => "ServiceUnavailableError",
        (Messages, 504) => "DeadlineExceededError",
        (Messages, 529) => "OverloadedError",
        (_, 500..) => "InternalServerError",
        _ => "APIStatusError",
    }
}

#[test]
fn an_error_is_told_so_that_the_sdk_understands_it() {
    let rows = [
        (Transient, "InternalServerError", "InternalServerError", None),
        (Overloaded, "OverloadedError", "InternalServerError", None),
        (Throttled, "RateLimitError", "RateLimitError", None),
        (Quota, "APIStatusError", "RateLimitError", Some("false")),
        (Auth, "AuthenticationError", "AuthenticationError", Some("false")),
        (Invalid, "BadRequestError", "BadRequestError", Some("false")),
        (ContextLength, "BadRequestError", "BadRequestError", Some("false")),
        (Policy, "BadRequestError", "BadRequestError", Some("false")),
        (FailureKind::Malformed, "InternalServerError", "InternalServerError", Some("false")),
        (FailureKind::UnknownOutcome, "DeadlineExceededError", "InternalServerError", Some("false")),
        (FailureKind::Downstream, "InternalServerError", "InternalServerError", Some("false")),
        (FailureKind::Cancelled, "BadRequestError", "BadRequestError", Some("false")),
        (FailureKind::Budget, "APIStatusError", "RateLimitError", Some("false")),
        (FailureKind::Private, "PermissionDeniedError", "PermissionDeniedError", Some("false")),
        (FailureKind::Deadline, "DeadlineExceededError", "InternalServerError", Some("false")),
    ];
    for (kind, messages, chat, retry) in rows {
        for (dialect, class) in [(Messages, messages), (Chat, chat), (Dialect::Responses, chat)] {
            let failure = Failure::new(kind, Progress::Sent, "no");
            let (status, headers, body) = render_error(dialect, &failure);
            let headers: HeaderMap = headers.into_iter().collect();
            assert_eq!(sdk_class(dialect, status), class, "{kind:?} {dialect:?}");
            let told = headers.get("x-should-retry").map(|value| value.to_str().unwrap());
            assert_eq!(told, retry, "{kind:?} {dialect:?}");
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert!(body["error"]["message"].as_str().unwrap().ends_with("no"), "{body}");
            assert_eq!(body["type"] == "error", dialect == Messages);
        }
    }
}

#[test]
fn what_was_retried_already_is_not_retried_by_the_client_but_a_short_wait_is() {
    let told = |failure: &Failure| {
        let headers: HeaderMap = render_error(Messages, failure).1.into_iter().collect();
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        (text("x-should-retry"), text("retry-after"), text("retry-after-ms"))
    };
    let mut failure = Failure::new(Transient, Progress::Sent, "m");
    failure.detail.attempts = attempts(1);
    assert_eq!(told(&failure), (None, None, None));
    failure.detail.attempts = attempts(3);
    assert_eq!(told(&failure).0.as_deref(), Some("false"));
    failure.kind = Throttled;
    failure.retry_after = Some(Duration::from_micros(1_200_500));
    let short = (Some("true".into()), Some("2".into()), Some("1201".into()));
    assert_eq!(told(&failure), short);
    failure.retry_after = Some(Duration::from_hours(2));
    assert_eq!(told(&failure), (Some("false".into()), Some("7200".into()), Some("7200000".into())));
}

/// "The connection was refused" made people look at the gateway, whose connection was in order.
#[test]
fn what_goes_wrong_on_the_way_to_a_provider_is_told_with_its_name() {
    let message = |kind, code: Option<&str>| {
        let mut failure = Failure::new(kind, Progress::NotSent, "the connection was refused");
        failure.detail.provider = Some("local".into());
        failure.detail.provider_code = code.map(str::to_owned);
        let body: Value = serde_json::from_slice(&render_error(Chat, &failure).2).unwrap();
        body["error"]["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(message(Transient, None), "local: the connection was refused");
    // In the provider's own words, and what a client knows by its words.
    assert_eq!(message(Transient, Some("api_error")), "the connection was refused");
    assert_eq!(message(ContextLength, None), "the connection was refused");
}

/// What one provider says reaches a client of the same dialect with its meaning whole.
#[test]
fn every_row_told_on_and_classified_again_is_the_same() {
    for row in MESSAGES.iter().chain(CHAT).chain(ODD) {
        let first = classify(row.dialect, row.status, &HeaderMap::new(), row.body.as_bytes(), NOW);
        for dialect in Dialect::ALL {
            let (status, headers, body) = render_error(dialect, &first);
            let again = classify(dialect, status, &headers.into_iter().collect(), &body, NOW);
            let text = String::from_utf8(body).unwrap();
            assert_eq!((again.kind, again.code()), (first.kind, first.code()), "{dialect:?} {status} {text}");
        }
    }
}
