//! What is spent: never more than allowed, whoever asks at once, hangs up or is cut; and every cent that a provider bills is in
//! the books.

use crate::it::kit::{CHAT, End, Gate, MESSAGES, config, messages, sim, sim_under, until};
use crate::it::upstream::{JSON, Step, Upstream, answer};
use backstop_allowance::{Account, Scope};
use backstop_call::{FailureKind, KeyLimits, Money};
use backstop_journal::event::KeyScope;
use backstop_journal::{EventBody, StreamId};
use backstop_sim::Sim;
use serde_json::Value;
use std::collections::BTreeMap;
use tokio::task::JoinSet;

fn dollars(text: &str) -> Money {
    text.parse().unwrap()
}

async fn gate(sim: &Sim, more: &str) -> Gate {
    let providers = [("a", "messages", sim.base_url("a"))];
    Gate::start(&format!("{}{more}", config(&providers))).await
}

/// Sends so many requests at once, each on a connection of its own, and gives the statuses.
async fn burst(gate: &Gate, count: usize, headers: &[(&str, &str)]) -> Vec<u16> {
    let mut asking = JoinSet::new();
    for _ in 0..count {
        let mut client = gate.client().await;
        client.send("POST", MESSAGES, headers, messages("main", false).as_bytes()).await;
        asking.spawn(async move { client.answer().await.status() });
    }
    asking.join_all().await
}

/// What an event of the ledger says was settled: one attempt, or several at once.
fn settlements(event: &EventBody) -> Vec<(String, Money)> {
    let event = serde_json::to_value(event).unwrap();
    let money = |value: &Value| Money::from_nanos(value.as_i64().unwrap());
    match event["kind"].as_str().unwrap() {
        "money.settled" => vec![(event["reservation"].as_str().unwrap().to_owned(), money(&event["cost"]))],
        "money.moved" => {
            let paid = event["paid"].as_array().unwrap().iter();
            let pairs = paid.flat_map(|paid| paid["settled"].as_array().unwrap());
            pairs.map(|pair| (pair[0].as_str().unwrap().to_owned(), money(&pair[1]))).collect()
        }
        _ => Vec::new(),
    }
}

/// Holds the books against the provider's bill, entry by entry: what is settled is what was billed, and what was billed
/// beside that is in suspense. Nothing is held any more.
async fn the_books_explain_the_bill(gate: &Gate, sim: &Sim) {
    until("the end of every reservation", async || {
        (gate.balance().await.reserved == Money::ZERO).then_some(())
    })
    .await;
    let (mut settled, mut suspended) = (BTreeMap::new(), BTreeMap::new());
    for event in gate.events(StreamId::Ledger).await {
        for (reservation, cost) in settlements(&event) {
            assert_eq!(settled.insert(reservation, cost), None, "settled once");
        }
        if let EventBody::MoneySuspended(event) = event {
            suspended.insert(event.reservation.to_string(), event.amount);
        }
    }
    let bill = sim.bill();
    for charge in &bill.entries {
        let reservation = charge.client_request_id.clone().unwrap();
        match (settled.get(&reservation), suspended.get(&reservation)) {
            (Some(cost), None) => assert!(*cost >= charge.cost, "{reservation}: {cost} for {charge:?}"),
            (None, Some(most)) => assert!(*most >= charge.cost, "{reservation}: {most} for {charge:?}"),
            other => panic!("{reservation} is in the books as {other:?}"),
        }
    }
    let balance = gate.balance().await;
    assert!(bill.total <= balance.settled + balance.suspense, "{:?} for {}", balance, bill.total);
}

