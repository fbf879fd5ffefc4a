//! Server-sent events (WHATWG HTML §9.2.6), byte for byte. Owns the splitting into events; knows nothing of what is in
//! them.
//!
//! Lines end at the bytes `\n`, `\r\n` or `\r` and at nothing else: U+2028 and its like are text, and UTF-8 may be cut
//! anywhere between two reads. Memory is bounded by the limit for one event.

use bytes::{Bytes, BytesMut};

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEvent {
    /// The `event:` line's value.
    pub event: Option<String>,
    /// The `data:` lines' values, joined by `\n`.
    pub data: String,
}

/// An event and the bytes it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawEvent {
    /// All bytes since the event before, comments and the blank line at the end included.
    pub bytes: Bytes,
    /// The event; `None` where the bytes say nothing, as a comment does that keeps the connection alive.
    pub event: Option<SseEvent>,
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

/// What a line was.
enum Line {
    /// A field of an event, or a comment.
    Field,
    /// The end of an event, if there was one.
    Blank(Option<SseEvent>),
}

/// Cuts a stream of bytes into events. After an error it stays failed.
#[derive(Debug)]
pub struct SseParser {
    limit_bytes: usize,
    line: Vec<u8>,
    event: Option<String>,
    data: Option<String>,
    held_bytes: usize,
    after_cr: bool,
    at_start: bool,
    /// The bytes of the event that is under way, for who wants them.
    raw: BytesMut,
    failed: Option<SseError>,
}

impl SseParser {
    /// A parser that holds at most `max_event_bytes` of one event (its lines' bytes, before and after decoding).
    pub fn new(max_event_bytes: usize) -> Self {
        Self {
            limit_bytes: max_event_bytes,
            line: Vec::new(),
            event: None,
            data: None,
            held_bytes: 0,
            after_cr: false,
            at_start: true,
            raw: BytesMut::new(),
            failed: None,
        }
    }

    /// Takes the bytes of one read and gives the events that they complete. An event is complete at its blank line;
    /// one that the stream ends in is never given out. Events completed before an error in the same read are lost with
    /// it: the stream is unusable.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<SseEvent>, SseError> {
        let mut events = Vec::new();
        self.advance(bytes, |_, event| events.extend(event))?;
        Ok(events)
    }

    /// The same, with the bytes that each event came in. A parser is fed by one of the two only.
    pub fn push_raw(&mut self, bytes: &Bytes) -> Result<Vec<RawEvent>, SseError> {
        let mut ends = Vec::new();
        self.advance(bytes, |end, event| ends.push((end, event)))?;
        let mut from = 0;
        let mut events = Vec::with_capacity(ends.len());
        for (end, event) in ends {
            let piece = bytes.slice(from..end);
            let whole = if self.raw.is_empty() {
                piece
            } else {
                self.raw.extend_from_slice(&piece);
                self.raw.split().freeze()
            };
            events.push(RawEvent { bytes: whole, event });
            from = end;
        }
        // What it holds is bounded with the lines: comments alone could make it grow.
        if self.raw.len() + bytes.len() - from > self.limit_bytes.saturating_mul(2) {
            let error = SseError::TooLarge { limit_bytes: self.limit_bytes };
            self.failed = Some(error.clone());
            return Err(error);
        }
        self.raw.extend_from_slice(&bytes[from..]);
        Ok(events)
    }

    /// Goes through the bytes of one read; tells each blank line by where it ends, and the event that it ends.
    fn advance(&mut self, bytes: &[u8], told: impl FnMut(usize, Option<SseEvent>)) -> Result<(), SseError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.lines(bytes, told);
        self.failed = result.as_ref().err().cloned();
        result
    }

    fn lines(&mut self, bytes: &[u8], mut told: impl FnMut(usize, Option<SseEvent>)) -> Result<(), SseError> {
        let mut at = 0;
        while at < bytes.len() {
            if std::mem::take(&mut self.after_cr) && bytes[at] == b'\n' {
                at += 1;
                continue;
            }
            let rest = &bytes[at..];
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                return self.hold(rest);
            };
            self.hold(&rest[..end])?;
            self.after_cr = rest[end] == b'\r';
            at += end + 1;
            if let Line::Blank(event) = self.end_line()? {
                told(at, event);
            }
        }
        Ok(())
    }

    /// Keeps a piece of a line, within the limit.
    fn hold(&mut self, piece: &[u8]) -> Result<(), SseError> {
        self.held_bytes += piece.len();
        if self.held_bytes > self.limit_bytes {
            return Err(SseError::TooLarge { limit_bytes: self.limit_bytes });
        }
        self.line.extend_from_slice(piece);
        Ok(())
    }

    /// A line is whole: a field of the event, or the blank line that ends it.
    fn end_line(&mut self) -> Result<Line, SseError> {
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.at_start) && line.starts_with(b"\xEF\xBB\xBF") {
            line.drain(..3);
        }
        if line.is_empty() {
            self.held_bytes = 0;
            let event = self.event.take();
            return Ok(Line::Blank(self.data.take().map(|data| SseEvent { event, data })));
        }
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => {
                (&line[..colon], line[colon + 1..].strip_prefix(b" ").unwrap_or(&line[colon + 1..]))
            }
            None => (&line[..], &b""[..]),
        };
        match name {
            b"data" => {
                let value = std::str::from_utf8(value).map_err(|_| SseError::NotUtf8)?;
                match &mut self.data {
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                    none => *none = Some(value.to_owned()),
                }
            }
            b"event" => {
                let value = std::str::from_utf8(value).map_err(|_| SseError::NotUtf8)?;
                self.event = Some(value.to_owned()).filter(|name| !name.is_empty());
            }
            // Comments (an empty name), `id`, `retry` and fields of the future hold nothing: their bytes are let go.
            _ => self.held_bytes -= line.len(),
        }
        line.clear();
        self.line = line;
        Ok(Line::Field)
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
