//! What every queue does, in memory as in a file. A peer is the same store as another process has it.

use super::sample::{Helper, append, at, child, created, over, say, stream};
use backstop_call::{Code, Priority, RunId, Timestamp};
use backstop_journal::event::{
    ParkReason, QueueTerms, RunFinished, RunParked, RunQueued, RunStatus, ToolDecision, ToolResolved,
};
use backstop_journal::projections::queue::TaskState;
use backstop_journal::{
    Append, Backlog, EventBody, Journal, JournalError, Queue, Take, Taken, TaskFilter, TaskSummary,
};
use backstop_store::{MemoryStore, SqliteStore, StoreOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What a process holds.
#[derive(Clone)]
struct Seat {
    journal: Arc<dyn Journal>,
    queue: Arc<dyn Queue>,
}

struct World {
    seat: Seat,
    peer: Box<dyn Fn() -> Seat>,
    _dir: Option<tempfile::TempDir>,
}

fn memory() -> World {
    let seat = |store: MemoryStore| Seat { journal: Arc::new(store.clone()), queue: Arc::new(store) };
    let store = MemoryStore::new();
    let other = store.clone();
    World { seat: seat(store), peer: Box::new(move || seat(other.peer())), _dir: None }
}

fn sqlite() -> World {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("j.db");
    let open = move || {
        let store = SqliteStore::open(&path, StoreOptions::default()).unwrap();
        Seat { journal: Arc::new(store.clone()), queue: Arc::new(store) }
    };
    World { seat: open(), peer: Box::new(open), _dir: Some(dir) }
}

macro_rules! over_every_queue {
    ($($name:ident)*) => {
        mod in_memory { $(#[tokio::test] async fn $name() { super::$name(super::memory()).await } )* }
        mod in_sqlite { $(#[tokio::test] async fn $name() { super::$name(super::sqlite()).await } )* }
    };
}

over_every_queue! {
    the_urgent_goes_first_and_what_is_not_due_stays
    a_task_is_put_in_once
    roles_and_keys_have_their_limits_over_all_processes
    what_a_dead_process_worked_on_is_due_at_once
    a_failed_run_is_followed_by_another_of_its_task
    a_stopped_run_goes_on_later
    what_a_person_answered_is_due
    a_run_is_handed_over
    a_claim_by_hand_keeps_workers_away
    it_tells_how_much_there_is
    tasks_are_found_by_who_has_them_and_by_words
    whoever_waits_hears_of_it
    no_run_is_taken_twice
}

fn terms() -> QueueTerms {
    QueueTerms { tries: 3, backoff: Duration::from_secs(10), ..QueueTerms::once(at(100)) }
}

fn task(id: &str, terms: QueueTerms) -> EventBody {
    let EventBody::RunCreated(created) = created("a") else { unreachable!() };
    backstop_journal::event::RunCreated { task: id.into(), queue: Some(terms), ..created }.into()
}

fn task_of(id: &str, change: impl FnOnce(&mut backstop_journal::event::RunCreated)) -> EventBody {
    let EventBody::RunCreated(mut created) = task(id, terms()) else { unreachable!() };
    change(&mut created);
    EventBody::RunCreated(created)
}

impl Seat {
    async fn put(&self, run: &str, created: EventBody) {
        self.journal.append(append(run, None, vec![created])).await.unwrap();
    }

    async fn take(&self, most: usize, now: Timestamp) -> Vec<Taken> {
        self.queue.take(Take { at: now, most, ..Take::default() }).await.unwrap()
    }

    async fn names(&self, most: usize, now: Timestamp) -> Vec<String> {
        self.take(most, now).await.iter().map(|taken| taken.run.to_string()).collect()
    }

    async fn end(&self, taken: &Taken, now: Timestamp, event: EventBody) {
        let append = append(taken.run.as_str(), Some(taken.epoch), vec![event]);
        self.journal.append(Append { at: now, ..append }).await.unwrap();
        self.journal.release(&taken.run, taken.epoch).await.unwrap();
    }

    async fn only(&self) -> TaskSummary {
        let mut tasks = self.queue.tasks(TaskFilter::default()).await.unwrap();
        assert_eq!(tasks.len(), 1, "{tasks:?}");
        tasks.remove(0)
    }
}

async fn the_urgent_goes_first_and_what_is_not_due_stays(world: World) {
    let seat = &world.seat;
    let later = QueueTerms { due: at(500), ..terms() };
    seat.put("r1", task("t1", later)).await;
    seat.put("r2", task_of("t2", |created| created.priority = Priority::Batch)).await;
    seat.put("r3", task_of("t3", |created| created.priority = Priority::Interactive)).await;
    seat.put("r4", task("t4", terms())).await;
    assert_eq!(seat.names(1, at(99)).await, [""; 0]);
    assert_eq!(seat.queue.next_due(at(99)).await.unwrap(), Some(at(100)));
    assert_eq!(seat.names(2, at(100)).await, ["r3", "r4"]);
    assert_eq!(seat.names(9, at(100)).await, ["r2"]);
    assert_eq!(seat.queue.next_due(at(100)).await.unwrap(), Some(at(500)));
    assert_eq!(seat.names(9, at(500)).await, ["r1"]);
    assert_eq!(seat.queue.next_due(at(500)).await.unwrap(), None);
    let claimed = seat.journal.read(&stream("r1"), 0).await.unwrap();
    assert_eq!(
        claimed.iter().map(|event| event.body.kind()).collect::<Vec<_>>(),
        ["run.created", "run.claimed"]
    );
}

async fn a_task_is_put_in_once(world: World) {
    let seat = &world.seat;
    seat.put("r1", task("t1", terms())).await;
    let again = seat.journal.append(append("r2", None, vec![task("t1", terms())])).await;
    assert_eq!(again, Err(JournalError::TaskExists { task: "t1".into(), run: "r1".into() }));
    let (peer, id) = ((world.peer)(), "t1".into());
    let again = peer.journal.append(append("r2", None, vec![task("t1", terms())])).await;
    assert_eq!(again, Err(JournalError::TaskExists { task: id, run: "r1".into() }));
    assert!(seat.journal.read(&stream("r2"), 0).await.unwrap().is_empty());
    // What a request makes has the same run each time, whatever task it names then.
    let again = peer.journal.append(append("r1", None, vec![task("t2", terms())])).await;
    assert_eq!(again, Err(JournalError::TaskExists { task: "t1".into(), run: "r1".into() }));
    assert_eq!(seat.journal.read(&stream("r1"), 0).await.unwrap().len(), 1);
    // A run that is not queued may share its task's name with others.
    seat.put("r3", created("a")).await;
    seat.put("r4", created("a")).await;
    assert_eq!(seat.only().await.run.run.as_str(), "r1");
}

async fn roles_and_keys_have_their_limits_over_all_processes(world: World) {
    let (seat, peer) = (&world.seat, (world.peer)());
    for n in 0..4 {
        seat.put(&format!("r{n}"), task_of(&format!("r{n}"), |created| created.role = "lead".into())).await;
        let keyed = QueueTerms { key: Some("shop".to_owned()), ..terms() };
        seat.put(&format!("k{n}"), task(&format!("k{n}"), keyed)).await;
    }
    seat.put("x", task_of("x", |created| created.model = "stranger".into())).await;
    let wanted = Take {
        at: at(100),
        most: 9,
        models: Some(BTreeSet::from(["m".into()])),
        roles: BTreeMap::from([("lead".into(), 2)]),
    };
    let first = seat.queue.take(wanted.clone()).await.unwrap();
    let names = |taken: &[Taken]| taken.iter().map(|taken| taken.run.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&first), ["r0", "k0", "r1"]);
    assert_eq!(peer.queue.take(wanted.clone()).await.unwrap(), []);
    seat.end(&first[1], at(101), over(RunStatus::Done)).await;
    assert_eq!(names(&peer.queue.take(wanted.clone()).await.unwrap()), ["k1"]);
    seat.end(&first[0], at(101), over(RunStatus::Done)).await;
    assert_eq!(names(&peer.queue.take(wanted).await.unwrap()), ["r2"]);
}

async fn what_a_dead_process_worked_on_is_due_at_once(world: World) {
    let (seat, peer) = (&world.seat, (world.peer)());
    seat.put("r1", task("t1", terms())).await;
    let taken = peer.take(1, at(100)).await;
    assert_eq!((taken.len(), seat.names(1, at(100)).await.len()), (1, 0));
    assert!(seat.only().await.worked_on);
    drop(peer);
    assert!(!seat.only().await.worked_on);
    let again = seat.take(1, at(100)).await;
    assert_eq!(again[0].run, taken[0].run);
    assert!(again[0].epoch > taken[0].epoch);
}

async fn a_failed_run_is_followed_by_another_of_its_task(world: World) {
    let seat = &world.seat;
    seat.put("r1", task("t1", terms())).await;
    let mut now = at(100);
    let mut runs = Vec::new();
    for tried in 1..=3 {
        let taken = seat.take(1, now).await;
        assert_eq!(taken.len(), 1, "try {tried} at {now}");
        runs.push(taken[0].run.clone());
        seat.end(&taken[0], now, over(RunStatus::Failed)).await;
        assert_eq!(seat.only().await.queued().unwrap().tried, tried);
        assert_eq!(seat.names(1, now).await, [""; 0], "it waits first");
        now = now + Duration::from_secs(10 << (tried - 1));
    }
    assert_eq!(runs.iter().collect::<BTreeSet<_>>().len(), 3, "each try is a run: {runs:?}");
    let task = seat.only().await;
    assert_eq!((task.task.as_str(), task.queued().unwrap().state), ("t1", TaskState::Dead));
    assert_eq!(task.run.run, runs[2]);
    assert_eq!(seat.names(1, at(9_999)).await, [""; 0]);
    // What defines the run is what defined the first one; a late word of an earlier one changes nothing.
    let firsts = [&runs[0], &runs[2]].map(|run| stream(run.as_str()));
    let mut created = Vec::new();
    for first in &firsts {
        let EventBody::RunCreated(it) = seat.journal.read(first, 0).await.unwrap().remove(0).body else {
            panic!()
        };
        created.push(backstop_journal::event::RunCreated { queue: None, ..it });
    }
    assert_eq!(created[0], created[1]);
    seat.journal.append(append("r1", None, vec![over(RunStatus::Cancelled)])).await.unwrap();
    assert_eq!(seat.only().await.queued().unwrap().state, TaskState::Dead);
    // A person wants it tried again.
    let queued = RunQueued { terms: QueueTerms { due: at(500), tries: 1, ..terms() } };
    seat.journal.append(append(runs[2].as_str(), None, vec![queued.into()])).await.unwrap();
    let taken = seat.take(1, at(500)).await;
    assert!(!runs.contains(&taken[0].run));
    seat.end(&taken[0], at(501), over(RunStatus::Done)).await;
    assert_eq!(seat.only().await.queued().unwrap().state, TaskState::Done);
}

async fn a_stopped_run_goes_on_later(world: World) {
    let seat = &world.seat;
    seat.put("r1", task("t1", terms())).await;
    let taken = seat.take(1, at(100)).await;
    let outage = RunFinished {
        status: RunStatus::Stopped,
        result: None,
        code: Some(Code::NoTarget),
        message: "".into(),
    };
    seat.end(&taken[0], at(100), outage.into()).await;
    assert_eq!(seat.names(1, at(109)).await, [""; 0]);
    assert_eq!(seat.names(1, at(110)).await, ["r1"]);
}

async fn what_a_person_answered_is_due(world: World) {
    let seat = &world.seat;
    seat.put("r1", task("t1", terms())).await;
    let taken = seat.take(1, at(100)).await;
    let parked = RunParked { reason: ParkReason::InDoubt, until: None };
    seat.end(&taken[0], at(100), parked.into()).await;
    assert_eq!(seat.names(1, at(9_999)).await, [""; 0]);
    assert_eq!(seat.only().await.queued().unwrap().state, TaskState::Parked);
    let decision = ToolDecision::Unknown;
    let resolved = ToolResolved { id: "t".into(), decision, by: "p".into(), result: None };
    let said = Append { at: at(200), ..append("r1", None, vec![resolved.into()]) };
    seat.journal.append(said).await.unwrap();
    assert_eq!(seat.names(1, at(200)).await, ["r1"]);
}

async fn a_run_is_handed_over(world: World) {
    let seat = &world.seat;
    seat.put("r1", created("a")).await;
    seat.put("r2", created("a")).await;
    assert_eq!(seat.names(9, at(100)).await, [""; 0]);
    let queued = RunQueued { terms: terms() };
    seat.journal.append(append("r2", None, vec![queued.into()])).await.unwrap();
    assert_eq!(seat.names(9, at(100)).await, ["r2"]);
    assert_eq!(seat.only().await.task.as_str(), "r2");
}

async fn a_claim_by_hand_keeps_workers_away(world: World) {
    let (seat, peer) = (&world.seat, (world.peer)());
    // One that is handed over while somebody has it, who is in nobody's way.
    seat.put("r0", created("a")).await;
    let epoch = peer.journal.claim(&RunId::from("r0"), at(90)).await.unwrap();
    seat.journal.append(append("r0", None, vec![RunQueued { terms: terms() }.into()])).await.unwrap();
    assert_eq!(seat.names(1, at(100)).await, [""; 0]);
    peer.journal.release(&RunId::from("r0"), epoch).await.unwrap();
    assert_eq!(seat.names(1, at(100)).await, ["r0"]);
    seat.put("r1", task("t1", terms())).await;
    let epoch = peer.journal.claim(&RunId::from("r1"), at(100)).await.unwrap();
    assert_eq!(seat.names(1, at(100)).await, [""; 0]);
    peer.journal.release(&RunId::from("r1"), epoch).await.unwrap();
    assert_eq!(seat.names(1, at(100)).await, ["r1"]);
}

async fn it_tells_how_much_there_is(world: World) {
    let seat = &world.seat;
    let ends = [RunStatus::Done, RunStatus::Cancelled];
    for n in 0..6 {
        seat.put(&format!("r{n}"), task(&format!("t{n}"), QueueTerms { tries: 1, ..terms() })).await;
    }
    seat.put("r6", task("t6", QueueTerms { due: at(500), ..terms() })).await;
    let taken = seat.take(5, at(100)).await;
    for (taken, status) in taken.iter().zip(ends) {
        seat.end(taken, at(101), over(status)).await;
    }
    seat.end(&taken[2], at(101), over(RunStatus::Failed)).await;
    seat.end(&taken[3], at(101), RunParked { reason: ParkReason::Approval, until: None }.into()).await;
    let backlog = Backlog {
        due: 1,
        later: 1,
        working: 1,
        parked: 1,
        done: 1,
        dead: 1,
        cancelled: 1,
        oldest: Duration::from_mins(1),
    };
    assert_eq!(seat.queue.backlog(at(160)).await.unwrap(), backlog);
    let listed = |filter| async move {
        let tasks = seat.queue.tasks(filter).await.unwrap();
        tasks.iter().map(|task| task.task.to_string()).collect::<Vec<_>>()
    };
    let states = vec![TaskState::Dead, TaskState::Cancelled];
    assert_eq!(listed(TaskFilter { states, ..TaskFilter::default() }).await, ["t2", "t1"]);
    assert_eq!(listed(TaskFilter { limit: Some(2), ..TaskFilter::default() }).await, ["t6", "t5"]);
    let last =
        seat.queue.tasks(TaskFilter { limit: Some(2), ..TaskFilter::default() }).await.unwrap().remove(1);
    let next = TaskFilter { before: Some(last.place), limit: Some(2), ..TaskFilter::default() };
    assert_eq!(listed(next).await, ["t4", "t3"]);
    let named = |names: &[&str]| TaskFilter {
        tasks: names.iter().map(|name| (*name).into()).collect(),
        ..TaskFilter::default()
    };
    assert_eq!(listed(named(&["t0"])).await, ["t0"]);
    assert_eq!(listed(named(&["t1", "t0", "nobody", "t5"])).await, ["t5", "t1", "t0"]);
    assert_eq!(listed(named(&["nobody"])).await, [""; 0]);
    let begins = |prefix: &str| TaskFilter { prefix: Some(prefix.to_owned()), ..TaskFilter::default() };
    assert_eq!((listed(begins("t1")).await, listed(begins("x")).await), (vec!["t1".to_owned()], Vec::new()));
}

async fn tasks_are_found_by_who_has_them_and_by_words(world: World) {
    let seat = &world.seat;
    seat.put("r100", task_of("intro", |created| created.agent = "writer".into())).await;
    let by_key = |created: &mut backstop_journal::event::RunCreated| {
        created.message = backstop_journal::Body::from("Shorten the introduction.");
        created.origin.key = Some("shop".into());
    };
    seat.put("r200", task_of("t2", by_key)).await;
    seat.put("r300", task_of("t3", |created| created.origin.key = Some("other".into()))).await;
    // A run that no worker has to do with is no task, whatever it says.
    seat.put("r400", created("writer")).await;
    let all = || TaskFilter::default();
    let rows = [
        (TaskFilter { agent: Some("writer".into()), ..all() }, vec!["intro"]),
        (TaskFilter { asked_by: Some("shop".into()), ..all() }, vec!["t2"]),
        (TaskFilter { asked_by: Some("nobody".into()), ..all() }, vec![]),
        (TaskFilter { search: Some("intro".to_owned()), ..all() }, vec!["t2", "intro"]),
        (TaskFilter { search: Some("shorten introd".to_owned()), ..all() }, vec!["t2"]),
        (TaskFilter { search: Some("r300".to_owned()), ..all() }, vec!["t3"]),
        (TaskFilter { search: Some("\" OR 1 --".to_owned()), ..all() }, vec![]),
        (TaskFilter { search: Some(" ".to_owned()), ..all() }, vec![]),
        (TaskFilter { search: Some("intro".to_owned()), agent: Some("a".into()), ..all() }, vec!["t2"]),
    ];
    for (filter, want) in rows {
        let found = seat.queue.tasks(filter.clone()).await.unwrap();
        let found: Vec<_> = found.iter().map(|task| task.task.as_str()).collect();
        assert_eq!(found, want, "{filter:?}");
    }
}

async fn whoever_waits_hears_of_it(world: World) {
    let (seat, peer) = (&world.seat, (world.peer)());
    let seen = seat.queue.version();
    let (changed, ()) = tokio::join!(seat.queue.changed(seen), peer.put("r1", task("t1", terms())));
    assert_ne!(changed, seen);
    // Again and again.
    for n in 3..6 {
        let (name, seen) = (format!("r{n}"), seat.queue.version());
        let put = peer.put(&name, task(&name, terms()));
        let (changed, ()) = tokio::join!(seat.queue.changed(seen), put);
        assert_ne!(changed, seen);
    }
    // By its own process, too.
    let seen = seat.queue.version();
    let (changed, ()) = tokio::join!(seat.queue.changed(seen), seat.put("r2", task("t2", terms())));
    assert_ne!(changed, seen);
    // And of one that goes, and leaves what it worked on.
    let taken = peer.take(1, at(100)).await;
    let seen = seat.queue.version();
    let (changed, ()) = tokio::join!(seat.queue.changed(seen), async { drop(peer) });
    assert_ne!(changed, seen);
    let mut now = seat.queue.version();
    loop {
        let again = seat.names(2, at(100)).await;
        if again.contains(&taken[0].run.to_string()) {
            break;
        }
        now = seat.queue.changed(now).await;
    }
}

async fn no_run_is_taken_twice(world: World) {
    const RUNS: usize = 60;
    for n in 0..RUNS {
        world.seat.put(&format!("r{n}"), task(&format!("t{n}"), terms())).await;
    }
    let mut workers = tokio::task::JoinSet::new();
    let seats: Vec<_> = std::iter::once(world.seat.clone()).chain((0..3).map(|_| (world.peer)())).collect();
    for seat in seats {
        workers.spawn(async move {
            let mut mine = Vec::new();
            loop {
                let taken = seat.take(3, at(100)).await;
                if taken.is_empty() {
                    return mine;
                }
                for taken in taken {
                    seat.end(&taken, at(101), over(RunStatus::Done)).await;
                    mine.push(taken.run);
                }
            }
        });
    }
    let all: Vec<_> = workers.join_all().await.into_iter().flatten().collect();
    assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (RUNS, RUNS));
}

/// A child that takes everything and waits to be killed.
#[tokio::test]
async fn child_that_takes() {
    let Some((db, _)) = child() else { return };
    let store = SqliteStore::open(db, StoreOptions::default()).unwrap();
    let taken = store.take(Take { at: at(100), most: 9, ..Take::default() }).await.unwrap();
    say(&format!("took {}", taken.len()));
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn the_death_of_another_process_is_heard() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("j.db");
    let store = SqliteStore::open(&db, StoreOptions::default()).unwrap();
    store.append(append("r1", None, vec![task("t1", terms())])).await.unwrap();
    let mut other = Helper::start("it::queue::child_that_takes", &db, "");
    assert_eq!(other.hear().as_deref(), Some("took 1"));
    let mut seen = store.version();
    let take = || store.take(Take { at: at(100), most: 1, ..Take::default() });
    assert_eq!(take().await.unwrap(), []);
    other.kill();
    loop {
        if let [taken] = &take().await.unwrap()[..] {
            assert_eq!(taken.run.as_str(), "r1");
            break;
        }
        seen = store.changed(seen).await;
    }
}
