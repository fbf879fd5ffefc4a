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
    Line(Box<Event>),
    /// Folded, not written: what happened before this process.
    Past(Vec<Event>),
}

/// Somewhere lines can be put, each whole.
pub trait Lines: Send {
    /// Puts a line, without its end, under the date of its event (`2026-11-22`).
    fn put(&mut self, date: &str, line: &str) -> io::Result<()>;

    /// Hands on what is held back.
    fn flush(&mut self) -> io::Result<()>;
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
            report: Report::default(),
            dropped: Arc::clone(&dropped),
        };
        let thread = std::thread::Builder::new().name("log".into()).spawn(move || writer.run(&incoming))?;
        Ok(Self { queue, dropped, thread: Mutex::new(Some(thread)) })
    }

    /// Takes an event. Never waits: when the queue is full the event is counted as dropped.
    pub fn push(&self, event: &Event) {
        if self.queue.put(Message::Line(Box::new(event.clone())), QUEUE_EVENTS).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells what happened before, so that later lines name its task and role. Writes nothing.
    pub fn remember(&self, past: Vec<Event>) {
        // A log that is closed needs no past.
        drop(self.queue.put(Message::Past(past), usize::MAX));
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
    report: Report,
    dropped: Arc<AtomicU64>,
}

impl<L: Lines> Writer<L> {
    fn run(mut self, incoming: &Queue<Message>) -> Report {
        while let Some(messages) = incoming.take(LINGER) {
            for message in &messages {
                self.take(message);
            }
            // Whoever follows the file sees everything that there was.
            let flushed = self.lines.flush();
            self.count(flushed, 0);
        }
        self.say_dropped("");
        let flushed = self.lines.flush();
        self.count(flushed, 0);
        self.report
    }

    fn take(&mut self, message: &Message) {
        match message {
            Message::Past(events) => events.iter().for_each(|event| drop(self.log.push(event))),
            Message::Line(event) => {
                let line = self.log.push(event);
                let date = event.at.date();
                self.say_dropped(&date);
                if line.level < self.level {
                    return;
                }
                match serde_json::to_string(&line) {
                    Ok(text) => {
                        let put = self.lines.put(&date, &text);
                        self.count(put, 1);
                    }
                    Err(error) => self.count(Err(error.into()), 1),
                }
            }
        }
    }

    /// Says once, in the place where they are missing, how many events were dropped.
    fn say_dropped(&mut self, date: &str) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped == 0 {
            return;
        }
        self.report.dropped += dropped;
        let line = format!(
            "{{\"level\":\"warn\",\"event\":\"log.dropped\",\"message\":\"{dropped} events are not in this log; the \
             journal has them\"}}"
        );
        let put = self.lines.put(date, &line);
        self.count(put, 1);
    }

    fn count(&mut self, result: io::Result<()>, lines: u64) {
        match result {
            Ok(()) => self.report.written += lines,
            Err(error) => {
                self.report.failed += lines;
                self.report.error = Some(error.to_string());
            }
        }
    }
}

/// Standard output. The lock is taken for each line, so that lines of others do not get into ours.
struct Stdout;

impl Lines for Stdout {
    fn put(&mut self, _: &str, line: &str) -> io::Result<()> {
        writeln!(io::stdout().lock(), "{line}")
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().lock().flush()
    }
}

#[cfg(test)]
mod tests;
