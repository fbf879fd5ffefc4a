//! The test of many kills: tasks in the queue, processes with workers that are killed with SIGKILL again and again, at random, and
//! started anew at once, until the queue is empty. What was done stands in a file outside of the store: each task once.

use super::crash::child;
use super::{Options as Durable, Target, ours};
use crate::Stop;
use backstop::call::Seed;
use backstop::journal::Backlog;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;
use tokio::time::Instant;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(1);
/// The longest that nothing may happen.
const PATIENCE: Duration = Duration::from_mins(2);
/// One kill in so many is one of all processes at once.
const ALL_AT_ONCE: u64 = 8;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Keep the store in this directory
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Tasks, of one step each
    #[arg(long, default_value_t = 10_000)]
    tasks: usize,
    /// Processes
    #[arg(long, default_value_t = 4)]
    processes: usize,
    /// Workers of each process
    #[arg(long, default_value_t = 4)]
    slots: usize,
    /// How often a process is killed, at least
    #[arg(long, default_value_t = 50)]
    kills: usize,
    /// The number that decides when which one is killed; the time of day when left out
    #[arg(long)]
    seed: Option<u64>,
}

fn failed(error: impl std::fmt::Display) -> Stop {
    Stop::failed(format!("kills: {error}"))
}

/// What the workers have done so far, by the task.
struct Done {
    file: File,
    rest: String,
    times: BTreeMap<String, usize>,
}

impl Done {
    /// Reads on, and says how many tasks were done by now.
    fn look(&mut self) -> Result<usize, Stop> {
        self.file.read_to_string(&mut self.rest).map_err(failed)?;
        let Some(end) = self.rest.rfind('\n') else { return Ok(self.times.len()) };
        for line in self.rest[..end].lines() {
            let mut words = line.split(' ');
            if let (Some("E"), Some(task)) = (words.next(), words.next()) {
                *self.times.entry(task.to_owned()).or_default() += 1;
            }
        }
        self.rest.drain(..=end);
        Ok(self.times.len())
    }
}

/// The processes that work, each in its place.
struct Crowd<'a> {
    options: &'a Durable,
    effects: PathBuf,
    workers: Vec<Option<Child>>,
    kills: usize,
}

impl Crowd<'_> {
    fn start(&mut self, place: usize) -> Result<(), Stop> {
        self.workers[place] = Some(child("w3-work", self.options, &self.effects)?);
        Ok(())
    }

    /// Kills these, all before the first of them is started anew.
    fn kill(&mut self, places: &[usize]) -> Result<(), Stop> {
        for place in places {
            let Some(worker) = &mut self.workers[*place] else { continue };
            worker.kill().map_err(failed)?;
            worker.wait().map_err(failed)?;
            self.kills += 1;
        }
        places.iter().try_for_each(|place| self.start(*place))
    }

    /// Lets go of those that found nothing more to do, and says how many are at work.
    fn at_work(&mut self) -> Result<usize, Stop> {
        for worker in &mut self.workers {
            let Some(status) = worker.as_mut().map(Child::try_wait).transpose().map_err(failed)?.flatten()
            else {
                continue;
            };
            if !status.success() {
                return Err(failed(format!("a process ended by itself with {status}")));
            }
            *worker = None;
        }
        Ok(self.workers.iter().flatten().count())
    }
}

impl Drop for Crowd<'_> {
    fn drop(&mut self) {
        for mut worker in self.workers.drain(..).flatten() {
            // One that is gone already needs no kill.
            drop(worker.kill());
            drop(worker.wait());
        }
    }
}

pub(super) async fn run(options: &Options) -> Result<Value, Stop> {
    let seed = options.seed.unwrap_or_else(|| u64::try_from(super::world::now() % 1_000_000).unwrap_or(0));
    eprintln!("seed {seed}");
    let effects = options.dir.join("effects");
    let durable = Durable {
        dir: options.dir.clone(),
        target: Target::Backstop,
        steps: 1,
        tasks: options.tasks,
        concurrency: options.slots,
        payload: 64,
        effects: Some(effects.clone()),
        backend: "sqlite".to_owned(),
        dsn: None,
    };
    ours::submit(&durable).await?;
    let begun = Instant::now();
    let file = File::options().create(true).append(true).read(true).open(&effects).map_err(failed)?;
    let mut done = Done { file, rest: String::new(), times: BTreeMap::new() };
    let workers = (0..options.processes).map(|_| None).collect();
    let mut crowd = Crowd { options: &durable, effects, workers, kills: 0 };
    (0..options.processes).try_for_each(|place| crowd.start(place))?;
    kill_on_and_on(options, &Seed::new(seed), &mut crowd, &mut done)?;
    let seconds = begun.elapsed().as_secs_f64();
    let backlog = ours::backlog_of(&durable).await?;
    verdict(options, &done, crowd.kills, &backlog)?;
    Ok(json!({ "tasks": options.tasks, "seed": seed, "kills": crowd.kills, "seconds": seconds }))
}

/// Kills after so much was done, as the seed says, until nothing is left to do.
fn kill_on_and_on(
    options: &Options,
    seed: &Seed,
    crowd: &mut Crowd<'_>,
    done: &mut Done,
) -> Result<(), Stop> {
    let most = u64::try_from(2 * options.tasks / options.kills.max(1)).unwrap_or(u64::MAX).max(1);
    let pause = || 1 + usize::try_from(seed.below(most)).unwrap_or(0);
    let mut next = pause();
    let (mut before, mut heard) = (0, Instant::now());
    while crowd.at_work()? > 0 {
        let count = done.look()?;
        if count > before {
            (before, heard) = (count, Instant::now());
        } else if heard.elapsed() > PATIENCE {
            return Err(failed(format!("{count} of {} tasks are done, and nothing goes on", options.tasks)));
        }
        if count >= next && count < options.tasks {
            next = count + pause();
            let one = usize::try_from(seed.below(u64::try_from(options.processes).unwrap_or(1))).unwrap_or(0);
            let all: Vec<_> = (0..options.processes).collect();
            let places = if seed.below(ALL_AT_ONCE) == 0 { &all[..] } else { &all[one..=one] };
            crowd.kill(places)?;
        }
        // A file says nothing when it grows.
        std::thread::park_timeout(LOOK);
    }
    done.look()?;
    Ok(())
}

/// Each task once, in the file and in the queue.
fn verdict(options: &Options, done: &Done, kills: usize, backlog: &Backlog) -> Result<(), Stop> {
    let lost = options.tasks - done.times.len().min(options.tasks);
    let twice = done.times.values().filter(|times| **times > 1).count();
    let ended = usize::try_from(backlog.done).unwrap_or(0);
    if (lost, twice, ended) == (0, 0, options.tasks) {
        return Ok(());
    }
    Err(failed(format!(
        "of {} tasks {lost} were lost, {twice} done twice, and {ended} are done in the queue, {} dead, {} parked; {kills} kills",
        options.tasks, backlog.dead, backlog.parked
    )))
}
