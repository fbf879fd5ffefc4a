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
    use rusqlite::Connection;
    use std::collections::BTreeMap;

    const PAYLOAD: u32 = 1_024;

    /// What one run wrote.
    struct Written {
        /// Events of each kind.
        events: BTreeMap<String, u32>,
        /// Bytes of all their texts.
        bytes: u32,
        /// Pages of all its commits.
        pages: f64,
    }

    fn written(steps: u32) -> Written {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            dir: dir.path().to_owned(),
            target: Target::Backstop,
            steps: steps as usize,
            tasks: 1,
            concurrency: 1,
            payload: PAYLOAD as usize,
            effects: None,
            backend: "sqlite".to_owned(),
            dsn: None,
        };
        let line = on_threads(ours::w1(&options)).unwrap();
        let db = Connection::open(dir.path().join("backstop.db")).unwrap();
        let sql = "SELECT kind, count(*), sum(length(body)) FROM events GROUP BY kind";
        let mut kinds = db.prepare(sql).unwrap();
        let rows = kinds.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, u32>(2)?))).unwrap();
        let (mut events, mut bytes) = (BTreeMap::new(), 0);
        for (kind, count, length) in rows.map(Result::unwrap) {
            events.insert(kind, count);
            bytes += length;
        }
        Written { events, bytes, pages: line["pages"].as_f64().unwrap() }
    }

    /// How large the file grows says as much about how rows happen to fill its pages as about what is written: what is
    /// written is what can creep up. The times in it have more digits on a slow machine, for which there is room.
    #[test]
    fn a_step_writes_six_events_and_little_beside_what_was_said() {
        const MORE: u32 = 40;
        let (few, many) = (written(20), written(20 + MORE));
        let each: Vec<_> = many
            .events
            .iter()
            .map(|(kind, count)| (kind.as_str(), (count - few.events[kind]) / MORE))
            .filter(|(_, count)| *count > 0)
            .collect();
        let want =
            ["call.finished", "call.started", "money.moved", "tool.finished", "tool.planned", "tool.started"];
        assert_eq!(each, want.map(|kind| (kind, 1)));
        let beside = (many.bytes - few.bytes) / MORE - 2 * PAYLOAD;
        assert!(beside <= 710, "{beside} bytes a step beside the payload");
        let pages = (many.pages - few.pages) / f64::from(MORE);
        assert!(pages <= 7.3, "{pages} pages a step, in two commits");
    }

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
