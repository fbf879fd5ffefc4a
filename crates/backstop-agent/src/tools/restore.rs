//! Puts a file back as it was before a call: the undo of every file tool that changes one file. No model is told of it.

use super::change::{self, Change, Image, Undo, Whole, is_in, preview, written};
use super::files::{blocking, declaration, explain, present};
use crate::preview::diff;
use crate::tool::{Job, Plan, Probe, Tool, ToolContext, ToolError, ToolOutput, read_args};
use crate::workspace::{FileContent, Workspace};
use backstop_call::{BoxFuture, ToolSpec};
use backstop_label::{Class, Declaration, Effect};
use serde_json::{Value, json};
use std::path::Path;

pub(super) struct Restore {
    declaration: Declaration,
}

impl Restore {
    pub(super) fn new() -> Self {
        Self { declaration: declaration(Class::Write, Effect::Write, &[]) }
    }
}

impl Tool for Restore {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: "restore_file".to_owned(),
            description: "Put a file back as it was before a call.".to_owned(),
            schema: json!({"type": "object"}),
            other: serde_json::Map::new(),
        }
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
            let undo: Undo = read_args(args)?;
            blocking(context, move |workspace| plan(workspace, &undo)).await
        })
    }

    fn run<'a>(
        &'a self,
        job: &'a Job,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(async move {
            let undo: Undo = read_args(&job.args)?;
            let job = job.clone();
            blocking(context, move |workspace| put_back(workspace, &undo, &job)).await
        })
    }

    fn probe<'a>(&'a self, job: &'a Job, context: &'a ToolContext) -> BoxFuture<'a, Probe> {
        Box::pin(async move {
            match read_args::<Undo>(&job.args) {
                Ok(undo) => {
                    let done = done(&undo);
                    let probed =
                        change::probe_blocking(context, job.plan.clone(), job.key.clone(), done).await;
                    let Probe::Happened(output) = probed else { return probed };
                    // It may have ended between the file and the directories.
                    let cleared =
                        blocking(context, move |workspace| remove_made(workspace, &undo.path, &undo.made));
                    cleared
                        .await
                        .map_or_else(|error| Probe::Unsure(error.to_string()), |()| Probe::Happened(output))
                }
                Err(error) => Probe::Unsure(error.to_string()),
            }
        })
    }
}

fn plan(workspace: &Workspace, undo: &Undo) -> Result<Plan, ToolError> {
    let path = undo.path.as_str();
    let now = present(workspace, path).map_err(|error| explain(workspace, path, &error))?;
    if !is_in(undo.left.as_ref(), now.as_ref()) {
        return Err(ToolError::Failed(conflict(undo, now.as_ref())));
    }
    let was = undo.was.as_ref().map(Whole::file).transpose()?;
    let change = Change {
        path: path.to_owned(),
        before: now.as_ref().map(Image::of_file),
        after: was.as_ref().map(Image::of_file),
    };
    Ok(Plan {
        body: written(&change)?,
        touches: Some(path.to_owned()),
        preview: preview(path, now.as_ref(), was.as_ref()),
        ..Plan::default()
    })
}

/// Puts it back, and reads it back.
fn put_back(workspace: &Workspace, undo: &Undo, job: &Job) -> Result<ToolOutput, ToolError> {
    let path = Path::new(&undo.path);
    let wrong = |error| explain(workspace, &undo.path, &error);
    let now = present(workspace, &undo.path).map_err(wrong)?;
    if !is_in(undo.left.as_ref(), now.as_ref()) {
        return Err(ToolError::Failed(conflict(undo, now.as_ref())));
    }
    match &undo.was {
        Some(was) => {
            let FileContent { bytes, mode } = was.file()?;
            workspace.replace(path, &bytes, Some(mode), &job.key).map_err(wrong)?;
        }
        None => workspace.remove(path).map_err(wrong)?,
    }
    remove_made(workspace, &undo.path, &undo.made)?;
    let after = present(workspace, &undo.path).map_err(wrong)?;
    let was = undo.was.as_ref().map(Whole::file).transpose()?;
    if after != was {
        return Err(ToolError::Unknown(format!("`{}` was put back, and reads otherwise", undo.path)));
    }
    Ok(ToolOutput::text(done(undo)))
}

/// Removes those directories that are empty now, of those that a call had made for this path. The file is back by then.
pub(super) fn remove_made(workspace: &Workspace, path: &str, made: &[String]) -> Result<(), ToolError> {
    made.iter().rev().try_for_each(|directory| {
        workspace.remove_empty(Path::new(directory)).map_err(|error| {
            ToolError::Unknown(format!("`{path}` was put back, but the directory `{directory}` {error}"))
        })
    })
}

/// Why a file cannot be put back: what was changed since.
fn conflict(undo: &Undo, now: Option<&FileContent>) -> String {
    let path = &undo.path;
    match (&undo.left, now) {
        (_, None) => format!("`{path}` is not there any more, so it is not as the run left it"),
        (None, Some(_)) => format!("`{path}` is there again, made by somebody else since"),
        (Some(_), Some(now)) => {
            let now = String::from_utf8_lossy(&now.bytes);
            let was = undo.was.as_ref().and_then(|was| was.file().ok()).unwrap_or_default();
            let was = String::from_utf8_lossy(&was.bytes).into_owned();
            format!(
                "`{path}` is not as the run left it. From what it was before the run to what it is now:\n{}",
                diff(&was, &now)
            )
        }
    }
}

fn done(undo: &Undo) -> String {
    match undo.was {
        Some(_) => format!("Put {} back as it was.", undo.path),
        None => format!("Removed {}: it was not there before.", undo.path),
    }
}
