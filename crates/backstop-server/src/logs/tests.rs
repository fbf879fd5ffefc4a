//! Lines, levels, days, retention, and what happens when there is no room.

use super::*;
use backstop_call::{Code, Priority, Timestamp};
use backstop_journal::event::{RunCreated, RunFinished, RunLimits, RunStatus};
use backstop_journal::{Body, EventBody, Hash, StreamId};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

const DAY: Duration = Duration::from_hours(24);
const NOON: Timestamp = Timestamp::from_secs(1_795_348_800);

fn event(at: Timestamp, body: impl Into<EventBody>) -> Event {
    let stream = StreamId::Run("r1".into());
    Event { position: 1, stream, seq: 1, at, epoch: 1, body: body.into(), hash: Hash::default() }
}

fn one(at: Timestamp, body: impl Into<EventBody>) -> Arc<[Event]> {
    Arc::from([event(at, body)])
}

fn created() -> RunCreated {
    RunCreated {
        task: "t1".into(),
        role: "clerk".into(),
        agent: "a".into(),
        agent_hash: String::new(),
        model: "sim".into(),
        system: Body::from(""),
        message: Body::from("the secret plan"),
        max_tokens: None,
        tools: Vec::new(),
        workspace: "/w".into(),
        limits: RunLimits::default(),
        result_schema: None,
        priority: Priority::default(),
        labels: backstop_call::Labels::default(),
        dry_run: false,
        applies: None,
        parent: None,
        bounds: Vec::new(),
        on_failure: backstop_journal::event::OnFailure::default(),
        queue: None,
        origin: Box::default(),
    }
}

fn finished(code: Option<Code>) -> RunFinished {
    let status = if code.is_some() { RunStatus::Failed } else { RunStatus::Done };
    RunFinished { status, result: None, code, message: "".into() }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn daily(dir: &Path, retention_days: u32) -> Target {
    Target::Daily { dir: dir.to_owned(), retention_days }
}

#[test]
fn a_line_per_event_in_the_file_of_its_day() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("a/logs");
    let writer = LogWriter::start(&daily(&logs, 30), Level::Info).unwrap();
    // The commit at midnight has events of both days.
    let both = [event(NOON, created()), event(NOON + DAY, finished(Some(Code::TaskFailed)))];
    writer.push(&Arc::from(both));
    assert_eq!(writer.close(), Report { written: 2, ..Report::default() });
    let first = NOON.date();
    let second = (NOON + DAY).date();
    assert_eq!(names(&logs), [format!("{first}.log"), format!("{second}.log")]);
    let text = std::fs::read_to_string(logs.join(format!("{second}.log"))).unwrap();
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["task"], "t1");
    assert_eq!(line["role"], "clerk");
    assert_eq!(line["status"], "failed");
    assert_eq!(line["code"], "BS5011");
    let text = std::fs::read_to_string(logs.join(format!("{first}.log"))).unwrap();
    assert!(!text.contains("secret plan"), "no body is ever logged");
}

#[test]
fn the_level_holds_back_what_is_less_urgent() {
    let dir = tempfile::tempdir().unwrap();
    let writer = LogWriter::start(&daily(dir.path(), 30), Level::Error).unwrap();
    writer.push(&one(NOON, created()));
    writer.push(&one(NOON, finished(None)));
    writer.push(&one(NOON, finished(Some(Code::TaskFailed))));
    assert_eq!(writer.close().written, 1);
}

#[test]
fn what_happened_before_names_later_lines_and_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let writer = LogWriter::start(&daily(dir.path(), 30), Level::Debug).unwrap();
    writer.remember(vec![event(NOON, created())]);
    writer.push(&one(NOON, finished(None)));
    assert_eq!(writer.close().written, 1);
    let text = std::fs::read_to_string(dir.path().join(format!("{}.log", NOON.date()))).unwrap();
    assert!(text.contains("\"task\":\"t1\""), "{text}");
}

#[test]
fn old_files_end_and_other_files_stay() {
    let dir = tempfile::tempdir().unwrap();
    for days in [1_u32, 2, 3, 400] {
        std::fs::write(dir.path().join(format!("{}.log", (NOON - DAY * days).date())), "x\n").unwrap();
    }
    for other in ["notes.log", "2020-01-01.log.gz", "2020-01-01.txt"] {
        std::fs::write(dir.path().join(other), "x").unwrap();
    }
    let writer = LogWriter::start(&daily(dir.path(), 3), Level::Info).unwrap();
    writer.push(&one(NOON, created()));
    writer.close();
    let kept = [2, 1, 0].map(|days| format!("{}.log", (NOON - DAY * days).date()));
    let mut want =
        [kept.as_slice(), &["2020-01-01.log.gz", "2020-01-01.txt", "notes.log"].map(String::from)].concat();
    want.sort();
    assert_eq!(names(dir.path()), want);
}

/// `/dev/full` answers every write as a full disk does.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_counted_and_the_next_line_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(format!("{}.log", NOON.date()));
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let mut lines = DailyFile::new(dir.path().to_owned(), 30);
    assert_eq!(lines.put(&NOON.date(), "{}\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
    std::fs::remove_file(&path).unwrap();
    lines.put(&NOON.date(), "{}\n").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}\n");

    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let writer = LogWriter::start(&daily(dir.path(), 30), Level::Info).unwrap();
    writer.push(&one(NOON, created()));
    let report = writer.close();
    assert_eq!((report.written, report.failed), (0, 1));
    assert!(report.error.unwrap().contains("No space left"), "the reason is told");
}

/// Holds the writer at its first lines until it is let go.
struct Gate {
    entered: Sender<()>,
    go: Mutex<Receiver<()>>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Lines for Gate {
    fn put(&mut self, _: &str, lines: &str) -> io::Result<()> {
        let mut all = self.lines.lock().unwrap();
        if all.is_empty() {
            self.entered.send(()).unwrap();
            self.go.lock().unwrap().recv().unwrap();
        }
        all.extend(lines.lines().map(str::to_owned));
        Ok(())
    }
}

#[test]
fn a_full_queue_never_holds_up_a_run_and_says_what_is_missing() {
    let (entered, has_entered) = channel();
    let (let_go, go) = channel();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let gate = Gate { entered, go: Mutex::new(go), lines: Arc::clone(&lines) };
    let writer = LogWriter::start_with(gate, Level::Debug).unwrap();
    let one = one(NOON, finished(None));
    writer.push(&one);
    has_entered.recv().unwrap();
    for _ in 0..QUEUE_EVENTS + 5 {
        writer.push(&one);
    }
    let_go.send(()).unwrap();
    let report = writer.close();
    assert_eq!(report.dropped, 5);
    let lines = lines.lock().unwrap();
    assert_eq!(lines.len(), QUEUE_EVENTS + 2);
    assert!(lines[1].contains("5 events are not in this log"), "{}", lines[1]);
}
