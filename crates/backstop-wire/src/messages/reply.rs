//! Replies of Anthropic Messages, their usage and their stop reasons.

use super::{Side, read_block, render_block};
use crate::raw::Raw;
use crate::read::{self, Object, WireError, merge};
use crate::{Lost, foreign};
use backstop_call::{Dialect, LimitHint, Reply, StopReason, Usage};
use serde_json::{Map, Value, json};

pub(crate) fn parse_reply(body: &[u8]) -> Result<(Reply, Option<Usage>), WireError> {
    let mut body = read::body(body)?;
    let content = body.each("content", read_block)?.ok_or_else(|| body.missing("content"))?;
    let sequence = body.text("stop_sequence")?;
    let reason = body.required_text("stop_reason")?;
    let usage = body.nested("usage", read_usage)?.flatten();
    let (id, model) = (body.required_text("id")?, body.required_text("model")?);
    body.value("type");
    body.value("role");
    let reply = Reply {
        id,
        model,
        content,
        stop: read_stop(reason, sequence),
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

fn read_usage(usage: &mut Object<'_>) -> Result<Option<Usage>, WireError> {
    let reasoning = usage.nested("output_tokens_details", |details| details.count("thinking_tokens"))?;
    let told = Told {
        input: usage.count("input_tokens")?,
        output: usage.count("output_tokens")?,
        cache_read: usage.count("cache_read_input_tokens")?,
        cache_write: usage.count("cache_creation_input_tokens")?,
        reasoning: reasoning.flatten(),
    };
    Ok(told.usage())
}

pub(crate) fn render_reply(reply: &Reply) -> Vec<u8> {
    let mut lost = Lost::new();
    let content = foreign::translated(Dialect::Messages, &reply.content, &mut lost);
    let content: Vec<Value> =
        content.iter().filter_map(|block| render_block(block, Side::Reply, &mut lost)).collect();
    let (reason, sequence) = render_stop(&reply.stop);
    let mut body = Map::new();
    body.insert("id".into(), reply.id.clone().into());
    body.insert("type".into(), "message".into());
    body.insert("role".into(), "assistant".into());
    body.insert("model".into(), reply.model.clone().into());
    body.insert("content".into(), content.into());
    body.insert("stop_reason".into(), reason.into());
    body.insert("stop_sequence".into(), sequence.into());
    body.insert("usage".into(), render_usage(&reply.usage));
    merge(&mut body, &foreign::without_echo(&reply.other));
    Value::Object(body).to_string().into_bytes()
}

pub(crate) fn read_stop(reason: String, sequence: Option<String>) -> StopReason {
    match reason.as_str() {
        "end_turn" => StopReason::End,
        "tool_use" => StopReason::ToolUse,
        "max_tokens" => StopReason::MaxTokens,
        "model_context_window_exceeded" => StopReason::ContextWindow,
        "stop_sequence" => StopReason::StopSequence(sequence),
        "refusal" => StopReason::Refusal,
        "pause_turn" => StopReason::Pause,
        _ => StopReason::Other(reason),
    }
}

/// `stop_reason` and `stop_sequence`.
pub(super) fn render_stop(stop: &StopReason) -> (&str, Option<&str>) {
    match stop {
        StopReason::End => ("end_turn", None),
        StopReason::ToolUse => ("tool_use", None),
        StopReason::MaxTokens => ("max_tokens", None),
        StopReason::ContextWindow => ("model_context_window_exceeded", None),
        StopReason::StopSequence(sequence) => ("stop_sequence", sequence.as_deref()),
        StopReason::Refusal => ("refusal", None),
        StopReason::Pause => ("pause_turn", None),
        StopReason::Other(reason) => (reason, None),
    }
}

/// What has been told of usage: a stream tells it in two parts, the later of which holds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Told {
    input: Option<u64>,
    output: Option<u64>,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    reasoning: Option<u64>,
}

impl Told {
    pub(crate) fn of(usage: &Raw<'_, '_>) -> Result<Self, WireError> {
        if usage.is_absent() {
            return Ok(Self::default());
        }
        let [input, output, cache_read, cache_write, details] = usage.fields([
            "input_tokens",
            "output_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
            "output_tokens_details",
        ])?;
        let [reasoning] = details.fields(["thinking_tokens"])?;
        Ok(Self {
            input: input.count()?,
            output: output.count()?,
            cache_read: cache_read.count()?,
            cache_write: cache_write.count()?,
            reasoning: reasoning.count()?,
        })
    }

    /// What it leaves out is as it was told before.
    pub(super) fn after(self, before: Self) -> Self {
        Self {
            input: self.input.or(before.input),
            output: self.output.or(before.output),
            cache_read: self.cache_read.or(before.cache_read),
            cache_write: self.cache_write.or(before.cache_write),
            reasoning: self.reasoning.or(before.reasoning),
        }
    }

    /// Only zeros are no usage: nothing is answered from nothing.
    pub(crate) fn usage(self) -> Option<Usage> {
        let usage = Usage {
            input_tokens: self.input.unwrap_or(0),
            output_tokens: self.output.unwrap_or(0),
            cache_read_tokens: self.cache_read.unwrap_or(0),
            cache_write_tokens: self.cache_write.unwrap_or(0),
            reasoning_tokens: self.reasoning.unwrap_or(0),
            estimated: false,
        };
        Some(usage).filter(|usage| *usage != Usage::default())
    }

    /// Whether the output stands there; a usage without it is only half of one.
    pub(super) fn tells_output(self) -> bool {
        self.output.is_some()
    }
}

pub(super) fn render_usage(usage: &Usage) -> Value {
    let mut out = json!({
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "output_tokens": usage.output_tokens,
    });
    if usage.reasoning_tokens > 0 {
        out["output_tokens_details"] = json!({ "thinking_tokens": usage.reasoning_tokens });
    }
    out
}
