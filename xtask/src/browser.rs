//! `browser`: the dashboard as people use it, in headless Chromium and against the program itself. What drives the browser and
//! what looks whether everybody can use a page are installed under `target/`, by what is pinned beside the cases; the browser
//! is the system's own.

use crate::install::{NPM, Recipe, built_at, call, copy, inside, install};
use crate::repo::Repo;
use std::path::Path;
use std::process::Command;

/// Where the cases lie, with the config and the schedule of what they look at.
const FOLDER: &str = "crates/backstop-server/browser";
const FILES: &[&str] = &["browse.py", "backstop.toml", "scenario.toml"];
/// The names that Chromium has on different systems.
const BROWSERS: &[&str] = &["chromium", "chromium-browser", "google-chrome"];

const DRIVER: Recipe = Recipe {
    what: "what drives the browser",
    pins: &["requirements.txt", "package.json", "package-lock.json"],
    lines: &[
        &["python3", "-m", "venv", "--clear", "venv"],
        &[
            "venv/bin/python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-input",
            "--disable-pip-version-check",
            "--requirement",
            "requirements.txt",
        ],
        NPM,
    ],
};

/// Installs what is needed and goes through the cases; `names` are those that are wanted, none for all.
pub(crate) fn browse(repo: &Repo, names: &[String]) -> Result<(), String> {
    // Nothing to do where everything is there; a machine that has only Rust and a C compiler gets the rest.
    call(Command::new("bash").arg(".ci/tools").current_dir(repo.root()))?;
    let build = ["build", "--quiet", "--package", "backstop-cli"];
    call(Command::new("cargo").args(build).current_dir(repo.root()))?;
    let built = built_at()?;
    let (folder, place) = (repo.root().join(FOLDER), built.join("browser"));
    install(&DRIVER, &folder, &place)?;
    for file in FILES {
        copy(&folder.join(file), &place.join(file))?;
    }
    let chromium = chromium().ok_or("there is no Chromium on the path; nothing is looked at without it")?;
    let program = inside(&place, "venv/bin/python");
    let mut cases = Command::new(program);
    cases.arg("browse.py").arg(built.join("debug/backstop")).arg(chromium).args(names);
    call(cases.current_dir(&place))
}

fn chromium() -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    let dirs: Vec<_> = std::env::split_paths(&path).collect();
    let find = |name: &&str| dirs.iter().map(|dir| dir.join(name)).find(|file| Path::is_file(file));
    BROWSERS.iter().find_map(find)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_at_pages_is_pinned() {
        let folder = Repo::here().root().join(FOLDER);
        crate::install::assert_pinned(&folder);
    }
}
