//! Keeps calls away from a target that fails: one breaker per (provider, model), shared by every chain it stands in.
//! The state machine is in `breaker/state.rs`, pure; this file is its shell.
//!
//! A target has two doors. Calls come by [`Door::Normal`]; when every target of a chain refuses, the planner takes the
//! least bad by [`Door::LastStanding`], which an open breaker does not shut but narrows (see [`State::admit`]). So a chain is
//! never left without a target, and a chain of one does not go dark for its retry time.

mod state;
mod window;

pub use state::{Admission, Door, Observation, Phase, State, Ticket, Transition};

use super::record::Recorder;
use crate::LayerInfo;
use crate::target::TargetKey;
use backstop_call::{
    BoxFuture, Call, Chunk, Clock, Closed, Code, Failure, FailureKind, Model, Progress, Reply, Seed, Sink,
    Timestamp,
};
use backstop_journal::event::BreakerChanged;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

/// What this layer is.
pub const INFO: LayerInfo = LayerInfo { name: "breaker", what: "keeps calls away from a target that fails" };

/// When a breaker opens, and how it closes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Calls in the last 60 s below which no rate opens it.
    pub calls_min: u32,
    /// Percent of failures in the last 60 s that open it.
    pub failure_percent: u32,
    /// Failures in a row that open it, however few the calls.
    pub consecutive_failures: u32,
    /// Percent of slow first tokens in the last 60 s that open it.
    pub slow_percent: u32,
    /// From which time to the first token a call is slow.
    pub slow_ttft_ms: u64,
    /// How long it stays open the first time; doubled each time it opens again.
    pub open_ms: u64,
    /// The longest it stays open.
    pub open_ms_max: u64,
    /// Percent by which the open time is spread to both sides.
    pub jitter_percent: u32,
    /// After so long closed, the doubling is forgotten.
    pub calm_ms: u64,
    /// Successes, one probe at a time, that close it.
    pub probe_successes: u32,
    /// After closing, over so long the admitted share grows from a tenth to all; 0 is at once.
    pub ramp_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            calls_min: 10,
            failure_percent: 50,
            consecutive_failures: 5,
            slow_percent: 80,
            slow_ttft_ms: 30_000,
            open_ms: 10_000,
            open_ms_max: 300_000,
            jitter_percent: 20,
            calm_ms: 300_000,
            probe_successes: 3,
            ramp_ms: 30_000,
        }
    }
}

/// The breaker of one target.
pub struct Breaker {
    target: TargetKey,
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    seed: Arc<Seed>,
    recorder: Recorder,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(
        target: TargetKey,
        config: Config,
        clock: Arc<dyn Clock>,
        seed: Arc<Seed>,
        recorder: Recorder,
    ) -> Arc<Self> {
        Arc::new(Self { target, state: Mutex::new(State::new(config)), clock, seed, recorder })
    }

    /// The present phase.
    pub fn phase(&self) -> Phase {
        self.lock().phase()
    }

    fn admit(&self, door: Door) -> Admission {
        let draw = self.seed.unit();
        let (admission, transition) = {
            let mut state = self.lock();
            state.admit(self.clock.now(), door, draw)
        };
        self.tell(transition);
        admission
    }

    fn report(&self, ticket: Ticket, observation: Observation) {
        let draw = self.seed.unit();
        let transition = self.lock().report(self.clock.now(), ticket, observation, draw);
        self.tell(transition);
    }

    fn tell(&self, transition: Option<Transition>) {
        if let Some(Transition { from, to, reason }) = transition {
            self.recorder.node(BreakerChanged {
                provider: self.target.provider.clone(),
                model: self.target.model.clone(),
                from: from.to_owned(),
                to: to.to_owned(),
                reason,
            });
        }
    }

