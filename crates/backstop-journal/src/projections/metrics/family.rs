//! The kinds of metric: series by their label values, bounded in number.

use std::time::Duration;

/// How many series one family keeps. What comes beyond is counted together, with `overflow` in every label.
pub const SERIES_MAX: usize = 1_000;

/// The upper bounds of a histogram's buckets, in milliseconds: those that OpenTelemetry's semantic conventions for
/// generative AI advise for `gen_ai.client.operation.duration`, and longer ones for runs.
pub(super) const BOUNDS_MS: [u64; 18] = [
    10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 5_120, 10_240, 20_480, 40_960, 81_920, 163_840, 327_680,
    655_360, 3_600_000,
];

/// Values by `N` labels, in the order of the labels. A series is looked up for every event and made once: that the labels
/// are compared as they are, without a copy, is worth that the later ones move when one is made.
#[derive(Debug, Clone)]
pub(super) struct Series<const N: usize, V>(Vec<([Box<str>; N], V)>);

impl<const N: usize, V: Default> Series<N, V> {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// The series of these labels; once the family is full, the one of all others.
    pub(super) fn of(&mut self, labels: [&str; N]) -> &mut V {
        let place = match self.find(labels) {
            Ok(place) => place,
            Err(place) if self.0.len() < SERIES_MAX => self.insert(place, labels),
            Err(_) => {
                let others = ["overflow"; N];
                self.find(others).unwrap_or_else(|place| self.insert(place, others))
            }
        };
        &mut self.0[place].1
    }

    /// All of them, by their labels.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[Box<str>; N], &V)> {
        self.0.iter().map(|(labels, value)| (labels, value))
    }

    fn find(&self, labels: [&str; N]) -> Result<usize, usize> {
        self.0.binary_search_by(|(have, _)| have.iter().map(AsRef::as_ref).cmp(labels))
    }

    fn insert(&mut self, place: usize, labels: [&str; N]) -> usize {
        self.0.insert(place, (labels.map(Box::from), V::default()));
        place
    }
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
        let value = self.0.of(labels);
        *value = value.saturating_add(amount);
    }
}

impl<const N: usize> Gauge<N> {
    pub(super) fn set(&mut self, labels: [&str; N], value: u128) {
        *self.0.of(labels) = value;
    }
}

impl<const N: usize> Histogram<N> {
    pub(super) fn observe(&mut self, labels: [&str; N], duration: Duration) {
        let bucket = BOUNDS_MS
            .iter()
            .position(|bound_ms| duration <= Duration::from_millis(*bound_ms))
            .unwrap_or(BOUNDS_MS.len());
        let buckets = self.0.of(labels);
        buckets.counts[bucket] += 1;
        buckets.sum_nanos += duration.as_nanos();
    }
}

// Derived `Default` would ask the labels' array for it, which std has only up to 32 and not for a constant.
impl<const N: usize> Default for Counter<N> {
    fn default() -> Self {
        Self(Series::new())
    }
}

impl<const N: usize> Default for Gauge<N> {
    fn default() -> Self {
        Self(Series::new())
    }
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self(Series::new())
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
        assert_eq!(counter.0.iter().count(), SERIES_MAX + 1);
        assert_eq!(*counter.0.of(["overflow", "overflow"]), 50);
        assert_eq!(*counter.0.of(["0", "x"]), 2, "a series that exists keeps counting");
        assert!(counter.0.iter().is_sorted_by_key(|(labels, _)| labels), "they are found by their order");
    }

    #[test]
    fn a_duration_on_a_bound_belongs_below_it() {
        let mut histogram = Histogram::<1>::default();
        for ms in [10, 11, 3_600_001] {
            histogram.observe(["a"], Duration::from_millis(ms));
        }
        let counts = histogram.0.of(["a"]).counts;
        assert_eq!((counts[0], counts[1], counts[BOUNDS_MS.len()]), (1, 1, 1));
    }
}
