//! The two decisions over labels. Pure, closed and small on purpose: each is a table.

use crate::{Category, Class, Declaration, Effect, Labels};
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
    /// It reaches outside, and what it was decided from came from outside too.
    UntrustedReachesOutside,
    /// It destroys something.
    Destructive,
}

/// May this tool act, when what decided its arguments carries these labels?
///
/// Reads, and writes in the agent's own space, run (a write can be undone); irreversible and destructive calls ask
/// always; what reaches outside asks once anything untrusted has been read.
pub fn may_act(tool: &Declaration, decided_from: &Labels) -> Verdict {
    match (tool.class, tool.effect) {
        (Class::Irreversible, _) => Verdict::Ask(Ask::Irreversible),
        (_, Effect::Destructive) => Verdict::Ask(Ask::Destructive),
        (_, Effect::External) if decided_from.untrusted => Verdict::Ask(Ask::UntrustedReachesOutside),
        (_, Effect::Read | Effect::Write | Effect::External) => Verdict::Allow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let tool = |class, effect| Declaration { class, effect, ..Declaration::undeclared() };
        let rows = [
            (Class::Read, Effect::Read, &tainted, Verdict::Allow),
            (Class::Write, Effect::Write, &tainted, Verdict::Allow),
            (Class::Write, Effect::External, &trusted, Verdict::Allow),
            (Class::Write, Effect::External, &tainted, Verdict::Ask(Ask::UntrustedReachesOutside)),
            (Class::Read, Effect::External, &tainted, Verdict::Ask(Ask::UntrustedReachesOutside)),
            (Class::Irreversible, Effect::Write, &trusted, Verdict::Ask(Ask::Irreversible)),
            (Class::Write, Effect::Destructive, &trusted, Verdict::Ask(Ask::Destructive)),
        ];
        for (class, effect, labels, want) in rows {
            assert_eq!(may_act(&tool(class, effect), labels), want, "{class:?} {effect:?} {labels:?}");
        }
    }
}
