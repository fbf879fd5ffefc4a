//! What the whole stack adds to a call, over a leaf in this process: the bare leaf first, then the stack on a memory
//! journal and on SQLite, in one run. Run with `cargo bench -p backstop-stack --bench stack`.
#![expect(clippy::print_stdout, reason = "a benchmark tells what it measured")]

use backstop_allowance::{Budget, Per, Scope};
use backstop_call::{
    Block, BoxFuture, Call, CallId, Clock, Context, Discard, Failure, LimitHint, Message, Model, Money,
    Price, Reply, Request, Secret, Seed, Sink, Speaker, StopReason, Timestamp, Usage,
};
use backstop_journal::Journal;
use backstop_label::ModelPlace;
use backstop_stack::{Config, Limits, Parts, SystemClock, Target, stack};
use backstop_store::{MemoryLedger, MemoryStore, SqliteStore, StoreOptions};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const CALLS: usize = 20_000;
const ROUNDS: usize = 3;

struct Leaf;

impl Model for Leaf {
    fn call<'a>(&'a self, _: Call, _: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        Box::pin(async {
            Ok(Reply {
                id: "m1".to_owned(),
                model: "leaf".to_owned(),
                content: vec![Block::text("a short answer")],
                stop: StopReason::End,
                usage: Usage { input_tokens: 250, output_tokens: 20, ..Usage::default() },
                first_token: None,
                request_id: None,
                limits: LimitHint::default(),
                attempts: Vec::new(),
                other: serde_json::Map::new(),
                told: None,
                lost: Vec::new(),
            })
        })
    }
}

fn build(journal: Arc<dyn Journal>, clock: Arc<dyn Clock>) -> Arc<dyn Model> {
    let target = Target {
        provider: "local".into(),
        model: "leaf".into(),
        place: ModelPlace::Local,
        price: Price { input: Money::from_dollars(3), output: Money::from_dollars(15), ..Price::FREE },
        context_window: 200_000,
        max_output: 1_000,
        hidden_output: false,
        limits: Limits { concurrent: Some(64), ..Limits::default() },
        leaf: Arc::new(Leaf),
    };
    Arc::new(stack(Parts {
        clock,
        seed: Arc::new(Seed::new(7)),
        journal,
        ledger: Arc::new(MemoryLedger::new()),
        budgets: vec![Budget { scope: Scope::Total, per: Per::Day, limit: Money::from_dollars(1_000_000) }],
        secrets: vec![Secret::new("a-secret-that-is-looked-for-0123456789")],
        chains: vec![("main".into(), vec![target])],
        config: Config::default(),
    }))
}

/// p50 and p99 of one call, in nanoseconds.
async fn measure(model: &dyn Model, clock: &dyn Clock, seed: &Seed) -> (u128, u128) {
    // About a thousand bytes, as an agent's early turns have.
    let request = Arc::new(Request {
        model: "main".to_owned(),
        messages: vec![Message::text(Speaker::User, "please look at this file and tell me. ".repeat(27))],
        ..Request::default()
    });
    let mut took = Vec::with_capacity(CALLS);
    for i in 0..CALLS {
        let now = clock.now();
        let call = Call::new(
            CallId::new(now, seed.next_u64()),
            Arc::clone(&request),
            Arc::new(Context::default()),
            Timestamp::FAR,
        );
        let began = Instant::now();
        model.call(call, &mut Discard).await.expect("the leaf answers");
        took.push(began.elapsed().as_nanos());
        // The writer's thread shares two cores with us; a breath keeps its queue from being the measure.
        if i % 500 == 0 {
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
    took.sort_unstable();
    (took[CALLS / 2], took[CALLS * 99 / 100])
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    runtime.block_on(async {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let seed = Seed::new(1);
        let sqlite =
            SqliteStore::open(folder.path().join("bench.db"), StoreOptions::default()).expect("a database");
        let memory = build(Arc::new(MemoryStore::new()), Arc::clone(&clock));
        let sqlite = build(Arc::new(sqlite), Arc::clone(&clock));
        println!("{CALLS} calls one after the other, microseconds");
        for round in 1..=ROUNDS {
            let (bare, _) = measure(&Leaf, &*clock, &seed).await;
            for (name, model) in [("memory", &memory), ("sqlite", &sqlite)] {
                let (p50, p99) = measure(&**model, &*clock, &seed).await;
                println!(
                    "round {round}  {name}  bare p50 {:.2}  stack p50 {:.2}  p99 {:.2}  added p50 {:.2}",
                    micros(bare),
                    micros(p50),
                    micros(p99),
                    micros(p50.saturating_sub(bare))
                );
            }
        }
    });
}

fn micros(nanos: u128) -> f64 {
    f64::from(u32::try_from(nanos).unwrap_or(u32::MAX)) / 1_000.0
}
