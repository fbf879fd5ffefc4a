//! The queue by HTTP: who may put tasks in, what a key's task may, and that the same request makes one task.

use crate::it::approvals::approver;
use crate::it::kit::{Answer, Gate, config, in_time};
use backstop::call::{
    Block, BoxFuture, Call, Failure, Model, Money, Price, Reply as ModelReply, Sink, StopReason, Usage,
};
use backstop::{Erasing, Leaf, ModelSettings, RunResult, Task};
use backstop_allowance::{Account, Scope};
use backstop_call::{Code, KeyLimits, Labels, Priority, RunId};
use backstop_journal::event::{KeyRight, KeyScope, Origin, QueueTerms, RunCreated};
use backstop_journal::{EventBody, RunStatus, StreamId, Take};
use serde_json::{Value, json};
use std::time::Duration;

/// A model that is done at once.
struct Done;

impl Model for Done {
    fn call<'a>(&'a self, _: Call, _: &'a mut dyn Sink) -> BoxFuture<'a, Result<ModelReply, Failure>> {
        let input = json!({"summary": "shortened"});
        let content = vec![Block::ToolUse { id: "f".into(), name: "finish".into(), input, cache: None }];
        let usage = Usage { input_tokens: 100, output_tokens: 20, ..Usage::default() };
        Box::pin(async move { Ok(ModelReply::new("done-1", content, StopReason::ToolUse, usage)) })
    }
}

