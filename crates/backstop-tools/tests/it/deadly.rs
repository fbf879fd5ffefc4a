//! What is between a run and the world while it is killed: tools and a journal around which a process may die, and a model
//! that says what it is to say.

use crate::ground::Ground;
use backstop_agent::tool::Job;
use backstop_agent::{Plan, Probe, Rehearsal, Tool, ToolContext, ToolError, ToolOutput};
use backstop_call::{
    ApprovalId, Block, BoxFuture, Call, Clock, Failure, LimitHint, Model, Reply, RunId, Sink, Speaker,
    StopReason, Timestamp, ToolSpec, Usage,
};
use backstop_journal::projections::history::RunSummary;
use backstop_journal::{
    Append, Epoch, Event, Head, Journal, JournalError, ListedRun, Position, RunFilter, Seq, StreamId,
};
use backstop_label::Declaration;
use backstop_store::{SqliteStore, StoreOptions};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// Where a process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    Nowhere,
    BeforeAppend(usize),
    AfterAppend(usize),
    BeforeEffect(usize),
    /// So many microseconds after the effect began.
    During(usize, u64),
    AfterEffect(usize),
    /// By the world, when it is asked.
    Asked,
    /// By the world, when it has done it.
    Done,
    /// Not killed: held before this append until the test lets it go on.
    Held(usize),
}

/// Where this process kills itself, and how long its effects took.
pub(crate) struct Kill {
    place: Place,
    effects: AtomicUsize,
    pub(crate) took: Mutex<Vec<Duration>>,
}

impl Kill {
    pub(crate) fn at(place: Place) -> Arc<Self> {
        Arc::new(Self { place, effects: AtomicUsize::new(0), took: Mutex::default() })
    }

    fn reach(&self, place: Place) {
        if self.place == place {
            die();
        }
    }
}

fn die() {
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
    // The signal is on its way; nothing more happens in this process.
    loop {
        std::hint::spin_loop();
    }
}

/// A tool around which the process may die, and the one that takes it back.
pub(crate) struct Deadly {
    pub(crate) inner: Arc<dyn Tool>,
    pub(crate) kill: Arc<Kill>,
}

impl Tool for Deadly {
    fn spec(&self) -> ToolSpec {
        self.inner.spec()
    }

    fn declaration(&self) -> &Declaration {
        self.inner.declaration()
    }

    fn plan<'a>(
        &'a self,
        args: &'a Value,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<Plan, ToolError>> {
        self.inner.plan(args, context)
    }

    fn run<'a>(
        &'a self,
        job: &'a Job,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(async move {
            let number = self.kill.effects.fetch_add(1, Ordering::SeqCst) + 1;
            self.kill.reach(Place::BeforeEffect(number));
            let killer = match self.kill.place {
                Place::During(of, micros) if of == number => Some(std::thread::spawn(move || {
                    let (_nobody, never) = mpsc::channel::<()>();
                    let _ = never.recv_timeout(Duration::from_micros(micros));
                    die();
                })),
                _ => None,
            };
            let begun = Instant::now();
            let done = self.inner.run(job, context).await;
            self.kill.took.lock().unwrap().push(begun.elapsed());
            if let Some(killer) = killer {
                // The effect may be quicker than its killer; it gets no further.
                killer.join().unwrap();
            }
            self.kill.reach(Place::AfterEffect(number));
            done
        })
    }

    fn probe<'a>(&'a self, job: &'a Job, context: &'a ToolContext) -> BoxFuture<'a, Probe> {
        self.inner.probe(job, context)
    }

    fn undoing(&self) -> Option<Arc<dyn Tool>> {
        let inner = self.inner.undoing()?;
        Some(Arc::new(Self { inner, kill: Arc::clone(&self.kill) }))
    }

    fn rehearsal(&self) -> Rehearsal {
        self.inner.rehearsal()
    }
}

/// Called before an append, and after it, with its number from 1.
type Around = Arc<dyn Fn(usize) + Send + Sync>;

