//! Folds the chunks of a stream into the reply they make.

use crate::{Block, Chunk, ContentDelta, Reply, StopReason, Usage};
use serde_json::Value;
use std::collections::BTreeMap;

/// A reply in the making. Feed it every chunk; [`Assembly::finish`] tells whether the stream was whole.
#[derive(Debug, Clone, Default)]
pub struct Assembly {
    id: String,
    model: String,
    blocks: BTreeMap<usize, (Block, String)>,
    usage: Option<Usage>,
    stop: Option<StopReason>,
}

impl Assembly {
    /// Takes one chunk in. A delta for a block that never began is dropped: the dialect's parser has refused it before.
    pub fn push(&mut self, chunk: &Chunk) {
        match chunk {
            Chunk::Start { id, model } => {
                self.id.clone_from(id);
                self.model.clone_from(model);
            }
            Chunk::BlockStart { index, block } => {
                self.blocks.insert(*index, (block.clone(), String::new()));
            }
            Chunk::Delta { index, delta } => {
                if let Some((block, input)) = self.blocks.get_mut(index) {
                    grow(block, input, delta);
                }
            }
            Chunk::Usage(usage) => self.usage = Some(*usage),
            Chunk::Stop { reason } => self.stop = Some(reason.clone()),
            Chunk::Frame(frame) => frame.says.iter().for_each(|chunk| self.push(chunk)),
            Chunk::Head(_) | Chunk::BlockStop { .. } | Chunk::Ping | Chunk::Other { .. } => {}
        }
    }

    /// The usage that the provider has told so far.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// How many characters of content have come so far: what an estimate of the output is made from.
    pub fn content_chars(&self) -> usize {
        let of = |(block, input): &(Block, String)| match block {
            Block::Text { text, .. } | Block::Thinking { text, .. } => text.len(),
            Block::ToolUse { name, .. } => name.len() + input.len(),
            Block::Image { .. }
            | Block::Document { .. }
            | Block::RedactedThinking { .. }
            | Block::ToolResult { .. }
            | Block::Other { .. } => 0,
        };
        self.blocks.values().map(of).sum()
    }

    /// The reply, or `None` when the stream ended without a stop: it was cut. The usage is `None` in the second place
    /// when the provider told none, and the caller must estimate it.
    pub fn finish(self) -> Option<(Reply, Option<Usage>)> {
        let stop = self.stop?;
        let content = self.blocks.into_values().map(|(block, input)| close(block, &input)).collect();
        let mut reply = Reply::new(self.model, content, stop, self.usage.unwrap_or_default());
        reply.id = self.id;
        Some((reply, self.usage))
    }
}

fn grow(block: &mut Block, input: &mut String, delta: &ContentDelta) {
    match (block, delta) {
        (Block::Text { text, .. }, ContentDelta::Text(more))
        | (Block::Thinking { text, .. }, ContentDelta::Thinking(more)) => {
            text.push_str(more);
        }
        (Block::Thinking { signature, .. }, ContentDelta::Signature(more)) => {
            signature.get_or_insert_default().push_str(more);
        }
        (Block::ToolUse { .. } | Block::Other { .. }, ContentDelta::ToolInput(more)) => input.push_str(more),
        (_, _) => {}
    }
}

/// Arguments that came in pieces become an object; what is none stays as the text it was, for validation to refuse. A
/// tool that the provider runs itself is called in a block of the dialect's own, which gets them too.
fn close(mut block: Block, pieces: &str) -> Block {
    if pieces.is_empty() {
        return block;
    }
    let arguments = match serde_json::from_str(pieces) {
        Ok(Value::Object(fields)) => Value::Object(fields),
        _ => Value::String(pieces.to_owned()),
    };
    match &mut block {
        Block::ToolUse { input, .. } => *input = arguments,
        Block::Other { value: Value::Object(fields), .. } => {
            fields.insert("input".to_owned(), arguments);
        }
        _ => {}
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tool(input: Value) -> Block {
        Block::ToolUse { id: "t1".into(), name: "read_file".into(), input, cache: None }
    }

    #[test]
    fn pieces_become_a_reply() {
        let mut assembly = Assembly::default();
        let chunks = [
            Chunk::Start { id: "m1".into(), model: "m".into() },
            Chunk::BlockStart { index: 0, block: Block::text("") },
            Chunk::Delta { index: 0, delta: ContentDelta::Text("Hel".into()) },
            Chunk::Delta { index: 0, delta: ContentDelta::Text("lo".into()) },
            Chunk::BlockStart { index: 1, block: tool(json!({})) },
            Chunk::Delta { index: 1, delta: ContentDelta::ToolInput("{\"path\":".into()) },
            Chunk::Delta { index: 1, delta: ContentDelta::ToolInput("\"a\"}".into()) },
            Chunk::Stop { reason: StopReason::ToolUse },
        ];
        for chunk in &chunks {
            assembly.push(chunk);
        }
        let (reply, usage) = assembly.finish().unwrap();
        assert_eq!(reply.content, [Block::text("Hello"), tool(json!({"path": "a"}))]);
        assert_eq!(usage, None, "a missing usage is seen, never taken for zero");
    }

    #[test]
    fn arguments_that_are_no_object_stay_text_and_a_dialects_own_call_gets_its_own() {
        let mut assembly = Assembly::default();
        let call = json!({"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}});
        let own = |value| Block::Other { dialect: crate::Dialect::Messages, value };
        let grow = |index, json: &str| Chunk::Delta { index, delta: ContentDelta::ToolInput(json.into()) };
        assembly.push(&Chunk::BlockStart { index: 0, block: tool(json!({})) });
        assembly.push(&grow(0, "[1]"));
        assembly.push(&Chunk::BlockStart { index: 1, block: own(call) });
        assembly.push(&grow(1, "{\"query\":\"x\"}"));
        assembly.push(&Chunk::Stop { reason: StopReason::ToolUse });
        let (reply, _) = assembly.finish().unwrap();
        let called =
            json!({"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}});
        assert_eq!(reply.content, [tool(json!("[1]")), own(called)]);
    }

    #[test]
    fn a_cut_stream_is_no_reply() {
        let mut assembly = Assembly::default();
        assembly.push(&Chunk::BlockStart { index: 0, block: Block::text("half") });
        assert_eq!(assembly.content_chars(), 4);
        assert!(assembly.finish().is_none());
    }
}
