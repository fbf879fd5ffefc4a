//! Whole runs over a journal in memory: what is committed when, what the model is told, what stops and what goes on.

use crate::kit::{
    LineTool, SECOND, Script, Watched, agent, declared, file_tools, results, spoken, task, tool_use, turns,
    unsure,
};
use backstop_agent::run::Verdict;
use backstop_agent::tool::{Job, ToolError, ToolOutput};
use backstop_agent::{Agent, RunError, RunOutcome, RunState, Toolbox};
use backstop_call::{
    Block, BoxFuture, Code, Failure, FailureKind, Labels, Message, Progress, RunId, StopReason,
};
use backstop_journal::event::{ParkReason, RunCreated, RunLimits, ToolDecision};
use backstop_journal::{Durability, Event, EventBody, Journal, RunStatus, StreamId};
use backstop_label::{Class, Declaration, Effect, Integrity};
use backstop_store::MemoryStore;
use serde_json::json;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) const FILES: [&str; 5] = ["list_files", "read_file", "search_files", "write_file", "edit_file"];

pub(crate) fn finish(id: &str) -> Vec<Block> {
    vec![tool_use(id, "finish", json!({"summary": "done"}))]
}

pub(crate) async fn drive(agent: &Agent, created: RunCreated) -> (RunId, RunOutcome) {
    let run = agent.create(created).await.unwrap();
    let outcome = agent.drive(&run).await.unwrap();
    (run, outcome)
}

pub(crate) async fn events(agent: &Agent, run: &RunId) -> Vec<Event> {
    agent.journal.read(&StreamId::Run(run.clone()), 0).await.unwrap()
}

pub(crate) async fn messages(agent: &Agent, run: &RunId) -> Vec<Message> {
    RunState::fold(&events(agent, run).await).messages
}

/// What the model was told in each message with results.
pub(crate) async fn told(agent: &Agent, run: &RunId) -> Vec<Vec<String>> {
    let messages = messages(agent, run).await;
    messages.iter().map(results).filter(|results| !results.is_empty()).collect()
}

/// A tool that counts its runs and then does this.
pub(crate) fn counting(
    name: &'static str,
    class: Class,
    does: fn(usize) -> BoxFuture<'static, Result<ToolOutput, ToolError>>,
) -> (LineTool, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let run = move |_: &Job| does(counted.fetch_add(1, Ordering::SeqCst) + 1);
    let declaration = declared(class, Effect::Write);
    (LineTool { name, declaration, run: Box::new(run), probe: unsure }, count)
}

pub(crate) fn fine(n: usize) -> BoxFuture<'static, Result<ToolOutput, ToolError>> {
    Box::pin(async move { Ok(ToolOutput::text(format!("run {n}"))) })
}

pub(crate) fn never(_: usize) -> BoxFuture<'static, Result<ToolOutput, ToolError>> {
    Box::pin(std::future::pending())
}

pub(crate) fn with(tool: LineTool) -> Toolbox {
    let mut tools = file_tools();
    tools.add(tool).unwrap();
    tools
}

pub(crate) fn line(id: &str, tool: &str) -> Vec<Block> {
    vec![tool_use(id, tool, json!({"line": "x"}))]
}

#[tokio::test]
async fn two_synced_appends_a_step_and_nothing_acts_before_its_event() {
    let dir = tempfile::tempdir().unwrap();
    let model = turns(vec![
        vec![
            tool_use("r1", "list_files", json!({})),
            tool_use("r2", "list_files", json!({"path": "."})),
            tool_use("w1", "write_file", json!({"path": "a", "content": "a"})),
            tool_use("w2", "write_file", json!({"path": "b", "content": "b"})),
        ],
        finish("f"),
    ]);
    let journal = Arc::new(Watched::new(Arc::new(MemoryStore::new())));
    let agent = agent(model, Arc::clone(&journal) as Arc<dyn Journal>, file_tools());
    let (run, outcome) = drive(&agent, task(dir.path(), &FILES)).await;
    assert_eq!(outcome.status, RunStatus::Done, "{outcome:?}");
    assert_eq!((outcome.result, outcome.message.as_str()), (Some(json!("done")), "done"));
    let appends = journal.appends.lock().unwrap().clone();
    let one = |kind, times| vec![kind; times];
    let mut dispatched = vec!["call.finished"];
    (0..4).for_each(|_| dispatched.extend(["tool.planned", "tool.started"]));
    let want = [
        (Durability::Synced, one("run.created", 1)),
        // Alone it only outlives the process: a model that is asked twice does no harm.
        (Durability::Written, one("call.started", 1)),
        (Durability::Synced, dispatched),
        (Durability::Queued, one("tool.finished", 3)),
        (Durability::Synced, vec!["tool.finished", "call.started"]),
        (Durability::Synced, vec!["call.finished", "tool.planned", "tool.finished", "run.finished"]),
    ];
    assert_eq!(appends, want);
    assert_eq!(
        told(&agent, &run).await[0][2..],
        ["Wrote a: 1 bytes, 1 lines.", "Wrote b: 1 bytes, 1 lines."]
    );
}

