//! The key ring: from a secret to its key, and whether that key may be used so. It never changes; what keys have used of
//! their limits and where they were seen lives beside it and goes on when a new ring takes its place.

use super::limit::{Full, Limits, Pass};
use super::pattern;
use super::refusal::KeyRefusal;
use super::secret::SECRET_BYTES_MAX;
use backstop_call::{Context, KeyName, Timestamp};
use backstop_journal::event::{KeyFirstUsedFrom, KeyHash, KeyRight, KeyScope};
use backstop_journal::projections::keys::{Addresses, KeyRecord, Keys};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All keys, by the hashes of their secrets.
#[derive(Debug, Clone, Default)]
pub struct KeyRing {
    by_hash: HashMap<KeyHash, Entry>,
    by_name: HashMap<KeyName, Arc<Key>>,
}

#[derive(Debug, Clone)]
struct Entry {
    key: Arc<Key>,
    /// Until when this secret is good, where another one took its place.
    until: Option<Timestamp>,
}

/// A key, and what it has used.
#[derive(Debug)]
pub struct Key {
    name: KeyName,
    scope: KeyScope,
    revoked: bool,
    usage: Arc<Mutex<Usage>>,
}

#[derive(Debug)]
struct Usage {
    limits: Limits,
    addresses: Addresses,
}

impl KeyRing {
    /// The ring of these keys. What a key has used is taken over from the ring before.
    pub fn new(keys: &Keys, before: &Self) -> Self {
        let mut ring = Self::default();
        for record in keys.iter() {
            let key = Arc::new(Key::new(record, before.by_name.get(&record.key)));
            let old = record.replaced.iter().map(|old| (old.hash, Some(old.until)));
            for (hash, until) in old.chain([(record.hash, None)]) {
                ring.by_hash.insert(hash, Entry { key: Arc::clone(&key), until });
            }
            ring.by_name.insert(record.key.clone(), key);
        }
        ring
    }

    /// Whether no key to ask models was ever made, not even one that is good no more: a gateway that nobody has closed. Keys
    /// that approve close nothing.
    pub fn is_empty(&self) -> bool {
        self.by_name.values().all(|key| key.scope.right != KeyRight::Call)
    }

    /// Whether a key that approves was ever made.
    pub fn has_approvers(&self) -> bool {
        self.by_name.values().any(|key| key.scope.right == KeyRight::Approve)
    }

    /// Whether any key was ever made, for whatever it is good.
    pub fn has_keys(&self) -> bool {
        !self.by_name.is_empty()
    }

    /// Whether any key was ever made with which a person may look at the dashboard.
    pub fn has_lookers(&self) -> bool {
        self.by_name.values().any(|key| key.scope.right.looks())
    }

    /// A key by its name.
    pub fn get(&self, name: &KeyName) -> Option<&Arc<Key>> {
        self.by_name.get(name)
    }

    /// The key of a secret, if both are good now. One hash and one look into a map, whatever the number of keys.
    ///
    /// The look compares hashes in time that depends on them, which tells nobody anything: the hash of a guess is not
    /// what the one who guesses chooses.
    ///
    /// # Errors
    /// `Missing` for an empty secret, `Unknown`, `Revoked`, `Expired`, `Replaced`.
    pub fn find(&self, secret: &str, now: Timestamp) -> Result<Arc<Key>, KeyRefusal> {
        if secret.is_empty() {
            return Err(KeyRefusal::Missing);
        }
        if secret.len() > SECRET_BYTES_MAX {
            return Err(KeyRefusal::Unknown);
        }
        self.find_hash(&KeyHash::of(secret), now)
    }

    /// The same for the hash of a secret that was shown before.
    ///
    /// # Errors
    /// `Unknown`, `Revoked`, `Expired`, `Replaced`.
    pub fn find_hash(&self, hash: &KeyHash, now: Timestamp) -> Result<Arc<Key>, KeyRefusal> {
        let Entry { key, until } = self.by_hash.get(hash).ok_or(KeyRefusal::Unknown)?;
        if key.revoked {
            return Err(KeyRefusal::Revoked(key.name.clone()));
        }
        if let Some(expires) = key.scope.expires.filter(|expires| *expires <= now) {
            return Err(KeyRefusal::Expired(key.name.clone(), expires));
        }
        if let Some(until) = until.filter(|until| *until <= now) {
            return Err(KeyRefusal::Replaced(key.name.clone(), until));
        }
        Ok(Arc::clone(key))
    }
}

impl Key {
    fn new(record: &KeyRecord, before: Option<&Arc<Self>>) -> Self {
        // What a key may do never changes, so what it has used of its limits stays true.
        let usage = before.map_or_else(
            || {
                let usage = Usage { limits: Limits::new(&record.scope), addresses: record.addresses.clone() };
                Arc::new(Mutex::new(usage))
            },
            |before| Arc::clone(&before.usage),
        );
        let (name, scope) = (record.key.clone(), record.scope.clone());
        Self { name, scope, revoked: record.revoked.is_some(), usage }
    }

