//! The directory a run works in. Every path is opened from the directory's own descriptor with
//! `openat2(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)`, so the kernel refuses what leads outside, also when a link is
//! swapped in between. Nothing here compares path strings to decide what is inside.

mod change;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// How often a lookup is tried again that raced with a rename.
const RACES_MAX: u32 = 16;

/// A directory that paths cannot leave.
#[derive(Debug)]
pub struct Workspace {
    root: OwnedFd,
    path: PathBuf,
    /// Another directory that this one stands for: absolute paths into that one mean this one.
    stands_for: Option<PathBuf>,
    /// Whether symbolic links are followed, as far as they stay inside.
    links: bool,
    /// What lies inside and is not for tools, by its real path.
    reserved: Vec<PathBuf>,
}

/// A file's bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileContent {
    /// All of them.
    pub bytes: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
}

/// What a file can be known again by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// BLAKE3 of its bytes, in hex.
    pub hash: String,
    /// How many there are.
    pub bytes: u64,
    /// Its permission bits.
    pub mode: u32,
}

/// Where a file lies, for a library that opens it by itself, and keeps more files beside it: a database. The directory is
/// held open, so that its rights can be narrowed to what lies in it, whatever becomes of the path that leads there.
#[derive(Debug)]
pub struct Place {
    /// The file's directory.
    pub dir: OwnedFd,
    /// The file's name in it.
    pub name: OsString,
    /// Its path from the workspace's root, without links.
    pub relative: PathBuf,
}

/// What stands in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name, not its path. What is no UTF-8 is shown with replacement characters and cannot be opened.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Link,
    /// A pipe, a socket, a device.
    Special,
}

/// A path that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It leads outside the workspace.
    #[error("leads outside the workspace")]
    Outside,
    /// It belongs to the program that runs the tools: its journal, its config.
    #[error("is not for tools")]
    Reserved,
    /// Nothing is there.
    #[error("is not there")]
    NotFound,
    /// It is no name that a file can have.
    #[error("is no usable path: {0}")]
    BadName(&'static str),
    /// Something is there already.
    #[error("is taken")]
    Taken,
    /// It is no regular file.
    #[error("is {0}, not a regular file")]
    NotAFile(&'static str),
    /// It is no directory.
    #[error("is not a directory")]
    NotADirectory,
    /// The file is too large to be read whole.
    #[error("has {bytes} bytes, more than the {max} that can be read")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The most that is read.
        max: u64,
    },
    /// The operating system refused, before anything was changed.
    #[error("{0}")]
    Io(String),
    /// It was replaced, but whether the change is on the disk is not certain.
    #[error("was replaced, but the change may not be on the disk: {0}")]
    Unsynced(String),
}

