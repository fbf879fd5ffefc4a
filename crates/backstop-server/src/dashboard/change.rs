//! What a person does with a run: lets it go on, ends it, takes back what it did. Each is a form of a session; what cannot be taken
//! back is shown first.

use super::door::{Looker, Person, field};
use super::frame::{Frame, Part, token};
use super::{CHANNEL, Change, runs, see, show, text};
use crate::gateway::answer::Reply;
use crate::gateway::approvals::Refused;
use crate::gateway::visit::Visit;
use backstop::{Erased, Erasing, ToErase};
use backstop_agent::erasing::Kept;
use backstop_agent::run::{UndoOutcome, Undone};
use backstop_agent::{RunError, visible, visible_line};
use backstop_call::Code;
use backstop_journal::event::ToolDecision;
use backstop_journal::projections::timeline::{Timeline, ToolOutcome, ToolRow};
use backstop_journal::{ListedRun, StreamId};
use backstop_label::{Class, Effect};
use http::{Method, StatusCode};
use hyper::body::Incoming;
use maud::{Markup, html};
use std::time::Duration;

/// Steps of an undo that are named before it.
const STEPS_MAX: usize = 50;
/// The last events of a run, in which those are looked for.
const LOOKED_AT_EVENTS: usize = 1_000;

impl Visit {
    /// Shows what would be done, or does it.
    pub(super) async fn change(&self, change: Change, body: Incoming) -> Result<Reply, Refused> {
        if self.head.method != Method::POST {
            let Some(looker) = self.looker() else { return Ok(self.ask_to_log_in(None)) };
            let listed = self.listed().await?;
            return self.ask_whether(change, &listed, &looker).await;
        }
        let form = self.form(body).await?;
        let person = self.decider(&form)?;
        let listed = self.listed().await?;
        let run = &listed.summary.run;
        match change {
            Change::Resume => self.gateway.approvals.desk.hand_over(run).await.map_err(refused)?,
            Change::Cancel => {
                let reason = format!("{} cancelled it ({CHANNEL})", person.name);
                self.gateway.backstop.cancel(run, &reason).await.map_err(refused)?;
            }
            Change::Undo if field(&form, "try") == "on" => return self.rehearse(&listed, person).await,
            Change::Undo => return self.undo(&listed, person).await,
            Change::Erase => {
                let (by, reason) = (person.name.as_str(), field(&form, "reason").trim());
                let reason = if reason.is_empty() { "no reason was given" } else { reason };
                let erasing = Erasing { by, reason, at: self.gateway.clock.now(), age: Duration::ZERO };
                self.gateway.backstop.erase(run, &erasing).await.map_err(refused)?;
            }
        }
        Ok(see(&runs::path(run)))
    }

    async fn ask_whether(
        &self,
        change: Change,
        listed: &ListedRun,
        looker: &Looker,
    ) -> Result<Reply, Refused> {
        let run = &listed.summary.run;
        // What may not be done has no button.
        let (question, button, what) = match change {
            Change::Resume => return Ok(see(&runs::path(run))),
            Change::Cancel => (
                "Cancel this run?",
                Some("Cancel it for good"),
                html! { p { "It ends where it is and never goes on. What it did stays." } },
            ),
            Change::Undo => ("Undo what this run did?", Some("Take it back"), self.effects(listed).await?),
            Change::Erase => match self.gateway.backstop.rehearse_erasing(run).await {
                Ok(to_erase) => ("Erase what this run said?", Some("Erase it for good"), texts(&to_erase)),
                Err(RunError::Kept(kept)) => (
                    "Erase what this run said?",
                    None,
                    html! { p { (text::capitalised(&kept.to_string())) "." } },
                ),
                Err(error) => return Err(refused(error)),
            },
        };
        let body = html! {
            div.narrow {
                p.path { a href=(runs::path(run)) { "Back, without doing anything" } }
                h1 { (question) }
                p { strong { (runs::title(listed)) } " " span.dim { (visible_line(run.as_str())) } }
                div.card { (what) }
                @if let Some(button) = button { (ask(looker, change, button)) }
            }
        };
        Ok(show(StatusCode::OK, &Frame::of(question, Part::Runs, Some(looker)).around(&body)))
    }

    /// What an undo would take back, as the journal tells it: to look claims nothing.
    async fn effects(&self, listed: &ListedRun) -> Result<Markup, Refused> {
        let stream = StreamId::Run(listed.summary.run.clone());
        let journal = self.gateway.backstop.journal();
        let after = listed.head.seq.saturating_sub(LOOKED_AT_EVENTS as u64);
        let mut events = journal.part(&stream, after, LOOKED_AT_EVENTS).await?;
        if after > 0 {
            events.splice(0..0, journal.part(&stream, 0, 1).await?);
        }
        let timeline = Timeline::fold(&events);
        let tools: Vec<_> = timeline.iter().flat_map(Timeline::tools).filter(|tool| changes(tool)).collect();
        Ok(html! {
            @if tools.is_empty() { p { "The run changed nothing that could be taken back." } }
            @else { p { "The newest first; where somebody else has changed what it left, it stops and tells so." } }
            ul.steps {
                @for tool in tools.iter().rev().take(STEPS_MAX) {
                    li {
                        strong { (visible_line(&tool.tool)) }
                        @if let Some(object) = tool.args.value().and_then(text::object_of) { " " span.object { (object) } }
                        @if !tool.reversible { " " span.warn { "cannot be taken back" } }
                    }
                }
                @if tools.len() > STEPS_MAX { li.dim { "and " (text::count((tools.len() - STEPS_MAX) as u64, "step")) " before them" } }
            }
        })
    }

