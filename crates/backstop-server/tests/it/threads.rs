//! Message threads: a part of a conversation goes to whoever has the rest of it, or to nobody.

use crate::it::kit::{Gate, MESSAGES, config};
use crate::it::upstream::{Asked, JSON, MESSAGES_EVENTS, MESSAGES_REPLY, Step, Upstream, answer, events};
use backstop_journal::event::KeyScope;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A provider that keeps threads: each of its messages has an id of its own, which begins so.
async fn keeper(name: &'static str) -> Upstream {
    let count = AtomicUsize::new(0);
    Upstream::start(move |asked: &Asked| {
        let id = format!("msg_{name}{}", count.fetch_add(1, Ordering::Relaxed));
        let is_stream = asked.text().contains("\"stream\":true");
        vec![Step::Write(if is_stream {
            events(&MESSAGES_EVENTS.map(|part| part.replace("msg_1", &id)).each_ref().map(String::as_str))
        } else {
            answer("200 OK", &[JSON], MESSAGES_REPLY.replace("msg_1", &id))
        })]
    })
    .await
}

fn begins(model: &str, stream: bool) -> String {
    format!(
        r#"{{"model":"{model}","max_tokens":9,"stream":{stream},"thread":{{"type":"create"}},"messages":[{{"role":"user","content":"the whole"}}]}}"#
    )
}

fn goes_on(model: &str, after: &str, stream: bool) -> String {
    format!(
        r#"{{"model":"{model}","max_tokens":9,"stream":{stream},"thread":{{"type":"continue","previous_message_id":"{after}"}},"messages":[{{"role":"user","content":"a part"}}]}}"#
    )
}

fn threaded(text: &str, providers: &[&str]) -> String {
    let mut text = text.to_owned();
    for name in providers {
        text =
            text.replace(&format!("[providers.{name}]\n"), &format!("[providers.{name}]\nthreads = true\n"));
    }
    text
}

/// `plain` keeps none, `a` and `b` do.
async fn three() -> (Gate, [Upstream; 3]) {
    let all = [keeper("p").await, keeper("a").await, keeper("b").await];
    let text = config(&[
        ("plain", "messages", all[0].url()),
        ("a", "messages", all[1].url()),
        ("b", "messages", all[2].url()),
    ]);
    let more = "[chains.second]\nmodels = [\"b\", \"a\"]\n";
    (Gate::start(&format!("{}{more}", threaded(&text, &["a", "b"]))).await, all)
}

fn asked(all: &[Upstream; 3]) -> [usize; 3] {
    all.each_ref().map(|upstream| upstream.seen().asked.len())
}

#[tokio::test]
async fn a_thread_stays_with_the_target_that_began_it() {
    for stream in [false, true] {
        let (gate, all) = three().await;
        assert_eq!(gate.post(MESSAGES, &begins("main", stream)).await.status(), 200);
        assert_eq!(asked(&all), [0, 1, 0], "the first that keeps threads");
        // In another chain the other one would be first.
        assert_eq!(gate.post(MESSAGES, &goes_on("second", "msg_a0", stream)).await.status(), 200);
        assert_eq!(asked(&all), [0, 2, 0]);
        let told = gate.post(MESSAGES, &begins("second", stream)).await;
        assert_eq!((told.status(), told.header("x-backstop-model")), (200, "b/sim"));
        assert_eq!(gate.post(MESSAGES, &goes_on("main", "msg_b0", stream)).await.status(), 200);
        assert_eq!(asked(&all), [0, 2, 2]);
        let sent = all[2].seen().asked.pop().unwrap();
        assert_eq!(sent.text(), goes_on("sim", "msg_b0", stream), "the thread is passed on as it is");
    }
}

