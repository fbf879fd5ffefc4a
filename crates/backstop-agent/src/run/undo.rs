//! Takes back what a run did, newest first. Each undo is itself a tool call under the effect protocol: planned from what
//! was written down before the call it takes back, durable before it begins, probed after a crash. It stands in the run's
//! own journal, beside the call.

use super::drive::Drive;
use super::tools::{Dispatch, Returned, perform, planned_without_tool};
use super::{Agent, RunError, there};
use crate::delegation::{DELEGATE, SUBMIT, child_of};
use crate::state::{Stage, ToolCall, hash_of};
use crate::tool::{Job, Plan, Probe, Rehearsal, Tool, ToolContext, ToolOutput};
use backstop_call::{Block, BoxFuture, RunId};
use backstop_journal::Body;
use backstop_journal::RunStatus;
use backstop_journal::event::{OnFailure, RunFinished, ToolFinished, ToolPlanned, ToolStarted, ToolUnknown};
use backstop_label::Class;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// What became of the undo of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undone {
    /// The call that was to be taken back.
    pub call: String,
    /// The tool that made it.
    pub tool: String,
    /// What became of it.
    pub outcome: UndoOutcome,
}

/// How an undo ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UndoOutcome {
    /// It was taken back, and what the tool said.
    Done(String),
    /// It was taken back before.
    Already,
    /// Nothing takes it back.
    Irreversible,
    /// The world is not as the call left it, and what is different. Nothing was changed.
    Conflict(String),
    /// Whether there is anything to take back, or whether it was taken back, is not known: a person must say, by `resolve`.
    InDoubt(String),
}

impl Undone {
    /// Whether the calls before it may be taken back: what they did may lie under what this one did.
    pub fn is_good(&self) -> bool {
        match self.outcome {
            UndoOutcome::Done(_) | UndoOutcome::Already | UndoOutcome::Irreversible => true,
            UndoOutcome::Conflict(_) | UndoOutcome::InDoubt(_) => false,
        }
    }
}

impl Agent {
    /// Takes back what a run did: every call that changed something, newest first, or only the one whose id is or begins
    /// with `step`. Stops at the first that cannot be taken back because the world is not as it left it, or whose undo is
    /// in doubt. The run must be over: one that may go on would not know of it.
    ///
    /// # Errors
    /// `NotOver`, also of the run that it did a part for; `NoSuchStep`; `Owned` while another process works on the run.
    pub async fn undo(&self, run: &RunId, step: Option<&str>) -> Result<Vec<Undone>, RunError> {
        let top = self.top_of(run).await?;
        let status = self.state_of(&top).await?.status;
        if top != *run && !status.is_final() {
            return Err(RunError::NotOver { run: top, status });
        }
        self.undo_run(run, step).await
    }

    async fn undo_run(&self, run: &RunId, step: Option<&str>) -> Result<Vec<Undone>, RunError> {
        self.with_claim(run, async |claimed| {
            if !claimed.state.status.is_final() {
                return Err(RunError::NotOver { run: run.clone(), status: claimed.state.status });
            }
            there(run, &claimed.state)?;
            let dry = claimed.state.created.as_ref().is_some_and(|created| created.dry_run);
            if dry {
                return Ok(Vec::new());
            }
            let ids = claimed.state.effects(step);
            if let (Some(step), false) = (step, ids.len() == 1) {
                let prefix = step.to_owned();
                return Err(RunError::NoSuchStep { run: run.clone(), prefix, found: ids.len() });
            }
            let mut drive = self.prepare(run, claimed).await?;
            let undone = drive.undo(&ids).await?;
            drive.commit().await?;
            Ok(undone)
        })
        .await
    }
}

impl Agent {
    /// Takes back all that a run did which did a part for another.
    fn undo_boxed<'a>(&'a self, part: &'a RunId) -> BoxFuture<'a, Result<Vec<Undone>, RunError>> {
        Box::pin(self.undo_run(part, None))
    }

