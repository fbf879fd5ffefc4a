//! What a run said goes for good, by the binary alone: what goes, what stays, what can be proven, and what is refused afterwards.

use super::kit::{Done, Place, block_on, until};
use super::serving::Serving;
use backstop_call::Timestamp;
use backstop_journal::event::RunFinished;
use backstop_journal::{Append, Durability, EventBody, Journal, RunStatus, StreamId};
use serde_json::{Value, json};
use std::time::Duration;

const TASK: &str = "Write the sum of the column amount of expenses.csv to total.txt";
/// Words of the task, of the file that the run read, and of why it is erased.
const SAID: [&str; 3] = ["sum of the column", "heron", "total.txt"];

fn place(config: &str) -> Place {
    let place = Place::new();
    place.write("work/expenses.csv", "name,amount\nheron,3\nb,4\n");
    place.write("backstop.toml", format!("{config}\n[logs]\nto = \"off\"\n"));
    place
}

fn run(place: &Place, more: &[&str], task: &str) -> String {
    let args = ["run", "--model", "sim", "--workspace", "work", "--quiet"];
    place.run(&[&args[..], more, &[task]].concat());
    place.newest_run()
}

fn json(done: &Done) -> Value {
    let value = serde_json::from_str(&done.out);
    assert!(value.is_ok(), "{}", done.shown());
    value.unwrap()
}

fn erase(place: &Place, run: &str) -> Done {
    place.run(&["erase", run, "--reason", "Ann wants it gone", "--yes"])
}

/// The files of the data directory in which a text stands.
fn with(place: &Place, text: &str) -> Vec<String> {
    let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    let files = place.files(".backstop").into_iter().filter(|(_, bytes)| holds(bytes));
    files.map(|(path, _)| path.display().to_string()).collect()
}

fn refused(done: &Done, code: &str) {
    assert!(done.err.contains(&format!("error[{code}]: ")), "{}", done.shown());
}

#[test]
fn what_a_run_said_goes_and_the_record_stays_whole() {
    let place = place("");
    let id = run(&place, &[], TASK);
    let before = json(&place.run(&["show", &id, "--json"]));
    let kept = place.run(&["audit", "verify", "--json"]);
    place.write("links.json", &kept.out);
    for text in SAID {
        assert_ne!(with(&place, text), Vec::<String>::new(), "{text} is there to be erased");
    }
    let would = place.run(&["erase", &id, "--dry-run", "--json"]);
    let would = json(&would);
    assert_eq!(would["lost"], json!({"undo": 1, "plan": false, "retry": false}));
    let unasked = place.run(&["erase", &id, "--reason", "Ann wants it gone"]);
    assert_eq!(unasked.code, 1, "{}", unasked.shown());
    assert!(
        unasked.err.contains("nobody can be asked here; --yes says yes beforehand"),
        "{}",
        unasked.shown()
    );
    assert!(unasked.err.contains("1 step of it can no longer be undone"), "{}", unasked.shown());
    assert_eq!(json(&place.run(&["show", &id, "--json"])), before, "nothing was erased yet");

    let erased = place.run(&["erase", &id, "--reason", "Ann wants it gone", "--yes", "--json"]);
    assert_eq!(erased.code, 0, "{}", erased.shown());
    assert_eq!(json(&erased), would, "it was said before what would go");
    for text in SAID {
        assert_eq!(with(&place, text), Vec::<String>::new(), "{text}");
    }
    let whole = place.run(&["audit", "verify", "--against", "links.json"]);
    assert_eq!(whole.code, 0, "{}", whole.shown());
    let again = erase(&place, &id);
    assert_eq!(again.code, 0, "{}", again.shown());
    assert!(again.err.contains("was erased before, on "), "{}", again.shown());
}

