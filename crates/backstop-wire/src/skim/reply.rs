//! A reply looked over, for a client that gets its bytes as they are: that it is one, why it stopped, what it used.

use super::scan::{Scan, Scanned, chars};
use crate::read::{Path, WireError};
use crate::{chat, messages};
use backstop_call::{Dialect, Reply, StopReason, Usage};

/// Looks a whole reply over: a reply without content, and the usage when the provider told one. An error when the bytes are
/// no reply of the dialect.
pub fn skim_reply(dialect: Dialect, body: &[u8]) -> Result<(Reply, Option<Usage>), WireError> {
    let looked = match dialect {
        // What ends it stands in its items: they must be read.
        Dialect::Responses => {
            let (reply, told) = crate::parse_reply(dialect, body)?;
            return Ok((Reply { content: Vec::new(), other: serde_json::Map::new(), ..reply }, told));
        }
        Dialect::Messages => of_messages(&mut over(body)?).map_err(|error| *error)?,
        Dialect::Chat => of_chat(&mut over(body)?).map_err(|error| *error)?,
    };
    let Looked { id, model, stop, usage } = looked;
    let mut reply = Reply::new(model.unwrap_or_default(), Vec::new(), stop, usage.unwrap_or_default());
    reply.id = id.unwrap_or_default();
    Ok((reply, usage))
}

/// Reads the answer to a count of tokens, `{"input_tokens": N}`.
pub fn read_count(body: &[u8]) -> Result<u64, WireError> {
    let mut body = crate::read::body(body)?;
    body.count("input_tokens")?.ok_or_else(|| body.missing("input_tokens"))
}

/// What is to be known of a reply.
struct Looked {
    id: Option<String>,
    model: Option<String>,
    stop: StopReason,
    usage: Option<Usage>,
}

fn over(body: &[u8]) -> Result<Scan<'_>, WireError> {
    match chars(body) {
        Some(_) => Ok(Scan::over(body)),
        None => Err(Path::Root.wrong("is no valid UTF-8")),
    }
}

fn of_messages(scan: &mut Scan<'_>) -> Scanned<Looked> {
    let (mut id, mut model, mut reason, mut sequence) = (None, None, None, None);
    let mut told = messages::Told::default();
    let mut has_content = false;
    scan.body(|scan, name| match scan.name(&name) {
        b"id" => scan.text().map(|found| id = found),
        b"model" => scan.text().map(|found| model = found),
        b"stop_reason" => scan.text().map(|found| reason = found),
        b"stop_sequence" => scan.text().map(|found| sequence = found),
        b"content" => {
            has_content = scan.is_list();
            scan.skip()
        }
        b"usage" => scan.object(|scan, name| match scan.name(&name) {
            b"input_tokens" => scan.count().map(|found| told.input = found),
            b"output_tokens" => scan.count().map(|found| told.output = found),
            b"cache_read_input_tokens" => scan.count().map(|found| told.cache_read = found),
            b"cache_creation_input_tokens" => scan.count().map(|found| told.cache_write = found),
            b"output_tokens_details" => scan.object(|scan, name| match scan.name(&name) {
                b"thinking_tokens" => scan.count().map(|found| told.reasoning = found),
                _ => scan.skip(),
            }),
            _ => scan.skip(),
        }),
        _ => scan.skip(),
    })?;
    if !has_content {
        return Err(Path::Root.wrong("is no reply (content is no list)").into());
    }
    let stop = messages::read_stop(reason.unwrap_or_default(), sequence);
    Ok(Looked { id, model, stop, usage: told.usage() })
}

fn of_chat(scan: &mut Scan<'_>) -> Scanned<Looked> {
    let (mut id, mut model, mut first) = (None, None, None);
    let mut told = chat::Told::default();
    scan.body(|scan, name| match scan.name(&name) {
        b"id" => scan.text().map(|found| id = found),
        b"model" => scan.text().map(|found| model = found),
        b"choices" => scan.list(|scan| {
            let stop = choice(scan)?;
            first.get_or_insert(stop);
            Ok(())
        }),
        b"usage" => scan.object(|scan, name| match scan.name(&name) {
            b"prompt_tokens" => scan.count().map(|found| told.prompt = found),
            b"completion_tokens" => scan.count().map(|found| told.completion = found),
            b"prompt_cache_hit_tokens" => scan.count().map(|found| told.hit = found),
            b"prompt_tokens_details" => scan.object(|scan, name| match scan.name(&name) {
                b"cached_tokens" => scan.count().map(|found| told.cached = found),
                b"cache_write_tokens" => scan.count().map(|found| told.written = found),
                _ => scan.skip(),
            }),
            b"completion_tokens_details" => scan.object(|scan, name| match scan.name(&name) {
                b"reasoning_tokens" => scan.count().map(|found| told.reasoning = found),
                _ => scan.skip(),
            }),
            _ => scan.skip(),
        }),
        _ => scan.skip(),
    })?;
    let stop = first.ok_or_else(|| Path::Root.wrong("has no choices"))?;
    Ok(Looked { id, model, stop, usage: told.usage() })
}

/// Why a choice of Chat ends.
fn choice(scan: &mut Scan<'_>) -> Scanned<StopReason> {
    let (mut reason, mut has_message, mut has_calls, mut is_refusal) = (None, false, false, false);
    scan.object(|scan, name| match scan.name(&name) {
        b"finish_reason" => scan.text().map(|found| reason = found),
        b"message" => {
            has_message = true;
            scan.object(|scan, name| match scan.name(&name) {
                b"tool_calls" => scan.list(|scan| {
                    has_calls = true;
                    scan.skip()
                }),
                b"refusal" => {
                    is_refusal = !scan.is_null();
                    scan.skip()
                }
                _ => scan.skip(),
            })
        }
        _ => scan.skip(),
    })?;
    if !has_message {
        return Err(Path::Root.wrong("is no reply (a choice has no message)").into());
    }
    Ok(chat::read_stop(reason.as_deref().unwrap_or("stop"), has_calls, is_refusal))
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
