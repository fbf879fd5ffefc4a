//! A quick no: whether any needle can begin anywhere in a text, by its first bytes. As a rule nothing is to be taken out, and
//! then this pass, many bytes at a time, is all that a text costs.

use aho_corasick::packed;

/// How many bytes of a needle are looked at.
const BYTES: usize = 4;

/// The first bytes of all needles.
pub(super) struct Beginnings {
    /// `None` where there are too many, or one is too short: then every text may hold one.
    search: Option<packed::Searcher>,
}

impl Beginnings {
    /// The beginnings of these needles.
    pub(super) fn of(needles: &[Vec<u8>]) -> Self {
        let mut beginnings: Vec<&[u8]> =
            needles.iter().map(|needle| &needle[..needle.len().min(BYTES)]).collect();
        beginnings.sort_unstable();
        beginnings.dedup();
        // One that begins as another is found with it.
        beginnings.dedup_by(|next, before| next.starts_with(before));
        Self { search: packed::Searcher::new(beginnings) }
    }

    /// Whether a needle may begin somewhere in the text.
    pub(super) fn any_in(&self, text: &[u8]) -> bool {
        self.search.as_ref().is_none_or(|search| search.find(text).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(needles: &[&str]) -> Beginnings {
        Beginnings::of(&needles.iter().map(|needle| needle.as_bytes().to_vec()).collect::<Vec<_>>())
    }

    #[test]
    fn a_beginning_is_found_anywhere_and_nothing_else() {
        let beginnings = of(&["sk-", "sk-ant-", "hunter2"]);
        for (text, want) in [
            ("a text of no interest", false),
            ("sk-", true),
            ("it ends in sk-", true),
            ("sk_ is another", false),
            ("hunt", true),
            ("hun", false),
            ("", false),
        ] {
            assert_eq!(beginnings.any_in(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn more_than_can_be_looked_for_rules_nothing_out() {
        let many: Vec<Vec<u8>> = (0..5_000_u32).map(|n| n.to_be_bytes().to_vec()).collect();
        assert!(Beginnings::of(&many).any_in(b"anything"));
        assert!(Beginnings::of(&[Vec::new()]).any_in(b"anything"));
    }

    proptest! {
        #[test]
        fn no_needle_is_ever_missed(needle in "[a-c]{3,6}", other in "[a-c]{3,6}", before in "[a-e]{0,40}", after in "[a-e]{0,9}") {
            let text = format!("{before}{needle}{after}");
            prop_assert!(of(&[&other, &needle]).any_in(text.as_bytes()));
        }
    }
}
