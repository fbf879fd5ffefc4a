//! The smallest value that fits a JSON Schema, for the common subset: `const`, `default`, `examples`, `enum`, `type` (one or
//! several), `properties` and `required`, `items`, `minItems`, `minimum`, `minLength`, `anyOf`/`oneOf`/`allOf`, and `$ref`
//! into the same schema. What is outside of it is ignored.

use serde_json::{Map, Value, json};

/// How deep a schema is followed: a recursive one ends here.
const DEPTH_MAX: u8 = 16;

/// A value that fits `schema`. Strings that the schema leaves open say `text`.
pub(super) fn instance(schema: &Value, text: &str) -> Value {
    Sample { root: schema, text }.of(schema, DEPTH_MAX)
}

struct Sample<'a> {
    root: &'a Value,
    text: &'a str,
}

impl Sample<'_> {
    fn of(&self, schema: &Value, depth: u8) -> Value {
        if depth == 0 {
            return Value::Null;
        }
        if let Some(fixed) = given(schema) {
            return fixed;
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let pointed = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            return pointed.map_or(Value::Null, |inner| self.of(inner, depth - 1));
        }
        if let Some(parts) = schema.get("allOf").and_then(Value::as_array) {
            return self.of(&merged(schema, parts), depth - 1);
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(first) = schema.get(key).and_then(|choices| choices.get(0)) {
                return self.of(first, depth - 1);
            }
        }
        match kind(schema) {
            "object" => self.object(schema, depth),
            "array" => {
                let count = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0).min(64);
                let item = schema.get("items").unwrap_or(&Value::Null);
                (0..count).map(|_| self.of(item, depth - 1)).collect()
            }
            "integer" | "number" => number(schema),
            "boolean" => json!(true),
            "null" => Value::Null,
            _ => self.string(schema),
        }
    }

    fn object(&self, schema: &Value, depth: u8) -> Value {
        let empty = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let required = schema.get("required").and_then(Value::as_array);
        let names: Vec<&str> = required.into_iter().flatten().filter_map(Value::as_str).collect();
        let open = Value::Null;
        let fields = names.into_iter().map(|name| {
            let inner = properties.get(name).unwrap_or(&open);
            (name.to_owned(), self.of(inner, depth - 1))
        });
        Value::Object(fields.collect())
    }

    fn string(&self, schema: &Value) -> Value {
        let bound = |key: &str| schema.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let mut text: String = self.text.chars().take(bound("maxLength").unwrap_or(400)).collect();
        let missing = bound("minLength").unwrap_or(0).min(10_000).saturating_sub(text.chars().count());
        text.extend(std::iter::repeat_n('.', missing));
        match schema.get("format").and_then(Value::as_str) {
            Some("date") => json!("2026-01-01"),
            Some("date-time") => json!("2026-01-01T00:00:00Z"),
            Some("email") => json!("someone@example.com"),
            Some("uri") => json!("https://example.com/"),
            Some(_) | None => Value::String(text),
        }
    }
}

/// A value that the schema itself names.
fn given(schema: &Value) -> Option<Value> {
    let first = |key: &str| schema.get(key).and_then(|list| list.get(0));
    let fixed = schema.get("const").or_else(|| first("enum")).or_else(|| schema.get("default"));
    fixed.or_else(|| first("examples")).cloned()
}

fn kind(schema: &Value) -> &str {
    let named = schema.get("type");
    let first = named.and_then(Value::as_array).and_then(|list| list.iter().find_map(Value::as_str));
    let by_shape = if schema.get("properties").is_some() { "object" } else { "string" };
    named.and_then(Value::as_str).or(first).unwrap_or(by_shape)
}

fn number(schema: &Value) -> Value {
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let above = bound("exclusiveMinimum").map(|least| least.floor() + 1.0);
    let least = bound("minimum").map(f64::ceil).or(above).unwrap_or(0.0);
    let most = bound("maximum").map_or(least.max(0.0), |most| least.max(0.0).min(most));
    #[expect(clippy::cast_possible_truncation, reason = "bounds of a sample; beyond 2^53 it saturates")]
    let whole = most as i64;
    json!(whole)
}

/// `allOf`: the keys of all parts in one, `properties` and `required` joined.
fn merged(schema: &Value, parts: &[Value]) -> Value {
    let mut whole = schema.as_object().cloned().unwrap_or_default();
    whole.remove("allOf");
    for (key, value) in parts.iter().filter_map(Value::as_object).flatten() {
        match (whole.get_mut(key), value) {
            (Some(Value::Object(have)), Value::Object(more)) => have.extend(more.clone()),
            (Some(Value::Array(have)), Value::Array(more)) => have.extend(more.clone()),
            (Some(_), _) => {}
            (None, _) => {
                whole.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_the_common_subset() {
        let rows = [
            (json!({"type": "string"}), json!("hi")),
            (json!({"type": ["null", "string"]}), json!(null)),
            (json!({"enum": ["b", "a"]}), json!("b")),
            (json!({"type": "integer", "minimum": 3}), json!(3)),
            (json!({"type": "number", "exclusiveMinimum": 3}), json!(4)),
            (json!({"type": "number", "maximum": -2}), json!(-2)),
            (json!({"type": "array", "items": {"type": "boolean"}, "minItems": 2}), json!([true, true])),
            (json!({"type": "string", "minLength": 4}), json!("hi..")),
            (
                json!({"type": "object", "required": ["a", "b"],
                       "properties": {"a": {"$ref": "#/$defs/n"}, "b": {"anyOf": [{"const": 7}]}, "c": {}},
                       "$defs": {"n": {"type": "integer"}}}),
                json!({"a": 0, "b": 7}),
            ),
            (
                json!({"allOf": [{"properties": {"x": {"type": "null"}}}, {"required": ["x"]}]}),
                json!({"x": null}),
            ),
        ];
        for (schema, want) in rows {
            assert_eq!(instance(&schema, "hi"), want, "{schema}");
        }
    }

    #[test]
    fn a_recursive_schema_ends() {
        let schema = json!({"type": "object", "required": ["next"], "properties": {"next": {"$ref": "#"}}});
        assert!(instance(&schema, "x").is_object());
    }
}
