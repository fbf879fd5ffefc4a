//! Those who are told of alerts, and how each is told once. Whether and when it is tried again is decided elsewhere.

use super::message::Message;
use crate::post::{BadHook, Post};
use backstop_call::{Secret, Timestamp};
use backstop_tools::mail::Postman;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode};
use ring::hmac;

/// Where PagerDuty takes events.
pub const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";

/// What a secret of Standard Webhooks begins with, before its base64.
const SECRET_PREFIX: &str = "whsec_";

/// Somebody who is told.
pub struct Receiver {
    /// The name that it has in the config.
    pub name: String,
    kind: Kind,
}

enum Kind {
    Webhook { post: Post, key: hmac::Key },
    Slack(Post),
    PagerDuty { post: Post, routing_key: Secret },
    Email(Box<Postman>),
}

/// Why it was not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// In words that hold no address and no secret.
    pub reason: String,
    /// Whether trying again is of no use.
    pub for_good: bool,
}

impl Receiver {
    /// A program that takes JSON, signed as Standard Webhooks 1.0.0 says. A secret that begins with `whsec_` is in base64
    /// behind it; any other is taken as it is.
    pub fn webhook(name: &str, url: &str, secret: &Secret) -> Result<Self, BadHook> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key_of(secret.expose()));
        Ok(Self { name: name.to_owned(), kind: Kind::Webhook { post: Post::new(url)?, key } })
    }

    /// An incoming webhook of Slack: whoever has its address may write there.
    pub fn slack(name: &str, url: &Secret) -> Result<Self, BadHook> {
        Ok(Self { name: name.to_owned(), kind: Kind::Slack(Post::new(url.expose().trim())?) })
    }

    /// A service of PagerDuty's, by the key of its integration.
    pub fn pagerduty(name: &str, url: &str, routing_key: Secret) -> Result<Self, BadHook> {
        Ok(Self { name: name.to_owned(), kind: Kind::PagerDuty { post: Post::new(url)?, routing_key } })
    }

    /// People, by mail.
    pub fn email(name: &str, postman: Postman) -> Self {
        Self { name: name.to_owned(), kind: Kind::Email(Box::new(postman)) }
    }

    /// Tells it once.
    pub async fn tell(&self, message: &Message, now: Timestamp) -> Result<(), Refused> {
        match &self.kind {
            Kind::Webhook { post, key } => {
                let body = message.webhook().to_string();
                let headers = signed(key, &message.notice, now, &body)?;
                taken(post.send(headers, body).await)
            }
            Kind::Slack(post) => taken(post.send(HeaderMap::new(), message.slack().to_string()).await),
            Kind::PagerDuty { post, routing_key } => {
                // A second time is no second incident: the key of each is the alert's.
                for event in message.pagerduty(routing_key.expose().trim()) {
                    taken(post.send(HeaderMap::new(), event.to_string()).await)?;
                }
                Ok(())
            }
            Kind::Email(postman) => {
                let sent = postman.send(&message.title(), &message.text(), &message.notice).await;
                sent.map_err(|reason| Refused { reason, for_good: false })
            }
        }
    }
}

/// The bytes of a webhook's secret.
fn key_of(secret: &str) -> Vec<u8> {
    let secret = secret.trim();
    let encoded = secret.strip_prefix(SECRET_PREFIX).and_then(|text| STANDARD.decode(text).ok());
    encoded.unwrap_or_else(|| secret.as_bytes().to_vec())
}

/// The headers of Standard Webhooks: HMAC-SHA256 over `ID.SECONDS.BODY`.
fn signed(key: &hmac::Key, id: &str, now: Timestamp, body: &str) -> Result<HeaderMap, Refused> {
    let seconds = now.secs();
    let tag = hmac::sign(key, format!("{id}.{seconds}.{body}").as_bytes());
    let signature = format!("v1,{}", STANDARD.encode(tag.as_ref()));
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", seconds.to_string()),
        ("webhook-signature", signature),
    ] {
        let value = HeaderValue::try_from(value)
            .map_err(|error| Refused { reason: error.to_string(), for_good: true })?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// 410 says that nobody is there any more.
fn taken(answer: Result<StatusCode, String>) -> Result<(), Refused> {
    match answer {
        Ok(status) if status.is_success() => Ok(()),
        Ok(status) => {
            let for_good = status == StatusCode::GONE;
            Err(Refused { reason: format!("it answered {}", status.as_u16()), for_good })
        }
        Err(reason) => Err(Refused { reason, for_good: false }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification of Standard Webhooks.
    #[test]
    fn it_is_signed_as_the_standard_says() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
        let headers = signed(
            &key,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            Timestamp::from_secs(1_614_265_330),
            r#"{"test": 2432232314}"#,
        );
        let headers = headers.unwrap();
        assert_eq!(headers["webhook-signature"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(headers["webhook-timestamp"], "1614265330");
        assert_eq!(key_of("plain \n"), b"plain");
    }

    #[test]
    fn only_what_is_gone_is_given_up_at_once() {
        let refused =
            |code| taken(Ok(StatusCode::from_u16(code).unwrap())).err().map(|refused| refused.for_good);
        let rows = [
            (200, None),
            (204, None),
            (302, Some(false)),
            (404, Some(false)),
            (410, Some(true)),
            (500, Some(false)),
        ];
        for (code, want) in rows {
            assert_eq!(refused(code), want, "{code}");
        }
    }
}
