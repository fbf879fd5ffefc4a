//! Intents: what a process has reserved and not yet told the journal of. Each stands in a slot of a file of its own, which
//! takes one write and no sync: no thread is asked, no transaction waits. What has been written to a file survives kill -9
//! of the process that wrote it.
//!
//! A slot is used again only when the end of its reservation is committed in the database and the slot is marked as done.
//! The marks follow the commit, so between the two a process may die: then the ends in its last commit tell what the marks
//! do not. That is why each commit is announced here, with its place in the ledger's stream, before it is made.
//!
//! The file: a page with the announcement; then segments, each a page of marks and the slots they are for. It stays as
//! large as the most reservations that were open at once. It says nothing about a machine that was started anew.

mod slot;

pub(crate) use slot::Intent;

use super::fault::io_error;
use backstop_journal::{JournalError, Seq};
use slot::{SLOT_BYTES, digest, sealed};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A page of the file: the announcement, or marks.
const PAGE_BYTES: usize = 4096;
/// Slots of a segment: one mark of 8 bytes for each fills a page.
const SEGMENT_SLOTS: usize = PAGE_BYTES / MARK_BYTES;
const MARK_BYTES: usize = 8;
/// Reservations that may be open, or wait for their commit, at once: 32 MiB of slots.
const SLOTS_MAX: usize = 1 << 16;
/// The first bytes of the file.
const MAGIC: &[u8; 8] = b"BkIntnt1";

/// A place for one intent, and which of those that stood there it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    place: usize,
    number: u64,
}

/// Why an intent was not written.
#[derive(Debug)]
pub(crate) enum NotKept {
    /// It does not fit a slot: its ids are too long.
    TooLong,
    /// Too many are open.
    Full,
    /// The file could not be written.
    Failed(io::Error),
}

/// The file of this process, with what is known of its slots.
#[derive(Debug)]
pub(crate) struct Intents {
    file: File,
    path: PathBuf,
    /// The last intent that is done, by slot: what the marks in the file say.
    done: Vec<u64>,
    free: Vec<usize>,
    last: u64,
    /// Committed, and not marked yet because the file could not be written.
    due: Vec<Slot>,
}

