//! What a page of the dashboard takes in a store as a team has it after a year: 100,000 runs and 5 million events. The floor is the
//! same request for the least that the server answers. The store is made first, which takes some minutes.
//!
//! `cargo bench -p backstop-server --bench pages`; `-- --check` ends with an error when a page takes longer than the target;
//! `--runs N` and `--events N` make another store, `--dir DIR` chooses the disk.
#![expect(clippy::print_stdout, reason = "a benchmark tells what it measured")]

use backstop::Backstop;
use backstop_call::{Clock, Timestamp};
use backstop_journal::event::{KeyRight, KeyScope, RunCreated, RunFinished, ToolFinished};
use backstop_journal::{Append, Body, Durability, EventBody, Journal, RunStatus, StreamId};
use backstop_server::config::{Surroundings, load};
use backstop_server::gateway::{
    ApprovalsParts, Bell, BellLimits, EngineParts, Gateway, GatewayLimits, GatewayParts, Live, serve,
};
use backstop_server::jobs::JobBook;
use backstop_server::keys::{NewKey, create};
use backstop_server::numbers::Numbers;
use backstop_server::settings::{Plan, base};
use backstop_stack::SystemClock;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

const RUNS: u64 = 100_000;
const EVENTS: u64 = 5_000_000;
/// The longest that a page may take at the median.
const TARGET: Duration = Duration::from_millis(50);
const ROUNDS: usize = 15;
/// The secret of nobody: the provider is never asked.
const CONFIG: &str = "[providers.a]\ndialect = \"messages\"\nbase-url = \"http://127.0.0.1:9\"\nkey = \"env:KEY\"\n\n\
                      [models.a]\nprovider = \"a\"\nid = \"a\"\ncontext-window = 200000\nmax-output = 1000\n\n\
                      [budgets]\nday = \"$5.00\"\n";

struct World;

