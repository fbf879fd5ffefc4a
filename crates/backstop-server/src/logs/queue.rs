//! A bounded queue into the log's thread. Who puts in never waits, and wakes the thread only for the first of a batch: on one
//! core a wake for each line takes the core away from the calls that the lines are about.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The queue.
#[derive(Debug)]
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    wake: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: Vec<T>,
    /// How much they count together.
    count: usize,
    closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State { items: Vec::new(), count: 0, closed: false }), wake: Condvar::new() }
    }

    /// Puts an item in that counts as `count`, if there is no more than `count_max` in the queue then and it is open; gives it
    /// back otherwise.
    pub(super) fn put(&self, item: T, count: usize, count_max: usize) -> Result<(), T> {
        let mut state = self.lock();
        if state.closed || state.count + count > count_max {
            return Err(item);
        }
        state.items.push(item);
        state.count += count;
        if state.items.len() == 1 {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// No more is put in; what is there can still be taken.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    /// Takes out all that is there, oldest first: waits for the first, and then up to `linger` for others. `None` when the
    /// queue is closed and empty.
    pub(super) fn take(&self, linger: Duration) -> Option<Vec<T>> {
        let idle = |state: &mut State<T>| state.items.is_empty() && !state.closed;
        let state = self.wake.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let open = |state: &mut State<T>| !state.closed;
        let waited = self.wake.wait_timeout_while(state, linger, open);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.count = 0;
        let items = std::mem::take(&mut state.items);
        Some(items).filter(|items| !items.is_empty())
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn everything_is_taken_in_its_order_and_once() {
        let queue = Arc::new(Queue::new());
        let taking = Arc::clone(&queue);
        let taker = std::thread::spawn(move || {
            let mut all = Vec::new();
            while let Some(items) = taking.take(Duration::ZERO) {
                all.extend(items);
            }
            all
        });
        (0..1_000).for_each(|n| queue.put(n, 1, usize::MAX).unwrap());
        queue.close();
        assert_eq!(taker.join().unwrap(), (0..1_000).collect::<Vec<_>>());
        assert_eq!(queue.put(1, 1, usize::MAX), Err(1), "it is closed");
    }

    #[test]
    fn what_does_not_fit_is_given_back() {
        let queue = Queue::new();
        assert_eq!((queue.put(1, 2, 5), queue.put(2, 4, 5), queue.put(3, 3, 5)), (Ok(()), Err(2), Ok(())));
        assert_eq!(queue.take(Duration::ZERO), Some(vec![1, 3]));
        assert_eq!((queue.put(4, 5, 5), queue.put(5, 1, 5)), (Ok(()), Err(5)), "there is room again");
        queue.close();
        // However long it would wait for company, a closed queue is taken at once.
        assert_eq!(queue.take(Duration::MAX), Some(vec![4]));
        assert_eq!(queue.take(Duration::MAX), None);
    }
}
