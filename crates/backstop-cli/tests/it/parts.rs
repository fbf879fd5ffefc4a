//! Agents that give parts of a task to others, by the binary alone; and runs that ask, are answered over HTTP, and are carried
//! through by the gateway with all their tools.

use super::kit::{Done, Place, until};
use super::serving::Serving;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// A lead, who may write nowhere but in docs/, and a writer with a command of the owner's.
const AGENTS: &str = r#"
[agents.lead]
tools = ["delegate", "read_file"]
[agents.writer]
description = "writes notes"
tools = ["write_file", "put_note", "read_file"]
[roles.lead.tools]
delegate = { args = { agent = ["writer"] } }
read_file = {}
put_note = {}
write_file = { args = { path = ["docs/**"] } }

[commands.put_note]
description = "Keeps a note."
run = ["sh", "note.sh", "{text}"]
[commands.put_note.arguments]
type = "object"
properties = { text = { type = "string" } }
required = ["text"]
additionalProperties = false
"#;

fn place() -> Place {
    let place = Place::new();
    place.write("backstop.toml", AGENTS);
    place.write("work/note.sh", "echo \"$1\" >> notes.txt\n");
    place
}

fn call(tool: &str, args: &Value) -> String {
    format!("Call {tool} with {args}.")
}

/// A task that gives this one to the writer.
fn for_writer(task: &str) -> String {
    call("delegate", &json!({"agent": "writer", "task": task}))
}

fn begin(place: &Place, agent: &str, more: &[&str], task: &str) -> Value {
    let args = ["run", "--agent", agent, "--model", "sim", "--workspace", "work", "--json", "--quiet"];
    let done = place.run(&[&args[..], more, &[task]].concat());
    parsed(&done)
}

/// What a command printed, which must be JSON.
fn parsed(done: &Done) -> Value {
    let value = serde_json::from_str(&done.out);
    assert!(value.is_ok(), "{}", done.shown());
    value.unwrap()
}

fn notes(place: &Place) -> Option<String> {
    std::fs::read_to_string(place.path().join("work/notes.txt")).ok()
}

#[test]
fn a_part_is_done_within_the_rights_of_both_asked_about_and_taken_back() {
    let place = place();
    let writes = |path: &str| call("write_file", &json!({"path": path, "content": "x\n"}));
    let done = begin(&place, "lead", &[], &for_writer(&writes("docs/a.md")));
    assert_eq!(done["status"], "done", "{done:#}");
    assert_eq!(place.read("work/docs/a.md"), "x\n");
    let id = done["run"].as_str().unwrap().to_owned();
    let shown = place.run(&["show", &id[..12], "--json"]);
    let shown = parsed(&shown);
    assert_eq!(shown["summary"]["run"], json!(id), "the beginning of its id is the parent's");
    let story = place.run(&["show", &id]).out;
    let part = story.split("the part of writer is run ").nth(1).unwrap().lines().next().unwrap();
    let part = place.run(&["show", part]).out;
    assert!(part.contains(&format!("part of    {id}\n")) && part.contains("write_file docs/a.md"), "{part}");
    let tools = place.run(&["tools"]).out;
    assert!(tools.contains("delegate"), "{tools}");
    let undone = place.run(&["undo", &id]);
    assert_eq!(undone.code, 0, "{}", undone.shown());
    assert!(!place.path().join("work/docs/a.md").exists());

    begin(&place, "lead", &[], &for_writer(&writes("src/a.md")));
    assert!(
        !place.path().join("work/src/a.md").exists(),
        "the lead may not write there, so nor may its writer"
    );

    // The question is the writer's, and whoever resumes either goes on with both.
    for of_child in [false, true] {
        let begun = begin(&place, "lead", &[], &for_writer(&call("put_note", &json!({"text": "kept"}))));
        assert_eq!((&begun["status"], &begun["code"]), (&json!("parked"), &json!("BS5012")), "{begun:#}");
        let open = place.run(&["approvals", "--json"]);
        let open: Value = serde_json::from_str(&open.out).unwrap();
        assert_eq!(open[0]["tool"], "put_note", "{open:#}");
        let (child, parent) = (open[0]["run"].as_str().unwrap(), begun["run"].as_str().unwrap());
        assert!(child.starts_with(&format!("{parent}-")), "{child}");
        assert_eq!(place.run(&["approvals", "approve", open[0]["approval"].as_str().unwrap()]).code, 0);
        let done = place.run(&["resume", if of_child { child } else { parent }]);
        assert_eq!(done.code, 0, "{}", done.shown());
        let over = place.run(&["resume", parent]);
        assert!(over.err.contains("error[BS5009]"), "{}", over.shown());
    }
    assert_eq!(notes(&place).as_deref(), Some("kept\nkept\n"));
}

