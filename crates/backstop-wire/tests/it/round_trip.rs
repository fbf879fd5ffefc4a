//! What is rendered is read back as it was, and nothing is dropped without being named.

use crate::generate::{reply, request};
use backstop_call::{
    Block, Dialect, Message, OutputFormat, Request, Speaker, Thinking, Timestamp, ToolSpec, Usage,
};
use backstop_wire::{
    losses, parse_reply, parse_request, parse_request_telling, render_reply, render_request,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use Dialect::{Chat, Messages, Responses};

const NOW: Timestamp = Timestamp::from_secs(1_795_305_600);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn requests_of_messages(request in request(Messages)) {
        let body = render_request(Messages, &request);
        prop_assert_eq!(losses(Messages, &request), Vec::<&str>::new());
        prop_assert_eq!(parse_request(Messages, &body).unwrap(), request);
    }

    #[test]
    fn requests_of_chat(request in request(Chat)) {
        let body = render_request(Chat, &request);
        prop_assert_eq!(losses(Chat, &request), Vec::<&str>::new());
        prop_assert_eq!(parse_request(Chat, &body).unwrap(), request);
    }

    #[test]
    fn replies_of_messages(reply in reply(Messages)) {
        let body = render_reply(Messages, &reply, NOW);
        prop_assert_eq!(parse_reply(Messages, &body).unwrap(), (reply.clone(), Some(reply.usage)));
    }

    #[test]
    fn replies_of_chat(reply in reply(Chat)) {
        let body = render_reply(Chat, &reply, NOW);
        prop_assert_eq!(parse_reply(Chat, &body).unwrap(), (reply.clone(), Some(reply.usage)));
    }

    #[test]
    fn requests_of_responses(request in request(Responses)) {
        let body = render_request(Responses, &request);
        prop_assert_eq!(losses(Responses, &request), Vec::<&str>::new());
        prop_assert_eq!(parse_request(Responses, &body).unwrap(), request);
    }

    #[test]
    fn replies_of_responses(reply in reply(Responses)) {
        let body = render_reply(Responses, &reply, NOW);
        prop_assert_eq!(parse_reply(Responses, &body).unwrap(), (reply.clone(), Some(reply.usage)));
    }

    /// Whatever came in by one dialect goes out by another in a form that its own parser takes.
    #[test]
    fn a_request_crosses_over(request in prop_oneof![request(Messages), request(Chat), request(Responses)]) {
        for dialect in Dialect::ALL {
            parse_request(dialect, &render_request(dialect, &request)).unwrap();
        }
    }
}

fn rendered(dialect: Dialect, request: &Request) -> Value {
    serde_json::from_slice(&render_request(dialect, request)).unwrap()
}

fn ask(messages: Vec<Message>) -> Request {
    Request { model: "m".into(), messages, ..Request::default() }
}

fn result(id: &str, content: Vec<Block>) -> Block {
    Block::ToolResult { id: id.into(), content, is_error: false, cache: None }
}

fn said(speaker: Speaker, content: Vec<Block>) -> Message {
    Message { content: content.into(), ..Message::text(speaker, "") }
}

#[test]
fn messages_gets_turns_and_a_limit() {
    let request = ask(vec![
        Message::text(Speaker::User, "one"),
        said(Speaker::User, vec![Block::text("two"), result("functions.read:0", vec![])]),
        Message::text(Speaker::Assistant, ""),
        Message::text(Speaker::User, "three"),
    ]);
    let want = json!({
        "model": "m",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "functions_read_0", "content": []},
            {"type": "text", "text": "one"},
            {"type": "text", "text": "two"},
            {"type": "text", "text": "three"},
        ]}],
    });
    assert_eq!(rendered(Messages, &request), want);
    let thinking = Request { thinking: Some(Thinking::Budget(10_000)), ..ask(vec![]) };
    assert_eq!(rendered(Messages, &thinking)["max_tokens"], 14_096, "the thoughts count towards it");
}

