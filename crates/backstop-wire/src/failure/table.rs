//! The tables of failures: names and statuses to kinds, and kinds to what a client is told. Owns no parsing.

use super::{Told, Verdict};
use backstop_call::{Code, Dialect, Failure, FailureKind};
use std::time::Duration;

use Code::{ModelNotFound, RequestInvalid, RequestTooLarge};
use FailureKind::{
    Auth, Budget, Cancelled, ContextLength, Deadline, Downstream, Invalid, Malformed, Overloaded, Policy,
    Private, Quota, Throttled, Transient, UnknownOutcome,
};

/// A provider's word for an error, in `error.details.error_code`, `error.code` or `error.type`.
struct Named(&'static str, FailureKind);

/// Words that decide alone, whatever the status. A word that a provider puts on several things
/// (`invalid_request_error`, `api_error`) stands in no row: its status decides.
const NAMES: &[Named] = &[
    // Money.
    Named("enforced_spend_limit_reached", Quota),
    Named("billing_error", Quota),
    Named("insufficient_quota", Quota),
    Named("credit_balance_exhausted", Quota),
    Named("organization_spend_limit_exceeded", Quota),
    Named("project_spend_limit_exceeded", Quota),
    Named("organization_usage_limit_exceeded", Quota),
    Named("billing_hard_limit_reached", Quota),
    Named("billing_not_active", Quota),
    // Our share.
    Named("rate_limit_exceeded", Throttled),
    Named("rate_limit_error", Throttled),
    Named("slow_down", Throttled),
    // The provider as a whole.
    Named("overloaded_error", Overloaded),
    Named("server_is_overloaded", Overloaded),
    Named("engine_overloaded_error", Overloaded),
    // The key.
    Named("authentication_error", Auth),
    Named("permission_error", Auth),
    Named("invalid_api_key", Auth),
    // The size of the request.
    Named("context_length_exceeded", ContextLength),
    // llama.cpp.
    Named("exceed_context_size_error", ContextLength),
    // Filters.
    Named("content_filter", Policy),
    Named("content_policy_violation", Policy),
    Named("moderation_blocked", Policy),
    Named("invalid_prompt", Policy),
    Named("bio_policy", Policy),
    Named("image_content_policy_violation", Policy),
    // The server.
    Named("server_error", Transient),
    Named("timeout_error", Transient),
    Named("conflict_error", Transient),
    // The request.
    Named("request_too_large", Invalid),
    Named("not_found_error", Invalid),
    Named("model_not_found", Invalid),
    Named("data_residency_mismatch", Invalid),
    Named("previous_response_not_found", Invalid),
    Named("thread_unsupported_request", Invalid),
    // Responses tells these of a response that began, so with no status.
    Named("invalid_image", Invalid),
    Named("invalid_image_format", Invalid),
    Named("invalid_base64_image", Invalid),
    Named("invalid_image_url", Invalid),
    Named("invalid_image_mode", Invalid),
    Named("image_too_large", Invalid),
    Named("image_too_small", Invalid),
    Named("image_parse_error", Invalid),
    Named("image_file_too_large", Invalid),
    Named("image_file_not_found", Invalid),
    Named("unsupported_image_media_type", Invalid),
    Named("empty_image_file", Invalid),
    Named("failed_to_download_image", Invalid),
];

/// A message that is the only sign of what is meant.
struct Phrase {
    status: u16,
    /// In lower case.
    says: &'static str,
    kind: FailureKind,
}

/// The only places where text decides, and only under the status and the general type that they come with.
const PHRASES: &[Phrase] = &[
    // Anthropic has no code for a full context window: "prompt is too long: 208310 tokens > 200000 maximum".
    Phrase { status: 400, says: "prompt is too long", kind: ContextLength },
    // Anthropic, when only input and `max_tokens` together are too much.
    Phrase { status: 400, says: "exceed context limit", kind: ContextLength },
    // vLLM and servers like it: "This model's maximum context length is 4096 tokens", with a numeric code.
    Phrase { status: 400, says: "maximum context length", kind: ContextLength },
    // Anthropic's limit that an organization or workspace set itself.
    Phrase { status: 400, says: "reached your specified api usage limits", kind: Quota },
    Phrase { status: 400, says: "reached your specified workspace api usage limits", kind: Quota },
    // The same for a Claude Code workspace, which may say it with 429.
    Phrase { status: 429, says: "reached your specified", kind: Quota },
    // Anthropic's prepaid credit.
    Phrase { status: 400, says: "credit balance is too low", kind: Quota },
    // Anthropic's filter over the output: "Output blocked by content filtering policy", with no code of its own.
    Phrase { status: 400, says: "content filtering policy", kind: Policy },
];

/// Types that say no more than the status does, so that a phrase may say more.
const GENERAL_TYPES: &[&str] = &["invalid_request_error", "rate_limit_error", "BadRequestError"];

/// What an error means: a word that decides, else a phrase, else the status. A redirect means that the address is wrong,
/// whatever its body says.
pub(super) fn judge(told: &Told, status: u16) -> Verdict {
    if (300..400).contains(&status) {
        return Verdict { kind: Invalid, code: RequestInvalid, unbilled: true };
    }
    let exact = [&told.detail_code, &told.code].into_iter().flatten().find_map(|word| named(word));
    let general = told.error_type.as_deref().is_none_or(|name| GENERAL_TYPES.contains(&name));
    let kind = exact
        .or_else(|| if general { phrase(told, status) } else { None })
        .or_else(|| named(told.error_type.as_deref()?))
        .unwrap_or_else(|| by_status(status));
    Verdict { kind, code: code(told, status, kind), unbilled: !may_be_billed(told, status) }
}

fn named(word: &str) -> Option<FailureKind> {
    NAMES.iter().find(|row| row.0 == word).map(|row| row.1)
}

fn phrase(told: &Told, status: u16) -> Option<FailureKind> {
    let message = told.message.as_ref()?.to_ascii_lowercase();
    PHRASES.iter().find(|row| row.status == status && message.contains(row.says)).map(|row| row.kind)
}

/// What a status means when no word says more: a proxy's page, an empty body, a word nobody knows.
fn by_status(status: u16) -> FailureKind {
    match status {
        401 | 403 | 407 => Auth,
        402 => Quota,
        429 => Throttled,
        451 => Policy,
        // Never implemented, or a version that is not spoken: another attempt is told the same.
        501 | 505 => Invalid,
        529 => Overloaded,
        // The server or a proxy before it, or the state they were in: timeout, conflict, too early.
        408 | 409 | 425 | 500..=599 => Transient,
        // Any other 4xx refuses the request.
        _ => Invalid,
    }
}

/// The code a user can look up.
fn code(told: &Told, status: u16, kind: FailureKind) -> Code {
    if kind != Invalid {
        return kind.code();
    }
    let says = |word: &str| {
        [&told.detail_code, &told.code, &told.error_type].into_iter().flatten().any(|told| told == word)
    };
    if says("request_too_large") || matches!(status, 413 | 431) {
        RequestTooLarge
    } else if says("model_not_found") {
        ModelNotFound
    } else if told.detail_code.is_none()
        && told.code.is_none()
        && !told.is_empty()
        && (status == 404 || says("not_found_error"))
    {
        // On the paths that we call, what is not found is the model, unless a code names something else.
        ModelNotFound
    } else {
        RequestInvalid
    }
}

/// Whether the work may have been done and billed although an error was answered: something waited for it too long.
fn may_be_billed(told: &Told, status: u16) -> bool {
    matches!(status, 408 | 504 | 524) || told.error_type.as_deref() == Some("timeout_error")
}

/// The status and `error.type` by which a client's SDK understands the failure.
pub(super) fn told_as(dialect: Dialect, failure: &Failure) -> (u16, &'static str) {
    let told = failure.detail.status.unwrap_or(0);
    match dialect {
        Dialect::Messages => told_as_messages(failure, told),
        Dialect::Chat | Dialect::Responses => told_as_chat(failure, told),
    }
}

fn told_as_messages(failure: &Failure, told: u16) -> (u16, &'static str) {
    match failure.kind {
        Budget if is_ours(failure) => (500, "api_error"),
        Transient if told == 409 => (409, "conflict_error"),
        Transient if told == 504 => (504, "timeout_error"),
        Transient | Malformed | Downstream => (500, "api_error"),
        Overloaded => (529, "overloaded_error"),
        Throttled => (429, "rate_limit_error"),
        Quota if told == 429 && is_anthropics_own(failure) => (429, "rate_limit_error"),
        Quota if told == 400 && is_anthropics_own(failure) => (400, "invalid_request_error"),
        Quota | Budget => (402, "billing_error"),
        Auth if told == 403 => (403, "permission_error"),
        Auth => (401, "authentication_error"),
        Private => (403, "permission_error"),
        Invalid => match failure.code() {
            ModelNotFound => (404, "not_found_error"),
            RequestTooLarge => (413, "request_too_large"),
            // Its body did not come in time.
            _ if told == 408 => (408, "invalid_request_error"),
            // Without a code, a 404 would be taken for a missing model.
            _ if told == 404 && failure.detail.provider_code.is_some() => (404, "not_found_error"),
            _ => (400, "invalid_request_error"),
        },
        ContextLength | Policy | Cancelled => (400, "invalid_request_error"),
        UnknownOutcome | Deadline => (504, "timeout_error"),
    }
}

/// Whether nothing was spent because the books cannot be kept: no budget of the client's is used up.
fn is_ours(failure: &Failure) -> bool {
    failure.code() == Code::DatabaseUnusable
}

/// Whether a used-up quota is told as Anthropic tells it, on a status of something else; its clients know that by sight.
fn is_anthropics_own(failure: &Failure) -> bool {
    let code = failure.detail.provider_code.as_deref();
    code.is_some_and(|code| GENERAL_TYPES.contains(&code) || code == "enforced_spend_limit_reached")
}

fn told_as_chat(failure: &Failure, told: u16) -> (u16, &'static str) {
    match failure.kind {
        Budget if is_ours(failure) => (500, "server_error"),
        Transient if matches!(told, 408 | 409) => (told, "server_error"),
        Transient if matches!(told, 502..=504) => (told, "server_error"),
        Transient | Malformed | Downstream => (500, "server_error"),
        Overloaded => (503, "service_unavailable_error"),
        Throttled => (429, "rate_limit_error"),
        Quota | Budget => (429, "insufficient_quota"),
        Auth if told == 403 => (403, "invalid_request_error"),
        Auth => (401, "invalid_request_error"),
        Private => (403, "invalid_request_error"),
        Invalid => match failure.code() {
            ModelNotFound => (404, "invalid_request_error"),
            RequestTooLarge => (413, "invalid_request_error"),
            _ if told == 408 => (408, "invalid_request_error"),
            _ if told == 404 && failure.detail.provider_code.is_some() => (404, "invalid_request_error"),
            _ if told == 422 => (422, "invalid_request_error"),
            _ => (400, "invalid_request_error"),
        },
        ContextLength | Policy | Cancelled => (400, "invalid_request_error"),
        UnknownOutcome | Deadline => (504, "server_error"),
    }
}

/// The `error.code` that Chat's clients look at, when the provider gave none.
pub(super) fn chat_code(failure: &Failure) -> Option<&'static str> {
    match failure.kind {
        Budget if is_ours(failure) => None,
        Overloaded => Some("server_is_overloaded"),
        Throttled => Some("rate_limit_exceeded"),
        Quota | Budget => Some("insufficient_quota"),
        Auth => Some("invalid_api_key"),
        ContextLength => Some("context_length_exceeded"),
        Policy => Some("content_policy_violation"),
        Invalid if failure.code() == ModelNotFound => Some("model_not_found"),
        Invalid | Transient | Malformed | UnknownOutcome | Downstream | Cancelled | Private | Deadline => {
            None
        }
    }
}

