//! The first process of the sandbox. It stays outside of it: makes the place, starts the second process as the first one
//! of a new process namespace, and ends that namespace when the time is up or the runner is gone. The kernel ends a
//! namespace whole, with whatever called `setsid` in it.

use super::Confined;
use super::order::{Order, Place, Report, frame, read_frame, write_frame};
use super::refusal::{Refusal, lacking};
use super::watch::{Ended, watch};
use nix::sched::{CloneFlags, unshare};
use rustix::process::{Pid, Signal, kill_process_group, setsid};
use rustix::thread::{CapabilitySet, capabilities, configure_capability_in_ambient_set, set_capabilities};
use std::fs::{File, Permissions};
use std::io::{Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

/// What the second process is called by.
pub(super) const INSIDE: &str = "inside";

/// Reads an order from the socket that is its standard input, and answers it there.
pub(super) fn supervise() -> std::io::Result<()> {
    let mut runner = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let order: Order = read_frame(&mut runner)?;
    // A key that is pressed in the runner's terminal is not for what runs here.
    let alone = setsid().map_err(lacking("a session of its own"));
    let done =
        alone.and_then(|_| if order.bare { run_bare(&order, &runner) } else { carry_out(order, &runner) });
    let report = match done {
        Ok(report) => report,
        Err(refusal) => refusal.into(),
    };
    // A runner that is gone needs no report.
    let _ = write_frame(&mut runner, &report);
    Ok(())
}

fn carry_out(mut order: Order, runner: &UnixStream) -> Result<Report, Refusal> {
    let dir = tempfile::Builder::new()
        .prefix("backstop-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(&order.scratch)
        .map_err(lacking("a temporary directory"))?;
    let mut report = furnish(&mut order, dir.path()).map_err(lacking("a temporary directory"))?;
    let outcome = new_namespaces().and_then(|()| run(&order, runner, &mut report));
    remove(dir);
    outcome
}

/// Makes what the second process needs to find, and gives the file that it reports in.
fn furnish(order: &mut Order, dir: &Path) -> std::io::Result<File> {
    let place = Place {
        supervisor: std::process::id(),
        report: dir.join("report"),
        tmp: dir.join("tmp"),
        nothing: dir.join("nothing"),
        blank: dir.join("blank"),
    };
    std::fs::DirBuilder::new().mode(0o700).create(&place.tmp)?;
    std::fs::DirBuilder::new().mode(0o000).create(&place.nothing)?;
    let mut new = std::fs::OpenOptions::new();
    new.write(true).create_new(true);
    new.mode(0o000).open(&place.blank)?;
    let report = new.read(true).mode(0o600).open(&place.report)?;
    order.place = Some(place);
    Ok(report)
}

/// A process namespace for the children of this process. Root may make one; anybody else makes a user namespace first, in
/// which the second process keeps just what it needs to arrange its mounts.
fn new_namespaces() -> Result<(), Refusal> {
    const WHAT: &str = "a process namespace (for an ordinary user, unprivileged user namespaces must be allowed: the \
        sysctls user.max_user_namespaces, kernel.unprivileged_userns_clone and \
        kernel.apparmor_restrict_unprivileged_userns decide that; in a container, its seccomp profile)";
    match unshare(CloneFlags::CLONE_NEWPID) {
        Ok(()) => return Ok(()),
        Err(nix::errno::Errno::EPERM) => {}
        Err(errno) => return Err(lacking(WHAT)(errno)),
    }
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID).map_err(lacking(WHAT))?;
    let write = |path: &str, text: String| {
        std::fs::write(path, text).map_err(|error| Refusal::Lacks(format!("{WHAT}: {path}: {error}")))
    };
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    write("/proc/self/gid_map", format!("{gid} {gid} 1"))?;
    let kept = CapabilitySet::SYS_ADMIN | CapabilitySet::SETPCAP;
    let mut sets = capabilities(None).map_err(lacking(WHAT))?;
    sets.inheritable |= kept;
    set_capabilities(None, sets).map_err(lacking(WHAT))?;
    for capability in kept.iter() {
        configure_capability_in_ambient_set(capability, true).map_err(lacking(WHAT))?;
    }
    Ok(())
}

fn run(order: &Order, runner: &UnixStream, report: &mut File) -> Result<Report, Refusal> {
    let not_started = |error: std::io::Error| Refusal::NotStarted(error.to_string());
    let mut told = frame(order).map_err(not_started)?;
    told.extend_from_slice(order.confined.stdin.as_bytes());
    let mut child = Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .arg(INSIDE)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(not_started)?;
    let ended = watch(&mut child, told, order.span(), runner);
    // When its first process ends, the kernel ends all of the namespace; the wait is over when none is left.
    let _ = child.kill();
    let status = child.wait().map_err(|error| Refusal::Lost(error.to_string()))?;
    match ended.map_err(|error| Refusal::Lost(error.to_string()))? {
        Ended::OutOfTime => return Ok(Report::OutOfTime),
        Ended::Orphaned => return Ok(Report::Lost("its runner ended".to_owned())),
        Ended::ByItself => {}
    }
    report.seek(SeekFrom::Start(0)).map_err(|error| Refusal::Lost(error.to_string()))?;
    read_frame(report).map_err(|_| Refusal::Lost(format!("its first process ended with {status}")))
}

/// Runs the program without a sandbox. It is started from here, so that somebody is left to end it when the runner is gone.
fn run_bare(order: &Order, runner: &UnixStream) -> Result<Report, Refusal> {
    let Confined { argv, env, cwd, stdin, .. } = &order.confined;
    let not_started = |why: String| Refusal::NotStarted(why);
    let (program, args) =
        argv.split_first().ok_or_else(|| not_started("there is no program to run".to_owned()))?;
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .envs(env)
        .current_dir(cwd)
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| not_started(format!("{program}: {error}")))?;
    let ended = watch(&mut child, stdin.clone().into_bytes(), order.span(), runner);
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        // None of it may be left.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let status = child.wait().map_err(|error| Refusal::Lost(error.to_string()))?;
    Ok(match ended.map_err(|error| Refusal::Lost(error.to_string()))? {
        Ended::OutOfTime => Report::OutOfTime,
        Ended::Orphaned => Report::Lost("its runner ended".to_owned()),
        Ended::ByItself => {
            let signal = status.signal().unwrap_or_default();
            status.code().map_or(Report::Signalled(signal), Report::Exited)
        }
    })
}

/// Removes the place. The program may have taken itself the right to its own directories; nobody is left who could do so
/// now.
fn remove(dir: tempfile::TempDir) {
    let path = dir.keep();
    if std::fs::remove_dir_all(&path).is_err() {
        let _ = open_up(&path);
        let _ = std::fs::remove_dir_all(&path);
    }
}

fn open_up(dir: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}
