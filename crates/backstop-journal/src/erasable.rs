//! What of a run's events can be erased, where it stands in their texts, and what is left in its place: a digest, which the
//! link of the event goes over in either case. The one table of it is here; who erases what, and when, is decided elsewhere.

use crate::{Hash, StreamId};
use std::fmt;
use std::ops::Range;

/// What can be erased of each kind, by the names of fields from the outside in; `*` stands for each element of a list. Whatever
/// quotes what was said is in here. What is not, stays: names, numbers, times, and who decided what.
const ERASABLE: &[(&str, &[&str])] = &[
    ("run.created", &["system", "message"]),
    ("run.finished", &["result", "message"]),
    ("call.attempt-failed", &["attempt.message"]),
    ("call.finished", &["content", "attempts.*.message"]),
    ("call.failed", &["failure.detail.message", "failure.detail.attempts.*.message"]),
    ("tool.planned", &["args", "plan", "preview", "undo", "asks"]),
    ("tool.finished", &["result", "whole"]),
    ("tool.unknown", &["reason"]),
    ("tool.resolved", &["result"]),
    ("approval.requested", &["why"]),
    ("approval.decided", &["decision.args", "decision.reason"]),
];

/// What the digests of a stream are keyed with, so that nobody can find what was erased by guessing: random bytes that go
/// with the last of it. Where there are none, nothing that is still there verifies.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Blind(pub [u8; 32]);

impl fmt::Debug for Blind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blind")
    }
}

/// Where in an event's text that stands which can be erased or was, in order. It holds for that text and no other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts(Vec<Range<usize>>);

/// What is left of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remains {
    /// The text, with digests in it.
    pub text: String,
    /// How many parts went.
    pub parts: u64,
    /// Their length, in bytes of JSON.
    pub bytes: u64,
}

impl Parts {
    /// The parts of an event's text. Only runs have some; a text that is not as we write it has none, and fails by its link.
    pub fn of(stream: &StreamId, kind: &str, text: &str) -> Self {
        let StreamId::Run(_) = stream else { return Self::default() };
        let Some((_, paths)) = ERASABLE.iter().find(|(name, _)| *name == kind) else {
            return Self::default();
        };
        let mut walk = Walk { text, at: 0, parts: Vec::new() };
        let walked = walk.value(paths);
        Self(walked.map(|()| walk.parts).unwrap_or_default())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text with a digest in the place of each part that is still there.
    pub fn erase(&self, text: &str, blind: &Blind) -> Remains {
        let mut remains = Remains { text: String::with_capacity(text.len()), parts: 0, bytes: 0 };
        let mut from = 0;
        for Range { start, end } in self.0.iter().cloned() {
            let digest = Digest::of(&text[start..end], blind);
            if Digest::read(&text[start..end]).is_none() {
                remains.parts += 1;
                remains.bytes += digest.bytes;
            }
            remains.text += &text[from..start];
            remains.text += &digest.to_string();
            from = end;
        }
        remains.text += &text[from..];
        remains
    }

    /// Writes what a link goes over: the frame, which is the text with [`MARK`] for each part, and the parts' digests.
    pub(crate) fn write(&self, text: &str, blind: &Blind, whole: &mut Vec<u8>) {
        let parts: usize = self.0.iter().map(Range::len).sum();
        let frame = text.len() - parts + self.0.len();
        whole.extend((frame as u64).to_le_bytes());
        let mut from = 0;
        for Range { start, end } in self.0.iter().cloned() {
            whole.extend(&text.as_bytes()[from..start]);
            whole.push(MARK);
            from = end;
        }
        whole.extend(&text.as_bytes()[from..]);
        for part in &self.0 {
            let digest = Digest::of(&text[part.clone()], blind);
            whole.extend(digest.hash.0);
            whole.extend(digest.bytes.to_le_bytes());
        }
    }
}

/// Stands in a frame for a part. No JSON text has it.
const MARK: u8 = 0;

/// What stands in the place of what was erased, in the words of [`crate::Body::Erased`] and [`crate::FreeText::Erased`].
#[derive(Debug, PartialEq, Eq)]
struct Digest {
    hash: Hash,
    bytes: u64,
}

impl Digest {
    /// That of a part, or the one that stands there already.
    fn of(part: &str, blind: &Blind) -> Self {
        Self::read(part).unwrap_or_else(|| {
            let value = part.strip_prefix(r#"{"inline":"#).and_then(|rest| rest.strip_suffix('}'));
            let hash = Hash(*blake3::keyed_hash(&blind.0, part.as_bytes()).as_bytes());
            Self { hash, bytes: value.unwrap_or(part).len() as u64 }
        })
    }

    /// What was written as a digest, to the byte.
    fn read(part: &str) -> Option<Self> {
        let (hex, rest) = part.strip_prefix(r#"{"erased":{"digest":""#)?.split_once(r#"","bytes":"#)?;
        let hash = Hash(*blake3::Hash::from_hex(hex).ok()?.as_bytes());
        let digest = Self { hash, bytes: rest.strip_suffix("}}")?.parse().ok()? };
        (digest.to_string() == part).then_some(digest)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, r#"{{"erased":{{"digest":"{}","bytes":{}}}}}"#, self.hash, self.bytes)
    }
}

/// Goes over a JSON text without spaces, as we write it. `None` from any step: it is no such text.
struct Walk<'a> {
    text: &'a str,
    at: usize,
    parts: Vec<Range<usize>>,
}

impl<'a> Walk<'a> {
    /// Over a value, of which that can be erased which stands at the ends of these paths.
    fn value(&mut self, paths: &[&str]) -> Option<()> {
        let from = self.at;
        match paths {
            [] => self.pass(),
            [""] => {
                self.pass()?;
                if says_something(&self.text[from..self.at]) {
                    self.parts.push(from..self.at);
                }
                Some(())
            }
            _ => match self.next()? {
                b'{' | b'[' => self.items(paths),
                _ => self.pass(),
            },
        }
    }

