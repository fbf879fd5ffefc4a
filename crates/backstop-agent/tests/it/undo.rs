//! What a run did is taken back: to the byte, whatever it was, and not where somebody else has changed it since.

use crate::kit::{LineTool, Watched, agent, declared, file_tools, task, tool_use, turns, unsure};
use backstop_agent::Agent;
use backstop_agent::run::{UndoOutcome, Verdict};
use backstop_agent::tool::ToolError;
use backstop_agent::tools::FILE_TOOLS;
use backstop_call::{Block, RunId, Seed};
use backstop_journal::event::{OnFailure, RunCreated, ToolDecision};
use backstop_journal::{EventBody, JournalError, RunStatus};
use backstop_label::{Class, Effect};
use backstop_store::MemoryStore;
use serde_json::json;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SEQUENCES: u64 = 1_000;
const PATHS: [&str; 6] = ["a", "b.txt", "dir/a", "dir/deep/c", "other/x", "other/y"];
const MODES: [u32; 4] = [0o600, 0o644, 0o755, 0o400];

/// Everything below a directory: each file's bytes and mode, and each directory.
pub(crate) fn snapshot(root: &Path) -> BTreeMap<PathBuf, Option<(Vec<u8>, u32)>> {
    let mut all = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_owned();
            let metadata = std::fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                open.push(path);
                all.insert(name, None);
            } else {
                let mode = metadata.permissions().mode() & 0o7777;
                all.insert(name, Some((std::fs::read(path).unwrap(), mode)));
            }
        }
    }
    all
}

/// A number below `below`.
fn draw(seed: &Seed, below: usize) -> usize {
    usize::try_from(seed.next_u64() % below as u64).unwrap()
}

fn one<'a>(seed: &Seed, of: &[&'a str]) -> &'a str {
    of[draw(seed, of.len())]
}

