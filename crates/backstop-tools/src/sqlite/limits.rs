//! When a call with a database is stopped: nobody waits for it any more, its time is over, or it took too much memory. SQLite
//! asks every so many steps. It keeps what it sorts in memory, and its own limit on that counts for the whole process, the
//! journal's database included; so it is the process that is looked at, from before the call.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How much of a call is left, and whether it has gone too far.
pub(super) struct Limits {
    time: Duration,
    deadline: Instant,
    /// Opened before the thread gave up its right to.
    statm: File,
    memory_max: u64,
    /// In bytes, when the call began.
    memory_before: u64,
    is_too_large: AtomicBool,
    is_abandoned: AtomicBool,
}

impl Limits {
    /// Of a call that begins now and may take `memory_max` more bytes.
    pub(super) fn new(time: Duration, memory_max: u64) -> std::io::Result<Self> {
        let statm = File::open("/proc/self/statm")?;
        let memory_before = resident(&statm)?;
        Ok(Self {
            time,
            deadline: Instant::now() + time,
            statm,
            memory_max,
            memory_before,
            is_too_large: AtomicBool::new(false),
            is_abandoned: AtomicBool::new(false),
        })
    }

    /// Nobody waits any more.
    pub(super) fn abandon(&self) {
        self.is_abandoned.store(true, Ordering::Relaxed);
    }

    /// Whether the call must stop.
    pub(super) fn is_over(&self) -> bool {
        // What cannot be read is not over: the time is.
        let now = resident(&self.statm).unwrap_or_default();
        if now > self.memory_before.saturating_add(self.memory_max) {
            self.is_too_large.store(true, Ordering::Relaxed);
        }
        let is_late = Instant::now() >= self.deadline || self.is_abandoned.load(Ordering::Relaxed);
        is_late || self.is_too_large.load(Ordering::Relaxed)
    }

    pub(super) fn time(&self) -> Duration {
        self.time
    }

    /// What the model is told of a call that was stopped.
    pub(super) fn told(&self) -> String {
        if self.is_too_large.load(Ordering::Relaxed) {
            return format!(
                "It took more than {} bytes of memory and was stopped; nothing was changed. Sort and join less at once: \
                 narrow the WHERE, use an index, or take fewer columns.",
                self.memory_max
            );
        }
        format!(
            "It took longer than {} seconds and was stopped; nothing was changed. Do less at once: narrow the WHERE, use an \
             index, or split it.",
            self.time.as_secs()
        )
    }
}

/// The memory of this process that is in use, in bytes.
fn resident(statm: &File) -> std::io::Result<u64> {
    let mut buffer = [0; 128];
    let length = statm.read_at(&mut buffer, 0)?;
    let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
    let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    Ok(pages.saturating_mul(rustix::param::page_size() as u64))
}
