//! A client of one dialect and a provider of the other: what is carried over, and that what is not is named.

use crate::it::kit::{CHAT, Gate, MESSAGES, config};
use crate::it::upstream::{
    CHAT_EVENTS, CHAT_REPLY, JSON, MESSAGES_EVENTS, MESSAGES_REPLY, Upstream, answer, events,
};
use serde_json::{Value, json};

async fn gate(dialect: &str, upstream: &Upstream) -> Gate {
    Gate::start(&config(&[("a", dialect, upstream.url())])).await
}

async fn post(gate: &Gate, path: &str, body: &Value) -> crate::it::kit::Answer {
    gate.post(path, &body.to_string()).await
}

/// The data of every event but the last word of Chat.
fn data(text: &str) -> Vec<Value> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    lines.map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[tokio::test]
async fn a_messages_request_becomes_a_chat_request() {
    let upstream = Upstream::always(answer("200 OK", &[JSON], CHAT_REPLY)).await;
    let gate = gate("chat", &upstream).await;
    let body = json!({
        "model": "main", "max_tokens": 77, "temperature": 0.5, "stop_sequences": ["END"],
        "system": [{"type": "text", "text": "Be exact."}],
        "tools": [{"name": "look", "description": "Looks.", "input_schema": {"type": "object", "properties": {"q": {"type": "string"}}}}],
        "tool_choice": {"type": "any"},
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "See:"}, {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {"q": "a"}}, {"type": "tool_use", "id": "t2", "name": "look", "input": {"q": "b"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "one"}, {"type": "tool_result", "tool_use_id": "t2", "content": "two", "is_error": true}]},
        ],
    });
    let told = post(&gate, MESSAGES, &body).await;
    assert_eq!(told.status(), 200, "{}", told.all());
    let sent: Value = serde_json::from_str(upstream.only().text()).unwrap();
    assert!(upstream.only().head.starts_with("POST /chat/completions"));
    assert_eq!(
        (&sent["model"], &sent["max_tokens"], &sent["stop"], &sent["temperature"]),
        (&"sim".into(), &77.into(), &json!(["END"]), &0.5.into())
    );
    assert_eq!(sent["tool_choice"], "required");
    assert_eq!(sent["tools"][0]["function"]["name"], "look");
    let roles: Vec<_> = sent["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool", "tool"]);
    assert_eq!(sent["messages"][1]["content"][1]["image_url"]["url"], "data:image/png;base64,iVBO");
    let calls = sent["messages"][2]["tool_calls"].as_array().unwrap();
    assert_eq!(
        (calls.len(), &calls[1]["id"], &calls[0]["function"]["name"]),
        (2, &"t2".into(), &"look".into())
    );
    assert_eq!(
        serde_json::from_str::<Value>(calls[0]["function"]["arguments"].as_str().unwrap()).unwrap(),
        json!({"q": "a"})
    );
    assert_eq!(
        (&sent["messages"][3]["tool_call_id"], &sent["messages"][4]["content"]),
        (&"t1".into(), &"two".into())
    );
    let reply = told.json();
    assert_eq!(
        (&reply["type"], &reply["role"], &reply["stop_reason"]),
        (&"message".into(), &"assistant".into(), &"end_turn".into())
    );
    assert_eq!(reply["content"], json!([{"type": "text", "text": "Hello"}]));
    assert_eq!((&reply["usage"]["input_tokens"], &reply["usage"]["output_tokens"]), (&10.into(), &5.into()));
}

#[tokio::test]
async fn a_chat_request_becomes_a_messages_request() {
    let upstream = Upstream::always(answer("200 OK", &[JSON], MESSAGES_REPLY)).await;
    let gate = gate("messages", &upstream).await;
    let body = json!({
        "model": "main", "max_completion_tokens": 77, "stop": "END", "parallel_tool_calls": false,
        "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "messages": [
            {"role": "developer", "content": "Be exact."},
            {"role": "user", "content": [{"type": "text", "text": "See:"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}]},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "look", "arguments": "{\"q\":\"a\"}"}}]},
            {"role": "tool", "tool_call_id": "t1", "content": "one"},
        ],
    });
    let told = post(&gate, CHAT, &body).await;
    assert_eq!(told.status(), 200, "{}", told.all());
    let asked = upstream.only();
    assert_eq!(asked.header("anthropic-version"), Some("2023-06-01"));
    let sent: Value = serde_json::from_str(asked.text()).unwrap();
    assert_eq!((&sent["max_tokens"], &sent["stop_sequences"]), (&77.into(), &json!(["END"])));
    assert_eq!(
        (&sent["tool_choice"]["type"], &sent["tool_choice"]["name"]),
        (&"tool".into(), &"look".into())
    );
    assert!(sent["system"].to_string().contains("Be exact."), "{sent}");
    let blocks = &sent["messages"];
    assert_eq!(
        blocks[0]["content"][1]["source"],
        json!({"type": "base64", "media_type": "image/png", "data": "iVBO"})
    );
    assert_eq!(blocks[1]["content"][0]["input"], json!({"q": "a"}));
    assert_eq!(
        (&blocks[2]["content"][0]["type"], &blocks[2]["content"][0]["tool_use_id"]),
        (&"tool_result".into(), &"t1".into())
    );
    let reply = told.json();
    assert_eq!(
        (&reply["object"], &reply["choices"][0]["finish_reason"]),
        (&"chat.completion".into(), &"stop".into())
    );
    assert_eq!(
        (&reply["choices"][0]["message"]["content"], &reply["usage"]["total_tokens"]),
        (&"Hello".into(), &15.into())
    );
}

