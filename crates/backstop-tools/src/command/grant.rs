//! What an owner says of a command that is a tool, and whether it can be so. Runs nothing.

use super::template::{KEY, RESULT, Template, TemplateError, Text};
use crate::program::{ProgramGrant, ProgramGrantError};
use crate::schemas::{self, SecretReference};
use backstop_label::{ArgRole, Category, Class, Confidentiality, Declaration, Effect, Integrity};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The longest name that model providers take.
const NAME_MAX_BYTES: usize = 64;

/// A command that is a tool, under a name that is not part of it. What is not said counts as the worst.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CommandGrant {
    /// What a model is told that it does. Since 0.1.
    pub description: String,
    /// The program and its arguments, with `{argument}` and `{key}` as places. A value stays in its word; a word whose
    /// argument is not given is left out. Since 0.1.
    pub run: Vec<String>,
    /// A JSON Schema of the arguments, of an object. Since 0.1.
    #[serde(default = "no_arguments")]
    pub arguments: Value,
    /// Arguments whose values may begin with `-` where the command would take that for an option. Since 0.1.
    #[serde(default)]
    pub dashed: Vec<String>,
    /// What may be done with a call whose outcome a crash hid: `read`, `idempotent`, `write`, `irreversible`. Since 0.1.
    #[serde(default = "write")]
    #[schemars(schema_with = "schemas::class")]
    pub class: Class,
    /// How far it reaches: `read`, `write` (the workspace), `external`, `destructive`. Since 0.1.
    #[serde(default = "external")]
    #[schemars(schema_with = "schemas::effect")]
    pub effect: Effect,
    /// What each argument decides: `sink`, `object`, `amount`, `value`, `content`, `time`, `flag`, `query`. Since 0.1.
    #[serde(default)]
    #[schemars(schema_with = "schemas::roles")]
    pub roles: BTreeMap<String, ArgRole>,
    /// Whether what it prints can be relied on: `trusted` or `untrusted`. Since 0.1.
    #[serde(default = "untrusted")]
    #[schemars(schema_with = "schemas::integrity")]
    pub integrity: Integrity,
    /// The category that what it prints is private in. Left out: it is public. Since 0.1.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub private: Option<Category>,
    /// The command that takes a call back; `{result}` is what the call printed, `{result.field}` a field of it. Since 0.1.
    #[serde(default)]
    pub undo: Option<Vec<String>>,
    /// The command that finds out whether a call was taken back, with the places of `undo`: it ends with 0 if it was, with 1 if it
    /// was not. Since 0.1.
    #[serde(default)]
    pub undo_probe: Option<Vec<String>>,
    /// The command that finds out whether a call happened: it ends with 0 if it did, with 1 if it did not. Since 0.1.
    #[serde(default)]
    pub probe: Option<Vec<String>>,
    /// What it reads from its standard input, with the same places. Since 0.1.
    #[serde(default)]
    pub stdin: Option<String>,
    /// Environment variables, each with a reference to the secret that it holds (`env:NAME`, `file:PATH`). Since 0.1.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, SecretReference>")]
    pub secrets: BTreeMap<String, String>,
    /// Whether it runs in the sandbox; without one it has all the rights of Backstop itself. Since 0.1.
    #[serde(default = "yes")]
    pub sandboxed: bool,
    /// What it gets beside the workspace. Since 0.1.
    #[serde(default)]
    pub programs: ProgramGrant,
}

