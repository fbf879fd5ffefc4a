//! The harness of durable runs: each scenario by the floor and by Backstop in turns, in fresh directories, and what came of
//! the targets. Quote ratios: the disk's own speed changes from minute to minute.

use super::Target;
use crate::Stop;
use crate::figures::median;
use rusqlite::Connection;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Keep the stores below this directory; what is made there is removed again
    #[arg(long, value_name = "DIR", default_value = "target/bench-durable")]
    dir: PathBuf,
    /// Measure each pair so often
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Steps of the long run
    #[arg(long, default_value_t = 10_000)]
    long: usize,
    /// Print what was measured as a JSON line, too
    #[arg(long)]
    json: bool,
}

/// What is promised of a figure.
struct Promise {
    what: &'static str,
    unit: &'static str,
    most: bool,
    bound: f64,
}

const fn at_most(what: &'static str, bound: f64, unit: &'static str) -> Promise {
    Promise { what, unit, most: true, bound }
}

const SYNCS: Promise = at_most("w1: syncs a step", 2.02, "");
const CPU: Promise = at_most("w1: CPU a step", 1.0, " ms");
const BYTES: Promise = at_most("w1: bytes a step, of the payload's", 1.5, " ×");
const LONG_BYTES: Promise = at_most("long run: bytes a step, of the payload's", 1.5, " ×");
const ONE: Promise = at_most("w1: time, of the floor's", 1.5, " ×");
const MANY: Promise =
    Promise { what: "w2: tasks per second, of the floor's", unit: " ×", most: false, bound: 0.6 };
const PICKUP: Promise = at_most("w2lat: enqueue to done, of the floor's", 2.0, " ×");
const FIRST: Promise = at_most("w3: first effect after the restart", 0.3, " s");
const BACK: Promise = at_most("w3: everything in flight is back", 0.5, " s");
const LOST: Promise = at_most("w3: steps that were lost, or done twice", 0.0, "");

struct Bench<'a> {
    options: &'a Options,
    passed: bool,
    figures: Vec<(&'static str, f64)>,
}

/// Measures everything.
pub(crate) fn run(options: &Options) -> Result<(), Stop> {
    let mut bench = Bench { options, passed: true, figures: Vec::new() };
    bench.one_run()?;
    bench.long_run()?;
    bench.queue()?;
    bench.pickup()?;
    bench.crash()?;
    if options.json {
        let figures: serde_json::Map<_, _> =
            bench.figures.iter().map(|(what, figure)| ((*what).to_owned(), Value::from(*figure))).collect();
        println!("{}", Value::Object(figures));
    }
    if bench.passed { Ok(()) } else { Err(Stop::failed("a target was missed")) }
}

