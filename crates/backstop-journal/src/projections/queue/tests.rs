//! How a run stands in the queue after what happened to it, as a table.

use super::*;
use crate::FreeText;
use crate::event::{RunClaimed, RunParked, RunQueued, ToolDecision, ToolResolved};

const AT: Timestamp = Timestamp::from_secs(1_000);
const MINUTE: Duration = Duration::from_mins(1);

fn terms(tries: u32) -> QueueTerms {
    QueueTerms { tries, backoff: MINUTE, ..QueueTerms::once(AT) }
}

fn finished(status: RunStatus, code: Option<Code>) -> EventBody {
    RunFinished { status, result: None, code, message: FreeText::default() }.into()
}

fn parked(reason: ParkReason, until: Option<Timestamp>) -> EventBody {
    RunParked { reason, until }.into()
}

fn claimed() -> EventBody {
    RunClaimed { owner: "w".into() }.into()
}

fn resolved() -> EventBody {
    let decision = ToolDecision::Unknown;
    ToolResolved { id: "t".into(), decision, by: "p".into(), result: None }.into()
}

/// What a run with three tries stands at after these events, each a minute after the one before.
fn after(events: &[EventBody]) -> Queued {
    let mut queue = Some(Queued::new(terms(3), Priority::Standard));
    let (mut at, mut status) = (AT, RunStatus::Running);
    for body in events {
        at = at + MINUTE;
        Queued::fold(&mut queue, status, at, body);
        if let EventBody::RunFinished(finished) = body {
            status = finished.status;
        }
    }
    queue.unwrap()
}

#[test]
fn what_happened_says_whether_a_worker_may_have_it() {
    use RunStatus::{Cancelled, Done, Failed, Stopped};
    let at = |minutes: u32| Some(AT + MINUTE * minutes);
    let again = || finished(Failed, Some(Code::TaskFailed));
    let rows: Vec<(&str, Vec<EventBody>, TaskState, Option<Timestamp>)> = vec![
        ("new", vec![], TaskState::Waiting, at(0)),
        ("taken", vec![claimed()], TaskState::Waiting, at(0)),
        ("done", vec![claimed(), finished(Done, None)], TaskState::Done, None),
        ("ended by a person", vec![finished(Cancelled, Some(Code::Cancelled))], TaskState::Cancelled, None),
        ("a wait", vec![parked(ParkReason::Wait, at(9))], TaskState::Waiting, at(9)),
        ("a question", vec![parked(ParkReason::Approval, at(9))], TaskState::Parked, at(9)),
        ("a doubt", vec![parked(ParkReason::InDoubt, None)], TaskState::Parked, None),
        (
            "a doubt that a person ended",
            vec![parked(ParkReason::InDoubt, None), resolved()],
            TaskState::Waiting,
            at(2),
        ),
        ("failed once: a minute later", vec![again()], TaskState::Waiting, at(2)),
        ("failed twice: two minutes later", vec![again(), again()], TaskState::Waiting, at(4)),
        ("failed three times", vec![again(), again(), again()], TaskState::Dead, None),
        ("an outage", vec![finished(Stopped, Some(Code::NoTarget))], TaskState::Waiting, at(2)),
        ("a limit of its own", vec![finished(Stopped, Some(Code::TurnLimit))], TaskState::Dead, None),
        ("too late", vec![finished(Failed, Some(Code::DeadlineExceeded))], TaskState::Dead, None),
    ];
    for (what, events, state, due) in rows {
        let queue = after(&events);
        assert_eq!((queue.state, queue.due), (state, due), "{what}");
        assert_eq!(queue.rank().is_some(), due.is_some(), "{what}");
    }
}

#[test]
fn a_failed_run_is_tried_anew_and_a_stopped_one_goes_on() {
    assert!(after(&[finished(RunStatus::Failed, None)]).anew);
    assert!(!after(&[finished(RunStatus::Stopped, Some(Code::NoTarget))]).anew);
    // A person's new try keeps which of both it is.
    let queued: EventBody = RunQueued { terms: terms(1) }.into();
    let dead = after(&[finished(RunStatus::Failed, Some(Code::RequestInvalid)), queued]);
    assert_eq!((dead.state, dead.anew, dead.tried), (TaskState::Waiting, true, 0));
}

#[test]
fn a_deadline_ends_the_tries() {
    let mut queue =
        Some(Queued::new(QueueTerms { deadline: Some(AT + MINUTE), ..terms(3) }, Priority::Batch));
    Queued::fold(&mut queue, RunStatus::Running, AT, &finished(RunStatus::Failed, None));
    assert_eq!(queue.unwrap().state, TaskState::Dead);
}

#[test]
fn workers_that_die_are_counted_until_something_comes_of_it() {
    let deaths = |n: u32| (0..n).map(|_| claimed()).collect::<Vec<_>>();
    assert!(!after(&deaths(5)).is_deadly());
    assert!(after(&deaths(6)).is_deadly());
    let mut events = deaths(5);
    events.extend([parked(ParkReason::Wait, None), claimed()]);
    assert!(!after(&events).is_deadly());
}

#[test]
fn the_urgent_goes_first_and_nothing_waits_for_ever() {
    let rank = |priority, due| Queued { due: Some(due), ..Queued::new(terms(1), priority) }.rank().unwrap();
    assert!(rank(Priority::Interactive, AT) < rank(Priority::Standard, AT));
    assert!(rank(Priority::Standard, AT) < rank(Priority::Batch, AT));
    assert!(rank(Priority::Batch, AT) < rank(Priority::Interactive, AT + MINUTE * 21));
    for priority in [Priority::Interactive, Priority::Standard, Priority::Batch] {
        assert!(rank(priority, AT) <= Queued::last_rank(AT));
    }
}

#[test]
fn a_handed_over_run_waits_like_any_other() {
    let mut queue = None;
    let queued: EventBody = RunQueued { terms: terms(1) }.into();
    Queued::fold(&mut queue, RunStatus::Running, AT, &finished(RunStatus::Done, None));
    Queued::fold(&mut queue, RunStatus::Done, AT, &queued);
    assert_eq!(queue, None, "what is done is done");
    Queued::fold(&mut queue, RunStatus::Parked, AT, &queued);
    assert_eq!(queue, Some(Queued { handed_over: true, ..Queued::new(terms(1), Priority::Standard) }));
}

#[test]
fn waits_double_up_to_an_hour() {
    let waits: Vec<_> = [1, 2, 3, 10, 40].map(|tried| terms(9).wait_after(tried)).into();
    let hour = QueueTerms::BACKOFF_MAX;
    assert_eq!(waits, [MINUTE, MINUTE * 2, MINUTE * 4, hour, hour]);
}
