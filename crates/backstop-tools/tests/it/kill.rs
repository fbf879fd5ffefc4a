//! Kill -9 before, during and after the effect of every tool of this crate, and around every append of its run. Each time a
//! child process (this test binary again) is killed there; the parent takes the run up in its own process, and looks at a
//! world that outlived the child: what was asked for is done once, never twice, never not, and in doubt is only what cannot
//! be known. What a person approved before the kill is not started again under the same yes.

use crate::mcp_server;
use crate::world::{Moment, World};
use backstop_agent::run::{Answer, Reply as Said, UndoOutcome, Verdict};
use backstop_agent::tool::Job;
use backstop_agent::{
    Agent, AgentConfig, Plan, Probe, Rehearsal, RunState, Tool, ToolContext, ToolError, ToolOutput, Toolbox,
};
use backstop_call::{
    Block, BoxFuture, Call, Clock, Failure, LimitHint, Model, Priority, Reply, RunId, Secret, Seed, Sink,
    Speaker, StopReason, Timestamp, ToolSpec, Usage,
};
use backstop_journal::event::{OnFailure, RunCreated, RunLimits, ToolDecision};
use backstop_journal::projections::history::RunSummary;
use backstop_journal::{
    Append, Body, Epoch, Event, EventBody, Head, Journal, JournalError, Position, RunFilter, RunStatus, Seq,
    StreamId,
};
use backstop_label::{Class, Declaration, Labels};
use backstop_store::{SqliteStore, StoreOptions};
use backstop_tools::command::{CommandGrant, CommandTool};
use backstop_tools::git::{GitGrant, PushGrant};
use backstop_tools::http::{HostGrant, HttpGrant, HttpMethod, Network, http_tools};
use backstop_tools::mail::mail_tool;
use backstop_tools::mcp::{Launch, McpGrant, McpServer, PinFile};
use backstop_tools::sandbox::Sandbox;
use backstop_tools::shell::{Shell, ShellGrant};
use backstop_tools::sqlite::{SqliteGrant, sqlite_tools};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant, SystemTime};

const CHILD: &str = "BACKSTOP_TEST_KILL";
const HELPER: &str = env!("CARGO_BIN_EXE_backstop-sandbox");
/// So many places within an effect, at equal distances.
const WITHIN: u32 = 3;
/// What a command does: leaves a line, and waits at the gates that there are.
const SCRIPT: &str = "if [ -p asked ]; then read x < asked; fi
    echo line >> effects
    if [ -p done ]; then read x < done; fi";
/// Only looks.
const LOOKS: &str = "if [ -p asked ]; then read x < asked; fi
    cat effects
    if [ -p done ]; then read x < done; fi";
/// Leaves a line once for each key.
const KEYED: &str = "if [ -p asked ]; then read x < asked; fi
    grep -qx \"$1\" effects || echo \"$1\" >> effects
    if [ -p done ]; then read x < done; fi";

/// Where a process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Place {
    Nowhere,
    BeforeAppend(usize),
    AfterAppend(usize),
    BeforeEffect(usize),
    /// So many microseconds after the effect began.
    During(usize, u64),
    AfterEffect(usize),
    /// By the world, when it is asked.
    Asked,
    /// By the world, when it has done it.
    Done,
    /// Not killed: held before this append until the test lets it go on.
    Held(usize),
}

/// How the world kills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Killer {
    Nobody,
    /// A server on this machine.
    Server,
    /// The test, while the command waits at a gate.
    Gate,
    /// The MCP server kills the process that started it.
    Mcp,
}

/// A tool, and what is true of it.
struct Case {
    name: &'static str,
    tool: &'static str,
    args: fn(&Ground) -> Value,
    killer: Killer,
    /// How often its effect stands in the end, and how often something was changed on the way.
    want: (usize, usize),
    /// Whether it is taken back after the run.
    undo: bool,
    /// Whether a crash may leave it in doubt.
    doubt: bool,
}

const fn case(name: &'static str, tool: &'static str, args: fn(&Ground) -> Value) -> Case {
    Case { name, tool, args, killer: Killer::Nobody, want: (1, 1), undo: false, doubt: false }
}

