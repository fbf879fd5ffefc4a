//! Jobs from the command line, and by `serve` as a process of its own.

use super::kit::{Place, block_on, now, until};
use super::serving::{Caller, Serving};
use backstop_journal::event::JobDefined;
use backstop_journal::{Append, Durability, Journal, StreamId};
use expect_test::expect;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::Duration;

const CONFIG: &str = r#"
model = "sim"
[agents.writer]
[jobs.count]
schedule = "0 7 * * mon-fri"
timezone = "Europe/Berlin"
agent = "writer"
task = "Count the words in a.txt and write the number to n.txt"
[jobs.never]
schedule = "@daily"
task = "Do nothing."
off = true
"#;

fn place() -> Place {
    let place = Place::new();
    place.write("backstop.toml", CONFIG);
    place.write("a.txt", "one two three");
    place
}

fn json_of(place: &Place, args: &[&str]) -> Value {
    let done = place.run(args);
    assert_eq!(done.code, 0, "{}", done.err);
    serde_json::from_str(&done.out).unwrap()
}

#[test]
fn a_job_is_listed_done_by_hand_and_told_of() {
    let place = place();
    let checked = place.run(&["check", "--offline"]);
    assert!(checked.err.ends_with("1 agent, 2 jobs\n"), "{}", checked.err);
    let listed = json_of(&place, &["jobs", "--json"]);
    let of = |job: &Value| (job["name"].clone(), job["state"].clone(), job["last"].clone());
    let jobs = listed["jobs"].as_array().unwrap();
    assert_eq!(of(&jobs[0]), ("count".into(), "scheduled".into(), Value::Null));
    assert_eq!(of(&jobs[1]), ("never".into(), "off".into(), Value::Null));
    assert!(jobs[0]["next"].is_string() && jobs[1]["next"].is_null(), "{listed}");

    let dry = place.run(&["jobs", "run", "count", "--dry-run"]);
    assert_eq!((dry.code, dry.out.contains("n.txt")), (0, true), "{}{}", dry.out, dry.err);
    assert!(!place.path().join("n.txt").exists());
    assert_eq!(json_of(&place, &["jobs", "show", "count", "--json"])["history"], json!([]));

    let done = place.run(&["jobs", "run", "count"]);
    assert_eq!((done.code, place.read("n.txt").trim()), (0, "3"), "{}", done.err);
    let queued = json_of(&place, &["jobs", "run", "count", "--queue", "--json"]);
    let shown = json_of(&place, &["jobs", "show", "count", "--json"]);
    let rows: Vec<_> = shown["history"].as_array().unwrap().iter().collect();
    assert_eq!((&rows[0]["outcome"], &rows[0]["task"]), (&"waiting".into(), &queued["task"]));
    let by_hand = (&rows[1]["kind"], &rows[1]["outcome"], &rows[1]["time"], &rows[1]["by"]);
    assert_eq!(by_hand, (&"run".into(), &"done".into(), &Value::Null, &"somebody".into()));
    assert!(!rows[1]["summary"].as_str().unwrap().is_empty(), "{shown}");
    assert_eq!((shown["next_times"].as_array().unwrap().len(), rows.len()), (3, 2));
    let told = place.run(&["jobs", "show", "count"]);
    assert!(
        told.out.starts_with("count: 0 7 * * mon-fri in Europe/Berlin, by writer; under-way\nnext: "),
        "{}",
        told.out
    );
    // The same in SQL.
    let sql = "SELECT job, time, asked_by, state, status FROM job_runs ORDER BY position";
    let told = place.run(&["query", "--json", sql]);
    let rows: Vec<Value> = told.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let one = |state: Value, status: &str| {
        let by = "somebody";
        json!({"job": "count", "time": null, "asked_by": by, "state": state, "status": status})
    };
    assert_eq!(rows, [one(Value::Null, "done"), one("waiting".into(), "running")]);
}

