//! What agents ask, as a page shows it. It decides nothing.

use super::door::Looker;
use super::frame::{Frame, Part, Watch, token};
use super::{live, text};
use crate::gateway::approvals::{Card, Going, Standing, reach};
use backstop_agent::run::Preview;
use backstop_agent::{visible, visible_line};
use backstop_call::Timestamp;
use backstop_journal::Position;
use backstop_journal::event::ApprovalDecision;
use maud::{Markup, html};
use serde_json::Value;

/// A question to be shown.
pub(super) struct Shown<'a> {
    pub(super) card: &'a Card,
    pub(super) going: Option<Going>,
    /// Who looks; nobody where somebody came by a link.
    pub(super) looker: Option<&'a Looker>,
    /// What went wrong, and what to do.
    pub(super) problem: Option<(&'a str, &'a str)>,
    /// Arguments that somebody typed and that are not right yet.
    pub(super) args: Option<&'a str>,
}

/// All open questions.
pub(super) fn list(
    open: &[Card],
    shown_max: usize,
    looker: &Looker,
    (shown, now): (Position, Timestamp),
) -> Markup {
    let watch = Some(Watch { events: live::path(None), shown });
    Frame { watch, ..Frame::of("Approvals", Part::Approvals, Some(looker)) }.around(&html! {
        h1 { "Approvals" }
        div #open-questions data-part {
            @if open.is_empty() { p.empty { "Nothing waits for an answer." } }
            ul.questions { @for card in open.iter().take(shown_max) { li { (row(card, now)) } } }
            @if open.len() > shown_max {
                p.dim { "And " (text::count((open.len() - shown_max) as u64, "more question")) ", which expire later." }
            }
        }
    })
}

/// A question in a list.
pub(super) fn row(card: &Card, now: Timestamp) -> Markup {
    let left = text::span(card.asked.expires.since(now));
    html! {
        a.card.question #{ "q-" (card.asked.approval) } href={ "/approvals/" (card.asked.approval) } data-row {
            strong {
                (visible_line(&card.asked.tool))
                @if let Some(object) = text::object_of(&card.asked.args) { " " span.object { (object) } }
            }
            span.why { (text::line(&card.asked.why, 200)) }
            span.dim {
                "agent " (visible_line(card.agent.as_str())) ", task " (text::line(card.task.as_str(), 60))
                " · " (left) " left"
            }
        }
    }
}

/// A question, with what can be done about it.
pub(super) fn card(shown: &Shown<'_>) -> Markup {
    let Shown { card, going, looker, problem, args } = shown;
    let asked = &card.asked;
    let open = card.standing == Standing::Open;
    Frame::of(&visible_line(&asked.tool), Part::Approvals, *looker).around(&html! {
        div.narrow {
            p.path { a href="/approvals" { "All open questions" } }
            @if let Some((message, hint)) = problem {
                p.problem role="alert" { (visible(message)) br; (visible(hint)) }
            }
            @if !open { (over(card, *going)) }
            article.card {
                h1 { (visible_line(&asked.tool)) }
                p.why { (visible(&asked.why)) }
                (text::arguments(&asked.args))
                (would_do(&asked.preview))
                (facts(card, asked.reversible))
            }
            @if open { (answers(card, *looker, *args)) }
        }
    })
}

/// What whoever looks can do about an open question.
fn answers(card: &Card, looker: Option<&Looker>, typed: Option<&str>) -> Markup {
    let form = looker.and_then(Looker::form);
    html! {
        @match (form, looker) {
            (Some(form), _) => (decide(card, form, typed)),
            (None, Some(_)) => p.card.dim { "You may look. To answer takes a key that was made with " code { "--approver" } "." },
            (None, None) => p.card { a.button href={ "/approvals/" (card.asked.approval) } { "Sign in to answer" } },
        }
    }
}

