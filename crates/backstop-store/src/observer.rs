//! Who is told of events once they are committed: progress, log files, metrics.

use backstop_journal::Event;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// Called with every event after its commit, in order. It runs on the thread that writes: it must not wait. Large
/// bodies have moved out of the event by then.
pub type Observer = Arc<dyn Fn(&Event) + Send + Sync>;

/// Who is told.
#[derive(Clone, Default)]
pub(crate) struct Observers(Arc<RwLock<Vec<Observer>>>);

impl Observers {
    pub(crate) fn add(&self, observer: Observer) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(observer);
    }

    pub(crate) fn tell(&self, events: &[Event]) {
        let observers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for observer in observers.iter() {
            for event in events {
                observer(event);
            }
        }
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.read().unwrap_or_else(PoisonError::into_inner).len();
        write!(f, "Observers({count})")
    }
}
