//! Conditions in config, in the Common Expression Language. A condition looks at [`Facts`] and says yes or no; what
//! follows from a condition that cannot be worked out is the caller's decision, and fails closed there.

use crate::{Class, Effect, Labels};
use serde::Serialize;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

/// What is known about a tool call when it is decided on.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The tool.
    pub tool: &'a str,
    /// Its arguments.
    pub args: &'a Value,
    /// What a crash allows.
    pub class: Class,
    /// How far this call reaches.
    pub effect: Effect,
    /// Whether it can be taken back.
    pub reversible: bool,
    /// The labels of what it was decided from.
    pub labels: &'a Labels,
    /// The role it is made in.
    pub role: &'a str,
    /// The agent that makes it.
    pub agent: &'a str,
    /// What its run has cost so far, in nano-dollars.
    pub cost_nanos: i64,
    /// The most that the call itself may cost, in nano-dollars; `None` where nobody knows.
    pub call_cost_nanos: Option<i64>,
}

/// The names that a condition may use.
const VARIABLES: &[&str] = &[
    "tool",
    "args",
    "class",
    "effect",
    "reversible",
    "untrusted",
    "private",
    "role",
    "agent",
    "cost",
    "call_cost",
];

/// An expression that says yes or no, compiled: the same language wherever config has one.
#[derive(Clone)]
pub struct Expression {
    text: String,
    program: Arc<cel::Program>,
}

/// A condition on tool calls, compiled.
#[derive(Clone, PartialEq)]
pub struct Condition(Expression);

/// A text that is no condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCondition {
    /// It cannot be read.
    #[error("`{text}` is no condition: {reason}")]
    Syntax {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It names something that there is nothing of.
    #[error("`{text}` uses `{name}`; there are {there}")]
    UnknownName {
        /// The text.
        text: String,
        /// The name.
        name: String,
        /// The names that it may use.
        there: String,
    },
}

/// A condition that gave neither yes nor no for these facts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` cannot be worked out here: {reason}")]
pub struct Undecided {
    /// The condition.
    pub text: String,
    /// Why.
    pub reason: String,
}

impl Expression {
    /// Compiles an expression that may use these names.
    pub fn parse(text: &str, names: &[&str]) -> Result<Self, BadCondition> {
        let syntax = |reason: String| BadCondition::Syntax { text: text.to_owned(), reason };
        let program = cel::Program::compile(text).map_err(|errors| syntax(one_line(&errors.to_string())))?;
        if let Some(name) = unknown_name(text, &program, names) {
            return Err(BadCondition::UnknownName { text: text.to_owned(), name, there: names.join(", ") });
        }
        Ok(Self { text: text.to_owned(), program: Arc::new(program) })
    }