const AGENTS: &str = "
[agents.writer]
model = \"main\"
role = \"author\"
workspace = \"work\"
tools = [\"read_file\", \"write_file\"]
[agents.cleaner]
model = \"main\"
workspace = \"work\"
[agents.homeless]
model = \"main\"
[roles.author]
tools = { read_file = {}, write_file = {} }
[roles.guest]
tools = { read_file = {} }
";

struct Shop {
    gate: Gate,
}

impl Shop {
    /// Agents whose model costs so many dollars per million tokens.
    async fn new() -> Self {
        let text = format!("{}{AGENTS}", config(&[("a", "messages", "http://127.0.0.1:9".to_owned())]));
        let gate = Gate::start_with(&text, |_, settings| {
            settings.models.push(ModelSettings {
                name: "done".into(),
                id: "done-1".into(),
                leaf: Leaf::Model("here".into(), std::sync::Arc::new(Done)),
                place: backstop_label::ModelPlace::Local,
                price: Price {
                    input: Money::from_dollars(3),
                    output: Money::from_dollars(15),
                    ..Price::FREE
                },
                context_window: 10_000,
                max_output: 1_000,
                hidden_output: false,
                limits: backstop_stack::Limits::default(),
            });
        })
        .await;
        std::fs::create_dir(gate.dir.path().join("work")).unwrap();
        Self { gate }
    }

    async fn key(&self, name: &str, scope: KeyScope) -> String {
        self.gate.key(name, scope).await
    }

    async fn ask(&self, key: &str, method: &str, path: &str, body: &Value) -> Answer {
        self.gate.ask(method, path, &[("x-api-key", key)], &body.to_string()).await
    }

    async fn put(&self, key: &str, body: &Value) -> Answer {
        self.ask(key, "POST", "/api/tasks", body).await
    }

    async fn put_once(&self, key: &str, once: &str, body: &Value) -> Answer {
        let headers = [("x-api-key", key), ("idempotency-key", once)];
        self.gate.ask("POST", "/api/tasks", &headers, &body.to_string()).await
    }

    /// A request of a program at this machine.
    async fn at_home(&self, method: &str, path: &str, more: &str, body: &str) -> Answer {
        let mut client = self.gate.client().await;
        let (addr, length) = (self.gate.addr, body.len());
        client
            .write(format!(
                "{method} {path} HTTP/1.1\r\nhost: {addr}\r\ncontent-length: {length}\r\n{more}\r\n{body}"
            ))
            .await;
        client.answer().await
    }

    async fn created(&self, answer: &Answer) -> RunCreated {
        let run: RunId = answer.json()["run"].as_str().unwrap().into();
        let events = self.gate.events(StreamId::Run(run)).await;
        let Some(EventBody::RunCreated(created)) = events.into_iter().next() else { panic!("no run") };
        created
    }

    /// Does what is due, as a worker would.
    async fn work(&self) -> Vec<RunResult> {
        let backstop = &self.gate.backstop;
        let take = Take { at: backstop.clock().now(), most: 9, ..Take::default() };
        let mut results = Vec::new();
        for taken in backstop.queue().take(take).await.unwrap() {
            results.push(in_time("the end of a run", Box::pin(backstop.work(&taken))).await.unwrap());
        }
        results
    }

    async fn count(&self) -> usize {
        self.gate.backstop.queue().tasks(backstop_journal::TaskFilter::default()).await.unwrap().len()
    }
}

fn submitter() -> KeyScope {
    KeyScope { right: KeyRight::Submit, ..KeyScope::default() }
}

fn refusal(answer: &Answer) -> (u16, String) {
    let error = &answer.json()["error"];
    assert!(error["message"].is_string() && error["hint"].is_string(), "{}", answer.text());
    assert_eq!(error["code"], answer.header("x-backstop-code"));
    (answer.status(), error["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_task_is_put_in_done_and_told_of() {
    let shop = Shop::new().await;
    let key = shop.key("shop", submitter()).await;
    let body = json!({"id": "a/b c", "agent": "writer", "task": "Shorten intro.md", "model": "done", "key": "intro"});
    let answer = shop.put(&key, &body).await;
    let run = answer.json()["run"].clone();
    assert_eq!(answer.json(), json!({"task": "a/b c", "run": run, "new": true}));
    assert_eq!((answer.status(), answer.header("location")), (201, "/api/tasks/a%2Fb%20c"));

    let list = shop.ask(&key, "GET", "/api/tasks", &Value::Null).await.json();
    let row = &list["tasks"][0];
    let told = (&row["task"], &row["state"], &row["working"], &row["key"], &row["run"]["run"]);
    assert_eq!(told, (&json!("a/b c"), &json!("waiting"), &json!(false), &json!("intro"), &run));
    assert_eq!((&list["next"], list.get("backlog")), (&Value::Null, None), "what others have is not told");

    let results = shop.work().await;
    assert_eq!(results[0].status, RunStatus::Done, "{results:?}");
    let one = shop.ask(&key, "GET", answer.header("location"), &Value::Null).await.json();
    let told = (&one["state"], &one["content"], &one["code"], &one["tried"], &one["tries"]);
    assert_eq!(told, (&json!("done"), &json!("shortened"), &Value::Null, &json!(0), &json!(1)), "{one}");
    assert_eq!(one["cost_usd"], "0.0006");
    // What is done is not tried again, and not ended.
    for act in ["retry", "cancel"] {
        let path = format!("/api/tasks/a%2Fb%20c/{act}");
        let answer = shop.gate.ask("POST", &path, &[("x-api-key", &key)], "").await;
        assert_eq!(refusal(&answer), (409, "BS5009".to_owned()), "{act}");
    }
    let backstop = &shop.gate.backstop;
    let erasing = Erasing { by: "ann", reason: "", at: backstop.clock().now(), age: Duration::ZERO };
    backstop.erase(&results[0].run, &erasing).await.unwrap();
    let one = shop.ask(&key, "GET", answer.header("location"), &Value::Null).await.json();
    let told = (&one["state"], &one["content"], &one["result"], &one["cost_usd"]);
    assert_eq!(told, (&json!("done"), &json!("(erased)"), &Value::Null, &json!("0.0006")), "{one}");
    assert!(one["run"]["erased"].is_u64(), "{one}");
    let again = shop.gate.ask("POST", "/api/tasks/a%2Fb%20c/retry", &[("x-api-key", &key)], "").await;
    assert_eq!(refusal(&again), (409, "BS5017".to_owned()));
}

#[tokio::test]
async fn the_same_request_makes_one_task_and_another_one_is_refused() {
    let shop = Shop::new().await;
    let (key, other) = (shop.key("shop", submitter()).await, shop.key("other", submitter()).await);
    let body = json!({"agent": "writer", "task": "Shorten intro.md", "delay": "1h"});
    let first = shop.put_once(&key, "k-1", &body).await;
    assert_eq!((first.status(), first.header("idempotent-replayed")), (201, ""));
    // However it is written.
    let same = r#"{ "delay": "60m", "task": "Shorten intro.md",  "agent": "writer" }"#;
    let headers = [("x-api-key", key.as_str()), ("idempotency-key", "\"k-1\"")];
    let again = shop.gate.ask("POST", "/api/tasks", &headers, same).await;
    assert_eq!((again.status(), again.json()), (201, first.json()));
    assert_eq!(again.header("idempotent-replayed"), "true");
    // The same task under two names is two; the same name for two tasks is refused, with whatever id.
    assert_eq!(shop.put_once(&key, "k-2", &body).await.status(), 201);
    for more in [json!({"tries": 2}), json!({"id": "mine"}), json!({"task": "Lengthen intro.md"})] {
        let mut body = body.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(refusal(&shop.put_once(&key, "k-1", &body).await), (422, "BS4009".to_owned()), "{body}");
    }
    // Whoever has another key has names of their own.
    let theirs = shop.put_once(&other, "k-1", &body).await;
    assert_eq!((theirs.status(), theirs.json()["run"] == first.json()["run"]), (201, false));

    let named = json!({"id": "mine", "agent": "writer", "task": "Shorten intro.md"});
    let first = shop.put(&key, &named).await;
    let again = shop.put(&key, &named).await;
    assert_eq!((again.status(), &again.json()["run"]), (200, &first.json()["run"]));
    assert_eq!(again.json()["new"], false);
    let another = json!({"id": "mine", "agent": "writer", "task": "Lengthen intro.md"});
    assert_eq!(refusal(&shop.put(&key, &another).await), (409, "BS4009".to_owned()));
    let theirs = shop.put(&other, &named).await;
    assert_eq!(refusal(&theirs), (409, "BS4009".to_owned()));
    assert!(!theirs.text().contains(first.json()["run"].as_str().unwrap()), "{}", theirs.text());
    assert_eq!(shop.count().await, 4);
}

#[tokio::test]
async fn of_many_same_requests_at_once_one_makes_the_task() {
    let shop = std::sync::Arc::new(Shop::new().await);
    let key = shop.key("shop", submitter()).await;
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (shop, key) = (std::sync::Arc::clone(&shop), key.clone());
        asked.spawn(async move {
            let answer = shop.put_once(&key, "k", &json!({"agent": "writer", "task": "Shorten."})).await;
            (answer.status(), answer.json().to_string())
        });
    }
    let mut answers = in_time("all answers", asked.join_all()).await;
    answers.dedup();
    assert_eq!((answers.len(), answers[0].0, shop.count().await), (1, 201, 1), "{answers:?}");
}

#[tokio::test]
async fn a_keys_task_may_what_its_key_may_and_no_more() {
    let shop = Shop::new().await;
    let budget = KeyLimits { day: Some(Money::from_dollars(5)), whole: None };
    let scope = KeyScope {
        role: Some("guest".into()),
        agents: vec!["writ*".into(), "homeless".into()],
        models: vec!["done".into()],
        priority: Some(Priority::Batch),
        labels: Labels::untrusted(),
        budget,
        ..submitter()
    };
    let key = shop.key("narrow", scope).await;
    let good = json!({"agent": "writer", "task": "Shorten.", "model": "done", "priority": "interactive"});
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    let rows = [
        (with("agent", json!("cleaner")), 403, "BS6017"),
        (with("agent", json!("nobody")), 403, "BS6017"),
        (with("agent", json!("writr")), 422, "BS1007"),
        (with("agent", Value::Null), 422, "BS1011"),
        (with("agent", json!("homeless")), 422, "BS1011"),
        (with("workspace", json!("/")), 422, "BS1011"),
        (with("model", Value::Null), 403, "BS6008"),
        (with("model", json!("a")), 403, "BS6008"),
        (with("task", json!(" ")), 422, "BS1011"),
        (with("tries", json!(0)), 422, "BS1011"),
        (with("tries", json!("many")), 400, "BS1011"),
        (with("labels", json!([])), 400, "BS1011"),
        (json!([]), 400, "BS1011"),
    ];
    for (body, status, code) in rows {
        assert_eq!(refusal(&shop.put(&key, &body).await), (status, code.to_owned()), "{body}");
    }
    assert_eq!(shop.count().await, 0);

    let answer = shop.put(&key, &good).await;
    assert_eq!(answer.status(), 201, "{}", answer.text());
    let created = shop.created(&answer).await;
    let of = (created.role.as_str(), created.priority, &created.labels, created.workspace.as_str());
    let work = shop.gate.dir.path().join("work");
    assert_eq!(of, ("guest", Priority::Batch, &Labels::untrusted(), work.to_str().unwrap()));
    let origin = Origin { key: Some("narrow".into()), key_limits: budget, ..*created.origin.clone() };
    assert_eq!(*created.origin, origin);
    let bounds: Vec<_> =
        created.bounds.iter().map(|bound| bound.0.keys().cloned().collect::<Vec<_>>()).collect();
    assert_eq!(bounds, [vec!["read_file".to_owned(), "write_file".to_owned()], vec!["read_file".to_owned()]]);
}

#[tokio::test]
async fn a_keys_task_is_paid_by_its_key() {
    let shop = Shop::new().await;
    let budget = |nanos| KeyLimits { day: None, whole: Some(Money::from_nanos(nanos)) };
    let poor = shop.key("poor", KeyScope { budget: budget(1), ..submitter() }).await;
    let rich = shop.key("rich", KeyScope { budget: budget(1_000_000_000), ..submitter() }).await;
    let task = json!({"agent": "writer", "task": "Shorten.", "model": "done"});
    for key in [&poor, &rich] {
        assert_eq!(shop.put(key, &task).await.status(), 201);
    }
    let results = shop.work().await;
    let ends: Vec<_> = results.iter().map(|result| (result.status, result.code)).collect();
    assert_eq!(ends, [(RunStatus::Stopped, Some(Code::BudgetExceeded)), (RunStatus::Done, None)]);
    let spent = async |name: &str| {
        let account = Account::whole(Scope::Key(name.into()));
        shop.gate.balance_of(account).await.settled
    };
    assert_eq!((spent("poor").await, spent("rich").await), (Money::ZERO, results[1].cost));
    assert!(results[1].cost > Money::ZERO);
}

#[tokio::test]
async fn each_right_opens_what_it_is_for() {
    let shop = Shop::new().await;
    let submit = shop.key("shop", submitter()).await;
    let other = shop.key("other", submitter()).await;
    let call = shop.key("agent", KeyScope::default()).await;
    let view = shop.key("wall", KeyScope { right: KeyRight::View, ..KeyScope::default() }).await;
    let anna = shop.key("anna", approver()).await;
    let task = json!({"id": "t", "agent": "writer", "task": "Shorten."});
    assert_eq!(shop.put(&submit, &task).await.status(), 201);
    let mut elsewhere = Task::new("main", "From this machine.");
    elsewhere.id = "by-hand".into();
    shop.gate.backstop.submit(elsewhere, QueueTerms::once(shop.gate.backstop.clock().now())).await.unwrap();
    let paths = [
        ("POST", "/api/tasks"),
        ("GET", "/api/tasks"),
        ("GET", "/api/tasks/t"),
        ("POST", "/api/tasks/t/retry"),
        ("POST", "/api/tasks/t/cancel"),
    ];
    let keys = [
        ("nobody", "", [401, 401, 401, 401, 401]),
        ("a wrong key", "bsk_none-of-ours", [401, 401, 401, 401, 401]),
        ("an agent", &call, [403, 403, 403, 403, 403]),
        ("who looks", &view, [403, 200, 200, 403, 403]),
        ("another who submits", &other, [422, 200, 404, 404, 404]),
        ("who submits", &submit, [422, 200, 200, 200, 200]),
    ];
    let nothing = json!({"agent": "writer", "task": ""});
    for (who, key, want) in keys {
        for ((method, path), want) in paths.into_iter().zip(want) {
            let body = if path == "/api/tasks" { nothing.to_string() } else { String::new() };
            let answer = shop.gate.ask(method, path, &[("x-api-key", key)], &body).await;
            assert_eq!(answer.status(), want, "{who}: {method} {path}: {}", answer.text());
        }
    }
    let names = async |key: &str| {
        let list = shop.ask(key, "GET", "/api/tasks", &Value::Null).await.json();
        let names =
            list["tasks"].as_array().unwrap().iter().map(|task| task["task"].as_str().unwrap().to_owned());
        (names.collect::<Vec<_>>(), list.get("backlog").is_some())
    };
    let own = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&submit).await, (own(&["t"]), false));
    assert_eq!(names(&other).await, (own(&[]), false));
    assert_eq!(names(&view).await, (own(&["by-hand", "t"]), true));
    let ended = shop.ask(&anna, "POST", "/api/tasks/by-hand/cancel", &json!({"reason": "too late"})).await;
    let told = (ended.status(), ended.json()["state"].clone(), ended.json()["message"].clone());
    assert_eq!(told, (200, json!("cancelled"), json!("ended by key anna: too late")));
    assert_eq!(shop.put(&anna, &task).await.status(), 403, "who answers submits nothing");
}

