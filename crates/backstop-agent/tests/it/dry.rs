//! A dry run touches nothing, and shows what it would do; carrying out its plan does exactly that, once.

use crate::kit::{
    LineArgs, LineTool, Watched, agent, declared, file_tools, results, task, tool_use, turns, unsure,
};
use backstop_agent::run::{Answer, Reply};
use backstop_agent::tool::{ToolOutput, read_args};
use backstop_agent::{Agent, AgentConfig, RunError, RunState};
use backstop_call::{Block, Code, RunId};
use backstop_journal::event::{RunCreated, ToolPlanned};
use backstop_journal::{EventBody, JournalError, RunStatus, StreamId};
use backstop_label::{Class, Effect};
use backstop_store::MemoryStore;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const TOOLS: [&str; 8] = [
    "list_files",
    "read_file",
    "search_files",
    "write_file",
    "edit_file",
    "move_file",
    "delete_file",
    "send",
];

/// Every file of the whole area, with its bytes, its inode and when it and its entry were changed.
fn everything(root: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u64, i64, i64)> {
    use std::os::unix::fs::MetadataExt as _;
    let mut all = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = std::fs::symlink_metadata(&path).unwrap();
            let bytes = if metadata.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
            let state = (bytes, metadata.ino(), metadata.mtime_nsec(), metadata.ctime_nsec());
            all.insert(path.clone(), state);
            if metadata.is_dir() {
                open.push(path);
            }
        }
    }
    all
}

struct Ground {
    dir: tempfile::TempDir,
    agent: Agent,
    sent: Arc<Mutex<Vec<String>>>,
}

impl Ground {
    fn new(script: Vec<Vec<Block>>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("work")).unwrap();
        std::fs::write(dir.path().join("work/a.md"), "one\n").unwrap();
        std::fs::write(dir.path().join("work/b.md"), "two\n").unwrap();
        let sent: Arc<Mutex<Vec<String>>> = Arc::default();
        let keep = Arc::clone(&sent);
        let send = LineTool {
            name: "send",
            declaration: declared(Class::Irreversible, Effect::External),
            run: Box::new(move |job| {
                let args: LineArgs = read_args(&job.args).unwrap();
                keep.lock().unwrap().push(args.line);
                Box::pin(async { Ok(ToolOutput::text("sent")) })
            }),
            probe: unsure,
        };
        let mut tools = file_tools();
        tools.add(send).unwrap();
        let mut agent = agent(turns(script), Arc::new(MemoryStore::new()), tools);
        agent.config = AgentConfig { copies: Some(dir.path().join("copies")), ..agent.config };
        Self { dir, agent, sent }
    }

    fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.work().join(name)).ok()
    }

    async fn rehearse(&self) -> RunId {
        let created = RunCreated { dry_run: true, ..task(&self.work(), &TOOLS) };
        let run = self.agent.create(created).await.unwrap();
        let outcome = self.agent.drive(&run).await.unwrap();
        assert_eq!(outcome.status, RunStatus::Done, "{outcome:?}");
        run
    }

    async fn planned(&self, run: &RunId) -> Vec<ToolPlanned> {
        let events = self.agent.journal.read(&StreamId::Run(run.clone()), 0).await.unwrap();
        let planned = events.into_iter().filter_map(|event| match event.body {
            EventBody::ToolPlanned(planned) if planned.class != Class::Read => Some(planned),
            _ => None,
        });
        planned.collect()
    }

    async fn told(&self, run: &RunId) -> Vec<String> {
        let events = self.agent.journal.read(&StreamId::Run(run.clone()), 0).await.unwrap();
        RunState::fold(&events).messages.iter().flat_map(results).collect()
    }
}

/// Writes, edits, moves, deletes, reads what it wrote, sends, fails once.
fn script() -> Vec<Vec<Block>> {
    let one = |id: &str, name: &str, args| vec![tool_use(id, name, args)];
    vec![
        one("r1", "read_file", json!({"path": "a.md"})),
        one("w1", "write_file", json!({"path": "new/c.md", "content": "three\n"})),
        one("e1", "edit_file", json!({"path": "a.md", "old_text": "one", "new_text": "ONE"})),
        one("e2", "edit_file", json!({"path": "a.md", "old_text": "nowhere", "new_text": "x"})),
        one("r2", "read_file", json!({"path": "a.md"})),
        one("s1", "send", json!({"line": "hello"})),
        one("m1", "move_file", json!({"from": "b.md", "to": "new/b.md"})),
        one("d1", "delete_file", json!({"path": "new/c.md"})),
        one("end", "finish", json!({"summary": "done"})),
    ]
}

#[tokio::test]
async fn a_dry_run_touches_nothing_and_sees_its_own_writes() {
    let ground = Ground::new(script());
    let before = everything(&ground.work());
    let run = ground.rehearse().await;
    assert_eq!(everything(&ground.work()), before, "not a byte, not an inode, not a time");
    assert!(ground.sent.lock().unwrap().is_empty());
    let told = ground.told(&run).await;
    assert_eq!(told[4], "ONE\n", "it sees its own writes");
    assert!(told[5].starts_with("Dry run: this was noted and not done"), "{}", told[5]);
    let planned = ground.planned(&run).await;
    let shown: Vec<_> = planned
        .iter()
        .map(|step| (step.id.as_str(), step.preview.read::<String>().unwrap_or_default(), step.asks.clone()))
        .collect();
    let asks = Some("it cannot be taken back".into());
    let want = [
        ("w1", "make new/c.md\n@@ -0,0 +1 @@\n+three\n", None),
        ("e1", "change a.md\n@@ -1 +1 @@\n-one\n+ONE\n", None),
        ("e2", "", None),
        ("s1", "", asks),
        ("m1", "move b.md to new/b.md\n", None),
        ("d1", "delete new/c.md\n@@ -1 +0,0 @@\n-three\n", None),
    ];
    assert_eq!(shown, want.map(|(id, preview, asks)| (id, preview.to_owned(), asks)));
    let copies = std::fs::read_dir(ground.dir.path().join("copies")).unwrap().count();
    assert_eq!(copies, 0, "the copy goes with the run");
    assert!(ground.agent.undo(&run, None).await.unwrap().is_empty(), "there is nothing to take back");
}

