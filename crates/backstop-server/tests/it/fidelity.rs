//! The same dialect in and out is the same bytes in and out: what no policy changes, nobody writes anew.

use crate::it::kit::{CHAT, Client, Gate, MESSAGES, UPSTREAM_KEY, config, messages};
use crate::it::upstream::{
    CHAT_EVENTS, CHAT_REPLY, EVENTS, JSON, MESSAGES_EVENTS, MESSAGES_REPLY, Step, Upstream, answer, events,
    piece,
};
use std::sync::Arc;
use tokio::sync::Semaphore;

async fn gate(dialect: &str, upstream: &Upstream) -> Gate {
    Gate::start(&config(&[("a", dialect, upstream.url())])).await
}

const CLAUDE_CODE: &str =
    include_str!("../../../backstop-wire/tests/golden/requests/claude-code.messages.json");
const OPENAI_SDK: &str = include_str!("../../../backstop-wire/tests/golden/requests/openai-sdk.chat.json");

/// What no reader that writes anew would give back: odd blanks, escapes, U+2028 bare and escaped, integers beyond 2^64, floats
/// with zeros, the order of keys, keys that stand twice in a message, unknown roles, blocks and fields, surrogates, cache marks,
/// signatures, JSON within strings.
fn odd(model: &str, limit: &str) -> String {
    format!(
        "\n {{\t\"zeta\" : 1.0e+2,\r\n\"model\":{model} ,\"big\":123456789012345678901234567890,\"{limit}\":0100,\"unknown\":{{\"b\":1,\"a\":[ ]}},\
         \"metadata\":{{\"user_id\":\"{{\\\"device_id\\\":\\\"x\\\"}}\"}},\"messages\":[{{\"role\":\"user\",\"content\":\"a\u{2028}b\\u2028c\\u00e9\u{e9}\\/\\ud83d\\ude00\u{1f600}\",\"name\":\"x\",\"name\":\"y\"}},\
         {{\"content\":[{{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"EqoB+/==\"}},{{\"cache_control\":{{\"ttl\":\"1h\",\"type\":\"ephemeral\"}},\"type\":\"text\",\"text\":\"t\"}},{{\"type\":\"hologram\",\"n\":-0.0}}],\"role\":\"assistant\"}},\
         {{\"role\":\"oracle\",\"content\":null,\"output_config\":{{}}}},{{\"role\":\"user\",\"content\":\"go\"}}]  }}\n"
    )
    .replace(":0100", ":100")
}

#[tokio::test]
async fn a_request_goes_through_to_the_byte_but_for_the_models_name() {
    for (path, dialect, limit, reply) in
        [(MESSAGES, "messages", "max_tokens", MESSAGES_REPLY), (CHAT, "chat", "max_tokens", CHAT_REPLY)]
    {
        let upstream = Upstream::always(answer("200 OK", &[JSON], reply)).await;
        let gate = gate(dialect, &upstream).await;
        let told = gate.post(path, &odd("\"m\\u0061in\"", limit)).await;
        assert_eq!((told.status(), told.text()), (200, reply), "{}", told.all());
        assert_eq!(upstream.only().text(), odd("\"sim\"", limit));
    }
}

