//! What a statement may do, and what it would do: SQLite asks before it compiles each step, also those of triggers, views and
//! foreign keys. A table of what is allowed; what is not in it is refused.

use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a statement was compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Query,
    Execute,
}

/// What statements were seen to be about to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Why one was refused: the first reason.
    pub(super) refused: Option<String>,
    /// The tables that are written to.
    pub(super) written: BTreeSet<String>,
    /// Those of them in which rows are changed or deleted.
    pub(super) overwritten: BTreeSet<String>,
    /// What of it destroys something, in words.
    pub(super) destroys: BTreeSet<String>,
    /// Whether it changes more than rows: the schema, or what is kept for the whole database.
    pub(super) beyond_rows: bool,
}

/// Pragmas that only tell something, when they are given no value or the name of a table.
const TELLING: [&str; 24] = [
    "application_id",
    "auto_vacuum",
    "collation_list",
    "compile_options",
    "data_version",
    "encoding",
    "foreign_key_check",
    "foreign_key_list",
    "freelist_count",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "journal_mode",
    "module_list",
    "page_count",
    "page_size",
    "pragma_list",
    "quick_check",
    "schema_version",
    "table_info",
    "table_list",
    "table_xinfo",
];
/// Those of them whose value is what they tell about.
const TELLING_OF: [&str; 9] = [
    "foreign_key_check",
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "quick_check",
    "table_info",
    "table_xinfo",
];
/// Those that are set within the transaction and taken back with it.
const SET_IN_TRANSACTION: [&str; 2] = ["application_id", "user_version"];
/// The pages of the file themselves, past every table and with what was deleted.
const PAGES: &str = "sqlite_dbpage";
/// Functions that reach out of the database.
const REACHING_OUT: [&str; 3] = ["load_extension", "fts3_tokenizer", "sqlite_log"];

