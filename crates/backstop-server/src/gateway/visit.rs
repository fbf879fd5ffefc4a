//! A request of a person or of a person's program: about approvals by the API, or to the dashboard. Owned here: what both ask of
//! it. Calls of models come by `call.rs` and nowhere else.

use super::Gateway;
use super::approvals::{Refused, seconds};
use crate::keys::Admitted;
use backstop_call::Code;
use backstop_journal::event::KeyRight;
use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap};
use http::request::Parts;
use hyper::body::Incoming;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

/// A request.
pub(crate) struct Visit {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) peer: IpAddr,
    pub(crate) head: Parts,
}

/// What paths with a name in them begin with.
const BEFORE_NAMES: [&str; 7] =
    ["/alerts/", "/api/v1/approvals/", "/api/tasks/", "/approvals/", "/jobs/", "/runs/", "/tasks/"];

impl Visit {
    /// The question, run, task, job, alert or silence that the path names, as it stands there.
    pub(crate) fn name(&self) -> &str {
        let path = self.head.uri.path();
        let name = BEFORE_NAMES.iter().find_map(|before| path.strip_prefix(before));
        name.unwrap_or_default().split('/').next().unwrap_or_default()
    }

    /// The value of a field of the query, as it was meant.
    pub(crate) fn asked(&self, name: &str) -> Option<String> {
        field(self.head.uri.query().unwrap_or_default(), name)
    }

    /// What a secret leads to, for an address that may still try: one from which too many wrong ones came is not heard for a
    /// while.
    pub(crate) fn tried<T>(
        &self,
        secret: &str,
        find: impl FnOnce() -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let (guesses, now) = (&self.gateway.approvals.guesses, self.gateway.clock.now());
        guesses.may_try(self.peer, now).map_err(too_many)?;
        let found = find();
        if found.is_err() && !secret.is_empty() {
            guesses.note_wrong(self.peer, now);
        }
        found
    }

    /// The key that approves, whose secret this is.
    pub(crate) fn approver(&self, secret: &str) -> Result<Admitted, Refused> {
        let (gateway, now) = (&self.gateway, self.gateway.clock.now());
        self.tried(secret, || {
            let key = gateway.ring().find(secret, now)?;
            Ok(gateway.admitted_with(key, self.peer, KeyRight::Approve)?)
        })
    }

    /// Whether nobody needs a key, because none was ever made, and this is whoever sits at this machine.
    pub(crate) fn is_at_home(&self) -> bool {
        let is_closed = self.gateway.ring().has_keys() || self.gateway.approvals.public_url().is_some();
        !is_closed && is_this_machine(self.peer, &self.head.headers)
    }

    /// The whole body.
    pub(crate) async fn body(&self, body: Incoming) -> Result<Bytes, Refused> {
        let held = self.gateway.approvals.room.read(body).await.map_err(|failure| {
            let status = failure.detail.status.and_then(|status| StatusCode::from_u16(status).ok());
            let is_large = failure.code() == Code::RequestTooLarge;
            let status = status.unwrap_or(if is_large {
                StatusCode::PAYLOAD_TOO_LARGE
            } else {
                StatusCode::BAD_REQUEST
            });
            Refused::new(status, failure.code(), failure.detail.message.to_string())
        })?;
        Ok(held.bytes)
    }
}

/// The value of a field of an address' query; nothing of an empty one.
pub(crate) fn field(query: &str, name: &str) -> Option<String> {
    let found = url::form_urlencoded::parse(query.as_bytes()).find(|(found, _)| found == name);
    found.map(|(_, value)| value.into_owned()).filter(|value| !value.is_empty())
}

/// Whether a request comes from this machine, and was meant for it: not through a proxy that runs here, and not by a name that
/// somebody has pointed here so that a page of theirs may read ours.
fn is_this_machine(peer: IpAddr, headers: &HeaderMap) -> bool {
    const FORWARDED: [&str; 5] = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];
    let is_forwarded = FORWARDED.iter().any(|name| headers.contains_key(*name));
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let is_local = name.eq_ignore_ascii_case("localhost")
        || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || name == format!("[{}]", Ipv6Addr::LOCALHOST);
    peer.to_canonical().is_loopback() && !is_forwarded && is_local
}

fn too_many(wait: Duration) -> Refused {
    let seconds = seconds(wait);
    let message = format!("too many wrong keys came from your address; try again in {seconds} seconds");
    let refused = Refused::new(StatusCode::TOO_MANY_REQUESTS, Code::KeyBusy, message);
    Refused { wait_secs: Some(seconds), ..refused }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    #[test]
    fn this_machine_is_who_asks_it_by_its_own_name() {
        let rows = [
            ("127.0.0.1", "127.0.0.1:4141", None, true),
            ("127.0.0.1", "localhost:4141", None, true),
            ("127.0.0.1", "LOCALHOST", None, true),
            ("::1", "[::1]:4141", None, true),
            ("::ffff:127.0.0.1", "127.0.0.1", None, true),
            ("127.0.0.1", "evil.example:4141", None, false),
            ("127.0.0.1", "localhost.evil.example", None, false),
            ("127.0.0.1", "127.0.0.1.evil.example", None, false),
            ("127.0.0.1", "0.0.0.0:4141", None, false),
            ("127.0.0.1", "", None, false),
            ("10.0.0.7", "127.0.0.1:4141", None, false),
            ("127.0.0.1", "127.0.0.1:4141", Some("x-forwarded-for"), false),
            ("127.0.0.1", "127.0.0.1:4141", Some("via"), false),
        ];
        for (peer, host, more, want) in rows {
            let mut headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
            if let Some(name) = more {
                headers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
            }
            assert_eq!(is_this_machine(peer.parse().unwrap(), &headers), want, "{peer} {host} {more:?}");
        }
    }
}
