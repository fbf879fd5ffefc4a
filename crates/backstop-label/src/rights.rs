//! What a role may do: its tools, and what their arguments may be. Rights only ever narrow: who acts for somebody else has
//! the rights of both, so a sub-agent can do nothing that its parent cannot.

use crate::{BadCondition, Condition, Facts, Undecided};
use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The tools of a role, as they are written down.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RightsText(pub BTreeMap<String, ConstraintText>);

/// What the arguments of one tool may be, as it is written down.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ConstraintText {
    /// Patterns by argument: each value of that argument must fit one of them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, Vec<String>>,
    /// A condition that must hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
}

/// The tools of a role, ready to be asked.
#[derive(Debug, Clone, Default)]
pub struct Rights {
    text: RightsText,
    tools: Vec<(Pattern, Constraint)>,
}

/// What the arguments of one tool may be.
#[derive(Debug, Clone, Default)]
pub struct Constraint {
    args: Vec<(String, Vec<Pattern>)>,
    when: Option<Condition>,
}

/// A pattern: `*` stands for anything but `/`, `**` for anything, `?` for one character.
#[derive(Debug, Clone)]
pub struct Pattern(GlobMatcher);

/// Rights that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRights {
    /// A pattern that is none.
    #[error("`{pattern}` is no pattern: {reason}")]
    Pattern {
        /// The text.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A condition that is none.
    #[error(transparent)]
    Condition(#[from] BadCondition),
}

/// Why a call is not within the rights. The text is for the model, and says what would be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lacking {
    /// The role does not have the tool.
    #[error("this role has no tool `{0}`")]
    Tool(String),
    /// An argument is outside what is allowed.
    #[error("`{arg}` may be {}, and is `{value}`", allowed.join(" or "))]
    Argument {
        /// The argument.
        arg: String,
        /// Its value, or that of it which does not fit.
        value: String,
        /// What is allowed.
        allowed: Vec<String>,
    },
    /// The condition does not hold.
    #[error("it is allowed only when {0}")]
    Condition(String),
    /// Whether the condition holds cannot be said.
    #[error(transparent)]
    Undecided(#[from] Undecided),
}

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, BadRights> {
        let bad = |error: globset::Error| BadRights::Pattern {
            pattern: text.to_owned(),
            reason: error.kind().to_string(),
        };
        let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build();
        Ok(Self(glob.map_err(bad)?.compile_matcher()))
    }

    /// The pattern that fits this text and no other.
    pub fn exactly(text: &str) -> String {
        globset::escape(text).replace('\\', "\\\\")
    }

    /// Whether a text fits.
    pub fn fits(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        self.0.glob().glob()
    }
}

impl Rights {
    /// Compiles rights.
    pub fn parse(text: &RightsText) -> Result<Self, BadRights> {
        let compile = |(tool, constraint): (&String, &ConstraintText)| {
            Ok((Pattern::parse(tool)?, Constraint::parse(constraint)?))
        };
        let tools = text.0.iter().map(compile).collect::<Result<_, BadRights>>()?;
        Ok(Self { text: text.clone(), tools })
    }

    /// As they were written.
    pub fn text(&self) -> &RightsText {
        &self.text
    }

    /// Whether the role has this tool at all: one that it lacks it never sees.
    pub fn has(&self, tool: &str) -> bool {
        self.tools.iter().any(|(pattern, _)| pattern.fits(tool))
    }

    /// Whether they look at arguments.
    pub fn look_at_arguments(&self) -> bool {
        self.tools.iter().any(|(_, constraint)| !constraint.args.is_empty() || constraint.when.is_some())
    }

    /// Whether a call is within the rights. Where several patterns fit the tool, one that allows the call is enough.
    pub fn permit(&self, facts: &Facts<'_>) -> Result<(), Lacking> {
        let mut lacking = Lacking::Tool(facts.tool.to_owned());
        for (pattern, constraint) in &self.tools {
            if !pattern.fits(facts.tool) {
                continue;
            }
            match constraint.permit(facts) {
                Ok(()) => return Ok(()),
                Err(more) => lacking = more,
            }
        }
        Err(lacking)
    }
}

