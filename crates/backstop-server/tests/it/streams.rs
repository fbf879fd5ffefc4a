//! How streams end: well, in the dialect's error, or because the client went away; and that nobody takes the one for the other.

use crate::it::kit::{CHAT, Client, Gate, MESSAGES, chat, config, messages, until};
use crate::it::upstream::{
    Asked, CHAT_EVENTS, EVENTS, JSON, MESSAGES_EVENTS, Step, Upstream, answer, events, piece,
};
use backstop_call::{Code, FailureKind, Money};
use std::time::Duration;
use tokio::task::JoinSet;

async fn gate(dialect: &str, upstream: &Upstream) -> Gate {
    Gate::start(&config(&[("a", dialect, upstream.url())])).await
}

/// The beginning of a stream, with content, in a dialect; and what follows it.
async fn stream_then(dialect: &str, then: Vec<Step>) -> Upstream {
    let parts: Vec<_> =
        if dialect == "chat" { CHAT_EVENTS[..2].to_vec() } else { MESSAGES_EVENTS[..2].to_vec() };
    Upstream::start(move |_| {
        let begun = parts.iter().flat_map(piece);
        let mut steps = vec![Step::Write(EVENTS.iter().copied().chain(begun).collect())];
        steps.extend(then.clone());
        steps
    })
    .await
}

const ROWS: [(&str, &str); 2] = [("messages", MESSAGES), ("chat", CHAT)];

/// Every way that a provider breaks off after content. The fallback is not asked: two models are never spliced.
#[tokio::test]
async fn a_stream_that_breaks_off_ends_in_the_dialects_error() {
    let error = |dialect: &str| match dialect {
        "chat" => "data: {\"error\":{\"message\":\"gone\",\"type\":\"server_error\"}}\n\n",
        _ => {
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"gone\"}}\n\n"
        }
    };
    for (dialect, path) in ROWS {
        let ends: [(&str, Vec<Step>); 4] = [
            ("cut", vec![Step::Close]),
            ("ended early", vec![Step::Write(b"0\r\n\r\n".to_vec())]),
            (
                "no JSON",
                vec![Step::Write(piece("event: content_block_delta\ndata: {\"type\":\n\n")), Step::Hang],
            ),
            ("an error event", vec![Step::Write(piece(error(dialect))), Step::Hang]),
        ];
        for (what, then) in ends {
            let upstream = stream_then(dialect, then).await;
            let fallback = Upstream::always(events(&MESSAGES_EVENTS)).await;
            let providers = [("a", dialect, upstream.url()), ("b", dialect, fallback.url())];
            let gate = Gate::start(&config(&providers)).await;
            let mut client = gate.client().await;
            client.send("POST", path, &[], messages("main", true).as_bytes()).await;
            assert_eq!(client.head().await.status, 200);
            let text = String::from_utf8(client.chunks().await).unwrap();
            assert!(text.contains("Hello"), "{what}: {text}");
            let last = text.trim_end().rsplit("\n\n").next().unwrap();
            match dialect {
                "chat" => assert!(last.starts_with("data: {\"error\":{"), "{what}: {last}"),
                _ => assert!(last.starts_with("event: error\ndata: {\"type\":\"error\""), "{what}: {last}"),
            }
            for finished in ["message_stop", "[DONE]", "finish_reason\":\"stop", "end_turn"] {
                assert!(!text.contains(finished), "{what} looks finished: {text}");
            }
            assert_eq!(text.matches("\"error\":{").count(), 1, "{what}: {text}");
            assert_eq!(fallback.seen().asked.len(), 0, "{what}");
            assert!(gate.ends(1).await[0].failed().cost > Money::ZERO, "{what}: what came is paid");
        }
    }
}

/// The same for a client whose dialect is not the provider's.
#[tokio::test]
async fn a_stream_of_another_dialect_that_breaks_off_ends_in_the_clients_error() {
    for (provider, path, error) in
        [("chat", MESSAGES, "event: error\n"), ("messages", CHAT, "data: {\"error\":{")]
    {
        let upstream = stream_then(provider, vec![Step::Close]).await;
        let gate = gate(provider, &upstream).await;
        let told = gate.post(path, &chat("main", true)).await;
        let last = told.text().trim_end().rsplit("\n\n").next().unwrap();
        assert!(told.text().contains("Hello") && last.starts_with(error), "{}", told.text());
        assert!(!told.text().contains("message_stop") && !told.text().contains("[DONE]"));
    }
}

/// A provider that stands still after content is given up, and the client is told.
#[tokio::test]
async fn a_stream_that_stands_still_ends_in_an_error() {
    let upstream = stream_then("messages", vec![Step::Hang]).await;
    let text = format!("{}[timeouts]\nidle = \"100ms\"\n", config(&[("a", "messages", upstream.url())]));
    let gate = Gate::start(&text).await;
    let told = gate.post(MESSAGES, &messages("main", true)).await;
    assert!(
        told.text().contains("event: error\n") && !told.text().contains("message_stop"),
        "{}",
        told.text()
    );
    upstream.wait("the provider's connection to be closed", |seen| seen.hung_up == 1).await;
}

/// BerriAI/litellm: a client that was gone before the first byte did not cancel the call. Whole answers and streams.
#[tokio::test]
async fn a_client_that_goes_before_the_first_byte_cancels_the_call_at_once() {
    for (dialect, path) in ROWS {
        for stream in [false, true] {
            let upstream = Upstream::start(|_| vec![Step::Hang]).await;
            let gate = gate(dialect, &upstream).await;
            let mut client = gate.client().await;
            client.send("POST", path, &[], messages("main", stream).as_bytes()).await;
            upstream.wait("the request", |seen| seen.asked.len() == 1).await;
            drop(client);
            upstream.wait("the provider's connection to be closed", |seen| seen.hung_up == 1).await;
            let end = gate.ends(1).await.remove(0);
            assert_eq!(end.failed().failure.kind, FailureKind::Cancelled);
            assert_eq!(end.failed().failure.detail.attempts.len(), 1, "the attempt is told");
            assert_eq!(gate.balance().await.reserved, Money::ZERO);
            assert_eq!(gate.backstop.ledger().suspense().await.unwrap().len(), 1, "it may have been billed");
        }
    }
}

