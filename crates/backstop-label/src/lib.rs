//! Labels: what is known about where text came from and who may see it.
//!
//! A label travels with everything that enters a context: messages, tool results, files, events, tasks.
//! What is derived from labelled text carries the union of its labels. Two questions are decided here, and no
//! model is asked: [`may_see`] (which models a text may be sent to) and [`may_act`] (which tool calls run
//! without a person's yes).
//!
//! This crate depends on nothing of ours and does no IO.

mod condition;
mod declaration;
mod gate;
mod policy;
mod rights;

pub use condition::{BadCondition, Condition, Expression, Facts, Undecided};
pub use declaration::{ArgRole, Class, Confidentiality, Declaration, Effect, Integrity};
pub use gate::{ASK_EXPIRES, Action, Decision, Gate, Policy};
pub use policy::{Ask, ModelPlace, NotSeen, Verdict, may_act, may_see};
pub use rights::{BadRights, Constraint, ConstraintText, Lacking, Pattern, Rights, RightsText};

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Why a text is private.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Category {
    /// Keys, passwords, tokens, one-time codes.
    Credential,
    /// Accounts, cards, amounts that belong to somebody.
    Financial,
    /// Anything about a person's health.
    Health,
    /// Plans of the owner that nobody else should know.
    Strategy,
    /// A category of the user's own, by its name.
    Own(String),
}

impl Category {
    /// The name as it stands in config, events and logs.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Credential => "credential",
            Self::Financial => "financial",
            Self::Health => "health",
            Self::Strategy => "strategy",
            Self::Own(name) => name,
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<String> for Category {
    fn from(name: String) -> Self {
        match name.as_str() {
            "credential" => Self::Credential,
            "financial" => Self::Financial,
            "health" => Self::Health,
            "strategy" => Self::Strategy,
            _ => Self::Own(name),
        }
    }
}

impl From<Category> for String {
    fn from(category: Category) -> Self {
        category.as_str().to_owned()
    }
}

/// The labels of one text. The default is trusted and public: what the person wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// Somebody else may have written it: a web page, a mail, the output of a tool from outside.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untrusted: bool,
    /// The categories it is private for; empty means public.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub private: BTreeSet<Category>,
}

impl Labels {
    /// Text that somebody else may have written.
    pub fn untrusted() -> Self {
        Self { untrusted: true, private: BTreeSet::new() }
    }

    /// Text that is private for one category.
    pub fn private(category: Category) -> Self {
        Self { untrusted: false, private: BTreeSet::from([category]) }
    }

    /// Whether nothing is recorded: trusted and public.
    pub fn is_empty(&self) -> bool {
        !self.untrusted && self.private.is_empty()
    }

    /// Adds what `other` carries. Labels are never taken away here.
    pub fn join(&mut self, other: &Self) {
        self.untrusted |= other.untrusted;
        self.private.extend(other.private.iter().cloned());
    }

    /// The union of both.
    #[must_use]
    pub fn joined(mut self, other: &Self) -> Self {
        self.join(other);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_only_grow() {
        let mut labels = Labels::untrusted();
        labels.join(&Labels::private(Category::Health));
        labels.join(&Labels::default());
        assert!(labels.untrusted);
        assert_eq!(labels.private, BTreeSet::from([Category::Health]));
    }

    #[test]
    fn the_default_is_written_as_nothing() {
        assert_eq!(serde_json::to_string(&Labels::default()).unwrap(), "{}");
        let own: Labels = serde_json::from_str(r#"{"private":["board","credential"]}"#).unwrap();
        assert!(own.private.contains(&Category::Own("board".into())));
        assert!(own.private.contains(&Category::Credential));
    }
}
