//! What is asked and how each question stands, read from the journal; and the answers, one at a time. It knows neither HTTP
//! nor keys: whoever calls it has seen to who may.

use super::refused::Refused;
use crate::tasks;
use backstop::Backstop;
use backstop_agent::run::{Answer, OpenQuestion, Preview, Reply};
use backstop_agent::{RunError, RunOutcome, RunState, top_of};
use backstop_call::{AgentName, ApprovalId, Code, Money, RunId, TaskId, Timestamp};
use backstop_journal::event::{
    ApprovalDecided, ApprovalDecision, ApprovalRequested, EXPIRY, ParkReason, QueueTerms,
};
use backstop_journal::projections::history::RunSummary;
use backstop_journal::projections::queue::TaskState;
use backstop_journal::{Event, EventBody, JournalError, RunFilter, RunStatus, StreamId, TaskSummary};
use backstop_label::Effect;
use http::StatusCode;
use serde_json::Value;
use tokio::sync::Mutex;

/// The longest reason: the model is told it.
const REASON_CHARS_MAX: usize = 2_000;

/// A question with the run it belongs to, and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Card {
    pub(crate) run: RunId,
    pub(crate) agent: AgentName,
    pub(crate) task: TaskId,
    /// What the run has cost so far.
    pub(crate) cost: Money,
    /// As it was asked.
    pub(crate) asked: OpenQuestion,
    pub(crate) asked_at: Timestamp,
    /// What a yes is bound to.
    pub(crate) args_hash: String,
    pub(crate) preview_hash: String,
    pub(crate) standing: Standing,
}

/// How a question stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Standing {
    /// It waits for an answer.
    Open,
    /// Somebody answered it.
    Answered { decision: Box<ApprovalDecision>, by: String, channel: String, at: Timestamp },
    /// Nobody answered it in time, so the answer is no.
    Expired,
    /// It no longer stands: the run asks another one, or asks nothing any more.
    Superseded,
}

impl Standing {
    /// In a word, for JSON.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Answered { decision, .. } => match **decision {
                ApprovalDecision::Deny { .. } => "denied",
                ApprovalDecision::Edit { .. } => "edited",
                ApprovalDecision::Approve | ApprovalDecision::Withdraw { .. } => "approved",
            },
            Self::Expired => "expired",
            Self::Superseded => "superseded",
        }
    }

    /// In words.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Open => "it waits for an answer".to_owned(),
            Self::Answered { by, channel, at, .. } => {
                format!("it was {} by {by} ({channel}) at {at}", self.word())
            }
            Self::Expired => "nobody answered it in time, so the answer was no".to_owned(),
            Self::Superseded => {
                "it no longer stands: the run asks something else, or nothing any more".to_owned()
            }
        }
    }
}

/// How far a call reaches, in words.
pub(crate) fn reach(effect: Option<Effect>) -> &'static str {
    match effect {
        Some(Effect::Read) => "nothing: it only looks",
        Some(Effect::Write) => "the run's own space",
        Some(Effect::External) => "somebody or something outside",
        Some(Effect::Destructive) => "it destroys something",
        None => "not declared, so it may reach anything",
    }
}

/// Every question of a run, oldest first.
pub(crate) fn cards(run: &RunId, events: &[Event], now: Timestamp) -> Vec<Card> {
    let mut state = RunState::default();
    let mut found = Vec::new();
    for event in events {
        state.apply(event);
        if let EventBody::ApprovalRequested(requested) = &event.body {
            let questions = RunOutcome::of(run, &state, now).questions;
            let asked = questions.into_iter().find(|open| open.approval == requested.approval);
            found.extend(asked.map(|asked| (asked, requested, event.at)));
        }
    }
    let Some(created) = &state.created else { return Vec::new() };
    let is_parked = state.status == RunStatus::Parked;
    let card = |(asked, requested, asked_at): (OpenQuestion, &ApprovalRequested, Timestamp)| Card {
        run: run.clone(),
        agent: created.agent.clone(),
        task: created.task.clone(),
        cost: state.cost,
        asked_at,
        args_hash: requested.args_hash.clone(),
        preview_hash: requested.preview_hash.clone(),
        standing: standing(events, &asked, is_parked && is_asked(&state, &asked.approval), now),
        asked,
    };
    found.into_iter().map(card).collect()
}

fn is_asked(state: &RunState, approval: &ApprovalId) -> bool {
    state.questions().any(|(_, question)| question.approval == *approval)
}

