//! A change of one file: what it is planned as, how it is made, found out after a crash, shown to a person and taken back.
//! Every file tool that changes something makes [`Change`]s and nothing else.

use super::files::{explain, present, text_of};
use crate::preview::{diff, visible};
use crate::workspace::{Digest, FileContent, PathError, Workspace};
use crate::{Plan, Probe, ToolContext, ToolError, ToolOutput};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// What a call means to do to one file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Change {
    /// The path from the workspace's root.
    pub(super) path: String,
    /// The file as it is; `None` when there is none.
    pub(super) before: Option<Image>,
    /// The file as it will be; `None` when there will be none.
    #[serde(default)]
    pub(super) after: Option<Image>,
}

/// A state of a file, known again by its hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Image {
    /// BLAKE3 of its bytes, in hex.
    hash: String,
    /// Its size.
    bytes: u64,
    /// Its permission bits, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<u32>,
}

/// A file, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Whole {
    /// Its text, or its bytes in base 64.
    content: Content,
    /// Its permission bits.
    mode: u32,
    /// BLAKE3 of its bytes, in hex: what a journal did not keep whole is not put back.
    hash: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Content {
    Text(String),
    Base64(String),
}

/// What takes a change back: the arguments of [`super::restore`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Undo {
    /// The path from the workspace's root.
    pub(super) path: String,
    /// The file as the call leaves it; `None` when it leaves none.
    pub(super) left: Option<Image>,
    /// The file as it was; `None` when there was none.
    pub(super) was: Option<Whole>,
    /// The directories that the call makes, the outermost first: they go when they are empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) made: Vec<String>,
}

impl Image {
    fn of(bytes: &[u8]) -> Self {
        Self { hash: blake3::hash(bytes).to_hex().to_string(), bytes: bytes.len() as u64, mode: None }
    }

    pub(super) fn of_digest(digest: Digest) -> Self {
        Self { hash: digest.hash, bytes: digest.bytes, mode: Some(digest.mode) }
    }

    pub(super) fn of_file(file: &FileContent) -> Self {
        Self { mode: Some(file.mode), ..Self::of(&file.bytes) }
    }

    /// Whether a file is in this state, as far as is known of both.
    fn is(&self, file: &FileContent) -> bool {
        self.hash == Self::of(&file.bytes).hash && self.mode.is_none_or(|mode| mode == file.mode)
    }
}

