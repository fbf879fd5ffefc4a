//! Whether a call runs, asks or is refused: the rights of its role, then the owner's gates in their order, then the
//! default. Pure; what is not said counts as the worst, and what cannot be worked out is never a yes.

use crate::{
    Ask, Class, Condition, ConstraintText, Effect, Facts, Lacking, Pattern, Rights, RightsText, Verdict,
    may_act,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a question stands when no gate says otherwise.
pub const ASK_EXPIRES: Duration = Duration::from_hours(24);

/// What a gate does with a call that it fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Runs it.
    Allow,
    /// Asks a person first.
    Ask,
    /// Refuses it.
    Deny,
}

/// A rule of the owner's. It fits a call that fits everything it names; a list that is empty names nothing.
#[derive(Debug, Clone)]
pub struct Gate {
    /// Its name, for the question and the audit.
    pub name: String,
    /// Tools.
    pub tools: Vec<Pattern>,
    /// Classes.
    pub classes: Vec<Class>,
    /// How far the call reaches.
    pub effects: Vec<Effect>,
    /// A condition.
    pub when: Option<Condition>,
    /// Whether an [`Action::Allow`] also holds for calls that were decided from untrusted or private text.
    pub labelled: bool,
    /// What it does.
    pub then: Action,
    /// How long its question stands.
    pub expires: Duration,
}

/// What may be done: by role, and by the gates.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// The rights of the roles. A role that is not named here may use the tools that its agent lists.
    pub roles: BTreeMap<String, Rights>,
    /// The gates, in the order they are asked. The first that fits decides.
    pub gates: Vec<Gate>,
}

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It runs.
    Run,
    /// A person is asked.
    Ask {
        /// Why, in words.
        why: String,
        /// How long the question stands.
        expires: Duration,
    },
    /// It is refused.
    Deny {
        /// Why, in words.
        why: String,
    },
}

impl Policy {
    /// Whether the role has this tool at all.
    pub fn has(&self, role: &str, tool: &str) -> bool {
        self.roles.get(role).is_none_or(|rights| rights.has(tool))
    }

    /// Whether what an argument says decides what a role may do: then a path must mean the file that it names, and no other
    /// by way of a link.
    pub fn looks_at_arguments(&self, role: &str, bounds: &[Rights]) -> bool {
        let rights = self.roles.get(role).into_iter().chain(bounds).any(Rights::look_at_arguments);
        rights || self.gates.iter().any(|gate| gate.when.is_some())
    }

    /// The rights that bound whoever does a part for a run: those that bound the run itself, and those of its role; where its
    /// role has none, the tools that it lists.
    pub fn handed_on(&self, role: &str, tools: &[String], bounds: &[RightsText]) -> Vec<RightsText> {
        let any = |tool: &String| (Pattern::exactly(tool), ConstraintText::default());
        let own = self.roles.get(role).map(|rights| rights.text().clone());
        let own = own.unwrap_or_else(|| RightsText(tools.iter().map(any).collect()));
        let is_new = !bounds.contains(&own);
        bounds.iter().cloned().chain(is_new.then_some(own)).collect()
    }

    /// What becomes of a call. `bounds` are rights that hold beside those of the role: what the run was given when it was
    /// created, and what those have for whom it acts.
    pub fn decide(&self, facts: &Facts<'_>, bounds: &[Rights]) -> Decision {
        if let Err(lacking) = self.permit(facts, bounds) {
            return Decision::Deny { why: lacking.to_string() };
        }
        match self.gates.iter().find(|gate| gate.fits(facts)) {
            Some(gate) => gate.decision(facts),
            None => default(facts),
        }
    }
}

impl Policy {
    /// Whether the rights allow a call. It is asked once before the call is worked out, so that what a role may not do
    /// tells it nothing either, and once more by [`Policy::decide`], when it is known what the call would do.
    pub fn permit(&self, facts: &Facts<'_>, bounds: &[Rights]) -> Result<(), Lacking> {
        let own = self.roles.get(facts.role);
        own.into_iter().chain(bounds).try_for_each(|rights| rights.permit(facts))
    }
}

impl Gate {
    /// Whether it is about a call.
    pub fn fits(&self, facts: &Facts<'_>) -> bool {
        let tool = self.tools.is_empty() || self.tools.iter().any(|pattern| pattern.fits(facts.tool));
        let class = self.classes.is_empty() || self.classes.contains(&facts.class);
        let effect = self.effects.is_empty() || self.effects.contains(&facts.effect);
        let allows = self.then == Action::Allow;
        let labels = !allows || self.labelled || facts.labels.is_empty();
        // A condition that cannot be worked out opens nothing, and lets nothing by.
        let when = |condition: &Condition| condition.holds(facts).unwrap_or(!allows);
        tool && class && effect && labels && self.when.as_ref().is_none_or(when)
    }

    fn decision(&self, facts: &Facts<'_>) -> Decision {
        match self.then {
            Action::Allow => Decision::Run,
            Action::Deny => Decision::Deny { why: format!("the rule `{}` forbids it", self.name) },
            Action::Ask => {
                let by_default = match default(facts) {
                    Decision::Ask { why, .. } => format!("; {why}"),
                    Decision::Run | Decision::Deny { .. } => String::new(),
                };
                let why = format!("the rule `{}` asks{by_default}", self.name);
                Decision::Ask { why, expires: self.expires }
            }
        }
    }
}

/// What holds where no gate fits.
fn default(facts: &Facts<'_>) -> Decision {
    match may_act(facts) {
        Verdict::Allow => Decision::Run,
        Verdict::Ask(ask) => Decision::Ask { why: because(ask).to_owned(), expires: ASK_EXPIRES },
    }
}

