//! The story of the example run, at its end and at every event on the way.

use crate::example::{RUN, run_events};
use backstop_call::{FailureKind, Money};
use backstop_journal::Event;
use backstop_journal::event::ToolDecision;
use backstop_journal::projections::history::RunSummary;
use backstop_journal::projections::timeline::{CallOutcome, Moment, Timeline, ToolOutcome};
use expect_test::expect;
use std::fmt::Write;
use std::time::Duration;

/// A line per row: what `backstop show` has to tell.
pub(crate) fn show(timeline: &Timeline) -> String {
    let mut out = String::new();
    for row in &timeline.rows {
        write!(out, "{:<5} ms #{:<2} ", row.after.as_millis(), row.seq).unwrap();
        match &row.moment {
            Moment::Call(call) => {
                let outcome = match &call.outcome {
                    CallOutcome::Open => "open".to_owned(),
                    CallOutcome::Interrupted => "interrupted".to_owned(),
                    CallOutcome::Answered { usage, .. } => format!("{} tokens out", usage.output_tokens),
                    CallOutcome::Failed { code, message, .. } => format!("{code} {message}"),
                };
                let by = call.provider.as_ref().map_or("-", |provider| provider.as_str());
                let ms = call.duration.as_millis();
                writeln!(out, "turn {} call {} {by} {outcome} {} {ms} ms", call.turn, call.call, call.cost)
                    .unwrap();
                for attempt in &call.attempts {
                    let end = attempt.failure.map_or("ok", FailureKind::as_str);
                    let ms = attempt.duration.as_millis();
                    writeln!(out, "{:>18}. {} {end} {ms} ms", attempt.attempt, attempt.provider).unwrap();
                }
            }
            Moment::Tool(tool) => {
                let outcome = match &tool.outcome {
                    ToolOutcome::Planned => "planned".to_owned(),
                    ToolOutcome::Running => "running".to_owned(),
                    ToolOutcome::Finished { is_error, probed, .. } => {
                        format!("error {is_error} probed {probed}")
                    }
                    ToolOutcome::InDoubt { reason } => format!("in doubt: {reason}"),
                    ToolOutcome::Resolved { decision, by, .. } => format!("{decision:?} says {by}"),
                };
                writeln!(out, "tool {} {} {outcome} {} ms", tool.id, tool.tool, tool.duration.as_millis())
                    .unwrap();
            }
            Moment::Claimed { owner, epoch } => writeln!(out, "claimed by {owner} ({epoch})").unwrap(),
            Moment::Parked { reason, .. } => writeln!(out, "parked {reason:?}").unwrap(),
            Moment::Queued { .. } => writeln!(out, "queued").unwrap(),
            Moment::Erased(_) => writeln!(out, "erased").unwrap(),
            Moment::Resumed { .. } => writeln!(out, "resumed").unwrap(),
            Moment::Finished { status, .. } => writeln!(out, "{status:?}").unwrap(),
            Moment::BudgetWarned { account, percent, .. } => writeln!(out, "{account} {percent} %").unwrap(),
        }
    }
    out
}

fn until(kind: &str) -> Timeline {
    let events = run_events();
    let last = events.iter().position(|event| event.body.kind() == kind).unwrap();
    Timeline::fold(&events[..=last]).unwrap()
}

#[test]
fn the_whole_story() {
    let timeline = Timeline::fold(&run_events()).unwrap();
    expect![[r"
        1     ms #2  claimed by host-1:4711 (1)
        900   ms #3  turn 1 call c1 openai 50 tokens out $0.0042 2500 ms
                         1. anthropic overloaded 800 ms
                         2. openai ok 1200 ms
        3400  ms #6  tool t1 write_file error false probed false 3 ms
        3404  ms #9  turn 2 call c2 - interrupted $0.00 6596 ms
        10000 ms #10 claimed by host-2:99 (2)
        10001 ms #11 turn 2 call c3 openai 20 tokens out $0.001000001 2500 ms
                         1. openai ok 1200 ms
        12501 ms #13 tool t2 send_mail Happened says owner 0 ms
        20000 ms #15 claimed by host-2:100 (3)
        20002 ms #17 parked InDoubt
        50001 ms #19 resumed
        50002 ms #20 claimed by host-2:101 (4)
        50003 ms #21 turn 3 call c4 openai 20 tokens out $0.001000001 2500 ms
                         1. openai ok 1200 ms
        52504 ms #23 Done
    "]]
    .assert_eq(&show(&timeline));
    assert_eq!(timeline.summary.run, RUN.into());
    assert_eq!(timeline.summary.cost, Money::from_nanos(6_200_002));
    assert_eq!(timeline.summary.calls, 3);
    assert_eq!(timeline.summary.duration(), Duration::from_millis(52_504));
    assert!(timeline.result.is_some());
    assert_eq!(timeline.in_doubt().count(), 0);
}

#[test]
fn what_is_in_doubt_is_named_until_a_person_decides() {
    let parked = until("run.parked");
    let names: Vec<_> = parked.in_doubt().map(|tool| tool.tool.as_str()).collect();
    assert_eq!(names, ["send_mail"]);
    let resolved = until("tool.resolved");
    assert_eq!(resolved.in_doubt().count(), 0);
    let last = resolved.tools().last().unwrap();
    let ToolOutcome::Resolved { decision, by, .. } = &last.outcome else { panic!("{last:?}") };
    assert_eq!((*decision, by.as_str()), (ToolDecision::Happened, "owner"));
}

/// Whatever the journal ends with, the story can be told, has the same totals as the run's line in the list, and grows
/// by what comes next.
#[test]
fn every_prefix_tells_a_story() {
    let events = run_events();
    let mut growing = Timeline::start(&events[0]).unwrap();
    let mut summary = RunSummary::start(&RUN.into(), &events[0]).unwrap();
    for length in 2..=events.len() {
        growing.apply(&events[length - 1]);
        summary.apply(&events[length - 1]);
        assert_eq!(Timeline::fold(&events[..length]).unwrap(), growing);
        assert_eq!(growing.summary, summary);
    }
    let last: Option<&Event> = events.last();
    assert!(Timeline::fold(last).is_none(), "a story begins at the beginning");
}

#[test]
fn a_call_that_the_crash_cut_off_says_so() {
    let events = run_events();
    let claims: Vec<_> = events.iter().filter(|event| event.body.kind() == "run.claimed").collect();
    let timeline = Timeline::fold(&events).unwrap();
    let cut = timeline.calls().find(|call| call.call == "c2".into()).unwrap();
    assert_eq!(cut.outcome, CallOutcome::Interrupted);
    assert_eq!(cut.duration, claims[1].at.since(cut.started));
}
