//! The harness: starts the mock and the targets, runs the scenarios in paired rounds, and tells what came of it. A round
//! measures all targets right after one another, in an order that turns with the round; what is compared is compared
//! within a round.

mod alone;
mod backstop;
mod process;
mod report;
mod sample;
mod scenario;
mod target;

use crate::Stop;
use crate::load::{ask, parse_header, until_ready};
use crate::machine;
use crate::mock::{BILLS, Behaviour};
use crate::prompt::Dialect;
use clap::ValueEnum;
use process::{Cores, Process};
use sample::{Sample, measure};
use scenario::Scenario;
use serde_json::json;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use target::{Target, Who, find_nginx};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Run these scenarios, with commas [default: all]
    #[arg(long, value_enum, value_delimiter = ',', hide_default_value = true, default_values_t = Scenario::value_variants().to_vec())]
    scenarios: Vec<Scenario>,
    /// Measure these, with commas [default: all]; nginx is what the others are held against
    #[arg(long, value_enum, value_delimiter = ',', hide_default_value = true, default_values_t = Who::value_variants().to_vec())]
    targets: Vec<Who>,
    /// Measure every scenario this often on every target
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Count for this many seconds each time
    #[arg(long, default_value_t = 4)]
    secs: u64,
    /// Send so many requests a second in `rate`
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    rate: u64,
    /// Send so many requests in `memory`
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(10..=1_000_000))]
    requests: u64,
    /// Start this often in `start`
    #[arg(long, default_value_t = 20)]
    starts: u32,
    /// Speak this dialect
    #[arg(long, value_enum, default_value_t = Dialect::Chat)]
    dialect: Dialect,
    /// Write all samples to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Use this port and the four after it
    #[arg(long, value_name = "PORT", default_value_t = 28_300, value_parser = clap::value_parser!(u16).range(1024..=65_530))]
    port_base: u16,
    /// Give the target this core alone, and mock and load the other
    #[arg(long, value_name = "TARGET,LOAD", default_value = "0,1", value_parser = parse_cores)]
    cores: Cores,
    /// Keep configs, logs and databases in `bench-gateway` in this directory, which is emptied first; on a disk, since
    /// the gateway writes to it
    #[arg(long, value_name = "DIR", default_value = "target")]
    dir: PathBuf,
    /// The program to measure
    #[arg(long, value_name = "FILE", default_value = "target/dist/backstop")]
    backstop: PathBuf,
    /// Start it with this config instead of the usual one; with {listen}, {mock} and {dir}
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Measure another gateway instead: the command that starts it, with {port}, {listen}, {mock} and {dir}
    #[arg(long, value_name = "COMMAND")]
    target: Option<String>,
    /// A header for it; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// The path that it answers with 200 when it is ready
    #[arg(long, value_name = "PATH", default_value = "/readyz")]
    ready: String,
    /// The path that it takes calls at [default: that of the dialect]
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// The model to ask it for
    #[arg(long, default_value = "mock-1")]
    model: String,
}

impl Options {
    /// The address of one part: 0 is the mock.
    fn at(&self, part: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port_base + part))
    }

    fn path(&self, who: Who) -> &str {
        match &self.path {
            Some(path) if who == Who::Gateway => path,
            _ => self.dialect.path(),
        }
    }

    /// What a client of the dialect sends with every request.
    fn headers(&self, key: &str) -> Vec<(String, String)> {
        let key = ("authorization", format!("Bearer {key}"));
        let version = ("anthropic-version", "2023-06-01".to_owned());
        let headers = match self.dialect {
            Dialect::Chat => vec![key],
            Dialect::Messages => vec![key, version],
        };
        headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The directory by its whole path: programs that are started may look at it from elsewhere. A name of its own, for it
    /// is emptied, and what the user names must not be.
    fn dir(&self) -> Result<PathBuf, Stop> {
        let dir = std::path::absolute(self.dir.join("bench-gateway"));
        dir.map_err(|error| Stop::failed(format!("{}: {error}", self.dir.display())))
    }

    /// The config of Backstop, with the place still to be filled in.
    fn config(&self) -> Result<String, Stop> {
        match &self.config {
            Some(file) => {
                fs::read_to_string(file).map_err(|error| Stop::usage(format!("{}: {error}", file.display())))
            }
            None => Ok(backstop::config(self.dialect)),
        }
    }

    fn has(&self, scenario: Scenario) -> bool {
        self.scenarios.contains(&scenario)
    }
}

fn parse_cores(text: &str) -> Result<Cores, String> {
    let parsed = text.split_once(',').and_then(|(target, load)| {
        Some(Cores { target: target.trim().parse().ok()?, load: load.trim().parse().ok()? })
    });
    let cores = parsed.ok_or("two cores are written `0,1`")?;
    if cores.target == cores.load {
        return Err("target and load need a core each".to_owned());
    }
    Ok(cores)
}

fn this_program() -> Result<PathBuf, Stop> {
    std::env::current_exe().map_err(|error| Stop::failed(format!("this program has no path: {error}")))
}

