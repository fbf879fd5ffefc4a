//! The simulated provider over real HTTP: every dialect on one address, several providers by path prefix, its own bill.
//! What it answers is decided in [`crate::answer`], the fault in [`crate::Schedule`], the bytes in `script`; here are
//! only the connections and their ends.

mod body;
mod route;
mod script;
mod threads;
mod validate;

use crate::bill::Books;
use crate::cache::Cache;
use crate::{Bill, Fault, Scenario, Schedule, Seen};
use backstop_call::{Clock, Money, Price, Secret, Timestamp};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use threads::Threads;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

/// The header by which a test asks for a fault: `NAME` or `NAME:ARG`.
pub const FAULT_HEADER: &str = "x-sim-fault";

/// The provider that is asked when the path has no prefix.
pub const DEFAULT_PROVIDER: &str = "sim";

/// A model that the simulated provider serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSpec {
    /// Its id.
    pub id: String,
    /// What it costs.
    pub price: Price,
    /// How much fits into its context, in tokens.
    pub context_tokens: u64,
    /// The most it writes at once, in tokens.
    pub output_tokens_max: u64,
}

impl ModelSpec {
    /// What is served by default: `sim` (3 and 15 dollars per million tokens, a window of 200,000) and `sim-small`
    /// (0.25 and 1.25 dollars, a window of 8,000). Input that is written to the cache costs what other input costs, and
    /// what is read from it a tenth.
    pub fn defaults() -> Vec<Self> {
        let cents = |cents: i64| Money::from_nanos(cents * 10_000_000);
        let price = |input, output| Price {
            input: cents(input),
            output: cents(output),
            cache_read: Money::from_nanos(cents(input).nanos() / 10),
            cache_write: cents(input),
            ..Price::FREE
        };
        vec![
            Self {
                id: "sim".into(),
                price: price(300, 1_500),
                context_tokens: 200_000,
                output_tokens_max: 64_000,
            },
            Self {
                id: "sim-small".into(),
                price: price(25, 125),
                context_tokens: 8_000,
                output_tokens_max: 4_000,
            },
        ]
    }
}

/// How a simulated provider is set up.
#[derive(Clone)]
pub struct SimConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What all choices are drawn from.
    pub seed: u64,
    /// Which fault hits which request.
    pub scenario: Scenario,
    /// The models it serves.
    pub models: Vec<ModelSpec>,
    /// The keys it takes; with none, it takes any and asks for none.
    pub keys: Vec<Secret>,
    /// Whether it keeps message threads (a beta of Messages).
    pub threads: bool,
    /// Between the frames of a stream, in milliseconds.
    pub frame_ms: u64,
    /// Where `created`, HTTP dates and rate-limit resets come from.
    pub clock: Arc<dyn Clock>,
}

impl SimConfig {
    /// A calm provider on a free loopback port, with the default models and no keys.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            seed: 0,
            scenario: Scenario::named("calm").expect("it is built in"),
            models: ModelSpec::defaults(),
            keys: Vec::new(),
            threads: false,
            frame_ms: 0,
            clock,
        }
    }
}

/// Why a simulated provider does not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct StartError {
    /// Where it was to listen.
    pub address: SocketAddr,
    /// Why it cannot.
    pub source: std::io::Error,
}

/// What all connections share.
pub(crate) struct Desk {
    config: SimConfig,
    books: Books,
    schedule: Mutex<Schedule>,
    cache: Cache,
    threads: Threads,
    started: Timestamp,
}

impl Desk {
    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what was asked, charged and cached; the schedule begins anew.
    fn reset(&self) {
        self.books.reset();
        self.schedule().reset();
        self.cache.clear();
        self.threads.clear();
    }
}

/// A running simulated provider. Dropping it ends it, and every hang on it.
pub struct Sim {
    address: SocketAddr,
    desk: Arc<Desk>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Sim {
    /// Listens and serves until [`Sim::shutdown`].
    pub async fn start(config: SimConfig) -> Result<Self, StartError> {
        let address = config.listen;
        let failed = |source| StartError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let schedule = Mutex::new(Schedule::new(config.scenario.clone(), config.seed));
        let started = config.clock.now();
        let desk = Arc::new(Desk {
            config,
            books: Books::default(),
            schedule,
            cache: Cache::default(),
            threads: Threads::default(),
            started,
        });
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, Arc::clone(&desk), stopped));
        Ok(Self { address, desk, stop: Some(stop), task })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The base URL of one of the providers it plays.
    pub fn base_url(&self, provider: &str) -> String {
        format!("http://{}/p/{provider}", self.address)
    }

    /// What it charged so far. A request is charged for when its answer ends, is cut or nobody reads it any more.
    pub fn bill(&self) -> Bill {
        self.desk.books.bill()
    }

    /// What it was asked, oldest first: the newest 10,000.
    pub fn requests(&self) -> Vec<Seen> {
        self.desk.books.seen()
    }

    /// Puts a fault in line for the next request to a provider.
    pub fn enqueue(&self, provider: &str, fault: Fault) {
        self.desk.schedule().enqueue(provider, fault);
    }

    /// Forgets the bill, the requests and what the schedule has counted.
    pub fn reset(&self) {
        self.desk.reset();
    }

    /// Ends it: closes every connection, hanging ones too, and waits until all are closed and charged for.
    pub async fn shutdown(mut self) -> Bill {
        if let Some(stop) = self.stop.take() {
            // The receiver is gone only when the task has ended already.
            let _ = stop.send(());
        }
        // It ends by itself; an error would be a panic in it, which its own output tells.
        let _ = (&mut self.task).await;
        self.desk.books.bill()
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Accepts connections until it is told to stop; then ends them all.
async fn serve(listener: TcpListener, desk: Arc<Desk>, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                // An error here is about one connection that came and went, or too many open files: both pass.
                if let Ok((stream, _)) = accepted {
                    connections.spawn(connection(stream, Arc::clone(&desk)));
                }
            }
        }
    }
    connections.shutdown().await;
}

async fn connection(stream: TcpStream, desk: Arc<Desk>) {
    // Without it small frames wait for each other; a system that refuses it only makes them later.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let desk = Arc::clone(&desk);
        async move { route::answer(&desk, request).await }
    });
    // A connection that is cut on purpose ends in an error here: that is the point.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
