//! Workers: what is in the queue is done, once, by whoever has hands.

use backstop::agent::ToolOutput;
use backstop::agent::tool::function;
use backstop::call::{
    Block, BoxFuture, Call, Code, Failure, Model, Price, Reply, Sink, Speaker, StopReason, Usage,
};
use backstop::journal::event::QueueTerms;
use backstop::journal::projections::queue::TaskState;
use backstop::journal::{RunFilter, RunStatus, TaskFilter, TaskSummary};
use backstop::label::{Action, Class, Declaration, Effect, Gate, ModelPlace, Policy};
use backstop::{Backstop, Crew, Leaf, ModelSettings, Place, Settings, Task, Workers};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

const PATIENCE: Duration = Duration::from_mins(1);

/// What the test and the world it makes know of each other.
#[derive(Clone)]
struct Hands {
    /// Answers of the model.
    asked: Arc<AtomicUsize>,
    /// Times that the tool was run.
    acted: Arc<AtomicUsize>,
    /// Each run of the tool takes a permit before it ends.
    room: Arc<Semaphore>,
}

impl Hands {
    fn new(permits: usize) -> Self {
        Self { asked: Arc::default(), acted: Arc::default(), room: Arc::new(Semaphore::new(permits)) }
    }
}

/// Declines what it is told to decline, acts once where it is told to act, and is done with everything else.
struct Obedient(Hands);

impl Model for Obedient {
    fn call<'a>(&'a self, call: Call, _: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        let messages = &call.request.messages;
        let told = messages[0].content[0].as_text().unwrap_or_default().to_owned();
        let first = !messages.iter().any(|message| message.speaker == Speaker::Assistant);
        let uses = |name: &str, input| {
            vec![Block::ToolUse { id: name.to_owned(), name: name.to_owned(), input, cache: None }]
        };
        let (content, stop) = match told.as_str() {
            "decline" => (vec![Block::text("No.")], StopReason::Refusal),
            "act" if first => (uses("act", json!({})), StopReason::ToolUse),
            _ => (uses("finish", json!({ "summary": "done" })), StopReason::ToolUse),
        };
        let model = call.request.model.clone();
        Box::pin(async move { Ok(Reply::new(model, content, stop, Usage::default())) })
    }
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Nothing {}

/// A Backstop of a process of its own over the file.
async fn open(file: &Path, hands: &Hands) -> Backstop {
    let declaration =
        Declaration { class: Class::Irreversible, effect: Effect::Write, ..Declaration::undeclared() };
    let acting = hands.clone();
    let act = function::<Nothing, _>("act", "Acts.", declaration, move |_, _, _| {
        let hands = acting.clone();
        Box::pin(async move {
            hands.acted.fetch_add(1, Ordering::SeqCst);
            hands.room.acquire().await.expect("it is never closed").forget();
            Ok(ToolOutput::text("It was done."))
        })
    });
    let model = ModelSettings {
        name: "m".into(),
        id: "m".to_owned(),
        leaf: Leaf::Model("here".into(), Arc::new(Obedient(hands.clone()))),
        place: ModelPlace::Local,
        price: Price::default(),
        context_window: 100_000,
        max_output: 1_000,
        hidden_output: false,
        limits: backstop::stack::Limits::default(),
    };
    let policy = Policy { gates: vec![allow()], ..Policy::default() };
    let settings = Settings {
        store: Place::File(file.to_owned()),
        models: vec![model],
        tools: vec![Arc::new(act)],
        policy: Arc::new(policy),
        ..Settings::default()
    };
    Backstop::open(settings).await.expect("a Backstop")
}

/// What is about the queue is not about questions.
fn allow() -> Gate {
    Gate {
        name: "all".to_owned(),
        tools: Vec::new(),
        classes: Vec::new(),
        effects: Vec::new(),
        when: None,
        labelled: true,
        then: Action::Allow,
        expires: PATIENCE,
    }
}

fn task(id: &str, told: &str) -> Task {
    let tools = if told == "act" { vec!["act".to_owned()] } else { Vec::new() };
    Task { id: id.into(), tools, workspace: std::path::PathBuf::new(), ..Task::new("m", told) }
}

fn terms(backstop: &Backstop, tries: u32) -> QueueTerms {
    QueueTerms { tries, backoff: Duration::from_millis(1), ..QueueTerms::once(backstop.clock().now()) }
}

