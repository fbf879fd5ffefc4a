//! What the machine says about itself: the CPU time and memory of processes and cores, from `/proc`; and which core we
//! run on. Parsers are pure; what they read is read at the end of the file.

use crate::figures::float;
use rustix::process::{Pid, Resource, Rlimit};
use rustix::thread::CpuSet;
use std::collections::BTreeMap;
use std::{fs, io};

/// One process, as `/proc/PID/stat` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// Clock ticks on a CPU, in user and kernel mode, with those of children that ended and were waited for.
    ticks: u64,
}

/// The name of a program may hold spaces and parentheses: the last one closes it.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    // From the third field of proc(5): state, ppid, …; utime, stime, cutime, cstime are 14 to 17.
    let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
    Some(Stat { parent: fields.get(1)?.parse().ok()?, ticks })
}

/// Kilobytes of a line of `/proc/PID/status`, such as `VmRSS`.
fn parse_status(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Clock ticks that a core was not idle, those included that the host took, from `/proc/stat`.
fn parse_core(text: &str, core: usize) -> Option<u64> {
    let name = format!("cpu{core}");
    let line = text.lines().find(|line| line.split(' ').next() == Some(name.as_str()))?;
    let fields: Vec<u64> = line.split(' ').skip(1).filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal
    let busy = [0, 1, 2, 5, 6, 7];
    busy.iter().map(|at| fields.get(*at).copied()).sum()
}

/// A process and all its descendants, by who is whose parent.
fn tree(root: u32, parents: &BTreeMap<u32, u32>) -> Vec<u32> {
    let mut found = vec![root];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(parents.iter().filter(|(_, of)| **of == parent).map(|(child, _)| *child));
        at += 1;
    }
    found
}

fn stats() -> BTreeMap<u32, Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            Some((id, parse_stat(&fs::read_to_string(entry.path().join("stat")).ok()?)?))
        })
        .collect()
}

/// Seconds of CPU that a process and its descendants have used.
pub(crate) fn cpu_s(root: u32) -> f64 {
    let stats = stats();
    let parents = stats.iter().map(|(id, stat)| (*id, stat.parent)).collect();
    let ticks = tree(root, &parents).iter().filter_map(|id| stats.get(id)).map(|stat| stat.ticks).sum();
    seconds(ticks)
}

/// Seconds of CPU that this process has used, without those it started.
pub(crate) fn own_cpu_s() -> f64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let part = |value: i64| float(u64::try_from(value).unwrap_or_default());
    part(used.tv_sec) + part(used.tv_nsec) / 1e9
}

/// Seconds that a core was not idle since the machine started, whoever used it.
pub(crate) fn core_busy_s(core: usize) -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    seconds(parse_core(&text, core).unwrap_or_default())
}

/// Megabytes of resident memory of a process and its descendants: `VmRSS` now, or `VmHWM` at its most.
pub(crate) fn memory_mb(root: u32, line: &str) -> f64 {
    let parents = stats().iter().map(|(id, stat)| (*id, stat.parent)).collect();
    let read = |id: &u32| parse_status(&fs::read_to_string(format!("/proc/{id}/status")).ok()?, line);
    float(tree(root, &parents).iter().filter_map(read).sum()) / 1024.0
}

fn seconds(ticks: u64) -> f64 {
    float(ticks) / float(rustix::param::clock_ticks_per_second())
}

/// Moves this thread to one core. What it starts from then on runs there too.
pub(crate) fn move_to(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(rustix::thread::sched_setaffinity(None::<Pid>, &cores)?)
}

/// Lets this process and what it starts open as many files as the system allows.
pub(crate) fn open_files_max() -> io::Result<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    Ok(rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let line = "41 (a) b (c)) S 7 41 41 0 -1 4194560 1 2 3 4 150 50 20 5 20 0 9 0 1 2 3";
        assert_eq!(parse_stat(line), Some(Stat { parent: 7, ticks: 225 }));
        assert_eq!(parse_stat("41 (a) S 7"), None);
    }

    #[test]
    fn memory_is_read_by_its_name() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t3\n";
        let rows = [("VmRSS", Some(1024)), ("VmHWM", Some(2048)), ("VmSwap", None), ("Threads", None)];
        for (name, want) in rows {
            assert_eq!(parse_status(status, name), want, "{name}");
        }
    }

    #[test]
    fn a_core_is_busy_when_it_neither_idles_nor_waits_for_a_disk() {
        let stat =
            "cpu  9 9 9 9 9 9 9 9 9 9\ncpu1 1 2 4 1000 2000 8 16 32 64 128\ncpu10 7 7 7 7 7 7 7 7 7 7\n";
        let rows = [(1, Some(63)), (10, Some(42)), (2, None)];
        for (core, want) in rows {
            assert_eq!(parse_core(stat, core), want, "{core}");
        }
    }

    #[test]
    fn a_tree_has_the_children_of_children() {
        let parents = [(2, 1), (3, 2), (4, 3), (5, 1), (6, 9)].into();
        assert_eq!(tree(2, &parents), [2, 3, 4]);
        assert_eq!(tree(6, &parents), [6]);
    }

    #[test]
    fn this_process_is_measured() {
        let before = own_cpu_s();
        let mut sum = 0_u64;
        while own_cpu_s() - before < 0.02 {
            sum = sum.wrapping_add(1);
        }
        assert!(cpu_s(std::process::id()) > 0.0);
        assert!(memory_mb(std::process::id(), "VmRSS") > 0.5);
        assert!(core_busy_s(0) > 0.0);
    }
}
