//! What runs said is erased when it is old enough, over a journal in a file and a clock that tests set.

use crate::it::alerts::Hand;
use backstop::store::Observer;
use backstop::{Backstop, Erasing, Place, Settings, Task};
use backstop_call::{Clock, Code, RunId, TaskId, Timestamp};
use backstop_journal::event::{QueueTerms, RunCreated, RunFinished};
use backstop_journal::{Append, Durability, Event, EventBody, RunFilter, RunStatus, StreamId, Take};
use backstop_server::config::sections::Retention;
use backstop_server::config::{Config, Surroundings, load};
use backstop_server::retention::{Round, Sweep};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

const DAY: Duration = Duration::from_hours(24);
const SAID: &str = "tell nobody of the heron";

/// A config file that is this text.
struct Text(&'static str);

impl Surroundings for Text {
    fn var(&self, _: &str) -> Option<String> {
        None
    }

    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Ok(self.0.as_bytes().to_vec())
    }
}

fn config(text: &'static str) -> Config {
    load(Path::new("/c/backstop.toml"), None, &Text(text)).unwrap()
}

fn month() -> Retention {
    config("[retention]\nbodies = \"30d\"").retention
}

/// An installation whose runs are as old as its clock says.
struct Room {
    dir: TempDir,
    backstop: Backstop,
    clock: Arc<Hand>,
}

impl Room {
    async fn new() -> Self {
        Self::observed(Vec::new()).await
    }

    async fn observed(observers: Vec<Observer>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Place::File(dir.path().join("backstop.db"));
        let settings = Settings { store, observers, ..Settings::default() };
        let backstop = Backstop::open(settings).await.unwrap();
        let clock = Arc::new(Hand::at(backstop.clock().now()));
        Self { dir, backstop, clock }
    }

    fn sweep(&self, retention: Retention) -> Sweep {
        Sweep::new(self.backstop.clone(), self.clock.clone(), retention)
    }

    fn task(&self, id: &str) -> Task {
        let workspace = self.dir.path().to_owned();
        Task { id: TaskId::from(id), workspace, ..Task::new("m", SAID) }
    }

    /// A run that begins and goes on.
    async fn begun(&self) -> RunId {
        self.backstop.create(self.task("t")).await.unwrap()
    }

    /// A run that is over.
    async fn over(&self) -> RunId {
        let run = self.begun().await;
        self.backstop.cancel(&run, "it was about the heron").await.unwrap();
        run
    }

    async fn erased(&self) -> Vec<RunId> {
        let runs = self.backstop.journal().runs(RunFilter::default()).await.unwrap();
        runs.into_iter().filter(|run| run.erased.is_some()).map(|run| run.run).collect()
    }

    async fn words_on_it(&self, run: &RunId) -> Vec<(String, String)> {
        let events = self.backstop.journal().read(&StreamId::Run(run.clone()), 0).await.unwrap();
        let word = |event: Event| match event.body {
            EventBody::RunErased(erased) => Some((erased.by, erased.reason)),
            _ => None,
        };
        events.into_iter().filter_map(word).collect()
    }
}

fn runs(round: &Round) -> Vec<RunId> {
    round.erased.iter().map(|one| one.run.clone()).collect()
}

#[tokio::test]
async fn what_is_old_enough_goes_and_what_may_go_on_stays() {
    let room = Room::new().await;
    let (over, begun) = (room.over().await, room.begun().await);
    let sweep = room.sweep(month());
    // Its clock was read before they ended.
    room.clock.pass(DAY * 30);
    assert_eq!(sweep.round().await.unwrap(), Round::default(), "a moment too early");
    room.clock.pass(DAY);
    assert_eq!(room.sweep(Retention::default()).round().await.unwrap(), Round::default(), "kept for good");
    let round = sweep.round().await.unwrap();
    assert_eq!((runs(&round), round.more), (vec![over.clone()], false));
    // The instructions, the task, and why it ended.
    assert_eq!(round.erased[0].bodies, 3);
    assert_eq!(sweep.round().await.unwrap(), Round::default(), "once");
    assert_eq!(room.erased().await, std::slice::from_ref(&over));
    let word = ("retention".to_owned(), "older than 30d".to_owned());
    assert_eq!(room.words_on_it(&over).await, [word]);
    assert_eq!(room.words_on_it(&begun).await, []);
    for run in [&over, &begun] {
        room.backstop.journal().verify(&StreamId::Run(run.clone())).await.unwrap();
    }
    let refused = room.backstop.undo(&over, None).await.unwrap_err();
    assert_eq!(refused.code(), Code::RunErased);
}