/// BerriAI/litellm#34732: with check-then-add, N requests at once overshoot N-fold. Also envoyproxy/ai-gateway#680.
#[tokio::test]
async fn parallel_requests_at_a_nearly_spent_budget_never_overshoot() {
    let sim = sim().await;
    let gate = gate(&sim, "[budgets]\nday = \"$0.02\"\n").await;
    let statuses = burst(&gate, 60, &[]).await;
    let answered = statuses.iter().filter(|status| **status == 200).count();
    assert!(answered > 0 && answered < 60, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 402].contains(status)), "{statuses:?}");
    // What is left is spent to the last call that fits.
    while gate.post(MESSAGES, &messages("main", false)).await.status() == 200 {}
    let bill = sim.bill();
    assert!(bill.total <= dollars("0.02"), "{}", bill.total);
    let balance = gate.balance().await;
    assert_eq!((balance.settled, balance.suspense, balance.reserved), (bill.total, Money::ZERO, Money::ZERO));
}

/// BerriAI/litellm#34732 for keys (there: sessions), and #12977.
#[tokio::test]
async fn parallel_requests_never_overshoot_the_budget_of_their_key() {
    let sim = sim().await;
    let gate = gate(&sim, "[budgets]\nday = \"$1.00\"\n").await;
    let budget = KeyLimits { day: Some(dollars("0.01")), whole: None };
    let poor = gate.key("poor", KeyScope { budget, ..KeyScope::default() }).await;
    let rich = gate.key("rich", KeyScope::default()).await;
    let statuses = burst(&gate, 40, &[("x-api-key", &poor)]).await;
    let answered = statuses.iter().filter(|status| **status == 200).count();
    assert!(answered > 0 && answered < 40, "{statuses:?}");
    let spent = gate.balance_of(Account::today(Scope::Key("poor".into()), gate.backstop.clock().now())).await;
    assert!(spent.settled <= dollars("0.01") && spent.reserved == Money::ZERO, "{spent:?}");
    assert_eq!(spent.settled, sim.bill().total);
    assert_eq!(
        burst(&gate, 1, &[("x-api-key", &rich)]).await,
        [200],
        "the other key has a budget of its own"
    );
}

/// Begins thirty streams at once: a third are left at once, a third after the first content, a third are read to their end.
/// How many began.
async fn abandoned_streams(gate: &Gate, headers: &[(&str, &str)]) -> usize {
    let mut readers = JoinSet::new();
    for n in 0..30 {
        let mut client = gate.client().await;
        client.send("POST", MESSAGES, headers, messages("main", true).as_bytes()).await;
        readers.spawn(async move {
            let head = client.head().await;
            if head.status != 200 {
                return false;
            }
            match n % 3 {
                0 => drop(client),
                1 => drop(client.read_until("content_block_delta").await),
                _ => assert!(String::from_utf8(client.chunks().await).unwrap().contains("message_stop")),
            }
            true
        });
    }
    let begun = readers.join_all().await.into_iter().filter(|begun| *begun).count();
    assert!(begun > 2, "only {begun} streams began");
    begun
}

/// BerriAI/litellm#14457 and maximhq/bifrost#3357: streams that nobody read to the end were counted as nothing, or as one token,
/// while the provider billed all it had made.
#[tokio::test]
async fn streams_that_are_abandoned_never_overshoot_and_are_never_counted_as_nothing() {
    let sim = sim_under("name = \"slow\"\n[[rule]]\nfault = \"slow-chunks:5\"\n").await;
    let gate = gate(&sim, "[budgets]\nday = \"$0.03\"\n").await;
    let begun = abandoned_streams(&gate, &[]).await;
    the_books_explain_the_bill(&gate, &sim).await;
    let balance = gate.balance().await;
    assert!(balance.settled + balance.suspense <= dollars("0.03"), "{balance:?}");
    for end in gate.ends(begun).await {
        match end {
            End::Finished(end) => assert!(end.cost > Money::ZERO),
            End::Failed(end) if end.failure.kind == FailureKind::Budget => {}
            End::Failed(end) => {
                assert_eq!(end.failure.kind, FailureKind::Cancelled);
                assert!(end.cost > Money::ZERO, "what was sent is never counted as nothing: {end:?}");
            }
        }
    }
}

