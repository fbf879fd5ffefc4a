//! What the file tools share: the workspace of the call, and errors in words that help.

use crate::workspace::{EntryKind, FileContent, PathError, Workspace};
use crate::{ToolContext, ToolError};
use backstop_label::{ArgRole, Class, Confidentiality, Declaration, Effect, Integrity};

/// The largest file, in bytes, that is read, searched or edited.
pub(super) const FILE_MAX_BYTES: u64 = 8 * 1024 * 1024;
/// So many names are shown where a file was not found.
const NAMES_MAX: usize = 20;

/// What a file tool declares. Files of the workspace are the owner's: trusted and public unless their labels say more.
pub(super) fn declaration(class: Class, effect: Effect, args: &[(&str, ArgRole)]) -> Declaration {
    Declaration {
        class,
        effect,
        args: args.iter().map(|(name, role)| ((*name).to_owned(), *role)).collect(),
        integrity: Integrity::Trusted,
        confidentiality: Confidentiality::Public,
    }
}

/// Runs file work where it may block.
pub(super) async fn blocking<T, F>(context: &ToolContext, work: F) -> Result<T, ToolError>
where
    T: Send + 'static,
    F: FnOnce(&Workspace) -> Result<T, ToolError> + Send + 'static,
{
    let Some(workspace) = context.workspace.clone() else {
        return Err(ToolError::Failed("This run has no workspace, so it has no files.".to_owned()));
    };
    let worker = tokio::task::spawn_blocking(move || work(&workspace));
    worker.await.unwrap_or_else(|error| Err(ToolError::Unknown(format!("The file tool crashed: {error}."))))
}

/// Says to the model what is wrong with a path, and what to do.
pub(super) fn explain(workspace: &Workspace, path: &str, error: &PathError) -> ToolError {
    let text = match error {
        PathError::Outside => format!(
            "`{path}` leads outside the workspace. Use a path from the workspace's root, like `notes.md` or \
             `src/main.rs`, without `..`."
        ),
        PathError::Reserved => {
            format!(
                "`{path}` is not for tools: it belongs to git, or to the program that runs you. Use the other files."
            )
        }
        PathError::NotFound => {
            format!("File not found: {path}. Verify the path; {}.", neighbours(workspace, path))
        }
        PathError::BadName(reason) => format!("`{path}` cannot be used: {reason}."),
        PathError::Taken => format!("There is something at `{path}` already."),
        PathError::NotAFile("a directory") => {
            format!("`{path}` is a directory, not a file. Use list_files to see what it holds.")
        }
        PathError::NotAFile("a symbolic link") => {
            format!("`{path}` is a symbolic link. Use the path of the file that it points to.")
        }
        PathError::NotAFile(kind) => {
            format!("`{path}` is {kind}, not a regular file. It cannot be used; choose another path.")
        }
        PathError::NotADirectory => {
            format!("`{path}` runs through something that is no directory. Verify the path with list_files.")
        }
        PathError::TooLarge { bytes, max } => format!(
            "`{path}` has {bytes} bytes, more than the {max} that file tools take. Use search_files on smaller files, \
             or split it."
        ),
        PathError::Io(reason) => format!("`{path}`: {reason}."),
        PathError::Unsynced(reason) => {
            return ToolError::Unknown(format!("`{path}` was replaced but not synced: {reason}"));
        }
    };
    ToolError::Failed(text)
}

/// What the nearest directory above a path holds.
fn neighbours(workspace: &Workspace, path: &str) -> String {
    let relative = workspace.relative(path).unwrap_or_default();
    for directory in relative.ancestors().skip(1) {
        let Ok(entries) = workspace.entries(directory) else { continue };
        let shown = |name: &String, kind: EntryKind| match kind {
            EntryKind::Directory => format!("{name}/"),
            EntryKind::File | EntryKind::Link | EntryKind::Special => name.clone(),
        };
        let names: Vec<_> =
            entries.iter().take(NAMES_MAX).map(|entry| shown(&entry.name, entry.kind)).collect();
        let place = match directory.to_string_lossy() {
            root if root.is_empty() => "the directory".to_owned(),
            other => format!("the directory {other}"),
        };
        if names.is_empty() {
            return format!("{place} is empty");
        }
        let more = entries.len().saturating_sub(NAMES_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        return format!("{place} holds: {}{more}", names.join(", "));
    }
    "the workspace cannot be listed".to_owned()
}

/// The text of a file, or why it has none.
pub(super) fn text_of(path: &str, bytes: Vec<u8>) -> Result<String, ToolError> {
    let size = bytes.len();
    let binary = bytes.iter().take(8 * 1024).any(|byte| *byte == 0);
    match String::from_utf8(bytes) {
        Ok(text) if !binary => Ok(text),
        _ => Err(ToolError::Failed(format!(
            "`{path}` is not text (binary, or no UTF-8; {size} bytes), so it cannot be read or edited as text."
        ))),
    }
}

/// The file as it is; `None` when there is none.
pub(super) fn present(workspace: &Workspace, path: &str) -> Result<Option<FileContent>, PathError> {
    match workspace.read(&workspace.relative(path)?, FILE_MAX_BYTES) {
        Ok(file) => Ok(Some(file)),
        Err(PathError::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}