impl Surroundings for World {
    fn var(&self, _: &str) -> Option<String> {
        Some("sk-of-nobody".to_owned())
    }

    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        std::fs::read(path)
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let number = |name: &str, usual| value(name).and_then(|text| text.parse().ok()).unwrap_or(usual);
    let base = value("--dir").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let (runs, events) = (number("--runs", RUNS), number("--events", EVENTS));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let met = runtime.expect("a runtime starts").block_on(bench(&base, runs, events));
    if args.iter().any(|arg| arg == "--check") && !met { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn bench(base: &Path, runs: u64, events: u64) -> bool {
    let dir = tempfile::tempdir_in(base).expect("the disk takes a directory");
    let gate = Gate::start(dir.path()).await;
    let began = Instant::now();
    // A run a minute, the last of them now.
    let start = gate.backstop.clock().now() - Duration::from_mins(runs);
    let longest = fill(&**gate.backstop.journal(), start, (runs, events)).await;
    println!("{runs} runs with {events} events were written in {:?}", began.elapsed());
    let began = Instant::now();
    gate.numbers.catch_up().await.expect("the numbers are counted");
    println!("they were counted in {:?}", began.elapsed());
    let client = gate.log_in().await;
    let floor = client.median("/api/hello").await;
    println!("{:<44} {:>12} {:>12}", "", "time", "of a core");
    println!("{:<44} {:>12?} {:>12?}", "the floor: /api/hello", floor.0, floor.1);
    let (middle, last) = (format!("/runs/{}", name(runs / 2)), format!("/runs/{longest}"));
    let pages = [
        "/",
        "/runs",
        "/runs?status=failed",
        "/runs?status=stopped&agent=agent-3&model=a",
        "/runs?agent=nobody",
        &format!("/runs?from={0}&to={0}", (start + Duration::from_hours(24)).date()),
        "/runs?q=invoices",
        "/runs?q=task-99999",
        "/runs?q=nothing+of+the+kind",
        "/runs?q=invoices&status=failed&agent=nobody",
        &middle,
        &last,
        &format!("{last}?after=0"),
        &format!("{middle}/audit"),
        "/approvals",
        "/providers",
        "/?span=month",
        "/spending",
        "/spending?span=month",
        "/audit",
    ];
    let mut met = true;
    for page in pages {
        let (took, cpu) = client.median(page).await;
        let verdict = if took <= TARGET { "PASS" } else { "MISS" };
        met &= took <= TARGET;
        println!("{page:<44} {took:>12?} {cpu:>12?}  {verdict}: at most {TARGET:?}");
    }
    met
}

fn name(run: u64) -> String {
    format!("1m{run:014}")
}

/// Writes runs that are over, and one that is as long as hundreds of them; gives its name.
async fn fill(journal: &dyn Journal, start: Timestamp, (runs, events): (u64, u64)) -> String {
    // Its first event is a run's, as are the last ones of the others.
    let long = (events / 50).max(2);
    let each = (events - long) / runs;
    let mut waits = Vec::new();
    for run in 0..runs {
        let at = start + Duration::from_mins(run);
        waits.push(journal.append(append(&name(run), at, whole(run, each))));
        if waits.len() == 500 {
            for wait in waits.drain(..) {
                wait.await.expect("it is written");
            }
        }
    }
    for wait in waits {
        wait.await.expect("it is written");
    }
    let longest = name(runs);
    journal.append(append(&longest, start, vec![created(runs)])).await.expect("it is written");
    for _ in 0..long / 500 {
        journal.append(append(&longest, start, vec![returned(); 500])).await.expect("it is written");
    }
    longest
}

fn append(run: &str, at: Timestamp, events: Vec<EventBody>) -> Append {
    let stream = StreamId::Run(run.into());
    Append { stream, epoch: None, events, at, durability: Durability::Written }
}

fn whole(run: u64, events: u64) -> Vec<EventBody> {
    let status = match run % 10 {
        0 => RunStatus::Failed,
        1 => RunStatus::Cancelled,
        _ => RunStatus::Done,
    };
    let over = RunFinished { status, result: None, code: None, message: "".into() };
    let work = std::iter::repeat_n(returned(), usize::try_from(events.saturating_sub(2)).unwrap_or(0));
    std::iter::once(created(run)).chain(work).chain([over.into()]).collect()
}

fn created(run: u64) -> EventBody {
    let created = serde_json::json!({
        "task": format!("task-{run}"), "role": format!("role-{}", run % 3), "agent": format!("agent-{}", run % 7),
        "agent_hash": "", "model": "a", "system": {"inline": "You work."}, "tools": [], "workspace": "/work",
        "message": {"inline": format!("Sum up the invoices of customer {run} and write what is due to due-{run}.md.")},
        "limits": {"time": {"secs": 180, "nanos": 0}, "turns": 50, "tokens": 100_000}, "priority": "standard",
    });
    serde_json::from_value::<RunCreated>(created).expect("a run").into()
}

fn returned() -> EventBody {
    let result = Body::from("Read invoices.csv: 4,812 bytes, 120 lines, the last of them of yesterday.");
    let id = "call_1".to_owned();
    let labels = backstop_call::Labels::default();
    ToolFinished {
        id,
        is_error: false,
        result,
        whole: Body::default(),
        labels,
        duration: Duration::from_millis(12),
        probed: false,
        spent: None,
    }
    .into()
}

/// A gateway that serves.
struct Gate {
    addr: SocketAddr,
    backstop: Backstop,
    gateway: Arc<Gateway>,
    numbers: Numbers,
}

impl Gate {
    async fn start(dir: &Path) -> Self {
        let path = dir.join("backstop.toml");
        std::fs::write(&path, CONFIG).expect("the config is written");
        let config = load(&path, None, &World).expect("the config is right");
        let plan = Plan { config: &config, world: &World, now: SystemClock::new().now() };
        let mut settings = base(&config, &World);
        plan.all(&mut settings);
        let backstop = Backstop::open(settings.clone()).await.expect("the store opens");
        let engine = EngineParts {
            settings,
            patterns: Vec::new(),
            endpoints: Vec::new(),
            keyless: Vec::new(),
            config: Arc::new(config.clone()),
        };
        let limits = GatewayLimits {
            body_bytes_max: 1 << 20,
            bodies_bytes_max: 1 << 24,
            connections_max: 64,
            calls_max: 64,
            idle: Duration::from_mins(10),
            call: Duration::from_mins(10),
            drain: Duration::from_secs(1),
        };
        let numbers = Numbers::of(&backstop, &config);
        let parts = GatewayParts {
            backstop: backstop.clone(),
            engine,
            limits,
            environment: None,
            data_dir: dir.to_owned(),
            numbers: numbers.clone(),
            jobs: JobBook::of(&config),
            approvals: ApprovalsParts::of(&config, &World, Bell::new(BellLimits::default()))
                .expect("no secrets"),
            live: Live::default(),
        };
        let gateway = Gateway::open(parts).await.expect("the gateway opens");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        tokio::spawn(serve(listener, Arc::clone(&gateway), std::future::pending()));
        Self { addr, backstop, gateway, numbers }
    }

    async fn log_in(&self) -> Client {
        let scope = KeyScope { right: KeyRight::View, ..KeyScope::default() };
        let new = NewKey { name: "bench".into(), scope, by: "bench".to_owned() };
        let made = create(&**self.backstop.journal(), new, self.backstop.clock().now()).await.expect("a key");
        self.gateway.refresh_keys().await.expect("the keys are read");
        let mut client = Client { addr: self.addr, cookie: String::new() };
        let body = format!("key={}", made.secret.expose());
        let answer = client.ask("POST", "/login", &body).await;
        let (_, cookie) = answer.split_once("set-cookie: ").expect("a session");
        cookie.split(';').next().unwrap_or_default().clone_into(&mut client.cookie);
        client
    }
}

struct Client {
    addr: SocketAddr,
    cookie: String,
}

impl Client {
    async fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.addr).await.expect("a connection");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: bench\r\naccept: text/html\r\nconnection: close\r\ncookie: {}\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
            self.cookie,
            body.len()
        );
        stream.write_all(request.as_bytes()).await.expect("the request goes out");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    }

    /// The middle of many looks, the first apart: it finds nothing in memory. And what each took of a core, client included:
    /// what else the machine does moves that less.
    async fn median(&self, path: &str) -> (Duration, Duration) {
        let mut times = Vec::new();
        let mut before = Duration::ZERO;
        for round in 0..=ROUNDS {
            if round == 1 {
                before = on_core();
            }
            let began = Instant::now();
            let answer = self.ask("GET", path, "").await;
            let took = began.elapsed();
            assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
            if round > 0 {
                times.push(took);
            }
        }
        let cpu = on_core().saturating_sub(before) / u32::try_from(ROUNDS).unwrap_or(1);
        times.sort_unstable();
        (times[ROUNDS / 2], cpu)
    }
}

/// The time that all threads of this process had a core.
fn on_core() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let told = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
    let nanos = told.filter_map(|told| told.split(' ').next()?.parse::<u64>().ok());
    Duration::from_nanos(nanos.sum())
}
