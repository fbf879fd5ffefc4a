//! Copies the log back into the database, on a connection and a thread of its own, so that commits go on meanwhile. After an
//! erasure the thread sees to it that no copy of what was erased is left.

use super::queue::Queue;
use super::schema::wait_for_others;
use super::scrub;
use rusqlite::Connection;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Pages in the log, not copied yet, from which on it is copied at once: 8 MiB.
const PAGES_DUE: u64 = 2048;
/// Pages in the log from which on the writer itself copies what is left, so that the log can start over: 32 MiB. While
/// commits never pause, the thread alone would always find a few new pages and the log would never end.
const PAGES_MAX: u64 = 8192;
/// How long the log may wait while it is short, and copies of what was erased while somebody reads there.
const WAIT: Duration = Duration::from_secs(1);
/// How long nobody commits at most while the log is to be cut off and somebody reads there, in milliseconds.
const CUT_TURNS_MAX: i32 = 50;

/// The log between the writer and the thread that copies it.
#[derive(Debug)]
pub(crate) struct Log {
    wakes: Queue<()>,
    pages: AtomicU64,
    written: AtomicU64,
    copied: AtomicU64,
    checkpoints: AtomicU64,
}

impl Log {
    /// An empty log.
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            wakes: Queue::new(1 << 16, usize::MAX),
            pages: zero(),
            written: zero(),
            copied: zero(),
            checkpoints: zero(),
        }
    }

    /// The writer committed; the log has so many pages now.
    pub(crate) fn grew_to(&self, pages: u64) {
        let before = self.pages.swap(pages, Ordering::Relaxed);
        let fresh = if pages < before {
            self.copied.store(0, Ordering::Relaxed);
            pages
        } else {
            pages - before
        };
        self.written.fetch_add(fresh, Ordering::Relaxed);
        let due = pages.saturating_sub(self.copied.load(Ordering::Relaxed)) >= PAGES_DUE;
        // Refused means that very many wakes wait already.
        let _ = self.wakes.put((), 0, due);
    }

    /// Whether the writer must help.
    pub(crate) fn is_long(&self) -> bool {
        self.pages.load(Ordering::Relaxed) >= PAGES_MAX
    }

    /// Copies until it is closed, then once more.
    pub(crate) fn run(&self, db: &mut Connection) {
        // Should it fail, commits wait longer.
        drop(db.busy_handler(Some(|turns| turns < CUT_TURNS_MAX && wait_for_others(turns))));
        let mut scrubbed = 0;
        // Another process may have left something over.
        let _ = self.wakes.put((), 0, false);
        while self.wakes.take(WAIT, usize::MAX).is_some() {
            self.copy_back(db);
            if !scrub::finish(db, &mut scrubbed) {
                let _ = self.wakes.put((), 0, false);
            }
        }
        self.copy_back(db);
        scrub::finish(db, &mut scrubbed);
    }

    /// PASSIVE: copies what it can without making anybody wait. Should it fail, the log only stays longer.
    pub(crate) fn copy_back(&self, db: &Connection) {
        let copied = db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get::<_, i64>(2));
        if let Ok(copied @ 1..) = copied {
            self.copied.store(copied.cast_unsigned(), Ordering::Relaxed);
            self.checkpoints.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Pages that commits wrote.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Checkpoints that copied something.
    pub(crate) fn checkpoints(&self) -> u64 {
        self.checkpoints.load(Ordering::Relaxed)
    }

    /// Nothing more will be written.
    pub(crate) fn close(&self) {
        self.wakes.close();
    }
}
