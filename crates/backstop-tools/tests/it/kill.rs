//! Kill -9 before, during and after the effect of every tool of this crate, and around every append of its run. Each time a
//! child process (this test binary again) is killed there; the parent takes the run up in its own process, and looks at a
//! world that outlived the child: what was asked for is done once, never twice, never not, and in doubt is only what cannot
//! be known. What a person approved before the kill is not started again under the same yes.

use crate::deadly::{Kill, Place, Script, Wall, use_of, watched};
use crate::ground::{Case, Ground, Killer, cases};
use crate::shared::Deadly;
use crate::world::{Moment, World};
use backstop_agent::run::{Answer, Reply, UndoOutcome, Verdict};
use backstop_agent::{Agent, AgentConfig, RunState, Toolbox};
use backstop_call::{Priority, RunId, Seed};
use backstop_journal::event::{OnFailure, RunCreated, RunLimits, ToolDecision};
use backstop_journal::{Body, EventBody, Journal, Position, RunFilter, RunStatus, StreamId};
use backstop_label::{Class, Labels};
use backstop_store::{SqliteStore, StoreOptions};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const CHILD: &str = "BACKSTOP_TEST_KILL";
/// So many places within an effect, at equal distances.
const WITHIN: u32 = 3;

/// What a child is to do.
#[derive(Serialize, Deserialize)]
struct Order {
    ground: Ground,
    case: String,
    place: Place,
}

/// An agent with the tool of a case.
async fn agent(ground: &Ground, case: &Case, journal: Arc<dyn Journal>, kill: &Arc<Kill>) -> Agent {
    let mut tools = Toolbox::new();
    tools.add(Deadly { inner: ground.tool(case).await, fate: Arc::clone(kill) }).unwrap();
    let calls = vec![
        use_of("call", case.tool, (case.args)(ground)),
        use_of("end", "finish", json!({"summary": "done"})),
    ];
    Agent {
        model: Arc::new(Script(calls)),
        journal,
        clock: Arc::new(Wall),
        seed: Arc::new(Seed::new(std::process::id().into())),
        tools,
        policy: Arc::default(),
        draining: Arc::default(),
        keeps: Arc::new(|_| true),
        config: AgentConfig::default(),
    }
}

fn task(ground: &Ground, case: &Case) -> RunCreated {
    RunCreated {
        task: "t".into(),
        role: "writer".into(),
        agent: "a".into(),
        agent_hash: String::new(),
        model: "m".into(),
        system: Body::from("be good"),
        message: Body::from("do it"),
        max_tokens: None,
        tools: vec![case.tool.to_owned()],
        workspace: ground.path("work").to_str().unwrap().to_owned(),
        limits: RunLimits::default(),
        result_schema: None,
        priority: Priority::Standard,
        labels: Labels::default(),
        dry_run: false,
        applies: None,
        parent: None,
        bounds: Vec::new(),
        on_failure: OnFailure::default(),
        queue: None,
        origin: Box::default(),
    }
}

/// What the world says about a call in doubt, or about the undo of one.
fn verdict(ground: &Ground, case: &Case, world: &World, id: &str) -> ToolDecision {
    let stands = ground.seen(case, world).0 > 0;
    let happened = if id.starts_with("undo:") { !stands } else { stands };
    if happened { ToolDecision::Happened } else { ToolDecision::RunIt }
}

/// Carries a run on to its end, with a yes to whatever is asked, and takes it back where the case says so. What is in doubt
/// is decided by looking at the world, where there is one to look at. How often it was.
async fn carry_on(agent: &Agent, run: &RunId, case: &Case, world: Option<(&Ground, &World)>) -> usize {
    let mut doubts = 0;
    let mut outcome = agent.drive(run).await.unwrap();
    while outcome.status == RunStatus::Parked {
        for question in &outcome.questions {
            let approval = question.approval.as_str();
            let said = Reply { approval, answer: Answer::Approve, by: "owner", channel: "terminal" };
            agent.answer(run, said).await.unwrap();
        }
        for doubt in &outcome.in_doubt {
            let (ground, world) = world.expect("only a crash leaves something in doubt");
            let decision = verdict(ground, case, world, &doubt.call);
            let verdict = Verdict { call: &doubt.call, decision, result: Some("done"), by: "owner" };
            agent.resolve(run, verdict).await.unwrap();
            // Git's own lock, which its death has left, is for a person to remove: only they know whose it is.
            doubts += usize::from(!ground.unlock());
        }
        outcome = agent.resume(run, None).await.unwrap();
    }
    assert_eq!(outcome.status, RunStatus::Done, "{outcome:?}");
    if case.undo {
        doubts += take_back(agent, run, case, world).await;
    }
    doubts
}

