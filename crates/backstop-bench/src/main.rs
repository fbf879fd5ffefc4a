//! The benchmarks of the gateway and of durable runs, as one program with many roles: the harnesses, and what they need: the
//! mock provider, the load client, the scenarios, the floors. `cargo xtask bench gateway` and `cargo xtask bench durable` build
//! and start it; docs/benchmarks.md says how it measures.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

mod clock;
mod durable;
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

/// The one that the program has, since the engine is measured in this process.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measure the gateway beside nginx, a floor and the bare provider, and durable runs beside a floor
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
    /// Measure durable runs beside their floor, print a table and verdicts
    Durable(durable::harness::Options),
    /// One run of many steps; prints a JSON line, as all that follow
    W1(durable::Options),
    /// Many tasks through the queue, some at a time
    W2(durable::Options),
    /// One task of one step at a time, on idle workers
    W2lat(durable::Options),
    /// Kills workers in the middle of it, and lets others go on
    W3(durable::Options),
    /// Kills processes at random, again and again, until the queue is empty; fails unless each task was done once
    Kills(durable::kills::Options),
    /// Puts the tasks of w3 into the queue
    W3Submit(durable::Options),
    /// Works until the queue is empty
    W3Work(durable::Options),
    /// Makes the store
    Init(durable::Options),
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
    if let Some(done) = durable::dispatch(&cli.role) {
        return ended(done);
    }
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
            // They have more than one thread, as the program itself.
            _ => Ok(()),
        }
    });
    ended(done)
}

fn ended(done: Result<(), Stop>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            eprintln!("error: {stop}");
            ExitCode::from(stop.code)
        }
    }
}