/// Every tool of the crate, in every class that it comes in.
fn cases() -> Vec<Case> {
    let http: fn(&Ground) -> Value = |ground| json!({"method": "POST", "url": format!("http://127.0.0.1:{}/{}", ground.http, ground.name), "body": "x"});
    let get: fn(&Ground) -> Value =
        |ground| json!({"url": format!("http://127.0.0.1:{}/{}", ground.http, ground.name)});
    let mail: fn(&Ground) -> Value =
        |ground| json!({"to": ["ann@team.test"], "subject": ground.name, "body": "hello"});
    let count: fn(&Ground) -> Value =
        |_| json!({"database": "a.db", "statements": [{"sql": "UPDATE counts SET n = n + 1"}]});
    let keyless: fn(&Ground) -> Value =
        |_| json!({"database": "a.db", "statements": [{"sql": "INSERT INTO keyless VALUES ('x')"}]});
    let table: fn(&Ground) -> Value =
        |_| json!({"database": "a.db", "statements": [{"sql": "CREATE TABLE made (x)"}]});
    let query: fn(&Ground) -> Value = |_| json!({"database": "a.db", "sql": "SELECT n FROM counts"});
    let script: fn(&Ground) -> Value = |_| json!({"argv": ["sh", "add.sh"]});
    let reading: fn(&Ground) -> Value = |_| json!({"argv": ["cat", "effects"]});
    let none: fn(&Ground) -> Value = |_| json!({});
    let commit: fn(&Ground) -> Value = |_| json!({"message": "More", "paths": ["new.txt"]});
    let push: fn(&Ground) -> Value = |_| json!({"remote": "there", "branch": "main"});
    let server = |case: Case| Case { killer: Killer::Server, ..case };
    let gate = |case: Case| Case { killer: Killer::Gate, ..case };
    let mcp = |case: Case| Case { killer: Killer::Mcp, ..case };
    let reads = |case: Case| Case { want: (0, 0), ..case };
    let doubtful = |case: Case| Case { doubt: true, ..case };
    // The effect stands no more, and was made and taken back.
    let undone = |case: Case| Case { undo: true, want: (0, 2), ..case };
    vec![
        server(reads(case("http_get", "http_get", get))),
        server(doubtful(case("http_request", "http_request", http))),
        server(case("http_request_keyed", "http_request_keyed", http)),
        server(doubtful(case("send_email", "send_email", mail))),
        reads(case("sqlite_query", "sqlite_query", query)),
        undone(case("sqlite_execute", "sqlite_execute", count)),
        case("sqlite_execute-schema", "sqlite_execute", table),
        doubtful(case("sqlite_execute-keyless", "sqlite_execute", keyless)),
        gate(doubtful(case("run_command", "run_command", script))),
        reads(case("read_command", "read_command", reading)),
        gate(reads(case("command-read", "reads", none))),
        gate(case("command-idempotent", "puts", none)),
        gate(case("command-probe", "writes", none)),
        undone(doubtful(case("command-undo", "writes", none))),
        gate(doubtful(case("command-write", "blind", none))),
        gate(doubtful(case("command-irreversible", "final", none))),
        gate(case("command-bare", "bare", none)),
        reads(case("git_status", "git_status", none)),
        undone(case("git_commit", "git_commit", commit)),
        doubtful(case("git_push", "git_push", push)),
        mcp(reads(case("mcp-read", "book__look", none))),
        mcp(case("mcp-idempotent", "book__put", none)),
        mcp(doubtful(case("mcp-write", "book__write", none))),
    ]
}

/// Where one run happens.
#[derive(Clone, Serialize, Deserialize)]
struct Ground {
    dir: PathBuf,
    /// What the servers of the world know it by.
    name: String,
    http: u16,
    smtp: u16,
}

/// What a child is to do.
#[derive(Serialize, Deserialize)]
struct Order {
    ground: Ground,
    case: String,
    place: Place,
}

pub(crate) fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

impl Ground {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A place for one run of a case.
    fn new(case: &Case, what: &str, root: &Path, world: &World) -> Self {
        let name = format!("{}-{what}", case.name);
        let ground = Self { dir: root.join(&name), name, http: world.http, smtp: world.smtp };
        ground.make(case);
        ground
    }

