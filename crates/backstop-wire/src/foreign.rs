//! What one dialect has and another does not: fields, tools, blocks. A request's `other` fields go out as they came in, but
//! for those that are known to be another dialect's own: its provider would refuse the whole request for them.

use crate::{Lost, chat, messages, responses};
use backstop_call::{Block, Dialect, Request, Thinking, ToolChoice, ToolSpec};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

use Dialect::{Chat, Messages, Responses};

/// Fields that not every dialect takes, and who takes them.
const FIELDS: &[(&str, &[Dialect])] = &[
    ("audio", &[Chat]),
    ("background", &[Responses]),
    ("client_metadata", &[Responses]),
    ("container", &[Messages]),
    ("conversation", &[Responses]),
    ("fallbacks", &[Messages]),
    ("frequency_penalty", &[Chat]),
    ("function_call", &[Chat]),
    ("functions", &[Chat]),
    ("include", &[Responses]),
    ("input", &[Responses]),
    ("instructions", &[Responses]),
    ("logit_bias", &[Chat]),
    ("logprobs", &[Chat]),
    ("max_completion_tokens", &[Chat]),
    ("max_output_tokens", &[Responses]),
    ("max_tool_calls", &[Responses]),
    ("mcp_servers", &[Messages]),
    ("modalities", &[Chat]),
    ("n", &[Chat]),
    ("output_format", &[Messages]),
    ("parallel_tool_calls", &[Chat, Responses]),
    ("prediction", &[Chat]),
    ("presence_penalty", &[Chat]),
    ("previous_response_id", &[Responses]),
    ("prompt", &[Responses]),
    ("prompt_cache_key", &[Chat, Responses]),
    ("prompt_cache_retention", &[Chat, Responses]),
    ("reasoning_effort", &[Chat]),
    ("response_format", &[Chat]),
    ("safety_identifier", &[Chat, Responses]),
    ("seed", &[Chat]),
    ("stop", &[Chat]),
    ("stop_sequences", &[Messages]),
    ("store", &[Chat, Responses]),
    ("system", &[Messages]),
    ("thinking", &[Messages]),
    ("thread", &[Messages]),
    ("top_k", &[Messages]),
    ("top_logprobs", &[Chat, Responses]),
    ("truncation", &[Responses]),
    ("user", &[Chat, Responses]),
    ("web_search_options", &[Chat]),
];

/// Of a tool, what only Messages knows.
const MESSAGES_OWN_TOOL_FIELDS: &[&str] =
    &["allowed_callers", "cache_control", "defer_loading", "eager_input_streaming", "input_examples", "type"];

/// Where a tool of Responses' own stands, whole, among the other fields of its spec.
const RESPONSES_TOOL: &str = "responses_tool";

