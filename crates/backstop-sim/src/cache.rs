//! The prompt cache of the simulated provider, as Anthropic's works by `cache_control`: what stands before a mark is kept,
//! and a later request that begins with the same reads it. Simpler than any real one: nothing is too small to be kept,
//! nothing expires, and only marks count. Must not look at the dialect: Chat and Responses have no marks, and so no cache.

use crate::tokens;
use backstop_call::{Block, Request, Usage};
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The input tokens of a request that went through the cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cached {
    read: u64,
    write: u64,
}

impl Cached {
    /// Tells a usage's cached input apart from the rest.
    pub(crate) fn of(self, usage: Usage) -> Usage {
        Usage {
            input_tokens: usage.input_tokens.saturating_sub(self.read + self.write),
            cache_read_tokens: self.read,
            cache_write_tokens: self.write,
            ..usage
        }
    }
}

/// What is kept, by the hash of the provider, the model and everything up to a mark.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<HashSet<u64>>);

impl Cache {
    /// Reads the longest marked beginning that is kept, and keeps all of this request's.
    pub(crate) fn pass(&self, provider: &str, request: &Request) -> Cached {
        let marked = marked(provider, request);
        let mut kept = self.kept();
        let read = marked.iter().rev().find(|(hash, _)| kept.contains(hash)).map_or(0, |(_, tokens)| *tokens);
        let whole = marked.last().map_or(0, |(_, tokens)| *tokens);
        kept.extend(marked.iter().map(|(hash, _)| hash));
        Cached { read, write: whole - read }
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.kept().clear();
    }

    fn kept(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every marked beginning of a request, the shortest first: its hash, and its tokens counted as [`tokens::input`] counts
/// them. Tools come before the system text, and that before the conversation.
fn marked(provider: &str, request: &Request) -> Vec<(u64, u64)> {
    let mut hasher = DefaultHasher::new();
    (provider, &request.model).hash(&mut hasher);
    let mut size = (0, 0);
    let mut marked = Vec::new();
    for tool in &request.tools {
        let schema = tool.schema.to_string();
        (&tool.name, &tool.description, &schema).hash(&mut hasher);
        size = tokens::add(size, (tool.name.len() + tool.description.len() + schema.len(), 0));
        if tool.other.contains_key("cache_control") {
            marked.push((hasher.finish(), tokens::of(size)));
        }
    }
    let said = request
        .messages
        .iter()
        .flat_map(|message| message.content.iter().map(move |block| (Some(message.speaker), block)));
    for (speaker, block) in request.system.iter().map(|block| (None, block)).chain(said) {
        let mut bare = block.clone();
        let is_marked = mark(&mut bare).and_then(Option::take).is_some();
        format!("{speaker:?}{bare:?}").hash(&mut hasher);
        size = tokens::add(size, tokens::size(block));
        if is_marked {
            marked.push((hasher.finish(), tokens::of(size)));
        }
    }
    marked
}

fn mark(block: &mut Block) -> Option<&mut Option<serde_json::Value>> {
    match block {
        Block::Text { cache, .. }
        | Block::Image { cache, .. }
        | Block::Document { cache, .. }
        | Block::ToolUse { cache, .. }
        | Block::ToolResult { cache, .. } => Some(cache),
        Block::Thinking { .. } | Block::RedactedThinking { .. } | Block::Other { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_call::{Message, Speaker};
    use serde_json::json;

    /// A request of these texts; one with a `!` is marked.
    fn request(texts: &[&str]) -> Request {
        let block = |text: &&str| Block::Text {
            text: text.trim_end_matches('!').to_owned(),
            cache: text.ends_with('!').then(|| json!({"type": "ephemeral"})),
        };
        let content = texts.iter().map(block).collect();
        let messages = vec![Message { content, ..Message::text(Speaker::User, "") }];
        Request { model: "sim".into(), messages, ..Request::default() }
    }

    #[test]
    fn what_was_kept_is_read_and_the_rest_is_written() {
        let cache = Cache::default();
        let pass = |provider: &str, texts: &[&str]| {
            let Cached { read, write } = cache.pass(provider, &request(texts));
            (read, write)
        };
        assert_eq!(pass("a", &["12345678", "1234"]), (0, 0), "no mark, no cache");
        assert_eq!(pass("a", &["12345678!", "1234"]), (0, 2));
        assert_eq!(pass("a", &["12345678!", "abcd"]), (2, 0), "the same beginning");
        assert_eq!(pass("a", &["12345678", "abcd!"]), (0, 3), "only what stands at a mark is looked for");
        assert_eq!(pass("a", &["12345678!", "efgh!"]), (2, 1), "the longest that is kept");
        assert_eq!(pass("a", &["1234567X!"]), (0, 2), "another beginning");
        assert_eq!(pass("b", &["12345678!"]), (0, 2), "another provider");
        cache.clear();
        assert_eq!(pass("a", &["12345678!"]), (0, 2));
    }

    #[test]
    fn cached_input_is_no_other_input() {
        let usage = Usage { input_tokens: 10, output_tokens: 5, ..Usage::default() };
        let told = Cached { read: 3, write: 4 }.of(usage);
        assert_eq!((told.input_tokens, told.cache_read_tokens, told.cache_write_tokens), (3, 3, 4));
        assert_eq!(told.total_input_tokens(), 10);
    }
}
