//! The end of a gateway, and a new config while it runs: no call is lost by either.

use crate::it::kit::{Client, Gate, MESSAGES, config, messages};
use crate::it::upstream::{EVENTS, JSON, MESSAGES_EVENTS, MESSAGES_REPLY, Step, Upstream, answer, piece};
use backstop_allowance::{Account, Scope};
use backstop_call::Money;
use backstop_journal::StreamId;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// A provider whose streams stop after the content until the test lets them go on.
async fn held_streams() -> (Upstream, Arc<Semaphore>) {
    let go_on = Arc::new(Semaphore::new(0));
    let signal = Arc::clone(&go_on);
    let upstream = Upstream::start(move |asked| {
        if !asked.text().contains("\"stream\":true") {
            return vec![Step::Write(answer("200 OK", &[JSON], MESSAGES_REPLY))];
        }
        let begun = [EVENTS, &piece(MESSAGES_EVENTS[0]), &piece(MESSAGES_EVENTS[1])].concat();
        let end = [piece(MESSAGES_EVENTS[2]), b"0\r\n\r\n".to_vec()].concat();
        vec![Step::Write(begun), Step::Wait(Arc::clone(&signal)), Step::Write(end)]
    })
    .await;
    (upstream, go_on)
}

/// A stream that has begun.
async fn streaming(gate: &Gate) -> Client {
    let mut client = gate.client().await;
    client.send("POST", MESSAGES, &[], messages("main", true).as_bytes()).await;
    assert_eq!(client.head().await.status, 200);
    client.read_until("Hello").await;
    client
}

/// BerriAI/litellm#38157, #34805, #35531: a graceful end lost what was spent and not written yet.
#[tokio::test]
async fn calls_under_way_end_well_and_nothing_of_them_is_lost() {
    let (upstream, go_on) = held_streams().await;
    let gate =
        Gate::start(&format!("{}[budgets]\nday = \"$1.00\"\n", config(&[("a", "messages", upstream.url())])))
            .await;
    let idle = gate.client().await;
    for _ in 0..20 {
        assert_eq!(gate.post(MESSAGES, &messages("main", false)).await.status(), 200);
    }
    let mut client = streaming(&gate).await;
    let (addr, mut stopping) = (gate.addr, gate.stop());
    // No new connections, and those that idle are closed.
    let mut idle = idle;
    idle.closed().await;
    assert!(TcpStream::connect(addr).await.is_err(), "nobody else is let in");
    go_on.add_permits(1);
    let rest = String::from_utf8(client.chunks().await).unwrap();
    assert!(rest.ends_with(MESSAGES_EVENTS[2]), "the stream ended well: {rest}");
    assert_eq!(stopping.ended().await.cancelled, 0);
    let (store, ledger) = stopping.backstop.files().unwrap();
    store.flush().await.unwrap();
    ledger.close().await.unwrap();
    let events = stopping.backstop.journal().read(&StreamId::Calls, 0).await.unwrap();
    assert_eq!(events.iter().filter(|event| event.body.kind() == "call.finished").count(), 21);
    let account = Account::today(Scope::Total, stopping.backstop.clock().now());
    let balance = stopping.backstop.ledger().balance(account).await.unwrap();
    // 10 tokens in and 5 out, 21 times.
    let spent = Money::from_nanos(21 * (10 * 3_000 + 5 * 15_000));
    assert_eq!((balance.settled, balance.suspense, balance.reserved), (spent, Money::ZERO, Money::ZERO));
}

/// Who takes longer than the drain is cut off, in a way that does not look finished, and settled.
#[tokio::test]
async fn calls_that_do_not_end_in_time_are_cancelled_and_counted() {
    let (upstream, _go_on) = held_streams().await;
    let text = format!("{}[budgets]\nday = \"$1.00\"\n", config(&[("a", "messages", upstream.url())]));
    let gate = Gate::start_with(&text, |limits, _| limits.drain = Duration::from_millis(100)).await;
    let mut client = streaming(&gate).await;
    let mut stopping = gate.stop();
    assert_eq!(stopping.ended().await.cancelled, 1);
    let rest = client.closed().await;
    assert!(!String::from_utf8_lossy(&rest).contains("message_stop"));
    assert!(!rest.ends_with(b"0\r\n\r\n"), "the body must not look whole");
    upstream.wait("the provider's connection to be closed", |seen| seen.hung_up == 1).await;
    let account = Account::today(Scope::Total, stopping.backstop.clock().now());
    let balance = stopping.backstop.ledger().balance(account).await.unwrap();
    assert_eq!(balance.reserved, Money::ZERO);
    assert!(balance.settled + balance.suspense > Money::ZERO);
}

/// A new config swaps the models; a call that began with the old one ends with it.
#[tokio::test]
async fn a_new_config_drops_no_request() {
    let (old, go_on) = held_streams().await;
    let new = Upstream::always(answer("200 OK", &[JSON], MESSAGES_REPLY)).await;
    let gate = Gate::start(&config(&[("a", "messages", old.url())])).await;
    let mut client = streaming(&gate).await;
    let mut kept = gate.client().await;
    kept.send("POST", MESSAGES, &[], messages("main", false).as_bytes()).await;
    assert_eq!(kept.answer().await.header("x-backstop-model"), "a/sim");
    gate.reload(&config(&[("n", "messages", new.url())])).await.unwrap();
    kept.send("POST", MESSAGES, &[], messages("main", false).as_bytes()).await;
    assert_eq!(kept.answer().await.header("x-backstop-model"), "n/sim", "on the same connection");
    assert_eq!(gate.post(MESSAGES, &messages("a", false)).await.status(), 404, "the old model is gone");
    go_on.add_permits(1);
    assert!(String::from_utf8(client.chunks().await).unwrap().ends_with(MESSAGES_EVENTS[2]));
    assert_eq!(old.seen().asked.len(), 2);
}

/// Requests that go on all the while see either config, and never a failure.
#[tokio::test]
async fn requests_during_many_reloads_are_all_answered() {
    let upstreams = [
        Upstream::always(answer("200 OK", &[JSON], MESSAGES_REPLY)).await,
        Upstream::always(answer("200 OK", &[JSON], MESSAGES_REPLY)).await,
    ];
    let text = |n: usize| config(&[(["a", "b"][n], "messages", upstreams[n].url())]);
    let gate = Gate::start(&text(0)).await;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut client = gate.client().await;
        clients.spawn(async move {
            for _ in 0..40 {
                client.send("POST", MESSAGES, &[], messages("main", false).as_bytes()).await;
                assert_eq!(client.answer().await.status(), 200);
            }
        });
    }
    let mut n = 0;
    while !clients.is_empty() {
        n += 1;
        gate.reload(&text(n % 2)).await.unwrap();
        drop(
            tokio::time::timeout(Duration::from_millis(5), clients.join_next())
                .await
                .map(|done| done.unwrap().unwrap()),
        );
    }
    assert!(n > 2, "{n} reloads");
}
