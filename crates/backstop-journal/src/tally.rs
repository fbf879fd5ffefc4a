//! What keeps the numbers. One conformance suite (in the store) runs over every implementation.

use crate::projections::numbers::{Cell, Kept, Slice};
use crate::{JournalError, Position};
use backstop_call::{BoxFuture, Money, Timestamp};

/// What a budget holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetUse {
    /// The account: `total`, `role/NAME`, `key/NAME`, with its day behind an `@` where it is a day's.
    pub account: String,
    /// Spent, suspense included.
    pub spent: Money,
    /// The limit that it was last asked with.
    pub limit: Money,
}

/// Keeps the cells that are folded from the events, and the position that they were folded up to, in one transaction. Who
/// needs them calls [`Tally::catch_up`] first: of several that do so at once, in one process or many, one counts an event.
pub trait Tally: Send + Sync {
    /// Counts what was committed and is not counted yet, and forgets what is kept no longer. Gives the position of the last
    /// event that is counted.
    fn catch_up(&self, now: Timestamp, kept: Kept) -> BoxFuture<'_, Result<Position, JournalError>>;

    /// The cells of these slices, those of a slice by their start and series. Reads no event.
    fn cells(&self, slices: Vec<Slice>) -> BoxFuture<'_, Result<Vec<Cell>, JournalError>>;

    /// The budgets that were ever asked, those of single runs and of days that are over apart. A store that keeps no ledger
    /// has none.
    fn budgets(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<BudgetUse>, JournalError>>;
}
