//! What a page asks of a store that is no longer small: 100,000 runs of 50 events each, over the last 90 days. The store is
//! made by bulk insert, counted once, and then asked as the pages of the dashboard, `/metrics` and `backstop stats` ask.
//!
//! `cargo bench -p backstop-store --bench numbers`; `-- --check` ends with an error when a target is missed; `-- --dir DIR`
//! chooses the disk, `-- --runs N` the size.

use backstop_call::{AgentName, Money, Role, Timestamp, Usage};
use backstop_journal::event::{
    CallFinished, CallStarted, RunCreated, RunFinished, RunLimits, ToolFinished, ToolPlanned, ToolStarted,
};
use backstop_journal::projections::history::RunSummary;
use backstop_journal::projections::metrics::{Present, openmetrics};
use backstop_journal::projections::numbers::{By, Chart, Family, Grain, Kept, Slice, Window, slices};
use backstop_journal::{Body, Event, EventBody, Hash, Journal, RunFilter, RunStatus, StreamId, Tally};
use backstop_label::Class;
use backstop_store::{SqliteStore, StoreOptions};
use rusqlite::{Connection, params};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::Instant;

/// Steps of a run, of six events each; with its beginning and its end that is 50 events.
const STEPS: u64 = 8;
const DAYS: u64 = 90;
/// 2026-11-22T12:00:00Z: the present of the benchmark.
const NOW: Timestamp = Timestamp::from_secs(1_795_348_800);
const ROUNDS: usize = 9;
const PAGE_MAX: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let option = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let base = option("--dir").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let runs = option("--runs").and_then(|count| count.parse().ok()).unwrap_or(100_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let met = runtime.expect("a runtime starts").block_on(bench(&base, runs));
    if args.iter().any(|arg| arg == "--check") && !met { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
async fn bench(base: &Path, runs: u64) -> bool {
    let dir = tempfile::tempdir_in(base).expect("the disk takes a directory");
    let path = dir.path().join("large.db");
    let begun = Instant::now();
    drop(SqliteStore::open(&path, StoreOptions::default()).expect("a new store opens"));
    let events = fill(&path, runs);
    println!("{runs} runs, {events} events made in {:.1} s", begun.elapsed().as_secs_f64());
    let store = SqliteStore::open(&path, StoreOptions::default()).expect("it opens again");
    let begun = Instant::now();
    store.catch_up(NOW, Kept::default()).await.expect("it is counted");
    let took = begun.elapsed();
    println!("counted in {:.1} s: {:.1} us an event", took.as_secs_f64(), micros(took, events));
    let mut met = true;
    for (name, page) in PAGES {
        let mut times = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            let rows = ask(&store, *page).await;
            times.push((begun.elapsed(), rows));
        }
        times.sort();
        let (took, rows) = times[ROUNDS / 2];
        let within = took <= PAGE_MAX;
        met &= within;
        let verdict = if within { "PASS" } else { "MISS" };
        println!(
            "{verdict} {name}: {:.1} ms, {rows} rows (at most {} ms)",
            millis(took),
            PAGE_MAX.as_millis()
        );
    }
    met
}

/// What is asked for.
#[derive(Clone, Copy)]
enum Page {
    Window(u64, By),
    Chart(u64, By),
    Scrape,
    Newest(Option<RunStatus>),
    Nothing,
}

const PAGES: &[(&str, Page)] = &[
    ("figures of the last day", Page::Window(1, By::All)),
    ("the last day by model", Page::Window(1, By::Model)),
    ("the last 30 days by agent", Page::Window(30, By::Agent)),
    ("90 days by day", Page::Window(DAYS, By::Day)),
    ("chart of the last day", Page::Chart(1, By::All)),
    ("chart of the last 7 days by model", Page::Chart(7, By::Model)),
    ("chart of 90 days by agent", Page::Chart(DAYS, By::Agent)),
    ("the scraper's page", Page::Scrape),
    ("the newest 50 runs", Page::Newest(None)),
    ("the newest 50 runs that failed", Page::Newest(Some(RunStatus::Failed))),
    ("runs that wait, of which there are none", Page::Newest(Some(RunStatus::Parked))),
    ("looking whether there is anything to count", Page::Nothing),
];

async fn ask(store: &SqliteStore, page: Page) -> usize {
    let since = |days: u64| NOW - Duration::from_hours(24 * days);
    match page {
        Page::Window(days, by) => {
            let wanted = slices((since(days), NOW), &Kept::default(), NOW, by.families());
            let cells = store.cells(wanted).await.expect("cells are read");
            Window::of(by, (since(days), NOW), &cells).rows.len()
        }
        Page::Chart(days, by) => {
            let grain = Chart::grain(Duration::from_hours(24 * days));
            let slice = Slice { grain, since: since(days), until: NOW, families: by.families() };
            let cells = store.cells(vec![slice]).await.expect("cells are read");
            Chart::of(by, grain, (since(days), NOW), &cells).points.len()
        }
        Page::Scrape => {
            let (since, until) = (Timestamp::EPOCH, Timestamp::from_secs(1));
            let slice = Slice { grain: Grain::Whole, since, until, families: Family::ALL };
            let cells = store.cells(vec![slice]).await.expect("cells are read");
            let budgets = store.budgets(NOW).await.expect("budgets are read");
            openmetrics(&cells, &Present { budgets, queue: None, jobs: Vec::new() }).lines().count()
        }
        Page::Newest(status) => {
            let status = status.into_iter().collect();
            let filter = RunFilter { status, limit: Some(50), ..RunFilter::default() };
            store.runs(filter).await.expect("runs are read").len()
        }
        Page::Nothing => {
            store.catch_up(NOW, Kept::default()).await.expect("there is nothing to count");
            0
        }
    }
}

/// Fills the tables as so many runs would have. Hashes are left out: nothing here looks at them.
fn fill(path: &Path, runs: u64) -> u64 {
    let mut db = Connection::open(path).expect("the file opens");
    db.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -200000").expect("it is set");
    let seed = backstop_call::Seed::new(1);
    let mut position = 0;
    let apart = Duration::from_hours(24 * DAYS) / u32::try_from(runs).unwrap_or(u32::MAX).max(1);
    for part in 0..runs.div_ceil(1_000) {
        let tx = db.transaction().expect("it begins");
        for run in (part * 1_000)..((part + 1) * 1_000).min(runs) {
            let begun =
                NOW - Duration::from_hours(24 * DAYS) + apart * u32::try_from(run).unwrap_or(u32::MAX);
            insert(&tx, (run, begun), &seed, &mut position);
        }
        tx.commit().expect("it commits");
    }
    position
}

fn insert(tx: &Connection, (run, begun): (u64, Timestamp), seed: &backstop_call::Seed, position: &mut u64) {
    let name = format!("r{run:015}");
    let stream = StreamId::Run(name.as_str().into());
    let id = (run + 1).cast_signed();
    let mut insert = tx
        .prepare_cached(
            "INSERT INTO events_raw (position, stream, seq, at, epoch, v, kind, hash, body)
             VALUES (?1, ?2, ?3, ?4, 1, ?5, ?6, zeroblob(32), ?7)",
        )
        .expect("its SQL is right");
    let mut named = tx.prepare_cached("INSERT INTO streams (id, name) VALUES (?1, ?2)").expect("it is right");
    named.execute(params![id, stream.to_string()]).expect("a stream is new");
    let mut summary: Option<RunSummary> = None;
    let mut seq: u64 = 0;
    for (number, body) in events(run, seed).into_iter().enumerate() {
        let at = begun + Duration::from_millis(700) * u32::try_from(number).unwrap_or(0);
        (seq, *position) = (seq + 1, *position + 1);
        insert
            .execute(params![
                position.cast_signed(),
                id,
                seq.cast_signed(),
                at.nanos().cast_signed(),
                body.version(),
                body.kind(),
                body.encode()
            ])
            .expect("an event is new");
        let (hash, epoch, stream) = (Hash::default(), 1, stream.clone());
        let event = Event { position: *position, stream, seq, at, epoch, body, hash };
        match &mut summary {
            Some(summary) => summary.apply(&event),
            None => summary = RunSummary::start(&name.as_str().into(), &event),
        }
    }
    let summary = summary.expect("a run begins with its creation");
    let json = serde_json::to_string(&summary).expect("a summary is JSON");
    tx.prepare_cached(
        "INSERT INTO runs_raw (stream, run, status, agent, created, seq, summary) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )
    .and_then(|mut insert| {
        let created = summary.created.nanos().cast_signed();
        let (status, agent) = (summary.status.as_str(), summary.agent.as_str());
        insert.execute(params![id, name, status, agent, created, seq.cast_signed(), json])
    })
    .expect("a run is new");
    if run.is_multiple_of(10) {
        let account = "INSERT INTO accounts (account, limit_seen, settled) VALUES (?1, 1000000000, 5)";
        tx.execute(account, [format!("run/{name}")]).expect("an account is new");
    }
}

fn events(run: u64, seed: &backstop_call::Seed) -> Vec<EventBody> {
    let pick =
        |names: &[&'static str]| names[usize::try_from(seed.next_u64() % names.len() as u64).unwrap_or(0)];
    let agent = pick(&["writer", "reviewer", "lead", "mailer", "clerk", "tester", "librarian", "watcher"]);
    let model = pick(&["main", "small", "local", "large"]);
    let mut events = vec![created(agent, model)];
    for step in 0..STEPS {
        let call = format!("c{run}-{step}");
        let tool = pick(&["read_file", "write_file", "edit_file", "list_files", "run_command", "http_get"]);
        events.push(started(&call, model));
        events.push(answered(&call, seed.next_u64()));
        events.push(planned(&format!("t{step}"), tool));
        events.push(ToolStarted { id: format!("t{step}"), attempt: 1, approval: None }.into());
        events.push(returned(&format!("t{step}"), seed.next_u64().is_multiple_of(20)));
        events.push(EventBody::from(ToolStarted { id: format!("n{step}"), attempt: 1, approval: None }));
    }
    let failed = run.is_multiple_of(1_000);
    let status = if failed { RunStatus::Failed } else { RunStatus::Done };
    events.push(RunFinished { status, result: None, code: None, message: "".into() }.into());
    events
}

fn created(agent: &str, model: &str) -> EventBody {
    RunCreated {
        task: "t".into(),
        role: Role::from(agent),
        agent: AgentName::from(agent),
        agent_hash: "00".into(),
        model: model.into(),
        system: Body::from("You work."),
        message: Body::from("Work."),
        max_tokens: None,
        tools: Vec::new(),
        workspace: "/w".into(),
        limits: RunLimits::default(),
        result_schema: None,
        priority: backstop_call::Priority::Standard,
        labels: backstop_call::Labels::default(),
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

fn started(call: &str, model: &str) -> EventBody {
    CallStarted {
        call: call.into(),
        model: model.into(),
        turn: 1,
        input_tokens: 900,
        task: None,
        role: None,
        key: None,
        labels: backstop_call::Labels::default(),
    }
    .into()
}

fn answered(call: &str, random: u64) -> EventBody {
    CallFinished {
        call: call.into(),
        turn: 1,
        provider: "far".into(),
        model: "large-1".into(),
        content: Body::default(),
        stop: backstop_call::StopReason::ToolUse,
        usage: Usage { input_tokens: 1_000, output_tokens: random % 300, ..Usage::default() },
        cost: Money::from_nanos(4_200_000),
        duration: Duration::from_millis(400 + random % 4_000),
        first_token: Some(Duration::from_millis(200 + random % 900)),
        request_id: None,
        attempts: Vec::new().into(),
        labels: backstop_call::Labels::default(),
        asked: None,
        status: None,
    }
    .into()
}

fn planned(id: &str, tool: &str) -> EventBody {
    ToolPlanned {
        id: id.into(),
        tool: tool.into(),
        args: Body::default(),
        args_hash: None,
        class: Class::Read,
        key: None,
        plan: Body::default(),
        effect: None,
        preview: Body::default(),
        undo: Body::default(),
        asks: None,
        undoes: None,
        labels: backstop_call::Labels::default(),
    }
    .into()
}

fn returned(id: &str, is_error: bool) -> EventBody {
    ToolFinished {
        id: id.into(),
        is_error,
        result: Body::from("done"),
        whole: Body::default(),
        labels: backstop_call::Labels::default(),
        duration: Duration::from_millis(3),
        probed: false,
        spent: None,
    }
    .into()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are small")]
fn micros(time: Duration, events: u64) -> f64 {
    time.as_secs_f64() * 1e6 / events.max(1) as f64
}
