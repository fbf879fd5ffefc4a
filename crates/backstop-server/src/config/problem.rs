//! What is wrong with a config: where, which key, why, and what is allowed. All problems of a file are told at once.

use backstop_call::Code;
use std::fmt;

/// A place in a file, counted from 1; columns in characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, as it was named.
    pub file: String,
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Place {
    /// The place of a byte offset in a text.
    pub fn of(file: &str, text: &str, offset: usize) -> Self {
        let before = &text[..text.floor_char_boundary(offset)];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Self { file: file.to_owned(), line, column }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The code a user can look up.
    pub code: Code,
    /// Where it stands; `None` for what stands in no file.
    pub place: Option<Place>,
    /// What is wrong, with the key: a lowercase fragment.
    pub message: String,
    /// What to do: what is allowed, or what was meant.
    pub hint: String,
}

impl Problem {
    /// A problem that stands in no file, with the hint of its code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, place: None, message: message.into(), hint: code.hint().to_owned() }
    }

    /// The same with a hint of its own.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

/// `FILE:LINE:COLUMN: what is wrong`, without code and hint, which the rim prints.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Everything that is wrong with a config, in the order of its places; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// A sentence that names what is allowed, and what was probably meant.
pub fn allowed<'a>(what: &str, found: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    names.dedup();
    let meant = match nearest(found, &names) {
        Some(name) => format!("did you mean `{name}`? "),
        None => String::new(),
    };
    if names.is_empty() {
        return format!("{meant}there are no {what} yet");
    }
    format!("{meant}{what}: {}", names.join(", "))
}

/// The name that differs least from `found`: at most a third of its letters.
fn nearest<'a>(found: &str, names: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace('_', "-");
    let found = plain(found);
    let worst = (found.chars().count() / 3).max(1);
    let distances = names.iter().map(|name| (distance(&found, &plain(name)), *name));
    distances.filter(|(far, _)| *far <= worst).min_by_key(|(far, _)| *far).map(|(_, name)| name)
}

/// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours (Damerau 1964).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = match (i, j) {
                (0, _) => j,
                (_, 0) => i,
                _ => {
                    let kept = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let mut best = kept.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                    if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                        best = best.min(rows[i - 2][j - 2] + 1);
                    }
                    best
                }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let names = ["model", "prompt", "max-tokens", "tools"];
        assert_eq!(nearest("modle", &names), Some("model"));
        assert_eq!(nearest("max_tokens", &names), Some("max-tokens"));
        assert_eq!(nearest("Tool", &names), Some("tools"));
        assert_eq!(nearest("colour", &names), None);
    }

    #[test]
    fn places_count_from_one_in_characters() {
        let text = "a = 1\nü = 2\n";
        assert_eq!(Place::of("f", text, 0).to_string(), "f:1:1");
        assert_eq!(Place::of("f", text, text.find('2').unwrap()).to_string(), "f:2:5");
        assert_eq!(Place::of("f", "", 9).to_string(), "f:1:1");
    }
}
