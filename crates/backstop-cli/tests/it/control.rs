//! A person stays in control, by the binary alone: what asks, what is answered, what is planned, carried out, taken back,
//! and what of all that can be shown afterwards.

use super::kit::{Done, Place};
use backstop_call::Timestamp;
use serde_json::Value;
use std::time::Duration;

const TASK: &str = "Write the sum of the column amount of expenses.csv to total.txt";
const ASKS: &str = "[[gates]]\nname = \"careful\"\nthen = \"ask\"\ntools = [\"write_file\"]\n";

fn place(config: &str) -> Place {
    let place = Place::new();
    place.write("work/expenses.csv", "name,amount\na,3\nb,4\n");
    place.write("backstop.toml", config);
    place
}

fn json(done: &Done) -> Value {
    assert_eq!(done.code, 0, "{}", done.shown());
    serde_json::from_str(&done.out).unwrap()
}

/// Runs the task until it asks: the run and the question.
fn asked(place: &Place) -> (String, String) {
    let done = place.run(&["run", "--model", "sim", "--workspace", "work", TASK]);
    assert_eq!(done.code, 1, "{}", done.shown());
    assert!(done.err.contains("error[BS5012]: "), "{}", done.shown());
    let open = json(&place.run(&["approvals", "--json"]));
    assert_eq!(open.as_array().unwrap().len(), 1, "{open}");
    let question = &open[0];
    assert_eq!(question["tool"], "write_file");
    assert_eq!(question["args"]["content"], "7\n");
    assert_eq!(question["preview"], "make total.txt\n@@ -0,0 +1 @@\n+7\n");
    assert_eq!(question["why"], "the rule `careful` asks");
    assert_eq!(question["default"], "deny");
    let text = |key: &str| question[key].as_str().unwrap().to_owned();
    (text("run"), text("approval"))
}

fn total(place: &Place) -> Option<String> {
    std::fs::read_to_string(place.path().join("work/total.txt")).ok()
}

#[test]
fn a_run_asks_waits_and_goes_on() {
    let place = place(ASKS);
    let (run, approval) = asked(&place);
    assert_eq!(total(&place), None);
    let card = place.run(&["approvals", "show", &approval[..12]]);
    assert!(
        card.out.contains("the rule `careful` asks") && card.out.contains("    +7\n"),
        "{}",
        card.shown()
    );
    let yes = place.run(&["approvals", "approve", &approval]);
    assert_eq!(yes.code, 0, "{}", yes.shown());
    assert_eq!(total(&place), None, "an answer is no resume");
    let twice = place.run(&["approvals", "deny", &approval]);
    assert!(twice.err.contains("error[BS5013]: "), "{}", twice.shown());
    let done = place.run(&["resume", &run]);
    assert_eq!((done.code, total(&place)), (0, Some("7\n".to_owned())), "{}", done.shown());
    let story = place.run(&["show", &run]);
    assert!(story.out.contains("asked, because the rule `careful` asks; "), "{}", story.shown());
    assert_eq!(json(&place.run(&["approvals", "--json"])), Value::from(Vec::<Value>::new()));
}

#[test]
fn a_no_and_other_arguments() {
    let refused = place(ASKS);
    let (run, approval) = asked(&refused);
    assert_eq!(refused.run(&["approvals", "deny", &approval, "--reason", "not today"]).code, 0);
    refused.run(&["resume", &run]);
    assert_eq!(total(&refused), None);
    let story = refused.run(&["show", &run, "--full"]);
    assert!(story.out.contains("Refused by a person: not today."), "{}", story.shown());

    let edited = place(ASKS);
    let (run, approval) = asked(&edited);
    let bad = edited.run(&["approvals", "edit", &approval, "--yes", "--args", "{\"file\": 1}"]);
    assert_eq!(bad.code, 2, "{}", bad.shown());
    assert!(bad.err.contains("it takes `path` (required), `content` (required)"), "{}", bad.shown());
    let args = "{\"path\": \"total.txt\", \"content\": \"seven\\n\"}";
    let unseen = edited.run(&["approvals", "edit", &approval, "--args", args]);
    assert!(unseen.err.contains("nobody can be asked here; --yes says yes beforehand"), "{}", unseen.shown());
    let yes = edited.run(&["approvals", "edit", &approval, "--yes", "--reason", "in words", "--args", args]);
    assert_eq!(yes.code, 0, "{}", yes.shown());
    edited.run(&["resume", &run]);
    assert_eq!(total(&edited).as_deref(), Some("seven\n"));
}

