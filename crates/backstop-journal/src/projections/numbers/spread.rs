//! How durations are spread: counts in buckets of fixed bounds, of which a sixteenth of a doubling each, so that the bounds
//! of any two stretches of time are the same and they can be added up.
//!
//! The unit is 10 ms / 1024, so that the bounds that OpenTelemetry advises (10 ms, doubled) are bounds here as well, and a
//! scraper's buckets are exact.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// By how many percent a percentile may be off: half of the widest bucket, which is a sixteenth as wide as it begins.
pub const WORST_PERCENT: f64 = 3.2;

/// Buckets of one doubling, as a power of two.
const STEPS_LOG2: u32 = 4;
const STEPS: u64 = 1 << STEPS_LOG2;

/// The unit is 78,125 / 8 ns.
const UNIT: (u128, u128) = (78_125, 8);

/// Durations, counted by how long they were.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spread {
    /// How many fell into each bucket; of those that none fell into nothing is kept.
    #[serde(rename = "b")]
    buckets: BTreeMap<u16, u64>,
    /// All together, in nanoseconds.
    #[serde(rename = "n")]
    nanos: u64,
}

impl Spread {
    /// Counts one.
    pub fn add(&mut self, duration: Duration) {
        *self.buckets.entry(bucket(duration)).or_default() += 1;
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanos = self.nanos.saturating_add(nanos);
    }

    /// Counts those of another stretch as well.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.buckets {
            *self.buckets.entry(*bucket).or_default() += count;
        }
        self.nanos = self.nanos.saturating_add(other.nanos);
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.buckets.values().sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// All together.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.nanos)
    }

    /// The duration that `percent` of them do not exceed, by the nearest rank, and at most [`WORST_PERCENT`] off: the
    /// middle of its bucket. `None` without any.
    pub fn percentile(&self, percent: u32) -> Option<Duration> {
        let count = self.count();
        let rank = (u128::from(count) * u128::from(percent.min(100))).div_ceil(100).max(1);
        let mut below = 0;
        let mut buckets = self.buckets.iter();
        let found = buckets.find(|(_, count)| {
            below += u128::from(**count);
            below >= rank
        });
        found.map(|(bucket, _)| middle(*bucket))
    }

    /// How many were no longer than so much. Exact where `bound` is 10 ms doubled any number of times.
    pub fn within(&self, bound: Duration) -> u64 {
        let last = bucket(bound);
        self.buckets.range(..=last).map(|(_, count)| count).sum()
    }
}

/// In which bucket a duration falls. A bucket holds its upper bound and not its lower one.
fn bucket(duration: Duration) -> u16 {
    let units = (duration.as_nanos() * UNIT.1).div_ceil(UNIT.0).max(1) - 1;
    let units = u64::try_from(units).unwrap_or(u64::MAX);
    if units < STEPS {
        return u16::try_from(units).unwrap_or(0);
    }
    let doublings = units.ilog2() - STEPS_LOG2;
    let step = (units >> doublings) - STEPS;
    u16::try_from(u64::from(doublings + 1) * STEPS + step).unwrap_or(u16::MAX)
}

/// The first unit that is in a bucket, and how many are.
fn bounds(bucket: u16) -> (u64, u64) {
    let bucket = u64::from(bucket);
    if bucket < STEPS {
        return (bucket, 1);
    }
    let doublings = bucket / STEPS - 1;
    ((STEPS + bucket % STEPS) << doublings, 1 << doublings)
}

fn middle(bucket: u16) -> Duration {
    let (first, width) = bounds(bucket);
    let twice = 2 * u128::from(first) + u128::from(width);
    let nanos = twice * UNIT.0 / (2 * UNIT.1);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(millis: impl IntoIterator<Item = u64>) -> Spread {
        let mut spread = Spread::default();
        millis.into_iter().for_each(|ms| spread.add(Duration::from_millis(ms)));
        spread
    }

    #[test]
    fn every_duration_is_in_the_bucket_whose_bounds_hold_it() {
        let seed = backstop_call::Seed::new(7);
        for shift in 0..44 {
            for _ in 0..200 {
                let nanos = (seed.next_u64() >> 20) >> shift;
                let found = bucket(Duration::from_nanos(nanos));
                let (first, width) = bounds(found);
                let units = (u128::from(nanos) * UNIT.1).div_ceil(UNIT.0).max(1) - 1;
                let inside = u128::from(first) <= units && units < u128::from(first) + u128::from(width);
                assert!(inside, "{nanos} ns in {found}: {first} + {width}");
            }
        }
    }

    #[test]
    fn percentiles_are_as_exact_as_is_said() {
        let seed = backstop_call::Seed::new(11);
        let mut all: Vec<u64> = (0..5_000).map(|_| 1 + (seed.next_u64() % 400).pow(2)).collect();
        let spread = spread(all.iter().copied());
        all.sort_unstable();
        for percent in [1, 50, 95, 99, 100] {
            let exact = all[(all.len() * percent).div_ceil(100) - 1];
            let found = spread.percentile(u32::try_from(percent).unwrap()).unwrap().as_secs_f64() * 1e3;
            #[expect(clippy::cast_precision_loss, reason = "some hundred thousand milliseconds")]
            let off = (found / exact as f64 - 1.0).abs() * 100.0;
            assert!(off <= WORST_PERCENT, "p{percent}: {found} for {exact}");
        }
    }

    #[test]
    fn bounds_that_are_told_are_exact() {
        let spread = spread([9, 10, 11, 20, 21, 81_920, 81_921, 0]);
        let rows = [(10, 3), (20, 5), (40, 6), (81_920, 7), (163_840, 8)];
        for (bound_ms, want) in rows {
            assert_eq!(spread.within(Duration::from_millis(bound_ms)), want, "{bound_ms} ms");
        }
        assert_eq!((spread.count(), spread.sum()), (8, Duration::from_millis(163_912)));
    }

    #[test]
    fn two_stretches_add_up_to_the_whole() {
        let mut first = spread([1, 5, 900]);
        first.merge(&spread([5, 70_000]));
        assert_eq!(first, spread([1, 5, 5, 900, 70_000]));
        assert_eq!(Spread::default().percentile(50), None);
    }
}
