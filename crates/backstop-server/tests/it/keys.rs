//! Who comes in: by which key, from where, for which model, how often; and what a key says goes before what a request says.

use crate::it::kit::{CHAT, End, Gate, MESSAGES, config, messages, sim, until};
use crate::it::upstream::{JSON, MESSAGES_EVENTS, MESSAGES_REPLY, Step, Upstream, answer, events};
use backstop_call::{Labels, Priority};
use backstop_journal::event::KeyScope;
use backstop_journal::{EventBody, StreamId};
use backstop_server::keys::{revoke, rotate};
use std::time::Duration;

async fn gate(more: &str) -> (Gate, Upstream) {
    let upstream = Upstream::always(answer("200 OK", &[JSON], MESSAGES_REPLY)).await;
    let gate = Gate::start(&format!("{}{more}", config(&[("a", "messages", upstream.url())]))).await;
    (gate, upstream)
}

async fn ask(gate: &Gate, secret: &str) -> (u16, String) {
    let told = gate.ask("POST", MESSAGES, &[("x-api-key", secret)], &messages("main", false)).await;
    (told.status(), told.header("x-backstop-code").to_owned())
}

fn ok() -> (u16, String) {
    (200, String::new())
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn a_key_comes_in_as_either_header_on_every_path() {
    let (gate, _upstream) = gate("").await;
    let secret = gate.key("ci", KeyScope::default()).await;
    for path in [MESSAGES, CHAT, "/v1/messages/count_tokens"] {
        for header in [("x-api-key", secret.clone()), ("authorization", format!("Bearer {secret}"))] {
            let told = gate.ask("POST", path, &[(header.0, &header.1)], &messages("main", false)).await;
            // The upstream's answer is no count; what matters is that it was asked.
            assert!(told.status() != 401 && told.status() != 403, "{path} by {}: {}", header.0, told.all());
        }
    }
}

/// The refusal is what the client's SDK knows as one of its own errors.
#[tokio::test]
async fn a_request_without_a_key_is_told_so_in_its_dialect() {
    let (gate, upstream) = gate("").await;
    gate.key("ci", KeyScope::default()).await;
    let told = gate.post(MESSAGES, &messages("main", false)).await;
    assert_eq!((told.status(), &told.json()["error"]["type"]), (401, &"authentication_error".into()));
    let told = gate.post(CHAT, &messages("main", false)).await;
    assert_eq!((told.status(), &told.json()["error"]["code"]), (401, &"invalid_api_key".into()));
    assert_eq!(told.header("x-should-retry"), "false");
    assert_eq!(upstream.seen().asked.len(), 0);
}

/// The server looks for itself: nobody tells it that a key was revoked, or made.
#[tokio::test]
async fn a_key_that_is_revoked_opens_nothing_on_a_running_server() {
    let (gate, _upstream) = gate("").await;
    let secret = gate.key("ci", KeyScope::default()).await;
    let other = gate.key("other", KeyScope::default()).await;
    assert_eq!(ask(&gate, &secret).await, ok());
    let journal = gate.backstop.journal();
    revoke(&**journal, &"ci".into(), "test", gate.backstop.clock().now()).await.unwrap();
    until("the end of the key", async || (ask(&gate, &secret).await == refused(401, "BS6003")).then_some(()))
        .await;
    assert_eq!(ask(&gate, &other).await, ok());
}

/// The last key that is revoked does not open the gateway to everybody.
#[tokio::test]
async fn with_the_last_key_revoked_nobody_comes_in() {
    let (gate, _upstream) = gate("").await;
    gate.key("only", KeyScope::default()).await;
    let journal = gate.backstop.journal();
    revoke(&**journal, &"only".into(), "test", gate.backstop.clock().now()).await.unwrap();
    gate.gateway.refresh_keys().await.unwrap();
    assert_eq!(gate.post(MESSAGES, &messages("main", false)).await.status(), 401);
}

#[tokio::test]
async fn both_secrets_are_good_while_a_rotation_overlaps() {
    let (gate, _upstream) = gate("").await;
    let old = gate.key("ci", KeyScope::default()).await;
    let rotated = async |overlap| {
        let now = gate.backstop.clock().now();
        let made = rotate(&**gate.backstop.journal(), &"ci".into(), overlap, "test", now).await.unwrap();
        gate.gateway.refresh_keys().await.unwrap();
        made.secret.expose().to_owned()
    };
    let new = rotated(Duration::from_hours(1)).await;
    assert_eq!((ask(&gate, &old).await, ask(&gate, &new).await), (ok(), ok()));
    let newest = rotated(Duration::ZERO).await;
    assert_eq!(ask(&gate, &new).await, refused(401, "BS6005"));
    assert_eq!(ask(&gate, &newest).await, ok());
}

#[tokio::test]
async fn a_key_is_good_for_its_models_addresses_environment_and_time_only() {
    let (gate, upstream) = gate("[keys]\nenvironment = \"prod\"\n").await;
    let scope = KeyScope::default;
    let rows = [
        ("model", KeyScope { models: vec!["gpt-*".into()], ..scope() }, "BS6008"),
        ("address", KeyScope { from: vec!["10.0.0.0/8".parse().unwrap()], ..scope() }, "BS6006"),
        ("environment", KeyScope { environment: Some("staging".into()), ..scope() }, "BS6007"),
    ];
    for (name, scope, code) in rows {
        let secret = gate.key(name, scope).await;
        assert_eq!(ask(&gate, &secret).await, refused(403, code), "{name}");
    }
    let soon = gate.backstop.clock().now() + Duration::from_millis(50);
    let expiring = gate.key("expiring", KeyScope { expires: Some(soon), ..scope() }).await;
    until("the key's last moment", async || {
        (ask(&gate, &expiring).await == refused(401, "BS6004")).then_some(())
    })
    .await;
    let asked = upstream.seen().asked.len();
    let fits = KeyScope {
        models: vec!["ma*".into()],
        from: vec!["127.0.0.0/8".parse().unwrap()],
        environment: Some("prod".into()),
        expires: Some(gate.backstop.clock().now() + Duration::from_mins(10)),
        ..scope()
    };
    assert_eq!(ask(&gate, &gate.key("fits", fits).await).await, ok());
    assert_eq!(upstream.seen().asked.len(), asked + 1);
}

/// Where it may come from is decided by the connection, not by what a header says.
#[tokio::test]
async fn an_address_in_a_header_opens_nothing() {
    let (gate, _upstream) = gate("").await;
    let scope = KeyScope { from: vec!["10.0.0.0/8".parse().unwrap()], ..KeyScope::default() };
    let secret = gate.key("office", scope).await;
    for header in ["x-forwarded-for", "x-real-ip", "forwarded"] {
        let headers = [("x-api-key", secret.as_str()), (header, "10.0.0.1")];
        let told = gate.ask("POST", MESSAGES, &headers, &messages("main", false)).await;
        assert_eq!(told.header("x-backstop-code"), "BS6006", "{header}");
    }
}

#[tokio::test]
async fn what_a_key_has_used_up_is_told_with_the_time_to_wait() {
    let (gate, _upstream) = gate("").await;
    let scope = KeyScope::default;
    let requests = gate.key("requests", KeyScope { requests_per_minute: Some(2), ..scope() }).await;
    let tokens = gate.key("tokens", KeyScope { tokens_per_minute: Some(120), ..scope() }).await;
    for (secret, name) in [(&requests, "requests"), (&tokens, "tokens")] {
        let mut told = gate.ask("POST", MESSAGES, &[("x-api-key", secret)], &messages("main", false)).await;
        assert_eq!(told.status(), 200, "{name}");
        for _ in 0..9 {
            told = gate.ask("POST", MESSAGES, &[("x-api-key", secret)], &messages("main", false)).await;
        }
        assert_eq!(
            (told.status(), told.header("x-backstop-code")),
            (429, "BS6009"),
            "{name}: {}",
            told.all()
        );
        let wait: u64 = told.header("retry-after").parse().unwrap();
        assert!((1..=60).contains(&wait), "{name}: {wait}");
        assert_eq!(
            (told.json()["error"]["type"].as_str(), told.header("x-should-retry")),
            (Some("rate_limit_error"), "true")
        );
        let told = gate.ask("POST", CHAT, &[("x-api-key", secret)], &messages("main", false)).await;
        assert_eq!(
            (told.status(), told.json()["error"]["code"].as_str()),
            (429, Some("rate_limit_exceeded"))
        );
        assert!(!told.header("retry-after").is_empty());
    }
}

#[tokio::test]
async fn calls_at_the_same_time_are_limited_by_key_and_free_their_place_however_they_end() {
    let upstream = Upstream::start(|_| vec![Step::Hang]).await;
    let gate = Gate::start(&config(&[("a", "messages", upstream.url())])).await;
    let one = gate.key("one", KeyScope { concurrent: Some(1), ..KeyScope::default() }).await;
    for stream in [false, true, false] {
        let asked = upstream.seen().asked.len();
        let mut client = gate.client().await;
        client.send("POST", MESSAGES, &[("x-api-key", &one)], messages("main", stream).as_bytes()).await;
        upstream.wait("the call", |seen| seen.asked.len() > asked).await;
        let told = gate.ask("POST", MESSAGES, &[("x-api-key", &one)], &messages("main", stream)).await;
        assert_eq!(
            (told.status(), told.header("x-backstop-code"), told.header("retry-after")),
            (429, "BS6009", "1")
        );
        drop(client);
        let gone = upstream.seen().hung_up;
        upstream.wait("its end", |seen| seen.hung_up > gone || seen.hung_up >= seen.asked.len()).await;
        // The place is free again as soon as the gateway has seen the client go.
        until("a free place", async || {
            let ends = gate.events(StreamId::Calls).await;
            let over = ends.iter().filter(|event| event.kind() == "call.failed").count();
            (over > asked).then_some(())
        })
        .await;
    }
}

/// A call that ends well gives its place back, and the tokens that it was expected to use and did not.
#[tokio::test]
async fn calls_that_end_well_give_back_what_they_did_not_use() {
    let upstream = Upstream::start(|asked| {
        let is_stream = asked.text().contains("\"stream\":true");
        vec![Step::Write(if is_stream {
            events(&MESSAGES_EVENTS)
        } else {
            answer("200 OK", &[JSON], MESSAGES_REPLY)
        })]
    })
    .await;
    let gate = Gate::start(&config(&[("a", "messages", upstream.url())])).await;
    // Each call is expected to use more than 100 tokens, and uses 15.
    let scope = KeyScope { concurrent: Some(1), tokens_per_minute: Some(400), ..KeyScope::default() };
    let secret = gate.key("ci", scope).await;
    for n in 0..16 {
        let told = gate.ask("POST", MESSAGES, &[("x-api-key", &secret)], &messages("main", n % 2 == 0)).await;
        assert_eq!(told.status(), 200, "call {n}: {}", told.all());
    }
}

/// A client that keeps being refused is no reason to write to the journal: it is told of a new address once.
#[tokio::test]
async fn the_first_use_from_a_new_address_is_an_event_once() {
    let (gate, _upstream) = gate("").await;
    let secret = gate.key("ci", KeyScope::default()).await;
    for _ in 0..5 {
        ask(&gate, &secret).await;
    }
    gate.ask("GET", "/v1/models", &[("x-api-key", &secret)], "").await;
    let first = |event: &EventBody| match event {
        EventBody::KeyFirstUsedFrom(first) => Some((first.key.to_string(), first.address.to_string())),
        _ => None,
    };
    let events = gate.events(StreamId::Keys).await;
    let seen: Vec<_> = events.iter().filter_map(first).collect();
    assert_eq!(seen, [("ci".to_owned(), "127.0.0.1".to_owned())]);
}

#[tokio::test]
async fn what_a_key_pins_goes_before_what_a_request_says() {
    let (gate, upstream) = gate("[budgets.roles]\nwriter = \"$1.00\"\nboss = \"$9.00\"\n").await;
    let pinned =
        KeyScope { role: Some("writer".into()), priority: Some(Priority::Batch), ..KeyScope::default() };
    let pinned = gate.key("pinned", pinned).await;
    let free = gate.key("free", KeyScope::default()).await;
    for secret in [&pinned, &free] {
        let headers = [
            ("x-api-key", secret.as_str()),
            ("x-backstop-role", "boss"),
            ("x-backstop-task", "nightly"),
            ("x-backstop-priority", "interactive"),
        ];
        assert_eq!(gate.ask("POST", MESSAGES, &headers, &messages("main", false)).await.status(), 200);
    }
    let ends = gate.ends(2).await;
    let whose = |end: &End| {
        let asked = end.finished().asked.as_ref().unwrap();
        (asked.role.as_ref().unwrap().to_string(), asked.task.as_ref().unwrap().to_string())
    };
    let roles: Vec<_> = ends.iter().map(whose).collect();
    assert_eq!(
        roles,
        [("writer".to_owned(), "nightly".to_owned()), ("boss".to_owned(), "nightly".to_owned())]
    );
    assert!(upstream.seen().asked.iter().all(|asked| !asked.head.contains("x-backstop")), "ours stay here");
    // Labels of a key are added to those of the request, and cannot be taken away.
    let mut labels = Labels::default();
    labels.private.insert("health".to_owned().into());
    let private = gate.key("private", KeyScope { labels, ..KeyScope::default() }).await;
    for label in ["untrusted", "private:financial"] {
        let headers = [("x-api-key", private.as_str()), ("x-backstop-labels", label)];
        let told = gate.ask("POST", MESSAGES, &headers, &messages("main", false)).await;
        assert_eq!((told.status(), told.header("x-backstop-code")), (403, "BS2015"));
    }
}

/// The list holds what the key may ask for, in the client's shape, as long as was asked.
#[tokio::test]
async fn models_are_listed_in_either_shape_by_what_the_key_may_ask() {
    let sim = sim().await;
    let more = "[serve.models]\n\"claude-*\" = \"main\"\n\"claude-opus-5-5\" = \"main\"\n";
    let gate = Gate::start(&format!(
        "{}{more}",
        config(&[("a", "messages", sim.base_url("a")), ("b", "messages", sim.base_url("b"))])
    ))
    .await;
    let ids = |value: &serde_json::Value| {
        value["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|model| model["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let anthropic = [("anthropic-version", "2023-06-01")];
    let told = gate.ask("GET", "/v1/models?limit=1000", &anthropic, "").await.json();
    assert_eq!(ids(&told), ["a", "b", "claude-opus-5-5", "main"]);
    assert_eq!(
        (&told["has_more"], &told["first_id"], &told["last_id"]),
        (&false.into(), &"a".into(), &"main".into())
    );
    assert_eq!(told["data"][0]["type"], "model");
    let told = gate.ask("GET", "/v1/models?limit=2&after_id=a", &anthropic, "").await.json();
    assert_eq!(
        (ids(&told), &told["has_more"]),
        (vec!["b".to_owned(), "claude-opus-5-5".to_owned()], &true.into())
    );
    assert_eq!(gate.ask("GET", "/v1/models?limit=0", &anthropic, "").await.status(), 400);
    let told = gate.get("/v1/models").await.json();
    assert_eq!(
        (ids(&told).len(), &told["object"], &told["data"][0]["object"]),
        (4, &"list".into(), &"model".into())
    );
    assert_eq!(gate.get("/v1/models/claude-opus-5-5").await.json()["id"], "claude-opus-5-5");
    assert_eq!(gate.get("/v1/models/nope").await.status(), 404);
    let secret =
        gate.key("narrow", KeyScope { models: vec!["claude-*".into()], ..KeyScope::default() }).await;
    let told = gate.ask("GET", "/v1/models", &[("x-api-key", &secret)], "").await.json();
    assert_eq!(ids(&told), ["claude-opus-5-5"]);
    let told = gate.ask("GET", "/v1/models/main", &[("x-api-key", &secret)], "").await;
    assert_eq!(told.status(), 404, "what it may not ask is not there");
    assert!(told.text().contains("there are: claude-opus-5-5\""), "nor told: {}", told.text());
    let secret = gate
        .key("wide", KeyScope { models: vec!["claude-*".into(), "x-*".into()], ..KeyScope::default() })
        .await;
    let told = gate.ask("POST", MESSAGES, &[("x-api-key", &secret)], &messages("x-1", false)).await;
    assert!(told.status() == 404 && told.text().contains("there are: claude-opus-5-5\""), "{}", told.text());
}

/// A client's key is known by its hash alone: no file, no answer and no provider sees it, also when a client puts it into
/// its text or sends one that is none of ours.
#[tokio::test]
async fn a_clients_key_is_seen_nowhere() {
    let (gate, upstream) = gate("").await;
    let secret = gate.key("ci", KeyScope::default()).await;
    let foreign = "bsk_foreign0foreign0foreign0foreign0foreign0";
    let body = messages("main", false).replace("hello", &format!("my key is {secret}"));
    let mut told = Vec::new();
    for key in [secret.as_str(), foreign] {
        for (header, value) in [("x-api-key", key.to_owned()), ("authorization", format!("Bearer {key}"))] {
            told.push(gate.ask("POST", MESSAGES, &[(header, &value)], &body).await.all());
            told.push(
                gate.ask("POST", &format!("/v1/nowhere?key={key}"), &[(header, &value)], "").await.all(),
            );
        }
    }
    told.push(gate.ask("GET", "/metrics", &[("x-api-key", &secret)], "").await.all());
    gate.ends(2).await;
    let asked = upstream.seen().asked;
    assert_eq!(asked.len(), 2);
    told.extend(asked.iter().map(|asked| format!("{}\n{}", asked.head, asked.text())));
    for text in &told {
        assert!(!text.contains(&secret), "{text}");
    }
    for entry in std::fs::read_dir(gate.dir.path().join(".backstop")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            for needle in [secret.as_bytes(), foreign.as_bytes()] {
                assert!(!bytes.windows(needle.len()).any(|part| part == needle), "{}", path.display());
            }
        }
    }
}
