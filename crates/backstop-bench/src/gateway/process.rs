//! A process that the harness started, and that never outlives it.

use crate::Stop;
use crate::machine;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The cores of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cores {
    /// Of what is measured, alone.
    pub(super) target: usize,
    /// Of the mock and the load.
    pub(super) load: usize,
}

/// How long a process may take to end by itself.
const END_MAX: Duration = Duration::from_secs(20);
/// Characters of its output that a failure shows.
const TAIL: usize = 2_000;

pub(super) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it on `core`, in a group of its own, with its output in `log`. We are on the load's core before and after.
    pub(super) fn start(
        command: &mut Command,
        (core, cores): (usize, Cores),
        log: PathBuf,
    ) -> Result<Self, Stop> {
        let at = |error: std::io::Error| Stop::failed(format!("{}: {error}", log.display()));
        let out = File::create(&log).map_err(at)?;
        command.stdin(Stdio::null()).stdout(out.try_clone().map_err(at)?).stderr(out).process_group(0);
        machine::move_to(core).map_err(|error| Stop::failed(format!("core {core}: {error}")))?;
        let started = command.spawn();
        machine::move_to(cores.load)
            .map_err(|error| Stop::failed(format!("core {}: {error}", cores.load)))?;
        let child =
            started.map_err(|error| Stop::usage(format!("{}: {error}", command.get_program().display())))?;
        Ok(Self { child, log })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()).ok()?)
    }

    /// Its exit status when it has ended.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The end of what it wrote.
    pub(super) fn tail(&self) -> String {
        tail(&self.log)
    }

    /// Asks it to end, and waits until it has.
    pub(super) async fn stop(mut self) -> Result<(), Stop> {
        let name = self.log.display().to_string();
        if let Some(pid) = self.pid() {
            kill_process(pid, Signal::TERM).map_err(|error| Stop::failed(format!("{name}: {error}")))?;
        }
        let until = Instant::now() + END_MAX;
        while self.ended().is_none() {
            if Instant::now() > until {
                return Err(Stop::failed(format!("{name}: did not end within {} s", END_MAX.as_secs())));
            }
            sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let from = text.char_indices().rev().nth(TAIL).map_or(0, |(at, _)| at);
    text[from..].trim().to_owned()
}

impl Drop for Process {
    fn drop(&mut self) {
        // Its whole group: nginx's worker does not end with its master. Gone already is as good.
        if let Some(pid) = self.pid() {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    /// Long enough for any machine; only a broken program takes it.
    const WAIT_MAX: Duration = Duration::from_secs(20);

    async fn until(is_so: impl Fn() -> bool) {
        let waited = timeout(WAIT_MAX, async {
            while !is_so() {
                sleep(Duration::from_millis(1)).await;
            }
        });
        waited.await.expect("it comes to be so");
    }

    #[tokio::test]
    async fn a_process_ends_when_it_is_told_and_when_it_is_dropped() {
        let cores = Cores { target: 0, load: 0 };
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let start = |line: &str| {
            Process::start(Command::new("sh").args(["-c", line]), (cores.target, cores), log.clone()).unwrap()
        };
        let waits = start("trap 'echo bye; exit 0' TERM; echo ready; while true; do sleep 0.01; done");
        until(|| waits.tail() == "ready").await;
        waits.stop().await.unwrap();
        assert_eq!(tail(&log), "ready\nbye");

        let group = start("sleep 30 & echo $!; wait");
        until(|| !group.tail().is_empty()).await;
        let child = group.tail();
        drop(group);
        // Gone, or dead and not yet waited for by whoever took it over.
        let stat = || fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        until(|| stat().is_empty() || stat().contains(") Z ")).await;
    }
}
