//! A task as somebody asks for it, and what that means by the config: which agent does it, with what, where, and what holds
//! for it in the queue. And what is done to tasks that are there, wherever somebody asks for that.

mod there;

pub use there::{backlog_json, cancel, find, retry, task_json};

use crate::config::{Agent, Config, Problem, Span, allowed};
use crate::settings::{FOUND, dress};
use backstop::Task;
use backstop_call::{AgentName, Code, KeyName, ModelName, Priority, Timestamp};
use backstop_journal::event::{QueueTerms, RunLimits};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The longest task, in bytes.
pub const TASK_BYTES_MAX: usize = 1 << 20;
/// The longest id or key, in bytes.
const ID_BYTES_MAX: usize = 200;

/// A task as somebody asks for it: an item of a batch, the body of a request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Asked {
    /// The id it is known by: it is done once, however often it is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What is to be done.
    pub task: String,
    /// The agent that does it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The model or chain that is asked, instead of the agent's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The directory it is done in, instead of the agent's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<PathBuf>,
    /// How urgent it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// It waits this long before it begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Span>,
    /// It is to be done within this time, or not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
    /// Of tasks with the same key one is worked on at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How often it is tried in all, instead of what the agent says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tries: Option<u32>,
}

impl Asked {
    /// BLAKE3 of what is asked and of who asks, in hex: the same for the same, however it was written.
    pub fn fingerprint(&self, by: Option<&KeyName>) -> String {
        // Our own types have string keys: there is nothing in them to refuse.
        let asked = serde_json::to_vec(&(by, self)).unwrap_or_default();
        blake3::hash(&asked).to_hex().to_string()
    }

    /// What is asked, by the config. `now` is when it is asked, and `id` what it is called when nobody said.
    ///
    /// # Errors
    /// What is wrong with it: `UnknownAgent`, `UnknownModel`, `Usage`.
    pub fn by(&self, config: &Config, now: Timestamp, id: &str) -> Result<(Task, QueueTerms), Problem> {
        let wrong = |message: String, hint: &str| Err(Problem::new(Code::Usage, message).with_hint(hint));
        if self.task.trim().is_empty() {
            return wrong("there is no task".to_owned(), "say in `task` what is to be done");
        }
        if self.task.len() > TASK_BYTES_MAX {
            return wrong("the task is longer than 1 MiB".to_owned(), "put what it is about into a file");
        }
        for (name, text) in [("id", &self.id), ("key", &self.key)] {
            let fits = |text: &String| {
                !text.is_empty() && text.len() <= ID_BYTES_MAX && !text.contains(char::is_control)
            };
            if !text.as_ref().is_none_or(fits) {
                let message =
                    format!("the {name} is empty, longer than {ID_BYTES_MAX} bytes, or not one line");
                return wrong(message, "choose a short name of letters and digits");
            }
        }
        if self.tries == Some(0) {
            return wrong(
                "a task cannot be tried 0 times".to_owned(),
                "leave `tries` out, or take 1 or more",
            );
        }
        let agent = self.agent.as_deref().map(|name| agent(config, name)).transpose()?;
        let model = choose(config, self.model.as_deref(), agent.and_then(|agent| agent.model.as_ref()))?;
        let mut task = Task::new(model, self.task.clone());
        task.id = self.id.as_deref().unwrap_or(id).into();
        task.limits = RunLimits { cost: config.run_cost, ..task.limits };
        task.priority = self.priority.unwrap_or_default();
        if let (Some(agent), Some(name)) = (agent, &self.agent) {
            dress(&mut task, agent, &name.as_str().into());
        }
        let workspace = self.workspace.clone().or_else(|| agent.and_then(|agent| agent.workspace.clone()));
        task.workspace = workspace.unwrap_or_default();
        let due = now + self.delay.map(|delay| delay.0).unwrap_or_default();
        let terms = QueueTerms {
            due,
            deadline: self.within.map(|within| now + within.0),
            tried: 0,
            tries: self.tries.or_else(|| agent.map(|agent| agent.tries)).unwrap_or(1),
            backoff: agent.map(|agent| agent.backoff).unwrap_or_default(),
            key: self.key.clone(),
        };
        Ok((task, terms))
    }
}

/// An agent of the config.
///
/// # Errors
/// `UnknownAgent`.
pub fn agent<'a>(config: &'a Config, name: &str) -> Result<&'a Agent, Problem> {
    config.agents.get(&name.into()).ok_or_else(|| {
        let names = config.agents.keys().map(AgentName::as_str);
        let problem = Problem::new(Code::UnknownAgent, format!("there is no agent `{name}`"));
        problem.with_hint(allowed("agents", name, names))
    })
}

