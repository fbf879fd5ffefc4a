//! What works: each dialect, the real APIs' refusals, keys, models, prefixes.

use crate::client::{ask, call, fetch, head, post, said_in, send, sim};
use backstop_call::Secret;
use serde_json::{Value, json};

#[tokio::test]
async fn both_dialects_answer_whole_and_streamed() {
    let sim = sim(|_| {}).await;
    let whole = call(&sim, "messages", &ask(false), "").await;
    let body = whole.json();
    assert_eq!(
        (whole.status, body["type"].as_str(), body["stop_reason"].as_str()),
        (200, Some("message"), Some("end_turn"))
    );
    assert!(whole.headers["request-id"].starts_with("req_sim"));
    assert_eq!(whole.headers["anthropic-ratelimit-requests-reset"], "2026-11-22T12:34:00.000Z");
    let said = body["content"][0]["text"].as_str().unwrap().to_owned();
    assert!(said.contains("How many roads"));

    let streamed = call(&sim, "messages", &ask(true), "").await;
    assert!(streamed.complete && streamed.headers["content-type"].starts_with("text/event-stream"));
    let events: Vec<Value> =
        streamed.events().iter().map(|data| serde_json::from_str(data).unwrap()).collect();
    assert_eq!(events[0]["type"], "message_start");
    assert_eq!(events[0]["message"]["usage"]["input_tokens"], body["usage"]["input_tokens"]);
    assert_eq!(events.last().unwrap()["type"], "message_stop");
    let text: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(text, said, "streamed or not, it says the same");
    let delta = events.iter().find(|event| event["type"] == "message_delta").unwrap();
    assert_eq!(delta["usage"]["output_tokens"], body["usage"]["output_tokens"]);

    let whole = call(&sim, "chat", &ask(false), "").await;
    let body = whole.json();
    assert_eq!(body["choices"][0]["message"]["content"], said, "either dialect, it says the same");
    assert_eq!(body["created"], 1_795_350_832);
    assert!(whole.headers["x-request-id"].starts_with("req_sim"));
    assert_eq!(whole.headers["x-ratelimit-reset-requests"], "8s");
    let mut request = ask(true);
    request["stream_options"] = json!({"include_usage": true});
    let streamed = call(&sim, "chat", &request, "").await;
    let events = streamed.events();
    assert_eq!(events.last().unwrap(), "[DONE]");
    let usage: Vec<Value> = events[..events.len() - 1]
        .iter()
        .map(|data| serde_json::from_str::<Value>(data).unwrap()["usage"].clone())
        .filter(|usage| !usage.is_null())
        .collect();
    assert_eq!(usage, [body["usage"].clone()]);
}

