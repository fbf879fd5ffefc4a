//! A Backstop: the parts put together, and what a program does with them.

use crate::open::{Engine, OpenError, open};
use crate::{RunResult, Settings, Task};
use backstop_agent::run::{Preview, Reply, Rest, Undone, Verdict};
use backstop_agent::{Agent, RunError, RunOutcome};
use backstop_allowance::Ledger;
use backstop_call::{CallId, GrantId, RunId};
use backstop_journal::event::{GrantCreated, RunCreated, RunLimits};
use backstop_journal::{Body, Journal, Tally};
use backstop_stack::{Redactor, Stack, restack};
use backstop_store::{SqliteLedger, SqliteStore};
use serde_json::Value;
use std::sync::Arc;

/// A running Backstop. Cheap to clone; the last clone closes the store.
#[derive(Clone)]
pub struct Backstop {
    engine: Arc<Engine>,
}

impl Backstop {
    /// Opens one. What processes that died had under way is accounted for first.
    pub async fn open(settings: Settings) -> Result<Self, OpenError> {
        Ok(Self { engine: Arc::new(open(settings).await?) })
    }

    /// Does a task: creates a run and works on it until it is over, parked or stopped. Dropping the future leaves a
    /// run that [`Backstop::resume`] takes up where it was.
    pub async fn run(&self, task: Task) -> Result<RunResult, RunError> {
        let run = self.create(task).await?;
        self.resume(&run, None).await
    }

    /// Creates a run, durably, and does not work on it yet.
    pub async fn create(&self, task: Task) -> Result<RunId, RunError> {
        self.engine.agent.create(created(task)).await
    }

    /// Works on a run that was created, parked, stopped, or left by a process that died; with other limits, if given.
    pub async fn resume(&self, run: &RunId, limits: Option<RunLimits>) -> Result<RunResult, RunError> {
        let agent = self.agent_for(run).await?;
        agent.resume(run, limits).await.map(result)
    }

    /// Says what is true about a tool call in doubt. The run stays parked until it is resumed.
    pub async fn resolve(&self, run: &RunId, verdict: Verdict<'_>) -> Result<RunResult, RunError> {
        self.engine.agent.resolve(run, verdict).await.map(result)
    }

    /// Answers an open question of a parked run. The run stays parked until it is resumed.
    pub async fn answer(&self, run: &RunId, reply: Reply<'_>) -> Result<RunResult, RunError> {
        self.engine.agent.answer(run, reply).await.map(result)
    }

    /// What the call of an open question would do with other arguments.
    pub async fn preview(&self, run: &RunId, approval: &str, args: &Value) -> Result<Preview, RunError> {
        self.engine.agent.preview(run, approval, args).await
    }

    /// Allows the rest of the kind of call that a question is about. The question itself stays open.
    pub async fn grant(
        &self,
        run: &RunId,
        approval: &str,
        rest: &Rest,
        who: (&str, &str),
    ) -> Result<GrantCreated, RunError> {
        self.engine.agent.grant(run, approval, rest, who).await
    }

    /// Ends a grant. `who` is a person and the way they came by.
    pub async fn revoke(&self, grant: &GrantId, who: (&str, &str)) -> Result<(), RunError> {
        self.engine.agent.revoke(grant, who).await
    }

    /// The run that carries out the plan of a dry run; [`Backstop::resume`] works on it.
    pub async fn apply(&self, planned: &RunId) -> Result<RunId, RunError> {
        self.engine.agent.apply(planned).await
    }

    /// What [`Backstop::undo`] would do, found out on a copy of the workspace.
    pub async fn rehearse_undo(
        &self,
        run: &RunId,
        step: Option<&str>,
    ) -> Result<Vec<(Undone, String)>, RunError> {
        self.engine.agent.rehearse_undo(run, step).await
    }

    /// Takes back what a run did, newest first: everything, or one step.
    pub async fn undo(&self, run: &RunId, step: Option<&str>) -> Result<Vec<Undone>, RunError> {
        self.engine.agent.undo(run, step).await
    }

    /// Ends a run for good.
    pub async fn cancel(&self, run: &RunId, reason: &str) -> Result<RunResult, RunError> {
        self.engine.agent.cancel(run, reason).await.map(result)
    }

    /// How a run stands.
    pub async fn inspect(&self, run: &RunId) -> Result<RunResult, RunError> {
        self.engine.agent.inspect(run).await.map(result)
    }

