//! `delegate`: has another agent do a part. What the model is told of it, and what policy needs to know; the run itself carries
//! it out, since what does the part is another run.

use crate::delegation::DELEGATE;
use crate::tool::{Job, Rehearsal, Tool, ToolContext, ToolError, ToolOutput, spec_of};
use backstop_call::{BoxFuture, ToolSpec};
use backstop_label::{ArgRole, Class, Confidentiality, Declaration, Effect, Integrity};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

const DESCRIPTION: &str = "Have another agent do a part of the task, and get its result. It works in the same directory, and \
    knows nothing of this conversation but what you write. Its work counts in your limits.";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used; the arguments are read where the part is given out")]
struct Args {
    /// The agent.
    agent: String,
    /// The part, with all that the agent must know to do it, and what you want to be told at the end.
    task: String,
}

/// The tool.
pub struct Delegate {
    spec: ToolSpec,
    declaration: Declaration,
}

impl Delegate {
    /// The tool for these agents: each with its name, and what it is for.
    pub fn to<'a>(agents: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        Self { spec: spec(agents), declaration: declaration() }
    }
}

/// What a model is told of it that may give parts to these agents.
pub(crate) fn spec<'a>(agents: impl Iterator<Item = (&'a str, &'a str)>) -> ToolSpec {
    described(spec_of::<Args>(DELEGATE, DESCRIPTION), agents)
}

/// What a model is told of a tool whose argument `agent` is one of these.
pub(crate) fn described<'a>(
    mut spec: ToolSpec,
    agents: impl Iterator<Item = (&'a str, &'a str)>,
) -> ToolSpec {
    let (names, lines): (Vec<_>, Vec<_>) =
        agents.map(|(name, about)| (name, format!("{name}: {}", about.trim()))).unzip();
    spec.schema["properties"]["agent"] = json!({
        "type": "string",
        "enum": names,
        "description": format!("The agent. There are:\n{}", lines.join("\n")),
    });
    spec
}

/// What policy needs to know of a tool that has another agent do something.
pub(crate) fn declaration() -> Declaration {
    Declaration {
        // The other run is known by the call: however often it is given out, there is one.
        class: Class::Idempotent,
        // What the other run does beyond that asks by itself.
        effect: Effect::Write,
        args: [("agent".to_owned(), ArgRole::Sink), ("task".to_owned(), ArgRole::Content)].into(),
        // The answer has the labels of all that the other run has read.
        integrity: Integrity::Trusted,
        confidentiality: Confidentiality::Public,
    }
}

impl Tool for Delegate {
    fn spec(&self) -> ToolSpec {
        self.spec.clone()
    }

    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn run<'a>(&'a self, _: &'a Job, _: &'a ToolContext) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        let outside = "Only a run can give out a part of itself.".to_owned();
        Box::pin(async { Err(ToolError::Failed(outside)) })
    }

    fn rehearsal(&self) -> Rehearsal {
        Rehearsal::OnCopy
    }
}
