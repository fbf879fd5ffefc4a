//! The queue in the database: the line of each task, kept in the commit of the events that change it, and taking what is due.

use super::fault::Fail;
use super::list::{behind, found_by, phrases};
use super::owner::Owners;
use super::read;
use super::tx::{Entry, Tx};
use crate::listing::Search;
use crate::record::{Record, next_try};
use backstop_call::{AgentName, KeyName, RunId, TaskId, Timestamp};
use backstop_journal::projections::history::RunSummary;
use backstop_journal::projections::queue::Queued;
use backstop_journal::{Backlog, EventBody, JournalError, StreamId, Take, Taken, TaskFilter, TaskSummary};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::{BTreeMap, BTreeSet};

/// Who is worked for: how many of each role, and which keys.
#[derive(Default)]
struct Working {
    roles: BTreeMap<String, u32>,
    keys: BTreeSet<String>,
}

/// A line that may be taken.
struct Waiting {
    stream: i64,
    model: String,
    role: String,
    key: Option<String>,
    due: i64,
}

impl Working {
    fn add(&mut self, role: String, key: Option<String>) {
        *self.roles.entry(role).or_default() += 1;
        self.keys.extend(key);
    }

    /// Whether there is room for one more such.
    fn admits(&self, waiting: &Waiting, wanted: &Take) -> bool {
        let role = wanted.roles.get(&waiting.role.as_str().into());
        let busy = self.roles.get(&waiting.role).copied().unwrap_or(0);
        let known = wanted.models.as_ref().is_none_or(|known| known.contains(&waiting.model.as_str().into()));
        known
            && role.is_none_or(|most| busy < *most)
            && waiting.key.as_ref().is_none_or(|key| !self.keys.contains(key))
            && waiting.due <= wanted.at.nanos().cast_signed()
    }
}

impl Tx<'_, '_> {
    /// Refuses a task that is there already.
    pub(super) fn refuse_twice(&self, entry: &Entry) -> Result<(), Fail> {
        let Some(EventBody::RunCreated(created)) = entry.records.first().map(|record| &record.body) else {
            return Ok(());
        };
        if created.queue.is_none() {
            return Ok(());
        }
        if let Some(run) = run_of_task(self.db, &created.task)? {
            return Err(JournalError::TaskExists { task: created.task.clone(), run }.into());
        }
        // A run that was made from the same request, for a task of another name.
        let first = read::range(self.db, &entry.stream, &(1..=1))?.pop();
        match (first.map(|event| event.body), &entry.stream) {
            (Some(EventBody::RunCreated(there)), StreamId::Run(run)) => {
                Err(JournalError::TaskExists { task: there.task, run: run.clone() }.into())
            }
            _ => Ok(()),
        }
    }

    /// Writes the line of a run's task down. Who has the run when it comes into the queue works on it.
    pub(super) fn keep_task(
        &mut self,
        (stream, owner): (i64, Option<i64>),
        summary: &RunSummary,
    ) -> Result<(), Fail> {
        let (Some(queue), Some(task)) = (&summary.queue, summary.queued_as()) else { return Ok(()) };
        let signed = |nanos: u64| nanos.cast_signed();
        self.db
            .prepare_cached(
                "INSERT INTO tasks_raw (task, stream, state, rank, due, model, role, key, owner)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                 ON CONFLICT (task) DO UPDATE
                 SET stream = ?2, state = ?3, rank = ?4, due = ?5, model = ?6, role = ?7, key = ?8
                 WHERE stream <= ?2",
            )?
            .execute(params![
                task.as_str(),
                stream,
                queue.state.as_str(),
                queue.rank().map(signed),
                queue.due.map(|due| signed(due.nanos())),
                summary.model.as_str(),
                summary.role.as_str(),
                queue.terms.key,
                owner,
            ])?;
        *self.rings |= queue.due.is_some();
        Ok(())
    }

    /// Writes down who works on a run.
    pub(super) fn keep_worker(&mut self, stream: i64, owner: Option<i64>) -> Result<(), Fail> {
        let set = "UPDATE tasks_raw SET owner = ?2 WHERE stream = ?1";
        let changed = self.db.prepare_cached(set)?.execute(params![stream, owner])?;
        // Whoever lets go of a run makes room for another one of its role or key.
        *self.rings |= changed > 0 && owner.is_none();
        Ok(())
    }

