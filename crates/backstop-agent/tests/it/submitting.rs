//! Tasks that a run puts into the queue for other agents: each once, with no more rights, dollars and depth than the run has
//! itself, marked as what it has read, and taken back as long as nothing came of them.

use crate::delegation::{House, end, part, write};
use crate::kit::{Script, spoken, tool_use};
use backstop_agent::run::UndoOutcome;
use backstop_agent::{DELEGATE, SUBMIT, child_of};
use backstop_call::{Block, KeyLimits, Labels, Money, RunId, StopReason};
use backstop_journal::event::{Origin, QueueTerms, RunCreated, RunLimits};
use backstop_journal::projections::queue::TaskState;
use backstop_journal::{EventBody, RunFilter, RunStatus, StreamId};
use backstop_label::{Policy, Rights};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn submit(id: &str, agent: &str, what: &str) -> Block {
    tool_use(id, SUBMIT, json!({"agent": agent, "task": what}))
}

/// A lead with these tools beside that one.
fn lead(house: &House, tools: &[&str]) -> RunCreated {
    let tools = tools.iter().chain([&SUBMIT]).map(|&tool| tool.to_owned()).collect();
    RunCreated { tools, ..house.lead() }
}

async fn created(house: &House, run: &RunId) -> RunCreated {
    house.state(run).await.created.unwrap()
}

fn writes() -> House {
    House::new(vec![
        ("lead", vec![vec![submit("t1", "writer", "Write a.md.")], end("submitted")]),
        ("writer", vec![vec![write("w1", "a.md", "one\n")], end("wrote a.md")]),
    ])
}

#[tokio::test(start_paused = true)]
async fn a_task_waits_for_a_worker_and_the_lead_does_not_wait_for_it() {
    let house = writes();
    let limits = RunLimits {
        cost: Some(Money::from_dollars(1)),
        time: Duration::from_mins(1),
        ..RunLimits::default()
    };
    let origin = Origin {
        key: Some("shop".into()),
        key_limits: KeyLimits { day: Some(Money::from_dollars(5)), whole: None },
        payers: vec![("above".into(), Money::from_dollars(2))],
        depth: 1,
        ..Origin::default()
    };
    let asked =
        RunCreated { limits, origin: Box::new(origin.clone()), ..lead(&house, &["read_file", "write_file"]) };
    let (run, outcome) = house.start_as(asked.clone()).await;
    assert_eq!((outcome.status, outcome.message.as_str()), (RunStatus::Done, "submitted"));
    let task = child_of(&run, "t1");
    assert_eq!(house.told(&run).await[0], format!("Task {task} waits for a worker."));
    assert_eq!(house.read("a.md"), None);

    let made = created(&house, &task).await;
    let template = house.agent.config.delegation.agents[&"writer".into()].run.clone();
    let due = made.queue.as_ref().unwrap().due;
    let want = RunCreated {
        task: task.as_str().into(),
        message: "Write a.md.".into(),
        workspace: asked.workspace,
        tools: vec!["read_file".into(), "write_file".into()],
        // Its time is its own; its dollars are the lead's.
        limits: RunLimits { cost: made.limits.cost, tokens: made.limits.tokens, ..template.limits },
        bounds: made.bounds.clone(),
        queue: Some(QueueTerms::once(due)),
        origin: Box::new(Origin {
            submitter: Some(run.clone()),
            payers: vec![("above".into(), Money::from_dollars(2)), (run.clone(), Money::from_dollars(1))],
            depth: 2,
            ..origin
        }),
        ..template
    };
    assert_eq!(made, want);
    assert!(made.limits.cost.unwrap() <= Money::from_dollars(1) && made.limits.tokens < limits.tokens);

    let done = house.agent.drive(&task).await.unwrap();
    assert_eq!((done.status, done.message.as_str()), (RunStatus::Done, "wrote a.md"));
    assert_eq!(house.read("a.md").as_deref(), Some("one\n"));
    assert_eq!(house.agent.inspect(&run).await.unwrap().usage, outcome.usage, "it is no part of the lead");
}

/// The model of a call, the runs that it is paid from with their limits, and the key.
type Paid = (String, Vec<(RunId, Money)>, Option<String>);

/// A model that notes what each call is paid from, as the stack is told.
struct Payers(Arc<dyn backstop_call::Model>, Arc<Mutex<Vec<Paid>>>);

