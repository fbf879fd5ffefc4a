//! The last minute of a target's calls, in ten buckets of six seconds. Only counts are kept.

use backstop_call::Timestamp;

const BUCKETS: usize = 10;
const BUCKET_SECS: u64 = 6;

/// What happened in some span.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Calls that said something about the target.
    pub(super) calls: u32,
    /// Of them, those that failed.
    pub(super) failures: u32,
    /// Of them, those whose first token was slow.
    pub(super) slow: u32,
}

impl Counts {
    /// Whether `part` of the calls is at least `percent` hundredths.
    pub(super) fn reaches(&self, part: u32, percent: u32) -> bool {
        u64::from(part) * 100 >= u64::from(self.calls) * u64::from(percent)
    }
}

/// A sliding window over [`Counts`].
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    /// Each bucket with the number of its six seconds since the epoch; an older number is an empty bucket.
    buckets: [(u64, Counts); BUCKETS],
}

impl Window {
    /// Adds to the present bucket.
    pub(super) fn add(&mut self, now: Timestamp, more: Counts) {
        let number = now.secs() / BUCKET_SECS;
        let place = usize::try_from(number % BUCKETS as u64).unwrap_or(0);
        let (held, counts) = &mut self.buckets[place];
        if *held != number {
            (*held, *counts) = (number, Counts::default());
        }
        counts.calls += more.calls;
        counts.failures += more.failures;
        counts.slow += more.slow;
    }

    /// The sum over the last 54 to 60 seconds.
    pub(super) fn sum(&self, now: Timestamp) -> Counts {
        let newest = now.secs() / BUCKET_SECS;
        let oldest = (newest + 1).saturating_sub(BUCKETS as u64);
        let mut sum = Counts::default();
        for (number, counts) in &self.buckets {
            if (oldest..=newest).contains(number) {
                sum.calls += counts.calls;
                sum.failures += counts.failures;
                sum.slow += counts.slow;
            }
        }
        sum
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