#[tokio::test]
async fn changes_of_one_turn_see_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let edit = |id: &str, from: &str, to: &str| {
        tool_use(id, "edit_file", json!({"path": "a", "old_text": from, "new_text": to}))
    };
    let model = turns(vec![
        vec![
            tool_use("t1", "write_file", json!({"path": "a", "content": "one"})),
            edit("t2", "one", "two"),
            tool_use("t3", "read_file", json!({"path": "a"})),
            edit("t4", "two", "three"),
            edit("t5", "two", "four"),
        ],
        finish("f"),
    ]);
    let agent = agent(model, Arc::new(MemoryStore::new()), file_tools());
    let (run, outcome) = drive(&agent, task(dir.path(), &FILES)).await;
    assert_eq!(outcome.status, RunStatus::Done);
    let told = told(&agent, &run).await.remove(0);
    assert_eq!(told[2], "two");
    assert!(told[4].starts_with("ERROR old_text does not occur"), "{told:?}");
    assert_eq!(std::fs::read_to_string(dir.path().join("a")).unwrap(), "three");
}

#[tokio::test]
async fn what_cannot_run_is_refused_with_a_reason_and_an_event() {
    let dir = tempfile::tempdir().unwrap();
    let (send, sent) = counting("send", Class::Write, fine);
    let (mut web, _) = counting("web", Class::Read, fine);
    web.declaration = Declaration { integrity: Integrity::Untrusted, ..declared(Class::Read, Effect::Read) };
    let mut tools = with(send);
    tools.add(web).unwrap();
    let model = turns(vec![
        vec![tool_use("a", "nothing", json!({})), tool_use("b", "send", json!({"lin": 1}))],
        vec![
            line("d", "send").remove(0),
            tool_use("e", "edit_file", json!("{\"pa")),
            line("f", "web").remove(0),
        ],
        line("g", "send"),
        finish("h"),
    ]);
    let agent = agent(model, Arc::new(MemoryStore::new()), tools);
    let (run, outcome) = drive(&agent, task(dir.path(), &["send", "web"])).await;
    assert_eq!(outcome.status, RunStatus::Done);
    let told = told(&agent, &run).await;
    assert_eq!(told[0][0], "ERROR There is no tool `nothing`. Use one of: send, web, finish.");
    assert!(told[0][1].contains("it takes `line` (required)"), "{}", told[0][1]);
    assert_eq!(told[1][0], "run 1");
    assert!(
        told[1][1].contains("There is no tool `edit_file`"),
        "a run has the tools it names and no others"
    );
    assert_eq!((told[2][0].as_str(), sent.load(Ordering::SeqCst)), ("run 2", 2));
    let refused = events(&agent, &run).await;
    let labels: Vec<_> = refused
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::ToolFinished(finished) => Some((finished.id.as_str(), finished.labels.untrusted)),
            _ => None,
        })
        .collect();
    assert_eq!(
        labels,
        [("a", false), ("b", false), ("e", false), ("d", false), ("f", true), ("g", true), ("h", true)]
    );
}

