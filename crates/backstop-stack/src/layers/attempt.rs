//! Retry and failover in one planner: one count of attempts and one deadline over all targets of a chain. The decisions are
//! in `attempt/planner.rs`, pure; what is shared between calls (the retry quota of a target, the quarantine of a credential)
//! in `attempt/dependency.rs`; the commit point in `attempt/gate.rs`; which failure a call ends with in `attempt/ending.rs`.
//!
//! Whatever a target refused on this machine (its breaker is open, its limiter would wait too long, the text does not fit its
//! window, a budget has no room) is no attempt: the planner goes on to the next target. A budget that has no room for one
//! target may have room for a cheaper one.

mod dependency;
mod ending;
mod gate;
mod planner;

pub use dependency::{Credential, RetryQuota, View};
pub use ending::{Wrong, ending};
pub use planner::{Facts, Input, Planner, Verdict, Why};

use super::breaker::Door;
use super::record::Recorder;
use crate::LayerInfo;
use crate::target::TargetKey;
use backstop_call::{
    AttemptRecord, BoxFuture, Call, Clock, Code, Failure, FailureKind, Model, Priority, Progress,
    ProviderName, Reply, Seed, Sink,
};
use backstop_journal::event::BreakerChanged;
use gate::Gate;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// What this layer is.
pub const INFO: LayerInfo =
    LayerInfo { name: "attempt", what: "retries and fails over: one count, one deadline, one commit point" };

/// How often, how long, how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Attempts in all, over all targets.
    pub attempts_max: u32,
    /// The first backoff after a request that was not sent.
    pub base_not_sent_ms: u64,
    /// The first backoff after a transient failure.
    pub base_transient_ms: u64,
    /// The first backoff after an overloaded provider.
    pub base_overloaded_ms: u64,
    /// The first backoff after a rate limit.
    pub base_throttled_ms: u64,
    /// The longest backoff, before jitter.
    pub backoff_ms_max: u64,
    /// The longest wait that a provider may ask for, while a person waits.
    pub interactive_server_wait_ms: u64,
    /// The same, as a rule.
    pub standard_server_wait_ms: u64,
    /// The same, when nobody waits.
    pub batch_server_wait_ms: u64,
    /// The retry tokens that a target has when all is well.
    pub quota_tokens: u32,
    /// What a retry costs that follows anything but a rate limit.
    pub quota_cost_transient: u32,
    /// What a retry costs that follows a rate limit.
    pub quota_cost_throttled: u32,
    /// No further attempt begins with less time than this before the deadline.
    pub remaining_ms_min: u64,
    /// So many refusals of the key in a row quarantine it; money that is used up does so at once.
    pub auth_failures_max: u32,
    /// For how long, if the provider does not say.
    pub quarantine_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            attempts_max: 3,
            base_not_sent_ms: 50,
            base_transient_ms: 500,
            base_overloaded_ms: 1_000,
            base_throttled_ms: 1_000,
            backoff_ms_max: 20_000,
            interactive_server_wait_ms: 10_000,
            standard_server_wait_ms: 30_000,
            batch_server_wait_ms: 120_000,
            quota_tokens: 500,
            quota_cost_transient: 14,
            quota_cost_throttled: 5,
            remaining_ms_min: 1_000,
            auth_failures_max: 2,
            quarantine_ms: 300_000,
        }
    }
}

impl Config {
    fn server_wait_max(&self, priority: Priority) -> Duration {
        Duration::from_millis(match priority {
            Priority::Interactive => self.interactive_server_wait_ms,
            Priority::Standard => self.standard_server_wait_ms,
            Priority::Batch => self.batch_server_wait_ms,
        })
    }
}

/// The credential of one provider, shared by all its targets.
pub type SharedCredential = Arc<Mutex<Credential>>;
/// The retry quota of one target, shared by all chains it stands in.
pub type SharedQuota = Arc<Mutex<RetryQuota>>;

