//! `sqlite_execute`: changes a database by statements in one transaction.
//!
//! Planning runs them for real, looks at what changed from a second connection that still sees the state before, and rolls
//! back. Where every row that changes could be kept, these rows are the plan: the call makes exactly them, its undo makes
//! their inverse, its probe looks for them. Where not (schema, tables without a key, too many rows), the call runs the
//! statements again, and refuses when they would change another number of rows than was shown.

use super::change::{Compared, Standing, TableChange, apply, commit_failed, compare, inverted, standing};
use super::grant::{Bounds, Granted};
use super::guard::{Access, Seen, lock, reaches_every_row, unwatch, watch};
use super::preview::{Found, preview, summary};
use super::session::{Mode, Session, confined};
use super::statement::{StatementArg, run_all};
use super::undo::{SqliteUndo, UndoArgs};
use backstop_agent::tool::{Job, read_args, spec_of};
use backstop_agent::{Plan, Probe, Rehearsal, Tool, ToolContext, ToolError, ToolOutput};
use backstop_call::{BoxFuture, ToolSpec};
use backstop_label::{ArgRole, Class, Declaration, Effect};
use rusqlite::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// The database file, from the workspace's root. It must be there.
    database: String,
    /// The statements, in their order. All are done, or none.
    #[schemars(length(min = 1, max = 100))]
    statements: Vec<StatementArg>,
}

/// What a call means to do: what it needs to run and to be probed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Planned {
    changes: Vec<TableChange>,
    /// Whether the rows are all of it.
    is_exact: bool,
    counts: Vec<u64>,
    /// The schema, by its hash, before and after.
    schema_before: String,
    schema_after: String,
    /// What the model is told when it is done.
    done: String,
}

pub(super) struct SqliteExecute {
    granted: Arc<Granted>,
    declaration: Declaration,
    undo: Arc<SqliteUndo>,
}

impl SqliteExecute {
    pub(super) fn new(granted: Arc<Granted>, trusted: bool) -> Self {
        let roles = [("database", ArgRole::Object), ("statements", ArgRole::Value)];
        let declaration = super::declaration(Class::Write, Effect::Write, &roles, trusted);
        let undo = Arc::new(SqliteUndo::new(Arc::clone(&granted), trusted));
        Self { granted, declaration, undo }
    }
}

impl Tool for SqliteExecute {
    fn spec(&self) -> ToolSpec {
        spec_of::<Args>(
            "sqlite_execute",
            "Change a SQLite database by one or more statements in one transaction: all or nothing. Use sqlite_query to read.",
        )
    }

    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn plan<'a>(
        &'a self,
        args: &'a Value,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<Plan, ToolError>> {
        Box::pin(async move {
            let Args { database, statements } = read_args(args)?;
            let bounds = self.granted.bounds;
            confined(&self.granted, context, &database, move |session| plan(session, &statements, bounds))
                .await
        })
    }

    fn run<'a>(
        &'a self,
        job: &'a Job,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(async move {
            let Args { database, statements } = read_args(&job.args)?;
            let planned: Planned = read_args(&job.plan)?;
            let done = planned.done.clone();
            confined(&self.granted, context, &database, move |session| run(session, &statements, &planned))
                .await?;
            Ok(ToolOutput::text(done))
        })
    }

    fn probe<'a>(&'a self, job: &'a Job, context: &'a ToolContext) -> BoxFuture<'a, Probe> {
        Box::pin(async move {
            let read =
                || Ok::<_, ToolError>((read_args::<Args>(&job.args)?, read_args::<Planned>(&job.plan)?));
            let (args, planned) = match read() {
                Ok(read) => read,
                Err(error) => return Probe::Unsure(error.to_string()),
            };
            let look = move |session: &Session| look(session, &planned);
            match confined(&self.granted, context, &args.database, look).await {
                Ok(probe) => probe,
                Err(error) => Probe::Unsure(error.to_string()),
            }
        })
    }

    fn undoing(&self) -> Option<Arc<dyn Tool>> {
        Some(Arc::clone(&self.undo) as Arc<dyn Tool>)
    }

    fn rehearsal(&self) -> Rehearsal {
        Rehearsal::OnCopy
    }
}

