//! A Backstop: the parts put together, and what a program does with them.

use crate::open::{Engine, OpenError, open};
use crate::{RunResult, Settings, Task};
use backstop_agent::run::{Preview, Reply, Rest, Submitted, Undone, Verdict};
use backstop_agent::{Agent, RunError, RunOutcome};
use backstop_allowance::Ledger;
use backstop_call::{CallId, GrantId, Role, RunId};
use backstop_journal::event::{GrantCreated, Origin, QueueTerms, RunCreated, RunLimits};
use backstop_journal::{Body, Journal, Queue, Taken, Tally};
use backstop_stack::{Redactor, Stack, restack};
use backstop_store::{SqliteLedger, SqliteStore};
use serde_json::Value;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// Who asks for a task, where that is nobody at this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asking {
    /// Who it is, who pays for it, and by which request it came.
    pub origin: Origin,
    /// The role it is done in, instead of its agent's; what that one may not do it may not do either.
    pub role: Option<Role>,
    /// The id of its run, where a request always makes the same one: then a second task cannot come of it.
    pub run: Option<RunId>,
}

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
        self.agent().create(created(task)).await
    }

    /// Works on a run that was created, parked, stopped, or left by a process that died; with other limits, if given.
    pub async fn resume(&self, run: &RunId, limits: Option<RunLimits>) -> Result<RunResult, RunError> {
        self.agent().resume(run, limits).await.map(result)
    }

    /// Puts a task into the queue, durably, for a worker of any process; once for each id, whoever asks.
    pub async fn submit(&self, task: Task, terms: QueueTerms) -> Result<Submitted, RunError> {
        self.agent().submit(RunCreated { queue: Some(terms), ..created(task) }).await
    }

    /// The same for somebody who is not at this machine. A task is the same as one that is there only if both were asked for by the
    /// same request; [`Submitted::new`] alone does not tell.
    pub async fn submit_for(
        &self,
        task: Task,
        terms: QueueTerms,
        asking: Asking,
    ) -> Result<Submitted, RunError> {
        let Asking { origin, role, run } = asking;
        let created = RunCreated { queue: Some(terms), origin: Box::new(origin), ..created(task) };
        self.agent().submit_as(run, created, role).await
    }

    /// Has workers go on with a run that rests, or try the task of one that failed anew.
    pub async fn hand_over(&self, run: &RunId, terms: QueueTerms) -> Result<(), RunError> {
        self.agent().queue(run, terms).await
    }

    /// Works on a run that was taken from the queue, and lets go of it.
    pub async fn work(&self, taken: &Taken) -> Result<RunResult, RunError> {
        self.agent().work(taken).await.map(result)
    }

    /// Lets go of every run before its next step. For good: this is how a process ends.
    pub fn drain(&self) {
        self.agent().draining.store(true, Ordering::Relaxed);
    }

    /// The queue.
    pub fn queue(&self) -> &Arc<dyn Queue> {
        &self.engine.queue
    }

    /// Says what is true about a tool call in doubt. The run stays parked until it is resumed.
    pub async fn resolve(&self, run: &RunId, verdict: Verdict<'_>) -> Result<RunResult, RunError> {
        self.agent().resolve(run, verdict).await.map(result)
    }

    /// Answers an open question of a parked run. The run stays parked until it is resumed.
    pub async fn answer(&self, run: &RunId, reply: Reply<'_>) -> Result<RunResult, RunError> {
        self.agent().answer(run, reply).await.map(result)
    }

    /// What the call of an open question would do with other arguments.
    pub async fn preview(&self, run: &RunId, approval: &str, args: &Value) -> Result<Preview, RunError> {
        self.agent().preview(run, approval, args).await
    }

    /// Allows the rest of the kind of call that a question is about. The question itself stays open.
    pub async fn grant(
        &self,
        run: &RunId,
        approval: &str,
        rest: &Rest,
        who: (&str, &str),
    ) -> Result<GrantCreated, RunError> {
        self.agent().grant(run, approval, rest, who).await
    }

    /// Ends a grant. `who` is a person and the way they came by.
    pub async fn revoke(&self, grant: &GrantId, who: (&str, &str)) -> Result<(), RunError> {
        self.agent().revoke(grant, who).await
    }

    /// The run that carries out the plan of a dry run; [`Backstop::resume`] works on it.
    pub async fn apply(&self, planned: &RunId) -> Result<RunId, RunError> {
        self.agent().apply(planned).await
    }

    /// What [`Backstop::undo`] would do, found out on a copy of the workspace.
    pub async fn rehearse_undo(
        &self,
        run: &RunId,
        step: Option<&str>,
    ) -> Result<Vec<(Undone, String)>, RunError> {
        self.agent().rehearse_undo(run, step).await
    }

    /// Takes back what a run did, newest first: everything, or one step.
    pub async fn undo(&self, run: &RunId, step: Option<&str>) -> Result<Vec<Undone>, RunError> {
        self.agent().undo(run, step).await
    }

    /// Ends a run for good.
    pub async fn cancel(&self, run: &RunId, reason: &str) -> Result<RunResult, RunError> {
        self.agent().cancel(run, reason).await.map(result)
    }

    /// How a run stands.
    pub async fn inspect(&self, run: &RunId) -> Result<RunResult, RunError> {
        self.agent().inspect(run).await.map(result)
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

    /// Takes other settings for runs: those that are taken up from here on ask this stack, have these tools and colleagues, and
    /// act by this policy. What is under way goes on as it began.
    ///
    /// # Errors
    /// `UnknownModel`, `NameTaken`, `Tool`; then everything stays as it is.
    pub fn refit(&self, stack: Arc<Stack>, settings: &Settings) -> Result<(), OpenError> {
        let next = Arc::new(self.engine.base.refitted(&self.agent(), stack, settings)?);
        *self.engine.agent.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    fn agent(&self) -> Arc<Agent> {
        Arc::clone(&self.engine.agent.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A new id for a call.
    pub fn call_id(&self) -> CallId {
        CallId::new(self.engine.base.clock.now(), self.engine.base.seed.next_u64())
    }

    /// The time that Backstop goes by.
    pub fn clock(&self) -> &Arc<dyn backstop_call::Clock> {
        &self.engine.base.clock
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
}

pub(crate) fn created(task: Task) -> RunCreated {
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
        queue: None,
        origin: Box::default(),
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
