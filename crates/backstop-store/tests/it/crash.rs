//! Processes that die by SIGKILL: what was acknowledged is there, and nobody writes for the dead.

use super::sample::{Helper, append, at, child, created, returned, say, started, stream, text};
use backstop_journal::{Append, Durability, Journal, JournalError};
use backstop_store::{SqliteStore, StoreOptions};

fn open(path: &std::path::Path) -> SqliteStore {
    SqliteStore::open(path, StoreOptions::default()).unwrap()
}

/// Appends without end and says what was acknowledged. The parent kills it.
#[tokio::test]
async fn appending_child() {
    let Some((db, run)) = child() else { return };
    let store = open(&db);
    store.append(append(&run, None, vec![created("a")])).await.unwrap();
    let epoch = store.claim(&run.as_str().into(), at(1)).await.unwrap();
    say("ready");
    for n in 0_u64.. {
        // Of every three: one rides along, one is written, one is synced; now and then with a large body.
        let durability =
            [Durability::Queued, Durability::Written, Durability::Synced][usize::try_from(n % 3).unwrap()];
        let size = if n % 7 == 0 { 20_000 } else { 900 };
        let events = vec![started(&n.to_string()), returned(&n.to_string(), &text(n, size))];
        let appended = store.append(Append { durability, ..append(&run, Some(epoch), events) });
        if durability > Durability::Queued {
            say(&appended.await.unwrap().seq.to_string());
        }
    }
}

#[test]
fn what_was_acknowledged_survives_fifty_kills() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("j.db");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for kill in 0..50_u64 {
        let run = format!("run-{kill}");
        let mut helper = Helper::start("it::crash::appending_child", &db, &run);
        assert_eq!(helper.hear().as_deref(), Some("ready"));
        let mut acknowledged = 0;
        for _ in 0..=kill {
            acknowledged = helper.hear().unwrap().parse().unwrap();
        }
        helper.kill();
        // What it said before it died, and had not been read yet, counts as well.
        while let Some(last) = helper.hear() {
            acknowledged = last.parse().unwrap_or(acknowledged);
        }
        let store = open(&db);
        runtime.block_on(async {
            let head = store.verify(&stream(&run)).await.unwrap();
            assert!(head.seq >= acknowledged, "kill {kill}: {} of {acknowledged}", head.seq);
            let events = store.read(&stream(&run), 0).await.unwrap();
            assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == seq), "kill {kill}: a gap");
            assert_eq!(events.len() % 2, 0, "kill {kill}: half an append");
            let runs = store.runs(backstop_journal::RunFilter::default()).await.unwrap();
            let found = runs.iter().find(|found| found.run.as_str() == run).unwrap();
            assert_eq!(u64::from(found.tool_calls), (head.seq - 2) / 2, "kill {kill}: the projection");
            // Its claim is free at once.
            assert_eq!(store.claim(&run.as_str().into(), at(2)).await.unwrap(), 2);
        });
    }
    runtime.block_on(open(&db).check()).unwrap();
}

/// Claims a run and holds it until its standard input is closed.
#[tokio::test]
async fn holding_child() {
    let Some((db, run)) = child() else { return };
    let store = open(&db);
    let epoch = store.claim(&run.as_str().into(), at(1)).await.unwrap();
    say(&epoch.to_string());
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    // By now somebody else has the run, as after a pause of the whole process.
    let refused = store.append(append(&run, Some(epoch), vec![started("late")])).await;
    say(if matches!(refused, Err(JournalError::Owned { .. })) { "refused" } else { "written" });
}

#[tokio::test]
async fn a_living_process_keeps_its_claim_and_a_killed_one_loses_it() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("j.db");
    let store = open(&db);
    store.append(append("r", None, vec![created("a")])).await.unwrap();
    let mut helper = Helper::start("it::crash::holding_child", &db, "r");
    assert_eq!(helper.hear().as_deref(), Some("1"));
    let refused = store.claim(&"r".into(), at(2)).await;
    assert!(matches!(refused, Err(JournalError::Owned { .. })), "{refused:?}");
    helper.kill();
    assert_eq!(store.claim(&"r".into(), at(3)).await, Ok(2));
    let stale = store.append(append("r", Some(1), vec![started("1")])).await;
    assert!(matches!(stale, Err(JournalError::Owned { .. })), "{stale:?}");
}

#[tokio::test]
async fn a_zombie_in_another_process_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("j.db");
    let store = open(&db);
    store.append(append("r", None, vec![created("a")])).await.unwrap();
    let mut helper = Helper::start("it::crash::holding_child", &db, "r");
    assert_eq!(helper.hear().as_deref(), Some("1"));
    // Taken from it by force: the epoch goes up behind its back, as if its lock had been lost.
    let raw = rusqlite::Connection::open(&db).unwrap();
    raw.execute("UPDATE claims SET epoch = epoch + 1", []).unwrap();
    helper.tell("go on");
    assert_eq!(helper.hear().as_deref(), Some("refused"));
    helper.end();
    let events = store.read(&stream("r"), 0).await.unwrap();
    assert_eq!(events.len(), 2);
}