/// Takes a run back. How often that was in doubt.
async fn take_back(agent: &Agent, run: &RunId, case: &Case, world: Option<(&Ground, &World)>) -> usize {
    let mut doubts = 0;
    loop {
        let undone = agent.undo(run, None).await.unwrap();
        let [one] = &undone[..] else { panic!("{undone:?}") };
        match &one.outcome {
            UndoOutcome::Done(_) | UndoOutcome::Already => return doubts,
            UndoOutcome::Conflict(_) if world.is_some_and(|(ground, _)| ground.unlock()) => continue,
            UndoOutcome::InDoubt(_) => {}
            other => panic!("{other:?}"),
        }
        let (ground, world) = world.expect("only a crash leaves something in doubt");
        let decision = verdict(ground, case, world, "undo:call");
        let verdict = Verdict { call: "undo:call", decision, result: Some("done"), by: "owner" };
        agent.resolve(run, verdict).await.unwrap();
        doubts += 1;
    }
}

/// What holds for the journal of any run: no yes starts two calls, and what cannot be made twice is started again only when
/// a person said that it had not happened.
async fn check(journal: &dyn Journal, run: &RunId, name: &str) {
    let stream = StreamId::Run(run.clone());
    journal.verify(&stream).await.unwrap();
    let events = journal.read(&stream, 0).await.unwrap();
    let mut starts: BTreeMap<(String, Option<String>), usize> = BTreeMap::new();
    let (mut classes, mut again) = (BTreeMap::new(), BTreeMap::new());
    for event in &events {
        match &event.body {
            EventBody::ToolPlanned(planned) => {
                classes.insert(planned.id.clone(), planned.class);
            }
            EventBody::ToolStarted(started) => {
                let approval = started.approval.as_ref().map(ToString::to_string);
                *starts.entry((started.id.clone(), approval)).or_default() += 1;
            }
            EventBody::ToolResolved(resolved) if resolved.decision == ToolDecision::RunIt => {
                *again.entry(resolved.id.clone()).or_insert(0) += 1;
            }
            _ => {}
        }
    }
    for ((id, approval), times) in &starts {
        assert!(approval.is_none() || *times == 1, "{name}: one yes started {id} {times} times");
        let by_itself = approval.is_none() && classes[id] == Class::Irreversible;
        let allowed = again.get(id).copied().unwrap_or(0);
        assert!(!by_itself || *times <= allowed, "{name}: {id} was started again, and nobody said so");
    }
    let state = RunState::fold(&events);
    assert!(
        state.calls.iter().any(backstop_agent::state::ToolCall::took_effect)
            || classes["call"] == Class::Read
    );
}

fn case_of(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).unwrap()
}

/// What the parent starts: carries a run through until it is killed, if `CHILD` says where. Does nothing in an ordinary test
/// run.
#[tokio::test]
async fn child() {
    let Ok(order) = std::env::var(CHILD) else { return };
    let Order { ground, case, place } = serde_json::from_str(&order).unwrap();
    let case = case_of(&case);
    let kill = Kill::at(place);
    let journal: Arc<dyn Journal> = Arc::new(watched(&ground, &kill));
    let agent = agent(&ground, &case, journal, &kill).await;
    let run = agent.create(task(&ground, &case)).await.unwrap();
    carry_on(&agent, &run, &case, None).await;
}