#[tokio::test]
async fn claude_codes_request_goes_through_to_the_byte() {
    let upstream = Upstream::always(events(&MESSAGES_EVENTS)).await;
    let gate = gate("messages", &upstream).await;
    let sent = CLAUDE_CODE.replace("\"claude-opus-5-5\"", "\"main\"");
    let headers = [
        ("x-api-key", "sk-ant-whatever"),
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "claude-code-20250219,per-turn-control-2026-07-01"),
        ("anthropic-beta", "effort-2025-11-24"),
        ("anthropic-dangerous-direct-browser-access", "true"),
        ("x-claude-code-session-id", "5c1f"),
        ("x-app", "cli"),
        ("x-stainless-retry-count", "0"),
        ("user-agent", "claude-cli/2.1.330 (external, sdk-cli)"),
        ("accept-encoding", "gzip, br"),
        ("x-forwarded-for", "10.1.2.3"),
    ];
    let told = gate.ask("POST", "/v1/messages?beta=true", &headers, &sent).await;
    assert_eq!((told.status(), told.text()), (200, MESSAGES_EVENTS.concat().as_str()));
    let asked = upstream.only();
    assert_eq!(asked.text(), CLAUDE_CODE.replace("\"claude-opus-5-5\"", "\"sim\""));
    assert_eq!(asked.header("x-api-key"), Some(UPSTREAM_KEY), "the client's key stays here");
    assert!(!asked.head.contains("sk-ant-whatever") && !asked.head.contains("10.1.2.3"));
    for (name, value) in &headers[1..9] {
        assert!(
            asked.head.lines().any(|line| line == format!("{name}: {value}")),
            "{name} is not in\n{}",
            asked.head
        );
    }
    assert_eq!(asked.header("accept-encoding"), None, "what comes back is read");
}

/// With the version of today, and the key as bearer: `2026-10-21` changes what fields mean, so it must be the client's own.
#[tokio::test]
async fn the_clients_own_version_header_goes_before_ours() {
    let upstream = Upstream::always(answer("200 OK", &[JSON], MESSAGES_REPLY)).await;
    let gate = gate("messages", &upstream).await;
    for version in ["2026-10-21", "2023-06-01", "2031-01-01"] {
        let headers = [("authorization", "Bearer sk-client"), ("anthropic-version", version)];
        gate.ask("POST", MESSAGES, &headers, &messages("main", false)).await;
        let asked = upstream.seen().asked.pop().unwrap();
        assert_eq!((asked.header("anthropic-version"), asked.header("authorization")), (Some(version), None));
    }
    gate.post(MESSAGES, &messages("main", false)).await;
    assert_eq!(
        upstream.seen().asked.pop().unwrap().header("anthropic-version"),
        Some("2023-06-01"),
        "one must be there"
    );
}

/// What streams from Chat is asked for its usage; nothing else of the body is touched.
#[tokio::test]
async fn an_openai_sdks_request_goes_through_but_for_the_usage_that_is_asked_for() {
    let sent = OPENAI_SDK.replacen("\"gpt-5.2\"", "\"main\"", 1);
    assert!(sent.contains("\"main\""));
    let want = OPENAI_SDK
        .replacen("\"gpt-5.2\"", "\"sim\"", 1)
        .replace("\"max_completion_tokens\"", "\"max_tokens\"")
        .replace("{\"include_usage\": false}", "{\"include_usage\":true}");
    let upstream = Upstream::start(|asked| {
        let is_stream = asked.text().contains("\"stream\": true") || asked.text().contains("\"stream\":true");
        vec![Step::Write(if is_stream {
            events(&CHAT_EVENTS)
        } else {
            answer("200 OK", &[JSON], CHAT_REPLY)
        })]
    })
    .await;
    let gate = gate("chat", &upstream).await;
    let headers = [
        ("authorization", "Bearer sk-client"),
        ("openai-organization", "org-1"),
        ("user-agent", "OpenAI/Python 3.54"),
    ];
    let told = gate.ask("POST", CHAT, &headers, &sent).await;
    assert_eq!(told.status(), 200, "{}", told.all());
    let asked = upstream.only();
    assert_eq!(asked.text(), want);
    assert_eq!(asked.header("authorization"), Some(format!("Bearer {UPSTREAM_KEY}").as_str()));
    assert_eq!(
        (asked.header("openai-organization"), asked.header("user-agent")),
        (Some("org-1"), Some("OpenAI/Python 3.54"))
    );
}

