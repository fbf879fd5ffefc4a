//! Runs the binary in a directory of its own, with an environment of its own.

use backstop_call::{Clock, Timestamp};
use backstop_journal::{Event, Journal, RunFilter, StreamId};
use backstop_stack::SystemClock;
use backstop_store::{SqliteStore, StoreOptions};
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// How long a test waits for what must come. Only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_mins(1);

/// A directory to run the binary in.
pub(crate) struct Place(TempDir);

/// What a command did.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path().join(path)).unwrap()
    }

    /// The binary with nothing of the environment but what is needed to find no provider.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstop"));
        command.args(args).current_dir(self.path()).env_clear().stdin(Stdio::null());
        // Nothing listens on the discard port: an Ollama of the machine the tests run on does not matter.
        command.env("OLLAMA_HOST", "http://127.0.0.1:9").env("TMPDIR", self.path());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Done {
        self.done(&self.command(args).output().unwrap())
    }

    /// Starts a command, with more variables, whose output is kept for [`Place::end`].
    pub(crate) fn start_with(&self, args: &[&str], vars: &[(&str, &str)]) -> Child {
        let mut command = self.command(args);
        command.envs(vars.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Waits for the end of a command.
    pub(crate) fn end(&self, child: Child) -> Done {
        self.done(&child.wait_with_output().unwrap())
    }

    /// Every file below a directory of this place, with its path from there.
    pub(crate) fn files(&self, dir: &str) -> Vec<(PathBuf, Vec<u8>)> {
        fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(dir).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() { walk(&path, found) } else { found.push(path) }
            }
        }
        let (root, mut found) = (self.path().join(dir), Vec::new());
        walk(&root, &mut found);
        found.sort();
        let read = |path: PathBuf| {
            (path.strip_prefix(&root).unwrap().to_owned(), std::fs::read(&path).unwrap_or_default())
        };
        found.into_iter().map(read).collect()
    }

    /// The database, opened from this process beside whoever has it open. `None` while there is none.
    pub(crate) fn store(&self) -> Option<SqliteStore> {
        let path = self.path().join(".backstop/backstop.db");
        // A database that is just being made is looked at again.
        path.exists().then(|| SqliteStore::open(path, StoreOptions::default()).ok()).flatten()
    }

    /// The events of the newest run.
    pub(crate) fn events(&self) -> Vec<Event> {
        let store = self.store().unwrap();
        block_on(async {
            let runs = store.runs(RunFilter { limit: Some(1), ..RunFilter::default() }).await.unwrap();
            store.read(&StreamId::Run(runs[0].run.clone()), 0).await.unwrap()
        })
    }

    /// The id of the newest run.
    pub(crate) fn newest_run(&self) -> String {
        let store = self.store().unwrap();
        let filter = RunFilter { limit: Some(1), ..RunFilter::default() };
        block_on(store.runs(filter)).unwrap()[0].run.to_string()
    }

    /// Paths of this place become `[dir]`, so that what is printed can be compared.
    pub(crate) fn done(&self, output: &Output) -> Done {
        Done {
            code: output.status.code().unwrap_or(-1),
            out: self.clean(&output.stdout),
            err: self.clean(&output.stderr),
        }
    }

    /// The same for any text.
    pub(crate) fn clean(&self, bytes: &[u8]) -> String {
        let real = self.path().canonicalize().unwrap();
        let text = std::str::from_utf8(bytes).unwrap();
        text.replace(real.to_str().unwrap(), "[dir]").replace(self.path().to_str().unwrap(), "[dir]")
    }
}

impl Done {
    /// All of it in one text, to be compared.
    pub(crate) fn shown(&self) -> String {
        let part = |name: &str, text: &str| match text {
            "" => String::new(),
            text => {
                // An editor that trims lines must not break a snapshot.
                let lines: Vec<_> = text.trim_end().lines().map(str::trim_end).collect();
                format!("--- {name}\n{}\n", lines.join("\n"))
            }
        };
        format!("exit {}\n{}{}", self.code, part("stdout", &self.out), part("stderr", &self.err))
    }
}

/// Sends a signal to a command.
pub(crate) fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    // It may have ended by itself.
    let _ = kill_process(pid, signal);
}

/// Looks until there is something to see; fails when nothing comes.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let clock = SystemClock::new();
    let began = clock.now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(clock.now().since(began) < PATIENCE, "this never came: {what}");
        std::thread::yield_now();
    }
}

/// The same until something is true.
pub(crate) fn until_true(what: &str, mut look: impl FnMut() -> bool) {
    until(what, || look().then_some(()));
}

/// Waits for a future outside a runtime.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The time, for what wants it as an argument.
pub(crate) fn now() -> Timestamp {
    SystemClock::new().now()
}
