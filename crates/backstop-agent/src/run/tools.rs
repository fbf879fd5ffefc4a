//! Dispatches tool calls and recovers them: the effect protocol. Reads run side by side, what changes something runs in
//! the order of the calls.

use super::RunError;
use super::apply::changed;
use super::drive::Drive;
use super::gate::Pass;
use crate::decide::Recovery;
use crate::state::{Repeat, Stage, ToolCall, hash_of};
use crate::tool::{Job, Plan, Probe, Rehearsal, Tool, ToolContext, ToolError, ToolOutput};
use crate::tools::check_finish;
use backstop_call::{ApprovalId, Block, Labels};
use backstop_journal::Body;
use backstop_journal::event::{ToolFinished, ToolPlanned, ToolStarted, ToolUnknown};
use backstop_label::{Class, Declaration};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

const WARNING: &str = "Warning: this is the same call as before, with the same arguments. Once more and the run is \
    stopped. Do something else, or call finish and say what is in the way.";

/// What the model is told of a call that a dry run only notes.
const NOTED: &str = "Dry run: this was noted and not done, because it reaches what there is no copy of. Go on as if it had \
    been done.";

/// A call that is ready to be dispatched.
pub(super) struct Dispatch {
    pub(super) id: String,
    pub(super) tool: Arc<dyn Tool>,
    pub(super) class: Class,
    pub(super) job: Job,
    pub(super) context: ToolContext,
}

/// Calls that are committed together.
#[derive(Default)]
struct Wave {
    calls: Vec<Dispatch>,
    /// What they will change.
    touched: BTreeSet<String>,
    /// Whether a person is asked about one of them: what follows is not made.
    asking: bool,
}

/// How a dispatched call came back.
pub(super) enum Returned {
    /// It said what came of it.
    Said { output: Result<ToolOutput, String>, duration: Duration },
    /// It may have taken effect.
    Lost { reason: String },
}

/// What the model is told of a call, and what is noted beside it.
struct Back {
    is_error: bool,
    content: Vec<Block>,
    labels: Labels,
    duration: Duration,
    probed: bool,
}

impl Back {
    /// An error without a tool having run: in our words, so with no other labels than the call's own.
    fn refused(call: &ToolCall, reason: &str) -> Self {
        Self {
            is_error: true,
            content: vec![Block::text(reason)],
            labels: call.labels.clone(),
            duration: Duration::ZERO,
            probed: false,
        }
    }
}

