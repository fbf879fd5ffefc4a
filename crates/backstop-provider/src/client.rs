//! The HTTP/1.1 client with its pool, and how far a request got when it fails. It knows nothing of dialects, keys or prices.
//!
//! A request is handed to a connection at most once, but for one of which not a byte was sent because its pooled
//! connection had been closed: whether a request may have been sent is a question of money, and is answered in one place, here.

use crate::connection::{Arriving, Connection, LostRequest, Outgoing};
use crate::{BaseUrl, Timeouts};
use backstop_call::{Code, Failure, FailureKind, Progress};
use http::Uri;
use http::response::Parts;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tower_service::Service;

/// How long a connection is kept for the next request. Shorter than the providers' own limits, so that a stale one is rare.
const IDLE: Duration = Duration::from_mins(1);
/// How many idle connections are kept for one origin.
const IDLE_PER_ORIGIN_MAX: usize = 64;
/// How often a request that was never begun, because its pooled connection had been closed, is given another one.
const RETAKES_MAX: u32 = 2;

/// Pools of connections, shared by all models. Cheap to clone.
#[derive(Clone)]
pub struct HttpClient {
    connector: HttpsConnector<HttpConnector>,
    origins: Arc<Mutex<HashMap<String, Weak<Origin>>>>,
}

/// Scheme, host and port, with the connections there that wait for their next request.
pub(crate) struct Origin {
    uri: Uri,
    connector: HttpsConnector<HttpConnector>,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// With when each was used last; the latest at the end.
    connections: Vec<(Connection, Instant)>,
    /// Whether somebody will close those that nobody uses.
    is_swept: bool,
}

impl HttpClient {
    /// A client with empty pools. It speaks TLS with the roots of Mozilla's list, compiled in.
    pub fn new() -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
            .expect("ring has the cipher suites of rustls' default versions")
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Self { connector, origins: Arc::default() }
    }

    /// The origin of an address: one for all who go there.
    pub(crate) fn origin(&self, base_url: &BaseUrl) -> Arc<Origin> {
        let (name, uri) = base_url.origin();
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = origins.get(&name).and_then(Weak::upgrade) {
            return known;
        }
        let origin = Arc::new(Origin { uri, connector: self.connector.clone(), idle: Mutex::default() });
        origins.insert(name, Arc::downgrade(&origin));
        origin
    }
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpClient")
    }
}

impl Origin {
    /// Sends a request, with its path as its address, and waits for the head of its answer. Dropping the future, or the body
    /// of the answer, closes the connection.
    pub(crate) async fn send(
        self: &Arc<Self>,
        mut request: Outgoing,
        timeouts: &Timeouts,
    ) -> Result<(Parts, Arriving), Failure> {
        for _ in 0..=RETAKES_MAX {
            let mut connection = match self.idle().await {
                Some(connection) => connection,
                // In a box: most requests find a connection.
                None => Box::pin(self.connected(timeouts.connect())).await.map_err(Lost::failure)?,
            };
            let sent = timeout(timeouts.first_byte(), connection.send(request)).await;
            match sent.map_err(|_| Lost::FirstByteTimeout.failure())? {
                Ok(response) => {
                    let (head, incoming) = response.into_parts();
                    return Ok((head, Arriving::new(incoming, connection, Arc::clone(self))));
                }
                Err(LostRequest::NotBegun(again)) => request = *again,
                Err(LostRequest::Begun(error)) if error.is_parse() => return Err(Lost::NoHttp.failure()),
                Err(LostRequest::Begun(_)) => return Err(Lost::Broken.failure()),
            }
        }
        Err(Lost::NotBegun.failure())
    }

    /// Keeps a connection for the next request.
    pub(crate) fn keep(self: &Arc<Self>, connection: Connection) {
        let mut idle = self.lock();
        if idle.connections.len() < IDLE_PER_ORIGIN_MAX {
            idle.connections.push((connection, Instant::now()));
        }
        if !std::mem::replace(&mut idle.is_swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// A connection that is open and free: the one that was used last, which is the least likely to be closed.
    async fn idle(&self) -> Option<Connection> {
        poll_fn(|cx| Poll::Ready(self.take(cx))).await
    }

    fn take(&self, cx: &mut Context<'_>) -> Option<Connection> {
        loop {
            let (mut connection, since) = self.lock().connections.pop()?;
            if since.elapsed() < IDLE && connection.is_free(cx) {
                return Some(connection);
            }
        }
    }

    async fn connected(&self, within: Duration) -> Result<Connection, Lost> {
        let connecting = async {
            let stream = self.connector.clone().call(self.uri.clone()).await;
            let stream = stream.map_err(|error| Lost::NoConnection(connect_error(&*error)))?;
            let refused = |_| Lost::NoConnection("the connection was closed while it was made");
            Connection::over(stream).await.map_err(refused)
        };
        timeout(within, connecting).await.unwrap_or(Err(Lost::ConnectTimeout))
    }

    /// A panic elsewhere leaves at worst a connection fewer.
    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes what nobody has used for too long; ends when nothing is idle.
async fn sweep(origin: Weak<Origin>) {
    loop {
        tokio::time::sleep(IDLE).await;
        let Some(origin) = origin.upgrade() else { return };
        let mut idle = origin.lock();
        idle.connections.retain(|(_, since)| since.elapsed() < IDLE);
        idle.is_swept = !idle.connections.is_empty();
        if !idle.is_swept {
            return;
        }
    }
}

/// How a request was lost before the head of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    /// There was no connection.
    NoConnection(&'static str),
    /// There was none in time.
    ConnectTimeout,
    /// The connection was closed before the request was begun.
    NotBegun,
    /// The connection broke after the request was begun.
    Broken,
    /// Nothing came back in time.
    FirstByteTimeout,
    /// What came back is no HTTP.
    NoHttp,
}

impl Lost {
    fn failure(self) -> Failure {
        use FailureKind::{Malformed, Transient, UnknownOutcome};
        match self {
            Self::NoConnection(why) => {
                Failure::new(Transient, Progress::NotSent, why).with_code(Code::Unreachable)
            }
            Self::ConnectTimeout => Failure::new(Transient, Progress::NotSent, "no connection in time")
                .with_code(Code::Unreachable),
            Self::NotBegun => Failure::new(
                Transient,
                Progress::NotSent,
                "the connection was closed before the request was sent",
            )
            .with_code(Code::Unreachable),
            Self::Broken => Failure::new(
                UnknownOutcome,
                Progress::Sent,
                "the connection was closed before an answer came",
            ),
            Self::FirstByteTimeout => Failure::new(UnknownOutcome, Progress::Sent, "no answer in time"),
            Self::NoHttp => Failure::new(Malformed, Progress::ResponseStarted, "the answer is no HTTP"),
        }
    }
}

/// Why there was no connection, in words that name no host.
fn connect_error(error: &(dyn StdError + 'static)) -> &'static str {
    if cause::<rustls::Error>(error).is_some() {
        return "the TLS handshake failed";
    }
    match cause::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => "the connection was refused",
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof) => {
            "the connection was closed while it was made"
        }
        Some(io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable) => {
            "the network is unreachable"
        }
        Some(_) => "the host was not found or does not take connections",
        None => "no connection could be made",
    }
}

/// The first error of a type in the chain. An I/O error that wraps another skips it in its `source`, and is opened.
fn cause<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
