//! What the SQLite tools change: what they show is what they do, and what they undo is undone.

use crate::sqlite::{Shop, statements};
use backstop_agent::{Probe, ToolError, ToolOutput};
use backstop_label::Effect;
use backstop_tools::sqlite::SqliteGrant;
use expect_test::expect;
use serde_json::json;

#[tokio::test]
async fn a_change_is_shown_made_and_undone_exactly() {
    let shop = Shop::new();
    let before = shop.dump();
    let args = json!({"database": "shop.db", "statements": [
        {"sql": "UPDATE orders SET status = ?, note = x'01' WHERE id = ?", "params": ["do\u{202e}ne", 1]},
        {"sql": "INSERT INTO orders (status, total) VALUES ('fresh', 1e300)"},
        {"sql": "DELETE FROM orders WHERE id = 2"},
        {"sql": "UPDATE items SET name = 'PEN' WHERE name = 'pen'"},
    ]});
    let (job, plan) = shop.plan(&args).await.unwrap();
    expect![[r#"
        shop.db, in one transaction:
          UPDATE orders SET status = ?, note = x'01' WHERE id = ?
            with "do\u{202e}ne", 1
          INSERT INTO orders (status, total) VALUES ('fresh', 1e300)
          DELETE FROM orders WHERE id = 2
          UPDATE items SET name = 'PEN' WHERE name = 'pen'

        items: 1 inserted, 2 deleted
          + order_id=1 name='PEN' amount=2
          - order_id=1 name='Pen' amount=2
          - order_id=2 name='pad' amount=1.0

        log: 1 inserted
          + id=1 what='open>do\u{202e}ne'

        orders: 1 inserted, 1 updated, 1 deleted
          ~ id=1  status: 'open' -> 'do\u{202e}ne', note: (blob of 2 bytes) -> (blob of 1 bytes)
          + id=4 status='fresh' total=1e300 note=NULL
          - id=2 status='paid' total=0.1 note=NULL

        Can be undone."#]]
    .assert_eq(&plan.preview);
    assert_eq!((plan.touches.as_deref(), plan.effect), (Some("shop.db"), None));
    assert_eq!(shop.dump(), before, "planning changed nothing");
    assert_eq!(shop.probe(&job).await, Probe::DidNot);
    let told = shop.run(&job).await.unwrap();
    assert_eq!(
        told,
        "Done in shop.db: items: 1 inserted, 2 deleted (new: order_id=1 name='PEN'); log: 1 inserted (new: id=1); \
         orders: 1 inserted, 1 updated, 1 deleted (new: id=4)."
    );
    assert_eq!(shop.probe(&job).await, Probe::Happened(ToolOutput::text(told)));
    let after = shop.dump();
    assert!(after.contains("fresh") && after.contains("do\\u{202e}ne") && !after.contains("paid"), "{after}");
    let again = shop.run(&job).await.unwrap_err();
    assert_eq!(again, ToolError::Failed("It is done already; nothing was changed.".to_owned()));
    assert_eq!(shop.undo(&plan).await.unwrap(), "Put 7 rows of shop.db back as they were.");
    assert_eq!(shop.dump(), before);
    assert_eq!(shop.undo(&plan).await.unwrap_err(), "The rows are back already; there is nothing to undo.");
    assert_eq!(shop.probe(&job).await, Probe::DidNot);
}

#[tokio::test]
async fn the_rows_that_were_shown_are_made_though_the_statement_would_give_others_now() {
    let shop = Shop::new();
    let (job, plan) = shop
        .plan(&statements(&[
            "INSERT INTO log (what) SELECT hex(randomblob(8)) || datetime('now', 'subsec') FROM orders",
        ]))
        .await
        .unwrap();
    shop.run(&job).await.unwrap();
    let rows: Vec<String> = {
        let connection = shop.open();
        let mut statement = connection.prepare("SELECT what FROM log ORDER BY id").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| plan.preview.contains(row)), "{rows:?} {}", plan.preview);
}

#[tokio::test]
async fn what_somebody_else_changed_is_not_overwritten_nor_undone() {
    let shop = Shop::new();
    let (job, plan) =
        shop.plan(&statements(&["UPDATE orders SET total = total + 1 WHERE id = 2"])).await.unwrap();
    shop.open().execute_batch("UPDATE orders SET total = 5 WHERE id = 2").unwrap();
    let theirs = shop.dump();
    let conflict = |expected: &str, there: &str| {
        format!(
            "`shop.db` was changed by somebody else in between; nothing was changed. orders id=2: expected id=2 status='paid' \
             total={expected} note=NULL; there is {there}. Look again, then decide."
        )
    };
    let row = |total: &str| format!("id=2 status='paid' total={total} note=NULL");
    let want = conflict("0.1", &row("5.0"));
    assert_eq!(shop.run(&job).await, Err(ToolError::Failed(want)));
    assert!(matches!(shop.probe(&job).await, Probe::Unsure(_)));
    assert_eq!(shop.dump(), theirs);
    shop.open()
        .execute_batch("DELETE FROM log; UPDATE orders SET total = 0.1 WHERE id = 2; DELETE FROM log")
        .unwrap();
    shop.run(&job).await.unwrap();
    shop.open().execute_batch("DELETE FROM orders WHERE id = 2").unwrap();
    let theirs = shop.dump();
    assert_eq!(shop.undo(&plan).await, Err(conflict("1.1", "no such row")));
    assert_eq!(shop.dump(), theirs);
}

#[tokio::test]
async fn an_undo_leaves_nothing_that_refers_to_what_is_gone() {
    let shop = Shop::new();
    let (job, plan) =
        shop.plan(&statements(&["INSERT INTO orders (id, status) VALUES (9, 'nine')"])).await.unwrap();
    shop.run(&job).await.unwrap();
    shop.open().execute_batch("INSERT INTO items VALUES (9, 'theirs', 1)").unwrap();
    let theirs = shop.dump();
    assert!(shop.undo(&plan).await.unwrap_err().contains("rows would refer to others that are gone"));
    assert_eq!(shop.dump(), theirs);
}

#[tokio::test]
async fn what_cannot_be_put_back_is_said_and_raised() {
    let shop = Shop::new();
    for (sql, destroys, undoable) in [
        (&["UPDATE orders SET total = 1 WHERE id = 1"][..], "", true),
        (&["INSERT INTO orders (status) VALUES ('x')"], "", true),
        (&["INSERT OR REPLACE INTO tags VALUES ('new', 'x')"], "", true),
        (&["UPDATE orders SET total = 1 WHERE id = 77"], "", false),
        (&["INSERT INTO plain VALUES (3)"], "", false),
        (&["CREATE TABLE fresh (x)"], "", false),
        (&["CREATE INDEX i ON orders (total)", "INSERT INTO orders (status) VALUES ('x')"], "", false),
        (&["DELETE FROM log"], "DELETE without WHERE", false),
        (&["UPDATE tags SET rowid = 'x'"], "DELETE|UPDATE", true),
        (&["DELETE FROM tags WHERE tag > ''"], "every row of tags", true),
        (&["DELETE FROM plain WHERE x = 1"], "rows of plain, which cannot be put back", false),
        (&["UPDATE plain SET x = 1 WHERE x = 2"], "rows of plain, which cannot be put back", false),
        (&["DROP TABLE plain"], "DROP TABLE plain", false),
        (&["DROP TRIGGER told"], "DROP TRIGGER told", false),
        (&["ALTER TABLE tags ADD COLUMN more"], "ALTER TABLE tags", false),
        (&["ALTER TABLE tags RENAME TO names"], "ALTER TABLE tags", false),
        (
            &["CREATE TRIGGER bad AFTER INSERT ON log BEGIN DELETE FROM orders; END"],
            "CREATE TRIGGER bad",
            false,
        ),
        (&["PRAGMA user_version = 7"], "PRAGMA user_version = 7", false),
    ] {
        let before = shop.dump();
        let (_, plan) = shop.plan(&statements(sql)).await.unwrap();
        assert_eq!(shop.dump(), before, "{sql:?}");
        let want = (!destroys.is_empty()).then_some(Effect::Destructive);
        assert_eq!((plan.effect, plan.undo.is_some()), (want, undoable), "{sql:?}: {}", plan.preview);
        let told = destroys.split('|').any(|destroys| plan.preview.contains(destroys));
        assert!(told, "{sql:?}: {}", plan.preview);
    }
    for (sql, want) in [
        ("VACUUM", "cannot VACUUM from within a transaction"),
        ("ATTACH 'x.db' AS x", "Refused: another database cannot be attached"),
        ("COMMIT", "Refused: the call is one transaction already"),
        ("PRAGMA journal_mode = OFF", "Refused: PRAGMA journal_mode is not taken back with a transaction"),
        ("PRAGMA writable_schema = 1", "Refused: PRAGMA writable_schema"),
        ("UPDATE sqlite_schema SET sql = ''", "table sqlite_master may not be modified"),
        ("CREATE TEMP TABLE t AS SELECT 1", "Refused: nothing temporary outlives the call"),
        ("INSERT INTO orders (status) VALUES ('open')", "UNIQUE constraint failed: orders.status"),
        ("DELETE FROM orders WHERE", "incomplete input"),
    ] {
        let before = shop.dump();
        let refused = shop.plan(&statements(&["DELETE FROM log WHERE 0", sql])).await.unwrap_err();
        assert!(refused.starts_with("Statement 2: ") && refused.contains(want), "{sql}: {refused}");
        assert_eq!(shop.dump(), before, "{sql}");
    }
}

#[tokio::test]
async fn changes_that_are_more_than_rows_are_run_as_they_were_shown_and_probed_by_the_schema() {
    let shop = Shop::new();
    let sql = [
        "CREATE TABLE fresh (x)",
        "INSERT INTO fresh VALUES (1), (2)",
        "UPDATE plain SET x = x + 1 WHERE x = 2",
    ];
    let (job, plan) = shop.plan(&statements(&sql)).await.unwrap();
    assert!(plan.preview.contains("\n+ CREATE TABLE fresh (x)\n"), "{}", plan.preview);
    assert!(plan.preview.ends_with("Cannot be undone."));
    assert_eq!(shop.probe(&job).await, Probe::DidNot);
    shop.open().execute_batch("INSERT INTO plain VALUES (2)").unwrap();
    let before = shop.dump();
    let changed = shop.run(&job).await.unwrap_err().to_string();
    assert!(changed.contains("another number of rows than was shown; nothing was changed"), "{changed}");
    assert_eq!(shop.dump(), before);
    shop.open().execute_batch("DELETE FROM plain WHERE rowid = 3").unwrap();
    let told = shop.run(&job).await.unwrap();
    assert_eq!(
        told,
        "Done in shop.db: rows changed by each statement: 0, 2, 1; schema: 0 definitions gone, 1 new."
    );
    assert_eq!(shop.probe(&job).await, Probe::Happened(ToolOutput::text(told)));
    let again = shop.run(&job).await.unwrap_err().to_string();
    assert!(again.contains("its schema is another; nothing was changed"), "{again}");
    let (plain, _) = shop.plan(&statements(&["INSERT INTO plain VALUES (9)"])).await.unwrap();
    assert_eq!(
        shop.probe(&plain).await,
        Probe::Unsure("none of the rows that it changes is known".to_owned())
    );
    let (nothing, _) = shop.plan(&statements(&["DELETE FROM log WHERE id = 99"])).await.unwrap();
    assert_eq!(shop.run(&nothing).await.unwrap(), "Done in shop.db: no row fits, so nothing changes.");
}

#[tokio::test]
async fn rows_beyond_what_is_kept_or_compared_are_not_followed() {
    let grant = SqliteGrant { files: vec!["*.db".into()], write: true, ..SqliteGrant::default() };
    for (grant, why) in [
        (SqliteGrant { compare_max_rows: 2, ..grant.clone() }, "it has too many rows to be compared"),
        (SqliteGrant { undo_max_rows: 0, ..grant.clone() }, "too many rows change for them to be kept"),
        (SqliteGrant { undo_max_bytes: 10, ..grant }, "too many rows change for them to be kept"),
    ] {
        let shop = Shop::with(&grant);
        let (job, plan) =
            shop.plan(&statements(&["UPDATE orders SET total = 7 WHERE id = 1"])).await.unwrap();
        assert!(
            plan.preview.contains(&format!("orders: not shown row by row, because {why}")),
            "{}",
            plan.preview
        );
        assert_eq!((plan.effect, plan.undo), (Some(Effect::Destructive), None));
        shop.run(&job).await.unwrap();
        assert!(shop.dump().contains("Real(7.0)"));
    }
    let odd = Shop::new();
    odd.open().execute_batch("CREATE TABLE k (a TEXT PRIMARY KEY, b); INSERT INTO k VALUES (NULL, 1), ('x', CAST(x'ff' AS TEXT))").unwrap();
    let (_, plan) = odd.plan(&statements(&["INSERT INTO k VALUES ('y', 1)"])).await.unwrap();
    assert!(plan.preview.contains("k: not shown row by row, because a part of a primary key is NULL"));
    odd.open().execute_batch("DELETE FROM k WHERE a IS NULL").unwrap();
    let (_, plan) = odd.plan(&statements(&["DELETE FROM k WHERE a = 'x'"])).await.unwrap();
    assert!(plan.preview.contains("k: not shown row by row, because a text is no UTF-8"), "{}", plan.preview);
}

#[tokio::test]
async fn tables_of_modules_can_be_read_and_written_but_not_undone() {
    let shop = Shop::new();
    shop.open()
        .execute_batch(
            "CREATE VIRTUAL TABLE words USING fts5 (text);
             CREATE VIRTUAL TABLE places USING rtree (id, x0, x1);
             CREATE TRIGGER indexed AFTER INSERT ON log BEGIN INSERT INTO words VALUES (new.what); END;
             INSERT INTO words VALUES ('the first');",
        )
        .unwrap();
    let sql = ["INSERT INTO log (what) VALUES ('the second')", "INSERT INTO places VALUES (1, 0.0, 2.0)"];
    let (job, plan) = shop.plan(&statements(&sql)).await.unwrap();
    assert!(
        plan.preview.contains("words: not shown row by row, because it is no ordinary table"),
        "{}",
        plan.preview
    );
    assert!(plan.preview.contains("+ id=1 what='the second'") && plan.undo.is_none(), "{}", plan.preview);
    assert_eq!(shop.probe(&job).await, Probe::DidNot, "the rows that are known tell of the others");
    shop.run(&job).await.unwrap();
    assert!(matches!(shop.probe(&job).await, Probe::Happened(_)));
    let found = shop.query("SELECT text FROM words WHERE words MATCH 'second'").await.unwrap();
    assert_eq!(found, "[\"text\"]\n[\"the second\"]");
    assert_eq!(shop.query("SELECT id FROM places WHERE x1 > 1").await.unwrap(), "[\"id\"]\n[1]");
    let shadow =
        shop.plan(&statements(&["UPDATE words_content SET c0 = 'x' WHERE id = 1"])).await.unwrap_err();
    assert!(shadow.contains("table words_content may not be modified"), "{shadow}");
    for sql in [
        "UPDATE words_content SET c0 = 'x'",
        "DELETE FROM places_node",
        "DELETE FROM places",
        "DELETE FROM words",
    ] {
        let refused = shop.query(sql).await.unwrap_err();
        let why = ["a query only reads;", "may not be modified", "A query only reads;"];
        assert!(why.iter().any(|why| refused.contains(why)), "{sql}: {refused}");
    }
}
