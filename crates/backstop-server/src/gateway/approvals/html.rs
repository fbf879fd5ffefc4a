//! What the page looks like. Every text in it comes from a model, a tool or a person: maud escapes it, and what would not be
//! seen is written as its number first. It decides nothing.

use super::desk::{Card, Standing};
use super::resume::Going;
use crate::config::Problem;
use backstop_agent::run::Preview;
use backstop_agent::{visible, visible_line};
use backstop_call::{KeyName, Labels, Timestamp};
use backstop_journal::event::ApprovalDecision;
use backstop_label::Effect;
use maud::{DOCTYPE, Markup, html};
use serde_json::Value;
use std::fmt::Write as _;

/// A question to be shown.
pub(super) struct Shown<'a> {
    pub(super) card: &'a Card,
    pub(super) going: Option<&'a Going>,
    /// What a form must bring along; without it there are no forms.
    pub(super) form: Option<&'a str>,
    /// What went wrong, and what to do.
    pub(super) problem: Option<(&'a str, &'a str)>,
    /// Arguments that somebody typed and that are not right yet.
    pub(super) args: Option<&'a str>,
}

fn frame(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Backstop" }
                link rel="stylesheet" href="/approvals/style.css";
            }
            body { main { (body) } }
        }
    }
}

/// The door.
pub(super) fn login(next: &str, problem: Option<&str>) -> Markup {
    frame(
        "Log in",
        &html! {
            h1 { "Approvals" }
            @if let Some(problem) = problem { p.problem role="alert" { (problem) } }
            form.card method="post" action="/approvals/login" {
                input type="hidden" name="next" value=(next);
                label for="key" { "Your approver key" }
                input #key type="password" name="key" autocomplete="current-password" required autofocus;
                p.dim { "Made by " code { "backstop keys create NAME --approver" } ". You stay logged in for half an hour." }
                div.buttons { button.yes { "Log in" } }
            }
        },
    )
}

/// Why something cannot be shown or done.
pub(super) fn refusal(problem: &Problem) -> Markup {
    frame(
        "Not done",
        &html! {
            h1 { "That was not done" }
            p.problem role="alert" { (visible(&problem.message)) " (" (problem.code) ")" br; (visible(&problem.hint)) }
            p { a href="/approvals" { "All open questions" } }
        },
    )
}

/// All open questions.
pub(super) fn list(open: &[Card], name: &KeyName, form: &str) -> Markup {
    frame(
        "Approvals",
        &html! {
            header {
                h1 { "Approvals" @if !open.is_empty() { " " span.count { (open.len()) } } }
                form method="post" action="/approvals/logout" {
                    (token(form))
                    button.quiet { "Log out " (visible_line(name.as_str())) }
                }
            }
            @if open.is_empty() { p.card.dim { "Nothing waits for an answer." } }
            @for card in open {
                a.card.row href={ "/approvals/" (card.asked.approval) } {
                    strong { (visible_line(&card.asked.tool)) }
                    span { (visible_line(&card.asked.why)) }
                    span.dim { "agent " (visible_line(card.agent.as_str())) ", until " (moment(card.asked.expires)) }
                }
            }
        },
    )
}

/// A question, with what can be done about it.
pub(super) fn card(shown: &Shown<'_>) -> Markup {
    let Shown { card, going, form, problem, args } = shown;
    let asked = &card.asked;
    let open = card.standing == Standing::Open;
    frame(
        &visible_line(&asked.tool),
        &html! {
            p { a href="/approvals" { "← All open questions" } }
            @if let Some((message, hint)) = problem {
                p.problem role="alert" { (visible(message)) br; (visible(hint)) }
            }
            @if !open { (over(card, *going)) }
            article.card {
                h1 { (visible_line(&asked.tool)) }
                p.why { (visible(&asked.why)) }
                (arguments(&asked.args))
                (would_do(&asked.preview))
                (facts(card, asked.reversible))
            }
            @if open {
                @match form {
                    Some(form) => (decide(card, form, *args)),
                    None => p.card { a.button href={ "/approvals/" (asked.approval) } { "Log in to answer" } },
                }
            }
        },
    )
}

