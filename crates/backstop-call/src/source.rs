//! What a client sent and what a provider answered, byte for byte: where both speak the same dialect nothing is written
//! anew. Owns the bytes, and where in them the few things stand that are changed on the way; what they mean is known to
//! the dialects.

use crate::{Dialect, Failure, ProviderName, Request, Size};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, StatusCode};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// A request as a client sent it. A call that has one is decided upon by the head of its [`Request`] (the model, the most
/// tokens, whether it streams); the content stays in these bytes, and is read only when it must leave in another dialect.
#[derive(Debug, Clone)]
pub struct Source {
    /// What the client speaks.
    pub dialect: Dialect,
    /// What is wanted.
    pub purpose: Purpose,
    /// The model, by the name that the client asked for it.
    pub model: String,
    /// By which HTTP status the client is told of a failure: for the record.
    pub status_of: fn(&Failure) -> u16,
    /// The body: valid JSON, and so UTF-8.
    pub body: Bytes,
    /// The client's headers that are the provider's business: versions, betas, ids.
    pub headers: HeaderMap,
    /// Where in the body the fields stand that may be changed.
    pub places: Places,
    /// How much the body says.
    pub size: Size,
    /// The whole request in our words, once somebody needed it; an error is why it cannot be had.
    pub canonical: Canonical,
}

/// The whole request, read from the bytes at most once, whoever needs it.
pub type Canonical = OnceLock<Result<Whole, String>>;

/// A request that was read from its bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Whole {
    /// The request.
    pub request: Arc<Request>,
    /// What of it has no place in our words, by the names of the fields.
    pub left_out: Vec<String>,
}

/// What is wanted of a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Purpose {
    /// An answer.
    #[default]
    Answer,
    /// The number of tokens that the request has. Costs nothing.
    Count,
}

/// Where the fields of a body stand that may be changed on the way, as ranges of bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// The value of `model`, quotes included.
    pub model: Range<usize>,
    /// The name of the field that limits the output, quotes included; `None` also where two fields do.
    pub output_limit_name: Option<Range<usize>>,
    /// Its value.
    pub output_limit: Option<Range<usize>>,
    /// The value of `stream_options`.
    pub stream_options: Option<Range<usize>>,
    /// Behind the brace that opens the body: where a field can be put in.
    pub front: usize,
}

/// A change of a body: what stands in a range is replaced. An empty range is an insertion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// What is replaced.
    pub range: Range<usize>,
    /// By what.
    pub with: String,
}

impl Source {
    /// The same with changes, which must be in order and not overlap. The places move along.
    #[must_use]
    pub fn edited(&self, edits: &[Edit]) -> Self {
        let moved = |range: &Range<usize>| shifted(range.start, edits)..shifted_end(range.end, edits);
        let places = Places {
            model: moved(&self.places.model),
            output_limit_name: self.places.output_limit_name.as_ref().map(moved),
            output_limit: self.places.output_limit.as_ref().map(moved),
            stream_options: self.places.stream_options.as_ref().map(moved),
            front: shifted(self.places.front, edits),
        };
        Self {
            body: apply(&self.body, edits),
            model: self.model.clone(),
            headers: self.headers.clone(),
            canonical: Canonical::default(),
            places,
            ..*self
        }
    }
}

/// A text with changes, which must be in order and not overlap. Without any it is the same memory.
pub fn apply(text: &Bytes, edits: &[Edit]) -> Bytes {
    if edits.is_empty() {
        return text.clone();
    }
    let more: usize = edits.iter().map(|edit| edit.with.len()).sum();
    let mut out = BytesMut::with_capacity(text.len() + more);
    let mut from = 0;
    for edit in edits {
        out.extend_from_slice(&text[from..edit.range.start]);
        out.extend_from_slice(edit.with.as_bytes());
        from = edit.range.end;
    }
    out.extend_from_slice(&text[from..]);
    out.freeze()
}

