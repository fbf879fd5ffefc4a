//! What a person is shown of a change, and what a model is told of it. Pure: from the values of a plan.

use super::change::{RowChange, TableChange};
use super::statement::StatementArg;
use super::table::Table;
use backstop_agent::{visible, visible_line};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// So many rows of one table are shown.
const SHOWN_MAX_ROWS: usize = 50;
/// So many keys of new rows are told to the model.
const TOLD_MAX_KEYS: usize = 20;

/// What a call would do, found out by doing it and taking it back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The rows that change, of the tables that were followed row by row.
    pub(super) changes: Vec<TableChange>,
    /// The tables that could not be followed, with why.
    pub(super) unfollowed: Vec<(String, String)>,
    /// How many rows each statement changes.
    pub(super) counts: Vec<u64>,
    /// What is in the schema only before, and only after.
    pub(super) schema: (BTreeSet<String>, BTreeSet<String>),
    /// What of it destroys something, in words.
    pub(super) destroys: BTreeSet<String>,
    /// Whether its rows are all of it.
    pub(super) is_exact: bool,
}

/// How many rows of a table come, change and go.
fn tally(rows: &[RowChange]) -> String {
    let count = |is: fn(&RowChange) -> bool| rows.iter().filter(|row| is(row)).count();
    let parts = [
        (count(|row| row.before.is_none()), "inserted"),
        (count(|row| row.before.is_some() && row.after.is_some()), "updated"),
        (count(|row| row.after.is_none()), "deleted"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    parts.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}

/// One line for the model: what was changed, with the keys of new rows.
pub(super) fn summary(found: &Found) -> String {
    let mut parts: Vec<_> = found.changes.iter().filter(|change| !change.rows.is_empty()).map(told).collect();
    if !found.is_exact {
        let counts = found.counts.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        parts.push(format!("rows changed by each statement: {counts}"));
        let (gone, new) = (found.schema.0.len(), found.schema.1.len());
        if gone + new > 0 {
            parts.push(format!("schema: {gone} definitions gone, {new} new"));
        }
    }
    if parts.is_empty() { "no row fits, so nothing changes".to_owned() } else { parts.join("; ") }
}

fn told(change: &TableChange) -> String {
    let new: Vec<_> = change.rows.iter().filter(|row| row.before.is_none()).collect();
    let keys: Vec<_> =
        new.iter().take(TOLD_MAX_KEYS).map(|row| change.table.shown_key(row.either())).collect();
    let more = if new.len() > TOLD_MAX_KEYS { ", …" } else { "" };
    let keys = if keys.is_empty() { String::new() } else { format!(" (new: {}{more})", keys.join(", ")) };
    format!("{}: {}{keys}", change.table.name, tally(&change.rows))
}

/// The whole for a person.
pub(super) fn preview(database: &str, statements: &[StatementArg], found: &Found) -> String {
    let mut shown = format!("{}, in one transaction:\n", visible_line(database));
    for statement in statements {
        let _ = writeln!(shown, "  {}", visible(&statement.sql).replace('\n', "\n  "));
        if !statement.params.is_empty() {
            let params: Vec<_> =
                statement.params.iter().map(|value| visible_line(&value.to_string())).collect();
            let _ = writeln!(shown, "    with {}", params.join(", "));
        }
    }
    shown.push_str(&rows(&found.changes));
    for (table, why) in &found.unfollowed {
        let _ = writeln!(shown, "\n{}: not shown row by row, because {why}", visible_line(table));
    }
    if !found.is_exact {
        for (at, count) in found.counts.iter().enumerate() {
            let _ = writeln!(shown, "\nstatement {}: {count} rows", at + 1);
        }
    }
    for (mark, definitions) in [('-', &found.schema.0), ('+', &found.schema.1)] {
        for definition in definitions {
            let _ = writeln!(shown, "\n{mark} {}", visible(definition));
        }
    }
    if !found.destroys.is_empty() {
        let what: Vec<_> = found.destroys.iter().map(|what| visible_line(what)).collect();
        let _ = writeln!(shown, "\nDestroys: {}", what.join("; "));
    }
    let undo = if found.is_exact { "Can be undone." } else { "Cannot be undone." };
    let _ = write!(shown, "\n{undo}");
    shown
}

/// The rows that change, table by table.
pub(super) fn rows(changes: &[TableChange]) -> String {
    let mut shown = String::new();
    for TableChange { table, rows } in changes {
        let what = if rows.is_empty() { "unchanged".to_owned() } else { tally(rows) };
        let _ = writeln!(shown, "\n{}: {what}", visible_line(&table.name));
        for row in rows.iter().take(SHOWN_MAX_ROWS) {
            let _ = writeln!(shown, "  {}", line(table, row));
        }
        if rows.len() > SHOWN_MAX_ROWS {
            let _ = writeln!(shown, "  … and {} more rows", rows.len() - SHOWN_MAX_ROWS);
        }
    }
    shown
}

fn line(table: &Table, row: &RowChange) -> String {
    let columns = table.columns.iter().map(|name| visible_line(name));
    let whole = |cells: &[super::cell::Cell]| {
        let pairs = table.columns.iter().zip(cells);
        pairs
            .map(|(name, cell)| format!("{}={}", visible_line(name), cell.shown()))
            .collect::<Vec<_>>()
            .join(" ")
    };
    match (&row.before, &row.after) {
        (None, Some(after)) => format!("+ {}", whole(after)),
        (Some(before), None) => format!("- {}", whole(before)),
        (Some(before), Some(after)) => {
            let changed = columns.zip(before.iter().zip(after)).filter(|(_, (was, is))| was != is);
            let changed =
                changed.map(|(name, (was, is))| format!("{name}: {} -> {}", was.shown(), is.shown()));
            format!("~ {}  {}", table.shown_key(after), changed.collect::<Vec<_>>().join(", "))
        }
        (None, None) => String::new(),
    }
}
