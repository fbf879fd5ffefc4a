//! The invariant of the ledger under everything at once: tasks, cancels, several processes, SIGKILL. Each worker keeps
//! its own books in a file; after recovery the ledger must agree with them, reservation by reservation.

use super::ledger::{open, tables_are_the_fold};
use super::sample::{Helper, at, child, nanos, own, say, total};
use backstop_allowance::{Account, Ledger, LedgerError, Reserve, Resolution, Scope};
use backstop_call::{Money, ReservationId, Seed};
use backstop_journal::{EventBody, Journal, StreamId};
use backstop_store::{LedgerMode, SqliteLedger, SqliteStore};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// The limit in total: a process alone uses it up; the ones that are killed must not get to its end before.
const ALONE: i64 = 40_000;
const KILLED: i64 = 4_000_000;

/// A worker's own books: one line per fact, appended whole.
#[derive(Clone)]
struct Truth(Arc<File>);

impl Truth {
    fn of(db: &Path) -> Self {
        let path = db.with_extension("truth");
        Self(Arc::new(OpenOptions::new().create(true).append(true).open(path).unwrap()))
    }

    fn note(&self, fact: &str, id: &ReservationId, amount: Money) {
        (&*self.0).write_all(format!("{fact} {id} {}\n", amount.nanos()).as_bytes()).unwrap();
    }

    fn read(db: &Path) -> Vec<(String, ReservationId, i64)> {
        let text = std::fs::read_to_string(db.with_extension("truth")).unwrap();
        let fact = |line: &str| {
            let mut words = line.split(' ');
            let mut word = || words.next().unwrap().to_owned();
            (word(), word().as_str().into(), word().parse().unwrap())
        };
        text.lines().map(fact).collect()
    }
}

/// One call of a worker: reserve, send, end in one of all ways. `false` when there is no money left.
async fn one_call(
    ledger: &SqliteLedger,
    truth: &Truth,
    (seed, limit): (&Seed, i64),
    id: ReservationId,
) -> bool {
    let amount = nanos(i64::try_from(seed.below(60)).unwrap() + 1);
    let role = Account::whole(Scope::Role(format!("role{}", seed.below(2)).as_str().into()));
    let run = own(&format!("run{}", seed.below(3)));
    let mut accounts = vec![(total(), nanos(limit)), (role, nanos(limit * 3 / 4)), (run, nanos(limit))];
    accounts.sort();
    let reserve = Reserve { id: id.clone(), amount, accounts, at: at(10) };
    let mut reserving = ledger.reserve(reserve);
    if seed.below(8) == 0 {
        // Cancelled while it waits, if it has to wait.
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(reserving.as_mut().poll(cx))).await;
        drop(reserving);
        if let std::task::Poll::Ready(Ok(())) = polled {
            ledger.resolve(&id, Resolution::Void, at(11)).unwrap();
        }
        return true;
    }
    match reserving.await {
        Ok(()) => {}
        Err(LedgerError::Denied(_)) => return false,
        Err(error) => panic!("{error}"),
    }
    // From here on the provider may bill it.
    truth.note("sent", &id, amount);
    if seed.below(3) == 0 {
        tokio::task::yield_now().await;
    }
    let cost = nanos(i64::try_from(seed.below(u64::try_from(amount.nanos()).unwrap() + 1)).unwrap());
    let resolution = match seed.below(10) {
        0 => Resolution::Void,
        1 => Resolution::Suspend(amount),
        _ => Resolution::Settle(cost),
    };
    let fact = match resolution {
        Resolution::Settle(_) => ("cost", cost),
        Resolution::Void => ("cost", Money::ZERO),
        Resolution::Suspend(_) => ("unknown", amount),
    };
    truth.note(fact.0, &id, fact.1);
    ledger.resolve(&id, resolution, at(11)).unwrap();
    true
}