#[tokio::test]
async fn without_any_key_this_machine_submits_and_no_page_of_a_browser() {
    let shop = Shop::new().await;
    let body = json!({"agent": "writer", "task": "Shorten."}).to_string();
    let refused = [
        "origin: http://127.0.0.1:4141\r\n",
        "sec-fetch-site: same-origin\r\n",
        "sec-fetch-site: cross-site\r\n",
        "x-forwarded-for: 10.0.0.7\r\n",
        "x-api-key: bsk_none-of-ours\r\n",
    ];
    for more in refused {
        for (method, path) in [("POST", "/api/tasks"), ("GET", "/api/tasks"), ("POST", "/api/tasks/t/cancel")]
        {
            assert_eq!(shop.at_home(method, path, more, &body).await.status(), 401, "{method} {path} {more}");
        }
    }
    assert_eq!(
        shop.gate.ask("POST", "/api/tasks", &[], &body).await.status(),
        401,
        "by a name that is not ours"
    );
    assert_eq!(shop.count().await, 0);
    let answer = shop.at_home("POST", "/api/tasks", "", &body).await;
    assert_eq!(answer.status(), 201, "{}", answer.text());
    let free =
        |workspace: &str| json!({"task": "Look.", "model": "main", "workspace": workspace}).to_string();
    assert_eq!(
        shop.at_home("POST", "/api/tasks", "", &free("/tmp")).await.status(),
        201,
        "as `backstop submit`"
    );
    let rows =
        [(free("work"), "BS1011"), (free(""), "BS1011"), (free("/tmp").replace("main", "mian"), "BS1006")];
    for (body, code) in rows {
        assert_eq!(
            refusal(&shop.at_home("POST", "/api/tasks", "", &body).await),
            (422, code.to_owned()),
            "{body}"
        );
    }
    assert!(shop.at_home("GET", "/api/tasks", "", "").await.json()["backlog"]["due"] == 2);
    // With the first key, whoever it is for, nobody is let in without one.
    shop.key("anna", approver()).await;
    assert_eq!(shop.at_home("POST", "/api/tasks", "", &body).await.status(), 401);
}

