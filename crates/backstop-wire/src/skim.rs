//! A request's body looked over, not read: one pass that checks that it is JSON, finds the few fields that a gateway decides
//! by or changes, and measures the rest. Owns no meaning of messages or tools; whoever needs that parses the request.
//!
//! What is found must be what the provider will find. A field that decides and stands twice is therefore refused, and a
//! name that is written with escapes counts as the name it is.

mod reply;

pub use reply::{read_count, skim_reply};

use crate::WireError;
use crate::read::Path;
use backstop_call::{Dialect, Places, Size};
use serde_json::Value;
use std::ops::Range;

/// Containers within containers; what `serde_json` reads at most.
const DEPTH_MAX: usize = 127;

/// What was found in a request's body.
#[derive(Debug, Clone, PartialEq)]
pub struct Skim {
    /// The model that is asked for.
    pub model: String,
    /// Whether the answer is wanted as it comes.
    pub stream: bool,
    /// The most tokens of an answer.
    pub max_tokens: Option<u64>,
    /// How many answers are wanted (Chat's `n`).
    pub choices: u64,
    /// Chat: whether the stream's usage was asked for.
    pub include_usage: bool,
    /// What the provider must have kept for this request to be whole.
    pub leans_on: Option<LeansOn>,
    /// Where the fields stand that may be changed.
    pub places: Places,
    /// How much it says.
    pub size: Size,
}

/// What a provider keeps for a client and a request is a part of. Without it the request would be a part of a conversation
/// that looks like the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeansOn {
    /// Messages: a thread begins, the conversation is whole.
    ThreadBegins,
    /// Messages: a thread goes on after this message.
    Thread(String),
    /// Responses: a conversation goes on after this response, or in the object of this id.
    Response(String),
}

/// Looks a body over. The error names what is wrong and where.
pub fn skim(dialect: Dialect, body: &[u8]) -> Result<Skim, WireError> {
    let text = std::str::from_utf8(body).map_err(|_| Path::Root.wrong("is no valid UTF-8"))?;
    let mut scan = Scan { bytes: body, at: 0, size: Size::default(), pictures_bytes: 0 };
    let found = scan.body(dialect)?;
    let apart = scan.pictures_bytes + scan.size.documents;
    scan.size.bytes = body.len() as u64 - apart;
    scan.size.chars = (text.chars().count() as u64).saturating_sub(apart);
    found.read(dialect, text, scan.size)
}

/// The fields that decide, by where their values stand.
#[derive(Debug, Default)]
struct Found {
    front: usize,
    fields: Vec<(Field, Range<usize>, Range<usize>)>,
}

/// A field that decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Model,
    Stream,
    OutputLimit,
    /// The name that newer models of OpenAI take; it wins.
    CompletionLimit,
    Choices,
    StreamOptions,
    Thread,
    PreviousResponse,
    Conversation,
}

impl Field {
    fn named(dialect: Dialect, name: &str) -> Option<Self> {
        use Dialect::{Chat, Messages, Responses};
        match (dialect, name) {
            (_, "model") => Some(Self::Model),
            (_, "stream") => Some(Self::Stream),
            (Messages | Chat, "max_tokens") | (Responses, "max_output_tokens") => Some(Self::OutputLimit),
            (Chat, "max_completion_tokens") => Some(Self::CompletionLimit),
            (Chat, "n") => Some(Self::Choices),
            (Chat, "stream_options") => Some(Self::StreamOptions),
            (Messages, "thread") => Some(Self::Thread),
            (Responses, "previous_response_id") => Some(Self::PreviousResponse),
            (Responses, "conversation") => Some(Self::Conversation),
            _ => None,
        }
    }
}

impl Found {
    fn value(&self, field: Field) -> Option<Range<usize>> {
        self.fields.iter().find(|(found, ..)| *found == field).map(|(_, _, value)| value.clone())
    }

    fn name(&self, field: Field) -> Option<Range<usize>> {
        self.fields.iter().find(|(found, ..)| *found == field).map(|(_, name, _)| name.clone())
    }

    /// The value of a field, small as they all are; `null` is no value.
    fn json(&self, field: Field, text: &str) -> Option<Value> {
        let value: Value = serde_json::from_str(&text[self.value(field)?]).ok()?;
        Some(value).filter(|value| !value.is_null())
    }

