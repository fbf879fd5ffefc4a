//! Events of the gateway's keys, and what a key may do. A key's secret is shown once, to the one who made it; what is
//! kept is its hash and its first characters.

use super::Network;
use backstop_call::{KeyLimits, KeyName, Labels, Priority, Role, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// The hash of a key's secret: BLAKE3, 32 bytes, hex in JSON.
///
/// A fast hash is the right one here. Slow ones (Argon2, bcrypt) protect passwords, which can be guessed; a secret of 200
/// random bits cannot, whatever one guess costs, and a slow hash would be paid by every request. For the same reason there
/// is no salt, so that a secret is found by one look into a map.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyHash([u8; 32]);

/// A text that is no hash of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a key's hash is 64 hexadecimal digits")]
pub struct BadKeyHash;

impl KeyHash {
    /// The hash of a secret.
    pub fn of(secret: &str) -> Self {
        Self(*blake3::hash(secret.as_bytes()).as_bytes())
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for KeyHash {
    type Error = BadKeyHash;
    fn try_from(text: String) -> Result<Self, BadKeyHash> {
        blake3::Hash::from_hex(&text).map(|hash| Self(*hash.as_bytes())).map_err(|_| BadKeyHash)
    }
}

impl From<KeyHash> for String {
    fn from(hash: KeyHash) -> Self {
        hash.to_string()
    }
}

/// What a key opens: one thing, and nothing else. Agents hold the keys that ask models; whoever says yes to an agent must
/// hold another one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyRight {
    /// To ask models.
    #[default]
    Call,
    /// To see what agents do, and what they ask people, and to answer it.
    Approve,
    /// To see the same and change nothing.
    View,
    /// To put tasks into the queue, and to see, retry and end those that it put in.
    Submit,
}

impl KeyRight {
    /// Whether whoever holds the key may see what agents do.
    pub fn looks(self) -> bool {
        match self {
            Self::Call | Self::Submit => false,
            Self::Approve | Self::View => true,
        }
    }
}

impl fmt::Display for KeyRight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Call => "ask models",
            Self::Approve => "see and answer approvals",
            Self::View => "see the dashboard",
            Self::Submit => "submit tasks",
        })
    }
}

/// What a key may do. What is left out is not limited by the key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct KeyScope {
    /// What it opens.
    #[serde(default)]
    pub right: KeyRight,
    /// The role its calls are made in, whatever they ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The models and chains it may ask for, by the names that clients use; `*` stands for any letters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// The agents its tasks may be for, where it submits tasks; `*` stands for any letters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<String>,
    /// What it may spend.
    #[serde(default)]
    pub budget: KeyLimits,
    /// Requests per minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
    /// Tokens per minute, input and output together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Calls at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent: Option<u32>,
    /// Where it may come from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Network>,
    /// The environment it belongs to: a word like `prod`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// How urgent its calls are, whatever they ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Labels that everything sent with it carries, beside its own.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// In words: `models claude-*, $5.00 a day, from 10.0.0.0/8`; `everything` when nothing is limited.
impl fmt::Display for KeyScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |name: &str, texts: Vec<String>| {
            (!texts.is_empty()).then(|| format!("{name} {}", texts.join(" ")))
        };
        let priority = |priority| match priority {
            Priority::Batch => "priority batch",
            Priority::Standard => "priority standard",
            Priority::Interactive => "priority interactive",
        };
        let parts = [
            (self.right != KeyRight::Call).then(|| format!("{} only", self.right)),
            self.role.as_ref().map(|role| format!("role {role}")),
            list("models", self.models.clone()),
            list("agents", self.agents.clone()),
            self.budget.day.map(|limit| format!("{limit} a day")),
            self.budget.whole.map(|limit| format!("{limit} in all")),
            self.requests_per_minute.map(|limit| format!("{limit} requests a minute")),
            self.tokens_per_minute.map(|limit| format!("{limit} tokens a minute")),
            self.concurrent.map(|limit| format!("{limit} at once")),
            list("from", self.from.iter().map(ToString::to_string).collect()),
            self.environment.as_ref().map(|environment| format!("in {environment}")),
            self.priority.map(priority).map(str::to_owned),
            list("labels", label_names(&self.labels)),
            self.expires.map(|expires| format!("until {expires}")),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        if parts.is_empty() { f.write_str("everything") } else { f.write_str(&parts.join(", ")) }
    }
}

fn label_names(labels: &Labels) -> Vec<String> {
    let untrusted = labels.untrusted.then(|| "untrusted".to_owned());
    untrusted.into_iter().chain(labels.private.iter().map(|category| category.as_str().to_owned())).collect()
}

/// A key exists. The first key of a name has it for good: a later `key.created` of the same name means nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyCreated {
    /// The key.
    pub key: KeyName,
    /// The hash of its secret.
    pub hash: KeyHash,
    /// The first characters of the secret, to recognise it.
    pub prefix: String,
    /// What it may do.
    pub scope: KeyScope,
    /// Who made it.
    pub by: String,
}

/// A key has a new secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRotated {
    /// The key.
    pub key: KeyName,
    /// The hash of the new secret.
    pub hash: KeyHash,
    /// The first characters of the new secret.
    pub prefix: String,
    /// Until when the secrets before it are still good; none of them is good for longer than it was.
    pub old_until: Timestamp,
    /// Who made it.
    pub by: String,
}

/// A key is good no more, for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRevoked {
    /// The key.
    pub key: KeyName,
    /// Who revoked it.
    pub by: String,
}

/// A key was used from an address it was never used from before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyFirstUsedFrom {
    /// The key.
    pub key: KeyName,
    /// The address.
    pub address: IpAddr,
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_call::Money;

    #[test]
    fn a_hash_is_blake3_in_hex() {
        // The reference's test vector for no input.
        let hex = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(KeyHash::of("").to_string(), hex);
        assert_eq!(KeyHash::try_from(hex.to_owned()), Ok(KeyHash::of("")));
        assert_eq!(KeyHash::try_from(hex[1..].to_owned()), Err(BadKeyHash));
    }

    #[test]
    fn a_scope_in_words() {
        assert_eq!(KeyScope::default().to_string(), "everything");
        let approver = KeyScope { right: KeyRight::Approve, ..KeyScope::default() };
        assert_eq!(approver.to_string(), "see and answer approvals only");
        let viewer = KeyScope { right: KeyRight::View, ..KeyScope::default() };
        assert_eq!(viewer.to_string(), "see the dashboard only");
        let submitter = KeyScope {
            right: KeyRight::Submit,
            agents: vec!["writer".into(), "test-*".into()],
            ..KeyScope::default()
        };
        assert_eq!(submitter.to_string(), "submit tasks only, agents writer test-*");
        let budget = KeyLimits { day: Some(Money::from_dollars(5)), whole: None };
        let scope = KeyScope {
            models: vec!["claude-*".into(), "mini".into()],
            budget,
            from: vec!["10.0.0.0/8".parse().unwrap()],
            labels: Labels::untrusted(),
            ..KeyScope::default()
        };
        assert_eq!(scope.to_string(), "models claude-* mini, $5.00 a day, from 10.0.0.0/8, labels untrusted");
    }
}