/// One target of a chain: the layers under its two doors, and what it shares.
#[derive(Clone)]
pub struct Path {
    /// The target.
    pub target: TargetKey,
    /// Its context window, in tokens.
    pub context_window: u64,
    /// The way in while other targets are there.
    pub normal: Arc<dyn Model>,
    /// The way in when all others refused.
    pub last_standing: Arc<dyn Model>,
    /// Its retry quota.
    pub quota: SharedQuota,
    /// Its provider's credential.
    pub credential: SharedCredential,
}

/// What the planner's shell works with.
#[derive(Clone)]
pub struct Tools {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The jitter.
    pub seed: Arc<Seed>,
    /// Where failed attempts are written.
    pub recorder: Recorder,
    /// The rules.
    pub config: Config,
}

/// Puts the planner on the targets of a chain, in the order of the chain.
pub fn layer(paths: Vec<Path>, tools: Tools) -> Arc<dyn Model> {
    Arc::new(Attempt { paths, tools })
}

struct Attempt {
    paths: Vec<Path>,
    tools: Tools,
}

impl Model for Attempt {
    fn call<'a>(&'a self, call: Call, sink: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        match call.context.bound {
            None => Box::pin(self.run(call, sink)),
            Some(_) => Box::pin(self.run_bound(call, sink)),
        }
    }
}

/// What happened so far in one call.
#[derive(Default)]
struct Story {
    attempts: Vec<AttemptRecord>,
    /// What went wrong.
    wrong: Wrong,
    /// The retry tokens that were spent, by target.
    spent: Vec<u32>,
}

impl Attempt {
    /// The part of this chain that can answer what a provider has kept a part of.
    async fn run_bound(&self, mut call: Call, sink: &mut dyn Sink) -> Result<Reply, Failure> {
        let context = Arc::make_mut(&mut call.context);
        let Some((provider, model)) = context.bound.take() else { return self.run(call, sink).await };
        let fits = |path: &&Path| path.target.provider == provider && path.target.model == model;
        let paths: Vec<Path> = self.paths.iter().filter(fits).cloned().collect();
        if paths.is_empty() {
            let message = format!("a part of this request is kept by {provider}, which may not answer it");
            return Err(Failure::new(FailureKind::Invalid, Progress::NotSent, message));
        }
        Self { paths, tools: self.tools.clone() }.run(call, sink).await
    }

    async fn run(&self, call: Call, sink: &mut dyn Sink) -> Result<Reply, Failure> {
        let facts = self.paths.iter().map(|path| Facts {
            provider: path.target.provider.clone(),
            context_window: path.context_window,
        });
        let mut planner =
            Planner::new(self.tools.config, facts.collect(), call.context.priority, call.deadline);
        let mut story = Story { spent: vec![0; self.paths.len()], ..Story::default() };
        let mut verdict = self.plan(&mut planner, Input::Begin);
        loop {
            let (target, after, door) = match verdict {
                Verdict::GiveUp(why) => return Err(self.given_up(story, why)),
                Verdict::Try { target, after, door, quota_cost } => {
                    story.spent[target] += quota_cost;
                    lock(&self.paths[target].quota).take(quota_cost);
                    (target, after, door)
                }
            };
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            let number = u32::try_from(story.attempts.len()).unwrap_or(u32::MAX).saturating_add(1);
            let attempt = Call { attempt: number, ..call.clone() };
            let mut gate = Gate::new(sink, call.request.stream);
            let path = &self.paths[target];
            let model = match door {
                Door::Normal => &path.normal,
                Door::LastStanding => &path.last_standing,
            };
            let result = model.call(attempt, &mut gate).await;
            let committed = gate.end(result.is_ok()).await;
            match result {
                Ok(reply) => return Ok(self.answered(target, story, reply, (after, committed))),
                Err(failure) => {
                    let failure = self.take_in(&call, target, &mut story, (failure, after, committed));
                    let input = match &failure {
                        Taken::Refused(failure) => Input::Refused { target, failure },
                        Taken::Failed(failure) => Input::Failed { target, failure },
                    };
                    verdict = self.plan(&mut planner, input);
                    match failure {
                        Taken::Refused(failure) => story.wrong.refusals.push(failure),
                        Taken::Failed(failure) => story.wrong.failure = Some(failure),
                    }
                }
            }
        }
    }

