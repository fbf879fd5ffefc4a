//! Streams of events, for the tests that begin with the bytes of one.

use backstop_call::Chunk;
use backstop_wire::sse::{RawEvent, SseError, SseParser};
use backstop_wire::{StreamError, StreamParser};
use bytes::Bytes;

/// The events that one read completes.
pub(crate) fn push(parser: &mut SseParser, read: &[u8]) -> Result<Vec<RawEvent>, SseError> {
    let mut read = Bytes::copy_from_slice(read);
    let mut events = Vec::new();
    while let Some(event) = parser.take(&mut read)? {
        events.push(event);
    }
    assert!(read.is_empty(), "all of a read is taken");
    Ok(events)
}

/// An event, apart from the bytes that it came in: its name, if it has one, and its data.
pub(crate) type Said = (Option<String>, String);

/// What the events say that say anything.
pub(crate) fn said(events: &[RawEvent]) -> Result<Vec<Said>, SseError> {
    let said = events.iter().filter_map(|raw| raw.event().transpose());
    said.map(|event| event.map(|event| (event.event.map(str::to_owned), event.data.into_owned()))).collect()
}

/// The chunks that the events of some bytes are.
pub(crate) fn chunks(parser: &mut StreamParser, bytes: &[u8]) -> Result<Vec<Chunk>, StreamError> {
    let mut chunks = Vec::new();
    for raw in push(&mut SseParser::new(1 << 20), bytes).unwrap() {
        if let Some(event) = raw.event().unwrap() {
            chunks.extend(parser.push(&event)?);
        }
    }
    Ok(chunks)
}
