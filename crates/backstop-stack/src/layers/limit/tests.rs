//! The queue by table, the shell in paused time.

use super::*;
use crate::SystemClock;
use backstop_allowance::Rate;
use backstop_call::{Context, Discard, StopReason};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::Instant;

const START: Timestamp = Timestamp::from_secs(1_000);
const ONE: Estimate = Estimate { tokens: 1 };

fn limits(requests: Option<Rate>, concurrent: Option<usize>) -> Limits {
    Limits { requests, tokens: None, concurrent }
}

#[test]
fn strict_by_priority_and_in_order_within() {
    let mut state = State::new(limits(None, Some(1)));
    state.arrive(START, Priority::Batch, ONE).unwrap();
    let batch = state.arrive(START, Priority::Batch, ONE).unwrap_err();
    let standard = state.arrive(START, Priority::Standard, ONE).unwrap_err();
    let second = state.arrive(START, Priority::Standard, ONE).unwrap_err();
    let urgent = state.arrive(START, Priority::Interactive, ONE).unwrap_err();
    for next in [urgent, standard, second, batch] {
        assert_eq!(state.ask(START, next), Verdict::NotYet, "the place is taken");
        state.leave(START, ONE, Actual::default(), LimitHint::default());
        assert_eq!(state.first(), Some(next));
        assert_eq!(state.ask(START, next), Verdict::Enter);
    }
}

#[test]
fn a_refused_token_limit_takes_no_request() {
    let rate = Rate { per_minute: 60, burst: 2 };
    let both = Limits { requests: Some(rate), tokens: Some(Rate::per_minute(100)), concurrent: None };
    let mut state = State::new(both);
    state.arrive(START, Priority::Standard, Estimate { tokens: 100 }).unwrap();
    let waiting = state.arrive(START, Priority::Standard, Estimate { tokens: 10 }).unwrap_err();
    for _ in 0..5 {
        assert_eq!(state.ask(START, waiting), Verdict::At(START + Duration::from_secs(6)));
    }
    let used = Actual { sent: true, tokens: 50, ..Actual::default() };
    state.leave(START, Estimate { tokens: 100 }, used, LimitHint::default());
    assert_eq!(state.ask(START, waiting), Verdict::Enter, "settled tokens make room, and a request is left");
}

#[test]
fn the_provider_closes_the_door() {
    let mut state = State::new(Limits::default());
    state.arrive(START, Priority::Standard, ONE).unwrap();
    let closed = Actual { sent: true, closed_for: Some(Duration::from_secs(7)), ..Actual::default() };
    state.leave(START, ONE, closed, LimitHint::default());
    let waiting = state.arrive(START, Priority::Interactive, ONE).unwrap_err();
    assert_eq!(state.ask(START, waiting), Verdict::At(START + Duration::from_secs(7)));
    assert_eq!(state.ask(START + Duration::from_secs(7), waiting), Verdict::Enter);
}

#[test]
fn what_the_provider_says_is_left_caps_what_we_think() {
    let mut state = State::new(limits(Some(Rate::per_minute(60)), None));
    state.arrive(START, Priority::Standard, ONE).unwrap();
    let hint = LimitHint { requests_remaining: Some(0), tokens_remaining: None };
    state.leave(START, ONE, Actual { sent: true, ..Actual::default() }, hint);
    assert!(state.arrive(START, Priority::Standard, ONE).is_err());
}

/// Answers after a second, and counts how many are under way.
struct Slow {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Model for Slow {
    fn call<'a>(&'a self, _: Call, _: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        Box::pin(async move {
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            let _gone = Gone(&self.now);
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(reply())
        })
    }
}

/// Counts one off, also when the call is dropped.
struct Gone<'a>(&'a AtomicUsize);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn reply() -> Reply {
    Reply {
        id: String::new(),
        model: String::new(),
        content: Vec::new(),
        stop: StopReason::End,
        usage: Usage::default(),
        first_token: None,
        request_id: None,
        limits: LimitHint::default(),
        attempts: Vec::new(),
        other: serde_json::Map::new(),
        told: None,
        lost: Vec::new(),
    }
}

struct Bench {
    slow: Arc<Slow>,
    model: Arc<dyn Model>,
    limiter: Arc<Limiter>,
    clock: Arc<dyn Clock>,
}

fn bench(limits: Limits) -> Bench {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::starting_at(START));
    let key = TargetKey { provider: "p".into(), model: "m".into() };
    let limiter = Limiter::new(key, limits, Config::default(), Arc::clone(&clock));
    let slow = Arc::new(Slow { now: AtomicUsize::new(0), most: AtomicUsize::new(0) });
    let model = layer(slow.clone(), Arc::clone(&limiter));
    Bench { slow, model, limiter, clock }
}

impl Bench {
    fn call(&self, priority: Priority, within: Duration) -> Call {
        let context = Arc::new(Context { priority, ..Context::default() });
        Call::new("c".into(), Arc::default(), context, self.clock.now() + within)
    }

    fn spawn(&self, call: Call) -> tokio::task::JoinHandle<Result<Reply, Failure>> {
        let model = Arc::clone(&self.model);
        tokio::spawn(async move { model.call(call, &mut Discard).await })
    }
}

#[tokio::test(start_paused = true)]
async fn never_more_at_once_than_allowed_and_a_cancelled_waiter_gives_its_place_back() {
    let bench = bench(limits(None, Some(2)));
    let hour = Duration::from_hours(1);
    let began = Instant::now();
    let calls: Vec<_> = (0..6).map(|_| bench.spawn(bench.call(Priority::Batch, hour))).collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    calls[0].abort();
    calls[3].abort();
    let mut answered = 0;
    for call in calls {
        answered += usize::from(call.await.is_ok_and(|result| result.is_ok()));
    }
    assert_eq!(answered, 4);
    assert_eq!(bench.slow.most.load(Ordering::SeqCst), 2);
    assert_eq!(began.elapsed(), Duration::from_millis(2_500));
    assert!(bench.limiter.lock().bells.is_empty());
}

#[tokio::test(start_paused = true)]
async fn waits_for_the_rate_or_is_refused_at_once() {
    let bench = bench(limits(Some(Rate { per_minute: 6, burst: 1 }), None));
    let hour = Duration::from_hours(1);
    bench.model.call(bench.call(Priority::Interactive, hour), &mut Discard).await.unwrap();
    let began = Instant::now();
    let refused = bench.model.call(bench.call(Priority::Interactive, hour), &mut Discard).await.unwrap_err();
    assert_eq!((refused.kind, refused.retry_after), (FailureKind::Throttled, Some(Duration::from_secs(9))));
    assert_eq!(began.elapsed(), Duration::ZERO, "it cannot be its turn in time, so it does not wait");
    let soon = bench.call(Priority::Batch, Duration::from_secs(3));
    assert!(bench.model.call(soon, &mut Discard).await.is_err(), "never past the deadline");
    bench.model.call(bench.call(Priority::Standard, hour), &mut Discard).await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn one_that_waits_for_a_place_gives_up_in_time() {
    let bench = bench(limits(None, Some(1)));
    let holder = bench.spawn(bench.call(Priority::Standard, Duration::from_hours(1)));
    tokio::task::yield_now().await;
    let began = Instant::now();
    let refused = bench.call(Priority::Batch, Duration::from_millis(300));
    assert!(bench.model.call(refused, &mut Discard).await.is_err());
    assert_eq!(began.elapsed(), Duration::from_millis(300));
    holder.await.unwrap().unwrap();
}
