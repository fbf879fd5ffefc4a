//! The gateway: an agent in any language sets one address and every model call of it goes through the stack. Owned here: the
//! routes, who comes in, how a request becomes a call and an answer a response. It has no way round the stack, speaks no
//! dialect itself and keeps no state that the journal does not tell, but for what is under way.

pub(crate) mod answer;
pub(crate) mod approvals;
mod body;
mod bound;
mod call;
mod context;
pub(crate) mod engine;
mod health;
mod left;
mod listen;
pub(crate) mod models;
mod names;
mod patient;
pub(crate) mod route;
mod stream;
pub(crate) mod tasks;
pub(crate) mod visit;

pub use crate::dashboard::Live;
pub use approvals::{ApprovalsParts, BadHook, Bell, BellLimits, Hook, LinkKey, Notices};
pub use engine::EngineParts;
pub use listen::{Drained, serve};
pub use route::{Path, paths};

use crate::dashboard::{Dashboard, Page as DashboardPage};
use crate::jobs::JobBook;
use crate::keys::{KeyRing, KeyWatch};
use crate::numbers::Numbers;
use answer::Reply;
use approvals::Approvals;
use backstop::Backstop;
use backstop_call::{Clock, Code, Dialect, Failure, FailureKind, Progress, Timestamp};
use backstop_journal::event::KeyFirstUsedFrom;
use backstop_journal::{Append, Durability, JournalError, StreamId};
use body::Room;
use bound::Threads;
use call::Inlet;
use engine::Engine;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use left::Left;
use models::Page;
use route::{Found, Route};
use serde_json::json;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use visit::Visit;

/// How much the gateway takes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayLimits {
    /// The largest body, in bytes.
    pub body_bytes_max: usize,
    /// All bodies above 64 KiB together, in bytes.
    pub bodies_bytes_max: usize,
    /// Connections at once; more wait in the system's queue.
    pub connections_max: usize,
    /// Calls at once; more are told to come again.
    pub calls_max: usize,
    /// The longest time for a request's head, between two pieces of its body, and for a client to take what is there.
    pub idle: Duration,
    /// The longest time of a call.
    pub call: Duration,
    /// How long calls under way may take when the process is asked to end.
    pub drain: Duration,
}

/// What a gateway is made from.
pub struct GatewayParts {
    /// The engine that answers.
    pub backstop: Backstop,
    /// What it was opened with, and the names for it.
    pub engine: EngineParts,
    /// How much it takes.
    pub limits: GatewayLimits,
    /// The environment that keys may be bound to.
    pub environment: Option<String>,
    /// The directory whose disk must have room.
    pub data_dir: PathBuf,
    /// The figures.
    pub numbers: Numbers,
    /// The jobs.
    pub jobs: JobBook,
    /// Where people answer what agents ask.
    pub approvals: ApprovalsParts,
    /// What pages that are open are told by, while agents work.
    pub live: Live,
}

/// A gateway that is open.
pub struct Gateway {
    pub(crate) backstop: Backstop,
    pub(crate) clock: Arc<dyn Clock>,
    limits: GatewayLimits,
    environment: Option<String>,
    data_dir: PathBuf,
    pub(crate) numbers: Numbers,
    pub(crate) jobs: JobBook,
    pub(crate) approvals: Approvals,
    pub(crate) dashboard: Dashboard,
    since: Timestamp,
    engine: RwLock<Arc<Engine>>,
    /// Held by whoever makes the next engine.
    changing: tokio::sync::Mutex<()>,
    ring: RwLock<Arc<KeyRing>>,
    watch: tokio::sync::Mutex<KeyWatch>,
    room: Room,
    threads: Mutex<Threads>,
    left: Left,
    calls: AtomicUsize,
    draining: AtomicBool,
}

