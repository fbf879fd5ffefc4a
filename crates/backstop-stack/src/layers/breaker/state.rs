//! The breaker's state machine. Pure: time and chance are arguments.
//!
//! ```text
//! closed ── rate, or in a row, or slow ──▶ open ── time over, a call comes ──▶ half-open ── 3 successes ──▶ closed
//!                                            ▲                                      │
//!                                            └────────────── a probe fails ─────────┘
//! ```

use super::Config;
use super::window::{Counts, Window};
use backstop_call::{FailureKind, Timestamp};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// How a call comes to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Another target is there if this one refuses.
    Normal,
    /// Every other target refused: this one is the least bad.
    LastStanding,
}

/// The phase of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// All calls pass, or a growing share of them just after it closed.
    Closed,
    /// No call passes by the normal door until then.
    Open {
        /// When a probe may go.
        until: Timestamp,
    },
    /// One probe at a time.
    HalfOpen {
        /// Whether one is under way.
        probing: bool,
        /// Since when; a probe that never reports does not shut the breaker for ever.
        since: Timestamp,
    },
}

impl Phase {
    /// The name in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen { .. } => "half-open",
        }
    }
}

/// What an admitted call hands back with its observation. One that was given out before the last change of phase no longer
/// counts: its call tells of another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    generation: u64,
    probe: bool,
}

/// Whether a call may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Pass(Ticket),
    /// It may not; another try is worth it then.
    Refuse {
        /// When.
        retry_at: Timestamp,
    },
}

/// What a call said about the target's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// It answered.
    Success,
    /// It answered, but its first token was slow.
    Slow,
    /// It failed, in a way that is the target's own.
    Failure(FailureKind),
    /// Nothing that is about the target.
    Nothing,
}

/// A change of phase, for the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The phase before.
    pub from: &'static str,
    /// The phase after.
    pub to: &'static str,
    /// Why, with the numbers that caused it.
    pub reason: String,
}

/// How long after one refused while it closes again (a ramp, a probe under way) another try is worth it.
const SOON: Duration = Duration::from_secs(1);
/// The most of its calls that the last standing target refuses, by Google's adaptive throttling.
const REJECT_MAX: f64 = 0.8;

/// A breaker's state.
#[derive(Debug, Clone)]
pub struct State {
    config: Config,
    phase: Phase,
    window: Window,
    in_a_row: u32,
    /// How often it opened without a calm time between.
    openings: u32,
    /// Successes since it was last open.
    successes: u32,
    closed_since: Option<Timestamp>,
    generation: u64,
}

