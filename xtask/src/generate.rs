//! `gen`: files that are written by a program and checked in, so that a reader and an editor find them.
//!
//! To add one, put a line in [`GENERATED`] and a test into the crate that makes it, which compares the checked-in file
//! with what it makes now.

use crate::repo::Repo;

/// A file, and the command whose output it is.
struct Generated {
    file: &'static str,
    program: &'static str,
    args: &'static [&'static str],
}

const GENERATED: &[Generated] = &[Generated {
    file: "docs/reference/backstop.schema.json",
    program: "cargo",
    args: &["run", "--quiet", "-p", "backstop-cli", "--", "schema"],
}];

pub(crate) fn write(repo: &Repo) -> Result<(), String> {
    for generated in GENERATED {
        let text = repo.output(generated.program, generated.args)?;
        std::fs::write(repo.root().join(generated.file), text)
            .map_err(|error| format!("{}: {error}", generated.file))?;
        println!("{}", generated.file);
    }
    Ok(())
}
