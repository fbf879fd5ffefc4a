//! What comes next, by table: rows of events, and the step that follows each of them.

use super::*;
use crate::testkit::*;
use backstop_call::{Block, Failure, Money, Progress, StopReason};
use backstop_journal::EventBody;
use backstop_journal::event::{RunCreated, RunLimits, RunResumed, ToolDecision, ToolResolved};
use serde_json::json;

fn step(events: &[EventBody]) -> Step {
    let rules = Rules { outages_max: 2, context_window_tokens: Some(10_000), ..Rules::default() };
    decide(&fold(events), &rules, START + Duration::from_secs(events.len() as u64))
}

/// A step in one line.
fn shown(step: &Step) -> String {
    match step {
        Step::CallModel { request, .. } => format!("call with {} messages", request.messages.len()),
        Step::Dispatch(ids) => format!("dispatch {}", ids.join(" ")),
        Step::Conclude(id) => format!("conclude {id}"),
        Step::Recover { id, how } => match how {
            Recovery::RunAgain => format!("run {id} again"),
            Recovery::Probe => format!("probe {id}"),
            Recovery::TakeUp => format!("take {id} up"),
            Recovery::InDoubt(_) => format!("{id} in doubt"),
            Recovery::GiveUp(_) => format!("give {id} up"),
        },
        Step::Park(parked) => {
            let wait = parked.until.map(|until| until.since(START).as_secs());
            format!(
                "park {:?} {}",
                parked.reason,
                wait.map_or(String::new(), |wait| format!("until +{wait}"))
            )
        }
        Step::Resume => "resume".to_owned(),
        Step::Finish(finished) => {
            let code = finished.code.map_or(String::new(), |code| format!(" {code}"));
            let result = finished
                .result
                .as_ref()
                .and_then(Body::value)
                .map_or(String::new(), |result| format!(" {result}"));
            format!("{}{code}{result}", finished.status.as_str())
        }
        Step::Rest => "rest".to_owned(),
    }
}

fn run(more: &[EventBody]) -> Vec<EventBody> {
    run_of(created(), more)
}

fn run_of(created: RunCreated, more: &[EventBody]) -> Vec<EventBody> {
    let mut events = vec![created.into(), claimed(), asked()];
    events.extend_from_slice(more);
    events
}

fn calls(tools: &[(&str, &str)]) -> EventBody {
    let blocks: Vec<_> = tools.iter().map(|(id, tool)| tool_use(id, tool, json!({"summary": id}))).collect();
    answered(&blocks, StopReason::ToolUse)
}

fn said(text: &str, stop: StopReason) -> EventBody {
    answered(&[Block::text(text)], stop)
}

fn check(rows: &[(&str, Vec<EventBody>, &str)]) {
    for (name, events, want) in rows {
        assert_eq!(shown(&step(events)), *want, "{name}");
    }
}

#[test]
fn the_course_of_a_run() {
    let turn = calls(&[("t1", "read"), ("t2", "write")]);
    check(&[
        ("nothing", vec![], "rest"),
        ("created", vec![created().into(), claimed()], "call with 1 messages"),
        ("a call that a crash cut off is made again", run(&[]), "call with 1 messages"),
        ("tool calls", run(std::slice::from_ref(&turn)), "dispatch t1 t2"),
        (
            "planned and not started",
            run(&[turn.clone(), planned("t1", "read", Class::Read)]),
            "dispatch t1 t2",
        ),
        ("one is back", run(&[turn.clone(), finished("t1", false, "")]), "dispatch t2"),
        (
            "all are back",
            run(&[turn.clone(), finished("t1", false, ""), finished("t2", true, "")]),
            "call with 3 messages",
        ),
        ("a text is the result", run(&[said("42", StopReason::End)]), "done \"42\""),
        ("an empty answer is asked about", run(&[said(" ", StopReason::End)]), "call with 3 messages"),
        ("twice is enough", run(&[said(" ", StopReason::End), said(" ", StopReason::End)]), "failed BS5010"),
        ("a pause goes on", run(&[said("hm", StopReason::Pause)]), "call with 2 messages"),
        ("a refusal ends", run(&[said("no", StopReason::Refusal)]), "failed BS2008"),
        ("truncated", run(&[said("a", StopReason::MaxTokens)]), "call with 3 messages"),
        ("truncated for ever", run(&vec![said("a", StopReason::MaxTokens); 3]), "failed BS2009"),
        ("the window is full", run(&[said("a", StopReason::ContextWindow)]), "stopped BS2007"),
    ]);
}

