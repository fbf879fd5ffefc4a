//! Runs that do parts for others wait with them: for a person, for a time, for their end; and an answer wakes all.

use crate::delegation::{House, cast, end, part, rights, send, write};
use crate::kit::Script;
use backstop_agent::run::{Answer, Verdict};
use backstop_agent::{RunError, child_of};
use backstop_call::{Code, Failure, FailureKind, Progress};
use backstop_journal::event::{ParkReason, ToolDecision};
use backstop_journal::{Journal as _, RunStatus};
use backstop_label::Policy;
use backstop_store::MemoryStore;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A lead whose writer sends.
fn sending(line: &str) -> House {
    House::new(vec![
        ("lead", vec![vec![part("p1", "writer", "x"), write("w1", "after.md", "after\n")], end("done")]),
        ("writer", vec![vec![send("s1", line)], end("it is sent")]),
    ])
}

#[tokio::test(start_paused = true)]
async fn a_question_of_a_part_parks_all_above_it_and_holds_nothing() {
    for through_child in [false, true] {
        let store = MemoryStore::new();
        let mut house = sending("hello");
        house.agent.journal = Arc::new(store.clone());
        let (run, outcome) = house.start().await;
        let child = child_of(&run, "p1");
        let waits = (outcome.status, outcome.parked, outcome.code);
        assert_eq!(waits, (RunStatus::Parked, Some(ParkReason::Child), Some(Code::ApprovalNeeded)));
        assert_eq!((&outcome.questions[0].run, outcome.until), (&child, Some(outcome.questions[0].expires)));
        assert_eq!(house.read("after.md"), None, "what comes after it waits with it");
        assert_eq!(house.agent.inspect(&run).await.unwrap(), outcome);

        // Nobody is asked anew, nothing is written down, and anybody may take it up.
        let before = store.tail(0, 1_000).await.unwrap().len();
        assert_eq!(house.agent.resume(&run, None).await.unwrap(), outcome);
        assert_eq!(house.agent.resume(&child, None).await.unwrap().questions, outcome.questions);
        let new = store.tail(before as u64, 1_000).await.unwrap();
        assert!(new.iter().all(|event| event.body.kind() == "run.claimed"), "{new:?}");
        let peer = store.peer();
        for run in [&run, &child] {
            let epoch = peer.claim(run, house.agent.clock.now()).await.unwrap();
            peer.release(run, epoch).await.unwrap();
        }

        house.answer(&outcome, Answer::Approve).await.unwrap();
        let woken = if through_child { &child } else { &run };
        assert_eq!(house.agent.resume(woken, None).await.unwrap().status, RunStatus::Done);
        assert_eq!(house.agent.inspect(&run).await.unwrap().status, RunStatus::Done);
        assert_eq!(
            (house.sent(), house.read("after.md")),
            (vec!["hello".to_owned()], Some("after\n".into()))
        );
        assert_eq!(house.told(&run).await[0], "it is sent");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_lead_may_no_more_its_part_may_no_more_either() {
    let mut house = sending("hello");
    let policy = |lead: Value| {
        Arc::new(Policy { roles: [("lead".to_owned(), rights(lead))].into(), gates: Vec::new() })
    };
    house.agent.policy = policy(json!({"*": {}}));
    let (run, outcome) = house.start().await;
    house.answer(&outcome, Answer::Approve).await.unwrap();
    // While the question was open, the rights of the lead's role were made less.
    house.agent.policy = policy(json!({"delegate": {}, "write_file": {}}));
    assert_eq!(house.agent.resume(&run, None).await.unwrap().status, RunStatus::Done);
    assert!(house.sent().is_empty());
    assert!(house.told(&child_of(&run, "p1")).await[0].contains("There is no tool `send`"));
}

#[tokio::test(start_paused = true)]
async fn a_question_of_a_part_that_nobody_answers_is_a_no_and_wakes_all() {
    let house = sending("hello");
    let (run, outcome) = house.start().await;
    let wait = outcome.until.unwrap().since(house.agent.clock.now());
    tokio::time::advance(wait).await;
    assert_eq!(house.agent.drive(&run).await.unwrap().status, RunStatus::Done);
    assert!(house.sent().is_empty());
    assert!(house.told(&child_of(&run, "p1")).await[0].contains("nobody answered in time"));
}

#[tokio::test(start_paused = true)]
async fn a_doubt_of_a_part_is_resolved_there_and_wakes_all() {
    let house = sending("lost");
    let (run, outcome) = house.start().await;
    house.answer(&outcome, Answer::Approve).await.unwrap();
    let doubt = house.agent.resume(&run, None).await.unwrap();
    assert_eq!((doubt.parked, doubt.code), (Some(ParkReason::Child), Some(Code::InDoubt)));
    let verdict = Verdict {
        call: &doubt.in_doubt[0].call,
        decision: ToolDecision::Happened,
        result: Some("sent"),
        by: "owner",
    };
    assert_eq!(house.agent.resume(&run, None).await.unwrap(), doubt, "a resume decides nothing");
    house.agent.resolve(&doubt.in_doubt[0].run, verdict).await.unwrap();
    assert_eq!(house.agent.resume(&run, None).await.unwrap().status, RunStatus::Done);
    assert_eq!(house.sent(), ["lost"]);
}

#[tokio::test(start_paused = true)]
async fn a_part_that_must_wait_is_waited_for_and_one_that_is_stopped_stops_all() {
    let rows = [
        (FailureKind::Overloaded, RunStatus::Parked, Some(ParkReason::Child), None),
        (FailureKind::Auth, RunStatus::Stopped, None, Some(Code::KeyRefused)),
    ];
    for (kind, status, parked, code) in rows {
        let mut house = House::new(Vec::new());
        let failed = Arc::new(Mutex::new(false));
        let inner = cast(vec![
            ("lead", vec![vec![part("p1", "reader", "x")], end("done")]),
            ("reader", vec![end("read")]),
        ]);
        house.agent.model = Arc::new(Script(Box::new(move |request| {
            let first = request.model == "reader" && !std::mem::replace(&mut *failed.lock().unwrap(), true);
            if first { Err(Failure::new(kind, Progress::Sent, "not now")) } else { (inner.0)(request) }
        })));
        let (run, outcome) = house.start().await;
        assert_eq!((outcome.status, outcome.parked), (status, parked), "{outcome:?}");
        if let Some(code) = code {
            assert_eq!(outcome.code, Some(code));
            assert!(
                outcome.message.starts_with("`reader`, which does a part of it, stopped: "),
                "{}",
                outcome.message
            );
        } else {
            let wait = outcome.until.unwrap().since(house.agent.clock.now());
            assert_eq!(wait, Duration::from_secs(15));
            assert_eq!(house.agent.drive(&run).await.unwrap().status, status, "not before its time");
            tokio::time::advance(wait).await;
        }
        let done = house.agent.resume(&run, None).await.unwrap();
        assert_eq!((done.status, house.told(&run).await[0].as_str()), (RunStatus::Done, "read"));
        assert_eq!(house.runs().await.len(), 2, "the same run has done it");
    }
}

#[tokio::test(start_paused = true)]
async fn who_ends_a_run_ends_what_is_done_for_it() {
    let house = House::new(vec![
        ("lead", vec![vec![part("p1", "writer", "x")], end("done")]),
        ("writer", vec![vec![part("p2", "lead", "x")], vec![send("s1", "hello")], end("sent")]),
    ]);
    // The second lead gives it to a second writer, and that one would need a third level.
    let (run, outcome) = house.start().await;
    assert_eq!(outcome.parked, Some(ParkReason::Child));
    let open: Vec<_> = house.runs().await;
    assert!(open.iter().all(|(_, status)| *status == RunStatus::Parked), "{open:?}");
    house.agent.cancel(&run, "not wanted").await.unwrap();
    let ended = house.runs().await;
    assert_eq!(ended.len(), open.len());
    assert!(ended.iter().all(|(_, status)| *status == RunStatus::Cancelled), "{ended:?}");
    let late = house.answer(&outcome, Answer::Approve).await.unwrap_err();
    assert!(matches!(late, RunError::NoSuchQuestion { .. }), "{late}");
    assert!(house.sent().is_empty());
    let (whole, own) = (house.agent.inspect(&run).await.unwrap().usage, house.state(&run).await.usage);
    assert_eq!(
        whole.input_tokens,
        own.input_tokens + house.state(&child_of(&run, "p1")).await.spent().usage.input_tokens
    );
    // A part that a person ends is told to who gave it out.
    let house = sending("hello");
    let (run, _) = house.start().await;
    house.agent.cancel(&child_of(&run, "p1"), "not wanted").await.unwrap();
    assert_eq!(house.agent.resume(&run, None).await.unwrap().status, RunStatus::Done);
    assert!(house.told(&run).await[0].starts_with("ERROR `writer` was ended: not wanted."));
}