#[test]
fn an_erased_run_is_shown_as_one() {
    let place = place("");
    let id = run(&place, &[], TASK);
    let before = json(&place.run(&["show", &id, "--json"]));
    let numbers = json(&place.run(&["stats", "--json"]));
    assert_eq!(erase(&place, &id).code, 0);
    let story = place.run(&["show", &id, "--full"]);
    assert_eq!(story.code, 0, "{}", story.shown());
    for told in ["(erased)", "Ann wants it gone", "texts erased by ", "write_file", "done"] {
        assert!(story.out.contains(told), "{told}: {}", story.shown());
    }
    let listed = place.run(&["runs"]);
    assert!(listed.out.contains("done (erased)"), "{}", listed.shown());
    let after = json(&place.run(&["show", &id, "--json"]));
    for same in ["calls", "tool_calls", "usage", "cost", "status", "created", "ended"] {
        assert_eq!(after["summary"][same], before["summary"][same], "{same}");
    }
    assert!(after["summary"]["erased"].is_u64(), "{after:#}");
    assert_eq!(json(&place.run(&["stats", "--json"])), numbers, "the numbers stay");
    let exported = place.run(&["audit", "export", "--run", &id, "--full"]);
    assert!(
        exported.out.contains("run.erased") && exported.out.contains("Ann wants it gone"),
        "{}",
        exported.out
    );
    for text in SAID {
        assert!(!exported.out.contains(text), "{text}: {}", exported.out);
    }
    let found = json(&place.run(&["query", "--json", "SELECT status, message, erased FROM runs"]));
    assert_eq!((&found["status"], &found["message"]), (&json!("done"), &json!("(erased)")), "{found}");
    assert!(found["erased"].is_string(), "{found}");
    let logged = place.run(&["logs", "--run", &id]);
    assert!(logged.out.contains("run.erased"), "{}", logged.shown());
}

#[test]
fn what_needs_what_was_said_is_refused() {
    let place = place("");
    let id = run(&place, &[], TASK);
    let planned = run(&place, &["--dry-run"], TASK);
    for (run, lost) in [(&id, json!(false)), (&planned, json!(true))] {
        let would = json(&place.run(&["erase", run, "--dry-run", "--json"]));
        assert_eq!(would["lost"]["plan"], lost, "{would}");
        assert_eq!(erase(&place, run).code, 0);
    }
    for args in [
        &["undo", &id][..],
        &["undo", &id, "--dry-run"],
        &["resume", &id],
        &["apply", &planned],
        &["apply", &planned, "--dry-run"],
    ] {
        let done = place.run(args);
        assert_eq!(done.code, 2, "{}", done.shown());
        refused(&done, "BS5017");
    }
    assert_eq!(place.read("work/total.txt"), "7\n", "what it did stays done");

    place.write("items.jsonl", "\"Do what nobody can\"");
    place.run(&["batch", "items.jsonl", "--model", "sim"]);
    let dead = place.newest_run();
    let tasks = json(&place.run(&["tasks", "--json"]));
    let task = tasks["tasks"][0]["task"].as_str().unwrap();
    let would = json(&place.run(&["erase", &dead, "--dry-run", "--json"]));
    assert_eq!(would["lost"]["retry"], true, "{would}");
    assert_eq!(erase(&place, &dead).code, 0);
    refused(&place.run(&["tasks", "retry", task]), "BS5017");
    let all = place.run(&["tasks", "retry", "--dead"]);
    assert_eq!(all.code, 0, "the others are tried: {}", all.shown());
    let listed = place.run(&["tasks"]);
    assert!(listed.out.contains("dead"), "{}", listed.shown());
}

#[test]
fn what_may_go_on_is_kept() {
    let place = place("[[gates]]\nname = \"careful\"\nthen = \"ask\"\ntools = [\"write_file\"]\n");
    let id = run(&place, &[], TASK);
    for more in [&["--dry-run"][..], &["--reason", "x", "--yes"]] {
        let kept = place.run(&[&["erase", &id][..], more].concat());
        assert_eq!(kept.code, 2, "{}", kept.shown());
        refused(&kept, "BS1011");
        assert!(
            kept.err.contains(&format!("end it with `backstop cancel {id}`; then erase it")),
            "{}",
            kept.shown()
        );
    }
    assert_eq!(place.run(&["cancel", &id, "--reason", "the heron has flown"]).code, 0);
    assert_eq!(erase(&place, &id).code, 0);
    for text in ["heron", "sum of the column"] {
        assert_eq!(with(&place, text), Vec::<String>::new(), "{text}");
    }
    let story = place.run(&["show", &id]);
    assert!(story.out.contains("asked, because (erased)"), "{}", story.shown());
    assert_eq!(json(&place.run(&["approvals", "--json"])), json!([]));
    let asked = json(&place.run(&["query", "--json", "SELECT why, tool FROM approvals"]));
    assert_eq!(asked, json!({"why": "(erased)", "tool": "write_file"}));
}