/// A call with other arguments, before somebody says yes to it.
pub(super) fn edited(card: &Card, args: &Value, preview: &Preview, form: &str, reason: &str) -> Markup {
    let path = format!("/approvals/{}", card.asked.approval);
    frame(
        "Changed arguments",
        &html! {
            p { a href=(path) { "← Back, without an answer" } }
            article.card {
                h1 { (visible_line(&card.asked.tool)) }
                p.why { "With your arguments instead. Nothing is answered yet." }
                (arguments(args))
                (would_do(&preview.text))
                (facts(card, preview.reversible))
            }
            form.card method="post" action={ (path) "/edit" } {
                (token(form))
                input type="hidden" name="args" value=(args.to_string());
                input type="hidden" name="preview_hash" value=(preview.hash);
                label for="reason" { "Why, for the model (may be empty)" }
                input #reason name="reason" value=(visible_line(reason)) maxlength="2000";
                div.buttons { button.yes { "Yes, do it like this" } }
            }
        },
    )
}

fn decide(card: &Card, form: &str, typed: Option<&str>) -> Markup {
    let path = format!("/approvals/{}", card.asked.approval);
    html! {
        form.card method="post" action={ (path) "/approve" } {
            (token(form))
            div.buttons { button.yes { "Approve exactly this" } }
        }
        form.card method="post" action={ (path) "/deny" } {
            (token(form))
            label for="reason" { "Why not? The model is told (may be empty)" }
            input #reason name="reason" maxlength="2000";
            div.buttons { button.no { "Deny" } }
        }
        details.card open[typed.is_some()] {
            summary { "Change the arguments" }
            form method="post" action={ (path) "/preview" } {
                (token(form))
                label for="args" { "All arguments, as JSON" }
                textarea #args name="args" rows="10" spellcheck="false" {
                    (typed.map_or_else(|| json(&card.asked.args), visible))
                }
                div.buttons { button { "See what it would do" } }
            }
        }
    }
}

/// What became of a question that can no longer be answered.
fn over(card: &Card, going: Option<&Going>) -> Markup {
    html! {
        div.over role="status" {
            p {
                strong { (capitalised(card.standing.word())) } ". "
                (visible(&capitalised(&card.standing.words()))) "."
            }
            @if let Standing::Answered { decision, .. } = &card.standing {
                @match decision {
                    ApprovalDecision::Deny { reason } if !reason.is_empty() => p { "Reason: " (visible(reason)) },
                    ApprovalDecision::Edit { args, reason, .. } => {
                        @if let Some(args) = args.value() { (arguments(args)) }
                        @if !reason.is_empty() { p { "Reason: " (visible(reason)) } }
                    },
                    _ => {},
                }
            }
            @match going {
                Some(Going::On) => p { "Its run goes on." },
                Some(left @ Going::Left { code, why }) => p {
                    "Its run was not taken up here: " (visible(why)) " (" (code) "); " (left.hint(&card.run)) "."
                },
                None => {},
            }
        }
    }
}

fn token(form: &str) -> Markup {
    html! { input type="hidden" name="form" value=(form); }
}

/// The exact arguments, one by one.
fn arguments(args: &Value) -> Markup {
    let rows = match args {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.as_str(), value)).collect(),
        other => vec![("arguments", other)],
    };
    html! {
        dl.args {
            @for (name, value) in rows {
                dt { (visible_line(name)) }
                dd { pre { @match value { Value::String(text) => (visible(text)), other => (json(other)) } } }
            }
        }
    }
}

/// The lines of a preview: what goes and what comes can be told apart, also without colours.
fn would_do(preview: &str) -> Markup {
    html! {
        @if !preview.is_empty() {
            h2 { "Would do" }
            div.preview { pre {
                @for line in visible(preview).lines() {
                    @match line.chars().next() {
                        Some('+') => ins { (line) "\n" },
                        Some('-') => del { (line) "\n" },
                        Some('@') => span.dim { (line) "\n" },
                        _ => { (line) "\n" },
                    }
                }
            } }
        }
    }
}

