//! Whether a schema that a server gave can be used without harm: not too large or deep, referring to nothing outside itself,
//! and checked in a bounded number of steps. Compiling and checking are `jsonschema`'s business.

use super::text::is_hidden;
use serde_json::Value;
use std::collections::HashMap;

/// How deep a schema may be nested.
const DEPTH_MAX: usize = 32;
/// How many references may be followed one after the other.
const CHAIN_MAX: usize = 64;
/// How many subschemas one value may be held against.
const STEPS_MAX: u64 = 10_000;

/// Where a subschema stands that is held against the very same value.
const BESIDE: [&str; 9] =
    ["allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies"];
/// Where one stands that is held against a part of it.
const BELOW: [&str; 12] = [
    "properties",
    "patternProperties",
    "additionalProperties",
    "propertyNames",
    "unevaluatedProperties",
    "items",
    "prefixItems",
    "additionalItems",
    "unevaluatedItems",
    "contains",
    "contentSchema",
    "$defs",
];

/// Which values a schema is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Arguments, which a model makes. It may contain itself, as the schema of a tree does.
    Arguments,
    /// Answers, which the server makes as well: it must not contain itself, or checking an answer could take for ever.
    Answer,
}

/// Why a schema is not used. `None` when it is.
pub(super) fn fault(schema: &Value, purpose: Purpose, max_bytes: usize) -> Option<String> {
    if !schema.is_object() {
        return Some("is no object".to_owned());
    }
    let bytes = schema.to_string().len();
    if bytes > max_bytes {
        return Some(format!("has {bytes} bytes, and at most {max_bytes} are allowed"));
    }
    if let Some(reason) = shape_fault(schema, 0) {
        return Some(reason);
    }
    if purpose == Purpose::Arguments && schema["type"] != "object" {
        return Some("is not of type object".to_owned());
    }
    let mut steps = Steps { root: schema, purpose, counted: HashMap::new() };
    if let Err(reason) = steps.everywhere(schema) {
        return Some(reason);
    }
    jsonschema::validator_for(schema).err().map(|error| format!("is no JSON Schema: {error}"))
}

/// What can be said of a schema by going through it once.
fn shape_fault(value: &Value, depth: usize) -> Option<String> {
    if depth > DEPTH_MAX {
        return Some(format!("is nested deeper than {DEPTH_MAX}"));
    }
    match value {
        Value::String(text) if text.contains(is_hidden) => {
            Some("holds characters that nobody sees".to_owned())
        }
        Value::Array(items) => items.iter().find_map(|item| shape_fault(item, depth + 1)),
        Value::Object(map) => map.iter().find_map(|(key, item)| {
            if key.contains(is_hidden) {
                return Some("has a name with characters that nobody sees".to_owned());
            }
            match (key.as_str(), item) {
                ("$dynamicRef" | "$recursiveRef", _) => Some(format!("uses `{key}`")),
                ("$id", Value::String(_)) if depth > 0 => Some("has an `$id` within".to_owned()),
                ("$ref", Value::String(to)) if *to != "#" && !to.starts_with("#/") => {
                    Some("refers to something outside itself".to_owned())
                }
                // Words for people are cleaned, not refused.
                ("description" | "title" | "$comment", Value::String(_)) => None,
                _ => shape_fault(item, depth + 1),
            }
        }),
        _ => None,
    }
}

/// Counts against how many subschemas a value is held.
struct Steps<'a> {
    root: &'a Value,
    purpose: Purpose,
    /// By where the subschema lies in memory. `None` while it is being counted: who meets that goes in a circle.
    counted: HashMap<*const Value, Option<u64>>,
}

impl<'a> Steps<'a> {
    /// Counts from every object of the schema, since a value may be held against any of them.
    fn everywhere(&mut self, value: &'a Value) -> Result<(), String> {
        match value {
            Value::Object(map) => {
                self.from(value, 0)?;
                map.values().try_for_each(|item| self.everywhere(item))
            }
            Value::Array(items) => items.iter().try_for_each(|item| self.everywhere(item)),
            _ => Ok(()),
        }
    }

