//! The scenarios, done by Backstop: runs of an agent, with everything that is always on.

use super::world::{Act, Effects, Steps, TOOL};
use super::{Options, millis, per_second, spread};
use crate::Stop;
use backstop::call::{Money, Price, RunId};
use backstop::journal::event::{QueueTerms, RunLimits};
use backstop::journal::{Backlog, EventBody, Queue};
use backstop::label::ModelPlace;
use backstop::{Backstop, Crew, Leaf, ModelSettings, Observer, Place, Settings, Task, Workers};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

const MODEL: &str = "steps";

fn failed(error: impl std::fmt::Display) -> Stop {
    Stop::failed(error.to_string())
}

async fn open(options: &Options, observers: Vec<Observer>) -> Result<Backstop, Stop> {
    let effects = match &options.effects {
        Some(file) => {
            Effects::in_file(file).map_err(|error| failed(format!("{}: {error}", file.display())))?
        }
        None => Effects::default(),
    };
    let leaf = Steps { count: options.steps, bytes: options.payload, effects: effects.clone() };
    let model = ModelSettings {
        name: MODEL.into(),
        id: MODEL.to_owned(),
        leaf: Leaf::Model("here".into(), Arc::new(leaf)),
        place: ModelPlace::Local,
        // What costs nothing is written nowhere in the ledger, and would make a step cheaper than it is for most.
        price: Price { input: Money::from_dollars(3), output: Money::from_dollars(15), ..Price::default() },
        context_window: u64::MAX,
        max_output: 8_192,
        hidden_output: false,
        limits: backstop::stack::Limits::default(),
    };
    let settings = Settings {
        store: Place::File(options.dir.join("backstop.db")),
        models: vec![model],
        tools: vec![Arc::new(Act::new(options.payload, effects))],
        observers,
        ..Settings::default()
    };
    Backstop::open(settings).await.map_err(failed)
}

fn task(number: usize) -> Task {
    let limits = RunLimits { time: Duration::from_hours(1), turns: u32::MAX, tokens: u64::MAX, cost: None };
    Task {
        id: format!("task-{number}").as_str().into(),
        tools: vec![TOOL.to_owned()],
        limits,
        workspace: std::path::PathBuf::new(),
        ..Task::new(MODEL, number.to_string())
    }
}

fn at_once(backstop: &Backstop) -> QueueTerms {
    QueueTerms::once(backstop.clock().now())
}

/// Makes the store.
pub(super) async fn init(options: &Options) -> Result<Value, Stop> {
    close(open(options, Vec::new()).await?).await?;
    Ok(json!({ "ok": true }))
}

async fn close(backstop: Backstop) -> Result<(), Stop> {
    match backstop.files() {
        Some((store, _)) => store.flush().await.map_err(failed),
        None => Ok(()),
    }
}

/// One run of many steps.
pub(super) async fn w1(options: &Options) -> Result<Value, Stop> {
    let steps = Arc::new(Mutex::new(Vec::with_capacity(options.steps)));
    let noted = Arc::clone(&steps);
    let observer: Observer = Arc::new(move |events| {
        let ended = events.iter().filter(|event| matches!(event.body, EventBody::ToolFinished(_))).count();
        let now = Instant::now();
        noted.lock().unwrap_or_else(PoisonError::into_inner).extend(std::iter::repeat_n(now, ended));
    });
    let backstop = open(options, vec![observer]).await?;
    let run = backstop.create(task(0)).await.map_err(failed)?;
    let before = backstop.files().map(|(store, _)| store.stats());
    let (begun, cpu) = (Instant::now(), cpu_time());
    let result = backstop.resume(&run, None).await.map_err(failed)?;
    let (seconds, cpu) = (begun.elapsed(), cpu_time().saturating_sub(cpu));
    let after = backstop.files().map(|(store, _)| store.stats());
    if result.status != backstop::journal::RunStatus::Done {
        return Err(failed(format!("the run is {}: {}", result.status.as_str(), result.message)));
    }
    let written = before.zip(after);
    let commits = written.map_or(0, |(before, after)| after.synced - before.synced);
    let pages = written.map_or(0, |(before, after)| after.pages - before.pages);
    let ends = std::mem::take(&mut *steps.lock().unwrap_or_else(PoisonError::into_inner));
    let starts = std::iter::once(begun).chain(ends.iter().copied());
    let times = starts.zip(&ends).map(|(start, end)| *end - start).collect();
    close(backstop).await?;
    Ok(json!({
        "steps": options.steps,
        "seconds": seconds.as_secs_f64(),
        "steps_per_s": per_second(options.steps, seconds),
        "step_ms": spread(times),
        "commits": commits,
        "pages": pages,
        "cpu_ms": millis(cpu),
    }))
}

/// What this process has used, all its threads together.
fn cpu_time() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let nanos = u32::try_from(used.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(used.tv_sec).unwrap_or(0), nanos)
}

/// Hears when tasks are done, by their runs.
#[derive(Clone)]
struct Ends {
    times: Arc<Mutex<HashMap<RunId, Instant>>>,
    count: watch::Sender<usize>,
}

impl Ends {
    fn new() -> Self {
        Self { times: Arc::default(), count: watch::Sender::new(0) }
    }