/// On `thread_unsupported_request` the official SDKs go on without threads.
#[tokio::test]
async fn where_nobody_keeps_threads_the_client_is_told_so_and_nothing_is_sent() {
    let (gate, all) = three().await;
    let chat = Gate::start(&config(&[("c", "chat", all[0].url())])).await;
    for (gate, model) in [(&gate, "plain"), (&chat, "main")] {
        let told = gate.post(MESSAGES, &begins(model, false)).await;
        assert_eq!(
            (told.status(), told.json()["error"]["details"]["error_code"].as_str()),
            (400, Some("thread_unsupported_request")),
            "{}",
            told.all()
        );
        assert_eq!(told.json()["error"]["type"], "invalid_request_error");
        // On `thread_not_found` they send the conversation whole.
        let told = gate.post(MESSAGES, &goes_on(model, "msg_elsewhere", true)).await;
        assert_eq!(
            (told.status(), told.json()["error"]["details"]["error_code"].as_str()),
            (404, Some("thread_not_found"))
        );
        assert_eq!(told.json()["error"]["type"], "not_found_error");
    }
    assert_eq!(asked(&all), [0, 0, 0]);
}

/// A part of a conversation is never sent on as if it were the whole: not to the fallback when its target fails, whatever way.
#[tokio::test]
async fn a_part_of_a_conversation_is_never_sent_to_another_target() {
    let overloaded = answer(
        "529 Overloaded",
        &[JSON],
        r#"{"type":"error","error":{"type":"overloaded_error","message":"o"}}"#,
    );
    let refused = answer(
        "401 Unauthorized",
        &[JSON],
        r#"{"type":"error","error":{"type":"authentication_error","message":"o"}}"#,
    );
    for failure in [overloaded, refused, answer("500 Oops", &[], "")] {
        let began = answer("200 OK", &[JSON], MESSAGES_REPLY);
        let first = Upstream::in_turn(vec![began, failure]).await;
        let second = keeper("b").await;
        let text = config(&[("a", "messages", first.url()), ("b", "messages", second.url())]);
        let gate = Gate::start(&threaded(&text, &["a", "b"])).await;
        assert_eq!(gate.post(MESSAGES, &begins("main", false)).await.status(), 200);
        for stream in [false, true] {
            let told = gate.post(MESSAGES, &goes_on("main", "msg_1", stream)).await;
            assert_eq!(
                (told.status(), told.json()["error"]["details"]["error_code"].as_str()),
                (404, Some("thread_not_found")),
                "{}",
                told.all()
            );
        }
        assert_eq!(second.seen().asked.len(), 0);
    }
}

/// What the provider itself says of its threads comes through: the client acts on the code.
#[tokio::test]
async fn what_a_provider_says_of_its_threads_comes_through() {
    let body = r#"{"type":"error","error":{"type":"invalid_request_error","message":"changed","details":{"error_code":"thread_fingerprint_mismatch"}}}"#;
    let upstream = Upstream::always(answer("400 Bad Request", &[JSON], body)).await;
    let gate = Gate::start(&threaded(&config(&[("a", "messages", upstream.url())]), &["a"])).await;
    let told = gate.post(MESSAGES, &goes_on("main", "msg_of_before_the_restart", false)).await;
    assert_eq!((told.status(), told.text()), (400, body));
}

/// A thread is whose began it: with another key it is not there. Else one client could read on in another's conversation.
#[tokio::test]
async fn a_thread_of_another_key_is_not_found() {
    let (gate, all) = three().await;
    let (mine, yours) =
        (gate.key("mine", KeyScope::default()).await, gate.key("yours", KeyScope::default()).await);
    let ask = async |key: &str, body: &str| gate.ask("POST", MESSAGES, &[("x-api-key", key)], body).await;
    assert_eq!(ask(&mine, &begins("main", false)).await.status(), 200);
    let told = ask(&yours, &goes_on("main", "msg_a0", false)).await;
    assert_eq!(
        (told.status(), told.json()["error"]["details"]["error_code"].as_str()),
        (404, Some("thread_not_found"))
    );
    assert_eq!(ask(&mine, &goes_on("main", "msg_a0", false)).await.status(), 200);
    assert_eq!(asked(&all), [0, 2, 0]);
}