    /// The stack: a [`backstop_call::Model`] that answers single calls with everything that Backstop does for them.
    pub fn stack(&self) -> &Arc<Stack> {
        &self.engine.stack
    }

    /// A stack by other settings, that takes the place of one: over the same store, with what that one learnt of its
    /// targets. `settings.store`, `agent`, `seed` and `observers` stay what they are.
    ///
    /// # Errors
    /// `UnknownModel`, `NameTaken`.
    pub fn restack(&self, before: &Stack, settings: Settings) -> Result<Arc<Stack>, OpenError> {
        Ok(Arc::new(restack(before, self.engine.base.parts(settings)?)))
    }

    /// A new id for a call.
    pub fn call_id(&self) -> CallId {
        CallId::new(self.engine.agent.clock.now(), self.engine.agent.seed.next_u64())
    }

    /// The time that Backstop goes by.
    pub fn clock(&self) -> &Arc<dyn backstop_call::Clock> {
        &self.engine.agent.clock
    }

    /// The journal. What is appended through it is scrubbed of secrets first.
    pub fn journal(&self) -> &Arc<dyn Journal> {
        &self.engine.journal
    }

    /// The ledger.
    pub fn ledger(&self) -> &Arc<dyn Ledger> {
        &self.engine.ledger
    }

    /// What is counted of the journal.
    pub fn tally(&self) -> &Arc<dyn Tally> {
        &self.engine.tally
    }

    /// Scrubs texts of every loaded secret.
    pub fn redactor(&self) -> &Arc<Redactor> {
        &self.engine.redactor
    }

    /// The files behind the journal and the ledger, when there are any.
    pub fn files(&self) -> Option<&(SqliteStore, SqliteLedger)> {
        self.engine.files.as_ref()
    }

    /// The agent with the window of the models this run may ask.
    async fn agent_for(&self, run: &RunId) -> Result<Agent, RunError> {
        let mut agent = self.engine.agent.clone();
        let filter = backstop_journal::RunFilter { id_prefix: Some(run.to_string()), ..Default::default() };
        let summaries = self.engine.journal.runs(filter).await?;
        let model = summaries.iter().find(|summary| summary.run == *run).map(|summary| &summary.model);
        if agent.config.context_window_tokens.is_none() {
            agent.config.context_window_tokens =
                model.and_then(|model| self.engine.windows.get(model)).copied();
        }
        Ok(agent)
    }
}

fn created(task: Task) -> RunCreated {
    let definition = (&task.agent, &task.model, &task.system, &task.tools, &task.limits, &task.result_schema);
    let definition = serde_json::to_vec(&definition).unwrap_or_default();
    RunCreated {
        agent_hash: backstop_journal::BlobHash::of(&definition).to_string(),
        task: task.id,
        role: task.role,
        agent: task.agent,
        model: task.model,
        system: Body::from(task.system.as_str()),
        message: Body::from(task.message.as_str()),
        max_tokens: task.max_tokens,
        tools: task.tools,
        workspace: absolute(&task.workspace),
        limits: task.limits,
        result_schema: task.result_schema,
        priority: task.priority,
        labels: task.labels,
        dry_run: task.dry_run,
        applies: None,
        parent: None,
        bounds: Vec::new(),
        on_failure: task.on_failure,
    }
}

fn result(outcome: RunOutcome) -> RunResult {
    let content = match &outcome.result {
        Some(Value::String(text)) => text.clone(),
        Some(_) | None => outcome.message.clone(),
    };
    RunResult {
        run: outcome.run,
        status: outcome.status,
        content,
        result: outcome.result,
        input_tokens: outcome.usage.total_input_tokens(),
        output_tokens: outcome.usage.output_tokens,
        usage: outcome.usage,
        cost: outcome.cost,
        duration: outcome.duration,
        turns: outcome.turns,
        code: outcome.code,
        message: outcome.message,
        parked: outcome.parked,
        until: outcome.until,
        in_doubt: outcome.in_doubt,
        questions: outcome.questions,
    }
}

/// The directory as the run keeps it: it goes on there from wherever it is resumed.
fn absolute(workspace: &std::path::Path) -> String {
    let path = std::path::absolute(workspace).unwrap_or_else(|_| workspace.to_owned());
    path.to_string_lossy().into_owned()
}
