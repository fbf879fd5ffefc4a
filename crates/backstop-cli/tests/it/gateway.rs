//! `backstop serve` as an operator knows it: who may come, how it ends, a new config, and what a `kill -9` leaves behind.

use super::kit::{Place, block_on, until};
use super::provider::Simulated;
use super::serving::{Caller, Serving, ask, body};
use backstop::{Backstop, Settings};
use backstop_allowance::{Account, Balance, Scope};
use backstop_call::Money;
use backstop_journal::{EventBody, StreamId};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What the books hold once nobody works on them any more.
struct Books {
    settled: BTreeMap<String, Money>,
    suspended: BTreeMap<String, Money>,
    balance: Balance,
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

fn books(place: &Place) -> Books {
    let settings = Settings {
        store: backstop::Place::File(place.path().join(".backstop/backstop.db")),
        ..Settings::default()
    };
    block_on(async {
        let backstop = Backstop::open(settings).await.unwrap();
        let (mut settled, mut suspended) = (BTreeMap::new(), BTreeMap::new());
        for event in backstop.journal().read(&StreamId::Ledger, 0).await.unwrap() {
            for (reservation, cost) in settlements(&event.body) {
                assert_eq!(settled.insert(reservation, cost), None, "settled once");
            }
            if let EventBody::MoneySuspended(event) = event.body {
                suspended.insert(event.reservation.to_string(), event.amount);
            }
        }
        let account = Account::today(Scope::Total, backstop.clock().now());
        let balance = backstop.ledger().balance(account).await.unwrap();
        Books { settled, suspended, balance }
    })
}

#[test]
fn other_machines_are_served_only_with_keys() {
    let place = Place::new();
    let done = place.run(&["serve", "--model", "sim", "--listen", "0.0.0.0:0"]);
    assert_eq!(done.code, 2, "{}", done.shown());
    assert!(done.err.contains("error[BS6013]") && done.err.contains("backstop keys create"), "{}", done.err);
    let done = place.run(&["serve", "--model", "sim", "--listen", "[::]:0"]);
    assert!(done.code == 2 && done.err.contains("error[BS6013]"), "{}", done.err);
}

#[test]
fn on_this_machine_it_serves_without_keys_and_says_so() {
    let (place, provider) = (Place::new(), Simulated::start(|_| ()));
    provider.config(&place, "");
    let serving = Serving::start(&place);
    serving.says("there are no keys, so only this machine may call");
    let (status, text) = ask(serving.addr, &body("m", false));
    assert_eq!(status, 200, "{text}");
    let done = serving.stop(&place);
    assert_eq!(done.code, 0, "{}", done.shown());
}

/// SIGTERM: the stream under way ends well, nobody new is let in, nothing is left unsettled, and it is a good end.
#[test]
fn sigterm_lets_calls_end_and_leaves_nothing_unsettled() {
    let place = Place::new();
    let provider = Simulated::start(|config| config.frame_ms = 30);
    provider.config(&place, "[budgets]\nday = \"$50.00\"\n");
    let serving = Serving::start(&place);
    for _ in 0..10 {
        assert_eq!(ask(serving.addr, &body("m", false)).0, 200);
    }
    let mut caller = Caller::connect(serving.addr).unwrap();
    caller.send(&body("m", true)).unwrap();
    assert_eq!(caller.head().map(|head| head.0), Some(200));
    let mut text = caller.chunk().unwrap();
    serving.signal(Signal::TERM);
    serving.says("ending: calls under way are let end");
    until("the end of new connections", || Caller::connect(serving.addr).is_none().then_some(()));
    loop {
        match caller.chunk() {
            Some(chunk) if chunk.is_empty() => break,
            Some(chunk) => text.push_str(&chunk),
            None => panic!("the stream was cut: {text}"),
        }
    }
    assert!(text.contains("message_stop"), "{text}");
    let done = serving.ended(&place);
    assert_eq!(done.code, 0, "{}", done.shown());
    assert!(!done.err.contains("warning"), "{}", done.err);
    let (bill, books) = (provider.shutdown(), books(&place));
    assert_eq!(
        (books.balance.settled, books.balance.suspense, books.balance.reserved),
        (bill.total, Money::ZERO, Money::ZERO)
    );
    let store = place.store().unwrap();
    let calls = block_on(backstop_journal::Journal::read(&store, &StreamId::Calls, 0)).unwrap();
    assert_eq!(calls.iter().filter(|event| event.body.kind() == "call.finished").count(), 11);
}

/// SIGHUP: the models change without a request being dropped; a config that is wrong changes nothing and is told.
#[test]
fn sighup_takes_a_new_config_and_keeps_the_old_one_when_it_is_wrong() {
    let (place, provider) = (Place::new(), Simulated::start(|_| ()));
    provider.config(&place, "");
    let serving = Serving::start(&place);
    let (go_on, failed) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let asking = std::thread::spawn({
        let (go_on, failed, addr) = (Arc::clone(&go_on), Arc::clone(&failed), serving.addr);
        move || {
            let mut caller = Caller::connect(addr).unwrap();
            while go_on.load(Ordering::Relaxed) {
                // Every config has one of them.
                let answers = [caller.ask(&body("m", false)), caller.ask(&body("n", true))];
                let good = answers.iter().flatten().any(|(status, _)| *status == 200);
                let whole = answers
                    .iter()
                    .all(|answer| answer.as_ref().is_some_and(|(status, _)| [200, 404].contains(status)));
                failed.fetch_add(usize::from(!good || !whole), Ordering::Relaxed);
            }
        }
    });
    let text = place.read("backstop.toml");
    place.write(
        "backstop.toml",
        text.replace("models.m]", "models.n]").replace("model = \"m\"", "model = \"n\""),
    );
    serving.signal(Signal::HUP);
    serving.says("the config was read anew");
    assert_eq!((ask(serving.addr, &body("n", false)).0, ask(serving.addr, &body("m", false)).0), (200, 404));
    place.write("backstop.toml", "[providers.p]\ndialekt = \"messages\"\n");
    serving.signal(Signal::HUP);
    serving.says("the config stays as it was");
    assert!(serving.said().contains("error[BS1002]"), "{}", serving.said());
    assert_eq!(ask(serving.addr, &body("n", false)).0, 200);
    go_on.store(false, Ordering::Relaxed);
    asking.join().unwrap();
    assert_eq!(failed.load(Ordering::Relaxed), 0, "requests were dropped");
    assert_eq!(serving.stop(&place).code, 0);
}

/// BerriAI/litellm#38157, #34805, #34820: spending that was not written yet was lost. Here the process is killed three times
/// under load; the provider's bill is in the books, entry by entry.
#[test]
fn after_kill_9_under_load_the_books_hold_all_that_was_billed() {
    let place = Place::new();
    let provider = Simulated::start(|config| config.frame_ms = 2);
    provider.config(&place, "[budgets]\nday = \"$50.00\"\n[journal]\n");
    let (mut answered, mut cut) = (0, 0);
    for round in 1..=3 {
        let serving = Serving::start(&place);
        let clients: Vec<_> = (0..6)
            .map(|n| {
                let addr = serving.addr;
                std::thread::spawn(move || {
                    let mut caller = Caller::connect(addr).unwrap();
                    let mut answered = 0;
                    while let Some((status, _)) = caller.ask(&body("m", n % 2 == 0)) {
                        assert_eq!(status, 200);
                        answered += 1;
                    }
                    answered
                })
            })
            .collect();
        until("enough requests", || (provider.sim.requests().len() >= 120 * round).then_some(()));
        serving.signal(Signal::KILL);
        serving.ended(&place);
        answered += clients.into_iter().map(|client| client.join().unwrap()).sum::<usize>();
        cut += 6;
    }
    // The one who comes after accounts for the dead, and serves.
    let serving = Serving::start(&place);
    assert_eq!(ask(serving.addr, &body("m", false)).0, 200);
    assert_eq!(serving.stop(&place).code, 0);
    let asked: BTreeSet<String> =
        provider.sim.requests().into_iter().filter_map(|seen| seen.client_request_id).collect();
    let bill = provider.shutdown();
    let books = books(&place);
    let spent = books.balance.settled + books.balance.suspense;
    println!(
        "{answered} answered, {cut} cut; billed {}, settled {}, suspense {}",
        bill.total, books.balance.settled, books.balance.suspense
    );
    assert!(answered > 100, "{answered}");
    assert!(bill.total <= spent, "billed {}, in the books {spent}", bill.total);
    assert_eq!(books.balance.reserved, Money::ZERO, "nothing stays held");
    let mut billed = BTreeSet::new();
    for charge in &bill.entries {
        let reservation = charge.client_request_id.clone().unwrap();
        match (books.settled.get(&reservation), books.suspended.get(&reservation)) {
            (Some(cost), None) => assert_eq!(*cost, charge.cost, "{reservation}"),
            (None, Some(most)) => assert!(*most >= charge.cost, "{reservation}: {most} for {}", charge.cost),
            both => panic!("{reservation} was billed {} and is in the books as {both:?}", charge.cost),
        }
        assert!(billed.insert(reservation), "no attempt was sent twice");
    }
    // Every entry in suspense names its attempt. The provider knows it, or it is one of those that had no time to leave.
    let unknown = books.suspended.keys().filter(|reservation| !asked.contains(*reservation)).count();
    assert!(unknown <= cut, "{unknown} of {:?}", books.suspended);
    assert!(books.suspended.values().all(|amount| *amount > Money::ZERO));
    println!("{} in suspense", books.suspended.len());
}