#[test]
fn a_grant_for_the_rest_is_listed_and_ended() {
    let place = place(ASKS);
    let (_, approval) = asked(&place);
    let yes = place.run(&["approvals", "approve", &approval, "--rest", "3", "--for", "2h", "--all-runs"]);
    assert_eq!(yes.code, 0, "{}", yes.shown());
    assert!(
        yes.err.contains("3 more calls of write_file allowed for agent default until "),
        "{}",
        yes.shown()
    );
    let other = place.run(&["run", "--model", "sim", "--workspace", "work", TASK]);
    assert_eq!((other.code, total(&place).as_deref()), (0, Some("7\n")), "{}", other.shown());
    let grants = json(&place.run(&["grants", "--json"]));
    assert_eq!(grants[0]["used"].as_array().unwrap().len(), 1, "{grants}");
    let grant = grants[0]["created"]["grant"].as_str().unwrap();
    assert_eq!(place.run(&["grants", "revoke", grant]).code, 0);
    let again = place.run(&["run", "--model", "sim", "--workspace", "work", TASK]);
    assert_eq!(again.code, 1, "{}", again.shown());
    let all = place.run(&["grants", "--all"]);
    assert!(all.out.contains("ended by "), "{}", all.shown());
}

#[test]
fn a_plan_is_shown_carried_out_once_and_taken_back() {
    let place = place("");
    let planned = place.run(&["run", "--model", "sim", "--workspace", "work", "--dry-run", TASK]);
    assert_eq!((planned.code, total(&place)), (0, None), "{}", planned.shown());
    assert!(planned.out.contains("1. write_file total.txt\n    make total.txt\n"), "{}", planned.shown());
    let runs = json(&place.run(&["runs", "--json"]));
    let run = runs[0]["run"].as_str().unwrap().to_owned();
    assert_eq!(runs[0]["dry_run"], true);
    assert!(place.run(&["runs"]).out.contains("done (plan)"));
    let done = place.run(&["apply", &run]);
    assert_eq!((done.code, total(&place).as_deref()), (0, Some("7\n")), "{}", done.shown());
    assert!(done.err.contains("$0.00"), "no model is asked: {}", done.shown());
    let twice = place.run(&["apply", &run]);
    assert!(twice.err.contains("this plan was carried out before"), "{}", twice.shown());

    let applied = format!("{run}-apply");
    let shown = place.run(&["undo", &applied, "--dry-run"]);
    assert_eq!((shown.code, total(&place).as_deref()), (0, Some("7\n")), "{}", shown.shown());
    assert!(shown.err.contains("delete total.txt"), "{}", shown.shown());
    place.write("work/total.txt", "8\n");
    let conflict = place.run(&["undo", &applied]);
    assert_eq!(conflict.code, 1, "{}", conflict.shown());
    assert!(conflict.err.contains("error[BS5014]: ") && conflict.err.contains("+8"), "{}", conflict.shown());
    place.write("work/total.txt", "7\n");
    let undone = place.run(&["undo", &applied]);
    assert_eq!((undone.code, total(&place)), (0, None), "{}", undone.shown());
}

#[test]
fn a_plan_made_from_something_else_is_not_carried_out() {
    let place = place("");
    place.run(&["run", "--model", "sim", "--workspace", "work", "--dry-run", TASK]);
    let run = json(&place.run(&["runs", "--json"]))[0]["run"].as_str().unwrap().to_owned();
    place.write("work/expenses.csv", "name,amount\na,3\nb,5\n");
    let done = place.run(&["apply", &run]);
    assert_eq!((done.code, total(&place)), (1, None), "{}", done.shown());
    assert!(done.err.contains("error[BS5015]: "), "{}", done.shown());
}

