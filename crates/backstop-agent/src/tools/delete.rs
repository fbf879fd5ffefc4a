//! `delete_file`: removes one file. It can be taken back.

use super::change_file::{ChangeFile, FileChange};
use crate::tool::{Tool, ToolError};
use crate::workspace::FileContent;
use backstop_label::ArgRole;
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// The file, from the workspace's root.
    path: String,
}

pub(super) fn tool() -> impl Tool {
    ChangeFile::<Args>::new()
}

impl FileChange for Args {
    const NAME: &'static str = "delete_file";
    const DESCRIPTION: &'static str = "Delete one file. Directories cannot be deleted.";
    const ROLES: &'static [(&'static str, ArgRole)] = &[("path", ArgRole::Object)];
    const NEEDS_FILE: bool = true;

    fn path(&self) -> &str {
        &self.path
    }

    fn after(&self, _: Option<&FileContent>) -> Result<Option<Vec<u8>>, ToolError> {
        Ok(None)
    }

    fn done(&self) -> String {
        format!("Deleted {}.", self.path)
    }
}
