//! Links in pages: what a page points to must be there.

use super::{Problem, Source, has_extension, scan};
use std::path::{Component, Path, PathBuf};

/// What the tasks of `backstop demo` work on: its pages point to files as they lie in a workspace, not here.
const SAMPLES: &str = "examples/demo/";

/// Checks `[text](path)` from the page's own folder, and paths in backticks from the repository's root.
pub(super) fn check(source: &Source, exists: impl Fn(&str) -> bool) -> Vec<Problem> {
    if !has_extension(&source.path, "md") || source.path.starts_with(SAMPLES) {
        return Vec::new();
    }
    let folder = Path::new(&source.path).parent().unwrap_or(Path::new(""));
    let mut problems = Vec::new();
    let mut missing = |at: usize, target: &str| {
        let line = scan::line_of(&source.text, at);
        let what = format!("`{target}` is not there; mend the link or write the page");
        problems.push(Problem::new(&source.path, line, "dead-link", what).about(target));
    };
    for (at, target) in links(&source.text) {
        let path = target.split('#').next().unwrap_or_default();
        let outside = path.contains("://") || path.starts_with("mailto:");
        if !path.is_empty() && !outside && !exists(&normal(&folder.join(path))) {
            missing(at, target);
        }
    }
    for (at, target) in paths_in_backticks(&source.text) {
        if !exists(target) {
            missing(at, target);
        }
    }
    problems
}

/// The page that says which test holds which promise.
const PROMISES: &str = "ARCHITECTURE.md";

/// Every test that the page of promises names must be there: a name in backticks of three words or more, `as_this_one`.
pub(super) fn check_tests(sources: &[Source]) -> Vec<Problem> {
    let Some(page) = sources.iter().find(|source| source.path == PROMISES) else { return Vec::new() };
    let is_test = |name: &str| {
        let word = |word: &str| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        };
        name.split('_').count() > 2 && name.split('_').all(word)
    };
    let is_there = |name: &str| {
        let declared = format!("fn {name}(");
        sources.iter().any(|source| source.is_rust() && source.text.contains(&declared))
    };
    let missing = spans(&page.text).filter(|(_, name)| is_test(name) && !is_there(name));
    let problem = |(at, name): (usize, &str)| {
        let what = format!("the test `{name}` is not there; name the one that holds this now");
        Problem::new(PROMISES, scan::line_of(&page.text, at), "dead-promise", what).about(name)
    };
    missing.map(problem).collect()
}

fn links(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices("](").filter_map(|(at, _)| {
        let rest = &text[at + 2..];
        let end = rest.find([')', '\n'])?;
        rest[end..].starts_with(')').then(|| (at, &rest[..end]))
    })
}

/// Paths of this repository, but for patterns and placeholders such as `docs/errors/BS<number>.md`.
fn paths_in_backticks(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let roots = ["crates/", "docs/", "xtask/", ".ci/"];
    spans(text).filter(move |(_, path)| {
        let is_path = path.chars().all(|c| c.is_ascii_alphanumeric() || "/-_.".contains(c));
        is_path && !path.contains("BS0000") && roots.iter().any(|root| path.starts_with(root))
    })
}

/// What stands between two backticks on one line, and, which does no harm, what stands between two such.
fn spans(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices('`').filter_map(|(at, _)| {
        let rest = &text[at + 1..];
        Some((at, &rest[..rest.find(['`', '\n'])?]))
    })
}

/// `docs/adding/../errors` is `docs/errors`.
fn normal(path: &Path) -> String {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_names_a_test_that_is_there() {
        let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
        let page = "| x | `that_is_there`, `that_is_gone` |\n| y | `first_token`, `Money`, `a_b c` |\n";
        let sources =
            [source("ARCHITECTURE.md", page), source("crates/a/tests/it/b.rs", "fn that_is_there() {}")];
        let found: Vec<_> =
            check_tests(&sources).into_iter().map(|problem| (problem.line, problem.subject)).collect();
        assert_eq!(found, [(1, "that_is_gone".to_owned())]);
    }

    #[test]
    fn dead_links_are_found() {
        let there = ["docs/errors/BS1001.md", "README.md", "docs", "crates/a/src/b.rs"];
        let text = "\
[a](../errors/BS1001.md#why) [b](../../README.md) [c](#here) [d](https://example.org) [e](..)
[f](../errors/BS9999.md)
`crates/a/src/b.rs` `crates/<name>/src` `crates/*/tests` `cargo xtask test`
`crates/a/src/gone.rs`
";
        let page = Source { path: "docs/adding/x.md".into(), text: text.into() };
        let found: Vec<_> = check(&page, |path| there.contains(&path))
            .into_iter()
            .map(|problem| (problem.line, problem.subject))
            .collect();
        assert_eq!(found, [(2, "../errors/BS9999.md".to_owned()), (4, "crates/a/src/gone.rs".to_owned())]);
        let sample = Source { path: "examples/demo/expected/out/x.md".into(), ..page };
        assert_eq!(check(&sample, |_| false), [], "a workspace's pages are not ours");
    }
}
