//! The rules of this repository that neither the compiler nor clippy holds. Each rule is a file here: a pure function
//! from texts to problems, with a test on snippets.

mod edges;
mod exceptions;
mod files;
mod journal;
mod leftovers;
mod links;
mod scan;
mod sizes;

use crate::repo::Repo;
use std::fmt;

/// A breach of a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    file: String,
    line: usize,
    rule: &'static str,
    /// What is wrong and what to do.
    what: String,
    /// What an exception names: the function, the dependency; empty for the file as a whole.
    subject: String,
}

impl Problem {
    fn new(file: &str, line: usize, rule: &'static str, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, rule, what: what.into(), subject: String::new() }
    }

    fn about(mut self, subject: &str) -> Self {
        subject.clone_into(&mut self.subject);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file, self.line, self.rule, self.what)
    }
}

/// A file with its text.
pub(crate) struct Source {
    path: String,
    text: String,
}

impl Source {
    fn is_rust(&self) -> bool {
        has_extension(&self.path, "rs")
    }

    /// Whether the whole file is tests or a benchmark.
    fn is_test(&self) -> bool {
        let inside = |folder: &str| self.path.contains(&format!("/{folder}/"));
        inside("tests") || inside("benches") || self.path.ends_with("/tests.rs")
    }
}

fn has_extension(path: &str, extension: &str) -> bool {
    std::path::Path::new(path).extension().is_some_and(|found| found == extension)
}

/// Every breach of every rule, less those that are excepted, plus every exception that is not needed any more.
pub(crate) fn check(repo: &Repo) -> Result<Vec<Problem>, String> {
    let mut sources = Vec::new();
    for path in repo.files()? {
        if let Some(text) = repo.read(&path)? {
            sources.push(Source { path, text });
        }
    }
    let mut problems = Vec::new();
    for source in &sources {
        if source.is_rust() {
            problems.extend(files::check(source));
            problems.extend(sizes::check(source));
        }
        problems.extend(leftovers::check(source));
        problems.extend(links::check(source, |path| repo.exists(path)));
    }
    problems.extend(files::check_wiring(&sources));
    problems.extend(links::check_tests(&sources));
    problems.extend(journal::check(&sources));
    problems.extend(edges::check_manifests(&sources));
    problems.extend(edges::check_pure(|package| {
        repo.output("cargo", &["tree", "-p", package, "-e", "normal", "--prefix", "none", "--locked"])
    })?);
    let list = repo.read(exceptions::FILE)?.unwrap_or_default();
    let mut left = exceptions::apply(&list, problems)?;
    left.sort();
    Ok(left)
}
