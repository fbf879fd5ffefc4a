//! Percentiles, medians and what is compared round by round. Pure.

use serde::Serialize;

/// A count as a number to divide by.
#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// `part` per `whole`; nothing when there is no whole.
pub(crate) fn per(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// Where a set of times lies, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[expect(clippy::struct_field_names, reason = "each figure has its unit")]
pub(crate) struct Percentiles {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
}

impl Percentiles {
    /// By nearest rank: each is a time that was measured. Sorts the times; nothing when there are none.
    pub(crate) fn of(times_ns: &mut [u64]) -> Option<Self> {
        times_ns.sort_unstable();
        let last = times_ns.len().checked_sub(1)?;
        let at = |permille: usize| {
            let rank = (times_ns.len() * permille).div_ceil(1000).saturating_sub(1);
            float(times_ns[rank.min(last)]) / 1e3
        };
        Some(Self { p50_us: at(500), p99_us: at(990), p999_us: at(999) })
    }
}

/// The middle value, or the mean of the two in the middle.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// How a figure is held against nginx's of the same round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    /// How many times nginx's.
    Ratio,
    /// How much more than nginx's.
    Difference,
}

impl Beside {
    /// The median over the rounds of what each round's pair `(ours, nginx's)` gives. A pair of one round shares its
    /// noise; two medians do not.
    pub(crate) fn over_rounds(self, pairs: impl IntoIterator<Item = (f64, f64)>) -> Option<f64> {
        median(pairs.into_iter().filter_map(|(ours, theirs)| match self {
            Self::Ratio => per(ours, theirs),
            Self::Difference => Some(ours - theirs),
        }))
    }
}

/// Whether memory stays where it is: the last reading is at most a tenth and 2 MB above the one after the first fifth,
/// by when every pool and cache has its size.
pub(crate) fn is_flat(readings_mb: &[f64]) -> Option<bool> {
    let settled = readings_mb.get(readings_mb.len().div_ceil(5))?;
    let last = readings_mb.last()?;
    Some(*last <= settled * 1.1 + 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let rows: [(Vec<u64>, Option<[f64; 3]>); 5] = [
            (vec![], None),
            (vec![7_000], Some([7.0, 7.0, 7.0])),
            (vec![2_000, 1_000], Some([1.0, 2.0, 2.0])),
            ((1..=1000).rev().map(|n| n * 1_000).collect(), Some([500.0, 990.0, 999.0])),
            ((1..=10_000).map(|n| n * 100).collect(), Some([500.0, 990.0, 999.0])),
        ];
        for (mut times, want) in rows {
            let found = Percentiles::of(&mut times).map(|p| [p.p50_us, p.p99_us, p.p999_us]);
            assert_eq!(found, want, "{} times", times.len());
        }
    }

    #[test]
    fn the_median_stands_in_the_middle() {
        let rows: [(&[f64], Option<f64>); 4] =
            [(&[], None), (&[3.0], Some(3.0)), (&[9.0, 1.0], Some(5.0)), (&[9.0, 1.0, 2.0], Some(2.0))];
        for (values, want) in rows {
            assert_eq!(median(values.iter().copied()), want, "{values:?}");
        }
    }

    #[test]
    fn what_is_compared_is_compared_within_a_round() {
        // The machine was half as fast in the second round, for both alike.
        let pairs = [(60.0, 100.0), (30.0, 50.0), (66.0, 100.0)];
        assert_eq!(Beside::Ratio.over_rounds(pairs), Some(0.6));
        assert_eq!(Beside::Difference.over_rounds(pairs), Some(-34.0));
        assert_eq!(Beside::Ratio.over_rounds([(1.0, 0.0)]), None, "nothing to divide by is no figure");
    }

    #[test]
    fn memory_that_grows_is_told_from_memory_that_fills() {
        let rows: [(&[f64], Option<bool>); 4] = [
            (&[], None),
            (&[10.0, 30.0, 40.0, 40.5, 41.0, 40.8], Some(true)),
            (&[10.0, 20.0, 30.0, 40.0, 50.0, 60.0], Some(false)),
            (&[10.0, 20.0, 20.0, 20.0, 20.0, 24.1], Some(false)),
        ];
        for (readings, want) in rows {
            assert_eq!(is_flat(readings), want, "{readings:?}");
        }
    }
}
