//! A reply looked over, for a client that gets its bytes as they are: that it is one, why it stopped, what it used.

use crate::read::{Object, Path, WireError};
use crate::{chat, messages};
use backstop_call::{Dialect, Reply, StopReason, Usage};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use std::borrow::Cow;

/// Looks a whole reply over: a reply without content, and the usage when the provider told one. An error when the bytes are
/// no reply of the dialect.
pub fn skim_reply(dialect: Dialect, body: &[u8]) -> Result<(Reply, Option<Usage>), WireError> {
    let no_reply = |error: serde_json::Error| Path::Root.wrong(format!("is no reply ({error})"));
    let (id, model, stop, usage) = match dialect {
        // What ends it stands in its items: they must be read.
        Dialect::Responses => {
            let (reply, told) = crate::parse_reply(dialect, body)?;
            return Ok((Reply { content: Vec::new(), other: serde_json::Map::new(), ..reply }, told));
        }
        Dialect::Messages => {
            let reply: MessagesReply<'_> = serde_json::from_slice(body).map_err(no_reply)?;
            let sequence = reply.stop_sequence.map(Cow::into_owned);
            let stop = messages::read_stop(reply.stop_reason.unwrap_or_default().into_owned(), sequence);
            (reply.id, reply.model, stop, usage(reply.usage, messages::read_usage)?)
        }
        Dialect::Chat => {
            let reply: ChatReply<'_> = serde_json::from_slice(body).map_err(no_reply)?;
            let first = reply.choices.first().ok_or_else(|| Path::Root.wrong("has no choices"))?;
            (reply.id, reply.model, first.stop(), usage(reply.usage, chat::read_usage)?)
        }
    };
    let mut skimmed = Reply::new(model.unwrap_or_default(), Vec::new(), stop, usage.unwrap_or_default());
    skimmed.id = id.unwrap_or_default().into_owned();
    Ok((skimmed, usage))
}

/// Reads the answer to a count of tokens, `{"input_tokens": N}`.
pub fn read_count(body: &[u8]) -> Result<u64, WireError> {
    let mut body = crate::read::body(body)?;
    body.count("input_tokens")?.ok_or_else(|| body.missing("input_tokens"))
}

fn usage(
    value: Option<Value>,
    read: impl FnOnce(&mut Object<'_>) -> Result<Option<Usage>, WireError>,
) -> Result<Option<Usage>, WireError> {
    let Some(value) = value else { return Ok(None) };
    let path = Path::Field(&Path::Root, "usage");
    read(&mut Object::of(value, path)?)
}

#[derive(Deserialize)]
struct MessagesReply<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    stop_reason: Option<Cow<'a, str>>,
    #[serde(borrow)]
    stop_sequence: Option<Cow<'a, str>>,
    usage: Option<Value>,
    #[serde(rename = "content")]
    _content: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
struct ChatReply<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    choices: Vec<ChatChoice<'a>>,
    usage: Option<Value>,
}

#[derive(Deserialize)]
struct ChatChoice<'a> {
    #[serde(borrow)]
    finish_reason: Option<Cow<'a, str>>,
    message: ChatMessage,
}

#[derive(Deserialize)]
struct ChatMessage {
    tool_calls: Option<Vec<IgnoredAny>>,
    refusal: Option<IgnoredAny>,
}

impl ChatChoice<'_> {
    fn stop(&self) -> StopReason {
        let calls = self.message.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty());
        let reason = self.finish_reason.as_deref().unwrap_or("stop");
        chat::read_stop(reason, calls, self.message.refusal.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_reading_the_whole_reply_says() {
        let rows: [(Dialect, &[u8]); 4] = [
            (Dialect::Messages, include_bytes!("../../tests/golden/replies/tools.messages.json")),
            (Dialect::Chat, include_bytes!("../../tests/golden/replies/tools.chat.json")),
            (Dialect::Chat, br#"{"id":"c","model":"m","choices":[{"message":{"content":null,"refusal":"no"},"finish_reason":"stop"}]}"#),
            (Dialect::Messages, br#"{"id":"m","model":"x","content":[],"stop_reason":"stop_sequence","stop_sequence":"\n","usage":{"input_tokens":1,"output_tokens":2}}"#),
        ];
        for (dialect, body) in rows {
            let (whole, told) = crate::parse_reply(dialect, body).unwrap();
            let (skimmed, usage) = skim_reply(dialect, body).unwrap();
            let shown =
                |reply: &Reply| (reply.id.clone(), reply.model.clone(), reply.stop.clone(), reply.usage);
            assert_eq!((shown(&skimmed), usage), (shown(&whole), told));
            assert!(skimmed.content.is_empty());
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for (dialect, body) in [
            (Dialect::Messages, r#"{"id":"m","stop_reason":"end_turn"}"#),
            (Dialect::Messages, r#"{"content":"text"}"#),
            (Dialect::Chat, r#"{"choices":[]}"#),
            (Dialect::Chat, r#"{"choices":[{"finish_reason":"stop"}]}"#),
            (Dialect::Chat, "<html>"),
            (Dialect::Chat, r#"{"choices":[{"message":{}}]"#),
        ] {
            assert!(skim_reply(dialect, body.as_bytes()).is_err(), "{body}");
        }
    }
}
