//! What is between a run and the world while it is killed: a tool around whose effects the process may die, and a journal that is
//! looked at around each append. The tests of `backstop-tools` use this file as well.

use backstop_agent::tool::Job;
use backstop_agent::{Plan, Probe, Rehearsal, Tool, ToolContext, ToolError, ToolOutput};
use backstop_call::{ApprovalId, BoxFuture, RunId, Timestamp, ToolSpec};
use backstop_journal::event::RunErased;
use backstop_journal::projections::history::RunSummary;
use backstop_journal::{
    Append, Durability, Epoch, Erase, Event, EventBody, Head, Journal, JournalError, ListedRun, Position,
    RunFilter, Seq, StreamId,
};
use backstop_label::Declaration;
use serde_json::Value;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::time::Instant;

/// Kills this process.
pub(crate) fn die() {
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
    // The signal is on its way; nothing more happens in this process.
    loop {
        std::hint::spin_loop();
    }
}

/// What becomes of the process around the effects of its tools.
pub(crate) trait Fate: Send + Sync + 'static {
    /// The next effect is about to begin: its number, from 1.
    fn begins(&self) -> usize;

    /// It begins: who kills the process within it, if that is to be.
    fn during(&self, number: usize) -> Option<JoinHandle<()>>;

    /// It is over, after so long.
    fn ended(&self, number: usize, took: Duration);
}

/// A tool around which the process may die, and the one that takes it back.
pub(crate) struct Deadly<F> {
    pub(crate) inner: Arc<dyn Tool>,
    pub(crate) fate: Arc<F>,
}

impl<F: Fate> Tool for Deadly<F> {
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
            let number = self.fate.begins();
            let killer = self.fate.during(number);
            let begun = Instant::now();
            let done = self.inner.run(job, context).await;
            let took = begun.elapsed();
            if let Some(killer) = killer {
                // On a busy machine the effect may be quicker than its killer; it gets no further.
                killer.join().unwrap();
            }
            self.fate.ended(number, took);
            done
        })
    }

    fn probe<'a>(&'a self, job: &'a Job, context: &'a ToolContext) -> BoxFuture<'a, Probe> {
        self.inner.probe(job, context)
    }

    fn undoing(&self) -> Option<Arc<dyn Tool>> {
        let inner = self.inner.undoing()?;
        Some(Arc::new(Self { inner, fate: Arc::clone(&self.fate) }))
    }

    fn rehearsal(&self) -> Rehearsal {
        self.inner.rehearsal()
    }
}

/// What a test wants to happen around the n-th append, counted from 1.
type Around = Box<dyn Fn(usize, &Append) -> Option<JournalError> + Send + Sync>;

/// A journal that is looked at before and after each append.
pub(crate) struct Watched {
    pub(crate) inner: Arc<dyn Journal>,
    pub(crate) before: Around,
    pub(crate) after: Arc<dyn Fn(usize) + Send + Sync>,
    pub(crate) appends: Mutex<Vec<(Durability, Vec<&'static str>)>>,
}

impl Watched {
    pub(crate) fn new(inner: Arc<dyn Journal>) -> Self {
        Self { inner, before: Box::new(|_, _| None), after: Arc::new(|_| ()), appends: Mutex::default() }
    }
}

impl Journal for Watched {
    fn append(&self, append: Append) -> BoxFuture<'static, Result<Head, JournalError>> {
        let number = {
            let mut appends = self.appends.lock().unwrap();
            let kinds = append.events.iter().map(EventBody::kind).collect();
            appends.push((append.durability, kinds));
            appends.len()
        };
        if let Some(error) = (self.before)(number, &append) {
            return Box::pin(async { Err(error) });
        }
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

    fn erase(&self, erase: Erase) -> BoxFuture<'_, Result<RunErased, JournalError>> {
        self.inner.erase(erase)
    }

    fn verify(&self, stream: &StreamId) -> BoxFuture<'_, Result<Head, JournalError>> {
        self.inner.verify(stream)
    }
}