    /// What [`Agent::undo`] would do, with what a person is shown of each step: found out on a copy of the workspace, and
    /// by what the tools say where they reach beyond it. Changes nothing.
    pub async fn rehearse_undo(
        &self,
        run: &RunId,
        step: Option<&str>,
    ) -> Result<Vec<(Undone, String)>, RunError> {
        self.with_claim(run, async |claimed| {
            there(run, &claimed.state)?;
            let created = claimed.state.created.clone().filter(|created| !created.dry_run);
            let ids = claimed.state.effects(step);
            let Some(created) = created else { return Ok(Vec::new()) };
            let copy = RunId::from(format!("{run}-undo"));
            self.discard_copy(&copy).await;
            let mut drive = self.prepare(run, claimed).await?;
            drive.workspace = self.open_copy(&copy, &created).await?.map(Arc::new);
            let shown = drive.rehearse_undo(&ids).await;
            self.discard_copy(&copy).await;
            Ok(shown)
        })
        .await
    }
}

impl Drive<'_> {
    async fn rehearse_undo(&self, ids: &[String]) -> Vec<(Undone, String)> {
        let mut shown = Vec::new();
        for call in ids.iter().filter_map(|id| self.state.calls.iter().find(|call| call.id == *id)) {
            let (outcome, preview) = self.rehearse_undo_of(call).await;
            let one = Undone { call: call.id.clone(), tool: call.tool.clone(), outcome };
            let good = one.is_good();
            shown.push((one, preview));
            if !good {
                break;
            }
        }
        shown
    }

    async fn rehearse_undo_of(&self, call: &ToolCall) -> (UndoOutcome, String) {
        let before = self.state.undo_of(&call.id).map(|undo| &undo.stage);
        if matches!(before, Some(Stage::Finished { is_error: false, .. })) {
            return (UndoOutcome::Already, String::new());
        }
        if call.tool == DELEGATE {
            return match self.rehearse_undo_of_part(call).await {
                Ok(shown) => shown,
                Err(error) => (UndoOutcome::Conflict(error.to_string()), String::new()),
            };
        }
        if call.tool == SUBMIT {
            let outcome = self.rehearse_undo_of_task(call).await;
            let unknown = |error: RunError| UndoOutcome::Conflict(error.to_string());
            return (outcome.unwrap_or_else(unknown), String::new());
        }
        let Some(undoing) = self.undoing(call) else { return (UndoOutcome::Irreversible, String::new()) };
        let plan = match undoing.tool.plan(&undoing.args, &undoing.context).await {
            Ok(plan) => plan,
            Err(error) => return (UndoOutcome::Conflict(error.to_string()), String::new()),
        };
        let registered = self.agent.tools.find(&call.tool);
        if registered.is_some_and(|registered| registered.tool.rehearsal() == Rehearsal::OnCopy) {
            let job = Job { args: undoing.args, plan: plan.body, key: self.key(&call.id) };
            if let Err(error) = undoing.tool.run(&job, &undoing.context).await {
                return (UndoOutcome::Conflict(error.to_string()), plan.preview);
            }
        }
        (UndoOutcome::Done("would be taken back".to_owned()), plan.preview)
    }

    /// The undo of a call; `None` when nothing takes it back.
    fn undoing(&self, call: &ToolCall) -> Option<Undoing> {
        let args = call.planned.as_ref()?.undo.value().filter(|args| !args.is_null())?.clone();
        let tool = self.agent.tools.find(&call.tool)?.tool.undoing()?;
        let context = ToolContext { undone: self.state.said_of(&call.id), ..self.tool_context(call) };
        Some(Undoing { of: call.id.clone(), name: call.tool.clone(), tool, args, context })
    }

    /// The end of a run, after what it did was taken back if that is what is to become of it. A crash on the way leaves the
    /// run unfinished, and the rest is taken back when it is taken up.
    pub(super) async fn rolled_back(&mut self, finished: RunFinished) -> Result<RunFinished, RunError> {
        let wanted = self.state.created.as_ref().is_some_and(|it| it.on_failure == OnFailure::Rollback);
        if !wanted || finished.status != RunStatus::Failed {
            return Ok(finished);
        }
        let ids = self.state.effects(None);
        let undone = self.undo(&ids).await?;
        let message = format!("{}; {}", finished.message, told(ids.len(), &undone));
        Ok(RunFinished { message: message.into(), ..finished })
    }

    /// Takes these calls back, in this order, until one cannot be.
    pub(super) async fn undo(&mut self, ids: &[String]) -> Result<Vec<Undone>, RunError> {
        let mut undone = Vec::new();
        for id in ids {
            let Some(call) = self.state.calls.iter().find(|call| call.id == *id).cloned() else { continue };
            let outcome = self.undo_call(&call).await?;
            let one = Undone { call: call.id, tool: call.tool, outcome };
            let good = one.is_good();
            undone.push(one);
            if !good {
                break;
            }
        }
        Ok(undone)
    }

    async fn undo_call(&mut self, call: &ToolCall) -> Result<UndoOutcome, RunError> {
        if call.is_open() {
            return Ok(UndoOutcome::InDoubt(self.doubt(call)));
        }
        let before = self.state.undo_of(&call.id).cloned();
        match before.as_ref().map(|undo| &undo.stage) {
            Some(Stage::Finished { is_error: false, .. }) => return Ok(UndoOutcome::Already),
            Some(Stage::Unknown { reason, .. }) => return Ok(UndoOutcome::InDoubt(reason.clone())),
            _ => {}
        }
        if call.tool == DELEGATE {
            return self.undo_part(call).await;
        }
        if call.tool == SUBMIT {
            return self.undo_task(call).await;
        }
        let Some(undoing) = self.undoing(call) else { return Ok(UndoOutcome::Irreversible) };
        if let Some(begun) = before.filter(|undo| !matches!(undo.stage, Stage::Finished { .. })) {
            return self.undo_again(&begun, undoing).await;
        }
        let attempt = self.state.undos.iter().filter(|undo| undo.undoes(&call.id)).count() + 1;
        let id =
            if attempt == 1 { format!("undo:{}", call.id) } else { format!("undo:{}:{attempt}", call.id) };
        let limit = self.agent.config.tool_timeout;
        let plan = match tokio::time::timeout(limit, undoing.tool.plan(&undoing.args, &undoing.context)).await
        {
            Ok(Ok(plan)) => plan,
            Ok(Err(error)) => return Ok(UndoOutcome::Conflict(error.to_string())),
            Err(_) => return Ok(UndoOutcome::Conflict("working out the undo timed out".to_owned())),
        };
        let key = self.key(&id);
        self.note(undoing.planned(&id, &plan));
        self.dispatch_undo(id, undoing, Job { args: Value::Null, plan: plan.body, key }, 1).await
    }

    /// Takes back all that the run did which did a part. Each step stands in that run's journal; here stands that it was done.
    async fn undo_part(&mut self, call: &ToolCall) -> Result<UndoOutcome, RunError> {
        let part = child_of(&self.run, &call.id);
        let known = self.agent.state_of(&part).await?.created.is_some();
        let undone = if known { self.agent.undo_boxed(&part).await? } else { Vec::new() };
        let outcome = summed_up(&part, &undone);
        if let UndoOutcome::Done(said) = &outcome {
            let id = format!("undo:{}", call.id);
            let planned = planned_without_tool(call, Class::Idempotent);
            self.note(ToolPlanned { id: id.clone(), undoes: Some(call.id.clone()), ..planned });
            self.undone(&id, Ok(said.clone()), Duration::ZERO, false);
        }
        Ok(outcome)
    }

    /// What taking back a part would do, on the copy that this run's own undo is rehearsed on.
    fn rehearse_undo_of_part<'a>(
        &'a self,
        call: &'a ToolCall,
    ) -> BoxFuture<'a, Result<(UndoOutcome, String), RunError>> {
        Box::pin(async move {
            let part = child_of(&self.run, &call.id);
            if self.agent.state_of(&part).await?.created.is_none() {
                return Ok((summed_up(&part, &[]), String::new()));
            }
            let shown = self
                .agent
                .with_claim(&part, async |claimed| {
                    let ids = claimed.state.effects(None);
                    let mut drive = self.agent.prepare(&part, claimed).await?;
                    drive.workspace.clone_from(&self.workspace);
                    Ok(drive.rehearse_undo(&ids).await)
                })
                .await?;
            let (undone, previews): (Vec<_>, Vec<_>) = shown.into_iter().unzip();
            Ok((summed_up(&part, &undone), previews.concat()))
        })
    }

    /// Why nobody knows whether there is anything of this call to take back; a person must say, by `resolve`.
    fn doubt(&mut self, call: &ToolCall) -> String {
        if let Stage::Unknown { reason, .. } = &call.stage {
            return reason.clone();
        }
        let reason = "it was under way when its run was ended".to_owned();
        self.note(ToolUnknown { id: call.id.clone(), reason: reason.clone().into() });
        reason
    }

    /// An undo that a crash cut short, or that a person says did not happen.
    async fn undo_again(&mut self, begun: &ToolCall, undoing: Undoing) -> Result<UndoOutcome, RunError> {
        let plan = begun.planned.as_ref().and_then(|planned| planned.plan.value()).cloned();
        let plan = plan.ok_or_else(|| RunError::Erased(self.run.clone()))?;
        let job = Job { args: undoing.args.clone(), plan, key: begun.key(&self.run) };
        let attempt = begun.attempts() + 1;
        if !matches!(begun.stage, Stage::Started { .. }) {
            return self.dispatch_undo(begun.id.clone(), undoing, job, attempt).await;
        }
        match self.find_out(&*undoing.tool, &job, &undoing.context).await {
            Probe::Happened(output) => Ok(self.found_undone(&begun.id, &output)),
            Probe::DidNot => self.dispatch_undo(begun.id.clone(), undoing, job, attempt).await,
            Probe::Unsure(why) => {
                let reason = format!("the process ended while it was under way, and {why}");
                Ok(self.undo_lost(begun.id.clone(), reason))
            }
        }
    }

    async fn dispatch_undo(
        &mut self,
        id: String,
        undoing: Undoing,
        job: Job,
        attempt: u32,
    ) -> Result<UndoOutcome, RunError> {
        self.note(ToolStarted { id: id.clone(), attempt, approval: None });
        self.commit().await?;
        let dispatch = Dispatch {
            id: id.clone(),
            class: undoing.tool.declaration().class,
            tool: undoing.tool,
            job: Job { args: undoing.args, ..job },
            context: undoing.context,
        };
        let outcome = match perform(&dispatch, self.agent.config.tool_timeout, &*self.agent.clock).await {
            Returned::Said { output: Ok(output), duration } => {
                let said = output.content.iter().filter_map(Block::as_text).collect::<String>();
                self.undone(&id, Ok(said.clone()), duration, false);
                UndoOutcome::Done(said)
            }
            Returned::Said { output: Err(reason), duration } => {
                self.undone(&id, Err(reason.clone()), duration, false);
                UndoOutcome::Conflict(reason)
            }
            // It may still be at work, so a probe that says that it was not done proves nothing here.
            Returned::Lost { reason } => {
                match self.find_out(&*dispatch.tool, &dispatch.job, &dispatch.context).await {
                    Probe::Happened(output) => self.found_undone(&id, &output),
                    Probe::DidNot => self.undo_lost(id, format!("{reason}; it has not happened yet")),
                    Probe::Unsure(why) => self.undo_lost(id, format!("{reason}, and {why}")),
                }
            }
        };
        Ok(outcome)
    }

    fn undo_lost(&mut self, id: String, reason: String) -> UndoOutcome {
        self.note(ToolUnknown { id, reason: reason.clone().into() });
        UndoOutcome::InDoubt(reason)
    }

    fn found_undone(&mut self, id: &str, output: &ToolOutput) -> UndoOutcome {
        let said = output.content.iter().filter_map(Block::as_text).collect::<String>();
        self.undone(id, Ok(said.clone()), Duration::ZERO, true);
        UndoOutcome::Done(said)
    }

    /// Finds out whether a call happened, by the tool's own way and within its time.
    pub(super) async fn find_out(&self, tool: &dyn Tool, job: &Job, context: &ToolContext) -> Probe {
        match tokio::time::timeout(self.agent.config.tool_timeout, tool.probe(job, context)).await {
            Ok(probe) => probe,
            Err(_) => Probe::Unsure("the probe timed out".to_owned()),
        }
    }

    pub(super) fn undone(
        &mut self,
        id: &str,
        said: Result<String, String>,
        duration: Duration,
        probed: bool,
    ) {
        let is_error = said.is_err();
        let text = said.unwrap_or_else(|reason| reason);
        self.note(ToolFinished {
            id: id.to_owned(),
            is_error,
            result: Body::from(text.as_str()),
            whole: Body::default(),
            labels: backstop_call::Labels::default(),
            duration,
            probed,
            spent: None,
        });
    }
}

