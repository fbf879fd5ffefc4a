//! The book of the jobs: which there are, and what became of them, for whoever shows them. It remembers what it has read of
//! the stream, so that a look costs what is new.

use super::Job;
use super::view::{Books, JobRow, JobView, history, summaries, view};
use crate::config::Config;
use backstop_call::{JobName, Timestamp};
use backstop_journal::projections::jobs::Jobs;
use backstop_journal::projections::metrics::JobSummary;
use backstop_journal::{Journal, JournalError, Queue, StreamId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Which jobs there are, and what became of them. Clones are the same book.
#[derive(Clone, Default)]
pub struct JobBook {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    jobs: RwLock<Arc<BTreeMap<JobName, Job>>>,
    folded: Mutex<Arc<Jobs>>,
}

impl JobBook {
    /// The jobs of a config.
    pub fn of(config: &Config) -> Self {
        let book = Self::default();
        book.change(config);
        book
    }

    /// Takes the jobs of another config.
    pub fn change(&self, config: &Config) {
        let jobs = Arc::new(config.jobs.clone());
        *self.inner.jobs.write().unwrap_or_else(PoisonError::into_inner) = jobs;
    }

    /// Every job of the config by its name, and how it stands.
    pub async fn view(
        &self,
        kept: (&dyn Journal, &dyn Queue),
        now: Timestamp,
    ) -> Result<Vec<JobView>, JournalError> {
        let jobs = Arc::clone(&self.inner.jobs.read().unwrap_or_else(PoisonError::into_inner));
        let folded = self.folded(kept.0).await?;
        view(&jobs, Books { jobs: &folded, journal: kept.0, queue: kept.1 }, now).await
    }

    /// What came of the times of a job, the newest first; at most so many lines. As far back as is remembered: a hundred tasks,
    /// and a hundred stretches without.
    pub async fn history(
        &self,
        job: &JobName,
        kept: (&dyn Journal, &dyn Queue),
        limit: usize,
    ) -> Result<Vec<JobRow>, JournalError> {
        let folded = self.folded(kept.0).await?;
        history(job, Books { jobs: &folded, journal: kept.0, queue: kept.1 }, limit).await
    }

    /// What a scraper is told of each job that has a schedule.
    pub async fn summaries(
        &self,
        kept: (&dyn Journal, &dyn Queue),
        now: Timestamp,
    ) -> Result<Vec<JobSummary>, JournalError> {
        let folded = self.folded(kept.0).await?;
        summaries(Books { jobs: &folded, journal: kept.0, queue: kept.1 }, now).await
    }

    /// The stream, folded up to now.
    async fn folded(&self, journal: &dyn Journal) -> Result<Arc<Jobs>, JournalError> {
        let known = || self.inner.folded.lock().unwrap_or_else(PoisonError::into_inner);
        let mut jobs = Arc::clone(&known());
        if catch_up(&mut jobs, journal).await? {
            let mut known = known();
            // Two may have looked at the same time: the further one stays.
            if known.seq() < jobs.seq() {
                *known = Arc::clone(&jobs);
            }
        }
        Ok(jobs)
    }
}

/// Folds in what came since. Whether anything did.
pub(crate) async fn catch_up(jobs: &mut Arc<Jobs>, journal: &dyn Journal) -> Result<bool, JournalError> {
    let events = journal.read(&StreamId::Jobs, jobs.seq()).await?;
    if !events.is_empty() {
        let jobs = Arc::make_mut(jobs);
        for event in &events {
            jobs.apply(event);
        }
    }
    Ok(!events.is_empty())
}
