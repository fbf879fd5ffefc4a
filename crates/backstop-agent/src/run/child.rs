//! Runs that do parts for a run: created once per call, driven under the claim of their parent, ended with it. All of it begins
//! at the run that does a part for nobody, so that a tree of runs is worked on by one process, one run at a time, and each
//! knows what those above it have left.

use super::drive::Drive;
use super::tools::Back;
use super::{Agent, Claimed, RunError, RunOutcome};
use crate::decide::{Rules, Step, decide, over_time};
use crate::delegation::{Came, DELEGATE, Part, SUBMIT, came_of, child, child_of, preview};
use crate::state::ToolCall;
use crate::tool::Plan;
use crate::{RunState, Template};
use backstop_call::{Block, BoxFuture, Code, Money, RunId, Timestamp};
use backstop_journal::event::{
    Origin, ParkReason, RunCreated, RunFinished, RunLimits, RunParked, RunResumed, ToolFinished,
};
use backstop_journal::{Body, EventBody, Journal, JournalError, RunStatus, StreamId};
use backstop_label::{Rights, RightsText};
use serde_json::json;
use std::time::Duration;

/// Where a run stands below the one that does a part for nobody.
#[derive(Debug, Clone, Default)]
pub(super) struct Kin {
    /// The runs above it whose dollars are limited: they pay as well.
    pub(super) payers: Vec<(RunId, Money)>,
    /// The rights that those above it have now, and hand on.
    pub(super) bounds: Vec<RightsText>,
    /// How many runs are above it.
    pub(super) depth: u32,
    /// The one at the top, if there is one: a dry run works on the copy that that one has.
    pub(super) top: Option<RunId>,
    /// Whether somebody lets the tree go on now, also if a part of it waits for a time that has not come.
    pub(super) early: bool,
}

impl Kin {
    /// Where a run stands that somebody put into the queue.
    pub(super) fn of(origin: &Origin) -> Self {
        Self { payers: origin.payers.clone(), depth: origin.depth, ..Self::default() }
    }
}

/// The run at the top of those that this one does a part for; itself where it does none.
pub async fn top_of(journal: &dyn Journal, run: &RunId) -> Result<RunId, JournalError> {
    let mut top = run.clone();
    loop {
        // What a run begins with says of which it is a part.
        let first = journal.part(&StreamId::Run(top.clone()), 0, 1).await?.pop();
        match first.map(|event| event.body) {
            Some(EventBody::RunCreated(RunCreated { parent: Some(parent), .. })) => top = parent,
            _ => return Ok(top),
        }
    }
}

impl Agent {
    /// How a run stands. Claims nothing.
    pub(super) async fn state_of(&self, run: &RunId) -> Result<RunState, RunError> {
        Ok(RunState::fold(&self.journal.read(&StreamId::Run(run.clone()), 0).await?))
    }

    pub(super) async fn top_of(&self, run: &RunId) -> Result<RunId, RunError> {
        Ok(top_of(self.journal.as_ref(), run).await?)
    }

    /// The outcome that a state stands for. What a run waits for that does a part of it is what it waits for itself.
    pub(super) fn outcome_of<'a>(
        &'a self,
        run: &'a RunId,
        state: &'a RunState,
    ) -> BoxFuture<'a, Result<RunOutcome, RunError>> {
        Box::pin(async move {
            let outcome = RunOutcome::of(run, state, self.clock.now());
            let call = state.given_out().filter(|_| outcome.parked == Some(ParkReason::Child));
            let Some(call) = call else { return Ok(outcome) };
            let part = child_of(run, &call.id);
            let RunOutcome { code, message, in_doubt, questions, .. } =
                self.outcome_of(&part, &self.state_of(&part).await?).await?;
            Ok(RunOutcome { code, message, in_doubt, questions, ..outcome })
        })
    }

    /// Whether nothing can be done for a run before a person has spoken; or, unless it is to go on early, before its time.
    pub(super) fn waits<'a>(
        &'a self,
        run: &'a RunId,
        state: &'a RunState,
        early: bool,
    ) -> BoxFuture<'a, Result<bool, RunError>> {
        Box::pin(async move {
            let now = self.clock.now();
            let Some(parked) = &state.parked else { return Ok(false) };
            Ok(match parked.reason {
                ParkReason::Wait => !early && parked.until.is_some_and(|until| until > now),
                ParkReason::InDoubt => state.in_doubt().next().is_some(),
                ParkReason::Approval => decide(state, &Rules::default(), now) != Step::Resume,
                ParkReason::Child => match state.given_out() {
                    Some(call) => {
                        let part = child_of(run, &call.id);
                        self.waits(&part, &self.state_of(&part).await?, early).await?
                    }
                    None => false,
                },
            })
        })
    }

    /// Ends a claimed run for good; before it the one that does a part for it.
    pub(super) async fn end(&self, run: &RunId, claimed: &mut Claimed, reason: &str) -> Result<(), RunError> {
        if let Some(call) = claimed.state.given_out().cloned() {
            let part = self.end_part(&child_of(run, &call.id), reason).await?;
            let ended = ToolFinished {
                id: call.id,
                is_error: true,
                result: Body::from(format!("Ended: {reason}").as_str()),
                whole: Body::default(),
                labels: call.labels,
                duration: Duration::ZERO,
                probed: false,
                spent: Some(part.spent()),
            };
            self.append_one(run, claimed, ended.into()).await?;
        }
        let finished = RunFinished {
            status: RunStatus::Cancelled,
            result: None,
            code: Some(Code::Cancelled),
            message: reason.into(),
        };
        self.append_one(run, claimed, finished.into()).await
    }

    /// Ends a run that does a part, if there is anything to end.
    fn end_part<'a>(&'a self, part: &'a RunId, reason: &'a str) -> BoxFuture<'a, Result<RunState, RunError>> {
        Box::pin(async move {
            let state = self.state_of(part).await?;
            if state.created.is_none() || state.status.is_final() {
                return Ok(state);
            }
            self.with_claim(part, async |mut claimed| {
                self.end(part, &mut claimed, reason).await?;
                Ok(claimed.state)
            })
            .await
        })
    }

    /// Creates a run under an id of ours, durably.
    pub(super) async fn create_as(&self, run: RunId, created: RunCreated) -> Result<RunId, RunError> {
        self.check(&created)?;
        self.open_workspace(&created)?;
        self.journal.append(self.happened(&run, None, created)).await?;
        Ok(run)
    }
}

