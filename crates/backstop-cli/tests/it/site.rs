//! The example in `examples/site/`: played through, and looked at from outside with what the demo itself says left aside.

use super::kit::{Done, Place, block_on, signal, until};
use backstop_journal::projections::queue::TaskState;
use backstop_journal::{EventBody, Journal, Queue, RunFilter, RunStatus, StreamId, TaskFilter, TaskSummary};
use backstop_store::{SqliteStore, StoreOptions};
use expect_test::expect;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command};

/// A page as it is published.
fn published(place: &Place, path: &str) -> String {
    let bare = place.path().join("website/published.git");
    let mut command = Command::new("git");
    let shown = command.arg("--git-dir").arg(bare).args(["show", &format!("main:{path}")]).output().unwrap();
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    String::from_utf8(shown.stdout).unwrap()
}

/// The words of a command in the directory that was played in.
fn there<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let home = ["--config", "website/backstop.toml", "--data-dir", "website/.backstop"];
    [args, &home].concat()
}

fn json_of(place: &Place, args: &[&str]) -> Value {
    let done = place.run(&there(args));
    let value = serde_json::from_str(&done.out);
    assert!(value.is_ok(), "{}", done.shown());
    value.unwrap()
}

fn store(place: &Place) -> SqliteStore {
    SqliteStore::open(place.path().join("website/.backstop/backstop.db"), StoreOptions::default()).unwrap()
}

/// Every call of these tools that was begun: agent, tool, and whether a person had said yes to it before.
fn begun(store: &SqliteStore) -> Vec<(String, String, bool)> {
    let mut all = Vec::new();
    for run in block_on(store.runs(RunFilter::default())).unwrap() {
        let events = block_on(store.read(&StreamId::Run(run.run), 0)).unwrap();
        for (at, event) in events.iter().enumerate() {
            let EventBody::ToolStarted(started) = &event.body else { continue };
            let tool = events.iter().find_map(|event| match &event.body {
                EventBody::ToolPlanned(planned) if planned.id == started.id => Some(planned.tool.clone()),
                _ => None,
            });
            let is_yes = |body: &EventBody| match body {
                EventBody::ApprovalDecided(decided) => {
                    decided.id == started.id && Some(&decided.approval) == started.approval.as_ref()
                }
                _ => false,
            };
            let asked = events[..at].iter().any(|event| is_yes(&event.body));
            let tool = tool.unwrap();
            if ["git_commit", "git_push", "send_email"].contains(&tool.as_str()) {
                all.push((run.agent.to_string(), tool, asked));
            }
        }
    }
    all.sort();
    all
}

/// A demo that stays open until it is asked to end, also by a test that has failed: it has a process of its own.
struct Playing(Option<Child>);

impl Playing {
    fn end(mut self, place: &Place) -> Done {
        let child = self.0.take().unwrap();
        signal(&child, Signal::TERM);
        place.end(child)
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            signal(&child, Signal::TERM);
            drop(child.wait());
        }
    }
}