/// The same for the budget of a key.
#[tokio::test]
async fn streams_that_are_abandoned_never_overshoot_the_budget_of_their_key() {
    let sim = sim_under("name = \"slow\"\n[[rule]]\nfault = \"slow-chunks:5\"\n").await;
    let gate = gate(&sim, "[budgets]\nday = \"$1.00\"\n").await;
    let budget = KeyLimits { day: None, whole: Some(dollars("0.02")) };
    let poor = gate.key("poor", KeyScope { budget, ..KeyScope::default() }).await;
    let begun = abandoned_streams(&gate, &[("x-api-key", &poor)]).await;
    assert!(begun < 30, "all of them began");
    the_books_explain_the_bill(&gate, &sim).await;
    let spent = gate.balance_of(Account::whole(Scope::Key("poor".into()))).await;
    assert!(spent.settled + spent.suspense <= dollars("0.02") && spent.reserved == Money::ZERO, "{spent:?}");
    assert!(sim.bill().total <= spent.settled + spent.suspense);
}

/// BerriAI/litellm#27639: a request that was cancelled kept its reservation for ever.
#[tokio::test]
async fn no_phantom_spending_is_left_after_cancels() {
    let upstream = Upstream::start(|_| vec![Step::Hang]).await;
    let limits = "[providers.a.limits]\nconcurrent = 1\n[budgets]\nday = \"$1.00\"\n";
    let gate = Gate::start(&format!("{}{limits}", config(&[("a", "messages", upstream.url())]))).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = gate.client().await;
        client.send("POST", MESSAGES, &[], messages("main", clients.len() % 2 == 0).as_bytes()).await;
        clients.push(client);
    }
    upstream.wait("the only request that was let through", |seen| seen.asked.len() == 1).await;
    until("all calls under way", async || {
        (gate.get("/api/health").await.json()["calls_under_way"] == 20).then_some(())
    })
    .await;
    drop(clients);
    upstream.wait("its end", |seen| seen.hung_up >= 1).await;
    let ends = gate.ends(20).await;
    assert!(ends.iter().all(|end| end.failed().failure.kind == FailureKind::Cancelled));
    let balance = gate.balance().await;
    assert_eq!((balance.settled, balance.reserved), (Money::ZERO, Money::ZERO));
    // What was sent may have been billed. It counts, once, and everybody can see which call it was.
    let suspense = gate.backstop.ledger().suspense().await.unwrap();
    assert_eq!(suspense.len(), upstream.seen().asked.len(), "{suspense:?}");
    assert_eq!(balance.suspense, suspense.iter().map(|(_, amount)| *amount).sum());
}

/// BerriAI/litellm#35569: what was reserved and what was used were both counted.
#[tokio::test]
async fn a_call_is_counted_by_what_it_used_and_not_by_what_was_held_for_it() {
    let sim = sim().await;
    let gate = gate(&sim, "[budgets]\nday = \"$1.00\"\n").await;
    let statuses = burst(&gate, 25, &[]).await;
    assert_eq!(statuses, vec![200; 25]);
    let (bill, balance) = (sim.bill(), gate.balance().await);
    assert_eq!((balance.settled, balance.suspense, balance.reserved), (bill.total, Money::ZERO, Money::ZERO));
    let told: Money = gate.ends(25).await.iter().map(|end| end.finished().cost).sum();
    assert_eq!(told, bill.total, "the journal, the ledger and the provider say the same");
}

#[tokio::test]
async fn an_answer_says_what_is_left_of_the_tightest_budget() {
    let sim = sim().await;
    let gate = gate(&sim, "[budgets]\nday = \"$1.00\"\nroles = { clerk = \"$0.50\" }\n").await;
    for (role, limit) in [("clerk", "$0.50"), ("other", "$1.00")] {
        let limit = dollars(limit);
        until("what is left", async || {
            let mut client = gate.client().await;
            let headers = [("x-backstop-role", role)];
            client.send("POST", MESSAGES, &headers, messages("main", false).as_bytes()).await;
            let told = client.answer().await;
            // The ledger is not waited for, so the first answers may not tell.
            let left: Money = told.header("x-backstop-budget-left").parse().ok()?;
            assert!(left <= limit && left > limit - dollars("$0.10"), "{role}: {left} of {limit}");
            Some(())
        })
        .await;
    }
}

