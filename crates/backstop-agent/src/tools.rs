//! The tools that are built in. Each says in its results and errors what to do next.

mod change;
mod change_file;
mod delegate;
mod delete;
mod edit;
mod files;
mod finish;
mod list;
mod move_file;
mod read;
mod read_result;
mod restore;
mod search;
mod submit_task;
mod walk;
mod write;

pub use delegate::Delegate;
pub(crate) use delegate::spec as delegate_spec;
pub(crate) use finish::{check as check_finish, spec as finish_spec};
pub use read_result::ReadResult;
pub(crate) use read_result::more;
pub use submit_task::SubmitTask;
pub(crate) use submit_task::spec as submit_spec;

use crate::{Toolbox, ToolboxError};

/// The tool that ends a run. It is the run's own and cannot be replaced.
pub const FINISH: &str = "finish";

/// The tool that reads on in what another one gave. A run that has one which may give much has it as well.
pub const READ_RESULT: &str = "read_result";

/// The names of the file tools.
pub const FILE_TOOLS: &[&str] =
    &["list_files", "read_file", "search_files", "write_file", "edit_file", "move_file", "delete_file"];

/// Adds `list_files`, `read_file`, `search_files`, `write_file`, `edit_file`, `move_file` and `delete_file`, all confined to the run's workspace.
pub fn add_file_tools(toolbox: &mut Toolbox) -> Result<(), ToolboxError> {
    toolbox
        .add(list::tool())?
        .add(read::tool())?
        .add(search::tool())?
        .add(write::tool())?
        .add(edit::tool())?
        .add(move_file::MoveFile::new())?
        .add(delete::tool())?;
    Ok(())
}

#[cfg(test)]
mod tests;
