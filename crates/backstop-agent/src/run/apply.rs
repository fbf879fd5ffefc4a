//! Carries out the plan of a dry run: a run of its own, whose answers are those of the dry run, and whose every step must be
//! what the plan says. It is made once; a crash in between is taken up like that of any other run.

use super::gate::hash_of_preview;
use super::{Agent, RunError, there};
use crate::RunState;
use crate::delegation::DELEGATE;
use crate::state::{Stage, ToolCall};
use crate::tool::Plan;
use backstop_call::{
    Block, BoxFuture, Call, Code, Failure, FailureKind, LimitHint, Model, Progress, Reply, RunId, Sink,
    Speaker, StopReason, Usage,
};
use backstop_journal::event::{RunCreated, RunFinished};
use backstop_journal::{Append, Durability, Event, EventBody, RunStatus, StreamId};
use backstop_label::{Class, Effect};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a plan says.
pub(super) struct Planned {
    /// The answers of the dry run, in order.
    turns: Vec<(Vec<Block>, StopReason)>,
    /// Every call of it, by its id, with what came back.
    calls: BTreeMap<String, (ToolCall, Option<String>)>,
}

impl Agent {
    /// The run that carries out the plan of a dry run: it is created, durably, the first time. Nothing works on it yet.
    ///
    /// # Errors
    /// `NoPlan` when the run was no dry run, is not done, or does a part for another one, whose plan its own is a part of.
    pub async fn apply(&self, planned: &RunId) -> Result<RunId, RunError> {
        let run = RunId::from(format!("{planned}-apply"));
        // Nobody else can create it meanwhile: the dry run is ours.
        self.with_claim(planned, async |claimed| {
            there(planned, &claimed.state)?;
            let created = match &claimed.state.created {
                Some(created)
                    if created.dry_run
                        && created.parent.is_none()
                        && claimed.state.status == RunStatus::Done =>
                {
                    created.clone()
                }
                _ => return Err(RunError::NoPlan(planned.clone())),
            };
            let stream = StreamId::Run(run.clone());
            if self.journal.read(&stream, 0).await?.is_empty() {
                let created =
                    RunCreated { dry_run: false, applies: Some(planned.clone()), queue: None, ..created };
                self.check(&created)?;
                self.open_workspace(&created)?;
                let (events, at) = (vec![created.into()], self.clock.now());
                let append = Append { stream, epoch: None, events, at, durability: Durability::Synced };
                self.journal.append(append).await?;
            }
            Ok(())
        })
        .await?;
        Ok(run)
    }

    /// What the plan of a dry run says.
    pub(super) async fn planned(&self, planned: &RunId) -> Result<Planned, RunError> {
        let events = self.journal.read(&StreamId::Run(planned.clone()), 0).await?;
        Planned::of(&events).ok_or_else(|| RunError::Erased(planned.clone()))
    }
}

impl Planned {
    /// `None` when an answer was erased.
    fn of(events: &[Event]) -> Option<Self> {
        let answers = events.iter().filter_map(|event| match &event.body {
            EventBody::CallFinished(finished) => Some((finished.content.read(), finished.stop.clone())),
            _ => None,
        });
        let turns = answers.map(|(content, stop)| Some((content?, stop))).collect::<Option<_>>()?;
        let state = RunState::fold(events);
        let calls = state.calls.iter().map(|call| (call.id.clone(), (call.clone(), state.said_of(&call.id))));
        Some(Self { turns, calls: calls.collect() })
    }

    /// The model that says what was said in the dry run.
    pub(super) fn model(&self) -> Arc<dyn Model> {
        Arc::new(Recorded(self.turns.clone()))
    }

    /// What the plan says of a call: that it failed, so that it is not made and says the same.
    pub(super) fn failure_of(&self, id: &str) -> Option<&str> {
        let (call, said) = self.calls.get(id)?;
        let failed = matches!(call.stage, Stage::Finished { is_error: true, .. });
        let is_read = call.planned.as_ref().is_none_or(|planned| planned.class == Class::Read);
        // A run that failed had changed something before.
        let did_a_part = call.tool == DELEGATE && call.dispatched;
        (failed && !is_read && !did_a_part).then(|| said.as_deref().unwrap_or_default())
    }

    /// What was worked out for a call in the dry run.
    pub(super) fn body_of(&self, id: &str) -> Option<Value> {
        let (call, _) = self.calls.get(id)?;
        call.planned.as_ref()?.plan.value().cloned()
    }

    /// What a look outside gave in the dry run: it is not looked again, the plan was made from that.
    pub(super) fn seen_outside(&self, id: &str) -> Option<&str> {
        let (call, said) = self.calls.get(id)?;
        let planned = call.planned.as_ref()?;
        let outside = planned.class == Class::Read && planned.effect == Some(Effect::External);
        outside.then(|| said.as_deref().unwrap_or_default())
    }

    /// Why a call would not do what the plan says; `None` when it would.
    pub(super) fn differs(&self, call: &ToolCall, plan: &Plan) -> Option<String> {
        let (then, _) = self.calls.get(&call.id)?;
        let planned = then.planned.as_ref()?;
        let shown: String = planned.preview.read().unwrap_or_default();
        let same = then.args == call.args
            && hash_of_preview(&shown) == hash_of_preview(&plan.preview)
            && planned.plan.value() == Some(&plan.body);
        (!same).then(|| {
            let now = plan.preview.lines().take(SHOWN_LINES).collect::<Vec<_>>().join("\n");
            format!("{} ({}) would not do what the plan says; it would\n{now}", call.tool, call.id)
        })
    }

    /// Why what a call gave is not what the plan was made from; `None` when it is.
    pub(super) fn gave_otherwise(&self, call: &ToolCall, said: &str) -> Option<String> {
        let (made, then) = self.calls.get(&call.id)?;
        // What was only noted gave nothing yet.
        (made.dispatched && then.as_deref() != Some(said))
            .then(|| format!("{} ({}) does not give what the plan was made from", call.tool, call.id))
    }
}

/// The most lines of a preview in a message.
const SHOWN_LINES: usize = 8;

/// How a run ends whose plan does not hold any more.
pub(super) fn changed(why: String) -> RunFinished {
    RunFinished {
        status: RunStatus::Failed,
        result: None,
        code: Some(Code::PlanChanged),
        message: why.into(),
    }
}

/// Says what was said before, turn by turn.
struct Recorded(Vec<(Vec<Block>, StopReason)>);

impl Model for Recorded {
    fn call<'a>(&'a self, call: Call, _: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        let spoken = call.request.messages.iter().filter(|it| it.speaker == Speaker::Assistant).count();
        let turn = self.0.get(spoken).cloned();
        Box::pin(async move {
            let (content, stop) = turn.ok_or_else(|| {
                Failure::new(FailureKind::Policy, Progress::NotSent, "the plan says nothing more")
            })?;
            Ok(Reply {
                id: String::new(),
                model: "plan".into(),
                content,
                stop,
                usage: Usage::default(),
                first_token: None,
                request_id: None,
                limits: LimitHint::default(),
                attempts: Vec::new(),
                other: serde_json::Map::new(),
                told: None,
                lost: Vec::new(),
            })
        })
    }
}
