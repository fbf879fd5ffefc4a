//! The journal beside the least that any journal must do: the same payload, on the same disk, in the same run, by a
//! bare program that groups commits (WAL, synchronous=FULL, one writer). Floor and journal take turns in rounds; what
//! is compared are medians of rounds.
//!
//! `cargo bench -p backstop-store`; `-- --check` ends with an error when a target is missed; `-- --dir DIR` chooses the
//! disk (a directory beside the target directory by default).

use backstop_call::{Labels, RunId, Timestamp};
use backstop_journal::event::{RunCreated, RunLimits, ToolFinished};
use backstop_journal::projections::history::RunSummary;
use backstop_journal::{Append, Body, Durability, EventBody, Journal, StreamId};
use backstop_store::{SqliteStore, StoreOptions};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;
use tokio::time::Instant;

const PAYLOAD_BYTES: usize = 1024;
const TASKS: usize = 16;
const ROUNDS: usize = 7;
const SIDE_BY_SIDE: usize = 150;
const ALONE: u16 = 400;
const EVENTS: usize = 1_000;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let dir = args.iter().position(|arg| arg == "--dir").and_then(|at| args.get(at + 1));
    let base = dir.map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let met = runtime.expect("a runtime starts").block_on(bench(&base));
    if args.iter().any(|arg| arg == "--check") && !met { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn bench(base: &Path) -> bool {
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        let dir = tempfile::tempdir_in(base).expect("the disk takes a directory");
        rounds.floor_many.push(floor(&dir.path().join("floor.db"), TASKS, SIDE_BY_SIDE));
        rounds.ours_many.push(ours(&dir.path().join("ours.db"), TASKS, SIDE_BY_SIDE).await);
        rounds.floor_one.push(floor(&dir.path().join("floor1.db"), 1, ALONE.into()));
        rounds.ours_one.push(ours(&dir.path().join("ours1.db"), 1, ALONE.into()).await);
        rounds.resume.push(resume(&dir.path().join("resume.db")).await);
    }
    report(&mut rounds)
}

#[derive(Default)]
struct Rounds {
    floor_many: Vec<Duration>,
    ours_many: Vec<Duration>,
    floor_one: Vec<Duration>,
    ours_one: Vec<Duration>,
    resume: Vec<Duration>,
}

#[expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
fn report(rounds: &mut Rounds) -> bool {
    let rate = |time: Duration, tasks: usize, each: usize| per_second(tasks * each, time);
    let floor = rate(median(&mut rounds.floor_many), TASKS, SIDE_BY_SIDE);
    let ours = rate(median(&mut rounds.ours_many), TASKS, SIDE_BY_SIDE);
    let many = ours / floor;
    println!("{TASKS} runs side by side   floor {floor:9.0}/s    journal {ours:9.0}/s    ratio {many:.2}");
    let floor = micros(median(&mut rounds.floor_one)) / f64::from(ALONE);
    let ours = micros(median(&mut rounds.ours_one)) / f64::from(ALONE);
    let one = ours / floor;
    println!("one run alone          floor {floor:9.1} us   journal {ours:9.1} us   ratio {one:.2}");
    let resume = micros(median(&mut rounds.resume)) / 1000.0;
    println!("resume of {EVENTS} events   {resume:.2} ms");
    let targets = [
        ("side by side, commits/s: at least 0.70 of the floor", many >= 0.70),
        ("alone, time per durable point: at most 1.30 of the floor", one <= 1.30),
        ("resume: below 10 ms", resume < 10.0),
    ];
    for (target, met) in targets {
        println!("{} {target}", if met { "PASS" } else { "MISS" });
    }
    targets.iter().all(|(_, met)| *met)
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are small")]
fn per_second(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

fn payload() -> String {
    "x".repeat(PAYLOAD_BYTES)
}

// ---- the floor

type Job = (i64, String, SyncSender<()>);

fn floor_writer(db: &rusqlite::Connection, jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let mut batch = vec![first];
        while let Ok(job) = jobs.try_recv() {
            batch.push(job);
        }
        db.execute_batch("BEGIN IMMEDIATE").expect("the floor begins");
        for (id, data, _) in &batch {
            let mut insert = db
                .prepare_cached("INSERT INTO journal (id, data) VALUES (?1, ?2)")
                .expect("its SQL is right");
            insert.execute(rusqlite::params![id, data]).expect("the floor writes");
        }
        db.execute_batch("COMMIT").expect("the floor commits");
        for (_, _, done) in batch {
            done.send(()).expect("a task waits for its commit");
        }
    }
}

fn floor(path: &Path, tasks: usize, each: usize) -> Duration {
    let db = rusqlite::Connection::open(path).expect("the floor opens");
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE journal (id INTEGER PRIMARY KEY, data TEXT NOT NULL);",
    )
    .expect("the floor is set up");
    let (jobs, queue): (Sender<Job>, _) = channel();
    let writer = std::thread::spawn(move || floor_writer(&db, &queue));
    let start = Instant::now();
    std::thread::scope(|scope| {
        for task in 0..tasks {
            let jobs = jobs.clone();
            scope.spawn(move || {
                for step in 0..each {
                    let (done, committed) = sync_channel(1);
                    let id = i64::try_from(task * 1_000_000 + step).expect("ids are small");
                    jobs.send((id, payload(), done)).expect("the writer lives");
                    committed.recv().expect("the writer commits");
                }
            });
        }
    });
    let time = start.elapsed();
    drop(jobs);
    writer.join().expect("the floor ends");
    time
}

