//! A key's secret: `bsk_` and 40 letters and digits that are random. Made here, shown by the caller once, never stored.

use backstop_call::Secret;
use backstop_journal::event::KeyHash;

/// How every secret begins: by it a secret is found in a text, by us ([`backstop_stack::layers::redact`]) and by the
/// scanners of others.
pub const SECRET_PREFIX: &str = "bsk_";

/// Random bytes of a secret: 200 bits. A hash of so many is found by no search, see [`KeyHash`].
const RANDOM_BYTES: usize = 25;
/// How much of a secret is shown to recognise it: the prefix and 30 of its bits; 170 remain.
const SHOWN_CHARS: usize = SECRET_PREFIX.len() + 6;
/// No secret of ours is longer; a longer text is not worth hashing.
pub(super) const SECRET_BYTES_MAX: usize = 128;

/// Crockford's base 32 in lower case: no i, l, o, u. Five bits a letter, so 25 bytes are 40 letters and none is likelier.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The operating system gives no random numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random numbers: {0}")]
pub struct NoRandomness(String);

/// A secret that was just made, with what is kept of it.
#[derive(Debug, Clone)]
pub(super) struct Fresh {
    pub(super) secret: Secret,
    pub(super) hash: KeyHash,
    pub(super) prefix: String,
}

/// Makes a secret from the randomness of the operating system.
pub(super) fn fresh() -> Result<Fresh, NoRandomness> {
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(|error| NoRandomness(error.to_string()))?;
    Ok(from_random(&random))
}

fn from_random(random: &[u8; RANDOM_BYTES]) -> Fresh {
    let mut text = SECRET_PREFIX.to_owned();
    for five in random.chunks(5) {
        let bits = five.iter().fold(0_u64, |bits, byte| (bits << 8) | u64::from(*byte));
        text.extend(
            (0..8).rev().map(|i| char::from(ALPHABET[usize::try_from((bits >> (i * 5)) & 31).unwrap_or(0)])),
        );
    }
    let (hash, prefix) = (KeyHash::of(&text), text[..SHOWN_CHARS].to_owned());
    Fresh { secret: Secret::new(text), hash, prefix }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_stack::Redactor;
    use backstop_stack::layers::redact::Config;

    #[test]
    fn every_bit_stands_in_the_secret() {
        let rows = [
            ([0; 25], "bsk_0000000000000000000000000000000000000000"),
            ([255; 25], "bsk_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"),
            (
                std::array::from_fn(|i| u8::try_from(i).unwrap()),
                "bsk_000g40r40m30e209185gr38e1w8124gk2gahc5rr",
            ),
        ];
        for (random, want) in rows {
            let made = from_random(&random);
            assert_eq!(made.secret.expose(), want);
            assert_eq!((made.hash, made.prefix.as_str()), (KeyHash::of(want), &want[..10]));
        }
    }

    #[test]
    fn no_two_are_the_same_and_none_reaches_a_log() {
        let (one, two) = (fresh().unwrap(), fresh().unwrap());
        assert_ne!(one.secret.expose(), two.secret.expose());
        let shown = Redactor::new(&[], Config::default());
        assert_eq!(shown.text(one.secret.expose()), "[REDACTED:backstop-key]");
        assert_eq!(shown.text(&one.prefix), one.prefix, "what recognises it is shown");
    }
}
