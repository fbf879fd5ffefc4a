//! Retry, failover, the commit point, deadlines, breakers, privacy, the record.

use crate::bench::{Act, Bench, Script, bench, bench_with, failure, target};
use backstop_call::{
    Call, Category, Chunk, Code, Context, Discard, FailureKind, Labels, Message, Model, Priority, Progress,
    Request, RunId, Speaker,
};
use backstop_journal::event::{Asked, RunCreated, RunLimits};
use backstop_journal::{Append, Body, Durability, EventBody, Journal, StreamId};
use backstop_label::ModelPlace;
use backstop_stack::layers::breaker::Phase;
use backstop_stack::{Config, Target};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

fn throttled(secs: u64) -> Act {
    let failure = failure(FailureKind::Throttled, Progress::ResponseStarted);
    Act::Fail(failure.with_retry_after(Some(Duration::from_secs(secs))))
}

fn overloaded() -> Act {
    Act::Fail(failure(FailureKind::Overloaded, Progress::ResponseStarted))
}

#[tokio::test(start_paused = true)]
async fn two_rate_limits_then_an_answer() {
    let script = Script::new([throttled(3), throttled(4)]);
    let bench = bench(vec![target("a", script.clone())]);
    let began = Instant::now();
    let (result, _) = bench.ask(bench.call(false)).await;
    let reply = result.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(7), "the hints are waited for, and no longer");
    let story: Vec<_> = reply.attempts.iter().map(|a| (a.attempt, a.failure, a.waited.as_secs())).collect();
    assert_eq!(
        story,
        [(1, Some(FailureKind::Throttled), 0), (2, Some(FailureKind::Throttled), 3), (3, None, 4)]
    );
    assert_eq!(bench.kinds().await, ["call.attempt-failed", "call.attempt-failed", "call.finished"]);
    let seen = script.seen.lock().unwrap();
    assert_eq!(seen[0].1.model, "a-large", "the leaf is asked for the provider's own name");
    assert_eq!(seen[0].1.max_tokens, Some(100));
}

#[tokio::test(start_paused = true)]
async fn one_event_is_the_whole_record_of_a_call_outside_runs() {
    let asked = |role: &str| Asked {
        model: "main".into(),
        input_tokens: 10,
        task: Some("t1".into()),
        role: Some(role.into()),
        key: None,
        dialect: None,
    };
    let lost = failure(FailureKind::Invalid, Progress::ResponseStarted);
    for (act, role) in
        [(Act::HangAfter(0), "gone"), (Act::Fail(lost), "failed"), (Act::Answer("ok"), "answered")]
    {
        let bench = bench(vec![target("a", Script::new([act]))]);
        let context = Context { task: Some("t1".into()), role: Some(role.into()), ..Context::default() };
        let call = Call { context: Arc::new(context), ..bench.call(false) };
        drop(tokio::time::timeout(Duration::from_secs(1), bench.ask(call)).await);
        let last = bench.events(StreamId::Calls).await.pop().unwrap();
        let found = match last.body {
            EventBody::CallFinished(event) => event.asked,
            EventBody::CallFailed(event) => event.asked,
            other => panic!("{other:?}"),
        };
        let found = found.unwrap();
        assert!(found.input_tokens > 0, "{role}");
        assert_eq!(Asked { input_tokens: 10, ..found }, asked(role));
    }
}

