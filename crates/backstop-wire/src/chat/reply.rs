//! Replies of Chat Completions, their usage and their stop reasons.

use super::read_assistant;
use super::request::render_call;
use crate::raw::Raw;
use crate::read::{self, Object, Path, WireError, merge};
use crate::{Lost, foreign};
use backstop_call::{Block, Dialect, LimitHint, Reply, StopReason, Timestamp, Usage};
use serde_json::{Map, Value, json};

pub(crate) fn parse_reply(body: &[u8]) -> Result<(Reply, Option<Usage>), WireError> {
    let mut body = read::body(body)?;
    let choices = body.each("choices", read_choice)?.ok_or_else(|| body.missing("choices"))?;
    let Some((content, stop)) = choices.into_iter().next() else {
        return Err(body.wrong("choices", "is empty"));
    };
    let usage = body.nested("usage", read_usage)?.flatten();
    body.value("object");
    body.value("created");
    let reply = Reply {
        id: body.text("id")?.unwrap_or_default(),
        model: body.text("model")?.unwrap_or_default(),
        content,
        stop,
        usage: usage.unwrap_or_default(),
        first_token: None,
        request_id: None,
        limits: LimitHint::default(),
        attempts: Vec::new(),
        other: body.rest(),
        told: None,
        lost: Vec::new(),
    };
    Ok((reply, usage))
}

fn read_choice(value: Value, path: Path<'_>) -> Result<(Vec<Block>, StopReason), WireError> {
    let mut choice = Object::of(value, path)?;
    let refused = |message: &mut Object<'_>| {
        let refused = message.text("refusal")?;
        let is_refusal = refused.is_some();
        if let Some(text) = refused {
            message.keep("refusal", text.into());
        }
        Ok((read_assistant(message)?, is_refusal))
    };
    let (content, is_refusal) =
        choice.nested("message", refused)?.ok_or_else(|| choice.missing("message"))?;
    let calls = content.iter().any(|block| matches!(block, Block::ToolUse { .. }));
    let reason = choice.text("finish_reason")?;
    Ok((content, read_stop(reason.as_deref().unwrap_or("stop"), calls, is_refusal)))
}

/// Some servers say `stop` although the model calls tools.
pub(crate) fn read_stop(reason: &str, calls: bool, is_refusal: bool) -> StopReason {
    match reason {
        "stop" if is_refusal => StopReason::Refusal,
        "stop" | "tool_calls" if calls => StopReason::ToolUse,
        "stop" => StopReason::End,
        "tool_calls" => StopReason::ToolUse,
        "length" => StopReason::MaxTokens,
        "content_filter" => StopReason::Refusal,
        other => StopReason::Other(other.to_owned()),
    }
}

pub(super) fn render_stop(stop: &StopReason) -> &str {
    match stop {
        StopReason::End | StopReason::StopSequence(_) | StopReason::Pause => "stop",
        StopReason::ToolUse => "tool_calls",
        StopReason::MaxTokens | StopReason::ContextWindow => "length",
        StopReason::Refusal => "content_filter",
        StopReason::Other(reason) => reason,
    }
}

/// What is told of usage, field by field.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Told {
    prompt: Option<u64>,
    completion: Option<u64>,
    /// Of the prompt, what was read from the cache.
    cached: Option<u64>,
    /// The same by DeepSeek's name of it.
    hit: Option<u64>,
    /// Of the prompt, what was written to the cache.
    written: Option<u64>,
    reasoning: Option<u64>,
}

impl Told {
    pub(crate) fn of(usage: &Raw<'_, '_>) -> Result<Self, WireError> {
        if usage.is_absent() {
            return Ok(Self::default());
        }
        let [prompt, completion, hit, of_prompt, of_completion] = usage.fields([
            "prompt_tokens",
            "completion_tokens",
            "prompt_cache_hit_tokens",
            "prompt_tokens_details",
            "completion_tokens_details",
        ])?;
        let [cached, written] = of_prompt.fields(["cached_tokens", "cache_write_tokens"])?;
        let [reasoning] = of_completion.fields(["reasoning_tokens"])?;
        Ok(Self {
            prompt: prompt.count()?,
            completion: completion.count()?,
            cached: cached.count()?,
            hit: hit.count()?,
            written: written.count()?,
            reasoning: reasoning.count()?,
        })
    }

