//! The two decisions over labels. Pure, closed and small on purpose: each is a table.

use crate::{Category, Class, Effect, Facts, Labels};
use std::collections::BTreeSet;

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelPlace {
    /// On a machine of the owner's: may see what is private.
    Local,
    /// At somebody else's: may see only what is public.
    Cloud,
}

/// A model must not see this text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotSeen {
    /// The categories that forbid it.
    pub private: BTreeSet<Category>,
}

/// May a model in this place see text with these labels? Private text goes to local models only; there is no
/// exception for fallbacks, and no answer counts as a no.
pub fn may_see(labels: &Labels, place: ModelPlace) -> Result<(), NotSeen> {
    if labels.private.is_empty() || place == ModelPlace::Local {
        return Ok(());
    }
    Err(NotSeen { private: labels.private.clone() })
}

/// What to do with a tool call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Run it.
    Allow,
    /// Ask a person first.
    Ask(Ask),
}

/// Why a person is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// It cannot be taken back.
    Irreversible,
    /// It destroys something.
    Destructive,
    /// It changes something outside.
    External,
    /// It changes the agent's own space, and nothing is known that would take it back.
    NoUndo,
    /// It only looks, but what it looks for is seen outside, and that was decided from untrusted or private text.
    LabelledReachesOutside,
}

/// May this call act without a person's yes, where the owner has not said otherwise?
///
/// What only looks runs, and so does a write in the agent's own space that can be taken back. What cannot be taken back,
/// destroys, or changes something outside asks. What looks outside (a fetch tells its server what is looked for) asks once
/// anything untrusted or private is in play.
pub fn may_act(call: &Facts<'_>) -> Verdict {
    match (call.class, call.effect) {
        (Class::Irreversible, _) => Verdict::Ask(Ask::Irreversible),
        (_, Effect::Destructive) => Verdict::Ask(Ask::Destructive),
        (Class::Read, Effect::External) if call.labels.is_empty() => Verdict::Allow,
        (Class::Read, Effect::External) => Verdict::Ask(Ask::LabelledReachesOutside),
        (Class::Read, Effect::Read | Effect::Write) => Verdict::Allow,
        (Class::Idempotent | Class::Write, Effect::External) => Verdict::Ask(Ask::External),
        (Class::Idempotent | Class::Write, Effect::Read | Effect::Write) if call.reversible => Verdict::Allow,
        (Class::Idempotent | Class::Write, Effect::Read | Effect::Write) => Verdict::Ask(Ask::NoUndo),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn private_text_reaches_local_models_only() {
        let public = Labels::untrusted();
        let private = Labels::private(Category::Financial);
        assert_eq!(may_see(&public, ModelPlace::Cloud), Ok(()));
        assert_eq!(may_see(&private, ModelPlace::Local), Ok(()));
        let refused = may_see(&private, ModelPlace::Cloud).unwrap_err();
        assert_eq!(refused.private, BTreeSet::from([Category::Financial]));
    }

    #[test]
    fn acting_table() {
        let trusted = Labels::default();
        let tainted = Labels::untrusted();
        let private = Labels::private(Category::Health);
        let (undo, none) = (true, false);
        let rows = [
            (Class::Read, Effect::Read, none, &tainted, Verdict::Allow),
            (Class::Read, Effect::External, none, &trusted, Verdict::Allow),
            (Class::Read, Effect::External, none, &tainted, Verdict::Ask(Ask::LabelledReachesOutside)),
            (Class::Read, Effect::External, none, &private, Verdict::Ask(Ask::LabelledReachesOutside)),
            (Class::Read, Effect::Destructive, none, &trusted, Verdict::Ask(Ask::Destructive)),
            (Class::Write, Effect::Write, undo, &tainted, Verdict::Allow),
            (Class::Write, Effect::Write, none, &trusted, Verdict::Ask(Ask::NoUndo)),
            (Class::Idempotent, Effect::Write, undo, &trusted, Verdict::Allow),
            (Class::Idempotent, Effect::Write, none, &trusted, Verdict::Ask(Ask::NoUndo)),
            (Class::Write, Effect::External, undo, &trusted, Verdict::Ask(Ask::External)),
            (Class::Idempotent, Effect::External, undo, &trusted, Verdict::Ask(Ask::External)),
            (Class::Write, Effect::Destructive, undo, &trusted, Verdict::Ask(Ask::Destructive)),
            (Class::Irreversible, Effect::Write, undo, &trusted, Verdict::Ask(Ask::Irreversible)),
            // A tool that declares a write and only an effect of reading has declared too little.
            (Class::Write, Effect::Read, none, &trusted, Verdict::Ask(Ask::NoUndo)),
        ];
        for (class, effect, reversible, labels, want) in rows {
            let call = Facts {
                tool: "t",
                args: &Value::Null,
                class,
                effect,
                reversible,
                labels,
                role: "r",
                agent: "a",
                cost_nanos: 0,
                call_cost_nanos: None,
            };
            assert_eq!(may_act(&call), want, "{class:?} {effect:?} {reversible} {labels:?}");
        }
    }
}
