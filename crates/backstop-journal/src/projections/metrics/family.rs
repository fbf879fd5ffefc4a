//! The kinds of metric: series by their label values, bounded in number.

use std::collections::BTreeMap;
use std::time::Duration;

/// How many series one family keeps. What comes beyond is counted together, with `overflow` in every label.
pub const SERIES_MAX: usize = 1_000;

/// The upper bounds of a histogram's buckets, in milliseconds: those that OpenTelemetry's semantic conventions for
/// generative AI advise for `gen_ai.client.operation.duration`, and longer ones for runs.
pub(super) const BOUNDS_MS: [u64; 18] = [
    10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 5_120, 10_240, 20_480, 40_960, 81_920, 163_840, 327_680,
    655_360, 3_600_000,
];

/// Values by `N` labels.
pub(super) type Series<const N: usize, V> = BTreeMap<[String; N], V>;

/// The series of these labels; once the family is full, the one of all others.
fn series<'a, const N: usize, V: Default>(all: &'a mut Series<N, V>, labels: [&str; N]) -> &'a mut V {
    let mut key = labels.map(str::to_owned);
    if all.len() >= SERIES_MAX && !all.contains_key(&key) {
        key = [const { String::new() }; N].map(|_| "overflow".to_owned());
    }
    all.entry(key).or_default()
}

/// Counts up.
#[derive(Debug, Clone)]
pub(super) struct Counter<const N: usize>(pub(super) Series<N, u128>);

/// Holds the last value.
#[derive(Debug, Clone)]
pub(super) struct Gauge<const N: usize>(pub(super) Series<N, u128>);

/// Counts durations by how long they were.
#[derive(Debug, Clone)]
pub(super) struct Histogram<const N: usize>(pub(super) Series<N, Buckets>);

/// One series of a histogram.
#[derive(Debug, Clone, Default)]
pub(super) struct Buckets {
    /// How many fell into each bucket and no smaller one; the last is above every bound.
    pub(super) counts: [u64; BOUNDS_MS.len() + 1],
    /// All durations together, in nanoseconds.
    pub(super) sum_nanos: u128,
}

impl<const N: usize> Counter<N> {
    pub(super) fn add(&mut self, labels: [&str; N], amount: u128) {
        let value = series(&mut self.0, labels);
        *value = value.saturating_add(amount);
    }
}

impl<const N: usize> Gauge<N> {
    pub(super) fn set(&mut self, labels: [&str; N], value: u128) {
        *series(&mut self.0, labels) = value;
    }
}

impl<const N: usize> Histogram<N> {
    pub(super) fn observe(&mut self, labels: [&str; N], duration: Duration) {
        let bucket = BOUNDS_MS
            .iter()
            .position(|bound_ms| duration <= Duration::from_millis(*bound_ms))
            .unwrap_or(BOUNDS_MS.len());
        let buckets = series(&mut self.0, labels);
        buckets.counts[bucket] += 1;
        buckets.sum_nanos += duration.as_nanos();
    }
}

// Derived `Default` would ask the labels' array for it, which std has only up to 32 and not for a constant.
impl<const N: usize> Default for Counter<N> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<const N: usize> Default for Gauge<N> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_stays_bounded() {
        let mut counter = Counter::<2>::default();
        for i in 0..SERIES_MAX + 50 {
            counter.add([&i.to_string(), "x"], 1);
        }
        counter.add(["0", "x"], 1);
        assert_eq!(counter.0.len(), SERIES_MAX + 1);
        assert_eq!(counter.0[&["overflow".to_owned(), "overflow".to_owned()]], 50);
        assert_eq!(counter.0[&["0".to_owned(), "x".to_owned()]], 2, "a series that exists keeps counting");
    }

    #[test]
    fn a_duration_on_a_bound_belongs_below_it() {
        let mut histogram = Histogram::<1>::default();
        for ms in [10, 11, 3_600_001] {
            histogram.observe(["a"], Duration::from_millis(ms));
        }
        let counts = histogram.0[&["a".to_owned()]].counts;
        assert_eq!((counts[0], counts[1], counts[BOUNDS_MS.len()]), (1, 1, 1));
    }
}
