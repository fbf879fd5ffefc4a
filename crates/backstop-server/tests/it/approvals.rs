//! The REST API of approvals: who may, what an answer does, and that it does it once.

use crate::it::kit::{Answer, Gate, config, in_time, messages, until};
use crate::it::page::Browser;
use backstop::call::{
    Block, BoxFuture, Call, Failure, Model, Money, Price, Reply as ModelReply, Sink, StopReason, Timestamp,
    Usage,
};
use backstop::{Crew, Leaf, ModelSettings, Settings, Task, Workers};
use backstop_agent::run::Reply;
use backstop_agent::tool::{Job, Plan, Tool, ToolContext, ToolError, ToolOutput, read_args, spec_of};
use backstop_call::{Labels, RunId, ToolSpec};
use backstop_journal::event::{ApprovalDecided, KeyRight, KeyScope};
use backstop_journal::{EventBody, RunStatus, StreamId};
use backstop_label::{ArgRole, Class, Confidentiality, Declaration, Effect, Integrity};
use backstop_server::gateway::BellLimits;
use backstop_store::{SqliteStore, StoreOptions};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A model that calls `send` once with a line, and is done.
struct Sender(String);

impl Model for Sender {
    fn call<'a>(&'a self, call: Call, _: &'a mut dyn Sink) -> BoxFuture<'a, Result<ModelReply, Failure>> {
        let (name, input) = match call.request.messages.len() {
            1 => ("send", json!({"line": self.0})),
            _ => ("finish", json!({"summary": "done"})),
        };
        let id = format!("call-{}", call.request.messages.len());
        let content = vec![Block::ToolUse { id, name: name.into(), input, cache: None }];
        let usage = Usage { input_tokens: 100, output_tokens: 20, ..Usage::default() };
        Box::pin(async move { Ok(ModelReply::new("sender-1", content, StopReason::ToolUse, usage)) })
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Line {
    line: String,
}

/// A tool that cannot take back what it sent.
struct Send {
    declaration: Declaration,
    sent: Arc<Mutex<Vec<String>>>,
}

impl Tool for Send {
    fn spec(&self) -> ToolSpec {
        spec_of::<Line>("send", "Sends a line.")
    }

    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn plan<'a>(&'a self, args: &'a Value, _: &'a ToolContext) -> BoxFuture<'a, Result<Plan, ToolError>> {
        Box::pin(async {
            let Line { line } = read_args(args)?;
            Ok(Plan { preview: format!("@@ outbox @@\n-nothing\n+{line}\n"), ..Plan::default() })
        })
    }

    fn run<'a>(&'a self, job: &'a Job, _: &'a ToolContext) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(async {
            let Line { line } = read_args(&job.args)?;
            self.sent.lock().unwrap().push(line);
            Ok(ToolOutput::text("sent"))
        })
    }
}

/// What the gateway of a test has beside what its config says.
#[derive(Clone)]
struct Own {
    model: ModelSettings,
    tool: Arc<Send>,
}

impl Own {
    fn apply(&self, settings: &mut Settings) {
        settings.models.push(self.model.clone());
        settings.tools.push(Arc::clone(&self.tool) as Arc<dyn Tool>);
    }
}

/// A gateway with runs that ask.
pub(crate) struct Desk {
    pub(crate) gate: Gate,
    change: Own,
    sent: Arc<Mutex<Vec<String>>>,
    /// The secret of an approver.
    pub(crate) anna: String,
    /// The secret of an agent.
    pub(crate) agent: String,
}

impl Desk {
    pub(crate) async fn new(line: &str) -> Self {
        Self::with(line, "", &[], BellLimits::default()).await
    }

