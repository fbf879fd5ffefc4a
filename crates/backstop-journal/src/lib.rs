//! The journal: what happened, in order, for ever. State is a fold of [`Event`]s; nothing else is kept that could
//! disagree with them. Logs, metrics, history, spend and audit are [`projections`] of the same events.
//!
//! Pure: an implementation of [`Journal`] lives in the store. The durable format is what is in [`event`]; every kind is
//! versioned and has a golden file in `tests/golden`.

mod body;
mod erasable;
pub mod event;
mod hash;
mod journal;
mod json;
pub mod projections;
mod queue;
mod tally;

pub use body::{Blob, BlobHash, Body, FreeText, INLINE_MAX_BYTES};
pub use erasable::{Blind, Parts, Remains};
pub use event::{Event, EventBody, RunStatus, StreamId};
pub use hash::{ChainError, Erasure, Hash, Links, Place, Stored, erase, link, old_link, verify};
pub use journal::{
    Append, BadCursor, Durability, Epoch, Erase, Head, Journal, JournalError, ListedRun, Owner, Position,
    RunCursor, RunFilter, Seq,
};
pub use queue::{Backlog, Queue, Take, Taken, TaskFilter, TaskSummary};
pub use tally::{BudgetUse, Tally};
