//! What may be asked of a target at a time: requests and tokens per minute, and calls under way at once. One limiter per
//! (provider, model), shared by every chain.
//!
//! A call that does not fit waits its turn, bounded by its deadline and its priority; one that cannot get its turn in time
//! is refused at once with the time at which it could. The decisions are in `limit/state.rs`, pure. Nobody polls: the first in
//! the queue sleeps until its time, and whatever frees room wakes it.

mod state;

pub use state::{Actual, Estimate, State, Verdict, WaiterId};

use crate::LayerInfo;
use crate::estimate::call_tokens_likely;
use crate::target::{Limits, TargetKey};
use backstop_call::{
    BoxFuture, Call, Clock, Failure, FailureKind, LimitHint, Model, Priority, Progress, Reply, Sink,
    Timestamp, Usage,
};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// What this layer is.
pub const INFO: LayerInfo =
    LayerInfo { name: "limit", what: "keeps to requests and tokens per minute, and to calls at once" };

/// How long a call waits for its turn, by its priority; never past its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// While a person waits.
    pub interactive_wait_ms: u64,
    /// As a rule.
    pub standard_wait_ms: u64,
    /// When nobody waits.
    pub batch_wait_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { interactive_wait_ms: 2_000, standard_wait_ms: 10_000, batch_wait_ms: 300_000 }
    }
}

impl Config {
    fn wait_max(&self, priority: Priority) -> Duration {
        Duration::from_millis(match priority {
            Priority::Interactive => self.interactive_wait_ms,
            Priority::Standard => self.standard_wait_ms,
            Priority::Batch => self.batch_wait_ms,
        })
    }
}

/// The limiter of one target.
pub struct Limiter {
    target: TargetKey,
    config: Config,
    clock: Arc<dyn Clock>,
    shared: Mutex<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: State,
    bells: HashMap<WaiterId, Arc<Notify>>,
}

impl Shared {
    /// Wakes the first in the queue.
    fn ring(&self) {
        if let Some(bell) = self.state.first().and_then(|id| self.bells.get(&id)) {
            bell.notify_one();
        }
    }
}

impl Limiter {
    /// A limiter that nothing has passed yet.
    pub fn new(target: TargetKey, limits: Limits, config: Config, clock: Arc<dyn Clock>) -> Arc<Self> {
        let shared = Mutex::new(Shared { state: State::new(limits), bells: HashMap::new() });
        Arc::new(Self { target, config, clock, shared })
    }

    /// Waits for a turn.
    async fn enter(&self, call: &Call, estimate: Estimate) -> Result<(), Failure> {
        let now = self.clock.now();
        let until = (now + self.config.wait_max(call.context.priority)).min(call.deadline);
        let mut place = match self.lock().state.arrive(now, call.context.priority, estimate) {
            Ok(()) => return Ok(()),
            Err(id) => Place { limiter: self, id: Some(id) },
        };
        let bell = place.bell();
        loop {
            let now = self.clock.now();
            let verdict = place.ask(now);
            let wake_at = match verdict {
                Verdict::Enter => return Ok(()),
                Verdict::At(at) if at > until => return Err(self.refusal(now, at)),
                Verdict::At(at) => at,
                Verdict::NotYet if until <= now => {
                    return Err(self.refusal(now, now + Duration::from_secs(1)));
                }
                Verdict::NotYet => until,
            };
            let rung = bell.notified();
            // Ends early when rung; either way the question is asked anew.
            let _ = tokio::time::timeout(wake_at.since(now), rung).await;
        }
    }

    fn refusal(&self, now: Timestamp, at: Timestamp) -> Failure {
        let wait = at.since(now).max(Duration::from_millis(1));
        let message =
            format!("{} has no room for {:.1} s more by our own limits", self.target, wait.as_secs_f64());
        let mut failure =
            Failure::new(FailureKind::Throttled, Progress::NotSent, message).with_retry_after(Some(wait));
        failure.detail.provider = Some(self.target.provider.clone());
        failure
    }

