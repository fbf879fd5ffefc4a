//! `move_file`: gives one file another path. Its undo is a move back, by the same code.

use super::change::{Image, written};
use super::files::{blocking, declaration, explain};
use super::restore::remove_made;
use crate::preview::visible;
use crate::tool::{
    Job, Plan, Probe, Rehearsal, Tool, ToolContext, ToolError, ToolOutput, read_args, spec_of,
};
use crate::workspace::{PathError, Workspace};
use backstop_call::{BoxFuture, ToolSpec};
use backstop_label::{ArgRole, Class, Declaration, Effect};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// The file, from the workspace's root.
    from: String,
    /// Its new path, from the workspace's root. Nothing may be there; directories above it are made.
    to: String,
}

/// What a move means to do; an undo is one with its ends changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Move {
    from: String,
    to: String,
    /// The file that is moved.
    file: Image,
    /// The directories that go when they are empty afterwards: those that the move to be taken back had made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    emptied: Vec<String>,
}

/// What a move is asked by: a model names two paths, an undo a whole [`Move`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    There,
    Back,
}

pub(super) struct MoveFile {
    declaration: Declaration,
    way: Way,
}

impl MoveFile {
    pub(super) fn new() -> Self {
        Self::by(Way::There)
    }

    fn by(way: Way) -> Self {
        let roles = [("from", ArgRole::Object), ("to", ArgRole::Object)];
        Self { declaration: declaration(Class::Write, Effect::Write, &roles), way }
    }

    fn asked(&self, args: &Value) -> Result<(String, String, Option<Move>), ToolError> {
        match self.way {
            Way::There => read_args(args).map(|Args { from, to }| (from, to, None)),
            Way::Back => read_args(args).map(|undo: Move| (undo.from.clone(), undo.to.clone(), Some(undo))),
        }
    }
}

impl Tool for MoveFile {
    fn spec(&self) -> ToolSpec {
        spec_of::<Args>("move_file", "Move or rename one file. Nothing may be at its new path.")
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
            let (from, to, undo) = self.asked(args)?;
            blocking(context, move |workspace| plan(workspace, (&from, &to), undo)).await
        })
    }

    fn run<'a>(
        &'a self,
        job: &'a Job,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(async move {
            let planned: Move = read_args(&job.plan)?;
            blocking(context, move |workspace| execute(workspace, &planned)).await
        })
    }

    fn probe<'a>(&'a self, job: &'a Job, context: &'a ToolContext) -> BoxFuture<'a, Probe> {
        Box::pin(async move {
            let planned: Move = match read_args(&job.plan) {
                Ok(planned) => planned,
                Err(error) => return Probe::Unsure(error.to_string()),
            };
            let probed = blocking(context, move |workspace| Ok(probe(workspace, &planned))).await;
            probed.unwrap_or_else(|error| Probe::Unsure(error.to_string()))
        })
    }

    fn undoing(&self) -> Option<Arc<dyn Tool>> {
        (self.way == Way::There).then(|| Arc::new(Self::by(Way::Back)) as Arc<dyn Tool>)
    }

    fn rehearsal(&self) -> Rehearsal {
        Rehearsal::OnCopy
    }
}

fn plan(workspace: &Workspace, ends: (&str, &str), undo: Option<Move>) -> Result<Plan, ToolError> {
    let (from, to) = (path(workspace, ends.0)?, path(workspace, ends.1)?);
    let file = image(workspace, &from)?.ok_or_else(|| explain(workspace, &from, &PathError::NotFound))?;
    if let Some(undo) = &undo
        && undo.file != file
    {
        return Err(ToolError::Failed(format!("`{from}` is not as the run left it")));
    }
    if image(workspace, &to)?.is_some() {
        return Err(taken(&to));
    }
    let made =
        workspace.missing_directories(Path::new(&to)).map_err(|error| explain(workspace, &to, &error))?;
    let preview = format!("move {} to {}\n", visible(&from), visible(&to));
    let touches = Some(format!("{from}\0{to}"));
    let back = Move { from: to.clone(), to: from.clone(), file: file.clone(), emptied: made };
    let emptied = undo.map(|undo| undo.emptied).unwrap_or_default();
    let planned = Move { from, to, file, emptied };
    Ok(Plan { body: written(&planned)?, touches, preview, undo: Some(written(&back)?), effect: None })
}

fn execute(workspace: &Workspace, planned: &Move) -> Result<ToolOutput, ToolError> {
    let Move { from, to, file, emptied } = planned;
    if image(workspace, from)?.as_ref() != Some(file) {
        return Err(ToolError::Failed(format!(
            "`{from}` was changed by somebody else in between; nothing was moved. Look again, then decide."
        )));
    }
    match workspace.rename(Path::new(from), Path::new(to)) {
        Ok(()) => {}
        Err(PathError::Taken) => return Err(taken(to)),
        Err(error) => return Err(explain(workspace, from, &error)),
    }
    remove_made(workspace, from, emptied)?;
    Ok(ToolOutput::text(done(planned)))
}

/// Whether the file is where it was to be.
fn probe(workspace: &Workspace, planned: &Move) -> Probe {
    let (from, to) = match (image(workspace, &planned.from), image(workspace, &planned.to)) {
        (Ok(from), Ok(to)) => (from, to),
        (Err(error), _) | (_, Err(error)) => return Probe::Unsure(error.to_string()),
    };
    if to.as_ref() == Some(&planned.file) && from.is_none() {
        // It may have ended between the file and the directories.
        match remove_made(workspace, &planned.from, &planned.emptied) {
            Ok(()) => Probe::Happened(ToolOutput::text(done(planned))),
            Err(error) => Probe::Unsure(error.to_string()),
        }
    } else if from.as_ref() == Some(&planned.file) && to.is_none() {
        Probe::DidNot
    } else {
        Probe::Unsure(format!("`{}` and `{}` are not as either would leave them", planned.from, planned.to))
    }
}

fn path(workspace: &Workspace, text: &str) -> Result<String, ToolError> {
    let relative = workspace.relative(text).map_err(|error| explain(workspace, text, &error))?;
    match relative.file_name() {
        Some(_) => Ok(relative.to_string_lossy().into_owned()),
        None => Err(explain(workspace, text, &PathError::NotAFile("a directory"))),
    }
}

/// The file as it is; `None` when there is none.
fn image(workspace: &Workspace, path: &str) -> Result<Option<Image>, ToolError> {
    match workspace.digest(Path::new(path)) {
        Ok(digest) => Ok(Some(Image::of_digest(digest))),
        Err(PathError::NotFound) => Ok(None),
        Err(error) => Err(explain(workspace, path, &error)),
    }
}

fn taken(path: &str) -> ToolError {
    ToolError::Failed(format!(
        "There is something at `{path}` already; nothing was moved. Choose another path, or delete that first."
    ))
}

fn done(planned: &Move) -> String {
    format!("Moved {} to {}.", planned.from, planned.to)
}
