//! JSON read where it stands: as a rule an event is looked at and goes on as it came, so that nothing of it is copied or
//! built which is not asked for. Complaints name the path of what is wrong, as in `read.rs`, which reads what is taken
//! into our words whole.

use crate::read::{Object, Path, WireError};
use crate::scan::{Note, Scan};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::borrow::Cow;

/// A text that is JSON.
#[derive(Debug)]
pub(crate) struct Json<'a> {
    text: &'a str,
    notes: Vec<Note>,
}

impl<'a> Json<'a> {
    pub(crate) fn read(text: &'a str) -> Result<Self, WireError> {
        /// What a value has of the text with its name, as a rule.
        const NOTE_BYTES: usize = 16;
        let mut notes = Vec::with_capacity(text.len() / NOTE_BYTES);
        Scan::over(text.as_bytes()).whole(|scan| scan.note(&mut notes, 0))?;
        Ok(Self { text, notes })
    }

    /// All of it.
    pub(crate) fn root(&self) -> Raw<'_, 'a> {
        Raw { path: Path::Root, text: self.text, notes: &self.notes }
    }
}

/// A value as it is written, or that there is none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw<'p, 'a> {
    pub(crate) path: Path<'p>,
    text: &'a str,
    /// The one about it and those about what is in it.
    notes: &'p [Note],
}

impl<'p, 'a> Raw<'p, 'a> {
    /// As it is written; empty if there is none.
    fn written(&self) -> &'a str {
        self.notes.first().map_or("", |note| &self.text[note.value.clone()])
    }

    fn begins_with(&self, byte: u8) -> bool {
        self.notes.first().is_some_and(|note| note.first == byte)
    }

    pub(crate) fn wrong(&self, problem: impl Into<String>) -> WireError {
        self.path.wrong(problem)
    }

    pub(crate) fn missing(&self) -> WireError {
        self.wrong("is missing")
    }

    pub(crate) fn is_absent(&self) -> bool {
        self.notes.is_empty()
    }

    pub(crate) fn is_text(&self) -> bool {
        self.begins_with(b'"')
    }

    /// It, if it is an object: nothing else has fields.
    pub(crate) fn if_object(self) -> Self {
        if self.begins_with(b'{') { self } else { Self { notes: &[], ..self } }
    }

    /// It, if there is one.
    pub(crate) fn required(self) -> Result<Self, WireError> {
        if self.is_absent() { Err(self.missing()) } else { Ok(self) }
    }

    /// The fields of these names, if it is there and an object. One that is `null` counts as absent; of two with one name
    /// the last holds.
    pub(crate) fn fields<'s, const N: usize>(
        &'s self,
        names: [&'s str; N],
    ) -> Result<[Raw<'s, 'a>; N], WireError> {
        let (text, path) = (self.text, &self.path);
        let mut fields = names.map(|name| Raw { path: Path::Field(path, name), text, notes: &[] });
        let mut rest = match self.notes {
            [] => return Ok(fields),
            [object, within @ ..] if object.first == b'{' => within,
            _ => return Err(self.wrong("must be an object")),
        };
        while let [value, ..] = rest {
            let (notes, behind) = rest.split_at(value.count);
            let quoted = &text.as_bytes()[value.name.clone()];
            let at = names.iter().position(|wanted| is_called(quoted, value.is_plain_name, wanted));
            if let Some(at) = at {
                fields[at].notes = if value.first == b'n' { &[] } else { notes };
            }
            rest = behind;
        }
        Ok(fields)
    }

    /// Reads every item of the list, if there is one.
    pub(crate) fn each(
        &self,
        mut read: impl FnMut(Raw<'_, 'a>) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        let mut rest = match self.notes {
            [] => return Ok(()),
            [list, within @ ..] if list.first == b'[' => within,
            _ => return Err(self.wrong("must be an array")),
        };
        let mut at = 0;
        while let [item, ..] = rest {
            let (notes, behind) = rest.split_at(item.count);
            read(Raw { path: Path::Index(&self.path, at), text: self.text, notes })?;
            (at, rest) = (at + 1, behind);
        }
        Ok(())
    }

    /// The text, if there is one.
    pub(crate) fn text(&self) -> Result<Option<Cow<'a, str>>, WireError> {
        let Some(note) = self.notes.first() else { return Ok(None) };
        let quoted = self.written();
        let text = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        match text.ok_or_else(|| self.wrong("must be a string"))? {
            text if note.is_plain => Ok(Some(Cow::Borrowed(text))),
            _ => self.parsed().map(Cow::Owned).map(Some),
        }
    }

    /// The text that must be there.
    pub(crate) fn required_text(&self) -> Result<Cow<'a, str>, WireError> {
        self.text()?.ok_or_else(|| self.missing())
    }

    /// The same, to be kept; empty if there is none.
    pub(crate) fn owned_text(&self) -> Result<String, WireError> {
        Ok(self.text()?.map_or_else(String::new, Cow::into_owned))
    }

    /// The whole number, if there is one.
    pub(crate) fn count(&self) -> Result<Option<u64>, WireError> {
        if self.is_absent() {
            return Ok(None);
        }
        self.written().parse().map(Some).map_err(|_| self.wrong("must be a whole number from 0 up"))
    }

    /// All of it, to be kept.
    pub(crate) fn value(&self) -> Result<Option<Value>, WireError> {
        if self.is_absent() { Ok(None) } else { self.parsed().map(Some) }
    }

    /// The object, if there is one, read as one of a whole reply is.
    pub(crate) fn object<T>(
        &self,
        read: impl FnOnce(&mut Object<'p>) -> Result<T, WireError>,
    ) -> Result<Option<T>, WireError> {
        let object = self.value()?.map(|value| Object::of(value, self.path)).transpose()?;
        object.map(|mut object| read(&mut object)).transpose()
    }

    /// What the grammar lets pass and still is none: half of a character, a number without bounds.
    fn parsed<T: DeserializeOwned>(&self) -> Result<T, WireError> {
        serde_json::from_str(self.written())
            .map_err(|error| self.wrong(format!("is no valid JSON ({error})")))
    }
}

