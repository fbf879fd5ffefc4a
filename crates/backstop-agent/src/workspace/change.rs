//! Changes files of a workspace: each whole or not at all, synced, and nowhere that tools may not write.

use super::{PathError, Workspace, is_regular, real_of, refused, split};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

impl Workspace {
    /// Puts `bytes` in the place of a file, whole or not at all: written beside it, synced, renamed over it, the
    /// directory synced. Gives it `mode`, or keeps its permissions; makes the directories above it. A symbolic link is not followed but
    /// refused, a hard link is replaced, so that what it shares bytes with stays as it is.
    ///
    /// `key` names the file beside it: a call that is tried again under the same key clears away what a crash left.
    pub fn replace(
        &self,
        relative: &Path,
        bytes: &[u8],
        mode: Option<u32>,
        key: &str,
    ) -> Result<(), PathError> {
        let (parent, name) = split(relative)?;
        let dir = self.directory(parent)?;
        self.may_change(&dir, name)?;
        let kept = match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                is_regular(&stat)?;
                Some(Mode::from_raw_mode(stat.st_mode & 0o7777))
            }
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(refused(errno)),
        };
        let mode = mode.map(Mode::from_raw_mode).or(kept);
        let beside = name_beside(key);
        remove(&dir, &beside)?;
        let written = write_beside(&dir, &beside, bytes, mode)
            .and_then(|()| rustix::fs::renameat(&dir, &*beside, &dir, name).map_err(refused));
        if let Err(error) = written {
            remove(&dir, &beside)?;
            return Err(error);
        }
        rustix::fs::fsync(&dir).map_err(|errno| PathError::Unsynced(errno.to_string()))
    }

    /// Removes a regular file, and syncs its directory.
    pub fn remove(&self, relative: &Path) -> Result<(), PathError> {
        let (parent, name) = split(relative)?;
        let dir = self.open_beneath(parent, OFlags::RDONLY | OFlags::DIRECTORY)?;
        self.may_change(&dir, name)?;
        is_regular(&rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(refused)?)?;
        rustix::fs::unlinkat(&dir, name, AtFlags::empty()).map_err(refused)?;
        rustix::fs::fsync(&dir).map_err(|errno| PathError::Unsynced(errno.to_string()))
    }

    /// Removes a directory if it is empty; leaves it if it is not, or is not there.
    pub fn remove_empty(&self, relative: &Path) -> Result<(), PathError> {
        let (parent, name) = split(relative)?;
        let dir = match self.open_beneath(parent, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(PathError::NotFound) => return Ok(()),
            opened => opened?,
        };
        self.may_change(&dir, name)?;
        match rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR) {
            Ok(()) => rustix::fs::fsync(&dir).map_err(|errno| PathError::Unsynced(errno.to_string())),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => Ok(()),
            Err(errno) => Err(refused(errno)),
        }
    }

    /// Gives a regular file another path, in one step, where nothing is yet; makes the directories above it and syncs both
    /// ends.
    ///
    /// # Errors
    /// `Taken` when something is there.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), PathError> {
        let ((from_parent, from_name), (to_parent, to_name)) = (split(from)?, split(to)?);
        let from_dir = self.open_beneath(from_parent, OFlags::RDONLY | OFlags::DIRECTORY)?;
        self.may_change(&from_dir, from_name)?;
        is_regular(&rustix::fs::statat(&from_dir, from_name, AtFlags::SYMLINK_NOFOLLOW).map_err(refused)?)?;
        let to_dir = self.directory(to_parent)?;
        self.may_change(&to_dir, to_name)?;
        match rustix::fs::renameat_with(&from_dir, from_name, &to_dir, to_name, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(PathError::Taken),
            Err(errno) => return Err(refused(errno)),
        }
        rustix::fs::fsync(&to_dir)
            .and_then(|()| rustix::fs::fsync(&from_dir))
            .map_err(|errno| PathError::Unsynced(errno.to_string()))
    }

    /// Removes what a crashed [`Workspace::replace`] under this key may have left.
    pub fn clear(&self, relative: &Path, key: &str) -> Result<(), PathError> {
        let (parent, _) = split(relative)?;
        match self.open_beneath(parent, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(dir) => remove(&dir, &name_beside(key)),
            Err(PathError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Opens a directory, and makes it and those above it where they are missing.
    fn directory(&self, relative: &Path) -> Result<OwnedFd, PathError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match self.open_beneath(relative, flags) {
            Err(PathError::NotFound) => {}
            opened => return opened,
        }
        let mut reached = PathBuf::new();
        let mut dir = self.open_beneath(&reached, flags)?;
        for name in relative.components() {
            match rustix::fs::mkdirat(&dir, name.as_os_str(), Mode::from_raw_mode(0o777)) {
                Ok(()) => rustix::fs::fsync(&dir).map_err(refused)?,
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(refused(errno)),
            }
            reached.push(name);
            dir = self.open_beneath(&reached, flags)?;
        }
        Ok(dir)
    }

    /// Whether a name in an open directory is one that tools may write.
    fn may_change(&self, dir: &OwnedFd, name: &OsStr) -> Result<(), PathError> {
        let place = real_of(dir)?.join(name);
        if self.is_reserved(&place) || self.is_in_git(&place) { Err(PathError::Reserved) } else { Ok(()) }
    }
}

fn name_beside(key: &str) -> String {
    let key: String = key.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
    format!(".backstop-{key}.tmp")
}

fn remove(dir: impl AsFd, name: &str) -> Result<(), PathError> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(refused(errno)),
    }
}

fn write_beside(dir: impl AsFd, name: &str, bytes: &[u8], mode: Option<Mode>) -> Result<(), PathError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o666)).map_err(refused)?;
    if let Some(mode) = mode {
        rustix::fs::fchmod(&fd, mode).map_err(refused)?;
    }
    let mut file = File::from(fd);
    let io = |error: std::io::Error| PathError::Io(error.to_string());
    file.write_all(bytes).map_err(io)?;
    file.sync_all().map_err(io)
}
