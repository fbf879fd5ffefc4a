//! When a server that fails is tried again. Pure: the time is an argument.

use std::time::Duration;
use tokio::time::Instant;

/// The first wait after a failure; each one after that is twice as long.
const BASE: Duration = Duration::from_secs(1);
/// The longest of these waits.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// So many failures in a row, and it is left alone for [`OPEN`].
const FAILURES_MAX: u32 = 5;
/// How long a server that fails again and again is left alone; then it gets one try at a time.
const OPEN: Duration = Duration::from_mins(5);
/// A server that was up for so long and dies has not failed again and again.
const HEALTHY: Duration = Duration::from_mins(1);

/// What is remembered of a server's failures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Outage {
    in_a_row: u32,
    until: Option<Instant>,
    why: String,
}

impl Outage {
    /// How long there is to wait before the next try; `None` when it may be made now.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let left = self.until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Why it failed last.
    pub(super) fn why(&self) -> &str {
        &self.why
    }

    /// It could not be started, or it ended after it was up since `since`. One that was up for long may be started at once.
    pub(super) fn failed(&mut self, since: Option<Instant>, why: String, now: Instant) {
        if since.is_some_and(|since| now.saturating_duration_since(since) >= HEALTHY) {
            *self = Self::default();
            return;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        (self.until, self.why) = (Some(now + after(self.in_a_row)), why);
    }
}

fn after(in_a_row: u32) -> Duration {
    if in_a_row >= FAILURES_MAX {
        return OPEN;
    }
    BASE.saturating_mul(1 << in_a_row.saturating_sub(1).min(16)).min(WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_until_it_is_left_alone() {
        let mut now = Instant::now();
        let mut outage = Outage::default();
        assert_eq!(outage.wait(now), None);
        let mut waits = Vec::new();
        for _ in 0..7 {
            outage.failed(None, "gone".to_owned(), now);
            assert_eq!(outage.why(), "gone");
            let wait = outage.wait(now).unwrap();
            waits.push(wait.as_secs());
            now += wait;
            assert_eq!(outage.wait(now), None);
        }
        assert_eq!(waits, [1, 2, 4, 8, 300, 300, 300]);
    }

    #[test]
    fn one_that_was_up_for_long_begins_anew() {
        let start = Instant::now();
        let mut outage = Outage { in_a_row: 4, ..Outage::default() };
        outage.failed(Some(start), "gone".to_owned(), start + Duration::from_secs(59));
        assert_eq!(outage.in_a_row, 5);
        outage.failed(Some(start), "gone".to_owned(), start + HEALTHY);
        assert_eq!(outage, Outage::default());
    }
}
