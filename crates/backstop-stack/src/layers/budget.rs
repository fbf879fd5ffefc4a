//! Money: the worst case of an attempt is reserved in every account it is paid from before anything is sent, and
//! resolved when the attempt ends, however it ends.
//!
//! | the attempt | its reservation |
//! |---|---|
//! | answered, usage told | settled at it: what is settled is certain |
//! | answered, usage not told | suspense: an upper estimate, never zero |
//! | not sent, or known not to be billed | void |
//! | failed or cancelled, content seen | suspense: an upper estimate of what was produced |
//! | failed or cancelled, nothing seen; or its outcome is unknown | suspense: the worst case |
//!
//! Suspense counts as spent until it is corrected by what the provider really billed. Every estimate is an upper bound
//! of what was seen (see `estimate.rs`), so that the sum of what is settled, suspended and reserved is not below the
//! provider's bill, but for what it produced unseen after the caller hung up: a correction reports that as an overrun.
//!
//! This layer also writes the attempt's record: what reached it and was granted is an attempt, anything refused above
//! or here is not.

use super::record::Recorder;
use crate::target::{Target, TargetKey};
use crate::{LayerInfo, estimate};
use backstop_allowance::{Account, Budget, Ledger, LedgerError, Reserve, Resolution, accounts_for};
use backstop_call::{
    AttemptRecord, BoxFuture, Call, Chunk, Clock, Closed, Code, Failure, FailureKind, Model, Money, Price,
    Progress, Purpose, Reply, Sink, Timestamp, Usage,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// What this layer is.
pub const INFO: LayerInfo =
    LayerInfo { name: "budget", what: "reserves the worst case of an attempt, and settles what it cost" };

/// How the worst case is reckoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Bytes of input per token, in the worst case. 1 is proven for byte-pair tokenizers; 2 or 3 reserves less, and a
    /// dense input may then overrun its reservation.
    pub input_bytes_per_token: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { input_bytes_per_token: 1 }
    }
}

/// Where the money is.
#[derive(Clone)]
pub struct Purse {
    /// Keeps the accounts.
    pub ledger: Arc<dyn Ledger>,
    /// What may be spent.
    pub budgets: Arc<[Budget]>,
    /// The time, and so the day, of a reservation.
    pub clock: Arc<dyn Clock>,
    /// Where the end of a cancelled attempt is written.
    pub recorder: Recorder,
    /// How the worst case is reckoned.
    pub config: Config,
}

/// What the layer must know of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The target.
    pub key: TargetKey,
    /// What it costs.
    pub price: Price,
    /// The most tokens it can write, for requests that do not say.
    pub max_output: u64,
    /// Whether it may bill output that it does not show.
    pub hidden_output: bool,
}

impl Terms {
    /// The terms of a target.
    pub fn of(target: &Target) -> Self {
        let Target { price, max_output, hidden_output, .. } = *target;
        Self { key: target.key(), price, max_output, hidden_output }
    }
}

/// Puts the layer on a model.
pub fn layer(inner: Arc<dyn Model>, purse: Purse, terms: Terms) -> Arc<dyn Model> {
    Arc::new(Paid { inner, purse, terms })
}

/// The bounds that an attempt's cost is estimated by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Input tokens at most.
    pub input_max: u64,
    /// Output tokens at most, over all choices.
    pub output_max: u64,
    /// What a token costs.
    pub price: Price,
    /// Whether what was seen says nothing of what was produced.
    pub hidden_output: bool,
}

impl Bounds {
    /// The bounds of a call. OpenAI's `n` asks for several answers, each of them billed; a count of tokens costs nothing.
    pub fn of(call: &Call, terms: &Terms, config: Config) -> Self {
        let request = &call.request;
        let input_max = estimate::call_tokens_max(call, config.input_bytes_per_token);
        if call.source.as_ref().is_some_and(|source| source.purpose == Purpose::Count) {
            return Self { input_max, output_max: 0, price: Price::FREE, hidden_output: false };
        }
        let choices = request.other.get("n").and_then(Value::as_u64).unwrap_or(1).max(1);
        let output_max = request.max_tokens.unwrap_or(terms.max_output).saturating_mul(choices);
        Self { input_max, output_max, price: terms.price, hidden_output: terms.hidden_output }
    }

