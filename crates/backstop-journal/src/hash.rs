//! The hash chain: each event is hashed together with the one before it in its stream, so that nothing can be changed,
//! dropped or put in between without the chain breaking there.

use crate::{Event, Seq, StreamId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A link of the chain: BLAKE3, 32 bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The hash of an event: over the hash before it, its place, its time, its epoch and its JSON, each with its length
/// or at a fixed width. The first event of a stream follows on 32 zero bytes.
pub fn chain(prev: Hash, stream: &StreamId, seq: Seq, at_nanos: u64, epoch: u64, json: &str) -> Hash {
    let stream = stream.text();
    // In one piece: most events fit the hash's own unit, and taking it in by parts costs more than the copy.
    let mut whole = Vec::with_capacity(72 + stream.len() + json.len());
    whole.extend(prev.0);
    whole.extend((stream.len() as u64).to_le_bytes());
    whole.extend(stream.as_bytes());
    for number in [seq, at_nanos, epoch, json.len() as u64] {
        whole.extend(number.to_le_bytes());
    }
    whole.extend(json.as_bytes());
    Hash(*blake3::hash(&whole).as_bytes())
}

/// Where a chain breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// An event is missing, or stands twice.
    #[error("{stream}: event {expected} is missing, {found} stands in its place")]
    Gap {
        /// The stream.
        stream: StreamId,
        /// The number that had to come.
        expected: Seq,
        /// The number that came.
        found: Seq,
    },
    /// An event is not what was hashed.
    #[error("{stream}: event {seq} is not what was written")]
    Changed {
        /// The stream.
        stream: StreamId,
        /// The event.
        seq: Seq,
    },
}

/// Checks a stream from its first event on. `json` of each event is the text as it was stored.
pub fn verify<'a>(events: impl IntoIterator<Item = (&'a Event, &'a str)>) -> Result<Hash, ChainError> {
    let mut prev = Hash::default();
    for (seq, (event, json)) in (1..).zip(events) {
        let stream = || event.stream.clone();
        if event.seq != seq {
            return Err(ChainError::Gap { stream: stream(), expected: seq, found: event.seq });
        }
        prev = chain(prev, &event.stream, seq, event.at.nanos(), event.epoch, json);
        if prev != event.hash {
            return Err(ChainError::Changed { stream: stream(), seq });
        }
    }
    Ok(prev)
}
