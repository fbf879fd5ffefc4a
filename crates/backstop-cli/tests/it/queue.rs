//! The queue from the command line: what is put in is done once, and of a file each line, whatever becomes of the others.

use super::kit::{Done, Place};
use serde_json::Value;

fn lines(done: &Done) -> Vec<Value> {
    done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What became of each line, by its own id.
fn states(done: &Done) -> Vec<(String, String)> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    lines(done).iter().map(|line| (word(&line["id"]), word(&line["state"]))).collect()
}

#[test]
fn a_task_is_put_in_once_and_listed() {
    let place = Place::new();
    let submit = ["submit", "--id", "letter", "--model", "sim", "--json", "Write hello into letter.txt"];
    let (first, again) = (place.run(&submit), place.run(&submit));
    assert_eq!((first.code, again.code), (0, 0), "{}{}", first.err, again.err);
    let (first, again) = (lines(&first).remove(0), lines(&again).remove(0));
    assert_eq!((&first["new"], &again["new"], &first["run"]), (&true.into(), &false.into(), &again["run"]));
    let listed = place.run(&["tasks", "--json"]);
    let listed: Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!((&listed["backlog"]["due"], &listed["tasks"][0]["task"]), (&1.into(), &"letter".into()));
    assert_eq!(place.run(&["tasks", "cancel", "letter"]).code, 0);
    let gone = place.run(&["tasks", "cancel", "nobody"]);
    assert!(gone.code == 2 && gone.err.contains("BS4010"), "{}", gone.err);
}

/// A batch whose ids have slashes once lost all tasks but those that began as the first one.
#[test]
fn one_line_of_a_batch_that_fails_stops_no_other() {
    let place = Place::new();
    place.write("a.txt", "one two three");
    let items = [
        r#"{"id": "x/1", "task": "Count the words in a.txt and write the number to n.txt"}"#,
        r#""Do what nobody can""#,
        r#"{"id": "y/2", "task": "Count the words in a.txt and write the number to m.txt"}"#,
    ];
    place.write("items.jsonl", items.join("\n"));
    let batch = ["batch", "items.jsonl", "--model", "sim"];
    let done = place.run(&batch);
    let want = [("x/1", "done"), ("2", "dead"), ("y/2", "done")]
        .map(|(id, state)| (id.to_owned(), state.to_owned()));
    assert_eq!((done.code, states(&done)), (1, want.to_vec()), "{}", done.err);
    assert_eq!((place.read("n.txt").trim(), place.read("m.txt").trim()), ("3", "3"));
    // The same command does nothing twice; those that failed are tried again when that is asked for.
    let runs = |done: &Done| lines(done).iter().map(|line| line["run"].clone()).collect::<Vec<_>>();
    let again = place.run(&batch);
    assert_eq!(runs(&again), runs(&done), "{}", again.err);
    let retried = place.run(&[&batch[..], &["--retry-failed"]].concat());
    let (before, after) = (runs(&done), runs(&retried));
    assert_eq!((states(&retried), &before[0], &before[2]), (want.to_vec(), &after[0], &after[2]));
    assert_ne!(before[1], after[1], "a failed task is tried by another run");
}

#[test]
fn what_is_wrong_with_a_batch_is_told_line_by_line_and_nothing_begins() {
    let place = Place::new();
    place.write(
        "items.jsonl",
        "\"fine\"\n{\"task\": 3}\n{\"id\": \"1\", \"task\": \"the id of the first line\"}\n",
    );
    let done = place.run(&["batch", "items.jsonl", "--model", "sim"]);
    assert_eq!(done.code, 2, "{}", done.err);
    assert!(done.err.contains("line 2: ") && done.err.contains("line 3: the id `items/1`"), "{}", done.err);
    assert!(place.run(&["tasks"]).out.is_empty());
}
