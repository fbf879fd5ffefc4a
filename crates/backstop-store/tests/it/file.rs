//! What is particular to the file: opening it, damage, a full disk, how large it grows, how often it is synced.

use super::sample::{append, at, created, returned, started, stream, text};
use backstop_journal::event::RunClaimed;
use backstop_journal::{Append, BlobHash, Durability, Journal, JournalError, RunFilter};
use backstop_store::{SqliteStore, StoreOptions};
use std::fs;
use std::path::Path;
use std::time::Duration;

fn open(path: &Path) -> Result<SqliteStore, JournalError> {
    SqliteStore::open(path, StoreOptions::default())
}

async fn database(path: &Path) {
    let store = open(path).unwrap();
    let events = (0..200).map(|n| returned(&n.to_string(), &text(n, 900))).collect();
    store.append(append("r", None, vec![created("a")])).await.unwrap();
    store.append(append("r", None, events)).await.unwrap();
}

#[tokio::test]
async fn what_was_written_is_there_when_it_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("some/where/j.db");
    database(&path).await;
    let store = open(&path).unwrap();
    assert_eq!(store.verify(&stream("r")).await.unwrap().seq, 201);
    assert_eq!(store.runs(RunFilter::default()).await.unwrap().len(), 1);
    store.check().await.unwrap();
}

#[tokio::test]
async fn dropping_the_store_writes_what_is_queued() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("j.db");
    let store =
        SqliteStore::open(&path, StoreOptions { linger: Duration::from_hours(1), ..Default::default() });
    let store = store.unwrap();
    let queued = Append { durability: Durability::Queued, ..append("r", None, vec![started("1")]) };
    drop(store.append(queued));
    drop(store);
    assert_eq!(open(&path).unwrap().verify(&stream("r")).await.unwrap().seq, 1);
}

type Right = fn(&JournalError) -> bool;

#[tokio::test]
async fn what_is_no_database_of_ours_is_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole.db");
    database(&whole).await;
    let good = fs::read(&whole).unwrap();
    let other = dir.path().join("other.db");
    rusqlite::Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let changed = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let rows: [(&str, Vec<u8>, Right); 6] = [
        ("text", b"dear diary".repeat(50), |error| matches!(error, JournalError::Damaged(_))),
        ("short", good[..60].to_vec(), |error| matches!(error, JournalError::Damaged(_))),
        ("cut", good[..good.len() / 2].to_vec(), |error| matches!(error, JournalError::Damaged(_))),
        ("garbled", changed(3 * 4096, &[0xA5; 4096]), |error| matches!(error, JournalError::Damaged(_))),
        ("other", fs::read(&other).unwrap(), |error| matches!(error, JournalError::Damaged(_))),
        ("newer", changed(60, &[0, 0, 0, 4]), |error| *error == JournalError::Newer { found: 4, known: 3 }),
    ];
    for (name, bytes, right) in rows {
        let path = dir.path().join(name);
        fs::write(&path, &bytes).unwrap();
        let error = open(&path).err().unwrap_or_else(|| panic!("{name} was opened"));
        assert!(right(&error), "{name}: {error:?}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "{name} was written to");
    }
}

#[test]
fn a_place_that_cannot_be_used_says_so() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    for path in [dir.path().to_owned(), dir.path().join("file/j.db"), "/proc/backstop/j.db".into()] {
        let error = open(&path).err();
        assert!(matches!(error, Some(JournalError::Unusable(_))), "{}: {error:?}", path.display());
    }
}

#[tokio::test]
async fn changes_from_outside_break_the_chain() {
    let changes = [
        "UPDATE events_raw SET body = replace(body, 'call.1', 'call.2') WHERE seq = 1",
        "UPDATE events_raw SET at = at + 1 WHERE seq = 2",
        "UPDATE events_raw SET epoch = 7 WHERE seq = 2",
        "UPDATE events_raw SET v = 1 WHERE seq = 2",
        "UPDATE streams SET blind = zeroblob(32)",
        "UPDATE streams SET framed = 2",
        "DELETE FROM events_raw WHERE seq = 2",
        "UPDATE blobs SET data = CAST('\"forged\"' AS BLOB)",
    ];
    for change in changes {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.db");
        let store = open(&path).unwrap();
        let events = vec![started("call.1"), returned("call.1", &text(1, 20_000)), returned("2", "small")];
        store.append(append("r", None, events)).await.unwrap();
        store.verify(&stream("r")).await.unwrap();
        assert!(rusqlite::Connection::open(&path).unwrap().execute(change, []).unwrap() > 0);
        let found = store.verify(&stream("r")).await;
        assert!(matches!(found, Err(JournalError::Chain(_))), "{change}: {found:?}");
    }
}

