//! Requests and replies at random, each dialect over what it can carry.

use backstop_call::{
    Block, Dialect, DocumentSource, ImageSource, Labels, LimitHint, Message, OutputFormat, Reply, Request,
    Speaker, StopReason, Thinking, ToolChoice, ToolSpec, Usage,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

/// Text as models write it: never empty, with what breaks careless parsers.
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{1,30}", "(\\PC|\n|\u{2028}|\u{85}|\"|\\\\){1,20}"]
}

fn id() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_-]{1,12}"
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ]
}

/// A JSON object, its keys in any order.
fn object() -> impl Strategy<Value = Value> {
    let value = leaf().prop_recursive(2, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            vec((id(), inner), 0..3).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    });
    vec((id(), value), 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect()))
}

/// Arguments that are no object, kept as the text they were.
fn broken_arguments() -> impl Strategy<Value = Value> {
    select(vec!["{\"path\": \"a", "[1, 2]", "null", "not json", "{} {}", "7"]).prop_map(Value::from)
}

fn cache(dialect: Dialect) -> BoxedStrategy<Option<Value>> {
    match dialect {
        Dialect::Messages => option::of(Just(json!({"type": "ephemeral", "ttl": "1h"}))).boxed(),
        Dialect::Chat | Dialect::Responses => Just(None).boxed(),
    }
}

fn text_block(dialect: Dialect) -> impl Strategy<Value = Block> {
    (text(), cache(dialect)).prop_map(|(text, cache)| Block::Text { text, cache })
}

fn image(dialect: Dialect) -> impl Strategy<Value = Block> {
    let source = prop_oneof![
        "[A-Za-z0-9+/]{4,20}".prop_map(|data| ImageSource::Base64 { media_type: "image/png".into(), data }),
        "https://[a-z]{1,8}\\.example/[a-z]{1,8}".prop_map(ImageSource::Url),
    ];
    (source, cache(dialect)).prop_map(|(source, cache)| Block::Image { source, cache })
}

fn document(dialect: Dialect) -> BoxedStrategy<Block> {
    let bytes = "[A-Za-z0-9+/]{4,20}"
        .prop_map(|data| DocumentSource::Base64 { media_type: "application/pdf".into(), data });
    let url = "https://[a-z]{1,8}\\.example/[a-z]{1,8}".prop_map(DocumentSource::Url);
    let build = |(source, name, cache)| Block::Document { source, name, cache };
    match dialect {
        Dialect::Messages => {
            let source = prop_oneof![bytes, url, text().prop_map(DocumentSource::Text)];
            (source, option::of(id()), cache(dialect)).prop_map(build).boxed()
        }
        Dialect::Chat => (bytes, id().prop_map(Some), Just(None)).prop_map(build).boxed(),
        Dialect::Responses => prop_oneof![
            (bytes, id().prop_map(Some), Just(None)).prop_map(build),
            (url, Just(None), Just(None)).prop_map(build),
        ]
        .boxed(),
    }
}

/// A block that only this dialect has.
fn other(dialect: Dialect) -> impl Strategy<Value = Block> {
    text().prop_map(move |text| {
        let value = match dialect {
            Dialect::Messages => {
                json!({"type": "search_result", "source": "https://a.example", "title": text})
            }
            Dialect::Chat | Dialect::Responses => {
                json!({"type": "input_audio", "input_audio": {"data": text, "format": "wav"}})
            }
        };
        Block::Other { dialect, value }
    })
}

fn tool_use(dialect: Dialect) -> impl Strategy<Value = Block> {
    (id(), id(), object(), cache(dialect)).prop_map(|(id, name, input, cache)| Block::ToolUse {
        id,
        name,
        input,
        cache,
    })
}

