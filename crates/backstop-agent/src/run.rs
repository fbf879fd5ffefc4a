//! Drives a run: loads its events, claims it, and loops decide, act, append until it is over or waits. All policy is in
//! [`mod@crate::decide`]; what happens here is IO, in an order that makes a kill -9 harmless:
//!
//! - Nothing acts before its event is durable. What happened since the last commit is collected, and committed right
//!   before the next action, so a step with tools costs two synced appends: `[call.finished, tool.planned, tool.started]`
//!   before the tools, `[tool.finished …, call.started]` before the next call.
//! - An append that fails ends the drive at once. A run that another process took over refuses our epoch.
//! - Dropping the future at any point leaves a run that can be resumed, as a kill -9 would.

mod answer;
mod apply;
mod child;
mod drive;
mod gate;
mod grants;
mod outcome;
mod prepare;
mod recover;
mod rehearse;
mod submit;
mod tools;
mod undo;
mod work;

pub use answer::{Answer, Preview, Reply};
pub use child::top_of;
pub use grants::Rest;
pub use outcome::{InDoubt, OpenQuestion, RunOutcome};
pub use undo::{UndoOutcome, Undone};
pub use work::Submitted;

use crate::erasing::Kept;
use crate::rehearsal::{self, CopyError, CopyLimits};
use crate::workspace::{PathError, Workspace};
use crate::{Delegation, RunState, Toolbox};
use backstop_call::{ApprovalId, Clock, Code, Model, ModelName, RunId, Seed, Timestamp};
use backstop_journal::event::{ParkReason, RunCreated, RunLimits, RunResumed, ToolDecision, ToolResolved};
use backstop_journal::{
    Append, Body, Durability, Epoch, EventBody, Journal, JournalError, RunStatus, StreamId,
};
use backstop_label::{BadRights, Policy};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Runs agents. One can drive many runs at the same time.
#[derive(Clone)]
pub struct Agent {
    /// What answers the calls: usually the whole stack.
    pub model: Arc<dyn Model>,
    /// Where everything is kept.
    pub journal: Arc<dyn Journal>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where ids come from.
    pub seed: Arc<Seed>,
    /// The tools there are; a run has those of them that it names.
    pub tools: Toolbox,
    /// What they may do.
    pub policy: Arc<Policy>,
    /// Set when runs are to be let go of, each before its next step; whoever takes one up goes on there.
    pub draining: Arc<AtomicBool>,
    /// Whether the journal keeps a text as it is, or takes a secret out of it: what is not kept whole cannot be put back.
    pub keeps: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// The rest.
    pub config: AgentConfig,
}

/// What all runs of an agent have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentConfig {
    /// The longest that one model call may take, with all its attempts.
    pub call_timeout: Duration,
    /// The longest that one tool call may take.
    pub tool_timeout: Duration,
    /// The windows of the models and chains, in tokens: of a chain that of its largest model.
    pub windows: BTreeMap<ModelName, u64>,
    /// A run that must wait no longer than this is waited for; one that must wait longer is parked and left.
    pub wait_max: Duration,
    /// After so many failed calls in a row the run stops instead of waiting once more.
    pub outages_max: u32,
    /// So many reads of one turn run at the same time.
    pub reads_max: usize,
    /// Files and directories that no tool may see or change, also inside a workspace: the journal, the config, the logs.
    pub reserved: Vec<PathBuf>,
    /// Where dry runs keep the copies that they work on; `None` allows no dry runs.
    pub copies: Option<PathBuf>,
    /// What of a workspace is copied at most.
    pub copy_limits: CopyLimits,
    /// The agents that may do parts for others.
    pub delegation: Delegation,
}

impl Default for AgentConfig {
    /// 10 minutes a call, 1 minute a tool, no known window, no waiting, 3 outages, 8 reads.
    fn default() -> Self {
        Self {
            call_timeout: Duration::from_mins(10),
            tool_timeout: Duration::from_mins(1),
            windows: BTreeMap::new(),
            wait_max: Duration::ZERO,
            outages_max: 3,
            reads_max: 8,
            reserved: Vec::new(),
            copies: None,
            copy_limits: CopyLimits::default(),
            delegation: Delegation::default(),
        }
    }
}