    fn from(&mut self, schema: &'a Value, chain: usize) -> Result<u64, String> {
        let Value::Object(map) = schema else { return Ok(1) };
        let place = std::ptr::from_ref(schema);
        match self.counted.get(&place) {
            Some(Some(count)) => return Ok(*count),
            Some(None) => return Err("contains itself".to_owned()),
            None => {}
        }
        if chain > CHAIN_MAX {
            return Err(format!("follows more than {CHAIN_MAX} references one after the other"));
        }
        self.counted.insert(place, None);
        let mut count: u64 = 1;
        for (key, item) in map {
            if key == "$ref"
                && let Value::String(to) = item
            {
                let target = self.target(to)?;
                count = count.saturating_add(self.from(target, chain + 1)?);
            }
            let is_below = self.purpose == Purpose::Answer && BELOW.contains(&key.as_str());
            if BESIDE.contains(&key.as_str()) || is_below {
                for subschema in subschemas(item) {
                    count = count.saturating_add(self.from(subschema, chain + 1)?);
                }
            }
        }
        if count > STEPS_MAX {
            return Err(format!("takes more than {STEPS_MAX} steps to check a value"));
        }
        self.counted.insert(place, Some(count));
        Ok(count)
    }

    fn target(&self, to: &str) -> Result<&'a Value, String> {
        let pointer = to.strip_prefix('#').unwrap_or(to);
        self.root.pointer(pointer).ok_or_else(|| "refers to a place in itself that is not there".to_owned())
    }
}

/// The schemas under a keyword: one, a list of them, or one for each name.
fn subschemas(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        // A schema, or a map of schemas: both are counted, which at worst counts too much.
        Value::Object(map) => {
            std::iter::once(value).chain(map.values().filter(|item| item.is_object())).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn nested(depth: usize) -> Value {
        (0..depth).fold(json!({"type": "object"}), |inner, _| json!({"type": "object", "not": inner}))
    }

    /// Each level holds a value against the next one twice.
    fn doubling(levels: usize) -> Value {
        let mut defs = serde_json::Map::new();
        for level in 0..levels {
            let next = json!({"$ref": format!("#/$defs/d{}", level + 1)});
            defs.insert(format!("d{level}"), json!({"anyOf": [next, next]}));
        }
        defs.insert(format!("d{levels}"), json!({"type": "string"}));
        json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": defs})
    }

    #[test]
    fn schemas_that_can_do_harm_are_refused() {
        let tree = json!({
            "type": "object",
            "properties": {"children": {"type": "array", "items": {"$ref": "#"}}},
        });
        let rows = [
            (json!({"type": "object", "properties": {"a": {"type": "string"}}}), None, None),
            (json!(true), Some("is no object"), Some("is no object")),
            (json!({"type": "string"}), Some("is not of type object"), None),
            (nested(33), Some("is nested deeper than 32"), Some("is nested deeper than 32")),
            (
                json!({"type": "object", "$ref": "https://example.org/x"}),
                Some("refers to something outside itself"),
                Some("refers to something outside itself"),
            ),
            (
                json!({"type": "object", "$ref": "file:///etc/passwd"}),
                Some("refers to something outside itself"),
                Some("refers to something outside itself"),
            ),
            (
                json!({"type": "object", "$ref": "#/gone"}),
                Some("refers to a place in itself that is not there"),
                Some("refers to a place in itself that is not there"),
            ),
            (
                json!({"type": "object", "$dynamicRef": "#a"}),
                Some("uses `$dynamicRef`"),
                Some("uses `$dynamicRef`"),
            ),
            (
                json!({"type": "object", "allOf": [{"$ref": "#"}]}),
                Some("contains itself"),
                Some("contains itself"),
            ),
            (tree, None, Some("contains itself")),
            (
                doubling(20),
                Some("takes more than 10000 steps to check a value"),
                Some("takes more than 10000 steps to check a value"),
            ),
            (doubling(5), None, None),
            (
                json!({"type": "object", "properties": {"a\u{200b}": {}}}),
                Some("has a name with characters that nobody sees"),
                Some("has a name with characters that nobody sees"),
            ),
            (
                json!({"type": "object", "enum": ["\u{202e}"]}),
                Some("holds characters that nobody sees"),
                Some("holds characters that nobody sees"),
            ),
            (json!({"type": "object", "description": "\u{202e}"}), None, None),
            (json!({"type": "object", "required": 7}), Some("is no JSON Schema"), Some("is no JSON Schema")),
            (
                json!({"type": "object", "$schema": "https://example.org/own"}),
                Some("is no JSON Schema"),
                Some("is no JSON Schema"),
            ),
        ];
        for (schema, arguments, answer) in rows {
            for (purpose, want) in [(Purpose::Arguments, arguments), (Purpose::Answer, answer)] {
                let found = fault(&schema, purpose, 64 * 1024);
                let is_right = match (&found, want) {
                    (Some(found), Some(want)) => found.starts_with(want),
                    (None, None) => true,
                    _ => false,
                };
                assert!(is_right, "{purpose:?} {schema}: {found:?}, not {want:?}");
            }
        }
        assert_eq!(
            fault(&json!({"type": "object"}), Purpose::Arguments, 10),
            Some("has 17 bytes, and at most 10 are allowed".to_owned())
        );
    }
}