impl Workspace {
    /// Opens a directory as a workspace.
    pub fn open(path: &Path) -> Result<Self, PathError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).map_err(refused)?;
        let path = std::fs::canonicalize(path).map_err(|error| PathError::Io(error.to_string()))?;
        Ok(Self { root, path, stands_for: None, links: true, reserved: Vec::new() })
    }

    /// The same, but these files and directories, wherever they lie, are neither listed nor read nor written, whatever
    /// links lead to them: an agent must not reach its own journal or config. A directory that holds the whole workspace
    /// is not reserved: there would be nothing left.
    #[must_use]
    pub fn reserving(mut self, paths: &[PathBuf]) -> Self {
        let reserved = paths.iter().map(|path| real(path));
        self.reserved = reserved.filter(|reserved| !self.path.starts_with(reserved)).collect();
        self
    }

    /// The same, but no path may run through a symbolic link: each means the file that it names.
    #[must_use]
    pub fn without_links(mut self) -> Self {
        self.links = false;
        self
    }

    /// The same, as a copy of another directory: who names a file by its absolute path there means the one here.
    #[must_use]
    pub fn standing_for(mut self, original: &Path) -> Self {
        self.stands_for = Some(real(original));
        self
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What lies inside and is not for tools, by its real path.
    pub fn reserved(&self) -> &[PathBuf] {
        &self.reserved
    }

    /// The path from the workspace's root that a text names. An absolute path is taken when it begins with the root's
    /// own; whether it stays inside is not decided here but by the kernel, when it is opened.
    pub fn relative(&self, text: &str) -> Result<PathBuf, PathError> {
        if text.contains('\0') {
            return Err(PathError::BadName("it contains a NUL"));
        }
        let given = Path::new(text);
        let mut roots = std::iter::once(&self.path).chain(&self.stands_for);
        let given = roots.find_map(|root| given.strip_prefix(root).ok()).unwrap_or(given);
        let mut relative = PathBuf::new();
        for component in given.components() {
            match component {
                Component::Normal(name) => relative.push(name),
                Component::CurDir => {}
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                    return Err(PathError::Outside);
                }
            }
        }
        Ok(relative)
    }

    /// Reads a regular file of at most `bytes_max` bytes. Never blocks on a pipe and never opens a device for good.
    pub fn read(&self, relative: &Path, bytes_max: u64) -> Result<FileContent, PathError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = self.open_beneath(relative, flags)?;
        let stat = rustix::fs::fstat(&fd).map_err(refused)?;
        is_regular(&stat)?;
        let mut bytes = Vec::new();
        let mut limited = File::from(fd).take(bytes_max + 1);
        limited.read_to_end(&mut bytes).map_err(|error| PathError::Io(error.to_string()))?;
        if bytes.len() as u64 > bytes_max {
            let size = u64::try_from(stat.st_size).unwrap_or(0).max(bytes.len() as u64);
            return Err(PathError::TooLarge { bytes: size, max: bytes_max });
        }
        Ok(FileContent { bytes, mode: stat.st_mode & 0o7777 })
    }

    /// The digest of a regular file of any size.
    pub fn digest(&self, relative: &Path) -> Result<Digest, PathError> {
        let fd = self.open_beneath(relative, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let stat = rustix::fs::fstat(&fd).map_err(refused)?;
        is_regular(&stat)?;
        let (mut hasher, mut file) = (blake3::Hasher::new(), File::from(fd));
        let mut buffer = vec![0; 64 * 1024];
        let mut bytes = 0;
        loop {
            match file.read(&mut buffer).map_err(|error| PathError::Io(error.to_string()))? {
                0 => break,
                read => {
                    hasher.update(&buffer[..read]);
                    bytes += read as u64;
                }
            }
        }
        Ok(Digest { hash: hasher.finalize().to_hex().to_string(), bytes, mode: stat.st_mode & 0o7777 })
    }

    /// The directories above a path that are not there, the outermost first.
    pub fn missing_directories(&self, relative: &Path) -> Result<Vec<String>, PathError> {
        let mut missing = Vec::new();
        for directory in relative.ancestors().skip(1) {
            match self.open_beneath(directory, OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(_) => break,
                Err(PathError::NotFound) => missing.push(directory.to_string_lossy().into_owned()),
                Err(error) => return Err(error),
            }
        }
        missing.reverse();
        Ok(missing)
    }

    /// Where a regular file lies. Neither a symbolic link nor a file with a second name is taken: what is written to it
    /// would be written elsewhere too.
    pub fn place(&self, relative: &Path) -> Result<Place, PathError> {
        let (parent, name) = split(relative)?;
        let dir = self.open_beneath(parent, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let real = real_of(&dir)?.join(name);
        if self.is_reserved(&real) || self.is_in_git(&real) {
            return Err(PathError::Reserved);
        }
        let relative = real.strip_prefix(&self.path).map_err(|_| PathError::Outside)?.to_owned();
        let place = Place { dir, name: name.to_owned(), relative };
        if !place.holds("")? {
            return Err(PathError::NotFound);
        }
        Ok(place)
    }

    /// What stands in a directory, sorted by name.
    pub fn entries(&self, relative: &Path) -> Result<Vec<Entry>, PathError> {
        let fd = self.open_beneath(relative, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let at = real_of(&fd)?;
        let mut entries = Vec::new();
        for entry in Dir::read_from(&fd).map_err(refused)? {
            let entry = entry.map_err(refused)?;
            let raw = entry.file_name();
            if raw == c"." || raw == c".." || self.is_reserved(&at.join(OsStr::from_bytes(raw.to_bytes()))) {
                continue;
            }
            let mut kind = entry.file_type();
            if kind == FileType::Unknown {
                let stat = rustix::fs::statat(&fd, raw, AtFlags::SYMLINK_NOFOLLOW).map_err(refused)?;
                kind = FileType::from_raw_mode(stat.st_mode);
            }
            entries.push(Entry { name: raw.to_string_lossy().into_owned(), kind: entry_kind(kind) });
        }
        entries.sort();
        Ok(entries)
    }

    fn open_beneath(&self, relative: &Path, flags: OFlags) -> Result<OwnedFd, PathError> {
        let path = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        let links = if self.links { ResolveFlags::empty() } else { ResolveFlags::NO_SYMLINKS };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | links;
        let flags = flags | OFlags::CLOEXEC;
        for _ in 0..RACES_MAX {
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                opened => return opened.map_err(refused).and_then(|fd| self.free(fd)),
            }
        }
        Err(PathError::Io("somebody keeps renaming the directories on its way".to_owned()))
    }
}

impl Place {
    /// Whether there is a file whose name is the file's with `suffix` after it. An error if it is not one that
    /// [`Workspace::place`] takes.
    pub fn holds(&self, suffix: &str) -> Result<bool, PathError> {
        let mut name = self.name.clone();
        name.push(suffix);
        match rustix::fs::statat(&self.dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if stat.st_nlink > 1 && is_regular(&stat).is_ok() => {
                Err(PathError::NotAFile("a hard link"))
            }
            Ok(stat) => is_regular(&stat).map(|()| true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(refused(errno)),
        }
    }
}

impl Workspace {
    /// The file that was opened, unless it is reserved. Asked of the kernel after it was opened, so that no link, and no
    /// renaming on the way, can hide what it is.
    fn free(&self, fd: OwnedFd) -> Result<OwnedFd, PathError> {
        if self.reserved.is_empty() || !self.is_reserved(&real_of(&fd)?) {
            return Ok(fd);
        }
        Err(PathError::Reserved)
    }

    /// Git runs what lies in its directory (hooks, filters) as the person who works there: nothing is written to it.
    fn is_in_git(&self, real: &Path) -> bool {
        let inside = real.strip_prefix(&self.path).unwrap_or(real);
        inside.components().any(|component| component.as_os_str() == ".git")
    }

    fn is_reserved(&self, real: &Path) -> bool {
        self.reserved.iter().any(|reserved| real.starts_with(reserved))
    }
}

/// The path of an open file, as the kernel knows it.
fn real_of(fd: &OwnedFd) -> Result<PathBuf, PathError> {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    std::fs::read_link(link).map_err(|error| PathError::Io(error.to_string()))
}

/// The path with its links resolved, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if let Ok(real) = std::fs::canonicalize(&path) {
        return real;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => real(parent).join(name),
        _ => path,
    }
}