/// Where the beginning of something lies after changes; one within a change goes to its beginning.
fn shifted(at: usize, edits: &[Edit]) -> usize {
    let (mut removed, mut added) = (0, 0);
    for edit in edits.iter().take_while(|edit| edit.range.start < at) {
        removed += edit.range.end.min(at) - edit.range.start;
        added += if edit.range.end <= at { edit.with.len() } else { 0 };
    }
    at + added - removed
}

/// Where the end of something lies after changes; one within a change goes to its end.
fn shifted_end(at: usize, edits: &[Edit]) -> usize {
    let (mut removed, mut added) = (0, 0);
    for edit in edits.iter().take_while(|edit| edit.range.start < at) {
        removed += edit.range.end.min(at) - edit.range.start;
        added += edit.with.len();
    }
    at + added - removed
}

/// An answer as the provider sent it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Its status.
    pub status: StatusCode,
    /// Its headers that are the client's business.
    pub headers: HeaderMap,
    /// Its body; empty where it comes as a stream.
    pub body: Bytes,
}

/// The headers that `keep` says yes to, each with all its values, and room for as many of our own as are added on the way.
pub fn headers_kept(headers: HeaderMap, keep: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    const ADDED: usize = 8;
    let mut kept = HeaderMap::with_capacity(headers.keys_len() + ADDED);
    let mut last = None;
    for (name, value) in headers {
        // A further value of a header comes without its name.
        if let Some(name) = name {
            last = Some(name).filter(&keep);
        }
        if let Some(name) = &last {
            kept.append(name, value);
        }
    }
    kept
}

/// Who answers: sent ahead of an answer by the attempt that gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// The provider.
    pub provider: ProviderName,
    /// The model, by the provider's id.
    pub model: String,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The provider's headers that are the client's business.
    pub headers: HeaderMap,
    /// What of the request the provider's dialect could not carry, in words for people.
    pub lost: Vec<String>,
}

/// Bytes of a stream as they came, and what they say. Whoever changes what they say hands on the chunks without the bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// The bytes: whole events of the client's dialect.
    pub bytes: Bytes,
    /// What they say; never another frame.
    pub says: Vec<crate::Chunk>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(range: Range<usize>, with: &str) -> Edit {
        Edit { range, with: with.to_owned() }
    }

    #[test]
    fn edits_and_the_places_behind_them() {
        let body = r#"{"a":"secret","model":"m","stream_options":{}}"#;
        let find = |text: &str| {
            let at = body.find(text).unwrap();
            at..at + text.len()
        };
        let source = Source {
            dialect: Dialect::Chat,
            purpose: Purpose::Answer,
            model: "m".to_owned(),
            status_of: |_| 500,
            body: Bytes::from_static(body.as_bytes()),
            headers: HeaderMap::new(),
            places: Places {
                model: find("\"m\""),
                output_limit_name: None,
                output_limit: None,
                stream_options: Some(find("{}")),
                front: 1,
            },
            size: Size::default(),
            canonical: Canonical::default(),
        };
        let rows: [(&[Edit], &str, &str, &str); 4] = [
            (&[], body, "\"m\"", "{}"),
            (&[edit(6..12, "no")], r#"{"a":"no","model":"m","stream_options":{}}"#, "\"m\"", "{}"),
            (
                &[edit(1..1, "\"x\":1,"), edit(6..12, "a longer text"), edit(22..25, "\"other\"")],
                r#"{"x":1,"a":"a longer text","model":"other","stream_options":{}}"#,
                "\"other\"",
                "{}",
            ),
            // A change within the model's name, and one that reaches over its beginning.
            (&[edit(20..24, "X")], r#"{"a":"secret","modelX","stream_options":{}}"#, "X\"", "{}"),
        ];
        for (edits, want, model, options) in rows {
            let edited = source.edited(edits);
            assert_eq!(edited.body, want);
            assert_eq!(&edited.body[edited.places.model.clone()], model.as_bytes(), "{edits:?}");
            assert_eq!(&edited.body[edited.places.stream_options.unwrap()], options.as_bytes(), "{edits:?}");
        }
    }
}
