//! A loaded secret: a key or a password. It cannot be printed, compared in the open or serialized by accident.

use std::fmt;
use std::sync::Arc;

/// A secret's value. `Debug` shows nothing of it; [`Secret::expose`] is the one way to it and easy to search for.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Keeps a value.
    pub fn new(value: impl Into<Arc<str>>) -> Self {
        Self(value.into())
    }

    /// The value, for the header it is meant for or for the redactor that looks for it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
