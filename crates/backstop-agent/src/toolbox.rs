//! The tools an agent has, by name, each with its compiled schema. Says what is wrong with arguments so that a model can
//! mend them; never runs a tool.

use crate::tool::Tool;
use backstop_call::ToolSpec;
use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// At most so many faults of one call are told at once.
const FAULTS_MAX: usize = 8;

/// Tools by name. Cheap to clone.
#[derive(Clone, Default)]
pub struct Toolbox {
    tools: BTreeMap<String, Registered>,
}

/// A tool that cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolboxError {
    /// Its name is taken: a tool never shadows another.
    #[error("there is a tool `{0}` already")]
    NameTaken(String),
    /// Its schema is no JSON Schema.
    #[error("the schema of tool `{tool}` is no JSON Schema: {reason}")]
    Schema {
        /// The tool.
        tool: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A tool with what is needed to check a call of it.
#[derive(Clone)]
pub(crate) struct Registered {
    pub(crate) tool: Arc<dyn Tool>,
    pub(crate) spec: ToolSpec,
    validator: Arc<Validator>,
}

impl Toolbox {
    /// A toolbox without tools: the model can only answer, or finish.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tool. The name `finish` is the run's own.
    pub fn add(&mut self, tool: impl Tool + 'static) -> Result<&mut Self, ToolboxError> {
        let spec = tool.spec();
        if self.tools.contains_key(&spec.name) || spec.name == crate::tools::FINISH {
            return Err(ToolboxError::NameTaken(spec.name));
        }
        let validator = compile(&spec.schema)
            .map_err(|reason| ToolboxError::Schema { tool: spec.name.clone(), reason })?;
        let name = spec.name.clone();
        self.tools.insert(name, Registered { tool: Arc::new(tool), spec, validator: Arc::new(validator) });
        Ok(self)
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tools.keys().map(String::as_str)
    }

    /// Whether there is a tool of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.tools.contains_key(name)
    }

    /// The tool of this name.
    pub fn tool(&self, name: &str) -> Option<Arc<dyn Tool>> {
        self.find(name).map(|registered| Arc::clone(&registered.tool))
    }

    /// Checks the arguments of a call by the tool's schema. The error is for the model.
    pub fn check(&self, name: &str, args: &Value) -> Result<(), String> {
        let registered = self.find(name).ok_or_else(|| format!("There is no tool `{name}`."))?;
        registered.check(args)
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Registered> {
        self.tools.get(name)
    }
}

impl Registered {
    /// Checks arguments; the error is for the model.
    pub(crate) fn check(&self, args: &Value) -> Result<(), String> {
        faults(&self.validator, &self.spec.schema, args)
            .map_err(|list| format!("The arguments do not fit the schema of {}:\n{list}", self.spec.name))
    }
}

/// Compiles a schema, or says why it is none.
pub(crate) fn compile(schema: &Value) -> Result<Validator, String> {
    jsonschema::validator_for(schema).map_err(|error| error.to_string())
}

/// Checks a value; the error lists each fault with its place and what is allowed there.
pub(crate) fn faults(validator: &Validator, schema: &Value, value: &Value) -> Result<(), String> {
    let mut errors = validator.iter_errors(value);
    let lines: Vec<_> = errors.by_ref().take(FAULTS_MAX).map(|error| fault(&error, schema)).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let more = if errors.next().is_some() { "\n- and more" } else { "" };
    Err(format!("{}{more}", lines.join("\n")))
}

fn fault(error: &ValidationError<'_>, schema: &Value) -> String {
    let place = error.instance_path().to_string();
    let place = if place.is_empty() { "the arguments".to_owned() } else { format!("`{place}`") };
    let allowed = match error.kind() {
        ValidationErrorKind::AdditionalProperties { .. }
        | ValidationErrorKind::UnevaluatedProperties { .. }
        | ValidationErrorKind::Required { .. } => allowed_properties(error, schema),
        _ => None,
    };
    match allowed {
        Some(names) => format!("- at {place}: {error}; it takes {names}"),
        None => format!("- at {place}: {error}"),
    }
}

/// The properties of the object schema in which the failing keyword stands.
fn allowed_properties(error: &ValidationError<'_>, schema: &Value) -> Option<String> {
    let keyword = error.schema_path().to_string();
    let (object, _) = keyword.rsplit_once('/')?;
    let object = schema.pointer(object)?;
    let required = object.get("required").and_then(Value::as_array);
    let is_required = |name: &str| required.is_some_and(|list| list.iter().any(|item| item == name));
    let properties = object.get("properties")?.as_object()?;
    let shown = |name: &String| {
        if is_required(name) { format!("`{name}` (required)") } else { format!("`{name}`") }
    };
    Some(properties.keys().map(shown).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn faults_say_where_what_and_what_is_allowed() {
        let schema = json!({
            "type": "object",
            "properties": {"path": {"type": "string"}, "mode": {"enum": ["a", "b"]}},
            "required": ["path"],
            "additionalProperties": false,
        });
        let validator = compile(&schema).unwrap();
        let check = |args: Value| faults(&validator, &schema, &args);
        assert_eq!(check(json!({"path": "x"})), Ok(()));
        expect_test::expect![[r#"
            - at the arguments: Additional properties are not allowed ('file' was unexpected); it takes `path` (required), `mode`
            - at the arguments: "path" is a required property; it takes `path` (required), `mode`"#]]
        .assert_eq(&check(json!({"file": "x"})).unwrap_err());
        expect_test::expect![[r#"
            - at `/path`: 7 is not of type "string"
            - at `/mode`: "c" is not one of "a" or "b""#]]
        .assert_eq(&check(json!({"path": 7, "mode": "c"})).unwrap_err());
        assert!(check(json!("{\"path\": ")).unwrap_err().contains("is not of type \"object\""));
        assert!(compile(&json!({"type": 3})).is_err());
    }
}
