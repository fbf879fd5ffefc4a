//! Commands with places for arguments. A place is filled within its word: a value never becomes two words, and no shell
//! looks at it. Where a value would be taken for an option, it is refused.

use backstop_agent::visible_line;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The places that are no arguments.
pub(super) const KEY: &str = "key";
/// What the call that is taken back had said, or a field of it when that is JSON.
pub(super) const RESULT: &str = "result";

/// The words of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    words: Vec<Text>,
    /// Arguments whose values may begin with a dash.
    dashed: BTreeSet<String>,
}

/// A text with places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// The name of a value, and the way into it.
    Place(Vec<String>),
}

/// A template that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It has no words.
    #[error("there is no program to run")]
    Empty,
    /// Its first word is left open.
    #[error("the program itself cannot be an argument: `{0}`")]
    Program(String),
    /// A brace that belongs to no place.
    #[error("`{0}` has a brace that belongs to no place; write {{{{ or }}}} for a brace itself")]
    Brace(String),
    /// A place that nothing is known of.
    #[error("`{{{place}}}` is no argument; there is {known}")]
    Unknown {
        /// What stands in the braces.
        place: String,
        /// What could.
        known: String,
    },
}

/// Values that cannot be put in their places. The text is for a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FillError {
    /// It would be taken for an option.
    #[error(
        "the value of `{place}` may not begin with `-`: {value} would be taken for an option of the command"
    )]
    Dash {
        /// The argument.
        place: String,
        /// What it was to be.
        value: String,
    },
    /// No argument of a program can hold it.
    #[error("the value of `{0}` holds a NUL character, which no program can be given")]
    Nul(String),
    /// The result of the call has no such field.
    #[error("what the call said has no `{0}`")]
    NoField(String),
}

/// What is put in the places.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    /// The arguments of the call.
    pub args: &'a Map<String, Value>,
    /// The idempotency key.
    pub key: &'a str,
    /// What the call that is taken back had said.
    pub result: Option<&'a str>,
}

impl Template {
    /// Reads a template. `known` are the places that it may have.
    pub fn parse(words: &[String], known: &BTreeSet<&str>, dashed: &[String]) -> Result<Self, TemplateError> {
        let program = words.first().ok_or(TemplateError::Empty)?;
        let words = words.iter().map(|word| Text::parse(word, known)).collect::<Result<Vec<_>, _>>()?;
        match &words[0].0[..] {
            [Part::Literal(_)] => {}
            _ => return Err(TemplateError::Program(program.clone())),
        }
        Ok(Self { words, dashed: dashed.iter().cloned().collect() })
    }

    /// The words with the values in their places. A word whose argument was not given is left out.
    pub fn fill(&self, values: Values<'_>) -> Result<Vec<String>, FillError> {
        let mut argv = Vec::new();
        let mut is_operand = false;
        for word in &self.words {
            let Some(text) = word.fill(values)? else { continue };
            if let Some(place) = word.begins_with_place()
                && text.starts_with('-')
                && !is_operand
                && !self.dashed.contains(place)
            {
                return Err(FillError::Dash { place: place.to_owned(), value: visible_line(&text) });
            }
            if text.contains('\0') {
                return Err(FillError::Nul(
                    word.places().map(|path| path.join(".")).collect::<Vec<_>>().join(", "),
                ));
            }
            is_operand |= matches!(&word.0[..], [Part::Literal(literal)] if literal == "--");
            argv.push(text);
        }
        Ok(argv)
    }

    /// Whether this place occurs.
    pub fn has(&self, name: &str) -> bool {
        self.words.iter().any(|word| word.has(name))
    }
}

impl Text {
    /// Reads a text with places, as one word.
    pub fn parse(text: &str, known: &BTreeSet<&str>) -> Result<Self, TemplateError> {
        let brace = || TemplateError::Brace(text.to_owned());
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text.chars();
        while let Some(character) = rest.next() {
            let doubled = rest.as_str().starts_with(character);
            match character {
                '{' | '}' if doubled => {
                    rest.next();
                    literal.push(character);
                }
                '{' => {
                    let (place, behind) = rest.as_str().split_once('}').ok_or_else(brace)?;
                    rest = behind.chars();
                    let path = path_of(place, known)?;
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    parts.push(Part::Place(path));
                }
                '}' => return Err(brace()),
                other => literal.push(other),
            }
        }
        if !literal.is_empty() || parts.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self(parts))
    }

    /// The text with the values in their places. `None` when one of them was not given.
    pub fn fill(&self, values: Values<'_>) -> Result<Option<String>, FillError> {
        let mut filled = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => filled.push_str(literal),
                Part::Place(path) => match value_of(path, values)? {
                    Some(value) => filled.push_str(&value),
                    None => return Ok(None),
                },
            }
        }
        Ok(Some(filled))
    }

    /// Whether this place occurs.
    pub fn has(&self, name: &str) -> bool {
        self.places().any(|path| path[0] == name)
    }

    fn places(&self) -> impl Iterator<Item = &Vec<String>> {
        self.0.iter().filter_map(|part| match part {
            Part::Literal(_) => None,
            Part::Place(path) => Some(path),
        })
    }

    fn begins_with_place(&self) -> Option<&str> {
        match self.0.first() {
            Some(Part::Place(path)) => Some(&path[0]),
            Some(Part::Literal(_)) | None => None,
        }
    }
}

fn path_of(place: &str, known: &BTreeSet<&str>) -> Result<Vec<String>, TemplateError> {
    // The name of an argument may have dots of its own; only a result has fields.
    let path: Vec<String> = match place.strip_prefix(RESULT) {
        Some(fields) if fields.starts_with('.') => place.split('.').map(str::to_owned).collect(),
        _ => vec![place.to_owned()],
    };
    if known.contains(&*path[0]) {
        return Ok(path);
    }
    let known = known.iter().map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(", ");
    Err(TemplateError::Unknown { place: place.to_owned(), known })
}

