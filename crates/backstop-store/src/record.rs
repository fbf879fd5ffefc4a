//! An event on its way into a store and back: large bodies out to blobs and in again. The same for every store. Pure, but for the
//! blinds that it makes of the system's random bytes.

use backstop_call::{RunId, Timestamp};
use backstop_journal::event::{QueueTerms, RunCreated};
use backstop_journal::projections::history::RunSummary;
use backstop_journal::projections::queue::Queued;
use backstop_journal::{
    Blind, Blob, BlobHash, Body, Event, EventBody, INLINE_MAX_BYTES, JournalError, Parts, Stored, StreamId,
};
use bytes::Bytes;

/// An event that is ready to be stored.
pub(crate) struct Record {
    /// What happened; large bodies are references.
    pub(crate) body: EventBody,
    /// The text that is hashed and stored.
    pub(crate) json: String,
    /// What of the text can be erased.
    pub(crate) parts: Parts,
    /// The large bodies.
    pub(crate) blobs: Vec<Blob>,
    /// The large bodies that it refers to, also those that are there already.
    pub(crate) uses: Vec<BlobHash>,
}

impl Record {
    /// Encodes an event of a stream, and moves large bodies out.
    pub(crate) fn of(stream: &StreamId, body: EventBody) -> Self {
        let json = body.encode();
        Self::encoded(stream, body, json)
    }

    /// Moves large bodies out of an event that is encoded already. Most have none, and stay as they are.
    pub(crate) fn encoded(stream: &StreamId, mut body: EventBody, mut json: String) -> Self {
        let (mut blobs, mut uses) = (Vec::new(), Vec::new());
        // A body is a part of the text.
        let is_long = json.len() > INLINE_MAX_BYTES;
        for body in body.bodies_mut() {
            blobs.extend(is_long.then(|| body.spill(INLINE_MAX_BYTES)).flatten());
            uses.extend(body.blob().cloned());
        }
        if !blobs.is_empty() {
            json = body.encode();
        }
        let parts = Parts::of(stream, body.kind(), &json);
        Self { body, json, parts, blobs, uses }
    }
}

/// An event as it is stored.
#[derive(Debug)]
pub(crate) struct Written {
    /// The event; large bodies are references.
    pub(crate) event: Event,
    /// The version of its kind that the text is of.
    pub(crate) version: u32,
    /// The text.
    pub(crate) text: String,
}

impl Written {
    /// What its link goes over.
    pub(crate) fn stored(&self) -> Stored<'_> {
        Stored { event: &self.event, version: self.version, text: &self.text }
    }
}

/// A blind for a stream that says something for the first time.
pub(crate) fn new_blind() -> Result<Blind, JournalError> {
    let mut blind = Blind::default();
    let none = |error| JournalError::Unusable(format!("the system gives no random bytes: {error}"));
    getrandom::fill(&mut blind.0).map_err(none)?;
    Ok(blind)
}

/// Puts the bodies back that are still there. What was erased stays a reference.
pub(crate) fn restore<E>(
    body: &mut EventBody,
    mut blob: impl FnMut(&BlobHash) -> Result<Option<Bytes>, E>,
) -> Result<(), E> {
    for body in body.bodies_mut() {
        let Body::Blob { hash, .. } = body else { continue };
        let Some(bytes) = blob(hash)? else { continue };
        // Bytes that are no JSON were damaged on the disk: they are as good as erased, and the hash still says so.
        if let Ok(value) = serde_json::from_slice(&bytes) {
            *body = Body::Inline(value);
        }
    }
    Ok(())
}

/// The run of a stream.
pub(crate) fn run_of(stream: &StreamId) -> Option<&RunId> {
    match stream {
        StreamId::Run(run) => Some(run),
        StreamId::Calls
        | StreamId::Ledger
        | StreamId::Node
        | StreamId::Keys
        | StreamId::Grants
        | StreamId::Alerts
        | StreamId::Jobs => None,
    }
}

/// Folds an event of a run into its summary.
pub(crate) fn summarize(summary: &mut Option<RunSummary>, run: &RunId, event: &Event) {
    match summary {
        Some(summary) => summary.apply(event),
        None => *summary = RunSummary::start(run, event),
    }
}

/// The run that tries the task of one that failed anew, and its first event. Its id comes from that one's: the same from the
/// same, so no seed is needed for it.
pub(crate) fn next_try(
    failed: &RunId,
    queued: Queued,
    created: RunCreated,
    at: Timestamp,
) -> (RunId, RunCreated) {
    let hash = blake3::hash(failed.as_str().as_bytes());
    let random = u64::from_le_bytes(std::array::from_fn(|byte| hash.as_bytes()[byte]));
    let terms = QueueTerms { due: at, tried: queued.tried, ..queued.terms };
    (RunId::new(at, random), RunCreated { queue: Some(terms), ..created })
}
