//! Finds the clock that chunks carry, wherever the bytes are cut. Pure.

use memchr::memchr;

/// A reader of `@NANOSECONDS@` in a text that comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    /// The digits since the last `@`, while there are only digits.
    digits: Option<u64>,
}

impl Stamps {
    /// Gives every stamp that ends in this piece to `found`.
    pub(crate) fn read(&mut self, mut piece: &[u8], mut found: impl FnMut(u64)) {
        loop {
            if self.digits.is_none() {
                let Some(at) = memchr(b'@', piece) else { return };
                self.digits = Some(0);
                piece = &piece[at + 1..];
            }
            let [byte, rest @ ..] = piece else { return };
            let digits = self.digits.unwrap_or_default();
            self.digits = match byte {
                b'0'..=b'9' => {
                    digits.checked_mul(10).and_then(|tens| tens.checked_add(u64::from(byte - b'0')))
                }
                b'@' if digits > 0 => {
                    found(digits);
                    None
                }
                b'@' => Some(0),
                _ => None,
            };
            piece = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_found_wherever_the_text_is_cut() {
        let text = b"a @12@ me@example.org @@34@ @99999999999999999999999@ @5@";
        for cut in 0..=text.len() {
            let (mut stamps, mut found) = (Stamps::default(), Vec::new());
            stamps.read(&text[..cut], |stamp| found.push(stamp));
            stamps.read(&text[cut..], |stamp| found.push(stamp));
            assert_eq!(found, [12, 34, 5], "{cut}");
        }
    }
}
