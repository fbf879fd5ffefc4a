//! What a file must have and where it may lie: the line about itself, no `mod.rs`, and somebody who names it.

use super::{Problem, Source, has_extension, scan};
use std::collections::BTreeMap;

/// Lines of the vocabulary crate without tests: what everybody depends on must stay small.
const VOCABULARY_LINES_MAX: usize = 3_000;

pub(super) fn check(source: &Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    if !source.text.starts_with("//!") {
        let what = "begin with `//!`: what the file owns, and what it must not do";
        problems.push(Problem::new(&source.path, 1, "file-docs", what));
    }
    if source.path.ends_with("/mod.rs") {
        let what = "name it after its folder and put it beside it: `foo.rs` and `foo/`";
        problems.push(Problem::new(&source.path, 1, "mod-rs", what));
    }
    problems
}

/// Every file of Rust is named by the file above it: one that is not is never compiled, and its tests never run.
pub(super) fn check_wiring(sources: &[Source]) -> Vec<Problem> {
    let code: BTreeMap<&str, String> = sources
        .iter()
        .filter(|source| source.is_rust())
        .map(|source| (source.path.as_str(), scan::blank(&source.text)))
        .collect();
    let mut problems = Vec::new();
    for path in code.keys() {
        let Some(parents) = parents(path) else { continue };
        let name = path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        let declared = format!("mod {name}");
        let names_it = |parent: &String| {
            code.get(parent.as_str()).is_some_and(|code| scan::words(code, &declared).next().is_some())
        };
        if !parents.iter().any(names_it) {
            let what = format!("is compiled by nobody; write `mod {name};` in {}", parents.join(" or "));
            problems.push(Problem::new(path, 1, "not-wired", what));
        }
    }
    problems.extend(vocabulary_size(&code));
    problems
}

/// The files of which one must name this file as its module; `None` for the root of a crate.
fn parents(path: &str) -> Option<Vec<String>> {
    let (folder, file) = path.rsplit_once('/')?;
    let is_root = matches!(file, "lib.rs" | "main.rs" | "build.rs" | "it.rs");
    let (above, last) = folder.rsplit_once('/').unwrap_or(("", folder));
    match last {
        "examples" | "benches" | "bin" => None,
        _ if is_root => None,
        "src" => Some(vec![format!("{folder}/lib.rs"), format!("{folder}/main.rs")]),
        // A second file in `tests` would be a second binary: it belongs into `it`.
        "tests" => Some(vec![format!("{folder}/it.rs"), format!("{folder}/it/main.rs")]),
        "it" if above.ends_with("/tests") => {
            Some(vec![format!("{above}/it.rs"), format!("{folder}/main.rs")])
        }
        _ => Some(vec![format!("{folder}.rs"), format!("{folder}/main.rs")]),
    }
}

fn vocabulary_size(code: &BTreeMap<&str, String>) -> Option<Problem> {
    let of_the_crate = code.iter().filter(|(path, _)| path.starts_with("crates/backstop-call/src/"));
    let lines: usize =
        of_the_crate.map(|(_, code)| scan::test_lines(code).iter().filter(|test| !**test).count()).sum();
    let what = format!(
        "{lines} lines without tests (at most {VOCABULARY_LINES_MAX}); what fewer than three crates use belongs elsewhere"
    );
    (lines > VOCABULARY_LINES_MAX)
        .then(|| Problem::new("crates/backstop-call/src/lib.rs", 1, "vocabulary-size", what))
}

/// Every page of `docs/adding` that newcomers are promised.
pub(super) fn missing_checklists(sources: &[Source]) -> Vec<Problem> {
    let names = ["provider", "dialect", "layer", "event", "tool", "command", "error-code", "projection"];
    names
        .iter()
        .map(|name| format!("docs/adding/{name}.md"))
        .filter(|page| !sources.iter().any(|source| source.path == *page && has_extension(page, "md")))
        .map(|page| Problem::new(&page, 1, "checklists", "write the page: a checklist of at most one page"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_file_says_what_it_is() {
        assert_eq!(check(&source("crates/a/src/b.rs", "//! B.\n")), []);
        let rules: Vec<_> =
            check(&source("crates/a/src/b/mod.rs", "use x;\n")).iter().map(|problem| problem.rule).collect();
        assert_eq!(rules, ["file-docs", "mod-rs"]);
    }

    #[test]
    fn a_file_that_nobody_names_is_found() {
        let sources = [
            source("crates/a/src/lib.rs", "mod b;\n// mod d;\npub mod e;\n"),
            source("crates/a/src/b.rs", "mod c;\n"),
            source("crates/a/src/b/c.rs", ""),
            source("crates/a/src/d.rs", ""),
            source("crates/a/src/e.rs", "mod tests;"),
            source("crates/a/src/e/tests.rs", ""),
            source("crates/a/src/ee.rs", ""),
            source("crates/a/tests/it.rs", "#[path = \"it/x.rs\"]\nmod x;\n"),
            source("crates/a/tests/it/x.rs", ""),
            source("crates/a/tests/it/y.rs", ""),
            source("crates/a/tests/second.rs", ""),
            source("crates/a/examples/small.rs", ""),
        ];
        let found: Vec<_> = check_wiring(&sources).into_iter().map(|problem| problem.file).collect();
        let want = ["src/d.rs", "src/ee.rs", "tests/it/y.rs", "tests/second.rs"];
        assert_eq!(found, want.map(|path| format!("crates/a/{path}")));
    }

    #[test]
    fn every_checklist_must_be_there() {
        let one = [source("docs/adding/tool.md", "")];
        assert_eq!(missing_checklists(&one).len(), 7);
    }
}
