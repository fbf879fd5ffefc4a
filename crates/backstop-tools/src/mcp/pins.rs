//! What was accepted of each server's tools, and how it is kept. Compares; accepting is a person's business.

use super::definition::Definition;
use super::grant::FirstUse;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The most bytes of a file of pins.
const FILE_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The accepted definitions of one server, by the server's own names.
pub(super) type Accepted = BTreeMap<String, Definition>;

/// Where accepted definitions are kept. Calls block.
pub trait Pins: Send + Sync {
    /// What was accepted of a server; `None` when it was never seen.
    fn read(&self, server: &str) -> Result<Option<BTreeMap<String, Definition>>, PinsError>;

    /// Adds definitions to what was accepted of a server, or puts them in the place of those of the same names. Durable
    /// when it returns.
    fn accept(&self, server: &str, definitions: &[Definition]) -> Result<(), PinsError>;
}

/// Accepted definitions that cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum PinsError {
    /// The file system says no.
    #[error("{path} cannot be {doing}")]
    Io {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        doing: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file holds something else than it was given.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Accepted definitions in a file of their own. It is replaced as a whole, so that a crash leaves the old one or the new one;
/// processes that write at the same time wait for one another by a lock on a file beside it.
#[derive(Debug, Clone)]
pub struct PinFile {
    path: PathBuf,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    servers: BTreeMap<String, BTreeMap<String, Pin>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pin {
    hash: String,
    definition: Definition,
}

impl PinFile {
    /// The file; its directory must be there, the file need not.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn kept(&self) -> Result<Kept, PinsError> {
        let mut bytes = Vec::new();
        match File::open(&self.path) {
            Ok(file) => file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::default()),
            Err(error) => Err(error),
        }
        .map_err(|source| self.io("read", source))?;
        let damaged = |reason: String| PinsError::Damaged { path: self.path.clone(), reason };
        let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        for (server, pins) in &kept.servers {
            for (name, pin) in pins {
                if pin.hash != pin.definition.hash() || *name != pin.definition.name {
                    return Err(damaged(format!(
                        "the definition of {server} {name} is not what its hash says"
                    )));
                }
            }
        }
        Ok(kept)
    }

    fn replace(&self, kept: &Kept) -> io::Result<()> {
        let folder =
            self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer_pretty(&mut file, kept)?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        File::open(folder)?.sync_all()
    }

    fn io(&self, doing: &'static str, source: io::Error) -> PinsError {
        PinsError::Io { path: self.path.clone(), doing, source }
    }

    fn lock(&self) -> io::Result<File> {
        let mut path = self.path.clone().into_os_string();
        path.push(".lock");
        let file = File::options().create(true).append(true).open(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }
}

impl Pins for PinFile {
    fn read(&self, server: &str) -> Result<Option<BTreeMap<String, Definition>>, PinsError> {
        let pins = self.kept()?.servers.remove(server);
        Ok(pins.map(|pins| pins.into_iter().map(|(name, pin)| (name, pin.definition)).collect()))
    }

    fn accept(&self, server: &str, definitions: &[Definition]) -> Result<(), PinsError> {
        let _lock = self.lock().map_err(|source| self.io("written", source))?;
        let mut kept = self.kept()?;
        let pins = kept.servers.entry(server.to_owned()).or_default();
        for definition in definitions {
            let pin = Pin { hash: definition.hash(), definition: definition.clone() };
            pins.insert(definition.name.clone(), pin);
        }
        self.replace(&kept).map_err(|source| self.io("written", source))
    }
}

/// What a comparison gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Compared {
    /// As accepted before.
    pub(super) same: Vec<Definition>,
    /// To be accepted now, because the server is seen for the first time.
    pub(super) first: Vec<Definition>,
    /// Not to be offered, with what was accepted before, if anything.
    pub(super) other: Vec<(Definition, Option<Definition>)>,
}

/// Holds what a server offers against what was accepted of it.
pub(super) fn compare(
    accepted: Option<&Accepted>,
    offered: Vec<Definition>,
    first_use: FirstUse,
) -> Compared {
    let mut compared = Compared::default();
    for definition in offered {
        match accepted {
            None if first_use == FirstUse::Accept => compared.first.push(definition),
            None => compared.other.push((definition, None)),
            Some(accepted) => match accepted.get(&definition.name) {
                Some(before) if before.hash() == definition.hash() => compared.same.push(definition),
                before => compared.other.push((definition, before.cloned())),
            },
        }
    }
    compared
}

#[cfg(test)]
mod tests {
    use super::super::definition::tests::definition;
    use super::*;

    #[test]
    fn only_what_was_accepted_is_the_same() {
        let (a, b) = (definition("a", "old"), definition("b", "new"));
        let changed = definition("a", "changed");
        let accepted = Accepted::from([("a".to_owned(), a.clone())]);
        let rows = [
            (None, FirstUse::Accept, Compared { first: vec![a.clone(), b.clone()], ..Compared::default() }),
            (
                None,
                FirstUse::Quarantine,
                Compared { other: vec![(a.clone(), None), (b.clone(), None)], ..Compared::default() },
            ),
            (
                Some(&accepted),
                FirstUse::Accept,
                Compared { same: vec![a.clone()], other: vec![(b.clone(), None)], ..Compared::default() },
            ),
        ];
        for (accepted, first_use, want) in rows {
            assert_eq!(compare(accepted, vec![a.clone(), b.clone()], first_use), want, "{first_use:?}");
        }
        let found = compare(Some(&accepted), vec![changed.clone()], FirstUse::Accept);
        assert_eq!(found.other, [(changed, Some(a))]);
    }

    #[test]
    fn pins_are_kept_and_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let pins = PinFile::at(dir.path().join("pins.json"));
        assert_eq!(pins.read("files").unwrap(), None);
        pins.accept("files", &[definition("a", "one"), definition("b", "one")]).unwrap();
        pins.accept("web", &[]).unwrap();
        pins.accept("files", &[definition("a", "two")]).unwrap();
        let read = pins.read("files").unwrap().unwrap();
        let want = Accepted::from([
            ("a".to_owned(), definition("a", "two")),
            ("b".to_owned(), definition("b", "one")),
        ]);
        assert_eq!(read, want);
        assert_eq!(pins.read("web").unwrap(), Some(Accepted::new()));
        let mut left: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["pins.json", "pins.json.lock"]);
    }

    #[test]
    fn a_file_that_was_changed_by_hand_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pins.json");
        let pins = PinFile::at(&path);
        pins.accept("files", &[definition("a", "one")]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap().replace("\"one\"", "\"two\"");
        std::fs::write(&path, text).unwrap();
        let error = pins.read("files").unwrap_err().to_string();
        assert!(
            error.ends_with("is damaged: the definition of files a is not what its hash says"),
            "{error}"
        );
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(pins.accept("files", &[]), Err(PinsError::Damaged { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{", "what cannot be read is not written over");
    }

    #[test]
    fn writers_at_the_same_time_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let pins = PinFile::at(dir.path().join("pins.json"));
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let pins = &pins;
                scope.spawn(move || {
                    for turn in 0..5 {
                        pins.accept("files", &[definition(&format!("t{writer}-{turn}"), "x")]).unwrap();
                    }
                });
            }
        });
        assert_eq!(pins.read("files").unwrap().unwrap().len(), 20);
    }
}