    /// Over the fields of an object, or the elements of a list.
    fn items(&mut self, paths: &[&str]) -> Option<()> {
        let (is_list, end) = if self.take()? == b'[' { (true, b']') } else { (false, b'}') };
        if self.next()? == end {
            self.at += 1;
            return Some(());
        }
        loop {
            let name = if is_list { "*" } else { self.name()? };
            let paths: Vec<_> = paths.iter().filter_map(|path| below(path, name)).collect();
            self.value(&paths)?;
            match self.take()? {
                b',' => {}
                last if last == end => return Some(()),
                _ => return None,
            }
        }
    }

    /// Over a value, whatever is in it.
    fn pass(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.next()? {
                b'"' => drop(self.string()?),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => self.at += 1,
                _ => self.at += self.text[self.at..].find([',', '}', ']'])?,
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// Over a field's name and its colon.
    fn name(&mut self) -> Option<&'a str> {
        let name = self.string()?;
        (self.take()? == b':').then_some(name)
    }

    /// Over a string. What stands between its quotes.
    fn string(&mut self) -> Option<&'a str> {
        if self.take()? != b'"' {
            return None;
        }
        let from = self.at;
        loop {
            match self.take()? {
                b'"' => return self.text.get(from..self.at - 1),
                b'\\' => drop(self.take()?),
                _ => {}
            }
        }
    }

    fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.next()?;
        self.at += 1;
        Some(byte)
    }
}

/// What is left of a path behind its first name, if that is this one.
fn below<'p>(path: &'p str, name: &str) -> Option<&'p str> {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    (first == name).then_some(rest)
}

/// Nothing needs no digest. A large body stays in the frame as the reference that it is: its bytes lie elsewhere.
fn says_something(part: &str) -> bool {
    !matches!(part, r#"{"inline":null}"# | r#""""# | "null") && !part.starts_with(r#"{"blob":"#)
}

#[cfg(test)]
mod tests;
