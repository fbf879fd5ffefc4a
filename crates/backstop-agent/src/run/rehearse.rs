//! The two sides of a plan: what a dry run does with a call, and how a run that carries a plan out is held to it.

use super::RunError;
use super::apply::changed;
use super::drive::Drive;
use super::tools::{Back, Dispatch, Wave, planned};
use crate::state::{Stage, ToolCall};
use crate::tool::{Plan, Rehearsal};
use backstop_call::Block;
use backstop_label::Class;

/// What the model is told of a call that a dry run only notes.
const NOTED: &str = "Dry run: this was noted and not done, because it reaches what there is no copy of. Go on as if it had \
    been done.";

impl Drive<'_> {
    /// In a dry run: makes a call where it touches nothing but the copy, and else notes it.
    pub(super) fn rehearse(
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
            self.note_finished(&call.id, Back::told(call, NOTED));
        }
        true
    }

    /// Answers a call that is not made. Where a plan is carried out that wants it, the plan does not hold any more.
    pub(super) async fn refuse_or_stop(&mut self, call: &ToolCall, reason: &str) -> Result<bool, RunError> {
        if self.planned.is_some() {
            return self
                .stop_at(format!("{} ({}) cannot be done as planned: {reason}", call.tool, call.id))
                .await;
        }
        self.refuse(call, reason);
        Ok(true)
    }

    /// Ends the run: its plan does not hold any more.
    pub(super) async fn stop_at(&mut self, why: String) -> Result<bool, RunError> {
        let finished = self.rolled_back(changed(why)).await?;
        self.note(finished);
        Ok(false)
    }

    /// Holds what the calls of a wave gave against the plan that is carried out.
    pub(super) async fn hold_against_plan(&mut self, ids: &[String]) -> Result<(), RunError> {
        let Some(planned) = self.planned.as_ref().filter(|_| self.state.finished.is_none()) else {
            return Ok(());
        };
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
}