    fn read(&self, dialect: Dialect, text: &str, size: Size) -> Result<Skim, WireError> {
        let wrong = |field: &'static str, problem: &str| Path::Field(&Path::Root, field).wrong(problem);
        let count = |field, name| match self.json(field, text) {
            None => Ok(None),
            Some(value) => {
                value.as_u64().map(Some).ok_or_else(|| wrong(name, "must be a whole number from 0 up"))
            }
        };
        let model = match self.json(Field::Model, text) {
            Some(Value::String(model)) => model,
            Some(_) => return Err(wrong("model", "must be a string")),
            None => return Err(wrong("model", "is missing")),
        };
        let stream = match self.json(Field::Stream, text) {
            None => false,
            Some(value) => value.as_bool().ok_or_else(|| wrong("stream", "must be true or false"))?,
        };
        let limit_name = if dialect == Dialect::Chat { "max_completion_tokens" } else { "max_tokens" };
        let limit = if dialect == Dialect::Responses { "max_output_tokens" } else { "max_tokens" };
        let old_limit = count(Field::OutputLimit, limit)?;
        let max_tokens = count(Field::CompletionLimit, limit_name)?.or(old_limit);
        let options = self.json(Field::StreamOptions, text);
        let include_usage = options.is_some_and(|options| options["include_usage"] == true);
        let limit = if self.value(Field::CompletionLimit).is_some() {
            Field::CompletionLimit
        } else {
            Field::OutputLimit
        };
        Ok(Skim {
            model,
            stream,
            max_tokens,
            choices: count(Field::Choices, "n")?.unwrap_or(1).max(1),
            include_usage,
            leans_on: self.leans_on(text),
            places: Places {
                model: self.value(Field::Model).unwrap_or_default(),
                // With both names there, the one cannot take the other's place.
                output_limit_name: self
                    .name(limit)
                    .filter(|_| limit == Field::OutputLimit || self.value(Field::OutputLimit).is_none()),
                output_limit: self.value(limit),
                stream_options: self.value(Field::StreamOptions),
                front: self.front,
            },
            size,
        })
    }

    fn leans_on(&self, text: &str) -> Option<LeansOn> {
        if let Some(thread) = self.json(Field::Thread, text) {
            let previous = thread["previous_message_id"].as_str().map(str::to_owned);
            return Some(previous.map_or(LeansOn::ThreadBegins, LeansOn::Thread));
        }
        let previous =
            self.json(Field::PreviousResponse, text).or_else(|| self.json(Field::Conversation, text))?;
        let id = previous.as_str().or_else(|| previous["id"].as_str()).unwrap_or_default();
        Some(LeansOn::Response(id.to_owned()))
    }
}

/// A pass over a body.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    size: Size,
    pictures_bytes: u64,
}

/// Where a value stands, as far as it matters for what it is.
#[derive(Clone, Copy)]
struct Place<'k> {
    /// The name it has, as written between the quotes; empty in a list.
    name: &'k [u8],
    /// The name of what it stands in.
    parent: &'k [u8],
    depth: usize,
    /// Within the arguments or the schema of a tool, where nothing is a picture.
    opaque: bool,
}