#[test]
fn finish_ends_the_run() {
    let schema = || RunCreated { result_schema: Some(json!({"type": "number"})), ..created() };
    let finish = |args| answered(&[tool_use("f", "finish", args)], StopReason::ToolUse);
    let accepted = |args| run(&[finish(args), planned("f", "finish", Class::Read), finished("f", false, "")]);
    check(&[
        ("finish is heard last", run(&[calls(&[("f", "finish"), ("t", "read")])]), "dispatch t"),
        (
            "and then alone",
            run(&[calls(&[("f", "finish"), ("t", "read")]), finished("t", false, "")]),
            "conclude f",
        ),
        ("the result", accepted(json!({"summary": "s", "result": [1]})), "done [1]"),
        ("the summary, where there is no more", accepted(json!({"summary": "s"})), "done \"s\""),
        ("it cannot be done", accepted(json!({"summary": "s", "failed": true})), "failed BS5011"),
        (
            "a finish that was refused does not end it",
            run(&[finish(json!({})), finished("f", true, "no")]),
            "call with 3 messages",
        ),
        (
            "a text is no result where a schema is asked for",
            run_of(schema(), &[said("42", StopReason::End)]),
            "call with 3 messages",
        ),
        (
            "nor is a second",
            run_of(schema(), &[said("42", StopReason::End), said("42", StopReason::End)]),
            "failed BS5010",
        ),
        (
            "work in between counts as an answer to the question",
            run_of(
                schema(),
                &[
                    said("42", StopReason::End),
                    calls(&[("t", "read")]),
                    finished("t", false, ""),
                    said("42", StopReason::End),
                ],
            ),
            "call with 7 messages",
        ),
    ]);
}

#[test]
fn a_crash_allows_what_the_class_says() {
    let crashed = |class, attempt| {
        run(&[calls(&[("t", "write")]), planned("t", "write", class), started("t", attempt), claimed()])
    };
    let doubt = [
        calls(&[("t", "write"), ("u", "read")]),
        planned("t", "write", Class::Write),
        started("t", 1),
        unknown("t"),
    ];
    let resolved = |decision| {
        let mut events = run(&doubt);
        events.push(RunParked { reason: ParkReason::InDoubt, until: None }.into());
        events.push(ToolResolved { id: "t".into(), decision, by: "me".into(), result: None }.into());
        events.push(RunResumed { limits: RunLimits::default() }.into());
        events
    };
    check(&[
        ("read", crashed(Class::Read, 1), "run t again"),
        ("a read that kills its process", crashed(Class::Read, 3), "give t up"),
        ("idempotent", crashed(Class::Idempotent, 1), "run t again"),
        ("idempotent, for ever", crashed(Class::Idempotent, 3), "t in doubt"),
        ("write", crashed(Class::Write, 1), "probe t"),
        ("irreversible", crashed(Class::Irreversible, 1), "t in doubt"),
        ("a doubt parks the run, and the rest of the turn waits", run(&doubt), "park InDoubt "),
        ("it happened", resolved(ToolDecision::Happened), "dispatch u"),
        ("run it", resolved(ToolDecision::RunIt), "run t again"),
        ("nobody knows", resolved(ToolDecision::Unknown), "dispatch u"),
    ]);
}

#[test]
fn failures_wait_stop_or_fail() {
    use FailureKind::*;
    let failed = |kind, hint: Option<u64>| {
        call_failed(Failure::new(kind, Progress::Sent, "x").with_retry_after(hint.map(Duration::from_secs)))
    };
    let once = |kind, hint| run(&[failed(kind, hint)]);
    let invalid =
        |code| run(&[call_failed(Failure::new(Invalid, Progress::ResponseStarted, "x").with_code(code))]);
    check(&[
        ("a hint is waited for", once(Throttled, Some(900)), "park Wait until +903"),
        ("an outage", once(Transient, None), "park Wait until +18"),
        ("overloaded", once(Overloaded, None), "park Wait until +18"),
        ("nobody knows what became of it", once(UnknownOutcome, None), "park Wait until +18"),
        ("the call's time was over", once(Deadline, None), "park Wait until +18"),
        ("a longer outage", run(&[failed(Transient, None), failed(Transient, None)]), "park Wait until +34"),
        ("too long", run(&vec![failed(Throttled, Some(9)); 3]), "stopped BS2003"),
        ("too slow", run(&vec![failed(Deadline, None); 3]), "stopped BS2018"),
        (
            "an answer in between",
            run(&[
                failed(Transient, None),
                failed(Transient, None),
                calls(&[("t", "read")]),
                finished("t", false, ""),
                failed(Transient, None),
            ]),
            "park Wait until +22",
        ),
        ("the key", once(Auth, None), "stopped BS2005"),
        ("no credit", once(Quota, None), "stopped BS2004"),
        ("no local model", once(Private, None), "stopped BS2015"),
        ("no money", once(Budget, None), "stopped BS3001"),
        ("does not fit", once(ContextLength, None), "stopped BS2007"),
        ("malformed", once(Malformed, None), "stopped BS2009"),
        ("no such model here", invalid(Code::UnknownModel), "stopped BS1006"),
        ("no such model there", invalid(Code::ModelNotFound), "stopped BS2016"),
        ("too large", invalid(Code::RequestTooLarge), "stopped BS2017"),
        ("the conversation is wrong", invalid(Code::RequestInvalid), "failed BS2006"),
        ("declined", once(Policy, None), "failed BS2008"),
        ("unwanted", once(Cancelled, None), "cancelled BS2013"),
    ]);
    let until = Some(START + Duration::from_mins(1));
    let parked = RunParked { reason: ParkReason::Wait, until };
    let events = run(&[failed(Throttled, Some(50)), parked.into()]);
    let state = fold(&events);
    let at = |second| decide(&state, &Rules::default(), START + Duration::from_secs(second));
    assert_eq!((at(59), at(60)), (Step::Rest, Step::Resume));
}