fn command_of(ground: &Ground, case: &Case, place: Place) -> Command {
    let order = Order { ground: ground.clone(), case: case.name.to_owned(), place };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "kill::child", "--test-threads=1"])
        .env(CHILD, serde_json::to_string(&order).unwrap())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Starts a child that is to die there; whether it did.
fn killed(ground: &Ground, case: &Case, place: Place, world: &World) -> bool {
    let mut command = command_of(ground, case, place);
    let moment = match place {
        Place::Asked => Some(Moment::Asked),
        Place::Done => Some(Moment::Done),
        _ => None,
    };
    let status = match (moment, case.killer) {
        (Some(moment), Killer::Server) => {
            world.start_victim(&ground.name, moment, &mut command).wait().unwrap()
        }
        (Some(moment), Killer::Gate) => {
            let gate = ground.fifo(if moment == Moment::Asked { "asked" } else { "done" });
            let mut child = command.spawn().unwrap();
            let held = wait_at(&gate, &mut child);
            child.kill().unwrap();
            let status = child.wait().unwrap();
            // The command must be gone too: it would do by and by what is asked for anew.
            assert!(ends(&held), "{} outlives the process that started it", case.name);
            std::fs::remove_file(gate).unwrap();
            status
        }
        (Some(moment), Killer::Mcp) => {
            let name = if moment == Moment::Asked { "book/kill-asked" } else { "book/kill-done" };
            std::fs::write(ground.path(name), "").unwrap();
            command.status().unwrap()
        }
        (Some(_), Killer::Nobody) | (None, _) => command.status().unwrap(),
    };
    ground.settle();
    world.settle();
    status.signal() == Some(9)
}

/// Waits until a command waits at a gate, and keeps it waiting.
fn wait_at(gate: &Path, child: &mut Child) -> File {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    loop {
        // Nobody can open it before somebody reads from it.
        if let Ok(held) = OpenOptions::new().write(true).custom_flags(nonblocking).open(gate) {
            return held;
        }
        assert!(child.try_wait().unwrap().is_none(), "it never came to {}", gate.display());
        std::thread::yield_now();
    }
}

/// Whether whoever reads there ends within ten seconds.
fn ends(held: &File) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(held, PollFlags::empty())];
    poll(&mut fds, Some(&Timespec { tv_sec: 10, tv_nsec: 0 })).unwrap();
    fds[0].revents().contains(PollFlags::ERR)
}

fn memory() -> tempfile::TempDir {
    // What a killed process has written is in the page cache: files in memory show the same as files on a disk, sooner.
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// A run from end to end: its appends, and how long each effect took.
async fn undisturbed(ground: &Ground, case: &Case, world: &World) -> (usize, Vec<Duration>) {
    let kill = Kill::at(Place::Nowhere);
    let journal = Arc::new(watched(ground, &kill));
    let agent = agent(ground, case, Arc::clone(&journal) as Arc<dyn Journal>, &kill).await;
    let run = agent.create(task(ground, case)).await.unwrap();
    assert_eq!(carry_on(&agent, &run, case, None).await, 0);
    assert_eq!(ground.seen(case, world), case.want, "{}", case.name);
    check(&*journal, &run, case.name).await;
    let took = kill.took.lock().unwrap().clone();
    (journal.appends.lock().unwrap().len(), took)
}

/// Kills a case at every place. How often it was left in doubt.
fn kill_everywhere(case: &Case, root: &Path, world: &World) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ground = |what: &str| Ground::new(case, what, root, world);
    let (appends, took) = runtime.block_on(undisturbed(&ground("whole"), case, world));
    let mut places = Vec::new();
    places.extend((1..=appends).flat_map(|number| [Place::BeforeAppend(number), Place::AfterAppend(number)]));
    for (number, time) in (1..).zip(&took) {
        places.extend([Place::BeforeEffect(number), Place::AfterEffect(number)]);
        let part = |part| (*time * part / (WITHIN + 1)).as_micros().try_into().unwrap();
        places.extend((1..=WITHIN).map(|within| Place::During(number, part(within))));
    }
    if case.killer != Killer::Nobody {
        places.extend([Place::Asked, Place::Done]);
    }
    let mut doubts = 0;
    for (number, place) in places.into_iter().enumerate() {
        let ground = ground(&number.to_string());
        let name = format!("{} {place:?}", case.name);
        assert!(killed(&ground, case, place, world), "{name}: it was not killed");
        let doubted = runtime.block_on(take_up(&ground, case, world, &name));
        assert!(doubted == 0 || case.doubt, "{name}: it can be found out what happened");
        assert_eq!(ground.seen(case, world), case.want, "{name}");
        doubts += doubted;
        std::fs::remove_dir_all(&ground.dir).unwrap();
    }
    doubts
}