    pub(crate) async fn with(line: &str, more: &str, vars: &[(&str, &str)], bell: BellLimits) -> Self {
        let sent = Arc::<Mutex<Vec<String>>>::default();
        let model = ModelSettings {
            name: "sender".into(),
            id: "sender-1".into(),
            leaf: Leaf::Model("here".into(), Arc::new(Sender(line.to_owned()))),
            place: backstop_label::ModelPlace::Local,
            price: Price { input: Money::from_dollars(3), output: Money::from_dollars(15), ..Price::FREE },
            context_window: 10_000,
            max_output: 1_000,
            hidden_output: false,
            limits: backstop_stack::Limits::default(),
        };
        let declaration = Declaration {
            class: Class::Irreversible,
            effect: Effect::External,
            args: [("line".to_owned(), ArgRole::Content)].into(),
            integrity: Integrity::Trusted,
            confidentiality: Confidentiality::Public,
        };
        let change = Own { model, tool: Arc::new(Send { declaration, sent: Arc::clone(&sent) }) };
        let text = format!("{}{more}", config(&[("a", "messages", "http://127.0.0.1:9".to_owned())]));
        let gate = Gate::start_ringing(&text, vars, bell, |_, settings| change.apply(settings)).await;
        let anna = gate.key("anna", approver()).await;
        let agent = gate.key("agent", KeyScope::default()).await;
        Self { gate, change, sent, anna, agent }
    }

    /// Takes another config, with the same model and tool.
    pub(crate) async fn reload(&self, text: &str) {
        let change = self.change.clone();
        self.gate.reload_with(text, |settings| change.apply(settings)).await.unwrap();
    }

    /// A run that asks; with its question, unless that is over already.
    pub(crate) async fn ask(&self) -> (RunId, String) {
        self.ask_with(Labels::default()).await
    }

    pub(crate) async fn ask_with(&self, labels: Labels) -> (RunId, String) {
        let mut task = Task::new("sender", "Send it.");
        task.workspace = self.gate.dir.path().join("work");
        std::fs::create_dir_all(&task.workspace).unwrap();
        task.tools = vec!["send".to_owned()];
        task.labels = labels;
        let run = self.gate.backstop.run(task).await.unwrap().run;
        let events = self.gate.events(StreamId::Run(run.clone())).await;
        let asked = events.iter().find_map(|event| match event {
            EventBody::ApprovalRequested(asked) => Some(asked.approval.to_string()),
            _ => None,
        });
        (run, asked.unwrap())
    }

    pub(crate) async fn api(&self, method: &str, path: &str, body: &str) -> Answer {
        let path = format!("/api/v1/approvals{path}");
        self.gate.ask(method, &path, &[("x-api-key", &self.anna)], body).await
    }

    pub(crate) async fn decided(&self, run: &RunId) -> Vec<ApprovalDecided> {
        let events = self.gate.events(StreamId::Run(run.clone())).await;
        let decided = events.into_iter().filter_map(|event| match event {
            EventBody::ApprovalDecided(decided) => Some(decided),
            _ => None,
        });
        decided.collect()
    }

    /// Waits until workers are done with a run; gives what was sent by all.
    pub(crate) async fn over(&self, run: &RunId) -> Vec<String> {
        let _workers = Workers::start(self.gate.backstop.clone(), Crew::of(2));
        until("the end of the run", async || {
            let status = self.gate.backstop.inspect(run).await.ok()?.status;
            (status == RunStatus::Done).then_some(())
        })
        .await;
        self.sent()
    }

    pub(crate) fn sent(&self) -> Vec<String> {
        self.sent.lock().unwrap().clone()
    }

    fn journal(&self) -> PathBuf {
        self.gate.dir.path().join(".backstop/backstop.db")
    }
}

pub(crate) fn approver() -> KeyScope {
    KeyScope { right: KeyRight::Approve, ..KeyScope::default() }
}