#[tokio::test]
async fn a_result_must_fit_its_schema_and_finish_waits_for_a_clean_turn() {
    let dir = tempfile::tempdir().unwrap();
    let give = |id: &str, result| tool_use(id, "finish", json!({"summary": "s", "result": result}));
    let model = turns(vec![
        vec![Block::text("It is 7.")],
        vec![give("a", json!("seven"))],
        vec![give("b", json!({"n": 7})), tool_use("c", "read_file", json!({"path": "none"}))],
        vec![give("d", json!({"n": 7}))],
    ]);
    let agent = agent(model, Arc::new(MemoryStore::new()), file_tools());
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    let created = RunCreated { result_schema: Some(schema), ..task(dir.path(), &FILES) };
    let (run, outcome) = drive(&agent, created).await;
    assert_eq!((outcome.status, outcome.result), (RunStatus::Done, Some(json!({"n": 7}))));
    let told = told(&agent, &run).await;
    assert!(told[0][0].contains("`/result`: \"seven\" is not of type \"object\""), "{}", told[0][0]);
    assert!(told[1][0].contains("another call of this turn failed"));
}

/// A model that fails as often as this, and then answers.
pub(crate) fn flaky(failures: Vec<Failure>) -> Arc<Script> {
    let left = Mutex::new(failures);
    Arc::new(Script(Box::new(move |_| {
        let mut left = left.lock().unwrap();
        if left.is_empty() { Ok((vec![Block::text("42")], StopReason::End)) } else { Err(left.remove(0)) }
    })))
}

pub(crate) fn throttled(seconds: u64) -> Failure {
    Failure::new(FailureKind::Throttled, Progress::Sent, "too many")
        .with_retry_after(Some(Duration::from_secs(seconds)))
}

#[tokio::test(start_paused = true)]
async fn a_long_wait_parks_the_run_and_it_goes_on_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(flaky(vec![throttled(3600)]), Arc::new(MemoryStore::new()), file_tools());
    let (run, outcome) = drive(&agent, task(dir.path(), &[])).await;
    assert_eq!((outcome.status, outcome.parked), (RunStatus::Parked, Some(ParkReason::Wait)));
    assert_eq!((outcome.code, outcome.message.as_str()), (Some(Code::RateLimited), "too many"));
    let early = agent.drive(&run).await.unwrap();
    assert_eq!((early.status, early.turns), (RunStatus::Parked, 0), "not before its time");
    tokio::time::advance(SECOND * 3601).await;
    let outcome = agent.drive(&run).await.unwrap();
    assert_eq!((outcome.status, outcome.result), (RunStatus::Done, Some(json!("42"))));
    assert!(outcome.duration < SECOND, "parked time is not worked: {:?}", outcome.duration);
}

#[tokio::test(start_paused = true)]
async fn who_stays_attached_waits_and_a_resume_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = agent(
        flaky(vec![throttled(60), throttled(60), throttled(61)]),
        Arc::new(MemoryStore::new()),
        file_tools(),
    );
    agent.config.wait_max = SECOND * 60;
    let began = tokio::time::Instant::now();
    let (run, outcome) = drive(&agent, task(dir.path(), &[])).await;
    assert_eq!((outcome.status, began.elapsed().as_secs()), (RunStatus::Parked, 120), "{outcome:?}");
    let outcome = agent.resume(&run, None).await.unwrap();
    assert_eq!((outcome.status, began.elapsed().as_secs()), (RunStatus::Done, 120));
    assert!(matches!(agent.resume(&run, None).await, Err(RunError::Over { .. })));
    assert_eq!(
        agent.drive(&run).await.unwrap().status,
        RunStatus::Done,
        "driving what is over changes nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn a_model_that_never_answers_is_left_at_the_deadline() {
    struct Silent;
    impl backstop_call::Model for Silent {
        fn call<'a>(
            &'a self,
            _: backstop_call::Call,
            _: &'a mut dyn backstop_call::Sink,
        ) -> BoxFuture<'a, Result<backstop_call::Reply, Failure>> {
            Box::pin(std::future::pending())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(Arc::new(Silent), Arc::new(MemoryStore::new()), file_tools());
    let (_, outcome) = drive(&agent, task(dir.path(), &[])).await;
    assert_eq!((outcome.status, outcome.code), (RunStatus::Stopped, Some(Code::TimeLimit)));
    assert!(outcome.duration <= SECOND * 186, "{:?}", outcome.duration);
}

