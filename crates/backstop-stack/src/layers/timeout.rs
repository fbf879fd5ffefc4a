//! How long one attempt may take: in all, until its first sign of life, and between two signs. It watches through the
//! sink, so that any leaf is covered; a leaf may be stricter. The caller's deadline is a limit like the others.
//!
//! What is given up on was sent: nobody knows whether it was done and billed.

use crate::LayerInfo;
use backstop_call::{
    BoxFuture, Call, Chunk, Clock, Closed, Failure, FailureKind, Model, Progress, Reply, Sink, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

/// What this layer is.
pub const INFO: LayerInfo =
    LayerInfo { name: "timeout", what: "bounds one attempt: in all, to its first byte, between two chunks" };

/// The limits of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// In all.
    pub total_ms: u64,
    /// Of a streamed answer, from sending to the first chunk of any kind.
    pub first_byte_ms: u64,
    /// Of a streamed answer, between two chunks; pings count, time in which the reader has no room does not.
    pub idle_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { total_ms: 600_000, first_byte_ms: 60_000, idle_ms: 60_000 }
    }
}

/// Puts the layer on a model.
pub fn layer(inner: Arc<dyn Model>, clock: Arc<dyn Clock>, config: Config) -> Arc<dyn Model> {
    Arc::new(Timeout { inner, clock, config })
}

/// What is known about an attempt under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// When it was sent.
    pub began: Timestamp,
    /// When the caller gives up.
    pub deadline: Timestamp,
    /// Whether chunks are expected.
    pub streamed: bool,
    /// The last sign of life, and how far the answer is.
    pub last_sign: Option<Timestamp>,
    /// Whether the reader has no room at present.
    pub blocked: bool,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Look again then.
    WaitUntil(Timestamp),
    /// Give up.
    Over(Limit),
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The caller's time is over.
    Deadline,
    /// The attempt took too long.
    Total,
    /// Nothing came at all.
    FirstByte,
    /// Nothing more came.
    Idle,
}

/// The decision.
pub fn decide(state: &State, now: Timestamp, config: &Config) -> Verdict {
    let span = Duration::from_millis;
    let mut limits =
        vec![(state.deadline, Limit::Deadline), (state.began + span(config.total_ms), Limit::Total)];
    match (state.streamed, state.last_sign) {
        (false, _) => {}
        (true, None) => limits.push((state.began + span(config.first_byte_ms), Limit::FirstByte)),
        // A reader without room holds the provider back: the silence is ours. Look again later.
        (true, Some(_)) if state.blocked => limits.push((now + span(config.idle_ms.max(1)), Limit::Idle)),
        (true, Some(sign)) => limits.push((sign + span(config.idle_ms), Limit::Idle)),
    }
    let first = limits.into_iter().min_by_key(|(at, _)| *at);
    match first {
        Some((at, limit)) if at <= now => Verdict::Over(limit),
        Some((at, _)) => Verdict::WaitUntil(at),
        None => Verdict::WaitUntil(Timestamp::FAR),
    }
}

struct Timeout {
    inner: Arc<dyn Model>,
    clock: Arc<dyn Clock>,
    config: Config,
}

impl Model for Timeout {
    fn call<'a>(&'a self, call: Call, sink: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        Box::pin(async move {
            let signs = Signs::default();
            let base = State {
                began: self.clock.now(),
                deadline: call.deadline,
                streamed: call.request.stream,
                last_sign: None,
                blocked: false,
            };
            let mut watched = Watched { sink, signs: &signs, clock: &*self.clock };
            let mut answer = pin!(self.inner.call(call, &mut watched));
            loop {
                let now = self.clock.now();
                let state =
                    State { last_sign: signs.last(), blocked: signs.blocked.load(Ordering::Relaxed), ..base };
                let until = match decide(&state, now, &self.config) {
                    Verdict::WaitUntil(until) => until,
                    Verdict::Over(limit) => return Err(signs.given_up(limit)),
                };
                let mut wait = pin!(tokio::time::sleep(until.since(now)));
                let answered = poll_fn(|cx| {
                    if let Poll::Ready(result) = answer.as_mut().poll(cx) {
                        return Poll::Ready(Some(result));
                    }
                    wait.as_mut().poll(cx).map(|()| None)
                });
                if let Some(result) = answered.await {
                    return result;
                }
            }
        })
    }
}

