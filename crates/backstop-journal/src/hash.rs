//! The hash chain: each event is hashed together with the one before it in its stream, so that nothing can be changed,
//! dropped or put in between without the chain breaking there. What a run said can be erased, and the chain stays whole.

use crate::event::{Rechained, RunErased};
use crate::{Blind, Epoch, Event, EventBody, Parts, Seq, StreamId};
use backstop_call::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A link of the chain: BLAKE3, 32 bytes; hex in JSON.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl TryFrom<String> for Hash {
    type Error = blake3::HexError;
    fn try_from(text: String) -> Result<Self, blake3::HexError> {
        blake3::Hash::from_hex(text).map(|hash| Self(*hash.as_bytes()))
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a link goes over beside a text: where it stands, and what it is.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The stream.
    pub stream: &'a StreamId,
    /// The number in it.
    pub seq: Seq,
    /// When it happened.
    pub at: Timestamp,
    /// The epoch of the claim under which it was written.
    pub epoch: Epoch,
    /// The kind.
    pub kind: &'a str,
    /// The version of the kind that the text is of.
    pub version: u32,
}

/// The link of an event: over the link before it, its place, and its text, of which each part that can be erased counts by its
/// digest, whether it is there or not. All has its length before it, or a fixed width. The first event of a stream follows on
/// 32 zero bytes.
pub fn link(prev: Hash, place: &Place<'_>, text: &str, parts: &Parts, blind: &Blind) -> Hash {
    let stream = place.stream.text();
    // In one piece: most events fit the hash's own unit, and taking it in by parts costs more than the copy.
    let mut whole = Vec::with_capacity(128 + stream.len() + text.len());
    whole.extend(prev.0);
    for name in [&stream, place.kind] {
        whole.extend((name.len() as u64).to_le_bytes());
        whole.extend(name.as_bytes());
    }
    for number in [place.seq, place.at.nanos(), place.epoch, u64::from(place.version)] {
        whole.extend(number.to_le_bytes());
    }
    parts.write(text, blind, &mut whole);
    Hash(*blake3::hash(&whole).as_bytes())
}

/// The link of an event as it was before format 3: over the whole text, which says the kind itself, and no version.
pub fn old_link(prev: Hash, place: &Place<'_>, text: &str) -> Hash {
    let stream = place.stream.text();
    let mut whole = Vec::with_capacity(72 + stream.len() + text.len());
    whole.extend(prev.0);
    whole.extend((stream.len() as u64).to_le_bytes());
    whole.extend(stream.as_bytes());
    for number in [place.seq, place.at.nanos(), place.epoch, text.len() as u64] {
        whole.extend(number.to_le_bytes());
    }
    whole.extend(text.as_bytes());
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

/// How the links of a stream are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Links {
    /// The first event with a [`link`]; those before it have an [`old_link`].
    pub framed: Seq,
    /// What its digests are keyed with, as long as there is something to key.
    pub blind: Option<Blind>,
}

/// An event with what is stored of it.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    /// The event.
    pub event: &'a Event,
    /// The version of its kind that the text is of.
    pub version: u32,
    /// The text.
    pub text: &'a str,
}

impl<'a> Stored<'a> {
    /// Where it stands.
    pub fn place(&self) -> Place<'a> {
        let Event { stream, seq, at, epoch, body, .. } = self.event;
        let (seq, at, epoch) = (*seq, *at, *epoch);
        Place { stream, seq, at, epoch, kind: body.kind(), version: self.version }
    }

    /// What of its text can be erased, or was.
    pub fn parts(&self) -> Parts {
        Parts::of(&self.event.stream, self.event.body.kind(), self.text)
    }
}

/// Checks a stream from its first event on. Gives its last link.
///
/// An old link cannot be worked out any more once a part of its text is erased. Then the `run.erased` that came of it vouches
/// for what is left of the texts: it has the last old link, which was right when it was erased.
pub fn verify<'a>(links: &Links, events: impl IntoIterator<Item = Stored<'a>>) -> Result<Hash, ChainError> {
    let blind = links.blind.unwrap_or_default();
    let (mut last, mut old, mut broken) = (Hash::default(), Rechained::default(), None);
    for (seq, stored) in (1..).zip(events) {
        let Stored { event, text, .. } = stored;
        if event.seq != seq {
            return Err(ChainError::Gap { stream: event.stream.clone(), expected: seq, found: event.seq });
        }
        let place = stored.place();
        let right = if seq < links.framed {
            old = rechained(old, &stored, &blind);
            old_link(last, &place, text)
        } else {
            link(last, &place, text, &stored.parts(), &blind)
        };
        last = event.hash;
        if right != last {
            let changed = || ChainError::Changed { stream: event.stream.clone(), seq };
            if seq >= links.framed {
                return Err(changed());
            }
            broken.get_or_insert_with(changed);
        }
        if seq >= links.framed && vouches(&event.body, &old) {
            broken = None;
        }
    }
    broken.map_or(Ok(last), Err)
}

/// One more event with an old link. Frame and digests are the same before it is erased and after.
fn rechained(old: Rechained, stored: &Stored<'_>, blind: &Blind) -> Rechained {
    let now = link(old.now, &stored.place(), stored.text, &stored.parts(), blind);
    Rechained { was: stored.event.hash, now }
}

fn vouches(body: &EventBody, old: &Rechained) -> bool {
    matches!(body, EventBody::RunErased(RunErased { rechained: Some(then), .. }) if then == old)
}

/// What is to be written to erase what a run said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// The texts that change, each with the number of its event.
    pub texts: Vec<(Seq, String)>,
    /// How many parts go.
    pub parts: u64,
    /// Their length, in bytes of JSON.
    pub bytes: u64,
    /// What vouches for events with old links, where some of those change.
    pub rechained: Option<Rechained>,
}

/// What erases a run: all its events, with a blind.
///
/// # Errors
/// A chain with old links that is broken already: afterwards nobody could tell.
pub fn erase(links: &Links, events: &[Stored<'_>]) -> Result<Erasure, ChainError> {
    let blind = links.blind.unwrap_or_default();
    let mut erasure = Erasure { texts: Vec::new(), parts: 0, bytes: 0, rechained: None };
    let mut old = Rechained::default();
    for stored in events {
        let Stored { event, text, .. } = stored;
        let remains = stored.parts().erase(text, &blind);
        let is_old = event.seq < links.framed;
        if is_old {
            old = rechained(old, stored, &blind);
        }
        if remains.parts > 0 {
            erasure.texts.push((event.seq, remains.text));
            erasure.parts += remains.parts;
            erasure.bytes += remains.bytes;
            erasure.rechained = erasure.rechained.or(is_old.then_some(Rechained::default()));
        }
    }
    if erasure.rechained.is_some() {
        verify(links, events.iter().copied())?;
        erasure.rechained = Some(old);
    }
    Ok(erasure)
}
