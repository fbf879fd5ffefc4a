//! How a call fails: classified once, at the edge, by the provider's code. Layers decide on [`Failure::kind`] and
//! [`Failure::progress`], never on text.

use crate::{Code, FreeText, LimitHint, Money, ProviderName, Timestamp, Told, Usage, span};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// What went wrong. Each kind has one action; see [`FailureKind::class`] and the planner in the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The provider or the way to it failed; trying again may help.
    Transient,
    /// The provider as a whole has no room; another one is better.
    Overloaded,
    /// We send too much: our share is used up for now.
    Throttled,
    /// Money or credit at the provider is used up; no retry helps.
    Quota,
    /// The key is wrong, or may not do this.
    Auth,
    /// The request is wrong.
    Invalid,
    /// The request does not fit the model's context window.
    ContextLength,
    /// The model or its provider declined, as an error.
    Policy,
    /// The answer is not what the protocol or the schema demands.
    Malformed,
    /// The request was sent and nothing certain is known: it may have been done and billed.
    UnknownOutcome,
    /// A side effect went wrong.
    Downstream,
    /// The caller went away.
    Cancelled,
    /// A budget has no room for the worst case of this call. Nothing was sent.
    Budget,
    /// No model that may see this text is to be had. Nothing was sent.
    Private,
    /// The time the caller gave is over.
    Deadline,
}

/// The coarse view of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureClass {
    /// It may go away by itself.
    Transient,
    /// It stays until somebody changes something.
    Permanent,
    /// The answer is wrong: validate, and ask again with what was wrong.
    Logic,
    /// A side effect went wrong: compensate.
    Downstream,
}

impl FailureKind {
    /// The coarse view.
    pub fn class(self) -> FailureClass {
        match self {
            Self::Transient | Self::Overloaded | Self::Throttled | Self::UnknownOutcome => {
                FailureClass::Transient
            }
            Self::Quota
            | Self::Auth
            | Self::Invalid
            | Self::ContextLength
            | Self::Policy
            | Self::Cancelled
            | Self::Budget
            | Self::Private
            | Self::Deadline => FailureClass::Permanent,
            Self::Malformed => FailureClass::Logic,
            Self::Downstream => FailureClass::Downstream,
        }
    }

    /// The code a user sees when nothing more exact is known.
    pub fn code(self) -> Code {
        match self {
            Self::Transient => Code::ProviderFailed,
            Self::Overloaded => Code::ProviderOverloaded,
            Self::Throttled => Code::RateLimited,
            Self::Quota => Code::QuotaExhausted,
            Self::Auth => Code::KeyRefused,
            Self::Invalid => Code::RequestInvalid,
            Self::ContextLength => Code::ContextTooLong,
            Self::Policy => Code::PolicyRefused,
            Self::Malformed => Code::AnswerMalformed,
            Self::UnknownOutcome => Code::OutcomeUnknown,
            Self::Downstream => Code::ToolFailed,
            Self::Cancelled => Code::Cancelled,
            Self::Budget => Code::BudgetExceeded,
            Self::Private => Code::NoLocalModel,
            Self::Deadline => Code::DeadlineExceeded,
        }
    }

    /// The name as it stands in events and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Overloaded => "overloaded",
            Self::Throttled => "throttled",
            Self::Quota => "quota",
            Self::Auth => "auth",
            Self::Invalid => "invalid",
            Self::ContextLength => "context-length",
            Self::Policy => "policy",
            Self::Malformed => "malformed",
            Self::UnknownOutcome => "unknown-outcome",
            Self::Downstream => "downstream",
            Self::Cancelled => "cancelled",
            Self::Budget => "budget",
            Self::Private => "private",
            Self::Deadline => "deadline",
        }
    }
}

/// How far a request got: what may be billed, and what may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// Nothing left this machine: not billed, free to retry.
    NotSent,
    /// The request went out, nothing came back.
    Sent,
    /// The provider began to answer.
    ResponseStarted,
    /// Content reached the caller: no retry, no failover.
    Committed,
}

/// A failed call. The fields that decisions are made on are here; what people read is in [`FailureDetail`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong.
    pub kind: FailureKind,
    /// How far the request got.
    pub progress: Progress,
    /// How long the provider asks to wait. A floor for the next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Duration>,
    /// The rest.
    pub detail: Box<FailureDetail>,
}

/// What people read about a failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailureDetail {
    /// The code a user can look up.
    pub code: Code,
    /// What happened: a lowercase fragment without a stop. The provider's own words where it has some; never a secret.
    pub message: FreeText,
    /// The provider it happened at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderName>,
    /// The HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The provider's own code (`error.code`, `error.details.error_code`, or `error.type`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_code: Option<String>,
    /// The provider's id of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// What the provider told of usage before it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What was produced before it failed, in characters of content.
    #[serde(default)]
    pub produced_chars: usize,
    /// Whether the provider is known not to bill it (it answered with an error before any content).
    #[serde(default)]
    pub unbilled: bool,
    /// What is left of our share at the provider.
    #[serde(default)]
    pub limits: LimitHint,
    /// Every attempt that was made. Filled by the stack.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptRecord>,
    /// The provider's answer as it came, for a client that speaks its dialect; never with a secret in it.
    #[serde(skip)]
    pub told: Option<Box<Told>>,
}

impl Failure {
    /// A failure with the code of its kind. A request that was not sent is not billed.
    pub fn new(kind: FailureKind, progress: Progress, message: impl Into<FreeText>) -> Self {
        let detail = FailureDetail {
            code: kind.code(),
            message: message.into(),
            provider: None,
            status: None,
            provider_code: None,
            request_id: None,
            usage: None,
            produced_chars: 0,
            unbilled: progress == Progress::NotSent,
            limits: LimitHint::default(),
            attempts: Vec::new(),
            told: None,
        };
        Self { kind, progress, retry_after: None, detail: Box::new(detail) }
    }

    /// The same with a more exact code.
    #[must_use]
    pub fn with_code(mut self, code: Code) -> Self {
        self.detail.code = code;
        self
    }

    /// The same with the wait the provider asks for.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// The coarse view.
    pub fn class(&self) -> FailureClass {
        self.kind.class()
    }

    /// The code a user can look up.
    pub fn code(&self) -> Code {
        self.detail.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(provider) = &self.detail.provider {
            write!(f, "{provider}: ")?;
        }
        f.write_str(self.detail.message.as_str())
    }
}

impl std::error::Error for Failure {}

/// One attempt of a call, as it is journaled and shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// 1 for the first.
    pub attempt: u32,
    /// The provider it went to.
    pub provider: ProviderName,
    /// The provider's id of the model.
    pub model: String,
    /// When it began.
    pub started: Timestamp,
    /// How long it took.
    #[serde(with = "span")]
    pub duration: Duration,
    /// How long was waited before it.
    #[serde(default, with = "span", skip_serializing_if = "Duration::is_zero")]
    pub waited: Duration,
    /// How it ended; `None` is success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureKind>,
    /// How far it got.
    pub progress: Progress,
    /// The code of the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// What happened, for people.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub message: FreeText,
    /// What it cost, or was counted as (suspense included).
    pub cost: Money,
    /// Whether that cost is unknown and counted at its worst case.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspense: bool,
}