/// A journal that is looked at around each append.
pub(crate) struct Watched {
    inner: SqliteStore,
    before: Around,
    after: Around,
    pub(crate) appends: AtomicUsize,
}

impl Watched {
    pub(crate) fn deadly(ground: &Ground, kill: &Arc<Kill>) -> Self {
        let inner = SqliteStore::open(ground.path("journal.db"), StoreOptions::default()).unwrap();
        let (before, after) = (Arc::clone(kill), Arc::clone(kill));
        let hold = ground.path("work/hold");
        Self {
            inner,
            before: Arc::new(move |number| {
                before.reach(Place::BeforeAppend(number));
                if before.place == Place::Held(number) {
                    std::fs::read(&hold).unwrap();
                }
            }),
            after: Arc::new(move |number| after.reach(Place::AfterAppend(number))),
            appends: AtomicUsize::new(0),
        }
    }
}

impl Journal for Watched {
    fn append(&self, append: Append) -> BoxFuture<'static, Result<Head, JournalError>> {
        let number = self.appends.fetch_add(1, Ordering::SeqCst) + 1;
        (self.before)(number);
        let done = self.inner.append(append);
        let after = Arc::clone(&self.after);
        Box::pin(async move {
            let head = done.await?;
            after(number);
            Ok(head)
        })
    }

    fn read(&self, stream: &StreamId, after: Seq) -> BoxFuture<'_, Result<Vec<Event>, JournalError>> {
        self.inner.read(stream, after)
    }

    fn tail(&self, after: Position, limit: usize) -> BoxFuture<'_, Result<Vec<Event>, JournalError>> {
        self.inner.tail(after, limit)
    }

    fn part(
        &self,
        stream: &StreamId,
        after: Seq,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Event>, JournalError>> {
        self.inner.part(stream, after, limit)
    }

    fn end(&self) -> BoxFuture<'_, Result<Position, JournalError>> {
        self.inner.end()
    }

    fn asked_by(&self, approval: &ApprovalId) -> BoxFuture<'_, Result<Option<RunId>, JournalError>> {
        self.inner.asked_by(approval)
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<ListedRun>, JournalError>> {
        self.inner.list(filter)
    }

    fn runs(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunSummary>, JournalError>> {
        self.inner.runs(filter)
    }

    fn claim(&self, run: &RunId, at: Timestamp) -> BoxFuture<'_, Result<Epoch, JournalError>> {
        self.inner.claim(run, at)
    }

    fn release(&self, run: &RunId, epoch: Epoch) -> BoxFuture<'_, Result<(), JournalError>> {
        self.inner.release(run, epoch)
    }

    fn verify(&self, stream: &StreamId) -> BoxFuture<'_, Result<Head, JournalError>> {
        self.inner.verify(stream)
    }
}

/// The time of day.
pub(crate) struct Wall;

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        Timestamp::EPOCH + SystemTime::UNIX_EPOCH.elapsed().unwrap()
    }
}

/// A model that calls the tool of the case, and finishes.
pub(crate) struct Script(pub(crate) Vec<Block>);

impl Model for Script {
    fn call<'a>(&'a self, call: Call, _: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        let spoken = call.request.messages.iter().filter(|it| it.speaker == Speaker::Assistant).count();
        let content = vec![self.0[spoken].clone()];
        Box::pin(async move {
            Ok(Reply {
                id: "m".into(),
                model: "scripted".into(),
                content,
                stop: StopReason::ToolUse,
                usage: Usage { input_tokens: 10, output_tokens: 5, ..Usage::default() },
                first_token: None,
                request_id: None,
                limits: LimitHint::default(),
                attempts: Vec::new(),
                other: serde_json::Map::new(),
                told: None,
                lost: Vec::new(),
            })
        })
    }
}

pub(crate) fn use_of(id: &str, name: &str, input: Value) -> Block {
    Block::ToolUse { id: id.into(), name: name.into(), input, cache: None }
}