#[test]
fn a_website_is_kept_by_its_agents() {
    let place = Place::new();
    let done = place.run(&["demo", "site", "--dir", "website", "--json"]);
    assert_eq!(done.code, 0, "{}", done.shown());
    let facts: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!((&facts["all_right"], &facts["wrong"]), (&json!(true), &json!([])), "{facts:#}");

    // The pages: the goals as tasks, done by the writer, reviewed, and published.
    let table = "| day | opens | closes |\n| --- | --- | --- |\n| Tuesday | 16:00 | 19:00 |\n| Thursday | 16:00 | 19:00 |\n\
                 | Saturday | 10:00 | 14:00 |\n";
    let hours = "# Opening hours\n\nTools are lent and taken back at these times. On public holidays we are closed.\n";
    assert_eq!(published(&place, "pages/hours.md"), format!("{hours}\n{table}"));
    assert!(published(&place, "index.md").contains("- [Tools](pages/tools.md#tools)"));
    let files = json!(["index.md", "pages/hours.md", "pages/tools.md", "parts/hours.md", "parts/tools.md"]);
    assert_eq!(facts["published"], files);
    let remarks = files.as_array().unwrap().iter().fold("# Review\n\n".to_owned(), |text, path| {
        text + &format!("- {}: nothing wrong\n", path.as_str().unwrap())
    });
    assert_eq!(place.read("website/site/review.md"), remarks);

    // What reaches beyond the files came after a yes, the mail that was refused and sent again as well.
    let store = store(&place);
    let one = |agent: &str, tool: &str, asked| (agent.to_owned(), tool.to_owned(), asked);
    let mut want = vec![one("mailer", "send_email", true); 7];
    want.extend([one("reviewer", "git_commit", false), one("reviewer", "git_push", true)]);
    assert_eq!(begun(&store), want);

    // Every mail once, and the one that was refused after its task was dead and tried again.
    let readers = (1..=6).map(|number| (format!("reader-{number}@example.com"), json!(1)));
    assert_eq!(facts["mails"], Value::Object(readers.collect()));
    let bounce = &facts["bounce"];
    assert_eq!((&bounce["address"], &bounce["arrived"]), (&json!("reader-6@example.com"), &json!(5)));
    let dead = bounce["dead"][0].as_str().unwrap();
    assert!(dead.contains("refuses reader-6@example.com: permanent error (550)"), "{dead}");
    let tasks = block_on(store.tasks(TaskFilter::default())).unwrap();
    let is_done = |state: Option<TaskState>| state == Some(TaskState::Done);
    assert!(tasks.iter().all(|task| is_done(task.queued().map(|queue| queue.state))), "{tasks:#?}");
    let failed = RunFilter { status: vec![RunStatus::Failed], ..RunFilter::default() };
    let failed = block_on(store.runs(failed)).unwrap();
    assert_eq!((failed.len(), failed[0].agent.as_str(), tasks.len()), (1, "mailer", 14));
    let of_the_job = json_of(&place, &["jobs", "show", "newsletter", "--json"]);
    assert_eq!(of_the_job["history"][0]["outcome"], "done");

    // What each role spent, as it is counted elsewhere, and no more than it may.
    let counted = json_of(&place, &["stats", "--by", "role", "--json"]);
    let limits = [("lead", 1.0), ("writer", 1.0), ("reviewer", 0.5), ("mailer", 1.0)];
    for (role, limit) in limits {
        let row = counted["rows"].as_array().unwrap().iter().find(|row| row["name"] == role).unwrap();
        let told = facts["roles"].as_array().unwrap().iter().find(|told| told["role"] == role).unwrap();
        assert_eq!(told["spent_usd"], row["cost_usd"], "{role}");
        let spent: f64 = row["cost_usd"].as_str().unwrap().parse().unwrap();
        assert!(spent > 0.0 && spent <= limit, "{role} spent {spent} of {limit}");
    }
    assert_eq!(place.run(&there(&["audit", "verify"])).code, 0);

    // It does not play where something is already.
    let again = place.run(&["demo", "site", "--dir", "website"]);
    expect![[r#"
        exit 2
        --- stderr
        error[BS1009]: [dir]/website is not empty
        hint: name a directory that is new or empty
    "#]]
    .assert_eq(&again.shown());
}

#[test]
fn the_dashboard_stays_open_with_the_next_letter_waiting() {
    let place = Place::new();
    let demo = Playing(Some(place.start_with(&["demo", "site", "--dir", "website", "--serve"], &[])));
    let database = place.path().join("website/.backstop/backstop.db");
    // One that is just being made is looked at again.
    let opened = || database.exists().then(|| SqliteStore::open(&database, StoreOptions::default()).ok());
    let store = until("the journal", || opened().flatten());
    // The mails of the first letter are all there before the second one is put in.
    until("questions about the next letter", || {
        let tasks = block_on(store.tasks(TaskFilter::default())).unwrap();
        let letters = tasks.iter().filter(|task| task.task.as_str().starts_with("newsletter@")).count();
        let of = |task: &TaskSummary| task.queued().map(|queue| queue.state);
        let parked = tasks.iter().filter(|task| of(task) == Some(TaskState::Parked)).count();
        (letters == 2 && parked == 6).then_some(())
    });
    let waiting = json_of(&place, &["approvals", "--json"]);
    let waiting = waiting.as_array().unwrap();
    assert_eq!(waiting.len(), 6);
    assert!(waiting.iter().all(|question| question["tool"] == "send_email"), "{waiting:?}");
    let said = place.read("website/serve.txt");
    let address = said.split("listens on http://").nth(1).unwrap().split(';').next().unwrap().to_owned();
    let mut page = String::new();
    let mut stream = TcpStream::connect(&address).unwrap();
    write!(stream, "GET /runs HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("mailer"), "{page}");
    let done = demo.end(&place);
    assert_eq!(done.code, 0, "{}", done.shown());
    assert!(done.out.contains("ok 5 of 6 subscribers had the letter at once"), "{}", done.out);
    assert!(TcpStream::connect(&address).is_err(), "nobody serves any more");
}

#[test]
fn the_config_is_right_as_it_stands() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/site/backstop.toml");
    let place = Place::new();
    let done = place.run(&["check", "--offline", "--config", example, "--data-dir", "data"]);
    assert_eq!((done.code, done.out.as_str()), (0, ""), "{}", done.shown());
}
