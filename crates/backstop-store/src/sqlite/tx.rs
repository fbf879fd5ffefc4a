//! What can be done within one transaction of the writer: append, claim, release, erase. All rules about who may write
//! what are checked here, against what stands in the database at this moment.

mod erase;

pub(crate) use erase::plan;

use super::fault::{Fail, io_error};
use super::owner::{Owners, Seat, boot_id};
use super::read;
use crate::listing::TaskText;
use crate::record::{Record, new_blind, run_of, summarize};
use backstop_call::{ApprovalId, RunId, Timestamp};
use backstop_journal::event::RunClaimed;
use backstop_journal::projections::history::RunSummary;
use backstop_journal::projections::queue::Queued;
use backstop_journal::{
    BlobHash, Epoch, Event, EventBody, Hash, Head, JournalError, Links, Place, Seq, StreamId, link,
};
use foldhash::fast::RandomState;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};
use std::collections::{HashMap, VecDeque};
use std::path::Path;

/// Streams whose ends are remembered between transactions.
const STREAMS_MAX: usize = 4096;

/// Events after which the summary of a run is written again: every page that a commit need not touch makes it faster,
/// and whoever reads the summary folds at most so many events.
const SUMMARY_LAG_MAX: u64 = 32;

/// Appends an event.
pub(super) const INSERT: &str = "INSERT INTO events_raw (stream, seq, at, epoch, v, kind, link, body)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// What the writer remembers of the database. Dropped whenever another process wrote, or a transaction failed.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    version: i64,
    // In boxes: they are taken out and put back for every append.
    streams: HashMap<StreamId, Box<Stream>, RandomState>,
}

#[derive(Debug)]
struct Stream {
    /// Its number in the database; 0 before it has an event.
    id: i64,
    links: Links,
    head: Head,
    epoch: Epoch,
    owner: Option<i64>,
    summary: Option<RunSummary>,
    /// The event up to which the summary stands in the database.
    kept: Seq,
    /// What a new run is to be found by, until it is written.
    text: Option<TaskText>,
}

/// A transaction under way.
pub(crate) struct Tx<'a, 'db> {
    pub(super) db: &'a Connection,
    /// [`INSERT`], prepared once for all that is written together.
    pub(super) insert: &'a mut CachedStatement<'db>,
    pub(super) cache: &'a mut Cache,
    pub(super) owners: &'a Owners,
    pub(super) seat: &'a mut Option<Seat>,
    pub(super) path: &'a Path,
    /// What was appended in this transaction, for those who are told of it after the commit.
    pub(super) fresh: &'a mut Vec<Event>,
    /// Whether there may be something to take for a worker after the commit.
    pub(super) rings: &'a mut bool,
}

/// Events to be appended together.
pub(crate) struct Entry {
    /// To which stream.
    pub(crate) stream: StreamId,
    /// Under which claim.
    pub(crate) epoch: Option<Epoch>,
    /// When they happened.
    pub(crate) at: Timestamp,
    /// What happened.
    pub(crate) records: Vec<Record>,
}

impl Cache {
    /// Forgets everything if another connection has written since.
    pub(super) fn refresh(&mut self, db: &Connection) -> rusqlite::Result<()> {
        let version = db.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        if version != self.version || self.streams.len() > STREAMS_MAX {
            self.streams.clear();
            self.version = version;
        }
        Ok(())
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.streams.clear();
    }
}

impl Tx<'_, '_> {
    /// Appends to a stream. It is refused before anything is written, or not at all.
    pub(crate) fn append(&mut self, entry: Entry) -> Result<Head, Fail> {
        self.refuse_twice(&entry)?;
        self.write(entry)
    }