/// A call's place among those under way. Dropped, it is free again.
pub(crate) struct Place(Arc<Gateway>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gateway {
    /// Opens a gateway. Its keys are read from the journal.
    pub async fn open(parts: GatewayParts) -> Result<Arc<Self>, JournalError> {
        let GatewayParts { backstop, engine, limits, environment, data_dir, numbers, jobs, approvals, live } =
            parts;
        let watch = KeyWatch::open(&**backstop.journal()).await?;
        let clock = Arc::clone(backstop.clock());
        let approvals = Approvals::new(approvals, backstop.clone(), limits.idle);
        let engine = Engine::new(Arc::clone(backstop.stack()), engine);
        Ok(Arc::new(Self {
            since: clock.now(),
            clock,
            room: Room::new(limits.body_bytes_max, limits.bodies_bytes_max, limits.idle),
            limits,
            environment,
            data_dir,
            numbers,
            jobs,
            approvals,
            dashboard: Dashboard::new(live),
            engine: RwLock::new(Arc::new(engine)),
            changing: tokio::sync::Mutex::default(),
            ring: RwLock::new(Arc::clone(watch.ring())),
            watch: tokio::sync::Mutex::new(watch),
            threads: Mutex::default(),
            left: Left::default(),
            calls: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            backstop,
        }))
    }

    /// Whether any key to ask models was ever made: without one there is no telling who asks.
    pub fn has_keys(&self) -> bool {
        !self.ring().is_empty()
    }

    /// Whether any key to answer approvals was ever made.
    pub fn has_approvers(&self) -> bool {
        self.ring().has_approvers()
    }

    /// The keys as they were read last.
    pub async fn keys(&self) -> backstop_journal::projections::keys::Keys {
        self.watch.lock().await.keys().clone()
    }

    /// Reads what became of the keys: a key that was revoked opens nothing from then on.
    pub async fn refresh_keys(&self) -> Result<(), JournalError> {
        let ring = self.watch.lock().await.refresh(&**self.backstop.journal()).await?;
        if let Some(ring) = ring {
            *self.ring.write().unwrap_or_else(PoisonError::into_inner) = ring;
        }
        Ok(())
    }

    /// Which jobs there are, and what became of them.
    pub fn jobs(&self) -> &JobBook {
        &self.jobs
    }

    /// Answers one request.
    pub(crate) async fn answer(self: Arc<Self>, peer: IpAddr, request: Request<Incoming>) -> Reply {
        let (head, body) = request.into_parts();
        let is_head = head.method == http::Method::HEAD;
        let dialect = || dialect_of(head.uri.path(), &head.headers);
        let route = match route::find(&head.method, head.uri.path()) {
            Found::Route(route) => route,
            Found::OtherMethod(methods) => return other_method(dialect(), methods),
            Found::Nothing => return nothing_here(dialect(), head.uri.path()),
        };
        let mut reply = match route {
            Route::Call(dialect, purpose) => {
                return Inlet { gateway: self, dialect, purpose, peer, head }.answer(body).await;
            }
            // In boxes: every connection has room for its answer, and most of them never look at a page.
            Route::Approvals(act) => Box::pin(Visit { gateway: self, peer, head }.api(act, body)).await,
            Route::Tasks(act) => Box::pin(Visit { gateway: self, peer, head }.tasks(act, body)).await,
            Route::Page(page) => Box::pin(Visit { gateway: self, peer, head }.page(page, body)).await,
            Route::Home if is_browser(&head.headers) => {
                let visit = Visit { gateway: self, peer, head };
                Box::pin(visit.page(DashboardPage::Overview, body)).await
            }
            Route::Home | Route::Hello => answer::json(StatusCode::OK, &json!({"name": "backstop"})),
            Route::Live => answer::json(StatusCode::OK, &json!({"status": "alive"})),
            Route::Ready => self.ready(),
            Route::Models | Route::Health | Route::Metrics => match self.admitted(&head.headers, peer) {
                Err(refusal) => answer::failed(dialect(), answer::refused(&refusal), None),
                Ok(admitted) if route == Route::Models => {
                    let key = admitted.as_ref().map(|admitted| &**admitted.key());
                    self.models(dialect(), &head.uri, key)
                }
                Ok(_) if route == Route::Health => self.health().await,
                Ok(_) => self.figures().await,
            },
        };
        if is_head {
            *reply.body_mut() = answer::Answer::Whole(None);
        }
        reply
    }

    fn models(&self, dialect: Dialect, uri: &http::Uri, key: Option<&crate::keys::Key>) -> Reply {
        let engine = self.engine();
        let mut names = engine.names.list();
        names.retain(|name| key.is_none_or(|key| key.may_ask(name)));
        let invalid = |message: String| {
            let failure = Failure::new(FailureKind::Invalid, Progress::NotSent, message);
            answer::failed(dialect, failure, None)
        };
        if let Some(name) = uri.path().strip_prefix("/v1/models/") {
            return match names.iter().find(|known| **known == name) {
                Some(name) => answer::json(StatusCode::OK, &models::one(dialect, name, self.since)),
                None => answer::failed(dialect, engine.unknown(name, key), None),
            };
        }
        match Page::of(uri.query().unwrap_or_default()) {
            Ok(page) => answer::json(StatusCode::OK, &models::list(dialect, &names, &page, self.since)),
            Err(message) => invalid(message),
        }
    }

    /// Takes a place among the calls under way.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Place, Failure> {
        let before = self.calls.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(self));
        if before < self.limits.calls_max {
            return Ok(place);
        }
        let message = format!("{before} calls are under way, which is as many as are taken at once");
        let wait = Some(Duration::from_secs(1));
        let failure = Failure::new(FailureKind::Overloaded, Progress::NotSent, message);
        Err(failure.with_code(Code::GatewayBusy).with_retry_after(wait))
    }

    pub(crate) fn engine(&self) -> Arc<Engine> {
        Arc::clone(&self.engine.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn put_engine(&self, engine: Arc<Engine>) {
        *self.engine.write().unwrap_or_else(PoisonError::into_inner) = engine;
    }

    pub(crate) fn ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note_first_use(&self, first: KeyFirstUsedFrom) {
        let append = Append {
            stream: StreamId::Keys,
            epoch: None,
            events: vec![first.into()],
            at: self.clock.now(),
            durability: Durability::Queued,
        };
        // It is in the writer's queue already; nothing waits for it.
        drop(self.backstop.journal().append(append));
    }
}

/// Whether somebody wants to see a page: clients of models that look whether somebody is there take anything.
fn is_browser(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).into_iter();
    accepts.filter_map(|value| value.to_str().ok()).any(|text| text.contains("text/html"))
}

