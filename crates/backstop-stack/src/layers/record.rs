//! What happened to a call, as events. Outside runs this layer, the outermost, appends the end of every call to the calls'
//! stream, also when the caller goes away: one event that is the whole record of it, since a gateway's calls are many and
//! nobody goes on with one that a crash cut off (what it may cost is known to the ledger). Inside runs the agent appends those itself, in one commit
//! with the tools the answer asks for; only failed attempts come from here.
//!
//! Nothing waits for the journal: appends are queued, and their futures are dropped.

use crate::LayerInfo;
use crate::estimate::call_tokens_likely;
use backstop_call::{
    AttemptRecord, BoxFuture, Call, CallId, Clock, Failure, FailureKind, Labels, Model, Money, Progress,
    ProviderName, Reply, Sink, Timestamp,
};
use backstop_journal::event::{Asked, AttemptFailed, CallFailed, CallFinished};
use backstop_journal::{Append, Body, Durability, EventBody, Journal, StreamId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What this layer is.
pub const INFO: LayerInfo = LayerInfo { name: "record", what: "appends what happened to the journal" };

/// Appends the stack's events.
#[derive(Clone)]
pub struct Recorder {
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    /// The failed attempts of the calls that are under way outside runs, of those that have some. Such a call may be
    /// dropped, and then nobody hands them up: what it cost is known here alone.
    failed: Arc<Mutex<HashMap<CallId, Vec<AttemptRecord>>>>,
}

impl Recorder {
    /// A recorder into this journal.
    pub fn new(journal: Arc<dyn Journal>, clock: Arc<dyn Clock>) -> Self {
        Self { journal, clock, failed: Arc::default() }
    }

    /// An attempt of this call failed: into the run's stream, or the calls'.
    pub fn attempt_failed(&self, call: &Call, attempt: &AttemptRecord) {
        let (stream, epoch) = if let Some(run) = &call.context.run {
            (StreamId::Run(run.clone()), Some(call.context.epoch))
        } else {
            self.failed().entry(call.id.clone()).or_default().push(attempt.clone());
            (StreamId::Calls, None)
        };
        let event = AttemptFailed { call: call.id.clone(), attempt: attempt.clone() };
        self.append(stream, epoch, event.into());
    }

    /// Something happened to this installation.
    pub fn node(&self, event: impl Into<EventBody>) {
        self.append(StreamId::Node, None, event.into());
    }

    /// Forgets a call; gives its failed attempts.
    fn end(&self, call: &CallId) -> Vec<AttemptRecord> {
        let mut failed = self.failed();
        // Nearly always nothing failed, and then there is nothing to look for.
        if failed.is_empty() { Vec::new() } else { failed.remove(call).unwrap_or_default() }
    }

    /// A panic elsewhere leaves at worst an attempt unremembered, so the map stays good for use.
    fn failed(&self) -> MutexGuard<'_, HashMap<CallId, Vec<AttemptRecord>>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, stream: StreamId, epoch: Option<u64>, event: EventBody) {
        let at = self.clock.now();
        let append = Append { stream, epoch, events: vec![event], at, durability: Durability::Queued };
        // The append is in the writer's queue already; whether it is durable yet is nothing a call waits for.
        drop(self.journal.append(append));
    }
}

/// Puts the layer on a model.
pub fn layer(inner: Arc<dyn Model>, recorder: Recorder) -> Arc<dyn Model> {
    Arc::new(Record { inner, recorder })
}

/// How a call began.
#[derive(Debug, Clone)]
pub struct Begun {
    /// The call.
    pub call: CallId,
    /// When.
    pub at: Timestamp,
    /// What was asked, and by whom.
    pub asked: Asked,
    /// The labels of what is sent, and so of the answer.
    pub labels: Labels,
    /// By which status a client is told of a failure, where there is one.
    pub status_of: Option<fn(&Failure) -> u16>,
}

impl Begun {
    /// The beginning of a call.
    pub fn of(call: &Call, at: Timestamp) -> Self {
        let source = call.source.as_ref();
        let asked = Asked {
            model: source.map_or(call.request.model.as_str(), |source| &source.model).into(),
            input_tokens: call_tokens_likely(call),
            task: call.context.task.clone(),
            role: call.context.role.clone(),
            key: call.context.key.clone(),
            dialect: source.map(|source| source.dialect),
        };
        let status_of = source.map(|source| source.status_of);
        Self { call: call.id.clone(), at, asked, labels: crate::layers::labels_of(call), status_of }
    }
}

/// How a call ended, as an event. The content is left out: outside runs nobody reads it again.
pub fn decide(begun: Begun, now: Timestamp, result: Result<&Reply, &Failure>) -> EventBody {
    let Begun { call, at, asked, labels, status_of } = begun;
    let cost = |attempts: &[AttemptRecord]| attempts.iter().map(|attempt| attempt.cost).sum::<Money>();
    let duration = now.since(at);
    match result {
        Ok(reply) => CallFinished {
            call,
            turn: 0,
            provider: reply
                .attempts
                .last()
                .map_or_else(|| ProviderName::from(""), |attempt| attempt.provider.clone()),
            model: reply.model.clone(),
            content: Body::default(),
            stop: reply.stop.clone(),
            usage: reply.usage,
            cost: cost(&reply.attempts),
            duration,
            first_token: reply.first_token,
            request_id: reply.request_id.clone(),
            attempts: reply.attempts.clone().into(),
            labels,
            asked: Some(asked),
            status: status_of.map(|_| 200),
        }
        .brief()
        .into(),
        Err(failure) => CallFailed {
            call,
            turn: 0,
            failure: failure.clone(),
            cost: cost(&failure.detail.attempts),
            duration,
            labels,
            asked: Some(asked),
            status: status_of.map(|status_of| status_of(failure)),
        }
        .into(),
    }
}

struct Record {
    inner: Arc<dyn Model>,
    recorder: Recorder,
}

impl Model for Record {
    fn call<'a>(&'a self, call: Call, sink: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        if call.context.run.is_some() {
            return self.inner.call(call, sink);
        }
        Box::pin(async move {
            let begun = Begun::of(&call, self.recorder.clock.now());
            let mut open = Open { recorder: &self.recorder, begun: Some(begun) };
            let result = self.inner.call(call, sink).await;
            open.end(result.as_ref());
            result
        })
    }
}

/// A call whose end is not in the journal yet. Dropped with the call's future, it says that the caller went away, and
/// what the call had cost by then: the budget layer, which lies below and is dropped before, has told of the attempt that
/// was under way.
struct Open<'a> {
    recorder: &'a Recorder,
    /// `None` once it has ended.
    begun: Option<Begun>,
}

impl Open<'_> {
    fn end(&mut self, result: Result<&Reply, &Failure>) {
        let Some(begun) = self.begun.take() else { return };
        drop(self.recorder.end(&begun.call));
        let event = decide(begun, self.recorder.clock.now(), result);
        self.recorder.append(StreamId::Calls, None, event);
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if let Some(begun) = &self.begun {
            let attempts = self.recorder.end(&begun.call);
            let progress = attempts.last().map_or(Progress::NotSent, |last| last.progress);
            let mut failure = Failure::new(FailureKind::Cancelled, progress, "the caller went away");
            failure.detail.attempts = attempts;
            self.end(Err(&failure));
        }
    }
}