    /// What is reserved.
    pub fn worst_case(&self) -> Money {
        self.price.worst_case(self.input_max, self.output_max)
    }

    fn produced(&self, told: Option<Usage>, bytes: u64) -> Usage {
        let visible = estimate::output_tokens_max(bytes, self.output_max);
        let output = if self.hidden_output { self.output_max } else { visible };
        estimate::usage_max(told, self.input_max, output)
    }
}

/// What was seen of an attempt when it ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Bytes of content that came.
    pub bytes: u64,
    /// The usage that came last.
    pub usage: Option<Usage>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
pub enum Ending<'a> {
    /// It was answered.
    Answered(&'a Reply),
    /// It failed.
    Failed(&'a Failure),
    /// The caller went away.
    Cancelled,
}

/// The decision: how the reservation ends, and the usage that is told for it where anything is known.
pub fn decide(bounds: &Bounds, seen: Seen, ending: Ending<'_>) -> (Resolution, Option<Usage>) {
    let estimate = |told: Option<Usage>, bytes: u64| {
        let usage = bounds.produced(told.filter(|told| !told.estimated), bytes);
        (Resolution::Suspend(bounds.price.cost(&usage)), Some(usage))
    };
    let worst_case = (Resolution::Suspend(bounds.worst_case()), None);
    match ending {
        Ending::Answered(reply) => {
            let told = reply.usage;
            let tells_all =
                told.total_input_tokens() > 0 && (told.output_tokens > 0 || bounds.output_max == 0);
            if tells_all && !told.estimated {
                return (Resolution::Settle(bounds.price.cost(&told)), Some(told));
            }
            let told_bytes = reply.told.as_ref().map_or(0, |told| told.body.len() as u64);
            let bytes = seen.bytes.max(estimate::content_bytes(&reply.content)).max(told_bytes);
            let (resolution, usage) = estimate(Some(told), bytes);
            // What the leaf thinks likely is told to people; money goes by the upper bound.
            (resolution, if told.estimated { Some(told) } else { usage })
        }
        Ending::Failed(failure) => {
            let unbilled = failure.progress == Progress::NotSent || failure.detail.unbilled;
            let unknown = matches!(failure.kind, FailureKind::UnknownOutcome | FailureKind::Deadline);
            if unbilled && seen.bytes == 0 {
                return (Resolution::Void, None);
            }
            if unknown || seen.bytes == 0 {
                return worst_case;
            }
            estimate(failure.detail.usage.or(seen.usage), seen.bytes)
        }
        Ending::Cancelled if seen.bytes > 0 => estimate(seen.usage, seen.bytes),
        Ending::Cancelled => worst_case,
    }
}

struct Paid {
    inner: Arc<dyn Model>,
    purse: Purse,
    terms: Terms,
}

impl Model for Paid {
    fn call<'a>(&'a self, call: Call, sink: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        Box::pin(async move {
            let bounds = Bounds::of(&call, &self.terms, self.purse.config);
            let began = self.purse.clock.now();
            let accounts = accounts_for(&self.purse.budgets, &call.context, &self.terms.key.provider, began);
            let shown = call.request.stream && sink.is_seen();
            let mut open = Open { paid: self, call: &call, bounds, began, shown, stage: Stage::Reserving };
            self.reserve(&call, &bounds, accounts, began).await.inspect_err(|_| open.stage = Stage::Over)?;
            let mut counted = Counted { sink, seen: Seen::default(), open };
            counted.open.stage = Stage::Sent(Seen::default());
            let result = self.inner.call(call.clone(), &mut counted).await;
            let Counted { seen, mut open, .. } = counted;
            open.end(seen, result)
        })
    }
}

impl Paid {
    async fn reserve(
        &self,
        call: &Call,
        bounds: &Bounds,
        accounts: Vec<(Account, Money)>,
        at: Timestamp,
    ) -> Result<(), Failure> {
        let reserve = Reserve { id: call.reservation(), amount: bounds.worst_case(), accounts, at };
        let refused = |message: String| Failure::new(FailureKind::Budget, Progress::NotSent, message);
        self.purse.ledger.reserve(reserve).await.map_err(|error| match error {
            LedgerError::Denied(denied) => refused(denied.to_string()),
            LedgerError::Unwritable(why) => {
                refused(format!("the ledger cannot be written: {why}")).with_code(Code::DatabaseUnusable)
            }
        })
    }
}

