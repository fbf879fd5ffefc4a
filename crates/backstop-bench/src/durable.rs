//! Durable runs: the scenarios, by Backstop and by the floor, each as a program of its own that prints one JSON line.
//! The command line and the figures are those of common rulers for durable engines, so that others can be measured beside it.

mod crash;
mod floor;
pub(crate) mod harness;
pub(crate) mod kills;
mod ours;
mod world;

use crate::{Role, Stop};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use tokio::runtime::Builder;

/// Who does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Target {
    /// The whole engine.
    Backstop,
    /// The commits that it cannot be done without, and nothing else.
    Floor,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Backstop => "backstop",
            Self::Floor => "floor",
        }
    }
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Keep the store in this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Who does it
    #[arg(long, value_enum, default_value = "backstop")]
    pub(crate) target: Target,
    /// Steps of each run
    #[arg(long, default_value_t = 200)]
    pub(crate) steps: usize,
    /// Tasks
    #[arg(long, default_value_t = 1_000)]
    pub(crate) tasks: usize,
    /// Runs at a time
    #[arg(long, default_value_t = 16)]
    pub(crate) concurrency: usize,
    /// Bytes that the model answers, and the tool, at each step
    #[arg(long, default_value_t = 1_024)]
    pub(crate) payload: usize,
    /// Leave a line for each thing that is done in this file
    #[arg(long, value_name = "FILE")]
    pub(crate) effects: Option<PathBuf>,
    /// The kind of store; there is one
    #[arg(long, default_value = "sqlite", value_parser = ["sqlite"])]
    backend: String,
    /// The address of a database server; not needed
    #[arg(long, value_name = "DSN", hide = true)]
    dsn: Option<String>,
}

/// Runs a scenario to its end; `None` where the role is none.
pub(crate) fn dispatch(role: &Role) -> Option<Result<(), Stop>> {
    let done = match role {
        Role::Durable(options) => return Some(harness::run(options)),
        Role::W3(options) => crash::w3(options),
        Role::W1(options) => match options.target {
            Target::Backstop => on_threads(ours::w1(options)),
            Target::Floor => floor::w1(options),
        },
        Role::W2(options) => match options.target {
            Target::Backstop => on_threads(ours::w2(options)),
            Target::Floor => floor::w2(options),
        },
        Role::W2lat(options) => match options.target {
            Target::Backstop => on_threads(ours::w2lat(options)),
            Target::Floor => floor::w2lat(options),
        },
        Role::W3Submit(options) => on_threads(ours::submit(options)),
        Role::W3Work(options) => on_threads(ours::drain(options)),
        Role::Kills(options) => on_threads(kills::run(options)),
        Role::Init(options) => on_threads(ours::init(options)),
        Role::Gateway(_) | Role::Mock(_) | Role::Floor(_) | Role::Load(_) => return None,
    };
    Some(done.map(|line| println!("{line}")))
}

/// The program itself has several threads, too.
fn on_threads(work: impl Future<Output = Result<Value, Stop>>) -> Result<Value, Stop> {
    let runtime = Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| Stop::failed(format!("no runtime: {error}")))?.block_on(work)
}

/// Where times lie, in milliseconds, by nearest rank.
fn spread(mut times: Vec<Duration>) -> Value {
    times.sort_unstable();
    let Some(last) = times.len().checked_sub(1) else { return Value::Null };
    let at = |percent: usize| millis(times[(last * percent) / 100]);
    let all: Duration = times.iter().sum();
    let mean = millis(all) / f64::from(u32::try_from(times.len()).unwrap_or(u32::MAX));
    json!({ "p50": at(50), "p95": at(95), "p99": at(99), "max": at(100), "mean": mean })
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn per_second(count: usize, time: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_ranked() {
        let times = (1..=100).map(Duration::from_millis).collect();
        let spread = spread(times);
        assert_eq!(
            (&spread["p50"], &spread["max"], &spread["mean"]),
            (&json!(50.0), &json!(100.0), &json!(50.5))
        );
        assert_eq!(super::spread(Vec::new()), Value::Null);
    }
}
