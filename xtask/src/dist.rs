//! `dist`: the program as it is shipped. It is built twice: once to count which code a gateway under load runs through, and
//! once laid out by that. A request runs through more code than the first cache holds, so where the code lies is a fifth of
//! what it costs.

use crate::repo::Repo;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the program lies when it is done, below the repository.
const PROGRAM: &str = "target/dist/backstop";
/// What the gateway does while it is counted: what the benchmark measures, and larger bodies.
const TRAINING: [&str; 8] =
    ["--scenarios", "max,c1,ttft,streamload,large", "--rounds", "1", "--secs", "3", "--targets", "gateway"];

/// Builds it.
pub(crate) fn build(repo: &Repo) -> Result<(), String> {
    let merge = profdata(repo)?;
    let dir = repo.root().join("target/dist-profile");
    // What an earlier build counted would be counted in.
    drop(fs::remove_dir_all(&dir));
    let (counts, target) = (dir.join("counts"), dir.join("target"));
    fs::create_dir_all(&counts).map_err(|error| format!("{}: {error}", counts.display()))?;
    let host = host(repo)?;
    // Build scripts and macros are for this machine, and not counted: so the target is named.
    let cargo = |flags: String, args: &[&str]| {
        let mut command = Command::new("cargo");
        command.args(args).args(["--target", &host]).env("RUSTFLAGS", flags);
        command.env("CARGO_TARGET_DIR", &target).current_dir(repo.root());
        done(command)
    };
    let program = ["build", "--profile", "dist", "--package", "backstop-cli"];
    cargo(format!("-Cprofile-generate={}", counts.display()), &program)?;
    let built = target.join(&host).join("dist/backstop");
    let mut harness = Command::new("cargo");
    harness.args([
        "run",
        "--quiet",
        "--release",
        "--package",
        "backstop-bench",
        "--",
        "gateway",
        "--backstop",
    ]);
    harness.arg(&built).args(TRAINING).current_dir(repo.root());
    // Its verdicts say nothing here: what counts is slow.
    harness.status().map_err(|error| format!("the harness cannot be run: {error}"))?;
    let profile = dir.join("profile");
    let files = counted(&counts)?;
    let mut merging = Command::new(merge);
    merging.arg("merge").arg("-o").arg(&profile).args(&files);
    done(merging)?;
    let flags = format!("-Cprofile-use={} -Cllvm-args=-pgo-warn-missing-function=false", profile.display());
    cargo(flags, &program)?;
    let shipped = repo.root().join(PROGRAM);
    let parent = shipped.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
    fs::copy(&built, &shipped).map_err(|error| format!("{}: {error}", shipped.display()))?;
    println!("{}", shipped.display());
    Ok(())
}

fn counted(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    if files.is_empty() {
        return Err("the gateway was not counted: the harness did not get it to run".to_owned());
    }
    Ok(files)
}

fn done(mut command: Command) -> Result<(), String> {
    let line = command.get_program().display().to_string();
    let status = command.status().map_err(|error| format!("{line} cannot be run: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{line} failed: {status}")) }
}

fn host(repo: &Repo) -> Result<String, String> {
    said(repo, "host: ")
}

/// What `rustc -vV` says.
fn said(repo: &Repo, about: &str) -> Result<String, String> {
    let version = repo.output("rustc", &["-vV"])?;
    let line = version.lines().find_map(|line| line.strip_prefix(about));
    line.map(str::to_owned).ok_or_else(|| format!("rustc does not say its `{about}`"))
}

/// The program that merges counts: of the same LLVM as the compiler, since others cannot read its files.
fn profdata(repo: &Repo) -> Result<PathBuf, String> {
    let version = said(repo, "LLVM version: ")?;
    let major = version.split('.').next().unwrap_or_default().to_owned();
    let sysroot = repo.output("rustc", &["--print", "sysroot"])?;
    let shipped =
        PathBuf::from(sysroot.trim()).join("lib/rustlib").join(host(repo)?).join("bin/llvm-profdata");
    if shipped.exists() {
        return Ok(shipped);
    }
    let named = format!("llvm-profdata-{major}");
    match repo.output(&named, &["--version"]) {
        Ok(_) => Ok(PathBuf::from(named)),
        Err(_) => Err(format!(
            "`llvm-profdata` of LLVM {major} is not there: `rustup component add llvm-tools`, or `apt-get install llvm-{major}`; \
             without it, `cargo build --profile dist -p backstop-cli` builds a program that needs a fifth more of a core"
        )),
    }
}
