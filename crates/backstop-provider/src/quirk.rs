//! Where a provider differs from its dialect: rewrites of the rendered request, each a few lines. Pure.

use crate::Quirk;
use serde_json::{Map, Value};

/// The request as this provider takes it. Without quirks the bytes go through untouched.
pub(crate) fn apply(quirks: &[Quirk], body: Vec<u8>) -> Vec<u8> {
    if quirks.is_empty() {
        return body;
    }
    let Ok(mut request) = serde_json::from_slice::<Map<String, Value>>(&body) else { return body };
    let before = request.len();
    let mut changed = false;
    for quirk in quirks {
        changed |= match quirk {
            Quirk::MaxTokens => rename(&mut request, "max_completion_tokens", "max_tokens"),
            Quirk::MaxCompletionTokens => rename(&mut request, "max_tokens", "max_completion_tokens"),
            Quirk::NoStreamOptions => request.remove("stream_options").is_some(),
        };
    }
    debug_assert!(request.len() <= before);
    if changed { serde_json::to_vec(&request).unwrap_or(body) } else { body }
}

/// Gives a field another name; what has that name already stays.
fn rename(request: &mut Map<String, Value>, from: &str, to: &str) -> bool {
    let Some(value) = request.remove(from) else { return false };
    request.entry(to.to_owned()).or_insert(value);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewrites() {
        let rows: [(&[Quirk], &str, &str); 5] = [
            (&[], r#"{"max_tokens": 1}"#, r#"{"max_tokens": 1}"#),
            (&[Quirk::MaxTokens], r#"{"max_tokens": 1}"#, r#"{"max_tokens": 1}"#),
            (&[Quirk::MaxTokens], r#"{"a":1,"max_completion_tokens":1}"#, r#"{"a":1,"max_tokens":1}"#),
            (&[Quirk::MaxCompletionTokens], r#"{"max_tokens":1}"#, r#"{"max_completion_tokens":1}"#),
            (&[Quirk::NoStreamOptions], r#"{"stream":true,"stream_options":{}}"#, r#"{"stream":true}"#),
        ];
        for (quirks, body, want) in rows {
            let got = apply(quirks, body.as_bytes().to_vec());
            assert_eq!(String::from_utf8(got).unwrap(), want, "{quirks:?} {body}");
        }
        assert_eq!(apply(&[Quirk::MaxTokens], b"no json".to_vec()), b"no json");
    }
}