/// Some files to begin with: text, no text, empty, of several modes.
fn fill(root: &Path, seed: &Seed) {
    for path in PATHS {
        if draw(seed, 2) == 0 {
            continue;
        }
        let content: &[u8] = match draw(seed, 4) {
            0 => b"",
            1 => b"one\ntwo\n",
            2 => b"one\xff\x00two",
            _ => "eins zwei drü\n".as_bytes(),
        };
        let place = root.join(path);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::write(&place, content).unwrap();
        let mode = MODES[draw(seed, MODES.len())];
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// Some calls, that may or may not fit what is there.
fn calls(seed: &Seed) -> Vec<Vec<Block>> {
    let mut turns: Vec<Vec<Block>> = (0..=draw(seed, 9))
        .map(|number| {
            let id = format!("s{number}");
            let path = one(seed, &PATHS);
            let block = match draw(seed, 4) {
                0 => {
                    let content = one(seed, &["", "new\n", "one\nmore\n"]);
                    tool_use(&id, "write_file", json!({"path": path, "content": content}))
                }
                1 => {
                    let args =
                        json!({"path": path, "old_text": "one", "new_text": "ONE", "replace_all": true});
                    tool_use(&id, "edit_file", args)
                }
                2 => tool_use(&id, "move_file", json!({"from": path, "to": one(seed, &PATHS)})),
                _ => tool_use(&id, "delete_file", json!({"path": path})),
            };
            vec![block]
        })
        .collect();
    turns.push(vec![tool_use("end", "finish", json!({"summary": "done"}))]);
    turns
}

async fn run(root: &Path, script: Vec<Vec<Block>>) -> (Agent, RunId) {
    let agent = agent(turns(script), Arc::new(MemoryStore::new()), file_tools());
    let run = agent.create(task(root, FILE_TOOLS)).await.unwrap();
    let outcome = agent.drive(&run).await.unwrap();
    assert_eq!(outcome.status, RunStatus::Done, "{outcome:?}");
    (agent, run)
}

#[tokio::test]
async fn any_sequence_of_changes_is_taken_back_to_the_byte() {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let mut taken_back = 0;
    for number in 0..SEQUENCES {
        let seed = Seed::new(number);
        let root = base.path().join(number.to_string());
        std::fs::create_dir(&root).unwrap();
        fill(&root, &seed);
        let before = snapshot(&root);
        let (agent, run) = run(&root, calls(&seed)).await;
        let undone = agent.undo(&run, None).await.unwrap();
        let good = undone.iter().all(|one| matches!(one.outcome, UndoOutcome::Done(_)));
        assert!(good, "seed {number}: {undone:?}");
        assert_eq!(snapshot(&root), before, "seed {number}: {undone:?}");
        taken_back += undone.len();
        let again = agent.undo(&run, None).await.unwrap();
        assert!(again.iter().all(|one| one.outcome == UndoOutcome::Already), "seed {number}: {again:?}");
        std::fs::remove_dir_all(&root).unwrap();
    }
    assert!(taken_back > 2_000, "most sequences change something: {taken_back}");
}

fn write(id: &str, path: &str, content: &str) -> Vec<Block> {
    vec![tool_use(id, "write_file", json!({"path": path, "content": content}))]
}

fn end() -> Vec<Block> {
    vec![tool_use("end", "finish", json!({"summary": "done"}))]
}

#[tokio::test]
async fn what_somebody_else_has_changed_is_left_alone_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    std::fs::write(file("a"), "old\n").unwrap();
    std::fs::write(file("b"), "old\n").unwrap();
    let (agent, id) =
        run(dir.path(), vec![write("first", "a", "new\n"), write("second", "b", "new\n"), end()]).await;
    std::fs::write(file("b"), "theirs\n").unwrap();
    let undone = agent.undo(&id, None).await.unwrap();
    let [only] = &undone[..] else { panic!("it stops at the first that cannot be: {undone:?}") };
    assert_eq!(only.call, "second");
    let UndoOutcome::Conflict(why) = &only.outcome else { panic!("{only:?}") };
    assert!(why.contains("is not as the run left it") && why.contains("-old\n+theirs\n"), "{why}");
    let texts = ["a", "b"].map(|name| std::fs::read_to_string(file(name)).unwrap());
    assert_eq!(texts, ["new\n", "theirs\n"]);

    // One step can still be taken back by itself; and once the later change is put away, so can the other.
    let first = agent.undo(&id, Some("fir")).await.unwrap();
    assert!(matches!(first[0].outcome, UndoOutcome::Done(_)), "{first:?}");
    std::fs::write(file("b"), "new\n").unwrap();
    let rest = agent.undo(&id, None).await.unwrap();
    assert!(matches!(rest[0].outcome, UndoOutcome::Done(_)), "{rest:?}");
    assert_eq!(rest[1].outcome, UndoOutcome::Already);
    let texts = ["a", "b"].map(|name| std::fs::read_to_string(file(name)).unwrap());
    assert_eq!(texts, ["old\n", "old\n"]);
}

#[tokio::test]
async fn other_modes_and_files_made_again_are_conflicts_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    std::fs::write(&path, "old\n").unwrap();
    let (agent, id) = run(dir.path(), vec![write("w", "a", "new\n"), end()]).await;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    let undone = agent.undo(&id, None).await.unwrap();
    assert!(matches!(undone[0].outcome, UndoOutcome::Conflict(_)), "{undone:?}");
    std::fs::remove_file(&path).unwrap();
    let undone = agent.undo(&id, None).await.unwrap();
    assert!(matches!(&undone[0].outcome, UndoOutcome::Conflict(why) if why.contains("not there any more")));

    let delete = vec![tool_use("d", "delete_file", json!({"path": "b"}))];
    std::fs::write(dir.path().join("b"), "old\n").unwrap();
    let (agent, id) = run(dir.path(), vec![delete, end()]).await;
    std::fs::write(dir.path().join("b"), "old\n").unwrap();
    let undone = agent.undo(&id, None).await.unwrap();
    assert!(
        matches!(&undone[0].outcome, UndoOutcome::Conflict(why) if why.contains("made by somebody else"))
    );
}

#[tokio::test]
async fn a_run_that_fails_takes_itself_back_if_it_is_told_to() {
    for (on_failure, want) in [(OnFailure::Keep, "new\n"), (OnFailure::Rollback, "old\n")] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "old\n").unwrap();
        let give_up = vec![tool_use("end", "finish", json!({"summary": "no good", "failed": true}))];
        let script = vec![write("w", "a", "new\n"), write("v", "b/c", "new\n"), give_up];
        let agent = agent(turns(script), Arc::new(MemoryStore::new()), file_tools());
        let created = RunCreated { on_failure, ..task(dir.path(), FILE_TOOLS) };
        let run = agent.create(created).await.unwrap();
        let outcome = agent.drive(&run).await.unwrap();
        assert_eq!(outcome.status, RunStatus::Failed);
        assert_eq!(std::fs::read_to_string(dir.path().join("a")).unwrap(), want);
        let kept = on_failure == OnFailure::Keep;
        assert_eq!(dir.path().join("b").exists(), kept, "the directory that it made goes as well");
        let message = if kept { "no good" } else { "no good; all 2 steps of it were taken back" };
        assert_eq!(outcome.message, message);
    }
}