fn tool_result(dialect: Dialect) -> BoxedStrategy<Block> {
    let build = |(id, content, is_error, cache)| Block::ToolResult { id, content, is_error, cache };
    match dialect {
        Dialect::Messages => {
            let inner = prop_oneof![text_block(dialect), image(dialect), document(dialect), other(dialect)];
            (id(), vec(inner, 0..3), any::<bool>(), cache(dialect)).prop_map(build).boxed()
        }
        Dialect::Chat => {
            (id(), vec(text_block(dialect), 0..3), Just(false), Just(None)).prop_map(build).boxed()
        }
        Dialect::Responses => {
            let inner = prop_oneof![text_block(dialect), image(dialect), document(dialect), other(dialect)];
            (id(), vec(inner, 0..3), Just(false), Just(None)).prop_map(build).boxed()
        }
    }
}

fn message(speaker: Speaker, content: Vec<Block>) -> Message {
    Message { speaker, content: content.into(), labels: Labels::default() }
}

fn user(dialect: Dialect) -> BoxedStrategy<Message> {
    let said = prop_oneof![text_block(dialect), image(dialect), document(dialect), other(dialect)];
    let results = vec(tool_result(dialect), 1..3);
    let content = match dialect {
        Dialect::Messages => prop_oneof![
            vec(said.clone(), 1..4),
            (results, vec(said, 0..3)).prop_map(|(results, said)| [results, said].concat()),
        ]
        .boxed(),
        // A message here holds either what was said or results.
        Dialect::Chat | Dialect::Responses => prop_oneof![vec(said, 1..4), results].boxed(),
    };
    content.prop_map(|content| message(Speaker::User, content)).boxed()
}

fn assistant(dialect: Dialect) -> BoxedStrategy<Message> {
    let content = match dialect {
        Dialect::Messages => {
            let block = prop_oneof![
                text_block(dialect),
                tool_use(dialect),
                (text(), id())
                    .prop_map(|(text, signature)| Block::Thinking { text, signature: Some(signature) }),
                id().prop_map(|data| Block::RedactedThinking { data }),
            ];
            vec(block, 1..4).boxed()
        }
        Dialect::Chat => (vec(text_block(dialect), 0..3), vec(tool_use(dialect), 0..3))
            .prop_map(|(texts, calls)| [texts, calls].concat())
            .prop_filter("says something", |content| !content.is_empty())
            .boxed(),
        Dialect::Responses => {
            let block = prop_oneof![
                text_block(dialect),
                tool_use(dialect),
                (prop_oneof![text(), Just(String::new())], reasoning())
                    .prop_map(|(text, signature)| Block::Thinking { text, signature: Some(signature) }),
                Just(own_item()),
            ];
            vec(block, 1..4).boxed()
        }
    };
    content.prop_map(|content| message(Speaker::Assistant, content)).boxed()
}

/// What a thought of Responses is signed with.
fn reasoning() -> impl Strategy<Value = String> {
    (id(), id()).prop_map(|(id, encrypted)| backstop_wire::reasoning_signature(&id, &encrypted))
}

/// A call of a tool that only Responses has.
fn own_item() -> Block {
    let value =
        json!({"type": "custom_tool_call", "id": "ctc_1", "call_id": "c", "name": "patch", "input": "*"});
    Block::Other { dialect: Dialect::Responses, value }
}

fn tool(dialect: Dialect) -> BoxedStrategy<ToolSpec> {
    let spec = |name, description, schema, other: Value| ToolSpec {
        name,
        description,
        schema,
        other: other.as_object().cloned().unwrap_or_default(),
    };
    let own = match dialect {
        Dialect::Messages => {
            spec("web_search".into(), String::new(), Value::Null, json!({"type": "web_search_20250305"}))
        }
        Dialect::Chat => {
            let other = json!({"type": "custom", "custom": {"name": "grep", "description": "finds"}});
            spec("grep".into(), String::new(), Value::Null, other)
        }
        Dialect::Responses => {
            let own = json!({"responses_tool": {"type": "web_search", "filters": {"allowed_domains": ["a.example"]}}});
            spec("web_search".into(), String::new(), Value::Null, own)
        }
    };
    let extra = match dialect {
        Dialect::Messages => json!({"cache_control": {"type": "ephemeral"}, "defer_loading": true}),
        Dialect::Chat => json!({"strict": true}),
        Dialect::Responses => json!({"strict": null, "from_the_future": 1}),
    };
    let function = (id(), "[ -~]{0,20}", object(), select(vec![json!({}), extra]))
        .prop_map(move |(name, description, schema, other)| spec(name, description, schema, other));
    prop_oneof![4 => function, 1 => Just(own)].boxed()
}