async fn spend(ledger: &SqliteLedger, truth: &Truth, (name, limit): (String, i64), random: u64) {
    let tasks = (0..8).map(|task| {
        let (ledger, truth, name) = (ledger.clone(), truth.clone(), name.clone());
        tokio::spawn(async move {
            let seed = Seed::new(random + task);
            for n in 0..2_000 {
                let id = ReservationId::from(format!("{name}-{task}-{n}.1"));
                if !one_call(&ledger, &truth, (&seed, limit), id).await {
                    break;
                }
                if task == 0 && n % 50 == 0 {
                    observe(&ledger).await;
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// The invariant, at any moment.
async fn observe(ledger: &SqliteLedger) {
    let (limit, spent) = ledger.spent(&total()).await.unwrap();
    assert!(spent.used() <= limit, "{spent:?}");
    let balance = ledger.balance(total()).await.unwrap();
    // By its own limit: the first one is seen between the two looks.
    assert!(balance.settled + balance.suspense + balance.reserved <= balance.allowed, "{balance:?}");
    assert_eq!(balance.overrun, Money::ZERO);
}

/// The reservations that an event ends for certain, each with its cost.
pub(super) fn ends(event: EventBody) -> Vec<(ReservationId, Money)> {
    match event {
        EventBody::MoneySettled(event) => vec![(event.reservation, event.cost)],
        EventBody::MoneyVoided(event) => vec![(event.reservation, Money::ZERO)],
        EventBody::MoneyMoved(event) => {
            let voided = |id| (id, Money::ZERO);
            let all = event.paid.into_iter();
            all.flat_map(|paid| paid.settled.into_iter().chain(paid.voided.into_iter().map(voided))).collect()
        }
        _ => Vec::new(),
    }
}

/// Compares the ledger with the workers' books: whatever was sent is settled at its cost, or suspended with its worst
/// case or what of that was not another's already. What was reserved in memory only and never written is covered all together: by the suspended rest of a lease,
/// and by the worst cases of calls whose settlement was not written either.
async fn agrees(store: &SqliteStore, ledger: &SqliteLedger, db: &Path, every_call_is_written: bool) {
    let spend = tables_are_the_fold(store).await;
    assert!(spend.holds.values().all(|held| held.suspended.is_some()), "something is still under way");
    let mut ended = BTreeMap::new();
    for event in store.read(&StreamId::Ledger, 0).await.unwrap() {
        for (id, cost) in ends(event.body) {
            assert_eq!(ended.insert(id, cost), None, "ended twice");
        }
    }
    let (mut sent, mut known) = (BTreeMap::new(), BTreeMap::new());
    for (fact, id, amount) in Truth::read(db) {
        let facts = if fact == "sent" { &mut sent } else { &mut known };
        facts.insert(id, (fact, nanos(amount)));
    }
    let (mut charged, mut uncovered, mut billed) = (Money::ZERO, Money::ZERO, Money::ZERO);
    for (id, (_, worst)) in &sent {
        billed += known.get(id).map_or(*worst, |(_, amount)| *amount);
        match (spend.holds.get(id), ended.get(id)) {
            (Some(held), _) => {
                // Less where it had ended before the kill and another one took its room: both together are covered.
                assert!(held.amount <= *worst, "{id}");
                charged += held.amount;
            }
            (None, Some(cost)) => {
                assert_eq!(known.get(id), Some(&("cost".to_owned(), *cost)), "{id}");
                charged += *cost;
            }
            (None, None) => uncovered += *worst,
        }
    }
    // What is suspended and was never sent: reserved in the moment of the kill, or the rest of a lease.
    let mut unsent = Money::ZERO;
    let mut rests = Money::ZERO;
    for (id, held) in spend.holds.iter().filter(|(_, held)| held.accounts.contains(&"total".to_owned())) {
        if id.as_str().starts_with("lease.") {
            rests += held.amount;
        } else if !sent.contains_key(id) {
            unsent += held.amount;
        }
    }
    if every_call_is_written {
        assert_eq!((uncovered, rests), (Money::ZERO, Money::ZERO));
    }
    let total = spend.accounts["total"];
    assert!(billed <= total.settled + total.suspense, "{billed} was billed, the ledger knows of {total:?}");
    assert_eq!(total.settled + total.suspense, charged + unsent + rests);
    assert_eq!((total.reserved, total.overrun), (Money::ZERO, Money::ZERO));
    observe(ledger).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tasks_of_one_process_never_overspend() {
    for mode in [LedgerMode::Leased, LedgerMode::Written] {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("j.db");
        let store = open(&db);
        let (ledger, _) = store.ledger(mode, at(1)).await.unwrap();
        spend(&ledger, &Truth::of(&db), ("p".to_owned(), ALONE), 7).await;
        ledger.close().await.unwrap();
        agrees(&store, &ledger, &db, true).await;
        let (_, spent) = ledger.spent(&total()).await.unwrap();
        // The spree ended because the money did, not because it was never spent.
        assert!(spent.settled + spent.suspense > nanos(ALONE / 2), "{mode:?} {spent:?}");
        assert_eq!(spent.leased, Money::ZERO);
    }
}

/// One of several processes; killed, or spends until nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spree_child() {
    let Some((db, word)) = child() else { return };
    let (name, mode) = word.split_once(' ').unwrap();
    let mode = if mode == "leased" { LedgerMode::Leased } else { LedgerMode::Written };
    let store = open(&db);
    let (ledger, _) = store.ledger(mode, at(1)).await.unwrap();
    say("begun");
    let random = name.bytes().fold(1, |seed, byte| seed * 31 + u64::from(byte));
    spend(&ledger, &Truth::of(&db), (name.to_owned(), KILLED), random).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_are_killed_never_overspend() {
    for mode in ["leased", "written"] {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("j.db");
        let seed = Seed::new(23);
        let store = open(&db);
        let (ledger, _) = store.ledger(LedgerMode::Written, at(1)).await.unwrap();
        for round in 0..4 {
            let start = |n: u32| Helper::start("it::spree::spree_child", &db, &format!("p{round}{n} {mode}"));
            let mut helpers: Vec<_> = (0..3).map(start).collect();
            for helper in &mut helpers {
                assert_eq!(helper.hear().as_deref(), Some("begun"));
            }
            // Killed at some point of their spending that only the seed and the machine know.
            for mut helper in helpers {
                for _ in 0..seed.below(30) {
                    observe(&ledger).await;
                }
                helper.kill();
            }
            observe(&ledger).await;
            let recovered = ledger.recover(at(20)).await.unwrap();
            // One that came to its end by itself may have been recovered by another child that came later.
            assert!(!recovered.owners.is_empty(), "round {round}");
            agrees(&store, &ledger, &db, mode == "written").await;
        }
        assert!(Truth::read(&db).len() > 100, "the children were killed before they did anything");
    }
}
