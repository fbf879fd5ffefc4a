//! The SQLite tools on real files: what their tests share, and what they declare and are granted.

use crate::kit::Room;
use backstop_agent::tool::Job;
use backstop_agent::{Plan, Probe, Tool, ToolError};
use backstop_label::{Class, Effect};
use backstop_tools::sqlite::{SqliteGrant, SqliteGrantError, sqlite_tools};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

pub(crate) const SHOP: &str = "
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

pub(crate) struct Shop {
    pub(crate) room: Room,
    pub(crate) tools: BTreeMap<String, Arc<dyn Tool>>,
}

impl Shop {
    pub(crate) fn new() -> Self {
        Self::with(&SqliteGrant {
            files: vec!["*.db".into(), "data/**".into()],
            write: true,
            ..SqliteGrant::default()
        })
    }

    pub(crate) fn with(grant: &SqliteGrant) -> Self {
        let room = Room::new(&[]);
        let shop = Self { tools: tools(grant), room };
        shop.open().execute_batch(SHOP).unwrap();
        shop
    }

    pub(crate) fn open(&self) -> Connection {
        Connection::open(self.room.path().join("shop.db")).unwrap()
    }

    /// Everything that is in it.
    pub(crate) fn dump(&self) -> String {
        dump(&self.open())
    }

    pub(crate) fn execute(&self) -> &Arc<dyn Tool> {
        &self.tools["sqlite_execute"]
    }

    pub(crate) async fn query(&self, sql: &str) -> Result<String, String> {
        self.room.call(&self.tools["sqlite_query"], json!({"database": "shop.db", "sql": sql})).await
    }

    pub(crate) async fn plan(&self, args: &Value) -> Result<(Job, Plan), String> {
        let plan = self.room.plan(self.execute(), args).await?;
        // As a journal keeps it.
        let body = serde_json::from_str(&plan.body.to_string()).unwrap();
        Ok((Job { args: args.clone(), plan: body, key: "k".into() }, plan))
    }

    pub(crate) async fn run(&self, job: &Job) -> Result<String, ToolError> {
        self.room.run(self.execute(), job).await
    }

    pub(crate) async fn probe(&self, job: &Job) -> Probe {
        self.execute().probe(job, &self.room.context).await
    }

    /// Undoes a call, as a run does.
    pub(crate) async fn undo(&self, plan: &Plan) -> Result<String, String> {
        let args = serde_json::from_str(&plan.undo.as_ref().unwrap().to_string()).unwrap();
        self.room.call(&self.execute().undoing().unwrap(), args).await
    }
}

pub(crate) fn tools(grant: &SqliteGrant) -> BTreeMap<String, Arc<dyn Tool>> {
    sqlite_tools(grant).unwrap().into_iter().map(|tool| (tool.spec().name, tool)).collect()
}

pub(crate) fn statements(sql: &[&str]) -> Value {
    let statements: Vec<_> = sql.iter().map(|sql| json!({"sql": sql})).collect();
    json!({"database": "shop.db", "statements": statements})
}

pub(crate) fn dump(connection: &Connection) -> String {
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