fn plan(session: &Session, statements: &[StatementArg], bounds: Bounds) -> Result<Plan, ToolError> {
    let sql = |error: rusqlite::Error| session.explain(&error);
    let mut after = session.connect(Mode::Write)?;
    // Written pages stay in memory: the second connection could not read while they are put into the file.
    after.pragma_update(None, "cache_spill", false).map_err(sql)?;
    after.execute_batch("BEGIN IMMEDIATE").map_err(sql)?;
    let before = session.connect(Mode::Read)?;
    before.execute_batch("BEGIN").map_err(sql)?;
    let schema_before = schema(&before).map_err(sql)?;
    let watched = watch(&mut after, Access::Execute).map_err(sql)?;
    let counts = run_all(session, &after, &watched, statements)?;
    unwatch(&mut after).map_err(sql)?;
    let seen = lock(&watched).clone();
    let mut found = find(&before, &after, &seen, bounds).map_err(sql)?;
    found.counts = counts;
    found
        .destroys
        .extend(statements.iter().filter_map(|given| reaches_every_row(&given.sql)).map(str::to_owned));
    let schema_after = schema(&after).map_err(sql)?;
    found.schema = (
        schema_before.difference(&schema_after).cloned().collect(),
        schema_after.difference(&schema_before).cloned().collect(),
    );
    // Dropped without a commit, the transaction is rolled back.
    drop(after);
    let shown = preview(&session.name(), statements, &found);
    let planned = Planned {
        done: format!("Done in {}: {}.", session.name(), summary(&found)),
        is_exact: found.is_exact,
        counts: found.counts,
        schema_before: hash(&schema_before),
        schema_after: hash(&schema_after),
        changes: found.changes,
    };
    let undo = (planned.is_exact && planned.changes.iter().any(|change| !change.rows.is_empty()))
        .then(|| UndoArgs::of(session.name(), inverted(planned.changes.clone())));
    Ok(Plan {
        body: written_down(&planned)?,
        touches: Some(session.name()),
        preview: shown,
        undo: undo.map(|undo| written_down(&undo)).transpose()?,
        effect: (!found.destroys.is_empty()).then_some(Effect::Destructive),
    })
}

fn written_down(value: &impl Serialize) -> Result<Value, ToolError> {
    serde_json::to_value(value)
        .map_err(|error| ToolError::Failed(format!("The plan cannot be written down: {error}.")))
}

/// Compares the tables that were written to.
fn find(before: &Connection, after: &Connection, seen: &Seen, bounds: Bounds) -> rusqlite::Result<Found> {
    let mut found =
        Found { destroys: seen.destroys.clone(), is_exact: !seen.beyond_rows, ..Found::default() };
    for name in &seen.written {
        match compare(before, after, name, bounds)? {
            Compared::Exact { change, rows_before } => {
                let gone = change.rows.iter().filter(|row| row.before.is_some()).count();
                if rows_before > 1 && gone == rows_before {
                    found.destroys.insert(format!("every row of {name}"));
                }
                found.changes.push(change);
            }
            Compared::Not(why) => {
                found.is_exact = false;
                found.unfollowed.push((name.clone(), why));
            }
        }
    }
    if !found.is_exact {
        let lost = if may_replace(before)? { &seen.written } else { &seen.overwritten };
        found.destroys.extend(lost.iter().map(|name| format!("rows of {name}, which cannot be put back")));
    }
    Ok(found)
}

/// Whether an INSERT may take another row's place: by a constraint or a trigger that says so. The schema only says the
/// word, so this errs on the side of yes.
fn may_replace(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE sql LIKE '%REPLACE%')";
    connection.query_row(sql, [], |row| row.get(0))
}

