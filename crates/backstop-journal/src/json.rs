//! The JSON text of events and log lines: byte for byte what `serde_json` writes, for a quarter of the instructions. A
//! gateway writes both for every call.
//!
//! It saves by two things. The names of fields and variants are the program's own, so that they are not searched for what must
//! be escaped; other texts are looked at eight bytes at a time. It only writes; reading is `serde_json`'s.

use serde::ser::{Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, Serializer};
use serde::ser::{SerializeStructVariant, SerializeTuple, SerializeTupleStruct, SerializeTupleVariant};
use serde_json::Error;

/// Writes a value behind a text. When it fails the text is what it was.
///
/// # Errors
/// A map with keys that are no strings, numbers or bools; whatever the value's own `Serialize` refuses.
pub(crate) fn write<T: Serialize + ?Sized>(text: &mut String, value: &T) -> Result<(), Error> {
    let whole = text.len();
    let written = value.serialize(Json { text });
    if written.is_err() {
        text.truncate(whole);
    }
    written
}

struct Json<'a> {
    text: &'a mut String,
}

/// A list or an object that is being written.
struct Open<'a> {
    text: &'a mut String,
    is_empty: bool,
    end: &'static str,
}

impl<'a> Json<'a> {
    fn open(self, begin: &'static str, end: &'static str) -> Open<'a> {
        self.text.push_str(begin);
        Open { text: self.text, is_empty: true, end }
    }

    /// An object of one field, named as a variant of an enum.
    fn open_variant(self, name: &'static str, begin: char, end: &'static str) -> Open<'a> {
        self.text.push('{');
        put_name(self.text, name);
        self.text.push(begin);
        Open { text: self.text, is_empty: true, end }
    }

    fn integer(self, number: impl itoa::Integer) {
        self.text.push_str(itoa::Buffer::new().format(number));
    }
}

impl Open<'_> {
    fn comma(&mut self) {
        if !std::mem::take(&mut self.is_empty) {
            self.text.push(',');
        }
    }

    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.comma();
        value.serialize(Json { text: self.text })
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        self.comma();
        put_name(self.text, name);
        value.serialize(Json { text: self.text })
    }

    fn close(self) {
        self.text.push_str(self.end);
    }
}

/// The name of a field or variant, and its colon.
fn put_name(text: &mut String, name: &'static str) {
    debug_assert!(escaped_at(name).is_none(), "`{name}` is a name of ours");
    text.reserve(name.len() + 3);
    text.push('"');
    text.push_str(name);
    text.push_str("\":");
}

fn put_string(text: &mut String, mut rest: &str) {
    text.reserve(rest.len() + 2);
    text.push('"');
    while let Some(at) = escaped_at(rest) {
        let (clean, from) = rest.split_at(at);
        text.push_str(clean);
        put_escape(text, from.as_bytes()[0]);
        rest = &from[1..];
    }
    text.push_str(rest);
    text.push('"');
}

fn put_escape(text: &mut String, byte: u8) {
    let short = match byte {
        b'"' => "\\\"",
        b'\\' => "\\\\",
        b'\n' => "\\n",
        b'\r' => "\\r",
        b'\t' => "\\t",
        0x08 => "\\b",
        0x0c => "\\f",
        _ => {
            let hex = |digit: u8| char::from(b"0123456789abcdef"[usize::from(digit)]);
            text.push_str("\\u00");
            text.extend([hex(byte >> 4), hex(byte & 15)]);
            return;
        }
    };
    text.push_str(short);
}

/// The first byte that must be escaped: a quote, a backslash, a control character.
fn escaped_at(text: &str) -> Option<usize> {
    let is_escaped = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    let clean = words.iter().take_while(|word| !has_escaped(u64::from_le_bytes(**word))).count();
    let from = clean * 8;
    if clean == words.len() {
        return rest.iter().position(is_escaped).map(|at| from + at);
    }
    text.as_bytes()[from..].iter().position(is_escaped).map(|at| from + at)
}

/// Whether one of eight bytes must be escaped: `hasless` and `hasvalue` of Sean Eron Anderson, "Bit Twiddling Hacks".
fn has_escaped(word: u64) -> bool {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES * 0x80;
    let has_less = |word: u64, than: u64| word.wrapping_sub(ONES * than) & !word & HIGHS;
    let has = |byte: u8| has_less(word ^ (ONES * u64::from(byte)), 1);
    has_less(word, 0x20) | has(b'"') | has(b'\\') != 0
}

macro_rules! integers {
    ($($method:ident: $type:ty,)*) => {
        $(fn $method(self, number: $type) -> Result<(), Error> {
            self.integer(number);
            Ok(())
        })*
    };
}

impl<'a> Serializer for Json<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Open<'a>;
    type SerializeTuple = Open<'a>;
    type SerializeTupleStruct = Open<'a>;
    type SerializeTupleVariant = Open<'a>;
    type SerializeMap = Open<'a>;
    type SerializeStruct = Open<'a>;
    type SerializeStructVariant = Open<'a>;

    integers! {
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128,
    }

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.text.push_str(if value { "true" } else { "false" });
        Ok(())
    }

    fn serialize_f32(self, number: f32) -> Result<(), Error> {
        self.text.push_str(&serde_json::to_string(&number)?);
        Ok(())
    }

    fn serialize_f64(self, number: f64) -> Result<(), Error> {
        self.text.push_str(&serde_json::to_string(&number)?);
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        put_string(self.text, value.encode_utf8(&mut [0; 4]));
        Ok(())
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        put_string(self.text, value);
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Error> {
        bytes.serialize(self)
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.text.push_str("null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Result<(), Error> {
        self.serialize_str(name)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        let mut open = self.open("{", "}");
        open.field(name, value)?;
        open.close();
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Open<'a>, Error> {
        Ok(self.open("[", "]"))
    }

    fn serialize_tuple(self, _: usize) -> Result<Open<'a>, Error> {
        Ok(self.open("[", "]"))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Open<'a>, Error> {
        Ok(self.open("[", "]"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Open<'a>, Error> {
        Ok(self.open_variant(name, '[', "]}"))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Open<'a>, Error> {
        Ok(self.open("{", "}"))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Open<'a>, Error> {
        Ok(self.open("{", "}"))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Open<'a>, Error> {
        Ok(self.open_variant(name, '{', "}}"))
    }
}

impl SerializeMap for Open<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.comma();
        let from = self.text.len();
        key.serialize(Json { text: self.text })?;
        match self.text.as_bytes().get(from) {
            Some(b'"') => {}
            Some(b'{' | b'[' | b'n') | None => return Err(Error::custom("key must be a string")),
            // Numbers and bools are keys in quotes.
            Some(_) => {
                self.text.insert(from, '"');
                self.text.push('"');
            }
        }
        self.text.push(':');
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(Json { text: self.text })
    }

    fn end(self) -> Result<(), Error> {
        self.close();
        Ok(())
    }
}

macro_rules! lists {
    ($($trait:ident :: $method:ident,)*) => {
        $(impl $trait for Open<'_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.item(value)
            }

            fn end(self) -> Result<(), Error> {
                self.close();
                Ok(())
            }
        })*
    };
}

lists! {
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field,
}

macro_rules! objects {
    ($($trait:ident,)*) => {
        $(impl $trait for Open<'_> {
            type Ok = ();
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Error> {
                self.field(name, value)
            }

            fn end(self) -> Result<(), Error> {
                self.close();
                Ok(())
            }
        })*
    };
}

objects! { SerializeStruct, SerializeStructVariant, }

#[cfg(test)]
mod tests;