#[test]
fn chat_gets_results_first_and_pictures_after_them() {
    let picture = Block::Image {
        source: backstop_call::ImageSource::Base64 { media_type: "image/png".into(), data: "AAAA".into() },
        cache: None,
    };
    let request = ask(vec![said(
        Speaker::User,
        vec![Block::text("look"), result("t1", vec![Block::text("a"), picture]), result("t2", vec![])],
    )]);
    let want = json!([
        {"role": "tool", "tool_call_id": "t1", "content": "a"},
        {"role": "tool", "tool_call_id": "t2", "content": ""},
        {"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            {"type": "text", "text": "look"},
        ]},
    ]);
    assert_eq!(rendered(Chat, &request)["messages"], want);
    assert_eq!(losses(Chat, &request), Vec::<&str>::new());
}

#[test]
fn arguments_that_are_no_object_are_kept_and_sent_back_as_the_provider_takes_them() {
    let call = |input: &str| {
        json!({"model": "m", "messages": [{"role": "assistant", "content": null, "tool_calls": [
            {"id": "t", "type": "function", "function": {"name": "f", "arguments": input}}]}]})
    };
    for (arguments, want) in [("", json!({})), ("{\"a\":1}", json!({"a": 1})), ("{\"a\":", json!("{\"a\":"))]
    {
        let request = parse_request(Chat, call(arguments).to_string().as_bytes()).unwrap();
        let Block::ToolUse { input, .. } = &request.messages[0].content[0] else { panic!("no call") };
        assert_eq!(*input, want);
    }
    let request = parse_request(Chat, call("{\"a\":").to_string().as_bytes()).unwrap();
    let sent = &rendered(Chat, &request)["messages"][0]["tool_calls"][0]["function"]["arguments"];
    assert_eq!(*sent, "{\"a\":");
    let sent = &rendered(Messages, &request)["messages"][0]["content"][0]["input"];
    assert_eq!(*sent, json!({"malformed_arguments": "{\"a\":"}));
}

#[test]
fn losses_name_what_chat_cannot_carry() {
    let mark = Some(json!({"type": "ephemeral"}));
    let request = Request {
        system: [Block::Text { text: "s".into(), cache: mark }].into(),
        messages: vec![
            said(
                Speaker::User,
                vec![
                    Block::Other { dialect: Messages, value: json!({"type": "document"}) },
                    Block::ToolResult { id: "t".into(), content: vec![], is_error: true, cache: None },
                ],
            ),
            said(Speaker::Assistant, vec![Block::Thinking { text: "hm".into(), signature: None }]),
        ],
        tools: [ToolSpec {
            name: "web_search".into(),
            description: String::new(),
            schema: Value::Null,
            other: json!({"type": "web_search_20250305"}).as_object().cloned().unwrap(),
        }]
        .into(),
        thinking: Some(Thinking::Budget(3000)),
        other: json!({"top_k": 1, "metadata": {"user_id": "u"}}).as_object().cloned().unwrap(),
        ..ask(vec![])
    };
    let want = [
        "blocks that only Messages has",
        "cache_control",
        "metadata",
        "the exact budget for thinking",
        "the mark of a tool result as an error",
        "thinking",
        "tools that the provider runs",
        "top_k",
    ];
    assert_eq!(losses(Chat, &request), want);
    assert_eq!(losses(Messages, &request), ["thinking without a signature"]);
    assert_eq!(rendered(Chat, &request)["reasoning_effort"], "medium");
    assert_eq!(rendered(Chat, &request).get("top_k"), None);
}

#[test]
fn losses_name_what_messages_cannot_carry() {
    let request = Request {
        output: Some(OutputFormat::Json),
        other: json!({"seed": 1, "metadata": {"k": "v"}, "stream_options": {}}).as_object().cloned().unwrap(),
        ..ask(vec![said(
            Speaker::User,
            vec![
                Block::Other { dialect: Chat, value: json!({"type": "input_audio", "input_audio": {}}) },
                Block::Other {
                    dialect: Chat,
                    value: json!({"type": "image_url", "image_url": {"url": "https://a/b", "detail": "low"}}),
                },
            ],
        )])
    };
    let want = ["JSON output without a schema", "content parts that only Chat has", "metadata", "seed"];
    assert_eq!(losses(Messages, &request), want);
    let content = &rendered(Messages, &request)["messages"][0]["content"];
    assert_eq!(*content, json!([{"type": "image", "source": {"type": "url", "url": "https://a/b"}}]));
}

