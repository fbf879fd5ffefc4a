//! The fold from events to numbers: the same however it is cut, and forgetting what it can be told again.

use crate::example::{Recorder, START, every_kind, example_run, run_stream};
use backstop_call::Timestamp;
use backstop_journal::event::RunFinished;
use backstop_journal::projections::numbers::{Batch, By, Cell, Family, Fold, Grain, RUNS_MAX, Table, Window};
use backstop_journal::{Event, EventBody, RunStatus, StreamId};

fn events() -> Vec<Event> {
    example_run().into_iter().map(|(event, _)| event).collect()
}

/// Folds the events as a store does that was opened before each of `cuts`.
fn fold(events: &[Event], cuts: &[usize]) -> Table {
    let (mut table, mut fold, mut batch) = (Table::default(), Fold::default(), Batch::default());
    for (place, event) in events.iter().enumerate() {
        if cuts.contains(&place) {
            table.add(&batch);
            (fold, batch) = (Fold::default(), Batch::default());
        }
        if let Some(run) = fold.lacks(event).cloned() {
            let earlier = events[..place].iter().filter(|earlier| earlier.stream == event.stream);
            fold.recall(&run, &earlier.cloned().collect::<Vec<_>>());
        }
        fold.apply(event, &mut batch);
    }
    table.add(&batch);
    table
}

fn cells(table: &Table, grain: Grain) -> Vec<Cell> {
    table.range(grain, Timestamp::EPOCH, Timestamp::FAR).collect()
}

#[test]
fn the_numbers_are_the_same_wherever_the_fold_is_cut() {
    let events = events();
    let whole = fold(&events, &[]);
    for cut in 0..events.len() {
        assert_eq!(fold(&events, &[cut]), whole, "cut before event {cut}");
    }
    assert_eq!(fold(&events, &(0..events.len()).collect::<Vec<_>>()), whole, "cut everywhere");
}

#[test]
fn minutes_hours_and_days_add_up_to_the_whole() {
    let mut recorder = Recorder::default();
    for (place, body) in every_kind().into_iter().enumerate() {
        // Over three days, in no regular pace.
        recorder.at(place as u64 * 7_919_000, &StreamId::Calls, body);
    }
    let events: Vec<Event> = recorder.finish().into_iter().map(|(event, _)| event).collect();
    let table = fold(&events, &[]);
    let figures = |grain| {
        let window = Window::of(By::All, (Timestamp::EPOCH, Timestamp::FAR), &cells(&table, grain));
        window.rows[0].figures.clone()
    };
    let whole = figures(Grain::Whole);
    assert!(
        whole.calls() == 2 && whole.attempts_failed.len() == 1 && whole.budget_warnings == 1,
        "{whole:?}"
    );
    for grain in [Grain::Minute, Grain::Hour, Grain::Day] {
        assert!(cells(&table, grain).iter().any(|cell| cell.start > START));
        assert_eq!(figures(grain), whole, "{grain:?}");
    }
}

#[test]
fn figures_of_the_example_by_each_thing() {
    let table = fold(&events(), &[]);
    let whole = cells(&table, Grain::Whole);
    let names = |by| {
        let window = Window::of(by, (Timestamp::EPOCH, Timestamp::FAR), &whole);
        window.rows.into_iter().map(|row| row.name).collect::<Vec<_>>()
    };
    assert_eq!(names(By::Model), ["main"]);
    assert_eq!(names(By::Agent), ["librarian"]);
    assert_eq!(names(By::Role), ["clerk"]);
    assert_eq!(names(By::Provider), ["openai", "anthropic"]);
    assert_eq!(names(By::Tool), ["write_file", "send_mail"]);
    let all = &Window::of(By::All, (Timestamp::EPOCH, Timestamp::FAR), &whole).rows[0].figures;
    assert_eq!((all.runs_created, all.ended("done"), all.success_permille()), (1, 1, Some(1_000)));
    assert_eq!((all.calls_ok, all.failed_calls(), all.retries), (3, 0, 1));
    assert_eq!((all.tokens.input, all.tokens.cache_read, all.cost.nanos()), (4_000, 600, 6_200_002));
    assert_eq!((all.tools_ok, all.tools_failed, all.tools_in_doubt), (1, 0, 1));
}

/// What is done to a run after its end (an undo) is counted under its agent, though the fold forgot the run.
#[test]
fn a_run_that_is_over_is_recalled() {
    let mut events = events();
    let planned = events.iter().find(|event| event.body.kind() == "tool.planned").unwrap().clone();
    let EventBody::ToolPlanned(mut plan) = planned.body.clone() else { panic!("it is planned") };
    plan.id = "undo-1".into();
    let finished = events.iter().find(|event| event.body.kind() == "tool.finished").unwrap().clone();
    let EventBody::ToolFinished(mut done) = finished.body.clone() else { panic!("it is finished") };
    done.id = "undo-1".into();
    let tools = |events: &[Event]| {
        let whole = cells(&fold(events, &[]), Grain::Whole);
        let agents = Window::of(By::Agent, (Timestamp::EPOCH, Timestamp::FAR), &whole).rows;
        agents.into_iter().map(|row| (row.name, row.figures.tools_ok)).collect::<Vec<_>>()
    };
    assert_eq!(tools(&events), [("librarian".to_owned(), 1)]);
    events.extend([Event { body: plan.into(), ..planned }, Event { body: done.into(), ..finished }]);
    assert_eq!(tools(&events), [("librarian".to_owned(), 2)]);
}

#[test]
fn a_run_that_ends_takes_its_open_questions_with_it() {
    let mut recorder = Recorder::default();
    let wanted = ["run.created", "tool.planned", "approval.requested"];
    for body in every_kind().into_iter().filter(|body| wanted.contains(&body.kind())) {
        recorder.at(0, &run_stream(), body);
    }
    let waiting = |events: &[Event]| -> i64 {
        let whole = cells(&fold(events, &[]), Grain::Whole);
        let standing = whole.iter().filter(|cell| cell.series.label("state") == Some("waiting"));
        standing.map(|cell| cell.sums.count).sum()
    };
    let mut events: Vec<Event> = recorder.finish().into_iter().map(|(event, _)| event).collect();
    assert_eq!(waiting(&events), 1);
    let over = RunFinished { status: RunStatus::Cancelled, result: None, code: None, message: "".into() };
    events.push(Event { body: over.into(), ..events[0].clone() });
    assert_eq!(waiting(&events), 0);
}

#[test]
fn the_fold_remembers_a_bounded_number_of_runs() {
    let created = events()[0].clone();
    let (mut fold, mut batch) = (Fold::default(), Batch::default());
    let id = |number: usize| format!("run-{number:06}");
    for number in 0..RUNS_MAX + 2 {
        let stream = StreamId::Run(id(number).into());
        fold.apply(&Event { stream, ..created.clone() }, &mut batch);
    }
    let goes_on = |number: usize| Event {
        stream: StreamId::Run(id(number).into()),
        body: RunFinished { status: RunStatus::Done, result: None, code: None, message: "".into() }.into(),
        ..created.clone()
    };
    assert_eq!(fold.lacks(&goes_on(0)), Some(&id(0).into()));
    assert_eq!(fold.lacks(&goes_on(RUNS_MAX + 1)), None);
}

#[test]
fn every_family_is_found_by_its_name() {
    for family in Family::ALL {
        assert_eq!(Family::of(family.as_str()), Some(*family));
    }
}
