//! Where in a text to look. What is secret is a long word, as a rule, or has one in it: letters, digits and a few marks
//! without a break. Ordinary text has few of them, and they are found without looking at each of its bytes. Pure.

use super::beginnings::Beginnings;
use std::ops::Range;

/// So many bytes without a break make a long word.
pub(super) const LONG: usize = 20;

/// Where needles can be.
pub(super) struct Places {
    /// Of those that need no long word.
    apart: Beginnings,
    /// So many bytes of any other may stand before its long word, and behind it.
    before: usize,
    after: usize,
}

/// What is known of a needle.
pub(super) enum Shape<'a> {
    /// Its whole text.
    Text(&'a [u8]),
    /// How it begins; a long word begins with this or right behind it.
    Beginning(&'a [u8]),
    /// How it begins; nothing more is known.
    Apart(&'a [u8]),
}

impl Places {
    /// The places of these needles.
    pub(super) fn of<'a>(needles: impl IntoIterator<Item = Shape<'a>>) -> Self {
        let (mut apart, mut before, mut after) = (Vec::new(), 0, 0);
        for needle in needles {
            match needle {
                Shape::Text(text) => match long_words(text).next() {
                    Some(word) => {
                        before = before.max(word.start);
                        after = after.max(text.len() - word.end);
                    }
                    None => apart.push(text),
                },
                Shape::Beginning(text) => before = before.max(text.len()),
                Shape::Apart(text) => apart.push(text),
            }
        }
        Self { apart: Beginnings::of(&apart), before, after }
    }

    /// The parts of a text that must be searched, from left to right; they may overlap. No needle lies outside of them.
    pub(super) fn in_text<'t>(&self, text: &'t [u8]) -> impl Iterator<Item = Range<usize>> + use<'t> {
        let &Self { before, after, .. } = self;
        let around =
            move |word: Range<usize>| word.start.saturating_sub(before)..(word.end + after).min(text.len());
        let everywhere = self.apart.any_in(text);
        let words = (!everywhere).then(|| long_words(text).map(around));
        everywhere.then_some(0..text.len()).into_iter().chain(words.into_iter().flatten())
    }
}

/// The bytes of a word: what keys, their base64 and their addresses are made of.
static IS_WORD: [bool; 256] = {
    let mut is_word = [false; 256];
    let bytes = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-./:=+~%";
    let mut at = 0;
    while at < bytes.len() {
        is_word[bytes[at] as usize] = true;
        at += 1;
    }
    is_word
};

fn is_word(byte: u8) -> bool {
    IS_WORD[usize::from(byte)]
}

/// The long words of a text, from left to right.
fn long_words(text: &[u8]) -> LongWords<'_> {
    LongWords { text, from: 0 }
}

struct LongWords<'a> {
    text: &'a [u8],
    /// Behind a break, or at the beginning.
    from: usize,
}

impl Iterator for LongWords<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        loop {
            // A long word that begins here or later goes on up to the last of these bytes, or begins behind a break in them.
            let room = self.text.get(self.from..self.from + LONG)?;
            match room.iter().rposition(|byte| !is_word(*byte)) {
                Some(last_break) => self.from += last_break + 1,
                None => break,
            }
        }
        let start = self.from;
        let rest = &self.text[start + LONG..];
        let end = start + LONG + rest.iter().position(|byte| !is_word(*byte)).unwrap_or(rest.len());
        self.from = end;
        Some(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn each_by_itself(text: &str) -> Vec<Range<usize>> {
        let mut words = Vec::new();
        let mut start = 0;
        for (at, byte) in text.bytes().chain([b' ']).enumerate() {
            if !is_word(byte) {
                if at - start >= LONG {
                    words.push(start..at);
                }
                start = at + 1;
            }
        }
        words
    }

    #[test]
    fn ordinary_text_has_none() {
        let text =
            "The two desks are one order, with two parcels; a person calls back within one working day.";
        assert_eq!(long_words(text.as_bytes()).count(), 0);
    }

    #[test]
    fn what_is_searched_is_around_long_words_or_everything() {
        let long = "0123456789abcdefghijklmn";
        let secret = format!("a b {long} c");
        let places = Places::of([
            Shape::Text(secret.as_bytes()),
            Shape::Beginning(b"Bearer "),
            Shape::Apart(b"-----B"),
        ]);
        let ends = |place: Range<usize>| (place.start, place.end);
        let searched = |text: &str| places.in_text(text.as_bytes()).map(ends).collect::<Vec<_>>();
        assert_eq!(searched("nothing of interest"), Vec::new());
        let text = format!("12345678 {long} 12345678");
        assert_eq!(searched(&text), [(2, 35)], "as far as a needle can reach");
        assert_eq!(searched("a -----BEGIN"), [(0, 12)]);
        let short = Places::of([Shape::Text(b"hunter2")]);
        assert_eq!(short.in_text(b"not hunter2").map(ends).collect::<Vec<_>>(), [(0, 11)]);
    }

    proptest! {
        #[test]
        fn they_are_what_looking_at_every_byte_finds(text in "[a-c /]{0,30}([a-e]{15,45}[ ,\"]{0,3}){0,5}[a-c ]{0,30}") {
            let found: Vec<_> = long_words(text.as_bytes()).collect();
            prop_assert_eq!(found, each_by_itself(&text));
        }
    }
}