/// Watches what a connection compiles from here on.
pub(super) fn watch(connection: &mut Connection, access: Access) -> rusqlite::Result<Arc<Mutex<Seen>>> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let noted = Arc::clone(&seen);
    let shadows = shadows(connection)?;
    connection
        .authorizer(Some(move |asked: AuthContext<'_>| judge(access, &shadows, &asked, &mut lock(&noted))))?;
    Ok(seen)
}

/// The tables in which virtual tables keep what they hold. A module compiles what it may write to them as soon as its table
/// is read; that nothing but a module writes to them is seen to by SQLite's defensive mode.
fn shadows(connection: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_list WHERE type = 'shadow'")?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// Lets a connection compile everything again: what is written here, not by a model.
pub(super) fn unwatch(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)
}

/// A panic elsewhere leaves what was seen as it is.
pub(super) fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn judge(
    access: Access,
    shadows: &BTreeSet<String>,
    asked: &AuthContext<'_>,
    seen: &mut Seen,
) -> Authorization {
    let reason = match (reads(&asked.action), access) {
        (Some(Ok(())), _) => None,
        (Some(Err(reason)), _) => Some(reason),
        (None, Access::Query) if is_within(shadows, &asked.action) => None,
        (None, Access::Query) => {
            Some("a query only reads; to change something, use sqlite_execute".to_owned())
        }
        (None, Access::Execute) => writes(asked, seen).err(),
    };
    let Some(reason) = reason else { return Authorization::Allow };
    seen.refused.get_or_insert(reason);
    Authorization::Deny
}

/// Whether an action writes to one of these tables.
fn is_within(tables: &BTreeSet<String>, action: &AuthAction<'_>) -> bool {
    match action {
        AuthAction::Insert { table_name }
        | AuthAction::Delete { table_name }
        | AuthAction::Update { table_name, .. } => tables.contains(*table_name),
        _ => false,
    }
}

/// Whether an action that changes nothing is allowed; `None` for one that changes something.
fn reads(action: &AuthAction<'_>) -> Option<Result<(), String>> {
    match action {
        AuthAction::Read { table_name, .. }
        | AuthAction::Insert { table_name }
        | AuthAction::Delete { table_name }
        | AuthAction::Update { table_name, .. }
            if table_name.eq_ignore_ascii_case(PAGES) =>
        {
            Some(Err("the pages of the file are not for tools; use its tables".to_owned()))
        }
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => Some(Ok(())),
        AuthAction::Function { function_name } => {
            let reaches_out = REACHING_OUT.iter().any(|name| function_name.eq_ignore_ascii_case(name));
            let refused = || format!("the function {function_name} reaches out of the database");
            Some(if reaches_out { Err(refused()) } else { Ok(()) })
        }
        AuthAction::Pragma { pragma_name, pragma_value } => {
            let name = pragma_name.to_ascii_lowercase();
            let tells = TELLING.contains(&&*name) || SET_IN_TRANSACTION.contains(&&*name);
            let tells = tells && (pragma_value.is_none() || TELLING_OF.contains(&&*name));
            tells.then_some(Ok(()))
        }
        AuthAction::Attach { .. } | AuthAction::Detach { .. } => {
            Some(Err("another database cannot be attached (VACUUM would do that too); use one call for each"
                .to_owned()))
        }
        AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => {
            Some(Err("the call is one transaction already; leave BEGIN, COMMIT, ROLLBACK and SAVEPOINT out"
                .to_owned()))
        }
        AuthAction::CreateTempIndex { .. }
        | AuthAction::CreateTempTable { .. }
        | AuthAction::CreateTempTrigger { .. }
        | AuthAction::CreateTempView { .. }
        | AuthAction::DropTempIndex { .. }
        | AuthAction::DropTempTable { .. }
        | AuthAction::DropTempTrigger { .. }
        | AuthAction::DropTempView { .. } => {
            Some(Err("nothing temporary outlives the call; use WITH or a subquery".to_owned()))
        }
        _ => None,
    }
}

/// Notes what an action changes; the error says why it is refused.
fn writes(asked: &AuthContext<'_>, seen: &mut Seen) -> Result<(), String> {
    let mut destroys = |what: String| {
        seen.beyond_rows = true;
        seen.destroys.insert(what);
    };
    match &asked.action {
        AuthAction::Insert { table_name }
        | AuthAction::Delete { table_name }
        | AuthAction::Update { table_name, .. } => {
            // The schema's own table is written to by whatever changes the schema, which is noted by its name.
            if !["sqlite_master", "sqlite_schema", "sqlite_temp_master"].contains(table_name) {
                seen.beyond_rows |= table_name.starts_with("sqlite_");
                seen.written.insert((*table_name).to_owned());
                if !matches!(asked.action, AuthAction::Insert { .. }) {
                    seen.overwritten.insert((*table_name).to_owned());
                }
            }
        }
        AuthAction::CreateTable { .. }
        | AuthAction::CreateIndex { .. }
        | AuthAction::CreateView { .. }
        | AuthAction::Reindex { .. }
        | AuthAction::Analyze { .. } => seen.beyond_rows = true,
        AuthAction::DropTable { table_name } | AuthAction::DropVtable { table_name, .. } => {
            destroys(format!("DROP TABLE {table_name}"));
        }
        AuthAction::DropIndex { index_name, .. } => destroys(format!("DROP INDEX {index_name}")),
        AuthAction::DropView { view_name } => destroys(format!("DROP VIEW {view_name}")),
        AuthAction::DropTrigger { trigger_name, .. } => destroys(format!("DROP TRIGGER {trigger_name}")),
        AuthAction::AlterTable { table_name, .. } => destroys(format!("ALTER TABLE {table_name}")),
        AuthAction::CreateTrigger { trigger_name, .. } => destroys(format!("CREATE TRIGGER {trigger_name}")),
        AuthAction::CreateVtable { table_name, module_name } => {
            destroys(format!("CREATE VIRTUAL TABLE {table_name} USING {module_name}"));
        }
        AuthAction::Pragma { pragma_name, pragma_value }
            if SET_IN_TRANSACTION.iter().any(|name| pragma_name.eq_ignore_ascii_case(name)) =>
        {
            destroys(format!("PRAGMA {pragma_name} = {}", pragma_value.unwrap_or_default()));
        }
        AuthAction::Pragma { pragma_name, .. } => {
            return Err(format!(
                "PRAGMA {pragma_name} is not taken back with a transaction, or is not for tools"
            ));
        }
        _ => return Err("SQLite asked for something that this tool does not know".to_owned()),
    }
    Ok(())
}

/// Whether a statement changes or deletes every row of a table because it has no WHERE of its own.
pub(super) fn reaches_every_row(sql: &str) -> Option<&'static str> {
    let words = outer_words(sql);
    let verb = words
        .iter()
        .position(|word| matches!(&**word, "SELECT" | "INSERT" | "REPLACE" | "UPDATE" | "DELETE"))?;
    let (verb, rest) = words.split_at(verb).1.split_first()?;
    let has_where = rest.iter().any(|word| word == "WHERE");
    match &**verb {
        "DELETE" if !has_where => Some("DELETE without WHERE"),
        "UPDATE" if !has_where => Some("UPDATE without WHERE"),
        _ => None,
    }
}