#[tokio::test]
async fn a_full_disk_fails_the_append_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("j.db");
    let options = StoreOptions { bytes_max: Some(1024 * 1024), ..StoreOptions::default() };
    let store = SqliteStore::open(&path, options).unwrap();
    let large = text(0, 200_000);
    store.append(append("r", None, vec![created("a"), returned("0", &large)])).await.unwrap();
    let mut kept = 2;
    let full = loop {
        match store.append(append("r", None, vec![returned("n", &text(kept, 100_000))])).await {
            Ok(head) => kept = head.seq,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, JournalError::DiskFull(_)), "{full:?}");
    assert!((3..20).contains(&kept), "{kept}");
    assert_eq!(store.verify(&stream("r")).await.unwrap().seq, kept, "what was acknowledged is there");
    assert_eq!(u64::from(store.runs(RunFilter::default()).await.unwrap()[0].tool_calls), kept - 1);
    let again = store.append(append("r", None, vec![returned("n", &text(99, 150_000))])).await;
    assert!(matches!(again, Err(JournalError::DiskFull(_))), "{again:?}");
    // Room is made.
    assert!(store.erase_blob(BlobHash::of(serde_json::json!(large).to_string().as_bytes())).await.unwrap());
    let head = store.append(append("r", None, vec![returned("n", &text(99, 150_000))])).await.unwrap();
    assert_eq!(head.seq, kept + 1);
    assert_eq!(store.verify(&stream("r")).await.unwrap(), head);
}

#[tokio::test]
async fn only_synced_appends_are_synced() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("j.db")).unwrap();
    let append_as = |durability| store.append(Append { durability, ..append("r", None, vec![started("1")]) });
    let rows = [
        (vec![Durability::Synced], (1, 1)),
        (vec![Durability::Written], (1, 0)),
        (vec![Durability::Queued; 5], (1, 0)),
    ];
    for (durabilities, want) in rows {
        let before = store.stats();
        let appends: Vec<_> = durabilities.iter().map(|durability| append_as(*durability)).collect();
        for append in appends {
            append.await.unwrap();
        }
        let after = store.stats();
        let done = (after.commits - before.commits, after.synced - before.synced);
        assert_eq!(done, want, "{durabilities:?}");
    }
}

#[tokio::test]
async fn a_failed_append_fails_those_behind_it_in_the_same_commit() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { linger: Duration::from_hours(1), ..StoreOptions::default() };
    let store = SqliteStore::open(dir.path().join("j.db"), options).unwrap();
    let queued = |run, epoch| {
        store.append(Append { durability: Durability::Queued, ..append(run, epoch, vec![started("1")]) })
    };
    let (bad, behind, other) = (queued("r", Some(3)), queued("r", None), queued("s", None));
    store.flush().await.unwrap();
    assert!(matches!(bad.await, Err(JournalError::Owned { .. })));
    assert!(matches!(behind.await, Err(JournalError::Owned { .. })));
    assert_eq!(other.await.unwrap().seq, 1);
    assert_eq!(queued_now(&store).await, 1, "the next commit is a new one");
}

async fn queued_now(store: &SqliteStore) -> u64 {
    store.append(append("r", None, vec![started("1")])).await.unwrap().seq
}

#[tokio::test]
async fn too_much_in_the_queue_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { linger: Duration::from_hours(1), waiting_max: 4, ..StoreOptions::default() };
    let store = SqliteStore::open(dir.path().join("j.db"), options).unwrap();
    let queued: Vec<_> = (0..6)
        .map(|_| {
            store.append(Append { durability: Durability::Queued, ..append("r", None, vec![started("1")]) })
        })
        .collect();
    drop(store);
    let mut outcomes = Vec::new();
    for append in queued {
        outcomes.push(append.await.is_ok());
    }
    assert_eq!(outcomes, [true, true, true, true, false, false]);
}

/// The size of a file without what its log holds.
fn size(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

#[tokio::test]
async fn a_step_costs_its_payload_and_little_more_however_long_the_run_is() {
    const STEPS: u64 = 10_000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("j.db");
    let mut sizes = vec![0];
    let mut payload = 0;
    for part in 0..4 {
        let store = open(&path).unwrap();
        for n in 0..STEPS / 400 {
            let text = text(part * 1_000 + n, 1024);
            let events: Vec<_> = (0..100).map(|_| returned("call", &text)).collect();
            payload = events[0].encode().len() as u64;
            store.append(append("r", None, events)).await.unwrap();
        }
        drop(store);
        sizes.push(size(&path));
    }
    for pair in sizes.windows(2) {
        let (grown, wanted) = (pair[1] - pair[0], payload * STEPS / 4);
        assert!(grown * 2 <= wanted * 3, "{grown} bytes for {wanted} of payload: {sizes:?}");
    }
}

#[tokio::test]
async fn the_log_is_copied_back_while_commits_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("j.db");
    let store = open(&path).unwrap();
    for n in 0..400 {
        let events = (0..100).map(|m| returned("call", &text(n * 1_000 + m, 1024))).collect();
        store.append(append("r", None, events)).await.unwrap();
    }
    assert!(store.stats().checkpoints > 0);
    // 40 MB were written: the log was started over on the way.
    let log = size(&dir.path().join("j.db-wal"));
    assert!(log < 40_000_000, "{log}");
    assert!(size(&path) > 20_000_000);
}

#[tokio::test]
async fn claims_name_their_owner() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("j.db")).unwrap();
    store.append(append("r", None, vec![created("a")])).await.unwrap();
    store.claim(&"r".into(), at(3)).await.unwrap();
    let events = store.read(&stream("r"), 1).await.unwrap();
    let owner = format!("1-{}", std::process::id());
    assert_eq!(events[0].body, RunClaimed { owner: owner.clone() }.into());
    assert!(dir.path().join("j.db.owners").join(&owner).exists());
    drop(store);
    assert!(!dir.path().join("j.db.owners").join(&owner).exists());
}
