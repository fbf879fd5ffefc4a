//! The SQLite tools on real files: what they show is what they do, and what they undo is undone.

use crate::kit::Room;
use backstop_agent::tool::Job;
use backstop_agent::{Plan, Probe, Tool, ToolContext, ToolError, ToolOutput, Workspace};
use backstop_label::{Class, Effect};
use backstop_tools::sqlite::{SqliteGrant, SqliteGrantError, sqlite_tools};
use expect_test::{Expect, expect};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

const SHOP: &str = "
    CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, status TEXT UNIQUE, total REAL, note BLOB,
        doubled AS (total * 2));
    CREATE TABLE items (order_id INTEGER REFERENCES orders ON DELETE CASCADE, name TEXT COLLATE NOCASE, amount,
        PRIMARY KEY (order_id, name)) WITHOUT ROWID;
    CREATE TABLE tags (tag TEXT PRIMARY KEY NOT NULL, rowid TEXT);
    CREATE TABLE log (id INTEGER PRIMARY KEY, what TEXT);
    CREATE TABLE plain (x);
    CREATE TRIGGER told AFTER UPDATE ON orders BEGIN INSERT INTO log (what) VALUES (old.status || '>' || new.status); END;
    CREATE TRIGGER gone AFTER DELETE ON tags BEGIN INSERT INTO log (what) VALUES ('gone ' || old.tag); END;
    INSERT INTO orders (id, status, total, note) VALUES (1, 'open', 9.5, x'00ff'), (2, 'paid', 0.1, NULL), (3, 'sent', -0.0, '');
    INSERT INTO items VALUES (1, 'Pen', 2), (1, 'ink', '2'), (2, 'pad', 1.0);
    INSERT INTO tags VALUES ('new', 'r'), ('old', NULL);
    INSERT INTO plain VALUES (1), (2);
";

struct Shop {
    room: Room,
    tools: BTreeMap<String, Arc<dyn Tool>>,
}

impl Shop {
    fn new() -> Self {
        Self::with(&SqliteGrant {
            files: vec!["*.db".into(), "data/**".into()],
            write: true,
            ..SqliteGrant::default()
        })
    }

    fn with(grant: &SqliteGrant) -> Self {
        let room = Room::new(&[]);
        let shop = Self { tools: tools(grant), room };
        shop.open().execute_batch(SHOP).unwrap();
        shop
    }

    fn open(&self) -> Connection {
        Connection::open(self.room.path().join("shop.db")).unwrap()
    }

    /// Everything that is in it.
    fn dump(&self) -> String {
        dump(&self.open())
    }

    fn execute(&self) -> &Arc<dyn Tool> {
        &self.tools["sqlite_execute"]
    }

    async fn query(&self, sql: &str) -> Result<String, String> {
        self.room.call(&self.tools["sqlite_query"], json!({"database": "shop.db", "sql": sql})).await
    }

    async fn plan(&self, args: &Value) -> Result<(Job, Plan), String> {
        let plan = self.room.plan(self.execute(), args).await?;
        // As a journal keeps it.
        let body = serde_json::from_str(&plan.body.to_string()).unwrap();
        Ok((Job { args: args.clone(), plan: body, key: "k".into() }, plan))
    }

    async fn run(&self, job: &Job) -> Result<String, ToolError> {
        self.room.run(self.execute(), job).await
    }

    async fn probe(&self, job: &Job) -> Probe {
        self.execute().probe(job, &self.room.context).await
    }

    /// Undoes a call, as a run does.
    async fn undo(&self, plan: &Plan) -> Result<String, String> {
        let args = serde_json::from_str(&plan.undo.as_ref().unwrap().to_string()).unwrap();
        self.room.call(&self.execute().undoing().unwrap(), args).await
    }
}

fn tools(grant: &SqliteGrant) -> BTreeMap<String, Arc<dyn Tool>> {
    sqlite_tools(grant).unwrap().into_iter().map(|tool| (tool.spec().name, tool)).collect()
}

fn statements(sql: &[&str]) -> Value {
    let statements: Vec<_> = sql.iter().map(|sql| json!({"sql": sql})).collect();
    json!({"database": "shop.db", "statements": statements})
}

fn dump(connection: &Connection) -> String {
    let mut dump = String::new();
    for (what, sql) in [
        ("schema", "SELECT type, name, sql FROM sqlite_schema ORDER BY name"),
        ("orders", "SELECT rowid, *, typeof(total), typeof(note) FROM orders ORDER BY 1"),
        ("items", "SELECT *, typeof(amount) FROM items ORDER BY 1, 2"),
        ("tags", "SELECT _rowid_, * FROM tags ORDER BY 1"),
        ("log", "SELECT * FROM log ORDER BY 1"),
        ("plain", "SELECT rowid, * FROM plain ORDER BY 1"),
    ] {
        let mut statement = connection.prepare(sql).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let shown = |value: ValueRef<'_>| match value {
                ValueRef::Text(text) => format!("{:?}", String::from_utf8_lossy(text)),
                other => format!("{other:?}"),
            };
            let cells: Vec<_> = (0..columns).map(|at| shown(row.get_ref(at).unwrap())).collect();
            writeln!(dump, "{what} {}", cells.join(" ")).unwrap();
        }
    }
    dump
}

