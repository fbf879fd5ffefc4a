//! What is known of a table: its columns and its key, and the statements that read and write whole rows of it.

use super::cell::Cell;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use serde::{Deserialize, Serialize};

/// Names of the hidden number of a row; a column may take one away.
const ROWIDS: [&str; 3] = ["rowid", "_rowid_", "oid"];

/// A table whose rows can be named by their key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Table {
    pub(super) name: String,
    /// The columns that are stored, and before them the hidden number where it is no column by itself: whoever puts a row
    /// back puts that back too.
    pub(super) columns: Vec<String>,
    /// Where in them the primary key stands.
    pub(super) key: Vec<usize>,
}

impl Table {
    /// Looks a table up. The inner error says why its rows cannot be followed.
    pub(super) fn read(connection: &Connection, name: &str) -> rusqlite::Result<Result<Self, &'static str>> {
        let sql = "SELECT type, wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1 COLLATE NOCASE";
        let read = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?));
        let Some((kind, has_no_rowid)) = connection.query_row(sql, [name], read).optional()? else {
            return Ok(Err("it is not there before"));
        };
        if kind != "table" {
            return Ok(Err("it is no ordinary table"));
        }
        let sql = "SELECT name, type, pk, hidden FROM pragma_table_xinfo(?1)";
        let mut statement = connection.prepare(sql)?;
        let column = |row: &Row<'_>| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, i64>(2)?,
                row.get::<_, i64>(3)?,
            ))
        };
        let all = statement.query_map([name], column)?.collect::<rusqlite::Result<Vec<_>>>()?;
        // What is generated comes by itself.
        let stored: Vec<_> = all.iter().filter(|(_, _, _, hidden)| *hidden == 0).collect();
        let mut key: Vec<_> = stored
            .iter()
            .enumerate()
            .filter(|(_, column)| column.2 > 0)
            .map(|(at, column)| (column.2, at))
            .collect();
        key.sort_unstable();
        let is_number =
            key.len() == 1 && key.iter().all(|(_, at)| stored[*at].1.eq_ignore_ascii_case("INTEGER"));
        let is_taken = |rowid: &&str| !all.iter().any(|column| column.0.eq_ignore_ascii_case(rowid));
        let rowid = ROWIDS.into_iter().find(is_taken).filter(|_| !has_no_rowid && !is_number);
        let columns = rowid
            .map(str::to_owned)
            .into_iter()
            .chain(stored.iter().map(|column| column.0.clone()))
            .collect();
        let key: Vec<_> = key.into_iter().map(|(_, at)| at + usize::from(rowid.is_some())).collect();
        if key.is_empty() {
            return Ok(Err("it has no primary key"));
        }
        Ok(Ok(Self { name: name.to_owned(), columns, key }))
    }

    /// Reads all rows, in no order. The query stops with the first error of `each`.
    pub(super) fn scan<E: From<rusqlite::Error>>(
        &self,
        connection: &Connection,
        mut each: impl FnMut(&Row<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut statement =
            connection.prepare(&format!("SELECT {} FROM {}", self.list(), quote(&self.name)))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            each(row)?;
        }
        Ok(())
    }

    /// A whole row. `None` when a text in it is no UTF-8.
    pub(super) fn cells(&self, row: &Row<'_>) -> rusqlite::Result<Option<Vec<Cell>>> {
        let cells = (0..self.columns.len()).map(|at| row.get_ref(at).map(Cell::of));
        cells.collect::<rusqlite::Result<Option<Vec<_>>>>()
    }

    /// The key and the whole of a row as hashes. `None` when a part of the key is missing: then it names no row.
    pub(super) fn hashes(&self, row: &Row<'_>) -> rusqlite::Result<Option<(blake3::Hash, blake3::Hash)>> {
        let mut key = blake3::Hasher::new();
        for at in &self.key {
            let value = row.get_ref(*at)?;
            if value == ValueRef::Null {
                return Ok(None);
            }
            absorb(&mut key, value);
        }
        let mut whole = blake3::Hasher::new();
        for at in 0..self.columns.len() {
            absorb(&mut whole, row.get_ref(at)?);
        }
        Ok(Some((key.finalize(), whole.finalize())))
    }

    /// The row with the key of `like`, as it is now.
    pub(super) fn present(
        &self,
        connection: &Connection,
        like: &[Cell],
    ) -> rusqlite::Result<Option<Vec<Cell>>> {
        let sql = format!("SELECT {} FROM {} WHERE {}", self.list(), quote(&self.name), self.by_key());
        let mut statement = connection.prepare_cached(&sql)?;
        let found = statement.query_row(params_from_iter(self.key_of(like)), |row| self.cells(row));
        found.optional().map(Option::flatten)
    }

    pub(super) fn delete(&self, connection: &Connection, like: &[Cell]) -> rusqlite::Result<usize> {
        let sql = format!("DELETE FROM {} WHERE {}", quote(&self.name), self.by_key());
        connection.prepare_cached(&sql)?.execute(params_from_iter(self.key_of(like)))
    }

    pub(super) fn insert(&self, connection: &Connection, cells: &[Cell]) -> rusqlite::Result<usize> {
        let marks: Vec<_> = (1..=self.columns.len()).map(|at| format!("?{at}")).collect();
        let sql =
            format!("INSERT INTO {} ({}) VALUES ({})", quote(&self.name), self.list(), marks.join(", "));
        connection.prepare_cached(&sql)?.execute(params_from_iter(cells))
    }

    /// A row by its key, as a person reads it: `id=7`.
    pub(super) fn shown_key(&self, cells: &[Cell]) -> String {
        let shown = self.key.iter().filter_map(|at| Some((self.columns.get(*at)?, cells.get(*at)?)));
        shown.map(|(name, cell)| format!("{name}={}", cell.shown())).collect::<Vec<_>>().join(" ")
    }

    fn key_of<'a>(&self, cells: &'a [Cell]) -> Vec<&'a Cell> {
        self.key.iter().filter_map(|at| cells.get(*at)).collect()
    }

    fn list(&self) -> String {
        self.columns.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ")
    }

    // By the bytes, whatever the column's own collation: a row that is only alike is another one.
    fn by_key(&self) -> String {
        let names = self.key.iter().filter_map(|at| self.columns.get(*at)).enumerate();
        names
            .map(|(at, name)| format!("{} COLLATE BINARY IS ?{}", quote(name), at + 1))
            .collect::<Vec<_>>()
            .join(" AND ")
    }
}

/// A name as it stands in a statement.
pub(super) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Takes a value in so that no two different ones look alike.
fn absorb(hasher: &mut blake3::Hasher, value: ValueRef<'_>) {
    let (kind, bytes): (u8, &[u8]) = match value {
        ValueRef::Null => (0, &[]),
        ValueRef::Integer(integer) => {
            hasher.update(&[1]).update(&integer.to_be_bytes());
            return;
        }
        ValueRef::Real(real) => {
            hasher.update(&[2]).update(&real.to_bits().to_be_bytes());
            return;
        }
        ValueRef::Text(text) => (3, text),
        ValueRef::Blob(bytes) => (4, bytes),
    };
    hasher.update(&[kind]).update(&(bytes.len() as u64).to_be_bytes()).update(bytes);
}