fn standing(events: &[Event], asked: &OpenQuestion, is_asked: bool, now: Timestamp) -> Standing {
    let decided = events.iter().find_map(|event| match &event.body {
        EventBody::ApprovalDecided(decided) if decided.approval == asked.approval => {
            Some((event.at, decided))
        }
        _ => None,
    });
    match decided {
        Some((_, ApprovalDecided { channel, .. })) if channel == EXPIRY => Standing::Expired,
        Some((_, ApprovalDecided { decision: ApprovalDecision::Withdraw { .. }, .. })) => {
            Standing::Superseded
        }
        Some((at, decided)) => Standing::Answered {
            decision: Box::new(decided.decision.clone()),
            by: decided.by.clone(),
            channel: decided.channel.clone(),
            at,
        },
        None if asked.expires <= now => Standing::Expired,
        None if is_asked => Standing::Open,
        None => Standing::Superseded,
    }
}

impl Card {
    /// Whether it was decided from private text: then it is shown to those who are logged in, and sent to nobody.
    pub(crate) fn is_private(&self) -> bool {
        !self.asked.labels.private.is_empty()
    }
}

/// What a person says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Decision {
    Approve,
    Deny { reason: String },
    Edit { args: Value, preview_hash: String, reason: String },
}

/// Who says it, and by which way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct By<'a> {
    pub(crate) name: &'a str,
    pub(crate) channel: &'a str,
}

/// What becomes of a run whose questions are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Going {
    /// It waits for a worker.
    Waits,
    /// A worker has it.
    On,
}

impl Going {
    /// In a word, for JSON.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Waits => "waiting",
            Self::On => "working",
        }
    }

    /// In words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Waits => "Its run waits for a worker.",
            Self::On => "Its run goes on.",
        }
    }
}

/// Reads questions and takes answers.
pub(crate) struct Desk {
    backstop: Backstop,
    /// Held while a run is claimed to be answered, so that two people are told of each other and not of this process.
    turn: Mutex<()>,
}

impl Desk {
    pub(crate) fn new(backstop: Backstop) -> Self {
        Self { backstop, turn: Mutex::default() }
    }

    /// Every open question, the one that expires first in front.
    pub(crate) async fn open(&self) -> Result<Vec<Card>, JournalError> {
        let mut open = Vec::new();
        for summary in self.parked().await? {
            let cards = self.cards_of(&summary.run).await?;
            open.extend(cards.into_iter().filter(|card| card.standing == Standing::Open));
        }
        open.sort_by_key(|card| card.asked.expires);
        Ok(open)
    }

    /// A question by its whole id, whatever became of it.
    ///
    /// # Errors
    /// 404 where no run has asked it, 410 where what its run said was erased.
    pub(crate) async fn find(&self, approval: &str) -> Result<Card, Refused> {
        let approval = ApprovalId::from(approval);
        let run = self.backstop.journal().asked_by(&approval).await?;
        let nothing = || {
            let message = "no question has this id".to_owned();
            Refused::new(StatusCode::NOT_FOUND, Code::ApprovalVoid, message)
        };
        let run = run.ok_or_else(nothing)?;
        if let Some(card) = self.card(&run, &approval).await? {
            return Ok(card);
        }
        match self.summary(&run).await? {
            Some(RunSummary { erased: Some(_), .. }) => {
                let message = RunError::Erased(run).to_string();
                Err(Refused::new(StatusCode::GONE, Code::RunErased, message))
            }
            _ => Err(nothing()),
        }
    }

    /// A question of a run that is known.
    pub(crate) async fn card(
        &self,
        run: &RunId,
        approval: &ApprovalId,
    ) -> Result<Option<Card>, JournalError> {
        Ok(self.cards_of(run).await?.into_iter().find(|card| card.asked.approval == *approval))
    }

    /// Answers a question, and lets its run go on if that was the last one. What it gives is the question as it stands then.
    pub(crate) async fn decide(
        &self,
        approval: &str,
        decision: &Decision,
        by: By<'_>,
    ) -> Result<Card, Refused> {
        must_be_short(decision)?;
        let _turn = self.turn.lock().await;
        let card = self.find(approval).await?;
        must_be_open(&card)?;
        let answer = match decision {
            Decision::Approve => Answer::Approve,
            Decision::Deny { reason } => Answer::Deny(reason),
            Decision::Edit { args, preview_hash, reason } => Answer::Edit { args, preview_hash, reason },
        };
        let reply = Reply { approval, answer, by: by.name, channel: by.channel };
        let outcome = self.backstop.answer(&card.run, reply).await.map_err(refused)?;
        if outcome.questions.is_empty() {
            self.hand_over(&card.run).await.map_err(refused)?;
        }
        Ok(self.card(&card.run, &card.asked.approval).await?.unwrap_or(card))
    }

    /// What the call of an open question would do with other arguments.
    pub(crate) async fn preview(&self, approval: &str, args: &Value) -> Result<(Card, Preview), Refused> {
        let _turn = self.turn.lock().await;
        let card = self.find(approval).await?;
        must_be_open(&card)?;
        let preview = self.backstop.preview(&card.run, approval, args).await.map_err(refused)?;
        Ok((card, preview))
    }

