//! A server that is a program of ours: how it is started, read line by line within bounds, and ended with everything it
//! started. Knows nothing of the protocol.

use super::grant::Program;
use super::text::one_line;
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// The last lines of its stderr that are kept.
const STDERR_LINES_MAX: usize = 20;
/// The longest of these lines; what is more is cut off.
const STDERR_LINE_MAX_BYTES: usize = 4_096;
/// How long its last words on stderr are waited for when it has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What starts a server: nothing but itself, or a program that is given the server's command line as its last arguments and
/// becomes it, in a sandbox for example. Only such a launcher can see to it that the server dies when this process is killed,
/// since that is asked for from within (`setpriv --pdeathsig KILL --` does); without one, the server sees its input end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Launch {
    prefix: Vec<OsString>,
}

impl Launch {
    /// The server is started as it is.
    pub fn direct() -> Self {
        Self::default()
    }

    /// The server is started by this program with these arguments, which stand before the server's command line.
    pub fn through(prefix: impl IntoIterator<Item = OsString>) -> Self {
        Self { prefix: prefix.into_iter().collect() }
    }
}

/// A server that was started, with the pipes to it.
pub(super) struct Started {
    pub(super) process: Arc<Process>,
    pub(super) stdin: ChildStdin,
    pub(super) lines: Lines<ChildStdout>,
}

/// Starts a server in a process group of its own, with an environment that holds what was granted and nothing else.
pub(super) fn start(program: &Program, launch: &Launch, line_max_bytes: usize) -> io::Result<Started> {
    let mut line = launch.prefix.iter().cloned().chain(program.command.iter().map(OsString::from));
    let first = line.next().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(first);
    command
        .args(line)
        .env_clear()
        .envs(program.inherit.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .envs(program.env.iter().map(|(name, value)| (name, value.expose())))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(directory) = &program.directory {
        command.current_dir(directory);
    }
    let mut child = command.spawn()?;
    let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
    let stdin = child.stdin.take().ok_or_else(missing)?;
    let stdout = child.stdout.take().ok_or_else(missing)?;
    let stderr = child.stderr.take().ok_or_else(missing)?;
    let said = Arc::new(Said::default());
    tokio::spawn(listen(stderr, Arc::clone(&said)));
    let process = Arc::new(Process { child: Mutex::new(Some(child)), said });
    Ok(Started { process, stdin, lines: Lines::new(stdout, line_max_bytes) })
}

/// A server's process, with what it said on stderr. When dropped, its whole group is killed.
pub(super) struct Process {
    child: Mutex<Option<Child>>,
    said: Arc<Said>,
}

impl Process {
    /// Kills it with everything in its group.
    pub(super) fn kill(&self) {
        drop(self.take_killed());
    }

    /// Ends it, and tells how it had ended: its status when it was gone before, and its last words.
    pub(super) async fn end(&self) -> String {
        let Some(mut child) = self.take_killed() else { return self.last_words() };
        let status = child.wait().await.ok();
        // What it wrote before it ended is still on its way through the pipe.
        let _ = tokio::time::timeout(LAST_WORDS, self.said.is_over.notified()).await;
        let how = match status {
            Some(status) if !is_our_doing(status) => format!(" ({status})"),
            _ => String::new(),
        };
        format!("{how}{}", self.last_words())
    }

    /// The last lines of its stderr, for the end of an error's text.
    pub(super) fn last_words(&self) -> String {
        let lines = self.said.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        if lines.is_empty() { String::new() } else { format!("; it said: {}", one_line(&lines.join(" "))) }
    }

    /// The group is killed while its leader has not been waited for: until then nobody else can have its number.
    fn take_killed(&self) -> Option<Child> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It fails when the group is empty, which is what is wanted.
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let _ = child.start_kill();
        Some(child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn is_our_doing(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.signal() == Some(Signal::KILL.as_raw())
}

#[derive(Default)]
struct Said {
    lines: Mutex<VecDeque<String>>,
    is_over: tokio::sync::Notify,
}

/// Reads a server's stderr to its end, so that it never waits for a reader, and keeps the last lines.
async fn listen(mut stderr: ChildStderr, said: Arc<Said>) {
    let mut buffer = [0; 4096];
    let mut line = Vec::new();
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        for byte in &buffer[..count] {
            match byte {
                b'\n' => keep(&said, &mut line),
                _ if line.len() < STDERR_LINE_MAX_BYTES => line.push(*byte),
                _ => {}
            }
        }
    }
    keep(&said, &mut line);
    said.is_over.notify_one();
}

fn keep(said: &Said, line: &mut Vec<u8>) {
    let text = String::from_utf8_lossy(line).trim().to_owned();
    line.clear();
    if text.is_empty() {
        return;
    }
    let mut lines = said.lines.lock().unwrap_or_else(PoisonError::into_inner);
    lines.push_back(text);
    if lines.len() > STDERR_LINES_MAX {
        lines.pop_front();
    }
}

/// A stream that is read line by line, none longer than a bound.
pub(super) struct Lines<R> {
    read: BufReader<R>,
    line: Vec<u8>,
    max_bytes: usize,
}

/// A line that cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    /// It is longer than allowed. Nothing more is read.
    #[error("it sent a line of more than {0} bytes")]
    TooLong(usize),
    /// The pipe broke.
    #[error("its output cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(read: R, max_bytes: usize) -> Self {
        Self { read: BufReader::new(read), line: Vec::new(), max_bytes }
    }

    /// The next line without its end; `None` at the end of the stream, where a line without an end is none. When the future
    /// is dropped, what was read of a line is kept for the next call.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, LineError> {
        loop {
            let available = self.read.fill_buf().await?;
            if available.is_empty() {
                return Ok(None);
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let piece = &available[..end.unwrap_or(available.len())];
            if self.line.len() + piece.len() > self.max_bytes {
                return Err(LineError::TooLong(self.max_bytes));
            }
            self.line.extend_from_slice(piece);
            let taken = piece.len() + usize::from(end.is_some());
            self.read.consume(taken);
            if end.is_some() {
                return Ok(Some(std::mem::take(&mut self.line)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_bounded() {
        let rows: [(&[u8], &[&str], bool); 5] = [
            (b"one\ntwo\n", &["one", "two"], false),
            (b"one\n\ntw", &["one", ""], false),
            (b"12345678\n", &["12345678"], false),
            (b"one\n123456789\n", &["one"], true),
            (b"1234567890123456", &[], true),
        ];
        for (bytes, want, is_too_long) in rows {
            let mut lines = Lines::new(bytes, 8);
            let mut found = Vec::new();
            let end = loop {
                match lines.next().await {
                    Ok(Some(line)) => found.push(String::from_utf8(line).unwrap()),
                    Ok(None) => break false,
                    Err(error) => break matches!(error, LineError::TooLong(8)),
                }
            };
            assert_eq!(
                (&found[..], end),
                (&want.iter().map(ToString::to_string).collect::<Vec<_>>()[..], is_too_long)
            );
        }
    }

    #[tokio::test]
    async fn a_line_that_is_read_in_pieces_is_whole_also_when_a_read_was_dropped() {
        use tokio::io::AsyncWriteExt;
        let (mut write, read) = tokio::io::duplex(64);
        let mut lines = Lines::new(read, 100);
        write.write_all(b"first ").await.unwrap();
        tokio::select! {
            biased;
            line = lines.next() => panic!("{line:?}"),
            () = tokio::task::yield_now() => {}
        }
        write.write_all(b"second\n").await.unwrap();
        assert_eq!(lines.next().await.unwrap().unwrap(), b"first second");
    }
}
