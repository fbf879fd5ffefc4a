//! What a tool declares about itself: all that policy needs, in one type for built-in, command and MCP tools.
//! What is not declared counts as the worst.

use crate::Category;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What may be done with a call whose outcome a crash hid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Changes nothing: run it again.
    Read,
    /// Takes a key and acts once per key: run it again with the same key.
    Idempotent,
    /// Changes something. A probe may tell whether it happened, an undo may take it back; without a probe it is in doubt.
    Write,
    /// Cannot be taken back. Always in doubt after a crash.
    Irreversible,
}

/// How far a call reaches, the shortest way first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Looks, and tells nobody outside.
    Read,
    /// Changes only the agent's own space.
    Write,
    /// Reaches somebody or something outside.
    External,
    /// Destroys what cannot be made again.
    Destructive,
}

/// What an argument decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArgRole {
    /// Who or where it goes: a recipient, a URL, a host.
    Sink,
    /// What it acts on: a path, an id.
    Object,
    /// How much.
    Amount,
    /// A value that is set.
    Value,
    /// Free text that is written or sent.
    Content,
    /// When.
    Time,
    /// A switch.
    Flag,
    /// What is looked for.
    Query,
}

/// Whether a tool's output can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Integrity {
    /// Written by the owner or computed by the tool itself.
    Trusted,
    /// Somebody else may have written it.
    Untrusted,
}

/// Who may see a tool's output.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidentiality {
    /// Anybody.
    Public,
    /// Only models marked local.
    Private(Category),
}

/// A tool's declaration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Declaration {
    /// What a crash allows.
    pub class: Class,
    /// How far it reaches.
    pub effect: Effect,
    /// The role of each argument, by its name. An argument that is not listed is a [`ArgRole::Sink`].
    #[serde(default)]
    pub args: BTreeMap<String, ArgRole>,
    /// Whether its output can be relied on.
    pub integrity: Integrity,
    /// Who may see its output.
    pub confidentiality: Confidentiality,
}

impl Declaration {
    /// What counts for a tool that declares nothing: a write without undo, reaching outside, with untrusted output.
    pub fn undeclared() -> Self {
        Self {
            class: Class::Write,
            effect: Effect::External,
            args: BTreeMap::new(),
            integrity: Integrity::Untrusted,
            confidentiality: Confidentiality::Public,
        }
    }

    /// The role of an argument; what is not listed counts as a sink.
    pub fn role_of(&self, arg: &str) -> ArgRole {
        self.args.get(arg).copied().unwrap_or(ArgRole::Sink)
    }

    /// The labels that this tool's output gets, before those of what went in are added.
    pub fn output_labels(&self) -> crate::Labels {
        let private = match &self.confidentiality {
            Confidentiality::Public => BTreeSet::new(),
            Confidentiality::Private(category) => BTreeSet::from([category.clone()]),
        };
        crate::Labels { untrusted: self.integrity == Integrity::Untrusted, private }
    }
}