impl backstop_call::Model for Payers {
    fn call<'a>(
        &'a self,
        call: backstop_call::Call,
        sink: &'a mut dyn backstop_call::Sink,
    ) -> backstop_call::BoxFuture<'a, Result<backstop_call::Reply, backstop_call::Failure>> {
        let context = &call.context;
        let key = context.key.as_ref().map(ToString::to_string);
        self.1.lock().unwrap().push((call.request.model.clone(), context.payers.clone(), key));
        self.0.call(call, sink)
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_submitted_it_pays_for_every_call() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let mut house = writes();
    house.agent.model = Arc::new(Payers(Arc::clone(&house.agent.model), Arc::clone(&heard)));
    let limits = RunLimits { cost: Some(Money::from_dollars(1)), ..RunLimits::default() };
    let origin = Box::new(Origin { key: Some("shop".into()), ..Origin::default() });
    let asked = RunCreated { limits, origin, ..lead(&house, &["write_file"]) };
    let (run, _) = house.start_as(asked).await;
    house.agent.drive(&child_of(&run, "t1")).await.unwrap();
    let (shop, payers) = (Some("shop".to_owned()), vec![(run, Money::from_dollars(1))]);
    let call = |agent: &str, payers: &[(RunId, Money)]| (agent.to_owned(), payers.to_vec(), shop.clone());
    let want = [call("lead", &[]), call("lead", &[]), call("writer", &payers), call("writer", &payers)];
    assert_eq!(*heard.lock().unwrap(), want);
}

#[tokio::test(start_paused = true)]
async fn a_task_may_no_more_than_who_submits_it() {
    let mut house = writes();
    let rights = |text| Rights::parse(&serde_json::from_value(text).unwrap()).unwrap();
    let bounded = rights(json!({"submit_task": {}, "write_file": {"args": {"path": ["docs/**"]}}}));
    let roles = [("lead".to_owned(), bounded), ("writer".to_owned(), rights(json!({"*": {}})))];
    house.agent.policy = Arc::new(Policy { roles: roles.into(), gates: Vec::new() });
    let (run, _) = house.start_as(lead(&house, &[])).await;
    let task = child_of(&run, "t1");
    assert_eq!(created(&house, &task).await.tools, ["write_file"]);
    // Also when the lead's role may more by then: what bounds it is its own.
    house.agent.policy = Arc::new(Policy::default());
    house.agent.drive(&task).await.unwrap();
    assert!(house.told(&task).await[0].contains("`path` may be `docs/**`, and is `a.md`"));
    assert_eq!(house.read("a.md"), None);

    // Whom it may name is an argument like any other, and nobody hears of the rest.
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    house.agent.model = Arc::new(Script(Box::new(move |request| {
        let tool = request.tools.iter().find(|tool| tool.name == SUBMIT).unwrap();
        heard.lock().unwrap().push(tool.schema["properties"]["agent"]["enum"].clone());
        Ok(([vec![submit("t1", "writer", "x")], end("done")][spoken(request)].clone(), StopReason::ToolUse))
    })));
    let only_readers = rights(json!({"submit_task": {"args": {"agent": ["reader"]}}}));
    house.agent.policy =
        Arc::new(Policy { roles: [("lead".to_owned(), only_readers)].into(), gates: Vec::new() });
    let (run, _) = house.start_as(lead(&house, &[])).await;
    assert_eq!(told.lock().unwrap()[0], json!(["reader"]));
    let want =
        "ERROR Refused: submit_task may not be called like this: `agent` may be `reader`, and is `writer`.";
    assert!(house.told(&run).await[0].starts_with(want), "{:?}", house.told(&run).await);
    assert!(house.state(&child_of(&run, "t1")).await.created.is_none());
}

#[tokio::test(start_paused = true)]
async fn tasks_of_tasks_end_somewhere_and_so_do_tasks() {
    // Each submits one of its kind.
    let mut house = House::new(vec![("lead", vec![vec![submit("t1", "lead", "x")], end("done")])]);
    house.agent.config.delegation.agents.get_mut(&"lead".into()).unwrap().run.tools.push(SUBMIT.into());
    let (mut run, _) = house.start_as(lead(&house, &[])).await;
    for level in 1..=3 {
        run = child_of(&run, "t1");
        assert_eq!(house.agent.drive(&run).await.unwrap().status, RunStatus::Done, "{level}");
    }
    let want = "ERROR Refused: this run does a part of a part already, 3 deep, and may give out none itself. Do it yourself.";
    assert_eq!(house.told(&run).await[0], want);

    // Parts and tasks count together.
    let turn = |turn: usize| {
        let what = format!("read {turn}");
        vec![part(&format!("p{turn}"), "reader", &what), submit(&format!("t{turn}"), "reader", &what)]
    };
    let mut script: Vec<_> = (0..5).map(turn).collect();
    script.push(end("done"));
    let house = House::new(vec![("lead", script), ("reader", vec![end("read")])]);
    let (run, _) = house.start_as(lead(&house, &[DELEGATE])).await;
    let refused =
        "ERROR Refused: this run has given out 8 parts, and may give out no more. Do the rest yourself.";
    assert_eq!(house.told(&run).await[8..10], [refused; 2]);
    assert_eq!(house.runs().await.len(), 9);
}

