//! The demo's tasks, from `examples/demo/tasks.toml`.

use super::CHAIN;
use backstop::Task;
use backstop_journal::event::RunLimits;
use backstop_server::config::Dollars;
use serde::Deserialize;
use std::path::Path;
use std::time::Duration;

/// The most tokens an answer of the demo may have. What a call may cost at worst hangs on it, and so does the point at which
/// a small budget stops.
const ANSWER_TOKENS_MAX: u64 = 1_000;

/// One task, and how it must end.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct DemoTask {
    /// Its name.
    pub(super) id: String,
    /// What is asked.
    pub(super) message: String,
    /// The file that must be right afterwards.
    #[serde(default)]
    pub(super) file: Option<String>,
    /// A limit so small that the task is stopped by it.
    #[serde(default)]
    pub(super) cost: Option<String>,
    /// The process that works on it is killed after so many tool calls.
    #[serde(default)]
    pub(super) kill_after: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    task: Vec<DemoTask>,
}

/// All tasks.
pub(super) fn read() -> Vec<DemoTask> {
    let file: File = toml::from_str(super::files::TASKS).expect("a test reads the compiled-in tasks");
    file.task
}

impl DemoTask {
    /// The task for an engine.
    pub(super) fn task(&self, dir: &Path) -> Task {
        let mut task = Task::new(CHAIN, self.message.as_str());
        task.id = self.id.as_str().into();
        dir.clone_into(&mut task.workspace);
        task.max_tokens = Some(ANSWER_TOKENS_MAX);
        task.limits = RunLimits { time: Duration::from_mins(1), cost: self.limit(), ..task.limits };
        task
    }

    fn limit(&self) -> Option<backstop_call::Money> {
        let cost = self.cost.as_deref()?;
        Some(cost.parse::<Dollars>().expect("a test reads the compiled-in amounts").0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiled_in_tasks_are_right() {
        let tasks = read();
        assert_eq!(tasks.len(), 12);
        assert_eq!(tasks.iter().filter_map(DemoTask::limit).count(), 1);
        assert_eq!(tasks.iter().filter(|task| task.kill_after.is_some()).count(), 1);
        for task in tasks.iter().filter_map(|task| task.file.as_deref()) {
            assert!(super::super::files::expected(task).is_some(), "expected/{task} is missing");
        }
    }
}