/// Dialect, body, status, and what the message says.
#[tokio::test]
async fn what_the_real_apis_refuse_is_refused() {
    let sim = sim(|_| {}).await;
    let messages = |extra: Value| {
        let mut body = ask(false);
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        body
    };
    let mut without = ask(false);
    without.as_object_mut().unwrap().remove("max_tokens");
    let long = "word ".repeat(9_000);
    let use_block = json!({"type": "tool_use", "id": "t1", "name": "x", "input": {}});
    let result = |id: &str| json!({"type": "tool_result", "tool_use_id": id, "content": "r"});
    let turns = |turns: Value| messages(json!({"messages": turns}));
    let user = |content: Value| json!({"role": "user", "content": content});
    let assistant = |content: Value| json!({"role": "assistant", "content": content});
    let rows: Vec<(&str, Value, u16, &str)> = vec![
        ("messages", without, 400, "max_tokens: Field required"),
        ("messages", messages(json!({"model": "gpt-9"})), 404, "model: gpt-9"),
        ("chat", messages(json!({"model": "gpt-9"})), 404, "does not exist"),
        ("messages", messages(json!({"messages": []})), 400, "at least one message"),
        ("messages", messages(json!({"max_tokens": 70_000})), 400, "maximum allowed number of output tokens"),
        ("messages", messages(json!({"temperature": 1.5})), 400, "temperature"),
        ("messages", messages(json!({"thread": {"type": "create"}})), 400, "thread"),
        ("messages", turns(json!([user(json!([result("t9")]))])), 400, "unexpected `tool_use_id`"),
        (
            "messages",
            turns(json!([user(json!("a")), assistant(json!([use_block])), user(json!("b"))])),
            400,
            "without `tool_result` blocks immediately after: t1",
        ),
        (
            "chat",
            turns(json!([user(json!("a")), {"role": "tool", "tool_call_id": "t9", "content": "r"}])),
            400,
            "must be a response to a preceding message",
        ),
        (
            "chat",
            turns(json!([user(json!("a")),
                {"role": "assistant", "tool_calls": [
                    {"id": "t1", "type": "function", "function": {"name": "x", "arguments": "{}"}}]},
                user(json!("b"))])),
            400,
            "did not have response messages: t1",
        ),
        (
            "messages",
            messages(json!({"model": "sim-small", "messages": [user(json!(long))]})),
            400,
            "prompt is too long: 11250 tokens > 8000 maximum",
        ),
        (
            "chat",
            messages(json!({"model": "sim-small", "messages": [user(json!(long))]})),
            400,
            "maximum context length is 8000 tokens",
        ),
        (
            "chat",
            messages(json!({"stream_options": {"include_usage": true}})),
            400,
            "only allowed when 'stream'",
        ),
        ("responses", messages(json!({"model": "gpt-9"})), 404, "does not exist"),
        ("responses", messages(json!({"stop": ["x"]})), 400, "Unknown parameter: 'stop'"),
        ("responses", messages(json!({"max_tokens": 8})), 400, "Expected a value >= 16"),
        ("responses", messages(json!({"background": true})), 400, "in the background"),
        (
            "responses",
            messages(json!({"previous_response_id": "resp_1"})),
            400,
            "a previous response, which is not found",
        ),
        (
            "responses",
            turns(
                json!([user(json!("a")), {"type": "function_call_output", "call_id": "t9", "output": "r"}]),
            ),
            400,
            "No tool call found for function call output with call_id t9",
        ),
        (
            "responses",
            turns(json!([user(json!("a")),
                {"type": "function_call", "call_id": "t1", "name": "x", "arguments": "{}"},
                user(json!("b"))])),
            400,
            "No tool output found for function call t1",
        ),
        (
            "responses",
            turns(
                json!([user(json!("a")), {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}]),
            ),
            400,
            "could not be verified",
        ),
        (
            "responses",
            messages(json!({"model": "sim-small", "messages": [user(json!(long))]})),
            400,
            "exceeds the context window",
        ),
    ];
    for (dialect, body, status, message) in rows {
        let got = call(&sim, dialect, &body, "").await;
        let error = &got.json()["error"];
        assert_eq!(got.status, status, "{dialect} {message}: {}", got.text());
        assert!(error["message"].as_str().unwrap().contains(message), "{message}: {error}");
        if message.contains("context length") {
            assert_eq!(error["code"], "context_length_exceeded");
        }
        if message.contains("context window") {
            assert_eq!(error["code"], "context_length_exceeded");
        }
        if message.contains("previous response") {
            assert_eq!(error["code"], "previous_response_not_found");
        }
        if message == "thread" {
            assert_eq!(error["details"]["error_code"], "thread_unsupported_request");
        }
    }
    let (path, _) = head("messages");
    let got = send(&sim, &post(path, "", &ask(false).to_string())).await;
    assert!(got.text().contains("anthropic-version: header is required"));
    let mut body = ask(false);
    body["temperature"] = json!(1.0);
    let got = send(&sim, &post(path, "anthropic-version: 2026-10-21\r\n", &body.to_string())).await;
    assert!(got.text().contains("temperature: Extra inputs"), "{}", got.text());
    let got = send(&sim, &post(path, "anthropic-version: 2023-06-01\r\n", "{\"model\"")).await;
    assert_eq!(got.status, 400);
    assert_eq!(sim.bill().requests, 0, "a refusal costs nothing");
}