/// Applies a plan, with a yes to everything that is asked.
async fn apply(ground: &Ground, planned: &RunId) -> (RunId, backstop_agent::RunOutcome) {
    let run = ground.agent.apply(planned).await.unwrap();
    let mut outcome = ground.agent.drive(&run).await.unwrap();
    while let Some(question) = outcome.questions.first() {
        let approval = question.approval.to_string();
        let reply = Reply { approval: &approval, answer: Answer::Approve, by: "owner", channel: "terminal" };
        ground.agent.answer(&run, reply).await.unwrap();
        outcome = ground.agent.resume(&run, None).await.unwrap();
    }
    (run, outcome)
}

#[tokio::test]
async fn a_plan_is_carried_out_to_the_byte_and_once() {
    let ground = Ground::new(script());
    let planned = ground.rehearse().await;
    let (run, outcome) = apply(&ground, &planned).await;
    assert_eq!((outcome.status, outcome.cost.nanos()), (RunStatus::Done, 0), "{outcome:?}");
    let files = ["a.md", "b.md", "new/b.md", "new/c.md"].map(|name| ground.read(name));
    assert_eq!(files, [Some("ONE\n".into()), None, Some("two\n".into()), None]);
    assert_eq!(*ground.sent.lock().unwrap(), ["hello"]);
    let steps = |planned: Vec<ToolPlanned>| -> Vec<_> {
        let mut steps: Vec<_> = planned.into_iter().map(|it| (it.id, it.args_hash, it.preview)).collect();
        steps.dedup();
        steps
    };
    assert_eq!(steps(ground.planned(&run).await), steps(ground.planned(&planned).await));

    let again = ground.agent.apply(&planned).await.unwrap();
    assert_eq!(again, run, "a plan has one run that carries it out");
    let refused = ground.agent.resume(&again, None).await.unwrap_err();
    assert!(matches!(refused, RunError::Over { .. }), "{refused}");
    assert_eq!(ground.sent.lock().unwrap().len(), 1);

    // What a plan did can be taken back as well.
    ground.agent.undo(&run, None).await.unwrap();
    let files = ["a.md", "b.md", "new/b.md"].map(|name| ground.read(name));
    assert_eq!(files, [Some("one\n".into()), Some("two\n".into()), None]);
}

#[tokio::test]
async fn a_plan_stops_where_what_it_was_made_from_has_changed() {
    // The file that it edits, one that it only reads, and one that stands in its way.
    let rows: [(&str, &str, &str); 3] = [
        ("a.md", "one, theirs\n", "read_file (r1) does not give what the plan was made from"),
        ("b.md", "two, theirs\n", "move_file (m1) would not do what the plan says"),
        ("new/c.md", "theirs\n", "write_file (w1) would not do what the plan says"),
    ];
    for (path, text, want) in rows {
        let ground = Ground::new(script());
        let planned = ground.rehearse().await;
        let file = ground.work().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
        let (_, outcome) = apply(&ground, &planned).await;
        assert_eq!((outcome.status, outcome.code), (RunStatus::Failed, Some(Code::PlanChanged)));
        assert!(outcome.message.starts_with(want), "{path}: {}", outcome.message);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "what somebody else has written stays");
    }
}

#[tokio::test]
async fn only_a_dry_run_that_is_done_is_a_plan() {
    let ground = Ground::new(script());
    let created = RunCreated { dry_run: true, ..task(&ground.work(), &TOOLS) };
    let open = ground.agent.create(created).await.unwrap();
    assert!(matches!(ground.agent.apply(&open).await.unwrap_err(), RunError::NoPlan(_)));
    let real = ground.agent.create(task(&ground.work(), &TOOLS)).await.unwrap();
    assert!(matches!(ground.agent.apply(&real).await.unwrap_err(), RunError::NoPlan(_)));
}

#[tokio::test]
async fn what_is_looked_at_again_after_a_crash_is_held_against_the_plan_too() {
    let mut ground = Ground::new(script());
    let planned = ground.rehearse().await;
    let run = ground.agent.apply(&planned).await.unwrap();
    let inner = Arc::clone(&ground.agent.journal);
    let mut journal = Watched::new(Arc::clone(&inner));
    journal.before = Box::new(|_, append| {
        let came_back = append.events.iter().any(|event| event.kind() == "tool.finished");
        came_back.then(|| JournalError::Unusable("gone".into()))
    });
    ground.agent.journal = Arc::new(journal);
    // It ends after its first look; what it was looked at is changed until it is taken up.
    ground.agent.drive(&run).await.unwrap_err();
    ground.agent.journal = inner;
    std::fs::write(ground.work().join("a.md"), "one, theirs\n").unwrap();
    let outcome = ground.agent.drive(&run).await.unwrap();
    assert_eq!((outcome.status, outcome.code), (RunStatus::Failed, Some(Code::PlanChanged)));
    let want = "read_file (r1) does not give what the plan was made from";
    assert!(outcome.message.starts_with(want), "{}", outcome.message);
    assert_eq!(ground.read("new/c.md"), None, "nothing of it was done");
}
