//! `write_file`: makes a file, or replaces it whole.

use super::change::{execute, plan, probe_blocking};
use super::files::{blocking, declaration, explain, present};
use super::restore::Restore;
use crate::tool::{
    Job, Plan, Probe, Rehearsal, Tool, ToolContext, ToolError, ToolOutput, read_args, spec_of,
};
use backstop_call::{BoxFuture, ToolSpec};
use backstop_label::{ArgRole, Class, Declaration, Effect};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// The file, from the workspace's root. Directories above it are made.
    path: String,
    /// The whole text of the file.
    content: String,
}

pub(super) struct WriteFile {
    declaration: Declaration,
}

impl WriteFile {
    pub(super) fn new() -> Self {
        let roles = [("path", ArgRole::Object), ("content", ArgRole::Content)];
        Self { declaration: declaration(Class::Write, Effect::Write, &roles) }
    }
}

impl Tool for WriteFile {
    fn spec(&self) -> ToolSpec {
        spec_of::<Args>(
            "write_file",
            "Make a text file, or replace the whole of one. To change a part of a file, use edit_file.",
        )
    }

    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn plan<'a>(
        &'a self,
        args: &'a Value,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<Plan, ToolError>> {
        Box::pin(async move {
            let Args { path, content } = read_args(args)?;
            blocking(context, move |workspace| {
                let before = present(workspace, &path).map_err(|error| explain(workspace, &path, &error))?;
                plan(workspace, &path, before.as_ref(), Some(content.as_bytes()))
            })
            .await
        })
    }

    fn run<'a>(
        &'a self,
        job: &'a Job,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(async move {
            let args: Args = read_args(&job.args)?;
            let done = done(&args);
            let job = job.clone();
            blocking(context, move |workspace| {
                execute(workspace, &job.plan, &job.key, |_| Ok(Some(args.content.into_bytes())))
            })
            .await?;
            Ok(ToolOutput::text(done))
        })
    }

    fn probe<'a>(&'a self, job: &'a Job, context: &'a ToolContext) -> BoxFuture<'a, Probe> {
        Box::pin(async move {
            match read_args(&job.args) {
                Ok(args) => probe_blocking(context, job.plan.clone(), job.key.clone(), done(&args)).await,
                Err(error) => Probe::Unsure(error.to_string()),
            }
        })
    }

    fn undoing(&self) -> Option<Arc<dyn Tool>> {
        Some(Arc::new(Restore::new()))
    }

    fn rehearsal(&self) -> Rehearsal {
        Rehearsal::OnCopy
    }
}

fn done(args: &Args) -> String {
    format!("Wrote {}: {} bytes, {} lines.", args.path, args.content.len(), args.content.lines().count())
}