/// A command that cannot be a tool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandGrantError {
    /// No name for a tool.
    #[error("`{0}` is no name for a tool: letters, digits, `_` and `-`, at most 64")]
    Name(String),
    /// The arguments are no object.
    #[error("`arguments` is no JSON Schema of an object")]
    Arguments,
    /// An argument has the name of another place.
    #[error("an argument cannot be called `{0}`: that place has a meaning of its own")]
    Taken(&'static str),
    /// Something is said of an argument that is not there.
    #[error("`{0}` is no argument")]
    NoArgument(String),
    /// A command with places.
    #[error("`{command}`: {source}")]
    Template {
        /// Which one.
        command: &'static str,
        /// What is wrong with it.
        source: TemplateError,
    },
    /// It says less than what it is granted.
    #[error("it says that it is `{said}`, and {granted}")]
    Understated {
        /// What is declared.
        said: &'static str,
        /// What contradicts it.
        granted: &'static str,
    },
    /// It is said to act once per key, and never sees one.
    #[error("it says that it is `idempotent`, and gives the command no {{key}} to know a call again by")]
    NoKey,
    /// Only what is written can be taken back.
    #[error("`undo` is for the class `write` alone")]
    Undo,
    /// There is no undo to find out about.
    #[error("`undo-probe` asks after an `undo`, and there is none")]
    UndoProbe,
    /// A secret that was not resolved.
    #[error("the secret for `{0}` was not found")]
    Secret(String),
    /// What it gets.
    #[error(transparent)]
    Programs(#[from] ProgramGrantError),
}

/// The commands of a grant, read.
pub(super) struct Parts {
    pub(super) run: Template,
    pub(super) undo: Option<Template>,
    pub(super) undo_probe: Option<Template>,
    pub(super) probe: Option<Template>,
    pub(super) stdin: Option<Text>,
}

impl CommandGrant {
    /// Reads the commands, and finds what is wrong.
    pub(super) fn parse(&self, name: &str) -> Result<Parts, CommandGrantError> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if name.is_empty() || name.len() > NAME_MAX_BYTES || !name.bytes().all(is_name) {
            return Err(CommandGrantError::Name(name.to_owned()));
        }
        self.programs.check()?;
        let arguments = self.argument_names()?;
        let said_of = self.roles.keys().chain(&self.dashed);
        if let Some(name) = said_of.into_iter().find(|name| !arguments.contains(name.as_str())) {
            return Err(CommandGrantError::NoArgument(name.clone()));
        }
        let mut known = arguments;
        known.insert(KEY);
        let read = |command, words: &[String], known: &BTreeSet<&str>| {
            Template::parse(words, known, &self.dashed)
                .map_err(|source| CommandGrantError::Template { command, source })
        };
        let run = read("run", &self.run, &known)?;
        let probe = self.probe.as_ref().map(|words| read("probe", words, &known)).transpose()?;
        let stdin = self.stdin.as_ref().map(|text| Text::parse(text, &known)).transpose();
        let stdin = stdin.map_err(|source| CommandGrantError::Template { command: "stdin", source })?;
        known.insert(RESULT);
        let undo = self.undo.as_ref().map(|words| read("undo", words, &known)).transpose()?;
        let undo_probe =
            self.undo_probe.as_ref().map(|words| read("undo-probe", words, &known)).transpose()?;
        let parts = Parts { run, undo, undo_probe, probe, stdin };
        self.check_declared(&parts)?;
        Ok(parts)
    }

    fn argument_names(&self) -> Result<BTreeSet<&str>, CommandGrantError> {
        if self.arguments.get("type") != Some(&json!("object")) {
            return Err(CommandGrantError::Arguments);
        }
        let names: BTreeSet<&str> = match self.arguments.get("properties") {
            Some(Value::Object(properties)) => properties.keys().map(String::as_str).collect(),
            None => BTreeSet::new(),
            Some(_) => return Err(CommandGrantError::Arguments),
        };
        match [KEY, RESULT].into_iter().find(|name| names.contains(name)) {
            Some(name) => Err(CommandGrantError::Taken(name)),
            None => Ok(names),
        }
    }

    /// Where the sandbox shows that a declaration says too little, it is refused. Without a sandbox, the owner's word stands.
    fn check_declared(&self, parts: &Parts) -> Result<(), CommandGrantError> {
        let has_key = parts.run.has(KEY) || parts.stdin.as_ref().is_some_and(|stdin| stdin.has(KEY));
        let understated = |said, granted| Err(CommandGrantError::Understated { said, granted });
        match self.class {
            Class::Idempotent if !has_key => return Err(CommandGrantError::NoKey),
            Class::Read if self.effect > Effect::Read && self.effect != Effect::External => {
                return understated("read", "its effect is more than to look");
            }
            Class::Idempotent | Class::Write | Class::Irreversible if self.effect == Effect::Read => {
                return understated("read", "its class says that it changes something");
            }
            _ => {}
        }
        if parts.undo.is_some() && self.class != Class::Write {
            return Err(CommandGrantError::Undo);
        }
        if parts.undo_probe.is_some() && parts.undo.is_none() {
            return Err(CommandGrantError::UndoProbe);
        }
        if self.class == Class::Read && !self.programs.write.is_empty() {
            return understated("read", "it is granted paths to write to");
        }
        if self.effect < Effect::External && self.sandboxed && self.programs.reaches_outside() {
            return understated(
                "read or write in the workspace",
                "it is granted the network or paths outside",
            );
        }
        Ok(())
    }

    /// The schema of the arguments. What it does not name is not taken.
    pub(super) fn schema(&self) -> Value {
        let mut schema = self.arguments.clone();
        if let Some(object) = schema.as_object_mut() {
            object.entry("additionalProperties").or_insert(Value::Bool(false));
        }
        schema
    }

    pub(super) fn declaration(&self) -> Declaration {
        Declaration {
            class: self.class,
            effect: self.effect,
            args: self.roles.clone(),
            integrity: self.integrity,
            confidentiality: self.private.clone().map_or(Confidentiality::Public, Confidentiality::Private),
        }
    }
}

fn no_arguments() -> Value {
    json!({"type": "object", "properties": {}})
}

const fn write() -> Class {
    Class::Write
}

const fn external() -> Effect {
    Effect::External
}

const fn untrusted() -> Integrity {
    Integrity::Untrusted
}

const fn yes() -> bool {
    true
}