/// Whether a word is a value of `error.type`, and so no code.
pub(super) fn is_error_type(word: &str) -> bool {
    word.ends_with("_error")
        || word.ends_with("Error")
        || matches!(word, "request_too_large" | "tokens" | "requests")
}

/// The message. Clients of Messages know a full context window only by its words. What went wrong between us and a provider
/// is told with the provider's name: the client's own connection is in order.
pub(super) fn told_message(dialect: Dialect, failure: &Failure) -> String {
    let message = &failure.detail.message;
    let is_between_us = matches!(failure.kind, Transient | Malformed | UnknownOutcome)
        && failure.detail.provider_code.is_none();
    if is_between_us && let Some(provider) = &failure.detail.provider {
        return format!("{provider}: {message}");
    }
    let known = message.to_ascii_lowercase().contains("prompt is too long");
    if dialect == Dialect::Messages && failure.kind == ContextLength && !known {
        return format!("prompt is too long: {message}");
    }
    message.to_string()
}

/// Whether the client should try again, for `x-should-retry`; `None` leaves it to the client. Never, when it would fail
/// the same way or was tried again already; but a client that only has to wait a little is let wait.
pub(super) fn client_should_retry(failure: &Failure) -> Option<bool> {
    const SHORT: Duration = Duration::from_mins(1);
    match failure.kind {
        Throttled if failure.retry_after.is_some_and(|wait| wait <= SHORT) => Some(true),
        // Nobody was asked: it is the gateway itself that has no room for a moment.
        Overloaded if failure.detail.attempts.is_empty() && failure.retry_after.is_some() => Some(true),
        Throttled | Transient | Overloaded => {
            if failure.detail.attempts.len() > 1 {
                Some(false)
            } else {
                None
            }
        }
        Quota | Auth | Invalid | ContextLength | Policy | Malformed | UnknownOutcome | Downstream
        | Cancelled | Budget | Private | Deadline => Some(false),
    }
}
