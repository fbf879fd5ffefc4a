//! What a list of runs is searched by: the words of a task. Pure; the same for every store, so that a search finds the same
//! runs everywhere.

use backstop_call::{AgentName, ModelName, Role};
use backstop_journal::projections::history::RunSummary;
use backstop_journal::{Blob, BlobHash, Body, RunCursor, RunFilter};
use serde_json::Value;

/// How much of what a task says is kept to be searched and shown in lists.
const TEXT_CHARS_MAX: usize = 1_000;
/// Words of a search; what comes behind is not looked for.
const WORDS_MAX: usize = 8;
/// What is shorter is no beginning of an id: too many runs have it.
const ID_CHARS_MIN: usize = 4;
/// Letters of a word of a search.
const WORD_CHARS_MAX: usize = 64;

/// The beginning of what a task says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TaskText {
    pub(crate) text: String,
    /// The large body that it is a part of: erased together with it.
    pub(crate) blob: Option<BlobHash>,
}

impl TaskText {
    /// That of a task's message, which may have been moved out to one of `blobs`.
    pub(crate) fn of(message: &Body, blobs: &[Blob]) -> Self {
        let beginning = |value: &Value| {
            let whole = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            whole.chars().take(TEXT_CHARS_MAX).collect()
        };
        match message {
            Body::Inline(value) => Self { text: beginning(value), blob: None },
            Body::Erased { .. } => Self::default(),
            Body::Blob { hash, .. } => {
                let bytes = blobs.iter().find(|blob| blob.hash == *hash).map(|blob| &blob.bytes[..]);
                let value = bytes.and_then(|bytes| serde_json::from_slice(bytes).ok());
                let text = value.as_ref().map(beginning).unwrap_or_default();
                Self { text, blob: Some(hash.clone()) }
            }
        }
    }
}

/// The words of a text, in small letters: what stands between anything that is no letter and no digit.
fn words(text: &str) -> Vec<String> {
    let letters = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    letters.map(str::to_lowercase).collect()
}

/// What is looked for: each a row of words that must stand behind each other, the last of which may go on.
fn terms(search: &str) -> Vec<Vec<String>> {
    let cut = |word: String| word.chars().take(WORD_CHARS_MAX).collect();
    let terms = search.split_whitespace().take(WORDS_MAX);
    let terms = terms.map(|term| words(term).into_iter().take(WORDS_MAX).map(cut).collect::<Vec<String>>());
    terms.filter(|term| !term.is_empty()).collect()
}

/// Whether a text has every one of the terms. No terms are in no text.
fn has(texts: [&str; 2], terms: &[Vec<String>]) -> bool {
    let texts = texts.map(words);
    let is_there = |term: &Vec<String>| {
        let fits = |found: &[String]| {
            let mut pairs = found.iter().zip(term).rev();
            pairs.next().is_some_and(|(found, last)| found.starts_with(last.as_str()))
                && pairs.all(|(found, word)| found == word)
        };
        texts.iter().any(|text| text.windows(term.len()).any(fits))
    };
    !terms.is_empty() && terms.iter().all(is_there)
}

/// What a search looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Search {
    /// The beginning of a run's id.
    Id(String),
    /// Words of tasks.
    Words(Vec<Vec<String>>),
}

impl Search {
    /// What a text looks for, where `begins` tells whether any run's id begins so.
    pub(crate) fn of<E>(text: &str, begins: impl FnOnce(&str) -> Result<bool, E>) -> Result<Self, E> {
        let id = text.trim();
        let looks_so = id.len() >= ID_CHARS_MIN && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        Ok(if looks_so && begins(id)? { Self::Id(id.to_owned()) } else { Self::Words(terms(text)) })
    }
}

/// Whether a run is wanted.
pub(crate) fn matches(run: &RunSummary, text: &str, filter: &RunFilter, search: Option<&Search>) -> bool {
    let is = |wanted: Option<&str>, found: &str| wanted.is_none_or(|wanted| wanted == found);
    let found = |search: &Search| match search {
        Search::Id(id) => run.run.as_str().starts_with(id.as_str()),
        Search::Words(terms) => has([run.task.as_str(), text], terms),
    };
    (filter.status.is_empty() || filter.status.contains(&run.status))
        && is(filter.agent.as_ref().map(AgentName::as_str), run.agent.as_str())
        && is(filter.role.as_ref().map(Role::as_str), run.role.as_str())
        && is(filter.model.as_ref().map(ModelName::as_str), run.model.as_str())
        && filter.from.is_none_or(|from| run.created >= from)
        && filter.until.is_none_or(|until| run.created < until)
        && filter.id_prefix.as_ref().is_none_or(|prefix| run.run.as_str().starts_with(prefix.as_str()))
        && search.is_none_or(found)
        && filter.before.as_ref().is_none_or(|RunCursor { created, run: id }| {
            (run.created, run.run.as_str()) < (*created, id.as_str())
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn what_a_search_finds() {
        let rows = [
            ("invoice", true),
            ("INVO", true),
            ("invoice march", true),
            ("march invoice", true),
            ("mar-ch", false),
            ("invoices-2026", true),
            ("2026-inv", false),
            ("bill-7", true),
            ("bill 8", false),
            ("", false),
            ("% ' \"", false),
            ("sum invoices-20 bill", true),
        ];
        for (search, want) in rows {
            let text = "Sum up the invoices-2026 of März and March.";
            assert_eq!(has(["bill-7", text], &terms(search)), want, "{search}");
        }
        assert!(has(["a", "Die Größe"], &terms("größ")));
        assert_eq!(terms(&"x ".repeat(100)).len(), WORDS_MAX);
    }

    #[test]
    fn the_text_of_a_task_is_its_beginning_wherever_it_lies() {
        let long = "word ".repeat(5_000);
        let mut body = Body::from(long.as_str());
        let blob = body.spill(100).unwrap();
        let want = TaskText { text: long.chars().take(1_000).collect(), blob: Some(blob.hash.clone()) };
        assert_eq!(TaskText::of(&body, &[blob]), want);
        let want = TaskText { text: "short".to_owned(), blob: None };
        assert_eq!(TaskText::of(&Body::from("short"), &[]), want);
        let gone = Body::Blob { hash: BlobHash::of(b"x"), bytes: 9 };
        let broken = [Blob { hash: BlobHash::of(b"x"), bytes: Bytes::from_static(b"{") }];
        assert_eq!(TaskText::of(&gone, &broken).text, "");
    }
}
