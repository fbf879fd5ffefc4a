//! A quick no: whether any needle can begin anywhere in a text, by its first bytes. As a rule nothing is to be taken out, and
//! then this pass, many bytes at a time, is all that a text costs.

use aho_corasick::packed;
use memchr::memmem::Finder;

/// How many bytes of a needle are looked at: enough that a secret which begins as some common word does not make every text
/// suspect.
const BYTES: usize = 8;
/// So few are looked for one after the other, which is quicker than together.
const FEW_MAX: usize = 4;
/// How many texts one search looks for at its best.
const SEARCH_MAX: usize = 64;

/// The first bytes of all needles.
pub(super) struct Beginnings(Search);

enum Search {
    Few(Vec<Finder<'static>>),
    Many(Vec<packed::Searcher>),
    /// This machine cannot look for several texts at once, or one is empty: every text may hold one.
    Never,
}

impl Beginnings {
    /// The beginnings of these needles.
    pub(super) fn of(needles: &[&[u8]]) -> Self {
        let mut beginnings: Vec<&[u8]> =
            needles.iter().map(|needle| &needle[..needle.len().min(BYTES)]).collect();
        beginnings.sort_unstable();
        beginnings.dedup();
        // One that begins as another is found with it.
        beginnings.dedup_by(|next, before| next.starts_with(before));
        if beginnings.len() <= FEW_MAX {
            let finder = |beginning: &&[u8]| Finder::new(*beginning).into_owned();
            return Self(Search::Few(beginnings.iter().map(finder).collect()));
        }
        let search = |beginnings: &[&[u8]]| {
            packed::Config::new().only_teddy(true).builder().extend(beginnings).build()
        };
        let searches: Option<_> = beginnings.chunks(SEARCH_MAX).map(search).collect();
        Self(searches.map_or(Search::Never, Search::Many))
    }

    /// Whether a needle may begin somewhere in the text.
    pub(super) fn any_in(&self, text: &[u8]) -> bool {
        match &self.0 {
            Search::Few(finders) => finders.iter().any(|finder| finder.find(text).is_some()),
            Search::Many(searches) => searches.iter().any(|search| search.find(text).is_some()),
            Search::Never => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(needles: &[&str]) -> Beginnings {
        Beginnings::of(&needles.iter().map(|needle| needle.as_bytes()).collect::<Vec<_>>())
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
        let many: Vec<String> = (0..300_u32).map(|n| format!("{n:04}")).collect();
        let beginnings = of(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(beginnings.any_in(b"the last of them is 0299") && beginnings.any_in(b"0000 is the first"));
        assert!(!beginnings.any_in(b"none of them is in here"), "as quick with many as with few");
        assert!(of(&[""]).any_in(b"anything"), "what is empty is never ruled out");
        assert!(!Beginnings::of(&[]).any_in(b"anything"), "there is nothing to look for");
    }

    proptest! {
        #[test]
        fn no_needle_is_ever_missed(needle in "[a-c]{3,6}", other in "[a-c]{3,6}", before in "[a-e]{0,40}", after in "[a-e]{0,9}") {
            let text = format!("{before}{needle}{after}");
            let more = ["0001", "0002", "0003", "0004"];
            prop_assert!(of(&[&other, &needle]).any_in(text.as_bytes()));
            prop_assert!(of(&[&[&*other, &*needle], &more[..]].concat()).any_in(text.as_bytes()));
        }
    }
}
