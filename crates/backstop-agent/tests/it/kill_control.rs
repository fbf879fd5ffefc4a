//! Kill -9 where a person has their hand in it: around a question and its answer, in an undo, in a dry run and while its plan
//! is carried out, in the rollback of a run that failed, and in all of that where other runs do parts of it. A child process (this test binary again) kills itself at every
//! append and at every effect; the parent does the same once more, and finds the world as if nobody had died.

use crate::deadly::Deadly;
use crate::delegation::{Cast, among, cast, part, write};
use crate::kill::{Doom, Ground, Kill, PLACES, Place, append};
use crate::kit::{LineArgs, LineTool, Watched, agent, declared, file_tools, task, tool_use, unsure};
use crate::undo::snapshot;
use backstop_agent::run::{Answer, Reply, UndoOutcome, Verdict};
use backstop_agent::tool::{ToolOutput, read_args};
use backstop_agent::tools::FILE_TOOLS;
use backstop_agent::{Agent, AgentConfig, DELEGATE, RunOutcome, SUBMIT, Toolbox};
use backstop_call::{Block, Clock, RunId, Seed, Timestamp};
use backstop_journal::event::{OnFailure, RunCreated, ToolDecision};
use backstop_journal::projections::queue::TaskState;
use backstop_journal::{EventBody, Journal, RunFilter, RunStatus, StreamId};
use backstop_label::{Class, Effect};
use backstop_store::{SqliteStore, StoreOptions};
use serde_json::json;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const CHILD: &str = "BACKSTOP_TEST_KILL_CONTROL";
/// The tools of those who do parts.
const PARTS: [&str; 4] = ["write_file", "edit_file", "send", DELEGATE];

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plot {
    /// It sends, and a person is asked each time.
    Ask,
    /// It changes files, and is taken back.
    Undo,
    /// It plans, and the plan is carried out.
    Apply,
    /// It changes files, fails, and takes itself back.
    Rollback,
    /// The same, and the questions are answered with no.
    Deny,
    /// The same, and they are answered with other arguments.
    Edit,
    /// The same, and nobody answers in time.
    Expire,
    /// It gives out a part, in which files are changed, a person is asked, and a part is given out again.
    Parts,
    /// The same without the question, and it is taken back.
    UndoParts,
    /// The same as a plan, which is carried out.
    ApplyParts,
    /// It submits tasks, and is taken back.
    Submit,
    /// It submits tasks as a plan, which is carried out.
    ApplySubmit,
}

const PLOTS: [Plot; 12] = [
    Plot::Ask,
    Plot::Deny,
    Plot::Edit,
    Plot::Expire,
    Plot::Undo,
    Plot::Apply,
    Plot::Rollback,
    Plot::Parts,
    Plot::UndoParts,
    Plot::ApplyParts,
    Plot::Submit,
    Plot::ApplySubmit,
];

impl Plot {
    /// What the model does, turn by turn.
    fn turns(self) -> Vec<Vec<Block>> {
        let send = |id: &str, line: &str| tool_use(id, "send", json!({"line": line}));
        let files = vec![
            tool_use("w1", "write_file", json!({"path": "new/deep/a", "content": "a\n"})),
            tool_use("w2", "write_file", json!({"path": "old", "content": "changed\n"})),
            tool_use("e1", "edit_file", json!({"path": "script", "old_text": "one", "new_text": "ONE"})),
            tool_use("m1", "move_file", json!({"from": "bytes", "to": "other/deep/bytes"})),
            tool_use("d1", "delete_file", json!({"path": "gone"})),
        ];
        let end =
            |failed: bool| vec![tool_use("end", "finish", json!({"summary": "done", "failed": failed}))];
        match self {
            Self::Ask | Self::Deny | Self::Edit | Self::Expire => {
                vec![vec![send("a", "one"), send("b", "two")], vec![send("c", "three")], end(false)]
            }
            Self::Undo => vec![files, end(false)],
            Self::Rollback => vec![files, end(true)],
            Self::Apply => {
                let read = vec![tool_use("r1", "read_file", json!({"path": "old"}))];
                vec![read, files, vec![send("a", "one")], end(false)]
            }
            Self::Parts | Self::UndoParts | Self::ApplyParts => vec![
                vec![write("w1", "lead", "lead\n")],
                vec![part("p1", "writer", "Write."), write("w4", "after", "after\n")],
                vec![tool_use("r1", "read_file", json!({"path": "old"}))],
                end(false),
            ],
            Self::Submit | Self::ApplySubmit => {
                let submit = |id: &str| {
                    tool_use(id, SUBMIT, json!({"agent": "writer", "task": format!("Write {id}.")}))
                };
                vec![vec![submit("t1"), submit("t2")], end(false)]
            }
        }
    }

