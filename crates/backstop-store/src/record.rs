//! An event on its way into a store and back: large bodies out to blobs and in again. Pure; the same for every store,
//! so that the same events have the same hashes everywhere.

use backstop_call::{RunId, Timestamp};
use backstop_journal::event::{QueueTerms, RunCreated};
use backstop_journal::projections::history::RunSummary;
use backstop_journal::projections::queue::Queued;
use backstop_journal::{Blob, BlobHash, Body, Event, EventBody, INLINE_MAX_BYTES, StreamId};
use bytes::Bytes;

/// An event that is ready to be stored.
pub(crate) struct Record {
    /// What happened; large bodies are references.
    pub(crate) body: EventBody,
    /// The text that is hashed and stored.
    pub(crate) json: String,
    /// The large bodies.
    pub(crate) blobs: Vec<Blob>,
}

impl Record {
    /// Encodes an event, and moves large bodies out.
    pub(crate) fn of(body: EventBody) -> Self {
        let json = body.encode();
        Self::encoded(body, json)
    }

    /// Moves large bodies out of an event that is encoded already. Most have none, and stay as they are.
    pub(crate) fn encoded(mut body: EventBody, json: String) -> Self {
        // A body is a part of the text.
        if json.len() <= INLINE_MAX_BYTES {
            return Self { body, json, blobs: Vec::new() };
        }
        let spill = |body: &mut Body| body.spill(INLINE_MAX_BYTES);
        let blobs: Vec<_> = body.bodies_mut().into_iter().filter_map(spill).collect();
        let json = if blobs.is_empty() { json } else { body.encode() };
        Self { body, json, blobs }
    }
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
