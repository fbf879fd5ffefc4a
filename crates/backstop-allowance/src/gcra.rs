//! Requests and tokens per minute: the generic cell rate algorithm (ITU-T I.371, 1996) with settlement. One number is
//! kept, the theoretical arrival time; a cost that turns out other than estimated moves it back or forth.

use backstop_call::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// So many units per minute, with room for a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rate {
    /// Units per minute, at least 1.
    pub per_minute: u64,
    /// Units that may be used at once after a pause, at least 1.
    pub burst: u64,
}

impl Rate {
    /// A rate whose burst is the whole minute's share: a continuous token bucket as providers have it.
    pub const fn per_minute(units: u64) -> Self {
        Self { per_minute: units, burst: units }
    }

    fn cost(self, units: u64) -> u64 {
        let nanos = u128::from(units) * 60_000_000_000 / u128::from(self.per_minute.max(1));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

/// The state of one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gcra {
    rate: Rate,
    /// Theoretical arrival time, in nanoseconds since the epoch.
    tat: u64,
}

impl Gcra {
    /// A limit that has not been used.
    pub const fn new(rate: Rate) -> Self {
        Self { rate, tat: 0 }
    }

    /// Takes `units` now, or says how long to wait until they can be taken. More than the burst can never be taken at
    /// once; it is admitted when nothing else is under way and leaves the limit in debt.
    pub fn take(&mut self, now: Timestamp, units: u64) -> Result<(), Duration> {
        let start = self.tat.max(now.nanos());
        let next = start.saturating_add(self.rate.cost(units));
        let room = now.nanos().saturating_add(self.rate.cost(self.rate.burst.max(units)));
        if next > room {
            return Err(Duration::from_nanos(next - room));
        }
        self.tat = next;
        Ok(())
    }

    /// Corrects an estimate: the difference is charged, or given back.
    pub fn settle(&mut self, estimated: u64, actual: u64) {
        if actual >= estimated {
            self.tat = self.tat.saturating_add(self.rate.cost(actual - estimated));
        } else {
            self.tat = self.tat.saturating_sub(self.rate.cost(estimated - actual));
        }
    }

    /// Takes the provider's word: at most `remaining` units are left now. Never raises what is left.
    pub fn cap(&mut self, now: Timestamp, remaining: u64) {
        let used = self.rate.burst.saturating_sub(remaining);
        self.tat = self.tat.max(now.nanos().saturating_add(self.rate.cost(used)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Timestamp = Timestamp::from_secs(1_000);

    #[test]
    fn admits_the_burst_then_the_rate() {
        let mut limit = Gcra::new(Rate { per_minute: 60, burst: 2 });
        assert_eq!(limit.take(START, 1), Ok(()));
        assert_eq!(limit.take(START, 1), Ok(()));
        assert_eq!(limit.take(START, 1), Err(Duration::from_secs(1)));
        assert_eq!(limit.take(START + Duration::from_secs(1), 1), Ok(()));
    }

    #[test]
    fn settlement_gives_back_and_charges() {
        let mut limit = Gcra::new(Rate::per_minute(100));
        limit.take(START, 100).unwrap();
        assert!(limit.take(START, 1).is_err());
        limit.settle(100, 10);
        assert_eq!(limit.take(START, 90), Ok(()));
        limit.settle(90, 190);
        assert_eq!(limit.take(START + Duration::from_mins(1), 1), Err(Duration::from_millis(600)));
    }

    #[test]
    fn the_provider_can_only_lower_what_is_left() {
        let mut limit = Gcra::new(Rate::per_minute(60));
        limit.cap(START, 1);
        assert_eq!(limit.take(START, 1), Ok(()));
        assert!(limit.take(START, 1).is_err());
        limit.cap(START, 60);
        assert!(limit.take(START, 1).is_err());
    }

    proptest! {
        /// Against a naive bucket: whatever is taken fits the burst plus what the time since has refilled.
        #[test]
        fn never_above_burst_plus_rate(steps in prop::collection::vec((0_u64..5_000, 1_u64..10), 1..200)) {
            let rate = Rate { per_minute: 600, burst: 20 };
            let mut limit = Gcra::new(rate);
            let (mut now, mut taken) = (START, 0_u64);
            for (pause_ms, units) in steps {
                now = now + Duration::from_millis(pause_ms);
                if limit.take(now, units).is_ok() {
                    taken += units;
                }
                let refilled = now.since(START).as_millis() * 600 / 60_000;
                prop_assert!(u128::from(taken) <= u128::from(rate.burst) + refilled + 1);
            }
        }
    }
}