fn because(ask: Ask) -> &'static str {
    match ask {
        Ask::Irreversible => "it cannot be taken back",
        Ask::Destructive => "it destroys something",
        Ask::External => "it reaches somebody or something outside",
        Ask::NoUndo => "nothing is known that would take it back",
        Ask::LabelledReachesOutside => "it reaches outside, and what decided it is untrusted or private",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Labels;
    use serde_json::{Value, json};

    fn gate(name: &str, tools: &[&str], when: Option<&str>, then: Action) -> Gate {
        Gate {
            name: name.into(),
            tools: tools.iter().map(|tool| Pattern::parse(tool).unwrap()).collect(),
            classes: Vec::new(),
            effects: Vec::new(),
            when: when.map(|text| Condition::parse(text).unwrap()),
            labelled: false,
            then,
            expires: Duration::from_mins(5),
        }
    }

    fn facts<'a>(tool: &'a str, args: &'a Value, labels: &'a Labels) -> Facts<'a> {
        Facts {
            tool,
            args,
            class: Class::Write,
            effect: Effect::External,
            reversible: false,
            labels,
            role: "clerk",
            agent: "a",
            cost_nanos: 0,
            call_cost_nanos: None,
        }
    }

    fn told(decision: &Decision) -> String {
        match decision {
            Decision::Run => "run".to_owned(),
            Decision::Ask { why, .. } => format!("ask: {why}"),
            Decision::Deny { why } => format!("deny: {why}"),
        }
    }

    #[test]
    fn the_first_gate_that_fits_decides() {
        let policy = Policy {
            gates: vec![
                gate("small", &["pay"], Some("args.amount <= 20"), Action::Allow),
                gate("huge", &["pay"], Some("args.amount > 1000"), Action::Deny),
                gate("posts", &["post_*"], None, Action::Ask),
            ],
            ..Policy::default()
        };
        let (trusted, untrusted) = (Labels::default(), Labels::untrusted());
        let rows = [
            ("pay", json!({"amount": 5}), &trusted, "run"),
            ("pay", json!({"amount": 5}), &untrusted, "ask: it reaches somebody or something outside"),
            ("pay", json!({"amount": 50}), &trusted, "ask: it reaches somebody or something outside"),
            ("pay", json!({"amount": 5000}), &trusted, "deny: the rule `huge` forbids it"),
            // What cannot be worked out opens nothing, and lets nothing by.
            ("pay", json!({}), &trusted, "deny: the rule `huge` forbids it"),
            (
                "post_note",
                json!({}),
                &trusted,
                "ask: the rule `posts` asks; it reaches somebody or something outside",
            ),
        ];
        for (tool, args, labels, want) in rows {
            assert_eq!(
                told(&policy.decide(&facts(tool, &args, labels), &[])),
                want,
                "{tool} {args} {labels:?}"
            );
        }
    }

    #[test]
    fn rights_come_before_gates_and_every_bound_holds() {
        let only = |tool: &str, when: &str| {
            let constraint = ConstraintText { when: Some(when.into()), ..ConstraintText::default() };
            Rights::parse(&RightsText([(tool.to_owned(), constraint)].into())).unwrap()
        };
        let policy = Policy {
            roles: [("clerk".to_owned(), only("pay", "args.amount <= 100"))].into(),
            gates: vec![gate("all", &[], None, Action::Allow)],
        };
        let labels = Labels::default();
        let parents = [only("*", "args.amount <= 50")];
        let rows = [
            ("pay", json!({"amount": 50}), "run"),
            ("pay", json!({"amount": 51}), "deny: it is allowed only when args.amount <= 50"),
            ("pay", json!({"amount": 101}), "deny: it is allowed only when args.amount <= 100"),
            ("send", json!({"amount": 1}), "deny: this role has no tool `send`"),
        ];
        for (tool, args, want) in rows {
            assert_eq!(told(&policy.decide(&facts(tool, &args, &labels), &parents)), want, "{tool} {args}");
        }
        assert!(policy.has("other", "send") && !policy.has("clerk", "send"));
    }

    #[test]
    fn what_a_run_hands_on_is_what_bounds_it_and_what_it_may_itself() {
        let text = |value: Value| -> RightsText { serde_json::from_value(value).unwrap() };
        let own = text(json!({"pay": {"when": "args.amount <= 100"}}));
        let above = text(json!({"*": {}}));
        let roles = [("clerk".to_owned(), Rights::parse(&own).unwrap())].into();
        let policy = Policy { roles, gates: Vec::new() };
        let tools = ["pay".to_owned(), "mcp__[x]".to_owned()];
        let listed = text(json!({"pay": {}, "mcp__[[]x[]]": {}}));
        let rows = [
            ("clerk", vec![], vec![own.clone()]),
            ("clerk", vec![above.clone()], vec![above.clone(), own.clone()]),
            // It stands there already, since the run was created.
            ("clerk", vec![own.clone()], vec![own.clone()]),
            // A role without rights may use what its agent lists, each by its exact name.
            ("other", vec![above.clone()], vec![above, listed]),
        ];
        for (role, bounds, want) in rows {
            assert_eq!(policy.handed_on(role, &tools, &bounds), want, "{role}");
        }
        let rights = Rights::parse(&policy.handed_on("other", &tools, &[])[0]).unwrap();
        assert!(rights.has("mcp__[x]") && rights.has("pay") && !rights.has("mcp__x"));
    }
}
