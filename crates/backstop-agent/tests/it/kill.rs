//! Kill -9 at every event boundary of a run with 20 steps, and before, during and after every effect. Each time a child
//! process (this test binary again) kills itself there; the parent resumes the run in its own process and looks at what
//! is left: the same end, every effect once, none lost, and in doubt only what cannot be known.

use crate::deadly::{Deadly, Fate, die};
use crate::kit::{
    LineArgs, LineTool, Script, Watched, agent, declared, file_tools, results, spoken, task, tool_use, unsure,
};
use backstop_agent::run::Verdict;
use backstop_agent::tool::{ToolOutput, read_args};
use backstop_agent::{Agent, RunOutcome, RunState, Toolbox};
use backstop_call::{Block, RunId, StopReason};
use backstop_journal::event::ToolDecision;
use backstop_journal::{Journal, RunStatus, StreamId};
use backstop_label::{Class, Effect};
use backstop_store::{SqliteStore, StoreOptions};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const STEPS: usize = 20;
/// Tool calls that are dispatched: all but the edit that does not fit and `finish`.
const EFFECTS: usize = 24;
const CHILD: &str = "BACKSTOP_TEST_KILL";
const TOOLS: [&str; 9] = [
    "list_files",
    "read_file",
    "search_files",
    "write_file",
    "edit_file",
    "move_file",
    "delete_file",
    "append_line",
    "put_line",
];
/// So many of them, the first, are about files.
const FILE_TOOLS: usize = 7;

/// Where a process kills itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Nowhere,
    BeforeAppend,
    AfterAppend,
    BeforeEffect,
    DuringEffect,
    AfterEffect,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Kill {
    pub(crate) place: Place,
    /// The how-manieth append or effect, from 1.
    pub(crate) number: usize,
}

impl Kill {
    pub(crate) const NEVER: Self = Self { place: Place::Nowhere, number: 0 };

    pub(crate) fn at(self, place: Place, number: usize) {
        if self.place == place && self.number == number {
            die();
        }
    }
}

/// What becomes of the effects of a process.
pub(crate) struct Doom {
    kill: Kill,
    /// The effects so far.
    pub(crate) count: AtomicUsize,
}

impl Doom {
    pub(crate) fn of(kill: Kill) -> Arc<Self> {
        Arc::new(Self { kill, count: AtomicUsize::new(0) })
    }
}

impl Fate for Doom {
    fn begins(&self) -> usize {
        let number = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        self.kill.at(Place::BeforeEffect, number);
        number
    }

    fn during(&self, number: usize) -> Option<JoinHandle<()>> {
        let during = self.kill.place == Place::DuringEffect && self.kill.number == number;
        during.then(|| {
            // Somewhere between the first and the last instruction of the effect: another place for each number.
            let delay = 500 * (number * 7_919 % 97);
            std::thread::spawn(move || {
                (0..delay).for_each(|_| std::hint::spin_loop());
                die();
            })
        })
    }

    fn ended(&self, number: usize, _: Duration) {
        self.kill.at(Place::AfterEffect, number);
    }
}

