//! One drive of one run: the loop, the commits, the model calls.

use super::apply::Planned;
use super::child::Kin;
use super::{Agent, Claimed, RunError, RunOutcome};
use crate::decide::{Step, decide};
use crate::workspace::Workspace;
use crate::{Rules, RunState};
use backstop_call::{
    BoxFuture, Call, CallId, Context, Discard, Failure, FailureKind, Model, ModelName, Money, Progress,
    ProviderName, Reply, Request, RunId, Timestamp,
};
use backstop_journal::event::{CallFailed, CallFinished, CallStarted, ParkReason, RunResumed};
use backstop_journal::{Append, Body, Durability, Epoch, EventBody, Head, JournalError, StreamId};
use backstop_label::Rights;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How much longer than its deadline a call is waited for, before its future is dropped. A model ends by itself at its
/// deadline and says more than we can; this is for one that does not.
const GRACE: Duration = Duration::from_secs(5);

pub(super) struct Drive<'a> {
    pub(super) agent: &'a Agent,
    pub(super) run: RunId,
    pub(super) state: RunState,
    pub(super) workspace: Option<Arc<Workspace>>,
    epoch: Epoch,
    pub(super) rules: Rules,
    /// Rights that hold beside those of the role.
    pub(super) bounds: Vec<Rights>,
    /// The plan that is carried out.
    pub(super) planned: Option<Planned>,
    /// The runs above it.
    pub(super) kin: Kin,
    /// What answers.
    model: Arc<dyn Model>,
    /// What happened and is not appended yet.
    batch: Vec<EventBody>,
    /// Appends that were queued, and not waited for. Never locked: the mutex makes what is only `Send` `Sync` as well,
    /// so that a drive can be borrowed across an await.
    queued: Mutex<Vec<BoxFuture<'static, Result<Head, JournalError>>>>,
}

/// What a drive stands on beside the run's journal.
pub(super) struct Ground {
    pub(super) rules: Rules,
    pub(super) bounds: Vec<Rights>,
    pub(super) workspace: Option<Arc<Workspace>>,
    pub(super) planned: Option<Planned>,
    pub(super) kin: Kin,
}

impl<'a> Drive<'a> {
    pub(super) fn new(agent: &'a Agent, run: RunId, claimed: Claimed, ground: Ground) -> Self {
        let Claimed { epoch, state } = claimed;
        let Ground { rules, bounds, workspace, planned, kin } = ground;
        let model = planned.as_ref().map_or_else(|| Arc::clone(&agent.model), Planned::model);
        Self {
            agent,
            run,
            state,
            workspace,
            epoch,
            rules,
            bounds,
            planned,
            kin,
            model,
            batch: Vec::new(),
            queued: Mutex::default(),
        }
    }

    /// Works until the run is over or waits, and tells how it stands.
    pub(super) async fn run(self) -> Result<RunOutcome, RunError> {
        let (agent, run) = (self.agent, self.run.clone());
        let state = Box::pin(self.work()).await?;
        agent.outcome_of(&run, &state).await
    }

    /// Loops until the run is over or waits.
    pub(super) async fn work(mut self) -> Result<RunState, RunError> {
        let waits_for_part = self.state.parked.as_ref().is_some_and(|it| it.reason == ParkReason::Child);
        if waits_for_part && !self.agent.waits(&self.run, &self.state, false).await? {
            self.note(RunResumed { limits: self.state.limits });
        }
        loop {
            let step = decide(&self.state, &self.rules, self.now());
            if self.agent.is_draining() && matches!(step, Step::CallModel { .. } | Step::Dispatch(_)) {
                // The next worker begins here.
                self.commit().await?;
                break;
            }
            match step {
                Step::CallModel { request, input_tokens } => self.call_model(*request, input_tokens).await?,
                Step::Dispatch(ids) => self.dispatch(&ids).await?,
                Step::Conclude(id) => self.conclude(&id),
                Step::Recover { id, how } => self.recover(&id, how).await?,
                Step::Park(parked) => self.note(parked),
                Step::Resume => self.note(RunResumed { limits: self.state.limits }),
                Step::Finish(finished) => {
                    let finished = self.rolled_back(finished).await?;
                    self.note(finished);
                }
                Step::Rest => {
                    self.commit().await?;
                    let Some(wait) = self.wait_left() else { break };
                    tokio::time::sleep(wait).await;
                }
            }
        }
        if self.is_dry() && self.state.status.is_final() && self.kin.top.is_none() {
            self.agent.discard_copy(&self.run).await;
        }
        Ok(self.state)
    }

    /// Whether the run only plans.
    pub(super) fn is_dry(&self) -> bool {
        self.state.created.as_ref().is_some_and(|created| created.dry_run)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.agent.clock.now()
    }

    /// Takes note of what happened: at once in the state, durably with the next commit.
    pub(super) fn note(&mut self, event: impl Into<EventBody>) {
        let event = event.into();
        self.state.take(self.now(), &event);
        self.batch.push(event);
    }

