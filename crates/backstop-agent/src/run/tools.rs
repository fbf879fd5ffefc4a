//! Dispatches tool calls and recovers them: the effect protocol. Reads run side by side, what changes something runs in
//! the order of the calls.

use super::RunError;
use super::drive::Drive;
use super::gate::Pass;
use crate::delegation::{DELEGATE, Part, SUBMIT};
use crate::state::{Repeat, ToolCall, key_of};
use crate::tool::{Job, Plan, Tool, ToolContext, ToolError, ToolOutput, Whole, spelled};
use crate::tools::{READ_RESULT, check_finish, more};
use backstop_call::{ApprovalId, Block, Labels};
use backstop_journal::Body;
use backstop_journal::event::{Spent, ToolFinished, ToolPlanned, ToolStarted};
use backstop_label::{Class, Declaration};
use serde_json::Value;
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::JoinSet;

const WARNING: &str = "Warning: this is the same call as before, with the same arguments. Once more and the run is \
    stopped. Do something else, or call finish and say what is in the way.";

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
pub(super) struct Wave {
    pub(super) calls: Vec<Dispatch>,
    /// What they will change.
    pub(super) touched: BTreeSet<String>,
    /// Whether a person is asked about one of them: what follows is not made.
    pub(super) asking: bool,
}

/// How a dispatched call came back.
pub(super) enum Returned {
    /// It said what came of it.
    Said { output: Result<ToolOutput, String>, duration: Duration },
    /// It may have taken effect.
    Lost { reason: String },
}

/// What the model is told of a call, and what is noted beside it.
pub(super) struct Back {
    pub(super) is_error: bool,
    pub(super) content: Vec<Block>,
    /// All of it, where the model is told a part.
    pub(super) whole: Body,
    pub(super) labels: Labels,
    pub(super) duration: Duration,
    pub(super) probed: bool,
    /// What another run used that did it.
    pub(super) spent: Option<Spent>,
}

impl Back {
    /// An error without a tool having run: in our words, so with no other labels than the call's own.
    pub(super) fn refused(call: &ToolCall, reason: &str) -> Self {
        Self {
            is_error: true,
            content: vec![Block::text(reason)],
            whole: Body::default(),
            labels: call.labels.clone(),
            duration: Duration::ZERO,
            probed: false,
            spent: None,
        }
    }

    /// The same for what is no error.
    pub(super) fn told(call: &ToolCall, text: &str) -> Self {
        Self { is_error: false, ..Self::refused(call, text) }
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
            // A part is given out alone: when it waits, so does everything after it.
            let alone = call.tool == DELEGATE;
            if alone && !wave.calls.is_empty() {
                break;
            }
            if !self.add(&call, &mut wave).await? || (alone && !wave.calls.is_empty()) {
                break;
            }
        }
        if wave.calls.is_empty() {
            return Ok(());
        }
        self.commit().await?;
        let ids: Vec<_> = wave.calls.iter().map(|dispatch| dispatch.id.clone()).collect();
        if let [part] = &ids[..]
            && self.state.call(part).is_some_and(|call| call.tool == DELEGATE)
        {
            self.give_out(part).await?;
            return self.hold_against_plan(&ids).await;
        }
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
            let said = Back::told(call, seen);
            self.note(planned_without_tool(call, Class::Read));
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
                if !wave.asking
                    && let Some(approval) = self.answer_by_grant(call, &ready, &plan, &why).await?
                {
                    self.start(ready, plan, Some(approval), wave);
                    return Ok(true);
                }
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