/// What the model says at each step: a function of the conversation alone.
fn step(request: &backstop_call::Request) -> Vec<Block> {
    let number = spoken(request);
    let last = request.messages.last().map(results).unwrap_or_default().join("|");
    let one = |name: &str, args: Value| vec![tool_use(&format!("s{number}"), name, args)];
    match number {
        0 => one("list_files", json!({})),
        1 => one("read_file", json!({"path": "in.txt"})),
        // What was read must have come back whole, or the copy is another one.
        2 => one("write_file", json!({"path": "copy/a.txt", "content": last})),
        3 => one("append_line", json!({"line": "three"})),
        4 => one("edit_file", json!({"path": "copy/a.txt", "old_text": "one", "new_text": "ONE"})),
        5 => one("put_line", json!({"line": "five"})),
        6 => vec![
            tool_use("s6a", "read_file", json!({"path": "in.txt"})),
            tool_use("s6b", "write_file", json!({"path": "b.txt", "content": "b\n"})),
            tool_use("s6c", "append_line", json!({"line": "six"})),
            tool_use("s6d", "search_files", json!({"pattern": "ONE"})),
        ],
        7 => one("append_line", json!({"line": "seven"})),
        8 => one("search_files", json!({"pattern": "b"})),
        9 => one("edit_file", json!({"path": "b.txt", "old_text": "b", "new_text": "bb"})),
        // Two changes of one file in one turn.
        10 => vec![
            tool_use("s10a", "edit_file", json!({"path": "b.txt", "old_text": "bb", "new_text": "bc"})),
            tool_use("s10b", "edit_file", json!({"path": "b.txt", "old_text": "bc", "new_text": "cc"})),
        ],
        11 => one("read_file", json!({"path": "b.txt"})),
        12 => one("write_file", json!({"path": "c.txt", "content": format!("{last}!")})),
        13 => one("put_line", json!({"line": "thirteen"})),
        14 => one("edit_file", json!({"path": "c.txt", "old_text": "nowhere", "new_text": "x"})),
        15 => one("write_file", json!({"path": "b.txt", "content": "end\n"})),
        16 => one("append_line", json!({"line": "sixteen"})),
        17 => vec![
            tool_use("s17a", "move_file", json!({"from": "c.txt", "to": "moved/deep/c.txt"})),
            tool_use("s17b", "list_files", json!({"path": "moved"})),
        ],
        18 => vec![
            tool_use("s18a", "delete_file", json!({"path": "b.txt"})),
            tool_use("s18b", "write_file", json!({"path": "d.txt", "content": last})),
        ],
        _ => one("finish", json!({"summary": format!("after {number}"), "result": last})),
    }
}

pub(crate) struct Ground {
    pub(crate) dir: PathBuf,
}

impl Ground {
    pub(crate) fn workspace(&self) -> PathBuf {
        self.dir.join("work")
    }

    pub(crate) fn effects(&self) -> PathBuf {
        self.dir.join("effects")
    }

    fn make(&self) {
        std::fs::create_dir_all(self.workspace()).unwrap();
        std::fs::write(self.workspace().join("in.txt"), "one\ntwo\n").unwrap();
        std::fs::write(self.effects(), "").unwrap();
    }

    /// The files of the workspace, by their paths.
    fn files(&self) -> BTreeMap<PathBuf, String> {
        let mut files = BTreeMap::new();
        let mut open = vec![self.workspace()];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    files.insert(
                        path.strip_prefix(self.workspace()).unwrap().to_owned(),
                        std::fs::read_to_string(&path).unwrap(),
                    );
                }
            }
        }
        files
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        std::fs::read_to_string(self.effects()).unwrap().lines().map(str::to_owned).collect()
    }
}