/// Whether a name in quotes is this one.
fn is_called(quoted: &[u8], is_plain: bool, name: &str) -> bool {
    if is_plain {
        return quoted.len() == name.len() + 2 && &quoted[1..=name.len()] == name.as_bytes();
    }
    serde_json::from_slice::<String>(quoted).is_ok_and(|unescaped| unescaped == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_found_and_borrowed() {
        let data = r#" {"other":{"text":[1,{}]},"te\u0078t":"first","text":"the last","inner":{"count":7,"x":null},
            "list":[{"count":1},{}],"newline":"a\nb"} "#;
        let json = Json::read(data).unwrap();
        let root = json.root();
        let [text, inner, list, newline, none] =
            root.fields(["text", "inner", "list", "newline", "none"]).unwrap();
        assert!(matches!(text.text(), Ok(Some(Cow::Borrowed("the last")))), "{text:?}");
        assert_eq!(newline.text(), Ok(Some("a\nb".into())));
        let [count, x] = inner.fields(["count", "x"]).unwrap();
        assert_eq!((count.count(), x.is_absent()), (Ok(Some(7)), true));
        let mut counts = Vec::new();
        let read = list.each(|item| {
            let [count] = item.fields(["count"])?;
            counts.push(count.count()?);
            Ok(())
        });
        assert_eq!((read, counts), (Ok(()), vec![Some(1), None]));
        assert!(none.is_absent() && none.fields(["x"]).unwrap()[0].is_absent());
        let json = Json::read(r#"{"te\u0078t":"x"}"#).unwrap();
        assert_eq!(json.root().fields(["text"]).unwrap()[0].text(), Ok(Some("x".into())));
    }

    #[test]
    fn what_is_something_else_is_named_by_its_place() {
        for other in ["7", "-7", "1.5", "true", "null", "\"x\"", "[[]]"] {
            let json = Json::read(other).unwrap();
            let error = json.root().fields(["x"]).unwrap_err();
            assert_eq!(error.to_string(), "body: must be an object", "{other}");
            assert!(json.root().if_object().fields(["x"]).unwrap()[0].is_absent(), "{other}");
        }
        let json =
            Json::read(r#"{"list":{"a":[1]},"text":7,"count":"7","half":"\ud800","items":[{},{"a":[]}]}"#)
                .unwrap();
        let root = json.root();
        let [list, text, count, half, items] =
            root.fields(["list", "text", "count", "half", "items"]).unwrap();
        let told = |error: WireError| error.to_string();
        assert_eq!(list.each(|_| Ok(())).map_err(told), Err("list: must be an array".to_owned()));
        assert_eq!(text.text().map_err(told), Err("text: must be a string".to_owned()));
        assert_eq!(count.count().map_err(told), Err("count: must be a whole number from 0 up".to_owned()));
        assert!(half.text().unwrap_err().to_string().starts_with("half: is no valid JSON"));
        let within = |item: Raw<'_, '_>| {
            let [a] = item.fields(["a"])?;
            a.fields(["b"]).map(drop)
        };
        assert_eq!(items.each(within).map_err(told), Err("items[1].a: must be an object".to_owned()));
        let error = Json::read("{").unwrap_err().to_string();
        assert_eq!(error, "body: is no valid JSON (expected `\"` at byte 1)");
    }
}
