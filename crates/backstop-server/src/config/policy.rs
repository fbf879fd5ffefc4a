//! What agents may do: the rights of the roles and the gates, as they are typed, and what they mean. The decisions over
//! them are in `backstop-label`.

use super::value::Span;
use backstop_label::{
    Action, BadRights, Class, Condition, ConstraintText, Effect, Gate as LabelGate, Pattern, Policy, Rights,
    RightsText,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a role may do. What it lacks its agents never see.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Role {
    /// Its tools, by their name or a pattern, with what their arguments may be. Since 0.1.
    pub tools: BTreeMap<String, ToolRights>,
    /// Runs from the queue that are worked on at a time, over all processes; as many as there are workers when left out.
    /// Since 0.1.
    pub concurrency: Option<u32>,
}

/// What the arguments of a tool may be. An empty one allows all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ToolRights {
    /// Patterns by argument: every value of it must fit one of them. `*` is anything but `/`, `**` is anything. Since 0.1.
    pub args: BTreeMap<String, Vec<String>>,
    /// A condition that must hold, like "args.amount <= 20". Since 0.1.
    pub when: Option<String>,
}

/// Whether calls of a kind run, ask a person, or are refused. The first gate that fits a call decides; where none fits, what
/// cannot be taken back or changes something outside asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Gate {
    /// Its name, for the question and the audit. Since 0.1.
    pub name: String,
    /// What it does with a call that it fits: "allow", "ask" or "deny". Since 0.1.
    pub then: Then,
    /// The tools it is about, by their name or a pattern; all when left out. Since 0.1.
    #[serde(default)]
    pub tools: Vec<String>,
    /// The classes it is about: "read", "idempotent", "write", "irreversible"; all when left out. Since 0.1.
    #[serde(default)]
    pub classes: Vec<ClassWord>,
    /// How far the calls reach that it is about: "read", "write", "external", "destructive"; all when left out. Since 0.1.
    #[serde(default)]
    pub effects: Vec<EffectWord>,
    /// A condition that must hold, like "args.amount > 100 || cost > 1.0". Since 0.1.
    #[serde(default)]
    pub when: Option<String>,
    /// Whether an "allow" also holds for calls that were decided from untrusted or private text. Since 0.1.
    #[serde(default)]
    pub labelled: bool,
    /// How long its question stands; then the answer is no. Since 0.1.
    #[serde(default = "a_day")]
    pub expires: Span,
}

fn a_day() -> Span {
    Span(backstop_label::ASK_EXPIRES)
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident is $of:ident: $($(#[$word_doc:meta])* $word:ident,)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name {
            $($(#[$word_doc])* $word,)*
        }

        impl From<$name> for $of {
            fn from(word: $name) -> Self {
                match word {
                    $($name::$word => Self::$word,)*
                }
            }
        }
    };
}

words! {
    /// What a gate does.
    Then is Action:
    /// Runs the call.
    Allow,
    /// Asks a person first.
    Ask,
    /// Refuses the call.
    Deny,
}

words! {
    /// What may be done with a call whose outcome a crash hid.
    ClassWord is Class:
    /// Changes nothing.
    Read,
    /// Acts once per key.
    Idempotent,
    /// Changes something.
    Write,
    /// Cannot be taken back.
    Irreversible,
}

words! {
    /// How far a call reaches.
    EffectWord is Effect:
    /// Looks.
    Read,
    /// Changes the agent's own space.
    Write,
    /// Reaches somebody or something outside.
    External,
    /// Destroys something.
    Destructive,
}

/// The rights of a role, as they are kept.
pub(super) fn rights(role: &Role) -> RightsText {
    let constraint = |tool: &ToolRights| ConstraintText { args: tool.args.clone(), when: tool.when.clone() };
    RightsText(role.tools.iter().map(|(name, tool)| (name.clone(), constraint(tool))).collect())
}

/// A gate, compiled.
pub(super) fn gate(typed: &Gate) -> Result<LabelGate, BadRights> {
    Ok(LabelGate {
        name: typed.name.clone(),
        tools: typed.tools.iter().map(|tool| Pattern::parse(tool)).collect::<Result<_, _>>()?,
        classes: typed.classes.iter().map(|&class| class.into()).collect(),
        effects: typed.effects.iter().map(|&effect| effect.into()).collect(),
        when: typed.when.as_deref().map(Condition::parse).transpose()?,
        labelled: typed.labelled,
        then: typed.then.into(),
        expires: typed.expires.0,
    })
}

/// The policy of a config that was found right.
pub fn policy(roles: &BTreeMap<String, RightsText>, gates: &[Gate]) -> Policy {
    let checked = "it was compiled once when the config was read";
    Policy {
        roles: roles.iter().map(|(name, text)| (name.clone(), Rights::parse(text).expect(checked))).collect(),
        gates: gates.iter().map(|typed| gate(typed).expect(checked)).collect(),
    }
}