/// One more line for the world outside. Each execution leaves its own: twice is seen. One write with its line end: a
/// process that dies between two would leave half a line, and the next one would be lost in it.
pub(crate) fn append(path: &Path, line: &str) {
    let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// The tools, each of whose effects may kill the process.
fn tools(ground: &Ground, kill: Kill) -> Toolbox {
    let fate = Doom::of(kill);
    let mut tools = Toolbox::new();
    for inner in file_tools_of() {
        tools.add(Deadly { inner, fate: Arc::clone(&fate) }).unwrap();
    }
    let effects = ground.effects();
    let appends = LineTool {
        name: "append_line",
        declaration: declared(Class::Write, Effect::Write),
        run: Box::new(move |job| {
            let args: LineArgs = read_args(&job.args).unwrap();
            append(&effects, &args.line);
            Box::pin(async { Ok(ToolOutput::text("appended")) })
        }),
        probe: unsure,
    };
    let effects = ground.effects();
    let puts = LineTool {
        name: "put_line",
        declaration: declared(Class::Idempotent, Effect::Write),
        run: Box::new(move |job| {
            let args: LineArgs = read_args(&job.args).unwrap();
            let line = format!("{} {}", args.line, job.key);
            // The world outside takes each key once.
            if !std::fs::read_to_string(&effects).unwrap().lines().any(|known| known == line) {
                append(&effects, &line);
            }
            Box::pin(async { Ok(ToolOutput::text("put")) })
        }),
        probe: unsure,
    };
    tools.add(Deadly { inner: Arc::new(appends), fate: Arc::clone(&fate) }).unwrap();
    tools.add(Deadly { inner: Arc::new(puts), fate }).unwrap();
    tools
}

fn file_tools_of() -> Vec<Arc<dyn backstop_agent::Tool>> {
    let tools = file_tools();
    TOOLS[..FILE_TOOLS].iter().map(|name| tools.tool(name).unwrap()).collect()
}

fn open(ground: &Ground, kill: Kill) -> (Agent, Arc<Watched>) {
    let store = SqliteStore::open(ground.dir.join("journal.db"), StoreOptions::default()).unwrap();
    let mut journal = Watched::new(Arc::new(store));
    journal.before = Box::new(move |number, _| {
        kill.at(Place::BeforeAppend, number);
        None
    });
    journal.after = Arc::new(move |number| kill.at(Place::AfterAppend, number));
    let journal = Arc::new(journal);
    let model = Arc::new(Script(Box::new(|request| Ok((step(request), StopReason::ToolUse)))));
    (agent(model, Arc::clone(&journal) as Arc<dyn Journal>, tools(ground, kill)), journal)
}

async fn create(agent: &Agent, ground: &Ground) -> RunId {
    agent.create(task(&ground.workspace(), &TOOLS)).await.unwrap()
}

async fn the_only_run(agent: &Agent) -> Option<RunId> {
    let runs = agent.journal.runs(backstop_journal::RunFilter::default()).await.unwrap();
    assert!(runs.len() <= 1);
    runs.first().map(|summary| summary.run.clone())
}

type EndState = (RunStatus, Vec<backstop_call::Message>, u32, Option<Value>);

/// The part of a state that must be the same whatever was in between.
async fn end_state(
    agent: &Agent,
    run: &RunId,
) -> (RunStatus, Vec<backstop_call::Message>, u32, Option<Value>) {
    let events = agent.journal.read(&StreamId::Run(run.clone()), 0).await.unwrap();
    agent.journal.verify(&StreamId::Run(run.clone())).await.unwrap();
    let state = RunState::fold(&events);
    let result = state.finished.and_then(|finished| finished.result?.value().cloned());
    (state.status, state.messages, state.turns, result)
}

/// What the parent starts: runs until it is killed, if `CHILD` says where. Does nothing in an ordinary test run.
#[tokio::test]
async fn child() {
    let Ok(order) = std::env::var(CHILD) else { return };
    let mut words = order.splitn(3, ' ');
    let (place, number) = (words.next().unwrap(), words.next().unwrap().parse().unwrap());
    let place = PLACES.iter().copied().find(|known| format!("{known:?}") == place).unwrap();
    let ground = Ground { dir: words.next().unwrap().into() };
    let (agent, _) = open(&ground, Kill { place, number });
    let run = create(&agent, &ground).await;
    agent.drive(&run).await.unwrap();
}

pub(crate) const PLACES: [Place; 5] =
    [Place::BeforeAppend, Place::AfterAppend, Place::BeforeEffect, Place::DuringEffect, Place::AfterEffect];

/// Starts a child that is to die there; whether it did.
fn killed(ground: &Ground, place: Place, number: usize) -> bool {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child", "--test-threads=1"])
        .env(CHILD, format!("{place:?} {number} {}", ground.dir.display()))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    status.signal() == Some(9)
}

/// Resumes, and decides every doubt by looking at the world outside. What was in doubt, by its line.
async fn resume(agent: &Agent, ground: &Ground, run: &RunId) -> (RunOutcome, Vec<String>) {
    let mut doubted = Vec::new();
    let mut outcome = agent.drive(run).await.unwrap();
    while outcome.status == RunStatus::Parked {
        assert!(!outcome.in_doubt.is_empty(), "{outcome:?}");
        for doubt in &outcome.in_doubt {
            assert_eq!(doubt.tool, "append_line", "only what nobody can find out is asked: {doubt:?}");
            let line = doubt.args["line"].as_str().unwrap();
            let happened = ground.lines().iter().any(|known| known == line);
            let decision = if happened { ToolDecision::Happened } else { ToolDecision::RunIt };
            let verdict = Verdict { call: &doubt.call, decision, result: Some("appended"), by: "test" };
            agent.resolve(run, verdict).await.unwrap();
            doubted.push(line.to_owned());
        }
        outcome = agent.resume(run, None).await.unwrap();
    }
    (outcome, doubted)
}

#[tokio::test]
async fn killed_anywhere_the_run_ends_the_same() {
    // What a killed process has written is in the page cache: files in memory show the same as files on a disk, sooner.
    let memory = Path::new("/dev/shm");
    let root = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let ground = Ground { dir: root.path().join("whole") };
    ground.make();
    let (agent, journal) = open(&ground, Kill::NEVER);
    let run = create(&agent, &ground).await;
    let outcome = agent.drive(&run).await.unwrap();
    assert_eq!((outcome.status, outcome.turns), (RunStatus::Done, 20), "{outcome:?}");
    assert_eq!(outcome.turns as usize, STEPS);
    let want = end_state(&agent, &run).await;
    let (want_files, want_lines) = (ground.files(), ground.lines());
    assert_eq!(want_lines.len(), 6, "{want_lines:?}");
    let appends = journal.appends.lock().unwrap().len();
    drop((agent, journal));

    let want = Whole { state: want, files: want_files, lines: want_lines };
    let passes: Vec<_> = std::thread::scope(|scope| {
        let (root, want) = (root.path(), &want);
        let passes: Vec<_> = PLACES.map(|place| scope.spawn(move || kill_at_every(place, root, want))).into();
        passes.into_iter().map(|pass| pass.join().unwrap()).collect()
    });
    let kills: usize = passes.iter().map(|pass| pass.kills).sum();
    // `After` the last append and everything `Before`, for each append and each effect.
    assert_eq!(kills, 2 * appends + 3 * EFFECTS, "{appends} appends");
    let mut doubts: Vec<_> = passes.into_iter().flat_map(|pass| pass.doubts).collect();
    doubts.sort();
    doubts.dedup();
    assert_eq!(doubts, ["seven", "six", "sixteen", "three"], "each was in doubt at some kill");
}

/// What an undisturbed run leaves.
struct Whole {
    state: EndState,
    files: BTreeMap<PathBuf, String>,
    lines: Vec<String>,
}

struct Pass {
    kills: usize,
    doubts: Vec<String>,
}

/// Kills a child at the first, the second, … of these places, until one lives to the end.
fn kill_at_every(place: Place, root: &Path, want: &Whole) -> Pass {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut pass = Pass { kills: 0, doubts: Vec::new() };
    for number in 1.. {
        let ground = Ground { dir: root.join(format!("{place:?}{number}")) };
        ground.make();
        if !killed(&ground, place, number) {
            assert_eq!(ground.files(), want.files, "a child that was not killed ends like the whole");
            break;
        }
        pass.kills += 1;
        pass.doubts.extend(runtime.block_on(take_up(&ground, (place, number), want)));
    }
    pass
}

/// Resumes what a killed child left and compares it with the whole. What was in doubt.
async fn take_up(ground: &Ground, kill: (Place, usize), want: &Whole) -> Vec<String> {
    let name = format!("{kill:?}");
    let (agent, _) = open(ground, Kill::NEVER);
    let Some(run) = the_only_run(&agent).await else {
        assert_eq!(kill, (Place::BeforeAppend, 1), "only a run that was never acknowledged is gone");
        return Vec::new();
    };
    let (outcome, doubted) = resume(&agent, ground, &run).await;
    assert_eq!(outcome.status, RunStatus::Done, "{name}: {outcome:?}");
    assert_eq!(ground.files(), want.files, "{name}");
    assert_same_lines(&ground.lines(), &want.lines, &name);
    assert!(doubted.len() <= 1, "{name}: {doubted:?}");
    assert_eq!(end_state(&agent, &run).await, want.state, "{name}: the model saw the same");
    doubted
}

/// Every effect once: none twice, none lost. The keys of the idempotent ones differ by run.
fn assert_same_lines(got: &[String], want: &[String], name: &str) {
    let bare = |lines: &[String]| -> Vec<String> {
        lines.iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    };
    assert_eq!(bare(got), bare(want), "{name}");
}
