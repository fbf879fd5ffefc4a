//! Tells whoever waits for work that there may be some, in this process and in others, without looking again and again: each
//! process has a file in a directory beside the database, touches it when a commit changed the queue, and hears of the
//! others' from the kernel (inotify). That another process died, and left its runs to others, it hears through a pidfd.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{FlockOperation, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, flock, futimens};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Where the kernel tells nothing, others' commits are looked for so often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Bells that this process has hung: each has a number.
static HUNG: AtomicU64 = AtomicU64::new(0);
/// Room for the events of one read.
const EVENTS_BYTES: usize = 4096;

/// A process's bell.
pub(crate) struct Bell {
    dir: PathBuf,
    version: watch::Sender<u64>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// This process's file, and its name; held locked for as long as it lives.
    own: Option<(String, File)>,
    /// Whether the others are listened to; `None` before it was asked for.
    listens: Option<bool>,
}

impl Bell {
    /// The bell of this database: `<database>.bells/`, made when it is first used.
    pub(crate) fn beside(database: &Path) -> Self {
        let mut name = database.as_os_str().to_owned();
        name.push(".bells");
        Self { dir: PathBuf::from(name), version: watch::Sender::new(0), inner: Mutex::default() }
    }

    /// Tells everybody. What cannot be told to other processes is found by them when they look next.
    pub(crate) fn ring(&self) {
        self.bump();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times =
            Timestamps { last_access: Timespec { tv_nsec: UTIME_OMIT, ..now }, last_modification: now };
        match &inner.own {
            Some((_, file)) => drop(futimens(file, &times)),
            // That it appears tells as well.
            None => inner.own = self.hang().ok(),
        }
    }

    /// The version at this moment. From here on no change goes unheard.
    pub(crate) fn version(&self) -> u64 {
        let version = *self.version.borrow();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.listens.is_none() {
            inner.listens = Some(self.listen(&mut inner).is_ok());
        }
        version
    }

    /// Waits until the version is another one.
    pub(crate) async fn changed(&self, seen: u64) -> u64 {
        let mut version = self.version.subscribe();
        let listens = self.inner.lock().unwrap_or_else(PoisonError::into_inner).listens;
        // There is a sender for as long as there is a bell.
        let changed = version.wait_for(|version| *version != seen);
        if listens == Some(true) {
            drop(changed.await);
        } else if tokio::time::timeout(LOOK_AGAIN, changed).await.is_err() {
            self.bump();
        }
        *self.version.borrow()
    }

    fn bump(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// Has a thread wait for the others, until this bell is dropped.
    fn listen(&self, inner: &mut Inner) -> io::Result<()> {
        if inner.own.is_none() {
            inner.own = Some(self.hang()?);
        }
        let own = inner.own.as_ref().map(|(name, _)| name.clone()).unwrap_or_default();
        let ears = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        inotify::add_watch(&ears, &self.dir, WatchFlags::MOVED_TO | WatchFlags::DELETE | WatchFlags::MODIFY)?;
        let listener = Listener { dir: self.dir.clone(), own, ears, version: self.version.clone() };
        std::thread::Builder::new().name("store-bell".to_owned()).spawn(move || listener.run())?;
        Ok(())
    }

    /// Makes this process's file. It gets its name when it is locked: before, others would take it for that of a dead process.
    fn hang(&self) -> io::Result<(String, File)> {
        fs::create_dir_all(&self.dir)?;
        let name = format!("{}-{}", std::process::id(), HUNG.fetch_add(1, Ordering::Relaxed));
        let hidden = self.dir.join(format!(".{name}"));
        let file = File::create(&hidden)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        fs::rename(&hidden, self.dir.join(&name))?;
        Ok((name, file))
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some((name, _)) = inner.own.take() {
            // The listener hears of it, and ends.
            drop(fs::remove_file(self.dir.join(name)));
        }
    }
}

/// Waits for the other processes.
struct Listener {
    dir: PathBuf,
    own: String,
    ears: OwnedFd,
    version: watch::Sender<u64>,
}

/// What was heard.
enum Heard {
    /// Nothing of others.
    Nothing,
    /// Another one's file appeared, was touched, or went.
    Others,
    /// This process's own file went.
    End,
}

impl Listener {
    fn run(self) {
        loop {
            let (lives, died) = self.lives_of_others();
            if died {
                self.version.send_modify(|version| *version += 1);
            }
            let mut waits: Vec<_> = lives.iter().map(|life| PollFd::new(life, PollFlags::IN)).collect();
            waits.push(PollFd::new(&self.ears, PollFlags::IN));
            match poll(&mut waits, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
            match self.hear() {
                Ok(Heard::Nothing) => {}
                Ok(Heard::Others) => self.version.send_modify(|version| *version += 1),
                Ok(Heard::End) | Err(_) => return,
            }
        }
    }

    /// What ends when another process does, for each that lives; and whether one died, whose file is gone now.
    fn lives_of_others(&self) -> (Vec<OwnedFd>, bool) {
        let (mut lives, mut died) = (Vec::new(), false);
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == self.own || name.starts_with('.') {
                continue;
            }
            let pid = name.split_once('-').and_then(|(pid, _)| pid.parse().ok()).and_then(Pid::from_raw);
            let life = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
            // Asked for after its pidfd is there: who dies in between is seen by the one or by the other.
            if is_held(&entry.path()) {
                lives.extend(life);
            } else {
                died = true;
                drop(fs::remove_file(entry.path()));
            }
        }
        (lives, died)
    }

    fn hear(&self) -> Result<Heard, Errno> {
        let mut room = [MaybeUninit::uninit(); EVENTS_BYTES];
        let mut events = inotify::Reader::new(&self.ears, &mut room);
        let mut heard = Heard::Nothing;
        loop {
            let event = match events.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(heard),
                Err(error) => return Err(error),
            };
            let own = event.file_name().is_some_and(|name| name.to_bytes() == self.own.as_bytes());
            if own && event.events().contains(inotify::ReadFlags::DELETE) {
                return Ok(Heard::End);
            }
            if !own {
                heard = Heard::Others;
            }
        }
    }
}

fn is_held(path: &Path) -> bool {
    // What cannot be found out counts as alive; what is gone is gone.
    match File::open(path) {
        Ok(file) => flock(&file, FlockOperation::NonBlockingLockShared).is_err(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}
