//! Keeps a ring up to date with the journal: what another process appended acts with the next look.

use super::ring::KeyRing;
use backstop_journal::projections::keys::Keys;
use backstop_journal::{EventBody, Journal, JournalError, StreamId};
use std::sync::Arc;

/// The keys as the journal tells them, and the ring that is built from them.
#[derive(Debug, Clone, Default)]
pub struct KeyWatch {
    keys: Keys,
    ring: Arc<KeyRing>,
}

impl KeyWatch {
    /// Reads all keys.
    pub async fn open(journal: &dyn Journal) -> Result<Self, JournalError> {
        let mut watch = Self::default();
        watch.refresh(journal).await?;
        Ok(watch)
    }

    /// The ring as of the last look.
    pub fn ring(&self) -> &Arc<KeyRing> {
        &self.ring
    }

    /// The keys as of the last look: for warnings.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Reads what is new. Gives the new ring when there is one; calls that are under way go on with the old one, and both
    /// count in the same limits.
    pub async fn refresh(&mut self, journal: &dyn Journal) -> Result<Option<Arc<KeyRing>>, JournalError> {
        let events = journal.read(&StreamId::Keys, self.keys.seq()).await?;
        let mut changed = false;
        for event in &events {
            self.keys.apply(event);
            match &event.body {
                // Most often it is our own. Another process's must not be told of again.
                EventBody::KeyFirstUsedFrom(used) => {
                    if let Some(key) = self.ring.get(&used.key) {
                        key.first_use(used.address);
                    }
                }
                _ => changed = true,
            }
        }
        if !changed {
            return Ok(None);
        }
        self.ring = Arc::new(KeyRing::new(&self.keys, &self.ring));
        Ok(Some(Arc::clone(&self.ring)))
    }
}
