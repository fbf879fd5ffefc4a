//! Typed reading of the JSON of a stream's events, where it stands: as a rule an event is looked at and goes on as it came,
//! so that nothing of it is copied which is not asked for. Complaints name the path of what is wrong, as in `read.rs`,
//! which reads what is taken into our words whole.

use crate::read::{self, Path, WireError};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// Reads the data of an event.
pub(crate) fn read<'a, T: Deserialize<'a>>(data: &'a str) -> Result<T, WireError> {
    serde_json::from_str(data).map_err(|error| Path::Root.wrong(format!("is no valid JSON ({error})")))
}

/// The fields that are asked for of the objects that come with every event, each by its name; all others are passed over.
/// Of two with one name the last holds.
macro_rules! object {
    ($name:ident { $($field:ident = $key:literal: $kind:ty),* $(,)? }) => {
        #[derive(Debug, Default)]
        struct $name<'a> {
            $($field: $kind,)*
        }

        impl<'a> crate::event::Shape<'a> for $name<'a> {
            fn of_map<A: serde::de::MapAccess<'a>>(
                mut map: A,
            ) -> Result<crate::event::Should<Self>, A::Error> {
                let mut object = Self::default();
                while let Some(name) = map.next_key::<crate::event::Name<'a>>()? {
                    match &*name.0 {
                        $($key => object.$field = map.next_value()?,)*
                        _ => drop(map.next_value::<serde::de::IgnoredAny>()?),
                    }
                }
                Ok(crate::event::Should::Is(object))
            }
        }
    };
}
pub(crate) use object;

/// What an object or a list is read into; the other of the two is passed over.
pub(crate) trait Shape<'a>: Sized {
    fn of_map<A: MapAccess<'a>>(mut map: A) -> Result<Should<Self>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Should::Other)
    }

    fn of_seq<A: SeqAccess<'a>>(mut seq: A) -> Result<Should<Self>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Should::Other)
    }
}

impl<'a, T: Deserialize<'a>> Shape<'a> for Vec<T> {
    fn of_seq<A: SeqAccess<'a>>(mut seq: A) -> Result<Should<Self>, A::Error> {
        let mut items = Self::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Should::Is(items))
    }
}

/// What should be an object or a list.
#[derive(Debug, Default)]
pub(crate) enum Should<T> {
    #[default]
    Absent,
    Is(T),
    Other,
}

impl<'a, T: Shape<'a>> Should<T> {
    fn or(self, path: Path<'_>, problem: &str) -> Result<Option<T>, WireError> {
        match self {
            Self::Absent => Ok(None),
            Self::Is(value) => Ok(Some(value)),
            Self::Other => Err(path.wrong(problem)),
        }
    }

    /// The object, if there is one.
    pub(crate) fn object(self, path: Path<'_>) -> Result<Option<T>, WireError> {
        self.or(path, "must be an object")
    }

    /// The object that an event or an item of a list is.
    pub(crate) fn required(self, path: Path<'_>) -> Result<T, WireError> {
        self.object(path)?.ok_or_else(|| path.wrong("must be an object"))
    }

    /// The list, if there is one.
    pub(crate) fn list(self, path: Path<'_>) -> Result<Option<T>, WireError> {
        self.or(path, "must be an array")
    }
}

