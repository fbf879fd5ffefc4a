//! The log: one line per event, with what the event itself does not say.

use crate::example::{Recorder, every_kind, example_run};
use backstop_journal::event::{CallFinished, CallStarted, RunStatus};
use backstop_journal::projections::log::{Level, Log};
use backstop_journal::{EventBody, StreamId};
use expect_test::{expect, expect_file};
use std::path::Path;

fn lines(stored: &[(backstop_journal::Event, String)]) -> Vec<String> {
    let mut log = Log::default();
    stored.iter().map(|(event, _)| log.push(event).to_string()).collect()
}

#[test]
fn a_run_reads_line_by_line() {
    let lines = lines(&example_run());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/example.log");
    expect_file![file].assert_eq(&(lines.join("\n") + "\n"));
}

#[test]
fn a_call_outside_a_run_is_told_whose_it_was() {
    let mut journal = Recorder::default();
    let of = |kind: &str| every_kind().into_iter().find(|body| body.kind() == kind).unwrap();
    // Its last event is the whole record of it.
    for (ms, kind) in [(0, "call.finished"), (10, "call.failed")] {
        journal.at(ms, &StreamId::Calls, of(kind));
    }
    let lines = lines(&journal.finish());
    expect![[r#"{"ts":"2026-11-22T12:00:00.000Z","level":"info","event":"call.finished","task":"t1","role":"clerk","key":"laptop","call":"c1","attempts":2,"model":"gpt-5","provider":"openai","input_tokens":1200,"output_tokens":50,"cost_usd":"0.0042","duration_ms":2500,"first_token_ms":420,"tools":["write_file"],"status":"ok"}"#]].assert_eq(&lines[0]);
    expect![[r#"{"ts":"2026-11-22T12:00:00.010Z","level":"error","event":"call.failed","task":"t1","role":"clerk","key":"laptop","call":"c1","attempts":1,"model":"main","provider":"anthropic","input_tokens":980,"cost_usd":"0.000000017","duration_ms":900,"status":"throttled","code":"BS2003","message":"rate limit reached"}"#]].assert_eq(&lines[1]);
}

#[test]
fn levels_by_kind() {
    let mut journal = Recorder::default();
    for body in every_kind() {
        journal.at(0, &StreamId::Node, body);
    }
    let mut log = Log::default();
    let shown: Vec<_> = journal
        .finish()
        .iter()
        .map(|(event, _)| {
            let line = log.push(event);
            format!("{:5} {}", line.level.to_string(), line.event)
        })
        .collect();
    expect![[r"
        info  run.created
        debug run.claimed
        info  run.parked
        info  run.queued
        info  run.resumed
        warn  run.finished
        info  run.erased
        debug call.started
        warn  call.attempt-failed
        info  call.finished
        error call.failed
        warn  breaker.changed
        debug tool.planned
        debug tool.started
        warn  tool.finished
        error tool.unknown
        info  tool.resolved
        info  approval.requested
        info  approval.decided
        info  grant.created
        info  grant.used
        info  grant.revoked
        debug lease.granted
        warn  lease.closed
        debug money.reserved
        warn  money.settled
        debug money.moved
        debug money.voided
        warn  money.suspended
        info  money.corrected
        warn  budget.warned
        info  key.created
        info  key.rotated
        info  key.revoked
        warn  key.first-used-from
        warn  alert.fired
        info  alert.resolved
        debug alert.queued
        debug alert.delivered
        error alert.lost
        info  alert.silenced
        info  alert.unsilenced
        info  alert.acknowledged
        info  job.defined
        info  job.dropped
        info  job.started
        warn  job.skipped
        info  job.paused
        info  job.resumed
    "]]
    .assert_eq(&(shown.join("\n") + "\n"));
}

#[test]
fn what_happened_to_a_key_reads_line_by_line() {
    let mut journal = Recorder::default();
    for body in every_kind().into_iter().filter(|body| body.kind().starts_with("key.")) {
        journal.at(0, &StreamId::Keys, body);
    }
    let lines = lines(&journal.finish());
    expect![[r#"
        {"ts":"2026-11-22T12:00:00.000Z","level":"info","event":"key.created","role":"clerk","key":"ci","message":"bsk_4f9a2c created by owner: role clerk, models main claude-*, agents librarian, $5.00 a day, $100.00 in all, 60 requests a minute, 100000 tokens a minute, 4 at once, from 10.0.0.0/8 2001:db8::/32, in prod, priority interactive, labels untrusted financial, until 2026-12-22T12:00:00.000Z"}
        {"ts":"2026-11-22T12:00:00.000Z","level":"info","event":"key.rotated","key":"ci","message":"bsk_7d1e0b made by owner, the old secret until 2026-11-23T12:00:00.000Z"}
        {"ts":"2026-11-22T12:00:00.000Z","level":"info","event":"key.revoked","key":"ci","message":"revoked by owner"}
        {"ts":"2026-11-22T12:00:00.000Z","level":"warn","event":"key.first-used-from","key":"ci","message":"first used from 192.0.2.7"}
    "#]].assert_eq(&(lines.join("\n") + "\n"));
}

#[test]
fn how_a_run_ends_decides_how_loud_it_is() {
    let rows = [
        (RunStatus::Done, Level::Info),
        (RunStatus::Cancelled, Level::Info),
        (RunStatus::Stopped, Level::Warn),
        (RunStatus::Failed, Level::Error),
    ];
    for (status, level) in rows {
        let mut journal = Recorder::default();
        let ended = every_kind().into_iter().find_map(|body| match body {
            EventBody::RunFinished(ended) => Some(ended),
            _ => None,
        });
        let ended = backstop_journal::event::RunFinished { status, ..ended.unwrap() };
        journal.at(0, &StreamId::Node, ended);
        assert_eq!(Log::default().push(&journal.finish()[0].0).level, level, "{status:?}");
    }
    assert!(Level::Error > Level::Warn && Level::Warn > Level::Info && Level::Info > Level::Debug);
    assert_eq!("warn".parse(), Ok(Level::Warn));
    assert!("loud".parse::<Level>().is_err());
}

#[test]
fn no_line_carries_a_body() {
    let secret = "You sort notes.";
    let stored = example_run();
    assert!(stored.iter().any(|(_, json)| json.contains(secret)), "the example holds it");
    assert!(lines(&stored).iter().all(|line| !line.contains(secret) && !line.contains("Sort notes.md")));
}

#[test]
fn memory_of_calls_that_never_end_is_bounded() {
    let mut log = Log::default();
    let (mut started, mut finished) = (None, None);
    for body in every_kind() {
        match body {
            EventBody::CallStarted(event) => started = Some(event),
            EventBody::CallFinished(event) => finished = Some(event),
            _ => {}
        }
    }
    let (started, finished) = (started.unwrap(), CallFinished { asked: None, ..finished.unwrap() });
    let mut journal = Recorder::default();
    for i in 0..=10_000 {
        journal.at(i, &StreamId::Calls, CallStarted { call: format!("{i:05}").into(), ..started.clone() });
    }
    for call in ["00000", "00001"] {
        journal.at(20_000, &StreamId::Calls, CallFinished { call: call.into(), ..finished.clone() });
    }
    let lines: Vec<_> = journal.finish().iter().map(|(event, _)| log.push(event)).collect();
    let [oldest, next] = &lines[lines.len() - 2..] else { unreachable!("two calls were finished") };
    assert_eq!(oldest.role, None, "the oldest was forgotten");
    assert_eq!(next.role, Some("clerk".into()), "the others were not");
}
