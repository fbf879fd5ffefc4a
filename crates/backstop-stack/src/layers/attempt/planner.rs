//! The plan of one call: which target next, after which wait, or why no more. Pure.
//!
//! | a provider's failure | same target again | another target |
//! |---|---|---|
//! | transient, overloaded, unknown outcome | yes | yes, rather |
//! | throttled | yes, rather, the first time, when the wait is short | yes |
//! | malformed answer | yes, rather, the first time | yes |
//! | conflict (409) | once | no |
//! | quota, auth | no | of another provider (403: any) |
//! | context length | no | with a larger window |
//! | model not found, request too large | no | yes |
//! | invalid, policy, downstream, cancelled, deadline, budget, private | no | no |
//! | any, after the commit point | no | no |
//!
//! `wait = max(rand(0..1) · min(cap, base · 2ⁱ), hint)`: full jitter with the cap before it (AWS), the base by the kind of
//! failure, and the provider's hint as a floor. Only the same target is waited for; another one has done nothing yet.

use super::{Config, View};
use crate::layers::breaker::Door;
use backstop_call::{Code, Failure, FailureKind, Priority, Progress, ProviderName, Timestamp};
use std::time::Duration;

/// What the planner knows of a target from the beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its provider.
    pub provider: ProviderName,
    /// Its context window, in tokens.
    pub context_window: u64,
}

/// What happened.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// The call begins.
    Begin,
    /// A target was not asked: something on this machine refused.
    Refused {
        /// Its index.
        target: usize,
        /// Why.
        failure: &'a Failure,
    },
    /// An attempt failed.
    Failed {
        /// The target's index.
        target: usize,
        /// How.
        failure: &'a Failure,
    },
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Ask this target.
    Try {
        /// Its index.
        target: usize,
        /// After this wait.
        after: Duration,
        /// By which door.
        door: Door,
        /// What the retry costs of its quota; 0 for a first request.
        quota_cost: u32,
    },
    /// No more.
    GiveUp(Why),
}

/// Why no more attempts are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The failure is final, for every target.
    Final,
    /// Content has reached the caller.
    Committed,
    /// All attempts are used up.
    Attempts,
    /// The time that is left is of no use.
    Deadline,
    /// The provider asks for a longer wait than the caller can wait.
    HintTooLong,
    /// The target's retries are used up, for all calls together.
    RetryQuota,
    /// Every target's credential rests.
    Quarantined {
        /// For this.
        kind: FailureKind,
        /// Until then, the first of them.
        until: Timestamp,
    },
    /// No target is left.
    NoTarget,
}

impl Why {
    /// What people are told besides the failure, when it says more than the failure does.
    pub fn note(self) -> Option<&'static str> {
        match self {
            Self::Deadline => Some("no time is left for another attempt"),
            Self::HintTooLong => Some("the provider asks to wait longer than this call can"),
            Self::RetryQuota => Some("the retries of this target are used up for now"),
            Self::Final | Self::Committed | Self::Attempts | Self::Quarantined { .. } | Self::NoTarget => {
                None
            }
        }
    }
}

/// How one target stands in this call.
#[derive(Debug, Clone, Default)]
struct Standing {
    /// Failed attempts at it.
    failures: u32,
    /// It is not asked again.
    out: bool,
    /// Its breaker refused; it could be asked again then.
    refused_until: Option<Timestamp>,
    /// Not to be asked before.
    not_before: Timestamp,
    /// The wait that its provider asked for.
    hint: Option<Duration>,
    /// What a retry of it costs.
    quota_cost: u32,
    /// It is preferred over others for one more attempt.
    stay: bool,
}

/// The plan of one call.
#[derive(Debug, Clone)]
pub struct Planner {
    config: Config,
    facts: Vec<Facts>,
    targets: Vec<Standing>,
    attempts: u32,
    server_wait_max: Duration,
    deadline: Timestamp,
}