fn value_of(path: &[String], values: Values<'_>) -> Result<Option<String>, FillError> {
    match (path, values.result) {
        ([name], _) if name == KEY => Ok(Some(values.key.to_owned())),
        ([name], Some(result)) if name == RESULT => Ok(Some(result.trim().to_owned())),
        ([name, fields @ ..], Some(result)) if name == RESULT => {
            field_of(result, fields).map(Some).ok_or_else(|| FillError::NoField(fields.join(".")))
        }
        ([name, ..], _) => Ok(values.args.get(name).and_then(text_of)),
        ([], _) => Ok(None),
    }
}

/// A field of what was said. Behind the JSON, a run may have added a text.
fn field_of(result: &str, fields: &[String]) -> Option<String> {
    let mut values = serde_json::Deserializer::from_str(result).into_iter::<Value>();
    let value = values.next()?.ok()?;
    let found = fields.iter().try_fold(&value, |value, field| match value {
        Value::Array(list) => list.get(field.parse::<usize>().ok()?),
        other => other.get(field),
    });
    text_of(found?)
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    fn template(list: &[&str]) -> Result<Template, TemplateError> {
        Template::parse(&words(list), &BTreeSet::from(["a", "b.c", KEY, RESULT]), &words(&["b.c"]))
    }

    #[test]
    fn values_stay_in_their_words() {
        let args = json!({"a": "x y; $(z) 'q'", "b.c": 7});
        let result = Some("{\"id\": \"r-1\", \"list\": [{\"n\": -2}], \"none\": null}\n\nWarning: …");
        let values = Values { args: args.as_object().unwrap(), key: "k1", result };
        let cases: [(&[&str], &[&str]); 6] = [
            (&["p", "{a}"], &["p", "x y; $(z) 'q'"]),
            (&["p", "--a={a}", "{b.c}{key}"], &["p", "--a=x y; $(z) 'q'", "7k1"]),
            (&["p", "{{a}}", "{{{b.c}}}"], &["p", "{a}", "{7}"]),
            (&["p", "{result.id}", "--n={result.list.0.n}"], &["p", "r-1", "--n=-2"]),
            (&["p", "--", "{result.list.0.n}"], &["p", "--", "-2"]),
            (&["p", ""], &["p", ""]),
        ];
        for (list, want) in cases {
            assert_eq!(template(list).unwrap().fill(values).unwrap(), want, "{list:?}");
        }
        for (place, field) in
            [("{result.no}", "no"), ("{result.none}", "none"), ("{result.list.9}", "list.9")]
        {
            let filled = template(&["p", place]).unwrap().fill(values);
            assert_eq!(filled, Err(FillError::NoField(field.to_owned())));
        }
        let said = Values { result: Some("  no JSON\n"), ..values };
        assert_eq!(template(&["p", "{result}"]).unwrap().fill(said).unwrap(), ["p", "no JSON"]);
        assert!(template(&["p", "{result.id}"]).unwrap().fill(said).is_err());
    }

    #[test]
    fn a_value_is_no_option() {
        let fill = |list: &[&str], args: &Value| {
            let values = Values { args: args.as_object().unwrap(), key: "k", result: None };
            template(list).unwrap().fill(values)
        };
        let dash = |value: &str| Err(FillError::Dash { place: "a".to_owned(), value: value.to_owned() });
        assert_eq!(fill(&["p", "{a}"], &json!({"a": "--output=/etc/x"})), dash("--output=/etc/x"));
        assert_eq!(fill(&["p", "{a}{b.c}"], &json!({"a": "", "b.c": "-x"})), dash("-x"));
        assert_eq!(fill(&["p", "{a}"], &json!({"a": -5})), dash("-5"));
        assert_eq!(fill(&["p", "--", "{a}"], &json!({"a": "-x"})), Ok(words(&["p", "--", "-x"])));
        assert_eq!(fill(&["p", "-{a}"], &json!({"a": "-x"})), Ok(words(&["p", "--x"])));
        assert_eq!(fill(&["p", "--f={a}"], &json!({"a": "-x"})), Ok(words(&["p", "--f=-x"])));
        assert_eq!(fill(&["p", "{b.c}"], &json!({"b.c": "-x"})), Ok(words(&["p", "-x"])));
        // A value that is a dash and a dash does not make the next ones operands.
        assert_eq!(fill(&["p", "{b.c}", "{a}"], &json!({"a": "-x", "b.c": "--"})), dash("-x"));
        assert_eq!(fill(&["p", "{a}", "x"], &json!({})), Ok(words(&["p", "x"])));
        assert_eq!(fill(&["p", "{a}"], &json!({"a": "x\0y"})), Err(FillError::Nul("a".to_owned())));
    }

    #[test]
    fn what_is_no_template_is_refused() {
        let brace = |text: &str| Err(TemplateError::Brace(text.to_owned()));
        assert_eq!(template(&[]), Err(TemplateError::Empty));
        assert_eq!(template(&["{a}", "x"]), Err(TemplateError::Program("{a}".to_owned())));
        assert_eq!(template(&["p{a}"]), Err(TemplateError::Program("p{a}".to_owned())));
        assert_eq!(template(&["p", "{a"]), brace("{a"));
        assert_eq!(template(&["p", "a}"]), brace("a}"));
        let error = template(&["p", "{other}"]).unwrap_err().to_string();
        assert_eq!(error, "`{other}` is no argument; there is {a}, {b.c}, {key}, {result}");
        assert!(template(&["p", "{}"]).is_err() && template(&["p", "{b.d}"]).is_err());
    }
}
