//! Reads what tools give back. The tools' own formats are not agreed on anywhere, so the usual ones are understood: plain text,
//! JSON with the usual field names, `path:line: text` for search hits, numbered lines.

use regex::Regex;
use serde_json::Value;
use std::sync::LazyLock;

use super::desk::Outcome;

/// A line that a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) path: String,
    pub(super) line: u64,
    pub(super) text: String,
}

fn json(text: &str) -> Option<Value> {
    let text = text.trim();
    if text.starts_with(['{', '[']) { serde_json::from_str(text).ok() } else { None }
}

/// Whether a result that is not marked as an error says it is one: chat completions have no mark for it.
pub(super) fn outcome(text: String) -> Outcome {
    let named = json(&text).is_some_and(|value| {
        value.get("error").is_some_and(|error| !error.is_null())
            || value.get("ok") == Some(&Value::Bool(false))
    });
    // A file may begin so as well; a refusal is short.
    let begins = ["Error:", "error:", "error[", "File not found:", "Not found:"];
    let said = text.lines().count() <= 3 && begins.iter().any(|start| text.starts_with(start));
    if named || said { Outcome::Failed(text) } else { Outcome::Done(text) }
}

/// A part of a file that says how to ask for the next one: the part, and the line to go on from.
pub(super) fn more(result: &str) -> Option<(&str, &str)> {
    static MORE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"… \d+ more lines; ask for from_line=(\d+)$").expect("the pattern is fixed")
    });
    let found = MORE.captures(result)?;
    Some((&result[..found.get(0)?.start()], found.get(1)?.as_str()))
}

/// The text of a file that was read.
pub(super) fn file(result: &str) -> String {
    if result == "(the file is empty)" {
        return String::new();
    }
    if let Some(Value::Object(fields)) = json(result) {
        // A file that is JSON itself has other fields than a result about a file, which names the path too.
        let content = fields.get("content").or_else(|| fields.get("text")).and_then(Value::as_str);
        let about = fields.contains_key("path") || fields.len() <= 2;
        if let (Some(content), true) = (content, about) {
            return content.to_owned();
        }
    }
    numbered(result).unwrap_or_else(|| result.to_owned())
}

/// The text of lines that are all numbered, as coding agents show a file: `1`, a tab or an arrow, the line. The text behind
/// the last line break has a number too, so a table that begins with numbers is none.
fn numbered(result: &str) -> Option<String> {
    let first = result.trim_start().split(['\t', '→']).next()?.parse::<u64>().ok()?;
    let bare = |(number, line): (u64, &str)| {
        let (told, text) = line.trim_start_matches(' ').split_once(['\t', '→'])?;
        (told.parse() == Ok(number)).then(|| text.to_owned())
    };
    let lines: Option<Vec<String>> = (first..).zip(result.split('\n')).map(bare).collect();
    lines.map(|lines| lines.join("\n"))
}

/// The entries of a directory, as paths from the workspace.
pub(super) fn entries(result: &str, dir: &str) -> Vec<String> {
    let names: Vec<String> = match json(result) {
        Some(value) => from_json(&value),
        None => result.lines().filter_map(entry).collect(),
    };
    let full = |name: String| {
        let inside = dir.is_empty() || name.starts_with(&format!("{dir}/"));
        if inside { name } else { format!("{dir}/{name}") }
    };
    names.into_iter().map(|name| name.trim_start_matches("./").to_owned()).map(full).collect()
}

fn from_json(value: &Value) -> Vec<String> {
    let list = match value {
        Value::Array(list) => Some(list),
        _ => ["files", "entries", "paths", "items"].iter().find_map(|key| value.get(*key)?.as_array()),
    };
    let name = |item: &Value| {
        let named = ["path", "name"].iter().find_map(|key| item.get(*key)?.as_str());
        let dir = ["type", "kind"]
            .iter()
            .any(|key| item.get(*key).and_then(Value::as_str).is_some_and(|kind| kind.starts_with("dir")));
        let name = item.as_str().or(named)?;
        Some(if dir && !name.ends_with('/') { format!("{name}/") } else { name.to_owned() })
    };
    list.into_iter().flatten().filter_map(name).collect()
}

