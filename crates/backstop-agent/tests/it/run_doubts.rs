//! Calls that did not come back: what is asked again, what is in doubt, and what a person decides.

use crate::kit::{LineTool, SECOND, agent, declared, task, tool_use, turns, unsure};
use crate::runs::{counting, drive, fine, finish, line, never, told, with};
use backstop_agent::RunError;
use backstop_agent::run::Verdict;
use backstop_agent::tool::{Job, Probe, ToolOutput};
use backstop_call::Code;
use backstop_journal::RunStatus;
use backstop_journal::event::{RunCreated, RunLimits, ToolDecision};
use backstop_label::{Class, Effect};
use backstop_store::MemoryStore;
use serde_json::json;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

#[tokio::test(start_paused = true)]
async fn a_write_that_times_out_is_in_doubt_and_a_person_decides() {
    let dir = tempfile::tempdir().unwrap();
    let (tool, count) = counting("send", Class::Write, |n| if n == 1 { never(n) } else { fine(n) });
    let model = turns(vec![
        vec![line("call-one", "send").remove(0), tool_use("r", "list_files", json!({}))],
        finish("f"),
    ]);
    let agent = agent(model, Arc::new(MemoryStore::new()), with(tool));
    let (run, outcome) = drive(&agent, task(dir.path(), &["send", "list_files"])).await;
    assert_eq!((outcome.status, outcome.code), (RunStatus::Parked, Some(Code::InDoubt)));
    assert_eq!(outcome.in_doubt.len(), 1);
    assert!(outcome.in_doubt[0].reason.contains("timed out after 60 seconds"), "{:?}", outcome.in_doubt);
    let still = agent.resume(&run, None).await.unwrap();
    assert_eq!(
        (still.status, count.load(Ordering::SeqCst)),
        (RunStatus::Parked, 1),
        "nothing goes on undecided"
    );
    let verdict = |call| Verdict { call, decision: ToolDecision::RunIt, result: None, by: "me" };
    assert!(matches!(
        agent.resolve(&run, verdict("other")).await,
        Err(RunError::NoSuchCall { found: 0, .. })
    ));
    let resolved = agent.resolve(&run, verdict("call-")).await.unwrap();
    assert_eq!((resolved.status, resolved.in_doubt.len()), (RunStatus::Parked, 0));
    assert!(agent.resolve(&run, verdict("call-one")).await.is_err(), "a decision counts once");
    let outcome = agent.resume(&run, None).await.unwrap();
    assert_eq!((outcome.status, count.load(Ordering::SeqCst)), (RunStatus::Done, 2));
    assert_eq!(told(&agent, &run).await[0][0], "run 2");
}

/// A probe after a timeout cannot prove that it did not happen: the call may still be on its way.
#[tokio::test(start_paused = true)]
async fn after_a_timeout_only_a_yes_of_the_probe_counts() {
    for (probe, status) in [
        ((|| Probe::Happened(ToolOutput::text("found"))) as fn() -> Probe, RunStatus::Done),
        (|| Probe::DidNot, RunStatus::Parked),
        (unsure, RunStatus::Parked),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (mut tool, count) = counting("send", Class::Write, never);
        tool.probe = probe;
        let model = turns(vec![line("t", "send"), finish("f")]);
        let agent = agent(model, Arc::new(MemoryStore::new()), with(tool));
        let (_, outcome) = drive(&agent, task(dir.path(), &["send"])).await;
        assert_eq!((outcome.status, count.load(Ordering::SeqCst)), (status, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn idempotent_calls_run_again_under_one_key_and_not_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let keys = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&keys);
    let run = move |job: &Job| {
        seen.lock().unwrap().push(job.key.clone());
        never(0)
    };
    let declaration = declared(Class::Idempotent, Effect::Write);
    let tool = LineTool { name: "put", declaration, run: Box::new(run), probe: unsure };
    let agent = agent(turns(vec![line("t", "put")]), Arc::new(MemoryStore::new()), with(tool));
    let created = RunCreated {
        limits: RunLimits { time: SECOND * 1000, ..RunLimits::default() },
        ..task(dir.path(), &["put"])
    };
    let (_, outcome) = drive(&agent, created).await;
    assert_eq!((outcome.status, outcome.in_doubt[0].attempts), (RunStatus::Parked, 3));
    let keys = keys.lock().unwrap();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| *key == keys[0] && key.len() == 32));
}
