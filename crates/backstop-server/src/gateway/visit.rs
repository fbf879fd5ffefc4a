//! A request of a person or of a person's program: about approvals by the API, or to the dashboard. Owned here: what both ask of
//! it. Calls of models come by `call.rs` and nowhere else.

use super::Gateway;
use super::approvals::Refused;
use crate::keys::Admitted;
use backstop_call::Code;
use backstop_journal::event::KeyRight;
use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use hyper::body::Incoming;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A request.
pub(crate) struct Visit {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) peer: IpAddr,
    pub(crate) head: Parts,
}

/// What paths with a name in them begin with.
const BEFORE_NAMES: [&str; 3] = ["/api/v1/approvals/", "/approvals/", "/runs/"];

impl Visit {
    /// The question or run that the path names.
    pub(crate) fn name(&self) -> &str {
        let path = self.head.uri.path();
        let name = BEFORE_NAMES.iter().find_map(|before| path.strip_prefix(before));
        name.unwrap_or_default().split('/').next().unwrap_or_default()
    }

    /// The value of a field of the query, as it was meant.
    pub(crate) fn asked(&self, name: &str) -> Option<String> {
        let query = self.head.uri.query().unwrap_or_default();
        let found = url::form_urlencoded::parse(query.as_bytes()).find(|(found, _)| found == name);
        found.map(|(_, value)| value.into_owned()).filter(|value| !value.is_empty())
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
            Refused::new(status, failure.code(), failure.detail.message.clone())
        })?;
        Ok(held.bytes)
    }
}

fn too_many(wait: Duration) -> Refused {
    let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
    let message = format!("too many wrong keys came from your address; try again in {seconds} seconds");
    let refused = Refused::new(StatusCode::TOO_MANY_REQUESTS, Code::KeyBusy, message);
    Refused { wait_secs: Some(seconds), ..refused }
}
