//! The words of a run, from its events.

#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]

use super::*;
use backstop_call::{FailureKind, Progress, StopReason, Timestamp, Usage};
use backstop_journal::event::{
    AttemptFailed, BudgetWarned, CallFinished, CallStarted, RunClaimed, RunParked, ToolFinished, ToolStarted,
    ToolUnknown,
};
use backstop_journal::{Hash, StreamId};
use backstop_label::Class;
use expect_test::expect;
use std::time::Duration;

fn event(epoch: u64, body: impl Into<EventBody>) -> Event {
    let stream = StreamId::Run("r1".into());
    let at = Timestamp::from_secs(1);
    Event { position: 1, stream, seq: 1, at, epoch, body: body.into(), hash: Hash::default() }
}

fn attempt(number: u32, provider: &str, failure: Option<FailureKind>) -> AttemptRecord {
    AttemptRecord {
        attempt: number,
        provider: provider.into(),
        model: "m".into(),
        started: Timestamp::EPOCH,
        duration: Duration::from_millis(20),
        waited: Duration::ZERO,
        failure,
        progress: Progress::ResponseStarted,
        code: None,
        message: if failure.is_some() { "Overloaded\nplease wait".into() } else { "".into() },
        cost: Money::ZERO,
        suspense: false,
    }
}

fn planned(id: &str, tool: &str, args: &Value) -> ToolPlanned {
    ToolPlanned {
        id: id.into(),
        tool: tool.into(),
        args: Body::of(args),
        args_hash: String::new(),
        class: Class::Write,
        key: String::new(),
        plan: Body::from(""),
        effect: None,
        preview: Body::default(),
        undo: Body::default(),
        asks: None,
        undoes: None,
        labels: backstop_call::Labels::default(),
    }
}

fn tool_finished(id: &str, is_error: bool, probed: bool) -> ToolFinished {
    ToolFinished {
        id: id.into(),
        is_error,
        result: Body::from("File not found: b.md.\nVerify the path."),
        whole: Body::default(),
        labels: backstop_call::Labels::default(),
        duration: Duration::from_millis(3),
        probed,
        spent: None,
    }
}

#[test]
fn a_run_in_words() {
    let started = CallStarted {
        call: "c1".into(),
        model: "main".into(),
        turn: 1,
        input_tokens: 10,
        task: None,
        role: None,
        key: None,
        labels: backstop_call::Labels::default(),
    };
    let finished = CallFinished {
        call: "c1".into(),
        turn: 1,
        provider: "fallback".into(),
        model: "m".into(),
        content: Body::from(""),
        stop: StopReason::ToolUse,
        usage: Usage { input_tokens: 12_000, output_tokens: 345, ..Usage::default() },
        cost: Money::from_nanos(4_200_000),
        duration: Duration::from_secs(1),
        first_token: None,
        request_id: None,
        attempts: vec![attempt(1, "primary", Some(FailureKind::Overloaded)), attempt(2, "fallback", None)],
        labels: backstop_call::Labels::default(),
        asked: None,
        status: None,
    };
    let failed =
        AttemptFailed { call: "c1".into(), attempt: attempt(1, "primary", Some(FailureKind::Overloaded)) };
    let warned = BudgetWarned {
        account: "total@20779".into(),
        percent: 80,
        spent: Money::from_dollars(4),
        limit: Money::from_dollars(5),
        run: None,
        call: None,
        provider: None,
    };
    let write = serde_json::json!({"path": "out/a.md", "content": "x"});
    let read = serde_json::json!({"path": "b.md"});
    let events = [
        event(1, RunClaimed { owner: "p".into() }),
        event(1, started),
        event(1, failed),
        event(1, finished),
        event(1, planned("t1", "write_file", &write)),
        event(1, ToolStarted { id: "t1".into(), attempt: 1, approval: None }),
        event(1, tool_finished("t1", false, false)),
        event(1, planned("t2", "read_file", &read)),
        event(1, tool_finished("t2", true, false)),
        event(1, ToolUnknown { id: "t1".into(), reason: "the process died".into() }),
        event(1, RunParked { reason: ParkReason::InDoubt, until: None }),
        event(2, RunClaimed { owner: "q".into() }),
        event(2, tool_finished("t1", false, true)),
        event(2, warned),
    ];
    let mut narrator = Narrator::default();
    let mut told = String::new();
    for event in &events {
        if let Some(line) = narrator.push(event) {
            told.extend([crate::ui::Look::PLAIN.mark(line.mark), format!(" {}\n", line.text)]);
        }
    }
    told += &narrator.now();
    expect![[r#"
        !  primary attempt 1: overloaded: Overloaded please wait
        ok answered by fallback on attempt 2
        -  write_file out/a.md (3ms)
        !  read_file b.md: File not found: b.md. Verify the path.
        x  write_file out/a.md: in doubt: the process died
        .. waits: a person must say what happened
        -  goes on where it was left
        -  write_file out/a.md (3ms, found done after a crash)
        !  the day's budget is spent to 80 %: $4.00 of $5.00
        turn 1  write_file out/a.md  12.3k tokens  $0.0042"#]]
    .assert_eq(&told);
}
