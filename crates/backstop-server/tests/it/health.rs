//! How the gateway says that it is: alive, ready, and each part of it.

use crate::it::kit::{Gate, MESSAGES, config, messages, until};
use crate::it::upstream::{JSON, MESSAGES_REPLY, Step, Upstream, answer};
use std::io::{Seek, SeekFrom, Write};

/// Two providers, of which each fails while its name is in the list.
async fn gate(failing: &'static [&'static str]) -> Gate {
    let mut providers = Vec::new();
    for name in ["a", "b"] {
        let fails = failing.contains(&name);
        let upstream = Upstream::start(move |_| {
            vec![Step::Write(if fails {
                answer("500 Oops", &[], "")
            } else {
                answer("200 OK", &[JSON], MESSAGES_REPLY)
            })]
        })
        .await;
        providers.push((name, "messages", upstream.url()));
    }
    Gate::start(&format!("{}[breaker]\nfailures-in-a-row = 2\n", config(&providers))).await
}

#[tokio::test]
async fn signs_of_life_are_there_for_every_probe() {
    let gate = gate(&[]).await;
    for path in ["/", "/api/hello", "/livez", "/readyz", "/api/health", "/metrics"] {
        let told = gate.ask("HEAD", path, &[("user-agent", "Bun/1.3")], "").await;
        assert_eq!((told.status(), told.body.len()), (200, 0), "HEAD {path}");
        assert_eq!(gate.get(path).await.status(), 200, "GET {path}");
    }
    assert_eq!(gate.get("/livez").await.json()["status"], "alive");
    assert_eq!(gate.get("/readyz").await.json()["status"], "ready");
}

#[tokio::test]
async fn a_gateway_that_can_answer_is_healthy_in_every_part() {
    let gate = gate(&[]).await;
    let told = gate.get("/api/health").await;
    let health = told.json();
    assert_eq!((told.status(), &health["status"]), (200, &"healthy".into()), "{health}");
    let parts: Vec<_> = health["checks"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(parts, ["store", "disk", "target a/sim", "target b/sim"]);
}

#[tokio::test]
async fn a_target_that_is_left_alone_makes_it_degraded_and_all_of_them_unhealthy() {
    let rows: [(&[&str], u16, &str); 2] = [(&["a"], 200, "degraded"), (&["a", "b"], 503, "unhealthy")];
    for (failing, status, word) in rows {
        let gate = gate(failing).await;
        for _ in 0..4 {
            gate.post(MESSAGES, &messages("main", false)).await;
        }
        let told = gate.get("/api/health").await;
        assert_eq!((told.status(), &told.json()["status"]), (status, &word.into()), "{}", told.text());
        assert_eq!(told.json()["checks"]["target a/sim"]["status"], "degraded");
        assert_eq!(gate.get("/livez").await.status(), 200, "it lives all the same");
    }
}

#[tokio::test]
async fn a_provider_whose_key_is_missing_makes_it_degraded() {
    let upstream = Upstream::always(answer("200 OK", &[JSON], MESSAGES_REPLY)).await;
    let text = config(&[("a", "messages", upstream.url()), ("b", "messages", upstream.url())]);
    let (front, behind) = text.split_once("[providers.b]").unwrap();
    let gate =
        Gate::start(&format!("{front}[providers.b]{}", behind.replacen("UPSTREAM_KEY", "NOT_SET", 1))).await;
    assert_eq!(gate.post(MESSAGES, &messages("main", false)).await.status(), 200);
    let told = gate.get("/api/health").await;
    assert_eq!((told.status(), &told.json()["status"]), (200, &"degraded".into()), "{}", told.text());
    assert_eq!(told.json()["checks"]["provider b"]["why"], "its key is not there");
}

#[tokio::test]
async fn a_store_that_cannot_be_read_makes_it_unhealthy() {
    let gate = gate(&[]).await;
    gate.post(MESSAGES, &messages("main", false)).await;
    gate.ends(1).await;
    // Somebody writes over the file, and over what was not brought into it yet.
    for suffix in ["", "-wal"] {
        let path = gate.dir.path().join(format!(".backstop/backstop.db{suffix}"));
        let length = std::fs::metadata(&path).unwrap().len();
        let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(&vec![0xA5; usize::try_from(length).unwrap()]).unwrap();
    }
    until("the damage to be seen", async || {
        let told = gate.get("/api/health").await;
        (told.status() == 503 && told.json()["checks"]["store"]["status"] == "unhealthy").then_some(())
    })
    .await;
}

/// The figures of a call are there to be scraped, and no key or text of it.
#[tokio::test]
async fn figures_are_there_to_be_scraped() {
    let gate = gate(&[]).await;
    gate.post(MESSAGES, &messages("main", false).replace("hello", "a-word-of-the-client")).await;
    let told = until("the figures", async || {
        let told = gate.get("/metrics").await;
        told.text().contains("backstop_calls").then_some(told)
    })
    .await;
    assert!(told.header("content-type").starts_with("application/openmetrics-text"));
    assert!(told.text().ends_with("# EOF\n") && !told.text().contains("a-word-of-the-client"));
}