fn facts(card: &Card, reversible: bool) -> Markup {
    let asked = &card.asked;
    let labels = labels(&asked.labels);
    html! {
        dl.facts {
            dt { "Reaches" } dd { (reach(asked.effect)) }
            dt { "Afterwards" }
            @if reversible { dd { "can be taken back: " code { "backstop undo" } } }
            @else { dd.warn { "cannot be taken back" } }
            @if !labels.is_empty() { dt { "Based on" } dd.warn { (visible(&labels.join(", "))) } }
            dt { "Agent" } dd { (visible_line(card.agent.as_str())) ", task " (visible_line(card.task.as_str())) }
            dt { "Run" } dd { (card.run) ", " (card.cost) " so far" }
            dt { "Asked" } dd { (moment(card.asked_at)) }
            dt { "Stands to" } dd { (moment(asked.expires)) ", then the answer is no" }
        }
    }
}

/// How far a call reaches, in words.
pub(super) fn reach(effect: Option<Effect>) -> &'static str {
    match effect {
        Some(Effect::Read) => "nothing: it only looks",
        Some(Effect::Write) => "the run's own space",
        Some(Effect::External) => "somebody or something outside",
        Some(Effect::Destructive) => "it destroys something",
        None => "not declared, so it may reach anything",
    }
}

fn labels(labels: &Labels) -> Vec<String> {
    let private = labels.private.iter().map(|category| format!("private text ({category})"));
    let untrusted = labels.untrusted.then(|| "text that somebody else may have written".to_owned());
    untrusted.into_iter().chain(private).collect()
}

/// JSON in which everything can be seen, and that still means the same: what would hide stands as an escape.
fn json(value: &Value) -> String {
    let text = format!("{value:#}");
    let mut shown = String::with_capacity(text.len());
    let mut units = [0; 2];
    for character in text.chars() {
        if visible(character.encode_utf8(&mut [0; 4])).starts_with("\\u{") {
            for unit in character.encode_utf16(&mut units) {
                // Writing to a string cannot fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(character);
        }
    }
    shown
}

/// A moment to the minute, in UTC.
fn moment(at: Timestamp) -> String {
    let text = at.rfc3339();
    format!("{} {} UTC", &text[..10], &text[11..16])
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json as value;

    #[test]
    fn arguments_can_be_seen_and_still_mean_the_same() {
        let args = value!({"to": "a\u{202e}b", "tag\u{e0041}": "x\u{7f}\n", "plain": "ünï 你好 🙂"});
        let shown = json(&args);
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), args);
        assert!(shown.contains("a\\u202eb") && shown.contains("tag\\udb40\\udc41"), "{shown}");
        assert!(shown.contains("x\\u007f\\n") && shown.contains("ünï 你好 🙂"), "{shown}");
    }

    #[test]
    fn nothing_that_is_shown_is_markup_or_hides() {
        let evil = "</pre><script>alert(1)</script>\u{202e}\u{1b}[2J\"'><img src=x onerror=y>";
        let shown = [
            arguments(&value!({evil: evil, "list": [evil]})),
            would_do(&format!("+{evil}\n-{evil}\n@{evil}\n{evil}")),
            login(evil, Some(evil)),
            refusal(&Problem::new(backstop_call::Code::Usage, evil)),
        ];
        for markup in shown {
            let text = markup.0;
            assert!(!text.contains("<script") && !text.contains("<img"), "{text}");
            assert!(!text.contains('\u{1b}') || text.contains("Log in"), "{text}");
        }
        let lines = would_do("+a\n-b\n@@ c\n d").0;
        assert!(
            lines.contains("<ins>+a\n</ins><del>-b\n</del><span class=\"dim\">@@ c\n</span> d\n"),
            "{lines}"
        );
    }
}
