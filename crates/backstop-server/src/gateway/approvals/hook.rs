//! Somebody who is told of questions, over HTTP: where, how it is signed, and how it went. Nothing is followed: an answer that
//! leads elsewhere is a failure.

use super::message::{Told, slack, webhook};
use backstop_call::{Secret, Timestamp};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Uri};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use ring::hmac;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
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

/// Somebody who is told. Cheap to clone.
#[derive(Clone)]
pub struct Hook(Arc<Inner>);

struct Inner {
    /// The hash of its address and what is sent there is signed with: what makes two the same.
    mark: blake3::Hash,
    uri: Uri,
    /// The host: an address may hold a secret, as Slack's does.
    name: String,
    kind: Kind,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    worry: Mutex<Option<String>>,
}

enum Kind {
    /// JSON, signed with this key.
    Webhook(hmac::Key),
    Slack,
}

impl Hook {
    /// A program that takes JSON, signed with a secret.
    pub fn webhook(url: &str, secret: &Secret) -> Result<Self, BadHook> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        Self::new(url, secret.expose(), Kind::Webhook(key))
    }

    /// An incoming webhook of Slack: whoever has its address may write there.
    pub fn slack(url: &Secret) -> Result<Self, BadHook> {
        Self::new(url.expose(), "", Kind::Slack)
    }

    fn new(text: &str, secret: &str, kind: Kind) -> Result<Self, BadHook> {
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
        let mark = blake3::hash(format!("{}\n{secret}", url.as_str()).as_bytes());
        Ok(Self(Arc::new(Inner { mark, uri, name, kind, client, worry: Mutex::default() })))
    }

    /// Whether the other tells the same one, in the same way.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let kind = |hook: &Self| std::mem::discriminant(&hook.0.kind);
        self.0.mark == other.0.mark && kind(self) == kind(other)
    }

    /// Where it is, without what may be secret of it.
    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    /// What went wrong last, if nothing went well since.
    pub(super) fn worry(&self) -> Option<String> {
        self.0.worry.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn note(&self, worry: Option<String>) {
        *self.0.worry.lock().unwrap_or_else(PoisonError::into_inner) = worry;
    }

    /// Tells a question once. The error is for people and holds no address.
    pub(super) async fn send(&self, told: &Told<'_>, now: Timestamp) -> Result<(), String> {
        let mut request = Request::post(self.0.uri.clone()).header(CONTENT_TYPE, "application/json");
        let body = match &self.0.kind {
            Kind::Webhook(key) => {
                let body = webhook(told).to_string();
                let seconds = now.secs();
                request = request
                    .header("x-backstop-delivery", told.card.asked.approval.as_str())
                    .header("x-backstop-timestamp", seconds)
                    .header("x-backstop-signature", format!("v1={}", signature(key, seconds, &body)));
                body
            }
            Kind::Slack => slack(told).to_string(),
        };
        let request = request.body(Full::new(body.into())).map_err(|error| error.to_string())?;
        let sent = timeout(ATTEMPT, self.0.client.request(request)).await;
        let response = sent.map_err(|_| "it did not answer in time")?;
        let status = response.map_err(|_| "it cannot be reached")?.status();
        if status.is_success() { Ok(()) } else { Err(format!("it answered {}", status.as_u16())) }
    }
}

/// HMAC-SHA256 over `SECONDS.BODY`, in hex: whoever checks it sees that the body is ours, and how old it is.
fn signature(key: &hmac::Key, seconds: u64, body: &str) -> String {
    let tag = hmac::sign(key, format!("{seconds}.{body}").as_bytes());
    let mut text = String::with_capacity(64);
    for byte in tag.as_ref() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_in_the_open_stays_near() {
        let rows = [
            ("https://hooks.one.example/a?b=c", Ok(())),
            ("http://127.0.0.1:9/", Ok(())),
            ("http://localhost:9/", Ok(())),
            ("http://192.168.1.7/", Ok(())),
            ("http://[::1]:9/", Ok(())),
            ("http://[fd00::1]/", Ok(())),
            ("http://hooks.one.example/", Err(BadHook::NotSecure)),
            ("http://169.254.169.254/", Err(BadHook::NotSecure)),
            ("http://localhost.one.example/", Err(BadHook::NotSecure)),
            ("http://8.8.8.8/", Err(BadHook::NotSecure)),
            ("https://user:word@one.example/", Err(BadHook::NoUrl)),
            ("ftp://one.example/", Err(BadHook::NoUrl)),
            ("hooks.one.example", Err(BadHook::NoUrl)),
        ];
        for (url, want) in rows {
            assert_eq!(Hook::webhook(url, &Secret::new("s")).map(drop), want, "{url}");
        }
        let slack = Hook::slack(&Secret::new("https://hooks.slack.example/services/secret")).unwrap();
        assert_eq!(slack.name(), "hooks.slack.example", "the path is the secret");
    }
}