    /// Everything as it is before the run.
    fn make(&self, case: &Case) {
        for directory in ["work", "scratch", "book"] {
            std::fs::create_dir_all(self.path(directory)).unwrap();
        }
        std::os::unix::fs::symlink(HELPER, self.path("helper")).unwrap();
        for file in ["book/lines", "work/effects"] {
            std::fs::write(self.path(file), "").unwrap();
        }
        std::fs::write(self.path("work/add.sh"), SCRIPT).unwrap();
        if case.tool.starts_with("sqlite") {
            let database = rusqlite::Connection::open(self.path("work/a.db")).unwrap();
            let sql = "CREATE TABLE counts (id INTEGER PRIMARY KEY, n); INSERT INTO counts VALUES (1, 0); \
                       CREATE TABLE keyless (x)";
            database.execute_batch(sql).unwrap();
        }
        if case.tool.starts_with("git") {
            let work = self.path("work");
            git(&work, &["init", "--quiet", "--initial-branch=main"]);
            git(&work, &["config", "user.name", "A Person"]);
            git(&work, &["config", "user.email", "person@example.com"]);
            git(&work, &["commit", "--quiet", "--allow-empty", "-m", "First"]);
            std::fs::write(self.path("work/new.txt"), "new\n").unwrap();
            git(&self.dir, &["init", "--quiet", "--bare", "bare.git"]);
            git(&self.path("bare.git"), &["config", "core.logAllRefUpdates", "true"]);
        }
    }

    fn lines(&self, name: &str) -> usize {
        std::fs::read_to_string(self.path(name)).map_or(0, |text| text.lines().count())
    }

    /// How often the effect stands now, and how often something was changed on the way.
    fn seen(&self, case: &Case, world: &World) -> (usize, usize) {
        let same = |count: usize| (count, count);
        match case.tool {
            "sqlite_query" | "sqlite_execute" => self.seen_in_database(case.name),
            "git_status" | "git_commit" => {
                let commits = git(&self.path("work"), &["rev-list", "--count", "main"]);
                let moves = self.lines("work/.git/logs/refs/heads/main") - 1;
                (commits.trim().parse::<usize>().unwrap() - 1, moves)
            }
            "git_push" => same(self.lines("bare.git/logs/refs/heads/main")),
            tool if tool.starts_with("book") => same(self.lines("book/lines")),
            _ if case.killer == Killer::Server => same(world.done(&self.name).len()),
            _ => (self.lines("work/effects"), self.lines("work/effects") + 2 * self.lines("work/undone")),
        }
    }

    fn seen_in_database(&self, case: &str) -> (usize, usize) {
        let database = rusqlite::Connection::open(self.path("work/a.db")).unwrap();
        let sql = match case {
            "sqlite_execute-keyless" => "SELECT count(*) FROM keyless",
            "sqlite_execute-schema" => "SELECT count(*) FROM sqlite_schema WHERE name = 'made'",
            _ => "SELECT n FROM counts",
        };
        let stands: u32 = database.query_row(sql, [], |row| row.get(0)).unwrap();
        drop(database);
        // How often a transaction has changed the file; three made it.
        let bytes = std::fs::read(self.path("work/a.db")).unwrap();
        let changes = u32::from_be_bytes(bytes[24..28].try_into().unwrap());
        (stands as usize, changes as usize - 3)
    }

    fn fifo(&self, name: &str) -> PathBuf {
        let path = self.path("work").join(name);
        let status = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(status.success());
        path
    }

