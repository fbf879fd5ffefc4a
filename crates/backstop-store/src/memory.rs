//! The store in memory: for tests, and for programs that want no file. It does all that a journal does except last.

mod erase;
mod ledger;
mod numbers;
mod tasks;

pub use ledger::MemoryLedger;

use crate::listing::{Search, TaskText, matches};
use crate::observer::{Observer, Observers};
use crate::record::{Record, Written, new_blind, restore, run_of, summarize};
use backstop_call::{ApprovalId, BoxFuture, RunId, Timestamp};
use backstop_journal::event::{RunClaimed, RunErased};
use backstop_journal::projections::history::RunSummary;
use backstop_journal::{
    Append, Blind, BlobHash, Epoch, Erase, Event, EventBody, Head, Journal, JournalError, Links, ListedRun,
    Owner, Place, Position, RunFilter, Seq, StreamId, link,
};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A journal in memory. Clones share the events and are the same owner; [`MemoryStore::peer`] is another one.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    shared: Arc<Mutex<Shared>>,
    seat: Arc<Seat>,
}

#[derive(Debug, Default)]
struct Shared {
    events: Vec<Written>,
    streams: HashMap<StreamId, Stream>,
    runs: BTreeMap<RunId, RunSummary>,
    texts: BTreeMap<RunId, TaskText>,
    questions: BTreeMap<ApprovalId, RunId>,
    observers: Observers,
    blobs: HashMap<BlobHash, Bytes>,
    uses: BTreeSet<(BlobHash, StreamId)>,
    tasks: tasks::Tasks,
    alive: BTreeSet<u64>,
    owners: u64,
    counted: numbers::Counted,
}

#[derive(Debug, Default)]
struct Stream {
    head: Head,
    blind: Option<Blind>,
    places: Vec<usize>,
    epoch: Epoch,
    owner: Option<u64>,
}

/// An owner's life: it is alive as long as one of its stores is.
#[derive(Debug)]
struct Seat {
    shared: Arc<Mutex<Shared>>,
    number: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.alive.remove(&self.number);
        // What it worked on is free.
        shared.tasks.ring();
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty journal.
    pub fn new() -> Self {
        Self::seated(Arc::default())
    }

    /// The same journal as another process would see it: another owner, alive until its last clone is dropped.
    #[must_use]
    pub fn peer(&self) -> Self {
        Self::seated(Arc::clone(&self.shared))
    }

    /// This owner, as it stands in `run.claimed`.
    pub fn owner(&self) -> Owner {
        owner(self.seat.number)
    }

    /// Tells `observer` of every event from here on.
    pub fn observe(&self, observer: Observer) {
        lock(&self.shared).observers.add(observer);
    }

    /// Erases a large body. The events that refer to it stay, and the chain still verifies. Whether it was there.
    pub fn erase_blob(&self, blob: &BlobHash) -> bool {
        let mut shared = lock(&self.shared);
        // The beginning of a task goes with the task.
        shared.texts.retain(|_, text| text.blob.as_ref() != Some(blob));
        shared.uses.retain(|(used, _)| used != blob);
        shared.blobs.remove(blob).is_some()
    }

    fn seated(shared: Arc<Mutex<Shared>>) -> Self {
        let number = {
            let mut state = lock(&shared);
            state.owners += 1;
            let number = state.owners;
            state.alive.insert(number);
            number
        };
        Self { seat: Arc::new(Seat { shared: Arc::clone(&shared), number }), shared }
    }
}

