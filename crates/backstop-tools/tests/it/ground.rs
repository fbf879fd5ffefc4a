//! Where the runs that are killed happen: every tool of the crate with a place to act in, and what the world shows of it.

use crate::mcp_server;
use crate::world::World;
use backstop_agent::Tool;
use backstop_call::Secret;
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
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

const HELPER: &str = env!("CARGO_BIN_EXE_backstop-sandbox");
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

/// How the world kills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Killer {
    Nobody,
    /// A server on this machine.
    Server,
    /// The test, while the command waits at a gate.
    Gate,
    /// The MCP server kills the process that started it.
    Mcp,
}

/// A tool, and what is true of it.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) tool: &'static str,
    pub(crate) args: fn(&Ground) -> Value,
    pub(crate) killer: Killer,
    /// How often its effect stands in the end, and how often something was changed on the way.
    pub(crate) want: (usize, usize),
    /// Whether it is taken back after the run.
    pub(crate) undo: bool,
    /// Whether a crash may leave it in doubt.
    pub(crate) doubt: bool,
}

const fn case(name: &'static str, tool: &'static str, args: fn(&Ground) -> Value) -> Case {
    Case { name, tool, args, killer: Killer::Nobody, want: (1, 1), undo: false, doubt: false }
}

/// Every tool of the crate, in every class that it comes in.
pub(crate) fn cases() -> Vec<Case> {
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
        undone(case("command-undo-probe", "sure", none)),
        gate(doubtful(case("command-write", "blind", none))),
        gate(doubtful(case("command-irreversible", "final", none))),
        gate(case("command-bare", "bare", none)),
        reads(case("git_status", "git_status", none)),
        undone(case("git_commit", "git_commit", commit)),
        doubtful(case("git_push", "git_push", push)),
        mcp(reads(case("mcp-read", "book__look", none))),
        mcp(case("mcp-idempotent", "book__put", none)),
        case("mcp-sandboxed", "book__put", none),
        mcp(doubtful(case("mcp-write", "book__write", none))),
    ]
}

/// Where one run happens.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Ground {
    pub(crate) dir: PathBuf,
    /// What the servers of the world know it by.
    pub(crate) name: String,
    pub(crate) http: u16,
    pub(crate) smtp: u16,
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
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A place for one run of a case.
    pub(crate) fn new(case: &Case, what: &str, root: &Path, world: &World) -> Self {
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
    pub(crate) fn seen(&self, case: &Case, world: &World) -> (usize, usize) {
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
            _ => {
                // One line for what was done and one for what was taken back: each is one write, whole or not there.
                let text = std::fs::read_to_string(self.path("work/effects")).unwrap();
                let (all, undone) = (text.lines().count(), text.matches("undone").count());
                (all - 2 * undone, all)
            }
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

    pub(crate) fn fifo(&self, name: &str) -> PathBuf {
        let path = self.path("work").join(name);
        let status = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(status.success());
        path
    }

    /// Waits until nothing that a killed process had started is there any more.
    pub(crate) fn settle(&self) {
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

    /// Does what a person does who is told that git left a lock when it was killed: removes it. Whether there was one.
    pub(crate) fn unlock(&self) -> bool {
        let locks =
            ["work/.git/index.lock", "work/.git/refs/heads/main.lock", "bare.git/refs/heads/main.lock"];
        locks.iter().filter(|lock| std::fs::remove_file(self.path(lock)).is_ok()).count() > 0
    }

    /// The tool that a case is about.
    pub(crate) async fn tool(&self, case: &Case) -> Arc<dyn Tool> {
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
                let push = PushGrant {
                    name: "there".into(),
                    url,
                    branches: vec!["main".into()],
                    token: None,
                    authority: None,
                };
                let grant = GitGrant { commit: true, push: vec![push], ..GitGrant::default() };
                backstop_tools::git::tools(&grant, &sandbox, &BTreeMap::new()).unwrap()
            }
            tool if tool.starts_with("book") => {
                self.book(sandbox, case.killer != Killer::Mcp).connect().await.tools
            }
            name => {
                let tool = CommandTool::new(name, command(name), &sandbox, &env, BTreeMap::new()).unwrap();
                vec![Arc::new(tool)]
            }
        };
        tools.into_iter().find(|tool| tool.spec().name == case.tool).unwrap()
    }

    /// Who is to kill the process that started it has no sandbox: there it would find nobody.
    fn book(&self, sandbox: Sandbox, sandboxed: bool) -> McpServer {
        let class = |class: &str, effect: &str| json!({"class": class, "effect": effect});
        let grant: McpGrant = serde_json::from_value(json!({
            "command": mcp_server::command(),
            "sandboxed": sandboxed,
            "programs": {"read": [mcp_server::place()], "write": [self.path("book")]},
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
        McpServer::new("book", grant, &|_| None, Launch::new(sandbox), pins).unwrap()
    }
}

/// A command as a tool, one for each class.
fn command(name: &str) -> CommandGrant {
    let more = match name {
        "reads" => json!({"class": "read", "effect": "read", "run": ["sh", "-c", LOOKS]}),
        "puts" => json!({"class": "idempotent", "run": ["sh", "-c", KEYED, "sh", "{key}"]}),
        "writes" => json!({
            "probe": ["grep", "-q", "line", "effects"],
            "undo": ["sh", "-c", "echo undone >> effects"],
        }),
        "sure" => json!({
            "probe": ["grep", "-q", "line", "effects"],
            "undo": ["sh", "-c", "echo \"undone $1\" >> effects", "sh", "{key}"],
            "undo-probe": ["grep", "-qx", "undone {key}", "effects"],
        }),
        "blind" => json!({}),
        "final" => json!({"class": "irreversible"}),
        "bare" => json!({"sandboxed": false, "probe": ["grep", "-q", "line", "effects"]}),
        _ => unreachable!(),
    };
    let mut grant = json!({"description": "x", "run": ["sh", "add.sh"], "effect": "write"});
    grant.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(grant).unwrap()
}
