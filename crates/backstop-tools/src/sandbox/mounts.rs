//! What the file system looks like to the program: all of it read-only but for what was granted, `.git` and what is
//! reserved taken out of that again, and a `/proc` in which there is nobody else. Read-only mounts also hold what Landlock
//! lets pass: modes, owners, times and attributes.

use super::order::Place;
use super::refusal::{Refusal, lacking};
use super::{Access, Confined};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_bind_recursive, mount_change, mount_remount,
};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

const WHAT: &str = "a mount namespace";

/// Arranges it for this process and its children. It needs the right to mount, which is given up afterwards.
pub(super) fn arrange(confined: &Confined, place: &Place) -> Result<(), Refusal> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(lacking(WHAT))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).map_err(lacking(WHAT))?;
    let view = View::of(confined, place);
    for path in &view.writable {
        mount_bind_recursive(path, path).map_err(refused(path))?;
    }
    for path in &view.read_only {
        mount_bind_recursive(path, path).map_err(refused(path))?;
    }
    for path in &view.hidden {
        let cover = if path.is_dir() { &place.nothing } else { &place.blank };
        mount_bind(cover, path).map_err(refused(path))?;
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, None).map_err(lacking("a /proc of its own"))?;
    close(&view)
}

/// Which paths are what.
struct View {
    writable: Vec<PathBuf>,
    /// Beneath what is writable, and not writable.
    read_only: Vec<PathBuf>,
    /// Beneath what can be read, and not to be read.
    hidden: Vec<PathBuf>,
}

impl View {
    fn of(confined: &Confined, place: &Place) -> Self {
        let mut writable: Vec<_> = confined.write.clone();
        if confined.access == Access::Write {
            writable.push(confined.workspace.clone());
        }
        writable.push(place.tmp.clone());
        writable.sort();
        let git = confined.workspace.join(".git");
        let read_only = if !confined.git && git.symlink_metadata().is_ok() { vec![git] } else { Vec::new() };
        let hidden = outermost(confined.reserved.iter().filter(|path| path.exists()).cloned().collect());
        Self { writable, read_only, hidden }
    }

    fn is_writable(&self, path: &Path) -> bool {
        let beneath = |paths: &[PathBuf]| paths.iter().any(|above| path.starts_with(above));
        beneath(&self.writable) && !beneath(&self.read_only) && !beneath(&self.hidden)
    }
}

/// Those that lie in none of the others: what is in a covered directory is gone with it, and cannot be covered itself.
fn outermost(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    paths.sort();
    paths.dedup_by(|path, above| path.starts_with(above));
    paths
}

fn refused(path: &Path) -> impl Fn(Errno) -> Refusal {
    move |errno| Refusal::Lacks(format!("{WHAT}: {}: {}", path.display(), std::io::Error::from(errno)))
}

/// Makes every mount read-only that is not to be written to, and looks whether it is.
fn close(view: &View) -> Result<(), Refusal> {
    let table = std::fs::read("/proc/self/mountinfo").map_err(lacking("the list of mounts"))?;
    for (path, flags) in mounts(&table) {
        if view.is_writable(&path) {
            continue;
        }
        // What another mount lies over cannot be reached, by the program neither. The look afterwards decides.
        let closed = mount_remount(&path, flags | MountFlags::BIND | MountFlags::RDONLY, "");
        match statvfs(&path) {
            Ok(stat) if stat.f_flag.contains(StatVfsMountFlags::RDONLY) => {}
            Err(Errno::NOENT | Errno::ACCESS | Errno::NOTDIR) => {}
            Ok(_) => return Err(refused(&path)(closed.err().unwrap_or(Errno::ROFS))),
            Err(errno) => return Err(refused(&path)(errno)),
        }
    }
    Ok(())
}

/// The mount points with the flags that must stay as they are.
fn mounts(table: &[u8]) -> impl Iterator<Item = (PathBuf, MountFlags)> {
    table.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let path = unescaped(fields.nth(4)?);
        let options = fields.next()?.split(|byte| *byte == b',');
        let flags = options.filter_map(|option| match option {
            b"nosuid" => Some(MountFlags::NOSUID),
            b"nodev" => Some(MountFlags::NODEV),
            b"noexec" => Some(MountFlags::NOEXEC),
            b"noatime" => Some(MountFlags::NOATIME),
            b"nodiratime" => Some(MountFlags::NODIRATIME),
            b"relatime" => Some(MountFlags::RELATIME),
            _ => None,
        });
        Some((path, flags.collect()))
    })
}

/// `\040` and the like, by which the kernel writes a space in a path.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, behind @ ..] = rest {
        let octal = behind.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                path.push(byte);
                rest = &behind[3..];
            }
            _ => {
                path.push(*first);
                rest = behind;
            }
        }
    }
    PathBuf::from(OsString::from_vec(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_within_a_reserved_directory_goes_with_it() {
        let paths =
            ["/w/.backstop/logs", "/w/.backstop-old", "/w/.backstop", "/w/key", "/w/.backstop/logs/a"];
        let want = ["/w/.backstop", "/w/.backstop-old", "/w/key"].map(PathBuf::from);
        assert_eq!(outermost(paths.map(PathBuf::from).to_vec()), want);
    }

    #[test]
    fn mounts_are_read_with_their_flags() {
        let table = b"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
            28 27 0:25 / /mnt/a\\040b\\134c ro,nosuid,nodev shared:1 - tmpfs none ro,size=4k\n\n";
        let want = [
            (PathBuf::from("/"), MountFlags::RELATIME),
            (PathBuf::from("/mnt/a b\\c"), MountFlags::NOSUID | MountFlags::NODEV),
        ];
        assert_eq!(mounts(table).collect::<Vec<_>>(), want);
    }
}