/// A call with other arguments, before somebody says yes to it.
pub(super) fn edited(card: &Card, args: &Value, preview: &Preview, looker: &Looker, reason: &str) -> Markup {
    let path = format!("/approvals/{}", card.asked.approval);
    let form = looker.form().unwrap_or_default();
    Frame::of("Changed arguments", Part::Approvals, Some(looker)).around(&html! {
        div.narrow {
            p.path { a href=(path) { "Back, without an answer" } }
            article.card {
                h1 { (visible_line(&card.asked.tool)) }
                p.why { "With your arguments instead. Nothing is answered yet." }
                (text::arguments(args))
                (would_do(&preview.text))
                (facts(card, preview.reversible))
            }
            form.card method="post" action={ (path) "/edit" } {
                (token(form))
                input type="hidden" name="args" value=(args.to_string());
                input type="hidden" name="preview_hash" value=(preview.hash);
                label for="reason" { "Why, for the model (may be empty)" }
                input #reason name="reason" value=(visible_line(reason)) maxlength="2000";
                div.buttons { button.yes type="submit" { "Yes, do it like this" } }
            }
        }
    })
}

fn would_do(preview: &str) -> Markup {
    html! { @if !preview.is_empty() { h2 { "Would do" } (text::preview(preview)) } }
}

fn decide(card: &Card, form: &str, typed: Option<&str>) -> Markup {
    let path = format!("/approvals/{}", card.asked.approval);
    html! {
        form.card method="post" action={ (path) "/approve" } {
            (token(form))
            div.buttons { button.yes type="submit" { "Approve exactly this" } }
        }
        form.card method="post" action={ (path) "/deny" } {
            (token(form))
            label for="reason" { "Why not? The model is told (may be empty)" }
            input #reason name="reason" maxlength="2000";
            div.buttons { button.no type="submit" { "Deny" } }
        }
        details.card open[typed.is_some()] {
            summary { "Change the arguments" }
            form method="post" action={ (path) "/preview" } {
                (token(form))
                label for="args" { "All arguments, as JSON" }
                textarea #args name="args" rows="10" spellcheck="false" {
                    (typed.map_or_else(|| text::json(&card.asked.args), visible))
                }
                div.buttons { button type="submit" { "See what it would do" } }
            }
        }
    }
}

/// What became of a question that can no longer be answered.
fn over(card: &Card, going: Option<Going>) -> Markup {
    html! {
        div.over role="status" {
            p {
                strong { (text::capitalised(card.standing.word())) } ". "
                (visible(&text::capitalised(&card.standing.words()))) "."
            }
            @if let Standing::Answered { decision, .. } = &card.standing {
                @match &**decision {
                    ApprovalDecision::Deny { reason } if !reason.is_empty() => p { "Reason: " (visible(reason)) },
                    ApprovalDecision::Edit { args, reason, .. } => {
                        @if let Some(args) = args.value() { (text::arguments(args)) }
                        @if !reason.is_empty() { p { "Reason: " (visible(reason)) } }
                    },
                    _ => {},
                }
            }
            @if let Some(going) = going { p { (going.words()) } }
        }
    }
}

fn facts(card: &Card, reversible: bool) -> Markup {
    let asked = &card.asked;
    let labels = text::labels(&asked.labels);
    html! {
        dl.facts {
            dt { "Reaches" } dd { (reach(asked.effect)) }
            dt { "Afterwards" }
            @if reversible { dd { "can be taken back: " code { "backstop undo" } } }
            @else { dd.warn { "cannot be taken back" } }
            @if !labels.is_empty() { dt { "Based on" } dd.warn { (visible(&labels.join(", "))) } }
            dt { "Agent" } dd { (visible_line(card.agent.as_str())) ", task " (visible_line(card.task.as_str())) }
            dt { "Run" } dd { a href={ "/runs/" (card.run) } { (card.run) } ", " (card.cost) " so far" }
            dt { "Asked" } dd { (text::moment(card.asked_at)) }
            dt { "Stands to" } dd { (text::moment(asked.expires)) ", then the answer is no" }
        }
    }
}
