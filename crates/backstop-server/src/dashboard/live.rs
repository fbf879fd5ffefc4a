//! What happens, told to pages that are open. A page is told that there is something new and up to which event, and asks for what
//! it shows; so nothing waits for it, and one that does not keep up misses nothing but moments.
//!
//! Told are commits of this process, at once, and those of other processes as a look at the journal finds them.

use super::headers;
use crate::gateway::Gateway;
use crate::gateway::answer::{Answer, Reply};
use crate::gateway::approvals::Refused;
use crate::gateway::visit::Visit;
use backstop::Observer;
use backstop_call::{BoxFuture, Code, RunId};
use backstop_journal::{Position, RunFilter, StreamId};
use bytes::Bytes;
use http::{Response, StatusCode};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};

/// Pages that are told at a time; more are refused, and stay as they are until they are read anew.
const PAGES_MAX: usize = 128;
/// The least time between two notices to a page: what happens meanwhile is told together.
const PAUSE: Duration = Duration::from_millis(250);
/// How often something is sent where nothing happens, so that a connection that is gone is found.
const BEAT: Duration = Duration::from_secs(15);
/// How often is looked for what other processes did, as long as a page is open.
const SWEEP: Duration = Duration::from_millis(500);
/// The most events that a look takes in; what is beyond is told as something new, of every run.
const SWEPT_MAX: usize = 256;
/// What a browser waits before it comes again, in milliseconds.
const RETRY_MS: u32 = 2_000;

/// Tells pages that are open.
#[derive(Clone)]
pub struct Live(Arc<Shared>);

struct Shared {
    /// The last event of all.
    all: watch::Sender<Position>,
    /// The last event of each run that somebody watches.
    runs: Mutex<HashMap<RunId, watch::Sender<Position>>>,
    places: Arc<Semaphore>,
    ended: watch::Sender<bool>,
}

impl Default for Live {
    fn default() -> Self {
        Self(Arc::new(Shared {
            all: watch::Sender::new(0),
            runs: Mutex::default(),
            places: Arc::new(Semaphore::new(PAGES_MAX)),
            ended: watch::Sender::new(false),
        }))
    }
}

impl Live {
    /// What is to be told of every event, when the engine is opened. It waits for nothing.
    pub fn observer(&self) -> Observer {
        let live = self.clone();
        Arc::new(move |events| {
            if live.is_watched() {
                live.tell(events.iter().map(|event| (event.position, &event.stream)));
            }
        })
    }

    /// Lets go of every page.
    pub(crate) fn end(&self) {
        self.0.ended.send_replace(true);
    }

    fn is_watched(&self) -> bool {
        self.0.places.available_permits() < PAGES_MAX
    }

