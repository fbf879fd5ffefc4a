//! The pooled HTTP/1.1 client, and how far a request got when it fails. It knows nothing of dialects, keys or prices.
//!
//! A request is handed to a connection at most once. The pool's own repeating is off: what it repeats was never
//! begun, but whether a request may have been sent is a question of money, and is answered in one place, here.

use crate::Timeouts;
use backstop_call::{Code, Failure, FailureKind, Progress};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::{CaptureConnection, HttpConnector, capture_connection};
use hyper_util::client::legacy::{Client, Error as PoolError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::time::timeout;

/// How long a connection is kept for the next request. Shorter than the providers' own limits, so that a stale one is rare.
const IDLE: Duration = Duration::from_mins(1);
/// How many idle connections are kept for one host.
const IDLE_PER_HOST_MAX: usize = 64;
/// How often a request that was never begun, because its pooled connection had been closed, is given another one.
const RETAKES_MAX: u32 = 2;

/// A pool of connections, shared by all models. Cheap to clone.
#[derive(Clone)]
pub struct HttpClient {
    pool: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// A request before it has a connection.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl HttpClient {
    /// A client with an empty pool. It speaks TLS with the roots of Mozilla's list, compiled in.
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
        let pool = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .retry_canceled_requests(false)
            .build(connector);
        Self { pool }
    }

    /// Sends a request and waits for the head of its answer. Dropping the future, or the body of the answer, closes
    /// the connection.
    pub(crate) async fn send(
        &self,
        outgoing: &Outgoing,
        timeouts: &Timeouts,
    ) -> Result<Response<Incoming>, Failure> {
        let mut retakes = 0;
        loop {
            match self.send_once(outgoing, timeouts).await {
                Err(Lost::NotBegun) if retakes < RETAKES_MAX => retakes += 1,
                Err(lost) => return Err(lost.failure()),
                Ok(response) => return Ok(response),
            }
        }
    }

    async fn send_once(&self, outgoing: &Outgoing, timeouts: &Timeouts) -> Result<Response<Incoming>, Lost> {
        let mut request = Request::new(Full::new(outgoing.body.clone()));
        *request.method_mut() = outgoing.method.clone();
        *request.uri_mut() = outgoing.uri.clone();
        *request.headers_mut() = outgoing.headers.clone();
        let mut captured = capture_connection(&mut request);
        let probe = captured.clone();
        let mut response = pin!(self.pool.request(request));
        let connecting = async {
            tokio::select! {
                // The answer first: it is what hands the request to a connection, so that the time is over only
                // while there is none.
                biased;
                answer = &mut response => Some(answer),
                () = connected(&mut captured) => None,
            }
        };
        let early = timeout(timeouts.connect(), connecting).await.map_err(|_| Lost::ConnectTimeout)?;
        let answer = match early {
            Some(answer) => answer,
            None => timeout(timeouts.first_byte(), response).await.map_err(|_| Lost::FirstByteTimeout)?,
        };
        answer.map_err(|error| lost(&error, probe.connection_metadata().is_some()))
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

async fn connected(captured: &mut CaptureConnection) {
    drop(captured.wait_for_connection_metadata().await);
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

/// Reads the client's error. `was_connected` is whether the request had been given to a connection.
///
/// hyper says `canceled` only of a request that it can give back whole, because not a byte of it was encoded; a
/// request that was begun and then lost is an I/O error or an incomplete message.
fn lost(error: &PoolError, was_connected: bool) -> Lost {
    let hyper = cause::<hyper::Error>(error);
    if !was_connected {
        return Lost::NoConnection(connect_error(error));
    }
    match hyper {
        Some(error) if error.is_canceled() => Lost::NotBegun,
        Some(error) if error.is_parse() => Lost::NoHttp,
        Some(_) | None => Lost::Broken,
    }
}

/// Why there was no connection, in words that name no host.
fn connect_error(error: &PoolError) -> &'static str {
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
