//! What calls share about a dependency: the retry quota of a target, and the quarantine of a credential. Pure.

use super::Config;
use backstop_call::{Failure, FailureKind, Timestamp};
use std::time::Duration;

/// What the planner is told about a target's dependencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// Retry tokens that are left.
    pub quota_left: u32,
    /// Why its credential is not to be used now, and until when.
    pub quarantined: Option<(FailureKind, Timestamp)>,
}

/// A bucket of retry tokens, after the AWS SDKs' standard of 2026: each retry costs, each success pays back. When a target
/// fails for good, retries soon add no more than what its rare successes pay for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryQuota {
    left: u32,
    most: u32,
}

impl RetryQuota {
    /// A full bucket.
    pub fn new(config: &Config) -> Self {
        Self { left: config.quota_tokens, most: config.quota_tokens }
    }

    /// What is left.
    pub fn left(&self) -> u32 {
        self.left
    }

    /// Takes what a retry costs.
    pub fn take(&mut self, cost: u32) {
        self.left = self.left.saturating_sub(cost);
    }

    /// A success gives back what its retries cost; one without retries gives one token.
    pub fn repay(&mut self, spent: u32) {
        self.left = self.left.saturating_add(spent.max(1)).min(self.most);
    }
}

/// The health of a credential, apart from its targets'.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Credential {
    refusals_in_a_row: u32,
    resting: Option<(FailureKind, Timestamp)>,
}

impl Credential {
    /// Takes in a failure. `Some` with the end of the quarantine that it begins.
    pub fn judge(&mut self, now: Timestamp, failure: &Failure, config: &Config) -> Option<Timestamp> {
        match failure.kind {
            FailureKind::Quota => {}
            FailureKind::Auth => {
                self.refusals_in_a_row += 1;
                if self.refusals_in_a_row < config.auth_failures_max {
                    return None;
                }
            }
            FailureKind::Transient
            | FailureKind::Overloaded
            | FailureKind::Throttled
            | FailureKind::Invalid
            | FailureKind::ContextLength
            | FailureKind::Policy
            | FailureKind::Malformed
            | FailureKind::UnknownOutcome
            | FailureKind::Downstream
            | FailureKind::Cancelled
            | FailureKind::Budget
            | FailureKind::Private
            | FailureKind::Deadline => return None,
        }
        let was_resting = self.quarantined(now).is_some();
        let span = failure.retry_after.unwrap_or(Duration::from_millis(config.quarantine_ms));
        let until = now + span;
        self.resting = Some((failure.kind, until));
        (!was_resting).then_some(until)
    }

    /// It worked.
    pub fn worked(&mut self) {
        *self = Self::default();
    }

    /// Why it is not to be used now, and until when.
    pub fn quarantined(&self, now: Timestamp) -> Option<(FailureKind, Timestamp)> {
        self.resting.filter(|(_, until)| *until > now)
    }
}
