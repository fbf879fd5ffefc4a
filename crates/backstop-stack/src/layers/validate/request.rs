//! What is wrong with a request, whatever the provider.

use backstop_call::{Block, Message, OutputFormat, Request, Speaker, ToolChoice};
use std::collections::BTreeSet;

/// Says what is wrong with a request, where, and what would be right.
pub fn check_request(request: &Request) -> Result<(), String> {
    // What was said before is held by the provider, and so may be the call that a result answers.
    if !request.continued {
        check_beginning(request)?;
        check_conversation(&request.messages)?;
    }
    check_tools(request)?;
    if let Some(OutputFormat::Schema { schema, .. }) = &request.output
        && !schema.is_object()
    {
        return Err("the schema of the answer is no JSON object".to_owned());
    }
    Ok(())
}

fn check_beginning(request: &Request) -> Result<(), String> {
    let Some(first) = request.messages.first() else {
        return Err("there are no messages; at least one is needed".to_owned());
    };
    if first.speaker == Speaker::Assistant {
        return Err("the first message is the model's; the user's comes first".to_owned());
    }
    if request.messages.iter().all(|message| message.speaker == Speaker::System) {
        return Err("all messages are system messages; at least one of the user is needed".to_owned());
    }
    Ok(())
}

fn check_tools(request: &Request) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for tool in &request.tools {
        if tool.name.is_empty() {
            return Err("a tool has no name".to_owned());
        }
        if !names.insert(tool.name.as_str()) {
            return Err(format!("two tools are named `{}`", tool.name));
        }
    }
    match &request.tool_choice {
        Some(ToolChoice::Tool(name)) if !names.contains(name.as_str()) => {
            Err(format!("the tool `{name}` must be called but is not among the tools"))
        }
        Some(ToolChoice::Required) if names.is_empty() => {
            Err("a tool must be called but there are no tools".to_owned())
        }
        Some(ToolChoice::Tool(_) | ToolChoice::Required | ToolChoice::Auto | ToolChoice::None) | None => {
            Ok(())
        }
    }
}

/// Every tool call is answered in the message that follows, every result answers a call of the message before.
fn check_conversation(messages: &[Message]) -> Result<(), String> {
    let mut open: BTreeSet<&str> = BTreeSet::new();
    for (i, message) in messages.iter().enumerate() {
        let at = |why: &str| Err(format!("message {i}: {why}"));
        if message.content.is_empty() {
            return at("it has no content");
        }
        check_speaker(message).or_else(|why| at(&why))?;
        if message.speaker == Speaker::Assistant && !open.is_empty() {
            return at(&unanswered(&open));
        }
        for block in &message.content {
            match block {
                Block::ToolResult { id, .. } if !open.remove(id.as_str()) => {
                    return at(&format!("the tool result `{id}` answers no open tool call"));
                }
                Block::Text { .. } if message.speaker == Speaker::User && !open.is_empty() => {
                    return at(&unanswered(&open));
                }
                Block::ToolUse { id, .. } if !open.insert(id) => {
                    return at(&format!("two tool calls have the id `{id}`"));
                }
                Block::ToolResult { .. }
                | Block::ToolUse { .. }
                | Block::Text { .. }
                | Block::Image { .. }
                | Block::Document { .. }
                | Block::Thinking { .. }
                | Block::RedactedThinking { .. }
                | Block::Other { .. } => {}
            }
        }
    }
    if open.is_empty() { Ok(()) } else { Err(format!("after the last message: {}", unanswered(&open))) }
}

fn check_speaker(message: &Message) -> Result<(), String> {
    let speaker = message.speaker;
    for block in &message.content {
        match block {
            Block::ToolUse { name, .. } if speaker != Speaker::Assistant => {
                return Err(format!("a call of the tool `{name}` that is not the model's"));
            }
            Block::ToolUse { input, name, .. } if !input.is_object() => {
                return Err(format!("the arguments of the tool `{name}` are no JSON object"));
            }
            Block::ToolResult { id, .. } if speaker != Speaker::User => {
                return Err(format!("the tool result `{id}` is not the user's"));
            }
            Block::Thinking { .. } | Block::RedactedThinking { .. } if speaker != Speaker::Assistant => {
                return Err("a thought that is not the model's".to_owned());
            }
            Block::ToolUse { .. }
            | Block::ToolResult { .. }
            | Block::Thinking { .. }
            | Block::RedactedThinking { .. }
            | Block::Text { .. }
            | Block::Image { .. }
            | Block::Document { .. }
            | Block::Other { .. } => {}
        }
    }
    Ok(())
}

fn unanswered(open: &BTreeSet<&str>) -> String {
    let ids: Vec<_> = open.iter().map(|id| format!("`{id}`")).collect();
    format!("no result for the tool calls {} comes first", ids.join(", "))
}