/// The dialect of a client, where the path does not say: by the header that only one of them has.
fn dialect_of(path: &str, headers: &HeaderMap) -> Dialect {
    let is_messages = path.starts_with("/v1/messages") || headers.contains_key("anthropic-version");
    if is_messages { Dialect::Messages } else { Dialect::Chat }
}

fn nothing_here(dialect: Dialect, path: &str) -> Reply {
    let path: String = path.chars().take(200).collect();
    let message = format!(
        "there is nothing at {path}; models are asked at /v1/messages, /v1/chat/completions and /v1/responses"
    );
    let mut failure = Failure::new(FailureKind::Invalid, Progress::NotSent, message).with_code(Code::NoRoute);
    failure.detail.status = Some(404);
    failure.detail.provider_code = Some("unknown_route".to_owned());
    answer::failed(dialect, failure, None)
}

fn other_method(dialect: Dialect, methods: &[http::Method]) -> Reply {
    let allowed: Vec<_> = methods.iter().map(http::Method::as_str).collect();
    let message = format!("this path takes {} only", allowed.join(" and "));
    let failure = Failure::new(FailureKind::Invalid, Progress::NotSent, message).with_code(Code::NoRoute);
    let mut reply = answer::failed(dialect, failure, None);
    *reply.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    if let Ok(value) = HeaderValue::from_str(&allowed.join(", ")) {
        reply.headers_mut().insert(header::ALLOW, value);
    }
    reply
}