/// A server that knows the limit by its old name alone gets it by that name, but never twice.
#[tokio::test]
async fn an_output_limit_is_never_there_twice() {
    let upstream = Upstream::always(answer("200 OK", &[JSON], CHAT_REPLY)).await;
    let gate = gate("chat", &upstream).await;
    let body = |model: &str, limits: &str| format!("{{\"model\":\"{model}\",{limits},\"messages\":[]}}");
    let both = "\"max_tokens\":5,\"max_completion_tokens\":7";
    for (limits, want) in [("\"max_completion_tokens\":7", "\"max_tokens\":7"), (both, both)] {
        gate.post(CHAT, &body("main", limits)).await;
        assert_eq!(upstream.seen().asked.pop().unwrap().text(), body("sim", want));
    }
}

/// A client that did not ask for the usage of a stream does not get the event that we asked for.
#[tokio::test]
async fn the_usage_that_only_we_asked_for_is_kept_from_the_client() {
    let without: String = [0, 1, 2, 4].map(|n| CHAT_EVENTS[n]).concat();
    let rows = [
        ("", "\"stream_options\":{\"include_usage\":true},", &without),
        (
            "\"stream_options\":{\"include_usage\":true},",
            "\"stream_options\":{\"include_usage\":true},",
            &CHAT_EVENTS.concat(),
        ),
        (
            "\"stream_options\":{\"include_usage\":false,\"x\":1},",
            "\"stream_options\":{\"include_usage\":true,\"x\":1},",
            &without,
        ),
        ("\"stream_options\":null,", "\"stream_options\":{\"include_usage\":true},", &without),
    ];
    let upstream = Upstream::always(events(&CHAT_EVENTS)).await;
    let gate = gate("chat", &upstream).await;
    for (options, want, told) in rows {
        let body = |model: &str, options: &str| {
            format!(
                "{{{options}\"model\":\"{model}\",\"stream\":true,\"max_tokens\":9,\"messages\":[{{\"role\":\"user\",\"content\":\"a\"}}]}}"
            )
        };
        let answer = gate.post(CHAT, &body("main", options)).await;
        assert_eq!(answer.text(), *told, "with {options}");
        assert_eq!(upstream.seen().asked.pop().unwrap().text(), body("sim", want));
    }
    let ends = gate.ends(4).await;
    assert!(ends.iter().all(|end| end.finished().usage.output_tokens == 5), "counted all the same");
}

/// BerriAI/litellm's silent truncation at U+2028; unknown events, comments, fields, other line ends.
#[tokio::test]
async fn a_stream_goes_through_to_the_byte_whatever_it_holds() {
    let odd = [
        ": a comment of a proxy\n\n",
        "retry: 3000\nid: 7\n\n",
        MESSAGES_EVENTS[0],
        "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        "event: hologram\ndata: {\"type\":\"hologram\",\"n\":12345678901234567890123}\n\n",
        "event: content_block_start\r\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"},\"new\":true}\r\n\r\n",
        "event: content_block_delta\ndata:{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\u{2028}b\u{85}c\u{2029}d \u{1f600}\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\ndata: \"delta\":{\"type\":\"text_delta\",\"text\":\"in two lines\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"scent_delta\",\"scent\":\"rose\"}}\n\n",
        ": keep-alive\n\n",
        MESSAGES_EVENTS[2],
    ];
    let whole = odd.concat();
    // Cut at every byte that is odd enough: within characters, line ends and field names.
    for size in [1, 7, 61, 100_000] {
        let pieces: Vec<u8> = whole.as_bytes().chunks(size).flat_map(piece).collect();
        let bytes = [EVENTS, &pieces, b"0\r\n\r\n"].concat();
        let upstream = Upstream::always(bytes).await;
        let gate = gate("messages", &upstream).await;
        let told = gate.post(MESSAGES, &messages("main", true)).await;
        assert_eq!((told.status(), told.text()), (200, whole.as_str()), "in pieces of {size}");
        assert_eq!(told.header("request-id"), "req_up");
    }
}