#[tokio::test]
async fn streams_are_told_in_the_clients_dialect() {
    let upstream = Upstream::always(events(&CHAT_EVENTS)).await;
    let messages_gate = gate("chat", &upstream).await;
    let body = json!({"model": "main", "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "a"}]});
    let told = post(&messages_gate, MESSAGES, &body).await;
    assert!(told.header("content-type").starts_with("text/event-stream"));
    let kinds: Vec<_> =
        data(told.text()).iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(
        kinds,
        [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    let events_of: Vec<_> = told.text().lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(events_of, kinds, "a client drops events without their name");
    let delta = &data(told.text())[4];
    assert_eq!(
        (&delta["delta"]["stop_reason"], &delta["usage"]["output_tokens"]),
        (&"end_turn".into(), &5.into())
    );

    let upstream = Upstream::always(events(&MESSAGES_EVENTS)).await;
    let chat_gate = gate("messages", &upstream).await;
    for include_usage in [false, true] {
        let mut body = body.clone();
        body["stream_options"] = json!({"include_usage": include_usage});
        let told = post(&chat_gate, CHAT, &body).await;
        assert!(told.text().ends_with("data: [DONE]\n\n"), "{}", told.text());
        let chunks = data(told.text());
        let text: String =
            chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(text, "Hello");
        let usages: Vec<_> = chunks.iter().filter(|chunk| chunk["usage"].is_object()).collect();
        assert_eq!(usages.len(), usize::from(include_usage), "{}", told.text());
        assert!(
            chunks
                .iter()
                .all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["id"] == chunks[0]["id"])
        );
        assert!(chunks.iter().any(|chunk| chunk["choices"][0]["finish_reason"] == "stop"));
    }
}

#[tokio::test]
async fn tool_calls_are_streamed_across() {
    let call = |part: &str, first: bool| {
        let function =
            if first { json!({"name": "look", "arguments": part}) } else { json!({"arguments": part}) };
        let mut call = json!({"index": 0, "function": function});
        if first {
            call["id"] = "call_1".into();
            call["type"] = "function".into();
        }
        format!(
            "data: {}\n\n",
            json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": null}]})
        )
    };
    let end = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n";
    let parts = [
        CHAT_EVENTS[0].to_owned(),
        call("{\"q\":", true),
        call("\"a\"}", false),
        end.to_owned(),
        CHAT_EVENTS[3].to_owned(),
        CHAT_EVENTS[4].to_owned(),
    ];
    let upstream = Upstream::always(events(&parts.iter().map(String::as_str).collect::<Vec<_>>())).await;
    let gate = gate("chat", &upstream).await;
    let body = json!({"model": "main", "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "a"}], "tools": [{"name": "look", "input_schema": {"type": "object"}}]});
    let told = data(post(&gate, MESSAGES, &body).await.text());
    let start = told.iter().find(|event| event["type"] == "content_block_start").unwrap();
    assert_eq!(
        (&start["content_block"]["type"], &start["content_block"]["id"], &start["content_block"]["name"]),
        (&"tool_use".into(), &"call_1".into(), &"look".into())
    );
    let input: String = told.iter().filter_map(|event| event["delta"]["partial_json"].as_str()).collect();
    assert_eq!(serde_json::from_str::<Value>(&input).unwrap(), json!({"q": "a"}));
    assert!(told.iter().any(|event| event["delta"]["stop_reason"] == "tool_use"));
}

/// What the other dialect has no place for is told in a header, for whole answers and for streams.
#[tokio::test]
async fn what_is_lost_on_the_way_is_named() {
    let upstream = Upstream::start(|asked| {
        let is_stream = asked.text().contains("\"stream\":true");
        vec![crate::it::upstream::Step::Write(if is_stream {
            events(&CHAT_EVENTS)
        } else {
            answer("200 OK", &[JSON], CHAT_REPLY)
        })]
    })
    .await;
    let gate = gate("chat", &upstream).await;
    for stream in [false, true] {
        let plain = json!({"model": "main", "max_tokens": 9, "stream": stream, "messages": [{"role": "user", "content": "a"}]});
        assert_eq!(post(&gate, MESSAGES, &plain).await.header("x-backstop-lost"), "", "nothing was lost");
        let mut rich = plain.clone();
        rich["messages"] = json!([
            {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "c2ln"}, {"type": "text", "text": "b"}]},
            {"role": "user", "content": "c", "output_config": {"effort": "low"}},
        ]);
        let told = post(&gate, MESSAGES, &rich).await;
        assert_eq!(told.status(), 200, "{}", told.all());
        let lost = told.header("x-backstop-lost");
        assert!(lost.contains("think") && lost.contains("messages.output_config"), "lost: {lost}");
        let sent = upstream.seen().asked.pop().unwrap();
        assert!(!sent.text().contains("c2ln") && !sent.text().contains("cache_control"));
    }
}

/// An error of the provider is told in the client's dialect, with the class that its SDK makes of it.
#[tokio::test]
async fn errors_are_told_in_the_clients_dialect() {
    let chat = |kind: &str, code: &str, message: &str| {
        json!({"error": {"message": message, "type": kind, "param": null, "code": code}}).to_string()
    };
    let messages = |kind: &str, message: &str| {
        json!({"type": "error", "error": {"type": kind, "message": message}}).to_string()
    };
    let rows = [
        (
            "chat",
            MESSAGES,
            "400 Bad Request",
            chat("invalid_request_error", "context_length_exceeded", "maximum context length is 9"),
            400,
            "invalid_request_error",
            "prompt is too long",
        ),
        (
            "chat",
            MESSAGES,
            "404 Not Found",
            chat("invalid_request_error", "model_not_found", "no such model"),
            404,
            "not_found_error",
            "no such model",
        ),
        (
            "chat",
            MESSAGES,
            "400 Bad Request",
            chat("invalid_request_error", "", "bad tool"),
            400,
            "invalid_request_error",
            "bad tool",
        ),
        (
            "messages",
            CHAT,
            "400 Bad Request",
            messages("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"),
            400,
            "context_length_exceeded",
            "prompt is too long",
        ),
        ("messages", CHAT, "413 Too Large", messages("request_too_large", "too large"), 413, "", "too large"),
    ];
    for (provider, path, line, body, status, class, message) in rows {
        let upstream = Upstream::always(answer(line, &[JSON, ("request-id", "req_up")], &body)).await;
        let gate = gate(provider, &upstream).await;
        for stream in [false, true] {
            let body = json!({"model": "main", "max_tokens": 9, "stream": stream, "messages": [{"role": "user", "content": "a"}]});
            let told = post(&gate, path, &body).await;
            let error = told.json()["error"].clone();
            assert_eq!(told.status(), status, "{}", told.all());
            let found = if path == CHAT {
                error["code"].as_str().unwrap_or("")
            } else {
                error["type"].as_str().unwrap()
            };
            assert_eq!(found, class, "{}", told.all());
            assert!(error["message"].as_str().unwrap().contains(message), "{error}");
            assert_eq!(told.json()["type"] == "error", path == MESSAGES);
            assert_eq!(told.header("x-should-retry"), "false");
        }
    }
}

/// U+2028 is text in either dialect: a gateway of today lost the rest of the answer behind it and said it was whole.
#[tokio::test]
async fn line_separators_in_a_text_survive_the_way_across() {
    let text = "a\u{2028}b\u{2029}c\u{85}d";
    let upstream = Upstream::always(events(
        &MESSAGES_EVENTS.map(|part| part.replace("Hello", text)).each_ref().map(String::as_str),
    ))
    .await;
    let gate = gate("messages", &upstream).await;
    let body = json!({"model": "main", "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": text}]});
    let told = post(&gate, CHAT, &body).await;
    let said: String = data(&told.text().replace(['\u{2028}', '\u{2029}', '\u{85}'], "|"))
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    assert!(said == "a|b|c|d" || told.text().contains("\\u2028"), "{}", told.text());
    let sent: Value = serde_json::from_str(upstream.only().text()).unwrap();
    assert!(
        sent["messages"][0].to_string().contains(text) || sent["messages"][0].to_string().contains("\\u2028")
    );
}