#[test]
fn rights_hold_and_a_bad_policy_is_told() {
    let place =
        place("[roles.default.tools]\nread_file = {}\nwrite_file = { args = { path = [\"docs/**\"] } }\n");
    let done = place.run(&["run", "--model", "sim", "--workspace", "work", TASK]);
    assert_eq!(total(&place), None, "{}", done.shown());
    let run = json(&place.run(&["runs", "--json"]))[0]["run"].as_str().unwrap().to_owned();
    let story = place.run(&["show", &run, "--full"]);
    assert!(story.out.contains("`path` may be `docs/**`, and is `total.txt`"), "{}", story.shown());

    let wrong = "[[gates]]\nname = \"x\"\nthen = \"allow\"\nwhen = \"args.amount >\"\n\n\
                 [roles.a.tools]\nb = { when = \"amount > 3\" }\n";
    place.write("backstop.toml", wrong);
    let told = place.run(&["check"]);
    assert_eq!(told.code, 2, "{}", told.shown());
    for part in ["`args.amount >` is no condition", "uses `amount`; there are tool, args"] {
        assert!(told.err.contains(part), "{part}: {}", told.shown());
    }
}

#[test]
fn the_record_is_whole_and_says_who_did_what() {
    let place = place(ASKS);
    let (run, approval) = asked(&place);
    let links = place.run(&["audit", "verify", "--json"]);
    place.write("links.json", &links.out);
    place.run(&["approvals", "approve", &approval]);
    place.run(&["resume", &run]);
    let whole = place.run(&["audit", "verify", "--against", "links.json"]);
    assert_eq!(whole.code, 0, "{}", whole.shown());
    let export = place.run(&["audit", "export", "--run", &run, "--full"]);
    let lines: Vec<Value> = export.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let decided = lines.iter().find(|line| line["what"] == "approval.decided").unwrap();
    assert_eq!(decided["who"]["kind"], "person");
    assert_eq!(decided["event"]["channel"], "terminal");
    let shown =
        lines.iter().find(|line| line["what"] == "tool.planned" && line["event"]["tool"] == "write_file");
    assert_eq!(shown.unwrap()["event"]["preview"]["inline"], "make total.txt\n@@ -0,0 +1 @@\n+7\n");
    assert_eq!(place.run(&["audit", "export", "--since", "1ms"]).out, "");
    let all = place.run(&["audit", "export"]).out;
    for since in ["1h", "2026-01-01", "2026-01-01T00:00:00+01:00"] {
        assert_eq!(place.run(&["audit", "export", "--since", since]).out, all, "{since}");
    }
    let last: Value = serde_json::from_str(all.lines().last().unwrap()).unwrap();
    let last = Timestamp::from_nanos(last["at"].as_u64().unwrap());
    let some = place.run(&["audit", "export", "--since", &last.rfc3339()]).out;
    assert!(!some.is_empty() && all.ends_with(&some), "{some}");
    let later = (last + Duration::from_millis(1)).rfc3339();
    assert_eq!(place.run(&["audit", "export", "--since", &later]).out, "");
    let wrong = place.run(&["audit", "export", "--since", "yesterday"]);
    assert!(wrong.code == 2 && wrong.err.contains("a date like 2026-11-27"), "{}", wrong.shown());

    // A link that was kept of a chain that is another one now, and of one that was cut off before it.
    let kept: Value = serde_json::from_str(&links.out).unwrap();
    let mut other = kept.clone();
    other[0]["hash"] = "00".repeat(32).into();
    let mut cut = kept.clone();
    cut[0]["seq"] = 1_000_000.into();
    for (links, want) in [(other, "is another one now"), (cut, "is missing: the chain ends before it")] {
        place.write("links.json", links.to_string());
        let broken = place.run(&["audit", "verify", "--against", "links.json"]);
        assert_eq!(broken.code, 1, "{}", broken.shown());
        assert!(broken.err.contains(want), "{}", broken.shown());
    }
}