/// Whether a file, or its absence, is in this state.
pub(super) fn is_in(state: Option<&Image>, file: Option<&FileContent>) -> bool {
    match (state, file) {
        (None, None) => true,
        (Some(image), Some(file)) => image.is(file),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

impl Whole {
    pub(super) fn of(file: &FileContent) -> Self {
        let content = match String::from_utf8(file.bytes.clone()) {
            Ok(text) => Content::Text(text),
            Err(_) => Content::Base64(BASE64_STANDARD.encode(&file.bytes)),
        };
        Self { content, mode: file.mode, hash: Image::of(&file.bytes).hash }
    }

    pub(super) fn file(&self) -> Result<FileContent, ToolError> {
        let bytes = match &self.content {
            Content::Text(text) => text.clone().into_bytes(),
            Content::Base64(text) => BASE64_STANDARD.decode(text).map_err(|error| {
                ToolError::Failed(format!("What is to be put back cannot be read: {error}."))
            })?,
        };
        if Image::of(&bytes).hash != self.hash {
            return Err(ToolError::Failed(
                "What was there before was not kept whole, because it held a secret; it cannot be put back."
                    .to_owned(),
            ));
        }
        Ok(FileContent { bytes, mode: self.mode })
    }
}

/// The plan of putting `after` in the place of what is there. `None` removes the file.
pub(super) fn plan(
    workspace: &Workspace,
    path: &str,
    before: Option<&FileContent>,
    after: Option<&[u8]>,
) -> Result<Plan, ToolError> {
    let relative = workspace.relative(path).map_err(|error| explain(workspace, path, &error))?;
    if relative.file_name().is_none() {
        return Err(explain(workspace, path, &PathError::NotAFile("a directory")));
    }
    let made = workspace.missing_directories(&relative).map_err(|error| explain(workspace, path, &error))?;
    let path = relative.to_string_lossy().into_owned();
    let mode = before.map(|file| file.mode);
    let left = after.map(|bytes| Image { mode, ..Image::of(bytes) });
    let change = Change { path: path.clone(), before: before.map(Image::of_file), after: left.clone() };
    let shown = FileContent { bytes: after.unwrap_or_default().to_vec(), mode: mode.unwrap_or_default() };
    let preview = preview(&path, before, after.map(|_| &shown));
    let undo = Undo { path: path.clone(), left, was: before.map(Whole::of), made };
    Ok(Plan {
        body: written(&change)?,
        touches: Some(path),
        preview,
        undo: Some(written(&undo)?),
        effect: None,
    })
}

/// Does what was planned, if the file is still what it was when it was planned.
pub(super) fn execute(
    workspace: &Workspace,
    plan: &Value,
    key: &str,
    make: impl FnOnce(Option<FileContent>) -> Result<Option<Vec<u8>>, ToolError>,
) -> Result<(), ToolError> {
    let change = read(plan)?;
    let path = change.path.as_str();
    let before = present(workspace, path).map_err(|error| explain(workspace, path, &error))?;
    if !is_in(change.before.as_ref(), before.as_ref()) {
        return Err(ToolError::Failed(format!(
            "`{path}` was changed by somebody else in between; nothing was written. Read it again, then decide."
        )));
    }
    let after = make(before)?;
    let planned = change.after.as_ref().map(|image| &image.hash);
    if after.as_ref().map(|bytes| Image::of(bytes).hash).as_ref() != planned {
        return Err(ToolError::Failed(format!(
            "`{path}` would not become what was planned; nothing was written."
        )));
    }
    let done = match after {
        Some(bytes) => workspace.replace(Path::new(path), &bytes, None, key),
        None => workspace.remove(Path::new(path)),
    };
    done.map_err(|error| explain(workspace, path, &error))
}

/// Whether a change took effect: by what the file is now. Clears away what a crash left beside it.
pub(super) fn probe(workspace: &Workspace, plan: &Value, key: &str, done: String) -> Probe {
    let Ok(change) = read(plan) else { return Probe::Unsure("its plan cannot be read".to_owned()) };
    if let Err(error) = workspace.clear(Path::new(&change.path), key) {
        return Probe::Unsure(format!("`{}` {error}", change.path));
    }
    let now = match present(workspace, &change.path) {
        Ok(file) => file,
        Err(error) => return Probe::Unsure(format!("`{}` {error}", change.path)),
    };
    if is_in(change.after.as_ref(), now.as_ref()) {
        Probe::Happened(ToolOutput::text(done))
    } else if is_in(change.before.as_ref(), now.as_ref()) {
        Probe::DidNot
    } else {
        Probe::Unsure(format!("`{}` is neither what it was nor what it was to become", change.path))
    }
}

/// [`probe`], where it may block.
pub(super) async fn probe_blocking(context: &ToolContext, plan: Value, key: String, done: String) -> Probe {
    let Some(workspace) = context.workspace.clone() else {
        return Probe::Unsure("the run has no workspace".to_owned());
    };
    let worker = tokio::task::spawn_blocking(move || probe(&workspace, &plan, &key, done));
    worker.await.unwrap_or_else(|error| Probe::Unsure(format!("the probe crashed: {error}")))
}

/// What a person is shown of a change: the lines that go and come, or the sizes of what is no text.
pub(super) fn preview(path: &str, before: Option<&FileContent>, after: Option<&FileContent>) -> String {
    let text = |file: Option<&FileContent>| match file {
        Some(file) => text_of(path, file.bytes.clone()).ok(),
        None => Some(String::new()),
    };
    let shown = visible(path);
    let what = match (before, after) {
        (None, Some(_)) => format!("make {shown}"),
        (Some(_), None) => format!("delete {shown}"),
        (Some(_), Some(_)) | (None, None) => format!("change {shown}"),
    };
    if let (Some(old), Some(new)) = (text(before), text(after)) {
        return format!("{what}\n{}", diff(&old, &new));
    }
    let size = |file: Option<&FileContent>| file.map_or(0, |file| file.bytes.len());
    format!("{what}\nno text: {} bytes become {}\n", size(before), size(after))
}

pub(super) fn written<T: Serialize>(value: &T) -> Result<Value, ToolError> {
    serde_json::to_value(value)
        .map_err(|error| ToolError::Failed(format!("The plan cannot be written down: {error}.")))
}

fn read(plan: &Value) -> Result<Change, ToolError> {
    Change::deserialize(plan)
        .map_err(|error| ToolError::Failed(format!("The plan of this call cannot be read: {error}.")))
}
