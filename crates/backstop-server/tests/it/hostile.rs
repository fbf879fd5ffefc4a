//! Clients that mean harm or are broken, and more of them than there is room for: each costs little, is told so, and the others
//! are served.

use crate::it::kit::{CHAT, Gate, MESSAGES, config, in_time, messages, until};
use crate::it::upstream::{JSON, MESSAGES_REPLY, Step, Upstream, answer};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

async fn gate(more: &str) -> (Gate, Upstream) {
    let upstream = Upstream::always(answer("200 OK", &[JSON], MESSAGES_REPLY)).await;
    let gate = Gate::start(&format!("{}{more}", config(&[("a", "messages", upstream.url())]))).await;
    (gate, upstream)
}

/// The gateway still does what it is for.
async fn it_still_answers(gate: &Gate) {
    assert_eq!(gate.post(MESSAGES, &messages("main", false)).await.status(), 200);
}

/// Who comes when all places are taken is told when to come again, in words on which every SDK does.
#[tokio::test]
async fn beyond_the_most_calls_clients_are_told_to_come_again() {
    let upstream = Upstream::start(|_| vec![Step::Hang]).await;
    let gate =
        Gate::start(&format!("{}[serve]\ncalls = 3\n", config(&[("a", "messages", upstream.url())]))).await;
    let mut under_way = Vec::new();
    for n in 0..3 {
        let mut client = gate.client().await;
        client.send("POST", MESSAGES, &[], messages("main", n == 0).as_bytes()).await;
        under_way.push(client);
    }
    upstream.wait("three calls", |seen| seen.asked.len() == 3).await;
    for (path, status) in [(MESSAGES, 529), (CHAT, 503), ("/v1/messages/count_tokens", 529)] {
        let told = gate.post(path, &messages("main", false)).await;
        assert_eq!((told.status(), told.header("x-backstop-code")), (status, "BS6014"), "{}", told.all());
        assert_eq!((told.header("retry-after"), told.header("x-should-retry")), ("1", "true"));
    }
    assert_eq!(gate.get("/livez").await.status(), 200, "signs of life need no place");
    under_way.pop();
    upstream.wait("the end of one", |seen| seen.hung_up == 1).await;
    under_way.push(gate.client().await);
    until("a free place", async || {
        let client = under_way.last_mut().unwrap();
        client.send("POST", MESSAGES, &[], messages("main", false).as_bytes()).await;
        let taken = tokio::select! {
            _ = upstream.wait("the next call", |seen| seen.asked.len() == 4) => true,
            told = client.answer() => { assert_eq!(told.status(), 529); false }
        };
        taken.then_some(())
    })
    .await;
}

