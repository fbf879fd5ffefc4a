//! Names, rows and hints.

use super::*;
use backstop_call::{Dialect, FailureKind, Timestamp};

#[test]
fn every_name_is_read_and_shown_again() {
    for name in Fault::names() {
        let fault: Fault = name.parse().unwrap();
        let again: Fault = fault.to_string().parse().unwrap();
        assert_eq!(fault, again, "{name}");
        assert!(fault.to_string().starts_with(name), "{name} is shown as {fault}");
    }
    let rows = [
        ("cut-at:120", Fault::CutAt { byte: 120 }),
        ("cut-at-120", Fault::CutAt { byte: 120 }),
        ("slow-first-token:50", Fault::SlowFirstToken { ms: 50 }),
        ("rate-limit", Fault::Error { row: Row::RateLimit, hint: Hint::Usual }),
        ("rate-limit:ms=1500", Fault::Error { row: Row::RateLimit, hint: Hint::Millis(1_500) }),
        ("rate-limit-2", Fault::Error { row: Row::RateLimit, hint: Hint::Seconds(2) }),
        ("overloaded:garbage", Fault::Error { row: Row::Overloaded, hint: Hint::Garbage }),
        ("in-stream-late:server", Fault::InStreamError { row: Row::Server, committed: true }),
    ];
    for (text, want) in rows {
        assert_eq!(text.parse(), Ok(want), "{text}");
    }
}

#[test]
fn a_wrong_name_says_what_is_allowed() {
    let error = "cut".parse::<Fault>().unwrap_err().to_string();
    assert!(
        error.starts_with("`cut` is no fault; there are: invalid, ") && error.contains("cut-at"),
        "{error}"
    );
    let error = "cut-at:x".parse::<Fault>().unwrap_err().to_string();
    assert_eq!(error, "`x` is no argument of the fault `cut-at`; it takes a whole number");
    assert!("refusal:1".parse::<Fault>().is_err());
    assert!("rate-limit:never".parse::<Fault>().unwrap_err().to_string().contains("ms=N"));
}