#[test]
fn a_part_goes_with_the_whole() {
    let agents = "[agents.lead]\ntools = [\"delegate\"]\n[agents.writer]\ndescription = \"writes\"\ntools = [\"write_file\"]\n[roles.lead.tools]\ndelegate = {}\nwrite_file = {}\n";
    let place = place(agents);
    let write = format!("Call write_file with {}.", json!({"path": "a.md", "content": "heron\n"}));
    let task = format!("Call delegate with {}.", json!({"agent": "writer", "task": write}));
    let part = run(&place, &["--agent", "lead"], &task);
    let (whole, _) = part.split_once('-').expect("the part began last");
    let kept = erase(&place, &part);
    assert_eq!(kept.code, 2, "{}", kept.shown());
    assert!(kept.err.contains(&format!("`backstop erase {whole}` erases both")), "{}", kept.shown());
    let would = json(&place.run(&["erase", whole, "--dry-run", "--json"]));
    assert_eq!(would["runs"].as_array().unwrap().len(), 2, "{would}");
    assert_eq!(would["lost"]["undo"], 1, "the step of the part: {would}");
    assert_eq!(erase(&place, whole).code, 0);
    assert_eq!(with(&place, "heron"), Vec::<String>::new());
    for run in [whole, &part] {
        let story = place.run(&["show", run]);
        assert!(story.out.contains("Ann wants it gone"), "{}", story.shown());
    }
    refused(&place.run(&["undo", &part]), "BS5017");
    assert_eq!(place.run(&["audit", "verify"]).code, 0);
}

#[test]
fn a_plan_goes_with_the_run_that_carried_it_out() {
    let place = place("");
    let planned = run(&place, &["--dry-run"], TASK);
    assert_eq!(place.run(&["apply", &planned]).code, 0);
    let applied = format!("{planned}-apply");
    let kept = erase(&place, &applied);
    assert!(kept.err.contains(&format!("`backstop erase {planned}` erases both")), "{}", kept.shown());
    assert_eq!(erase(&place, &planned).code, 0);
    assert_eq!(with(&place, "heron"), Vec::<String>::new());
    refused(&place.run(&["undo", &applied]), "BS5017");
    refused(&place.run(&["apply", &planned]), "BS5017");
    assert_eq!(place.run(&["audit", "verify"]).code, 0);
}

#[test]
fn a_no_and_its_reason_go_too() {
    let place = place("[[gates]]\nname = \"careful\"\nthen = \"ask\"\ntools = [\"write_file\"]\n");
    let id = run(&place, &[], TASK);
    let open = json(&place.run(&["approvals", "--json"]));
    let question = open[0]["approval"].as_str().unwrap();
    assert_eq!(place.run(&["approvals", "deny", question, "--reason", "ask the stork"]).code, 0);
    place.run(&["resume", &id]);
    place.run(&["cancel", &id]);
    assert_ne!(with(&place, "ask the stork"), Vec::<String>::new());
    assert_eq!(erase(&place, &id).code, 0);
    assert_eq!(with(&place, "ask the stork"), Vec::<String>::new());
    let story = place.run(&["show", &id]);
    assert!(story.out.contains("said no: (erased)"), "{}", story.shown());
    let audit = place.run(&["audit", "export", "--run", &id]);
    assert!(audit.out.contains("no: (erased)"), "who said no stays, and the reason goes: {}", audit.out);
}