#[tokio::test(start_paused = true)]
async fn failover_before_content_is_invisible() {
    let lost = failure(FailureKind::Overloaded, Progress::ResponseStarted);
    let (first, second) = (Script::new([Act::FailAfter(0, lost)]), Script::new([]));
    let bench = bench(vec![target("a", first.clone()), target("b", second.clone())]);
    let (result, reader) = bench.ask(bench.call(true)).await;
    let reply = result.unwrap();
    let starts = reader.0.iter().filter(|chunk| matches!(chunk, Chunk::Start { .. })).count();
    assert_eq!((starts, reader.text().as_str()), (1, "ok"));
    assert!(matches!(reader.0.first(), Some(Chunk::Start { .. })));
    assert_eq!(reply.attempts.len(), 2);
    assert_eq!(reply.attempts[1].provider, "b".into());
    assert_eq!((first.calls(), second.calls()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn after_content_nothing_is_tried_again() {
    let lost = failure(FailureKind::Transient, Progress::ResponseStarted);
    let (first, second) = (Script::new([Act::FailAfter(3, lost)]), Script::new([]));
    let bench = bench(vec![target("a", first), target("b", second.clone())]);
    let (result, reader) = bench.ask(bench.call(true)).await;
    let failure = result.unwrap_err();
    assert_eq!(failure.progress, Progress::Committed);
    assert_eq!(failure.detail.attempts[0].progress, Progress::Committed);
    assert_eq!(reader.text(), "word word word ");
    assert_eq!(second.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_wants_no_stream_has_no_commit_point() {
    let lost = failure(FailureKind::Transient, Progress::ResponseStarted);
    let script = Script::new([Act::FailAfter(3, lost)]);
    let bench = bench(vec![target("a", script)]);
    let (result, reader) = bench.ask(bench.call(false)).await;
    assert_eq!(result.unwrap().text(), "ok");
    assert!(reader.0.is_empty());
}

/// A run streams so that silence is noticed, and nobody sees the chunks: every failure may be tried again.
#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_sees_is_watched_and_has_no_commit_point() {
    let lost = || failure(FailureKind::Transient, Progress::ResponseStarted);
    let (first, second) =
        (Script::new([Act::FailAfter(3, lost()), Act::Answer("")]), Script::new([Act::HangAfter(100)]));
    let bench = bench(vec![target("a", first), target("b", second)]);
    let began = Instant::now();
    let told = bench.stack.call(bench.call(true), &mut Discard).await.unwrap_err();
    let story: Vec<_> =
        told.detail.attempts.iter().map(|a| (a.provider.as_str(), a.failure, a.progress)).collect();
    let begun = Progress::ResponseStarted;
    assert_eq!(
        story,
        [
            ("a", Some(FailureKind::Transient), begun),
            ("b", Some(FailureKind::UnknownOutcome), begun),
            ("a", Some(FailureKind::Malformed), begun)
        ]
    );
    let silent = Duration::from_mins(1);
    assert!((silent..silent * 2).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(bench.stack.call(bench.call(true), &mut Discard).await.unwrap().text(), "ok");
}

#[tokio::test(start_paused = true)]
async fn a_malformed_answer_is_asked_for_again() {
    let script = Script::new([Act::Answer(""), Act::Answer("better")]);
    let bench = bench(vec![target("a", script.clone())]);
    let reply = bench.ask(bench.call(false)).await.0.unwrap();
    assert_eq!(reply.text(), "better");
    assert_eq!(reply.attempts[0].failure, Some(FailureKind::Malformed));
    assert_eq!(script.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_silent_provider_is_given_up_and_the_deadline_ends_it_all() {
    let (first, second) = (Script::new([Act::HangAfter(0)]), Script::new([]));
    let ok = bench(vec![target("a", first), target("b", second)]);
    let began = Instant::now();
    let (result, _) = ok.ask(ok.call(true)).await;
    assert_eq!(result.unwrap().attempts[0].failure, Some(FailureKind::UnknownOutcome));
    assert_eq!(began.elapsed(), Duration::from_mins(1), "60 s without a further chunk");

    let script = Script::new([Act::HangAfter(0)]);
    let bench = bench(vec![target("a", script.clone())]);
    let mut call = bench.call(false);
    call.deadline = bench.clock.now() + Duration::from_secs(5);
    let began = Instant::now();
    let failure = bench.ask(call).await.0.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Deadline);
    assert_eq!((began.elapsed(), script.calls()), (Duration::from_secs(5), 1));
}

#[tokio::test(start_paused = true)]
async fn a_wait_longer_than_the_caller_has_gives_the_hint_back() {
    let bench = bench(vec![target("a", Script::new([throttled(45)]))]);
    let began = Instant::now();
    let failure = bench.ask(bench.call(false)).await.0.unwrap_err();
    assert_eq!((failure.kind, failure.retry_after), (FailureKind::Throttled, Some(Duration::from_secs(45))));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn private_text_never_reaches_the_cloud() {
    let (cloud, local) = (Script::new([]), Script::new([overloaded(), overloaded(), overloaded()]));
    let here = Target { place: ModelPlace::Local, ..target("here", local.clone()) };
    let mixed = bench(vec![target("cloud", cloud.clone()), here]);
    let private = Labels::private(Category::Health);
    let mut by_context = mixed.call(false);
    by_context.context = Arc::new(Context { labels: private.clone(), ..Context::default() });
    let mut by_message = mixed.call(false);
    let mut message = Message::text(Speaker::User, "my blood pressure");
    message.labels = private;
    by_message.request = Arc::new(Request { messages: vec![message], ..Request::clone(&by_message.request) });

    assert!(mixed.ask(by_context).await.0.is_err(), "the local one fails, and there is no other");
    assert_eq!(mixed.ask(by_message.clone()).await.0.unwrap().text(), "ok");
    assert_eq!((cloud.calls(), local.calls()), (0, 4));

    let cloudy = bench(vec![target("cloud", cloud.clone())]);
    let refused = cloudy.ask(by_message).await.0.unwrap_err();
    assert_eq!((refused.kind, refused.code()), (FailureKind::Private, Code::NoLocalModel));
    assert_eq!(cloud.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failing_target_is_left_alone_and_comes_back() {
    let mut config = Config::default();
    config.attempt.attempts_max = 1;
    config.breaker.ramp_ms = 0;
    let (first, second) = (Script::new(vec![overloaded(); 5]), Script::new([]));
    let bench =
        bench_with(vec![target("a", first.clone()), target("b", second.clone())], None, config, Vec::new());
    for _ in 0..5 {
        assert!(bench.ask(bench.call(false)).await.0.is_err());
    }
    for _ in 0..3 {
        assert!(bench.ask(bench.call(false)).await.0.is_ok());
    }
    assert_eq!((first.calls(), second.calls()), (5, 3), "an open breaker uses up no attempt");
    tokio::time::advance(Duration::from_secs(13)).await;
    for _ in 0..3 {
        bench.ask(bench.call(false)).await.0.unwrap();
    }
    assert_eq!((first.calls(), second.calls()), (8, 3));
    let changes: Vec<_> = bench
        .events(StreamId::Node)
        .await
        .into_iter()
        .map(|event| match event.body {
            EventBody::BreakerChanged(change) => format!("{} {}-{}", change.provider, change.from, change.to),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(changes, ["a closed-open", "a open-half-open", "a half-open-closed"]);
}

#[tokio::test(start_paused = true)]
async fn a_lone_target_is_never_shut_off_for_good() {
    let script = Script::new(vec![overloaded(); 200]);
    let bench = bench(vec![target("a", script.clone())]);
    for _ in 0..60 {
        let _ = bench.ask(bench.call(false)).await;
    }
    assert!(matches!(bench.stack.breakers().next().unwrap().2, Phase::Open { .. }));
    let asked = script.calls();
    assert!((12..150).contains(&asked), "narrowed, not shut: {asked} of 60 calls with 3 attempts each");
}

#[tokio::test(start_paused = true)]
async fn an_empty_account_rests_and_the_next_provider_answers() {
    let broke = || Act::Fail(failure(FailureKind::Quota, Progress::ResponseStarted));
    let (first, second) = (Script::new([broke(), broke()]), Script::new([]));
    let ok = bench(vec![target("a", first.clone()), target("b", second)]);
    for _ in 0..3 {
        assert_eq!(ok.ask(ok.call(false)).await.0.unwrap().text(), "ok");
    }
    assert_eq!(first.calls(), 1, "asked once, then left to rest");

    let alone = bench(vec![target("a", Script::new([broke()]))]);
    assert!(alone.ask(alone.call(false)).await.0.is_err());
    let failure = alone.ask(alone.call(false)).await.0.unwrap_err();
    assert_eq!((failure.kind, failure.progress), (FailureKind::Quota, Progress::NotSent));
    assert!(failure.retry_after.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_text_too_long_for_one_target_goes_to_a_larger_one() {
    let (small, large) = (Script::new([]), Script::new([]));
    let tight = Target { context_window: 50, ..target("small", small.clone()) };
    let bench = bench(vec![tight, target("large", large.clone())]);
    assert!(bench.ask(bench.call(false)).await.0.is_ok());
    assert_eq!((small.calls(), large.calls()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_of_a_run_leaves_its_story_to_the_agent() {
    let script = Script::new([overloaded(), Act::Answer("ok"), overloaded()]);
    let bench: Bench = bench(vec![target("a", script)]);
    let run: RunId = "r1".into();
    let begun = RunCreated {
        task: "t1".into(),
        role: "writer".into(),
        agent: "writer".into(),
        agent_hash: String::new(),
        model: "main".into(),
        system: Body::from(""),
        message: Body::from(""),
        max_tokens: None,
        tools: Vec::new(),
        workspace: String::new(),
        limits: RunLimits::default(),
        result_schema: None,
        priority: Priority::Standard,
        labels: Labels::default(),
        dry_run: false,
        applies: None,
        parent: None,
        bounds: Vec::new(),
        on_failure: backstop_journal::event::OnFailure::default(),
        queue: None,
        origin: Box::default(),
    };
    let append = Append {
        stream: StreamId::Run(run.clone()),
        epoch: None,
        events: vec![begun.into()],
        at: bench.clock.now(),
        durability: Durability::Synced,
    };
    bench.journal.append(append).await.unwrap();
    let epoch = bench.journal.claim(&run, bench.clock.now()).await.unwrap();
    for epoch in [epoch, epoch - 1] {
        let mut call = bench.call(false);
        call.context = Arc::new(Context { run: Some(run.clone()), epoch, ..Context::default() });
        bench.ask(call).await.0.unwrap();
    }
    assert!(bench.kinds().await.is_empty());
    let kinds: Vec<_> =
        bench.events(StreamId::Run(run)).await.iter().map(|event| event.body.kind()).collect();
    let once = ["run.created", "run.claimed", "call.attempt-failed"];
    assert_eq!(kinds, once, "and what a stale claim tells is not written");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_model_is_told_what_there_is() {
    let bench = bench(vec![target("a", Script::new([]))]);
    let mut call = bench.call(false);
    Arc::make_mut(&mut call.request).model = "gpt-9".into();
    let failure = bench.ask(call).await.0.unwrap_err();
    assert_eq!(failure.code(), Code::UnknownModel);
    assert_eq!(failure.detail.message, "there is no model `gpt-9`; there are: main");
}
