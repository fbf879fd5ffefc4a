//! Changes of rows, as values: found by comparing a table before and after, made in one transaction, turned round for an undo,
//! and looked for after a crash. A change is made by its rows and not by the statement it came from, so what is made is
//! what was shown, and its inverse is exact.

use super::cell::Cell;
use super::grant::Bounds;
use super::session::{Mode, Session};
use super::table::Table;
use backstop_agent::ToolError;
use blake3::Hash;
use rusqlite::{Connection, TransactionBehavior, config::DbConfig};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// What becomes of a row: at least one of the two is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct RowChange {
    /// The row as it is; `None` when there is none.
    pub(super) before: Option<Vec<Cell>>,
    /// The row as it will be.
    pub(super) after: Option<Vec<Cell>>,
}

/// What becomes of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct TableChange {
    pub(super) table: Table,
    pub(super) rows: Vec<RowChange>,
}

/// What the present rows say of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// All are as before.
    Before,
    /// All are as after.
    After,
    /// Neither: which row, what was looked for and what is there.
    Neither(String),
}

/// How a comparison ended.
pub(super) enum Compared {
    /// Row by row.
    Exact {
        change: TableChange,
        /// How many rows the table had.
        rows_before: usize,
    },
    /// It cannot be told row by row, and why.
    Not(String),
}

