//! What the file tools share: the workspace of the call, errors in words that help, and the plan and probe of a write.

use crate::workspace::{EntryKind, FileContent, PathError, Workspace};
use crate::{Plan, Probe, ToolContext, ToolError, ToolOutput};
use backstop_label::{ArgRole, Class, Confidentiality, Declaration, Effect, Integrity};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// The largest file, in bytes, that is read, searched or edited.
pub(super) const FILE_MAX_BYTES: u64 = 8 * 1024 * 1024;
/// The largest file, in bytes, whose former content is kept with the plan, for an undo.
const BEFORE_IMAGE_MAX_BYTES: usize = 256 * 1024;
/// So many names are shown where a file was not found.
const NAMES_MAX: usize = 20;

/// What a write of a file means to do: what it needs to be probed and undone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct WritePlan {
    /// The path from the workspace's root.
    path: String,
    /// The file as it is; `None` when there is none.
    before: Option<Image>,
    /// The file as it will be.
    after: Image,
}

/// A state of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Image {
    /// BLAKE3 of its bytes, in hex.
    hash: String,
    /// Its size.
    bytes: u64,
    /// Its permission bits, of a file that was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<u32>,
    /// Its text, of a file that was there, is small and is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

impl Image {
    fn of(bytes: &[u8]) -> Self {
        Self {
            hash: blake3::hash(bytes).to_hex().to_string(),
            bytes: bytes.len() as u64,
            mode: None,
            text: None,
        }
    }

    fn before(file: FileContent) -> Self {
        let small = file.bytes.len() <= BEFORE_IMAGE_MAX_BYTES;
        let image = Self::of(&file.bytes);
        let text = if small { String::from_utf8(file.bytes).ok() } else { None };
        Self { mode: Some(file.mode), text, ..image }
    }
}

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

/// The plan of putting `after` in the place of what is there.
pub(super) fn plan_write(
    workspace: &Workspace,
    path: &str,
    before: Option<FileContent>,
    after: &[u8],
) -> Result<Plan, ToolError> {
    let relative = workspace.relative(path).map_err(|error| explain(workspace, path, &error))?;
    if relative.file_name().is_none() {
        return Err(explain(workspace, path, &PathError::NotAFile("a directory")));
    }
    let path = relative.to_string_lossy().into_owned();
    let plan = WritePlan { path: path.clone(), before: before.map(Image::before), after: Image::of(after) };
    let body = serde_json::to_value(plan)
        .map_err(|error| ToolError::Failed(format!("The plan cannot be written down: {error}.")))?;
    Ok(Plan { body, touches: Some(path), ..Plan::default() })
}

/// Does what was planned, if the file is still what it was when it was planned.
pub(super) fn execute_write(
    workspace: &Workspace,
    plan: &Value,
    key: &str,
    make: impl FnOnce(Option<FileContent>) -> Result<Vec<u8>, ToolError>,
) -> Result<(), ToolError> {
    let plan = read_plan(plan)?;
    let path = plan.path.as_str();
    let before = present(workspace, path).map_err(|error| explain(workspace, path, &error))?;
    if before.as_ref().map(|file| Image::of(&file.bytes).hash) != plan.before.map(|image| image.hash) {
        return Err(ToolError::Failed(format!(
            "`{path}` was changed by somebody else in between; nothing was written. Read it again, then decide."
        )));
    }
    let after = make(before)?;
    if Image::of(&after).hash != plan.after.hash {
        return Err(ToolError::Failed(format!(
            "`{path}` would not become what was planned; nothing was written."
        )));
    }
    workspace.replace(Path::new(path), &after, key).map_err(|error| explain(workspace, path, &error))
}

/// Whether a write took effect: by what the file is now. Clears away what a crash left beside it.
pub(super) fn probe_write(workspace: &Workspace, plan: &Value, key: &str, done: String) -> Probe {
    let Ok(plan) = read_plan(plan) else { return Probe::Unsure("its plan cannot be read".to_owned()) };
    if let Err(error) = workspace.clear(Path::new(&plan.path), key) {
        return Probe::Unsure(format!("`{}` {error}", plan.path));
    }
    let now = match present(workspace, &plan.path) {
        Ok(file) => file.map(|file| Image::of(&file.bytes).hash),
        Err(error) => return Probe::Unsure(format!("`{}` {error}", plan.path)),
    };
    if now.as_ref() == Some(&plan.after.hash) {
        Probe::Happened(ToolOutput::text(done))
    } else if now == plan.before.map(|image| image.hash) {
        Probe::DidNot
    } else {
        Probe::Unsure(format!("`{}` is neither what it was nor what it was to become", plan.path))
    }
}

/// [`probe_write`], where it may block.
pub(super) async fn probe(context: &ToolContext, plan: Value, key: String, done: String) -> Probe {
    let Some(workspace) = context.workspace.clone() else {
        return Probe::Unsure("the run has no workspace".to_owned());
    };
    let worker = tokio::task::spawn_blocking(move || probe_write(&Arc::clone(&workspace), &plan, &key, done));
    worker.await.unwrap_or_else(|error| Probe::Unsure(format!("the probe crashed: {error}")))
}

fn read_plan(plan: &Value) -> Result<WritePlan, ToolError> {
    WritePlan::deserialize(plan)
        .map_err(|error| ToolError::Failed(format!("The plan of this call cannot be read: {error}.")))
}