#[test]
fn the_plan_of_a_part_stands_in_the_plan() {
    let place = place();
    let task = for_writer(&call("write_file", &json!({"path": "docs/a.md", "content": "x\n"})));
    let args = ["run", "--agent", "lead", "--model", "sim", "--workspace", "work", "--dry-run", &task];
    let planned = place.run(&args);
    assert_eq!(planned.code, 0, "{}", planned.shown());
    assert!(
        planned.out.contains("delegate") && planned.out.contains("    make docs/a.md"),
        "{}",
        planned.shown()
    );
    assert!(!place.path().join("work/docs").exists());
    // The newest run is the writer's; the one that it begins with is the plan.
    let run = place.newest_run().split('-').next().unwrap().to_owned();
    let as_json = place.run(&["apply", &run, "--dry-run", "--json"]);
    let steps: Value = serde_json::from_str(&as_json.out).unwrap();
    let tools: Vec<_> = steps["steps"].as_array().unwrap().iter().map(|step| &step["tool"]).collect();
    assert_eq!(json!(tools), json!(["delegate", "write_file"]));
    let applied = place.run(&["apply", &run]);
    assert_eq!(applied.code, 0, "{}", applied.shown());
    assert_eq!(place.read("work/docs/a.md"), "x\n");
}

/// One request with a key.
fn http(addr: SocketAddr, method: &str, path: &str, key: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: g\r\nx-api-key: {key}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn a_run_that_is_answered_over_http_is_carried_through_with_its_tools() {
    let place = place();
    let made = place.run(&["keys", "create", "anna", "--approver"]);
    let key = made.out.trim();
    let serving = Serving::start_with(&place, &["--model", "sim"]);
    let waits = |from: SocketAddr| {
        until("a question", || {
            let (status, body) = http(from, "GET", "/api/v1/approvals", key);
            assert_eq!(status, 200, "{body}");
            let open: Value = serde_json::from_str(&body).unwrap();
            open["approvals"][0]["approval"].as_str().map(str::to_owned)
        })
    };
    let answered = |want: &str| {
        let id = waits(serving.addr);
        let (status, body) = http(serving.addr, "POST", &format!("/api/v1/approvals/{id}/approve"), key);
        assert_eq!(status, 200, "{body}");
        until("the note", || (notes(&place)? == want).then_some(()));
    };
    let note = |text: &str| call("put_note", &json!({"text": text}));
    begin(&place, "writer", &[], &note("one"));
    answered("one\n");
    // The same where it is a part, and with a tool that the config has had since the gateway began.
    place.write("backstop.toml", AGENTS.replace("put_note", "keep_note"));
    serving.signal(Signal::HUP);
    serving.says("the config was read anew");
    let task = for_writer(&call("keep_note", &json!({"text": "two"})));
    let begun = begin(&place, "lead", &[], &task);
    answered("one\ntwo\n");
    let run = begun["run"].as_str().unwrap();
    until("the end of the lead's run", || {
        let done = place.run(&["show", run, "--json"]);
        let shown: Value = serde_json::from_str(&done.out).ok()?;
        (shown["summary"]["status"] == "done").then_some(())
    });
    serving.stop(&place);
}
