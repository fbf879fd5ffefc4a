//! The way to a server at an address: one address, no redirects, bounded answers, and no private network unless it was
//! granted. Knows nothing of the protocol but its two headers.

use super::flood::Flood;
use super::grant::Address;
use super::text::one_line;
use crate::http::address::{Reach, reach};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::response::Parts;
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::rt::TokioExecutor;
use std::error::Error as StdError;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;
use tower_service::Service;

const CONNECT: Duration = Duration::from_secs(5);
/// How much of an error's body is read for its text.
const ERROR_MAX_BYTES: usize = 2_048;
/// Bytes of a stream of events that may come at once, as a multiple of what one event may have.
const BURST_EVENTS: u64 = 16;

/// A client for one server. Cheap to clone.
#[derive(Clone)]
pub(super) struct Web {
    client: Client<HttpsConnector<HttpConnector<Guard>>, Full<Bytes>>,
    address: Arc<Address>,
    message_max_bytes: usize,
}

/// A request that got no answer of use.
#[derive(Debug, thiserror::Error)]
pub(super) enum WebFault {
    /// It never left: there is no connection, or there must be none.
    #[error("it cannot be reached: {0}")]
    Unreached(String),
    /// The server did not take it up.
    #[error("it answered with HTTP {status}{hint}")]
    Turned {
        /// The status.
        status: StatusCode,
        /// What that means, and what it said.
        hint: String,
    },
    /// It failed on the way or at the server.
    #[error("{0}")]
    Failed(String),
    /// The server sends more than it may. The connection to it must end.
    #[error("{0}")]
    Flood(String),
}

impl Web {
    pub(super) fn new(address: Address, message_max_bytes: usize) -> Self {
        let is_tls = address.uri.scheme() == Some(&Scheme::HTTPS);
        let guard = Guard { inner: GaiResolver::new(), private: address.private, is_tls };
        let mut tcp = HttpConnector::new_with_resolver(guard);
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
            .expect("ring has the cipher suites of rustls' default versions")
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self { client, address: Arc::new(address), message_max_bytes }
    }

    /// The address, for the library that wants to know it.
    pub(super) fn uri(&self) -> String {
        self.address.uri.to_string()
    }

    /// Sends a request with the grant's headers and these, and waits for the head of the answer. A redirect is an answer
    /// like any other that is no success: it is not followed.
    pub(super) async fn send(
        &self,
        method: Method,
        headers: HeaderMap,
        accept: &'static str,
        body: Option<Vec<u8>>,
    ) -> Result<(Parts, Incoming), WebFault> {
        let mut request = http::Request::new(Full::new(Bytes::new()));
        *request.method_mut() = method;
        *request.uri_mut() = self.address.uri.clone();
        *request.headers_mut() = headers;
        for (name, value) in &self.address.headers {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static(accept));
        if let Some(body) = body {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *request.body_mut() = Full::new(Bytes::from(body));
        }
        match self.client.request(request).await {
            Ok(response) => Ok(response.into_parts()),
            Err(error) if error.is_connect() => Err(WebFault::Unreached(innermost(&error))),
            Err(error) => Err(WebFault::Failed(format!("the connection broke: {}", innermost(&error)))),
        }
    }

    /// A body as a whole.
    pub(super) async fn whole(&self, mut body: Incoming) -> Result<Vec<u8>, WebFault> {
        let mut whole = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame
                .map_err(|error| WebFault::Failed(format!("the answer broke off: {}", innermost(&error))))?;
            let Ok(data) = frame.into_data() else { continue };
            if whole.len() + data.len() > self.message_max_bytes {
                return Err(too_large(self.message_max_bytes));
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole)
    }

    /// A body as a stream of events.
    pub(super) fn events(&self, body: Incoming) -> Events {
        let max = u64::try_from(self.message_max_bytes).unwrap_or(u64::MAX);
        let flood = Flood::new(max.saturating_mul(BURST_EVENTS), max, Instant::now());
        Events {
            body,
            max_bytes: self.message_max_bytes,
            event_bytes: 0,
            is_line_empty: true,
            was_cr: false,
            flood,
        }
    }

    /// What an answer that is no success means.
    pub(super) async fn turned(&self, status: StatusCode, mut body: Incoming) -> WebFault {
        let mut said = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            said.extend_from_slice(frame.data_ref().map(Bytes::as_ref).unwrap_or_default());
            if said.len() >= ERROR_MAX_BYTES {
                break;
            }
        }
        said.truncate(ERROR_MAX_BYTES);
        let said = one_line(&String::from_utf8_lossy(&said));
        let said = if said.is_empty() { said } else { format!(": {said}") };
        let meaning = match status.as_u16() {
            300..=399 => " (redirects are not followed)",
            401 | 403 => " (it does not take the credentials)",
            400 | 404..=406 | 411 | 413..=415 | 421 | 426 | 428 | 429 | 431 => "",
            // Whether it had begun with the request is not known.
            _ => return WebFault::Failed(format!("it answered with HTTP {status}{said}")),
        };
        WebFault::Turned { status, hint: format!("{meaning}{said}") }
    }
}

