//! Why something was not done, as the API says it and as a page shows it: a code, words, a hint.

use crate::config::Problem;
use crate::gateway::answer::{self, Reply};
use crate::keys::KeyRefusal;
use backstop_agent::run::Preview;
use backstop_call::Code;
use backstop_journal::JournalError;
use http::{StatusCode, header};
use serde_json::json;
use std::time::Duration;

/// A wait as a client is told it.
pub(crate) fn seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1)
}

/// A refusal. Nothing was changed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    pub(crate) problem: Problem,
    /// What a call would do now, where that is not what was shown.
    pub(crate) preview: Option<Box<Preview>>,
    /// When to come again, in seconds.
    pub(crate) wait_secs: Option<u32>,
}

impl Refused {
    pub(crate) fn new(status: StatusCode, code: Code, message: String) -> Self {
        Self { status, problem: Problem::new(code, message), preview: None, wait_secs: None }
    }

    pub(crate) fn with_hint(mut self, hint: &str) -> Self {
        hint.clone_into(&mut self.problem.hint);
        self
    }

    /// As JSON.
    pub(crate) fn reply(&self) -> Reply {
        let Problem { code, message, hint, .. } = &self.problem;
        let mut error = json!({"code": code.to_string(), "message": message, "hint": hint});
        if let Some(preview) = &self.preview {
            error["preview"] = super::api::preview_json(preview);
        }
        let mut reply = answer::json(self.status, &json!({"error": error}));
        answer::put(reply.headers_mut(), answer::CODE, code.to_string());
        if let Some(wait) = self.wait_secs {
            answer::put(reply.headers_mut(), header::RETRY_AFTER, wait.to_string());
        }
        reply
    }
}

impl From<KeyRefusal> for Refused {
    fn from(refusal: KeyRefusal) -> Self {
        let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::UNAUTHORIZED);
        let wait_secs = refusal.retry_after().map(seconds);
        Self { status, problem: refusal.into(), preview: None, wait_secs }
    }
}

impl From<JournalError> for Refused {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Owned { .. } => Self::new(StatusCode::CONFLICT, error.code(), error.to_string()),
            // Where our files are and what ails them is for the log and for `/api/health`.
            other => {
                let message = "the books cannot be read or written; nothing was answered".to_owned();
                Self::new(StatusCode::SERVICE_UNAVAILABLE, other.code(), message)
            }
        }
    }
}
