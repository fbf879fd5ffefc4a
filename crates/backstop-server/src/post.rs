//! A place that JSON is posted to: what it may be, and how it is reached. Nothing is followed: an answer that leads elsewhere is
//! a failure.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::timeout;
use url::{Host, Url};

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(10);

/// An address that nothing may be sent to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHook {
    /// It is none.
    #[error("it is no address like https://hooks.one.example/path")]
    NoUrl,
    /// It would be sent in the open.
    #[error("http goes only to an address of this machine or of a private network; take https")]
    NotSecure,
}

/// A place to post to.
pub(crate) struct Post {
    uri: Uri,
    /// The host: an address may hold a secret, as Slack's does.
    name: String,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Post {
    pub(crate) fn new(text: &str) -> Result<Self, BadHook> {
        let url = Url::parse(text).map_err(|_| BadHook::NoUrl)?;
        let host = url.host().ok_or(BadHook::NoUrl)?;
        let is_plain = url.username().is_empty() && url.password().is_none();
        match url.scheme() {
            "https" if is_plain => {}
            "http" if is_plain && is_near(&host) => {}
            "http" => return Err(BadHook::NotSecure),
            _ => return Err(BadHook::NoUrl),
        }
        let uri = url.as_str().parse().map_err(|_| BadHook::NoUrl)?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
            .expect("ring has the cipher suites of rustls' default versions")
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let name = host.to_string();
        Ok(Self { uri, name, client })
    }

    /// Where it is, without what may be secret of it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Posts once. The error is for people and holds no address.
    pub(crate) async fn send(&self, headers: HeaderMap, body: String) -> Result<StatusCode, String> {
        let mut request = Request::post(self.uri.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        request.headers_mut().extend(headers);
        let sent = timeout(ATTEMPT, self.client.request(request)).await;
        let response = sent.map_err(|_| "it did not answer in time")?;
        Ok(response.map_err(|_| "it cannot be reached")?.status())
    }
}

/// Whether it is this machine or a private network, by a name or number that means nothing else.
fn is_near(host: &Host<&str>) -> bool {
    let address = match host {
        Host::Domain(name) => return *name == "localhost",
        Host::Ipv4(address) => IpAddr::V4(*address),
        Host::Ipv6(address) => IpAddr::V6(*address).to_canonical(),
    };
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_private(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local(),
    }
}