/// A line of a listing: a name, with a bullet before it or a size after it. Sentences are none.
fn entry(line: &str) -> Option<String> {
    static NAME: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^\s*(?:[-*] )?([^\s:()][^:()\t]*?)(?:\t.*|\s{2,}.*|\s*\(.*\))?\s*$")
            .expect("the pattern is fixed")
    });
    let name = NAME.captures(line)?.get(1)?.as_str();
    let sentence = name.ends_with('.') || name.split(' ').count() > 4;
    (!sentence).then(|| name.to_owned())
}

/// The hits of a search.
pub(super) fn hits(result: &str) -> Vec<Hit> {
    static HIT: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^(.+?):(\d+):\s?(.*)$").expect("the pattern is fixed"));
    if let Some(value) = json(result) {
        let list = ["matches", "hits", "results"].iter().find_map(|key| value.get(*key)).unwrap_or(&value);
        let hit = |item: &Value| {
            let text = ["text", "content"].iter().find_map(|key| item.get(*key)?.as_str())?;
            let line = ["line", "line_number"].iter().find_map(|key| item.get(*key)?.as_u64())?;
            Some(Hit { path: item.get("path")?.as_str()?.to_owned(), line, text: text.to_owned() })
        };
        return list.as_array().into_iter().flatten().filter_map(hit).collect();
    }
    let hit = |line: &str| {
        let found = HIT.captures(line)?;
        let line = found.get(2)?.as_str().parse().ok()?;
        let path = found.get(1)?.as_str().trim_start_matches("./").to_owned();
        Some(Hit { path, line, text: found.get(3)?.as_str().to_owned() })
    };
    result.lines().filter_map(hit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_in_their_usual_forms() {
        let rows = [
            ("a.md\nsub/\n", "", vec!["a.md", "sub/"]),
            ("- a.md (12 bytes)\n- b.md\t4", "notes", vec!["notes/a.md", "notes/b.md"]),
            ("notes/a.md\n", "notes", vec!["notes/a.md"]),
            ("The directory holds:\nmy file.md\nThat is all there is to see here.", "", vec!["my file.md"]),
            (r#"["a.md","b.md"]"#, "", vec!["a.md", "b.md"]),
            (r#"{"files":[{"path":"a.md"},{"name":"d","type":"directory"}]}"#, "", vec!["a.md", "d/"]),
        ];
        for (text, dir, want) in rows {
            assert_eq!(entries(text, dir), want, "{text}");
        }
    }

    /// Claude Code shows a file so; its numbers were counted among the words.
    #[test]
    fn numbered_lines_are_a_file_without_its_numbers() {
        let rows = [
            ("1\tone two\n2\t", "one two\n"),
            ("     9→nine\n    10→\tten", "nine\n\tten"),
            ("1\t", ""),
            // Tables and lists that begin with numbers.
            ("1\tone\n2\ttwo\n", "1\tone\n2\ttwo\n"),
            ("1\tone\n3\tthree", "1\tone\n3\tthree"),
            ("1 one", "1 one"),
        ];
        for (shown, want) in rows {
            assert_eq!(file(shown), want, "{shown}");
        }
    }

    #[test]
    fn files_hits_and_failures() {
        assert_eq!(file("plain"), "plain");
        assert_eq!(file(r#"{"path":"a","content":"x"}"#), "x");
        assert_eq!(
            file(r#"{"name":"app","version":1,"text":"t"}"#),
            r#"{"name":"app","version":1,"text":"t"}"#
        );
        let want = Hit { path: "src/a.rs".into(), line: 7, text: "// TODO: x".into() };
        assert_eq!(hits("src/a.rs:7: // TODO: x\n2 matches"), std::slice::from_ref(&want));
        assert_eq!(hits(r#"{"matches":[{"path":"src/a.rs","line":7,"text":"// TODO: x"}]}"#), [want]);
        assert!(matches!(outcome("File not found: a.md. Verify the path".into()), Outcome::Failed(_)));
        assert!(matches!(outcome("Errors are values".into()), Outcome::Done(_)));
    }
}
