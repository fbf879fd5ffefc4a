//! `submit_task`: puts a task of another agent into the queue. What the model is told of it, and what policy needs to know; the
//! run itself carries it out, since what it makes is a run that it pays for.

use super::delegate::{declaration, described};
use crate::delegation::SUBMIT;
use crate::tool::{Job, Tool, ToolContext, ToolError, ToolOutput, spec_of};
use backstop_call::{BoxFuture, ToolSpec};
use backstop_label::Declaration;
use schemars::JsonSchema;
use serde::Deserialize;

const DESCRIPTION: &str = "Put a task of another agent into the queue, and go on without waiting for it. It is done later, in the \
    same directory; nobody tells you what came of it, and it knows nothing of this conversation but what you write. Its dollars \
    are taken from yours.";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used; the arguments are read where the task is put in")]
struct Args {
    /// The agent.
    agent: String,
    /// The task, with all that the agent must know to do it.
    task: String,
}

/// The tool.
pub struct SubmitTask {
    spec: ToolSpec,
    declaration: Declaration,
}

impl SubmitTask {
    /// The tool for these agents: each with its name, and what it is for.
    pub fn to<'a>(agents: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        Self { spec: spec(agents), declaration: declaration() }
    }
}

/// What a model is told of it that may submit tasks of these agents.
pub(crate) fn spec<'a>(agents: impl Iterator<Item = (&'a str, &'a str)>) -> ToolSpec {
    described(spec_of::<Args>(SUBMIT, DESCRIPTION), agents)
}

impl Tool for SubmitTask {
    fn spec(&self) -> ToolSpec {
        self.spec.clone()
    }

    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn run<'a>(&'a self, _: &'a Job, _: &'a ToolContext) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        let outside = "Only a run can submit a task that it pays for.".to_owned();
        Box::pin(async { Err(ToolError::Failed(outside)) })
    }
}
