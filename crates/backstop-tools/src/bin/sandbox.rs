//! The helper of the sandbox as a program of its own, for the tests. The program `backstop` has the same as a subcommand.

use std::process::ExitCode;

fn main() -> ExitCode {
    backstop_tools::sandbox::enter()
}
