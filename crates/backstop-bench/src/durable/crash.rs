//! The scenario of the crash: workers are killed with SIGKILL somewhere in the middle, others start at once, and the file of
//! effects tells what was lost, what was done twice, and how long it took until everything went on.

use super::Options;
use super::world::now;
use crate::Stop;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::time::Instant;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(1);
/// The longest that a scenario may take.
const PATIENCE: Duration = Duration::from_mins(5);

/// One line of the file.
struct Effect {
    kind: char,
    task: String,
    step: usize,
    pid: u32,
    at: u128,
}

fn failed(error: impl std::fmt::Display) -> Stop {
    Stop::failed(format!("w3: {error}"))
}

fn read(file: &Path) -> Vec<Effect> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.split(' ');
        Some(Effect {
            kind: words.next()?.chars().next()?,
            task: words.next()?.to_owned(),
            step: words.next()?.parse().ok()?,
            pid: words.next()?.parse().ok()?,
            at: words.next()?.parse().ok()?,
        })
    };
    text.lines().filter_map(line).collect()
}

pub(super) fn child(role: &str, options: &Options, effects: &Path) -> Result<Child, Stop> {
    let number = |number: usize| number.to_string();
    Command::new(std::env::current_exe().map_err(failed)?)
        .arg(role)
        .arg("--dir")
        .arg(&options.dir)
        .arg("--effects")
        .arg(effects)
        .args(["--tasks", &number(options.tasks), "--steps", &number(options.steps)])
        .args(["--concurrency", &number(options.concurrency), "--payload", &number(options.payload)])
        .stdout(Stdio::null())
        .spawn()
        .map_err(failed)
}

/// Waits until a child has ended well.
fn ended(mut child: Child) -> Result<(), Stop> {
    let status = child.wait().map_err(failed)?;
    if status.success() { Ok(()) } else { Err(failed(format!("a part of it ended with {status}"))) }
}

/// A file says nothing when it grows.
fn look_again() {
    std::thread::park_timeout(LOOK);
}

pub(super) fn w3(options: &Options) -> Result<Value, Stop> {
    let effects: PathBuf = options.effects.clone().unwrap_or_else(|| options.dir.join("effects"));
    ended(child("w3-submit", options, &effects)?)?;
    let all = options.tasks * options.steps;
    // Somewhere between 30 and 70 % of what is to be done.
    let share = 30 + usize::try_from(now() % 41).unwrap_or(0);
    let mut first = child("w3-work", options, &effects)?;
    let begun = Instant::now();
    while read(&effects).iter().filter(|effect| effect.kind == 'E').count() < all * share / 100 {
        if begun.elapsed() > PATIENCE {
            return Err(failed("it did not get on"));
        }
        look_again();
    }
    first.kill().map_err(failed)?;
    first.wait().map_err(failed)?;
    let restarted = now();
    ended(child("w3-work", options, &effects)?)?;
    let drained = now();
    Ok(verdict(&read(&effects), options, (first.id(), restarted, drained), share))
}

fn verdict(
    effects: &[Effect],
    options: &Options,
    (killed, restarted, drained): (u32, u128, u128),
    share: usize,
) -> Value {
    let secs = |at: u128| {
        Duration::from_nanos(u64::try_from(at.saturating_sub(restarted)).unwrap_or(0)).as_secs_f64()
    };
    let mut times: BTreeMap<(char, &str, usize), usize> = BTreeMap::new();
    for effect in effects {
        *times.entry((effect.kind, &effect.task, effect.step)).or_default() += 1;
    }
    let twice = |kind: char| times.iter().filter(|(key, count)| key.0 == kind && **count > 1).count();
    let done: usize = times.keys().filter(|key| key.0 == 'E').count();
    let by = |killed_one: bool| effects.iter().filter(move |effect| (effect.pid == killed) == killed_one);
    let begun: BTreeSet<&str> = by(true).map(|effect| effect.task.as_str()).collect();
    let ended = |task: &&str| {
        by(true).any(|effect| effect.kind == 'E' && effect.task == **task && effect.step + 1 == options.steps)
    };
    let in_flight: BTreeSet<&str> = begun.into_iter().filter(|task| !ended(task)).collect();
    let back = in_flight
        .iter()
        .filter_map(|task| by(false).find(|effect| effect.task == **task))
        .map(|effect| effect.at);
    json!({
        "tasks": options.tasks,
        "steps": options.steps,
        "killed_at_percent": share,
        "lost_steps": options.tasks * options.steps - done,
        "duplicated_effects": twice('E'),
        "repeated_model_calls": twice('M'),
        "in_flight": in_flight.len(),
        "first_effect_s": by(false).map(|effect| effect.at).min().map(secs),
        "in_flight_back_s": back.max().map(secs),
        "drained_s": secs(drained),
    })
}