impl Bench<'_> {
    /// A scenario in a directory of its own; gives its line and how much is in the directory afterwards.
    fn once(&self, scenario: &str, target: Target, args: &[(&str, usize)]) -> Result<(Value, f64), Stop> {
        let dir = self.options.dir.join(format!("{scenario}-{}", target.name()));
        let failed = |error: String| Stop::failed(format!("{scenario} by {}: {error}", target.name()));
        // What a run before this one left.
        drop(std::fs::remove_dir_all(&dir));
        std::fs::create_dir_all(&dir).map_err(|error| failed(error.to_string()))?;
        let mut command = Command::new(std::env::current_exe().map_err(|error| failed(error.to_string()))?);
        command.arg(scenario).arg("--dir").arg(&dir).args(["--target", target.name()]);
        for (name, number) in args {
            command.arg(format!("--{name}")).arg(number.to_string());
        }
        let output = command.output().map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            return Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let line = serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))?;
        let bytes = bytes_of(&dir);
        drop(std::fs::remove_dir_all(&dir));
        Ok((line, bytes))
    }

    /// The median over the rounds of ours over the mean of the floors before and after it.
    fn beside(&self, scenario: &str, args: &[(&str, usize)], figure: &[&str]) -> Result<f64, Stop> {
        let mut ratios = Vec::new();
        for round in 1..=self.options.rounds {
            let before = number(&self.once(scenario, Target::Floor, args)?.0, figure)?;
            let ours = number(&self.once(scenario, Target::Backstop, args)?.0, figure)?;
            let after = number(&self.once(scenario, Target::Floor, args)?.0, figure)?;
            let floor = f64::midpoint(before, after);
            println!(
                "{scenario} {round}: floor {before:.3} and {after:.3}, backstop {ours:.3}: {:.2} ×",
                ours / floor
            );
            ratios.push(ours / floor);
        }
        median(ratios).ok_or_else(|| Stop::usage("--rounds must be at least 1"))
    }

    fn tell(&mut self, promise: &Promise, figure: f64) {
        let kept = if promise.most { figure <= promise.bound } else { figure >= promise.bound };
        let (verdict, side) =
            (if kept { "PASS" } else { "MISS" }, if promise.most { "most" } else { "least" });
        println!(
            "{verdict}  {}: {figure:.3}{}, at {side} {}{}",
            promise.what, promise.unit, promise.bound, promise.unit
        );
        self.passed &= kept;
        self.figures.push((promise.what, figure));
    }

    fn one_run(&mut self) -> Result<(), Stop> {
        let steps = [("steps", 200)];
        let (line, bytes) = self.once("w1", Target::Backstop, &steps)?;
        self.tell(&SYNCS, number(&line, &["commits"])? / 200.0);
        self.tell(&CPU, number(&line, &["cpu_ms"])? / 200.0);
        println!("w1: {} pages a step", number(&line, &["pages"])? / 200.0);
        let (_, twice) = self.once("w1", Target::Backstop, &[("steps", 400)])?;
        self.tell(&BYTES, (twice - bytes) / 200.0 / PAYLOAD);
        let ratio = self.beside("w1", &steps, &["seconds"])?;
        self.tell(&ONE, ratio);
        Ok(())
    }

    fn long_run(&mut self) -> Result<(), Stop> {
        let long = self.options.long;
        let steps = |steps: usize| f64::from(u32::try_from(steps).unwrap_or(u32::MAX));
        let (_, half) = self.once("w1", Target::Backstop, &[("steps", long / 2)])?;
        let (line, whole) = self.once("w1", Target::Backstop, &[("steps", long)])?;
        println!("long run: {} ms of CPU a step", number(&line, &["cpu_ms"])? / steps(long));
        self.tell(&LONG_BYTES, (whole - half) / steps(long - long / 2) / PAYLOAD);
        Ok(())
    }

    fn queue(&mut self) -> Result<(), Stop> {
        let args = [("tasks", 1_000), ("steps", 10), ("concurrency", 16)];
        let ratio = self.beside("w2", &args, &["tasks_per_s"])?;
        self.tell(&MANY, ratio);
        Ok(())
    }

    fn pickup(&mut self) -> Result<(), Stop> {
        let ratio = self.beside("w2lat", &[("tasks", 200)], &["latency_ms", "p50"])?;
        self.tell(&PICKUP, ratio);
        Ok(())
    }

    fn crash(&mut self) -> Result<(), Stop> {
        let args = [("tasks", 200), ("steps", 20), ("concurrency", 16)];
        let (mut first, mut back, mut wrong) = (Vec::new(), Vec::new(), 0.0);
        for round in 1..=self.options.rounds {
            let (line, _) = self.once("w3", Target::Backstop, &args)?;
            println!("w3 {round}: {line}");
            first.push(number(&line, &["first_effect_s"])?);
            back.push(number(&line, &["in_flight_back_s"])?);
            wrong += number(&line, &["lost_steps"])? + number(&line, &["duplicated_effects"])?;
        }
        self.tell(&LOST, wrong);
        self.tell(&FIRST, median(first).unwrap_or(f64::NAN));
        self.tell(&BACK, median(back).unwrap_or(f64::NAN));
        Ok(())
    }
}

/// Bytes of a step: what the model says, and what the tool does.
const PAYLOAD: f64 = 2_048.0;

fn number(line: &Value, path: &[&str]) -> Result<f64, Stop> {
    let value = path.iter().fold(line, |value, name| &value[name]);
    value.as_f64().ok_or_else(|| Stop::failed(format!("`{}` is missing in {line}", path.join("."))))
}

/// The sizes of the databases in a directory, once what is in their logs is copied back: how long a log is says when that was
/// done last, and nothing of what was written.
#[expect(clippy::cast_precision_loss, reason = "sizes here are far below 2^52")]
fn bytes_of(dir: &Path) -> f64 {
    let entries = || std::fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in entries().filter(|entry| entry.path().extension().is_some_and(|end| end == "db")) {
        // What cannot be copied back is counted where it is.
        let _ = Connection::open(entry.path())
            .and_then(|db| db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())));
    }
    let sizes = entries().filter_map(|entry| entry.metadata().ok()).filter(std::fs::Metadata::is_file);
    sizes.map(|file| file.len() as f64).sum()
}
