//! Which commands are meant: a program by its exact name, and arguments. Compares words, and knows nothing about what a
//! program does with them.

use super::words::{LineError, split};
use std::fmt;

/// A command with places left open. `*` at the end stands for any further arguments, or none; elsewhere for one argument;
/// within a word for a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    program: String,
    args: Vec<String>,
    /// Whether any further arguments may follow.
    is_open: bool,
}

/// A text that is no pattern of a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The program is left open.
    #[error("`{0}` does not name its program: `*` can stand for arguments only")]
    Program(String),
    /// It is not just words.
    #[error("`{text}` is no command: {source}")]
    Line {
        /// The text.
        text: String,
        /// What is wrong with it.
        source: LineError,
    },
}

/// Stands for `*` while the words are split: no word holds it.
const OPEN: char = '\u{f8ff}';

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let line = |source| PatternError::Line { text: text.to_owned(), source };
        let mut words = split(&opened(text)).map_err(line)?;
        let is_open = words.len() > 1 && words.last().is_some_and(|last| last.chars().eq([OPEN]));
        if is_open {
            words.pop();
        }
        let program = words.remove(0);
        if program.contains(OPEN) {
            return Err(PatternError::Program(text.to_owned()));
        }
        Ok(Self { text: text.to_owned(), program, args: words, is_open })
    }

    /// Whether it stands for this command.
    pub fn fits(&self, argv: &[String]) -> bool {
        let Some((program, args)) = argv.split_first() else { return false };
        let is_long_enough =
            if self.is_open { args.len() >= self.args.len() } else { args.len() == self.args.len() };
        *program == self.program
            && is_long_enough
            && self.args.iter().zip(args).all(|(pattern, arg)| fits_word(pattern, arg))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The text with each `*` that is not quoted marked.
fn opened(text: &str) -> String {
    let mut quote = None;
    let mut escaped = false;
    let mark = |character: char| {
        let is_marked = character == '*' && quote.is_none() && !escaped;
        match character {
            '\\' if quote != Some('\'') && !escaped => escaped = true,
            _ => {
                if !escaped && matches!(character, '\'' | '"') {
                    quote = match quote {
                        None => Some(character),
                        Some(open) if open == character => None,
                        other => other,
                    };
                }
                escaped = false;
            }
        }
        if is_marked { OPEN } else { character }
    };
    text.chars().map(mark).collect()
}

fn fits_word(pattern: &str, word: &str) -> bool {
    let mut parts = pattern.split(OPEN);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = word.strip_prefix(first) else { return false };
    let mut parts: Vec<_> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_what_they_say() {
        let cases = [
            ("ls", "ls", true),
            ("ls", "ls -l", false),
            ("ls *", "ls", true),
            ("ls *", "ls -l a", true),
            ("ls *", "lsof", false),
            ("cargo test *", "cargo test", true),
            ("cargo test *", "cargo test -p a", true),
            ("cargo test *", "cargo run", false),
            ("cargo test *", "cargo +nightly test", false),
            ("cargo * --release", "cargo build --release", true),
            ("cargo * --release", "cargo build -v --release", false),
            ("npm run lint:*", "npm run lint:all", true),
            ("npm run lint:*", "npm run lint", false),
            ("npm run lint:*", "npm run lint:a b", false),
            ("cp a*b*c d", "cp a1b2c d", true),
            ("cp a*b*c d", "cp ac d", false),
            ("cp ab*ba d", "cp aba d", false),
            ("echo '*'", "echo '*'", true),
            ("echo '*'", "echo x", false),
            ("echo \\*", "echo x", false),
            ("./check", "./check", true),
            ("./check", "check", false),
            ("check", "./check", false),
            ("/bin/ls", "ls", false),
        ];
        for (pattern, line, want) in cases {
            let argv = split(line).unwrap();
            assert_eq!(Pattern::parse(pattern).unwrap().fits(&argv), want, "{pattern} | {line}");
        }
        assert!(!Pattern::parse("ls *").unwrap().fits(&[]));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["*", "* test", "c* test", "./*"] {
            assert_eq!(Pattern::parse(text), Err(PatternError::Program(text.to_owned())));
        }
        for text in ["", "a | b", "a > b", "ls ?", "A=b c"] {
            assert!(matches!(Pattern::parse(text), Err(PatternError::Line { .. })), "{text}");
        }
    }
}
