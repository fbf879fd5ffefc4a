//! Names and ids. Each is a type of its own, so that two cannot be mixed up.

use crate::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text of it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }
    };
}

name!(
    /// One run of an agent.
    RunId
);
name!(
    /// One logical model call, over all its attempts.
    CallId
);
name!(
    /// A task, by the id its owner gave it.
    TaskId
);
name!(
    /// A job, by its name in config.
    JobName
);
name!(
    /// The role a run or a key acts in: budgets and rights hang on it.
    Role
);
name!(
    /// A key of the gateway, by the name it was created with. Never used again for another one.
    KeyName
);
name!(
    /// A provider, by its name in config.
    ProviderName
);
name!(
    /// A model or a chain, by its name in config.
    ModelName
);
name!(
    /// An agent, by its name in config.
    AgentName
);
name!(
    /// One question to a person: may this tool call be made.
    ApprovalId
);
name!(
    /// What a person allowed beforehand, for calls of one kind.
    GrantId
);
name!(
    /// One reservation: a call's id and the number of the attempt.
    ReservationId
);

/// Crockford's base 32 in lower case: no i, l, o, u.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Sixteen letters that sort by time: 45 bits of milliseconds (until the year 3084), then 35 random bits.
fn sortable(now: Timestamp, random: u64) -> Arc<str> {
    let bits = (u128::from(now.nanos() / 1_000_000) << 35) | u128::from(random >> 29);
    let letters: [u8; 16] = std::array::from_fn(|i| {
        let five = (bits >> ((15 - i) * 5)) & 31;
        ALPHABET[usize::try_from(five).unwrap_or(0)]
    });
    std::str::from_utf8(&letters).unwrap_or_default().into()
}

impl RunId {
    /// A new id, sortable by time. `random` must be drawn anew for each.
    pub fn new(now: Timestamp, random: u64) -> Self {
        Self(sortable(now, random))
    }
}

impl CallId {
    /// A new id, sortable by time. `random` must be drawn anew for each.
    pub fn new(now: Timestamp, random: u64) -> Self {
        Self(sortable(now, random))
    }
}

impl GrantId {
    /// A new id, sortable by time. `random` must be drawn anew for each.
    pub fn new(now: Timestamp, random: u64) -> Self {
        Self(sortable(now, random))
    }
}

impl ApprovalId {
    /// A new id, sortable by time. `random` must be drawn anew for each.
    pub fn new(now: Timestamp, random: u64) -> Self {
        Self(sortable(now, random))
    }
}

impl ReservationId {
    /// The reservation of one attempt of a call: the same inputs give the same id, so that a replay changes nothing.
    pub fn of(call: &CallId, attempt: u32) -> Self {
        Self([call.as_str(), ".", &attempt.to_string()].concat().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time() {
        let early = RunId::new(Timestamp::from_secs(1_800_000_000), u64::MAX);
        let late = RunId::new(Timestamp::from_secs(1_800_000_001), 0);
        assert!(early < late);
        assert_eq!(early.as_str().len(), 16);
        assert_eq!(ReservationId::of(&"c1".into(), 2).as_str(), "c1.2");
    }
}