#[tokio::test]
async fn two_that_look_at_once_do_no_harm() {
    let room = Room::new().await;
    let mut all = Vec::new();
    for _ in 0..8 {
        all.push(room.over().await);
    }
    room.clock.pass(DAY * 31);
    let (one, other) = (room.sweep(month()), room.sweep(month()));
    let (one, other) = tokio::join!(one.round(), other.round());
    let mut gone: Vec<_> = [runs(&one.unwrap()), runs(&other.unwrap())].concat();
    gone.sort();
    gone.dedup();
    all.sort();
    assert_eq!(gone, all);
    for run in &all {
        assert_eq!(room.words_on_it(run).await.len(), 1, "{run}");
    }
}

#[tokio::test]
async fn so_many_at_a_time_and_the_rest_soon() {
    let room = Room::new().await;
    for _ in 0..101 {
        room.over().await;
    }
    room.clock.pass(DAY * 31);
    let sweep = room.sweep(month());
    let first = sweep.round().await.unwrap();
    assert_eq!((first.erased.len(), first.more), (100, true));
    let second = sweep.round().await.unwrap();
    assert_eq!((second.erased.len(), second.more), (1, false));
}

#[tokio::test]
async fn a_task_that_is_tried_again_is_kept_until_it_was() {
    let room = Room::new().await;
    let now = room.backstop.clock().now();
    let terms = QueueTerms { tries: 2, backoff: Duration::from_mins(10), ..QueueTerms::once(now) };
    let first = room.backstop.submit(room.task("letter"), terms).await.unwrap().run;
    let code = Some(Code::ProviderFailed);
    let failed = RunFinished { status: RunStatus::Failed, result: None, code, message: "it is down".into() };
    let append = |event: RunFinished, at: Timestamp| Append {
        stream: StreamId::Run(first.clone()),
        epoch: None,
        events: vec![event.into()],
        at,
        durability: Durability::Synced,
    };
    room.backstop.journal().append(append(failed, now)).await.unwrap();
    room.clock.pass(DAY * 31);
    let sweep = room.sweep(month());
    assert_eq!(sweep.round().await.unwrap(), Round::default(), "its next try begins with what it was told");
    let take = Take { at: room.clock.now(), most: 1, ..Take::default() };
    let taken = room.backstop.queue().take(take).await.unwrap();
    assert_ne!(taken[0].run, first);
    assert_eq!(runs(&sweep.round().await.unwrap()), [first]);
}

#[tokio::test]
async fn the_first_of_those_that_go_together_is_named_and_the_last_to_go() {
    let room = Room::new().await;
    let top = room.over().await;
    let stream = StreamId::Run(top.clone());
    let events = room.backstop.journal().read(&stream, 0).await.unwrap();
    let created = events.into_iter().find_map(|event| match event.body {
        EventBody::RunCreated(created) => Some(created),
        _ => None,
    });
    let (part, below) = (RunId::from(format!("{top}-1")), RunId::from(format!("{top}-1-2")));
    let other = RunId::from(format!("{top}-3"));
    for (run, parent) in [(&part, Some(&top)), (&below, Some(&part)), (&other, None)] {
        let created = RunCreated { parent: parent.cloned(), ..created.clone().unwrap() };
        let message = "".into();
        let finished = RunFinished { status: RunStatus::Failed, result: None, code: None, message };
        let (events, at) = (vec![created.into(), finished.into()], room.clock.now());
        let stream = StreamId::Run(run.clone());
        let append = Append { stream, epoch: None, events, at, durability: Durability::Synced };
        room.backstop.journal().append(append).await.unwrap();
    }
    let refused = room.backstop.rehearse_erasing(&below).await.unwrap_err();
    assert_eq!(refused.to_string(), format!("run {below} goes with run {top}"));
    let erasing = Erasing { by: "ann", reason: "", at: room.clock.now(), age: Duration::ZERO };
    let erased = room.backstop.erase(&top, &erasing).await.unwrap();
    let gone: Vec<_> = erased.into_iter().map(|one| one.run).collect();
    assert_eq!(gone, [below, part, top], "a task that it submitted is a run of its own");
    assert!(!room.erased().await.contains(&other));
}

#[tokio::test]
async fn another_config_is_taken_at_once() {
    let (sender, mut heard) = mpsc::unbounded_channel();
    let observer: Observer = Arc::new(move |events: &Arc<[Event]>| {
        for event in events.iter() {
            if let EventBody::RunErased(_) = &event.body {
                drop(sender.send(event.stream.clone()));
            }
        }
    });
    let room = Room::observed(vec![observer]).await;
    let run = room.over().await;
    room.clock.pass(DAY * 31);
    let (configs, changed) = watch::channel(config(""));
    let trouble = |what: &str| panic!("{what}");
    let looking = tokio::spawn(room.sweep(Retention::default()).look_after(changed, trouble));
    configs.send_replace(config("[retention]\nbodies = \"30d\""));
    assert_eq!(heard.recv().await, Some(StreamId::Run(run)));
    looking.abort();
}