fn refusal(answer: &Answer) -> (u16, String) {
    let error = &answer.json()["error"];
    assert!(error["message"].is_string() && error["hint"].is_string(), "{}", answer.text());
    assert_eq!(error["code"], answer.header("x-backstop-code"));
    (answer.status(), error["code"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_question_is_shown_answered_and_its_run_goes_on() {
    let desk = Desk::new("hello").await;
    let (run, id) = desk.ask().await;
    let list = desk.api("GET", "", "").await.json();
    assert_eq!(list["approvals"].as_array().unwrap().len(), 1);
    let card = desk.api("GET", &format!("/{id}"), "").await.json();
    assert_eq!(list["approvals"][0], card);
    let shown = json!({
        "status": card["status"], "run": card["run"], "tool": card["tool"], "args": card["args"],
        "preview": card["preview"], "why": card["why"], "effect": card["effect"],
        "reversible": card["reversible"], "default": card["default"], "agent": card["agent"],
    });
    let want = json!({
        "status": "open", "run": run, "tool": "send", "args": {"line": "hello"},
        "preview": "@@ outbox @@\n-nothing\n+hello\n", "why": "it cannot be taken back", "effect": "external",
        "reversible": false, "default": "deny", "agent": "default",
    });
    assert_eq!(shown, want);
    assert!(desk.sent().is_empty());

    let answer = desk.api("POST", &format!("/{id}/approve"), "").await;
    let json = answer.json();
    let told = (answer.status(), &json["status"], &json["decided"]["by"], &json["run_goes_on"]);
    assert_eq!(told, (200, &json!("approved"), &json!("anna"), &json!("waiting")));
    assert_eq!(desk.over(&run).await, ["hello"]);
    let decided = desk.decided(&run).await;
    assert_eq!((decided.len(), decided[0].by.as_str(), decided[0].channel.as_str()), (1, "anna", "api"));
    assert_eq!(desk.api("GET", "", "").await.json(), json!({"approvals": []}));
}

#[tokio::test]
async fn a_no_is_told_to_the_model_with_its_reason() {
    let desk = Desk::new("hello").await;
    let (run, id) = desk.ask().await;
    let long = format!(r#"{{"reason": "{}"}}"#, "x".repeat(2_001));
    assert_eq!(refusal(&desk.api("POST", &format!("/{id}/deny"), &long).await), (422, "BS1011".to_owned()));
    let answer = desk.api("POST", &format!("/{id}/deny"), r#"{"reason": "she is on holiday"}"#).await;
    assert_eq!((answer.status(), &answer.json()["decided"]["reason"]), (200, &json!("she is on holiday")));
    assert_eq!(desk.over(&run).await, Vec::<String>::new());
}

#[tokio::test]
async fn only_a_key_that_approves_sees_or_answers_anything() {
    let desk = Desk::new("hello").await;
    let (run, id) = desk.ask().await;
    let paths = |id: &str| {
        let acts = ["approve", "deny", "edit", "preview"].map(|act| ("POST", format!("/{id}/{act}")));
        [("GET", String::new()), ("GET", format!("/{id}"))].into_iter().chain(acts)
    };
    let keys: [(&str, u16, &str); 3] =
        [("", 401, "BS6001"), ("bsk_none-of-ours", 401, "BS6002"), (&desk.agent, 403, "BS6015")];
    for (key, status, code) in keys {
        let mut told = Vec::new();
        for (method, path) in paths(&id).chain(paths("nothing")) {
            let path = format!("/api/v1/approvals{path}");
            let answer = desk.gate.ask(method, &path, &[("x-api-key", key)], "{}").await;
            assert_eq!(refusal(&answer), (status, code.to_owned()), "{method} {path}");
            told.push(answer.text().to_owned());
        }
        told.dedup();
        assert_eq!(told.len(), 1, "whether there is a question is not told: {told:?}");
    }
    assert!(desk.decided(&run).await.is_empty() && desk.sent().is_empty());
}

#[tokio::test]
async fn an_address_that_sends_wrong_keys_is_not_heard_for_a_while() {
    let desk = Desk::new("hello").await;
    let (_, id) = desk.ask().await;
    let session = Browser::log_in(&desk).await;
    let with = async |key: &str| desk.gate.ask("GET", "/api/v1/approvals", &[("x-api-key", key)], "").await;
    // No key is no guess, and the key of an agent is one.
    for _ in 0..40 {
        assert_eq!(with("").await.status(), 401);
    }
    let mut refused = 0;
    let told = loop {
        let answer = with(if refused % 2 == 0 { "bsk_none-of-ours" } else { &desk.agent }).await;
        if answer.status() == 429 {
            break answer;
        }
        refused += 1;
        assert!(refused <= 40, "{refused} wrong keys were looked at");
    };
    assert!(refused >= 30, "{refused}");
    assert_eq!((told.header("x-backstop-code"), told.header("retry-after")), ("BS6009", "2"));
    assert_eq!(with(&desk.anna).await.status(), 429, "also the right one: nobody learns which it is");
    let page = session.post("/login", &[("key", &desk.anna), ("next", "/approvals")]).await;
    assert_eq!((page.status(), page.header("set-cookie")), (429, ""));
    assert!(page.text().contains("Too many wrong keys"), "{}", page.text());
    assert_eq!(session.get(&format!("/approvals/{id}")).await.status(), 200, "who is logged in stays so");
}

#[tokio::test]
async fn a_key_that_approves_asks_no_model_wherever_it_is_shown() {
    let desk = Desk::new("hello").await;
    let open = Gate::start(&config(&[("a", "messages", "http://127.0.0.1:9".to_owned())])).await;
    let bert = open.key("bert", approver()).await;
    assert!(!open.gateway.has_keys() && open.gateway.has_approvers(), "an approver closes nothing");
    for (gate, key) in [(&desk.gate, &desk.anna), (&open, &bert)] {
        for (method, path) in [("POST", "/v1/messages"), ("GET", "/v1/models"), ("GET", "/metrics")] {
            let answer = gate.ask(method, path, &[("x-api-key", key)], &messages("main", false)).await;
            assert_eq!((answer.status(), answer.header("x-backstop-code")), (403, "BS6015"), "{path}");
        }
    }
    assert_eq!(open.get("/v1/models").await.status(), 200);
    assert_eq!(open.get("/api/v1/approvals").await.status(), 401, "nobody approves without a key");
}

#[tokio::test]
async fn of_many_answers_at_once_one_counts() {
    let desk = Arc::new(Desk::new("hello").await);
    let (run, id) = desk.ask().await;
    let mut answers = tokio::task::JoinSet::new();
    for n in 0..8 {
        let (desk, path) = (Arc::clone(&desk), format!("/{id}/{}", ["approve", "deny"][n % 2]));
        answers.spawn(async move { desk.api("POST", &path, "").await });
    }
    let answers = in_time("all answers", answers.join_all()).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status() == 200);
    assert_eq!((won.len(), lost.len()), (1, 7));
    for answer in lost {
        assert_eq!(refusal(answer), (409, "BS5013".to_owned()));
    }
    let want = if won[0].json()["status"] == "approved" { vec!["hello".to_owned()] } else { Vec::new() };
    assert_eq!(desk.over(&run).await, want);
    assert_eq!(desk.decided(&run).await.len(), 1);
}

#[tokio::test]
async fn what_no_longer_stands_cannot_be_answered() {
    let gates = "[[gates]]\nname = \"soon\"\nthen = \"ask\"\ntools = [\"send\"]\nexpires = \"1ms\"\n";
    let soon = Desk::with("hello", gates, &[], BellLimits::default()).await;
    let (_, expired) = soon.ask().await;
    until("the end of the question", async || {
        let card = soon.api("GET", &format!("/{expired}"), "").await.json();
        (card["status"] == "expired").then_some(())
    })
    .await;
    let desk = Desk::new("hello").await;
    let (run, ended) = desk.ask().await;
    desk.gate.backstop.cancel(&run, "not needed").await.unwrap();
    assert_eq!(desk.api("GET", &format!("/{ended}"), "").await.json()["status"], "superseded");
    for (desk, id) in [(&soon, &expired), (&desk, &ended)] {
        for act in ["approve", "deny"] {
            let answer = desk.api("POST", &format!("/{id}/{act}"), "").await;
            assert_eq!(refusal(&answer), (409, "BS5013".to_owned()), "{act}");
        }
        assert!(desk.sent().is_empty());
    }
    // The id of a run, the beginning of a question's, and nothing.
    for id in [run.as_str(), &ended[..6], "%2e%2e"] {
        let answer = desk.api("POST", &format!("/{id}/approve"), "").await;
        assert_eq!(refusal(&answer), (404, "BS5013".to_owned()), "{id}");
    }
}

#[tokio::test]
async fn other_arguments_are_shown_before_they_are_taken() {
    let desk = Desk::new("hello").await;
    let (run, id) = desk.ask().await;
    let shown = desk.api("POST", &format!("/{id}/preview"), r#"{"args": {"line": "hi"}}"#).await.json();
    assert_eq!(shown["preview"], "@@ outbox @@\n-nothing\n+hi\n");
    let edit = |args: Value, hash: &str| {
        json!({"args": args, "preview_hash": hash, "reason": "shorter"}).to_string()
    };
    let path = format!("/{id}/edit");
    let card = desk.api("GET", &format!("/{id}"), "").await.json();
    let old = card["preview_hash"].as_str().unwrap();
    let stale = desk.api("POST", &path, &edit(json!({"line": "hi"}), old)).await;
    assert_eq!(refusal(&stale), (409, "BS5013".to_owned()));
    assert_eq!(stale.json()["error"]["preview"], shown, "what it would do now");
    let wrong = desk.api("POST", &path, &edit(json!({"to": "x"}), old)).await;
    assert_eq!(refusal(&wrong).0, 422);
    let malformed = desk.api("POST", &path, r#"{"args": {}}"#).await;
    assert_eq!(refusal(&malformed), (400, "BS1011".to_owned()));
    assert!(desk.decided(&run).await.is_empty());
    let hash = shown["preview_hash"].as_str().unwrap();
    let answer = desk.api("POST", &path, &edit(json!({"line": "hi"}), hash)).await.json();
    assert_eq!((&answer["status"], &answer["decided"]["args"]), (&json!("edited"), &json!({"line": "hi"})));
    assert_eq!(desk.over(&run).await, ["hi"]);
}

#[tokio::test]
async fn a_run_of_another_living_process_is_left_alone() {
    let desk = Desk::new("hello").await;
    let (run, id) = desk.ask().await;
    let other = SqliteStore::open(desk.journal(), StoreOptions::default()).unwrap();
    let now = desk.gate.backstop.clock().now();
    let epoch = backstop_journal::Journal::claim(&other, &run, now).await.unwrap();
    let answer = desk.api("POST", &format!("/{id}/approve"), "").await;
    assert_eq!(refusal(&answer), (409, "BS4004".to_owned()));
    backstop_journal::Journal::release(&other, &run, epoch).await.unwrap();
    assert_eq!(desk.api("POST", &format!("/{id}/approve"), "").await.status(), 200);
    assert_eq!(desk.over(&run).await, ["hello"]);
}

#[tokio::test]
async fn a_key_that_ended_answers_nothing() {
    let desk = Desk::new("hello").await;
    let (run, id) = desk.ask().await;
    let now: Timestamp = desk.gate.backstop.clock().now();
    let soon = KeyScope { expires: Some(now + Duration::from_nanos(1)), ..approver() };
    let far = KeyScope { from: vec!["10.0.0.0/8".parse().unwrap()], ..approver() };
    let new = |name: &str, scope| backstop_server::keys::NewKey { name: name.into(), scope, by: "t".into() };
    let journal = &**desk.gate.backstop.journal();
    let soon = backstop_server::keys::create(journal, new("soon", soon), now).await.unwrap();
    let far = backstop_server::keys::create(journal, new("far", far), now).await.unwrap();
    backstop_server::keys::revoke(journal, &"anna".into(), "t", now).await.unwrap();
    desk.gate.gateway.refresh_keys().await.unwrap();
    let rows =
        [(desk.anna.as_str(), "BS6003"), (soon.secret.expose(), "BS6004"), (far.secret.expose(), "BS6006")];
    for (key, code) in rows {
        let path = format!("/api/v1/approvals/{id}/approve");
        let answer = desk.gate.ask("POST", &path, &[("authorization", &format!("Bearer {key}"))], "").await;
        assert_eq!(refusal(&answer).1, code);
    }
    assert!(desk.decided(&run).await.is_empty());
}

/// The process that took the answer was killed before it could go on with the run.
#[tokio::test]
async fn what_was_answered_before_a_restart_goes_on_after_it() {
    let desk = Desk::new("hello").await;
    let (run, id) = desk.ask().await;
    let (by_hand, other) = desk.ask().await;
    for (run, id, channel) in [(&run, &id, "api"), (&by_hand, &other, "terminal")] {
        let reply = Reply { approval: id, answer: backstop_agent::run::Answer::Approve, by: "anna", channel };
        desk.gate.backstop.answer(run, reply).await.unwrap();
    }
    let (_stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let again = Arc::clone(&desk.gate.gateway);
    let serving =
        tokio::spawn(backstop_server::gateway::serve(listener, again, async { drop(stopped.await) }));
    assert_eq!(desk.over(&run).await, ["hello"]);
    let by_hand = desk.gate.backstop.inspect(&by_hand).await.unwrap().status;
    assert_eq!(by_hand, RunStatus::Parked, "who answered at a terminal goes on with it there");
    serving.abort();
}