    /// What an undo would change, tried on a copy.
    async fn rehearse(&self, listed: &ListedRun, person: Person) -> Result<Reply, Refused> {
        let undone = self.gateway.backstop.rehearse_undo(&listed.summary.run, None).await.map_err(refused)?;
        let looker = Looker::Person(person);
        let body = html! {
            div.narrow {
                p.path { a href=(runs::path(&listed.summary.run)) { "Back, without doing anything" } }
                h1 { "Undo what this run did?" }
                p { strong { (runs::title(listed)) } " " span.dim { (visible_line(listed.summary.run.as_str())) } }
                div.card { p { "Tried on a copy: this is what it would change." } (rehearsed(&undone)) }
                (ask(&looker, Change::Undo, "Take it back"))
            }
        };
        Ok(show(StatusCode::OK, &Frame::of("Undo", Part::Runs, Some(&looker)).around(&body)))
    }

    async fn undo(&self, listed: &ListedRun, person: Person) -> Result<Reply, Refused> {
        let run = &listed.summary.run;
        let undone = self.gateway.backstop.undo(run, None).await.map_err(refused)?;
        let is_good = undone.iter().all(Undone::is_good);
        let looker = Looker::Person(person);
        let body = html! {
            div.narrow {
                p.path { a href=(runs::path(run)) { "Back to the run" } }
                h1 { @if is_good { "Taken back" } @else { "Not everything was taken back" } }
                p { strong { (runs::title(listed)) } " " span.dim { (visible_line(run.as_str())) } }
                div.card {
                    @if undone.is_empty() { p { "The run changed nothing that could be taken back." } }
                    ul.steps { @for one in &undone { li { (told(one)) } } }
                }
            }
        };
        let status = if is_good { StatusCode::OK } else { StatusCode::CONFLICT };
        Ok(show(status, &Frame::of("Undo", Part::Runs, Some(&looker)).around(&body)))
    }
}

/// What would be erased, and what can no longer be done then.
fn texts(ToErase { runs, lost }: &ToErase) -> Markup {
    let sum = |of: fn(&Erased) -> u64| runs.iter().map(of).sum::<u64>();
    html! {
        p {
            (text::count(sum(|one| one.bodies), "text")) ", " (text::grouped(sum(|one| one.bytes))) " bytes"
            @if runs.len() > 1 { ", with what " (text::count((runs.len() - 1) as u64, "other run")) " said that belong to it" }
            ". Who did what, when and for how much stays, and is proven as before."
        }
        @for what in lost.in_words() { p.warn { (text::capitalised(&what)) "." } }
        p.dim { "Log files, copies of the database and what was sent elsewhere are not touched." }
    }
}

/// The form that does it, for those who may.
fn ask(looker: &Looker, change: Change, button: &str) -> Markup {
    html! {
        @match looker.form() {
            Some(form) => form.card method="post" {
                (token(form))
                @if change == Change::Erase {
                    label for="reason" { "Why" } input #reason name="reason" required maxlength="300";
                }
                div.buttons {
                    button.no type="submit" { (button) }
                    @if change == Change::Undo {
                        button type="submit" name="try" value="on" { "See first what it would change" }
                    }
                }
            },
            None => p.card.dim { "You may look. To do it takes a key that was made with " code { "--approver" } "." },
        }
    }
}

/// Whether a tool call did something that an undo is about.
fn changes(tool: &ToolRow) -> bool {
    let happened = match &tool.outcome {
        ToolOutcome::Finished { is_error, .. } => !is_error,
        ToolOutcome::Resolved { decision, .. } => *decision == ToolDecision::Happened,
        ToolOutcome::InDoubt { .. } => true,
        ToolOutcome::Planned | ToolOutcome::Running => false,
    };
    let reads = tool.class == Class::Read || tool.effect == Some(Effect::Read);
    happened && !reads && tool.undoes.is_none()
}

/// What an undo would do.
fn rehearsed(undone: &[(Undone, String)]) -> Markup {
    html! {
        @if undone.is_empty() { p { "The run changed nothing that could be taken back." } }
        ul.steps {
            @for (one, preview) in undone { li { (told(one)) (text::preview(preview)) } }
        }
    }
}

fn told(one: &Undone) -> Markup {
    let Undone { call, tool, outcome } = one;
    let (class, said) = match outcome {
        UndoOutcome::Done(said) => ("good", text::bounded(said)),
        UndoOutcome::Already => ("dim", "was taken back before".to_owned()),
        UndoOutcome::Irreversible => ("warn", "cannot be taken back".to_owned()),
        UndoOutcome::Conflict(why) => ("bad", text::bounded(why)),
        UndoOutcome::InDoubt(why) => ("bad", format!("in doubt: {}", text::bounded(why))),
    };
    html! {
        strong { (visible_line(tool)) } " " span.dim { (visible_line(call)) }
        pre class=(class) { (said) }
    }
}

fn refused(error: RunError) -> Refused {
    match error {
        RunError::Journal(error) => error.into(),
        RunError::NotOver { .. } | RunError::Kept(Kept::GoesOn { .. } | Kept::TriedAgain { .. }) => {
            Refused::new(StatusCode::CONFLICT, error.code(), visible(&error.to_string()))
                .with_hint("cancel the run first, or wait for its end")
        }
        other => {
            let status =
                if other.code() == Code::RunNotFound { StatusCode::NOT_FOUND } else { StatusCode::CONFLICT };
            Refused::new(status, other.code(), visible(&other.to_string()))
        }
    }
}
