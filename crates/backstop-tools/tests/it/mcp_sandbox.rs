//! MCP servers in the sandbox: what they may, what they may not, and how they end. The server is [`super::mcp_server`].

use super::kit::Room;
use super::mcp::{call, server, tool};
use super::mcp_server;
use super::sandbox::sandbox;
use backstop_agent::ToolError;
use backstop_tools::mcp::{Launch, McpGrant, McpReport, McpServer, PinFile};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};

/// A server that tries things, with these grants besides its own program.
fn grant(more: &Value) -> McpGrant {
    let mut grant = json!({
        "command": mcp_server::command(),
        "env": BTreeMap::from([mcp_server::mode("tries what it may")]),
        "tools": {"attempt": {"class": "read", "effect": "read"}},
        "programs": {"read": [mcp_server::place()]},
    });
    for (key, value) in more.as_object().unwrap() {
        match (grant.get_mut(key), value) {
            (Some(Value::Object(has)), Value::Object(more)) => has.extend(more.clone()),
            _ => grant[key] = value.clone(),
        }
    }
    serde_json::from_value(grant).unwrap()
}

async fn attempt(room: &Room, report: &McpReport, what: &str, at: &str) -> Result<String, ToolError> {
    call(room, &tool(report, "attempt"), json!({"what": what, "at": at})).await
}

async fn attempted(room: &Room, grant: McpGrant, tries: &[(&str, &str)]) -> Vec<String> {
    let report = server("bad", grant, room.path()).connect().await;
    let mut found = Vec::new();
    for (what, at) in tries {
        found.push(attempt(room, &report, what, at).await.unwrap());
    }
    found
}

