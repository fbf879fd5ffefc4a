//! Lets runs go on after their last answer: so many at a time, each once. A run that another living process holds is left
//! alone, and so is one that this process has no model for; why is kept, to be told.

use backstop::Backstop;
use backstop_call::{Code, ModelName, RunId};
use backstop_journal::RunFilter;
use backstop_journal::projections::history::RunSummary;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Runs that are worked on at a time; more wait.
const AT_ONCE_MAX: usize = 4;
/// Runs that are remembered: those that wait or are worked on, and why others were left alone. What is forgotten stands in
/// the journal all the same.
const REMEMBERED_MAX: usize = 1_000;

/// What becomes of a run whose questions are answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Going {
    /// It waits for its turn, or is worked on.
    On,
    /// It was left alone.
    Left { code: Code, why: String },
}

/// Lets runs go on.
pub(crate) struct Resumer {
    backstop: Backstop,
    /// What runs may be asked of here.
    models: RwLock<BTreeSet<ModelName>>,
    places: Arc<Semaphore>,
    runs: Arc<Mutex<BTreeMap<RunId, Going>>>,
    tasks: Mutex<JoinSet<()>>,
    ended: AtomicBool,
}

impl Resumer {
    pub(crate) fn new(backstop: Backstop, models: BTreeSet<ModelName>) -> Self {
        Self {
            backstop,
            models: RwLock::new(models),
            places: Arc::new(Semaphore::new(AT_ONCE_MAX)),
            runs: Arc::default(),
            tasks: Mutex::default(),
            ended: AtomicBool::new(false),
        }
    }

    /// Runs may be asked of these from here on.
    pub(super) fn may_ask(&self, models: BTreeSet<ModelName>) {
        *self.models.write().unwrap_or_else(PoisonError::into_inner) = models;
    }

    /// Lets a run go on, as soon as there is room. Comes back at once.
    pub(crate) async fn resume(&self, run: &RunId) {
        let summary = self.summary(run).await;
        if summary.as_ref().is_ok_and(|summary| summary.queue.is_some()) {
            // It waits for a worker, who goes on with it.
            return;
        }
        if let Some(left) = self.unfit(summary) {
            note(&self.runs, run, left);
            return;
        }
        if lock(&self.runs).insert(run.clone(), Going::On) == Some(Going::On) {
            return;
        }
        let (backstop, places, runs) =
            (self.backstop.clone(), Arc::clone(&self.places), Arc::clone(&self.runs));
        let run = run.clone();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            // It is never closed.
            let _place = places.acquire_owned().await;
            match Box::pin(backstop.resume(&run, None)).await {
                Ok(_) => drop(lock(&runs).remove(&run)),
                Err(error) => {
                    note(&runs, &run, Going::Left { code: error.code(), why: error.to_string() });
                }
            }
        });
    }

    /// What became of a run; `None` where it went on, or nothing was to be done.
    pub(crate) fn going(&self, run: &RunId) -> Option<Going> {
        lock(&self.runs).get(run).cloned()
    }

    /// Lets go of every run: each can be resumed where it is.
    pub(crate) async fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.shutdown().await;
    }

    async fn summary(&self, run: &RunId) -> Result<RunSummary, Going> {
        let left = |code, why| Err(Going::Left { code, why });
        let filter = RunFilter { id_prefix: Some(run.to_string()), ..RunFilter::default() };
        match self.backstop.journal().runs(filter).await {
            Ok(runs) => match runs.into_iter().find(|found| found.run == *run) {
                Some(summary) => Ok(summary),
                None => left(Code::RunNotFound, format!("there is no run {run}")),
            },
            Err(error) => left(error.code(), error.to_string()),
        }
    }

    /// Why a run is not taken up here at all.
    fn unfit(&self, summary: Result<RunSummary, Going>) -> Option<Going> {
        let left = |code, why| Some(Going::Left { code, why });
        let model = match summary {
            Ok(summary) => summary.model,
            Err(left) => return Some(left),
        };
        if self.ended.load(Ordering::Relaxed) {
            return left(Code::GatewayBusy, "the gateway is ending".to_owned());
        }
        if !self.models.read().unwrap_or_else(PoisonError::into_inner).contains(&model) {
            return left(Code::UnknownModel, format!("the gateway has no model or chain `{model}`"));
        }
        let waiting = lock(&self.runs).values().filter(|going| **going == Going::On).count();
        if waiting >= REMEMBERED_MAX {
            return left(Code::GatewayBusy, format!("{waiting} runs wait for their turn"));
        }
        None
    }
}

fn note(runs: &Mutex<BTreeMap<RunId, Going>>, run: &RunId, going: Going) {
    let mut runs = lock(runs);
    runs.insert(run.clone(), going);
    // Ids begin with the time, so the first is the oldest.
    let oldest = runs.iter().find(|(_, going)| **going != Going::On).map(|(run, _)| run.clone());
    if let Some(oldest) = oldest.filter(|_| runs.len() > REMEMBERED_MAX) {
        runs.remove(&oldest);
    }
}

fn lock(runs: &Mutex<BTreeMap<RunId, Going>>) -> MutexGuard<'_, BTreeMap<RunId, Going>> {
    runs.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Going {
    /// What to do about a run that was left alone.
    pub(crate) fn hint(&self, run: &RunId) -> String {
        match self {
            Self::Left { code: Code::OwnedElsewhere, .. } => {
                "the process that has it goes on with it, or lets go of it".to_owned()
            }
            Self::On | Self::Left { .. } => format!("`backstop resume {run}` goes on"),
        }
    }
}