/// Each event is with the client before the next one is sent: the provider waits for the test's word after each.
#[tokio::test]
async fn events_reach_the_client_one_by_one_as_they_come() {
    for (path, dialect, parts) in
        [(MESSAGES, "messages", MESSAGES_EVENTS.to_vec()), (CHAT, "chat", CHAT_EVENTS.to_vec())]
    {
        let all: Vec<String> = parts.concat().split_inclusive("\n\n").map(str::to_owned).collect();
        let go_on = Arc::new(Semaphore::new(0));
        let upstream = Upstream::start({
            let (all, go_on) = (all.clone(), Arc::clone(&go_on));
            move |_| {
                let mut steps = vec![Step::Write(EVENTS.to_vec())];
                for event in &all {
                    steps.extend([Step::Write(piece(event)), Step::Wait(Arc::clone(&go_on))]);
                }
                steps.push(Step::Write(b"0\r\n\r\n".to_vec()));
                steps
            }
        })
        .await;
        let gate = gate(dialect, &upstream).await;
        let mut client = gate.client().await;
        let body = messages("main", true)
            .replace("\"stream\"", "\"stream_options\":{\"include_usage\":true},\"stream\"");
        let body = if dialect == "chat" { body } else { messages("main", true) };
        client.send("POST", path, &[], body.as_bytes()).await;
        // Until content comes, events may be held back: another provider could still be asked.
        let first = all.iter().position(|event| event.contains("Hello")).unwrap();
        go_on.add_permits(first);
        let mut waiting = Waiting { client: &mut client, go_on: &go_on, sent: 0, first };
        assert_eq!(waiting.client.head().await.status, 200);
        let mut told = String::new();
        for event in &all {
            while !told.contains(event.as_str()) {
                told.push_str(&waiting.next().await);
            }
        }
        assert_eq!(told, all.concat());
        assert_eq!(client.chunk().await, None);
    }
}

/// Lets the provider go on only when the client has what was sent before.
struct Waiting<'a> {
    client: &'a mut Client,
    go_on: &'a Semaphore,
    sent: usize,
    first: usize,
}

impl Waiting<'_> {
    async fn next(&mut self) -> String {
        let chunk = self.client.chunk().await.unwrap();
        let text = String::from_utf8(chunk).unwrap();
        let before = self.sent.max(self.first);
        self.sent += text.matches("\n\n").count();
        self.go_on.add_permits(self.sent.max(self.first) - before);
        text
    }
}

#[tokio::test]
async fn errors_about_the_clients_request_come_through_as_they_are() {
    let prompt = r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 208310 tokens > 200000 maximum"},"request_id":"req_1"}"#;
    let rows = [
        (
            "400 Bad Request",
            400,
            r#"{ "error" : {"type":"invalid_request_error","message":"thinking.budget_tokens: é","details":{"error_code":"x_y","z":[1.0]}} , "type":"error"}"#,
        ),
        ("400 Bad Request", 400, prompt),
        (
            "404 Not Found",
            404,
            r#"{"type":"error","error":{"type":"not_found_error","message":"model: nope"}}"#,
        ),
        (
            "413 Content Too Large",
            413,
            r#"{"type":"error","error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}"#,
        ),
        ("422 Unprocessable", 422, "not even JSON"),
    ];
    for (line, status, body) in rows {
        for stream in [false, true] {
            let headers = [
                JSON,
                ("request-id", "req_1"),
                ("retry-after", "3"),
                ("anthropic-organization-id", "o-1"),
                ("x-should-retry", "false"),
                ("anthropic-ratelimit-requests-remaining", "9"),
            ];
            let upstream = Upstream::always(answer(line, &headers, body)).await;
            let gate = gate("messages", &upstream).await;
            let told = gate.post(MESSAGES, &messages("main", stream)).await;
            assert_eq!((told.status(), told.text()), (status, body));
            for (name, value) in headers {
                assert_eq!(told.header(name), value, "{name} of {line}");
            }
        }
    }
}

