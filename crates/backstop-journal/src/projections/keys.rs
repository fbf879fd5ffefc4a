//! The keys of the gateway, folded from their stream: what each may do, which secrets are good for it, where it was used
//! from. The key ring is built from it, and `backstop keys list` shows it.
//!
//! It knows hashes only. Whether a key may be used now is asked with the time: a fold has no clock.

use crate::event::{KeyCreated, KeyHash, KeyRotated, KeyScope, Network};
use crate::{Event, EventBody, Seq};
use backstop_call::{KeyName, Timestamp};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// How many replaced secrets of a key are remembered. The oldest is forgotten first; it is unknown then, as if it had
/// never been.
const OLD_SECRETS_MAX: usize = 8;
/// How many addresses of a key are remembered. A key that was seen at so many is one that is used from everywhere: further
/// ones are not told.
const ADDRESSES_MAX: usize = 1_000;
/// The bits of an IPv6 address that name a network: the rest is chosen by the machine and changes daily (RFC 8981).
const V6_NETWORK_BITS: u8 = 64;

/// All keys there were.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Keys {
    records: BTreeMap<KeyName, KeyRecord>,
    seq: Seq,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeyRecord {
    /// Its name.
    pub key: KeyName,
    /// The first characters of its secret.
    pub prefix: String,
    /// The hash of its secret.
    #[serde(skip)]
    pub hash: KeyHash,
    /// What it may do.
    pub scope: KeyScope,
    /// When it was created.
    pub created: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When its secret was made: at its creation, or at the last rotation.
    pub secret_since: Timestamp,
    /// Secrets that were replaced, the oldest first.
    pub replaced: Vec<Replaced>,
    /// When and by whom it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revoked>,
    /// Where it was used from.
    pub addresses: Addresses,
}

/// A secret that was replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replaced {
    /// Its first characters.
    pub prefix: String,
    /// Its hash.
    #[serde(skip)]
    pub hash: KeyHash,
    /// Until when it is good.
    pub until: Timestamp,
}

/// How a key ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Revoked {
    /// When.
    pub at: Timestamp,
    /// Who did it.
    pub by: String,
}

/// How a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It can be used.
    Active,
    /// Its time is over.
    Expired,
    /// Somebody ended it.
    Revoked,
}

impl Standing {
    /// The name as it stands in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl Keys {
    /// Folds all events of the stream.
    pub fn fold<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut keys = Self::default();
        events.into_iter().for_each(|event| keys.apply(event));
        keys
    }

    /// Folds the next event of the stream in.
    pub fn apply(&mut self, event: &Event) {
        self.seq = event.seq;
        match &event.body {
            EventBody::KeyCreated(created) => {
                // The first one has the name: whoever appended a second one at the same moment finds out by reading.
                let record = || KeyRecord::new(created, event.at);
                self.records.entry(created.key.clone()).or_insert_with(record);
            }
            EventBody::KeyRotated(rotated) => {
                if let Some(record) = self.records.get_mut(&rotated.key) {
                    record.rotate(rotated, event.at);
                }
            }
            EventBody::KeyRevoked(revoked) => {
                if let Some(record) = self.records.get_mut(&revoked.key) {
                    record.revoked.get_or_insert_with(|| Revoked { at: event.at, by: revoked.by.clone() });
                }
            }
            EventBody::KeyFirstUsedFrom(used) => {
                if let Some(record) = self.records.get_mut(&used.key) {
                    record.addresses.note(used.address);
                }
            }
            _ => {}
        }
    }

    /// The last event that was folded in: read the stream after it.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// A key by its name.
    pub fn get(&self, key: &KeyName) -> Option<&KeyRecord> {
        self.records.get(key)
    }

    /// Every key, by name, those that are good no more too.
    pub fn iter(&self) -> impl Iterator<Item = &KeyRecord> {
        self.records.values()
    }
}

impl KeyRecord {
    fn new(created: &KeyCreated, at: Timestamp) -> Self {
        Self {
            key: created.key.clone(),
            prefix: created.prefix.clone(),
            hash: created.hash,
            scope: created.scope.clone(),
            created: at,
            created_by: created.by.clone(),
            secret_since: at,
            replaced: Vec::new(),
            revoked: None,
            addresses: Addresses::default(),
        }
    }

    fn rotate(&mut self, rotated: &KeyRotated, at: Timestamp) {
        // A rotation without overlap means that no old secret is trusted any more, those before the last one neither.
        for old in &mut self.replaced {
            old.until = old.until.min(rotated.old_until);
        }
        let prefix = std::mem::replace(&mut self.prefix, rotated.prefix.clone());
        let hash = std::mem::replace(&mut self.hash, rotated.hash);
        self.replaced.push(Replaced { prefix, hash, until: rotated.old_until });
        if self.replaced.len() > OLD_SECRETS_MAX {
            self.replaced.remove(0);
        }
        self.secret_since = at;
    }

    /// How it stands at a moment.
    pub fn standing(&self, now: Timestamp) -> Standing {
        if self.revoked.is_some() {
            Standing::Revoked
        } else if self.scope.expires.is_some_and(|expires| expires <= now) {
            Standing::Expired
        } else {
            Standing::Active
        }
    }
}

/// The addresses that a key was used from, as many as are remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Addresses(BTreeSet<Network>);

impl Addresses {
    /// Remembers an address. Whether it is new: the first one of its network in IPv6, the first one in IPv4, and there
    /// was room to remember it.
    pub fn note(&mut self, address: IpAddr) -> bool {
        self.0.len() < ADDRESSES_MAX && self.0.insert(place_of(address))
    }

    /// Whether an address would be new.
    pub fn is_new(&self, address: IpAddr) -> bool {
        self.0.len() < ADDRESSES_MAX && !self.0.contains(&place_of(address))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn place_of(address: IpAddr) -> Network {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => Network::around(v4, 32),
        v6 @ IpAddr::V6(_) => Network::around(v6, V6_NETWORK_BITS),
    }
}

#[cfg(test)]
mod tests;
