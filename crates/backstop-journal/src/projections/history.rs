//! One line per run: what `backstop runs` lists. The store keeps it beside the events and updates it in the same commit.

use super::queue::Queued;
use crate::event::{ParkReason, RunLimits};
use crate::{Event, EventBody, RunStatus};
use backstop_call::{
    AgentName, Code, ERASED, KeyName, ModelName, Money, Role, RunId, TaskId, Timestamp, Usage,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How a run stands, folded from its events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSummary {
    /// The run.
    pub run: RunId,
    /// Its task.
    pub task: TaskId,
    /// The role it acts in.
    pub role: Role,
    /// Its agent.
    pub agent: AgentName,
    /// The model or chain it asks.
    pub model: ModelName,
    /// The key of the gateway that it was asked for with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<KeyName>,
    /// Whether it only plans.
    #[serde(default)]
    pub dry_run: bool,
    /// How it stands.
    pub status: RunStatus,
    /// Why it waits.
    pub parked: Option<ParkReason>,
    /// What it may use.
    pub limits: RunLimits,
    /// When it was created.
    pub created: Timestamp,
    /// When the last event came.
    pub updated: Timestamp,
    /// When it ended, or stopped: what comes behind is about it, and no work of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// When what it said at length was erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased: Option<Timestamp>,
    /// Model calls that were answered.
    pub calls: u32,
    /// Attempts that failed on the way.
    pub failed_attempts: u32,
    /// Tool calls that came back.
    pub tool_calls: u32,
    /// Tokens, by kind.
    pub usage: Usage,
    /// What it cost, suspense included.
    pub cost: Money,
    /// Why it is not done.
    pub code: Option<Code>,
    /// In words.
    pub message: String,
    /// How it stands in the queue, where workers have to do with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queued>,
}

impl RunSummary {
    /// The summary that a run's first event makes; `None` if the event is no `run.created`.
    pub fn start(run: &RunId, event: &Event) -> Option<Self> {
        let EventBody::RunCreated(created) = &event.body else { return None };
        Some(Self {
            run: run.clone(),
            task: created.task.clone(),
            role: created.role.clone(),
            agent: created.agent.clone(),
            model: created.model.clone(),
            asked_by: created.origin.key.clone(),
            dry_run: created.dry_run,
            status: RunStatus::Running,
            parked: None,
            limits: created.limits,
            created: event.at,
            updated: event.at,
            ended: None,
            erased: None,
            calls: 0,
            failed_attempts: 0,
            tool_calls: 0,
            usage: Usage::default(),
            cost: Money::ZERO,
            code: None,
            message: String::new(),
            queue: created.queue.clone().map(|terms| Queued::new(terms, created.priority)),
        })
    }

    /// Folds the next event in.
    pub fn apply(&mut self, event: &Event) {
        self.updated = event.at;
        Queued::fold(&mut self.queue, self.status, event.at, &event.body);
        match &event.body {
            EventBody::RunParked(parked) => {
                self.status = RunStatus::Parked;
                self.parked = Some(parked.reason);
            }
            EventBody::RunResumed(resumed) => {
                self.status = RunStatus::Running;
                self.parked = None;
                self.ended = None;
                self.limits = resumed.limits;
                self.code = None;
                self.message.clear();
            }
            EventBody::RunFinished(finished) => {
                self.status = finished.status;
                self.parked = None;
                self.ended = Some(event.at);
                self.code = finished.code;
                finished.message.as_str().clone_into(&mut self.message);
            }
            EventBody::RunErased(_) => {
                self.erased = Some(event.at);
                if !self.message.is_empty() {
                    ERASED.clone_into(&mut self.message);
                }
            }
            EventBody::AttemptFailed(_) => self.failed_attempts += 1,
            EventBody::CallFinished(finished) => {
                self.calls += 1;
                self.usage.add(&finished.usage);
                self.cost += finished.cost;
            }
            EventBody::CallFailed(failed) => self.cost += failed.cost,
            EventBody::ToolFinished(_) => self.tool_calls += 1,
            _ => {}
        }
    }

    /// What its task is called in the queue: as its owner called it, or as the run where it was handed over later.
    pub fn queued_as(&self) -> Option<TaskId> {
        let queue = self.queue.as_ref()?;
        Some(if queue.handed_over { self.run.as_str().into() } else { self.task.clone() })
    }

    /// From its creation to its end; to its last event as long as it has none.
    pub fn duration(&self) -> Duration {
        self.ended.unwrap_or(self.updated).since(self.created)
    }
}
