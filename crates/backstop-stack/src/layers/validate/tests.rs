//! What is refused, with what reason, and what passes.

use super::*;
use backstop_call::{
    Block, LimitHint, Message, OutputFormat, Speaker, StopReason, ToolChoice, ToolSpec, Usage,
};
use serde_json::{Value, json};

fn say(speaker: Speaker, content: Vec<Block>) -> Message {
    Message { content: content.into(), ..Message::text(speaker, "") }
}

fn user(text: &str) -> Message {
    Message::text(Speaker::User, text)
}

fn used(id: &str) -> Block {
    Block::ToolUse { id: id.into(), name: "read".into(), input: json!({}), cache: None }
}

fn result(id: &str) -> Block {
    Block::ToolResult { id: id.into(), content: vec![Block::text("ok")], is_error: false, cache: None }
}

fn tool(name: &str) -> ToolSpec {
    ToolSpec {
        name: name.into(),
        description: String::new(),
        schema: json!({}),
        other: serde_json::Map::new(),
    }
}

fn request(messages: Vec<Message>) -> Request {
    Request { messages, tools: [tool("read")].into(), ..Request::default() }
}

#[test]
fn requests() {
    use Speaker::{Assistant, System, User};
    let asks = |messages: Vec<Message>| request([vec![user("do it")], messages].concat());
    let continued = |messages: Vec<Message>| Request { continued: true, ..request(messages) };
    let rows: [(Request, &str); 18] = [
        (request(vec![user("hello")]), ""),
        (
            asks(vec![say(Assistant, vec![used("a"), used("b")]), say(User, vec![result("b"), result("a")])]),
            "",
        ),
        (
            asks(vec![
                say(Assistant, vec![used("a"), used("b")]),
                say(User, vec![result("a")]),
                say(User, vec![result("b")]),
            ]),
            "",
        ),
        (
            asks(vec![
                say(Assistant, vec![used("a")]),
                say(System, vec![Block::text("s")]),
                say(User, vec![result("a")]),
            ]),
            "",
        ),
        // The provider holds the call that is answered.
        (continued(vec![say(User, vec![result("x")])]), ""),
        (continued(Vec::new()), ""),
        (Request { tools: [tool("")].into(), ..continued(vec![user("x")]) }, "a tool has no name"),
        (request(Vec::new()), "there are no messages"),
        (request(vec![say(Assistant, vec![Block::text("hi")])]), "the first message is the model's"),
        (asks(vec![say(Assistant, Vec::new())]), "message 1: it has no content"),
        (
            asks(vec![say(Assistant, vec![used("a")])]),
            "after the last message: no result for the tool calls `a`",
        ),
        (
            asks(vec![say(Assistant, vec![used("a")]), user("and?")]),
            "message 2: no result for the tool calls `a`",
        ),
        (asks(vec![say(Assistant, vec![used("a"), used("a")])]), "message 1: two tool calls have the id `a`"),
        (
            asks(vec![say(User, vec![result("x")])]),
            "message 1: the tool result `x` answers no open tool call",
        ),
        (
            asks(vec![say(User, vec![used("a")])]),
            "message 1: a call of the tool `read` that is not the model's",
        ),
        (
            Request { tools: [tool("read"), tool("read")].into(), ..request(vec![user("x")]) },
            "two tools are named `read`",
        ),
        (
            Request { tool_choice: Some(ToolChoice::Tool("write".into())), ..request(vec![user("x")]) },
            "the tool `write` must be called but is not among the tools",
        ),
        (
            Request {
                tools: Vec::new().into(),
                tool_choice: Some(ToolChoice::Required),
                ..request(vec![user("x")])
            },
            "a tool must be called but there are no tools",
        ),
    ];
    for (request, want) in rows {
        match check_request(&request) {
            Ok(()) => assert_eq!(want, "", "{request:?}"),
            Err(why) => assert!(!want.is_empty() && why.starts_with(want), "`{why}` for `{want}`"),
        }
    }
}

fn reply(content: Vec<Block>, stop: StopReason) -> Reply {
    Reply {
        id: String::new(),
        model: String::new(),
        content,
        stop,
        usage: Usage::default(),
        first_token: None,
        request_id: None,
        limits: LimitHint::default(),
        attempts: Vec::new(),
        other: serde_json::Map::new(),
        told: None,
        lost: Vec::new(),
    }
}

#[test]
fn replies() {
    let schema = OutputFormat::Schema {
        name: "s".into(),
        schema: json!({"type": "object", "required": ["a"]}),
        strict: true,
    };
    let plain = request(vec![user("x")]);
    let json = Request { output: Some(OutputFormat::Json), ..plain.clone() };
    let shaped = Request { output: Some(schema), ..plain.clone() };
    let text = |text: &str| vec![Block::text(text)];
    let call = |name: &str, input: Value| {
        vec![Block::ToolUse { id: "t".into(), name: name.into(), input, cache: None }]
    };
    let rows = [
        (&plain, text("hi"), StopReason::End, ""),
        (&plain, call("read", json!({})), StopReason::ToolUse, ""),
        (&plain, call("read", json!({})), StopReason::End, ""),
        (&plain, Vec::new(), StopReason::Refusal, ""),
        (&json, text("{\"a\": "), StopReason::MaxTokens, ""),
        (&json, text(" {\"a\": 1}\n"), StopReason::End, ""),
        (&shaped, text("{\"a\": 1}"), StopReason::End, ""),
        (&plain, text(" "), StopReason::End, "the answer is empty"),
        (&plain, text("hi"), StopReason::ToolUse, "the model stopped to use a tool and named none"),
        (
            &plain,
            call("rm", json!({})),
            StopReason::ToolUse,
            "the model called the tool `rm`, which it was not",
        ),
        (
            &plain,
            call("read", json!("{")),
            StopReason::ToolUse,
            "the model called the tool `read` with arguments",
        ),
        (&json, text("[1]"), StopReason::End, "the answer is JSON but no object"),
        (&json, text("sure: {}"), StopReason::End, "the answer is not the JSON asked for"),
        (&shaped, text("{\"b\": 1}"), StopReason::End, "the answer lacks the required key `a`"),
        (&shaped, text("[]"), StopReason::End, "the answer is JSON of another type"),
    ];
    for (request, content, stop, want) in rows {
        let reply = reply(content, stop);
        match check_reply(request, &reply) {
            Ok(()) => assert_eq!(want, "", "{reply:?}"),
            Err(why) => assert!(!want.is_empty() && why.starts_with(want), "`{why}` for `{want}`"),
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_and_what_is_unsaid_is_set() {
    let bounds = Bounds {
        target: TargetKey { provider: "p".into(), model: "m".into() },
        context_window: 2_000,
        max_output: 1_000,
        is_fallback: false,
    };
    let of = |bytes: usize, max_tokens| {
        let request = Request { max_tokens, ..request(vec![user(&"x".repeat(bytes))]) };
        decide(&request, &bounds, &Config::default()).map_err(|failure| (failure.kind, failure.progress))
    };
    let refused = Err((FailureKind::ContextLength, Progress::NotSent));
    assert_eq!(of(400, None), Ok(1_000));
    assert_eq!(of(400, Some(5_000)), Ok(1_000), "never above what the model can write");
    assert_eq!(of(400, Some(7)), Ok(7));
    let tight = of(6_000, None).unwrap();
    assert!((256..500).contains(&tight), "what is left of the window: {tight}");
    assert_eq!(of(6_000, Some(900)), refused);
    assert_eq!(of(7_800, None), refused);
    assert_eq!(of(4, Some(0)), Err((FailureKind::Invalid, Progress::NotSent)));
}
