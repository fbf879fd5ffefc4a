//! Runs a program confined: it can read the system's programs and libraries, read and write its workspace and a directory
//! for temporary files of its own, and reach nothing and nobody else. Where this machine does not enforce all of that,
//! nothing is run.
//!
//! A process confines itself, so two more are needed for each program. The runner starts a helper (this program again,
//! [`enter`]), which stays outside, keeps the time and ends all when the runner is gone; the helper starts itself once
//! more as the first process of a new process namespace, which gives up its rights step by step and then starts the
//! program. What each step is good for:
//!
//! | step | holds |
//! |---|---|
//! | process namespace | no process outside can be seen or signalled; all inside end together, also after `setsid` |
//! | mount namespace, read-only | writing outside, changing modes and owners outside, `.git`, what is reserved |
//! | Landlock (ABI 6) | reading outside, TCP, abstract sockets, signals |
//! | seccomp | sockets, `ptrace`, `io_uring`, mounts, namespaces, keys, and what else the kernel has |
//! | no new privileges, no capabilities | set-uid programs, what root may do |
//! | limits, and a count of processes and memory | what one call may use up |
//!
//! It needs Linux 6.12 or newer with Landlock, and namespaces: for an ordinary user, unprivileged user namespaces.
//! It does not limit how many files are made, nor what is done to files that were granted.

mod fence;
mod inside;
mod mounts;
mod order;
mod refusal;
mod supervise;
mod syscalls;
mod watch;

use order::{Order, Report, frame};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::Child;

/// How the helper is started: a program that calls [`enter`] before it does anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    program: PathBuf,
    args: Vec<OsString>,
    scratch: PathBuf,
}

/// A program with all that it may have. Its environment may hold secrets, so it is not shown for debugging.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Confined {
    /// The program and its arguments. A name without a slash is looked for in `PATH` of `env`.
    pub argv: Vec<String>,
    /// Where it is started.
    pub cwd: PathBuf,
    /// Its whole environment. Without `TMPDIR` and `HOME` here, they name its own directory for temporary files.
    pub env: BTreeMap<String, String>,
    /// What it reads from its standard input.
    pub stdin: String,
    /// The directory it works in.
    pub workspace: PathBuf,
    /// What it may do there.
    pub access: Access,
    /// Whether `.git` at the workspace's root may be written to: git runs what lies there as the person who works there.
    pub git: bool,
    /// Files and directories that it finds empty, or not at all.
    pub reserved: Vec<PathBuf>,
    /// More files and directories that it may read and run.
    pub read: Vec<PathBuf>,
    /// More that it may write to.
    pub write: Vec<PathBuf>,
    /// Whether it reaches the network.
    pub network: bool,
    /// What it may use up.
    pub limits: Limits,
}

/// What a program may do in its workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Nothing: it only stands there.
    None,
    /// Read and run.
    Read,
    /// Read, run and write.
    Write,
}

/// What one program, with all that it starts, may use up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Limits {
    /// Seconds until it is ended. Since 0.1.
    #[schemars(range(min = 1))]
    pub wall_secs: u64,
    /// Seconds of processor time for all of its processes together. Since 0.1.
    #[schemars(range(min = 1))]
    pub cpu_secs: u64,
    /// MiB of memory, for each process at every moment and for all together as they are counted. Since 0.1.
    #[schemars(range(min = 16))]
    pub memory_mib: u64,
    /// Processes and threads at the same time, as they are counted. Since 0.1.
    #[schemars(range(min = 1))]
    pub processes: u64,
    /// MiB of the largest file that it may write. Since 0.1.
    #[schemars(range(min = 1))]
    pub file_mib: u64,
    /// Files that each process may have open. Since 0.1.
    #[schemars(range(min = 32))]
    pub open_files: u64,
    /// KiB of each of its two outputs that are kept: the half of it from the beginning, the rest from the end. Since 0.1.
    #[schemars(range(min = 1))]
    pub output_kib: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall_secs: 120,
            cpu_secs: 120,
            memory_mib: 2_048,
            processes: 256,
            file_mib: 1_024,
            open_files: 1_024,
            output_kib: 32,
        }
    }
}