    /// Has workers go on with a run; with the one at the top, where it does a part for another. One that waits for a worker already
    /// goes on by itself.
    pub(crate) async fn hand_over(&self, run: &RunId) -> Result<(), RunError> {
        let journal = self.backstop.journal();
        let top = top_of(&**journal, run).await?;
        let Some(summary) = self.summary(&top).await? else { return Err(JournalError::NotFound(top).into()) };
        let now = self.backstop.clock().now();
        let terms = match &summary.queue {
            Some(queue) if queue.state == TaskState::Waiting => return Ok(()),
            Some(queue) => queue.terms.again(now),
            None => QueueTerms::once(now),
        };
        self.backstop.hand_over(&top, terms).await
    }

    /// Whether a worker has a run, or it waits for one; `None` where it waits for neither.
    pub(crate) async fn going(&self, run: &RunId) -> Result<Option<Going>, JournalError> {
        let top = top_of(&**self.backstop.journal(), run).await?;
        let Some(task) = self.summary(&top).await?.and_then(|summary| summary.queued_as()) else {
            return Ok(None);
        };
        let waits = |task: &TaskSummary| {
            task.run.run == top && task.queued().is_some_and(|queue| queue.state == TaskState::Waiting)
        };
        let found = tasks::find(&**self.backstop.queue(), task.as_str()).await?.filter(waits);
        Ok(found.map(|task| if task.worked_on { Going::On } else { Going::Waits }))
    }

    async fn summary(&self, run: &RunId) -> Result<Option<RunSummary>, JournalError> {
        let filter = RunFilter { id_prefix: Some(run.to_string()), ..RunFilter::default() };
        let found = self.backstop.journal().runs(filter).await?;
        Ok(found.into_iter().find(|found| found.run == *run))
    }

    /// Hands runs over whose last answer came by one of these ways and that nobody took up since: the process that took the
    /// answer ended before it could.
    pub(crate) async fn hand_over_answered(&self, channels: &[&str]) -> Result<(), RunError> {
        for summary in self.parked().await? {
            let cards = self.cards_of(&summary.run).await?;
            let is_open = cards.iter().any(|card| card.standing == Standing::Open);
            let is_ours = cards.last().is_some_and(|card| match &card.standing {
                Standing::Answered { channel, .. } => channels.contains(&channel.as_str()),
                Standing::Open | Standing::Expired | Standing::Superseded => false,
            });
            if is_ours && !is_open {
                self.hand_over(&summary.run).await?;
            }
        }
        Ok(())
    }

    async fn parked(&self) -> Result<Vec<RunSummary>, JournalError> {
        let parked = RunFilter { status: vec![RunStatus::Parked], ..RunFilter::default() };
        let mut runs = self.backstop.journal().runs(parked).await?;
        runs.retain(|summary| summary.parked == Some(ParkReason::Approval));
        Ok(runs)
    }

    async fn cards_of(&self, run: &RunId) -> Result<Vec<Card>, JournalError> {
        let events = self.backstop.journal().read(&StreamId::Run(run.clone()), 0).await?;
        Ok(cards(run, &events, self.backstop.clock().now()))
    }
}

fn must_be_short(decision: &Decision) -> Result<(), Refused> {
    let reason = match decision {
        Decision::Approve => "",
        Decision::Deny { reason } | Decision::Edit { reason, .. } => reason,
    };
    if reason.chars().count() <= REASON_CHARS_MAX {
        return Ok(());
    }
    let message = format!("the reason is longer than {REASON_CHARS_MAX} characters");
    Err(Refused::new(StatusCode::UNPROCESSABLE_ENTITY, Code::Usage, message)
        .with_hint("say it in fewer words"))
}

fn must_be_open(card: &Card) -> Result<(), Refused> {
    if card.standing == Standing::Open {
        return Ok(());
    }
    let message = format!("question {} cannot be answered: {}", card.asked.approval, card.standing.words());
    Err(Refused::new(StatusCode::CONFLICT, Code::ApprovalVoid, message))
}

fn refused(error: RunError) -> Refused {
    match error {
        RunError::Journal(error) => error.into(),
        RunError::PreviewChanged(preview) => Refused {
            preview: Some(preview.clone()),
            ..Refused::new(
                StatusCode::CONFLICT,
                Code::ApprovalVoid,
                RunError::PreviewChanged(preview).to_string(),
            )
            .with_hint("look at what it would do now, and say yes to that")
        },
        RunError::NoSuchQuestion { .. } => {
            let message = "the question was answered meanwhile".to_owned();
            Refused::new(StatusCode::CONFLICT, Code::ApprovalVoid, message)
        }
        RunError::Edit(_) => Refused::new(StatusCode::UNPROCESSABLE_ENTITY, Code::Usage, error.to_string())
            .with_hint("give all arguments of the call, as its tool and the rights of the run allow them"),
        other => Refused::new(StatusCode::CONFLICT, other.code(), other.to_string()),
    }
}
