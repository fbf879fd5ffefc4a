//! The benchmark of the gateway, as one program with four roles: the harness, and the mock provider, the floor and the
//! load client that it needs. `cargo xtask bench gateway` builds and starts it; docs/benchmarks.md says how it measures.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

mod clock;
mod figures;
mod floor;
mod gateway;
mod http1;
mod load;
mod machine;
mod mock;
mod prompt;

use clap::{Parser, Subcommand};
use std::fmt;
use std::process::ExitCode;
use tokio::runtime::Builder;
use tokio::task::LocalSet;

/// Measure the gateway beside nginx, a floor and the bare provider
#[derive(Debug, Parser)]
#[command(name = "backstop-bench", max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    role: Role,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Start everything, run the scenarios in paired rounds, print tables and verdicts
    Gateway(gateway::Options),
    /// Serve a provider that answers at once or on schedule, and counts what it bills
    Mock(mock::Options),
    /// Serve a bare hyper proxy: the least that a gateway in Rust costs here
    Floor(floor::Options),
    /// Load one address, and print what it took
    Load(load::Options),
}

/// Why a role ended, and the exit code for it.
#[derive(Debug)]
pub(crate) struct Stop {
    code: u8,
    message: String,
}

impl Stop {
    /// Something failed that was to work.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// The one who started it must change something first.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into() }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Each role has one thread, so that its core is the only thing it can use up.
    let done = LocalSet::new().block_on(&runtime, async {
        match cli.role {
            Role::Gateway(options) => gateway::run(&options).await,
            Role::Mock(options) => mock::serve(&options).await,
            Role::Floor(options) => floor::serve(&options).await,
            Role::Load(options) => load::print(&options).await,
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            eprintln!("error: {stop}");
            ExitCode::from(stop.code)
        }
    }
}
