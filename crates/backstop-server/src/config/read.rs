//! Reads TOML by a JSON schema: every key and value that does not fit is a problem with its line and column, and all of
//! them are found in one pass. What fits becomes JSON, with amounts kept as the text they were written in, so that no
//! dollar passes through a float. Knows nothing of what the keys mean.

use super::problem::{Place, Problem, allowed};
use super::value;
use backstop_call::Code;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A config file that was read: what it says, and where.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// What it says, as JSON that fits the schema wherever there was no problem.
    pub(super) value: Value,
    /// Where each key stands, by its path.
    pub(super) places: BTreeMap<String, Place>,
    /// What does not fit.
    pub(super) problems: Vec<Problem>,
}

/// Reads a text named `file` by a schema without references.
pub(super) fn read(file: &str, text: &str, schema: &Value) -> Read {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { file, text, read: Read::default() };
    if !errors.is_empty() {
        for error in errors {
            reader.syntax(&error);
        }
        // What recovery made of the rest would only blame lines that are right.
        return reader.read;
    }
    reader.read.value = reader.table("", table.get_ref(), schema);
    reader.read
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    read: Read,
}

impl Reader<'_> {
    fn place(&self, offset: usize) -> Place {
        Place::of(self.file, self.text, offset)
    }

    fn syntax(&mut self, error: &toml::de::Error) {
        let place = error.span().map(|span| self.place(span.start));
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        self.read.problems.push(Problem { place, ..Problem::new(Code::ConfigSyntax, message) });
    }

    /// Notes a value that is not allowed. `null` stands for it, which no schema of ours allows and [`Reader::table`]
    /// leaves out, so that the rest can still be checked.
    fn wrong(&mut self, path: &str, offset: usize, schema: &Value, message: &str) -> Value {
        let key = path.rsplit('.').next().unwrap_or(path);
        let mut problem = Problem::new(Code::ConfigValue, format!("`{path}`: {message}"));
        if let Some(description) = schema["description"].as_str() {
            problem = problem.with_hint(format!("{key}: {}", first_sentence(description)));
        }
        self.read.problems.push(Problem { place: Some(self.place(offset)), ..problem });
        Value::Null
    }

    fn table(&mut self, path: &str, table: &DeTable<'_>, schema: &Value) -> Value {
        let none = Map::new();
        let known = schema["properties"].as_object().unwrap_or(&none);
        let others = schema.get("additionalProperties").filter(|schema| schema.is_object());
        let mut object = Map::new();
        for (key, item) in table {
            let inner = join(path, key.get_ref());
            let place = self.place(key.span().start);
            self.read.places.insert(inner.clone(), place.clone());
            let Some(schema) = known.get(key.get_ref().as_ref()).or(others) else {
                let of = if path.is_empty() { String::new() } else { format!(" in `{path}`") };
                let message = format!("unknown key `{}`{of}", key.get_ref());
                let hint = allowed("allowed keys", key.get_ref(), known.keys().map(String::as_str));
                let problem = Problem::new(Code::ConfigKey, message).with_hint(hint);
                self.read.problems.push(Problem { place: Some(place), ..problem });
                continue;
            };
            let value = self.value(&inner, item, schema);
            if !value.is_null() {
                object.insert(key.get_ref().to_string(), value);
            }
        }
        self.required(path, table, schema);
        Value::Object(object)
    }

    fn required(&mut self, path: &str, table: &DeTable<'_>, schema: &Value) {
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for key in required.filter(|key| !table.contains_key(*key)) {
            let place = self.read.places.get(path).cloned();
            let described = schema["properties"][key]["description"].as_str().unwrap_or_default();
            let problem = Problem::new(Code::ConfigValue, format!("`{}` is missing", join(path, key)))
                .with_hint(format!("add `{key} = …`: {}", first_sentence(described)));
            self.read.problems.push(Problem { place, ..problem });
        }
    }

    fn value(&mut self, path: &str, item: &Spanned<DeValue<'_>>, schema: &Value) -> Value {
        let at = item.span().start;
        let schema = present(schema, item.get_ref());
        if is_open(schema) {
            return anything(item.get_ref());
        }
        if let Some(words) = words(schema) {
            return self.word(path, item, &words);
        }
        let format = schema["format"].as_str().unwrap_or_default();
        match item.get_ref() {
            DeValue::Table(table) if allows(schema, "object") => self.table(path, table, schema),
            DeValue::Array(items) if allows(schema, "array") => {
                let items = items.iter().enumerate();
                items
                    .map(|(n, item)| self.value(&format!("{path}[{n}]"), item, &schema["items"]))
                    .filter(|value| !value.is_null())
                    .collect()
            }
            DeValue::Boolean(on) if allows(schema, "boolean") => Value::Bool(*on),
            DeValue::String(text) if allows(schema, "string") => match value::check(format, text) {
                Ok(()) => Value::from(text.as_ref()),
                Err(bad) => self.wrong(path, at, schema, &bad.0),
            },
            DeValue::Integer(number) if value::is_ours(format) && allows_number(schema) => {
                self.amount(path, at, schema, number.as_str())
            }
            DeValue::Float(number) if value::is_ours(format) && allows(schema, "number") => {
                self.amount(path, at, schema, number.as_str())
            }
            DeValue::Integer(number) if allows_number(schema) => {
                let value = i64::from_str_radix(number.as_str(), number.radix()).ok();
                self.number(path, at, schema, value)
            }
            DeValue::Float(number) if allows(schema, "number") => {
                number.as_str().replace('_', "").parse::<f64>().map_or(Value::Null, Value::from)
            }
            other => {
                // What a format of ours allows says more than the names of its types.
                let message = match value::check(format, "") {
                    Err(bad) => bad.0,
                    Ok(()) => format!("expected {}, found {}", expected(schema), article(other.type_str())),
                };
                self.wrong(path, at, schema, &message)
            }
        }
    }

    fn amount(&mut self, path: &str, at: usize, schema: &Value, written: &str) -> Value {
        let format = schema["format"].as_str().unwrap_or_default();
        match value::check(format, written) {
            Ok(()) => Value::from(written),
            Err(bad) => self.wrong(path, at, schema, &bad.0),
        }
    }

    fn number(&mut self, path: &str, at: usize, schema: &Value, number: Option<i64>) -> Value {
        let least = schema["minimum"].as_i64().unwrap_or(i64::MIN);
        let most = schema["maximum"].as_i64().unwrap_or(i64::MAX);
        match number {
            Some(number) if (least..=most).contains(&number) => Value::from(number),
            _ if most == i64::MAX => {
                self.wrong(path, at, schema, &format!("must be a whole number, {least} or more"))
            }
            _ => self.wrong(path, at, schema, &format!("must be a whole number from {least} to {most}")),
        }
    }

    fn word(&mut self, path: &str, item: &Spanned<DeValue<'_>>, words: &[&str]) -> Value {
        let at = item.span().start;
        match item.get_ref() {
            DeValue::String(text) if words.contains(&text.as_ref()) => Value::from(text.as_ref()),
            DeValue::String(text) => {
                let place = Some(self.place(at));
                let problem = Problem::new(Code::ConfigValue, format!("`{path}`: `{text}` is not allowed"))
                    .with_hint(allowed("allowed values", text, words.iter().copied()));
                self.read.problems.push(Problem { place, ..problem });
                Value::Null
            }
            other => {
                let message =
                    format!("expected one of {}, found {}", words.join(", "), article(other.type_str()));
                self.wrong(path, at, &Value::Null, &message)
            }
        }
    }
}