impl Intents {
    /// Makes a file for the owner of this name: `DIR/NAME.N`.
    pub(crate) fn create(dir: &Path, owner: &str) -> io::Result<Self> {
        let mut number = 0;
        loop {
            let path = file_of(dir, owner, number);
            match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
                Ok(file) => {
                    file.write_all_at(MAGIC, 0)?;
                    return Ok(Self::over(file, path));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Intents in an empty file.
    pub(super) fn over(file: File, path: PathBuf) -> Self {
        Self { file, path, done: Vec::new(), free: Vec::new(), last: 0, due: Vec::new() }
    }

    /// Writes an intent. When this returns, it survives kill -9.
    pub(crate) fn keep(&mut self, intent: &Intent<'_>) -> Result<Slot, NotKept> {
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.done.len() >= SLOTS_MAX => return Err(NotKept::Full),
            None => {
                self.done.push(0);
                self.done.len() - 1
            }
        };
        let number = self.last + 1;
        let mut bytes = [0; SLOT_BYTES];
        let written = match intent.encode(number, &mut bytes) {
            Some(length) => self.file.write_all_at(&bytes[..length], slot_at(place)).map_err(NotKept::Failed),
            None => Err(NotKept::TooLong),
        };
        if let Err(error) = written {
            // Half a slot does not pass its checksum.
            self.free.push(place);
            return Err(error);
        }
        self.last = number;
        Ok(Slot { place, number })
    }

    /// Announces where in the ledger's stream the ends of reservations are about to be committed.
    pub(crate) fn announce(&self, seqs: RangeInclusive<Seq>) -> Result<(), JournalError> {
        let bytes = sealed([*seqs.start(), *seqs.end()]);
        self.file.write_all_at(&bytes, MAGIC.len() as u64).map_err(|error| io_error(&error, &self.path))
    }

    /// Marks slots as done, once the ends of their reservations are committed; then they are free. What cannot be marked
    /// stays taken, and no further commit may be announced before it is.
    pub(crate) fn mark(&mut self, slots: impl IntoIterator<Item = Slot>) -> Result<(), JournalError> {
        self.due.extend(slots);
        let mut touched: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        for slot in &self.due {
            self.done[slot.place] = slot.number;
            let (first, last) = touched.entry(slot.place / SEGMENT_SLOTS).or_insert((slot.place, slot.place));
            (*first, *last) = (slot.place.min(*first), slot.place.max(*last));
        }
        for (first, last) in touched.into_values() {
            let marks: Vec<u8> = self.done[first..=last].iter().flat_map(|done| done.to_le_bytes()).collect();
            let written = self.file.write_all_at(&marks, mark_at(first));
            written.map_err(|error| io_error(&error, &self.path))?;
        }
        // The last one that became free is warm: it is taken first.
        self.free.extend(self.due.drain(..).map(|slot| slot.place));
        Ok(())
    }
}

/// What a dead process left.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Reservations that are not marked as done, in the order in which they were made.
    pub(crate) open: Vec<Intent<'static>>,
    /// Where in the ledger's stream its last commits were to be: they may tell of some of these.
    pub(crate) announced: Vec<RangeInclusive<Seq>>,
}

/// Reads the files of an owner that is dead; `None` when it has none. A slot that does not pass its checksum was never
/// acknowledged.
pub(crate) fn left_by(dir: &Path, owner: &str) -> io::Result<Option<Left>> {
    let mut left = Left::default();
    let files = files_of(dir, owner)?;
    if files.is_empty() {
        return Ok(None);
    }
    for path in files {
        let bytes = fs::read(path)?;
        if !bytes.starts_with(MAGIC) {
            // Killed before it had written anything.
            continue;
        }
        left.announced.extend(announcement(&bytes));
        let mut open = Vec::new();
        for place in 0..SLOTS_MAX {
            let from = usize::try_from(slot_at(place)).unwrap_or(usize::MAX);
            let Some(rest) = bytes.get(from..).filter(|rest| !rest.is_empty()) else { break };
            let Some((number, intent)) = Intent::decode(&rest[..rest.len().min(SLOT_BYTES)]) else {
                continue;
            };
            if number > mark(&bytes, place) {
                open.push((number, intent));
            }
        }
        open.sort_by_key(|(number, _)| *number);
        left.open.extend(open.into_iter().map(|(_, intent)| intent));
    }
    Ok(Some(left))
}

/// Where the files lie: `<database>.intents/`.
pub(crate) fn beside(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".intents");
    PathBuf::from(name)
}

/// Removes the files of an owner.
pub(crate) fn remove(dir: &Path, owner: &str) {
    for path in files_of(dir, owner).unwrap_or_default() {
        // One that stays is removed by the next who looks.
        drop(fs::remove_file(path));
    }
}

/// The owners that have files.
pub(crate) fn owners(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut owners: Vec<_> = names.filter_map(|name| Some(name.rsplit_once('.')?.0.to_owned())).collect();
    owners.sort();
    owners.dedup();
    owners
}

fn files_of(dir: &Path, owner: &str) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.rsplit_once('.').is_some_and(|(of, _)| of == owner) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn file_of(dir: &Path, owner: &str, number: u32) -> PathBuf {
    dir.join(format!("{owner}.{number}"))
}

fn segment_at(place: usize) -> u64 {
    let segment = place / SEGMENT_SLOTS;
    (PAGE_BYTES + segment * (PAGE_BYTES + SEGMENT_SLOTS * SLOT_BYTES)) as u64
}

fn mark_at(place: usize) -> u64 {
    segment_at(place) + (place % SEGMENT_SLOTS * MARK_BYTES) as u64
}

fn slot_at(place: usize) -> u64 {
    segment_at(place) + (PAGE_BYTES + place % SEGMENT_SLOTS * SLOT_BYTES) as u64
}

fn mark(file: &[u8], place: usize) -> u64 {
    let from = usize::try_from(mark_at(place)).unwrap_or(usize::MAX);
    let bytes = file.get(from..from.saturating_add(MARK_BYTES));
    bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn announcement(file: &[u8]) -> Option<RangeInclusive<Seq>> {
    let bytes = file.get(MAGIC.len()..MAGIC.len() + 24)?;
    let number = |at: usize| bytes[at..at + 8].try_into().map(u64::from_le_bytes).ok();
    let (first, last) = (number(0)?, number(8)?);
    (digest(&bytes[..16]) == number(16)? && first <= last && first > 0).then_some(first..=last)
}

#[cfg(test)]
mod tests;