#[tokio::test(start_paused = true)]
async fn a_limit_stops_and_a_higher_one_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (tool, count) = counting("note", Class::Read, fine);
    let model = turns(
        (0..4)
            .map(|n| vec![tool_use(&format!("t{n}"), "note", json!({"line": n.to_string()}))])
            .chain([finish("f")])
            .collect(),
    );
    let agent = agent(model, Arc::new(MemoryStore::new()), with(tool));
    let limits = RunLimits { turns: 2, ..RunLimits::default() };
    let (run, outcome) = drive(&agent, RunCreated { limits, ..task(dir.path(), &["note"]) }).await;
    assert_eq!((outcome.status, outcome.code), (RunStatus::Stopped, Some(Code::TurnLimit)));
    assert_eq!(
        agent.resume(&run, None).await.unwrap().code,
        Some(Code::TurnLimit),
        "the same limit stops again"
    );
    let outcome = agent.resume(&run, Some(RunLimits::default())).await.unwrap();
    assert_eq!((outcome.status, outcome.code, outcome.turns), (RunStatus::Done, None, 5));
    assert_eq!(count.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_loop_is_warned_of_and_then_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let model = Arc::new(Script(Box::new(|request| {
        let call = tool_use(&format!("t{}", spoken(request)), "list_files", json!({}));
        Ok((vec![call], StopReason::ToolUse))
    })));
    let agent = agent(model, Arc::new(MemoryStore::new()), file_tools());
    let (run, outcome) = drive(&agent, task(dir.path(), &FILES)).await;
    assert_eq!((outcome.status, outcome.code, outcome.turns), (RunStatus::Stopped, Some(Code::LoopGuard), 4));
    let told = told(&agent, &run).await;
    let warned: Vec<_> =
        told.iter().map(|results| results[0].contains("Warning: this is the same call")).collect();
    assert_eq!(warned, [false, false, true]);
}

#[tokio::test]
async fn a_tool_that_panics_does_not_take_the_run_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let panics = |_| -> BoxFuture<'static, Result<ToolOutput, ToolError>> { panic!("a defect in a tool") };
    let (read, read_count) = counting("look", Class::Read, panics);
    let (write, write_count) = counting("send", Class::Write, panics);
    let mut tools = with(read);
    tools.add(write).unwrap();
    let model = turns(vec![line("r", "look"), line("w", "send")]);
    let agent = agent(model, Arc::new(MemoryStore::new()), tools);
    let (run, outcome) = drive(&agent, task(dir.path(), &["look", "send"])).await;
    assert_eq!(
        (outcome.status, outcome.in_doubt[0].reason.as_str()),
        (RunStatus::Parked, "the tool crashed, and nobody looked")
    );
    assert!(told(&agent, &run).await[0][0].starts_with("ERROR No result"));
    assert_eq!(
        (read_count.load(Ordering::SeqCst), write_count.load(Ordering::SeqCst)),
        (2, 1),
        "a read is tried again"
    );
}

#[tokio::test]
async fn reads_of_a_turn_run_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let barrier = Arc::new(tokio::sync::Barrier::new(4));
    let run = move |_: &Job| -> BoxFuture<'static, Result<ToolOutput, ToolError>> {
        let barrier = Arc::clone(&barrier);
        Box::pin(async move {
            barrier.wait().await;
            Ok(ToolOutput::text("together"))
        })
    };
    let declaration = declared(Class::Read, Effect::Read);
    let tool = LineTool { name: "meet", declaration, run: Box::new(run), probe: unsure };
    let turn = (0..4).map(|n| tool_use(&format!("t{n}"), "meet", json!({"line": n.to_string()}))).collect();
    let agent = agent(turns(vec![turn, finish("f")]), Arc::new(MemoryStore::new()), with(tool));
    let (run, outcome) = drive(&agent, task(dir.path(), &["meet"])).await;
    assert_eq!(outcome.status, RunStatus::Done);
    assert_eq!(told(&agent, &run).await[0], ["together"; 4]);
}

#[tokio::test]
async fn what_cannot_run_is_refused_before_it_exists() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(turns(vec![]), Arc::new(MemoryStore::new()), file_tools());
    let good = || task(dir.path(), &FILES);
    let rows = [
        (RunCreated { dry_run: true, ..good() }, Code::ConfigValue),
        (RunCreated { tools: vec!["rm".into()], ..good() }, Code::UnknownTool),
        (RunCreated { result_schema: Some(json!({"type": 7})), ..good() }, Code::ConfigValue),
        (task(Path::new("/no/such/place"), &FILES), Code::WorkspaceUnusable),
    ];
    for (created, code) in rows {
        assert_eq!(agent.create(created).await.unwrap_err().code(), code);
    }
    assert!(agent.journal.runs(backstop_journal::RunFilter::default()).await.unwrap().is_empty());
    assert_eq!(agent.drive(&"nobody".into()).await.unwrap_err().code(), Code::RunNotFound);
    assert_eq!(agent.inspect(&"nobody".into()).await.unwrap_err().code(), Code::RunNotFound);
}

