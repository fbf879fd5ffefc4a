//! What is promised of each event and each code: a golden file, a page.

use super::{Problem, Source, files};

const EVENTS: &str = "crates/backstop-journal/src/event.rs";
const CODES: &str = "crates/backstop-call/src/code.rs";

pub(super) fn check(sources: &[Source]) -> Vec<Problem> {
    let text = |path: &str| {
        let found = sources.iter().find(|source| source.path == path);
        found.map_or("", |source| source.text.as_str())
    };
    let mut problems = golden_files(&event_kinds(text(EVENTS)), sources);
    problems.extend(error_pages(&codes(text(CODES)), sources));
    problems.extend(files::missing_checklists(sources));
    problems
}

/// `(line, "run.created.v1")` for each line `RunCreated = "run.created" v 1,` and each version before it.
fn event_kinds(text: &str) -> Vec<(usize, String)> {
    let entry = |line: &str| {
        let (_, rest) = line.trim().strip_suffix(',')?.split_once(" = \"")?;
        let (kind, version) = rest.split_once("\" v ")?;
        Some((kind.to_owned(), version.parse::<u32>().ok()?))
    };
    let mut kinds = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if let Some((kind, newest)) = entry(line) {
            kinds.extend((1..=newest).map(|version| (number, format!("{kind}.v{version}"))));
        }
    }
    kinds
}

fn golden_files(kinds: &[(usize, String)], sources: &[Source]) -> Vec<Problem> {
    let mut problems = Vec::new();
    if kinds.is_empty() {
        problems.push(Problem::new(EVENTS, 1, "golden-file", "no event was found; mend this rule"));
    }
    for (line, kind) in kinds {
        let file = format!("crates/backstop-journal/tests/golden/{kind}.json");
        if !sources.iter().any(|source| source.path == file) {
            let what = format!(
                "{kind} has no golden file; add an example to tests/it/example.rs and run its tests with UPDATE_EXPECT=1"
            );
            problems.push(Problem::new(EVENTS, *line, "golden-file", what));
        }
    }
    problems
}

/// `(line, 1001)` for each line `ConfigSyntax = 1001, "…";`.
fn codes(text: &str) -> Vec<(usize, u16)> {
    let entry = |line: &str| {
        let (_, rest) = line.trim().split_once(" = ")?;
        let (number, hint) = rest.split_once(", \"")?;
        if hint.ends_with("\";") { number.parse().ok() } else { None }
    };
    (1..).zip(text.lines()).filter_map(|(number, line)| Some((number, entry(line)?))).collect()
}

fn error_pages(codes: &[(usize, u16)], sources: &[Source]) -> Vec<Problem> {
    let mut problems = Vec::new();
    if codes.is_empty() {
        problems.push(Problem::new(CODES, 1, "error-page", "no code was found; mend this rule"));
    }
    for (line, code) in codes {
        let path = format!("docs/errors/BS{code}.md");
        match sources.iter().find(|source| source.path == path) {
            None => {
                let what = format!("BS{code} has no page; write {path} as docs/adding/error-code.md says");
                problems.push(Problem::new(CODES, *line, "error-page", what));
            }
            Some(page) if !page.text.starts_with(&format!("# BS{code}: ")) => {
                let what = format!("begin with `# BS{code}: ` and what the code means");
                problems.push(Problem::new(&path, 1, "error-page", what));
            }
            Some(_) => {}
        }
    }
    for source in sources {
        let Some(page) = source.path.strip_prefix("docs/errors/BS") else { continue };
        if !codes.iter().any(|(_, code)| page == format!("{code}.md")) {
            let what = "no code has this page; take it out, or give the code back";
            problems.push(Problem::new(&source.path, 1, "error-page", what));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn every_version_of_every_kind_has_a_golden_file() {
        let kinds = event_kinds("    /// A run exists.\n    RunCreated = \"run.created\" v 2,\n");
        assert_eq!(kinds, [(2, "run.created.v1".to_owned()), (2, "run.created.v2".to_owned())]);
        let there = [source("crates/backstop-journal/tests/golden/run.created.v1.json", "")];
        let problems = golden_files(&kinds, &there);
        assert_eq!(problems.len(), 1);
        assert!(
            problems[0].to_string().starts_with(&format!("{EVENTS}:2: golden-file: run.created.v2 has no"))
        );
    }

    #[test]
    fn codes_and_pages_belong_together() {
        let codes = codes("    Usage = 1011, \"see --help\";\n    Other = 1012, \"do it\";\n    X = 3;\n");
        assert_eq!(codes, [(1, 1011), (2, 1012)]);
        let pages = [
            source("docs/errors/BS1011.md", "# Wrong title\n"),
            source("docs/errors/BS7777.md", "# BS7777: gone\n"),
            source("docs/errors/README.md", ""),
        ];
        let found: Vec<_> = error_pages(&codes, &pages).into_iter().map(|problem| problem.file).collect();
        assert_eq!(found, ["docs/errors/BS1011.md", CODES, "docs/errors/BS7777.md"]);
    }
}
