//! `sdk`: the official SDKs judge the simulated provider. They are installed under `target/`, by what is pinned beside the
//! judges, and installed anew only when the pins change. What cannot be installed is a failure: a judge that is not there
//! has judged nothing.

use crate::repo::Repo;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Where the judges and their pins lie.
const FOLDER: &str = "crates/backstop-sim/sdk";

/// A language's SDKs: how they are installed and what they run.
struct Judge {
    name: &'static str,
    script: &'static str,
    /// The files that say what to install; they lie beside the installation too, and tell whether it is still right.
    pins: &'static [&'static str],
    /// Programs with their arguments, run in the folder of the installation, one after the other.
    install: &'static [&'static [&'static str]],
    program: &'static str,
}

const JUDGES: &[Judge] = &[
    Judge {
        name: "python",
        script: "judge.py",
        pins: &["requirements.txt"],
        install: &[
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
        ],
        program: "venv/bin/python",
    },
    Judge {
        name: "typescript",
        script: "judge.js",
        pins: &["package.json", "package-lock.json"],
        install: &[&["npm", "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"]],
        program: "node",
    },
];

pub(crate) fn judge(repo: &Repo) -> Result<(), String> {
    // Nothing to do where everything is there; a machine that has only Rust and a C compiler gets the rest.
    call(Command::new("bash").arg(".ci/tools").current_dir(repo.root()))?;
    let build = ["build", "--quiet", "--package", "backstop-sim", "--example", "serve"];
    call(Command::new("cargo").args(build).current_dir(repo.root()))?;
    let built = built_at()?;
    for judge in JUDGES {
        let place = built.join("sdk").join(judge.name);
        install(judge, &repo.root().join(FOLDER), &place)?;
        let sim = Sim::start(&built.join("debug/examples/serve"))?;
        // A module finds its packages from where it lies.
        copy(&repo.root().join(FOLDER).join(judge.script), &place.join(judge.script))?;
        call(
            Command::new(inside(&place, judge.program))
                .args([judge.script, &sim.address])
                .current_dir(&place),
        )?;
        sim.stop()?;
    }
    Ok(())
}

/// Cargo's target directory: this program lies in its `debug`.
fn built_at() -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| format!("this program has no path: {error}"))?;
    let debug = this.ancestors().find(|path| path.ends_with("debug"));
    let target = debug.and_then(Path::parent).ok_or("this program does not lie in a target directory")?;
    Ok(target.to_owned())
}

fn install(judge: &Judge, from: &Path, place: &Path) -> Result<(), String> {
    if judge.pins.iter().all(|pin| same(&from.join(pin), &place.join(pin)).unwrap_or(false)) {
        return Ok(());
    }
    eprintln!("        installing the {} SDKs into {}", judge.name, place.display());
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
    for pin in judge.pins {
        copy(&from.join(pin), &unfinished.join(pin))?;
    }
    for line in judge.install {
        let mut command = Command::new(inside(&unfinished, line[0]));
        call(command.args(&line[1..]).current_dir(&unfinished)).map_err(|error| {
            format!(
                "the {} SDKs cannot be installed, and nothing is judged without them: {error}",
                judge.name
            )
        })?;
    }
    std::fs::rename(&unfinished, place).map_err(at)
}

/// A program of the installation, or one of the machine.
fn inside(place: &Path, program: &str) -> PathBuf {
    if program.contains('/') { place.join(program) } else { PathBuf::from(program) }
}

fn same(one: &Path, other: &Path) -> std::io::Result<bool> {
    Ok(std::fs::read(one)? == std::fs::read(other)?)
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    std::fs::copy(from, to).map(drop).map_err(|error| format!("{}: {error}", from.display()))
}

/// Runs a command to its end, with its output as it is.
fn call(command: &mut Command) -> Result<(), String> {
    let status = command.stdin(Stdio::null()).status();
    let status = status.map_err(|error| format!("{command:?} cannot be run: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} failed: {status}")) }
}

/// The simulated provider, on a port of its own choice. Ended when it is dropped.
struct Sim {
    process: Child,
    address: String,
}

impl Sim {
    fn start(program: &Path) -> Result<Self, String> {
        let mut command = Command::new(program);
        let started = command.args(["calm", "7"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let process = started.map_err(|error| format!("{} cannot be run: {error}", program.display()))?;
        let mut sim = Self { process, address: String::new() };
        let out = sim.process.stdout.take().expect("it is piped");
        let mut out = BufReader::new(out);
        out.read_line(&mut sim.address)
            .map_err(|error| format!("the simulated provider says nothing: {error}"))?;
        sim.address.truncate(sim.address.trim_end().len());
        if sim.address.is_empty() {
            return Err("the simulated provider ended before it told its address".to_owned());
        }
        // Nothing is left in the buffer: the rest is written only at the end.
        sim.process.stdout = Some(out.into_inner());
        Ok(sim)
    }

    /// Lets it end by the end of its input, and looks at its bill: judges that asked nothing would leave none.
    fn stop(mut self) -> Result<(), String> {
        drop(self.process.stdin.take());
        let mut told = String::new();
        if let Some(out) = &mut self.process.stdout {
            out.read_to_string(&mut told)
                .map_err(|error| format!("the simulated provider's bill: {error}"))?;
        }
        let status = self.process.wait().map_err(|error| format!("the simulated provider: {error}"))?;
        let billed = told.trim().strip_prefix("billed $").and_then(|bill| bill.parse::<f64>().ok());
        if status.success() && billed.is_some_and(|bill| bill > 0.0) {
            Ok(())
        } else {
            Err(format!("the simulated provider ended with {status} and the bill `{}`", told.trim()))
        }
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        // When it ended by itself there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_is_pinned() {
        let folder = Repo::here().root().join(FOLDER);
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
        for line in read("requirements.txt").lines().filter(|line| !line.starts_with('#')) {
            assert!(line.contains("=="), "{line}");
        }
        let lock = read("package-lock.json");
        assert!(lock.contains("\"integrity\""), "each package is held by its hash");
        assert!(!lock.contains("\"resolved\""), "no addresses: npm knows where packages come from");
        for name in ["\"@anthropic-ai/sdk\": \"", "\"openai\": \""] {
            let manifest = read("package.json");
            let (_, version) = manifest.split_once(name).unwrap();
            assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{name}{version}");
        }
    }

    #[test]
    fn an_installation_is_right_while_its_pins_are_the_same() {
        let pin = Repo::here().root().join(FOLDER).join("requirements.txt");
        assert!(same(&pin, &pin).unwrap());
        assert!(!same(&pin, &pin.with_file_name("package.json")).unwrap());
        assert!(same(&pin, Path::new("gone")).is_err());
    }
}
