//! Copies the log back into the database, on a connection and a thread of its own, so that commits go on meanwhile. After an
//! erasure it cuts the log off: what was erased stands there still.

use super::queue::Queue;
use super::schema::wait_for_others;
use rusqlite::Connection;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// Pages in the log, not copied yet, from which on it is copied at once: 8 MiB.
const PAGES_DUE: u64 = 2048;
/// Pages in the log from which on the writer itself copies what is left, so that the log can start over: 32 MiB. While
/// commits never pause, the thread alone would always find a few new pages and the log would never end.
const PAGES_MAX: u64 = 8192;
/// How long the log may wait while it is short, or while somebody reads in it that is to be cut off.
const WAIT: Duration = Duration::from_secs(1);
/// How long nobody commits at most while the log is to be cut off and somebody reads there, in milliseconds.
const CUT_TURNS_MAX: i32 = 50;

/// The log between the writer and the thread that copies it.
#[derive(Debug)]
pub(crate) struct Log {
    wakes: Queue<Option<oneshot::Sender<()>>>,
    pages: AtomicU64,
    copied: AtomicU64,
    checkpoints: AtomicU64,
}

impl Log {
    /// An empty log.
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self { wakes: Queue::new(1 << 16, usize::MAX), pages: zero(), copied: zero(), checkpoints: zero() }
    }

    /// The writer committed; the log has so many pages now.
    pub(crate) fn grew_to(&self, pages: u64) {
        if pages < self.pages.swap(pages, Ordering::Relaxed) {
            self.copied.store(0, Ordering::Relaxed);
        }
        let due = pages.saturating_sub(self.copied.load(Ordering::Relaxed)) >= PAGES_DUE;
        // Refused means that very many wakes wait already.
        let _ = self.wakes.put(None, 0, due);
    }

    /// Has the log cut off, as soon as nobody reads there any more. The future ends when it was tried.
    pub(crate) fn cut(&self) -> impl Future<Output = ()> + Send + use<> {
        let (reply, tried) = oneshot::channel();
        // Refused means that the log is closed, and is cut off then.
        let _ = self.wakes.put(Some(reply), 0, true);
        async { tried.await.unwrap_or_default() }
    }

    /// Whether the writer must help.
    pub(crate) fn is_long(&self) -> bool {
        self.pages.load(Ordering::Relaxed) >= PAGES_MAX
    }

    /// Copies until it is closed, then once more.
    pub(crate) fn run(&self, db: &mut Connection) {
        let mut to_cut = false;
        // Without it, what waits to be cut off is tried once, which is what it is for.
        drop(db.busy_handler(Some(|turns| turns < CUT_TURNS_MAX && wait_for_others(turns))));
        while let Some(wakes) = self.wakes.take(WAIT, usize::MAX) {
            let asked: Vec<_> = wakes.into_iter().flatten().collect();
            to_cut |= !asked.is_empty();
            self.copy_back(db);
            to_cut = to_cut && !cut_off(db);
            if to_cut {
                let _ = self.wakes.put(None, 0, false);
            }
            for reply in asked {
                // Whoever asked may have gone.
                let _ = reply.send(());
            }
        }
        self.copy_back(db);
        if to_cut {
            cut_off(db);
        }
    }

    /// PASSIVE: copies what it can without making anybody wait. Should it fail, the log only stays longer.
    pub(crate) fn copy_back(&self, db: &Connection) {
        let copied = db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get::<_, i64>(2));
        if let Ok(copied @ 1..) = copied {
            self.copied.store(copied.cast_unsigned(), Ordering::Relaxed);
            self.checkpoints.fetch_add(1, Ordering::Relaxed);
        }
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

/// TRUNCATE: copies all of the log, and makes its file empty. Whether it did: not while somebody reads what is older than that.
fn cut_off(db: &Connection) -> bool {
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0)).is_ok_and(|busy| !busy)
}
