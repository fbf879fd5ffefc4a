//! Erasing, in one transaction: of what a run said either all is gone, or nothing. What is to be written is worked out before,
//! beside the writer, and holds as long as the run does not go on.

use super::{Entry, Stream, Tx, raw};
use crate::record::{Record, Written, new_blind};
use crate::sqlite::fault::Fail;
use crate::sqlite::read;
use backstop_journal::event::RunErased;
use backstop_journal::{Blind, BlobHash, Body, Erase, Erasure, JournalError, Links, Seq, StreamId};
use rusqlite::{Connection, params};

/// What erases a run as far as event `head`.
pub(crate) struct Plan {
    head: Seq,
    erasure: Erasure,
    /// The large bodies that it refers to, with their lengths.
    large: Vec<(BlobHash, u64)>,
}

/// Works out what erases a run. It only reads.
pub(crate) fn plan(db: &Connection, run: &StreamId) -> Result<Plan, Fail> {
    let db = db.unchecked_transaction()?;
    let none = (0, Links { framed: 1, blind: None });
    let (id, links) = read::links(&db, run)?.unwrap_or(none);
    let blind: Blind = links.blind.map_or_else(new_blind, Ok)?;
    let mut events = read::written(&db, id, run)?;
    let stored: Vec<_> = events.iter().map(Written::stored).collect();
    let links = Links { blind: Some(blind), ..links };
    let erasure = backstop_journal::erase(&links, &stored).map_err(JournalError::from)?;
    let large = |body: &mut Body| match body {
        Body::Blob { hash, bytes } => Some((hash.clone(), *bytes)),
        Body::Inline(_) | Body::Erased { .. } => None,
    };
    let bodies = events.iter_mut().flat_map(|written| written.event.body.bodies_mut());
    let large = bodies.filter_map(large).collect();
    Ok(Plan { head: events.last().map_or(0, |written| written.event.seq), erasure, large })
}

impl Tx<'_, '_> {
    /// Erases what a run said, and appends the word on it.
    pub(crate) fn erase(&mut self, erase: Erase, plan: Plan) -> Result<RunErased, Fail> {
        let id = StreamId::Run(erase.run.clone());
        let mut stream = self.stream(&id)?;
        self.refuse_unless_over(&stream, &erase, plan.head)?;
        let Erasure { texts, parts, bytes, rechained } = plan.erasure;
        let mut erased = RunErased { by: erase.by, reason: erase.reason, bodies: parts, bytes, rechained };
        for (hash, bytes) in &plan.large {
            if self.let_go(hash, stream.id)? {
                erased.bodies += 1;
                erased.bytes += bytes;
            }
        }
        if erased.bodies == 0 {
            self.cache.streams.insert(id, stream);
            return Ok(erased);
        }
        self.rewrite(stream.id, &texts)?;
        stream.links.blind = None;
        self.cache.streams.insert(id.clone(), stream);
        let records = vec![Record::of(&id, erased.clone().into())];
        self.write(Entry { stream: id, epoch: None, at: erase.at, records })?;
        Ok(erased)
    }

    /// Erases a large body, whoever refers to it. Whether it was there.
    pub(crate) fn erase_blob(&mut self, blob: &BlobHash) -> Result<bool, Fail> {
        let hash = raw(blob)?;
        let erased = self.db.prepare_cached("DELETE FROM blobs WHERE hash = ?1")?.execute([hash])?;
        self.db.prepare_cached("DELETE FROM blob_uses WHERE hash = ?1")?.execute([hash])?;
        // The beginning of a task goes with the task.
        let beginning = "UPDATE runs_text SET message = ''
            WHERE rowid IN (SELECT stream FROM runs_raw WHERE message = ?1)";
        self.db.prepare_cached(beginning)?.execute([hash])?;
        if erased > 0 {
            self.leave_nothing()?;
        }
        Ok(erased > 0)
    }

    fn refuse_unless_over(&self, stream: &Stream, erase: &Erase, planned: Seq) -> Result<(), Fail> {
        let run = || erase.run.clone();
        if stream.summary.is_none() {
            return Err(JournalError::NotFound(run()).into());
        }
        if let Some(holder) = stream.owner {
            let owner = self.owner_name(Some(holder))?;
            if self.owners.is_alive(&owner) {
                return Err(JournalError::Owned { run: run(), owner }.into());
            }
        }
        if stream.head.seq != erase.head || planned != erase.head {
            return Err(JournalError::Moved(run()).into());
        }
        Ok(())
    }

    /// A stream refers to a large body no more; with the last one the body goes. Whether it did refer to it.
    fn let_go(&self, hash: &BlobHash, stream: i64) -> Result<bool, Fail> {
        let hash = raw(hash)?;
        let used = self
            .db
            .prepare_cached("DELETE FROM blob_uses WHERE hash = ?1 AND stream = ?2")?
            .execute(params![hash, stream])?;
        self.db
            .prepare_cached(
                "DELETE FROM blobs WHERE hash = ?1 AND NOT EXISTS (SELECT 1 FROM blob_uses WHERE hash = ?1)",
            )?
            .execute([hash])?;
        Ok(used > 0)
    }

    /// Puts texts in the place of others, and takes away what was made of those.
    fn rewrite(&self, stream: i64, texts: &[(Seq, String)]) -> Result<(), Fail> {
        for (seq, text) in texts {
            self.db
                .prepare_cached("UPDATE events_raw SET body = ?3 WHERE stream = ?1 AND seq = ?2")?
                .execute(params![stream, seq.cast_signed(), text])?;
        }
        for gone in [
            "UPDATE streams SET blind = NULL WHERE id = ?1",
            "UPDATE runs_raw SET message = NULL WHERE stream = ?1",
            "UPDATE runs_text SET message = '' WHERE rowid = ?1",
        ] {
            self.db.prepare_cached(gone)?.execute([stream])?;
        }
        self.leave_nothing()
    }

    /// Has copies of what was erased sought and overwritten, see [`crate::sqlite::scrub`].
    fn leave_nothing(&self) -> Result<(), Fail> {
        self.db.prepare_cached("INSERT INTO scrubs DEFAULT VALUES")?.execute([])?;
        Ok(())
    }
}
