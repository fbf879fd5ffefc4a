//! Typed reading of JSON: each object is taken apart field by field, every complaint names the path of what is wrong,
//! and what nobody took is still there at the end, in its order.

use crate::LeftOut;
use backstop_call::{Block, ImageSource};
use serde_json::{Map, Value};
use std::fmt;

/// Bytes that are not what the dialect says. Display is `messages[2].content[0].type: is missing`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct WireError {
    /// The path of what is wrong, `messages[2].content[0].type`; empty for the body as a whole.
    pub path: String,
    /// What is wrong with it: `is missing`, `must be a string`.
    pub problem: String,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "body" } else { &self.path };
        write!(f, "{path}: {}", self.problem)
    }
}

/// Where in the body a value stands. Borrowed from the stack, so that a path costs nothing until it is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Path<'a> {
    Root,
    Field(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    pub(crate) fn wrong(&self, problem: impl Into<String>) -> WireError {
        WireError { path: self.to_string(), problem: problem.into() }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// The name of an answer's schema where the dialect gives it none and the other demands one.
pub(crate) const SCHEMA_NAME: &str = "output";

/// The media type and the bytes of a `data:` URL; `None` for any other address.
pub(crate) fn data_url(url: &str) -> Option<(String, String)> {
    let (media_type, data) = url.strip_prefix("data:")?.split_once(";base64,")?;
    Some((media_type.to_owned(), data.to_owned()))
}

/// A picture's address, or the picture itself as a `data:` URL.
pub(crate) fn image_source(url: String) -> ImageSource {
    match data_url(&url) {
        Some((media_type, data)) => ImageSource::Base64 { media_type, data },
        None => ImageSource::Url(url),
    }
}

/// The reverse.
pub(crate) fn image_url(source: &ImageSource) -> String {
    match source {
        ImageSource::Base64 { media_type, data } => format!("data:{media_type};base64,{data}"),
        ImageSource::Url(url) => url.clone(),
    }
}

/// The name of a file whose dialect gives it none, where another demands one.
pub(crate) fn file_name(media_type: &str) -> &'static str {
    match media_type {
        "application/pdf" => "document.pdf",
        "text/plain" => "document.txt",
        _ => "document",
    }
}

/// A list's item that must be a text.
pub(crate) fn text_item(value: Value, path: Path<'_>) -> Result<String, WireError> {
    if let Value::String(text) = value { Ok(text) } else { Err(path.wrong("must be a string")) }
}

/// An object that is being read. A field that is `null` counts as absent.
#[derive(Debug, Clone)]
pub(crate) struct Object<'p> {
    path: Path<'p>,
    map: Map<String, Value>,
}

/// The body as an object.
pub(crate) fn body(bytes: &[u8]) -> Result<Object<'static>, WireError> {
    let value = serde_json::from_slice(bytes)
        .map_err(|error| Path::Root.wrong(format!("is no valid JSON ({error})")))?;
    Object::of(value, Path::Root)
}

impl<'p> Object<'p> {
    pub(crate) fn of(value: Value, path: Path<'p>) -> Result<Self, WireError> {
        match value {
            Value::Object(map) => Ok(Self { path, map }),
            _ => Err(path.wrong("must be an object")),
        }
    }

    pub(crate) fn wrong(&self, key: &str, problem: impl Into<String>) -> WireError {
        Path::Field(&self.path, key).wrong(problem)
    }

    pub(crate) fn path<'a>(&'a self, key: &'a str) -> Path<'a> {
        Path::Field(&self.path, key)
    }

    pub(crate) fn missing(&self, key: &str) -> WireError {
        self.wrong(key, "is missing")
    }

    /// Looks at a field without taking it.
    pub(crate) fn peek(&self, key: &str) -> Option<&Value> {
        self.map.get(key)
    }

