//! A thousand calls against one dollar: five processes on one ledger, over real HTTP, with faults, callers who go away, and
//! processes that are killed. The provider keeps a bill of its own, and the books are held against it entry by entry.

use crate::support::{Seen, call, endpoint, settings};
use backstop::allowance::{Account, Budget, Per, Scope};
use backstop::call::{Dialect, FailureKind, Model, Money, Price, ReservationId, Seed, Timestamp};
use backstop::journal::{EventBody, StreamId};
use backstop::provider::Timeouts;
use backstop::stack::SystemClock;
use backstop::{Backstop, ModelSettings, Place, Settings};
use backstop_sim::{Bill, ModelSpec, Scenario, Sim, SimConfig};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const CALLS: usize = 1_000;
const PROCESSES: usize = 5;
const TRIES_MAX: usize = 30;
const WAVES_MAX: u64 = 20;
const LIMIT: Money = Money::from_dollars(1);

/// Where the children of the test find what they need: database, address of the sim, seed, number of calls.
const CHILD: &str = "BACKSTOP_TEST_SPENDER";

/// Every way that a call can end, often enough that each occurs, with enough whole answers between.
const TROUBLE: &str = r#"
name = "trouble"
description = "every way that a call can end"

[[rule]]
fault = "rate-limit:ms=5"
probability = 0.06

[[rule]]
fault = "server"
probability = 0.06

[[rule]]
fault = "cut-before-body"
probability = 0.01

[[rule]]
fault = "cut-at:40"
probability = 0.01

[[rule]]
fault = "missing-usage"
probability = 0.02

[[rule]]
fault = "wrong-usage:3"
probability = 0.02

[[rule]]
fault = "malformed-json"
probability = 0.01

[[rule]]
fault = "slow-first-token:40"
probability = 0.30
"#;

/// Twice the sim's own price, so that a dollar is not enough for all.
fn spec() -> ModelSpec {
    let price = Price { input: Money::from_dollars(6), output: Money::from_dollars(30), ..Price::FREE };
    ModelSpec { price, ..ModelSpec::defaults().remove(0) }
}

fn engine(database: &Path, url: &str) -> Settings {
    let model = |name: &str, dialect| {
        let mut endpoint = endpoint(url, name, dialect);
        endpoint.name = name.into();
        let mut model = ModelSettings::at(endpoint, name, &spec().id, Timestamp::EPOCH);
        model.price = spec().price;
        model.max_output = 60;
        model
    };
    let models = vec![model("a", Dialect::Messages), model("b", Dialect::Chat)];
    let budgets = vec![Budget { scope: Scope::Total, per: Per::Ever, limit: LIMIT }];
    // A slow machine must not look like a provider that hangs: that would end in suspense, and the test with it.
    let timeouts = Timeouts::default();
    Settings { store: Place::File(database.to_owned()), budgets, timeouts, ..settings(models) }
}

/// One process: so many calls at once, of which some are given up on the way. One that finds no room in the budget comes
/// again when another one has ended, so that the last cents are fought for. How many found no room in the end.
async fn spend(database: &Path, url: &str, seed: u64, calls: usize) -> usize {
    let backstop = Backstop::open(engine(database, url)).await.expect("a fresh or a shared database");
    let seed = Arc::new(Seed::new(seed));
    let (ended, mut turns) = (watch::Sender::new(0_usize), Vec::new());
    for _ in 0..calls {
        let (backstop, seed, ended) = (backstop.clone(), Arc::clone(&seed), ended.clone());
        turns.push(tokio::spawn(async move {
            let (mut others, mut refused) = (ended.subscribe(), true);
            for _ in 0..TRIES_MAX {
                let patience = if seed.below(25) == 0 { seed.below(60) } else { 30_000 };
                let (asked, mut seen) = (call(&backstop, seed.below(2) == 0), Seen::default());
                let answer = backstop.stack().call(asked, &mut seen);
                let answer = tokio::time::timeout(Duration::from_millis(patience), answer).await;
                refused = matches!(&answer, Ok(Err(failure)) if failure.kind == FailureKind::Budget);
                if !refused {
                    break;
                }
                // The time limit is for the last ones, who have nobody left to wait for.
                drop(tokio::time::timeout(Duration::from_millis(100), others.changed()).await);
            }
            ended.send_modify(|count| *count += 1);
            refused
        }));
    }
    let mut refused = 0;
    for turn in turns {
        refused += usize::from(turn.await.expect("no call panics"));
    }
    refused
}

/// Not a test of its own: what the children of the test below run.
#[tokio::test(flavor = "multi_thread")]
async fn spender() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let words: Vec<_> = told.split('|').collect();
    let number = |word: &str| word.parse::<u64>().expect("a number");
    let calls = usize::try_from(number(words[3])).expect("a small number");
    spend(Path::new(words[0]), words[1], number(words[2]), calls).await;
}

fn start(database: &Path, url: &str, seed: u64, calls: usize) -> Child {
    Command::new(std::env::current_exe().expect("a running test has a path"))
        .args(["money::spender", "--exact", "--test-threads=1"])
        .env(CHILD, format!("{}|{url}|{seed}|{calls}", database.display()))
        .stdout(Stdio::null())
        .spawn()
        .expect("the test starts itself")
}

