//! What SQLite says went wrong, in the journal's words. Decided by its codes, never by its texts.

use backstop_journal::JournalError;
use rusqlite::ErrorCode;
use std::io;
use std::path::Path;

/// Below so many free bytes a failed write counts as a full disk: SQLite cannot tell when its index of the log does
/// not fit.
const ROOM_BYTES_MIN: u64 = 1024 * 1024;

/// An error on its way to the edge of the room, where the path is known.
#[derive(Debug)]
pub(crate) enum Fail {
    /// SQLite's.
    Sql(rusqlite::Error),
    /// Ours.
    Journal(JournalError),
}

impl From<rusqlite::Error> for Fail {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<JournalError> for Fail {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl Fail {
    /// The error as users see it.
    pub(crate) fn at(self, path: &Path) -> JournalError {
        match self {
            Self::Sql(error) => classify(&error, path),
            Self::Journal(error) => error,
        }
    }
}

/// An error of the file system.
pub(crate) fn io_error(error: &io::Error, path: &Path) -> JournalError {
    let text = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => JournalError::DiskFull(text),
        _ => JournalError::Unusable(text),
    }
}

fn classify(error: &rusqlite::Error, path: &Path) -> JournalError {
    let text = format!("{}: {error}", path.display());
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => JournalError::DiskFull(text),
        Some(ErrorCode::SystemIoFailure) if is_full(path) => JournalError::DiskFull(text),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => JournalError::Busy(text),
        // `None`: rows that are not of the shape we wrote them in.
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) | None => JournalError::Damaged(text),
        Some(_) => JournalError::Unusable(text),
    }
}

fn is_full(path: &Path) -> bool {
    let room = path.parent().and_then(|dir| rustix::fs::statvfs(dir).ok());
    let disk = room.map(|room| room.f_bavail.saturating_mul(room.f_frsize));
    disk.into_iter().chain(room_to_grow(path)).any(|bytes| bytes < ROOM_BYTES_MIN)
}

/// How much a file of the database may still grow, where the process has a limit for that (`ulimit -f`).
fn room_to_grow(path: &Path) -> Option<u64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current?;
    let size = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        std::fs::metadata(name).map_or(0, |file| file.len())
    };
    Some(limit.saturating_sub(size("").max(size("-wal"))))
}