// ---- ours

fn created() -> EventBody {
    RunCreated {
        task: "t".into(),
        role: "writer".into(),
        agent: "a".into(),
        agent_hash: "00".into(),
        model: "m".into(),
        system: Body::from("You write."),
        message: Body::from("Write."),
        max_tokens: None,
        tools: Vec::new(),
        workspace: "/w".into(),
        limits: RunLimits::default(),
        result_schema: None,
        priority: backstop_call::Priority::Standard,
        labels: Labels::default(),
        dry_run: false,
        applies: None,
        parent: None,
        bounds: Vec::new(),
        on_failure: backstop_journal::event::OnFailure::default(),
        queue: None,
        origin: Box::default(),
    }
    .into()
}

fn step() -> EventBody {
    ToolFinished {
        id: "call_1".into(),
        is_error: false,
        result: Body::from(payload().as_str()),
        whole: Body::default(),
        labels: Labels::default(),
        duration: Duration::from_millis(3),
        probed: false,
        spent: None,
    }
    .into()
}

fn synced(run: &RunId, epoch: u64, events: Vec<EventBody>) -> Append {
    Append {
        stream: StreamId::Run(run.clone()),
        epoch: Some(epoch),
        events,
        at: Timestamp::from_secs(100),
        durability: Durability::Synced,
    }
}

async fn begin(store: &SqliteStore, run: &RunId) -> u64 {
    let first = Append { epoch: None, ..synced(run, 0, vec![created()]) };
    store.append(first).await.expect("the run is created");
    store.claim(run, Timestamp::from_secs(100)).await.expect("the run is claimed")
}

async fn ours(path: &Path, tasks: usize, each: usize) -> Duration {
    let store = SqliteStore::open(path, StoreOptions::default()).expect("the store opens");
    let mut runs = Vec::new();
    for task in 0..tasks {
        let run = RunId::from(format!("run-{task:012}"));
        runs.push((begin(&store, &run).await, run));
    }
    let start = Instant::now();
    let work = runs.into_iter().map(|(epoch, run)| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..each {
                store.append(synced(&run, epoch, vec![step()])).await.expect("the store commits");
            }
        })
    });
    for task in work.collect::<Vec<_>>() {
        task.await.expect("no task panics");
    }
    start.elapsed()
}

/// Opening the journal, reading a whole run of it and folding it.
async fn resume(path: &Path) -> Duration {
    let run = RunId::from("run-1");
    let store = SqliteStore::open(path, StoreOptions::default()).expect("the store opens");
    let epoch = begin(&store, &run).await;
    let events = (2..EVENTS).map(|_| step()).collect();
    store.append(synced(&run, epoch, events)).await.expect("the run is written");
    drop(store);
    let store = SqliteStore::open(path, StoreOptions::default()).expect("the store opens again");
    let start = Instant::now();
    let events = store.read(&StreamId::Run(run.clone()), 0).await.expect("the run is read");
    let mut summary = RunSummary::start(&run, &events[0]).expect("it begins with its creation");
    events[1..].iter().for_each(|event| summary.apply(event));
    let time = start.elapsed();
    assert_eq!((events.len(), summary.tool_calls as usize), (EVENTS, EVENTS - 2));
    time
}
