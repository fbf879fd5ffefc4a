//! What a key costs a request: finding it by its secret among a thousand, checking it, taking and giving back a place in
//! its limits. The floor is the hash of the secret, which whoever keeps no secrets must compute.
//! Run with `cargo bench -p backstop-server --bench keys`.
#![expect(clippy::print_stdout, reason = "a benchmark tells what it measured")]

use backstop_call::{Context, KeyLimits, Labels, Money, Priority, Timestamp};
use backstop_journal::event::{KeyHash, KeyRight, KeyScope};
use backstop_server::keys::{Asking, KeyWatch, NewKey, admit, create};
use backstop_store::MemoryStore;
use std::hint::black_box;
use std::time::Duration;
use tokio::time::Instant;

const KEYS: usize = 1_000;
/// Batches of one request with each key.
const BATCHES: usize = 200;
const ROUNDS: usize = 3;
/// The most that finding, checking and taking a place may cost, in nanoseconds.
const TARGET_NANOS: u128 = 1_000;

const START: Timestamp = Timestamp::from_secs(1_795_348_800);

/// As narrow as a key can be, with limits that the benchmark does not reach.
fn scope() -> KeyScope {
    KeyScope {
        right: KeyRight::Call,
        role: Some("clerk".into()),
        models: vec!["gpt-5-*".into(), "claude-opus-*".into(), "claude-haiku-*".into()],
        agents: Vec::new(),
        budget: KeyLimits { day: Some(Money::from_dollars(5)), whole: Some(Money::from_dollars(100)) },
        requests_per_minute: Some(1_000_000_000),
        tokens_per_minute: Some(1_000_000_000_000),
        concurrent: Some(64),
        from: ["192.168.0.0/16", "2001:db8::/32", "10.0.0.0/8"]
            .map(|range| range.parse().expect("a range"))
            .into(),
        environment: Some("prod".into()),
        priority: Some(Priority::Batch),
        labels: Labels::untrusted(),
        expires: Some(START + Duration::from_hours(24 * 365)),
    }
}

async fn ring() -> (KeyWatch, Vec<String>) {
    let journal = MemoryStore::new();
    let mut secrets = Vec::new();
    for n in 0..KEYS {
        let new = NewKey { name: format!("key-{n}").into(), scope: scope(), by: "bench".to_owned() };
        secrets.push(create(&journal, new, START).await.expect("a key").secret.expose().to_owned());
    }
    (KeyWatch::open(&journal).await.expect("a ring"), secrets)
}

/// The time of one, in nanoseconds: the median of many batches, so that a machine that does something else meanwhile
/// moves it little.
fn measure(secrets: &[String], mut one: impl FnMut(&str, Timestamp)) -> u128 {
    let (mut now, mut batches) = (START, Vec::with_capacity(BATCHES));
    for _ in 0..BATCHES {
        let began = Instant::now();
        for secret in secrets {
            now = now + Duration::from_micros(20);
            one(black_box(secret), now);
        }
        batches.push(began.elapsed().as_nanos() / secrets.len() as u128);
    }
    batches.sort_unstable();
    batches[BATCHES / 2]
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (watch, secrets) = ring().await;
    let ring = watch.ring();
    let peer = "10.1.2.3".parse().expect("an address");
    let asking =
        Asking { peer, environment: Some("prod"), right: KeyRight::Call, model: Some("claude-haiku-4-5") };
    println!("{KEYS} keys, nanoseconds a request");
    for round in 1..=ROUNDS {
        let floor = measure(&secrets, |secret, _| {
            black_box(KeyHash::of(secret));
        });
        let find = measure(&secrets, |secret, now| drop(black_box(ring.find(secret, now))));
        let whole = measure(&secrets, |secret, now| {
            let key = ring.find(secret, now).expect("it is good");
            let admitted = admit(key, &asking).expect("it is for this");
            black_box(admitted.key().first_use(peer));
            let pass = admitted.enter(now, 1_000).expect("there is room");
            black_box(&pass);
            pass.settle(700);
        });
        let context = measure(&secrets, |secret, now| {
            let admitted =
                admit(ring.find(secret, now).expect("it is good"), &asking).expect("it is for this");
            black_box(admitted.context(Context::default()));
        });
        println!(
            "round {round}  hash {floor}  find {find}  find, admit, enter, settle {whole}  find, admit, context {context}"
        );
        if round == ROUNDS {
            let verdict = if whole < TARGET_NANOS { "PASS" } else { "MISS" };
            println!("{verdict}: a key costs a request {whole} ns, less than {TARGET_NANOS} wanted");
        }
    }
}