/// What becomes of a field.
enum Fate {
    Kept,
    /// It asks for nothing here, or is carried in another way.
    Let,
    Lost(&'static str),
}

/// The other fields of a request that may go to a provider of this dialect.
pub(crate) fn without(dialect: Dialect, other: &Map<String, Value>, lost: &mut Lost) -> Map<String, Value> {
    let mut kept = Map::new();
    for (key, value) in other {
        match fate(dialect, key, value) {
            Fate::Kept => {
                kept.insert(key.clone(), value.clone());
            }
            Fate::Lost(name) if !value.is_null() => {
                lost.insert(name);
            }
            Fate::Lost(_) | Fate::Let => {}
        }
    }
    kept
}

fn fate(dialect: Dialect, key: &str, value: &Value) -> Fate {
    let only = |so: bool, name| if so { Fate::Kept } else { Fate::Lost(name) };
    let has_only = |names: &[&str]| {
        value.as_object().is_some_and(|fields| fields.keys().all(|key| names.contains(&key.as_str())))
    };
    match key {
        "metadata" => only(is_messages_metadata(value) == (dialect == Messages), "metadata"),
        "service_tier" => only(takes_tier(dialect, value), "service_tier"),
        "context_management" => only(
            match dialect {
                Messages => value.is_object(),
                Chat => false,
                Responses => value.is_array(),
            },
            "context_management",
        ),
        "tool_choice" => only(is_own_choice(dialect, value), "tool_choice"),
        // It asks for nothing that the answer shows; Responses takes none of Chat's.
        "stream_options" if dialect == Messages => Fate::Let,
        "stream_options" if dialect == Responses && value.get("include_usage").is_some() => Fate::Let,
        // Nothing is stored where nothing can be.
        "store" if *value == json!(false) && dialect == Messages => Fate::Let,
        // Chat names the same wish without the object round it.
        "verbosity" if dialect == Responses => Fate::Let,
        "verbosity" => only(dialect == Chat, "verbosity"),
        "text" if dialect == Chat && has_only(&["verbosity"]) => Fate::Let,
        "text" => only(dialect == Responses, "text"),
        // OpenRouter has a `reasoning` of its own in Chat.
        "reasoning" if dialect == Messages || has_only(&["summary", "generate_summary"]) => {
            only(dialect == Responses, "reasoning.summary")
        }
        "output_config" if dialect != Messages && has_only(&["effort"]) => Fate::Let,
        "output_config" => only(dialect == Messages, "output_config"),
        // What a thought of Messages is signed with is always told.
        "include" if dialect == Messages && *value == json!([ENCRYPTED_REASONING]) => Fate::Let,
        _ => match FIELDS.iter().find(|(name, _)| *name == key) {
            Some((name, takers)) => only(takers.contains(&dialect), name),
            None => Fate::Kept,
        },
    }
}

/// What a client of Responses includes to get thoughts that it can send back.
pub(crate) const ENCRYPTED_REASONING: &str = "reasoning.encrypted_content";

/// All dialects have `metadata`: Messages with this one key in it, the others with any other.
fn is_messages_metadata(value: &Value) -> bool {
    value.get("user_id").is_some()
}

/// The words for a tier are not the same everywhere.
fn takes_tier(dialect: Dialect, value: &Value) -> bool {
    match (dialect, value.as_str()) {
        (_, Some("auto")) => true,
        (Messages, tier) => tier == Some("standard_only"),
        (Chat | Responses, tier) => tier != Some("standard_only"),
    }
}

/// A choice that our words do not hold. Chat says it as `{"type": T, T: {…}}`, Responses flat.
fn is_own_choice(dialect: Dialect, choice: &Value) -> bool {
    let kind = choice.get("type").and_then(Value::as_str);
    let is_nested = kind.is_some_and(|kind| choice.get(kind).is_some());
    match dialect {
        Messages => false,
        Chat => is_nested,
        Responses => kind.is_some() && !is_nested,
    }
}

/// How hard to think, in the word that Chat and Responses have for it; the limits for a number of tokens are LiteLLM's.
pub(crate) fn effort(request: &Request, lost: &mut Lost) -> Option<String> {
    let word = match request.thinking.as_ref()? {
        Thinking::Off => return Some("none".to_owned()),
        Thinking::Effort(effort) => Some(effort.clone()),
        Thinking::Adaptive | Thinking::Budget(_) => {
            let config = request.other.get("output_config");
            config.and_then(|config| config.get("effort")?.as_str()).map(str::to_owned)
        }
    };
    if let Thinking::Budget(_) = request.thinking.as_ref()? {
        lost.insert("the exact budget for thinking");
    }
    let by_budget = || match request.thinking {
        Some(Thinking::Budget(0..2048)) => Some("low"),
        Some(Thinking::Budget(2048..4096)) => Some("medium"),
        Some(Thinking::Budget(4096..)) => Some("high"),
        _ => None,
    };
    let word = word.or_else(|| by_budget().map(str::to_owned))?;
    // The highest word of Messages is not known to the others.
    if word == "max" {
        lost.insert("the exact effort");
        return Some("high".to_owned());
    }
    Some(word)
}

/// Whether a tool is one that Chat's provider runs or reads in its own way: it stands as `{"type": T, T: {…}}`.
pub(crate) fn is_chats_own_tool(tool: &ToolSpec) -> bool {
    let kind = tool.other.get("type").and_then(Value::as_str);
    tool.schema.is_null() && kind.is_some_and(|kind| tool.other.contains_key(kind))
}

/// Whether a tool is one that the provider of Messages runs itself: it has no schema of ours.
pub(crate) fn is_messages_own_tool(tool: &ToolSpec) -> bool {
    tool.schema.is_null() && !is_chats_own_tool(tool) && responses_own_tool(tool).is_none()
}

/// A tool that Responses' provider runs or reads in its own way, as it stands there.
pub(crate) fn responses_own_tool(tool: &ToolSpec) -> Option<&Value> {
    tool.other.get(RESPONSES_TOOL).filter(|_| tool.schema.is_null())
}

/// The spec of such a tool.
pub(crate) fn spec_of_responses_own(name: String, tool: Value) -> ToolSpec {
    let other = Map::from_iter([(RESPONSES_TOOL.to_owned(), tool)]);
    ToolSpec { name, description: String::new(), schema: Value::Null, other }
}

/// Which tools are to be called, unless it is one that only another dialect has.
pub(crate) fn choice<'a>(dialect: Dialect, request: &'a Request, lost: &mut Lost) -> Option<&'a ToolChoice> {
    let choice = request.tool_choice.as_ref()?;
    let is_there = |tool: &ToolSpec| match dialect {
        Messages => !is_chats_own_tool(tool) && responses_own_tool(tool).is_none(),
        Chat => !is_messages_own_tool(tool) && responses_own_tool(tool).is_none(),
        Responses => !is_messages_own_tool(tool) && !is_chats_own_tool(tool),
    };
    let is_left_out = |name: &String| request.tools.iter().any(|tool| tool.name == *name && !is_there(tool));
    if let ToolChoice::Tool(name) = choice
        && is_left_out(name)
    {
        lost.insert("tool_choice");
        return None;
    }
    Some(choice)
}

