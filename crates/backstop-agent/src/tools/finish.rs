//! `finish`: ends the run with a result that fits the schema the run was given. Pure; the run itself executes it.

use crate::state::{RunState, Stage};
use crate::toolbox::{compile, faults};
use backstop_call::ToolSpec;
use serde_json::{Value, json};

/// What the model is told of `finish` when the result must fit this schema.
pub(crate) fn spec(result_schema: Option<&Value>) -> ToolSpec {
    let result = result_schema
        .cloned()
        .unwrap_or_else(|| json!({ "description": "The result, when it is more than the summary says." }));
    let required = if result_schema.is_some() { json!(["summary", "result"]) } else { json!(["summary"]) };
    ToolSpec {
        name: super::FINISH.to_owned(),
        description:
            "End the task. Call it once, alone, when everything is done or when it is certain that it cannot \
                      be done."
                .to_owned(),
        schema: json!({
            "type": "object",
            "properties": {
                "summary": {
                    "type": "string",
                    "description": "What was done, in a few sentences; or why it cannot be done.",
                },
                "result": result,
                "failed": {
                    "type": "boolean",
                    "description": "True when the task cannot be done. Leave it out otherwise.",
                },
            },
            "required": required,
            "additionalProperties": false,
        }),
        other: serde_json::Map::new(),
    }
}

/// Whether this `finish` is accepted; the error is for the model.
pub(crate) fn check(state: &RunState, id: &str, args: &Value) -> Result<(), String> {
    let failed_beside = state
        .turn_calls()
        .iter()
        .any(|call| call.id != id && matches!(call.stage, Stage::Finished { is_error: true, .. }));
    if failed_beside {
        return Err(
            "Not finished: another call of this turn failed. Look at its result, then call finish again, \
                    alone."
                .to_owned(),
        );
    }
    let gave_up = args.get("failed").and_then(Value::as_bool).unwrap_or(false);
    let wanted = state.created.as_ref().and_then(|created| created.result_schema.as_ref());
    let schema = spec(wanted.filter(|_| !gave_up)).schema;
    let validator =
        compile(&schema).map_err(|error| format!("The result schema of this run is broken: {error}."))?;
    faults(&validator, &schema, args).map_err(|list| {
        format!("Not finished: the arguments do not fit.\n{list}\nCall finish again with what fits.")
    })
}