    /// Claims runs that are due.
    pub(crate) fn take(&mut self, wanted: &Take) -> Result<Vec<Taken>, Fail> {
        self.free_the_dead()?;
        let streams = self.due(wanted)?;
        let mut taken = Vec::with_capacity(streams.len());
        for stream in streams {
            let run = self.next_run(stream, wanted.at)?;
            let epoch = self.claim(&run, wanted.at)?;
            taken.push(Taken { run, epoch });
        }
        Ok(taken)
    }

    /// Lets go of what processes that died worked on.
    fn free_the_dead(&mut self) -> Result<(), Fail> {
        let owners: Vec<i64> = self
            .db
            .prepare_cached("SELECT DISTINCT owner FROM tasks_raw WHERE owner IS NOT NULL")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let me = self.seat.as_ref().map(|seat| seat.id);
        for owner in owners.into_iter().filter(|owner| Some(*owner) != me) {
            if !self.owners.is_alive(&self.owner_name(Some(owner))?) {
                self.db
                    .prepare_cached("UPDATE tasks_raw SET owner = NULL WHERE owner = ?1")?
                    .execute([owner])?;
            }
        }
        Ok(())
    }

    /// The streams of what may be taken, the most urgent first.
    fn due(&self, wanted: &Take) -> Result<Vec<i64>, Fail> {
        let mut working = Working::default();
        let mut busy = self.db.prepare_cached("SELECT role, key FROM tasks_raw WHERE owner IS NOT NULL")?;
        let mut rows = busy.query([])?;
        while let Some(row) = rows.next()? {
            working.add(row.get(0)?, row.get(1)?);
        }
        let mut waiting = self.db.prepare_cached(
            "SELECT stream, model, role, key, due FROM tasks_raw
             WHERE rank IS NOT NULL AND owner IS NULL AND rank <= ?1 ORDER BY rank, stream",
        )?;
        let mut rows = waiting.query([Queued::last_rank(wanted.at).cast_signed()])?;
        let mut streams = Vec::new();
        while streams.len() < wanted.most
            && let Some(row) = rows.next()?
        {
            let line = waiting_line(row)?;
            if working.admits(&line, wanted) {
                streams.push(line.stream);
                working.add(line.role, line.key);
            }
        }
        Ok(streams)
    }

    /// The run that goes on with a task: its last one, or the next if that one failed.
    fn next_run(&mut self, stream: i64, at: Timestamp) -> Result<RunId, Fail> {
        let name: String = self
            .db
            .prepare_cached("SELECT name FROM streams WHERE id = ?1")?
            .query_row([stream], |row| row.get(0))?;
        let damaged = || JournalError::Damaged(format!("the task of `{name}` is none"));
        let id: StreamId = name.parse().map_err(|_| damaged())?;
        let StreamId::Run(run) = &id else { return Err(damaged().into()) };
        let queued = self.queued(&id)?.ok_or_else(damaged)?;
        if !queued.anew {
            return Ok(run.clone());
        }
        let first = read::range(self.db, &id, &(1..=1))?.pop().ok_or_else(damaged)?;
        let EventBody::RunCreated(created) = first.body else { return Err(damaged().into()) };
        let (next, created) = next_try(run, queued, created, at);
        let stream = StreamId::Run(next.clone());
        let records = vec![Record::of(&stream, created.into())];
        self.write(Entry { stream, epoch: None, at, records })?;
        Ok(next)
    }
}

fn waiting_line(row: &Row<'_>) -> rusqlite::Result<Waiting> {
    Ok(Waiting {
        stream: row.get(0)?,
        model: row.get(1)?,
        role: row.get(2)?,
        key: row.get(3)?,
        due: row.get::<_, Option<i64>>(4)?.unwrap_or(i64::MAX),
    })
}

fn run_of_task(db: &Connection, task: &TaskId) -> Result<Option<RunId>, Fail> {
    let sql = "SELECT name FROM tasks_raw t JOIN streams ON streams.id = t.stream WHERE task = ?1";
    let name: Option<String> =
        db.prepare_cached(sql)?.query_row([task.as_str()], |row| row.get(0)).optional()?;
    Ok(name.and_then(|name| name.strip_prefix("run/").map(RunId::from)))
}

