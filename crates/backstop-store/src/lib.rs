//! Where the journal and the ledger are kept: in memory, or in SQLite. The only room with SQL in it.
//!
//! Whoever holds a store sees [`backstop_journal::Journal`] and [`backstop_allowance::Ledger`]; nothing else of a
//! database leaks out. The conformance suite in `tests/it` runs over every implementation.

mod listing;
mod memory;
mod observer;
mod record;
mod sqlite;

pub use memory::{MemoryLedger, MemoryStore};
pub use observer::Observer;
pub use sqlite::{
    LedgerMode, QueryError, QueryLimits, QueryValue, Recovered, Rows, SqliteLedger, SqliteStore,
    StoreOptions, StoreStats, Turn, query,
};