/// The journal takes secrets out: what it does not keep whole could only be put back broken.
#[tokio::test]
async fn a_file_with_a_secret_in_it_is_not_changed_as_if_it_could_be_put_back() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a"), "key=hunter2\n").unwrap();
    let mut agent =
        agent(turns(vec![write("w", "a", "key=none\n"), end()]), Arc::new(MemoryStore::new()), file_tools());
    agent.keeps = Arc::new(|text| !text.contains("hunter2"));
    let run = agent.create(task(dir.path(), FILE_TOOLS)).await.unwrap();
    let outcome = agent.drive(&run).await.unwrap();
    assert_eq!(outcome.questions[0].why, "nothing is known that would take it back");
    assert!(!outcome.questions[0].reversible);
}

#[tokio::test]
async fn directories_go_also_when_the_undo_was_cut_short_before_them() {
    let calls = [
        tool_use("w", "write_file", json!({"path": "new/deep/a", "content": "a\n"})),
        tool_use("m", "move_file", json!({"from": "b", "to": "new/deep/b"})),
    ];
    for call in calls {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("b"), "b\n").unwrap();
        let before = snapshot(dir.path());
        let store = MemoryStore::new();
        let mut journal = Watched::new(Arc::new(store.clone()));
        journal.before = Box::new(|_, append| {
            let kinds: Vec<_> = append.events.iter().map(EventBody::kind).collect();
            // The undo did what it was to do, and the process ends before that is written down.
            (kinds == ["tool.finished"]).then(|| JournalError::Unusable("gone".into()))
        });
        let script = turns(vec![vec![call], end()]);
        let mut agent = agent(script, Arc::new(journal), file_tools());
        let id = agent.create(task(dir.path(), FILE_TOOLS)).await.unwrap();
        agent.drive(&id).await.unwrap();
        agent.undo(&id, None).await.unwrap_err();
        assert_eq!(snapshot(dir.path()), before);
        // As if it had ended a little earlier.
        std::fs::create_dir_all(dir.path().join("new/deep")).unwrap();
        agent.journal = Arc::new(store);
        let undone = agent.undo(&id, None).await.unwrap();
        assert!(matches!(undone[0].outcome, UndoOutcome::Done(_)), "{undone:?}");
        assert_eq!(snapshot(dir.path()), before);
    }
}

#[tokio::test]
async fn a_call_that_was_in_doubt_when_its_run_was_ended_is_not_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let unknown = LineTool {
        name: "put",
        declaration: declared(Class::Write, Effect::Write),
        run: Box::new(|_| Box::pin(async { Err(ToolError::Unknown("the line broke".into())) })),
        probe: unsure,
    };
    let mut tools = file_tools();
    tools.add(unknown).unwrap();
    let put = vec![tool_use("p", "put", json!({"line": "x"}))];
    // Cancelled while it is known to be in doubt; and when a crash has left it under way.
    for crashed in [false, true] {
        std::fs::write(dir.path().join("a"), "old\n").unwrap();
        let store = MemoryStore::new();
        let mut journal = Watched::new(Arc::new(store.clone()));
        journal.before = Box::new(move |_, append| {
            let doubted = append.events.iter().any(|event| event.kind() == "tool.unknown");
            (crashed && doubted).then(|| JournalError::Unusable("gone".into()))
        });
        let script = turns(vec![write("w", "a", "new\n"), put.clone()]);
        let mut agent = agent(script, Arc::new(journal), tools.clone());
        let id = agent.create(task(dir.path(), &["write_file", "put"])).await.unwrap();
        assert_eq!(agent.drive(&id).await.is_err(), crashed);
        agent.journal = Arc::new(store);
        agent.cancel(&id, "enough").await.unwrap();
        let undone = agent.undo(&id, None).await.unwrap();
        let [only] = &undone[..] else { panic!("what came before may lie under it: {undone:?}") };
        assert!(matches!(&only.outcome, UndoOutcome::InDoubt(_)) && only.call == "p", "{only:?}");
        // It did not happen, so there is nothing of it to take back.
        let verdict = Verdict { call: "p", decision: ToolDecision::RunIt, result: None, by: "owner" };
        agent.resolve(&id, verdict).await.unwrap();
        let undone = agent.undo(&id, None).await.unwrap();
        let [only] = &undone[..] else { panic!("{undone:?}") };
        assert!(matches!(&only.outcome, UndoOutcome::Done(_)) && only.call == "w", "{only:?}");
        assert_eq!(std::fs::read_to_string(dir.path().join("a")).unwrap(), "old\n");
    }
}
