//! A request's body looked over, not read: one pass that checks that it is JSON, finds the few fields that a gateway decides
//! by or changes, and measures the rest. Owns no meaning of messages or tools; whoever needs that parses the request.
//!
//! What is found must be what the provider will find. A field that decides and stands twice is therefore refused, and a
//! name that is written with escapes counts as the name it is.

mod reply;

pub use reply::{read_count, skim_reply};

use crate::WireError;
use crate::read::Path;
use crate::scan::{Place, Scan, Scanned, chars};
use backstop_call::{Dialect, Places, Size};
use serde_json::Value;
use std::ops::Range;

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
    let chars = chars(body).ok_or_else(|| Path::Root.wrong("is no valid UTF-8"))?;
    let mut scan = Scan::over(body);
    let found = Found::by(&mut scan, dialect)?;
    let apart = scan.pictures_bytes + scan.size.documents;
    scan.size.bytes = body.len() as u64 - apart;
    scan.size.chars = (chars as u64).saturating_sub(apart);
    found.read(dialect, body, scan.size)
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
    fn named(dialect: Dialect, name: &[u8]) -> Option<Self> {
        use Dialect::{Chat, Messages, Responses};
        match (dialect, name) {
            (_, b"model") => Some(Self::Model),
            (_, b"stream") => Some(Self::Stream),
            (Messages | Chat, b"max_tokens") | (Responses, b"max_output_tokens") => Some(Self::OutputLimit),
            (Chat, b"max_completion_tokens") => Some(Self::CompletionLimit),
            (Chat, b"n") => Some(Self::Choices),
            (Chat, b"stream_options") => Some(Self::StreamOptions),
            (Messages, b"thread") => Some(Self::Thread),
            (Responses, b"previous_response_id") => Some(Self::PreviousResponse),
            (Responses, b"conversation") => Some(Self::Conversation),
            _ => None,
        }
    }
}

impl Found {
    fn by(scan: &mut Scan<'_>, dialect: Dialect) -> Scanned<Self> {
        let mut found = Self::default();
        scan.whole(|scan| {
            if !scan.is_object() {
                return Err(Path::Root.wrong("must be a JSON object").into());
            }
            scan.members(|scan| {
                let (name, written, from) = (&*scan.said(), scan.string.clone(), scan.at);
                if found.front == 0 {
                    found.front = written.start;
                }
                scan.value(Place::in_body(name))?;
                if let Some(field) = Field::named(dialect, name) {
                    if found.value(field).is_some() {
                        let name = String::from_utf8_lossy(name);
                        return Err(Path::Root.wrong(format!("has the field `{name}` twice")).into());
                    }
                    found.fields.push((field, written, from..scan.at));
                }
                Ok(())
            })
        })?;
        Ok(found)
    }

    fn value(&self, field: Field) -> Option<Range<usize>> {
        self.fields.iter().find(|(found, ..)| *found == field).map(|(_, _, value)| value.clone())
    }

    fn name(&self, field: Field) -> Option<Range<usize>> {
        self.fields.iter().find(|(found, ..)| *found == field).map(|(_, name, _)| name.clone())
    }

    /// The value of a field, small as they all are; `null` is no value.
    fn json(&self, field: Field, body: &[u8]) -> Option<Value> {
        let value: Value = serde_json::from_slice(&body[self.value(field)?]).ok()?;
        Some(value).filter(|value| !value.is_null())
    }

    fn read(&self, dialect: Dialect, body: &[u8], size: Size) -> Result<Skim, WireError> {
        let wrong = |field: &'static str, problem: &str| Path::Field(&Path::Root, field).wrong(problem);
        let count = |field, name| match self.json(field, body) {
            None => Ok(None),
            Some(value) => {
                value.as_u64().map(Some).ok_or_else(|| wrong(name, "must be a whole number from 0 up"))
            }
        };
        let model = match self.json(Field::Model, body) {
            Some(Value::String(model)) => model,
            Some(_) => return Err(wrong("model", "must be a string")),
            None => return Err(wrong("model", "is missing")),
        };
        let stream = match self.json(Field::Stream, body) {
            None => false,
            Some(value) => value.as_bool().ok_or_else(|| wrong("stream", "must be true or false"))?,
        };
        let limit_name = if dialect == Dialect::Chat { "max_completion_tokens" } else { "max_tokens" };
        let limit = if dialect == Dialect::Responses { "max_output_tokens" } else { "max_tokens" };
        let old_limit = count(Field::OutputLimit, limit)?;
        let max_tokens = count(Field::CompletionLimit, limit_name)?.or(old_limit);
        let options = self.json(Field::StreamOptions, body);
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
            leans_on: self.leans_on(body),
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

    fn leans_on(&self, body: &[u8]) -> Option<LeansOn> {
        if let Some(thread) = self.json(Field::Thread, body) {
            let previous = thread["previous_message_id"].as_str().map(str::to_owned);
            return Some(previous.map_or(LeansOn::ThreadBegins, LeansOn::Thread));
        }
        let previous =
            self.json(Field::PreviousResponse, body).or_else(|| self.json(Field::Conversation, body))?;
        let id = previous.as_str().or_else(|| previous["id"].as_str()).unwrap_or_default();
        Some(LeansOn::Response(id.to_owned()))
    }
}

#[cfg(test)]
mod tests;