#[tokio::test]
async fn a_query_gives_rows_and_changes_nothing() {
    let shop = Shop::new();
    let before = std::fs::read(shop.room.path().join("shop.db")).unwrap();
    let args = json!({
        "database": "shop.db",
        "sql": "SELECT id, status, total, note, doubled FROM orders WHERE id < ? OR status = ? ORDER BY id; -- all",
        "params": [2, "sent"],
    });
    expect![[r#"
        ["id","status","total","note","doubled"]
        [1,"open",9.5,"(blob of 2 bytes)",19.0]
        [3,"sent",0.0,"",0.0]"#]]
    .assert_eq(&shop.room.call(&shop.tools["sqlite_query"], args).await.unwrap());
    let check = async |sql: &str, want: Expect| {
        want.assert_eq(&shop.query(sql).await.unwrap_or_else(|error| format!("ERROR {error}")));
    };
    check("SELECT id FROM orders WHERE 0", expect!["[\"id\"]\n(no rows)"]).await;
    check(
        "SELECT nothing FROM orders",
        expect![[r#"ERROR SQLite: near "nothing": syntax error (at byte 7). Nothing was changed."#]],
    )
    .await;
    check(
        "SELECT 1; SELECT 2",
        expect![
            "ERROR There is more than one statement in one text. Give each its own. Nothing was changed."
        ],
    )
    .await;
    check(
        "SELECT 1; DROP TABLE log",
        expect![
            "ERROR Refused: a query only reads; to change something, use sqlite_execute. Nothing was changed."
        ],
    )
    .await;
    check(
        "SELECT ?",
        expect!["ERROR The statement takes 1 parameters and 0 are given. Nothing was changed."],
    )
    .await;
    check("-- nothing", expect!["ERROR There is no statement in the text. Nothing was changed."]).await;
    for sql in [
        "DELETE FROM orders",
        "INSERT INTO plain VALUES (1) RETURNING x",
        "WITH a AS (SELECT 1) UPDATE orders SET total = 0",
        "ATTACH 'other.db' AS other",
        "VACUUM",
        "VACUUM INTO 'copy.db'",
        "PRAGMA journal_mode = WAL",
        "PRAGMA query_only = 0",
        "PRAGMA user_version = 1",
        "SELECT load_extension('/tmp/x.so')",
        "COMMIT",
        "CREATE TEMP TABLE t (x)",
    ] {
        let refused = shop.query(sql).await.unwrap_err();
        assert!(
            refused.starts_with("Refused: ") || refused.starts_with("A query only reads;"),
            "{sql}: {refused}"
        );
    }
    let names: Vec<_> =
        std::fs::read_dir(shop.room.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["shop.db"]);
    assert_eq!(std::fs::read(shop.room.path().join("shop.db")).unwrap(), before);
}

#[tokio::test]
async fn a_query_is_bounded_in_memory() {
    let files = vec!["*.db".into()];
    let shop =
        Shop::with(&SqliteGrant { files, max_memory_bytes: 64 * 1024 * 1024, ..SqliteGrant::default() });
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, randomblob(100000) FROM n ORDER BY 2";
    let stopped = shop.query(endless).await.unwrap_err();
    assert!(stopped.starts_with("It took more than 67108864 bytes of memory and was stopped;"), "{stopped}");
    assert!(shop.query("SELECT count(*) FROM orders").await.unwrap().ends_with("[3]"));
}

#[tokio::test]
async fn a_query_is_bounded_in_rows_bytes_and_time() {
    let grant = SqliteGrant {
        files: vec!["*.db".into()],
        query_max_rows: 2,
        query_max_bytes: 100,
        timeout_seconds: 1,
        ..SqliteGrant::default()
    };
    let shop = Shop::with(&grant);
    assert!(!shop.tools.contains_key("sqlite_execute"), "it was not granted");
    let more = "… there are more rows than the 2 that fit here.";
    let rows = shop.query("SELECT id FROM orders ORDER BY id").await.unwrap();
    assert!(rows.starts_with(&format!("[\"id\"]\n[1]\n[2]\n{more}")), "{rows}");
    let wide = shop.query("SELECT printf('%.*c', 90, 'x') AS x FROM orders").await.unwrap();
    assert!(
        wide.starts_with(&format!("[\"x\"]\n[\"{}\"]\n… there are more rows than the 1", "x".repeat(90))),
        "{wide}"
    );
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let stopped = shop.query(endless).await.unwrap_err();
    assert!(
        stopped.starts_with("It took longer than 1 seconds and was stopped; nothing was changed."),
        "{stopped}"
    );
    assert!(shop.query("SELECT zeroblob(100000000)").await.unwrap_err().contains("string or blob too big"));
}

#[tokio::test]
async fn only_granted_files_are_opened_wherever_paths_lead() {
    let shop = Shop::new();
    let outside = tempfile::tempdir().unwrap();
    let root = shop.room.path();
    let secret = outside.path().join("secret.db");
    Connection::open(&secret).unwrap().execute_batch("CREATE TABLE s (x)").unwrap();
    std::fs::create_dir_all(root.join("data/deep")).unwrap();
    std::fs::create_dir(root.join("other")).unwrap();
    for place in ["data/deep/ok.db", "other/no.db", "wal.db", "text.db"] {
        Connection::open(root.join(place)).unwrap().execute_batch("CREATE TABLE s (x)").unwrap();
    }
    std::fs::write(root.join("text.db"), "not a database, but long enough to be looked at as one".repeat(40))
        .unwrap();
    symlink(&secret, root.join("link.db")).unwrap();
    std::fs::hard_link(&secret, root.join("hard.db")).unwrap();
    symlink(outside.path(), root.join("data/out")).unwrap();
    symlink(root.join("other"), root.join("data/sideways")).unwrap();
    symlink("../other", root.join("data/beside")).unwrap();
    symlink(outside.path().join("evil"), root.join("wal.db-wal")).unwrap();
    let open = async |database: &str| {
        let args = json!({"database": database, "sql": "SELECT name FROM sqlite_schema"});
        shop.room
            .call(&shop.tools["sqlite_query"], args)
            .await
            .unwrap_or_else(|error| format!("ERROR {error}"))
    };
    let absolute = root.join("data/deep/ok.db");
    for database in ["data/deep/ok.db", "data/./deep//ok.db", absolute.to_str().unwrap()] {
        assert_eq!(open(database).await, "[\"name\"]\n[\"s\"]", "{database}");
    }
    for (database, want) in [
        ("other/no.db", "`other/no.db` is not granted. Databases you may use: *.db, data/**."),
        ("data/beside/no.db", "`data/beside/no.db` is not granted. Databases you may use: *.db, data/**."),
        (
            "data/sideways/no.db",
            "`data/sideways/no.db` leads outside the workspace. Use a path from the workspace's root, without `..`.",
        ),
        (
            "data/out/secret.db",
            "`data/out/secret.db` leads outside the workspace. Use a path from the workspace's root, without `..`.",
        ),
        (
            "../secret.db",
            "`../secret.db` leads outside the workspace. Use a path from the workspace's root, without `..`.",
        ),
        (secret.to_str().unwrap(), "leads outside the workspace."),
        ("none.db", "There is no database `none.db`. Verify the path with list_files."),
        ("file:shop.db?mode=memory", "There is no database `file:shop.db?mode=memory`."),
        (":memory:", "There is no database `:memory:`."),
        ("", "is a directory, not a regular file"),
        ("data/deep", "is a directory, not a regular file"),
        ("link.db", "is a symbolic link, not a regular file"),
        ("hard.db", "is a hard link, not a regular file"),
        ("wal.db", "is a symbolic link, not a regular file"),
        ("text.db", "`text.db` is no SQLite database, or is encrypted. Use another file."),
    ] {
        let got = open(database).await;
        assert!(got.starts_with("ERROR ") && got.contains(want), "{database}: {got}");
    }
    assert!(!outside.path().join("evil").exists());
}

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
            .args(["--exact", "sqlite::process_that_is_killed"])
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

#[test]
fn declarations_and_grants() {
    let grant = SqliteGrant { files: vec!["*.db".into()], write: true, ..SqliteGrant::default() };
    for (grant, untrusted) in [(grant.clone(), true), (SqliteGrant { trusted: true, ..grant }, false)] {
        let tools = tools(&grant);
        let declared: Vec<_> = tools
            .iter()
            .map(|(name, tool)| {
                let declaration = tool.declaration();
                (&**name, declaration.class, declaration.effect, declaration.output_labels().untrusted)
            })
            .collect();
        let want = [
            ("sqlite_execute", Class::Write, Effect::Write, untrusted),
            ("sqlite_query", Class::Read, Effect::Read, untrusted),
        ];
        assert_eq!(declared, want);
    }
    assert!(sqlite_tools(&SqliteGrant { write: true, ..SqliteGrant::default() }).unwrap().is_empty());
    for pattern in ["/etc/*.db", "../x.db", "a/../b.db", "[x"] {
        let refused =
            sqlite_tools(&SqliteGrant { files: vec![pattern.into()], ..SqliteGrant::default() }).err();
        assert!(
            matches!(&refused, Some(SqliteGrantError::Pattern { pattern: named, .. }) if named == pattern),
            "{pattern}"
        );
    }
    let kebab = json!({"files": ["*.db"], "query-max-rows": 5});
    assert_eq!(serde_json::from_value::<SqliteGrant>(kebab).unwrap().query_max_rows, 5);
    assert!(serde_json::from_value::<SqliteGrant>(json!({"file": "x"})).is_err());
    assert!(Path::new("/proc/self/fd").is_dir(), "what databases are opened through");
}
