//! The ledger over several processes, crashes and time: leases, warnings, recovery, and that the accounts are nothing
//! but the fold of the events.

use super::sample::{Helper, append, at, child, created, nanos, own, reserve, say, total};
use backstop_allowance::{Account, Ledger, LedgerError, Resolution, Scope};
use backstop_call::{BoxFuture, Money};
use backstop_journal::event::BudgetWarned;
use backstop_journal::projections::spend::{Spend, Spent};
use backstop_journal::{EventBody, Journal, StreamId};
use backstop_store::{LedgerMode, SqliteLedger, SqliteStore, StoreOptions};
use std::path::Path;
use std::task::Poll;
use std::time::Duration;

pub(super) fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, StoreOptions::default()).unwrap()
}

async fn ledger(store: &SqliteStore, mode: LedgerMode) -> SqliteLedger {
    store.ledger(mode, at(1)).await.unwrap().0
}

async fn used(ledger: &SqliteLedger, account: &Account) -> [i64; 4] {
    let (_, spent) = ledger.spent(account).await.unwrap();
    [spent.settled, spent.suspense, spent.reserved, spent.leased].map(Money::nanos)
}

async fn events(store: &SqliteStore) -> Vec<EventBody> {
    let events = store.read(&StreamId::Ledger, 0).await.unwrap();
    events.into_iter().map(|event| event.body).collect()
}

/// The tables are the fold of the events, to the last nano-dollar.
pub(super) async fn tables_are_the_fold(store: &SqliteStore) -> Spend {
    store.flush().await.unwrap();
    let mut spend = Spend::default();
    events(store).await.iter().for_each(|event| spend.apply(event));
    let db = rusqlite::Connection::open(store.path()).unwrap();
    let mut accounts = db
        .prepare(
            "SELECT account, settled, suspense, reserved, leased, overrun FROM accounts ORDER BY account",
        )
        .unwrap();
    let money = |row: &rusqlite::Row<'_>, column| nanos(row.get(column).unwrap());
    let rows = accounts.query_map([], |row| {
        let (settled, suspense, reserved) = (money(row, 1), money(row, 2), money(row, 3));
        let spent = Spent { settled, suspense, reserved, leased: money(row, 4), overrun: money(row, 5) };
        Ok((row.get::<_, String>(0)?, spent))
    });
    let kept: Vec<_> =
        rows.unwrap().map(Result::unwrap).filter(|(_, spent)| *spent != Spent::default()).collect();
    let folded = spend.accounts.clone().into_iter().filter(|(_, spent)| *spent != Spent::default());
    assert_eq!(kept, folded.collect::<Vec<_>>());
    let mut leases = db.prepare("SELECT owner, account, amount FROM leases WHERE amount <> 0").unwrap();
    let rows = leases.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), money(row, 2))));
    let folded = spend.leases.clone().into_iter().filter(|(_, amount)| *amount != Money::ZERO);
    assert_eq!(rows.unwrap().map(Result::unwrap).collect::<Vec<_>>(), folded.collect::<Vec<_>>());
    let mut holds = db.prepare("SELECT reservation, amount, suspended FROM holds").unwrap();
    let rows = holds.query_map([], |row| Ok((row.get::<_, String>(0)?, money(row, 1), row.get(2)?)));
    let folded = spend.holds.iter().map(|(id, held)| (id.to_string(), held.amount, held.suspended.clone()));
    assert_eq!(rows.unwrap().map(Result::unwrap).collect::<Vec<_>>(), folded.collect::<Vec<_>>());
    spend
}

#[tokio::test]
async fn a_lease_makes_most_reservations_free_of_io() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { linger: Duration::from_hours(1), ..StoreOptions::default() };
    let store = SqliteStore::open(dir.path().join("j.db"), options).unwrap();
    let ledger = ledger(&store, LedgerMode::Leased).await;
    let from = [(total(), 1_000)];
    ledger.reserve(reserve("a.1", 10, &from)).await.unwrap();
    let synced = store.stats().synced;
    // 5 % of the limit are leased: 40 are left of 50.
    for id in ["b.1", "c.1", "d.1", "e.1"] {
        ledger.reserve(reserve(id, 10, &from)).await.unwrap();
    }
    assert_eq!(store.stats().synced, synced);
    ledger.reserve(reserve("f.1", 10, &from)).await.unwrap();
    assert_eq!(store.stats().synced, synced + 1);
    assert_eq!(used(&ledger, &total()).await, [0, 0, 60, 40]);
}

