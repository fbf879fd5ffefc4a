//! Randomness as an argument: a SplitMix64 generator (Steele, Lea, Flood 2014; the constants are the reference's).
//! Good for jitter, ids and fault schedules; not for secrets.

use std::sync::atomic::{AtomicU64, Ordering};

/// A reproducible source of random numbers. Shared by reference; the same seed gives the same sequence when it is
/// drawn from in the same order.
#[derive(Debug)]
pub struct Seed(AtomicU64);

impl Seed {
    /// A source that starts from `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// The next 64 random bits.
    pub fn next_u64(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `0.0..1.0`.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a float exactly")]
    pub fn unit(&self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number in `0..bound`; 0 when `bound` is 0.
    pub fn below(&self, bound: u64) -> u64 {
        u64::try_from((u128::from(self.next_u64()) * u128::from(bound)) >> 64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_reference_sequence() {
        let seed = Seed::new(1_234_567);
        let want = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([seed.next_u64(), seed.next_u64(), seed.next_u64()], want);
    }

    #[test]
    fn stays_in_range() {
        let seed = Seed::new(7);
        for _ in 0..1000 {
            assert!((0.0..1.0).contains(&seed.unit()));
            assert!(seed.below(3) < 3);
        }
        assert_eq!(seed.below(0), 0);
    }
}
