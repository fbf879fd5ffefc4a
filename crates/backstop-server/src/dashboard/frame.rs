//! What every page has around it: the head, the way to the other pages, who is looking. And the files that pages are made with.

use super::door::Looker;
use super::text;
use super::{answer, headers};
use crate::config::Problem;
use crate::gateway::answer::Reply;
use crate::gateway::approvals::Refused;
use crate::gateway::visit::Visit;
use backstop_agent::{visible, visible_line};
use backstop_call::Code;
use backstop_journal::Position;
use http::StatusCode;
use http::header::{self, HeaderValue};
use maud::{DOCTYPE, Markup, html};
use std::sync::LazyLock;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
const ICON: &str = include_str!("icon.svg");

/// Which files these are: a browser that keeps some asks for others when they change.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let files = [STYLE, SCRIPT, ICON].concat();
    blake3::hash(files.as_bytes()).to_hex()[..12].to_owned()
});

/// The part of the dashboard that a page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Overview,
    Runs,
    Tasks,
    Jobs,
    Approvals,
    Alerts,
    Providers,
    Spending,
    Audit,
    /// None that is in the menu.
    None,
}

const MENU: [(Part, &str, &str); 9] = [
    (Part::Overview, "/", "Overview"),
    (Part::Runs, "/runs", "Runs"),
    (Part::Tasks, "/tasks", "Tasks"),
    (Part::Jobs, "/jobs", "Jobs"),
    (Part::Approvals, "/approvals", "Approvals"),
    (Part::Alerts, "/alerts", "Alerts"),
    (Part::Providers, "/providers", "Providers"),
    (Part::Spending, "/spending", "Spending"),
    (Part::Audit, "/audit", "Audit"),
];

/// How a page is told that it is no longer what it was: by these events, when they are later than this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Watch {
    pub(super) events: String,
    pub(super) shown: Position,
}

/// What is around a page.
pub(super) struct Frame<'a> {
    pub(super) title: &'a str,
    pub(super) part: Part,
    /// Who looks; without anybody there is no menu.
    pub(super) looker: Option<&'a Looker>,
    pub(super) watch: Option<Watch>,
}

impl<'a> Frame<'a> {
    /// For a page that stays as it is.
    pub(super) fn of(title: &'a str, part: Part, looker: Option<&'a Looker>) -> Self {
        Self { title, part, looker, watch: None }
    }

    /// Puts it around a page.
    pub(super) fn around(&self, body: &Markup) -> Markup {
        let (events, shown) = match &self.watch {
            Some(watch) => (Some(watch.events.as_str()), Some(watch.shown)),
            None => (None, None),
        };
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) " · Backstop" }
                    link rel="stylesheet" href={ "/assets/style.css?" (*VERSION) };
                    link rel="icon" type="image/svg+xml" href={ "/assets/icon.svg?" (*VERSION) };
                    script defer src={ "/assets/script.js?" (*VERSION) } {}
                }
                body {
                    a.skip href="#main" { "Skip to the content" }
                    (self.top())
                    main #main tabindex="-1" data-events=[events] data-shown=[shown] { (body) }
                }
            }
        }
    }

    fn top(&self) -> Markup {
        html! {
            header.top {
                a.brand href="/" { span.mark aria-hidden="true" {} "Backstop" }
                @if self.looker.is_some() {
                    nav aria-label="Dashboard" { ul {
                        @for (part, path, name) in MENU {
                            li { a href=(path) aria-current=[(part == self.part).then_some("page")] { (name) } }
                        }
                    } }
                }
                div.who {
                    @if self.watch.is_some() { span #live.live role="status" {} }
                    @match self.looker {
                        Some(Looker::Person(person)) => {
                            form method="post" action="/logout" {
                                (token(&person.session.form))
                                button.quiet type="submit" {
                                    "Sign out " span.name { (visible_line(person.name.as_str())) }
                                    @if !person.decides { span.dim { " (looks only)" } }
                                }
                            }
                        },
                        Some(Looker::Machine) => span.dim { "this machine, looks only" },
                        None => {},
                    }
                }
            }
        }
    }
}

/// What a form must bring along.
pub(super) fn token(form: &str) -> Markup {
    html! { input type="hidden" name="form" value=(form); }
}

/// Why something cannot be shown or done.
pub(super) fn refusal(problem: &Problem, looker: Option<&Looker>) -> Markup {
    Frame::of("Not done", Part::None, looker).around(&html! {
        h1 { "That was not done" }
        p.problem role="alert" {
            (visible(&text::capitalised(&problem.message))) " (" (problem.code) ")." br;
            (visible(&text::capitalised(&problem.hint))) "."
        }
        p { a href="/" { "To the overview" } }
    })
}

impl Visit {
    /// A file that pages are made with.
    pub(super) fn asset(&self) -> Result<Reply, Refused> {
        let (kind, text) = match self.head.uri.path() {
            "/assets/style.css" => ("text/css; charset=utf-8", STYLE),
            "/assets/script.js" => ("text/javascript; charset=utf-8", SCRIPT),
            "/assets/icon.svg" => ("image/svg+xml", ICON),
            _ => {
                let message = "there is no such file".to_owned();
                return Err(Refused::new(StatusCode::NOT_FOUND, Code::NoRoute, message));
            }
        };
        let mut reply = answer::whole(StatusCode::OK, headers(kind), text);
        if self.head.uri.query() == Some(VERSION.as_str()) {
            let kept = HeaderValue::from_static("public, max-age=31536000, immutable");
            reply.headers_mut().insert(header::CACHE_CONTROL, kept);
        }
        Ok(reply)
    }
}
