//! Each tool of the config through the whole program: the gate asks, a person says yes, the run goes on, it happened once, and
//! it is taken back where it can be. A secret that a tool is given is seen nowhere.

use super::kit::{Done, Place};
use super::provider::Scripted;
use backstop_sim::MailServer;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::process::Command;

/// A secret that the config names by where it is.
const CANARY: &str = "canary-v7Qm4Tz8Rw+Lp2";

/// A place with an agent that has these tools, in a workspace beside the config.
pub(crate) fn place(tools: &[&str], config: &str) -> Place {
    let place = Place::new();
    let tools = json!(tools);
    place.write("backstop.toml", format!("{config}\n[agents.a]\ntools = {tools}\n"));
    std::fs::create_dir(place.path().join("work")).unwrap();
    place
}

/// Runs a command with the secret in its environment; it must not be printed.
pub(crate) fn run(place: &Place, args: &[&str]) -> Done {
    let done = place.done(&place.command(args).env("CANARY", CANARY).output().unwrap());
    assert!(!done.out.contains(CANARY) && !done.err.contains(CANARY), "{}", done.shown());
    done
}

/// Gives the agent a task of these calls, and shows how the run stands then.
pub(crate) fn begin(place: &Place, calls: &[(&str, Value)]) -> Value {
    let task = calls.iter().fold(String::new(), |mut task, (tool, args)| {
        write!(task, "Call {tool} with {args}. ").unwrap();
        task
    });
    let args = ["run", "--agent", "a", "--model", "sim", "--workspace", "work", "--json", "--quiet", &task];
    let done = run(place, &args);
    parsed(&done)
}

/// What a command printed, which must be JSON.
fn parsed(done: &Done) -> Value {
    let value = serde_json::from_str(&done.out);
    assert!(value.is_ok(), "{}", done.shown());
    value.unwrap()
}

/// What is asked, which must be one thing about this tool.
pub(crate) fn asked(place: &Place, tool: &str) -> Value {
    let done = run(place, &["approvals", "--json"]);
    let all: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!((all.as_array().unwrap().len(), &all[0]["tool"]), (1, &json!(tool)), "{all:#}");
    all[0].clone()
}

/// Says yes to it, and lets the run go on to its end.
pub(crate) fn approve(place: &Place, question: &Value) -> Value {
    let yes = run(place, &["approvals", "approve", question["approval"].as_str().unwrap()]);
    assert_eq!(yes.code, 0, "{}", yes.shown());
    let id = question["run"].as_str().unwrap();
    let done = run(place, &["resume", id, "--json", "--quiet"]);
    let result = parsed(&done);
    assert_eq!(result["status"], "done", "{result:#}\n{}", place.run(&["show", id, "--full"]).out);
    let again = run(place, &["resume", id]);
    assert!(again.err.contains("error[BS5009]"), "a run that is over went on: {}", again.shown());
    result
}

pub(crate) fn undo(place: &Place, question: &Value) {
    let undone = run(place, &["undo", question["run"].as_str().unwrap()]);
    assert_eq!(undone.code, 0, "{}", undone.shown());
}

/// Looks for the secret in every byte that was kept, and in every way to show it.
fn nothing_is_kept(place: &Place) {
    let id = place.newest_run();
    for args in [&["show", &id, "--full"][..], &["show", &id, "--json"], &["logs"], &["audit", "export"]] {
        run(place, args);
    }
    for (path, bytes) in place.files(".backstop") {
        let found = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
        assert!(!found, "{} holds the secret", path.display());
    }
}

#[test]
fn a_command_asks_and_runs_once() {
    let config = "[tools.shell]\nallow = [\"sh append.sh *\"]\nread = [\"cat *\"]\n";
    let place = place(&["run_command", "read_command"], config);
    place.write("work/append.sh", "echo \"$1\" >> log.txt\n");
    let calls = [
        ("run_command", json!({"command": "sh append.sh once"})),
        ("read_command", json!({"command": "cat log.txt"})),
    ];
    let begun = begin(&place, &calls);
    assert_eq!((&begun["status"], &begun["code"]), (&json!("parked"), &json!("BS5012")), "{begun:#}");
    assert!(!place.path().join("work/log.txt").exists(), "it ran before anybody said yes");
    let question = asked(&place, "run_command");
    let preview = question["preview"].as_str().unwrap();
    assert!(preview.starts_with("$ sh append.sh once\n"), "{preview}");
    let done = approve(&place, &question);
    assert_eq!(place.read("work/log.txt"), "once\n");
    assert!(done["result"].to_string().contains("stdout:\\nonce"), "{done:#}");
}

#[test]
fn what_is_denied_does_not_happen_and_the_model_is_told_why() {
    let place = place(&["run_command"], "[tools.shell]\nallow = [\"touch *\"]\n");
    begin(&place, &[("run_command", json!({"command": "touch made"}))]);
    let question = asked(&place, "run_command");
    let id = question["approval"].as_str().unwrap();
    assert_eq!(run(&place, &["approvals", "deny", id, "--reason", "not on a Friday"]).code, 0);
    let done = run(&place, &["resume", question["run"].as_str().unwrap(), "--json", "--quiet"]);
    assert!(done.out.contains("not on a Friday"), "{}", done.shown());
    assert!(!place.path().join("work/made").exists());
}