/// Carries on what a killed child left. How often it was in doubt.
async fn take_up(ground: &Ground, case: &Case, world: &World, name: &str) -> usize {
    let kill = Kill::at(Place::Nowhere);
    let journal = Arc::new(watched(ground, &kill));
    let agent = agent(ground, case, Arc::clone(&journal) as Arc<dyn Journal>, &kill).await;
    let runs = journal.runs(RunFilter::default()).await.unwrap();
    let run = if let Some(summary) = runs.first() {
        summary.run.clone()
    } else {
        // Only a run that was never acknowledged is gone.
        assert!(name.ends_with("BeforeAppend(1)"), "{name}: the run is lost");
        agent.create(task(ground, case)).await.unwrap()
    };
    let doubts = carry_on(&agent, &run, case, Some((ground, world))).await;
    check(&*journal, &run, name).await;
    doubts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn killed_anywhere_every_tool_acts_once() {
    let root = memory();
    let world = World::new().await;
    let cases = cases();
    let next = AtomicUsize::new(0);
    let doubts: BTreeMap<_, _> = tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let work = || {
                let mut doubts = Vec::new();
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    doubts.push((case.name, kill_everywhere(case, root.path(), &world)));
                }
                doubts
            };
            let workers = [scope.spawn(work), scope.spawn(work)];
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        })
    });
    for case in &cases {
        assert_eq!(doubts[case.name] > 0, case.doubt, "{}: {} doubts", case.name, doubts[case.name]);
    }
}

/// A process is held before each of its appends; the file that shows that it lives is taken away, as a broken disk or a
/// hasty person would, and another process takes its run over. When it is let go, it can write and start nothing more.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_process_that_lost_its_run_writes_and_starts_nothing_more() {
    let root = memory();
    let world = World::new().await;
    for name in ["command-undo", "command-irreversible"] {
        let case = case_of(name);
        let whole = Ground::new(&case, "whole", root.path(), &world);
        let (appends, _) = undisturbed(&whole, &case, &world).await;
        // The first makes the run: before it there is none to lose.
        for number in 2..=appends {
            let name = format!("{name} held before append {number}");
            let ground = Ground::new(&case, &number.to_string(), root.path(), &world);
            let hold = ground.fifo("hold");
            let mut command = command_of(&ground, &case, Place::Held(number));
            let mut zombie = command.stdout(Stdio::piped()).spawn().unwrap();
            let held = wait_at(&hold, &mut zombie);
            std::fs::remove_dir_all(ground.path("journal.db.owners")).unwrap();
            take_up(&ground, &case, &world, &name).await;
            let seen = ground.seen(&case, &world);
            assert_eq!(seen, case.want, "{name}");
            let events = journaled(&ground).await;
            drop(held);
            let ended = zombie.wait_with_output().unwrap();
            let told = String::from_utf8_lossy(&ended.stdout);
            assert!(!ended.status.success() && told.contains("Owned"), "{name}: {told}");
            assert_eq!(journaled(&ground).await, events, "{name}: it wrote something");
            assert_eq!(ground.seen(&case, &world), seen, "{name}: it did something");
        }
    }
}

/// How many events there are.
async fn journaled(ground: &Ground) -> usize {
    let store = SqliteStore::open(ground.path("journal.db"), StoreOptions::default()).unwrap();
    store.tail(Position::default(), 1_000).await.unwrap().len()
}
