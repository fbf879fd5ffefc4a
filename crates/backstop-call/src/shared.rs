//! What many requests have in common. A conversation grows by its newest turn and is sent whole each time: what was said before
//! is not copied for it, and what was found out about it once is not found out again.

use crate::Size;
use crate::size::Measure;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// A list that is copied for nothing and never changes.
pub struct Shared<T>(Arc<Inner<T>>);

struct Inner<T> {
    items: Vec<T>,
    size: OnceLock<Size>,
    /// The number of the one that found nothing to change in it; 0 for nobody.
    cleared_by: AtomicU64,
}

impl<T> Shared<T> {
    /// Whether this one looked it through before, and found nothing to change.
    pub fn is_cleared_by(&self, number: u64) -> bool {
        self.0.cleared_by.load(Ordering::Relaxed) == number
    }

    /// Somebody looked it through and found nothing to change. The number is theirs alone, and not 0; the last one is
    /// remembered.
    pub fn clear_by(&self, number: u64) {
        self.0.cleared_by.store(number, Ordering::Relaxed);
    }
}

impl<T: Clone> Shared<T> {
    /// The items, for a list with others. They are copied only where somebody else holds them, too.
    pub fn into_vec(self) -> Vec<T> {
        Arc::try_unwrap(self.0).map_or_else(|shared| shared.items.clone(), |inner| inner.items)
    }

    /// Makes another list of it, of which nothing is known yet. Whoever else holds this one keeps it as it is.
    pub fn change(&mut self, change: impl FnOnce(&mut Vec<T>)) {
        let mut items = std::mem::take(self).into_vec();
        change(&mut items);
        *self = items.into();
    }
}

impl<T: Measure> Shared<T> {
    /// How much it says. Counted once.
    pub fn size(&self) -> Size {
        *self.0.size.get_or_init(|| Size::of(&self.0.items))
    }
}

impl<T> From<Vec<T>> for Shared<T> {
    fn from(items: Vec<T>) -> Self {
        Self(Arc::new(Inner { items, size: OnceLock::new(), cleared_by: AtomicU64::new(0) }))
    }
}

impl<T, const N: usize> From<[T; N]> for Shared<T> {
    fn from(items: [T; N]) -> Self {
        Vec::from(items).into()
    }
}

impl<T> FromIterator<T> for Shared<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        items.into_iter().collect::<Vec<_>>().into()
    }
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Shared<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0.items
    }
}

impl<'a, T> IntoIterator for &'a Shared<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Clone> IntoIterator for Shared<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.into_vec().into_iter()
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || **self == **other
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl<T: Serialize> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.items.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Block;

    #[test]
    fn a_copy_is_the_same_list_with_all_that_is_known_of_it() {
        let one: Shared<Block> = [Block::text("four")].into();
        let other = one.clone();
        one.clear_by(7);
        assert!(other.is_cleared_by(7) && !other.is_cleared_by(8));
        assert_eq!((other.size().bytes, one.0.size.get().is_some()), (4, true));
        let mut changed = other.clone();
        changed.change(|blocks| blocks.push(Block::text("more")));
        assert_eq!(
            (changed.size().bytes, changed.is_cleared_by(7)),
            (8, false),
            "of a new list nothing is known"
        );
        assert_eq!(other, one);
    }
}
