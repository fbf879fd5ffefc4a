//! Finds out what became of calls that did not come back: after a crash, a timeout, a tool that fell over. By class, and never
//! by doing anything twice.

use super::RunError;
use super::drive::Drive;
use super::tools::{Back, Dispatch, Returned};
use crate::decide::Recovery;
use crate::state::{Stage, ToolCall};
use crate::tool::{Job, Probe};
use backstop_journal::event::{ToolStarted, ToolUnknown};
use backstop_label::Class;
use std::sync::Arc;
use std::time::Duration;

impl Drive<'_> {
    /// Finds out what became of a call that was started, or runs it again where that is harmless.
    pub(super) async fn recover(&mut self, id: &str, how: Recovery) -> Result<(), RunError> {
        let Some(call) = self.state.call(id).cloned() else { return Ok(()) };
        match how {
            Recovery::InDoubt(reason) => self.note(ToolUnknown { id: id.to_owned(), reason: reason.into() }),
            Recovery::GiveUp(reason) => {
                let text = format!("No result: {reason}.");
                self.note_finished(id, Back::refused(&call, &text));
            }
            Recovery::RunAgain => self.run_again(&call).await?,
            Recovery::TakeUp => self.give_out(id).await?,
            Recovery::Probe => match self.probe(&call).await {
                Probe::Happened(output) => self.note_output(&call, Ok(output), Duration::ZERO, true),
                Probe::DidNot => self.run_again(&call).await?,
                Probe::Unsure(reason) => {
                    let reason = format!("the process ended while it was under way, and {reason}");
                    self.note(ToolUnknown { id: id.to_owned(), reason: reason.into() });
                }
            },
        }
        self.hold_against_plan(&[id.to_owned()]).await
    }

    async fn run_again(&mut self, call: &ToolCall) -> Result<(), RunError> {
        let Some(dispatch) = self.dispatched_before(call) else {
            let reason = format!("there is no tool `{}` any more to run it again", call.tool);
            self.note(ToolUnknown { id: call.id.clone(), reason: reason.into() });
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
                self.note(ToolUnknown { id: call.id.clone(), reason: reason.into() });
            }
            returned => self.take_back(&dispatch, returned).await,
        }
        Ok(())
    }

    async fn probe(&self, call: &ToolCall) -> Probe {
        let Some(dispatch) = self.dispatched_before(call) else {
            return Probe::Unsure(format!("there is no tool `{}` any more to ask", call.tool));
        };
        self.find_out(&*dispatch.tool, &dispatch.job, &dispatch.context).await
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
            job: Job { args: call.args.clone(), plan, key: call.key(&self.run) },
            context: self.tool_context(call),
        })
    }

    /// A call that did not come back. It may still be acting, so a probe that says *it did not* proves nothing here.
    pub(super) async fn lost(&mut self, call: &ToolCall, dispatch: &Dispatch, reason: String) {
        match dispatch.class {
            Class::Read => {
                let text = format!("No result: {reason}.");
                self.note_output(call, Err(text), Duration::ZERO, false);
            }
            // Left as started: the next step runs it again under the same key, so often and no more.
            Class::Idempotent => {}
            Class::Irreversible => self.note(ToolUnknown { id: call.id.clone(), reason: reason.into() }),
            Class::Write => match self.probe(call).await {
                Probe::Happened(output) => self.note_output(call, Ok(output), Duration::ZERO, true),
                Probe::DidNot => {
                    let reason = format!("{reason}; it has not happened yet");
                    self.note(ToolUnknown { id: call.id.clone(), reason: reason.into() });
                }
                Probe::Unsure(why) => {
                    self.note(ToolUnknown {
                        id: call.id.clone(),
                        reason: format!("{reason}, and {why}").into(),
                    });
                }
            },
        }
    }
}
