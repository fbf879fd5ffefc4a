//! Files that older versions made.

use super::erasing::contents;
use super::sample::{append, at, erase, over, returned, stream, total};
use backstop_allowance::Ledger;
use backstop_journal::event::RunStatus;
use backstop_journal::projections::numbers::Kept;
use backstop_journal::{EventBody, Journal, JournalError, RunFilter, Tally};
use backstop_store::{LedgerMode, SqliteStore, StoreOptions};
use rusqlite::Connection;
use std::fs;
use std::path::{Path, PathBuf};

/// A file as an older format had it: a run that is done, with a large body; one that is open; money that was spent.
fn old(dir: &Path, format: u32) -> PathBuf {
    let fixture = format!("tests/fixtures/format-{format}.sqlite");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture);
    let path = dir.join("old.db");
    fs::copy(fixture, &path).unwrap();
    path
}

/// What the file holds, in the words of SQLite.
fn shape(path: &Path) -> Vec<(String, String)> {
    let db = Connection::open(path).unwrap();
    let mut found = db.prepare("SELECT name, coalesce(sql, '') FROM sqlite_schema ORDER BY name").unwrap();
    let rows = found.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn a_file_of_the_first_format_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = old(dir.path(), 1);
    let store = SqliteStore::open(&path, StoreOptions::default()).unwrap();
    store.check().await.unwrap();
    let runs = store.runs(RunFilter::default()).await.unwrap();
    let found: Vec<_> = runs.iter().map(|run| (run.run.as_str(), run.status, run.tool_calls)).collect();
    assert_eq!(found, [("open", RunStatus::Running, 1), ("done", RunStatus::Done, 1)]);
    assert_eq!(store.verify(&stream("done")).await.unwrap().seq, 5);
    let listed = store.list(RunFilter::default()).await.unwrap();
    let created = store.part(&stream("done"), 0, 1).await.unwrap();
    let EventBody::RunCreated(created) = &created[0].body else { panic!("{created:?}") };
    let text = created.message.value().and_then(|message| message.as_str()).unwrap();
    assert_eq!(listed[1].text, text.chars().take(1_000).collect::<String>());
    let (search, role, model) = (Some(text.to_owned()), created.role.clone(), created.model.clone());
    let filter = RunFilter { search, role: Some(role), model: Some(model), ..RunFilter::default() };
    assert_eq!(store.list(filter).await.unwrap(), listed, "runs of the old file are found as new ones are");
    let head = store.append(append("open", None, vec![over(RunStatus::Failed)])).await.unwrap();
    assert_eq!(store.verify(&stream("open")).await.unwrap(), head);
    assert_eq!(store.catch_up(at(200), Kept::default()).await.unwrap(), head.position);
    let (ledger, _) = store.ledger(LedgerMode::Written, at(200)).await.unwrap();
    assert_eq!(ledger.balance(total()).await.unwrap().settled.nanos(), 321);
}

#[tokio::test]
async fn an_old_file_and_a_new_one_end_up_the_same() {
    for format in [1, 2] {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (old(dir.path(), format), dir.path().join("new.db"));
        for path in [&old, &new] {
            drop(SqliteStore::open(path, StoreOptions::default()).unwrap());
        }
        let found = |path| {
            let db = Connection::open(path).unwrap();
            db.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0)).unwrap()
        };
        assert_eq!((found(&old), found(&new)), (3, 3));
        assert_eq!(shape(&old), shape(&new));
    }
}

#[tokio::test]
async fn a_file_gets_the_views_of_the_version_that_opens_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new.db");
    let open = || drop(SqliteStore::open(&path, StoreOptions::default()).unwrap());
    let views = || {
        let views = shape(&path).into_iter().filter(|(_, text)| text.starts_with("CREATE VIEW"));
        views.collect::<Vec<_>>()
    };
    open();
    let made = views();
    assert!(made.iter().any(|(name, _)| name == "runs"), "{made:?}");
    let as_another_version = "DROP VIEW runs; DROP VIEW calls; CREATE VIEW calls AS SELECT 1 AS one; CREATE VIEW gone AS SELECT 2 AS two";
    Connection::open(&path).unwrap().execute_batch(as_another_version).unwrap();
    assert_ne!(views(), made);
    open();
    assert_eq!(views(), made);
}

