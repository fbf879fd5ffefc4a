//! `delete_file`: removes one file. It can be taken back.

use super::change::{execute, plan, probe_blocking};
use super::files::{blocking, declaration, explain, present};
use super::restore::Restore;
use crate::tool::{
    Job, Plan, Probe, Rehearsal, Tool, ToolContext, ToolError, ToolOutput, read_args, spec_of,
};
use crate::workspace::PathError;
use backstop_call::{BoxFuture, ToolSpec};
use backstop_label::{ArgRole, Class, Declaration, Effect};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// The file, from the workspace's root.
    path: String,
}

pub(super) struct DeleteFile {
    declaration: Declaration,
}

impl DeleteFile {
    pub(super) fn new() -> Self {
        Self { declaration: declaration(Class::Write, Effect::Write, &[("path", ArgRole::Object)]) }
    }
}

impl Tool for DeleteFile {
    fn spec(&self) -> ToolSpec {
        spec_of::<Args>("delete_file", "Delete one file. Directories cannot be deleted.")
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
            let Args { path } = read_args(args)?;
            blocking(context, move |workspace| {
                let wrong = |error: &PathError| explain(workspace, &path, error);
                let before = present(workspace, &path).map_err(|error| wrong(&error))?;
                let before = before.ok_or_else(|| wrong(&PathError::NotFound))?;
                plan(workspace, &path, Some(&before), None)
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
            let done = done(&read_args(&job.args)?);
            let job = job.clone();
            blocking(context, move |workspace| execute(workspace, &job.plan, &job.key, |_| Ok(None))).await?;
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
    format!("Deleted {}.", args.path)
}
