//! `edit_file`: replaces one exact piece of text. What does not match is answered with the nearest lines.

use super::change::{self, execute, probe_blocking};
use super::files::{blocking, declaration, explain, present, text_of};
use super::restore::Restore;
use crate::tool::{
    Job, Plan, Probe, Rehearsal, Tool, ToolContext, ToolError, ToolOutput, read_args, spec_of,
};
use crate::workspace::{FileContent, PathError, Workspace};
use backstop_call::{BoxFuture, ToolSpec};
use backstop_label::{ArgRole, Class, Declaration, Effect};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use similar::TextDiff;
use std::sync::Arc;

/// Files with more lines are not searched for what is nearest.
const NEAREST_MAX_LINES: usize = 5_000;
/// What is less alike than this, of 1, is no help.
const ALIKE_MIN: f32 = 0.5;
/// The most characters of a line that are compared.
const COMPARED_MAX_CHARS: usize = 200;
/// The most places that are listed.
const PLACES_MAX: usize = 10;
/// The most lines around the nearest place that are shown.
const SHOWN_MAX_LINES: usize = 12;

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// The file, from the workspace's root.
    path: String,
    /// The text to replace, exactly as it stands in the file, with enough of the lines around it to occur only once.
    #[schemars(length(min = 1))]
    old_text: String,
    /// What to put in its place.
    new_text: String,
    /// Replace every occurrence instead of the only one.
    #[serde(default)]
    replace_all: bool,
}

pub(super) struct EditFile {
    declaration: Declaration,
}

impl EditFile {
    pub(super) fn new() -> Self {
        let roles = [
            ("path", ArgRole::Object),
            ("old_text", ArgRole::Query),
            ("new_text", ArgRole::Content),
            ("replace_all", ArgRole::Flag),
        ];
        Self { declaration: declaration(Class::Write, Effect::Write, &roles) }
    }
}

impl Tool for EditFile {
    fn spec(&self) -> ToolSpec {
        spec_of::<Args>(
            "edit_file",
            "Replace a piece of a text file. The piece must occur exactly once, to the letter.",
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
            let args: Args = read_args(args)?;
            blocking(context, move |workspace| plan(workspace, &args)).await
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
                execute(workspace, &job.plan, &job.key, |file| {
                    let bytes = file.map(|file| file.bytes).unwrap_or_default();
                    let after = edited(&args, &text_of(&args.path, bytes)?)?;
                    Ok(Some(after.into_bytes()))
                })
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

fn plan(workspace: &Workspace, args: &Args) -> Result<Plan, ToolError> {
    let wrong = |error: &PathError| explain(workspace, &args.path, error);
    let before: FileContent = present(workspace, &args.path)
        .map_err(|error| wrong(&error))?
        .ok_or_else(|| wrong(&PathError::NotFound))?;
    let text = text_of(&args.path, before.bytes.clone())?;
    let after = edited(args, &text)?;
    change::plan(workspace, &args.path, Some(&before), Some(after.as_bytes()))
}

/// The text after the edit, or why there is none.
fn edited(args: &Args, text: &str) -> Result<String, ToolError> {
    if args.old_text == args.new_text {
        return Err(ToolError::Failed(
            "old_text and new_text are the same; there is nothing to change.".to_owned(),
        ));
    }
    let places: Vec<_> = text.match_indices(&args.old_text).map(|(at, _)| line_of(text, at)).collect();
    match places.len() {
        0 => Err(ToolError::Failed(format!(
            "old_text does not occur in {}. {}",
            args.path,
            nearest(text, &args.old_text)
        ))),
        1 => Ok(text.replacen(&args.old_text, &args.new_text, 1)),
        _ if args.replace_all => Ok(text.replace(&args.old_text, &args.new_text)),
        count => {
            let lines: Vec<_> = places.iter().take(PLACES_MAX).map(ToString::to_string).collect();
            Err(ToolError::Failed(format!(
                "old_text occurs {count} times in {} (lines {}{}). Add lines around it until it occurs once, or set \
                 replace_all.",
                args.path,
                lines.join(", "),
                if count > PLACES_MAX { ", …" } else { "" }
            )))
        }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Where the file is most like what was looked for.
fn nearest(text: &str, wanted: &str) -> String {
    const READ_AGAIN: &str = "Read the file again and copy the text exactly.";
    let lines: Vec<_> = text.lines().collect();
    let wanted: Vec<_> = wanted.lines().collect();
    if lines.is_empty() {
        return "The file is empty; use write_file.".to_owned();
    }
    if lines.len() > NEAREST_MAX_LINES || wanted.is_empty() {
        return READ_AGAIN.to_owned();
    }
    let width = wanted.len().min(lines.len());
    let trimmed = |lines: &[&str]| lines.iter().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
    let bare = trimmed(&wanted);
    let windows = || lines.windows(width);
    if let Some(at) = windows().position(|window| trimmed(window) == bare) {
        return format!(
            "Lines {}-{} differ from it only in white space or line ends:\n{}\n{READ_AGAIN}",
            at + 1,
            at + width,
            shown(&lines[at..at + width])
        );
    }
    // The first line that says something decides where to look: comparing whole windows would be quadratic.
    let offset = wanted.iter().position(|line| !line.trim().is_empty()).unwrap_or(0);
    let needle = cut(wanted[offset]);
    let alike = |line: &&str| TextDiff::from_chars(cut(line).as_str(), needle.as_str()).ratio();
    let best = lines.iter().map(alike).enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
    match best {
        Some((at, ratio)) if ratio >= ALIKE_MIN => {
            let first = at.saturating_sub(offset);
            let last = (first + width).min(lines.len());
            format!(
                "The nearest is at lines {}-{last}:\n{}\n{READ_AGAIN}",
                first + 1,
                shown(&lines[first..last])
            )
        }
        _ => format!("Nothing in it is like it. {READ_AGAIN}"),
    }
}

fn cut(line: &str) -> String {
    line.chars().take(COMPARED_MAX_CHARS).collect()
}

fn shown(lines: &[&str]) -> String {
    let mut text = lines[..lines.len().min(SHOWN_MAX_LINES)].join("\n");
    if lines.len() > SHOWN_MAX_LINES {
        text.push_str("\n…");
    }
    text
}

fn done(args: &Args) -> String {
    format!(
        "Edited {}: {} lines became {}.",
        args.path,
        args.old_text.lines().count(),
        args.new_text.lines().count()
    )
}