    /// As [`Tx::append`], also for the next run of a task.
    pub(super) fn write(&mut self, entry: Entry) -> Result<Head, Fail> {
        let mut stream = self.stream(&entry.stream)?;
        let run = run_of(&entry.stream);
        if let (Some(epoch), Some(run)) = (entry.epoch, run)
            && epoch != stream.epoch
        {
            let owner = self.owner_name(stream.owner)?;
            return Err(JournalError::Owned { run: run.clone(), owner }.into());
        }
        self.keep_stream(&mut stream, &entry)?;
        let ledger = entry.stream == StreamId::Ledger;
        let mut turned = false;
        let mut records = VecDeque::from(entry.records);
        while let Some(record) = records.pop_front() {
            self.keep_blobs(stream.id, &record)?;
            if let EventBody::RunCreated(created) = &record.body {
                stream.text = Some(TaskText::of(&created.message, &record.blobs));
            }
            let event =
                self.insert(&mut stream, &entry.stream, (entry.epoch.unwrap_or(0), entry.at), record)?;
            if let EventBody::ApprovalRequested(asked) = &event.body {
                self.keep_question(&stream, &asked.approval)?;
            }
            if let Some(run) = run {
                turned |= turns(&event.body);
                summarize(&mut stream.summary, run, &event);
            }
            if ledger {
                // A budget that passes a threshold is warned of in the commit that made it pass.
                let warned = self.move_money(&event.body)?.into_iter();
                records.extend(warned.map(|event| Record::of(&entry.stream, event)));
            }
            self.fresh.push(event);
        }
        if turned || stream.head.seq - stream.kept >= SUMMARY_LAG_MAX {
            self.keep_summary(&mut stream)?;
        }
        let head = stream.head;
        self.cache.streams.insert(entry.stream, stream);
        Ok(head)
    }

    /// The number of the last event of a stream.
    pub(crate) fn last_seq(&mut self, id: &StreamId) -> Result<Seq, Fail> {
        let stream = self.stream(id)?;
        let seq = stream.head.seq;
        self.cache.streams.insert(id.clone(), stream);
        Ok(seq)
    }

    /// Claims a run for this process.
    pub(crate) fn claim(&mut self, run: &RunId, at: Timestamp) -> Result<Epoch, Fail> {
        let id = StreamId::Run(run.clone());
        let mut stream = self.stream(&id)?;
        if stream.summary.is_none() {
            return Err(JournalError::NotFound(run.clone()).into());
        }
        let (seat, name) = self.seat()?;
        if let Some(holder) = stream.owner.filter(|holder| *holder != seat) {
            let owner = self.owner_name(Some(holder))?;
            if self.owners.is_alive(&owner) {
                return Err(JournalError::Owned { run: run.clone(), owner }.into());
            }
        }
        stream.epoch += 1;
        stream.owner = Some(seat);
        let epoch = stream.epoch;
        self.db
            .prepare_cached(
                "INSERT INTO claims (stream, epoch, owner) VALUES (?1, ?2, ?3)
                 ON CONFLICT (stream) DO UPDATE SET epoch = ?2, owner = ?3",
            )?
            .execute(params![stream.id, epoch.cast_signed(), seat])?;
        if is_queued(&stream) {
            self.keep_worker(stream.id, Some(seat))?;
        }
        self.cache.streams.insert(id.clone(), stream);
        let records = vec![Record::of(&id, RunClaimed { owner: name }.into())];
        self.append(Entry { stream: id, epoch: Some(epoch), at, records })?;
        Ok(epoch)
    }

    /// Lets go of a claim, if it is still the newest.
    pub(crate) fn release(&mut self, run: &RunId, epoch: Epoch) -> Result<(), Fail> {
        let id = StreamId::Run(run.clone());
        let mut stream = self.stream(&id)?;
        if stream.epoch == epoch {
            stream.owner = None;
            self.db
                .prepare_cached("UPDATE claims SET owner = NULL WHERE stream = ?1")?
                .execute(params![stream.id])?;
            if is_queued(&stream) {
                self.keep_worker(stream.id, None)?;
            }
        }
        self.cache.streams.insert(id, stream);
        Ok(())
    }

    /// How a run stands in the queue.
    pub(super) fn queued(&mut self, id: &StreamId) -> Result<Option<Queued>, Fail> {
        let stream = self.stream(id)?;
        let queued = stream.summary.as_ref().and_then(|summary| summary.queue.clone());
        self.cache.streams.insert(id.clone(), stream);
        Ok(queued)
    }

    /// Writes something that changes nothing, so that there is something to sync.
    pub(crate) fn touch(&mut self) -> Result<(), Fail> {
        let same = "UPDATE streams SET name = name WHERE id = (SELECT min(id) FROM streams)";
        self.db.prepare_cached(same)?.execute([])?;
        Ok(())
    }

