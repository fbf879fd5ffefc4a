//! Where a command works: the config file it found or was given, the data directory, the database in it.

use crate::args::Global;
use crate::complaint::Stop;
use backstop_call::{Code, RunId};
use backstop_journal::{Journal, JournalError, RunFilter, Tally};
use backstop_server::config::{self, Config, ThisProcess};
use backstop_server::numbers::{Numbers, kept};
use backstop_stack::SystemClock;
use backstop_store::{MemoryStore, SqliteStore, StoreOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The config file that is looked for in the current directory.
const FILE: &str = "backstop.toml";

/// What a command works with.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    /// The config, or the defaults where there is no file.
    pub(crate) config: Config,
}

impl Home {
    /// Reads the config that was named, or the one in the current directory; with neither it is all defaults.
    pub(crate) fn find(global: &Global) -> Result<Self, Stop> {
        let data_dir = global.data_dir.clone();
        let found = || Some(PathBuf::from(FILE)).filter(|path| path.exists());
        let config = match global.config.clone().or_else(found) {
            Some(path) => config::load(&path, data_dir, &ThisProcess)?,
            None => Config::without_file(data_dir.unwrap_or_else(|| PathBuf::from(".backstop"))),
        };
        Ok(Self { config })
    }

    /// What is counted of everything until now. Where nothing was run yet, nothing is, and no file is made.
    pub(crate) async fn numbers(&self) -> Result<Numbers, Stop> {
        let tally: Arc<dyn Tally> = if self.config.journal.exists() {
            Arc::new(open_store(&self.config.journal)?)
        } else {
            Arc::new(MemoryStore::new())
        };
        let numbers = Numbers::new(tally, Arc::new(SystemClock::new()), kept(&self.config));
        numbers.catch_up().await?;
        Ok(numbers)
    }

    /// The journal, to be read. Where nothing was run yet there is an empty one, and no file is made.
    pub(crate) fn journal(&self) -> Result<Arc<dyn Journal>, Stop> {
        if !self.config.journal.exists() {
            return Ok(Arc::new(MemoryStore::new()));
        }
        Ok(Arc::new(open_store(&self.config.journal)?))
    }
}

/// Opens the database; says which file it is when that fails.
pub(crate) fn open_store(path: &Path) -> Result<SqliteStore, Stop> {
    SqliteStore::open(path, StoreOptions::default()).map_err(|error| Stop::in_file(path, &error))
}

/// Who works here, as it stands in events that a person is answerable for.
pub(crate) fn person() -> String {
    std::env::var("USER").unwrap_or_else(|_| "somebody".to_owned())
}

/// The one run whose id begins so.
pub(crate) async fn find_run(journal: &dyn Journal, prefix: &str) -> Result<RunId, Stop> {
    let prefix = prefix.trim().to_lowercase();
    let filter = RunFilter { id_prefix: Some(prefix.clone()), limit: Some(6), ..RunFilter::default() };
    let runs = journal.runs(filter).await?;
    match runs.as_slice() {
        [] => Err(JournalError::NotFound(prefix.into()).into()),
        [one] => Ok(one.run.clone()),
        several => {
            if let Some(exact) = several.iter().find(|summary| summary.run.as_str() == prefix) {
                return Ok(exact.run.clone());
            }
            let names: Vec<_> = several.iter().map(|summary| summary.run.as_str()).collect();
            let stop =
                Stop::new(Code::Usage, format!("several runs begin with `{prefix}`: {}", names.join(", ")));
            Err(stop.with_hint("give more of the id"))
        }
    }
}
