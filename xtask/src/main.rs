//! Checks and chores of this repository: `cargo xtask help` lists them.
//!
//! What continuous integration runs is what `cargo xtask test` runs; there is no second place where it is written.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

mod browser;
mod dist;
mod generate;
mod install;
mod mcp;
mod repo;
mod run;
mod sdk;
mod tidy;

use repo::Repo;
use std::process::ExitCode;

const HELP: &str = "\
Checks and chores of this repository

Usage: cargo xtask COMMAND

Commands:
  test    Run everything that continuous integration runs, and stop at the first failure
  tidy    Check the rules that neither the compiler nor clippy can: edges, sizes, pages, leftovers
  sdk     Let the official SDKs judge the simulated provider and the gateway; installs them under target/
  mcp     Use the reference servers of MCP as tools; installs them under target/
  browser [CASE…]
          Use the dashboard in headless Chromium, as people do; installs what drives it under target/
  bench   Run all benchmarks but the gateway's, and tell at the end which targets were met
  bench gateway [OPTIONS]
          Measure the gateway beside nginx; `bench gateway --help` lists the options
  bench durable [OPTIONS]
          Measure durable runs beside the commits they cannot do without
  dist    Build the program as it is shipped, laid out by what a gateway under load runs through
  gen     Write the generated files anew
  help    Print this
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let repo = Repo::here();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["test"] => run::test(&repo),
        ["tidy"] => tidy(&repo),
        ["sdk"] => sdk::judge(&repo),
        ["mcp"] => mcp::use_servers(&repo),
        ["browser", ..] => browser::browse(&repo, &args[1..]),
        ["bench"] => run::bench(&repo),
        // It has an exit code of its own: 2 when something must be installed first.
        ["bench", "gateway", ..] => match run::bench_gateway(&repo, &args[2..]) {
            Ok(code) => return code,
            Err(message) => Err(message),
        },
        ["bench", "durable", ..] => match run::bench_durable(&repo, &args[2..]) {
            Ok(code) => return code,
            Err(message) => Err(message),
        },
        ["dist"] => dist::build(&repo),
        ["gen"] => generate::write(&repo),
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn tidy(repo: &Repo) -> Result<(), String> {
    let problems = tidy::check(repo)?;
    for problem in &problems {
        println!("{problem}");
    }
    match problems.len() {
        0 => Ok(()),
        count => Err(format!("tidy found {count} problems; each line above says what to do")),
    }
}

/// The rules are a test, so that `cargo test` is the whole truth.
#[test]
fn this_repository_is_tidy() {
    let problems = tidy::check(&Repo::here()).expect("the repository can be read");
    let shown: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), shown.join("\n"));
}
