//! What is erased is gone, from every byte of every file, whoever else has them open and whenever somebody dies.

use super::sample::{Helper, SPOKEN, append, child, erase, returned, say, spoken, started, stream};
use backstop_journal::event::RunErased;
use backstop_journal::{EventBody, Journal, RunFilter};
use backstop_store::{SqliteStore, StoreOptions};
use rusqlite::Connection;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, StoreOptions::default()).unwrap()
}

/// What the database, its log, and the files beside it hold.
pub(super) fn contents(path: &Path) -> Vec<String> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let files = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let is_ours = |file: &PathBuf| file.file_name().unwrap().to_str().unwrap().starts_with(name);
    let ours = files.filter(|file| file.is_file() && is_ours(file));
    ours.map(|file| String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned()).collect()
}

/// Those of the words that stand anywhere in there.
fn left<'a>(path: &Path, words: &'a [String]) -> Vec<&'a str> {
    let texts = contents(path);
    let mut found = HashSet::new();
    for text in &texts {
        // An index leaves out the letters that a word has in common with the one before it: its second half is looked for.
        found.extend(text.match_indices(SPOKEN).filter_map(|(at, _)| text.get(at.checked_sub(8)?..at)));
    }
    words.iter().filter(|word| found.contains(&word[8..16])).map(String::as_str).collect()
}

/// Runs that speak in turn, so that they share pages: their names and what they say.
async fn talk(store: &SqliteStore, count: usize, bytes: usize) -> Vec<(String, Vec<String>)> {
    let runs: Vec<_> = (0..count).map(|n| format!("run-{n}-{bytes}")).collect();
    let spoken: Vec<_> = runs.iter().map(|run| spoken(run, bytes)).collect();
    for n in 0..spoken[0].0.len() {
        for (run, (events, _)) in runs.iter().zip(&spoken) {
            store.append(append(run, None, vec![events[n].clone()])).await.unwrap();
        }
    }
    runs.into_iter().zip(spoken.into_iter().map(|(_, words)| words)).collect()
}

/// What digests are keyed with.
fn blinds(path: &Path) -> Vec<Vec<u8>> {
    let db = Connection::open(path).unwrap();
    let mut blinds = db.prepare("SELECT blind FROM streams WHERE blind IS NOT NULL").unwrap();
    blinds.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

async fn erase_now(store: &SqliteStore, run: &str) -> RunErased {
    let head = store.verify(&stream(run)).await.unwrap();
    store.erase(erase(run, head.seq)).await.unwrap()
}

#[tokio::test]
async fn nothing_of_it_is_left_in_any_byte_of_the_files() {
    for bytes in [0, 200, 3_000, 20_000] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.db");
        let store = open(&path);
        let runs = talk(&store, 9, bytes).await;
        let all: Vec<_> = runs.iter().flat_map(|(_, words)| words.clone()).collect();
        assert_eq!(left(&path, &all).len(), all.len(), "they stand there before");
        let blinds = blinds(&path);
        let mut heads = Vec::new();
        for (run, _) in &runs {
            heads.push(store.verify(&stream(run)).await.unwrap());
        }
        let (mut store, mut gone) = (store, Vec::new());
        for (n, (run, words)) in
            runs.iter().enumerate().step_by(2).chain(runs.iter().enumerate().skip(1).step_by(2))
        {
            let erased = erase_now(&store, run).await;
            assert_eq!(erased.bodies, words.len() as u64);
            gone.extend(words.clone());
            if n % 3 == 0 {
                drop(store);
                assert_eq!(left(&path, &gone), [] as [&str; 0], "{bytes} bytes, {run}");
                store = open(&path);
            }
        }
        drop(store);
        assert_eq!(left(&path, &all), [] as [&str; 0], "{bytes} bytes");
        assert_eq!(blinds.len(), runs.len());
        let file = fs::read(&path).unwrap();
        let is_left = |blind: &Vec<u8>| file.windows(8).any(|bytes| *bytes == blind[..8]);
        assert!(bytes > 200 || !blinds.iter().any(is_left), "nobody can try what it may have been");
        let store = open(&path);
        store.check().await.unwrap();
        for ((run, _), head) in runs.iter().zip(heads) {
            assert_eq!(store.verify(&stream(run)).await.unwrap().seq, head.seq + 1);
            let events = store.read(&stream(run), head.seq - 1).await.unwrap();
            assert_eq!(events[0].hash, head.hash, "the link is the same");
        }
    }
}

