//! The ends of texts that go on: which of them may be the beginning of a needle. The search knows after each byte how much of
//! what it read begins a needle, and here stands what that says, so that a text is read once and its end is not searched
//! again. Pure.

use super::{Needle, patterns};
use aho_corasick::Anchored;
use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::dfa::DFA;
use std::collections::HashMap;

/// What each state of the search says about the end of the text before it.
pub(super) struct Ends {
    start: StateID,
    begun: HashMap<StateID, Begun>,
}

/// A needle that has begun, as far as it has come.
struct Begun {
    bytes: usize,
    /// Whether it may go on as a secret.
    secret: bool,
    /// Whether it may go on as the beginning of a credential, which begins a word.
    credential: bool,
    /// The state of a needle that has begun later.
    later: StateID,
}

impl Ends {
    /// The ends of texts that are searched for these needles.
    pub(super) fn of<'a>(search: &DFA, needles: impl Iterator<Item = (&'a [u8], Needle)>) -> Self {
        let start =
            search.start_state(Anchored::No).expect("a search from anywhere is what the automaton is for");
        let read = |text: &[u8]| {
            text.iter().fold(start, |state, byte| search.next_state(Anchored::No, state, *byte))
        };
        let mut begun = HashMap::new();
        for (text, needle) in needles {
            for bytes in 1..=text.len() {
                let later = || read(&text[1..bytes]);
                let nothing = || Begun { bytes, secret: false, credential: false, later: later() };
                let begun = begun.entry(read(&text[..bytes])).or_insert_with(nothing);
                let goes_on = bytes < text.len();
                match needle {
                    Needle::Secret => begun.secret |= goes_on,
                    Needle::Prefix(_) => begun.credential |= goes_on,
                }
            }
        }
        Self { start, begun }
    }

    /// The state before a text.
    pub(super) fn start(&self) -> StateID {
        self.start
    }

    /// Where in a text, after which the search is in this state, the first needle begins that its end leaves open; the
    /// text's length, if none does.
    pub(super) fn begun(&self, text: &str, mut state: StateID) -> usize {
        while let Some(begun) = self.begun.get(&state) {
            let at = text.len() - begun.bytes;
            if begun.secret || begun.credential && patterns::begins_word(text, at) {
                return at;
            }
            state = begun.later;
        }
        text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_end_that_may_go_on() {
        let needles: [(&[u8], Needle); 4] = [
            (b"hunter2", Needle::Secret),
            (b"terse", Needle::Secret),
            (b"sk-", Needle::Prefix(0)),
            (b"-----BEGIN ", Needle::Prefix(1)),
        ];
        let search = DFA::new(needles.map(|(text, _)| text)).unwrap();
        let ends = Ends::of(&search, needles.into_iter());
        let rows = [
            ("", 0),
            ("nothing", 7),
            ("a hunt", 2),
            ("a hunter", 2),
            // Whole, and none is open any more.
            ("a hunter2", 9),
            // Only the second has come so far.
            ("hunters", 3),
            ("the hunte hunters terse", 23),
            ("mister terse h", 13),
            ("a winter", 5),
            ("s", 0),
            ("it is", 5),
            ("it is s", 6),
            ("/sk", 1),
            ("task", 4),
            ("a----", 1),
        ];
        for (text, want) in rows {
            let state =
                text.bytes().fold(ends.start(), |state, byte| search.next_state(Anchored::No, state, byte));
            assert_eq!(ends.begun(text, state), want, "{text}");
        }
    }
}
