//! Counting what this process commits while it is at hand: nothing is read and decoded again for the numbers. It holds only
//! as long as the events of this process follow on one another; where another process wrote in between, or a run goes on
//! that is not known, counting goes back to the database, and comes here again when it has caught up.

use backstop_journal::projections::numbers::{Batch, Fold};
use backstop_journal::{Event, Position};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Events that wait while the database is being caught up with. More are read there.
const WAITING_MAX: usize = 8_192;

/// What is counted ahead of the database. Shared with the thread that writes.
#[derive(Debug, Default)]
pub(super) struct Ahead(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    mode: Mode,
    /// Counted after `from`, up to `to`.
    batch: Batch,
    fold: Fold,
    from: Position,
    to: Position,
    waiting: VecDeque<Arc<[Event]>>,
    waiting_events: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Mode {
    /// Nobody counts in this process.
    #[default]
    Off,
    /// Each event is counted as it is committed.
    InStep,
    /// Events wait until the database was caught up with.
    Behind,
    /// So many came meanwhile that they are read from there, too.
    Lost,
}

/// What was counted ahead.
pub(super) struct Taken {
    /// The events after this one,
    pub(super) from: Position,
    /// up to this one,
    pub(super) to: Position,
    /// come to this.
    pub(super) batch: Batch,
}

impl Ahead {
    /// Takes what a commit brought. It runs on the thread that writes.
    pub(super) fn see(&self, events: &Arc<[Event]>) {
        let mut state = self.lock();
        match state.mode {
            Mode::Off | Mode::Lost => {}
            Mode::InStep => {
                if !state.count(events) {
                    state.mode = Mode::Behind;
                    state.wait(events);
                }
            }
            Mode::Behind => state.wait(events),
        }
    }

    /// What was counted since the last time; `None` when counting is not in step.
    pub(super) fn take(&self) -> Option<Taken> {
        let mut state = self.lock();
        let State { mode: Mode::InStep, from, to, .. } = *state else { return None };
        state.from = to;
        Some(Taken { from, to, batch: std::mem::take(&mut state.batch) })
    }

    /// Whether this is the first time that anybody counts here. From now on events wait.
    pub(super) fn fall_behind(&self) -> bool {
        let mut state = self.lock();
        let first = state.mode == Mode::Off;
        *state = State { mode: Mode::Behind, ..State::default() };
        first
    }

    /// The database was caught up with: from `position` on each event is counted as it comes, and those that wait now.
    pub(super) fn catch_up(&self, fold: Fold, position: Position) {
        let mut state = self.lock();
        if state.mode != Mode::Behind {
            return;
        }
        let waiting = std::mem::take(&mut state.waiting);
        *state = State { mode: Mode::InStep, fold, from: position, to: position, ..State::default() };
        if !waiting.iter().all(|events| state.count(events)) {
            state.mode = Mode::Lost;
        }
    }

    /// A panic elsewhere leaves at worst what is read again from the database.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts events that follow on what was counted; those that were counted already are passed over. Whether they follow:
    /// if not, nothing of what was counted ahead is good any more.
    fn count(&mut self, events: &[Event]) -> bool {
        for event in events.iter().filter(|event| event.position > self.to).collect::<Vec<_>>() {
            if event.position != self.to + 1 || self.fold.lacks(event).is_some() {
                return false;
            }
            self.fold.apply(event, &mut self.batch);
            self.to = event.position;
        }
        true
    }

    fn wait(&mut self, events: &Arc<[Event]>) {
        self.waiting_events += events.len();
        if self.waiting_events > WAITING_MAX {
            self.mode = Mode::Lost;
            self.waiting.clear();
        } else {
            self.waiting.push_back(Arc::clone(events));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_call::Timestamp;
    use backstop_journal::event::BreakerChanged;
    use backstop_journal::{Hash, StreamId};

    fn events(positions: std::ops::RangeInclusive<Position>) -> Arc<[Event]> {
        let event = |position| Event {
            position,
            stream: StreamId::Node,
            seq: position,
            at: Timestamp::from_secs(60),
            epoch: 0,
            body: BreakerChanged {
                provider: "p".into(),
                model: "m".into(),
                from: "closed".into(),
                to: "open".into(),
                reason: String::new(),
            }
            .into(),
            hash: Hash::default(),
        };
        positions.map(event).collect::<Vec<_>>().into()
    }

    fn taken(ahead: &Ahead) -> Option<(Position, Position, bool)> {
        ahead.take().map(|taken| (taken.from, taken.to, taken.batch.is_empty()))
    }

    #[test]
    fn what_follows_is_counted_and_what_does_not_is_read() {
        let ahead = Ahead::default();
        ahead.see(&events(1..=2));
        assert_eq!(taken(&ahead), None, "nobody counts yet");
        assert!(ahead.fall_behind() && !ahead.fall_behind());
        ahead.see(&events(3..=4));
        ahead.see(&events(5..=5));
        ahead.catch_up(Fold::default(), 3);
        assert_eq!(taken(&ahead), Some((3, 5, false)), "those that waited, without what was read meanwhile");
        assert_eq!(taken(&ahead), Some((5, 5, true)));
        ahead.see(&events(6..=7));
        assert_eq!(taken(&ahead), Some((5, 7, false)));
        // Somebody else wrote 8.
        ahead.see(&events(9..=9));
        assert_eq!(taken(&ahead), None);
        ahead.catch_up(Fold::default(), 8);
        assert_eq!(taken(&ahead), Some((8, 9, false)));
    }

    #[test]
    fn too_many_that_wait_are_read() {
        let ahead = Ahead::default();
        ahead.fall_behind();
        let many = Position::try_from(WAITING_MAX).unwrap();
        ahead.see(&events(1..=many));
        ahead.see(&events(many + 1..=many + 1));
        ahead.catch_up(Fold::default(), 0);
        assert_eq!(taken(&ahead), None);
        ahead.fall_behind();
        ahead.catch_up(Fold::default(), many + 1);
        assert_eq!(taken(&ahead), Some((many + 1, many + 1, true)));
    }
}
