//! What a run that does a part is made from, may use and comes to, by table.

use super::*;
use crate::testkit::*;
use backstop_call::Usage;
use backstop_journal::event::{ParkReason, RunFinished, RunParked, Spent, ToolFinished};
use backstop_label::Class;
use serde_json::json;

fn parent(limits: RunLimits, more: &[EventBody]) -> RunState {
    let mut events = vec![RunCreated { limits, ..created() }.into(), claimed(), asked()];
    let call = tool_use("p1", DELEGATE, json!({"agent": "writer", "task": "Write."}));
    events.push(answered(&[call], backstop_call::StopReason::ToolUse));
    events.extend([planned("p1", DELEGATE, Class::Idempotent), started("p1", 1)]);
    events.extend_from_slice(more);
    fold(&events)
}

#[test]
fn a_child_is_known_by_its_parents_call() {
    let run = RunId::from("r1");
    let ids = [child_of(&run, "a"), child_of(&run, "b"), child_of(&RunId::from("r2"), "a")];
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
    assert_eq!(child_of(&run, "a"), ids[0], "the same however often it is asked for");
    assert_eq!(ids[0].as_str().len(), "r1-".len() + KEY_DIGITS);
    assert!(ids[0].as_str().starts_with("r1-"));
}

#[test]
fn what_is_left_is_the_least_of_both() {
    let dollars = |n| Some(Money::from_dollars(n));
    let limits = |secs, tokens, cost| RunLimits { time: Duration::from_secs(secs), turns: 7, tokens, cost };
    // The parent has worked 5 seconds and used 15 tokens and 100 nano-dollars when it is asked.
    let now = START + Duration::from_secs(6);
    let less = Some(Money::from_dollars(2) - Money::from_nanos(100));
    let rows = [
        (limits(60, 1_000, None), limits(30, 500, None), 0, limits(30, 500, None)),
        (limits(60, 1_000, None), limits(300, 5_000, dollars(1)), 0, limits(55, 985, dollars(1))),
        (limits(60, 1_000, dollars(2)), limits(300, 5_000, None), 0, limits(55, 985, less)),
        (limits(60, 1_000, dollars(2)), limits(300, 5_000, dollars(3)), 0, limits(55, 985, less)),
        // Time that it has worked has passed for its parent as well.
        (limits(60, 1_000, None), limits(300, 5_000, None), 4, limits(59, 985, None)),
        // Nothing is left, and no less than that.
        (limits(3, 10, Some(Money::from_nanos(1))), limits(300, 5_000, None), 0, limits(0, 0, dollars(0))),
    ];
    for (own, most, worked, want) in rows {
        let left = parent(own, &[]).left_for(&most, Duration::from_secs(worked), now);
        assert_eq!(left, RunLimits { turns: most.turns, ..want }, "{own:?} {most:?}");
    }
}

#[test]
fn what_a_part_used_counts_once_and_only_in_the_whole() {
    let spent = Spent {
        cost: Money::from_nanos(900),
        usage: Usage { input_tokens: 70, output_tokens: 30, ..Usage::default() },
    };
    let EventBody::ToolFinished(back) = finished("p1", false, "done") else { unreachable!() };
    let back: EventBody = ToolFinished { spent: Some(spent), ..back }.into();
    let open = parent(RunLimits::default(), &[]);
    assert_eq!(open.given_out().map(|call| call.id.as_str()), Some("p1"));
    // A second end of the call is none.
    let state = parent(RunLimits::default(), &[back.clone(), back]);
    assert_eq!((state.cost, state.spent().cost), (Money::from_nanos(100), Money::from_nanos(1_000)));
    assert_eq!((state.usage.input_tokens, state.tokens()), (10, 115));
    assert_eq!(state.given_out(), None);
}

#[test]
fn what_it_came_to() {
    let ended = |status, code, message: &str, result: Option<Value>| {
        let result = result.map(Body::Inline);
        let finished = RunFinished { status, result, code, message: message.into() };
        fold(&[created().into(), claimed(), finished.into()])
    };
    let waits = RunParked { reason: ParkReason::Approval, until: None };
    let left = "What it had changed is as it left it; look at it, then do the rest another way.";
    let not = |how: &str| Came::Back(Err(format!("`writer` {how}. {left}")));
    let rows = [
        (ended(RunStatus::Done, None, "sum", Some(json!("the text"))), Came::Back(Ok("the text".into()))),
        (ended(RunStatus::Done, None, "sum", Some(json!({"n": 1}))), Came::Back(Ok("{\"n\":1}".into()))),
        (ended(RunStatus::Done, None, "sum", None), Came::Back(Ok("sum".into()))),
        (ended(RunStatus::Failed, Some(Code::TaskFailed), "no pen", None), not("did not do it: no pen")),
        (ended(RunStatus::Cancelled, Some(Code::Cancelled), "off", None), not("was ended: off")),
        (fold(&[created().into(), claimed(), waits.into()]), Came::Waits),
    ];
    for (child, want) in rows {
        assert_eq!(came_of(&"writer".into(), &child), want);
    }
    // Its own limits and words are its own; whatever else stops it would stop its parent.
    let own = [
        Code::TimeLimit,
        Code::TurnLimit,
        Code::TokenLimit,
        Code::BudgetExceeded,
        Code::LoopGuard,
        Code::ContextTooLong,
        Code::AnswerMalformed,
    ];
    for code in Code::ALL {
        let came = came_of(&"writer".into(), &ended(RunStatus::Stopped, Some(*code), "why", None));
        let want = if own.contains(code) {
            not("stopped before it was done: why")
        } else {
            Came::Stopped(*code, "`writer`, which does a part of it, stopped: why".into())
        };
        assert_eq!(came, want, "{code}");
    }
}

#[test]
fn a_call_that_gave_out_a_part_is_taken_up_and_never_in_doubt() {
    let shown =
        |state: &RunState| crate::decide(state, &crate::Rules::default(), START + Duration::from_secs(9));
    let take_up = crate::Step::Recover { id: "p1".into(), how: crate::Recovery::TakeUp };
    assert_eq!(shown(&parent(RunLimits::default(), &[])), take_up);
    // However often it was begun: it is the same run each time.
    let often: Vec<_> = (2..9).map(|attempt| started("p1", attempt)).collect();
    assert_eq!(shown(&parent(RunLimits::default(), &often)), take_up);
    // It waits with its part, until that is answered or its time comes.
    let waits = |until| RunParked { reason: ParkReason::Child, until }.into();
    assert_eq!(shown(&parent(RunLimits::default(), &[waits(None)])), crate::Step::Rest);
    let soon = Some(START + Duration::from_secs(10));
    assert_eq!(shown(&parent(RunLimits::default(), &[waits(soon)])), crate::Step::Rest);
    let past = Some(START + Duration::from_secs(9));
    assert_eq!(shown(&parent(RunLimits::default(), &[waits(past)])), crate::Step::Resume);
}