/// Waits until every task is over, or waits for somebody.
async fn settled(backstop: &Backstop) -> Vec<TaskSummary> {
    let queue = backstop.queue();
    let waiting = async {
        loop {
            let seen = queue.version();
            let tasks = queue.tasks(TaskFilter::default()).await.expect("the tasks");
            if tasks.iter().all(|task| task.queued().expect("it is queued").state != TaskState::Waiting) {
                return tasks;
            }
            queue.changed(seen).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it comes to an end")
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_workers_do_what_comes_and_each_task_once() {
    const TASKS: usize = 40;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("b.db");
    let hands = Hands::new(TASKS);
    let (desk, one, two) = (open(&file, &hands).await, open(&file, &hands).await, open(&file, &hands).await);
    let workers = [one, two].map(|backstop| Workers::start(backstop, Crew::of(3)));
    for number in 0..TASKS {
        let (id, terms) = (format!("t{number}"), terms(&desk, 1));
        let first = desk.submit(task(&id, "act"), terms.clone()).await.expect("it is taken in");
        let again = desk.submit(task(&id, "act"), terms).await.expect("it is known");
        assert_eq!((first.new, again.new, again.run == first.run), (true, false, true));
    }
    let tasks = settled(&desk).await;
    assert!(tasks.iter().all(|task| task.run.status == RunStatus::Done), "{tasks:?}");
    assert_eq!((tasks.len(), hands.acted.load(Ordering::SeqCst)), (TASKS, TASKS));
    for workers in workers {
        assert_eq!(workers.drain(PATIENCE).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_fails_is_tried_by_other_runs_and_is_dead_then() {
    let dir = tempfile::tempdir().expect("a directory");
    let hands = Hands::new(0);
    let backstop = open(&dir.path().join("b.db"), &hands).await;
    let workers = Workers::start(backstop.clone(), Crew::of(2));
    backstop.submit(task("t", "decline"), terms(&backstop, 3)).await.expect("it is taken in");
    let tasks = settled(&backstop).await;
    let queue = tasks[0].queued().expect("it is queued");
    assert_eq!((queue.state, queue.tried), (TaskState::Dead, 3));
    assert_eq!(tasks[0].run.code, Some(Code::PolicyRefused));
    let runs = backstop.journal().runs(RunFilter::default()).await.expect("the runs");
    let ids: BTreeSet<_> = runs.iter().map(|run| &run.run).collect();
    assert_eq!((ids.len(), hands.asked.load(Ordering::SeqCst)), (3, 3));
    workers.drain(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_ends_the_step_and_others_go_on_after_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("b.db");
    let hands = Hands::new(0);
    let first = open(&file, &hands).await;
    let workers = Workers::start(first.clone(), Crew::of(1));
    let submitted = first.submit(task("t", "act"), terms(&first, 1)).await.expect("it is taken in");
    let acting = async {
        while hands.acted.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, acting).await.expect("it begins to act");
    let room = Arc::clone(&hands.room);
    let (cut, ()) = tokio::join!(workers.drain(PATIENCE), async move { room.add_permits(1) });
    assert_eq!(cut, 0);
    assert_eq!(hands.asked.load(Ordering::SeqCst), 1, "the model was not asked again");
    let left = first.inspect(&submitted.run).await.expect("the run");
    assert_eq!(left.status, RunStatus::Running);

    let second = open(&file, &hands).await;
    let workers = Workers::start(second.clone(), Crew::of(1));
    let tasks = settled(&second).await;
    assert_eq!(tasks[0].run.status, RunStatus::Done, "{tasks:?}");
    assert_eq!((hands.acted.load(Ordering::SeqCst), hands.asked.load(Ordering::SeqCst)), (1, 2));
    workers.drain(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_here_can_work_on_is_dead_and_says_why() {
    let dir = tempfile::tempdir().expect("a directory");
    let backstop = open(&dir.path().join("b.db"), &Hands::new(0)).await;
    let workers = Workers::start(backstop.clone(), Crew::of(1));
    let strange = Task { tools: vec!["none_such".to_owned()], ..task("t", "act") };
    backstop.submit(strange, terms(&backstop, 1)).await.expect("it is taken in");
    let tasks = settled(&backstop).await;
    let queue = tasks[0].queued().expect("it is queued");
    assert_eq!((queue.state, tasks[0].run.code), (TaskState::Dead, Some(Code::UnknownTool)));
    assert!(tasks[0].run.message.contains("none_such"), "{}", tasks[0].run.message);
    workers.drain(PATIENCE).await;
}
