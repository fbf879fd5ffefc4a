//! The numbers in memory.

use super::{MemoryStore, Shared, lock};
use backstop_call::{BoxFuture, Timestamp};
use backstop_journal::projections::numbers::{Batch, Cell, Fold, Grain, Kept, Slice, Table};
use backstop_journal::{BudgetUse, JournalError, Position, Tally};

/// What was counted, and of how many events.
#[derive(Debug, Default)]
pub(super) struct Counted {
    fold: Fold,
    table: Table,
    events: usize,
}

impl Tally for MemoryStore {
    fn catch_up(&self, now: Timestamp, kept: Kept) -> BoxFuture<'_, Result<Position, JournalError>> {
        let position = lock(&self.shared).count(now, kept);
        Box::pin(std::future::ready(Ok(position)))
    }

    fn cells(&self, slices: Vec<Slice>) -> BoxFuture<'_, Result<Vec<Cell>, JournalError>> {
        let shared = lock(&self.shared);
        let mut cells = Vec::new();
        for Slice { grain, since, until, families } in slices {
            let range = shared.counted.table.range(grain, since, until);
            cells.extend(range.filter(|cell| families.contains(&cell.series.family)));
        }
        Box::pin(std::future::ready(Ok(cells)))
    }

    fn budgets(&self, _now: Timestamp) -> BoxFuture<'_, Result<Vec<BudgetUse>, JournalError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

impl Shared {
    fn count(&mut self, now: Timestamp, kept: Kept) -> Position {
        let mut batch = Batch::default();
        let Counted { fold, table, events } = &mut self.counted;
        for place in *events..self.events.len() {
            let event = &self.events[place].event;
            if let Some(run) = fold.lacks(event).cloned() {
                let stream = self.streams.get(&event.stream);
                let places = stream.into_iter().flat_map(|stream| &stream.places);
                let earlier: Vec<_> = places
                    .take_while(|earlier| **earlier < place)
                    .map(|at| self.events[*at].event.clone())
                    .collect();
                fold.recall(&run, &earlier);
            }
            fold.apply(event, &mut batch);
        }
        *events = self.events.len();
        table.add(&batch);
        for grain in [Grain::Minute, Grain::Hour] {
            table.forget(grain, kept.since(grain, now));
        }
        self.events.len() as Position
    }
}