/// How a comparison is given up.
enum Stop {
    Sql(rusqlite::Error),
    Not(&'static str),
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl RowChange {
    fn inverted(self) -> Self {
        Self { before: self.after, after: self.before }
    }

    /// One of the two rows, for its key, which is the same in both.
    pub(super) fn either(&self) -> &[Cell] {
        self.after.as_deref().or(self.before.as_deref()).unwrap_or_default()
    }
}

/// The changes that take these back.
pub(super) fn inverted(changes: Vec<TableChange>) -> Vec<TableChange> {
    let turn = |change: TableChange| TableChange {
        rows: change.rows.into_iter().map(RowChange::inverted).collect(),
        table: change.table,
    };
    changes.into_iter().map(turn).collect()
}

/// Compares a table before and after, as two connections see it.
pub(super) fn compare(
    before: &Connection,
    after: &Connection,
    name: &str,
    bounds: Bounds,
) -> rusqlite::Result<Compared> {
    let table = match (Table::read(before, name)?, Table::read(after, name)?) {
        (Ok(was), Ok(is)) if was == is => was,
        (Ok(_), Ok(_)) => return Ok(Compared::Not("its columns change".to_owned())),
        (Err(why), _) | (_, Err(why)) => return Ok(Compared::Not(why.to_owned())),
    };
    match compare_rows(before, after, &table, bounds) {
        Ok((rows, rows_before)) => Ok(Compared::Exact { change: TableChange { table, rows }, rows_before }),
        Err(Stop::Not(why)) => Ok(Compared::Not(why.to_owned())),
        Err(Stop::Sql(error)) => Err(error),
    }
}

fn compare_rows(
    before: &Connection,
    after: &Connection,
    table: &Table,
    bounds: Bounds,
) -> Result<(Vec<RowChange>, usize), Stop> {
    const UNNAMED: Stop = Stop::Not("a part of a primary key is NULL");
    const UNREADABLE: Stop = Stop::Not("a text is no UTF-8");
    let mut was: HashMap<Hash, Hash> = HashMap::new();
    table.scan(before, |row| {
        let (key, whole) = table.hashes(row)?.ok_or(UNNAMED)?;
        if was.len() == bounds.compare_max_rows {
            return Err(Stop::Not("it has too many rows to be compared"));
        }
        was.insert(key, whole);
        Ok(())
    })?;
    let rows_before = was.len();
    let mut kept = Kept { bounds, bytes: 0, rows: 0 };
    let mut changes: Vec<RowChange> = Vec::new();
    // Where the row stands that is changed and not put in.
    let mut changed: HashMap<Hash, usize> = HashMap::new();
    table.scan(after, |row| {
        let (key, whole) = table.hashes(row)?.ok_or(UNNAMED)?;
        let former = was.remove(&key);
        if former != Some(whole) {
            let cells = table.cells(row)?.ok_or(UNREADABLE)?;
            kept.keep(&cells)?;
            if former.is_some() {
                changed.insert(key, changes.len());
            }
            changes.push(RowChange { before: None, after: Some(cells) });
        }
        Ok::<_, Stop>(())
    })?;
    // What is left was deleted; that and what was changed is read as it was.
    if !was.is_empty() || !changed.is_empty() {
        table.scan(before, |row| {
            let (key, _) = table.hashes(row)?.ok_or(UNNAMED)?;
            let at = changed.get(&key).copied();
            if at.is_some() || was.contains_key(&key) {
                let cells = table.cells(row)?.ok_or(UNREADABLE)?;
                kept.keep(&cells)?;
                match at.and_then(|at| changes.get_mut(at)) {
                    Some(change) => change.before = Some(cells),
                    None => changes.push(RowChange { before: Some(cells), after: None }),
                }
            }
            Ok::<_, Stop>(())
        })?;
    }
    Ok((changes, rows_before))
}

/// Counts what is kept of the rows that change.
struct Kept {
    bounds: Bounds,
    bytes: usize,
    rows: usize,
}

impl Kept {
    fn keep(&mut self, cells: &[Cell]) -> Result<(), Stop> {
        self.rows += 1;
        self.bytes += cells.iter().map(Cell::bytes).sum::<usize>();
        // A change has at most two rows, before and after.
        if self.rows > 2 * self.bounds.undo_max_rows || self.bytes > self.bounds.undo_max_bytes {
            return Err(Stop::Not("too many rows change for them to be kept"));
        }
        Ok(())
    }
}

/// What the present rows say.
pub(super) fn standing(connection: &Connection, changes: &[TableChange]) -> rusqlite::Result<Standing> {
    let (mut before, mut after) = (true, true);
    for TableChange { table, rows } in changes {
        for row in rows {
            let now = table.present(connection, row.either())?;
            before &= now == row.before;
            after &= now == row.after;
            if !before && !after {
                return Ok(Standing::Neither(conflict(table, row, now.as_deref())));
            }
        }
    }
    Ok(if before { Standing::Before } else { Standing::After })
}

fn conflict(table: &Table, row: &RowChange, now: Option<&[Cell]>) -> String {
    let shown = |cells: Option<&[Cell]>| match cells {
        None => "no such row".to_owned(),
        Some(cells) => {
            let pairs = table.columns.iter().zip(cells);
            pairs.map(|(name, cell)| format!("{name}={}", cell.shown())).collect::<Vec<_>>().join(" ")
        }
    };
    format!(
        "{} {}: expected {}; there is {}",
        table.name,
        table.shown_key(row.either()),
        shown(row.before.as_deref()),
        shown(now)
    )
}

/// Makes changes, of which there is at least one, all or none, if every row is as it was before; reads them back before it commits.
pub(super) fn apply(session: &Session, changes: &[TableChange]) -> Result<(), ToolError> {
    let mut connection = session.connect(Mode::Write)?;
    let sql = |error: rusqlite::Error| session.explain(&error);
    // What triggers and cascades do is among the changes already.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false).map_err(sql)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false).map_err(sql)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
    match standing(&transaction, changes).map_err(sql)? {
        Standing::Before => {}
        Standing::After => {
            return Err(ToolError::Failed("It is done already; nothing was changed.".to_owned()));
        }
        Standing::Neither(conflict) => {
            return Err(ToolError::Failed(changed_since(&session.name(), &conflict)));
        }
    }
    let orphaned = orphans(&transaction).map_err(sql)?;
    let rows = || changes.iter().flat_map(|change| change.rows.iter().map(|row| (&change.table, row)));
    // First all away, then all back: two rows may have exchanged what must be unique.
    for (table, row) in rows() {
        if let Some(before) = &row.before {
            table.delete(&transaction, before).map_err(sql)?;
        }
    }
    for (table, row) in rows() {
        if let Some(after) = &row.after {
            table.insert(&transaction, after).map_err(sql)?;
        }
    }
    if let Standing::Before | Standing::Neither(_) = standing(&transaction, changes).map_err(sql)? {
        return Err(ToolError::Failed(
            "The rows would not become what was planned; nothing was changed.".to_owned(),
        ));
    }
    if orphans(&transaction).map_err(sql)? > orphaned {
        return Err(ToolError::Failed(format!(
            "`{}` was changed in between so that rows would refer to others that are gone; nothing was changed. Look again, \
             then decide.",
            session.name()
        )));
    }
    session.still_wanted()?;
    transaction.commit().map_err(|error| commit_failed(session, &error))
}

/// What a model is told of a conflict.
pub(super) fn changed_since(database: &str, conflict: &str) -> String {
    format!(
        "`{database}` was changed by somebody else in between; nothing was changed. {conflict}. Look again, then decide."
    )
}

/// A commit that did not say yes may be on the disk or not, unless it was refused for a lock.
pub(super) fn commit_failed(session: &Session, error: &rusqlite::Error) -> ToolError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::ConstraintViolation) => {
            session.explain(error)
        }
        _ => ToolError::Unknown(format!("the transaction may or may not be on the disk: {error}")),
    }
}

/// How many rows refer to others that are not there.
fn orphans(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0))
}
