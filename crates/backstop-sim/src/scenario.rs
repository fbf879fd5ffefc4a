//! Which fault hits which request: a schedule from a TOML file or a built-in one.
//!
//! The rules are asked in order, and the first that applies decides. Draws depend on the seed, the rule, the content of the
//! request and how often that content came, and not on the order in which different requests arrive: so a schedule by
//! `probability` is the same under any concurrency. `first`, `last`, `every` and `times` count requests in the order they arrive.

use crate::{Fault, draw};
use serde::Deserialize;
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::time::Duration;

/// A named schedule.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it is, in a line.
    #[serde(default)]
    pub description: String,
    /// After so many faults on the same conversation, it is answered: what makes a storm survivable.
    #[serde(default)]
    pub spare_after: Option<u32>,
    /// The rules, the first that applies deciding.
    #[serde(default, rename = "rule")]
    pub rules: Vec<Rule>,
}

/// One rule of a schedule. What is left out does not matter.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rule {
    /// The fault.
    #[serde(deserialize_with = "fault")]
    pub fault: Fault,
    /// Only requests to providers whose name begins so.
    #[serde(default)]
    pub provider: Option<String>,
    /// Only requests for models whose id begins so.
    #[serde(default)]
    pub model: Option<String>,
    /// Only requests that stream, or only those that do not.
    #[serde(default)]
    pub stream: Option<bool>,
    /// From this one of the requests that fit on, from 1.
    #[serde(default)]
    pub first: Option<u64>,
    /// Up to this one, included.
    #[serde(default)]
    pub last: Option<u64>,
    /// Only every so-manieth.
    #[serde(default)]
    pub every: Option<u64>,
    /// At most so many faults.
    #[serde(default)]
    pub times: Option<u64>,
    /// With this probability, from 0 to 1.
    #[serde(default)]
    pub probability: Option<f64>,
    /// From so many milliseconds after the start on.
    #[serde(default)]
    pub from_ms: Option<u64>,
    /// Until so many milliseconds after the start.
    #[serde(default)]
    pub until_ms: Option<u64>,
}

fn fault<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Fault, D::Error> {
    let name = String::deserialize(deserializer)?;
    name.parse().map_err(serde::de::Error::custom)
}

/// Why there is no such schedule.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// Neither a built-in one nor a file.
    #[error("`{name}` is no scenario: there is no such file, and the built-in ones are {}", Scenario::NAMES.join(", "))]
    Unknown {
        /// What was given.
        name: String,
    },
    /// The file cannot be read.
    #[error("{path} cannot be read")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no scenario. The message of the source names line, key and what is allowed.
    #[error("{path} is no scenario")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong.
        source: Box<toml::de::Error>,
    },
    /// A rule says what cannot be.
    #[error("rule {number} of {path}: {problem}")]
    Rule {
        /// The file.
        path: String,
        /// The number of the rule, from 1.
        number: usize,
        /// What is wrong.
        problem: &'static str,
    },
}

impl Scenario {
    /// The built-in ones.
    pub const NAMES: &[&str] = &["calm", "storm", "outage", "flaky", "hostile"];

    /// A built-in schedule.
    pub fn named(name: &str) -> Option<Self> {
        let text = match name {
            "calm" => include_str!("../scenarios/calm.toml"),
            "storm" => include_str!("../scenarios/storm.toml"),
            "outage" => include_str!("../scenarios/outage.toml"),
            "flaky" => include_str!("../scenarios/flaky.toml"),
            "hostile" => include_str!("../scenarios/hostile.toml"),
            _ => return None,
        };
        Some(Self::parse(text, name).expect("a test reads every built-in scenario"))
    }

    /// Reads a schedule. `path` is what errors call it.
    pub fn parse(text: &str, path: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text)
            .map_err(|error| ScenarioError::Malformed { path: path.to_owned(), source: Box::new(error) })?;
        for (index, rule) in scenario.rules.iter().enumerate() {
            if let Some(problem) = rule.problem() {
                return Err(ScenarioError::Rule { path: path.to_owned(), number: index + 1, problem });
            }
        }
        Ok(scenario)
    }

    /// A built-in schedule by its name, or one from a file.
    pub fn open(name: &str) -> Result<Self, ScenarioError> {
        if let Some(scenario) = Self::named(name) {
            return Ok(scenario);
        }
        if !Path::new(name).exists() {
            return Err(ScenarioError::Unknown { name: name.to_owned() });
        }
        let text = std::fs::read_to_string(name)
            .map_err(|source| ScenarioError::Unreadable { path: name.to_owned(), source })?;
        Self::parse(&text, name)
    }
}

