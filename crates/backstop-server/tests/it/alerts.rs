//! Alerts over a journal and a clock that tests set: each rule that is built in fires once, is quiet, resolves, and forgets
//! nothing in a restart. And that those who are told hear it, over real HTTP.

use crate::it::kit::{World, in_time};
use crate::it::upstream::{Upstream, answer};
use backstop_call::{BoxFuture, Clock, Money, Secret, Timestamp};
use backstop_journal::event::{AlertFired, Severity};
use backstop_journal::projections::alerts::Alerts;
use backstop_journal::projections::metrics::QueueState;
use backstop_journal::projections::numbers::{Cell, Kept, Slice};
use backstop_journal::{
    Append, BudgetUse, Durability, EventBody, Journal, JournalError, Position, StreamId, Tally,
};
use backstop_server::alerts::{
    BUILT_IN, Each, Outside, Receiver, Route, Routing, Rule, WATCHDOG, Watch, WatchParts, built_in,
};
use backstop_server::config;
use backstop_server::numbers::Numbers;
use backstop_store::MemoryStore;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// 2026-11-22T12:00:00Z.
const START: u64 = 1_795_348_800;

/// A clock that stands still until it is set.
pub(crate) struct Hand(AtomicU64);

impl Hand {
    pub(crate) fn at(now: Timestamp) -> Self {
        Self(AtomicU64::new(now.nanos()))
    }

    pub(crate) fn pass(&self, span: Duration) {
        self.0.fetch_add(u64::try_from(span.as_nanos()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// What is counted, with budgets of the test's own.
struct Counted {
    store: MemoryStore,
    budgets: Mutex<Vec<BudgetUse>>,
}

impl Tally for Counted {
    fn catch_up(&self, now: Timestamp, kept: Kept) -> BoxFuture<'_, Result<Position, JournalError>> {
        self.store.catch_up(now, kept)
    }

    fn cells(&self, slices: Vec<Slice>) -> BoxFuture<'_, Result<Vec<Cell>, JournalError>> {
        self.store.cells(slices)
    }

    fn budgets(&self, _now: Timestamp) -> BoxFuture<'_, Result<Vec<BudgetUse>, JournalError>> {
        Box::pin(std::future::ready(Ok(self.budgets.lock().unwrap().clone())))
    }
}

/// An installation that a test can make anything happen to.
struct Place {
    store: MemoryStore,
    counted: Arc<Counted>,
    clock: Arc<Hand>,
    outside: Outside,
}

impl Place {
    fn new() -> Self {
        let store = MemoryStore::new();
        let counted = Arc::new(Counted { store: store.clone(), budgets: Mutex::default() });
        let outside = Outside { health: "healthy".to_owned(), queue: None };
        Self { store, counted, clock: Arc::new(Hand::at(Timestamp::from_secs(START))), outside }
    }

    fn pass(&self, secs: u64) {
        self.clock.pass(Duration::from_secs(secs));
    }

    async fn happens(&self, stream: &str, events: Vec<EventBody>) {
        let append = Append {
            stream: stream.parse().unwrap(),
            epoch: None,
            events,
            at: self.clock.now(),
            durability: Durability::Synced,
        };
        self.store.append(append).await.unwrap();
    }

    /// Something that happened earlier; the clock is where it was afterwards.
    async fn happened(&self, ago: u64, stream: &str, events: Vec<EventBody>) {
        self.clock.0.fetch_sub(ago * 1_000_000_000, Ordering::Relaxed);
        self.happens(stream, events).await;
        self.pass(ago);
    }

    async fn watch(&self, rules: Vec<Rule>, routing: Routing, receivers: Vec<Arc<Receiver>>) -> Watch {
        let numbers = Numbers::new(self.counted.clone(), self.clock.clone(), Kept::default());
        let (journal, queue) = (Arc::new(self.store.clone()), Arc::new(self.store.clone()));
        let clock = self.clock.clone();
        Watch::open(WatchParts { rules, routing, receivers, numbers, journal, queue, clock }).await.unwrap()
    }

