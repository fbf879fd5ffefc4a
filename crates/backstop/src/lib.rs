//! Backstop keeps AI agents running in production: retries and failover, budgets that hold, a journal from which a run
//! goes on after kill -9, tools that act once.
//!
//! [`Backstop::open`] puts the parts together; [`Backstop::run`] takes a [`Task`] and comes back with a [`RunResult`].
//! Each part can be used alone: the [`stack`] over any [`call::Model`], the planner and the breaker
//! ([`stack::layers`]), the limiter and the book ([`allowance`]), the journal ([`journal`], [`store`]). The examples
//! of this crate show each in at most 60 lines.
//!
//! The assembly of an engine is here, and only here: the command line and the server build on it.

mod engine;
mod erasing;
mod open;
mod settings;
mod task;
mod workers;

pub use backstop_agent as agent;
pub use backstop_allowance as allowance;
pub use backstop_call as call;
pub use backstop_journal as journal;
pub use backstop_label as label;
pub use backstop_provider as provider;
pub use backstop_stack as stack;
pub use backstop_store as store;
pub use backstop_store::Observer;
pub use engine::{Asking, Backstop};
pub use erasing::{Erased, Erasing, ToErase};
pub use open::OpenError;
pub use settings::{Colleague, Leaf, ModelSettings, Place, Settings};
pub use task::{RunResult, Task};
pub use workers::{Crew, Trouble, Workers};

/// The instructions of an agent that has none of its own.
pub const DEFAULT_SYSTEM: &str = "You work unattended on the files of one directory, through the tools you are given. \
Look before you change anything. Do what the task asks and nothing else. Read back what you wrote. When the task is \
done, or when you find that it cannot be done, call the tool `finish` and say what you did.";
