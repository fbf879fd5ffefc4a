//! The redactor over JSON that goes on as it came: what must be taken out becomes a change of a few bytes, and everything
//! else stays, byte for byte. Pure.
//!
//! The bytes are searched as they are, which costs one pass. Only where a text may be written with escapes that need not
//! be (`\/`, `\u0041`) are the strings that have some read and searched one by one.

use super::Redactor;
use backstop_call::Edit;
use std::borrow::Cow;
use std::ops::Range;

/// What stands in place of something that cannot be cleaned in part.
const ALL: &str = "\"[REDACTED:secret]\"";

/// Whether there is nothing to take out of a JSON text, as one sees at a glance.
pub(super) fn is_clean(redactor: &Redactor, json: &[u8]) -> bool {
    !redactor.is_suspect(json) && !may_hide(json)
}

/// The changes that take every secret out of a JSON text; none when it is clean. The text stays JSON.
pub(super) fn edits(redactor: &Redactor, json: &str) -> Vec<Edit> {
    if is_clean(redactor, json.as_bytes()) {
        return Vec::new();
    }
    let found = redactor.find(json);
    let escaped = may_hide(json.as_bytes());
    let hit = |token: &Range<usize>| found.iter().any(|hit| hit.start < token.end && token.start < hit.end);
    let mut edits = Vec::new();
    for token in Tokens::of(json) {
        let text = &json[token.clone()];
        let is_hit = hit(&token);
        if !(is_hit || escaped && text.contains('\\')) {
            continue;
        }
        let with = match cleaned(redactor, text) {
            Some(with) => with,
            // The secret reaches over this value, or stands in it in a way that its text does not show.
            None if is_hit => ALL.to_owned(),
            None => continue,
        };
        edits.push(Edit { range: token, with });
    }
    edits
}

/// A string or number without the secrets in it; `None` when it shows none.
fn cleaned(redactor: &Redactor, token: &str) -> Option<String> {
    let text: Cow<'_, str> = match serde_json::from_str::<String>(token) {
        Ok(text) => Cow::Owned(text),
        // A number, or a string with half of a surrogate pair.
        Err(_) => Cow::Borrowed(token.trim_matches('"')),
    };
    match redactor.text(&text) {
        Cow::Owned(clean) => Some(serde_json::Value::from(clean).to_string()),
        Cow::Borrowed(_) => None,
    }
}

/// Whether an escape may stand for a character that needs none.
fn may_hide(json: &[u8]) -> bool {
    memchr::memchr_iter(b'\\', json).any(|at| matches!(json.get(at + 1), Some(b'u' | b'/')))
}

/// The strings (quotes included) and the bare words and numbers of a text that is JSON.
struct Tokens<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Tokens<'a> {
    fn of(json: &'a str) -> Self {
        Self { bytes: json.as_bytes(), at: 0 }
    }

    fn string_end(&self) -> usize {
        let mut at = self.at + 1;
        while let Some(byte) = self.bytes.get(at) {
            match byte {
                b'"' => return at + 1,
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
        self.bytes.len()
    }
}

impl Iterator for Tokens<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let between = |byte: &u8| byte.is_ascii_whitespace() || b"{}[],:".contains(byte);
        self.at += self.bytes.get(self.at..)?.iter().position(|byte| !between(byte))?;
        let from = self.at;
        self.at = if self.bytes[from] == b'"' {
            self.string_end()
        } else {
            let rest = &self.bytes[from..];
            from + rest.iter().position(between).unwrap_or(rest.len())
        };
        Some(from..self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::redact::Config;
    use backstop_call::{Secret, apply};
    use bytes::Bytes;

    #[test]
    fn only_the_secret_changes_and_json_stays_json() {
        let secrets = ["hunter2-canary", "line one\nline \"two\"", "987654321", "{\"k\":\"v\"}"];
        let redactor = Redactor::new(&secrets.map(Secret::new), Config::default());
        let rows = [
            (r#"{"a" : 12345678901234567890123, "b":"clean A\n"}"#, None),
            (r#"{"a":1.0,"b":"x hunter2-canary y"}"#, Some(r#"{"a":1.0,"b":"x [REDACTED:secret] y"}"#)),
            // As a name, behind escapes, in a number, and over the bounds of values.
            (r#"{"hunter2-canary":1}"#, Some(r#"{"[REDACTED:secret]":1}"#)),
            (r#"{"a":"hunter2-c\u0061nary","b":"\/"}"#, Some(r#"{"a":"[REDACTED:secret]","b":"\/"}"#)),
            (r#"{"a":"line one\nline \"two\""}"#, Some(r#"{"a":"[REDACTED:secret]"}"#)),
            (r#"{"a":987654321}"#, Some(r#"{"a":"[REDACTED:secret]"}"#)),
            (r#"{"a":{"k":"v"}}"#, Some(r#"{"a":{"[REDACTED:secret]":"[REDACTED:secret]"}}"#)),
            (r#"{"a":"\ud800 hunter2-canary"}"#, Some(r#"{"a":"\\ud800 [REDACTED:secret]"}"#)),
        ];
        for (json, want) in rows {
            let clean = apply(&Bytes::from_static(json.as_bytes()), &edits(&redactor, json));
            assert_eq!(clean, want.unwrap_or(json), "{json}");
            serde_json::from_slice::<serde::de::IgnoredAny>(&clean).unwrap();
        }
    }
}