#[tokio::test]
async fn reservations_that_wait_share_one_extension() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("j.db"));
    let ledger = ledger(&store, LedgerMode::Leased).await;
    let before = store.stats().synced;
    let from = [(total(), 100), (own("r"), 100)];
    let ids: Vec<_> = (0..20).map(|n| format!("c{n}.1")).collect();
    let mut waiting: Vec<_> = ids.iter().map(|id| ledger.reserve(reserve(id, 5, &from))).collect();
    // All of them ask before the first is answered.
    std::future::poll_fn(|cx| {
        for reserving in &mut waiting {
            assert!(reserving.as_mut().poll(cx).is_pending());
        }
        Poll::Ready(())
    })
    .await;
    for reserving in waiting {
        reserving.await.unwrap();
    }
    let granted =
        events(&store).await.iter().filter(|event| matches!(event, EventBody::LeaseGranted(_))).count();
    // The writer may have begun with the first few, how many is the machine's mood; it never takes one transaction for each.
    let synced = usize::try_from(store.stats().synced - before).unwrap();
    assert!(granted.max(synced) < ids.len() / 2, "{granted} granted in {synced} commits");
    assert!(ledger.reserve(reserve("last.1", 1, &from)).await.is_err());
    assert_eq!(used(&ledger, &total()).await, [0, 0, 100, 0]);
}

#[tokio::test]
async fn two_processes_share_a_budget_and_give_back_what_they_do_not_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("j.db");
    let (store, other_store) = (open(&path), open(&path));
    let ours = ledger(&store, LedgerMode::Written).await;
    let theirs = ledger(&other_store, LedgerMode::Written).await;
    let from = [(total(), 100)];
    ours.reserve(reserve("a.1", 60, &from)).await.unwrap();
    theirs.reserve(reserve("b.1", 30, &from)).await.unwrap();
    let denied = ours.reserve(reserve("c.1", 11, &from)).await.unwrap_err();
    let LedgerError::Denied(denied) = denied else { panic!("{denied:?}") };
    assert_eq!((denied.account, denied.available), (total(), nanos(10)));
    ours.resolve(&"a.1".into(), Resolution::Settle(nanos(10)), at(2)).unwrap();
    // What their call holds is leased to them, and in no event yet.
    assert_eq!(used(&ours, &total()).await, [10, 0, 0, 80], "what is left of a call stays leased");
    assert_eq!(used(&theirs, &total()).await, [10, 0, 30, 50]);
    // While we hold it idle, they are denied; given back, they have it.
    assert!(theirs.reserve(reserve("d.1", 60, &from)).await.is_err());
    ours.give_back(&total()).await.unwrap();
    theirs.reserve(reserve("d.1", 60, &from)).await.unwrap();
    assert_eq!(used(&theirs, &total()).await, [10, 0, 90, 0]);
    theirs.resolve(&"d.1".into(), Resolution::Void, at(3)).unwrap();
    theirs.close().await.unwrap();
    assert!(theirs.reserve(reserve("e.1", 1, &from)).await.is_err(), "closed is closed");
    theirs.resolve(&"b.1".into(), Resolution::Settle(nanos(30)), at(3)).unwrap();
    assert_eq!(used(&theirs, &total()).await, [40, 0, 0, 0]);
}

#[tokio::test]
async fn dropping_the_ledger_gives_back_what_is_idle() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("j.db");
    let store = open(&path);
    let first = ledger(&store, LedgerMode::Leased).await;
    first.reserve(reserve("a.1", 10, &[(total(), 1_000)])).await.unwrap();
    first.resolve(&"a.1".into(), Resolution::Settle(nanos(4)), at(2)).unwrap();
    drop(first);
    drop(store);
    let store = open(&path);
    let (second, recovered) = store.ledger(LedgerMode::Leased, at(3)).await.unwrap();
    assert_eq!((recovered.suspended, recovered.freed), (vec![], vec![]));
    assert_eq!(used(&second, &total()).await, [4, 0, 0, 0]);
    tables_are_the_fold(&store).await;
}

#[tokio::test]
async fn a_released_run_leaves_its_money_to_whoever_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("j.db");
    let (store, other_store) = (open(&path), open(&path));
    let ours = ledger(&store, LedgerMode::Written).await;
    let theirs = ledger(&other_store, LedgerMode::Written).await;
    store.append(append("r", None, vec![created("a")])).await.unwrap();
    let epoch = store.claim(&"r".into(), at(2)).await.unwrap();
    let from = [(own("r"), 100)];
    ours.reserve(reserve("a.1", 10, &from)).await.unwrap();
    ours.resolve(&"a.1".into(), Resolution::Settle(nanos(10)), at(3)).unwrap();
    assert_eq!(used(&ours, &own("r")).await, [10, 0, 0, 15], "a quarter of a run's own limit is leased");
    theirs.reserve(reserve("b.1", 75, &from)).await.unwrap();
    assert!(theirs.reserve(reserve("c.1", 1, &from)).await.is_err());
    store.release(&"r".into(), epoch).await.unwrap();
    theirs.reserve(reserve("c.1", 15, &from)).await.unwrap();
}