    async fn look(&self, watch: &mut Watch) {
        self.counted.catch_up(self.clock.now(), Kept::default()).await.unwrap();
        watch.look(&self.outside).await.unwrap();
        assert_eq!(watch.undecided().len(), 0, "{:?}", watch.undecided());
    }

    /// The kinds of all that was written down, each with what it is about.
    async fn told(&self) -> Vec<String> {
        let shown = |event: backstop_journal::Event| match event.body {
            EventBody::AlertFired(fired) => format!("fired {}", fired.summary),
            EventBody::AlertResolved(_) => "resolved".to_owned(),
            EventBody::AlertQueued(queued) => {
                format!("tells {} firing, {} over", queued.firing.len(), queued.resolved.len())
            }
            other => other.kind().to_owned(),
        };
        self.store.read(&StreamId::Alerts, 0).await.unwrap().into_iter().map(shown).collect()
    }
}

fn event(kind: &str, fields: &Value) -> EventBody {
    let version = EventBody::KINDS.iter().find(|(name, _)| *name == kind).unwrap().1;
    let mut text = json!({"kind": kind});
    text.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    EventBody::decode(kind, version, &text.to_string()).unwrap()
}

fn created(agent: &str) -> EventBody {
    event(
        "run.created",
        &json!({
            "task": "t", "role": "writer", "agent": agent, "agent_hash": "00", "model": "main", "system": {"inline": ""},
            "message": {"inline": ""}, "tools": [], "workspace": "/w", "priority": "standard",
            "limits": {"time": {"secs": 1, "nanos": 0}, "turns": 1, "tokens": 1},
        }),
    )
}

fn ended(status: &str, code: Option<&str>) -> EventBody {
    let mut fields = json!({"status": status});
    if let Some(code) = code {
        fields["code"] = code.into();
    }
    event("run.finished", &fields)
}

fn tool(id: &str, name: &str, is_error: bool) -> Vec<EventBody> {
    let nothing = json!({"inline": null});
    vec![
        event(
            "tool.planned",
            &json!({"id": id, "tool": name, "args": nothing, "args_hash": "00", "class": "write", "key": id, "plan": nothing}),
        ),
        event(
            "tool.finished",
            &json!({"id": id, "is_error": is_error, "result": nothing, "duration": {"secs": 0, "nanos": 5}}),
        ),
    ]
}

fn call(cost: i64, output: u64, secs: u64) -> EventBody {
    event(
        "call.finished",
        &json!({
            "call": "c", "provider": "far", "model": "large-1", "stop": "end", "cost": cost, "attempts": [],
            "usage": {"input_tokens": 10, "output_tokens": output}, "duration": secs * 1_000_000_000,
            "asked": {"model": "main", "input_tokens": 10, "role": "clerk"},
        }),
    )
}

fn auth_failure() -> EventBody {
    let attempt = json!({
        "attempt": 1, "provider": "far", "model": "large-1", "started": 0, "duration": 5, "failure": "auth",
        "progress": "response-started", "cost": 0,
    });
    event("call.attempt-failed", &json!({"call": "c", "attempt": attempt}))
}

fn breaker(from: &str, to: &str) -> EventBody {
    event(
        "breaker.changed",
        &json!({"provider": "far", "model": "large-1", "from": from, "to": to, "reason": "r"}),
    )
}

/// A task of a job begins and ends.
async fn job_ends(place: &Place, number: u64, status: &str) {
    let (task, run) = (format!("letter@{number}"), format!("r{number}"));
    let mut fields = serde_json::to_value(created("a")).unwrap();
    fields["task"] = task.as_str().into();
    fields["queue"] = json!({"due": 0, "tries": 1, "backoff": {"secs": 0, "nanos": 0}});
    place.happens(&format!("run/{run}"), vec![event("run.created", &fields)]).await;
    let started = json!({"job": "letter", "task": task, "run": run, "time": number});
    place.happens("jobs", vec![event("job.started", &started)]).await;
    place.happens(&format!("run/{run}"), vec![ended(status, None)]).await;
}

const DAY: u64 = 86_400;

/// What was before, for a rule that compares with it.
async fn history(place: &Place, rule: &str) {
    match rule {
        "cost" => place.happened(DAY, "calls", vec![call(1_000_000_000, 5, 1)]).await,
        "token-spike" => place.happened(DAY, "calls", vec![call(1, 1_000, 1)]).await,
        "latency" => place.happened(DAY, "calls", vec![call(1, 5, 1); 20]).await,
        "new-tool" => {
            let events = [vec![created("a")], tool("t", "read_file", false)].concat();
            place.happened(2 * 3_600, "run/old", events).await;
        }
        _ => {}
    }
}

/// Makes what a rule is about go wrong.
async fn go_wrong(place: &mut Place, rule: &str) {
    let budget = |spent: i64| {
        vec![BudgetUse {
            account: "total@20779".into(),
            spent: Money::from_dollars(spent),
            limit: Money::from_dollars(10),
        }]
    };
    match rule {
        "success-rate" => place.happens("run/r", vec![created("a"), ended("failed", None)]).await,
        "cost" => place.happens("calls", vec![call(10_000_000_000, 5, 1)]).await,
        "health" => place.outside.health = "unhealthy".into(),
        "queue" => {
            let tasks = [("due".to_owned(), 51)].into();
            place.outside.queue = Some(QueueState { tasks, oldest: Some(Duration::from_mins(1)) });
        }
        "slow-runs" => {
            place.happened(400, "run/r", vec![created("a")]).await;
            place.happens("run/r", vec![ended("done", None)]).await;
        }
        "auth" => place.happens("calls", vec![auth_failure()]).await,
        "tool-failing" => {
            let failures = (0..3).flat_map(|number| tool(&format!("t{number}"), "http_get", true));
            place.happens("run/r", std::iter::once(created("a")).chain(failures).collect()).await;
        }
        "token-spike" => place.happens("calls", vec![call(1, 20_000, 1)]).await,
        "latency" => place.happens("calls", vec![call(1, 5, 5); 20]).await,
        "new-tool" => {
            let events = [vec![created("a")], tool("t", "delete_file", false)].concat();
            place.happens("run/r", events).await;
        }
        "budget-80" => *place.counted.budgets.lock().unwrap() = budget(8),
        "budget-100" => *place.counted.budgets.lock().unwrap() = budget(10),
        "breaker" => place.happens("node", vec![breaker("closed", "open")]).await,
        "approval-waiting" => {
            let asked = event(
                "approval.requested",
                &json!({"approval": "a1", "id": "t", "args_hash": "00", "preview_hash": "00", "why": "w", "expires": 0}),
            );
            place.happens("run/r", vec![created("a"), asked]).await;
        }
        "new-address" => {
            let first = event("key.first-used-from", &json!({"key": "ci", "address": "192.0.2.7"}));
            place.happens("keys", vec![first]).await;
        }
        "job-failing" => {
            let defined = json!({"job": "letter", "schedule": "@daily", "timezone": "UTC"});
            place.happens("jobs", vec![event("job.defined", &defined)]).await;
            // One that somebody ended says nothing about the job.
            for (number, status) in [(1, "done"), (2, "failed"), (3, "cancelled"), (4, "failed")] {
                job_ends(place, number, status).await;
            }
        }
        "stuck-run" => place.happened(1_000, "run/r", vec![created("a")]).await,
        other => panic!("nothing goes wrong for {other}"),
    }
}

/// Makes it right again.
async fn go_right(place: &mut Place, rule: &str) {
    match rule {
        "health" => place.outside.health = "degraded".into(),
        "queue" => place.outside.queue = Some(QueueState::default()),
        "budget-80" | "budget-100" => place.counted.budgets.lock().unwrap().clear(),
        "breaker" => {
            place.happens("node", vec![breaker("open", "half-open"), breaker("half-open", "closed")]).await;
        }
        "approval-waiting" => {
            let decided = event(
                "approval.decided",
                &json!({"approval": "a1", "id": "t", "decision": {"answer": "approve"}, "by": "o", "channel": "page"}),
            );
            place.happens("run/r", vec![decided]).await;
        }
        "job-failing" => job_ends(place, 5, "done").await,
        "stuck-run" => place.happens("run/r", vec![ended("done", None)]).await,
        // The stretch that it looks at goes by.
        "cost" => place.pass(DAY + 60),
        _ => place.pass(3_700),
    }
}

fn routing() -> Routing {
    Routing {
        group_wait: Duration::from_secs(30),
        group_interval: Duration::from_mins(5),
        repeat: Duration::from_hours(240),
        routes: vec![Route {
            receiver: "ops".into(),
            severity: Severity::Warning,
            rules: BTreeSet::new(),
            repeat: None,
        }],
        inhibitions: Vec::new(),
    }
}

#[tokio::test]
async fn each_rule_fires_once_is_quiet_resolves_and_survives_restarts() {
    for (rule, ..) in BUILT_IN.iter().filter(|(rule, ..)| *rule != WATCHDOG) {
        let rules = || built_in().into_iter().filter(|known| known.name == *rule).collect::<Vec<_>>();
        let mut place = Place::new();
        history(&place, rule).await;
        let mut watch = place.watch(rules(), routing(), Vec::new()).await;
        place.look(&mut watch).await;
        assert_eq!(place.told().await, Vec::<String>::new(), "{rule} fires before anything is wrong");

        go_wrong(&mut place, rule).await;
        place.look(&mut watch).await;
        let told = place.told().await;
        assert!(told.len() == 1 && told[0].starts_with("fired "), "{rule}: {told:?}");
        assert!(!told[0].contains('{'), "{rule}: {told:?}");
        // Between firing and telling the process is started anew.
        let mut watch = place.watch(rules(), routing(), Vec::new()).await;
        place.pass(30);
        place.look(&mut watch).await;
        assert_eq!(place.told().await[1..], ["tells 1 firing, 0 over"], "{rule}");
        for _ in 0..3 {
            place.pass(15);
            place.look(&mut watch).await;
        }
        let mut watch = place.watch(rules(), routing(), Vec::new()).await;
        place.look(&mut watch).await;
        assert_eq!(place.told().await.len(), 2, "{rule} is not quiet while it fires");

        go_right(&mut place, rule).await;
        place.pass(300);
        place.look(&mut watch).await;
        assert_eq!(place.told().await[2..], ["resolved", "tells 0 firing, 1 over"], "{rule}");
        let mut watch = place.watch(rules(), routing(), Vec::new()).await;
        place.look(&mut watch).await;
        assert_eq!(place.told().await.len(), 4, "{rule} says more than once that it is over");
    }
}

#[tokio::test]
async fn a_run_that_went_in_circles_is_told() {
    let place = Place::new();
    let rules = built_in().into_iter().filter(|rule| rule.name == "stuck-run").collect();
    let mut watch = place.watch(rules, routing(), Vec::new()).await;
    place.happens("run/r", vec![created("a"), ended("stopped", Some("BS5005"))]).await;
    place.look(&mut watch).await;
    assert_eq!(place.told().await, ["fired a, run r: it went in circles and was stopped"]);
}

#[tokio::test]
async fn all_rules_together_find_nothing_where_nothing_is_wrong() {
    let place = Place::new();
    let mut watch = place.watch(built_in(), routing(), Vec::new()).await;
    place
        .happens(
            "run/r",
            [vec![created("a")], tool("t", "read_file", false), vec![ended("done", None)]].concat(),
        )
        .await;
    place.happens("calls", vec![call(1_000, 5, 1); 30]).await;
    place.look(&mut watch).await;
    assert_eq!(place.told().await, ["fired alerts are looked after"], "but for the sign of life");
}

/// The dead man's switch: whoever listens to it hears it again and again, and notices when it is silent.
#[tokio::test]
async fn the_watchdog_is_told_again_and_again() {
    let place = Place::new();
    let dead_man = Route {
        receiver: "dead-man".into(),
        severity: Severity::Critical,
        rules: [WATCHDOG.to_owned()].into(),
        repeat: Some(Duration::from_mins(5)),
    };
    let routing = Routing { group_wait: Duration::ZERO, routes: vec![dead_man], ..routing() };
    let mut watch = place.watch(built_in(), routing, Vec::new()).await;
    for _ in 0..61 {
        place.look(&mut watch).await;
        place.pass(15);
    }
    let tells = place.told().await.iter().filter(|told| told.starts_with("tells")).count();
    assert_eq!(tells, 4, "at 0, 5, 10 and 15 minutes");
}

/// A place that an alert can fire at: the queue is too long.
async fn firing() -> Place {
    let mut place = Place::new();
    go_wrong(&mut place, "queue").await;
    place
}

fn queue_rule() -> Vec<Rule> {
    built_in().into_iter().filter(|rule| rule.name == "queue").collect()
}

fn at_once() -> Routing {
    Routing { group_wait: Duration::ZERO, group_interval: Duration::ZERO, ..routing() }
}

/// An upstream that answers each request with the next of these.
async fn hears(statuses: &'static [&'static str]) -> Upstream {
    Upstream::in_turn(statuses.iter().map(|status| answer(status, &[], "")).collect()).await
}