impl Planner {
    /// A plan over these targets, in the order of the chain.
    pub fn new(config: Config, facts: Vec<Facts>, priority: Priority, deadline: Timestamp) -> Self {
        let targets = vec![Standing::default(); facts.len()];
        let server_wait_max = config.server_wait_max(priority);
        Self { config, facts, targets, attempts: 0, server_wait_max, deadline }
    }

    /// Attempts made so far.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Takes in what happened and says what to do. `views` are the targets' dependencies now; `draw` is in `0.0..1.0`.
    pub fn next(&mut self, now: Timestamp, input: Input<'_>, views: &[View], draw: f64) -> Verdict {
        let taken = match input {
            Input::Begin => Ok(()),
            Input::Refused { target, failure } => self.refused(now, target, failure),
            Input::Failed { target, failure } => self.failed(now, target, failure, draw),
        };
        match taken {
            Err(why) => Verdict::GiveUp(why),
            Ok(()) if self.attempts >= self.config.attempts_max => Verdict::GiveUp(Why::Attempts),
            Ok(()) => self.choose(now, views),
        }
    }

    fn refused(&mut self, now: Timestamp, target: usize, failure: &Failure) -> Result<(), Why> {
        let standing = &mut self.targets[target];
        match failure.kind {
            FailureKind::Invalid | FailureKind::Deadline | FailureKind::Cancelled => return Err(Why::Final),
            // The second refusal came by the door for the last one standing: there is no third.
            _ if failure.code() == Code::NoTarget && standing.refused_until.is_none() => {
                standing.refused_until = Some(now + failure.retry_after.unwrap_or_default());
            }
            _ => standing.out = true,
        }
        standing.stay = false;
        Ok(())
    }

    fn failed(&mut self, now: Timestamp, target: usize, failure: &Failure, draw: f64) -> Result<(), Why> {
        self.attempts += 1;
        if failure.progress == Progress::Committed {
            return Err(Why::Committed);
        }
        let conflict = failure.detail.status == Some(409);
        let standing = &mut self.targets[target];
        standing.failures += 1;
        standing.stay = false;
        match failure.kind {
            FailureKind::Transient if conflict && standing.failures > 1 => return Err(Why::Final),
            FailureKind::Transient | FailureKind::Overloaded | FailureKind::UnknownOutcome => {
                standing.stay = conflict;
            }
            FailureKind::Throttled | FailureKind::Malformed => standing.stay = standing.failures == 1,
            FailureKind::Quota | FailureKind::Auth => self.drop_credential(target, failure),
            FailureKind::ContextLength => self.drop_smaller(target),
            FailureKind::Invalid if matches!(failure.code(), Code::ModelNotFound | Code::RequestTooLarge) => {
                standing.out = true;
            }
            FailureKind::Invalid
            | FailureKind::Policy
            | FailureKind::Downstream
            | FailureKind::Cancelled
            | FailureKind::Budget
            | FailureKind::Private
            | FailureKind::Deadline => return Err(Why::Final),
        }
        self.set_wait(now, target, failure, draw);
        Ok(())
    }

    fn set_wait(&mut self, now: Timestamp, target: usize, failure: &Failure, draw: f64) {
        let config = self.config;
        let standing = &mut self.targets[target];
        let throttled = failure.kind == FailureKind::Throttled;
        let base = match failure.kind {
            _ if failure.progress == Progress::NotSent => config.base_not_sent_ms,
            // Asking again does not load a provider that answered well enough but not well.
            FailureKind::Malformed => config.base_not_sent_ms,
            FailureKind::Overloaded => config.base_overloaded_ms,
            FailureKind::Throttled => config.base_throttled_ms,
            _ => config.base_transient_ms,
        };
        let doublings = (standing.failures - 1).min(32);
        let capped = base.saturating_mul(1_u64 << doublings).min(config.backoff_ms_max);
        let backoff = Duration::from_millis(capped).mul_f64(draw.clamp(0.0, 1.0));
        standing.hint = failure.retry_after;
        standing.not_before = now + backoff.max(failure.retry_after.unwrap_or_default());
        let free = failure.progress == Progress::NotSent && standing.failures == 1;
        standing.quota_cost = match (free, throttled) {
            (true, _) => 0,
            (false, true) => config.quota_cost_throttled,
            (false, false) => config.quota_cost_transient,
        };
    }

