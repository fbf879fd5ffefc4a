//! The tables of the numbers: cells are folded from the events after their commit, in batches, by whoever needs them. A batch
//! and the position it reaches are one transaction, which is refused where somebody else was first: an event is counted
//! once, whoever counts, and wherever they are killed.

use super::ahead::Taken;
use super::fault::Fail;
use super::tx::Tx;
use super::{SqliteStore, read};
use crate::sqlite::writer::About;
use backstop_call::{BoxFuture, Money, Timestamp};
use backstop_journal::projections::numbers::{
    Batch, Cell, Family, Fold, Grain, Kept, SERIES_MAX, Series, Slice, Spread, Sums, Tokens,
};
use backstop_journal::{BudgetUse, Durability, JournalError, Position, Tally};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::HashMap;
use std::sync::Arc;

/// Events that are read at once: so many take a reader some milliseconds.
const PAGE_EVENTS: usize = 500;
/// Events that are counted in one transaction at most: the writer does nothing else for as long as that takes.
const BATCH_EVENTS: usize = 5_000;

/// Some events, counted.
struct Counted {
    fold: Fold,
    batch: Batch,
    from: Position,
    to: Position,
    events: usize,
}

impl SqliteStore {
    /// Writes down what was counted as it was committed. The position that is reached, if it is the end of the journal.
    async fn flush_ahead(&self, now: Timestamp, kept: Kept) -> Result<Option<Position>, JournalError> {
        let Some(Taken { from, to, batch }) = self.inner.ahead.take() else { return Ok(None) };
        if from < to && !self.keep((from, to), batch, (now, kept)).await? {
            return Ok(None);
        }
        // What other processes wrote is not seen before something of this one follows it.
        let is_end = self.inner.readers.read(move |db| Ok(end(db)? <= to && folded(db)? >= to)).await?;
        Ok(is_end.then_some(to))
    }

    async fn keep(
        &self,
        (from, to): (Position, Position),
        batch: Batch,
        (now, kept): (Timestamp, Kept),
    ) -> Result<bool, JournalError> {
        let keep = move |tx: &mut Tx<'_, '_>| tx.keep_numbers((from, to), &batch, (now, kept));
        self.inner.sender.submit(Durability::Written, About::nothing(), keep).await
    }

    /// Counts what the database has and nobody counted, and is in step from there on.
    async fn count_all(&self, now: Timestamp, kept: Kept) -> Result<Position, JournalError> {
        let ahead = Arc::clone(&self.inner.ahead);
        if ahead.fall_behind() {
            self.observe(Arc::new(move |events| ahead.see(events)));
        }
        let mut before = None;
        loop {
            let counted = self.inner.readers.read(move |db| count(db, before)).await?;
            let Counted { fold, batch, from, to, events } = counted;
            if events > 0 && !self.keep((from, to), batch, (now, kept)).await? {
                // Somebody else counted them; what is remembered of runs may be old.
                before = None;
                continue;
            }
            if events < BATCH_EVENTS {
                self.inner.ahead.catch_up(fold, to);
                return Ok(to);
            }
            before = Some((fold, to));
        }
    }
}

impl Tally for SqliteStore {
    fn catch_up(&self, now: Timestamp, kept: Kept) -> BoxFuture<'_, Result<Position, JournalError>> {
        Box::pin(async move {
            let _alone = self.inner.counting.lock().await;
            match self.flush_ahead(now, kept).await? {
                Some(position) => Ok(position),
                None => self.count_all(now, kept).await,
            }
        })
    }

    fn cells(&self, slices: Vec<Slice>) -> BoxFuture<'_, Result<Vec<Cell>, JournalError>> {
        Box::pin(self.inner.readers.read(move |db| {
            let (mut known, mut cells) = (HashMap::new(), Vec::new());
            for slice in &slices {
                read_slice(db, slice, &mut known, &mut cells)?;
            }
            Ok(cells)
        }))
    }

    fn budgets(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<BudgetUse>, JournalError>> {
        Box::pin(self.inner.readers.read(move |db| budgets(db, now)))
    }
}