/// All definitions; and what is kept for the whole database, which pragmas change.
fn schema(connection: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    let sql = "SELECT coalesce(sql, type || ' ' || name) FROM sqlite_schema \
               UNION ALL SELECT 'PRAGMA user_version = ' || user_version FROM pragma_user_version \
               UNION ALL SELECT 'PRAGMA application_id = ' || application_id FROM pragma_application_id";
    let mut statement = connection.prepare(sql)?;
    statement.query_map([], |row| row.get(0))?.collect()
}

fn hash(schema: &BTreeSet<String>) -> String {
    let mut hasher = blake3::Hasher::new();
    for definition in schema {
        hasher.update(&(definition.len() as u64).to_be_bytes()).update(definition.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

fn run(session: &Session, statements: &[StatementArg], planned: &Planned) -> Result<(), ToolError> {
    if !planned.is_exact {
        return run_again(session, statements, planned);
    }
    if planned.changes.iter().all(|change| change.rows.is_empty()) {
        return Ok(());
    }
    apply(session, &planned.changes)
}

/// Runs the statements as they were planned, where their rows are not known.
fn run_again(session: &Session, statements: &[StatementArg], planned: &Planned) -> Result<(), ToolError> {
    let sql = |error: rusqlite::Error| session.explain(&error);
    let changed = |what: &str| {
        ToolError::Failed(format!(
            "`{}` was changed by somebody else in between: {what}; nothing was changed. Look again, then decide.",
            session.name()
        ))
    };
    let mut connection = session.connect(Mode::Write)?;
    connection.execute_batch("BEGIN IMMEDIATE").map_err(sql)?;
    if hash(&schema(&connection).map_err(sql)?) != planned.schema_before {
        return Err(changed("its schema is another"));
    }
    let seen = watch(&mut connection, Access::Execute).map_err(sql)?;
    let counts = run_all(session, &connection, &seen, statements)?;
    unwatch(&mut connection).map_err(sql)?;
    if counts != planned.counts {
        return Err(changed("the statements would change another number of rows than was shown"));
    }
    if hash(&schema(&connection).map_err(sql)?) != planned.schema_after {
        return Err(changed("its schema would become another than was shown"));
    }
    session.still_wanted()?;
    connection.execute_batch("COMMIT").map_err(|error| commit_failed(session, &error))
}

/// Whether a call took effect: a transaction is there as a whole or not at all, so any part of it that is known tells.
fn look(session: &Session, planned: &Planned) -> Result<Probe, ToolError> {
    let sql = |error: rusqlite::Error| session.explain(&error);
    // To write: a crash may have left a journal that must be rolled back first.
    let connection = session.connect(Mode::Write)?;
    let mut standings = Vec::new();
    if planned.changes.iter().any(|change| !change.rows.is_empty()) {
        standings.push(standing(&connection, &planned.changes).map_err(sql)?);
    }
    if planned.schema_before != planned.schema_after {
        let now = hash(&schema(&connection).map_err(sql)?);
        standings.push(match now {
            now if now == planned.schema_before => Standing::Before,
            now if now == planned.schema_after => Standing::After,
            _ => Standing::Neither("the schema is neither what it was nor what it was to become".to_owned()),
        });
    }
    Ok(judge(standings, planned))
}

fn judge(standings: Vec<Standing>, planned: &Planned) -> Probe {
    let is_nothing = planned.is_exact && standings.is_empty();
    if is_nothing || (!standings.is_empty() && standings.iter().all(|standing| *standing == Standing::After))
    {
        return Probe::Happened(ToolOutput::text(planned.done.clone()));
    }
    if !standings.is_empty() && standings.iter().all(|standing| *standing == Standing::Before) {
        return Probe::DidNot;
    }
    let why = standings.into_iter().find_map(|standing| match standing {
        Standing::Neither(why) => Some(why),
        Standing::Before | Standing::After => None,
    });
    Probe::Unsure(why.unwrap_or_else(|| "none of the rows that it changes is known".to_owned()))
}
