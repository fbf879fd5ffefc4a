//! What one call through the gateway costs in the store: its worst case is reserved in four accounts, its cost is settled,
//! its record of some 700 bytes is appended. Beside it the least that any store must do for the same: the record is
//! encoded once, hashed once, inserted into one table by one thread in groups, and 512 bytes are written before the call
//! is sent. Store and floor take turns, at the same rate.
//!
//! CPU is that of the whole process, all threads together, less what it takes to make up the calls and their records. `cargo bench -p backstop-store --bench gateway`; `-- --check` ends
//! with an error when a target is missed; `-- --dir DIR` chooses the disk (a directory beside the target directory by
//! default); `-- --profile` plays the busy store alone, for a profiler.

use backstop_allowance::{Account, Ledger, Reserve, Resolution, Scope};
use backstop_call::{
    AttemptRecord, CallId, Labels, Money, Progress, ReservationId, StopReason, Timestamp, Usage,
};
use backstop_journal::event::{Asked, CallFinished};
use backstop_journal::{
    Append, Blind, Body, Durability, EventBody, Hash, Journal, Parts, Place, StreamId, link,
};
use backstop_store::{LedgerMode, SqliteLedger, SqliteStore, StoreOptions};
use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tokio::time::Instant;

const ROUNDS: usize = 5;
/// Calls of a round, and how many are made at once, every so often: 1,000 and 16,000 a second.
const ALONE: Load = Load { calls: 500, side_by_side: 1, every: Duration::from_millis(1) };
const BUSY: Load = Load { calls: 32_000, side_by_side: 64, every: Duration::from_millis(4) };
/// What the gateway can spare for each call, all threads together.
const CPU_MICROS_MAX: f64 = 10.0;

#[derive(Clone, Copy)]
struct Load {
    calls: usize,
    side_by_side: usize,
    every: Duration,
}

