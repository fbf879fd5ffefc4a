//! Choices that depend on the seed and on what they are about, and on nothing else: the same request gives the same
//! choice in whatever order requests come.

use backstop_call::Seed;

/// FNV-1a over 64 bits (Fowler, Noll, Vo; the constants are the reference's).
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// A source of random numbers for one subject under one seed.
pub(crate) fn about(seed: u64, subject: &[u8]) -> Seed {
    let mixed = Seed::new(seed).next_u64() ^ hash(subject);
    Seed::new(mixed)
}

/// One of several.
pub(crate) fn pick<'a>(seed: &Seed, choices: &[&'a str]) -> &'a str {
    let index = usize::try_from(seed.below(choices.len() as u64)).unwrap_or(0);
    choices.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_hash_and_stable_choices() {
        assert_eq!(hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(about(1, b"x").next_u64(), about(1, b"x").next_u64());
        assert_ne!(about(1, b"x").next_u64(), about(2, b"x").next_u64());
        assert_ne!(about(1, b"x").next_u64(), about(1, b"y").next_u64());
    }
}
