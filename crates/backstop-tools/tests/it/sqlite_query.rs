//! What the SQLite tools read: rows and nothing else, bounded, from granted files only.

use crate::sqlite::Shop;
use backstop_tools::sqlite::SqliteGrant;
use expect_test::{Expect, expect};
use rusqlite::Connection;
use serde_json::json;
use std::os::unix::fs::symlink;

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
        "SELECT data FROM sqlite_dbpage",
        "UPDATE sqlite_dbpage SET data = zeroblob(4096)",
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