#[tokio::test]
async fn a_call_says_on_whose_behalf_it_is_made() {
    struct Looking(Mutex<Option<backstop_call::Call>>);
    impl backstop_call::Model for Looking {
        fn call<'a>(
            &'a self,
            call: backstop_call::Call,
            _: &'a mut dyn backstop_call::Sink,
        ) -> BoxFuture<'a, Result<backstop_call::Reply, Failure>> {
            *self.0.lock().unwrap() = Some(call);
            Box::pin(async { Err(Failure::new(FailureKind::Auth, Progress::Sent, "no")) })
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let model = Arc::new(Looking(Mutex::default()));
    let mut agent = agent(Arc::clone(&model) as _, Arc::new(MemoryStore::new()), file_tools());
    agent.config.call_timeout = SECOND * 7;
    let limits = RunLimits { cost: Some(backstop_call::Money::from_dollars(2)), ..RunLimits::default() };
    let created = RunCreated { limits, labels: Labels::untrusted(), ..task(dir.path(), &FILES) };
    let (run, outcome) = drive(&agent, created).await;
    assert_eq!((outcome.status, outcome.code), (RunStatus::Stopped, Some(Code::KeyRefused)));
    let call = model.0.lock().unwrap().take().unwrap();
    let context = &call.context;
    assert_eq!((context.run.as_ref(), context.epoch), (Some(&run), 1));
    assert_eq!((context.run_limit, context.labels.untrusted), (limits.cost, true));
    let left = call.deadline.since(agent.clock.now());
    assert!(left <= SECOND * 7 && left > SECOND * 6, "{left:?}");
    let tools: Vec<_> = call.request.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(tools, ["list_files", "read_file", "search_files", "write_file", "edit_file", "finish"]);
}

/// A drive can be moved to another thread.
#[test]
fn drives_are_send() {
    fn send<T: Send>(_: impl FnOnce(&'static Agent, &'static RunId) -> T) {}
    send(Agent::drive);
    send(|agent, run| agent.resume(run, None));
    send(|agent, run| agent.cancel(run, ""));
    send(|agent, run| {
        agent.resolve(run, Verdict { call: "", decision: ToolDecision::RunIt, result: None, by: "" })
    });
}

/// That this attempt changed nothing says nothing of the one before it, of which nobody heard.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_failed_says_nothing_of_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let done = Arc::new(Mutex::new(0));
    let keep = Arc::clone(&done);
    let put = LineTool {
        name: "put",
        declaration: declared(Class::Idempotent, Effect::Write),
        run: Box::new(move |_| {
            let mut done = keep.lock().unwrap();
            *done += 1;
            // The first is done, and nobody is told; then the server is out of reach.
            let output = match *done {
                1 => Err(ToolError::Unknown("the connection was lost".into())),
                _ => Err(ToolError::Failed("The server cannot be reached; nothing was sent.".into())),
            };
            Box::pin(async { output })
        }),
        probe: unsure,
    };
    let mut tools = Toolbox::new();
    tools.add(put).unwrap();
    let script = turns(vec![vec![tool_use("p", "put", json!({"line": "x"}))]]);
    let agent = agent(script, Arc::new(MemoryStore::new()), tools);
    let run = agent.create(task(dir.path(), &["put"])).await.unwrap();
    let outcome = agent.drive(&run).await.unwrap();
    assert_eq!(outcome.status, RunStatus::Parked, "{outcome:?}");
    assert_eq!((outcome.in_doubt[0].call.as_str(), *done.lock().unwrap()), ("p", 2));
    // Once a person has said that it did not happen, a failure is one.
    let verdict = Verdict { call: "p", decision: ToolDecision::RunIt, result: None, by: "owner" };
    agent.resolve(&run, verdict).await.unwrap();
    agent.resume(&run, None).await.unwrap();
    let events = agent.journal.read(&StreamId::Run(run.clone()), 0).await.unwrap();
    let told: Vec<_> = RunState::fold(&events).messages.iter().flat_map(results).collect();
    assert_eq!(told, ["ERROR The server cannot be reached; nothing was sent."]);
}
