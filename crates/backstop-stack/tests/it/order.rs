//! The order that is told is the order that is built.

use crate::bench::{Script, bench, bench_with, target};
use backstop_allowance::Rate;
use backstop_call::{Category, Code, Context, FailureKind, Labels, Money, Request};
use backstop_stack::{Config, Limits, Target};
use expect_test::expect;
use std::fmt::Write;
use std::sync::Arc;

#[tokio::test]
async fn it_is_told_from_what_is_built() {
    let stack = bench(vec![target("a", Script::new([]))]).stack;
    let mut told = String::new();
    for layer in stack.order() {
        writeln!(told, "{:8} {}", layer.name, layer.what).unwrap();
    }
    expect![[r"
        record   appends what happened to the journal
        redact   takes secrets out of what is sent and what comes back
        route    finds the chain that the call asks for by name
        privacy  private text goes to local models only, or nowhere
        attempt  retries and fails over: one count, one deadline, one commit point
        breaker  keeps calls away from a target that fails
        validate refuses what cannot work, and answers that break their protocol
        limit    keeps to requests and tokens per minute, and to calls at once
        budget   reserves the worst case of an attempt, and settles what it cost
        timeout  bounds one attempt: in all, to its first byte, between two chunks
        leaf     the provider: sends the request and reads the answer
    "]]
    .assert_eq(&told);
    assert_eq!(bench(Vec::new()).stack.order(), stack.order());
}

/// A call that every layer has a reason to refuse is refused by the outermost; with that reason gone, by the next one.
#[tokio::test(start_paused = true)]
async fn each_layer_refuses_before_those_below_it() {
    let script = Script::new([]);
    let refuses_all = Target {
        price: crate::bench::PRICE,
        limits: Limits { requests: Some(Rate { per_minute: 1, burst: 1 }), ..Limits::default() },
        ..target("a", script.clone())
    };
    let rich = bench(vec![refuses_all.clone()]);
    rich.ask(rich.call(false)).await.0.unwrap();
    let poor = bench_with(vec![refuses_all], Some(Money::ZERO), Config::default(), Vec::new());

    let mut call = rich.call(false);
    let mut request = Request { model: "none".into(), messages: Vec::new(), ..Request::clone(&call.request) };
    let good = Request::clone(&call.request);
    call.context = Arc::new(Context { labels: Labels::private(Category::Health), ..Context::default() });
    let mut codes = Vec::new();
    for step in 0..4 {
        match step {
            0 => {}
            1 => request.model = "main".into(),
            2 => call.context = Arc::default(),
            _ => request.messages.clone_from(&good.messages),
        }
        call.request = Arc::new(request.clone());
        codes.push(rich.ask(call.clone()).await.0.unwrap_err().code());
    }
    codes.push(poor.ask(call).await.0.unwrap_err().code());
    assert_eq!(
        codes,
        [
            Code::UnknownModel,
            Code::NoLocalModel,
            Code::RequestInvalid,
            FailureKind::Throttled.code(),
            Code::BudgetExceeded
        ],
        "route, privacy, validate, limit, budget"
    );
    assert_eq!(script.calls(), 1);
}

#[test]
fn the_config_reads_what_it_writes_and_nothing_unknown() {
    let json = serde_json::to_string(&Config::default()).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), Config::default());
    assert_eq!(serde_json::from_str::<Config>("{}").unwrap(), Config::default());
    let one: Config = serde_json::from_str(r#"{"attempt":{"attempts-max":5}}"#).unwrap();
    assert_eq!((one.attempt.attempts_max, one.attempt.quota_tokens), (5, 500));
    assert!(serde_json::from_str::<Config>(r#"{"attempt":{"retries":5}}"#).is_err());
}