impl Rule {
    fn problem(&self) -> Option<&'static str> {
        if self.probability.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
            return Some("`probability` must be from 0 to 1");
        }
        if self.every == Some(0) {
            return Some("`every` must be 1 or more");
        }
        if self.first == Some(0) {
            return Some("`first` counts from 1");
        }
        if matches!((self.first, self.last), (Some(first), Some(last)) if first > last) {
            return Some("`first` must not be after `last`");
        }
        if matches!((self.from_ms, self.until_ms), (Some(from), Some(until)) if from >= until) {
            return Some("`from-ms` must be before `until-ms`");
        }
        None
    }

    fn fits(&self, asked: &Asked<'_>) -> bool {
        let begins = |prefix: &Option<String>, text: &str| {
            prefix.as_deref().is_none_or(|prefix| text.starts_with(prefix))
        };
        begins(&self.provider, asked.provider)
            && begins(&self.model, asked.model)
            && self.stream.is_none_or(|stream| stream == asked.stream)
    }

    /// Whether it is due for the `count`th request that fits.
    fn due(&self, count: u64, hits: u64, elapsed: Duration) -> bool {
        let at_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        self.first.is_none_or(|first| count >= first)
            && self.last.is_none_or(|last| count <= last)
            && self.every.is_none_or(|every| count.is_multiple_of(every))
            && self.times.is_none_or(|times| hits < times)
            && self.from_ms.is_none_or(|from| at_ms >= from)
            && self.until_ms.is_none_or(|until| at_ms < until)
    }
}

/// What a schedule decides on.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The provider that was asked.
    pub provider: &'a str,
    /// The model.
    pub model: &'a str,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// What is asked: the same for the same conversation.
    pub content: &'a [u8],
    /// Since the start.
    pub elapsed: Duration,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    fitting: u64,
    hits: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Past {
    asked: u64,
    hit: u32,
}

/// How many different conversations are remembered; beyond it, all are forgotten.
const PAST_MAX: usize = 100_000;

/// A schedule at work: it counts requests, and holds the faults that tests put in line.
#[derive(Debug)]
pub struct Schedule {
    scenario: Scenario,
    seed: u64,
    counts: Vec<Count>,
    past: HashMap<u64, Past>,
    lines: HashMap<String, VecDeque<Fault>>,
}

impl Schedule {
    /// A schedule at its beginning.
    pub fn new(scenario: Scenario, seed: u64) -> Self {
        let counts = vec![Count::default(); scenario.rules.len()];
        Self { scenario, seed, counts, past: HashMap::new(), lines: HashMap::new() }
    }

    /// Puts a fault in line for the next request to a provider, before what the rules say.
    pub fn enqueue(&mut self, provider: &str, fault: Fault) {
        self.lines.entry(provider.to_owned()).or_default().push_back(fault);
    }

    /// Starts again from the beginning.
    pub fn reset(&mut self) {
        *self = Self::new(self.scenario.clone(), self.seed);
    }

    /// The fault that hits this request.
    pub fn next(&mut self, asked: &Asked<'_>) -> Option<Fault> {
        if let Some(fault) = self.lines.get_mut(asked.provider).and_then(VecDeque::pop_front) {
            return Some(fault);
        }
        if self.past.len() > PAST_MAX {
            self.past.clear();
        }
        let content = draw::hash(asked.content);
        let past = self.past.entry(content).or_default();
        past.asked += 1;
        let spared = self.scenario.spare_after.is_some_and(|most| past.hit >= most);
        for (index, rule) in self.scenario.rules.iter().enumerate() {
            if !rule.fits(asked) {
                continue;
            }
            let count = &mut self.counts[index];
            count.fitting += 1;
            let subject = format!("{index}/{content}/{}/{}", past.asked, asked.provider);
            let drawn = || draw::about(self.seed, subject.as_bytes()).unit();
            let due = rule.due(count.fitting, count.hits, asked.elapsed);
            let harmless = matches!(rule.fault, Fault::SlowFirstToken { .. } | Fault::SlowChunks { .. });
            if !due || spared && !harmless || rule.probability.is_some_and(|p| drawn() >= p) {
                continue;
            }
            count.hits += 1;
            past.hit += u32::from(!harmless);
            return Some(rule.fault.clone());
        }
        None
    }
}

#[cfg(test)]
mod tests;