#[tokio::test]
async fn a_notice_is_tried_until_it_is_taken_over_a_restart_under_the_same_id() {
    let upstream = hears(&["500 Oops", "503 Later", "200 OK"]).await;
    let receiver = || {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        vec![Arc::new(Receiver::webhook("ops", &upstream.url(), &secret).unwrap())]
    };
    let place = firing().await;
    let mut watch = place.watch(queue_rule(), at_once(), receiver()).await;
    place.look(&mut watch).await;
    in_time("the first attempt", watch.tell()).await.unwrap();
    in_time("nothing: it is too early", watch.tell()).await.unwrap();
    assert_eq!(upstream.seen().asked.len(), 1);
    place.pass(5);
    in_time("the second attempt", watch.tell()).await.unwrap();
    let mut watch = place.watch(queue_rule(), at_once(), receiver()).await;
    in_time("the third attempt, of another process", watch.tell()).await.unwrap();
    in_time("nothing: it was taken", watch.tell()).await.unwrap();
    let requests = upstream.seen().asked;
    let ids: BTreeSet<_> =
        requests.iter().map(|request| request.header("webhook-id").unwrap().to_owned()).collect();
    assert_eq!((requests.len(), ids.len()), (3, 1), "{ids:?}");
    let body: Value = serde_json::from_str(requests[2].text()).unwrap();
    assert_eq!(
        (&body["status"], &body["alerts"][0]["labels"]["alertname"]),
        (&"firing".into(), &"queue".into()),
        "{body}"
    );
    assert!(requests[2].header("webhook-signature").unwrap().starts_with("v1,"));
    assert_eq!(place.told().await[2..], ["alert.delivered"]);
    assert_eq!(watch.alerts().outbox.len(), 0);
}

