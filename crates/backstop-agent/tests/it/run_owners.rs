//! Whose a run is: one process at a time works on it, and who lost it, or cannot write, does nothing more.

use crate::kit::{
    LineTool, SECOND, Script, Watched, agent, declared, file_tools, spoken, task, tool_use, turns, unsure,
};
use crate::runs::{counting, drive, events, fine, finish, flaky, line, never, throttled, with};
use backstop_agent::RunError;
use backstop_agent::tool::{Job, ToolError, ToolOutput};
use backstop_call::{BoxFuture, Code, StopReason};
use backstop_journal::{Journal as _, JournalError, RunStatus};
use backstop_label::{Class, Effect};
use backstop_store::MemoryStore;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[tokio::test]
async fn when_the_journal_fails_nothing_acts_any_more() {
    for failing in 2..=5 {
        let dir = tempfile::tempdir().unwrap();
        let (tool, count) = counting("send", Class::Write, fine);
        let store = MemoryStore::new();
        let mut journal = Watched::new(Arc::new(store));
        journal.before =
            Box::new(move |number, _| (number >= failing).then(|| JournalError::DiskFull("no room".into())));
        let calls = Arc::new(AtomicUsize::new(0));
        let called = Arc::clone(&calls);
        let model = Arc::new(Script(Box::new(move |request| {
            called.fetch_add(1, Ordering::SeqCst);
            let blocks = if spoken(request) == 0 { line("t", "send") } else { finish("f") };
            Ok((blocks, StopReason::ToolUse))
        })));
        let agent = agent(model, Arc::new(journal), with(tool));
        let run = agent.create(task(dir.path(), &["send"])).await.unwrap();
        let error = agent.drive(&run).await.unwrap_err();
        assert_eq!(error.code(), Code::DiskFull);
        // Appends: created, call.started, dispatch, result and second call, end.
        let want = [(0, 0), (1, 0), (1, 1), (2, 1)][failing - 2];
        assert_eq!(
            (calls.load(Ordering::SeqCst), count.load(Ordering::SeqCst)),
            want,
            "append {failing} fails"
        );
    }
}

/// A drive that was dropped leaves the run as a kill would; what was under way is found out.
#[tokio::test(start_paused = true)]
async fn a_dropped_drive_can_be_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let (tool, count) = counting("look", Class::Read, |n| if n == 1 { never(n) } else { fine(n) });
    let model = turns(vec![
        vec![tool_use("w", "write_file", json!({"path": "a", "content": "a"}))],
        line("t", "look"),
        finish("f"),
    ]);
    let agent = agent(model, Arc::new(MemoryStore::new()), with(tool));
    let run = agent.create(task(dir.path(), &["look", "write_file"])).await.unwrap();
    assert!(tokio::time::timeout(SECOND, agent.drive(&run)).await.is_err());
    assert_eq!(agent.inspect(&run).await.unwrap().status, RunStatus::Running);
    let outcome = agent.drive(&run).await.unwrap();
    assert_eq!((outcome.status, outcome.turns, count.load(Ordering::SeqCst)), (RunStatus::Done, 3, 2));
}

/// Two drives of one run: the one with the older epoch can write nothing more, and so does nothing more.
#[tokio::test]
async fn a_zombie_is_fenced_off() {
    let dir = tempfile::tempdir().unwrap();
    let (hold, held) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (gate, reached) = (Arc::clone(&hold), Arc::clone(&held));
    let first = Arc::new(AtomicUsize::new(0));
    let run = move |_: &Job| -> BoxFuture<'static, Result<ToolOutput, ToolError>> {
        let (gate, reached, nth) =
            (Arc::clone(&gate), Arc::clone(&reached), first.fetch_add(1, Ordering::SeqCst));
        Box::pin(async move {
            if nth == 0 {
                reached.notify_one();
                gate.notified().await;
            }
            Ok(ToolOutput::text(format!("look {nth}")))
        })
    };
    let declaration = declared(Class::Read, Effect::Read);
    let look = LineTool { name: "look", declaration, run: Box::new(run), probe: unsure };
    let (send, sent) = counting("send", Class::Write, fine);
    let mut tools = with(look);
    tools.add(send).unwrap();
    let model = turns(vec![line("t1", "look"), line("t2", "send"), finish("f")]);
    let agent = agent(model, Arc::new(MemoryStore::new()), tools);
    let run = agent.create(task(dir.path(), &["look", "send"])).await.unwrap();
    let (zombie, id) = (agent.clone(), run.clone());
    let zombie = tokio::spawn(async move { zombie.drive(&id).await });
    held.notified().await;
    let outcome = agent.drive(&run).await.unwrap();
    assert_eq!((outcome.status, sent.load(Ordering::SeqCst)), (RunStatus::Done, 1));
    let before = events(&agent, &run).await.len();
    hold.notify_one();
    let error = zombie.await.unwrap().unwrap_err();
    assert!(matches!(error, RunError::Journal(JournalError::Owned { .. })), "{error:?}");
    assert_eq!((events(&agent, &run).await.len(), sent.load(Ordering::SeqCst)), (before, 1));
}

#[tokio::test]
async fn a_run_of_another_living_process_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = MemoryStore::new();
    let model = turns(vec![finish("f")]);
    let ours = agent(model.clone(), Arc::new(store.clone()), file_tools());
    let run = ours.create(task(dir.path(), &[])).await.unwrap();
    let other = store.peer();
    other.claim(&run, ours.clock.now()).await.unwrap();
    assert_eq!(ours.drive(&run).await.unwrap_err().code(), Code::OwnedElsewhere);
    drop(other);
    assert_eq!(ours.drive(&run).await.unwrap().status, RunStatus::Done, "a dead owner's claim is free");
}

#[tokio::test]
async fn a_cancelled_run_stays_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(flaky(vec![throttled(99)]), Arc::new(MemoryStore::new()), file_tools());
    let (run, _) = drive(&agent, task(dir.path(), &[])).await;
    let outcome = agent.cancel(&run, "not needed any more").await.unwrap();
    assert_eq!((outcome.status, outcome.message.as_str()), (RunStatus::Cancelled, "not needed any more"));
    assert!(matches!(agent.resume(&run, None).await, Err(RunError::Over { .. })));
    assert!(matches!(agent.cancel(&run, "").await, Err(RunError::Over { .. })));
}
