//! Runs the binary in a directory of its own, with an environment of its own.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A directory to run the binary in.
pub(crate) struct Place(TempDir);

/// What a command did.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path().join(path)).unwrap()
    }

    /// The binary with nothing of the environment but what is needed to find no provider.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstop"));
        command.args(args).current_dir(self.path()).env_clear().stdin(Stdio::null());
        // Nothing listens on the discard port: an Ollama of the machine the tests run on does not matter.
        command.env("OLLAMA_HOST", "http://127.0.0.1:9").env("TMPDIR", self.path());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Done {
        self.done(self.command(args).output().unwrap())
    }

    /// Paths of this place become `[dir]`, so that what is printed can be compared.
    pub(crate) fn done(&self, output: Output) -> Done {
        let real = self.path().canonicalize().unwrap();
        let clean = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            text.replace(real.to_str().unwrap(), "[dir]").replace(self.path().to_str().unwrap(), "[dir]")
        };
        Done {
            code: output.status.code().unwrap_or(-1),
            out: clean(output.stdout),
            err: clean(output.stderr),
        }
    }
}

impl Done {
    /// All of it in one text, to be compared.
    pub(crate) fn shown(&self) -> String {
        let part = |name: &str, text: &str| match text {
            "" => String::new(),
            text => {
                // An editor that trims lines must not break a snapshot.
                let lines: Vec<_> = text.trim_end().lines().map(str::trim_end).collect();
                format!("--- {name}\n{}\n", lines.join("\n"))
            }
        };
        format!("exit {}\n{}{}", self.code, part("stdout", &self.out), part("stderr", &self.err))
    }
}
