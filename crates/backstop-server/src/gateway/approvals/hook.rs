//! Somebody who is told of questions, over HTTP: where, how it is signed, and how it went. Nothing is followed: an answer that
//! leads elsewhere is a failure.

use super::message::{Told, slack, webhook};
use crate::post::{BadHook, Post};
use backstop_call::{Secret, Timestamp};
use http::{HeaderMap, HeaderValue};
use ring::hmac;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

/// Somebody who is told. Cheap to clone.
#[derive(Clone)]
pub struct Hook(Arc<Inner>);

struct Inner {
    /// The hash of its address and what is sent there is signed with: what makes two the same.
    mark: blake3::Hash,
    post: Post,
    kind: Kind,
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

    fn new(url: &str, secret: &str, kind: Kind) -> Result<Self, BadHook> {
        let mark = blake3::hash(format!("{url}\n{secret}").as_bytes());
        Ok(Self(Arc::new(Inner { mark, post: Post::new(url)?, kind, worry: Mutex::default() })))
    }

    /// Whether the other tells the same one, in the same way.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let kind = |hook: &Self| std::mem::discriminant(&hook.0.kind);
        self.0.mark == other.0.mark && kind(self) == kind(other)
    }

    /// Where it is, without what may be secret of it.
    pub(super) fn name(&self) -> &str {
        self.0.post.name()
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
        let mut headers = HeaderMap::new();
        let body = match &self.0.kind {
            Kind::Webhook(key) => {
                let body = webhook(told).to_string();
                let seconds = now.secs();
                let signed = format!("v1={}", signature(key, seconds, &body));
                for (name, value) in [
                    ("x-backstop-delivery", told.card.asked.approval.to_string()),
                    ("x-backstop-timestamp", seconds.to_string()),
                    ("x-backstop-signature", signed),
                ] {
                    let value = HeaderValue::try_from(value).map_err(|error| error.to_string())?;
                    headers.insert(name, value);
                }
                body
            }
            Kind::Slack => slack(told).to_string(),
        };
        let status = self.0.post.send(headers, body).await?;
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
