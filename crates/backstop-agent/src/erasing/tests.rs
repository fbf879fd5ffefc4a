//! What is kept, and why, as a table.

use super::*;
use crate::testkit::{answered, created, finished, fold, planned, started, tool_use};
use backstop_call::{Money, StopReason, Usage};
use backstop_journal::event::{QueueTerms, RunFinished, RunLimits, ToolPlanned};
use backstop_journal::{Body, EventBody};
use backstop_label::Class;
use serde_json::json;

const DAY: Duration = Duration::from_hours(24);
const MONTH: Duration = Duration::from_hours(24 * 30);
const END: Timestamp = Timestamp::from_secs(1_800_000_000);

fn run(id: &str, status: RunStatus) -> RunSummary {
    RunSummary {
        run: id.into(),
        task: id.into(),
        role: "r".into(),
        agent: "a".into(),
        model: "m".into(),
        asked_by: None,
        dry_run: false,
        status,
        parked: None,
        limits: RunLimits::default(),
        created: END - DAY,
        updated: END + DAY,
        ended: Some(END),
        erased: None,
        calls: 1,
        failed_attempts: 0,
        tool_calls: 0,
        usage: Usage::default(),
        cost: Money::ZERO,
        code: None,
        message: String::new(),
        queue: None,
    }
}

#[test]
fn what_is_over_for_good_goes_when_it_is_old_enough() {
    use RunStatus::{Cancelled, Done, Failed, Parked, Running, Stopped};
    let id = || RunId::from("r");
    let asked = Duration::ZERO;
    let goes_on = |status| Err(Kept::GoesOn { run: id(), status });
    let young = Err(Kept::Young { run: id(), until: END + MONTH });
    let table = [
        // By its age, counted from its end and not from what was written about it afterwards.
        (Done, None, MONTH, END + MONTH, Ok(())),
        (Done, None, MONTH, END + MONTH - Duration::from_nanos(1), young.clone()),
        (Failed, None, MONTH, END + MONTH, Ok(())),
        (Cancelled, None, MONTH, END + MONTH, Ok(())),
        // Where a person asks for it, at once.
        (Done, None, asked, END, Ok(())),
        (Failed, None, asked, END, Ok(())),
        (Done, None, asked, END - DAY, Ok(())),
        // What may go on is kept, however old it is and whoever asks.
        (Running, None, asked, END + MONTH * 10, goes_on(Running)),
        (Parked, None, asked, END + MONTH * 10, goes_on(Parked)),
        (Stopped, None, MONTH, END + MONTH * 10, goes_on(Stopped)),
        (Stopped, None, asked, END + MONTH * 10, goes_on(Stopped)),
        // The next try begins with what this one was told.
        (
            Failed,
            Some(END + DAY),
            asked,
            END + MONTH * 10,
            Err(Kept::TriedAgain { run: id(), due: END + DAY }),
        ),
    ];
    for (status, due, age, now, want) in table {
        assert_eq!(may_go(&run("r", status), &[], (due, age), now), want, "{status:?} {due:?} {age:?} {now}");
    }
}

#[test]
fn a_run_goes_with_all_that_belongs_to_it_or_not_at_all() {
    let whole = run("r", RunStatus::Done);
    let done = run("r-1", RunStatus::Done);
    let later = RunSummary { ended: Some(END + DAY), ..done.clone() };
    let open = run("r-1", RunStatus::Parked);
    let gone = |mut run: RunSummary, at| {
        run.erased = Some(at);
        run
    };
    let goes_on = Err(Kept::GoesOn { run: "r-1".into(), status: RunStatus::Parked });
    let young = Err(Kept::Young { run: "r".into(), until: END + DAY + MONTH });
    let was = Err(Kept::Gone { run: "r".into(), at: END + DAY });
    let table = [
        (whole.clone(), vec![done.clone()], Ok(())),
        (whole.clone(), vec![done.clone(), open], goes_on),
        (whole.clone(), vec![later, done.clone()], young),
        // A process died between the two: the rest follows.
        (whole.clone(), vec![gone(done.clone(), END)], Ok(())),
        (gone(whole.clone(), END), vec![done.clone()], Ok(())),
        (gone(whole, END), vec![gone(done, END + DAY)], was),
    ];
    for (run, belonging, want) in table {
        assert_eq!(may_go(&run, &belonging, (None, MONTH), END + MONTH), want, "{belonging:?}");
    }
}

#[test]
fn what_is_lost_is_told() {
    let with_undo = |id: &str, undoes: Option<&str>| match planned(id, "write", Class::Write) {
        EventBody::ToolPlanned(planned) => {
            let undo = if undoes.is_some() { Body::default() } else { Body::of(&json!({"was": "x"})) };
            EventBody::from(ToolPlanned { undo, undoes: undoes.map(str::to_owned), ..planned })
        }
        other => other,
    };
    let ended = |status| RunFinished { status, result: None, code: None, message: "".into() }.into();
    let calls = ["a", "b", "c"].map(|id| tool_use(id, "write", json!({"id": id})));
    let story = |created: RunCreated, status: RunStatus| {
        let mut events: Vec<EventBody> = vec![created.into(), answered(&calls, StopReason::ToolUse)];
        // `a` and `b` can be undone; nothing takes `c` back.
        for plan in [with_undo("a", None), with_undo("b", None), planned("c", "write", Class::Write)] {
            events.push(plan);
        }
        for id in ["a", "b", "c"] {
            events.extend([started(id, 1), finished(id, false, "ok")]);
        }
        events.push(ended(status));
        // `b` was.
        events.extend([
            with_undo("undo:b", Some("b")),
            started("undo:b", 1),
            finished("undo:b", false, "ok"),
        ]);
        Lost::with(&fold(&events))
    };
    let dry = || RunCreated { dry_run: true, ..created() };
    let queued = || RunCreated { queue: Some(QueueTerms::once(END)), ..created() };
    let lost = |undo, plan, retry| Lost { undo, plan, retry };
    let table = [
        (story(created(), RunStatus::Done), lost(1, false, false)),
        (story(dry(), RunStatus::Done), lost(0, true, false)),
        (story(dry(), RunStatus::Cancelled), lost(0, false, false)),
        (story(RunCreated { parent: Some("p".into()), ..dry() }, RunStatus::Done), lost(0, false, false)),
        (story(queued(), RunStatus::Failed), lost(1, false, true)),
        (story(queued(), RunStatus::Done), lost(1, false, false)),
    ];
    for (got, want) in table {
        assert_eq!(got, want);
    }
    let all = lost(1, true, true).and(lost(1, false, false));
    let want = [
        "2 steps of it can no longer be undone",
        "its plan can no longer be carried out",
        "its task can no longer be tried again",
    ];
    assert_eq!(all.in_words(), want);
}
