//! Fields that one dialect has and the other does not. A request's `other` fields go out as they came in, but for those
//! that are known to be the other dialect's own: its provider would refuse the whole request for them.

use crate::Lost;
use backstop_call::{Dialect, ToolSpec};
use serde_json::{Map, Value};

const MESSAGES_OWN: &[&str] = &[
    "container",
    "context_management",
    "fallbacks",
    "mcp_servers",
    "output_config",
    "output_format",
    "stop_sequences",
    "system",
    "thinking",
    "thread",
    "top_k",
];

const CHAT_OWN: &[&str] = &[
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "modalities",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "stop",
    "store",
    "stream_options",
    "top_logprobs",
    "user",
    "verbosity",
    "web_search_options",
];

/// Of a tool, what only Messages knows.
const MESSAGES_OWN_TOOL_FIELDS: &[&str] =
    &["allowed_callers", "cache_control", "defer_loading", "eager_input_streaming", "input_examples", "type"];

/// The other fields of a request that may go to a provider of this dialect.
pub(crate) fn without(dialect: Dialect, other: &Map<String, Value>, lost: &mut Lost) -> Map<String, Value> {
    let own = match dialect {
        Dialect::Messages => CHAT_OWN,
        Dialect::Chat => MESSAGES_OWN,
    };
    let mut kept = Map::new();
    for (key, value) in other {
        match own.iter().find(|name| *name == key) {
            Some(name) => {
                // It asks for nothing that the answer shows.
                if *name != "stream_options" {
                    lost.insert(name);
                }
            }
            None if key == "metadata" && is_messages_metadata(value) != (dialect == Dialect::Messages) => {
                lost.insert("metadata");
            }
            None => {
                kept.insert(key.clone(), value.clone());
            }
        }
    }
    kept
}

/// Both dialects have `metadata`: Messages with this one key in it, Chat with any other.
fn is_messages_metadata(value: &Value) -> bool {
    value.get("user_id").is_some()
}

/// Whether a tool is one that Chat's provider runs or reads in its own way: it stands as `{"type": T, T: {…}}`.
pub(crate) fn is_chats_own_tool(tool: &ToolSpec) -> bool {
    let kind = tool.other.get("type").and_then(Value::as_str);
    tool.schema.is_null() && kind.is_some_and(|kind| tool.other.contains_key(kind))
}

/// Whether a tool is one that the provider of Messages runs itself: it has no schema of ours.
pub(crate) fn is_messages_own_tool(tool: &ToolSpec) -> bool {
    tool.schema.is_null() && !is_chats_own_tool(tool)
}

/// The other fields of a function that may go to a provider of Chat.
pub(crate) fn chat_tool_fields(tool: &ToolSpec, lost: &mut Lost) -> Map<String, Value> {
    let mut fields = tool.other.clone();
    fields.retain(|key, _| match MESSAGES_OWN_TOOL_FIELDS.iter().find(|name| *name == key) {
        // Every function is a custom tool.
        Some(name) => {
            if *name != "type" {
                lost.insert(name);
            }
            false
        }
        None => true,
    });
    fields
}
