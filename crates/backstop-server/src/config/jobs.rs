//! The section of `backstop.toml` about jobs: what is done at which times. A schedule is read here, and a job is made into a
//! task once, so that what is wrong with it is told when the config is read, and not at seven in the morning.

use super::problem::Problem;
use super::resolve::{Resolver, beside};
use super::resolved::Config;
use super::value::Span;
use crate::jobs;
use crate::tasks::Asked;
use backstop_call::{Code, JobName, Priority, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How old a time may be that is made up for, when nothing else is said.
const WINDOW: Duration = Duration::from_hours(24);
/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 64;

const SCHEDULE_HINT: &str = "five fields (minute, hour, day, month, weekday) like \"0 7 * * mon-fri\", or \"@daily\"; see docs/jobs.md";

/// A task that comes again and again, at the times of a schedule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Job {
    /// When: five fields of cron (minute, hour, day of the month, month, day of the week), or "@hourly", "@daily", "@weekly",
    /// "@monthly", "@yearly". Since 0.1.
    pub schedule: String,
    /// The time zone that the schedule is read in, by its name at the IANA; "UTC" when left out. Since 0.1.
    #[serde(default)]
    pub timezone: Option<String>,
    /// What is to be done. Since 0.1.
    pub task: String,
    /// The agent that does it. Since 0.1.
    #[serde(default)]
    pub agent: Option<String>,
    /// The model or chain that is asked, instead of the agent's. Since 0.1.
    #[serde(default)]
    pub model: Option<String>,
    /// The directory it is done in, beside the config file; the agent's when left out, or the config file's. Since 0.1.
    #[serde(default)]
    pub workspace: Option<PathBuf>,
    /// How urgent it is: "interactive", "standard" or "batch". Since 0.1.
    #[serde(default)]
    pub priority: PriorityWord,
    /// It is to be done within this time, or not at all. Since 0.1.
    #[serde(default)]
    pub within: Option<Span>,
    /// How often it is tried in all, instead of what the agent says. Since 0.1.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100))]
    pub tries: Option<u32>,
    /// Of tasks with the same key one is worked on at a time. Since 0.1.
    #[serde(default)]
    pub key: Option<String>,
    /// What becomes of a time that comes while an earlier task of the job is under way: "skip", "queue" behind it, or
    /// "replace" it. Since 0.1.
    #[serde(default)]
    pub overlap: OverlapWord,
    /// What becomes of times at which nobody was there: "none" is made up for, the "last", or "all", which needs
    /// `overlap = "queue"`. Since 0.1.
    #[serde(default)]
    pub catch_up: CatchUpWord,
    /// How old a time may be that is made up for; 1d when left out. Since 0.1.
    #[serde(default)]
    pub catch_up_window: Option<Span>,
    /// Each task begins later by a part of this time, so that not all jobs begin at once. Since 0.1.
    #[serde(default)]
    pub jitter: Span,
    /// Whether its schedule does not count. Since 0.1.
    #[serde(default)]
    pub off: bool,
}

/// How urgent it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PriorityWord {
    /// Before all others.
    Interactive,
    /// As usual.
    #[default]
    Standard,
    /// When nothing else is to be done.
    Batch,
}

/// What becomes of a time that comes while an earlier task is under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OverlapWord {
    /// It is left out.
    #[default]
    Skip,
    /// It waits.
    Queue,
    /// The earlier one is cancelled.
    Replace,
}

/// What becomes of times at which nobody was there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CatchUpWord {
    /// Nothing.
    None,
    /// The last of them is made up for.
    #[default]
    Last,
    /// All of them are.
    All,
}

impl Resolver<'_> {
    pub(super) fn jobs(&mut self) -> BTreeMap<JobName, jobs::Job> {
        let typed = self.typed;
        let job = |(name, job): (&String, &Job)| Some((name.as_str().into(), self.job(name, job)?));
        typed.jobs.iter().filter_map(job).collect()
    }

    fn job(&mut self, name: &str, typed: &Job) -> Option<jobs::Job> {
        let key = format!("jobs.{name}");
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(letter) {
            let message = format!("`{name}` is no name of a job");
            let hint = format!("choose at most {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`");
            self.problem(&key, Problem::new(Code::ConfigValue, message).with_hint(hint));
        }
        if typed.catch_up == CatchUpWord::All && typed.overlap != OverlapWord::Queue {
            let message = "all times can only be made up for one after the other";
            let problem = Problem::new(Code::ConfigValue, message).with_hint("add `overlap = \"queue\"`");
            self.problem(&format!("{key}.catch-up"), problem);
        }
        if let Some(model) = &typed.model {
            self.known_model(&format!("{key}.model"), model);
        }
        let of_agent =
            typed.agent.as_ref().and_then(|agent| self.typed.agents.get(agent)?.workspace.as_deref());
        let workspace = typed.workspace.as_deref().or(of_agent).unwrap_or(Path::new("."));
        let asked = Asked {
            id: None,
            task: typed.task.clone(),
            agent: typed.agent.clone(),
            model: typed.model.clone(),
            workspace: Some(beside(self.ground.path, workspace)),
            priority: Some(match typed.priority {
                PriorityWord::Interactive => Priority::Interactive,
                PriorityWord::Standard => Priority::Standard,
                PriorityWord::Batch => Priority::Batch,
            }),
            delay: None,
            within: typed.within,
            key: typed.key.clone(),
            tries: typed.tries,
        };
        Some(jobs::Job { terms: self.terms(&key, typed)?, off: typed.off, asked })
    }

    fn terms(&mut self, key: &str, typed: &Job) -> Option<jobs::Terms> {
        let timezone = typed.timezone.as_deref().unwrap_or("UTC");
        let schedule = match jobs::Schedule::parse(&typed.schedule, timezone) {
            Ok(schedule) => schedule,
            Err(bad) => {
                let (option, hint) = match bad {
                    jobs::BadSchedule::TimeZone(_) => {
                        ("timezone", "write it like \"Europe/Berlin\" or \"UTC\"")
                    }
                    jobs::BadSchedule::Cron { .. } | jobs::BadSchedule::Never(_) => {
                        ("schedule", SCHEDULE_HINT)
                    }
                };
                let problem = Problem::new(Code::ConfigValue, bad.to_string()).with_hint(hint);
                self.problem(&format!("{key}.{option}"), problem);
                return None;
            }
        };
        Some(jobs::Terms {
            schedule,
            overlap: match typed.overlap {
                OverlapWord::Skip => jobs::Overlap::Skip,
                OverlapWord::Queue => jobs::Overlap::Queue,
                OverlapWord::Replace => jobs::Overlap::Replace,
            },
            catch_up: match typed.catch_up {
                CatchUpWord::None => jobs::CatchUp::Never,
                CatchUpWord::Last => jobs::CatchUp::Last,
                CatchUpWord::All => jobs::CatchUp::All,
            },
            window: typed.catch_up_window.map_or(WINDOW, |span| span.0),
            jitter: typed.jitter.0,
        })
    }

    /// Makes each job into a task, as the scheduler will, and tells what is in the way.
    pub(super) fn rehearse_jobs(&mut self, config: &Config) {
        for (name, job) in &config.jobs {
            if let Err(problem) = job.asked.by(config, Timestamp::EPOCH, name.as_str()) {
                self.problem(&format!("jobs.{name}"), problem);
            }
        }
    }
}