    fn observer(&self) -> Observer {
        let ends = self.clone();
        Arc::new(move |events| {
            let now = Instant::now();
            let over = events.iter().filter(|event| matches!(event.body, EventBody::RunFinished(_)));
            for event in over {
                let backstop::journal::StreamId::Run(run) = &event.stream else { continue };
                ends.times.lock().unwrap_or_else(PoisonError::into_inner).insert(run.clone(), now);
                ends.count.send_modify(|count| *count += 1);
            }
        })
    }

    async fn reach(&self, count: usize) {
        // The sender is this one's own.
        drop(self.count.subscribe().wait_for(|done| *done >= count).await);
    }

    /// How long each took from when it was put in.
    fn since(&self, begun: &[(RunId, Instant)]) -> Vec<Duration> {
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        begun.iter().filter_map(|(run, begun)| Some(*times.get(run)? - *begun)).collect()
    }
}

/// Many tasks through the queue.
pub(super) async fn w2(options: &Options) -> Result<Value, Stop> {
    let ends = Ends::new();
    let backstop = open(options, vec![ends.observer()]).await?;
    let workers = Workers::start(backstop.clone(), Crew::of(options.concurrency));
    let begun = Instant::now();
    let put = put_in(&backstop, options).await?;
    let enqueued = begun.elapsed();
    ends.reach(options.tasks).await;
    let seconds = begun.elapsed();
    let done = backlog(&backstop).await?.done;
    workers.drain(Duration::from_secs(5)).await;
    close(backstop).await?;
    if done != u64::try_from(options.tasks).unwrap_or(0) {
        return Err(failed(format!("{done} of {} tasks are done", options.tasks)));
    }
    Ok(json!({
        "tasks": options.tasks,
        "seconds": seconds.as_secs_f64(),
        "enqueue_s": enqueued.as_secs_f64(),
        "tasks_per_s": per_second(options.tasks, seconds),
        "latency_ms": spread(ends.since(&put)),
    }))
}

async fn backlog(backstop: &Backstop) -> Result<Backlog, Stop> {
    backstop.queue().backlog(backstop.clock().now()).await.map_err(failed)
}

/// One task of one step after the other.
pub(super) async fn w2lat(options: &Options) -> Result<Value, Stop> {
    let ends = Ends::new();
    let backstop = open(&Options { steps: 1, ..options.clone() }, vec![ends.observer()]).await?;
    let workers = Workers::start(backstop.clone(), Crew::of(options.concurrency));
    let mut put = Vec::with_capacity(options.tasks);
    for number in 0..options.tasks {
        let begun = Instant::now();
        let submitted = backstop.submit(task(number), at_once(&backstop)).await.map_err(failed)?;
        ends.reach(number + 1).await;
        put.push((submitted.run, begun));
    }
    workers.drain(Duration::from_secs(5)).await;
    close(backstop).await?;
    Ok(json!({ "tasks": options.tasks, "latency_ms": spread(ends.since(&put)) }))
}

/// Puts tasks in, and does none.
pub(super) async fn submit(options: &Options) -> Result<Value, Stop> {
    let backstop = open(options, Vec::new()).await?;
    put_in(&backstop, options).await?;
    close(backstop).await?;
    Ok(json!({ "submitted": options.tasks }))
}

/// How the queue of a store stands.
pub(super) async fn backlog_of(options: &Options) -> Result<Backlog, Stop> {
    let backstop = open(options, Vec::new()).await?;
    let backlog = backlog(&backstop).await?;
    close(backstop).await?;
    Ok(backlog)
}

/// Puts the tasks in, some at a time; their runs, each with the moment at which that began.
async fn put_in(backstop: &Backstop, options: &Options) -> Result<Vec<(RunId, Instant)>, Stop> {
    let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut submitters = JoinSet::new();
    for _ in 0..options.concurrency {
        let (backstop, next, tasks) = (backstop.clone(), Arc::clone(&next), options.tasks);
        submitters.spawn(async move {
            let mut mine = Vec::new();
            loop {
                let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if number >= tasks {
                    return Ok::<_, Stop>(mine);
                }
                let begun = Instant::now();
                let terms = at_once(&backstop);
                let submitted = backstop.submit(task(number), terms).await.map_err(failed)?;
                mine.push((submitted.run, begun));
            }
        });
    }
    let mut put = Vec::with_capacity(options.tasks);
    while let Some(mine) = submitters.join_next().await {
        put.extend(mine.map_err(failed)??);
    }
    Ok(put)
}

/// Works until nothing is left to do.
pub(super) async fn drain(options: &Options) -> Result<Value, Stop> {
    let backstop = open(options, Vec::new()).await?;
    let queue: Arc<dyn Queue> = Arc::clone(backstop.queue());
    let workers = Workers::start(backstop.clone(), Crew::of(options.concurrency));
    let left = loop {
        let seen = queue.version();
        let backlog = queue.backlog(backstop.clock().now()).await.map_err(failed)?;
        if backlog.due + backlog.later + backlog.working == 0 {
            break backlog.parked + backlog.dead;
        }
        queue.changed(seen).await;
    };
    workers.drain(Duration::from_secs(5)).await;
    close(backstop).await?;
    Ok(json!({ "left": left }))
}
