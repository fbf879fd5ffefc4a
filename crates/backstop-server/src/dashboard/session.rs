//! Who is signed in at the dashboard: tokens that this process gave out, each for a while and for one key. The key is looked up
//! anew each time, so that one that was revoked ends its sessions.

use backstop_call::Timestamp;
use backstop_journal::event::KeyHash;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long somebody stays signed in.
pub(super) const SESSION: Duration = Duration::from_mins(30);
/// Sessions at a time; who comes beyond ends the oldest.
const SESSIONS_MAX: usize = 256;

/// Somebody who is signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    /// The hash of the secret they came with.
    pub(super) key: KeyHash,
    /// What every form of theirs must bring along.
    pub(super) form: String,
    until: Timestamp,
}

/// Everybody who is signed in, by the hash of their token: how long a look takes tells nothing of a token.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<blake3::Hash, Session>>);

impl Sessions {
    /// Begins a session; gives its token.
    pub(super) fn begin(&self, key: KeyHash, now: Timestamp) -> Result<String, getrandom::Error> {
        let (token, form) = (random()?, random()?);
        let mut sessions = self.lock();
        sessions.retain(|_, session| session.until > now);
        if sessions.len() >= SESSIONS_MAX {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.until).map(|(hash, _)| *hash);
            oldest.and_then(|hash| sessions.remove(&hash));
        }
        sessions.insert(blake3::hash(token.as_bytes()), Session { key, form, until: now + SESSION });
        Ok(token)
    }

    /// The session of a token.
    pub(super) fn find(&self, token: &str, now: Timestamp) -> Option<Session> {
        let found = self.lock().get(&blake3::hash(token.as_bytes())).cloned();
        found.filter(|session| session.until > now)
    }

    /// Ends a session.
    pub(super) fn end(&self, token: &str) {
        self.lock().remove(&blake3::hash(token.as_bytes()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<blake3::Hash, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Whether a form is one that this session was shown. Compared by hashes, in time that tells nothing.
    pub(super) fn made(&self, form: &str) -> bool {
        blake3::hash(self.form.as_bytes()) == blake3::hash(form.as_bytes())
    }
}

/// 256 random bits, in hex.
fn random() -> Result<String, getrandom::Error> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes)?;
    let mut text = String::with_capacity(64);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_800_000_000);

    #[test]
    fn a_session_ends_by_itself_and_when_it_is_told_to() {
        let (sessions, key) = (Sessions::default(), KeyHash::of("secret"));
        let (one, two) = (sessions.begin(key, START).unwrap(), sessions.begin(key, START).unwrap());
        let session = sessions.find(&one, START).unwrap();
        assert!(one != two && session.key == key && session.form != one);
        assert!(session.made(&session.form) && !session.made("") && !session.made(&one));
        sessions.end(&two);
        assert_eq!(sessions.find(&two, START), None);
        assert!(sessions.find(&one, START + SESSION - Duration::from_nanos(1)).is_some());
        assert_eq!(sessions.find(&one, START + SESSION), None);
        assert_eq!(sessions.find("", START), None);
    }

    #[test]
    fn sessions_are_bounded_and_the_oldest_goes() {
        let sessions = Sessions::default();
        let key = KeyHash::of("secret");
        let first = sessions.begin(key, START).unwrap();
        for n in 1..=SESSIONS_MAX as u64 {
            sessions.begin(key, START + Duration::from_secs(n)).unwrap();
        }
        assert_eq!((sessions.find(&first, START), sessions.lock().len()), (None, SESSIONS_MAX));
    }
}
