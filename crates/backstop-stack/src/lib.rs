//! The stack: the layers that every model call passes, in the one order that [`stack()`] writes down.
//!
//! Each layer takes an `Arc<dyn Model>` and gives one; its decision is a pure function over its state, the time and the
//! input, and the async shell around it is thin. This crate counts, waits, retries, refuses and records; it speaks no
//! dialect, opens no connection and holds no SQL.

mod clock;
mod estimate;
pub mod layers;
mod outbox;
mod stack;
mod target;

pub use clock::SystemClock;
pub use estimate::{IMAGE_TOKENS_MAX, input_tokens_likely, input_tokens_max};
pub use layers::redact::{RedactingJournal, Redactor};
pub use stack::{Config, LayerInfo, Parts, Stack, restack, stack};
pub use target::{Limits, Target, TargetKey};