fn too_large(max_bytes: usize) -> WebFault {
    WebFault::Flood(format!("it sent a message of more than {max_bytes} bytes"))
}

/// What is at the bottom of an error: the rest says that something failed.
fn innermost(error: &dyn StdError) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    one_line(&inner.to_string())
}

/// A body whose events are bounded, and whose bytes may not flood.
pub(super) struct Events {
    body: Incoming,
    max_bytes: usize,
    event_bytes: usize,
    is_line_empty: bool,
    was_cr: bool,
    flood: Flood,
}

impl Events {
    fn check(&mut self, data: &[u8]) -> Result<(), WebFault> {
        for byte in data {
            self.event_bytes += 1;
            let is_same_end = std::mem::replace(&mut self.was_cr, *byte == b'\r') && *byte == b'\n';
            match byte {
                b'\n' if is_same_end => {}
                // An empty line is the end of an event.
                b'\n' | b'\r' if self.is_line_empty => self.event_bytes = 0,
                b'\n' | b'\r' => self.is_line_empty = true,
                _ => self.is_line_empty = false,
            }
            if self.event_bytes > self.max_bytes {
                return Err(too_large(self.max_bytes));
            }
        }
        let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
        if self.flood.take(Instant::now(), bytes) {
            Ok(())
        } else {
            Err(WebFault::Flood("it sends more than can be read".to_owned()))
        }
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = WebFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, WebFault>>> {
        let frame = match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                return Poll::Ready(Some(Err(WebFault::Failed(format!(
                    "the events broke off: {}",
                    innermost(&error)
                )))));
            }
            None => return Poll::Ready(None),
        };
        let checked = frame.data_ref().map_or(Ok(()), |data| self.check(data));
        Poll::Ready(Some(checked.map(|()| frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Looks names up, and gives only the addresses that may be reached. The connection goes to what was checked.
#[derive(Clone)]
struct Guard {
    inner: GaiResolver,
    private: bool,
    is_tls: bool,
}

impl Service<Name> for Guard {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (private, is_tls) = (self.private, self.is_tls);
        let found = self.inner.call(name);
        Box::pin(async move {
            let mut refused = "has no address".to_owned();
            let mut good = Vec::new();
            for address in found.await? {
                match allowed(address.ip(), private, is_tls) {
                    Ok(()) => good.push(address),
                    Err(reason) => refused = reason,
                }
            }
            if good.is_empty() {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("its name {refused}")));
            }
            Ok(good.into_iter())
        })
    }
}

/// Whether an address may be reached: a private one when it was granted, a public one with TLS, and what is nobody's business
/// whatever the grant says.
pub(super) fn allowed(ip: IpAddr, private: bool, is_tls: bool) -> Result<(), String> {
    match (reach(ip), private, is_tls) {
        (Reach::Never(kind), ..) => Err(format!("is {kind}, which is never granted")),
        (Reach::Private(_), false, _) => {
            Err("is a private address, which private-addresses does not allow".to_owned())
        }
        (Reach::Public, _, false) => Err("is a public address, which is not reached without TLS".to_owned()),
        (Reach::Private(_), true, _) | (Reach::Public, _, true) => Ok(()),
    }
}

/// A header of the protocol's own from a text.
pub(super) fn header(headers: &mut HeaderMap, name: &'static str, value: &str) -> Result<(), WebFault> {
    let value = HeaderValue::from_str(value)
        .map_err(|_| WebFault::Unreached(format!("its {name} cannot be sent back to it")))?;
    headers.insert(HeaderName::from_static(name), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_reached() {
        let (public, private) = ("9.9.9.9", "10.0.0.1");
        let rows = [
            (public, false, true, true),
            (public, true, true, true),
            (public, true, false, false),
            (private, false, true, false),
            (private, true, true, true),
            (private, true, false, true),
            ("::ffff:10.0.0.1", false, true, false),
            ("::1", true, false, true),
        ];
        for (ip, granted, is_tls, want) in rows {
            assert_eq!(
                allowed(ip.parse().unwrap(), granted, is_tls).is_ok(),
                want,
                "{ip} {granted} {is_tls}"
            );
        }
    }

    #[test]
    fn no_grant_of_private_addresses_reaches_a_metadata_service_or_a_link() {
        let rows = [
            ("169.254.169.254", "a cloud's metadata service"),
            ("100.100.100.200", "a cloud's metadata service"),
            ("fd00:ec2::254", "a cloud's metadata service"),
            ("::ffff:169.254.169.254", "a cloud's metadata service"),
            ("64:ff9b::169.254.169.254", "a cloud's metadata service"),
            ("169.254.0.1", "link-local"),
            ("fe80::1", "link-local"),
            ("0.0.0.0", "unspecified"),
            ("224.0.0.1", "multicast"),
            ("2001::1", "a Teredo tunnel"),
        ];
        for (ip, kind) in rows {
            for (granted, is_tls) in [(true, true), (true, false), (false, true), (false, false)] {
                let want = Err(format!("is {kind}, which is never granted"));
                assert_eq!(allowed(ip.parse().unwrap(), granted, is_tls), want, "{ip}");
            }
        }
    }
}