/// What was measured in one round.
#[derive(Default)]
struct Cost {
    /// Of each call.
    cpu_micros: f64,
    /// Of each call.
    bytes: f64,
    /// How long each reservation took, sorted.
    reserve: Vec<Duration>,
    commits: u64,
    syncs: u64,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let dir = args.iter().position(|arg| arg == "--dir").and_then(|at| args.get(at + 1));
    let base = dir.map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    // One thread, as the gateway has it; the store brings its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime starts");
    if args.iter().any(|arg| arg == "--profile") {
        runtime.block_on(profile(&base));
        return ExitCode::SUCCESS;
    }
    let met = runtime.block_on(bench(&base));
    if args.iter().any(|arg| arg == "--check") && !met { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn bench(base: &Path) -> bool {
    let (mut alone, mut busy, mut floor_alone, mut floor_busy) = (vec![], vec![], vec![], vec![]);
    let (mut bare_alone, mut bare_busy) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        bare_alone.push(bare(ALONE).await);
        bare_busy.push(bare(BUSY).await);
        let dir = tempfile::tempdir_in(base).expect("the disk takes a directory");
        let at = |name: &str| dir.path().join(name);
        floor_alone.push(floor(&at("floor1.db"), ALONE).await);
        alone.push(ours(&at("ours1.db"), ALONE).await);
        floor_busy.push(floor(&at("floor.db"), BUSY).await);
        busy.push(ours(&at("ours.db"), BUSY).await);
    }
    let (bare_alone, bare_busy) = (median(bare_alone).cpu_micros, median(bare_busy).cpu_micros);
    let less = |cost: Cost, bare: f64| Cost { cpu_micros: cost.cpu_micros - bare, ..cost };
    let (alone, floor_alone) = (less(median(alone), bare_alone), less(median(floor_alone), bare_alone));
    let (busy, floor_busy) = (less(median(busy), bare_busy), less(median(floor_busy), bare_busy));
    said(bare_alone, bare_busy);
    report("one call at a time", &alone, &floor_alone);
    report("64 side by side", &busy, &floor_busy);
    verdict(&alone, &busy, &floor_busy)
}

#[expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
fn said(alone: f64, busy: f64) {
    println!("making up calls alone {alone:.1} us CPU each, 64 side by side {busy:.1} us: taken off below");
}

async fn profile(base: &Path) {
    let dir = tempfile::tempdir_in(base).expect("the disk takes a directory");
    let cost = ours(&dir.path().join("ours.db"), BUSY).await;
    report("64 side by side", &cost, &cost);
}

#[expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
fn report(name: &str, ours: &Cost, floor: &Cost) {
    for (who, cost) in [("store", ours), ("floor", floor)] {
        println!(
            "{name:20} {who}  {:6.1} us CPU   reserve p50 {:7.1} us  p99 {:7.1} us   {:6.0} bytes   {:4} commits  {:3} syncs",
            cost.cpu_micros,
            micros(part(&cost.reserve, 50)),
            micros(part(&cost.reserve, 99)),
            cost.bytes,
            cost.commits,
            cost.syncs,
        );
    }
    println!("{name:20} ratio  {:6.2} CPU", ours.cpu_micros / floor.cpu_micros);
}

#[expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
fn verdict(alone: &Cost, busy: &Cost, floor: &Cost) -> bool {
    let wait = |cost: &Cost| micros(part(&cost.reserve, 50));
    let targets = [
        ("busy, CPU per call: at most 10 us", busy.cpu_micros <= CPU_MICROS_MAX),
        ("busy, CPU per call: at most 2.0 of the floor", busy.cpu_micros <= 2.0 * floor.cpu_micros),
        ("a reservation waits for no commit: p50 at most 50 us", wait(alone).max(wait(busy)) <= 50.0),
        ("busy, calls per commit: at least 100", busy.commits * 100 <= BUSY.calls as u64),
    ];
    for (target, met) in targets {
        println!("{} {target}", if met { "PASS" } else { "MISS" });
    }
    targets.iter().all(|(_, met)| *met)
}

/// The round in the middle, by its CPU.
fn median(mut rounds: Vec<Cost>) -> Cost {
    rounds.sort_by(|a, b| a.cpu_micros.total_cmp(&b.cpu_micros));
    let middle = rounds.len() / 2;
    rounds.swap_remove(middle)
}

fn part(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// CPU time of the process, dead threads included.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Bytes that the process has handed to `write` and its like.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let bytes = io.lines().find_map(|line| line.strip_prefix("wchar: "));
    bytes.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

/// What the process had used when it was started.
struct Meter {
    cpu: Duration,
    bytes: u64,
}

impl Meter {
    fn start() -> Self {
        Self { cpu: cpu(), bytes: written() }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are small")]
    fn read(&self, load: Load, mut reserve: Vec<Duration>) -> Cost {
        let (cpu, bytes) = (cpu().saturating_sub(self.cpu), written() - self.bytes);
        reserve.sort();
        let calls = load.calls as f64;
        Cost { cpu_micros: micros(cpu) / calls, bytes: bytes as f64 / calls, reserve, ..Cost::default() }
    }
}

/// Makes calls at the rate of the load.
async fn play<F: Future<Output = Duration>>(load: Load, call: impl Fn(usize) -> F) -> Vec<Duration> {
    let begun = Instant::now();
    let mut took = Vec::with_capacity(load.calls);
    for (turn, first) in (0..load.calls).step_by(load.side_by_side).enumerate() {
        let turns = u32::try_from(turn).expect("turns are few");
        tokio::time::sleep_until(begun + load.every * turns).await;
        let mut calls: Vec<_> = (first..first + load.side_by_side).map(|n| Some(Box::pin(call(n)))).collect();
        std::future::poll_fn(|cx| {
            for slot in &mut calls {
                let Some(call) = slot else { continue };
                if let std::task::Poll::Ready(time) = call.as_mut().poll(cx) {
                    took.push(time);
                    *slot = None;
                }
            }
            if calls.iter().all(Option::is_none) {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
    }
    took
}

// ---- the call

fn call_id(n: usize) -> CallId {
    CallId::new(Timestamp::from_secs(1_800_000_000), (n as u64) << 32)
}

fn finished(call: CallId) -> EventBody {
    let started = Timestamp::from_secs(1_800_000_000);
    let attempt = AttemptRecord {
        attempt: 1,
        provider: "anthropic".into(),
        model: "claude-sonnet-4-5-20250929".to_owned(),
        started,
        duration: Duration::from_micros(812_345),
        waited: Duration::ZERO,
        failure: None,
        progress: Progress::ResponseStarted,
        code: None,
        message: "".into(),
        cost: cost(),
        suspense: false,
    };
    CallFinished {
        call,
        turn: 0,
        provider: "anthropic".into(),
        model: "claude-sonnet-4-5-20250929".to_owned(),
        content: Body::Inline(serde_json::Value::Null),
        stop: StopReason::End,
        usage: Usage { input_tokens: 812, output_tokens: 214, ..Usage::default() },
        cost: cost(),
        duration: Duration::from_micros(812_999),
        first_token: Some(Duration::from_micros(312_456)),
        request_id: Some("req_011CVEXAMPLEEXAMPLE00001".to_owned()),
        attempts: vec![attempt].into(),
        labels: Labels::default(),
        asked: Some(Asked {
            model: "main".into(),
            input_tokens: 790,
            task: None,
            role: Some("writer".into()),
            key: Some("laptop".into()),
            dialect: Some(backstop_call::Dialect::Messages),
        }),
        status: Some(200),
    }
    .brief()
    .into()
}

fn cost() -> Money {
    Money::from_nanos(5_646_000)
}

fn accounts(now: Timestamp) -> Vec<(Account, Money)> {
    let limit = Money::from_dollars(1_000_000);
    let day = |scope| (Account::today(scope, now), limit);
    let mut accounts = vec![
        day(Scope::Total),
        day(Scope::Role("writer".into())),
        day(Scope::Provider("anthropic".into())),
        (Account::whole(Scope::Role("everything-of-the-writer".into())), limit),
    ];
    accounts.sort();
    accounts
}

fn reserve(call: &CallId, now: Timestamp) -> (ReservationId, Reserve) {
    let id = ReservationId::of(call, 1);
    let amount = Money::from_nanos(70_000_000);
    (id.clone(), Reserve { id, amount, accounts: accounts(now), at: now })
}

// ---- nothing

async fn bare(load: Load) -> Cost {
    let now = Timestamp::from_secs(1_800_000_000);
    let meter = Meter::start();
    let took = play(load, async |n| {
        let id = call_id(n);
        let made = reserve(&id, now);
        let begun = Instant::now();
        drop(std::hint::black_box(made));
        let took = begun.elapsed();
        tokio::task::yield_now().await;
        drop(std::hint::black_box(finished(id)));
        took
    })
    .await;
    meter.read(load, took)
}

// ---- ours

async fn ours(path: &Path, load: Load) -> Cost {
    let now = Timestamp::from_secs(1_800_000_000);
    let store = SqliteStore::open(path, StoreOptions::default()).expect("the store opens");
    let (ledger, _) = store.ledger(LedgerMode::Written, now).await.expect("the ledger opens");
    // The lease is there and the pages are warm.
    call(&store, &ledger, load.calls, now).await;
    store.flush().await.expect("the store commits");
    let (meter, stats) = (Meter::start(), store.stats());
    let reserve = play(load, |n| call(&store, &ledger, n, now)).await;
    store.flush().await.expect("the store commits");
    let (cost, after) = (meter.read(load, reserve), store.stats());
    let settled = ledger.balance(accounts(now)[0].0.clone()).await.expect("the ledger is read").settled;
    assert_eq!(settled.nanos(), cost_of_all(load), "every call is settled");
    Cost { commits: after.commits - stats.commits, syncs: after.synced - stats.synced, ..cost }
}

fn cost_of_all(load: Load) -> i64 {
    cost().nanos() * i64::try_from(load.calls + 1).expect("calls are few")
}

async fn call(store: &SqliteStore, ledger: &SqliteLedger, n: usize, now: Timestamp) -> Duration {
    let id = call_id(n);
    let (reservation, reserve) = reserve(&id, now);
    let begun = Instant::now();
    ledger.reserve(reserve).await.expect("there is money");
    let took = begun.elapsed();
    // It is sent, and others have their turn.
    tokio::task::yield_now().await;
    ledger.resolve(&reservation, Resolution::Settle(cost()), now).expect("it was held");
    let (stream, events) = (StreamId::Calls, vec![finished(id)]);
    drop(store.append(Append { stream, epoch: None, events, at: now, durability: Durability::Queued }));
    took
}

// ---- the floor

fn floor_writer(db: &rusqlite::Connection, records: &Receiver<(String, Hash)>) -> u64 {
    let mut commits = 0;
    while let Ok(first) = records.recv() {
        // Company comes within the linger of the store.
        std::thread::park_timeout(StoreOptions::default().linger);
        db.execute_batch("BEGIN IMMEDIATE").expect("the floor begins");
        for (body, hash) in std::iter::once(first).chain(records.try_iter()) {
            let mut insert = db
                .prepare_cached("INSERT INTO calls (hash, body) VALUES (?1, ?2)")
                .expect("its SQL is right");
            insert.execute(rusqlite::params![hash.0, body]).expect("the floor writes");
        }
        db.execute_batch("COMMIT").expect("the floor commits");
        commits += 1;
    }
    commits
}

async fn floor(path: &Path, load: Load) -> Cost {
    let now = Timestamp::from_secs(1_800_000_000);
    let db = rusqlite::Connection::open(path).expect("the floor opens");
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 2048;
         CREATE TABLE calls (position INTEGER PRIMARY KEY, hash BLOB NOT NULL, body TEXT NOT NULL);",
    )
    .expect("the floor is set up");
    let slots = File::create(path.with_extension("slots")).expect("the floor has a file");
    let (records, queue) = channel();
    let meter = Meter::start();
    let writer = std::thread::spawn(move || floor_writer(&db, &queue));
    let reserve = play(load, |n| {
        let (slots, records) = (&slots, &records);
        async move {
            let id = call_id(n);
            let begun = Instant::now();
            slots.write_all_at(&[7; 512], n as u64 % 1024 * 512).expect("the floor writes");
            let took = begun.elapsed();
            tokio::task::yield_now().await;
            let body = finished(id).encode();
            let kind = "call.finished";
            let place = Place { stream: &StreamId::Calls, seq: 1, at: now, epoch: 0, kind, version: 2 };
            let hash = link(Hash::default(), &place, &body, &Parts::default(), &Blind::default());
            records.send((body, hash)).expect("the writer lives");
            took
        }
    })
    .await;
    drop(records);
    let commits = writer.join().expect("the floor ends");
    let cost = meter.read(load, reserve);
    Cost { commits, ..cost }
}
