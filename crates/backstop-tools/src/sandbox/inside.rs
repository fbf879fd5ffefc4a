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
use rustix::param::clock_ticks_per_second;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, pidfd_open, set_parent_process_death_signal, setsid,
    wait,
};
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How often the processes are counted. A fork bomb makes some dozens more in that time.
const COUNT_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
/// At each how-manieth count their threads, memory and time are looked at as well, which costs more.
const WEIGH_EVERY: u32 = 5;
/// Seconds that a program has to end by itself once it was told that its processor time is up.
const GRACE_SECS: u64 = 1;

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
    for round in (0..WEIGH_EVERY).cycle() {
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
        let processes = processes(confined.limits.processes)
            .map_err(|error| Refusal::Lost(format!("its processes cannot be counted: {error}")))?;
        let Some(processes) = processes else { return Ok(Report::TooManyProcesses) };
        if round == 0
            && let Some(report) = beyond(&processes, &confined.limits)
        {
            return Ok(report);
        }
    }
    Err(Refusal::Lost("its end was not waited for".to_owned()))
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

/// What is in this namespace: its `/proc` shows nothing else. `None` when it is more than may be: of a fork bomb, a part
/// is enough.
fn processes(most: u64) -> std::io::Result<Option<Vec<PathBuf>>> {
    let mut processes = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let is_process = name.to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        if is_process && name != "1" {
            processes.push(Path::new("/proc").join(name));
        }
        if processes.len() as u64 > most {
            return Ok(None);
        }
    }
    Ok(Some(processes))
}

/// Whether these processes together use more than they may. One that ends meanwhile counts with what its parent, or this
/// process, has inherited of it.
fn beyond(processes: &[PathBuf], limits: &Limits) -> Option<Report> {
    let read = |path: &Path, name: &str| std::fs::read_to_string(path.join(name)).unwrap_or_default();
    let (mut tasks, mut memory_kib) = (0, 0_u64);
    let mut ticks = cpu_ticks(&read(Path::new("/proc/1"), "stat"), &[CHILDREN_USER, CHILDREN_SYSTEM]);
    for process in processes {
        let status = read(process, "status");
        tasks += field(&status, "Threads:");
        memory_kib += field(&status, "RssAnon:") + field(&status, "RssShmem:");
        let all = [USER, SYSTEM, CHILDREN_USER, CHILDREN_SYSTEM];
        ticks += cpu_ticks(&read(process, "stat"), &all);
    }
    if tasks > limits.processes {
        return Some(Report::TooManyProcesses);
    }
    if memory_kib.saturating_mul(1024) > limits.memory_bytes() {
        return Some(Report::TooMuchMemory);
    }
    let most = limits.cpu_secs.saturating_add(GRACE_SECS).saturating_mul(clock_ticks_per_second());
    (ticks > most).then_some(Report::OutOfCpu)
}

/// Where times stand in `stat`, counted from behind the name, which may hold anything.
const USER: usize = 11;
const SYSTEM: usize = 12;
const CHILDREN_USER: usize = 13;
const CHILDREN_SYSTEM: usize = 14;

fn cpu_ticks(stat: &str, which: &[usize]) -> u64 {
    let fields = stat.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
    let fields: Vec<_> = fields.split(' ').collect();
    which.iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum()
}

fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 11 22 33 44 20 0 1 0 5 1000 200\n";
        assert_eq!(cpu_ticks(stat, &[USER, SYSTEM]), 33);
        assert_eq!(cpu_ticks(stat, &[CHILDREN_USER, CHILDREN_SYSTEM]), 77);
        assert_eq!(cpu_ticks("", &[USER]), 0);
        assert_eq!(field("Name:\tx\nRssAnon:\t     120 kB\nThreads:\t3\n", "RssAnon:"), 120);
    }
}
