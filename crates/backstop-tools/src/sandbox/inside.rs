//! The second process of the sandbox: the first of its process namespace. Gives up all that the program is not to have,
//! then starts the program, which inherits that, and keeps count of the processes and their memory. When it ends, the
//! kernel ends the rest.

use super::fence;
use super::mounts;
use super::order::{Order, Place, Report, read_frame, write_frame};
use super::refusal::{Refusal, lacking};
use super::syscalls;
use super::{Confined, Limits};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, pidfd_open, set_parent_process_death_signal, setsid,
    wait,
};
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;

/// How often the processes are counted. A fork bomb makes some hundred processes in that time.
const COUNT_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// Reads an order from its standard input, does it, and writes the report where the order says.
pub(super) fn inside() -> std::io::Result<()> {
    let armed = set_parent_process_death_signal(Some(Signal::KILL));
    let mut stdin = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let order: Order = read_frame(&mut stdin)?;
    // The program is to have this pipe once, as its standard input.
    drop(stdin);
    let place = order.place.clone().ok_or_else(|| std::io::Error::other("the order names no place"))?;
    let mut report = std::fs::OpenOptions::new().write(true).open(&place.report)?;
    let done = armed
        .map_err(lacking("a signal at the death of the parent"))
        .and_then(|()| confine(&order, &place))
        .and_then(|()| run(&order.confined, &place));
    write_frame(&mut report, &done.unwrap_or_else(Report::from))
}

/// Gives up what the program is not to have, the file system first: each step needs what the next one takes.
fn confine(order: &Order, place: &Place) -> Result<(), Refusal> {
    is_child_of(place.supervisor)?;
    setsid().map_err(lacking("a session of its own"))?;
    // Where memory is short, the kernel is to look here first.
    std::fs::write("/proc/self/oom_score_adj", "500")
        .map_err(lacking("the order in which memory is reclaimed"))?;
    mounts::arrange(&order.confined, place)?;
    fence::limit(&order.confined.limits)?;
    fence::drop_capabilities()?;
    fence::restrict(&order.confined, place)?;
    syscalls::restrict(order.confined.network)
}

/// The signal at the parent's death does not come when the parent died before it was asked for.
fn is_child_of(supervisor: u32) -> Result<(), Refusal> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(lacking("/proc"))?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    if parent.and_then(|parent| parent.trim().parse().ok()) == Some(supervisor) {
        return Ok(());
    }
    Err(Refusal::Lost("its supervisor ended".to_owned()))
}

fn run(confined: &Confined, place: &Place) -> Result<Report, Refusal> {
    let [program, args @ ..] = &confined.argv[..] else {
        return Err(Refusal::NotStarted("there is no program to run".to_owned()));
    };
    if !confined.cwd.is_dir() {
        return Err(Refusal::NotStarted(format!("there is no directory {}", confined.cwd.display())));
    }
    let child = Command::new(program)
        .args(args)
        .env_clear()
        .env("HOME", &place.tmp)
        .env("TMPDIR", &place.tmp)
        .envs(&confined.env)
        .current_dir(&confined.cwd)
        .spawn()
        .map_err(|error| Refusal::NotStarted(format!("{program}: {error}")))?;
    fence::hurry();
    let lost = |errno: rustix::io::Errno| Refusal::Lost(errno.to_string());
    let pid = Pid::from_raw(child.id().cast_signed()).ok_or(Refusal::Lost("it has no id".to_owned()))?;
    let ended = pidfd_open(pid, PidfdFlags::empty()).map_err(lost)?;
    loop {
        let mut fds = [PollFd::new(&ended, PollFlags::IN)];
        match poll(&mut fds, Some(&COUNT_EVERY)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(lost(errno)),
        }
        if let Some(status) = reap(pid).map_err(lost)? {
            return Ok(status.terminating_signal().map_or_else(
                || Report::Exited(status.exit_status().unwrap_or_default()),
                Report::Signalled,
            ));
        }
        if let Some(report) = beyond(&confined.limits)? {
            return Ok(report);
        }
    }
}

/// Takes leave of all that have ended, whose parents may have ended before. Gives how the program itself ended.
fn reap(program: Pid) -> rustix::io::Result<Option<WaitStatus>> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == program => return Ok(Some(status)),
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(errno) => return Err(errno),
        }
    }
}

/// Counts what is in this namespace (its `/proc` shows nothing else) until it is too much: of a fork bomb, a part is enough.
fn beyond(limits: &Limits) -> Result<Option<Report>, Refusal> {
    let lost = |error: std::io::Error| Refusal::Lost(format!("its processes cannot be counted: {error}"));
    let mut processes = Vec::new();
    for entry in std::fs::read_dir("/proc").map_err(lost)? {
        let name = entry.map_err(lost)?.file_name();
        let is_process = name.to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        if is_process && name != "1" {
            processes.push(name);
        }
        if processes.len() as u64 > limits.processes {
            return Ok(Some(Report::TooManyProcesses));
        }
    }
    let (mut tasks, mut memory_kib) = (0, 0);
    for name in processes {
        // One that ends meanwhile has neither threads nor memory.
        let status =
            std::fs::read_to_string(Path::new("/proc").join(name).join("status")).unwrap_or_default();
        tasks += field(&status, "Threads:");
        memory_kib += field(&status, "RssAnon:") + field(&status, "RssShmem:");
    }
    if tasks > limits.processes {
        return Ok(Some(Report::TooManyProcesses));
    }
    Ok((memory_kib.saturating_mul(1024) > limits.memory_bytes()).then_some(Report::TooMuchMemory))
}

fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}
