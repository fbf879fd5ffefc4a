//! What agents ask people: the desk that reads questions and takes answers, the REST API before it, and the bell that tells people
//! of a question. All of it opens to keys that approve, which no agent holds; what an answer does to a run is the agent's
//! business, and how a question looks on a page is the dashboard's.

mod api;
mod bell;
mod desk;
mod guesses;
mod hook;
mod link;
mod message;
mod refused;

pub use crate::post::BadHook;
pub use bell::{Bell, BellLimits};
pub(crate) use desk::{By, Card, Decision, Desk, Going, Standing, reach};
pub use hook::Hook;
pub use link::LinkKey;
pub(crate) use refused::{Refused, seconds};

use super::Gateway;
use super::body::Room;
use crate::config::approvals::Approvals as Section;
use crate::config::{Config, Problem, SecretRef, Surroundings, load_secret};
use backstop::Backstop;
use backstop_call::Code;
use guesses::Guesses;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Notify;

/// The largest body of an answer: arguments are part of it.
const BODY_BYTES_MAX: usize = 1 << 20;
/// All of them together.
const BODIES_BYTES_MAX: usize = 16 << 20;

/// What the approvals of a gateway are made from.
pub struct ApprovalsParts {
    /// Told of every event by the engine; rings when a question is among them.
    pub bell: Bell,
    /// Who is told, and where they answer.
    pub notices: Notices,
    /// What links are signed with.
    pub link: LinkKey,
}

/// Who is told of questions, and where they are sent to answer. Another config may say it anew.
pub struct Notices {
    /// Who is told.
    pub hooks: Vec<Hook>,
    /// Where people reach the gateway; `None` is the address it listens on.
    pub public_url: Option<String>,
}

impl Notices {
    /// What a config says.
    ///
    /// # Errors
    /// A secret that is not there, an address that nothing may be sent to.
    pub fn of(config: &Config, world: &dyn Surroundings) -> Result<Self, Problem> {
        let Section { public_url, webhooks, slack } = &config.approvals;
        let wrong =
            |key: &str, why: String| Problem::new(Code::ConfigValue, format!("`approvals.{key}`: {why}"));
        let load = |reference: &SecretRef| load_secret(reference, config.file.as_deref(), world);
        let mut hooks = Vec::new();
        for webhook in webhooks {
            let hook = Hook::webhook(&webhook.url, &load(&webhook.secret)?);
            hooks.push(hook.map_err(|bad| wrong("webhooks", bad.to_string()))?);
        }
        if let Some(reference) = slack {
            hooks.push(Hook::slack(&load(reference)?).map_err(|bad| wrong("slack", bad.to_string()))?);
        }
        let public_url = public_url.as_deref().map(origin).transpose();
        let public_url = public_url.map_err(|why| wrong("public-url", why))?;
        Ok(Self { hooks, public_url })
    }
}

impl ApprovalsParts {
    /// What a config says.
    ///
    /// # Errors
    /// A secret that is not there, an address that nothing may be sent to, a key of links that cannot be kept.
    pub fn of(config: &Config, world: &dyn Surroundings, bell: Bell) -> Result<Self, Problem> {
        let notices = Notices::of(config, world)?;
        let unusable = |error: std::io::Error| {
            let message = format!("the key of links in {}: {error}", config.data_dir.display());
            Problem::new(Code::DatabaseUnusable, message)
        };
        std::fs::create_dir_all(&config.data_dir).map_err(unusable)?;
        let link = LinkKey::open(&config.data_dir).map_err(unusable)?;
        Ok(Self { bell, notices, link })
    }
}

/// An address without a path, and without a slash at its end.
fn origin(text: &str) -> Result<String, String> {
    let wrong = || format!("`{text}` is no address like https://backstop.one.example");
    let url = url::Url::parse(text).map_err(|_| wrong())?;
    let plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let is_web =
        matches!(url.scheme(), "http" | "https") && url.host().is_some() && url.username().is_empty();
    if plain && is_web { Ok(url.origin().ascii_serialization()) } else { Err(wrong()) }
}

/// The approvals of a gateway that is open.
pub(crate) struct Approvals {
    pub(crate) desk: Desk,
    pub(crate) link: LinkKey,
    bell: Bell,
    notices: RwLock<Arc<Notices>>,
    /// Told when the notices are others.
    renewed: Notify,
    /// Wrong keys, by where they came from.
    pub(crate) guesses: Guesses,
    pub(crate) room: Room,
}

impl Approvals {
    pub(crate) fn new(parts: ApprovalsParts, backstop: Backstop, idle: Duration) -> Self {
        let ApprovalsParts { bell, notices, link } = parts;
        Self {
            desk: Desk::new(backstop),
            link,
            bell,
            notices: RwLock::new(Arc::new(notices)),
            renewed: Notify::new(),
            guesses: Guesses::default(),
            room: Room::new(BODY_BYTES_MAX, BODIES_BYTES_MAX, idle),
        }
    }

    /// Takes what another config says.
    pub(crate) fn renew(&self, notices: Notices) {
        *self.notices.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(notices);
        self.renewed.notify_one();
    }

    fn notices(&self) -> Arc<Notices> {
        Arc::clone(&self.notices.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How those who are told can be reached: a name, and what is wrong.
    pub(crate) fn worries(&self) -> impl Iterator<Item = (String, Option<String>)> {
        let hooks = self.notices().hooks.clone();
        let hooks = hooks.into_iter().map(|hook| (format!("hook {}", hook.name()), hook.worry()));
        let bell = self.bell.worry().map(|worry| ("approvals".to_owned(), Some(worry)));
        hooks.chain(bell)
    }

    /// Where people reach the gateway, when config says it.
    pub(crate) fn public_url(&self) -> Option<String> {
        self.notices().public_url.clone()
    }

    /// Whether people reach the gateway over TLS.
    pub(crate) fn is_https(&self) -> bool {
        self.public_url().is_some_and(|url| url.starts_with("https:"))
    }
}

/// What is wanted of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    List,
    Show,
    Approve,
    Deny,
    Edit,
    Preview,
}

impl Gateway {
    /// Hands over what was answered before this process began, and then tells people of questions, for as long as the future is
    /// polled. `listening` is where they find the page when the config
    /// names no other address.
    pub(crate) async fn tell_of_questions(self: Arc<Self>, listening: String) {
        // A journal that cannot be read now is told by its own health; `backstop resume` goes on with what is left.
        drop(self.approvals.desk.hand_over_answered(&[api::CHANNEL, crate::dashboard::CHANNEL]).await);
        bell::ring(self, listening).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_people_has_no_path() {
        let rows = [
            ("https://one.example", Some("https://one.example")),
            ("https://one.example/", Some("https://one.example")),
            ("http://10.0.0.7:4141", Some("http://10.0.0.7:4141")),
            ("https://one.example/backstop", None),
            ("https://user@one.example", None),
            ("https://one.example/?a", None),
            ("ftp://one.example", None),
            ("one.example", None),
        ];
        for (text, want) in rows {
            assert_eq!(origin(text).ok().as_deref(), want, "{text}");
        }
    }
}