    fn leave(&self, estimate: Estimate, actual: Actual, hint: LimitHint) {
        let mut shared = self.lock();
        let now = self.clock.now();
        shared.state.leave(now, estimate, actual, hint);
        shared.ring();
    }

    /// A panic elsewhere leaves at worst an estimate unsettled, so the state stays good for use.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue. Dropped, it is given back, and the next one is woken.
struct Place<'a> {
    limiter: &'a Limiter,
    id: Option<WaiterId>,
}

impl Place<'_> {
    fn bell(&self) -> Arc<Notify> {
        let bell = Arc::new(Notify::new());
        if let Some(id) = self.id {
            self.limiter.lock().bells.insert(id, Arc::clone(&bell));
        }
        bell
    }

    fn ask(&mut self, now: Timestamp) -> Verdict {
        let Some(id) = self.id else { return Verdict::Enter };
        let mut shared = self.limiter.lock();
        let verdict = shared.state.ask(now, id);
        if verdict == Verdict::Enter {
            shared.bells.remove(&id);
            shared.ring();
            self.id = None;
        }
        verdict
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let mut shared = self.limiter.lock();
            shared.state.forget(id);
            shared.bells.remove(&id);
            shared.ring();
        }
    }
}

/// Puts the layer on a model.
pub fn layer(inner: Arc<dyn Model>, limiter: Arc<Limiter>) -> Arc<dyn Model> {
    Arc::new(Limited { inner, limiter })
}

/// What a call's end says about what it used of the limits. A provider counts failed requests too, once they reached it.
pub fn decide(estimate: Estimate, result: &Result<Reply, Failure>) -> Actual {
    let counted = |usage: &Usage| usage.input_tokens + usage.cache_write_tokens + usage.output_tokens;
    match result {
        Ok(reply) => Actual {
            sent: true,
            tokens: counted(&reply.usage),
            output_tokens: Some(reply.usage.output_tokens),
            closed_for: None,
        },
        Err(failure) if failure.progress == Progress::NotSent => Actual::default(),
        Err(failure) => {
            let untold = if failure.detail.unbilled { 0 } else { estimate.tokens };
            let tokens = failure.detail.usage.as_ref().map_or(untold, counted);
            let throttled = failure.kind == FailureKind::Throttled;
            let closed_for = failure.retry_after.filter(|_| throttled);
            Actual { sent: true, tokens, output_tokens: None, closed_for }
        }
    }
}

struct Limited {
    inner: Arc<dyn Model>,
    limiter: Arc<Limiter>,
}

impl Limited {
    fn estimate(&self, call: &Call) -> Estimate {
        let output = self.limiter.lock().state.output_likely();
        let output = call.request.max_tokens.map_or(output, |max| max.min(output));
        Estimate { tokens: call_tokens_likely(call) + output }
    }
}

impl Model for Limited {
    fn call<'a>(&'a self, call: Call, sink: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        Box::pin(async move {
            let estimate = self.estimate(&call);
            self.limiter.enter(&call, estimate).await?;
            let mut inside = Inside { limiter: &self.limiter, estimate, over: false };
            let result = self.inner.call(call, sink).await;
            let hint = match &result {
                Ok(reply) => reply.limits,
                Err(failure) => failure.detail.limits,
            };
            inside.leave(decide(estimate, &result), hint);
            result
        })
    }
}

/// A call that was let in. Dropped, it may have used all that was estimated.
struct Inside<'a> {
    limiter: &'a Limiter,
    estimate: Estimate,
    over: bool,
}

impl Inside<'_> {
    fn leave(&mut self, actual: Actual, hint: LimitHint) {
        self.over = true;
        self.limiter.leave(self.estimate, actual, hint);
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if !self.over {
            let tokens = self.estimate.tokens;
            self.leave(
                Actual { sent: true, tokens, output_tokens: None, closed_for: None },
                LimitHint::default(),
            );
        }
    }
}

#[cfg(test)]
mod tests;