#[test]
fn a_job_is_paused_and_goes_on() {
    let place = place();
    let shown = |args: &[&str]| place.run(args).shown();
    expect![[r#"
        exit 0
        --- stderr
        ok job count is paused; `backstop jobs resume` has its schedule count again
    "#]]
    .assert_eq(&shown(&["jobs", "pause", "count", "--reason", "summer"]));
    expect![[r#"
        exit 0
        --- stderr
        !  job count is paused already
    "#]]
    .assert_eq(&shown(&["jobs", "pause", "count"]));
    expect![[r#"
        exit 0
        --- stdout
        JOB    SCHEDULE         ZONE           STATE   NEXT  LAST (UTC)  OUTCOME  TIME  COST  WHY
        count  0 7 * * mon-fri  Europe/Berlin  paused                                         paused by somebody: summer
        never  @daily           UTC            off
    "#]].assert_eq(&shown(&["jobs"]));
    expect![[r#"
        exit 0
        --- stdout
        count: 0 7 * * mon-fri in Europe/Berlin, by writer; paused
        paused by somebody: summer
        --- stderr
        nothing came of it yet
    "#]]
    .assert_eq(&shown(&["jobs", "show", "count"]));
    expect![[r#"
        exit 0
        --- stdout
        {"job":"count","paused":false,"changed":true}
    "#]]
    .assert_eq(&shown(&["jobs", "resume", "count", "--json"]));
    expect![[r#"
        exit 0
        --- stderr
        !  job count is not paused
    "#]]
    .assert_eq(&shown(&["jobs", "resume", "count"]));
    expect![[r#"
        exit 2
        --- stderr
        error[BS4011]: there is no job `cuont`
        hint: did you mean `count`? jobs: count, never
    "#]]
    .assert_eq(&shown(&["jobs", "resume", "cuont"]));
    expect![[r#"
        exit 0
        --- stderr
        the config has no jobs; add one under `[jobs.NAME]`
    "#]]
    .assert_eq(&Place::new().run(&["jobs"]).shown());
}

#[test]
fn what_is_wrong_with_jobs_is_told_when_the_config_is_read() {
    let place = Place::new();
    place.write(
        "backstop.toml",
        r#"
model = "sim"
[jobs."a b"]
schedule = "0 7 * *"
task = "x"
[jobs.zone]
schedule = "@daily"
timezone = "Europe/Berln"
task = "x"
[jobs.never]
schedule = "0 0 31 feb *"
task = "x"
[jobs.all]
schedule = "@daily"
task = " "
catch-up = "all"
[jobs.agent]
schedule = "@daily"
task = "x"
agent = "nobody"
model = "none"
"#,
    );
    expect![[r#"
        exit 2
        --- stderr
        error[BS1003]: `jobs.a b`: `a b` is no name of a job
          --> backstop.toml:3:2
        hint: choose at most 64 letters, digits, `-`, `_` and `.`
        error[BS1003]: `jobs.a b.schedule`: `0 7 * *` is no schedule: it has 4 fields, and a schedule has 5
          --> backstop.toml:3:2
        hint: five fields (minute, hour, day, month, weekday) like "0 7 * * mon-fri", or "@daily"; see docs/jobs.md
        error[BS1003]: `jobs.zone.timezone`: there is no time zone `Europe/Berln`
          --> backstop.toml:8:1
        hint: write it like "Europe/Berlin" or "UTC"
        error[BS1003]: `jobs.never.schedule`: `0 0 31 feb *` never comes
          --> backstop.toml:11:1
        hint: five fields (minute, hour, day, month, weekday) like "0 7 * * mon-fri", or "@daily"; see docs/jobs.md
        error[BS1011]: `jobs.all`: there is no task
          --> backstop.toml:13:7
        hint: say in `task` what is to be done
        error[BS1003]: `jobs.all.catch-up`: all times can only be made up for one after the other
          --> backstop.toml:16:1
        hint: add `overlap = "queue"`
        error[BS1007]: `jobs.agent`: there is no agent `nobody`
          --> backstop.toml:17:7
        hint: there are no agents yet
        error[BS1006]: `jobs.agent.model`: there is no model `none`
          --> backstop.toml:21:1
        hint: models and chains: sim
    "#]].assert_eq(&place.run(&["check", "--offline"]).shown());
}

/// A config with one job, by this schedule.
fn counting(schedule: &str) -> String {
    format!(
        "[jobs.count]\nschedule = \"{schedule}\"\nmodel = \"sim\"
         task = \"Count the words in a.txt and write the number to n.txt\"\n"
    )
}

/// A place whose job comes every minute, and nobody was there for half an hour.
fn nobody_was_there() -> Place {
    let place = place();
    place.write("backstop.toml", counting("* * * * *"));
    // Any command makes the database.
    assert_eq!(place.run(&["submit", "--id", "first", "--model", "sim", "x", "--delay", "1d"]).code, 0);
    let defined = JobDefined { job: "count".into(), schedule: "* * * * *".into(), timezone: "UTC".into() };
    let append = Append {
        stream: StreamId::Jobs,
        epoch: None,
        events: vec![defined.into()],
        at: now() - Duration::from_mins(30),
        durability: Durability::Synced,
    };
    block_on(place.store().unwrap().append(append)).unwrap();
    place
}

/// Waits until a task of the job is done; the story of the job then.
fn done(place: &Place) -> Vec<Value> {
    until("the task that makes up for it", || {
        let shown = json_of(place, &["jobs", "show", "count", "--json"]);
        let rows = shown["history"].as_array().unwrap().clone();
        rows.iter().any(|row| row["outcome"] == "done").then_some(rows)
    })
}

/// What came while nobody was there is put in when `serve` begins, and done by its workers; a new config is taken.
#[test]
fn serve_makes_up_for_what_was_missed_and_takes_another_config() {
    let place = nobody_was_there();
    let serving = Serving::start_with(&place, &["--model", "sim"]);
    let rows = done(&place);
    assert_eq!(place.read("n.txt").trim(), "3");
    let missed = rows.iter().find(|row| row["why"] == "missed").unwrap();
    let times = missed["times"].as_u64().unwrap();
    assert!((28..=30).contains(&times), "{missed}");
    place.write("backstop.toml", counting("@yearly"));
    serving.signal(Signal::HUP);
    until("the other schedule", || place.run(&["logs"]).out.contains("@yearly").then_some(()));
    let metrics = Caller::connect(serving.addr).unwrap().get("/metrics").unwrap().1;
    assert!(metrics.contains("backstop_job_failures{job=\"count\"} 0\n"), "{metrics}");
    assert!(metrics.contains("backstop_job_done_timestamp_seconds{job=\"count\"} 1"), "{metrics}");
    assert_eq!(serving.stop(&place).code, 0);
}

/// Two processes see the same times come, and one of them is killed.
#[test]
fn two_that_serve_one_journal_do_each_time_once() {
    let place = nobody_was_there();
    let (one, other) =
        (Serving::start_with(&place, &["--model", "sim"]), Serving::start_with(&place, &["--model", "sim"]));
    one.signal(Signal::KILL);
    one.ended(&place);
    done(&place);
    assert_eq!(other.stop(&place).code, 0);
    let count = |sql: &str| {
        let told = place.run(&["query", "--json", sql]);
        assert_eq!(told.code, 0, "{}", told.err);
        serde_json::from_str::<Value>(told.out.trim()).unwrap()["n"].as_u64().unwrap()
    };
    let times = count("SELECT count(DISTINCT task) AS n FROM runs WHERE task LIKE 'count@%'");
    assert!(times >= 1);
    assert_eq!(count("SELECT count(*) AS n FROM runs WHERE task LIKE 'count@%'"), times);
    assert_eq!(count("SELECT count(*) AS n FROM job_runs"), times);
}