#[test]
fn a_command_of_ones_own_gets_its_secret_and_is_taken_back() {
    let config = r#"
[commands.put_note]
description = "Keeps a note."
run = ["sh", "note.sh", "{text}"]
undo = ["rm", "{result.file}"]
secrets = { TOKEN = "env:CANARY" }
[commands.put_note.arguments]
type = "object"
required = ["text"]
properties = { text = { type = "string" } }
"#;
    let place = place(&["put_note"], config);
    place.write(
        "work/note.sh",
        "echo \"$1\" >> note.txt; echo \"$TOKEN\" | wc -c > length; echo \"{\\\"file\\\": \\\"note.txt\\\", \\\"by\\\": \\\"$TOKEN\\\"}\"\n",
    );
    begin(&place, &[("put_note", json!({"text": "buy ink; rm -rf ."}))]);
    let question = asked(&place, "put_note");
    let preview = question["preview"].as_str().unwrap();
    assert!(preview.contains("TOKEN is the secret env:CANARY"), "{preview}");
    approve(&place, &question);
    assert_eq!(place.read("work/note.txt"), "buy ink; rm -rf .\n");
    assert_eq!(place.read("work/length").trim(), (CANARY.len() + 1).to_string(), "it got the secret");
    undo(&place, &question);
    assert!(!place.path().join("work/note.txt").exists());
    nothing_is_kept(&place);
}

#[test]
fn a_change_of_a_database_is_shown_made_once_and_taken_back() {
    let config = "[tools.sqlite]\nfiles = [\"*.db\"]\nwrite = true\n[[gates]]\nname = \"books\"\nthen = \"ask\"\ntools = [\"sqlite_execute\"]\n";
    let place = place(&["sqlite_query", "sqlite_execute"], config);
    let open = || Connection::open(place.path().join("work/shop.db")).unwrap();
    open()
        .execute_batch("CREATE TABLE stock (id INTEGER PRIMARY KEY, n INTEGER); INSERT INTO stock VALUES (1, 10), (2, 20);")
        .unwrap();
    let left = || open().query_row("SELECT sum(n) FROM stock", [], |row| row.get::<_, i64>(0)).unwrap();
    let change = json!({"sql": "UPDATE stock SET n = n - ? WHERE id = ?", "params": [3, 1]});
    let calls = [
        ("sqlite_execute", json!({"database": "shop.db", "statements": [change]})),
        ("sqlite_query", json!({"database": "shop.db", "sql": "SELECT n FROM stock WHERE id = 1"})),
    ];
    begin(&place, &calls);
    let question = asked(&place, "sqlite_execute");
    assert_eq!((left(), &question["reversible"]), (30, &json!(true)), "{question:#}");
    assert!(question["why"].as_str().unwrap().contains("`books`"), "{question:#}");
    approve(&place, &question);
    assert_eq!(left(), 27);
    undo(&place, &question);
    assert_eq!(left(), 30);
}

#[test]
fn a_request_goes_out_once_with_a_secret_that_nobody_sees() {
    // The server says back what it was sent, the secret too.
    let server = Scripted::start(|asked| Some((200, "text/plain", asked.head.clone())));
    let url = server.url();
    let config = format!(
        "[[tools.http.hosts]]\nhost = \"{url}\"\nprivate = true\nmethods = [\"GET\", \"POST\"]\nheaders = {{ x-token = \"env:CANARY\" }}\n"
    );
    let place = place(&["http_get", "http_request"], &config);
    let order = json!({"method": "POST", "url": format!("{url}/orders"), "body": "1 ink"});
    begin(&place, &[("http_request", order)]);
    let question = asked(&place, "http_request");
    assert_eq!((server.asked(), &question["reversible"]), (0, &json!(false)));
    let done = approve(&place, &question);
    assert_eq!(server.asked(), 1);
    let said = done["result"].to_string();
    assert!(said.contains("POST /orders") && said.contains("x-token"), "{said}");
    nothing_is_kept(&place);
}

#[test]
fn mail_goes_out_once_after_a_yes() {
    let server = MailServer::start().unwrap();
    let port = server.port();
    let config = format!(
        "[tools.email]\nserver = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\nfrom = \"agent@example.com\"\nrecipients = [\"*@example.com\"]\n"
    );
    let place = place(&["send_email"], &config);
    let mail = json!({"to": ["ann@example.com"], "subject": "Ink", "body": "It is here."});
    begin(&place, &[("send_email", mail)]);
    let question = asked(&place, "send_email");
    assert_eq!(server.mails(), []);
    let preview = question["preview"].as_str().unwrap();
    assert!(preview.contains("ann@example.com") && preview.contains("It is here."), "{preview}");
    approve(&place, &question);
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    let text = &mails[0].text;
    assert!(text.contains("Subject: Ink") && text.contains("It is here."), "{text}");
}