#[test]
fn the_limit_has_the_name_that_the_server_knows() {
    for (model, name) in [
        ("gpt-5.2", "max_completion_tokens"),
        ("o3", "max_completion_tokens"),
        ("llama3", "max_tokens"),
        ("gpt-oss:20b", "max_tokens"),
    ] {
        let request = Request { model: model.into(), max_tokens: Some(9), ..Request::default() };
        assert_eq!(rendered(Chat, &request)[name], 9, "{model}");
    }
}

#[test]
fn chat_counts_the_cache_within_the_prompt() {
    let reply = |usage: &str| {
        let body = format!(
            r#"{{"choices":[{{"message":{{"content":"x"}},"finish_reason":"stop"}}],"usage":{usage}}}"#
        );
        parse_reply(Chat, body.as_bytes()).unwrap().1
    };
    let usage = reply(
        r#"{"prompt_tokens":100,"completion_tokens":20,"total_tokens":120,"prompt_tokens_details":{"cached_tokens":60,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":5}}"#,
    );
    let want = Usage {
        input_tokens: 40,
        output_tokens: 20,
        cache_read_tokens: 60,
        reasoning_tokens: 5,
        ..Usage::default()
    };
    assert_eq!(usage, Some(want));
    let deepseek = reply(
        r#"{"prompt_tokens":10,"completion_tokens":1,"prompt_cache_hit_tokens":4,"prompt_cache_miss_tokens":6}"#,
    );
    assert_eq!(deepseek.map(|usage| (usage.input_tokens, usage.cache_read_tokens)), Some((6, 4)));
    for none in ["null", "{}", r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#] {
        assert_eq!(reply(none), None, "{none}");
    }
    let garbage = reply(r#"{"prompt_tokens":5,"prompt_tokens_details":{"cached_tokens":9}}"#);
    assert_eq!(garbage.map(|usage| (usage.input_tokens, usage.cache_read_tokens)), Some((0, 5)));
}

#[test]
fn what_a_message_has_beyond_our_words_is_named() {
    let messages = r#"{"model": "m", "top": 1, "messages": [
        {"role": "user", "content": "a", "output_config": {"effort": "low"}, "none": null, "empty": []},
        {"role": "assistant", "content": [{"type": "new_block"}], "output_config": {"effort": "high"}, "id": "x"}]}"#;
    let chat = r#"{"model": "m", "top": 1, "messages": [
        {"role": "user", "content": "a", "name": "ann"},
        {"role": "assistant", "content": "b", "annotations": [{"type": "url"}], "audio": null, "refusal": null},
        {"role": "tool", "tool_call_id": "1", "content": "c", "name": "f"}]}"#;
    let rows: [(Dialect, &str, &[&str]); 2] = [
        (Messages, messages, &["messages.id", "messages.output_config"]),
        (Chat, chat, &["messages.annotations", "messages.name"]),
    ];
    for (dialect, body, want) in rows {
        let (request, left_out) = parse_request_telling(dialect, body.as_bytes()).unwrap();
        assert_eq!(left_out, want);
        assert_eq!(request.other["top"], 1, "what the request has beyond our words is kept");
    }
}