/// The bare words of a statement that stand in no parentheses, in capitals; neither comments nor anything quoted.
fn outer_words(sql: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut depth = 0_usize;
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest[2..].find("*/").map_or(rest.len(), |end| end + 4),
            '\'' | '"' | '`' => quoted(rest, first),
            '[' => quoted(rest, ']'),
            '(' => {
                depth += 1;
                1
            }
            ')' => {
                depth = depth.saturating_sub(1);
                1
            }
            other if is_word(other) => {
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                if depth == 0 {
                    words.push(rest[..length].to_ascii_uppercase());
                }
                length
            }
            other => other.len_utf8(),
        };
        rest = &rest[length..];
    }
    words
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_' || character == '$' || !character.is_ascii()
}

/// The length of what is quoted at the beginning. A doubled quote ends it and begins it anew, which comes to the same.
fn quoted(text: &str, end: char) -> usize {
    text[1..].find(end).map_or(text.len(), |at| at + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_where_of_its_own() {
        let (delete, update) = (Some("DELETE without WHERE"), Some("UPDATE without WHERE"));
        for (sql, want) in [
            ("DELETE FROM t", delete),
            ("delete from t -- where id = 1", delete),
            ("delete from t /* where */;", delete),
            ("DELETE FROM \"where\"", delete),
            ("DELETE FROM [where]", delete),
            ("DELETE FROM t RETURNING (SELECT 1 WHERE 1)", delete),
            ("WITH x AS (SELECT 1 WHERE 1) DELETE FROM t", delete),
            ("UPDATE t SET a = 'where ''it'' is'", update),
            ("UPDATE t SET a = (SELECT b FROM u WHERE u.id = t.id)", update),
            ("UPDATE OR IGNORE t SET a = 1", update),
            ("DELETE FROM t WHERE id = 1", None),
            ("update t set a=1 where(id=1)", None),
            ("UPDATE t SET a = b FROM u WHERE u.id = t.id", None),
            ("INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = 1", None),
            ("INSERT INTO t SELECT * FROM u", None),
            ("DROP TABLE t", None),
            ("", None),
            ("'", None),
            ("/*", None),
        ] {
            assert_eq!(reaches_every_row(sql), want, "{sql}");
        }
    }

    /// What is seen of a statement, or why it is refused.
    fn seen(sql: &str, access: Access) -> Result<Seen, String> {
        let mut connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE a (id INTEGER PRIMARY KEY, x); CREATE TABLE log (id INTEGER PRIMARY KEY, a);
                 CREATE TABLE child (id INTEGER PRIMARY KEY, a REFERENCES a ON DELETE CASCADE);
                 CREATE TRIGGER t AFTER INSERT ON a BEGIN INSERT INTO log (a) VALUES (new.id); END;
                 CREATE INDEX i ON a (x); CREATE VIEW v AS SELECT x FROM a;",
            )
            .unwrap();
        let seen = watch(&mut connection, access).unwrap();
        let prepared = connection.prepare(sql).map(drop);
        let seen = lock(&seen).clone();
        match (prepared, &seen.refused) {
            (_, Some(refused)) => Err(refused.clone()),
            (Ok(()), None) => Ok(seen),
            (Err(error), None) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_query_only_reads() {
        for sql in [
            "SELECT * FROM a JOIN v USING (x)",
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3) SELECT * FROM n",
            "SELECT * FROM json_each('[1]')",
            "SELECT * FROM pragma_table_info('a')",
            "PRAGMA table_info(a)",
            "PRAGMA user_version",
            "EXPLAIN QUERY PLAN SELECT * FROM a",
        ] {
            assert_eq!(seen(sql, Access::Query), Ok(Seen::default()), "{sql}");
        }
        let only_reads = "a query only reads; to change something, use sqlite_execute";
        for (sql, want) in [
            ("INSERT INTO a VALUES (1, 1)", only_reads),
            ("UPDATE a SET x = 1 RETURNING x", only_reads),
            ("DELETE FROM a WHERE id = 1", only_reads),
            ("CREATE TABLE b (x)", only_reads),
            ("DROP TABLE a", only_reads),
            ("PRAGMA user_version = 3", only_reads),
            ("PRAGMA journal_mode = DELETE", only_reads),
            ("PRAGMA query_only = 0", only_reads),
            ("PRAGMA writable_schema = 1", only_reads),
            ("CREATE TEMP TABLE b (x)", only_reads),
            ("SELECT load_extension('x')", "the function load_extension reaches out of the database"),
            (
                "ATTACH 'x.db' AS x",
                "another database cannot be attached (VACUUM would do that too); use one call for each",
            ),
            (
                "COMMIT",
                "the call is one transaction already; leave BEGIN, COMMIT, ROLLBACK and SAVEPOINT out",
            ),
        ] {
            assert_eq!(seen(sql, Access::Query), Err(want.to_owned()), "{sql}");
        }
    }

    #[test]
    fn what_statements_do_is_seen_with_their_triggers_and_cascades() {
        let wants = |tables: &[&str], destroys: &[&str], beyond_rows| {
            let set = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<BTreeSet<_>>();
            (set(tables), set(destroys), beyond_rows)
        };
        for (sql, want) in [
            ("INSERT INTO a VALUES (1, 1)", wants(&["a", "log"], &[], false)),
            ("REPLACE INTO a VALUES (1, 1)", wants(&["a", "child", "log"], &[], false)),
            ("DELETE FROM a WHERE id = 1", wants(&["a", "child"], &[], false)),
            ("UPDATE a SET x = 1", wants(&["a"], &[], false)),
            ("CREATE TABLE b (x)", wants(&[], &[], true)),
            ("CREATE INDEX j ON a (id, x)", wants(&[], &[], true)),
            ("CREATE VIEW w AS SELECT 1", wants(&[], &[], true)),
            ("DROP TABLE log", wants(&["log"], &["DROP TABLE log"], true)),
            ("DROP INDEX i", wants(&[], &["DROP INDEX i"], true)),
            ("DROP VIEW v", wants(&["v"], &["DROP VIEW v"], true)),
            ("DROP TRIGGER t", wants(&[], &["DROP TRIGGER t"], true)),
            ("ALTER TABLE a ADD COLUMN y", wants(&[], &["ALTER TABLE a"], true)),
            (
                "CREATE TRIGGER u AFTER DELETE ON a BEGIN DELETE FROM log; END",
                wants(&[], &["CREATE TRIGGER u"], true),
            ),
            (
                "CREATE VIRTUAL TABLE f USING fts5(x)",
                wants(&[], &["CREATE VIRTUAL TABLE f USING fts5"], true),
            ),
            ("PRAGMA user_version = 3", wants(&[], &["PRAGMA user_version = 3"], true)),
        ] {
            let seen = seen(sql, Access::Execute).unwrap();
            assert_eq!((seen.written, seen.destroys, seen.beyond_rows), want, "{sql}");
        }
        let overwritten =
            |sql| seen(sql, Access::Execute).unwrap().overwritten.into_iter().collect::<Vec<_>>();
        assert_eq!(overwritten("INSERT INTO a VALUES (1, 1)"), [""; 0]);
        assert_eq!(overwritten("INSERT INTO a VALUES (1, 1) ON CONFLICT DO UPDATE SET x = 2"), ["a"]);
        assert_eq!(overwritten("DELETE FROM a WHERE id = 1"), ["a", "child"]);
        for sql in ["PRAGMA journal_mode = WAL", "PRAGMA writable_schema = 1", "PRAGMA foreign_keys = 0"] {
            assert!(seen(sql, Access::Execute).unwrap_err().contains("is not taken back"), "{sql}");
        }
        for sql in ["ATTACH 'x' AS x", "BEGIN", "SAVEPOINT s", "CREATE TEMP VIEW v AS SELECT 1"] {
            assert!(seen(sql, Access::Execute).is_err(), "{sql}");
        }
    }
}
