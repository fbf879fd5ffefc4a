//! `sqlite_query`: reads rows by one statement, on a connection that cannot write.

use super::cell::json_of;
use super::grant::Granted;
use super::guard::{Access, watch};
use super::session::{Mode, Session, confined};
use super::statement::StatementArg;
use backstop_agent::tool::{Job, read_args, spec_of};
use backstop_agent::{Tool, ToolContext, ToolError, ToolOutput};
use backstop_call::{BoxFuture, ToolSpec};
use backstop_label::{ArgRole, Class, Declaration, Effect};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// The database file, from the workspace's root.
    database: String,
    /// One statement that reads (SELECT, WITH, EXPLAIN, PRAGMA table_info(…)), with `?` for values.
    sql: String,
    /// What stands for each `?`, in their order: texts, numbers, true, false, null.
    #[serde(default)]
    params: Vec<Value>,
}

pub(super) struct SqliteQuery {
    granted: Arc<Granted>,
    declaration: Declaration,
}

impl SqliteQuery {
    pub(super) fn new(granted: Arc<Granted>, trusted: bool) -> Self {
        let roles = [("database", ArgRole::Object), ("sql", ArgRole::Query), ("params", ArgRole::Query)];
        Self { granted, declaration: super::declaration(Class::Read, Effect::Read, &roles, trusted) }
    }
}

impl Tool for SqliteQuery {
    fn spec(&self) -> ToolSpec {
        spec_of::<Args>(
            "sqlite_query",
            "Read from a SQLite database. Gives a JSON array of column names, then one JSON array per row. To see the \
             tables: SELECT name, sql FROM sqlite_schema.",
        )
    }

    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn run<'a>(
        &'a self,
        job: &'a Job,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(async move {
            let Args { database, sql, params } = read_args(&job.args)?;
            let granted = Arc::clone(&self.granted);
            let statement = StatementArg { sql, params };
            let read = move |session: &Session| query(session, &statement, &granted);
            confined(&self.granted, context, &database, read).await.map(ToolOutput::text)
        })
    }
}

fn query(session: &Session, statement: &StatementArg, granted: &Granted) -> Result<String, ToolError> {
    let sql = |error: rusqlite::Error| session.explain(&error);
    let mut connection = session.connect(Mode::Read)?;
    // In a transaction: one state of the database for the whole answer, and no VACUUM INTO a file.
    connection.execute_batch("BEGIN").map_err(sql)?;
    let seen = watch(&mut connection, Access::Query).map_err(sql)?;
    let mut statement = statement.prepare(session, &connection, &seen)?;
    if !statement.readonly() {
        return Err(ToolError::Failed(
            "A query only reads; to change something, use sqlite_execute.".to_owned(),
        ));
    }
    let names: Vec<_> = statement.column_names().map(Value::from).collect();
    let columns = names.len();
    let mut told = Value::from(names).to_string();
    let mut rows = statement.raw_query();
    let mut given = 0;
    while let Some(row) = rows.next().map_err(sql)? {
        let cells = (0..columns)
            .map(|at| row.get_ref(at).map(json_of))
            .collect::<Result<Vec<_>, _>>()
            .map_err(sql)?;
        let line = Value::from(cells).to_string();
        if given == granted.query_max_rows || told.len() + line.len() > granted.query_max_bytes {
            return Ok(format!(
                "{told}\n… there are more rows than the {given} that fit here. Use LIMIT and OFFSET, fewer columns, or count \
                 and group in SQL."
            ));
        }
        told.push('\n');
        told.push_str(&line);
        given += 1;
    }
    if given == 0 {
        told.push_str("\n(no rows)");
    }
    Ok(told)
}
