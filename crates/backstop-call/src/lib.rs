//! The words for a model call: what is asked, what comes back, what it costs, how it fails.
//!
//! Every other crate speaks in these types. They hold values and the arithmetic on them; nothing here reads a
//! clock, draws a random number or does IO: time is a [`Timestamp`] from a [`Clock`], randomness comes from a
//! [`Seed`], and both are arguments.

mod assembly;
mod code;
mod failure;
mod free_text;
mod id;
mod model;
mod money;
mod price;
mod reply;
mod request;
mod secret;
mod seed;
mod shared;
mod size;
mod source;
pub mod span;
mod time;

pub use assembly::Assembly;
pub use backstop_label::{Category, Labels};
pub use code::Code;
pub use failure::{AttemptRecord, Failure, FailureClass, FailureDetail, FailureKind, Progress};
pub use free_text::{ERASED, FreeText};
pub use id::{
    AgentName, ApprovalId, CallId, GrantId, JobName, KeyName, ModelName, ProviderName, ReservationId, Role,
    RunId, TaskId,
};
pub use model::{BoxFuture, Call, Closed, Context, Discard, KeyLimits, Model, Priority, Sink, deliver};
pub use money::Money;
pub use price::Price;
pub use reply::{Chunk, ContentDelta, LimitHint, Reply, StopReason, Usage};
pub use request::{
    Block, Dialect, DocumentSource, ImageSource, Message, OutputFormat, Request, Speaker, Thinking,
    ToolChoice, ToolSpec,
};
pub use secret::Secret;
pub use seed::Seed;
pub use shared::Shared;
pub use size::{Measure, Size};
pub use source::{Canonical, Edit, Frame, Head, Places, Purpose, Source, Told, Whole, apply, headers_kept};
pub use time::{Clock, Timestamp};