/// Told or not, a body that is too large is refused before it is read: the client sends no more than fits in the sockets.
#[tokio::test]
async fn a_body_of_100_mb_is_refused_without_being_read() {
    let (gate, upstream) = gate("").await;
    let mut told = gate.client().await;
    told.write(
        "POST /v1/messages HTTP/1.1\r\nhost: g\r\ncontent-length: 104857600\r\n\r\n{\"model\":\"main\",",
    )
    .await;
    let answer = told.answer().await;
    assert_eq!((answer.status(), answer.header("x-backstop-code")), (413, "BS2017"), "{}", answer.all());
    assert_eq!(answer.json()["error"]["type"], "request_too_large");
    told.closed().await;

    // Chunked: the client does not say how much will come.
    let (gate, _other) = self::gate("[serve]\nbody = 1\n").await;
    let mut chunked = gate.client().await;
    chunked.write("POST /v1/messages HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let piece = [b"10000\r\n".as_slice(), &vec![b' '; 65_536], b"\r\n"].concat();
    let mut sent = 0;
    let answer = loop {
        tokio::select! {
            biased;
            head = chunked.try_head() => break head,
            () = tokio::task::yield_now() => {}
        }
        if sent < 1_600 {
            if chunked.stream.write_all(&piece).await.is_err() {
                break chunked.try_head().await;
            }
            sent += 1;
        }
    };
    assert_eq!(answer.map(|head| head.status), Some(413));
    assert!(sent < 1_600, "100 MB were taken");
    assert_eq!(upstream.seen().asked.len(), 0);
}

/// A body of nearly 32 MiB is retried and failed over like a small one: agentgateway stops at 64 KiB.
#[tokio::test]
async fn a_body_of_32_mb_is_retried_and_failed_over_to_the_byte() {
    let first = Upstream::in_turn(vec![
        answer("503 Unavailable", &[], ""),
        answer("200 OK", &[JSON], MESSAGES_REPLY),
    ])
    .await;
    let second = Upstream::always(answer("500 Oops", &[], "")).await;
    let gate = Gate::start(&config(&[("a", "messages", first.url()), ("b", "messages", second.url())])).await;
    let picture = "A".repeat((31 << 20) + 500_000);
    let body = |model: &str| {
        format!(
            r#"{{"model":"{model}","max_tokens":9,"messages":[{{"role":"user","content":[{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{picture}"}}}}]}}]}}"#
        )
    };
    let told = gate.post(MESSAGES, &body("main")).await;
    assert_eq!((told.status(), told.header("x-backstop-attempts")), (200, "3"), "{}", told.all());
    let all: Vec<_> = [first.seen().asked, second.seen().asked].concat();
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|asked| asked.body == body("sim").as_bytes()));
}

/// All large bodies together are bounded too; small ones always have room.
#[tokio::test]
async fn large_bodies_share_their_room() {
    let (gate, _upstream) = gate("[serve]\nbody = 2\nbodies = 3\n").await;
    let mut holding = gate.client().await;
    holding.write("POST /v1/messages HTTP/1.1\r\nhost: g\r\ncontent-length: 2000000\r\n\r\n{").await;
    until("its part of the room", async || {
        (gate.get("/api/health").await.json()["calls_under_way"] == 1).then_some(())
    })
    .await;
    let large = messages("main", false).replace("hello", &"x".repeat(1_900_000));
    let told = gate.post(MESSAGES, &large).await;
    assert_eq!((told.status(), told.header("x-backstop-code")), (529, "BS6014"), "{}", told.all());
    assert_eq!((told.header("retry-after"), told.header("x-should-retry")), ("1", "true"));
    it_still_answers(&gate).await;
    drop(holding);
    until("room", async || (gate.post(MESSAGES, &large).await.status() == 200).then_some(())).await;
}

#[tokio::test]
async fn garbage_is_refused_and_the_connection_closed() {
    let (gate, upstream) = gate("").await;
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let rows: [(&str, &[u8]); 7] = [
        ("TLS", tls),
        ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n"),
        ("zeros", &[0; 4_096]),
        ("a method that is none", b"G@T / HTTP/1.1\r\n\r\n"),
        ("a version that is none", b"GET / HTTP/9.9\r\n\r\n"),
        ("a header without colon", b"GET / HTTP/1.1\r\nhost\r\n\r\n"),
        ("two lengths", b"POST /v1/messages HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello"),
    ];
    for (what, bytes) in rows {
        let mut client = gate.client().await;
        client.write(bytes).await;
        let told = String::from_utf8(client.closed().await).unwrap();
        assert!(
            told.is_empty() || told.starts_with("HTTP/1.1 4") || told.starts_with("HTTP/1.1 5"),
            "{what}: {told}"
        );
        assert_eq!(told.matches("HTTP/1.1").count(), usize::from(!told.is_empty()), "{what}: {told}");
    }
    it_still_answers(&gate).await;
    assert_eq!(upstream.seen().asked.len(), 1);
}