/// Why a run could not be worked on. The run itself is as it was: it can be driven again.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The journal refused. `Owned` means that another process works on the run, or took it over.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The run's directory cannot be used.
    #[error("the workspace {path} cannot be used")]
    Workspace {
        /// The directory.
        path: String,
        /// Why.
        #[source]
        source: PathError,
    },
    /// The run names a tool that this agent does not have.
    #[error("there is no tool `{tool}`; there are {known}")]
    UnknownTool {
        /// The name.
        tool: String,
        /// The names that there are.
        known: String,
    },
    /// The schema of the result is no JSON Schema.
    #[error("the schema of the result is no JSON Schema: {0}")]
    ResultSchema(String),
    /// The rights of the run cannot be read.
    #[error("the rights of the run cannot be read")]
    Rights(#[from] BadRights),
    /// A dry run was asked for, and nothing here can keep its writes from happening.
    #[error("dry runs are not supported")]
    DryRun,
    /// The copy that a dry run works on cannot be made.
    #[error("the dry run has nothing to work on")]
    Copy(#[from] CopyError),
    /// It does a part for another run, which is the one to go on with.
    #[error("run {run} does a part for run {top}, and its limits are what is left of that one's")]
    PartOf {
        /// The run.
        run: RunId,
        /// The one that does a part for nobody.
        top: RunId,
    },
    /// There is no plan to carry out.
    #[error("run {0} is no dry run that is done, so there is no plan to carry out")]
    NoPlan(RunId),
    /// The run is over.
    #[error("run {run} is {}", .status.as_str())]
    Over {
        /// The run.
        run: RunId,
        /// How it ended.
        status: RunStatus,
    },
    /// No call in doubt has an id that begins so, or several have.
    #[error("{found} calls in doubt of run {run} have an id that begins with `{prefix}`")]
    NoSuchCall {
        /// The run.
        run: RunId,
        /// What was asked for.
        prefix: String,
        /// How many there are.
        found: usize,
    },
    /// No open question has an id that begins so, or several have.
    #[error("{found} open questions of run {run} have an id that begins with `{prefix}`")]
    NoSuchQuestion {
        /// The run.
        run: RunId,
        /// What was asked for.
        prefix: String,
        /// How many there are.
        found: usize,
    },
    /// The question can no longer be answered.
    #[error("question {approval} expired at {at}")]
    Expired {
        /// The question.
        approval: ApprovalId,
        /// When.
        at: Timestamp,
    },
    /// The call cannot be made with these arguments.
    #[error("the call cannot be made like this: {0}")]
    Edit(String),
    /// What a call would do is not what was shown.
    #[error("what the call would do is not what was shown")]
    PreviewChanged(Box<Preview>),
    /// The run may still go on.
    #[error("run {run} is {}, so it may still go on", .status.as_str())]
    NotOver {
        /// The run.
        run: RunId,
        /// How it stands.
        status: RunStatus,
    },
    /// No call that changed something has an id that begins so, or several have.
    #[error("{found} calls of run {run} that changed something have an id that begins with `{prefix}`")]
    NoSuchStep {
        /// The run.
        run: RunId,
        /// What was asked for.
        prefix: String,
        /// How many there are.
        found: usize,
    },
    /// What the run said was erased, and this needs it.
    #[error("what run {0} said was erased")]
    Erased(RunId),
    /// What the run said is kept.
    #[error(transparent)]
    Kept(#[from] Kept),
}

impl RunError {
    /// The code a user can look up.
    pub fn code(&self) -> Code {
        match self {
            Self::Journal(error) => error.code(),
            Self::Workspace { .. } | Self::Copy(_) => Code::WorkspaceUnusable,
            Self::UnknownTool { .. } => Code::UnknownTool,
            Self::ResultSchema(_) | Self::Rights(_) | Self::DryRun => Code::ConfigValue,
            Self::Over { .. } => Code::RunOver,
            Self::Erased(_) => Code::RunErased,
            Self::Kept(kept) => kept.code(),
            Self::NoSuchCall { .. }
            | Self::NoSuchQuestion { .. }
            | Self::NoSuchStep { .. }
            | Self::NotOver { .. }
            | Self::NoPlan(_)
            | Self::PartOf { .. }
            | Self::Edit(_) => Code::Usage,
            Self::Expired { .. } | Self::PreviewChanged(_) => Code::ApprovalVoid,
        }
    }
}

impl Agent {
    /// Creates a run, durably. Nothing works on it yet.
    pub async fn create(&self, mut created: RunCreated) -> Result<RunId, RunError> {
        self.bound(&mut created);
        self.create_as(RunId::new(self.clock.now(), self.seed.next_u64()), created).await
    }

    /// What its role may do now bounds a run for good; what the role may do later can only narrow that.
    fn bound(&self, created: &mut RunCreated) {
        if let Some(rights) = self.policy.roles.get(created.role.as_str()) {
            created.bounds.push(rights.text().clone());
        }
    }

    /// The append of one event of a run, as it happens now.
    fn happened(&self, run: &RunId, epoch: Option<Epoch>, event: impl Into<EventBody>) -> Append {
        Append {
            stream: StreamId::Run(run.clone()),
            epoch,
            events: vec![event.into()],
            at: self.clock.now(),
            durability: Durability::Synced,
        }
    }

    /// Works on a run until it is over, parked or stopped. A run whose process died is taken up where it was.
    pub async fn drive(&self, run: &RunId) -> Result<RunOutcome, RunError> {
        let top = self.top_of(run).await?;
        let outcome = self
            .with_claim(&top, async |claimed| {
                let drive = self.prepare(&top, claimed).await?;
                Box::pin(drive.run()).await
            })
            .await?;
        if top == *run { Ok(outcome) } else { self.inspect(run).await }
    }

    /// Lets a parked or stopped run go on, with other limits if they are given, and drives it. A run in doubt stays
    /// parked until every call in doubt is resolved. A run that does a part for another goes on with that one.
    pub async fn resume(&self, run: &RunId, limits: Option<RunLimits>) -> Result<RunOutcome, RunError> {
        let top = self.top_of(run).await?;
        if top == *run {
            return self.resume_top(run, limits).await;
        }
        if limits.is_some() {
            return Err(RunError::PartOf { run: run.clone(), top });
        }
        let state = self.state_of(run).await?;
        there(run, &state)?;
        if state.status.is_final() {
            return Err(RunError::Over { run: run.clone(), status: state.status });
        }
        self.resume_top(&top, None).await?;
        self.inspect(run).await
    }

    async fn resume_top(&self, run: &RunId, limits: Option<RunLimits>) -> Result<RunOutcome, RunError> {
        self.with_claim(run, async |claimed| self.go_on(run, claimed, limits).await).await
    }

    async fn go_on(
        &self,
        run: &RunId,
        claimed: Claimed,
        limits: Option<RunLimits>,
    ) -> Result<RunOutcome, RunError> {
        let state = &claimed.state;
        there(run, state)?;
        if state.status.is_final() {
            return Err(RunError::Over { run: run.clone(), status: state.status });
        }
        let rests = state.parked.is_some() || state.finished.is_some() || limits.is_some();
        // A person must speak first; a question that was answered, or is over, wakes the run by itself.
        let asks = state.in_doubt().next().is_some() || state.questions().next().is_some();
        let in_doubt = asks || self.waits_for_part(run, state).await?;
        let limits = limits.unwrap_or(state.limits);
        let mut drive = self.prepare(run, claimed).await?;
        if rests && !in_doubt {
            drive.kin.early = true;
            drive.note(RunResumed { limits });
        }
        Box::pin(drive.run()).await
    }

    /// Says what is true about a call in doubt. `call` is its id, or a beginning of it that no other call in doubt has.
    /// The run stays parked until it is resumed.
    pub async fn resolve(&self, run: &RunId, verdict: Verdict<'_>) -> Result<RunOutcome, RunError> {
        self.with_claim(run, async |mut claimed| {
            there(run, &claimed.state)?;
            let Verdict { call, decision, result, by } = verdict;
            let exact = claimed.state.in_doubt().find(|doubt| doubt.id == call);
            let matching: Vec<_> = match exact {
                Some(doubt) => vec![doubt],
                None => claimed.state.in_doubt().filter(|doubt| doubt.id.starts_with(call)).collect(),
            };
            let [doubt] = matching[..] else {
                return Err(RunError::NoSuchCall {
                    run: run.clone(),
                    prefix: call.to_owned(),
                    found: matching.len(),
                });
            };
            let resolved = ToolResolved {
                id: doubt.id.clone(),
                decision,
                by: by.to_owned(),
                result: (decision == ToolDecision::Happened)
                    .then(|| Body::from(result.unwrap_or("It was done."))),
            };
            self.append_one(run, &mut claimed, resolved.into()).await?;
            self.wake(run).await?;
            Ok(RunOutcome::of(run, &claimed.state, self.clock.now()))
        })
        .await
    }

    /// Ends a run for good, with the runs that do parts for it. A drive of it in this process is fenced off.
    pub async fn cancel(&self, run: &RunId, reason: &str) -> Result<RunOutcome, RunError> {
        self.with_claim(run, async |mut claimed| {
            // Of one that failed the task may wait for another try, which there will be none of.
            let waits = claimed.state.queue.as_ref().is_some_and(|queue| queue.anew && queue.due.is_some());
            if claimed.state.status.is_final() && !waits {
                return Err(RunError::Over { run: run.clone(), status: claimed.state.status });
            }
            self.end(run, &mut claimed, reason).await?;
            Ok(RunOutcome::of(run, &claimed.state, self.clock.now()))
        })
        .await
    }

    /// How a run stands. Claims nothing.
    pub async fn inspect(&self, run: &RunId) -> Result<RunOutcome, RunError> {
        let events = self.journal.read(&StreamId::Run(run.clone()), 0).await?;
        let state = RunState::fold(&events);
        if state.created.is_none() {
            return Err(JournalError::NotFound(run.clone()).into());
        }
        self.outcome_of(run, &state).await
    }

    fn open_workspace(&self, created: &RunCreated) -> Result<Option<Workspace>, RunError> {
        if created.workspace.is_empty() {
            return Ok(None);
        }
        let opened = Workspace::open(Path::new(&created.workspace))
            .map_err(|source| RunError::Workspace { path: created.workspace.clone(), source })?;
        Ok(Some(opened.reserving(&self.config.reserved)))
    }

    /// The copy of the workspace that a dry run works on.
    async fn open_copy(&self, run: &RunId, created: &RunCreated) -> Result<Option<Workspace>, RunError> {
        let Some(copy) = self.copy_of(run).filter(|_| !created.workspace.is_empty()) else { return Ok(None) };
        let (from, reserved) = (PathBuf::from(&created.workspace), self.config.reserved.clone());
        let (to, limits) = (copy.clone(), self.config.copy_limits);
        let copied = tokio::task::spawn_blocking(move || rehearsal::copy(&from, &to, &reserved, limits));
        copied.await.map_err(|error| JournalError::Unusable(error.to_string()))??;
        let opened = Workspace::open(&copy)
            .map_err(|source| RunError::Workspace { path: created.workspace.clone(), source })?;
        Ok(Some(opened.standing_for(Path::new(&created.workspace))))
    }

    fn copy_of(&self, run: &RunId) -> Option<PathBuf> {
        self.config.copies.as_ref().map(|copies| copies.join(run.as_str()))
    }

    /// A copy that is left behind is in nobody's way.
    async fn discard_copy(&self, run: &RunId) {
        let Some(copy) = self.copy_of(run) else { return };
        drop(tokio::task::spawn_blocking(move || rehearsal::discard(&copy)).await);
    }

    /// Whether a run can be made from this.
    fn check(&self, created: &RunCreated) -> Result<(), RunError> {
        if created.dry_run && self.config.copies.is_none() {
            return Err(RunError::DryRun);
        }
        if let Some(tool) = created.tools.iter().find(|tool| !self.tools.contains(tool)) {
            let known = self.tools.names().collect::<Vec<_>>().join(", ");
            return Err(RunError::UnknownTool { tool: tool.clone(), known });
        }
        check_schema(created)
    }

    async fn waits_for_part(&self, run: &RunId, state: &RunState) -> Result<bool, RunError> {
        let is_it = state.parked.as_ref().is_some_and(|parked| parked.reason == ParkReason::Child);
        Ok(is_it && self.waits(run, state, true).await?)
    }

    /// Claims the run, works on it, and lets go of it whatever came of that.
    async fn with_claim<T>(
        &self,
        run: &RunId,
        work: impl AsyncFnOnce(Claimed) -> Result<T, RunError>,
    ) -> Result<T, RunError> {
        let epoch = self.journal.claim(run, self.clock.now()).await?;
        self.holding(run, epoch, work).await
    }

    async fn holding<T>(
        &self,
        run: &RunId,
        epoch: Epoch,
        work: impl AsyncFnOnce(Claimed) -> Result<T, RunError>,
    ) -> Result<T, RunError> {
        let done = match self.journal.read(&StreamId::Run(run.clone()), 0).await {
            Ok(events) => work(Claimed { epoch, state: RunState::fold(&events) }).await,
            Err(error) => Err(error.into()),
        };
        let released = self.journal.release(run, epoch).await;
        let value = done?;
        released?;
        Ok(value)
    }

    async fn append_one(&self, run: &RunId, claimed: &mut Claimed, event: EventBody) -> Result<(), RunError> {
        let append = self.happened(run, Some(claimed.epoch), event);
        append.events.iter().for_each(|event| claimed.state.take(append.at, event));
        self.journal.append(append).await?;
        Ok(())
    }
}

/// Refuses what needs the texts of a run whose texts were erased.
fn there(run: &RunId, state: &RunState) -> Result<(), RunError> {
    if state.erased { Err(RunError::Erased(run.clone())) } else { Ok(()) }
}

fn check_schema(created: &RunCreated) -> Result<(), RunError> {
    let schema = created.result_schema.as_ref();
    schema.map_or(Ok(()), |schema| crate::toolbox::compile(schema).map(drop).map_err(RunError::ResultSchema))
}

/// What a person says about a call in doubt.
#[derive(Debug, Clone, Copy)]
pub struct Verdict<'a> {
    /// The call's id, or a beginning of it that no other call in doubt has.
    pub call: &'a str,
    /// What is true.
    pub decision: ToolDecision,
    /// What came of it, when it happened.
    pub result: Option<&'a str>,
    /// Who says so.
    pub by: &'a str,
}

/// A run that is ours.
struct Claimed {
    epoch: Epoch,
    state: RunState,
}
