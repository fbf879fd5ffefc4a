//! What the tests stand on: a leaf that plays a script, and a stack over it.

use backstop_allowance::{Account, Balance, Budget, Ledger, Per, Scope};
use backstop_call::{
    Block, BoxFuture, Call, Chunk, Clock, Closed, ContentDelta, Context, Failure, FailureKind, LimitHint,
    Message, Model, Money, Price, Progress, Reply, Request, Secret, Seed, Sink, Speaker, StopReason,
    Timestamp, Usage, deliver,
};
use backstop_journal::{Event, Journal, StreamId};
use backstop_label::ModelPlace;
use backstop_stack::{Config, Limits, Parts, Stack, SystemClock, Target, stack};
use backstop_store::{MemoryLedger, MemoryStore};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

/// What the leaf does with one call.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Answers with this text.
    Answer(&'static str),
    /// Fails like this.
    Fail(Failure),
    /// Sends the lifecycle and so many words, then fails like this.
    FailAfter(usize, Failure),
    /// Sends so many words, then nothing more.
    HangAfter(usize),
}

/// A leaf that plays its script, then answers `ok`.
pub(crate) struct Script {
    acts: Mutex<VecDeque<Act>>,
    /// The requests that reached it.
    pub(crate) seen: Mutex<Vec<(u32, Arc<Request>)>>,
}

impl Script {
    pub(crate) fn new(acts: impl IntoIterator<Item = Act>) -> Arc<Self> {
        Arc::new(Self { acts: Mutex::new(acts.into_iter().collect()), seen: Mutex::default() })
    }

    pub(crate) fn calls(&self) -> usize {
        self.seen.lock().expect("no test panics with it").len()
    }
}

pub(crate) const USAGE: Usage = Usage {
    input_tokens: 10,
    output_tokens: 20,
    cache_read_tokens: 0,
    cache_write_tokens: 0,
    reasoning_tokens: 0,
    estimated: false,
};

pub(crate) fn reply(text: &str) -> Reply {
    Reply {
        id: "m1".into(),
        model: "model".into(),
        content: vec![Block::text(text)],
        stop: StopReason::End,
        usage: USAGE,
        first_token: None,
        request_id: None,
        limits: LimitHint::default(),
        attempts: Vec::new(),
        other: serde_json::Map::new(),
        told: None,
        lost: Vec::new(),
    }
}

async fn words(sink: &mut dyn Sink, count: usize) -> Result<(), Failure> {
    let gone =
        |_: Closed| Failure::new(FailureKind::Cancelled, Progress::ResponseStarted, "the reader went away");
    let start = Chunk::Start { id: "m1".into(), model: "model".into() };
    deliver(sink, start).await.map_err(gone)?;
    deliver(sink, Chunk::Ping).await.map_err(gone)?;
    deliver(sink, Chunk::BlockStart { index: 0, block: Block::text("") }).await.map_err(gone)?;
    for _ in 0..count {
        let delta = ContentDelta::Text("word ".into());
        deliver(sink, Chunk::Delta { index: 0, delta }).await.map_err(gone)?;
    }
    Ok(())
}

impl Model for Script {
    fn call<'a>(&'a self, call: Call, sink: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        self.seen.lock().expect("no test panics with it").push((call.attempt, Arc::clone(&call.request)));
        let act = self.acts.lock().expect("no test panics with it").pop_front().unwrap_or(Act::Answer("ok"));
        Box::pin(async move {
            match act {
                Act::Answer(text) => {
                    if call.request.stream {
                        words(sink, 0).await?;
                        let delta = ContentDelta::Text(text.into());
                        let gone =
                            |_| Failure::new(FailureKind::Cancelled, Progress::ResponseStarted, "gone");
                        deliver(sink, Chunk::Delta { index: 0, delta }).await.map_err(gone)?;
                        deliver(sink, Chunk::BlockStop { index: 0 }).await.map_err(gone)?;
                        deliver(sink, Chunk::Stop { reason: StopReason::End }).await.map_err(gone)?;
                    }
                    Ok(reply(text))
                }
                Act::Fail(failure) => Err(failure),
                Act::FailAfter(count, failure) => {
                    words(sink, count).await?;
                    Err(failure)
                }
                Act::HangAfter(count) => {
                    words(sink, count).await?;
                    std::future::pending().await
                }
            }
        })
    }
}