#[tokio::test]
async fn what_somebody_still_reads_is_overwritten_when_they_are_done() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("j.db");
    let store = open(&path);
    let (run, words) = talk(&store, 1, 200).await.remove(0);
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
    erase_now(&store, &run).await;
    // It is erased, and everybody else goes on.
    let shown = format!("{:?}", store.read(&stream(&run), 0).await.unwrap());
    assert!(words.iter().all(|word| !shown.contains(word.as_str())));
    store.append(append("other", None, vec![started("1")])).await.unwrap();
    drop(store);
    assert_eq!(left(&path, &words).len(), words.len(), "the reader sees the file as it was");
    reader.execute_batch("COMMIT").unwrap();
    drop(open(&path));
    assert_eq!(left(&path, &words), [] as [&str; 0]);
    assert_eq!(reader.query_row("SELECT count(*) FROM scrubs", [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

/// What keys the digests changes with every erasure: the events that are checked must be those of the same moment.
#[tokio::test]
async fn a_check_sees_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("j.db"));
    let (events, _) = spoken("r", 100);
    let mut head = store.append(append("r", None, events)).await.unwrap();
    for n in 0..60 {
        let change = async {
            store.erase(erase("r", head.seq)).await.unwrap();
            store.append(append("r", None, vec![returned(&n.to_string(), "more")])).await.unwrap()
        };
        let check = async {
            for _ in 0..3 {
                store.verify(&stream("r")).await.unwrap();
            }
        };
        head = tokio::join!(change, check).0;
    }
}

/// Says what runs there are, waits to be told, and appends to one of them.
#[tokio::test]
async fn late_child() {
    let Some((db, run)) = child() else { return };
    let store = open(&db);
    store.append(append(&run, None, vec![started("early")])).await.unwrap();
    say("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let head = store.append(append(&run, None, vec![returned("late", "late")])).await.unwrap();
    assert_eq!(store.verify(&stream(&run)).await.unwrap(), head);
    say(&format!("{:?}", store.read(&stream(&run), 0).await.unwrap()));
}

#[tokio::test]
async fn another_process_has_the_file_open_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("j.db");
    let store = open(&path);
    let (run, words) = talk(&store, 1, 200).await.remove(0);
    let mut helper = Helper::start("it::erasing::late_child", &path, &run);
    assert_eq!(helper.hear().as_deref(), Some("ready"));
    erase_now(&store, &run).await;
    drop(store);
    assert_eq!(left(&path, &words), [] as [&str; 0]);
    helper.tell("go on");
    let seen = helper.hear().unwrap();
    assert!(seen.contains("late") && words.iter().all(|word| !seen.contains(word.as_str())), "{seen}");
    helper.end();
}

/// Where in a log the commits end: a frame that ends one says how large the database is then.
fn commits(log: &[u8]) -> Vec<usize> {
    const FRAME_BYTES: usize = 24 + 4096;
    let frames = log.get(32..).unwrap_or_default().chunks_exact(FRAME_BYTES).zip(1..);
    let commits = frames.filter(|(frame, _)| frame[4..8] != [0; 4]);
    commits.map(|(_, number)| 32 + number * FRAME_BYTES).collect()
}

/// Whoever dies leaves a log that ends with some commit. Of each of them the run is whole.
#[tokio::test]
async fn at_every_commit_of_the_log_a_run_is_erased_or_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("j.db");
    let store = open(&path);
    let runs = talk(&store, 3, 9_000).await;
    let mut stood = Vec::new();
    for (run, _) in &runs {
        stood.push(store.read(&stream(run), 0).await.unwrap());
    }
    // So that the log does not start over.
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
    let log = || fs::read(dir.path().join("j.db-wal")).unwrap();
    let before = commits(&log()).len();
    for (run, _) in &runs {
        erase_now(&store, run).await;
    }
    let (database, log) = (fs::read(&path).unwrap(), log());
    let mut seen = [false; 2];
    for end in &commits(&log)[before - 1..] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.db");
        fs::write(&path, &database).unwrap();
        fs::write(dir.path().join("j.db-wal"), &log[..*end]).unwrap();
        let store = open(&path);
        let mut erased = 0;
        for ((run, _), stood) in runs.iter().zip(&stood) {
            store.verify(&stream(run)).await.unwrap();
            let found = store.read(&stream(run), 0).await.unwrap();
            if found != *stood {
                assert!(matches!(found.last().unwrap().body, EventBody::RunErased(_)), "{end}: {found:?}");
                erased += 1;
            }
        }
        seen[0] |= erased == 0;
        seen[1] |= erased == runs.len();
    }
    assert_eq!(seen, [true; 2], "from before the first to behind the last");
}

/// Erases every run there is, and says which. The parent kills it.
#[tokio::test]
async fn erasing_child() {
    let Some((db, _)) = child() else { return };
    let store = open(&db);
    for run in store.runs(RunFilter::default()).await.unwrap() {
        erase_now(&store, run.run.as_str()).await;
        say(run.run.as_str());
    }
    say("all");
}

#[test]
fn killed_anywhere_a_run_is_erased_or_as_it_was() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for kill in 0..12 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.db");
        let store = open(&path);
        // With large bodies, for which an erasure has more to do.
        let runs = runtime.block_on(talk(&store, 12, if kill % 2 == 0 { 100 } else { 9_000 }));
        let stood: Vec<_> =
            runs.iter().map(|(run, _)| runtime.block_on(store.read(&stream(run), 0)).unwrap()).collect();
        drop(store);
        let mut helper = Helper::start("it::erasing::erasing_child", &path, "");
        let mut acknowledged: Vec<_> = (0..kill).map_while(|_| helper.hear()).collect();
        helper.kill();
        acknowledged.extend(std::iter::from_fn(|| helper.hear()));

        let store = open(&path);
        let mut gone = Vec::new();
        for ((run, words), stood) in runs.iter().zip(&stood) {
            runtime.block_on(store.verify(&stream(run))).unwrap();
            let found = runtime.block_on(store.read(&stream(run), 0)).unwrap();
            if found == *stood {
                assert!(!acknowledged.contains(run), "kill {kill}: {run} was said to be erased");
                continue;
            }
            assert!(matches!(found.last().unwrap().body, EventBody::RunErased(_)), "kill {kill}: {found:?}");
            assert_eq!(found.len(), stood.len() + 1, "kill {kill}");
            gone.extend(words.clone());
        }
        drop(store);
        assert_eq!(left(&path, &gone), [] as [&str; 0], "kill {kill}: what the dead left over is done");
    }
}