/// Polls once.
async fn polled<T>(future: &mut BoxFuture<'_, T>) -> Poll<T> {
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// A bug once: a task that a run had put into the queue was denied when that run was let go of in the same moment, since what
/// it gave back stood in the queue of the writer behind the lease that was asked for.
#[tokio::test]
async fn what_a_run_gives_back_is_there_for_what_it_gave_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("j.db");
    let store = open(&path);
    let ledger = ledger(&store, LedgerMode::Written).await;
    store.append(append("r", None, vec![created("a")])).await.unwrap();
    let epoch = store.claim(&"r".into(), at(2)).await.unwrap();
    let from = [(own("r"), 100)];
    ledger.reserve(reserve("a.1", 90, &from)).await.unwrap();
    ledger.resolve(&"a.1".into(), Resolution::Settle(nanos(10)), at(3)).unwrap();
    store.flush().await.unwrap();
    // The writer stands still while somebody else writes.
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut another = ledger.reserve(reserve("b.1", 10, &[(total(), 1_000)]));
    assert!(polled(&mut another).await.is_pending());
    let released = store.release(&"r".into(), epoch);
    let mut gave_out = ledger.reserve(reserve("c.1", 85, &from));
    assert!(polled(&mut gave_out).await.is_pending());
    other.execute_batch("COMMIT").unwrap();
    released.await.unwrap();
    another.await.unwrap();
    gave_out.await.unwrap();
    assert_eq!(used(&ledger, &own("r")).await[0..3], [10, 0, 85]);
}

#[tokio::test]
async fn warns_once_at_each_threshold_also_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("j.db");
    let provider = Account::whole(Scope::Provider("sim".into()));
    let from = [(total(), 1_000), (own("r"), 100_000), (provider, 100_000)];
    // Spent so far, and the warnings so far.
    let steps = [(790, 0), (10, 1), (10, 1), (180, 1), (10, 2)];
    for (n, (cost, warnings)) in steps.into_iter().enumerate() {
        let store = open(&path);
        let ledger = ledger(&store, LedgerMode::Written).await;
        let id = format!("call-{n}.2");
        ledger.reserve(reserve(&id, cost, &from)).await.unwrap();
        // Suspense counts as spent.
        let resolution =
            if n == 1 { Resolution::Suspend(Money::MAX) } else { Resolution::Settle(nanos(cost)) };
        ledger.resolve(&id.as_str().into(), resolution, at(2)).unwrap();
        store.flush().await.unwrap();
        let found: Vec<_> = events(&store)
            .await
            .into_iter()
            .filter_map(|event| match event {
                EventBody::BudgetWarned(warned) => Some(warned),
                _ => None,
            })
            .collect();
        assert_eq!(found.len(), warnings, "step {n}: {found:?}");
        let warned = |percent, spent, call: &str| BudgetWarned {
            account: "total".into(),
            percent,
            spent: nanos(spent),
            limit: nanos(1_000),
            run: Some("r".into()),
            call: Some(call.into()),
            provider: Some("sim".into()),
        };
        let want = [warned(80, 800, "call-1"), warned(100, 1_000, "call-4")];
        assert_eq!(found, want[..warnings]);
        tables_are_the_fold(&store).await;
    }
}