/// Tasks, newest first.
pub(super) fn list(db: &Connection, owners: &Owners, filter: &TaskFilter) -> Result<Vec<TaskSummary>, Fail> {
    let states: Vec<_> = filter.states.iter().map(|state| state.as_str()).collect();
    let states = (!states.is_empty()).then(|| serde_json::json!(states).to_string());
    // So that tasks that are named are found by their index.
    let named = "task IN (SELECT value FROM json_each(?2))";
    let which = if filter.tasks.is_empty() { "?2 IS NULL" } else { named };
    let mut statement = db.prepare_cached(&format!(
        "SELECT place, task, owners.name, summary, r.stream, r.seq,
                (SELECT message FROM runs_text WHERE rowid = r.stream)
         FROM tasks_raw t JOIN runs_raw r ON r.stream = t.stream LEFT JOIN owners ON owners.id = t.owner
         WHERE (?1 IS NULL OR t.state IN (SELECT value FROM json_each(?1)))
           AND {which} AND (?3 IS NULL OR place < ?3)
           AND (?5 IS NULL OR substr(task, 1, length(?5)) = ?5)
           AND (?6 IS NULL OR r.agent = ?6) AND (?7 IS NULL OR summary ->> 'asked_by' = ?7)
           AND (?8 IS NULL OR (r.run >= ?8 AND r.run < ?9))
           AND (?10 IS NULL OR r.stream IN (SELECT rowid FROM runs_text WHERE runs_text MATCH ?10))
         ORDER BY place DESC LIMIT ?4",
    ))?;
    let tasks = (!filter.tasks.is_empty()).then(|| serde_json::json!(filter.tasks).to_string());
    let limit = read::rows_max(filter.limit);
    let (agent, asked_by) = (filter.agent.as_ref().map(AgentName::as_str), filter.asked_by.as_ref());
    let (run, words) = match found_by(db, filter.search.as_deref())? {
        Some(Search::Id(id)) => (Some(id), None),
        Some(Search::Words(terms)) => (None, Some(phrases(&terms))),
        None => (None, None),
    };
    if words.as_ref().is_some_and(String::is_empty) {
        return Ok(Vec::new());
    }
    let mut rows = statement.query(params![
        states,
        tasks,
        filter.before,
        limit,
        filter.prefix,
        agent,
        asked_by.map(KeyName::as_str),
        run,
        run.as_deref().map(behind),
        words,
    ])?;
    let mut tasks = Vec::new();
    while let Some(row) = rows.next()? {
        let owner: Option<String> = row.get(2)?;
        let seq: i64 = row.get(5)?;
        tasks.push(TaskSummary {
            place: row.get(0)?,
            task: row.get::<_, String>(1)?.into(),
            worked_on: owner.is_some_and(|owner| owners.is_alive(&owner)),
            run: read::summary(db, &row.get::<_, String>(3)?, row.get(4)?, seq.cast_unsigned())?,
            text: row.get::<_, Option<String>>(6)?.unwrap_or_default(),
        });
    }
    Ok(tasks)
}

/// When something is due next.
pub(super) fn next_due(db: &Connection, after: Timestamp) -> Result<Option<Timestamp>, Fail> {
    let sql = "SELECT min(due) FROM tasks_raw WHERE rank IS NOT NULL AND owner IS NULL AND due > ?1";
    let due: Option<i64> =
        db.prepare_cached(sql)?.query_row([after.nanos().cast_signed()], |row| row.get(0))?;
    Ok(due.map(|due| Timestamp::from_nanos(due.cast_unsigned())))
}

/// How much there is.
pub(super) fn backlog(db: &Connection, at: Timestamp) -> Result<Backlog, Fail> {
    let now = at.nanos().cast_signed();
    let mut backlog = Backlog::default();
    let mut by_state = db.prepare_cached("SELECT state, count(*) FROM tasks_raw GROUP BY state")?;
    let mut rows = by_state.query([])?;
    while let Some(row) = rows.next()? {
        let count = row.get::<_, i64>(1)?.cast_unsigned();
        match row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)? {
            "parked" => backlog.parked = count,
            "done" => backlog.done = count,
            "dead" => backlog.dead = count,
            "cancelled" => backlog.cancelled = count,
            _ => {}
        }
    }
    let waiting = "SELECT count(*) FILTER (WHERE due <= ?1), count(*) FILTER (WHERE due > ?1), min(due)
        FROM tasks_raw WHERE rank IS NOT NULL AND owner IS NULL AND state = 'waiting'";
    let (due, later, first): (i64, i64, Option<i64>) =
        db.prepare_cached(waiting)?.query_row([now], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let working: i64 = db
        .prepare_cached("SELECT count(*) FROM tasks_raw WHERE owner IS NOT NULL")?
        .query_row([], |row| row.get(0))?;
    (backlog.due, backlog.later, backlog.working) =
        (due.cast_unsigned(), later.cast_unsigned(), working.cast_unsigned());
    let first = first.map(|first| Timestamp::from_nanos(first.cast_unsigned()));
    backlog.oldest = first.map(|first| at.since(first)).unwrap_or_default();
    Ok(backlog)
}