    pub(super) fn start(
        &mut self,
        ready: Dispatch,
        plan: Plan,
        approval: Option<ApprovalId>,
        wave: &mut Wave,
    ) {
        self.note(ToolStarted { id: ready.id.clone(), attempt: 1, approval });
        wave.calls.push(Dispatch { job: Job { plan: plan.body, ..ready.job }, ..ready });
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
        self.note(planned_without_tool(&call, Class::Read));
        let said = Back { is_error: checked.is_err(), ..Back::refused(&call, text) };
        self.note_finished(id, said);
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
        if matches!(&*call.tool, DELEGATE | SUBMIT) {
            self.may_give_out()?;
        }
        Ok(Dispatch {
            id: call.id.clone(),
            tool: Arc::clone(&registered.tool),
            class: registered.tool.declaration().class,
            job: Job { args: call.args.clone(), plan: Value::Null, key: self.key(&call.id) },
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
            rehearsed: self.planned.as_ref().and_then(|planned| planned.body_of(&call.id)),
        }
    }

    /// The same at every attempt, and in no other run.
    pub(super) fn key(&self, id: &str) -> String {
        key_of(&self.run, id)
    }

    /// A plan whose undo would not survive the journal has none: a secret that was in a file cannot be put back from there.
    fn with_what_is_kept(&self, plan: Plan) -> Plan {
        let undo = plan.undo.filter(|undo| (self.agent.keeps)(&undo.to_string()));
        Plan { undo, ..plan }
    }

    /// `None` when it touches what an earlier call of this wave will change: it must be planned after that.
    pub(super) async fn plan(
        &self,
        ready: &Dispatch,
        touched: &mut BTreeSet<String>,
    ) -> Option<Result<Plan, String>> {
        let part = || Part::of(&ready.job.args, &ready.context.labels);
        match &*ready.tool.spec().name {
            DELEGATE => return Some(self.plan_part(&ready.id, &part()).await),
            SUBMIT => return Some(self.plan_task(&ready.id, &part())),
            _ => {}
        }
        let planned = ready.tool.plan(&ready.job.args, &ready.context);
        let plan = match tokio::time::timeout(self.agent.config.tool_timeout, planned).await {
            Ok(Ok(plan)) => self.with_what_is_kept(plan),
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

    /// Runs a call. A tool that panics does not take the run with it. It has no task of its own: the run waits for it anyway, and
    /// to be woken by another thread costs more than most tools do.
    pub(super) async fn execute(&self, dispatch: &Dispatch) -> Returned {
        if let Some(call) = self.state.call(&dispatch.id).filter(|call| call.tool == SUBMIT) {
            return self.put_in(call).await;
        }
        let work = perform(dispatch, self.agent.config.tool_timeout, &*self.agent.clock);
        let crashed = || Returned::Lost { reason: "the tool crashed".to_owned() };
        caught(work).await.unwrap_or_else(crashed)
    }

    pub(super) async fn take_back(&mut self, dispatch: &Dispatch, returned: Returned) {
        let Some(call) = self.state.call(&dispatch.id).cloned() else { return };
        match returned {
            Returned::Said { output, duration } => self.note_output(&call, output, duration, false),
            Returned::Lost { reason } => self.lost(&call, dispatch, reason).await,
        }
    }

    pub(super) fn note_output(
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
        let (mut content, mut whole) = (output.content, Body::default());
        if let Some(kept) = output.whole {
            content.extend(self.how_to_read_on(&call.id, &kept));
            whole = Body::of(&kept.content);
        }
        self.note_finished(
            &call.id,
            Back { is_error, content, whole, labels, duration, probed, spent: None },
        );
    }

    /// What a model is told at the end of a part of what a call gave, where there is more to read.
    fn how_to_read_on(&self, id: &str, whole: &Whole) -> Option<Block> {
        let left = spelled(&whole.content).len().checked_sub(whole.told_bytes).filter(|left| *left > 0)?;
        let reads_on = self.rules.tools.iter().any(|spec| spec.name == READ_RESULT);
        Some(Block::text(if reads_on {
            more(id, whole.told_bytes, left)
        } else {
            format!("\n… {left} more bytes, which stand in the record of this run and nowhere else")
        }))
    }

    /// Answers a call that is not made.
    pub(super) fn refuse(&mut self, call: &ToolCall, reason: &str) {
        let registered = self.agent.tools.find(&call.tool);
        let class = registered.map_or(Class::Write, |registered| registered.tool.declaration().class);
        self.note(planned_without_tool(call, class));
        self.note_finished(&call.id, Back::refused(call, reason));
    }

    pub(super) fn note_finished(&mut self, id: &str, back: Back) {
        let Back { is_error, mut content, whole, labels, duration, probed, spent } = back;
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
        self.note(ToolFinished {
            id: id.to_owned(),
            is_error,
            result,
            whole,
            labels,
            duration,
            probed,
            spent,
        });
    }

    fn no_such_tool(&self, name: &str) -> String {
        let tools: Vec<_> = self.rules.tools.iter().map(|spec| spec.name.as_str()).collect();
        format!("There is no tool `{name}`. Use one of: {}.", tools.join(", "))
    }
}

/// What a future gives, or nothing when it panics. It is dropped then.
async fn caught<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let poll = |cx: &mut Context<'_>| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Some),
        Err(_) => Poll::Ready(None),
    };
    poll_fn(poll).await
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

pub(super) fn planned(call: &ToolCall, ready: &Dispatch, plan: &Plan, asks: Option<String>) -> ToolPlanned {
    let declared = ready.tool.declaration().effect;
    ToolPlanned {
        id: call.id.clone(),
        tool: call.tool.clone(),
        args: Body::of(&call.args),
        args_hash: None,
        class: ready.class,
        key: None,
        plan: Body::of(&plan.body),
        effect: Some(plan.effect.map_or(declared, |effect| effect.max(declared))),
        preview: if plan.preview.is_empty() { Body::default() } else { Body::from(plan.preview.as_str()) },
        undo: plan.undo.clone().map_or_else(Body::default, Body::Inline),
        asks: asks.map(Into::into),
        undoes: None,
        labels: call.labels.clone(),
    }
}

/// What is noted of a call that nothing was worked out for: it is refused, or it is the run's own.
pub(super) fn planned_without_tool(call: &ToolCall, class: Class) -> ToolPlanned {
    ToolPlanned {
        id: call.id.clone(),
        tool: call.tool.clone(),
        args: Body::of(&call.args),
        args_hash: None,
        class,
        key: None,
        plan: Body::default(),
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
