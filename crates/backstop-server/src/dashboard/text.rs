//! Figures, moments and texts as pages show them. Every text in them comes from a model, a tool or a person: what would not be
//! seen is written as its number, what is long is cut, and maud escapes all. It decides nothing.

use backstop_agent::{visible, visible_line};
use backstop_call::{Labels, Timestamp};
use backstop_journal::{Body, RunStatus};
use maud::{Markup, html};
use serde_json::Value;
use std::fmt::Write as _;
use std::time::Duration;

/// The most characters of one text on a page; a run's journal has all of it.
const TEXT_CHARS_MAX: usize = 6_000;

/// A text with everything in it to be seen, cut to what a page takes.
pub(super) fn bounded(text: &str) -> String {
    let cut = text.char_indices().nth(TEXT_CHARS_MAX).map_or(text.len(), |(at, _)| at);
    let mut shown = visible(&text[..cut]);
    if cut < text.len() {
        let more = text[cut..].chars().count();
        // Writing to a string cannot fail.
        let _ = write!(shown, "\n… {} more characters", grouped(more as u64));
    }
    shown
}

/// The beginning of a text, on one line.
pub(super) fn line(text: &str, chars_max: usize) -> String {
    let words = text.split_whitespace();
    let mut shown = String::new();
    for word in words {
        if !shown.is_empty() {
            shown.push(' ');
        }
        shown.push_str(word);
        if shown.len() > chars_max * 4 {
            break;
        }
    }
    match shown.char_indices().nth(chars_max) {
        Some((cut, _)) => visible_line(&shown[..cut]) + "…",
        None => visible_line(&shown),
    }
}

/// A body as one text: a string as it stands, blocks by their texts, anything else as JSON.
pub(super) fn body(body: &Body) -> String {
    let Some(value) = body.value() else { return "(erased)".to_owned() };
    match value {
        Value::String(text) => bounded(text),
        Value::Array(blocks) if blocks.iter().all(|block| block["text"].is_string()) => {
            let texts: Vec<_> = blocks.iter().filter_map(|block| block["text"].as_str()).collect();
            bounded(&texts.join("\n"))
        }
        other => bounded(&json(other)),
    }
}

/// A span as a person reads it: `840ms`, `12.3s`, `4m 05s`, `3h 12m`.
pub(super) fn span(span: Duration) -> String {
    let secs = span.as_secs();
    match secs {
        0 => format!("{}ms", span.as_millis()),
        1..60 => format!("{}.{}s", secs, span.subsec_millis() / 100),
        60..3_600 => format!("{}m {:02}s", secs / 60, secs % 60),
        3_600..86_400 => format!("{}h {:02}m", secs / 3_600, secs / 60 % 60),
        _ => format!("{}d {:02}h", secs / 86_400, secs / 3_600 % 24),
    }
}

/// Tokens as a person reads them: `931`, `16.9k`, `1.2M`.
pub(super) fn tokens(count: u64) -> String {
    match count {
        0..10_000 => grouped(count),
        10_000..1_000_000 => format!("{}.{}k", count / 1_000, count % 1_000 / 100),
        _ => format!("{}.{}M", count / 1_000_000, count % 1_000_000 / 100_000),
    }
}

/// A number with its thousands apart: `12,345`.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// So many of something: `1 run`, `12 runs`.
pub(super) fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{} {noun}s", grouped(number)) }
}

/// A moment to the minute, in UTC.
pub(super) fn moment(at: Timestamp) -> String {
    let text = at.rfc3339();
    format!("{} {} UTC", &text[..10], &text[11..16])
}

/// A moment to the second, for machines and people.
pub(super) fn time(at: Timestamp) -> Markup {
    let text = at.rfc3339();
    html! { time datetime=(text) { (text[..10]) " " (text[11..19]) } }
}

/// How long ago something was.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> Markup {
    let text = at.rfc3339();
    html! { time datetime=(text) title={ (text[..10]) " " (text[11..19]) " UTC" } { (rough(now.since(at))) " ago" } }
}

fn rough(span: Duration) -> String {
    let secs = span.as_secs();
    match secs {
        0..60 => format!("{secs}s"),
        60..3_600 => format!("{}m", secs / 60),
        3_600..86_400 => format!("{}h", secs / 3_600),
        _ => format!("{}d", secs / 86_400),
    }
}

/// How a run stands, told by a word and by a colour.
pub(super) fn status(status: RunStatus) -> Markup {
    let word = status.as_str();
    html! { span class={ "pill " (word) } { (word) } }
}

pub(super) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What something was decided from, in words.
pub(super) fn labels(labels: &Labels) -> Vec<String> {
    let private = labels.private.iter().map(|category| format!("private text ({category})"));
    let untrusted = labels.untrusted.then(|| "text that somebody else may have written".to_owned());
    untrusted.into_iter().chain(private).collect()
}