    /// This process's number and name; takes a seat if it has none yet.
    pub(crate) fn seat(&mut self) -> Result<(i64, String), Fail> {
        if self.seat.is_none() {
            // Until it is committed nobody sees the row, and the lock is held before.
            self.db.execute("INSERT INTO owners (name, boot) VALUES ('', ?1)", [boot_id()])?;
            let id = self.db.last_insert_rowid();
            let name = format!("{id}-{}", std::process::id());
            self.db.execute("UPDATE owners SET name = ?2 WHERE id = ?1", params![id, name])?;
            let seat = self.owners.seat(id, name).map_err(|error| io_error(&error, self.path))?;
            *self.seat = Some(seat);
        }
        let seat = self.seat.as_ref().expect("it was just taken");
        Ok((seat.id, seat.name.clone()))
    }

    /// Takes the stream out of the cache, or reads its end. It must be put back once nothing can fail any more.
    fn stream(&mut self, id: &StreamId) -> Result<Box<Stream>, Fail> {
        if let Some(stream) = self.cache.streams.remove(id) {
            return Ok(stream);
        }
        let Some((number, links)) = read::links(self.db, id)? else {
            let new = Stream {
                id: 0,
                links: Links { framed: 1, blind: None },
                head: Head::default(),
                epoch: 0,
                owner: None,
                summary: None,
                kept: 0,
                text: None,
            };
            return Ok(Box::new(new));
        };
        let head = head(self.db, number)?;
        let claim = self
            .db
            .prepare_cached("SELECT epoch, owner FROM claims WHERE stream = ?1")?
            .query_row([number], |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?)))
            .optional()?;
        let (epoch, owner) = claim.unwrap_or((0, None));
        let kept = self
            .db
            .prepare_cached("SELECT summary, seq FROM runs_raw WHERE stream = ?1")?
            .query_row([number], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?.cast_unsigned())))
            .optional()?;
        let (summary, kept) = match kept {
            Some((json, seq)) => (Some(read::summary(self.db, &json, number, seq)?), seq),
            None => (None, 0),
        };
        Ok(Box::new(Stream { id: number, links, head, epoch, owner, summary, kept, text: None }))
    }

    fn insert(
        &mut self,
        stream: &mut Stream,
        id: &StreamId,
        (epoch, at): (Epoch, Timestamp),
        record: Record,
    ) -> Result<Event, Fail> {
        let seq = stream.head.seq + 1;
        let (kind, version) = (record.body.kind(), record.body.version());
        let place = Place { stream: id, seq, at, epoch, kind, version };
        let blind = stream.links.blind.unwrap_or_default();
        let hash = link(stream.head.hash, &place, &record.json, &record.parts, &blind);
        self.insert.execute(params![
            stream.id,
            seq.cast_signed(),
            at.nanos().cast_signed(),
            epoch.cast_signed(),
            version,
            kind,
            hash.0,
            record.json,
        ])?;
        let position = self.db.last_insert_rowid().cast_unsigned();
        stream.head = Head { seq, hash, position };
        Ok(Event { position, stream: id.clone(), seq, at, epoch, body: record.body, hash })
    }

    /// Makes a stream that is new, and a blind for one that says something for the first time.
    fn keep_stream(&self, stream: &mut Stream, entry: &Entry) -> Result<(), Fail> {
        let speaks =
            stream.links.blind.is_none() && entry.records.iter().any(|record| !record.parts.is_empty());
        if speaks {
            stream.links.blind = Some(new_blind()?);
        }
        let blind = stream.links.blind.map(|blind| blind.0);
        if stream.id == 0 {
            let new = "INSERT INTO streams (name, blind) VALUES (?1, ?2)";
            self.db.prepare_cached(new)?.execute(params![entry.stream.to_string(), blind])?;
            stream.id = self.db.last_insert_rowid();
        } else if speaks {
            let set = "UPDATE streams SET blind = ?2 WHERE id = ?1";
            self.db.prepare_cached(set)?.execute(params![stream.id, blind])?;
        }
        Ok(())
    }

    fn keep_blobs(&self, stream: i64, record: &Record) -> Result<(), Fail> {
        for blob in &record.blobs {
            self.db
                .prepare_cached("INSERT INTO blobs (hash, data) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
                .execute(params![raw(&blob.hash)?, &blob.bytes[..]])?;
        }
        for hash in &record.uses {
            self.db
                .prepare_cached(
                    "INSERT INTO blob_uses (hash, stream) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                )?
                .execute(params![raw(hash)?, stream])?;
        }
        Ok(())
    }

    fn keep_question(&self, stream: &Stream, approval: &ApprovalId) -> Result<(), Fail> {
        self.db
            .prepare_cached(
                "INSERT INTO questions (approval, stream) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            )?
            .execute(params![approval.as_str(), stream.id])?;
        Ok(())
    }

    fn keep_summary(&mut self, stream: &mut Stream) -> Result<(), Fail> {
        let Some(summary) = &stream.summary else { return Ok(()) };
        let seq = stream.head.seq;
        let json = serde_json::to_string(summary).unwrap_or_default();
        let changed = self
            .db
            .prepare_cached("UPDATE runs_raw SET status = ?2, summary = ?3, seq = ?4 WHERE stream = ?1")?
            .execute(params![stream.id, summary.status.as_str(), json, seq.cast_signed()])?;
        if changed == 0 {
            let TaskText { text, blob } = stream.text.take().unwrap_or_default();
            self.db
                .prepare_cached(
                    "INSERT INTO runs_raw (stream, run, status, agent, role, model, created, seq, message, summary)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                )?
                .execute(params![
                    stream.id,
                    summary.run.as_str(),
                    summary.status.as_str(),
                    summary.agent.as_str(),
                    summary.role.as_str(),
                    summary.model.as_str(),
                    summary.created.nanos().cast_signed(),
                    seq.cast_signed(),
                    blob.as_ref().map(raw).transpose()?,
                    json,
                ])?;
            self.db
                .prepare_cached("INSERT INTO runs_text (rowid, task, message) VALUES (?1, ?2, ?3)")?
                .execute(params![stream.id, summary.task.as_str(), text])?;
        }
        stream.kept = seq;
        self.keep_task((stream.id, stream.owner), summary)
    }

    pub(super) fn owner_name(&self, owner: Option<i64>) -> Result<String, Fail> {
        let Some(owner) = owner else { return Ok("nobody".to_owned()) };
        let name = self
            .db
            .prepare_cached("SELECT name FROM owners WHERE id = ?1")?
            .query_row([owner], |row| row.get(0))
            .optional()?;
        Ok(name.unwrap_or_else(|| "nobody".to_owned()))
    }
}

/// The end of a stream.
pub(super) fn head(db: &Connection, stream: i64) -> rusqlite::Result<Head> {
    let last = db
        .prepare_cached(
            "SELECT seq, link, position FROM events_raw WHERE stream = ?1 ORDER BY seq DESC LIMIT 1",
        )?
        .query_row([stream], |row| {
            Ok(Head {
                seq: row.get::<_, i64>(0)?.cast_unsigned(),
                hash: Hash(row.get(1)?),
                position: row.get::<_, i64>(2)?.cast_unsigned(),
            })
        })
        .optional()?;
    Ok(last.unwrap_or_default())
}

/// Whether an event changes what runs are chosen by.
fn turns(event: &EventBody) -> bool {
    matches!(
        event,
        EventBody::RunCreated(_)
            | EventBody::RunClaimed(_)
            | EventBody::RunParked(_)
            | EventBody::RunQueued(_)
            | EventBody::RunResumed(_)
            | EventBody::RunFinished(_)
            | EventBody::RunErased(_)
            | EventBody::ApprovalDecided(_)
            | EventBody::ToolResolved(_)
    )
}

fn is_queued(stream: &Stream) -> bool {
    stream.summary.as_ref().is_some_and(|summary| summary.queue.is_some())
}

/// The 32 bytes of a blob's hash.
pub(super) fn raw(hash: &BlobHash) -> Result<[u8; 32], Fail> {
    let bytes = blake3::Hash::from_hex(hash.as_str());
    let damaged = |_| JournalError::Damaged(format!("`{hash}` is no hash of a blob"));
    Ok(*bytes.map_err(damaged)?.as_bytes())
}