/// Reserves three, settles one, leaves one under way, and waits to be killed.
#[tokio::test]
async fn spending_child() {
    let Some((db, word)) = child() else { return };
    let mode = if word == "leased" { LedgerMode::Leased } else { LedgerMode::Written };
    let store = open(&db);
    let ledger = ledger(&store, mode).await;
    let from = [(total(), 1_000), (own("r"), 200)];
    for id in ["a.1", "b.1", "c.1"] {
        ledger.reserve(reserve(id, 20, &from)).await.unwrap();
    }
    ledger.resolve(&"a.1".into(), Resolution::Settle(nanos(7)), at(2)).unwrap();
    ledger.resolve(&"b.1".into(), Resolution::Suspend(Money::MAX), at(2)).unwrap();
    store.flush().await.unwrap();
    say("spent");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

async fn after_a_kill(mode: &str, change: &str) -> (SqliteStore, SqliteLedger, backstop_store::Recovered) {
    let dir = tempfile::tempdir().unwrap().keep();
    let db = dir.join("j.db");
    let mut helper = Helper::start("it::ledger::spending_child", &db, mode);
    assert_eq!(helper.hear().as_deref(), Some("spent"));
    let store = open(&db);
    // While it lives nothing is taken from it.
    let (ledger, recovered) = store.ledger(LedgerMode::Written, at(3)).await.unwrap();
    assert_eq!(recovered, backstop_store::Recovered::default());
    helper.kill();
    if !change.is_empty() {
        rusqlite::Connection::open(&db).unwrap().execute(change, []).unwrap();
    }
    let recovered = ledger.recover(at(4)).await.unwrap();
    assert_eq!(recovered.owners.len(), 1);
    assert_eq!(ledger.recover(at(5)).await.unwrap(), backstop_store::Recovered::default(), "once");
    tables_are_the_fold(&store).await;
    std::fs::remove_dir_all(dir).unwrap();
    (store, ledger, recovered)
}

#[tokio::test]
async fn a_killed_process_that_wrote_every_call_keeps_nothing_else() {
    let (_, ledger, recovered) = after_a_kill("written", "").await;
    assert_eq!(recovered.suspended, [("c.1".into(), nanos(20))]);
    // Of 100 leased of each, 7 are spent, 20 suspended, 20 were under way.
    assert_eq!(recovered.freed, [("run/r".to_owned(), nanos(53)), ("total".to_owned(), nanos(53))]);
    assert_eq!(ledger.suspense().await.unwrap(), [("b.1".into(), nanos(20)), ("c.1".into(), nanos(20))]);
    assert_eq!(used(&ledger, &total()).await, [7, 40, 0, 0]);
    ledger.correct("c.1".into(), nanos(1), at(6)).await.unwrap().unwrap();
    assert_eq!(used(&ledger, &total()).await, [8, 20, 0, 0]);
}

#[tokio::test]
async fn a_killed_process_that_reserved_in_memory_keeps_its_lease_until_corrected() {
    let (_, ledger, recovered) = after_a_kill("leased", "").await;
    let owner = &recovered.owners[0];
    let rest = |account: &str| format!("lease.{owner}.{account}").as_str().into();
    let want = [("c.1".into(), nanos(20)), (rest("run/r"), nanos(53)), (rest("total"), nanos(53))];
    assert_eq!(recovered.suspended, want);
    assert_eq!(recovered.freed, []);
    assert_eq!(used(&ledger, &total()).await, [7, 93, 0, 0]);
    ledger.correct(rest("total"), Money::ZERO, at(6)).await.unwrap().unwrap();
    assert_eq!(used(&ledger, &total()).await, [7, 40, 0, 0]);
}

#[tokio::test]
async fn after_another_boot_written_is_not_enough() {
    let change = "UPDATE owners SET boot = 'before' WHERE id = 1";
    let (_, ledger, recovered) = after_a_kill("written", change).await;
    // What the file says may be older than what the database says, or newer: all of the lease counts as spent, c.1 in it.
    let rest = |account: &str| format!("lease.{}.{account}", recovered.owners[0]).as_str().into();
    assert_eq!(recovered.suspended, [(rest("run/r"), nanos(73)), (rest("total"), nanos(73))]);
    assert_eq!(recovered.freed, []);
    assert_eq!(used(&ledger, &total()).await, [7, 93, 0, 0]);
}

#[tokio::test]
async fn a_full_disk_stops_spending_and_loses_no_settlement() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { bytes_max: Some(512 * 1024), ..StoreOptions::default() };
    let store = SqliteStore::open(dir.path().join("j.db"), options).unwrap();
    let ledger = ledger(&store, LedgerMode::Written).await;
    let from = [(total(), 1_000)];
    let filler = super::sample::text(1, 350_000);
    store.append(append("f", None, vec![super::sample::returned("1", &filler)])).await.unwrap();
    ledger.reserve(reserve("first.1", 10, &from)).await.unwrap();
    // Nothing more fits; the lease and its intents are there.
    let more =
        |n, bytes| append("f", None, vec![super::sample::returned("n", &super::sample::text(n, bytes))]);
    for (n, bytes) in [(2, 20_000), (3, 2_000), (4, 20)] {
        while store.append(more(n, bytes)).await.is_ok() {}
    }
    let mut made = vec!["first.1".to_owned()];
    let refused = loop {
        let id = format!("c{}.1", made.len());
        match ledger.reserve(reserve(&id, 10, &from)).await {
            Ok(()) => made.push(id),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, LedgerError::Unwritable(_)), "{refused:?}");
    // All of the lease, and of what was granted while an event still fit somewhere.
    assert!((5..50).contains(&made.len()), "{}", made.len());
    for id in &made {
        ledger.resolve(&id.as_str().into(), Resolution::Settle(nanos(3)), at(3)).unwrap();
    }
    let hash = backstop_journal::BlobHash::of(serde_json::json!(filler).to_string().as_bytes());
    // Erasing makes room and is refused nothing; the settlements follow as soon as there is any.
    while !store.erase_blob(hash.clone()).await.unwrap_or(false) {}
    ledger.reserve(reserve("after.1", 10, &from)).await.unwrap();
    let spend = tables_are_the_fold(&store).await;
    assert_eq!(spend.accounts["total"].settled, nanos(i64::try_from(made.len()).unwrap() * 3));
    assert_eq!(used(&ledger, &total()).await[2], 10);
}
