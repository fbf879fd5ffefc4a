//! A reply looked over, for a client that gets its bytes as they are: that it is one, why it stopped, what it used.

use crate::raw::{Json, Raw};
use crate::read::{Path, WireError};
use crate::{chat, messages};
use backstop_call::{Dialect, Reply, StopReason, Usage};
use std::borrow::Cow;

/// Looks a whole reply over: a reply without content, and the usage when the provider told one. An error when the bytes are
/// no reply of the dialect.
pub fn skim_reply(dialect: Dialect, body: &[u8]) -> Result<(Reply, Option<Usage>), WireError> {
    if dialect == Dialect::Responses {
        // What ends it stands in its items: they must be read.
        let (reply, told) = crate::parse_reply(dialect, body)?;
        return Ok((Reply { content: Vec::new(), other: serde_json::Map::new(), ..reply }, told));
    }
    let body = std::str::from_utf8(body).map_err(|_| Path::Root.wrong("is no valid UTF-8"))?;
    let body = Json::read(body)?;
    let look = if dialect == Dialect::Chat { of_chat } else { of_messages };
    let Looked { id, model, stop, usage } = look(&body.root())?;
    let mut reply = Reply::new(model, Vec::new(), stop, usage.unwrap_or_default());
    reply.id = id;
    Ok((reply, usage))
}

/// Reads the answer to a count of tokens, `{"input_tokens": N}`.
pub fn read_count(body: &[u8]) -> Result<u64, WireError> {
    let mut body = crate::read::body(body)?;
    body.count("input_tokens")?.ok_or_else(|| body.missing("input_tokens"))
}

/// What is to be known of a reply.
struct Looked {
    id: String,
    model: String,
    stop: StopReason,
    usage: Option<Usage>,
}

fn of_messages(body: &Raw<'_, '_>) -> Result<Looked, WireError> {
    let [id, model, reason, sequence, content, usage] =
        body.fields(["id", "model", "stop_reason", "stop_sequence", "content", "usage"])?;
    content.required()?.each(|_| Ok(()))?;
    let sequence = sequence.text()?.map(Cow::into_owned);
    Ok(Looked {
        id: id.owned_text()?,
        model: model.owned_text()?,
        stop: messages::read_stop(reason.owned_text()?, sequence),
        usage: messages::Told::of(&usage)?.usage(),
    })
}

fn of_chat(body: &Raw<'_, '_>) -> Result<Looked, WireError> {
    let [id, model, choices, usage] = body.fields(["id", "model", "choices", "usage"])?;
    let mut first = None;
    choices.each(|choice| {
        let stop = stop_of(&choice)?;
        first.get_or_insert(stop);
        Ok(())
    })?;
    Ok(Looked {
        id: id.owned_text()?,
        model: model.owned_text()?,
        stop: first.ok_or_else(|| body.wrong("has no choices"))?,
        usage: chat::Told::of(&usage)?.usage(),
    })
}

/// Why a choice of Chat ends.
fn stop_of(choice: &Raw<'_, '_>) -> Result<StopReason, WireError> {
    let [reason, message] = choice.fields(["finish_reason", "message"])?;
    let message = message.required()?;
    let [tool_calls, refusal] = message.fields(["tool_calls", "refusal"])?;
    let mut has_calls = false;
    tool_calls.each(|_| {
        has_calls = true;
        Ok(())
    })?;
    let reason = reason.text()?;
    Ok(chat::read_stop(reason.as_deref().unwrap_or("stop"), has_calls, !refusal.is_absent()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_reading_the_whole_reply_says() {
        let rows: [(Dialect, &[u8]); 7] = [
            (Dialect::Messages, include_bytes!("../../tests/golden/replies/tools.messages.json")),
            (Dialect::Chat, include_bytes!("../../tests/golden/replies/tools.chat.json")),
            (Dialect::Chat, br#"{"id":"c\u0041","model":"m","choices":[{"message":{"content":"x","tool_calls":null},"finish_reason":"length"},{"message":{}}],"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14,"prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":2}}}"#),
            (Dialect::Chat, br#"{"id":"c","model":"m","choices":[{"message":{"tool_calls":[]},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"prompt_cache_hit_tokens":3,"completion_tokens":1}}"#),
            (Dialect::Messages, br#"{"id":"m","model":"x","content":[],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":2,"cache_read_input_tokens":3,"cache_creation_input_tokens":4,"output_tokens_details":{"thinking_tokens":1},"service_tier":"standard"}}"#),
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
            (Dialect::Chat, r#"{"choices":[{"message":{}}],"usage":{"prompt_tokens":-1}}"#),
            (Dialect::Chat, r#"{"choices":[{"message":{}}],"id":1}"#),
        ] {
            assert!(skim_reply(dialect, body.as_bytes()).is_err(), "{body}");
        }
    }
}