#[tokio::test]
async fn a_server_reaches_what_it_was_granted_and_nothing_else() {
    let room = Room::new(&[("in/a", "a"), ("in/.git/config", "c"), ("own/b", "b"), ("out/c", "c")]);
    let path = |name: &str| room.path().canonicalize().unwrap().join(name);
    let text = |name: &str| path(name).display().to_string();
    let (a, b, c, new, config) =
        (text("in/a"), text("own/b"), text("out/c"), text("in/new"), text("in/.git/config"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let tries = [
        ("where", ""),
        ("read", &a[..]),
        ("write", &new),
        ("write", &a),
        ("write", &config),
        ("read", &b),
        ("write", &b),
        ("read", &c),
        ("read", "/etc/shadow"),
        ("connect", &address),
    ];
    let read = vec![mcp_server::place(), path("in")];
    let (no, closed) = ("permission denied", "read-only filesystem or storage medium");
    let rows = [
        (json!({}), ["/", no, closed, closed, closed, no, closed, no, no, no]),
        (
            json!({"directory": path("own")}),
            [&text("own"), no, closed, closed, closed, "b", closed, no, no, no],
        ),
        (json!({"programs": {"read": read}}), ["/", "a", closed, closed, closed, no, closed, no, no, no]),
        (
            json!({"directory": path("in"), "programs": {"write": [path("in")]}}),
            [&text("in"), "a", "written", "written", closed, no, closed, no, no, no],
        ),
        (
            json!({"programs": {"network": true}}),
            ["/", no, closed, closed, closed, no, closed, no, no, "connected"],
        ),
    ];
    for (more, want) in rows {
        let found = attempted(&room, grant(&more), &tries).await;
        assert_eq!(found, want, "{more}");
        std::fs::write(path("in/a"), "a").unwrap();
    }
    // Without a sandbox it may what this test may.
    let bare = grant(&json!({"sandboxed": false}));
    let found = attempted(&room, bare, &tries[1..]).await;
    assert_eq!(found[..3], ["a", "written", "written"]);
    assert_eq!(found[6], "c");
}

#[tokio::test]
async fn what_is_reserved_is_not_to_be_had_whatever_is_granted() {
    let room = Room::new(&[("in/a", "a"), ("in/key", "secret"), ("in/data/journal", "secret")]);
    let path = |name: &str| room.path().canonicalize().unwrap().join(name);
    let more = json!({"directory": path("in"), "programs": {"write": [path("in")]}});
    let tries = ["a", "key", "data/journal"].map(path_in(&room));
    for (reserved, wants) in
        [(vec![], [true; 3]), (vec![path("in/key"), path("in/data")], [true, false, false])]
    {
        let launch = Launch::new(sandbox()).reserving(&reserved);
        let pins = Arc::new(PinFile::at(room.path().join("pins.json")));
        let report = McpServer::new("bad", grant(&more), &|_| None, launch, pins).unwrap().connect().await;
        for (at, want) in tries.iter().zip(wants) {
            let said = attempt(&room, &report, "read", at).await.unwrap();
            assert_eq!(["a", "secret"].contains(&said.as_str()), want, "{at}: {said}");
        }
        attempt(&room, &report, "write", &tries[2]).await.unwrap();
        let kept = std::fs::read_to_string(path("in/data/journal")).unwrap();
        assert_eq!(kept == "secret", !wants[2], "{kept}");
        std::fs::write(path("in/data/journal"), "secret").unwrap();
    }
}

fn path_in(room: &Room) -> impl Fn(&str) -> String {
    let dir = room.path().canonicalize().unwrap();
    move |name| dir.join("in").join(name).display().to_string()
}

#[tokio::test]
async fn a_server_that_uses_up_too_much_is_ended_and_the_next_call_is_told() {
    let room = Room::new(&[("held", "")]);
    let held = room.path().canonicalize().unwrap().join("held");
    let more = json!({"programs": {"read": [mcp_server::place(), held], "limits": {"processes": 8}}});
    let report = server("bad", grant(&more), room.path()).connect().await;
    let held = held.display().to_string();
    let ended = loop {
        match attempt(&room, &report, "start", &held).await {
            Ok(said) => assert_eq!(said, "started"),
            Err(error) => break error,
        }
    };
    // It is ended between two calls, or in one.
    let ToolError::Failed(text) = ended else { panic!("{ended:?}") };
    assert!(text.contains("it had more processes and threads than it may"), "{text}");
    gone(Path::new(&held)).await;
}

#[tokio::test]
async fn a_server_dies_with_everything_it_started_and_leaves_nothing() {
    let room = Room::new(&[("held", ""), ("scratch/kept", "")]);
    let held = room.path().canonicalize().unwrap().join("held");
    let grant = grant(&json!({"programs": {"read": [mcp_server::place(), held]}}));
    let scratch = room.path().join("scratch");
    let launch = Launch::new(sandbox().scratch(&scratch));
    let pins = Arc::new(PinFile::at(room.path().join("pins.json")));
    let server = McpServer::new("bad", grant, &|_| None, launch, pins).unwrap();
    let report = server.connect().await;
    let started = attempt(&room, &report, "start", &held.display().to_string()).await;
    assert_eq!(started.as_deref(), Ok("started"));
    assert!(File::open(&held).unwrap().try_lock().is_err(), "what it started is there");
    let files = || std::fs::read_dir(&scratch).unwrap().count();
    assert_eq!(files(), 2);
    drop((server, report));
    gone(&held).await;
    until("its directory is removed", || files() == 1).await;
}

/// Waits until nobody holds a lock on a file any more.
async fn gone(held: &Path) {
    until("all that held the file are gone", || File::open(held).unwrap().try_lock().is_ok()).await;
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..500 {
        if is_so() {
            return;
        }
        pause.tick().await;
    }
    panic!("never: {what}");
}

/// Set in the process that is killed only: the file that its server holds.
const KILLED: &str = "BACKSTOP_TEST_MCP_HELD";

#[tokio::test]
async fn a_server_dies_with_the_process_that_started_it_however_that_ends() {
    if let Ok(held) = std::env::var(KILLED) {
        let room = Room::new(&[]);
        let more = json!({"programs": {"read": [mcp_server::place(), held]}});
        let report = server("bad", grant(&more), room.path()).connect().await;
        println!("\n!{}", attempt(&room, &report, "start", &held).await.unwrap());
        return std::future::pending().await;
    }
    let room = Room::new(&[("held", "")]);
    let held = room.path().canonicalize().unwrap().join("held");
    let name = "mcp_sandbox::a_server_dies_with_the_process_that_started_it_however_that_ends";
    let mut parent = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(KILLED, &held)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    while lines.next_line().await.unwrap().expect("it tells that it is there") != "!started" {}
    assert!(File::open(&held).unwrap().try_lock().is_err());
    parent.kill().await.unwrap();
    gone(&held).await;
}