    /// Its name.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// What it may do.
    pub fn scope(&self) -> &KeyScope {
        &self.scope
    }

    /// Whether it may ask for a model or chain, by the name that a client uses.
    pub fn may_ask(&self, model: &str) -> bool {
        let models = &self.scope.models;
        models.is_empty() || models.iter().any(|pattern| pattern::matches(pattern, model))
    }

    /// Whether its tasks may be for an agent.
    pub fn may_name(&self, agent: &str) -> bool {
        let agents = &self.scope.agents;
        agents.is_empty() || agents.iter().any(|pattern| pattern::matches(pattern, agent))
    }

    /// Notes where the key is used from. An address that was never seen with it gives the event that tells so, once;
    /// the caller appends it.
    pub fn first_use(&self, peer: IpAddr) -> Option<KeyFirstUsedFrom> {
        let new = self.usage().addresses.note(peer);
        new.then(|| KeyFirstUsedFrom { key: self.name.clone(), address: peer.to_canonical() })
    }

    /// Calls under way.
    pub fn under_way(&self) -> u32 {
        self.usage().limits.under_way()
    }

    fn enter(self: &Arc<Self>, now: Timestamp, tokens: u64) -> Result<Pass, KeyRefusal> {
        let entered = self.usage().limits.enter(now, tokens);
        let busy = |Full { limit, wait }| KeyRefusal::Busy { key: self.name.clone(), limit, wait };
        entered.map(|()| Pass::new(Arc::clone(self), tokens)).map_err(busy)
    }

    pub(super) fn leave(&self, estimated: u64, used: u64) {
        self.usage().limits.leave(estimated, used);
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        // Held for some arithmetic, never while anybody waits.
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a request wants to do with its key.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// Where it comes from.
    pub peer: IpAddr,
    /// The environment of this gateway.
    pub environment: Option<&'a str>,
    /// What it wants to do.
    pub right: KeyRight,
    /// The model or chain it asks for, by the client's name; `None` where it asks for none, as to list them.
    pub model: Option<&'a str>,
}

/// Whether a key may be used so.
///
/// # Errors
/// `Address`, `Environment`, `Right`, `Model`, in this order: a stolen key is told nothing of what it could do elsewhere.
pub fn admit(key: Arc<Key>, asking: &Asking<'_>) -> Result<Admitted, KeyRefusal> {
    let Key { name, scope, .. } = &*key;
    if !scope.from.is_empty() && !scope.from.iter().any(|network| network.contains(asking.peer)) {
        return Err(KeyRefusal::Address { key: name.clone(), address: asking.peer.to_canonical() });
    }
    if let Some(wanted) = scope.environment.as_deref().filter(|wanted| Some(*wanted) != asking.environment) {
        let here = asking.environment.unwrap_or("of no environment").to_owned();
        return Err(KeyRefusal::Environment { key: name.clone(), wanted: wanted.to_owned(), here });
    }
    if scope.right != asking.right {
        return Err(KeyRefusal::Right { key: name.clone(), wanted: asking.right });
    }
    let admitted = Admitted(key);
    asking.model.map_or(Ok(()), |model| admitted.may_ask(model))?;
    Ok(admitted)
}

/// A request that may come in, once its key's limits have room: only [`admit`] makes one.
#[derive(Debug, Clone)]
pub struct Admitted(Arc<Key>);

impl Admitted {
    /// The key.
    pub fn key(&self) -> &Arc<Key> {
        &self.0
    }

    /// Whether its tasks may be for an agent.
    ///
    /// # Errors
    /// `Agent`.
    pub fn may_name(&self, agent: &str) -> Result<(), KeyRefusal> {
        let refusal = || KeyRefusal::agent(&self.0.name, agent, &self.0.scope.agents);
        if self.0.may_name(agent) { Ok(()) } else { Err(refusal()) }
    }

    /// Whether it may ask for a model or chain.
    ///
    /// # Errors
    /// `Model`.
    pub fn may_ask(&self, model: &str) -> Result<(), KeyRefusal> {
        let refusal = || KeyRefusal::model(&self.0.name, model, &self.0.scope.models);
        if self.0.may_ask(model) { Ok(()) } else { Err(refusal()) }
    }

    /// On whose behalf the call is made, where `asked` is what the request says of itself: what the key pins goes before
    /// it, and labels are only ever added.
    pub fn context(&self, asked: Context) -> Context {
        let scope = &self.0.scope;
        Context {
            role: scope.role.clone().or(asked.role),
            key: Some(self.0.name.clone()),
            key_limits: scope.budget,
            priority: scope.priority.unwrap_or(asked.priority),
            labels: asked.labels.joined(&scope.labels),
            ..asked
        }
    }

    /// Takes a place in the key's limits, with the tokens that the call is estimated to use.
    ///
    /// # Errors
    /// `Busy`, with the wait.
    pub fn enter(&self, now: Timestamp, tokens: u64) -> Result<Pass, KeyRefusal> {
        self.0.enter(now, tokens)
    }
}
