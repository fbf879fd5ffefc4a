//! Server-sent events (WHATWG HTML §9.2.6), byte for byte. Owns the splitting into events; knows nothing of what is in
//! them.
//!
//! Lines end at the bytes `\n`, `\r\n` or `\r` and at nothing else: U+2028 and its like are text, and UTF-8 may be cut
//! anywhere between two reads. Memory is bounded by the limit for one event.

use bytes::Bytes;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEvent {
    /// The `event:` line's value.
    pub event: Option<String>,
    /// The `data:` lines' values, joined by `\n`.
    pub data: String,
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
            failed: None,
        }
    }

    /// Takes the bytes of one read and gives the events that they complete. An event is complete at its blank line;
    /// one that the stream ends in is never given out. Events completed before an error in the same read are lost with
    /// it: the stream is unusable.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<SseEvent>, SseError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let events = self.advance(bytes);
        self.failed = events.as_ref().err().cloned();
        events
    }

    fn advance(&mut self, mut bytes: &[u8]) -> Result<Vec<SseEvent>, SseError> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.hold(bytes)?;
                break;
            };
            self.hold(&bytes[..end])?;
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            events.extend(self.end_line()?);
        }
        Ok(events)
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
    fn end_line(&mut self) -> Result<Option<SseEvent>, SseError> {
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.at_start) && line.starts_with(b"\xEF\xBB\xBF") {
            line.drain(..3);
        }
        if line.is_empty() {
            self.held_bytes = 0;
            let event = self.event.take();
            return Ok(self.data.take().map(|data| SseEvent { event, data }));
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
        Ok(None)
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