    fn plan(&self, planner: &mut Planner, input: Input<'_>) -> Verdict {
        let now = self.tools.clock.now();
        let view = |path: &Path| View {
            quota_left: lock(&path.quota).left(),
            quarantined: lock(&path.credential).quarantined(now),
        };
        let views: Vec<View> = self.paths.iter().map(view).collect();
        planner.next(now, input, &views, self.tools.seed.unit())
    }

    fn answered(
        &self,
        target: usize,
        mut story: Story,
        mut reply: Reply,
        (waited, committed): (Duration, bool),
    ) -> Reply {
        let path = &self.paths[target];
        lock(&path.quota).repay(story.spent[target]);
        lock(&path.credential).worked();
        for record in &mut reply.attempts {
            record.waited = waited;
            record.progress = if committed { Progress::Committed } else { Progress::ResponseStarted };
        }
        story.attempts.append(&mut reply.attempts);
        reply.attempts = story.attempts;
        reply
    }

    /// Completes the failure's record and writes it down; tells a refusal of this machine from a failed attempt.
    fn take_in(
        &self,
        call: &Call,
        target: usize,
        story: &mut Story,
        (mut failure, waited, committed): (Failure, Duration, bool),
    ) -> Taken {
        let Some(mut record) = failure.detail.attempts.pop() else { return Taken::Refused(failure) };
        if committed {
            failure.progress = Progress::Committed;
        }
        record.failure = Some(failure.kind);
        record.progress = failure.progress;
        record.code = Some(failure.code());
        record.message.clone_from(&failure.detail.message);
        record.waited = waited;
        self.tools.recorder.attempt_failed(call, &record);
        story.attempts.push(record);
        self.judge_credential(&self.paths[target], &failure);
        Taken::Failed(failure)
    }

    fn judge_credential(&self, path: &Path, failure: &Failure) {
        let now = self.tools.clock.now();
        let until = lock(&path.credential).judge(now, failure, &self.tools.config);
        if let Some(until) = until {
            let reason = format!(
                "the credential is quarantined for {:.0} s: {}",
                until.since(now).as_secs_f64(),
                failure.kind.as_str()
            );
            self.tools.recorder.node(BreakerChanged {
                provider: path.target.provider.clone(),
                model: "*".to_owned(),
                from: "closed".to_owned(),
                to: "open".to_owned(),
                reason,
            });
        }
    }

    /// What the caller is told, with every attempt.
    fn given_up(&self, story: Story, why: Why) -> Failure {
        let mut failure = ending(story.wrong, why).unwrap_or_else(|| self.none_to_ask(why));
        failure.detail.attempts = story.attempts;
        failure
    }

    fn none_to_ask(&self, why: Why) -> Failure {
        let refused = |kind, message: &str| Failure::new(kind, Progress::NotSent, message);
        match why {
            Why::Deadline => {
                refused(FailureKind::Deadline, "the caller's time was over before anything was sent")
            }
            Why::Quarantined { kind, until } => {
                let wait = until.since(self.tools.clock.now());
                let provider: Option<ProviderName> =
                    self.paths.first().map(|path| path.target.provider.clone());
                let mut failure = refused(kind, "the provider refused this credential; it rests for a while");
                failure.detail.provider = provider;
                failure.with_retry_after(Some(wait))
            }
            Why::Final
            | Why::Committed
            | Why::Attempts
            | Why::RetryQuota
            | Why::HintTooLong
            | Why::NoTarget => {
                refused(FailureKind::Transient, "the chain has no target").with_code(Code::NoTarget)
            }
        }
    }
}

enum Taken {
    Refused(Failure),
    Failed(Failure),
}

/// A panic elsewhere leaves at worst a token uncounted, so the state stays good for use.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