#[tokio::test]
async fn a_wrong_key_is_refused_in_the_shape_of_the_dialect() {
    let sim = sim(|config| config.keys = vec![Secret::new("k-1")]).await;
    let with = |dialect: &str, header: &str| {
        let (path, version) = head(dialect);
        post(path, &format!("{version}{header}"), &said_in(dialect, &ask(false)).to_string())
    };
    for (header, status) in [
        ("", 401),
        ("x-api-key: k-2\r\n", 401),
        ("x-api-key: k-1\r\n", 200),
        ("authorization: Bearer k-1\r\n", 200),
    ] {
        for dialect in ["messages", "chat", "responses"] {
            assert_eq!(send(&sim, &with(dialect, header)).await.status, status, "{dialect} {header}");
        }
    }
    let error = send(&sim, &with("messages", "")).await.json();
    assert_eq!(error["error"]["type"], "authentication_error");
    for dialect in ["chat", "responses"] {
        let error = send(&sim, &with(dialect, "")).await.json();
        assert_eq!(error["error"]["code"], "invalid_api_key");
    }
}

#[tokio::test]
async fn models_probes_counts_and_prefixes() {
    let sim = sim(|_| {}).await;
    let got = fetch(&sim, "HEAD /", "").await;
    assert_eq!((got.status, got.body.len()), (200, 0));
    let chat = fetch(&sim, "GET /p/a/v1/models", "").await.json();
    assert_eq!((chat["object"].as_str(), chat["data"][0]["id"].as_str()), (Some("list"), Some("sim")));
    let messages = fetch(&sim, "GET /v1/models?limit=1000", "anthropic-version: 2023-06-01\r\n").await.json();
    assert_eq!(
        (messages["has_more"].as_bool(), messages["last_id"].as_str()),
        (Some(false), Some("sim-small"))
    );
    assert_eq!(fetch(&sim, "GET /v1/nothing", "").await.status, 404);
    assert_eq!(fetch(&sim, "GET /v1/messages", "").await.status, 405);
    let version = "anthropic-version: 2023-06-01\r\n";
    let body = json!({"model": "sim", "messages": [{"role": "user", "content": "12345678"}]}).to_string();
    let count = send(&sim, &post("/v1/messages/count_tokens", version, &body)).await.json();
    assert_eq!(count, json!({"input_tokens": 2}));
    let id = format!("{version}x-client-request-id: c1.1\r\n");
    send(&sim, &post("/p/backup/v1/messages", &id, &ask(false).to_string())).await;
    let seen = sim.requests();
    let last = seen.last().unwrap();
    assert_eq!((last.provider.as_str(), last.path.as_str()), ("backup", "/v1/messages"));
    assert_eq!(last.client_request_id.as_deref(), Some("c1.1"));
    assert!(last.body.contains("How many roads"));
}

