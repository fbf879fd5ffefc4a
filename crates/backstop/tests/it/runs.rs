//! Runs through the whole engine over real HTTP: what a program that uses the library sees.

use crate::support::{model, settings, sim, sim_with};
use backstop::call::{Code, Dialect, Labels, Money};
use backstop::journal::RunStatus;
use backstop::journal::event::RunLimits;
use backstop::store::StoreOptions;
use backstop::{Backstop, Place, Settings, Task};
use backstop_sim::Sim;
use std::path::Path;

const STEPS: usize = 20;

fn task(workspace: &Path, message: &str) -> Task {
    Task { workspace: workspace.to_owned(), ..Task::new("chain", message) }
}

fn two_providers(sim: &Sim) -> Settings {
    settings(vec![model(sim, "a", Dialect::Messages), model(sim, "b", Dialect::Chat)])
}

fn steps(workspace: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(workspace.join("steps"))
        .map(|entries| {
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        })
        .map(Iterator::collect)
        .unwrap_or_default();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_in_a_storm_does_its_work_and_knows_what_it_cost() {
    let sim = sim_with("storm").await;
    let backstop = Backstop::open(two_providers(&sim)).await.expect("nothing to go wrong in memory");
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("names.txt"), "carol\nalice\nbob\n").expect("a file");
    let result =
        backstop.run(task(dir.path(), "Sort the lines of names.txt into sorted.txt")).await.expect("a run");
    assert_eq!((result.status, result.code), (RunStatus::Done, None), "{}", result.message);
    let sorted = std::fs::read_to_string(dir.path().join("sorted.txt")).expect("it was written");
    assert_eq!(sorted, "alice\nbob\ncarol\n");
    assert!(result.turns >= 3 && result.input_tokens > 0 && result.output_tokens > 0);
    let bill = sim.shutdown().await.total;
    assert!(Money::ZERO < bill && bill <= result.cost, "billed {bill}, counted {}", result.cost);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_a_run_and_room_lets_it_finish() {
    let sim = sim().await;
    let (dir, data) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let store = Place::File(data.path().join("journal.db"));
    let open = |bytes_max| {
        let store_options = StoreOptions { bytes_max, ..StoreOptions::default() };
        Backstop::open(Settings { store: store.clone(), store_options, ..two_providers(&sim) })
    };
    let small = open(Some(112_000)).await.expect("an empty database fits");
    let message = format!("write steps 1 to {STEPS} into steps/");
    let run = small.create(task(dir.path(), &message)).await.expect("a run fits");
    let error = small.resume(&run, None).await.expect_err("the run does not");
    assert_eq!(error.code(), Code::DiskFull, "{error}");
    let written = steps(dir.path());
    assert!(!written.is_empty() && written.len() < STEPS, "it stopped half way: {written:?}");
    drop(small);

    let roomy = open(None).await.expect("the database is whole");
    let result = roomy.resume(&run, None).await.expect("it goes on");
    assert_eq!(result.status, RunStatus::Done, "{}", result.message);
    assert_eq!(steps(dir.path()).len(), STEPS);
    let stream = backstop::journal::StreamId::Run(run.clone());
    roomy.journal().verify(&stream).await.expect("the chain is whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_task_is_never_sent_to_a_cloud_model() {
    let sim = sim().await;
    let backstop = Backstop::open(two_providers(&sim)).await.expect("nothing to go wrong in memory");
    let dir = tempfile::tempdir().expect("a directory");
    let labels = Labels::private(backstop::call::Category::Health);
    let private = Task { labels, ..task(dir.path(), "Count the words of notes.md") };
    let result = backstop.run(private).await.expect("a run");
    assert_ne!(result.status, RunStatus::Done);
    assert_eq!(result.code, Some(Code::NoLocalModel), "{}", result.message);
    assert_eq!(sim.requests().len(), 0, "not a word of it left");
    assert_eq!(result.cost, Money::ZERO);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_the_window_is_not_sent() {
    let sim = sim().await;
    let mut settings = two_providers(&sim);
    settings.models.iter_mut().for_each(|model| model.context_window = 2_000);
    let backstop = Backstop::open(settings).await.expect("nothing to go wrong in memory");
    let dir = tempfile::tempdir().expect("a directory");
    let long = format!("Count the words of this: {}", "word ".repeat(20_000));
    let result = backstop.run(task(dir.path(), &long)).await.expect("a run");
    assert_eq!(result.code, Some(Code::ContextTooLong), "{}", result.message);
    assert_eq!(sim.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_may_not_spend_enough_stops_before_it_spends() {
    let sim = sim().await;
    let backstop = Backstop::open(two_providers(&sim)).await.expect("nothing to go wrong in memory");
    let dir = tempfile::tempdir().expect("a directory");
    let mut poor = task(dir.path(), &format!("write steps 1 to {STEPS} into steps/"));
    poor.limits.cost = Some("0.06".parse().expect("an amount"));
    let result = backstop.run(poor).await.expect("a run");
    assert_eq!(
        (result.status, result.code),
        (RunStatus::Stopped, Some(Code::BudgetExceeded)),
        "{}",
        result.message
    );
    assert!(result.cost <= "0.06".parse().expect("an amount"));
    assert!(!steps(dir.path()).is_empty(), "it went on as long as the money lasted");
    // With more it goes on where it stopped.
    let more = RunLimits { cost: Some("5".parse().expect("an amount")), ..RunLimits::default() };
    let result = backstop.resume(&result.run, Some(more)).await.expect("it goes on");
    assert_eq!((result.status, steps(dir.path()).len()), (RunStatus::Done, STEPS), "{}", result.message);
}