/// Its waits are counted from where it was let go on; a wait that is merely over does not count as that.
#[test]
fn a_run_that_an_outage_stopped_waits_again_once_it_is_resumed() {
    let failed = || call_failed(Failure::new(FailureKind::Transient, Progress::Sent, "x"));
    let resumed = || RunResumed { limits: RunLimits::default() }.into();
    let mut events = run(&[failed(), resumed(), failed(), resumed(), failed()]);
    let Step::Finish(stopped) = step(&events) else { panic!("{}", shown(&step(&events))) };
    assert_eq!((stopped.status, stopped.code), (RunStatus::Stopped, Some(Code::ProviderFailed)));
    events.extend([stopped.into(), resumed()]);
    assert_eq!(shown(&step(&events)), "call with 1 messages");
    events.push(failed());
    assert!(shown(&step(&events)).starts_with("park Wait"), "{}", shown(&step(&events)));
}

#[test]
fn limits_stop_before_anything_is_sent() {
    let limited = |limits: RunLimits| {
        let turn = [calls(&[("t", "read")]), finished("t", false, "")];
        shown(&step(&run_of(RunCreated { limits, ..created() }, &turn)))
    };
    let free = RunLimits::default();
    assert_eq!(limited(free), "call with 3 messages");
    assert_eq!(limited(RunLimits { turns: 1, ..free }), "stopped BS5003");
    assert_eq!(limited(RunLimits { time: Duration::from_secs(4), ..free }), "stopped BS5002");
    assert_eq!(limited(RunLimits { time: Duration::from_secs(5), ..free }), "call with 3 messages");
    assert_eq!(limited(RunLimits { tokens: 16, ..free }), "stopped BS5004");
    assert_eq!(limited(RunLimits { cost: Some(Money::from_nanos(100)), ..free }), "stopped BS3001");
    assert_eq!(limited(RunLimits { cost: Some(Money::from_nanos(101)), ..free }), "call with 3 messages");
    let over = RunCreated { limits: RunLimits { time: Duration::from_secs(1), ..free }, ..created() };
    check(&[
        (
            "no tool is begun after the time",
            run_of(over.clone(), &[calls(&[("t", "read")])]),
            "stopped BS5002",
        ),
        ("what is finished is finished", run_of(over.clone(), &[said("42", StopReason::End)]), "done \"42\""),
        ("also by a call", run_of(over, &[calls(&[("f", "finish")])]), "conclude f"),
    ]);
}

#[test]
fn what_does_not_fit_the_window_is_not_sent() {
    let long = RunCreated { message: Body::from("x".repeat(29_100).as_str()), ..created() };
    assert_eq!(shown(&step(&run_of(long.clone(), &[]))), "call with 1 messages");
    let longer = RunCreated { message: Body::from("x".repeat(30_000).as_str()), ..created() };
    assert_eq!(shown(&step(&run_of(longer, &[]))), "stopped BS2007");
    let wordy = RunCreated { max_tokens: Some(1_000), ..long };
    assert_eq!(shown(&step(&run_of(wordy, &[]))), "stopped BS2007", "the answer needs room as well");
}

#[test]
fn an_answer_gets_no_more_tokens_than_the_run_has() {
    let limits = RunLimits { tokens: 1_000, ..RunLimits::default() };
    let events = run_of(RunCreated { limits, max_tokens: Some(4_096), ..created() }, &[]);
    let Step::CallModel { request, input_tokens } = step(&events) else { panic!("no call") };
    assert_eq!(request.max_tokens, Some(1_000 - input_tokens));
}

#[test]
fn the_same_again_and_again_is_stopped_and_can_go_on() {
    let turn = |n: usize| {
        [
            answered(&[tool_use(&format!("t{n}"), "read", json!({"path": "a"}))], StopReason::ToolUse),
            planned(&format!("t{n}"), "read", Class::Read),
            finished(&format!("t{n}"), false, "same"),
        ]
    };
    let mut events = run(&[]);
    for n in 0..3 {
        events.extend(turn(n));
        assert!(shown(&step(&events)).starts_with("call"), "{n}");
    }
    assert_eq!(fold(&events).calls[2].repeat, Repeat::Warn);
    events.push(turn(3)[0].clone());
    assert_eq!(shown(&step(&events)), "stopped BS5005");
    let Step::Finish(stopped) = step(&events) else { unreachable!() };
    events.extend([stopped.into(), RunResumed { limits: RunLimits::default() }.into()]);
    assert_eq!(shown(&step(&events)), "dispatch t3");
}
