//! Reservations that stand in no event when their process dies: each is found again, in whatever moment it was killed.

use super::ledger::{open, tables_are_the_fold};
use super::sample::{Helper, append, at, child, nanos, reserve, say, started, total};
use super::spree::ends;
use backstop_allowance::{Account, Ledger, LedgerError, Reserve, Resolution, Scope};
use backstop_call::{Money, ReservationId, Seed};
use backstop_journal::event::MoneyReserved;
use backstop_journal::{Append, Durability, EventBody, Journal, StreamId};
use backstop_store::{LedgerMode, Recovered, SqliteLedger, SqliteStore};
use rustix::process::{Signal, getpid, kill_process};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const LIMIT: i64 = 1_000_000_000;

/// What a child has really sent and been billed for: one line per fact, written whole before the next step.
#[derive(Clone)]
struct Bill(Arc<File>);

impl Bill {
    fn of(db: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(db.with_extension("bill")).unwrap();
        Self(Arc::new(file))
    }

    fn note(&self, fact: &str, id: &ReservationId, amount: i64) {
        (&*self.0).write_all(format!("{fact} {id} {amount}\n").as_bytes()).unwrap();
    }

    /// What was sent, with what it was billed at: the worst case where nobody says.
    fn read(db: &Path) -> BTreeMap<ReservationId, (i64, Option<i64>)> {
        let text = fs::read_to_string(db.with_extension("bill")).unwrap();
        let mut sent = BTreeMap::new();
        for line in text.lines() {
            let words: Vec<_> = line.split(' ').collect();
            let amount: i64 = words[2].parse().unwrap();
            match words[0] {
                "sent" => drop(sent.insert(ReservationId::from(words[1]), (amount, None))),
                _ => sent.get_mut(&words[1].into()).unwrap().1 = Some(amount),
            }
        }
        sent
    }
}

/// A step of a call at which the process may be killed.
#[derive(Clone)]
struct Fate {
    steps: Arc<AtomicU64>,
    last: u64,
}

impl Fate {
    fn step(&self) {
        if self.steps.fetch_add(1, Ordering::Relaxed) == self.last {
            kill_process(getpid(), Signal::KILL).unwrap();
        }
    }
}

async fn one_call(
    store: &SqliteStore,
    ledger: &SqliteLedger,
    (bill, fate): (&Bill, &Fate),
    n: (&Seed, &str),
) {
    let (seed, name) = n;
    let id = ReservationId::from(format!("{name}.1"));
    let amount = i64::try_from(seed.below(90)).unwrap() + 10;
    let role = Account::whole(Scope::Role(format!("role{}", seed.below(3)).as_str().into()));
    fate.step();
    ledger.reserve(reserve(id.as_str(), amount, &[(total(), LIMIT), (role, LIMIT)])).await.unwrap();
    fate.step();
    bill.note("sent", &id, amount);
    fate.step();
    for _ in 0..seed.below(4) {
        tokio::task::yield_now().await;
    }
    let cost = i64::try_from(seed.below(u64::try_from(amount).unwrap())).unwrap() + 1;
    let resolution = match seed.below(12) {
        0 => Resolution::Void,
        1 => Resolution::Suspend(nanos(cost)),
        2 => Resolution::Settle(nanos(amount + 5)),
        _ => Resolution::Settle(nanos(cost)),
    };
    match resolution {
        Resolution::Settle(cost) => bill.note("billed", &id, cost.nanos()),
        Resolution::Void => bill.note("billed", &id, 0),
        Resolution::Suspend(most) => bill.note("billed", &id, most.nanos()),
    }
    fate.step();
    ledger.resolve(&id, resolution, at(11)).unwrap();
    fate.step();
    let queued =
        Append { stream: StreamId::Calls, durability: Durability::Queued, ..append("", None, vec![]) };
    drop(store.append(Append { events: vec![started(name)], ..queued }));
    fate.step();
}