/// What was seen of the answer. Atomics only because the sink and the timer borrow it at once.
#[derive(Default)]
struct Signs {
    last_nanos: AtomicU64,
    produced_bytes: AtomicU64,
    blocked: AtomicBool,
}

impl Signs {
    fn last(&self) -> Option<Timestamp> {
        let nanos = self.last_nanos.load(Ordering::Relaxed);
        (nanos > 0).then(|| Timestamp::from_nanos(nanos))
    }

    fn given_up(&self, limit: Limit) -> Failure {
        let progress = if self.last().is_some() { Progress::ResponseStarted } else { Progress::Sent };
        let (kind, message) = match limit {
            Limit::Deadline => {
                (FailureKind::Deadline, "the caller's time was over before the answer was whole")
            }
            Limit::Total => (FailureKind::UnknownOutcome, "the attempt took longer than its limit"),
            Limit::FirstByte => (FailureKind::UnknownOutcome, "nothing came back in time"),
            Limit::Idle => (FailureKind::UnknownOutcome, "the answer stopped coming"),
        };
        let mut failure = Failure::new(kind, progress, message);
        let produced = self.produced_bytes.load(Ordering::Relaxed);
        failure.detail.produced_chars = usize::try_from(produced).unwrap_or(usize::MAX);
        failure
    }
}

struct Watched<'a> {
    sink: &'a mut dyn Sink,
    signs: &'a Signs,
    clock: &'a dyn Clock,
}

impl Watched<'_> {
    fn sign(&self) {
        self.signs.last_nanos.store(self.clock.now().nanos().max(1), Ordering::Relaxed);
    }
}

impl Sink for Watched<'_> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let ready = self.sink.poll_ready(cx);
        let was_blocked = self.signs.blocked.load(Ordering::Relaxed);
        if was_blocked != ready.is_pending() {
            self.signs.blocked.store(ready.is_pending(), Ordering::Relaxed);
            if was_blocked {
                self.sign();
            }
        }
        ready
    }

    fn send(&mut self, chunk: Chunk) {
        self.sign();
        let bytes = super::content_bytes_of(&chunk);
        self.signs.produced_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.sink.send(chunk);
    }

    fn is_seen(&self) -> bool {
        self.sink.is_seen()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGAN: Timestamp = Timestamp::from_secs(1_000);

    #[test]
    fn table() {
        let config = Config { total_ms: 100_000, first_byte_ms: 20_000, idle_ms: 10_000 };
        let after = |secs: u64| BEGAN + Duration::from_secs(secs);
        let state = |streamed, sign: Option<u64>, blocked| State {
            began: BEGAN,
            deadline: after(90),
            streamed,
            last_sign: sign.map(after),
            blocked,
        };
        let rows = [
            (state(true, None, false), 0, Verdict::WaitUntil(after(20))),
            (state(true, None, false), 20, Verdict::Over(Limit::FirstByte)),
            (state(false, None, false), 20, Verdict::WaitUntil(after(90))),
            (state(true, Some(19), false), 20, Verdict::WaitUntil(after(29))),
            (state(true, Some(19), false), 29, Verdict::Over(Limit::Idle)),
            (state(true, Some(19), true), 29, Verdict::WaitUntil(after(39))),
            (state(true, Some(89), false), 90, Verdict::Over(Limit::Deadline)),
            (
                State { deadline: Timestamp::FAR, ..state(false, None, false) },
                100,
                Verdict::Over(Limit::Total),
            ),
        ];
        for (state, secs, want) in rows {
            assert_eq!(decide(&state, after(secs), &config), want, "{state:?} after {secs} s");
        }
    }
}
