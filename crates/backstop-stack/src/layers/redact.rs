//! Keeps secrets out of what goes to a model, what comes back, and what is written down: every loaded secret by its value, in
//! the encodings it may turn up in, and well-known kinds of credentials by their form. What is found becomes
//! `[REDACTED:kind]`.
//!
//! The [`Redactor`] is the one that logs, events and pages use too. What it does not look at: the bytes of pictures.

mod beginnings;
mod ends;
mod needles;
mod patterns;
mod raw;
mod stream;
mod walk;
mod words;

pub use stream::Scrubbed;
pub use walk::RedactingJournal;

use crate::LayerInfo;
use aho_corasick::automaton::Automaton;
use aho_corasick::dfa::DFA;
use aho_corasick::{Anchored, Input, MatchKind};
use backstop_call::{BoxFuture, Call, Failure, Model, Reply, Secret, Sink};
use ends::Ends;
use patterns::PATTERNS;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use words::{Places, Shape};

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
    search: DFA,
    needles: Vec<Needle>,
    places: Places,
    ends: Ends,
    /// Its own: by which shared texts know that they were looked through by it.
    number: u64,
}

/// How many redactors were made.
static MADE: AtomicU64 = AtomicU64::new(0);

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
        let search = DFA::builder()
            .match_kind(MatchKind::Standard)
            .build(&texts)
            .expect("the needles are far below the automaton's 2^31 states");
        let each = || texts.iter().map(Vec::as_slice).zip(needles.iter().copied());
        let places = Places::of(each().map(|(text, needle)| match needle {
            Needle::Secret => Shape::Text(text),
            Needle::Prefix(pattern) if PATTERNS[pattern].has_long_word => Shape::Beginning(text),
            Needle::Prefix(_) => Shape::Apart(text),
        }));
        let ends = Ends::of(&search, each());
        Self { search, needles, places, ends, number: MADE.fetch_add(1, Ordering::Relaxed) + 1 }
    }

    /// The shortest value that is looked for.
    pub const SECRET_BYTES_MIN: usize = 6;

    /// Whether there is anything to look for.
    fn looks(&self) -> bool {
        !self.needles.is_empty()
    }

    /// The text without secrets: the same text when there was none.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let found = self.find(text);
        if found.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(replaced(text, &found)) }
    }

    /// All that is to be taken out, in order, without overlaps.
    fn find(&self, text: &str) -> Vec<Found> {
        let mut found = Vec::new();
        if !self.is_suspect(text.as_bytes()) {
            return found;
        }
        for place in self.places.in_text(text.as_bytes()) {
            self.find_in(place, text, &mut found);
        }
        merged(found)
    }

    /// Whether a needle stands in the text: as a rule none does, and then nothing more is asked.
    fn is_suspect(&self, text: &[u8]) -> bool {
        let has_needle = |place| {
            let hit = self.search.try_find(&Input::new(text).range(place));
            hit.expect("the automaton is made for searches of this kind").is_some()
        };
        self.places.in_text(text).any(has_needle)
    }

    fn find_in(&self, place: Range<usize>, text: &str, found: &mut Vec<Found>) {
        let hits = self.search.try_find_overlapping_iter(Input::new(text).range(place));
        for hit in hits.expect("the automaton is made for searches of this kind") {
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
    }

    /// Up to where a text that goes on can be judged now: what follows may be the beginning of a secret.
    fn settled(&self, text: &str) -> usize {
        let mut state = self.ends.start();
        let mut credential = text.len();
        for (at, byte) in text.bytes().enumerate() {
            state = self.search.next_state(Anchored::No, state, byte);
            if !self.search.is_match(state) {
                continue;
            }
            for nth in 0..self.search.match_len(state) {
                let hit = self.search.match_pattern(state, nth);
                let start = at + 1 - self.search.pattern_len(hit);
                if let Needle::Prefix(pattern) = self.needles[hit.as_usize()]
                    && start < credential
                    && PATTERNS[pattern].open_at(text, start)
                {
                    credential = start;
                }
            }
        }
        credential.min(self.ends.begun(text, state))
    }
}

/// Joins what overlaps: the earliest start, the latest end, the name of the longest.
fn merged(mut found: Vec<Found>) -> Vec<Found> {
    if found.is_empty() {
        return found;
    }
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

/// Puts the layer on a model; where nothing is looked for, there is none.
pub fn layer(inner: Arc<dyn Model>, redactor: Arc<Redactor>) -> Arc<dyn Model> {
    if redactor.looks() { Arc::new(Redact { inner, redactor }) } else { inner }
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
