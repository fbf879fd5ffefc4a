//! How the simulated provider counts tokens: one for every four bytes of content, rounded up. A rule that anybody can
//! compute beforehand; no tokenizer of a real model counts so. It must not depend on the dialect a request came in.

use backstop_call::{Block, DocumentSource, Request};

/// What one picture costs, whatever its size.
const IMAGE_TOKENS: u64 = 1_600;

/// The tokens of so many bytes: a quarter, rounded up.
pub fn of_bytes(bytes: usize) -> u64 {
    u64::try_from(bytes.div_ceil(4)).unwrap_or(u64::MAX)
}

/// The input tokens of a request: the bytes of its system text, of its messages' content and of its tools (name,
/// description, schema as compact JSON), a quarter of the sum, rounded up; at least 1. Pictures, and documents at an
/// address, count 1,600 each.
pub fn input(request: &Request) -> u64 {
    let content = request.system.iter().chain(request.messages.iter().flat_map(|message| &message.content));
    let (bytes, images) = content.fold((0, 0), |sum, block| add(sum, size(block)));
    let tools: usize = request
        .tools
        .iter()
        .map(|tool| tool.name.len() + tool.description.len() + tool.schema.to_string().len())
        .sum();
    of((bytes + tools, images)).max(1)
}

/// The output tokens of an answer's content: a quarter of its bytes, rounded up; at least 1.
pub fn output(content: &[Block]) -> u64 {
    let (bytes, _) = content.iter().fold((0, 0), |sum, block| add(sum, size(block)));
    of_bytes(bytes).max(1)
}

/// The part of an answer's tokens that is thought.
pub fn reasoning(content: &[Block]) -> u64 {
    let thought = content.iter().filter(|block| matches!(block, Block::Thinking { .. }));
    of_bytes(thought.map(|block| size(block).0).sum())
}

pub(crate) fn add(sum: (usize, u64), part: (usize, u64)) -> (usize, u64) {
    (sum.0 + part.0, sum.1 + part.1)
}

/// The tokens of bytes of text and pictures.
pub(crate) fn of((bytes, images): (usize, u64)) -> u64 {
    of_bytes(bytes) + images * IMAGE_TOKENS
}

/// Bytes of text, and pictures.
pub(crate) fn size(block: &Block) -> (usize, u64) {
    match block {
        Block::Text { text, .. } | Block::Thinking { text, .. } => (text.len(), 0),
        Block::Image { .. } => (0, 1),
        Block::Document { source, .. } => match source {
            DocumentSource::Text(text) | DocumentSource::Base64 { data: text, .. } => (text.len(), 0),
            // As one page, which is counted as a picture.
            DocumentSource::Url(_) => (0, 1),
        },
        Block::RedactedThinking { data } => (data.len(), 0),
        Block::ToolUse { name, input, .. } => (name.len() + written(input).len(), 0),
        Block::ToolResult { content, .. } => content.iter().fold((0, 0), |sum, part| add(sum, size(part))),
        Block::Other { value, .. } => (value.to_string().len(), 0),
    }
}

/// A tool call's arguments as they go over the wire: what was no JSON stays the text it was.
pub(crate) fn written(input: &serde_json::Value) -> String {
    input.as_str().map_or_else(|| input.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_call::{Message, Speaker, ToolSpec};
    use serde_json::json;

    #[test]
    fn a_quarter_of_the_bytes_rounded_up() {
        let rows = [(0, 0), (1, 1), (4, 1), (5, 2), (400, 100)];
        for (bytes, tokens) in rows {
            assert_eq!(of_bytes(bytes), tokens, "{bytes}");
        }
        let mut request =
            Request { messages: vec![Message::text(Speaker::User, "12345678")], ..Request::default() };
        assert_eq!(input(&request), 2);
        request.tools = [ToolSpec {
            name: "abcd".into(),
            description: "efgh".into(),
            schema: json!({"a": 1}),
            other: serde_json::Map::new(),
        }]
        .into();
        assert_eq!(input(&request), 6, "8 bytes of text, 8 of names, 7 of schema");
        assert_eq!(output(&[]), 1, "an answer is never free");
    }
}
