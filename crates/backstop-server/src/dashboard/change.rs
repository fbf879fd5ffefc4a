//! What a person does with a run: lets it go on, ends it, takes back what it did. Each is a form of a session; what cannot be taken
//! back is shown first.

use super::door::{Looker, Person};
use super::frame::{Frame, Part, token};
use super::{CHANNEL, Change, runs, see, show, text};
use crate::gateway::answer::Reply;
use crate::gateway::approvals::Refused;
use crate::gateway::visit::Visit;
use backstop_agent::run::{UndoOutcome, Undone};
use backstop_agent::{RunError, visible, visible_line};
use backstop_call::Code;
use backstop_journal::ListedRun;
use http::{Method, StatusCode};
use hyper::body::Incoming;
use maud::{Markup, html};

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
            Change::Resume => self.gateway.approvals.desk.resumer.resume(run).await,
            Change::Cancel => {
                let reason = format!("{} cancelled it ({CHANNEL})", person.name);
                self.gateway.backstop.cancel(run, &reason).await.map_err(refused)?;
            }
            Change::Undo => return self.undo(&listed, person).await,
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
        let (question, button, what) = match change {
            Change::Resume => return Ok(see(&runs::path(run))),
            Change::Cancel => (
                "Cancel this run?",
                "Cancel it for good",
                html! { p { "It ends where it is and never goes on. What it did stays." } },
            ),
            // To look is to claim the run for a moment: only for those who may go on.
            Change::Undo if looker.form().is_none() => (
                "Undo what this run did?",
                "",
                html! { p { "What it did would be taken back, newest first." } },
            ),
            Change::Undo => {
                let undone = self.gateway.backstop.rehearse_undo(run, None).await.map_err(refused)?;
                ("Undo what this run did?", "Take it back", rehearsed(&undone))
            }
        };
        let body = html! {
            div.narrow {
                p.path { a href=(runs::path(run)) { "Back, without doing anything" } }
                h1 { (question) }
                p { strong { (runs::title(listed)) } " " span.dim { (visible_line(run.as_str())) } }
                div.card { (what) }
                @match looker.form() {
                    Some(form) => form.card method="post" {
                        (token(form))
                        div.buttons { button.no type="submit" { (button) } }
                    },
                    None => p.card.dim { "You may look. To do it takes a key that was made with " code { "--approver" } "." },
                }
            }
        };
        Ok(show(StatusCode::OK, &Frame::of(question, Part::Runs, Some(looker)).around(&body)))
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
        RunError::NotOver { .. } => {
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
