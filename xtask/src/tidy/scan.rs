//! A small reader of Rust: enough to find functions, their sizes and the tests among them in code that rustfmt wrote.
//! No parser, so that it needs no dependency and follows no edition.

/// Blanks out what is no code: comments, strings, characters. Lines stay where they are, so do brackets and words.
pub(super) fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Where the comment, string or character that begins here ends; `at` when none begins here.
fn literal_end(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    let after_word = at > 0 && is_word(chars[at - 1]);
    match rest {
        ['/', '/', ..] => at + rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => at + block_comment_length(rest),
        ['r' | 'b' | 'c', ..] if !after_word => prefixed_end(chars, at),
        ['"', ..] => at + quoted_length(rest, '"'),
        ['\'', '\\', ..] | ['\'', _, '\'', ..] => at + quoted_length(rest, '\''),
        _ => at,
    }
}

/// A string with a prefix: `r"…"`, `r#"…"#`, `b"…"`, `br"…"`, `c"…"`, `b'…'`.
fn prefixed_end(chars: &[char], at: usize) -> usize {
    let prefix = chars[at..].iter().take(2).take_while(|c| matches!(c, 'r' | 'b' | 'c')).count();
    let rest = &chars[at + prefix..];
    let raw = chars[at..at + prefix].contains(&'r');
    let hashes = rest.iter().take_while(|c| **c == '#').count();
    match rest.get(hashes) {
        Some('"') if raw => {
            let closes = |i: &usize| {
                rest[*i] == '"'
                    && rest.len() > *i + hashes
                    && rest[i + 1..=i + hashes].iter().all(|c| *c == '#')
            };
            let end = (hashes + 1..rest.len()).find(closes).map_or(rest.len(), |i| i + hashes + 1);
            at + prefix + end
        }
        Some(quote @ ('"' | '\'')) if hashes == 0 && !raw => at + prefix + quoted_length(rest, *quote),
        _ => at,
    }
}

fn quoted_length(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn block_comment_length(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    /// The line of its `fn`, from 1.
    pub(super) line: usize,
    /// From there to its closing brace.
    pub(super) lines: usize,
    /// Without the receiver.
    pub(super) parameters: usize,
}

/// The functions in blanked code.
pub(super) fn functions(code: &str) -> Vec<Function> {
    let bytes = code.as_bytes();
    words(code, "fn").filter_map(|at| function_at(code, bytes, at)).collect()
}

/// Where a word stands, not as a part of a longer one.
pub(super) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = code[..*at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

fn function_at(code: &str, bytes: &[u8], at: usize) -> Option<Function> {
    let rest = code[at + 2..].trim_start();
    let name: String = rest.chars().take_while(|c| is_word(*c)).collect();
    if name.is_empty() {
        return None;
    }
    let after_name = code.len() - rest.len() + name.len();
    let open = parameters_open(bytes, after_name)?;
    let close = matching(bytes, open)?;
    let body = body_open(bytes, close + 1)?;
    let end = matching(bytes, body)?;
    let line = line_of(code, at);
    let lines = line_of(code, end) - line + 1;
    Some(Function { name, line, lines, parameters: parameters(&code[open + 1..close]) })
}

/// The parenthesis of the parameters, after the generics if there are some.
fn parameters_open(bytes: &[u8], from: usize) -> Option<usize> {
    let mut depth = 0;
    for (at, byte) in bytes.iter().enumerate().skip(from) {
        match byte {
            b'<' => depth += 1,
            b'>' if bytes[at - 1] != b'-' => depth -= 1,
            b'(' if depth == 0 => return Some(at),
            _ => {}
        }
    }
    None
}

/// The brace of the body; `None` for a declaration that ends in a semicolon.
fn body_open(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'{' => return Some(at),
            b';' => return None,
            b'[' | b'(' => at = matching(bytes, at)?,
            _ => {}
        }
        at += 1;
    }
    None
}

