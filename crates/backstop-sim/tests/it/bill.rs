//! The bill: what was produced, also when the client goes away.

use crate::client::{ask, call, fetch, head, open, post, send, sim, until};
use backstop_call::{Money, Usage};
use backstop_sim::{Fault, ModelSpec};
use tokio::io::AsyncReadExt;

#[tokio::test]
async fn an_answer_is_billed_at_its_usage_and_errors_are_not() {
    let sim = sim(|_| {}).await;
    let (path, version) = head("messages");
    let headers = format!("{version}x-client-request-id: c7.1\r\n");
    let usage = send(&sim, &post(path, &headers, &ask(false).to_string())).await.json()["usage"].clone();
    until("the charge", || sim.bill().requests == 1).await;
    let bill = sim.bill();
    let tokens = |key: &str| usage[key].as_u64().unwrap();
    assert_eq!((bill.input_tokens, bill.output_tokens), (tokens("input_tokens"), tokens("output_tokens")));
    let used =
        Usage { input_tokens: bill.input_tokens, output_tokens: bill.output_tokens, ..Usage::default() };
    assert_eq!(bill.total, ModelSpec::defaults()[0].price.cost(&used));
    assert!(bill.total > Money::ZERO);
    let charge = &bill.entries[0];
    assert_eq!((charge.client_request_id.as_deref(), charge.complete), (Some("c7.1"), true));
    for free in ["rate-limit", "server", "html-error", "in-stream:overloaded"] {
        for stream in [false, true] {
            call(&sim, "messages", &ask(stream), free).await;
        }
    }
    let told = fetch(&sim, "GET /sim/bill", "").await.json();
    assert_eq!(told["requests"], 1, "{told}");
    assert_eq!(told["total"], bill.total.nanos());
    assert_eq!(fetch(&sim, "GET /sim/requests", "").await.json().as_array().unwrap().len(), 9);
    fetch(&sim, "POST /sim/reset", "").await;
    assert_eq!((sim.bill().total, sim.requests().len()), (Money::ZERO, 0));
}

#[tokio::test]
async fn streamed_or_not_costs_the_same() {
    let sim = sim(|_| {}).await;
    for dialect in ["messages", "chat", "responses"] {
        sim.reset();
        call(&sim, dialect, &ask(false), "").await;
        until("the first charge", || sim.bill().requests == 1).await;
        let whole = sim.bill().total;
        call(&sim, dialect, &ask(true), "").await;
        until("the second charge", || sim.bill().requests == 2).await;
        assert_eq!(sim.bill().total, whole + whole, "{dialect}");
    }
}

/// The client hangs up in the middle of a stream: the input, and what was produced until then.
#[tokio::test]
async fn a_client_that_goes_away_pays_for_what_was_produced() {
    let sim = sim(|_| {}).await;
    call(&sim, "messages", &ask(true), "").await;
    until("the whole charge", || sim.bill().requests == 1).await;
    let whole = sim.bill().entries[0].clone();
    let (path, version) = head("messages");
    let request = post(path, &format!("{version}x-sim-fault: slow-chunks:30\r\n"), &ask(true).to_string());
    let mut stream = open(&sim, &request).await;
    let mut got = Vec::new();
    while !String::from_utf8_lossy(&got).contains("text_delta") {
        assert_ne!(stream.read_buf(&mut got).await.unwrap(), 0);
    }
    drop(stream);
    until("the charge for the part", || sim.bill().requests == 2).await;
    let part = sim.bill().entries[1].clone();
    assert_eq!((part.input_tokens, part.complete), (whole.input_tokens, false));
    assert!(part.output_tokens > 0 && part.output_tokens < whole.output_tokens, "{part:?}");
}

/// The client hangs up while it waits: nothing for what was not taken up, the input for what was.
#[tokio::test]
async fn hangs_end_when_the_client_goes_away() {
    let sim = sim(|_| {}).await;
    let (path, version) = head("chat");
    for (fault, charges) in
        [("hang-before-headers", 0), ("hang-after-headers", 1), ("slow-first-token:600000", 2)]
    {
        let before = sim.requests().len();
        let request = post(path, &format!("{version}x-sim-fault: {fault}\r\n"), &ask(true).to_string());
        let mut stream = open(&sim, &request).await;
        if fault != "hang-before-headers" {
            assert_ne!(stream.read_buf(&mut Vec::new()).await.unwrap(), 0);
        }
        until("the request", || sim.requests().len() == before + 1).await;
        drop(stream);
        until("the charge", || sim.bill().requests == charges).await;
    }
    let bill = sim.shutdown().await;
    assert_eq!(bill.output_tokens, 0);
    assert_eq!(bill.input_tokens, 2 * bill.entries[0].input_tokens);
}

