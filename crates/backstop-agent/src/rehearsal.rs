//! The copy of a workspace that a dry run works on. What the run does there is real to it and to nobody else.

use std::fs::{self, FileTimes, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// What is copied at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyLimits {
    /// Bytes of all files together.
    pub bytes: u64,
    /// Files and directories.
    pub entries: u64,
}

impl Default for CopyLimits {
    /// 2 GiB in 200,000 files and directories.
    fn default() -> Self {
        Self { bytes: 2 << 30, entries: 200_000 }
    }
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The workspace is larger than may be copied.
    #[error("the workspace holds more than {} bytes or {} files; a dry run works on a copy of it", .0.bytes, .0.entries)]
    TooLarge(CopyLimits),
    /// The operating system refused.
    #[error("{path} cannot be copied: {source}")]
    Io {
        /// What was to be copied.
        path: PathBuf,
        /// Why it could not be.
        source: io::Error,
    },
}

/// The copy of a workspace for one run: made if it is not there, whole or not at all.
///
/// Files come with their permissions and times, symbolic links as they are; pipes, sockets and devices are left out, and so
/// is what `reserved` names. A file system that can share blocks between files shares them.
pub(crate) fn copy(
    workspace: &Path,
    to: &Path,
    reserved: &[PathBuf],
    limits: CopyLimits,
) -> Result<(), CopyError> {
    if to.exists() {
        return Ok(());
    }
    let half = to.with_extension("half");
    let refused = |path: &Path| {
        let path = path.to_owned();
        move |source| CopyError::Io { path, source }
    };
    match fs::remove_dir_all(&half) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(refused(&half)(error)),
    }
    fs::create_dir_all(&half).map_err(refused(&half))?;
    let reserved: Vec<_> = reserved.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
    let mut copier = Copier { reserved, limits, left: limits };
    let copied = copier.directory(workspace, &half);
    if let Err(error) = copied {
        drop(fs::remove_dir_all(&half));
        return Err(error);
    }
    fs::rename(&half, to).map_err(refused(to))
}

/// Takes a copy away. It is fine if there is none.
pub(crate) fn discard(copy: &Path) -> io::Result<()> {
    match fs::remove_dir_all(copy) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

struct Copier {
    reserved: Vec<PathBuf>,
    limits: CopyLimits,
    left: CopyLimits,
}

impl Copier {
    fn directory(&mut self, from: &Path, to: &Path) -> Result<(), CopyError> {
        let refused = |source| CopyError::Io { path: from.to_owned(), source };
        for entry in fs::read_dir(from).map_err(refused)? {
            let entry = entry.map_err(refused)?;
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            if !self.reserved.contains(&from) {
                self.count(0)?;
                self.entry(&from, &to)?;
            }
        }
        let permissions = fs::metadata(from).map_err(refused)?.permissions();
        fs::set_permissions(to, permissions).map_err(refused)
    }

    fn entry(&mut self, from: &Path, to: &Path) -> Result<(), CopyError> {
        let refused = |source| CopyError::Io { path: from.to_owned(), source };
        let metadata = fs::symlink_metadata(from).map_err(refused)?;
        if metadata.is_dir() {
            fs::create_dir(to).map_err(refused)?;
            // Writable until it is filled; it gets its own permissions afterwards.
            fs::set_permissions(to, Permissions::from_mode(0o700)).map_err(refused)?;
            self.directory(from, to)
        } else if metadata.is_symlink() {
            symlink(fs::read_link(from).map_err(refused)?, to).map_err(refused)
        } else if metadata.is_file() {
            self.count(metadata.len())?;
            fs::copy(from, to).map_err(refused)?;
            let times = metadata.modified().map(|modified| FileTimes::new().set_modified(modified));
            let file = fs::File::open(to).map_err(refused)?;
            times.and_then(|times| file.set_times(times)).map_err(refused)
        } else {
            Ok(())
        }
    }

    fn count(&mut self, bytes: u64) -> Result<(), CopyError> {
        let entries = u64::from(bytes == 0);
        match (self.left.bytes.checked_sub(bytes), self.left.entries.checked_sub(entries)) {
            (Some(bytes), Some(entries)) => {
                self.left = CopyLimits { bytes, entries };
                Ok(())
            }
            _ => Err(CopyError::TooLarge(self.limits)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_whole_and_leaves_out_what_is_reserved() {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().join("work");
        fs::create_dir_all(work.join("deep/er")).unwrap();
        fs::create_dir(work.join(".backstop")).unwrap();
        fs::write(work.join(".backstop/backstop.db"), "ours").unwrap();
        fs::write(work.join("deep/er/a"), "text").unwrap();
        fs::set_permissions(work.join("deep/er/a"), Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(work.join("deep/er"), Permissions::from_mode(0o555)).unwrap();
        symlink("deep/er/a", work.join("link")).unwrap();
        let to = dir.path().join("copy");
        copy(&work, &to, &[work.join(".backstop")], CopyLimits::default()).unwrap();
        assert_eq!(fs::read_to_string(to.join("link")).unwrap(), "text");
        assert!(fs::symlink_metadata(to.join("link")).unwrap().is_symlink());
        assert_eq!(fs::metadata(to.join("deep/er/a")).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(fs::metadata(to.join("deep/er")).unwrap().permissions().mode() & 0o7777, 0o555);
        assert!(!to.join(".backstop").exists());
        let times =
            [&work, &to].map(|root| fs::metadata(root.join("deep/er/a")).unwrap().modified().unwrap());
        assert_eq!(times[0], times[1]);
        // It is made once: what the run did on it stays.
        fs::write(to.join("new"), "").unwrap();
        copy(&work, &to, &[], CopyLimits::default()).unwrap();
        assert!(to.join("new").exists());
        discard(&to).unwrap();
        discard(&to).unwrap();
    }

    #[test]
    fn what_is_too_large_is_not_copied_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().join("work");
        fs::create_dir(&work).unwrap();
        fs::write(work.join("a"), "12345").unwrap();
        for limits in [CopyLimits { bytes: 4, entries: 9 }, CopyLimits { bytes: 9, entries: 0 }] {
            let refused = copy(&work, &dir.path().join("copy"), &[], limits).unwrap_err();
            assert!(matches!(refused, CopyError::TooLarge(_)), "{refused}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
        }
        copy(&work, &dir.path().join("copy"), &[], CopyLimits { bytes: 5, entries: 1 }).unwrap();
    }
}
