//! A dry run with every kind of tool touches nothing: not a file beside its own copy, not the database, not the repository,
//! not the network. Its plan, carried out, gives what it said.

use crate::deadly::{Script, Wall, use_of};
use crate::ground::git;
use crate::world::World;
use backstop_agent::run::{Answer, Reply};
use backstop_agent::tools::{FILE_TOOLS, add_file_tools};
use backstop_agent::{Agent, AgentConfig, RunOutcome, RunState, Tool, Toolbox};
use backstop_call::{Block, Labels, Priority, RunId, Secret, Seed};
use backstop_journal::event::{OnFailure, RunCreated, RunLimits};
use backstop_journal::projections::timeline::Timeline;
use backstop_journal::{Body, EventBody, RunStatus, StreamId};
use backstop_store::MemoryStore;
use backstop_tools::command::{CommandGrant, CommandTool};
use backstop_tools::git::GitGrant;
use backstop_tools::http::{HostGrant, HttpGrant, HttpMethod, Network, http_tools};
use backstop_tools::mail::mail_tool;
use backstop_tools::sandbox::Sandbox;
use backstop_tools::shell::{Shell, ShellGrant};
use backstop_tools::sqlite::{SqliteGrant, sqlite_tools};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const HELPER: &str = env!("CARGO_BIN_EXE_backstop-sandbox");
/// What the servers of the world know this run by.
const NAME: &str = "dry";

/// Every file and directory of an area: its bytes, its inode, and when it or its entry was changed.
fn everything(root: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u64, i64, i64)> {
    let mut all = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = std::fs::symlink_metadata(&path).unwrap();
            let bytes = if metadata.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
            all.insert(path.clone(), (bytes, metadata.ino(), metadata.mtime_nsec(), metadata.ctime_nsec()));
            if metadata.is_dir() {
                open.push(path);
            }
        }
    }
    all
}

/// Tools of every kind, each granted what the script needs.
fn tools(dir: &Path, world: &World) -> Toolbox {
    let sandbox = Sandbox::new(HELPER, Vec::<String>::new()).scratch(dir.join("scratch"));
    let secret = |_: &str| Ok(Secret::new("secret"));
    let host = HostGrant {
        private: true,
        methods: vec![HttpMethod::Get, HttpMethod::Post],
        ..HostGrant::new(format!("http://127.0.0.1:{}", world.http))
    };
    let http = HttpGrant { hosts: vec![host], ..HttpGrant::default() };
    let mail = json!({
        "server": "127.0.0.1", "port": world.smtp, "tls": "none", "from": "agent@example.com",
        "recipients": ["*@team.test"],
    });
    let sqlite = SqliteGrant { files: vec!["*.db".into()], write: true, ..SqliteGrant::default() };
    let shell = ShellGrant { allow: vec!["touch *".into()], ..ShellGrant::default() };
    let commit = GitGrant { commit: true, ..GitGrant::default() };
    let command: CommandGrant = serde_json::from_value(json!({
        "description": "x", "run": ["touch", "posted"], "effect": "external",
    }))
    .unwrap();
    let env = BTreeMap::new();
    let mut all: Vec<Arc<dyn Tool>> = http_tools(&http, &secret, &Network::system()).unwrap();
    all.push(mail_tool(&serde_json::from_value(mail).unwrap(), &secret).unwrap());
    all.extend(sqlite_tools(&sqlite).unwrap());
    all.extend(
        Shell::tools(&shell, &sandbox, &env).unwrap().into_iter().map(|it| Arc::new(it) as Arc<dyn Tool>),
    );
    all.extend(backstop_tools::git::tools(&commit, &sandbox, &BTreeMap::new()).unwrap());
    all.push(Arc::new(CommandTool::new("post", command, &sandbox, &env, BTreeMap::new()).unwrap()));
    let mut toolbox = Toolbox::new();
    add_file_tools(&mut toolbox).unwrap();
    for tool in all {
        toolbox.add(tool).unwrap();
    }
    toolbox
}

fn script(world: &World) -> Vec<Block> {
    let url = format!("http://127.0.0.1:{}/{NAME}", world.http);
    let rows: [(&str, Value); 10] = [
        ("write_file", json!({"path": "new.txt", "content": "new\n"})),
        (
            "sqlite_execute",
            json!({"database": "a.db", "statements": [{"sql": "UPDATE counts SET n = n + 1"}]}),
        ),
        // It sees its own writes.
        ("sqlite_query", json!({"database": "a.db", "sql": "SELECT n FROM counts"})),
        ("run_command", json!({"argv": ["touch", "touched"]})),
        ("git_commit", json!({"message": "More", "paths": ["new.txt"]})),
        ("git_log", json!({})),
        ("http_request", json!({"method": "POST", "url": url, "body": "x"})),
        ("send_email", json!({"to": ["ann@team.test"], "subject": NAME, "body": "hello"})),
        ("post", json!({})),
        ("finish", json!({"summary": "done"})),
    ];
    (0..).zip(rows).map(|(number, (tool, args))| use_of(&format!("s{number}"), tool, args)).collect()
}

fn fill(work: &Path) {
    std::fs::create_dir(work).unwrap();
    let database = rusqlite::Connection::open(work.join("a.db")).unwrap();
    let sql = "CREATE TABLE counts (id INTEGER PRIMARY KEY, n); INSERT INTO counts VALUES (1, 0)";
    database.execute_batch(sql).unwrap();
    git(work, &["init", "--quiet", "--initial-branch=main"]);
    git(work, &["config", "user.name", "A Person"]);
    git(work, &["config", "user.email", "person@example.com"]);
    git(work, &["commit", "--quiet", "--allow-empty", "-m", "First"]);
}

