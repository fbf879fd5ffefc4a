//! What runs did that do parts for others is taken back, planned and carried out with these.

use crate::delegation::{House, end, part, send, write};
use crate::kit::tool_use;
use crate::undo::snapshot;
use backstop_agent::run::{Answer, UndoOutcome};
use backstop_agent::{RunError, child_of};
use backstop_call::{Code, Money};
use backstop_journal::RunStatus;
use backstop_journal::event::{ParkReason, RunCreated};
use serde_json::json;

#[tokio::test(start_paused = true)]
async fn a_part_is_taken_back_with_what_it_was_a_part_of() {
    let house = House::new(vec![
        (
            "lead",
            vec![
                vec![write("w0", "a.md", "zero\n")],
                vec![part("p1", "writer", "x")],
                vec![write("w3", "a.md", "three\n")],
                end("done"),
            ],
        ),
        (
            "writer",
            vec![vec![write("w1", "a.md", "one\n")], vec![write("w2", "deep/b.md", "two\n")], end("written")],
        ),
    ]);
    std::fs::write(house.work().join("keep.md"), "keep\n").unwrap();
    let before = snapshot(&house.work());
    let (run, _) = house.start().await;
    let after = snapshot(&house.work());
    let child = child_of(&run, "p1");
    let outcomes = |undone: Vec<backstop_agent::run::Undone>| -> Vec<(String, UndoOutcome)> {
        undone.into_iter().map(|one| (one.call, one.outcome)).collect()
    };
    let shown = house.agent.rehearse_undo(&run, None).await.unwrap();
    assert_eq!(snapshot(&house.work()), after, "a rehearsal touches nothing");
    assert_eq!(shown[1].0.outcome, UndoOutcome::Done("all 2 steps of it were taken back".into()));
    assert!(shown[1].1.contains("delete deep/b.md") && shown[1].1.contains("-one"), "{}", shown[1].1);

    let undone = outcomes(house.agent.undo(&run, None).await.unwrap());
    assert_eq!(undone.iter().map(|(call, _)| call.as_str()).collect::<Vec<_>>(), ["w3", "p1", "w0"]);
    assert_eq!(undone[1].1, UndoOutcome::Done("all 2 steps of it were taken back".into()));
    assert_eq!(snapshot(&house.work()), before, "to the byte");
    let again = outcomes(house.agent.undo(&run, None).await.unwrap());
    assert!(again.iter().all(|(_, outcome)| *outcome == UndoOutcome::Already), "{again:?}");
    assert!(
        house.agent.undo(&child, None).await.unwrap().iter().all(|one| one.outcome == UndoOutcome::Already)
    );
}

#[tokio::test(start_paused = true)]
async fn what_of_a_part_cannot_be_taken_back_is_said() {
    let script = || {
        House::new(vec![
            ("lead", vec![vec![part("p1", "writer", "x")], end("done")]),
            ("writer", vec![vec![write("w1", "a.md", "one\n")], vec![send("s1", "hello")], end("sent")]),
        ])
    };
    let finish = async |house: &House| {
        let (run, outcome) = house.start().await;
        let early = house.agent.undo(&child_of(&run, "p1"), None).await.unwrap_err();
        assert!(matches!(early, RunError::NotOver { .. }), "its parent would not know: {early}");
        house.answer(&outcome, Answer::Approve).await.unwrap();
        house.agent.resume(&run, None).await.unwrap();
        run
    };
    let house = script();
    let run = finish(&house).await;
    let undone = house.agent.undo(&run, Some("p1")).await.unwrap();
    let said = "1 of 2 steps of it were taken back (send cannot be taken back)";
    assert_eq!(undone[0].outcome, UndoOutcome::Done(said.into()));
    assert_eq!(house.read("a.md"), None);
    // What somebody else has changed is left alone there as anywhere.
    let house = script();
    let run = finish(&house).await;
    std::fs::write(house.work().join("a.md"), "theirs\n").unwrap();
    let undone = house.agent.undo(&run, None).await.unwrap();
    let UndoOutcome::Conflict(reason) = &undone[0].outcome else { panic!("{undone:?}") };
    assert!(reason.starts_with(&format!("write_file in run {}: ", child_of(&run, "p1"))), "{reason}");
    assert_eq!(house.read("a.md").as_deref(), Some("theirs\n"));
}

#[tokio::test(start_paused = true)]
async fn the_plan_of_a_part_is_a_part_of_the_plan() {
    let house = House::new(vec![
        (
            "lead",
            vec![
                vec![write("w0", "a.md", "zero\n")],
                vec![part("p1", "writer", "x")],
                vec![tool_use("r1", "read_file", json!({"path": "b.md"}))],
                end("done"),
            ],
        ),
        (
            "writer",
            vec![
                vec![tool_use("r0", "read_file", json!({"path": "a.md"}))],
                vec![write("w1", "b.md", "one\n"), send("s1", "hello")],
                end("written and sent"),
            ],
        ),
    ]);
    let before = snapshot(&house.work());
    let (planned, outcome) = house.start_as(RunCreated { dry_run: true, ..house.lead() }).await;
    assert_eq!(outcome.status, RunStatus::Done, "{outcome:?}");
    assert_eq!(snapshot(&house.work()), before);
    assert!(house.sent().is_empty());
    assert_eq!(std::fs::read_dir(house.copies()).unwrap().count(), 0, "one copy, and it is gone");
    let child = child_of(&planned, "p1");
    assert_eq!(house.told(&child).await[0], "zero\n", "it works on the lead's copy");
    assert_eq!(house.told(&planned).await[2], "one\n", "and the lead sees what it did there");
    assert!(house.state(&child).await.created.unwrap().dry_run);
    let refused = house.agent.apply(&child).await.unwrap_err();
    assert!(matches!(refused, RunError::NoPlan(_)), "{refused}");

    let run = house.agent.apply(&planned).await.unwrap();
    let asked = house.agent.drive(&run).await.unwrap();
    assert_eq!(
        (asked.parked, asked.questions[0].run.clone()),
        (Some(ParkReason::Child), child_of(&run, "p1"))
    );
    assert!(house.sent().is_empty());
    house.answer(&asked, Answer::Approve).await.unwrap();
    let done = house.agent.resume(&run, None).await.unwrap();
    assert_eq!((done.status, done.cost), (RunStatus::Done, Money::ZERO), "{done:?}");
    assert_eq!((house.read("a.md"), house.read("b.md")), (Some("zero\n".into()), Some("one\n".into())));
    assert_eq!(house.sent(), ["hello"]);

    // A plan whose part would do something else stops.
    let run = {
        house.agent.undo(&run, None).await.unwrap();
        let (planned, _) = house.start_as(RunCreated { dry_run: true, ..house.lead() }).await;
        house.agent.apply(&planned).await.unwrap()
    };
    std::fs::write(house.work().join("b.md"), "theirs\n").unwrap();
    let stopped = house.agent.drive(&run).await.unwrap();
    assert_eq!((stopped.status, stopped.code), (RunStatus::Failed, Some(Code::PlanChanged)));
    assert!(
        stopped.message.starts_with("write_file (w1) would not do what the plan says"),
        "{}",
        stopped.message
    );
    assert_eq!(house.read("b.md").as_deref(), Some("theirs\n"));
}
