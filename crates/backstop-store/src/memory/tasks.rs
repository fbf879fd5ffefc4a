//! The queue in memory: which run is the newest of each task. Everything else stands in the runs' summaries.

use super::{MemoryStore, Shared, lock};
use crate::listing::matches;
use crate::record::{next_try, run_of};
use backstop_call::{BoxFuture, Role, RunId, TaskId, Timestamp};
use backstop_journal::event::RunCreated;
use backstop_journal::projections::history::RunSummary;
use backstop_journal::projections::queue::{Queued, TaskState};
use backstop_journal::{
    Append, Backlog, EventBody, JournalError, Queue, RunFilter, StreamId, Take, Taken, TaskFilter,
    TaskSummary,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tokio::sync::watch;

/// The tasks that workers have to do with.
#[derive(Debug)]
pub(super) struct Tasks {
    /// In the order in which they came.
    runs: Vec<RunId>,
    places: HashMap<TaskId, usize>,
    version: watch::Sender<u64>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self { runs: Vec::new(), places: HashMap::new(), version: watch::Sender::new(0) }
    }
}

impl Tasks {
    /// Takes note of how a run stands after an event.
    pub(super) fn keep(&mut self, summary: Option<&RunSummary>, event: &EventBody) {
        let Some((summary, task)) = summary.and_then(|summary| Some((summary, summary.queued_as()?))) else {
            return;
        };
        let place = *self.places.entry(task).or_insert_with(|| {
            self.runs.push(summary.run.clone());
            self.runs.len() - 1
        });
        // The newest run stands for its task; an earlier one may still be heard of.
        if matches!(event, EventBody::RunCreated(_)) {
            self.runs[place] = summary.run.clone();
        }
        self.ring();
    }

    pub(super) fn ring(&self) {
        self.version.send_modify(|version| *version += 1);
    }
}

