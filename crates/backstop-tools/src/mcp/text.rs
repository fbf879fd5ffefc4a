//! Text that a server wrote: what nobody sees is taken out of it before a model reads it, and made visible before a person does.

use backstop_call::Secret;
use serde_json::Value;
use std::cmp::Reverse;
use std::fmt::Write;

/// Whether a character is taken out: what a person would not see, and the mark that only asks for a picture.
pub(super) fn is_hidden(c: char) -> bool {
    c == '\u{fe0f}' || backstop_agent::is_hidden(c)
}

/// The text without what nobody sees, and how many characters that were. A line end of `\r\n` becomes `\n` and is not counted.
pub(super) fn cleaned(text: &str) -> (String, usize) {
    let text = text.replace("\r\n", "\n");
    let mut hidden = 0;
    let kept = text.chars().filter(|c| {
        hidden += usize::from(is_hidden(*c));
        !is_hidden(*c)
    });
    (kept.collect(), hidden)
}

/// The text with what nobody sees written out, as `\u{202e}`.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            // Writing to a string does not fail.
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// At most so many bytes of a text, cut between characters.
pub(super) fn cut(text: &str, max_bytes: usize) -> &str {
    let mut end = max_bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A text of a server's for an error: one line, clean.
pub(super) fn one_line(text: &str) -> String {
    let (text, _) = cleaned(text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a server was given in secret, to be taken out of whatever it says.
#[derive(Debug, Default)]
pub(super) struct Scrub {
    secrets: Vec<Secret>,
}

impl Scrub {
    /// Secrets shorter than this are not looked for: they would be found everywhere.
    const MIN_BYTES: usize = 6;

    pub(super) fn new(mut secrets: Vec<Secret>) -> Self {
        secrets.retain(|secret| secret.expose().len() >= Self::MIN_BYTES);
        // One may be a part of another.
        secrets.sort_by_key(|secret| Reverse(secret.expose().len()));
        Self { secrets }
    }

    /// The text without the secrets.
    pub(super) fn text(&self, text: String) -> String {
        self.secrets.iter().fold(text, |text, secret| text.replace(secret.expose(), "[secret]"))
    }

    /// The same for an error, and at most 600 bytes of it. Cut last: half a secret is not found.
    pub(super) fn error(&self, text: String) -> String {
        const MAX_BYTES: usize = 600;
        let text = self.text(text);
        let kept = cut(&text, MAX_BYTES);
        if kept.len() < text.len() { format!("{kept}…") } else { text }
    }

    /// The same for every text in a value.
    pub(super) fn value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => items.into_iter().map(|item| self.value(item)).collect(),
            Value::Object(map) => {
                map.into_iter().map(|(key, item)| (self.text(key), self.value(item))).collect()
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sees_is_taken_out_or_shown() {
        let rows = [
            ("plain\ttext\n", "plain\ttext\n", 0, "plain\ttext\n"),
            ("a\u{202e}b", "ab", 1, "a\\u{202e}b"),
            ("\u{e0041}\u{e0042}x", "x", 2, "\\u{e0041}\\u{e0042}x"),
            ("a\u{200b}\u{200d}\u{feff}b", "ab", 3, "a\\u{200b}\\u{200d}\\u{feff}b"),
            ("\u{1b}[31mred", "[31mred", 1, "\\u{1b}[31mred"),
            ("ä€😀עברית", "ä€😀עברית", 0, "ä€😀עברית"),
            ("a\r\nb", "a\nb", 0, "a\\u{d}\nb"),
        ];
        for (text, clean, hidden, shown) in rows {
            assert_eq!(cleaned(text), (clean.to_owned(), hidden), "{text:?}");
            assert_eq!(visible(text), shown, "{text:?}");
        }
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("a€b", 3), "a");
        assert_eq!(cut("a€b", 4), "a€");
        assert_eq!(cut("a€b", 99), "a€b");
        assert_eq!(one_line(" one\n two\u{202e} "), "one two");
    }

    #[test]
    fn secrets_are_taken_out_before_a_text_is_cut() {
        let scrub = Scrub::new(["s3cret", "s3cret-and-more", "short"].map(Secret::new).to_vec());
        let rows = [
            ("a s3cret, a s3cret-and-more, short".to_owned(), "a [secret], a [secret], short".to_owned()),
            (format!("{}s3cret", "x".repeat(597)), format!("{}[se…", "x".repeat(597))),
        ];
        for (text, want) in rows {
            assert_eq!(scrub.error(text), want);
        }
        let value = serde_json::json!({"s3cret": ["s3cret", 1]});
        assert_eq!(scrub.value(value), serde_json::json!({"[secret]": ["[secret]", 1]}));
    }
}