/// Makes calls side by side until it kills itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateway_child() {
    let Some((db, word)) = child() else { return };
    let (name, last) = word.split_once(' ').unwrap();
    let store = open(&db);
    let (ledger, _) = store.ledger(LedgerMode::Written, at(1)).await.unwrap();
    say("begun");
    let fate = Fate { steps: Arc::default(), last: last.parse().unwrap() };
    let bill = Bill::of(&db);
    let tasks = (0..32).map(|task| {
        let (store, ledger, bill, fate) = (store.clone(), ledger.clone(), bill.clone(), fate.clone());
        let name = name.to_owned();
        tokio::spawn(async move {
            let seed = Seed::new(task);
            for n in 0_u64.. {
                one_call(&store, &ledger, (&bill, &fate), (&seed, &format!("{name}-{task}-{n}"))).await;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// Holds the ledger against the bill, call by call. What it holds apart from `ours` was sent, or was about to be.
async fn explains_every_call(store: &SqliteStore, db: &Path, ours: Money) -> usize {
    let spend = tables_are_the_fold(store).await;
    let mut ended = BTreeMap::new();
    for event in store.read(&StreamId::Ledger, 0).await.unwrap() {
        for (id, cost) in ends(event.body) {
            assert_eq!(ended.insert(id.clone(), cost.nanos()), None, "{id} ended twice");
        }
    }
    let sent = Bill::read(db);
    let mut billed = 0;
    for (id, (worst, cost)) in &sent {
        billed += cost.unwrap_or(*worst);
        match (spend.holds.get(id), ended.get(id)) {
            (Some(held), None) => {
                assert!(held.suspended.is_some(), "{id} is still under way");
                let least = cost.map_or(*worst, |cost| cost.min(*worst));
                assert!(held.amount.nanos() >= least, "{id}: {held:?} for {cost:?}");
            }
            (None, Some(settled)) => assert_eq!(Some(*settled), *cost, "{id}"),
            found => panic!("{id} is explained by {found:?}"),
        }
    }
    for (id, held) in &spend.holds {
        assert!(held.suspended.is_some() && !id.as_str().starts_with("lease."), "{id}: {held:?}");
    }
    // Of each process that was killed at most the calls that were between their reservation and their sending.
    let unsent = spend.holds.keys().filter(|id| !sent.contains_key(*id)).count();
    let total = spend.accounts["total"];
    // A settlement above its worst case that was not written any more is suspended at the worst case.
    let lost: i64 = sent
        .iter()
        .filter(|(id, _)| spend.holds.contains_key(*id))
        .map(|(_, (worst, cost))| (cost.unwrap_or(0) - worst).max(0))
        .sum();
    assert!(billed <= (total.settled + total.suspense).nanos() + lost, "{billed}: {total:?}");
    assert_eq!((total.reserved, total.leased), (Money::ZERO, ours), "nothing is held that nobody holds");
    unsent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_step_the_ledger_explains_every_call() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("j.db");
    let store = open(&db);
    let (ledger, _) = store.ledger(LedgerMode::Written, at(1)).await.unwrap();
    let seed = Seed::new(20_261_127);
    let mut suspended = 0;
    for kill in 0..12 {
        let last = seed.below(5_000);
        let name = format!("p{kill}");
        let mut helper = Helper::start("it::intents::gateway_child", &db, &format!("{name} {last}"));
        assert_eq!(helper.hear().as_deref(), Some("begun"));
        while helper.hear().is_some() {}
        helper.kill();
        let recovered = ledger.recover(at(20)).await.unwrap();
        assert_eq!(recovered.owners.len(), 1, "kill {kill} at step {last}");
        suspended += recovered.suspended.len();
        let unsent = explains_every_call(&store, &db, Money::ZERO).await;
        assert!(unsent <= 32 * (kill + 1), "kill {kill} at step {last}: {unsent} of them");
    }
    assert!(suspended > 12, "the children were killed with nothing under way: {suspended}");
    assert_eq!(files(&db).len(), 1, "the intents of the dead are gone, ours are not");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_the_one_that_lives_keeps_what_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("j.db");
    let store = open(&db);
    let (ledger, _) = store.ledger(LedgerMode::Written, at(1)).await.unwrap();
    let from = [(total(), LIMIT)];
    let seed = Seed::new(7);
    for round in 0..5 {
        let ids: Vec<_> = (0..20).map(|n| format!("ours-{round}-{n}.1")).collect();
        let last = seed.below(4_000);
        let word = format!("theirs{round} {last}");
        let mut helper = Helper::start("it::intents::gateway_child", &db, &word);
        assert_eq!(helper.hear().as_deref(), Some("begun"));
        for (n, id) in ids.iter().enumerate() {
            ledger.reserve(reserve(id, 100, &from)).await.unwrap();
            if n % 2 == 0 {
                ledger.resolve(&id.as_str().into(), Resolution::Settle(nanos(30)), at(12)).unwrap();
            }
        }
        while helper.hear().is_some() {}
        helper.kill();
        let recovered = ledger.recover(at(20)).await.unwrap();
        assert!(recovered.suspended.iter().all(|(id, _)| id.as_str().starts_with("theirs")), "{recovered:?}");
        let (_, spent) = ledger.spent(&total()).await.unwrap();
        assert_eq!(spent.reserved, nanos(1_000), "ten of ours are under way, none of theirs");
        for id in ids.iter().skip(1).step_by(2) {
            let settled = ledger.resolve(&id.as_str().into(), Resolution::Settle(nanos(40)), at(21));
            assert_eq!(settled.map(|settled| settled.spent), Some(nanos(40)), "{id}");
        }
        ledger.give_back(&total()).await.unwrap();
        explains_every_call(&store, &db, Money::ZERO).await;
    }
    let ours: i64 = 5 * (10 * 30 + 10 * 40);
    let mut settled = 0;
    for event in store.read(&StreamId::Ledger, 0).await.unwrap() {
        let mine = ends(event.body).into_iter().filter(|(id, _)| id.as_str().starts_with("ours"));
        settled += mine.map(|(_, cost)| cost.nanos()).sum::<i64>();
    }
    assert_eq!(settled, ours);
}

/// The files of intents beside a database.
fn files(db: &Path) -> Vec<PathBuf> {
    let mut dir = db.as_os_str().to_owned();
    dir.push(".intents");
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Holds two calls, settles one when it is told to, and waits to be killed.
#[tokio::test]
async fn settling_child() {
    let Some((db, _)) = child() else { return };
    let store = open(&db);
    let (ledger, _) = store.ledger(LedgerMode::Written, at(1)).await.unwrap();
    for id in ["a.1", "b.1"] {
        ledger.reserve(reserve(id, 20, &[(total(), 1_000)])).await.unwrap();
    }
    say("held");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    ledger.resolve(&"a.1".into(), Resolution::Settle(nanos(7)), at(2)).unwrap();
    store.flush().await.unwrap();
    say("settled");
    std::io::stdin().read_line(&mut line).unwrap();
}

/// Kills a process that settled one call of two, with its file as `change` makes it of the file before and after.
async fn killed_with(change: impl Fn(&[u8], &[u8]) -> Vec<u8>) -> (SqliteStore, SqliteLedger, Recovered) {
    let dir = tempfile::tempdir().unwrap().keep();
    let db = dir.join("j.db");
    let mut helper = Helper::start("it::intents::settling_child", &db, "");
    assert_eq!(helper.hear().as_deref(), Some("held"));
    let file = files(&db).remove(0);
    let before = fs::read(&file).unwrap();
    helper.tell("settle");
    assert_eq!(helper.hear().as_deref(), Some("settled"));
    helper.kill();
    fs::write(&file, change(&before, &fs::read(&file).unwrap())).unwrap();
    let store = open(&db);
    let (ledger, recovered) = store.ledger(LedgerMode::Written, at(3)).await.unwrap();
    tables_are_the_fold(&store).await;
    fs::remove_dir_all(dir).unwrap();
    (store, ledger, recovered)
}

async fn balance(ledger: &SqliteLedger) -> [i64; 4] {
    let (_, spent) = ledger.spent(&total()).await.unwrap();
    [spent.settled, spent.suspense, spent.reserved, spent.leased].map(Money::nanos)
}

#[tokio::test]
async fn killed_between_the_commit_and_the_mark_a_settled_call_is_not_suspended_too() {
    // The announcement stands behind the first eight bytes; the marks are as they were before.
    let unmarked = |before: &[u8], after: &[u8]| [&after[..32], &before[32..]].concat();
    let (_store, ledger, recovered) = killed_with(unmarked).await;
    assert_eq!(recovered.suspended, [("b.1".into(), nanos(20))]);
    assert_eq!(balance(&ledger).await, [7, 20, 0, 0]);
}

#[tokio::test]
async fn marked_or_not_the_end_is_the_same() {
    let (_store, ledger, recovered) = killed_with(|_, after| after.to_vec()).await;
    assert_eq!(recovered.suspended, [("b.1".into(), nanos(20))]);
    assert_eq!(balance(&ledger).await, [7, 20, 0, 0]);
}

#[tokio::test]
async fn what_was_announced_and_never_committed_is_suspended() {
    // As if the commit had never been: nothing in the ledger tells of the call, whatever was announced.
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("j.db");
    let mut helper = Helper::start("it::intents::settling_child", &db, "");
    assert_eq!(helper.hear().as_deref(), Some("held"));
    helper.kill();
    let file = files(&db).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    let seqs = [2_u64.to_le_bytes(), 9_u64.to_le_bytes()].concat();
    bytes[8..24].copy_from_slice(&seqs);
    bytes[24..32].copy_from_slice(&blake3::hash(&seqs).as_bytes()[..8]);
    fs::write(&file, bytes).unwrap();
    let store = open(&db);
    let (ledger, recovered) = store.ledger(LedgerMode::Written, at(3)).await.unwrap();
    assert_eq!(recovered.suspended, [("a.1".into(), nanos(20)), ("b.1".into(), nanos(20))]);
    assert_eq!(balance(&ledger).await, [0, 40, 0, 0]);
}

#[tokio::test]
async fn without_its_intents_all_that_a_dead_process_leased_counts_as_spent() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("j.db");
    let mut helper = Helper::start("it::intents::settling_child", &db, "");
    assert_eq!(helper.hear().as_deref(), Some("held"));
    helper.kill();
    fs::remove_file(files(&db).remove(0)).unwrap();
    let store = open(&db);
    let (ledger, recovered) = store.ledger(LedgerMode::Written, at(3)).await.unwrap();
    let rest = ReservationId::from(format!("lease.{}.total", recovered.owners[0]));
    assert_eq!(recovered.suspended, [(rest, nanos(50))]);
    assert_eq!(balance(&ledger).await, [0, 50, 0, 0]);
}

#[tokio::test]
async fn intents_that_were_told_and_not_removed_are_swept_and_not_told_again() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("j.db");
    let mut helper = Helper::start("it::intents::settling_child", &db, "");
    assert_eq!(helper.hear().as_deref(), Some("held"));
    helper.kill();
    let file = files(&db).remove(0);
    let bytes = fs::read(&file).unwrap();
    let store = open(&db);
    let (ledger, recovered) = store.ledger(LedgerMode::Written, at(3)).await.unwrap();
    assert_eq!(recovered.suspended.len(), 2);
    // Whoever recovered it was killed before it could remove them.
    fs::write(&file, bytes).unwrap();
    assert_eq!(ledger.recover(at(4)).await.unwrap(), Recovered::default());
    assert!(!file.exists());
    assert_eq!(balance(&ledger).await, [0, 40, 0, 0]);
}

#[tokio::test]
async fn a_reservation_with_names_too_long_for_a_slot_is_an_event() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("j.db"));
    let (ledger, _) = store.ledger(LedgerMode::Written, at(1)).await.unwrap();
    let role = Account::whole(Scope::Role("r".repeat(600).as_str().into()));
    let long = [(total(), nanos(1_000)), (role.clone(), nanos(1_000))];
    let reserve_long = Reserve { id: "a.1".into(), amount: nanos(5), accounts: long.into(), at: at(2) };
    ledger.reserve(reserve_long).await.unwrap();
    ledger.reserve(reserve("b.1", 5, &[(total(), 1_000)])).await.unwrap();
    // It is committed by now; the other one is in no event.
    let events = store.read(&StreamId::Ledger, 0).await.unwrap().into_iter().map(|event| event.body);
    let reserved: Vec<_> = events.filter(|event| matches!(event, EventBody::MoneyReserved(_))).collect();
    let owner = format!("1-{}", std::process::id());
    let accounts = vec!["total".to_owned(), role.to_string()];
    let want = MoneyReserved { reservation: "a.1".into(), owner, amount: nanos(5), accounts };
    assert_eq!(reserved, [EventBody::from(want)]);
    let (_, spent) = ledger.spent(&total()).await.unwrap();
    assert_eq!(spent.reserved, nanos(10));
    ledger.resolve(&"a.1".into(), Resolution::Settle(nanos(3)), at(3)).unwrap();
    tables_are_the_fold(&store).await;
    assert_eq!(balance(&ledger).await[0], 3);
}

#[tokio::test]
async fn the_ends_of_a_commit_are_one_event_and_change_each_account_once() {
    let dir = tempfile::tempdir().unwrap();
    let options = backstop_store::StoreOptions {
        linger: std::time::Duration::from_hours(1),
        ..backstop_store::StoreOptions::default()
    };
    let store = SqliteStore::open(dir.path().join("j.db"), options).unwrap();
    let (ledger, _) = store.ledger(LedgerMode::Written, at(1)).await.unwrap();
    for n in 0..100 {
        let role = Account::whole(Scope::Role(format!("role{}", n % 4).as_str().into()));
        let id = format!("{n}.1");
        ledger.reserve(reserve(&id, 10, &[(total(), 100_000), (role, 100_000)])).await.unwrap();
    }
    for n in 0..100 {
        let end = if n % 10 == 0 { Resolution::Void } else { Resolution::Settle(nanos(n % 7)) };
        ledger.resolve(&format!("{n}.1").as_str().into(), end, at(2)).unwrap();
    }
    let spend = tables_are_the_fold(&store).await;
    let cost: i64 = (0..100).filter(|n| n % 10 > 0).map(|n| n % 7).sum();
    assert_eq!(spend.accounts["total"].settled, nanos(cost));
    let events = store.read(&StreamId::Ledger, 0).await.unwrap();
    let moved: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::MoneyMoved(moved) => Some((moved.paid.len(), moved.attempts(), moved.cost().nanos())),
            EventBody::LeaseGranted(_) => None,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(moved, [(4, 100, cost)]);
}

#[tokio::test]
async fn too_many_open_reservations_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("j.db"));
    let (ledger, _) = store.ledger(LedgerMode::Written, at(1)).await.unwrap();
    let from = [(total(), LIMIT)];
    for n in 0..65_536 {
        ledger.reserve(reserve(&format!("{n}.1"), 1, &from)).await.unwrap();
    }
    let refused = ledger.reserve(reserve("more.1", 1, &from)).await;
    assert!(matches!(refused, Err(LedgerError::Unwritable(_))), "{refused:?}");
    ledger.resolve(&"7.1".into(), Resolution::Void, at(3)).unwrap();
    store.flush().await.unwrap();
    ledger.reserve(reserve("more.1", 1, &from)).await.unwrap();
}
