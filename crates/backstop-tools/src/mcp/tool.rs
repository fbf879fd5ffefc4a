//! A tool of a server's as a run calls it. What is certain not to have been done has failed; everything else that went wrong
//! is unknown.

use super::answer::{Told, told};
use super::server::{Inner, Offer};
use super::session::{Fault, Request};
use super::text::visible;
use backstop_agent::tool::Job;
use backstop_agent::{Plan, Tool, ToolContext, ToolError, ToolOutput};
use backstop_call::{BoxFuture, ToolSpec};
use backstop_label::{Class, Declaration};
use serde_json::{Value, json};
use std::sync::Arc;

/// A tool of an MCP server, as it was when it was offered.
pub(super) struct McpTool {
    server: Arc<Inner>,
    offer: Arc<Offer>,
    spec: ToolSpec,
    declaration: Declaration,
}

impl McpTool {
    pub(super) fn new(server: Arc<Inner>, offer: Arc<Offer>, declaration: Declaration) -> Self {
        let spec = offer.definition.spec(server.name());
        Self { server, offer, spec, declaration }
    }

    /// What a call that got no answer of use means for the run.
    fn failed(&self, fault: &Fault) -> ToolError {
        let server = self.server.name();
        if fault.is_undone() {
            return ToolError::Failed(format!("Not done: the MCP server {server}: {fault}."));
        }
        match self.declaration.class {
            Class::Read => ToolError::Failed(format!(
                "No result: the MCP server {server}: {fault}. The call changes nothing; you may make it again."
            )),
            Class::Idempotent | Class::Write | Class::Irreversible => ToolError::Unknown(format!(
                "the MCP server {server} had been given the call: {fault}; it may have been carried out"
            )),
        }
    }
}

impl Tool for McpTool {
    fn spec(&self) -> ToolSpec {
        self.spec.clone()
    }

    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    /// Nothing is asked of the server: only it knows what it would do.
    fn plan<'a>(&'a self, args: &'a Value, _: &'a ToolContext) -> BoxFuture<'a, Result<Plan, ToolError>> {
        Box::pin(async move {
            let server = self.server.name();
            let changes = self.declaration.class != Class::Read;
            Ok(Plan {
                body: json!({"definition": self.offer.hash}),
                // What one call of a server does to another is known to nobody.
                touches: changes.then(|| format!("mcp:{server}")),
                preview: visible(&format!(
                    "MCP server {server}, tool {}:\n{args:#}\n",
                    self.offer.definition.name
                )),
                undo: None,
                effect: None,
            })
        })
    }

    fn run<'a>(&'a self, job: &'a Job, _: &'a ToolContext) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(async move {
            let Value::Object(args) = &job.args else {
                return Err(ToolError::Failed("The arguments must be an object.".to_owned()));
            };
            if job.plan["definition"] != self.offer.hash.as_str() {
                return Err(ToolError::Failed(format!(
                    "Not done: {} was planned when the server defined it otherwise. Call it anew.",
                    self.spec.name
                )));
            }
            let request = Request { tool: &self.offer.definition.name, args, key: &job.key };
            let answer =
                self.server.call(request, &self.offer.hash).await.map_err(|fault| self.failed(&fault))?;
            let max_bytes = self.server.result_max_bytes();
            match told(answer, self.offer.output.as_ref(), self.declaration.class, max_bytes) {
                Told::Result(output) => Ok(output),
                Told::Nothing(text) => Err(ToolError::Failed(text)),
            }
        })
    }

    fn has_more(&self) -> bool {
        true
    }
}