fn choice() -> impl Strategy<Value = ToolChoice> {
    prop_oneof![
        Just(ToolChoice::Auto),
        Just(ToolChoice::Required),
        Just(ToolChoice::None),
        id().prop_map(ToolChoice::Tool),
    ]
}

fn thinking(dialect: Dialect) -> BoxedStrategy<Thinking> {
    let effort = select(vec!["low", "medium", "high"]).prop_map(|word| Thinking::Effort(word.into()));
    match dialect {
        Dialect::Messages => prop_oneof![
            Just(Thinking::Off),
            Just(Thinking::Adaptive),
            (1024_u64..64_000).prop_map(Thinking::Budget),
            effort
        ]
        .boxed(),
        Dialect::Chat | Dialect::Responses => prop_oneof![Just(Thinking::Off), effort].boxed(),
    }
}

fn output(dialect: Dialect) -> BoxedStrategy<OutputFormat> {
    match dialect {
        Dialect::Messages => object()
            .prop_map(|schema| OutputFormat::Schema { name: "output".into(), schema, strict: true })
            .boxed(),
        Dialect::Chat | Dialect::Responses => prop_oneof![
            Just(OutputFormat::Json),
            (id(), object(), any::<bool>()).prop_map(|(name, schema, strict)| OutputFormat::Schema {
                name,
                schema,
                strict
            })
        ]
        .boxed(),
    }
}

fn other_fields(dialect: Dialect) -> Vec<Value> {
    match dialect {
        Dialect::Messages => vec![
            json!({}),
            json!({"metadata": {"user_id": "u"}, "top_k": 5}),
            json!({"thread": {"type": "create"}, "from_the_future": [1, {"a": null}]}),
        ],
        Dialect::Chat => {
            vec![
                json!({}),
                json!({"seed": 7, "user": "u"}),
                json!({"service_tier": "flex", "from_the_future": 1}),
            ]
        }
        Dialect::Responses => vec![
            json!({}),
            json!({"store": null, "previous_response_id": "resp_1"}),
            json!({"store": true, "include": ["reasoning.encrypted_content"], "metadata": {"k": "v"}}),
            json!({"reasoning": {"summary": "auto"}, "text": {"verbosity": "low"}, "from_the_future": [null]}),
        ],
    }
}

pub(crate) fn request(dialect: Dialect) -> impl Strategy<Value = Request> {
    let turns = vec((user(dialect), assistant(dialect), option::of(text_block(dialect))), 1..4);
    let conversation = (vec(text_block(dialect), 0..3), turns, vec(tool(dialect), 0..3));
    let limits =
        (1_u64..200_000, option::of(select(vec![0.0, 0.5, 1.0])), option::of(select(vec![0.1, 0.9])));
    let wishes = (
        option::of(choice()),
        option::of(any::<bool>()),
        vec(text(), 0..3),
        option::of(thinking(dialect)),
        option::of(output(dialect)),
    );
    let rest = (any::<bool>(), select(other_fields(dialect)), select(vec!["claude-x", "gpt-5", "llama3"]));
    (conversation, limits, wishes, rest).prop_map(move |(conversation, limits, wishes, rest)| {
        let (system, turns, tools) = conversation;
        let (tool_choice, parallel_tools, stop, thinking, output) = wishes;
        let (stream, other, model) = rest;
        let turn = |(user, assistant, system): (Message, Message, Option<Block>)| {
            [Some(user), Some(assistant), system.map(|block| message(Speaker::System, vec![block]))]
        };
        let has_choice = !tools.is_empty() && tool_choice.is_some();
        let mut other = other.as_object().cloned().unwrap_or_default();
        if stream && dialect == Dialect::Chat {
            other.insert("stream_options".into(), json!({"include_usage": true}));
        }
        let thinks = !matches!(thinking, None | Some(Thinking::Off));
        if thinks && dialect == Dialect::Responses && !other.contains_key("store") {
            other.insert("include".into(), json!(["reasoning.encrypted_content"]));
        }
        Request {
            model: model.into(),
            system: system.into(),
            messages: turns.into_iter().flat_map(turn).flatten().collect(),
            parallel_tools: parallel_tools.filter(|_| has_choice && tool_choice != Some(ToolChoice::None)),
            tool_choice: tool_choice.filter(|_| has_choice),
            tools: tools.into(),
            max_tokens: Some(limits.0),
            temperature: limits.1,
            top_p: limits.2,
            stop: if dialect == Dialect::Responses { Vec::new() } else { stop },
            thinking,
            output,
            stream,
            continued: other.contains_key("previous_response_id"),
            other,
        }
    })
}