    /// Takes a field out, whatever it holds.
    pub(crate) fn value(&mut self, key: &str) -> Option<Value> {
        self.map.shift_remove(key).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&mut self, key: &str) -> Result<Option<String>, WireError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "must be a string")),
        }
    }

    pub(crate) fn required_text(&mut self, key: &str) -> Result<String, WireError> {
        self.text(key)?.ok_or_else(|| self.missing(key))
    }

    pub(crate) fn count(&mut self, key: &str) -> Result<Option<u64>, WireError> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => {
                value.as_u64().map(Some).ok_or_else(|| self.wrong(key, "must be a whole number from 0 up"))
            }
        }
    }

    pub(crate) fn number(&mut self, key: &str) -> Result<Option<f64>, WireError> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or_else(|| self.wrong(key, "must be a number")),
        }
    }

    pub(crate) fn flag(&mut self, key: &str) -> Result<Option<bool>, WireError> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => value.as_bool().map(Some).ok_or_else(|| self.wrong(key, "must be true or false")),
        }
    }

    fn list(&mut self, key: &str) -> Result<Option<Vec<Value>>, WireError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(_) => Err(self.wrong(key, "must be an array")),
        }
    }

    /// Reads every item of a list, if there is one.
    pub(crate) fn each<T>(
        &mut self,
        key: &str,
        mut read: impl FnMut(Value, Path<'_>) -> Result<T, WireError>,
    ) -> Result<Option<Vec<T>>, WireError> {
        let Some(items) = self.list(key)? else { return Ok(None) };
        let list = Path::Field(&self.path, key);
        let items = items.into_iter().enumerate();
        items.map(|(at, item)| read(item, Path::Index(&list, at))).collect::<Result<_, _>>().map(Some)
    }

    /// Reads content: one text, or a list of blocks. An empty text is no block.
    pub(crate) fn content(
        &mut self,
        key: &str,
        read: impl FnMut(Value, Path<'_>) -> Result<Block, WireError>,
    ) -> Result<Option<Vec<Block>>, WireError> {
        match self.map.get_mut(key) {
            Some(Value::String(text)) => {
                let text = std::mem::take(text);
                self.map.shift_remove(key);
                Ok(Some(if text.is_empty() { Vec::new() } else { vec![Block::text(text)] }))
            }
            None | Some(Value::Null | Value::Array(_)) => self.each(key, read),
            Some(_) => Err(self.wrong(key, "must be a string or an array")),
        }
    }

    /// Reads an object inside this one. What `read` leaves of it is put back, for
    /// [`Object::rest`] to keep.
    pub(crate) fn nested<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Object<'_>) -> Result<T, WireError>,
    ) -> Result<Option<T>, WireError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let path = self.path;
        let mut inner = Object::of(value, Path::Field(&path, key))?;
        let read = read(&mut inner)?;
        if !inner.map.is_empty() {
            self.map.insert(key.to_owned(), Value::Object(inner.map));
        }
        Ok(Some(read))
    }

    /// Puts a value back that turned out to have no place among our types.
    pub(crate) fn keep(&mut self, key: &str, value: Value) {
        self.map.insert(key.to_owned(), value);
    }

    /// Names what was not taken and says something: an empty list or object says nothing.
    pub(crate) fn leave_out(self, within: &str, left_out: &mut LeftOut) {
        let says = |value: &Value| match value {
            Value::Null => false,
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        };
        let fields = self.map.into_iter().filter(|(_, value)| says(value));
        left_out.extend(fields.map(|(key, _)| format!("{within}.{key}")));
    }

    /// What was not taken.
    pub(crate) fn rest(self) -> Map<String, Value> {
        self.map
    }
}

/// Adds fields that only one dialect knows to a body. What is there wins; objects are joined field by field.
pub(crate) fn merge(into: &mut Map<String, Value>, other: &Map<String, Value>) {
    for (key, value) in other {
        match (into.get_mut(key), value) {
            (None, _) => {
                into.insert(key.clone(), value.clone());
            }
            (Some(Value::Object(inner)), Value::Object(more)) => merge(inner, more),
            (Some(_), _) => {}
        }
    }
}