    /// What was read from the cache, or written to it, is part of `prompt_tokens` here and apart in our words. Only zeros are
    /// no usage: nothing is answered from nothing.
    pub(crate) fn usage(self) -> Option<Usage> {
        let prompt = self.prompt.unwrap_or(0);
        let cache_read_tokens = self.cached.or(self.hit).unwrap_or(0).min(prompt);
        let cache_write_tokens = self.written.unwrap_or(0).min(prompt - cache_read_tokens);
        let usage = Usage {
            input_tokens: prompt - cache_read_tokens - cache_write_tokens,
            output_tokens: self.completion.unwrap_or(0),
            cache_read_tokens,
            cache_write_tokens,
            reasoning_tokens: self.reasoning.unwrap_or(0),
            estimated: false,
        };
        Some(usage).filter(|usage| *usage != Usage::default())
    }
}

fn read_usage(usage: &mut Object<'_>) -> Result<Option<Usage>, WireError> {
    let (prompt, completion) = (usage.count("prompt_tokens")?, usage.count("completion_tokens")?);
    usage.count("total_tokens")?;
    let read = |details: &mut Object<'_>| {
        Ok((details.count("cached_tokens")?, details.count("cache_write_tokens")?))
    };
    let (cached, written) = usage.nested("prompt_tokens_details", read)?.unwrap_or_default();
    let hit = usage.count("prompt_cache_hit_tokens")?;
    usage.count("prompt_cache_miss_tokens")?;
    let reasoning = usage.nested("completion_tokens_details", |details| details.count("reasoning_tokens"))?;
    Ok(Told { prompt, completion, cached, hit, written, reasoning: reasoning.flatten() }.usage())
}

pub(super) fn render_usage(usage: &Usage) -> Value {
    let prompt = usage.total_input_tokens();
    let mut details = json!({ "cached_tokens": usage.cache_read_tokens });
    if usage.cache_write_tokens > 0 {
        details["cache_write_tokens"] = usage.cache_write_tokens.into();
    }
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": usage.output_tokens,
        "total_tokens": prompt + usage.output_tokens,
        "prompt_tokens_details": details,
        "completion_tokens_details": { "reasoning_tokens": usage.reasoning_tokens },
    })
}

pub(crate) fn render_reply(reply: &Reply, created: Timestamp) -> Vec<u8> {
    let mut body = Map::new();
    body.insert("id".into(), reply.id.clone().into());
    body.insert("object".into(), "chat.completion".into());
    body.insert("created".into(), created.secs().into());
    body.insert("model".into(), reply.model.clone().into());
    let choice = json!({
        "index": 0,
        "message": render_message(&reply.content),
        "finish_reason": render_stop(&reply.stop),
    });
    body.insert("choices".into(), json!([choice]));
    body.insert("usage".into(), render_usage(&reply.usage));
    merge(&mut body, &foreign::without_echo(&reply.other));
    Value::Object(body).to_string().into_bytes()
}

/// A message of a reply is flat: one text, the thoughts beside it as DeepSeek and vLLM name them, and the calls.
fn render_message(blocks: &[Block]) -> Value {
    let mut text = String::new();
    let mut thought = String::new();
    let mut calls = Vec::new();
    for block in foreign::translated(Dialect::Chat, blocks, &mut Lost::new()).iter() {
        match block {
            Block::Text { text: more, .. } => text.push_str(more),
            Block::Thinking { text: more, .. } => thought.push_str(more),
            Block::ToolUse { id, name, input, .. } => calls.push(render_call(id, name, input)),
            Block::Other { dialect: Dialect::Chat, value } => calls.push(value.clone()),
            Block::RedactedThinking { .. }
            | Block::Image { .. }
            | Block::Document { .. }
            | Block::ToolResult { .. }
            | Block::Other { .. } => {}
        }
    }
    let content = if text.is_empty() && !calls.is_empty() { Value::Null } else { text.into() };
    let mut message = json!({"role": "assistant", "content": content, "refusal": null});
    if !thought.is_empty() {
        message["reasoning_content"] = thought.into();
    }
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    message
}