    /// A panic elsewhere leaves at worst one uncounted call behind, so the state stays good for use.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusal(&self, retry_at: Timestamp) -> Failure {
        let wait = retry_at.since(self.clock.now()).max(Duration::from_millis(1));
        let message = format!("{} is out of service for {:.1} s more", self.target, wait.as_secs_f64());
        let mut failure = Failure::new(FailureKind::Overloaded, Progress::NotSent, message)
            .with_code(Code::NoTarget)
            .with_retry_after(Some(wait));
        failure.detail.provider = Some(self.target.provider.clone());
        failure
    }
}

/// Puts the layer on a model, for calls that come by this door.
pub fn layer(inner: Arc<dyn Model>, breaker: Arc<Breaker>, door: Door) -> Arc<dyn Model> {
    Arc::new(Guarded { inner, breaker, door })
}

/// What a call's end says about its target's health.
///
/// Throttling, a refused key or request, money, refusals and cancels say nothing: they are about us. What was refused here, on
/// this machine, says nothing either. An answer that the provider gave and that only validation refused is a success of
/// the provider: its attempt's record names no failure.
pub fn observe(
    result: &Result<Reply, Failure>,
    first_content: Option<Duration>,
    slow: Duration,
) -> Observation {
    match result {
        Ok(reply) => match reply.first_token.or(first_content) {
            Some(ttft) if ttft > slow => Observation::Slow,
            Some(_) | None => Observation::Success,
        },
        Err(failure) => match failure.kind {
            _ if failure.detail.attempts.is_empty() => Observation::Nothing,
            _ if failure.detail.status == Some(409) => Observation::Nothing,
            FailureKind::Malformed if failure.detail.attempts.last().is_some_and(|a| a.failure.is_none()) => {
                Observation::Success
            }
            FailureKind::Transient
            | FailureKind::Overloaded
            | FailureKind::Malformed
            | FailureKind::UnknownOutcome => Observation::Failure(failure.kind),
            FailureKind::Throttled
            | FailureKind::Quota
            | FailureKind::Auth
            | FailureKind::Invalid
            | FailureKind::ContextLength
            | FailureKind::Policy
            | FailureKind::Downstream
            | FailureKind::Cancelled
            | FailureKind::Budget
            | FailureKind::Private
            | FailureKind::Deadline => Observation::Nothing,
        },
    }
}

struct Guarded {
    inner: Arc<dyn Model>,
    breaker: Arc<Breaker>,
    door: Door,
}

impl Model for Guarded {
    fn call<'a>(&'a self, call: Call, sink: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        Box::pin(async move {
            let ticket = match self.breaker.admit(self.door) {
                Admission::Pass(ticket) => ticket,
                Admission::Refuse { retry_at } => return Err(self.breaker.refusal(retry_at)),
            };
            let slow = Duration::from_millis(self.breaker.lock().config().slow_ttft_ms);
            let mut open = Open { breaker: &self.breaker, ticket: Some(ticket) };
            let began = self.breaker.clock.now();
            let mut watched = FirstContent { sink, clock: &*self.breaker.clock, at: None };
            let result = self.inner.call(call, &mut watched).await;
            let first_content = watched.at.map(|at| at.since(began));
            open.end(observe(&result, first_content, slow));
            result
        })
    }
}

/// An admitted call. Dropped, it gives its place back and says nothing.
struct Open<'a> {
    breaker: &'a Breaker,
    ticket: Option<Ticket>,
}

impl Open<'_> {
    fn end(&mut self, observation: Observation) {
        if let Some(ticket) = self.ticket.take() {
            self.breaker.report(ticket, observation);
        }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.end(Observation::Nothing);
    }
}

struct FirstContent<'a> {
    sink: &'a mut dyn Sink,
    clock: &'a dyn Clock,
    at: Option<Timestamp>,
}

impl Sink for FirstContent<'_> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.sink.poll_ready(cx)
    }

    fn send(&mut self, chunk: Chunk) {
        if self.at.is_none() && chunk.is_content() {
            self.at = Some(self.clock.now());
        }
        self.sink.send(chunk);
    }

    fn is_seen(&self) -> bool {
        self.sink.is_seen()
    }
}