    /// Waits until nothing that a killed process had started is there any more.
    fn settle(&self) {
        let helper = self.path("helper").display().to_string();
        let begins = |pid: &str| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with(helper.as_bytes())
        };
        let is_there = || {
            let entries = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
            entries.into_iter().any(|name| begins(&name.to_string_lossy()))
        };
        while is_there() {
            std::thread::yield_now();
        }
        if let Ok(held) = File::open(self.path("book/held")) {
            held.lock().unwrap();
        }
    }

    /// The tool that a case is about.
    async fn tool(&self, case: &Case) -> Arc<dyn Tool> {
        let sandbox = Sandbox::new(self.path("helper"), Vec::<String>::new()).scratch(self.path("scratch"));
        let secret = |_: &str| Ok(Secret::new("secret"));
        let env = BTreeMap::new();
        let tools: Vec<Arc<dyn Tool>> = match case.tool {
            "http_get" | "http_request" | "http_request_keyed" => {
                let host = HostGrant {
                    private: true,
                    methods: vec![HttpMethod::Get, HttpMethod::Post],
                    keyed: if case.tool == "http_request_keyed" {
                        vec![HttpMethod::Post]
                    } else {
                        Vec::new()
                    },
                    ..HostGrant::new(format!("http://127.0.0.1:{}", self.http))
                };
                let grant = HttpGrant { hosts: vec![host], ..HttpGrant::default() };
                http_tools(&grant, &secret, &Network::system()).unwrap()
            }
            "send_email" => {
                let grant = json!({
                    "server": "127.0.0.1", "port": self.smtp, "tls": "none", "from": "agent@example.com",
                    "recipients": ["*@team.test"],
                });
                vec![mail_tool(&serde_json::from_value(grant).unwrap(), &secret).unwrap()]
            }
            "sqlite_query" | "sqlite_execute" => {
                let grant = SqliteGrant { files: vec!["*.db".into()], write: true, ..SqliteGrant::default() };
                sqlite_tools(&grant).unwrap()
            }
            "run_command" | "read_command" => {
                let grant = ShellGrant {
                    allow: vec!["sh add.sh".into()],
                    read: vec!["cat effects".into()],
                    ..ShellGrant::default()
                };
                let tools = Shell::tools(&grant, &sandbox, &env).unwrap();
                tools.into_iter().map(|tool| Arc::new(tool) as Arc<dyn Tool>).collect()
            }
            "git_status" | "git_commit" | "git_push" => {
                let url = self.path("bare.git").to_str().unwrap().to_owned();
                let push =
                    PushGrant { name: "there".into(), url, branches: vec!["main".into()], token: None };
                let grant = GitGrant { commit: true, push: vec![push], ..GitGrant::default() };
                backstop_tools::git::tools(&grant, &sandbox, &BTreeMap::new()).unwrap()
            }
            tool if tool.starts_with("book") => self.book().connect().await.tools,
            name => {
                let tool = CommandTool::new(command(name), &sandbox, &env, BTreeMap::new()).unwrap();
                vec![Arc::new(tool)]
            }
        };
        tools.into_iter().find(|tool| tool.spec().name == case.tool).unwrap()
    }

    fn book(&self) -> McpServer {
        let class = |class: &str, effect: &str| json!({"class": class, "effect": effect});
        let grant: McpGrant = serde_json::from_value(json!({
            "command": mcp_server::command(),
            "env": BTreeMap::from([
                mcp_server::mode("keeps a book"),
                (mcp_server::BOOK.to_owned(), self.path("book").display().to_string()),
            ]),
            "tools": {
                "look": class("read", "read"),
                "put": class("idempotent", "external"),
                "write": class("write", "external"),
            },
        }))
        .unwrap();
        let pins = Arc::new(PinFile::at(self.path("pins.json")));
        McpServer::new("book", grant, &|_| None, Launch::direct(), pins).unwrap()
    }
}

/// A command as a tool, one for each class.
fn command(name: &str) -> CommandGrant {
    let more = match name {
        "reads" => json!({"class": "read", "effect": "read", "run": ["sh", "-c", LOOKS]}),
        "puts" => json!({"class": "idempotent", "run": ["sh", "-c", KEYED, "sh", "{key}"]}),
        "writes" => json!({
            "probe": ["grep", "-q", "line", "effects"],
            "undo": ["sh", "-c", "sed -i /line/d effects && echo undone >> undone"],
        }),
        "blind" => json!({}),
        "final" => json!({"class": "irreversible"}),
        "bare" => json!({"sandboxed": false, "probe": ["grep", "-q", "line", "effects"]}),
        _ => unreachable!(),
    };
    let mut grant = json!({"name": name, "description": "x", "run": ["sh", "add.sh"], "effect": "write"});
    grant.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(grant).unwrap()
}

/// Where this process kills itself, and how long its effects took.
struct Kill {
    place: Place,
    effects: AtomicUsize,
    took: Mutex<Vec<Duration>>,
}

impl Kill {
    fn at(place: Place) -> Arc<Self> {
        Arc::new(Self { place, effects: AtomicUsize::new(0), took: Mutex::default() })
    }

