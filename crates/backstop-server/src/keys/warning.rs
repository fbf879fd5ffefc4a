//! Which keys somebody should look after: told by `backstop keys list`, and by a server when it starts.

use crate::config::sections;
use backstop_call::{KeyName, Timestamp};
use backstop_journal::projections::keys::{KeyRecord, Keys, Standing};
use serde::Serialize;
use std::fmt;

/// A key that somebody should look after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyWarning {
    /// The key.
    pub key: KeyName,
    /// Why.
    pub worry: Worry,
}

/// Why somebody should look after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Worry {
    /// Its secret is so many days old.
    Old(u64),
    /// It ends soon.
    Expires(Timestamp),
}

impl fmt::Display for Worry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Old(days) => {
                write!(f, "its secret is {days} days old; `backstop keys rotate` makes a new one")
            }
            Self::Expires(at) => write!(f, "it expires at {at}"),
        }
    }
}

impl fmt::Display for KeyWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {}: {}", self.key, self.worry)
    }
}

/// What there is to worry about, by name. A key that is good no more worries nobody.
pub fn warnings(keys: &Keys, now: Timestamp, rules: &sections::Keys) -> Vec<KeyWarning> {
    let of = |record: &KeyRecord| {
        let key = record.key.clone();
        worries(record, now, rules).into_iter().map(move |worry| KeyWarning { key: key.clone(), worry })
    };
    keys.iter().flat_map(of).collect()
}

fn worries(record: &KeyRecord, now: Timestamp, rules: &sections::Keys) -> Vec<Worry> {
    if record.standing(now) != Standing::Active {
        return Vec::new();
    }
    let age = now.since(record.secret_since);
    let old = (age > rules.warn_age.0).then_some(Worry::Old(age.as_secs() / 86_400));
    let soon = |expires: &Timestamp| expires.since(now) <= rules.warn_expiry.0;
    let expires = record.scope.expires.filter(soon).map(Worry::Expires);
    old.into_iter().chain(expires).collect()
}
