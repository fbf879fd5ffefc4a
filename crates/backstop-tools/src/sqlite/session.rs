//! How a database is opened so that nothing but it is opened. SQLite opens files by name: it resolves every link in the path
//! it is given (`/proc/self/fd/…` too), and makes names of its own for the journal, the write-ahead log and its index. So all
//! work is done on a thread that gave up, by Landlock, every right outside of the directory that the database lies in. The
//! directory is named by its descriptor, which was opened beneath the workspace's root: a directory that is swapped for
//! a link in between leads to a refusal of the kernel, and nowhere else.

use super::grant::Granted;
use super::limits::Limits;
use backstop_agent::{PathError, Place, ToolContext, ToolError, Workspace};
use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError,
};
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// About so many virtual machine instructions are between two looks at the limits.
const OPS_PER_LOOK: i32 = 250;
/// How long a lock of somebody else is waited for.
const BUSY: Duration = Duration::from_secs(3);
/// The largest text, blob or row, in bytes.
const CELL_MAX_BYTES: i32 = 16 * 1024 * 1024;
/// What SQLite keeps beside a database.
const BESIDE: [&str; 3] = ["-journal", "-wal", "-shm"];
/// What the C library reads for random numbers and local time.
const READ_TOO: [&str; 3] = ["/dev/urandom", "/etc/localtime", "/usr/share/zoneinfo"];

/// A call's time with a database.
pub(super) struct Session {
    place: Place,
    limits: Arc<Limits>,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Read,
    Write,
}

/// Lets the work stop when the call's future is dropped.
struct Abandon(Arc<Limits>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Does work with a database of the workspace, on a thread that can open nothing else.
pub(super) async fn confined<T, F>(
    granted: &Granted,
    context: &ToolContext,
    database: &str,
    work: F,
) -> Result<T, ToolError>
where
    T: Send + 'static,
    F: FnOnce(&Session) -> Result<T, ToolError> + Send + 'static,
{
    let Some(workspace) = &context.workspace else {
        return Err(ToolError::Failed("This run has no workspace, so it has no databases.".to_owned()));
    };
    let place = place(granted, workspace, database)?;
    let limits = Limits::new(granted.timeout, granted.max_memory_bytes);
    let limits =
        limits.map_err(|error| ToolError::Failed(format!("No limits for the database: {error}.")))?;
    let limits = Arc::new(limits);
    let _abandon = Abandon(Arc::clone(&limits));
    let session = Session { place, limits };
    let (done, result) = oneshot::channel();
    let thread = std::thread::Builder::new().name("sqlite".to_owned()).spawn(move || {
        // Nobody may be waiting any more.
        let _ = done.send(session.confine().and_then(|()| work(&session)));
    });
    thread.map_err(|error| ToolError::Failed(format!("No thread for the database: {error}.")))?;
    result.await.unwrap_or_else(|_| Err(ToolError::Unknown("the database tool crashed".to_owned())))
}

/// Where the database lies, if it is granted and is what it seems to be.
fn place(granted: &Granted, workspace: &Workspace, database: &str) -> Result<Place, ToolError> {
    let found = workspace.relative(database).and_then(|relative| {
        let place = workspace.place(&relative)?;
        BESIDE.iter().try_for_each(|suffix| place.holds(suffix).map(drop))?;
        Ok(place)
    });
    let place = found.map_err(|error| ToolError::Failed(explain(database, &error)))?;
    if granted.is_granted(&place.relative) {
        return Ok(place);
    }
    Err(ToolError::Failed(format!(
        "`{database}` is not granted. Databases you may use: {}.",
        granted.shown()
    )))
}

fn explain(database: &str, error: &PathError) -> String {
    match error {
        PathError::NotFound => format!("There is no database `{database}`. Verify the path with list_files."),
        PathError::Outside => format!(
            "`{database}` leads outside the workspace. Use a path from the workspace's root, without `..`."
        ),
        other => format!(
            "`{database}`, or what SQLite keeps beside it, {other}. It cannot be opened as a database; use another one."
        ),
    }
}

impl Session {
    /// Takes every right from this thread but those to the database's directory.
    fn confine(&self) -> Result<(), ToolError> {
        let restrict = || -> Result<(), RulesetError> {
            let all = AccessFs::from_all(ABI::V1);
            let own: BitFlags<AccessFs> = AccessFs::ReadFile
                | AccessFs::ReadDir
                | AccessFs::WriteFile
                | AccessFs::MakeReg
                | AccessFs::RemoveFile;
            let mut rules = Ruleset::default()
                .set_compatibility(CompatLevel::HardRequirement)
                .handle_access(all)?
                .create()?
                .add_rule(PathBeneath::new(&self.place.dir, own))?;
            for path in READ_TOO {
                // Where it is missing the C library does without.
                let Ok(fd) = PathFd::new(path) else { continue };
                let read = BitFlags::from(AccessFs::ReadFile);
                let read = if Path::new(path).is_dir() { read | AccessFs::ReadDir } else { read };
                rules = rules.add_rule(PathBeneath::new(fd, read))?;
            }
            rules.restrict_self().map(drop)
        };
        restrict().map_err(|error| {
            ToolError::Failed(format!(
                "Databases cannot be opened on this machine: they are confined by Landlock (Linux 5.13 or newer), and the \
                 kernel says: {error}. Do the task without, or say that this is missing."
            ))
        })
    }

    /// Opens the database. What a hostile schema or a hostile statement could turn on is off.
    pub(super) fn connect(&self, mode: Mode) -> Result<Connection, ToolError> {
        let opened = match mode {
            Mode::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
            Mode::Write => OpenFlags::SQLITE_OPEN_READ_WRITE,
        };
        self.open(opened | OpenFlags::SQLITE_OPEN_NO_MUTEX, mode).map_err(|error| self.explain(&error))
    }

    fn open(&self, flags: OpenFlags, mode: Mode) -> rusqlite::Result<Connection> {
        let mut connection = Connection::open_with_flags(self.path(), flags)?;
        connection.busy_timeout(BUSY.min(self.limits.time()))?;
        let limits = Arc::clone(&self.limits);
        connection.progress_handler(OPS_PER_LOOK, Some(move || limits.is_over()))?;
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, CELL_MAX_BYTES)?;
        connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
        connection.set_limit(Limit::SQLITE_LIMIT_WORKER_THREADS, 0)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "query_only", mode == Mode::Read)?;
        // Reads the file, so that what is no database is told here.
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(connection)
    }

    /// By the directory's descriptor: SQLite resolves it to the path that it has now.
    fn path(&self) -> PathBuf {
        Path::new("/proc/self/fd").join(self.place.dir.as_raw_fd().to_string()).join(&self.place.name)
    }

    /// The database's path from the workspace's root.
    pub(super) fn name(&self) -> String {
        self.place.relative.to_string_lossy().into_owned()
    }

    /// Fails when the call must stop: asked last before something is committed.
    pub(super) fn still_wanted(&self) -> Result<(), ToolError> {
        if self.limits.is_over() {
            return Err(ToolError::Failed(self.limits.told()));
        }
        Ok(())
    }

    /// Says to the model what SQLite said.
    pub(super) fn explain(&self, error: &rusqlite::Error) -> ToolError {
        let name = self.name();
        let text = match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => return ToolError::Failed(self.limits.told()),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                format!("`{name}` is in use by another program; nothing was changed. Try again later.")
            }
            Some(ErrorCode::NotADatabase) => {
                format!("`{name}` is no SQLite database, or is encrypted. Use another file.")
            }
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly) => format!(
                "`{name}` cannot be opened as it is: its file or directory may be read-only, or a program died while it \
                 wrote to it. Nothing was changed."
            ),
            _ => format!("SQLite: {}. Nothing was changed.", message(error)),
        };
        ToolError::Failed(text)
    }
}

