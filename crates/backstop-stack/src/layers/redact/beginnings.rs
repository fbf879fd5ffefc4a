//! A quick no: whether any needle can begin anywhere in a text, by its first bytes. As a rule nothing is to be taken out, and
//! then this pass, many bytes at a time, is all that a text costs.

use aho_corasick::packed;

/// How many bytes of a needle are looked at: enough that a secret which begins as some common word does not make every text
/// suspect.
const BYTES: usize = 8;

/// The first bytes of all needles.
pub(super) struct Beginnings {
    /// `None` where this machine cannot look for several texts at once, or one is empty: then every text may hold one.
    searches: Option<Vec<packed::Searcher>>,
}

/// How many texts one search looks for at its best.
const SEARCH_MAX: usize = 64;

impl Beginnings {
    /// The beginnings of these needles.
    pub(super) fn of(needles: &[Vec<u8>]) -> Self {
        let mut beginnings: Vec<&[u8]> =
            needles.iter().map(|needle| &needle[..needle.len().min(BYTES)]).collect();
        beginnings.sort_unstable();
        beginnings.dedup();
        // One that begins as another is found with it.
        beginnings.dedup_by(|next, before| next.starts_with(before));
        let search = |beginnings: &[&[u8]]| {
            packed::Config::new().only_teddy(true).builder().extend(beginnings).build()
        };
        Self { searches: beginnings.chunks(SEARCH_MAX).map(search).collect() }
    }

    /// Whether a needle may begin somewhere in the text.
    pub(super) fn any_in(&self, text: &[u8]) -> bool {
        let found = |search: &packed::Searcher| search.find(text).is_some();
        self.searches.as_ref().is_none_or(|searches| searches.iter().any(found))
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
            ("hunter2", true),
            ("hunter", false),
            ("", false),
        ] {
            assert_eq!(beginnings.any_in(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn as_many_as_there_are() {
        let many: Vec<Vec<u8>> = (0..300_u32).map(|n| format!("{n:04}").into_bytes()).collect();
        let beginnings = Beginnings::of(&many);
        assert!(beginnings.any_in(b"the last of them is 0299") && beginnings.any_in(b"0000 is the first"));
        assert!(!beginnings.any_in(b"none of them is in here"), "as quick with many as with few");
        assert!(Beginnings::of(&[Vec::new()]).any_in(b"anything"), "what is empty is never ruled out");
        assert!(!Beginnings::of(&[]).any_in(b"anything"), "there is nothing to look for");
    }

    proptest! {
        #[test]
        fn no_needle_is_ever_missed(needle in "[a-c]{3,6}", other in "[a-c]{3,6}", before in "[a-e]{0,40}", after in "[a-e]{0,9}") {
            let text = format!("{before}{needle}{after}");
            prop_assert!(of(&[&other, &needle]).any_in(text.as_bytes()));
        }
    }
}
