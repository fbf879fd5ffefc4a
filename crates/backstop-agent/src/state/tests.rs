//! The fold by example, and over any sequence of events at all.

use super::*;
use crate::testkit::*;
use backstop_journal::event::{ParkReason, RunClaimed, RunResumed};
use proptest::prelude::*;

fn two_calls() -> EventBody {
    let calls = [tool_use("t1", "read", json!({"path": "a"})), tool_use("t2", "write", json!({"path": "b"}))];
    answered(&calls, StopReason::ToolUse)
}

#[test]
fn results_go_back_in_one_message_in_the_order_of_the_calls() {
    let mut events = vec![created().into(), claimed(), two_calls()];
    events.extend([planned("t1", "read", Class::Read), planned("t2", "write", Class::Write)]);
    events.extend([started("t1", 1), started("t2", 1), finished("t2", true, "second")]);
    let half = fold(&events);
    assert_eq!(half.messages.len(), 2, "no result goes back while a call of the turn is open");
    events.push(finished("t1", false, "first"));
    let state = fold(&events);
    let result = |id: &str, is_error, text: &str| Block::ToolResult {
        id: id.into(),
        content: vec![Block::text(text)],
        is_error,
        cache: None,
    };
    assert_eq!(state.messages[2].content[..], [result("t1", false, "first"), result("t2", true, "second")]);
    assert_eq!(state.messages[2].speaker, Speaker::User);
    assert!(state.turn_calls().is_empty());
    assert_eq!((state.turns, state.tokens(), state.cost), (1, 15, Money::from_nanos(100)));
}

#[test]
fn ids_become_unique_and_arguments_that_are_no_object_stay_visible() {
    let first = answered(&[tool_use("x", "read", json!({}))], StopReason::ToolUse);
    let again = [tool_use("x", "read", json!("{\"pa")), tool_use("", "read", json!({}))];
    let state =
        fold(&[created().into(), first, finished("x", false, "ok"), answered(&again, StopReason::ToolUse)]);
    let ids: Vec<_> = state.calls.iter().map(|call| call.id.as_str()).collect();
    assert_eq!(ids, ["x", "x-2-0", "call-2-1"]);
    assert_eq!(state.calls[1].args, json!("{\"pa"), "validation sees what came");
    let sent = &state.messages[3].content[0];
    assert_eq!(*sent, tool_use("x-2-0", "read", json!({"invalid_json": "{\"pa"})), "providers see an object");
}

#[test]
fn parked_and_dead_time_is_not_worked() {
    let at = |second| START + Duration::from_secs(second);
    let park = RunParked { reason: ParkReason::Wait, until: None };
    let rows: Vec<(u64, EventBody)> = vec![
        (0, created().into()),
        (100, claimed()),
        (110, park.into()),
        (500, RunClaimed { owner: "p2".into() }.into()),
        (501, RunResumed { limits: RunLimits::default() }.into()),
        (505, asked()),
        (900, RunClaimed { owner: "p3".into() }.into()),
        (903, asked()),
    ];
    let mut state = RunState::default();
    for (second, event) in &rows {
        state.take(at(*second), event);
    }
    assert_eq!(state.worked(at(910)), Duration::from_secs(10 + 5 + 10));
}

#[test]
fn a_decision_about_a_doubt_becomes_what_the_model_is_told() {
    let base = vec![
        created().into(),
        claimed(),
        answered(&[tool_use("t", "write", json!({}))], StopReason::ToolUse),
        planned("t", "write", Class::Write),
        started("t", 1),
        unknown("t"),
    ];
    let decide = |decision, result: Option<&str>| {
        let mut events = base.clone();
        let result = result.map(Body::from);
        events.push(ToolResolved { id: "t".into(), decision, by: "me".into(), result }.into());
        fold(&events)
    };
    assert_eq!(fold(&base).in_doubt().count(), 1);
    let happened = decide(ToolDecision::Happened, Some("sent"));
    assert!(
        matches!(&happened.messages[2].content[0], Block::ToolResult { is_error: false, content, .. } if content[0].as_text() == Some("sent"))
    );
    let unknown = decide(ToolDecision::Unknown, None);
    assert!(
        matches!(&unknown.messages[2].content[0], Block::ToolResult { is_error: true, content, .. } if content[0].as_text().unwrap().contains("UNKNOWN"))
    );
    let again = decide(ToolDecision::RunIt, None);
    assert_eq!(again.turn_calls()[0].stage, Stage::Again { attempt: 1 });
    assert_eq!(again.in_doubt().count(), 0);
}