/// How a program came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub ended: Ended,
    /// What it wrote to its standard output.
    pub stdout: Captured,
    /// What it wrote to its standard error.
    pub stderr: Captured,
    /// What it made although it is reserved; what is not there cannot be kept from being made.
    pub planted: Vec<PathBuf>,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// It was ended: its time was up.
    OutOfTime,
    /// It was ended: there were too many processes.
    TooManyProcesses,
    /// It was ended: they held too much memory.
    TooMuchMemory,
    /// It was ended: they used too much processor time.
    OutOfCpu,
}

/// What a program wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// The beginning.
    pub head: Vec<u8>,
    /// Bytes between the two that were not kept.
    pub left_out: u64,
    /// The end, when the beginning is not all.
    pub tail: Vec<u8>,
}

/// A program of which there is no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SandboxError {
    /// Nothing was run: this machine does not enforce what the sandbox promises.
    #[error("nothing was run: this machine lacks what the sandbox needs: {0}")]
    Lacks(String),
    /// Nothing was run: the program, or the helper, cannot be started.
    #[error("nothing was run: {0}")]
    NotStarted(String),
    /// It was started, and how it came out is not known.
    #[error("it was started, and then its sandbox was lost: {0}")]
    Lost(String),
}

/// What the helper does: reads an order from its standard input and carries it out. Call it first in `main`, before any
/// thread is started; it must be the only thing this process does. The helper's second process is called by the same
/// arguments with one more.
pub fn enter() -> ExitCode {
    // What the runner was started with is not for the program.
    close_fds::set_fds_cloexec(3, &[]);
    let is_inside = std::env::args_os().next_back().is_some_and(|last| last == supervise::INSIDE);
    let done = if is_inside { inside::inside() } else { supervise::supervise() };
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Sandbox {
    /// A sandbox whose helper is called so.
    pub fn new(program: impl Into<PathBuf>, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        let args = args.into_iter().map(Into::into).collect();
        Self { program: program.into(), args, scratch: std::env::temp_dir() }
    }

    /// The same, with the directories for temporary files made in this one instead of the system's.
    #[must_use]
    pub fn scratch(self, scratch: impl Into<PathBuf>) -> Self {
        Self { scratch: scratch.into(), ..self }
    }

    /// Runs a program to its end. When this future is dropped, or this process ends, the program and all that it started are
    /// ended.
    pub async fn run(&self, confined: Confined) -> Result<Outcome, SandboxError> {
        self.carry_out(confined, false).await
    }

    /// The same without a sandbox: the program has all the rights of this process. What it started is ended as far as it
    /// stays in its process group.
    pub(crate) async fn run_bare(&self, confined: Confined) -> Result<Outcome, SandboxError> {
        self.carry_out(confined, true).await
    }

    async fn carry_out(&self, confined: Confined, bare: bool) -> Result<Outcome, SandboxError> {
        let output_bytes = confined.limits.output_kib.saturating_mul(1024);
        let mut missing = confined.reserved.clone();
        if bare {
            missing.clear();
        } else if !confined.git {
            missing.push(confined.workspace.join(".git"));
        }
        missing.retain(|path| path.symlink_metadata().is_err());
        let order =
            frame(&Order { confined, bare, lasting: false, scratch: self.scratch.clone(), place: None });
        let order = order.map_err(|error| SandboxError::NotStarted(error.to_string()))?;
        let (mut child, mut line) = self.start().map_err(|error| {
            SandboxError::NotStarted(format!("the sandbox's helper {}: {error}", self.program.display()))
        })?;
        let told = async {
            // A helper that ends at once says why in its report, or not at all.
            let _ = line.write_all(&order).await;
            let mut answer = Vec::new();
            line.read_to_end(&mut answer).await.map(|_| answer)
        };
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (answer, stdout, stderr) =
            tokio::join!(told, capture(out, output_bytes), capture(err, output_bytes));
        let _ = child.wait().await;
        missing.retain(|path| path.symlink_metadata().is_ok());
        Ok(Outcome { ended: ended(&answer.unwrap_or_default())?, stdout, stderr, planted: missing })
    }

    /// Starts a program that lasts: what is written to the line is its standard input. When the line is closed, or shut for
    /// writing, the program and all that it started are ended. Then the line tells how it ended: see [`report`].
    pub(crate) async fn begin(&self, confined: Confined) -> std::io::Result<(Child, UnixStream)> {
        let order =
            Order { confined, bare: false, lasting: true, scratch: self.scratch.clone(), place: None };
        let order = frame(&order)?;
        let (child, mut line) = self.start()?;
        line.write_all(&order).await?;
        Ok((child, line))
    }

    /// Starts the helper. One end of a pair of sockets is its standard input: while the other is open, it goes on.
    fn start(&self) -> std::io::Result<(Child, UnixStream)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let child = tokio::process::Command::new(&self.program)
            .args(&self.args)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok((child, UnixStream::from_std(ours)?))
    }
}