/// The path of a key, written as TOML would: names with dots are quoted.
fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// The schema of an optional value when it is there, or of the one of several kinds that a value is of.
fn present<'a>(schema: &'a Value, item: &DeValue<'_>) -> &'a Value {
    let Some(variants) = schema["anyOf"].as_array() else { return schema };
    let there = || variants.iter().filter(|one| one["type"] != "null");
    let is_table = matches!(item, DeValue::Table(_));
    let fits = |one: &&Value| allows(one, "object") == is_table;
    there().find(fits).or_else(|| there().next()).unwrap_or(schema)
}

/// Whether a schema says nothing of what its values are: they have a schema of their own, or are one.
fn is_open(schema: &Value) -> bool {
    let says = |schema: &Map<String, Value>| {
        ["type", "enum", "const", "oneOf", "anyOf", "allOf"].iter().any(|key| schema.contains_key(*key))
    };
    schema.as_object().is_none_or(|schema| !says(schema))
}

/// A value as JSON, whatever it is. Dates are texts there, and so are numbers that JSON does not have.
fn anything(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Boolean(on) => Value::Bool(*on),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Value::from(number.as_str()), Value::from),
        DeValue::Float(number) => {
            let value =
                number.as_str().replace('_', "").parse::<f64>().ok().and_then(serde_json::Number::from_f64);
            value.map_or_else(|| Value::from(number.as_str()), Value::Number)
        }
        DeValue::Datetime(date) => Value::from(date.to_string()),
        DeValue::Array(items) => items.iter().map(|item| anything(item.get_ref())).collect(),
        DeValue::Table(table) => {
            let entries =
                table.iter().map(|(key, item)| (key.get_ref().to_string(), anything(item.get_ref())));
            Value::Object(entries.collect())
        }
    }
}

/// The words a closed set allows, when the schema is one.
fn words(schema: &Value) -> Option<Vec<&str>> {
    if let Some(all) = schema["enum"].as_array() {
        return Some(all.iter().filter_map(Value::as_str).collect());
    }
    let all = schema["oneOf"].as_array()?;
    all.iter().map(|one| one["const"].as_str()).collect()
}

fn allows(schema: &Value, kind: &str) -> bool {
    match &schema["type"] {
        Value::String(one) => one == kind,
        Value::Array(several) => several.iter().any(|one| one == kind),
        _ => false,
    }
}

fn allows_number(schema: &Value) -> bool {
    allows(schema, "integer") || allows(schema, "number")
}

fn expected(schema: &Value) -> String {
    let kinds = ["object", "array", "boolean", "string", "integer", "number"];
    let named = kinds.iter().filter(|kind| allows(schema, kind)).map(|kind| match *kind {
        "object" => "a table",
        "array" => "a list",
        "boolean" => "true or false",
        "string" => "a string",
        "integer" => "a whole number",
        _ => "a number",
    });
    named.collect::<Vec<_>>().join(" or ")
}

fn article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {kind}")
}

fn first_sentence(text: &str) -> &str {
    text.split_once(". ").map_or(text, |(first, _)| first).trim_end_matches('.')
}
