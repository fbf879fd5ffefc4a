//! Opening the file: what is ours is used, what is new is set up, what is anything else is refused untouched.

use super::fault::{Fail, io_error};
use super::owner::Owners;
use backstop_journal::JournalError;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `BkSt`, in the header of the file.
const APPLICATION_ID: u32 = 0x426B_5374;
/// What makes each format of the one before; the first, of an empty file. A new file goes the same way as an old one, so that
/// both end up the same.
const FORMATS: [&str; 3] =
    [include_str!("schema/1.sql"), include_str!("schema/2.sql"), include_str!("schema/3.sql")];
/// What people query. It is no part of the format: a file gets the views of the version that opens it.
const VIEWS: &str = include_str!("schema/views.sql");
/// The newest format this version knows.
const FORMAT: u32 = 3;
/// What a commit costs is the pages it touches, each written whole and hashed into the log: with 4 KiB a step of 1 KB is
/// half of what it is with 8 KiB, and three such rows still fill nine tenths of a page.
const PAGE_BYTES: u32 = 4096;
/// A file up to this size is checked whole when it is opened: about 10 ms.
const CHECKED_WHOLE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The log is cut to this size when it starts over.
const LOG_BYTES_MAX: i64 = 64 * 1024 * 1024;
/// How long to wait at a time for another process that is writing, and how often.
const TURN: Duration = Duration::from_millis(1);
const TURNS_MAX: i32 = 10_000;
/// Every statement of the room is kept prepared.
const STATEMENTS_MAX: usize = 64;

/// Opens the file for writing, and sets it up if it is new.
pub(crate) fn open(path: &Path) -> Result<(Connection, Owners), JournalError> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(|error| io_error(&error, dir))?;
    }
    if path.is_dir() {
        return Err(JournalError::Unusable(format!("{}: it is a directory", path.display())));
    }
    let exists = inspect(path)?;
    let owners = Owners::beside(path).map_err(|error| io_error(&error, path))?;
    let _gate = owners.gate().map_err(|error| io_error(&error, path))?;
    if exists {
        check(path).map_err(|fail| fail.at(path))?;
    }
    let connection = set_up(path).map_err(|fail| fail.at(path))?;
    Ok((connection, owners))
}

/// A connection that only reads.
pub(crate) fn open_to_read(path: &Path) -> Result<Connection, JournalError> {
    let open = || -> Result<Connection, Fail> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        prepare(&mut connection)?;
        Ok(connection)
    };
    open().map_err(|fail| fail.at(path))
}

/// Another connection that may write: for checkpoints.
pub(crate) fn open_beside(path: &Path) -> Result<Connection, JournalError> {
    let open = || -> Result<Connection, Fail> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        prepare(&mut connection)?;
        Ok(connection)
    };
    open().map_err(|fail| fail.at(path))
}

/// Reads the header with no help of SQLite's, so that a file of another program is not touched. Whether there is one.
fn inspect(path: &Path) -> Result<bool, JournalError> {
    let mut header = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(100).read_to_end(&mut header).map_err(|error| io_error(&error, path))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(io_error(&error, path)),
    };
    let mut journal = path.as_os_str().to_owned();
    journal.push("-journal");
    if header.is_empty() || PathBuf::from(journal).exists() {
        // Nothing yet, or setting it up was cut short: SQLite rolls that back.
        return Ok(false);
    }
    let damaged = |what: &str| Err(JournalError::Damaged(format!("{}: {what}", path.display())));
    if header.len() < 100 || !header.starts_with(b"SQLite format 3\0") {
        return damaged("it is no SQLite database");
    }
    let number = |at: usize| header[at..at + 4].iter().fold(0_u32, |n, byte| (n << 8) | u32::from(*byte));
    if number(68) != APPLICATION_ID {
        return damaged("it is a database of another program");
    }
    not_newer(number(60))?;
    Ok(true)
}

fn not_newer(found: u32) -> Result<(), JournalError> {
    if found > FORMAT {
        return Err(JournalError::Newer { found, known: FORMAT });
    }
    Ok(())
}

/// Looks through the file before anything may write to it.
fn check(path: &Path) -> Result<(), Fail> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_handler(Some(wait_for_others))?;
    not_newer(connection.query_row("PRAGMA user_version", [], |row| row.get(0))?)?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
    if fs::metadata(path).is_ok_and(|file| file.len() <= CHECKED_WHOLE_BYTES_MAX) {
        whole(&connection, "PRAGMA quick_check(1)", path)?;
    }
    Ok(())
}

/// SQLite's own check of the file. It says `ok`, or what is wrong.
pub(crate) fn whole(connection: &Connection, pragma: &str, path: &Path) -> Result<(), Fail> {
    let found: String = connection.query_row(pragma, [], |row| row.get(0))?;
    if found != "ok" {
        return Err(JournalError::Damaged(format!("{}: {found}", path.display())).into());
    }
    Ok(())
}

fn set_up(path: &Path) -> Result<Connection, Fail> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_handler(Some(wait_for_others))?;
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let format: u32 = tx.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    not_newer(format)?;
    if format == 0 {
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    // In one transaction: a file is of one format or of the other, wherever its program is killed.
    for step in FORMATS.iter().skip(usize::try_from(format).unwrap_or(usize::MAX)) {
        tx.execute_batch(step)?;
    }
    if format < FORMAT {
        tx.pragma_update(None, "user_version", FORMAT)?;
    }
    make_views(&tx)?;
    // With a rollback journal still: the header is in the file itself from the first moment on.
    tx.commit()?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(JournalError::Unusable(format!("{}: no write-ahead log here", path.display())).into());
    }
    prepare(&mut connection)?;
    Ok(connection)
}

/// Makes the views anew, unless they are there as this version has them.
fn make_views(db: &Connection) -> Result<(), Fail> {
    let there: Vec<(String, String)> = db
        .prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'view' ORDER BY rowid")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    // SQLite keeps each as it was written, without what stands around it.
    let wanted = VIEWS.split(';').filter_map(|text| text.find("CREATE VIEW").map(|from| &text[from..]));
    if wanted.eq(there.iter().map(|(_, text)| text.as_str())) {
        return Ok(());
    }
    for (name, _) in &there {
        db.execute_batch(&format!("DROP VIEW \"{name}\""))?;
    }
    db.execute_batch(VIEWS)?;
    Ok(())
}

/// SQLite's own way of waiting sleeps longer and longer, and starves whoever shares the file with a busy process; looking
/// again after each millisecond finds the moment between two of its commits.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing wakes a process when another one lets go of the database"
)]
pub(super) fn wait_for_others(turns: i32) -> bool {
    std::thread::sleep(TURN);
    turns < TURNS_MAX
}

fn prepare(connection: &mut Connection) -> Result<(), Fail> {
    connection.busy_handler(Some(wait_for_others))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_MAX)?;
    // What is erased is overwritten, not only unlinked.
    connection.pragma_update(None, "secure_delete", "ON")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(())
}