/// What only the provider that was talked to before can answer is known as such, and the rest is not.
#[test]
fn what_a_provider_holds_is_told() {
    type Told = Option<(&'static str, Option<&'static str>)>;
    let ask = |dialect: Dialect, fields: &str| {
        let said = match dialect {
            Messages | Chat => r#""messages":[{"role":"user","content":"x"}]"#,
            Responses => r#""input":"x""#,
        };
        let own = fields.contains("\"messages\"") || fields.contains("\"input\"");
        let body = if own {
            format!(r#"{{"model":"m",{fields}}}"#)
        } else {
            format!(r#"{{"model":"m",{said},{fields}}}"#)
        };
        parse_request(dialect, body.as_bytes()).unwrap()
    };
    let content = |block: &str| format!(r#""messages":[{{"role":"user","content":[{block}]}}]"#);
    let rows: [(Dialect, &str, Told, bool); 17] = [
        (Messages, r#""thread":{"type":"create"}"#, None, false),
        (
            Messages,
            r#""thread":{"type":"continue","previous_message_id":"msg_1"}"#,
            Some(("a message thread", Some("thread_unsupported_request"))),
            true,
        ),
        (Messages, r#""container":"c_1""#, Some(("a container", None)), false),
        (Messages, r#""container":null"#, None, false),
        (
            Messages,
            &content(r#"{"type":"document","source":{"type":"file","file_id":"f"}}"#),
            Some(("a file by its id", None)),
            false,
        ),
        (
            Messages,
            &content(
                r#"{"type":"tool_result","tool_use_id":"t","content":[{"type":"image","source":{"type":"file","file_id":"f"}}]}"#,
            ),
            Some(("a file by its id", None)),
            false,
        ),
        (Messages, &content(r#"{"type":"document","source":{"type":"url","url":"https://a"}}"#), None, false),
        (
            Chat,
            &content(r#"{"type":"file","file":{"file_id":"f"}}"#),
            Some(("a file by its id", None)),
            false,
        ),
        (
            Chat,
            &content(r#"{"type":"file","file":{"file_data":"data:application/pdf;base64,AA"}}"#),
            None,
            false,
        ),
        (
            Responses,
            r#""previous_response_id":"resp_1""#,
            Some(("a previous response", Some("previous_response_not_found"))),
            true,
        ),
        (Responses, r#""previous_response_id":null,"conversation":null"#, None, false),
        (Responses, r#""conversation":{"id":"conv_1"}"#, Some(("a conversation", None)), true),
        (Responses, r#""prompt":{"id":"pmpt_1"}"#, Some(("a stored prompt", None)), false),
        (
            Responses,
            r#""input":[{"type":"item_reference","id":"msg_1"}]"#,
            Some(("an item by its id", None)),
            true,
        ),
        (Responses, r#""input":[{"id":"msg_1"}]"#, Some(("an item by its id", None)), true),
        (
            Responses,
            r#""input":[{"role":"user","content":[{"type":"input_image","file_id":"f"}]}]"#,
            Some(("a file by its id", None)),
            false,
        ),
        (
            Responses,
            r#""input":[{"type":"compaction","encrypted_content":"x"},{"role":"user","content":"y"}]"#,
            Some(("a compacted conversation", None)),
            false,
        ),
    ];
    for (dialect, fields, want, continued) in rows {
        let request = ask(dialect, fields);
        let told = backstop_wire::depends_on_provider(&request);
        assert_eq!(told.map(|held| (held.what, held.code)), want, "{fields}");
        assert!(told.is_none_or(|held| held.dialect == dialect), "{fields}");
        assert_eq!(request.continued, continued, "{fields}");
    }
}

/// A thought comes back to its own provider through a client of another dialect, and goes to no other.
#[test]
fn a_thought_that_is_sealed_comes_back_to_its_provider_alone() {
    let through = |client: Dialect, thought: &Block| {
        let reply = backstop_call::Reply::new(
            "m",
            vec![thought.clone(), Block::text("x")],
            backstop_call::StopReason::End,
            Usage::default(),
        );
        let told: Value = serde_json::from_slice(&render_reply(client, &reply, NOW)).unwrap();
        let body = match client {
            Messages => {
                json!({"model": "m", "messages": [{"role": "assistant", "content": told["content"]}]})
            }
            Chat | Responses => json!({"model": "m", "input": told["output"], "store": false}),
        };
        parse_request(client, body.to_string().as_bytes()).unwrap()
    };
    let signed = |signature: &str| Block::Thinking { text: "Hm.".into(), signature: Some(signature.into()) };
    let sealed = signed(&backstop_wire::reasoning_signature("rs_1", "gAAA"));
    let opaque = Block::RedactedThinking { data: "b3Bh".into() };
    for (home, thought) in [(Responses, sealed), (Messages, signed("EqQB")), (Messages, opaque)] {
        for client in [Messages, Responses] {
            let request = through(client, &thought);
            assert_eq!(request.messages[0].content[0], thought, "{home:?} through {client:?}");
            for to in Dialect::ALL {
                let lost = losses(to, &request);
                let is_named = lost.contains(&"thinking") || lost.contains(&"encrypted reasoning");
                assert_eq!(is_named, to != home, "{home:?} through {client:?} to {to:?}: {lost:?}");
                let body = String::from_utf8(render_request(to, &request)).unwrap();
                assert!(!body.contains("backstop."), "{body}");
            }
        }
    }
}

#[test]
fn losses_name_what_responses_cannot_carry() {
    let request = Request {
        stop: vec!["END".into()],
        thinking: Some(Thinking::Effort("max".into())),
        other: json!({
            "n": 2, "seed": 1, "logprobs": true, "top_logprobs": 2, "top_k": 3, "user": "u", "service_tier": "standard_only",
            "metadata": {"user_id": "u"}, "verbosity": "low", "stream_options": {"include_usage": true},
            "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}},
        })
        .as_object()
        .cloned()
        .unwrap(),
        ..ask(vec![said(Speaker::Assistant, vec![Block::Thinking { text: "hm".into(), signature: None }])])
    };
    let want = [
        "logprobs",
        "metadata",
        "n",
        "seed",
        "service_tier",
        "stop sequences",
        "the exact effort",
        "thinking",
        "tool_choice",
        "top_k",
    ];
    assert_eq!(losses(Responses, &request), want);
    let want = json!({
        "model": "m", "input": [], "reasoning": {"effort": "high"}, "include": ["reasoning.encrypted_content"],
        "text": {"verbosity": "low"}, "top_logprobs": 2, "user": "u", "store": false,
    });
    assert_eq!(rendered(Responses, &request), want);
    let from_responses = Request {
        other: json!({
            "store": true, "truncation": "auto", "max_tool_calls": 2, "text": {"verbosity": "low"}, "background": true,
            "context_management": [{"type": "compaction"}], "include": ["message.output_text.logprobs"],
            "tool_choice": {"type": "web_search"}, "service_tier": "flex", "reasoning": {"summary": "auto"},
        })
        .as_object()
        .cloned()
        .unwrap(),
        ..ask(vec![])
    };
    let both = ["background", "context_management", "include", "max_tool_calls", "reasoning.summary"];
    let of_messages = [&both[..], &["service_tier", "store", "text", "tool_choice", "truncation"]].concat();
    assert_eq!(losses(Messages, &from_responses), of_messages);
    let of_chat = [&both[..], &["tool_choice", "truncation"]].concat();
    assert_eq!(losses(Chat, &from_responses), of_chat);
    let want =
        json!({"model": "m", "messages": [], "store": true, "service_tier": "flex", "verbosity": "low"});
    assert_eq!(rendered(Chat, &from_responses), want);
}

/// A tool that is left out is not demanded either: its provider would refuse the request for it.
#[test]
fn a_tool_that_is_left_out_is_not_demanded() {
    let spec = |name: &str, schema: Value, other: Value| ToolSpec {
        name: name.into(),
        description: String::new(),
        schema,
        other: other.as_object().cloned().unwrap(),
    };
    let own = [
        (Messages, json!({"type": "web_search_20250305"})),
        (Chat, json!({"type": "custom", "custom": {"name": "own"}})),
        (Responses, json!({"responses_tool": {"type": "custom", "name": "own"}})),
    ];
    for (home, other) in own {
        let request = Request {
            tools: [spec("f", json!({}), json!({})), spec("own", Value::Null, other)].into(),
            tool_choice: Some(backstop_call::ToolChoice::Tool("own".into())),
            ..ask(vec![Message::text(Speaker::User, "x")])
        };
        for to in Dialect::ALL {
            let is_demanded = rendered(to, &request).get("tool_choice").is_some();
            assert_eq!(is_demanded, to == home, "{home:?} to {to:?}");
            assert_eq!(losses(to, &request).contains(&"tool_choice"), to != home, "{home:?} to {to:?}");
        }
    }
}
