//! The files of the repository, as git knows them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository that this program was built from.
pub(crate) struct Repo {
    root: PathBuf,
}

impl Repo {
    pub(crate) fn here() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root");
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Every file that is or would be committed, by its path from the root, sorted.
    pub(crate) fn files(&self) -> Result<Vec<String>, String> {
        let args = ["ls-files", "--cached", "--others", "--exclude-standard"];
        let output = self.output("git", &args)?;
        let mut files: Vec<_> = output.lines().map(str::to_owned).collect();
        files.retain(|file| self.root.join(file).is_file());
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// The text of a file; `None` when it is not text.
    pub(crate) fn read(&self, file: &str) -> Result<Option<String>, String> {
        let bytes = std::fs::read(self.root.join(file)).map_err(|error| format!("{file}: {error}"))?;
        Ok(String::from_utf8(bytes).ok())
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// What a command prints. Fails with what it says on stderr.
    pub(crate) fn output(&self, program: &str, args: &[&str]) -> Result<String, String> {
        let line = format!("{program} {}", args.join(" "));
        let output = Command::new(program)
            .args(args)
            .current_dir(&self.root)
            .output()
            .map_err(|error| format!("`{line}` cannot be run: {error}"))?;
        if !output.status.success() {
            return Err(format!("`{line}` failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