/// What the undo of a run came to that did a part.
fn summed_up(part: &RunId, undone: &[Undone]) -> UndoOutcome {
    let stuck = undone.iter().find(|one| !one.is_good());
    match stuck.map(|one| (&one.tool, &one.outcome)) {
        Some((tool, UndoOutcome::InDoubt(reason))) => {
            UndoOutcome::InDoubt(format!("{tool} in run {part}: {reason}"))
        }
        Some((tool, UndoOutcome::Conflict(reason))) => {
            UndoOutcome::Conflict(format!("{tool} in run {part}: {reason}"))
        }
        Some(_) | None if undone.is_empty() => UndoOutcome::Done("it had changed nothing".to_owned()),
        Some(_) | None => UndoOutcome::Done(told(undone.len(), undone)),
    }
}

/// What a rollback came to, in words.
fn told(steps: usize, undone: &[Undone]) -> String {
    let back = |one: &&Undone| matches!(one.outcome, UndoOutcome::Done(_) | UndoOutcome::Already);
    let taken_back = undone.iter().filter(back).count();
    let reason = undone.iter().find_map(|one| match &one.outcome {
        UndoOutcome::Conflict(reason) | UndoOutcome::InDoubt(reason) => {
            Some(format!("{}: {reason}", one.tool))
        }
        UndoOutcome::Irreversible => Some(format!("{} cannot be taken back", one.tool)),
        UndoOutcome::Done(_) | UndoOutcome::Already => None,
    });
    match reason {
        None => format!("all {steps} steps of it were taken back"),
        Some(reason) => format!("{taken_back} of {steps} steps of it were taken back ({reason})"),
    }
}

/// The undo of one call, before it is planned.
struct Undoing {
    of: String,
    name: String,
    tool: Arc<dyn Tool>,
    args: Value,
    context: ToolContext,
}

impl Undoing {
    fn planned(&self, id: &str, plan: &Plan) -> ToolPlanned {
        let declaration = self.tool.declaration();
        ToolPlanned {
            id: id.to_owned(),
            tool: self.name.clone(),
            // They are the undo of the call that is taken back, and stand there.
            args: Body::default(),
            args_hash: Some(hash_of(&self.args)),
            class: declaration.class,
            key: None,
            plan: Body::of(&plan.body),
            effect: Some(declaration.effect),
            preview: if plan.preview.is_empty() {
                Body::default()
            } else {
                Body::from(plan.preview.as_str())
            },
            undo: Body::default(),
            asks: None,
            undoes: Some(self.of.clone()),
            labels: self.context.labels.clone(),
        }
    }
}
