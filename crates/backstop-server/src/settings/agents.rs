//! The agents of a config as what runs are made from: of those that a person starts, and of those that do parts for others.

use super::FOUND;
use crate::config::{Agent, Config};
use backstop::{Colleague, Task};
use backstop_call::{AgentName, ModelName};
use std::collections::BTreeMap;

/// Gives a task what its agent says.
pub fn dress(task: &mut Task, agent: &Agent, name: &AgentName) {
    task.agent = name.clone();
    task.role = agent.role.clone();
    task.max_tokens = agent.max_tokens.or(task.max_tokens);
    task.limits = agent.limits;
    task.on_failure = agent.on_failure;
    task.result_schema.clone_from(&agent.result_schema);
    if let Some(prompt) = &agent.prompt {
        task.system.clone_from(prompt);
    }
    if let Some(tools) = &agent.tools {
        task.tools.clone_from(tools);
    }
}

/// The agents that others may give parts to. One that names no model asks this one, or else what the config asks.
pub fn colleagues(config: &Config, model: Option<&ModelName>) -> BTreeMap<AgentName, Colleague> {
    let standard = model.or(config.model.as_ref()).cloned().unwrap_or_else(|| FOUND.into());
    let colleague = |(name, agent): (&AgentName, &Agent)| {
        let mut task = Task::new(agent.model.clone().unwrap_or_else(|| standard.clone()), "");
        dress(&mut task, agent, name);
        let about = agent.description.clone().unwrap_or_else(|| format!("acts as {}", agent.role));
        (name.clone(), Colleague { about, task })
    };
    config.agents.iter().map(colleague).collect()
}