    /// What those do, turn by turn, that it gives parts to.
    fn parts(self) -> Cast {
        let sends = (self != Self::UndoParts).then(|| tool_use("s1", "send", json!({"line": "one"})));
        let edits =
            tool_use("e1", "edit_file", json!({"path": "script", "old_text": "one", "new_text": "ONE"}));
        let end = || vec![tool_use("end", "finish", json!({"summary": "written"}))];
        let mut first = vec![write("w2", "old", "changed\n")];
        first.extend(sends);
        vec![
            ("writer", vec![first, vec![part("p2", "editor", "Edit.")], end()]),
            ("editor", vec![vec![edits], end()]),
        ]
    }

    fn is_planned(self) -> bool {
        matches!(self, Self::Apply | Self::ApplyParts | Self::ApplySubmit)
    }

    fn created(self, ground: &Ground) -> RunCreated {
        let tools: Vec<_> = FILE_TOOLS.iter().copied().chain(["send", DELEGATE, SUBMIT]).collect();
        let on_failure = if self == Self::Rollback { OnFailure::Rollback } else { OnFailure::Keep };
        RunCreated { dry_run: self.is_planned(), on_failure, ..task(&ground.workspace(), &tools) }
    }

    fn lines(self) -> &'static [&'static str] {
        match self {
            Self::Ask => &["one", "two", "three"],
            Self::Edit => &["one!", "two!", "three!"],
            Self::Apply | Self::Parts | Self::ApplyParts => &["one"],
            Self::Deny
            | Self::Expire
            | Self::Undo
            | Self::Rollback
            | Self::UndoParts
            | Self::Submit
            | Self::ApplySubmit => &[],
        }
    }
}

