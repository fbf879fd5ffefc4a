//! Who is told of events once they are committed: progress, log files, metrics.

use backstop_journal::Event;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// Called with the events of every commit after it, in order. It runs on the thread that writes: it must not wait; who
/// needs the events elsewhere keeps them, which copies none. Large bodies have moved out of them by then.
pub type Observer = Arc<dyn Fn(&Arc<[Event]>) + Send + Sync>;

/// Who is told.
#[derive(Clone, Default)]
pub(crate) struct Observers(Arc<RwLock<Vec<Observer>>>);

impl Observers {
    pub(crate) fn add(&self, observer: Observer) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(observer);
    }

    pub(crate) fn tell(&self, events: Vec<Event>) {
        let observers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if events.is_empty() || observers.is_empty() {
            return;
        }
        let events = Arc::from(events);
        observers.iter().for_each(|observer| observer(&events));
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.read().unwrap_or_else(PoisonError::into_inner).len();
        write!(f, "Observers({count})")
    }
}
