//! Every limit of a run: it stops there, says so, goes on with more, and ends as if it had never stopped.

use crate::kit::{LineTool, SECOND, Script, declared, spoken, task, tool_use, unsure};
use crate::stacked::stacked;
use backstop_agent::tool::{Job, ToolOutput};
use backstop_agent::{Agent, RunOutcome, Toolbox};
use backstop_call::{Code, FailureKind, Money, Price, RunId, StopReason};
use backstop_journal::event::{RunCreated, RunLimits};
use backstop_journal::{Event, EventBody, RunStatus, StreamId};
use backstop_label::{Class, Effect};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The notes that a run takes before it is done, each in a turn of its own.
const NOTES: usize = 6;
/// A call costs a dollar, whatever its size.
const A_DOLLAR: Price = Price {
    input: Money::ZERO,
    output: Money::ZERO,
    cache_read: Money::ZERO,
    cache_write: Money::ZERO,
    request: Money::from_dollars(1),
};

/// What the test saw happen.
#[derive(Clone, Default)]
struct Seen {
    /// The lines that were noted.
    lines: Arc<Mutex<Vec<String>>>,
    /// How often the model was asked, by how often it had spoken.
    asked: Arc<Mutex<BTreeMap<usize, usize>>>,
}

/// An agent that notes six lines, a second each, and finishes. `line` is the n-th.
fn noting(seen: &Seen, line: fn(usize) -> String) -> Agent {
    let asked = Arc::clone(&seen.asked);
    let model = Script(Box::new(move |request| {
        let turn = spoken(request);
        *asked.lock().unwrap().entry(turn).or_default() += 1;
        let call = match turn {
            NOTES.. => tool_use("f", "finish", json!({"summary": "done"})),
            turn => tool_use(&format!("t{turn}"), "note", json!({"line": line(turn)})),
        };
        Ok((vec![call], StopReason::ToolUse))
    }));
    let lines = Arc::clone(&seen.lines);
    let run = move |job: &Job| -> backstop_call::BoxFuture<'static, _> {
        let (lines, line) = (Arc::clone(&lines), job.args["line"].as_str().unwrap().to_owned());
        Box::pin(async move {
            tokio::time::sleep(SECOND).await;
            lines.lock().unwrap().push(line);
            Ok(ToolOutput::text("noted"))
        })
    };
    let declaration = declared(Class::Write, Effect::Write);
    let mut tools = Toolbox::new();
    tools.add(LineTool { name: "note", declaration, run: Box::new(run), probe: unsure }).unwrap();
    stacked(Arc::new(model), A_DOLLAR, tools)
}

/// How often each tool call was dispatched.
async fn dispatched(agent: &Agent, run: &RunId) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for event in agent.journal.read(&StreamId::Run(run.clone()), 0).await.unwrap() {
        if let EventBody::ToolStarted(started) = event.body {
            *times.entry(started.id).or_default() += 1;
        }
    }
    times
}

/// How many calls of the model a budget refused.
async fn refused(agent: &Agent, run: &RunId) -> usize {
    let events = agent.journal.read(&StreamId::Run(run.clone()), 0).await.unwrap();
    let is_refused = |event: &Event| match &event.body {
        EventBody::CallFailed(failed) => failed.failure.kind == FailureKind::Budget,
        _ => false,
    };
    events.iter().filter(|event| is_refused(event)).count()
}

/// Runs into `limits`, is let go on with `more`, and must be done then, with everything done once. Says how many calls a
/// budget refused.
async fn stops_and_goes_on(
    limits: RunLimits,
    more: RunLimits,
    line: fn(usize) -> String,
    code: Code,
) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let seen = Seen::default();
    let agent = noting(&seen, line);
    let run = agent.create(RunCreated { limits, ..task(dir.path(), &["note"]) }).await.unwrap();
    let stopped = agent.drive(&run).await.unwrap();
    assert_eq!((stopped.status, stopped.code), (RunStatus::Stopped, Some(code)), "{stopped:?}");
    let noted = seen.lines.lock().unwrap().len();
    assert!((1..NOTES).contains(&noted), "{code}: it stopped after {noted} notes");
    assert_eq!(agent.drive(&run).await.unwrap(), stopped, "{code}: a drive lets nothing go on");

    let done: RunOutcome = agent.resume(&run, Some(more)).await.unwrap();
    assert_eq!((done.status, done.code, done.message.as_str()), (RunStatus::Done, None, "done"), "{done:?}");
    let want: Vec<_> = (0..NOTES).map(line).collect();
    assert_eq!(*seen.lines.lock().unwrap(), want, "{code}: every line once, in order");
    let once: BTreeMap<_, _> = (0..NOTES).map(|turn| (format!("t{turn}"), 1)).collect();
    assert_eq!(dispatched(&agent, &run).await, once, "{code}");
    let asked: BTreeMap<_, _> = (0..=NOTES).map(|turn| (turn, 1)).collect();
    assert_eq!(*seen.asked.lock().unwrap(), asked, "{code}: no turn is paid for twice");
    assert_eq!(done.cost, Money::from_dollars(7), "{code}");
    refused(&agent, &run).await
}

#[tokio::test(start_paused = true)]
async fn a_run_stopped_at_any_limit_goes_on_with_more_and_does_nothing_twice() {
    let free = RunLimits { time: Duration::from_hours(1), ..RunLimits::default() };
    let dollars = |n| Some(Money::from_dollars(n));
    let fresh = |n: usize| format!("line {n}");
    let rows = [
        (RunLimits { time: SECOND * 3, ..free }, Code::TimeLimit, 0),
        (RunLimits { turns: 4, ..free }, Code::TurnLimit, 0),
        (RunLimits { tokens: 450, ..free }, Code::TokenLimit, 0),
        // What a run has cost reaches its limit: the agent stops it.
        (RunLimits { cost: dollars(2), ..free }, Code::BudgetExceeded, 0),
        // What the next call may cost does not fit any more: the budget refuses the call.
        (RunLimits { cost: Some(Money::from_nanos(2_999_999_999)), ..free }, Code::BudgetExceeded, 1),
    ];
    for (limits, code, refused) in rows {
        let more = RunLimits { cost: limits.cost.and(dollars(7)), ..free };
        assert_eq!(stops_and_goes_on(limits, more, fresh, code).await, refused, "{code}");
    }
    // The same line four times is a loop; a person who lets it go on is believed.
    let stuttering = |n: usize| format!("line {}", n.saturating_sub(3));
    stops_and_goes_on(free, free, stuttering, Code::LoopGuard).await;
}
