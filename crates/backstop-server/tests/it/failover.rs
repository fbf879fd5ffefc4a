//! What a provider's failure becomes: another attempt, another provider, or an answer on which the client knows what to do.

use crate::it::kit::{CHAT, Gate, MESSAGES, UPSTREAM_KEY, chat, chat_url, config, messages, sim};
use crate::it::upstream::{
    CHAT_EVENTS, CHAT_REPLY, EVENTS, JSON, MESSAGES_EVENTS, MESSAGES_REPLY, Step, Upstream, answer, events,
    piece,
};
use backstop_sim::Fault;

/// Two providers of the same dialect, the first of which always answers so.
async fn after(first: Vec<u8>) -> (Gate, Upstream, Upstream) {
    let (first, second) =
        (Upstream::always(first).await, Upstream::always(answer("200 OK", &[JSON], MESSAGES_REPLY)).await);
    let gate = Gate::start(&config(&[("a", "messages", first.url()), ("b", "messages", second.url())])).await;
    (gate, first, second)
}

/// agentgateway/agentgateway#1500 and #1087: only a 429 with rate-limit headers led to another provider, a 503 never.
#[tokio::test]
async fn failures_without_any_hint_lead_to_the_next_provider() {
    let overloaded = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let rows: [(&str, &str, &str); 8] = [
        ("503 Service Unavailable", "", ""),
        ("503 Service Unavailable", "text/html", "<html>503</html>"),
        ("429 Too Many Requests", "", ""),
        ("529 Overloaded", "application/json", overloaded),
        ("529 Overloaded", "", ""),
        ("500 Internal Server Error", "application/json", r#"{"error":"oops"}"#),
        ("502 Bad Gateway", "text/html", "<html>nginx</html>"),
        ("504 Gateway Timeout", "", ""),
    ];
    for (status, kind, body) in rows {
        let (gate, first, second) = after(answer(status, &[("content-type", kind)], body)).await;
        let told = gate.post(MESSAGES, &messages("main", false)).await;
        assert_eq!(
            (told.status(), told.header("x-backstop-model")),
            (200, "b/sim"),
            "{status}: {}",
            told.all()
        );
        assert_eq!(told.text(), MESSAGES_REPLY);
        let attempts = first.seen().asked.len() + second.seen().asked.len();
        assert_eq!(told.header("x-backstop-attempts"), attempts.to_string(), "{status}");
        assert!(attempts <= 3, "one budget of attempts for all");
    }
}

/// A provider that is not there, that hangs up, or that speaks no HTTP.
#[tokio::test]
async fn a_provider_that_is_down_leads_to_the_next_one() {
    let second = Upstream::always(answer("200 OK", &[JSON], MESSAGES_REPLY)).await;
    let closes = Upstream::start(|_| vec![Step::Close]).await;
    let garbage = Upstream::always(b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec()).await;
    let nobody = "http://127.0.0.1:9".to_owned();
    for url in [nobody, closes.url(), garbage.url()] {
        let gate =
            Gate::start(&config(&[("a", "messages", url.clone()), ("b", "messages", second.url())])).await;
        let told = gate.post(MESSAGES, &messages("main", false)).await;
        assert_eq!((told.status(), told.header("x-backstop-model")), (200, "b/sim"), "{url}: {}", told.all());
    }
}

/// A client that retries nothing gets its answer after two rate limits.
#[tokio::test]
async fn two_rate_limits_and_then_an_answer_are_an_answer() {
    for stream in [false, true] {
        let sim = sim().await;
        let gate = Gate::start(&config(&[("a", "messages", sim.base_url("a"))])).await;
        sim.enqueue("a", "rate-limit:ms=5".parse::<Fault>().unwrap());
        sim.enqueue("a", "rate-limit:none".parse::<Fault>().unwrap());
        let told = gate.post(MESSAGES, &messages("main", stream)).await;
        assert_eq!((told.status(), told.header("x-backstop-attempts")), (200, "3"), "{}", told.all());
    }
}

/// A request that its client got wrong is asked once, and no fallback is bothered with it.
#[tokio::test]
async fn a_wrong_request_is_asked_once() {
    let body = r#"{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: too large","details":{"error_code":"x"}},"request_id":"req_9"}"#;
    let (gate, first, second) =
        after(answer("400 Bad Request", &[JSON, ("request-id", "req_9")], body)).await;
    let told = gate.post(MESSAGES, &messages("main", false)).await;
    assert_eq!((told.status(), told.text(), told.header("request-id")), (400, body, "req_9"));
    assert_eq!((first.seen().asked.len(), second.seen().asked.len()), (1, 0));
}

/// BerriAI/litellm#38610, #6957, #19077: an overload that is told within the stream, before any content, was the client's problem.
#[tokio::test]
async fn an_overload_within_the_stream_before_content_is_invisible() {
    let overload = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    for before in [
        vec![],
        vec![MESSAGES_EVENTS[0]],
        vec![MESSAGES_EVENTS[0], "event: ping\ndata: {\"type\": \"ping\"}\n\n"],
    ] {
        let first = Upstream::always(events(&[before.clone(), vec![overload]].concat())).await;
        let second = Upstream::always(events(&MESSAGES_EVENTS)).await;
        let gate =
            Gate::start(&config(&[("a", "messages", first.url()), ("b", "messages", second.url())])).await;
        let told = gate.post(MESSAGES, &messages("main", true)).await;
        assert_eq!((told.status(), told.header("x-backstop-model")), (200, "b/sim"));
        assert_eq!(told.text(), MESSAGES_EVENTS.concat(), "nothing of the first provider, and nothing twice");
    }
}

/// The same in Chat, whose error is an object without an event's name; with the status 200 it came with, too.
#[tokio::test]
async fn an_error_of_chat_under_status_200_is_invisible_before_content() {
    let error = r#"{"error":{"message":"overloaded","type":"server_error","code":503}}"#;
    let rows = [
        (true, events(&[&format!("data: {error}\n\n")])),
        (true, events(&[CHAT_EVENTS[0], &format!("data: {error}\n\n"), CHAT_EVENTS[4]])),
        (false, answer("200 OK", &[JSON], error)),
    ];
    for (stream, first) in rows {
        let second = if stream { events(&CHAT_EVENTS) } else { answer("200 OK", &[JSON], CHAT_REPLY) };
        let (first, second) = (Upstream::always(first).await, Upstream::always(second).await);
        let gate = Gate::start(&config(&[("a", "chat", first.url()), ("b", "chat", second.url())])).await;
        let told = gate.post(CHAT, &chat("main", stream)).await;
        assert_eq!((told.status(), told.header("x-backstop-model")), (200, "b/sim"), "{}", told.all());
        assert!(told.text().contains("Hello") && !told.text().contains("overloaded"), "{}", told.text());
    }
}

/// The same for a stream that is cut, ends early or is no stream before there is any content.
#[tokio::test]
async fn a_stream_that_ends_before_content_is_invisible() {
    let begun = [EVENTS, &piece(MESSAGES_EVENTS[0])].concat();
    let cut = Upstream::start({
        let begun = begun.clone();
        move |_| vec![Step::Write(begun.clone()), Step::Close]
    })
    .await;
    let early = Upstream::always(events(&[MESSAGES_EVENTS[0]])).await;
    let broken = Upstream::always(events(&["event: message_start\ndata: {\"type\":\n\n"])).await;
    for (what, first) in [("cut", &cut), ("early", &early), ("broken", &broken)] {
        let second = Upstream::always(events(&MESSAGES_EVENTS)).await;
        let gate =
            Gate::start(&config(&[("a", "messages", first.url()), ("b", "messages", second.url())])).await;
        let told = gate.post(MESSAGES, &messages("main", true)).await;
        assert_eq!(
            (told.status(), told.header("x-backstop-model")),
            (200, "b/sim"),
            "{what}: {}",
            told.all()
        );
        assert_eq!(told.text(), MESSAGES_EVENTS.concat(), "{what}");
    }
}

/// BerriAI/litellm#27823: what can be waited for was answered without saying how long, and clients hammered.
#[tokio::test]
async fn whatever_can_be_waited_for_says_how_long() {
    let full = answer(
        "429 Too Many Requests",
        &[JSON, ("retry-after", "7")],
        r#"{"error":{"type":"rate_limit_error","message":"slow down"}}"#,
    );
    for (path, dialect) in [(MESSAGES, "messages"), (CHAT, "chat")] {
        let upstream = Upstream::always(full.clone()).await;
        let more = "server-wait-standard = \"1s\"\n";
        let gate = Gate::start(&format!(
            "{}{more}",
            config(&[("a", dialect, upstream.url())]).trim_end().to_owned() + "\n"
        ))
        .await;
        let told = gate.post(path, &messages("main", false)).await;
        assert_eq!((told.status(), told.header("retry-after")), (429, "7"), "{dialect}: {}", told.all());
        assert_eq!(told.header("x-should-retry"), "true");
    }
}

/// The same when every target is left alone by its breaker: BerriAI/litellm#27823's very case.
#[tokio::test]
async fn when_all_targets_cool_down_the_client_is_told_when_to_come_again() {
    for (path, dialect, status) in [(MESSAGES, "messages", 529), (CHAT, "chat", 503)] {
        let upstream = Upstream::always(answer("500 Internal Server Error", &[], "")).await;
        let breaker = "[breaker]\nfailures-in-a-row = 2\nopen = \"20s\"\n";
        let gate = Gate::start(&format!("{}{breaker}", config(&[("a", dialect, upstream.url())]))).await;
        let mut refused = 0;
        for _ in 0..60 {
            let told = gate.post(path, &messages("main", false)).await;
            if told.header("x-backstop-code") != "BS2014" {
                // Some go through: the last one standing is better than none.
                assert_eq!(told.status(), 500, "{}", told.all());
                continue;
            }
            refused += 1;
            assert_eq!((told.status(), told.header("x-should-retry")), (status, "true"), "{}", told.all());
            let wait: u64 = told.header("retry-after").parse().unwrap_or(0);
            assert!((1..=30).contains(&wait), "{}", told.all());
        }
        assert!(refused > 10, "{refused} of 60 were told to wait");
    }
}

/// With the primary down the fallback answers in the client's dialect, though it speaks another one.
#[tokio::test]
async fn a_fallback_of_another_dialect_answers_in_the_clients() {
    let sim = sim().await;
    let down = "http://127.0.0.1:9".to_owned();
    for stream in [false, true] {
        let gate =
            Gate::start(&config(&[("a", "messages", down.clone()), ("b", "chat", chat_url(&sim, "b"))]))
                .await;
        let told = gate.post(MESSAGES, &messages("main", stream)).await;
        assert_eq!((told.status(), told.header("x-backstop-model")), (200, "b/sim"), "{}", told.all());
        if stream {
            assert!(
                told.text().starts_with("event: message_start")
                    && told.text().contains("event: message_stop")
            );
        } else {
            assert_eq!(told.json()["type"], "message");
        }
        let gate =
            Gate::start(&config(&[("a", "chat", down.clone()), ("b", "messages", sim.base_url("b"))])).await;
        let told = gate.post(CHAT, &chat("main", stream)).await;
        assert_eq!((told.status(), told.header("x-backstop-model")), (200, "b/sim"), "{}", told.all());
        if stream {
            assert!(told.text().ends_with("data: [DONE]\n\n"));
        } else {
            assert_eq!(told.json()["object"], "chat.completion");
        }
    }
}

/// A 401 is about the gateway's key at the provider, and nothing of the client's business.
#[tokio::test]
async fn a_refused_key_of_ours_is_told_without_the_providers_words() {
    let body = format!(
        r#"{{"error":{{"message":"Incorrect API key provided: {UPSTREAM_KEY}. Find yours at https://up.example/keys","type":"invalid_request_error","code":"invalid_api_key"}}}}"#
    );
    for status in ["401 Unauthorized", "403 Forbidden"] {
        let headers = [JSON, ("www-authenticate", "Bearer realm=\"up.example\""), ("x-org", "org-4711")];
        let upstream = Upstream::always(answer(status, &headers, &body)).await;
        let gate = Gate::start(&config(&[("a", "chat", upstream.url())])).await;
        let told = gate.post(CHAT, &chat("main", false)).await;
        assert!([401, 403, 500, 502, 503].contains(&told.status()), "{}", told.all());
        for hidden in [UPSTREAM_KEY, "www-authenticate", "org-4711", &upstream.addr.to_string()] {
            assert!(!told.all().contains(hidden), "{hidden} is in {}", told.all());
        }
        assert_eq!(told.header("x-backstop-code"), "BS2005");
    }
}

/// BerriAI/litellm#24512 and Portkey PR 1657: the gateway holds every key, and showed them. Here a provider quotes the key and
/// its address back wherever it can.
#[tokio::test]
async fn the_providers_key_and_address_are_seen_nowhere() {
    let upstream = Upstream::start(|asked| {
        let host = asked.header("host").unwrap().to_owned();
        let quoted = format!("key {UPSTREAM_KEY} at {host}");
        let headers =
            [JSON, ("x-quoted", quoted.as_str()), ("request-id", quoted.as_str()), ("retry-after", "1")];
        let body =
            |kind: &str| format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"{quoted}"}}}}"#);
        let status = asked.text().split("want-").nth(1).map_or("200", |text| &text[..3]);
        vec![Step::Write(match status {
            "200" => answer("200 OK", &headers, MESSAGES_REPLY.replace("Hello", &quoted)),
            "400" => answer("400 Bad Request", &headers, body("invalid_request_error")),
            "404" => answer("404 Not Found", &headers, body("not_found_error")),
            "429" => answer("429 Too Many Requests", &headers, body("rate_limit_error")),
            "500" => answer("500 Oops", &headers, body("api_error")),
            "301" => answer("301 Moved", &[("location", &format!("http://{host}/{UPSTREAM_KEY}"))], ""),
            _ => events(&[&format!("event: error\ndata: {}\n\n", body("api_error"))]),
        })]
    })
    .await;
    let gate = Gate::start(&config(&[("a", "messages", upstream.url())])).await;
    for status in ["200", "301", "400", "404", "429", "500", "sse"] {
        let body = messages("main", status == "sse").replace("hello", &format!("want-{status}"));
        let told = gate.post(MESSAGES, &body).await;
        assert!(!told.all().contains(UPSTREAM_KEY), "{status}: {}", told.all());
        // What a model says is the client's, also when it is an address.
        if status != "200" {
            assert!(!told.all().contains(&upstream.addr.to_string()), "{status}: {}", told.all());
        }
    }
    for path in ["/metrics", "/api/health", "/v1/models"] {
        assert!(!gate.get(path).await.all().contains(UPSTREAM_KEY), "{path}");
    }
    gate.ends(7).await;
    let needle = UPSTREAM_KEY.as_bytes();
    let dir = gate.dir.path().join(".backstop");
    let mut files = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(needle.len()).any(|part| part == needle), "{}", path.display());
            files += 1;
        }
    }
    assert!(files > 0);
}

/// A provider that does not stream, or tells its reply with another type, is still answered from.
#[tokio::test]
async fn a_provider_that_answers_a_stream_with_one_piece_is_streamed() {
    let upstream = Upstream::always(answer("200 OK", &[JSON], CHAT_REPLY)).await;
    let gate = Gate::start(&config(&[("a", "chat", upstream.url())])).await;
    let told = gate.post(CHAT, &chat("main", true)).await;
    assert_eq!(told.status(), 200);
    assert!(told.text().contains("Hello") && told.text().ends_with("data: [DONE]\n\n"), "{}", told.text());
}
