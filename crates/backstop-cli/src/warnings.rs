//! What a person must hear although it belongs to no run: a budget that is nearly spent. The process that commits such an
//! event tells it, so it is told once, however many processes share the budget.

use crate::narrate::{Line, Narrator};
use crate::progress::Screen;
use backstop_journal::{Event, EventBody};
use std::sync::{Arc, Mutex, PoisonError};

/// Warnings that were not told yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<Vec<Line>>>);

impl Warnings {
    /// Takes a committed event in. Called on the thread that writes: it only puts a line aside.
    pub(crate) fn take(&self, event: &Event) {
        if let EventBody::BudgetWarned(_) = &event.body {
            let line = Narrator::default().push(event);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(line);
        }
    }

    /// Tells what has come since the last time.
    pub(crate) fn tell(&self, screen: &Screen) {
        let lines = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for line in &lines {
            screen.narrated(None, line);
        }
    }
}
