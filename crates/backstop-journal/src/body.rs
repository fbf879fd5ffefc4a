//! What an event says at length: prompts, answers, arguments, results. Small ones stand in the event; large ones lie
//! beside it under their hash. Those of a run can be erased while the chain still verifies, see [`crate::Parts`].

pub use backstop_call::FreeText;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

/// The largest body, in bytes of JSON, that stands in its event. Above it SQLite would spill the row to overflow pages.
pub const INLINE_MAX_BYTES: usize = 8 * 1024;

/// BLAKE3 of a blob's bytes, in hex.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BlobHash(String);

impl BlobHash {
    /// The hash of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes).to_hex().to_string())
    }

    /// The hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for BlobHash {
    fn from(hex: String) -> Self {
        Self(hex)
    }
}

/// A large body on its way to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// The hash of the bytes.
    pub hash: BlobHash,
    /// JSON text.
    pub bytes: Bytes,
}

/// A value in an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// It stands here.
    Inline(Value),
    /// It lies under its hash.
    Blob {
        /// BLAKE3 of its JSON text.
        hash: BlobHash,
        /// The length of its JSON text.
        bytes: u64,
    },
    /// It stood here, and was erased.
    Erased {
        /// The keyed BLAKE3 of its JSON text, in hex: what the link of its event goes over in its place.
        digest: String,
        /// The length of its JSON text.
        bytes: u64,
    },
}

impl Body {
    /// A body of any value.
    ///
    /// # Panics
    /// Never for our own types: they have string keys and no floats that JSON cannot hold.
    pub fn of<T: Serialize>(value: &T) -> Self {
        Self::Inline(serde_json::to_value(value).unwrap_or(Value::Null))
    }

    /// Whether there is nothing to say.
    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Inline(Value::Null))
    }

    /// BLAKE3 of its JSON text, in hex, wherever it lies; nothing where it was erased.
    pub fn hash(&self) -> Cow<'_, str> {
        match self {
            Self::Inline(value) => Cow::Owned(BlobHash::of(value.to_string().as_bytes()).0),
            Self::Blob { hash, .. } => Cow::Borrowed(hash.as_str()),
            Self::Erased { .. } => Cow::Borrowed(""),
        }
    }

    /// The value, when it stands here. A store gives bodies back inline; what is still a blob then was erased.
    pub fn value(&self) -> Option<&Value> {
        match self {
            Self::Inline(value) => Some(value),
            Self::Blob { .. } | Self::Erased { .. } => None,
        }
    }

    /// The hash that it lies under, when it does.
    pub fn blob(&self) -> Option<&BlobHash> {
        match self {
            Self::Blob { hash, .. } => Some(hash),
            Self::Inline(_) | Self::Erased { .. } => None,
        }
    }

    /// The value as a type of ours. `None` when it was erased or has another shape.
    pub fn read<T: DeserializeOwned>(&self) -> Option<T> {
        T::deserialize(self.value()?).ok()
    }

    /// Moves a large value out under its hash. Does nothing to a small one, or to one that is out already.
    pub fn spill(&mut self, inline_max_bytes: usize) -> Option<Blob> {
        let Self::Inline(value) = self else { return None };
        let bytes = Bytes::from(value.to_string());
        if bytes.len() <= inline_max_bytes {
            return None;
        }
        let hash = BlobHash::of(&bytes);
        *self = Self::Blob { hash: hash.clone(), bytes: bytes.len() as u64 };
        Some(Blob { hash, bytes })
    }
}

/// Nothing to say.
impl Default for Body {
    fn default() -> Self {
        Self::Inline(Value::Null)
    }
}

impl From<&str> for Body {
    fn from(text: &str) -> Self {
        Self::Inline(Value::from(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_values_move_out_under_their_hash() {
        let mut small = Body::from("x");
        assert_eq!(small.spill(INLINE_MAX_BYTES), None);
        let mut large = Body::from("y".repeat(10_000).as_str());
        let blob = large.spill(INLINE_MAX_BYTES).unwrap();
        assert_eq!(BlobHash::of(&blob.bytes), blob.hash);
        assert_eq!(large, Body::Blob { hash: blob.hash, bytes: 10_002 });
        assert_eq!(large.spill(0), None);
        assert_eq!(large.value(), None);
    }
}
