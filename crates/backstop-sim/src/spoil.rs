//! The faults that are in the answer itself, whatever way it is sent. Pure.

use crate::{Fault, worker};
use backstop_call::{Block, Reply, Request, StopReason, Usage};
use serde_json::{Value, json};

/// The answer as the fault makes it, and its usage counted anew.
pub(crate) fn spoiled(mut reply: Reply, fault: &Fault, request: &Request) -> Reply {
    match fault {
        Fault::WrongToolArguments => {
            each_call(&mut reply, request, |_, input| *input = json!({"sim_unexpected": [1, 2]}));
        }
        Fault::BrokenToolArguments => {
            each_call(&mut reply, request, |_, input| {
                let text = input.to_string();
                let half = text.floor_char_boundary(text.len() / 2).max(1);
                *input = Value::String(text[..half].to_owned());
            });
        }
        Fault::UnknownTool => each_call(&mut reply, request, |name, _| "sim_no_such_tool".clone_into(name)),
        Fault::EmptyAnswer => {
            reply.content.clear();
            reply.stop = StopReason::End;
        }
        Fault::Truncated => halved(&mut reply, StopReason::MaxTokens),
        Fault::ContextWindow => halved(&mut reply, StopReason::ContextWindow),
        Fault::Refusal => {
            reply.content = vec![Block::text("I can't help with that.")];
            reply.stop = StopReason::Refusal;
        }
        Fault::Pause => halved(&mut reply, StopReason::Pause),
        Fault::WrongUsage { times } => {
            let used = worker::usage(request, &reply.content);
            reply.usage = Usage {
                input_tokens: used.input_tokens * times,
                output_tokens: used.output_tokens * times,
                ..used
            };
            return reply;
        }
        Fault::Error { .. }
        | Fault::HtmlError
        | Fault::HangBeforeHeaders
        | Fault::HangAfterHeaders
        | Fault::CutBeforeBody
        | Fault::CutAt { .. }
        | Fault::EndEarly
        | Fault::MalformedJson
        | Fault::MalformedStream { .. }
        | Fault::InStreamError { .. }
        | Fault::MissingUsage
        | Fault::SlowFirstToken { .. }
        | Fault::SlowChunks { .. }
        | Fault::HugeBody { .. }
        | Fault::GarbageText => return reply,
    }
    reply.usage = worker::usage(request, &reply.content);
    reply
}

/// Changes every tool call. An answer without one gets one, where a tool was offered.
fn each_call(reply: &mut Reply, request: &Request, change: impl Fn(&mut String, &mut Value)) {
    let is_call = |block: &Block| matches!(block, Block::ToolUse { .. });
    if !reply.content.iter().any(is_call)
        && let Some(tool) = request.tools.first()
    {
        let id = format!("call_{}", reply.id);
        reply.content.push(Block::ToolUse { id, name: tool.name.clone(), input: json!({}), cache: None });
        reply.stop = StopReason::ToolUse;
    }
    for block in &mut reply.content {
        if let Block::ToolUse { name, input, .. } = block {
            change(name, input);
        }
    }
}

/// The first half of an answer, without tool calls.
fn halved(reply: &mut Reply, stop: StopReason) {
    reply.content.retain(|block| !matches!(block, Block::ToolUse { .. }));
    if reply.content.is_empty() {
        reply.content.push(Block::text("I begin with the first of the"));
    }
    let half = crate::tokens::output(&reply.content).div_ceil(2);
    reply.content = worker::truncated(std::mem::take(&mut reply.content), half);
    reply.stop = stop;
}