    /// Whether it holds, where each name has this value.
    pub fn holds<'a>(
        &self,
        values: impl IntoIterator<Item = (&'a str, &'a Value)>,
    ) -> Result<bool, Undecided> {
        self.decide(values.into_iter().map(|(name, value_of)| (name, value(value_of))))
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn decide<'a>(&self, values: impl Iterator<Item = (&'a str, cel::Value)>) -> Result<bool, Undecided> {
        let undecided = |reason: String| Undecided { text: self.text.clone(), reason: one_line(&reason) };
        let mut context = cel::Context::default();
        for (name, value) in values {
            context.add_variable(name, value).map_err(|error| undecided(error.to_string()))?;
        }
        match self.program.execute(&context) {
            Ok(cel::Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(undecided(format!("it gives {other:?}, not true or false"))),
            Err(error) => Err(undecided(error.to_string())),
        }
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Condition {
    /// Compiles a condition: `args.amount > 100 && !reversible`. It may use `tool`, `args`, `class`, `effect`, `reversible`,
    /// `untrusted`, `private` (a list of categories), `role`, `agent`, `cost` (of the run so far, in dollars) and `call_cost`
    /// (the most that the call itself may cost, in dollars; null, with which nothing can be compared, where nobody knows).
    pub fn parse(text: &str) -> Result<Self, BadCondition> {
        Expression::parse(text, VARIABLES).map(Self)
    }

    /// Whether it holds.
    pub fn holds(&self, facts: &Facts<'_>) -> Result<bool, Undecided> {
        self.0.decide(variables(facts).into_iter())
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        self.0.text()
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition").field(&self.text()).finish()
    }
}

fn variables(facts: &Facts<'_>) -> [(&'static str, cel::Value); 11] {
    let private: Vec<_> = facts.labels.private.iter().map(crate::Category::as_str).collect();
    [
        ("tool", value(&facts.tool)),
        ("args", value(facts.args)),
        ("class", value(&facts.class)),
        ("effect", value(&facts.effect)),
        ("reversible", value(&facts.reversible)),
        ("untrusted", value(&facts.labels.untrusted)),
        ("private", value(&private)),
        ("role", value(&facts.role)),
        ("agent", value(&facts.agent)),
        ("cost", value(&dollars(facts.cost_nanos))),
        ("call_cost", value(&facts.call_cost_nanos.map(dollars))),
    ]
}

/// Whatever cannot be said in the expression language is null there, with which nothing can be compared.
fn value<T: Serialize + ?Sized>(of: &T) -> cel::Value {
    cel::to_value(of).unwrap_or(cel::Value::Null)
}

/// For comparing only: no amount is ever made of it.
#[expect(clippy::cast_precision_loss, reason = "exact to a nano-dollar up to nine million dollars")]
fn dollars(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}

/// A name that is no variable of ours, and that no macro of the expression binds, as `x` is in `args.to.all(x, …)`.
fn unknown_name(text: &str, program: &cel::Program, there: &[&str]) -> Option<String> {
    let dense: String = text.chars().filter(|character| !character.is_whitespace()).collect();
    let bound = |name: &str| dense.contains(&format!("({name},"));
    let references = program.references();
    let mut names = references.variables();
    names.sort_unstable();
    names.into_iter().find(|name| !there.contains(name) && !bound(name)).map(str::to_owned)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Category;
    use serde_json::json;

    #[test]
    fn conditions_over_one_call() {
        let labels = Labels::untrusted().joined(&Labels::private(Category::Health));
        let args = json!({"amount": 20, "share": 1.5, "to": ["a@one.example", "b@one.example"], "path": "docs/a.md"});
        let facts = Facts {
            tool: "pay",
            args: &args,
            class: Class::Irreversible,
            effect: Effect::External,
            reversible: false,
            labels: &labels,
            role: "clerk",
            agent: "bookkeeper",
            cost_nanos: 1_500_000_000,
            call_cost_nanos: Some(250_000_000),
        };
        let rows = [
            ("args.amount <= 20", Ok(true)),
            ("args.amount > 20", Ok(false)),
            ("args.share < 2", Ok(true)),
            ("args.to.all(x, x.endsWith('@one.example'))", Ok(true)),
            ("size(args.to) > 1 && has(args.path)", Ok(true)),
            ("args.path.startsWith('docs/') && args.path.matches('[.]md$')", Ok(true)),
            ("has(args.cc) && size(args.cc) > 0", Ok(false)),
            ("tool == 'pay' && class == 'irreversible' && effect == 'external' && !reversible", Ok(true)),
            ("untrusted && 'health' in private", Ok(true)),
            ("role == 'clerk' && agent == 'bookkeeper'", Ok(true)),
            ("cost > 1", Ok(true)),
            ("cost > 1.5", Ok(false)),
            ("call_cost > 0.2 && call_cost <= 0.25", Ok(true)),
            ("args.nowhere == 1", Err("`args.nowhere == 1` cannot be worked out here: No such key: nowhere")),
            (
                "args.amount",
                Err("`args.amount` cannot be worked out here: it gives UInt(20), not true or false"),
            ),
        ];
        for (text, want) in rows {
            let held = Condition::parse(text).unwrap().holds(&facts).map_err(|error| error.to_string());
            assert_eq!(held, want.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn what_is_no_condition_is_told() {
        let told = |text: &str| Condition::parse(text).unwrap_err().to_string();
        assert!(told("args.amount >").starts_with("`args.amount >` is no condition: "));
        assert_eq!(
            told("amount > 3"),
            "`amount > 3` uses `amount`; there are tool, args, class, effect, reversible, untrusted, private, role, \
             agent, cost, call_cost"
        );
        assert!(told("args.to.all(x, y == 1)").contains("uses `y`"));
    }
}