/// The bracket that closes the one here.
pub(super) fn matching(bytes: &[u8], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in bytes.iter().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

fn parameters(list: &str) -> usize {
    let (mut depth, mut parts, mut before) = (0, vec![String::new()], ' ');
    for c in list.chars() {
        match c {
            '(' | '[' | '{' | '<' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '>' if before != '-' => depth -= 1,
            _ => {}
        }
        if c == ',' && depth == 0 {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(c);
        }
        before = c;
    }
    let is_receiver = |part: &str| {
        let name = part.split(':').next().unwrap_or_default();
        name.split([' ', '&']).next_back() == Some("self")
    };
    parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty() && !is_receiver(part)).count()
}

pub(super) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// For each line of blanked code, whether it belongs to tests: an item under `#[cfg(test)]` or `#[test]`.
pub(super) fn test_lines(code: &str) -> Vec<bool> {
    let mut marks = vec![false; code.lines().count()];
    let bytes = code.as_bytes();
    let attributes = ["#[cfg(test)]", "#[test]", "#[tokio::test"];
    for (at, attribute) in attributes.iter().flat_map(|attribute| code.match_indices(attribute)) {
        let after = matching(bytes, at + 1).unwrap_or(at + attribute.len()) + 1;
        let end = item_end(bytes, after).unwrap_or(code.len() - 1);
        for mark in &mut marks[line_of(code, at) - 1..line_of(code, end)] {
            *mark = true;
        }
    }
    marks
}

fn item_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'{' => return matching(bytes, at),
            b';' => return Some(at),
            b'(' | b'[' => at = matching(bytes, at)?,
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_code_is_blanked() {
        // Each `~` stands for a blanked character.
        let rows = [
            ("a // fn x() {\nb", "a ~~~~~~~~~~~\nb"),
            ("/* { /* } */ { */x", "~~~~~~~~~~~~~~~~~x"),
            (r#"f("fn \" {", 'a')"#, "f(~~~~~~~~~, ~~~)"),
            ("r#\"fn { \"# + 1", "~~~~~~~~~~ + 1"),
            ("br\"{\" b'{' b\"\\\"{\" c\"{\"", "~~~~~ ~~~~ ~~~~~~ ~~~~"),
            ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
            ("'\\'' + '\\u{7b}' '{'", "~~~~ + ~~~~~~~~ ~~~"),
            ("r#fn(for_b\"{\")", "r#fn(for_b~~~)"),
        ];
        for (text, want) in rows {
            assert_eq!(blank(text), want.replace('~', " "), "{text}");
        }
    }

    #[test]
    fn functions_are_found_with_their_size_and_parameters() {
        let code = "\
impl<T> X<T> {
    pub async fn one<F: Fn(u8, u8) -> u8>(&mut self, f: F, (a, b): (u8, u8)) -> [u8; 3]
    where
        T: Into<Vec<u8>>,
    {
        let g = |x: fn(u8) -> u8| { x(1) };
    }
    fn declared(&self, x: u8);
    fn two(self: Box<Self>) {}
    fn three(
        map: BTreeMap<String, Vec<u8>>,
        selfish: u8,
        f: impl Fn(u8) -> u8,
    ) {
        fn inner() {}
    }
}
";
        let found = functions(code);
        let shown: Vec<_> = found
            .iter()
            .map(|f| format!("{}@{} {} lines {}", f.name, f.line, f.lines, f.parameters))
            .collect();
        assert_eq!(shown, ["one@2 6 lines 2", "two@9 1 lines 0", "three@10 7 lines 3", "inner@15 1 lines 0"]);
    }

    #[test]
    fn test_code_is_told_from_the_rest() {
        let code = "\
fn a() {}
#[cfg(test)]
mod tests {
    #[test]
    fn b() {}
}
#[cfg(test)]
mod outside;
#[tokio::test(start_paused = true)]
async fn c() {
}
fn d() {}
";
        let marks = test_lines(code);
        let tests: Vec<_> = (1..).zip(&marks).filter(|(_, test)| **test).map(|(line, _)| line).collect();
        assert_eq!(tests, [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    }
}