/// What to ask, and where that is said: the one who asks, the agent, the config, what is there.
///
/// # Errors
/// `UnknownModel` when nothing says it.
pub fn choose(config: &Config, asked: Option<&str>, agent: Option<&ModelName>) -> Result<ModelName, Problem> {
    if let Some(model) =
        asked.map(ModelName::from).or_else(|| agent.cloned()).or_else(|| config.model.clone())
    {
        return Ok(model);
    }
    if config.providers.is_empty() {
        return Ok(FOUND.into());
    }
    let names = if config.chains.is_empty() {
        config.models.keys().collect::<Vec<_>>()
    } else {
        config.chains.keys().collect()
    };
    if let [only] = names.as_slice() {
        return Ok((*only).clone());
    }
    let names: Vec<_> = config.chains.keys().chain(config.models.keys()).map(ModelName::as_str).collect();
    let problem = Problem::new(Code::UnknownModel, "no model is named, and config has no `model`");
    Err(problem.with_hint(format!("add `model = \"…\"` to the config, or name one of: {}", names.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Surroundings, load};
    use std::path::Path;
    use std::time::Duration;

    struct Files;

    impl Surroundings for Files {
        fn var(&self, _: &str) -> Option<String> {
            Some("k".to_owned())
        }

        fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
            match path.file_name().and_then(|name| name.to_str()) {
                Some("b.toml") => Ok(CONFIG.as_bytes().to_vec()),
                _ => Err(std::io::ErrorKind::NotFound.into()),
            }
        }
    }

    const CONFIG: &str = r#"
        [providers.anthropic]
        key = "env:K"
        [models.small]
        provider = "anthropic"
        id = "claude-haiku-4-5"
        [models.large]
        provider = "anthropic"
        id = "claude-opus-4-5"
        [agents.writer]
        model = "small"
        role = "author"
        workspace = "site"
        tries = 3
        backoff = "1m"
    "#;

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    #[test]
    fn what_is_asked_goes_before_what_the_agent_says() {
        let config = load(Path::new("/c/b.toml"), None, &Files).unwrap();
        let asked = Asked { task: "Write.".to_owned(), agent: Some("writer".to_owned()), ..Asked::default() };
        let (task, terms) = asked.by(&config, NOW, "new").unwrap();
        let of = (task.id.as_str(), task.role.as_str(), task.model.as_str(), task.workspace.to_str());
        assert_eq!(of, ("new", "author", "small", Some("/c/site")));
        let minute = Duration::from_mins(1);
        let want = QueueTerms { tries: 3, backoff: minute, ..QueueTerms::once(NOW) };
        assert_eq!(terms, want);
        let asked = Asked {
            id: Some("mine".to_owned()),
            model: Some("large".to_owned()),
            workspace: Some("/w".into()),
            priority: Some(Priority::Batch),
            delay: Some(Span(minute)),
            within: Some(Span(minute * 2)),
            key: Some("shop".to_owned()),
            tries: Some(1),
            ..asked
        };
        let (task, terms) = asked.by(&config, NOW, "new").unwrap();
        let of = (task.id.as_str(), task.model.as_str(), task.workspace.to_str(), task.priority);
        assert_eq!(of, ("mine", "large", Some("/w"), Priority::Batch));
        let (due, deadline) = (NOW + minute, Some(NOW + minute * 2));
        let key = Some("shop".to_owned());
        assert_eq!(terms, QueueTerms { due, deadline, tries: 1, key, ..want });
    }

    #[test]
    fn what_is_wrong_is_told_with_its_code() {
        let config = load(Path::new("/c/b.toml"), None, &Files).unwrap();
        let good =
            || Asked { task: "Write.".to_owned(), model: Some("small".to_owned()), ..Asked::default() };
        let rows = [
            (Asked { task: " \n".to_owned(), ..good() }, Code::Usage, "there is no task"),
            (
                Asked { agent: Some("writr".to_owned()), ..good() },
                Code::UnknownAgent,
                "there is no agent `writr`",
            ),
            (Asked { id: Some(String::new()), ..good() }, Code::Usage, "the id is empty"),
            (Asked { key: Some("a\nb".to_owned()), ..good() }, Code::Usage, "the key is empty"),
            (Asked { tries: Some(0), ..good() }, Code::Usage, "a task cannot be tried 0 times"),
            (Asked { model: None, ..good() }, Code::UnknownModel, "no model is named"),
        ];
        for (asked, code, message) in rows {
            let problem = asked.by(&config, NOW, "new").unwrap_err();
            assert_eq!((problem.code, problem.message.starts_with(message)), (code, true), "{problem:?}");
        }
        assert!(good().by(&config, NOW, "new").is_ok());
    }
}