/// A value that borrows its texts from the event.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Json<'a> {
    #[default]
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl<'a> Json<'a> {
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

    /// Whether it says nothing.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// It, if it says anything.
    pub(crate) fn some(self, path: Path<'_>) -> Result<Self, WireError> {
        if self.is_null() { Err(path.wrong("is missing")) } else { Ok(self) }
    }

    /// The text, if there is one.
    pub(crate) fn into_text(self, path: Path<'_>) -> Result<Option<Cow<'a, str>>, WireError> {
        match self {
            Self::Null => Ok(None),
            Self::Text(text) => Ok(Some(text)),
            _ => Err(path.wrong("must be a string")),
        }
    }

    /// The count, if there is one.
    pub(crate) fn into_count(self, path: Path<'_>) -> Result<Option<u64>, WireError> {
        let count = match self {
            Self::Null => return Ok(None),
            Self::Number(number) => number.as_u64(),
            _ => None,
        };
        count.map(Some).ok_or_else(|| path.wrong("must be a whole number from 0 up"))
    }

    /// Every item of the list, if there is one.
    pub(crate) fn each<T>(
        self,
        path: Path<'_>,
        mut read: impl FnMut(Self, Path<'_>) -> Result<T, WireError>,
    ) -> Result<Option<Vec<T>>, WireError> {
        let items = match self {
            Self::Null => return Ok(None),
            Self::List(items) => items.into_iter().enumerate(),
            _ => return Err(path.wrong("must be an array")),
        };
        items.map(|(at, item)| read(item, Path::Index(&path, at))).collect::<Result<_, _>>().map(Some)
    }

    /// The object, if there is one, read as one of a whole reply is.
    pub(crate) fn whole<T>(
        self,
        path: Path<'_>,
        read: impl FnOnce(&mut read::Object<'_>) -> Result<T, WireError>,
    ) -> Result<Option<T>, WireError> {
        if self.is_null() {
            return Ok(None);
        }
        read(&mut read::Object::of(self.into(), path)?).map(Some)
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

    /// Takes a field out, whatever it holds; null, if it is not there.
    pub(crate) fn take(&mut self, key: &str) -> Json<'a> {
        let field = self.fields.iter_mut().rev().find(|(name, _)| name == key);
        field.map(|(_, value)| std::mem::take(value)).unwrap_or_default()
    }

    /// The same, to be kept, if it is there.
    pub(crate) fn value(&mut self, key: &str) -> Option<Value> {
        Some(self.take(key)).filter(|value| !value.is_null()).map(Value::from)
    }

    pub(crate) fn text(&mut self, key: &str) -> Result<Option<Cow<'a, str>>, WireError> {
        self.take(key).into_text(self.path(key))
    }

    pub(crate) fn required_text(&mut self, key: &str) -> Result<Cow<'a, str>, WireError> {
        self.text(key)?.ok_or_else(|| self.missing(key))
    }

    pub(crate) fn count(&mut self, key: &str) -> Result<Option<u64>, WireError> {
        self.take(key).into_count(self.path(key))
    }

    /// Reads an object inside this one.
    pub(crate) fn nested<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Fields<'_, 'a>) -> Result<T, WireError>,
    ) -> Result<Option<T>, WireError> {
        let value = self.take(key);
        if value.is_null() {
            return Ok(None);
        }
        read(&mut Fields::of(value, self.path(key))?).map(Some)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Json<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

/// The name of a field; serde's own `Cow` is always a copy.
pub(crate) struct Name<'a>(pub(crate) Cow<'a, str>);

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

impl<'de, T: Shape<'de>> Deserialize<'de> for Should<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Shaper(PhantomData))
    }
}

/// Reads what should be an object or a list.
struct Shaper<T>(PhantomData<T>);

impl<'de, T: Shape<'de>> Visitor<'de> for Shaper<T> {
    type Value = Should<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    fn visit_unit<E>(self) -> Result<Should<T>, E> {
        Ok(Should::Absent)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Should<T>, E> {
        Ok(Should::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Should<T>, E> {
        Ok(Should::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Should<T>, E> {
        Ok(Should::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Should<T>, E> {
        Ok(Should::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Should<T>, E> {
        Ok(Should::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Should<T>, A::Error> {
        T::of_seq(seq)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Should<T>, A::Error> {
        T::of_map(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    object!(Outer {
        text = "text": Json<'a>,
        inner = "inner": Should<Inner<'a>>,
        list = "list": Should<Vec<Should<Inner<'a>>>>,
    });

    object!(Inner { count = "count": Json<'a> });

    fn outer(data: &str) -> Outer<'_> {
        read::<Should<Outer<'_>>>(data).unwrap().required(Path::Root).unwrap()
    }

    #[test]
    fn what_is_asked_for_is_found_and_borrowed() {
        let data = r#"{"other":{"text":[1,{}]},"te\u0078t":"first","text":"the last","inner":{"count":7,"x":null},"list":[{"count":1},{}]}"#;
        let outer = outer(data);
        assert!(matches!(outer.text, Json::Text(Cow::Borrowed("the last"))), "{:?}", outer.text);
        let inner = outer.inner.object(Path::Root).unwrap().unwrap();
        assert_eq!(inner.count.into_count(Path::Root), Ok(Some(7)));
        assert_eq!(outer.list.list(Path::Root).unwrap().unwrap().len(), 2);
        let nothing = self::outer(r#"{"inner":null}"#);
        assert!(nothing.text.is_null() && nothing.inner.object(Path::Root).unwrap().is_none());
    }

    #[test]
    fn what_is_something_else_is_named_by_its_place() {
        let list = Path::Field(&Path::Root, "list");
        for other in ["7", "-7", "1.5", "true", "\"x\"", "[[]]"] {
            let error = read::<Should<Outer<'_>>>(other).unwrap().required(list).unwrap_err();
            assert_eq!(error.to_string(), "list: must be an object", "{other}");
        }
        let data = r#"{"list":{"a":[1]},"text":7}"#;
        assert_eq!(outer(data).list.list(list).unwrap_err().to_string(), "list: must be an array");
        assert_eq!(outer(data).text.into_text(list).unwrap_err().to_string(), "list: must be a string");
        let error = read::<Json<'_>>("{").unwrap_err().to_string();
        assert_eq!(error, "body: is no valid JSON (EOF while parsing an object at line 1 column 1)");
    }
}
