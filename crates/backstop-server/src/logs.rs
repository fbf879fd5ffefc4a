//! JSON log lines: one per event, to a file per day or to standard output. The lines are a projection of the journal
//! ([`backstop_journal::projections::log`]); this file owns the queue, the thread, the files and their retention.
//!
//! Logging never holds up or fails a run: the queue is bounded, what does not fit is counted and said in a line of its
//! own, and a file that cannot be written is tried again with the next line. Nothing is lost by either: the journal has
//! everything, and `backstop logs` shows it.

mod file;
mod queue;

pub use file::DailyFile;

use backstop_journal::Event;
use backstop_journal::projections::log::{Level, Log};
use queue::Queue;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How many events wait for the writer at most: some megabytes.
const QUEUE_EVENTS: usize = 8_192;
/// How long a line waits for others, to be written with them.
const LINGER: Duration = Duration::from_millis(20);
/// How much text is gathered before it is written, in bytes.
const WRITE_BYTES: usize = 64 * 1024;

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// To a file per day in this directory, kept for so many days.
    Daily {
        /// The directory; made when the first line comes.
        dir: PathBuf,
        /// Days that a file is kept, today's included.
        retention_days: u32,
    },
    /// To standard output.
    Stdout,
}

/// What came of the log when it was closed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Lines that were written.
    pub written: u64,
    /// Events that found the queue full.
    pub dropped: u64,
    /// Lines that could not be written.
    pub failed: u64,
    /// Why the last of them could not be.
    pub error: Option<String>,
}

/// A log that takes events from any thread. Close it to have everything written; dropping it does the same.
#[derive(Debug)]
pub struct LogWriter {
    queue: Arc<Queue<Message>>,
    dropped: Arc<AtomicU64>,
    thread: Mutex<Option<JoinHandle<Report>>>,
}

#[derive(Debug)]
enum Message {
    /// What was committed together.
    Now(Arc<[Event]>),
    /// Folded, not written: what happened before this process.
    Past(Vec<Event>),
}

/// Somewhere lines can be put, whole ones only.
pub trait Lines: Send {
    /// Puts lines, each with its end, under the date of their events (`2026-11-22`). Nothing is held back: whoever reads
    /// there sees them. All of them failed when it fails.
    fn put(&mut self, date: &str, lines: &str) -> io::Result<()>;
}

impl LogWriter {
    /// Starts the writer's thread. Lines that are less urgent than `level` are not written.
    pub fn start(target: &Target, level: Level) -> io::Result<Self> {
        match target {
            Target::Daily { dir, retention_days } => {
                Self::start_with(DailyFile::new(dir.clone(), *retention_days), level)
            }
            Target::Stdout => Self::start_with(Stdout, level),
        }
    }

    /// The same with lines that go somewhere of the caller's.
    pub fn start_with(lines: impl Lines + 'static, level: Level) -> io::Result<Self> {
        let queue = Arc::new(Queue::new());
        let incoming = Arc::clone(&queue);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            lines,
            level,
            log: Log::default(),
            gathered: Gathered::default(),
            report: Report::default(),
            dropped: Arc::clone(&dropped),
        };
        let thread = std::thread::Builder::new().name("log".into()).spawn(move || writer.run(&incoming))?;
        Ok(Self { queue, dropped, thread: Mutex::new(Some(thread)) })
    }

    /// Takes events. Never waits: when the queue is full they are counted as dropped.
    pub fn push(&self, events: &Arc<[Event]>) {
        if self.queue.put(Message::Now(Arc::clone(events)), events.len(), QUEUE_EVENTS).is_err() {
            self.dropped.fetch_add(events.len() as u64, Ordering::Relaxed);
        }
    }

    /// Tells what happened before, so that later lines name its task and role. Writes nothing.
    pub fn remember(&self, past: Vec<Event>) {
        // A log that is closed needs no past.
        drop(self.queue.put(Message::Past(past), 0, usize::MAX));
    }

    /// Writes what is left and ends the thread. What comes later is not taken any more; a second close reports nothing.
    pub fn close(&self) -> Report {
        self.queue.close();
        let thread = lock(&self.thread).take();
        thread.and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.close();
    }
}

/// What the locks hold is whole at every moment, so a panic elsewhere leaves it usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Writer<L> {
    lines: L,
    level: Level,
    log: Log,
    gathered: Gathered,
    report: Report,
    dropped: Arc<AtomicU64>,
}

/// Lines of one day that are not written yet.
#[derive(Default)]
struct Gathered {
    /// The day, in days since the epoch, and its date; none before the first event.
    date: Option<(u64, String)>,
    text: String,
    lines: u64,
}

impl<L: Lines> Writer<L> {
    fn run(mut self, incoming: &Queue<Message>) -> Report {
        while let Some(messages) = incoming.take(LINGER) {
            for message in &messages {
                match message {
                    Message::Past(events) => events.iter().for_each(|event| drop(self.log.push(event))),
                    Message::Now(events) => events.iter().for_each(|event| self.take(event)),
                }
            }
            // Whoever follows the file sees everything that there was.
            self.write();
        }
        self.say_dropped();
        self.write();
        self.report
    }

    fn take(&mut self, event: &Event) {
        let line = self.log.push(event);
        let day = event.at.day();
        if self.gathered.date.as_ref().is_none_or(|(gathered, _)| *gathered != day) {
            self.write();
            self.gathered.date = Some((day, event.at.date()));
        }
        self.say_dropped();
        if line.level < self.level {
            return;
        }
        line.write_to(&mut self.gathered.text);
        self.end_line();
    }

    /// Says once, in the place where they are missing, how many events were dropped.
    fn say_dropped(&mut self) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped == 0 {
            return;
        }
        self.report.dropped += dropped;
        let line = format!(
            "{{\"level\":\"warn\",\"event\":\"log.dropped\",\"message\":\"{dropped} events are not in this log; the \
             journal has them\"}}"
        );
        self.gathered.text.push_str(&line);
        self.end_line();
    }

    fn end_line(&mut self) {
        self.gathered.text.push('\n');
        self.gathered.lines += 1;
        if self.gathered.text.len() >= WRITE_BYTES {
            self.write();
        }
    }

    /// Writes what is gathered, in one piece.
    fn write(&mut self) {
        let Gathered { date, text, lines } = &mut self.gathered;
        let lines = std::mem::take(lines);
        if lines == 0 {
            return;
        }
        let date = date.as_ref().map_or("", |(_, date)| date);
        let put = self.lines.put(date, text);
        text.clear();
        match put {
            Ok(()) => self.report.written += lines,
            Err(error) => {
                self.report.failed += lines;
                self.report.error = Some(error.to_string());
            }
        }
    }
}

/// Standard output. The lock is held for all that is written together, so that lines of others do not get into ours.
struct Stdout;

impl Lines for Stdout {
    fn put(&mut self, _: &str, lines: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(lines.as_bytes())?;
        out.flush()
    }
}

#[cfg(test)]
mod tests;