#[tokio::test]
async fn a_reply_keeps_its_bytes_and_its_headers() {
    let body = "{ \"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m-2\",\"content\":[{\"type\":\"hologram\",\"big\":123456789012345678901234567890},{\"type\":\"text\",\"text\":\"\u{2028}\\u2028\"}],\"stop_reason\":\"some_new_reason\",\"stop_sequence\":null,\"usage\":{\"input_tokens\":3,\"output_tokens\":1,\"service_tier\":\"priority\"},\"container\":{\"id\":\"c\"} }\n";
    let headers = [
        JSON,
        ("request-id", "req_7"),
        ("anthropic-organization-id", "o-1"),
        ("anthropic-ratelimit-tokens-remaining", "12"),
        ("x-custom", "1"),
        ("set-cookie", "a=b"),
        ("server", "up/1"),
    ];
    let upstream = Upstream::always(answer("200 OK", &headers, body)).await;
    let gate = gate("messages", &upstream).await;
    let told = gate.post(MESSAGES, &messages("main", false)).await;
    assert_eq!((told.status(), told.text()), (200, body));
    for (name, value) in &headers[..5] {
        assert_eq!(told.header(name), *value, "{name}");
    }
    assert_eq!(
        (told.header("set-cookie"), told.header("server")),
        ("", ""),
        "these are between us and the provider"
    );
    for (name, value) in
        [("x-backstop-model", "a/sim"), ("x-backstop-attempts", "1"), ("x-backstop-cost", "$0.000024")]
    {
        assert_eq!(told.header(name), value);
    }
    assert!(!told.header("x-backstop-call").is_empty());
}

/// A count of tokens goes to whoever can count, and is estimated, and said to be, where nobody can.
#[tokio::test]
async fn tokens_are_counted_by_the_provider_or_estimated_and_said_so() {
    let upstream =
        Upstream::always(answer("200 OK", &[JSON, ("request-id", "req_c")], r#"{ "input_tokens": 4711 }"#))
            .await;
    let gate_of = async |dialect| gate(dialect, &upstream).await;
    let told =
        gate_of("messages").await.post("/v1/messages/count_tokens", &odd("\"main\"", "max_tokens")).await;
    assert_eq!(
        (told.status(), told.text(), told.header("request-id")),
        (200, r#"{ "input_tokens": 4711 }"#, "req_c")
    );
    let asked = upstream.only();
    assert!(asked.head.starts_with("POST /v1/messages/count_tokens "));
    assert_eq!(asked.text(), odd("\"sim\"", "max_tokens"));
    let told = gate_of("chat").await.post("/v1/messages/count_tokens", &messages("main", false)).await;
    assert_eq!((told.status(), told.header("x-backstop-estimated")), (200, "true"), "{}", told.all());
    assert!(told.json()["input_tokens"].as_u64().unwrap() > 0);
    assert_eq!(upstream.seen().asked.len(), 1);
}

/// A secret of ours in a body is taken out of it, and all the rest stays as it is.
#[tokio::test]
async fn a_secret_is_taken_out_and_the_rest_stays_to_the_byte() {
    let upstream = Upstream::always(answer("200 OK", &[JSON], MESSAGES_REPLY)).await;
    let gate = gate("messages", &upstream).await;
    let body = odd("\"main\"", "max_tokens").replace("\"go\"", &format!("\"go {UPSTREAM_KEY} now\""));
    assert_eq!(gate.post(MESSAGES, &body).await.status(), 200);
    let asked = upstream.only();
    assert!(!asked.text().contains(UPSTREAM_KEY));
    let (front, behind) = asked.text().split_once("\"go ").unwrap();
    let want = odd("\"sim\"", "max_tokens");
    assert_eq!(front, want.split_once("\"go\"").unwrap().0);
    assert!(behind.ends_with(" now\"}]  }\n"), "{behind}");
}