/// Keeps every chunk.
#[derive(Default)]
pub(crate) struct Reader(pub(crate) Vec<Chunk>);

impl Reader {
    pub(crate) fn text(&self) -> String {
        let text = |chunk: &Chunk| match chunk {
            Chunk::Delta { delta: ContentDelta::Text(text), .. } => Some(text.clone()),
            _ => None,
        };
        self.0.iter().filter_map(text).collect()
    }
}

impl Sink for Reader {
    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Closed>> {
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, chunk: Chunk) {
        self.0.push(chunk);
    }
}

/// A dollar per thousand input tokens, ten per thousand output tokens: large numbers show.
pub(crate) const PRICE: Price = Price {
    input: Money::from_dollars(1_000),
    output: Money::from_dollars(10_000),
    cache_read: Money::ZERO,
    cache_write: Money::ZERO,
    request: Money::ZERO,
};

pub(crate) fn target(provider: &str, leaf: Arc<dyn Model>) -> Target {
    Target {
        provider: provider.into(),
        model: format!("{provider}-large"),
        place: ModelPlace::Cloud,
        price: Price::FREE,
        context_window: 100_000,
        max_output: 100,
        hidden_output: false,
        limits: Limits::default(),
        leaf,
    }
}

/// A stack with one chain named `main`, on a memory journal and ledger.
pub(crate) struct Bench {
    pub(crate) stack: Arc<Stack>,
    pub(crate) journal: MemoryStore,
    pub(crate) ledger: MemoryLedger,
    pub(crate) clock: Arc<dyn Clock>,
}

pub(crate) fn bench(targets: Vec<Target>) -> Bench {
    bench_with(targets, None, Config::default(), Vec::new())
}

pub(crate) fn bench_with(
    targets: Vec<Target>,
    total: Option<Money>,
    config: Config,
    secrets: Vec<Secret>,
) -> Bench {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::starting_at(Timestamp::from_secs(1_800_000_000)));
    let (journal, ledger) = (MemoryStore::new(), MemoryLedger::new());
    let budget = |limit| Budget { scope: Scope::Total, per: Per::Ever, limit };
    let parts = Parts {
        clock: Arc::clone(&clock),
        seed: Arc::new(Seed::new(7)),
        journal: Arc::new(journal.clone()),
        ledger: Arc::new(ledger.clone()),
        budgets: total.map(budget).into_iter().collect(),
        secrets,
        chains: vec![("main".into(), targets)],
        config,
    };
    Bench { stack: Arc::new(stack(parts)), journal, ledger, clock }
}

impl Bench {
    pub(crate) fn call(&self, stream: bool) -> Call {
        let request = Request {
            model: "main".into(),
            messages: vec![Message::text(Speaker::User, "hello")],
            stream,
            ..Request::default()
        };
        Call::new(
            "call".into(),
            Arc::new(request),
            Arc::new(Context::default()),
            self.clock.now() + Duration::from_mins(10),
        )
    }

    pub(crate) async fn ask(&self, call: Call) -> (Result<Reply, Failure>, Reader) {
        let mut reader = Reader::default();
        let result = self.stack.call(call, &mut reader).await;
        (result, reader)
    }

    pub(crate) async fn total(&self) -> Balance {
        self.ledger.balance(Account::whole(Scope::Total)).await.expect("a memory ledger answers")
    }

    pub(crate) async fn events(&self, stream: StreamId) -> Vec<Event> {
        self.journal.read(&stream, 0).await.expect("a memory journal answers")
    }

    pub(crate) async fn kinds(&self) -> Vec<&'static str> {
        self.events(StreamId::Calls).await.iter().map(|event| event.body.kind()).collect()
    }
}

pub(crate) fn failure(kind: FailureKind, progress: Progress) -> Failure {
    let mut failure = Failure::new(kind, progress, "it failed");
    failure.detail.unbilled = progress <= Progress::ResponseStarted;
    failure
}