/// How far an attempt is, for the case that it is dropped.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// The reservation may or may not be held; nothing was sent.
    Reserving,
    /// The leaf has it.
    Sent(Seen),
    /// Its reservation is resolved.
    Over,
}

/// An attempt whose reservation is not resolved yet.
struct Open<'a> {
    paid: &'a Paid,
    call: &'a Call,
    bounds: Bounds,
    began: Timestamp,
    /// Whether the caller sees what comes.
    shown: bool,
    stage: Stage,
}

impl Open<'_> {
    fn end(&mut self, seen: Seen, mut result: Result<Reply, Failure>) -> Result<Reply, Failure> {
        self.stage = Stage::Over;
        let ending = match &result {
            Ok(reply) => Ending::Answered(reply),
            Err(failure) => Ending::Failed(failure),
        };
        let (resolution, usage) = decide(&self.bounds, seen, ending);
        let record = self.resolved(resolution, &result);
        match &mut result {
            Ok(reply) => {
                reply.usage = usage.unwrap_or(reply.usage);
                reply.attempts = vec![record];
            }
            Err(failure) => {
                failure.detail.usage = usage.or(failure.detail.usage);
                failure.detail.provider.get_or_insert_with(|| self.paid.terms.key.provider.clone());
                failure.detail.attempts = vec![record];
            }
        }
        result
    }

    fn resolved(&self, resolution: Resolution, result: &Result<Reply, Failure>) -> AttemptRecord {
        let now = self.paid.purse.clock.now();
        let settled = self.paid.purse.ledger.resolve(&self.call.reservation(), resolution, now);
        let counted = match resolution {
            Resolution::Settle(cost) => cost,
            Resolution::Void => Money::ZERO,
            Resolution::Suspend(most) => most,
        };
        let failure = result.as_ref().err();
        AttemptRecord {
            attempt: self.call.attempt,
            provider: self.paid.terms.key.provider.clone(),
            model: self.paid.terms.key.model.clone(),
            started: self.began,
            duration: now.since(self.began),
            waited: Duration::ZERO,
            failure: failure.map(|failure| failure.kind),
            progress: failure.map_or(Progress::ResponseStarted, |failure| failure.progress),
            code: failure.map(Failure::code),
            message: failure.map(|failure| failure.detail.message.clone()).unwrap_or_default(),
            cost: settled.map_or(counted, |settled| settled.spent),
            suspense: matches!(resolution, Resolution::Suspend(_)),
        }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let cancelled = |progress| {
            Err(Failure::new(FailureKind::Cancelled, progress, "the caller went away while it was under way"))
        };
        match self.stage {
            Stage::Over => {}
            Stage::Reserving => {
                drop(self.resolved(Resolution::Void, &cancelled(Progress::NotSent)));
            }
            Stage::Sent(seen) => {
                let (resolution, _) = decide(&self.bounds, seen, Ending::Cancelled);
                let progress = match (seen.bytes > 0, self.shown) {
                    (false, _) => Progress::Sent,
                    (true, false) => Progress::ResponseStarted,
                    (true, true) => Progress::Committed,
                };
                let record = self.resolved(resolution, &cancelled(progress));
                self.paid.purse.recorder.attempt_failed(self.call, &record);
            }
        }
    }
}

/// The usage that a chunk tells.
fn usage_in(chunk: &Chunk) -> Option<Usage> {
    match chunk {
        Chunk::Usage(usage) => Some(*usage),
        Chunk::Frame(frame) => frame.says.iter().filter_map(usage_in).last(),
        _ => None,
    }
}

/// Counts what comes, and holds the attempt's reservation: when it is dropped, both are known in one place.
struct Counted<'a, 'b> {
    sink: &'a mut dyn Sink,
    seen: Seen,
    open: Open<'b>,
}

impl Sink for Counted<'_, '_> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.sink.poll_ready(cx)
    }

    fn send(&mut self, chunk: Chunk) {
        self.seen.bytes += super::content_bytes_of(&chunk);
        self.seen.usage = usage_in(&chunk).or(self.seen.usage);
        self.open.stage = Stage::Sent(self.seen);
        self.sink.send(chunk);
    }

    fn is_seen(&self) -> bool {
        self.sink.is_seen()
    }
}