impl State {
    /// A closed breaker.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            phase: Phase::Closed,
            window: Window::default(),
            in_a_row: 0,
            openings: 0,
            successes: 0,
            closed_since: None,
            generation: 0,
        }
    }

    /// The present phase.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The config it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// May a call pass? `draw` is in `0.0..1.0`.
    ///
    /// By the normal door an open breaker lets nothing pass, a half-open one a single probe at a time, and one that closed
    /// just now a share that grows from a tenth to all. By the last-standing door, a breaker that is not closed refuses
    /// (calls − 2·accepts) / (calls + 1) of the calls, at most four in five (Google SRE, adaptive throttling with K = 2).
    pub fn admit(&mut self, now: Timestamp, door: Door, draw: f64) -> (Admission, Option<Transition>) {
        match (self.phase, door) {
            (Phase::Closed, Door::LastStanding) => (self.pass(false), None),
            (Phase::Closed, Door::Normal) if draw < self.ramp(now) => (self.pass(false), None),
            (Phase::Closed, Door::Normal) => (Admission::Refuse { retry_at: now + SOON }, None),
            (Phase::Open { until }, Door::Normal) if now >= until => {
                let transition = self.change(
                    Phase::HalfOpen { probing: true, since: now },
                    "its time is over, a probe goes".to_owned(),
                );
                (self.pass(true), Some(transition))
            }
            (Phase::Open { until }, Door::Normal) => (Admission::Refuse { retry_at: until }, None),
            (Phase::HalfOpen { probing, since }, Door::Normal) => {
                let forgotten = now.since(since) >= Duration::from_millis(self.config.open_ms_max);
                if probing && !forgotten {
                    return (Admission::Refuse { retry_at: now + SOON }, None);
                }
                self.phase = Phase::HalfOpen { probing: true, since: now };
                (self.pass(true), None)
            }
            (Phase::Open { .. } | Phase::HalfOpen { .. }, Door::LastStanding) => {
                if draw < self.rejected(now) {
                    return (Admission::Refuse { retry_at: now + SOON }, None);
                }
                (self.pass(false), None)
            }
        }
    }

    /// Takes in how an admitted call ended. `draw` is in `0.0..1.0`.
    pub fn report(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        observation: Observation,
        draw: f64,
    ) -> Option<Transition> {
        if ticket.generation != self.generation {
            return None;
        }
        if ticket.probe
            && let Phase::HalfOpen { probing, .. } = &mut self.phase
        {
            *probing = false;
        }
        let failed = matches!(observation, Observation::Failure(_));
        match observation {
            Observation::Nothing => return None,
            Observation::Success | Observation::Slow => self.in_a_row = 0,
            Observation::Failure(_) => self.in_a_row = self.in_a_row.saturating_add(1),
        }
        let slow = u32::from(observation == Observation::Slow);
        self.window.add(now, Counts { calls: 1, failures: u32::from(failed), slow });
        match self.phase {
            Phase::Closed => self.trip_reason(now).map(|reason| self.open(now, draw, &reason)),
            Phase::HalfOpen { .. } if failed && ticket.probe => {
                Some(self.open(now, draw, &format!("a probe failed: {}", name_of(observation))))
            }
            Phase::Open { .. } | Phase::HalfOpen { .. } if failed => {
                self.successes = 0;
                None
            }
            // A slow answer is an answer, but no proof of health.
            Phase::Open { .. } | Phase::HalfOpen { .. } if slow > 0 => None,
            Phase::Open { .. } | Phase::HalfOpen { .. } => {
                self.successes += 1;
                (self.successes >= self.config.probe_successes).then(|| self.close(now))
            }
        }
    }

    fn trip_reason(&self, now: Timestamp) -> Option<String> {
        let config = &self.config;
        let counts = self.window.sum(now);
        if self.in_a_row >= config.consecutive_failures {
            return Some(format!("{} failures in a row", self.in_a_row));
        }
        if counts.calls < config.calls_min {
            return None;
        }
        if counts.failures > 0 && counts.reaches(counts.failures, config.failure_percent) {
            return Some(format!("{} of {} calls in 60 s failed", counts.failures, counts.calls));
        }
        if counts.slow > 0 && counts.reaches(counts.slow, config.slow_percent) {
            let ms = config.slow_ttft_ms;
            return Some(format!(
                "{} of {} calls in 60 s had no token within {ms} ms",
                counts.slow, counts.calls
            ));
        }
        None
    }

    fn open(&mut self, now: Timestamp, draw: f64, reason: &str) -> Transition {
        let calm = Duration::from_millis(self.config.calm_ms);
        if self.closed_since.is_some_and(|since| now.since(since) >= calm) {
            self.openings = 0;
        }
        let span = self.open_span(draw);
        self.openings = self.openings.saturating_add(1);
        self.closed_since = None;
        let reason = format!("{reason}; open for {:.1} s", span.as_secs_f64());
        self.change(Phase::Open { until: now + span }, reason)
    }

    fn close(&mut self, now: Timestamp) -> Transition {
        let reason = format!("{} successes", self.successes);
        self.closed_since = Some(now);
        self.window.clear();
        self.change(Phase::Closed, reason)
    }

    fn change(&mut self, to: Phase, reason: String) -> Transition {
        let from = self.phase.as_str();
        self.phase = to;
        self.generation += 1;
        self.successes = 0;
        self.in_a_row = 0;
        Transition { from, to: to.as_str(), reason }
    }

    /// `open · 2ⁿ`, capped, then spread by the jitter to both sides.
    fn open_span(&self, draw: f64) -> Duration {
        let doubled = self.config.open_ms.saturating_mul(1_u64 << self.openings.min(32));
        let capped = Duration::from_millis(doubled.min(self.config.open_ms_max));
        let spread = f64::from(self.config.jitter_percent.min(100)) / 100.0;
        capped.mul_f64(1.0 + spread * (2.0 * draw - 1.0))
    }

    /// The share that a breaker which closed just now admits.
    fn ramp(&self, now: Timestamp) -> f64 {
        let span = Duration::from_millis(self.config.ramp_ms);
        match self.closed_since {
            Some(since) if now.since(since) < span => {
                0.1 + 0.9 * now.since(since).as_secs_f64() / span.as_secs_f64()
            }
            Some(_) | None => 1.0,
        }
    }

    fn rejected(&self, now: Timestamp) -> f64 {
        let counts = self.window.sum(now);
        let calls = f64::from(counts.calls);
        let accepts = f64::from(counts.calls - counts.failures);
        ((calls - 2.0 * accepts) / (calls + 1.0)).clamp(0.0, REJECT_MAX)
    }

    fn pass(&self, probe: bool) -> Admission {
        Admission::Pass(Ticket { generation: self.generation, probe })
    }
}

fn name_of(observation: Observation) -> &'static str {
    match observation {
        Observation::Failure(kind) => kind.as_str(),
        Observation::Slow => "slow",
        Observation::Success => "success",
        Observation::Nothing => "nothing",
    }
}