    /// The same credential fails elsewhere too; a 403 may be about this model alone.
    fn drop_credential(&mut self, target: usize, failure: &Failure) {
        let provider = self.facts[target].provider.clone();
        let all = failure.detail.status != Some(403);
        for (i, standing) in self.targets.iter_mut().enumerate() {
            standing.out |= i == target || (all && self.facts[i].provider == provider);
        }
    }

    fn drop_smaller(&mut self, target: usize) {
        let window = self.facts[target].context_window;
        for (i, standing) in self.targets.iter_mut().enumerate() {
            standing.out |= self.facts[i].context_window <= window;
        }
    }

    /// First the target that is worth staying with, then one that was not asked yet, then the one that is ready first, and if
    /// all breakers refuse, the least bad.
    fn choose(&self, now: Timestamp, views: &[View]) -> Verdict {
        let remaining_min = match self.attempts {
            0 => Duration::from_nanos(1),
            _ => Duration::from_millis(self.config.remaining_ms_min),
        };
        if self.deadline.since(now) < remaining_min {
            return Verdict::GiveUp(Why::Deadline);
        }
        let usable: Vec<usize> = (0..self.targets.len())
            .filter(|&i| !self.targets[i].out && views[i].quarantined.is_none())
            .collect();
        let (shut, open): (Vec<usize>, Vec<usize>) =
            usable.into_iter().partition(|&i| self.targets[i].refused_until.is_some());
        let mut ordered = open;
        ordered.sort_by_key(|&i| {
            let standing = &self.targets[i];
            (!standing.stay, standing.failures > 0, standing.not_before.max(now))
        });
        let mut least_bad = shut;
        least_bad.sort_by_key(|&i| self.targets[i].refused_until);
        let normal = ordered.into_iter().map(|i| (i, Door::Normal));
        let last = least_bad.into_iter().map(|i| (i, Door::LastStanding));
        let mut why = None;
        for (target, door) in normal.chain(last) {
            match self.admits(now, target, &views[target]) {
                Ok((after, quota_cost)) => return Verdict::Try { target, after, door, quota_cost },
                Err(reason) => why = why.or(Some(reason)),
            }
        }
        Verdict::GiveUp(why.unwrap_or_else(|| self.nothing_usable(views)))
    }

    /// After which wait and for how many retry tokens a target may be asked.
    fn admits(&self, now: Timestamp, target: usize, view: &View) -> Result<(Duration, u32), Why> {
        let standing = &self.targets[target];
        if standing.failures == 0 {
            return Ok((Duration::ZERO, 0));
        }
        let after = standing.not_before.since(now);
        if standing.hint.is_some() && after > self.server_wait_max {
            return Err(Why::HintTooLong);
        }
        let remaining = self.deadline.since(now + after);
        if remaining < Duration::from_millis(self.config.remaining_ms_min) {
            return Err(if standing.hint.is_some() { Why::HintTooLong } else { Why::Deadline });
        }
        if standing.quota_cost > view.quota_left {
            return Err(Why::RetryQuota);
        }
        Ok((after, standing.quota_cost))
    }

    fn nothing_usable(&self, views: &[View]) -> Why {
        let resting = views.iter().filter_map(|view| view.quarantined).min_by_key(|(_, until)| *until);
        match resting {
            Some((kind, until)) if self.attempts == 0 => Why::Quarantined { kind, until },
            Some(_) | None => Why::NoTarget,
        }
    }
}
