//! A tool that changes one file: all that `write_file`, `edit_file` and `delete_file` have in common. What tells them apart is
//! what the file becomes.

use super::change::{self, execute, probe_blocking};
use super::files::{blocking, declaration, explain, present};
use super::restore::Restore;
use crate::tool::{
    Job, Plan, Probe, Rehearsal, Tool, ToolContext, ToolError, ToolOutput, read_args, spec_of,
};
use crate::workspace::{FileContent, PathError};
use backstop_call::{BoxFuture, ToolSpec};
use backstop_label::{ArgRole, Class, Declaration, Effect};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::marker::PhantomData;
use std::sync::Arc;

/// The arguments of such a tool, and what they make of a file.
pub(super) trait FileChange: DeserializeOwned + JsonSchema + Send + 'static {
    /// The tool's name.
    const NAME: &'static str;
    /// What the model is told of it.
    const DESCRIPTION: &'static str;
    /// The role of each argument.
    const ROLES: &'static [(&'static str, ArgRole)];
    /// Whether the file must be there.
    const NEEDS_FILE: bool;

    /// The file, as the model names it.
    fn path(&self) -> &str;

    /// The bytes of the file after the change; `None` when there is no file then.
    fn after(&self, before: Option<&FileContent>) -> Result<Option<Vec<u8>>, ToolError>;

    /// What the model is told when it is done.
    fn done(&self) -> String;
}

pub(super) struct ChangeFile<A> {
    declaration: Declaration,
    args: PhantomData<fn() -> A>,
}

impl<A: FileChange> ChangeFile<A> {
    pub(super) fn new() -> Self {
        Self { declaration: declaration(Class::Write, Effect::Write, A::ROLES), args: PhantomData }
    }
}

impl<A: FileChange> Tool for ChangeFile<A> {
    fn spec(&self) -> ToolSpec {
        spec_of::<A>(A::NAME, A::DESCRIPTION)
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
            let args: A = read_args(args)?;
            blocking(context, move |workspace| {
                let wrong = |error: &PathError| explain(workspace, args.path(), error);
                let before = present(workspace, args.path()).map_err(|error| wrong(&error))?;
                if A::NEEDS_FILE && before.is_none() {
                    return Err(wrong(&PathError::NotFound));
                }
                let after = args.after(before.as_ref())?;
                change::plan(workspace, args.path(), before.as_ref(), after.as_deref())
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
            let args: A = read_args(&job.args)?;
            let done = args.done();
            let job = job.clone();
            blocking(context, move |workspace| {
                execute(workspace, &job.plan, &job.key, |before| args.after(before.as_ref()))
            })
            .await?;
            Ok(ToolOutput::text(done))
        })
    }

    fn probe<'a>(&'a self, job: &'a Job, context: &'a ToolContext) -> BoxFuture<'a, Probe> {
        Box::pin(async move {
            match read_args::<A>(&job.args) {
                Ok(args) => probe_blocking(context, job.plan.clone(), job.key.clone(), args.done()).await,
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
