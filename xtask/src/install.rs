//! What `sdk`, `mcp` and `browser` run that is no crate: installed under `target/` by what is pinned in the repository, and installed
//! anew only when the pins change. What cannot be installed is a failure: a judge that is not there has judged nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Something to install.
pub(crate) struct Recipe {
    /// What it is, for people.
    pub(crate) what: &'static str,
    /// The files that say what to install; they lie beside the installation too, and tell whether it is still right.
    pub(crate) pins: &'static [&'static str],
    /// Programs with their arguments, run in the folder of the installation, one after the other.
    pub(crate) lines: &'static [&'static [&'static str]],
}

/// How packages of npm are installed: exactly those of the lock file, running nothing of theirs.
pub(crate) const NPM: &[&str] = &["npm", "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"];

/// Installs it into `place`, by the pins in `from`.
pub(crate) fn install(recipe: &Recipe, from: &Path, place: &Path) -> Result<(), String> {
    if recipe.pins.iter().all(|pin| same(&from.join(pin), &place.join(pin)).unwrap_or(false)) {
        return Ok(());
    }
    eprintln!("        installing {} into {}", recipe.what, place.display());
    let at = |error: std::io::Error| format!("{}: {error}", place.display());
    if place.exists() {
        std::fs::remove_dir_all(place).map_err(at)?;
    }
    // Into a folder of another name, which gets its own only when everything is there.
    let unfinished = place.with_extension("unfinished");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(at)?;
    }
    std::fs::create_dir_all(&unfinished).map_err(at)?;
    for pin in recipe.pins {
        copy(&from.join(pin), &unfinished.join(pin))?;
    }
    for line in recipe.lines {
        let mut command = Command::new(inside(&unfinished, line[0]));
        call(command.args(&line[1..]).current_dir(&unfinished)).map_err(|error| {
            format!("{} cannot be installed, and nothing is judged without them: {error}", recipe.what)
        })?;
    }
    std::fs::rename(&unfinished, place).map_err(at)
}

/// Cargo's target directory: this program lies in its `debug`.
pub(crate) fn built_at() -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| format!("this program has no path: {error}"))?;
    let debug = this.ancestors().find(|path| path.ends_with("debug"));
    let target = debug.and_then(Path::parent).ok_or("this program does not lie in a target directory")?;
    Ok(target.to_owned())
}

/// A program of the installation, or one of the machine.
pub(crate) fn inside(place: &Path, program: &str) -> PathBuf {
    if program.contains('/') { place.join(program) } else { PathBuf::from(program) }
}

fn same(one: &Path, other: &Path) -> std::io::Result<bool> {
    Ok(std::fs::read(one)? == std::fs::read(other)?)
}

pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), String> {
    std::fs::copy(from, to).map(drop).map_err(|error| format!("{}: {error}", from.display()))
}

/// Runs a command to its end, with its output as it is.
pub(crate) fn call(command: &mut Command) -> Result<(), String> {
    let status = command.stdin(Stdio::null()).status();
    let status = status.map_err(|error| format!("{command:?} cannot be run: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} failed: {status}")) }
}

/// Holds what is installed to exact versions: each line of `requirements.txt`, each package of the lock file by its hash.
#[cfg(test)]
pub(crate) fn assert_pinned(folder: &Path) {
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
    for line in read("requirements.txt").lines().filter(|line| !line.starts_with('#')) {
        assert!(line.contains("=="), "{line}");
    }
    let lock = read("package-lock.json");
    assert!(lock.contains("\"integrity\""), "each package is held by its hash");
    assert!(!lock.contains("\"resolved\""), "no addresses: npm knows where packages come from");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::Repo;

    #[test]
    fn an_installation_is_right_while_its_pins_are_the_same() {
        let pin = Repo::here().root().join("crates/backstop-sim/sdk/requirements.txt");
        assert!(same(&pin, &pin).unwrap());
        assert!(!same(&pin, &pin.with_file_name("package.json")).unwrap());
        assert!(same(&pin, Path::new("gone")).is_err());
    }
}
