//! Makes, rotates and revokes keys: reads the stream, decides, appends, and looks whether it took. The secret goes to the
//! caller and nowhere else.

use super::pattern;
use super::secret::{NoRandomness, SECRET_PREFIX, fresh};
use crate::config::{BadValue, Problem, allowed};
use backstop_call::{Code, KeyName, Secret, Timestamp};
use backstop_journal::event::{KeyCreated, KeyRevoked, KeyRotated, KeyScope};
use backstop_journal::projections::keys::{KeyRecord, Keys, Standing};
use backstop_journal::{Append, Durability, EventBody, Journal, JournalError, StreamId};
use std::time::Duration;

/// Names are for people: longer ones are a slip.
const NAME_CHARS_MAX: usize = 64;

/// A key to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct NewKey {
    /// Its name.
    pub name: KeyName,
    /// What it may do.
    pub scope: KeyScope,
    /// Who makes it.
    pub by: String,
}

impl NewKey {
    /// Whether it makes sense, whatever keys there are.
    ///
    /// # Errors
    /// `Past`, `Model`, `Agent`.
    pub fn check(&self, now: Timestamp) -> Result<(), KeyError> {
        if let Some(past) = self.scope.expires.filter(|expires| *expires <= now) {
            return Err(KeyError::Past(past));
        }
        for model in &self.scope.models {
            pattern::check(model).map_err(|bad| KeyError::Model { model: model.clone(), bad })?;
        }
        for agent in &self.scope.agents {
            pattern::check(agent).map_err(|bad| KeyError::Agent { agent: agent.clone(), bad })?;
        }
        Ok(())
    }
}

/// A key with a new secret.
#[derive(Debug, Clone)]
pub struct Made {
    /// The secret: to be shown once, and forgotten.
    pub secret: Secret,
    /// The key as it is now.
    pub record: KeyRecord,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The name is taken.
    #[error("there is a key {name} already{was}", was = if *.revoked { ", and it was revoked" } else { "" })]
    Exists {
        /// The name.
        name: KeyName,
        /// Whether that key was revoked.
        revoked: bool,
    },
    /// There is no such key.
    #[error("there is no key `{name}`")]
    NotFound {
        /// What was asked for.
        name: KeyName,
        /// What there is.
        names: Vec<KeyName>,
    },
    /// Somebody ended it.
    #[error("key {0} was revoked")]
    Revoked(KeyName),
    /// Its time is over.
    #[error("key {0} expired at {1}")]
    Expired(KeyName, Timestamp),
    /// It would never be good.
    #[error("the key would have expired at {0} already")]
    Past(Timestamp),
    /// A model is named in a way that names none.
    #[error("`{model}` names no model: {bad}")]
    Model {
        /// What was given.
        model: String,
        /// What is allowed.
        bad: pattern::BadPattern,
    },
    /// An agent is named in a way that names none.
    #[error("`{agent}` names no agent: {bad}")]
    Agent {
        /// What was given.
        agent: String,
        /// What is allowed.
        bad: pattern::BadPattern,
    },
    /// No secret can be made.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The journal did not do it.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl KeyError {
    /// The code a user can look up.
    pub fn code(&self) -> Code {
        match self {
            Self::Exists { .. } => Code::KeyExists,
            Self::NotFound { .. } => Code::KeyNotFound,
            Self::Revoked(_) => Code::KeyRevoked,
            Self::Expired(..) => Code::KeyExpired,
            Self::Past(_) | Self::Model { .. } | Self::Agent { .. } => Code::Usage,
            Self::NoRandomness(_) => Code::Internal,
            Self::Journal(error) => error.code(),
        }
    }
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        let problem = Self::new(error.code(), error.to_string());
        match error {
            KeyError::NotFound { name, names } => {
                problem.with_hint(allowed("keys", name.as_str(), names.iter().map(KeyName::as_str)))
            }
            KeyError::Past(_) => problem.with_hint("give a span from now, like 30d, or a date to come"),
            KeyError::Model { .. } => problem.with_hint("write `--model claude-*`, once for each name"),
            KeyError::Agent { .. } => problem.with_hint("write `--agent writer`, once for each name"),
            _ => problem,
        }
    }
}