impl Constraint {
    /// Compiles a constraint.
    pub fn parse(text: &ConstraintText) -> Result<Self, BadRights> {
        let patterns = |(arg, patterns): (&String, &Vec<String>)| {
            let patterns =
                patterns.iter().map(|pattern| Pattern::parse(pattern)).collect::<Result<_, _>>()?;
            Ok((arg.clone(), patterns))
        };
        Ok(Self {
            args: text.args.iter().map(patterns).collect::<Result<_, BadRights>>()?,
            when: text.when.as_deref().map(Condition::parse).transpose()?,
        })
    }

    /// Whether the arguments of a call are within it. An argument that is left out is.
    pub fn permit(&self, facts: &Facts<'_>) -> Result<(), Lacking> {
        for (arg, patterns) in &self.args {
            let Some(value) = facts.args.get(arg) else { continue };
            if let Some(value) = outside(value, patterns) {
                let allowed = patterns.iter().map(|pattern| format!("`{}`", pattern.text())).collect();
                return Err(Lacking::Argument { arg: arg.clone(), value, allowed });
            }
        }
        match &self.when {
            Some(condition) if !condition.holds(facts)? => {
                Err(Lacking::Condition(condition.text().to_owned()))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// The first value of an argument that fits no pattern. Of a list each element must fit; of anything that is neither text
/// nor number, its JSON.
fn outside(value: &Value, patterns: &[Pattern]) -> Option<String> {
    let text = match value {
        Value::Array(elements) => return elements.iter().find_map(|element| outside(element, patterns)),
        Value::Null => return None,
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    };
    let fits = patterns.iter().any(|pattern| pattern.fits(&text));
    (!fits).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Class, Effect, Labels};
    use serde_json::json;

    fn rights(text: Value) -> Rights {
        Rights::parse(&serde_json::from_value(text).unwrap()).unwrap()
    }

    fn permitted(rights: &Rights, tool: &str, args: &Value) -> Result<(), String> {
        let facts = Facts {
            tool,
            args,
            class: Class::Write,
            effect: Effect::External,
            reversible: false,
            labels: &Labels::default(),
            role: "clerk",
            agent: "a",
            cost_nanos: 0,
            call_cost_nanos: None,
        };
        rights.permit(&facts).map_err(|lacking| lacking.to_string())
    }

    #[test]
    fn tools_and_their_arguments() {
        let clerk = rights(json!({
            "read_file": {},
            "write_file": {"args": {"path": ["docs/**", "*.md"]}},
            "send_email": {"args": {"to": ["*@one.example"]}, "when": "size(args.to) <= 2"},
            "pay": {"when": "args.amount <= 20"},
            "jira__*": {},
        }));
        let rows = [
            ("read_file", json!({"path": "/etc/passwd"}), ""),
            ("write_file", json!({"path": "docs/deep/a.txt"}), ""),
            ("write_file", json!({"path": "a.md"}), ""),
            (
                "write_file",
                json!({"path": "src/a.md"}),
                "`path` may be `docs/**` or `*.md`, and is `src/a.md`",
            ),
            ("send_email", json!({"to": ["a@one.example", "b@one.example"]}), ""),
            (
                "send_email",
                json!({"to": ["a@one.example", "x@two.example"]}),
                "`to` may be `*@one.example`, and is `x@two.example`",
            ),
            (
                "send_email",
                json!({"to": ["a@one.example", "b@one.example", "c@one.example"]}),
                "it is allowed only when size(args.to) <= 2",
            ),
            ("pay", json!({"amount": 20}), ""),
            ("pay", json!({"amount": 21}), "it is allowed only when args.amount <= 20"),
            ("pay", json!({}), "`args.amount <= 20` cannot be worked out here: No such key: amount"),
            ("jira__close", json!({}), ""),
            ("delete_file", json!({}), "this role has no tool `delete_file`"),
        ];
        for (tool, args, want) in rows {
            let told = permitted(&clerk, tool, &args).err().unwrap_or_default();
            assert_eq!(told, want, "{tool} {args}");
        }
        assert!(clerk.has("jira__close") && !clerk.has("delete_file"));
    }

    #[test]
    fn an_exact_pattern_fits_its_text_alone() {
        for text in ["a*b", "[x]", "{a,b}", "q?", "back\\slash"] {
            let pattern = Pattern::parse(&Pattern::exactly(text)).unwrap();
            assert!(pattern.fits(text), "{text}");
            assert!(
                !pattern.fits(&format!("{text}z")) && !pattern.fits("axb") && !pattern.fits("x"),
                "{text}"
            );
        }
        assert!(Pattern::parse("[").is_err());
    }
}
