//! init → check → run → runs → show → logs, with the simulated model.

use super::kit::Place;
use serde_json::Value;
use std::io::Write;
use std::process::Stdio;

const TASK: &str = "Write the sum of the column \"amount\" of data.csv to total.txt";

fn place() -> Place {
    let place = Place::new();
    place.write("data.csv", "item,amount\npen,1.50\nink,2.25\n");
    place
}

#[test]
fn from_init_to_logs() {
    let place = place();
    let init = place.run(&["init"]);
    assert_eq!(init.code, 0, "{}", init.shown());
    let check = place.run(&["check", "--offline"]);
    assert_eq!(check.code, 0, "{}", check.shown());

    let run = place.run(&["run", "--model", "sim", "--id", "sum", "--json", "--quiet", TASK]);
    assert_eq!(run.code, 0, "{}", run.shown());
    assert_eq!(run.err, "", "quiet is quiet");
    assert_eq!(place.read("total.txt").trim(), "3.75");
    let result: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(result["status"], "done");
    assert!(result["turns"].as_u64().unwrap() >= 3, "{result}");
    let id = result["run"].as_str().unwrap();

    let runs: Value = serde_json::from_str(&place.run(&["runs", "--json"]).out).unwrap();
    assert_eq!(runs[0]["run"], id);
    assert_eq!(runs[0]["task"], "sum");
    let table = place.run(&["runs"]);
    assert!(table.out.contains(id) && table.out.contains("done"), "{}", table.out);
    assert_eq!(place.run(&["runs", "--status", "failed", "--json"]).out.trim(), "[]");

    let show = place.run(&["show", &id[..8]]);
    assert_eq!(show.code, 0, "{}", show.shown());
    for part in ["write_file total.txt", "answered by sim/sim", "turn 1", TASK] {
        assert!(show.out.contains(part), "{part} is missing:\n{}", show.out);
    }
    let full = place.run(&["show", id, "--full"]);
    assert!(full.out.contains("\"content\": \"3.75"), "{}", full.out);
    let story: Value = serde_json::from_str(&place.run(&["show", id, "--json"]).out).unwrap();
    assert_eq!(story["summary"]["run"], id);

    let logs = place.run(&["logs", "--run", id]);
    let lines: Vec<Value> = logs.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.first().unwrap()["event"], "run.created", "{}", logs.out);
    assert_eq!(lines.last().unwrap()["event"], "run.finished");
    assert!(lines.iter().all(|line| line["task"] == "sum" && line["run"] == id), "{}", logs.out);

    let daily = place.files(".backstop/logs");
    let [(name, text)] = daily.as_slice() else { panic!("{daily:?}") };
    let (date, suffix) = name.to_str().unwrap().split_at(10);
    assert!(suffix == ".log" && date.split('-').count() == 3, "{}", name.display());
    let text = place.clean(text);
    let written: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_run = |lines: &[Value]| lines.iter().filter(|line| line["run"] == id).cloned().collect::<Vec<_>>();
    assert_eq!(of_run(&written), of_run(&lines), "the daily file and `backstop logs` differ");
}

#[test]
fn a_task_from_standard_input_prints_only_its_result() {
    let place = place();
    let mut child = place
        .command(&["run", "--model", "sim", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(TASK.as_bytes()).unwrap();
    let done = place.done(&child.wait_with_output().unwrap());
    assert_eq!(done.code, 0, "{}", done.shown());
    assert!(done.out.contains("3.75"), "{}", done.out);
}

#[test]
fn a_limit_stops_and_a_resume_with_more_goes_on() {
    let place = place();
    let run = place.run(&["run", "--model", "sim", "--turns", "1", "--json", "--quiet", TASK]);
    assert_eq!(run.code, 1, "{}", run.shown());
    let result: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((result["status"].as_str(), result["code"].as_str()), (Some("stopped"), Some("BS5003")));
    assert!(run.err.contains("error[BS5003]") && run.err.contains("backstop resume"), "{}", run.err);
    let id = result["run"].as_str().unwrap();
    let resumed = place.run(&["resume", id, "--turns", "20", "--quiet"]);
    assert_eq!(resumed.code, 0, "{}", resumed.shown());
    assert_eq!(place.read("total.txt").trim(), "3.75");
    let again = place.run(&["resume", id]);
    assert_eq!(again.code, 2, "{}", again.shown());
    assert!(again.err.contains("error[BS5009]"), "{}", again.err);
}

#[test]
fn a_budget_too_small_sends_nothing() {
    let place = place();
    let run = place.run(&["run", "--model", "sim", "--max-cost", "0.0001", "--quiet", TASK]);
    assert_eq!(run.code, 1, "{}", run.shown());
    assert!(run.err.contains("error[BS3001]"), "{}", run.err);
    let runs: Value = serde_json::from_str(&place.run(&["runs", "--json"]).out).unwrap();
    assert_eq!(runs[0]["cost"], 0, "{runs}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = place();
    let mut child = place.command(&["schema"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let done = place.done(&child.wait_with_output().unwrap());
    assert_eq!((done.code, done.err.as_str()), (0, ""));
}
