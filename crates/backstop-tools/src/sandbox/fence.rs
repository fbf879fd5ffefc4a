//! What is given up besides the file system's shape: capabilities, resources, and by Landlock every file, port, socket
//! and process that was not granted.

use super::order::Place;
use super::refusal::{Refusal, lacking};
use super::{Access, Confined, Limits};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd,
    Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setpriority_process, setrlimit,
};
use rustix::thread::{
    CapabilitySet, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};
use std::path::Path;

/// The rights of Landlock that are asked for: those of Linux 6.12, the first that confines signals.
const RIGHTS: ABI = ABI::V6;

/// What every program needs: programs, libraries, and what these read to find each other. No file here is a secret.
const READ: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/locale.alias",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki/tls/certs",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/terminfo",
    "/etc/timezone",
    "/dev/random",
    "/dev/urandom",
    // There is nobody in it but the program and its children.
    "/proc",
    "/sys/devices/system/cpu",
];
/// What may be written to as well, and keeps nothing.
const SINKS: &[&str] = &["/dev/null", "/dev/zero", "/dev/full"];

/// What root keeps: what it may do with files, which the mounts and Landlock confine.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID);

/// What the process that counts keeps besides, and the program does not get.
const KEPT_INSIDE: CapabilitySet = KEPT.union(CapabilitySet::SYS_NICE);
/// So many processes more than may be can be made before the next count ends all.
const PROCESSES_BEYOND: u64 = 32;

/// Limits what each process may use. They cannot be raised again.
pub(super) fn limit(limits: &Limits) -> Result<(), Refusal> {
    let mib = |mib: u64| mib.saturating_mul(1024 * 1024);
    let mut all = vec![
        (Resource::Cpu, limits.cpu_secs),
        (Resource::Fsize, mib(limits.file_mib)),
        // What is private and can be written. What is only reserved, as runtimes do in large pieces, does not count.
        (Resource::Data, limits.memory_bytes()),
        (Resource::Nofile, limits.open_files),
        (Resource::Core, 0),
        (Resource::Memlock, 64 * 1024),
    ];
    if is_in_user_namespace()? {
        // It counts by user and user namespace, and so just these. Root it does not hold: there only the count does.
        all.push((Resource::Nproc, limits.processes.saturating_add(PROCESSES_BEYOND)));
    }
    for (resource, most) in all {
        let most = getrlimit(resource).maximum.map_or(most, |already| already.min(most));
        // At the soft limit a program is told, and most end. The hard one is out of reach for this process, which counts
        // the time of all and would be ended by it as well.
        let hard = if resource == Resource::Cpu { most.saturating_add(limits.wall_secs) } else { most };
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(hard) })
            .map_err(lacking("limits of resources"))?;
    }
    Ok(())
}

/// The first user namespace maps every id to itself.
fn is_in_user_namespace() -> Result<bool, Refusal> {
    let map = std::fs::read_to_string("/proc/self/uid_map").map_err(lacking("the map of user ids"))?;
    Ok(map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"])
}

/// Puts this process before those that it counts, where it may: a fork bomb would leave it no time.
pub(super) fn hurry() {
    let _ = setpriority_process(None, -20);
}

/// Gives up every capability but those of root over its files.
pub(super) fn drop_capabilities() -> Result<(), Refusal> {
    const WHAT: &str = "giving up capabilities";
    clear_ambient_capability_set().map_err(lacking(WHAT))?;
    let held = capabilities(None).map_err(lacking(WHAT))?;
    if held.effective.contains(CapabilitySet::SETPCAP) {
        for bit in 0..u64::BITS {
            let capability = CapabilitySet::from_bits_retain(1 << bit);
            if KEPT.contains(capability) {
                continue;
            }
            match remove_capability_from_bounding_set(capability) {
                Ok(()) => {}
                // The kernel knows no more of them.
                Err(Errno::INVAL) => break,
                Err(errno) => return Err(lacking(WHAT)(errno)),
            }
        }
    }
    let mut kept = held;
    kept.effective &= KEPT_INSIDE;
    kept.permitted &= KEPT_INSIDE;
    kept.inheritable = CapabilitySet::empty();
    set_capabilities(None, kept).map_err(lacking(WHAT))?;
    set_no_new_privs(true).map_err(lacking("no_new_privs"))
}

/// Confines this process and all that it starts by Landlock.
pub(super) fn restrict(confined: &Confined, place: &Place) -> Result<(), Refusal> {
    // The program must not reach into this process by way of /proc.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(lacking("closing this process's memory"))?;
    match rules(confined, place) {
        Ok(RulesetStatus::FullyEnforced) => Ok(()),
        Ok(RulesetStatus::PartiallyEnforced | RulesetStatus::NotEnforced) => {
            Err(Refusal::Lacks("Landlock does not enforce all of the rules".to_owned()))
        }
        Err(error) => Err(Refusal::Lacks(format!(
            "Landlock with the rights of Linux 6.12 (ABI 6), in the kernel's list of security modules: {error}"
        ))),
    }
}

fn rules(confined: &Confined, place: &Place) -> Result<RulesetStatus, RulesetError> {
    let read = AccessFs::Execute | AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::from_all(RIGHTS) & !(AccessFs::MakeBlock | AccessFs::MakeChar | AccessFs::IoctlDev);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(RIGHTS))?
        .scope(Scope::from_all(RIGHTS))?;
    if !confined.network {
        ruleset = ruleset.handle_access(AccessNet::from_all(RIGHTS))?;
    }
    let mut created = ruleset.create()?;
    let own = match confined.access {
        Access::None => None,
        Access::Read => Some((&confined.workspace, read)),
        Access::Write => Some((&confined.workspace, write)),
    };
    let places = own.into_iter().chain([(&place.tmp, write)]);
    let granted =
        confined.read.iter().map(|path| (path, read)).chain(confined.write.iter().map(|path| (path, write)));
    let system = READ.iter().map(|path| (Path::new(*path), read));
    let sinks = SINKS.iter().map(|path| (Path::new(*path), AccessFs::ReadFile | AccessFs::WriteFile));
    let named = places.chain(granted).map(|(path, rights)| (path.as_path(), rights));
    for (path, rights) in system.chain(sinks).chain(named) {
        // What is not there cannot be reached, and needs no rule.
        let Ok(opened) = PathFd::new(path) else { continue };
        created = created.add_rule(PathBeneath::new(opened, fitting(path, rights)))?;
    }
    Ok(created.restrict_self()?.ruleset)
}

/// A file takes no rights of directories.
fn fitting(path: &Path, rights: BitFlags<AccessFs>) -> BitFlags<AccessFs> {
    if path.is_dir() { rights } else { rights & AccessFs::from_file(RIGHTS) }
}
