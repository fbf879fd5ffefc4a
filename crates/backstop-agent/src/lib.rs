//! The agent loop: `state = fold(events)`, `step = decide(state)`, act, append. Tools, and the effect protocol that
//! makes a run survive a kill -9 without doing anything twice.
//!
//! Takes any [`backstop_call::Model`] and any [`backstop_journal::Journal`]; it knows neither the stack nor a store.
//! [`state`], [`decide`](mod@decide) and [`erasing`] are pure; [`run`] is the one place that acts.

pub mod decide;
mod delegation;
pub mod erasing;
mod preview;
mod rehearsal;
mod request;
pub mod run;
pub mod state;
#[cfg(test)]
mod testkit;
pub mod tool;
mod toolbox;
pub mod tools;
mod workspace;

pub use decide::{Recovery, Rules, Step, decide};
pub use delegation::{DELEGATE, Delegation, SUBMIT, Template, child_of};
pub use preview::{diff, is_hidden, shortened, visible, visible_line};
pub use rehearsal::{CopyError, CopyLimits};
pub use request::estimate_tokens;
pub use run::{Agent, AgentConfig, InDoubt, RunError, RunOutcome, top_of};
pub use state::RunState;
pub use tool::{Plan, Probe, Rehearsal, Tool, ToolContext, ToolError, ToolOutput};
pub use toolbox::{Toolbox, ToolboxError};
pub use workspace::{Digest, Entry, EntryKind, FileContent, PathError, Place, Workspace};
