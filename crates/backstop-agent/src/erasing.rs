//! Whether what a run said may be erased, and what is lost with it. A run goes as a whole: with the runs that did parts for it, the
//! run that carried out its plan, and the parts of that one. Each of them says what the others said, and none is undone without
//! the others. Pure: who asks reads the runs, and erases them.

use crate::delegation::SUBMIT;
use crate::state::{RunState, Stage, ToolCall};
use backstop_call::{Code, RunId, Timestamp};
use backstop_journal::RunStatus;
use backstop_journal::event::RunCreated;
use backstop_journal::projections::history::RunSummary;
use std::time::Duration;

/// Why what a run said is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Kept {
    /// It belongs to another run, and goes with that one.
    #[error("run {run} goes with run {whole}")]
    PartOf {
        /// The run.
        run: RunId,
        /// The one it belongs to.
        whole: RunId,
    },
    /// It, or a run that belongs to it, may still go on.
    #[error("run {run} is {}, so it may still go on", .status.as_str())]
    GoesOn {
        /// The run.
        run: RunId,
        /// How it stands.
        status: RunStatus,
    },
    /// Its task is tried again, by a run that begins with what this one was told.
    #[error("the task of run {run} is tried again at {due}")]
    TriedAgain {
        /// The run.
        run: RunId,
        /// When.
        due: Timestamp,
    },
    /// It ended too short a time ago.
    #[error("run {run} is kept until {until}")]
    Young {
        /// The run.
        run: RunId,
        /// Until when.
        until: Timestamp,
    },
    /// It was erased before.
    #[error("run {run} was erased at {at}")]
    Gone {
        /// The run.
        run: RunId,
        /// When.
        at: Timestamp,
    },
}

impl Kept {
    /// The code a user can look up.
    pub fn code(&self) -> Code {
        match self {
            Self::Gone { .. } => Code::RunErased,
            Self::PartOf { .. } | Self::GoesOn { .. } | Self::TriedAgain { .. } | Self::Young { .. } => {
                Code::Usage
            }
        }
    }
}

/// The run that a run belongs to: the one it does a part for, or whose plan it carries out.
pub fn belongs_to(created: &RunCreated) -> Option<&RunId> {
    created.parent.as_ref().or(created.applies.as_ref())
}

/// Whether what a run said may be erased, with all that belongs to it. `due` is when its task is tried again, if it is. It is kept
/// for `age` after the last of them ended: none where a person asks for it.
///
/// # Errors
/// Why it is kept.
pub fn may_go(
    run: &RunSummary,
    belonging: &[RunSummary],
    (due, age): (Option<Timestamp>, Duration),
    now: Timestamp,
) -> Result<(), Kept> {
    let whole = || std::iter::once(run).chain(belonging);
    let erased = whole().map(|one| one.erased).collect::<Option<Vec<_>>>();
    if let Some(at) = erased.and_then(|times| times.into_iter().max()) {
        return Err(Kept::Gone { run: run.run.clone(), at });
    }
    if let Some(one) = whole().find(|one| !one.status.is_final()) {
        return Err(Kept::GoesOn { run: one.run.clone(), status: one.status });
    }
    if let Some(due) = due {
        return Err(Kept::TriedAgain { run: run.run.clone(), due });
    }
    let ended = whole().map(|one| one.ended.unwrap_or(one.updated)).max().unwrap_or(now);
    let until = ended + age;
    // Where a person asks for it, a clock that was set back changes nothing.
    if !age.is_zero() && until > now {
        return Err(Kept::Young { run: run.run.clone(), until });
    }
    Ok(())
}

/// What can no longer be done with a run that is erased.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// So many of its steps can no longer be taken back.
    pub undo: usize,
    /// Its plan can no longer be carried out.
    pub plan: bool,
    /// Its task can no longer be tried again.
    pub retry: bool,
}

impl Lost {
    /// What is lost with this run.
    pub fn with(run: &RunState) -> Self {
        let created = run.created.as_ref();
        let dry = created.is_some_and(|created| created.dry_run);
        let top = created.is_some_and(|created| created.parent.is_none());
        let ids = if dry { Vec::new() } else { run.effects(None) };
        let calls = ids.iter().filter_map(|id| run.calls.iter().find(|call| call.id == *id));
        Self {
            undo: calls.filter(|call| can_be_undone(run, call)).count(),
            plan: dry && top && run.status == RunStatus::Done,
            retry: run.status == RunStatus::Failed && run.queue.is_some(),
        }
    }

    /// What is lost with both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { undo: self.undo + other.undo, plan: self.plan || other.plan, retry: self.retry || other.retry }
    }

    /// In words, one fragment for each: `3 steps of it can no longer be undone`.
    pub fn in_words(self) -> Vec<String> {
        let steps = if self.undo == 1 { "step" } else { "steps" };
        let undo = (self.undo > 0).then(|| format!("{} {steps} of it can no longer be undone", self.undo));
        let plan = self.plan.then(|| "its plan can no longer be carried out".to_owned());
        let retry = self.retry.then(|| "its task can no longer be tried again".to_owned());
        [undo, plan, retry].into_iter().flatten().collect()
    }
}

/// Whether an undo would take a call back. What a part did is counted where it did it, and a task that began stays.
fn can_be_undone(run: &RunState, call: &ToolCall) -> bool {
    let has_way = call.planned.as_ref().is_some_and(|planned| !planned.undo.is_nothing());
    let is_own = !matches!(&*call.tool, crate::DELEGATE | SUBMIT);
    let undone = run.undo_of(&call.id).map(|undo| &undo.stage);
    has_way && is_own && !matches!(undone, Some(Stage::Finished { is_error: false, .. }))
}

#[cfg(test)]
mod tests;