/// Counts what came after the position that the database is folded up to, with what is remembered of what came before.
fn count(db: &Connection, before: Option<(Fold, Position)>) -> Result<Counted, Fail> {
    let from = folded(db)?;
    let known = before.filter(|(_, position)| *position == from);
    let (mut fold, mut to) = known.unwrap_or((Fold::default(), from));
    let (mut batch, mut events) = (Batch::default(), 0);
    while events < BATCH_EVENTS {
        let page = read::tail_bare(db, to, PAGE_EVENTS)?;
        for event in &page {
            if let Some(run) = fold.lacks(event).cloned() {
                let earlier = read::range(db, &event.stream, &(1..=event.seq.saturating_sub(1)))?;
                fold.recall(&run, &earlier);
            }
            fold.apply(event, &mut batch);
            to = event.position;
        }
        events += page.len();
        if page.len() < PAGE_EVENTS {
            break;
        }
    }
    Ok(Counted { fold, batch, from, to, events })
}

/// The last event of all.
fn end(db: &Connection) -> Result<Position, Fail> {
    let sql = "SELECT coalesce(max(position), 0) FROM events_raw";
    Ok(db.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0))?.cast_unsigned())
}

fn folded(db: &Connection) -> Result<Position, Fail> {
    let sql = "SELECT position FROM folded WHERE projection = 'numbers'";
    Ok(db.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0))?.cast_unsigned())
}

/// The columns of [`Sums`].
const SUMS: &str = "n.count, n.retries, n.cost, n.input, n.output, n.cache_read, n.cache_write, n.reasoning, n.level, n.took, n.first_token";

fn read_slice(
    db: &Connection,
    slice: &Slice,
    known: &mut HashMap<i64, Option<Arc<Series>>>,
    cells: &mut Vec<Cell>,
) -> Result<(), Fail> {
    let sql = format!(
        "SELECT {SUMS}, n.start, n.series FROM numbers n WHERE n.grain = ?1 AND n.start >= ?2 AND n.start < ?3"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let secs = |at: Timestamp| at.secs().cast_signed();
    let mut rows =
        statement.query(params![slice.grain.secs().cast_signed(), secs(slice.since), secs(slice.until)])?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(12)?;
        let series = match known.get(&id) {
            Some(series) => series.clone(),
            None => known.entry(id).or_insert(series_of(db, id)?).clone(),
        };
        let Some(series) = series.filter(|series| slice.families.contains(&series.family)) else { continue };
        let start = Timestamp::from_secs(row.get::<_, i64>(11)?.cast_unsigned());
        cells.push(Cell { series, grain: slice.grain, start, sums: sums(row)? });
    }
    Ok(())
}

/// A series by its number; `None` of a family that this version does not know.
fn series_of(db: &Connection, id: i64) -> Result<Option<Arc<Series>>, Fail> {
    let mut statement = db.prepare_cached("SELECT family, labels FROM series WHERE id = ?1")?;
    let (family, labels): (String, String) =
        statement.query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let Some(family) = Family::of(&family) else { return Ok(None) };
    let labels = serde_json::from_str(&labels).map_err(|error| damaged(&error))?;
    Ok(Some(Arc::new(Series { family, labels })))
}

fn sums(row: &Row<'_>) -> Result<Sums, Fail> {
    let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
    let spread = |column| -> Result<Spread, Fail> {
        let bytes = row.get_ref(column)?.as_blob().map_err(rusqlite::Error::from)?;
        Ok(Spread::of_bytes(bytes).ok_or_else(|| damaged(&"a spread of durations"))?)
    };
    Ok(Sums {
        count: row.get(0)?,
        retries: number(1)?,
        cost: Money::from_nanos(row.get(2)?),
        tokens: Tokens {
            input: number(3)?,
            output: number(4)?,
            cache_read: number(5)?,
            cache_write: number(6)?,
            reasoning: number(7)?,
        },
        level: row.get(8)?,
        took: spread(9)?,
        first_token: spread(10)?,
    })
}

fn damaged(what: &dyn std::fmt::Display) -> JournalError {
    JournalError::Damaged(format!("what was counted: {what}"))
}

