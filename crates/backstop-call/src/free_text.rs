//! Free text in an event: what somebody or something said in words, which may quote what a run was about. It can be erased as
//! bodies can.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::Deref;

/// What stands where a text was erased.
pub const ERASED: &str = "(erased)";

/// A text of somebody's own words. In JSON a plain string; once erased `{"erased": {"digest": …, "bytes": …}}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FreeText {
    /// It stands here.
    Here(String),
    /// It stood here, and was erased.
    Erased {
        /// The keyed BLAKE3 of its JSON text, in hex.
        digest: String,
        /// The length of its JSON text.
        bytes: u64,
    },
}

impl FreeText {
    /// The text; [`ERASED`] when it is gone.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Here(text) => text,
            Self::Erased { .. } => ERASED,
        }
    }

    /// The text to be changed, while it is there.
    pub fn here_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Here(text) => Some(text),
            Self::Erased { .. } => None,
        }
    }
}

/// It reads as its text.
impl Deref for FreeText {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<&str> for FreeText {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

/// Nothing to say.
impl Default for FreeText {
    fn default() -> Self {
        Self::Here(String::new())
    }
}

impl fmt::Display for FreeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<String> for FreeText {
    fn from(text: String) -> Self {
        Self::Here(text)
    }
}

impl From<&str> for FreeText {
    fn from(text: &str) -> Self {
        Self::Here(text.to_owned())
    }
}

/// The two shapes in which it is written.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written<T> {
    Here(T),
    Erased { erased: Gone<T> },
}

#[derive(Serialize, Deserialize)]
struct Gone<T> {
    digest: T,
    bytes: u64,
}

impl Serialize for FreeText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Here(text) => Written::Here(text.as_str()),
            Self::Erased { digest, bytes } => {
                Written::Erased { erased: Gone { digest: digest.as_str(), bytes: *bytes } }
            }
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for FreeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Written::deserialize(deserializer)? {
            Written::Here(text) => Self::Here(text),
            Written::Erased { erased: Gone { digest, bytes } } => Self::Erased { digest, bytes },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_a_string_and_an_erased_one_says_so() {
        let gone = FreeText::Erased { digest: "ab12".to_owned(), bytes: 7 };
        let table = [
            (FreeText::from("no"), r#""no""#, "no"),
            (FreeText::default(), r#""""#, ""),
            (gone, r#"{"erased":{"digest":"ab12","bytes":7}}"#, ERASED),
        ];
        for (text, json, shown) in table {
            assert_eq!(serde_json::to_string(&text).unwrap(), json);
            assert_eq!(serde_json::from_str::<FreeText>(json).unwrap(), text);
            assert_eq!(text.to_string(), shown);
        }
        assert!(serde_json::from_str::<FreeText>("7").is_err());
    }
}
