//! Erases what runs said: each as a whole, those that belong to it before itself, so that a process that dies in between leaves the
//! rest to be found. Whether a run may go decides [`mod@backstop_agent::erasing`]; what it takes, the store.

use crate::Backstop;
use backstop_agent::erasing::{Kept, Lost, belongs_to, may_go};
use backstop_agent::{RunError, RunState};
use backstop_call::{RunId, Timestamp};
use backstop_journal::event::{RunCreated, RunErased};
use backstop_journal::projections::history::RunSummary;
use backstop_journal::{
    Blind, Erase, Event, EventBody, JournalError, ListedRun, Parts, Remains, RunFilter, StreamId, TaskFilter,
};
use std::time::Duration;

/// Who wants it erased, and from which age on.
#[derive(Debug, Clone, Copy)]
pub struct Erasing<'a> {
    /// Who: a person, or `retention`.
    pub by: &'a str,
    /// Why.
    pub reason: &'a str,
    /// When.
    pub at: Timestamp,
    /// How long it is kept after its end; none where a person asks for it.
    pub age: Duration,
}

/// What was erased of one run, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erased {
    /// The run.
    pub run: RunId,
    /// So many texts: prompts, answers, arguments, results, and what quotes them.
    pub bodies: u64,
    /// Their length, in bytes of JSON.
    pub bytes: u64,
}

/// What would be erased, and what can no longer be done then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToErase {
    /// The run last, before it those that go with it.
    pub runs: Vec<Erased>,
    /// What is lost.
    pub lost: Lost,
}

/// A run with all that belongs to it.
struct Whole {
    run: ListedRun,
    belonging: Vec<ListedRun>,
    due: Option<Timestamp>,
}

impl Whole {
    fn may_go(&self, age: Duration, now: Timestamp) -> Result<(), Kept> {
        let belonging: Vec<_> = self.belonging.iter().map(|one| one.summary.clone()).collect();
        may_go(&self.run.summary, &belonging, (self.due, age), now)
    }

    /// Those that are not erased yet, in the order in which they go.
    fn going(&self) -> impl Iterator<Item = &ListedRun> {
        self.belonging.iter().chain([&self.run]).filter(|one| one.summary.erased.is_none())
    }
}

impl Backstop {
    /// What [`Backstop::erase`] would erase at once. Changes nothing.
    ///
    /// # Errors
    /// As it.
    pub async fn rehearse_erasing(&self, run: &RunId) -> Result<ToErase, RunError> {
        let whole = self.whole(run).await?;
        whole.may_go(Duration::ZERO, self.clock().now())?;
        let mut to_erase = ToErase { runs: Vec::new(), lost: Lost::default() };
        for one in whole.going() {
            let run = one.summary.run.clone();
            let events = self.journal().read(&StreamId::Run(run.clone()), 0).await?;
            to_erase.lost = to_erase.lost.and(Lost::with(&RunState::fold(&events)));
            let add = |(bodies, bytes), (more, length)| (bodies + more, bytes + length);
            let (bodies, bytes) = events.iter().map(said).fold((0, 0), add);
            to_erase.runs.push(Erased { run, bodies, bytes });
        }
        Ok(to_erase)
    }

    /// Erases what a run said, with all that belongs to it: prompts, answers, arguments, results, and what quotes them. Who did
    /// what, when and for how much stays, and is proven as before. Nothing can be taken back, carried out or tried again after it.
    ///
    /// # Errors
    /// `Kept`, and why; `Owned` and `Moved` of the journal where somebody works on it in this moment.
    pub async fn erase(&self, run: &RunId, wanted: &Erasing<'_>) -> Result<Vec<Erased>, RunError> {
        let whole = self.whole(run).await?;
        whole.may_go(wanted.age, wanted.at)?;
        let mut gone = Vec::new();
        for one in whole.going() {
            let run = one.summary.run.clone();
            let (by, reason) = (wanted.by.to_owned(), wanted.reason.to_owned());
            let erase = Erase { run: run.clone(), head: one.head.seq, at: wanted.at, by, reason };
            let RunErased { bodies, bytes, .. } = self.journal().erase(erase).await?;
            gone.push(Erased { run, bodies, bytes });
        }
        Ok(gone)
    }

    /// A run with those that belong to it. Their ids begin with its own, as those of tasks do that it submitted: these are runs of
    /// their own.
    async fn whole(&self, run: &RunId) -> Result<Whole, RunError> {
        let mut first = run.clone();
        while let Some(above) = belongs_to(&self.created_as(&first).await?) {
            first = above.clone();
        }
        if first != *run {
            return Err(Kept::PartOf { run: run.clone(), whole: first }.into());
        }
        let filter = RunFilter { id_prefix: Some(run.to_string()), ..RunFilter::default() };
        let mut listed = self.journal().list(filter).await?;
        let at = listed.iter().position(|one| one.summary.run == *run);
        let whole = listed.swap_remove(at.ok_or_else(|| JournalError::NotFound(run.clone()))?);
        // A run has a longer id than the one that it belongs to.
        listed.sort_by_key(|one| one.summary.run.as_str().len());
        let mut known = vec![run.clone()];
        let mut belonging = Vec::new();
        for one in listed {
            let created = self.created_as(&one.summary.run).await?;
            if belongs_to(&created).is_some_and(|of| known.contains(of)) {
                known.push(one.summary.run.clone());
                belonging.push(one);
            }
        }
        belonging.reverse();
        let due = self.tried_again(&whole.summary).await?;
        Ok(Whole { run: whole, belonging, due })
    }

    async fn created_as(&self, run: &RunId) -> Result<RunCreated, RunError> {
        let first = self.journal().part(&StreamId::Run(run.clone()), 0, 1).await?.pop();
        match first.map(|event| event.body) {
            Some(EventBody::RunCreated(created)) => Ok(created),
            _ => Err(JournalError::NotFound(run.clone()).into()),
        }
    }

    /// When the task of a run that failed is tried again, if that was the last try of it.
    async fn tried_again(&self, run: &RunSummary) -> Result<Option<Timestamp>, RunError> {
        let due = run.queue.as_ref().filter(|queue| queue.anew).and_then(|queue| queue.due);
        let (Some(due), Some(task)) = (due, run.queued_as()) else { return Ok(None) };
        let filter = TaskFilter { tasks: vec![task], limit: Some(1), ..TaskFilter::default() };
        let newest = self.queue().tasks(filter).await?.pop();
        Ok(newest.filter(|task| task.run.run == run.run).map(|_| due))
    }
}

/// What can be erased of an event: how many texts, and their length in bytes of JSON.
fn said(event: &Event) -> (u64, u64) {
    let text = event.body.encode();
    let parts = Parts::of(&event.stream, event.body.kind(), &text);
    let Remains { parts, bytes, .. } = parts.erase(&text, &Blind::default());
    (parts, bytes)
}