/// By the order of their keys, runs lie between two ranges that are read: there is one for every run that ever was.
fn budgets(db: &Connection, now: Timestamp) -> Result<Vec<BudgetUse>, Fail> {
    let mut statement = db.prepare_cached(
        "SELECT account, settled + suspense, limit_seen FROM accounts
         WHERE (account < 'run/' OR account >= 'run0') AND limit_seen > 0
           AND (instr(account, '@') = 0 OR substr(account, instr(account, '@') + 1) = ?1)
         ORDER BY account",
    )?;
    let rows = statement.query_map([now.day().to_string()], |row| {
        Ok(BudgetUse {
            account: row.get(0)?,
            spent: Money::from_nanos(row.get(1)?),
            limit: Money::from_nanos(row.get(2)?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

impl Tx<'_, '_> {
    /// Adds what was counted of the events from one position to another, unless somebody has counted them already. Whether
    /// nobody had.
    fn keep_numbers(
        &mut self,
        (from, to): (Position, Position),
        batch: &Batch,
        (now, kept): (Timestamp, Kept),
    ) -> Result<bool, Fail> {
        if folded(self.db)? != from {
            return Ok(false);
        }
        let mut last: Option<(Arc<Series>, i64)> = None;
        for cell in batch.cells() {
            // The cells of a series follow on one another.
            let id = match &last {
                Some((series, id)) if *series == cell.series => *id,
                _ => self.series_id(&cell.series)?,
            };
            self.keep_cell(id, &cell)?;
            last = Some((cell.series, id));
        }
        for grain in [Grain::Minute, Grain::Hour] {
            let before = kept.since(grain, now).secs();
            self.db
                .prepare_cached("DELETE FROM numbers WHERE grain = ?1 AND start < ?2")?
                .execute(params![grain.secs().cast_signed(), before.cast_signed()])?;
        }
        self.db
            .prepare_cached("UPDATE folded SET position = ?1 WHERE projection = 'numbers'")?
            .execute([to.cast_signed()])?;
        Ok(true)
    }

    fn keep_cell(&self, series: i64, cell: &Cell) -> Result<(), Fail> {
        let key = params![cell.grain.secs().cast_signed(), cell.start.secs().cast_signed(), series];
        let sql =
            format!("SELECT {SUMS} FROM numbers n WHERE n.grain = ?1 AND n.start = ?2 AND n.series = ?3");
        let mut statement = self.db.prepare_cached(&sql)?;
        let mut rows = statement.query(key)?;
        let mut total = rows.next()?.map(sums).transpose()?.unwrap_or_default();
        total.merge(&cell.sums);
        let Tokens { input, output, cache_read, cache_write, reasoning } = total.tokens;
        let whole = u64::cast_signed;
        self.db
            .prepare_cached(
                "INSERT OR REPLACE INTO numbers (grain, start, series, count, retries, cost, input, output,
                     cache_read, cache_write, reasoning, level, took, first_token)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            )?
            .execute(params![
                cell.grain.secs().cast_signed(),
                cell.start.secs().cast_signed(),
                series,
                total.count,
                whole(total.retries),
                total.cost.nanos(),
                whole(input),
                whole(output),
                whole(cache_read),
                whole(cache_write),
                whole(reasoning),
                total.level,
                total.took.bytes(),
                total.first_token.bytes(),
            ])?;
        Ok(())
    }

    /// The number of a series; once its family is full, that of the one of all others.
    fn series_id(&self, series: &Series) -> Result<i64, Fail> {
        if let Some(id) = self.find_series(series)? {
            return Ok(id);
        }
        let count = "SELECT count(*) FROM series WHERE family = ?1";
        let there: i64 =
            self.db.prepare_cached(count)?.query_row([series.family.as_str()], |row| row.get(0))?;
        if usize::try_from(there).unwrap_or(usize::MAX) < SERIES_MAX {
            return self.new_series(series);
        }
        let others = series.overflow();
        self.find_series(&others)?.map_or_else(|| self.new_series(&others), Ok)
    }

    fn find_series(&self, series: &Series) -> Result<Option<i64>, Fail> {
        let labels = serde_json::to_string(&series.labels).map_err(|error| damaged(&error))?;
        let sql = "SELECT id FROM series WHERE family = ?1 AND labels = ?2";
        let found =
            self.db.prepare_cached(sql)?.query_row([series.family.as_str(), &labels], |row| row.get(0));
        Ok(found.optional()?)
    }

    fn new_series(&self, series: &Series) -> Result<i64, Fail> {
        let labels = serde_json::to_string(&series.labels).map_err(|error| damaged(&error))?;
        let sql = "INSERT INTO series (family, labels) VALUES (?1, ?2)";
        self.db.prepare_cached(sql)?.execute([series.family.as_str(), &labels])?;
        Ok(self.db.last_insert_rowid())
    }
}
