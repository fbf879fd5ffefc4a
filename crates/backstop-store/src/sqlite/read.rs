//! Reading: a few connections that cannot write, each on a thread of its own, so that no async task waits for the disk.

use super::fault::Fail;
use super::queue::{Queue, Refused};
use super::schema;
use super::tx::{head, raw};
use crate::record::{Written, restore};
use backstop_call::Timestamp;
use backstop_journal::projections::history::RunSummary;
use backstop_journal::{
    Blind, BlobHash, ChainError, Event, EventBody, Hash, Head, JournalError, Links, Position, Seq, StreamId,
    verify,
};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// Reads that may wait at once.
const WAITING_MAX: usize = 4096;

type Read = Box<dyn FnOnce(&Connection) + Send>;

/// The threads that read.
pub(crate) struct Readers {
    queue: Arc<Queue<Read>>,
    threads: Vec<JoinHandle<()>>,
    path: PathBuf,
}

impl Readers {
    /// Opens `count` connections.
    pub(crate) fn open(path: &Path, count: usize) -> Result<Self, JournalError> {
        let queue = Arc::new(Queue::<Read>::new(WAITING_MAX, usize::MAX));
        let mut threads = Vec::with_capacity(count);
        for number in 0..count.max(1) {
            let db = schema::open_to_read(path)?;
            let queue = Arc::clone(&queue);
            let work = move || {
                while let Some(reads) = queue.take(Duration::ZERO, 1) {
                    for read in reads {
                        read(&db);
                    }
                }
            };
            let thread = std::thread::Builder::new().name(format!("store-read-{number}")).spawn(work);
            threads.push(thread.map_err(|error| JournalError::Unusable(error.to_string()))?);
        }
        Ok(Self { queue, threads, path: path.to_owned() })
    }

    /// Runs a read on one of the threads.
    pub(crate) fn read<T, F>(
        &self,
        read: F,
    ) -> impl Future<Output = Result<T, JournalError>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fail> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let path = self.path.clone();
        let work = move |db: &Connection| {
            // Whoever asked may have gone.
            drop(reply.send(read(db).map_err(|fail| fail.at(&path))));
        };
        let sent = self.queue.put(Box::new(work), 0, true);
        async move {
            sent.map_err(|refused| match refused {
                Refused::Full => JournalError::Busy("too many reads wait".to_owned()),
                Refused::Closed => JournalError::Unusable("the store is closed".to_owned()),
            })?;
            let gone = |_| Err(JournalError::Unusable("a reader of the store ended".to_owned()));
            answer.await.unwrap_or_else(gone)
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.queue.close();
        for thread in self.threads.drain(..) {
            // A reader that panicked has said so to whoever asked it.
            drop(thread.join());
        }
    }
}

const COLUMNS: &str = "position, seq, at, epoch, v, kind, link, body";

/// The events of a stream after `after`.
pub(crate) fn events(db: &Connection, stream: &StreamId, after: Seq) -> Result<Vec<Event>, Fail> {
    let Some(id) = number_of(db, stream)? else { return Ok(Vec::new()) };
    let sql = format!("SELECT {COLUMNS} FROM events_raw WHERE stream = ?1 AND seq > ?2 ORDER BY seq");
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(params![id, after.cast_signed()])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(whole_event(db, row, stream.clone())?);
    }
    Ok(events)
}

/// The events of a stream from one number to another, without their large bodies.
pub(super) fn range(
    db: &Connection,
    stream: &StreamId,
    seqs: &RangeInclusive<Seq>,
) -> Result<Vec<Event>, Fail> {
    let Some(id) = number_of(db, stream)? else { return Ok(Vec::new()) };
    let sql =
        format!("SELECT {COLUMNS} FROM events_raw WHERE stream = ?1 AND seq BETWEEN ?2 AND ?3 ORDER BY seq");
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(params![id, seqs.start().cast_signed(), seqs.end().cast_signed()])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(event(row, stream.clone())?);
    }
    Ok(events)
}

/// The first events of a stream after `after`.
pub(crate) fn part(db: &Connection, stream: &StreamId, after: Seq, limit: usize) -> Result<Vec<Event>, Fail> {
    let Some(id) = number_of(db, stream)? else { return Ok(Vec::new()) };
    let sql =
        format!("SELECT {COLUMNS} FROM events_raw WHERE stream = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3");
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(params![id, after.cast_signed(), rows_max(Some(limit))])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(whole_event(db, row, stream.clone())?);
    }
    Ok(events)
}

/// The number of the last event.
pub(crate) fn end(db: &Connection) -> Result<Position, Fail> {
    let mut statement = db.prepare_cached("SELECT coalesce(max(position), 0) FROM events_raw")?;
    Ok(statement.query_row([], |row| row.get::<_, i64>(0))?.cast_unsigned())
}

/// Events of all streams after `after`.
pub(crate) fn tail(db: &Connection, after: Position, limit: usize) -> Result<Vec<Event>, Fail> {
    let mut events = tail_bare(db, after, limit)?;
    for Event { stream, body, .. } in &mut events {
        restore(body, |hash| blob(db, stream, hash))?;
    }
    Ok(events)
}

/// Events of all streams after `after`, without their large bodies.
pub(super) fn tail_bare(db: &Connection, after: Position, limit: usize) -> Result<Vec<Event>, Fail> {
    let sql = format!(
        "SELECT {COLUMNS}, name FROM events_raw JOIN streams ON id = stream WHERE position > ?1
         ORDER BY position LIMIT ?2"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(params![after.cast_signed(), rows_max(Some(limit))])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(8)?;
        let stream = name.parse().map_err(|_| JournalError::Damaged(format!("`{name}` names no stream")))?;
        events.push(event(row, stream)?);
    }
    Ok(events)
}