/// Waits until the provider has been asked so often, or the child has ended.
async fn wait_for_requests(sim: &Sim, count: usize, child: &mut Child) {
    let mut look = tokio::time::interval(Duration::from_millis(2));
    while sim.requests().len() < count && child.try_wait().expect("our own child").is_none() {
        look.tick().await;
    }
}

/// Everything the ledger ever wrote, by reservation.
#[derive(Default)]
struct Books {
    settled: BTreeMap<ReservationId, Money>,
    suspended: BTreeMap<ReservationId, Money>,
    overrun: Money,
}

async fn books(backstop: &Backstop) -> Books {
    let mut books = Books::default();
    for event in backstop.journal().read(&StreamId::Ledger, 0).await.expect("the database is whole") {
        match event.body {
            EventBody::MoneySettled(event) => {
                books.overrun += event.overrun;
                assert_eq!(books.settled.insert(event.reservation, event.cost), None, "settled once");
            }
            EventBody::MoneyMoved(event) => {
                for (reservation, cost) in event.paid.into_iter().flat_map(|paid| paid.settled) {
                    assert_eq!(books.settled.insert(reservation, cost), None, "settled once");
                }
            }
            EventBody::MoneySuspended(event) => {
                assert_eq!(books.suspended.insert(event.reservation, event.amount), None, "suspended once");
            }
            _ => {}
        }
    }
    books
}

fn billed(bill: &Bill) -> BTreeMap<ReservationId, Money> {
    let entry = |charge: &backstop_sim::Charge| {
        let reservation = charge.client_request_id.clone().expect("the leaf names each attempt");
        (ReservationId::from(reservation), charge.cost)
    };
    let billed: BTreeMap<_, _> = bill.entries.iter().map(entry).collect();
    assert_eq!(billed.len(), bill.entries.len(), "no attempt was sent twice");
    billed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_calls_never_cost_more_than_their_dollar() {
    let seed: u64 = std::env::var("BACKSTOP_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(11);
    println!("BACKSTOP_SEED={seed}");
    let dir = tempfile::tempdir().expect("a directory");
    let database = dir.path().join("journal.db");
    let mut config = SimConfig::new(Arc::new(SystemClock::new()));
    config.scenario = Scenario::parse(TROUBLE, "trouble.toml").expect("a scenario");
    config.models = vec![spec()];
    config.seed = seed;
    let sim = Sim::start(config).await.expect("a free loopback port");
    let url = format!("http://{}", sim.addr());

    let each = CALLS / PROCESSES;
    let mut children: Vec<_> =
        (0..PROCESSES as u64).map(|n| start(&database, &url, seed * 100 + n, each)).collect();
    // Three of them die on the way, at moments that the provider's own count decides.
    for (victim, child) in children.iter_mut().take(3).enumerate() {
        wait_for_requests(&sim, 150 * (victim + 1), child).await;
        child.kill().expect("our own child");
    }
    // Others come in their places, account for the dead, and go on.
    children.extend((5..8).map(|n| start(&database, &url, seed * 100 + n, each)));
    for mut child in children {
        child.wait().expect("our own child");
    }

    // What is left is spent to the last call that fits, so that the limit itself is what stops it.
    let mut refused = 0;
    for wave in 0..WAVES_MAX {
        if refused == 0 {
            refused = spend(&database, &url, seed * 1_000 + wave, each).await;
        }
    }

    // The next one to open the database accounts for the dead.
    let backstop = Backstop::open(engine(&database, &url)).await.expect("the database is whole");
    let bill = sim.shutdown().await;
    let before = books(&backstop).await;
    let billed = billed(&bill);
    let account = Account::whole(Scope::Total);
    let balance = backstop.ledger().balance(account.clone()).await.expect("the ledger reads");
    println!(
        "billed {}, settled {}, suspense {}, overruns {}",
        bill.total, balance.settled, balance.suspense, before.overrun
    );
    assert!(
        bill.total <= LIMIT + before.overrun,
        "never more than the dollar and the overruns that are told"
    );
    let spent = balance.settled + balance.suspense;
    assert!(spent <= LIMIT + before.overrun);
    assert_eq!(balance.reserved, Money::ZERO, "nothing stays held");

    // What is settled is what the provider billed, to the nano-dollar; what it billed beside that is in suspense.
    for (reservation, cost) in &before.settled {
        assert_eq!(billed.get(reservation), Some(cost), "{reservation}");
    }
    let mut overrun = before.overrun;
    for (reservation, cost) in &billed {
        if !before.settled.contains_key(reservation) {
            let most = before.suspended.get(reservation);
            let most = most.unwrap_or_else(|| panic!("{reservation} was billed {cost} and is in no book"));
            overrun += (*cost - *most).max(Money::ZERO);
        }
    }
    assert!(bill.total <= LIMIT + overrun, "never more than the dollar and the overruns that are told");

    assert!(refused > 0, "the dollar was spent to its end, or this test shows nothing");

    // Corrected by the provider's own report, the books are its bill.
    for (reservation, _) in backstop.ledger().suspense().await.expect("the ledger reads") {
        let actual = billed.get(&reservation).copied().unwrap_or_default();
        let corrected = backstop.ledger().correct(reservation.clone(), actual, backstop.clock().now()).await;
        assert!(corrected.expect("the ledger writes").is_some(), "{reservation}");
    }
    let balance = backstop.ledger().balance(account).await.expect("the ledger reads");
    assert_eq!((balance.settled, balance.suspense), (bill.total, Money::ZERO));
}
