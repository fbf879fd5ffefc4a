//! Who is alive, without a clock: an owner holds an exclusive lock on a file beside the database, and the kernel lets
//! go of it when the process ends, however it ends. Whoever can take the lock knows that the owner is dead.
//!
//! File locks of the kernel hold within one machine. The database may not lie on a network file system.

use super::intents;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The directory of the lock files.
#[derive(Debug, Clone)]
pub(crate) struct Owners {
    dir: PathBuf,
    intents: PathBuf,
}

/// A process's own lock. Dropping it is a clean end.
#[derive(Debug)]
pub(crate) struct Seat {
    /// The name of the owner.
    pub(crate) name: String,
    /// The number in the database.
    pub(crate) id: i64,
    path: PathBuf,
    _lock: File,
}

/// What one process has at a time: nobody else has it before this is dropped, or the process ends.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "held for its lock")] File);

impl Drop for Seat {
    fn drop(&mut self) {
        // Should it stay, it is a file without a lock: as dead as no file.
        drop(fs::remove_file(&self.path));
    }
}

impl Owners {
    /// The owners of this database: `<database>.owners/` and `<database>.intents/`, made if they are not there.
    pub(crate) fn beside(database: &Path) -> io::Result<Self> {
        let mut name = database.as_os_str().to_owned();
        name.push(".owners");
        let (dir, intents) = (PathBuf::from(name), intents::beside(database));
        fs::create_dir_all(&dir)?;
        fs::create_dir_all(&intents)?;
        Ok(Self { dir, intents })
    }

    /// Where owners write what they are about to spend.
    pub(crate) fn intents(&self) -> &Path {
        &self.intents
    }

    /// Makes one process at a time set the database up. Waits for the others.
    pub(crate) fn gate(&self) -> io::Result<File> {
        let file = File::create(self.dir.join(".open"))?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    /// Takes what one process has at a time; `None` while another one has it.
    pub(crate) fn turn(&self, what: &str) -> io::Result<Option<Turn>> {
        let file = File::create(self.dir.join(format!(".{what}")))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Turn(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a seat under a name that nobody had before, but for somebody in another database that lay here.
    pub(crate) fn seat(&self, id: i64, name: String) -> io::Result<Seat> {
        intents::remove(&self.intents, &name);
        let path = self.dir.join(&name);
        let lock = File::create(&path)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Seat { name, id, path, _lock: lock })
    }

    /// Whether the process with this name lives. What cannot be found out counts as alive.
    pub(crate) fn is_alive(&self, name: &str) -> bool {
        match File::open(self.dir.join(name)) {
            // A shared lock, so that two who look at once do not take each other for the owner.
            Ok(file) => flock(&file, FlockOperation::NonBlockingLockShared).is_err(),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Removes what a dead process left.
    pub(crate) fn bury(&self, name: &str) {
        drop(fs::remove_file(self.dir.join(name)));
    }
}

/// The boot of this machine: a new id each time. Empty where the kernel does not say.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