/// The other fields of a function that may go to a provider of Chat or Responses. Responses has a tool of its own that loads
/// others later.
pub(crate) fn function_fields(tool: &ToolSpec, loads_later: bool, lost: &mut Lost) -> Map<String, Value> {
    let mut fields = tool.other.clone();
    fields.retain(|key, value| match MESSAGES_OWN_TOOL_FIELDS.iter().find(|name| *name == key) {
        Some(&"defer_loading") if loads_later => true,
        // Every function is a custom tool.
        Some(name) => {
            if *name != "type" && !value.is_null() {
                lost.insert(name);
            }
            false
        }
        None => true,
    });
    fields
}

/// Blocks without those of other dialects: what of them our words hold stands in their place, and that they were there is
/// named.
pub(crate) fn translated<'a>(dialect: Dialect, blocks: &'a [Block], lost: &mut Lost) -> Cow<'a, [Block]> {
    if !blocks.iter().any(|block| is_foreign(dialect, block)) {
        return Cow::Borrowed(blocks);
    }
    Cow::Owned(blocks.iter().flat_map(|block| translated_block(dialect, block, lost)).collect())
}

fn is_foreign(dialect: Dialect, block: &Block) -> bool {
    match block {
        Block::Other { dialect: of, .. } => *of != dialect,
        Block::ToolResult { content, .. } => content.iter().any(|block| is_foreign(dialect, block)),
        Block::Text { .. }
        | Block::Image { .. }
        | Block::Document { .. }
        | Block::Thinking { .. }
        | Block::RedactedThinking { .. }
        | Block::ToolUse { .. } => false,
    }
}

fn translated_block(dialect: Dialect, block: &Block, lost: &mut Lost) -> Vec<Block> {
    match block {
        Block::Other { dialect: of, value } if *of != dialect => {
            let (name, blocks) = match of {
                Messages => {
                    ("blocks that only Messages has", messages::understood(value).into_iter().collect())
                }
                Chat => ("content parts that only Chat has", chat::understood(value).into_iter().collect()),
                Responses => (responses::name_of(value), responses::understood(value)),
            };
            lost.insert(name);
            translated(dialect, &blocks, lost).into_owned()
        }
        Block::ToolResult { id, content, is_error, cache } => {
            let content = translated(dialect, content, lost).into_owned();
            vec![Block::ToolResult { id: id.clone(), content, is_error: *is_error, cache: cache.clone() }]
        }
        _ => vec![block.clone()],
    }
}

/// The other fields of a reply without what Responses only tells again, for clients of other dialects.
pub(crate) fn without_echo(other: &Map<String, Value>) -> Map<String, Value> {
    let told = other.iter().filter(|(key, _)| !responses::is_echo(key));
    told.map(|(key, value)| (key.clone(), value.clone())).collect()
}
