//! The SQLite tools among crashes and other writers: a change is there or it is not, and the probe knows; any sequence of
//! changes is taken back.

use crate::kit::Room;
use crate::sqlite::{Shop, statements, tools};
use backstop_agent::tool::Job;
use backstop_agent::{Probe, ToolContext, Workspace};
use backstop_tools::sqlite::SqliteGrant;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// Small numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn random_statement(dice: &mut Dice) -> String {
    let (a, b) = (dice.roll(6) + 1, dice.roll(6) + 1);
    match dice.roll(12) {
        0 => format!("INSERT OR IGNORE INTO orders (status, total) VALUES ('s{a}', {b} / 7.0)"),
        1 => format!("INSERT OR REPLACE INTO orders (id, status, total) VALUES ({a}, 's{b}', NULL)"),
        2 => format!("DELETE FROM orders WHERE id = {a}"),
        3 => format!("UPDATE OR IGNORE orders SET status = 's{a}', note = randomblob({b}) WHERE id = {b}"),
        4 => format!("UPDATE orders SET status = CASE id WHEN {a} THEN 't' || random() ELSE status END"),
        5 => format!("INSERT OR REPLACE INTO items SELECT id, 'N{a}', {b}.5 FROM orders LIMIT 2"),
        6 => format!("UPDATE OR REPLACE items SET name = 'n{a}' WHERE amount > {b}"),
        7 => format!("DELETE FROM items WHERE order_id = {a}"),
        8 => format!("INSERT OR REPLACE INTO tags VALUES ('t{a}', '{b}')"),
        9 => format!("UPDATE OR REPLACE tags SET tag = 't{a}' WHERE tag <> 't{b}'"),
        10 => "DELETE FROM tags".to_owned(),
        _ => format!("UPDATE OR IGNORE orders SET id = id + {a} WHERE id > {b}"),
    }
}

#[tokio::test]
async fn undone_newest_first_a_database_is_what_it_was() {
    let shop = Shop::new();
    let mut dice = Dice(4);
    for round in 0..40 {
        let start = shop.dump();
        let mut done = Vec::new();
        for _ in 0..=dice.roll(4) {
            let sql: Vec<_> = (0..=dice.roll(3)).map(|_| random_statement(&mut dice)).collect();
            let sql: Vec<_> = sql.iter().map(String::as_str).collect();
            let before = shop.dump();
            // Some fail, by a constraint: then nothing is planned.
            let Ok((job, plan)) = shop.plan(&statements(&sql)).await else { continue };
            shop.run(&job)
                .await
                .unwrap_or_else(|error| panic!("round {round} {sql:?}: {error}\n{}", plan.preview));
            assert!(matches!(shop.probe(&job).await, Probe::Happened(_)), "round {round} {sql:?}");
            if plan.undo.is_some() {
                done.push((plan, before));
            } else {
                assert_eq!(shop.dump(), before, "round {round} {sql:?}: what changes nothing has no undo");
            }
        }
        if round % 3 == 0 {
            continue;
        }
        for (plan, before) in done.iter().rev() {
            shop.undo(plan).await.unwrap_or_else(|error| panic!("round {round}: {error}\n{}", plan.preview));
            assert_eq!(&shop.dump(), before, "round {round}: {}", plan.preview);
        }
        assert_eq!(shop.dump(), start, "round {round}");
    }
}

#[tokio::test]
async fn a_crash_in_the_middle_is_rolled_back_before_it_is_asked_about() {
    let shop = Shop::new();
    let (job, _) = shop.plan(&statements(&["UPDATE orders SET total = 7 WHERE id = 1"])).await.unwrap();
    let before = shop.dump();
    // The files of a process that died after it wrote to the database and before it committed.
    let dying = shop.open();
    dying.execute_batch("PRAGMA cache_size = 1; BEGIN; UPDATE orders SET total = 7 WHERE id = 1").unwrap();
    dying.cache_flush().unwrap();
    let copies: Vec<_> = ["shop.db", "shop.db-journal"]
        .map(|name| (name, std::fs::read(shop.room.path().join(name)).unwrap()))
        .into();
    drop(dying);
    for (name, bytes) in &copies {
        std::fs::write(shop.room.path().join(name), bytes).unwrap();
    }
    let told = shop.query("SELECT total FROM orders WHERE id = 1").await.unwrap_err();
    assert!(told.contains("a program died while it wrote to it"), "{told}");
    assert_eq!(shop.probe(&job).await, Probe::DidNot);
    assert_eq!(shop.dump(), before);
}

/// Where the other process of the next test finds its job.
const JOB_DIR: &str = "BACKSTOP_TEST_SQLITE_JOB_DIR";