/// Nothing of a step is there before all of it is.
#[test]
fn a_step_that_fails_leaves_the_file_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = old(dir.path(), 1);
    // Something stands where the step would put its last view.
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE spend_by_day (x)").unwrap();
    let before = shape(&path);
    let error = SqliteStore::open(&path, StoreOptions::default()).err().map(|error| error.to_string());
    assert!(error.as_ref().is_some_and(|error| error.contains("spend_by_day already exists")), "{error:?}");
    assert_eq!(shape(&path), before);
}

/// Whoever has an older version open when a newer one opens the file appends no more: its links would not fit on.
#[test]
fn the_version_before_can_append_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = old(dir.path(), 2);
    let db = Connection::open(&path).unwrap();
    let append = "INSERT INTO events_raw (stream, seq, at, epoch, v, kind, hash, body)
        VALUES (9, 1, 1, 0, 1, 'x', zeroblob(32), '{}')";
    let mut prepared = db.prepare(append).unwrap();
    drop(SqliteStore::open(&path, StoreOptions::default()).unwrap());
    let error = prepared.execute([]).unwrap_err().to_string();
    assert!(error.contains("no column named hash"), "{error}");
}

#[tokio::test]
async fn a_run_of_an_older_format_is_erased_as_a_whole() {
    for (format, bodies, shared) in [(1, 3, false), (2, 7, true)] {
        let dir = tempfile::tempdir().unwrap();
        let path = old(dir.path(), format);
        let count = |sql: &str| {
            Connection::open(&path).unwrap().query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
        };
        let store = SqliteStore::open(&path, StoreOptions::default()).unwrap();
        let before = store.read(&stream("done"), 0).await.unwrap();
        let large = before.iter().find_map(|event| match &event.body {
            EventBody::ToolFinished(finished) => Some(finished.result.clone()),
            _ => None,
        });
        let head = store.verify(&stream("done")).await.unwrap();
        let erased = store.erase(erase("done", head.seq)).await.unwrap();
        assert_eq!(erased.bodies, bodies, "format {format}");
        assert_eq!(erased.rechained.unwrap().was, head.hash);
        let after = store.verify(&stream("done")).await.unwrap();
        assert_eq!(after.seq, head.seq + 1);
        let events = store.read(&stream("done"), 0).await.unwrap();
        assert_eq!(events[events.len() - 2].hash, head.hash, "a link that was kept elsewhere is still there");
        let gone = format!("{events:?}");
        assert!(!gone.contains("old format") && !gone.contains("You write"), "{gone}");
        // The other run has the same large body, and goes on.
        store.append(append("open", None, vec![returned("2", "new"), over(RunStatus::Done)])).await.unwrap();
        let open = store.read(&stream("open"), 0).await.unwrap();
        let has = open.iter().any(|event| match &event.body {
            EventBody::ToolFinished(finished) => Some(&finished.result) == large.as_ref(),
            _ => false,
        });
        assert_eq!(has, shared, "format {format}");
        let head = store.verify(&stream("open")).await.unwrap();
        store.erase(erase("open", head.seq)).await.unwrap();
        store.verify(&stream("open")).await.unwrap();
        drop(store);
        assert_eq!(count("SELECT count(*) FROM blobs"), 0);
        assert_eq!(count("SELECT count(*) FROM streams WHERE blind IS NOT NULL"), 0);
        for word in ["old format", "You write", "old result", "old words"] {
            assert!(contents(&path).iter().all(|text| !text.contains(word)), "{word}");
        }

        // What is left of the old events cannot be changed either.
        let change =
            "UPDATE events_raw SET body = replace(body, '\"agent\":\"', '\"agent\":\"x') WHERE seq = 1";
        assert!(Connection::open(&path).unwrap().execute(change, []).unwrap() > 0);
        let store = SqliteStore::open(&path, StoreOptions::default()).unwrap();
        let found = store.verify(&stream("done")).await;
        assert!(matches!(found, Err(JournalError::Chain(_))), "{found:?}");
    }
}
