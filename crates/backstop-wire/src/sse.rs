//! Server-sent events (WHATWG HTML §9.2.6), byte for byte. Owns the splitting into events; knows nothing of what is in
//! them.
//!
//! Lines end at the bytes `\n`, `\r\n` or `\r` and at nothing else: U+2028 and its like are text, and UTF-8 may be cut
//! anywhere between two reads. An event is cut out of what was read, and read where it stands: only one that came in pieces
//! is put together in memory of its own, which is bounded by the limit for one event.

use bytes::{Buf, Bytes, BytesMut};
use std::borrow::Cow;

/// One event, where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEvent<'a> {
    /// The `event:` line's value.
    pub event: Option<&'a str>,
    /// The `data:` lines' values, joined by `\n`.
    pub data: Cow<'a, str>,
}

/// The bytes of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawEvent {
    /// All bytes since the event before, comments and the blank line at the end included.
    pub bytes: Bytes,
    /// Whether it is the first of its stream, which may begin with a byte order mark.
    is_first: bool,
}

/// Why a stream of events cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// An event is larger than allowed.
    #[error("an event is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit that was given to [`SseParser::new`].
        limit_bytes: usize,
    },
    /// A `data:` or `event:` line is no UTF-8.
    #[error("an event is not utf-8")]
    NotUtf8,
}

impl RawEvent {
    /// What the bytes say; `None` where they say nothing, as a comment does that keeps the connection alive.
    pub fn event(&self) -> Result<Option<SseEvent<'_>>, SseError> {
        let text = |value| std::str::from_utf8(value).map_err(|_| SseError::NotUtf8);
        let mut rest = &self.bytes[..];
        if self.is_first {
            rest = rest.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(rest);
        }
        let mut event = None;
        let mut data: Option<Cow<'_, str>> = None;
        while !rest.is_empty() {
            let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
            let (name, value) = field(&rest[..end]);
            match name {
                b"data" => {
                    let value = text(value)?;
                    match &mut data {
                        Some(data) => {
                            let data = data.to_mut();
                            data.push('\n');
                            data.push_str(value);
                        }
                        none => *none = Some(Cow::Borrowed(value)),
                    }
                }
                b"event" => event = Some(text(value)?).filter(|name| !name.is_empty()),
                // Blank lines, comments (an empty name), `id`, `retry` and fields of the future.
                _ => {}
            }
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        Ok(data.map(|data| SseEvent { event, data }))
    }
}

/// The name and the value of a line.
fn field(line: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b':', line) {
        Some(colon) => (&line[..colon], line[colon + 1..].strip_prefix(b" ").unwrap_or(&line[colon + 1..])),
        None => (line, b""),
    }
}

/// How far the line has come that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Nothing of it came.
    Empty,
    /// The same, behind a carriage return: a line feed belongs to the line before.
    AfterReturn,
    /// Some of it came.
    Begun,
}

/// Cuts a stream of bytes into events. After an error it stays failed.
#[derive(Debug)]
pub struct SseParser {
    limit_bytes: usize,
    /// The bytes of the event that is under way, as far as they came with earlier reads.
    held: BytesMut,
    line: Line,
    is_first: bool,
    failed: bool,
}

impl SseParser {
    /// A parser of events that have at most `max_event_bytes`, with their line ends and comments.
    pub fn new(max_event_bytes: usize) -> Self {
        Self {
            limit_bytes: max_event_bytes,
            held: BytesMut::new(),
            line: Line::Empty,
            is_first: true,
            failed: false,
        }
    }

    /// Takes the next event off the bytes of one read; `None` when all of them are taken. An event is complete at its
    /// blank line; one that the stream ends in is never given out.
    pub fn take(&mut self, read: &mut Bytes) -> Result<Option<RawEvent>, SseError> {
        let end = self.end(read);
        if self.failed || self.held.len() + end.unwrap_or(read.len()) > self.limit_bytes {
            self.failed = true;
            return Err(SseError::TooLarge { limit_bytes: self.limit_bytes });
        }
        let Some(end) = end else {
            self.held.extend_from_slice(read);
            read.advance(read.len());
            return Ok(None);
        };
        let piece = read.split_to(end);
        let bytes = if self.held.is_empty() {
            piece
        } else {
            self.held.extend_from_slice(&piece);
            self.held.split().freeze()
        };
        Ok(Some(RawEvent { bytes, is_first: std::mem::take(&mut self.is_first) }))
    }

    /// Where the event that is under way ends: behind its blank line.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        if self.line == Line::AfterReturn && bytes.first() == Some(&b'\n') {
            self.line = Line::Empty;
            at = 1;
        }
        while let Some(length) = memchr::memchr2(b'\n', b'\r', &bytes[at..]) {
            let is_blank = self.line != Line::Begun && length == 0;
            self.line = Line::Empty;
            let is_return = bytes[at + length] == b'\r';
            at += length + 1;
            match bytes.get(at) {
                Some(b'\n') if is_return => at += 1,
                None if is_return => self.line = Line::AfterReturn,
                _ => {}
            }
            if is_blank {
                return Some(at);
            }
        }
        if at < bytes.len() {
            self.line = Line::Begun;
        }
        None
    }
}

/// Writes one event. Line ends in `data` make several `data:` lines, so any text survives but for its kind of line end.
pub fn render(event: Option<&str>, data: &str) -> Bytes {
    let mut out = String::with_capacity(data.len() + 32);
    if let Some(event) = event {
        out.push_str("event: ");
        out.extend(event.chars().filter(|c| !matches!(c, '\n' | '\r')));
        out.push('\n');
    }
    for line in data.replace("\r\n", "\n").split(['\n', '\r']) {
        out.push_str("data: ");
        out.push_str(line);
        out.push('\n');
    }
    out.push('\n');
    Bytes::from(out)
}