fn usage() -> impl Strategy<Value = Usage> {
    let count = || 0_u64..100_000;
    (1_u64..100_000, count(), count(), count(), count()).prop_map(
        |(input, output, read, write, reasoning)| Usage {
            input_tokens: input,
            output_tokens: output,
            cache_read_tokens: read,
            cache_write_tokens: write,
            reasoning_tokens: reasoning,
            estimated: false,
        },
    )
}

fn reply_content(dialect: Dialect) -> BoxedStrategy<Vec<Block>> {
    let call = prop_oneof![
        4 => tool_use(Dialect::Chat),
        1 => (id(), id(), broken_arguments())
            .prop_map(|(id, name, input)| Block::ToolUse { id, name, input, cache: None }),
    ];
    let thought =
        |signature| (text(), signature).prop_map(|(text, signature)| Block::Thinking { text, signature });
    match dialect {
        Dialect::Messages => {
            let block = prop_oneof![
                3 => text_block(Dialect::Chat),
                2 => call,
                1 => thought(option::of(id()).boxed()),
                1 => id().prop_map(|data| Block::RedactedThinking { data }),
                1 => other(dialect),
            ];
            vec(block, 0..5).boxed()
        }
        Dialect::Responses => {
            let block = prop_oneof![
                3 => text_block(dialect),
                2 => call,
                1 => thought(reasoning().prop_map(Some).boxed()),
                1 => Just(own_item()),
            ];
            vec(block, 0..5).boxed()
        }
        Dialect::Chat => {
            let first = (option::of(thought(Just(None).boxed())), option::of(text_block(dialect)));
            (first, vec(call, 0..4))
                .prop_map(|((thought, text), calls)| thought.into_iter().chain(text).chain(calls).collect())
                .boxed()
        }
    }
}

fn stop(dialect: Dialect) -> Vec<StopReason> {
    let mut reasons =
        vec![StopReason::MaxTokens, StopReason::Refusal, StopReason::Other("compaction".into())];
    if dialect == Dialect::Messages {
        reasons.extend([
            StopReason::ContextWindow,
            StopReason::StopSequence(Some("END".into())),
            StopReason::StopSequence(None),
            StopReason::Pause,
        ]);
    }
    reasons
}

pub(crate) fn reply(dialect: Dialect) -> impl Strategy<Value = Reply> {
    let reason = option::of(select(stop(dialect)));
    let other =
        select(vec![json!({}), json!({"service_tier": "default", "usage": {"server_tool_use": {"n": 1}}})]);
    (reply_content(dialect), reason, usage(), other, id()).prop_map(|(content, reason, usage, other, id)| {
        let calls =
            content.iter().any(|block| matches!(block, Block::ToolUse { .. }) || *block == own_item());
        let natural = if calls { StopReason::ToolUse } else { StopReason::End };
        Reply {
            id,
            model: "m-1".into(),
            content,
            stop: reason.unwrap_or(natural),
            usage,
            first_token: None,
            request_id: None,
            limits: LimitHint::default(),
            attempts: Vec::new(),
            other: other.as_object().cloned().unwrap_or_else(Map::new),
            told: None,
            lost: Vec::new(),
        }
    })
}