#[tokio::test(start_paused = true)]
async fn what_the_lead_has_read_marks_the_task() {
    let house = writes();
    let labels = Labels { untrusted: true, private: ["health".to_owned().into()].into() };
    let (run, _) = house.start_as(RunCreated { labels: labels.clone(), ..lead(&house, &[]) }).await;
    assert_eq!(created(&house, &child_of(&run, "t1")).await.labels, labels);
}

#[tokio::test(start_paused = true)]
async fn a_task_is_taken_back_as_long_as_nothing_came_of_it() {
    let house = writes();
    let (run, _) = house.start_as(lead(&house, &["write_file"])).await;
    let task = child_of(&run, "t1");
    let would = house.agent.rehearse_undo(&run, None).await.unwrap();
    assert_eq!(would[0].0.outcome, UndoOutcome::Done(format!("task {task} would be ended")));
    assert_eq!(house.state(&task).await.status, RunStatus::Running);
    let undone = house.agent.undo(&run, None).await.unwrap();
    assert_eq!(undone[0].outcome, UndoOutcome::Done(format!("task {task} was ended before it began")));
    let ended = house.state(&task).await;
    assert_eq!((ended.status, ended.queue.unwrap().state), (RunStatus::Cancelled, TaskState::Cancelled));
    assert_eq!(house.agent.undo(&run, None).await.unwrap()[0].outcome, UndoOutcome::Already);

    let house = writes();
    let (run, _) = house.start_as(lead(&house, &["write_file"])).await;
    let task = child_of(&run, "t1");
    house.agent.drive(&task).await.unwrap();
    let stuck = format!("task {task} has begun; end it with `backstop cancel`, and undo what it did");
    for _ in 0..2 {
        let undone = house.agent.undo(&run, None).await.unwrap();
        assert_eq!(undone[0].outcome, UndoOutcome::Conflict(stuck.clone()));
    }
    let would = house.agent.rehearse_undo(&run, None).await.unwrap();
    assert_eq!(would[0].0.outcome, UndoOutcome::Conflict(stuck));
    assert_eq!(house.read("a.md").as_deref(), Some("one\n"));
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_notes_its_tasks_and_its_plan_submits_them() {
    let house = writes();
    let asked = RunCreated { dry_run: true, ..lead(&house, &["write_file"]) };
    let (planned, outcome) = house.start_as(asked).await;
    assert_eq!(outcome.status, RunStatus::Done);
    assert!(house.told(&planned).await[0].starts_with("Dry run: this was noted and not done"));
    let runs = async || house.agent.journal.runs(RunFilter::default()).await.unwrap().len();
    assert_eq!(runs().await, 1);
    let events = house.agent.journal.read(&StreamId::Run(planned.clone()), 0).await.unwrap();
    let shown = events.iter().find_map(|event| match &event.body {
        EventBody::ToolPlanned(planned) => planned.preview.read::<String>(),
        _ => None,
    });
    let want = "agent: writer\ntools: write_file\nat most: 50 turns, 1000000 tokens\ntask:\nWrite a.md.";
    assert_eq!(shown.as_deref(), Some(want));

    let run = house.agent.apply(&planned).await.unwrap();
    assert_eq!(house.agent.drive(&run).await.unwrap().status, RunStatus::Done);
    let made = created(&house, &child_of(&run, "t1")).await;
    assert_eq!((made.dry_run, made.origin.submitter, runs().await), (false, Some(run), 3));
}

/// An agent that nobody knows, and one whose tools are not there, are said to the model.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_submitted_is_said() {
    let mut house = House::new(vec![(
        "lead",
        vec![vec![submit("t1", "writer", "x"), submit("t2", "nobody", "x")], end("done")],
    )]);
    house.agent.config.delegation.agents.get_mut(&"writer".into()).unwrap().run.tools.push("pray".into());
    let all = Rights::parse(&serde_json::from_value(json!({"*": {}})).unwrap()).unwrap();
    let roles: BTreeMap<_, _> = [("lead".to_owned(), all)].into();
    house.agent.policy = Arc::new(Policy { roles, gates: Vec::new() });
    let (run, outcome) = house.start_as(lead(&house, &[])).await;
    assert_eq!(outcome.status, RunStatus::Done);
    let told = house.told(&run).await;
    assert!(told[0].starts_with("ERROR This task cannot be submitted: there is no tool `pray`"), "{told:?}");
    assert!(told[1].contains("\"nobody\" is not one of"), "{told:?}");
    assert_eq!(house.runs().await.len(), 1);
}