/// What a tool acts on, by the names that arguments have.
pub(super) fn object_of(args: &Value) -> Option<String> {
    const NAMES: [&str; 10] =
        ["path", "pattern", "summary", "dir", "to", "url", "command", "query", "from", "remote"];
    let words = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => {
            let words: Option<Vec<_>> = items.iter().map(Value::as_str).collect();
            words.filter(|words| !words.is_empty()).map(|words| words.join(" "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    };
    NAMES.iter().find_map(|key| words(&args[*key])).map(|named| line(&named, 100))
}

/// JSON in which everything can be seen, and that still means the same: what would hide stands as an escape.
pub(super) fn json(value: &Value) -> String {
    let text = format!("{value:#}");
    let mut shown = String::with_capacity(text.len());
    let mut units = [0; 2];
    for character in text.chars() {
        if visible(character.encode_utf8(&mut [0; 4])).starts_with("\\u{") {
            for unit in character.encode_utf16(&mut units) {
                // Writing to a string cannot fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(character);
        }
    }
    shown
}

/// The exact arguments, one by one.
pub(super) fn arguments(args: &Value) -> Markup {
    let rows = match args {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.as_str(), value)).collect(),
        other => vec![("arguments", other)],
    };
    html! {
        dl.args {
            @for (name, value) in rows {
                dt { (visible_line(name)) }
                dd { pre { @match value { Value::String(text) => (visible(text)), other => (json(other)) } } }
            }
        }
    }
}

/// The lines of a preview: what goes and what comes can be told apart, also without colours.
pub(super) fn preview(preview: &str) -> Markup {
    html! {
        @if !preview.is_empty() {
            div.preview tabindex="0" role="region" aria-label="What it would change" { pre {
                @for line in visible(preview).lines() {
                    @match line.chars().next() {
                        Some('+') => ins { (line) "\n" },
                        Some('-') => del { (line) "\n" },
                        Some('@') => span.dim { (line) "\n" },
                        _ => { (line) "\n" },
                    }
                }
            } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json as value;

    #[test]
    fn a_call_is_known_by_what_it_acts_on() {
        let rows = [
            (value!({"path": "a.md", "text": "x"}), Some("a.md")),
            (
                value!({"subject": "News", "to": ["a@example.com", "b@example.com"]}),
                Some("a@example.com b@example.com"),
            ),
            (value!({"command": ["ls", "-l"]}), Some("ls -l")),
            (value!({"to": [1]}), None),
            (value!({"to": []}), None),
            (value!("text"), None),
        ];
        for (args, want) in rows {
            assert_eq!(object_of(&args).as_deref(), want, "{args}");
        }
    }

    #[test]
    fn figures_are_short_and_exact_enough() {
        let spans = [
            (0, "0ms"),
            (999, "999ms"),
            (1_250, "1.2s"),
            (59_999, "59.9s"),
            (65_000, "1m 05s"),
            (3_725_000, "1h 02m"),
            (90_000_000, "1d 01h"),
        ];
        for (millis, want) in spans {
            assert_eq!(span(Duration::from_millis(millis)), want);
        }
        let counts = [(7, "7"), (9_999, "9,999"), (10_000, "10.0k"), (16_949, "16.9k"), (1_250_000, "1.2M")];
        for (number, want) in counts {
            assert_eq!(tokens(number), want);
        }
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([count(1, "run"), count(2, "run")], ["1 run", "2 runs"]);
    }

    #[test]
    fn what_is_long_is_cut_and_said_to_be() {
        assert_eq!(line("a  b\n\tc", 10), "a b c");
        assert_eq!(line(&"word ".repeat(1_000), 9), "word word…");
        assert_eq!(line("\u{202e}x", 9), "\\u{202e}x");
        let long = bounded(&"ü".repeat(TEXT_CHARS_MAX + 1_234));
        assert!(long.ends_with("ü\n… 1,234 more characters"), "{}", &long[long.len() - 60..]);
    }

    #[test]
    fn arguments_can_be_seen_and_still_mean_the_same() {
        let args = value!({"to": "a\u{202e}b", "tag\u{e0041}": "x\u{7f}\n", "plain": "ünï 你好 🙂"});
        let shown = json(&args);
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), args);
        assert!(shown.contains("a\\u202eb") && shown.contains("tag\\udb40\\udc41"), "{shown}");
        assert!(shown.contains("x\\u007f\\n") && shown.contains("ünï 你好 🙂"), "{shown}");
    }

    #[test]
    fn nothing_that_is_shown_is_markup_or_hides() {
        let evil = "</pre><script>alert(1)</script>\u{202e}\u{1b}[2J\"'><img src=x onerror=y>";
        let shown = [
            arguments(&value!({evil: evil, "list": [evil]})),
            preview(&format!("+{evil}\n-{evil}\n@{evil}\n{evil}")),
            html! { (line(evil, 500)) (bounded(evil)) (body(&Body::from(evil))) (body(&Body::of(&value!([{"text": evil}])))) },
        ];
        for markup in shown {
            let text = markup.0;
            assert!(!text.contains("<script") && !text.contains("<img"), "{text}");
            assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text}");
        }
        let lines = preview("+a\n-b\n@@ c\n d").0;
        assert!(
            lines.contains("<ins>+a\n</ins><del>-b\n</del><span class=\"dim\">@@ c\n</span> d\n"),
            "{lines}"
        );
    }
}