    fn reach(&self, place: Place) {
        if self.place == place {
            die();
        }
    }
}

fn die() {
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
    // The signal is on its way; nothing more happens in this process.
    loop {
        std::hint::spin_loop();
    }
}

/// A tool around which the process may die, and the one that takes it back.
struct Deadly {
    inner: Arc<dyn Tool>,
    kill: Arc<Kill>,
}

impl Tool for Deadly {
    fn spec(&self) -> ToolSpec {
        self.inner.spec()
    }

    fn declaration(&self) -> &Declaration {
        self.inner.declaration()
    }

    fn plan<'a>(
        &'a self,
        args: &'a Value,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<Plan, ToolError>> {
        self.inner.plan(args, context)
    }

    fn run<'a>(
        &'a self,
        job: &'a Job,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(async move {
            let number = self.kill.effects.fetch_add(1, Ordering::SeqCst) + 1;
            self.kill.reach(Place::BeforeEffect(number));
            let killer = match self.kill.place {
                Place::During(of, micros) if of == number => Some(std::thread::spawn(move || {
                    let (_nobody, never) = mpsc::channel::<()>();
                    let _ = never.recv_timeout(Duration::from_micros(micros));
                    die();
                })),
                _ => None,
            };
            let begun = Instant::now();
            let done = self.inner.run(job, context).await;
            self.kill.took.lock().unwrap().push(begun.elapsed());
            if let Some(killer) = killer {
                // The effect may be quicker than its killer; it gets no further.
                killer.join().unwrap();
            }
            self.kill.reach(Place::AfterEffect(number));
            done
        })
    }

    fn probe<'a>(&'a self, job: &'a Job, context: &'a ToolContext) -> BoxFuture<'a, Probe> {
        self.inner.probe(job, context)
    }

    fn undoing(&self) -> Option<Arc<dyn Tool>> {
        let inner = self.inner.undoing()?;
        Some(Arc::new(Self { inner, kill: Arc::clone(&self.kill) }))
    }

    fn rehearsal(&self) -> Rehearsal {
        self.inner.rehearsal()
    }
}

/// Called before an append, and after it, with its number from 1.
type Around = Arc<dyn Fn(usize) + Send + Sync>;

/// A journal that is looked at around each append.
struct Watched {
    inner: SqliteStore,
    before: Around,
    after: Around,
    appends: AtomicUsize,
}

impl Watched {
    fn deadly(ground: &Ground, kill: &Arc<Kill>) -> Self {
        let inner = SqliteStore::open(ground.path("journal.db"), StoreOptions::default()).unwrap();
        let (before, after) = (Arc::clone(kill), Arc::clone(kill));
        let hold = ground.path("work/hold");
        Self {
            inner,
            before: Arc::new(move |number| {
                before.reach(Place::BeforeAppend(number));
                if before.place == Place::Held(number) {
                    std::fs::read(&hold).unwrap();
                }
            }),
            after: Arc::new(move |number| after.reach(Place::AfterAppend(number))),
            appends: AtomicUsize::new(0),
        }
    }
}

impl Journal for Watched {
    fn append(&self, append: Append) -> BoxFuture<'static, Result<Head, JournalError>> {
        let number = self.appends.fetch_add(1, Ordering::SeqCst) + 1;
        (self.before)(number);
        let done = self.inner.append(append);
        let after = Arc::clone(&self.after);
        Box::pin(async move {
            let head = done.await?;
            after(number);
            Ok(head)
        })
    }

    fn read(&self, stream: &StreamId, after: Seq) -> BoxFuture<'_, Result<Vec<Event>, JournalError>> {
        self.inner.read(stream, after)
    }

    fn tail(&self, after: Position, limit: usize) -> BoxFuture<'_, Result<Vec<Event>, JournalError>> {
        self.inner.tail(after, limit)
    }

    fn runs(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunSummary>, JournalError>> {
        self.inner.runs(filter)
    }

    fn claim(&self, run: &RunId, at: Timestamp) -> BoxFuture<'_, Result<Epoch, JournalError>> {
        self.inner.claim(run, at)
    }

    fn release(&self, run: &RunId, epoch: Epoch) -> BoxFuture<'_, Result<(), JournalError>> {
        self.inner.release(run, epoch)
    }

    fn verify(&self, stream: &StreamId) -> BoxFuture<'_, Result<Head, JournalError>> {
        self.inner.verify(stream)
    }
}