/// How a program ended that lasted, by what its line tells.
pub(crate) async fn report(mut line: impl AsyncRead + Unpin) -> Result<Ended, SandboxError> {
    let mut answer = Vec::new();
    // What came before the line broke may be all of it.
    let _ = line.read_to_end(&mut answer).await;
    ended(&answer)
}

fn ended(answer: &[u8]) -> Result<Ended, SandboxError> {
    let report = order::read_frame(&mut &*answer);
    let lost = |_| SandboxError::Lost("its helper ended without a report".to_owned());
    match report.map_err(lost)? {
        Report::Lacks(what) => Err(SandboxError::Lacks(what)),
        Report::NotStarted(why) => Err(SandboxError::NotStarted(why)),
        Report::Lost(why) => Err(SandboxError::Lost(why)),
        Report::Exited(code) => Ok(Ended::Exited(code)),
        Report::Signalled(signal) => Ok(Ended::Signalled(signal)),
        Report::OutOfTime => Ok(Ended::OutOfTime),
        Report::TooManyProcesses => Ok(Ended::TooManyProcesses),
        Report::TooMuchMemory => Ok(Ended::TooMuchMemory),
        Report::OutOfCpu => Ok(Ended::OutOfCpu),
    }
}

/// Reads all, and keeps the beginning and the end: the first says what was done, the last how it went.
pub(crate) async fn capture(from: Option<impl AsyncRead + Unpin>, bytes_max: usize) -> Captured {
    let mut captured = Captured::default();
    let Some(mut from) = from else { return captured };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        captured.take(&buffer[..length], bytes_max);
    }
    captured
}

impl Captured {
    fn take(&mut self, bytes: &[u8], bytes_max: usize) {
        let head_max = bytes_max / 2;
        let room = head_max.saturating_sub(self.head.len()).min(bytes.len());
        let (head, rest) = bytes.split_at(room);
        self.head.extend_from_slice(head);
        self.tail.extend_from_slice(rest);
        let over = self.tail.len().saturating_sub(bytes_max - head_max);
        self.tail.drain(..over);
        self.left_out += over as u64;
    }

    /// As text, with what was left out told in its place.
    pub fn text(&self) -> String {
        let head = String::from_utf8_lossy(&self.head);
        let tail = String::from_utf8_lossy(&self.tail);
        if self.left_out == 0 {
            // A character may lie across the two.
            return String::from_utf8_lossy(&[&self.head[..], &self.tail].concat()).into_owned();
        }
        format!("{head}\n[… {} bytes left out …]\n{tail}", self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_and_the_end_are_kept() {
        let cases: [(&[&str], usize, &str); 4] = [
            (&["abc"], 8, "abc"),
            (&["abcdef", "gh"], 8, "abcdefgh"),
            (&["abcdef", "ghij"], 8, "abcd\n[… 2 bytes left out …]\nghij"),
            (&["aä", "b"], 4, "aäb"),
        ];
        for (writes, max, want) in cases {
            let mut captured = Captured::default();
            for bytes in writes {
                captured.take(bytes.as_bytes(), max);
            }
            assert_eq!(captured.text(), want);
        }
    }
}