impl<'a> Scan<'a> {
    fn wrong(&self, problem: &str) -> WireError {
        Path::Root.wrong(format!("is no valid JSON ({problem} at byte {})", self.at))
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), WireError> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(self.wrong(&format!("expected `{}`", char::from(byte))))
    }

    /// The whole body: one object, and nothing behind it.
    fn body(&mut self, dialect: Dialect) -> Result<Found, WireError> {
        self.blanks();
        if self.peek() != Some(b'{') {
            return Err(Path::Root.wrong("must be a JSON object"));
        }
        self.at += 1;
        let mut found = Found { front: self.at, ..Found::default() };
        self.members(|scan, name| {
            let from = scan.at;
            let raw = &scan.bytes[name.start + 1..name.end - 1];
            scan.value(Place { name: raw, parent: b"", depth: 1, opaque: false })?;
            if let Some(field) = field_of(dialect, raw) {
                if found.value(field).is_some() {
                    let name = String::from_utf8_lossy(raw);
                    return Err(Path::Root.wrong(format!("has the field `{name}` twice")));
                }
                found.fields.push((field, name, from..scan.at));
            }
            Ok(())
        })?;
        self.blanks();
        if self.at < self.bytes.len() {
            return Err(self.wrong("something follows"));
        }
        Ok(found)
    }

    /// The members of an object behind its opening brace. `value` is called where each value begins, with where its name
    /// stands, quotes included.
    fn members(
        &mut self,
        mut value: impl FnMut(&mut Self, Range<usize>) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.blanks();
            let from = self.at;
            self.string()?;
            let name = from..self.at;
            self.blanks();
            self.expect(b':')?;
            self.blanks();
            value(self, name)?;
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.wrong("expected `,` or `}`")),
            }
        }
    }

    fn value(&mut self, place: Place<'a>) -> Result<(), WireError> {
        match self.peek() {
            Some(b'"') => {
                let from = self.at;
                self.string()?;
                self.measure(from + 1..self.at - 1, place);
                Ok(())
            }
            Some(b'{') => {
                self.deeper(place.depth)?;
                self.members(|scan, name| {
                    let raw = &scan.bytes[name.start + 1..name.end - 1];
                    // A request of Responses has its conversation under `input`; below that it is a tool's.
                    let opaque =
                        place.opaque || matches!(raw, b"input" | b"input_schema" | b"parameters" | b"schema");
                    scan.value(Place { name: raw, parent: place.name, depth: place.depth + 1, opaque })
                })
            }
            Some(b'[') => self.items(place),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => self.number(),
        }
    }

    fn deeper(&mut self, depth: usize) -> Result<(), WireError> {
        if depth >= DEPTH_MAX {
            return Err(self.wrong("too many levels"));
        }
        self.at += 1;
        Ok(())
    }

    fn items(&mut self, place: Place<'a>) -> Result<(), WireError> {
        self.deeper(place.depth)?;
        self.blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.blanks();
            self.value(Place { name: b"", parent: place.name, depth: place.depth + 1, ..place })?;
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.wrong("expected `,` or `]`")),
            }
        }
    }

    fn word(&mut self, word: &str) -> Result<(), WireError> {
        if self.bytes[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        Err(self.wrong("an unknown word"))
    }

    fn number(&mut self) -> Result<(), WireError> {
        let digits = |scan: &mut Self| {
            let from = scan.at;
            while matches!(scan.peek(), Some(b'0'..=b'9')) {
                scan.at += 1;
            }
            if scan.at > from { Ok(()) } else { Err(scan.wrong("expected a value")) }
        };
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => digits(self)?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            digits(self)?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            digits(self)?;
        }
        Ok(())
    }

    /// A string, from quote to quote.
    fn string(&mut self) -> Result<(), WireError> {
        self.expect(b'"')?;
        loop {
            let rest = &self.bytes[self.at..];
            let end = memchr::memchr2(b'"', b'\\', rest);
            let plain = &rest[..end.unwrap_or(rest.len())];
            // Looked for apart, so that long texts are passed many bytes at a time.
            if plain.iter().fold(0, |found, byte| found | u8::from(*byte < 0x20)) > 0 {
                self.at += plain.iter().position(|byte| *byte < 0x20).unwrap_or(0);
                return Err(self.wrong("a control character in a string"));
            }
            self.at += plain.len();
            match rest.get(plain.len()) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(_) => self.escape()?,
                None => return Err(self.wrong("a string without an end")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), WireError> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            // Half of a surrogate pair is grammatical, and for the provider to judge.
            Some(b'u') => self.hex()?,
            _ => return Err(self.wrong("an unknown escape")),
        }
        Ok(())
    }

    /// Four hexadecimal digits behind a `u`.
    fn hex(&mut self) -> Result<(), WireError> {
        let digits = self.bytes.get(self.at + 1..self.at + 5);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err(self.wrong("an unknown escape"));
        }
        self.at += 5;
        Ok(())
    }

    /// A picture counts by the piece and not by its bytes.
    fn measure(&mut self, text: Range<usize>, place: Place<'_>) {
        if place.opaque {
            return;
        }
        let bytes = &self.bytes[text];
        let length = bytes.len() as u64;
        match (place.parent, place.name) {
            (b"source", b"data") if !is_picture(bytes) => self.size.documents += length,
            (b"source", b"data") => self.picture(length),
            (_, b"file_data") => self.size.documents += length,
            (_, b"file_url") => self.size.linked_documents += 1,
            // The type of what an address leads to may stand behind it; its ending is a sign as well.
            (b"source", b"url") if bytes.to_ascii_lowercase().ends_with(b".pdf") => {
                self.size.linked_documents += 1;
            }
            (b"image_url", b"url") | (_, b"image_url") if bytes.starts_with(b"data:") => self.picture(length),
            (b"source" | b"image_url", b"url") | (_, b"image_url") => self.picture(0),
            _ => {}
        }
    }

    fn picture(&mut self, inline_bytes: u64) {
        self.size.images += 1;
        self.pictures_bytes += inline_bytes;
    }
}

/// Whether base64 is that of a picture, by how the formats begin: PNG, JPEG, GIF, WebP.
fn is_picture(base64: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 4] = [b"iVBORw0KGgo", b"/9j/", b"R0lGOD", b"UklGR"];
    BEGINNINGS.iter().any(|beginning| base64.starts_with(beginning))
}

/// The field of a name as it is written.
fn field_of(dialect: Dialect, raw: &[u8]) -> Option<Field> {
    if !raw.contains(&b'\\') {
        return Field::named(dialect, std::str::from_utf8(raw).ok()?);
    }
    let quoted = format!("\"{}\"", std::str::from_utf8(raw).ok()?);
    Field::named(dialect, &serde_json::from_str::<String>(&quoted).ok()?)
}

#[cfg(test)]
mod tests;
