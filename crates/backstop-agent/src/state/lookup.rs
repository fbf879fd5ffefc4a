//! Looks into a folded run: what it used, which calls wait for somebody, which changed something, what was said.

use super::{Question, RunState, Stage, ToolCall};
use backstop_call::Block;
use backstop_journal::event::Spent;

impl RunState {
    /// What it used, with the runs that did parts for it.
    pub fn spent(&self) -> Spent {
        let mut spent = Spent { cost: self.cost, usage: self.usage };
        spent.add(&self.given_out);
        spent
    }

    /// Tokens, input and output together, with the runs that did parts for it.
    pub fn tokens(&self) -> u64 {
        let usage = self.spent().usage;
        usage.total_input_tokens() + usage.output_tokens
    }

    /// The calls in doubt.
    pub fn in_doubt(&self) -> impl Iterator<Item = &ToolCall> {
        let is_unknown = |call: &&ToolCall| matches!(call.stage, Stage::Unknown { .. });
        self.turn_calls().iter().chain(&self.undos).filter(is_unknown)
    }

    /// The calls about which a person is asked, and has not answered, with the questions.
    pub fn questions(&self) -> impl Iterator<Item = (&ToolCall, &Question)> {
        self.turn_calls().iter().filter_map(|call| match &call.stage {
            Stage::Asking(question) => Some((call, question)),
            _ => None,
        })
    }

    /// The calls that changed something, or may have, newest first: all, or those whose id is or begins with `step`.
    pub fn effects(&self, step: Option<&str>) -> Vec<String> {
        let acted = |call: &&ToolCall| call.took_effect() || call.is_open();
        let ids = || self.calls.iter().rev().filter(acted).map(|call| &call.id);
        match step {
            None => ids().cloned().collect(),
            Some(step) if ids().any(|id| id == step) => vec![step.to_owned()],
            Some(step) => ids().filter(|id| id.starts_with(step)).cloned().collect(),
        }
    }

    /// The latest call that takes this one back.
    pub fn undo_of(&self, id: &str) -> Option<&ToolCall> {
        self.undos.iter().rev().find(|undo| undo.undoes(id))
    }

    /// What a call said: the text of its result in the conversation.
    pub fn said_of(&self, id: &str) -> Option<String> {
        let blocks = self.messages.iter().flat_map(|message| &message.content);
        blocks.into_iter().find_map(|block| match block {
            Block::ToolResult { id: of, content, .. } if of == id => {
                Some(content.iter().filter_map(Block::as_text).collect())
            }
            _ => None,
        })
    }
}