#[tokio::test]
async fn lost_answers_and_wrong_usage_are_billed() {
    let sim = sim(|_| {}).await;
    call(&sim, "messages", &ask(false), "").await;
    until("the first charge", || sim.bill().requests == 1).await;
    let whole = sim.bill().total;
    assert_eq!(call(&sim, "messages", &ask(false), "cut-before-body").await.status, 0);
    until("the lost answer's charge", || sim.bill().requests == 2).await;
    assert_eq!(sim.bill().total, whole + whole);
    sim.enqueue("sim", Fault::WrongUsage { times: 10 });
    let told =
        call(&sim, "messages", &ask(false), "").await.json()["usage"]["output_tokens"].as_u64().unwrap();
    until("the overrun", || sim.bill().requests == 3).await;
    let last = sim.bill().entries[2].clone();
    assert_eq!((last.cost.nanos(), last.output_tokens), (whole.nanos() * 10, told));
}

/// An overrun is in the bill, also when the client leaves long before the usage is told.
#[tokio::test]
async fn an_overrun_is_billed_in_full_wherever_the_client_leaves() {
    let sim = sim(|config| config.frame_ms = 20).await;
    let (path, version) = head("messages");
    call(&sim, "messages", &ask(true), "").await;
    until("the plain charge", || sim.bill().requests == 1).await;
    let plain = sim.bill().total;
    for last in ["message_start", "text_delta", "message_stop"] {
        let charges = sim.bill().requests;
        let request =
            post(path, &format!("{version}x-sim-fault: wrong-usage:10\r\n"), &ask(true).to_string());
        let mut stream = open(&sim, &request).await;
        let mut got = Vec::new();
        while !String::from_utf8_lossy(&got).contains(last) {
            assert_ne!(stream.read_buf(&mut got).await.unwrap(), 0);
        }
        drop(stream);
        until("the charge", || sim.bill().requests > charges).await;
        assert_eq!(sim.bill().entries.back().unwrap().cost.nanos(), plain.nanos() * 10, "left at {last}");
    }
}

#[tokio::test]
async fn what_stands_before_a_mark_is_cached() {
    let sim = sim(|_| {}).await;
    let system = "You count words. ".repeat(40);
    let asked = |question: &str| {
        let mut body = ask(false);
        body["system"] =
            serde_json::json!([{"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}]);
        body["messages"][0]["content"] = question.into();
        body
    };
    let mut told = Vec::new();
    for question in ["How many roads?", "How many seas?"] {
        told.push(call(&sim, "messages", &asked(question), "").await.json()["usage"].clone());
    }
    until("both charges", || sim.bill().requests == 2).await;
    let kept = u64::try_from(system.len().div_ceil(4)).unwrap();
    let counts = |usage: &serde_json::Value| {
        ["cache_creation_input_tokens", "cache_read_input_tokens"]
            .map(|field| usage[field].as_u64().unwrap_or(0))
    };
    assert_eq!(told.iter().map(counts).collect::<Vec<_>>(), [[kept, 0], [0, kept]], "{told:?}");
    let bill = sim.bill();
    assert_eq!((bill.cache_write_tokens, bill.cache_read_tokens), (kept, kept));
    let (first, second) = (&bill.entries[0], &bill.entries[1]);
    assert!(first.input_tokens < 10 && second.input_tokens < 10, "{bill:?}");
    let price = ModelSpec::defaults()[0].price;
    let used = |charge: &backstop_sim::Charge| Usage {
        input_tokens: charge.input_tokens,
        output_tokens: charge.output_tokens,
        cache_read_tokens: charge.cache_read_tokens,
        cache_write_tokens: charge.cache_write_tokens,
        ..Usage::default()
    };
    assert_eq!((first.cost, second.cost), (price.cost(&used(first)), price.cost(&used(second))));
    assert!(second.cost < first.cost, "reading is a tenth of the price");
    sim.reset();
    call(&sim, "messages", &asked("How many seas?"), "").await;
    until("the charge", || sim.bill().requests == 1).await;
    assert_eq!(sim.bill().cache_read_tokens, 0, "a reset forgets the cache");
}
