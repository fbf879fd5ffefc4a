//! `sqlite_undo`: puts rows back as they were before a call of `sqlite_execute`. No model calls it.

use super::change::{Standing, TableChange, apply, changed_since, standing};
use super::grant::Granted;
use super::preview::rows;
use super::session::{Mode, Session, confined};
use backstop_agent::tool::{Job, read_args, spec_of};
use backstop_agent::visible_line;
use backstop_agent::{Plan, Probe, Rehearsal, Tool, ToolContext, ToolError, ToolOutput};
use backstop_call::{BoxFuture, ToolSpec};
use backstop_label::{ArgRole, Class, Declaration, Effect};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// What is put back: the inverse of what a call did.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UndoArgs {
    /// The database file, from the workspace's root.
    database: String,
    /// The rows, as the call left them and as they were.
    #[schemars(with = "Value")]
    changes: Vec<TableChange>,
}

impl UndoArgs {
    pub(super) fn of(database: String, changes: Vec<TableChange>) -> Self {
        Self { database, changes }
    }
}

pub(super) struct SqliteUndo {
    granted: Arc<Granted>,
    declaration: Declaration,
}

impl SqliteUndo {
    pub(super) fn new(granted: Arc<Granted>, trusted: bool) -> Self {
        let roles = [("database", ArgRole::Object), ("changes", ArgRole::Value)];
        Self { granted, declaration: super::declaration(Class::Write, Effect::Write, &roles, trusted) }
    }
}

impl Tool for SqliteUndo {
    fn spec(&self) -> ToolSpec {
        spec_of::<UndoArgs>("sqlite_undo", "Put rows of a SQLite database back as they were before a call.")
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
            let UndoArgs { database, changes } = read_args(args)?;
            confined(&self.granted, context, &database, move |session| plan(session, &changes)).await
        })
    }

    fn run<'a>(
        &'a self,
        job: &'a Job,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(async move {
            let UndoArgs { database, changes } = read_args(&job.args)?;
            let done = done(&database, &changes);
            confined(&self.granted, context, &database, move |session| apply(session, &changes)).await?;
            Ok(ToolOutput::text(done))
        })
    }

    fn probe<'a>(&'a self, job: &'a Job, context: &'a ToolContext) -> BoxFuture<'a, Probe> {
        Box::pin(async move {
            let UndoArgs { database, changes } = match read_args(&job.args) {
                Ok(args) => args,
                Err(error) => return Probe::Unsure(error.to_string()),
            };
            let done = done(&database, &changes);
            match confined(&self.granted, context, &database, move |session| look(session, &changes)).await {
                Ok(Standing::After) => Probe::Happened(ToolOutput::text(done)),
                Ok(Standing::Before) => Probe::DidNot,
                Ok(Standing::Neither(why)) => Probe::Unsure(why),
                Err(error) => Probe::Unsure(error.to_string()),
            }
        })
    }

    fn rehearsal(&self) -> Rehearsal {
        Rehearsal::OnCopy
    }
}

fn done(database: &str, changes: &[TableChange]) -> String {
    let count: usize = changes.iter().map(|change| change.rows.len()).sum();
    format!("Put {count} rows of {database} back as they were.")
}

fn look(session: &Session, changes: &[TableChange]) -> Result<Standing, ToolError> {
    // To write: a crash may have left a journal that must be rolled back first.
    let connection = session.connect(Mode::Write)?;
    standing(&connection, changes).map_err(|error| session.explain(&error))
}

fn plan(session: &Session, changes: &[TableChange]) -> Result<Plan, ToolError> {
    match look(session, changes)? {
        Standing::Before => {}
        Standing::After => {
            return Err(ToolError::Failed("The rows are back already; there is nothing to undo.".to_owned()));
        }
        Standing::Neither(conflict) => {
            return Err(ToolError::Failed(changed_since(&session.name(), &conflict)));
        }
    }
    let preview = format!("{}, in one transaction:\n{}", visible_line(&session.name()), rows(changes));
    Ok(Plan { touches: Some(session.name()), preview, ..Plan::default() })
}
