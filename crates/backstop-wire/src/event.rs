//! Typed reading of the JSON of a stream's events, where it stands: as a rule an event is looked at and goes on as it came,
//! so that nothing of it is copied which is not asked for. Complaints name the path of what is wrong, as in `read.rs`,
//! which reads what is taken into our words whole.

use crate::read::{Object, Path, WireError};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::borrow::Cow;
use std::fmt;

/// A value that borrows its texts from the event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// Reads the data of an event.
    pub(crate) fn read(data: &'a str) -> Result<Self, WireError> {
        serde_json::from_str(data).map_err(|error| Path::Root.wrong(format!("is no valid JSON ({error})")))
    }

    /// A field of an object.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let Self::Object(fields) = self else { return None };
        // Of two with one name the last holds.
        fields.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// A field that is a text.
    pub(crate) fn text(&self, key: &str) -> Option<&Cow<'a, str>> {
        if let Some(Self::Text(text)) = self.get(key) { Some(text) } else { None }
    }

    /// Whether a field is there and not null.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| *value != Self::Null)
    }
}

/// What is kept must have memory of its own.
impl From<Json<'_>> for Value {
    fn from(json: Json<'_>) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(flag) => Self::Bool(flag),
            Json::Number(number) => Self::Number(number),
            Json::Text(text) => Self::String(text.into_owned()),
            Json::List(items) => items.into_iter().map(Self::from).collect(),
            Json::Object(fields) => {
                let fields = fields.into_iter().map(|(key, value)| (key.into_owned(), value.into()));
                Self::Object(fields.collect::<Map<_, _>>())
            }
        }
    }
}

/// An object of an event that is being read. A field that is `null` counts as absent.
#[derive(Debug)]
pub(crate) struct Fields<'p, 'a> {
    path: Path<'p>,
    fields: Vec<(Cow<'a, str>, Json<'a>)>,
}

impl<'p, 'a> Fields<'p, 'a> {
    pub(crate) fn of(value: Json<'a>, path: Path<'p>) -> Result<Self, WireError> {
        match value {
            Json::Object(fields) => Ok(Self { path, fields }),
            _ => Err(path.wrong("must be an object")),
        }
    }

    pub(crate) fn wrong(&self, key: &str, problem: impl Into<String>) -> WireError {
        self.path(key).wrong(problem)
    }

    pub(crate) fn missing(&self, key: &str) -> WireError {
        self.wrong(key, "is missing")
    }

    pub(crate) fn path<'s>(&'s self, key: &'s str) -> Path<'s> {
        Path::Field(&self.path, key)
    }

    /// Takes a field out, whatever it holds.
    pub(crate) fn take(&mut self, key: &str) -> Option<Json<'a>> {
        let (_, value) = self.fields.iter_mut().rev().find(|(name, _)| name == key)?;
        Some(std::mem::replace(value, Json::Null)).filter(|value| *value != Json::Null)
    }

    /// The same, to be kept.
    pub(crate) fn value(&mut self, key: &str) -> Option<Value> {
        self.take(key).map(Value::from)
    }

    pub(crate) fn text(&mut self, key: &str) -> Result<Option<Cow<'a, str>>, WireError> {
        match self.take(key) {
            None => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "must be a string")),
        }
    }

    pub(crate) fn required_text(&mut self, key: &str) -> Result<Cow<'a, str>, WireError> {
        self.text(key)?.ok_or_else(|| self.missing(key))
    }

    pub(crate) fn count(&mut self, key: &str) -> Result<Option<u64>, WireError> {
        let count = match self.take(key) {
            None => return Ok(None),
            Some(Json::Number(number)) => number.as_u64(),
            Some(_) => None,
        };
        count.map(Some).ok_or_else(|| self.wrong(key, "must be a whole number from 0 up"))
    }

    /// Reads every item of a list, if there is one.
    pub(crate) fn each<T>(
        &mut self,
        key: &str,
        mut read: impl FnMut(Json<'a>, Path<'_>) -> Result<T, WireError>,
    ) -> Result<Option<Vec<T>>, WireError> {
        let items = match self.take(key) {
            None => return Ok(None),
            Some(Json::List(items)) => items.into_iter().enumerate(),
            Some(_) => return Err(self.wrong(key, "must be an array")),
        };
        let list = self.path(key);
        items.map(|(at, item)| read(item, Path::Index(&list, at))).collect::<Result<_, _>>().map(Some)
    }

    /// Reads an object inside this one.
    pub(crate) fn nested<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Fields<'_, 'a>) -> Result<T, WireError>,
    ) -> Result<Option<T>, WireError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        read(&mut Fields::of(value, self.path(key))?).map(Some)
    }

    /// Reads an object inside this one as one of a whole reply is read.
    pub(crate) fn whole<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Object<'_>) -> Result<T, WireError>,
    ) -> Result<Option<T>, WireError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        read(&mut Object::of(value, self.path(key))?).map(Some)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Json<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

/// The name of a field; serde's own `Cow` is always a copy.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_str(Reader)? {
            Json::Text(text) => Ok(Self(text)),
            _ => Err(serde::de::Error::custom("a name must be a string")),
        }
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json<'de>, E> {
        Ok(Number::from_f64(number).map_or(Json::Null, Json::Number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Json::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json<'de>, A::Error> {
        let mut fields = Vec::new();
        while let Some((Name(name), value)) = map.next_entry()? {
            fields.push((name, value));
        }
        Ok(Json::Object(fields))
    }
}