/// BerriAI/litellm#14457: the same in the middle of the answer. What was produced is counted.
#[tokio::test]
async fn a_client_that_goes_in_mid_stream_cancels_the_call_and_pays_what_came() {
    for (dialect, path) in ROWS {
        let upstream = stream_then(dialect, vec![Step::Hang]).await;
        let gate = gate(dialect, &upstream).await;
        let mut client = gate.client().await;
        client.send("POST", path, &[], messages("main", true).as_bytes()).await;
        client.head().await;
        client.read_until("Hello").await;
        drop(client);
        upstream.wait("the provider's connection to be closed", |seen| seen.hung_up == 1).await;
        let end = gate.ends(1).await.remove(0);
        assert_eq!(
            (end.failed().failure.kind, end.failed().failure.code()),
            (FailureKind::Cancelled, Code::Cancelled)
        );
        let attempts = &end.failed().failure.detail.attempts;
        assert!(attempts.len() == 1 && attempts[0].cost > Money::ZERO, "{attempts:?}");
        assert_eq!(gate.balance().await.reserved, Money::ZERO);
    }
}

/// A client that hangs up while an attempt is waited for, between two of them.
#[tokio::test]
async fn a_client_that_goes_between_attempts_leaves_a_record_of_those_before() {
    let busy = answer("429 Too Many Requests", &[JSON, ("retry-after", "9")], "{}");
    let upstream = Upstream::always(busy).await;
    let gate = gate("messages", &upstream).await;
    let mut client = gate.client().await;
    client.send("POST", MESSAGES, &[], messages("main", false).as_bytes()).await;
    upstream.wait("the first attempt", |seen| seen.asked.len() == 1).await;
    until("the record of the first attempt", async || {
        let events = gate.events(backstop_journal::StreamId::Calls).await;
        events.iter().any(|event| event.kind() == "call.attempt-failed").then_some(())
    })
    .await;
    drop(client);
    let end = gate.ends(1).await.remove(0);
    assert_eq!(end.failed().failure.kind, FailureKind::Cancelled);
    assert_eq!(end.failed().failure.detail.attempts[0].failure, Some(FailureKind::Throttled));
    assert_eq!(upstream.seen().asked.len(), 1);
    let balance = gate.balance().await;
    assert_eq!((balance.reserved, balance.suspense), (Money::ZERO, Money::ZERO), "a 429 is not billed");
}

/// A client that stops reading holds its call no longer than one that stops writing.
#[tokio::test]
async fn a_client_that_stops_reading_is_let_go() {
    let filler = format!(
        "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{}\"}}}}\n\n",
        "x".repeat(60_000)
    );
    let much: Vec<u8> = (0..200).flat_map(|_| piece(&filler)).collect();
    let upstream = stream_then("messages", vec![Step::Write(much), Step::Hang]).await;
    let text = config(&[("a", "messages", upstream.url())]);
    let gate = Gate::start_with(&text, |limits, _| limits.idle = Duration::from_millis(200)).await;
    let mut client = Client::with_little_room(gate.addr).await;
    client.send("POST", MESSAGES, &[], messages("main", true).as_bytes()).await;
    client.head().await;
    upstream.wait("the provider's connection to be closed", |seen| seen.hung_up == 1).await;
    assert_eq!(gate.ends(1).await[0].failed().failure.kind, FailureKind::Cancelled);
    drop(client);
}

/// maximhq/bifrost#3045: parts of one request's body came out in another's. Here each says a word of its own, and the provider
/// says it back; some hang up in the middle.
#[tokio::test]
async fn no_answer_holds_a_word_of_another_request() {
    let upstream = Upstream::start(|asked: &Asked| {
        let word = asked.text().split("word-").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let say = |text: &str| text.replace("Hello", &format!("word-{word}"));
        if asked.text().contains("\"stream\":true") {
            let parts = MESSAGES_EVENTS.map(say);
            let mut steps = vec![Step::Write(EVENTS.to_vec())];
            steps.extend(parts.iter().map(|part| Step::Write(piece(part))));
            steps.push(Step::Write(b"0\r\n\r\n".to_vec()));
            return steps;
        }
        vec![Step::Write(answer("200 OK", &[JSON], say(crate::it::upstream::MESSAGES_REPLY)))]
    })
    .await;
    let gate = gate("messages", &upstream).await;
    let mut asking = JoinSet::new();
    for lane in 0..8 {
        let mut client = gate.client().await;
        let addr = gate.addr;
        asking.spawn(async move {
            for turn in 0..25 {
                let word = format!("word-{}", lane * 1_000 + turn);
                let body = messages("main", turn % 2 == 0).replace("Say hello.", &word);
                client.send("POST", MESSAGES, &[], body.as_bytes()).await;
                if turn % 7 == 6 {
                    client = Client::connect(addr).await;
                    continue;
                }
                let told = client.answer().await;
                let words: Vec<_> =
                    told.text().match_indices("word-").map(|(at, _)| &told.text()[at..]).collect();
                assert!(
                    words.len() == 1 && words[0].starts_with(&format!("{word}\"")),
                    "{word}: {}",
                    told.text()
                );
            }
        });
    }
    asking.join_all().await;
}