/// Reads the name of a key: letters, digits, `.`, `_` and `-`, beginning with a letter or digit. It stands in the names of
/// accounts, in logs and in tables.
pub fn key_name(text: &str) -> Result<KeyName, BadValue> {
    let letters = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    let begins = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if text.starts_with(SECRET_PREFIX) {
        return Err(BadValue("this is the beginning of a secret; a key goes by its name".into()));
    }
    if !letters || !begins || text.len() > NAME_CHARS_MAX {
        return Err(BadValue(format!(
            "a name has at most {NAME_CHARS_MAX} letters, digits, `.`, `_` and `-`, and begins with a letter or digit"
        )));
    }
    Ok(text.into())
}

/// Makes a key.
///
/// # Errors
/// `Exists`, `Past`, `Model`, `Agent`; `NoRandomness`, `Journal`.
pub async fn create(journal: &dyn Journal, new: NewKey, now: Timestamp) -> Result<Made, KeyError> {
    new.check(now)?;
    let NewKey { name, scope, by } = new;
    let exists =
        |record: &KeyRecord| KeyError::Exists { name: record.key.clone(), revoked: record.revoked.is_some() };
    if let Some(record) = read(journal).await?.get(&name) {
        return Err(exists(record));
    }
    let made = fresh()?;
    let created = KeyCreated { key: name.clone(), hash: made.hash, prefix: made.prefix, scope, by };
    append(journal, created, now).await?;
    // Another process may have made the same name since we looked: whoever came first has it.
    let record = find(&read(journal).await?, &name)?.clone();
    if record.hash != made.hash {
        return Err(exists(&record));
    }
    Ok(Made { secret: made.secret, record })
}

/// Makes a new secret of a key. Those before it are good for `overlap` more, but none for longer than it was.
///
/// # Errors
/// `NotFound`, `Revoked`, `Expired`; `NoRandomness`, `Journal`.
pub async fn rotate(
    journal: &dyn Journal,
    name: &KeyName,
    overlap: Duration,
    by: &str,
    now: Timestamp,
) -> Result<Made, KeyError> {
    let keys = read(journal).await?;
    let record = find(&keys, name)?;
    match (record.standing(now), record.scope.expires) {
        (Standing::Revoked, _) => return Err(KeyError::Revoked(name.clone())),
        (Standing::Expired, Some(expires)) => return Err(KeyError::Expired(name.clone(), expires)),
        _ => {}
    }
    let made = fresh()?;
    let rotated = KeyRotated {
        key: name.clone(),
        hash: made.hash,
        prefix: made.prefix,
        old_until: now + overlap,
        by: by.to_owned(),
    };
    append(journal, rotated, now).await?;
    let record = find(&read(journal).await?, name)?.clone();
    Ok(Made { secret: made.secret, record })
}

/// Ends a key for ever. Gives it as it is then; one that was revoked before stays as it was.
///
/// # Errors
/// `NotFound`, `Journal`.
pub async fn revoke(
    journal: &dyn Journal,
    name: &KeyName,
    by: &str,
    now: Timestamp,
) -> Result<KeyRecord, KeyError> {
    let record = find(&read(journal).await?, name)?.clone();
    if record.revoked.is_some() {
        return Ok(record);
    }
    append(journal, KeyRevoked { key: name.clone(), by: by.to_owned() }, now).await?;
    find(&read(journal).await?, name).cloned()
}

async fn read(journal: &dyn Journal) -> Result<Keys, JournalError> {
    Ok(Keys::fold(&journal.read(&StreamId::Keys, 0).await?))
}

fn find<'a>(keys: &'a Keys, name: &KeyName) -> Result<&'a KeyRecord, KeyError> {
    let not_found =
        || KeyError::NotFound { name: name.clone(), names: keys.iter().map(|key| key.key.clone()).collect() };
    keys.get(name).ok_or_else(not_found)
}

/// A key that somebody was told of must be there after a loss of power, and one that was revoked must be gone.
async fn append(
    journal: &dyn Journal,
    event: impl Into<EventBody>,
    at: Timestamp,
) -> Result<(), JournalError> {
    let (stream, durability) = (StreamId::Keys, Durability::Synced);
    journal.append(Append { stream, epoch: None, events: vec![event.into()], at, durability }).await?;
    Ok(())
}