/// Not a test by itself: the process that the next one kills.
#[tokio::test]
async fn process_that_is_killed() {
    let Ok(dir) = std::env::var(JOB_DIR) else { return };
    let room = Room::new(&[]);
    let workspace = Some(Arc::new(Workspace::open(Path::new(&dir)).unwrap()));
    let context = ToolContext { workspace, ..room.context.clone() };
    let job: Value =
        serde_json::from_slice(&std::fs::read(Path::new(&dir).join("job.json")).unwrap()).unwrap();
    let job = Job { args: job["args"].clone(), plan: job["plan"].clone(), key: "k".into() };
    let grant = SqliteGrant { files: vec!["*.db".into()], write: true, ..SqliteGrant::default() };
    tools(&grant)["sqlite_execute"].run(&job, &context).await.unwrap();
}

#[tokio::test]
async fn killed_in_the_middle_a_change_is_there_or_not_and_the_probe_knows() {
    let shop = Shop::new();
    let journal = shop.room.path().join("shop.db-journal");
    let mut killed = 0;
    for round in 0..12 {
        let sql = format!("UPDATE orders SET total = {round} + 0.25, note = randomblob(200000) WHERE id < 3");
        let (job, _) = shop.plan(&statements(&[&sql])).await.unwrap();
        let before = shop.dump();
        let written = json!({"args": job.args, "plan": job.plan}).to_string();
        std::fs::write(shop.room.path().join("job.json"), written).unwrap();
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sqlite_crash::process_that_is_killed"])
            .env(JOB_DIR, shop.room.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while child.try_wait().unwrap().is_none() {
            if journal.exists() {
                // Every other time some way further.
                let looks = (round % 4) * 50;
                let is_there = (0..looks).all(|_| journal.exists());
                killed += u32::from(is_there);
                child.kill().unwrap();
                child.wait().unwrap();
                break;
            }
            std::thread::yield_now();
        }
        match shop.probe(&job).await {
            Probe::DidNot => {
                assert_eq!(shop.dump(), before, "round {round}");
                shop.run(&job).await.unwrap();
            }
            Probe::Happened(_) => assert_ne!(shop.dump(), before, "round {round}"),
            Probe::Unsure(why) => panic!("round {round}: {why}"),
        }
        assert!(shop.dump().contains(&format!("Real({round}.25)")), "round {round}");
        assert!(matches!(shop.probe(&job).await, Probe::Happened(_)), "round {round}");
    }
    assert!(killed > 0, "none was killed in the middle");
}

#[tokio::test]
async fn a_database_in_wal_mode_and_one_in_use() {
    let grant =
        SqliteGrant { files: vec!["*.db".into()], write: true, timeout_seconds: 1, ..SqliteGrant::default() };
    let shop = Shop::with(&grant);
    shop.open().execute_batch("PRAGMA journal_mode = WAL").unwrap();
    let args = statements(&["UPDATE orders SET total = 7 WHERE id = 1"]);
    let (job, plan) = shop.plan(&args).await.unwrap();
    assert_eq!(shop.query("SELECT total FROM orders WHERE id = 1").await.unwrap(), "[\"total\"]\n[9.5]");
    shop.run(&job).await.unwrap();
    let other = shop.open();
    other.execute_batch("BEGIN IMMEDIATE; UPDATE orders SET total = 8 WHERE id = 2").unwrap();
    assert_eq!(shop.query("SELECT total FROM orders WHERE id = 1").await.unwrap(), "[\"total\"]\n[7.0]");
    for refused in [shop.plan(&args).await.map(drop), shop.undo(&plan).await.map(drop)] {
        let refused = refused.unwrap_err();
        assert_eq!(refused, "`shop.db` is in use by another program; nothing was changed. Try again later.");
    }
    other.execute_batch("ROLLBACK").unwrap();
    shop.undo(&plan).await.unwrap();
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_commits_nothing() {
    let shop = Shop::new();
    let (job, _) = shop.plan(&statements(&["UPDATE orders SET total = 7 WHERE id = 1"])).await.unwrap();
    let before = shop.dump();
    let holding = shop.open();
    holding.execute_batch("BEGIN IMMEDIATE").unwrap();
    let abandoned = tokio::time::timeout(std::time::Duration::from_millis(50), shop.run(&job)).await;
    assert!(abandoned.is_err(), "it waits for the lock");
    holding.execute_batch("ROLLBACK").unwrap();
    // Whoever writes next comes after it, whatever it did.
    assert_eq!(shop.dump(), before);
    let (job, _) = shop.plan(&statements(&["UPDATE orders SET total = 8 WHERE id = 1"])).await.unwrap();
    shop.run(&job).await.unwrap();
    assert!(shop.dump().contains("Real(8.0)"));
}
