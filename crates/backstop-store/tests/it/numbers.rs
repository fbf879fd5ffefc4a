//! The numbers in the file: counted once by many, and after any kill the same as from scratch.

use super::sample::{Helper, append, at, child, created, over, returned, say, started};
use backstop_journal::event::RunStatus;
use backstop_journal::projections::numbers::{
    Batch, By, Cell, Family, Fold, Grain, Kept, Slice, Table, Window,
};
use backstop_journal::{Append, Durability, Journal, Tally};
use backstop_store::{SqliteStore, StoreOptions};

fn open(path: &std::path::Path) -> SqliteStore {
    SqliteStore::open(path, StoreOptions::default()).unwrap()
}

fn slices() -> Vec<Slice> {
    let slice = |grain| Slice { grain, since: at(0), until: at(1_000_000), families: Family::ALL };
    Grain::ALL.map(slice).into()
}

/// What the whole journal comes to, folded from its first event.
async fn from_scratch(store: &SqliteStore) -> Vec<Cell> {
    let (mut fold, mut batch, mut table) = (Fold::default(), Batch::default(), Table::default());
    let events = store.tail(0, 1_000_000).await.unwrap();
    for event in &events {
        fold.apply(event, &mut batch);
    }
    table.add(&batch);
    slices()
        .iter()
        .flat_map(|slice| table.range(slice.grain, slice.since, slice.until).collect::<Vec<_>>())
        .collect()
}

/// Makes runs and counts without end, and says when it has counted. The parent kills it.
#[tokio::test]
async fn counting_child() {
    let Some((db, run)) = child() else { return };
    let store = open(&db);
    let counting = store.clone();
    let count = tokio::spawn(async move {
        loop {
            let position = counting.catch_up(at(500), Kept::default()).await.unwrap();
            if position > 0 {
                say(&position.to_string());
            }
            tokio::task::yield_now().await;
        }
    });
    for n in 0_u64.. {
        let name = format!("{run}-{n}");
        let events = vec![created(&format!("agent-{}", n % 7)), started("t"), returned("t", "x")];
        drop(store.append(Append { durability: Durability::Queued, ..append(&name, None, events) }));
        let end = Append { at: at(100 + n), ..append(&name, None, vec![over(RunStatus::Done)]) };
        store.append(end).await.unwrap();
        assert!(!count.is_finished());
    }
}

#[test]
fn killed_at_any_commit_the_numbers_are_those_of_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("j.db");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for kill in 0..15 {
        let mut helpers: Vec<_> = (0..2)
            .map(|one| Helper::start("it::numbers::counting_child", &db, &format!("run-{kill}-{one}")))
            .collect();
        for _ in 0..=kill {
            for helper in &mut helpers {
                helper.hear().unwrap();
            }
        }
        helpers.iter_mut().for_each(Helper::kill);
        let store = open(&db);
        runtime.block_on(async {
            let end = store.tail(0, 1_000_000).await.unwrap().last().unwrap().position;
            assert_eq!(store.catch_up(at(500), Kept::default()).await.unwrap(), end);
            let found = store.cells(slices()).await.unwrap();
            assert!(found == from_scratch(&store).await, "kill {kill}");
        });
    }
}

/// Two processes, each with a memory of its own of what runs said, count turn by turn and at once.
#[tokio::test(flavor = "multi_thread")]
async fn many_may_count_and_every_event_is_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("j.db");
    let stores = [open(&db), open(&db), open(&db)];
    for round in 0..30 {
        for (number, store) in stores.iter().enumerate() {
            let name = format!("r{number}-{}", round / 3);
            let events = match round % 3 {
                0 => vec![created("a"), started("t")],
                1 => vec![returned("t", "x")],
                _ => vec![over(RunStatus::Done)],
            };
            store.append(append(&name, None, events)).await.unwrap();
        }
        let counting = stores.each_ref().map(|store| {
            let store = store.clone();
            tokio::spawn(async move { store.catch_up(at(500), Kept::default()).await.unwrap() })
        });
        for count in counting {
            count.await.unwrap();
        }
    }
    let cells = stores[0].cells(slices()).await.unwrap();
    let whole: Vec<_> = cells.iter().filter(|cell| cell.grain == Grain::Whole).cloned().collect();
    let figures = &Window::of(By::All, (at(0), at(1)), &whole).rows[0].figures;
    assert_eq!((figures.runs_created, figures.tools_ok, figures.ended("done")), (30, 30, 30));
    assert_eq!(cells, from_scratch(&stores[1]).await);
}