/// The summary of a run, stored up to event `seq`, with the events since.
pub(super) fn summary(db: &Connection, json: &str, stream: i64, seq: Seq) -> Result<RunSummary, Fail> {
    let damaged = |error: serde_json::Error| JournalError::Damaged(format!("the summary of a run: {error}"));
    let mut summary: RunSummary = serde_json::from_str(json).map_err(damaged)?;
    let sql = format!("SELECT {COLUMNS} FROM events_raw WHERE stream = ?1 AND seq > ?2 ORDER BY seq");
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(params![stream, seq.cast_signed()])?;
    while let Some(row) = rows.next()? {
        summary.apply(&event(row, StreamId::Run(summary.run.clone()))?);
    }
    Ok(summary)
}

/// A stream as it is stored, from its first event on.
pub(super) fn written(db: &Connection, id: i64, stream: &StreamId) -> Result<Vec<Written>, Fail> {
    let sql = format!("SELECT {COLUMNS} FROM events_raw WHERE stream = ?1 ORDER BY seq");
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query([id])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(Written { event: event(row, stream.clone())?, version: row.get(4)?, text: row.get(7)? });
    }
    Ok(events)
}

/// The number of a stream, and how its links are made.
pub(super) fn links(db: &Connection, stream: &StreamId) -> Result<Option<(i64, Links)>, Fail> {
    let mut statement = db.prepare_cached("SELECT id, framed, blind FROM streams WHERE name = ?1")?;
    let links = |row: &Row<'_>| {
        let blind: Option<[u8; 32]> = row.get(2)?;
        let framed = row.get::<_, i64>(1)?.cast_unsigned();
        Ok((row.get(0)?, Links { framed, blind: blind.map(Blind) }))
    };
    Ok(statement.query_row([stream.to_string()], links).optional()?)
}

/// Checks the chain of a stream, and that the large bodies that are there are what was hashed.
pub(crate) fn check(db: &Connection, stream: &StreamId) -> Result<Head, Fail> {
    // All of one moment: an erasure changes what the digests are keyed with.
    let db = db.unchecked_transaction()?;
    let Some((id, links)) = links(&db, stream)? else { return Ok(Head::default()) };
    let mut events = written(&db, id, stream)?;
    verify(&links, events.iter().map(Written::stored)).map_err(JournalError::from)?;
    for Written { event, .. } in &mut events {
        blobs_match(&db, event)?;
    }
    Ok(head(&db, id)?)
}

fn blobs_match(db: &Connection, event: &mut Event) -> Result<(), Fail> {
    let Event { stream, seq, body, .. } = event;
    for hash in body.bodies_mut().iter().filter_map(|body| body.blob()) {
        if blob(db, stream, hash)?.is_some_and(|bytes| BlobHash::of(&bytes) != *hash) {
            let changed = ChainError::Changed { stream: stream.clone(), seq: *seq };
            return Err(JournalError::Chain(changed).into());
        }
    }
    Ok(())
}

fn number_of(db: &Connection, stream: &StreamId) -> Result<Option<i64>, Fail> {
    let mut statement = db.prepare_cached("SELECT id FROM streams WHERE name = ?1")?;
    Ok(statement.query_row([stream.to_string()], |row| row.get(0)).optional()?)
}

fn whole_event(db: &Connection, row: &Row<'_>, stream: StreamId) -> Result<Event, Fail> {
    let mut event = event(row, stream)?;
    let Event { stream, body, .. } = &mut event;
    restore(body, |hash| blob(db, stream, hash))?;
    Ok(event)
}

fn event(row: &Row<'_>, stream: StreamId) -> Result<Event, Fail> {
    let kind = row.get_ref(5)?.as_str().map_err(rusqlite::Error::from)?;
    let json = row.get_ref(7)?.as_str().map_err(rusqlite::Error::from)?;
    let unreadable =
        |error: backstop_journal::event::UnreadableEvent| JournalError::Damaged(error.to_string());
    let body = EventBody::decode(kind, row.get(4)?, json).map_err(unreadable)?;
    Ok(Event {
        position: row.get::<_, i64>(0)?.cast_unsigned(),
        stream,
        seq: row.get::<_, i64>(1)?.cast_unsigned(),
        at: Timestamp::from_nanos(row.get::<_, i64>(2)?.cast_unsigned()),
        epoch: row.get::<_, i64>(3)?.cast_unsigned(),
        body,
        hash: Hash(row.get(6)?),
    })
}

/// A large body, for a stream that refers to it still: of one that was erased another may have the same.
fn blob(db: &Connection, stream: &StreamId, hash: &BlobHash) -> Result<Option<Bytes>, Fail> {
    let mut statement = db.prepare_cached(
        "SELECT data FROM blob_uses JOIN blobs USING (hash) JOIN streams ON id = stream
         WHERE hash = ?1 AND name = ?2",
    )?;
    let data = statement.query_row(params![raw(hash)?, stream.text()], |row| row.get::<_, Vec<u8>>(0));
    Ok(data.optional()?.map(Bytes::from))
}

/// SQLite takes a negative number for no limit.
pub(super) fn rows_max(limit: Option<usize>) -> i64 {
    limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX))
}