#[tokio::test]
async fn what_failed_is_tried_again_and_a_key_has_its_limits() {
    let shop = Shop::new().await;
    let budget = KeyLimits { day: None, whole: Some(Money::from_nanos(1)) };
    let key = shop.key("shop", KeyScope { requests_per_minute: Some(2), budget, ..submitter() }).await;
    let task = json!({"id": "t", "agent": "writer", "task": "Shorten.", "model": "done"});
    assert_eq!(shop.put(&key, &task).await.status(), 201);
    let results = shop.work().await;
    assert_eq!(results[0].status, RunStatus::Stopped, "{results:?}");
    let one = shop.ask(&key, "GET", "/api/tasks/t", &Value::Null).await.json();
    assert_eq!((&one["state"], &one["tried"]), (&json!("dead"), &json!(1)), "{one}");
    let again = shop.gate.ask("POST", "/api/tasks/t/retry", &[("x-api-key", &key)], "").await.json();
    assert_eq!((&again["state"], &again["tried"]), (&json!("waiting"), &json!(0)));
    let (second, third) = (shop.put(&key, &task).await, shop.put(&key, &task).await);
    assert_eq!((second.status(), refusal(&third)), (200, (429, "BS6009".to_owned())));
    assert!(third.header("retry-after").parse::<u32>().is_ok_and(|wait| (1..=31).contains(&wait)));
}