impl Journal for MemoryStore {
    fn append(&self, append: Append) -> BoxFuture<'static, Result<Head, JournalError>> {
        let (result, observers, events) = {
            let mut shared = lock(&self.shared);
            let before = shared.events.len();
            let result = shared.append(append);
            (result, shared.observers.clone(), shared.events_from(before))
        };
        observers.tell(events);
        Box::pin(std::future::ready(result))
    }

    fn read(&self, stream: &StreamId, after: Seq) -> BoxFuture<'_, Result<Vec<Event>, JournalError>> {
        let shared = lock(&self.shared);
        let places = shared.streams.get(stream).map_or(&[][..], |stream| &stream.places);
        let skip = usize::try_from(after).unwrap_or(usize::MAX);
        let events = places.iter().skip(skip).map(|place| shared.event(*place)).collect();
        Box::pin(std::future::ready(Ok(events)))
    }

    fn tail(&self, after: Position, limit: usize) -> BoxFuture<'_, Result<Vec<Event>, JournalError>> {
        let shared = lock(&self.shared);
        let start = usize::try_from(after).unwrap_or(usize::MAX).min(shared.events.len());
        let end = start.saturating_add(limit).min(shared.events.len());
        let events = (start..end).map(|place| shared.event(place)).collect();
        Box::pin(std::future::ready(Ok(events)))
    }

    fn part(
        &self,
        stream: &StreamId,
        after: Seq,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Event>, JournalError>> {
        let events = self.read(stream, after);
        Box::pin(async move { Ok(events.await?.into_iter().take(limit).collect()) })
    }

    fn end(&self) -> BoxFuture<'_, Result<Position, JournalError>> {
        let end = lock(&self.shared).events.len() as Position;
        Box::pin(std::future::ready(Ok(end)))
    }

    fn asked_by(&self, approval: &ApprovalId) -> BoxFuture<'_, Result<Option<RunId>, JournalError>> {
        let run = lock(&self.shared).questions.get(approval).cloned();
        Box::pin(std::future::ready(Ok(run)))
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<ListedRun>, JournalError>> {
        let listed = lock(&self.shared).list(&filter);
        Box::pin(std::future::ready(Ok(listed)))
    }

    fn runs(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunSummary>, JournalError>> {
        let runs = lock(&self.shared).list(&filter).into_iter().map(|listed| listed.summary).collect();
        Box::pin(std::future::ready(Ok(runs)))
    }

    fn claim(&self, run: &RunId, at: Timestamp) -> BoxFuture<'_, Result<Epoch, JournalError>> {
        let result = lock(&self.shared).claim(run, at, self.seat.number);
        Box::pin(std::future::ready(result))
    }

    fn release(&self, run: &RunId, epoch: Epoch) -> BoxFuture<'_, Result<(), JournalError>> {
        let mut shared = lock(&self.shared);
        if let Some(stream) = shared.streams.get_mut(&StreamId::Run(run.clone()))
            && stream.epoch == epoch
        {
            stream.owner = None;
            shared.tasks.ring();
        }
        Box::pin(std::future::ready(Ok(())))
    }

    fn erase(&self, erase: Erase) -> BoxFuture<'_, Result<RunErased, JournalError>> {
        let (result, observers, events) = {
            let mut shared = lock(&self.shared);
            let before = shared.events.len();
            let result = shared.erase(erase);
            (result, shared.observers.clone(), shared.events_from(before))
        };
        observers.tell(events);
        Box::pin(std::future::ready(result))
    }

    fn verify(&self, stream: &StreamId) -> BoxFuture<'_, Result<Head, JournalError>> {
        Box::pin(std::future::ready(lock(&self.shared).verify(stream)))
    }
}

impl Shared {
    fn append(&mut self, append: Append) -> Result<Head, JournalError> {
        self.refuse_twice(&append)?;
        if let (Some(epoch), Some(run)) = (append.epoch, run_of(&append.stream)) {
            let stream = self.streams.get(&append.stream);
            if stream.is_none_or(|stream| stream.epoch != epoch) {
                let holder = stream.and_then(|stream| stream.owner).map_or(nobody(), owner);
                return Err(JournalError::Owned { run: run.clone(), owner: holder.0 });
            }
        }
        let epoch = append.epoch.unwrap_or(0);
        for body in append.events {
            self.push(&append.stream, epoch, append.at, body)?;
        }
        Ok(self.streams.get(&append.stream).map(|stream| stream.head).unwrap_or_default())
    }

    fn list(&self, filter: &RunFilter) -> Vec<ListedRun> {
        let search = self.found_by(filter.search.as_deref());
        let is_wanted = |run: &&RunSummary| matches(run, self.text_of(&run.run), filter, search.as_ref());
        let wanted = self.runs.values().filter(is_wanted);
        let mut runs: Vec<_> = wanted.collect();
        runs.sort_by(|a, b| (b.created, &b.run).cmp(&(a.created, &a.run)));
        runs.truncate(filter.limit.unwrap_or(usize::MAX));
        let listed = |run: &RunSummary| ListedRun {
            summary: run.clone(),
            text: self.text_of(&run.run).to_owned(),
            head: self
                .streams
                .get(&StreamId::Run(run.run.clone()))
                .map(|stream| stream.head)
                .unwrap_or_default(),
        };
        runs.into_iter().map(listed).collect()
    }