#[test]
fn a_commit_is_made_and_taken_back_and_a_push_goes_where_it_may() {
    let place = place(&[], "");
    let far = place.path().join("far.git");
    let config = format!(
        "[tools.git]\ncommit = true\nauthor-name = \"Agent\"\nauthor-email = \"agent@example.com\"\nprograms = {{ write = [\"{0}\"] }}\n\
         [[tools.git.push]]\nname = \"origin\"\nurl = \"{0}\"\nbranches = [\"main\"]\n\
         [agents.a]\ntools = [\"git_status\", \"git_commit\", \"git_push\"]\n",
        far.display()
    );
    place.write("backstop.toml", config);
    let git = |args: &[&str]| {
        let done = Command::new("git")
            .args(["-c", "user.name=T", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"])
            .args(args)
            .current_dir(place.path().join("work"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "-q"]);
    git(&["init", "-q", "--bare", far.to_str().unwrap()]);
    place.write("work/a.md", "one\n");
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "First"]);
    let first = git(&["rev-parse", "HEAD"]);
    place.write("work/a.md", "two\n");
    // It can be taken back, and so it is not asked about.
    let begun = begin(&place, &[("git_commit", json!({"message": "Second", "paths": ["."]}))]);
    assert_eq!(begun["status"], "done", "{begun:#}");
    assert_eq!(git(&["log", "--format=%s by %an"]), "Second by Agent\nFirst by T");
    let run_id = place.newest_run();
    let undone = run(&place, &["undo", &run_id]);
    assert_eq!(undone.code, 0, "{}", undone.shown());
    assert_eq!((git(&["rev-parse", "HEAD"]), place.read("work/a.md")), (first.clone(), "two\n".to_owned()));

    begin(&place, &[("git_push", json!({"remote": "origin", "branch": "main"}))]);
    let question = asked(&place, "git_push");
    approve(&place, &question);
    assert_eq!(git(&["--git-dir", far.to_str().unwrap(), "rev-parse", "main"]), first);
}

#[test]
fn a_secret_that_is_not_there_stops_only_what_needs_it() {
    let config =
        "[commands.ping]\ndescription = \"Pings.\"\nrun = [\"true\"]\nsecrets = { TOKEN = \"file:gone\" }\n";
    let needs = place(&["ping"], config);
    let done =
        run(&needs, &["run", "--agent", "a", "--model", "sim", "--workspace", "work", "call ping with {}"]);
    assert_eq!(done.code, 2, "{}", done.shown());
    assert!(done.err.contains("error[BS1004]: `commands.ping`: gone cannot be read"), "{}", done.err);
    let does_not = place(&["list_files"], config);
    let begun = begin(&does_not, &[("list_files", json!({}))]);
    assert_eq!(begun["status"], "done", "{begun:#}");
}

#[test]
fn the_tools_are_listed_with_what_a_call_meets() {
    let config = r#"
[tools.shell]
allow = ["make *"]
read = ["ls *"]
[tools.http]
hosts = [{ host = "api.example.com" }]
[roles.clerk]
tools = { "read_*" = {}, "write_file" = { args = { path = ["docs/**"] }, when = "size(args.content) < 1000" } }
[[gates]]
name = "long texts"
then = "ask"
tools = ["write_file"]
when = "size(args.content) > 100"
[[gates]]
name = "no deleting"
then = "deny"
tools = ["delete_file"]
[mcp.files]
command = ["no-such-program"]
tools = { look = { class = "read", effect = "read" } }
"#;
    let place = place(&["read_file"], config);
    let all: Value = serde_json::from_str(&run(&place, &["tools", "--json"]).out).unwrap();
    let rows: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let word = |key: &str| one[key].as_str().unwrap_or("-").to_owned();
            format!(
                "{} {} {} {} {}",
                word("tool"),
                word("class"),
                word("effect"),
                one["reversible"],
                word("call")
            )
        })
        .collect();
    let want = [
        "delete_file write write true is refused",
        "edit_file write write true runs",
        "list_files read read false runs",
        "move_file write write true runs",
        "read_file read read false runs",
        "search_files read read false runs",
        "write_file write write true runs",
        "delegate idempotent write true runs",
        "submit_task idempotent write true runs",
        "run_command write write false asks",
        "read_command read read false runs",
        "http_get read external false runs",
        "files__look read read false runs",
    ];
    assert_eq!(rows, want);
    let table = run(&place, &["tools"]);
    assert_eq!(table.out.lines().count(), want.len() + 1, "{}", table.shown());
    let one = run(&place, &["tools", "write_file"]);
    for part in [
        "a call       runs; a condition decides first in: long texts",
        "role         clerk: path fits docs/**; only when size(args.content) < 1000",
        "\"additionalProperties\": false",
    ] {
        assert!(one.out.contains(part), "{part}:\n{}", one.out);
    }
    let json: Value = serde_json::from_str(&run(&place, &["tools", "delete_file", "--json"]).out).unwrap();
    assert_eq!(json["roles"], json!([{"role": "clerk", "has": false, "constraints": []}]));
    let wrong = run(&place, &["tools", "write_fil"]);
    assert_eq!(wrong.code, 2, "{}", wrong.shown());
    assert!(wrong.err.contains("did you mean `write_file`?"), "{}", wrong.err);
}
