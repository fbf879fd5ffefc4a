//! The seam that everything is built from: a [`Model`] takes a [`Call`] and gives a [`Reply`]. A layer of the stack is
//! a model that holds a model; a provider is a model that holds a connection.

use crate::{
    CallId, Chunk, Failure, KeyName, Money, ProviderName, Reply, Request, ReservationId, Role, RunId, Source,
    TaskId, Timestamp,
};
use backstop_label::Labels;
use serde::{Deserialize, Serialize};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

/// A boxed future that can move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Something that answers calls.
pub trait Model: Send + Sync {
    /// Answers one call. While it comes, a streamed answer's chunks go to `sink`; the whole reply is returned either
    /// way. Dropping the future cancels the call: whoever holds something for it (a connection, a reservation)
    /// lets go of it then.
    fn call<'a>(&'a self, call: Call, sink: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>>;
}

/// One call on its way through the stack. Cheap to clone: an attempt is a clone with its own number.
#[derive(Debug, Clone)]
pub struct Call {
    /// The same over all attempts.
    pub id: CallId,
    /// 1 for the first attempt; the planner counts.
    pub attempt: u32,
    /// What is asked.
    pub request: Arc<Request>,
    /// The bytes that a client sent, where it came from one. Then `request` is only the head of it.
    pub source: Option<Arc<Source>>,
    /// On whose behalf.
    pub context: Arc<Context>,
    /// When the caller gives up.
    pub deadline: Timestamp,
}

impl Call {
    /// The first attempt of a call that is made in our words.
    pub fn new(id: CallId, request: Arc<Request>, context: Arc<Context>, deadline: Timestamp) -> Self {
        Self { id, attempt: 1, request, source: None, context, deadline }
    }

    /// The reservation of this attempt.
    pub fn reservation(&self) -> ReservationId {
        ReservationId::of(&self.id, self.attempt)
    }
}

/// On whose behalf a call is made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Context {
    /// The run it belongs to.
    pub run: Option<RunId>,
    /// The epoch of the claim on that run: what its events are appended with.
    pub epoch: u64,
    /// The task it belongs to.
    pub task: Option<TaskId>,
    /// The role it is made in.
    pub role: Option<Role>,
    /// The most the run may cost.
    pub run_limit: Option<Money>,
    /// The runs that it does a part for, and the most that each of them may cost: they pay as well.
    pub payers: Vec<(RunId, Money)>,
    /// The key of the gateway it came with.
    pub key: Option<KeyName>,
    /// What that key may spend.
    pub key_limits: KeyLimits,
    /// How urgent it is.
    pub priority: Priority,
    /// The labels of everything in the request.
    pub labels: Labels,
    /// The only provider that can answer, with its id of the model: what it keeps for the client (a thread, a response) is
    /// a part of the request.
    pub bound: Option<(ProviderName, String)>,
}

/// What a key of the gateway may spend; what is left out has no limit of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyLimits {
    /// Each day anew, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<Money>,
    /// In all, for as long as the key exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<Money>,
}

/// How urgent a call is. Strict classes: a lower one waits for a higher one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Priority {
    /// Nobody waits.
    Batch,
    /// The usual.
    #[default]
    Standard,
    /// A person waits.
    Interactive,
}

/// Where the chunks of a streamed reply go.
///
/// Bounded: a chunk is sent only after `poll_ready` said so, which is how a slow reader slows the provider down.
pub trait Sink: Send {
    /// Whether there is room for one more chunk.
    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Closed>>;

    /// Takes a chunk. Only after `poll_ready` gave `Ready(Ok)`.
    fn send(&mut self, chunk: Chunk);

    /// Whether anybody sees the chunks. A stream that nobody sees has no commit point: it is asked for because it shows
    /// that the provider is alive, and an attempt that breaks off may be made again, whatever had come. Chunks are sent
    /// all the same, for the layers between watch and count them. A sink over a sink says what that one says.
    fn is_seen(&self) -> bool {
        true
    }
}

/// Nobody reads any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the reader of the stream went away")]
pub struct Closed;

/// Waits for room, then sends.
pub async fn deliver(sink: &mut dyn Sink, chunk: Chunk) -> Result<(), Closed> {
    poll_fn(|cx| sink.poll_ready(cx)).await?;
    sink.send(chunk);
    Ok(())
}

/// A sink for callers that want only the whole reply, streamed or not.
#[derive(Debug, Clone, Copy, Default)]
pub struct Discard;

impl Sink for Discard {
    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Closed>> {
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, _: Chunk) {}

    fn is_seen(&self) -> bool {
        false
    }
}