    fn tell<'a>(&self, events: impl Iterator<Item = (Position, &'a StreamId)>) {
        let mut last = 0;
        let runs = self.runs();
        for (position, stream) in events {
            last = last.max(position);
            if let StreamId::Run(run) = stream
                && let Some(sender) = runs.get(run)
            {
                raise(sender, position);
            }
        }
        raise(&self.0.all, last);
    }

    /// Watches a run, or everything.
    fn watch(&self, run: Option<RunId>) -> watch::Receiver<Position> {
        let Some(run) = run else { return self.0.all.subscribe() };
        let mut runs = self.runs();
        runs.retain(|_, sender| !sender.is_closed());
        runs.entry(run).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    fn runs(&self) -> MutexGuard<'_, HashMap<RunId, watch::Sender<Position>>> {
        self.0.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Positions only grow, whoever tells of them first.
fn raise(sender: &watch::Sender<Position>, position: Position) {
    sender.send_if_modified(|last| {
        let is_new = position > *last;
        *last = position.max(*last);
        is_new
    });
}

impl Gateway {
    /// Looks for what other processes did, as long as the future is polled.
    pub(crate) async fn tell_of_others(self: Arc<Self>) {
        let (live, journal) = (&self.dashboard.live, self.backstop.journal());
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = None;
        loop {
            sweep.tick().await;
            if !live.is_watched() {
                seen = None;
                continue;
            }
            // A journal that cannot be read now is told by its own health, and looked at again.
            let Ok(end) = journal.end().await else { continue };
            let after = seen.replace(end).unwrap_or(end);
            if end == after {
                continue;
            }
            let events = journal.tail(after, SWEPT_MAX).await.unwrap_or_default();
            live.tell(events.iter().map(|event| (event.position, &event.stream)));
            if events.last().is_none_or(|last| last.position < end) {
                live.runs().values().for_each(|sender| raise(sender, end));
                raise(&live.0.all, end);
            }
        }
    }
}

impl Visit {
    /// What happens from here on: to a run, or to anything.
    pub(super) async fn events(&self) -> Result<Reply, Refused> {
        if self.looker().is_none() {
            let message = "you are not signed in, or no longer".to_owned();
            return Err(Refused::new(StatusCode::UNAUTHORIZED, Code::FormStale, message));
        }
        let live = &self.gateway.dashboard.live;
        let place = Arc::clone(&live.0.places).try_acquire_owned().map_err(|_| {
            let message =
                format!("{PAGES_MAX} pages are told of what happens, which is as many as are at once");
            Refused::new(StatusCode::SERVICE_UNAVAILABLE, Code::GatewayBusy, message)
        })?;
        let run = self.asked("run").map(RunId::from);
        // Watched first: what happens before the look below is in one of both.
        let watched = live.watch(run.clone());
        let now = self.last_of(run).await?;
        let watcher =
            Watcher { watched, ended: live.0.ended.subscribe(), told: None, last: now, _place: place };
        let mut reply = Response::new(Answer::Notices(Notices(Some(watcher.next()))));
        *reply.headers_mut() = headers("text/event-stream; charset=utf-8");
        Ok(reply)
    }

    /// The last event of a run, or of all.
    async fn last_of(&self, run: Option<RunId>) -> Result<Position, Refused> {
        let journal = self.gateway.backstop.journal();
        let Some(run) = run else { return Ok(journal.end().await?) };
        let filter = RunFilter { id_prefix: Some(run.to_string()), limit: Some(1), ..RunFilter::default() };
        let listed = journal.list(filter).await?.into_iter().find(|listed| listed.summary.run == run);
        Ok(listed.map_or(0, |listed| listed.head.position))
    }
}

/// One page that is told.
struct Watcher {
    watched: watch::Receiver<Position>,
    ended: watch::Receiver<bool>,
    /// What it was told last; nothing before it is told where it stands.
    told: Option<Position>,
    /// The last event that is known.
    last: Position,
    _place: OwnedSemaphorePermit,
}

/// The next notice of a page, and whoever gives the one behind it. Nothing at the end.
type Next = BoxFuture<'static, Option<(Bytes, Watcher)>>;

impl Watcher {
    fn next(mut self) -> Next {
        Box::pin(async move {
            if self.told.is_none() {
                // A browser that comes again says what it was told last, and is told all the same where it stands.
                return Some((self.notice(&format!("retry: {RETRY_MS}\n")), self));
            }
            tokio::select! {
                () = sleep(PAUSE) => {}
                _ = self.ended.wait_for(|ended| *ended) => return None,
            }
            let is_new = tokio::select! {
                changed = self.watched.changed() => changed.ok().map(|()| true),
                _ = self.ended.wait_for(|ended| *ended) => None,
                () = sleep(BEAT) => Some(false),
            };
            if !is_new? {
                return Some((Bytes::from_static(b":\n\n"), self));
            }
            self.last = self.last.max(*self.watched.borrow_and_update());
            Some((self.notice(""), self))
        })
    }

    fn notice(&mut self, before: &str) -> Bytes {
        self.told = Some(self.last);
        Bytes::from(format!("{before}id: {0}\nevent: change\ndata: {0}\n\n", self.last))
    }
}

/// The notices to a page, one after the other.
pub(crate) struct Notices(Option<Next>);

impl Notices {
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(next) = &mut self.0 else { return Poll::Ready(None) };
        let next = std::task::ready!(next.as_mut().poll(cx));
        let (bytes, watcher) = next.unzip();
        self.0 = watcher.map(Watcher::next);
        Poll::Ready(bytes)
    }
}

/// Where a page is told of changes: of a run, or of anything.
pub(super) fn path(run: Option<&RunId>) -> String {
    run.map_or_else(|| "/events".to_owned(), |run| format!("/events?run={run}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watcher(live: &Live, run: Option<&str>) -> Watcher {
        Watcher {
            watched: live.watch(run.map(RunId::from)),
            ended: live.0.ended.subscribe(),
            told: None,
            last: 7,
            _place: Arc::clone(&live.0.places).try_acquire_owned().unwrap(),
        }
    }

    async fn told(watcher: Watcher) -> Option<(String, Watcher)> {
        let (bytes, watcher) = watcher.next().await?;
        Some((String::from_utf8(bytes.to_vec()).unwrap(), watcher))
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_is_told_where_it_stands_and_then_of_what_is_new_once() {
        let live = Live::default();
        assert!(!live.is_watched());
        let (first, watcher) = told(watcher(&live, Some("r"))).await.unwrap();
        assert_eq!(first, "retry: 2000\nid: 7\nevent: change\ndata: 7\n\n");
        let (ours, other) = (StreamId::Run("r".into()), StreamId::Run("s".into()));
        live.tell([(8, &ours), (9, &other), (10, &ours), (11, &StreamId::Ledger)].into_iter());
        live.tell([(9, &ours)].into_iter());
        let (second, watcher) = told(watcher).await.unwrap();
        assert_eq!(second, "id: 10\nevent: change\ndata: 10\n\n");
        live.tell([(12, &other)].into_iter());
        let (beat, watcher) = told(watcher).await.unwrap();
        assert_eq!(beat, ":\n\n", "another run is none of its business");
        live.end();
        assert!(told(watcher).await.is_none());
        assert!(!live.is_watched(), "its place is free again");
    }

    #[tokio::test(start_paused = true)]
    async fn runs_that_nobody_watches_any_more_are_forgotten() {
        let live = Live::default();
        for n in 0..1_000 {
            drop(watcher(&live, Some(&format!("r{n}"))));
        }
        assert_eq!(live.runs().len(), 1);
        let everything = watcher(&live, None);
        let (_, everything) = told(everything).await.unwrap();
        live.tell([(20, &StreamId::Keys)].into_iter());
        assert_eq!(told(everything).await.unwrap().0, "id: 20\nevent: change\ndata: 20\n\n");
    }
}