#[test]
fn a_secret_in_the_reason_is_not_kept() {
    let place = place("");
    let id = run(&place, &[], TASK);
    let secret = "sk-ant-api03-canaryKd93hfQx71MzPq0LwTu5VbNc2ReYsAoGj";
    let done = place.run(&["erase", &id, "--reason", &format!("it said {secret}"), "--yes"]);
    assert_eq!(done.code, 0, "{}", done.shown());
    assert_eq!(with(&place, "canaryKd93"), Vec::<String>::new());
    let story = place.run(&["show", &id]);
    assert!(story.out.contains("it said ") && !story.out.contains("canary"), "{}", story.shown());
}

/// A run like one that is there, that began and ended so long ago.
fn old_run(place: &Place, like: &str, id: &str, age: Duration) {
    let store = place.store().unwrap();
    let begun: Timestamp = super::kit::now() - age;
    block_on(async {
        let events = store.read(&StreamId::Run(like.into()), 0).await.unwrap();
        let created = events.into_iter().find_map(|event| match event.body {
            EventBody::RunCreated(created) => Some(created),
            _ => None,
        });
        let created = created.unwrap();
        let finished =
            RunFinished { status: RunStatus::Cancelled, result: None, code: None, message: "heron".into() };
        let append = Append {
            stream: StreamId::Run(id.into()),
            epoch: None,
            events: vec![created.into(), finished.into()],
            at: begun,
            durability: Durability::Synced,
        };
        store.append(append).await.unwrap();
    });
}

#[test]
fn two_that_serve_erase_what_is_old_once() {
    let place = place("model = \"sim\"\n[retention]\nbodies = \"30d\"");
    let young = run(&place, &[], TASK);
    old_run(&place, &young, "0ld0000000000001", Duration::from_hours(24 * 31));
    old_run(&place, &young, "0ld0000000000002", Duration::from_hours(24 * 29));
    let serving = [(); 2].map(|()| Serving::start_with(&place, &["--model", "sim"]));
    until("what is old is erased", || {
        let runs = json(&place.run(&["runs", "--json"]));
        let erased = |run: &&Value| !run["erased"].is_null();
        runs.as_array().unwrap().iter().find(erased).map(|run| assert_eq!(run["run"], "0ld0000000000001"))
    });
    for one in serving {
        let done = one.stop(&place);
        assert_eq!(done.code, 0, "{}", done.shown());
        assert!(!done.err.contains("warning"), "{}", done.shown());
    }
    let runs = json(&place.run(&["runs", "--json"]));
    let erased = runs.as_array().unwrap().iter().filter(|run| !run["erased"].is_null()).count();
    assert_eq!(erased, 1, "{runs:#}");
    let exported = place.run(&["audit", "export", "--run", "0ld0000000000001"]);
    assert_eq!(exported.out.matches("run.erased").count(), 1, "{}", exported.out);
    assert!(exported.out.contains("older than 30d"), "{}", exported.out);
    assert_eq!(place.run(&["audit", "verify"]).code, 0);
}

/// A journal as format 2 left it. Its links went over whole texts, so that nobody can work them out when those are gone.
#[test]
fn what_an_older_version_wrote_is_vouched_for() {
    let place = place("");
    std::fs::create_dir_all(place.path().join(".backstop")).unwrap();
    let old = include_bytes!("../../../backstop-store/tests/fixtures/format-2.sqlite");
    place.write(".backstop/backstop.db", old);
    let kept = place.run(&["audit", "verify", "--json"]);
    assert!(!kept.err.contains("vouched"), "{}", kept.shown());
    place.write("links.json", &kept.out);
    assert_eq!(erase(&place, "done").code, 0);
    let whole = place.run(&["audit", "verify", "--against", "links.json"]);
    assert_eq!(whole.code, 0, "{}", whole.shown());
    let word = "the beginning of 1 run that an older version wrote is vouched for by its erasure alone";
    assert!(whole.err.contains(word), "{}", whole.shown());
    let one = place.run(&["audit", "verify", "--run", "open"]);
    assert!(!one.err.contains("vouched"), "{}", one.shown());
    for text in ["words of the old format", "the old result"] {
        assert_eq!(with(&place, text), Vec::<String>::new(), "{text}");
    }
}