impl Drive<'_> {
    /// Whether a part may be given out at all. The error is for the model.
    pub(super) fn may_give_out(&self) -> Result<(), String> {
        let delegation = &self.agent.config.delegation;
        if self.kin.depth >= delegation.depth_max {
            return Err(format!(
                "Refused: this run does a part of a part already, {} deep, and may give out none itself. Do it yourself.",
                self.kin.depth
            ));
        }
        let is_given = |call: &&ToolCall| matches!(&*call.tool, DELEGATE | SUBMIT) && call.dispatched;
        let given = self.state.calls.iter().filter(is_given).count();
        if given >= usize::try_from(delegation.children_max).unwrap_or(usize::MAX) {
            return Err(format!(
                "Refused: this run has given out {given} parts, and may give out no more. Do the rest yourself."
            ));
        }
        Ok(())
    }

    /// What giving out a part would do. The error is for the model.
    pub(super) async fn plan_part(&self, id: &str, part: &Part) -> Result<Plan, String> {
        let template = self.template(part)?;
        let created = self.child(id, part).await?;
        let refused = |error: RunError| format!("This part cannot be given out: {error}.");
        self.agent.check(&created).map_err(refused)?;
        Ok(Plan {
            preview: preview(&created, &template.run.limits),
            undo: Some(json!({ "run": child_of(&self.run, id) })),
            ..Plan::default()
        })
    }

    /// The most that a call may cost, where that is known: what the run may that it gives a part to.
    pub(super) fn call_cost(&self, call: &ToolCall) -> Option<Money> {
        let is_given = matches!(&*call.tool, DELEGATE | SUBMIT);
        let template = is_given.then(|| self.template(&Part::of(&call.args, &call.labels)))?;
        self.state.left_for(&template.ok()?.run.limits, Duration::ZERO, self.now()).cost
    }

    pub(super) fn template(&self, part: &Part) -> Result<&Template, String> {
        let agents = &self.agent.config.delegation.agents;
        agents.get(&part.agent).ok_or_else(|| format!("There is no agent `{}`.", part.agent))
    }

    /// The run that does a part: with the agent's tools as far as this run could reach them itself, and with what it has left.
    /// Where a plan is carried out, it is the run of that plan.
    async fn child(&self, id: &str, part: &Part) -> Result<RunCreated, String> {
        let gone = || "There is no such run.".to_owned();
        let parent = self.state.created.as_ref().ok_or_else(gone)?;
        if let Some(planned) = &parent.applies {
            let applies = child_of(planned, id);
            let then = self.agent.state_of(&applies).await.map_err(|error| error.to_string())?;
            let then = then.created.ok_or_else(gone)?;
            let parent = Some(self.run.clone());
            return Ok(RunCreated { dry_run: false, applies: Some(applies), parent, ..then });
        }
        self.of_template(part)
    }

    /// The run of an agent's template that does what this run asks of it.
    pub(super) fn of_template(&self, part: &Part) -> Result<RunCreated, String> {
        let parent = self.state.created.as_ref().ok_or("There is no such run.")?;
        let template = self.template(part)?;
        let policy = &self.agent.policy;
        let mut bounds = policy.handed_on(parent.role.as_str(), &parent.tools, &parent.bounds);
        bounds.extend(policy.roles.get(template.run.role.as_str()).map(|rights| rights.text().clone()));
        let rights = bounds.iter().map(Rights::parse).collect::<Result<Vec<_>, _>>();
        let rights = rights.map_err(|error| error.to_string())?;
        let limits = self.state.left_for(&template.run.limits, Duration::ZERO, self.now());
        let mut created = child((parent, &self.run), template, part, limits);
        created.tools.retain(|tool| rights.iter().all(|rights| rights.has(tool)));
        created.bounds = bounds;
        Ok(created)
    }

    /// Has the part done that a call gives out, from wherever it stands, and takes note of what came of it. The call's start
    /// is durable; the run that does the part is known by it, so there is one and no second.
    pub(super) async fn give_out(&mut self, id: &str) -> Result<(), RunError> {
        self.commit().await?;
        let Some(call) = self.state.call(id).cloned() else { return Ok(()) };
        let (run, began) = (child_of(&self.run, id), self.now());
        let part = Part::of(&call.args, &call.labels);
        if self.agent.state_of(&run).await?.created.is_none() {
            match self.child(id, &part).await {
                Ok(created) => drop(self.agent.create_as(run.clone(), created).await?),
                Err(reason) => {
                    self.note_finished(id, Back::refused(&call, &reason));
                    return Ok(());
                }
            }
        }
        let child = self.take_up(&run, &part).await?;
        match (came_of(&part.agent, &child), over_time(&self.state, self.now())) {
            (Came::Waits, _) => {
                let until = child.parked.and_then(|parked| parked.until);
                self.note(RunParked { reason: ParkReason::Child, until });
            }
            // What is left of the time is the same for both.
            (_, Some(stopped)) if child.status == RunStatus::Stopped => self.note(stopped),
            (Came::Stopped(code, message), _) => {
                self.note(RunFinished {
                    status: RunStatus::Stopped,
                    result: None,
                    code: Some(code),
                    message: message.into(),
                });
            }
            (Came::Back(said), _) => {
                let child = if child.status == RunStatus::Stopped {
                    self.agent.end_part(&run, "the run that it did a part for goes on without it").await?
                } else {
                    child
                };
                self.note_part(&call, said, &child, began);
                self.hold_part_against_plan(&child).await?;
            }
        }
        Ok(())
    }

    fn note_part(
        &mut self,
        call: &ToolCall,
        said: Result<String, String>,
        child: &RunState,
        began: Timestamp,
    ) {
        let is_error = said.is_err();
        let back = Back {
            is_error,
            content: vec![Block::text(said.unwrap_or_else(|reason| reason))],
            whole: Body::default(),
            // The answer was made from all that the other run has read.
            labels: call.labels.clone().joined(&child.labels()),
            duration: self.now().since(began),
            probed: false,
            spent: Some(child.spent()),
        };
        self.note_finished(&call.id, back);
    }

    /// Where a part of a plan does not hold any more, neither does the plan.
    async fn hold_part_against_plan(&mut self, child: &RunState) -> Result<(), RunError> {
        let changed = child.finished.as_ref().filter(|it| it.code == Some(Code::PlanChanged));
        if let (Some(changed), true) = (changed, self.planned.is_some()) {
            self.stop_at(changed.message.to_string()).await?;
        }
        Ok(())
    }

    /// Works on the run that does a part until it is over, waits or is stopped. What it may use is what is left now.
    fn take_up<'a>(&'a self, run: &'a RunId, part: &'a Part) -> BoxFuture<'a, Result<RunState, RunError>> {
        Box::pin(async move {
            let events = self.agent.journal.read(&StreamId::Run(run.clone()), 0).await?;
            let before = RunState::fold(&events);
            if before.status.is_final() || self.agent.waits(run, &before, self.kin.early).await? {
                return Ok(before);
            }
            let most = match (self.template(part), &before.created) {
                (Ok(template), _) => template.run.limits,
                (Err(_), Some(created)) => created.limits,
                (Err(_), None) => RunLimits::default(),
            };
            let (is_new, kin) = (events.len() == 1, self.kin_of_part());
            self.agent
                .with_claim(run, async |claimed| {
                    let now = self.now();
                    let limits = self.state.left_for(&most, claimed.state.worked(now), now);
                    let mut drive = self.agent.prepare_as(run, claimed, kin).await?;
                    if !is_new {
                        drive.note(RunResumed { limits });
                    }
                    Box::pin(drive.work()).await
                })
                .await
        })
    }

    pub(super) fn kin_of_part(&self) -> Kin {
        let mut payers = self.kin.payers.clone();
        payers.extend(self.state.limits.cost.map(|limit| (self.run.clone(), limit)));
        let top = self.kin.top.clone().unwrap_or_else(|| self.run.clone());
        let mut above = self.kin.bounds.clone();
        if let Some(created) = &self.state.created {
            above.extend(created.bounds.iter().cloned());
            above = self.agent.policy.handed_on(created.role.as_str(), &created.tools, &above);
        }
        Kin { payers, bounds: above, depth: self.kin.depth + 1, top: Some(top), early: self.kin.early }
    }
}
