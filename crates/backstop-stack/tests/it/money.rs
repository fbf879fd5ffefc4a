//! No call without a reservation, no reservation without an end, never over the budget.

use crate::bench::{Act, PRICE, Script, bench_with, failure, reply, target};
use backstop_allowance::{Account, Ledger, Scope};
use backstop_call::{
    Block, BoxFuture, Call, Chunk, Code, ContentDelta, Context, Failure, FailureKind, KeyLimits, Model,
    Money, Price, Progress, Reply, ReservationId, Seed, Sink, Usage, deliver,
};
use backstop_journal::{Event, EventBody, StreamId};
use backstop_stack::layers::budget::{self, Bounds, Terms};
use backstop_stack::{Config, Target};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn paid(leaf: Arc<dyn Model>) -> Target {
    Target { price: PRICE, max_output: 10, ..target("a", leaf) }
}

#[tokio::test(start_paused = true)]
async fn a_budget_without_room_sends_nothing_and_names_the_account() {
    let script = Script::new([]);
    let limit = Some(Money::from_nanos(1));
    let poor = bench_with(vec![paid(script.clone())], limit, Config::default(), Vec::new());
    let failure = poor.ask(poor.call(false)).await.0.unwrap_err();
    assert_eq!((failure.kind, failure.progress, script.calls()), (FailureKind::Budget, Progress::NotSent, 0));
    assert!(failure.detail.message.starts_with("total has $0.000000001 left"), "{failure}");
    assert!(failure.detail.attempts.is_empty());

    let free = Target { price: Price::FREE, ..target("local", Script::new([])) };
    let fallback = bench_with(vec![paid(script.clone()), free], limit, Config::default(), Vec::new());
    assert!(fallback.ask(fallback.call(false)).await.0.is_ok(), "a free model is still to be had");
    assert_eq!(script.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_key_pays_for_its_calls_and_only_so_much() {
    let script = Script::new([]);
    let target = paid(script.clone());
    let bench = bench_with(vec![target.clone()], None, Config::default(), Vec::new());
    let with = |key: &str, key_limits| {
        let mut call = bench.call(false);
        call.id = format!("call-{key}-{}", script.calls()).into();
        call.context = Arc::new(Context { key: Some(key.into()), key_limits, ..Context::default() });
        call
    };
    let one = Bounds::of(&bench.call(false), &Terms::of(&target), budget::Config::default()).worst_case();
    let day = KeyLimits { day: Some(one), whole: None };
    bench.ask(with("ci", day)).await.0.unwrap();
    let spent =
        bench.ledger.balance(Account::today(Scope::Key("ci".into()), bench.clock.now())).await.unwrap();
    assert!(spent.settled > Money::ZERO && spent.settled <= one, "{spent:?}");
    let denied = bench.ask(with("ci", day)).await.0.unwrap_err();
    assert_eq!((denied.kind, script.calls()), (FailureKind::Budget, 1));
    assert!(denied.detail.message.starts_with("key/ci@20833 has $"), "{denied}");
    let whole = KeyLimits { day: None, whole: Some(Money::from_nanos(1)) };
    let denied = bench.ask(with("other", whole)).await.0.unwrap_err();
    assert!(denied.detail.message.starts_with("key/other has $"), "{denied}");
    bench.ask(with("other", day)).await.0.unwrap();
    let keys: Vec<_> = bench
        .events(StreamId::Calls)
        .await
        .into_iter()
        .filter_map(|event| match event.body {
            EventBody::CallFinished(finished) => finished.asked?.key.map(|key| key.to_string()),
            EventBody::CallFailed(failed) => failed.asked?.key.map(|key| key.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(keys, ["ci", "ci", "other", "other"], "the record says whose each call was");
}

/// A first attempt is paid for, and there is no money for a second: the call ends for want of money, and says so.
#[tokio::test(start_paused = true)]
async fn a_retry_without_money_ends_the_call_as_the_budgets() {
    let lost = Failure::new(FailureKind::UnknownOutcome, Progress::Sent, "nobody knows");
    for (act, kind) in
        [(Act::Answer(""), FailureKind::Malformed), (Act::Fail(lost), FailureKind::UnknownOutcome)]
    {
        let script = Script::new([act, Act::Answer("never asked for")]);
        let target = paid(script.clone());
        let call = bench_with(Vec::new(), None, Config::default(), Vec::new()).call(false);
        let one = Bounds::of(&call, &Terms::of(&target), budget::Config::default()).worst_case();
        let limit = Some(one + Money::from_nanos(1));
        let bench = bench_with(vec![target], limit, Config::default(), Vec::new());
        let told = bench.ask(bench.call(false)).await.0.unwrap_err();
        assert_eq!((told.kind, told.code()), (FailureKind::Budget, Code::BudgetExceeded), "{told}");
        assert!(told.detail.message.starts_with("total has $"), "{told}");
        let attempts: Vec<_> = told.detail.attempts.iter().map(|a| (a.attempt, a.failure)).collect();
        assert_eq!((attempts, script.calls()), (vec![(1, Some(kind))], 1));
        let events = bench.events(StreamId::Calls).await;
        let Some(EventBody::CallFailed(ended)) = events.last().map(|event| &event.body) else { panic!() };
        let balance = bench.total().await;
        assert!(ended.cost > Money::ZERO, "what was tried is not forgotten");
        assert_eq!(ended.cost, balance.settled + balance.suspense);
    }
}

/// One target is too dear and the other out of service: to wait for that one is no help to whoever has no money.
#[tokio::test(start_paused = true)]
async fn want_of_money_is_told_before_an_open_breaker() {
    let down = failure(FailureKind::Overloaded, Progress::ResponseStarted);
    let free = target("b", Script::new(vec![Act::Fail(down); 500]));
    let limit = Some(Money::from_nanos(1));
    let bench = bench_with(vec![paid(Script::new([])), free], limit, Config::default(), Vec::new());
    let mut refused = 0;
    for _ in 0..40 {
        let told = bench.ask(bench.call(false)).await.0.unwrap_err();
        if told.detail.attempts.is_empty() {
            assert_eq!(told.kind, FailureKind::Budget, "{told}");
            refused += 1;
        }
    }
    assert!(refused > 5, "the breaker opened and refused {refused} of 40");
}

#[tokio::test(start_paused = true)]
async fn what_it_cost_stands_in_the_record_and_in_the_account() {
    let unbilled = failure(FailureKind::Overloaded, Progress::ResponseStarted);
    let mut unknown = failure(FailureKind::UnknownOutcome, Progress::Sent);
    unknown.detail.unbilled = false;
    let script = Script::new([Act::Fail(unbilled), Act::Fail(unknown)]);
    let bench = bench_with(vec![paid(script)], Some(Money::from_dollars(100)), Config::default(), Vec::new());
    let reply = bench.ask(bench.call(false)).await.0.unwrap();
    let cost = Money::from_nanos(10 * 1_000_000 * 1_000 / 1_000 * 1_000 / 1_000 + 20 * 10_000_000);
    let costs: Vec<_> = reply.attempts.iter().map(|a| (a.cost > Money::ZERO, a.suspense)).collect();
    assert_eq!(costs, [(false, false), (true, true), (true, false)]);
    assert_eq!(reply.attempts[2].cost, cost);
    let balance = bench.total().await;
    assert_eq!((balance.settled, balance.reserved), (cost, Money::ZERO));
    assert_eq!(balance.suspense, reply.attempts[1].cost);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_goes_away_pays_for_what_was_produced() {
    let mut counted = Vec::new();
    for words in [3, 0] {
        let script = Script::new([Act::HangAfter(words)]);
        let bench = bench_with(
            vec![Target { max_output: 1_000, ..paid(script) }],
            Some(Money::from_dollars(100)),
            Config::default(),
            Vec::new(),
        );
        let asked = bench.ask(bench.call(true));
        assert!(tokio::time::timeout(Duration::from_secs(1), asked).await.is_err());
        let balance = bench.total().await;
        assert_eq!(balance.reserved, Money::ZERO, "nothing stays held");
        assert_eq!(balance.settled, Money::ZERO, "only what is certain is settled");
        counted.push(balance.suspense);
        let events = bench.events(StreamId::Calls).await;
        let kinds: Vec<_> = events.iter().map(|event| event.body.kind()).collect();
        assert_eq!(kinds, ["call.attempt-failed", "call.failed"]);
        let EventBody::AttemptFailed(last) = &events[0].body else { panic!() };
        assert_eq!(last.attempt.failure, Some(FailureKind::Cancelled));
        assert_eq!((last.attempt.cost, last.attempt.suspense), (balance.suspense, true));
        let EventBody::CallFailed(ended) = &events[1].body else { panic!() };
        assert_eq!(ended.cost, balance.suspense, "the call's end tells what the call cost");
        assert_eq!(ended.failure.detail.attempts.as_slice(), std::slice::from_ref(&last.attempt));
    }
    assert!(Money::ZERO < counted[0] && counted[0] < counted[1], "what was seen bounds what was produced");
}

/// Bills what it does, whatever becomes of the call: an honest provider with bad luck.
struct Oracle {
    seed: Seed,
    /// By reservation, in nano-dollars.
    bills: Mutex<HashMap<ReservationId, Money>>,
}

impl Oracle {
    fn bill(&self, call: &Call, usage: &Usage) {
        let mut bills = self.bills.lock().expect("no test panics with it");
        *bills.entry(call.reservation()).or_default() += price().cost(usage);
    }
}

fn price() -> Price {
    Price { input: Money::from_dollars(3), output: Money::from_dollars(15), ..Price::FREE }
}

impl Model for Oracle {
    fn call<'a>(&'a self, call: Call, sink: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        Box::pin(async move {
            let luck = self.seed.below(10);
            tokio::time::sleep(Duration::from_millis(self.seed.below(500))).await;
            if luck == 0 {
                return Err(Failure::new(FailureKind::Transient, Progress::NotSent, "no connection"));
            }
            // From here on it is billed: the input at once, the output as it is written.
            let input = Usage { input_tokens: 40 + self.seed.below(100), ..Usage::default() };
            self.bill(&call, &input);
            tokio::time::sleep(Duration::from_millis(self.seed.below(500))).await;
            if luck == 1 {
                return Err(Failure::new(FailureKind::UnknownOutcome, Progress::Sent, "cut"));
            }
            let wanted = 1 + self.seed.below(call.request.max_tokens.unwrap_or(1));
            let gone = |_| Failure::new(FailureKind::Cancelled, Progress::ResponseStarted, "gone");
            deliver(sink, Chunk::BlockStart { index: 0, block: Block::text("") }).await.map_err(gone)?;
            for _ in 0..wanted {
                self.bill(&call, &Usage { output_tokens: 1, ..Usage::default() });
                let delta = ContentDelta::Text("word".into());
                deliver(sink, Chunk::Delta { index: 0, delta }).await.map_err(gone)?;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            if luck == 2 {
                return Err(Failure::new(FailureKind::Transient, Progress::ResponseStarted, "cut"));
            }
            let told = if luck == 3 { Usage::default() } else { Usage { output_tokens: wanted, ..input } };
            Ok(Reply { usage: told, ..reply("done") })
        })
    }
}

/// What each attempt was counted as, by the events.
fn told_costs(events: &[Event]) -> HashMap<ReservationId, Money> {
    let mut told = HashMap::new();
    for event in events {
        match &event.body {
            EventBody::AttemptFailed(failed) => {
                let id = ReservationId::of(&failed.call, failed.attempt.attempt);
                told.insert(id, failed.attempt.cost);
            }
            EventBody::CallFinished(finished) => {
                for attempt in finished.attempts().iter() {
                    told.insert(ReservationId::of(&finished.call, attempt.attempt), attempt.cost);
                }
            }
            _ => {}
        }
    }
    told
}

/// What a call's end says that it cost, all attempts together.
fn cost_at_end(event: &Event) -> Money {
    match &event.body {
        EventBody::CallFinished(finished) => finished.cost,
        EventBody::CallFailed(failed) => failed.cost,
        _ => Money::ZERO,
    }
}

/// A thousand calls at once against a dollar, a third of them dropped somewhere.
#[tokio::test(start_paused = true)]
async fn a_thousand_calls_never_cost_more_than_the_budget() {
    for seed in [1, 20, 300] {
        println!("seed {seed}");
        let oracle = Arc::new(Oracle { seed: Seed::new(seed), bills: Mutex::default() });
        let mut config = Config::default();
        config.breaker.consecutive_failures = 1_000;
        config.breaker.failure_percent = 100;
        let dear = Target { price: price(), max_output: 300, ..target("a", oracle.clone()) };
        let limit = Money::from_dollars(1);
        let bench = Arc::new(bench_with(vec![dear], Some(limit), config, Vec::new()));
        let tasks: Vec<_> = (0..1_000_u64)
            .map(|i| {
                let bench = Arc::clone(&bench);
                let fate = Seed::new(seed * 10_000 + i);
                tokio::spawn(async move {
                    let call = Call { id: format!("c{i}").as_str().into(), ..bench.call(i % 2 == 0) };
                    let patience = Duration::from_millis(match fate.below(3) {
                        0 => fate.below(1_500),
                        _ => 100_000,
                    });
                    tokio::time::sleep(Duration::from_millis(fate.below(20_000))).await;
                    tokio::time::timeout(patience, bench.ask(call)).await.map(|(result, _)| result)
                })
            })
            .collect();
        let (mut answered, mut denied, mut dropped) = (0, 0, 0);
        for task in tasks {
            match task.await.unwrap() {
                Ok(Ok(_)) => answered += 1,
                Ok(Err(failure)) if failure.kind == FailureKind::Budget => denied += 1,
                Ok(Err(_)) => {}
                Err(_) => dropped += 1,
            }
        }
        let bills = oracle.bills.lock().expect("no test panics with it").clone();
        let events = bench.events(StreamId::Calls).await;
        let ended: Money = events.iter().map(cost_at_end).sum();
        let told = told_costs(&events);
        for (attempt, bill) in &bills {
            let counted = told.get(attempt).copied().unwrap_or_default();
            assert!(*bill <= counted, "seed {seed}: {attempt} was billed {bill}, counted as {counted}");
        }
        let billed: Money = bills.into_values().sum();
        let spent: Money = told.into_values().sum();
        let balance = bench.total().await;
        assert_eq!(balance.reserved, Money::ZERO, "seed {seed}: every reservation was resolved");
        assert_eq!(balance.overrun, Money::ZERO, "seed {seed}: every estimate was an upper bound");
        assert_eq!(spent, balance.settled + balance.suspense, "seed {seed}: the events tell what was spent");
        assert_eq!(ended, spent, "seed {seed}: and so do the ends of the calls alone");
        assert!(billed <= balance.settled + balance.suspense, "seed {seed}: {billed} billed, {balance:?}");
        assert!(balance.settled + balance.suspense <= limit, "seed {seed}: {balance:?}");
        assert!(answered > 20 && denied > 20 && dropped > 20, "seed {seed}: {answered} {denied} {dropped}");
        println!("{answered} answered, {denied} denied, {dropped} dropped, {billed} billed, {balance:?}");
    }
}
