//! What the jobs compute: text in, text out.

use regex::Regex;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::LazyLock;

/// The words of a text: runs of anything but white space.
pub(super) fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

/// The lines, sorted; in reverse, or each only once, where that is wanted. Ends with a line end.
pub(super) fn sorted(text: &str, reverse: bool, unique: bool) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    if unique {
        lines.dedup();
    }
    if reverse {
        lines.reverse();
    }
    lines.into_iter().fold(String::new(), |sum, line| sum + line + "\n")
}

/// E-mail addresses, each once, in the order they first stand.
pub(super) fn emails(text: &str) -> Vec<String> {
    static EMAIL: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")
            .expect("the pattern is fixed")
    });
    once(EMAIL.find_iter(text).map(|found| found.as_str()))
}

/// Web addresses, each once, in the order they first stand.
pub(super) fn links(text: &str) -> Vec<String> {
    static LINK: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r#"https?://[^\s<>"')\]]+"#).expect("the pattern is fixed"));
    once(LINK.find_iter(text).map(|found| found.as_str().trim_end_matches(['.', ',', ';', ':', '!', '?'])))
}

fn once<'a>(found: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    found.filter(|item| seen.insert(*item)).map(str::to_owned).collect()
}

/// The headings of a markdown text: level and words. What stands in a code fence is none.
pub(super) fn headings(text: &str) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        let level = line.bytes().take_while(|byte| *byte == b'#').count();
        if !fenced && (1..=6).contains(&level) && line[level..].starts_with(' ') {
            found.push((level, line[level..].trim().trim_end_matches('#').trim_end().to_owned()));
        }
    }
    found
}

/// The anchor that markdown renderers give a heading: lower case, punctuation gone, spaces as hyphens.
pub(super) fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The rows of a CSV text (RFC 4180: quotes, doubled quotes, line ends inside of quotes).
pub(super) fn csv(text: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let (mut row, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell).trim().to_owned()),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell).trim().to_owned());
                rows.push(std::mem::take(&mut row));
            }
            other => cell.push(other),
        }
    }
    if !cell.is_empty() || !row.is_empty() {
        row.push(cell.trim().to_owned());
        rows.push(row);
    }
    rows.retain(|row| row.iter().any(|cell| !cell.is_empty()));
    rows
}

/// A markdown table of the rows; the first is the head.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let width = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut out = String::new();
    for (index, row) in rows.iter().enumerate() {
        let cell = |at: usize| row.get(at).map(|cell| cell.replace('|', "\\|")).unwrap_or_default();
        let cells: Vec<String> = (0..width).map(cell).collect();
        writeln!(out, "| {} |", cells.join(" | ")).expect("a string takes all");
        if index == 0 {
            writeln!(out, "|{}", " --- |".repeat(width)).expect("a string takes all");
        }
    }
    out
}

/// The numbers of a column, by the name in the head (case does not matter). `None` when there is no such column.
pub(super) fn column(rows: &[Vec<String>], name: &str) -> Option<Vec<f64>> {
    let (head, body) = rows.split_first()?;
    let at = head.iter().position(|cell| cell.eq_ignore_ascii_case(name))?;
    let number =
        |cell: &String| cell.trim_start_matches(['$', '€']).replace([',', '_', ' '], "").parse().ok();
    Some(body.iter().filter_map(|row| row.get(at)).filter_map(number).collect())
}

/// A number without noise: whole, or with at most two decimals.
pub(super) fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The first sentence of each paragraph; headings, lists, tables and code are passed over.
pub(super) fn summary(text: &str) -> String {
    let mut sentences = Vec::new();
    for paragraph in text.replace("\r\n", "\n").split("\n\n") {
        let plain = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        let other =
            plain.starts_with(['#', '|', '`', '>']) || plain.starts_with("- ") || plain.starts_with("* ");
        if !plain.is_empty() && !other {
            sentences.push(first_sentence(&plain).to_owned());
        }
    }
    sentences.join("\n")
}

fn first_sentence(text: &str) -> &str {
    let end = text.char_indices().zip(text.chars().skip(1).chain([' '])).find_map(|((at, c), next)| {
        (matches!(c, '.' | '!' | '?') && next == ' ').then_some(at + c.len_utf8())
    });
    &text[..end.unwrap_or(text.len())]
}

/// Every heading in capitals, or only the first.
pub(super) fn uppercase_headings(text: &str, only_first: bool) -> Vec<(String, String)> {
    let mut changes = Vec::new();
    let all = headings(text);
    let count = if only_first { 1 } else { all.len() };
    for (level, words) in all.into_iter().take(count) {
        let line = |words: &str| format!("{} {words}", "#".repeat(level));
        let (old, new) = (line(&words), line(&words.to_uppercase()));
        if old != new {
            changes.push((old, new));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts() {
        assert_eq!(sorted("b\na\nb", false, false), "a\nb\nb\n");
        assert_eq!(sorted("b\na\nb\n", true, true), "b\na\n");
    }

    #[test]
    fn finds_addresses_once() {
        let text = "Ask ann@example.com, bob.b+x@mail.example.org. Or ann@example.com! See https://example.com/a?b=1, \
                    (http://example.org/x).";
        assert_eq!(emails(text), ["ann@example.com", "bob.b+x@mail.example.org"]);
        assert_eq!(links(text), ["https://example.com/a?b=1", "http://example.org/x"]);
    }

    #[test]
    fn headings_outside_of_fences() {
        let text = "# One\n```\n# no\n```\n## Two, and *more* ##\n#no\n";
        assert_eq!(headings(text), [(1, "One".into()), (2, "Two, and *more*".into())]);
        assert_eq!(anchor("Two, and More"), "two-and-more");
        assert_eq!(uppercase_headings(text, true), [("# One".to_owned(), "# ONE".to_owned())]);
    }

    #[test]
    fn csv_with_quotes() {
        let rows = csv("name,amount\n\"Smith, J\",\"1,200.50\"\r\n\"a \"\"b\"\"\",$3\n\n");
        assert_eq!(rows, [vec!["name", "amount"], vec!["Smith, J", "1,200.50"], vec!["a \"b\"", "$3"]]);
        assert_eq!(column(&rows, "Amount"), Some(vec![1200.5, 3.0]));
        assert_eq!(column(&rows, "nothing"), None);
        assert_eq!(number(1203.5), "1203.5");
        assert_eq!(number(4.0), "4");
        assert_eq!(table(&rows[..2]), "| name | amount |\n| --- | --- |\n| Smith, J | 1,200.50 |\n");
    }

    #[test]
    fn first_sentences() {
        let text = "# Title\n\nOne is 1.5 wide. Two.\n\n- item\n\nÜber alles? Yes.\nMore.\n\nno stop";
        assert_eq!(summary(text), "One is 1.5 wide.\nÜber alles?\nno stop");
    }
}