impl Shared {
    pub(super) fn refuse_twice(&self, append: &Append) -> Result<(), JournalError> {
        match append.events.first() {
            Some(EventBody::RunCreated(RunCreated { queue: Some(_), task, .. })) => {
                if let Some(place) = self.tasks.places.get(task) {
                    let run = self.tasks.runs[*place].clone();
                    return Err(JournalError::TaskExists { task: task.clone(), run });
                }
                // A run that was made from the same request, for a task of another name.
                match run_of(&append.stream).and_then(|run| self.runs.get(run)) {
                    Some(there) => {
                        Err(JournalError::TaskExists { task: there.task.clone(), run: there.run.clone() })
                    }
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn worked_on(&self, run: &RunId) -> bool {
        let owner = self.streams.get(&StreamId::Run(run.clone())).and_then(|stream| stream.owner);
        owner.is_some_and(|owner| self.alive.contains(&owner))
    }

    /// The newest run of each task, with its place in the queue.
    fn lines(&self) -> impl Iterator<Item = (&RunSummary, &Queued)> {
        self.tasks.runs.iter().filter_map(|run| {
            let summary = self.runs.get(run)?;
            Some((summary, summary.queue.as_ref()?))
        })
    }

    fn take(&mut self, wanted: &Take, seat: u64) -> Result<Vec<Taken>, JournalError> {
        let mut roles: BTreeMap<Role, u32> = BTreeMap::new();
        let mut keys: BTreeSet<String> = BTreeSet::new();
        let mut waiting = Vec::new();
        for (summary, queue) in self.lines() {
            if self.worked_on(&summary.run) {
                *roles.entry(summary.role.clone()).or_default() += 1;
                keys.extend(queue.terms.key.clone());
            } else if queue.due.is_some_and(|due| due <= wanted.at)
                && wanted.models.as_ref().is_none_or(|models| models.contains(&summary.model))
            {
                let line = (summary.run.clone(), summary.role.clone(), queue.terms.key.clone());
                waiting.push((queue.rank(), line));
            }
        }
        waiting.sort_by_key(|(rank, _)| *rank);
        let mut taken = Vec::new();
        for (_, (run, role, key)) in waiting {
            let busy = roles.get(&role).copied().unwrap_or(0);
            let full = wanted.roles.get(&role).is_some_and(|most| busy >= *most);
            if taken.len() == wanted.most || full || key.as_ref().is_some_and(|key| keys.contains(key)) {
                continue;
            }
            *roles.entry(role).or_default() += 1;
            keys.extend(key);
            let run = self.next_run(run, wanted.at)?;
            let epoch = self.claim(&run, wanted.at, seat)?;
            taken.push(Taken { run, epoch });
        }
        Ok(taken)
    }

    /// The run that goes on with a task: its last one, or the next if that one failed.
    fn next_run(&mut self, run: RunId, at: Timestamp) -> Result<RunId, JournalError> {
        let Some(queued) = self.runs.get(&run).and_then(|run| run.queue.clone()).filter(|it| it.anew) else {
            return Ok(run);
        };
        let stream = StreamId::Run(run.clone());
        let first = self.streams.get(&stream).and_then(|stream| stream.places.first());
        let Some(EventBody::RunCreated(created)) = first.map(|place| self.event(*place).body) else {
            return Ok(run);
        };
        let (next, created) = next_try(&run, queued, created, at);
        self.push(&StreamId::Run(next.clone()), 0, at, created.into())?;
        Ok(next)
    }
}

impl Queue for MemoryStore {
    fn take(&self, take: Take) -> BoxFuture<'_, Result<Vec<Taken>, JournalError>> {
        let (result, observers, events) = {
            let mut shared = lock(&self.shared);
            let before = shared.events.len();
            let result = shared.take(&take, self.seat.number);
            (result, shared.observers.clone(), shared.events_from(before))
        };
        observers.tell(events);
        Box::pin(std::future::ready(result))
    }

    fn next_due(&self, after: Timestamp) -> BoxFuture<'_, Result<Option<Timestamp>, JournalError>> {
        let shared = lock(&self.shared);
        let waiting = shared.lines().filter(|(summary, _)| !shared.worked_on(&summary.run));
        let due = waiting.filter_map(|(_, queue)| queue.due).filter(|due| *due > after).min();
        Box::pin(std::future::ready(Ok(due)))
    }

    fn version(&self) -> u64 {
        *lock(&self.shared).tasks.version.borrow()
    }

    fn changed(&self, seen: u64) -> BoxFuture<'_, u64> {
        let mut version = lock(&self.shared).tasks.version.subscribe();
        Box::pin(async move {
            // The sender lives in what this store holds.
            let _ = version.wait_for(|version| *version != seen).await;
            *version.borrow()
        })
    }

    fn tasks(&self, filter: TaskFilter) -> BoxFuture<'_, Result<Vec<TaskSummary>, JournalError>> {
        let shared = lock(&self.shared);
        let search = shared.found_by(filter.search.as_deref());
        let wanted = RunFilter { agent: filter.agent.clone(), ..RunFilter::default() };
        let mut tasks = Vec::new();
        for (place, run) in shared.tasks.runs.iter().enumerate().rev() {
            let Some(run) = shared.runs.get(run) else { continue };
            let (Some(queue), Some(task)) = (&run.queue, run.queued_as()) else { continue };
            let place = i64::try_from(place).unwrap_or(i64::MAX);
            if (filter.states.is_empty() || filter.states.contains(&queue.state))
                && (filter.tasks.is_empty() || filter.tasks.contains(&task))
                && filter.prefix.as_ref().is_none_or(|prefix| task.as_str().starts_with(prefix.as_str()))
                && filter.before.is_none_or(|before| place < before)
                && filter.asked_by.as_ref().is_none_or(|key| run.asked_by.as_ref() == Some(key))
                && matches(run, shared.text_of(&run.run), &wanted, search.as_ref())
                && tasks.len() < filter.limit.unwrap_or(usize::MAX)
            {
                let worked_on = shared.worked_on(&run.run);
                let text = shared.text_of(&run.run).to_owned();
                tasks.push(TaskSummary { task, place, run: run.clone(), worked_on, text });
            }
        }
        Box::pin(std::future::ready(Ok(tasks)))
    }

    fn backlog(&self, at: Timestamp) -> BoxFuture<'_, Result<Backlog, JournalError>> {
        let shared = lock(&self.shared);
        let mut backlog = Backlog::default();
        for (summary, queue) in shared.lines() {
            let worked_on = shared.worked_on(&summary.run);
            backlog.working += u64::from(worked_on);
            match queue.state {
                TaskState::Waiting if worked_on => {}
                TaskState::Waiting => match queue.due.filter(|due| *due <= at) {
                    Some(due) => {
                        backlog.due += 1;
                        backlog.oldest = backlog.oldest.max(at.since(due));
                    }
                    None => backlog.later += 1,
                },
                TaskState::Parked => backlog.parked += 1,
                TaskState::Done => backlog.done += 1,
                TaskState::Dead => backlog.dead += 1,
                TaskState::Cancelled => backlog.cancelled += 1,
            }
        }
        Box::pin(std::future::ready(Ok(backlog)))
    }
}
