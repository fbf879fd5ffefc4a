//! The list of models, in the shape that the client's dialect has, with as much of it as was asked for. Pure.

use backstop_call::{Dialect, Timestamp};
use serde_json::{Value, json};

/// What one page holds by default, as Anthropic's.
const LIMIT_DEFAULT: usize = 20;
/// What one page holds at most.
const LIMIT_MAX: usize = 1_000;

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Page {
    limit: Option<usize>,
    after: Option<String>,
    before: Option<String>,
}

impl Page {
    /// Reads a query string; an error says what is wrong with it.
    pub(crate) fn of(query: &str) -> Result<Self, String> {
        let mut page = Self::default();
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                    let limit = limit.ok_or_else(|| format!("limit: must be from 1 to {LIMIT_MAX}"))?;
                    page.limit = Some(limit);
                }
                "after_id" => page.after = Some(decoded(value)),
                "before_id" => page.before = Some(decoded(value)),
                _ => {}
            }
        }
        Ok(page)
    }
}

/// Percent-encoded text; what is wrongly encoded stays as it is, and then names no model.
pub(crate) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        let hex = || u8::from_str_radix(std::str::from_utf8(more.get(..2)?).ok()?, 16).ok();
        if let (b'%', Some(byte)) = (first, hex()) {
            bytes.push(byte);
            rest = &more[2..];
        } else {
            bytes.push(*first);
            rest = more;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A page of the list.
pub(crate) fn list(dialect: Dialect, names: &[&str], page: &Page, since: Timestamp) -> Value {
    let all: Vec<Value> = names.iter().map(|name| one(dialect, name, since)).collect();
    if dialect == Dialect::Chat {
        // OpenAI's list has no pages, but a client that asks for fewer gets fewer.
        let limit = page.limit.unwrap_or(usize::MAX);
        return json!({"object": "list", "data": all.into_iter().take(limit).collect::<Vec<_>>()});
    }
    let place = |id: &Option<String>| id.as_ref().and_then(|id| names.iter().position(|name| name == id));
    let limit = page.limit.unwrap_or(LIMIT_DEFAULT);
    let (from, to) = match (place(&page.after), place(&page.before)) {
        (Some(after), _) => (after + 1, (after + 1 + limit).min(names.len())),
        (None, Some(before)) => (before.saturating_sub(limit), before),
        (None, None) => (0, limit.min(names.len())),
    };
    let has_more = if page.before.is_some() { from > 0 } else { to < names.len() };
    let shown = all.get(from..to).unwrap_or_default();
    let id = |model: Option<&Value>| model.map_or(Value::Null, |model| model["id"].clone());
    json!({"data": shown, "has_more": has_more, "first_id": id(shown.first()), "last_id": id(shown.last())})
}

/// One model.
pub(crate) fn one(dialect: Dialect, name: &str, since: Timestamp) -> Value {
    match dialect {
        Dialect::Messages => {
            json!({"type": "model", "id": name, "display_name": name, "created_at": since.rfc3339()})
        }
        Dialect::Chat | Dialect::Responses => {
            json!({"id": name, "object": "model", "created": since.secs(), "owned_by": "backstop"})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        let names = ["a", "b/c", "d", "e"];
        let ids = |query: &str| {
            let page = Page::of(query).unwrap();
            let list = list(Dialect::Messages, &names, &page, Timestamp::EPOCH);
            let ids: Vec<_> = list["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|model| model["id"].as_str().unwrap().to_owned())
                .collect();
            (ids.join(" "), list["has_more"].as_bool().unwrap())
        };
        assert_eq!(ids(""), ("a b/c d e".to_owned(), false));
        assert_eq!(ids("limit=1000"), ("a b/c d e".to_owned(), false));
        assert_eq!(ids("limit=2"), ("a b/c".to_owned(), true));
        assert_eq!(ids("limit=2&after_id=b%2Fc"), ("d e".to_owned(), false));
        assert_eq!(ids("limit=1&before_id=d"), ("b/c".to_owned(), true));
        assert_eq!(Page::of("limit=0"), Err("limit: must be from 1 to 1000".to_owned()));
        let chat = list(Dialect::Chat, &names, &Page::of("limit=3").unwrap(), Timestamp::EPOCH);
        assert_eq!(chat["data"].as_array().unwrap().len(), 3);
        assert_eq!(chat["object"], "list");
    }
}
