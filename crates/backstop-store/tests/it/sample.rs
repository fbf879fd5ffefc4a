//! Events and reservations to test with, and the way into child processes.

use backstop_allowance::{Account, Reserve, Scope};
use backstop_call::{Money, RunId, Timestamp};
use backstop_journal::event::{RunCreated, RunFinished, RunLimits, RunStatus, ToolFinished, ToolStarted};
use backstop_journal::{Append, Body, Durability, Epoch, Erase, EventBody, Seq, StreamId};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

pub(super) fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

pub(super) fn created(agent: &str) -> EventBody {
    RunCreated {
        task: "t".into(),
        role: "writer".into(),
        agent: agent.into(),
        agent_hash: "00".into(),
        model: "m".into(),
        system: Body::from("You write."),
        message: Body::from("Write."),
        max_tokens: None,
        tools: vec!["read".into()],
        workspace: "/w".into(),
        limits: RunLimits::default(),
        result_schema: None,
        priority: backstop_call::Priority::Standard,
        labels: backstop_call::Labels::default(),
        dry_run: false,
        applies: None,
        parent: None,
        bounds: Vec::new(),
        on_failure: backstop_journal::event::OnFailure::default(),
        queue: None,
        origin: Box::default(),
    }
    .into()
}

pub(super) fn started(id: &str) -> EventBody {
    ToolStarted { id: id.into(), attempt: 1, approval: None }.into()
}

pub(super) fn returned(id: &str, text: &str) -> EventBody {
    ToolFinished {
        id: id.into(),
        is_error: false,
        result: Body::from(text),
        whole: Body::default(),
        labels: backstop_call::Labels::default(),
        duration: Duration::from_millis(3),
        probed: false,
        spent: None,
    }
    .into()
}

pub(super) fn over(status: RunStatus) -> EventBody {
    RunFinished { status, result: None, code: None, message: "".into() }.into()
}

/// The end of every word of [`spoken`].
pub(super) const SPOKEN: &str = "qzvw";

/// An event of every kind that a run has but its erasure, with a word of its own wherever something can be erased.
pub(super) fn spoken(run: &str, bytes: usize) -> (Vec<EventBody>, Vec<String>) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../backstop-journal/tests/golden");
    let (mut events, mut words) = (Vec::new(), Vec::new());
    let is_of_runs =
        |kind: &str| ["run.", "call.", "tool.", "approval."].iter().any(|of| kind.starts_with(of));
    let silent = ["run.parked", "run.erased"];
    let kinds = EventBody::KINDS.iter().filter(|(kind, _)| is_of_runs(kind) && !silent.contains(kind));
    for (kind, version) in kinds {
        let text = std::fs::read_to_string(golden.join(format!("{kind}.v{version}.json"))).unwrap();
        let mut value: Value = serde_json::from_str(&text).unwrap();
        if *kind == "run.created" {
            value["task"] = run.into();
        }
        let mut word = || {
            // The beginnings differ, so that an index keeps them whole.
            let hash = blake3::hash(format!("{run} {}", words.len()).as_bytes()).to_hex();
            let word = format!("{}{SPOKEN}", &hash[..16]);
            words.push(word.clone());
            format!("{word} {}", "and more ".repeat(bytes / 9))
        };
        speak(&mut value, &mut word);
        events.push(EventBody::decode(kind, *version, &value.to_string()).unwrap());
    }
    (events, words)
}

fn speak(value: &mut Value, word: &mut impl FnMut() -> String) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let is_text =
                    value.is_string() && ["message", "reason", "why", "asks"].contains(&name.as_str());
                if is_text || name == "inline" {
                    *value = word().into();
                } else {
                    speak(value, word);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| speak(item, word)),
        _ => {}
    }
}

pub(super) fn erase(run: &str, head: Seq) -> Erase {
    Erase { run: run.into(), head, at: at(200), by: "me".to_owned(), reason: "asked for".to_owned() }
}

pub(super) fn stream(run: &str) -> StreamId {
    StreamId::Run(RunId::from(run))
}

pub(super) fn append(run: &str, epoch: Option<Epoch>, events: Vec<EventBody>) -> Append {
    Append { stream: stream(run), epoch, events, at: at(100), durability: Durability::Written }
}

pub(super) fn total() -> Account {
    Account::whole(Scope::Total)
}

pub(super) fn own(run: &str) -> Account {
    Account::whole(Scope::Run(run.into()))
}

pub(super) fn nanos(amount: i64) -> Money {
    Money::from_nanos(amount)
}

pub(super) fn reserve(id: &str, amount: i64, accounts: &[(Account, i64)]) -> Reserve {
    let accounts = accounts.iter().map(|(account, limit)| (account.clone(), nanos(*limit))).collect();
    Reserve { id: id.into(), amount: nanos(amount), accounts, at: at(100) }
}

/// Text that compresses badly and is not the same twice.
pub(super) fn text(seed: u64, bytes: usize) -> String {
    let seed = backstop_call::Seed::new(seed);
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        write!(text, "{:016x}", seed.next_u64()).unwrap();
    }
    text.truncate(bytes);
    text
}

/// This test program again, running only `test`, which sees the database and what else it is told in its environment.
pub(super) struct Helper {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

/// Set in children only: the database.
pub(super) const CHILD_DB: &str = "BACKSTOP_STORE_TEST_DB";
/// Set in children only: whatever the parent wants to say.
pub(super) const CHILD_WORD: &str = "BACKSTOP_STORE_TEST_WORD";

impl Helper {
    pub(super) fn start(test: &str, db: &Path, word: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD_DB, db)
            .env(CHILD_WORD, word)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The rest of the next line that begins with `!`; what the test harness prints is passed over.
    pub(super) fn hear(&mut self) -> Option<String> {
        self.lines.by_ref().map_while(Result::ok).find_map(|line| {
            // The harness prints `test NAME ... ` without a line end before the child's first word.
            line.split_once('!').map(|(_, word)| word.to_owned())
        })
    }

    /// Writes a line to its standard input.
    pub(super) fn tell(&mut self, word: &str) {
        use std::io::Write;
        writeln!(self.child.stdin.as_mut().unwrap(), "{word}").unwrap();
    }

    /// SIGKILL, and waits until it is gone.
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Closes its standard input and waits for its end.
    pub(super) fn end(mut self) {
        drop(self.child.stdin.take());
        while self.hear().is_some() {}
        assert!(self.child.wait().unwrap().success());
    }
}

/// In a child: the database and the word. `None` in the test run itself.
pub(super) fn child() -> Option<(std::path::PathBuf, String)> {
    let db = std::env::var_os(CHILD_DB)?;
    Some((db.into(), std::env::var(CHILD_WORD).unwrap_or_default()))
}

/// In a child: says a line to the parent.
pub(super) fn say(word: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "!{word}").unwrap();
    out.flush().unwrap();
}