impl Drive<'_> {
    /// Plans and dispatches as many of these calls as can be committed together: reads, then effects that do not touch
    /// the same. The rest comes with the next step. Where a person must be asked, so are they about the calls right after
    /// it that need the same, and nothing after those is done before they have answered.
    pub(super) async fn dispatch(&mut self, ids: &[String]) -> Result<(), RunError> {
        let mut wave = Wave::default();
        for id in ids {
            let Some(call) = self.state.call(id).cloned() else { continue };
            if !self.add(&call, &mut wave).await? {
                break;
            }
        }
        if wave.calls.is_empty() {
            return Ok(());
        }
        self.commit().await?;
        let ids: Vec<_> = wave.calls.iter().map(|dispatch| dispatch.id.clone()).collect();
        let (reads, effects): (Vec<_>, Vec<_>) =
            wave.calls.into_iter().partition(|dispatch| dispatch.class == Class::Read);
        self.run_reads(reads).await;
        let mut effects = effects.into_iter().peekable();
        while let Some(effect) = effects.next() {
            let returned = self.execute(&effect).await;
            self.take_back(&effect, returned).await;
            if effects.peek().is_some() {
                // Should the next one be cut short by a crash, this one is known.
                self.queue();
            }
        }
        self.hold_against_plan(&ids).await
    }

    /// Adds a call to a wave, asks about it, or answers it without making it. Whether the next one may follow.
    async fn add(&mut self, call: &ToolCall, wave: &mut Wave) -> Result<bool, RunError> {
        if let Some(reason) = self.answer_without(call, wave) {
            self.refuse(call, &reason);
            return Ok(true);
        }
        if let Some(seen) = self.planned.as_ref().and_then(|planned| planned.seen_outside(&call.id)) {
            let said = Back { is_error: false, ..Back::refused(call, seen) };
            self.note(planned_without_tool(call, self.key(&call.id), Class::Read));
            self.note_finished(&call.id, said);
            return Ok(true);
        }
        // One step of a plan at a time: what each gave is held against the plan before the next.
        if self.planned.is_some() && !wave.calls.is_empty() {
            return Ok(false);
        }
        let ready = self.ready(call).and_then(|ready| self.permit(call, &ready).map(|()| ready));
        let ready = match ready {
            Ok(ready) => ready,
            Err(_) if wave.asking => return Ok(false),
            Err(reason) => return self.refuse_or_stop(call, &reason).await,
        };
        // What reads after an effect of the same turn is to see it.
        if ready.class == Class::Read && wave.calls.iter().any(|before| before.class != Class::Read) {
            return Ok(false);
        }
        let plan = match self.plan(&ready, &mut wave.touched).await {
            Some(Ok(plan)) => plan,
            Some(Err(_)) if wave.asking => return Ok(false),
            Some(Err(reason)) => return self.refuse_or_stop(call, &reason).await,
            None => return Ok(false),
        };
        if let Some(why) = self.planned.as_ref().and_then(|planned| planned.differs(call, &plan)) {
            return self.stop_at(why).await;
        }
        match self.pass(call, &ready, &plan) {
            Pass::Refuse(_) | Pass::Go(_) if wave.asking => Ok(false),
            Pass::Refuse(reason) => self.refuse_or_stop(call, &reason).await,
            Pass::Ask { why, .. } if self.is_dry() => Ok(self.rehearse(call, ready, plan, wave, Some(why))),
            Pass::Go(_) if self.is_dry() => Ok(self.rehearse(call, ready, plan, wave, None)),
            Pass::Go(approval) => {
                self.note(planned(call, &ready, &plan, None));
                self.start(ready, plan, approval, wave);
                Ok(true)
            }
            Pass::Ask { why, expires } => {
                self.note(planned(call, &ready, &plan, Some(why.clone())));
                self.put_question(call, &plan, why, expires);
                wave.asking = true;
                Ok(true)
            }
        }
    }

    /// What a call is answered with that is not made, whatever it would do: a person, the time or the plan says so.
    fn answer_without(&mut self, call: &ToolCall, wave: &Wave) -> Option<String> {
        let failed =
            self.planned.as_ref().and_then(|planned| planned.failure_of(&call.id)).map(str::to_owned);
        if failed.is_some() || wave.asking { failed } else { self.denial(call) }
    }

    fn start(&mut self, ready: Dispatch, plan: Plan, approval: Option<ApprovalId>, wave: &mut Wave) {
        self.note(ToolStarted { id: ready.id.clone(), attempt: 1, approval });
        wave.calls.push(Dispatch { job: Job { plan: plan.body, ..ready.job }, ..ready });
    }

    /// In a dry run: makes a call where it touches nothing but the copy, and else notes it.
    fn rehearse(
        &mut self,
        call: &ToolCall,
        ready: Dispatch,
        plan: Plan,
        wave: &mut Wave,
        asks: Option<String>,
    ) -> bool {
        let looks = ready.class == Class::Read && asks.is_none();
        let real = looks || ready.tool.rehearsal() == Rehearsal::OnCopy;
        self.note(planned(call, &ready, &plan, asks));
        if real {
            self.start(ready, plan, None, wave);
        } else {
            let said = Back { is_error: false, ..Back::refused(call, NOTED) };
            self.note_finished(&call.id, said);
        }
        true
    }

    /// Answers a call that is not made. Where a plan is carried out that wants it, the plan does not hold any more.
    async fn refuse_or_stop(&mut self, call: &ToolCall, reason: &str) -> Result<bool, RunError> {
        if self.planned.is_some() {
            return self
                .stop_at(format!("{} ({}) cannot be done as planned: {reason}", call.tool, call.id))
                .await;
        }
        self.refuse(call, reason);
        Ok(true)
    }

    /// Ends the run: its plan does not hold any more.
    async fn stop_at(&mut self, why: String) -> Result<bool, RunError> {
        let finished = self.rolled_back(changed(why)).await?;
        self.note(finished);
        Ok(false)
    }

    /// Holds what the calls of a wave gave against the plan that is carried out.
    async fn hold_against_plan(&mut self, ids: &[String]) -> Result<(), RunError> {
        let Some(planned) = &self.planned else { return Ok(()) };
        let said = |call: &ToolCall| match &call.stage {
            Stage::Finished { content, .. } if !content.is_empty() => {
                Some(content.iter().filter_map(Block::as_text).collect::<String>())
            }
            _ => self.state.said_of(&call.id),
        };
        let differs = |id: &String| {
            let call = self.state.calls.iter().find(|call| call.id == *id)?;
            planned.gave_otherwise(call, &said(call)?)
        };
        if let Some(why) = ids.iter().find_map(differs) {
            self.stop_at(why).await?;
        }
        Ok(())
    }

    /// Hears a `finish`.
    pub(super) fn conclude(&mut self, id: &str) {
        let Some(call) = self.state.call(id).cloned() else { return };
        let checked =
            if call.truncated { Err(truncated()) } else { check_finish(&self.state, id, &call.args) };
        let text = match &checked {
            Ok(()) => "The run is finished.",
            Err(reason) => reason.as_str(),
        };
        self.note(planned_without_tool(&call, self.key(id), Class::Read));
        let said = Back { is_error: checked.is_err(), ..Back::refused(&call, text) };
        self.note_finished(id, said);
    }

    /// Finds out what became of a call that was started, or runs it again where that is harmless.
    pub(super) async fn recover(&mut self, id: &str, how: Recovery) -> Result<(), RunError> {
        let Some(call) = self.state.call(id).cloned() else { return Ok(()) };
        match how {
            Recovery::InDoubt(reason) => self.note(ToolUnknown { id: id.to_owned(), reason }),
            Recovery::GiveUp(reason) => {
                let text = format!("No result: {reason}.");
                self.note_finished(id, Back::refused(&call, &text));
            }
            Recovery::RunAgain => self.run_again(&call).await?,
            Recovery::Probe => match self.probe(&call).await {
                Probe::Happened(output) => self.note_output(&call, Ok(output), Duration::ZERO, true),
                Probe::DidNot => self.run_again(&call).await?,
                Probe::Unsure(reason) => {
                    let reason = format!("the process ended while it was under way, and {reason}");
                    self.note(ToolUnknown { id: id.to_owned(), reason });
                }
            },
        }
        self.hold_against_plan(&[id.to_owned()]).await
    }

    async fn run_again(&mut self, call: &ToolCall) -> Result<(), RunError> {
        let Some(dispatch) = self.dispatched_before(call) else {
            let reason = format!("there is no tool `{}` any more to run it again", call.tool);
            self.note(ToolUnknown { id: call.id.clone(), reason });
            return Ok(());
        };
        self.note(ToolStarted { id: call.id.clone(), attempt: call.attempts() + 1, approval: None });
        self.commit().await?;
        match self.execute(&dispatch).await {
            // That this attempt changed nothing says nothing of the one before it, of which nobody heard.
            Returned::Said { output: Err(reason), .. }
                if dispatch.class == Class::Idempotent && matches!(call.stage, Stage::Started { .. }) =>
            {
                let reason =
                    format!("an attempt before may have taken effect, and this one failed: {reason}");
                self.note(ToolUnknown { id: call.id.clone(), reason });
            }
            returned => self.take_back(&dispatch, returned).await,
        }
        Ok(())
    }

    async fn probe(&self, call: &ToolCall) -> Probe {
        let Some(dispatch) = self.dispatched_before(call) else {
            return Probe::Unsure(format!("there is no tool `{}` any more to ask", call.tool));
        };
        let probed = dispatch.tool.probe(&dispatch.job, &dispatch.context);
        match tokio::time::timeout(self.agent.config.tool_timeout, probed).await {
            Ok(probe) => probe,
            Err(_) => Probe::Unsure("the probe timed out".to_owned()),
        }
    }

    /// Whether a call can be made at all, and with what. The error is for the model.
    pub(super) fn ready(&self, call: &ToolCall) -> Result<Dispatch, String> {
        if call.truncated {
            return Err(truncated());
        }
        let allowed = self.rules.tools.iter().any(|spec| spec.name == call.tool);
        let registered = self.agent.tools.find(&call.tool).filter(|_| allowed);
        let Some(registered) = registered else { return Err(self.no_such_tool(&call.tool)) };
        registered.check(&call.args)?;
        Ok(Dispatch {
            id: call.id.clone(),
            tool: Arc::clone(&registered.tool),
            class: registered.tool.declaration().class,
            job: Job { args: call.args.clone(), plan: Value::Null, key: self.key(&call.id) },
            context: self.tool_context(call),
        })
    }

    /// The call as it was dispatched: same arguments, same plan, same key.
    fn dispatched_before(&self, call: &ToolCall) -> Option<Dispatch> {
        let registered = self.agent.tools.find(&call.tool)?;
        let planned = call.planned.as_ref()?;
        let plan = planned.plan.value()?.clone();
        Some(Dispatch {
            id: call.id.clone(),
            tool: Arc::clone(&registered.tool),
            class: planned.class,
            job: Job { args: call.args.clone(), plan, key: planned.key.clone() },
            context: self.tool_context(call),
        })
    }

    pub(super) fn tool_context(&self, call: &ToolCall) -> ToolContext {
        ToolContext {
            run: self.run.clone(),
            call: call.id.clone(),
            workspace: self.workspace.clone(),
            labels: call.labels.clone(),
            undone: None,
        }
    }

    /// The same at every attempt, and in no other run.
    pub(super) fn key(&self, id: &str) -> String {
        let name = format!("{} {id}", self.run);
        blake3::hash(name.as_bytes()).to_hex()[..32].to_owned()
    }

    /// `None` when it touches what an earlier call of this wave will change: it must be planned after that.
    pub(super) async fn plan(
        &self,
        ready: &Dispatch,
        touched: &mut BTreeSet<String>,
    ) -> Option<Result<Plan, String>> {
        let planned = ready.tool.plan(&ready.job.args, &ready.context);
        let plan = match tokio::time::timeout(self.agent.config.tool_timeout, planned).await {
            Ok(Ok(plan)) => plan,
            // It may only be wrong because an earlier call is not done yet.
            Ok(Err(_)) if !touched.is_empty() => return None,
            Ok(Err(error)) => return Some(Err(error.to_string())),
            Err(_) => {
                return Some(Err(
                    "Working out what the call would do timed out; nothing was done.".to_owned()
                ));
            }
        };
        let fresh = plan.touches.iter().all(|what| touched.insert(what.clone()));
        fresh.then_some(Ok(plan))
    }

    async fn run_reads(&mut self, reads: Vec<Dispatch>) {
        let mut under_way = JoinSet::new();
        let mut waiting = reads.into_iter();
        let limit = self.agent.config.tool_timeout;
        loop {
            while under_way.len() < self.agent.config.reads_max.max(1) {
                let Some(read) = waiting.next() else { break };
                let clock = Arc::clone(&self.agent.clock);
                under_way.spawn(async move {
                    let returned = perform(&read, limit, &*clock).await;
                    (read, returned)
                });
            }
            // A task that panicked leaves its call started; the next step runs the read again, so often and no more.
            match under_way.join_next().await {
                Some(Ok((read, returned))) => self.take_back(&read, returned).await,
                Some(Err(_)) => {}
                None => break,
            }
        }
    }

    /// Runs a call in a task of its own, so that a tool that panics does not take the run with it.
    async fn execute(&self, dispatch: &Dispatch) -> Returned {
        let limit = self.agent.config.tool_timeout;
        let clock = Arc::clone(&self.agent.clock);
        let own = Dispatch {
            id: dispatch.id.clone(),
            tool: Arc::clone(&dispatch.tool),
            class: dispatch.class,
            job: dispatch.job.clone(),
            context: dispatch.context.clone(),
        };
        let mut task = JoinSet::new();
        task.spawn(async move { perform(&own, limit, &*clock).await });
        match task.join_next().await {
            Some(Ok(returned)) => returned,
            Some(Err(_)) | None => Returned::Lost { reason: "the tool crashed".to_owned() },
        }
    }

    async fn take_back(&mut self, dispatch: &Dispatch, returned: Returned) {
        let Some(call) = self.state.call(&dispatch.id).cloned() else { return };
        match returned {
            Returned::Said { output, duration } => self.note_output(&call, output, duration, false),
            Returned::Lost { reason } => self.lost(&call, dispatch, reason).await,
        }
    }

    /// A call that did not come back. It may still be acting, so a probe that says *it did not* proves nothing here.
    async fn lost(&mut self, call: &ToolCall, dispatch: &Dispatch, reason: String) {
        match dispatch.class {
            Class::Read => {
                let text = format!("No result: {reason}.");
                self.note_output(call, Err(text), Duration::ZERO, false);
            }
            // Left as started: the next step runs it again under the same key, so often and no more.
            Class::Idempotent => {}
            Class::Irreversible => self.note(ToolUnknown { id: call.id.clone(), reason }),
            Class::Write => match self.probe(call).await {
                Probe::Happened(output) => self.note_output(call, Ok(output), Duration::ZERO, true),
                Probe::DidNot => {
                    let reason = format!("{reason}; it has not happened yet");
                    self.note(ToolUnknown { id: call.id.clone(), reason });
                }
                Probe::Unsure(why) => {
                    self.note(ToolUnknown { id: call.id.clone(), reason: format!("{reason}, and {why}") });
                }
            },
        }
    }

    fn note_output(
        &mut self,
        call: &ToolCall,
        output: Result<ToolOutput, String>,
        duration: Duration,
        probed: bool,
    ) {
        let declared = self.agent.tools.find(&call.tool).map(|tool| tool.tool.declaration().output_labels());
        let declared = declared.unwrap_or_else(|| Declaration::undeclared().output_labels());
        let is_error = output.is_err();
        let output = output.unwrap_or_else(ToolOutput::text);
        let labels = declared.joined(&call.labels).joined(&output.labels);
        self.note_finished(&call.id, Back { is_error, content: output.content, labels, duration, probed });
    }

    /// Answers a call that is not made.
    fn refuse(&mut self, call: &ToolCall, reason: &str) {
        let registered = self.agent.tools.find(&call.tool);
        let class = registered.map_or(Class::Write, |registered| registered.tool.declaration().class);
        self.note(planned_without_tool(call, self.key(&call.id), class));
        self.note_finished(&call.id, Back::refused(call, reason));
    }

    fn note_finished(&mut self, id: &str, back: Back) {
        let Back { is_error, mut content, labels, duration, probed } = back;
        let call = self.state.call(id);
        if let Some((by, reason)) = call.and_then(|call| call.edited.as_ref()) {
            let args = call.map_or(&Value::Null, |call| &call.args);
            content.push(Block::text(format!("\n\n{}", edited(by, reason, args))));
        }
        if call.is_some_and(|call| call.repeat == Repeat::Warn) {
            content.push(Block::text(format!("\n\n{WARNING}")));
        }
        let result = match &content[..] {
            [Block::Text { text, cache: None }] => Body::from(text.as_str()),
            _ => Body::of(&content),
        };
        self.note(ToolFinished { id: id.to_owned(), is_error, result, labels, duration, probed });
    }

    fn no_such_tool(&self, name: &str) -> String {
        let tools: Vec<_> = self.rules.tools.iter().map(|spec| spec.name.as_str()).collect();
        format!("There is no tool `{name}`. Use one of: {}.", tools.join(", "))
    }
}

