//! Keeps secrets out of what goes to a model, what comes back, and what is written down: every loaded secret by its value, in
//! the encodings it may turn up in, and well-known kinds of credentials by their form. What is found becomes
//! `[REDACTED:kind]`.
//!
//! The [`Redactor`] is the one that logs, events and pages use too. What it does not look at: the bytes of pictures.

mod beginnings;
mod needles;
mod patterns;
mod raw;
mod stream;
mod walk;

pub use stream::Scrubbed;
pub use walk::RedactingJournal;

use crate::LayerInfo;
use aho_corasick::{AhoCorasick, MatchKind};
use backstop_call::{BoxFuture, Call, Failure, Model, Reply, Secret, Sink};
use beginnings::Beginnings;
use patterns::PATTERNS;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// What this layer is.
pub const INFO: LayerInfo =
    LayerInfo { name: "redact", what: "takes secrets out of what is sent and what comes back" };

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Whether credentials are known by their form too, and not only the loaded secrets by their value.
    pub patterns: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { patterns: true }
    }
}

/// Finds secrets in text. Made once; cheap to share.
pub struct Redactor {
    search: AhoCorasick,
    needles: Vec<Needle>,
    /// The needles' bytes, sorted: what the end of a piece may be the beginning of.
    sorted: Vec<Vec<u8>>,
    needle_bytes_max: usize,
    beginnings: Beginnings,
}

/// What a hit of the search means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needle {
    /// It is a loaded secret, in some encoding.
    Secret,
    /// A credential of this pattern may begin here.
    Prefix(usize),
}

/// A piece of text to be taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    start: usize,
    end: usize,
    name: &'static str,
}

impl Redactor {
    /// A redactor of these secrets. Values of fewer than [`Redactor::SECRET_BYTES_MIN`] bytes are not looked for: they would
    /// turn up everywhere.
    ///
    /// # Panics
    /// Never for secrets of sane size: the automaton would have to pass 2³¹ states.
    pub fn new(secrets: &[Secret], config: Config) -> Self {
        let mut texts: Vec<Vec<u8>> = Vec::new();
        let mut needles = Vec::new();
        for secret in secrets.iter().filter(|secret| secret.expose().len() >= Self::SECRET_BYTES_MIN) {
            for text in needles::encodings(secret.expose()) {
                texts.push(text);
                needles.push(Needle::Secret);
            }
        }
        if config.patterns {
            for (i, pattern) in PATTERNS.iter().enumerate() {
                for prefix in pattern.prefixes {
                    texts.push(prefix.as_bytes().to_vec());
                    needles.push(Needle::Prefix(i));
                }
            }
        }
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .kind(Some(aho_corasick::AhoCorasickKind::DFA))
            .build(&texts)
            .expect("the needles are far below the automaton's 2^31 states");
        let needle_bytes_max = texts.iter().map(Vec::len).max().unwrap_or(0);
        let beginnings = Beginnings::of(&texts);
        texts.sort();
        texts.dedup();
        Self { search, needles, sorted: texts, needle_bytes_max, beginnings }
    }

    /// The shortest value that is looked for.
    pub const SECRET_BYTES_MIN: usize = 6;

    /// The text without secrets: the same text when there was none.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let found = self.find(text);
        if found.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(replaced(text, &found)) }
    }

    /// All that is to be taken out, in order, without overlaps.
    fn find(&self, text: &str) -> Vec<Found> {
        if !self.beginnings.any_in(text.as_bytes()) {
            return Vec::new();
        }
        let mut found: Vec<Found> = Vec::new();
        for hit in self.search.find_overlapping_iter(text) {
            match self.needles[hit.pattern().as_usize()] {
                Needle::Secret => {
                    found.push(Found { start: hit.start(), end: hit.end(), name: "secret" });
                }
                Needle::Prefix(pattern) => {
                    if let Some(end) = PATTERNS[pattern].matches(text, hit.start()) {
                        found.push(Found { start: hit.start(), end, name: PATTERNS[pattern].name });
                    }
                }
            }
        }
        merged(found)
    }

    /// Up to where a text that goes on can be judged now: what follows may be the beginning of a secret.
    fn settled(&self, text: &str) -> usize {
        let open = |hit: aho_corasick::Match| match self.needles[hit.pattern().as_usize()] {
            Needle::Secret => None,
            Needle::Prefix(pattern) => PATTERNS[pattern].open_at(text, hit.start()).then_some(hit.start()),
        };
        let credential = if self.beginnings.any_in(text.as_bytes()) {
            self.search.find_overlapping_iter(text).filter_map(open).min()
        } else {
            None
        };
        let bytes = text.as_bytes();
        let from = bytes.len().saturating_sub(self.needle_bytes_max.saturating_sub(1));
        let begins = |tail: &[u8]| {
            let next = self.sorted.partition_point(|needle| needle.as_slice() < tail);
            self.sorted.get(next).is_some_and(|needle| needle.len() > tail.len() && needle.starts_with(tail))
        };
        let may = |at: &usize| self.beginnings.may_begin(&bytes[*at..]) && text.is_char_boundary(*at);
        let needle = (from..bytes.len()).filter(may).find(|at| begins(&bytes[*at..]));
        credential.unwrap_or(bytes.len()).min(needle.unwrap_or(bytes.len()))
    }
}

/// Joins what overlaps: the earliest start, the latest end, the name of the longest.
fn merged(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_by_key(|hit| (hit.start, std::cmp::Reverse(hit.end)));
    let mut whole: Vec<Found> = Vec::with_capacity(found.len());
    for hit in found {
        match whole.last_mut() {
            Some(last) if hit.start < last.end => last.end = last.end.max(hit.end),
            Some(_) | None => whole.push(hit),
        }
    }
    whole
}

fn replaced(text: &str, found: &[Found]) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut from = 0;
    for hit in found {
        clean.push_str(&text[from..hit.start]);
        clean.push_str("[REDACTED:");
        clean.push_str(hit.name);
        clean.push(']');
        from = hit.end;
    }
    clean.push_str(&text[from..]);
    clean
}

/// Puts the layer on a model.
pub fn layer(inner: Arc<dyn Model>, redactor: Arc<Redactor>) -> Arc<dyn Model> {
    Arc::new(Redact { inner, redactor })
}

struct Redact {
    inner: Arc<dyn Model>,
    redactor: Arc<Redactor>,
}

impl Model for Redact {
    fn call<'a>(&'a self, call: Call, sink: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        Box::pin(async move {
            let request = walk::clean_request(&self.redactor, &call.request);
            let source = call.source.as_ref().map(|source| walk::clean_source(&self.redactor, source));
            let mut scrubbed = Scrubbed::new(sink, &self.redactor);
            let result = self.inner.call(Call { request, source, ..call }, &mut scrubbed).await;
            // The reader may be gone; the reply is returned all the same.
            let _ = scrubbed.finish().await;
            match result {
                Ok(mut reply) => {
                    walk::clean_reply(&self.redactor, &mut reply);
                    Ok(reply)
                }
                Err(mut failure) => {
                    walk::clean_failure(&self.redactor, &mut failure);
                    Err(failure)
                }
            }
        })
    }
}
