//! Why a request does not come in: in words, as a code with a hint, and as what a client makes of it.

use super::limit::KeyLimit;
use crate::config::Problem;
use backstop_call::{Code, KeyName, Timestamp};
use backstop_journal::event::KeyRight;
use std::net::IpAddr;
use std::time::Duration;

/// How much of a client's own words is repeated to it.
const NAME_CHARS_MAX: usize = 100;

/// Why a request does not come in. Nothing of it was sent to a provider.
///
/// Whoever has a secret that was once good is told what became of it. That gives nothing away: a secret is not guessed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    /// It has no key.
    #[error("there is no key in the request")]
    Missing,
    /// Its key is none of ours.
    #[error("the key is none of this gateway's")]
    Unknown,
    /// Somebody ended the key.
    #[error("key {0} was revoked")]
    Revoked(KeyName),
    /// The key's time is over, since then.
    #[error("key {0} expired at {1}")]
    Expired(KeyName, Timestamp),
    /// A newer secret took the place of this one, which was good until then.
    #[error("this secret of key {0} was replaced, and was good until {1}")]
    Replaced(KeyName, Timestamp),
    /// It comes from elsewhere. Where it may come from is not said: whoever stole the key would learn the owner's networks.
    #[error("key {key} may not be used from {address}")]
    Address {
        /// The key.
        key: KeyName,
        /// Where it comes from.
        address: IpAddr,
    },
    /// The key is of another environment.
    #[error("key {key} is for {wanted}, this gateway is {here}")]
    Environment {
        /// The key.
        key: KeyName,
        /// Its environment.
        wanted: String,
        /// This one, in words.
        here: String,
    },
    /// It wants what the key is not for.
    #[error("key {key} may not {wanted}")]
    Right {
        /// The key.
        key: KeyName,
        /// What it wants.
        wanted: KeyRight,
    },
    /// It asks for a model that the key is not for.
    #[error("key {key} may not ask for `{model}`")]
    Model {
        /// The key.
        key: KeyName,
        /// What it asks for, cut to a length.
        model: String,
        /// What it may ask for, in words.
        models: String,
    },
    /// It submits a task for an agent that the key is not for.
    #[error("key {key} may not submit tasks for `{agent}`")]
    Agent {
        /// The key.
        key: KeyName,
        /// The agent, cut to a length.
        agent: String,
        /// The agents it may name, in words.
        agents: String,
    },
    /// A limit of the key has no room now.
    #[error("key {key} has used up its {limit}")]
    Busy {
        /// The key.
        key: KeyName,
        /// The limit.
        limit: KeyLimit,
        /// When to try again.
        wait: Duration,
    },
}

impl KeyRefusal {
    /// The code a user can look up.
    pub fn code(&self) -> Code {
        match self {
            Self::Missing => Code::KeyMissing,
            Self::Unknown => Code::KeyUnknown,
            Self::Revoked(_) => Code::KeyRevoked,
            Self::Expired(..) => Code::KeyExpired,
            Self::Replaced(..) => Code::KeyReplaced,
            Self::Address { .. } => Code::KeyAddress,
            Self::Environment { .. } => Code::KeyEnvironment,
            Self::Right { .. } => Code::KeyRight,
            Self::Model { .. } => Code::KeyModel,
            Self::Agent { .. } => Code::KeyAgent,
            Self::Busy { .. } => Code::KeyBusy,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        let hint = self.code().hint();
        match self {
            Self::Model { models: names, .. } | Self::Agent { agents: names, .. } => {
                format!("{hint}; it is for {names}")
            }
            _ => hint.to_owned(),
        }
    }

    /// The status that an HTTP client understands: 401 without a good key, 403 with one that may not do this, 429 beyond
    /// a limit.
    pub fn status(&self) -> u16 {
        match self {
            Self::Missing | Self::Unknown | Self::Revoked(_) | Self::Expired(..) | Self::Replaced(..) => 401,
            Self::Address { .. }
            | Self::Environment { .. }
            | Self::Right { .. }
            | Self::Model { .. }
            | Self::Agent { .. } => 403,
            Self::Busy { .. } => 429,
        }
    }

    /// When to try again; `None` where that would not help.
    pub fn retry_after(&self) -> Option<Duration> {
        if let Self::Busy { wait, .. } = self { Some(*wait) } else { None }
    }

    /// The key, where it is one of ours.
    pub fn key(&self) -> Option<&KeyName> {
        match self {
            Self::Missing | Self::Unknown => None,
            Self::Revoked(key)
            | Self::Expired(key, _)
            | Self::Replaced(key, _)
            | Self::Address { key, .. }
            | Self::Environment { key, .. }
            | Self::Right { key, .. }
            | Self::Model { key, .. }
            | Self::Agent { key, .. }
            | Self::Busy { key, .. } => Some(key),
        }
    }

    pub(super) fn model(key: &KeyName, model: &str, models: &[String]) -> Self {
        let model = model.chars().take(NAME_CHARS_MAX).collect();
        Self::Model { key: key.clone(), model, models: models.join(" ") }
    }

    pub(super) fn agent(key: &KeyName, agent: &str, agents: &[String]) -> Self {
        let agent = agent.chars().take(NAME_CHARS_MAX).collect();
        Self::Agent { key: key.clone(), agent, agents: agents.join(" ") }
    }
}

impl From<KeyRefusal> for Problem {
    fn from(refusal: KeyRefusal) -> Self {
        Self::new(refusal.code(), refusal.to_string()).with_hint(refusal.hint())
    }
}