/// Files of several modes, one of them no text.
fn furnish(ground: &Ground) {
    std::fs::create_dir_all(ground.workspace()).unwrap();
    std::fs::write(ground.effects(), "").unwrap();
    let files: [(&str, &[u8], u32); 4] = [
        ("old", b"old\n", 0o640),
        ("script", b"one\n", 0o755),
        ("bytes", b"\xff\x00", 0o600),
        ("gone", b"x", 0o400),
    ];
    for (name, bytes, mode) in files {
        let path = ground.workspace().join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// An agent whose every append and effect may be its last. `life` is another for each process, as its ids must be.
fn open(ground: &Ground, plot: Plot, kill: Kill, life: u64) -> (Agent, Arc<Watched>, Arc<Doom>) {
    let fate = Doom::of(kill);
    let mut tools = Toolbox::new();
    for name in FILE_TOOLS {
        let inner = file_tools().tool(name).unwrap();
        tools.add(Deadly { inner, fate: Arc::clone(&fate) }).unwrap();
    }
    let effects = ground.effects();
    let send = LineTool {
        name: "send",
        declaration: declared(Class::Irreversible, Effect::External),
        run: Box::new(move |job| {
            let args: LineArgs = read_args(&job.args).unwrap();
            append(&effects, &args.line);
            Box::pin(async { Ok(ToolOutput::text("sent")) })
        }),
        probe: unsure,
    };
    tools.add(Deadly { inner: Arc::new(send), fate: Arc::clone(&fate) }).unwrap();
    let store = SqliteStore::open(ground.dir.join("journal.db"), StoreOptions::default()).unwrap();
    let mut journal = Watched::new(Arc::new(store));
    journal.before = Box::new(move |number, _| {
        kill.at(Place::BeforeAppend, number);
        None
    });
    journal.after = Arc::new(move |number| kill.at(Place::AfterAppend, number));
    let journal = Arc::new(journal);
    let mut script = plot.parts();
    script.push(("m", plot.turns()));
    let agent = agent(cast(script), Arc::clone(&journal) as Arc<dyn Journal>, tools);
    let mut agent = among(agent, &[("writer", &PARTS), ("editor", &PARTS)]);
    agent.seed = Arc::new(Seed::new(life));
    agent.config = AgentConfig { copies: Some(ground.dir.join("copies")), ..agent.config };
    (agent, journal, fate)
}

/// The run that the plot begins with, if there is one.
async fn first_run(agent: &Agent) -> Option<RunId> {
    let runs = agent.journal.runs(RunFilter::default()).await.unwrap();
    // The others are made from it, and their ids begin with its own.
    runs.into_iter().map(|summary| summary.run).min_by_key(|run| run.as_str().len())
}

/// Does all of the plot that is not done yet. What is in doubt is decided by what was sent, if that may be: how often.
async fn carry_on(agent: &Agent, ground: &Ground, plot: Plot, may_doubt: bool) -> usize {
    let run = match first_run(agent).await {
        Some(run) => run,
        None => agent.create(plot.created(ground)).await.unwrap(),
    };
    let (outcome, mut doubts) = finish(agent, ground, &run, plot, may_doubt).await;
    let want = if plot == Plot::Rollback { RunStatus::Failed } else { RunStatus::Done };
    assert_eq!(outcome.status, want, "{outcome:?}");
    match plot {
        Plot::Ask | Plot::Deny | Plot::Edit | Plot::Expire | Plot::Parts => {}
        Plot::Rollback => assert_eq!(outcome.message, "done; all 5 steps of it were taken back"),
        Plot::Undo | Plot::UndoParts | Plot::Submit => {
            let steps = match plot {
                Plot::Undo => 5,
                Plot::UndoParts => 3,
                _ => 2,
            };
            let undone = agent.undo(&run, None).await.unwrap();
            let good = |it: &UndoOutcome| matches!(it, UndoOutcome::Done(_) | UndoOutcome::Already);
            assert!(undone.len() == steps && undone.iter().all(|one| good(&one.outcome)), "{undone:?}");
        }
        Plot::Apply | Plot::ApplyParts | Plot::ApplySubmit => {
            let run = agent.apply(&run).await.unwrap();
            let (outcome, more) = finish(agent, ground, &run, plot, may_doubt).await;
            assert_eq!(outcome.status, RunStatus::Done, "{outcome:?}");
            doubts += more;
        }
    }
    doubts
}

/// A clock that stands still.
struct At(Timestamp);

impl Clock for At {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// Carries a run to its end, with the plot's answer to whatever is asked.
async fn finish(
    agent: &Agent,
    ground: &Ground,
    run: &RunId,
    plot: Plot,
    may_doubt: bool,
) -> (RunOutcome, usize) {
    let mut agent = agent.clone();
    let mut doubts = 0;
    let mut outcome = agent.drive(run).await.unwrap();
    while outcome.status == RunStatus::Parked {
        for question in &outcome.questions {
            if plot == Plot::Expire {
                agent.clock = Arc::new(At(question.expires));
                continue;
            }
            let (run, approval) = (&question.run, question.approval.as_str());
            let args = json!({"line": format!("{}!", question.args["line"].as_str().unwrap())});
            let preview_hash = agent.preview(run, approval, &args).await.unwrap().hash;
            let answer = match plot {
                Plot::Deny => Answer::Deny("not now"),
                Plot::Edit => Answer::Edit { args: &args, preview_hash: &preview_hash, reason: "louder" },
                _ => Answer::Approve,
            };
            let reply = Reply { approval, answer, by: "owner", channel: "terminal" };
            agent.answer(run, reply).await.unwrap();
        }
        for doubt in &outcome.in_doubt {
            assert!(may_doubt && doubt.tool == "send", "only what nobody can find out is asked: {doubt:?}");
            let sent = ground.lines().iter().any(|line| *line == doubt.args["line"]);
            let decision = if sent { ToolDecision::Happened } else { ToolDecision::RunIt };
            let verdict = Verdict { call: &doubt.call, decision, result: Some("sent"), by: "owner" };
            agent.resolve(&doubt.run, verdict).await.unwrap();
            doubts += 1;
        }
        outcome = agent.resume(run, None).await.unwrap();
    }
    (outcome, doubts)
}

/// There is one run for each part. No yes starts two calls, and what cannot be made twice is started again only when a person
/// said that it had not happened.
async fn check(journal: &dyn Journal, plot: Plot, name: &str) {
    let runs = journal.runs(RunFilter::default()).await.unwrap();
    let want = match plot {
        Plot::Parts | Plot::UndoParts | Plot::Submit => 3,
        Plot::ApplyParts => 6,
        // The plan only notes what it would submit.
        Plot::ApplySubmit => 4,
        _ if plot.is_planned() => 2,
        _ => 1,
    };
    assert_eq!(runs.len(), want, "{name}");
    let submitted: Vec<_> =
        runs.iter().filter_map(|run| Some((run.queue.as_ref()?.state, run.calls))).collect();
    let waits = match plot {
        Plot::Submit => vec![(TaskState::Cancelled, 0); 2],
        Plot::ApplySubmit => vec![(TaskState::Waiting, 0); 2],
        _ => Vec::new(),
    };
    assert_eq!(submitted, waits, "{name}");
    for summary in runs {
        let stream = StreamId::Run(summary.run.clone());
        journal.verify(&stream).await.unwrap();
        let (mut yes, mut starts, mut allowed) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for event in journal.read(&stream, 0).await.unwrap() {
            match event.body {
                EventBody::ToolStarted(started) => {
                    if let Some(approval) = started.approval {
                        *yes.entry(approval.to_string()).or_insert(0) += 1;
                        *allowed.entry(started.id.clone()).or_insert(0) += 1;
                    }
                    *starts.entry(started.id).or_insert(0) += 1;
                }
                EventBody::ToolResolved(resolved) if resolved.decision == ToolDecision::RunIt => {
                    *allowed.entry(resolved.id).or_insert(0) += 1;
                }
                _ => {}
            }
        }
        assert!(yes.values().all(|times| *times == 1), "{name}: a yes was used twice: {yes:?}");
        for id in ["a", "b", "c", "s1"] {
            assert!(
                starts.get(id) <= allowed.get(id),
                "{name}: {id} was started {starts:?}, allowed {allowed:?}"
            );
        }
    }
}

/// What the parent starts: carries a plot through until it is killed, if `CHILD` says where. Does nothing in an ordinary
/// test run.
#[tokio::test]
async fn child() {
    let Ok(order) = std::env::var(CHILD) else { return };
    let mut words = order.splitn(4, ' ');
    let mut word = || words.next().unwrap().to_owned();
    let (plot, place, number) = (word(), word(), word().parse().unwrap());
    let plot = PLOTS.into_iter().find(|known| format!("{known:?}") == plot).unwrap();
    let place = PLACES.into_iter().find(|known| format!("{known:?}") == place).unwrap();
    let ground = Ground { dir: word().into() };
    let (agent, ..) = open(&ground, plot, Kill { place, number }, 1);
    carry_on(&agent, &ground, plot, false).await;
}

fn killed(ground: &Ground, plot: Plot, place: Place, number: usize) -> bool {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill_control::child", "--test-threads=1"])
        .env(CHILD, format!("{plot:?} {place:?} {number} {}", ground.dir.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    status.signal() == Some(9)
}

/// What is left of the world: the files with their modes and directories, and what was sent.
type Left = (BTreeMap<PathBuf, Option<(Vec<u8>, u32)>>, Vec<String>);

fn left(ground: &Ground) -> Left {
    (snapshot(&ground.workspace()), ground.lines())
}

/// Kills a plot at every place. How often that left something in doubt.
fn kill_everywhere(plot: Plot) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // What a killed process has written is in the page cache: files in memory show the same as files on a disk, sooner.
    let memory = Path::new("/dev/shm");
    let root = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let make = |what: &str| {
        let ground = Ground { dir: root.path().join(what) };
        furnish(&ground);
        ground
    };
    let whole = make("whole");
    let before = left(&whole);
    let (appends, effects) = runtime.block_on(async {
        let (agent, journal, fate) = open(&whole, plot, Kill::NEVER, 1);
        carry_on(&agent, &whole, plot, false).await;
        check(&*journal, plot, "whole").await;
        let appends = journal.appends.lock().unwrap().len();
        (appends, fate.count.load(Ordering::SeqCst))
    });
    let want = left(&whole);
    assert_eq!(want.1, plot.lines());
    let changes = matches!(plot, Plot::Apply | Plot::Parts | Plot::ApplyParts);
    assert_eq!(want.0 == before.0, !changes, "{want:?}");
    let mut doubts = 0;
    for place in PLACES {
        let is_append = matches!(place, Place::BeforeAppend | Place::AfterAppend);
        for number in 1..=if is_append { appends } else { effects } {
            let name = format!("{plot:?} {place:?} {number}");
            let ground = make(&name.replace(' ', "-"));
            assert!(killed(&ground, plot, place, number), "{name}: it was not killed");
            runtime.block_on(async {
                let (agent, journal, _) = open(&ground, plot, Kill::NEVER, 2);
                doubts += carry_on(&agent, &ground, plot, true).await;
                check(&*journal, plot, &name).await;
                // Once more: there is nothing left to do.
                assert_eq!(carry_on(&agent, &ground, plot, false).await, 0, "{name}");
            });
            assert_eq!(left(&ground), want, "{name}");
            std::fs::remove_dir_all(&ground.dir).unwrap();
        }
    }
    doubts
}

#[test]
fn killed_anywhere_a_yes_is_used_once() {
    assert!(kill_everywhere(Plot::Ask) > 0, "what was under way is in doubt");
}

#[test]
fn killed_anywhere_a_no_stays_a_no() {
    assert_eq!(kill_everywhere(Plot::Deny), 0, "nothing was begun");
}

#[test]
fn killed_anywhere_what_nobody_answers_is_not_done() {
    assert_eq!(kill_everywhere(Plot::Expire), 0, "nothing was begun");
}

#[test]
fn killed_anywhere_other_arguments_are_used_once() {
    assert!(kill_everywhere(Plot::Edit) > 0, "what was under way is in doubt");
}

#[test]
fn killed_anywhere_an_undo_puts_everything_back() {
    assert_eq!(kill_everywhere(Plot::Undo), 0);
}

#[test]
fn killed_anywhere_a_plan_is_carried_out_once() {
    assert!(kill_everywhere(Plot::Apply) > 0, "what was under way is in doubt");
}

#[test]
fn killed_anywhere_each_part_is_done_by_one_run_once() {
    assert!(kill_everywhere(Plot::Parts) > 0, "what was under way is in doubt");
}

#[test]
fn killed_anywhere_parts_are_taken_back() {
    assert_eq!(kill_everywhere(Plot::UndoParts), 0);
}

#[test]
fn killed_anywhere_the_plan_of_parts_is_carried_out_once() {
    assert!(kill_everywhere(Plot::ApplyParts) > 0, "what was under way is in doubt");
}

#[test]
fn killed_anywhere_a_task_is_submitted_once_and_taken_back() {
    assert_eq!(kill_everywhere(Plot::Submit), 0);
}

#[test]
fn killed_anywhere_what_a_plan_submits_is_submitted_once() {
    assert_eq!(kill_everywhere(Plot::ApplySubmit), 0);
}

#[test]
fn killed_anywhere_a_rollback_puts_everything_back() {
    assert_eq!(kill_everywhere(Plot::Rollback), 0);
}