    /// Makes everything noted so far durable. What comes after this call may act on it.
    pub(super) async fn commit(&mut self) -> Result<(), RunError> {
        self.commit_as(Durability::Synced).await
    }

    async fn commit_as(&mut self, durability: Durability) -> Result<(), RunError> {
        if self.batch.is_empty() && self.queued().is_empty() {
            return Ok(());
        }
        let append = (!self.batch.is_empty()).then(|| self.append(durability));
        // Queued before it, so they are in the same commit or an earlier one: no more waiting than for the last.
        let earlier = std::mem::take(self.queued());
        for queued in earlier {
            queued.await?;
        }
        if let Some(append) = append {
            append.await?;
        }
        Ok(())
    }

    /// Puts what was noted into the journal's queue without waiting: it is durable no later than the next commit.
    pub(super) fn queue(&mut self) {
        if !self.batch.is_empty() {
            let append = self.append(Durability::Queued);
            self.queued().push(append);
        }
    }

    fn queued(&mut self) -> &mut Vec<BoxFuture<'static, Result<Head, JournalError>>> {
        self.queued.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&mut self, durability: Durability) -> BoxFuture<'static, Result<Head, JournalError>> {
        self.agent.journal.append(Append {
            stream: StreamId::Run(self.run.clone()),
            epoch: Some(self.epoch),
            events: std::mem::take(&mut self.batch),
            at: self.now(),
            durability,
        })
    }

    /// How long to wait for a parked run, when it is worth waiting for.
    fn wait_left(&self) -> Option<Duration> {
        let until = self.state.parked.as_ref()?.until?;
        let wait = until.since(self.now());
        (wait <= self.agent.config.wait_max && !wait.is_zero()).then_some(wait)
    }

    async fn call_model(&mut self, request: Request, input_tokens: u64) -> Result<(), RunError> {
        let started = self.now();
        let id = CallId::new(started, self.agent.seed.next_u64());
        let labels = self.state.labels();
        let turn = self.state.turns + 1;
        let left = self.state.time_left(started);
        // That a call began must outlive the process, as its reservation does. A model that is asked twice does no harm, so the
        // disk is waited for only where there is more to keep.
        let more = !self.batch.is_empty() || !self.queued().is_empty();
        let durability = if more { Durability::Synced } else { Durability::Written };
        self.note(CallStarted {
            call: id.clone(),
            model: ModelName::from(request.model.as_str()),
            turn,
            input_tokens,
            task: None,
            role: None,
            key: None,
            labels: labels.clone(),
        });
        self.commit_as(durability).await?;
        let time = left.min(self.agent.config.call_timeout);
        let context = Arc::new(self.context(&labels));
        let call = Call::new(id.clone(), Arc::new(request), context, started + time);
        let answer = self.ask(call, time + GRACE).await;
        let duration = self.now().since(started);
        match answer {
            Ok(reply) => self.note(finished(id, turn, reply, duration, labels)),
            Err(failure) => {
                let cost = failure.detail.attempts.iter().map(|attempt| attempt.cost).sum();
                self.note(CallFailed {
                    call: id,
                    turn,
                    failure,
                    cost,
                    duration,
                    labels: backstop_call::Labels::default(),
                    asked: None,
                    status: None,
                });
            }
        }
        Ok(())
    }

    async fn ask(&self, call: Call, patience: Duration) -> Result<Reply, Failure> {
        let mut sink = Discard;
        let answer = self.model.call(call, &mut sink);
        tokio::time::timeout(patience, answer).await.unwrap_or_else(|_| {
            let message = "the model did not come back at its deadline";
            Err(Failure::new(FailureKind::Deadline, Progress::Sent, message))
        })
    }

    fn context(&self, labels: &backstop_call::Labels) -> Context {
        let created = self.state.created.as_ref();
        let origin = created.map(|created| &created.origin);
        Context {
            run: Some(self.run.clone()),
            epoch: self.epoch,
            task: created.map(|created| created.task.clone()),
            role: created.map(|created| created.role.clone()),
            run_limit: self.state.limits.cost,
            payers: self.kin.payers.clone(),
            priority: created.map(|created| created.priority).unwrap_or_default(),
            labels: labels.clone(),
            key: origin.and_then(|origin| origin.key.clone()),
            key_limits: origin.map(|origin| origin.key_limits).unwrap_or_default(),
            ..Context::default()
        }
    }
}

fn finished(
    call: CallId,
    turn: u32,
    reply: Reply,
    duration: Duration,
    labels: backstop_call::Labels,
) -> CallFinished {
    let last = reply.attempts.last();
    let provider = last.map_or_else(|| ProviderName::from("direct"), |attempt| attempt.provider.clone());
    let cost: Money = reply.attempts.iter().map(|attempt| attempt.cost).sum();
    CallFinished {
        call,
        turn,
        provider,
        model: reply.model,
        content: Body::of(&reply.content),
        stop: reply.stop,
        usage: reply.usage,
        cost,
        duration,
        first_token: reply.first_token,
        request_id: reply.request_id,
        attempts: reply.attempts.into(),
        labels,
        asked: None,
        status: None,
    }
    .brief()
}
