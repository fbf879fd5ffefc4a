//! `write_file`: makes a file, or replaces it whole.

use super::change_file::{ChangeFile, FileChange};
use crate::tool::{Tool, ToolError};
use crate::workspace::FileContent;
use backstop_label::ArgRole;
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// The file, from the workspace's root. Directories above it are made.
    path: String,
    /// The whole text of the file.
    content: String,
}

pub(super) fn tool() -> impl Tool {
    ChangeFile::<Args>::new()
}

impl FileChange for Args {
    const NAME: &'static str = "write_file";
    const DESCRIPTION: &'static str =
        "Make a text file, or replace the whole of one. To change a part of a file, use edit_file.";
    const ROLES: &'static [(&'static str, ArgRole)] =
        &[("path", ArgRole::Object), ("content", ArgRole::Content)];
    const NEEDS_FILE: bool = false;

    fn path(&self) -> &str {
        &self.path
    }

    fn after(&self, _: Option<&FileContent>) -> Result<Option<Vec<u8>>, ToolError> {
        Ok(Some(self.content.clone().into_bytes()))
    }

    fn done(&self) -> String {
        let Self { path, content } = self;
        format!("Wrote {path}: {} bytes, {} lines.", content.len(), content.lines().count())
    }
}