pub(super) async fn perform(
    dispatch: &Dispatch,
    limit: Duration,
    clock: &dyn backstop_call::Clock,
) -> Returned {
    let started = clock.now();
    let ran = dispatch.tool.run(&dispatch.job, &dispatch.context);
    let returned = tokio::time::timeout(limit, ran).await;
    let duration = clock.now().since(started);
    match returned {
        Ok(Ok(output)) => Returned::Said { output: Ok(output), duration },
        Ok(Err(ToolError::Failed(reason))) => Returned::Said { output: Err(reason), duration },
        Ok(Err(ToolError::Unknown(reason))) => Returned::Lost { reason },
        Err(_) => Returned::Lost { reason: format!("it timed out after {} seconds", limit.as_secs_f64()) },
    }
}

fn planned(call: &ToolCall, ready: &Dispatch, plan: &Plan, asks: Option<String>) -> ToolPlanned {
    let declared = ready.tool.declaration().effect;
    ToolPlanned {
        id: call.id.clone(),
        tool: call.tool.clone(),
        args: Body::of(&call.args),
        args_hash: hash_of(&call.args),
        class: ready.class,
        key: ready.job.key.clone(),
        plan: Body::of(&plan.body),
        effect: Some(plan.effect.map_or(declared, |effect| effect.max(declared))),
        preview: if plan.preview.is_empty() { Body::default() } else { Body::from(plan.preview.as_str()) },
        undo: plan.undo.clone().map_or_else(Body::default, Body::Inline),
        asks,
        undoes: None,
        labels: call.labels.clone(),
    }
}

/// What is noted of a call that nothing was worked out for: it is refused, or it is the run's own.
fn planned_without_tool(call: &ToolCall, key: String, class: Class) -> ToolPlanned {
    ToolPlanned {
        id: call.id.clone(),
        tool: call.tool.clone(),
        args: Body::of(&call.args),
        args_hash: hash_of(&call.args),
        class,
        key,
        plan: Body::of(&Value::Null),
        effect: None,
        preview: Body::default(),
        undo: Body::default(),
        asks: None,
        undoes: None,
        labels: call.labels.clone(),
    }
}

fn truncated() -> String {
    "Not run: your answer was cut off at the output limit, so the arguments may be incomplete. Call it again, with less \
     at once."
        .to_owned()
}

/// What the model is told beside the result of a call that a person changed.
fn edited(by: &str, reason: &str, args: &Value) -> String {
    let because =
        if reason.trim().is_empty() { String::new() } else { format!(", because: {}", reason.trim()) };
    format!(
        "{by} changed the arguments of this call to {args}{because}. This is what was done; do not make the original call \
         again."
    )
}
