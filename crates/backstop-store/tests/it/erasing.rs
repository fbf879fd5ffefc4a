//! What is erased is gone, from every byte of every file, whoever else has them open and whenever somebody dies.

use super::sample::{append, erase, spoken, stream};
use backstop_journal::Journal;
use backstop_store::{SqliteStore, StoreOptions};
use std::fs;
use std::path::Path;

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, StoreOptions::default()).unwrap()
}

/// Those of the words that stand anywhere in the database, its log, or what lies beside them.
fn left<'a>(path: &Path, words: &'a [String]) -> Vec<&'a str> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let files = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let ours =
        files.filter(|file| file.is_file() && file.file_name().unwrap().to_str().unwrap().starts_with(name));
    let texts: Vec<_> = ours.map(|file| fs::read(file).unwrap()).collect();
    let texts: Vec<_> = texts.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect();
    // An index leaves out the letters that a word has in common with the one before it.
    let stands = |word: &&String| texts.iter().any(|text| text.contains(&word[8..]));
    words.iter().filter(stands).map(String::as_str).collect()
}

#[tokio::test]
async fn nothing_of_it_is_left_in_any_byte_of_the_files() {
    for bytes in [0, 200, 3_000, 20_000] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.db");
        let store = open(&path);
        let (mut texts, mut heads) = (Vec::new(), Vec::new());
        let runs: Vec<_> = (0..12).map(|n| format!("run-{n}-{bytes}")).collect();
        let spoken: Vec<_> = runs.iter().map(|run| spoken(run, bytes)).collect();
        for n in 0..spoken[0].0.len() {
            for (run, (events, _)) in runs.iter().zip(&spoken) {
                store.append(append(run, None, vec![events[n].clone()])).await.unwrap();
            }
        }
        for (run, (_, words)) in runs.iter().zip(&spoken) {
            texts.extend(words.clone());
            heads.push(store.verify(&stream(run)).await.unwrap());
        }
        store.flush().await.unwrap();
        assert_eq!(left(&path, &texts).len(), texts.len(), "they stand there before");
        let mut store = store;
        for n in (0..12).map(|n| n * 7 % 12) {
            store.erase(erase(&runs[n], heads[n].seq)).await.unwrap();
            drop(store);
            assert_eq!(left(&path, &spoken[n].1), [] as [&str; 0], "{bytes} bytes, {}", runs[n]);
            store = open(&path);
        }
        for (run, head) in runs.iter().zip(&heads) {
            assert_eq!(store.verify(&stream(run)).await.unwrap().seq, head.seq + 1);
            let events = store.read(&stream(run), 0).await.unwrap();
            assert_eq!(events[events.len() - 2].hash, head.hash);
        }
    }
}

#[tokio::test]
async fn stress() {
    let mut holes = 0;
    for seed in 0..30_u64 {
        let random = backstop_call::Seed::new(seed);
        let next = |n: u64| random.next_u64() % n;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.db");
        let mut store = open(&path);
        let count = 20;
        let runs: Vec<_> = (0..count).map(|n| format!("run-{n}-{seed}")).collect();
        let spoken: Vec<_> =
            runs.iter().map(|run| spoken(run, [0, 30, 100, 400, 1500][next(5) as usize] as usize)).collect();
        let mut at: Vec<usize> = vec![0; count];
        let total = spoken[0].0.len();
        while at.iter().any(|n| *n < total) {
            let run = next(count as u64) as usize;
            if at[run] < total {
                store.append(append(&runs[run], None, vec![spoken[run].0[at[run]].clone()])).await.unwrap();
                at[run] += 1;
            }
        }
        let mut order: Vec<usize> = (0..count).collect();
        for i in (1..count).rev() {
            order.swap(i, next(i as u64 + 1) as usize);
        }
        for n in order {
            let head = store.verify(&stream(&runs[n])).await.unwrap();
            store.erase(erase(&runs[n], head.seq)).await.unwrap();
            drop(store);
            let l = left(&path, &spoken[n].1);
            if !l.is_empty() {
                holes += 1;
                println!("HOLE seed {seed} run {n}: {}", l.len());
            }
            store = open(&path);
        }
    }
    assert_eq!(holes, 0);
}