/// The directory of a path and the name in it.
fn split(relative: &Path) -> Result<(&Path, &OsStr), PathError> {
    let name = relative.file_name().ok_or(PathError::NotAFile("a directory"))?;
    Ok((relative.parent().unwrap_or(Path::new("")), name))
}

fn is_regular(stat: &Stat) -> Result<(), PathError> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        FileType::Directory => Err(PathError::NotAFile("a directory")),
        FileType::Symlink => Err(PathError::NotAFile("a symbolic link")),
        FileType::Fifo => Err(PathError::NotAFile("a pipe")),
        FileType::Socket => Err(PathError::NotAFile("a socket")),
        FileType::CharacterDevice | FileType::BlockDevice => Err(PathError::NotAFile("a device")),
        FileType::Unknown => Err(PathError::NotAFile("of an unknown kind")),
    }
}

fn entry_kind(kind: FileType) -> EntryKind {
    match kind {
        FileType::Directory => EntryKind::Directory,
        FileType::RegularFile => EntryKind::File,
        FileType::Symlink => EntryKind::Link,
        FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => EntryKind::Special,
    }
}

fn refused(errno: Errno) -> PathError {
    match errno {
        Errno::XDEV => PathError::Outside,
        Errno::NOENT => PathError::NotFound,
        Errno::NOTDIR => PathError::NotADirectory,
        Errno::ISDIR => PathError::NotAFile("a directory"),
        Errno::NXIO => PathError::NotAFile("a pipe, a socket or a device"),
        Errno::LOOP => PathError::BadName("its symbolic links lead in a circle, or where links may not lead"),
        Errno::NAMETOOLONG => PathError::BadName("it is too long"),
        Errno::NOSYS => PathError::Io(
            "this kernel has no openat2 (Linux 5.6 or newer is needed), so no path can be confined"
                .to_owned(),
        ),
        other => PathError::Io(std::io::Error::from(other).to_string()),
    }
}

#[cfg(test)]
mod tests;
