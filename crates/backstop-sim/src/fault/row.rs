//! The rows of the providers' error tables: status, type, code and message in each dialect; Responses has Chat's. The types and codes are those
//! of Anthropic's and OpenAI's error pages; a row that one of them does not have is answered as the nearest it has.

use super::Hint;
use backstop_call::{Dialect, FailureKind, Timestamp};
use serde_json::{Value, json};

/// An error answer, ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Value,
    /// What it says about waiting.
    pub headers: Vec<(&'static str, String)>,
}

macro_rules! rows {
    ($($(#[$doc:meta])* $row:ident = $name:literal;)*) => {
        /// A row of the error tables.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Row {
            $($(#[$doc])* $row,)*
        }

        impl Row {
            /// Every row.
            pub const ALL: &[Self] = &[$(Self::$row,)*];

            /// Its name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$row => $name,)* }
            }
        }
    };
}

rows! {
    /// 400: the request is wrong.
    Invalid = "invalid";
    /// 400: it does not fit the context window.
    ContextLength = "context-length";
    /// 400: the spend limit that the owner set for the organisation or workspace is reached.
    OwnSpendLimit = "own-spend-limit";
    /// 400: a filter declined the prompt.
    Policy = "policy";
    /// 401: the key is wrong.
    Authentication = "authentication";
    /// 402: billing.
    Billing = "billing";
    /// 403: the key may not do this.
    Permission = "permission";
    /// 404: there is no such model.
    NotFound = "not-found";
    /// 408: the provider waited too long for the request.
    RequestTimeout = "request-timeout";
    /// 409: a conflict.
    Conflict = "conflict";
    /// 413: larger than the provider takes.
    TooLarge = "too-large";
    /// 422: well formed and not understood.
    Unprocessable = "unprocessable";
    /// 429: too many requests or tokens.
    RateLimit = "rate-limit";
    /// 429: the load rose too fast.
    SlowDown = "slow-down";
    /// 429: the spend limit that the provider enforces is reached; no `retry-after`.
    EnforcedSpendLimit = "enforced-spend-limit";
    /// 429: no credit is left.
    CreditExhausted = "credit-exhausted";
    /// 429: the organisation's spend limit.
    OrganizationSpendLimit = "organization-spend-limit";
    /// 429: the project's spend limit.
    ProjectSpendLimit = "project-spend-limit";
    /// 429: the organisation's usage limit.
    OrganizationUsageLimit = "organization-usage-limit";
    /// 500: a defect at the provider.
    Server = "server";
    /// 502: a gateway in the way failed.
    BadGateway = "bad-gateway";
    /// 503: not available for the moment.
    Unavailable = "unavailable";
    /// 504: the provider's own time is over.
    Timeout = "timeout";
    /// 529 in Messages, 503 `server_is_overloaded` in Chat Completions: no room.
    Overloaded = "overloaded";
}

/// Status, type, code and message.
struct Shape {
    status: u16,
    kind: &'static str,
    code: Option<&'static str>,
    message: &'static str,
}

fn shape(status: u16, kind: &'static str, code: Option<&'static str>, message: &'static str) -> Shape {
    Shape { status, kind, code, message }
}

impl Row {
    /// The row by its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|row| row.as_str() == name)
    }

    /// The answer in a dialect.
    pub fn answer(self, dialect: Dialect, hint: Hint, now: Timestamp) -> ErrorAnswer {
        let shape = self.shape(dialect);
        let headers = hint.headers(now, self.usual_secs());
        ErrorAnswer { status: shape.status, body: self.body(dialect, None), headers }
    }

    /// The HTTP status in a dialect.
    pub fn status(self, dialect: Dialect) -> u16 {
        self.shape(dialect).status
    }

    /// The error object in a dialect, as it stands in an error answer and in an error event. `message` takes the place of
    /// the row's own.
    pub fn body(self, dialect: Dialect, message: Option<&str>) -> Value {
        let shape = self.shape(dialect);
        let message = message.unwrap_or(shape.message);
        match dialect {
            Dialect::Messages => {
                let mut error = json!({"type": shape.kind, "message": message});
                if let Some(code) = shape.code {
                    error["details"] = json!({"error_code": code});
                }
                json!({"type": "error", "error": error})
            }
            Dialect::Chat | Dialect::Responses => {
                json!({"error": {"message": message, "type": shape.kind, "param": null, "code": shape.code}})
            }
        }
    }

    /// What it says about waiting by itself, in seconds.
    pub fn usual_secs(self) -> Option<u64> {
        matches!(self, Self::RateLimit | Self::SlowDown).then_some(1)
    }

    /// The kind of failure it is.
    pub fn kind(self) -> FailureKind {
        match self {
            Self::Invalid | Self::NotFound | Self::TooLarge | Self::Unprocessable => FailureKind::Invalid,
            Self::ContextLength => FailureKind::ContextLength,
            Self::OwnSpendLimit
            | Self::Billing
            | Self::EnforcedSpendLimit
            | Self::CreditExhausted
            | Self::OrganizationSpendLimit
            | Self::ProjectSpendLimit
            | Self::OrganizationUsageLimit => FailureKind::Quota,
            Self::Policy => FailureKind::Policy,
            Self::Authentication | Self::Permission => FailureKind::Auth,
            Self::RateLimit | Self::SlowDown => FailureKind::Throttled,
            Self::Overloaded => FailureKind::Overloaded,
            Self::RequestTimeout
            | Self::Conflict
            | Self::Server
            | Self::BadGateway
            | Self::Unavailable
            | Self::Timeout => FailureKind::Transient,
        }
    }

    /// The message, as Messages says it.
    pub fn message(self) -> &'static str {
        self.shape(Dialect::Messages).message
    }

    fn shape(self, dialect: Dialect) -> Shape {
        match dialect {
            Dialect::Messages => self.messages(),
            Dialect::Chat | Dialect::Responses => self.chat(),
        }
    }

    fn messages(self) -> Shape {
        let invalid = "invalid_request_error";
        let limit = "rate_limit_error";
        let api = "api_error";
        match self {
            Self::Invalid => shape(400, invalid, None, "messages: the request is not valid"),
            Self::ContextLength => {
                shape(400, invalid, None, "prompt is too long: 200001 tokens > 200000 maximum")
            }
            Self::OwnSpendLimit => shape(
                400,
                invalid,
                None,
                "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.",
            ),
            Self::Policy => shape(400, invalid, None, "Output blocked by content filtering policy"),
            Self::Authentication => shape(401, "authentication_error", None, "invalid x-api-key"),
            Self::Billing => shape(402, "billing_error", None, "there is an issue with your billing"),
            Self::Permission => {
                shape(403, "permission_error", None, "your API key may not use the specified resource")
            }
            Self::NotFound => shape(404, "not_found_error", None, "model: no-such-model"),
            Self::RequestTimeout => shape(408, "timeout_error", None, "the request took too long to arrive"),
            Self::Conflict => shape(409, "conflict_error", None, "the request conflicts with another one"),
            Self::TooLarge => shape(413, "request_too_large", None, "request exceeds the maximum size"),
            Self::Unprocessable => shape(422, invalid, None, "the request cannot be processed"),
            Self::RateLimit => {
                shape(429, limit, None, "this request would exceed your rate limit of requests per minute")
            }
            Self::SlowDown => shape(429, limit, None, "this request would exceed your acceleration limit"),
            Self::EnforcedSpendLimit
            | Self::CreditExhausted
            | Self::OrganizationSpendLimit
            | Self::ProjectSpendLimit
            | Self::OrganizationUsageLimit => shape(
                429,
                limit,
                Some("enforced_spend_limit_reached"),
                "your enforced spend limit is reached",
            ),
            Self::Server => shape(500, api, None, "Internal server error"),
            Self::BadGateway => shape(502, api, None, "Bad gateway"),
            Self::Unavailable => shape(503, api, None, "Service unavailable"),
            Self::Timeout => {
                shape(504, "timeout_error", None, "the request timed out while it was processed")
            }
            Self::Overloaded => shape(529, "overloaded_error", None, "Overloaded"),
        }
    }

    fn chat(self) -> Shape {
        let invalid = "invalid_request_error";
        let quota = "insufficient_quota";
        let server = "server_error";
        match self {
            Self::Invalid => shape(400, invalid, None, "the request is not valid"),
            Self::ContextLength => shape(
                400,
                invalid,
                Some("context_length_exceeded"),
                "This model's maximum context length is 200000 tokens. However, your messages resulted in 200001 tokens.",
            ),
            Self::Policy => {
                shape(400, invalid, Some("content_policy_violation"), "the prompt was declined by a filter")
            }
            Self::Authentication => {
                shape(401, invalid, Some("invalid_api_key"), "Incorrect API key provided")
            }
            Self::Permission => {
                shape(403, invalid, Some("unsupported_country_region_territory"), "your key may not do this")
            }
            Self::NotFound => {
                shape(404, invalid, Some("model_not_found"), "The model `no-such-model` does not exist")
            }
            Self::RequestTimeout => shape(408, server, None, "the request took too long to arrive"),
            Self::Conflict => shape(409, invalid, None, "the request conflicts with another one"),
            Self::TooLarge => shape(413, invalid, None, "request exceeds the maximum size"),
            Self::Unprocessable => shape(422, invalid, None, "the request cannot be processed"),
            Self::RateLimit => {
                shape(429, "requests", Some("rate_limit_exceeded"), "Rate limit reached for requests")
            }
            Self::SlowDown => {
                shape(429, "rate_limit_error", Some("slow_down"), "the load rose too fast; slow down")
            }
            Self::OwnSpendLimit | Self::Billing | Self::CreditExhausted => {
                shape(429, quota, Some("credit_balance_exhausted"), "your credit balance is exhausted")
            }
            Self::EnforcedSpendLimit | Self::OrganizationSpendLimit => shape(
                429,
                quota,
                Some("organization_spend_limit_exceeded"),
                "the organization's spend limit is reached",
            ),
            Self::ProjectSpendLimit => shape(
                429,
                quota,
                Some("project_spend_limit_exceeded"),
                "the project's spend limit is reached",
            ),
            Self::OrganizationUsageLimit => shape(
                429,
                quota,
                Some("organization_usage_limit_exceeded"),
                "the organization's usage limit is reached",
            ),
            Self::Server => shape(500, server, None, "The server had an error while processing your request"),
            Self::BadGateway => shape(502, server, None, "Bad gateway"),
            Self::Unavailable => shape(503, server, None, "Service unavailable"),
            Self::Timeout => shape(504, server, None, "the request timed out while it was processed"),
            Self::Overloaded => shape(
                503,
                "service_unavailable_error",
                Some("server_is_overloaded"),
                "Our servers are currently overloaded. Please try again later.",
            ),
        }
    }
}