/// What is asked in a thread is answered as if the conversation were sent whole; a thread of another provider, or of nobody,
/// goes on nowhere.
#[tokio::test]
async fn threads_are_kept_by_the_provider_that_began_them() {
    let sim = sim(|config| config.threads = true).await;
    let version = "anthropic-version: 2026-10-21\r\nanthropic-beta: a,message-threads-2026-08-12\r\n";
    let ask = async |provider: &str, headers: &str, extra: Value| {
        let mut body = ask(false);
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let got = send(&sim, &post(&format!("/p/{provider}/v1/messages"), headers, &body.to_string())).await;
        (got.status, got.json())
    };
    let first = json!({"role": "user", "content": "Who is there?"});
    let second = json!({"role": "user", "content": "Who else?"});
    let begins = json!({"messages": [first], "system": "Be brief.", "thread": {"type": "create"}});
    let (status, begun) = ask("a", version, begins.clone()).await;
    assert_eq!((status, begun["type"].as_str()), (200, Some("message")), "{begun}");
    let goes_on =
        |id: &Value| json!({"messages": [second], "thread": {"type": "continue", "previous_message_id": id}});
    let (status, gone_on) = ask("a", version, goes_on(&begun["id"])).await;
    let said = json!({"role": "assistant", "content": begun["content"]});
    let whole = json!({"messages": [first, said, second], "system": "Be brief."});
    assert_eq!((status, gone_on), ask("a", version, whole).await);

    let code = |(status, body): (u16, Value)| (status, body["error"]["details"]["error_code"].clone());
    let lost = (404, json!("thread_not_found"));
    assert_eq!(code(ask("b", version, goes_on(&begun["id"])).await), lost);
    assert_eq!(code(ask("a", version, goes_on(&json!("msg_0"))).await), lost);
    let mut other = goes_on(&begun["id"]);
    other["model"] = json!("sim-small");
    assert_eq!(code(ask("a", version, other).await), (400, json!("thread_fingerprint_mismatch")));
    let (status, refused) = ask("a", "anthropic-version: 2026-10-21\r\n", begins).await;
    assert_eq!(
        (status, refused["error"]["message"].as_str()),
        (400, Some("thread: Extra inputs are not permitted"))
    );
}

/// The same seed gives the same bytes, another gives others.
#[tokio::test]
async fn answers_are_deterministic_by_seed() {
    let mut bodies = Vec::new();
    for seed in [5, 5, 6] {
        let sim = sim(|config| config.seed = seed).await;
        bodies.push(call(&sim, "chat", &ask(true), "").await.body);
    }
    assert_eq!(bodies[0], bodies[1]);
    assert_ne!(bodies[0], bodies[2]);
}

/// Whole and streamed, with a thought that can be sent back when that is asked for.
#[tokio::test]
async fn responses_answer_whole_and_streamed() {
    let sim = sim(|_| {}).await;
    let said = call(&sim, "chat", &ask(false), "").await.json();
    let whole = call(&sim, "responses", &ask(false), "").await;
    let body = whole.json();
    assert_eq!((body["object"].as_str(), body["status"].as_str()), (Some("response"), Some("completed")));
    let text = &body["output"][0]["content"][0]["text"];
    assert_eq!(*text, said["choices"][0]["message"]["content"], "in each dialect, it says the same");
    assert_eq!(body["usage"]["total_tokens"], said["usage"]["total_tokens"]);
    assert_eq!(body["created_at"], 1_795_350_832);
    assert_eq!(whole.headers["x-ratelimit-reset-requests"], "8s");
    let streamed = call(&sim, "responses", &ask(true), "").await;
    let events: Vec<Value> =
        streamed.events().iter().map(|data| serde_json::from_str(data).unwrap()).collect();
    let numbers: Vec<u64> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
    assert_eq!(events[0]["type"], "response.created");
    assert_eq!(events.last().unwrap()["type"], "response.completed");
    assert_eq!(events.last().unwrap()["response"], body, "the end of a stream is the whole answer");

    let mut thinks = ask(false);
    thinks["reasoning"] = json!({"effort": "low"});
    let body = call(&sim, "responses", &thinks, "").await.json();
    assert_eq!(
        (body["output"][0]["type"].as_str(), body["output"][0].get("encrypted_content")),
        (Some("reasoning"), None)
    );
    thinks["include"] = json!(["reasoning.encrypted_content"]);
    let mut body = call(&sim, "responses", &thinks, "").await.json();
    assert!(body["output"][0]["encrypted_content"].is_string(), "{body}");
    let mut next = thinks["messages"].as_array().unwrap().clone();
    next.append(body["output"].as_array_mut().unwrap());
    next.push(json!({"role": "user", "content": "Go on."}));
    thinks["messages"] = next.into();
    assert_eq!(call(&sim, "responses", &thinks, "").await.status, 200, "it takes back what it said");
}
