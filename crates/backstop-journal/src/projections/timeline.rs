//! The whole story of a run: what `backstop show` tells. Each call with its attempts, each tool call, each turn of the
//! run's life is one row that grows as its events come.
//!
//! Rows only: how they look on a terminal is the command's business.

mod rows;

pub use rows::{Answer, CallOutcome, CallRow, Moment, Question, Row, ToolOutcome, ToolRow};

use super::history::RunSummary;
use crate::event::{BudgetWarned, CallFailed, CallFinished, RunCreated, RunFinished, ToolPlanned};
use crate::{Body, Event, EventBody, StreamId};
use backstop_call::{CallId, Money, Timestamp};
use serde::Serialize;

/// A run, told in the order in which things began.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timeline {
    /// How it stands, and the totals.
    pub summary: RunSummary,
    /// What defines it.
    pub created: RunCreated,
    /// The result, once it is done.
    pub result: Option<Body>,
    /// What happened.
    pub rows: Vec<Row>,
}

impl Timeline {
    /// Tells a run from all its events. `None` if they do not begin with its creation.
    pub fn fold<'a>(events: impl IntoIterator<Item = &'a Event>) -> Option<Self> {
        let mut events = events.into_iter();
        let mut timeline = Self::start(events.next()?)?;
        for event in events {
            timeline.apply(event);
        }
        Some(timeline)
    }

    /// Begins with a run's first event; `None` if it is no `run.created`.
    pub fn start(event: &Event) -> Option<Self> {
        let (StreamId::Run(run), EventBody::RunCreated(created)) = (&event.stream, &event.body) else {
            return None;
        };
        let summary = RunSummary::start(run, event)?;
        Some(Self { summary, created: created.clone(), result: None, rows: Vec::new() })
    }

    /// Folds the next event of the run in.
    pub fn apply(&mut self, event: &Event) {
        self.summary.apply(event);
        match &event.body {
            EventBody::RunClaimed(claimed) => {
                self.interrupt(event.at);
                self.push(event, Moment::Claimed { owner: claimed.owner.clone(), epoch: event.epoch });
            }
            EventBody::RunParked(parked) => {
                self.push(event, Moment::Parked { reason: parked.reason, until: parked.until });
            }
            EventBody::RunQueued(queued) => self.push(event, Moment::Queued { due: queued.terms.due }),
            EventBody::RunErased(erased) => self.push(event, Moment::Erased(erased.clone())),
            EventBody::RunResumed(resumed) => self.push(event, Moment::Resumed { limits: resumed.limits }),
            EventBody::RunFinished(finished) => {
                let RunFinished { status, code, message, result } = finished.clone();
                self.result = result;
                self.push(event, Moment::Finished { status, code, message: message.to_string() });
            }
            EventBody::CallStarted(started) => {
                self.push(event, Moment::Call(CallRow::start(started, event.at)));
            }
            EventBody::AttemptFailed(failed) => {
                self.call_mut(&failed.call, event).attempt(&failed.attempt);
            }
            EventBody::CallFinished(finished) => self.finish_call(finished, event),
            EventBody::CallFailed(failed) => self.fail_call(failed, event),
            EventBody::ToolPlanned(planned) => self.plan_tool(planned, event),
            EventBody::ToolStarted(_)
            | EventBody::ToolFinished(_)
            | EventBody::ToolUnknown(_)
            | EventBody::ToolResolved(_) => self.apply_tool(event),
            EventBody::ApprovalRequested(_) | EventBody::ApprovalDecided(_) => self.apply_approval(event),
            EventBody::BudgetWarned(warned) => self.push(event, moment_of(warned)),
            // They belong to other streams, or stand at the beginning.
            EventBody::RunCreated(_)
            | EventBody::BreakerChanged(_)
            | EventBody::LeaseGranted(_)
            | EventBody::LeaseClosed(_)
            | EventBody::MoneyReserved(_)
            | EventBody::MoneySettled(_)
            | EventBody::MoneyMoved(_)
            | EventBody::MoneyVoided(_)
            | EventBody::MoneySuspended(_)
            | EventBody::MoneyCorrected(_)
            | EventBody::GrantCreated(_)
            | EventBody::GrantUsed(_)
            | EventBody::GrantRevoked(_)
            | EventBody::KeyCreated(_)
            | EventBody::KeyRotated(_)
            | EventBody::KeyRevoked(_)
            | EventBody::KeyFirstUsedFrom(_)
            | EventBody::AlertFired(_)
            | EventBody::AlertResolved(_)
            | EventBody::AlertQueued(_)
            | EventBody::AlertDelivered(_)
            | EventBody::AlertLost(_)
            | EventBody::AlertSilenced(_)
            | EventBody::AlertUnsilenced(_)
            | EventBody::AlertAcknowledged(_)
            | EventBody::JobDefined(_)
            | EventBody::JobDropped(_)
            | EventBody::JobStarted(_)
            | EventBody::JobSkipped(_)
            | EventBody::JobPaused(_)
            | EventBody::JobResumed(_) => {}
        }
    }

    /// The calls, in the order in which they began.
    pub fn calls(&self) -> impl Iterator<Item = &CallRow> {
        self.rows
            .iter()
            .filter_map(|row| if let Moment::Call(call) = &row.moment { Some(call) } else { None })
    }

    /// The tool calls, in the order in which they were planned.
    pub fn tools(&self) -> impl Iterator<Item = &ToolRow> {
        self.rows
            .iter()
            .filter_map(|row| if let Moment::Tool(tool) = &row.moment { Some(tool) } else { None })
    }

    /// The tool calls of which a person must say whether they happened.
    pub fn in_doubt(&self) -> impl Iterator<Item = &ToolRow> {
        self.tools().filter(|tool| matches!(tool.outcome, ToolOutcome::InDoubt { .. }))
    }

    /// What attempts with an unknown outcome are counted as. A call that a crash cut off is not in it: only the ledger
    /// knows what is held for it.
    pub fn suspense(&self) -> Money {
        let attempts = self.calls().flat_map(|call| &call.attempts);
        attempts.filter(|attempt| attempt.suspense).map(|attempt| attempt.cost).sum()
    }

    fn push(&mut self, event: &Event, moment: Moment) {
        let after = event.at.since(self.summary.created);
        self.rows.push(Row { at: event.at, after, seq: event.seq, moment });
    }

    /// A new claim: what was under way belonged to a process that is dead.
    fn interrupt(&mut self, at: Timestamp) {
        for row in &mut self.rows {
            if let Moment::Call(call) = &mut row.moment
                && call.outcome == CallOutcome::Open
            {
                call.outcome = CallOutcome::Interrupted;
                call.duration = at.since(call.started);
            }
        }
    }

    /// The row of a call; a new one when the journal does not tell how it began.
    fn call_mut(&mut self, id: &CallId, event: &Event) -> &mut CallRow {
        let is_it = |row: &Row| matches!(&row.moment, Moment::Call(call) if call.call == *id);
        let index = self.rows.iter().rposition(is_it).unwrap_or_else(|| {
            self.push(event, Moment::Call(CallRow::unheralded(id, event.at)));
            self.rows.len() - 1
        });
        match &mut self.rows[index].moment {
            Moment::Call(call) => call,
            _ => unreachable!("the index was found by its being a call"),
        }
    }

    fn tool_mut(&mut self, id: &str) -> Option<&mut ToolRow> {
        self.rows.iter_mut().rev().find_map(|row| match &mut row.moment {
            Moment::Tool(tool) if tool.id == id => Some(tool),
            _ => None,
        })
    }

    fn finish_call(&mut self, finished: &CallFinished, event: &Event) {
        let call = self.call_mut(&finished.call, event);
        for attempt in finished.attempts().iter() {
            call.attempt(attempt);
        }
        call.turn = finished.turn;
        call.provider = Some(finished.provider.clone());
        call.answered_by = Some(finished.model.clone());
        call.cost = finished.cost;
        call.duration = finished.duration;
        call.outcome = CallOutcome::Answered {
            stop: finished.stop.clone(),
            usage: finished.usage,
            first_token: finished.first_token,
            content: finished.content.clone(),
        };
    }

    fn fail_call(&mut self, failed: &CallFailed, event: &Event) {
        let call = self.call_mut(&failed.call, event);
        for attempt in &failed.failure.detail.attempts {
            call.attempt(attempt);
        }
        call.turn = failed.turn;
        call.provider.clone_from(&failed.failure.detail.provider);
        call.cost = failed.cost;
        call.duration = failed.duration;
        call.outcome = CallOutcome::Failed {
            kind: failed.failure.kind,
            code: failed.failure.code(),
            message: failed.failure.detail.message.to_string(),
        };
    }

    fn plan_tool(&mut self, planned: &ToolPlanned, event: &Event) {
        match self.tool_mut(&planned.id) {
            // Worked out once more, after a yes: the same call.
            Some(tool) if matches!(tool.outcome, ToolOutcome::Planned) => {
                *tool = ToolRow { asked: std::mem::take(&mut tool.asked), ..ToolRow::plan(planned) };
            }
            Some(_) | None => self.push(event, Moment::Tool(ToolRow::plan(planned))),
        }
    }

    /// Puts questions and answers with the call they are about.
    fn apply_approval(&mut self, event: &Event) {
        match &event.body {
            EventBody::ApprovalRequested(requested) => {
                let Some(tool) = self.tool_mut(&requested.id) else { return };
                let expires = requested.expires;
                let why = requested.why.clone();
                tool.asked.push(Question {
                    approval: requested.approval.clone(),
                    why: why.to_string(),
                    expires,
                    answer: None,
                });
            }
            EventBody::ApprovalDecided(decided) => {
                let Some(tool) = self.tool_mut(&decided.id) else { return };
                let asked = tool.asked.iter_mut().find(|asked| asked.approval == decided.approval);
                if let Some(question) = asked {
                    question.answer = Some(Answer {
                        at: event.at,
                        decision: decided.decision.clone(),
                        by: decided.by.clone(),
                        channel: decided.channel.clone(),
                    });
                }
            }
            _ => {}
        }
    }

    fn apply_tool(&mut self, event: &Event) {
        let at = event.at;
        match &event.body {
            EventBody::ToolStarted(started) => {
                let Some(tool) = self.tool_mut(&started.id) else { return };
                tool.dispatches = started.attempt;
                tool.started = Some(at);
                tool.outcome = ToolOutcome::Running;
            }
            EventBody::ToolFinished(finished) => {
                let Some(tool) = self.tool_mut(&finished.id) else { return };
                tool.duration = finished.duration;
                tool.outcome = ToolOutcome::Finished {
                    is_error: finished.is_error,
                    probed: finished.probed,
                    result: finished.result.clone(),
                };
            }
            EventBody::ToolUnknown(unknown) => {
                let Some(tool) = self.tool_mut(&unknown.id) else { return };
                tool.outcome = ToolOutcome::InDoubt { reason: unknown.reason.to_string() };
            }
            EventBody::ToolResolved(resolved) => {
                let Some(tool) = self.tool_mut(&resolved.id) else { return };
                tool.outcome = ToolOutcome::Resolved {
                    decision: resolved.decision,
                    by: resolved.by.clone(),
                    result: resolved.result.clone(),
                };
            }
            _ => {}
        }
    }
}

fn moment_of(warned: &BudgetWarned) -> Moment {
    Moment::BudgetWarned {
        account: warned.account.clone(),
        percent: warned.percent,
        spent: warned.spent,
        limit: warned.limit,
    }
}