fn message(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqlInputError { msg, offset, .. } if *offset >= 0 => {
            format!("{msg} (at byte {offset})")
        }
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(workspace: &Workspace, database: &str) -> Session {
        Session {
            place: workspace.place(Path::new(database)).unwrap(),
            limits: Arc::new(Limits::new(Duration::from_mins(1), u64::MAX).unwrap()),
        }
    }

    /// SQLite turns `/proc/self/fd/…` into the path of the moment and opens that: a directory that was swapped for a link
    /// meanwhile would lead it anywhere.
    #[test]
    fn a_directory_that_is_swapped_for_a_link_leads_nowhere() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let inside = dir.path().join("data");
        std::fs::create_dir(&inside).unwrap();
        let target = outside.path().join("x.db");
        for place in [&inside.join("x.db"), &target] {
            Connection::open(place).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        }
        let workspace = Workspace::open(dir.path()).unwrap();
        let session = session(&workspace, "data/x.db");
        std::fs::rename(&inside, dir.path().join("moved")).unwrap();
        std::os::unix::fs::symlink(outside.path(), &inside).unwrap();
        let swapped = inside.join("x.db");
        assert!(Connection::open(&swapped).unwrap().execute_batch("INSERT INTO t VALUES (1)").is_ok());
        let confined = std::thread::spawn(move || {
            session.confine().unwrap();
            // The path that SQLite would have kept from before the swap.
            let other = Connection::open_with_flags(&swapped, OpenFlags::SQLITE_OPEN_READ_WRITE);
            let other = other.and_then(|connection| connection.execute_batch("DELETE FROM t"));
            assert_eq!(other.unwrap_err().sqlite_error_code(), Some(ErrorCode::CannotOpen));
            for denied in
                [std::fs::write(swapped.with_file_name("x.db-journal"), "x"), std::fs::remove_file(&swapped)]
            {
                assert_eq!(denied.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
            }
            let own = session.connect(Mode::Write).unwrap();
            own.execute_batch("INSERT INTO t VALUES (2)").unwrap();
        });
        confined.join().unwrap();
        let rows = |path: &Path| {
            let connection = Connection::open(path).unwrap();
            connection.query_row("SELECT group_concat(x) FROM t", [], |row| row.get::<_, String>(0)).unwrap()
        };
        assert_eq!((rows(&target), rows(&dir.path().join("moved/x.db"))), ("1".to_owned(), "2".to_owned()));
    }
}