#[test]
fn labels_of_what_was_read_stay_on_the_conversation() {
    let mut result = finished("t", false, "from the web");
    if let EventBody::ToolFinished(finished) = &mut result {
        finished.labels = Labels::untrusted();
    }
    let call = answered(&[tool_use("t", "read", json!({}))], StopReason::ToolUse);
    let mut events = vec![created().into(), call];
    assert!(!fold(&events).labels().untrusted);
    events.push(result);
    assert!(fold(&events).labels().untrusted);
}

#[test]
fn an_erased_answer_is_noticed() {
    let mut answer = answered(&[Block::text("x")], StopReason::End);
    if let EventBody::CallFinished(finished) = &mut answer {
        finished.content = Body::Blob { hash: String::from("00").into(), bytes: 2 };
    }
    assert!(fold(&[created().into(), answer]).erased);
}

fn any_event() -> impl Strategy<Value = EventBody> {
    let id = prop::sample::select(vec!["t1", "t2", "x"]);
    let class = prop::sample::select(vec![Class::Read, Class::Idempotent, Class::Write, Class::Irreversible]);
    let decision =
        prop::sample::select(vec![ToolDecision::Happened, ToolDecision::RunIt, ToolDecision::Unknown]);
    let stop = prop::sample::select(vec![StopReason::End, StopReason::MaxTokens, StopReason::Pause]);
    prop_oneof![
        Just(created().into()),
        Just(claimed()),
        Just(asked()),
        Just(two_calls()),
        stop.prop_map(|stop| answered(&[Block::text("hm")], stop)),
        (id.clone(), class).prop_map(|(id, class)| planned(id, "read", class)),
        (id.clone(), 1_u32..4).prop_map(|(id, attempt)| started(id, attempt)),
        (id.clone(), any::<bool>()).prop_map(|(id, is_error)| finished(id, is_error, "r")),
        id.clone().prop_map(unknown),
        (id, decision).prop_map(|(id, decision)| {
            ToolResolved { id: id.into(), decision, by: "me".into(), result: None }.into()
        }),
        Just(RunParked { reason: ParkReason::InDoubt, until: None }.into()),
        Just(RunResumed { limits: RunLimits::default() }.into()),
    ]
}

proptest! {
    /// Whatever comes in whatever order: folding never fails, every tool call that is sent has exactly one result in the
    /// message after it, and what is decided can be decided.
    #[test]
    fn any_sequence_folds_to_a_conversation_that_can_be_sent(
        events in prop::collection::vec(any_event(), 0..40),
    ) {
        let state = fold(&events);
        let mut open: Vec<String> = Vec::new();
        for message in &state.messages {
            let results: Vec<_> = message.content.iter().filter_map(|block| match block {
                Block::ToolResult { id, .. } => Some(id.clone()),
                _ => None,
            }).collect();
            prop_assert!(results.is_empty() || results == open);
            open = message.content.iter().filter_map(|block| match block {
                Block::ToolUse { id, .. } => Some(id.clone()),
                _ => None,
            }).collect();
        }
        let step = crate::decide(&state, &crate::Rules::default(), START + Duration::from_mins(1));
        if matches!(step, crate::Step::CallModel { .. }) {
            prop_assert!(open.is_empty(), "a call without its result is never sent");
        }
    }
}
