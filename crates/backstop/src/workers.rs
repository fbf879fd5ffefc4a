//! Workers: they take runs from the queue and work on them, so many at a time. Nothing is decided here; which run is next
//! says the queue, and what it does next its journal.

use crate::Backstop;
use backstop_agent::RunError;
use backstop_call::{ModelName, Role, RunId, Timestamp};
use backstop_journal::{JournalError, Take, Taken};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};

/// When the store refuses, it is asked again after this time.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Hears of what went wrong outside of runs: the run that it is about, if one, and why.
pub type Trouble = Arc<dyn Fn(Option<&RunId>, &str) + Send + Sync>;

/// Who works.
#[derive(Clone)]
pub struct Crew {
    /// Runs that are worked on at a time.
    pub slots: usize,
    /// Only runs that ask one of these models or chains; `None` takes any.
    pub models: Option<BTreeSet<ModelName>>,
    /// How many runs of a role may be worked on at a time, over all processes.
    pub roles: BTreeMap<Role, u32>,
    /// Who is told of trouble.
    pub trouble: Trouble,
}

impl Crew {
    /// So many workers, for everything.
    pub fn of(slots: usize) -> Self {
        Self { slots, models: None, roles: BTreeMap::new(), trouble: Arc::new(|_, _| ()) }
    }
}

/// Workers at work. Dropping them ends them as a kill -9 would: each run can be taken up where it was.
pub struct Workers {
    backstop: Backstop,
    crew: watch::Sender<Crew>,
    end: watch::Sender<bool>,
    task: JoinHandle<JoinSet<()>>,
}

impl Workers {
    /// Begins to work.
    pub fn start(backstop: Backstop, crew: Crew) -> Self {
        let ((crew, crews), (end, ends)) = (watch::channel(crew), watch::channel(false));
        let shift = Shift { backstop: backstop.clone(), crews, runs: JoinSet::new(), taken: HashMap::new() };
        Self { backstop, crew, end, task: tokio::spawn(shift.work(ends)) }
    }

    /// Has others work from here on. What is under way goes on.
    pub fn change(&self, crew: Crew) {
        self.crew.send_replace(crew);
    }

    /// Takes nothing more, and lets go of each run before its next step. Waits for that, but not longer than `patience`;
    /// how many runs were cut off in the middle of a step then.
    pub async fn drain(mut self, patience: Duration) -> usize {
        self.backstop.drain();
        self.end.send_replace(true);
        let Ok(mut runs) = (&mut self.task).await else { return 0 };
        let all = async { while runs.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, all).await.is_ok() {
            return 0;
        }
        let left = runs.len();
        runs.shutdown().await;
        left
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Shift {
    backstop: Backstop,
    crews: watch::Receiver<Crew>,
    runs: JoinSet<()>,
    taken: HashMap<Id, Taken>,
}

impl Shift {
    /// Works until it is to end; what is under way then is given back.
    async fn work(mut self, mut ends: watch::Receiver<bool>) -> JoinSet<()> {
        let queue = Arc::clone(self.backstop.queue());
        while !*ends.borrow() {
            // Before it is looked for: what comes after is not missed.
            let seen = queue.version();
            let crew = self.crews.borrow_and_update().clone();
            let free = crew.slots.saturating_sub(self.runs.len());
            // One time for both: what comes due between a look at what is due and one at what will be is missed by neither.
            let at = self.backstop.clock().now();
            let got = if free == 0 { 0 } else { self.take(&crew, free, at).await };
            if got == free {
                tokio::select! {
                    ended = self.runs.join_next_with_id(), if !self.runs.is_empty() => self.ended(&crew, ended),
                    Ok(()) = self.crews.changed() => {}
                    _ = ends.changed() => {}
                }
                continue;
            }
            let wait = self.until_due(at).await;
            tokio::select! {
                _ = queue.changed(seen) => {}
                ended = self.runs.join_next_with_id(), if !self.runs.is_empty() => self.ended(&crew, ended),
                Ok(()) = self.crews.changed() => {}
                () = tokio::time::sleep(wait) => {}
                _ = ends.changed() => {}
            }
        }
        self.runs
    }

    /// Takes what is due, and begins with it. How many runs that were.
    async fn take(&mut self, crew: &Crew, most: usize, at: Timestamp) -> usize {
        let (models, roles) = (crew.models.clone(), crew.roles.clone());
        let take = Take { at, most, models, roles };
        let taken = match self.backstop.queue().take(take).await {
            Ok(taken) => taken,
            Err(error) => {
                (crew.trouble)(None, &error.to_string());
                tokio::time::sleep(TRY_AGAIN).await;
                return 0;
            }
        };
        for taken in &taken {
            let (backstop, trouble, mine) = (self.backstop.clone(), Arc::clone(&crew.trouble), taken.clone());
            let task = self.runs.spawn(async move { work(&backstop, &mine, &trouble).await });
            self.taken.insert(task.id(), taken.clone());
        }
        taken.len()
    }

    fn ended(&mut self, crew: &Crew, ended: Option<Result<(Id, ()), JoinError>>) {
        match ended {
            Some(Ok((id, ()))) => drop(self.taken.remove(&id)),
            Some(Err(error)) => {
                // A defect. The run is not lost for it: another worker takes it up, or it is found to be deadly.
                let Some(taken) = self.taken.remove(&error.id()) else { return };
                (crew.trouble)(Some(&taken.run), &error.to_string());
                let backstop = self.backstop.clone();
                self.runs.spawn(async move { let_go(&backstop, &taken).await });
            }
            None => {}
        }
    }

    /// How long after a time nothing is due, as far as is known.
    async fn until_due(&self, at: Timestamp) -> Duration {
        match self.backstop.queue().next_due(at).await {
            Ok(Some(due)) => due.since(at),
            Ok(None) => Duration::MAX,
            Err(_) => TRY_AGAIN,
        }
    }
}

async fn work(backstop: &Backstop, taken: &Taken, trouble: &Trouble) {
    match Box::pin(backstop.work(taken)).await {
        // It was taken away: a person cancelled it, or answered for it.
        Ok(_) | Err(RunError::Journal(JournalError::Owned { .. })) => {}
        Err(error) => {
            trouble(Some(&taken.run), &error.to_string());
            let_go(backstop, taken).await;
        }
    }
}

/// Lets go of a run, however long the store refuses.
async fn let_go(backstop: &Backstop, taken: &Taken) {
    while backstop.journal().release(&taken.run, taken.epoch).await.is_err() {
        tokio::time::sleep(TRY_AGAIN).await;
    }
}
