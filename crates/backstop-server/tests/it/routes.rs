//! There is one way in: the table of routes is the list of all that can be asked, and whatever reaches a model is counted,
//! limited and recorded.

use crate::it::kit::{Gate, UPSTREAM_KEY, chat, config, messages};
use crate::it::upstream::{Asked, JSON, MESSAGES_REPLY, Step, Upstream, answer};
use backstop_journal::event::KeyScope;
use backstop_server::gateway::{Path, paths};

/// A provider that speaks Messages and counts tokens.
async fn provider() -> Upstream {
    Upstream::start(|asked: &Asked| {
        let counts = asked.head.contains("count_tokens");
        let body = if counts { r#"{"input_tokens":7}"# } else { MESSAGES_REPLY };
        vec![Step::Write(answer("200 OK", &[JSON], body))]
    })
    .await
}

async fn gate(upstream: &Upstream, more: &str) -> Gate {
    Gate::start(&format!("{}{more}", config(&[("a", "messages", upstream.url())]))).await
}

fn calls() -> Vec<Path> {
    let calls: Vec<_> = paths().filter(|path| path.is_call).collect();
    assert!(calls.len() >= 4, "the table lost a route: {calls:?}");
    calls
}

/// A request that the path takes.
fn body(path: Path) -> String {
    match path.path {
        "/v1/responses" => r#"{"model":"main","input":"Say hello.","max_output_tokens":100}"#.to_owned(),
        path if path.contains("chat") => chat("main", false),
        _ => messages("main", false),
    }
}

/// maximhq/bifrost#2873: endpoints that were passed through went by the budgets of their keys.
#[tokio::test]
async fn every_route_to_a_model_is_in_the_journal() {
    let upstream = provider().await;
    let gate = gate(&upstream, "").await;
    for (n, path) in calls().into_iter().enumerate() {
        let answer = gate.ask("POST", path.path, &[("x-backstop-role", "tester")], &body(path)).await;
        assert_eq!(answer.status(), 200, "{}: {}", path.path, answer.text());
        let ends = gate.ends(n + 1).await;
        let end = ends[n].finished();
        assert_eq!(answer.header("x-backstop-call"), end.call.as_str());
        assert_eq!((end.attempts().len(), end.provider.as_str()), (1, "a"));
    }
    assert_eq!(upstream.seen().asked.len(), calls().len());
}

#[tokio::test]
async fn every_route_to_a_model_keeps_private_text_from_models_that_are_not_local() {
    let upstream = provider().await;
    let gate = gate(&upstream, "").await;
    for path in calls() {
        let answer =
            gate.ask("POST", path.path, &[("x-backstop-labels", "private:health")], &body(path)).await;
        assert_eq!((answer.status(), answer.header("x-backstop-code")), (403, "BS2015"), "{}", path.path);
    }
    assert_eq!(upstream.seen().asked.len(), 0);
}

#[tokio::test]
async fn every_route_to_a_model_that_costs_is_held_to_the_budget() {
    let upstream = provider().await;
    let gate = gate(&upstream, "[budgets]\nday = \"$0.000001\"\n").await;
    // To count tokens costs nothing, and so fits in any budget.
    for path in calls().into_iter().filter(|path| !path.path.ends_with("count_tokens")) {
        let answer = gate.ask("POST", path.path, &[], &body(path)).await;
        assert_eq!(answer.header("x-backstop-code"), "BS3001", "{}: {}", path.path, answer.text());
        assert_eq!(answer.header("x-should-retry"), "false");
    }
    assert_eq!(upstream.seen().asked.len(), 0);
}

#[tokio::test]
async fn every_route_to_a_model_wants_a_key_for_that_model() {
    let upstream = provider().await;
    let gate = gate(&upstream, "").await;
    let scope = KeyScope { models: vec!["other".to_owned()], ..KeyScope::default() };
    let secret = gate.key("narrow", scope).await;
    for path in calls() {
        let none = gate.ask("POST", path.path, &[], &body(path)).await;
        assert_eq!((none.status(), none.header("x-backstop-code")), (401, "BS6001"), "{}", path.path);
        let wrong = gate.ask("POST", path.path, &[("x-api-key", "bsk_none-of-ours")], &body(path)).await;
        assert_eq!((wrong.status(), wrong.header("x-backstop-code")), (401, "BS6002"), "{}", path.path);
        let narrow = gate.ask("POST", path.path, &[("x-api-key", &secret)], &body(path)).await;
        assert_eq!((narrow.status(), narrow.header("x-backstop-code")), (403, "BS6008"), "{}", path.path);
    }
    assert_eq!(upstream.seen().asked.len(), 0);
}

#[tokio::test]
async fn what_is_no_call_never_reaches_a_provider_and_tells_no_key() {
    let upstream = provider().await;
    let gate = gate(&upstream, "").await;
    for path in paths().filter(|path| !path.is_call && !path.is_queue) {
        for method in path.methods {
            let there = path.path.replace("/assets/*", "/assets/style.css").replace('*', "main");
            let answer = gate.ask(method.as_str(), &there, &[], "").await;
            // People want a key of their own also where anybody may ask models.
            let open = ["GET /login", "HEAD /login", "GET /assets/style.css", "HEAD /assets/style.css"];
            let asked = format!("{method} {there}");
            let wanted = if path.is_for_people && !open.contains(&&*asked) { 401 } else { 200 };
            assert_eq!(answer.status(), wanted, "{asked}");
            assert!(!answer.all().contains(UPSTREAM_KEY) && !answer.all().contains(&upstream.url()[7..]));
        }
    }
    assert_eq!(upstream.seen().asked.len(), 0);
}

/// What says how the gateway is opens without a key, for whoever watches it; what says what it has does not.
#[tokio::test]
async fn with_keys_only_signs_of_life_are_open() {
    let upstream = provider().await;
    let gate = gate(&upstream, "").await;
    let secret = gate.key("any", KeyScope::default()).await;
    let mut open = Vec::new();
    for path in paths().filter(|path| !path.is_call && !path.is_for_people && !path.is_queue) {
        let there = path.path.replace('*', "main");
        let answer = gate.get(&there).await;
        if answer.status() == 200 {
            open.push(path.path);
            continue;
        }
        assert_eq!((answer.status(), answer.header("x-backstop-code")), (401, "BS6001"), "{there}");
        for header in [("x-api-key", secret.clone()), ("authorization", format!("Bearer {secret}"))] {
            let answer = gate.ask("GET", &there, &[(header.0, &header.1)], "").await;
            assert_eq!(answer.status(), 200, "{there} with {}", header.0);
        }
    }
    assert_eq!(open, ["/", "/api/hello", "/livez", "/readyz"]);
}

/// maximhq/bifrost#2873 again: what is not in the table is refused, and not handed on.
#[tokio::test]
async fn unknown_routes_are_refused_in_json_and_reach_nobody() {
    let upstream = provider().await;
    let gate = gate(&upstream, "").await;
    let rows = [
        ("POST", "/v1/embeddings", 404),
        ("POST", "/v1/messages/", 404),
        ("POST", "//v1/messages", 404),
        ("POST", "/v1/messages/../messages", 404),
        ("POST", "/v1/messages/batches", 404),
        ("POST", "/v1/messages%2fcount_tokens", 404),
        ("POST", "/V1/messages", 404),
        ("GET", "/v1/files", 404),
        ("GET", "/v1/messages", 405),
        ("DELETE", "/v1/chat/completions", 405),
        ("PUT", "/v1/models", 405),
        ("OPTIONS", "/v1/messages", 405),
    ];
    for (method, path, status) in rows {
        let answer = gate.ask(method, path, &[], &messages("main", false)).await;
        assert_eq!(
            (answer.status(), answer.header("x-backstop-code")),
            (status, "BS6012"),
            "{method} {path}"
        );
        assert!(answer.json()["error"]["message"].is_string());
    }
    let answer = gate.ask("GET", "/v1/files", &[("anthropic-version", "2023-06-01")], "").await;
    assert_eq!(answer.json()["type"], "error");
    assert_eq!(answer.json()["error"]["type"], "not_found_error");
    assert_eq!(upstream.seen().asked.len(), 0);
}

#[tokio::test]
async fn a_query_does_not_change_where_a_request_goes() {
    let upstream = provider().await;
    let gate = gate(&upstream, "").await;
    let answer = gate.post("/v1/messages?beta=true", &messages("main", false)).await;
    assert_eq!(answer.status(), 200);
    assert!(upstream.only().head.starts_with("POST /v1/messages"));
}

/// A wildcard, an alias and an exact name lead to the same chain; a name that leads nowhere is told with what there is.
#[tokio::test]
async fn a_requested_name_is_found_by_itself_an_alias_or_a_pattern() {
    let upstream = provider().await;
    let more =
        "[serve]\nunnamed-models = false\n[serve.models]\n\"claude-*\" = \"main\"\n\"gpt-5\" = \"a\"\n";
    let gate = gate(&upstream, more).await;
    for name in ["main", "a", "gpt-5", "claude-opus-5-5", "claude-"] {
        let answer = gate.post("/v1/messages", &messages(name, false)).await;
        assert_eq!((answer.status(), answer.header("x-backstop-model")), (200, "a/sim"), "{name}");
    }
    for name in ["gpt-5-mini", "claude", "A", "a/sim"] {
        let answer = gate.post("/v1/messages", &messages(name, false)).await;
        assert_eq!((answer.status(), answer.header("x-backstop-code")), (404, "BS2016"), "{name}");
        assert_eq!(answer.json()["error"]["type"], "not_found_error");
    }
}
