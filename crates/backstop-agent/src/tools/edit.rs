//! `edit_file`: replaces one exact piece of text. What does not match is answered with the nearest lines.

use super::change_file::{ChangeFile, FileChange};
use super::files::text_of;
use crate::tool::{Tool, ToolError};
use crate::workspace::FileContent;
use backstop_label::ArgRole;
use schemars::JsonSchema;
use serde::Deserialize;
use similar::TextDiff;

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

pub(super) fn tool() -> impl Tool {
    ChangeFile::<Args>::new()
}

impl FileChange for Args {
    const NAME: &'static str = "edit_file";
    const DESCRIPTION: &'static str =
        "Replace a piece of a text file. The piece must occur exactly once, to the letter.";
    const ROLES: &'static [(&'static str, ArgRole)] = &[
        ("path", ArgRole::Object),
        ("old_text", ArgRole::Query),
        ("new_text", ArgRole::Content),
        ("replace_all", ArgRole::Flag),
    ];
    const NEEDS_FILE: bool = true;

    fn path(&self) -> &str {
        &self.path
    }

    fn after(&self, before: Option<&FileContent>) -> Result<Option<Vec<u8>>, ToolError> {
        let bytes = before.map(|file| file.bytes.clone()).unwrap_or_default();
        let after = edited(self, &text_of(&self.path, bytes)?)?;
        Ok(Some(after.into_bytes()))
    }

    fn done(&self) -> String {
        format!(
            "Edited {}: {} lines became {}.",
            self.path,
            self.old_text.lines().count(),
            self.new_text.lines().count()
        )
    }
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