#[tokio::test]
async fn what_is_gone_or_never_takes_it_becomes_a_dead_letter() {
    let secret = Secret::new("s");
    for (statuses, rounds) in [(&["410 Gone"][..], 1), (&["500 Oops"], 24)] {
        let upstream = hears(statuses).await;
        let receiver = vec![Arc::new(Receiver::webhook("ops", &upstream.url(), &secret).unwrap())];
        let place = firing().await;
        let mut watch = place.watch(queue_rule(), at_once(), receiver).await;
        place.look(&mut watch).await;
        for _ in 0..30 {
            watch.tell().await.unwrap();
            place.pass(900);
        }
        assert_eq!(
            (upstream.seen().asked.len(), place.told().await.last().unwrap().as_str()),
            (rounds, "alert.lost")
        );
        assert_eq!((watch.alerts().outbox.len(), watch.alerts().lost.len()), (0, 1));
    }
}

#[tokio::test]
async fn one_that_does_not_answer_holds_up_no_other_and_hears_in_order() {
    let (broken, good) = (hears(&["500 Oops", "200 OK"]).await, hears(&["200 OK"]).await);
    let secret = Secret::new("s");
    let receivers = vec![
        Arc::new(Receiver::webhook("ops", &broken.url(), &secret).unwrap()),
        Arc::new(Receiver::slack("chat", &Secret::new(good.url())).unwrap()),
    ];
    let mut place = firing().await;
    let mut routing = at_once();
    routing.routes.push(Route { receiver: "chat".into(), ..routing.routes[0].clone() });
    let mut watch = place.watch(queue_rule(), routing, receivers).await;
    place.look(&mut watch).await;
    watch.tell().await.unwrap();
    go_right(&mut place, "queue").await;
    place.pass(1);
    place.look(&mut watch).await;
    watch.tell().await.unwrap();
    assert_eq!((broken.seen().asked.len(), good.seen().asked.len()), (1, 2));
    place.pass(60);
    watch.tell().await.unwrap();
    let heard: Vec<Value> =
        broken.seen().asked.iter().map(|request| serde_json::from_str(request.text()).unwrap()).collect();
    let statuses: Vec<_> = heard.iter().map(|body| body["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["firing", "firing", "resolved"]);
    assert!(good.seen().asked[1].text().contains("[resolved] queue"));
}

#[tokio::test]
async fn pagerduty_opens_and_closes_by_one_key() {
    let upstream = hears(&["202 Accepted"]).await;
    let key = Secret::new("routing-key-canary\n");
    let receivers = vec![Arc::new(Receiver::pagerduty("ops", &upstream.url(), key).unwrap())];
    let mut place = firing().await;
    let mut watch = place.watch(queue_rule(), at_once(), receivers).await;
    place.look(&mut watch).await;
    go_right(&mut place, "queue").await;
    place.pass(1);
    watch.tell().await.unwrap();
    place.look(&mut watch).await;
    watch.tell().await.unwrap();
    let heard: Vec<Value> =
        upstream.seen().asked.iter().map(|request| serde_json::from_str(request.text()).unwrap()).collect();
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert_eq!(
        (&heard[0]["event_action"], &heard[0]["payload"]["severity"]),
        (&"trigger".into(), &"warning".into())
    );
    assert_eq!(
        (&heard[1]["event_action"], &heard[1]["dedup_key"]),
        (&"resolve".into(), &heard[0]["dedup_key"])
    );
    assert_eq!(heard[0]["routing_key"], "routing-key-canary");
}

/// What a model wrote is told as text, and not at any length.
#[tokio::test]
async fn hostile_names_are_told_as_text() {
    let upstream = hears(&["200 OK"]).await;
    let receivers = vec![Arc::new(Receiver::slack("ops", &Secret::new(upstream.url())).unwrap())];
    let place = Place::new();
    let rules = built_in().into_iter().filter(|rule| rule.name == "tool-failing").collect();
    let mut watch = place.watch(rules, at_once(), receivers).await;
    let name = format!("<!channel>\u{202e}\n{}", "x".repeat(10_000));
    let failures = (0..3).flat_map(|number| tool(&format!("t{number}"), &name, true));
    place.happens("run/r", std::iter::once(created("a")).chain(failures).collect()).await;
    place.look(&mut watch).await;
    watch.tell().await.unwrap();
    let text = upstream.seen().asked[0].text().to_owned();
    assert!(
        !text.contains("<!channel>\u{202e}") && !text.contains('\u{202e}') && text.len() < 4_000,
        "{text}"
    );
    let body: Value = serde_json::from_str(&text).unwrap();
    assert!(!body["text"].as_str().unwrap().contains("<!"), "{body}");
}

#[tokio::test]
async fn what_a_rule_may_know_of_a_job() {
    let place = Place::new();
    let defined = json!({"job": "letter", "schedule": "@daily", "timezone": "UTC"});
    place.happens("jobs", vec![event("job.defined", &defined)]).await;
    job_ends(&place, 1, "done").await;
    job_ends(&place, 2, "failed").await;
    let nanos = |secs: u64| secs * 1_000_000_000;
    let skip = |first: u64, last: u64, times: u64, why: &str| {
        let (first, last) = (nanos(first), nanos(last));
        event(
            "job.skipped",
            &json!({"job": "letter", "first": first, "last": last, "times": times, "why": why}),
        )
    };
    // The first two are older than what is looked at.
    let skips = [
        skip(START - 90_000, START - 7_300, 5, "missed"),
        skip(START - 7_250, START - 7_250, 1, "overlap"),
        skip(START - 7_200, START - 60, 3, "missed"),
        skip(START - 50, START, 2, "overlap"),
    ];
    place.happens("jobs", skips.to_vec()).await;
    let paused = json!({"job": "letter", "by": "ann"});
    place.happens("jobs", vec![event("job.paused", &paused)]).await;
    place.pass(100);
    let when =
        "job.missed > 0.0 && job.overlapped > 0.0 && job.paused && job.since_done > 99.0 && job.code == ''";
    let summary = "{name}: {job.failures} {job.missed} {job.overlapped} {job.since_done} {job.paused}";
    let over = Duration::from_hours(2);
    let rule = Rule::new(("mine", Each::Job, over), when, Severity::Warning, summary).unwrap();
    let mut watch = place.watch(vec![rule], routing(), Vec::new()).await;
    place.look(&mut watch).await;
    assert_eq!(place.told().await, ["fired letter: 1 3 2 100 true"]);
}

#[test]
fn a_config_changes_rules_and_adds_its_own() {
    let read = |text: &str| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backstop.toml");
        std::fs::write(&path, text).unwrap();
        config::load(&path, None, &World::default()).map(|config| config.alerts).map_err(|problems| {
            problems.0.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("\n")
        })
    };
    let alerts = read(
        "[alerts.rules.queue]\nwhen = \"queue.depth > 5.0\"\n[alerts.rules.auth]\noff = true\n\
         [alerts.rules.mine]\nwhen = \"cost > 1.0\"\nsummary = \"much\"\nover = \"1h\"\n",
    );
    let rules = alerts.unwrap().resolved_rules().unwrap();
    let find = |name: &str| rules.iter().find(|rule| rule.name == name);
    assert_eq!(find("queue").unwrap().when.text(), "queue.depth > 5.0");
    assert_eq!(find("mine").unwrap().over, Duration::from_hours(1));
    assert_eq!((find("auth"), rules.len()), (None, BUILT_IN.len()));
    let receiver = "[[alerts.receivers]]\nname = \"x\"\n";
    for (text, why) in [
        ("[alerts.rules.mine]\nwhen = \"cost >\"\nsummary = \"s\"\n", "is no condition"),
        (
            "[alerts.rules.mine]\nwhen = \"costs > 1.0\"\nsummary = \"s\"\n",
            "uses `costs`; there are name, runs",
        ),
        ("[alerts.rules.mine]\nsummary = \"s\"\n", "needs `when`"),
        (receiver, "exactly one of `webhook`"),
        (
            &format!("{receiver}slack = \"env:A\"\n{receiver}slack = \"env:A\"\n"),
            "two receivers are called `x`",
        ),
        (&format!("{receiver}slack = \"env:A\"\nrules = [\"nothing\"]\n"), "there is no rule `nothing`"),
        ("[[alerts.inhibit]]\nby = \"health\"\nof = \"nothing\"\n", "there is no rule `nothing`"),
    ] {
        let told = read(text).unwrap_err();
        assert!(told.contains(why), "{text}: {told}");
    }
}

#[test]
fn an_alert_is_called_the_same_each_time_and_by_every_process() {
    let fired = |event: &EventBody| match event {
        EventBody::AlertFired(AlertFired { alert, .. }) => alert.clone(),
        other => panic!("{other:?}"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let names: BTreeSet<String> = (0..2)
        .map(|_| {
            runtime.block_on(async {
                let place = firing().await;
                let mut watch = place.watch(queue_rule(), at_once(), Vec::new()).await;
                place.look(&mut watch).await;
                let events = place.store.read(&StreamId::Alerts, 0).await.unwrap();
                assert_eq!(Alerts::fold(&events), *watch.alerts());
                fired(&events[0].body)
            })
        })
        .collect();
    assert_eq!(names.len(), 1);
}