#[test]
fn the_rows_of_the_tables() {
    use FailureKind::{Auth, ContextLength, Invalid, Overloaded, Policy, Quota, Throttled, Transient};
    // Name, status and type and code in Messages, the same in Chat Completions, kind.
    type Shape = (u16, &'static str, Option<&'static str>);
    let rows: &[(&str, Shape, Shape, FailureKind)] = &[
        ("invalid", (400, "invalid_request_error", None), (400, "invalid_request_error", None), Invalid),
        (
            "context-length",
            (400, "invalid_request_error", None),
            (400, "invalid_request_error", Some("context_length_exceeded")),
            ContextLength,
        ),
        (
            "own-spend-limit",
            (400, "invalid_request_error", None),
            (429, "insufficient_quota", Some("credit_balance_exhausted")),
            Quota,
        ),
        (
            "policy",
            (400, "invalid_request_error", None),
            (400, "invalid_request_error", Some("content_policy_violation")),
            Policy,
        ),
        (
            "authentication",
            (401, "authentication_error", None),
            (401, "invalid_request_error", Some("invalid_api_key")),
            Auth,
        ),
        (
            "billing",
            (402, "billing_error", None),
            (429, "insufficient_quota", Some("credit_balance_exhausted")),
            Quota,
        ),
        (
            "permission",
            (403, "permission_error", None),
            (403, "invalid_request_error", Some("unsupported_country_region_territory")),
            Auth,
        ),
        (
            "not-found",
            (404, "not_found_error", None),
            (404, "invalid_request_error", Some("model_not_found")),
            Invalid,
        ),
        ("request-timeout", (408, "timeout_error", None), (408, "server_error", None), Transient),
        ("conflict", (409, "conflict_error", None), (409, "invalid_request_error", None), Transient),
        ("too-large", (413, "request_too_large", None), (413, "invalid_request_error", None), Invalid),
        (
            "unprocessable",
            (422, "invalid_request_error", None),
            (422, "invalid_request_error", None),
            Invalid,
        ),
        (
            "rate-limit",
            (429, "rate_limit_error", None),
            (429, "requests", Some("rate_limit_exceeded")),
            Throttled,
        ),
        (
            "slow-down",
            (429, "rate_limit_error", None),
            (429, "rate_limit_error", Some("slow_down")),
            Throttled,
        ),
        (
            "enforced-spend-limit",
            (429, "rate_limit_error", Some("enforced_spend_limit_reached")),
            (429, "insufficient_quota", Some("organization_spend_limit_exceeded")),
            Quota,
        ),
        (
            "credit-exhausted",
            (429, "rate_limit_error", Some("enforced_spend_limit_reached")),
            (429, "insufficient_quota", Some("credit_balance_exhausted")),
            Quota,
        ),
        (
            "organization-spend-limit",
            (429, "rate_limit_error", Some("enforced_spend_limit_reached")),
            (429, "insufficient_quota", Some("organization_spend_limit_exceeded")),
            Quota,
        ),
        (
            "project-spend-limit",
            (429, "rate_limit_error", Some("enforced_spend_limit_reached")),
            (429, "insufficient_quota", Some("project_spend_limit_exceeded")),
            Quota,
        ),
        (
            "organization-usage-limit",
            (429, "rate_limit_error", Some("enforced_spend_limit_reached")),
            (429, "insufficient_quota", Some("organization_usage_limit_exceeded")),
            Quota,
        ),
        ("server", (500, "api_error", None), (500, "server_error", None), Transient),
        ("bad-gateway", (502, "api_error", None), (502, "server_error", None), Transient),
        ("unavailable", (503, "api_error", None), (503, "server_error", None), Transient),
        ("timeout", (504, "timeout_error", None), (504, "server_error", None), Transient),
        (
            "overloaded",
            (529, "overloaded_error", None),
            (503, "service_unavailable_error", Some("server_is_overloaded")),
            Overloaded,
        ),
    ];
    let names: Vec<&str> = Row::ALL.iter().map(|row| row.as_str()).collect();
    assert_eq!(names, rows.iter().map(|row| row.0).collect::<Vec<_>>(), "every row stands in the table");
    for (name, messages, chat, kind) in rows {
        let row = Row::named(name).unwrap();
        assert_eq!(row.kind(), *kind, "{name}");
        let answer = row.answer(Dialect::Messages, Hint::None, Timestamp::EPOCH);
        let error = &answer.body["error"];
        let seen = (answer.status, error["type"].as_str().unwrap(), error["details"]["error_code"].as_str());
        assert_eq!(seen, *messages, "{name} in messages");
        assert_eq!(answer.body["type"], "error");
        let answer = row.answer(Dialect::Chat, Hint::None, Timestamp::EPOCH);
        let error = &answer.body["error"];
        let seen = (answer.status, error["type"].as_str().unwrap(), error["code"].as_str());
        assert_eq!(seen, *chat, "{name} in chat");
    }
}

#[test]
fn hints_in_all_forms() {
    let now = Timestamp::from_secs(784_111_777 - 3);
    let rows = [
        ("ms=1500", "retry-after-ms: 1500", Some(1_500)),
        ("s=2", "retry-after: 2", Some(2_000)),
        ("2", "retry-after: 2", Some(2_000)),
        ("fraction=1250", "retry-after: 1.250", Some(1_250)),
        ("date=3", "retry-after: Sun, 06 Nov 1994 08:49:37 GMT", Some(3_000)),
        ("long", "retry-after: 86400", Some(86_400_000)),
        ("zero", "retry-after: 0", None),
        ("negative", "retry-after: -5", None),
        ("nan", "retry-after: NaN", None),
        ("garbage", "retry-after: soon", None),
        ("both", "retry-after-ms: 1500, retry-after: 60", Some(1_500)),
        ("none", "", None),
        ("do-not", "x-should-retry: false", None),
    ];
    for (text, headers, wait_ms) in rows {
        let hint = Hint::parse(text).unwrap();
        let shown: Vec<String> =
            hint.headers(now, Some(1)).iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(shown.join(", "), headers, "{text}");
        assert_eq!(hint.wait(Some(1)).map(|wait| wait.as_millis()), wait_ms, "{text}");
    }
}
