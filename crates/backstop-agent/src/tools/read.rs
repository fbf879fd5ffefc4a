//! `read_file`. What it gives is the text as it stands, without line numbers, so that it can be quoted in `edit_file`.

use super::files::{FILE_MAX_BYTES, blocking, declaration, explain, text_of};
use crate::tool::{Tool, ToolContext, ToolError, ToolOutput, function};
use crate::workspace::Workspace;
use backstop_label::{ArgRole, Class, Effect};
use schemars::JsonSchema;
use serde::Deserialize;

/// The most lines that are shown at once.
const LINES_MAX: usize = 2_000;
/// The most bytes that are shown at once.
const SHOWN_MAX_BYTES: usize = 64 * 1024;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// The file, from the workspace's root.
    path: String,
    /// The first line that is wanted, from 1. Leave it out to begin at the beginning.
    #[serde(default)]
    #[schemars(range(min = 1))]
    from_line: Option<usize>,
    /// The last line that is wanted. Leave it out to read on to the end.
    #[serde(default)]
    #[schemars(range(min = 1))]
    to_line: Option<usize>,
}

pub(super) fn tool() -> impl Tool {
    let roles = [("path", ArgRole::Object), ("from_line", ArgRole::Value), ("to_line", ArgRole::Value)];
    function(
        "read_file",
        "Read a text file. Long files come in parts: the last line then says how to ask for the next.",
        declaration(Class::Read, Effect::Read, &roles),
        |args: Args, context: ToolContext, _key| {
            Box::pin(async move { blocking(&context, move |workspace| read(workspace, &args)).await })
        },
    )
}

fn read(workspace: &Workspace, args: &Args) -> Result<ToolOutput, ToolError> {
    let wrong = |error| explain(workspace, &args.path, &error);
    let path = workspace.relative(&args.path).map_err(wrong)?;
    let file = workspace.read(&path, FILE_MAX_BYTES).map_err(wrong)?;
    let text = text_of(&args.path, file.bytes)?;
    if text.is_empty() {
        return Ok(ToolOutput::text("(the file is empty)"));
    }
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    let first = args.from_line.unwrap_or(1).max(1);
    let last = args.to_line.unwrap_or(lines.len()).min(lines.len());
    if first > lines.len() || first > last {
        return Err(ToolError::Failed(format!(
            "`{}` has {} lines; there is nothing from line {first} to {last}.",
            args.path,
            lines.len()
        )));
    }
    Ok(ToolOutput::text(part(&lines, first, last)))
}

/// The lines `first..=last`, as many as may be shown, and how to go on.
fn part(lines: &[&str], first: usize, last: usize) -> String {
    let mut shown = String::new();
    let mut next = first;
    for line in &lines[first - 1..last] {
        let room = SHOWN_MAX_BYTES - shown.len();
        if next - first == LINES_MAX || (line.len() > room && !shown.is_empty()) {
            break;
        }
        if line.len() > room {
            // One line longer than all that may be shown: its beginning, cut between characters.
            let end = (0..=room).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
            shown.push_str(&line[..end]);
            let more = format!("\n… {} more bytes in line {next}", line.len() - end);
            shown.push_str(&more);
            next += 1;
            break;
        }
        shown.push_str(line);
        next += 1;
    }
    if next <= last {
        let newline = if shown.ends_with('\n') { "" } else { "\n" };
        let more = format!("{newline}… {} more lines; ask for from_line={next}", last - next + 1);
        shown.push_str(&more);
    }
    shown
}
