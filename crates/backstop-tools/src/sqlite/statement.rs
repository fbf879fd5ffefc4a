//! The statements of a call: read from its arguments, compiled one by one under guard, run with their parameters bound.

use super::cell::Cell;
use super::guard::{Seen, lock};
use super::session::Session;
use backstop_agent::ToolError;
use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::{Batch, Connection, Statement};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Mutex;

/// A statement with its parameters.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StatementArg {
    /// One statement, with `?` for every value that is not fixed.
    pub(super) sql: String,
    /// What stands for each `?`, in their order: texts, numbers, true, false, null.
    #[serde(default)]
    pub(super) params: Vec<Value>,
}

impl StatementArg {
    /// Compiles the statement under guard and binds its parameters.
    pub(super) fn prepare<'c>(
        &'c self,
        session: &Session,
        connection: &'c Connection,
        seen: &Mutex<Seen>,
    ) -> Result<Statement<'c>, ToolError> {
        let failed = |text: String| ToolError::Failed(format!("{text} Nothing was changed."));
        let explain = |error: rusqlite::Error| explain(session, seen, &error);
        let mut batch = Batch::new(connection, &self.sql);
        let Some(mut statement) = batch.next().map_err(explain)? else {
            return Err(failed("There is no statement in the text.".to_owned()));
        };
        // What comes after it is compiled too, so it is guarded as well.
        if batch.next().map_err(explain)?.is_some() {
            return Err(failed(
                "There is more than one statement in one text. Give each its own.".to_owned(),
            ));
        }
        if statement.parameter_count() != self.params.len() {
            return Err(failed(format!(
                "The statement takes {} parameters and {} are given.",
                statement.parameter_count(),
                self.params.len()
            )));
        }
        for (at, value) in self.params.iter().enumerate() {
            let cell = Cell::of_json(value).map_err(|why| failed(format!("Parameter {}: {why}.", at + 1)))?;
            statement.raw_bind_parameter(at + 1, cell).map_err(explain)?;
        }
        Ok(statement)
    }
}

/// Says why a statement failed: a virtual table compiles statements of its own while it runs, so the guard may have refused
/// one at any time.
fn explain(session: &Session, seen: &Mutex<Seen>, error: &rusqlite::Error) -> ToolError {
    match lock(seen).refused.take() {
        Some(reason) => ToolError::Failed(format!("Refused: {reason}. Nothing was changed.")),
        None => session.explain(error),
    }
}

/// Runs statements in their order; gives how many rows each changed, those of triggers and cascades included.
pub(super) fn run_all(
    session: &Session,
    connection: &Connection,
    seen: &Mutex<Seen>,
    statements: &[StatementArg],
) -> Result<Vec<u64>, ToolError> {
    let mut counts = Vec::new();
    for (at, given) in statements.iter().enumerate() {
        let before = connection.total_changes();
        let run = || {
            let mut statement = given.prepare(session, connection, seen)?;
            let mut rows = statement.raw_query();
            while rows.next().map_err(|error| explain(session, seen, &error))?.is_some() {}
            Ok(())
        };
        run().map_err(|error: ToolError| ToolError::Failed(format!("Statement {}: {error}", at + 1)))?;
        counts.push(connection.total_changes() - before);
    }
    Ok(counts)
}