    /// The beginning of what a run's task says.
    fn text_of(&self, run: &RunId) -> &str {
        self.texts.get(run).map_or("", |text| &text.text)
    }

    /// What a search looks for.
    fn found_by(&self, search: Option<&str>) -> Option<Search> {
        let begins = |id: &str| Ok::<_, Infallible>(self.runs.keys().any(|run| run.as_str().starts_with(id)));
        let Ok(search) = search.map(|search| Search::of(search, begins)).transpose();
        search
    }

    fn push(
        &mut self,
        id: &StreamId,
        epoch: Epoch,
        at: Timestamp,
        body: EventBody,
    ) -> Result<(), JournalError> {
        let record = Record::of(id, body);
        let place = self.events.len();
        let stream = self.streams.entry(id.clone()).or_default();
        if stream.blind.is_none() && !record.parts.is_empty() {
            stream.blind = Some(new_blind()?);
        }
        let seq = stream.head.seq + 1;
        let position = place as Position + 1;
        let (kind, version) = (record.body.kind(), record.body.version());
        let there = Place { stream: id, seq, at, epoch, kind, version };
        let blind = stream.blind.unwrap_or_default();
        let hash = link(stream.head.hash, &there, &record.json, &record.parts, &blind);
        stream.head = Head { seq, hash, position };
        stream.places.push(place);
        let event = Event { position, stream: id.clone(), seq, at, epoch, body: record.body, hash };
        if let Some(run) = run_of(id) {
            let mut summary = self.runs.remove(run);
            summarize(&mut summary, run, &event);
            self.tasks.keep(summary.as_ref(), &event.body);
            if let EventBody::RunCreated(created) = &event.body {
                self.texts.insert(run.clone(), TaskText::of(&created.message, &record.blobs));
            }
            if let EventBody::ApprovalRequested(asked) = &event.body {
                self.questions.entry(asked.approval.clone()).or_insert_with(|| run.clone());
            }
            self.runs.extend(summary.map(|summary| (run.clone(), summary)));
        }
        self.blobs.extend(record.blobs.into_iter().map(|blob| (blob.hash, blob.bytes)));
        self.uses.extend(record.uses.into_iter().map(|hash| (hash, id.clone())));
        self.events.push(Written { event, version, text: record.json });
        Ok(())
    }

    /// The events from a place on, as observers are told of them.
    fn events_from(&self, place: usize) -> Vec<Event> {
        self.events[place..].iter().map(|written| written.event.clone()).collect()
    }

    fn event(&self, place: usize) -> Event {
        let mut event = self.events[place].event.clone();
        let Event { stream, body, .. } = &mut event;
        // Of a large body that was erased another stream may have the same.
        let is_used = |hash: &BlobHash| self.uses.contains(&(hash.clone(), stream.clone()));
        let blob = |hash: &BlobHash| self.blobs.get(hash).filter(|_| is_used(hash)).cloned();
        let Ok(()) = restore(body, |hash| Ok::<_, Infallible>(blob(hash)));
        event
    }

    fn claim(&mut self, run: &RunId, at: Timestamp, seat: u64) -> Result<Epoch, JournalError> {
        let id = StreamId::Run(run.clone());
        let Some(stream) = self.streams.get_mut(&id).filter(|_| self.runs.contains_key(run)) else {
            return Err(JournalError::NotFound(run.clone()));
        };
        if let Some(holder) = stream.owner.filter(|holder| *holder != seat && self.alive.contains(holder)) {
            return Err(JournalError::Owned { run: run.clone(), owner: owner(holder).0 });
        }
        stream.epoch += 1;
        stream.owner = Some(seat);
        let epoch = stream.epoch;
        self.push(&id, epoch, at, RunClaimed { owner: owner(seat).0 }.into())?;
        Ok(epoch)
    }

    fn verify(&self, id: &StreamId) -> Result<Head, JournalError> {
        let Some(stream) = self.streams.get(id) else { return Ok(Head::default()) };
        let links = Links { framed: 1, blind: stream.blind };
        backstop_journal::verify(&links, stream.places.iter().map(|place| self.events[*place].stored()))?;
        Ok(stream.head)
    }
}

fn owner(number: u64) -> Owner {
    Owner(format!("memory-{number}"))
}

fn nobody() -> Owner {
    Owner("nobody".to_owned())
}

/// A panic of another thread leaves nothing half done here: every change is made after its checks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
