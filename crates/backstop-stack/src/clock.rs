//! The clock of a real process: the one place that reads the wall clock.

use backstop_call::{Clock, Timestamp};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Wall time when it was made, plus what a monotonic clock counted since: it never goes backwards, whatever happens to
/// the system's clock, and it stands still and jumps with tokio's paused time in tests.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Timestamp,
    origin: Instant,
}

impl SystemClock {
    /// A clock that starts at the present wall time.
    #[expect(clippy::disallowed_methods, reason = "this is the clock that all others take as an argument")]
    pub fn new() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self::starting_at(Timestamp::EPOCH + wall)
    }

    /// A clock that starts at this moment: for tests that need known timestamps.
    pub fn starting_at(start: Timestamp) -> Self {
        Self { start, origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.start + self.origin.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn follows_paused_time() {
        let clock = SystemClock::starting_at(Timestamp::from_secs(100));
        assert_eq!(clock.now(), Timestamp::from_secs(100));
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(clock.now(), Timestamp::from_secs(107));
    }

    #[test]
    fn starts_at_the_wall_time() {
        assert!(SystemClock::new().now() > Timestamp::from_secs(1_700_000_000));
    }
}
