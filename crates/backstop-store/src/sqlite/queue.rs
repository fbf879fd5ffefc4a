//! A bounded queue into a thread. Putting in never waits: what does not fit is refused.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The queue.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    wake: Condvar,
    items_max: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    urgent: bool,
    closed: bool,
    /// How many whoever waits for company has enough at.
    enough: usize,
}

/// Why something was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is no room.
    Full,
    /// Nobody takes anything out any more.
    Closed,
}

impl<T> Queue<T> {
    /// An empty queue for so many items of so many bytes together.
    pub(crate) fn new(items_max: usize, bytes_max: usize) -> Self {
        let state =
            State { items: VecDeque::new(), bytes: 0, urgent: false, closed: false, enough: usize::MAX };
        Self { state: Mutex::new(state), wake: Condvar::new(), items_max, bytes_max }
    }

    /// Puts an item in. An urgent one wakes the thread; another one waits for company. A single item of any size fits
    /// an empty queue.
    pub(crate) fn put(&self, item: T, bytes: usize, urgent: bool) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        let full = state.items.len() >= self.items_max || state.bytes + bytes > self.bytes_max;
        if full && !state.items.is_empty() {
            return Err(Refused::Full);
        }
        state.items.push_back((item, bytes));
        state.bytes += bytes;
        let wakes = state.items.len() == 1 || state.items.len() == state.enough || (urgent && !state.urgent);
        state.urgent |= urgent;
        drop(state);
        // Only now: who is woken needs the lock, and would wait for it.
        if wakes {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Takes out up to `count` items, oldest first. Waits for the first one; while none is urgent and there are fewer than
    /// `count` it waits up to `linger` for more. `None` when the queue is closed and empty.
    pub(crate) fn take(&self, linger: Duration, count: usize) -> Option<Vec<T>> {
        let idle = |state: &mut State<T>| state.items.is_empty() && !state.closed;
        let mut state = self.wake.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        if !linger.is_zero() {
            state.enough = count;
            let alone = |state: &mut State<T>| !state.urgent && !state.closed && state.items.len() < count;
            let waited = self.wake.wait_timeout_while(state, linger, alone);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.items.is_empty() {
            return None;
        }
        let count = count.min(state.items.len());
        let taken: Vec<_> = state.items.drain(..count).collect();
        state.bytes -= taken.iter().map(|(_, bytes)| bytes).sum::<usize>();
        // What is left may hold an urgent one; believing so costs at most an early commit.
        state.urgent &= !state.items.is_empty();
        Some(taken.into_iter().map(|(item, _)| item).collect())
    }

    /// Takes nothing in any more. What is in still comes out.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    /// Closes and empties the queue: nobody will take anything out.
    pub(crate) fn abandon(&self) {
        let items = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.items)
        };
        drop(items);
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_does_not_fit_and_keeps_the_order() {
        let queue = Queue::new(2, 100);
        assert_eq!(queue.put(1, 1_000, false), Ok(()), "a single large item fits");
        assert_eq!(queue.put(2, 1, false), Err(Refused::Full));
        assert_eq!(queue.take(Duration::ZERO, 8), Some(vec![1]));
        assert_eq!([queue.put(3, 1, true), queue.put(4, 1, false)], [Ok(()), Ok(())]);
        assert_eq!(queue.put(5, 1, false), Err(Refused::Full));
        queue.close();
        assert_eq!(queue.put(6, 1, false), Err(Refused::Closed));
        assert_eq!(queue.take(Duration::from_hours(1), 1), Some(vec![3]));
        assert_eq!(queue.take(Duration::from_hours(1), 1), Some(vec![4]));
        assert_eq!(queue.take(Duration::from_hours(1), 1), None);
    }

    #[test]
    fn a_whole_batch_ends_the_wait_for_company() {
        let queue = Queue::new(8, 100);
        queue.put(1, 1, false).unwrap();
        std::thread::scope(|scope| {
            let taker = scope.spawn(|| queue.take(Duration::from_hours(1), 3));
            for item in 2..=3 {
                queue.put(item, 1, false).unwrap();
            }
            assert_eq!(taker.join().unwrap(), Some(vec![1, 2, 3]));
        });
    }

    #[test]
    fn an_urgent_item_ends_the_wait_for_company() {
        let queue = Queue::new(8, 100);
        queue.put(1, 1, false).unwrap();
        std::thread::scope(|scope| {
            let taker = scope.spawn(|| queue.take(Duration::from_hours(1), 8));
            queue.put(2, 1, true).unwrap();
            let taken = taker.join().unwrap().unwrap();
            assert!(taken == [1, 2], "{taken:?}");
        });
    }
}
