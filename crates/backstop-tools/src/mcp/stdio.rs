//! A server that is a program of ours: how it is started, read line by line within bounds, and ended with everything it
//! started. Knows nothing of the protocol.

use super::confine::confined;
use super::grant::Program;
use super::text::one_line;
use crate::sandbox::{Confined, Ended, Sandbox, SandboxError, report};
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::net::Shutdown;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

/// The last lines of its stderr that are kept.
const STDERR_LINES_MAX: usize = 20;
/// The longest of these lines; what is more is cut off.
const STDERR_LINE_MAX_BYTES: usize = 4_096;
/// How long its last words on stderr are waited for when it has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How servers are started: in a sandbox, which also ends them when this process is gone; or, where an owner says so, without
/// one. Those may be started by another program, which is given the server's command line as its last arguments and becomes it:
/// only so can one be made to die with this process (`setpriv --pdeathsig KILL --` does it); else it sees its input end.
#[derive(Debug, Clone)]
pub struct Launch {
    sandbox: Sandbox,
    reserved: Vec<PathBuf>,
    prefix: Vec<OsString>,
}

impl Launch {
    /// Servers run in this sandbox, unless they are granted to run without.
    pub fn new(sandbox: Sandbox) -> Self {
        Self { sandbox, reserved: Vec::new(), prefix: Vec::new() }
    }

    /// Those that run without are started by this program with these arguments, which stand before the server's command line.
    #[must_use]
    pub fn through(self, prefix: impl IntoIterator<Item = OsString>) -> Self {
        Self { prefix: prefix.into_iter().collect(), ..self }
    }

    /// In the sandbox, these files and directories are not to be had, whatever is granted.
    #[must_use]
    pub fn reserving(self, paths: &[PathBuf]) -> Self {
        Self { reserved: paths.to_vec(), ..self }
    }
}

/// The way of what a server reads.
pub(super) type Stdin = Box<dyn AsyncWrite + Send + Unpin>;

/// A server that was started, with the pipes to it.
pub(super) struct Started {
    pub(super) process: Arc<Process>,
    pub(super) stdin: Stdin,
    pub(super) lines: Lines<ChildStdout>,
}

/// Starts a server, with an environment that holds what was granted and nothing else.
pub(super) async fn start(program: &Program, launch: &Launch, line_max_bytes: usize) -> io::Result<Started> {
    let (mut child, hold, stdin) = if let Some(programs) = &program.sandboxed {
        start_confined(confined(program, programs, &launch.reserved)?, &launch.sandbox).await?
    } else {
        let mut child = start_bare(program, launch)?;
        let stdin: Stdin = Box::new(child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?);
        (child, Hold::Group, stdin)
    };
    let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let stderr = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let said = Arc::new(Said::default());
    tokio::spawn(listen(stderr, Arc::clone(&said)));
    let process = Arc::new(Process { held: Mutex::new(Some((child, hold))), said });
    Ok(Started { process, stdin, lines: Lines::new(stdout, line_max_bytes) })
}

/// Starts a server in the sandbox: what is held of it is the line to the helper.
async fn start_confined(confined: Confined, sandbox: &Sandbox) -> io::Result<(Child, Hold, Stdin)> {
    let (helper, line) = sandbox.begin(confined).await?;
    let line = line.into_std()?;
    let shut = line.try_clone()?;
    let (report, stdin) = UnixStream::from_std(line)?.into_split();
    Ok((helper, Hold::Line { shut, report }, Box::new(stdin)))
}

/// Starts a server in a process group of its own.
fn start_bare(program: &Program, launch: &Launch) -> io::Result<Child> {
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
    command.spawn()
}

/// How a server is got hold of.
enum Hold {
    /// By the process group that it leads.
    Group,
    /// By the line to the helper that keeps its sandbox: shut, it ends all, and says how it ended.
    Line { shut: std::os::unix::net::UnixStream, report: OwnedReadHalf },
}

/// A server's process, with what it said on stderr. When dropped, everything that the server started is killed with it.
pub(super) struct Process {
    held: Mutex<Option<(Child, Hold)>>,
    said: Arc<Said>,
}

impl Process {
    /// Kills it with everything that it started.
    pub(super) fn kill(&self) {
        drop(self.take_killed());
    }

    /// Ends it, and tells how it had ended: its status when it was gone before, and its last words.
    pub(super) async fn end(&self) -> String {
        let Some((mut child, hold)) = self.take_killed() else { return self.last_words() };
        let how = match hold {
            Hold::Group => {
                child.wait().await.ok().filter(|status| !is_our_doing(*status)).map(|it| it.to_string())
            }
            Hold::Line { report: line, .. } => ended(report(line).await),
        };
        // What it wrote before it ended is still on its way through the pipe.
        let _ = tokio::time::timeout(LAST_WORDS, self.said.is_over.notified()).await;
        let how = how.map(|how| format!(" ({how})")).unwrap_or_default();
        format!("{how}{}", self.last_words())
    }

    /// The last lines of its stderr, for the end of an error's text.
    pub(super) fn last_words(&self) -> String {
        let lines = self.said.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        if lines.is_empty() { String::new() } else { format!("; it said: {}", one_line(&lines.join(" "))) }
    }

    /// A group is killed while its leader has not been waited for: until then nobody else can have its number.
    fn take_killed(&self) -> Option<(Child, Hold)> {
        let (mut child, hold) = self.held.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        match &hold {
            Hold::Group => {
                let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
                if let Some(pid) = pid {
                    // It fails when the group is empty, which is what is wanted.
                    let _ = kill_process_group(pid, Signal::KILL);
                }
                let _ = child.start_kill();
            }
            // It fails when the helper is gone, and with it all that it kept.
            Hold::Line { shut, .. } => drop(shut.shutdown(Shutdown::Write)),
        }
        Some((child, hold))
    }
}

/// How a server ended in the sandbox, in words; `None` when that was our doing.
fn ended(report: Result<Ended, SandboxError>) -> Option<String> {
    Some(match report {
        Ok(Ended::Exited(code)) => format!("exit status: {code}"),
        Ok(Ended::Signalled(signal)) => format!("signal: {signal}"),
        Ok(Ended::TooManyProcesses) => "it had more processes and threads than it may".to_owned(),
        Ok(Ended::TooMuchMemory) => "it held more memory than it may".to_owned(),
        Ok(Ended::OutOfCpu) => "it used more processor time than it may".to_owned(),
        Err(error @ (SandboxError::Lacks(_) | SandboxError::NotStarted(_))) => error.to_string(),
        // It lasts; what is lost was given up here.
        Ok(Ended::OutOfTime) | Err(SandboxError::Lost(_)) => return None,
    })
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