fn count(work: &Path) -> i64 {
    let database = rusqlite::Connection::open(work.join("a.db")).unwrap();
    database.query_row("SELECT n FROM counts", [], |row| row.get(0)).unwrap()
}

fn task(work: &Path, agent: &Agent) -> RunCreated {
    let tools = agent.tools.names().filter(|name| !FILE_TOOLS.contains(name) || *name == "write_file");
    RunCreated {
        task: "t".into(),
        role: "r".into(),
        agent: "a".into(),
        agent_hash: String::new(),
        model: "m".into(),
        system: Body::from("s"),
        message: Body::from("m"),
        max_tokens: None,
        tools: tools.map(str::to_owned).collect(),
        workspace: work.to_str().unwrap().to_owned(),
        limits: RunLimits::default(),
        result_schema: None,
        priority: Priority::Standard,
        labels: Labels::default(),
        dry_run: true,
        applies: None,
        parent: None,
        bounds: Vec::new(),
        on_failure: OnFailure::Keep,
        queue: None,
        origin: Box::default(),
    }
}

async fn told(agent: &Agent, run: &RunId) -> Vec<String> {
    let events = agent.journal.read(&StreamId::Run(run.clone()), 0).await.unwrap();
    let state = RunState::fold(&events);
    (0..9).map(|number| state.said_of(&format!("s{number}")).unwrap()).collect()
}

/// Carries the plan out, with a yes to everything that is asked.
async fn apply(agent: &Agent, planned: &RunId) -> (RunId, RunOutcome) {
    let run = agent.apply(planned).await.unwrap();
    let mut outcome = agent.drive(&run).await.unwrap();
    while let Some(question) = outcome.questions.first() {
        let approval = question.approval.to_string();
        let reply = Reply { approval: &approval, answer: Answer::Approve, by: "owner", channel: "terminal" };
        agent.answer(&run, reply).await.unwrap();
        outcome = agent.resume(&run, None).await.unwrap();
    }
    (run, outcome)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_with_every_kind_of_tool_touches_nothing_and_its_plan_does_what_it_said() {
    let world = World::new().await;
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    fill(&work);
    let copies = tempfile::tempdir().unwrap();
    std::fs::create_dir(copies.path().join("scratch")).unwrap();
    let agent = Agent {
        model: Arc::new(Script(script(&world))),
        journal: Arc::new(MemoryStore::new()),
        clock: Arc::new(Wall),
        seed: Arc::new(Seed::new(1)),
        tools: tools(copies.path(), &world),
        policy: Arc::default(),
        draining: Arc::default(),
        keeps: Arc::new(|_| true),
        config: AgentConfig { copies: Some(copies.path().join("runs")), ..AgentConfig::default() },
    };
    let before = everything(dir.path());
    let planned = agent.create(task(&work, &agent)).await.unwrap();
    let outcome = agent.drive(&planned).await.unwrap();
    assert_eq!(outcome.status, RunStatus::Done, "{outcome:?} {:?}", told(&agent, &planned).await);
    assert_eq!(everything(dir.path()), before, "not a byte, not an inode, not a time");
    assert_eq!(world.done(NAME), Vec::<String>::new(), "nobody was sent anything");
    let said = told(&agent, &planned).await;
    assert!(said[2].contains('1'), "it sees its own writes: {}", said[2]);
    assert!(said[5].contains("More"), "and its own commit: {}", said[5]);
    let noted: Vec<_> = (0..9).filter(|step| said[*step].starts_with("Dry run: ")).collect();
    assert_eq!(noted, [6, 7, 8], "{said:?}");

    let (run, outcome) = apply(&agent, &planned).await;
    assert_eq!(outcome.status, RunStatus::Done, "{outcome:?}");
    assert_eq!(
        (count(&work), world.done(NAME).len()),
        (1, 2),
        "the database, the request and the mail: once"
    );
    assert_eq!(std::fs::read_to_string(work.join("new.txt")).unwrap(), "new\n");
    assert!(work.join("touched").exists() && work.join("posted").exists());
    // The commit is the one that was planned, to the last byte: its id says so.
    let log = git(&work, &["log", "--format=%H %s", "-1"]);
    let events = agent.journal.read(&StreamId::Run(planned.clone()), 0).await.unwrap();
    let commit = events.iter().find_map(|event| match &event.body {
        EventBody::ToolFinished(finished) if finished.id == "s4" => finished.result.read::<String>(),
        _ => None,
    });
    let commit = commit.unwrap();
    let id = log.split(' ').next().unwrap();
    assert!(commit.contains(&id[..8]), "{commit}: {log}");
    let previews = |events: &[backstop_journal::Event]| -> Vec<(String, Body)> {
        let timeline = Timeline::fold(events).unwrap();
        let acts = timeline.tools().filter(|tool| tool.class != backstop_label::Class::Read);
        acts.map(|tool| (tool.id.clone(), tool.preview.clone())).collect()
    };
    let applied = agent.journal.read(&StreamId::Run(run), 0).await.unwrap();
    assert_eq!(previews(&applied), previews(&events), "it did what was shown");
}
