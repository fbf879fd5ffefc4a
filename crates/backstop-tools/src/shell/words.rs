//! A command line is split into words, as a shell would where it has nothing to do but that. What would make a shell do
//! more is refused with a text that says what to do instead, so that an allowlist of commands means what it says.

/// A line that is not just words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// What a shell would do something with.
    #[error("{what} needs a shell, and there is none: {instead}")]
    Shell {
        /// The sign, and what it would do.
        what: String,
        /// What to do instead.
        instead: &'static str,
    },
    /// A quote that is not closed.
    #[error("the quote {0} is not closed")]
    Open(char),
    /// A backslash at the end.
    #[error("there is nothing after the last backslash")]
    Backslash,
    /// No word.
    #[error("there is no command")]
    Empty,
}

const QUOTE: &str = "put it into single quotes where it is meant literally, or give the words as `argv`";

/// Splits a line.
pub fn split(line: &str) -> Result<Vec<String>, LineError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = line.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            ' ' | '\t' => words.extend(word.take()),
            '\'' => quoted(&mut rest, word.get_or_insert_default())?,
            '"' => double_quoted(&mut rest, word.get_or_insert_default())?,
            '\\' => word.get_or_insert_default().push(rest.next().ok_or(LineError::Backslash)?),
            '#' | '~' if word.is_none() => return Err(special(character)),
            '{' if !matches!(rest.peek(), Some('}' | '0'..='9')) => return Err(special(character)),
            '|' | '&' | ';' | '<' | '>' | '(' | ')' | '$' | '`' | '*' | '?' | '[' | '\n' | '\r' => {
                return Err(special(character));
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    match words.first() {
        None => Err(LineError::Empty),
        Some(first) if is_assignment(first) => Err(LineError::Shell {
            what: format!("`{first}` before a command sets a variable, which"),
            instead: "leave it away; variables are what the owner grants",
        }),
        Some(_) => Ok(words),
    }
}

fn quoted(rest: &mut impl Iterator<Item = char>, word: &mut String) -> Result<(), LineError> {
    loop {
        match rest.next().ok_or(LineError::Open('\''))? {
            '\'' => return Ok(()),
            other => word.push(other),
        }
    }
}

fn double_quoted(rest: &mut impl Iterator<Item = char>, word: &mut String) -> Result<(), LineError> {
    loop {
        match rest.next().ok_or(LineError::Open('"'))? {
            '"' => return Ok(()),
            sign @ ('$' | '`') => return Err(special(sign)),
            '\\' => match rest.next().ok_or(LineError::Open('"'))? {
                escaped @ ('"' | '\\' | '$' | '`') => word.push(escaped),
                other => word.extend(['\\', other]),
            },
            other => word.push(other),
        }
    }
}

fn is_assignment(word: &str) -> bool {
    let is_name = |name: &str| {
        !name.starts_with(|first: char| first.is_ascii_digit())
            && !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    word.split_once('=').is_some_and(|(name, _)| is_name(name))
}

fn special(sign: char) -> LineError {
    let (does, instead) = match sign {
        '|' => {
            ("pipes into another command", "run the commands one after the other, each in a call of its own")
        }
        '&' => {
            ("runs something beside it", "run the commands one after the other, each in a call of its own")
        }
        ';' | '\n' | '\r' => {
            ("ends a command", "run the commands one after the other, each in a call of its own")
        }
        '<' => ("reads a file", "give the text as `stdin`"),
        '>' => ("writes a file", "take the output from the result, and write the file by its own tool"),
        '(' | ')' => {
            ("starts another shell", "run the commands one after the other, each in a call of its own")
        }
        '$' | '`' => ("puts something in its place", "write out what is meant, or put it into single quotes"),
        '*' | '?' | '[' => {
            ("stands for names of files", "list the files, and name them; or put it into single quotes")
        }
        '{' => ("stands for several words", QUOTE),
        '~' => ("stands for a home directory", "write paths from the workspace's root"),
        _ => ("begins a comment", QUOTE),
    };
    let sign = backstop_agent::visible_line(&sign.to_string());
    LineError::Shell { what: format!("`{sign}` {does}, which"), instead }
}

/// The words as a line that would be split into them again.
pub fn join(words: &[String]) -> String {
    let quote = |word: &String| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./=:,@%+^".contains(&byte);
        if !word.is_empty() && word.bytes().all(is_plain) {
            return word.clone();
        }
        format!("'{}'", word.replace('\'', "'\\''"))
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_as_a_shell_would() {
        let cases: [(&str, &[&str]); 9] = [
            ("ls -la", &["ls", "-la"]),
            ("  cargo\ttest  x ", &["cargo", "test", "x"]),
            ("grep 'a b|c' \"d e\"", &["grep", "a b|c", "d e"]),
            ("a\\ b '' \"\"", &["a b", "", ""]),
            ("echo \"a\\\"b\\n\\$x\" 'it'\\''s'", &["echo", "a\"b\\n$x", "it's"]),
            ("find . -name '*.rs' -exec ls {} +", &["find", ".", "-name", "*.rs", "-exec", "ls", "{}", "+"]),
            ("git show HEAD~2 HEAD@{1} a#b", &["git", "show", "HEAD~2", "HEAD@{1}", "a#b"]),
            ("echo a=b", &["echo", "a=b"]),
            ("x --f=\"a b\"", &["x", "--f=a b"]),
        ];
        for (line, want) in cases {
            let words = split(line).unwrap();
            assert_eq!(words, want, "{line}");
            assert_eq!(split(&join(&words)).unwrap(), words, "{line}");
        }
    }

    #[test]
    fn what_needs_a_shell_is_refused() {
        let cases = [
            "a | b",
            "a|b",
            "a; b",
            "a && b",
            "a &",
            "a > f",
            "a < f",
            "a 2>&1",
            "$(b)",
            "a `b`",
            "a $HOME",
            "a \"$(b)\"",
            "a \"`b`\"",
            "ls *.rs",
            "ls a?",
            "ls [ab]",
            "ls ~",
            "ls ~/x",
            "a {b,c}",
            "a\nb",
            "(a)",
            "a # b",
            "A=b c",
            "_=1",
        ];
        for line in cases {
            assert!(matches!(split(line), Err(LineError::Shell { .. })), "{line}");
        }
        assert_eq!(
            split("cat a | sh").unwrap_err().to_string(),
            "`|` pipes into another command, which needs a shell, and there is none: run the commands one after the other, \
             each in a call of its own"
        );
        assert_eq!(split("a 'b"), Err(LineError::Open('\'')));
        assert_eq!(split("a \"b\\"), Err(LineError::Open('"')));
        assert_eq!(split("a \\"), Err(LineError::Backslash));
        assert_eq!(split("  "), Err(LineError::Empty));
    }
}
