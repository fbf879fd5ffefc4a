//! `list_files`.

use super::files::{blocking, declaration, explain};
use super::walk::{Found, walk};
use crate::tool::{Tool, ToolContext, ToolError, ToolOutput, function};
use crate::workspace::{EntryKind, Workspace};
use backstop_label::{ArgRole, Class, Effect};
use ignore::gitignore::GitignoreBuilder;
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::Path;

/// The most paths that are shown at once.
const PATHS_MAX: usize = 500;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// The directory, from the workspace's root. Leave it out for the whole workspace.
    #[serde(default)]
    path: Option<String>,
    /// Only paths that fit this pattern, like `*.md` or `src/**/*.rs`.
    #[serde(default)]
    pattern: Option<String>,
    /// Also what .gitignore ignores, and .git.
    #[serde(default)]
    include_ignored: bool,
}

pub(super) fn tool() -> impl Tool {
    let roles = [("path", ArgRole::Object), ("pattern", ArgRole::Query), ("include_ignored", ArgRole::Flag)];
    function(
        "list_files",
        "List the files of the workspace, with all directories below, one path a line; directories end with `/`.",
        declaration(Class::Read, Effect::Read, &roles),
        |args: Args, context: ToolContext, _key| {
            Box::pin(async move { blocking(&context, move |workspace| list(workspace, &args)).await })
        },
    )
}

fn list(workspace: &Workspace, args: &Args) -> Result<ToolOutput, ToolError> {
    let path = args.path.as_deref().unwrap_or(".");
    let wrong = |error| explain(workspace, path, &error);
    let from = workspace.relative(path).map_err(wrong)?;
    let (found, cut) = walk(workspace, &from, args.include_ignored).map_err(wrong)?;
    let fits = pattern(args.pattern.as_deref())?;
    let lines: Vec<_> = found.iter().filter(|found| fits(&found.path, found.kind)).map(line).collect();
    if lines.is_empty() {
        let what = if args.pattern.is_some() { "Nothing here fits the pattern" } else { "No files here" };
        return Ok(ToolOutput::text(format!("{what}.")));
    }
    let mut text = lines[..lines.len().min(PATHS_MAX)].join("\n");
    if lines.len() > PATHS_MAX || cut {
        let more = lines.len().saturating_sub(PATHS_MAX);
        let more = format!("\n… {more} more paths; ask for a directory or a pattern to see them.");
        text.push_str(&more);
    }
    Ok(ToolOutput::text(text))
}

fn line(found: &Found) -> String {
    let path = found.path.to_string_lossy();
    match found.kind {
        EntryKind::Directory => format!("{path}/"),
        EntryKind::File => path.into_owned(),
        EntryKind::Link => format!("{path} (symbolic link)"),
        EntryKind::Special => format!("{path} (special file)"),
    }
}

type Fits = Box<dyn Fn(&Path, EntryKind) -> bool>;

/// A pattern as `.gitignore` has them: `*.md` fits at any depth, `src/**/*.rs` from the root.
pub(super) fn pattern(pattern: Option<&str>) -> Result<Fits, ToolError> {
    let Some(pattern) = pattern else { return Ok(Box::new(|_, _| true)) };
    let wrong = |error: ignore::Error| {
        ToolError::Failed(format!(
            "`{pattern}` is no pattern: {error}. Write it like `*.md` or `src/**/*.rs`."
        ))
    };
    let mut builder = GitignoreBuilder::new("");
    builder.add_line(None, pattern).map_err(wrong)?;
    let matcher = builder.build().map_err(wrong)?;
    Ok(Box::new(move |path, kind| matcher.matched(path, kind == EntryKind::Directory).is_ignore()))
}
