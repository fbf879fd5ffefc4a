//! `test` and `bench`: a list of commands, run one after the other with their output as it is.

use crate::repo::Repo;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime};

/// One command of a list.
struct Step {
    name: &'static str,
    program: &'static str,
    args: Vec<&'static str>,
    env: Vec<(&'static str, &'static str)>,
}

impl Step {
    fn cargo(name: &'static str, args: &[&'static str]) -> Self {
        Self { name, program: "cargo", args: args.to_vec(), env: Vec::new() }
    }

    fn with_env(mut self, key: &'static str, value: &'static str) -> Self {
        self.env.push((key, value));
        self
    }

    /// The command as it can be pasted into a shell.
    fn line(&self) -> String {
        let env = self.env.iter().map(|(key, value)| format!("{key}='{value}' "));
        format!("{}{} {}", env.collect::<String>(), self.program, self.args.join(" "))
    }
}

/// Everything that continuous integration runs. What a new part needs is a line here. The tests come last, so that the
/// output ends with their results.
fn test_steps(nextest: bool) -> Vec<Step> {
    let mut steps = vec![
        Step::cargo("format", &["fmt", "--all", "--check"]),
        Step::cargo("lints", &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]),
        Step::cargo("tidy", &["xtask", "tidy"]),
        Step::cargo("documentation", &["doc", "--workspace", "--no-deps", "--quiet"])
            .with_env("RUSTDOCFLAGS", "-D warnings"),
        Step::cargo("official SDKs", &["xtask", "sdk"]),
        Step::cargo("reference MCP servers", &["xtask", "mcp"]),
        Step::cargo("dashboard in a browser", &["xtask", "browser"]),
    ];
    if nextest {
        steps.push(Step::cargo("documentation tests", &["test", "--workspace", "--doc", "--quiet"]));
        steps.push(Step::cargo("tests", &["nextest", "run", "--workspace", "--no-fail-fast"]));
    } else {
        steps.push(Step::cargo("tests", &["test", "--workspace", "--no-fail-fast"]));
    }
    steps
}

pub(crate) fn test(repo: &Repo) -> Result<(), String> {
    let nextest = repo.output("cargo", &["nextest", "--version"]).is_ok();
    run(repo, &test_steps(nextest))
}

/// Runs the benchmarks one after the other, and tells their verdicts together at the end. A target that is missed is no
/// error: a machine that is busy with something else misses it too.
pub(crate) fn bench(repo: &Repo) -> Result<(), String> {
    let args = ["bench", "--workspace", "--bench", "*"];
    let line = format!("cargo {}", args.join(" "));
    let mut command = Command::new("cargo");
    command.args(args).current_dir(repo.root()).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = command.spawn().map_err(|error| format!("`{line}` cannot be run: {error}"))?;
    let out = running.stdout.take().expect("it is piped");
    let mut verdicts = Vec::new();
    for told in BufReader::new(out).lines() {
        let told = told.map_err(|error| format!("`{line}`: {error}"))?;
        println!("{told}");
        verdicts.extend(is_verdict(&told).then_some(told));
    }
    let status = running.wait().map_err(|error| format!("`{line}`: {error}"))?;
    println!();
    for verdict in &verdicts {
        println!("{verdict}");
    }
    if status.success() { Ok(()) } else { Err(format!("`{line}` failed: {status}")) }
}

/// Builds the program as it is shipped, then the harness, and measures. The exit code is the harness's own: 2 when the
/// one who asked must change something first.
pub(crate) fn bench_gateway(repo: &Repo, options: &[String]) -> Result<ExitCode, String> {
    // One after the other: together they would share their features, and something else would be measured.
    let builds = [
        Step::cargo("program", &["build", "--profile", "dist", "--package", "backstop-cli"]),
        Step::cargo("harness", &["build", "--release", "--package", "backstop-bench"]),
    ];
    run(repo, &builds)?;
    harness(repo, "gateway", options)
}

/// Builds the harness, and measures durable runs.
pub(crate) fn bench_durable(repo: &Repo, options: &[String]) -> Result<ExitCode, String> {
    run(repo, &[Step::cargo("harness", &["build", "--release", "--package", "backstop-bench"])])?;
    harness(repo, "durable", options)
}

fn harness(repo: &Repo, role: &str, options: &[String]) -> Result<ExitCode, String> {
    let mut command = Command::new("cargo");
    command.args(["run", "--quiet", "--release", "--package", "backstop-bench", "--", role]).args(options);
    let status = command.current_dir(repo.root()).status();
    let status = status.map_err(|error| format!("the harness cannot be run: {error}"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Whether a benchmark says with this line that a target was met or missed.
fn is_verdict(line: &str) -> bool {
    line.split_whitespace().any(|word| matches!(word.trim_end_matches(':'), "PASS" | "MISS"))
}

fn run(repo: &Repo, steps: &[Step]) -> Result<(), String> {
    let mut timings: Vec<(&str, Duration)> = Vec::new();
    for (number, step) in (1..).zip(steps) {
        eprintln!("[{number}/{}] {}: {}", steps.len(), step.name, step.line());
        if number == steps.len() {
            // Told before the last step, so that its own results end the output.
            for (name, spent) in &timings {
                eprintln!("        {:>7.1} s  {name}", spent.as_secs_f64());
            }
        }
        let started = now();
        let status = Command::new(step.program)
            .args(&step.args)
            .envs(step.env.iter().copied())
            .current_dir(repo.root())
            .stdin(Stdio::null())
            .status()
            .map_err(|error| format!("`{}` cannot be run: {error}", step.line()))?;
        timings.push((step.name, now().duration_since(started).unwrap_or_default()));
        if !status.success() {
            return Err(format!("{} failed; to run it again: {}", step.name, step.line()));
        }
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a chore may look at the clock: it decides nothing by it")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_told_from_other_lines() {
        let rows = [
            ("PASS  resume < 10 ms", true),
            ("stack: 12 us: MISS", true),
            ("MISSING", false),
            ("12 us", false),
        ];
        for (line, want) in rows {
            assert_eq!(is_verdict(line), want, "{line}");
        }
    }

    #[test]
    fn the_tests_come_last_and_doc_tests_are_not_lost() {
        for nextest in [false, true] {
            let steps = test_steps(nextest);
            assert_eq!(steps.last().unwrap().name, "tests");
            let lines: Vec<_> = steps.iter().map(Step::line).collect();
            let runs_doc_tests =
                |line: &String| line.contains("--doc") || line.starts_with("cargo test --workspace");
            assert!(lines.iter().any(runs_doc_tests), "{lines:?}");
            assert!(
                lines.contains(
                    &"RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --quiet".to_owned()
                )
            );
        }
    }
}