/// What runs while targets are measured.
pub(crate) struct Bench<'a> {
    options: &'a Options,
    cores: Cores,
    mock: Process,
}

impl<'a> Bench<'a> {
    async fn start(options: &'a Options) -> Result<Self, Stop> {
        let cores = options.cores;
        let mut command = Command::new(this_program()?);
        command.args(["mock", "--port", &options.port_base.to_string()]);
        let mut mock = Process::start(&mut command, (cores.load, cores), options.dir()?.join("mock.log"))?;
        let ready = timeout(Duration::from_secs(5), until_ready(options.at(0), BILLS)).await;
        // Another mock on the same port would answer as well.
        if ready.is_err() || mock.ended().is_some() {
            return Err(Stop::failed(format!("the mock does not start: {}", mock.tail())));
        }
        Ok(Self { options, cores, mock })
    }

    fn mock_at(&self) -> SocketAddr {
        self.options.at(0)
    }

    async fn behave(&self, behaviour: Behaviour) -> Result<(), Stop> {
        match ask(self.mock_at(), &behaviour.target()).await {
            Ok((200, _)) => Ok(()),
            other => Err(Stop::failed(format!("the mock does not do as it is told: {other:?}"))),
        }
    }
}

/// Everything, and what came of it on stdout. Ends the processes it started whatever happens.
pub(crate) async fn run(options: &Options) -> Result<(), Stop> {
    let no_signals = |error: std::io::Error| Stop::failed(format!("no signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    tokio::select! {
        done = run_all(options) => done,
        _ = tokio::signal::ctrl_c() => Err(Stop::failed("interrupted")),
        _ = terminate.recv() => Err(Stop::failed("terminated")),
    }
}

async fn run_all(options: &Options) -> Result<(), Stop> {
    let cores = options.cores;
    let at = |error: std::io::Error| Stop::usage(format!("this needs two cores: {error}"));
    machine::move_to(cores.target).map_err(at)?;
    machine::move_to(cores.load).map_err(at)?;
    machine::open_files_max().map_err(|error| Stop::failed(format!("open files: {error}")))?;
    if options.targets.contains(&Who::Nginx) {
        find_nginx()?;
    }
    let dir = options.dir()?;
    // What an earlier run left there would be part of this one: its ledger above all.
    if let Err(error) = fs::remove_dir_all(&dir)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(Stop::failed(format!("{}: {error}", dir.display())));
    }
    fs::create_dir_all(&dir).map_err(|error| Stop::failed(format!("{}: {error}", dir.display())))?;

    let from = backstop::today();
    let bench = Bench::start(options).await?;
    let mut targets = Vec::new();
    for who in Who::value_variants().iter().filter(|who| options.targets.contains(who)) {
        let mut target = Target::prepare(*who, options)?;
        target.start(cores).await?;
        sample::check(&bench, &target).await?;
        targets.push(target);
    }
    let samples = rounds(&bench, &targets).await?;
    let mut verdicts = report::verdicts(&samples);
    let mut alone = Vec::new();
    if let Some(gateway) = targets.iter_mut().find(|target| target.who == Who::Gateway) {
        alone = alone::run(&bench, gateway, from, &mut verdicts).await?;
    }
    for note in report::notes(&samples) {
        println!("note: {note}");
    }
    println!();
    for verdict in &verdicts {
        println!("{verdict}");
    }
    if let Some(file) = &options.json {
        let all = json!({ "samples": samples, "alone": alone, "verdicts": verdicts });
        fs::write(file, format!("{all:#}\n"))
            .map_err(|error| Stop::failed(format!("{}: {error}", file.display())))?;
    }
    for mut target in targets {
        target.stop().await?;
    }
    bench.mock.stop().await
}

/// Every scenario that compares, round by round; prints each table as soon as it is whole.
async fn rounds(bench: &Bench<'_>, targets: &[Target]) -> Result<Vec<Sample>, Stop> {
    let options = bench.options;
    let length = Duration::from_secs(options.secs);
    let mut samples = Vec::new();
    for scenario in &options.scenarios {
        let Some(shape) = scenario.shape(length, options.rate) else { continue };
        for round in 0..options.rounds {
            for at in turned(targets.len(), round) {
                samples.push(measure(bench, &targets[at], (*scenario, shape), round).await?);
            }
        }
        println!("{}", report::table(&samples, *scenario));
    }
    Ok(samples)
}

/// The order of a round: each begins with the next one.
fn turned(count: usize, round: u32) -> impl Iterator<Item = usize> {
    let first = usize::try_from(round).unwrap_or_default();
    (0..count).map(move |at| (at + first) % count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_the_first_one_in_turn() {
        let orders: Vec<Vec<usize>> = (0..4).map(|round| turned(3, round).collect()).collect();
        assert_eq!(orders, [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
    }

    #[test]
    fn target_and_load_have_a_core_each() {
        let read = |text| parse_cores(text).map(|cores| (cores.target, cores.load));
        assert_eq!(read("2,3"), Ok((2, 3)));
        for text in ["1,1", "0", "a,b"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
