//! Walks the workspace, directory by directory, each opened beneath the root. Leaves out `.git` and what `.gitignore`
//! files ignore, unless it is asked for. Symbolic links are shown and never followed.

use crate::workspace::{EntryKind, PathError, Workspace};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::path::{Path, PathBuf};

/// The most entries that one walk looks at.
const ENTRIES_MAX: usize = 50_000;
/// The deepest directory that is entered.
const DEPTH_MAX: usize = 64;
/// The largest `.gitignore` that is obeyed, in bytes.
const IGNORE_FILE_MAX_BYTES: u64 = 256 * 1024;

/// Something that was found, by its path from the workspace's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) kind: EntryKind,
}

/// Everything below `from`, in the order of the paths, and whether the walk was cut short.
pub(super) fn walk(
    workspace: &Workspace,
    from: &Path,
    with_ignored: bool,
) -> Result<(Vec<Found>, bool), PathError> {
    let mut walk = Walk { workspace, with_ignored, found: Vec::new(), seen: 0, cut: false };
    let mut ignores = Vec::new();
    if !with_ignored {
        // The directories above `from` have a say as well, the root's first.
        let above: Vec<_> = from.ancestors().skip(1).collect();
        ignores.extend(above.into_iter().rev().filter_map(|directory| ignore_file(workspace, directory)));
    }
    walk.enter(from, &mut ignores, 0)?;
    Ok((walk.found, walk.cut))
}

struct Walk<'a> {
    workspace: &'a Workspace,
    with_ignored: bool,
    found: Vec<Found>,
    seen: usize,
    cut: bool,
}

impl Walk<'_> {
    fn enter(
        &mut self,
        directory: &Path,
        ignores: &mut Vec<Gitignore>,
        depth: usize,
    ) -> Result<(), PathError> {
        let entries = self.workspace.entries(directory)?;
        let own = if self.with_ignored { None } else { ignore_file(self.workspace, directory) };
        let had_own = own.is_some();
        ignores.extend(own);
        for entry in entries {
            self.seen += 1;
            if self.seen > ENTRIES_MAX {
                self.cut = true;
                break;
            }
            let path = directory.join(&entry.name);
            let is_directory = entry.kind == EntryKind::Directory;
            if !self.with_ignored && (entry.name == ".git" || ignored(ignores, &path, is_directory)) {
                continue;
            }
            self.found.push(Found { path: path.clone(), kind: entry.kind });
            if is_directory && depth >= DEPTH_MAX {
                self.cut = true;
            } else if is_directory && self.enter(&path, ignores, depth + 1).is_err() {
                // Removed or made unreadable while we walk: what is below it is not there for us.
                self.cut = true;
            }
        }
        if had_own {
            ignores.pop();
        }
        Ok(())
    }
}

/// The nearest `.gitignore` that says anything wins.
fn ignored(ignores: &[Gitignore], path: &Path, is_directory: bool) -> bool {
    for ignore in ignores.iter().rev() {
        let said = ignore.matched(path, is_directory);
        if !said.is_none() {
            return said.is_ignore();
        }
    }
    false
}

fn ignore_file(workspace: &Workspace, directory: &Path) -> Option<Gitignore> {
    let file = workspace.read(&directory.join(".gitignore"), IGNORE_FILE_MAX_BYTES).ok()?;
    let mut builder = GitignoreBuilder::new(directory);
    for line in String::from_utf8_lossy(&file.bytes).lines() {
        // A line that is no pattern says nothing.
        drop(builder.add_line(None, line));
    }
    builder.build().ok()
}
