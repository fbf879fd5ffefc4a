//! How much a server may send at a time. It only counts; who asks closes the connection.

use tokio::time::Instant;

/// A bucket that fills evenly.
#[derive(Debug, Clone)]
pub(super) struct Flood {
    capacity: u64,
    per_sec: u64,
    left: u64,
    at: Instant,
}

impl Flood {
    /// A full bucket.
    pub(super) fn new(capacity: u64, per_sec: u64, now: Instant) -> Self {
        Self { capacity, per_sec, left: capacity, at: now }
    }

    /// Takes so many units out. `false` when they are not there: that is a flood.
    pub(super) fn take(&mut self, now: Instant, units: u64) -> bool {
        let passed_ms = u64::try_from(now.saturating_duration_since(self.at).as_millis()).unwrap_or(u64::MAX);
        let grown = passed_ms.saturating_mul(self.per_sec) / 1_000;
        if grown > 0 {
            self.left = self.left.saturating_add(grown).min(self.capacity);
            self.at = now;
        }
        let enough = units <= self.left;
        self.left = self.left.saturating_sub(units);
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_burst_passes_and_a_flood_does_not() {
        let start = Instant::now();
        let mut flood = Flood::new(10, 100, start);
        let rows =
            [(0, 6, true), (0, 4, true), (0, 1, false), (9, 1, false), (50, 5, true), (60_000, 11, false)];
        for (after_ms, units, want) in rows {
            assert_eq!(
                flood.take(start + Duration::from_millis(after_ms), units),
                want,
                "{units} at {after_ms}"
            );
        }
    }
}