/// BerriAI/litellm#33923: a request went through although its reservation could not be written.
#[tokio::test]
async fn nothing_is_sent_when_the_ledger_cannot_be_written() {
    let sim = sim().await;
    // Small, so that the lease must be extended every few calls: within it nothing waits for the disk.
    let text = format!("{}[budgets]\nday = \"$0.50\"\n", config(&[("a", "messages", sim.base_url("a"))]));
    let gate = Gate::start_with(&text, |_, settings| settings.store_options.bytes_max = Some(400_000)).await;
    let mut answered = 0;
    let refused = loop {
        let answer = gate.post(MESSAGES, &messages("main", false)).await;
        if answer.status() != 200 || answered == 5_000 {
            break answer;
        }
        answered += 1;
    };
    assert!(answered > 0);
    assert_eq!((refused.status(), refused.header("x-backstop-code")), (500, "BS4003"), "{}", refused.all());
    assert!(!refused.text().contains(gate.dir.path().to_str().unwrap()), "{}", refused.text());
    let asked = sim.requests().len();
    // A checkpoint may have made room again: what is answered then is in the books, and nothing else was sent.
    let mut room = 0;
    for _ in 0..5 {
        match gate.post(MESSAGES, &messages("main", false)).await.status() {
            200 => room += 1,
            status => assert!(status >= 500, "{status}"),
        }
    }
    assert_eq!(sim.requests().len(), asked + room, "nothing is sent that could not be written down");
}

/// BerriAI/litellm#14849, #11364, #6215: what is cached counts within the input for one provider and beside it for the other.
#[tokio::test]
async fn cached_tokens_are_charged_once_in_either_dialect() {
    let whole = r#"{"id":"m","type":"message","role":"assistant","model":"x","content":[],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":100,"cache_read_input_tokens":1000,"cache_creation_input_tokens":0,"output_tokens":10}}"#;
    let chat = r#"{"id":"c","object":"chat.completion","created":1,"model":"x","choices":[{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1100,"completion_tokens":10,"total_tokens":1110,"prompt_tokens_details":{"cached_tokens":1000}}}"#;
    for (dialect, path, body) in [("messages", MESSAGES, whole), ("chat", CHAT, chat)] {
        let upstream = Upstream::always(answer("200 OK", &[JSON], body)).await;
        let text = config(&[("a", dialect, upstream.url())]);
        let text = text.replace("output = 15 }", "output = 15, cache-read = 0.30 }");
        let gate = Gate::start(&text).await;
        let told = gate.post(path, &messages("main", false)).await;
        // 100 × $3 + 1000 × $0.30 + 10 × $15, per million.
        assert_eq!((told.status(), told.header("x-backstop-cost")), (200, "$0.00075"), "{dialect}");
    }
}

/// A provider that tells no usage has not worked for nothing.
#[tokio::test]
async fn an_answer_without_usage_is_estimated_and_never_free() {
    let body = r#"{"id":"m","type":"message","role":"assistant","model":"x","content":[{"type":"text","text":"twelve letters and more"}],"stop_reason":"end_turn","stop_sequence":null}"#;
    let upstream = Upstream::always(answer("200 OK", &[JSON], body)).await;
    let gate = Gate::start(&config(&[("a", "messages", upstream.url())])).await;
    let told = gate.post(MESSAGES, &messages("main", false)).await;
    assert_eq!(told.status(), 200);
    let end = gate.ends(1).await.remove(0);
    assert!(end.finished().usage.output_tokens > 0 && end.finished().usage.input_tokens > 0);
    assert!(told.header("x-backstop-cost").trim_start_matches('$').parse::<f64>().unwrap() > 0.0);
}
