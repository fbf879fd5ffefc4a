//! The tables of the numbers: cells are folded from the events after their commit, in batches, by whoever needs them. A batch
//! and the position it reaches are one transaction, which is refused where somebody else was first: an event is counted
//! once, whoever counts, and wherever they are killed.

use super::fault::Fail;
use super::tx::Tx;
use super::{SqliteStore, read};
use crate::sqlite::writer::About;
use backstop_call::{BoxFuture, Money, Timestamp};
use backstop_journal::projections::numbers::{
    Batch, Cell, Family, Fold, Grain, Kept, SERIES_MAX, Series, Slice, Sums,
};
use backstop_journal::{BudgetUse, Durability, JournalError, Position, Tally};
use rusqlite::{Connection, OptionalExtension, params};

/// Events that are read at once: so many take a reader some milliseconds.
const PAGE_EVENTS: usize = 500;
/// Events that are counted in one transaction at most.
const BATCH_EVENTS: usize = 20_000;

/// Who counts in this process: one at a time.
#[derive(Debug, Default)]
pub(super) struct Counting {
    fold: Fold,
    position: Position,
}

/// Some events, counted.
struct Counted {
    counting: Counting,
    batch: Batch,
    from: Position,
    events: usize,
}

impl Tally for SqliteStore {
    fn catch_up(&self, now: Timestamp, kept: Kept) -> BoxFuture<'_, Result<Position, JournalError>> {
        Box::pin(async move {
            let mut counting = self.inner.counting.lock().await;
            loop {
                // Whoever stops waiting leaves a fold behind that remembers nothing, and so is right.
                let before = std::mem::take(&mut *counting);
                let counted = self.inner.readers.read(move |db| count(db, before)).await?;
                let to = counted.counting.position;
                if counted.events > 0 {
                    let (from, cells) = (counted.from, counted.batch);
                    let keep = move |tx: &mut Tx<'_, '_>| tx.keep_numbers((from, to), &cells, (now, kept));
                    let kept = self.inner.sender.submit(Durability::Written, About::nothing(), keep).await?;
                    if !kept {
                        continue;
                    }
                }
                *counting = counted.counting;
                if counted.events < BATCH_EVENTS {
                    return Ok(to);
                }
            }
        })
    }

    fn cells(&self, slices: Vec<Slice>) -> BoxFuture<'_, Result<Vec<Cell>, JournalError>> {
        Box::pin(self.inner.readers.read(move |db| {
            let mut cells = Vec::new();
            for slice in &slices {
                read_slice(db, slice, &mut cells)?;
            }
            Ok(cells)
        }))
    }

    fn budgets(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<BudgetUse>, JournalError>> {
        Box::pin(self.inner.readers.read(move |db| budgets(db, now)))
    }
}

/// Counts what came after the position that the database is folded up to.
fn count(db: &Connection, mut counting: Counting) -> Result<Counted, Fail> {
    let from = folded(db)?;
    if counting.position != from {
        // Another process counted since: what is remembered of runs may be old.
        counting = Counting { fold: Fold::default(), position: from };
    }
    let (mut batch, mut events) = (Batch::default(), 0);
    while events < BATCH_EVENTS {
        let page = read::tail_bare(db, counting.position, PAGE_EVENTS)?;
        for event in &page {
            if let Some(run) = counting.fold.lacks(event).cloned() {
                let earlier = read::range(db, &event.stream, &(1..=event.seq.saturating_sub(1)))?;
                counting.fold.recall(&run, &earlier);
            }
            counting.fold.apply(event, &mut batch);
            counting.position = event.position;
        }
        events += page.len();
        if page.len() < PAGE_EVENTS {
            break;
        }
    }
    Ok(Counted { counting, batch, from, events })
}

fn folded(db: &Connection) -> Result<Position, Fail> {
    let sql = "SELECT position FROM folded WHERE projection = 'numbers'";
    Ok(db.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0))?.cast_unsigned())
}

fn read_slice(db: &Connection, slice: &Slice, cells: &mut Vec<Cell>) -> Result<(), Fail> {
    let mut statement = db.prepare_cached(
        "SELECT n.start, s.family, s.labels, n.sums FROM numbers n JOIN series s ON s.id = n.series
         WHERE n.grain = ?1 AND n.start >= ?2 AND n.start < ?3",
    )?;
    let secs = |at: Timestamp| at.secs().cast_signed();
    let mut rows =
        statement.query(params![slice.grain.secs().cast_signed(), secs(slice.since), secs(slice.until)])?;
    let before = cells.len();
    while let Some(row) = rows.next()? {
        let family = Family::of(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?);
        let Some(family) = family.filter(|family| slice.families.contains(family)) else { continue };
        let labels = serde_json::from_str(row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?);
        let sums = serde_json::from_str(row.get_ref(3)?.as_str().map_err(rusqlite::Error::from)?);
        cells.push(Cell {
            series: Series { family, labels: labels.map_err(damaged)? },
            grain: slice.grain,
            start: Timestamp::from_secs(row.get::<_, i64>(0)?.cast_unsigned()),
            sums: sums.map_err(damaged)?,
        });
    }
    cells[before..].sort_by(|a, b| (a.start, &a.series).cmp(&(b.start, &b.series)));
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` hands over")]
fn damaged(error: serde_json::Error) -> JournalError {
    JournalError::Damaged(format!("what was counted: {error}"))
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
        let mut last: Option<(Series, i64)> = None;
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
        let (grain, start) = (cell.grain.secs().cast_signed(), cell.start.secs().cast_signed());
        let there: Option<String> = self
            .db
            .prepare_cached("SELECT sums FROM numbers WHERE grain = ?1 AND start = ?2 AND series = ?3")?
            .query_row(params![grain, start, series], |row| row.get(0))
            .optional()?;
        let mut sums: Sums = match there {
            Some(json) => serde_json::from_str(&json).map_err(damaged)?,
            None => Sums::default(),
        };
        sums.merge(&cell.sums);
        self.db
            .prepare_cached(
                "INSERT INTO numbers (grain, start, series, sums) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (grain, start, series) DO UPDATE SET sums = ?4",
            )?
            .execute(params![grain, start, series, serde_json::to_string(&sums).map_err(damaged)?])?;
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
        let labels = serde_json::to_string(&series.labels).map_err(damaged)?;
        let sql = "SELECT id FROM series WHERE family = ?1 AND labels = ?2";
        let found =
            self.db.prepare_cached(sql)?.query_row([series.family.as_str(), &labels], |row| row.get(0));
        Ok(found.optional()?)
    }

    fn new_series(&self, series: &Series) -> Result<i64, Fail> {
        let labels = serde_json::to_string(&series.labels).map_err(damaged)?;
        let sql = "INSERT INTO series (family, labels) VALUES (?1, ?2)";
        self.db.prepare_cached(sql)?.execute([series.family.as_str(), &labels])?;
        Ok(self.db.last_insert_rowid())
    }
}
