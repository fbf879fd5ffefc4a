//! What a person asks of the file in SQL. It only reads: the file is opened so, and an authorizer refuses all but reading. A
//! query that takes too long, or gives too much, is cut off.

use super::fault::Fail;
use super::schema;
use backstop_journal::JournalError;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode};
use std::path::Path;
use std::time::{Duration, Instant};

/// Instructions of SQLite's machine between two looks at the clock: some dozens of microseconds.
const STEPS: i32 = 1_000;

/// Pragmas that only tell of the shape of tables.
const TELLING: [&str; 6] =
    ["table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo"];

/// Functions that reach out of the database.
const REACHING_OUT: [&str; 3] = ["load_extension", "fts3_tokenizer", "sqlite_log"];

/// How much a query may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryLimits {
    /// Rows; the query ends after so many.
    pub rows: usize,
    /// Time; the query fails after it.
    pub time: Duration,
}

/// A value of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum QueryValue<'a> {
    /// Nothing.
    Null,
    /// A whole number.
    Integer(i64),
    /// A number.
    Real(f64),
    /// A text; what is no UTF-8 in it was replaced.
    Text(&'a str),
    /// Bytes.
    Blob(&'a [u8]),
}

/// Why a query gave nothing more.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// It is no statement that reads.
    #[error("{0}")]
    Refused(String),
    /// It took too long.
    #[error("the query took longer than {} s", .0.as_secs_f64())]
    TooLong(Duration),
    /// Whoever takes the rows failed.
    #[error(transparent)]
    Sink(#[from] std::io::Error),
    /// The file cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Takes the names of the columns and then row by row.
pub trait Rows {
    /// The names of the columns. Called once, before any row.
    fn columns(&mut self, names: &[String]) -> std::io::Result<()>;
    /// A row.
    fn row(&mut self, values: &[QueryValue<'_>]) -> std::io::Result<()>;
}

/// Asks one statement of a database. Whether all rows were given, and not only as many as are allowed. Waits for the disk:
/// not for async code.
pub fn query(path: &Path, sql: &str, limits: QueryLimits, rows: &mut dyn Rows) -> Result<bool, QueryError> {
    let mut db = schema::open_to_read(path)?;
    watch(&mut db, limits.time).map_err(|error| Fail::from(error).at(path))?;
    ask(&db, sql, limits, rows).map_err(|stop| match stop {
        Stop::Sql(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            QueryError::TooLong(limits.time)
        }
        Stop::Sql(error) => told(error, path),
        Stop::Told(error) => error,
    })
}

/// Why it ended, before it is told.
enum Stop {
    Sql(rusqlite::Error),
    Told(QueryError),
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Told(error.into())
    }
}

fn ask(db: &Connection, sql: &str, limits: QueryLimits, rows: &mut dyn Rows) -> Result<bool, Stop> {
    let mut statement = db.prepare(sql)?;
    if statement.column_count() == 0 {
        return Err(Stop::Told(QueryError::Refused("the query gives no rows: it is no SELECT".to_owned())));
    }
    if statement.parameter_count() > 0 {
        let why = "the query has parameters, and there is nothing to put in their place";
        return Err(Stop::Told(QueryError::Refused(why.to_owned())));
    }
    let names: Vec<String> = statement.column_names().map(ToString::to_string).collect();
    rows.columns(&names)?;
    let columns = statement.column_count();
    let mut found = statement.query([])?;
    let mut given = 0;
    while let Some(row) = found.next()? {
        if given == limits.rows {
            return Ok(false);
        }
        let mut texts = Vec::with_capacity(columns);
        for column in 0..columns {
            let ValueRef::Text(text) = row.get_ref(column)? else { continue };
            texts.push((column, String::from_utf8_lossy(text)));
        }
        let mut values = Vec::with_capacity(columns);
        for column in 0..columns {
            values.push(match row.get_ref(column)? {
                ValueRef::Null => QueryValue::Null,
                ValueRef::Integer(number) => QueryValue::Integer(number),
                ValueRef::Real(number) => QueryValue::Real(number),
                ValueRef::Blob(bytes) => QueryValue::Blob(bytes),
                ValueRef::Text(_) => {
                    let text = texts.iter().find(|(place, _)| *place == column);
                    text.map_or(QueryValue::Null, |(_, text)| QueryValue::Text(text))
                }
            });
        }
        rows.row(&values)?;
        given += 1;
    }
    Ok(true)
}

fn watch(db: &mut Connection, time: Duration) -> rusqlite::Result<()> {
    // Nothing decides by this clock but how long a person is kept waiting.
    #[expect(clippy::disallowed_methods, reason = "it bounds a read of a person's, and is in no event")]
    let end = Instant::now() + time;
    #[expect(clippy::disallowed_methods, reason = "it bounds a read of a person's, and is in no event")]
    db.progress_handler(STEPS, Some(move || Instant::now() >= end))?;
    db.authorizer(Some(
        |asked: AuthContext<'_>| {
            if reads(&asked.action) { Authorization::Allow } else { Authorization::Deny }
        },
    ))
}

fn reads(action: &AuthAction<'_>) -> bool {
    match action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => true,
        AuthAction::Function { function_name } => {
            !REACHING_OUT.iter().any(|name| function_name.eq_ignore_ascii_case(name))
        }
        AuthAction::Pragma { pragma_name, .. } => {
            TELLING.iter().any(|name| pragma_name.eq_ignore_ascii_case(name))
        }
        _ => false,
    }
}

/// What SQLite says of a statement is for whoever wrote it; what it says of the file is not.
fn told(error: rusqlite::Error, path: &Path) -> QueryError {
    match error.sqlite_error_code() {
        Some(ErrorCode::AuthorizationForStatementDenied) => {
            QueryError::Refused("a query only reads".to_owned())
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::SystemIoFailure) => {
            Fail::from(error).at(path).into()
        }
        _ => match error {
            rusqlite::Error::MultipleStatement => {
                QueryError::Refused("there is more than one statement".to_owned())
            }
            rusqlite::Error::SqlInputError { msg, .. } => QueryError::Refused(msg),
            rusqlite::Error::SqliteFailure(_, Some(text)) => QueryError::Refused(text),
            other => QueryError::Refused(other.to_string()),
        },
    }
}