/// The time of day.
pub(crate) struct Wall;

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        Timestamp::EPOCH + SystemTime::UNIX_EPOCH.elapsed().unwrap()
    }
}

/// A model that calls the tool of the case, and finishes.
pub(crate) struct Script(pub(crate) Vec<Block>);

impl Model for Script {
    fn call<'a>(&'a self, call: Call, _: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        let spoken = call.request.messages.iter().filter(|it| it.speaker == Speaker::Assistant).count();
        let content = vec![self.0[spoken].clone()];
        Box::pin(async move {
            Ok(Reply {
                id: "m".into(),
                model: "scripted".into(),
                content,
                stop: StopReason::ToolUse,
                usage: Usage { input_tokens: 10, output_tokens: 5, ..Usage::default() },
                first_token: None,
                request_id: None,
                limits: LimitHint::default(),
                attempts: Vec::new(),
                other: serde_json::Map::new(),
                told: None,
                lost: Vec::new(),
            })
        })
    }
}

pub(crate) fn use_of(id: &str, name: &str, input: Value) -> Block {
    Block::ToolUse { id: id.into(), name: name.into(), input, cache: None }
}

/// An agent with the tool of a case.
async fn agent(ground: &Ground, case: &Case, journal: Arc<dyn Journal>, kill: &Arc<Kill>) -> Agent {
    let mut tools = Toolbox::new();
    tools.add(Deadly { inner: ground.tool(case).await, kill: Arc::clone(kill) }).unwrap();
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
            let said = Said { approval, answer: Answer::Approve, by: "owner", channel: "terminal" };
            agent.answer(run, said).await.unwrap();
        }
        for doubt in &outcome.in_doubt {
            let (ground, world) = world.expect("only a crash leaves something in doubt");
            let decision = verdict(ground, case, world, &doubt.call);
            let verdict = Verdict { call: &doubt.call, decision, result: Some("done"), by: "owner" };
            agent.resolve(run, verdict).await.unwrap();
            doubts += 1;
        }
        outcome = agent.resume(run, None).await.unwrap();
    }
    assert_eq!(outcome.status, RunStatus::Done, "{outcome:?}");
    while case.undo {
        let undone = agent.undo(run, None).await.unwrap();
        let [one] = &undone[..] else { panic!("{undone:?}") };
        match &one.outcome {
            UndoOutcome::Done(_) | UndoOutcome::Already => break,
            UndoOutcome::InDoubt(_) => {}
            other => panic!("{other:?}"),
        }
        let (ground, world) = world.expect("only a crash leaves something in doubt");
        let decision = verdict(ground, case, world, "undo:call");
        let verdict = Verdict { call: "undo:call", decision, result: Some("done"), by: "owner" };
        agent.resolve(run, verdict).await.unwrap();
        doubts += 1;
    }
    doubts
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
    let journal: Arc<dyn Journal> = Arc::new(Watched::deadly(&ground, &kill));
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
    let journal = Arc::new(Watched::deadly(ground, &kill));
    let agent = agent(ground, case, Arc::clone(&journal) as Arc<dyn Journal>, &kill).await;
    let run = agent.create(task(ground, case)).await.unwrap();
    assert_eq!(carry_on(&agent, &run, case, None).await, 0);
    assert_eq!(ground.seen(case, world), case.want, "{}", case.name);
    check(&*journal, &run, case.name).await;
    let took = kill.took.lock().unwrap().clone();
    (journal.appends.load(Ordering::SeqCst), took)
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
    let journal = Arc::new(Watched::deadly(ground, &kill));
    let agent = agent(ground, case, Arc::clone(&journal) as Arc<dyn Journal>, &kill).await;
    let runs = journal.runs(RunFilter::default()).await.unwrap();
    let run = match runs.first() {
        Some(summary) => summary.run.clone(),
        // Only a run that was never acknowledged is gone.
        None => {
            assert!(name.ends_with("BeforeAppend(1)"), "{name}: the run is lost");
            agent.create(task(ground, case)).await.unwrap()
        }
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