#[tokio::test]
async fn header_bombs_are_refused_and_the_connection_closed() {
    let (gate, _upstream) = gate("").await;
    let many = "x-many: 1\r\n".repeat(5_000);
    let huge = format!("x-huge: {}\r\n", "a".repeat(1 << 20));
    let line = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20));
    for head in [format!("GET / HTTP/1.1\r\n{many}\r\n"), format!("GET / HTTP/1.1\r\n{huge}\r\n"), line] {
        let mut client = gate.client().await;
        // It may be closed before all of it is written.
        drop(client.stream.write_all(head.as_bytes()).await);
        let told = String::from_utf8(client.closed().await).unwrap();
        assert!(told.is_empty() || told.starts_with("HTTP/1.1 4"), "{told}");
    }
    it_still_answers(&gate).await;
}

/// A head that never ends, a body that stops, and one that comes a byte at a time: each is let go, and its place is free again.
#[tokio::test]
async fn slow_clients_are_let_go() {
    let upstream = Upstream::always(answer("200 OK", &[JSON], MESSAGES_REPLY)).await;
    let text = format!("{}[serve]\ncalls = 1\n", config(&[("a", "messages", upstream.url())]));
    let gate = Gate::start_with(&text, |limits, _| limits.idle = Duration::from_millis(300)).await;
    let mut head = gate.client().await;
    head.write("POST /v1/messages HTTP/1.1\r\nhost: g\r\nx-slow:").await;
    head.closed().await;

    let mut stopped = gate.client().await;
    stopped.write("POST /v1/messages HTTP/1.1\r\nhost: g\r\ncontent-length: 100\r\n\r\n{\"model\"").await;
    let told = stopped.answer().await;
    assert_eq!(
        (told.status(), told.json()["error"]["type"].as_str()),
        (408, Some("invalid_request_error")),
        "{}",
        told.all()
    );
    stopped.closed().await;

    let mut trickling = gate.client().await;
    trickling.write("POST /v1/messages HTTP/1.1\r\nhost: g\r\ncontent-length: 1000000\r\n\r\n").await;
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    let told = in_time("the end of a body that trickles", async {
        loop {
            tokio::select! {
                told = trickling.try_head() => break told,
                _ = pause.tick() => {}
            }
            drop(trickling.stream.write_all(b" ").await);
        }
    })
    .await;
    assert_eq!(told.map(|head| head.status), Some(408));
    until("its place", async || {
        (gate.post(MESSAGES, &messages("main", false)).await.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn bodies_that_are_no_request_are_refused_and_told_why() {
    let (gate, upstream) = gate("").await;
    let deep = |n: usize| format!("{{\"model\":\"main\",\"messages\":{}{}}}", "[".repeat(n), "]".repeat(n));
    let rows: Vec<(Vec<u8>, &str)> = vec![
        (deep(100_000).into(), "too many levels"),
        (format!("{{\"model\":{}", "{\"a\":".repeat(100_000)).into(), ""),
        (b"{\"model\":\"main\",\"x\":\"\xff\xfe\"}".to_vec(), "UTF-8"),
        (b"{\"model\":\"main\",\"model\":\"other\"}".to_vec(), "twice"),
        (b"{\"model\":\"main\",\"\\u006dodel\":\"other\"}".to_vec(), "twice"),
        (b"{\"model\":\"main\",\"stream\":true,\"stream\":false}".to_vec(), "twice"),
        (b"{\"model\":\"main\",\"max_tokens\":1,\"max_tokens\":100000}".to_vec(), "twice"),
        (b"{\"model\":7}".to_vec(), "model"),
        (b"{\"messages\":[]}".to_vec(), "model"),
        (b"{\"model\":\"main\",\"max_tokens\":-1}".to_vec(), ""),
        (b"{\"model\":\"main\"} {}".to_vec(), "follows"),
        (b"{\"model\":\"main\",}".to_vec(), ""),
        (b"[1]".to_vec(), "object"),
        (b"".to_vec(), ""),
        (b"\xef\xbb\xbf{\"model\":\"main\"}".to_vec(), ""),
    ];
    let mut client = gate.client().await;
    for (body, why) in rows {
        client.send("POST", MESSAGES, &[], &body).await;
        let told = client.answer().await;
        let start: String = String::from_utf8_lossy(&body).chars().take(60).collect();
        assert_eq!(told.status(), 400, "{start}: {}", told.all());
        let message = told.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(why) && message.len() < 500, "{start}: {message}");
        assert_eq!(told.header("x-should-retry"), "false");
    }
    assert_eq!(upstream.seen().asked.len(), 0);
    it_still_answers(&gate).await;
}

/// What a request says of itself wrongly is not passed over: a label with a slip of the pen would not protect.
#[tokio::test]
async fn headers_of_ours_that_are_wrong_are_refused() {
    let (gate, upstream) = gate("").await;
    for (name, value) in [
        ("x-backstop-lables", "private:health"),
        ("x-backstop-labels", "secret"),
        ("x-backstop-priority", "high"),
        ("x-backstop-deadline", "soon"),
        ("x-backstop-task", ""),
    ] {
        let told = gate.ask("POST", MESSAGES, &[(name, value)], &messages("main", false)).await;
        assert_eq!((told.status(), told.header("x-backstop-code")), (400, "BS1011"), "{name}: {value}");
    }
    assert_eq!(upstream.seen().asked.len(), 0);
}

/// The caller's time is a bound for all attempts and waits together.
#[tokio::test]
async fn a_deadline_of_the_client_holds() {
    let upstream = Upstream::start(|_| vec![Step::Hang]).await;
    let gate = Gate::start(&config(&[("a", "messages", upstream.url())])).await;
    let told =
        gate.ask("POST", MESSAGES, &[("x-backstop-deadline", "200ms")], &messages("main", false)).await;
    assert_eq!(told.status(), 504, "{}", told.all());
    upstream.wait("the provider's connection to be closed", |seen| seen.hung_up == 1).await;
}

/// Requests that come one behind another without waiting for answers are answered in their order.
#[tokio::test]
async fn requests_in_one_piece_are_answered_in_order() {
    let (gate, upstream) = gate("").await;
    let mut client = gate.client().await;
    let body = messages("main", false);
    let one =
        format!("POST /v1/messages HTTP/1.1\r\nhost: g\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    client.write(format!("{one}GET /livez HTTP/1.1\r\nhost: g\r\n\r\n{one}")).await;
    let statuses = [client.answer().await, client.answer().await, client.answer().await]
        .map(|told| told.json()["status"].clone());
    assert_eq!(statuses, [serde_json::Value::Null, "alive".into(), serde_json::Value::Null]);
    assert_eq!(upstream.seen().asked.len(), 2);
}

/// A client that asks before it sends much is told to go on, or is spared the sending.
#[tokio::test]
async fn a_client_that_asks_whether_to_send_is_told() {
    let (gate, _upstream) = gate("").await;
    let body = messages("main", false);
    let head = |length: usize| {
        format!(
            "POST /v1/messages HTTP/1.1\r\nhost: g\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let mut client = gate.client().await;
    client.write(head(body.len())).await;
    assert_eq!(client.head().await.status, 100);
    client.write(&body).await;
    assert_eq!(client.answer().await.status(), 200);
    let mut client = gate.client().await;
    client.write(head(100 << 20)).await;
    assert_eq!(client.head().await.status, 413);
}

/// Bytes that are no text are told so; a compressed body is not taken for one.
#[tokio::test]
async fn a_compressed_body_is_refused_and_not_passed_on() {
    let (gate, upstream) = gate("").await;
    let mut client = gate.client().await;
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xabV\xcaM\xccS\xb2\x02\x00";
    client.send("POST", MESSAGES, &[("content-encoding", "gzip")], gzip).await;
    let told = client.answer().await;
    assert_eq!(told.status(), 400, "{}", told.all());
    assert_eq!(upstream.seen().asked.len(), 0);
}
