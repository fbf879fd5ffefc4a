//! `search_files`: a regular expression over the text files of the workspace.

use super::files::{FILE_MAX_BYTES, blocking, declaration, explain};
use super::list::pattern;
use super::walk::walk;
use crate::tool::{Tool, ToolContext, ToolError, ToolOutput, function};
use crate::workspace::{EntryKind, PathError, Workspace};
use backstop_label::{ArgRole, Class, Effect};
use regex::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;

/// The most matching lines that are shown.
const MATCHES_MAX: usize = 200;
/// A longer line is cut, in characters.
const LINE_MAX_CHARS: usize = 300;
/// The most bytes one search reads.
const READ_MAX_BYTES: u64 = 256 * 1024 * 1024;
/// The most memory a compiled expression takes, in bytes.
const REGEX_MAX_BYTES: usize = 4 * 1024 * 1024;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// A regular expression, matched line by line.
    pattern: String,
    /// The directory or file to search, from the workspace's root. Leave it out for the whole workspace.
    #[serde(default)]
    path: Option<String>,
    /// Only files that fit this pattern, like `*.md` or `src/**/*.rs`.
    #[serde(default)]
    files: Option<String>,
    /// Whether upper and lower case are the same.
    #[serde(default)]
    ignore_case: bool,
}

pub(super) fn tool() -> impl Tool {
    let roles = [
        ("pattern", ArgRole::Query),
        ("path", ArgRole::Object),
        ("files", ArgRole::Query),
        ("ignore_case", ArgRole::Flag),
    ];
    function(
        "search_files",
        "Search the text files of the workspace for a regular expression. Each match is a line `path:line: text`. \
         Leaves out .git and what .gitignore ignores.",
        declaration(Class::Read, Effect::Read, &roles),
        |args: Args, context: ToolContext, _key| {
            Box::pin(async move { blocking(&context, move |workspace| search(workspace, &args)).await })
        },
    )
}

fn search(workspace: &Workspace, args: &Args) -> Result<ToolOutput, ToolError> {
    let regex = RegexBuilder::new(&args.pattern)
        .case_insensitive(args.ignore_case)
        .size_limit(REGEX_MAX_BYTES)
        .build()
        .map_err(|error| {
            ToolError::Failed(format!(
                "`{}` is no regular expression: {error}. Escape what is meant literally.",
                args.pattern
            ))
        })?;
    let (files, cut) = candidates(workspace, args)?;
    let mut hits = Hits { lines: Vec::new(), total: 0 };
    let (mut searched, mut bytes_read) = (0_usize, 0_u64);
    let mut skipped = usize::from(cut);
    for path in files {
        // What is not readable as text, or vanished in between, has no lines to match.
        let Ok(file) = workspace.read(&path, FILE_MAX_BYTES) else {
            skipped += 1;
            continue;
        };
        bytes_read += file.bytes.len() as u64;
        if bytes_read > READ_MAX_BYTES {
            skipped += 1;
            break;
        }
        if let Ok(text) = std::str::from_utf8(&file.bytes)
            && !text.contains('\0')
        {
            searched += 1;
            hits.collect(&regex, &path.to_string_lossy(), text);
        }
    }
    Ok(ToolOutput::text(report(&hits, &args.pattern, searched, skipped)))
}

fn candidates(workspace: &Workspace, args: &Args) -> Result<(Vec<PathBuf>, bool), ToolError> {
    let path = args.path.as_deref().unwrap_or(".");
    let wrong = |error: &PathError| explain(workspace, path, error);
    let from = workspace.relative(path).map_err(|error| wrong(&error))?;
    let fits = pattern(args.files.as_deref())?;
    match walk(workspace, &from, false) {
        Ok((found, cut)) => {
            let files = found.into_iter().filter(|found| found.kind == EntryKind::File);
            Ok((files.filter(|file| fits(&file.path, file.kind)).map(|file| file.path).collect(), cut))
        }
        // One file: read it here, so that a wrong path is an error and not a search without matches.
        Err(PathError::NotADirectory) => match workspace.read(&from, FILE_MAX_BYTES) {
            Ok(_) => Ok((vec![from], false)),
            Err(error) => Err(wrong(&error)),
        },
        Err(error) => Err(wrong(&error)),
    }
}

struct Hits {
    lines: Vec<String>,
    total: usize,
}

impl Hits {
    fn collect(&mut self, regex: &Regex, path: &str, text: &str) {
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| regex.is_match(line)) {
            self.total += 1;
            if self.lines.len() < MATCHES_MAX {
                let mut shown: String = line.chars().take(LINE_MAX_CHARS).collect();
                if shown.len() < line.len() {
                    shown.push('…');
                }
                self.lines.push(format!("{path}:{number}: {shown}"));
            }
        }
    }
}

fn report(hits: &Hits, pattern: &str, searched: usize, skipped: usize) -> String {
    let mut text = if hits.total == 0 {
        format!("No line in {searched} files matches `{pattern}`. Try a shorter pattern, or ignore_case.")
    } else {
        hits.lines.join("\n")
    };
    if hits.total > hits.lines.len() {
        let more = hits.total - hits.lines.len();
        let more = format!("\n… {more} more matches; ask for a narrower pattern, path or files.");
        text.push_str(&more);
    }
    if skipped > 0 {
        text.push_str("\nNot everything was searched: some files are too large or cannot be read.");
    }
    text
}
